//! The limit on credentials that don't verify, by the address that shows them: the API goes through the middleware that it offers.

use actix_web::http::StatusCode;

use crate::clock::Clock;
use crate::domain::limit::{Algorithm, Limit, LimitName};
use crate::domain::tier::{Tier, TierName};
use crate::domain::time::Period;
use crate::http::suspects;
use crate::middleware::{Charged, Quota, QuotaError};

/// What an address may show at once before it has to wait. Whole teams stand behind one address, and a suite of tests shows dozens.
const BURST: u64 = 600;

/// How many more a minute. Of keys with 256 random bits, none is guessed by as many.
const A_MINUTE: u64 = 60;

/// Addresses that are told apart; any more share what one may show.
const ADDRESSES: &str = "100000";

/// Charges 401s alone, and asks beforehand only where an address has had one lately and the credential is not known to verify.
pub async fn start(clock: &Clock) -> Result<Quota, QuotaError> {
    let algorithm = Algorithm::TokenBucket { period: Period::from_seconds(60), burst: Some(BURST) };
    let limit = Limit { name: LimitName::bad_credentials(), algorithm, requests: A_MINUTE, enforce: true };
    Quota::builder()
        .tier(Tier::of_limits(TierName::anonymous(), vec![limit]))
        .set("SHARDS", "1")
        .set("CACHE_CAPACITY", ADDRESSES)
        .subject(|request| suspects::address(request).map(Charged::from))
        .ask_when(suspects::must_ask)
        .charge_when(|answer| answer.status == StatusCode::UNAUTHORIZED)
        .denied(suspects::denied)
        .without_headers()
        .clock(clock.clone())
        .start()
        .await
}
