//! Counters in Redis, the truth of all instances: one script call decides a whole batch, by Redis' own time.

mod about;
mod ask;
mod cluster;
mod connect;
mod decode;
mod encode;
mod keys;
mod line;
mod link;
#[cfg(feature = "actix-redis")]
mod link_actix;
mod notice;
mod script;
mod sentinel;
mod standing;
mod subscription;

use std::time::Duration;

use crate::clock::Stopwatch;
use crate::config::RedisSettings;
use crate::domain::lease::{Lease, LeaseKind, LeasePlace};
use crate::domain::limit::SlotId;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

pub use ask::{
    Ask, AskIdentity, AskMode, BatchOutcome, Generation, GivenBack, Granted, LeaseAnswer, LeaseChange, Remembered,
    SubjectBatch, SubjectOutcome, Told, Verdict,
};
pub use cluster::{Cluster, ClusterLink};
pub use keys::{BatchId, Keys, PARTITIONS, partition_of};
pub use line::{Finder, Line};
pub use link::{Link, LinkError};
#[cfg(feature = "actix-redis")]
pub use link_actix::ActixLink;
pub use notice::Notice;
pub use sentinel::Sentinels;
pub use subscription::Subscription;

#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("the answer is not what the script gives: {0}")]
    Malformed(&'static str),
    /// Nothing was done.
    #[error("the counters are not those that were asked for: they were lost, or others stand in their place")]
    OtherGeneration(Option<Generation>),
}

impl RedisError {
    /// Whether Redis may have done what it was asked, though no answer says so. It must not be asked again blindly.
    pub const fn may_have_been_applied(&self) -> bool {
        match self {
            RedisError::Link(error) => error.may_have_been_applied(),
            RedisError::Late(_) | RedisError::Malformed(_) => true,
            RedisError::OtherGeneration(_) => false,
        }
    }
}

impl RedisError {
    /// What it is, for everybody: it names no place and no script.
    pub fn brief(&self) -> String {
        let code = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
        match self {
            RedisError::Link(LinkError::Connect(_)) => "no connection".to_owned(),
            RedisError::Link(LinkError::Broken(_)) => "the connection broke".to_owned(),
            RedisError::Link(LinkError::UnknownScript) => "the script is not known".to_owned(),
            RedisError::Link(LinkError::Refused(text)) => format!("Redis refuses: {}", code(text)),
            RedisError::Link(LinkError::Failed(text)) => format!("Redis failed: {}", code(text)),
            RedisError::Late(_) => "no answer in time".to_owned(),
            RedisError::Malformed(_) => "an answer that can't be understood".to_owned(),
            RedisError::OtherGeneration(_) => "the counters were lost".to_owned(),
        }
    }
}

/// The counters of one Redis node, or of one partition of a cluster, over one link.
#[derive(Debug)]
pub struct RedisCounters {
    link: Box<dyn Link>,
    keys: Keys,
}

impl RedisCounters {
    /// Connects when it is first asked something: that Redis is away is no error here. What belongs to no subject stands in
    /// the partition `home`; in a cluster all that is asked must be of that one.
    pub fn new(settings: &RedisSettings, home: u64, link: Box<dyn Link>) -> Self {
        Self { link, keys: Keys::new(&settings.key_prefix, home) }
    }

    /// Decides a batch in one round trip. `id` must never have been used; no subject may stand twice in `subjects`. `around`
    /// is about Redis' time: its own decides, within the windows of the calendar from there. Where the counters are of another
    /// `generation` (`None`: any) nothing is done.
    pub async fn decide(
        &self,
        id: BatchId,
        generation: Option<Generation>,
        subjects: &[SubjectBatch],
        around: Timestamp,
    ) -> Result<BatchOutcome, RedisError> {
        if subjects.is_empty() {
            return Ok(BatchOutcome { now: around, subjects: Vec::new() });
        }
        let call = encode::batch(&self.keys, id, generation, subjects, around);
        decode::answer(&script::DECIDE.call(&*self.link, call).await?, subjects)
    }

    /// What came of each check of a batch whose answer was lost; `None` where it charged nothing. From now on the batch
    /// does not run, however late it arrives.
    pub async fn missed(&self, id: BatchId) -> Result<Option<Vec<Verdict>>, RedisError> {
        let call =
            encode::Call { keys: vec![self.keys.marker(id)], arguments: vec![id.sequence().to_string().into_bytes()] };
        decode::missed(&script::MISSED.call(&*self.link, call).await?)
    }

    /// Adds what was granted without Redis, once for an `id` however often it is called. No subject may stand twice.
    pub async fn add(&self, id: BatchId, granted: &[Granted], around: Timestamp) -> Result<(), RedisError> {
        if granted.is_empty() {
            return Ok(());
        }
        script::ADD.call(&*self.link, encode::granted(&self.keys, Some(id), granted, around)).await.map(drop)
    }

    /// Takes back what was charged beforehand and not used, once for an `id` however often it is called.
    pub async fn give_back(&self, id: BatchId, returns: &[GivenBack]) -> Result<(), RedisError> {
        script::GIVE_BACK.call(&*self.link, encode::given_back(&self.keys, id, returns)).await.map(drop)
    }

    /// Tells all instances something, where they listen ([`Subscription`]).
    pub async fn tell(&self, notice: &Notice) -> Result<(), RedisError> {
        let (channel, text) = (notice::channel(self.keys.prefix()), notice.to_string());
        Ok(self.link.command(&[b"PUBLISH".to_vec(), channel.into_bytes(), text.into_bytes()]).await.map(drop)?)
    }

    /// Raises what is counted to at least this. No subject may stand twice.
    pub async fn raise(&self, counted: &[Granted], around: Timestamp) -> Result<(), RedisError> {
        if counted.is_empty() {
            return Ok(());
        }
        script::ADD.call(&*self.link, encode::granted(&self.keys, None, counted, around)).await.map(drop)
    }

    /// Which counters these are; where there are none, `new` from now on.
    pub async fn generation(&self, new: Option<Generation>) -> Result<Option<Generation>, RedisError> {
        let new = new.map(|new| new.number().to_le_bytes().iter().copied().take(7).collect());
        let call = encode::Call { keys: vec![self.keys.generation()], arguments: vec![new.unwrap_or_default()] };
        decode::generation(&script::GENERATION.call(&*self.link, call).await?)
    }

    /// Sets slots to nothing used; `None` is every slot of the subject. Leases stay.
    pub async fn reset(&self, subject: &Subject, slots: Option<&[SlotId]>) -> Result<(), RedisError> {
        if slots.is_some_and(<[SlotId]>::is_empty) {
            return Ok(());
        }
        script::RESET.call(&*self.link, encode::reset(&self.keys, subject, slots.unwrap_or_default())).await.map(drop)
    }

    /// Changes leases, each by itself. Each change may be repeated: it is then found made, or the lease not held.
    pub async fn change_leases(&self, changes: &[LeaseChange]) -> Result<LeaseAnswer, RedisError> {
        let answer = script::LEASE.call(&*self.link, encode::leases(&self.keys, changes)).await?;
        decode::leases(&answer, changes.len())
    }

    /// The leases that a subject holds of one kind, behind a place, in their order, at most so many.
    pub async fn held(
        &self,
        subject: &Subject,
        kind: LeaseKind,
        after: Option<LeasePlace>,
        limit: usize,
    ) -> Result<Vec<Lease>, RedisError> {
        let call = encode::held(&self.keys, subject, kind, after, limit);
        decode::held(&script::HELD.call(&*self.link, call).await?, kind)
    }

    /// Asks for a sign of life; how long it took.
    pub async fn ping(&self) -> Result<Duration, RedisError> {
        let watch = Stopwatch::start();
        self.link.command(&[b"PING".to_vec()]).await?;
        Ok(watch.elapsed())
    }

    /// Which run of which server answers; empty where it may not be asked.
    pub async fn run_id(&self) -> Result<String, RedisError> {
        match self.link.command(&[b"INFO".to_vec(), b"server".to_vec()]).await {
            Ok(info) => Ok(about::run_id(&String::from_utf8_lossy(&info.unwrap_or_default()))),
            Err(LinkError::Refused(text)) if text.starts_with("NOPERM") => Ok(String::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// What an operator should be told of the server.
    pub async fn warnings(&self) -> Result<Vec<String>, RedisError> {
        let info = self.link.command(&[b"INFO".to_vec()]).await?.unwrap_or_default();
        Ok(about::warnings(&String::from_utf8_lossy(&info)))
    }

    /// Where it is asked, as far as that is known.
    pub fn node(&self) -> String {
        self.link.node()
    }

    /// Another number when it is another server that is asked: the one before may have told it less than it knew.
    pub fn server(&self) -> u64 {
        self.link.server()
    }

    /// The line is dead though nobody has closed it: what is asked next goes over a new one.
    pub fn replace_line(&self) {
        self.link.replace();
    }
}
