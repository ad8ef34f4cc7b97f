//! The service's metrics, as Prometheus reads them, and what each is called. No user id ever stands in a label.

mod check_counters;
mod maker;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Encoder, Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder};

pub use self::check_counters::CheckCounters;
pub use self::maker::Described;
use self::maker::Maker;
use super::feed::Feed;
use crate::domain::decision::Source;
use crate::domain::lease::LeaseKind;

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
    described: Vec<Described>,
    /// Spans that did not reach the collector.
    pub spans_lost: IntCounter,
    checks: IntCounterVec,
    limits_reached: IntCounterVec,
    leases: IntCounterVec,
    check_seconds: [Histogram; Source::ALL.len()],
    /// Checks refused because their shard's queue was full.
    pub overloaded: IntCounter,
    /// Shards that ended by themselves and were started again.
    pub shard_restarts: IntCounter,
    shard_queue: IntGaugeVec,
    /// How many checks may wait at one shard.
    pub shard_queue_bound: IntGauge,
    credentials_refused: IntCounterVec,
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
    /// Policy files that could not be taken over.
    pub policy_file_failures: IntCounter,
    /// Usage rows that wait for the database.
    pub usage_pending_rows: IntGauge,
    /// Usage rows written.
    pub usage_flushed_rows: IntCounter,
    /// Failed flushes.
    pub usage_flush_failures: IntCounter,
    /// Rows that the database refused.
    pub usage_set_aside_rows: IntCounter,
    /// Rows put together to coarser ones because too many waited.
    pub usage_coarsened_rows: IntCounter,
    /// Running counters not written because too many waited.
    pub usage_dropped_counters: IntCounter,
    /// How often the loop that writes usage was started again after it had ended by itself.
    pub usage_restarts: IntCounter,
    /// The age of the oldest usage that is not in the database; 0 where there is none.
    pub usage_lag_seconds: Gauge,
    /// Attempts to send an event: those that it was taken by, those after which it is sent again, and the last of those that
    /// nobody took.
    pub webhook_delivered: IntCounter,
    pub webhook_failed: IntCounter,
    pub webhook_given_up: IntCounter,
    /// Events that wait to be sent, of all instances.
    pub webhook_queue_depth: IntGauge,
    /// Events that found no room.
    pub webhook_dropped: IntCounter,
}

impl Metrics {
    /// Fails only where two metrics bear one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let made = Maker::default();
        let check_seconds = made.histograms(
            "quotad_check_duration_seconds",
            "Time to decide a check, by source; those of a batch are not timed",
            &["source"],
            &SECONDS_BUCKETS,
        )?;
        made.process()?;
        let leases = made.counters(
            "quotad_leases_total",
            "Wishes for a slot: taken, or denied because none was free",
            &["kind", "outcome"],
        )?;
        for kind in LeaseKind::ALL {
            for outcome in ["taken", "denied"] {
                // Told of as 0 from the start.
                leases.with_label_values(&[kind.as_str(), outcome]);
            }
        }
        let deliveries = made.counters("quotad_webhook_deliveries_total", "Attempts to send an event", &["outcome"])?;
        let [webhook_delivered, webhook_failed, webhook_given_up] =
            ["delivered", "failed", "given_up"].map(|outcome| deliveries.with_label_values(&[outcome]));
        Ok(Self {
            feed: Arc::default(),
            spans_lost: made.counter("quotad_spans_lost_total", "Spans that did not reach the collector")?,
            checks: made.counters("quotad_checks_total", "Checks decided", &["outcome", "source", "tier"])?,
            limits_reached: made.counters(
                "quotad_limits_reached_total",
                "Checks that took an enforced limit of their subject to 80 or 100 percent of it",
                &["tier", "limit", "percent"],
            )?,
            leases,
            check_seconds: Source::ALL.map(|source| check_seconds.with_label_values(&[source.as_str()])),
            shard_restarts: made.counter("quotad_shard_restarts_total", "Shards started again after they failed")?,
            overloaded: made
                .counter("quotad_checks_overloaded_total", "Checks refused because a shard's queue was full")?,
            shard_queue: made.gauges("quotad_shard_queue_depth", "Checks that wait at a shard", &["shard"])?,
            shard_queue_bound: made
                .gauge("quotad_shard_queue_bound", "Checks that may wait at a shard (SHARD_MAILBOX)")?,
            credentials_refused: made.counters(
                "quotad_credentials_refused_total",
                "Credentials that did not verify, or were not looked at because of the limit on such",
                &["reason"],
            )?,
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
                .counter("quotad_policy_file_failures_total", "Policy files that could not be taken over")?,
            usage_pending_rows: made.gauge("quotad_usage_pending_rows", "Usage rows that wait for the database")?,
            usage_flushed_rows: made.counter("quotad_usage_flushed_rows_total", "Usage rows written")?,
            usage_flush_failures: made.counter("quotad_usage_flush_failures_total", "Failed flushes")?,
            usage_set_aside_rows: made
                .counter("quotad_usage_set_aside_rows_total", "Usage rows that the database refused")?,
            usage_coarsened_rows: made
                .counter("quotad_usage_coarsened_rows_total", "Usage rows merged for want of room")?,
            usage_dropped_counters: made
                .counter("quotad_usage_dropped_counters_total", "Running counters not written for want of room")?,
            usage_restarts: made.counter("quotad_usage_restarts_total", "Restarts of the loop that writes usage")?,
            usage_lag_seconds: made
                .seconds("quotad_usage_lag_seconds", "Age of the oldest usage not in the database")?,
            webhook_delivered,
            webhook_failed,
            webhook_given_up,
            webhook_queue_depth: made.gauge("quotad_webhook_queue_depth", "Events that wait to be sent")?,
            webhook_dropped: made.counter("quotad_webhook_dropped_total", "Events that found no room")?,
            // Last: fields are made in the order in which they stand.
            described: made.described(),
            registry: made.registry(),
        })
    }

    /// All there are.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// Raises a counter to what is counted elsewhere over the life of the process.
    pub fn raise(counter: &IntCounter, count: u64) {
        counter.inc_by(count.saturating_sub(counter.get()));
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

    /// `reason` is one of a few texts, never the client's.
    pub fn refuse_credential(&self, reason: &'static str) {
        self.credentials_refused.with_label_values(&[reason]).inc();
    }

    /// The text that `/metrics` answers.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Encoding fails only where the writer does, and a vector does not.
        TextEncoder::new().encode(&self.registry.gather(), &mut text).ok();
        String::from_utf8(text).unwrap_or_default()
    }
}
