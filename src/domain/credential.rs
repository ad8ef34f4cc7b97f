//! API keys and roles, as they are kept.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::subject::UserId;
use super::time::Timestamp;

/// What a credential may do: a `user` reads its own quota, a `service` checks for anyone, an `admin` does all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Service,
    Admin,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Service => "service",
            Role::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Role::User, Role::Service, Role::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// The public part of an API key: 8 to 32 of `a-z 0-9`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct KeyId(CompactString);

impl KeyId {
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        ((8..=32).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(CompactString::from(text)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    pub id: KeyId,
    pub name: String,
    pub role: Role,
    /// Whom the key speaks for, where it speaks for one user.
    pub user_id: Option<UserId>,
    pub secret_sha256: [u8; 32],
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// As far as instances have written it: each does so once a minute.
    pub last_used_at: Option<Timestamp>,
    /// The key that was made to take its place.
    pub successor: Option<KeyId>,
}

/// A key that takes the place of another; both hold for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRotation {
    pub old: KeyId,
    /// The latest end of the old one.
    pub old_ends_at: Timestamp,
    pub new: KeyId,
    pub secret_sha256: [u8; 32],
}

/// What became of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRotated {
    To(ApiKeyRecord),
    /// It was rotated before, to this one: a second successor would end when the old key does.
    Before(KeyId),
    /// There is no such key that still holds.
    Absent,
}

impl ApiKeyRecord {
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}
