//! Finds what must not be in a history. It knows outcomes and intervals alone, and speaks only where no choice of the
//! instants at which things were decided would make them right.
//!
//! Too much is admitted where what must have fallen together is more than may be: an operation without an answer is then
//! taken as not charged. A denial is wrong where all that may have been charged would have left room: an operation
//! without an answer is then taken as charged.

mod fixed_window;
mod leases;
mod sliding_counter;
mod sliding_log;
mod spent;
mod token_bucket;

use std::collections::HashMap;
use std::fmt;

use compact_str::CompactString;

use super::record::{Algorithm, History, Kind, Limit, Micros, Operation, Outcome, Slot, Tier};
use leases::Leases;
use spent::{Span, Spent};
use token_bucket::Debts;

/// What must not be, of one subject.
#[derive(Debug, Clone)]
pub struct Finding {
    pub subject: u32,
    /// The limit, or what a lease was taken of.
    pub limit: CompactString,
    pub fault: Fault,
}

#[derive(Debug, Clone)]
pub enum Fault {
    TooMuch(Overrun),
    /// Even if all that may count did count, `used` at most was used.
    Denied {
        client: u32,
        at: Span,
        cost: u64,
        used: u64,
        most: u64,
    },
    /// The denial names what can't deny, or is not in its own list.
    Misnamed {
        client: u32,
        at: Span,
    },
    /// A lease that certainly held its slot was said not to be there.
    Lost {
        client: u32,
        at: Span,
    },
}

/// From the first instant to the last, `used` was admitted where `most` may be.
#[derive(Debug, Clone, Copy)]
pub struct Overrun {
    pub from: Micros,
    pub to: Micros,
    pub used: u64,
    pub most: u64,
}

/// All findings, by subject.
pub fn check(history: &History) -> Vec<Finding> {
    let mut subjects: HashMap<u32, Vec<&Operation>> = HashMap::new();
    for operation in &history.operations {
        subjects.entry(operation.subject).or_default().push(operation);
    }
    let mut subjects: Vec<_> = subjects.into_iter().collect();
    subjects.sort_unstable_by_key(|(subject, _)| *subject);
    subjects.into_iter().flat_map(|(subject, operations)| check_subject(&history.tier, subject, &operations)).collect()
}

fn check_subject(tier: &Tier, subject: u32, operations: &[&Operation]) -> Vec<Finding> {
    let spent = Spent::of(operations);
    let enforced = tier.limits.iter().filter(|limit| limit.enforce);
    let accounts: Vec<Account> = enforced.map(|limit| Account::new(limit, &spent)).collect();
    let leases = Leases::of(operations);
    let mut findings = Vec::new();
    let mut found = |limit: &str, fault| findings.push(Finding { subject, limit: limit.into(), fault });
    for account in &accounts {
        account.overruns().into_iter().for_each(|overrun| found(&account.limit.name, Fault::TooMuch(overrun)));
    }
    for slot in [Slot::Request, Slot::Websocket] {
        let overrun = leases.overrun(slot, tier.slots(slot));
        overrun.into_iter().for_each(|overrun| found(slot.limit_name(), Fault::TooMuch(overrun)));
        for lost in leases.lost(slot) {
            found(slot.limit_name(), Fault::Lost { client: lost.client, at: Span::of(lost) });
        }
    }
    for operation in operations {
        let Outcome::Denied { denied_by, violated } = &operation.outcome else { continue };
        let (client, at) = (operation.client, Span::of(operation));
        if !violated.contains(denied_by) {
            found(denied_by, Fault::Misnamed { client, at });
        }
        for name in violated {
            match Seen::by(name, operation, tier, &accounts, &leases) {
                None => found(name, Fault::Misnamed { client, at }),
                Some(Seen { cost, used, most }) if used.saturating_add(cost) <= most => {
                    found(name, Fault::Denied { client, at, cost, used, most });
                }
                Some(_) => {}
            }
        }
    }
    findings
}

/// What a limit can have seen when it denied, at most.
struct Seen {
    cost: u64,
    used: u64,
    most: u64,
}

impl Seen {
    /// `None` where the limit can't have denied this at all.
    fn by(name: &str, denied: &Operation, tier: &Tier, accounts: &[Account], leases: &Leases) -> Option<Self> {
        let Kind::Check { cost, lease } = denied.kind else { return None };
        let at = Span::of(denied);
        if let Some(lease) = lease.filter(|lease| lease.slot.limit_name() == name) {
            return Some(Self { cost: 1, used: leases.largest_use(lease.slot, at), most: tier.slots(lease.slot) });
        }
        let account = accounts.iter().find(|account| account.limit.name == name && cost > 0)?;
        Some(Self { cost, used: account.largest_use(at), most: account.limit.most() })
    }
}

/// A limit, and what a subject was charged to it.
struct Account<'a> {
    limit: &'a Limit,
    spent: &'a Spent,
    debts: Option<Debts>,
}

impl<'a> Account<'a> {
    fn new(limit: &'a Limit, spent: &'a Spent) -> Self {
        let debts = match limit.algorithm {
            Algorithm::TokenBucket { period, .. } => Some(Debts::of(period, limit.requests, spent)),
            _ => None,
        };
        Self { limit, spent, debts }
    }

    fn overruns(&self) -> Vec<Overrun> {
        let (requests, spent) = (self.limit.requests, self.spent);
        match self.limit.algorithm {
            Algorithm::FixedWindow(window) => fixed_window::overruns(window, requests, spent),
            Algorithm::SlidingLog { period } => sliding_log::overrun(period, requests, spent).into_iter().collect(),
            Algorithm::SlidingCounter { period } => sliding_counter::overruns(period, requests, spent),
            Algorithm::TokenBucket { period, burst } => {
                token_bucket::overrun(period, requests, burst, spent).into_iter().collect()
            }
        }
    }

    /// The most that can have been used at an instant of `at`, rounded up.
    fn largest_use(&self, at: Span) -> u64 {
        match self.limit.algorithm {
            Algorithm::FixedWindow(window) => fixed_window::largest_use(window, self.spent, at),
            Algorithm::SlidingLog { period } => sliding_log::largest_use(period, self.spent, at),
            Algorithm::SlidingCounter { period } => sliding_counter::largest_use(period, self.spent, at),
            Algorithm::TokenBucket { .. } => self.debts.as_ref().map_or(0, |debts| debts.largest(self.spent, at)),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subject {}, {}: ", self.subject, self.limit)?;
        match &self.fault {
            Fault::TooMuch(Overrun { from, to, used, most }) => {
                write!(f, "{used} where {most} may be, from {from} to {to} ({} us)", to - from)
            }
            Fault::Denied { client, at, cost, used, most } => {
                write!(f, "client {client} was denied {cost} {at}, with {used} of {most} used at most")
            }
            Fault::Misnamed { client, at } => write!(f, "client {client} was denied {at} by what can't have denied it"),
            Fault::Lost { client, at } => write!(f, "a lease of client {client} that was live is said to be gone {at}"),
        }
    }
}
