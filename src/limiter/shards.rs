//! Starts the shard actors, each on a thread of its own, and stops them.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::actor::{RedisLanes, ShardActor};
use super::denials::Denials;
use super::lanes::Lanes;
use super::records::{Records, Unreadable};
use super::redis_links::RedisLinks;
use super::redis_state::RedisState;
use super::remote::Remote;
use super::restoration::Restoration;
use super::routing::{partitions_of, shard_of};
use super::shard::{Counters, Shard};
use super::{Limiter, ShardLink, StartError};
use crate::clock::Clock;
use crate::config::{LimiterSettings, RedisPlace, RedisSettings};
use crate::counters::redis::{BatchId, Notice, RedisCounters};
use crate::counters::table::CounterTable;
use crate::domain::policy::Policy;
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::observability::chain::Chain;
use crate::observability::metrics::Metrics;
use crate::observability::outlet::Outlet;

/// Between two tries to read the counters of a shard that fell.
const PAUSE: Duration = Duration::from_secs(1);

/// The running shards.
pub struct Shards {
    pub limiter: Limiter,
    arbiters: Vec<Arbiter>,
    watch: JoinHandle<()>,
    links: Option<(RedisLinks, RedisSettings)>,
}

/// What shards are made of.
#[derive(Debug, Clone)]
pub struct Parts {
    pub limiter: LimiterSettings,
    /// `None`: counters are embedded.
    pub redis: Option<RedisSettings>,
    pub records: Arc<dyn Records>,
    pub policy: Arc<ArcSwap<Policy>>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    /// Tells this run from every other on the same Redis.
    pub instance: u64,
    /// Where events are told; `None` where nobody is.
    pub outlet: Option<Outlet>,
}

/// The parts, and what shards have in common beside them.
struct Common {
    parts: Parts,
    redis_state: Option<RedisState>,
    links: Option<RedisLinks>,
    restoration: Arc<Restoration>,
    /// Told which shard has ended by itself.
    fallen: mpsc::Sender<usize>,
}

impl Shards {
    /// Starts all shards. With embedded counters the running windows are read back from the records first.
    ///
    /// Must be called within a running actix system.
    ///
    /// # Errors
    /// The running windows can't be read; or, with the feature `actix-redis`, the settings of Redis are none for it.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let count = parts.limiter.shards;
        let (fallen, falls) = mpsc::channel(count);
        let restoration = Restoration::new(Arc::clone(&parts.records), Arc::clone(&parts.policy), parts.clock.clone());
        let state = |_: &RedisSettings| RedisState::new(Arc::clone(&parts.metrics), parts.outlet.clone());
        let common = Common {
            redis_state: parts.redis.as_ref().map(state),
            links: parts.redis.as_ref().map(|redis| RedisLinks::new(redis, count)).transpose()?,
            restoration: Arc::new(restoration),
            fallen,
            parts,
        };
        let tables = common.tables().await?;
        let arbiters: Vec<Arbiter> = (0..count).map(|_| Arbiter::new()).collect();
        let handles: Vec<ArbiterHandle> = arbiters.iter().map(Arbiter::handle).collect();
        let Parts { limiter: settings, redis, policy, metrics, instance, .. } = common.parts.clone();
        let links = tables
            .into_iter()
            .zip(&handles)
            .enumerate()
            .map(|(number, (table, arbiter))| ShardLink::new(common.start(number, table, instance, arbiter)))
            .collect();
        let (mailbox, state) = (settings.shard_mailbox, common.redis_state.clone());
        let limiter = Limiter::new(links, mailbox, policy, state, metrics, settings.enabled);
        let links = common.links.clone().zip(redis);
        let watch = actix::spawn(raise_the_fallen(common, limiter.clone(), handles, falls));
        Ok(Self { limiter, arbiters, watch, links })
    }

    /// Listens to the other instances on the same Redis, and tells `changed` when one of them says that it has changed
    /// something. `None` where there are none, or no connection is left for it.
    pub fn listen(&self, changed: impl Fn() + 'static) -> Option<JoinHandle<()>> {
        let subscription = self.links.as_ref().and_then(|(links, redis)| links.subscription(redis))?;
        let limiter = self.limiter.clone();
        Some(actix::spawn(subscription.run(move |notice| match &notice {
            Notice::Wanted(subject) | Notice::Reset(subject) => limiter.hear(&subject.clone(), notice),
            Notice::Changed => changed(),
        })))
    }

    /// Stops every shard when it has answered what it was sent and handed its usage over.
    pub async fn stop(self) {
        self.watch.abort();
        self.limiter.stop().await;
        for arbiter in self.arbiters {
            arbiter.stop();
            // A thread that panicked has nothing more to do either.
            arbiter.join().ok();
        }
    }
}

/// Starts a shard that has ended by itself again, with what the records have of its subjects.
async fn raise_the_fallen(
    common: Common,
    limiter: Limiter,
    arbiters: Vec<ArbiterHandle>,
    mut falls: mpsc::Receiver<usize>,
) {
    while let Some(number) = falls.recv().await {
        tracing::error!(shard = number, "a shard has ended by itself; it is started again");
        let Some(arbiter) = arbiters.get(number) else { continue };
        // Tried until it can be read: a shard without its counters would grant anew.
        let mut tries: u64 = 0;
        let table = loop {
            match common.tables().await {
                Ok(tables) => break tables.into_iter().nth(number),
                Err(error) if tries == 0 => {
                    let error = Chain(&error);
                    tracing::error!(%error, shard = number, "the counters of a shard can't be read: it stays down until they can");
                }
                Err(_) => {}
            }
            tries = tries.saturating_add(1);
            tokio::time::sleep(PAUSE).await;
        };
        let Some(table) = table else { continue };
        // The marks in Redis of the shard that fell must not be taken for its successor's.
        let instance = getrandom::u64().unwrap_or_default();
        limiter.replace_shard(number, common.start(number, table, instance, arbiter));
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl Common {
    fn capacity(&self) -> usize {
        self.parts.limiter.cache_capacity.div_ceil(self.parts.limiter.shards)
    }

    /// A table for each shard, of all that was recorded until now where counters are embedded.
    async fn tables(&self) -> Result<Vec<CounterTable>, Unreadable> {
        let (count, now) = (self.parts.limiter.shards, self.parts.clock.now());
        let mut tables: Vec<CounterTable> = (0..count).map(|_| CounterTable::new(self.capacity())).collect();
        if self.parts.redis.is_none() {
            let counted: Vec<(Subject, SubjectState)> = self.parts.records.counters(now).await?;
            for (subject, state) in counted {
                if let Some(table) = tables.get_mut(shard_of(&subject, count)) {
                    table.put(&subject, state, now);
                }
            }
        }
        Ok(tables)
    }

    fn start(&self, number: usize, table: CounterTable, instance: u64, arbiter: &ArbiterHandle) -> Addr<ShardActor> {
        let Parts { limiter, redis, records, policy, metrics, clock, outlet, .. } = self.parts.clone();
        let counters = self.lanes(number, instance).map_or_else(|| Counters::Embedded(table), Counters::Redis);
        let shard = Shard::new(counters, self.capacity(), policy, metrics, limiter.enabled, outlet);
        let redis = redis.zip(self.links.clone());
        let restoration = Arc::clone(&self.restoration);
        let (fallen, shards) = ((self.fallen.clone(), number), limiter.shards);
        ShardActor::start_in_arbiter(arbiter, move |_| {
            let mut lanes = RedisLanes { lanes: Vec::new(), deadline: Duration::ZERO, restoration };
            if let Some((settings, links)) = redis {
                lanes.deadline = settings.deadline;
                lanes.lanes.extend(links.of_shard(number, shards).into_iter().map(|(partition, link)| {
                    (partition, Rc::new(RedisCounters::new(&settings, partition.unwrap_or(0), link)))
                }));
            }
            ShardActor::new(shard, lanes, records, clock, fallen)
        })
    }

    /// The lanes of a shard to Redis; `None` where counters are embedded.
    fn lanes(&self, number: usize, instance: u64) -> Option<Lanes> {
        let (redis, state) = self.parts.redis.as_ref().zip(self.redis_state.as_ref())?;
        let limits = &self.parts.limiter;
        let denials = Denials::new(self.capacity());
        let lane = |partition: Option<u64>, capacity: usize| {
            let first = BatchId::first(instance, number, partition.unwrap_or(0));
            Remote::new(limits, capacity, first, denials.clone(), state.clone())
        };
        let partitions = partitions_of(number, limits.shards);
        match redis.place {
            RedisPlace::Cluster(_) => {
                let capacity = self.capacity().div_ceil(partitions.clone().count().max(1));
                let lanes = partitions.clone().map(|partition| lane(Some(partition), capacity)).collect();
                Lanes::from_partition(*partitions.start(), lanes)
            }
            RedisPlace::Node(_) | RedisPlace::Sentinel { .. } => Some(Lanes::one(lane(None, self.capacity()))),
        }
    }
}
