//! PostgreSQL, by tokio-postgres: no system library.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Text};
use diesel::{ConnectionError, ConnectionResult, sql_query};
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;

use super::DbError;
use super::flush::{FlushBatch, FlushOutcome};
use super::tls::Address;
use crate::domain::time::Timestamp;

/// The statements that both stores share, compiled for this connection.
#[path = "books.rs"]
#[allow(clippy::duplicate_mod, reason = "one text serves both kinds of connection")]
pub mod books;

/// Those about usage and counters.
#[path = "history.rs"]
#[allow(clippy::duplicate_mod, reason = "one text serves both kinds of connection")]
pub mod history;

pub type Connection = AsyncPgConnection;

/// Any number, as long as no other program locks by it: changes are committed in the order of their versions.
const CHANGES_LOCK: i64 = 0x7175_6f74_6164;

/// A pool of connections.
#[derive(Clone)]
pub struct Store {
    pool: Pool<Connection>,
}

impl Store {
    /// Reads the address; connects when it is first asked for a connection.
    pub fn new(url: &str, max_connections: usize) -> Result<Self, DbError> {
        let address = Address::parse(url)?;
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |_| {
            let address = address.clone();
            async move { establish(&address).await }.boxed()
        });
        let manager = AsyncDieselConnectionManager::new_with_config(url, config);
        let pool = Pool::builder(manager)
            .max_size(max_connections)
            .build()
            .map_err(|error| DbError::Address(error.to_string()))?;
        Ok(Self { pool })
    }

    pub async fn read(&self) -> Result<Object<Connection>, DbError> {
        self.pool.get().await.map_err(|error| DbError::Unreachable(error.to_string()))
    }

    pub async fn write(&self) -> Result<Object<Connection>, DbError> {
        self.read().await
    }

    /// Writes a batch by arrays: one statement a table, however many rows.
    pub async fn flush(&self, batch: &FlushBatch, now: Timestamp) -> Result<FlushOutcome, DbError> {
        let mut connection = self.write().await?;
        let outcome = connection
            .transaction(async |connection| {
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

async fn establish(address: &Address) -> ConnectionResult<Connection> {
    let refused = |error: tokio_postgres::Error| ConnectionError::BadConnection(in_words(&error));
    match &address.tls {
        None => {
            let (client, connection) = address.config.connect(tokio_postgres::NoTls).await.map_err(refused)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        }
        Some(tls) => {
            let tls = tokio_postgres_rustls::MakeRustlsConnect::new(rustls::ClientConfig::clone(tls));
            let (client, connection) = address.config.connect(tls).await.map_err(refused)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        }
    }
}

/// The driver's error with its cause, which its own text leaves out.
fn in_words(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Has changes wait for each other, so that a higher version is never seen before a lower one.
pub async fn order_changes(connection: &mut Connection) -> QueryResult<()> {
    sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(CHANGES_LOCK).execute(connection).await.map(drop)
}

async fn upsert_usage(connection: &mut Connection, batch: &FlushBatch) -> QueryResult<()> {
    if batch.usage.is_empty() {
        return Ok(());
    }
    let rows = &batch.usage;
    sql_query(
        "INSERT INTO usage (subject, hour, tier, requests, cost, denied) \
         SELECT * FROM UNNEST($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (subject, hour, tier) DO UPDATE SET \
         requests = usage.requests + excluded.requests, cost = usage.cost + excluded.cost, \
         denied = usage.denied + excluded.denied",
    )
    .bind::<Array<Text>, _>(rows.iter().map(|row| row.subject.as_str()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.hour).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(rows.iter().map(|row| row.tier.as_str()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.requests).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.cost).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.denied).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(drop)
}

async fn upsert_counters(connection: &mut Connection, batch: &FlushBatch) -> QueryResult<()> {
    if batch.counters.is_empty() {
        return Ok(());
    }
    let rows = &batch.counters;
    sql_query(
        "INSERT INTO counters (subject, state, whole_at) SELECT * FROM UNNEST($1, $2, $3) \
         ON CONFLICT (subject) DO UPDATE SET state = excluded.state, whole_at = excluded.whole_at",
    )
    .bind::<Array<Text>, _>(rows.iter().map(|row| row.subject.as_str()).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(rows.iter().map(|row| row.state.as_slice()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.whole_at).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(drop)
}
