//! What is asked of the limiter for a request, and what is told to those who are denied.

use std::fmt;

use actix_web::dev::ResponseHead;
use actix_web::http::header::UPGRADE;
use actix_web::{HttpRequest, HttpResponse};

use super::Charged;
use crate::domain::cost::{Items, Multiplier};
use crate::domain::decision::Decision;
use crate::domain::endpoint::{ENDPOINT_MAX_BYTES, EndpointPath};
use crate::domain::lease::{LEASE_OF_A_CHECK, LeaseAsk, LeaseKind};
use crate::domain::policy::Policy;
use crate::http::decision;
use crate::limiter::{Check, wish_for_lease};

pub type SubjectOf = Box<dyn Fn(&HttpRequest) -> Option<Charged> + Send + Sync>;
pub type ChargeWhen = Box<dyn Fn(&ResponseHead) -> bool + Send + Sync>;
pub type AskWhen = Box<dyn Fn(&HttpRequest) -> bool + Send + Sync>;
pub type Denied = Box<dyn Fn(&HttpRequest, &Decision) -> HttpResponse + Send + Sync>;

/// What the builder was told.
pub struct Rules {
    pub subject: SubjectOf,
    /// `None`: whatever is let in is charged as it comes.
    pub charge_when: Option<ChargeWhen>,
    pub ask_when: Option<AskWhen>,
    pub denied: Option<Denied>,
    pub holds_slots: bool,
    pub shows_headers: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            subject: Box::new(Charged::peer),
            charge_when: None,
            ask_when: None,
            denied: None,
            holds_slots: false,
            shows_headers: true,
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { holds_slots, shows_headers, .. } = self;
        f.debug_struct("Rules")
            .field("holds_slots", holds_slots)
            .field("shows_headers", shows_headers)
            .finish_non_exhaustive()
    }
}

impl Rules {
    /// Whether a request is asked for before it is let in. One that is charged beforehand always is.
    pub fn asks(&self, request: &HttpRequest) -> bool {
        match (&self.charge_when, &self.ask_when) {
            (Some(_), Some(ask_when)) => ask_when(request),
            _ => true,
        }
    }

    /// One item, at the cost of its path.
    pub fn check(charged: Charged, policy: &Policy, request: &HttpRequest) -> Check {
        let endpoint = endpoint(request.match_info().as_str());
        let rule = policy.endpoint_costs.find(&endpoint, Some(request.method().as_str()));
        let cost = rule.map_or(Multiplier::ONE, |(_, multiplier)| multiplier).times(Items::ONE);
        let look = Check::look(charged.subject, None);
        Check { tier: charged.tier, cost, items: Some(Items::ONE), lease: None, dry_run: false, ..look }
    }

    /// The slot that a request holds: a WebSocket's where it asks to become one (RFC 6455, section 4.1).
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn slot(&self, request: &HttpRequest) -> Result<Option<LeaseAsk>, getrandom::Error> {
        if !self.holds_slots {
            return Ok(None);
        }
        let upgrade = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
        let is_websocket = upgrade.is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"));
        let kind = if is_websocket { LeaseKind::Websocket } else { LeaseKind::Request };
        Ok(Some(LeaseAsk { kind, wish: wish_for_lease(LEASE_OF_A_CHECK)? }))
    }

    /// The answer to one who is denied.
    pub fn refusal(&self, request: &HttpRequest, denial: &Decision, enforcing: bool) -> HttpResponse {
        match &self.denied {
            Some(denied) => denied(request, denial),
            None => decision::denied(denial, enforcing),
        }
    }
}

/// The path as costs know it, of the one that the router reads. The router takes `..` for a name like any other: whatever it would
/// lead to is not what is called. From such a segment on, or one that no path of a cost can have, the path is cut off.
fn endpoint(routed: &str) -> EndpointPath {
    let mut end: usize = 0;
    for segment in routed.split_inclusive('/') {
        let after = end.saturating_add(segment.len());
        let is_dots = matches!(segment.trim_end_matches('/'), "." | "..");
        if is_dots || segment.contains(char::is_control) || after > ENDPOINT_MAX_BYTES {
            break;
        }
        end = after;
    }
    EndpointPath::parse(routed.get(..end).unwrap_or_default()).unwrap_or_else(|_| EndpointPath::root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn nothing_in_a_path_makes_it_cheaper_than_what_is_called() {
        let long = format!("/agents/{}", "x".repeat(ENDPOINT_MAX_BYTES));
        for (path, expected) in [
            ("/agents/7?x=/ws", "/agents/7"),
            ("/%61gents", "/agents"),
            ("//agents//7", "/agents/7"),
            ("/agents/../ws", "/agents"),
            ("/agents/%2e%2e/ws", "/agents"),
            ("/agents/..%2Fws", "/agents/..%2Fws"),
            ("/agents/7%0A/x", "/agents"),
            (&long, "/agents"),
            ("/", "/"),
        ] {
            let request = TestRequest::with_uri(path).to_http_request();
            assert_eq!(endpoint(request.match_info().as_str()).as_str(), expected, "{path}");
        }
    }
}
