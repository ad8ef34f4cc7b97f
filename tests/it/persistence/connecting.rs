//! Opening the database: migrations, addresses, a server that is away or comes back.

use std::path::PathBuf;

use super::*;

on_every_database! {
    async fn migrating_twice_and_at_once_is_one_migration(home) {
        let home = home.without_tables();
        let instances: Vec<_> = (0..8).map(|_| Database::connect(&home.settings).unwrap()).collect();
        let migrated = futures_util::future::join_all(instances.iter().map(Database::migrate)).await;
        migrated.into_iter().for_each(Result::unwrap);
        instances[0].migrate().await.unwrap();
        instances[0].ping().await.unwrap();
    }

    async fn a_migration_waits_for_another_for_longer_than_any_statement(home) {
        let lock = match home.settings.location {
            DatabaseLocation::Sqlite { .. } => home.lock("schema").await,
            DatabaseLocation::Postgres { .. } => home.lock_with("SELECT pg_advisory_lock(x'71756f746164'::bigint)").await,
        };
        let database = Database::connect(&home.settings).unwrap();
        let migrating = actix::spawn(async move { database.migrate().await });
        actix::clock::sleep(Duration::from_millis(6_500)).await;
        assert!(!migrating.is_finished());
        drop(lock);
        migrating.await.unwrap().unwrap();
    }
}

#[actix::test]
async fn a_database_that_is_away_is_said_to_be_so_at_once() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = postgres_server::settings(&format!("postgres://quotad@{closed}/quotad"));
    let database = Database::connect(&settings).unwrap();
    assert!(database.ping().await.unwrap_err().is_unavailable());
    assert!(database.migrate().await.unwrap_err().is_unavailable());

    let books = Home { settings, _folder: None }.books(database, "one");
    books.record(RecordUsage { usage: vec![(key(user("42"), HOUR, "pro"), usage(1, 2, 0))], counters: vec![] });
    let asked = tokio::time::timeout(
        Duration::from_secs(4),
        books.history(Some(&user("42")), range(Granularity::Day, DAY, HOUR)),
    )
    .await;
    assert!(matches!(asked.unwrap(), Err(BooksError::Unavailable { .. })));
    assert_eq!(books.stats().pending_rows, 1);
}

#[actix::test]
async fn a_server_that_restarts_is_found_again() {
    let home = Home::postgres();
    let database = home.database().await;
    for _ in 0..3 {
        database.put_user(&id("1"), &entry(Some("pro")), false, &author(), HOUR).await.unwrap();
        home.execute(END_SESSIONS).await;
        // The pool learns of it when the connection's task does.
        while database.ping().await.is_err() {}
    }
}

#[actix::test]
async fn tls_is_as_strict_as_sslmode_says() {
    let Ok(authority) = std::env::var("QUOTAD_TEST_POSTGRES_CA_FILE") else { return };
    let url = postgres_server::database();
    assert!(url.contains("localhost"), "the certificate is for that name");
    let by_address = url.replace("localhost", "127.0.0.1");
    let ping = |url: String| async move { Database::connect(&postgres_server::settings(&url)).unwrap().ping().await };
    for parameters in [
        "sslmode=disable".to_owned(),
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=verify-ca&sslrootcert={authority}"),
        format!("sslmode=verify-full&sslrootcert={authority}"),
    ] {
        ping(format!("{url}?{parameters}")).await.unwrap_or_else(|error| panic!("{parameters}: {error:?}"));
    }
    ping(format!("{by_address}?sslmode=verify-ca&sslrootcert={authority}")).await.unwrap();
    for (url, parameters) in [
        (&by_address, format!("sslmode=verify-full&sslrootcert={authority}")),
        (&url, "sslmode=verify-full".to_owned()),
        (&url, "sslmode=verify-ca".to_owned()),
    ] {
        assert!(ping(format!("{url}?{parameters}")).await.unwrap_err().is_unavailable(), "{parameters}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let location = DatabaseLocation::Sqlite { path: PathBuf::from("/dev/null/quotad/quotad.db") };
    let told = Database::connect(&settings(location)).map(|_| ()).unwrap_err().to_string();
    assert!(told.contains("/dev/null/quotad"), "{told}");
}
