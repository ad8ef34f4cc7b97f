//! A year of history, and how long each query of an administrator takes over it.
//!
//! Every user uses something on each of 365 days: QUOTAD_BENCH_USERS (100,000) rows a day, spread over its hours, flushed
//! a day at a time. The clock of the bench stands in the middle of the last hour, and the sums go to its start.

#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::arithmetic_side_effects, reason = "a bench may overflow")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use quotad::db::{Database, DbError, FlushBatch};
use quotad::domain::report::{Granularity, HistoryRange, ReportOrder};
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::TierName;
use quotad::domain::time::Timestamp;
use quotad::domain::usage::{Usage, UsageKey};

#[path = "support/databases.rs"]
mod databases;

const DAYS: i64 = 365;
const ROWS: usize = 100_000;
/// The midnight after the year.
const END: i64 = 1_795_737_600;
const TRIES: usize = 5;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_seconds(END + hours * 3600)
}

fn user(number: i64) -> UserId {
    UserId::parse(&format!("user-{number:06}")).expect("an id")
}

fn row(number: i64, day: i64, hour: i64) -> (UsageKey, Usage) {
    let tier = ["pro", "enterprise"].get(usize::try_from(number % 10).expect("positive")).unwrap_or(&"free");
    let tier = TierName::parse(tier).expect("a name");
    let amount = |factor: i64, most: i64| (number * factor + day * 13).rem_euclid(most).unsigned_abs();
    let usage = Usage { requests: 1 + amount(7919, 500), cost: 1 + amount(104_729, 900), denied: amount(31, 7) };
    (UsageKey { subject: Subject::User(user(number)), hour: at(hour), tier }, usage)
}

/// Fills the year, and says how many rows it has.
async fn fill(database: &Database, users: i64) -> usize {
    let (mut sequence, mut rows, mut filled) = (0, Vec::new(), 0);
    for day in -DAYS..0 {
        for hour in 0..24 {
            // Another hour for each user each day.
            let first = (hour + day).rem_euclid(24);
            rows.extend(
                (0..users).filter(|number| number % 24 == first).map(|number| row(number, day, day * 24 + hour)),
            );
            if rows.len() >= ROWS || (day, hour) == (-1, 23) {
                sequence += 1;
                filled += rows.len();
                let usage = std::mem::take(&mut rows);
                let batch = FlushBatch { instance: "year".to_owned(), sequence, usage, ..FlushBatch::default() };
                database.flush(&Arc::new(batch), at(0)).await.expect("a flush that lands");
            }
        }
    }
    filled
}

/// The shortest and the longest of some tries, after one that warms up.
async fn times<T>(asked: impl AsyncFn() -> Result<T, DbError>) -> (Duration, Duration) {
    asked().await.expect("an answer");
    let mut times = Vec::new();
    for _ in 0..TRIES {
        let started = Instant::now();
        asked().await.expect("an answer");
        times.push(started.elapsed());
    }
    (times.iter().min().copied().unwrap_or_default(), times.iter().max().copied().unwrap_or_default())
}

async fn measure(database: &Database, users: i64) {
    let print = |name: &str, (least, most): (Duration, Duration)| {
        println!(
            "| {} | {name} | {:.1} | {:.1} |",
            database.kind(),
            least.as_secs_f64() * 1e3,
            most.as_secs_f64() * 1e3
        );
    };
    for (period, since) in [("hour", at(-1)), ("day", at(-24)), ("30d", at(-30 * 24))] {
        for order in ReportOrder::ALL {
            let times = times(async || database.usage_report(since, order, 20).await).await;
            print(&format!("usage, period={period}, by={}", order.as_str()), times);
        }
    }
    print(
        "usage, period=30d, top=1000",
        times(async || database.usage_report(at(-720), ReportOrder::Cost, 1000).await).await,
    );
    let (day, hour) = (Granularity::Day, Granularity::Hour);
    let range = |granularity, days: i64| HistoryRange { granularity, from: at(-24 * days), to: at(0), limit: 10_000 };
    for (name, range) in
        [("30 days", range(day, 30)), ("a year by day", range(day, DAYS)), ("a year by hour", range(hour, DAYS))]
    {
        let subject = Subject::User(user(users / 2));
        print(&format!("a user's history, {name}"), times(async || database.history(&subject, range).await).await);
        print(&format!("the system's history, {name}"), times(async || database.system_history(range).await).await);
    }
    let middle = user(users / 2);
    print("users, a page", times(async || database.list_users("", 100, Some(&middle)).await).await);
    print("users, search for one", times(async || database.list_users("99999", 100, None).await).await);
    print("users, search for none", times(async || database.list_users("nobody", 100, None).await).await);
}

#[actix::main]
async fn main() {
    let users = std::env::var("QUOTAD_BENCH_USERS").map_or(100_000, |text| text.parse().expect("a number"));
    for home in databases::all().await {
        let database = &home.database;
        let started = Instant::now();
        let rows = fill(database, users).await;
        let filled = started.elapsed().as_secs_f64();
        println!("\n{}: {rows} rows filled in {filled:.0} s", database.kind());
        let started = Instant::now();
        database.roll_up(at(-2)).await.expect("sums");
        println!("sums of the whole year in {:.1} s", started.elapsed().as_secs_f64());
        let started = Instant::now();
        database.roll_up(at(-1)).await.expect("sums");
        println!("sums of one more hour in {:.2} s\n", started.elapsed().as_secs_f64());
        println!("| database | query | ms, least | ms, most |\n|---|---|---:|---:|");
        measure(database, users).await;
    }
}
