//! `/openapi.json` says what the service does: the same routes, and answers of the shape that it describes.

pub mod document;
mod forward_auth;
mod webhooks;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use self::document::{Document, Operation, routes};
use crate::support::answer::{Answer, token};
use crate::support::quotad::{ADMIN_KEY, Backend, Quotad, Start, Stores};
use crate::support::receiver::Receiver;
use crate::support::redis_server::RedisServer;

/// What pages for people load is no part of the interface.
const PAGES: [&str; 2] = ["/docs/{file:.*}", "/dashboard/{file:.*}"];

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let mut routes = routes();
    for pages in PAGES {
        assert!(routes.remove(&Operation { path: pages.to_owned(), method: "get".to_owned() }), "{routes:?}");
    }
    assert_eq!(Document::read().operations(), routes);
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let document = Document::read();
    let operations = document.operations();
    let names: BTreeSet<&str> = operations.iter().filter_map(|at| document.of(at)["operationId"].as_str()).collect();
    assert_eq!(names.len(), operations.len());
}

#[test]
fn every_example_is_what_its_schema_says() {
    let document = Document::read();
    let mut examples = 0;
    for (name, schema) in document.0["components"]["schemas"].as_object().expect("schemas") {
        for example in schema["examples"].as_array().into_iter().flatten() {
            document.assert_valid(schema, example, name);
            examples += 1;
        }
    }
    assert!(examples > 5);
}

/// A credential that does not verify, from an address of its own.
const BAD: [(&str, &str); 2] = [("x-api-key", "qd_none_none"), ("x-forwarded-for", "198.51.100.77")];

/// A service, and which of the documented answers it has given.
struct Tour {
    document: Document,
    quotad: Quotad,
    seen: BTreeSet<(Operation, u16)>,
}

impl Tour {
    /// Sends a request, whose path may have a query, and holds the answer against the document.
    async fn send(
        &mut self,
        operation: &Operation,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
        headers: &[(&str, &str)],
        status: u16,
    ) -> Answer {
        let method = operation.method.to_uppercase().parse().expect("a method");
        let answer = self.quotad.send(method, path, body, headers).await;
        assert_eq!(answer.status, status, "{operation:?} {path}: {}", answer.text);
        self.document.assert_answer(operation, &answer);
        self.seen.insert((operation.clone(), status));
        answer
    }

    /// Too many bad credentials have come from an address; one token is back each second.
    async fn limited(&mut self, operation: &Operation, path: &str) {
        for _ in 0..1000 {
            let method = operation.method.to_uppercase().parse().expect("a method");
            let answer = self.quotad.send(method, path, None, &BAD).await;
            self.document.assert_answer(operation, &answer);
            if answer.status == 429 {
                self.seen.insert((operation.clone(), 429));
                return;
            }
        }
        panic!("{operation:?} is never limited");
    }

    /// As an admin. A body that is taken must be one that the document allows, and one of 422 must not.
    async fn ask(&mut self, method: Method, template: &str, path: &str, body: Option<Value>, status: u16) -> Answer {
        let operation = Operation { path: template.to_owned(), method: method.as_str().to_lowercase() };
        if let Some(body) = body.as_ref().filter(|_| (200..300).contains(&status)) {
            let schema = &self.document.of(&operation)["requestBody"]["content"]["application/json"]["schema"];
            self.document.assert_valid(schema, body, &format!("the body of {operation:?}"));
        }
        let bytes = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send(&operation, path, bytes, &[("x-api-key", ADMIN_KEY)], status).await
    }

    /// What every operation answers to those who may not, and to what can't be read.
    async fn refusals(&mut self, operation: &Operation) {
        let user = format!("Bearer {}", token(json!({"sub": "42"})));
        let of_self = operation.path.contains("/me/");
        let admin: &[(&str, &str)] = &[("x-api-key", ADMIN_KEY)];
        let path = filled(&operation.path, "x");
        let documented = self.document.of(operation);
        let takes_a_body = documented.get("requestBody").is_some();
        if documented.get("security").is_some() {
            return;
        }
        let json = |text: &str| takes_a_body.then(|| ("application/json", text.as_bytes().to_vec()));
        self.send(operation, &path, json("{}"), &[], 401).await;
        self.limited(operation, &path).await;
        // The admin key speaks for no user; a user speaks for nobody else.
        let lesser = if of_self { admin } else { &[("authorization", user.as_str())] };
        self.send(operation, &path, json("{}"), lesser, 403).await;
        if operation.path.contains('{') {
            self.send(operation, &filled(&operation.path, "%FF"), json("{}"), admin, 400).await;
        }
        if takes_a_body {
            // The parameter of a path is looked at first.
            let path = filled(&operation.path, "192.0.2.1");
            self.send(operation, &path, json("{"), admin, 400).await;
            self.send(operation, &path, Some(("text/plain", b"{}".to_vec())), admin, 415).await;
            self.send(operation, &path, json(&" ".repeat((1 << 20) + 1)), admin, 413).await;
        }
    }
}

/// A path with a text in the place of its parameter.
fn filled(template: &str, text: &str) -> String {
    match (template.find('{'), template.find('}')) {
        (Some(start), Some(end)) => format!("{}{text}{}", &template[..start], &template[end + 1..]),
        _ => template.to_owned(),
    }
}

#[tokio::test]
async fn answers_are_what_the_document_says() {
    let (stores, receiver) = (Stores::start(Backend::Embedded), Receiver::start());
    let receiving = [("WEBHOOK_URL", receiver.url()), ("WEBHOOK_SECRET", "a secret of enough characters".to_owned())];
    let quotad = stores.quotad(&receiving.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    let mut tour = Tour { document: Document::read(), quotad, seen: BTreeSet::new() };

    checks(&mut tour).await;
    leases(&mut tour).await;
    quotas(&mut tour).await;
    administration(&mut tour).await;
    webhooks::all(&mut tour, &receiver).await;
    operating(&mut tour).await;
    let operations = tour.document.operations();
    for operation in &operations {
        tour.refusals(operation).await;
    }

    // What takes a broken service or five seconds is tested elsewhere; a redirection is followed by the client.
    let documented = operations.iter().flat_map(|operation| {
        let statuses = tour.document.statuses(operation).into_iter();
        statuses.map(|status| (operation.clone(), status)).filter(|(_, status)| ![308, 408, 503].contains(status))
    });
    // A stream of events does not end.
    let is_stream = |(operation, status): &(Operation, u16)| operation.path.ends_with("/events") && *status == 200;
    let unseen: Vec<_> = documented.filter(|entry| !tour.seen.contains(entry) && !is_stream(entry)).collect();
    assert!(unseen.is_empty(), "documented, and never answered: {unseen:#?}");
}

#[tokio::test]
async fn answers_with_redis_are_what_the_document_says() {
    let redis = RedisServer::start();
    let quotad = Start::new().redis(&redis).start().await;
    let mut tour = Tour { document: Document::read(), quotad, seen: BTreeSet::new() };
    checks(&mut tour).await;
    leases(&mut tour).await;
    operating(&mut tour).await;
}

async fn checks(tour: &mut Tour) {
    let (one, batch) = ("/api/v2/check", "/api/v2/check/batch");
    let whole = json!({"user_id": 42, "tier": "free", "endpoint": "/api/v1/agents", "method": "POST", "items": 1});
    tour.ask(Method::POST, one, one, Some(whole), 200).await;
    tour.ask(Method::POST, one, one, Some(json!({"ip": "2001:db8::1", "dry_run": true})), 200).await;
    tour.ask(Method::POST, one, one, Some(json!({"user_id": "42", "items": 0})), 422).await;
    let mixed = json!({"checks": [{"user_id": "42"}, {"ip": "192.0.2.1", "items": 11}]});
    tour.ask(Method::POST, batch, batch, Some(mixed), 200).await;
    tour.ask(Method::POST, batch, batch, Some(json!({"checks": []})), 422).await;
    // A bad item does not agree with the document, and is answered in its place.
    let bad = Some(("application/json", json!({"checks": [{"user_id": ""}]}).to_string().into_bytes()));
    let operation = Operation { path: batch.to_owned(), method: "post".to_owned() };
    tour.send(&operation, batch, bad, &[("x-api-key", ADMIN_KEY)], 200).await;
    tour.ask(Method::POST, one, one, Some(json!({"user_id": "43", "items": 100})), 200).await;
    tour.ask(Method::POST, one, one, Some(json!({"user_id": "43"})), 429).await;
}

async fn leases(tour: &mut Tour) {
    let (take, held, check) = ("/api/v2/leases", "/api/v2/leases/{lease_id}", "/api/v2/check");
    let wish = |ttl: u32| json!({"ip": "192.0.2.7", "kind": "request", "ttl_seconds": ttl});
    let taken = tour.ask(Method::POST, take, take, Some(wish(60)), 201).await;
    let path = filled(held, taken.json["lease_id"].as_str().expect("an id"));
    tour.ask(Method::POST, take, take, Some(wish(0)), 422).await;
    let with_slot = json!({"ip": "192.0.2.7", "lease": "request", "request_id": "one", "endpoint": "/ws"});
    tour.ask(Method::POST, check, check, Some(with_slot), 200).await;
    tour.ask(Method::POST, take, take, Some(wish(60)), 429).await;
    tour.ask(Method::POST, check, check, Some(json!({"ip": "192.0.2.7", "lease": "request"})), 429).await;
    tour.ask(Method::PUT, held, &path, Some(json!({"ttl_seconds": 90})), 200).await;
    tour.ask(Method::PUT, held, &path, Some(json!({"ttl_seconds": 86_401})), 422).await;
    tour.ask(Method::DELETE, held, &path, None, 204).await;
    tour.ask(Method::DELETE, held, &path, None, 404).await;
    tour.ask(Method::PUT, held, &path, Some(json!({"ttl_seconds": 90})), 404).await;
}

async fn quotas(tour: &mut Tour) {
    let user = format!("Bearer {}", token(json!({"sub": "42", "tier": "pro"})));
    for (template, path, status) in [
        ("/api/v2/users/me/quota", "/api/v2/users/me/quota", 200),
        ("/api/v2/users/me/quota/history", "/api/v2/users/me/quota/history", 200),
        ("/api/v2/users/me/quota/history", "/api/v2/users/me/quota/history?granularity=week", 422),
    ] {
        let operation = Operation { path: template.to_owned(), method: "get".to_owned() };
        tour.send(&operation, path, None, &[("authorization", &user)], status).await;
    }
    let quota = "/api/v2/admin/quotas/{user_id}";
    let set = json!({"custom_requests_per_hour": 500, "expires_at": "2999-12-01T00:00:00Z", "reason": "r"});
    for (method, template, path, body, status) in [
        (Method::GET, quota, "42", None, 200),
        (Method::GET, quota, "a%0Ab", None, 422),
        (Method::PUT, quota, "42", Some(set), 200),
        (Method::PUT, quota, "42", Some(json!({})), 422),
        (Method::DELETE, quota, "42", None, 204),
        (Method::DELETE, quota, "42", None, 404),
        (Method::DELETE, quota, "a%0Ab", None, 422),
        (Method::POST, "/api/v2/admin/quotas/{user_id}/reset", "42", None, 200),
        (Method::POST, "/api/v2/admin/quotas/{user_id}/reset", "42", Some(json!({"limits": ["hour"]})), 200),
        (Method::POST, "/api/v2/admin/quotas/{user_id}/reset", "42", Some(json!({"limits": ["week"]})), 422),
        (Method::GET, "/api/v2/admin/ips/{ip}", "192.0.2.1", None, 200),
        (Method::GET, "/api/v2/admin/ips/{ip}", "nowhere", None, 422),
        (Method::POST, "/api/v2/admin/ips/{ip}/reset", "192.0.2.1", Some(json!({"limits": null})), 200),
        (Method::POST, "/api/v2/admin/ips/{ip}/reset", "nowhere", None, 422),
    ] {
        tour.ask(method, template, &filled(template, path), body, status).await;
    }
    let history = "/api/v2/admin/quotas/{user_id}/history";
    let hourly = "?granularity=hour&from=2020-01-01&to=2999-01-01T00:00:00Z&format=";
    for (query, status) in
        [(format!("{hourly}json"), 200), (format!("{hourly}csv"), 200), ("?format=x".to_owned(), 422)]
    {
        let answer = tour.ask(Method::GET, history, &(filled(history, "42") + query.as_str()), None, status).await;
        assert!(answer.json["items"] != json!([]), "an item was held against its schema: {}", answer.text);
        let all = "/api/v2/admin/usage/history";
        tour.ask(Method::GET, all, &(all.to_owned() + query.as_str()), None, status).await;
    }
}

/// What is set is changed only as its author has seen it.
async fn conditions(tour: &mut Tour) {
    let (quota, user) = ("/api/v2/admin/quotas/{user_id}", "/api/v2/admin/users/{user_id}");
    let (tier, costs) = ("/api/v2/admin/tiers/{name}", "/api/v2/admin/endpoints");
    let set = Some(json!({"custom_requests_per_hour": 5}));
    tour.ask(Method::PUT, quota, &filled(quota, "42"), set.clone(), 200).await;
    tour.ask(Method::PUT, tier, &filled(tier, "silver"), Some(json!({"limits": []})), 200).await;
    for (method, template, text, body) in [
        ("put", quota, "42", set),
        ("delete", quota, "42", None),
        ("put", user, "42", Some(json!({"tier": "pro"}))),
        ("put", tier, "silver", Some(json!({"limits": []}))),
        ("delete", tier, "silver", None),
        ("put", costs, "", Some(json!({"costs": []}))),
    ] {
        let operation = Operation { path: template.to_owned(), method: method.to_owned() };
        let bytes = body.map(|body| ("application/json", body.to_string().into_bytes()));
        let stale = [("x-api-key", ADMIN_KEY), ("if-match", "\"seen long ago\"")];
        tour.send(&operation, &filled(template, text), bytes, &stale, 412).await;
    }
}

async fn administration(tour: &mut Tour) {
    let (user, keys, key) = ("/api/v2/admin/users/{user_id}", "/api/v2/admin/keys", "/api/v2/admin/keys/{id}");
    let (usage, audit) = ("/api/v2/admin/quotas/usage", "/api/v2/admin/audit");
    let (users, overrides, held) = ("/api/v2/admin/users", "/api/v2/admin/overrides", "/api/v2/admin/leases");
    let quota = "/api/v2/admin/quotas/{user_id}";
    let slot = json!({"user_id": "42", "kind": "websocket", "ttl_seconds": 60});
    for (method, template, path, body, status) in [
        (Method::PUT, user, filled(user, "42"), Some(json!({"tier": "pro", "reset_schedule": null})), 200),
        (Method::PUT, user, filled(user, "42"), Some(json!({"tier": "gold"})), 422),
        (Method::GET, user, filled(user, "42"), None, 200),
        (Method::GET, user, filled(user, "a%0Ab"), None, 422),
        (Method::GET, usage, format!("{usage}?top=5&period=30d"), None, 200),
        (Method::GET, usage, format!("{usage}?by=denied"), None, 200),
        (Method::GET, usage, format!("{usage}?top=0"), None, 422),
        (Method::GET, usage, format!("{usage}?by=name"), None, 422),
        (Method::GET, "/api/v2/admin/tiers", "/api/v2/admin/tiers".to_owned(), None, 200),
        (Method::GET, "/api/v2/admin/tiers/{name}", "/api/v2/admin/tiers/pro".to_owned(), None, 200),
        (Method::GET, "/api/v2/admin/tiers/{name}", "/api/v2/admin/tiers/gold".to_owned(), None, 404),
        (Method::GET, "/api/v2/admin/endpoints", "/api/v2/admin/endpoints".to_owned(), None, 200),
        (Method::POST, keys, keys.to_owned(), Some(json!({"name": "", "role": "user"})), 422),
        (Method::GET, users, format!("{users}?search=4&limit=10"), None, 200),
        (Method::GET, users, format!("{users}?limit=0"), None, 422),
        (Method::PUT, quota, filled(quota, "42"), Some(json!({"custom_requests_per_day": 7})), 200),
        (Method::GET, overrides, format!("{overrides}?state=active"), None, 200),
        (Method::GET, overrides, format!("{overrides}?state=sleeping"), None, 422),
        (Method::POST, "/api/v2/leases", "/api/v2/leases".to_owned(), Some(slot), 201),
        (Method::GET, held, format!("{held}?user_id=42"), None, 200),
        (Method::GET, held, held.to_owned(), None, 422),
        (Method::GET, audit, format!("{audit}?limit=1"), None, 200),
        (Method::GET, audit, format!("{audit}?limit=1000&before=1000000"), None, 200),
        (Method::GET, audit, format!("{audit}?limit=0"), None, 422),
    ] {
        tour.ask(method, template, &path, body, status).await;
    }
    policy(tour).await;
    conditions(tour).await;
    forward_auth::all(tour).await;
    let wanted = json!({"name": "k", "role": "user", "user_id": "42", "expires_at": "2999-12-01T00:00:00Z"});
    let made = tour.ask(Method::POST, keys, keys, Some(wanted), 201).await;
    let path = filled(key, made.json["id"].as_str().expect("an id"));
    let (rotate, again) = (format!("{key}/rotate"), format!("{path}/rotate"));
    tour.ask(Method::POST, &rotate, &again, Some(json!({"overlap_seconds": 60})), 201).await;
    tour.ask(Method::POST, &rotate, &again, Some(json!({"overlap_seconds": -1})), 422).await;
    tour.ask(Method::POST, &rotate, &again, None, 409).await;
    tour.ask(Method::DELETE, key, &path, None, 204).await;
    tour.ask(Method::POST, &rotate, &again, None, 404).await;
    tour.ask(Method::DELETE, key, &path, None, 404).await;
    let listed = tour.ask(Method::GET, keys, keys, None, 200).await;
    assert_eq!(listed.json["items"].as_array().map(Vec::len), Some(2), "{}", listed.text);
}

async fn policy(tour: &mut Tour) {
    let (tier, endpoints, user) =
        ("/api/v2/admin/tiers/{name}", "/api/v2/admin/endpoints", "/api/v2/admin/users/{user_id}");
    let limits = json!([
        {"name": "week", "algorithm": "fixed_window", "window": "week", "requests": 7},
        {"name": "minute", "algorithm": "fixed_window", "period_seconds": 60, "requests": 7},
        {"name": "log", "algorithm": "sliding_window_log", "period_seconds": 60, "requests": 7, "enforce": false},
        {"name": "counter", "algorithm": "sliding_window_counter", "period_seconds": 60, "requests": 7},
        {"name": "bucket", "algorithm": "token_bucket", "period_seconds": 60, "requests": 7, "burst": 3},
    ]);
    let schedule = json!({"month": {"day": 31, "at": "00:00", "timezone": "Europe/Berlin"}});
    let gold = json!({"limits": limits, "reset_schedule": schedule});
    for (method, template, path, body, status) in [
        (Method::PUT, tier, filled(tier, "gold"), Some(gold), 200),
        (Method::GET, tier, filled(tier, "gold"), None, 200),
        (Method::PUT, tier, filled(tier, "gold"), Some(json!({"limits": [{}]})), 422),
        (Method::PUT, user, filled(user, "43"), Some(json!({"tier": "gold", "reset_schedule": schedule})), 200),
        (
            Method::POST,
            "/api/v2/check",
            "/api/v2/check".to_owned(),
            Some(json!({"user_id": "43", "explain": true})),
            200,
        ),
        (Method::DELETE, tier, filled(tier, "gold"), None, 409),
        (Method::PUT, user, filled(user, "43"), Some(json!({})), 200),
        (Method::DELETE, tier, filled(tier, "gold"), None, 204),
        (Method::DELETE, tier, filled(tier, "gold"), None, 404),
        (
            Method::PUT,
            endpoints,
            endpoints.to_owned(),
            Some(json!({"costs": [{"path": "/a", "methods": ["GET"], "cost": 3}]})),
            200,
        ),
        (
            Method::PUT,
            endpoints,
            endpoints.to_owned(),
            Some(json!({"costs": [{"path": "/a", "methods": [], "cost": -1}]})),
            422,
        ),
    ] {
        tour.ask(method, template, &path, body, status).await;
    }
}

async fn operating(tour: &mut Tour) {
    for path in ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"] {
        let operation = Operation { path: path.to_owned(), method: "get".to_owned() };
        tour.send(&operation, path, None, &[], 200).await;
    }
    for path in ["/dashboard", "/me"] {
        let operation = Operation { path: path.to_owned(), method: "get".to_owned() };
        let page = tour.send(&operation, path, None, &[], 200).await;
        let etag = page.header("etag").expect("an ETag").to_owned();
        tour.send(&operation, path, None, &[("if-none-match", &etag)], 304).await;
    }
}
