//! How fast usage reaches the database: batches as the persistence actor sends them, one after another.

#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::arithmetic_side_effects, reason = "a bench may overflow")]

use std::sync::Arc;
use std::time::Instant;

use quotad::db::{Database, FlushBatch};
use quotad::domain::limit::SlotId;
use quotad::domain::state::{Slot, SubjectState};
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::TierName;
use quotad::domain::time::{Period, Timestamp};
use quotad::domain::usage::{Usage, UsageKey};

#[path = "support/databases.rs"]
mod databases;

/// As many rows as a batch of the actor has at most.
const ROWS: usize = 20_000;
const BATCHES: usize = 50;
const HOUR: Timestamp = Timestamp::from_seconds(1_795_766_400);

/// What the rows of a batch are.
#[derive(Debug, Clone, Copy)]
enum Rows {
    /// Usage of subjects that the hour has not seen.
    New,
    /// More usage of subjects that the hour has seen.
    Known,
    /// The same of a few among many: nearly each row is on a page of its own.
    Scattered,
    /// Usage and counters of the same subjects, half and half.
    WithCounters,
}

fn subject(number: usize) -> Subject {
    Subject::User(UserId::parse(&format!("user-{number}")).expect("an id"))
}

fn batch(rows: Rows, number: usize) -> FlushBatch {
    let (hour, first, subjects) = match rows {
        Rows::New => (HOUR, number * ROWS, ROWS),
        Rows::Scattered => (HOUR, 0, ROWS),
        Rows::Known => (HOUR.saturating_add(Period::from_seconds(3600)), 0, ROWS),
        Rows::WithCounters => (HOUR.saturating_add(Period::from_seconds(7200)), 0, ROWS / 2),
    };
    let key = |number| UsageKey { subject: subject(number), hour, tier: TierName::free() };
    let numbers = first..first + subjects;
    let usage = numbers.clone().map(|number| (key(number), Usage { requests: 3, cost: 5, denied: 1 })).collect();
    let whole_at = HOUR.saturating_add(Period::from_seconds(86_400));
    let slots = [SlotId::from_raw(7), SlotId::from_raw(8)].map(|id| Slot { id, whole_at, a: 40, b: 7, c: 0 });
    let state: SubjectState = slots.into_iter().collect();
    let counters = match rows {
        Rows::WithCounters => numbers.map(|number| (subject(number), Some(state.clone()))).collect(),
        Rows::New | Rows::Known | Rows::Scattered => Vec::new(),
    };
    let sequence = i64::try_from(number + 1).expect("small");
    FlushBatch { instance: format!("{rows:?}"), sequence, usage, counters, overflow: Vec::new() }
}

/// Rows a second over all batches.
async fn rate(database: &Database, rows: Rows) -> f64 {
    let batches: Vec<_> = (0..BATCHES).map(|number| Arc::new(batch(rows, number))).collect();
    let started = Instant::now();
    for batch in &batches {
        database.flush(batch, HOUR).await.expect("a flush that lands");
    }
    (ROWS * BATCHES) as f64 / started.elapsed().as_secs_f64()
}

#[actix::main]
async fn main() {
    println!("| rows/s | new usage | more usage | a few among a million | usage and counters |");
    for home in databases::all().await {
        let database = &home.database;
        let mut line = format!("| {} |", database.kind());
        for rows in [Rows::New, Rows::Known, Rows::Scattered, Rows::WithCounters] {
            line += &format!(" {:.0} |", rate(database, rows).await);
        }
        println!("{line}");
    }
}
