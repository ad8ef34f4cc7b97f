//! The address of the caller, behind proxies. What a stranger writes into a header is never believed: the list is read
//! from the right, and ends at the first address that is no trusted proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The forwarding headers of a request, as they came; several lines of one header are in order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forwarding<'a> {
    /// `X-Forwarded-For`. Where both stand, this one is read: most proxies write it, and many let through a `Forwarded` that the
    /// client has made up.
    pub x_forwarded_for: &'a [&'a [u8]],
    /// `Forwarded` (RFC 7239).
    pub forwarded: &'a [&'a [u8]],
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
        let Forwarding { x_forwarded_for, forwarded } = forwarding;
        if x_forwarded_for.is_empty() {
            self.nearest(peer, forwarded.iter().rev().flat_map(|line| from_right(line, b',')).map(forwarded_for))
        } else {
            let entries = x_forwarded_for.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
            let entries = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty());
            self.nearest(peer, entries.map(|entry| node(str::from_utf8(entry).ok()?)))
        }
    }

    fn nearest(&self, peer: IpAddr, mut hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut client = peer.to_canonical();
        while self.trusts(client)
            && let Some(Some(hop)) = hops.next()
        {
            client = hop.to_canonical();
        }
        client
    }
}

/// The parts of a text between separators that stand outside of quotes, the last first, without empty ones.
///
/// Quotes are read from the right as well: one that a stranger opens and does not close reaches nothing that a proxy has added.
fn from_right(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    let parts = std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let cut = text.iter().enumerate().rev().find_map(|(at, byte)| {
            quoted ^= *byte == b'"' && !is_escaped(text, at);
            (*byte == separator && !quoted).then_some(at)
        });
        let (before, part) = match cut {
            Some(at) => (text.get(..at), text.get(at.saturating_add(1)..)?),
            None => (None, text),
        };
        rest = before;
        Some(part.trim_ascii())
    });
    parts.filter(|part| !part.is_empty())
}

fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The `for` of one `Forwarded` element; one that says it twice says nothing.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let named = |pair| {
        let (name, value) = str::from_utf8(pair).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    };
    let mut values = from_right(element, b';').filter_map(named);
    let (value, None) = (values.next()?, values.next()) else { return None };
    node(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

/// An address with or without a port, IPv6 in brackets or bare. `unknown` and `_obfuscated` are none.
fn node(text: &str) -> Option<IpAddr> {
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let address: Ipv6Addr = address.parse().ok()?;
        return (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(address.into());
    }
    text.parse().ok().or_else(|| {
        let (address, _) = text.split_once(':').filter(|(_, port)| is_port(port))?;
        Some(address.parse::<Ipv4Addr>().ok()?.into())
    })
}

/// A number, or a name of the proxy's own that begins with `_` (RFC 7239, section 6).
fn is_port(text: &str) -> bool {
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.parse::<u16>().is_ok()
        || text.strip_prefix('_').is_some_and(|name| !name.is_empty() && name.bytes().all(of_a_name))
}

#[cfg(test)]
mod tests;
