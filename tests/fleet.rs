//! Many instances on one Redis, in virtual time: the blocks that they reserve are those of the service, their traffic follows a
//! Zipf law. `UPDATE_DOCS=1` puts what was found into docs/scaling.md.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use quotad::counters::redis::GivenBack;
use quotad::domain::block;
use quotad::domain::cost::Cost;
use quotad::domain::decide;
use quotad::domain::plan::Plan;
use quotad::domain::state::SubjectState;
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::{Tier, TierName};
use quotad::domain::time::Timestamp;
use quotad::limiter::blocks::Blocks;

/// Checks a second of all instances together.
const RATE: i64 = 100_000;
const USERS: usize = 10_000;
/// Seconds that pass before it is counted, and while it is.
const SECONDS: i64 = 1;
/// How often an instance gives back what has ended, in microseconds.
const TICK: i64 = 20_000;
const START: i64 = 1_800_000_000_000_000;
const DOCS: &str = "docs/scaling.md";

/// The same numbers each time (xorshift64*).
struct Dice(u64);

impl Dice {
    /// From 0 to 1.
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What Redis has counted, and how often it was asked.
#[derive(Default)]
struct Redis {
    states: HashMap<Subject, SubjectState>,
    operations: u64,
}

impl Redis {
    fn give_back(&mut self, returns: Vec<GivenBack>, now: Timestamp) {
        for GivenBack { subject, windows } in returns {
            self.operations += 1;
            let state = self.states.entry(subject).or_default();
            for (slot, ends, units) in windows {
                if let Some(known) = state.live(slot, now).copied().filter(|known| known.whole_at == ends) {
                    state.put(quotad::domain::state::Slot { a: known.a.saturating_sub(units), ..known }, now);
                }
            }
        }
    }

    fn used(&self, subject: &Subject, plan: &Plan, now: Timestamp) -> u64 {
        self.states.get(subject).map_or(0, |state| decide::used(state, &plan.limits[0], now))
    }
}

struct Fleet {
    instances: Vec<Blocks>,
    redis: Redis,
    plan: Arc<Plan>,
    allowed: HashMap<Subject, u64>,
    by_blocks: u64,
    /// Units that others held when somebody was denied first, before they gave them back.
    held_at_denial: u64,
}

impl Fleet {
    fn new(instances: usize, limit: u64) -> Self {
        Self {
            instances: (0..instances).map(|_| Blocks::new(true)).collect(),
            redis: Redis::default(),
            plan: Arc::new(Plan::of_tier(&Tier::hourly_and_daily(TierName::free(), limit, limit, 1))),
            allowed: HashMap::new(),
            by_blocks: 0,
            held_at_denial: 0,
        }
    }

    /// One check of one unit, as `limiter::remote` takes it; a denial that is not certain is asked again once all have given back.
    fn check(&mut self, instance: usize, subject: &Subject, now: Timestamp) -> bool {
        let plan = Arc::clone(&self.plan);
        let one = Cost::of_units(1);
        let blocks = &mut self.instances[instance];
        if blocks.ask_for(subject, &plan, one, now) {
            self.by_blocks += 1;
            *self.allowed.entry(subject.clone()).or_default() += 1;
            return true;
        }
        self.redis.give_back(blocks.take_returns().1, now);
        let state = self.redis.states.entry(subject.clone()).or_default();
        self.redis.operations += 1;
        let held = blocks.held_elsewhere(subject, state, now);
        if decide::violations(state, &plan, one, now).is_empty() {
            decide::charge(state, &plan, one, now);
            *self.allowed.entry(subject.clone()).or_default() += 1;
            // Asked for together with the check, and charged where there is room.
            if let Some((reserving, units)) = blocks.ask(subject, &plan, state, now) {
                if decide::violations(state, &reserving, units, now).is_empty() {
                    blocks.took(subject, &plan, (&reserving, units), state, now);
                    decide::charge(state, &reserving, units, now);
                } else {
                    blocks.got_none(subject);
                }
            }
            return true;
        }
        if held == 0 {
            return false;
        }
        self.held_at_denial = self.held_at_denial.max(held);
        for other in &mut self.instances {
            other.give_back(subject);
            self.redis.give_back(other.take_returns().1, now);
        }
        self.check(instance, subject, now)
    }

    fn tick(&mut self, now: Timestamp) {
        for blocks in &mut self.instances {
            blocks.give_back_ended(now);
            self.redis.give_back(blocks.take_returns().1, now);
        }
    }

    /// Units that are charged and not used, in seconds of all traffic.
    fn held(&self, subjects: &[Subject], now: Timestamp) -> f64 {
        let charged: u64 = subjects.iter().map(|subject| self.redis.used(subject, &self.plan, now)).sum();
        let used: u64 = self.allowed.values().sum();
        charged.saturating_sub(used) as f64 / RATE as f64
    }
}

fn users(count: usize) -> Vec<Subject> {
    (0..count).map(|id| Subject::User(UserId::parse(&format!("u{id}")).unwrap())).collect()
}

/// How many operations a check needs, and how much is held at once, in seconds of all traffic.
fn zipf(instances: usize) -> (f64, f64) {
    let (subjects, mut dice) = (users(USERS), Dice(42));
    let mut sums = Vec::with_capacity(USERS);
    let mut sum = 0.0;
    for rank in 1..=USERS {
        sum += 1.0 / rank as f64;
        sums.push(sum);
    }
    let mut fleet = Fleet::new(instances, 1_000_000_000);
    let (mut operations, mut held, mut next_tick) = (0, 0.0, 0);
    for check in 0..2 * SECONDS * RATE {
        let micros = check * 1_000_000 / RATE;
        let now = Timestamp::from_micros(START + micros);
        if micros >= next_tick {
            fleet.tick(now);
            next_tick += TICK;
        }
        if check == SECONDS * RATE {
            operations = fleet.redis.operations;
        }
        let wanted = dice.roll() * sum;
        let subject = &subjects[sums.partition_point(|sum| *sum < wanted).min(USERS - 1)];
        let instance = (dice.roll() * instances as f64) as usize;
        assert!(fleet.check(instance.min(instances - 1), subject, now));
        if check == 3 * SECONDS * RATE / 2 {
            held = fleet.held(&subjects, now);
        }
    }
    ((fleet.redis.operations - operations) as f64 / (SECONDS * RATE) as f64, held)
}

/// One subject that all instances are asked for, until its limit is used up: operations a check, and what others held when it was
/// denied first.
fn one_subject(instances: usize) -> (f64, u64) {
    const LIMIT: u64 = 100_000;
    let subject = users(1).remove(0);
    let (mut fleet, mut dice, mut next_tick) = (Fleet::new(instances, LIMIT), Dice(7), 0);
    let mut checks = 0;
    loop {
        let micros = checks * 1_000_000 / RATE;
        let now = Timestamp::from_micros(START + micros);
        if micros >= next_tick {
            fleet.tick(now);
            next_tick += TICK;
        }
        let instance = (dice.roll() * instances as f64) as usize;
        checks += 1;
        if !fleet.check(instance.min(instances - 1), &subject, now) {
            break;
        }
    }
    assert_eq!(fleet.allowed[&subject], LIMIT, "all of it is given out, and no more");
    (fleet.redis.operations as f64 / checks as f64, fleet.held_at_denial)
}

#[test]
fn blocks_of_a_fleet() {
    let mut table = String::new();
    let columns = "| instances | operations a check, Zipf | held at once | operations a check, one subject | held at the first denial |";
    writeln!(table, "{columns}\n|---|---|---|---|---|").unwrap();
    for instances in [1, 4, 16, 64, 256, 1000] {
        let ((operations, held), (of_one, at_denial)) = (zipf(instances), one_subject(instances));
        let row = format!("| {instances} | {operations:.2} | {held:.2} s | {of_one:.3} | {at_denial} |");
        writeln!(table, "{row}").unwrap();
        assert!(operations < 1.1, "blocks cost more than they save: {row}");
    }
    print!("{table}");
    assert_eq!(block::LIFE.as_micros(), 1_000_000, "the page says so");
    let text = std::fs::read_to_string(DOCS).expect("the page");
    let (before, rest) = text.split_once("<!-- fleet -->\n").expect("where the table begins");
    let (_, after) = rest.split_once("<!-- /fleet -->").expect("where it ends");
    let page = format!("{before}<!-- fleet -->\n{table}<!-- /fleet -->{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOCS, page).expect("the page");
    } else {
        assert_eq!(page, text, "UPDATE_DOCS=1 cargo test --test fleet");
    }
}
