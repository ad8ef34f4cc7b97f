//! What was recorded and has not landed yet: merged by key, bounded, sent in numbered batches.
//!
//! Past its bound usage is coarsened, never dropped: hours of a subject become days, and subjects that still don't fit are
//! added up as one for each hour and tier.

use std::collections::{HashMap, hash_map};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::messages::RecordUsage;
use crate::db::{DbError, FlushBatch, FlushOutcome, OverflowKey, SubjectKind};
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::time::{Period, Timestamp};
use crate::domain::usage::{Usage, UsageKey};

const SWEEP_PAUSE: Period = Period::from_seconds(10);

/// How much is gathered at most. As much again may be in hand, on its way to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerBounds {
    /// Keys of usage: 100 to 200 bytes each.
    pub usage_keys: usize,
    /// Subjects whose counters are to be written: 150 to 250 bytes each.
    pub counter_keys: usize,
    /// Rows of one batch. Small enough for a transaction to be short.
    pub batch_rows: usize,
}

impl Default for LedgerBounds {
    fn default() -> Self {
        Self { usage_keys: 250_000, counter_keys: 250_000, batch_rows: 20_000 }
    }
}

/// How the books stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BooksStats {
    /// Rows that are recorded and not in the database.
    pub pending_rows: usize,
    /// When the oldest of them was recorded.
    pub oldest_pending: Option<Timestamp>,
    /// When a batch landed last.
    pub flushed_at: Option<Timestamp>,
    /// Batches that landed.
    pub flushes: u64,
    /// Tries that failed.
    pub failures: u64,
    pub rows_flushed: u64,
    /// Why the newest try failed; `None` once one has succeeded.
    pub last_error: Option<String>,
    /// Rows that the database refuses.
    pub set_aside: u64,
    /// Keys whose hours were put together to a day.
    pub coarsened: u64,
    /// Keys that were added up under no subject.
    pub overflowed: u64,
    /// States of counters that were not written for want of room: those subjects would start anew after a restart.
    pub counters_dropped: u64,
    /// How often the flush loop has ended by itself.
    pub restarts: u64,
}

/// Stands for everything that was recorded before it was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug, Default)]
struct Gathered {
    usage: HashMap<UsageKey, Usage, RandomState>,
    overflow: HashMap<OverflowKey, Usage, RandomState>,
    counters: HashMap<Subject, Option<SubjectState>, RandomState>,
    /// When the first of it was recorded.
    since: Option<Timestamp>,
    /// Hours before this one were made days already, as far as that helps.
    coarse_before: Option<Timestamp>,
    /// When counters that say nothing any more were dropped last.
    swept_at: Option<Timestamp>,
}

/// What was gathered, taken apart a batch at a time: to turn all of it into batches at once would hold up those who record.
#[derive(Debug, Default)]
struct Leaving {
    usage: hash_map::IntoIter<UsageKey, Usage>,
    overflow: hash_map::IntoIter<OverflowKey, Usage>,
    counters: hash_map::IntoIter<Subject, Option<SubjectState>>,
    since: Option<Timestamp>,
}

/// The state of persistence, and its rules. No actor, no clock, no I/O.
#[derive(Debug)]
pub struct Ledger {
    instance: String,
    bounds: LedgerBounds,
    gathered: Gathered,
    /// What is on its way to the database, without the batch in hand.
    leaving: Leaving,
    /// How often `leaving` was filled from what was gathered.
    departures: u64,
    /// Sent until it has landed, unchanged.
    in_hand: Option<Arc<FlushBatch>>,
    newest_sequence: i64,
    stats: BooksStats,
}

impl BooksStats {
    /// The age of the oldest usage that is not in the database; zero where there is none.
    pub fn lag(&self, now: Timestamp) -> Duration {
        let age = self.oldest_pending.map_or(Period::ZERO, |oldest| oldest.until(now));
        Duration::from_micros(age.as_micros().unsigned_abs())
    }
}

impl Ledger {
    /// `instance` names this run: no other run of any instance may have the same.
    pub fn new(instance: String, bounds: LedgerBounds) -> Self {
        Self {
            instance,
            bounds,
            gathered: Gathered::default(),
            leaving: Leaving::default(),
            departures: 0,
            in_hand: None,
            newest_sequence: 0,
            stats: BooksStats::default(),
        }
    }

    pub fn record(&mut self, recorded: RecordUsage, now: Timestamp) {
        for (key, usage) in recorded.usage {
            self.add(key, usage);
        }
        for (subject, state) in recorded.counters {
            self.put(subject, state, now);
        }
        if self.gathered.rows() > 0 {
            self.gathered.since.get_or_insert(now);
        }
    }

    fn add(&mut self, key: UsageKey, usage: Usage) {
        let gathered = &mut self.gathered;
        if let Some(known) = gathered.usage.get_mut(&key) {
            known.add(usage);
            return;
        }
        if gathered.usage.len() >= self.bounds.usage_keys && gathered.coarse_before < Some(key.hour) {
            self.stats.coarsened = self.stats.coarsened.saturating_add(gathered.coarsen(key.hour));
        }
        if gathered.usage.len() < self.bounds.usage_keys {
            gathered.usage.insert(key, usage);
            return;
        }
        let day = start_of_day(key.hour);
        let day = UsageKey { hour: day, ..key };
        if let Some(known) = gathered.usage.get_mut(&day) {
            known.add(usage);
            self.stats.coarsened = self.stats.coarsened.saturating_add(1);
            return;
        }
        let kind = SubjectKind::of(&day.subject);
        let nobody = OverflowKey { kind, hour: key.hour, tier: day.tier };
        gathered.overflow.entry(nobody).or_default().add(usage);
        self.stats.overflowed = self.stats.overflowed.saturating_add(1);
    }

    fn put(&mut self, subject: Subject, state: Option<SubjectState>, now: Timestamp) {
        let gathered = &mut self.gathered;
        if gathered.counters.len() >= self.bounds.counter_keys && !gathered.counters.contains_key(&subject) {
            gathered.sweep(now);
            // A reset is always written: without it the old counters would be back after a restart.
            if gathered.counters.len() >= self.bounds.counter_keys && state.is_some() {
                self.stats.counters_dropped = self.stats.counters_dropped.saturating_add(1);
                return;
            }
        }
        gathered.counters.insert(subject, state);
    }

    /// What is to be sent next: the batch in hand or, where there is none, a new one of what was gathered.
    pub fn next_batch(&mut self) -> Option<Arc<FlushBatch>> {
        if self.in_hand.is_none() {
            if self.leaving.rows() == 0 && self.gathered.rows() > 0 {
                self.leaving = mem::take(&mut self.gathered).into();
                self.departures = self.departures.saturating_add(1);
            }
            let mut batch = self.leaving.batch(self.bounds.batch_rows.max(1))?;
            self.newest_sequence = self.newest_sequence.saturating_add(1);
            batch.sequence = self.newest_sequence;
            batch.instance.clone_from(&self.instance);
            self.in_hand = Some(Arc::new(batch));
        }
        self.in_hand.clone()
    }

    /// The batch in hand has landed. True where more of what left with it is to follow.
    pub fn landed(&mut self, outcome: &FlushOutcome, now: Timestamp) -> bool {
        let Some(batch) = self.in_hand.take() else { return false };
        let refused = match outcome {
            FlushOutcome::Applied { refused } => refused.len(),
            FlushOutcome::AlreadyApplied => 0,
        };
        self.stats.flushes = self.stats.flushes.saturating_add(1);
        self.stats.rows_flushed = self.stats.rows_flushed.saturating_add(count(batch.rows().saturating_sub(refused)));
        self.stats.set_aside = self.stats.set_aside.saturating_add(count(refused));
        self.stats.flushed_at = Some(now);
        self.stats.last_error = None;
        self.leaving.rows() > 0
    }

    /// The batch in hand did not land, or nobody knows whether it did: it stays in hand, with its number.
    pub fn failed(&mut self, error: &DbError) {
        self.stats.failures = self.stats.failures.saturating_add(1);
        self.stats.last_error = Some(error.to_string());
    }

    /// The flush loop has ended by itself. Says how many rows wait.
    pub fn stopped(&mut self) -> usize {
        self.stats.restarts = self.stats.restarts.saturating_add(1);
        self.pending_rows()
    }

    /// Has landed once everything has that is recorded now.
    pub fn ticket(&self) -> Ticket {
        Ticket(if self.gathered.rows() > 0 { self.departures.saturating_add(1) } else { self.departures })
    }

    pub fn has_landed(&self, ticket: Ticket) -> bool {
        let all = self.in_hand.is_none() && self.leaving.rows() == 0;
        ticket.0 <= if all { self.departures } else { self.departures.saturating_sub(1) }
    }

    pub fn stats(&self) -> BooksStats {
        let leaving_since = if self.in_hand.is_some() || self.leaving.rows() > 0 { self.leaving.since } else { None };
        BooksStats {
            pending_rows: self.pending_rows(),
            oldest_pending: leaving_since.or(self.gathered.since),
            ..self.stats.clone()
        }
    }

    fn pending_rows(&self) -> usize {
        let in_hand = self.in_hand.as_ref().map_or(0, |batch| batch.rows());
        self.gathered.rows().saturating_add(self.leaving.rows()).saturating_add(in_hand)
    }
}

impl Gathered {
    fn rows(&self) -> usize {
        self.usage.len().saturating_add(self.overflow.len()).saturating_add(self.counters.len())
    }

    /// Puts the hours of each subject, tier and day together, and says how many keys that saved. Helps once an hour at most:
    /// within it, each subject has one new key for a tier.
    fn coarsen(&mut self, hour: Timestamp) -> u64 {
        let before = self.usage.len();
        let mut days = HashMap::with_capacity_and_hasher(before, RandomState::default());
        for (key, usage) in self.usage.drain() {
            let day = UsageKey { hour: start_of_day(key.hour), ..key };
            days.entry(day).or_insert_with(Usage::default).add(usage);
        }
        self.usage = days;
        self.coarse_before = Some(hour);
        count(before.saturating_sub(self.usage.len()))
    }

    /// Drops counters that say nothing any more. It looks at all of them, so it is done once in a while at most.
    fn sweep(&mut self, now: Timestamp) {
        if self.swept_at.is_none_or(|swept| swept.until(now) >= SWEEP_PAUSE) {
            self.swept_at = Some(now);
            let counts = |state: &SubjectState| state.whole_at().is_some_and(|whole_at| now < whole_at);
            self.counters.retain(|_, state| state.as_ref().is_none_or(counts));
        }
    }
}

impl From<Gathered> for Leaving {
    fn from(gathered: Gathered) -> Self {
        Self {
            usage: gathered.usage.into_iter(),
            overflow: gathered.overflow.into_iter(),
            counters: gathered.counters.into_iter(),
            since: gathered.since,
        }
    }
}

impl Leaving {
    fn rows(&self) -> usize {
        self.usage.len().saturating_add(self.overflow.len()).saturating_add(self.counters.len())
    }

    /// The next `rows` of it, without a number; `None` where there are none.
    fn batch(&mut self, rows: usize) -> Option<FlushBatch> {
        let mut batch = FlushBatch::default();
        batch.usage.extend(self.usage.by_ref().take(rows));
        batch.overflow.extend(self.overflow.by_ref().take(rows.saturating_sub(batch.rows())));
        batch.counters.extend(self.counters.by_ref().take(rows.saturating_sub(batch.rows())));
        (batch.rows() > 0).then_some(batch)
    }
}

fn start_of_day(hour: Timestamp) -> Timestamp {
    const SECONDS_PER_DAY: i64 = 86_400;
    let day = hour.floor_seconds().div_euclid(SECONDS_PER_DAY);
    Timestamp::from_seconds(day.saturating_mul(SECONDS_PER_DAY))
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
