//! How the counters of a subject are packed in the table `counters`.
//!
//! One byte, 1, for this packing; then for each slot its id, `whole_at` in microseconds, `a`, `b` and `c`, eight bytes
//! each, little-endian. A binary that meets a version it does not know reads nothing: the subject then starts anew.

use crate::domain::limit::SlotId;
use crate::domain::state::{Slot, SubjectState};
use crate::domain::time::Timestamp;

const VERSION: u8 = 1;
const WORD_BYTES: usize = 8;
const SLOT_WORDS: usize = 5;

pub(super) fn pack(state: &SubjectState) -> Vec<u8> {
    let mut packed =
        Vec::with_capacity(state.slots().len().saturating_mul(WORD_BYTES.saturating_mul(SLOT_WORDS)).saturating_add(1));
    packed.push(VERSION);
    for slot in state.slots() {
        for word in [slot.id.raw(), slot.whole_at.as_micros().cast_unsigned(), slot.a, slot.b, slot.c] {
            packed.extend_from_slice(&word.to_le_bytes());
        }
    }
    packed
}

/// `None` where the bytes are not of this packing.
pub(super) fn unpack(packed: &[u8]) -> Option<SubjectState> {
    let (&VERSION, slots) = packed.split_first()? else { return None };
    let (words, []) = slots.as_chunks::<WORD_BYTES>() else { return None };
    let (slots, []) = words.as_chunks::<SLOT_WORDS>() else { return None };
    let slot = |&[id, whole_at, a, b, c]: &[[u8; WORD_BYTES]; SLOT_WORDS]| Slot {
        id: SlotId::from_raw(u64::from_le_bytes(id)),
        whole_at: Timestamp::from_micros(i64::from_le_bytes(whole_at)),
        a: u64::from_le_bytes(a),
        b: u64::from_le_bytes(b),
        c: u64::from_le_bytes(c),
    };
    Some(slots.iter().map(slot).collect())
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
        assert_eq!(unpack(&[2]), None);
    }
}
