//! Starts the shard actors, each on a thread of its own, and stops them.

use std::sync::Arc;

use actix::prelude::*;
use arc_swap::ArcSwap;

use super::AppError;
use crate::clock::Clock;
use crate::config::{RedisSettings, Settings};
use crate::counters::redis::{BatchId, RedisCounters, RedisLink};
use crate::counters::table::CounterTable;
use crate::db::Database;
use crate::domain::policy::Policy;
use crate::limiter::actor::Stop;
use crate::limiter::shard::{Counters, Shard};
use crate::limiter::{Limiter, RedisState, Remote, ShardActor, ShardLink, shard_of};
use crate::observability::metrics::Metrics;
use crate::persistence::Books;

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

    let redis_link =
        |redis: &RedisSettings| (0..redis.max_connections.min(count)).map(|_| RedisLink::new(redis)).collect();
    let links_to_redis: Vec<RedisLink> = settings.redis.as_ref().map(redis_link).unwrap_or_default();
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
        let redis = settings.redis.clone().zip(links_to_redis.get(number % links_to_redis.len().max(1)).cloned());
        let (database, books, clock) = (database.clone(), books.clone(), clock.clone());
        let arbiter = Arbiter::new();
        let address = ShardActor::start_in_arbiter(&arbiter.handle(), move |_| {
            let redis =
                redis.map(|(settings, link)| (RedisCounters::new(&settings, Box::new(link)), settings.deadline));
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
