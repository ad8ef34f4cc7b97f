//! What administrators page through.

use quotad::domain::listing::{OverrideFilter, OverridePlace};

use super::*;

/// The ids of all users that a search finds, page by page, and how many pages there were.
async fn found(database: &Database, search: &str, limit: u32) -> (Vec<String>, usize) {
    let (mut ids, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = database.list_users(search, limit, after.as_ref()).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        ids.extend(page.items.iter().map(|user| user.account.user_id.to_string()));
        pages += 1;
        after = page.next;
        if after.is_none() {
            return (ids, pages);
        }
    }
}

async fn ends(database: &Database, active: Option<bool>, now: Timestamp) -> Vec<String> {
    let (mut users, mut after) = (Vec::new(), None::<OverridePlace>);
    loop {
        let filter = OverrideFilter { active, user: None };
        let page = database.list_overrides(&filter, 2, after.as_ref(), now).await.unwrap();
        users.extend(page.items.iter().map(|item| item.user_id.to_string()));
        after = page.next;
        if after.is_none() {
            return users;
        }
    }
}

on_every_database! {
    async fn users_are_found_in_every_table_once_and_by_any_part_of_their_id(home) {
        let database = home.database().await;
        let (by, now) = (author(), HOUR);
        database.put_user(&id("anna"), &entry(Some("pro")), false, &by, now).await.unwrap();
        database.put_override(&id("bert"), &days_override(None), &by, now).await.unwrap();
        database.put_override(&id("anna"), &days_override(None), &by, now).await.unwrap();
        let rows = vec![
            (key(user("anna"), at(0), "pro"), usage(1, 1, 0)),
            (key(user("anna"), at(3), "pro"), usage(0, 0, 1)),
            (key(user("100%"), at(1), "free"), usage(1, 1, 0)),
            (key(user("100_"), at(1), "free"), usage(1, 1, 0)),
            (key(user("1000"), at(1), "free"), usage(1, 1, 0)),
            (key(user("Änne"), at(1), "free"), usage(1, 1, 0)),
            (key(address("203.0.113.9"), at(1), "anonymous"), usage(1, 1, 0)),
        ];
        let nobody = OverflowKey { kind: SubjectKind::User, hour: at(0), tier: tier("free") };
        let whole = FlushBatch { overflow: vec![(nobody, usage(5, 5, 5))], ..(*batch(1, rows)).clone() };
        database.flush(&Arc::new(whole), HOUR).await.unwrap();

        let everybody = ["100%", "1000", "100_", "anna", "bert", "Änne"];
        for (limit, pages) in [(100, 1), (6, 1), (4, 2), (1, 6)] {
            let (ids, count) = found(&database, "", limit).await;
            assert_eq!((ids, count), (everybody.map(str::to_owned).to_vec(), pages), "{limit} a page");
        }
        for (search, expected) in
            [("nn", vec!["anna", "Änne"]), ("%", vec!["100%"]), ("_", vec!["100_"]), ("100", vec!["100%", "1000", "100_"]), ("ANNA", vec![]), ("'", vec![])]
        {
            assert_eq!(found(&database, search, 2).await.0, expected, "{search}");
        }
        let page = database.list_users("anna", 10, None).await.unwrap();
        assert_eq!(page.items[0].account.tier, Some(tier("pro")));
        assert_eq!(page.items[0].account.quota_override, Some(days_override(None)));
        assert_eq!(page.items[0].last_hour, Some(at(3)));
    }

    /// A page looks at no more than 20,000 users, and the search goes on behind them.
    async fn a_search_goes_on_where_a_page_has_looked_at_as_many_users_as_it_may(home) {
        let database = home.database().await;
        let rows = (0..5_010).map(|number| (key(user(&format!("u{number:05}")), at(0), "free"), usage(1, 1, 0)));
        database.flush(&batch(1, rows.collect()), HOUR).await.unwrap();
        let first = database.list_users("u05005", 10, None).await.unwrap();
        assert_eq!((first.items.len(), first.next.clone()), (0, Some(id("u04999"))));
        let second = database.list_users("u05005", 10, first.next.as_ref()).await.unwrap();
        assert_eq!((second.items[0].account.user_id.clone(), second.next), (id("u05005"), None));
    }

    async fn overrides_are_listed_by_when_they_end(home) {
        let database = home.database().await;
        for (name, ends) in [("c", Some(at(9))), ("never-b", None), ("a", Some(at(9))), ("ended", Some(at(1))), ("b", Some(at(20))), ("never-a", None)] {
            database.put_override(&id(name), &days_override(ends), &author(), HOUR).await.unwrap();
        }
        let now = at(2);
        assert_eq!(ends(&database, Some(true), now).await, ["a", "c", "b", "never-a", "never-b"]);
        assert_eq!(ends(&database, Some(false), now).await, ["ended"]);
        assert_eq!(ends(&database, Some(false), at(9)).await, ["ended", "a", "c"], "one ends at its instant");
        assert_eq!(ends(&database, None, now).await.len(), 6);
        let one = OverrideFilter { active: None, user: Some(id("b")) };
        let page = database.list_overrides(&one, 10, None, now).await.unwrap();
        assert_eq!((page.items.len(), page.items[0].set_at, page.items[0].quota_override.clone()), (1, HOUR, days_override(Some(at(20)))));
    }
}
