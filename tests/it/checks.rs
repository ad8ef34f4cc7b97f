//! Checks one at a time and in batches: items, trials, limiting that is off, and how the answers look.

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::in_one_hour;
use crate::support::quotad::{Backend, Quotad, Stores};

async fn batch(quotad: &Quotad, checks: Vec<Value>) -> Vec<Value> {
    let answer = quotad.post("/api/v2/check/batch", json!({ "checks": checks })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json["results"].as_array().expect("a list").clone()
}

fn sums(json: &Value) -> (Option<u64>, Option<u64>, Option<u64>) {
    (json["requests"].as_u64(), json["cost"].as_u64(), json["denied"].as_u64())
}

on_both! {
    async fn items_are_charged_each(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let answer = quotad.check(json!({"user_id": "u", "endpoint": "/api/v1/batch", "items": 20})).await;
        assert_eq!((answer.status, answer.field("cost"), answer.used("hour")), (200, 100, 100));
        let denied = quotad.check(json!({"user_id": "u", "items": 1})).await;
        assert_eq!((denied.status, denied.json["denied_by"].as_str()), (429, Some("hour")));
        let most = json!({"user_id": "v", "items": 1_000_000, "endpoint": "/ws"});
        assert_eq!(quotad.check(most).await.status, 200, "the most items there may be");
        let history = quotad.get("/api/v2/admin/quotas/u/history?granularity=hour").await;
        assert_eq!(sums(&history.json["items"][0]), (Some(20), Some(100), Some(1)));
    }

    async fn a_batch_answers_each_in_its_place(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "3")]).await;
        let bad = |n: usize| match n % 40 {
            3 => Some((json!({"user_id": "0", "items": 0}), 422)),
            13 => Some((json!({"user_id": "0", "color": 1}), 400)),
            23 => Some((json!({}), 422)),
            33 => Some((json!({"user_id": "0", "lease": "request"}), 422)),
            _ => None,
        };
        // A hundred users, ten checks each: the first three of each are let through.
        let check = |n: usize| bad(n).map_or_else(|| json!({"user_id": (n % 100).to_string()}), |(check, _)| check);
        let results = batch(&quotad, (0..1000).map(check).collect()).await;
        assert_eq!(results.len(), 1000);
        let mut asked = vec![0_u64; 100];
        for (n, result) in results.iter().enumerate() {
            if let Some((_, status)) = bad(n) {
                assert_eq!(result["error"]["status"], status, "check {n}: {result}");
                for field in ["type", "title", "detail", "error"] {
                    assert!(result["error"][field].is_string(), "{field} in {result}");
                }
                continue;
            }
            let count = &mut asked[n % 100];
            *count += 1;
            assert_eq!(result["subject"], format!("user:{}", n % 100));
            assert_eq!(result["allowed"], *count <= 3, "check {n}: {result}");
            assert_eq!(result["limits"][0]["used"], (*count).min(3), "check {n}: {result}");
        }
    }

    async fn a_batch_decides_one_subject_in_order(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "10")]).await;
        let check = |items: u64, dry_run: bool| json!({"user_id": "u", "items": items, "dry_run": dry_run});
        let results = batch(
            &quotad,
            vec![check(6, false), check(5, false), check(4, true), check(4, false), check(1, true), check(1, false)],
        )
        .await;
        let allowed: Vec<&Value> = results.iter().map(|result| &result["allowed"]).collect();
        assert_eq!(allowed, [true, false, true, true, false, false]);
        assert_eq!(quotad.quota("u").await.field("requests_hour_used"), 10);
    }

    async fn a_dry_run_leaves_no_trace(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "2")]).await;
        let trial = json!({"user_id": "u", "items": 2, "dry_run": true});
        for _ in 0..3 {
            assert_eq!(quotad.check(trial.clone()).await.status, 200);
        }
        assert_eq!(quotad.check(json!({"user_id": "u", "items": 3, "dry_run": true})).await.status, 429);
        assert_eq!(quotad.quota("u").await.field("requests_hour_used"), 0);
        let history = quotad.get("/api/v2/admin/quotas/u/history").await;
        assert_eq!(history.json["items"], json!([]));
        let report = quotad.get("/api/v2/admin/quotas/usage").await;
        assert_eq!(sums(&report.json["totals"]), (Some(0), Some(0), Some(0)), "{}", report.text);
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.used("hour"), 1);
    }

    /// Allowed, denied, answered locally and in a batch: each says where its limits come from, and only when asked.
    async fn an_explanation_says_where_the_limits_come_from(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let explanation = async |body: Value| {
            let mut body = body;
            body["explain"] = json!(true);
            quotad.check(body).await.json["explanation"].clone()
        };
        let rule = json!({"path": "/api/v1/agents", "methods": [], "cost": 2});
        assert_eq!(
            explanation(json!({"user_id": "u", "endpoint": "/api/v1/agents/7"})).await,
            json!({"tier_from": "default", "endpoint_rule": rule, "override": null})
        );
        assert_eq!(explanation(json!({"user_id": "u", "tier": "pro"})).await["tier_from"], "check");
        quotad.put("/api/v2/admin/users/u", json!({"tier": "pro"})).await;
        let ruling = json!({"custom_requests_per_hour": 5, "expires_at": "2100-01-01T00:00:00Z", "reason": "trial"});
        quotad.put("/api/v2/admin/quotas/u", ruling).await;
        for _ in 0..6 {
            let known = explanation(json!({"user_id": "u", "items": 2})).await;
            assert_eq!((&known["tier_from"], &known["endpoint_rule"]), (&json!("database"), &Value::Null));
            assert_eq!(known["override"]["custom_requests_per_hour"], 5);
            assert_eq!(known["override"]["expires_at"], "2100-01-01T00:00:00Z");
        }
        assert!(quotad.check(json!({"user_id": "u", "items": 2})).await.json["explanation"].is_null());
        let results = batch(&quotad, vec![json!({"user_id": "u", "explain": true}), json!({"user_id": "u"})]).await;
        assert_eq!(results[0]["explanation"]["tier_from"], "database");
        assert!(results[1].get("explanation").is_none());
    }

    async fn with_limiting_off_all_is_allowed_and_counted(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "2"), ("ENABLE_RATE_LIMITING", "false")]).await;
        let mut answers: Vec<Answer> = Vec::new();
        for _ in 0..4 {
            answers.push(quotad.check(json!({"user_id": "u"})).await);
        }
        for (answer, used) in answers.iter().zip(1..) {
            assert_eq!((answer.status, answer.header("x-ratelimit-mode")), (200, Some("off")));
            assert_eq!((&answer.json["allowed"], &answer.json["denied_by"]), (&json!(true), &Value::Null));
            assert_eq!(answer.used("hour"), used);
        }
        let history = quotad.get("/api/v2/admin/quotas/u/history").await;
        assert_eq!(sums(&history.json["items"][0]), (Some(4), Some(4), Some(0)), "{}", history.text);
        quotad.stop();
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "2")]).await;
        let answer = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!((answer.status, answer.header("x-ratelimit-mode")), (429, None), "what was counted is charged");
    }
}

#[tokio::test]
async fn a_check_a_denial_and_a_quota_look_as_the_contract_has_them() {
    let mut settings = insta::Settings::clone_current();
    settings.set_sort_maps(true);
    let _sorted = settings.bind_to_scope();
    in_one_hour(|| async {
        let stores = Stores::start(Backend::Embedded);
        let quotad = stores.quotad(&[]).await;
        let check = json!({"user_id": "42", "tier": "pro", "endpoint": "/api/v1/agents", "method": "POST"});
        let allowed = quotad.check(check).await;
        assert_json_snapshot!(allowed.json, {".limits[].reset_at" => "[time]"}, @r#"
        {
          "allowed": true,
          "cost": 2,
          "denied_by": null,
          "lease_id": null,
          "limits": [
            {
              "limit": 1000,
              "name": "hour",
              "remaining": 998,
              "reset_at": "[time]",
              "used": 2
            },
            {
              "limit": 20000,
              "name": "day",
              "remaining": 19998,
              "reset_at": "[time]",
              "used": 2
            }
          ],
          "retry_after": null,
          "source": "memory",
          "subject": "user:42",
          "tier": "pro"
        }
        "#);
        quotad.check(json!({"user_id": "42", "items": 98})).await;
        let denied = quotad.check(json!({"user_id": "42"})).await;
        assert_eq!(denied.status, 429);
        assert_json_snapshot!(
            denied.json,
            {
                ".limits[].reset_at" => "[time]",
                ".retry_after" => "[seconds]",
                ".detail" => "[text]",
                ".title" => "[text]",
            },
            @r#"
        {
          "allowed": false,
          "cost": 1,
          "denied_by": "hour",
          "detail": "[text]",
          "error": "Rate limit exceeded",
          "lease_id": null,
          "limits": [
            {
              "limit": 100,
              "name": "hour",
              "remaining": 0,
              "reset_at": "[time]",
              "used": 100
            },
            {
              "limit": 1000,
              "name": "day",
              "remaining": 900,
              "reset_at": "[time]",
              "used": 100
            }
          ],
          "retry_after": "[seconds]",
          "source": "memory",
          "status": 429,
          "subject": "user:42",
          "tier": "free",
          "title": "[text]",
          "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
          "violated-policies": [
            "hour"
          ]
        }
        "#
        );
        let trial = json!({"custom_requests_per_hour": 500, "expires_at": "2100-01-01T00:00:00Z", "reason": "a trial"});
        let quota = quotad.put("/api/v2/admin/quotas/42", trial).await;
        assert_json_snapshot!(quota.json, {".limits[].reset_at" => "[time]", ".reset_at" => "[time]"}, @r#"
        {
          "concurrent_requests_limit": 5,
          "concurrent_requests_used": 0,
          "limits": [
            {
              "limit": 500,
              "name": "hour",
              "remaining": 400,
              "reset_at": "[time]",
              "used": 100
            },
            {
              "limit": 1000,
              "name": "day",
              "remaining": 900,
              "reset_at": "[time]",
              "used": 100
            }
          ],
          "override": {
            "custom_requests_per_day": null,
            "custom_requests_per_hour": 500,
            "expires_at": "2100-01-01T00:00:00Z",
            "reason": "a trial"
          },
          "quota_exceeded": false,
          "requests_day_limit": 1000,
          "requests_day_remaining": 900,
          "requests_day_used": 100,
          "requests_hour_limit": 500,
          "requests_hour_remaining": 400,
          "requests_hour_used": 100,
          "reset_at": "[time]",
          "tier": "free",
          "user_id": "42"
        }
        "#);
    })
    .await;
}
