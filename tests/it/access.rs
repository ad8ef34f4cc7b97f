//! Who may do what: the roles and the routes, and credentials that do not verify.

use reqwest::Method;
use serde_json::{Value, json};

use crate::errors::assert_problem;
use crate::support::answer::{token, token_signed};
use crate::support::quotad::{ADMIN_KEY, Backend, JWT_SECRET, Quotad, Start, Stores};
use crate::support::until;

const ME: &str = "/api/v2/users/me/quota";

/// A new API key, as its maker gets it.
async fn new_key(quotad: &Quotad, body: Value) -> (String, String) {
    let made = quotad.post("/api/v2/admin/keys", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let text = |field: &str| made.json[field].as_str().expect(field).to_owned();
    (text("id"), text("key"))
}

/// What a role gets where it may, and that a lesser one gets 403 and a stranger 401.
#[tokio::test]
async fn each_role_may_what_the_contract_says_and_no_more() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    // user, service, admin
    let all = [true, true, true];
    let service = [false, true, true];
    let admin = [false, false, true];
    let get = |path: &'static str, may| (Method::GET, path, None, may, 200);
    let limit = json!({"custom_requests_per_hour": 9});
    let routes = [
        (Method::POST, "/api/v2/check", Some(json!({"user_id": "u"})), service, 200),
        (Method::POST, "/api/v2/check/batch", Some(json!({"checks": [{"user_id": "u"}]})), service, 200),
        get(ME, all),
        get("/api/v2/users/me/quota/history", all),
        get("/api/v2/admin/quotas/u", admin),
        get("/api/v2/admin/quotas/u/history", admin),
        get("/api/v2/admin/quotas/usage", admin),
        (Method::PUT, "/api/v2/admin/quotas/u", Some(limit), admin, 200),
        (Method::DELETE, "/api/v2/admin/quotas/u", None, admin, 204),
        (Method::POST, "/api/v2/admin/quotas/u/reset", None, admin, 200),
        get("/api/v2/admin/ips/192.0.2.1", admin),
        (Method::POST, "/api/v2/admin/ips/192.0.2.1/reset", None, admin, 200),
        get("/api/v2/admin/users/u", admin),
        (Method::PUT, "/api/v2/admin/users/u", Some(json!({"tier": "pro"})), admin, 200),
        get("/api/v2/admin/tiers", admin),
        get("/api/v2/admin/tiers/pro", admin),
        get("/api/v2/admin/endpoints", admin),
        get("/api/v2/admin/keys", admin),
        (Method::POST, "/api/v2/admin/keys", Some(json!({"name": "k", "role": "user"})), admin, 201),
        get("/api/v2/admin/audit", admin),
    ];
    let mut keys = Vec::new();
    for role in ["user", "service", "admin"] {
        keys.push(new_key(&quotad, json!({"name": role, "role": role, "user_id": "me"})).await.1);
    }
    for (method, path, body, may, success) in routes {
        for (may, (role, key)) in may.into_iter().zip(["user", "service", "admin"].into_iter().zip(&keys)) {
            let bearer = format!("Bearer {key}");
            let jwt = format!("Bearer {}", token(json!({"sub": "me", "role": role})));
            for header in [("x-api-key", key.as_str()), ("authorization", &bearer), ("authorization", &jwt)] {
                if method == Method::DELETE && may {
                    quotad.put(path, json!({"custom_requests_per_hour": 9})).await;
                }
                let answer = quotad.ask_as(method.clone(), path, body.clone(), &[header]).await;
                assert_eq!(
                    answer.status,
                    if may { success } else { 403 },
                    "{method} {path} as {role}: {}",
                    answer.text
                );
                if !may {
                    assert_problem(&answer, 403);
                }
            }
        }
        assert_problem(&quotad.ask_as(method.clone(), path, body.clone(), &[]).await, 401);
        let forged = [("x-api-key", "qd_0000000000000000_wrong")];
        assert_problem(&quotad.ask_as(method, path, body, &forged).await, 401);
    }
    for open in ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"] {
        assert_eq!(quotad.ask_as(Method::GET, open, None, &[]).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn a_credential_that_does_not_verify_is_401_and_never_a_stranger() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let now = jiff::Timestamp::now().as_second();
    let good = token(json!({"sub": "me"}));
    let mut parts = good.split('.');
    let (header, claims) = (parts.next().expect("a header"), parts.next().expect("claims"));
    // {"alg":"none","typ":"JWT"}
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
    for (what, bad) in [
        ("another secret", token_signed(json!({"sub": "me"}), "another-secret-of-quite-enough-characters")),
        ("no signature", format!("{header}.{claims}.")),
        ("algorithm none", unsigned),
        ("expired", token(json!({"sub": "me", "exp": now - 3600}))),
        ("not yet", token(json!({"sub": "me", "nbf": now + 3600}))),
        ("no exp", token(json!({"sub": "me", "exp": null}))),
        ("no sub", token(json!({"tier": "pro"}))),
        ("an empty sub", token(json!({"sub": ""}))),
        ("a sub with a control character", token(json!({"sub": "a\nb"}))),
        ("a sub too long", token(json!({"sub": "a".repeat(129)}))),
        ("no token", "nonsense".to_owned()),
        ("nothing", String::new()),
        ("the admin key and more", format!("{ADMIN_KEY}x")),
        ("half the admin key", ADMIN_KEY[..20].to_owned()),
    ] {
        for path in [ME, "/api/v2/admin/quotas/u"] {
            let answer = quotad.ask_as(Method::GET, path, None, &[("authorization", &format!("Bearer {bad}"))]).await;
            assert_eq!(answer.status, 401, "{what}: {}", answer.text);
            assert_problem(&answer, 401);
            assert!(!answer.text.contains(JWT_SECRET) && !answer.text.contains(ADMIN_KEY));
        }
    }
    let basic = quotad.ask_as(Method::GET, ME, None, &[("authorization", "Basic bWU6bWU=")]).await;
    assert_problem(&basic, 401);
    assert_eq!(quotad.ask_with(json!({"sub": "me"}), Method::GET, ME, None).await.status, 200);
}

#[tokio::test]
async fn issuer_and_audience_are_checked_where_set() {
    let quotad = Start::new().set("JWT_ISSUER", "us").set("JWT_AUDIENCE", "quotad").start().await;
    for (claims, status) in [
        (json!({"sub": "me", "iss": "us", "aud": "quotad"}), 200),
        (json!({"sub": "me", "iss": "us", "aud": ["other", "quotad"]}), 200),
        (json!({"sub": "me", "iss": "them", "aud": "quotad"}), 401),
        (json!({"sub": "me", "iss": "us", "aud": "other"}), 401),
        (json!({"sub": "me", "aud": "quotad"}), 401),
        (json!({"sub": "me", "iss": "us"}), 401),
    ] {
        assert_eq!(quotad.ask_with(claims.clone(), Method::GET, ME, None).await.status, status, "{claims}");
    }
}

on_both! {
    async fn a_key_holds_until_it_is_revoked_or_ends(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let (id, key) = new_key(&quotad, json!({"name": "gateway", "role": "service"})).await;
        assert!(key.starts_with(&format!("qd_{id}_")), "{key}");
        let end = jiff::Timestamp::now() + std::time::Duration::from_secs(2);
        let brief = json!({"name": "brief", "role": "service", "expires_at": end.to_string()});
        let (_, brief) = new_key(&quotad, brief).await;
        let check = async |key: &str| {
            let body = Some(json!({"user_id": "u"}));
            quotad.ask_as(Method::POST, "/api/v2/check", body, &[("x-api-key", key)]).await.status
        };
        assert_eq!((check(&key).await, check(&brief).await), (200, 200));
        let listed = quotad.get("/api/v2/admin/keys").await;
        assert!(listed.text.contains(&id) && !listed.text.contains(&key), "{}", listed.text);
        let secret = key.rsplit_once('_').expect("a secret").1;
        assert!(!listed.text.contains(secret), "a key is shown once");
        let path = format!("/api/v2/admin/keys/{id}");
        assert_eq!(quotad.delete(&path).await.status, 204);
        assert_eq!(check(&key).await, 401);
        assert_eq!(quotad.delete(&path).await.status, 404);
        let within = std::time::Duration::from_secs(4);
        until(within, "the key ends", async || (check(&brief).await == 401).then_some(())).await;
        assert!(jiff::Timestamp::now() >= end, "it ended too early");
    }
}

/// The address that a change came from is the client's, where a trusted proxy says so, and read from the right.
#[tokio::test]
async fn forwarding_headers_are_believed_from_trusted_proxies_alone() {
    for (trusted, forwarded, expected) in [
        ("127.0.0.0/8", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.0/8", "192.0.2.1, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.0/8,198.51.100.0/24", "192.0.2.1, 198.51.100.7", "192.0.2.1"),
        ("10.0.0.0/8", "198.51.100.7", "127.0.0.1"),
    ] {
        let quotad = Start::new().set("TRUSTED_PROXIES", trusted).start().await;
        let headers = [("x-api-key", ADMIN_KEY), ("x-forwarded-for", forwarded)];
        let body = Some(json!({"tier": "pro"}));
        let put = quotad.ask_as(Method::PUT, "/api/v2/admin/users/u", body, &headers).await;
        assert_eq!(put.status, 200, "{}", put.text);
        let audit = quotad.get("/api/v2/admin/audit").await;
        assert_eq!(audit.json["items"][0]["address"], expected, "{forwarded} with {trusted}: {}", audit.text);
    }
}
