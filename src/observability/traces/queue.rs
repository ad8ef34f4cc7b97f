//! The queue of spans to the collector. It is bounded, what finds no place is counted, and nobody waits for it: spans are
//! sent by a thread of their own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use prometheus::IntCounter;

use crate::clock::Stopwatch;

/// Spans that wait, about 1 KiB each. As many as are in one batch may be on the way besides.
const QUEUE_MAX: usize = 2048;

const BATCH_MAX: usize = 512;
const EXPORT_EVERY: Duration = Duration::from_secs(1);

/// A collector that is away is told of no more often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Spans that end are queued for `exporter`; those that never reach it are counted as `lost`.
pub fn processor<E: SpanExporter + 'static>(exporter: E, lost: &IntCounter) -> impl SpanProcessor + 'static {
    let queue = Arc::new(Queue { waiting: AtomicUsize::new(0), lost: lost.clone() });
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(EXPORT_EVERY)
        .build();
    let exporter = Watched { exporter, queue: Arc::clone(&queue), failing: Mutex::default() };
    Bounded { batches: BatchSpanProcessor::new(exporter, config), queue }
}

#[derive(Debug)]
struct Queue {
    waiting: AtomicUsize,
    lost: IntCounter,
}

/// The SDK's own queue says only at its end what it has dropped. So what it would drop does not come so far.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    queue: Arc<Queue>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let place = |waiting: usize| (waiting < QUEUE_MAX).then(|| waiting.saturating_add(1));
        match self.queue.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place) {
            Ok(_) => self.batches.on_end(span),
            Err(_) => self.queue.lost.inc(),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// An exporter, and whether it succeeds.
#[derive(Debug)]
struct Watched<E> {
    exporter: E,
    queue: Arc<Queue>,
    failing: Mutex<Failing>,
}

#[derive(Debug, Default)]
struct Failing {
    /// The log has it that the collector is away.
    told: bool,
    last_told: Option<Stopwatch>,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.queue.waiting.fetch_sub(spans, Ordering::Relaxed);
        let outcome = self.exporter.export(batch).await;
        if outcome.is_err() {
            self.queue.lost.inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
        }
        self.tell(&outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E> Watched<E> {
    /// Once at each change, and not more than once a minute.
    fn tell(&self, outcome: &OTelSdkResult) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) if failing.told => {
                failing.told = false;
                tracing::info!(lost = self.queue.lost.get(), "spans reach the collector again");
            }
            Err(error) if failing.last_told.is_none_or(|told| told.elapsed() >= TELL_EVERY) => {
                *failing = Failing { told: true, last_told: Some(Stopwatch::start()) };
                let lost = self.queue.lost.get();
                tracing::warn!(%error, lost, "spans do not reach the collector; they are lost");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use opentelemetry::trace::{Span as _, Tracer, TracerProvider};
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// Takes a batch each time it is told to, and then fails.
    #[derive(Debug)]
    struct Stuck {
        taken: mpsc::SyncSender<usize>,
        goes_on: Mutex<mpsc::Receiver<()>>,
    }

    impl SpanExporter for Stuck {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.taken.send(batch.len()).ok();
            self.goes_on.lock().unwrap().recv().ok();
            Err(OTelSdkError::InternalFailure("it is stuck".to_owned()))
        }
    }

    #[test]
    fn what_finds_no_place_is_counted_and_nobody_waits() {
        let (taken, takes) = mpsc::sync_channel(100);
        let (go_on, goes_on) = mpsc::channel();
        let lost = IntCounter::new("lost", "lost").unwrap();
        let processor = processor(Stuck { taken, goes_on: Mutex::new(goes_on) }, &lost);
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let tracer = provider.tracer("test");
        let end = |spans: usize| (0..spans).for_each(|_| tracer.start("span").end());

        end(BATCH_MAX);
        let on_the_way = takes.recv().unwrap();
        let waits = BATCH_MAX - on_the_way;
        end(QUEUE_MAX - waits);
        assert_eq!(lost.get(), 0);
        end(1000);
        assert_eq!(lost.get(), 1000, "the queue holds no more than its bound");

        drop(go_on);
        provider.shutdown().unwrap();
        let sent: usize = on_the_way + takes.try_iter().sum::<usize>();
        assert_eq!(sent, BATCH_MAX + QUEUE_MAX - waits, "what had a place was tried");
        assert_eq!(lost.get(), u64::try_from(1000 + sent).unwrap());
    }
}
