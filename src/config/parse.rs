//! Finding a variable under its prefixes, and reading it or saying why not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::names::{Audience, NAMES};
use super::{Secret, SettingsError, shown};

/// The variables that are set.
pub struct Source<'a> {
    pub vars: &'a BTreeMap<String, String>,
}

impl Source<'_> {
    /// The variable that sets a name, and its value.
    pub fn find(&self, name: &str) -> Option<(String, &str)> {
        let known = NAMES.iter().find(|known| known.name == name)?;
        let prefixes: &[&str] = match known.audience {
            Audience::Quotad => &["QUOTAD_"],
            Audience::Both => &["QUOTAD_", "OMICS_"],
        };
        prefixes.iter().find_map(|prefix| {
            let variable = format!("{prefix}{name}");
            self.vars.get(&variable).map(|value| (variable, value.as_str()))
        })
    }

    /// Reads a name by `read`, or takes its default. A refusal says what is allowed.
    pub fn read<T>(
        &self,
        name: &str,
        default: T,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, SettingsError> {
        match self.find(name) {
            None => Ok(default),
            Some((variable, value)) => read(value).ok_or_else(|| not_allowed(name, variable, value, allowed)),
        }
    }

    /// Refuses a name that is set and can't act; an allowed use is said.
    pub fn must_be_unset(&self, name: &str, allowed: &str) -> Result<(), SettingsError> {
        self.find(name).map_or(Ok(()), |(variable, value)| Err(not_allowed(name, variable, value, allowed)))
    }

    /// Like [`Source::read`], without a default.
    pub fn optional<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        self.read(name, None, allowed, |value| read(value).map(Some))
    }

    /// A number within bounds, both of them allowed.
    pub fn number<T>(&self, name: &str, default: T, least: T, most: T) -> Result<T, SettingsError>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let allowed = format!("a number from {least} to {most}");
        self.read(name, default, &allowed, |text| {
            text.parse::<T>().ok().filter(|number| *number >= least && *number <= most)
        })
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, SettingsError> {
        self.read(name, default, "true or false", |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    /// Seconds, fractions allowed.
    pub fn seconds(&self, name: &str, default: f64) -> Result<Duration, SettingsError> {
        self.number(name, default, 0.001, 3600.0).map(Duration::from_secs_f64)
    }

    pub fn millis(&self, name: &str, default: u64, least: u64, most: u64) -> Result<Duration, SettingsError> {
        self.number(name, default, least, most).map(Duration::from_millis)
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.find(name).map(|(_, value)| value.to_owned())
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.find(name).map(|(_, value)| PathBuf::from(value))
    }

    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.find(name).map(|(_, value)| Secret::new(value))
    }
}

fn not_allowed(name: &str, variable: String, value: &str, allowed: &str) -> SettingsError {
    SettingsError::NotAllowed { variable, value: shown::masked(name, value), allowed: allowed.to_owned() }
}
