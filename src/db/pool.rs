//! Running an operation on a pooled connection, within a deadline.

use std::time::Duration;

use diesel::QueryResult;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, SetupCallback};
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::error::DbError;

on_both! {
    /// A pool that opens connections by `open`, up to `size`, when they are first needed.
    ///
    /// A connection that is known to be closed, or was left in a transaction, is replaced; one is not asked whether it is
    /// still good each time, which would double the round trips.
    pub(in crate::db) fn new(size: usize, open: SetupCallback<Connection>) -> Result<Pool<Connection>, DbError> {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = open;
        Pool::builder(AsyncDieselConnectionManager::new_with_config("", config))
            .max_size(size.max(1))
            .build()
            .map_err(|error| DbError::Settings { reason: error.to_string() })
    }

    /// Waits for a connection and runs `work` on it, both within `deadline`.
    ///
    /// A connection on which the deadline passed is closed: an answer may still be on its way to it. So is one on which
    /// something failed, as what a failed commit or rollback left behind is not known.
    pub(in crate::db) async fn run<T, W>(
        pool: Pool<Connection>,
        operation: &'static str,
        deadline: Duration,
        work: W,
    ) -> Result<T, DbError>
    where
        W: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, QueryResult<T>> + Send,
    {
        let mut taken: Option<Object<Connection>> = None;
        let finished = timeout(deadline, async {
            let got = pool.get().await;
            let connection = got.map_err(|error| DbError::Unreachable { operation, source: Box::new(error) })?;
            work(taken.insert(connection)).await.map_err(|error| DbError::from_query(operation, error))
        });
        let result = finished.await.unwrap_or(Err(DbError::TimedOut { operation, deadline }));
        if result.is_err() {
            drop(taken.map(Object::take));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::runtime::OwnRuntime;
    use crate::db::sqlite::Repository;
    use diesel_async::SimpleAsyncConnection;

    const SLOW: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT max(i) FROM n";

    fn batch<'c>(
        connection: &'c mut crate::db::sqlite::Connection,
        text: &'static str,
    ) -> BoxFuture<'c, QueryResult<()>> {
        Box::pin(connection.batch_execute(text))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_whose_statement_was_given_up_is_not_handed_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let background = OwnRuntime::background().unwrap();
        let pool = Repository::new(&folder.path().join("quotad.db"), 2, &background).unwrap().read();
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(1));
        let late = sqlite::run(pool.clone(), "wait", short, |connection| batch(connection, SLOW)).await;
        assert!(matches!(late, Err(DbError::TimedOut { .. })), "{late:?}");
        assert_eq!(pool.status().size, 0);
        sqlite::run(pool, "ask", long, |connection| batch(connection, "SELECT 1")).await.unwrap();
    }

    #[tokio::test]
    async fn a_transaction_that_was_left_open_goes_with_its_connection() {
        let folder = tempfile::tempdir().unwrap();
        let background = OwnRuntime::background().unwrap();
        let pool = Repository::new(&folder.path().join("quotad.db"), 2, &background).unwrap().write();
        let second = Duration::from_secs(1);
        let failing = "CREATE TABLE t (i INTEGER); BEGIN; INSERT INTO t VALUES (1); SELECT nothing";
        sqlite::run(pool.clone(), "fail", second, |connection| batch(connection, failing)).await.unwrap_err();
        sqlite::run(pool, "begin", second, |connection| batch(connection, "BEGIN; COMMIT")).await.unwrap();
    }
}
