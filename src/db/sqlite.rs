//! SQLite: one file, one connection that writes, several that read.

use std::path::Path;
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult, SqliteConnection};
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use tokio::time::sleep;

use super::error::{DbError, is_locked};
use super::pool::sqlite as pool;
use super::runtime::OwnRuntime;

pub(super) type Connection = SyncConnectionWrapper<SqliteConnection>;

pub(super) mod dialect {
    //! What SQLite says its own way.

    pub(in crate::db) use crate::db::flush_sqlite::{add_usage, find_fault, keep_late, put_counters};

    /// After a text: it is put in the order of its bytes, as ids are.
    pub(in crate::db) const BYTE_ORDER: &str = "COLLATE BINARY";

    /// Whether a text contains another, whatever stands in it.
    pub(in crate::db) fn contains(text: &str, part: &str) -> String {
        format!("instr({text}, {part}) > 0")
    }

    /// The smaller of two numbers.
    pub(in crate::db) const LEAST: &str = "MIN";

    /// First in a transaction: all its statements see the same state. They do in any case.
    pub(in crate::db) const ONE_MOMENT: &str = "";

    /// In a transaction: its queries go by the indexes. They do in any case.
    pub(in crate::db) const BY_INDEX: &str = "";

    /// After the sums were extended. It plans without statistics.
    pub(in crate::db) const ROLLED_UP: &str = "";

    /// After a query: what it reads stays as it is until the transaction ends. There is one writer.
    pub(in crate::db) const HELD: &str = "";

    /// After a query: nobody else gets its rows. There is one writer.
    pub(in crate::db) const SKIP_LOCKED: &str = "";

    /// The sum of a column, at most 2^53 - 1. `TOTAL` is a double, which is exact up to there and can't overflow.
    pub(in crate::db) fn sum(column: &str) -> String {
        format!("CAST(MIN(TOTAL({column}), 9007199254740991) AS INTEGER)")
    }
}

/// How long a statement waits for another process (`quotad migrate`, a backup) to let go of the file. It is said first, so
/// that what follows waits too.
///
/// With WAL, readers never wait for the writer; `synchronous = NORMAL` then syncs at checkpoints, not at each commit: a
/// loss of power can undo the last commits, but never tears the file, and a crash of the service alone loses nothing.
/// What the last second of history is worth does not pay for a sync each second on a small disk.
///
/// A flush of a batch touches a few thousand pages: the cache, in KiB, holds them until it commits, and the log is carried over to
/// the file after 4,000 pages instead of within each flush.
const SETUP: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
     PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 4000;";

/// Two processes that turn a new file to WAL at once would wait for each other, so SQLite tells one of them at once that the
/// file is locked, whatever its `busy_timeout`. It tries again for two seconds.
const SETUP_TRIES: usize = 40;
const SETUP_PAUSE: Duration = Duration::from_millis(50);

/// A connection for reading can't write, whatever it is told.
const READ_ONLY: &str = "PRAGMA query_only = ON;";

/// One writer: SQLite has one write lock for the whole file, and a queue at the pool is fairer than its busy handler.
#[derive(Clone)]
pub(super) struct Repository {
    writer: Pool<Connection>,
    readers: Pool<Connection>,
}

impl Repository {
    /// What the writer does is done on threads of `background`: a flush is most of it.
    pub(super) fn new(path: &Path, max_connections: usize, background: &OwnRuntime) -> Result<Self, DbError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|source| DbError::Folder { path: folder.to_owned(), source })?;
        }
        let Some(path) = path.to_str() else {
            return Err(DbError::Settings { reason: "the path of the database file is not UTF-8".to_owned() });
        };
        // Diesel takes what begins with `file:` for a URL with options.
        let file = if path.starts_with("file:") { format!("./{path}") } else { path.to_owned() };
        let read_only = format!("{SETUP}{READ_ONLY}");
        let (written, read) = (file.clone(), file);
        Ok(Self {
            writer: pool::new(1, background.opening(move || open(written.clone(), SETUP.to_owned())))?,
            readers: pool::new(
                max_connections.saturating_sub(1),
                Box::new(move |_| open(read.clone(), read_only.clone()).boxed()),
            )?,
        })
    }

    pub(super) fn read(&self) -> Pool<Connection> {
        self.readers.clone()
    }

    pub(super) fn write(&self) -> Pool<Connection> {
        self.writer.clone()
    }

    pub(super) fn flush(&self) -> Pool<Connection> {
        self.writer.clone()
    }
}

/// Opens a connection to `file`, set up by `setup`.
async fn open(file: String, setup: String) -> ConnectionResult<Connection> {
    let mut connection = Connection::establish(&file).await?;
    for _ in 0..SETUP_TRIES {
        match connection.batch_execute(&setup).await {
            Err(error) if is_locked(&error) => sleep(SETUP_PAUSE).await,
            done => return done.map(|()| connection).map_err(ConnectionError::CouldntSetupConfiguration),
        }
    }
    connection.batch_execute(&setup).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}
