//! One question: has this subject room for this cost, and for one more at once?

use crate::domain::cost::{Cost, Items};
use crate::domain::endpoint::EndpointCost;
use crate::domain::lease::{LeaseAsk, LeaseKind, LeaseWish};
use crate::domain::subject::Subject;
use crate::domain::tier::TierName;
use crate::domain::time::Period;

/// What makes a check known again when it is repeated: 1 to 64 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters without control characters")]
pub struct InvalidRequestId;

impl RequestId {
    pub fn parse(text: String) -> Result<Self, InvalidRequestId> {
        let characters = text.chars().take(65).count();
        let fits = (1..=64).contains(&characters) && !text.chars().any(char::is_control);
        if fits { Ok(Self(text)) } else { Err(InvalidRequestId) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One question of a subject.
#[derive(Debug, Clone)]
pub struct Check {
    pub subject: Subject,
    /// The check's own tier, which goes before every other.
    pub tier: Option<TierName>,
    /// What the subject's token claims.
    pub claimed_tier: Option<TierName>,
    pub cost: Cost,
    /// What history counts as requests where the check is allowed; `None` where it is no request.
    pub items: Option<Items>,
    /// A concurrency slot that is taken with it, or counted.
    pub lease: Option<LeaseAsk>,
    /// A repeat within a minute is answered as the first was.
    pub request_id: Option<RequestId>,
    /// Answers as if, and leaves no trace.
    pub dry_run: bool,
    /// Has the decision say where its limits and its cost come from.
    pub explain: bool,
    /// The rule that the cost comes from, where the decision is to say so.
    pub endpoint_rule: Option<EndpointCost>,
}

impl Check {
    /// A look at the subject's limits and at the slots for requests, that costs nothing and leaves no trace.
    pub const fn look(subject: Subject, claimed_tier: Option<TierName>) -> Self {
        Self {
            subject,
            tier: None,
            claimed_tier,
            cost: Cost::ZERO,
            items: None,
            lease: Some(LeaseAsk { kind: LeaseKind::Request, wish: LeaseWish::Count }),
            request_id: None,
            dry_run: true,
            explain: false,
            endpoint_rule: None,
        }
    }

    /// Whether it asks for units and for nothing else: any instance that has them may answer it.
    pub fn is_plain(&self) -> bool {
        self.cost != Cost::ZERO && self.lease.is_none() && self.request_id.is_none() && !self.dry_run
    }

    /// What is asked about slots: a dry run takes none.
    pub fn lease_ask(&self) -> Option<LeaseAsk> {
        self.lease.map(|ask| if self.dry_run { ask.without_trace() } else { ask })
    }
}

/// A wish for a slot, under a new secret.
///
/// # Errors
/// The system gives no random bytes.
pub fn wish_for_lease(lasts: Period) -> Result<LeaseWish, getrandom::Error> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)?;
    Ok(LeaseWish::Take { secret: u128::from_be_bytes(secret), lasts })
}
