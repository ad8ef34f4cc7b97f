//! One suite of the database and of persistence, run on SQLite and on PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use quotad::clock::Clock;
use quotad::config::{DatabaseLocation, DatabaseSettings};
use quotad::db::{Database, DbError, FlushBatch, FlushOutcome, OverflowKey, SubjectKind};
use quotad::domain::account::{Account, QuotaOverride, UserEntry};
use quotad::domain::credential::{ApiKeyRecord, KeyId, KeyRotated, KeyRotation, Role};
use quotad::domain::limit::SlotId;
use quotad::domain::report::{Author, Granularity, HistoryItem, HistoryRange, ReportOrder};
use quotad::domain::revision::Expectation;
use quotad::domain::state::{Slot, SubjectState};
use quotad::domain::subject::{ClientAddress, Subject, UserId};
use quotad::domain::tier::TierName;
use quotad::domain::time::Timestamp;
use quotad::domain::usage::{Usage, UsageKey};
use quotad::persistence::messages::RecordUsage;
use quotad::persistence::{Books, BooksError, LedgerBounds};
use serde_json::json;
use tempfile::TempDir;

use crate::support::postgres_server;

/// Held by the session that took it.
struct Lock {
    _sqlite: Option<SqliteConnection>,
    _postgres: Option<tokio_postgres::Client>,
}

/// Where a test's database is.
struct Home {
    settings: DatabaseSettings,
    /// SQLite's folder; removed with this.
    _folder: Option<TempDir>,
}

impl Home {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = DatabaseLocation::Sqlite { path: folder.path().join("data").join("quotad.db") };
        Self { settings: settings(location), _folder: Some(folder) }
    }

    fn postgres() -> Self {
        Self { settings: postgres_server::settings(&postgres_server::database()), _folder: None }
    }

    /// A home without a single table.
    fn without_tables(self) -> Self {
        match self.settings.location {
            DatabaseLocation::Sqlite { .. } => self,
            DatabaseLocation::Postgres { .. } => {
                Self { settings: postgres_server::settings(&postgres_server::empty_database()), ..self }
            }
        }
    }

    async fn database(&self) -> Database {
        let database = Database::connect(&self.settings).unwrap();
        database.migrate().await.unwrap();
        database
    }

    /// Persistence under a name of its own.
    fn books(&self, database: Database, instance: &str) -> Books {
        let (clock, bounds) = (Clock::manual(HOUR), LedgerBounds::default());
        Books::start(database, &self.settings, clock, instance.to_owned(), bounds)
    }

    /// Runs SQL past the service.
    async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap();
    }

    /// The same, with what the database says where it refuses.
    async fn try_execute(&self, sql: &str) -> Result<(), String> {
        match &self.settings.location {
            DatabaseLocation::Sqlite { path } => {
                let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
                let said = connection.batch_execute(&format!("PRAGMA busy_timeout = 5000; {sql}"));
                said.map_err(|error| error.to_string())
            }
            DatabaseLocation::Postgres { url } => {
                let client = session(url.expose()).await;
                client.batch_execute(sql).await.map_err(|error| error.to_string())
            }
        }
    }

    /// Keeps everyone else from writing the table, in SQLite any table, until the lock is dropped.
    async fn lock(&self, table: &str) -> Lock {
        self.lock_with(&format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE")).await
    }

    /// The same, by a statement of PostgreSQL's.
    async fn lock_with(&self, statement: &str) -> Lock {
        match &self.settings.location {
            DatabaseLocation::Sqlite { path } => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
                connection.batch_execute("BEGIN EXCLUSIVE").unwrap();
                Lock { _sqlite: Some(connection), _postgres: None }
            }
            DatabaseLocation::Postgres { url } => {
                let client = session(url.expose()).await;
                client.batch_execute(statement).await.unwrap();
                Lock { _sqlite: None, _postgres: Some(client) }
            }
        }
    }

    /// Takes back [`Home::refuse`].
    async fn accept(&self) {
        self.execute(match self.settings.location {
            DatabaseLocation::Sqlite { .. } => "DROP TRIGGER refuse",
            DatabaseLocation::Postgres { .. } => "ALTER TABLE usage DROP CONSTRAINT refuse",
        })
        .await;
    }

    /// Makes the table `usage` refuse the rows of subjects that begin so.
    async fn refuse(&self, subjects: &str) {
        let sql = match self.settings.location {
            DatabaseLocation::Sqlite { .. } => format!(
                "CREATE TRIGGER refuse BEFORE INSERT ON usage WHEN new.subject LIKE '{subjects}%' \
                 BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            ),
            DatabaseLocation::Postgres { .. } => {
                format!("ALTER TABLE usage ADD CONSTRAINT refuse CHECK (subject NOT LIKE '{subjects}%')")
            }
        };
        self.execute(&sql).await;
    }
}

/// A session of its own on PostgreSQL, which ends when it is dropped.
async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    actix::spawn(connection);
    client
}

fn settings(location: DatabaseLocation) -> DatabaseSettings {
    // The tick is out of the way: a test flushes when it wants to.
    DatabaseSettings {
        location,
        max_connections: 4,
        flush_interval: Duration::from_secs(3600),
        history_retention_days: 400,
    }
}

/// Each test as `sqlite::name` and as `postgres::name`.
macro_rules! on_every_database {
    ($($(#[$attribute:meta])* async fn $name:ident($home:ident) $body:block)*) => {
        mod sqlite {
            use super::*;
            $($(#[$attribute])* #[actix::test] async fn $name() { let $home = Home::sqlite(); $body })*
        }
        mod postgres {
            use super::*;
            $($(#[$attribute])* #[actix::test] async fn $name() { let $home = Home::postgres(); $body })*
        }
    };
}

mod accounts;
mod books;
mod connecting;
mod copying;
mod flushing;
mod keys;
mod lists;
mod lost_answers;
mod policy;
mod reading;
mod refusals;
mod rollups;
mod schema;
mod service;
mod sessions;
mod webhooks;

/// Ends the sessions of all others on this database.
const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_backend_pid()";

const HOUR: Timestamp = Timestamp::from_seconds(1_795_766_400);
const DAY: Timestamp = Timestamp::from_seconds(1_795_737_600);

fn at(hours: i64) -> Timestamp {
    Timestamp::from_seconds(DAY.floor_seconds() + hours * 3600)
}

fn id(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn user(text: &str) -> Subject {
    Subject::User(id(text))
}

fn address(text: &str) -> Subject {
    Subject::Ip(ClientAddress::new(text.parse().unwrap(), 64))
}

/// A place in a tier, and no schedule.
fn entry(tier_name: Option<&str>) -> UserEntry {
    UserEntry { tier: tier_name.map(tier), reset_schedule: None }
}

fn tier(text: &str) -> TierName {
    TierName::parse(text).unwrap()
}

fn key(subject: Subject, hour: Timestamp, tier_name: &str) -> UsageKey {
    UsageKey { subject, hour, tier: tier(tier_name) }
}

const fn usage(requests: u64, cost: u64, denied: u64) -> Usage {
    Usage { requests, cost, denied }
}

fn batch(sequence: i64, rows: Vec<(UsageKey, Usage)>) -> Arc<FlushBatch> {
    Arc::new(FlushBatch { instance: "one".to_owned(), sequence, usage: rows, ..FlushBatch::default() })
}

fn applied() -> FlushOutcome {
    FlushOutcome::Applied { refused: Vec::new() }
}

fn author() -> Author {
    Author {
        actor: "key:testkey1".to_owned(),
        address: Some("203.0.113.9".parse().unwrap()),
        expects: Expectation::Anything,
    }
}

fn state(whole_at: Timestamp) -> SubjectState {
    [Slot { id: SlotId::from_raw(7), whole_at, a: 40, b: (1 << 53) - 1, c: 0 }].into_iter().collect()
}

fn days_override(expires_at: Option<Timestamp>) -> QuotaOverride {
    QuotaOverride {
        requests_per_hour: Some(500),
        requests_per_day: None,
        expires_at,
        reason: Some("it's ä \"test\"".to_owned()),
    }
}

fn api_key(name: &str) -> ApiKeyRecord {
    ApiKeyRecord {
        id: KeyId::parse(name).unwrap(),
        name: "gateway".to_owned(),
        role: Role::Service,
        user_id: Some(id("42")),
        secret_sha256: [0xa5; 32],
        created_at: HOUR,
        expires_at: Some(at(100)),
        revoked_at: None,
        last_used_at: None,
        successor: None,
    }
}

const fn range(granularity: Granularity, from: Timestamp, to: Timestamp) -> HistoryRange {
    HistoryRange { granularity, from, to, limit: 10_000 }
}

async fn all_of(database: &Database, subject: &Subject) -> Usage {
    let mut sum = Usage::default();
    for item in database.history(subject, range(Granularity::Hour, Timestamp::EPOCH, at(10_000))).await.unwrap().items {
        sum.add(item.usage);
    }
    sum
}
