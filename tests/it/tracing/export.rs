//! Traces as a collector gets them, and a collector that is away.

use std::collections::BTreeSet;
use std::net::TcpListener;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use serde_json::{Value, json};

use super::collector::{Collector, attributes};
use super::{CHECK, WITHIN};
use crate::support::quotad::{ADMIN_KEY, Backend, Start, Stores};
use crate::support::until;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traced(start: Start, collector: &Collector, ratio: &str) -> Start {
    start.set("OTLP_ENDPOINT", collector.address()).set("OTLP_SAMPLE_RATIO", ratio)
}

/// The spans of the caller's trace, when as many have come as there must be.
async fn spans_of_the_trace(collector: &Collector, count: usize) -> Vec<Span> {
    let come = async || {
        let mut spans = collector.spans();
        spans.retain(|span| hex::encode(&span.trace_id) == TRACE);
        (spans.len() >= count).then_some(spans)
    };
    until(WITHIN, "the trace is there", come).await.0
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} in {spans:#?}"))
}

on_both! {
    async fn a_check_is_a_trace_of_the_request_and_where_its_time_went(backend: Backend) {
        let collector = Collector::start();
        let stores = Stores::start(backend);
        let quotad = traced(stores.service(), &collector, "0").start().await;
        let traceparent = format!("00-{TRACE}-{CALLER}-01");
        let headers =
            [("x-api-key", ADMIN_KEY), ("traceparent", traceparent.as_str()), ("x-request-id", "mine-1")];
        let body = Some(json!({"user_id": "user-4711", "endpoint": "/api/v1/agents"}));
        assert_eq!(quotad.ask_as(Method::POST, CHECK, body, &headers).await.status, 200);

        let with_redis = backend == Backend::RedisAndPostgres;
        let spans = spans_of_the_trace(&collector, if with_redis { 3 } else { 2 }).await;
        let request = named(&spans, "POST /api/v2/check");
        assert_eq!((request.kind, hex::encode(&request.parent_span_id)), (SpanKind::Server as i32, CALLER.to_owned()));
        assert!(request.end_time_unix_nano > request.start_time_unix_nano);
        let about = attributes(&request.attributes);
        let expected = [
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("http.route", "/api/v2/check"),
            ("request_id", "mine-1"),
            ("role", "admin"),
        ];
        assert_eq!(about.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);

        let decision = named(&spans, "decision");
        assert_eq!(decision.parent_span_id, request.span_id);
        let about = attributes(&decision.attributes);
        let source = if with_redis { "redis" } else { "memory" };
        assert_eq!([&about["checks"], &about["source"], &about["allowed"]], ["1", source, "true"]);
        if with_redis {
            let round_trip = named(&spans, "redis");
            assert_eq!((round_trip.kind, &round_trip.parent_span_id), (SpanKind::Client as i32, &decision.span_id));
            assert_eq!(attributes(&round_trip.attributes)["checks"], "1");
        }
        collector.with(|received| {
            for request in received {
                assert!(request.head.starts_with("post /v1/traces http/1.1\r\n"), "{}", request.head);
                assert!(request.head.contains("content-type: application/x-protobuf"), "{}", request.head);
                for resource in &request.body.resource_spans {
                    let about = attributes(&resource.resource.as_ref().expect("a resource").attributes);
                    assert_eq!((about["service.name"].as_str(), about["service.version"].as_str()), ("quotad", env!("CARGO_PKG_VERSION")));
                    assert_eq!(about["service.instance.id"].len(), 16);
                }
                let all = format!("{:?}", request.body);
                assert!(!all.contains("4711") && !all.contains(ADMIN_KEY), "{all}");
            }
        });
    }
}

#[tokio::test]
async fn the_callers_word_on_sampling_holds_and_else_the_ratio() {
    let collector = Collector::start();
    let none = traced(Start::new(), &collector, "0").start().await;
    let unsampled = format!("00-{TRACE}-{CALLER}-00");
    let sampled = format!("00-{TRACE}-{CALLER}-01");
    let ask =
        async |traceparent: &str| none.ask_as(Method::GET, "/health", None, &[("traceparent", traceparent)]).await;
    ask(&unsampled).await;
    ask("nonsense").await;
    none.check(json!({"user_id": "u"})).await;
    ask(&sampled).await;
    spans_of_the_trace(&collector, 1).await;
    none.stop();
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["GET /health"]);

    let all = traced(Start::new(), &collector, "1").start().await;
    let path = "/api/v2/admin/quotas/user-4711";
    all.get(path).await;
    all.ask_as(Method::GET, "/nowhere/user-4711", None, &[("traceparent", &unsampled)]).await;
    all.ask_as("FROB".parse().expect("a method"), "/nowhere/user-4711", None, &[]).await;
    let batch = json!({"checks": (0..300).map(|_| json!({"user_id": "user-4711"})).collect::<Vec<Value>>()});
    all.post("/api/v2/check/batch", batch).await;
    // What waits is sent at the end.
    all.stop();
    let spans = collector.spans();
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    for name in ["GET /api/v2/admin/quotas/{user_id}", "_OTHER", "POST /api/v2/check/batch", "decision", "flush"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    assert!(!names.contains("GET"), "its caller does not want it traced: {names:?}");
    let batch = named(&spans, "POST /api/v2/check/batch");
    let decisions: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == batch.span_id).collect();
    assert_eq!(decisions.len(), 1, "a batch is one decision");
    assert_eq!(attributes(&decisions[0].attributes)["checks"], "300");
    assert!(!format!("{spans:?}").contains("4711"));
}

/// Listens, and answers nobody.
#[tokio::test]
async fn a_collector_that_is_away_changes_no_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    let closed = format!("http://127.0.0.1:{}", crate::support::free_port());
    for address in [silent, closed] {
        let start = Start::new().set("OTLP_ENDPOINT", &address).set("OTLP_SAMPLE_RATIO", "1");
        let quotad = start.set("FREE_TIER_LIMIT_HOUR", "1000000").start().await;
        // More spans than may wait and be on the way.
        for _ in 0..1500 {
            let answer = quotad.check(json!({"user_id": "u", "items": 1, "tier": "pro", "dry_run": true})).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        until(WITHIN, "what is lost is counted and told", async || {
            let lost = quotad.metric("quotad_spans_lost_total").await > 0.0;
            (lost && quotad.log().contains("spans do not reach the collector")).then_some(())
        })
        .await;
        let told = quotad.log().matches("spans do not reach the collector").count();
        assert_eq!(told, 1, "once a minute at most: {}", quotad.log());
        quotad.stop();
    }
}
