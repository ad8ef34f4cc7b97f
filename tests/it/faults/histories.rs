//! Histories of two instances, recorded while Redis fails in one way or another: the checker finds nothing too much, and no
//! wrong denial. What was granted without Redis counts as perhaps charged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join;

use super::either;
use super::place::{Kind, Place};
use super::report::{Report, row};
use crate::history::checker::check;
use crate::history::record::{Algorithm, Limit, Operation, Outcome, Tier, Window};
use crate::history::recorder::Recording;
use crate::support::quotad::Start;
use crate::support::tcp_proxy::{Replies, TcpProxy};

const HOUR: u64 = 150;
const DAY: u64 = 1000;

/// Records while `fail` is called again and again.
async fn recorded(report: &mut Report, start: Start, mut fail: impl FnMut(usize)) {
    let start = start.set("FREE_TIER_LIMIT_HOUR", &HOUR.to_string()).set("FREE_TIER_LIMIT_DAY", &DAY.to_string());
    let (one, other) = join(start.start(), start.start()).await;
    let limit = |name: &str, window, requests| Limit {
        name: name.into(),
        algorithm: Algorithm::FixedWindow(window),
        requests,
        enforce: true,
    };
    let limits = vec![limit("hour", Window::Hour, HOUR), limit("day", Window::Day, DAY)];
    let tier = Tier { name: "free".into(), limits, concurrent_requests: 5, concurrent_websockets: 5 };
    let recording = Recording {
        instances: [&one, &other].map(|quotad| quotad.address().to_owned()).to_vec(),
        tiers: vec![tier],
        clients: 8,
        operations: either(6000, 300_000),
        subjects: 12,
        turnover: Some(60),
        leases: 0,
    };
    let ended = Arc::new(AtomicBool::new(false));
    let recorder = {
        let ended = Arc::clone(&ended);
        tokio::spawn(async move {
            let histories = recording.run().await;
            ended.store(true, Ordering::Relaxed);
            histories
        })
    };
    let mut turns = 0;
    while !ended.load(Ordering::Relaxed) {
        fail(turns);
        turns += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let histories = recorder.await.expect("it records");
    let findings: Vec<_> = histories.iter().flat_map(check).collect();
    findings.iter().take(10).for_each(|finding| println!("  {finding}"));
    let operations = || histories.iter().flat_map(|history| &history.operations);
    let is = |outcome: Outcome| operations().filter(|operation| operation.outcome == outcome).count();
    report.tell("operations", operations().count());
    report.tell("denied", operations().filter(|operation: &&Operation| operation.is_denied()).count());
    report.tell("without Redis", is(Outcome::Unknown));
    report.exactly("failed", is(Outcome::Error) as u64, 0);
    report.exactly("findings", findings.len() as u64, 0);
}

const PROMISE: &str = "a recorded history has nothing too much and no wrong denial";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_where_the_line_fails() {
    row(PROMISE, "every fault of the line in turn, two instances", async |report| {
        let place = Kind::Node.start();
        let Place::Node(redis) = &place else { panic!("a node") };
        let proxy = TcpProxy::before(redis.port()).await;
        let start = place.service().set("REDIS_URL", &format!("redis://127.0.0.1:{}/0", proxy.port()));
        let faults = [
            Replies::Lost,
            Replies::Sliced,
            Replies::Garbage,
            Replies::Late(Duration::from_millis(80)),
            Replies::Swallowed,
        ];
        let fail = |turn: usize| {
            proxy.set(if turn.is_multiple_of(3) { faults[turn / 3 % faults.len()] } else { Replies::Pass });
            match turn % 15 {
                4 => proxy.cut(),
                7 => proxy.go_half_open(),
                10 => drop(redis.cli(&["SCRIPT", "FLUSH"])),
                13 => redis.stop_cont(Duration::from_millis(150)),
                _ => {}
            }
        };
        recorded(report, start.set("REDIS_DEADLINE_MS", "100"), fail).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_where_slots_move() {
    row(PROMISE, "slots of a cluster on the move, two instances", async |report| {
        let place = Kind::Cluster.start();
        let start = place.service();
        let Place::Cluster(cluster) = place else { panic!("a cluster") };
        let fail = |turn: usize| {
            let Some(key) = cluster.keys("*:c:user:user-*").into_iter().nth(turn % 7) else { return };
            let to = (cluster.node_of(&key) + 1) % 3;
            cluster.move_slot(cluster.slot_of(&key), to, Duration::from_millis(20));
        };
        recorded(report, start, fail).await;
    })
    .await;
}
