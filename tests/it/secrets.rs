//! No secret is told: not in the log at its finest, nor in health, metrics, documents, settings, errors, or the data folder.

use std::path::Path;

use quotad::config::{NAMES, Shown};
use reqwest::Method;
use serde_json::json;

use crate::support::answer::token_signed;
use crate::support::postgres_server;
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;

/// What a setting's secret is: 44 letters and digits, which are also the base64 of 33 bytes.
fn canary(name: &str) -> String {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{:0<44}", format!("Canary{name}"))
}

/// Every setting that holds a secret is given one, those of Redis only where they are named.
fn with_canaries(redis: &[(&str, String)]) -> Start {
    let start = Start::new().set("LOG", "trace");
    let given = NAMES.iter().filter(|known| known.supported && known.shown != Shown::Plainly);
    let others = given.filter(|known| !known.name.starts_with("REDIS_") && known.name != "DATABASE_URL");
    let start = others.fold(start, |start, known| {
        let secret = canary(known.name);
        match known.shown {
            // An address of a collector has no query.
            Shown::Url if known.name == "OTLP_ENDPOINT" => {
                start.set(known.name, &format!("http://user:{secret}@127.0.0.1:1"))
            }
            Shown::Url => start.set(known.name, &format!("http://user:{secret}@127.0.0.1:1/keys?token={secret}")),
            _ => start.set(known.name, &secret),
        }
    });
    redis.iter().fold(start, |start, (name, value)| start.set(name, value))
}

/// What must not be found, where.
struct Secrets(Vec<String>);

impl Secrets {
    fn all() -> Self {
        let masked = NAMES.iter().filter(|known| known.shown != Shown::Plainly);
        Self(masked.map(|known| canary(known.name)).collect())
    }

    fn assert_not_in(&self, text: &str, place: &str) {
        for secret in &self.0 {
            if let Some(at) = text.find(secret.as_str()) {
                let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
                panic!("a secret in {place}: {}", text[from..].lines().next().unwrap_or_default());
            }
        }
    }

    fn assert_not_in_folder(&self, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("a file");
            self.assert_not_in(&String::from_utf8_lossy(&bytes), &path.display().to_string());
        }
    }
}

/// Asks for all that shows something, and for all that is refused, by every kind of credential.
async fn provoke(quotad: &Quotad, secrets: &mut Secrets) {
    let admin = canary("ADMIN_KEY");
    let token = token_signed(json!({"sub": "u", "role": "admin"}), &canary("JWT_SECRET"));
    let bearer = format!("Bearer {token}");
    let body = Some(json!({"name": "k", "role": "service"}));
    let made = quotad.ask_as(Method::POST, "/api/v2/admin/keys", body, &[("x-api-key", &admin)]).await;
    let key = made.json["key"].as_str().unwrap_or_else(|| panic!("a key in {}", made.text)).to_owned();
    // What callers prove themselves by is nobody else's either.
    secrets.0.push(token.rsplit('.').next().expect("a signature").to_owned());
    secrets.0.push(key.rsplit('_').next().expect("a secret").to_owned());
    let credentials: [&[(&str, &str)]; 7] = [
        &[],
        &[("x-api-key", &admin)],
        &[("authorization", &bearer)],
        &[("x-api-key", &key)],
        &[("x-api-key", &admin), ("authorization", &bearer)],
        &[("authorization", &format!("Basic {admin}"))],
        &[("authorization", &format!("{bearer}x"))],
    ];
    let get = |path: &'static str| (Method::GET, path, None);
    let requests = [
        get("/health"),
        get("/health/ready"),
        get("/metrics"),
        get("/openapi.json"),
        get("/docs"),
        get("/dashboard"),
        get("/me"),
        get("/dashboard/app.js"),
        get("/nowhere"),
        get("/api/v2/admin/keys"),
        get("/api/v2/admin/audit"),
        get("/api/v2/admin/tiers"),
        get("/api/v2/admin/quotas/usage"),
        get("/api/v2/users/me/quota"),
        get("/api/v2/forward-auth"),
        (Method::POST, "/api/v2/check", Some(json!({"user_id": "u"}))),
        (Method::POST, "/api/v2/check", Some(json!({"user_id": "u", "items": -1}))),
        (Method::POST, "/api/v2/check", Some(json!({"color": "u"}))),
        (Method::PUT, "/api/v2/admin/users/u", Some(json!({"tier": "pro"}))),
        (Method::PUT, "/health", None),
    ];
    for credential in credentials {
        for (method, path, body) in requests.clone() {
            let answer = quotad.ask_as(method, path, body, credential).await;
            secrets.assert_not_in(&format!("{:?} {}", answer.headers, answer.text), path);
        }
    }
}

#[tokio::test]
async fn no_output_of_the_service_shows_a_secret() {
    let redis = RedisServer::start_with(&["--requirepass", "another-password"]);
    let port = redis.port();
    let (password, sentinels) = (canary("REDIS_PASSWORD"), canary("REDIS_SENTINEL_PASSWORD"));
    let in_url = canary("REDIS_URL");
    for (what, format, settings) in [
        ("alone", "text", vec![("REDIS_URL", redis.url()), ("REDIS_PASSWORD", password.clone())]),
        ("in the address", "json", vec![("REDIS_URL", format!("redis://user:{in_url}@127.0.0.1:{port}/0"))]),
        (
            "of sentinels that refuse connections",
            "text",
            vec![
                ("REDIS_URL", format!("redis-sentinel://user:{in_url}@127.0.0.1:1,127.0.0.1:{port}/master/0")),
                ("REDIS_SENTINEL_PASSWORD", sentinels),
                ("REDIS_PASSWORD", password),
            ],
        ),
    ] {
        let start = with_canaries(&settings).set("LOG_FORMAT", format);
        let mut secrets = Secrets::all();
        let quotad = start.start().await;
        provoke(&quotad, &mut secrets).await;
        let (folder, log) = (quotad.data_dir(), quotad.log());
        assert!(log.contains("TRACE"), "the log at its finest, with a password {what}");
        secrets.assert_not_in(&log, &format!("the log, with a password {what}"));
        secrets.assert_not_in_folder(folder);
    }
}

#[test]
fn no_command_shows_a_secret() {
    let password = canary("DATABASE_URL");
    let nobody = postgres_server::server_url().replace("quotad@", &format!("nobody:{password}@"));
    let silent = format!("postgres://user:{password}@127.0.0.1:1/quotad?sslmode=disable");
    let sqlite = "sqlite:///dev/null/quotad.db".to_owned();
    let redis = format!("redis://user:{}@127.0.0.1:1/0", canary("REDIS_URL"));
    for url in [silent.clone(), nobody, sqlite] {
        let start =
            with_canaries(&[("REDIS_URL", redis.clone())]).set("DATABASE_URL", &url).set("LISTEN", "127.0.0.1:1");
        for arguments in [
            &["serve"][..],
            &["config"],
            &["migrate"],
            &["migrate", "--from", "sqlite:///dev/null/quotad.db", "--to", &silent],
            &["migrate", "--from", &silent, "--to", &silent],
            &["healthcheck"],
            &["token", "--sub", "a\nb"],
        ] {
            let output = start.run(arguments);
            let shown = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            // What the caller has written in the command line, its refusal may repeat.
            let secrets =
                if arguments.contains(&"--from") { Secrets(vec![canary("ADMIN_KEY")]) } else { Secrets::all() };
            secrets.assert_not_in(&shown.concat(), &format!("{arguments:?} with {url}"));
        }
    }
}
