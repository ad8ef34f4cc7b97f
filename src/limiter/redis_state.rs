//! How Redis is, as all shards of this process see it together. One log line at each change, not one a check.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::RedisHealth;
use crate::observability::metrics::Metrics;

/// No ping has been answered yet.
const NO_PING: u64 = u64::MAX;

#[derive(Debug, Clone)]
pub struct RedisState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Lanes of shards that decide without Redis.
    lanes_away: AtomicUsize,
    ping_micros: AtomicU64,
    last_error: Mutex<Option<String>>,
    metrics: Arc<Metrics>,
}

impl RedisState {
    /// Redis counts as up until a lane finds otherwise.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        metrics.redis_up.set(1);
        Self(Arc::new(Inner {
            lanes_away: AtomicUsize::new(0),
            ping_micros: AtomicU64::new(NO_PING),
            last_error: Mutex::new(None),
            metrics,
        }))
    }

    /// A lane goes on without Redis.
    pub fn lane_lost(&self, error: String) {
        if self.0.lanes_away.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(error, "Redis can't be asked: checks are decided by the fallback");
            self.0.metrics.redis_up.set(0);
            self.0.metrics.fallback_active.set(1);
        }
        *self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// A lane is back on Redis.
    pub fn lane_recovered(&self) {
        if self.0.lanes_away.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::info!("Redis is back: checks are decided by it");
            self.0.metrics.redis_up.set(1);
            self.0.metrics.fallback_active.set(0);
        }
    }

    pub fn answered(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(NO_PING);
        self.0.ping_micros.store(micros, Ordering::Relaxed);
    }

    pub fn fallback_active(&self) -> bool {
        self.0.lanes_away.load(Ordering::Relaxed) > 0
    }

    pub fn health(&self) -> RedisHealth {
        let up = !self.fallback_active();
        let ping = self.0.ping_micros.load(Ordering::Relaxed);
        let last_error = self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        RedisHealth {
            up,
            ping_micros: (up && ping != NO_PING).then_some(ping),
            last_error: if up { None } else { last_error },
        }
    }
}
