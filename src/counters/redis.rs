//! Counters in Redis, the truth of all instances: one script call decides a whole batch, by Redis' own time.

mod codec;
mod keys;
mod link;
#[cfg(feature = "actix-redis")]
mod link_actix;
mod link_redis;
mod script;

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Stopwatch;
use crate::config::RedisSettings;
use crate::domain::cost::Cost;
use crate::domain::limit::SlotId;
use crate::domain::plan::Plan;
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

pub use keys::{BatchId, Keys};
pub use link::{Link, LinkError};
#[cfg(feature = "actix-redis")]
pub use link_actix::ActixLink;
pub use link_redis::RedisLink;

/// What a check asks of the counters.
#[derive(Debug, Clone)]
pub struct Ask {
    pub plan: Arc<Plan>,
    pub cost: Cost,
    pub mode: AskMode,
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
    Decided { before: SubjectState, verdicts: SmallVec<[Verdict; 1]> },
    /// Something else stood under the subject's key. It is deleted, so the next ask is decided.
    Unreadable,
}

/// What came of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Denied,
    /// Allowed, and nothing was charged.
    Allowed,
    Charged,
}

/// Units that were granted without Redis, in the window that ends at `whole_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedSlot {
    pub slot: SlotId,
    pub whole_at: Timestamp,
    pub units: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("the answer is not what the script gives: {0}")]
    Malformed(&'static str),
}

impl RedisError {
    /// Whether Redis may have done what it was asked, though no answer says so. It must not be asked again blindly.
    pub const fn may_have_been_applied(&self) -> bool {
        match self {
            RedisError::Link(error) => error.may_have_been_applied(),
            RedisError::Late(_) | RedisError::Malformed(_) => true,
        }
    }
}

/// The counters of one Redis node, over one link.
#[derive(Debug)]
pub struct RedisCounters {
    link: Box<dyn Link>,
    keys: Keys,
}

impl RedisCounters {
    /// Connects when it is first asked something: that Redis is away is no error here.
    pub fn new(settings: &RedisSettings, link: Box<dyn Link>) -> Self {
        Self { link, keys: Keys::new(&settings.key_prefix) }
    }

    /// Decides a batch in one round trip. `id` must never have been used; no subject may stand twice in `subjects`.
    pub async fn decide(&self, id: BatchId, subjects: &[SubjectBatch]) -> Result<BatchOutcome, RedisError> {
        let Some(first) = subjects.first() else {
            return Ok(BatchOutcome { now: Timestamp::EPOCH, subjects: Vec::new() });
        };
        let mut keys = Vec::with_capacity(subjects.len().saturating_add(1));
        keys.push(self.keys.marker(id, &first.subject));
        keys.extend(subjects.iter().map(|batch| self.keys.counters(&batch.subject)));
        let answer = script::DECIDE.call(&*self.link, keys, codec::encode_batch(id.sequence(), subjects)).await?;
        codec::decode_answer(&answer, subjects)
    }

    /// What came of each check of a batch whose answer was lost; `None` where it charged nothing. From now on the batch
    /// does not run, however late it arrives.
    pub async fn missed(&self, id: BatchId, subjects: &[SubjectBatch]) -> Result<Option<Vec<Verdict>>, RedisError> {
        let Some(first) = subjects.first() else { return Ok(None) };
        let keys = vec![self.keys.marker(id, &first.subject)];
        let answer = script::MISSED.call(&*self.link, keys, id.sequence().to_string().into_bytes()).await?;
        codec::decode_missed(&answer)
    }

    /// Adds what was granted without Redis, once for an `id` however often it is called. No subject may stand twice.
    pub async fn add(&self, id: BatchId, granted: &[(Subject, Vec<GrantedSlot>)]) -> Result<(), RedisError> {
        let Some((first, _)) = granted.first() else { return Ok(()) };
        let mut keys = vec![self.keys.added(id, first)];
        keys.extend(granted.iter().map(|(subject, _)| self.keys.counters(subject)));
        script::ADD.call(&*self.link, keys, codec::encode_granted(granted)).await.map(drop)
    }

    /// Sets slots to nothing used; `None` is every slot of the subject.
    pub async fn reset(&self, subject: &Subject, slots: Option<&[SlotId]>) -> Result<(), RedisError> {
        if slots.is_some_and(<[SlotId]>::is_empty) {
            return Ok(());
        }
        let keys = vec![self.keys.counters(subject)];
        script::RESET.call(&*self.link, keys, codec::encode_slots(slots.unwrap_or_default())).await.map(drop)
    }

    /// Asks for a sign of life; how long it took.
    pub async fn ping(&self) -> Result<Duration, RedisError> {
        let watch = Stopwatch::start();
        self.link.command(&[b"PING".to_vec()]).await?;
        Ok(watch.elapsed())
    }

    /// The line is dead though nobody has closed it: what is asked next goes over a new one.
    pub fn replace_line(&self) {
        self.link.replace();
    }
}
