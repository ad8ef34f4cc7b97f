//! Where the counters come from that Redis has lost: what this instance saw of them (`remote::restoring`), and what the database
//! has of everybody's usage.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::records::{Records, Unreadable};
use crate::clock::{Clock, Stopwatch};
use crate::counters::redis::{Generation, Granted, RedisCounters, RedisError, partition_of};
use crate::domain::plan::Rule;
use crate::domain::policy::Policy;
use crate::domain::state::{Slot, SubjectState};
use crate::domain::subject::Subject;
use crate::domain::time::{Period, Timestamp};
use crate::observability::chain::Chain;

/// Subjects that Redis is told of in one call.
const SUBJECTS_A_CALL: usize = 256;

/// What was read of the database is of use to other partitions for so long.
const KEPT: Duration = Duration::from_secs(5);

/// The database knows hours: windows that are shorter are over before they could be told apart.
const SHORTEST: Period = Period::from_seconds(3600);

/// What subjects have used in windows that still run, by partition.
type Counted = HashMap<u64, Vec<Granted>>;

/// Restores counters from the database, one partition or node at a time.
#[derive(Debug)]
pub struct Restoration {
    records: Arc<dyn Records>,
    policy: Arc<ArcSwap<Policy>>,
    clock: Clock,
    /// Held while Redis is told. What was read last.
    turn: Mutex<Option<(Stopwatch, Arc<Counted>)>>,
}

impl Restoration {
    pub fn new(records: Arc<dyn Records>, policy: Arc<ArcSwap<Policy>>, clock: Clock) -> Self {
        Self { records, policy, clock, turn: Mutex::new(None) }
    }

    /// Which counters Redis has from now on. Where it has none, it is told what the database knows of the `partition`, `None`
    /// being all, and then marked.
    pub async fn finish(
        &self,
        redis: &RedisCounters,
        partition: Option<u64>,
        around: Timestamp,
    ) -> Result<Generation, RedisError> {
        let mut turn = self.turn.lock().await;
        if let Some(generation) = redis.generation(None).await? {
            return Ok(generation);
        }
        let kept = turn.take().filter(|(read, _)| read.elapsed() < KEPT);
        let (read, counted) = match kept {
            Some(kept) => kept,
            None => (Stopwatch::start(), Arc::new(self.read(self.clock.now()).await)),
        };
        *turn = Some((read, Arc::clone(&counted)));
        let of_partition = |number: &u64| partition.is_none_or(|partition| partition == *number);
        let told = counted.iter().filter(|(number, _)| of_partition(number));
        let mut subjects: usize = 0;
        for chunk in told.flat_map(|(_, counted)| counted.chunks(SUBJECTS_A_CALL)) {
            redis.raise(chunk, around).await?;
            subjects = subjects.saturating_add(chunk.len());
        }
        if subjects > 0 {
            tracing::info!(subjects, partition, "Redis had no counters: they are restored from the database");
        }
        let new = Generation::new(getrandom::u64().unwrap_or_default());
        redis.generation(new).await?.ok_or(RedisError::Malformed("no generation"))
    }

    /// What everybody has used in the windows that run now.
    async fn read(&self, now: Timestamp) -> Counted {
        self.try_to_read(now).await.unwrap_or_else(|error| {
            tracing::warn!(
                error = %Chain(&error),
                "the database can't be read: what only it knows of lost counters is not restored"
            );
            Counted::new()
        })
    }

    async fn try_to_read(&self, now: Timestamp) -> Result<Counted, Unreadable> {
        let policy = self.policy.load_full();
        let mut starts: Vec<Timestamp> = policy.limits().iter().filter_map(|limit| start(&limit.rule, now)).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut states: HashMap<Subject, Granted> = HashMap::new();
        for since in starts {
            for (subject, tier, cost) in self.records.costs_since(since.start_of_hour()).await? {
                let plan = policy.plan_for(&subject, Some(&tier), None, None, now);
                let granted = states.entry(subject.clone()).or_insert_with(|| Granted {
                    subject,
                    limits: Vec::new(),
                    state: SubjectState::default(),
                });
                for limit in plan.limits.iter().filter(|limit| start(&limit.rule, now) == Some(since)) {
                    let Rule::FixedWindow(windows) = &limit.rule else { continue };
                    let known = granted.state.live(limit.slot, now).map_or(0, |slot| slot.a);
                    let (whole_at, a) = (windows.end(now), known.saturating_add(cost));
                    granted.state.put(Slot { id: limit.slot, whole_at, a, b: 0, c: 0 }, now);
                    if !granted.limits.iter().any(|known| known.slot == limit.slot) {
                        granted.limits.push(limit.clone());
                    }
                }
            }
        }
        let mut counted = Counted::new();
        for (subject, granted) in states.into_iter().filter(|(_, granted)| !granted.limits.is_empty()) {
            counted.entry(partition_of(&subject)).or_default().push(granted);
        }
        Ok(counted)
    }
}

/// When the running window began, of limits that can be counted again by the hour.
fn start(rule: &Rule, now: Timestamp) -> Option<Timestamp> {
    match rule {
        Rule::FixedWindow(windows) if windows.length(now) >= SHORTEST => Some(windows.start(now)),
        _ => None,
    }
}
