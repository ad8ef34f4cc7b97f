//! What waits for the database: merged, bounded, and cut into batches that are written once.
//!
//! A plain struct; [`super::actor`] carries its batches.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use super::messages::RecordUsage;
use crate::db::rows::number;
use crate::db::{CounterRow, UsageRow, state};
use crate::domain::state::SubjectState;
use crate::domain::subject::{Subject, UserId};
use crate::domain::time::{Period, Timestamp};
use crate::domain::usage::{Usage, UsageKey};

/// Usage rows that may wait. Past it hours are merged into days, and days of strangers are not kept apart any more.
const ROWS_BOUND: usize = 1_000_000;

/// Rows that one transaction writes.
const ROWS_A_PIECE: usize = 20_000;

const DAY: i64 = Period::from_seconds(86_400).as_micros();

/// Whom the usage of strangers is written to once even their days would be too many. No service of ours asks under it.
const OTHERS: &str = "~others";

#[derive(Debug)]
pub struct Ledger {
    usage: HashMap<UsageKey, Usage, RandomState>,
    counters: HashMap<Subject, Option<SubjectState>, RandomState>,
    rows_bound: usize,
    /// The bound was met: until the rows are taken, usage is added to days.
    by_day: bool,
    /// Rows that were merged into coarser ones.
    pub coarsened: u64,
}

/// Rows on their way to the database, at most 20,000 of each kind, sorted: two instances that write the same subjects
/// never wait for each other in a circle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    pub usage: Vec<UsageRow>,
    pub counters: Vec<CounterRow>,
}

impl Ledger {
    pub fn new() -> Self {
        Self::with_bound(ROWS_BOUND)
    }

    fn with_bound(rows_bound: usize) -> Self {
        Self { usage: HashMap::default(), counters: HashMap::default(), rows_bound, by_day: false, coarsened: 0 }
    }

    pub fn record(&mut self, message: RecordUsage) {
        for (key, usage) in message.usage {
            self.add(key, usage);
        }
        for (subject, state) in message.counters {
            // Past the bound a subject's counters are left to its next change: history is what must not be lost.
            if self.counters.len() < self.rows_bound || self.counters.contains_key(&subject) {
                self.counters.insert(subject, state);
            }
        }
    }

    pub fn pending_rows(&self) -> usize {
        self.usage.len()
    }

    /// Everything that waits, cut into pieces.
    pub fn take(&mut self) -> Vec<Piece> {
        self.by_day = false;
        let mut usage: Vec<UsageRow> = self.usage.drain().map(|(key, usage)| usage_row(&key, usage)).collect();
        usage.sort_unstable_by(|a, b| (&a.subject, a.hour, &a.tier).cmp(&(&b.subject, b.hour, &b.tier)));
        let mut counters: Vec<CounterRow> =
            self.counters.drain().map(|(subject, state)| counter_row(&subject, state)).collect();
        counters.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));

        let count = usage.len().max(counters.len()).div_ceil(ROWS_A_PIECE);
        let mut usage = usage.chunks(ROWS_A_PIECE);
        let mut counters = counters.chunks(ROWS_A_PIECE);
        (0..count)
            .map(|_| Piece {
                usage: usage.next().unwrap_or_default().to_vec(),
                counters: counters.next().unwrap_or_default().to_vec(),
            })
            .collect()
    }

    /// Adds to the row that is there, or makes one. Past the bound, to the row of its day, and at last to that of all others.
    fn add(&mut self, key: UsageKey, usage: Usage) {
        let mut key = key;
        if !self.by_day && self.usage.len() >= self.rows_bound && !self.usage.contains_key(&key) {
            self.merge_days();
        }
        if self.by_day {
            self.coarsened = self.coarsened.saturating_add(1);
            key = day_of(&key);
            if self.usage.len() >= self.rows_bound && !self.usage.contains_key(&key) {
                key.subject = UserId::parse(OTHERS).map_or(key.subject, Subject::User);
            }
        }
        self.usage.entry(key).or_default().add(usage);
    }

    fn merge_days(&mut self) {
        let mut days: HashMap<UsageKey, Usage, RandomState> = HashMap::default();
        let before = self.usage.len();
        for (key, usage) in self.usage.drain() {
            days.entry(day_of(&key)).or_default().add(usage);
        }
        self.coarsened = self.coarsened.saturating_add(before.saturating_sub(days.len()) as u64);
        self.usage = days;
        self.by_day = true;
    }
}

impl Piece {
    pub fn rows(&self) -> usize {
        self.usage.len().saturating_add(self.counters.len())
    }

    /// The halves of a piece that the database refused, to find the row it can't take; `None`: it is that row.
    pub fn halves(&self) -> Option<[Piece; 2]> {
        if self.rows() <= 1 {
            return None;
        }
        let (usage, more_usage) = self.usage.split_at(self.usage.len() / 2);
        let (counters, more_counters) = self.counters.split_at(self.counters.len().div_ceil(2));
        let piece =
            |usage: &[UsageRow], counters: &[CounterRow]| Piece { usage: usage.to_vec(), counters: counters.to_vec() };
        Some([piece(usage, counters), piece(more_usage, more_counters)])
    }
}

fn day_of(key: &UsageKey) -> UsageKey {
    let micros = key.hour.as_micros();
    UsageKey { hour: Timestamp::from_micros(micros.saturating_sub(micros.rem_euclid(DAY))), ..key.clone() }
}

fn usage_row(key: &UsageKey, usage: Usage) -> UsageRow {
    UsageRow {
        subject: key.subject.to_string(),
        hour: key.hour.as_micros(),
        tier: key.tier.to_string(),
        requests: number(usage.requests),
        cost: number(usage.cost),
        denied: number(usage.denied),
    }
}

/// A subject with nothing counted is a row that says nothing from the start.
fn counter_row(subject: &Subject, state: Option<SubjectState>) -> CounterRow {
    let state = state.unwrap_or_default();
    CounterRow {
        subject: subject.to_string(),
        state: state::pack(&state),
        whole_at: state.whole_at().map_or(0, Timestamp::as_micros),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tier::TierName;

    const ONE: Usage = Usage { requests: 1, cost: 1, denied: 0 };

    fn key(user: usize, hour: i64) -> UsageKey {
        UsageKey {
            subject: Subject::User(UserId::parse(&user.to_string()).unwrap()),
            hour: Timestamp::from_seconds(hour * 3600),
            tier: TierName::free(),
        }
    }

    fn record(ledger: &mut Ledger, key: UsageKey) {
        ledger.record(RecordUsage { usage: vec![(key, ONE)], counters: Vec::new() });
    }

    #[test]
    fn rows_of_one_key_are_one_row() {
        let mut ledger = Ledger::new();
        (0..10).for_each(|_| record(&mut ledger, key(1, 5)));
        let pieces = ledger.take();
        assert_eq!(pieces.len(), 1);
        assert_eq!((pieces[0].usage.len(), pieces[0].usage[0].requests), (1, 10));
        assert!(ledger.take().is_empty());
    }

    #[test]
    fn past_the_bound_rows_get_coarser_and_nothing_is_lost() {
        let mut ledger = Ledger::with_bound(50);
        for hour in 0..24 {
            (0..10).for_each(|user| record(&mut ledger, key(user, hour)));
        }
        assert!(ledger.pending_rows() <= 50);
        (100..1000).for_each(|user| record(&mut ledger, key(user, 3)));
        assert!(ledger.pending_rows() <= 51, "{}", ledger.pending_rows());
        let sum: i64 = ledger.take().iter().flat_map(|piece| &piece.usage).map(|row| row.requests).sum();
        assert_eq!(sum, 240 + 900);
        assert!(ledger.coarsened > 0);
    }

    #[test]
    fn a_refused_piece_is_halved_down_to_the_row() {
        let mut ledger = Ledger::new();
        (0..7).for_each(|user| record(&mut ledger, key(user, 1)));
        ledger.record(RecordUsage { usage: Vec::new(), counters: vec![(key(1, 1).subject, None)] });
        let mut pieces = ledger.take();
        let mut rows = 0;
        while let Some(piece) = pieces.pop() {
            match piece.halves() {
                Some(halves) => pieces.extend(halves.into_iter().filter(|half| half.rows() > 0)),
                None => rows += piece.rows(),
            }
        }
        assert_eq!(rows, 8);
    }
}
