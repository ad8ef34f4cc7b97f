//! What administrators set: accounts, and the trail of changes that it leaves.

use super::*;

on_every_database! {
    async fn accounts_are_as_they_were_set(home) {
        let database = home.database().await;
        let (by, now) = (author(), HOUR);
        database.put_override(&id("42"), &days_override(Some(at(100))), &by, now).await.unwrap();
        database.put_user(&id("42"), &entry(Some("pro")), false, &by, now).await.unwrap();
        database.put_user(&id("a:b{}%*'\""), &entry(Some("free")), false, &by, now).await.unwrap();
        database.put_override(&id("7"), &days_override(None), &by, now).await.unwrap();

        let mut asked: Vec<_> = (0..1_500).map(|number| id(&format!("nobody-{number}"))).collect();
        asked.extend([id("42"), id("a:b{}%*'\""), id("7")]);
        let found = database.load_accounts(&asked).await.unwrap();
        assert_eq!(found, vec![
            Account { user_id: id("42"), tier: Some(tier("pro")), quota_override: Some(days_override(Some(at(100)))), reset_schedule: None },
            Account { user_id: id("7"), tier: None, quota_override: Some(days_override(None)), reset_schedule: None },
            Account { user_id: id("a:b{}%*'\""), tier: Some(tier("free")), quota_override: None, reset_schedule: None },
        ]);

        // An override that has ended is still there, for whoever asks what was.
        let account = &found[0];
        assert!(account.active_override(at(99)).is_some() && account.active_override(at(100)).is_none());

        let replaced = QuotaOverride { requests_per_hour: None, requests_per_day: Some(0), expires_at: None, reason: None };
        database.put_override(&id("42"), &replaced, &by, now).await.unwrap();
        assert_eq!(database.load_accounts(&[id("42")]).await.unwrap()[0].quota_override, Some(replaced));
        assert!(database.delete_override(&id("42"), &by, now).await.unwrap());
        assert!(!database.delete_override(&id("42"), &by, now).await.unwrap());
        database.put_user(&id("42"), &entry(None), false, &by, now).await.unwrap();
        assert_eq!(database.load_accounts(&[id("42")]).await.unwrap(), vec![]);
        assert_eq!(database.load_accounts(&[]).await.unwrap(), vec![]);
    }

    async fn changes_are_told_in_order_and_once_each(home) {
        let database = home.database().await;
        let start = database.changes_since(0).await.unwrap();
        assert_eq!((start.version, start.users.len(), start.keys, start.everything), (0, 0, false, false));

        database.put_override(&id("1"), &days_override(None), &author(), HOUR).await.unwrap();
        database.put_user(&id("2"), &entry(Some("pro")), false, &author(), HOUR).await.unwrap();
        database.put_user(&id("2"), &entry(None), false, &author(), HOUR).await.unwrap();
        let mut told = database.changes_since(0).await.unwrap();
        told.users.sort();
        assert_eq!((told.version, told.users, told.keys), (3, vec![id("1"), id("2")], false));

        database.insert_key(&api_key("aaaaaaaa"), &author(), HOUR).await.unwrap();
        let told = database.changes_since(3).await.unwrap();
        assert_eq!((told.version, told.users, told.keys), (4, vec![], true));
        assert_eq!(database.changes_since(4).await.unwrap().version, 4);

        // Whoever has seen more than there is saw another database.
        assert!(database.changes_since(5).await.unwrap().everything);
        home.execute("INSERT INTO changes (version, kind, at) VALUES (5, 'tiers', 0); UPDATE change_clock SET version = 5").await;
        assert!(database.changes_since(4).await.unwrap().everything, "a kind of a newer binary");
        home.execute("UPDATE change_clock SET version = 200000").await;
        assert!(database.changes_since(3).await.unwrap().everything, "further back than is kept");
    }

    async fn writers_at_once_take_versions_without_gaps(home) {
        let database = home.database().await;
        let write = |number: usize| {
            let (database, user) = (database.clone(), id(&number.to_string()));
            async move { database.put_user(&user, &entry(Some("pro")), false, &author(), HOUR).await.unwrap() }
        };
        let watch = async {
            let (mut seen, mut users) = (0, Vec::new());
            while users.len() < 40 {
                let told = database.changes_since(seen).await.unwrap();
                assert!(told.version >= seen);
                seen = told.version;
                users.extend(told.users);
            }
            (seen, users)
        };
        let (_, (seen, mut users)) = futures_util::future::join(futures_util::future::join_all((0..40).map(write)), watch).await;
        users.sort();
        users.dedup();
        assert_eq!((seen, users.len()), (40, 40));
    }

    async fn every_change_is_in_the_audit_trail(home) {
        let database = home.database().await;
        database.put_override(&id("42"), &days_override(Some(at(1))), &author(), at(0)).await.unwrap();
        database.delete_override(&id("42"), &author(), at(1)).await.unwrap();
        database.delete_override(&id("42"), &author(), at(1)).await.unwrap();
        database.put_user(&id("42"), &entry(Some("pro")), false, &author(), at(2)).await.unwrap();
        database.insert_key(&api_key("aaaaaaaa"), &author(), at(3)).await.unwrap();
        let itself = Author { actor: "quotad".to_owned(), address: None, expects: Expectation::Anything };
        database.revoke_key(&KeyId::parse("aaaaaaaa").unwrap(), &itself, at(4)).await.unwrap();
        let seen = database.changes_since(0).await.unwrap().version;
        database.note_reset(&user("42"), json!(["hour"]), &author(), at(5)).await.unwrap();
        assert_eq!(database.changes_since(seen).await.unwrap().users, vec![id("42")], "other instances hold what was reset");
        database.note_reset(&address("203.0.113.9"), json!(null), &author(), at(6)).await.unwrap();
        assert_eq!(database.changes_since(seen + 1).await.unwrap().users, vec![]);

        let entries = database.audit(100, None).await.unwrap();
        let shown: Vec<_> = entries.iter().map(|entry| (entry.action.as_str(), entry.target.as_str(), entry.at)).collect();
        assert_eq!(shown, [
            ("quota.reset", "ip:203.0.113.9", at(6)),
            ("quota.reset", "user:42", at(5)),
            ("key.revoke", "key:aaaaaaaa", at(4)),
            ("key.create", "key:aaaaaaaa", at(3)),
            ("user.put", "user:42", at(2)),
            ("override.delete", "user:42", at(1)),
            ("override.put", "user:42", at(0)),
        ]);
        let entries = &entries[1..];
        assert_eq!(entries[0].after, Some(json!({"limits": ["hour"]})));
        let set = json!({
            "custom_requests_per_hour": 500, "custom_requests_per_day": null,
            "expires_at": "2026-11-27T01:00:00Z", "reason": "it's ä \"test\"",
        });
        assert_eq!((&entries[5].before, &entries[5].after), (&None, &Some(set.clone())));
        assert_eq!((&entries[4].before, &entries[4].after), (&Some(set), &None));
        assert_eq!(entries[3].after, Some(json!({"tier": "pro", "reset_schedule": null})));
        assert_eq!((entries[5].actor.as_str(), entries[5].address.as_deref()), ("key:testkey1", Some("203.0.113.9")));
        assert_eq!((entries[1].actor.as_str(), entries[1].address.as_deref()), ("quotad", None));

        let page = database.audit(2, Some(entries[1].id)).await.unwrap();
        assert_eq!(page, entries[2..4]);
    }
}
