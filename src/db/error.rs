//! What can go wrong with the database.

use std::error::Error;
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as QueryError};

/// Why an operation on the database failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("the database settings can't be used: {reason}")]
    Settings { reason: String },
    #[error("the folder of the database, {}, can't be made", path.display())]
    Folder { path: std::path::PathBuf, source: std::io::Error },
    #[error("the threads of the database can't be started")]
    Runtime { source: std::io::Error },
    /// No connection could be opened, or it broke.
    #[error("could not {operation}: the database can't be reached")]
    Unreachable { operation: &'static str, source: Box<dyn Error + Send + Sync> },
    /// Whether a change was made is not known.
    #[error("could not {operation}: the database did not answer within {} s", deadline.as_secs())]
    TimedOut { operation: &'static str, deadline: Duration },
    #[error("could not {operation}")]
    Query { operation: &'static str, source: QueryError },
    #[error("the tables of the database can't be brought up to date")]
    Migration { source: Box<dyn Error + Send + Sync> },
    #[error("nothing was copied: {reason}")]
    Copy { reason: String },
    /// What was to be changed is not as its author expects it; nothing was.
    #[error("it was changed by somebody else")]
    Changed,
    #[error("could not {operation}: the operation broke off")]
    Broken { operation: &'static str },
}

impl DbError {
    pub(super) fn from_query(operation: &'static str, error: QueryError) -> Self {
        if matches!(error, QueryError::RollbackTransaction) {
            // A change takes this way out alone: `audit::write`.
            DbError::Changed
        } else if is_connection_error(&error) {
            DbError::Unreachable { operation, source: Box::new(error) }
        } else {
            DbError::Query { operation, source: error }
        }
    }

    /// The same may well succeed later: the database is away or slow, and says nothing against the operation itself.
    pub const fn is_unavailable(&self) -> bool {
        use DatabaseErrorKind::{ReadOnlyTransaction, SerializationFailure};
        matches!(
            self,
            DbError::Unreachable { .. }
                | DbError::TimedOut { .. }
                | DbError::Query {
                    source: QueryError::DatabaseError(SerializationFailure | ReadOnlyTransaction, _),
                    ..
                }
        )
    }
}

/// Whose fault an error is that came when rows were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A constraint does not hold, or a value can't be stored: one of the rows is refused.
    Rows,
    /// The rows have nothing to do with it.
    Database,
    /// Diesel passes on no more than a text: anything from a full disk to a trigger's refusal.
    Unknown,
}

impl Fault {
    pub(super) const fn of(error: &QueryError) -> Self {
        use DatabaseErrorKind as Kind;
        match error {
            QueryError::DatabaseError(
                Kind::UniqueViolation
                | Kind::ForeignKeyViolation
                | Kind::RestrictViolation
                | Kind::NotNullViolation
                | Kind::CheckViolation
                | Kind::ExclusionViolation,
                _,
            ) => Fault::Rows,
            QueryError::DatabaseError(
                Kind::ClosedConnection
                | Kind::UnableToSendCommand
                | Kind::SerializationFailure
                | Kind::ReadOnlyTransaction,
                _,
            ) => Fault::Database,
            QueryError::DatabaseError(..) => Fault::Unknown,
            _ => Fault::Database,
        }
    }
}

/// SQLite's own words for another connection holding a lock that this one needs.
pub(super) fn is_locked(error: &QueryError) -> bool {
    matches!(error, QueryError::DatabaseError(_, said) if said.message().contains("is locked"))
}

/// The connection broke: the database said nothing about the statement.
pub(super) const fn is_connection_error(error: &QueryError) -> bool {
    use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
    matches!(
        error,
        QueryError::DatabaseError(UnableToSendCommand | ClosedConnection, _) | QueryError::BrokenTransactionManager
    )
}
