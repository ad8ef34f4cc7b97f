//! What the keeper of the books can be told.

use actix::Message;
use tokio::sync::oneshot;

use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::usage::{Usage, UsageKey};

/// Usage to add to history, and embedded counters as they stand now (`None`: nothing is counted any more).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RecordUsage {
    pub usage: Vec<(UsageKey, Usage)>,
    pub counters: Vec<(Subject, Option<SubjectState>)>,
}

/// Write all that was recorded before, and say whether it landed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Flush {
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// Stop.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Close;
