//! `/openapi.json` says what the service does: the same routes, and answers of the shape that it describes.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::answer::{Answer, token};
use crate::support::quotad::{ADMIN_KEY, Backend, Quotad, Start, Stores};
use crate::support::redis_server::RedisServer;

/// Pages for people: what is below `/docs/` is no part of the interface.
const PAGES: &str = "/docs/{file:.*}";
const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

struct Document(Value);

/// One method of one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Operation {
    path: String,
    method: String,
}

impl Document {
    fn read() -> Self {
        Self(serde_json::from_str(include_str!("../../src/http/openapi.json")).expect("JSON"))
    }

    fn operations(&self) -> BTreeSet<Operation> {
        let paths = self.0["paths"].as_object().expect("paths");
        let of_path = |(path, item): (&String, &Value)| {
            let methods = METHODS.iter().filter(|method| item.get(**method).is_some());
            methods.map(|method| Operation { path: path.clone(), method: (*method).to_owned() }).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    fn of(&self, operation: &Operation) -> &Value {
        &self.0["paths"][&operation.path][&operation.method]
    }

    fn statuses(&self, operation: &Operation) -> Vec<u16> {
        let responses = self.of(operation)["responses"].as_object().expect("responses");
        responses.keys().map(|status| status.parse().expect("a status")).collect()
    }

    /// Whether an instance is what a schema of this document says, and has no field that it does not name.
    fn assert_valid(&self, schema: &Value, instance: &Value, what: &str) {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        close(&mut schema);
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
        let errors: Vec<String> =
            validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{what}: {errors:#?} in {instance:#}");
    }

    /// The answer is one of those that the document has for this operation, with its headers and its body.
    fn assert_answer(&self, operation: &Operation, answer: &Answer) {
        let what = format!("{operation:?} {}", answer.status);
        let response = &self.of(operation)["responses"][answer.status.to_string()];
        assert!(response.is_object(), "{what} is not in the document: {}", answer.text);
        for name in response["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            let value = answer.header(name).unwrap_or_else(|| panic!("{what}: no {name} in {:?}", answer.headers));
            let schema = &self.0["components"]["headers"][name]["schema"];
            let value = if schema["type"] == "integer" { json!(answer.number(name)) } else { json!(value) };
            self.assert_valid(schema, &value, &format!("{what}, {name}"));
        }
        let Some(content) = response.get("content") else {
            assert!(answer.text.is_empty(), "{what}: {}", answer.text);
            return;
        };
        let kind = answer.header("content-type").and_then(|kind| kind.split(';').next()).expect("a content type");
        let schema = content[kind].get("schema").unwrap_or_else(|| panic!("{what}: no {kind}"));
        let body = if kind.ends_with("json") { answer.json.clone() } else { json!(answer.text) };
        self.assert_valid(schema, &body, &what);
    }
}

/// Makes every object of a schema refuse fields that it does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.iter_mut().filter(|(name, _)| *name != "examples").for_each(|(_, inner)| close(inner));
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The paths and methods in the list of routes.
fn routes() -> BTreeSet<Operation> {
    let source = include_str!("../../src/http.rs");
    let mut found = BTreeSet::new();
    for resource in source.split(".service(resource(").skip(1) {
        let (path, rest) = resource.trim_start().trim_start_matches('"').split_once('"').expect("a path");
        let (routes, _) = rest.split_once(']').expect("its routes");
        for method in METHODS.iter().filter(|method| routes.contains(&format!("{method}("))) {
            found.insert(Operation { path: path.to_owned(), method: (*method).to_owned() });
        }
    }
    found
}

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let mut routes = routes();
    assert!(routes.remove(&Operation { path: PAGES.to_owned(), method: "get".to_owned() }), "{routes:?}");
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
        key: (&str, &str),
        status: u16,
    ) -> Answer {
        let method = operation.method.to_uppercase().parse().expect("a method");
        let headers: &[(&str, &str)] = if key.1.is_empty() { &[] } else { &[key] };
        let answer = self.quotad.send(method, path, body, headers).await;
        assert_eq!(answer.status, status, "{operation:?} {path}: {}", answer.text);
        self.document.assert_answer(operation, &answer);
        self.seen.insert((operation.clone(), status));
        answer
    }

    /// As an admin. A body that is taken must be one that the document allows, and one of 422 must not.
    async fn ask(&mut self, method: Method, template: &str, path: &str, body: Option<Value>, status: u16) -> Answer {
        let operation = Operation { path: template.to_owned(), method: method.as_str().to_lowercase() };
        if let Some(body) = body.as_ref().filter(|_| (200..300).contains(&status)) {
            let schema = &self.document.of(&operation)["requestBody"]["content"]["application/json"]["schema"];
            self.document.assert_valid(schema, body, &format!("the body of {operation:?}"));
        }
        let bytes = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send(&operation, path, bytes, ("x-api-key", ADMIN_KEY), status).await
    }

    /// What every operation answers to those who may not, and to what can't be read.
    async fn refusals(&mut self, operation: &Operation) {
        let user = format!("Bearer {}", token(json!({"sub": "42"})));
        let of_self = operation.path.contains("/me/");
        let admin = ("x-api-key", ADMIN_KEY);
        let path = filled(&operation.path, "x");
        let documented = self.document.of(operation);
        let takes_a_body = documented.get("requestBody").is_some();
        if documented.get("security").is_some() {
            return;
        }
        let json = |text: &str| takes_a_body.then(|| ("application/json", text.as_bytes().to_vec()));
        self.send(operation, &path, json("{}"), ("x-api-key", ""), 401).await;
        // The admin key speaks for no user; a user speaks for nobody else.
        let lesser = if of_self { admin } else { ("authorization", user.as_str()) };
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
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let mut tour = Tour { document: Document::read(), quotad, seen: BTreeSet::new() };

    checks(&mut tour).await;
    leases(&mut tour).await;
    quotas(&mut tour).await;
    administration(&mut tour).await;
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
    let unseen: Vec<_> = documented.filter(|entry| !tour.seen.contains(entry)).collect();
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
    tour.send(&operation, batch, bad, ("x-api-key", ADMIN_KEY), 200).await;
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
        tour.send(&operation, path, None, ("authorization", &user), status).await;
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
        let answer = tour.ask(Method::GET, history, &(filled(history, "42") + &query), None, status).await;
        assert!(answer.json["items"] != json!([]), "an item was held against its schema: {}", answer.text);
    }
}

async fn administration(tour: &mut Tour) {
    let (user, keys, key) = ("/api/v2/admin/users/{user_id}", "/api/v2/admin/keys", "/api/v2/admin/keys/{id}");
    let (usage, audit) = ("/api/v2/admin/quotas/usage", "/api/v2/admin/audit");
    for (method, template, path, body, status) in [
        (Method::PUT, user, filled(user, "42"), Some(json!({"tier": "pro", "reset_schedule": null})), 200),
        (Method::PUT, user, filled(user, "42"), Some(json!({"tier": "gold"})), 422),
        (Method::GET, user, filled(user, "42"), None, 200),
        (Method::GET, user, filled(user, "a%0Ab"), None, 422),
        (Method::GET, usage, format!("{usage}?top=5&period=30d"), None, 200),
        (Method::GET, usage, format!("{usage}?top=0"), None, 422),
        (Method::GET, "/api/v2/admin/tiers", "/api/v2/admin/tiers".to_owned(), None, 200),
        (Method::GET, "/api/v2/admin/tiers/{name}", "/api/v2/admin/tiers/pro".to_owned(), None, 200),
        (Method::GET, "/api/v2/admin/tiers/{name}", "/api/v2/admin/tiers/gold".to_owned(), None, 404),
        (Method::GET, "/api/v2/admin/endpoints", "/api/v2/admin/endpoints".to_owned(), None, 200),
        (Method::POST, keys, keys.to_owned(), Some(json!({"name": "", "role": "user"})), 422),
        (Method::GET, audit, format!("{audit}?limit=1"), None, 200),
        (Method::GET, audit, format!("{audit}?limit=1000&before=1000000"), None, 200),
        (Method::GET, audit, format!("{audit}?limit=0"), None, 422),
    ] {
        tour.ask(method, template, &path, body, status).await;
    }
    let wanted = json!({"name": "k", "role": "user", "user_id": "42", "expires_at": "2999-12-01T00:00:00Z"});
    let made = tour.ask(Method::POST, keys, keys, Some(wanted), 201).await;
    let path = filled(key, made.json["id"].as_str().expect("an id"));
    tour.ask(Method::DELETE, key, &path, None, 204).await;
    tour.ask(Method::DELETE, key, &path, None, 404).await;
    let listed = tour.ask(Method::GET, keys, keys, None, 200).await;
    assert_eq!(listed.json["items"].as_array().map(Vec::len), Some(1), "{}", listed.text);
}

async fn operating(tour: &mut Tour) {
    for path in ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"] {
        let operation = Operation { path: path.to_owned(), method: "get".to_owned() };
        tour.send(&operation, path, None, ("x-api-key", ""), 200).await;
    }
}
