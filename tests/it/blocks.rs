//! Blocks of a busy subject's limits that instances reserve: nothing is given out twice, and nothing is kept from others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;
use crate::support::{in_one_hour, until};

const WITHIN: Duration = Duration::from_secs(5);

fn service(redis: &RedisServer, hour: u64) -> Start {
    Start::new().redis(redis).set("FREE_TIER_LIMIT_HOUR", &hour.to_string()).set("FREE_TIER_LIMIT_DAY", "1000000000")
}

/// So many checks of one user, a few at once, and the answers.
async fn busy(quotad: &Quotad, user: &str, checks: usize) -> Vec<Value> {
    let left = AtomicUsize::new(checks);
    let caller = async || {
        let mut answers = Vec::new();
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            answers.push(quotad.check(json!({"user_id": user})).await.json);
        }
        answers
    };
    join_all((0..16).map(|_| caller())).await.into_iter().flatten().collect()
}

fn by_blocks(answers: &[Value]) -> usize {
    answers.iter().filter(|answer| answer["source"] == "cache" && answer["allowed"] == true).count()
}

/// Calls that Redis has run scripts for.
fn calls(redis: &RedisServer) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
    stats.lines().filter(|line| line.starts_with("cmdstat_eval")).filter_map(calls).sum()
}

#[tokio::test]
async fn a_busy_subject_is_served_by_blocks_and_counted_to_the_unit() {
    in_one_hour(|| async {
        let redis = RedisServer::start();
        let quotad = service(&redis, 1_000_000).start().await;
        let before = calls(&redis);
        let answers = busy(&quotad, "u", 3000).await;
        assert!(by_blocks(&answers) > 2000, "{} of 3000 by blocks", by_blocks(&answers));
        let mut used: Vec<u64> = answers.iter().map(|answer| answer["limits"][0]["used"].as_u64().unwrap()).collect();
        used.sort_unstable();
        assert_eq!(used, (1..=3000).collect::<Vec<u64>>(), "each is told what it used itself");
        let calls = calls(&redis) - before;
        assert!(calls < 600, "{calls} calls of Redis for 3000 checks");
        let quota = quotad.quota("u").await;
        assert_eq!(
            (quota.field("requests_hour_used"), quota.field("requests_day_used")),
            (3000, 3000),
            "what is left is back"
        );
    })
    .await;
}

/// Whoever asks learns what was used, and not what another instance holds.
#[tokio::test]
async fn another_instance_tells_what_was_used_to_the_unit() {
    in_one_hour(|| async {
        let redis = RedisServer::start();
        let (one, other) = (service(&redis, 1_000_000).start().await, service(&redis, 1_000_000).start().await);
        for round in 1..=5 {
            let answers = busy(&one, "u", 500).await;
            assert!(by_blocks(&answers) > 0, "blocks are put to the test");
            assert_eq!(other.quota("u").await.field("requests_hour_used"), 500 * round);
        }
    })
    .await;
}

#[tokio::test]
async fn four_instances_give_out_all_of_a_limit_and_no_more() {
    in_one_hour(|| async {
        const LIMIT: u64 = 10_000;
        let redis = RedisServer::start();
        let start = service(&redis, LIMIT);
        let instances = join_all((0..4).map(|_| start.start())).await;
        let allowed = AtomicU64::new(0);
        let begun = Instant::now();
        // Each asks until it has been denied for a second: what others held has come back by then.
        let caller = async |instance: usize| {
            let mut denied_since: Option<Instant> = None;
            while denied_since.is_none_or(|since| since.elapsed() < Duration::from_secs(1)) {
                match instances[instance % 4].check(json!({"user_id": "u"})).await.status {
                    200 => {
                        allowed.fetch_add(1, Ordering::Relaxed);
                        denied_since = None;
                    }
                    429 => {
                        denied_since.get_or_insert_with(Instant::now);
                    }
                    status => panic!("{status}"),
                }
            }
        };
        join_all((0..32).map(caller)).await;
        println!("{} in {:?}", allowed.load(Ordering::Relaxed), begun.elapsed());
        assert_eq!(allowed.into_inner(), LIMIT);
        let reserved = join_all(instances.iter().map(|instance| instance.metric("quotad_reserved_units_total"))).await;
        assert!(reserved.iter().sum::<f64>() > 0.0, "blocks are put to the test");
    })
    .await;
}

#[tokio::test]
async fn a_reset_takes_back_what_others_have_reserved() {
    in_one_hour(|| async {
        let redis = RedisServer::start();
        let (one, other) = (service(&redis, 20_000).start().await, service(&redis, 20_000).start().await);
        let answers = busy(&one, "u", 500).await;
        assert!(by_blocks(&answers) > 0, "blocks are put to the test");
        assert_eq!(other.post("/api/v2/admin/quotas/u/reset", json!({})).await.status, 200);
        let void = async || (one.check(json!({"user_id": "u"})).await.json["source"] == "redis").then_some(());
        until(WITHIN, "the block is void", void).await;
        let used = one.quota("u").await.field("requests_hour_used");
        // What was given out of the block before it was heard that it is void is not charged again.
        assert!(used < 50, "{used}");
    })
    .await;
}

#[tokio::test]
async fn a_limit_that_is_lowered_holds_at_once() {
    in_one_hour(|| async {
        let redis = RedisServer::start();
        let quotad = service(&redis, 100_000).start().await;
        let answers = busy(&quotad, "u", 500).await;
        assert!(by_blocks(&answers) > 0, "blocks are put to the test");
        let lower = json!({"custom_requests_per_hour": 400});
        assert_eq!(quotad.put("/api/v2/admin/quotas/u", lower).await.status, 200);
        let answer = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!((answer.status, answer.json["limits"][0]["used"].as_u64()), (429, Some(500)), "{}", answer.text);
    })
    .await;
}

#[tokio::test]
async fn they_can_be_switched_off() {
    in_one_hour(|| async {
        let redis = RedisServer::start();
        let quotad = service(&redis, 1_000_000).set("RESERVED_BLOCKS", "false").start().await;
        let answers = busy(&quotad, "u", 500).await;
        assert!(answers.iter().all(|answer| answer["source"] == "redis"));
    })
    .await;
}
