//! What administrators set of the policy: tiers, endpoint costs, and in which tier a user is.

use quotad::domain::endpoint::EndpointCost;
use quotad::domain::policy::{Layer, TierRemoval};
use quotad::domain::schedule::ResetSchedule;
use quotad::domain::tier::Tier;

use super::*;

fn plan(name: &str, per_hour: u64) -> Tier {
    Tier::hourly_and_daily(tier(name), per_hour, 1000, 5)
}

fn costs(text: &str) -> Vec<EndpointCost> {
    serde_json::from_str(text).unwrap()
}

on_every_database! {
    async fn tiers_and_costs_are_as_they_were_set(home) {
        let database = home.database().await;
        let by = author();
        assert_eq!(database.load_policy().await.unwrap(), Layer::default());
        assert!(database.put_tier(&plan("pro", 1), &by, HOUR).await.unwrap());
        assert!(database.put_tier(&plan("gold", 2), &by, HOUR).await.unwrap());
        assert!(database.put_tier(&plan("pro", 3), &by, HOUR).await.unwrap());
        let first = costs(r#"[{"path": "/a", "methods": ["GET"], "cost": 2}, {"path": "/b", "methods": [], "cost": 0}]"#);
        database.put_endpoint_costs(&first, &by, HOUR).await.unwrap();
        let known = database.load_policy().await.unwrap();
        assert_eq!(known, Layer { tiers: vec![plan("gold", 2), plan("pro", 3)], costs: Some(first) });

        database.put_endpoint_costs(&[], &by, HOUR).await.unwrap();
        assert_eq!(database.load_policy().await.unwrap().costs, Some(Vec::new()), "an empty list is a list");
        assert_eq!(database.delete_tier(&tier("gold"), false, &by, HOUR).await.unwrap(), TierRemoval::Removed);
        assert_eq!(database.delete_tier(&tier("gold"), false, &by, HOUR).await.unwrap(), TierRemoval::Absent);
        assert_eq!(database.load_policy().await.unwrap().tiers, vec![plan("pro", 3)]);
    }

    async fn a_tier_that_users_are_placed_in_stays_unless_a_lower_layer_has_one(home) {
        let database = home.database().await;
        database.put_tier(&plan("gold", 2), &author(), HOUR).await.unwrap();
        assert!(database.put_user(&id("42"), &entry(Some("gold")), true, &author(), HOUR).await.unwrap());
        assert_eq!(database.delete_tier(&tier("gold"), false, &author(), HOUR).await.unwrap(), TierRemoval::InUse { users: 1 });
        assert_eq!(database.delete_tier(&tier("gold"), true, &author(), HOUR).await.unwrap(), TierRemoval::Removed);
        assert!(!database.put_user(&id("7"), &entry(Some("gold")), true, &author(), HOUR).await.unwrap(), "no such tier");
        assert_eq!(database.load_accounts(&[id("7")]).await.unwrap(), vec![]);
        assert!(database.put_user(&id("7"), &UserEntry::default(), true, &author(), HOUR).await.unwrap());
    }

    async fn tiers_are_bounded(home) {
        let database = home.database().await;
        let rows: Vec<String> = (0..999).map(|number| format!("('t{number}', '', 0)")).collect();
        home.execute(&format!("INSERT INTO tiers VALUES {}", rows.join(","))).await;
        assert!(database.put_tier(&plan("gold", 1), &author(), HOUR).await.unwrap());
        assert!(!database.put_tier(&plan("silver", 1), &author(), HOUR).await.unwrap());
        assert!(database.put_tier(&plan("gold", 2), &author(), HOUR).await.unwrap(), "one that is there may change");
        assert_eq!(database.load_policy().await.unwrap().tiers, vec![plan("gold", 2)], "what is no tier is skipped");
    }

    async fn what_no_longer_parses_is_skipped(home) {
        let database = home.database().await;
        database.put_tier(&plan("gold", 1), &author(), HOUR).await.unwrap();
        database.put_user(&id("42"), &entry(Some("gold")), true, &author(), HOUR).await.unwrap();
        let gold = serde_json::to_string(&plan("gold", 1)).unwrap();
        home.execute(&format!(
            "INSERT INTO tiers VALUES ('silver', '{gold}', 0), ('bad', '{{}}', 0), ('worse', 'x', 0); \
             INSERT INTO endpoint_costs VALUES (1, '[{{\"path\": \"/a\", \"methods\": [], \"cost\": -1}}]', 0); \
             INSERT INTO reset_schedules VALUES ('42', '{{\"week\": 1}}x', 0), ('', '{{}}', 0)"
        )).await;
        assert_eq!(database.load_policy().await.unwrap(), Layer { tiers: vec![plan("gold", 1)], costs: None });
        let account = database.load_accounts(&[id("42")]).await.unwrap().remove(0);
        assert_eq!((account.tier, account.reset_schedule), (Some(tier("gold")), None));
    }

    async fn every_change_is_told_and_in_the_audit_trail(home) {
        let database = home.database().await;
        let by = author();
        database.put_tier(&plan("gold", 1), &by, at(0)).await.unwrap();
        let told = database.changes_since(0).await.unwrap();
        assert_eq!((told.version, told.policy, told.keys, told.users, told.everything), (1, true, false, vec![], false));
        database.put_tier(&plan("gold", 2), &by, at(1)).await.unwrap();
        database.put_endpoint_costs(&costs(r#"[{"path": "/a", "methods": [], "cost": 2}]"#), &by, at(2)).await.unwrap();
        assert!(database.changes_since(2).await.unwrap().policy);
        database.delete_tier(&tier("gold"), false, &by, at(3)).await.unwrap();
        assert!(database.changes_since(3).await.unwrap().policy);
        database.delete_tier(&tier("gold"), false, &by, at(4)).await.unwrap();
        database.put_user(&id("42"), &entry(Some("pro")), false, &by, at(5)).await.unwrap();
        assert!(!database.changes_since(4).await.unwrap().policy);
        database.put_user(&id("42"), &UserEntry::default(), false, &by, at(6)).await.unwrap();

        let gold = |per_hour| Some(serde_json::to_value(plan("gold", per_hour)).unwrap());
        let list = Some(json!({"costs": [{"path": "/a", "methods": [], "cost": 2}]}));
        let set = Some(json!({"tier": "pro", "reset_schedule": null}));
        let entries = database.audit(100, None).await.unwrap();
        let shown: Vec<_> = entries
            .into_iter()
            .map(|entry| (entry.action, entry.target, entry.at, entry.before, entry.after))
            .collect();
        let row = |action: &str, target: &str, hours, before, after| {
            (action.to_owned(), target.to_owned(), at(hours), before, after)
        };
        assert_eq!(shown, [
            row("user.put", "user:42", 6, set.clone(), None),
            row("user.put", "user:42", 5, None, set),
            row("tier.delete", "tier:gold", 3, gold(2), None),
            row("endpoints.put", "endpoints", 2, None, list),
            row("tier.put", "tier:gold", 1, gold(1), gold(2)),
            row("tier.put", "tier:gold", 0, None, gold(1)),
        ]);
    }

    async fn a_users_schedule_is_part_of_the_entry(home) {
        let database = home.database().await;
        let text = r#"{"day":{"at":"06:30","timezone":"Europe/Berlin"}}"#;
        let schedule: ResetSchedule = serde_json::from_str(text).unwrap();
        let scheduled = UserEntry { tier: None, reset_schedule: Some(schedule.clone()) };
        database.put_user(&id("42"), &scheduled, false, &author(), at(0)).await.unwrap();
        let account = Account { reset_schedule: Some(schedule), ..Account::unknown(id("42")) };
        assert_eq!(database.load_accounts(&[id("42")]).await.unwrap(), vec![account]);
        assert_eq!(database.changes_since(0).await.unwrap().users, vec![id("42")]);
        database.put_user(&id("42"), &entry(Some("pro")), false, &author(), at(1)).await.unwrap();
        assert_eq!(database.load_accounts(&[id("42")]).await.unwrap()[0].reset_schedule, None);
        let newest = database.audit(1, None).await.unwrap().remove(0);
        let set = json!({"tier": null, "reset_schedule": {"day": {"at": "06:30", "timezone": "Europe/Berlin"}}});
        assert_eq!((newest.before, newest.after), (Some(set), Some(json!({"tier": "pro", "reset_schedule": null}))));
    }
}
