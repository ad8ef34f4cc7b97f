//! Forwarding headers: whatever a stranger writes into them, who is charged is who connected to the nearest trusted proxy.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use quotad::domain::subject::{ClientAddress, Subject};
use quotad::identity::client_ip::{Forwarding, TrustedProxies};

const PEERS: [&str; 6] = ["127.0.0.1", "::1", "10.1.2.3", "::ffff:10.0.0.1", "198.51.100.1", "2001:db8::1"];

/// Of no trusted network.
const STRANGER: &str = "203.0.113.9";

fuzz_target!(|input: (u8, bool, u8, &str)| {
    let (peer, is_forwarded, prefix, text) = input;
    let proxies = ["127.0.0.0/8", "::1/128", "10.0.0.0/8"].map(|network| network.parse().expect("a network"));
    let proxies = TrustedProxies::new(proxies.to_vec());
    let peer: IpAddr = PEERS[usize::from(peer) % PEERS.len()].parse().expect("an address");
    let ask = |lines: &[&str]| {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let (x_forwarded_for, forwarded) = if is_forwarded { (&[][..], &lines[..]) } else { (&lines[..], &[][..]) };
        proxies.client_ip(peer, Forwarding { x_forwarded_for, forwarded })
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let told = ask(&lines);
    assert_eq!(told, told.to_canonical());
    if !proxies.trusts(peer) {
        assert_eq!(told, peer.to_canonical(), "a stranger is who connects");
    }

    // The nearest proxy writes who asked it at the end, in the same line or in one of its own.
    let appended = if is_forwarded { format!("for={STRANGER}") } else { STRANGER.to_owned() };
    let (last, before) = lines.split_last().expect("a line");
    let in_line = format!("{last}, {appended}");
    let expected = if proxies.trusts(peer) { STRANGER.parse().expect("an address") } else { peer.to_canonical() };
    assert_eq!(ask(&[before, &[in_line.as_str()]].concat()), expected);
    assert_eq!(ask(&[lines.as_slice(), &[appended.as_str()]].concat()), expected);

    let subject = Subject::Ip(ClientAddress::new(told, prefix));
    assert_eq!(Subject::parse(&subject.to_string()), Ok(subject));
});
