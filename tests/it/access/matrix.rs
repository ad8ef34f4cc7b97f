//! Every route with every kind of credential: what the contract says, and nothing else.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::new_key;
use super::routes::{May, ROUTES, Route};
use crate::errors::assert_problem;
use crate::support::answer::token;
use crate::support::quotad::{ADMIN_KEY, Backend, Quotad, Stores};
use crate::support::until;

/// A kind of credential, and what it is good for.
struct Credential {
    what: String,
    header: Option<(&'static str, String)>,
    /// `None`: it does not verify. Who shows none has the role nobody.
    role: Option<&'static str>,
    /// Whom it speaks for.
    user: Option<&'static str>,
    address: String,
}

impl Credential {
    /// What the contract has it answered.
    fn expects(&self, route: &Route) -> u16 {
        let (Some(role), May::AnyCaller | May::Users | May::Services | May::Admins) = (self.role, route.may) else {
            return if route.may == May::Everybody { route.success } else { 401 };
        };
        let may = match route.may {
            May::Everybody | May::AnyCaller => true,
            _ if role == "nobody" => return 401,
            May::Users => self.user.is_some(),
            May::Services => role != "user",
            May::Admins => role == "admin",
        };
        if may { route.success } else { 403 }
    }
}

async fn credentials(quotad: &Quotad) -> Vec<Credential> {
    let now = jiff::Timestamp::now();
    let mut made: Vec<Credential> = Vec::new();
    let mut put = |what: &str, header: Option<(&'static str, String)>, role, user| {
        let address = format!("198.51.100.{}", made.len() + 1);
        made.push(Credential { what: what.to_owned(), header, role, user, address });
    };
    put("nothing", None, Some("nobody"), None);
    let mut add = |what: &str, header: (&'static str, String), role, user| put(what, Some(header), role, user);
    let bearer = |text: String| ("authorization", format!("Bearer {text}"));
    add("a bad key", ("x-api-key", "qd_0000000000000000_wrong".to_owned()), None, None);
    add("a bad key as bearer", bearer("qd_0000000000000000_wrong".to_owned()), None, None);
    add("a bad token", bearer(format!("{}x", token(json!({"sub": "u", "role": "admin"})))), None, None);
    let past = now.as_second() - 3600;
    add("an expired token", bearer(token(json!({"sub": "u", "role": "admin", "exp": past}))), None, None);

    let soon = (now + Duration::from_secs(2)).to_string();
    let (_, brief) =
        new_key(quotad, json!({"name": "brief", "role": "admin", "user_id": "u", "expires_at": soon})).await;
    until(Duration::from_secs(5), "the key ends", async || {
        let answer = quotad.ask_as(Method::GET, "/api/v2/admin/keys", None, &[("x-api-key", &brief)]).await;
        (answer.status == 401).then_some(())
    })
    .await;
    add("an expired key", ("x-api-key", brief), None, None);
    let (id, revoked) = new_key(quotad, json!({"name": "gone", "role": "admin", "user_id": "u"})).await;
    assert_eq!(quotad.delete(&format!("/api/v2/admin/keys/{id}")).await.status, 204);
    add("a revoked key", ("x-api-key", revoked), None, None);
    let (id, rotated) = new_key(quotad, json!({"name": "old", "role": "admin", "user_id": "u"})).await;
    let at_once = quotad.post(&format!("/api/v2/admin/keys/{id}/rotate"), json!({"overlap_seconds": 0})).await;
    assert_eq!(at_once.status, 201, "{}", at_once.text);
    add("a rotated key after its overlap", ("x-api-key", rotated), None, None);

    for (role, user) in
        [("user", "u"), ("user", "other"), ("service", "u"), ("admin", "u"), ("service", "other"), ("admin", "other")]
    {
        let (_, key) = new_key(quotad, json!({"name": "n", "role": role, "user_id": user})).await;
        add(
            &format!("a token of {role} {user}"),
            bearer(token(json!({"sub": user, "role": role}))),
            Some(role),
            Some(user),
        );
        add(&format!("a key of {role} {user}"), ("x-api-key", key.clone()), Some(role), Some(user));
        add(&format!("a key of {role} {user} as bearer"), bearer(key), Some(role), Some(user));
    }
    for role in ["user", "service", "admin"] {
        let (_, key) = new_key(quotad, json!({"name": "n", "role": role})).await;
        add(&format!("a key of {role} for no user"), ("x-api-key", key), Some(role), None);
    }
    add("the admin key", ("x-api-key", ADMIN_KEY.to_owned()), Some("admin"), None);
    add("the admin key as bearer", bearer(ADMIN_KEY.to_owned()), Some("admin"), None);
    made
}

/// The path of a route, with something there to be asked about, changed or removed.
async fn target(quotad: &Quotad, route: &Route) -> String {
    let text = match route.path.find('{').map(|start| &route.path[start..]).unwrap_or_default() {
        rest if rest.starts_with("{user_id}") => {
            quotad.put("/api/v2/admin/quotas/u", json!({"custom_requests_per_hour": 1_000_000})).await;
            "u".to_owned()
        }
        rest if rest.starts_with("{name}") => {
            quotad.put("/api/v2/admin/tiers/gold", json!({"limits": []})).await;
            "gold".to_owned()
        }
        rest if rest.starts_with("{id}") => new_key(quotad, json!({"name": "k", "role": "user"})).await.0,
        rest if rest.starts_with("{lease_id}") => {
            let wish = json!({"user_id": "u", "kind": "request", "ttl_seconds": 60});
            quotad.post("/api/v2/leases", wish).await.json["lease_id"].as_str().expect("an id").to_owned()
        }
        rest if rest.starts_with("{ip}") => "192.0.2.1".to_owned(),
        rest if rest.starts_with("{path:") => "api/v1/agents".to_owned(),
        _ if route.path.starts_with("/docs/") => "swagger-ui.css".to_owned(),
        _ => "style.css".to_owned(),
    };
    let path = match (route.path.find('{'), route.path.find('}')) {
        (Some(start), Some(end)) => format!("{}{text}{}", &route.path[..start], &route.path[end + 1..]),
        _ => route.path.to_owned(),
    };
    if path == "/api/v2/admin/leases" { format!("{path}?user_id=u") } else { path }
}

/// The answer's status; that of a stream, which has no end, as soon as it begins.
async fn ask(quotad: &Quotad, method: &str, path: &str, route: &Route, credential: &Credential) -> (u16, Value) {
    let method: Method = method.to_uppercase().parse().expect("a method");
    // From an address of its own: one that shows too many bad credentials is told to wait.
    let from = ("x-forwarded-for", credential.address.as_str());
    let shown = credential.header.iter().map(|(name, value)| (*name, value.as_str()));
    let headers: Vec<(&str, &str)> = shown.chain([from]).collect();
    let expected = credential.expects(route);
    if path.ends_with("/events") && expected == 200 {
        let request = reqwest::Client::new().request(method, format!("http://{}{path}", quotad.address()));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        return (request.send().await.expect("an answer").status().as_u16(), Value::Null);
    }
    let body = route.body.map(|body| serde_json::from_str(body).expect("JSON"));
    let answer = quotad.ask_as(method, path, body, &headers).await;
    if [401, 403].contains(&expected) {
        assert_problem(&answer, expected);
    }
    (answer.status, answer.json)
}

#[tokio::test]
async fn every_route_answers_every_caller_as_the_contract_says() {
    let stores = Stores::start(Backend::Embedded);
    let wide = ["FREE_TIER_LIMIT_HOUR", "FREE_TIER_LIMIT_DAY", "FREE_TIER_CONCURRENT", "PRO_TIER_LIMIT_HOUR"];
    let wide = wide.iter().chain(&[
        "PRO_TIER_LIMIT_DAY",
        "PRO_TIER_CONCURRENT",
        "ANONYMOUS_LIMIT_HOUR",
        "ANONYMOUS_LIMIT_DAY",
    ]);
    let settings: Vec<(&str, &str)> = wide.map(|name| (*name, "1000000")).collect();
    let quotad = stores.quotad(&settings).await;
    let credentials = credentials(&quotad).await;
    let mut wrong = Vec::new();
    for route in ROUTES {
        for method in route.methods() {
            for credential in &credentials {
                let path = target(&quotad, route).await;
                let (status, json) = ask(&quotad, method, &path, route, credential).await;
                let expected = credential.expects(route);
                if status != expected {
                    wrong.push(format!("{method} {path} with {}: {status} and not {expected}", credential.what));
                }
                // What is told to a user is about that user, whoever else there is.
                if route.may == May::Users && status == 200 {
                    assert_eq!(json["user_id"].as_str(), credential.user, "{path} with {}", credential.what);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
