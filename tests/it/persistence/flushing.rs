//! One flush: all of it, once, however many send at the same time.

use super::*;

on_every_database! {
    async fn a_flush_lands_once_however_often_it_is_sent(home) {
        let database = home.database().await;
        let rows = vec![(key(user("42"), HOUR, "pro"), usage(3, 6, 1))];
        let first = batch(1, rows.clone());
        assert_eq!(database.flush(&first, HOUR).await.unwrap(), applied());
        assert_eq!(database.flush(&first, HOUR).await.unwrap(), FlushOutcome::AlreadyApplied);
        assert_eq!(all_of(&database, &user("42")).await, usage(3, 6, 1));

        assert_eq!(database.flush(&batch(2, rows.clone()), HOUR).await.unwrap(), applied());
        assert_eq!(database.flush(&first, HOUR).await.unwrap(), FlushOutcome::AlreadyApplied);
        let other = Arc::new(FlushBatch { instance: "other".to_owned(), ..(*batch(1, rows)).clone() });
        assert_eq!(database.flush(&other, HOUR).await.unwrap(), applied());
        assert_eq!(all_of(&database, &user("42")).await, usage(9, 18, 3));
    }

    async fn instances_that_flush_the_same_subjects_at_once_add_up(home) {
        let (one, other) = (home.database().await, home.database().await);
        let rows = |turn: i64| (0..300_i64).map(move |number| {
            let number = (number * 7 + turn * 13) % 300;
            (key(user(&number.to_string()), HOUR, "free"), usage(1, 1, 0))
        });
        let flush = |database: Database, instance: &'static str| async move {
            for sequence in 1..=10 {
                let batch = FlushBatch {
                    instance: instance.to_owned(),
                    sequence,
                    usage: rows(sequence).collect(),
                    ..FlushBatch::default()
                };
                assert_eq!(database.flush(&Arc::new(batch), HOUR).await.unwrap(), applied());
            }
        };
        futures_util::future::join(flush(one.clone(), "one"), flush(other, "other")).await;
        assert_eq!(one.usage_report(DAY, ReportOrder::Cost, 1).await.unwrap().totals.usage, usage(6_000, 6_000, 0));
    }

    async fn amounts_stop_at_the_largest_that_json_holds(home) {
        let database = home.database().await;
        for sequence in 1..=3 {
            let rows = vec![(key(user("1"), at(sequence % 2), "free"), usage(u64::MAX, (1 << 53) - 2, 1))];
            database.flush(&batch(sequence, rows), HOUR).await.unwrap();
        }
        let day = database.history(&user("1"), range(Granularity::Day, at(0), at(24))).await.unwrap().items;
        assert_eq!(day, vec![HistoryItem { start: at(0), usage: usage((1 << 53) - 1, (1 << 53) - 1, 3) }]);
    }
}
