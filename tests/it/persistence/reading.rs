//! What is read back: history, reports, running counters; and what is removed in the end.

use super::*;

on_every_database! {
    async fn history_is_by_hour_and_by_day_and_only_where_there_was_use(home) {
        let database = home.database().await;
        let rows = vec![
            (key(user("42"), at(0), "free"), usage(1, 2, 3)),
            (key(user("42"), at(5), "free"), usage(10, 20, 30)),
            (key(user("42"), at(5), "pro"), usage(100, 200, 300)),
            (key(user("42"), at(23), "pro"), usage(1, 0, 0)),
            (key(user("42"), at(48), "pro"), usage(0, 0, 1)),
            (key(user("4"), at(5), "pro"), usage(7, 7, 7)),
            (key(address("2001:db8::1"), at(5), "anonymous"), usage(8, 8, 8)),
        ];
        database.flush(&batch(1, rows), HOUR).await.unwrap();
        let item = |hour, usage| HistoryItem { start: at(hour), usage };
        assert_eq!(
            database.history(&user("42"), range(Granularity::Hour, at(0), at(24))).await.unwrap().items,
            vec![item(0, usage(1, 2, 3)), item(5, usage(110, 220, 330)), item(23, usage(1, 0, 0))]
        );
        assert_eq!(
            database.history(&user("42"), range(Granularity::Day, at(-240), at(240))).await.unwrap().items,
            vec![item(0, usage(112, 222, 333)), item(48, usage(0, 0, 1))]
        );
        assert_eq!(
            database.history(&user("42"), range(Granularity::Day, at(1), at(23))).await.unwrap().items,
            vec![item(0, usage(110, 220, 330))]
        );
        let prefix = address("2001:db8::ffff");
        assert_eq!(
            database.history(&prefix, range(Granularity::Hour, at(5), at(6))).await.unwrap().items,
            vec![item(5, usage(8, 8, 8))]
        );
        assert_eq!(database.history(&user("nobody"), range(Granularity::Day, at(0), at(24))).await.unwrap().items, vec![]);
    }

    async fn a_report_says_who_used_most_and_leaves_nobody_out(home) {
        let database = home.database().await;
        let empty = database.usage_report(at(0), ReportOrder::Cost, 20).await.unwrap();
        assert_eq!((empty.totals.usage, empty.totals.active_users, empty.tiers.len()), (usage(0, 0, 0), 0, 0));

        let rows = vec![
            (key(user("before"), at(-1), "pro"), usage(1_000, 1_000, 1_000)),
            (key(user("a"), at(0), "free"), usage(1, 10, 0)),
            (key(user("a"), at(1), "pro"), usage(1, 10, 0)),
            (key(user("b"), at(0), "free"), usage(5, 15, 2)),
            (key(user("c"), at(0), "free"), usage(1, 1, 0)),
            (key(address("203.0.113.9"), at(0), "anonymous"), usage(3, 3, 9)),
            (key(address("2001:db8::1"), at(0), "anonymous"), usage(4, 4, 0)),
        ];
        let nobody = OverflowKey { kind: SubjectKind::User, hour: at(0), tier: tier("free") };
        let whole = FlushBatch { overflow: vec![(nobody, usage(50, 50, 50))], ..(*batch(1, rows)).clone() };
        database.flush(&Arc::new(whole), HOUR).await.unwrap();
        home.execute("INSERT INTO usage VALUES ('user:odd', 1795737600000000, 'Not A Tier', 0, 0, 0)").await;

        let report = database.usage_report(at(0), ReportOrder::Cost, 2).await.unwrap();
        assert_eq!((report.start, report.totals.usage), (at(0), usage(65, 93, 61)));
        assert_eq!(report.totals.active_users, 4, "a, b, c and the one whose tier is odd");
        let tiers: Vec<_> =
            report.tiers.iter().map(|(name, totals)| (name.as_str(), totals.usage, totals.active_users)).collect();
        assert_eq!(tiers, [
            ("anonymous", usage(7, 7, 9), 2),
            ("free", usage(57, 76, 52), 3),
            ("pro", usage(1, 10, 0), 1),
        ]);
        assert_eq!(report.top_users, vec![
            (id("a"), tier("pro"), usage(2, 20, 0)),
            (id("b"), tier("free"), usage(5, 15, 2)),
        ]);
        assert_eq!(report.top_ips, vec![
            ("2001:db8::/64".to_owned(), usage(4, 4, 0)),
            ("203.0.113.9".to_owned(), usage(3, 3, 9)),
        ]);
    }

    async fn counters_come_back_until_they_say_nothing(home) {
        let database = home.database().await;
        let flush = |sequence, counters: Vec<(Subject, Option<SubjectState>)>| {
            let database = database.clone();
            let whole = FlushBatch { counters, ..(*batch(sequence, vec![])).clone() };
            async move { database.flush(&Arc::new(whole), HOUR).await.unwrap() }
        };
        flush(1, vec![
            (user("1"), Some(state(at(1)))),
            (user("2"), Some(state(at(9)))),
            (address("203.0.113.9"), Some(state(at(9)))),
            (user("3"), Some(state(at(9)))),
        ]).await;
        flush(2, vec![(user("3"), None), (user("2"), Some(state(at(8)))), (user("4"), Some(SubjectState::default()))]).await;
        home.execute("INSERT INTO counters SELECT 'user:odd', 'x', whole_at FROM counters WHERE subject = 'user:2'".replace(
            "'x'",
            if database.kind() == "sqlite" { "x'09'" } else { "'\\x09'" },
        ).as_str()).await;
        let mut known = database.load_counters(at(1)).await.unwrap();
        known.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(known, vec![(user("2"), state(at(8))), (address("203.0.113.9"), state(at(9)))]);

        database.remove_leftovers(at(9)).await.unwrap();
        assert_eq!(database.load_counters(Timestamp::EPOCH).await.unwrap(), vec![]);
    }

    async fn usage_past_its_retention_is_removed(home) {
        let database = home.database().await;
        let rows = (0..25_000).map(|number| (key(user(&number.to_string()), at(number % 2), "free"), usage(1, 1, 0)));
        database.flush(&batch(1, rows.collect()), HOUR).await.unwrap();
        assert_eq!(database.remove_usage_before(at(1)).await.unwrap(), 12_500);
        assert_eq!(database.remove_usage_before(at(1)).await.unwrap(), 0);
        assert_eq!(database.usage_report(at(0), ReportOrder::Cost, 1).await.unwrap().totals.usage, usage(12_500, 12_500, 0));
    }
}
