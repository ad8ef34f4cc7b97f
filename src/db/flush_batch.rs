//! What one flush adds to the database, and what comes of it.

use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::domain::usage::{Usage, UsageKey};

/// What one flush adds. It is sent unchanged until it has landed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlushBatch {
    /// The run of the instance: random, so that no two runs share it.
    pub instance: String,
    /// The number of the flush within that run, from 1, without gaps.
    pub sequence: i64,
    pub usage: Vec<(UsageKey, Usage)>,
    /// Usage that could not be kept apart by subject.
    pub overflow: Vec<(OverflowKey, Usage)>,
    /// The newest state of each subject that was charged; `None` where it was reset.
    pub counters: Vec<(Subject, Option<SubjectState>)>,
}

impl FlushBatch {
    pub const fn rows(&self) -> usize {
        self.usage.len().saturating_add(self.overflow.len()).saturating_add(self.counters.len())
    }
}

/// What usage without a subject of its own is added up under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OverflowKey {
    pub kind: SubjectKind,
    pub hour: Timestamp,
    pub tier: TierName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    User,
    Ip,
}

impl SubjectKind {
    pub const fn of(subject: &Subject) -> Self {
        match subject {
            Subject::User(_) => SubjectKind::User,
            Subject::Ip(_) => SubjectKind::Ip,
        }
    }

    /// What subjects of the kind begin with, and the subject that stands for those not kept apart: no id is empty.
    pub const fn prefix(self) -> &'static str {
        match self {
            SubjectKind::User => "user:",
            SubjectKind::Ip => "ip:",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlushOutcome {
    /// It has landed, but for the rows that the database refuses.
    Applied { refused: Vec<RefusedRow> },
    /// It had landed before, and the answer was lost.
    AlreadyApplied,
}

/// A row that was set aside because the database would not have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    pub table: &'static str,
    pub subject: String,
    /// For usage: the hour, the tier and the amounts.
    pub usage: Option<(Timestamp, String, Usage)>,
    /// What the database said.
    pub reason: String,
}
