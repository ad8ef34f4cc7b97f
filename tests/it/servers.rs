//! Redis as tests have it: with TLS, under sentinels, as a cluster. Each is what it says, and survives its master.

use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::support::sentinel::{Passwords, Sentinels};

#[test]
fn a_server_with_tls_asks_for_a_certificate() {
    let server = RedisServer::start_tls();
    assert_eq!(server.cli(&["SET", "a", "1"]), "OK");
    let port = server.port().to_string();
    let stranger = std::process::Command::new("redis-cli").args(["-p", &port, "--tls", "--insecure", "PING"]).output();
    assert_ne!(stranger.expect("redis-cli runs").stdout, b"PONG\n");
}

#[test]
fn sentinels_make_another_the_master() {
    let mut sentinels = Sentinels::start();
    assert_eq!(sentinels.master_node().cli_lines("SET a 1\nWAIT 2 5000\n"), "OK\n2");
    let old = sentinels.kill_master();
    let new = sentinels.wait_for_another_master_than(old);
    assert_ne!(old, new);
    assert_eq!(sentinels.master_node().cli(&["GET", "a"]), "1");
    sentinels.node(old).start_again();
}

#[test]
fn sentinels_and_their_nodes_may_ask_for_a_login() {
    let mut sentinels = Sentinels::start_with(Passwords { nodes: Some("nodes-own"), sentinels: Some("sentinels-own") });
    assert_eq!(sentinels.master_node().cli(&["SET", "a", "1"]), "OK");
    let port = sentinels.sentinels()[0].port().to_string();
    let stranger = std::process::Command::new("redis-cli").args(["-p", &port, "PING"]).output();
    assert!(String::from_utf8_lossy(&stranger.expect("redis-cli runs").stdout).starts_with("NOAUTH"));
}

#[test]
fn a_cluster_loses_a_master_and_slots_move() {
    let mut cluster = RedisCluster::start();
    let key = "{7}:a";
    let served_by = cluster.node_of(key);
    assert_eq!(cluster.node(served_by).cli(&["SET", key, "1"]), "OK");
    let to = (served_by + 1) % 3;
    cluster.move_slot(cluster.slot_of(key), to, std::time::Duration::ZERO);
    assert_eq!(cluster.node_of(key), to);
    assert_eq!(cluster.node(to).cli(&["GET", key]), "1");
    cluster.move_slots(served_by, to, 20);
    assert_eq!(cluster.node(to).cli_lines("SET {7}:b 1\nWAIT 1 5000\n"), "OK\n1");
    cluster.kill(to);
    cluster.wait_until_whole();
    assert_eq!(cluster.node_of(key), to + 3);
    assert_eq!(cluster.node(to + 3).cli(&["GET", key]), "1");
    cluster.node(to).start_again();
    cluster.wait_until_whole();
}
