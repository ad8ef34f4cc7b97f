//! Traefik's ForwardAuth, replayed. Its page says: headers of the request named in `authRequestHeaders` go along, or all; method,
//! protocol, host, URI and address go as `X-Forwarded-`; a 2xx grants, and `authResponseHeaders` of it replace those of the request; any
//! other answer goes to the client. (doc.traefik.io, Middlewares, ForwardAuth; X-Forwarded- of the client: `trustForwardHeader`.)

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::replay::{self, Documented, Outcome, Request, named};
use crate::support::quotad::{Quotad, Start};

/// The options that the example uses, by the names that Traefik knows them by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ForwardAuth {
    address: String,
    trust_forward_header: bool,
    auth_request_headers: Vec<String>,
    auth_response_headers: Vec<String>,
}

impl ForwardAuth {
    fn of_example() -> Self {
        let example = dynamic();
        assert_eq!(example["http"]["routers"]["application"]["middlewares"][0], "quotad");
        let middleware = example["http"]["middlewares"]["quotad"]["forwardAuth"].clone();
        serde_json::from_value(middleware).expect("options of ForwardAuth")
    }

    fn hands_on(&self, name: &str) -> bool {
        self.auth_request_headers.is_empty()
            || self.auth_request_headers.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn dynamic() -> Value {
    serde_saphyr::from_str(include_str!("../../../examples/traefik/dynamic.yml")).expect("YAML")
}

impl Documented for ForwardAuth {
    async fn pass(&self, quotad: &Quotad, request: &Request) -> Outcome {
        assert!(!self.trust_forward_header, "the client's X-Forwarded- would go along");
        let path = self.address.strip_prefix("http://127.0.0.1:8080").expect("quotad's address");
        let of_hop = ["host", "connection", "upgrade"];
        let mut question: HeaderMap = request.headers.clone();
        for name in request.headers.keys().map(reqwest::header::HeaderName::as_str) {
            if !self.hands_on(name) || name.starts_with("x-forwarded-") || of_hop.contains(&name) {
                question.remove(name);
            }
        }
        for (name, value) in [
            ("x-forwarded-method", request.method),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "api.example.com"),
            ("x-forwarded-uri", &request.target),
            ("x-forwarded-for", request.from),
        ] {
            question.insert(named(name), value.parse().expect("a value"));
        }
        let answer = quotad.ask_as(Method::GET, path, None, &replay::pairs(&question)).await;
        if !(200..300).contains(&answer.status) {
            return Outcome::Refused(answer);
        }
        let mut to_application = request.headers.clone();
        for name in &self.auth_response_headers {
            to_application.remove(name.as_str());
            if let Some(value) = answer.headers.get(name.as_str()) {
                to_application.insert(named(name), value.clone());
            }
        }
        Outcome::Passes { to_application, to_client: HeaderMap::new() }
    }
}

#[tokio::test]
async fn a_user_is_held_to_the_quota() {
    crate::support::in_one_hour(async || {
        let quotad = Start::new().start().await;
        replay::a_user_is_held_to_the_quota(&ForwardAuth::of_example(), &quotad).await;
    })
    .await;
}

#[tokio::test]
async fn a_stranger_pays_by_its_own_address() {
    crate::support::in_one_hour(async || {
        let quotad = Start::new().start().await;
        replay::a_stranger_pays_by_its_own_address(&ForwardAuth::of_example(), &quotad).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_is_not_believed_though_all_its_headers_are_handed_on() {
    let quotad = Start::new().start().await;
    let careless = ForwardAuth { auth_request_headers: Vec::new(), ..ForwardAuth::of_example() };
    let (to_application, _) = careless.pass(&quotad, &Request::new("198.51.100.7", "GET", "/")).await.passes();
    assert_eq!(
        to_application["x-quotad-subject"], "ip:198.51.100.7",
        "Traefik's own X-Forwarded-For goes before a Forwarded"
    );
}

#[test]
fn the_static_part_finds_the_dynamic_one() {
    let text = include_str!("../../../examples/traefik/traefik.yml");
    let settings: Value = serde_saphyr::from_str(text).expect("YAML");
    assert_eq!(settings["providers"]["file"]["filename"], "/etc/traefik/dynamic.yml");
    assert_eq!(settings["entryPoints"]["web"]["address"], "127.0.0.1:8000");
    let router = &dynamic()["http"]["routers"]["application"];
    assert_eq!((&router["entryPoints"][0], &router["service"]), (&Value::from("web"), &Value::from("application")));
}
