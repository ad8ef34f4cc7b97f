//! A cluster: which master serves which partition, and a link to whoever does.
//!
//! Each partition has one slot, since its number is the hash tag of all its keys. A call is of one partition alone, so the
//! cluster never refuses it for its keys, and a `MOVED` is about it alone.

mod slots;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Cmd;
use tokio::sync::Mutex as AsyncMutex;

use super::line::{Finder, Line, command_of, text_of};
use super::link::{Answer, Link, LinkError};
use crate::clock::Stopwatch;
use crate::config::{HostPort, RedisSettings, host_port};
use slots::{Owners, slot_of};

/// A call follows a slot that is on its way no further: each of these means that nothing was done.
const REDIRECTIONS: usize = 8;

/// While the keys of a call stand on two nodes neither takes it.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// The map is not asked for more often.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

/// What one process knows of a cluster. The shards share it.
#[derive(Debug)]
pub struct Cluster {
    settings: RedisSettings,
    seeds: Vec<HostPort>,
    map: Mutex<Map>,
    /// Held while the map is asked for; when that was last done.
    refreshing: AsyncMutex<Option<Stopwatch>>,
}

#[derive(Debug, Default)]
struct Map {
    owners: Owners,
    /// As many to a node as the settings have room for.
    lines: HashMap<HostPort, Vec<Line>>,
}

impl Cluster {
    pub fn new(settings: &RedisSettings, seeds: &[HostPort]) -> Arc<Self> {
        Arc::new(Self {
            settings: settings.clone(),
            seeds: seeds.to_vec(),
            map: Mutex::default(),
            refreshing: AsyncMutex::new(None),
        })
    }

    /// The master that serves a slot.
    async fn owner(self: &Arc<Self>, slot: u16) -> Result<HostPort, LinkError> {
        let known = self.map().owners.of(slot);
        if let Some(known) = known {
            return Ok(known);
        }
        self.refresh().await?;
        let found = self.map().owners.of(slot);
        found.ok_or_else(|| LinkError::Connect(format!("no node of the cluster serves slot {slot}")))
    }

    /// A line to a node; `turn` spreads shards over those there may be.
    fn line(&self, node: &HostPort, turn: usize) -> Result<Line, LinkError> {
        let mut map = self.map();
        let masters = map.owners.masters().max(1);
        let most = self.settings.connections_to_ask();
        let open: usize = map.lines.values().map(Vec::len).sum();
        let lines = map.lines.entry(node.clone()).or_default();
        let room = lines.len() < most.div_euclid(masters).max(1) && open < most;
        if room && lines.len() <= turn {
            lines.push(Line::new(&self.settings, Finder::At(node.clone())));
        }
        let too_few = || LinkError::Connect(format!("REDIS_MAX_CONNECTIONS leaves none for {node}"));
        lines.get(turn.checked_rem(lines.len()).unwrap_or(0)).cloned().ok_or_else(too_few)
    }

    /// A slot is served by another node than was thought.
    fn moved(self: &Arc<Self>, slot: u16, to: &HostPort) {
        self.map().owners.moved(slot, to.clone());
        self.refresh_soon();
    }

    fn refresh_soon(self: &Arc<Self>) {
        let cluster = Arc::clone(self);
        actix::spawn(async move { cluster.refresh().await.ok() });
    }

    /// Asks one node after another who serves what, unless that was done just now.
    async fn refresh(&self) -> Result<(), LinkError> {
        let mut last = self.refreshing.lock().await;
        if last.as_ref().is_some_and(|last| last.elapsed() < REFRESH_PAUSE) {
            return Ok(());
        }
        let known: Vec<HostPort> = self.map().lines.keys().cloned().collect();
        let mut result = Err(LinkError::Connect("no node of the cluster answers".to_owned()));
        for node in known.iter().chain(&self.seeds) {
            match self.ask_for_owners(node).await {
                Ok(owners) => {
                    let mut map = self.map();
                    map.lines.retain(|node, _| owners.has(node));
                    map.owners = owners;
                    result = Ok(());
                    break;
                }
                Err(error) => result = Err(error),
            }
        }
        *last = Some(Stopwatch::start());
        result
    }

    async fn ask_for_owners(&self, node: &HostPort) -> Result<Owners, LinkError> {
        let kept = self.map().lines.get(node).and_then(|lines| lines.first().cloned());
        // Asked over a line of its own where there is none yet, which ends with the answer.
        let line = kept.unwrap_or_else(|| Line::new(&self.settings, Finder::At(node.clone())));
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let patience = self.settings.connect_timeout.min(self.settings.deadline.max(Duration::from_millis(250)));
        let answer = tokio::time::timeout(patience, line.ask(&command)).await;
        let answer = answer.map_err(|_| LinkError::Connect(format!("{node} does not answer")))??;
        Owners::read(&answer, node).ok_or_else(|| LinkError::Failed(format!("{node} is no node of a cluster")))
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link to whichever node serves one partition.
#[derive(Debug)]
pub struct ClusterLink {
    cluster: Arc<Cluster>,
    slot: u16,
    turn: usize,
    /// Who served the slot last, and how often that was another than before.
    served_by: RefCell<(Option<HostPort>, u64)>,
}

impl ClusterLink {
    /// `turn` is the number of the shard: shards share the lines to a node where there are fewer.
    pub fn new(cluster: &Arc<Cluster>, partition: u64, turn: usize) -> Self {
        Self { cluster: Arc::clone(cluster), slot: slot_of(partition), turn, served_by: RefCell::default() }
    }

    async fn follow(&self, command: &Cmd) -> Result<Option<Vec<u8>>, LinkError> {
        let mut node = self.cluster.owner(self.slot).await?;
        let mut is_moving = false;
        let mut result = Err(LinkError::Refused("the slot is on its way".to_owned()));
        for _ in 0..REDIRECTIONS {
            let line = self.cluster.line(&node, self.turn)?;
            let answer = if is_moving { line.ask_moving(command).await } else { line.ask(command).await };
            result = answer.and_then(text_of);
            let Err(LinkError::Refused(reason)) = &result else { break };
            match redirection(reason, &node) {
                Some(Redirection::Moved(to)) => {
                    self.cluster.moved(self.slot, &to);
                    (node, is_moving) = (to, false);
                }
                Some(Redirection::Ask(to)) => (node, is_moving) = (to, true),
                Some(Redirection::TryAgain) => tokio::time::sleep(TRY_AGAIN).await,
                None => break,
            }
        }
        if result.is_err() {
            self.cluster.refresh_soon();
        } else if !is_moving {
            let mut served_by = self.served_by.borrow_mut();
            if served_by.0.replace(node.clone()).is_some_and(|last| last != node) {
                served_by.1 = served_by.1.wrapping_add(1);
            }
        }
        result
    }
}

impl Link for ClusterLink {
    fn command<'a>(&'a self, parts: &'a [Vec<u8>]) -> Answer<'a> {
        Box::pin(async move { self.follow(&command_of(parts)).await })
    }

    fn replace(&self) {
        let owner = self.cluster.map().owners.of(self.slot);
        if let Some(line) = owner.and_then(|node| self.cluster.line(&node, self.turn).ok()) {
            line.replace();
        }
        self.cluster.refresh_soon();
    }

    fn node(&self) -> String {
        let owner = self.cluster.map().owners.of(self.slot);
        owner.map_or_else(|| format!("slot {}", self.slot), |node| node.to_string())
    }

    fn server(&self) -> u64 {
        self.served_by.borrow().1
    }
}

/// What a node says that does not take a call.
#[derive(Debug, PartialEq, Eq)]
enum Redirection {
    Moved(HostPort),
    Ask(HostPort),
    TryAgain,
}

/// `MOVED <slot> <host>:<port>`, `ASK <slot> <host>:<port>`, `TRYAGAIN ...`; a host that is left out is that of who says so.
fn redirection(reason: &str, said_by: &HostPort) -> Option<Redirection> {
    let mut words = reason.split_whitespace();
    let code = words.next()?;
    if code == "TRYAGAIN" {
        return Some(Redirection::TryAgain);
    }
    let place = words.nth(1);
    let to = || {
        // An IPv6 address stands without brackets.
        let (host, port) = place?.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { said_by.host.as_str() } else { host };
        let bracketed = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        host_port(&bracketed, 0)
    };
    match code {
        "MOVED" => to().map(Redirection::Moved),
        "ASK" => to().map(Redirection::Ask),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_is_read() {
        let (at, here) = (|host: &str, port| HostPort { host: host.to_owned(), port }, "10.0.0.1");
        let read = |reason: &str| redirection(reason, &at(here, 1));
        assert_eq!(read("MOVED 3999 127.0.0.1:6381"), Some(Redirection::Moved(at("127.0.0.1", 6381))));
        assert_eq!(read("ASK 3999 ::1:6381"), Some(Redirection::Ask(at("::1", 6381))));
        assert_eq!(read("MOVED 3999 :6381"), Some(Redirection::Moved(at(here, 6381))));
        assert_eq!(read("TRYAGAIN Multiple keys request during rehashing of slot"), Some(Redirection::TryAgain));
        for other in ["READONLY You can't write", "MOVED", "MOVED 3999", "MOVED 3999 nowhere", "ASK 1 h:x", ""] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
