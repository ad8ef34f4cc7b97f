//! The rules and the dashboard of `ops/`, against a real Prometheus that reads real services.

mod counts;
mod files;
mod prometheus;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

pub use self::files::{Rule, names_in, rules};
use self::files::{alerts_tested, grouped_by, panels, selectors_in};
use self::prometheus::Prometheus;
use crate::docs::page::Page;
use crate::support::quotad::{Quotad, Start};
use crate::support::receiver::Receiver;
use crate::support::redis_server::RedisServer;
use crate::support::until;
use crate::webhooks::SECRET;

const WITHIN: Duration = Duration::from_secs(25);

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).output().expect("promtool runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn rules_record_and_alert_as_their_tests_say() {
    promtool(&["check", "config", "ops/prometheus/prometheus.yml"]);
    promtool(&["test", "rules", "ops/prometheus/rules_test.yml"]);
}

#[test]
fn every_alert_is_seen_firing_and_not() {
    let alerts: BTreeSet<String> = rules().into_iter().filter(|rule| rule.is_alert).map(|rule| rule.name).collect();
    assert!(alerts.len() > 10);
    assert_eq!(alerts_tested(), alerts);
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let path = Path::new("docs/troubleshooting.md");
    let (text, anchors) = (std::fs::read_to_string(path).expect("the page"), Page::read(path).anchors());
    for rule in rules().iter().filter(|rule| rule.is_alert) {
        let said = |name: &str| rule.annotations[name].as_str().unwrap_or_default();
        assert!(!said("summary").is_empty() && !said("description").is_empty(), "{}", rule.name);
        let place = said("runbook").strip_prefix("docs/troubleshooting.md#").unwrap_or_else(|| panic!("{}", rule.name));
        assert!(anchors.contains(place), "{}: no section {place}", rule.name);
        assert!(text.contains(&rule.name), "the page does not name {}", rule.name);
    }
}

/// One of each that the dashboard tells apart: allowed and denied, near a limit, a slot taken and one refused.
async fn traffic(quotad: &Quotad) {
    for (items, status) in [(85, 200), (15, 200), (1, 429)] {
        assert_eq!(quotad.check(json!({"user_id": "heavy", "items": items})).await.status, status);
    }
    let slot = json!({"ip": "192.0.2.1", "kind": "request", "ttl_seconds": 60});
    for status in [201, 201, 429] {
        assert_eq!(quotad.post("/api/v2/leases", slot.clone()).await.status, status);
    }
}

/// Goes on while something is missing: what was counted before the first reading is no rate.
async fn more_traffic(quotad: &Quotad) {
    quotad.check(json!({"user_id": "light", "endpoint": "/ws"})).await;
    quotad.check(json!({"user_id": "heavy"})).await;
    let wrong = quotad.ask_as(Method::GET, "/api/v2/users/me/quota", None, &[("X-API-Key", "wrong")]).await;
    assert_eq!(wrong.status, 401);
    // 404 where nobody is told of events.
    quotad.ask(Method::POST, "/api/v2/admin/webhooks/test", None).await;
}

fn labels(results: &[Value]) -> BTreeSet<String> {
    results.iter().flat_map(|one| one["metric"].as_object().expect("labels").keys().cloned()).collect()
}

#[tokio::test]
async fn a_real_prometheus_finds_every_name_and_label() {
    crate::support::in_one_hour(async || {
        let redis = RedisServer::start();
        let receiver = Receiver::start();
        let telling = Start::new().set("WEBHOOK_URL", &receiver.url()).set("WEBHOOK_SECRET", SECRET);
        let services = [telling.start().await, Start::new().redis(&redis).start().await];
        for quotad in &services {
            traffic(quotad).await;
        }
        let prometheus = Prometheus::start(&[services[0].address(), services[1].address()]).await;

        let found = async |expr: &str| -> Vec<Value> {
            let ask = async || {
                let results = prometheus.query(expr).await;
                if results.is_empty() {
                    for quotad in &services {
                        more_traffic(quotad).await;
                    }
                }
                Some(results).filter(|results| !results.is_empty())
            };
            until(WITHIN, expr, ask).await.0
        };
        for (title, expr, legend) in panels() {
            let results = found(&expr).await;
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                assert!(
                    results.iter().all(|one| one["metric"][label].is_string()),
                    "{title}: no label {label}: {results:?}"
                );
            }
        }
        for rule in rules() {
            let mut known = BTreeSet::new();
            for selector in selectors_in(&rule.expr) {
                known.append(&mut labels(&found(&selector).await));
            }
            for label in grouped_by(&rule.expr) {
                assert!(known.contains(&label), "{}: no label {label} among {known:?}", rule.name);
            }
            if !rule.is_alert {
                found(&rule.name).await;
            }
        }
        assert_eq!(prometheus.rules_that_fail().await, Vec::<String>::new());
        assert_eq!(prometheus.query(r#"ALERTS{alertstate="firing"}"#).await, Vec::<Value>::new());
    })
    .await;
}
