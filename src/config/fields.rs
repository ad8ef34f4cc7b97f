//! Values with a syntax of their own: endpoint costs, CIDR lists, Redis and database addresses.

use std::path::PathBuf;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::Secret;
use super::sections::DatabaseLocation;
use crate::domain::cost::Multiplier;
use crate::domain::endpoint::{EndpointCost, EndpointPath};

/// `path=cost,path=cost`
pub fn endpoint_costs(text: &str) -> Option<Vec<EndpointCost>> {
    let rule = |entry: &str| {
        let (path, cost) = entry.trim().rsplit_once('=')?;
        let path = EndpointPath::parse(path).ok()?;
        let cost = Multiplier::new(cost.parse().ok()?).ok()?.units();
        Some(EndpointCost { path, methods: Vec::new(), cost })
    };
    text.split(',').filter(|entry| !entry.trim().is_empty()).map(rule).collect()
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

/// `redis://[user][:password]@host[:port][/database]`, or the same with `rediss://`.
pub fn redis_address(text: &str) -> Option<RedisAddress> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let database = if database.is_empty() { 0 } else { database.parse().ok().filter(|number| *number >= 0)? };
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(6379), |port| port.parse().ok())?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let (username, password) = login.map_or((None, None), |login| match login.split_once(':') {
        Some((user, password)) => (decode(user).filter(|user| !user.is_empty()), decode(password)),
        None => (decode(login), None),
    });
    let password = password.map(|text| Secret::new(&text));
    (!host.is_empty()).then(|| RedisAddress { host: host.to_owned(), port, tls, database, username, password })
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
        for bad in ["http://h", "redis://", "redis://h:x", "redis://h/x", "h:6379"] {
            assert_eq!(redis_address(bad), None, "{bad}");
        }
    }
}
