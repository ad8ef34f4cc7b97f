//! A master, two replicas, and three sentinels that make a replica the master when it is gone. All end when dropped.
//!
//! The sentinels are told of each other and of the replicas beforehand: to find out by themselves takes them seconds.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::free_port;
use super::redis_server::RedisServer;

/// What the sentinels call the master.
pub const MASTER: &str = "quotad-test";

/// A master that is silent for so long is taken for dead.
const DOWN_AFTER_MS: u32 = 500;

/// For the replicas to be in step with their master, and for a failover. Sentinels that were kept from working for two
/// seconds do nothing for thirty.
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, Default)]
pub struct Passwords {
    pub nodes: Option<&'static str>,
    pub sentinels: Option<&'static str>,
}

pub struct Sentinels {
    nodes: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl Sentinels {
    pub fn start() -> Self {
        Self::start_with(Passwords::default())
    }

    /// Waits until the replicas are in step and every sentinel says so.
    pub fn start_with(passwords: Passwords) -> Self {
        let mut login = vec!["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        if let Some(password) = passwords.nodes {
            login.extend(["--requirepass", password, "--masterauth", password]);
        }
        let master = RedisServer::start_with(&login);
        let port = master.port().to_string();
        let replica = || RedisServer::start_with(&[&login[..], &["--replicaof", "127.0.0.1", &port]].concat());
        let nodes = vec![master, replica(), replica()];
        let ports = [free_port(), free_port(), free_port()];
        let start = |number| {
            let configuration = configuration(number, &ports, &nodes, passwords);
            RedisServer::start_sentinel(ports[number], &configuration, passwords.sentinels)
        };
        let sentinels = (0..ports.len()).map(start).collect();
        let started = Self { nodes, sentinels };
        started.wait("sentinels that agree", || started.are_well());
        started
    }

    /// As the setting `REDIS_URL` has it, with all sentinels in it.
    pub fn url(&self) -> String {
        let places: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis-sentinel://{}/{MASTER}/0", places.join(","))
    }

    /// The port of the master, as the sentinels have it.
    pub fn master(&self) -> u16 {
        let alive = self.sentinels.iter().find(|sentinel| sentinel.runs()).expect("a sentinel");
        port_said_by(alive).expect("a master")
    }

    /// The server that the sentinels call the master.
    pub fn master_node(&self) -> &RedisServer {
        let port = self.master();
        self.nodes.iter().find(|node| node.port() == port).expect("a node")
    }

    /// `kill -9` for the master; which port it had.
    pub fn kill_master(&mut self) -> u16 {
        let port = self.master();
        self.node(port).kill();
        port
    }

    /// Until the sentinels have made another the master than `old`, and it takes writes; which port it has.
    pub fn wait_for_another_master_than(&self, old: u16) -> u16 {
        self.wait("another master", || {
            let all = self.sentinels.iter().filter(|sentinel| sentinel.runs());
            all.into_iter().all(|sentinel| port_said_by(sentinel).is_some_and(|port| port != old))
                && self.master_node().info("role") == "master"
        });
        self.master()
    }

    /// Until every node that runs follows the master, and no sentinel has a doubt: one that is still at the failover before may
    /// put its master in office.
    pub fn wait_until_in_step(&self) {
        let others = self.nodes.iter().filter(|node| node.runs()).count() - 1;
        self.wait("replicas in step", || self.master_node().replicas_in_step() == others);
        let has_no_doubt = |sentinel: &RedisServer| {
            port_said_by(sentinel) == Some(self.master())
                && flags(sentinel, "MASTER") == ["master"]
                && flags(sentinel, "REPLICAS") == vec!["slave"; others]
        };
        self.wait("sentinels without a doubt", || self.sentinels.iter().all(has_no_doubt));
    }

    /// A node by its port, to freeze it or to start it again: it comes back as what the sentinels tell it to be.
    pub fn node(&mut self, port: u16) -> &mut RedisServer {
        self.nodes.iter_mut().find(|node| node.port() == port).expect("a node")
    }

    pub fn sentinels(&mut self) -> &mut [RedisServer] {
        &mut self.sentinels
    }

    pub fn all(&mut self) -> Vec<&mut RedisServer> {
        self.nodes.iter_mut().chain(&mut self.sentinels).collect()
    }

    fn are_well(&self) -> bool {
        let agree = |sentinel: &RedisServer| sentinel.cli(&["SENTINEL", "CKQUORUM", MASTER]).starts_with("OK 3");
        self.nodes[0].replicas_in_step() == 2 && self.sentinels.iter().all(agree)
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn port_said_by(sentinel: &RedisServer) -> Option<u16> {
    let answer = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
    answer.lines().nth(1)?.parse().ok()
}

/// What a sentinel thinks of the master, or of its replicas.
fn flags(sentinel: &RedisServer, of: &str) -> Vec<String> {
    let answer = sentinel.cli(&["SENTINEL", of, MASTER]);
    let lines: Vec<&str> = answer.lines().collect();
    lines.windows(2).filter(|pair| pair[0] == "flags").map(|pair| pair[1].to_owned()).collect()
}

fn configuration(number: usize, ports: &[u16], nodes: &[RedisServer], passwords: Passwords) -> String {
    let id = |number: usize| format!("{:040x}", number + 1);
    let mut text = format!(
        "port {}\nbind 127.0.0.1\nsentinel myid {}\nsentinel monitor {MASTER} 127.0.0.1 {} 2\n\
         sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\nsentinel failover-timeout {MASTER} 2000\n\
         sentinel parallel-syncs {MASTER} 2\n",
        ports[number],
        id(number),
        nodes[0].port(),
    );
    let mut line = |line: String| writeln!(text, "{line}").expect("text");
    if let Some(password) = passwords.nodes {
        line(format!("sentinel auth-pass {MASTER} {password}"));
    }
    if let Some(password) = passwords.sentinels {
        line(format!("requirepass {password}"));
    }
    for node in &nodes[1..] {
        line(format!("sentinel known-replica {MASTER} 127.0.0.1 {}", node.port()));
    }
    for (other, port) in ports.iter().enumerate().filter(|(other, _)| *other != number) {
        line(format!("sentinel known-sentinel {MASTER} 127.0.0.1 {port} {}", id(other)));
    }
    text
}
