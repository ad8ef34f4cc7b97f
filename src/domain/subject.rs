//! Who is charged: a user, or the address of a caller without a credential.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use compact_str::CompactString;
use ipnet::{IpNet, Ipv6Net};
use xxhash_rust::xxh3::xxh3_64;

/// Longest `user_id`, in characters.
pub const USER_ID_MAX_CHARS: usize = 128;

/// An opaque user id: 1 to 128 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(CompactString);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 characters without control characters")]
pub struct InvalidUserId;

impl UserId {
    pub fn parse(text: &str) -> Result<Self, InvalidUserId> {
        let fits = !text.is_empty()
            && text.len() <= USER_ID_MAX_CHARS * 4
            && text.chars().count() <= USER_ID_MAX_CHARS
            && !text.chars().any(char::is_control);
        if fits { Ok(Self(CompactString::from(text))) } else { Err(InvalidUserId) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address or prefix that an anonymous caller is charged by.
///
/// An IPv4-mapped IPv6 address is its IPv4 address; any other IPv6 address is cut to the prefix, so that nobody gets
/// a fresh quota by rotating inside the block that their provider gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientAddress(IpNet);

impl ClientAddress {
    /// `ipv6_prefix` is in bits; above 128 it counts as 128.
    pub fn new(address: IpAddr, ipv6_prefix: u8) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpNet::from(IpAddr::V4(v4)),
            IpAddr::V6(v6) => IpNet::V6(truncate(v6, ipv6_prefix.min(128))),
        })
    }

    /// The one way to write it: however the bits behind a prefix are written, the subject is the same. Of IPv4 there are whole
    /// addresses alone.
    fn of_net(net: IpNet) -> Option<Self> {
        match (net.addr().to_canonical(), net.prefix_len() == net.max_prefix_len()) {
            (whole @ IpAddr::V4(_), true) => Some(Self::new(whole, 128)),
            (IpAddr::V6(v6), _) => Some(Self(IpNet::V6(truncate(v6, net.prefix_len())))),
            (IpAddr::V4(_), false) => None,
        }
    }
}

fn truncate(address: Ipv6Addr, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(address, prefix).trunc()
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpNet::V4(v4) => v4.addr().fmt(f),
            IpNet::V6(v6) => v6.fmt(f),
        }
    }
}

/// Who is charged. Its text, `user:<id>` or `ip:<address or prefix>`, is unique: the kind stands first and holds no colon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    User(UserId),
    Ip(ClientAddress),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not `user:<id>` or `ip:<address or prefix>`")]
pub struct InvalidSubject;

impl Subject {
    /// Reads the text that [`Display`](fmt::Display) writes, as it stands in the database.
    pub fn parse(text: &str) -> Result<Self, InvalidSubject> {
        match text.split_once(':') {
            Some(("user", id)) => UserId::parse(id).map(Subject::User).map_err(|_| InvalidSubject),
            Some(("ip", address)) => {
                let net = address.parse::<IpNet>().or_else(|_| address.parse::<IpAddr>().map(IpNet::from));
                net.ok().and_then(ClientAddress::of_net).map(Subject::Ip).ok_or(InvalidSubject)
            }
            _ => Err(InvalidSubject),
        }
    }

    /// A hash that is the same in every process and version (XXH3-64 of the text): shards and Redis partitions are cut from it.
    pub fn stable_hash(&self) -> u64 {
        match self {
            Subject::User(id) => xxh3_64(id.as_str().as_bytes()),
            Subject::Ip(address) => xxh3_64(address.to_string().as_bytes()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::User(id) => write!(f, "user:{id}"),
            Subject::Ip(address) => write!(f, "ip:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_bounded_and_printable() {
        assert!(UserId::parse("").is_err());
        assert!(UserId::parse("a\nb").is_err());
        assert!(UserId::parse("a\0").is_err());
        assert!(UserId::parse(&"ä".repeat(128)).is_ok());
        assert!(UserId::parse(&"a".repeat(129)).is_err());
    }

    #[test]
    fn an_address_is_charged_by_its_prefix() {
        let text = |address: &str| ClientAddress::new(address.parse().unwrap(), 64).to_string();
        assert_eq!(text("203.0.113.9"), "203.0.113.9");
        assert_eq!(text("::ffff:203.0.113.9"), "203.0.113.9");
        assert_eq!(text("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    }

    #[test]
    fn text_and_back_is_the_same_subject() {
        let address = ClientAddress::new("2001:db8::1".parse().unwrap(), 64);
        for subject in [
            Subject::User(UserId::parse("a:b{}%*").unwrap()),
            Subject::Ip(address),
            Subject::Ip(ClientAddress::new("10.0.0.1".parse().unwrap(), 64)),
        ] {
            assert_eq!(Subject::parse(&subject.to_string()), Ok(subject));
        }
        assert!(Subject::parse("host:x").is_err());
    }

    #[test]
    fn a_subject_has_one_text_however_it_is_written() {
        for (text, expected) in [
            ("ip:2001:DB8::5/64", Some("ip:2001:db8::/64")),
            ("ip:2001:db8:0::/64", Some("ip:2001:db8::/64")),
            ("ip:::ffff:10.0.0.1", Some("ip:10.0.0.1")),
            ("ip:::ffff:10.0.0.1/128", Some("ip:10.0.0.1")),
            ("ip:10.0.0.1/32", Some("ip:10.0.0.1")),
            ("ip:10.0.0.0/8", None),
            ("ip:::ffff:10.0.0.0/104", None),
        ] {
            assert_eq!(Subject::parse(text).ok().map(|subject| subject.to_string()).as_deref(), expected, "{text}");
        }
        assert_eq!(Subject::parse("ip:2001:db8::5/64"), Subject::parse("ip:2001:db8::/64"));
    }
}
