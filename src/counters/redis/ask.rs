//! What is asked of Redis, and what it answers.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::domain::concurrency::InUse;
use crate::domain::cost::Cost;
use crate::domain::lease::{ChangeLease, LeaseAsk, LeaseId};
use crate::domain::limit::SlotId;
use crate::domain::plan::{Plan, PlannedLimit};
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// Which counters these are: a server that has lost its counters, or another in its place, has another generation or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(u64);

impl Generation {
    /// `None` for 0. Of a number above 2^53 the lower part counts: Lua knows no greater.
    pub const fn new(number: u64) -> Option<Self> {
        match number & ((1 << 53) - 1) {
            0 => None,
            number => Some(Self(number)),
        }
    }

    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What a check asks of the counters.
#[derive(Debug, Clone)]
pub struct Ask {
    pub plan: Arc<Plan>,
    pub cost: Cost,
    pub mode: AskMode,
    pub lease: Option<LeaseAsk>,
    pub identity: Option<AskIdentity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskMode {
    /// Charge where there is room.
    Charge,
    /// Say whether there is room, and charge nothing.
    Peek,
    /// Charge whether there is room or not.
    Force,
}

/// What makes a check known again, and what is remembered of it beside the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskIdentity {
    pub request_id: String,
    pub memo: Vec<u8>,
}

/// All that is asked about one subject, in order.
#[derive(Debug, Clone)]
pub struct SubjectBatch {
    pub subject: Subject,
    pub asks: SmallVec<[Ask; 1]>,
}

/// The answer to a batch, in the order of its subjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Redis' time, read once for the whole batch.
    pub now: Timestamp,
    pub subjects: Vec<SubjectOutcome>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectOutcome {
    /// The state that the subject's first ask met, and what came of each ask.
    Decided { before: SubjectState, told: Vec<Told> },
    /// Something else stood under the subject's key. It is deleted, so the next ask is decided.
    Unreadable,
}

/// What came of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Denied,
    /// Allowed, and nothing was charged.
    Allowed,
    /// Charged, or a slot taken.
    Charged,
    /// An earlier ask with the same identity was allowed.
    Repeated,
}

/// What came of an ask, with all that its state does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub verdict: Verdict,
    /// The slots of the kind that was asked about, with the one taken.
    pub in_use: Option<InUse>,
    /// When those sliding logs will have room that have none.
    pub log_rooms: Vec<(SlotId, Timestamp)>,
    pub remembered: Option<Box<Remembered>>,
}

/// What is remembered of an earlier ask with the same identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// When it was decided.
    pub now: Timestamp,
    /// The state that it met.
    pub before: SubjectState,
    pub memo: Vec<u8>,
}

/// What was granted to a subject without Redis: counters of those limits that hold nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub subject: Subject,
    pub limits: Vec<PlannedLimit>,
    pub state: SubjectState,
}

/// A lease, and what becomes of it.
pub type LeaseChange = (LeaseId, ChangeLease);

/// What came of changes of leases, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAnswer {
    /// Redis' time.
    pub now: Timestamp,
    /// False where the lease is not held.
    pub made: Vec<bool>,
}

/// What was charged to a subject beforehand and not used: of which window, by its slot and its end, how many units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenBack {
    pub subject: Subject,
    pub windows: SmallVec<[(SlotId, Timestamp, u64); 3]>,
}
