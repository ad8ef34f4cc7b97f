//! Starts the shard actors, each on a thread of its own, and stops them.

use std::sync::Arc;

use actix::prelude::*;
use arc_swap::ArcSwap;

use super::AppError;
use crate::clock::Clock;
use crate::config::{RedisSettings, Settings};
#[cfg(feature = "actix-redis")]
use crate::counters::redis::ActixLink;
#[cfg(not(feature = "actix-redis"))]
use crate::counters::redis::RedisLink;
use crate::counters::redis::{BatchId, Link, RedisCounters};
use crate::counters::table::CounterTable;
use crate::db::Database;
use crate::domain::policy::Policy;
use crate::limiter::actor::Stop;
use crate::limiter::shard::{Counters, Shard};
use crate::limiter::{Limiter, RedisState, Remote, ShardActor, ShardLink, shard_of};
use crate::observability::metrics::Metrics;
use crate::persistence::Books;

/// Makes a shard's link, on the shard's own thread.
type Line = Arc<dyn Fn() -> Box<dyn Link> + Send + Sync>;

/// The running shards.
pub struct Shards {
    pub limiter: Limiter,
    running: Vec<(Addr<ShardActor>, Arbiter)>,
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
    let capacity = settings.limiter.cache_capacity.div_ceil(count);
    let redis_state = settings.redis.as_ref().map(|_| RedisState::new(Arc::clone(metrics)));

    let mut tables: Vec<CounterTable> = (0..count).map(|_| CounterTable::new(capacity)).collect();
    if settings.redis.is_none() {
        let now = clock.now();
        for (subject, state) in database.load_counters(now).await? {
            if let Some(table) = tables.get_mut(shard_of(&subject, count)) {
                table.put(&subject, state, now);
            }
        }
    }

    let lines: Vec<Line> =
        settings.redis.as_ref().map(|redis| redis_lines(redis, count)).transpose()?.unwrap_or_default();
    let mut running = Vec::with_capacity(count);
    let mut links = Vec::with_capacity(count);
    for (number, table) in tables.into_iter().enumerate() {
        let counters = match &redis_state {
            None => Counters::Embedded(table),
            Some(state) => {
                let first = BatchId::first(instance, number);
                Counters::Redis(Box::new(Remote::new(&settings.limiter, capacity, first, state.clone())))
            }
        };
        let shard = Shard::new(counters, capacity, Arc::clone(policy), Arc::clone(metrics), settings.limiter.enabled);
        let redis = settings.redis.clone().zip(lines.iter().cycle().nth(number).cloned());
        let (database, books, clock) = (database.clone(), books.clone(), clock.clone());
        let arbiter = Arbiter::new();
        let address = ShardActor::start_in_arbiter(&arbiter.handle(), move |_| {
            let redis = redis.map(|(settings, line)| (RedisCounters::new(&settings, line()), settings.deadline));
            ShardActor::new(shard, redis, database, books, clock)
        });
        links.push(ShardLink::new(address.clone()));
        running.push((address, arbiter));
    }
    let limiter = Limiter::new(
        links,
        settings.limiter.shard_mailbox,
        Arc::clone(policy),
        redis_state,
        Arc::clone(metrics),
        settings.limiter.enabled,
    );
    Ok(Shards { limiter, running })
}

/// As many connections as may be had, at most one a shard.
#[cfg(not(feature = "actix-redis"))]
fn redis_lines(redis: &RedisSettings, shards: usize) -> Result<Vec<Line>, AppError> {
    let line = |_| {
        let link = RedisLink::new(redis);
        Arc::new(move || Box::new(link.clone()) as Box<dyn Link>) as Line
    };
    Ok((0..redis.max_connections.min(shards)).map(line).collect())
}

/// The plain link of the feature: a connection for each shard, and none of what it can't do.
#[cfg(feature = "actix-redis")]
fn redis_lines(redis: &RedisSettings, shards: usize) -> Result<Vec<Line>, AppError> {
    if redis.tls || redis.username.is_some() || redis.password.is_some() || redis.database != 0 {
        return Err(AppError::PlainRedis("a login, TLS or a database number"));
    }
    if redis.max_connections < shards {
        return Err(AppError::PlainRedis("fewer connections than SHARDS"));
    }
    let redis = redis.clone();
    let line: Line = Arc::new(move || Box::new(ActixLink::new(&redis)) as Box<dyn Link>);
    Ok(vec![line])
}

impl Shards {
    /// Stops every shard when it has answered what it was sent and handed its usage over.
    pub async fn stop(self) {
        for (address, _) in &self.running {
            address.send(Stop).await.ok();
        }
        for (_, arbiter) in self.running {
            arbiter.stop();
            // A shard that panicked has nothing more to hand over.
            arbiter.join().ok();
        }
    }
}
