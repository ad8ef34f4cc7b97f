//! Redis goes and comes back, faster than anybody can follow.

use std::time::{Duration, Instant};

use super::load::Load;
use super::place::{BACK, back_on_redis, charged, unlimited};
use super::report::{Bound, row};
use super::{either, over_the_deadline, start_within_deadline};
use crate::support::quotad::Start;
use crate::support::redis_server::RedisServer;
use crate::support::tcp_proxy::TcpProxy;

const TURN: Duration = Duration::from_millis(200);

/// An instance that saw the window never goes over the limit, two at most to the double, and each unit is charged.
async fn up_and_down(instances: usize) {
    let provoked = format!("up and down every 200 ms under load, {instances} instances");
    row("no storm of connections, and no more than is promised without Redis", &provoked, async |report| {
        let redis = RedisServer::start();
        let proxy = TcpProxy::before(redis.port()).await;
        let limit = either(1000, 20_000);
        let start = Start::new().redis_at(&format!("redis://127.0.0.1:{}/0", proxy.port()));
        let start = start_within_deadline(unlimited(start)).set("FREE_TIER_LIMIT_DAY", &limit.to_string());
        let mut running = Vec::new();
        for _ in 0..instances {
            running.push(start.start().await);
        }
        let all: Vec<_> = running.iter().collect();
        for quotad in &all {
            back_on_redis(quotad, 1, Instant::now()).await;
        }
        let connections = proxy.accepted();
        let lasts = either(Duration::from_millis(2400), Duration::from_secs(30));
        let (answers, took) = Load::of(8)
            .during(&all, async |load| {
                let begun = Instant::now();
                while begun.elapsed() < lasts {
                    proxy.refuse(true);
                    tokio::time::sleep(TURN).await;
                    proxy.refuse(false);
                    tokio::time::sleep(TURN).await;
                }
                let took = begun.elapsed();
                load.more(2 * limit).await;
                took
            })
            .await;
        let rate = (proxy.accepted() - connections) as f64 / took.as_secs_f64() / instances as f64;
        // The plain link tries at a pace of its library's, which nothing here can change.
        let most = if cfg!(feature = "actix-redis") { f64::INFINITY } else { 100.0 };
        report.at_most("connections tried a second, by each", rate, "", Bound { short: most, full: 50.0 });
        report.exactly("checks failed", answers.failed(), 0);
        over_the_deadline(report, &answers);
        let most = limit * instances as u64;
        report.at_most(
            "units over the limit",
            answers.allowed() as f64 - limit as f64,
            "",
            Bound { short: (most - limit) as f64, full: (most - limit) as f64 },
        );
        if instances == 1 {
            report.exactly("wrongly denied", limit.saturating_sub(answers.allowed()), 0);
        }
        report.at_most("back on Redis after", back_on_redis(all[0], 1, Instant::now()).await, "ms", BACK);
        let missing = answers.allowed().saturating_sub(charged(all[0], 0).await);
        report.exactly("granted and not charged", missing, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_goes_up_and_down_under_one_instance() {
    up_and_down(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_goes_up_and_down_under_two_instances() {
    up_and_down(2).await;
}
