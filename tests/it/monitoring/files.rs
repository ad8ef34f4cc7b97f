//! What stands in the rules, their tests and the dashboard.

use std::collections::BTreeSet;

use serde_json::Value;

const RULES: &str = include_str!("../../../ops/prometheus/rules.yml");
const TESTS: &str = include_str!("../../../ops/prometheus/rules_test.yml");
const DASHBOARD: &str = include_str!("../../../ops/grafana/quotad.json");

/// One that records or alerts.
pub struct Rule {
    pub name: String,
    pub is_alert: bool,
    pub expr: String,
    pub annotations: Value,
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn rules() -> Vec<Rule> {
    let file: Value = serde_saphyr::from_str(RULES).expect("YAML");
    let rule = |rule: &Value| {
        let is_alert = rule["alert"].is_string();
        let name = rule[if is_alert { "alert" } else { "record" }].as_str().expect("a name").to_owned();
        let expr = rule["expr"].as_str().expect("an expression").to_owned();
        Rule { name, is_alert, expr, annotations: rule["annotations"].clone() }
    };
    list(&file["groups"]).iter().flat_map(|group| list(&group["rules"])).map(rule).collect()
}

/// Alerts that some test expects at one time and not at an earlier one.
pub fn alerts_tested() -> BTreeSet<String> {
    let file: Value = serde_saphyr::from_str(TESTS).expect("YAML");
    let mut tested = BTreeSet::new();
    for test in list(&file["tests"]) {
        let mut quiet_before = false;
        for expected in list(&test["promql_expr_test"]) {
            if !expected["expr"].as_str().is_some_and(|expr| expr.contains("ALERTS")) {
                continue;
            }
            let samples = list(&expected["exp_samples"]);
            let firing = samples.iter().filter_map(|sample| sample["labels"].as_str()?.split('"').nth(1));
            tested.extend(firing.filter(|_| quiet_before).map(str::to_owned));
            quiet_before |= samples.is_empty();
        }
    }
    tested
}

/// Title, expression and legend of each line of each panel, with Grafana's variables filled in.
pub fn panels() -> Vec<(String, String, String)> {
    let file: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut panels = Vec::new();
    for panel in list(&file["panels"]) {
        for target in list(&panel["targets"]) {
            let expr = text(&target["expr"]).replace("$instance", ".*").replace("$__rate_interval", "10s");
            panels.push((text(&panel["title"]), expr, text(&target["legendFormat"])));
        }
    }
    assert!(panels.len() > 30);
    panels
}

/// The series that an expression reads, as `name{label="value"}`.
pub fn selectors_in(expr: &str) -> BTreeSet<String> {
    let is_of_name = |kind: char| kind.is_ascii_alphanumeric() || "_:".contains(kind);
    let mut found = BTreeSet::new();
    let mut rest = expr;
    while let Some(start) = rest.find(is_of_name) {
        let word = &rest[start..];
        let end = word.find(|kind| !is_of_name(kind)).unwrap_or(word.len());
        let (name, mut after) = word.split_at(end);
        if name == "up" || ["quotad_", "process_"].iter().any(|part| name.contains(part)) {
            let labels =
                after.strip_prefix('{').and_then(|labels| labels.find('}')).map_or("", |end| &after[..end + 2]);
            found.insert(format!("{name}{labels}"));
        }
        // What stands in braces are no names.
        if after.starts_with('{') {
            after = after.split_once('}').map_or("", |(_, rest)| rest);
        }
        rest = after;
    }
    found
}

pub fn names_in(expr: &str) -> BTreeSet<String> {
    selectors_in(expr).iter().map(|selector| selector.split('{').next().unwrap_or_default().to_owned()).collect()
}

/// The labels by which an expression groups or matches.
pub fn grouped_by(expr: &str) -> BTreeSet<String> {
    let lists = ["by (", "on ("].iter().flat_map(|word| expr.split(word).skip(1));
    lists.flat_map(|rest| rest.split(')').next().unwrap_or_default().split(", ")).map(str::to_owned).collect()
}
