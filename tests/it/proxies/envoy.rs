//! Envoy's ext_authz over HTTP, replayed. Its reference says: method, path (behind `path_prefix`), Host and Authorization go along, and
//! what `allowed_headers` names; `headers_to_add` replace; a 200 lets pass with `allowed_upstream_headers` set and
//! `allowed_client_headers_on_success` added; another answer goes to the client with its body and `allowed_client_headers`; an error or a
//! 5xx is `status_on_error`. (ext_authz.proto; that Envoy's own address ends X-Forwarded-For: envoyproxy/envoy#21519.)

use reqwest::header::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::replay::{self, Documented, Outcome, Request, named};
use crate::support::answer::Answer;
use crate::support::quotad::{Quotad, Start};

/// What Envoy takes for its own address.
const OWN: &str = "192.0.2.80";

/// The options that the example uses, by the names that Envoy knows them by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtAuthz {
    #[serde(rename = "@type")]
    kind: String,
    failure_mode_allow: bool,
    status_on_error: Value,
    allowed_headers: Patterns,
    http_service: HttpService,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpService {
    server_uri: ServerUri,
    path_prefix: String,
    authorization_request: AuthorizationRequest,
    authorization_response: AuthorizationResponse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerUri {
    uri: String,
    cluster: String,
    timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorizationRequest {
    headers_to_add: Vec<HeaderToAdd>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderToAdd {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorizationResponse {
    allowed_upstream_headers: Patterns,
    allowed_client_headers_on_success: Patterns,
    allowed_client_headers: Patterns,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Patterns {
    fn names(&self, name: &HeaderName) -> bool {
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Exact(text) => name.as_str() == text,
            Pattern::Prefix(text) => name.as_str().starts_with(text),
        })
    }

    fn of(&self, headers: &HeaderMap) -> HeaderMap {
        let named = headers.iter().filter(|(name, _)| self.names(name));
        named.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

fn example() -> Value {
    serde_saphyr::from_str(include_str!("../../../examples/envoy/envoy.yaml")).expect("YAML")
}

/// What stands in the only chain of filters.
fn connection_manager() -> Value {
    example()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"].clone()
}

impl ExtAuthz {
    fn of_example() -> Self {
        let filter = connection_manager()["http_filters"][1]["typed_config"].clone();
        serde_json::from_value(filter).expect("options of ext_authz")
    }
}

impl Documented for ExtAuthz {
    async fn pass(&self, quotad: &Quotad, request: &Request) -> Outcome {
        let always = ["host", "authorization"];
        let mut question = self.allowed_headers.of(&request.headers);
        for name in always {
            if let Some(value) = request.headers.get(name) {
                question.insert(named(name), value.clone());
            }
        }
        for header in &self.http_service.authorization_request.headers_to_add {
            let value = header.value.replace("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", request.from);
            question.insert(named(&header.key), value.parse().expect("a value"));
        }
        let forwarded_for = question.get("x-forwarded-for").map(|value| value.to_str().expect("text"));
        let forwarded_for = forwarded_for.map_or(OWN.to_owned(), |first| format!("{first},{OWN}"));
        question.insert("x-forwarded-for", forwarded_for.parse().expect("a value"));
        question.insert("x-envoy-internal", "true".parse().expect("a value"));
        question.insert("content-length", "0".parse().expect("a value"));
        let path = format!("{}{}", self.http_service.path_prefix, request.target);
        let method = request.method.parse().expect("a method");
        let answer = quotad.ask_as(method, &path, None, &replay::pairs(&question)).await;
        let allowed = &self.http_service.authorization_response;
        if answer.status != 200 {
            let mut headers = allowed.allowed_client_headers.of(&answer.headers);
            let challenge = answer.headers.get("www-authenticate").cloned();
            headers.extend(challenge.map(|value| (named("www-authenticate"), value)));
            return Outcome::Refused(Answer { headers, ..answer });
        }
        let mut to_application = request.headers.clone();
        to_application.extend(allowed.allowed_upstream_headers.of(&answer.headers));
        let to_client = allowed.allowed_client_headers_on_success.of(&answer.headers);
        Outcome::Passes { to_application, to_client }
    }
}

/// It believes Envoy where it connects from, and by the address that Envoy has for itself.
async fn service() -> Quotad {
    Start::new().set("TRUSTED_PROXIES", &format!("127.0.0.1/32,{OWN}/32")).start().await
}

#[tokio::test]
async fn a_user_is_held_to_the_quota() {
    crate::support::in_one_hour(async || {
        let (envoy, quotad) = (ExtAuthz::of_example(), service().await);
        replay::a_user_is_held_to_the_quota(&envoy, &quotad).await;
    })
    .await;
}

#[tokio::test]
async fn a_stranger_pays_by_its_own_address() {
    crate::support::in_one_hour(async || {
        let (envoy, quotad) = (ExtAuthz::of_example(), service().await);
        replay::a_stranger_pays_by_its_own_address(&envoy, &quotad).await;
        let (_, to_client) = envoy.pass(&quotad, &Request::new("198.51.100.10", "GET", "/")).await.passes();
        for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit-policy", "ratelimit"]
        {
            assert!(to_client.contains_key(name), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn envoy_is_charged_itself_where_its_own_address_is_not_trusted() {
    let quotad = Start::new().start().await;
    let request = Request::new("198.51.100.7", "GET", "/");
    let (to_application, _) = ExtAuthz::of_example().pass(&quotad, &request).await.passes();
    assert_eq!(to_application["x-quotad-subject"], format!("ip:{OWN}"));
}

#[test]
fn the_example_refuses_without_quotad_and_takes_no_header_of_it_from_the_client() {
    let filter = ExtAuthz::of_example();
    assert_eq!(filter.kind, "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz");
    assert_eq!((filter.failure_mode_allow, &filter.status_on_error), (false, &json!({"code": "ServiceUnavailable"})));
    let manager = connection_manager();
    let names = manager["http_filters"].as_array().expect("filters").iter().map(|filter| filter["name"].as_str());
    let names: Vec<_> = names.map(|name| name.and_then(|name| name.rsplit('.').next()).expect("a name")).collect();
    assert_eq!(names, ["header_mutation", "ext_authz", "router"], "what comes first is done first");
    let removed = &manager["http_filters"][0]["typed_config"]["mutations"]["request_mutations"];
    for header in removed.as_array().expect("headers") {
        let name = named(header["remove"].as_str().expect("a name"));
        assert!(filter.http_service.authorization_response.allowed_upstream_headers.names(&name), "{name}");
    }
    assert_eq!(removed.as_array().map(Vec::len), Some(2));
    assert_eq!(manager["use_remote_address"], true);
    assert_eq!(manager["upgrade_configs"][0]["upgrade_type"], "websocket");
    let server = &filter.http_service.server_uri;
    assert_eq!((server.uri.as_str(), server.timeout.as_str()), ("http://127.0.0.1:8080", "1s"));
    let clusters = example()["static_resources"]["clusters"].as_array().expect("clusters").clone();
    assert!(clusters.iter().any(|cluster| cluster["name"] == server.cluster.as_str()));
}
