//! What comes back from the scripts: one string, however large the batch. The scripts' heads say the forms.

use smallvec::SmallVec;

use super::{
    Ask, BatchOutcome, Generation, LeaseAnswer, RedisError, Remembered, SubjectBatch, SubjectOutcome, Told, Verdict,
};
use crate::domain::concurrency::InUse;
use crate::domain::lease::{Lease, LeaseKind};
use crate::domain::limit::SlotId;
use crate::domain::plan::Rule;
use crate::domain::state::{Slot, SubjectState};
use crate::domain::time::Timestamp;

/// The first byte of a stored value.
pub const STATE_VERSION: u8 = 1;

/// Bytes of a number in a stored value.
pub const NUMBER_BYTES: usize = 7;

/// Bytes of a lease in a listing: when it expires, and its secret.
const LEASE_BYTES: usize = 23;

/// Stands for a subject of which nothing was stored.
const NO_VALUE: u8 = 0x00;

/// Stands for a subject under whose key something else stood.
const FOREIGN: u8 = 0xff;

/// Reads the answer of `decide.lua` to these subjects.
pub fn answer(answer: &[u8], subjects: &[SubjectBatch]) -> Result<BatchOutcome, RedisError> {
    if answer == b"W" {
        return Err(RedisError::Malformed("the batch was withdrawn before it ran"));
    }
    // Decisions are longer, whatever the time that they begin with.
    if let Some(generation) = answer.strip_prefix(b"G").filter(|number| number.len() == NUMBER_BYTES) {
        return Err(RedisError::OtherGeneration(self::generation(generation)?));
    }
    let mut rest = answer;
    let now = take_number(&mut rest).ok_or(RedisError::Malformed("no time"))?;
    let asked = subjects.iter().map(|batch| batch.asks.len()).sum();
    let (verdicts, mut rest) = rest.split_at_checked(asked).ok_or(RedisError::Malformed("too few decisions"))?;
    let mut values = Vec::with_capacity(subjects.len());
    for _ in subjects {
        values.push(take_value(&mut rest).ok_or(RedisError::Malformed("a value of another form"))?);
    }
    let mut verdicts = verdicts.iter().map(|&byte| verdict(byte));
    let mut outcomes = Vec::with_capacity(subjects.len());
    for (batch, value) in subjects.iter().zip(values) {
        let decided = verdicts.by_ref().take(batch.asks.len());
        let decided: Option<SmallVec<[Verdict; 1]>> = decided.collect();
        let decided = decided.ok_or(RedisError::Malformed("no decision"))?;
        let Some(before) = value else {
            outcomes.push(SubjectOutcome::Unreadable);
            continue;
        };
        let told = batch.asks.iter().zip(decided).map(|(ask, verdict)| told(&mut rest, ask, verdict));
        let told: Option<Vec<Told>> = told.collect();
        outcomes.push(SubjectOutcome::Decided { before, told: told.ok_or(RedisError::Malformed("too short"))? });
    }
    if !rest.is_empty() {
        return Err(RedisError::Malformed("more than was asked for"));
    }
    Ok(BatchOutcome { now: timestamp(now), subjects: outcomes })
}

/// What is told of a check beside its verdict.
fn told(rest: &mut &[u8], ask: &Ask, verdict: Verdict) -> Option<Told> {
    let mut told = Told { verdict, in_use: None, log_rooms: Vec::new(), remembered: None };
    if ask.lease.is_some() {
        let (held, free_at) = (take_number(rest)?, take_number(rest)?);
        told.in_use = Some(InUse { held, free_at: (free_at > 0).then(|| timestamp(free_at)) });
    }
    match verdict {
        Verdict::Denied => {
            for limit in ask.plan.limits.iter().filter(|limit| matches!(limit.rule, Rule::SlidingLog(_))) {
                let room_at = take_number(rest)?;
                if room_at > 0 {
                    told.log_rooms.push((limit.slot, timestamp(room_at)));
                }
            }
        }
        Verdict::Repeated => {
            let length = usize::try_from(take_number(rest)?).ok()?;
            let (memo, tail) = rest.split_at_checked(length)?;
            *rest = tail;
            told.remembered = Some(Box::new(remembered(memo)?));
        }
        Verdict::Allowed | Verdict::Charged => {}
    }
    Some(told)
}

fn remembered(mut memo: &[u8]) -> Option<Remembered> {
    let now = timestamp(take_number(&mut memo)?);
    let before = take_value(&mut memo)??;
    Some(Remembered { now, before, memo: memo.to_vec() })
}

/// Reads the answer of `missed.lua`: one verdict a check; `None` where the batch charged nothing.
pub fn missed(answer: &[u8]) -> Result<Option<Vec<Verdict>>, RedisError> {
    if answer.is_empty() {
        return Ok(None);
    }
    let verdicts: Option<Vec<Verdict>> = answer.iter().map(|&byte| verdict(byte)).collect();
    verdicts.map(Some).ok_or(RedisError::Malformed("no decision"))
}

/// Reads the answer of `generation.lua`.
pub fn generation(mut answer: &[u8]) -> Result<Option<Generation>, RedisError> {
    let number = take_number(&mut answer).filter(|_| answer.is_empty());
    Ok(Generation::new(number.ok_or(RedisError::Malformed("no generation"))?))
}

/// Reads the answer of `lease.lua` to so many changes.
pub fn leases(answer: &[u8], changes: usize) -> Result<LeaseAnswer, RedisError> {
    let mut rest = answer;
    let now = take_number(&mut rest).ok_or(RedisError::Malformed("no time"))?;
    if rest.len() != changes {
        return Err(RedisError::Malformed("another number of changes than was asked for"));
    }
    Ok(LeaseAnswer { now: timestamp(now), made: rest.iter().map(|&byte| byte == b'1').collect() })
}

/// Reads the answer of `held.lua` about leases of one kind.
pub fn held(answer: &[u8], kind: LeaseKind) -> Result<Vec<Lease>, RedisError> {
    let (leases, rest) = answer.as_chunks::<LEASE_BYTES>();
    if !rest.is_empty() {
        return Err(RedisError::Malformed("a lease is cut off"));
    }
    let lease = |bytes: &[u8; LEASE_BYTES]| {
        let mut secret = bytes.as_slice();
        let expires_at = timestamp(take_number(&mut secret)?);
        Some(Lease { kind, secret: u128::from_be_bytes(secret.try_into().ok()?), expires_at })
    };
    leases.iter().map(lease).collect::<Option<_>>().ok_or(RedisError::Malformed("a lease that can't be read"))
}

const fn verdict(byte: u8) -> Option<Verdict> {
    match byte {
        b'0' => Some(Verdict::Denied),
        b'1' => Some(Verdict::Allowed),
        b'2' => Some(Verdict::Charged),
        b'3' => Some(Verdict::Repeated),
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
        assert!(super::answer(&answer, &[]).is_err());
        assert!(super::answer(&number(5), &[]).is_ok());
        assert!(super::answer(b"W", &[]).is_err());
        assert!(super::answer(b"", &[]).is_err());
    }
}
