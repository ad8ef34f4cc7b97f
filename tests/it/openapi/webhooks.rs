//! Webhooks, with a receiver and without one.

use std::time::Duration;

use reqwest::Method;

use super::Tour;
use crate::support::quotad::Start;
use crate::support::receiver::Receiver;
use crate::support::until;

pub async fn all(tour: &mut Tour, receiver: &Receiver) {
    let (deliveries, test) = ("/api/v2/admin/webhooks/deliveries", "/api/v2/admin/webhooks/test");
    tour.ask(Method::POST, test, test, None, 200).await;
    receiver.answers(500);
    tour.ask(Method::POST, test, test, None, 200).await;
    // Who was checked before has used up a limit: an event of each kind of row is held against the document.
    until(Duration::from_secs(5), "a threshold is told", async || {
        let listed = tour.ask(Method::GET, deliveries, deliveries, None, 200).await;
        (listed.text.contains("quota.threshold") && listed.text.contains("given_up")).then_some(())
    })
    .await;
    tour.ask(Method::GET, deliveries, &format!("{deliveries}?state=lost"), None, 422).await;
    let deaf = Start::new().start().await;
    let telling = std::mem::replace(&mut tour.quotad, deaf);
    tour.ask(Method::POST, test, test, None, 409).await;
    tour.quotad = telling;
}
