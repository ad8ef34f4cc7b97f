//! How Redis is, as all lanes of this process see it together. One log line at each change of a node, not one a check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::RedisHealth;
use crate::counters::redis::{RedisCounters, RedisError};
use crate::domain::event::About;
use crate::observability::metrics::Metrics;
use crate::observability::outlet::Outlet;

/// No ping has been answered yet.
const NO_PING: u64 = u64::MAX;

/// Why a lane goes on without Redis.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which node it asked.
    pub node: String,
    /// For everybody: it names no place.
    pub brief: String,
    /// For the log.
    pub text: String,
    pub may_have_been_applied: bool,
}

impl Failure {
    pub fn new(redis: &RedisCounters, error: &RedisError) -> Self {
        let may_have_been_applied = error.may_have_been_applied();
        Self { node: redis.node(), brief: error.brief(), text: error.to_string(), may_have_been_applied }
    }

    /// Nothing went wrong, but this has to be done first.
    pub fn at(node: String, reason: &str) -> Self {
        Self { node, brief: reason.to_owned(), text: reason.to_owned(), may_have_been_applied: false }
    }
}

#[derive(Debug, Clone)]
pub struct RedisState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Nodes that lanes can't ask: how many lanes, and why.
    away: Mutex<BTreeMap<String, (usize, String)>>,
    /// Nodes whose operator was told what there is to tell.
    looked_at: Mutex<BTreeSet<String>>,
    ping_micros: AtomicU64,
    metrics: Arc<Metrics>,
    /// Where changes are told of outside; `None` where nobody is.
    outlet: Option<Outlet>,
}

impl RedisState {
    /// Redis counts as up until a lane finds otherwise.
    pub fn new(metrics: Arc<Metrics>, outlet: Option<Outlet>) -> Self {
        metrics.redis_up.set(1);
        let (away, looked_at) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { away, looked_at, ping_micros: AtomicU64::new(NO_PING), metrics, outlet }))
    }

    /// Tells the operator once of each node what should be known of it.
    pub async fn look_at(&self, redis: &RedisCounters) {
        let node = redis.node();
        if !self.0.looked_at.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone()) {
            return;
        }
        // Who may not ask for it is told nothing.
        for warning in redis.warnings().await.unwrap_or_default() {
            tracing::warn!(node, warning, "this Redis is not set up as counters need it");
        }
    }

    /// A lane goes on without its node.
    pub fn lane_lost(&self, failure: &Failure) {
        let Failure { node, brief, text, .. } = failure;
        let mut away = self.away();
        if away.is_empty() {
            self.0.metrics.feed.tell("limiter.degraded", &json!({ "error": brief }));
            self.tell(About::Degraded { error: brief.clone() });
        }
        let (lanes, reason) = away.entry(node.clone()).or_default();
        if *lanes == 0 {
            tracing::warn!(node, error = text, "Redis can't be asked: checks are decided by the fallback");
        }
        *lanes = lanes.saturating_add(1);
        reason.clone_from(brief);
        self.show(&away);
    }

    /// Why a lane is away still: it may be for another reason than at first.
    pub fn still_lost(&self, node: &str, failure: &Failure) {
        if let Some((_, reason)) = self.away().get_mut(node) {
            reason.clone_from(&failure.brief);
        }
    }

    /// A lane asks Redis again that had gone on without this node.
    pub fn lane_recovered(&self, node: &str) {
        let mut away = self.away();
        let Some((lanes, _)) = away.get_mut(node) else { return };
        *lanes = lanes.saturating_sub(1);
        if *lanes == 0 {
            away.remove(node);
            tracing::info!(node, "Redis is back: checks are decided by it");
            if away.is_empty() {
                self.0.metrics.feed.tell("limiter.recovered", &json!({}));
                self.tell(About::Recovered);
            }
        }
        self.show(&away);
    }

    pub fn answered(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(NO_PING);
        self.0.ping_micros.store(micros, Ordering::Relaxed);
    }

    pub fn health(&self) -> RedisHealth {
        let away = self.away();
        let ping = self.0.ping_micros.load(Ordering::Relaxed);
        RedisHealth {
            nodes_away: away.len(),
            ping_micros: (away.is_empty() && ping != NO_PING).then_some(ping),
            error: away.values().next().map(|(_, reason)| reason.clone()),
        }
    }

    fn tell(&self, about: About) {
        if let Some(outlet) = &self.0.outlet {
            outlet.tell_now(about);
        }
    }

    fn show(&self, away: &BTreeMap<String, (usize, String)>) {
        let any = i64::from(!away.is_empty());
        self.0.metrics.redis_up.set(1_i64.saturating_sub(any));
        self.0.metrics.fallback_active.set(any);
        self.0.metrics.redis_nodes_away.set(i64::try_from(away.len()).unwrap_or(i64::MAX));
    }

    fn away(&self) -> MutexGuard<'_, BTreeMap<String, (usize, String)>> {
        self.0.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
