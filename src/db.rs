//! The database: SQLite beside the service, or PostgreSQL. The only module that names Diesel.
//!
//! Every operation runs on a runtime of the database's own, so that connections outlive the threads that asked for them
//! and the last flush finds them alive.

mod flush;
mod migrations;
mod postgres;
pub mod rows;
mod schema;
mod sqlite;
pub mod state;
mod tls;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::config::{DatabaseLocation, DatabaseSettings};
use crate::domain::account::{Account, QuotaOverride};
use crate::domain::credential::{ApiKeyRecord, KeyId};
use crate::domain::report::{AuditEntry, Author, Changes, Granularity, HistoryItem, UsageReport};
use crate::domain::state::SubjectState;
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;

pub use flush::{CounterRow, FlushBatch, FlushOutcome, UsageRow};

/// No operation is waited for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Threads that drive connections; queries themselves wait on the database.
const DRIVERS: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("the database can't be reached: {0}")]
    Unreachable(String),
    #[error("the database did not answer within {} s", PATIENCE.as_secs())]
    Late,
    /// The database understood and refused: asking again would not help.
    #[error("the database refuses: {0}")]
    Refused(#[source] diesel::result::Error),
    #[error("the statement failed: {0}")]
    Failed(#[source] diesel::result::Error),
    #[error("the migrations failed: {0}")]
    Migration(String),
    #[error("DATABASE_URL: {0}")]
    Address(String),
    #[error("cannot start the database's threads")]
    Threads(#[source] io::Error),
}

impl From<diesel::result::Error> for DbError {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind as Kind, Error};
        match error {
            Error::DatabaseError(Kind::ClosedConnection | Kind::UnableToSendCommand, _) => {
                DbError::Unreachable(error.to_string())
            }
            Error::DatabaseError(Kind::SerializationFailure | Kind::ReadOnlyTransaction, _) => DbError::Failed(error),
            Error::DatabaseError(..) | Error::SerializationError(_) => DbError::Refused(error),
            _ => DbError::Failed(error),
        }
    }
}

/// One of the two kinds of store.
#[derive(Clone)]
enum Store {
    Sqlite(sqlite::Store),
    Postgres(postgres::Store),
}

/// The handle to the database. Clones share its connections.
#[derive(Clone)]
pub struct Database {
    store: Store,
    runtime: Arc<Threads>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.store {
            Store::Sqlite(_) => "Database(SQLite)",
            Store::Postgres(_) => "Database(PostgreSQL)",
        })
    }
}

/// The runtime, in a form that may be dropped from within another.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs one of the statements that both stores share, on a connection of the store that is in use.
macro_rules! on_store {
    ($self:ident, $access:ident, $room:ident::$statement:ident($($argument:expr),*)) => {
        match $self.store.clone() {
            Store::Sqlite(store) => {
                let work = async move {
                    let mut connection = store.$access().await?;
                    Ok(sqlite::$room::$statement(&mut connection, $($argument),*).await?)
                };
                $self.run(work).await
            }
            Store::Postgres(store) => {
                let work = async move {
                    let mut connection = store.$access().await?;
                    Ok(postgres::$room::$statement(&mut connection, $($argument),*).await?)
                };
                $self.run(work).await
            }
        }
    };
}

impl Database {
    /// Makes the handle; connects when something is asked.
    pub fn connect(settings: &DatabaseSettings) -> Result<Self, DbError> {
        let store = match &settings.location {
            DatabaseLocation::Sqlite { path } => Store::Sqlite(sqlite::Store::new(path, settings.max_connections)?),
            DatabaseLocation::Postgres { url } => {
                Store::Postgres(postgres::Store::new(url.expose(), settings.max_connections)?)
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(DRIVERS)
            .thread_name("quotad-db")
            .enable_all()
            .build()
            .map_err(DbError::Threads)?;
        Ok(Self { store, runtime: Arc::new(Threads(Some(runtime))) })
    }

    /// Brings the schema to this version's. Instances that start at once wait for each other.
    pub async fn migrate(&self) -> Result<(), DbError> {
        match self.store.clone() {
            Store::Sqlite(store) => self.run(migrations::sqlite(store)).await,
            Store::Postgres(store) => self.run(migrations::postgres(store)).await,
        }
    }

    pub async fn ping(&self) -> Result<(), DbError> {
        on_store!(self, read, books::ping())
    }

    /// The accounts of those users who have an entry or an override.
    pub async fn load_accounts(&self, users: &[UserId]) -> Result<Vec<Account>, DbError> {
        let users: Vec<String> = users.iter().map(ToString::to_string).collect();
        on_store!(self, read, books::load_accounts(&users))
    }

    pub async fn put_override(
        &self,
        user: &UserId,
        quota_override: &QuotaOverride,
        author: &Author,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let (user, row, author) = (user.to_string(), quota_override.clone(), author.clone());
        on_store!(self, write, books::put_override(&user, &row, &author, now))
    }

    /// Whether there was one.
    pub async fn delete_override(&self, user: &UserId, author: &Author, now: Timestamp) -> Result<bool, DbError> {
        let (user, author) = (user.to_string(), author.clone());
        on_store!(self, write, books::delete_override(&user, &author, now))
    }

    /// `None` leaves the tier to the user's token.
    pub async fn put_user_tier(
        &self,
        user: &UserId,
        tier: Option<&TierName>,
        author: &Author,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let (user, tier, author) = (user.to_string(), tier.map(ToString::to_string), author.clone());
        on_store!(self, write, books::put_user_tier(&user, tier.as_deref(), &author, now))
    }

    /// Leaves a mark that a subject was reset, in the audit and for other instances.
    pub async fn note_reset(
        &self,
        subject: &Subject,
        limits: &serde_json::Value,
        author: &Author,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let (subject, limits, author) = (subject.clone(), limits.clone(), author.clone());
        on_store!(self, write, books::note_reset(&subject, &limits, &author, now))
    }

    pub async fn insert_key(&self, key: &ApiKeyRecord, author: &Author) -> Result<(), DbError> {
        let (key, author) = (key.clone(), author.clone());
        on_store!(self, write, books::insert_key(&key, &author))
    }

    /// Every key, revoked and expired ones too, oldest first.
    pub async fn list_keys(&self) -> Result<Vec<ApiKeyRecord>, DbError> {
        on_store!(self, read, books::list_keys())
    }

    /// Whether there was one that still held.
    pub async fn revoke_key(&self, id: &KeyId, author: &Author, now: Timestamp) -> Result<bool, DbError> {
        let (id, author) = (id.to_string(), author.clone());
        on_store!(self, write, books::revoke_key(&id, &author, now))
    }

    /// What was changed by any instance after `version`.
    pub async fn changes_since(&self, version: i64) -> Result<Changes, DbError> {
        on_store!(self, read, books::changes_since(version))
    }

    /// Writes a batch and its number in one transaction. A number that was written before is not written again.
    pub async fn flush(&self, batch: Arc<FlushBatch>, now: Timestamp) -> Result<FlushOutcome, DbError> {
        match self.store.clone() {
            Store::Sqlite(store) => self.run(async move { store.flush(&batch, now).await }).await,
            Store::Postgres(store) => self.run(async move { store.flush(&batch, now).await }).await,
        }
    }

    /// The counters that still say something at `now`.
    pub async fn load_counters(&self, now: Timestamp) -> Result<Vec<(Subject, SubjectState)>, DbError> {
        on_store!(self, read, history::load_counters(now))
    }

    /// `to` is exclusive.
    pub async fn history(
        &self,
        subject: &Subject,
        granularity: Granularity,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<HistoryItem>, DbError> {
        let subject = subject.to_string();
        on_store!(self, read, history::history(&subject, granularity, from, to))
    }

    /// Usage since `start`, with the `top` subjects by cost.
    pub async fn usage_report(&self, start: Timestamp, top: u32) -> Result<UsageReport, DbError> {
        on_store!(self, read, history::usage_report(start, top))
    }

    /// Removes what is older than any retention: usage before `oldest`, and marks that nobody needs any more.
    pub async fn remove_before(&self, oldest: Timestamp, now: Timestamp) -> Result<usize, DbError> {
        on_store!(self, write, history::remove_before(oldest, now))
    }

    /// The newest entries first; `before` is an id to page on from.
    pub async fn audit(&self, limit: u32, before: Option<i64>) -> Result<Vec<AuditEntry>, DbError> {
        on_store!(self, read, books::audit(limit, before))
    }

    async fn run<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbError>> + Send + 'static,
    {
        let Some(runtime) = &self.runtime.0 else { return Err(DbError::Late) };
        let bounded = async move { tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(DbError::Late)) };
        // The task ends early only where it panicked.
        runtime.spawn(bounded).await.unwrap_or_else(|error| Err(DbError::Unreachable(error.to_string())))
    }
}
