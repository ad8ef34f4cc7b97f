//! Redis is not there when the service starts.

use std::time::Instant;

use serde_json::json;

use super::load::name;
use super::place::{BACK, Kind, away, back_on_redis, charged, well};
use super::report::row;

on_each_place! {
    async fn without_redis_it_starts_says_so_and_heals(kind: Kind) {
        let provoked = format!("absent at the start, {}", kind.name());
        row("it starts, says that it is degraded, and heals by itself", &provoked, async |report| {
            let mut place = kind.start();
            place.kill();
            let quotad = place.service().start().await;
            let answer = quotad.check(json!({"user_id": name(0)})).await;
            assert_eq!((answer.status, answer.json["source"].as_str()), (200, Some("fallback")), "{}", answer.text);
            let health = quotad.get("/health").await;
            assert_eq!((&health.json["status"], &health.json["fallback_active"]), (&json!("degraded"), &json!(true)));
            assert_eq!(quotad.get("/health/ready").await.status, 200, "it does answer");
            place.start_again();
            report.at_most("back on Redis after", back_on_redis(&quotad, 20, Instant::now()).await, "ms", BACK);
            well(&quotad).await;
            report.exactly("charged of 1 that was granted", charged(&quotad, 0).await, 1);
            // Away once more, and back.
            place.kill();
            away(&quotad, 0).await;
            place.start_again();
            report.at_most("and again after", back_on_redis(&quotad, 20, Instant::now()).await, "ms", BACK);
        })
        .await;
    }
}
