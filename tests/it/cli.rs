//! The command line: `token`, `healthcheck`, `migrate`.

use std::net::{Ipv4Addr, TcpListener};

use reqwest::Method;
use serde_json::json;

use crate::support::postgres_server;
use crate::support::quotad::{Quotad, Start};

const ME: &str = "/api/v2/users/me/quota";

/// A token that the command line signed.
fn signed(start: &Start, arguments: &[&str]) -> String {
    let output = start.run(&[&["token"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a token").trim().to_owned()
}

async fn get_with(quotad: &Quotad, token: &str, path: &str) -> crate::support::answer::Answer {
    quotad.ask_as(Method::GET, path, None, &[("authorization", &format!("Bearer {token}"))]).await
}

#[tokio::test]
async fn a_token_from_the_command_line_opens_ones_own_quota() {
    let start = Start::new().set("JWT_ISSUER", "us").set("JWT_AUDIENCE", "quotad");
    let quotad = start.start().await;
    let token = signed(&start, &["--sub", "42", "--tier", "pro"]);
    let mine = get_with(&quotad, &token, ME).await;
    assert_eq!(
        (mine.status, &mine.json["user_id"], &mine.json["tier"]),
        (200, &json!("42"), &json!("pro")),
        "{}",
        mine.text
    );
    assert_eq!(mine.number("x-ratelimit-limit"), 1000);
    assert_eq!(get_with(&quotad, &token, "/api/v2/admin/quotas/42").await.status, 403, "its role is `user`");
    let plain = get_with(&quotad, &signed(&start, &["--sub", "ä b"]), ME).await;
    assert_eq!((plain.status, &plain.json["user_id"], &plain.json["tier"]), (200, &json!("ä b"), &json!("free")));
}

#[test]
fn a_token_needs_a_secret_and_a_subject() {
    let start = Start::new();
    for (start, arguments) in [
        (start.clone().unset("JWT_SECRET"), &["token", "--sub", "42"][..]),
        (start.clone(), &["token"]),
        (start.clone(), &["token", "--sub", ""]),
        (start.clone(), &["token", "--sub", "a\nb"]),
        (start, &["nonsense"]),
    ] {
        let output = start.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}

#[tokio::test]
async fn healthcheck_says_by_its_exit_code_whether_the_service_is_ready() {
    let start = Start::new();
    let quotad = start.start().await;
    let at = |address: &str| start.clone().set("LISTEN", address).run(&["healthcheck"]);
    assert_eq!(at(quotad.address()).status.code(), Some(0));
    // The healthcheck of a container asks by loopback where the service listens on every address.
    let everywhere = quotad.address().replace("127.0.0.1", "0.0.0.0");
    assert_eq!(at(&everywhere).status.code(), Some(0));
    let address = quotad.address().to_owned();
    quotad.stop();
    assert_eq!(at(&address).status.code(), Some(1));
    // Something that listens there and never answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    assert_eq!(at(&silent.local_addr().expect("its address").to_string()).status.code(), Some(1));
}

#[tokio::test]
async fn migrate_may_be_run_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = postgres_server::empty_database();
    let start = Start::new().folder(folder.path());
    for start in [start.clone(), start.postgres(&url)] {
        for _ in 0..2 {
            let output = start.run(&["migrate"]);
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let quotad = start.start().await;
        assert_eq!(quotad.put("/api/v2/admin/users/u", json!({"tier": "pro"})).await.status, 200);
        quotad.stop();
        assert_eq!(start.run(&["migrate"]).status.code(), Some(0), "with data in it");
        let quotad = start.start().await;
        assert_eq!(quotad.get("/api/v2/admin/users/u").await.json["tier"], "pro");
    }
}

#[test]
fn a_database_out_of_reach_stops_migrate_with_one_line() {
    let start = Start::new().set("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/x");
    let output = start.run(&["migrate"]);
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}

/// It would have expired when it was made.
#[test]
fn a_token_that_never_holds_is_not_made() {
    let output = Start::new().run(&["token", "--sub", "42", "--ttl-seconds", "0"]);
    assert!(!output.status.success() && output.stdout.is_empty() && !output.stderr.is_empty());
}
