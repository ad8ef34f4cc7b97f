//! Sliding counters: the window that runs, and of the one before it the part that is not yet a period old. That estimate
//! never goes above the limit.

use std::collections::BTreeMap;

use super::Overrun;
use super::fixed_window::windows;
use super::spent::{Charge, Span, Spent};
use crate::history::record::{Micros, Window};

/// The windows in which the estimate went above the limit, counting what lies wholly inside of each.
///
/// The estimate only grows when something is admitted. When the last of those answered by an instant was decided, all the
/// others were counted, and the window before weighed no less than it does at that instant.
pub fn overruns(period: Micros, most: u64, spent: &Spent) -> Vec<Overrun> {
    let mut inside: BTreeMap<Micros, Vec<&Charge>> = BTreeMap::new();
    for charge in &spent.certain {
        let (start, end) = Window::Period(period).around(charge.at.from);
        if charge.at.to < end {
            inside.entry(start).or_default().push(charge);
        }
    }
    let sums: BTreeMap<Micros, u64> =
        inside.iter().map(|(start, charges)| (*start, charges.iter().map(|charge| charge.cost).sum())).collect();
    let mut overruns = Vec::new();
    for (start, mut charges) in inside {
        charges.sort_unstable_by_key(|charge| charge.at.to);
        let before = sums.get(&(start - period)).copied().unwrap_or(0);
        let mut current = 0;
        let over = charges.iter().find_map(|charge| {
            current += charge.cost;
            let used = estimate(period, before, start + period - charge.at.to, current);
            (used > most).then_some(Overrun { from: start, to: charge.at.to, used, most })
        });
        overruns.extend(over);
    }
    overruns
}

/// What may have fallen into either of two windows is taken as in the later, where it weighs more.
pub fn largest_use(period: Micros, spent: &Spent, at: Span) -> u64 {
    let in_window = |(start, end): (Micros, Micros)| {
        let decided_from = at.from.max(start);
        let before = spent.decided.before(start) - spent.decided.before(start - period);
        let current = spent.at_most(Span { from: start, to: at.to.min(end - 1) });
        estimate(period, before, end - decided_from, current)
    };
    windows(Window::Period(period), at).map(in_window).max().unwrap_or(0)
}

/// Rounded up.
fn estimate(period: Micros, before: u64, left: Micros, current: u64) -> u64 {
    let (period, left) = (u128::from(period.cast_unsigned()), u128::from(left.cast_unsigned()));
    let weighed = (u128::from(before) * left).div_ceil(period);
    u64::try_from(weighed).expect("no more than before") + current
}
