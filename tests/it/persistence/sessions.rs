//! Connections that are left in the middle of something: none of them is used again, and none holds its locks for long.

use super::lost_answers::proxy_before;
use super::*;
use crate::support::tcp_proxy::Fate;

/// A statement that was given up is still on its way: whoever got its connection next would wait for it too.
#[actix::test]
async fn a_connection_that_still_waits_for_an_answer_is_not_used_again() {
    let home = Home::postgres();
    let settings = DatabaseSettings { max_connections: 1, ..home.settings.clone() };
    let database = Database::connect(&settings).unwrap();
    let _lock = home.lock_with("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    let late = database.load_accounts(&[id("1")]).await;
    assert!(matches!(late, Err(DbError::TimedOut { .. })), "{late:?}");
    database.ping().await.unwrap();
}

/// The same in a transaction: what is written next must not be a part of it.
#[actix::test]
async fn a_connection_on_which_a_statement_was_given_up_is_not_used_again() {
    let home = Home::postgres();
    let settings = DatabaseSettings { max_connections: 1, ..home.settings.clone() };
    let (database, other) = (Database::connect(&settings).unwrap(), home.database().await);
    database.ping().await.unwrap();
    let lock = home.lock("change_clock").await;
    let late = database.put_user(&id("late"), &entry(Some("pro")), false, &author(), HOUR).await;
    assert!(matches!(late, Err(DbError::TimedOut { .. })), "{late:?}");
    drop(lock);
    for name in ["1", "2", "3"] {
        database.put_user(&id(name), &entry(Some("pro")), false, &author(), HOUR).await.unwrap();
        assert_eq!(other.load_accounts(&[id(name)]).await.unwrap().len(), 1, "{name} is there for everyone");
    }
}

/// The line breaks in silence between a write and its commit. The server ends that session by itself.
#[actix::test]
async fn a_transaction_that_is_left_open_does_not_hold_up_the_others_for_long() {
    let home = Home::postgres();
    let direct = home.database().await;
    let (proxy, settings) = proxy_before(&home).await;
    let database = Database::connect(&settings).unwrap();
    database.ping().await.unwrap();
    proxy.at_next("COMMIT", Fate::IsHeld);
    database.put_user(&id("1"), &entry(Some("pro")), false, &author(), HOUR).await.unwrap_err();
    let write =
        async { while direct.put_user(&id("2"), &entry(Some("pro")), false, &author(), HOUR).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(60), write).await.expect("the server ends the session");
    assert_eq!(direct.load_accounts(&[id("1"), id("2")]).await.unwrap().len(), 1);
    proxy.at_next("COMMIT", Fate::LosesReply);
}

/// Sessions end under load, as when the server restarts: whatever was recorded is there in the end, once.
#[actix::test]
async fn usage_lands_once_while_sessions_are_ended_under_it() {
    const RECORDED: u64 = 600;
    let home = Home::postgres();
    let direct = home.database().await;
    let settings = DatabaseSettings { flush_interval: Duration::from_millis(5), ..home.settings.clone() };
    let home = Home { settings, ..home };
    let books = home.books(Database::connect(&home.settings).unwrap(), "one");
    for number in 0..RECORDED {
        let subject = user(&(number % 50).to_string());
        books.record(RecordUsage { usage: vec![(key(subject, HOUR, "pro"), usage(1, 2, 0))], counters: vec![] });
        if number % 20 == 0 {
            home.execute(END_SESSIONS).await;
        }
        actix::clock::sleep(Duration::from_millis(2)).await;
    }
    books.close().await.unwrap();
    let stats = books.stats();
    assert!(stats.failures > 0 && stats.set_aside == 0 && stats.pending_rows == 0, "{stats:?}");
    // The first try may find its session ended.
    let report = match direct.usage_report(DAY, ReportOrder::Cost, 1).await {
        Ok(report) => report,
        Err(_) => direct.usage_report(DAY, ReportOrder::Cost, 1).await.unwrap(),
    };
    assert_eq!(report.totals.usage, usage(RECORDED, 2 * RECORDED, 0));
}
