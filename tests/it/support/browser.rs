//! A Chromium of the test's own, driven as a person would: by what is on the page.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::ChromiumLikeCapabilities;
use thirtyfour::LoggingPrefsLogLevel;
use thirtyfour::prelude::*;

use super::{free_port, until};

const WITHIN: Duration = Duration::from_secs(20);

/// A browser with one window, and the driver that it is spoken to through.
pub struct Browser {
    pub page: WebDriver,
    driver: Child,
    _home: TempDir,
}

impl Browser {
    pub async fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let driver = Command::new("chromedriver")
            .args([format!("--port={port}"), "--log-level=OFF".to_owned()])
            .env("HOME", home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver (scripts/test installs it)");
        let mut capabilities = DesiredCapabilities::chrome();
        let profile = format!("--user-data-dir={}", home.path().join("profile").display());
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-default-apps",
            "--disable-extensions",
            "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication",
            "--metrics-recording-only",
            // Whatever asks for a name of the world outside finds none.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--lang=en-GB",
            &profile,
        ] {
            capabilities.add_arg(argument).expect("an argument");
        }
        for kind in ["browser", "performance"] {
            capabilities.set_logging_prefs(kind, LoggingPrefsLogLevel::All).expect("a kind of log");
        }
        let address = format!("http://127.0.0.1:{port}");
        let (page, _) =
            until(WITHIN, "chromedriver answers", async || WebDriver::new(&address, capabilities.clone()).await.ok())
                .await;
        Self { page, driver, _home: home }
    }

    /// A window of this size, on a screen that is dark or light.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.tell("Emulation.setEmulatedMedia", features).await;
    }

    async fn tell(&self, command: &str, parameters: Value) {
        self.page.cdp().send_raw(command, parameters).await.expect("the browser does it");
    }

    /// Waits until a script says yes.
    pub async fn wait(&self, what: &str, script: &str) -> Duration {
        let ask = format!("return Boolean({script})");
        let (_, took) = until(WITHIN, what, async || {
            let answer = self.page.execute(&ask, vec![]).await.ok()?;
            answer.json().as_bool().filter(|yes| *yes)
        })
        .await;
        took
    }

    /// Waits until this text can be read on the page.
    pub async fn reads(&self, text: &str) -> Duration {
        self.wait(text, &format!("document.body.innerText.includes({})", json!(text))).await
    }

    pub async fn eval(&self, script: &str) -> Value {
        self.page.execute(script, vec![]).await.expect("a script that runs").json().clone()
    }

    /// Types into the field of this label, in the place of what stands there.
    pub async fn fill(&self, label: &str, text: &str) {
        let script = format!(
            "return [...document.querySelectorAll('label')].find((label) => label.textContent === {}).control",
            json!(label)
        );
        let field = self.page.execute(&script, vec![]).await.expect("a field").element().expect("an element");
        field.clear().await.expect("it empties");
        field.send_keys(text).await.expect("it types");
    }

    /// Clicks the button or link of this text.
    pub async fn click(&self, text: &str) {
        let find = format!(
            "[...document.querySelectorAll('dialog[open] button, button, nav a, a')].find((one) => one.textContent.trim() === {})",
            json!(text)
        );
        // What is shown is made anew now and then: another try finds the new one.
        until(WITHIN, text, async || {
            let element = self.page.execute(&format!("return {find}"), vec![]).await.ok()?.element().ok()?;
            element.click().await.ok()
        })
        .await;
    }

    pub async fn press(&self, keys: impl AsRef<str>) {
        let pressed = self.page.action_chain().send_keys(keys.as_ref()).perform().await;
        pressed.expect("keys");
    }

    /// What the console says that is no advice.
    pub async fn console_errors(&self) -> Vec<String> {
        let lines = self.page.get_log("browser").await.expect("a log");
        let bad = lines.into_iter().filter(|line| ["SEVERE", "WARNING"].contains(&line.level.as_str()));
        bad.map(|line| line.message).collect()
    }

    /// Every address that the page has asked for since this was last asked.
    pub async fn requests(&self) -> Vec<String> {
        let entries = self.page.get_log("performance").await.expect("a log");
        let messages = entries.iter().filter_map(|entry| serde_json::from_str::<Value>(&entry.message).ok());
        let sent = messages.filter(|entry| entry["message"]["method"] == "Network.requestWillBeSent");
        sent.filter_map(|entry| Some(entry["message"]["params"]["request"]["url"].as_str()?.to_owned())).collect()
    }

    pub async fn screenshot(&self, file: &std::path::Path) {
        self.page.screenshot(file).await.expect("a picture");
    }

    pub async fn end(self) {
        self.page.clone().quit().await.ok();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}
