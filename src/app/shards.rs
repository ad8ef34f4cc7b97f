//! Starts the shard actors, each on a thread of its own, and stops them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::AppError;
use super::redis_links::RedisLinks;
use crate::clock::Clock;
use crate::config::{RedisPlace, Settings};
use crate::counters::redis::{BatchId, RedisCounters, Subscription};
use crate::counters::table::CounterTable;
use crate::db::{Database, DbError};
use crate::domain::policy::Policy;
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::limiter::shard::{Counters, Shard};
use crate::limiter::{
    Denials, Lanes, Limiter, RedisLanes, RedisState, Remote, Restoration, ShardActor, ShardLink, partitions_of,
    shard_of,
};
use crate::observability::metrics::Metrics;
use crate::persistence::{Books, BooksError};

/// Between two tries to read the counters of a shard that fell.
const PAUSE: Duration = Duration::from_secs(1);

/// The running shards.
pub struct Shards {
    pub limiter: Limiter,
    arbiters: Vec<Arbiter>,
    watch: JoinHandle<()>,
    links: Option<RedisLinks>,
}

/// What every shard is made of.
struct Parts {
    settings: Settings,
    database: Database,
    books: Books,
    policy: Arc<ArcSwap<Policy>>,
    metrics: Arc<Metrics>,
    clock: Clock,
    redis_state: Option<RedisState>,
    links: Option<RedisLinks>,
    restoration: Arc<Restoration>,
    /// Told which shard has ended by itself.
    fallen: mpsc::Sender<usize>,
}

/// Starts all shards. With embedded counters the running windows are read back from the database first.
pub async fn start(
    settings: &Settings,
    instance: u64,
    database: &Database,
    books: &Books,
    policy: &Arc<ArcSwap<Policy>>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Result<Shards, AppError> {
    let count = settings.limiter.shards;
    let (fallen, falls) = mpsc::channel(count);
    let parts = Parts {
        settings: settings.clone(),
        database: database.clone(),
        books: books.clone(),
        policy: Arc::clone(policy),
        metrics: Arc::clone(metrics),
        clock: clock.clone(),
        redis_state: settings.redis.as_ref().map(|_| RedisState::new(Arc::clone(metrics))),
        links: settings.redis.as_ref().map(|redis| RedisLinks::new(redis, count)).transpose()?,
        restoration: Arc::new(Restoration::new(database.clone(), Arc::clone(policy), clock.clone())),
        fallen,
    };
    let arbiters: Vec<Arbiter> = (0..count).map(|_| Arbiter::new()).collect();
    let tables = parts.tables().await?.into_iter().zip(&arbiters).enumerate();
    let links = tables
        .map(|(number, (table, arbiter))| ShardLink::new(parts.start(number, table, instance, &arbiter.handle())))
        .collect();
    let limiter = Limiter::new(
        links,
        settings.limiter.shard_mailbox,
        Arc::clone(policy),
        parts.redis_state.clone(),
        Arc::clone(metrics),
        settings.limiter.enabled,
    );
    let handles = arbiters.iter().map(Arbiter::handle).collect();
    let links = parts.links.clone();
    let watch = actix::spawn(raise_the_fallen(parts, limiter.clone(), handles, falls));
    Ok(Shards { limiter, arbiters, watch, links })
}

/// Starts a shard that has ended by itself again, with what the books have of its subjects.
async fn raise_the_fallen(
    parts: Parts,
    limiter: Limiter,
    arbiters: Vec<ArbiterHandle>,
    mut falls: mpsc::Receiver<usize>,
) {
    while let Some(number) = falls.recv().await {
        tracing::error!(shard = number, "a shard has failed: it is started again");
        let Some(arbiter) = arbiters.get(number) else { continue };
        // Tried until it can be read: a shard without its counters would grant anew.
        let table = loop {
            match parts.table_of(number).await {
                Ok(table) => break table,
                Err(error) => tracing::error!(%error, shard = number, "its counters can't be read: it stays down"),
            }
            tokio::time::sleep(PAUSE).await;
        };
        // The marks in Redis of the shard that fell must not be taken for its successor's.
        let instance = getrandom::u64().unwrap_or_default();
        limiter.replace_shard(number, parts.start(number, table, instance, arbiter));
    }
}

impl Parts {
    fn capacity(&self) -> usize {
        self.settings.limiter.cache_capacity.div_ceil(self.settings.limiter.shards)
    }

    /// What the database has counted, where counters are embedded.
    async fn counted(&self, now: Timestamp) -> Result<Vec<(Subject, SubjectState)>, DbError> {
        if self.settings.redis.is_some() { Ok(Vec::new()) } else { self.database.load_counters(now).await }
    }

    /// A table for each shard.
    async fn tables(&self) -> Result<Vec<CounterTable>, DbError> {
        let (count, now) = (self.settings.limiter.shards, self.clock.now());
        let mut tables: Vec<CounterTable> = (0..count).map(|_| CounterTable::new(self.capacity())).collect();
        for (subject, state) in self.counted(now).await? {
            if let Some(table) = tables.get_mut(shard_of(&subject, count)) {
                table.put(&subject, state, now);
            }
        }
        Ok(tables)
    }

    /// The table of one shard, of all that was recorded until now.
    async fn table_of(&self, number: usize) -> Result<CounterTable, BooksError> {
        if self.settings.redis.is_none() {
            self.books.flush().await?;
        }
        let (count, now) = (self.settings.limiter.shards, self.clock.now());
        let mut table = CounterTable::new(self.capacity());
        for (subject, state) in self.counted(now).await? {
            if shard_of(&subject, count) == number {
                table.put(&subject, state, now);
            }
        }
        Ok(table)
    }

    fn start(&self, number: usize, table: CounterTable, instance: u64, arbiter: &ArbiterHandle) -> Addr<ShardActor> {
        let limits = &self.settings.limiter;
        let counters = self.lanes(number, instance).map_or_else(|| Counters::Embedded(table), Counters::Redis);
        let (policy, metrics) = (Arc::clone(&self.policy), Arc::clone(&self.metrics));
        let shard = Shard::new(counters, self.capacity(), policy, metrics, limits.enabled);
        let redis = self.settings.redis.clone().zip(self.links.clone());
        let restoration = Arc::clone(&self.restoration);
        let (database, books, clock) = (self.database.clone(), self.books.clone(), self.clock.clone());
        let (fallen, shards) = ((self.fallen.clone(), number), limits.shards);
        ShardActor::start_in_arbiter(arbiter, move |_| {
            let mut lanes = RedisLanes { lanes: Vec::new(), deadline: Duration::ZERO, restoration };
            if let Some((settings, links)) = redis {
                lanes.deadline = settings.deadline;
                lanes.lanes.extend(links.of_shard(number, shards).into_iter().map(|(partition, link)| {
                    (partition, Rc::new(RedisCounters::new(&settings, partition.unwrap_or(0), link)))
                }));
            }
            ShardActor::new(shard, lanes, database, books, clock, fallen)
        })
    }

    /// The lanes of a shard to Redis; `None` where counters are embedded.
    fn lanes(&self, number: usize, instance: u64) -> Option<Lanes> {
        let (redis, state) = self.settings.redis.as_ref().zip(self.redis_state.as_ref())?;
        let limits = &self.settings.limiter;
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

impl Shards {
    /// Where other instances are listened to; `None` where there are none, or no connection is left for it.
    pub fn subscription(&self, settings: &Settings) -> Option<Subscription> {
        self.links.as_ref().zip(settings.redis.as_ref()).and_then(|(links, redis)| links.subscription(redis))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cost::{Items, Multiplier};
    use crate::domain::subject::UserId;
    use crate::limiter::{Check, LimiterError, Outbox};
    use crate::persistence::LedgerBounds;

    fn subject(id: &str) -> Subject {
        Subject::User(UserId::parse(id).unwrap())
    }

    /// One more check of a user; what they have used in the hour.
    async fn used(outbox: &Outbox, id: &str) -> Result<u64, LimiterError> {
        let one = Multiplier::ONE.times(Items::ONE);
        let check = Check { cost: one, items: Some(Items::ONE), dry_run: false, ..Check::look(subject(id), None) };
        outbox.check(check).await.map(|decision| decision.limits[0].used)
    }

    #[actix::test]
    async fn a_shard_that_panics_is_started_again_with_its_counts_and_the_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let vars = [("QUOTAD_DATA_DIR", folder.path().to_string_lossy().into_owned()), ("QUOTAD_SHARDS", "2".into())];
        let settings = Settings::from_vars(vars.map(|(name, value)| (name.to_owned(), value))).unwrap();
        let database = Database::connect(&settings.database).unwrap();
        database.migrate().await.unwrap();
        let now = Timestamp::from_seconds(1_800_000_000);
        let clock = Clock::manual(now);
        let bounds = LedgerBounds::default();
        let books = Books::start(database.clone(), &settings.database, clock.clone(), "one".to_owned(), bounds);
        let metrics = Arc::new(Metrics::new().unwrap());
        let policy = Arc::new(ArcSwap::from_pointee(Policy::of_layers(&[&settings.policy.layer()]).unwrap()));
        let shards = start(&settings, 1, &database, &books, &policy, &metrics, &clock).await.unwrap();
        let outbox = Outbox::new(shards.limiter.clone());

        let on_shard = |number| (0..100).map(|id| id.to_string()).find(|id| shard_of(&subject(id), 2) == number);
        let (falls, stays) = (on_shard(0).unwrap(), on_shard(1).unwrap());
        for count in 1..=3 {
            assert_eq!((used(&outbox, &falls).await, used(&outbox, &stays).await), (Ok(count), Ok(count)));
        }
        shards.limiter.fail(&subject(&falls));
        assert_eq!(used(&outbox, &stays).await, Ok(4));
        let after = loop {
            match used(&outbox, &falls).await {
                Err(LimiterError::Stopped) => tokio::time::sleep(Duration::from_millis(5)).await,
                answer => break answer,
            }
        };
        assert_eq!(after, Ok(4), "what was counted is counted still");
        assert_eq!(metrics.shard_restarts.get(), 1);
        assert!(shards.limiter.health().shards.iter().all(|shard| shard.alive));
        shards.stop().await;
        books.close().await.unwrap();
        let report =
            database.usage_report(now.start_of_hour(), crate::domain::report::ReportOrder::Cost, 10).await.unwrap();
        assert_eq!(report.totals.usage.requests, 8, "no usage is lost with the shard");
    }
}
