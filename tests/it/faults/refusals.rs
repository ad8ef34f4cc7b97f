//! Redis answers, and refuses: out of memory, a replica, still loading, busy, a password. Each is named in `/health`.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::answers::Source;
use super::load::Load;
use super::place::{BACK, back_on_redis, charged_exactly, unlimited, well};
use super::report::{Report, row};
use super::{over_the_deadline, start_within_deadline};
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;
use crate::support::until;

const USERS: u32 = 20;

/// Load while Redis refuses with `code` from `begin` to `end`: nobody is told, and nothing is half written.
async fn refused(
    report: &mut Report,
    code: &str,
    mut redis: RedisServer,
    begin: impl FnOnce(&mut RedisServer) -> Option<Child>,
    end: impl FnOnce(&mut RedisServer),
) {
    let quotad = start_within_deadline(unlimited(Start::new().redis(&redis))).start().await;
    back_on_redis(&quotad, USERS, Instant::now()).await;
    let (answers, back) = Load::of(8)
        .for_users(USERS)
        .during(&[&quotad], async |running| {
            running.more(200).await;
            let other = begin(&mut redis);
            running.more_by_fallback(200).await;
            named_in_health(&quotad, code).await;
            end(&mut redis);
            let back = back_on_redis(&quotad, USERS, Instant::now()).await;
            running.more(200).await;
            if let Some(mut other) = other {
                let _ = (other.kill(), other.wait());
            }
            back
        })
        .await;
    report.exactly("checks failed", answers.failed(), 0);
    over_the_deadline(report, &answers);
    report.tell("answered without Redis", answers.by(Source::Fallback).count());
    report.at_most("back on Redis after", back, "ms", BACK);
    charged_exactly(report, &quotad, &answers).await;
    well(&quotad).await;
}

async fn named_in_health(quotad: &Quotad, code: &str) {
    let named = async || {
        let error = quotad.get("/health").await.json["redis"]["error"].clone();
        error.as_str().is_some_and(|error| error.contains(code)).then_some(())
    };
    let health = async || quotad.get("/health").await.json["redis"].to_string();
    let what = format!("{code} in /health, as {}", health().await);
    until(Duration::from_secs(2), &what, named).await;
}

async fn row_of(code: &str, how: &str, run: impl AsyncFn(&mut Report)) {
    let promise = "the fallback answers, health names it, no task dies, nothing is half written";
    row(promise, &format!("{code}: {how}"), run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_has_no_memory_left() {
    row_of("OOM", "maxmemory is reached", async |report| {
        let begin = |redis: &mut RedisServer| {
            redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
            None
        };
        let end = |redis: &mut RedisServer| drop(redis.cli(&["CONFIG", "SET", "maxmemory", "0"]));
        refused(report, "OOM", RedisServer::start(), begin, end).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_has_become_a_replica() {
    row_of("READONLY", "it is made a replica, without a master", async |report| {
        let begin = |redis: &mut RedisServer| {
            redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
            None
        };
        let end = |redis: &mut RedisServer| drop(redis.cli(&["REPLICAOF", "NO", "ONE"]));
        refused(report, "READONLY", RedisServer::start(), begin, end).await;
    })
    .await;
}

/// It has so many keys, and takes so long for each, that it loads for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_still_loading() {
    row_of("LOADING", "killed, and slow to load what it had", async |report| {
        let begin = |redis: &mut RedisServer| {
            redis.cli(&["EVAL", "for n = 1, 60 do redis.call('SET', 'other:' .. n, string.rep(n, 2000)) end", "0"]);
            // What is asked from now on is not done, so that nothing happens that is not saved.
            redis.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]);
            assert_eq!(redis.cli(&["SAVE"]), "OK");
            redis.start_loading(&["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"]);
            None
        };
        let redis = RedisServer::start_with(&["--rdbcompression", "no"]);
        refused(report, "LOADING", redis, begin, RedisServer::wait_until_loaded).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_busy_with_somebody_elses_script() {
    row_of("BUSY", "a script of somebody else does not end", async |report| {
        let begin = |redis: &mut RedisServer| {
            let port = redis.port().to_string();
            let mut other = Command::new("redis-cli");
            other.args(["-p", &port, "EVAL", "while true do end", "0"]).stdout(Stdio::null()).stdin(Stdio::null());
            Some(other.spawn().expect("redis-cli runs"))
        };
        let end = |redis: &mut RedisServer| drop(redis.cli(&["SCRIPT", "KILL"]));
        refused(report, "BUSY", RedisServer::start_with(&["--busy-reply-threshold", "50"]), begin, end).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_asks_for_a_password_all_at_once() {
    row_of("NOAUTH", "a password is set, and every connection closed", async |report| {
        let begin = |redis: &mut RedisServer| {
            redis.cli_lines("CONFIG SET requirepass another\nAUTH another\nCLIENT KILL TYPE normal SKIPME yes\n");
            redis.set_password(Some("another"));
            None
        };
        let end = |redis: &mut RedisServer| {
            redis.cli(&["CONFIG", "SET", "requirepass", ""]);
            redis.set_password(None);
        };
        refused(report, "NOAUTH", RedisServer::start(), begin, end).await;
    })
    .await;
}
