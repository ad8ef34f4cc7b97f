//! The embedded database: one writer, several readers, a write-ahead log.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel::{SqliteConnection, sql_query};
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::FutureExt;

use super::DbError;
use super::flush::{FlushBatch, FlushOutcome};
use crate::domain::time::Timestamp;

/// The statements that both stores share, compiled for this connection.
#[path = "books.rs"]
#[allow(clippy::duplicate_mod, reason = "one text serves both kinds of connection")]
pub mod books;

/// Those about usage and counters.
#[path = "history.rs"]
#[allow(clippy::duplicate_mod, reason = "one text serves both kinds of connection")]
pub mod history;

pub type Connection = SyncConnectionWrapper<SqliteConnection>;

/// Readers go on while the writer writes. `NORMAL` may lose the last transactions in a power cut, never in a crash of
/// the process, and never tears one. The pause lets another process finish its write.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000; \
                       PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;";

/// One connection that writes, and others that read.
#[derive(Clone)]
pub struct Store {
    writer: Pool<Connection>,
    readers: Pool<Connection>,
}

impl Store {
    /// Makes the folder of the file; opens it when it is first asked for a connection.
    pub fn new(path: &Path, max_connections: usize) -> Result<Self, DbError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| DbError::Address(format!("cannot make {}: {error}", folder.display())))?;
        }
        let url = path.to_string_lossy();
        let pool = |size: usize| {
            let mut config = ManagerConfig::default();
            config.custom_setup = Box::new(|url: &str| {
                let url = url.to_owned();
                async move {
                    let mut connection = Connection::establish(&url).await?;
                    connection
                        .batch_execute(PRAGMAS)
                        .await
                        .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
                    Ok(connection)
                }
                .boxed()
            });
            Pool::builder(AsyncDieselConnectionManager::new_with_config(url.as_ref(), config))
                .max_size(size)
                .build()
                .map_err(|error| DbError::Address(error.to_string()))
        };
        Ok(Self { writer: pool(1)?, readers: pool(max_connections)? })
    }

    pub async fn read(&self) -> Result<Object<Connection>, DbError> {
        self.readers.get().await.map_err(|error| DbError::Unreachable(error.to_string()))
    }

    pub async fn write(&self) -> Result<Object<Connection>, DbError> {
        self.writer.get().await.map_err(|error| DbError::Unreachable(error.to_string()))
    }

    /// Writes a batch as one JSON text a table: one statement and one bind, however many rows.
    pub async fn flush(&self, batch: &FlushBatch, now: Timestamp) -> Result<FlushOutcome, DbError> {
        let mut connection = self.write().await?;
        let outcome = connection
            .immediate_transaction(async |connection| {
                if !history::advance_cursor(connection, &batch.instance, batch.sequence, now).await? {
                    return Ok(FlushOutcome::AlreadyApplied);
                }
                upsert_usage(connection, batch).await?;
                upsert_counters(connection, batch).await?;
                Ok::<_, diesel::result::Error>(FlushOutcome::Applied)
            })
            .await?;
        Ok(outcome)
    }
}

/// The one writer orders changes by itself.
pub async fn order_changes(_connection: &mut Connection) -> QueryResult<()> {
    Ok(())
}

async fn upsert_usage(connection: &mut Connection, batch: &FlushBatch) -> QueryResult<()> {
    let rows: Vec<_> =
        batch.usage.iter().map(|row| (&row.subject, row.hour, &row.tier, row.requests, row.cost, row.denied)).collect();
    // `WHERE true` tells the parser that ON CONFLICT does not belong to a join.
    sql_query(
        "INSERT INTO usage (subject, hour, tier, requests, cost, denied) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(?) \
         WHERE true ON CONFLICT (subject, hour, tier) DO UPDATE SET \
         requests = requests + excluded.requests, cost = cost + excluded.cost, denied = denied + excluded.denied",
    )
    .bind::<Text, _>(json(&rows)?)
    .execute(connection)
    .await
    .map(drop)
}

async fn upsert_counters(connection: &mut Connection, batch: &FlushBatch) -> QueryResult<()> {
    if batch.counters.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = batch.counters.iter().map(|row| (&row.subject, hex::encode(&row.state), row.whole_at)).collect();
    sql_query(
        "INSERT INTO counters (subject, state, whole_at) \
         SELECT value ->> 0, unhex(value ->> 1), value ->> 2 FROM json_each(?) \
         WHERE true ON CONFLICT (subject) DO UPDATE SET state = excluded.state, whole_at = excluded.whole_at",
    )
    .bind::<Text, _>(json(&rows)?)
    .execute(connection)
    .await
    .map(drop)
}

fn json<T: serde::Serialize>(rows: &T) -> QueryResult<String> {
    serde_json::to_string(rows).map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))
}
