//! API keys: listed, revoked, rotated, and when they were used.

use super::*;

fn key_id(text: &str) -> KeyId {
    KeyId::parse(text).unwrap()
}

fn rotation(old: &str, new: &str, old_ends_at: Timestamp) -> KeyRotation {
    KeyRotation { old: key_id(old), old_ends_at, new: key_id(new), secret_sha256: [0x5a; 32] }
}

async fn ends(database: &Database, name: &str) -> Option<Timestamp> {
    database.list_keys().await.unwrap().into_iter().find(|key| key.id == key_id(name)).unwrap().expires_at
}

on_every_database! {
    async fn keys_are_listed_until_and_after_they_are_revoked(home) {
        let database = home.database().await;
        let plain = ApiKeyRecord { user_id: None, expires_at: None, ..api_key("aaaaaaaa") };
        database.insert_key(&api_key("bbbbbbbb"), &author(), HOUR).await.unwrap();
        database.insert_key(&plain, &author(), HOUR).await.unwrap();
        assert_eq!(database.list_keys().await.unwrap(), vec![plain.clone(), api_key("bbbbbbbb")]);
        assert!(matches!(
            database.insert_key(&plain, &author(), HOUR).await,
            Err(DbError::Query { .. })
        ));

        assert!(database.revoke_key(&plain.id, &author(), at(9)).await.unwrap());
        assert!(!database.revoke_key(&plain.id, &author(), at(9)).await.unwrap());
        assert!(!database.revoke_key(&KeyId::parse("cccccccc").unwrap(), &author(), at(9)).await.unwrap());
        let revoked = ApiKeyRecord { revoked_at: Some(at(9)), ..plain };
        assert_eq!(database.list_keys().await.unwrap()[0], revoked);
    }

    async fn a_rotated_key_and_its_successor_are_one_change(home) {
        let database = home.database().await;
        database.insert_key(&api_key("aaaaaaaa"), &author(), HOUR).await.unwrap();
        database.note_key_uses(&[(key_id("aaaaaaaa"), at(8))]).await.unwrap();
        let seen = database.changes_since(0).await.unwrap().version;
        let new = database.rotate_key(&rotation("aaaaaaaa", "bbbbbbbb", at(20)), &author(), at(10)).await.unwrap();
        let like_the_old =
            ApiKeyRecord { id: key_id("bbbbbbbb"), secret_sha256: [0x5a; 32], created_at: at(10), ..api_key("aaaaaaaa") };
        assert_eq!(new, KeyRotated::To(like_the_old.clone()));
        let (expires_at, last_used_at, successor) = (Some(at(20)), Some(at(8)), Some(key_id("bbbbbbbb")));
        let ending = ApiKeyRecord { expires_at, last_used_at, successor, ..api_key("aaaaaaaa") };
        let mut listed = database.list_keys().await.unwrap();
        listed.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(listed, vec![ending, like_the_old]);
        let told = database.changes_since(seen).await.unwrap();
        assert_eq!((told.keys, told.everything, told.version), (true, false, seen + 2));
        let trail = database.audit(2, None).await.unwrap();
        let shown: Vec<_> = trail.iter().map(|entry| (entry.action.as_str(), entry.target.as_str(), entry.at)).collect();
        assert_eq!(shown, [("key.create", "key:bbbbbbbb", at(10)), ("key.rotate", "key:aaaaaaaa", at(10))]);
        let end = |entry: &Option<serde_json::Value>| entry.as_ref().unwrap()["expires_at"].clone();
        assert_eq!((end(&trail[1].before), end(&trail[1].after)), (json!(at(100)), json!(at(20))));

        // One that ends sooner by itself does.
        database.rotate_key(&rotation("bbbbbbbb", "cccccccc", at(200)), &author(), at(10)).await.unwrap();
        assert_eq!(ends(&database, "bbbbbbbb").await, Some(at(100)));

        database.revoke_key(&key_id("cccccccc"), &author(), at(10)).await.unwrap();
        for (old, now, refused) in [
            ("aaaaaaaa", at(10), KeyRotated::Before(key_id("bbbbbbbb"))),
            ("aaaaaaaa", at(20), KeyRotated::Absent),
            ("cccccccc", at(10), KeyRotated::Absent),
            ("dddddddd", at(10), KeyRotated::Absent),
        ] {
            let answered = database.rotate_key(&rotation(old, "eeeeeeee", at(40)), &author(), now).await.unwrap();
            assert_eq!(answered, refused, "{old}");
        }
        // Where the successor can't be added, the old key is as it was.
        database.insert_key(&api_key("ffffffff"), &author(), HOUR).await.unwrap();
        assert!(database.rotate_key(&rotation("ffffffff", "aaaaaaaa", at(11)), &author(), at(10)).await.is_err());
        assert_eq!(ends(&database, "ffffffff").await, Some(at(100)));
    }

    async fn when_keys_were_used_goes_forward_alone_and_nobody_is_told(home) {
        let database = home.database().await;
        for name in ["aaaaaaaa", "bbbbbbbb", "cccccccc"] {
            database.insert_key(&api_key(name), &author(), HOUR).await.unwrap();
        }
        let seen = database.changes_since(0).await.unwrap().version;
        let uses = |uses: &[(&str, i64)]| uses.iter().map(|(name, hour)| (key_id(name), at(*hour))).collect::<Vec<_>>();
        database.note_key_uses(&uses(&[("bbbbbbbb", 5), ("aaaaaaaa", 7), ("gone0000", 7)])).await.unwrap();
        // Another instance saw the one earlier, and the other later.
        database.note_key_uses(&uses(&[("aaaaaaaa", 6), ("bbbbbbbb", 9)])).await.unwrap();
        database.note_key_uses(&[]).await.unwrap();
        let used: Vec<_> = database.list_keys().await.unwrap().into_iter().map(|key| key.last_used_at).collect();
        assert_eq!(used, [Some(at(7)), Some(at(9)), None]);
        assert_eq!(database.changes_since(seen).await.unwrap().version, seen);
    }
}
