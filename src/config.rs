//! The settings, read once from the environment and checked there: the only module that reads it.
//!
//! [`names`] is the table that drives everything: parsing and `quotad config`.

mod describe;
mod fields;
mod names;
mod parse;
mod redis;
mod redis_url;
mod secret;
mod sections;
mod shown;
mod webhooks;

use std::collections::BTreeMap;
use std::ffi::OsString;

pub use fields::{DatabaseLocation, database_location};
pub use names::{Audience, NAMES, Name, Shown};
pub use redis::RedisSettings;
pub use redis_url::{HostPort, RedisPlace, host_port};
pub use secret::Secret;
pub use sections::{
    DatabaseSettings, FallbackMode, HttpSettings, IdentitySettings, LimiterSettings, LogFormat, LogSettings,
    OtlpSettings, PolicySettings, Settings, TierNumbers,
};
use shown::in_one_line;
pub use webhooks::{SigningKey, WebhookSettings};

/// Why a setting can't be used. One line, whatever the value: the variable, its value (secrets masked) and what is allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("{}={} is not a setting of quotad{hint}; `quotad config` lists them", in_one_line(.variable), in_one_line(.value))]
    Unknown { variable: String, value: String, hint: String },
    #[error("{}={} is not allowed: {allowed}", in_one_line(.variable), in_one_line(.value))]
    NotAllowed { variable: String, value: String, allowed: String },
    #[error("{}={} is not supported by this version: leave it unset", in_one_line(.variable), in_one_line(.value))]
    NotSupported { variable: String, value: String },
}

impl Settings {
    /// Reads the environment of this process. A value of ours that is no text is refused; a name that is none is unknown.
    #[allow(clippy::disallowed_methods, reason = "this is the one module that may read the environment")]
    pub fn from_env() -> Result<Self, SettingsError> {
        let text = |(name, value): (OsString, OsString)| {
            let variable = name.to_string_lossy().into_owned();
            match (ours(&variable), value.into_string()) {
                (None, _) => None,
                (Some(_), Ok(value)) => Some(Ok((variable, value))),
                (Some((name, _)), Err(value)) => {
                    let value = shown::masked(name, &value.to_string_lossy());
                    Some(Err(SettingsError::NotAllowed { variable, value, allowed: "UTF-8 text".to_owned() }))
                }
            }
        };
        Self::from_vars(std::env::vars_os().filter_map(text).collect::<Result<Vec<_>, _>>()?)
    }

    /// Reads the given variables. Those without the prefix `QUOTAD_` or `OMICS_` are passed over, and so are names with
    /// `OMICS_` that this service does not know: they belong to the API it stands beside. An empty value counts as unset.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, SettingsError> {
        let vars: BTreeMap<String, String> = vars.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let ours = || vars.iter().filter_map(|(variable, value)| Some((variable, ours(variable)?, value)));
        for (variable, (name, known), value) in ours() {
            can_act(variable, name, known, value)?;
        }
        let source = parse::Source { vars: &vars };
        let mut settings = sections::read(&source)?;
        settings.described = describe::describe(&source, &settings);
        // Last, so that a number or a list is refused with what is allowed there; paths and texts are left.
        for (variable, (name, known), value) in ours() {
            let secret = known.is_some_and(|known| known.shown == Shown::Masked);
            if !secret && value.contains(char::is_control) {
                let (variable, value) = (variable.clone(), shown::masked(name, value));
                let allowed = "a text without control characters".to_owned();
                return Err(SettingsError::NotAllowed { variable, value, allowed });
            }
        }
        Ok(settings)
    }
}

/// The name behind the prefix, and its entry, of a variable that this service answers for.
fn ours(variable: &str) -> Option<(&str, Option<&'static Name>)> {
    let known = |name: &str| NAMES.iter().find(|known| known.name == name);
    if let Some(name) = variable.strip_prefix("QUOTAD_") {
        return Some((name, known(name)));
    }
    let name = variable.strip_prefix("OMICS_")?;
    let known = known(name).filter(|known| known.audience == Audience::Both)?;
    Some((name, Some(known)))
}

/// Whether there is such a setting, and this version has what it sets.
fn can_act(variable: &str, name: &str, known: Option<&Name>, value: &str) -> Result<(), SettingsError> {
    let (variable, shown) = (variable.to_owned(), shown::masked(name, value));
    match known {
        None => {
            let hint = shown::nearest(name).map(|near| format!(" (QUOTAD_{near}?)")).unwrap_or_default();
            Err(SettingsError::Unknown { variable, value: shown, hint })
        }
        Some(known) if !known.supported => Err(SettingsError::NotSupported { variable, value: shown }),
        Some(_) => Ok(()),
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
            (&[("QUOTAD_REDIS_URL", "redis-cluster://a:1/2")], &["QUOTAD_REDIS_URL", "redis-cluster://host"]),
            (&[("OMICS_FREE_TIER_LIMIT_DAY", "-1")], &["OMICS_FREE_TIER_LIMIT_DAY=-1"]),
            (&[("QUOTAD_DATA_DIR", "a\nb")], &["QUOTAD_DATA_DIR=a\\nb", "control characters"]),
            (&[("QUOTAD_SHARDS", "1\n2")], &["QUOTAD_SHARDS=1\\n2", "1 to 1024"]),
            (&[("QUOTAD_A\nB", "x")], &["QUOTAD_A\\nB"]),
            (&[("OMICS_REDIS_SENTINEL_PASSWORD", "hunter2")], &["OMICS_REDIS_SENTINEL_PASSWORD", "redis-sentinel://"]),
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
    fn what_would_be_passed_over_is_refused() {
        let plain = ("QUOTAD_REDIS_URL", "redis://h");
        let tls = ("OMICS_REDIS_URL", "rediss://h");
        let (ca, cert, key) =
            (("QUOTAD_REDIS_CA_FILE", "/ca"), ("OMICS_REDIS_CERT_FILE", "/cert"), ("QUOTAD_REDIS_KEY_FILE", "/key"));
        let ann = ("QUOTAD_REDIS_USERNAME", "ann");
        for (vars, part) in [
            (&[plain, ca][..], "QUOTAD_REDIS_CA_FILE=/ca"),
            (&[plain, cert, key], "OMICS_REDIS_CERT_FILE=/cert"),
            (&[plain, key], "QUOTAD_REDIS_KEY_FILE=/key"),
            (&[tls, cert], "together with REDIS_KEY_FILE"),
            (&[tls, key], "together with REDIS_CERT_FILE"),
            (
                &[("QUOTAD_WEBHOOK_URL", "http://ann:pw@h")],
                "QUOTAD_WEBHOOK_URL=http://ann:***@h is not allowed: events",
            ),
            (&[("QUOTAD_WEBHOOK_SECRET", "a text of some twenty-five")], "QUOTAD_WEBHOOK_SECRET=*** is not"),
            (&[plain, ann], "QUOTAD_REDIS_USERNAME=ann"),
            (&[("QUOTAD_REDIS_URL", "redis://ann@h")], "QUOTAD_REDIS_URL=redis://***@h"),
        ] {
            assert!(refused(vars).contains(part), "{}", refused(vars));
        }
        for vars in [
            &[tls, ca][..],
            &[tls, cert, key],
            &[plain, ("QUOTAD_REDIS_SSL", "true"), ca],
            &[plain, ann, ("QUOTAD_REDIS_PASSWORD", "hunter2")],
        ] {
            assert!(settings(vars).is_ok(), "{vars:?}");
        }
    }

    #[test]
    fn what_is_described_can_be_set_again() {
        let first = settings(&[("QUOTAD_REDIS_URL", "redis://h:1/2"), ("OMICS_REDIS_SSL", "1")]).unwrap();
        let vars = first.describe().iter().map(|(name, value)| (name.clone(), value.clone()));
        let again = Settings::from_vars(vars).unwrap();
        assert_eq!(first.describe(), again.describe());
        assert_eq!(format!("{first:?}"), format!("{again:?}"), "the defaults of the table are those in force");
    }

    #[test]
    fn what_is_described_masks_secrets() {
        let settings = settings(&[
            ("QUOTAD_REDIS_URL", "redis://user:hunter2@localhost:6379/3"),
            ("QUOTAD_DATABASE_URL", "postgres://u:hunter2@localhost/q"),
            ("QUOTAD_JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2"),
            ("QUOTAD_WEBHOOK_URL", "https://ann:hunter2@h/x?token=hunter2"),
            ("QUOTAD_WEBHOOK_SECRET", "hunter2hunter2hunter2hunter2hunter2"),
        ])
        .unwrap();
        let text: String = settings.describe().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(text.contains("QUOTAD_SHARD_MAILBOX=16384"));
        assert_eq!(settings.redis.as_ref().map(|redis| redis.database), Some(3));
    }
}
