//! Bringing the schema up to date. The migrations are in the binary.

use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{DbError, postgres, sqlite};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Any number, as long as no other program locks by it.
const MIGRATION_LOCK: i64 = 0x7175_6f74_6164_6d69;

/// Diesel's harness blocks, and takes no lock of its own: instances that start at once queue at ours.
pub async fn postgres(store: postgres::Store) -> Result<(), DbError> {
    let mut connection = diesel_async::pooled_connection::deadpool::Object::take(store.write().await?);
    diesel::sql_query("SELECT pg_advisory_lock($1)")
        .bind::<diesel::sql_types::BigInt, _>(MIGRATION_LOCK)
        .execute(&mut connection)
        .await?;
    // The connection is closed afterwards, and the lock with it.
    in_words(tokio::task::spawn_blocking(move || {
        let mut connection = AsyncConnectionWrapper::<postgres::Connection>::from(connection);
        connection.run_pending_migrations(POSTGRES).map(drop).map_err(|error| error.to_string())
    }))
    .await
}

/// An exclusive transaction is the lock: another process waits for as long as `busy_timeout`.
pub async fn sqlite(store: sqlite::Store) -> Result<(), DbError> {
    let mut connection = store.write().await?;
    connection.batch_execute("BEGIN EXCLUSIVE; COMMIT;").await?;
    in_words(connection.spawn_blocking(|connection| {
        Ok::<_, diesel::result::Error>(connection.run_pending_migrations(SQLITE).map(drop).map_err(|e| e.to_string()))
    }))
    .await
}

async fn in_words<T, E: std::fmt::Display>(
    work: impl Future<Output = Result<Result<T, String>, E>>,
) -> Result<T, DbError> {
    work.await.map_err(|error| DbError::Migration(error.to_string()))?.map_err(DbError::Migration)
}
