//! The databases that a bench runs on: SQLite in a temporary folder, and PostgreSQL where QUOTAD_TEST_POSTGRES_URL names
//! one (`scripts/with-postgres` starts one), whose database `postgres` is then filled.

use std::time::Duration;

use quotad::config::{DatabaseLocation, DatabaseSettings, Secret};
use quotad::db::Database;
use tempfile::TempDir;

pub struct Home {
    pub database: Database,
    _folder: Option<TempDir>,
}

/// Each empty, with its tables.
pub async fn all() -> Vec<Home> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sqlite = DatabaseLocation::Sqlite { path: folder.path().join("quotad.db") };
    let mut homes = vec![home(sqlite, Some(folder)).await];
    if let Ok(url) = std::env::var("QUOTAD_TEST_POSTGRES_URL") {
        homes.push(home(DatabaseLocation::Postgres { url: Secret::new(&url) }, None).await);
    }
    homes
}

async fn home(location: DatabaseLocation, folder: Option<TempDir>) -> Home {
    let settings = DatabaseSettings {
        location,
        max_connections: 4,
        flush_interval: Duration::from_secs(1),
        history_retention_days: 400,
    };
    let database = Database::connect(&settings).expect("settings that can be read");
    database.migrate().await.expect("a database");
    Home { database, _folder: folder }
}
