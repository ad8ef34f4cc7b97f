//! The edge, around everything else: a request gets an id, its answer bears it, and so does what the log says of it.

mod lines;
mod request_id;
mod span;

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready as or_pending};

use actix_web::Error;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::HeaderValue;
use pin_project_lite::pin_project;
use tracing::Instrument;
use tracing::instrument::Instrumented;

use self::lines::Lines;
use self::request_id::{Numbers, Ranges, X_REQUEST_ID};
use crate::clock::Clock;
use crate::observability::traces::Traces;

/// The middleware, for all workers.
#[derive(Debug, Clone)]
pub struct Edge {
    ranges: Ranges,
    traces: Traces,
    clock: Clock,
}

/// One worker's part of it.
#[derive(Debug)]
struct Worker {
    numbers: Numbers,
    lines: Lines,
    traces: Traces,
    clock: Clock,
}

impl Edge {
    /// `instance` is a random number: ids are made from it on.
    pub fn new(instance: u64, traces: Traces, clock: Clock) -> Self {
        Self { ranges: Ranges::new(instance), traces, clock }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Edge
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = EdgeService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let worker = Worker {
            numbers: self.ranges.next(),
            lines: Lines::default(),
            traces: self.traces.clone(),
            clock: self.clock.clone(),
        };
        ready(Ok(EdgeService { service, worker: Rc::new(worker) }))
    }
}

/// What stands behind the edge, of one worker.
#[derive(Debug)]
pub struct EdgeService<S> {
    service: S,
    worker: Rc<Worker>,
}

impl<S, B> Service<ServiceRequest> for EdgeService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = Passing<Instrumented<S::Future>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let number = self.worker.numbers.next();
        let id = request_id::of(request.headers()).unwrap_or_else(|| request_id::made(number));
        let span = span::of(&request, &id, number, &self.worker.traces);
        let answer = span.in_scope(|| self.service.call(request)).instrument(span);
        Passing { answer, id: Some(id), worker: Rc::clone(&self.worker) }
    }
}

pin_project! {
    /// A request behind the edge. By a future of its own, as a box would cost each request an allocation.
    #[derive(Debug)]
    pub struct Passing<F> {
        #[pin]
        answer: F,
        id: Option<HeaderValue>,
        worker: Rc<Worker>,
    }
}

impl<F, B> Future for Passing<Instrumented<F>>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let mut answer = or_pending!(this.answer.as_mut().poll(context))?;
        span::note_status(this.answer.span(), answer.status());
        if let Some(id) = this.id.take() {
            this.answer.span().in_scope(|| this.worker.lines.tell(&answer, &id, &this.worker.clock));
            answer.headers_mut().insert(X_REQUEST_ID, id);
        }
        Poll::Ready(Ok(answer))
    }
}
