//! Many callers for one subject, for one most of all, for more than there is room for.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::either;
use super::load::Load;
use super::place::{Kind, back_on_redis, charged_exactly, resident_mib, unlimited};
use super::report::{Bound, row};
use crate::support::answer::Answer;
use crate::support::quotad::Start;
use crate::support::redis_server::RedisServer;

on_each_place! {
    async fn one_subject_gets_its_limit_and_no_more(kind: Kind) {
        let provoked = format!("one subject, 64 callers, three instances, L = 1000, {}", kind.name());
        row("exactly 1000", &provoked, async |report| {
            let place = kind.start();
            let start = place.service().set("FREE_TIER_LIMIT_DAY", "1000");
            let instances = join_all([start.start(), start.start(), start.start()]).await;
            let instances: Vec<_> = instances.iter().collect();
            for quotad in &instances {
                back_on_redis(quotad, 1, Instant::now()).await;
            }
            let load = Load::of(64).resting(Duration::ZERO);
            let (answers, ()) = load.during(&instances, async |running| running.more(either(1500, 20_000)).await).await;
            report.exactly("checks failed", answers.failed(), 0);
            report.exactly("allowed", answers.allowed(), 1000);
            report.tell("denied", answers.denied());
        })
        .await;
    }
}

/// The crowd is for user 0; the others come at the same pace, with it and without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_busy_subject_does_not_slow_the_others() {
    row("the others' p99 is at most twice what it is without", "one subject is 90 % of the load", async |report| {
        let place = Kind::Node.start();
        let quotad = place.service().start().await;
        back_on_redis(&quotad, 20, Instant::now()).await;
        let lasts = either(Duration::from_secs(1), Duration::from_secs(15));
        let others = |callers: u64| {
            let load = Load::of(callers).resting(Duration::from_millis(8));
            load.choosing(
                move |caller, turn| if caller < callers / 10 * 9 { 0 } else { 1 + ((caller * 31 + turn) % 19) as u32 },
            )
        };
        let even = Load::of(40).resting(Duration::from_millis(8)).for_users(20);
        let (before, ()) = even.during(&[&quotad], async |_| tokio::time::sleep(lasts).await).await;
        let (with, ()) = others(40).during(&[&quotad], async |_| tokio::time::sleep(lasts).await).await;
        let (p99_before, p99_with) = (before.p99_ms(), with.only(|answered| answered.user != 0).p99_ms());
        report.tell("p99 of an even load", format!("{p99_before:.1} ms"));
        report.tell("with it", format!("{p99_with:.1} ms"));
        report.tell("its part", format!("{} %", with.of(0).count() * 100 / with.count()));
        report.at_most("ratio", p99_with / p99_before, "", Bound { short: 50.0, full: 2.0 });
        report.exactly("checks failed", before.failed() + with.failed(), 0);
    })
    .await;
}

/// One check may wait, and a frozen Redis holds it: the others are told to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mailbox_is_503_and_recovers() {
    row("503 with Retry-After, memory flat, recovers", "mailbox full", async |report| {
        let redis = RedisServer::start();
        let start = unlimited(Start::new().redis(&redis)).set("SHARDS", "1").set("SHARD_MAILBOX", "1");
        let start = start.set("REDIS_DEADLINE_MS", "500").set("RESERVED_BLOCKS", "false");
        let quotad = start.start().await;
        back_on_redis(&quotad, 1, Instant::now()).await;
        let memory = resident_mib(&quotad);
        let (mut shed, mut answered) = (0, 0);
        for _ in 0..either(1, 20) {
            redis.stop();
            let bodies = (0..40).map(|n| json!({"user_id": n.to_string()}));
            let answers = join_all(bodies.map(|body| quotad.check(body))).await;
            assert!(answers.iter().all(|answer| [200, 503].contains(&answer.status)));
            let overloaded: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 503).collect();
            answered += answers.len() - overloaded.len();
            shed += overloaded.len();
            for answer in overloaded {
                crate::errors::assert_problem(answer, 503);
                assert!(answer.number("retry-after") >= 1);
            }
            redis.cont();
            back_on_redis(&quotad, 1, Instant::now()).await;
        }
        assert!(shed > 0 && answered > 0);
        report.tell("told to come again", shed);
        report.tell("answered", answered);
        report.at_most(
            "memory grew by",
            (resident_mib(&quotad) - memory).max(0.0),
            "MiB",
            Bound { short: 64.0, full: 16.0 },
        );
        // An answer gives its place back before the caller can ask again: one after another is never too many.
        let (answers, ()) =
            Load::of(1).resting(Duration::ZERO).during(&[&quotad], async |running| running.more(200).await).await;
        report.exactly("told so afterwards", answers.failed(), 0);
        charged_exactly(report, &quotad, &answers).await;
    })
    .await;
}
