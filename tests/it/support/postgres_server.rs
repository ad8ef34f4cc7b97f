//! A PostgreSQL database for each test, copied from a template that the service's own migrations made.
//!
//! The server itself is started by `scripts/with-postgres`, once for a whole run of the tests.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use quotad::config::{DatabaseLocation, DatabaseSettings, Secret};
use quotad::db::Database;
use tokio_postgres::{Client, NoTls};

use super::tcp_proxy::TcpProxy;

/// The address of a fresh, migrated database. It may be called from async code: the work is done on a thread of its own.
///
/// Panics where no server was started.
pub fn database() -> String {
    static TEMPLATE: OnceLock<()> = OnceLock::new();
    TEMPLATE.get_or_init(|| on_own_thread(make_template()));
    on_own_thread(copy(TEMPLATE_NAME))
}

/// The address of a fresh database without a single table.
pub fn empty_database() -> String {
    on_own_thread(copy("template0"))
}

/// The address of the server: a superuser's, of the database `postgres`.
pub fn server_url() -> String {
    std::env::var("QUOTAD_TEST_POSTGRES_URL").expect("run by `make test` or scripts/with-postgres")
}

/// The address of another database on the same server.
pub fn url_of(name: &str) -> String {
    let (server, _) = server_url().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a path");
    format!("{server}/{name}")
}

/// Where the server listens on loopback.
pub fn port() -> u16 {
    let url = server_url();
    let port = url.rsplit(':').next().and_then(|end| end.split('/').next());
    port.expect("a port").parse().expect("a number")
}

/// The same database, asked by way of a proxy before the server.
pub fn url_through(url: &str, proxy: &TcpProxy) -> String {
    let through = url.replacen(&format!("localhost:{}", port()), &format!("127.0.0.1:{}", proxy.port()), 1);
    format!("{through}?sslmode=disable")
}

const TEMPLATE_NAME: &str = "quotad_template";

async fn make_template() {
    let server = connect().await;
    // Another test process may be doing the same on the same server.
    server.batch_execute("SELECT pg_advisory_lock(7102)").await.expect("lock");
    let made = server.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&TEMPLATE_NAME]).await.expect("look up");
    if made.is_empty() {
        let unfinished = format!("{TEMPLATE_NAME}_unfinished");
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {unfinished}")).await.expect("drop");
        server.batch_execute(&format!("CREATE DATABASE {unfinished}")).await.expect("create");
        let database = Database::connect(&settings(&url_of(&unfinished))).expect("valid settings");
        database.migrate().await.expect("migrations");
        drop(database);
        // The connections of `database` take a moment to go, and a database in use can't be renamed.
        while let Err(error) =
            server.batch_execute(&format!("ALTER DATABASE {unfinished} RENAME TO {TEMPLATE_NAME}")).await
        {
            assert!(error.to_string().contains("db error"), "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    server.batch_execute("SELECT pg_advisory_unlock(7102)").await.expect("unlock");
}

async fn copy(template: &str) -> String {
    static COPIES: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}_{}", std::process::id(), COPIES.fetch_add(1, Ordering::Relaxed));
    let server = connect().await;
    server.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.expect("copy");
    url_of(&name)
}

async fn connect() -> Client {
    let (client, connection) = tokio_postgres::connect(&server_url(), NoTls).await.expect("the test server answers");
    tokio::spawn(connection);
    client
}

/// Settings with small numbers, as tests want them.
pub fn settings(url: &str) -> DatabaseSettings {
    DatabaseSettings {
        location: DatabaseLocation::Postgres { url: Secret::new(url) },
        max_connections: 4,
        flush_interval: Duration::from_secs(1),
        history_retention_days: 400,
    }
}

fn on_own_thread<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(work)
        };
        scope.spawn(run).join().expect("the work on the test server ends well")
    })
}
