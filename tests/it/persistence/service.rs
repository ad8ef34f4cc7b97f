//! What an operator sees of a database that refuses or is away: lag in `/health` and `/metrics`, and no user in the log.

use reqwest::Method;

use super::*;
use crate::support::quotad::{Backend, Quotad, Stores};
use crate::support::until;

const WITHIN: Duration = Duration::from_secs(10);

fn home_of(quotad: &Quotad) -> Home {
    let location = DatabaseLocation::Sqlite { path: quotad.data_dir().join("quotad.db") };
    Home { settings: settings(location), _folder: None }
}

async fn metric(quotad: &Quotad, name: &str) -> f64 {
    let text = quotad.ask_as(Method::GET, "/metrics", None, &[]).await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("{name} in {text}"))
}

#[tokio::test]
async fn usage_that_does_not_reach_the_database_is_seen_as_lag() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let home = home_of(&quotad);
    home.execute("ALTER TABLE usage RENAME TO elsewhere").await;
    assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200);
    until(WITHIN, "there is lag", async || {
        let database = quotad.get("/health").await.json["database"].clone();
        let lag = database["lag_seconds"].as_f64().unwrap();
        (lag > 0.5 && database["status"] == "degraded" && database["pending_rows"] == 2).then_some(())
    })
    .await;
    assert!(metric(&quotad, "quotad_usage_lag_seconds").await > 0.0);
    assert!(metric(&quotad, "quotad_usage_flush_failures_total").await > 0.0);
    home.execute("ALTER TABLE elsewhere RENAME TO usage").await;
    until(WITHIN, "there is none", async || {
        let database = quotad.get("/health").await.json["database"].clone();
        let lag = metric(&quotad, "quotad_usage_lag_seconds").await;
        (database["lag_seconds"] == 0.0 && database["status"] == "ok" && lag == 0.0).then_some(())
    })
    .await;
    let history = quotad.get("/api/v2/admin/quotas/u/history").await;
    assert_eq!(history.json["items"][0]["requests"], 1, "{}", history.text);
    quotad.stop();
}

#[tokio::test]
async fn a_row_that_is_set_aside_is_counted_and_its_user_is_not_in_the_log() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    home_of(&quotad).refuse("user:poison").await;
    quotad.check(json!({"user_id": "poison4711", "items": 7})).await;
    quotad.check(json!({"user_id": "good"})).await;
    until(WITHIN, "it is set aside", async || {
        (quotad.get("/health").await.json["database"]["set_aside_rows"] == 1).then_some(())
    })
    .await;
    until(WITHIN, "it is counted", async || {
        (metric(&quotad, "quotad_usage_set_aside_rows_total").await == 1.0).then_some(())
    })
    .await;
    let history = quotad.get("/api/v2/admin/quotas/good/history").await;
    assert_eq!(history.json["items"][0]["requests"], 1, "{}", history.text);
    let log = quotad.log();
    assert!(log.contains("set aside") && log.contains("requests=7") && !log.contains("poison4711"), "{log}");
}
