//! Who and what bodies and paths are about: subjects, tiers, slots.

use std::net::IpAddr;

use serde::Deserialize;

use super::error::Problem;
use crate::domain::lease::{LeaseAsk, LeaseKind};
use crate::domain::policy::Policy;
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::TierName;
use crate::domain::time::Period;
use crate::identity::Identity;
use crate::limiter;

/// A user id: a text, or a whole number taken as its decimal text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum UserText {
    Text(String),
    Unsigned(u64),
    Signed(i64),
}

/// Who is asked about: exactly one of a user and an address.
pub fn subject_of(identity: &Identity, user: Option<UserText>, ip: Option<&str>) -> Result<Subject, Problem> {
    match (user, ip) {
        (Some(user), None) => Ok(Subject::User(user.parse()?)),
        (None, Some(ip)) => parse_ip(identity, ip),
        _ => Err(Problem::invalid("user_id", "exactly one of user_id and ip is required")),
    }
}

/// A tier that there is.
pub fn known_tier(policy: &Policy, text: &str) -> Result<TierName, Problem> {
    let tier = TierName::parse(text).map_err(|error| Problem::invalid("tier", error.to_string()))?;
    if policy.has_tier(&tier) { Ok(tier) } else { Err(Problem::invalid("tier", "there is no such tier")) }
}

impl UserText {
    fn parse(self) -> Result<UserId, Problem> {
        let text = match self {
            UserText::Text(text) => text,
            UserText::Unsigned(number) => number.to_string(),
            UserText::Signed(number) => number.to_string(),
        };
        UserId::parse(&text).map_err(|error| Problem::invalid("user_id", error.to_string()))
    }
}

/// An address, or the IPv6 prefix that a subject is written as.
pub fn parse_ip(identity: &Identity, text: &str) -> Result<Subject, Problem> {
    let invalid = || Problem::invalid("ip", "must be an IPv4 or IPv6 address");
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(identity.subject_of(address)),
        Err(_) => Subject::parse(&format!("ip:{text}")).map_err(|_| invalid()),
    }
}

pub fn user_id(text: &str) -> Result<UserId, Problem> {
    UserId::parse(text).map_err(|error| Problem::invalid("user_id", error.to_string()))
}

/// A wish for a slot that lasts so long.
pub fn lease_ask(kind: LeaseKind, lasts: Period) -> Result<LeaseAsk, Problem> {
    let wish = limiter::wish_for_lease(lasts)
        .map_err(|error| Problem::unavailable("no lease can be made now").caused_by(error))?;
    Ok(LeaseAsk { kind, wish })
}
