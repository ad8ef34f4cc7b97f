//! The way of a request: asked for, let in, charged, and its slot held until the answer is sent.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError};
use futures_util::future::LocalBoxFuture;

use super::rules::Rules;
use super::slots::Held;
use super::{Charged, Quota};
use crate::domain::cost::Cost;
use crate::domain::decision::Decision;
use crate::http::error::Problem;
use crate::http::headers;
use crate::limiter::{Check, LimiterError, Outbox};

/// What [`Quota`] makes of the service behind it, for one worker.
pub struct QuotaService<S>(Rc<Passage<S>>);

/// What stands before a worker's service.
pub struct Passage<S> {
    pub quota: Quota,
    pub outbox: Outbox,
    pub inner: S,
}

/// A request that was let in.
struct Entry {
    charge: Check,
    /// How the limits stood when it was; `None` where that was not asked.
    decision: Option<Decision>,
    held: Option<Held>,
}

impl<S> QuotaService<S> {
    pub(super) const fn new(passage: Rc<Passage<S>>) -> Self {
        Self(passage)
    }
}

impl<S> fmt::Debug for QuotaService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QuotaService").field(&self.0.quota).finish()
    }
}

impl<S, B> Service<ServiceRequest> for QuotaService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.inner.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let passage = Rc::clone(&self.0);
        if self.0.rules().asks(request.request()) {
            Box::pin(async move { passage.let_through(request).await })
        } else {
            // What is charged by the answer alone: most answers are not.
            let answer = self.0.inner.call(request);
            Box::pin(async move { passage.look_back(answer.await).await })
        }
    }
}

impl<S> Passage<S> {
    fn rules(&self) -> &Rules {
        &self.quota.0.rules
    }

    fn is_enforcing(&self) -> bool {
        self.quota.0.limiter.is_enforcing()
    }

    fn check(&self, charged: Charged, request: &HttpRequest) -> Check {
        Rules::check(charged, &self.quota.0.limiter.policy(), request)
    }

    /// Asks for room, and charges unless that waits for the answer.
    async fn admit(&self, charged: Charged, request: &HttpRequest) -> Result<Entry, HttpResponse> {
        let charge = self.check(charged, request);
        let slot = self.rules().slot(request).map_err(|error| {
            tracing::error!(%error, "the system gives no random bytes");
            Problem::unavailable("no slot can be taken now").error_response()
        })?;
        let (first, slot) = match self.rules().charge_when {
            None => (Check { lease: slot, ..charge.clone() }, None),
            // The slot is taken when there is room, and costs nothing.
            Some(_) => (Check { dry_run: true, ..charge.clone() }, slot),
        };
        let (decision, mut held) = self.ask(request, first).await?;
        if slot.is_some() {
            let take = Check { cost: Cost::ZERO, items: None, lease: slot, ..charge.clone() };
            held = self.ask(request, take).await?.1;
        }
        let decision = self.rules().charge_when.is_none().then_some(decision);
        Ok(Entry { charge, decision, held })
    }

    /// A check that must pass; otherwise what is answered.
    async fn ask(&self, request: &HttpRequest, check: Check) -> Result<(Decision, Option<Held>), HttpResponse> {
        let (decision, held) = self.decide(check).await.map_err(|error| Problem::from(error).error_response())?;
        if decision.is_allowed() {
            Ok((decision, held))
        } else {
            Err(self.rules().refusal(request, &decision, self.is_enforcing()))
        }
    }

    /// A check that takes a slot is followed to its end though the client has left meanwhile: nobody else would give the slot back.
    async fn decide(&self, check: Check) -> Result<(Decision, Option<Held>), LimiterError> {
        if check.lease.is_none() {
            return self.outbox.check(check).await.map(|decision| (decision, None));
        }
        let (outbox, slots) = (self.outbox.clone(), Arc::clone(&self.quota.0.slots));
        let taking = actix_web::rt::spawn(async move {
            let decision = outbox.check(check).await?;
            let taken = decision.slots.as_ref().and_then(|slots| slots.taken.as_ref());
            let held = taken.map(|(lease, _)| slots.hold(lease.clone()));
            Ok((decision, held))
        });
        taking.await.unwrap_or(Err(LimiterError::Stopped))
    }

    /// What becomes of the answer to a request that was let in.
    async fn finish(&self, entry: Entry, mut answer: HttpResponse) -> HttpResponse {
        let decision = match entry.decision {
            Some(decision) => Some(decision),
            None => self.settle(entry.charge, self.is_due(&answer)).await,
        };
        self.show(&mut answer, decision);
        match entry.held {
            Some(held) => held.until_sent(answer),
            None => answer,
        }
    }

    /// Whether an answer is to be charged for.
    fn is_due(&self, answer: &HttpResponse) -> bool {
        self.rules().charge_when.as_ref().is_some_and(|charge_when| charge_when(answer.head()))
    }

    /// Charges what is due, where others have left room meanwhile. How the limits stand then, as far as it is shown.
    async fn settle(&self, charge: Check, is_due: bool) -> Option<Decision> {
        let look = Check { tier: charge.tier.clone(), lease: None, ..Check::look(charge.subject.clone(), None) };
        if is_due && let Some(decision) = self.outbox.check(charge).await.ok().filter(Decision::is_allowed) {
            return Some(decision);
        }
        if self.rules().shows_headers { self.outbox.check(look).await.ok() } else { None }
    }

    fn show(&self, answer: &mut HttpResponse, decision: Option<Decision>) {
        if let Some(decision) = decision.filter(|_| self.rules().shows_headers) {
            headers::put(answer.headers_mut(), &decision, self.is_enforcing());
        }
    }
}

impl<S, B> Passage<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    async fn let_through(&self, request: ServiceRequest) -> Result<ServiceResponse, Error> {
        let Some(charged) = (self.rules().subject)(request.request()) else {
            return self.inner.call(request).await.map(ServiceResponse::map_into_boxed_body);
        };
        let entry = match self.admit(charged, request.request()).await {
            Ok(entry) => entry,
            Err(refusal) => return Ok(request.into_response(refusal)),
        };
        match self.inner.call(request).await {
            Ok(answer) => {
                let (request, answer) = answer.map_into_boxed_body().into_parts();
                Ok(ServiceResponse::new(request, self.finish(entry, answer).await))
            }
            Err(error) => {
                let answer = self.finish(entry, error.error_response()).await;
                Err(InternalError::from_response(error, answer).into())
            }
        }
    }

    /// Charges for the answer to a request that was let in without being asked for.
    async fn look_back(&self, answer: Result<ServiceResponse<B>, Error>) -> Result<ServiceResponse, Error> {
        let mut answer = answer?.map_into_boxed_body();
        if !self.is_due(answer.response()) {
            return Ok(answer);
        }
        let Some(charged) = (self.rules().subject)(answer.request()) else { return Ok(answer) };
        let decision = self.settle(self.check(charged, answer.request()), true).await;
        self.show(answer.response_mut(), decision);
        Ok(answer)
    }
}
