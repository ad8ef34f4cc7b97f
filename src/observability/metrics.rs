//! The service's metrics, as Prometheus reads them. Handles are kept: finding one by its labels costs five times as much.
//!
//! No user id ever stands in a label.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::feed::Feed;
use crate::domain::decision::{Decision, Source};
use crate::domain::tier::TierName;

/// From 50 µs to 5 s: a check's bound is 5 ms, Redis' deadline 50 ms.
const SECONDS_BUCKETS: [f64; 14] =
    [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5, 1.0, 5.0];
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Every metric of the service.
#[derive(Debug)]
pub struct Metrics {
    /// What is told to those who watch.
    pub feed: Arc<Feed>,
    registry: Registry,
    checks: IntCounterVec,
    check_seconds: [Histogram; Source::ALL.len()],
    /// Checks refused because their shard's queue was full.
    pub overloaded: IntCounter,
    /// Shards that ended by themselves and were started again.
    pub shard_restarts: IntCounter,
    shard_queue: IntGaugeVec,
    /// Round trips to Redis that answered, in seconds.
    pub redis_seconds: Histogram,
    /// Checks in one round trip.
    pub redis_batch_checks: Histogram,
    /// Round trips that failed or did not answer in time.
    pub redis_failures: IntCounter,
    /// 1 while Redis answers, 0 while it does not; stays 0 with embedded counters.
    pub redis_up: IntGauge,
    /// Nodes that can't be asked.
    pub redis_nodes_away: IntGauge,
    /// 1 while any shard decides without Redis.
    pub fallback_active: IntGauge,
    /// Units that were granted while Redis was away and then added to it.
    pub reconciled_units: IntCounter,
    /// Units of blocks that were taken beforehand, and those of them that went back.
    pub reserved_units: IntCounter,
    pub returned_units: IntCounter,
    /// Policy files that could not be taken over, over the life of the process.
    pub policy_file_failures: IntGauge,
    /// Usage rows that wait for the database.
    pub usage_pending_rows: IntGauge,
    /// Usage rows written, over the life of the process.
    pub usage_flushed_rows: IntGauge,
    /// Failed flushes, over the life of the process.
    pub usage_flush_failures: IntGauge,
    /// Rows that the database refused, over the life of the process.
    pub usage_set_aside_rows: IntGauge,
    /// Rows put together to coarser ones because too many waited, over the life of the process.
    pub usage_coarsened_rows: IntGauge,
    /// Running counters not written because too many waited, over the life of the process.
    pub usage_dropped_counters: IntGauge,
    /// How often the loop that writes usage was started again after it had ended by itself.
    pub usage_restarts: IntGauge,
    /// The age of the oldest usage that is not in the database; 0 where there is none.
    pub usage_lag_seconds: Gauge,
}

impl Metrics {
    /// Fails only where two metrics bear one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let made = Maker(&registry);
        let check_seconds = HistogramVec::new(
            HistogramOpts::new("quotad_check_duration_seconds", "Time to decide a check, by source")
                .buckets(SECONDS_BUCKETS.to_vec()),
            &["source"],
        )?;
        registry.register(Box::new(check_seconds.clone()))?;
        Ok(Self {
            feed: Arc::default(),
            checks: made.counters("quotad_checks_total", "Checks decided", &["outcome", "source", "tier"])?,
            check_seconds: Source::ALL.map(|source| check_seconds.with_label_values(&[source.as_str()])),
            shard_restarts: made.counter("quotad_shard_restarts_total", "Shards started again after they failed")?,
            overloaded: made
                .counter("quotad_checks_overloaded_total", "Checks refused because a shard's queue was full")?,
            shard_queue: made.gauges("quotad_shard_queue_depth", "Checks that wait at a shard", &["shard"])?,
            redis_seconds: made.histogram(
                "quotad_redis_round_trip_seconds",
                "Round trips to Redis",
                &SECONDS_BUCKETS,
            )?,
            redis_batch_checks: made.histogram(
                "quotad_redis_batch_checks",
                "Checks in a round trip",
                &BATCH_BUCKETS,
            )?,
            redis_failures: made.counter("quotad_redis_failures_total", "Round trips that failed or came too late")?,
            redis_up: made.gauge("quotad_redis_up", "1 while Redis answers")?,
            redis_nodes_away: made.gauge("quotad_redis_nodes_away", "Nodes of Redis that can't be asked")?,
            fallback_active: made.gauge("quotad_fallback_active", "1 while a shard decides without Redis")?,
            reconciled_units: made
                .counter("quotad_reconciled_units_total", "Units granted without Redis, then added to it")?,
            reserved_units: made.counter("quotad_reserved_units_total", "Units of blocks taken beforehand")?,
            returned_units: made.counter("quotad_returned_units_total", "Units of blocks that were given back")?,
            policy_file_failures: made
                .gauge("quotad_policy_file_failures", "Policy files that could not be taken over since the start")?,
            usage_pending_rows: made.gauge("quotad_usage_pending_rows", "Usage rows that wait for the database")?,
            usage_flushed_rows: made.gauge("quotad_usage_flushed_rows", "Usage rows written since the start")?,
            usage_flush_failures: made.gauge("quotad_usage_flush_failures", "Failed flushes since the start")?,
            usage_set_aside_rows: made.gauge("quotad_usage_set_aside_rows", "Usage rows the database refused")?,
            usage_coarsened_rows: made.gauge("quotad_usage_coarsened_rows", "Usage rows merged for want of room")?,
            usage_dropped_counters: made
                .gauge("quotad_usage_dropped_counters", "Running counters not written for want of room")?,
            usage_restarts: made.gauge("quotad_usage_restarts", "Restarts of the loop that writes usage")?,
            usage_lag_seconds: made
                .registered(Gauge::new("quotad_usage_lag_seconds", "Age of the oldest usage not in the database")?)?,
            registry,
        })
    }

    pub fn observe_check(&self, source: Source, elapsed: Duration) {
        let [memory, redis, cache, fallback] = &self.check_seconds;
        let histogram = match source {
            Source::Memory => memory,
            Source::Redis => redis,
            Source::Cache => cache,
            Source::Fallback => fallback,
        };
        histogram.observe(elapsed.as_secs_f64());
    }

    pub fn set_shard_queue(&self, shard: usize, queued: usize) {
        let depth = i64::try_from(queued).unwrap_or(i64::MAX);
        self.shard_queue.with_label_values(&[shard.to_string()]).set(depth);
    }

    /// The text that `/metrics` answers.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Encoding fails only where the writer does, and a vector does not.
        TextEncoder::new().encode(&self.registry.gather(), &mut text).ok();
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Counts decisions through handles that are found once for each tier and source.
#[derive(Debug, Default)]
pub struct CheckCounters(HashMap<(TierName, Source), [IntCounter; 2], RandomState>);

impl CheckCounters {
    pub fn count(&mut self, metrics: &Metrics, decision: &Decision) {
        let key = (decision.tier.clone(), decision.source);
        let [allowed, denied] = self.0.entry(key).or_insert_with(|| {
            ["allowed", "denied"].map(|outcome| {
                metrics.checks.with_label_values(&[outcome, decision.source.as_str(), decision.tier.as_str()])
            })
        });
        if decision.is_allowed() { allowed.inc() } else { denied.inc() }
    }
}

/// Makes metrics that are registered from the start.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.registered(IntCounter::with_opts(Opts::new(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.registered(IntGauge::with_opts(Opts::new(name, help))?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        self.registered(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    fn registered<M: prometheus::core::Collector + Clone + 'static>(&self, metric: M) -> Result<M, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}
