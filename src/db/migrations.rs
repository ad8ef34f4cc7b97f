//! Bringing the tables up to date, from the folders `migrations/sqlite` and `migrations/postgres`, which are in the binary.

use diesel::SqliteConnection;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::error::{DbError, is_locked};
use super::{postgres, sqlite};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The advisory lock that an instance holds while it migrates: "quotad" in ASCII.
const LOCK: i64 = 0x7175_6f74_6164;

/// How often the lock of the SQLite file is asked for, five seconds each: ten minutes for another process to migrate.
const SQLITE_TRIES: usize = 120;

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(super) async fn migrate_sqlite(repository: sqlite::Repository) -> Result<(), DbError> {
    let mut connection = repository.write().get().await.map_err(unreachable)?;
    for _ in 0..SQLITE_TRIES {
        // The write lock is taken first, so a second process waits for the first to finish and finds nothing left to do.
        let migrated = connection.spawn_blocking(|connection: &mut SqliteConnection| {
            Ok(connection.immediate_transaction(|connection| {
                connection.run_pending_migrations(SQLITE).map(|_| ()).map_err(InTransaction::Migration)
            }))
        });
        match migrated.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(InTransaction::Migration(source))) => return Err(DbError::Migration { source }),
            Ok(Err(InTransaction::Query(error))) if is_locked(&error) => {
                tracing::info!(
                    "another process holds the database; waiting for it before the tables are brought up to date"
                );
            }
            Ok(Err(InTransaction::Query(error))) | Err(error) => {
                return Err(DbError::Migration { source: Box::new(error) });
            }
        }
    }
    Err(DbError::Migration { source: "another process holds the database".into() })
}

pub(super) async fn migrate_postgres(repository: postgres::Repository) -> Result<(), DbError> {
    let mut connection = repository.open().await.map_err(unreachable)?;
    diesel::sql_query("SELECT pg_advisory_lock($1)")
        .bind::<BigInt, _>(LOCK)
        .execute(&mut connection)
        .await
        .map_err(|error| DbError::from_query("migrate", error))?;
    // Diesel's harness blocks. The lock is the connection's: it goes with it, however the migrations end.
    let migrated = tokio::task::spawn_blocking(move || {
        let mut connection: AsyncConnectionWrapper<postgres::Connection> = connection.into();
        connection.run_pending_migrations(POSTGRES).map(|_| ())
    });
    match migrated.await {
        Ok(result) => result.map_err(|source| DbError::Migration { source }),
        Err(panicked) => Err(DbError::Migration { source: Box::new(panicked) }),
    }
}

fn unreachable(error: impl std::error::Error + Send + Sync + 'static) -> DbError {
    DbError::Unreachable { operation: "migrate", source: Box::new(error) }
}

enum InTransaction {
    Migration(Failure),
    Query(diesel::result::Error),
}

impl From<diesel::result::Error> for InTransaction {
    fn from(error: diesel::result::Error) -> Self {
        InTransaction::Query(error)
    }
}
