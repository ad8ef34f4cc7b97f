//! The rows of a flush: made of a batch, sorted, each key once.

use std::cmp::Ordering;
use std::sync::Arc;

use compact_str::{CompactString, ToCompactString};
use diesel::result::Error as QueryError;

use super::flush_batch::{FlushBatch, RefusedRow, SubjectKind};
use super::state_codec;
use crate::domain::cost::COUNT_MAX;
use crate::domain::state::SubjectState;
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::domain::usage::Usage;

/// Some 200 µs of work.
const ROWS_SORTED_AT_A_TIME: usize = 512;

/// A row of `usage`, as it is added. Most texts are short enough to stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UsageRow {
    pub(super) subject: CompactString,
    pub(super) hour: i64,
    pub(super) tier: TierName,
    pub(super) requests: i64,
    pub(super) cost: i64,
    pub(super) denied: i64,
}

impl UsageRow {
    fn new(subject: CompactString, hour: Timestamp, tier: &TierName, usage: Usage) -> Self {
        let stored = |amount: u64| amount.min(COUNT_MAX).cast_signed();
        Self {
            subject,
            hour: hour.start_of_hour().as_micros(),
            tier: tier.clone(),
            requests: stored(usage.requests),
            cost: stored(usage.cost),
            denied: stored(usage.denied),
        }
    }

    fn key(&self) -> (&str, i64, &str) {
        (&self.subject, self.hour, self.tier.as_str())
    }

    fn add(&mut self, other: &Self) {
        let sum = |one: i64, other: i64| one.saturating_add(other).min(COUNT_MAX.cast_signed());
        self.requests = sum(self.requests, other.requests);
        self.cost = sum(self.cost, other.cost);
        self.denied = sum(self.denied, other.denied);
    }
}

/// A row of `counters`, as it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CounterRow {
    pub(super) subject: CompactString,
    /// The packed state, and when it is whole; `None` removes the row.
    pub(super) kept: Option<(Vec<u8>, i64)>,
}

/// Rows of one table, sorted by key: two instances that flush at once take the rows' locks in the same order.
#[derive(Clone)]
pub(super) enum Rows {
    Usage(Arc<[UsageRow]>),
    Counters(Arc<[CounterRow]>),
}

impl Rows {
    pub(super) fn of_usage(batch: &FlushBatch) -> Self {
        let usage = batch
            .usage
            .iter()
            .map(|(key, usage)| UsageRow::new(key.subject.to_compact_string(), key.hour, &key.tier, *usage));
        let overflow = batch
            .overflow
            .iter()
            .map(|(key, usage)| UsageRow::new(key.kind.prefix().into(), key.hour, &key.tier, *usage));
        let mut rows = sorted(usage.chain(overflow), |one, other| one.key().cmp(&other.key()));
        // The same key twice in one statement is an error, and two instants of one hour may be the same key.
        rows.dedup_by(|next, row| {
            let is_same = next.key() == row.key();
            if is_same {
                row.add(next);
            }
            is_same
        });
        Rows::Usage(rows.into())
    }

    pub(super) fn of_counters(batch: &FlushBatch) -> Self {
        let counters = batch.counters.iter().map(|(subject, state)| CounterRow {
            subject: subject.to_compact_string(),
            kept: state.as_ref().and_then(|state| Some((state_codec::pack(state), state.whole_at()?.as_micros()))),
        });
        let mut rows = sorted(counters, |one, other| one.subject.cmp(&other.subject));
        // Of a subject that is there twice, the last is the newest.
        rows.dedup_by(|next, row| {
            let is_same = next.subject == row.subject;
            if is_same {
                std::mem::swap(next, row);
            }
            is_same
        });
        Rows::Counters(rows.into())
    }

    /// The usage of hours before `covered`, without what was refused.
    pub(super) fn late(&self, covered: i64, refused: &[RefusedRow]) -> Arc<[UsageRow]> {
        let Rows::Usage(rows) = self else { return Arc::default() };
        let is_refused = |row: &UsageRow| {
            refused.iter().any(|refused| {
                let place = refused.usage.as_ref().map(|(hour, tier, _)| (hour.as_micros(), tier.as_str()));
                row.subject == refused.subject && place == Some((row.hour, row.tier.as_str()))
            })
        };
        rows.iter().filter(|row| row.hour < covered && !is_refused(row)).cloned().collect()
    }

    /// A row that nobody can find fault with.
    pub(super) fn faultless(&self) -> Self {
        let subject = CompactString::const_new(SubjectKind::User.prefix());
        match self {
            Rows::Usage(_) => {
                let nothing = UsageRow::new(subject, Timestamp::EPOCH, &TierName::free(), Usage::default());
                Rows::Usage([nothing].into())
            }
            Rows::Counters(_) => Rows::Counters(
                [CounterRow { subject, kept: Some((state_codec::pack(&SubjectState::default()), 0)) }].into(),
            ),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Rows::Usage(rows) => rows.len(),
            Rows::Counters(rows) => rows.len(),
        }
    }

    pub(super) fn refused(&self, index: usize, error: &QueryError) -> Option<RefusedRow> {
        let reason = error.to_string();
        let amount = |stored: i64| stored.max(0).cast_unsigned();
        Some(match self {
            Rows::Usage(rows) => {
                let row = rows.get(index)?;
                let usage =
                    Usage { requests: amount(row.requests), cost: amount(row.cost), denied: amount(row.denied) };
                let usage = Some((Timestamp::from_micros(row.hour), row.tier.to_string(), usage));
                RefusedRow { table: "usage", subject: row.subject.to_string(), usage, reason }
            }
            Rows::Counters(rows) => {
                RefusedRow { table: "counters", subject: rows.get(index)?.subject.to_string(), usage: None, reason }
            }
        })
    }
}

/// Sorts what it is given, in parts between which others may have the core (docs/decisions/0011-flushes-step-back.md). Of equals,
/// who was first stays first.
fn sorted<T>(items: impl Iterator<Item = T>, order: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let mut items = items.peekable();
    let mut rows = Vec::with_capacity(items.size_hint().0);
    while items.peek().is_some() {
        let mut part: Vec<T> = items.by_ref().take(ROWS_SORTED_AT_A_TIME).collect();
        part.sort_by(&order);
        rows.append(&mut part);
        std::thread::yield_now();
    }
    // Parts that are sorted are merged quickly.
    rows.sort_by(order);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::{Subject, UserId};
    use crate::domain::usage::UsageKey;

    #[test]
    fn parts_are_sorted_as_one() {
        let dealt: Vec<(usize, usize)> = (0..2_000).map(|number| (number * 7 % 40, number)).collect();
        let mut expected = dealt.clone();
        expected.sort_by_key(|item| item.0);
        assert_eq!(sorted(dealt.into_iter(), |one, other| one.0.cmp(&other.0)), expected);
    }

    #[test]
    fn rows_are_sorted_and_each_key_is_there_once() {
        let subject = |id| Subject::User(UserId::parse(id).unwrap());
        let key = |id, second| UsageKey {
            subject: subject(id),
            hour: Timestamp::from_seconds(second),
            tier: TierName::free(),
        };
        let one = Usage { requests: 1, cost: u64::MAX, denied: 0 };
        let batch = FlushBatch {
            usage: vec![(key("b", 0), one), (key("a", 3600), one), (key("a", 3601), one)],
            ..FlushBatch::default()
        };
        let Rows::Usage(rows) = Rows::of_usage(&batch) else { panic!("usage") };
        let shown: Vec<_> = rows.iter().map(|row| (row.subject.as_str(), row.requests, row.cost)).collect();
        let most = COUNT_MAX.cast_signed();
        assert_eq!(shown, [("user:a", 2, most), ("user:b", 1, most)]);
    }
}
