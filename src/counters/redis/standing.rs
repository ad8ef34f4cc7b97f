//! What `standing.lua` is told: which head the counters of a subject have who was charged last by the same plan in the same
//! windows, and what is asked of such subjects. Its head says the form.

use smallvec::SmallVec;

use super::decode::{NUMBER_BYTES, STATE_VERSION};
use super::{AskMode, BatchId, Generation, SubjectBatch};
use crate::domain::cost::{COUNT_MAX, Cost};
use crate::domain::plan::{Plan, Rule};
use crate::domain::time::Timestamp;

/// How many limits the script compares at once.
const LIMITS_MAX: usize = 4;

/// The place of the first subject in the keys.
const FIRST_PLACE: usize = 3;

/// The subjects of a batch that may be decided by comparing, by plan.
#[derive(Debug)]
pub struct Standing<'a> {
    around: Timestamp,
    subjects: usize,
    plans: Vec<(&'a Plan, Option<Expected>)>,
}

/// The head that a plan's charge leaves in the windows that run, and who is asked by it.
#[derive(Debug)]
struct Expected {
    until: Timestamp,
    head: Vec<u8>,
    room: [u64; LIMITS_MAX],
    runs: Vec<Run>,
}

/// Subjects one after another who are asked the same.
#[derive(Debug)]
struct Run {
    first: usize,
    subjects: usize,
    asked: Asked,
}

/// The units of all checks of a subject, and what comes of each check where there is room for all.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    units: u64,
    verdicts: SmallVec<[u8; 16]>,
}

impl<'a> Standing<'a> {
    pub const fn new(around: Timestamp) -> Self {
        Self { around, subjects: 0, plans: Vec::new() }
    }

    /// Adds the next subject of the batch.
    pub fn add(&mut self, batch: &'a SubjectBatch) {
        let place = self.subjects.saturating_add(FIRST_PLACE);
        self.subjects = self.subjects.saturating_add(1);
        let Some((plan, asked)) = asked_plainly(batch) else { return };
        let number = self.plans.iter().position(|(known, _)| std::ptr::eq(*known, plan)).unwrap_or_else(|| {
            self.plans.push((plan, Expected::of(plan, self.around)));
            self.plans.len().saturating_sub(1)
        });
        let Some((_, Some(Expected { runs, .. }))) = self.plans.get_mut(number) else { return };
        match runs.last_mut() {
            Some(run) if run.first.saturating_add(run.subjects) == place && run.asked == asked => {
                run.subjects = run.subjects.saturating_add(1);
            }
            _ => runs.push(Run { first: place, subjects: 1, asked }),
        }
    }

    pub fn into_bytes(self, id: BatchId, generation: Option<Generation>) -> Vec<u8> {
        let expected: Vec<Expected> = self.plans.into_iter().filter_map(|(_, expected)| expected).collect();
        let mut bytes = Vec::with_capacity(128);
        push_number(&mut bytes, id.sequence());
        push_number(&mut bytes, generation.map_or(0, Generation::number));
        push_short(&mut bytes, self.subjects.saturating_add(FIRST_PLACE).saturating_sub(1));
        push_short(&mut bytes, expected.len());
        for Expected { until, head, room, runs } in expected {
            push_instant(&mut bytes, until);
            room.iter().for_each(|room| push_number(&mut bytes, *room));
            push_short(&mut bytes, head.len());
            bytes.extend(head);
            push_short(&mut bytes, runs.len());
            for Run { first, subjects, asked: Asked { units, verdicts } } in runs {
                push_short(&mut bytes, first);
                push_short(&mut bytes, subjects);
                push_number(&mut bytes, units);
                push_short(&mut bytes, verdicts.len());
                bytes.extend(verdicts);
            }
        }
        bytes
    }
}

/// What is asked of a subject, where it is nothing but to charge one plan.
fn asked_plainly(batch: &SubjectBatch) -> Option<(&Plan, Asked)> {
    let plan: &Plan = &batch.asks.first()?.plan;
    let mut asked = Asked { units: 0, verdicts: SmallVec::new() };
    for ask in &batch.asks {
        let is_plain = ask.mode == AskMode::Charge && ask.lease.is_none() && ask.identity.is_none();
        if !is_plain || !std::ptr::eq(plan, &*ask.plan) {
            return None;
        }
        asked.units = asked.units.saturating_add(ask.cost.units());
        asked.verdicts.push(if ask.cost == Cost::ZERO { b'1' } else { b'2' });
    }
    Some((plan, asked))
}

impl Expected {
    /// Nothing where the limits of the plan are other than a few fixed windows.
    fn of(plan: &Plan, around: Timestamp) -> Option<Self> {
        if plan.limits.is_empty() || plan.limits.len() > LIMITS_MAX {
            return None;
        }
        let mut until = Timestamp::from_micros(i64::MAX);
        let mut head = vec![STATE_VERSION, u8::try_from(plan.limits.len()).ok()?, 1];
        let mut room = [COUNT_MAX; LIMITS_MAX];
        for (limit, room) in plan.limits.iter().zip(&mut room) {
            let Rule::FixedWindow(windows) = &limit.rule else { return None };
            let end = windows.end(around);
            until = until.min(end);
            push_number(&mut head, limit.slot.raw());
            push_instant(&mut head, end);
            if limit.enforce {
                *room = limit.requests.min(COUNT_MAX);
            }
        }
        Some(Self { until, head, room, runs: Vec::new() })
    }
}

fn push_number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend(number.to_le_bytes().iter().take(NUMBER_BYTES));
}

fn push_instant(bytes: &mut Vec<u8>, instant: Timestamp) {
    push_number(bytes, instant.as_micros().max(0).cast_unsigned());
}

/// In two bytes.
fn push_short(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend(number.to_le_bytes().iter().take(2));
}
