//! Keeping history: usage is gathered, merged and written at intervals; what an administrator changes is written at once.

mod actor;
mod ledger;
pub mod messages;

use std::sync::{Arc, Mutex, PoisonError};

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::config::DatabaseSettings;
use crate::db::{Database, DbError};
use crate::domain::account::{Account, QuotaOverride};
use crate::domain::credential::{ApiKeyRecord, KeyId};
use crate::domain::limit::LimitName;
use crate::domain::report::{AuditEntry, Author, Granularity, HistoryItem, UsageReport};
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;

use actor::PersistenceActor;
use messages::{Close, Flush, RecordUsage};

#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("usage can't be written now: {0}")]
    NotFlushed(String),
    #[error("the keeper of the books has stopped")]
    Stopped,
}

/// How the books are doing.
#[derive(Debug, Clone, Default)]
pub struct BooksStats {
    /// Usage rows that wait for the database.
    pub pending_rows: usize,
    /// When the last flush landed.
    pub flushed_at: Option<Timestamp>,
    /// Since the start of the process, as all that follow.
    pub flushes: u64,
    pub failures: u64,
    pub rows_flushed: u64,
    /// Rows that the database refused.
    pub set_aside: u64,
    /// Rows that were merged into coarser ones because too many waited.
    pub coarsened: u64,
    /// Of the last flush, where it failed.
    pub last_error: Option<String>,
}

/// Statistics that the actor writes and anyone reads.
pub type SharedStats = Arc<Mutex<BooksStats>>;

/// The handle to the books. Clones share them.
#[derive(Debug, Clone)]
pub struct Books {
    actor: Addr<PersistenceActor>,
    database: Database,
    clock: Clock,
    stats: SharedStats,
}

impl Books {
    /// Starts the actor on a thread of its own. `instance` names this process among all that write.
    pub fn start(database: Database, settings: &DatabaseSettings, clock: Clock, instance: String) -> Self {
        let stats = SharedStats::default();
        let parts = (database.clone(), settings.clone(), clock.clone(), Arc::clone(&stats));
        let actor = PersistenceActor::start_in_arbiter(&Arbiter::new().handle(), move |_| {
            let (database, settings, clock, stats) = parts;
            PersistenceActor::new(database, &settings, clock, stats, instance)
        });
        Self { actor, database, clock, stats }
    }

    /// Where usage is sent. It is merged on arrival, so that what waits is bounded.
    pub fn recorder(&self) -> Recipient<RecordUsage> {
        self.actor.clone().recipient()
    }

    /// All usage that was recorded before is in the database when this returns.
    pub async fn flush(&self) -> Result<(), BooksError> {
        let (reply, done) = oneshot::channel();
        self.actor.do_send(Flush { reply });
        done.await.map_err(|_| BooksError::Stopped)?.map_err(BooksError::NotFlushed)
    }

    /// Writes what waits, and stops.
    pub async fn close(&self) -> Result<(), BooksError> {
        let flushed = self.flush().await;
        self.actor.send(Close).await.map_err(|_| BooksError::Stopped)?;
        flushed
    }

    pub fn stats(&self) -> BooksStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), BooksError> {
        Ok(self.database.ping().await?)
    }

    /// The user as the database has it now.
    pub async fn account(&self, user: &UserId) -> Result<Account, BooksError> {
        let found = self.database.load_accounts(std::slice::from_ref(user)).await?;
        Ok(found.into_iter().next().unwrap_or_else(|| Account::unknown(user.clone())))
    }

    pub async fn put_override(
        &self,
        user: &UserId,
        quota_override: &QuotaOverride,
        author: &Author,
    ) -> Result<(), BooksError> {
        Ok(self.database.put_override(user, quota_override, author, self.clock.now()).await?)
    }

    /// Whether there was one.
    pub async fn delete_override(&self, user: &UserId, author: &Author) -> Result<bool, BooksError> {
        Ok(self.database.delete_override(user, author, self.clock.now()).await?)
    }

    pub async fn put_user_tier(
        &self,
        user: &UserId,
        tier: Option<&TierName>,
        author: &Author,
    ) -> Result<(), BooksError> {
        Ok(self.database.put_user_tier(user, tier, author, self.clock.now()).await?)
    }

    /// Leaves a mark in the audit; `None` is all limits.
    pub async fn note_reset(
        &self,
        subject: &Subject,
        limits: Option<&[LimitName]>,
        author: &Author,
    ) -> Result<(), BooksError> {
        let limits = limits.map_or(serde_json::Value::Null, |names| {
            names.iter().map(|name| serde_json::Value::from(name.as_str())).collect()
        });
        Ok(self.database.note_reset(subject, &limits, author, self.clock.now()).await?)
    }

    pub async fn insert_key(&self, key: &ApiKeyRecord, author: &Author) -> Result<(), BooksError> {
        Ok(self.database.insert_key(key, author).await?)
    }

    /// Every key, revoked and expired ones too, oldest first.
    pub async fn list_keys(&self) -> Result<Vec<ApiKeyRecord>, BooksError> {
        Ok(self.database.list_keys().await?)
    }

    /// Whether there was one that still held.
    pub async fn revoke_key(&self, id: &KeyId, author: &Author) -> Result<bool, BooksError> {
        Ok(self.database.revoke_key(id, author, self.clock.now()).await?)
    }

    /// A subject's usage, what is not written yet included. `to` is exclusive.
    pub async fn history(
        &self,
        subject: &Subject,
        granularity: Granularity,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<HistoryItem>, BooksError> {
        self.flush().await?;
        Ok(self.database.history(subject, granularity, from, to).await?)
    }

    /// The whole system's usage since `start`, what is not written yet included.
    pub async fn usage_report(&self, start: Timestamp, top: u32) -> Result<UsageReport, BooksError> {
        self.flush().await?;
        Ok(self.database.usage_report(start, top).await?)
    }

    /// The newest changes first; `before` is an id to page on from.
    pub async fn audit(&self, limit: u32, before: Option<i64>) -> Result<Vec<AuditEntry>, BooksError> {
        Ok(self.database.audit(limit, before).await?)
    }
}
