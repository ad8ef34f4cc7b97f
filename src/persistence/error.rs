//! What can go wrong with the books.

use std::sync::Arc;

use crate::db::DbError;

/// Why the books could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The database is away or slow; the same may well succeed later.
    #[error("the database is away")]
    Unavailable { source: Option<Arc<DbError>> },
    /// The database is there and refused.
    #[error("the database refused")]
    Refused { source: Arc<DbError> },
    /// What was to be changed is not as its author expects it; nothing was.
    #[error("it was changed by somebody else")]
    Changed,
    /// Persistence was closed.
    #[error("persistence has stopped")]
    Stopped,
}

impl BooksError {
    /// For usage that is kept and tried again: whatever the reason, it is not there yet.
    pub(super) const fn away(source: Arc<DbError>) -> Self {
        BooksError::Unavailable { source: Some(source) }
    }
}

impl From<DbError> for BooksError {
    fn from(error: DbError) -> Self {
        if matches!(error, DbError::Changed) {
            return BooksError::Changed;
        }
        let source = Arc::new(error);
        if source.is_unavailable() { BooksError::away(source) } else { BooksError::Refused { source } }
    }
}
