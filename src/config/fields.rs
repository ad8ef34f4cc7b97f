//! Values with a syntax of their own: endpoint costs, CIDR lists, database addresses, log filters.

use std::path::PathBuf;

use ipnet::IpNet;

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

/// `https://...` or `http://...`
pub fn http_address(text: &str) -> Option<Secret> {
    let address = url::Url::parse(text).ok()?;
    (matches!(address.scheme(), "https" | "http") && address.has_host()).then(|| Secret::new(text))
}

/// Where spans go, of the address of a collector.
pub fn traces_url(text: &str) -> Option<Secret> {
    let address = url::Url::parse(text).ok()?;
    let takes_a_path = address.query().is_none() && address.fragment().is_none();
    http_address(text).filter(|_| takes_a_path)?;
    Some(Secret::new(&format!("{}/v1/traces", text.trim_end_matches('/'))))
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
