//! Asks quotad for room as a good caller does: heeds `Retry-After`, backs off with jitter, and never pays twice (docs/clients.md).

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::json;

const TRIES: u32 = 4;
/// Whoever would have to wait longer is told that there is no room.
const PATIENCE_SECONDS: u64 = 5;

/// At random, evenly from 0 to 1.
fn chance() -> f64 {
    getrandom::u32().map_or(1.0, f64::from) / f64::from(u32::MAX)
}

/// The wait before the next try without a word from the service: a random part of 0.1 s, doubled each time, of 10 s at most.
fn back_off(attempt: u32) -> Duration {
    Duration::from_millis(100).saturating_mul(1 << attempt.min(7)).min(Duration::from_secs(10)).mul_f64(chance())
}

/// True where there is room; false where there is none and waiting would not help in time.
///
/// # Errors
/// An answer that is the same the next time: 401, 403, 422.
pub async fn check(
    client: &Client,
    url: &str,
    key: &str,
    user_id: &str,
    endpoint: &str,
) -> Result<bool, reqwest::Error> {
    let request_id = format!("{:016x}", getrandom::u64().unwrap_or_default());
    let body = json!({"user_id": user_id, "endpoint": endpoint, "request_id": request_id});
    for attempt in 0..TRIES {
        let asked = client.post(format!("{url}/api/v2/check")).header("X-API-Key", key).json(&body).send().await;
        let pause = match asked {
            Err(_) => back_off(attempt),
            Ok(answer) => {
                let wait = answer.headers().get("Retry-After").and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
                match (answer.status(), wait) {
                    (StatusCode::TOO_MANY_REQUESTS, Some(seconds)) if seconds <= PATIENCE_SECONDS => {
                        Duration::from_secs(seconds).mul_f64(1.0 + chance() / 10.0)
                    }
                    (StatusCode::TOO_MANY_REQUESTS, _) => return Ok(false),
                    (StatusCode::SERVICE_UNAVAILABLE, _) => back_off(attempt),
                    _ => return answer.error_for_status().map(|_| true),
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
    Ok(false)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("wants an address and a key".into());
    };
    let client = Client::builder().timeout(Duration::from_secs(1)).build()?;
    let room = check(&client, &url, &key, "carol", "/api/v1/agents").await?;
    println!("{}", if room { "there is room" } else { "there is no room" });
    Ok(())
}
