//! A master goes and a replica takes its place; slots move from one master to another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join;

use super::answers::{Answers, Source, millis};
use super::load::{Load, name};
use super::place::{BACK, Kind, Place, back_on_redis, charged, charged_but_for, charged_exactly, well};
use super::report::{Bound, Report, row};
use super::{either, over_the_deadline, start_within_deadline};
use crate::support::quotad::Quotad;
use crate::support::redis_cluster::RedisCluster;
use crate::support::sentinel::Sentinels;

const USERS: u32 = 24;

const HEALS: &str = "only that node's keys are affected; healed without restart, nothing charged twice";

/// Redis replicates later than it answers: what a master did last may be known to nobody that is left. What instances saw is told.
const MAY_BE_LOST: f64 = 2000.0;

async fn two_instances(place: &Place) -> (Quotad, Quotad) {
    let start = start_within_deadline(place.service());
    let instances = join(start.start(), start.start()).await;
    back_on_redis(&instances.0, USERS, Instant::now()).await;
    back_on_redis(&instances.1, USERS, Instant::now()).await;
    instances
}

async fn all_back(instances: (&Quotad, &Quotad), since: Instant) -> f64 {
    back_on_redis(instances.0, USERS, since).await;
    back_on_redis(instances.1, USERS, since).await
}

async fn judge(report: &mut Report, answers: &Answers, one: &Quotad, other: &Quotad) {
    report.exactly("checks failed", answers.failed(), 0);
    over_the_deadline(report, answers);
    charged_but_for(report, one, answers, MAY_BE_LOST).await;
    join(well(one), well(other)).await;
}

/// `frozen`: it does not end, and comes back as one that was deposed.
async fn sentinels_fail_over(report: &mut Report, frozen: bool) {
    let place = Place::Sentinels(Sentinels::start());
    let (one, other) = two_instances(&place).await;
    let Place::Sentinels(mut sentinels) = place else { panic!("sentinels") };
    let (answers, (took, back)) = Load::of(8)
        .for_users(USERS)
        .during(&[&one, &other], async |running| {
            running.more(400).await;
            let (mut took, mut back): (f64, f64) = (0.0, 0.0);
            for turn in 0..either(1, 5) {
                if turn > 0 {
                    sentinels.wait_until_in_step();
                }
                let (old, begun) = (sentinels.master(), Instant::now());
                if frozen {
                    sentinels.node(old).stop()
                } else {
                    sentinels.node(old).kill()
                }
                sentinels.wait_for_another_master_than(old);
                took = took.max(millis(begun.elapsed()));
                back = back.max(all_back((&one, &other), Instant::now()).await);
                if frozen {
                    sentinels.node(old).cont()
                } else {
                    sentinels.node(old).start_again()
                }
                running.more(400).await;
            }
            (took, back)
        })
        .await;
    report.tell("another master after", format!("{took:.0} ms"));
    report.at_most("then back on Redis after", back, "ms", BACK);
    judge(report, &answers, &one, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_replace_a_master_that_was_killed() {
    row(HEALS, "Sentinel failover, the master killed", async |report| sentinels_fail_over(report, false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_replace_a_master_that_froze() {
    row(HEALS, "Sentinel failover, the master frozen, then back", async |report| {
        sentinels_fail_over(report, true).await
    })
    .await;
}

/// Which node each user's counters are on.
async fn nodes(cluster: &RedisCluster, quotad: &Quotad) -> BTreeMap<u32, usize> {
    for user in 0..USERS {
        quotad.check(serde_json::json!({"user_id": name(user)})).await;
    }
    let keys = cluster.keys("*:c:user:user-*");
    let node = |user: u32| {
        let ending = format!(":c:user:{}", name(user));
        cluster.node_of(keys.iter().find(|key| key.ends_with(&ending)).expect("a key"))
    };
    (0..USERS).map(|user| (user, node(user))).collect()
}

async fn cluster_loses_a_master(report: &mut Report, frozen: bool) {
    let place = Place::Cluster(RedisCluster::start());
    let (one, other) = two_instances(&place).await;
    let Place::Cluster(mut cluster) = place else { panic!("a cluster") };
    let nodes = nodes(&cluster, &one).await;
    let counted: Vec<u64> = join_charged(&one).await;
    let lost = nodes[&0];
    let (answers, (took, back)) = Load::of(8)
        .for_users(USERS)
        .during(&[&one, &other], async |running| {
            running.more(400).await;
            let begun = Instant::now();
            if frozen {
                cluster.node(lost).stop()
            } else {
                cluster.kill(lost)
            }
            cluster.wait_until_replaced(lost);
            let took = millis(begun.elapsed());
            let back = all_back((&one, &other), Instant::now()).await;
            if frozen {
                cluster.node(lost).cont()
            } else {
                cluster.node(lost).start_again()
            }
            running.more(400).await;
            cluster.wait_until_whole();
            (took, back)
        })
        .await;
    report.tell("its replica took over after", format!("{took:.0} ms"));
    report.at_most("then back on Redis after", back, "ms", BACK);
    let others = answers.only(|answered| nodes[&answered.user] != lost);
    report.tell("checks of others", others.count());
    report.exactly("of these without Redis", others.by(Source::Fallback).count(), 0);
    let affected = answers.only(|answered| nodes[&answered.user] == lost).by(Source::Fallback).count();
    report.tell("checks of that node's keys without Redis", affected);
    report.exactly("checks failed", answers.failed(), 0);
    over_the_deadline(report, &answers);
    let (mut missing, mut too_much) = (0, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (user, counted) in (0..USERS).zip(counted) {
        let (charged, allowed) = (charged(&one, user).await, counted + answers.of(user).allowed());
        missing += allowed.saturating_sub(charged);
        too_much += charged.saturating_sub(allowed);
    }
    report.at_most("granted and not charged", missing as f64, "", Bound { short: MAY_BE_LOST, full: MAY_BE_LOST });
    report.exactly("charged and not granted", too_much, 0);
    join(well(&one), well(&other)).await;
}

async fn join_charged(quotad: &Quotad) -> Vec<u64> {
    let mut all = Vec::new();
    for user in 0..USERS {
        all.push(charged(quotad, user).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_a_master_that_was_killed() {
    row(HEALS, "a cluster master killed", async |report| cluster_loses_a_master(report, false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_a_master_that_froze() {
    row(HEALS, "a cluster master frozen, then back", async |report| cluster_loses_a_master(report, true).await).await;
}

/// With hundreds of slots of a master, and one by one those of the users with their keys on both sides for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load() {
    row(
        "only their keys are affected; healed without restart, nothing charged twice",
        "slots moved from master to master under load",
        async |report| {
            let place = Kind::Cluster.start();
            let start = place.service().set("RESERVED_BLOCKS", "false");
            let (one, other) = join(start.start(), start.start()).await;
            back_on_redis(&one, USERS, Instant::now()).await;
            back_on_redis(&other, USERS, Instant::now()).await;
            let Place::Cluster(cluster) = place else { panic!("a cluster") };
            let (answers, moved) = Load::of(8)
                .for_users(USERS)
                .during(&[&one, &other], async |running| {
                    running.more(200).await;
                    let mut moved = 0;
                    for _ in 0..either(1, 4) {
                        for key in cluster.keys("*:c:user:user-*").into_iter().take(either(6, 24)) {
                            let to = (cluster.node_of(&key) + 1) % 3;
                            cluster.move_slot(cluster.slot_of(&key), to, Duration::from_millis(30));
                            moved += 1;
                        }
                        let count = either(100, 2000);
                        cluster.move_slots(0, 1, count);
                        moved += count;
                    }
                    running.more(200).await;
                    moved
                })
                .await;
            report.tell("slots moved", moved);
            report.exactly("checks failed", answers.failed(), 0);
            report.tell("checks without Redis", answers.by(Source::Fallback).count());
            report.at_most("slowest answer", answers.slowest_ms(), "ms", Bound { short: 3000.0, full: 500.0 });
            charged_exactly(report, &one, &answers).await;
        },
    )
    .await;
}
