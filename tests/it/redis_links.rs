//! The ways to Redis that the plain link over `actix-redis` has not: TLS with an authority of the test's own, logins of sentinels, a
//! cluster; and how many connections go that way.
#![cfg(not(feature = "actix-redis"))]

use std::time::Duration;

use serde_json::json;

use crate::support::certificates::{Certificates, text};
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::support::sentinel::{Passwords, Sentinels};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::until;

const WITHIN: Duration = Duration::from_secs(10);

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

#[tokio::test]
async fn sentinels_and_their_master_may_ask_for_a_login_each() {
    let sentinels = Sentinels::start_with(Passwords { nodes: Some("nodes-own"), sentinels: Some("sentinels-own") });
    let start = Start::new().redis_at(&sentinels.url()).set("REDIS_PASSWORD", "nodes-own");
    let quotad = start.clone().set("REDIS_SENTINEL_PASSWORD", "sentinels-own").start().await;
    assert_eq!(source(&quotad).await, "redis");
    assert_eq!(source(&start.start().await).await, "fallback");
}

#[tokio::test]
async fn counters_stand_in_the_database_that_is_named() {
    let redis = RedisServer::start();
    let quotad = Start::new().redis_at(&redis.url().replace("/0", "/3")).start().await;
    assert_eq!(source(&quotad).await, "redis");
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
    assert_ne!(redis.cli(&["-n", "3", "DBSIZE"]), "0");
}

/// The line it listens by carries nothing any more, and neither end is told.
#[tokio::test]
async fn a_service_that_hears_nothing_listens_anew() {
    let redis = RedisServer::start();
    let proxy = TcpProxy::before(redis.port()).await;
    let quotad = Start::new().redis_at(&format!("redis://127.0.0.1:{}", proxy.port())).start().await;
    let listening = || redis.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().filter(|line| !line.is_empty()).count();
    until(WITHIN, "it listens", async || (listening() == 1).then_some(())).await;
    proxy.go_half_open();
    until(WITHIN, "it listens by another line", async || (listening() == 2).then_some(())).await;
    drop(quotad);
}

/// Connections of clients, without the one that asks.
fn connections(redis: &RedisServer) -> usize {
    let list = redis.cli(&["CLIENT", "LIST", "TYPE", "normal"]);
    let listening = redis.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    list.lines().filter(|line| !line.contains("cmd=client")).count()
        + listening.lines().filter(|line| !line.is_empty()).count()
}

#[tokio::test]
async fn there_are_no_more_connections_than_may_be() {
    for most in [1, 2, 3] {
        let redis = RedisServer::start();
        let start = Start::new().redis(&redis).set("SHARDS", "8").set("REDIS_MAX_CONNECTIONS", &most.to_string());
        let quotad = start.start().await;
        for user in 0..100 {
            let answer = quotad.check(json!({"user_id": user.to_string()})).await;
            assert_eq!(answer.json["source"], "redis", "{}", answer.text);
        }
        assert!((1..=most).contains(&connections(&redis)), "{} of {most}", connections(&redis));
    }
    let mut cluster = RedisCluster::start();
    let start = Start::new().redis_at(&cluster.url()).set("SHARDS", "4").set("REDIS_MAX_CONNECTIONS", "7");
    let quotad = start.start().await;
    for user in 0..100 {
        let answer = quotad.check(json!({"user_id": user.to_string()})).await;
        assert_eq!(answer.json["source"], "redis", "{}", answer.text);
    }
    let all: usize = cluster.all().into_iter().map(|node| connections(node)).sum();
    // The replicas' own to their masters are of another type.
    assert!((3..=7).contains(&all), "{all} of 7");
}
