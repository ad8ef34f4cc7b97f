//! What goes to the scripts and comes back: one string each way, however large the batch. The scripts' heads say the forms.

use rmp::encode;
use smallvec::SmallVec;

use super::{Ask, AskMode, BatchOutcome, GrantedSlot, RedisError, SubjectBatch, SubjectOutcome, Verdict};
use crate::domain::limit::{Algorithm, SlotId};
use crate::domain::plan::{Plan, PlannedLimit};
use crate::domain::state::{Slot, SubjectState};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// The first byte of a stored value.
const STATE_VERSION: u8 = 1;

/// Bytes of a number in a stored value.
const NUMBER_BYTES: usize = 7;

/// More than any count, so that a limit that is not enforced always has room.
const NO_LIMIT: u64 = 1 << 62;

/// Windows begin at multiples of their length since the epoch.
const ANCHOR_MICROS: u64 = 0;

/// Stands for a subject of which nothing was stored.
const NO_VALUE: u8 = 0x00;

/// Stands for a subject under whose key something else stood.
const FOREIGN: u8 = 0xff;

/// Collects the numbers of a flat MessagePack array, whose length stands before them.
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
pub fn encode_batch(sequence: u64, subjects: &[SubjectBatch]) -> Vec<u8> {
    let mut plans: Vec<&Plan> = Vec::new();
    let mut checks = Numbers::default();
    for batch in subjects {
        checks.push_len(batch.asks.len());
        for Ask { plan, cost, mode } in &batch.asks {
            let plan: &Plan = plan;
            // A batch has few plans: one a tier, and one for each override in it.
            let number = plans.iter().position(|known| std::ptr::eq(*known, plan)).unwrap_or_else(|| {
                plans.push(plan);
                plans.len().saturating_sub(1)
            });
            checks.push_len(number.saturating_add(1));
            checks.push(cost.units());
            checks.push(match mode {
                AskMode::Charge => 0,
                AskMode::Peek => 1,
                AskMode::Force => 2,
            });
        }
    }
    let mut numbers = Numbers::default();
    numbers.push(sequence);
    numbers.push_len(plans.len());
    for plan in plans {
        numbers.push_len(plan.limits.len());
        plan.limits.iter().for_each(|limit| push_limit(&mut numbers, limit));
    }
    numbers.0.append(&mut checks.0);
    numbers.into_bytes()
}

fn push_limit(numbers: &mut Numbers, limit: &PlannedLimit) {
    let Algorithm::FixedWindow { window } = limit.algorithm;
    numbers.push(limit.slot.raw());
    numbers.push(if limit.enforce { limit.requests } else { NO_LIMIT });
    numbers.push(window.period().as_micros().unsigned_abs());
    numbers.push(ANCHOR_MICROS);
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
    if answer == b"W" {
        return Err(RedisError::Malformed("the batch was withdrawn before it ran"));
    }
    let mut rest = answer;
    let now = take_number(&mut rest).ok_or(RedisError::Malformed("no time"))?;
    let asked = subjects.iter().map(|batch| batch.asks.len()).sum();
    let (verdicts, mut rest) = rest.split_at_checked(asked).ok_or(RedisError::Malformed("too few decisions"))?;
    let mut verdicts = verdicts.iter().map(|&byte| verdict(byte));
    let mut outcomes = Vec::with_capacity(subjects.len());
    for batch in subjects {
        let decided: Option<SmallVec<[Verdict; 1]>> = verdicts.by_ref().take(batch.asks.len()).collect();
        let decided = decided.ok_or(RedisError::Malformed("no decision"))?;
        outcomes.push(match take_value(&mut rest).ok_or(RedisError::Malformed("a value of another form"))? {
            Some(before) => SubjectOutcome::Decided { before, verdicts: decided },
            None => SubjectOutcome::Unreadable,
        });
    }
    if !rest.is_empty() {
        return Err(RedisError::Malformed("more than was asked for"));
    }
    Ok(BatchOutcome { now: timestamp(now), subjects: outcomes })
}

/// Reads the answer of `missed.lua`: one verdict a check; `None` where the batch charged nothing.
pub fn decode_missed(answer: &[u8]) -> Result<Option<Vec<Verdict>>, RedisError> {
    if answer.is_empty() {
        return Ok(None);
    }
    let verdicts: Option<Vec<Verdict>> = answer.iter().map(|&byte| verdict(byte)).collect();
    verdicts.map(Some).ok_or(RedisError::Malformed("no decision"))
}

const fn verdict(byte: u8) -> Option<Verdict> {
    match byte {
        b'0' => Some(Verdict::Denied),
        b'1' => Some(Verdict::Allowed),
        b'2' => Some(Verdict::Charged),
        _ => None,
    }
}

fn timestamp(number: u64) -> Timestamp {
    // Seven bytes always fit.
    Timestamp::from_micros(i64::try_from(number).unwrap_or(i64::MAX))
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, tail) = rest.split_first_chunk::<NUMBER_BYTES>()?;
    *rest = tail;
    Some(bytes.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
}

/// A subject's value as the script read it, in the form of `slots.lua`; within, `None` where it was foreign.
fn take_value(rest: &mut &[u8]) -> Option<Option<SubjectState>> {
    let (&first, tail) = rest.split_first()?;
    match first {
        NO_VALUE => *rest = tail,
        FOREIGN => {
            *rest = tail;
            return Some(None);
        }
        STATE_VERSION => {
            let (&[count, width], mut heads) = tail.split_first_chunk::<2>()?;
            let head_bytes = usize::from(count).checked_mul(2)?.checked_mul(NUMBER_BYTES)?;
            let mut body = heads.get(head_bytes..)?;
            let mut slots = SmallVec::<[Slot; 2]>::new();
            for _ in 0..count {
                let id = SlotId::from_raw(take_number(&mut heads)?);
                let whole_at = timestamp(take_number(&mut heads)?);
                let mut number = |stands: bool| if stands { take_number(&mut body) } else { Some(0) };
                slots.push(Slot { id, whole_at, a: number(width > 0)?, b: number(width > 1)?, c: number(width > 2)? });
            }
            *rest = body;
            return Some(Some(slots.into_iter().collect()));
        }
        _ => return None,
    }
    Some(Some(SubjectState::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u64) -> [u8; NUMBER_BYTES] {
        let bytes = value.to_le_bytes();
        std::array::from_fn(|n| bytes[n])
    }

    #[test]
    fn a_value_is_read_as_the_scripts_store_it() {
        let mut value = vec![STATE_VERSION, 2, 2];
        for part in [11, 1_000_000, 22, 2_000_000, 7, 8, 9, (1 << 53) - 1] {
            value.extend(number(part));
        }
        let slot = |id, seconds, a, b| Slot {
            id: SlotId::from_raw(id),
            whole_at: Timestamp::from_seconds(seconds),
            a,
            b,
            c: 0,
        };
        let state: SubjectState = [slot(11, 1, 7, 8), slot(22, 2, 9, (1 << 53) - 1)].into_iter().collect();
        assert_eq!(take_value(&mut &value[..]), Some(Some(state)));
        assert_eq!(take_value(&mut &value[..value.len() - 1]), None, "cut short");
        assert_eq!(take_value(&mut &[FOREIGN][..]), Some(None));
        assert_eq!(take_value(&mut &[NO_VALUE][..]), Some(Some(SubjectState::default())));
        assert_eq!(take_value(&mut &b"hello"[..]), None);
    }

    #[test]
    fn an_answer_of_another_length_is_refused() {
        let answer = [&number(5)[..], b"1"].concat();
        assert!(decode_answer(&answer, &[]).is_err());
        assert!(decode_answer(&number(5), &[]).is_ok());
        assert!(decode_answer(b"W", &[]).is_err());
        assert!(decode_answer(b"", &[]).is_err());
    }
}
