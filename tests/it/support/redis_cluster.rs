//! A Redis Cluster: three masters, each with a replica that takes its place when it is gone. All end when dropped.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::free_port;
use super::redis_server::RedisServer;

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;

/// A node that is silent for so long is taken for dead, in milliseconds.
const NODE_TIMEOUT: &str = "1000";

/// For nodes to agree, and for a failover; the rest is for a busy machine.
const WITHIN: Duration = Duration::from_secs(30);

/// The masters it began with are nodes 0 to 2; node 3 is the replica of 0, and so on.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    /// Which each node has given itself.
    ids: Vec<String>,
}

/// What a node knows of another.
struct Line {
    port: u16,
    flags: String,
    master: String,
    slots: Vec<(usize, usize)>,
}

impl RedisCluster {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments on each command line. Waits until all nodes agree and the replicas are in step.
    pub fn start_with(extra: &[&str]) -> Self {
        let bus_ports: Vec<String> = (0..2 * MASTERS).map(|_| free_port().to_string()).collect();
        let start = |bus_port: &String| {
            let own = ["--cluster-enabled", "yes", "--cluster-port", bus_port, "--cluster-node-timeout", NODE_TIMEOUT];
            let quick = ["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"];
            // A master that gave its last slot away stays one, to take slots again.
            let masters_stay = ["--cluster-allow-replica-migration", "no"];
            // Else the masters that are left refuse everything while a slot has none.
            let others_go_on = ["--cluster-require-full-coverage", "no"];
            RedisServer::start_with(&[&own[..], &quick, &masters_stay, &others_go_on, extra].concat())
        };
        let nodes: Vec<RedisServer> = bus_ports.iter().map(start).collect();
        let ids = nodes.iter().map(|node| node.cli(&["CLUSTER", "MYID"])).collect();
        let cluster = Self { nodes, ids };
        cluster.introduce(&bus_ports);
        cluster
    }

    /// As the setting `REDIS_URL` has it, with the first masters in it.
    pub fn url(&self) -> String {
        let places: Vec<String> =
            self.nodes[..MASTERS].iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", places.join(","))
    }

    /// Which node serves a key.
    pub fn node_of(&self, key: &str) -> usize {
        let slot: usize = self.asked().cli(&["CLUSTER", "KEYSLOT", key]).parse().expect("a slot");
        self.master_of(slot).expect("a master")
    }

    /// Which nodes are masters, and run.
    pub fn masters(&self) -> BTreeSet<usize> {
        let lines = self.lines();
        let is_master = |line: &&Line| is(line, "master") && !is(line, "fail") && !line.slots.is_empty();
        lines
            .iter()
            .filter(is_master)
            .map(|line| self.number(line.port))
            .filter(|node| self.nodes[*node].runs())
            .collect()
    }

    pub fn node(&mut self, number: usize) -> &mut RedisServer {
        &mut self.nodes[number]
    }

    pub fn all(&mut self) -> Vec<&mut RedisServer> {
        self.nodes.iter_mut().collect()
    }

    /// Asks every master for the keys that begin so.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let scan = |node: usize| self.nodes[node].cli(&["--scan", "--pattern", pattern]);
        let masters = self.masters();
        masters.into_iter().flat_map(|node| scan(node).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// `kill -9`; [`wait_until_whole`](Self::wait_until_whole) waits for its replica to take over.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Until the others have the replica of this node in its place; it may be frozen only.
    pub fn wait_until_replaced(&self, number: usize) {
        let replica = (number + MASTERS) % (2 * MASTERS);
        let is_replaced = |node: &RedisServer| {
            let lines = lines_of(node);
            let line = lines.iter().find(|line| line.port == self.nodes[replica].port());
            line.is_some_and(|line| !line.slots.is_empty() && is(line, "master"))
        };
        let others = |node: &&RedisServer| node.runs() && node.port() != self.nodes[number].port();
        wait("a replica in its place", || self.nodes.iter().filter(others).all(is_replaced));
    }

    /// Until every slot has a master that runs, and every node that runs knows.
    pub fn wait_until_whole(&self) {
        wait("a whole cluster", || {
            let running = self.nodes.iter().filter(|node| node.runs());
            let is_ok = |node: &RedisServer| node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            running.into_iter().all(is_ok) && self.covered() == SLOTS
        });
    }

    /// Moves so many slots with their keys from a master to another, while it works. It returns when they are moved.
    pub fn move_slots(&self, from: usize, to: usize, count: usize) {
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "reshard", &format!("127.0.0.1:{}", self.nodes[from].port()), "--cluster-yes"]);
        command.args(["--cluster-from", &self.ids[from], "--cluster-to", &self.ids[to]]);
        let output = command.args(["--cluster-slots", &count.to_string()]).stdin(Stdio::null()).output();
        let output = output.expect("redis-cli runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Moves one slot step by step, as long as `between` says after it was announced and before it is done: meanwhile its
    /// keys are on both sides.
    pub fn move_slot(&self, slot: usize, to: usize, between: Duration) {
        let from = self.master_of(slot).expect("a master");
        let slot = slot.to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        target.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]]);
        source.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]]);
        std::thread::sleep(between);
        let port = target.port().to_string();
        loop {
            let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "64"]);
            if keys.is_empty() {
                break;
            }
            let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            source.cli(&migrate.into_iter().chain(keys.lines()).collect::<Vec<_>>());
        }
        std::thread::sleep(between);
        for node in [target, source] {
            node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &self.ids[to]]);
        }
    }

    /// A slot that a master serves.
    pub fn slot_of(&self, key: &str) -> usize {
        self.asked().cli(&["CLUSTER", "KEYSLOT", key]).parse().expect("a slot")
    }

    fn introduce(&self, bus_ports: &[String]) {
        let first = &self.nodes[0];
        for (node, bus_port) in self.nodes.iter().zip(bus_ports).skip(1) {
            first.cli(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), bus_port]);
        }
        for (number, node) in self.nodes[..MASTERS].iter().enumerate() {
            let (start, end) = (number * SLOTS / MASTERS, (number + 1) * SLOTS / MASTERS - 1);
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", &start.to_string(), &end.to_string()]);
        }
        let known = |node: &RedisServer| node.cli(&["CLUSTER", "NODES"]).lines().count() == 2 * MASTERS;
        wait("nodes that know each other", || self.nodes.iter().all(known));
        for (number, id) in self.ids[..MASTERS].iter().enumerate() {
            wait("a replica", || self.nodes[MASTERS + number].cli(&["CLUSTER", "REPLICATE", id]) == "OK");
        }
        self.wait_until_whole();
        wait("replicas in step", || self.nodes[..MASTERS].iter().all(|node| node.replicas_in_step() == 1));
        // Everybody knows whose replica everybody is, or nobody would vote for them.
        wait("agreement", || {
            let knows =
                |node: &RedisServer| lines_of(node).iter().filter(|line| !line.master.is_empty()).count() == MASTERS;
            self.nodes.iter().all(knows)
        });
    }

    fn master_of(&self, slot: usize) -> Option<usize> {
        let lines = self.lines();
        let serves = |line: &&Line| line.slots.iter().any(|(start, end)| (*start..=*end).contains(&slot));
        lines.iter().filter(|line| !is(line, "fail")).find(serves).map(|line| self.number(line.port))
    }

    /// How many slots have a master that runs.
    fn covered(&self) -> usize {
        let lines = self.lines();
        let running = lines.iter().filter(|line| !is(line, "fail") && self.nodes[self.number(line.port)].runs());
        running.flat_map(|line| &line.slots).map(|(start, end)| end - start + 1).sum()
    }

    fn number(&self, port: u16) -> usize {
        self.nodes.iter().position(|node| node.port() == port).expect("a node")
    }

    fn asked(&self) -> &RedisServer {
        self.nodes.iter().find(|node| node.runs()).expect("a node that runs")
    }

    fn lines(&self) -> Vec<Line> {
        lines_of(self.asked())
    }
}

fn is(line: &Line, flag: &str) -> bool {
    line.flags.split(',').any(|own| own == flag)
}

/// `CLUSTER NODES`: id, address, flags, whose replica, ping, pong, epoch, link, slots.
fn lines_of(node: &RedisServer) -> Vec<Line> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let slots = words[8..].iter().filter(|word| !word.starts_with('[')).map(|range| {
            let (start, end) = range.split_once('-').unwrap_or((range, range));
            (start.parse().expect("a slot"), end.parse().expect("a slot"))
        });
        let (_, port) = words[1].split_once(':').expect("a port");
        let port = port.split(['@', ',']).next().expect("a port").parse().expect("a port");
        let master = if words[3] == "-" { String::new() } else { words[3].to_owned() };
        Line { port, flags: words[2].to_owned(), master, slots: slots.collect() }
    };
    node.cli(&["CLUSTER", "NODES"]).lines().map(parse).collect()
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
