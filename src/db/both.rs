//! Two macros: `on_both!` writes statements once for both databases, `on!` runs them on the one in use.
//!
//! Diesel's types differ by backend, and generic bounds over both would be longer than the statements themselves.

/// Expands the functions in it twice: in a module `sqlite` and in a module `postgres`, where `Connection` is that
/// database's connection and `dialect`, `accounts`, `audit`, `changes` and `rollup` are that database's modules.
macro_rules! on_both {
    (@one $backend:ident $($item:item)*) => {
        pub(in crate::db) mod $backend {
            #[allow(unused_imports, reason = "each family uses some of them")]
            use {
                super::*,
                crate::db::$backend::{Connection, dialect},
                crate::db::{accounts::$backend as accounts, audit::$backend as audit, changes::$backend as changes},
                crate::db::rollup::$backend as rollup,
            };
            $($item)*
        }
    };
    ($($item:item)*) => {
        on_both!(@one sqlite $($item)*);
        on_both!(@one postgres $($item)*);
    };
}

/// Calls `family::function(connection, arguments)` of the database in use, on a connection to `read`, `write` or `flush`,
/// within the deadline of a statement. `arguments` may borrow what the caller owns: it is moved along.
macro_rules! on {
    ($database:expr, $access:ident, $operation:literal, $family:ident::$function:ident($($argument:expr),* $(,)?)) => {
        on!($database, $access within crate::db::STATEMENT_DEADLINE, $operation, $family::$function($($argument),*))
    };
    ($database:expr, $access:ident within $deadline:expr, $operation:literal,
     $family:ident::$function:ident($($argument:expr),* $(,)?)) => {
        match &$database.repository {
            $crate::db::Repository::Sqlite(repository) => {
                on!(@run sqlite $database, repository $access, $deadline, $operation, $family::$function($($argument),*))
            }
            $crate::db::Repository::Postgres(repository) => {
                on!(@run postgres $database, repository $access, $deadline, $operation, $family::$function($($argument),*))
            }
        }
    };
    (@run $backend:ident $database:expr, $repository:ident $access:ident, $deadline:expr, $operation:literal,
     $family:ident::$function:ident($($argument:expr),*)) => {{
        let work = $crate::db::pool::$backend::run($repository.$access(), $operation, $deadline, move |connection| {
            Box::pin(async move { $crate::db::$family::$backend::$function(connection, $($argument),*).await })
        });
        on!(@runtime $access $database).finish_within($deadline, $operation, work).await
    }};
    (@runtime flush $database:expr) => { $database.background };
    (@runtime $access:ident $database:expr) => { $database.runtime };
}
