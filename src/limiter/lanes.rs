//! The ways of a shard to Redis: one where there is one node, one to each partition of a cluster.
//!
//! A lane knows when its own Redis is away, and owes what it granted alone to that one.

use super::remote::Remote;
use crate::counters::redis::partition_of;
use crate::domain::subject::Subject;

/// At least one lane.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Remote>,
    /// The partition that the first lane goes to, and the next to the next; `None` where one lane goes to all.
    first: Option<u64>,
}

impl Lanes {
    /// One lane to all partitions.
    pub fn one(lane: Remote) -> Self {
        Self { lanes: vec![lane], first: None }
    }

    /// A lane to each partition from `first` on; `None` where there is no lane at all.
    pub fn from_partition(first: u64, lanes: Vec<Remote>) -> Option<Self> {
        (!lanes.is_empty()).then_some(Self { lanes, first: Some(first) })
    }

    /// Which lane a subject's checks take.
    pub fn number_of(&self, subject: &Subject) -> usize {
        let behind = self.first.map_or(0, |first| partition_of(subject).saturating_sub(first));
        usize::try_from(behind).unwrap_or(0).min(self.lanes.len().saturating_sub(1))
    }

    /// The lane of a subject.
    pub fn of(&mut self, subject: &Subject) -> Option<&mut Remote> {
        let number = self.number_of(subject);
        self.lanes.get_mut(number)
    }

    pub fn get_mut(&mut self, number: usize) -> Option<&mut Remote> {
        self.lanes.get_mut(number)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Remote> {
        self.lanes.iter_mut()
    }
}
