//! Where the counters are: on one node, on the master of sentinels, or in a cluster.

use std::time::{Duration, Instant};

use serde_json::json;

use super::answers::{Answers, millis};
use super::load::name;
use super::report::{Bound, Report};
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::support::sentinel::Sentinels;
use crate::support::until;

/// How a test is to be run on each kind of Redis: `<name>::on_a_node`, `::on_sentinels`, `::on_a_cluster`.
macro_rules! on_each_place {
    ($($(#[$doc:meta])* async fn $name:ident($kind:ident: Kind) $body:block)+) => {
        $($(#[$doc])* mod $name {
            use super::*;

            async fn scenario($kind: Kind) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_a_node() {
                scenario(Kind::Node).await;
            }

            #[cfg(not(feature = "actix-redis"))]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sentinels() {
                scenario(Kind::Sentinels).await;
            }

            #[cfg(not(feature = "actix-redis"))]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_a_cluster() {
                scenario(Kind::Cluster).await;
            }
        })+
    };
}

/// Back on Redis; a second is promised once it is up.
pub const BACK: Bound = Bound { short: 8000.0, full: 1000.0 };

/// Lost rounds are looked up, blocks given back.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg_attr(feature = "actix-redis", allow(dead_code, reason = "the plain link knows nodes alone"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Node,
    Sentinels,
    Cluster,
}

pub enum Place {
    Node(RedisServer),
    Sentinels(Sentinels),
    Cluster(RedisCluster),
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Node => "one node",
            Kind::Sentinels => "Sentinel",
            Kind::Cluster => "Cluster",
        }
    }

    pub fn start(self) -> Place {
        match self {
            Kind::Node => Place::Node(RedisServer::start()),
            Kind::Sentinels => Place::Sentinels(Sentinels::start()),
            Kind::Cluster => Place::Cluster(RedisCluster::start()),
        }
    }
}

impl Place {
    pub fn url(&self) -> String {
        match self {
            Place::Node(server) => server.url(),
            Place::Sentinels(sentinels) => sentinels.url(),
            Place::Cluster(cluster) => cluster.url(),
        }
    }

    /// A service here, with a deadline that no answer of a healthy Redis misses, and limits that nobody reaches.
    pub fn service(&self) -> Start {
        unlimited(Start::new().redis_at(&self.url()))
    }

    /// `kill -9` for all of it.
    pub fn kill(&mut self) {
        self.all().into_iter().for_each(RedisServer::kill);
    }

    /// All of it again; what is not saved is gone.
    pub fn start_again(&mut self) {
        self.all().into_iter().for_each(RedisServer::start_again);
        if let Place::Cluster(cluster) = self {
            cluster.wait_until_whole();
        }
    }

    /// The same command for each server that takes writes.
    pub fn cli_on_masters(&mut self, arguments: &[&str]) {
        match self {
            Place::Node(server) => drop(server.cli(arguments)),
            Place::Sentinels(sentinels) => drop(sentinels.master_node().cli(arguments)),
            Place::Cluster(cluster) => {
                cluster.masters().into_iter().for_each(|master| drop(cluster.node(master).cli(arguments)));
            }
        }
    }

    fn all(&mut self) -> Vec<&mut RedisServer> {
        match self {
            Place::Node(server) => vec![server],
            Place::Sentinels(sentinels) => sentinels.all(),
            Place::Cluster(cluster) => cluster.all(),
        }
    }
}

pub fn unlimited(start: Start) -> Start {
    start.set("FREE_TIER_LIMIT_HOUR", "100000000").set("FREE_TIER_LIMIT_DAY", "100000000")
}

/// What a service says of a user by the source given, where it is that source that speaks.
async fn used_by(quotad: &Quotad, user: u32, source: &str) -> Option<u64> {
    let answer = quotad.check(json!({"user_id": name(user), "endpoint": "/ws", "dry_run": true})).await;
    (answer.json["source"] == source).then(|| answer.used("day"))
}

/// What Redis has charged a user today, when it decides for this user. While the service decides alone there is no telling.
pub async fn charged(quotad: &Quotad, user: u32) -> u64 {
    until(PATIENCE, "redis", async || used_by(quotad, user, "redis").await).await.0
}

/// Until these users are decided for by Redis; milliseconds since `since`.
pub async fn back_on_redis(quotad: &Quotad, users: u32, since: Instant) -> f64 {
    for user in 0..users {
        charged(quotad, user).await;
    }
    millis(since.elapsed())
}

/// Until this user is decided for without Redis.
pub async fn away(quotad: &Quotad, user: u32) {
    until(PATIENCE, "fallback", async || used_by(quotad, user, "fallback").await).await;
}

/// Compares what Redis has charged each user, when all has settled, with what they were granted: nothing is missing, and
/// nothing is charged that was not granted.
pub async fn charged_exactly(report: &mut Report, quotad: &Quotad, answers: &Answers) {
    charged_but_for(report, quotad, answers, 0.0).await;
}

/// The same, but so much may be missing: of what a master did last its replicas need not have heard.
pub async fn charged_but_for(report: &mut Report, quotad: &Quotad, answers: &Answers, may_miss: f64) {
    let mut users: Vec<u32> = answers.0.iter().map(|answered| answered.user).collect();
    users.sort_unstable();
    users.dedup();
    let begun = Instant::now();
    loop {
        let (mut missing, mut too_much) = (0, 0);
        for user in &users {
            let (charged, allowed) = (charged(quotad, *user).await, answers.of(*user).allowed());
            missing += allowed.saturating_sub(charged);
            too_much += charged.saturating_sub(allowed);
        }
        if missing + too_much == 0 || begun.elapsed() > SETTLED_WITHIN {
            report.tell("checks", answers.count());
            report.at_most("granted and not charged", missing as f64, "", Bound { short: may_miss, full: may_miss });
            report.exactly("charged and not granted", too_much, 0);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until the service says that all is well.
pub async fn well(quotad: &Quotad) {
    let ask = async || (quotad.get("/health").await.json["status"] == "ok").then_some(());
    until(PATIENCE, "all is well", ask).await;
}

/// Memory of a process that is in use, in MiB.
pub fn resident_mib(quotad: &Quotad) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", quotad.id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib / 1024.0
}
