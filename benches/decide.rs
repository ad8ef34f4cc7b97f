//! What deciding costs in memory: the rule by itself, and with the table of a shard around it.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use quotad::counters::table::CounterTable;
use quotad::domain::cost::{Cost, Items, Multiplier};
use quotad::domain::decide;
use quotad::domain::limit::{Limit, LimitName, Window};
use quotad::domain::plan::Plan;
use quotad::domain::state::SubjectState;
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::{Tier, TierName};
use quotad::domain::time::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(1_795_766_400);

fn plan(limits: usize) -> Plan {
    let names = (0..limits).filter_map(|number| LimitName::parse(&format!("limit-{number}")).ok());
    let limits = names.map(|name| Limit::fixed(name, Window::Hour, 1_000_000_000_000)).collect();
    Plan::of_tier(&Tier { name: TierName::free(), limits, concurrent_requests: 1, concurrent_websockets: 1 })
}

fn one() -> Cost {
    Multiplier::ONE.times(Items::ONE)
}

/// Room is asked for, the cost charged, and every limit told.
fn rule(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rule");
    for limits in [1, 2, 3, 8] {
        let plan = plan(limits);
        let mut state = SubjectState::default();
        group.bench_function(BenchmarkId::new("fixed_window", limits), |bench| {
            bench.iter(|| {
                let violations = decide::violations(&state, &plan, one(), NOW);
                decide::charge(&mut state, &plan, one(), NOW);
                black_box((violations, decide::statuses(&state, &plan, NOW)))
            });
        });
    }
    group.finish();
}

/// A subject's state is found among so many and charged.
fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    let (plan, tier) = (plan(2), TierName::free());
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
