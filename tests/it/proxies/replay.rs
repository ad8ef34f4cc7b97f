//! A proxy that is not here, by its documentation: what it asks of quotad about a request, and what it makes of the answer.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::client::LIES;
use crate::support::answer::{Answer, token};
use crate::support::quotad::Quotad;

/// What a client sends to the proxy.
#[derive(Clone)]
pub struct Request {
    pub from: &'static str,
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
}

impl Request {
    /// With all [`LIES`], and as a WebSocket's upgrade would come.
    pub fn new(from: &'static str, method: &'static str, target: &str) -> Self {
        let upgrade = [("host", "api.example.com"), ("connection", "upgrade"), ("upgrade", "websocket")];
        let headers =
            upgrade.into_iter().chain(LIES).map(|(name, value)| (named(name), HeaderValue::from_static(value)));
        Self { from, method, target: target.to_owned(), headers: headers.collect() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(named(name), HeaderValue::from_str(value).expect("a value"));
        self
    }
}

pub fn named(name: &str) -> HeaderName {
    name.parse().expect("a name")
}

/// As [`Quotad`] is asked with them.
pub fn pairs(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect()
}

/// What becomes of it.
pub enum Outcome {
    /// It reaches the application with these headers, and its answer the client with those.
    Passes { to_application: HeaderMap, to_client: HeaderMap },
    /// The client gets this.
    Refused(Answer),
}

impl Outcome {
    pub fn passes(self) -> (HeaderMap, HeaderMap) {
        match self {
            Self::Passes { to_application, to_client } => (to_application, to_client),
            Self::Refused(answer) => panic!("refused: {answer:?}"),
        }
    }

    pub fn refused(self) -> Answer {
        match self {
            Self::Passes { to_client, .. } => panic!("it passes: {to_client:?}"),
            Self::Refused(answer) => answer,
        }
    }
}

pub trait Documented {
    /// Asks quotad as the proxy would.
    async fn pass(&self, quotad: &Quotad, request: &Request) -> Outcome;
}

/// As behind the real proxies, up to what this one shows to the client of a request that passes.
pub async fn a_user_is_held_to_the_quota(proxy: &impl Documented, quotad: &Quotad) {
    let bearer = format!("Bearer {}", token(json!({"sub": "42"})));
    let request = |target| Request::new("198.51.100.7", "GET", target).with("authorization", &bearer);
    for _ in 0..100 {
        let (to_application, _) = proxy.pass(quotad, &request("/things?x=1")).await.passes();
        assert_eq!(to_application["x-quotad-subject"], "user:42");
        assert_eq!(to_application["x-quotad-tier"], "free");
    }
    let denied = proxy.pass(quotad, &request("/things")).await.refused();
    assert_eq!((denied.status, denied.number("x-ratelimit-remaining")), (429, 0));
    assert!((1..=3600).contains(&denied.number("retry-after")));
    assert!(denied.header("ratelimit").is_some() && denied.header("ratelimit-policy").is_some());
    assert_eq!(denied.header("content-type"), Some("application/problem+json"));
    assert_eq!(denied.json["error"], "Rate limit exceeded");

    let bad = request("/things").with("authorization", "Bearer qd_none_none");
    let refused = proxy.pass(quotad, &bad).await.refused();
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(refused.json["status"], 401);

    // An upgrade's own question is none: it costs nothing, and passes.
    proxy.pass(quotad, &request("/ws")).await.passes();
    assert_eq!(quotad.quota("42").await.field("requests_hour_used"), 100);
}

/// By its address, for the path and the method that were asked for, and not as another's key.
pub async fn a_stranger_pays_by_its_own_address(proxy: &impl Documented, quotad: &Quotad) {
    for from in ["198.51.100.7", "198.51.100.8", "2001:db8:1:2::7"] {
        let subject = if from.contains(':') { "ip:2001:db8:1:2::/64".to_owned() } else { format!("ip:{from}") };
        let asked =
            [("GET", "/things"), ("POST", "/api/v1/agents/7"), ("DELETE", "/api/v1/batch?x=/ws"), ("GET", "/ws")];
        for (method, target) in asked {
            let (to_application, _) = proxy.pass(quotad, &Request::new(from, method, target)).await.passes();
            assert_eq!(to_application["x-quotad-subject"], subject, "{target}");
        }
        let denied = proxy.pass(quotad, &Request::new(from, "GET", "/api/v1/batch")).await.refused();
        assert_eq!((denied.status, denied.number("x-ratelimit-remaining")), (429, 2), "1 + 2 + 5 of 10 are used");
    }
    let with_key = Request::new("198.51.100.9", "GET", "/things").with("x-api-key", "qd_none_none");
    assert_eq!(proxy.pass(quotad, &with_key).await.refused().status, 401, "the key is handed on");
}
