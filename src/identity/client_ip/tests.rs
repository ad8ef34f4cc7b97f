//! Forwarding headers as proxies write them, and as strangers do.

use proptest::prelude::*;

use super::*;

/// Who is calling, where loopback and 10.0.0.0/8 are trusted.
fn of_bytes(peer: &str, x_forwarded_for: &[&[u8]], forwarded: &[&[u8]]) -> String {
    let networks = ["127.0.0.0/8", "::1/128", "10.0.0.0/8"].map(|net| net.parse().unwrap()).to_vec();
    let forwarding = Forwarding { x_forwarded_for, forwarded };
    TrustedProxies::new(networks).client_ip(peer.parse().unwrap(), forwarding).to_string()
}

fn client(peer: &str, x_forwarded_for: &[&str], forwarded: &[&str]) -> String {
    let bytes = |lines: &[&str]| lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>();
    of_bytes(peer, &slices(&bytes(x_forwarded_for)), &slices(&bytes(forwarded)))
}

fn slices(lines: &[Vec<u8>]) -> Vec<&[u8]> {
    lines.iter().map(Vec::as_slice).collect()
}

#[test]
fn a_stranger_is_who_connects_whatever_it_writes() {
    assert_eq!(client("198.51.100.1", &["203.0.113.9"], &[]), "198.51.100.1");
    assert_eq!(client("198.51.100.1", &[], &["for=203.0.113.9"]), "198.51.100.1");
}

#[test]
fn the_list_is_read_from_the_right() {
    for (lines, expected) in [
        (&["203.0.113.9"][..], "203.0.113.9"),
        (&["1.2.3.4, 203.0.113.9, 10.0.0.7"], "203.0.113.9"),
        (&["1.2.3.4", "203.0.113.9", "10.0.0.7, 10.0.0.8"], "203.0.113.9"),
        (&["1.2.3.4, 203.0.113.9", ""], "203.0.113.9"),
        (&["203.0.113.9, , 10.0.0.7 ,"], "203.0.113.9"),
        (&["10.0.0.9, 10.0.0.7"], "10.0.0.9"),
        (&["203.0.113.9:4711"], "203.0.113.9"),
        (&["[2001:db8::1]:4711"], "2001:db8::1"),
        (&["[2001:db8::1]"], "2001:db8::1"),
        (&["2001:db8::1"], "2001:db8::1"),
        (&["::ffff:203.0.113.9"], "203.0.113.9"),
        (&["[::ffff:10.0.0.7]"], "10.0.0.7"),
        (&["203.0.113.9, ::ffff:10.0.0.7"], "203.0.113.9"),
        (&[""], "127.0.0.1"),
        (&[", ,"], "127.0.0.1"),
    ] {
        assert_eq!(client("127.0.0.1", lines, &[]), expected, "{lines:?}");
    }
    assert_eq!(client("::ffff:127.0.0.1", &["1.1.1.1", "2.2.2.2"], &[]), "2.2.2.2");
}

/// Nothing to the left of what can't be read was seen by a proxy that is trusted.
#[test]
fn an_entry_that_cannot_be_read_ends_the_list() {
    for garbage in [
        "nonsense",
        "unknown",
        "_hidden",
        "203.0.113.256",
        "203.0.113.09",
        "203.0.113.9:",
        "203.0.113.9:65536",
        "203.0.113.9:x",
        "203.0.113.9 10.1.1.1",
        "\"203.0.113.9\"",
        "[203.0.113.9]",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]4711",
        "fe80::1%eth0",
        "203.0.113.0/24",
        "0x7f.1",
        "2130706433",
        "for=203.0.113.9",
    ] {
        assert_eq!(client("127.0.0.1", &[&format!("1.2.3.4, {garbage}, 10.0.0.7")], &[]), "10.0.0.7", "{garbage}");
        assert_eq!(client("127.0.0.1", &["1.2.3.4", garbage], &[]), "127.0.0.1", "{garbage}");
    }
    assert_eq!(of_bytes("127.0.0.1", &[b"1.2.3.4, \xff, 10.0.0.7"], &[]), "10.0.0.7");
}

#[test]
fn forwarded_is_read_as_rfc_7239_writes_it() {
    for (lines, expected) in [
        (&["for=192.0.2.60;proto=http;by=203.0.113.43"][..], "192.0.2.60"),
        (&["proto=http ; FOR = 192.0.2.60"], "192.0.2.60"),
        (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
        (&["for=\"192.0.2.60:4711\""], "192.0.2.60"),
        (&["for=\"192.0.2.60:_port\""], "192.0.2.60"),
        (&["for=1.2.3.4, for=192.0.2.43, for=10.1.1.1"], "192.0.2.43"),
        (&["for=1.2.3.4", "for=192.0.2.43;by=_us", "for=10.1.1.1"], "192.0.2.43"),
        (&["for=192.0.2.43;host=\"a, for=6.6.6.6\", for=10.1.1.1"], "192.0.2.43"),
        (&["for=192.0.2.43;host=\"a;for=6.6.6.6\""], "192.0.2.43"),
        (&["host=\"a;for=6.6.6.6\";for=192.0.2.43"], "192.0.2.43"),
        (&["for=192.0.2.43;host=\"a\\\", for=6.6.6.6\""], "192.0.2.43"),
        (&["for=192.0.2.43;host=\"a\\\\\", for=10.1.1.1"], "192.0.2.43"),
        (&["for=unknown"], "127.0.0.1"),
        (&["for=1.2.3.4, for=_hidden, for=10.2.2.2"], "10.2.2.2"),
        (&["for=1.2.3.4, proto=https, for=10.2.2.2"], "10.2.2.2"),
        (&["for=1.2.3.4;for=192.0.2.43"], "127.0.0.1"),
        (&["for=\"\""], "127.0.0.1"),
        (&["for="], "127.0.0.1"),
        (&["for"], "127.0.0.1"),
        (&["for=\"192.0.2.43"], "127.0.0.1"),
    ] {
        assert_eq!(client("127.0.0.1", &[], lines), expected, "{lines:?}");
    }
    assert_eq!(
        client("127.0.0.1", &["9.9.9.9"], &["for=192.0.2.60"]),
        "9.9.9.9",
        "what most proxies write comes first"
    );
}

proptest! {
    /// Whatever a stranger sends, a proxy adds the address that it saw behind it, and that is who is charged.
    #[test]
    fn a_strangers_header_never_changes_who_is_charged(
        written in proptest::collection::vec(any::<u8>(), 0..60),
        hostile in "[a-z0-9=:;,\"\\\\\\[\\]. ]{0,60}",
        in_one_line in any::<bool>(),
        many in 1..4_usize,
    ) {
        for stranger in [written, hostile.into_bytes()] {
            let added = |seen: &str| if in_one_line {
                vec![[stranger.clone(), format!(", {seen}").into_bytes()].concat()]
            } else {
                let mut lines = vec![stranger.clone(); many];
                lines.push(seen.to_owned().into_bytes());
                lines
            };
            for (seen, expected) in [("203.0.113.9", "203.0.113.9"), ("2001:db8::1", "2001:db8::1"), ("203.0.113.9, 10.0.0.7", "203.0.113.9")] {
                prop_assert_eq!(of_bytes("127.0.0.1", &slices(&added(seen)), &[&stranger]), expected);
            }
            for (seen, expected) in [
                ("for=203.0.113.9", "203.0.113.9"),
                ("for=\"[2001:db8::1]:4711\";host=\"a, b\"", "2001:db8::1"),
                ("for=203.0.113.9, for=10.0.0.7", "203.0.113.9"),
            ] {
                prop_assert_eq!(of_bytes("10.0.0.1", &[], &slices(&added(seen))), expected);
            }
            // By itself it is nobody's word but the stranger's.
            prop_assert_eq!(of_bytes("198.51.100.1", &[&stranger], &[&stranger]), "198.51.100.1");
        }
    }
}
