//! The line to Redis fails in all the ways that a line can, or Redis' own content does: nobody is charged twice, nobody
//! gets another's answer, and it heals.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;
use crate::support::tcp_proxy::{Replies, TcpProxy};
use crate::support::{in_one_hour, until};

/// For a line that has to be found dead first; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(8);

struct Line {
    redis: RedisServer,
    proxy: TcpProxy,
    quotad: Quotad,
}

/// A service of one shard whose only way to Redis is the proxy, with a deadline of 100 ms.
async fn line() -> Line {
    let redis = RedisServer::start();
    let proxy = TcpProxy::before(redis.port()).await;
    let start = Start::new()
        .redis(&redis)
        .set("REDIS_URL", &format!("redis://127.0.0.1:{}/0", proxy.port()))
        .set("REDIS_DEADLINE_MS", "100")
        .set("SHARDS", "1")
        .set("RESERVED_BLOCKS", "false")
        .set("FREE_TIER_LIMIT_HOUR", "100000")
        .set("FREE_TIER_LIMIT_DAY", "1000000");
    let line = Line { quotad: start.start().await, redis, proxy };
    line.back_on_redis().await;
    line
}

impl Line {
    async fn check(&self, user: &str) -> Answer {
        let answer = self.quotad.check(json!({"user_id": user})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer
    }

    /// Until Redis decides; says how long that took.
    async fn back_on_redis(&self) -> Duration {
        let source = async || {
            let answer = self.quotad.check(json!({"user_id": "probe", "endpoint": "/ws"})).await;
            (answer.json["source"] == "redis").then_some(())
        };
        until(BACK_WITHIN, "redis", source).await.1
    }

    /// What Redis itself has charged; asked without the proxy's faults.
    async fn charged(&self, user: &str) -> u64 {
        self.proxy.set(Replies::Pass);
        self.back_on_redis().await;
        let answer = self.quotad.check(json!({"user_id": user, "endpoint": "/ws"})).await;
        assert_eq!(answer.json["source"], "redis");
        answer.used("hour")
    }
}

#[tokio::test]
async fn a_half_open_line_is_replaced() {
    in_one_hour(|| async {
        let line = line().await;
        line.check("u").await;
        line.proxy.go_half_open();
        for _ in 0..3 {
            let begun = Instant::now();
            assert_eq!(line.check("u").await.json["source"], "fallback");
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        }
        let took = line.back_on_redis().await;
        println!("back {} ms after the last check", took.as_millis());
        assert_eq!(line.charged("u").await, 4);
    })
    .await;
}

/// Nobody asks anything, and yet the line is found dead: the next check does not have to wait for the deadline.
#[tokio::test]
async fn a_line_that_dies_while_nobody_asks_is_found() {
    let line = line().await;
    line.proxy.go_half_open();
    let found = async || (line.proxy.accepted() >= 2).then_some(());
    until(BACK_WITHIN, "a new line", found).await;
    line.back_on_redis().await;
}

#[tokio::test]
async fn a_reply_that_is_lost_after_the_charge_is_charged_once() {
    in_one_hour(|| async {
        let line = line().await;
        let mut asked = 0;
        for _ in 0..15 {
            line.proxy.set(Replies::Lost);
            for _ in 0..3 {
                line.check("u").await;
                asked += 1;
            }
            line.proxy.set(Replies::Pass);
            line.back_on_redis().await;
            line.check("u").await;
            asked += 1;
        }
        assert_eq!(line.charged("u").await, asked);
    })
    .await;
}

/// The line breaks again while Redis is told what was granted: it is told once, however often the telling fails.
#[tokio::test]
async fn what_is_owed_is_added_once_though_the_answer_is_lost() {
    in_one_hour(|| async {
        let mut line = line().await;
        line.redis.stop();
        for _ in 0..5 {
            line.check("u").await;
        }
        line.proxy.set(Replies::Lost);
        line.redis.cont();
        tokio::time::sleep(Duration::from_secs(1)).await;
        line.check("u").await;
        assert_eq!(line.charged("u").await, 6);
        line.redis.kill();
    })
    .await;
}

#[tokio::test]
async fn replies_that_come_byte_by_byte_are_the_same() {
    in_one_hour(|| async {
        let line = line().await;
        line.proxy.set(Replies::Sliced);
        let users: Vec<Value> = (0..40).map(|n| json!({"user_id": format!("u{}", n % 20)})).collect();
        let answer = line.quotad.post("/api/v2/check/batch", json!({"checks": users})).await;
        let results = answer.json["results"].as_array().expect("results");
        for (n, result) in results.iter().enumerate() {
            assert_eq!(result["subject"], format!("user:u{}", n % 20));
            assert_eq!(result["limits"][0]["used"], 1 + n / 20);
        }
    })
    .await;
}

#[tokio::test]
async fn garbage_is_no_ones_answer() {
    in_one_hour(|| async {
        let line = line().await;
        for user in ["a", "b", "c"] {
            line.proxy.set(Replies::Garbage);
            let answer = line.check(user).await;
            assert_eq!(answer.json["subject"], format!("user:{user}"));
            assert_eq!(line.charged(user).await, 1, "{user}");
        }
    })
    .await;
}

/// A Redis that is slow is not asked; its line is not thrown away for that.
#[tokio::test]
async fn a_slow_redis_bounds_no_answer_and_starts_no_storm() {
    in_one_hour(|| async {
        let line = line().await;
        line.proxy.set(Replies::Late(Duration::from_millis(200)));
        let begun = Instant::now();
        let mut asked = 0;
        while begun.elapsed() < Duration::from_secs(2) {
            line.check("u").await;
            asked += 1;
        }
        assert!(line.proxy.accepted() <= 3, "{} connections", line.proxy.accepted());
        assert_eq!(line.charged("u").await, asked);
    })
    .await;
}

/// Whatever stands under a key, only its subject is refused, once, and the others in its batch are answered and charged once.
#[tokio::test]
async fn what_is_planted_under_a_key_fails_one_subject_once() {
    in_one_hour(|| async {
        let line = line().await;
        line.check("planted").await;
        let key = line.redis.cli(&["--scan", "--pattern", "*planted"]);
        let msgpack = "\\x96\\x01\\xa1x\\xa1y\\xa1z\\xa1w\\xa1v";
        let plants: [&[&str]; 6] = [
            &["SET", &key, "hello"],
            &["SET", &key, ""],
            &["EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", "1", &key, msgpack],
            &["EVAL", "return redis.call('SET', KEYS[1], string.char(1, 255, 3))", "1", &key],
            &["LPUSH", &key, "x"],
            &["HSET", &key, "a", "b"],
        ];
        for (n, plant) in plants.into_iter().enumerate() {
            line.redis.cli(&["DEL", &key]);
            line.redis.cli(plant);
            let checks = json!({"checks": [{"user_id": "before"}, {"user_id": "planted"}, {"user_id": "after"}]});
            let answer = line.quotad.post("/api/v2/check/batch", checks).await;
            for neighbour in [0, 2] {
                assert_eq!(answer.json["results"][neighbour]["limits"][0]["used"], n + 1, "{plant:?}: {}", answer.text);
            }
            let again = line.quotad.check(json!({"user_id": "planted"})).await;
            assert_eq!((again.status, again.json["source"].as_str()), (200, Some("redis")), "{plant:?} {}", again.text);
        }
    })
    .await;
}

#[tokio::test]
async fn a_script_cache_that_is_flushed_is_not_noticed() {
    in_one_hour(|| async {
        let line = line().await;
        for n in 1..=100 {
            if n % 3 == 0 {
                line.redis.cli(&["SCRIPT", "FLUSH"]);
            }
            let answer = line.check("u").await;
            assert_eq!((answer.json["source"].as_str(), answer.used("hour")), (Some("redis"), n));
        }
    })
    .await;
}

/// The health page knows how long Redis takes to answer.
#[tokio::test]
async fn health_shows_the_ping() {
    let line = line().await;
    line.check("u").await;
    let health = line.quotad.get("/health").await;
    let ping = health.json["redis"]["ping_micros"].as_u64();
    assert!(ping.is_some_and(|micros| micros > 0 && micros < 1_000_000), "{}", health.text);
}
