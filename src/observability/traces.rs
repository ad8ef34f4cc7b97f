//! Spans for a collector, by OTLP over HTTP, where the address of one is set: which requests are traced, and what of.
//!
//! Spans are made at the level debug. Without a collector, and with a log above that level, none is made at all.

mod queue;

use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, Registry};

use super::metrics::Metrics;
use crate::config::OtlpSettings;

/// A collector that takes longer loses the batch.
const EXPORT_WITHIN: Duration = Duration::from_secs(3);

/// Of the ten seconds that a stop may take, the last flush of spans has this: requests and usage go first.
const STOP_WITHIN: Duration = Duration::from_millis(900);

/// The collector can't be asked.
#[derive(Debug, thiserror::Error)]
#[error("spans can't be sent to OTLP_ENDPOINT")]
pub struct TracesError(#[from] ExporterBuildError);

/// Which requests are traced. Clones share the way to the collector.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    collector: Option<Collector>,
    /// The log shows spans: all are made, whether they are exported or not.
    shown_in_log: bool,
}

#[derive(Debug, Clone)]
struct Collector {
    provider: SdkTracerProvider,
    ratio: f64,
}

/// What a request's span hangs from.
#[derive(Debug)]
pub struct Parent(Option<Context>);

impl Traces {
    /// `instance` names this run of this instance. Nothing is sent yet: that the collector is away is no error.
    pub fn new(
        otlp: Option<&OtlpSettings>,
        instance: &str,
        shown_in_log: bool,
        metrics: &Metrics,
    ) -> Result<Self, TracesError> {
        let collector = otlp.map(|settings| Collector::new(settings, instance, metrics)).transpose()?;
        Ok(Self { collector, shown_in_log })
    }

    /// Hands spans to the collector; `None` where there is none. Events stay in the log: they may name what no span may.
    pub fn layer(&self) -> Option<impl Layer<Registry> + Send + Sync + use<>> {
        let tracer = self.collector.as_ref()?.provider.tracer("quotad");
        let ours = filter_fn(|about| about.is_span() && about.target().starts_with("quotad"));
        let layer = tracing_opentelemetry::layer()
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_tracer(tracer);
        Some(layer.with_filter(ours.with_max_level_hint(LevelFilter::DEBUG)))
    }

    /// Whether a request gets a span, and what that hangs from: the caller's, by its `traceparent`, whose word on sampling
    /// holds; else none, and `draw`, spread evenly over all numbers, decides. It is decided before there is a span, so that a
    /// request that is not traced costs next to nothing.
    pub fn parent(&self, traceparent: Option<&str>, draw: u64) -> Option<Parent> {
        let Some(collector) = &self.collector else { return self.shown_in_log.then_some(Parent(None)) };
        let callers = traceparent.and_then(callers_span);
        let sampled = match &callers {
            Some(context) => context.span().span_context().is_sampled(),
            None => is_drawn(collector.ratio, draw),
        };
        match (sampled, self.shown_in_log) {
            (true, _) => Some(Parent(callers)),
            (false, true) => Some(Parent(Some(unsampled()))),
            (false, false) => None,
        }
    }

    /// Sends what waits, for as long as a stop may wait for it.
    pub async fn stop(&self) {
        let Some(Collector { provider, .. }) = self.collector.clone() else { return };
        // What did not reach the collector by now is lost; the log has said that it is away.
        tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(STOP_WITHIN).ok()).await.ok();
    }
}

impl Collector {
    fn new(settings: &OtlpSettings, instance: &str, metrics: &Metrics) -> Result<Self, TracesError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(settings.traces_url.expose())
            .with_timeout(EXPORT_WITHIN)
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        let resource = Resource::builder_empty()
            .with_service_name("quotad")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()));
        let ratio = settings.sample_ratio;
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Roots(ratio))))
            .with_resource(resource.build())
            .with_span_processor(queue::processor(exporter, &metrics.spans_lost))
            .build();
        Ok(Self { provider, ratio })
    }
}

impl Parent {
    /// Has the span, which must be new, hang from it.
    pub fn adopt(self, span: &Span) {
        if let Some(context) = self.0 {
            // A span that nobody sees needs no parent.
            span.set_parent(context).ok();
        }
    }
}

/// Whether the work in hand is part of a span: only then may it have one of its own.
pub fn is_traced() -> bool {
    tracing::level_enabled!(Level::DEBUG) && Span::current().id().is_some()
}

/// Says in the request's span what its caller may do. Who it is stands in no span.
pub fn note_role(role: &'static str) {
    if tracing::level_enabled!(Level::DEBUG) {
        Span::current().record("role", role);
    }
}

/// Spans without a parent: a request's was drawn before it was made, work of the service itself is drawn here.
#[derive(Debug, Clone)]
struct Roots(f64);

impl ShouldSample for Roots {
    fn should_sample(
        &self,
        _parent: Option<&Context>,
        trace_id: TraceId,
        _name: &str,
        kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        // Every bit of an id is random.
        let low = u128::from_be_bytes(trace_id.to_bytes()) as u64;
        let sampled = *kind == SpanKind::Server || is_drawn(self.0, low);
        let decision = if sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::default() }
    }
}

/// Whether a number that is spread evenly over all is within this part of them.
fn is_drawn(ratio: f64, draw: u64) -> bool {
    // The cast is rounded and saturates: 1 is all numbers.
    ratio > 0.0 && draw <= (ratio * u64::MAX as f64) as u64
}

/// The caller's span, where the header names one (W3C Trace Context, level 1).
fn callers_span(traceparent: &str) -> Option<Context> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &TraceParent(traceparent));
    context.has_active_span().then_some(context)
}

/// What a span hangs from that is for the log alone.
fn unsampled() -> Context {
    let (trace, span) = (TraceId::from(1), SpanId::from(1));
    Context::new().with_remote_span_context(SpanContext::new(
        trace,
        span,
        TraceFlags::default(),
        true,
        TraceState::NONE,
    ))
}

/// The one header that is read. `tracestate` is for those who ask others in turn.
struct TraceParent<'a>(&'a str);

impl Extractor for TraceParent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn traces(sample_ratio: f64, shown_in_log: bool) -> Traces {
        let settings = OtlpSettings { traces_url: Secret::new("http://127.0.0.1:9/v1/traces"), sample_ratio };
        Traces::new(Some(&settings), "one", shown_in_log, &Metrics::new().unwrap()).unwrap()
    }

    #[test]
    fn the_caller_says_whether_a_request_is_traced_and_else_the_ratio() {
        let all = traces(1.0, false);
        let none = traces(0.0, false);
        for draw in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(all.parent(None, draw).is_some_and(|parent| parent.0.is_none()));
            assert!(none.parent(None, draw).is_none());
            assert!(none.parent(Some("nonsense"), draw).is_none());
            assert!(all.parent(Some(UNSAMPLED), draw).is_none());
            let context = none.parent(Some(SAMPLED), draw).and_then(|parent| parent.0).unwrap();
            assert_eq!(context.span().span_context().span_id(), SpanId::from(0xb7ad_6b71_6920_3331));
        }
        let some = traces(0.25, false);
        let drawn = (0..100_u64).filter(|part| some.parent(None, part * (u64::MAX / 100)).is_some()).count();
        assert_eq!(drawn, 26, "a quarter, with the first");
    }

    #[test]
    fn a_span_for_the_log_alone_is_not_exported() {
        let context = traces(0.0, true).parent(None, 7).and_then(|parent| parent.0).unwrap();
        assert!(context.span().span_context().is_valid() && !context.span().span_context().is_sampled());
        assert!(Traces { collector: None, shown_in_log: true }.parent(Some(SAMPLED), 7).is_some());
        assert!(Traces::default().parent(Some(SAMPLED), 7).is_none());
    }
}
