//! Fixed windows: at most the limit in each.

use std::collections::BTreeMap;

use super::Overrun;
use super::spent::{Span, Spent};
use crate::history::record::{Micros, Window};

/// The windows in which more was admitted, counting what lies wholly inside.
pub fn overruns(window: Window, most: u64, spent: &Spent) -> Vec<Overrun> {
    let within = certain_by_window(window, spent);
    let over = within.into_iter().filter(|(_, (_, used))| *used > most);
    over.map(|(from, (end, used))| Overrun { from, to: end - 1, used, most }).collect()
}

/// By the start of each window: its end, and what certainly was charged in it.
fn certain_by_window(window: Window, spent: &Spent) -> BTreeMap<Micros, (Micros, u64)> {
    let mut windows = BTreeMap::new();
    let mut known = (0, 0);
    for charge in &spent.certain {
        if !(known.0..known.1).contains(&charge.at.from) {
            known = window.around(charge.at.from);
        }
        if charge.at.to < known.1 {
            windows.entry(known.0).or_insert((known.1, 0)).1 += charge.cost;
        }
    }
    windows
}

/// The span may touch several windows; the one with the most counts.
pub fn largest_use(window: Window, spent: &Spent, at: Span) -> u64 {
    windows(window, at)
        .map(|(start, end)| spent.at_most(Span { from: start, to: at.to.min(end - 1) }))
        .max()
        .unwrap_or(0)
}

/// Every window that a span touches, as start and end.
pub fn windows(window: Window, at: Span) -> impl Iterator<Item = (Micros, Micros)> {
    let next = move |(_, end): &(Micros, Micros)| (*end <= at.to).then(|| window.around(*end));
    std::iter::successors(Some(window.around(at.from)), next)
}
