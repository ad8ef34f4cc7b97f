//! The database: accounts, keys, changes, audit, usage and counters, on SQLite or PostgreSQL. Only this module names Diesel.
//!
//! One file a table family. What both databases say alike is written once and expanded for each ([`both`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config::{DatabaseLocation, DatabaseSettings};
use runtime::OwnRuntime;

#[macro_use]
mod both;

mod accounts;
mod audit;
mod changes;
mod copy;
mod costs;
mod counters;
mod error;
mod flush;
mod flush_batch;
mod flush_postgres;
mod flush_rows;
mod flush_sqlite;
mod history;
mod keys;
mod lists;
mod migrations;
mod policy;
mod pool;
mod postgres;
mod postgres_address;
mod postgres_tls;
mod report;
mod retention;
mod rollup;
mod runtime;
mod schema;
mod sqlite;
mod state_codec;
mod webhooks;

pub use changes::Changes;
pub use copy::CopiedTable;
pub use error::DbError;
pub use flush_batch::{FlushBatch, FlushOutcome, OverflowKey, RefusedRow, SubjectKind};

/// How long a statement may take, with the wait for a connection.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(5);

/// How long a flush may take. It may be tens of thousands of rows on a busy disk, and nobody waits for it.
const FLUSH_DEADLINE: Duration = Duration::from_secs(30);

/// The database that the settings name. Clones share its connections.
///
/// Its work runs on a small runtime of its own: a PostgreSQL connection is driven by the runtime that opened it, and the
/// connections are used by all HTTP workers and shards, and after those have stopped. An operation that was begun goes
/// on to its end even where its caller no longer waits, so a transaction is never left open halfway.
#[derive(Clone)]
pub struct Database {
    repository: Repository,
    runtime: Arc<OwnRuntime>,
    /// Flushes run here, with less priority than all that somebody waits for.
    background: Arc<OwnRuntime>,
}

#[derive(Clone)]
enum Repository {
    Sqlite(sqlite::Repository),
    Postgres(postgres::Repository),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({})", self.kind())
    }
}

impl Database {
    /// Reads the settings and makes an empty pool: no connection is opened, so the server need not be up.
    ///
    /// # Errors
    /// An address that can't be read, a certificate file that can't, or a folder that can't be made.
    pub fn connect(settings: &DatabaseSettings) -> Result<Self, DbError> {
        let background = OwnRuntime::background()?;
        let repository = match &settings.location {
            DatabaseLocation::Sqlite { path } => {
                Repository::Sqlite(sqlite::Repository::new(path, settings.max_connections, &background)?)
            }
            DatabaseLocation::Postgres { url } => {
                Repository::Postgres(postgres::Repository::new(url.expose(), settings.max_connections)?)
            }
        };
        Ok(Self { repository, runtime: Arc::new(OwnRuntime::foreground()?), background: Arc::new(background) })
    }

    /// Brings the tables up to date. Any number of instances may do so at once: one does the work, the others wait for it.
    pub async fn migrate(&self) -> Result<(), DbError> {
        let work: BoxFuture<'static, Result<(), DbError>> = match self.repository.clone() {
            Repository::Sqlite(repository) => Box::pin(migrations::migrate_sqlite(repository)),
            Repository::Postgres(repository) => Box::pin(migrations::migrate_postgres(repository)),
        };
        self.runtime.finish("migrate", work).await
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), DbError> {
        on!(self, read, "ping", audit::ping())
    }

    /// `sqlite` or `postgres`.
    pub const fn kind(&self) -> &'static str {
        match self.repository {
            Repository::Sqlite(_) => "sqlite",
            Repository::Postgres(_) => "postgres",
        }
    }
}
