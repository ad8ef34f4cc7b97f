//! The rate-limit headers: the older `X-RateLimit-*`, and `RateLimit` with `RateLimit-Policy` as
//! draft-ietf-httpapi-ratelimit-headers-11 has them.

use std::fmt::Write;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::domain::decision::Decision;
use crate::domain::time::Timestamp;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const MODE: HeaderName = HeaderName::from_static("x-ratelimit-mode");
const X_RETRY_AFTER: HeaderName = HeaderName::from_static("x-ratelimit-retry-after");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Puts the headers of a decision on an answer. `enforcing`: whether anything is ever denied.
pub fn put(answer: &mut HeaderMap, decision: &Decision, enforcing: bool) {
    if !enforcing {
        answer.insert(MODE, HeaderValue::from_static("off"));
    }
    if let Some((limit, remaining, reset_at)) = shown(decision) {
        answer.insert(LIMIT, HeaderValue::from(limit));
        answer.insert(REMAINING, HeaderValue::from(remaining));
        answer.insert(RESET, HeaderValue::from(reset_at.ceil_seconds()));
    }
    let (policy, current) = fields(decision);
    for (name, text) in [(RATELIMIT_POLICY, policy), (RATELIMIT, current)] {
        if text.is_empty() {
            continue;
        }
        // Names of limits have no character that needs quoting, so the text is always a header's.
        if let Ok(value) = HeaderValue::try_from(text) {
            answer.insert(name, value);
        }
    }
    if let Some(seconds) = decision.retry_after_seconds() {
        answer.insert(RETRY_AFTER, HeaderValue::from(seconds));
        answer.insert(X_RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// Of the limit that denied, else of the enforced one with the least remaining: how much it is, what remains, and when it is
/// whole again. Slots that denied are whole again when one is free, as far as that can be told.
fn shown(decision: &Decision) -> Option<(u64, u64, Timestamp)> {
    let enforced = decision.limits.iter().filter(|limit| limit.enforce);
    let limit = match decision.denied_by() {
        Some(denial) => {
            let limit = decision.limits.iter().find(|limit| limit.name == denial.limit);
            if limit.is_none() {
                let slots = decision.slots.as_ref()?;
                return Some((slots.limit, 0, slots.free_at.unwrap_or(decision.decided_at)));
            }
            limit
        }
        None => enforced.min_by_key(|limit| limit.remaining()),
    };
    limit.map(|limit| (limit.limit, limit.remaining(), limit.reset_at))
}

/// The values of `RateLimit-Policy` and `RateLimit`. A limit that denies nobody is a policy, and has nothing left to tell of.
fn fields(decision: &Decision) -> (String, String) {
    let mut policy = String::with_capacity(64);
    let mut current = String::with_capacity(64);
    for limit in &decision.limits {
        let separator = if policy.is_empty() { "" } else { ", " };
        let seconds = decision.decided_at.until(limit.reset_at).ceil_seconds();
        // Writing to a string does not fail.
        write!(policy, "{separator}\"{}\";q={};w={}", limit.name, limit.limit, limit.period.ceil_seconds()).ok();
        if !limit.enforce {
            continue;
        }
        let separator = if current.is_empty() { "" } else { ", " };
        write!(current, "{separator}\"{}\";r={};t={seconds}", limit.name, limit.remaining()).ok();
    }
    (policy, current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cost::Cost;
    use crate::domain::decision::{LimitStatus, Source, Violation};
    use crate::domain::limit::LimitName;
    use crate::domain::subject::{Subject, UserId};
    use crate::domain::tier::TierName;
    use crate::domain::time::Period;

    fn decision(used_hour: u64, violations: Vec<Violation>) -> Decision {
        let limit = |name: LimitName, limit, used, reset, seconds| LimitStatus {
            name,
            limit,
            used,
            reset_at: Timestamp::from_seconds(reset),
            period: Period::from_seconds(seconds),
            enforce: true,
        };
        Decision {
            subject: Subject::User(UserId::parse("42").unwrap()),
            tier: TierName::free(),
            cost: Cost::ZERO,
            limits: vec![
                limit(LimitName::hour(), 100, used_hour, 7200, 3600),
                limit(LimitName::day(), 1000, 27, 86_400, 86_400),
            ],
            violations,
            source: Source::Memory,
            decided_at: Timestamp::from_micros(5_939_500_000),
            slots: None,
            explanation: None,
            repeated: false,
        }
    }

    fn headers(decision: &Decision) -> Vec<(String, String)> {
        let mut answer = HeaderMap::new();
        put(&mut answer, decision, true);
        let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        let mut headers: Vec<_> = answer.iter().map(text).collect();
        headers.sort();
        headers
    }

    #[test]
    fn the_least_remaining_is_shown_to_the_number() {
        insta::assert_debug_snapshot!(headers(&decision(27, Vec::new())), @r#"
        [
            (
                "ratelimit",
                "\"hour\";r=73;t=1261, \"day\";r=973;t=80461",
            ),
            (
                "ratelimit-policy",
                "\"hour\";q=100;w=3600, \"day\";q=1000;w=86400",
            ),
            (
                "x-ratelimit-limit",
                "100",
            ),
            (
                "x-ratelimit-remaining",
                "73",
            ),
            (
                "x-ratelimit-reset",
                "7200",
            ),
        ]
        "#);
    }

    #[test]
    fn a_limit_that_is_not_enforced_is_a_policy_alone() {
        let mut decision = decision(100, Vec::new());
        decision.limits[0].enforce = false;
        let shown = headers(&decision);
        let value = |name| shown.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(value("ratelimit-policy"), Some("\"hour\";q=100;w=3600, \"day\";q=1000;w=86400"));
        assert_eq!(value("ratelimit"), Some("\"day\";r=973;t=80461"));
        assert_eq!((value("x-ratelimit-limit"), value("x-ratelimit-remaining")), (Some("1000"), Some("973")));
        decision.limits[1].enforce = false;
        let shown = headers(&decision);
        assert_eq!(shown.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ratelimit-policy"]);
    }

    #[test]
    fn a_denial_says_when_to_come_back_unless_waiting_cannot_help() {
        let denied = |room_at| {
            let violation = Violation { limit: LimitName::hour(), room_at };
            let headers = headers(&decision(100, vec![violation]));
            headers.into_iter().find(|(name, _)| name == "retry-after").map(|(_, value)| value)
        };
        assert_eq!(denied(Some(Timestamp::from_seconds(7200))).as_deref(), Some("1261"));
        assert_eq!(denied(None), None);
    }
}
