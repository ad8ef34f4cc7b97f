//! How the counters of a subject are packed in the table `counters`. All numbers are little-endian, of eight bytes unless
//! another size is said; times are microseconds.
//!
//! Version 1, one byte: then for each slot its id, `whole_at`, `a`, `b` and `c`.
//! Version 2, one byte, where there is more than slots: how many slots, and those as in version 1; how many logs, and of each
//! its id, `whole_at`, how many entries, and of each its instant and units; then for each lease a byte for its kind (0
//! request, 1 websocket), its secret (16 bytes) and when it expires.
//! A binary that meets a version it does not know reads nothing: the subject then starts anew.

use crate::domain::concurrency;
use crate::domain::lease::{ChangeLease, LeaseKind};
use crate::domain::limit::SlotId;
use crate::domain::state::{Entry, Log, Slot, SubjectState};
use crate::domain::time::Timestamp;

const SLOTS_ALONE: u8 = 1;
const WITH_LOGS_AND_LEASES: u8 = 2;
const WORD_BYTES: usize = 8;
const SLOT_BYTES: usize = 5 * WORD_BYTES;

pub(super) fn pack(state: &SubjectState) -> Vec<u8> {
    let mut packed = Vec::with_capacity(state.slots().len().saturating_mul(SLOT_BYTES).saturating_add(1));
    let alone = state.logs().is_empty() && state.leases().is_empty();
    packed.push(if alone { SLOTS_ALONE } else { WITH_LOGS_AND_LEASES });
    let mut put = |words: &[u64]| words.iter().for_each(|word| packed.extend_from_slice(&word.to_le_bytes()));
    let instant = |instant: Timestamp| instant.as_micros().cast_unsigned();
    if !alone {
        put(&[state.slots().len() as u64]);
    }
    for slot in state.slots() {
        put(&[slot.id.raw(), instant(slot.whole_at), slot.a, slot.b, slot.c]);
    }
    if alone {
        return packed;
    }
    put(&[state.logs().len() as u64]);
    for log in state.logs() {
        put(&[log.id.raw(), instant(log.whole_at), log.entries().len() as u64]);
        log.entries().iter().for_each(|entry| put(&[instant(entry.at), entry.units]));
    }
    for lease in state.leases() {
        packed.push(match lease.kind {
            LeaseKind::Request => 0,
            LeaseKind::Websocket => 1,
        });
        packed.extend_from_slice(&lease.secret.to_le_bytes());
        packed.extend_from_slice(&lease.expires_at.as_micros().to_le_bytes());
    }
    packed
}

/// `None` where the bytes are not of this packing.
pub(super) fn unpack(packed: &[u8]) -> Option<SubjectState> {
    let (version, mut rest) = packed.split_first()?;
    let rest = &mut rest;
    let slots = match *version {
        SLOTS_ALONE if rest.len().is_multiple_of(SLOT_BYTES) => rest.len().checked_div(SLOT_BYTES)?,
        WITH_LOGS_AND_LEASES => count(rest)?,
        _ => return None,
    };
    let slots: Option<Vec<Slot>> = (0..slots).map(|_| slot(rest)).collect();
    let mut state: SubjectState = slots?.into_iter().collect();
    if *version == WITH_LOGS_AND_LEASES {
        for _ in 0..count(rest)? {
            state.put_log(log(rest)?, Timestamp::EPOCH);
        }
        while let Some((kind, tail)) = rest.split_first() {
            let kind = match kind {
                0 => LeaseKind::Request,
                1 => LeaseKind::Websocket,
                _ => return None,
            };
            let (secret, tail) = tail.split_first_chunk()?;
            *rest = tail;
            let held = ChangeLease::Hold(instant(rest)?);
            concurrency::change(&mut state, kind, u128::from_le_bytes(*secret), held, Timestamp::EPOCH)?;
        }
    }
    Some(state)
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, tail) = rest.split_first_chunk::<WORD_BYTES>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*bytes))
}

fn count(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(word(rest)?).ok()
}

fn instant(rest: &mut &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_micros(word(rest)?.cast_signed()))
}

fn slot(rest: &mut &[u8]) -> Option<Slot> {
    let (id, whole_at) = (SlotId::from_raw(word(rest)?), instant(rest)?);
    Some(Slot { id, whole_at, a: word(rest)?, b: word(rest)?, c: word(rest)? })
}

fn log(rest: &mut &[u8]) -> Option<Log> {
    let (id, whole_at) = (SlotId::from_raw(word(rest)?), instant(rest)?);
    let entries = (0..count(rest)?).map(|_| Some(Entry { at: instant(rest)?, units: word(rest)? }));
    Some(Log::new(id, whole_at, entries.collect::<Option<Vec<Entry>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> SubjectState {
        let slot = |id: u64| Slot {
            id: SlotId::from_raw(id),
            whole_at: Timestamp::from_micros(1_795_766_400_000_000),
            a: 7,
            b: (1 << 53) - 1,
            c: 0,
        };
        [slot(1), slot((1 << 52) - 1)].into_iter().collect()
    }

    #[test]
    fn packed_and_unpacked_is_the_same() {
        assert_eq!(unpack(&pack(&state())), Some(state()));
        assert_eq!(unpack(&pack(&SubjectState::default())), Some(SubjectState::default()));
    }

    #[test]
    fn logs_and_leases_are_packed_too() {
        let mut state = state();
        let at = |seconds: i64| Timestamp::from_seconds(1_795_766_400 + seconds);
        let entries = [(0, 1), (1, 9)].map(|(seconds, units)| Entry { at: at(seconds), units });
        state.put_log(Log::new(SlotId::from_raw(9), at(20), entries), at(0));
        for (kind, secret) in [(LeaseKind::Request, u128::MAX), (LeaseKind::Websocket, 7)] {
            concurrency::change(&mut state, kind, secret, ChangeLease::Hold(at(60)), at(0)).unwrap();
        }
        let packed = pack(&state);
        assert_eq!(unpack(&packed), Some(state));
        assert_eq!(unpack(&packed[..packed.len() - 1]), None);
    }

    #[test]
    fn the_packing_is_the_one_that_older_binaries_wrote() {
        let one: SubjectState =
            [Slot { id: SlotId::from_raw(258), whole_at: Timestamp::from_micros(3), a: 4, b: 5, c: 6 }]
                .into_iter()
                .collect();
        let mut expected = vec![1, 2, 1, 0, 0, 0, 0, 0, 0];
        for word in 3..=6 {
            expected.extend([word, 0, 0, 0, 0, 0, 0, 0]);
        }
        assert_eq!(pack(&one), expected);
    }

    #[test]
    fn bytes_of_another_packing_are_not_read() {
        let mut packed = pack(&state());
        packed.pop();
        assert_eq!(unpack(&packed), None);
        assert_eq!(unpack(&[]), None);
        assert_eq!(unpack(&[3]), None);
        assert_eq!(unpack(&[2]), None);
    }
}
