//! What docs/clients.md has a caller do, by `examples/client.rs`; its other languages are run where the page is.

#[path = "../../examples/client.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod client;

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::json;

use crate::support::in_one_hour;
use crate::support::quotad::{ADMIN_KEY, Start};

async fn asks(address: &str, key: &str) -> Result<bool, reqwest::Error> {
    let client = Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
    client::check(&client, &format!("http://{address}"), key, "carol", "/api/v1/agents").await
}

#[tokio::test]
async fn a_good_caller_waits_where_that_helps_and_gives_up_where_not() {
    in_one_hour(waits_and_gives_up).await;
}

async fn waits_and_gives_up() {
    let burst = json!({"name": "burst", "algorithm": "sliding_window_log", "period_seconds": 1, "requests": 2});
    let hour = json!({"name": "hour", "algorithm": "fixed_window", "window": "hour", "requests": 6});
    let quotad = Start::new().start().await;
    quotad.put("/api/v2/admin/tiers/steady", json!({"limits": [burst, hour]})).await;
    quotad.put("/api/v2/admin/users/carol", json!({"tier": "steady"})).await;
    assert!(asks(quotad.address(), ADMIN_KEY).await.expect("an answer"));
    let begun = Instant::now();
    assert!(asks(quotad.address(), ADMIN_KEY).await.expect("an answer"));
    assert!(begun.elapsed() > Duration::from_millis(500), "the second has waited for the first to leave the log");
    assert!(asks(quotad.address(), ADMIN_KEY).await.expect("an answer"));
    let hourly = quotad.quota("carol").await.json["requests_hour_used"].clone();
    assert_eq!(hourly, 6, "nothing was charged twice");
    assert!(!asks(quotad.address(), ADMIN_KEY).await.expect("an answer"), "the hour is too long to wait for");
    let wrong = asks(quotad.address(), "a-key-that-is-not-the-right-one-at-all").await;
    assert_eq!(wrong.expect_err("a refusal").status().map(|status| status.as_u16()), Some(401));
    let address = quotad.address().to_owned();
    quotad.stop();
    assert!(!asks(&address, ADMIN_KEY).await.expect("no error"), "it gives up where nobody answers");
}
