//! quotad inside another Actix app: middleware that charges requests to limits, without a service to ask.
//!
//! [`Quota`] counts in this process, or on a Redis that instances of the app share. It decides by the same rules as the service,
//! answers with the same headers and the same 429, and goes on without Redis in the same ways.
//!
//! ```
//! use actix_web::{App, HttpRequest, HttpResponse, web};
//! use quotad::domain::limit::{Limit, LimitName, Window};
//! use quotad::domain::subject::UserId;
//! use quotad::domain::tier::{Tier, TierName};
//! use quotad::middleware::{Charged, Quota};
//!
//! /// A user by a header that the gateway sets; anybody else by address.
//! fn who(request: &HttpRequest) -> Option<Charged> {
//!     let user = request.headers().get("x-user").and_then(|value| UserId::parse(value.to_str().ok()?).ok());
//!     user.map(Charged::user).or_else(|| Charged::peer(request))
//! }
//!
//! # #[actix_web::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hourly = |requests| vec![Limit::fixed(LimitName::hour(), Window::Hour, requests)];
//! let quota = Quota::builder()
//!     .tier(Tier::of_limits(TierName::free(), hourly(100)))
//!     .tier(Tier::of_limits(TierName::anonymous(), hourly(10)))
//!     .cost("/api/v1/agents", 2)
//!     .subject(who)
//!     // With `.redis("redis://...")` instances share their counts.
//!     .start()
//!     .await?;
//!
//! // For `HttpServer::new`, which makes an app for each worker.
//! let app = move || App::new().wrap(quota.clone()).route("/", web::get().to(HttpResponse::Ok));
//! # let app = actix_web::test::init_service(app()).await;
//! # let request = actix_web::test::TestRequest::get().insert_header(("x-user", "42")).to_request();
//! # let answer = actix_web::test::call_service(&app, request).await;
//! # assert_eq!(answer.headers().get("x-ratelimit-remaining").and_then(|value| value.to_str().ok()), Some("99"));
//! # Ok(())
//! # }
//! ```

mod builder;
mod rules;
mod service;
mod slots;

use std::fmt;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::{Error, HttpRequest};
use tokio::task::JoinHandle;

pub use builder::{QuotaBuilder, QuotaError};
pub use service::QuotaService;

use crate::domain::subject::{ClientAddress, Subject, UserId};
use crate::domain::tier::TierName;
use crate::limiter::{Limiter, Outbox, Shards};
use rules::Rules;
use service::Passage;
use slots::Slots;

/// Callers by IPv6 are charged by the network that a provider gives to one of them.
const IPV6_PREFIX_BITS: u8 = 64;

/// Who is charged for a request, and in which tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    pub subject: Subject,
    /// `None`: the tier `free` for a user, `anonymous` for an address.
    pub tier: Option<TierName>,
}

impl Charged {
    pub const fn user(user: UserId) -> Self {
        Self { subject: Subject::User(user), tier: None }
    }

    /// An IPv4 address, or the /64 of an IPv6 one.
    pub fn address(address: IpAddr) -> Self {
        Self { subject: Subject::Ip(ClientAddress::new(address, IPV6_PREFIX_BITS)), tier: None }
    }

    /// Whoever holds the connection: behind a proxy, that is the proxy. `None` where no address is known, as on a Unix socket.
    pub fn peer(request: &HttpRequest) -> Option<Self> {
        request.peer_addr().map(|peer| Self::address(peer.ip()))
    }

    /// In this tier. A name that no tier bears is passed over.
    #[must_use]
    pub fn in_tier(self, tier: TierName) -> Self {
        Self { tier: Some(tier), ..self }
    }
}

/// In the tier that holds for such subjects.
impl From<Subject> for Charged {
    fn from(subject: Subject) -> Self {
        Self { subject, tier: None }
    }
}

/// Middleware that lets requests pass while their subject has room. Clones share its counts: make one, and give each worker's app a
/// clone.
#[derive(Clone)]
pub struct Quota(Arc<Shared>);

struct Shared {
    limiter: Limiter,
    rules: Rules,
    slots: Arc<Slots>,
    /// Until it is stopped.
    running: Mutex<Option<Running>>,
}

/// What has to be stopped.
struct Running {
    shards: Shards,
    tasks: Vec<JoinHandle<()>>,
}

impl Quota {
    /// Limits nothing until it is told what.
    pub fn builder() -> QuotaBuilder {
        QuotaBuilder::default()
    }

    fn new(shards: Shards, rules: Rules) -> Self {
        let limiter = shards.limiter.clone();
        let slots = Arc::new(Slots::new(limiter.clone()));
        let renewing = actix_web::rt::spawn(slots::renew(Arc::downgrade(&slots)));
        // What was changed elsewhere is tiers and overrides of a database, and there is none.
        let tasks = shards.listen(|| {}).into_iter().chain([renewing]).collect();
        Self(Arc::new(Shared { limiter, rules, slots, running: Mutex::new(Some(Running { shards, tasks })) }))
    }

    /// Gives back what was reserved of limits in Redis, and ends the threads that count. To be called when the server has stopped;
    /// requests that come all the same get 503.
    pub async fn stop(&self) {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { shards, tasks }) = running {
            tasks.iter().for_each(JoinHandle::abort);
            shards.stop().await;
        }
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota").field("limiter", &self.0.limiter).finish_non_exhaustive()
    }
}

impl<S, B> Transform<S, ServiceRequest> for Quota
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Transform = QuotaService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        let outbox = Outbox::new(self.0.limiter.clone());
        ready(Ok(QuotaService::new(Rc::new(Passage { quota: self.clone(), outbox, inner }))))
    }
}
