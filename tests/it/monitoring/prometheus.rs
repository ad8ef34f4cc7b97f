//! A Prometheus as a process of its own, with the configuration of `ops/`; it ends when dropped.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{free_port, until};

const STARTS_WITHIN: Duration = Duration::from_secs(15);

pub struct Prometheus {
    child: Child,
    address: String,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Prometheus {
    /// Reads these addresses each second, which is all that is changed in the configuration.
    pub async fn start(targets: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = include_str!("../../../ops/prometheus/prometheus.yml");
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/prometheus/rules.yml");
        let text = text.replace("interval: 5s", "interval: 1s").replace("rules.yml]", &format!("{rules}]"));
        let text = text.replace(r#"["quotad:8080"]"#, &serde_json::to_string(targets).expect("a list"));
        assert!(targets.iter().all(|target| text.contains(target)) && text.contains(rules), "{text}");
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, text).expect("a file");

        let address = format!("127.0.0.1:{}", free_port());
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self { child, address, client: reqwest::Client::new(), _folder: folder };
        let ready = async || prometheus.get("/-/ready").await.ok();
        until(STARTS_WITHIN, "prometheus is ready", ready).await;
        prometheus
    }

    async fn get(&self, path: &str) -> Result<String, reqwest::Error> {
        let answer = self.client.get(format!("http://{}{path}", self.address)).send().await?;
        answer.error_for_status()?.text().await
    }

    /// What an expression gives now. Panics where Prometheus can't read it.
    pub async fn query(&self, expr: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(expr, NON_ALPHANUMERIC));
        let answer = self.get(&path).await.unwrap_or_else(|error| panic!("{expr}: {error}"));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        answer["data"]["result"].as_array().expect("a list").clone()
    }

    /// Rules whose last evaluation did not succeed, and why.
    pub async fn rules_that_fail(&self) -> Vec<String> {
        let answer = self.get("/api/v1/rules").await.expect("an answer");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let groups = answer["data"]["groups"].as_array().expect("groups");
        assert_eq!(groups.len(), 2);
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
        rules.filter(|rule| rule["health"] != "ok").map(Value::to_string).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
