//! How a subject's counters are packed for the table `counters`: a version byte, then five 64-bit numbers a slot.

use crate::domain::limit::SlotId;
use crate::domain::state::{Slot, SubjectState};
use crate::domain::time::Timestamp;

const VERSION: u8 = 1;
const SLOT_BYTES: usize = 40;

pub fn pack(state: &SubjectState) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for slot in state.slots() {
        bytes.extend(slot.id.raw().to_le_bytes());
        bytes.extend(slot.whole_at.as_micros().to_le_bytes());
        for number in [slot.a, slot.b, slot.c] {
            bytes.extend(number.to_le_bytes());
        }
    }
    bytes
}

/// `None` where the bytes are of another version or cut short.
pub fn unpack(bytes: &[u8]) -> Option<SubjectState> {
    let (version, slots) = bytes.split_first()?;
    if *version != VERSION || slots.len() % SLOT_BYTES != 0 {
        return None;
    }
    slots
        .chunks_exact(SLOT_BYTES)
        .map(|slot| {
            let mut numbers = slot.chunks_exact(8).filter_map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
            let mut next = || numbers.next();
            Some(Slot {
                id: SlotId::from_raw(next()?),
                whole_at: Timestamp::from_micros(next()?.cast_signed()),
                a: next()?,
                b: next()?,
                c: next()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_and_back_is_the_same_state() {
        let slot =
            |id| Slot { id: SlotId::from_raw(id), whole_at: Timestamp::from_micros(-5), a: u64::MAX, b: 1, c: 2 };
        let state: SubjectState = [slot(1), slot(2)].into_iter().collect();
        assert_eq!(unpack(&pack(&state)), Some(state.clone()));
        assert_eq!(unpack(&pack(&state)[..50]), None);
        assert_eq!(unpack(&[9]), None);
        assert_eq!(unpack(&[]), None);
    }
}
