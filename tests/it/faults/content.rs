//! What stands in Redis, or what it knows of scripts, is not what the service left there.

use std::time::{Duration, Instant};

use serde_json::json;

use super::answers::Source;
use super::either;
use super::load::Load;
use super::place::{Kind, back_on_redis, charged_exactly};
use super::report::row;

/// Whatever stands under a key, only its subject is refused, once, and the others in its batch are answered and charged once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planted_under_a_key_fails_one_subject_once() {
    row("only that subject fails, once, and heals", "values of wrong types under a subject's key", async |report| {
        let place = Kind::Node.start();
        let super::place::Place::Node(redis) = &place else { panic!("a node") };
        let quotad = place.service().set("SHARDS", "1").set("RESERVED_BLOCKS", "false").start().await;
        quotad.check(json!({"user_id": "planted"})).await;
        let key = redis.cli(&["--scan", "--pattern", "*planted"]);
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
            redis.cli(&["DEL", &key]);
            redis.cli(plant);
            let checks = json!({"checks": [{"user_id": "before"}, {"user_id": "planted"}, {"user_id": "after"}]});
            let answer = quotad.post("/api/v2/check/batch", checks).await;
            for neighbour in [0, 2] {
                assert_eq!(answer.json["results"][neighbour]["limits"][0]["used"], n + 1, "{plant:?}: {}", answer.text);
            }
            let again = quotad.check(json!({"user_id": "planted"})).await;
            assert_eq!((again.status, again.json["source"].as_str()), (200, Some("redis")), "{plant:?} {}", again.text);
        }
        report.tell("kinds of values", plants.len());
        report.exactly("other subjects that were refused", 0, 0);
    })
    .await;
}

on_each_place! {
    async fn a_script_cache_that_is_flushed_is_not_noticed(kind: Kind) {
        let provoked = format!("SCRIPT FLUSH every 50 ms under load, {}", kind.name());
        row("it is not noticed, and nothing is charged twice", &provoked, async |report| {
            let mut place = kind.start();
            let quotad = place.service().set("RESERVED_BLOCKS", "false").start().await;
            back_on_redis(&quotad, 20, Instant::now()).await;
            let (answers, flushes) = Load::of(8)
                .for_users(20)
                .during(&[&quotad], async |_| {
                    let begun = Instant::now();
                    let mut flushes = 0;
                    while begun.elapsed() < either(Duration::from_secs(1), Duration::from_secs(20)) {
                        place.cli_on_masters(&["SCRIPT", "FLUSH"]);
                        flushes += 1;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    flushes
                })
                .await;
            report.tell("flushes", flushes);
            report.exactly("answers that were not of Redis", answers.count() - answers.by(Source::Redis).count(), 0);
            charged_exactly(report, &quotad, &answers).await;
        })
        .await;
    }
}
