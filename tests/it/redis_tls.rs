//! Redis by TLS, with an authority of the test's own. The plain link over `actix-redis` has none.
#![cfg(not(feature = "actix-redis"))]

use serde_json::json;

use crate::support::certificates::{Certificates, text};
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;

async fn source(quotad: &Quotad) -> String {
    let answer = quotad.check(json!({"user_id": "u"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json["source"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn redis_may_ask_for_a_certificate() {
    let redis = RedisServer::start_tls();
    let quotad = Start::new().redis(&redis).start().await;
    assert_eq!(source(&quotad).await, "redis");
    let by_flag = redis.url().replace("rediss", "redis");
    let quotad = Start::new().redis(&redis).set("REDIS_URL", &by_flag).set("REDIS_SSL", "true").start().await;
    assert_eq!(source(&quotad).await, "redis");
}

/// A server that nobody vouches for is not spoken to, and one that asks who is there is told.
#[tokio::test]
async fn without_the_right_certificates_redis_is_as_good_as_away() {
    let redis = RedisServer::start_tls();
    let nameless = Start::new().redis(&redis).unset("REDIS_CERT_FILE").unset("REDIS_KEY_FILE");
    assert_eq!(source(&nameless.start().await).await, "fallback");
    let others = Certificates::make();
    let stranger = Start::new().redis(&redis).set("REDIS_CA_FILE", &text(&others.ca()));
    assert_eq!(source(&stranger.start().await).await, "fallback");
    let plain = Start::new().redis_at(&redis.url().replace("rediss", "redis"));
    assert_eq!(source(&plain.start().await).await, "fallback");
}
