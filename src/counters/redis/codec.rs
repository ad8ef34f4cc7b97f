//! What goes to the scripts and comes back, as flat MessagePack arrays: one string each way, however large the batch.

use rmp::decode::{self, Bytes};
use rmp::encode;
use smallvec::SmallVec;

use super::{AskMode, BatchOutcome, GrantedSlot, RedisError, SubjectBatch, SubjectOutcome};
use crate::domain::limit::{Algorithm, SlotId};
use crate::domain::plan::Plan;
use crate::domain::state::{Slot, SubjectState};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// The first element of a stored value.
const STATE_VERSION: u64 = 1;

/// Windows begin at multiples of their length since the epoch.
const ANCHOR_MICROS: u64 = 0;

/// Collects the numbers of a flat array, whose length stands before them.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl Numbers {
    fn push(&mut self, number: u64) {
        self.0.push(number);
    }

    fn push_len(&mut self, length: usize) {
        self.0.push(length as u64);
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len().saturating_mul(5).saturating_add(5));
        // Writing to a vector does not fail.
        encode::write_array_len(&mut bytes, u32::try_from(self.0.len()).unwrap_or(u32::MAX)).ok();
        for number in self.0 {
            encode::write_uint(&mut bytes, number).ok();
        }
        bytes
    }
}

/// The argument of `decide.lua`. Equal plans are listed once.
pub fn encode_batch(subjects: &[SubjectBatch]) -> Vec<u8> {
    let mut plans: Vec<&Plan> = Vec::new();
    let mut checks = Numbers::default();
    for batch in subjects {
        checks.push_len(batch.asks.len());
        for ask in &batch.asks {
            let plan: &Plan = &ask.plan;
            // A batch has few plans: one a tier, and one for each override in it.
            let number = plans.iter().position(|known| std::ptr::eq(*known, plan)).unwrap_or_else(|| {
                plans.push(plan);
                plans.len().saturating_sub(1)
            });
            checks.push_len(number.saturating_add(1));
            checks.push(ask.cost.units());
            checks.push(match ask.mode {
                AskMode::Charge => 0,
                AskMode::Peek => 1,
                AskMode::Force => 2,
            });
        }
    }
    let mut numbers = Numbers::default();
    numbers.push_len(plans.len());
    for plan in plans {
        numbers.push_len(plan.limits.len());
        for limit in &plan.limits {
            let Algorithm::FixedWindow { window } = limit.algorithm;
            numbers.push(limit.slot.raw());
            numbers.push(limit.requests);
            numbers.push(u64::from(limit.enforce));
            numbers.push(window.period().as_micros().unsigned_abs());
            numbers.push(ANCHOR_MICROS);
        }
    }
    numbers.0.append(&mut checks.0);
    numbers.into_bytes()
}

/// The argument of `add.lua`.
pub fn encode_granted(granted: &[(Subject, Vec<GrantedSlot>)]) -> Vec<u8> {
    let mut numbers = Numbers::default();
    for (_, slots) in granted {
        numbers.push_len(slots.len());
        for granted in slots {
            numbers.push(granted.slot.raw());
            numbers.push(granted.whole_at.as_micros().unsigned_abs());
            numbers.push(granted.units);
        }
    }
    numbers.into_bytes()
}

/// The argument of `reset.lua`.
pub fn encode_slots(slots: &[SlotId]) -> Vec<u8> {
    Numbers(slots.iter().map(|slot| slot.raw()).collect()).into_bytes()
}

/// Reads the answer of `decide.lua` to these subjects.
pub fn decode_answer(answer: &[u8], subjects: &[SubjectBatch]) -> Result<BatchOutcome, RedisError> {
    let mut rest = Bytes::new(answer);
    decode::read_array_len(&mut rest).map_err(|_| RedisError::Malformed("not an array"))?;
    let now: i64 = decode::read_int(&mut rest).map_err(|_| RedisError::Malformed("no time"))?;
    let mut outcomes = Vec::with_capacity(subjects.len());
    for batch in subjects {
        let Some(before) = read_value(&mut rest)? else {
            outcomes.push(SubjectOutcome::Unreadable);
            continue;
        };
        let mut allowed = SmallVec::with_capacity(batch.asks.len());
        for _ in &batch.asks {
            let bit: u8 = decode::read_int(&mut rest).map_err(|_| RedisError::Malformed("no decision"))?;
            allowed.push(bit == 1);
        }
        outcomes.push(SubjectOutcome::Decided { before, allowed });
    }
    Ok(BatchOutcome { now: Timestamp::from_micros(now), subjects: outcomes })
}

/// A subject's value as the script read it; `None` where it was unreadable.
fn read_value(rest: &mut Bytes<'_>) -> Result<Option<SubjectState>, RedisError> {
    let bytes = rest.remaining_slice();
    match bytes.first() {
        Some(0xc2) => {
            decode::read_bool(rest).map_err(|_| RedisError::Malformed("no value"))?;
            Ok(Some(SubjectState::default()))
        }
        Some(0xff) => {
            decode::read_int::<i8, _>(rest).map_err(|_| RedisError::Malformed("no value"))?;
            Ok(None)
        }
        _ => {
            let length = decode::read_str_len(rest).map_err(|_| RedisError::Malformed("no value"))? as usize;
            let after = rest.remaining_slice();
            let (value, tail) = after.split_at_checked(length).ok_or(RedisError::Malformed("a value cut short"))?;
            let state = decode_state(value).ok_or(RedisError::Malformed("a value of another form"))?;
            *rest = Bytes::new(tail);
            Ok(Some(state))
        }
    }
}

/// Reads a stored value; `None` where it is none.
pub fn decode_state(value: &[u8]) -> Option<SubjectState> {
    let mut rest = Bytes::new(value);
    let length = decode::read_array_len(&mut rest).ok()?;
    let mut number = || decode::read_int::<u64, _>(&mut rest).ok();
    if number()? != STATE_VERSION || length % 5 != 1 {
        return None;
    }
    (0..length / 5)
        .map(|_| {
            Some(Slot {
                id: SlotId::from_raw(number()?),
                whole_at: Timestamp::from_micros(i64::try_from(number()?).ok()?),
                a: number()?,
                b: number()?,
                c: number()?,
            })
        })
        .collect()
}

/// A value as the scripts store it.
#[cfg(test)]
fn encode_state(state: &SubjectState) -> Vec<u8> {
    let mut numbers = Numbers::default();
    numbers.push(STATE_VERSION);
    for slot in state.slots() {
        for number in [slot.id.raw(), slot.whole_at.as_micros().unsigned_abs(), slot.a, slot.b, slot.c] {
            numbers.push(number);
        }
    }
    numbers.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_as_it_was_stored() {
        let slot =
            |id| Slot { id: SlotId::from_raw(id), whole_at: Timestamp::from_seconds(1), a: 7, b: 0, c: u64::MAX >> 11 };
        let state: SubjectState = [slot(1), slot(u64::MAX >> 12)].into_iter().collect();
        assert_eq!(decode_state(&encode_state(&state)), Some(state));
        for garbage in [&b""[..], b"hello", &[0x91, 0x02], &[0x92, 0x01, 0x01]] {
            assert_eq!(decode_state(garbage), None);
        }
    }
}
