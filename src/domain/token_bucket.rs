//! Token bucket: it holds `burst` tokens when full, gains `requests` of them a period, and a check takes its cost.
//!
//! In any span of length t at most `burst + requests * t / period` units pass. The maths is that of RFC 2697's meter and of
//! the generic cell rate algorithm (ITU-T I.371), kept as the tokens that are missing and exact to fractions of a token.
//!
//! The slot holds the missing tokens (`a`), the fraction of one more in parts of a period's microseconds (`b`), when that was
//! so (`c`), and an instant by which it is surely full (`whole_at`): on a grid, so that subjects charged at about the same
//! time share it. Tokens are missing, not left: one who changes tier keeps what they took.

use serde::{Deserialize, Serialize};

use super::cost::Cost;
use super::limit::SlotId;
use super::state::{Slot, SubjectState};
use super::time::{Period, Timestamp};

/// How large a bucket is, and how quickly it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// Tokens in a full bucket.
    pub burst: u64,
    /// Tokens gained a period. 0 gains none: the bucket holds none either then.
    pub requests: u64,
    pub period: Period,
}

/// What is missing at an instant, in tokens times the period's microseconds.
struct Missing {
    parts: u128,
    /// Nothing is gained before then: the last charge, where the clock has stepped back to before it.
    from: Timestamp,
    /// It is full then, whatever the rate has become since.
    whole_at: Timestamp,
}

impl Bucket {
    /// The time to fill it from empty, rounded up to a microsecond; at least one, and at most some centuries.
    pub fn fill(&self) -> Period {
        let micros = self.tokens(self.burst).div_ceil(u128::from(self.requests.max(1)));
        Period::from_micros(i64::try_from(micros).unwrap_or(i64::MAX).clamp(1, 1 << 52))
    }

    fn parts_a_token(&self) -> u128 {
        u128::from(self.period.as_micros().unsigned_abs().max(1))
    }

    fn tokens(&self, tokens: u64) -> u128 {
        u128::from(tokens).saturating_mul(self.parts_a_token())
    }

    fn missing(&self, state: &SubjectState, slot: SlotId, now: Timestamp) -> Missing {
        let Some(slot) = state.live(slot, now) else { return Missing { parts: 0, from: now, whole_at: now } };
        let last = Timestamp::from_micros(slot.c.min(1 << 53).cast_signed());
        let was = self.tokens(slot.a).saturating_add(u128::from(slot.b)).min(self.tokens(self.burst));
        let gained = u128::from(last.until(now).as_micros().unsigned_abs()).saturating_mul(u128::from(self.requests));
        Missing { parts: was.saturating_sub(gained), from: now.max(last), whole_at: slot.whole_at }
    }

    /// When no more than `parts` are missing.
    fn down_to(&self, missing: &Missing, parts: u128) -> Timestamp {
        let wait = missing.parts.saturating_sub(parts).div_ceil(u128::from(self.requests.max(1)));
        let wait = Period::from_micros(i64::try_from(wait).unwrap_or(i64::MAX));
        missing.from.saturating_add(wait).min(missing.whole_at)
    }
}

/// The tokens that are missing, rounded up: `burst` less the whole tokens that are there.
pub fn used(state: &SubjectState, slot: SlotId, bucket: &Bucket, now: Timestamp) -> u64 {
    let tokens = bucket.missing(state, slot, now).parts.div_ceil(bucket.parts_a_token());
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

/// When it is full.
pub fn reset_at(state: &SubjectState, slot: SlotId, bucket: &Bucket, now: Timestamp) -> Timestamp {
    let missing = bucket.missing(state, slot, now);
    if missing.parts == 0 { now } else { bucket.down_to(&missing, 0) }
}

/// When there will be tokens for the cost, which is at most `burst`, where there are not now.
pub fn room_at(state: &SubjectState, slot: SlotId, bucket: &Bucket, cost: Cost, now: Timestamp) -> Timestamp {
    let may_miss = bucket.tokens(bucket.burst.saturating_sub(cost.units()));
    bucket.down_to(&bucket.missing(state, slot, now), may_miss)
}

/// Takes tokens out; it can't hold less than none.
pub fn charge(state: &mut SubjectState, slot: SlotId, bucket: &Bucket, cost: Cost, now: Timestamp) {
    let missing = bucket.missing(state, slot, now);
    let parts = missing.parts.saturating_add(bucket.tokens(cost.units()));
    put(state, slot, bucket, Missing { parts, ..missing }, now);
}

/// Takes out what another state misses.
pub fn add(state: &mut SubjectState, slot: SlotId, bucket: &Bucket, other: &SubjectState, now: Timestamp) {
    let (missing, more) = (bucket.missing(state, slot, now), bucket.missing(other, slot, now));
    if more.parts > 0 {
        let (from, whole_at) = (missing.from.max(more.from), missing.whole_at.max(more.whole_at));
        let parts = missing.parts.saturating_add(more.parts);
        put(state, slot, bucket, Missing { parts, from, whole_at }, now);
    }
}

/// Puts tokens back that were taken; never above full.
pub fn refund(state: &mut SubjectState, slot: SlotId, bucket: &Bucket, units: u64, now: Timestamp) {
    if state.live(slot, now).is_some() {
        let missing = bucket.missing(state, slot, now);
        let parts = missing.parts.saturating_sub(bucket.tokens(units));
        put(state, slot, bucket, Missing { parts, ..missing }, now);
    }
}

fn put(state: &mut SubjectState, slot: SlotId, bucket: &Bucket, missing: Missing, now: Timestamp) {
    let parts = missing.parts.min(bucket.tokens(bucket.burst));
    let fill = bucket.fill();
    let whole_at = fill.next_multiple_from(now.saturating_add(fill)).max(missing.whole_at);
    let part = |parts: u128| u64::try_from(parts).unwrap_or(u64::MAX);
    let a = part(parts.checked_div(bucket.parts_a_token()).unwrap_or(0));
    let b = part(parts.checked_rem(bucket.parts_a_token()).unwrap_or(0));
    let c = missing.from.as_micros().max(0).cast_unsigned();
    state.put(Slot { id: slot, whole_at, a, b, c }, now);
}
