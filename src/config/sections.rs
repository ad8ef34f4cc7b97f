//! The settings as the rest of the service takes them, a struct a section, and how each is read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::fields::{self, DatabaseLocation};
use super::parse::Source;
use super::redis::{self, RedisSettings};
use super::webhooks::{self, WebhookSettings};
use super::{Secret, SettingsError};
use crate::domain::cost::LIMIT_MAX;
use crate::domain::endpoint::EndpointCost;
use crate::domain::policy::Layer;
use crate::domain::tier::{Tier, TierName};

/// Everything that an operator can set.
#[derive(Debug, Clone)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub http: HttpSettings,
    pub limiter: LimiterSettings,
    /// `None`: counters are embedded.
    pub redis: Option<RedisSettings>,
    pub database: DatabaseSettings,
    pub identity: IdentitySettings,
    pub policy: PolicySettings,
    /// `None`: nobody is told of events.
    pub webhooks: Option<WebhookSettings>,
    pub log: LogSettings,
    /// `None`: no spans are sent anywhere.
    pub otlp: Option<OtlpSettings>,
    /// Every setting in force as `QUOTAD_NAME` and its value, secrets masked.
    pub(super) described: Vec<(String, String)>,
}

/// `LISTEN`, `WORKERS`.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub listen: SocketAddr,
    pub workers: usize,
}

/// `SHARDS`, `SHARD_MAILBOX`, `CACHE_CAPACITY`, `ENABLE_RATE_LIMITING`, `RATE_LIMIT_FALLBACK`, `FALLBACK_SHARE`.
#[derive(Debug, Clone)]
pub struct LimiterSettings {
    pub shards: usize,
    /// Checks that may wait at one shard.
    pub shard_mailbox: usize,
    /// Subjects over all shards.
    pub cache_capacity: usize,
    pub enabled: bool,
    pub fallback: FallbackMode,
    /// 0 to 1.
    pub fallback_share: f64,
    /// Busy subjects take blocks of their limits beforehand, with Redis.
    pub reserved_blocks: bool,
}

/// What is answered while Redis can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallbackMode {
    Memory,
    Allow,
    Deny,
}

/// `DATABASE_*`, `FLUSH_INTERVAL_MS`, `HISTORY_RETENTION_DAYS`.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    pub location: DatabaseLocation,
    pub max_connections: usize,
    pub flush_interval: Duration,
    pub history_retention_days: u32,
}

/// `ADMIN_KEY`, `JWT_*`, `JWKS_URL`, `TRUSTED_PROXIES`, `IPV6_PREFIX`.
#[derive(Debug, Clone)]
pub struct IdentitySettings {
    pub admin_key: Option<Secret>,
    pub jwt_secret: Option<Secret>,
    pub jwt_public_key_file: Option<PathBuf>,
    pub jwks_url: Option<Secret>,
    pub jwt_issuer: Option<String>,
    pub jwt_audience: Option<String>,
    pub trusted_proxies: Vec<IpNet>,
    /// In bits.
    pub ipv6_prefix: u8,
}

/// `*_TIER_LIMIT_HOUR`, `*_TIER_LIMIT_DAY`, `*_TIER_CONCURRENT`, `ANONYMOUS_*`, `ENDPOINT_COSTS`, `POLICY_FILE`.
#[derive(Debug, Clone)]
pub struct PolicySettings {
    pub free: TierNumbers,
    pub pro: TierNumbers,
    pub enterprise: TierNumbers,
    pub anonymous: TierNumbers,
    pub endpoint_costs: Vec<EndpointCost>,
    /// `POLICY_FILE`.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierNumbers {
    pub hour: u64,
    pub day: u64,
    pub concurrent: u64,
}

/// `LOG`, `LOG_FORMAT`.
#[derive(Debug, Clone)]
pub struct LogSettings {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// `OTLP_ENDPOINT`, `OTLP_SAMPLE_RATIO`.
#[derive(Debug, Clone)]
pub struct OtlpSettings {
    /// The endpoint with the path for spans.
    pub traces_url: Secret,
    /// The part of requests that are traced where their callers do not say, 0 to 1.
    pub sample_ratio: f64,
}

impl Settings {
    /// Every setting in force as `QUOTAD_NAME` and its value, secrets masked.
    pub fn describe(&self) -> &[(String, String)] {
        &self.described
    }
}

impl PolicySettings {
    /// The built-in tiers and costs.
    pub fn layer(&self) -> Layer {
        let named =
            [("free", self.free), ("pro", self.pro), ("enterprise", self.enterprise), ("anonymous", self.anonymous)];
        let tiers = named
            .into_iter()
            .filter_map(|(name, numbers)| {
                let name = TierName::parse(name).ok()?;
                Some(Tier::hourly_and_daily(name, numbers.hour, numbers.day, numbers.concurrent))
            })
            .collect();
        Layer { tiers, costs: Some(self.endpoint_costs.clone()) }
    }
}

/// Reads all sections.
pub fn read(source: &Source<'_>) -> Result<Settings, SettingsError> {
    let data_dir = source.path("DATA_DIR").unwrap_or_else(|| PathBuf::from("./data"));
    Ok(Settings {
        http: http(source)?,
        limiter: limiter(source)?,
        redis: redis::read(source)?,
        database: database(source, &data_dir)?,
        identity: identity(source)?,
        policy: policy(source)?,
        webhooks: webhooks::read(source)?,
        log: log(source)?,
        otlp: otlp(source)?,
        described: Vec::new(),
        data_dir,
    })
}

fn http(source: &Source<'_>) -> Result<HttpSettings, SettingsError> {
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    Ok(HttpSettings {
        listen: source.read("LISTEN", default, "address:port, as 127.0.0.1:8080", |text| text.parse().ok())?,
        workers: source.number("WORKERS", cores().min(512), 1, 512)?,
    })
}

fn limiter(source: &Source<'_>) -> Result<LimiterSettings, SettingsError> {
    let fallback = |text: &str| match text {
        "memory" => Some(FallbackMode::Memory),
        "allow" => Some(FallbackMode::Allow),
        "deny" => Some(FallbackMode::Deny),
        _ => None,
    };
    Ok(LimiterSettings {
        shards: source.number("SHARDS", cores(), 1, 1024)?,
        shard_mailbox: source.number("SHARD_MAILBOX", 16_384, 1, 1_000_000)?,
        cache_capacity: source.number("CACHE_CAPACITY", 1_000_000, 1, 100_000_000)?,
        enabled: source.flag("ENABLE_RATE_LIMITING", true)?,
        fallback: source.read("RATE_LIMIT_FALLBACK", FallbackMode::Memory, "memory, allow or deny", fallback)?,
        fallback_share: source.number("FALLBACK_SHARE", 1.0, 0.0, 1.0)?,
        reserved_blocks: source.flag("RESERVED_BLOCKS", true)?,
    })
}

fn database(source: &Source<'_>, data_dir: &std::path::Path) -> Result<DatabaseSettings, SettingsError> {
    let default = DatabaseLocation::Sqlite { path: data_dir.join("quotad.db") };
    let allowed = "sqlite://PATH or postgres://user:password@host:5432/database";
    Ok(DatabaseSettings {
        location: source.read("DATABASE_URL", default, allowed, fields::database_location)?,
        max_connections: source.number("DATABASE_MAX_CONNECTIONS", 10, 1, 1000)?,
        flush_interval: source.millis("FLUSH_INTERVAL_MS", 1000, 10, 60_000)?,
        history_retention_days: source.number("HISTORY_RETENTION_DAYS", 400, 1, 36_500)?,
    })
}

fn identity(source: &Source<'_>) -> Result<IdentitySettings, SettingsError> {
    // A header can't hold a control character, so that nobody could show such a key.
    let usable = |text: &str| text.chars().count() >= 32 && !text.contains(char::is_control);
    let key = |text: &str| usable(text).then(|| Secret::new(text));
    let secret = |text: &str| (text.len() >= 32).then(|| Secret::new(text));
    let loopback = fields::networks("127.0.0.0/8,::1/128").unwrap_or_default();
    Ok(IdentitySettings {
        admin_key: source.optional("ADMIN_KEY", "32 characters or more, none of them a control character", key)?,
        jwt_secret: source.optional("JWT_SECRET", "32 bytes or more", secret)?,
        jwt_public_key_file: source.path("JWT_PUBLIC_KEY_FILE"),
        jwks_url: source.optional("JWKS_URL", "an address, https://... or http://...", fields::http_address)?,
        jwt_issuer: source.text("JWT_ISSUER"),
        jwt_audience: source.text("JWT_AUDIENCE"),
        trusted_proxies: source.read(
            "TRUSTED_PROXIES",
            loopback,
            "CIDRs with commas, as 10.0.0.0/8",
            fields::networks,
        )?,
        ipv6_prefix: source.number("IPV6_PREFIX", 64, 1, 128)?,
    })
}

fn policy(source: &Source<'_>) -> Result<PolicySettings, SettingsError> {
    let tier = |prefix: &str, concurrent: &str, hour: u64, day: u64, at_once: u64| {
        Ok(TierNumbers {
            hour: source.number(&format!("{prefix}_LIMIT_HOUR"), hour, 0, LIMIT_MAX)?,
            day: source.number(&format!("{prefix}_LIMIT_DAY"), day, 0, LIMIT_MAX)?,
            concurrent: source.number(concurrent, at_once, 0, 1_000_000)?,
        })
    };
    let costs = fields::endpoint_costs("/api/v1/agents=2,/api/v1/batch=5,/ws=0").unwrap_or_default();
    let allowed = "path=cost with commas, as /api/v1/agents=2,/ws=0, no path twice; a cost is 0 to 1000000";
    Ok(PolicySettings {
        free: tier("FREE_TIER", "FREE_TIER_CONCURRENT", 100, 1000, 5)?,
        pro: tier("PRO_TIER", "PRO_TIER_CONCURRENT", 1000, 20_000, 20)?,
        enterprise: tier("ENTERPRISE_TIER", "ENTERPRISE_TIER_CONCURRENT", 10_000, 200_000, 100)?,
        anonymous: tier("ANONYMOUS", "ANONYMOUS_CONCURRENT", 10, 100, 2)?,
        endpoint_costs: source.read("ENDPOINT_COSTS", costs, allowed, fields::endpoint_costs)?,
        file: source.path("POLICY_FILE"),
    })
}

fn log(source: &Source<'_>) -> Result<LogSettings, SettingsError> {
    let format = |text: &str| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    };
    let allowed = "off, error, warn, info, debug or trace, or target=level, with commas, as info,quotad=debug";
    Ok(LogSettings {
        filter: source.read("LOG", "info".to_owned(), allowed, fields::log_filter)?,
        format: source.read("LOG_FORMAT", LogFormat::Text, "text or json", format)?,
    })
}

fn otlp(source: &Source<'_>) -> Result<Option<OtlpSettings>, SettingsError> {
    let allowed = "an address without a query, https://... or http://..., as http://127.0.0.1:4318";
    let traces_url = source.optional("OTLP_ENDPOINT", allowed, fields::traces_url)?;
    let sample_ratio = source.number("OTLP_SAMPLE_RATIO", 0.01, 0.0, 1.0)?;
    Ok(traces_url.map(|traces_url| OtlpSettings { traces_url, sample_ratio }))
}

/// One where the number of cores can't be told.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
