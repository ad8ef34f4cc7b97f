//! A limiter that is right, written for clarity, and the same with one bug. It is handed the time and keeps every charge.

use std::collections::{HashMap, VecDeque};

use compact_str::CompactString;

use super::record::{Algorithm, Lease, Limit, Micros, Outcome, SECOND, Slot, Tier, Window};

/// One mistake each. The first three are made around the limiter, by the world that drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A charge is decided by what was read some time before it is written.
    GetThenIncr,
    /// A check whose answer is late is sent once more.
    RetryAfterTimeout,
    /// Each instance counts by a clock of its own.
    LocalClock,
    /// A check that is denied is charged.
    ChargeOnDeny,
    /// A check that one limit denies is charged to the others.
    AllOrNothingBroken,
    /// A denial is remembered for longer than its limit is full.
    StaleDenial,
    /// One more than the limit fits.
    OffByOne,
    /// What was granted while the store was away is added to it twice.
    DoubleReconcile,
    /// A release ends another lease of the subject.
    ReleaseFreesAnother,
    /// A lease that is released again frees another one's slot.
    ReleaseTwiceFreesTwo,
    /// A lease that has run out keeps its slot.
    ExpiredNotFreed,
}

pub struct Limiter {
    tier: Tier,
    bug: Option<Bug>,
    subjects: HashMap<u32, Books>,
}

struct Books {
    /// One for each limit of the tier.
    counters: Vec<Counter>,
    away: Option<Away>,
    leases: Vec<Held>,
    denial: Option<(Micros, u64, Outcome)>,
}

/// While the store is away: what is known of it, and the charges that are owed to it.
struct Away {
    counters: Vec<Counter>,
    owed: Vec<(Micros, u64)>,
}

struct Held {
    lease: Lease,
    until: Micros,
}

#[derive(Clone)]
enum Counter {
    Charges(VecDeque<(Micros, u64)>),
    /// Tokens times the period, when they were last counted.
    Bucket {
        level: i128,
        at: Micros,
    },
}

impl Limiter {
    pub fn new(tier: Tier, bug: Option<Bug>) -> Self {
        Self { tier, bug, subjects: HashMap::new() }
    }

    /// Decides, and charges where it is allowed.
    pub fn decide(&mut self, subject: u32, cost: u64, lease: Option<Lease>, now: Micros) -> Outcome {
        let outcome = self.look(subject, cost, lease, now);
        if outcome == Outcome::Allowed {
            self.charge(subject, cost, lease, now);
        }
        outcome
    }

    /// Decides, and leaves what it allows to [`charge`](Self::charge).
    pub fn look(&mut self, subject: u32, cost: u64, lease: Option<Lease>, now: Micros) -> Outcome {
        let (tier, bug) = (&self.tier, self.bug);
        let books = self.subjects.entry(subject).or_insert_with(|| Books::new(tier));
        if let Some((until, least, denial)) = &books.denial
            && now < *until
            && cost >= *least
        {
            return denial.clone();
        }
        if bug != Some(Bug::ExpiredNotFreed) {
            books.leases.retain(|held| held.until > now);
        }
        let slack = u64::from(bug == Some(Bug::OffByOne));
        let full: Vec<bool> = tier
            .limits
            .iter()
            .zip(books.counters())
            .map(|(limit, counter)| cost > 0 && limit.enforce && !counter.fits(limit, cost, slack, now))
            .collect();
        let names = tier.limits.iter().zip(&full).filter(|(_, full)| **full).map(|(limit, _)| limit.name.clone());
        let mut violated: Vec<CompactString> = names.collect();
        violated.extend(
            lease
                .filter(|lease| books.live(lease.slot) >= tier.slots(lease.slot) + slack)
                .map(|lease| CompactString::from(lease.slot.limit_name())),
        );
        let Some(denied_by) = violated.first().cloned() else { return Outcome::Allowed };
        for (number, full) in full.iter().enumerate() {
            if bug == Some(Bug::ChargeOnDeny) || (bug == Some(Bug::AllOrNothingBroken) && !full) {
                books.counters[number].charge(&tier.limits[number], cost, now);
            }
        }
        let denial = Outcome::Denied { denied_by, violated };
        if bug == Some(Bug::StaleDenial) {
            books.denial = Some((now + 2 * SECOND, cost, denial.clone()));
        }
        denial
    }

    pub fn charge(&mut self, subject: u32, cost: u64, lease: Option<Lease>, now: Micros) {
        let books = self.subjects.get_mut(&subject).expect("it was looked at");
        let counters = match &mut books.away {
            Some(away) => {
                away.owed.push((now, cost));
                &mut away.counters
            }
            None => &mut books.counters,
        };
        if cost > 0 {
            self.tier.limits.iter().zip(counters).for_each(|(limit, counter)| counter.charge(limit, cost, now));
        }
        books.leases.extend(lease.map(|lease| Held { lease, until: now + lease.ttl }));
    }

    /// The store can't be reached any more: each subject goes by what was last known, and what is granted is owed.
    pub fn lose_store(&mut self) {
        for books in self.subjects.values_mut() {
            books.away = Some(Away { counters: books.counters.clone(), owed: Vec::new() });
        }
    }

    /// The store is back, and what is owed is added to it.
    pub fn find_store(&mut self) {
        let times = if self.bug == Some(Bug::DoubleReconcile) { 2 } else { 1 };
        for books in self.subjects.values_mut() {
            let Some(Away { owed, .. }) = books.away.take() else { continue };
            for (at, cost) in owed.into_iter().flat_map(|debt| std::iter::repeat_n(debt, times)) {
                let counters = self.tier.limits.iter().zip(&mut books.counters);
                counters.for_each(|(limit, counter)| counter.charge(limit, cost, at));
            }
        }
    }

    pub fn renew(&mut self, subject: u32, lease: u64, ttl: Micros, now: Micros) -> Outcome {
        let held = self.subjects.get_mut(&subject).and_then(|books| books.find(lease, now));
        held.map_or(Outcome::Gone, |held| {
            held.until = now + ttl;
            Outcome::Allowed
        })
    }

    pub fn release(&mut self, subject: u32, lease: u64, now: Micros) -> Outcome {
        let Some(books) = self.subjects.get_mut(&subject) else { return Outcome::Gone };
        let Some(slot) = books.find(lease, now).map(|held| held.lease.slot) else {
            if self.bug == Some(Bug::ReleaseTwiceFreesTwo) && !books.leases.is_empty() {
                books.leases.remove(0);
            }
            return Outcome::Gone;
        };
        let another = |held: &Held| held.lease.slot == slot && held.lease.number != lease;
        let freed = match books.leases.iter().position(another) {
            Some(another) if self.bug == Some(Bug::ReleaseFreesAnother) => another,
            _ => books.leases.iter().position(|held| held.lease.number == lease).expect("it was found"),
        };
        books.leases.remove(freed);
        Outcome::Allowed
    }
}

impl Books {
    fn new(tier: &Tier) -> Self {
        let counters = tier.limits.iter().map(Counter::new).collect();
        Self { counters, away: None, leases: Vec::new(), denial: None }
    }

    fn counters(&self) -> &[Counter] {
        self.away.as_ref().map_or(&self.counters, |away| &away.counters)
    }

    fn live(&self, slot: Slot) -> u64 {
        self.leases.iter().filter(|held| held.lease.slot == slot).count() as u64
    }

    fn find(&mut self, lease: u64, now: Micros) -> Option<&mut Held> {
        self.leases.iter_mut().find(|held| held.lease.number == lease && held.until > now)
    }
}

impl Counter {
    fn new(limit: &Limit) -> Self {
        match limit.algorithm {
            Algorithm::TokenBucket { period, burst } => {
                Counter::Bucket { level: i128::from(burst) * i128::from(period), at: 0 }
            }
            _ => Counter::Charges(VecDeque::new()),
        }
    }

    fn fits(&self, limit: &Limit, cost: u64, slack: u64, now: Micros) -> bool {
        let most = u128::from(limit.requests + slack);
        match (self, limit.algorithm) {
            (Counter::Charges(charges), Algorithm::FixedWindow(window)) => {
                let (start, end) = window.around(now);
                sum(charges, start, end) + u128::from(cost) <= most
            }
            (Counter::Charges(charges), Algorithm::SlidingLog { period }) => {
                sum(charges, now - period + 1, Micros::MAX) + u128::from(cost) <= most
            }
            (Counter::Charges(charges), Algorithm::SlidingCounter { period }) => {
                let (start, end) = Window::Period(period).around(now);
                let weight = |time: Micros| u128::from(time.cast_unsigned());
                let current = sum(charges, start, end) + u128::from(cost);
                sum(charges, start - period, start) * weight(end - now) + current * weight(period)
                    <= most * weight(period)
            }
            (Counter::Bucket { .. }, Algorithm::TokenBucket { period, .. }) => {
                self.level(limit, now) >= (i128::from(cost) - i128::from(slack)) * i128::from(period)
            }
            _ => panic!("another limit's counter"),
        }
    }

    fn charge(&mut self, limit: &Limit, cost: u64, now: Micros) {
        let charged_level = self.level(limit, now);
        match (self, limit.algorithm) {
            (Counter::Bucket { level, at }, Algorithm::TokenBucket { period, .. }) => {
                (*level, *at) = (charged_level - i128::from(cost) * i128::from(period), now);
            }
            (Counter::Charges(charges), algorithm) => {
                let needed_since = match algorithm {
                    Algorithm::FixedWindow(window) => window.around(now).0 - SECOND,
                    Algorithm::SlidingLog { period } | Algorithm::SlidingCounter { period } => {
                        now - 2 * period - SECOND
                    }
                    Algorithm::TokenBucket { .. } => panic!("a bucket keeps no charges"),
                };
                while charges.front().is_some_and(|(at, _)| *at < needed_since) {
                    charges.pop_front();
                }
                charges.push_back((now, cost));
            }
            _ => panic!("another limit's counter"),
        }
    }

    /// Of a bucket: the tokens, times the period.
    fn level(&self, limit: &Limit, now: Micros) -> i128 {
        match (self, limit.algorithm) {
            (Counter::Bucket { level, at }, Algorithm::TokenBucket { period, burst }) => {
                let refilled = level + i128::from(limit.requests) * i128::from((now - at).max(0));
                refilled.min(i128::from(burst) * i128::from(period))
            }
            _ => 0,
        }
    }
}

fn sum(charges: &VecDeque<(Micros, u64)>, from: Micros, end: Micros) -> u128 {
    charges.iter().filter(|(at, _)| (from..end).contains(at)).map(|(_, cost)| u128::from(*cost)).sum()
}
