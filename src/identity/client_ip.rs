//! The address of the caller, behind proxies. What a stranger writes into a header is never believed: the list is read
//! from the right, and ends at the first address that is no trusted proxy.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The forwarding headers of a request, as they came; several lines of one header are in order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forwarding<'a> {
    /// `X-Forwarded-For`
    pub x_forwarded_for: &'a [&'a str],
    /// `Forwarded` (RFC 7239). Where both stand, this one is read.
    pub forwarded: &'a [&'a str],
}

/// Networks whose forwarding headers are believed.
#[derive(Debug)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The nearest address, from the right, that is no trusted proxy; an entry that can't be read ends the walk.
    pub fn client_ip(&self, peer: IpAddr, forwarding: Forwarding<'_>) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let hops: Vec<Option<IpAddr>> = if forwarding.forwarded.is_empty() {
            entries(forwarding.x_forwarded_for).map(address).collect()
        } else {
            entries(forwarding.forwarded).map(forwarded_for).collect()
        };
        for hop in hops.into_iter().rev() {
            let Some(hop) = hop else { break };
            client = hop.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

fn entries<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    lines.iter().flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty())
}

/// An address with or without a port, IPv6 in brackets or bare.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The `for` of one `Forwarded` element.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    })?;
    address(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, x_forwarded_for: &[&str], forwarded: &[&str]) -> String {
        let networks = ["127.0.0.0/8", "::1/128", "10.0.0.0/8"].map(|net| net.parse().unwrap()).to_vec();
        let forwarding = Forwarding { x_forwarded_for, forwarded };
        TrustedProxies::new(networks).client_ip(peer.parse().unwrap(), forwarding).to_string()
    }

    #[test]
    fn a_stranger_is_who_connects_whatever_it_writes() {
        assert_eq!(client("198.51.100.1", &["203.0.113.9"], &[]), "198.51.100.1");
        assert_eq!(client("198.51.100.1", &[], &["for=203.0.113.9"]), "198.51.100.1");
    }

    #[test]
    fn the_list_is_read_from_the_right() {
        for (header, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("1.2.3.4, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
            ("1.2.3.4, nonsense, 10.0.0.7", "10.0.0.7"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("", "127.0.0.1"),
            (", ,", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[header], &[]), expected, "{header}");
        }
        assert_eq!(client("::ffff:127.0.0.1", &["1.1.1.1", "2.2.2.2"], &[]), "2.2.2.2");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (header, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=1.2.3.4, for=192.0.2.43, for=10.1.1.1", "192.0.2.43"),
            ("for=unknown", "127.0.0.1"),
            ("for=_hidden, for=10.2.2.2", "10.2.2.2"),
        ] {
            assert_eq!(client("127.0.0.1", &["9.9.9.9"], &[header]), expected, "{header}");
        }
    }
}
