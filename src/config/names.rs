//! Every setting there is: its name, its default, what it means, and how it may be shown.

/// Which prefixes a name is read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// `QUOTAD_` alone.
    Quotad,
    /// `QUOTAD_`, else `OMICS_`.
    Both,
}

/// How a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Plainly,
    /// As `***`.
    Masked,
    /// As a URL whose password is masked.
    Url,
}

/// One setting.
#[derive(Debug)]
pub struct Name {
    /// Without its prefix.
    pub name: &'static str,
    /// The value in force where none is set, or words where it is worked out at the start.
    pub default: &'static str,
    /// What is allowed, and what it means.
    pub meaning: &'static str,
    pub audience: Audience,
    pub shown: Shown,
    /// A name of the contract that this version can't act on stops the start rather than being passed over.
    pub supported: bool,
}

const fn name(audience: Audience, name: &'static str, default: &'static str, meaning: &'static str) -> Name {
    Name { name, default, meaning, audience, shown: Shown::Plainly, supported: true }
}

const fn own(text: &'static str, default: &'static str, meaning: &'static str) -> Name {
    name(Audience::Quotad, text, default, meaning)
}

const fn both(text: &'static str, default: &'static str, meaning: &'static str) -> Name {
    name(Audience::Both, text, default, meaning)
}

const fn shown(shown: Shown, name: Name) -> Name {
    Name { shown, ..name }
}

const fn later(name: Name) -> Name {
    Name { supported: false, ..name }
}

/// All settings, in the order of the documentation.
pub const NAMES: &[Name] = &[
    own("LISTEN", "127.0.0.1:8080", "HTTP address, as address:port"),
    later(own("GRPC_LISTEN", "", "Envoy rate-limit-service address")),
    own("WORKERS", "the number of cores", "HTTP worker threads, 1 to 512"),
    own("SHARDS", "the number of cores", "limiter shard actors, each on a thread of its own, 1 to 1024"),
    own("SHARD_MAILBOX", "16384", "checks that may wait at one shard, 1 to 1000000; past it a check gets 503"),
    own("CACHE_CAPACITY", "1000000", "subjects whose counters are held in memory over all shards, 1 to 100000000"),
    own("DATA_DIR", "./data", "folder of the embedded database and the first-run admin key"),
    shown(
        Shown::Url,
        own("DATABASE_URL", "sqlite://DATA_DIR/quotad.db", "sqlite://PATH or postgres://...; TLS by `sslmode`"),
    ),
    own("DATABASE_MAX_CONNECTIONS", "10", "connections to the database, 1 to 1000"),
    own("FLUSH_INTERVAL_MS", "1000", "how often usage goes to the database, 10 to 60000 milliseconds"),
    own("HISTORY_RETENTION_DAYS", "400", "older usage is removed, 1 to 36500 days"),
    own(
        "POLICY_FILE",
        "",
        "TOML file of tiers and endpoint costs, at most 1 MiB; read again on SIGHUP and when it changes",
    ),
    shown(
        Shown::Masked,
        own(
            "ADMIN_KEY",
            "",
            "bootstrap admin API key, 32 characters or more; unset: the first start makes one in DATA_DIR/admin.key",
        ),
    ),
    shown(Shown::Masked, own("JWT_SECRET", "", "HS256 secret, 32 bytes or more")),
    own("JWT_PUBLIC_KEY_FILE", "", "PEM file of an RS256, ES256 or EdDSA key"),
    shown(
        Shown::Url,
        own("JWKS_URL", "", "address of a JSON Web Key Set of RS256, ES256 and EdDSA keys, https:// or http://"),
    ),
    own("JWT_ISSUER", "", "the `iss` that tokens must have"),
    own("JWT_AUDIENCE", "", "the `aud` that tokens must have"),
    own("TRUSTED_PROXIES", "127.0.0.0/8,::1/128", "CIDRs whose forwarding headers are believed, with commas"),
    own("IPV6_PREFIX", "64", "anonymous IPv6 callers are charged by this prefix, 1 to 128"),
    own("FALLBACK_SHARE", "1.0", "part of a limit that an instance grants alone while Redis is away, 0 to 1"),
    shown(
        Shown::Url,
        own(
            "WEBHOOK_URL",
            "",
            "where events are sent, https:// or http://; needs WEBHOOK_SECRET; unset: nobody is told",
        ),
    ),
    shown(
        Shown::Masked,
        own(
            "WEBHOOK_SECRET",
            "",
            "what events are signed with: `whsec_` and base64 of 24 bytes or more, or a text of 24 bytes or more",
        ),
    ),
    own("LOG", "info", "off, error, warn, info, debug or trace, or target=level, with commas, as `info,quotad=debug`"),
    own("LOG_FORMAT", "text", "text or json"),
    shown(
        Shown::Url,
        own("OTLP_ENDPOINT", "", "address of an OpenTelemetry collector, as http://127.0.0.1:4318; unset: no traces"),
    ),
    own("OTLP_SAMPLE_RATIO", "0.01", "part of requests that are traced where their `traceparent` does not say, 0 to 1"),
    shown(
        Shown::Url,
        both(
            "REDIS_URL",
            "",
            "redis://, redis-sentinel:// or redis-cluster://, with TLS rediss; unset: embedded counters",
        ),
    ),
    both("REDIS_MAX_CONNECTIONS", "10", "connections over all shards and nodes, 1 to 1024"),
    shown(Shown::Masked, both("REDIS_PASSWORD", "", "added to the URL; taken before the one in it")),
    both("REDIS_SSL", "false", "true turns redis into rediss"),
    both("REDIS_USERNAME", "", "ACL user, added to the URL; needs a password"),
    shown(Shown::Masked, both("REDIS_SENTINEL_PASSWORD", "", "the sentinels' own password")),
    both(
        "REDIS_CA_FILE",
        "",
        "PEM file of the authority that signed Redis' certificate; needs TLS; unset: the public roots",
    ),
    both("REDIS_CERT_FILE", "", "PEM file of this client's certificate; needs REDIS_KEY_FILE"),
    both("REDIS_KEY_FILE", "", "PEM file of this client's key; needs REDIS_CERT_FILE"),
    both("REDIS_KEY_PREFIX", "quotad", "what every key begins with, 1 to 32 of A-Z a-z 0-9 _ -"),
    both("RESERVED_BLOCKS", "true", "whether busy subjects take blocks of their limits beforehand, with Redis"),
    both("REDIS_SOCKET_TIMEOUT", "5", "seconds, 0.001 to 3600"),
    both("REDIS_SOCKET_CONNECT_TIMEOUT", "5", "seconds, 0.001 to 3600"),
    both(
        "REDIS_DEADLINE_MS",
        "50",
        "a check that Redis has not answered by then is answered by the fallback, 1 to 60000",
    ),
    both("ENABLE_RATE_LIMITING", "true", "false: everything is allowed and still counted"),
    both("RATE_LIMIT_FALLBACK", "memory", "memory, allow or deny, while Redis can't be reached"),
    both("FREE_TIER_LIMIT_HOUR", "100", "requests an hour in the tier `free`, 0 to 1000000000000"),
    both("FREE_TIER_LIMIT_DAY", "1000", "requests a day in the tier `free`, 0 to 1000000000000"),
    both("FREE_TIER_CONCURRENT", "5", "requests at once in the tier `free`, 0 to 1000000"),
    both("PRO_TIER_LIMIT_HOUR", "1000", "requests an hour in the tier `pro`, 0 to 1000000000000"),
    both("PRO_TIER_LIMIT_DAY", "20000", "requests a day in the tier `pro`, 0 to 1000000000000"),
    both("PRO_TIER_CONCURRENT", "20", "requests at once in the tier `pro`, 0 to 1000000"),
    both("ENTERPRISE_TIER_LIMIT_HOUR", "10000", "requests an hour in the tier `enterprise`, 0 to 1000000000000"),
    both("ENTERPRISE_TIER_LIMIT_DAY", "200000", "requests a day in the tier `enterprise`, 0 to 1000000000000"),
    both("ENTERPRISE_TIER_CONCURRENT", "100", "requests at once in the tier `enterprise`, 0 to 1000000"),
    both("ANONYMOUS_LIMIT_HOUR", "10", "requests an hour of an address without a credential, 0 to 1000000000000"),
    both("ANONYMOUS_LIMIT_DAY", "100", "requests a day of an address without a credential, 0 to 1000000000000"),
    both("ANONYMOUS_CONCURRENT", "2", "requests at once of an address without a credential, 0 to 1000000"),
    both(
        "ENDPOINT_COSTS",
        "/api/v1/agents=2,/api/v1/batch=5,/ws=0",
        "path=cost with commas; the longest prefix of whole segments wins",
    ),
];
