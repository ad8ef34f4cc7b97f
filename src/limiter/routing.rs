//! Which shard owns a subject.

use crate::domain::subject::Subject;

/// The shard of a subject among `shards`, by the top bits of its stable hash.
///
/// Redis partitions are cut from the same top bits, so a shard owns a run of partitions and its batches touch few of them.
pub fn shard_of(subject: &Subject, shards: usize) -> usize {
    let scaled = u128::from(subject.stable_hash()).saturating_mul(shards as u128);
    (scaled >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::UserId;

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
