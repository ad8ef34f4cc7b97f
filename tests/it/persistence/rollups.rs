//! Reports and the system's history are the same with sums as without, whatever is flushed when.

use std::collections::{BTreeMap, BTreeSet};

use quotad::domain::report::UsageReport;

use super::*;
use crate::history::dice::Dice;

/// What a report says, of rows added up one by one.
#[derive(Default)]
struct Naive {
    rows: Vec<(UsageKey, Usage)>,
}

type Ranked = Vec<(String, Usage)>;

impl Naive {
    fn since(&self, since: Timestamp) -> impl Iterator<Item = &(UsageKey, Usage)> {
        self.rows.iter().filter(move |(key, _)| key.hour >= since)
    }

    fn ranked(&self, since: Timestamp, prefix: &str, order: ReportOrder, top: usize) -> Ranked {
        let mut sums: BTreeMap<String, Usage> = BTreeMap::new();
        for (key, usage) in self.since(since) {
            if let Some(id) = key.subject.to_string().strip_prefix(prefix) {
                sums.entry(id.to_owned()).or_default().add(*usage);
            }
        }
        let mut ranked: Ranked = sums.into_iter().collect();
        ranked.sort_by_key(|(_, Usage { requests, cost, denied })| {
            std::cmp::Reverse(match order {
                ReportOrder::Cost => [*cost, *requests, *denied],
                ReportOrder::Requests => [*requests, *cost, *denied],
                ReportOrder::Denied => [*denied, *requests, *cost],
            })
        });
        ranked.truncate(top);
        ranked
    }

    fn last_tier(&self, since: Timestamp, user_id: &UserId) -> TierName {
        let subject = Subject::User(user_id.clone());
        let of_user = self.since(since).filter(|(key, _)| key.subject == subject);
        let last = of_user.max_by_key(|(key, _)| (key.hour, std::cmp::Reverse(key.tier.as_str().to_owned())));
        last.unwrap().0.tier.clone()
    }

    fn is_told(&self, report: &UsageReport, order: ReportOrder, top: usize) {
        let since = report.start;
        let mut tiers: BTreeMap<&str, (Usage, BTreeSet<&Subject>)> = BTreeMap::new();
        let (mut total, mut users) = (Usage::default(), BTreeSet::new());
        for (key, usage) in self.since(since) {
            let (sums, subjects) = tiers.entry(key.tier.as_str()).or_default();
            sums.add(*usage);
            subjects.insert(&key.subject);
            total.add(*usage);
            if matches!(key.subject, Subject::User(_)) {
                users.insert(&key.subject);
            }
        }
        assert_eq!((report.totals.usage, report.totals.active_users), (total, users.len() as u64));
        let told: Vec<_> =
            report.tiers.iter().map(|(tier, sums)| (tier.as_str(), sums.usage, sums.active_users)).collect();
        let counted = tiers.into_iter().map(|(tier, (sums, subjects))| (tier, sums, subjects.len() as u64));
        assert_eq!(told, counted.collect::<Vec<_>>());
        let told: Ranked = report.top_users.iter().map(|(user, _, usage)| (user.as_str().to_owned(), *usage)).collect();
        assert_eq!(told, self.ranked(since, "user:", order, top), "by {order:?} since {since}");
        for (user, tier, _) in &report.top_users {
            assert_eq!(tier, &self.last_tier(since, user), "{user:?}");
        }
        assert_eq!(report.top_ips, self.ranked(since, "ip:", order, top));
    }

    fn history(&self, from: Timestamp, to: Timestamp, width: i64) -> Vec<HistoryItem> {
        let mut sums: BTreeMap<Timestamp, Usage> = BTreeMap::new();
        for (key, usage) in self.rows.iter().filter(|(key, _)| key.hour >= from && key.hour < to) {
            let start = key.hour.floor_seconds().div_euclid(width) * width;
            sums.entry(Timestamp::from_seconds(start)).or_default().add(*usage);
        }
        sums.into_iter().map(|(start, usage)| HistoryItem { start, usage }).collect()
    }
}

/// Rows of hours before `now`, most of them of the last two.
fn rows(dice: &mut Dice, now: i64) -> Vec<(UsageKey, Usage)> {
    let row = |dice: &mut Dice| {
        let hour = if dice.percent(70) { now - dice.between(0, 1) } else { now - dice.between(0, 40 * 24) };
        let subject = match dice.between(0, 9) {
            0 | 1 => address(&format!("203.0.113.{}", dice.between(1, 9))),
            _ => user(&dice.between(1, 30).to_string()),
        };
        let tier = ["free", "pro"][dice.below(2)];
        let mut amount = || dice.between(0, 20).unsigned_abs();
        (key(subject, at(hour), tier), usage(amount(), amount(), amount()))
    };
    (0..dice.between(1, 40)).map(|_| row(dice)).collect()
}

async fn is_told_everywhere(database: &Database, naive: &Naive, now: i64) {
    let midnight = now.div_euclid(24) * 24;
    for since in [now, midnight, midnight - 29 * 24, now - 7] {
        for order in ReportOrder::ALL {
            for top in [1, 5, 100] {
                let report = database.usage_report(at(since), order, top).await.unwrap();
                naive.is_told(&report, order, top as usize);
            }
        }
    }
    for (granularity, width) in [(Granularity::Hour, 3600), (Granularity::Day, 86_400)] {
        let (from, to) = (at(now - 1_000), at(now + 1));
        let told = database.system_history(range(granularity, from, to)).await.unwrap().items;
        assert_eq!(told, naive.history(from, to, width));
    }
}

on_every_database! {
    async fn reports_are_the_same_with_sums_as_without(home) {
        let database = home.database().await;
        for seed in 1..=3 {
            home.execute("DELETE FROM usage; DELETE FROM usage_late; DELETE FROM rollup_hours; DELETE FROM rollup_subjects; \
                DELETE FROM rollup_tiers; UPDATE rollup_marks SET hour = 0; DELETE FROM flush_cursor").await;
            let (mut dice, mut naive, mut now, mut sequence) = (Dice::new(seed), Naive::default(), 0, 0);
            for _ in 0..12 {
                for _ in 0..dice.between(0, 3) {
                    sequence += 1;
                    let rows = rows(&mut dice, now);
                    naive.rows.extend(rows.clone());
                    database.flush(&batch(sequence, rows), at(now)).await.unwrap();
                }
                if dice.percent(70) {
                    // Now and then the sums fall behind by hours or days.
                    database.roll_up(at(now - if dice.percent(20) { dice.between(1, 50) } else { 0 })).await.unwrap();
                }
                is_told_everywhere(&database, &naive, now).await;
                now += [0, 1, 1, 3, 24, 24 * 40][dice.below(6)];
            }
        }
    }

    async fn nothing_is_lost_between_flushes_and_sums_made_at_the_same_time(home) {
        let (one, other) = (home.database().await, home.database().await);
        let flush = |database: Database, instance: &'static str| async move {
            for sequence in 1..=40 {
                let rows = (0..50).map(|number: i64| {
                    (key(user(&number.to_string()), at((number + sequence) % 12), "free"), usage(1, 2, 3))
                });
                let batch = FlushBatch { instance: instance.to_owned(), sequence, usage: rows.collect(), ..FlushBatch::default() };
                let batch = Arc::new(batch);
                // Where two wait for each other, one is told so, and sends the same again.
                while database.flush(&batch, HOUR).await.is_err() {}
            }
        };
        let roll_up = |database: Database| async move {
            for hour in 1..=12 {
                // Instances at the same step: one takes it.
                database.roll_up(at(hour)).await.ok();
            }
        };
        tokio::join!(flush(one.clone(), "one"), flush(other.clone(), "other"), roll_up(one.clone()), roll_up(other));
        one.roll_up(at(13)).await.unwrap();
        let all = usage(4_000, 8_000, 12_000);
        let report = one.usage_report(at(0), ReportOrder::Cost, 100).await.unwrap();
        assert_eq!((report.totals.usage, report.totals.active_users), (all, 50));
        let mut top = Usage::default();
        report.top_users.iter().for_each(|(_, _, usage)| top.add(*usage));
        assert_eq!(top, all);
        let days = one.system_history(range(Granularity::Day, at(0), at(24))).await.unwrap();
        assert_eq!(days.items, [HistoryItem { start: at(0), usage: all }]);
    }

    async fn history_is_paged(home) {
        let database = home.database().await;
        let rows = (0..30).map(|hour| (key(user("42"), at(hour * 2), "free"), usage(1, 1, 0))).collect();
        database.flush(&batch(1, rows), HOUR).await.unwrap();
        let (subject, mut from, mut seen) = (user("42"), at(0), Vec::new());
        loop {
            let asked = HistoryRange { limit: 7, ..range(Granularity::Hour, from, at(1_000)) };
            let page = database.history(&subject, asked).await.unwrap();
            assert_eq!(page, database.system_history(asked).await.unwrap());
            assert!(page.items.len() <= 7);
            seen.extend(page.items);
            let Some(next) = page.next else { break };
            from = next;
        }
        assert_eq!(seen, database.history(&subject, range(Granularity::Hour, at(0), at(1_000))).await.unwrap().items);
        assert_eq!(seen.len(), 30);
    }

    async fn the_audit_trail_is_only_added_to(home) {
        let database = home.database().await;
        database.put_override(&id("42"), &days_override(None), &author(), HOUR).await.unwrap();
        for statement in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
            assert!(home.try_execute(statement).await.is_err(), "{statement}");
        }
        assert_eq!(database.audit(10, None).await.unwrap().len(), 1);
    }
}
