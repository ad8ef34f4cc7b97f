//! The books: what is recorded waits, lands, and is not lost on the way.

use super::*;

on_every_database! {
    async fn what_is_recorded_is_in_the_history_that_is_read_next(home) {
        let database = home.database().await;
        let books = home.books(database.clone(), "one");
        for _ in 0..3 {
            books.record(RecordUsage {
                usage: vec![(key(user("42"), HOUR, "pro"), usage(1, 2, 0))],
                counters: vec![(user("42"), Some(state(at(48))))],
            });
        }
        assert_eq!(books.stats().pending_rows, 2);
        let items = books.history(Some(&user("42")), range(Granularity::Hour, DAY, at(24))).await.unwrap().items;
        assert_eq!(items, vec![HistoryItem { start: HOUR, usage: usage(3, 6, 0) }]);
        assert_eq!(books.usage_report(DAY, ReportOrder::Cost, 3).await.unwrap().totals.active_users, 1);
        let stats = books.stats();
        assert_eq!((stats.pending_rows, stats.flushes, stats.rows_flushed, stats.failures), (0, 1, 2, 0));
        assert_eq!(database.load_counters(HOUR).await.unwrap(), vec![(user("42"), state(at(48)))]);
        books.close().await.unwrap();
    }

    async fn closing_flushes_and_then_nothing_is_taken(home) {
        let database = home.database().await;
        let books = home.books(database.clone(), "one");
        let bounds = LedgerBounds::default();
        let rows = i64::try_from(bounds.batch_rows * 2 + 1).unwrap();
        let recorded = (0..rows).map(|number| (key(user(&number.to_string()), HOUR, "pro"), usage(1, 1, 0)));
        books.record(RecordUsage { usage: recorded.collect(), counters: vec![] });
        books.close().await.unwrap();
        assert_eq!(books.stats().flushes, 3);
        let total = u64::try_from(rows).unwrap();
        assert_eq!(database.usage_report(DAY, ReportOrder::Cost, 1).await.unwrap().totals.usage, usage(total, total, 0));
        assert!(matches!(books.flush().await, Err(BooksError::Stopped)));
    }

    async fn a_flush_that_failed_is_kept_and_lands_later(home) {
        let books = home.books(home.database().await, "one");
        home.execute("ALTER TABLE usage RENAME TO elsewhere").await;
        books.record(RecordUsage { usage: vec![(key(user("42"), HOUR, "pro"), usage(1, 2, 0))], counters: vec![] });
        assert!(matches!(books.flush().await, Err(BooksError::Unavailable { .. })));
        books.record(RecordUsage { usage: vec![(key(user("42"), HOUR, "pro"), usage(1, 2, 0))], counters: vec![] });
        let stats = books.stats();
        assert!(stats.failures >= 1 && stats.last_error.is_some() && stats.oldest_pending == Some(HOUR), "{stats:?}");
        home.execute("ALTER TABLE elsewhere RENAME TO usage").await;
        let items = books.history(Some(&user("42")), range(Granularity::Day, DAY, at(24))).await.unwrap().items;
        assert_eq!(items, vec![HistoryItem { start: DAY, usage: usage(2, 4, 0) }]);
        assert_eq!(books.stats().last_error, None);
        books.close().await.unwrap();
    }

    async fn closing_while_the_loop_pauses_after_a_failure_still_writes(home) {
        let database = home.database().await;
        let books = home.books(database.clone(), "one");
        home.execute("ALTER TABLE usage RENAME TO elsewhere").await;
        books.record(RecordUsage { usage: vec![(key(user("42"), HOUR, "pro"), usage(1, 2, 0))], counters: vec![] });
        while books.stats().failures < 5 {
            books.flush().await.unwrap_err();
        }
        // The table comes back when the close has failed a first time.
        let failures = books.stats().failures;
        let come_back = async {
            while books.stats().failures == failures {
                actix::clock::sleep(Duration::from_millis(5)).await;
            }
            home.execute("ALTER TABLE elsewhere RENAME TO usage").await;
        };
        futures_util::future::join(books.close(), come_back).await.0.unwrap();
        assert_eq!(books.stats().pending_rows, 0);
        assert_eq!(all_of(&database, &user("42")).await, usage(1, 2, 0));
    }

    async fn so_many_wait_for_a_flush_and_no_more(home) {
        const WAITING: usize = 1024;
        const ASKING: usize = WAITING + 300;
        let database = home.database().await;
        let books = home.books(database.clone(), "one");
        // Its queue is small until the loop has started.
        books.flush().await.unwrap();
        books.record(RecordUsage { usage: vec![(key(user("42"), HOUR, "pro"), usage(1, 2, 0))], counters: vec![] });
        let lock = home.lock("usage").await;
        let asked: Vec<_> = (0..ASKING).map(|_| {
            let books = books.clone();
            actix::spawn(async move { books.flush().await })
        }).collect();
        while asked.iter().filter(|asked| asked.is_finished()).count() < ASKING - WAITING {
            actix::clock::sleep(Duration::from_millis(5)).await;
        }
        drop(lock);
        let answers = futures_util::future::join_all(asked).await;
        let landed = answers.iter().filter(|answer| matches!(answer, Ok(Ok(())))).count();
        assert_eq!(landed, WAITING);
        assert_eq!(all_of(&database, &user("42")).await, usage(1, 2, 0));
        books.close().await.unwrap();
    }

    async fn ticks_flush_without_being_asked(home) {
        let settings = DatabaseSettings { flush_interval: Duration::from_millis(20), ..home.settings.clone() };
        let home = Home { settings, ..home };
        let books = home.books(home.database().await, "one");
        books.record(RecordUsage { usage: vec![(key(user("42"), HOUR, "pro"), usage(1, 2, 0))], counters: vec![] });
        while books.stats().flushes == 0 {
            actix::clock::sleep(Duration::from_millis(5)).await;
        }
        books.close().await.unwrap();
    }
}
