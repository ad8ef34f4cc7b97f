//! Moving from SQLite to PostgreSQL: every table, as it is at one moment, in one transaction.
//!
//! Rows travel as JSON objects: SQLite writes them, PostgreSQL reads them into the types of its own columns.

use diesel::Connection as _;
use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::AsyncConnection;
use tokio::sync::mpsc;

use super::{Database, DbError, Repository};

mod source;
mod target;

/// How many parts wait at most.
const PARTS_WAITING: usize = 2;

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedTable {
    pub name: String,
    pub rows: i64,
}

/// A table, with what is needed to write its rows as JSON and to check them.
#[derive(Debug, Clone)]
struct Table {
    name: String,
    columns: Vec<Column>,
}

#[derive(Debug, Clone, QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    text: String,
}

/// What the source sends, in this order for each table.
enum Part {
    /// An array of rows, in JSON.
    Rows { table: Table, json: String },
    /// All of the table was sent. `check` is what [`Table::check`] says of it.
    End { table: Table, rows: i64, check: String },
    /// All tables were sent.
    Done,
}

impl Table {
    /// A row as a JSON object. PostgreSQL reads bytes from `\x` and hexadecimal digits.
    fn objects(&self) -> String {
        let field = |Column { name, kind }: &Column| match kind.as_str() {
            "BLOB" => format!("'{name}', '\\x' || hex(\"{name}\")"),
            _ => format!("'{name}', \"{name}\""),
        };
        let fields: Vec<String> = self.columns.iter().map(field).collect();
        format!("SELECT json_object({}) AS text FROM \"{}\"", fields.join(", "), self.name)
    }

    /// A text that says how many rows there are, and of each column how many values, and their sum: of numbers their
    /// remainders, which add up without overflow, and of all else their lengths.
    fn check(&self) -> String {
        let sum = |Column { name, kind }: &Column| {
            let value = match kind.as_str() {
                "INTEGER" => format!("\"{name}\" % 1000003"),
                _ => format!("length(\"{name}\")"),
            };
            format!("|| ' ' || COUNT(\"{name}\") || ' ' || COALESCE(CAST(SUM({value}) AS text), '-')")
        };
        let sums: String = self.columns.iter().map(sum).collect();
        format!("SELECT COUNT(*) || '' {sums} AS text FROM \"{}\"", self.name)
    }

    fn insert(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        let (name, columns) = (&self.name, columns.join(", "));
        format!(
            "INSERT INTO \"{name}\" ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::\"{name}\", $1::json)"
        )
    }
}

impl Database {
    /// Copies all tables of this SQLite database to an empty PostgreSQL database, both with the tables of this version. The copy
    /// is of one moment, and it is there as a whole or not at all.
    ///
    /// # Errors
    /// [`DbError::Copy`] where the two are not such databases, where the target has rows, and where what arrived is not what
    /// was sent.
    pub async fn copy_to(&self, target: &Self) -> Result<Vec<CopiedTable>, DbError> {
        let (Repository::Sqlite(source), Repository::Postgres(target)) = (&self.repository, &target.repository) else {
            return Err(refused("copies from SQLite to PostgreSQL only"));
        };
        let unreachable =
            |source: Box<dyn std::error::Error + Send + Sync>| DbError::Unreachable { operation: "copy", source };
        let mut reader = source.read().get().await.map_err(|error| unreachable(Box::new(error)))?;
        let target = target.clone();
        let work = async move {
            let mut writer = target.open().await.map_err(|error| unreachable(Box::new(error)))?;
            let (sender, receiver) = mpsc::channel(PARTS_WAITING);
            let sent = reader.spawn_blocking(move |connection| {
                connection.transaction(|connection| source::send_all(connection, &sender))
            });
            let received = writer.transaction(async |connection| target::receive_all(connection, receiver).await);
            // Where one side fails the other ends with it, and the first to fail knows why.
            let (sent, received) = tokio::join!(sent, received);
            sent.map_err(|error| DbError::from_query("read what is to be copied", error))?;
            received.map_err(|error| match error {
                target::Stopped::Copy(error) => error,
                target::Stopped::Query(error) => DbError::from_query("write the copy", error),
            })
        };
        self.runtime.finish("copy", work).await
    }
}

fn refused(reason: impl Into<String>) -> DbError {
    DbError::Copy { reason: reason.into() }
}
