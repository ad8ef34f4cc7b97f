//! The line to Redis fails in all the ways that a line can: nobody is charged twice, nobody gets another's answer, no
//! answer takes longer than the deadline, and it heals.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers::{Answers, millis};
use super::load::{Load, name};
use super::place::{BACK, back_on_redis, charged, charged_exactly, resident_mib, unlimited};
use super::report::{Bound, Report, row};
use super::{deadline_ms, either, over_the_deadline, start_within_deadline};
use crate::support::answer::Answer;
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;
use crate::support::tcp_proxy::{Replies, TcpProxy};
use crate::support::until;

/// For a line that has to be found dead first; the rest is for a busy machine.
const FOUND_WITHIN: Duration = Duration::from_secs(8);

/// What the memory of the service may grow by, however long Redis is slow.
const GROWTH: Bound = Bound { short: 64.0, full: 32.0 };

const ONCE: &str = "what is asked is charged once, whatever becomes of the answer";
const BOUNDED: &str = "every answer within the deadline, no storm of connections, memory bounded";

struct Line {
    redis: RedisServer,
    proxy: TcpProxy,
    quotad: Quotad,
}

/// A service of one shard whose only way to Redis is the proxy. Blocks would answer in its place.
async fn line() -> Line {
    line_with(Start::new().set("SHARDS", "1").set("RESERVED_BLOCKS", "false")).await
}

async fn line_with(start: Start) -> Line {
    let redis = RedisServer::start();
    let proxy = TcpProxy::before(redis.port()).await;
    let start = unlimited(start.redis_at(&format!("redis://127.0.0.1:{}/0", proxy.port())));
    let quotad = start_within_deadline(start).start().await;
    back_on_redis(&quotad, 1, Instant::now()).await;
    Line { redis, proxy, quotad }
}

impl Line {
    async fn check(&self, user: u32) -> Answer {
        let answer = self.quotad.check(json!({"user_id": name(user)})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer
    }

    /// What Redis itself has charged; asked without the proxy's faults.
    async fn charged(&self, user: u32) -> u64 {
        self.proxy.set(Replies::Pass);
        charged(&self.quotad, user).await
    }

    /// Load while the line is as `begin` makes it, and after `end`.
    async fn bounded(&self, report: &mut Report, begin: impl FnOnce(&Self), end: impl FnOnce(&Self)) {
        let load = Load::of(8).for_users(20);
        let (before, ()) = load.during(&[&self.quotad], async |running| running.more(400).await).await;
        let (memory, connections) = (resident_mib(&self.quotad), self.proxy.accepted());
        let lasts = either(Duration::from_millis(800), Duration::from_secs(20));
        let (answers, back) = load
            .during(&[&self.quotad], async |running| {
                begin(self);
                tokio::time::sleep(lasts).await;
                let grown = (resident_mib(&self.quotad) - memory).max(0.0);
                report.at_most("memory grew by", grown, "MiB", GROWTH);
                end(self);
                let back = back_on_redis(&self.quotad, 20, Instant::now()).await;
                running.more(100).await;
                back
            })
            .await;
        report.exactly("checks failed", answers.failed(), 0);
        over_the_deadline(report, &answers);
        let rate = (self.proxy.accepted() - connections) as f64 / lasts.as_secs_f64();
        report.at_most("connections made a second", rate, "", Bound { short: 12.0, full: 4.0 });
        report.at_most("back on Redis after", back, "ms", BACK);
        charged_exactly(report, &self.quotad, &Answers([before.0, answers.0].concat())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_late_by_30_ms_still_decides() {
    row(BOUNDED, "each answer 30 ms late", async |report| {
        let line = line().await;
        let late = |line: &Line| line.proxy.set(Replies::Late(Duration::from_millis(30)));
        line.bounded(report, late, |line| line.proxy.set(Replies::Pass)).await;
    })
    .await;
}

/// Not asked any more, and its line is not thrown away for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_later_than_the_deadline_bounds_no_answer() {
    row(BOUNDED, "each answer later than the deadline, by 150 ms", async |report| {
        let line = line().await;
        let late = Replies::Late(Duration::from_millis(u64::from(deadline_ms()) + 150));
        line.bounded(report, |line| line.proxy.set(late), |line| line.proxy.set(Replies::Pass)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_freezes_bounds_no_answer() {
    row(BOUNDED, "SIGSTOP", async |report| {
        let line = line().await;
        line.bounded(report, |line| line.redis.stop(), |line| line.redis.cont()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_cut_one_way_bounds_no_answer() {
    for (provoked, swallow) in [("the line cut one way: nothing arrives", false), ("nothing comes back", true)] {
        row(BOUNDED, provoked, async |report| {
            let line = line().await;
            let begin = |line: &Line| match swallow {
                true => line.proxy.set(Replies::Swallowed),
                false => line.proxy.hold_requests(true),
            };
            let end = |line: &Line| {
                line.proxy.set(Replies::Pass);
                line.proxy.hold_requests(false);
            };
            line.bounded(report, begin, end).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_line_is_replaced() {
    row("it is found dead and replaced; every answer within the deadline", "half-open line", async |report| {
        let line = line().await;
        let (mut slowest, mut back): (f64, f64) = (0.0, 0.0);
        let turns = either(2, 20);
        for _ in 0..turns {
            line.check(1).await;
            line.proxy.go_half_open();
            for _ in 0..3 {
                let begun = Instant::now();
                assert_eq!(line.check(1).await.json["source"], "fallback");
                slowest = slowest.max(millis(begun.elapsed()));
            }
            back = back.max(back_on_redis(&line.quotad, 2, Instant::now()).await);
        }
        let over = (slowest - f64::from(deadline_ms())).max(0.0);
        report.at_most("slowest answer over the deadline", over, "ms", Bound { short: 2000.0, full: 10.0 });
        report.at_most("back on Redis after", back, "ms", BACK);
        report.exactly("charged", line.charged(1).await, 4 * turns);
    })
    .await;
}

/// Nobody asks anything, and yet the line is found dead: the next check does not have to wait for the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_dies_while_nobody_asks_is_found() {
    row("it is found dead before the next check", "half-open line, nobody asks", async |report| {
        let line = line().await;
        let before = line.proxy.accepted();
        line.proxy.go_half_open();
        let found = async || (line.proxy.accepted() > before).then_some(());
        let ((), took) = until(FOUND_WITHIN, "a new line", found).await;
        report.at_most("replaced after", millis(took), "ms", Bound { short: 8000.0, full: 3000.0 });
        back_on_redis(&line.quotad, 1, Instant::now()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_is_lost_after_the_charge_is_charged_once() {
    row(ONCE, "the line is cut in the place of a reply", async |report| {
        let line = line().await;
        let (turns, mut asked) = (either(15, 200), 0);
        for _ in 0..turns {
            line.proxy.set(Replies::Lost);
            for _ in 0..3 {
                line.check(0).await;
                asked += 1;
            }
            line.proxy.set(Replies::Pass);
            back_on_redis(&line.quotad, 1, Instant::now()).await;
            line.check(0).await;
            asked += 1;
        }
        report.tell("cuts", turns);
        report.exactly("units charged twice or not at all", line.charged(0).await.abs_diff(asked), 0);
    })
    .await;
}

/// Blocks too are charged once, given back once, and what is granted out of them is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_are_lost_under_load_are_charged_once() {
    row(ONCE, "replies lost, swallowed or never asked for, under load with reserved blocks", async |report| {
        let line = line_with(Start::new()).await;
        let faults = [Replies::Lost, Replies::Swallowed, Replies::Garbage];
        let (answers, ()) = Load::of(8)
            .for_users(4)
            .during(&[&line.quotad], async |running| {
                for turn in 0..either(6, 60) {
                    line.proxy.set(faults[turn % faults.len()]);
                    running.more_by_fallback(20).await;
                    line.proxy.set(Replies::Pass);
                    line.proxy.cut();
                    back_on_redis(&line.quotad, 4, Instant::now()).await;
                    running.more(100).await;
                }
            })
            .await;
        report.exactly("checks failed", answers.failed(), 0);
        charged_exactly(report, &line.quotad, &answers).await;
    })
    .await;
}

/// The line breaks again while Redis is told what was granted: it is told once, however often the telling fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_is_added_once_though_the_answer_is_lost() {
    row(ONCE, "the answer to what is owed is lost too", async |report| {
        let line = line().await;
        let turns = either(1, 10);
        for _ in 0..turns {
            line.redis.stop();
            for _ in 0..5 {
                line.check(0).await;
            }
            line.proxy.set(Replies::Lost);
            line.redis.cont();
            tokio::time::sleep(Duration::from_secs(1)).await;
            line.check(0).await;
            line.proxy.set(Replies::Pass);
            back_on_redis(&line.quotad, 1, Instant::now()).await;
        }
        report.exactly("charged", line.charged(0).await, 6 * turns);
    })
    .await;
}

const OWN: &str = "everybody gets their own answer, and the right one";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_come_byte_by_byte_are_the_same() {
    row(OWN, "replies in slices of one byte", async |report| {
        let line = line().await;
        line.proxy.set(Replies::Sliced);
        let rounds = either(2, 50);
        for round in 0..rounds {
            let users: Vec<Value> = (0..40).map(|n| json!({"user_id": name(n % 20)})).collect();
            let answer = line.quotad.post("/api/v2/check/batch", json!({"checks": users})).await;
            let results = answer.json["results"].as_array().expect("results");
            for (n, result) in results.iter().enumerate() {
                assert_eq!(result["subject"], format!("user:{}", name(n as u32 % 20)));
                assert_eq!(result["limits"][0]["used"], 2 * round + 1 + n / 20);
            }
        }
        report.tell("answers", rounds * 40);
    })
    .await;
}

/// Each caller looks whose answer it got (`load.rs`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_no_ones_answer() {
    row(OWN, "garbage in the place of replies, under load", async |report| {
        let line = line().await;
        let (answers, ()): (Answers, ()) = Load::of(16)
            .for_users(50)
            .during(&[&line.quotad], async |running| {
                for _ in 0..either(3, 60) {
                    line.proxy.set(Replies::Garbage);
                    running.more_by_fallback(20).await;
                    line.proxy.set(Replies::Sliced);
                    running.more(100).await;
                }
            })
            .await;
        line.proxy.set(Replies::Pass);
        report.exactly("checks failed", answers.failed(), 0);
        charged_exactly(report, &line.quotad, &answers).await;
    })
    .await;
}

/// The server behind the line is another at once, and an empty one: what was counted is told it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_behind_the_line_is_told_what_was_counted() {
    row("what was counted is counted still", "another, empty server behind the line", async |report| {
        let line = line().await;
        let (answers, ()) = Load::of(8)
            .for_users(20)
            .during(&[&line.quotad], async |running| {
                running.more(200).await;
                let other = RedisServer::start();
                line.proxy.lead_to(other.port());
                running.more(200).await;
                line.proxy.lead_to(line.redis.port());
                running.more(200).await;
            })
            .await;
        report.exactly("checks failed", answers.failed(), 0);
        let mut missing = 0;
        for user in 0..20 {
            missing += answers.of(user).allowed().saturating_sub(line.charged(user).await);
        }
        report.exactly("granted and not charged", missing, 0);
    })
    .await;
}

/// The health page knows how long Redis takes to answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_shows_the_ping() {
    let line = line().await;
    line.check(0).await;
    let health = line.quotad.get("/health").await;
    let ping = health.json["redis"]["ping_micros"].as_u64();
    assert!(ping.is_some_and(|micros| micros > 0 && micros < 1_000_000), "{}", health.text);
}
