//! One flush: the usage and the counters that an instance gathered, and the number of the flush, in one transaction.

use std::ops::Range;
use std::sync::Arc;

use diesel::QueryResult;
use diesel::result::Error as QueryError;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::error::Fault;
use super::flush_batch::{FlushBatch, FlushOutcome, RefusedRow};
use super::flush_rows::{Rows, UsageRow};
use super::{Database, DbError, FLUSH_DEADLINE};
use crate::domain::time::Timestamp;

/// Rows of one piece: of a statement with six values each, that is below the 32,766 that SQLite binds.
const ROWS_A_STATEMENT: usize = 5_000;

/// More refused rows than this are no accident of theirs: the flush fails as a whole and is kept.
const REFUSED_ROWS_MAX: usize = 250;

const RAISE_CURSOR: &str = "INSERT INTO flush_cursor (instance, sequence, applied_at) VALUES ($1, $2, $3) \
     ON CONFLICT (instance) DO UPDATE SET sequence = excluded.sequence, applied_at = excluded.applied_at \
     WHERE flush_cursor.sequence < excluded.sequence";

impl Database {
    /// Adds the batch to the database, all or nothing, and once however often it is called with the same batch.
    ///
    /// # Errors
    /// After any error the batch may be sent again, unchanged: if it had landed, that is found out.
    pub async fn flush(&self, batch: &Arc<FlushBatch>, now: Timestamp) -> Result<FlushOutcome, DbError> {
        let batch = Arc::clone(batch);
        on!(self, flush within FLUSH_DEADLINE, "flush usage", flush::apply(&batch, now))
    }
}

/// The pieces that `rows` are added in, the last one first.
fn pieces(rows: usize) -> Vec<Range<usize>> {
    let starts = (0..rows).step_by(ROWS_A_STATEMENT);
    starts.map(|start| start..start.saturating_add(ROWS_A_STATEMENT).min(rows)).rev().collect()
}

on_both! {
    pub(in crate::db) async fn apply(
        connection: &mut Connection,
        batch: &FlushBatch,
        now: Timestamp,
    ) -> QueryResult<FlushOutcome> {
        let (usage, counters) = (Rows::of_usage(batch), Rows::of_counters(batch));
        connection
            .transaction(async |connection| {
                if !raise_cursor(connection, batch, now).await? {
                    return Ok(FlushOutcome::AlreadyApplied);
                }
                let covered = rollup::covers(connection).await?;
                let mut refused = add(connection, &usage).await?;
                let late: Arc<[UsageRow]> = usage.late(covered, &refused);
                for piece in pieces(late.len()) {
                    dialect::keep_late(connection, Arc::clone(&late), piece).await?;
                }
                refused.extend(add(connection, &counters).await?);
                Ok(FlushOutcome::Applied { refused })
            })
            .await
    }

    /// False where the batch has landed before. Waits for an earlier try that the server is still at.
    async fn raise_cursor(connection: &mut Connection, batch: &FlushBatch, now: Timestamp) -> QueryResult<bool> {
        let raised = diesel::sql_query(RAISE_CURSOR)
            .bind::<Text, _>(batch.instance.as_str())
            .bind::<BigInt, _>(batch.sequence)
            .bind::<BigInt, _>(now.as_micros())
            .execute(connection)
            .await?;
        Ok(raised > 0)
    }

    /// Adds the rows, and finds those that the database refuses by halving.
    async fn add(connection: &mut Connection, rows: &Rows) -> QueryResult<Vec<RefusedRow>> {
        let mut refused = Vec::new();
        let mut pieces = pieces(rows.len());
        while let Some(piece) = pieces.pop() {
            let Err(error) = add_piece(connection, rows, piece.clone()).await else { continue };
            if Fault::of(&error) != Fault::Rows || refused.len() >= REFUSED_ROWS_MAX {
                return Err(error);
            }
            if piece.len() > 1 {
                let middle = piece.start.midpoint(piece.end);
                pieces.extend([middle..piece.end, piece.start..middle]);
                continue;
            }
            // A constraint that no row can keep refuses every one: then it is not this one's fault.
            if !takes_rows(connection, rows).await {
                return Err(error);
            }
            refused.extend(rows.refused(piece.start, &error));
        }
        Ok(refused)
    }

    /// Adds some of the rows or, where one of them is refused, none. Its error says whether the rows are at fault.
    async fn add_piece(connection: &mut Connection, rows: &Rows, piece: Range<usize>) -> QueryResult<()> {
        let (sent, range) = (rows.clone(), piece.clone());
        let added = connection.transaction(async move |connection| insert(connection, sent, range).await).await;
        match added {
            Err(error) if Fault::of(&error) == Fault::Unknown => {
                let rows = rows.clone();
                connection
                    .transaction(async move |connection| dialect::find_fault(connection, &rows, piece, error).await)
                    .await
            }
            certain => certain,
        }
    }

    async fn insert(connection: &mut Connection, rows: Rows, piece: Range<usize>) -> QueryResult<()> {
        match rows {
            Rows::Usage(rows) => dialect::add_usage(connection, rows, piece).await,
            Rows::Counters(rows) => dialect::put_counters(connection, rows, piece).await,
        }
    }

    /// Whether the table takes rows at all. Leaves none behind.
    async fn takes_rows(connection: &mut Connection, rows: &Rows) -> bool {
        let faultless = rows.faultless();
        let tried: QueryResult<()> = connection
            .transaction(async move |connection| {
                insert(connection, faultless, 0..1).await?;
                Err(QueryError::RollbackTransaction)
            })
            .await;
        matches!(tried, Err(QueryError::RollbackTransaction))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use diesel_async::SimpleAsyncConnection;

    use super::super::Repository;
    use super::*;
    use crate::config::{DatabaseLocation, DatabaseSettings};
    use crate::domain::report::ReportOrder;
    use crate::domain::subject::{Subject, UserId};
    use crate::domain::tier::TierName;
    use crate::domain::usage::{Usage, UsageKey};

    #[test]
    fn pieces_cover_all_rows_once_in_order() {
        assert!(pieces(0).is_empty());
        assert_eq!(pieces(1), vec![0..1]);
        assert_eq!(pieces(12_000), vec![10_000..12_000, 5_000..10_000, 0..5_000]);
    }

    #[actix::test]
    async fn a_disk_without_room_sets_nothing_aside() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings {
            location: DatabaseLocation::Sqlite { path: folder.path().join("quotad.db") },
            max_connections: 2,
            flush_interval: Duration::from_secs(1),
            history_retention_days: 1,
        };
        let database = Database::connect(&settings).unwrap();
        database.migrate().await.unwrap();
        let Repository::Sqlite(repository) = &database.repository else { panic!("SQLite") };
        repository.write().get().await.unwrap().batch_execute("PRAGMA max_page_count = 1").await.unwrap();

        let name = |number: usize| UserId::parse(&number.to_string()).unwrap();
        let key =
            |number| UsageKey { subject: Subject::User(name(number)), hour: Timestamp::EPOCH, tier: TierName::free() };
        let one = Usage { requests: 1, cost: 1, denied: 0 };
        let usage = (0..6_000).map(|number| (key(number), one)).collect();
        let batch = Arc::new(FlushBatch { instance: "one".to_owned(), sequence: 1, usage, ..FlushBatch::default() });
        let full = database.flush(&batch, Timestamp::EPOCH).await;
        assert!(matches!(full, Err(DbError::Query { .. })), "{full:?}");
        // The next connection knows nothing of the bound.
        let landed = database.flush(&batch, Timestamp::EPOCH).await.unwrap();
        assert_eq!(landed, FlushOutcome::Applied { refused: Vec::new() });
        assert_eq!(
            database.usage_report(Timestamp::EPOCH, ReportOrder::Cost, 1).await.unwrap().totals.usage.requests,
            6_000
        );
    }
}
