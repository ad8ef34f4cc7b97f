//! The settings, read once from the environment and checked there: the only module that reads it.
//!
//! [`names`] is the table that drives everything: parsing and `quotad config`.

mod fields;
mod names;
mod parse;
mod secret;
mod sections;

use std::collections::BTreeMap;

pub use names::{Audience, NAMES, Name};
pub use secret::Secret;
pub use sections::{
    DatabaseLocation, DatabaseSettings, FallbackMode, HttpSettings, IdentitySettings, LimiterSettings, LogFormat,
    LogSettings, PolicySettings, RedisSettings, Settings, TierNumbers,
};

/// Why a setting can't be used. One line: the variable, its value (secrets masked) and what is allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("{variable}={value} is not a setting of quotad{hint}; `quotad config` lists them")]
    Unknown { variable: String, value: String, hint: String },
    #[error("{variable}={value} is not allowed: {allowed}")]
    NotAllowed { variable: String, value: String, allowed: String },
    #[error("{variable}={value} is not supported by this version: leave it unset")]
    NotSupported { variable: String, value: String },
}

impl Settings {
    /// Reads the environment of this process.
    #[allow(clippy::disallowed_methods, reason = "this is the one module that may read the environment")]
    pub fn from_env() -> Result<Self, SettingsError> {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        };
        Self::from_vars(std::env::vars_os().map(text))
    }

    /// Reads the given variables. Those without the prefix `QUOTAD_` or `OMICS_` are passed over, and so are names with
    /// `OMICS_` that this service does not know: they belong to the API it stands beside. An empty value counts as unset.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, SettingsError> {
        let vars: BTreeMap<String, String> = vars.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        for (variable, value) in &vars {
            let Some(name) = variable.strip_prefix("QUOTAD_") else { continue };
            let shown = || names::masked(name, value);
            match NAMES.iter().find(|known| known.name == name) {
                None => {
                    let hint = names::nearest(name).map(|near| format!(" (QUOTAD_{near}?)")).unwrap_or_default();
                    return Err(SettingsError::Unknown { variable: variable.clone(), value: shown(), hint });
                }
                Some(known) if !known.supported => {
                    return Err(SettingsError::NotSupported { variable: variable.clone(), value: shown() });
                }
                Some(_) => {}
            }
        }
        sections::read(&parse::Source { vars: &vars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_vars(vars.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    fn refused(vars: &[(&str, &str)]) -> String {
        settings(vars).unwrap_err().to_string()
    }

    #[test]
    fn nothing_set_is_the_embedded_default() {
        let settings = settings(&[]).unwrap();
        assert!(settings.redis.is_none());
        assert_eq!(settings.http.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.policy.free, TierNumbers { hour: 100, day: 1000, concurrent: 5 });
        assert_eq!(settings.policy.endpoint_costs.len(), 3);
    }

    #[test]
    fn the_plans_names_are_read_too_and_ours_go_first() {
        let hour = |vars: &[(&str, &str)]| settings(vars).unwrap().policy.free.hour;
        assert_eq!(hour(&[("OMICS_FREE_TIER_LIMIT_HOUR", "7")]), 7);
        assert_eq!(hour(&[("OMICS_FREE_TIER_LIMIT_HOUR", "7"), ("QUOTAD_FREE_TIER_LIMIT_HOUR", "8")]), 8);
        assert!(settings(&[("OMICS_SOMETHING_ELSE", "x"), ("OMICS_LISTEN", "nonsense")]).is_ok());
    }

    #[test]
    fn a_bad_setting_is_refused_in_one_line_that_says_what_is_allowed() {
        for (vars, parts) in [
            (&[("QUOTAD_SHARD", "2")][..], &["QUOTAD_SHARD=2", "QUOTAD_SHARDS?"][..]),
            (&[("QUOTAD_SHARDS", "0")], &["QUOTAD_SHARDS=0", "1 to 1024"]),
            (&[("QUOTAD_SHARDS", "many")], &["QUOTAD_SHARDS=many", "1 to 1024"]),
            (&[("QUOTAD_FALLBACK_SHARE", "1.5")], &["QUOTAD_FALLBACK_SHARE=1.5", "0 to 1"]),
            (&[("QUOTAD_LISTEN", "nowhere")], &["QUOTAD_LISTEN=nowhere", "address:port"]),
            (&[("QUOTAD_RATE_LIMIT_FALLBACK", "maybe")], &["maybe", "memory, allow or deny"]),
            (&[("QUOTAD_ENDPOINT_COSTS", "/a=x")], &["/a=x", "path=cost"]),
            (&[("QUOTAD_TRUSTED_PROXIES", "10.0.0.0/99")], &["10.0.0.0/99", "CIDR"]),
            (&[("QUOTAD_GRPC_LISTEN", "127.0.0.1:1")], &["QUOTAD_GRPC_LISTEN", "not supported"]),
            (&[("QUOTAD_REDIS_URL", "redis-cluster://a:1")], &["QUOTAD_REDIS_URL", "redis:// or rediss://"]),
            (&[("OMICS_FREE_TIER_LIMIT_DAY", "-1")], &["OMICS_FREE_TIER_LIMIT_DAY=-1"]),
        ] {
            let line = refused(vars);
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
            assert!(!line.contains('\n'));
        }
    }

    #[test]
    fn a_refused_secret_is_not_shown() {
        assert!(!refused(&[("QUOTAD_JWT_SECRET", "hunter2")]).contains("hunter2"));
        assert!(!refused(&[("QUOTAD_ADMIN_KEY", "hunter2")]).contains("hunter2"));
        assert!(!refused(&[("QUOTAD_DATABASE_URL", "mysql://u:hunter2@h/x")]).contains("hunter2"));
        assert!(!refused(&[("QUOTAD_WEBHOOK_URL", "https://u:hunter2@h/x")]).contains("hunter2"));
    }

    #[test]
    fn what_is_described_masks_secrets() {
        let settings = settings(&[
            ("QUOTAD_REDIS_URL", "redis://user:hunter2@localhost:6379/3"),
            ("QUOTAD_DATABASE_URL", "postgres://u:hunter2@localhost/q"),
            ("QUOTAD_JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2"),
        ])
        .unwrap();
        let text: String = settings.describe().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(text.contains("QUOTAD_SHARD_MAILBOX=16384"));
        assert_eq!(settings.redis.as_ref().map(|redis| redis.database), Some(3));
    }
}
