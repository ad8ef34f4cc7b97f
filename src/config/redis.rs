//! `REDIS_*`: the servers that counters are kept on, and which of their settings go together.

use std::path::PathBuf;
use std::time::Duration;

use super::parse::Source;
use super::redis_url::{self, RedisPlace};
use super::{Secret, SettingsError};

/// `REDIS_*`.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    pub place: RedisPlace,
    pub tls: bool,
    pub database: i64,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// The sentinels' own; without one they are asked without a login.
    pub sentinel_password: Option<Secret>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Over all shards and nodes.
    pub max_connections: usize,
    pub socket_timeout: Duration,
    pub connect_timeout: Duration,
    /// No check waits longer.
    pub deadline: Duration,
    pub key_prefix: String,
}

impl RedisSettings {
    /// Connections that checks may go over: one is kept to listen to other instances, where there is more than one.
    pub fn connections_to_ask(&self) -> usize {
        self.max_connections.saturating_sub(1).max(1)
    }

    /// Whether a connection is left to listen to other instances.
    pub const fn may_listen(&self) -> bool {
        self.max_connections > 1
    }
}

/// `None` where no `REDIS_URL` is set; the other settings must be readable all the same.
pub fn read(source: &Source<'_>) -> Result<Option<RedisSettings>, SettingsError> {
    let allowed = "redis:// or rediss:// as redis://user:password@host:6379/0, or several hosts as \
                   redis-sentinel://host:26379,host:26379/master/0 or redis-cluster://host:6379,host:6379 \
                   (rediss-sentinel, rediss-cluster), and nothing behind it";
    let address = source.optional("REDIS_URL", allowed, redis_url::redis_address)?;
    let safe = |text: &str| {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        ((1..=32).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.to_owned())
    };
    let ssl = source.flag("REDIS_SSL", false)?;
    let key_prefix = source.read("REDIS_KEY_PREFIX", "quotad".to_owned(), "1 to 32 of A-Z a-z 0-9 _ -", safe)?;
    let max_connections = source.number("REDIS_MAX_CONNECTIONS", 10, 1, 1024)?;
    let socket_timeout = source.seconds("REDIS_SOCKET_TIMEOUT", 5.0)?;
    let connect_timeout = source.seconds("REDIS_SOCKET_CONNECT_TIMEOUT", 5.0)?;
    let deadline = source.millis("REDIS_DEADLINE_MS", 50, 1, 60_000)?;
    if !address.as_ref().is_some_and(|address| matches!(address.place, RedisPlace::Sentinel { .. })) {
        source.must_be_unset("REDIS_SENTINEL_PASSWORD", "only with a REDIS_URL of redis-sentinel://")?;
    }
    let Some(address) = address else { return Ok(None) };
    let settings = RedisSettings {
        place: address.place,
        tls: address.tls || ssl,
        database: address.database,
        username: source.text("REDIS_USERNAME").or(address.username),
        password: source.secret("REDIS_PASSWORD").or(address.password),
        sentinel_password: source.secret("REDIS_SENTINEL_PASSWORD"),
        ca_file: source.path("REDIS_CA_FILE"),
        cert_file: source.path("REDIS_CERT_FILE"),
        key_file: source.path("REDIS_KEY_FILE"),
        max_connections,
        socket_timeout,
        connect_timeout,
        deadline,
        key_prefix,
    };
    together(source, &settings)?;
    Ok(Some(settings))
}

/// What would be passed over is refused: certificates without TLS, half of a pair, a user who has no password.
fn together(source: &Source<'_>, settings: &RedisSettings) -> Result<(), SettingsError> {
    for name in ["REDIS_CA_FILE", "REDIS_CERT_FILE", "REDIS_KEY_FILE"] {
        if !settings.tls {
            source.must_be_unset(name, "only with TLS, by a REDIS_URL of rediss:// or REDIS_SSL=true")?;
        }
    }
    if settings.key_file.is_none() {
        source.must_be_unset("REDIS_CERT_FILE", "only together with REDIS_KEY_FILE")?;
    }
    if settings.cert_file.is_none() {
        source.must_be_unset("REDIS_KEY_FILE", "only together with REDIS_CERT_FILE")?;
    }
    if settings.username.is_some() && settings.password.is_none() {
        let allowed = "a user only together with a password, of the URL or by REDIS_PASSWORD";
        source.must_be_unset("REDIS_USERNAME", allowed)?;
        source.must_be_unset("REDIS_URL", allowed)?;
    }
    Ok(())
}
