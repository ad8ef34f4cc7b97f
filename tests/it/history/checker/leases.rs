//! Leases: never more live at an instant than there are slots.

use std::collections::HashMap;

use super::Overrun;
use super::spent::{Span, Totals};
use crate::history::record::{Kind, Lease, Micros, Operation, Outcome, Slot};

/// All leases of one subject.
pub struct Leases<'a> {
    lives: Vec<Life<'a>>,
    requests: Occupancy,
    websockets: Occupancy,
}

/// A lease, and what was done to it.
struct Life<'a> {
    lease: Lease,
    taken: &'a Operation,
    changes: Vec<&'a Operation>,
}

/// When leases that may have been taken were asked for, and by when each must have ended.
struct Occupancy {
    asked: Totals,
    ended: Totals,
}

impl<'a> Leases<'a> {
    pub fn of(operations: &[&'a Operation]) -> Self {
        let mut changes: HashMap<u64, Vec<&Operation>> = HashMap::new();
        for operation in operations {
            if let Kind::Renewal { lease, .. } | Kind::Release { lease } = operation.kind {
                changes.entry(lease).or_default().push(operation);
            }
        }
        let takes = operations.iter().filter(|operation| !matches!(operation.outcome, Outcome::Denied { .. }));
        let lives: Vec<Life> = takes
            .filter_map(|taken| match taken.kind {
                Kind::Check { lease: Some(lease), .. } => {
                    Some(Life { lease, taken, changes: changes.remove(&lease.number).unwrap_or_default() })
                }
                _ => None,
            })
            .collect();
        let occupancy = |slot: Slot| {
            let of_slot = || lives.iter().filter(move |life| life.lease.slot == slot);
            Occupancy {
                asked: Totals::of(of_slot().map(|life| (life.taken.asked, 1))),
                ended: Totals::of(of_slot().map(|life| (life.ended_by(), 1))),
            }
        };
        Self { requests: occupancy(Slot::Request), websockets: occupancy(Slot::Websocket), lives }
    }

    /// The first of the instants at which the most were live, where that is more than there are slots.
    pub fn overrun(&self, slot: Slot, most: u64) -> Option<Overrun> {
        let mut turns: Vec<(Micros, i64)> = self
            .of_slot(slot)
            .flat_map(|life| merged(life.certain(None)))
            .flat_map(|(from, end)| [(from, 1), (end, -1)])
            .collect();
        // What ends at an instant frees its slot before another takes it.
        turns.sort_unstable();
        let mut live = 0_i64;
        let mut worst: Option<Overrun> = None;
        for (at, turn) in turns {
            live += turn;
            let used = u64::try_from(live).expect("none ends before it begins");
            if used > worst.map_or(most, |worst| worst.used) {
                worst = Some(Overrun { from: at, to: at, used, most });
            }
        }
        worst
    }

    /// How many can have been live at an instant of the span.
    pub fn largest_use(&self, slot: Slot, at: Span) -> u64 {
        let occupancy = match slot {
            Slot::Request => &self.requests,
            Slot::Websocket => &self.websockets,
        };
        occupancy.asked.until(at.to) - occupancy.ended.before(at.from)
    }

    /// Renewals and releases that did not find a lease which certainly was there all the while.
    pub fn lost(&self, slot: Slot) -> impl Iterator<Item = &'a Operation> {
        self.of_slot(slot).flat_map(|life| {
            let gone = life.changes.iter().filter(|change| change.outcome == Outcome::Gone);
            gone.copied().filter(|change| {
                let mut live = life.certain(Some(*change)).into_iter();
                live.any(|(from, end)| from <= change.asked && change.answered < end)
            })
        })
    }

    fn of_slot(&self, slot: Slot) -> impl Iterator<Item = &Life<'a>> {
        self.lives.iter().filter(move |life| life.lease.slot == slot)
    }
}

impl Life<'_> {
    /// When the lease was certainly live, as starts and the first instants after: from the answer to each grant until it
    /// can have run out, or can have been released or shortened. One change may be taken as not made.
    fn certain(&self, except: Option<&Operation>) -> Vec<(Micros, Micros)> {
        let changes =
            self.changes.iter().copied().filter(|change| except.is_none_or(|except| !std::ptr::eq(*change, except)));
        let live = |grant: &Operation, ttl: Micros| {
            let others = changes.clone().filter(|change| !std::ptr::eq(*change, grant));
            let ends = others.filter_map(|change| match change.kind {
                Kind::Release { .. } => Some(change.asked),
                Kind::Renewal { ttl, .. } if change.outcome != Outcome::Gone && change.decided_by() >= grant.asked => {
                    Some(change.asked + ttl)
                }
                _ => None,
            });
            (grant.answered, ends.fold(grant.asked + ttl, Micros::min))
        };
        let renewed = changes.clone().filter(|change| change.outcome == Outcome::Allowed).filter_map(|change| {
            let Kind::Renewal { ttl, .. } = change.kind else { return None };
            Some(live(change, ttl))
        });
        let taken = (self.taken.outcome == Outcome::Allowed).then(|| live(self.taken, self.lease.ttl));
        taken.into_iter().chain(renewed).filter(|(from, end)| from < end).collect()
    }

    /// The last instant at which it can have been live.
    fn ended_by(&self) -> Micros {
        let grants = self.changes.iter().filter_map(|change| match change.kind {
            Kind::Renewal { ttl, .. } if change.outcome != Outcome::Gone => Some((*change, ttl)),
            _ => None,
        });
        let runs_out = |(grant, ttl): (&Operation, Micros)| grant.decided_by().saturating_add(ttl);
        let run_out = grants.chain([(self.taken, self.lease.ttl)]).map(runs_out).max();
        let gone = self.changes.iter().filter(|change| match change.kind {
            Kind::Release { .. } => matches!(change.outcome, Outcome::Allowed | Outcome::Gone),
            _ => change.outcome == Outcome::Gone,
        });
        gone.map(|change| change.answered).chain(run_out).min().unwrap_or(Micros::MAX)
    }
}

/// A lease holds one slot, however many grants cover an instant.
fn merged(mut spans: Vec<(Micros, Micros)>) -> Vec<(Micros, Micros)> {
    spans.sort_unstable();
    let mut merged: Vec<(Micros, Micros)> = Vec::with_capacity(spans.len());
    for (from, end) in spans {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((from, end)),
        }
    }
    merged
}
