//! What the service is for, each with embedded counters and SQLite, and with Redis and PostgreSQL.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::quotad::{Backend, Quotad, Stores};
use crate::support::until;

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// Checks one after another.
async fn checks(quotad: &Quotad, body: Value, times: usize) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..times {
        answers.push(quotad.check(body.clone()).await);
    }
    answers
}

on_both! {
    async fn within_quota(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let answer = quotad.check(json!({"user_id": "42", "endpoint": "/api/v1/agents", "method": "POST"})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json["subject"], "user:42");
        assert_eq!((answer.json["tier"].as_str(), answer.field("cost")), (Some("free"), 2));
        assert_eq!((answer.used("hour"), answer.used("day")), (2, 2));
        assert_eq!(answer.json["source"], if backend == Backend::Embedded { "memory" } else { "redis" });
        assert_eq!(quotad.check(json!({"user_id": 42})).await.used("hour"), 3, "a number is its decimal text");
        assert_eq!(quotad.check(json!({"user_id": "43"})).await.used("hour"), 1);
        quotad.stop();
    }

    async fn over_the_hourly_limit(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "2")]).await;
        let answers = checks(&quotad, json!({"user_id": "7"}), 4).await;
        assert_eq!(statuses(&answers), [200, 200, 429, 429]);
        let denied = &answers[2];
        assert_eq!(denied.json["allowed"], false);
        assert_eq!(denied.json["denied_by"], "hour");
        assert_eq!(denied.json["error"], "Rate limit exceeded");
        assert_eq!(denied.json["violated-policies"], json!(["hour"]));
        assert!((1..=3600).contains(&denied.field("retry_after")), "{}", denied.text);
        assert_eq!((denied.used("hour"), denied.used("day")), (2, 2));
        assert_eq!(quotad.check(json!({"user_id": "7", "endpoint": "/ws"})).await.status, 200, "a cost of 0 passes");
        assert_eq!(quotad.check(json!({"user_id": "8"})).await.status, 200, "nobody else is meant");
    }

    async fn over_the_daily_limit_leaves_the_hour_untouched(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_DAY", "3")]).await;
        assert_eq!(quotad.check(json!({"user_id": "u", "items": 2})).await.status, 200);
        let denied = quotad.check(json!({"user_id": "u", "items": 2})).await;
        assert_eq!((denied.status, denied.json["denied_by"].as_str()), (429, Some("day")));
        assert_eq!((denied.used("hour"), denied.used("day")), (2, 2));
        let quota = quotad.quota("u").await;
        assert_eq!((quota.field("requests_hour_used"), quota.field("requests_day_used")), (2, 2));
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200, "what still fits is let through");
    }

    async fn an_override_holds_at_once_and_ends_by_itself(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "1")]).await;
        assert_eq!(statuses(&checks(&quotad, json!({"user_id": "u"}), 2).await), [200, 429]);
        let end = jiff::Timestamp::now() + Duration::from_secs(2);
        let trial = json!({"custom_requests_per_hour": 1000, "expires_at": end.to_string(), "reason": "a trial"});
        let put = quotad.put("/api/v2/admin/quotas/u", trial).await;
        assert_eq!((put.status, put.field("requests_hour_limit")), (200, 1000), "{}", put.text);
        assert_eq!(put.json["override"]["reason"], "a trial");
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200);
        let denied = until(Duration::from_secs(4), "the override ends", async || {
            Some(quotad.check(json!({"user_id": "u"})).await).filter(|answer| answer.status == 429)
        });
        let (denied, _) = denied.await;
        assert!(jiff::Timestamp::now() >= end, "it ended too early");
        assert_eq!(denied.limit("hour")["limit"], 1);
        let quota = quotad.quota("u").await;
        assert_eq!((quota.json["override"].clone(), quota.field("requests_hour_limit")), (Value::Null, 1));
    }

    async fn an_override_below_what_is_used_denies_until_it_is_removed(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        quotad.check(json!({"user_id": "u", "items": 30})).await;
        let path = "/api/v2/admin/quotas/u";
        let put = quotad.put(path, json!({"custom_requests_per_hour": 20, "user_id": "u"})).await;
        assert_eq!(put.status, 200, "{}", put.text);
        assert_eq!((put.field("requests_hour_used"), put.field("requests_hour_remaining")), (30, 0));
        assert_eq!((put.json["quota_exceeded"].clone(), put.field("requests_day_limit")), (json!(true), 1000));
        let denied = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!((denied.status, denied.limit("hour")["remaining"].as_u64()), (429, Some(0)));
        assert_eq!(quotad.delete(path).await.status, 204);
        let again = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!((again.status, again.used("hour")), (200, 31));
        let zero = quotad.put(path, json!({"custom_requests_per_day": 0})).await;
        assert_eq!((zero.status, zero.field("requests_day_limit"), zero.field("requests_hour_limit")), (200, 0, 100));
        let denied = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!((denied.status, denied.json["retry_after"].clone()), (429, Value::Null), "no waiting helps");
    }

    async fn many_callers_at_once_get_exactly_the_limit(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "100")]).await;
        // 64 callers, 400 requests: the first sixteen ask seven times, the others six.
        let caller = |number: usize| checks(&quotad, json!({"user_id": "hot"}), if number < 16 { 7 } else { 6 });
        let answers: Vec<Answer> = join_all((0..64).map(caller)).await.into_iter().flatten().collect();
        assert_eq!(answers.len(), 400);
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 100);
        assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 300);
        assert_eq!(quotad.quota("hot").await.field("requests_hour_used"), 100);
    }

    async fn tiers_differ_by_check_claim_and_database(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let me = "/api/v2/users/me/quota";
        for (tier, hour, day, slots) in
            [("free", 100, 1000, 5), ("pro", 1000, 20_000, 20), ("enterprise", 10_000, 200_000, 100)]
        {
            let answer = quotad.check(json!({"user_id": "u", "tier": tier})).await;
            assert_eq!(answer.json["tier"], tier);
            assert_eq!((&answer.limit("hour")["limit"], &answer.limit("day")["limit"]), (&json!(hour), &json!(day)));
            let claims = json!({"sub": "claimant", "tier": tier});
            let mine = quotad.ask_with(claims, Method::GET, me, None).await;
            assert_eq!((mine.status, mine.json["tier"].as_str()), (200, Some(tier)), "{}", mine.text);
            assert_eq!((mine.field("requests_hour_limit"), mine.field("requests_day_limit")), (hour, day));
            assert_eq!(mine.field("concurrent_requests_limit"), slots);
        }
        let used = quotad.check(json!({"user_id": "v", "items": 7})).await.used("hour");
        assert_eq!(used, 7);
        let put = quotad.put("/api/v2/admin/users/claimant", json!({"tier": "pro"})).await;
        assert_eq!((put.status, put.json["tier"].as_str()), (200, Some("pro")), "{}", put.text);
        let claims = json!({"sub": "claimant", "tier": "enterprise"});
        let mine = quotad.ask_with(claims, Method::GET, me, None).await;
        assert_eq!(mine.json["tier"], "pro", "the database goes before the claim");
        quotad.put("/api/v2/admin/users/v", json!({"tier": "pro"})).await;
        let answer = quotad.check(json!({"user_id": "v"})).await;
        assert_eq!((answer.json["tier"].as_str(), answer.used("hour")), (Some("pro"), 8), "what was used carries over");
        let own = quotad.check(json!({"user_id": "v", "tier": "free"})).await;
        assert_eq!(own.json["tier"], "free", "the check's own tier goes first");
    }

    async fn strangers_are_charged_by_address(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("ANONYMOUS_LIMIT_HOUR", "2")]).await;
        for (addresses, subject) in [
            (["203.0.113.9", "::ffff:203.0.113.9", "203.0.113.9"], "ip:203.0.113.9"),
            (["2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "2001:db8:1:2::3"], "ip:2001:db8:1:2::/64"),
        ] {
            let answers = join_all(addresses.map(|ip| quotad.check(json!({"ip": ip})))).await;
            assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 2, "{subject}");
            for answer in &answers {
                assert_eq!((&answer.json["subject"], &answer.json["tier"]), (&json!(subject), &json!("anonymous")));
            }
        }
        for other in ["203.0.113.10", "2001:db8:1:3::1", "::203.0.113.9"] {
            assert_eq!(quotad.check(json!({"ip": other})).await.status, 200, "{other}");
        }
        let known = quotad.get("/api/v2/admin/ips/203.0.113.9").await;
        assert_eq!((known.status, known.field("requests_hour_used")), (200, 2), "{}", known.text);
        let reset = quotad.ask(Method::POST, "/api/v2/admin/ips/203.0.113.9/reset", None).await;
        assert_eq!((reset.status, reset.field("requests_hour_used")), (200, 0), "{}", reset.text);
        assert_eq!(quotad.check(json!({"ip": "203.0.113.9"})).await.status, 200);
    }

    async fn endpoints_cost_what_their_longest_prefix_says(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "1000")]).await;
        let mut sum = 0;
        for (endpoint, items, cost) in [
            ("/ws", 1, 0),
            ("/ws/room/1", 9, 0),
            ("/wsx", 1, 1),
            ("/WS", 1, 1),
            ("/api/v1/agents", 1, 2),
            ("/api/v1/agents/", 1, 2),
            ("/api/v1/agents/9?full=1", 3, 6),
            ("/api/v1/agentsX", 1, 1),
            ("/api//v1/./x/../agents#top", 1, 2),
            ("/api/v1/batch", 20, 100),
            ("/api/v1", 1, 1),
            ("/", 2, 2),
        ] {
            let answer = quotad.check(json!({"user_id": "u", "endpoint": endpoint, "items": items})).await;
            sum += cost;
            assert_eq!((answer.status, answer.field("cost"), answer.used("hour")), (200, cost, sum), "{endpoint}");
        }
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.field("cost"), 1, "without an endpoint");
    }

    async fn headers_are_right_to_the_number(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "5")]).await;
        for (items, status, hour, day) in [(3, 200, 2, 997), (3, 429, 2, 997), (2, 200, 0, 995), (1, 429, 0, 995)] {
            let begun = jiff::Timestamp::now().as_millisecond();
            let answer = quotad.check(json!({"user_id": "u", "items": items})).await;
            let ended = jiff::Timestamp::now().as_millisecond() + 1;
            assert_eq!(answer.status, status, "{}", answer.text);
            let end_of = |seconds: i64| (begun / 1000).div_euclid(seconds) * seconds + seconds;
            let round_up = |millis: i64| -(-millis).div_euclid(1000);
            let seconds_to = |end: i64| round_up(end * 1000 - ended)..=round_up(end * 1000 - begun);
            for (limit, seconds) in [("hour", 3600), ("day", 86_400)] {
                let reset_at: jiff::Timestamp =
                    answer.limit(limit)["reset_at"].as_str().expect("a time").parse().expect("RFC 3339");
                assert_eq!(reset_at.as_microsecond(), end_of(seconds) * 1_000_000, "{limit}");
            }
            assert_eq!((answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")), (5, hour));
            assert_eq!(answer.number("x-ratelimit-reset"), end_of(3600));
            assert_eq!(answer.header("ratelimit-policy"), Some(r#""hour";q=5;w=3600, "day";q=1000;w=86400"#));
            let current = answer.header("ratelimit").expect("RateLimit");
            let seconds = |limit: &str| -> i64 {
                let item = current.split(", ").find(|item| item.starts_with(&format!("\"{limit}\""))).expect(limit);
                item.rsplit_once("t=").expect("t").1.parse().expect("a number")
            };
            let (t_hour, t_day) = (seconds("hour"), seconds("day"));
            assert_eq!(current, format!(r#""hour";r={hour};t={t_hour}, "day";r={day};t={t_day}"#));
            assert!(seconds_to(end_of(3600)).contains(&t_hour), "{current}");
            assert!(seconds_to(end_of(86_400)).contains(&t_day), "{current}");
            if status == 200 {
                assert_eq!((answer.header("retry-after"), answer.header("x-ratelimit-retry-after")), (None, None));
                assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
            } else {
                assert!(seconds_to(end_of(3600)).contains(&answer.number("retry-after")));
                assert_eq!(answer.number("retry-after"), answer.number("x-ratelimit-retry-after"));
                assert_eq!(answer.field("retry_after").cast_signed(), answer.number("retry-after"));
                assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            }
        }
        let never = quotad.check(json!({"user_id": "u", "items": 6})).await;
        assert_eq!((never.status, never.json["retry_after"].clone()), (429, Value::Null));
        assert_eq!((never.header("retry-after"), never.header("x-ratelimit-retry-after")), (None, None));
        let read = quotad.quota("u").await;
        assert_eq!((read.number("x-ratelimit-limit"), read.number("x-ratelimit-remaining")), (5, 0));
    }
}
