//! The view of webhooks, with a receiver.

use serde_json::json;

use super::{is_clean, signed_in};
use crate::support::quotad::{Backend, Stores};
use crate::support::receiver::Receiver;

#[tokio::test]
async fn a_test_event_is_sent_and_seen_among_the_deliveries() {
    let (stores, receiver) = (Stores::start(Backend::Embedded), Receiver::start());
    let (url, secret) = (receiver.url(), "a secret of enough characters");
    let quotad = stores.quotad(&[("WEBHOOK_URL", &url), ("WEBHOOK_SECRET", secret)]).await;
    let browser = signed_in(&quotad).await;
    quotad.check(json!({"user_id": "=anna", "items": 80})).await;
    browser.click("Webhooks").await;
    browser.reads("80 % of hour, user:=anna").await;
    browser.click("Send a test event").await;
    browser.reads("The receiver took the event: it answered 204").await;
    receiver.answers(500);
    browser.click("Send a test event").await;
    browser.reads("The receiver did not take the event: it answered 500").await;
    browser.click("Given up").await;
    browser.wait("its row alone", "document.querySelectorAll('tbody tr').length === 1").await;
    browser.wait("the table as a file", "document.querySelector('[aria-label=\"Deliveries as CSV\"]')").await;
    let seen = browser.eval("return document.body.innerText").await.to_string();
    assert!(!seen.contains("hunter2") && !seen.contains(secret), "{seen}");
    browser.click("Health").await;
    browser.reads("it answers 500").await;
    is_clean(&browser, &quotad, &[]).await;
    browser.end().await;
}
