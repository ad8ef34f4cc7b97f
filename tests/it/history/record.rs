//! What a recorded history holds: a tier, and every operation on its subjects with the times that it was asked and answered.

use compact_str::CompactString;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Microseconds since the Unix epoch, or a length of time. All instants of a history are read from one clock.
pub type Micros = i64;

pub const SECOND: Micros = 1_000_000;
pub const HOUR: Micros = 3600 * SECOND;
pub const DAY: Micros = 24 * HOUR;

/// All that was asked for subjects of one tier. While it was recorded nothing of the tier was changed.
#[derive(Debug, Clone)]
pub struct History {
    pub tier: Tier,
    pub operations: Vec<Operation>,
}

/// It was decided at an instant that nobody but the service knows, from `asked` to `answered`, both included.
#[derive(Debug, Clone)]
pub struct Operation {
    pub client: u32,
    pub subject: u32,
    pub kind: Kind,
    pub asked: Micros,
    pub answered: Micros,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A charge to every limit of the tier at once, or a lease alone where the cost is 0, or both.
    Check {
        cost: u64,
        lease: Option<Lease>,
    },
    /// From the instant of its decision the lease lasts `ttl` more.
    Renewal {
        lease: u64,
        ttl: Micros,
    },
    Release {
        lease: u64,
    },
}

/// A lease that is asked for. Its number is the recorder's own, and no other lease of the history has it.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    pub number: u64,
    pub slot: Slot,
    pub ttl: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Request,
    Websocket,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Allowed,
    /// Nothing is charged. `violated` names every limit that had no room, and `denied_by` is one of them.
    Denied {
        denied_by: CompactString,
        violated: Vec<CompactString>,
    },
    /// There is no such lease (any more).
    Gone,
    /// It failed. It may have been charged, but not after the answer.
    Error,
    /// No answer came: it may have been charged, or may be at any time to come.
    Unknown,
}

#[derive(Debug, Clone)]
pub struct Tier {
    pub name: CompactString,
    pub limits: Vec<Limit>,
    pub concurrent_requests: u64,
    pub concurrent_websockets: u64,
}

#[derive(Debug, Clone)]
pub struct Limit {
    pub name: CompactString,
    pub algorithm: Algorithm,
    pub requests: u64,
    pub enforce: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Algorithm {
    FixedWindow(Window),
    SlidingLog { period: Micros },
    SlidingCounter { period: Micros },
    TokenBucket { period: Micros, burst: u64 },
}

/// A fixed window, in UTC. Weeks begin on Monday; a period of another length is counted from the epoch.
#[derive(Debug, Clone, Copy)]
pub enum Window {
    Hour,
    Day,
    Week,
    Month,
    Period(Micros),
}

impl Operation {
    pub const fn is_denied(&self) -> bool {
        matches!(self.outcome, Outcome::Denied { .. })
    }

    /// The last instant at which it can have been decided.
    pub fn decided_by(&self) -> Micros {
        if self.outcome == Outcome::Unknown { Micros::MAX } else { self.answered }
    }
}

impl Slot {
    /// As `denied_by` names it.
    pub const fn limit_name(self) -> &'static str {
        match self {
            Slot::Request => "concurrent_requests",
            Slot::Websocket => "concurrent_websockets",
        }
    }
}

impl Tier {
    pub const fn slots(&self, slot: Slot) -> u64 {
        match slot {
            Slot::Request => self.concurrent_requests,
            Slot::Websocket => self.concurrent_websockets,
        }
    }
}

impl Limit {
    /// What can be had at one instant, of a limit that is whole.
    pub const fn most(&self) -> u64 {
        match self.algorithm {
            Algorithm::TokenBucket { burst, .. } => burst,
            _ => self.requests,
        }
    }
}

impl Window {
    /// The first instant of the window that `now` falls into, and the first after it.
    pub fn around(self, now: Micros) -> (Micros, Micros) {
        /// The epoch was a Thursday.
        const MONDAY: Micros = -3 * DAY;
        match self {
            Window::Hour => periodic(HOUR, 0, now),
            Window::Day => periodic(DAY, 0, now),
            Window::Week => periodic(7 * DAY, MONDAY, now),
            Window::Month => month(now),
            Window::Period(period) => periodic(period, 0, now),
        }
    }
}

const fn periodic(period: Micros, anchor: Micros, now: Micros) -> (Micros, Micros) {
    let start = (now - anchor).div_euclid(period) * period + anchor;
    (start, start + period)
}

fn month(now: Micros) -> (Micros, Micros) {
    let first = Timestamp::from_microsecond(now).expect("a time").to_zoned(TimeZone::UTC).date().first_of_month();
    let micros = |date: jiff::civil::Date| date.to_zoned(TimeZone::UTC).expect("a time").timestamp().as_microsecond();
    (micros(first), micros(first + 1.month()))
}
