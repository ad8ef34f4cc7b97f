//! What persistence is told.

use actix::Message;
use tokio::sync::oneshot;

use super::BooksError;
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::usage::{Usage, UsageKey};

/// Usage to add up, and the newest embedded counters of the subjects that were charged (`None`: nothing is counted any more).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordUsage {
    pub usage: Vec<(UsageKey, Usage)>,
    pub counters: Vec<(Subject, Option<SubjectState>)>,
}

/// Flush now, and say when all that was recorded before is in the database.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Flush {
    pub(super) reply: oneshot::Sender<Result<(), BooksError>>,
}

/// End the loop.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Stop;
