//! The links of the shards to Redis: to one node, to whoever is the master, or to each partition of a cluster.

#[cfg(not(feature = "actix-redis"))]
use std::sync::Arc;

use super::StartError;
#[cfg(not(feature = "actix-redis"))]
use super::routing::partitions_of;
#[cfg(feature = "actix-redis")]
use crate::config::HostPort;
use crate::config::{RedisPlace, RedisSettings};
#[cfg(feature = "actix-redis")]
use crate::counters::redis::ActixLink;
#[cfg(not(feature = "actix-redis"))]
use crate::counters::redis::{Cluster, ClusterLink, Finder, Line, Sentinels};
use crate::counters::redis::{Link, Subscription};

/// What all links are made of.
#[derive(Clone)]
pub enum RedisLinks {
    /// As many as may be had, at most one a shard: shards share them.
    #[cfg(not(feature = "actix-redis"))]
    Lines(Vec<Line>, Option<Arc<Sentinels>>),
    #[cfg(not(feature = "actix-redis"))]
    Cluster(Arc<Cluster>),
    /// A connection for each shard.
    #[cfg(feature = "actix-redis")]
    Plain(HostPort),
}

#[cfg(not(feature = "actix-redis"))]
impl RedisLinks {
    /// Must be called within a running actix system.
    pub fn new(redis: &RedisSettings, shards: usize) -> Result<Self, StartError> {
        let (finder, sentinels) = match &redis.place {
            RedisPlace::Node(at) => (Finder::At(at.clone()), None),
            RedisPlace::Sentinel { sentinels, master } => {
                let sentinels = Sentinels::watch(redis, sentinels, master);
                (Finder::Master(Arc::clone(&sentinels)), Some(sentinels))
            }
            RedisPlace::Cluster(seeds) => return Ok(Self::Cluster(Cluster::new(redis, seeds))),
        };
        let lines = redis.connections_to_ask().min(shards);
        Ok(Self::Lines((0..lines).map(|_| Line::new(redis, finder.clone())).collect(), sentinels))
    }

    /// Where other instances are listened to; `None` where no connection is left for it.
    pub fn subscription(&self, redis: &RedisSettings) -> Option<Subscription> {
        let sentinels = match self {
            Self::Lines(_, sentinels) => sentinels.clone(),
            Self::Cluster(_) => None,
        };
        redis.may_listen().then(|| Subscription::new(redis, sentinels))
    }

    /// The links of one shard, each with the partition that it is for: `None` is all of them.
    pub fn of_shard(&self, shard: usize, shards: usize) -> Vec<(Option<u64>, Box<dyn Link>)> {
        match self {
            Self::Lines(lines, _) => {
                let line = lines.iter().cycle().nth(shard).cloned();
                line.into_iter().map(|line| (None, Box::new(line) as Box<dyn Link>)).collect()
            }
            Self::Cluster(cluster) => partitions_of(shard, shards)
                .map(|number| (Some(number), Box::new(ClusterLink::new(cluster, number, shard)) as Box<dyn Link>))
                .collect(),
        }
    }
}

/// The plain link of the feature, and none of what it can't do.
#[cfg(feature = "actix-redis")]
impl RedisLinks {
    pub fn new(redis: &RedisSettings, shards: usize) -> Result<Self, StartError> {
        if redis.tls || redis.username.is_some() || redis.password.is_some() || redis.database != 0 {
            return Err(StartError::PlainRedis("a login, TLS or a database number"));
        }
        if redis.max_connections < shards {
            return Err(StartError::PlainRedis("fewer connections than SHARDS"));
        }
        match &redis.place {
            RedisPlace::Node(at) => Ok(Self::Plain(at.clone())),
            RedisPlace::Sentinel { .. } | RedisPlace::Cluster(_) => Err(StartError::PlainRedis("more than one node")),
        }
    }

    /// The plain link can't listen.
    pub fn subscription(&self, _redis: &RedisSettings) -> Option<Subscription> {
        None
    }

    pub fn of_shard(&self, _shard: usize, _shards: usize) -> Vec<(Option<u64>, Box<dyn Link>)> {
        let Self::Plain(at) = self;
        vec![(None, Box::new(ActixLink::new(at)))]
    }
}
