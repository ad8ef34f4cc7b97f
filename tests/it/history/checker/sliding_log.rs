//! Sliding logs: at most the limit in any span (t - W, t].

use super::Overrun;
use super::spent::{Charge, Span, Spent, Totals};
use crate::history::record::Micros;

/// The worst span shorter than the period in which more was admitted.
///
/// What certainly fell into it was asked at its start or later and answered by its end. What took a whole period to
/// answer is in no such span; of the rest, all that was asked before the start was answered before the end, so that a
/// difference of two sums is exact.
pub fn overrun(period: Micros, most: u64, spent: &Spent) -> Option<Overrun> {
    let quick: Vec<&Charge> = spent.certain.iter().filter(|charge| charge.at.to - charge.at.from < period).collect();
    let answered = Totals::of(quick.iter().map(|charge| (charge.at.to, charge.cost)));
    let mut asked_before = 0;
    let mut worst: Option<Overrun> = None;
    for (number, charge) in quick.iter().enumerate() {
        let from = charge.at.from;
        // Of those asked at one instant, the first stands for all.
        if number == 0 || quick[number - 1].at.from < from {
            let to = from + period - 1;
            let used = answered.until(to) - asked_before;
            if used > worst.map_or(most, |worst| worst.used) {
                worst = Some(Overrun { from, to, used, most });
            }
        }
        asked_before += charge.cost;
    }
    worst
}

/// All that may still have been in the log at the start of the span, or came until its end.
pub fn largest_use(period: Micros, spent: &Spent, at: Span) -> u64 {
    spent.at_most(Span { from: at.from - period + 1, to: at.to })
}
