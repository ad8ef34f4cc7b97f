//! What one subject was charged, as far as answers tell: for certain, and at most.

use std::fmt;

use crate::history::record::{Kind, Micros, Operation, Outcome};

/// From the first instant to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: Micros,
    pub to: Micros,
}

impl Span {
    pub const fn of(operation: &Operation) -> Self {
        Self { from: operation.asked, to: operation.answered }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", self.from, self.to)
    }
}

/// Charged at an instant of the span.
#[derive(Debug, Clone, Copy)]
pub struct Charge {
    pub at: Span,
    pub cost: u64,
}

#[derive(Debug)]
pub struct Spent {
    /// What was admitted, by the time it was asked.
    pub certain: Vec<Charge>,
    /// What may have been charged, by the time it was asked, and by the last instant it can have been charged at.
    pub asked: Totals,
    pub decided: Totals,
}

impl Spent {
    pub fn of(operations: &[&Operation]) -> Self {
        let charges = |certain: bool| {
            operations.iter().filter_map(move |operation| match (operation.kind, &operation.outcome) {
                (Kind::Check { cost: 0, .. }, _) | (_, Outcome::Denied { .. }) => None,
                (Kind::Check { .. }, outcome) if certain && *outcome != Outcome::Allowed => None,
                (Kind::Check { cost, .. }, _) => {
                    Some(Charge { at: Span { from: operation.asked, to: operation.decided_by() }, cost })
                }
                _ => None,
            })
        };
        let mut certain: Vec<Charge> = charges(true).collect();
        certain.sort_unstable_by_key(|charge| charge.at.from);
        Self {
            certain,
            asked: Totals::of(charges(false).map(|charge| (charge.at.from, charge.cost))),
            decided: Totals::of(charges(false).map(|charge| (charge.at.to, charge.cost))),
        }
    }

    /// The most that can have been charged in a span.
    pub fn at_most(&self, span: Span) -> u64 {
        self.asked.until(span.to) - self.decided.before(span.from)
    }
}

/// Costs by instants, added up.
#[derive(Debug, Default)]
pub struct Totals {
    pub instants: Vec<Micros>,
    /// `sums[i]` is what stands before `instants[i]`; the last is all of it.
    sums: Vec<u64>,
}

impl Totals {
    pub fn of(costs: impl Iterator<Item = (Micros, u64)>) -> Self {
        let mut costs: Vec<(Micros, u64)> = costs.collect();
        costs.sort_unstable_by_key(|(instant, _)| *instant);
        let mut sum = 0;
        let mut totals = Self { instants: Vec::with_capacity(costs.len()), sums: vec![0] };
        for (instant, cost) in costs {
            sum += cost;
            totals.instants.push(instant);
            totals.sums.push(sum);
        }
        totals
    }

    pub fn before(&self, instant: Micros) -> u64 {
        self.sums[self.instants.partition_point(|known| *known < instant)]
    }

    /// With what stands at the instant itself.
    pub fn until(&self, instant: Micros) -> u64 {
        self.sums[self.instants.partition_point(|known| *known <= instant)]
    }
}
