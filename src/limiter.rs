//! Deciding: sends each check to the shard that owns its subject, and brings the answer back.
//!
//! [`Limiter`] is the handle that the rest of the service holds; checks go through the [`Outbox`] of their worker thread. What
//! a shard does is in [`shard`]; [`actor`] is its shell.

pub mod actor;
mod batch;
pub mod blocks;
mod check;
mod debts;
mod denials;
mod handing_out;
mod inbox;
mod lanes;
mod lease_debts;
mod ledger;
mod local;
mod memos;
mod messages;
mod outbox;
mod pace;
mod profiles;
mod records;
mod redis_links;
mod redis_state;
mod remote;
mod restoration;
mod routing;
pub mod shard;
mod shards;
mod spans;
mod thresholds;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Addr, Handler, Message};
use arc_swap::ArcSwap;
use smallvec::smallvec;
use tokio::sync::oneshot;
use tracing::Span;

use crate::counters::redis::Notice;
use crate::domain::account::QuotaOverride;
use crate::domain::decision::Decision;
use crate::domain::lease::{ChangeLease, Lease, LeaseId, LeasePlace};
use crate::domain::limit::LimitName;
use crate::domain::plan::Plan;
use crate::domain::policy::Policy;
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::observability::metrics::Metrics;

use actor::Stop;
pub use actor::{Fallen, ShardActor};
pub use check::{Check, RequestId, wish_for_lease};
pub use denials::Denials;
pub use lanes::Lanes;
use messages::{ChangeHeld, Checks, Forget, HandOver, Heard, Job, ListHeld, Permit, Reply, Reset, Tell};
pub use outbox::Outbox;
pub use records::{NoRecords, Reading, Records, Unreadable};
pub use redis_state::RedisState;
pub use remote::Remote;
pub use restoration::Restoration;
pub use routing::{partitions_of, shard_of};
pub use shards::{Parts, Shards};
use spans::decision_span;

/// A subject's quota as it stands, and where it comes from.
#[derive(Debug, Clone)]
pub struct Status {
    /// Of a check that costs nothing.
    pub decision: Decision,
    pub plan: Arc<Plan>,
    pub active_override: Option<QuotaOverride>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimiterError {
    #[error("the shard has as many checks waiting as it may")]
    Overloaded,
    #[error("the counters can't be reached, and this service is set to deny then")]
    CountersUnavailable,
    #[error("the counters of this subject could not be read")]
    CountersUnreadable,
    #[error("the shard has stopped")]
    Stopped,
}

/// Why the shards can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot read the running counters")]
    Counters(#[from] Unreadable),
    #[cfg(feature = "actix-redis")]
    #[error("the feature actix-redis can't do with {0}")]
    PlainRedis(&'static str),
}

/// How one shard is.
#[derive(Debug, Clone)]
pub struct ShardHealth {
    pub alive: bool,
    /// Checks that wait for an answer.
    pub queued: usize,
}

/// How Redis is, as the shards see it.
#[derive(Debug, Clone)]
pub struct RedisHealth {
    /// Nodes that can't be asked.
    pub nodes_away: usize,
    pub ping_micros: Option<u64>,
    /// Why not.
    pub error: Option<String>,
}

/// How the limiter is.
#[derive(Debug, Clone)]
pub struct LimiterHealth {
    pub shards: Vec<ShardHealth>,
    /// `None` with embedded counters.
    pub redis: Option<RedisHealth>,
    pub fallback_active: bool,
}

/// A shard as the handle knows it.
#[derive(Debug)]
pub struct ShardLink {
    /// Another one after the actor had to be started again.
    address: ArcSwap<Addr<ShardActor>>,
    queued: Arc<AtomicUsize>,
}

impl ShardLink {
    /// `queued` is the gauge that the shard's checks are counted in.
    pub fn new(address: Addr<ShardActor>) -> Self {
        Self { address: ArcSwap::from_pointee(address), queued: Arc::new(AtomicUsize::new(0)) }
    }
}

/// The handle to all shards. Clones are cheap and share them.
#[derive(Debug, Clone)]
pub struct Limiter {
    shards: Arc<[ShardLink]>,
    /// How many checks may wait at one shard.
    mailbox: usize,
    policy: Arc<ArcSwap<Policy>>,
    redis: Option<RedisState>,
    metrics: Arc<Metrics>,
    enforcing: bool,
}

impl Limiter {
    /// `shards` in the order of their numbers; `mailbox` is how many checks may wait at each.
    pub fn new(
        shards: Vec<ShardLink>,
        mailbox: usize,
        policy: Arc<ArcSwap<Policy>>,
        redis: Option<RedisState>,
        metrics: Arc<Metrics>,
        enforcing: bool,
    ) -> Self {
        metrics.shard_queue_bound.set(i64::try_from(mailbox).unwrap_or(i64::MAX));
        Self { shards: shards.into(), mailbox, policy, redis, metrics, enforcing }
    }

    /// How the subject's limits stand. Charges nothing.
    pub async fn status(&self, subject: Subject, claimed: Option<TierName>) -> Result<Status, LimiterError> {
        self.ask(Check::look(subject, claimed)).await
    }

    /// Renews a lease, or gives it back. When it ends then; `None` where it is not held.
    pub async fn change_lease(&self, id: LeaseId, change: ChangeLease) -> Result<Option<Timestamp>, LimiterError> {
        let shard = self.shard(&id.subject)?;
        let permit = Permit::take(&shard.queued, self.mailbox).ok_or(LimiterError::Overloaded)?;
        let (reply, done) = oneshot::channel();
        shard.address.load().do_send(ChangeHeld { id, change, reply, permit });
        done.await.map_err(|_| LimiterError::Stopped)?
    }

    /// Gives a lease back without waiting for it, from any thread. It finds a place in the queue whatever waits there: there is no more
    /// to give back than was taken. Where it can't be done the lease expires.
    pub fn release(&self, id: LeaseId) {
        let Ok(shard) = self.shard(&id.subject) else { return };
        let Some(permit) = Permit::take(&shard.queued, usize::MAX) else { return };
        let (reply, _) = oneshot::channel();
        shard.address.load().do_send(ChangeHeld { id, change: ChangeLease::Release, reply, permit });
    }

    /// The leases that a subject holds behind a place, in their order, at most `limit`.
    ///
    /// # Errors
    /// While Redis is away, [`LimiterError::CountersUnavailable`]: other instances' leases are not known then.
    pub async fn leases(
        &self,
        subject: Subject,
        after: Option<LeasePlace>,
        limit: usize,
    ) -> Result<Vec<Lease>, LimiterError> {
        let shard = self.shard(&subject)?;
        let permit = Permit::take(&shard.queued, self.mailbox).ok_or(LimiterError::Overloaded)?;
        let (reply, listed) = oneshot::channel();
        shard.address.load().do_send(ListHeld { subject, after, limit, reply, permit });
        listed.await.map_err(|_| LimiterError::Stopped)?
    }

    /// Sets what the named limits have used to 0; `None` is all of them, those of other tiers too.
    pub async fn reset(&self, subject: &Subject, limits: Option<&[LimitName]>) -> Result<(), LimiterError> {
        let slots = match limits {
            None => None,
            Some(names) => {
                let status = self.status(subject.clone(), None).await?;
                Some(names.iter().filter_map(|name| status.plan.limit(name)).map(|limit| limit.slot).collect())
            }
        };
        let shard = self.shard(subject)?;
        let (reply, done) = oneshot::channel();
        shard.address.load().do_send(Reset { subject: subject.clone(), slots, reply });
        done.await.map_err(|_| LimiterError::Stopped)?
    }

    /// What is remembered of these users is stale: their next check reads the database.
    pub async fn forget(&self, users: &[UserId]) {
        let mut by_shard: Vec<Vec<UserId>> = vec![Vec::new(); self.shards.len()];
        for user in users {
            let number = routing::shard_of(&Subject::User(user.clone()), self.shards.len());
            if let Some(users) = by_shard.get_mut(number) {
                users.push(user.clone());
            }
        }
        let mut done = Vec::new();
        for (shard, users) in self.shards.iter().zip(by_shard).filter(|(_, users)| !users.is_empty()) {
            let (reply, forgotten) = oneshot::channel();
            shard.address.load().do_send(Forget { users: Some(users), reply });
            done.push(forgotten);
        }
        settle(done).await;
    }

    /// Everything that is remembered of users is stale.
    pub async fn forget_all(&self) {
        self.tell_all(|reply| Forget { users: None, reply }).await;
    }

    /// Tells other instances something, where there is a Redis to tell it through.
    pub fn tell(&self, notice: Notice) {
        if let Some(shard) = self.shards.first() {
            shard.address.load().do_send(Tell { notice });
        }
    }

    /// Another instance has told something about a subject.
    pub fn hear(&self, subject: &Subject, notice: Notice) {
        if let Ok(shard) = self.shard(subject) {
            shard.address.load().do_send(Heard { notice });
        }
    }

    /// Has every shard hand the usage it has gathered to the books.
    pub async fn hand_over(&self) {
        self.tell_all(|reply| HandOver { reply }).await;
    }

    /// The actor of a shard has ended by itself; this one has taken its place.
    pub fn replace_shard(&self, number: usize, address: Addr<ShardActor>) {
        if let Some(shard) = self.shards.get(number) {
            shard.address.store(Arc::new(address));
            self.metrics.shard_restarts.inc();
        }
    }

    /// Has the shard of a subject fail.
    #[cfg(test)]
    pub fn fail(&self, subject: &Subject) {
        let shard = self.shard(subject).expect("there is a shard");
        shard.address.load().do_send(actor::Panic);
    }

    /// Stops every shard when it has answered what it was sent and handed its usage over.
    pub async fn stop(&self) {
        for shard in self.shards.iter() {
            // One that has ended by itself has nothing more to hand over.
            shard.address.load_full().send(Stop).await.ok();
        }
    }

    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Whether anything is ever denied: `ENABLE_RATE_LIMITING`.
    pub const fn is_enforcing(&self) -> bool {
        self.enforcing
    }

    pub fn health(&self) -> LimiterHealth {
        let shard = |link: &ShardLink| ShardHealth {
            alive: link.address.load().connected(),
            queued: link.queued.load(Ordering::Relaxed),
        };
        let redis = self.redis.as_ref().map(RedisState::health);
        let fallback_active = redis.as_ref().is_some_and(|redis| redis.nodes_away > 0);
        LimiterHealth { shards: self.shards.iter().map(shard).collect(), redis, fallback_active }
    }

    /// Sends one check to its shard, and waits for how the limits stand then.
    async fn ask(&self, check: Check) -> Result<Status, LimiterError> {
        let shard = self.shard(&check.subject)?;
        let (sender, answer) = oneshot::channel();
        let job = self.job(shard, check, Reply::Status(sender), decision_span(1))?;
        shard.address.load().do_send(Checks { jobs: smallvec![job] });
        answer.await.map_err(|_| LimiterError::Stopped)?
    }

    /// Tells every shard, and waits until each has done it.
    async fn tell_all<M>(&self, message: impl Fn(oneshot::Sender<()>) -> M)
    where
        M: Message<Result = ()> + Send + 'static,
        ShardActor: Handler<M>,
    {
        let mut done = Vec::with_capacity(self.shards.len());
        for shard in self.shards.iter() {
            let (reply, told) = oneshot::channel();
            shard.address.load().do_send(message(reply));
            done.push(told);
        }
        settle(done).await;
    }

    fn shard(&self, subject: &Subject) -> Result<&ShardLink, LimiterError> {
        self.shards.get(routing::shard_of(subject, self.shards.len())).ok_or(LimiterError::Stopped)
    }

    fn job(&self, shard: &ShardLink, check: Check, reply: Reply, span: Span) -> Result<Job, LimiterError> {
        match Permit::take(&shard.queued, self.mailbox) {
            Some(permit) => Ok(Job { check, reply, permit, span }),
            None => {
                self.metrics.overloaded.inc();
                Err(LimiterError::Overloaded)
            }
        }
    }
}

/// Waits until every shard has answered; one that has stopped has nothing to answer.
async fn settle(done: Vec<oneshot::Receiver<()>>) {
    for answer in done {
        answer.await.ok();
    }
}
