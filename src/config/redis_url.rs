//! `REDIS_URL`: one node, sentinels that know of the master, or some nodes of a cluster.

use std::fmt;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use super::Secret;

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// A name or an address, an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Which servers keep the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisPlace {
    Node(HostPort),
    /// The master of this name, of which any of the sentinels knows where it is.
    Sentinel {
        sentinels: Vec<HostPort>,
        master: String,
    },
    /// All masters of a cluster, of which any of these nodes knows.
    Cluster(Vec<HostPort>),
}

impl fmt::Display for RedisPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[HostPort]| hosts.iter().map(HostPort::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Node(at) => write!(f, "{at}"),
            Self::Sentinel { sentinels, master } => {
                write!(f, "the master {master} of the sentinels {}", list(sentinels))
            }
            Self::Cluster(seeds) => write!(f, "the cluster of {}", list(seeds)),
        }
    }
}

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
pub struct RedisAddress {
    pub place: RedisPlace,
    pub tls: bool,
    pub database: i64,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// `redis://[user][:password]@host[:port][/database]`, `redis-sentinel://host[:port],.../master[/database]` or
/// `redis-cluster://host[:port],...`, each also with `rediss`. Anything more is refused: a query would be passed over.
pub fn redis_address(text: &str) -> Option<RedisAddress> {
    let (scheme, rest) = text.split_once("://").filter(|_| !text.contains(char::is_whitespace))?;
    let (family, kind) = scheme.split_once('-').map_or((scheme, None), |(family, kind)| (family, Some(kind)));
    let tls = match family {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (place, database) = match kind {
        None => (RedisPlace::Node(host_port(hosts, DEFAULT_PORT)?), path),
        Some("sentinel") => {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            let master = Some(master).filter(|name| is_host_name(name))?.to_owned();
            (RedisPlace::Sentinel { sentinels: host_ports(hosts, DEFAULT_SENTINEL_PORT)?, master }, database)
        }
        // A cluster has one database.
        Some("cluster") if matches!(path, "" | "0") => (RedisPlace::Cluster(host_ports(hosts, DEFAULT_PORT)?), ""),
        Some(_) => return None,
    };
    let database = if database.is_empty() { 0 } else { digits(database)?.parse().ok()? };
    let (username, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        Some((user, password)) => (decoded(user)?, decoded(password)?),
        None => (String::new(), String::new()),
    };
    Some(RedisAddress {
        place,
        tls,
        database,
        username: Some(username).filter(|user| !user.is_empty()),
        password: Some(password).filter(|password| !password.is_empty()).map(|password| Secret::new(&password)),
    })
}

fn host_ports(text: &str, default_port: u16) -> Option<Vec<HostPort>> {
    text.split(',').map(|host| host_port(host, default_port)).collect()
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
pub fn host_port(text: &str, default_port: u16) -> Option<HostPort> {
    let (host, port) = match text.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok())?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            (Some(host).filter(|host| is_host_name(host))?, port)
        }
    };
    let port = port.map_or(Some(default_port), |port| digits(port)?.parse().ok())?;
    Some(HostPort { host: host.to_owned(), port })
}

/// A name or an IPv4 address.
fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// `None` for what has a sign, or no digit.
fn digits(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    #[test]
    fn the_url_of_a_node_gives_every_part() {
        let address = redis_address("rediss://ann:p%40ss@[::1]:7000/2").unwrap();
        assert_eq!((address.place, address.tls, address.database), (RedisPlace::Node(at("::1", 7000)), true, 2));
        assert_eq!(address.username.as_deref(), Some("ann"));
        assert_eq!(address.password.unwrap().expose(), "p@ss");
        assert_eq!(redis_address("redis://:secret@h").unwrap().username, None);
        assert_eq!(redis_address("redis://:@h/").unwrap().password, None);
        assert_eq!(at("::1", 7000).to_string(), "[::1]:7000");
    }

    #[test]
    fn the_url_of_sentinels_names_the_master() {
        let address = redis_address("redis-sentinel://:pw@a:1,b/primary/3").unwrap();
        let sentinels = vec![at("a", 1), at("b", 26379)];
        assert_eq!(address.place, RedisPlace::Sentinel { sentinels, master: "primary".to_owned() });
        assert_eq!((address.tls, address.database), (false, 3));
        assert_eq!(address.password.unwrap().expose(), "pw");
        assert!(redis_address("rediss-sentinel://a/primary").unwrap().tls);
    }

    #[test]
    fn the_url_of_a_cluster_names_some_of_its_nodes() {
        let address = redis_address("redis-cluster://a:1,[::1]:2,c").unwrap();
        assert_eq!(address.place, RedisPlace::Cluster(vec![at("a", 1), at("::1", 2), at("c", 6379)]));
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        for bad in [
            "http://h",
            "redis://",
            "redis://h:x",
            "redis://h:",
            "redis://h:+1",
            "redis://h/x",
            "redis://h/-1",
            "redis://h/0/1",
            "redis://h/0?timeout=5",
            "redis://h?timeout=5",
            "redis://h/0#x",
            "redis://a host/0",
            "redis:// h/0",
            "redis://h/0 ",
            "redis://a,b",
            "redis://[::1",
            "redis://[h]",
            "redis://[::1]x",
            "redis://:%ff@h",
            "h:6379",
            "redis-sentinel://a:1",
            "redis-sentinel://a:1/",
            "redis-sentinel://a:1,/m",
            "redis-sentinel://a:1/m/0/1",
            "redis-cluster://",
            "redis-cluster://a,",
            "redis-cluster://a/1",
            "redis-other://a",
        ] {
            assert_eq!(redis_address(bad), None, "{bad}");
        }
    }
}
