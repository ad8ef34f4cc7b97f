//! Which shard owns a subject.

use std::ops::RangeInclusive;

use crate::counters::redis::PARTITIONS;
use crate::domain::subject::Subject;

/// The shard of a subject among `shards`, by the top bits of its stable hash.
///
/// Redis partitions are cut from the same top bits, so a shard owns a run of partitions and its batches touch few of them.
pub fn shard_of(subject: &Subject, shards: usize) -> usize {
    let scaled = u128::from(subject.stable_hash()).saturating_mul(shards as u128);
    (scaled >> 64) as usize
}

/// The partitions of Redis that subjects of this shard stand in. Neighbours may share one.
pub fn partitions_of(shard: usize, shards: usize) -> RangeInclusive<u64> {
    let (shard, shards) = (shard as u64, (shards as u64).max(1));
    let first = shard.saturating_mul(PARTITIONS).checked_div(shards).unwrap_or(0);
    let end = shard.saturating_add(1).saturating_mul(PARTITIONS).div_ceil(shards);
    first..=end.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::redis::partition_of;
    use crate::domain::subject::UserId;

    #[test]
    fn a_shards_subjects_stand_in_its_partitions() {
        for shards in [1, 2, 3, 7, 128, 200, 1024] {
            for id in 0..2000 {
                let subject = Subject::User(UserId::parse(&format!("user-{id}")).unwrap());
                let own = partitions_of(shard_of(&subject, shards), shards);
                assert!(own.contains(&partition_of(&subject)), "{shards} shards: {own:?}");
            }
            let all: usize = (0..shards).map(|shard| partitions_of(shard, shards).count()).sum();
            assert!((128..128 + 2 * shards).contains(&all));
        }
    }

    #[test]
    fn every_shard_gets_its_share_and_none_is_out_of_range() {
        for shards in [1, 2, 3, 64, 1024] {
            let mut seen = vec![0_u32; shards];
            for id in 0..shards * 200 {
                let subject = Subject::User(UserId::parse(&format!("user-{id}")).unwrap());
                seen[shard_of(&subject, shards)] += 1;
            }
            assert!(seen.iter().all(|&count| (100..400).contains(&count)), "{shards} shards: {seen:?}");
        }
    }
}
