//! Values with a syntax of their own: endpoint costs, CIDR lists, Redis and database addresses.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::Secret;
use crate::domain::cost::Multiplier;
use crate::domain::endpoint::{EndpointCost, EndpointCosts, EndpointPath};

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseLocation {
    Sqlite { path: PathBuf },
    Postgres { url: Secret },
}

/// `path=cost,path=cost`
pub fn endpoint_costs(text: &str) -> Option<Vec<EndpointCost>> {
    let rule = |entry: &str| {
        let (path, cost) = entry.trim().rsplit_once('=')?;
        let path = EndpointPath::parse(path).ok()?;
        let cost = Multiplier::new(cost.parse().ok()?).ok()?.units();
        Some(EndpointCost { path, methods: Vec::new(), cost })
    };
    let rules: Vec<EndpointCost> =
        text.split(',').filter(|entry| !entry.trim().is_empty()).map(rule).collect::<Option<_>>()?;
    EndpointCosts::new(rules.clone()).is_ok().then_some(rules)
}

/// CIDRs, or single addresses, with commas.
pub fn networks(text: &str) -> Option<Vec<IpNet>> {
    let network = |entry: &str| {
        let entry = entry.trim();
        entry.parse::<IpNet>().ok().or_else(|| entry.parse::<std::net::IpAddr>().ok().map(IpNet::from))
    };
    text.split(',').filter(|entry| !entry.trim().is_empty()).map(network).collect()
}

/// `sqlite://PATH` or `postgres://...`
pub fn database_location(text: &str) -> Option<DatabaseLocation> {
    if let Some(path) = text.strip_prefix("sqlite://") {
        return (!path.is_empty()).then(|| DatabaseLocation::Sqlite { path: PathBuf::from(path) });
    }
    let is_postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
    is_postgres.then(|| DatabaseLocation::Postgres { url: Secret::new(text) })
}

/// Where one Redis node is, as a URL says it.
#[derive(Debug, PartialEq, Eq)]
pub struct RedisAddress {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub database: i64,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// `redis://[user][:password]@host[:port][/database]`, or the same with `rediss://`. Anything more is refused: a query
/// would be passed over.
pub fn redis_address(text: &str) -> Option<RedisAddress> {
    let (scheme, rest) = text.split_once("://").filter(|_| !text.contains(char::is_whitespace))?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let database = if database.is_empty() { 0 } else { digits(database)?.parse().ok()? };
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok())?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            (Some(host).filter(|host| is_host_name(host))?, port)
        }
    };
    let port = port.map_or(Some(6379), |port| digits(port)?.parse().ok())?;
    let (username, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        Some((user, password)) => (decoded(user)?, decoded(password)?),
        None => (String::new(), String::new()),
    };
    Some(RedisAddress {
        host: host.to_owned(),
        port,
        tls,
        database,
        username: Some(username).filter(|user| !user.is_empty()),
        password: Some(password).filter(|password| !password.is_empty()).map(|password| Secret::new(&password)),
    })
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

/// Levels, and `target=level`, with commas. `EnvFilter` takes any word for a target and logs everything of it, so that a
/// mistyped level would turn the log off.
pub fn log_filter(text: &str) -> Option<String> {
    let is_level = |word: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|level| word.eq_ignore_ascii_case(level))
    };
    let is_target = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
    };
    let is_directive = |directive: &str| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(directive),
    };
    let readable = text.split(',').all(is_directive) && text.parse::<tracing_subscriber::EnvFilter>().is_ok();
    readable.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_url_gives_every_part() {
        let address = redis_address("rediss://ann:p%40ss@[::1]:7000/2").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.tls, address.database), ("::1", 7000, true, 2));
        assert_eq!(address.username.as_deref(), Some("ann"));
        assert_eq!(address.password.unwrap().expose(), "p@ss");
        assert_eq!(redis_address("redis://:secret@h").unwrap().username, None);
        assert_eq!(redis_address("redis://:@h/").unwrap().password, None);
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
        ] {
            assert_eq!(redis_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_log_filter_is_made_of_levels() {
        for good in ["info", "WARN", "off", "info,quotad=debug", "quotad::http=trace,actix_server=off"] {
            assert_eq!(log_filter(good).as_deref(), Some(good));
        }
        for bad in
            ["inof", "info,", ",", "quotad", "quotad=", "quotad=inof", "=info", "a b=info", "info debug", "[x]=info"]
        {
            assert_eq!(log_filter(bad), None, "{bad}");
        }
    }
}
