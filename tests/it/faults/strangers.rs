//! Ids that nobody has, by the million.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::either;
use super::place::{Kind, Place, back_on_redis, resident_mib};
use super::report::{Bound, row};
use crate::support::quotad::Quotad;

const CAPACITY: u64 = 1000;
const LIMIT: u64 = 50;

/// Whoever was known before, and is asked for now and then meanwhile.
const KNOWN: &str = "known";

/// So many ids that were never asked for before, in batches; `meanwhile` after each hundredth of them. How many were allowed.
pub async fn flood(quotad: &Quotad, ids: u64, from: &Arc<AtomicU64>, mut meanwhile: impl AsyncFnMut(u64)) -> u64 {
    const BATCH: u64 = 500;
    let mut allowed = 0;
    let rounds = ids.div_ceil(4 * BATCH);
    for round in 0..rounds {
        let batches = (0..4).map(|_| async {
            let first = from.fetch_add(BATCH, Ordering::Relaxed);
            let checks: Vec<Value> = (0..BATCH).map(|n| json!({"user_id": format!("made-up-{}", first + n)})).collect();
            quotad.post("/api/v2/check/batch", json!({"checks": checks})).await
        });
        for answer in join_all(batches).await {
            assert_eq!(answer.status, 200, "{}", answer.text);
            let results = answer.json["results"].as_array().expect("results");
            allowed += results.iter().filter(|result| result["allowed"] == true).count() as u64;
        }
        if round % rounds.div_ceil(100) == 0 {
            meanwhile(round * 100 / rounds).await;
        }
    }
    allowed
}

async fn check(quotad: &Quotad, user: &str) -> u16 {
    quotad.check(json!({"user_id": user})).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_ids_take_no_memory_and_nobodys_quota() {
    let ids = either(10_000, 10_000_000);
    let promise = "memory bounded; known subjects unaffected; without Redis nobody who was forgotten begins anew";
    row(promise, &format!("{ids} made-up ids, a table of {CAPACITY}"), async |report| {
        let place = Kind::Node.start();
        let start = place.service().set("CACHE_CAPACITY", &CAPACITY.to_string());
        let quotad = start.set("FREE_TIER_LIMIT_DAY", &LIMIT.to_string()).start().await;
        let Place::Node(mut redis) = place else { panic!("a node") };
        back_on_redis(&quotad, 1, Instant::now()).await;
        let from = Arc::new(AtomicU64::new(0));
        let mut granted = u64::from(check(&quotad, KNOWN).await == 200);
        let mut memory = 0.0;
        let allowed = flood(&quotad, ids, &from, async |percent| {
            if percent <= 10 {
                memory = resident_mib(&quotad);
            }
            granted += u64::from(check(&quotad, KNOWN).await == 200);
        })
        .await;
        report.exactly("made-up ids that were refused", from.load(Ordering::Relaxed) - allowed, 0);
        report.at_most(
            "memory grew by",
            (resident_mib(&quotad) - memory).max(0.0),
            "MiB",
            Bound { short: 96.0, full: 64.0 },
        );
        report.exactly("granted to one who was known", granted, granted.min(LIMIT));
        // Now without Redis: somebody uses up what there is, is crowded out, and asks again.
        redis.kill();
        let (mut before, mut after) = (0, 0);
        for _ in 0..LIMIT + 5 {
            before += u64::from(check(&quotad, "late").await == 200);
        }
        let crowd = flood(&quotad, either(4000, 200_000), &from, async |_| {}).await;
        for _ in 0..LIMIT + 5 {
            after += u64::from(check(&quotad, "late").await == 200);
        }
        for _ in 0..LIMIT + 5 {
            granted += u64::from(check(&quotad, KNOWN).await == 200);
        }
        report.at_most(
            "granted to one who came without Redis",
            (before + after) as f64,
            "",
            Bound { short: LIMIT as f64, full: LIMIT as f64 },
        );
        report.tell("to the crowd", crowd);
        report.exactly("to one who was known, in all", granted, LIMIT);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(quotad.get("/health/ready").await.status, 200);
    })
    .await;
}
