//! JSON bodies: the whole service on loopback. Whatever is sent, the answer is one that `/openapi.json` describes, and never that
//! of a service that has failed.
#![no_main]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use quotad::config::Settings;
use serde_json::Value;

const ADMIN_KEY: &str = "an-admin-key-for-fuzzing-of-enough-characters";

/// Every operation that takes a body: its method, its path in the document, and the paths that are asked.
const OPERATIONS: [(&str, &str, &[&str]); 11] = [
    ("POST", "/api/v2/check", &["/api/v2/check"]),
    ("POST", "/api/v2/check/batch", &["/api/v2/check/batch"]),
    ("POST", "/api/v2/leases", &["/api/v2/leases"]),
    ("PUT", "/api/v2/leases/{lease_id}", &["/api/v2/leases/x"]),
    ("PUT", "/api/v2/admin/quotas/{user_id}", &["/api/v2/admin/quotas/42", "/api/v2/admin/quotas/%00"]),
    ("POST", "/api/v2/admin/quotas/{user_id}/reset", &["/api/v2/admin/quotas/42/reset"]),
    ("POST", "/api/v2/admin/ips/{ip}/reset", &["/api/v2/admin/ips/::1/reset", "/api/v2/admin/ips/x/reset"]),
    ("PUT", "/api/v2/admin/users/{user_id}", &["/api/v2/admin/users/42"]),
    ("PUT", "/api/v2/admin/tiers/{name}", &["/api/v2/admin/tiers/gold", "/api/v2/admin/tiers/Gold"]),
    ("PUT", "/api/v2/admin/endpoints", &["/api/v2/admin/endpoints"]),
    ("POST", "/api/v2/admin/keys", &["/api/v2/admin/keys"]),
];

/// Where the service listens. It runs in this process, so that what it covers is seen.
fn address() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = probe.local_addr().expect("its address").to_string();
        drop(probe);
        let folder = tempfile::tempdir().expect("a folder").keep();
        let (listen, folder) = (address.clone(), folder.display().to_string());
        let vars = [("LISTEN", listen.as_str()), ("DATA_DIR", &folder), ("ADMIN_KEY", ADMIN_KEY), ("SHARDS", "1")];
        let vars = vars.map(|(name, value)| (format!("QUOTAD_{name}"), value.to_owned()));
        let settings = Settings::from_vars(vars.into_iter().chain([("QUOTAD_WORKERS".to_owned(), "1".to_owned())]));
        let settings = settings.expect("settings");
        std::thread::spawn(|| actix::System::new().block_on(quotad::app::serve(settings)).expect("it serves"));
        while TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        address
    })
}

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::from_str(include_str!("../../src/http/openapi.json")).expect("JSON"))
}

struct Answer {
    status: u16,
    kind: String,
    json: Value,
}

/// One request on a connection of its own: what is refused unread closes it.
fn ask(method: &str, path: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {ADMIN_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // A refusal may come before all is sent.
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut kind = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-type") => kind = value.to_owned(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body).expect("a body");
    Answer { status, kind, json: serde_json::from_slice(&body).unwrap_or(Value::Null) }
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (operation, path, body) = input;
    let (method, template, paths) = OPERATIONS[usize::from(operation) % OPERATIONS.len()];
    let answer = ask(method, paths[usize::from(path) % paths.len()], body);
    let (status, json) = (answer.status, &answer.json);
    let documented = &document()["paths"][template][method.to_lowercase()]["responses"];
    assert!(status < 500 && documented[status.to_string()].is_object(), "{method} {template} {status} {json}");
    if status >= 400 && status != 429 {
        assert_eq!(answer.kind, "application/problem+json", "{status} {json}");
        assert_eq!(json["status"], status);
        assert_eq!(json["errors"].is_array(), status == 422, "{json}");
    }
    let Ok(asked) = serde_json::from_slice::<Value>(body) else {
        assert!([400, 404, 422].contains(&status) || body.is_empty(), "{status} to no JSON");
        return;
    };
    if template == "/api/v2/check" && [200, 429].contains(&status) {
        assert_eq!(json["allowed"], status == 200, "{json}");
        if let Some(user) = asked["user_id"].as_str() {
            assert_eq!(json["subject"], format!("user:{user}"));
        }
    }
    if template == "/api/v2/check/batch" && status == 200 {
        assert_eq!(json["results"].as_array().map(Vec::len), asked["checks"].as_array().map(Vec::len));
    }
});
