//! docs/metrics.md: every metric, from the code that makes them, and the alerts that read it.

use std::collections::BTreeMap;

use quotad::observability::metrics::{Described, Metrics};

use super::hold;
use crate::monitoring::{Rule, names_in, rules};

const HEAD: &str = "\
# Metrics

`GET /metrics`, for Prometheus. No user id stands in a label. Counters begin at 0 when the process does. `ops/prometheus/rules.yml` has the
alerts, [troubleshooting](troubleshooting.md) what to do about each, `ops/grafana/quotad.json` a dashboard.

    docker compose --profile monitoring up

runs Prometheus and Grafana beside the service, with both. Where alerts go is for an Alertmanager of your own.

| metric | type | labels | | alerts |
|---|---|---|---|---|
";

const FOOT: &str = "
This page is made of the metrics that the service makes and of the alerts:

    UPDATE_DOCS=1 cargo test --locked --test it references
";

#[test]
fn the_page_of_metrics_is_that_of_the_code() {
    let metrics = Metrics::new().expect("metrics");
    let mut described = metrics.described().to_vec();
    described.sort_by(|a, b| a.name.cmp(&b.name));
    let alerts = readers(&rules());
    let row = |Described { name, kind, labels, help }: &Described| {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let alerts = alerts.get(name.as_str()).map_or(String::new(), |alerts| alerts.join(", "));
        format!("| `{name}` | {kind} | {} | {} | {alerts} |\n", labels.join(", "), help.trim_end_matches('.'))
    };
    hold("docs/metrics.md", &(HEAD.to_owned() + described.iter().map(row).collect::<String>().as_str() + FOOT));
}

/// Which alerts read a metric, by themselves or by a rule that records.
fn readers(rules: &[Rule]) -> BTreeMap<String, Vec<String>> {
    let mut readers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for alert in rules.iter().filter(|rule| rule.is_alert) {
        for read in names_in(&alert.expr) {
            let recorded = rules.iter().find(|rule| !rule.is_alert && rule.name == read);
            let metrics = recorded.map_or_else(|| [read].into(), |rule| names_in(&rule.expr));
            for metric in metrics {
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| metric.strip_suffix(part));
                let alerts = readers.entry(base.unwrap_or(&metric).to_owned()).or_default();
                if !alerts.contains(&alert.name) {
                    alerts.push(alert.name.clone());
                }
            }
        }
    }
    readers
}
