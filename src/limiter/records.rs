//! What the limiter asks of those who keep records, and tells them: accounts, running counters, usage. It works without any.

use std::error::Error;
use std::fmt;
use std::future::ready;

use futures_util::future::BoxFuture;

use crate::domain::account::Account;
use crate::domain::state::SubjectState;
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::persistence::messages::RecordUsage;

/// What is read, in time.
pub type Reading<T> = BoxFuture<'static, Result<Vec<T>, Unreadable>>;

/// The records can't be read now.
#[derive(Debug, thiserror::Error)]
#[error("the records can't be read")]
pub struct Unreadable(#[source] Box<dyn Error + Send + Sync>);

impl Unreadable {
    pub fn new(cause: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(cause))
    }
}

/// Where records are kept.
pub trait Records: fmt::Debug + Send + Sync {
    /// The accounts that there are of these users.
    fn accounts(&self, users: Vec<UserId>) -> Reading<Account>;

    /// The embedded counters that run at `now`, with all that was recorded before.
    fn counters(&self, now: Timestamp) -> Reading<(Subject, SubjectState)>;

    /// What each subject was charged in each tier since the top of an hour.
    fn costs_since(&self, since: Timestamp) -> Reading<(Subject, TierName, u64)>;

    /// Takes usage in. Must not wait.
    fn record(&self, recorded: RecordUsage);
}

/// No records: nobody has an account, and nothing is counted but in memory or in Redis.
#[derive(Debug, Clone, Copy)]
pub struct NoRecords;

impl Records for NoRecords {
    fn accounts(&self, _users: Vec<UserId>) -> Reading<Account> {
        nothing()
    }

    fn counters(&self, _now: Timestamp) -> Reading<(Subject, SubjectState)> {
        nothing()
    }

    fn costs_since(&self, _since: Timestamp) -> Reading<(Subject, TierName, u64)> {
        nothing()
    }

    fn record(&self, _recorded: RecordUsage) {}
}

fn nothing<T: Send + 'static>() -> Reading<T> {
    Box::pin(ready(Ok(Vec::new())))
}
