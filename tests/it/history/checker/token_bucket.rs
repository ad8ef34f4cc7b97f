//! Token buckets: at most burst + rate x (t - s) in any span from s to t. All sums are in tokens times the period, so that
//! they are whole numbers.

use super::Overrun;
use super::spent::{Charge, Span, Spent};
use crate::history::record::Micros;

/// The worst span, if any, in which more was admitted, counting what was asked and answered inside.
pub fn overrun(period: Micros, requests: u64, burst: u64, spent: &Spent) -> Option<Overrun> {
    let epoch = spent.certain.first()?.at.from;
    let refilled = |until: Micros| i128::from(requests) * i128::from(until - epoch);
    let whole = |tokens: u64| i128::from(tokens) * i128::from(period);
    let mut by_answer: Vec<(usize, &Charge)> = spent.certain.iter().enumerate().collect();
    by_answer.sort_unstable_by_key(|(_, charge)| charge.at.to);
    let mut spans = Spans::new(spent.certain.len());
    let mut worst: Option<(i128, Micros, Micros)> = None;
    for (position, charge) in by_answer {
        spans.add(position, refilled(charge.at.from), whole(charge.cost));
        let (height, start) = spans.highest();
        let above = height - refilled(charge.at.to) - whole(burst);
        if above > worst.map_or(0, |worst| worst.0) {
            worst = Some((above, spent.certain[start].at.from, charge.at.to));
        }
    }
    worst.map(|(above, from, to)| {
        let most = burst + tokens(refilled(to) - refilled(from), period);
        let used = tokens(above + refilled(to) - refilled(from) + whole(burst), period);
        Overrun { from, to, used, most }
    })
}

/// How deep the bucket may have been emptied by the charges since some instant, less what was refilled since then. It
/// is deepest since the last instant at which some charge can have fallen, or since the denial itself.
pub struct Debts {
    period: Micros,
    requests: u64,
    /// For each of `Spent::decided`, the highest of what is refilled until then, less what was charged before.
    highest: Vec<i128>,
}

impl Debts {
    pub fn of(period: Micros, requests: u64, spent: &Spent) -> Self {
        let mut debts = Self { period, requests, highest: Vec::with_capacity(spent.decided.instants.len()) };
        let mut highest = i128::MIN;
        for instant in spent.decided.instants.iter().take_while(|instant| **instant < Micros::MAX) {
            highest = highest.max(debts.since(spent, *instant));
            debts.highest.push(highest);
        }
        debts
    }

    /// How many tokens can have been missing at an instant of the span, rounded up.
    pub fn largest(&self, spent: &Spent, at: Span) -> u64 {
        let earlier = spent.decided.instants.partition_point(|instant| *instant < at.from);
        let highest = self.since(spent, at.from).max(if earlier > 0 { self.highest[earlier - 1] } else { i128::MIN });
        let charged = i128::from(spent.asked.until(at.to)) * i128::from(self.period);
        let missing = charged + highest - i128::from(self.requests) * i128::from(at.from);
        tokens(missing + i128::from(self.period) - 1, self.period)
    }

    fn since(&self, spent: &Spent, instant: Micros) -> i128 {
        i128::from(self.requests) * i128::from(instant)
            - i128::from(spent.decided.before(instant)) * i128::from(self.period)
    }
}

fn tokens(scaled: i128, period: Micros) -> u64 {
    u64::try_from(scaled.max(0) / i128::from(period)).expect("no more than was charged")
}

/// For every instant at which a span may start, what was charged since, and what is refilled until that instant. Both
/// together, less what is refilled until the end of the span, is to stay within the burst.
///
/// A tree over the charges by the time they were asked: a node has the sum of its charges, and the highest of its starts.
struct Spans {
    leaves: usize,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Node {
    sum: i128,
    highest: (i128, usize),
}

const NOTHING: Node = Node { sum: 0, highest: (i128::MIN / 2, 0) };

impl Spans {
    fn new(charges: usize) -> Self {
        let leaves = charges.next_power_of_two();
        Self { leaves, nodes: vec![NOTHING; 2 * leaves] }
    }

    fn add(&mut self, position: usize, refilled: i128, cost: i128) {
        let mut at = self.leaves + position;
        self.nodes[at] = Node { sum: cost, highest: (refilled + cost, position) };
        while at > 1 {
            at /= 2;
            let (earlier, later) = (self.nodes[2 * at], self.nodes[2 * at + 1]);
            let earlier_start = (earlier.highest.0 + later.sum, earlier.highest.1);
            self.nodes[at] = Node { sum: earlier.sum + later.sum, highest: earlier_start.max(later.highest) };
        }
    }

    /// How high, and the number of the charge that was asked at the start.
    fn highest(&self) -> (i128, usize) {
        self.nodes[1].highest
    }
}
