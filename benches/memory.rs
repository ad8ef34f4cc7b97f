//! What a subject costs in memory, embedded: the growth of the process over 100,000 subjects of each algorithm.

#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::arithmetic_side_effects, reason = "a bench may overflow")]

use quotad::counters::table::CounterTable;
use quotad::domain::concurrency;
use quotad::domain::cost::{Items, Multiplier};
use quotad::domain::decide;
use quotad::domain::lease::{Lease, LeaseKind};
use quotad::domain::limit::{Algorithm, Limit, LimitName, Window};
use quotad::domain::plan::Plan;
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::{Tier, TierName};
use quotad::domain::time::{Period, Timestamp};

const SUBJECTS: usize = 100_000;
const NOW: Timestamp = Timestamp::from_seconds(1_795_766_400);

/// Bytes of this process that stand in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// Charges every subject so often, and keeps the table.
fn table(plan: &Plan, charges: usize, leases: u128) -> CounterTable {
    let mut table = CounterTable::new(SUBJECTS);
    let one = Multiplier::ONE.times(Items::ONE);
    for number in 0..SUBJECTS {
        let subject = Subject::User(UserId::parse(&format!("user-{number}")).expect("an id"));
        let state = table.charge_to(&subject, &plan.tier, NOW);
        for charge in 0..charges {
            let later = Period::from_micros(i64::try_from(charge).expect("small"));
            decide::charge(state, plan, one, NOW.saturating_add(later));
        }
        for secret in 0..leases {
            let expires_at = NOW.saturating_add(Period::from_seconds(60));
            concurrency::take(state, Lease { kind: LeaseKind::Request, secret, expires_at }, NOW);
        }
    }
    table
}

fn main() {
    let period = Period::from_seconds(3600);
    let log = Algorithm::SlidingWindowLog { period };
    let mut kept = Vec::new();
    println!("{:<34} {:>16}", "a subject with", "bytes, embedded");
    for (name, algorithm, limits, charges, leases) in [
        ("1 fixed window", Algorithm::FixedWindow { period }, 1, 1, 0),
        ("2 fixed windows", Algorithm::CalendarWindow(Window::Day), 2, 1, 0),
        ("8 fixed windows", Algorithm::FixedWindow { period }, 8, 1, 0),
        ("1 sliding counter", Algorithm::SlidingWindowCounter { period }, 1, 1, 0),
        ("1 token bucket", Algorithm::TokenBucket { period, burst: None }, 1, 1, 0),
        ("1 sliding log of 1 entry", log, 1, 1, 0),
        ("1 sliding log of 100 entries", log, 1, 100, 0),
        ("2 fixed windows and 5 leases", Algorithm::CalendarWindow(Window::Day), 2, 1, 5),
    ] {
        let names = (0..limits).filter_map(|number| LimitName::parse(&format!("limit-{number}")).ok());
        let limits = names.map(|name| Limit { name, algorithm, requests: 10_000, enforce: true }).collect();
        let plan = Plan::of_tier(&Tier { limits, ..Tier::hourly_and_daily(TierName::free(), 0, 0, 1) });
        let before = resident();
        kept.push(table(&plan, charges, leases));
        println!("{name:<34} {:>16}", (resident() - before) / SUBJECTS);
    }
}
