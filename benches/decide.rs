//! What deciding costs in memory: the rule by itself, and with the table of a shard around it.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use quotad::counters::table::CounterTable;
use quotad::domain::cost::{Cost, Items, LIMIT_MAX, Multiplier};
use quotad::domain::decide;
use quotad::domain::limit::{Algorithm, LOG_MAX, Limit, LimitName, Window};
use quotad::domain::plan::Plan;
use quotad::domain::state::SubjectState;
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::{Tier, TierName};
use quotad::domain::time::{Period, Timestamp};

const NOW: Timestamp = Timestamp::from_seconds(1_795_766_400);

/// So many limits of one algorithm, none of which is ever full.
fn plan(algorithm: Algorithm, limits: usize) -> Plan {
    let requests = if let Algorithm::SlidingWindowLog { .. } = algorithm { LOG_MAX } else { LIMIT_MAX };
    let names = (0..limits).filter_map(|number| LimitName::parse(&format!("limit-{number}")).ok());
    let limits = names.map(|name| Limit { name, algorithm, requests, enforce: true }).collect();
    Plan::of_tier(&Tier { limits, ..Tier::hourly_and_daily(TierName::free(), 0, 0, 1) })
}

/// So many limits of days that begin at a local time.
fn scheduled(limits: usize) -> Plan {
    let schedule = r#"{"day": {"at": "06:30", "timezone": "Europe/Berlin"}}"#;
    let names = (0..limits).filter_map(|number| LimitName::parse(&format!("limit-{number}")).ok());
    let limits = names.map(|name| Limit::fixed(name, Window::Day, LIMIT_MAX)).collect();
    let tier = Tier::hourly_and_daily(TierName::free(), 0, 0, 1);
    Plan::of_tier(&Tier { limits, reset_schedule: serde_json::from_str(schedule).ok(), ..tier })
}

fn one() -> Cost {
    Multiplier::ONE.times(Items::ONE)
}

/// Room is asked for, the cost charged, and every limit told: a check each millisecond, so that windows turn and logs of ten
/// seconds hold ten thousand entries.
fn rule(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rule");
    let period = Period::from_seconds(10);
    for (name, algorithm) in [
        ("fixed_window", Algorithm::FixedWindow { period }),
        ("calendar_day", Algorithm::CalendarWindow(Window::Day)),
        ("scheduled_day", Algorithm::CalendarWindow(Window::Day)),
        ("sliding_window_log", Algorithm::SlidingWindowLog { period }),
        ("sliding_window_counter", Algorithm::SlidingWindowCounter { period }),
        ("token_bucket", Algorithm::TokenBucket { period, burst: None }),
    ] {
        for limits in [1, 3, 8] {
            let plan = if name == "scheduled_day" { scheduled(limits) } else { plan(algorithm, limits) };
            let mut state = SubjectState::default();
            let mut now = NOW;
            group.bench_function(BenchmarkId::new(name, limits), |bench| {
                bench.iter(|| {
                    now = now.saturating_add(Period::from_micros(1_001));
                    let violations = decide::violations(&state, &plan, one(), now);
                    decide::charge(&mut state, &plan, one(), now);
                    black_box((violations, decide::statuses(&state, &plan, now)))
                });
            });
        }
    }
    group.finish();
}

/// A subject's state is found among so many and charged.
fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    let (plan, tier) = (plan(Algorithm::CalendarWindow(Window::Hour), 2), TierName::free());
    for count in [10_000, 1_000_000_usize] {
        let ids = (0..count).filter_map(|number| UserId::parse(&format!("user-{number}")).ok());
        let subjects: Vec<Subject> = ids.map(Subject::User).collect();
        let mut table = CounterTable::new(count.saturating_add(1));
        for subject in &subjects {
            decide::charge(table.charge_to(subject, &tier, NOW), &plan, one(), NOW);
        }
        // A stride that shares no factor with the count meets every subject, and no neighbour after another.
        let mut order = subjects.iter().cycle().step_by(7919);
        group.bench_function(BenchmarkId::new("subjects", count), |bench| {
            bench.iter(|| {
                if let Some(subject) = order.next() {
                    decide::charge(table.charge_to(black_box(subject), &tier, NOW), &plan, one(), NOW);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, rule, table);
criterion_main!(benches);
