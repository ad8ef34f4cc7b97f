//! An app that limits its callers by itself: 100 requests an hour for each user in `X-User`, whoever else by address; agents cost
//! 2, `/ws` nothing, and no user has more than five requests under way. With a Redis, instances share the counts:
//!
//!     cargo run --example actix_app -- 127.0.0.1:8082
//!     cargo run --example actix_app -- 127.0.0.1:8083 redis://127.0.0.1:6379
//!
//! `X-User` must be set by a gateway that has verified it: a client that may choose it chooses whom to charge.

use std::time::Duration;

use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest, HttpServer};
use quotad::domain::limit::{Limit, LimitName, Window};
use quotad::domain::subject::UserId;
use quotad::domain::tier::{Tier, TierName};
use quotad::middleware::{Charged, Quota, QuotaBuilder};

/// Everything about limits; where counts are kept is added by `main`.
pub fn limits() -> QuotaBuilder {
    let tier = |name, requests| {
        let tier = Tier::of_limits(name, vec![Limit::fixed(LimitName::hour(), Window::Hour, requests)]);
        Tier { concurrent_requests: 5, concurrent_websockets: 1, ..tier }
    };
    Quota::builder()
        .tier(tier(TierName::free(), 100))
        .tier(tier(TierName::anonymous(), 10))
        .cost("/api/v1/agents", 2)
        .cost("/ws", 0)
        .subject(who)
        .hold_slots()
}

pub fn who(request: &HttpRequest) -> Option<Charged> {
    let user = request.headers().get("x-user").and_then(|value| UserId::parse(value.to_str().ok()?).ok());
    user.map(Charged::user).or_else(|| Charged::peer(request))
}

pub fn routes(app: &mut ServiceConfig) {
    app.route("/", web::get().to(async || "here you are\n"))
        .route("/api/v1/agents", web::get().to(async || "an agent\n"))
        .route("/slow", web::get().to(slow))
        .route("/ws", web::get().to(async || "a WebSocket would be here\n"));
}

/// Holds its slot for ten seconds.
async fn slow() -> &'static str {
    actix_web::rt::time::sleep(Duration::from_secs(10)).await;
    "at last\n"
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8082".to_owned());
    let quota = match arguments.next() {
        Some(redis) => limits().redis(&redis),
        None => limits(),
    };
    let quota = quota.start().await?;
    let limiting = quota.clone();
    let server = HttpServer::new(move || App::new().wrap(limiting.clone()).configure(routes))
        // A client that hangs up while it waits is noticed at once, and its slot is free.
        .h1_allow_half_closed(false)
        .bind(address)?;
    server.run().await?;
    quota.stop().await;
    Ok(())
}
