//! What the tests stand on. Not every test uses every part.
#![allow(dead_code)]

pub mod answer;
pub mod browser;
pub mod certificates;
pub mod clock;
pub mod issuer;
pub mod postgres_server;
pub mod quotad;
pub mod receiver;
pub mod redis_cluster;
pub mod redis_server;
pub mod sentinel;
pub mod tcp_proxy;
pub mod timed_link;

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;

/// Makes two tests of each scenario: `<name>::embedded` and `<name>::with_redis_and_postgres`.
macro_rules! on_both {
    ($($(#[$doc:meta])* async fn $name:ident($backend:ident: Backend) $body:block)+) => {
        $($(#[$doc])* mod $name {
            use super::*;

            async fn scenario($backend: Backend) $body

            #[tokio::test]
            async fn embedded() {
                crate::support::in_one_hour(|| scenario(Backend::Embedded)).await;
            }

            #[tokio::test]
            async fn with_redis_and_postgres() {
                crate::support::in_one_hour(|| scenario(Backend::RedisAndPostgres)).await;
            }
        })+
    };
}

/// Which hour it is, counted from the epoch.
pub fn hour() -> i64 {
    jiff::Timestamp::now().as_second().div_euclid(3600)
}

/// Runs a scenario, and once more where it failed while the hour turned: the windows began anew under it.
pub async fn in_one_hour<F: Future<Output = ()>>(scenario: impl Fn() -> F) {
    loop {
        let begun = hour();
        match AssertUnwindSafe(scenario()).catch_unwind().await {
            Ok(()) => return,
            Err(_) if hour() != begun => {}
            Err(failure) => resume_unwind(failure),
        }
    }
}

/// Asks again and again until there is an answer, and says how long that took. Panics when `within` has passed.
pub async fn until<T>(within: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return (answer, begun.elapsed());
        }
        assert!(begun.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The settings of a service that uses this Redis, for tests that speak to it as the service does.
pub fn settings_of(redis: &redis_server::RedisServer) -> ::quotad::config::RedisSettings {
    let vars = [("QUOTAD_REDIS_URL".to_owned(), redis.url())];
    ::quotad::config::Settings::from_vars(vars).expect("settings").redis.expect("a Redis")
}

/// A port that is free now and was given to no other test of this process.
pub fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return port;
        }
    }
}
