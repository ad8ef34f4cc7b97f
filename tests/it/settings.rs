//! Settings that can't be stop the start with one line; those that can are in force.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

use serde_json::json;

use crate::support::quotad::{Backend, Start, Stores};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The one line on standard error of a start that was refused.
fn refused(output: &Output) -> String {
    let line = text(&output.stderr);
    assert!(!output.status.success(), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

/// `serve` and `config` alike refuse `variable=value`, naming the variable, the value and what is allowed.
fn assert_refused(variable: &str, value: &str, allowed: &[&str]) {
    for command in ["serve", "config"] {
        let line = refused(&Start::new().env(variable, value).run(&[command]));
        for part in [&[variable, value], allowed].concat() {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}

#[test]
fn an_unknown_name_stops_the_start() {
    for (variable, value) in [("QUOTAD_SHARD", "2"), ("QUOTAD_FREE_TIER_LIMIT_WEEK", "3"), ("QUOTAD_", "4")] {
        let line = refused(&Start::new().env(variable, value).run(&["serve"]));
        assert!(line.contains(variable), "{line}");
    }
    for ours in ["OMICS_SOMETHING_ELSE", "PATH_OF_QUOTAD_", "quotad_shards"] {
        assert!(Start::new().env(ours, "x").run(&["config"]).status.success(), "{ours} is none of ours");
    }
}

#[test]
fn a_value_out_of_range_stops_the_start() {
    for (name, value, allowed) in [
        ("SHARDS", "0", &["1", "1024"][..]),
        ("SHARDS", "1025", &["1", "1024"]),
        ("SHARDS", "many", &["1", "1024"]),
        ("SHARDS", "2.5", &["1", "1024"]),
        ("SHARD_MAILBOX", "0", &["1"]),
        ("WORKERS", "0", &["1"]),
        ("CACHE_CAPACITY", "0", &["1"]),
        ("FLUSH_INTERVAL_MS", "-1", &["60000"]),
        ("HISTORY_RETENTION_DAYS", "0", &["1"]),
        ("DATABASE_MAX_CONNECTIONS", "0", &["1"]),
        ("FALLBACK_SHARE", "1.5", &["0", "1"]),
        ("FALLBACK_SHARE", "NaN", &["0", "1"]),
        ("IPV6_PREFIX", "129", &["128"]),
        ("LISTEN", "nowhere", &["address:port"]),
        ("TRUSTED_PROXIES", "10.0.0.0/33", &["CIDR"]),
        ("DATABASE_URL", "mysql://h/x", &["sqlite://", "postgres://"]),
        ("REDIS_URL", "http://h", &["redis://", "rediss://"]),
        ("REDIS_DEADLINE_MS", "0", &["1"]),
        ("REDIS_SOCKET_TIMEOUT", "0", &["0.001"]),
        ("REDIS_SOCKET_TIMEOUT", "inf", &["3600"]),
        ("REDIS_MAX_CONNECTIONS", "0", &["1"]),
        ("REDIS_SSL", "perhaps", &["true", "false"]),
        ("ENABLE_RATE_LIMITING", "perhaps", &["true", "false"]),
        ("RATE_LIMIT_FALLBACK", "maybe", &["memory", "allow", "deny"]),
        ("FREE_TIER_LIMIT_HOUR", "-1", &["0", "1000000000000"]),
        ("PRO_TIER_LIMIT_DAY", "1000000000001", &["0", "1000000000000"]),
        ("ANONYMOUS_CONCURRENT", "x", &["0"]),
        ("ENDPOINT_COSTS", "/a=x", &["path=cost"]),
        ("ENDPOINT_COSTS", "a=1", &["path=cost"]),
        ("LOG_FORMAT", "xml", &["text", "json"]),
        ("OTLP_ENDPOINT", "127.0.0.1:4318", &["http://"]),
        ("OTLP_ENDPOINT", "http://h:4318/?a=b", &["without a query"]),
        ("OTLP_SAMPLE_RATIO", "1.5", &["0", "1"]),
    ] {
        assert_refused(&format!("QUOTAD_{name}"), value, allowed);
    }
    assert_refused("OMICS_FREE_TIER_LIMIT_DAY", "-1", &["0"]);
}

#[test]
fn a_secret_too_short_stops_the_start_and_is_not_shown() {
    for name in ["QUOTAD_ADMIN_KEY", "QUOTAD_JWT_SECRET"] {
        let line = refused(&Start::new().env(name, "hunter2hunter2hunter2").run(&["serve"]));
        assert!(line.contains(name) && line.contains("32") && !line.contains("hunter2"), "{line}");
    }
    let start = Start::new().env("QUOTAD_DATABASE_URL", "mysql://u:hunter2@h/x");
    assert!(!refused(&start.run(&["serve"])).contains("hunter2"));
    let start = Start::new().env("QUOTAD_REDIS_URL", "http://:hunter2@h:1");
    assert!(!refused(&start.run(&["serve"])).contains("hunter2"));
}

#[test]
fn config_shows_what_is_in_force_and_masks_secrets() {
    let start = Start::new()
        .set("REDIS_URL", "redis://user:hunter2@localhost:6379/3")
        .set("REDIS_PASSWORD", "hunter2")
        .set("DATABASE_URL", "postgres://user:hunter2@localhost/quotad")
        .set("JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2")
        .set("ADMIN_KEY", "hunter2hunter2hunter2hunter2hunter2")
        .set("WEBHOOK_URL", "https://ann:hunter2@localhost/hooks?token=hunter2")
        .set("WEBHOOK_SECRET", "whsec_hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2")
        .set("SHARDS", "3")
        .env("OMICS_FREE_TIER_LIMIT_HOUR", "7");
    let output = start.run(&["config"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!shown.contains("hunter2") && !text(&output.stderr).contains("hunter2"), "{shown}");
    let lines =
        ["SHARDS=3", "SHARD_MAILBOX=16384", "FREE_TIER_LIMIT_HOUR=7", "PRO_TIER_LIMIT_DAY=20000", "LOG_FORMAT=text"];
    for line in lines {
        assert!(shown.lines().any(|shown| shown.ends_with(line)), "{line} in {shown}");
    }
    assert!(shown.contains("https://ann:***@localhost/hooks?token=***"), "{shown}");
    assert!(shown.contains("localhost:6379") && shown.contains("localhost/quotad"), "{shown}");
}

#[tokio::test]
async fn the_names_of_the_plan_are_read_and_ours_win() {
    let start = Start::new().env("OMICS_FREE_TIER_LIMIT_HOUR", "7").env("OMICS_FREE_TIER_LIMIT_DAY", "70");
    let quotad = start.set("FREE_TIER_LIMIT_DAY", "80").env("OMICS_SHARDS", "nonsense").start().await;
    let answer = quotad.check(json!({"user_id": "u"})).await;
    assert_eq!((&answer.limit("hour")["limit"], &answer.limit("day")["limit"]), (&json!(7), &json!(80)));
}

#[tokio::test]
async fn the_numbers_of_every_tier_are_in_force() {
    let stores = Stores::start(Backend::Embedded);
    let mut start = stores.service();
    let tiers =
        [("free", "FREE_TIER"), ("pro", "PRO_TIER"), ("enterprise", "ENTERPRISE_TIER"), ("anonymous", "ANONYMOUS")];
    for ((_, name), number) in tiers.iter().zip(1..) {
        start = start.set(&format!("{name}_LIMIT_HOUR"), &format!("{number}1"));
        start = start.set(&format!("{name}_LIMIT_DAY"), &format!("{number}2"));
        start = start.set(&format!("{name}_CONCURRENT"), &format!("{number}3"));
    }
    let quotad = start.set("IPV6_PREFIX", "48").set("ENDPOINT_COSTS", "/a=3").start().await;
    for ((tier, _), number) in tiers.into_iter().zip(1..) {
        let known = quotad.get(&format!("/api/v2/admin/tiers/{tier}")).await;
        assert_eq!(known.json["limits"][0]["requests"], number * 10 + 1, "{}", known.text);
        assert_eq!(known.json["limits"][1]["requests"], number * 10 + 2);
        assert_eq!(known.json["concurrent_requests"], number * 10 + 3);
    }
    let answer = quotad.check(json!({"ip": "2001:db8:1:2::3", "endpoint": "/a/b"})).await;
    assert_eq!((&answer.json["subject"], answer.field("cost")), (&json!("ip:2001:db8:1::/48"), 3));
    let other = quotad.check(json!({"user_id": "u", "endpoint": "/api/v1/agents"})).await;
    assert_eq!(other.field("cost"), 1, "the costs that are set replace the default ones");
}

#[test]
fn a_refusal_is_one_line_whatever_the_value() {
    for value in ["1\n2", "1\r\n2", "\u{1b}[31m", &"9".repeat(100_000)] {
        let line = refused(&Start::new().set("SHARDS", value).run(&["serve"]));
        assert!(line.contains("QUOTAD_SHARDS") && !line.trim_end().contains(char::is_control), "{line:?}");
        assert!(line.len() < 500, "{} bytes", line.len());
    }
}

/// A value that is no text is not read as another one.
#[test]
fn a_value_that_is_no_utf_8_stops_the_start() {
    for (variable, value) in [("QUOTAD_LOG", &b"info\xff"[..]), ("OMICS_REDIS_PASSWORD", b"hunter2\xff")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotad"));
        let output = command.env_clear().env(variable, OsStr::from_bytes(value)).arg("config").output();
        let line = refused(&output.expect("the binary runs"));
        assert!(line.contains(variable) && line.contains("UTF-8") && !line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_value_that_would_be_passed_over_stops_the_start() {
    for vars in [
        &[("QUOTAD_LOG", "inof")][..],
        &[("OMICS_REDIS_SENTINEL_PASSWORD", "hunter2")],
        &[("QUOTAD_REDIS_URL", "redis://a host:1/0")],
        &[("QUOTAD_REDIS_URL", "redis://h:1/0?timeout=5")],
        &[("QUOTAD_REDIS_URL", "redis://h:1/0"), ("QUOTAD_REDIS_CA_FILE", "/ca.pem")],
    ] {
        let start = vars.iter().fold(Start::new(), |start, (variable, value)| start.env(variable, value));
        let line = refused(&start.run(&["config"]));
        assert!(line.contains(vars[vars.len() - 1].0), "{line}");
    }
}

/// The settings in force, and not how they came to be: a number of cores, the path of the database.
#[test]
fn config_shows_values_and_not_words_for_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = Start::new().unset("SHARDS").unset("WORKERS").folder(folder.path());
    let shown = text(&start.run(&["config"]).stdout);
    for name in ["SHARDS=", "WORKERS="] {
        let value = shown.lines().find_map(|line| line.split_once(name)).map(|(_, value)| value);
        assert!(value.is_some_and(|value| value.parse::<u32>().is_ok_and(|number| number > 0)), "{name} in {shown}");
    }
    let database = shown.lines().find(|line| line.contains("DATABASE_URL=")).expect("DATABASE_URL");
    assert!(database.contains(&*folder.path().to_string_lossy()), "{database}");
}
