//! Real proxies with the configurations of `examples/`, before a real application: who has room passes, who has none is told so.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::quotad::{Quotad, Start};
use crate::support::{free_port, until};

const WITHIN: Duration = Duration::from_secs(20);

/// A proxy as a process of its own; it ends when dropped.
struct Proxy {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Told to, it ends its workers too.
        Command::new("/bin/kill").args(["-TERM", &self.child.id().to_string()]).status().ok();
        self.child.wait().ok();
    }
}

/// The example, with the places of this test.
fn example(text: &str, quotad: &Quotad, application: u16, port: u16) -> String {
    for place in ["127.0.0.1:8080", "127.0.0.1:3000", "127.0.0.1:8000"] {
        assert!(text.contains(place), "{place}");
    }
    text.replace("127.0.0.1:8080", quotad.address())
        .replace("127.0.0.1:3000", &format!("127.0.0.1:{application}"))
        .replace("127.0.0.1:8000", &format!("127.0.0.1:{port}"))
}

async fn started(command: &mut Command, folder: TempDir, port: u16) -> Proxy {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the proxy starts");
    let proxy = Proxy { child, port, _folder: folder };
    until(WITHIN, "the proxy listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    proxy
}

async fn nginx(quotad: &Quotad, application: u16) -> Proxy {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let text = example(include_str!("../../examples/nginx/quotad.conf"), quotad, application, port);
    std::fs::write(at("quotad.conf"), text).expect("a file");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};", at(name)))
        .concat();
    let whole = format!(
        "pid {}; error_log {}; daemon off; worker_processes 1; events {{}} http {{ access_log off; {temporary} include {}; }}",
        at("pid"),
        at("log"),
        at("quotad.conf")
    );
    std::fs::write(at("nginx.conf"), whole).expect("a file");
    let mut command = Command::new("nginx");
    command.args(["-p", &at(""), "-e", &at("log"), "-c", &at("nginx.conf")]);
    started(&mut command, folder, port).await
}

async fn caddy(quotad: &Quotad, application: u16) -> Proxy {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let file = folder.path().join("Caddyfile");
    let text = example(include_str!("../../examples/caddy/Caddyfile"), quotad, application, port);
    std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{text}")).expect("a file");
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).env("HOME", folder.path());
    command.env("XDG_DATA_HOME", folder.path()).env("XDG_CONFIG_HOME", folder.path());
    started(&mut command, folder, port).await
}

/// An application that answers with the head of what it was asked, and takes WebSockets.
async fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((line, _)) = listener.accept().await {
            tokio::spawn(serve(line));
        }
    });
    port
}

async fn serve(mut line: TcpStream) {
    let (mut head, mut bytes) = (Vec::new(), [0; 4096]);
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(count @ 1..) = line.read(&mut bytes).await else { return };
        head.extend_from_slice(&bytes[..count]);
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let answer = if text.contains("upgrade: websocket") {
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned()
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
    };
    line.write_all(answer.as_bytes()).await.ok();
}

/// Lets 100 requests of an address through and not the 101st, whatever the client claims.
async fn a_quota_holds_behind(proxy: &Proxy, quotad: Quotad, unreachable: u16) {
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", proxy.port);
    let ask = async |path: &str| {
        let lies = client.get(url(path)).header("x-forwarded-uri", "/ws").header("forwarded", "for=203.0.113.9");
        lies.header("x-forwarded-for", "203.0.113.9").header("x-original-uri", "/ws").send().await.expect("an answer")
    };
    for left in (0..100).rev() {
        let answer = ask("/things?x=1").await;
        let header = |name: &str| {
            let value = answer.headers().get(name).unwrap_or_else(|| panic!("no {name}: {answer:?}"));
            value.to_str().expect("text").to_owned()
        };
        assert_eq!((answer.status().as_u16(), header("x-ratelimit-remaining")), (200, left.to_string()));
        assert_eq!(header("x-ratelimit-limit"), "100");
        assert!(header("ratelimit").contains("\"hour\";r=") && header("ratelimit-policy").contains("\"hour\";q=100"));
        let head = answer.text().await.expect("text");
        assert!(head.starts_with("get /things?x=1 "), "{head}");
        assert!(head.contains("x-quotad-subject: ip:127.0.0.1") && head.contains("x-quotad-tier: anonymous"), "{head}");
    }
    let denied = ask("/things").await;
    assert_eq!(denied.status(), 429);
    let retry_after: u64 = denied.headers()["retry-after"].to_str().unwrap().parse().expect("seconds");
    assert!((1..=3600).contains(&retry_after));
    assert_eq!(denied.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = denied.json().await.expect("JSON");
    assert_eq!(problem["error"], "Rate limit exceeded");
    let bad = client.get(url("/things")).bearer_auth("qd_none_none").send().await.expect("an answer");
    assert_eq!(bad.status(), 401);
    quotad.stop();
    assert_eq!(ask("/things").await.status(), unreachable, "nobody passes unasked");
}

/// It costs nothing, so it is let through whatever was used.
async fn a_websocket_passes(proxy: &Proxy) {
    let mut line = TcpStream::connect(("127.0.0.1", proxy.port)).await.expect("a line");
    let upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    line.write_all(upgrade.as_bytes()).await.expect("it is asked");
    let (mut head, mut bytes) = (String::new(), [0; 4096]);
    while !head.contains("\r\n\r\n") {
        let count = line.read(&mut bytes).await.expect("an answer");
        assert!(count > 0, "{head}");
        head.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

/// An hour that turns under it gives a new quota.
async fn service() -> Quotad {
    Start::new().set("ANONYMOUS_LIMIT_HOUR", "100").set("ANONYMOUS_LIMIT_DAY", "1000").start().await
}

#[tokio::test]
async fn behind_nginx_a_quota_holds() {
    crate::support::in_one_hour(async || {
        let (quotad, application) = (service().await, application().await);
        let proxy = nginx(&quotad, application).await;
        for _ in 0..3 {
            a_websocket_passes(&proxy).await;
        }
        a_quota_holds_behind(&proxy, quotad, 500).await;
    })
    .await;
}

#[tokio::test]
async fn behind_caddy_a_quota_holds() {
    crate::support::in_one_hour(async || {
        let (quotad, application) = (service().await, application().await);
        let proxy = caddy(&quotad, application).await;
        a_quota_holds_behind(&proxy, quotad, 502).await;
    })
    .await;
}

#[test]
fn the_examples_say_what_happens_without_quotad() {
    for file in ["nginx/quotad.conf", "caddy/Caddyfile"] {
        let text = std::fs::read_to_string(Path::new("examples").join(file)).expect("an example");
        assert!(text.contains("Without quotad requests are refused by 50"), "{file}");
    }
}
