//! What PostgreSQL does with it.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::sync::mpsc;

use super::{CopiedTable, DbError, Line, Part, refused};

/// Tables that are never empty: the migrations put rows into them.
const FILLED_AT_FIRST: [&str; 2] = ["change_clock", "rollup_marks"];

/// Why the transaction on the target ends without a commit.
pub(super) enum Stopped {
    Copy(DbError),
    Query(diesel::result::Error),
}

impl From<diesel::result::Error> for Stopped {
    fn from(error: diesel::result::Error) -> Self {
        Stopped::Query(error)
    }
}

#[derive(QueryableByName)]
struct Rows {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

pub(super) async fn receive_all(
    connection: &mut AsyncPgConnection,
    mut from: mpsc::Receiver<Part>,
) -> Result<Vec<CopiedTable>, Stopped> {
    // The source may take its time between two parts.
    connection.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    let (mut copied, mut begun) = (Vec::new(), None);
    while let Some(part) = from.recv().await {
        match part {
            Part::Rows { table, json } => {
                if begun.as_ref() != Some(&table.name) {
                    make_room(connection, &table.name).await?;
                    begun = Some(table.name.clone());
                }
                diesel::sql_query(table.insert()).bind::<Text, _>(json).execute(connection).await?;
            }
            Part::End { table, rows, check } => {
                let arrived: Line = diesel::sql_query(table.check()).get_result(connection).await?;
                if arrived.text != check {
                    let reason = format!(
                        "of the table {} not all arrived as it was: {check} sent, {} there",
                        table.name, arrived.text
                    );
                    return Err(Stopped::Copy(refused(reason)));
                }
                copied.push(CopiedTable { name: table.name, rows });
            }
            Part::Done => return Ok(copied),
        }
    }
    Err(Stopped::Copy(refused("the source broke off")))
}

/// Nothing is written beside what others have written.
async fn make_room(connection: &mut AsyncPgConnection, table: &str) -> Result<(), Stopped> {
    if FILLED_AT_FIRST.contains(&table) {
        diesel::sql_query(format!("DELETE FROM \"{table}\"")).execute(connection).await?;
        return Ok(());
    }
    let there: Rows =
        diesel::sql_query(format!("SELECT COUNT(*) AS rows FROM \"{table}\"")).get_result(connection).await?;
    if there.rows > 0 {
        let reason = format!("the target has {} rows in the table {table}; it must be empty", there.rows);
        return Err(Stopped::Copy(refused(reason)));
    }
    Ok(())
}
