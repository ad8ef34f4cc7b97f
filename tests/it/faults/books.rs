//! The database goes away, commits lose their answers, the service is stopped and killed: history is what was granted.

use std::time::{Duration, Instant};

use super::answers::{Answers, millis};
use super::either;
use super::load::Load;
use super::place::{Kind, back_on_redis, resident_mib, unlimited, well};
use super::report::{Bound, Report, row};
use crate::support::postgres_server;
use crate::support::quotad::{Quotad, Start};
use crate::support::tcp_proxy::{Fate, TcpProxy};
use crate::support::until;

const USERS: u32 = 40;

const WITHIN: Duration = Duration::from_secs(30);

/// What the books say was allowed to everybody today.
async fn persisted(quotad: &Quotad) -> u64 {
    let report = quotad.get("/api/v2/admin/quotas/usage?period=day").await;
    report.json["totals"]["requests"].as_u64().unwrap_or_else(|| panic!("no report: {}", report.text))
}

async fn persisted_exactly(report: &mut Report, quotad: &Quotad, answers: &Answers) {
    report.tell("checks", answers.count());
    let (persisted, allowed) = (persisted(quotad).await, answers.allowed());
    report.exactly("granted and not in the books", allowed.saturating_sub(persisted), 0);
    report.exactly("in the books and not granted", persisted.saturating_sub(allowed + answers.unknown()), 0);
    if answers.unknown() > 0 {
        report.tell("cut off without an answer", answers.unknown());
        report.tell("of these in the books", persisted.saturating_sub(allowed));
    }
}

/// A service whose line to PostgreSQL can be broken.
async fn behind_a_proxy(flush_interval_ms: &str) -> (TcpProxy, Quotad) {
    let proxy = TcpProxy::before(postgres_server::port()).await;
    let url = postgres_server::url_through(&postgres_server::database(), &proxy);
    let start = unlimited(Start::new()).postgres(&url).set("FLUSH_INTERVAL_MS", flush_interval_ms);
    (proxy, start.start().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_away_for_minutes() {
    let promise = "checks unaffected (p99 at most 1.05 times), memory bounded, nothing lost afterwards";
    row(promise, "PostgreSQL away under load", async |report| {
        let (proxy, quotad) = behind_a_proxy("200").await;
        let (before, away) = either((10, 60), (120, 600));
        let load = Load::of(8).for_users(2000).resting(Duration::from_millis(5));
        let (with, ()) = load.during(&[&quotad], async |_| tokio::time::sleep(Duration::from_secs(before)).await).await;
        proxy.refuse(true);
        let script = async |_: &_| {
            tokio::time::sleep(Duration::from_secs(away / 5)).await;
            let early = resident_mib(&quotad);
            tokio::time::sleep(Duration::from_secs(away - away / 5)).await;
            resident_mib(&quotad) - early
        };
        let (without, growth) = load.during(&[&quotad], script).await;
        let health = quotad.get("/health").await;
        let lag = health.json["database"]["lag_seconds"].as_f64().unwrap_or_default();
        report.tell("seconds away", away);
        report.exactly("health is silent about it", u64::from(lag < away as f64 / 2.0), 0);
        proxy.refuse(false);
        well(&quotad).await;
        report.exactly("checks failed", with.failed() + without.failed(), 0);
        report.tell("p99 with it", format!("{:.2} ms", with.p99_ms()));
        report.at_most(
            "p99 without, by p99 with",
            without.p99_ms() / with.p99_ms(),
            "",
            Bound { short: 5.0, full: 1.05 },
        );
        report.at_most(
            "memory grew in the last four fifths by",
            growth.max(0.0),
            "MiB",
            Bound { short: 32.0, full: 32.0 },
        );
        persisted_exactly(report, &quotad, &with.and(without)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_whose_answers_are_lost_count_once() {
    row("usage persisted is usage admitted, exactly", "COMMIT answered into a cut line", async |report| {
        let (proxy, quotad) = behind_a_proxy("10").await;
        let load = Load::of(4).for_users(USERS);
        let times: u32 = either(20, 200);
        let (answers, ()) = load
            .during(&[&quotad], async |running| {
                for turn in 1..=times {
                    proxy.at_next("COMMIT", Fate::LosesReply);
                    let failures = async || quotad.metric("quotad_usage_flush_failures_total").await;
                    until(WITHIN, "a lost answer", async || (failures().await >= f64::from(turn)).then_some(())).await;
                    // Else what is lost next is the commit that finds out about this one.
                    well(&quotad).await;
                    running.more(5).await;
                }
            })
            .await;
        report.tell("commits whose answers were lost", times);
        report.exactly("checks failed", answers.failed(), 0);
        well(&quotad).await;
        persisted_exactly(report, &quotad, &answers).await;
    })
    .await;
}

/// Embedded, with SQLite. Each life is judged by itself: what it granted, less the last interval, is in the books.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_is_killed_again_and_again() {
    let promise = "at most one flush interval of history missing, never too much; counters are not reset";
    row(promise, "kill -9 of the service under load, embedded", async |report| {
        const INTERVAL: Duration = Duration::from_millis(100);
        // The flush takes time as well; on a busy machine much of it.
        let slack = Duration::from_millis(either(2000, 200));
        let folder = tempfile::tempdir().expect("a folder");
        let start = unlimited(Start::new()).folder(folder.path()).set("FLUSH_INTERVAL_MS", "100");
        let load = Load::of(4).for_users(USERS).through_ends();
        let (times, mut quotad, mut known) = (either(3, 20), start.start().await, 0);
        let (mut granted, mut missing, mut too_much, mut early, mut reset) = (0, 0, 0, 0, 0);
        for _ in 0..times {
            let running = load.start(&[&quotad]);
            running.more(either(200, 1500)).await;
            let killed = Instant::now();
            quotad.kill();
            let answers = running.end().await;
            quotad = start.start().await;
            let kept = persisted(&quotad).await - known;
            let due = answers.only(|answered| answered.at + answered.took + INTERVAL + slack < killed).allowed();
            granted += answers.allowed();
            missing += answers.allowed().saturating_sub(kept);
            early += due.saturating_sub(kept);
            too_much += kept.saturating_sub(answers.allowed() + answers.unknown());
            known += kept;
            let mut counted = 0;
            for user in 0..USERS {
                counted += quotad.quota(&super::load::name(user)).await.field("requests_day_used");
            }
            reset += known.saturating_sub(counted);
        }
        report.tell("times killed", times);
        report.tell("granted", granted);
        report.tell("of these in the last interval and missing", missing);
        report.exactly("granted before it and missing", early, 0);
        report.exactly("in the books and not granted", too_much, 0);
        report.exactly("in the books and not counted any more", reset, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_is_stopped_again_and_again() {
    let promise = "in-flight answered, all flushed, exit 0 within 10 s";
    row(promise, "SIGTERM under load, embedded, a flush a minute", async |report| {
        let folder = tempfile::tempdir().expect("a folder");
        let start = unlimited(Start::new()).folder(folder.path()).set("FLUSH_INTERVAL_MS", "60000");
        let load = Load::of(8).for_users(USERS).through_ends();
        let (times, mut quotad, mut all, mut slowest) = (either(2, 20), start.start().await, Answers::default(), 0_f64);
        for _ in 0..times {
            let running = load.start(&[&quotad]);
            running.more(either(200, 1500)).await;
            let told = Instant::now();
            tokio::task::spawn_blocking(move || quotad.stop()).await.expect("it ends with 0 within 10 s");
            slowest = slowest.max(millis(told.elapsed()));
            all = all.and(running.end().await);
            quotad = start.start().await;
        }
        report.tell("times stopped", times);
        report.tell("slowest end", format!("{slowest:.0} ms"));
        persisted_exactly(report, &quotad, &all).await;
    })
    .await;
}

/// Two instances on one Redis and one PostgreSQL; Redis goes away now and then, and each instance is stopped in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_what_clients_were_told() {
    let promise = "the sum over history is the sum of what clients were allowed";
    row(promise, "two instances stopped in turn, through fallback and recovery", async |report| {
        let place = Kind::Node.start();
        let start = place.service().postgres(&postgres_server::database());
        let (rounds, most) = (either(3, 20), either(6_000, 100_000));
        let load = Load::of(8).for_users(USERS).through_ends();
        let (mut one, mut other, mut all, mut place) =
            (start.start().await, start.start().await, Answers::default(), place);
        for round in 0..rounds {
            let running = load.start(&[&one, &other]);
            running.more(most / rounds / 3).await;
            place.kill();
            running.more_by_fallback(most / rounds / 3).await;
            place.start_again();
            running.more(most / rounds / 3).await;
            // As often while Redis is away from it as after it is back.
            if round % 2 == 0 {
                back_on_redis(&one, USERS, Instant::now()).await;
            }
            tokio::task::spawn_blocking(move || one.stop()).await.expect("it ends");
            all = all.and(running.end().await);
            (one, other) = (other, start.start().await);
        }
        report.tell("times stopped", rounds);
        report.tell("by the fallback", all.by(super::answers::Source::Fallback).count());
        tokio::task::spawn_blocking(move || one.stop()).await.expect("it ends");
        persisted_exactly(report, &other, &all).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_database_refuses_is_set_aside_alone() {
    row("it alone is set aside and reported; the rest lands", "a row the database refuses", async |report| {
        let url = postgres_server::database();
        let quotad = unlimited(Start::new()).postgres(&url).start().await;
        execute(&url, "ALTER TABLE usage ADD CONSTRAINT poison CHECK (subject <> 'user:user-7')").await;
        let load = Load::of(4).for_users(USERS);
        let (answers, ()) = load.during(&[&quotad], async |running| running.more(either(500, 20_000)).await).await;
        let others = answers.only(|answered| answered.user != 7);
        persisted_exactly(report, &quotad, &others).await;
        let health = quotad.get("/health").await;
        let set_aside = health.json["database"]["set_aside_rows"].as_u64().unwrap_or_default();
        report.tell("rows set aside", set_aside);
        report.exactly("rows refused and not reported", u64::from(set_aside == 0), 0);
        report.exactly("users named in the log", u64::from(quotad.log().contains("user-7")), 0);
    })
    .await;
}

/// The newer one has expanded the tables: columns with a default, tables of its own, a migration that this one has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_migrate_at_once_and_beside_a_newer_one() {
    row("both work", "two instances migrate at once; tables of a newer binary", async |report| {
        let url = postgres_server::empty_database();
        let start = unlimited(Start::new()).postgres(&url);
        let (one, other) = futures_util::future::join(start.start(), start.start()).await;
        let newer = "ALTER TABLE usage ADD COLUMN seen_by_newer bigint NOT NULL DEFAULT 0; \
             CREATE TABLE of_newer (id bigint PRIMARY KEY); \
             INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000001')";
        execute(&url, newer).await;
        let older = start.start().await;
        let load = Load::of(4).for_users(USERS);
        let all = [&one, &other, &older];
        let (answers, ()) = load.during(&all, async |running| running.more(either(500, 5_000)).await).await;
        for quotad in all {
            // Each flushes what it has itself.
            persisted(quotad).await;
        }
        report.exactly("checks failed", answers.failed(), 0);
        persisted_exactly(report, &older, &answers).await;
    })
    .await;
}

async fn execute(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("a session");
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.expect("it is done");
    drop(client);
    connection.await.expect("it ends").expect("it ends well");
}
