//! PostgreSQL: a pool of connections, with TLS as the address asks for.

use std::sync::Arc;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::SetupCallback;
use diesel_async::pooled_connection::deadpool::Pool;
use futures_util::FutureExt;

use super::error::DbError;
use super::pool::postgres as pool;
use super::postgres_address::PostgresAddress;

pub(super) type Connection = AsyncPgConnection;

pub(super) mod dialect {
    //! What PostgreSQL says its own way.

    pub(in crate::db) use crate::db::flush_postgres::{add_usage, find_fault, keep_late, put_counters};

    /// After a text: it is put in the order of its bytes, as ids are.
    pub(in crate::db) const BYTE_ORDER: &str = "COLLATE \"C\"";

    /// Whether a text contains another, whatever stands in it.
    pub(in crate::db) fn contains(text: &str, part: &str) -> String {
        format!("strpos({text}, {part}) > 0")
    }

    /// The smaller of two numbers.
    pub(in crate::db) const LEAST: &str = "LEAST";

    /// First in a transaction: all its statements see the same state.
    pub(in crate::db) const ONE_MOMENT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";

    /// In a transaction: its queries go by the indexes. They are written for them, and statistics that are missing or of
    /// yesterday would have a table of years read whole.
    pub(in crate::db) const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; \
         SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off";

    /// After the sums were extended: which of their indexes fits is seen from statistics.
    pub(in crate::db) const ROLLED_UP: &str = "ANALYZE rollup_subjects";

    /// After a query: what it reads stays as it is until the transaction ends.
    pub(in crate::db) const HELD: &str = "FOR SHARE";

    /// After a query: its rows are locked for this transaction, and those that others have locked are left to them.
    pub(in crate::db) const SKIP_LOCKED: &str = "FOR UPDATE SKIP LOCKED";

    /// The sum of a column, at most 2^53 - 1. The sum of bigints is a numeric, which can't overflow.
    pub(in crate::db) fn sum(column: &str) -> String {
        format!("CAST(LEAST(COALESCE(SUM({column}), 0), 9007199254740991) AS BIGINT)")
    }
}

#[derive(Clone)]
pub(super) struct Repository {
    address: Arc<PostgresAddress>,
    connections: Pool<Connection>,
    /// One connection, for flushes alone where there may be two: it is driven by the thread that they run on.
    flusher: Pool<Connection>,
}

impl Repository {
    pub(super) fn new(url: &str, max_connections: usize) -> Result<Self, DbError> {
        let address = Arc::new(PostgresAddress::parse(url)?);
        let connections = pool::new(max_connections.saturating_sub(1), opener(&address))?;
        let flusher = if max_connections > 1 { pool::new(1, opener(&address))? } else { connections.clone() };
        Ok(Self { address, connections, flusher })
    }

    pub(super) fn read(&self) -> Pool<Connection> {
        self.connections.clone()
    }

    pub(super) fn write(&self) -> Pool<Connection> {
        self.connections.clone()
    }

    pub(super) fn flush(&self) -> Pool<Connection> {
        self.flusher.clone()
    }

    /// A connection beside the pools.
    pub(super) async fn open(&self) -> diesel::ConnectionResult<Connection> {
        self.address.open().await
    }
}

fn opener(address: &Arc<PostgresAddress>) -> SetupCallback<Connection> {
    let address = Arc::clone(address);
    Box::new(move |_| {
        let address = Arc::clone(&address);
        async move { address.open().await }.boxed()
    })
}
