//! The names of keys. A hash tag holds the partition's number and nothing of the user's text, so no id can forge a key:
//! what is fixed stands first, and the subject's text last.

use std::fmt::Write;

use crate::domain::lease::LeaseKind;
use crate::domain::limit::SlotId;
use crate::domain::subject::Subject;

/// Partitions are cut from the top bits of a subject's hash. A constant: another number would be other keys.
const PARTITION_BITS: u32 = 7;

/// How many partitions there are.
pub const PARTITIONS: u64 = 1 << PARTITION_BITS;

/// A lane writes its batches' markers under so many keys in turn: more than it ever has under way or unaccounted for.
const MARKERS: u64 = 64;

/// Which batch this is: of which process, which lane of which shard, and the how manieth, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchId {
    instance: u64,
    shard: u32,
    lane: u64,
    sequence: u64,
}

impl BatchId {
    /// `instance` is a number that no other process has; `lane` no other of the shard.
    pub fn first(instance: u64, shard: usize, lane: u64) -> Self {
        Self { instance, shard: u32::try_from(shard).unwrap_or(u32::MAX), lane, sequence: 1 }
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self { sequence: self.sequence.wrapping_add(1), ..self }
    }

    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

/// Which partition a subject's keys stand in.
pub fn partition_of(subject: &Subject) -> u64 {
    subject.stable_hash() >> (u64::BITS - PARTITION_BITS)
}

/// How the keys are named that counters are kept under.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    /// The partition of what belongs to no subject.
    home: u64,
}

impl Keys {
    pub fn new(prefix: &str, home: u64) -> Self {
        Self { prefix: prefix.to_owned(), home }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `<prefix>:{<partition>}:c:<subject>`
    pub fn counters(&self, subject: &Subject) -> Vec<u8> {
        let mut key = self.partitioned(subject);
        // Writing to a string does not fail.
        write!(key, "c:{subject}").ok();
        key.into_bytes()
    }

    /// `<prefix>:{<partition>}:l:<slot>:<subject>`: the entries of a sliding log.
    pub fn log(&self, subject: &Subject, slot: SlotId) -> Vec<u8> {
        let mut key = self.partitioned(subject);
        write!(key, "l:{:x}:{subject}", slot.raw()).ok();
        key.into_bytes()
    }

    /// `<prefix>:{<partition>}:s:<kind>:<subject>`: the leases that are held.
    pub fn leases(&self, subject: &Subject, kind: LeaseKind) -> Vec<u8> {
        let mut key = self.partitioned(subject);
        write!(key, "s:{}:{subject}", kind.as_str()).ok();
        key.into_bytes()
    }

    /// `<prefix>:{<partition>}:i:<bytes of the id>:<id>:<subject>`: what is remembered of a check.
    pub fn identity(&self, subject: &Subject, request_id: &str) -> Vec<u8> {
        let mut key = self.partitioned(subject);
        // The length stands before it, so that no id and subject together are another id with another subject.
        write!(key, "i:{}:{request_id}:{subject}", request_id.len()).ok();
        key.into_bytes()
    }

    /// `<prefix>:{<home>}:g`: which counters these are.
    pub fn generation(&self) -> Vec<u8> {
        let mut key = self.in_partition(self.home);
        key.push('g');
        key.into_bytes()
    }

    /// `<prefix>:{<home>}:b:<instance>-<shard>-<lane>-<turn>`
    pub fn marker(&self, id: BatchId) -> Vec<u8> {
        let mut key = self.in_partition(self.home);
        write!(key, "b:{:016x}-{}-{}-{}", id.instance, id.shard, id.lane, id.sequence % MARKERS).ok();
        key.into_bytes()
    }

    /// `<prefix>:{<home>}:a:<instance>-<shard>-<lane>-<sequence>`
    pub fn added(&self, id: BatchId) -> Vec<u8> {
        let mut key = self.in_partition(self.home);
        write!(key, "a:{:016x}-{}-{}-{}", id.instance, id.shard, id.lane, id.sequence).ok();
        key.into_bytes()
    }

    fn partitioned(&self, subject: &Subject) -> String {
        self.in_partition(partition_of(subject))
    }

    fn in_partition(&self, partition: u64) -> String {
        let mut key = String::with_capacity(self.prefix.len().saturating_add(64));
        write!(key, "{}:{{{partition}}}:", self.prefix).ok();
        key
    }
}
