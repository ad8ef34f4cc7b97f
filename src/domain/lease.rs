//! Leases: a subject holds so many slots at once, each until it is released or expires by the server's time.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::limit::LimitName;
use super::subject::Subject;
use super::time::{Period, Timestamp};

/// How long a lease lasts that was taken by a check.
pub const LEASE_OF_A_CHECK: Period = Period::from_seconds(60);

/// The longest time that a lease may be taken or renewed for.
pub const LEASE_MAX_SECONDS: u64 = 86_400;

/// What a slot is for. Each has its own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseKind {
    /// A request that is being answered.
    Request,
    /// A WebSocket that is open.
    Websocket,
}

impl LeaseKind {
    pub const ALL: [LeaseKind; 2] = [LeaseKind::Request, LeaseKind::Websocket];

    pub const fn as_str(self) -> &'static str {
        match self {
            LeaseKind::Request => "request",
            LeaseKind::Websocket => "websocket",
        }
    }

    /// What a check is denied by where none is free.
    pub fn denied_by(self) -> LimitName {
        match self {
            LeaseKind::Request => LimitName::concurrent_requests(),
            LeaseKind::Websocket => LimitName::concurrent_websockets(),
        }
    }
}

/// One slot that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub kind: LeaseKind,
    /// 128 random bits: who knows them holds the slot.
    pub secret: u128,
    pub expires_at: Timestamp,
}

/// Where a lease stands among those of its subject: by its end, its kind, its secret.
pub type LeasePlace = (Timestamp, LeaseKind, u128);

impl Lease {
    pub const fn place(&self) -> LeasePlace {
        (self.expires_at, self.kind, self.secret)
    }
}

/// A slot that a check asks for, or about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAsk {
    pub kind: LeaseKind,
    pub wish: LeaseWish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseWish {
    /// Take one for so long, under this secret, or be denied.
    Take { secret: u128, lasts: Period },
    /// Be denied where none is free.
    Look,
    /// Say how many are held.
    Count,
}

impl LeaseAsk {
    /// What is asked of the counters: a dry run takes nothing.
    #[must_use]
    pub const fn without_trace(self) -> Self {
        match self.wish {
            LeaseWish::Take { .. } => Self { wish: LeaseWish::Look, ..self },
            LeaseWish::Look | LeaseWish::Count => self,
        }
    }

    /// The secret under which a slot is to be taken, and for how long.
    pub const fn taken(&self) -> Option<(u128, Period)> {
        match self.wish {
            LeaseWish::Take { secret, lasts } => Some((secret, lasts)),
            LeaseWish::Look | LeaseWish::Count => None,
        }
    }
}

/// What becomes of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeLease {
    /// Held until then, whoever is in its way: it was granted already.
    Hold(Timestamp),
    /// Renewed for so long, where it is held.
    Renew(Period),
    /// Given back, where it is held.
    Release,
}

/// A lease's name outside: its kind, its secret, and whose it is, so that every instance can find it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseId {
    pub kind: LeaseKind,
    pub secret: u128,
    pub subject: Subject,
}

impl LeaseId {
    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(1)?;
        let (secret, subject) = rest.split_once('-')?;
        let kind = match kind {
            "r" => LeaseKind::Request,
            "w" => LeaseKind::Websocket,
            _ => return None,
        };
        let secret = u128::from_str_radix(Some(secret).filter(|hex| hex.len() == 32)?, 16).ok()?;
        let escaped = subject.replace('~', "%");
        let subject = Subject::parse(&percent_decode_str(&escaped).decode_utf8().ok()?).ok()?;
        let id = Self { kind, secret, subject };
        // A lease has one id: other ways of writing the same are none.
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            LeaseKind::Request => 'r',
            LeaseKind::Websocket => 'w',
        };
        // Nothing in it that a path or a proxy would read: letters, digits, '-' and '~'.
        let subject = utf8_percent_encode(&self.subject.to_string(), NON_ALPHANUMERIC).to_string().replace('%', "~");
        write!(f, "{kind}{:032x}-{subject}", self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::UserId;

    #[test]
    fn an_id_is_read_as_it_is_written_whatever_the_user_is_called() {
        for user in ["42", "a b/c?d#e%f~g-h", "ü{}:*"] {
            let subject = Subject::User(UserId::parse(user).unwrap());
            let id = LeaseId { kind: LeaseKind::Websocket, secret: 7, subject };
            let text = id.to_string();
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'~'), "{text}");
            assert_eq!(LeaseId::parse(&text), Some(id));
        }
        for text in ["", "x", "rzz-user~3A42", "r7-user~3A42", "ü00000000000000000000000000000007-user~3A42"]
            .into_iter()
            .chain(["r+0000000000000000000000000000007-user~3A42", "r00000000000000000000000000000007-user~3A~34"])
        {
            assert_eq!(LeaseId::parse(text), None);
        }
    }
}
