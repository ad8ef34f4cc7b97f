//! What goes to the scripts: the keys, one flat MessagePack array of numbers, and what is handed on as it is. The scripts'
//! heads say the forms.

use std::cmp::Ordering;

use rmp::encode;
use smallvec::SmallVec;

use super::keys::{BatchId, Keys};
use super::standing::Standing;
use super::{Ask, AskMode, Generation, GivenBack, Granted, LeaseChange, SubjectBatch};
use crate::domain::decide;
use crate::domain::lease::{ChangeLease, LeaseKind, LeasePlace, LeaseWish};
use crate::domain::limit::SlotId;
use crate::domain::plan::{Plan, PlannedLimit, Rule};
use crate::domain::schedule::Windows;
use crate::domain::state::{Log, SubjectState};
use crate::domain::subject::Subject;
use crate::domain::time::{Period, Timestamp};

/// More than any count, so that a limit that is not enforced always has room.
const NO_LIMIT: u64 = 1 << 62;

/// Kinds of limit, as `algorithms.lua` numbers them.
const FIXED: u64 = 0;
const LOG: u64 = 1;
const COUNTER: u64 = 2;
const BUCKET: u64 = 3;
const CALENDAR: u64 = 4;

/// In the number that says how a check is asked.
const TAKE_LEASE: u64 = 4;
const LOOK_FOR_LEASE: u64 = 8;
const COUNT_LEASES: u64 = 12;
const IDENTITY: u64 = 16;

/// A call of a script: its keys, and its arguments.
#[derive(Debug, Default)]
pub struct Call {
    pub keys: Vec<Vec<u8>>,
    pub arguments: Vec<Vec<u8>>,
}

/// Collects the numbers of a flat MessagePack array, whose length stands before them.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl Numbers {
    fn push(&mut self, number: u64) {
        self.0.push(number);
    }

    fn push_len(&mut self, length: usize) {
        self.0.push(length as u64);
    }

    fn push_instant(&mut self, instant: Timestamp) {
        self.0.push(instant.as_micros().max(0).cast_unsigned());
    }

    fn push_period(&mut self, period: Period) {
        self.0.push(period.as_micros().unsigned_abs());
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len().saturating_mul(5).saturating_add(5));
        // Writing to a vector does not fail.
        encode::write_array_len(&mut bytes, u32::try_from(self.0.len()).unwrap_or(u32::MAX)).ok();
        for number in self.0 {
            encode::write_uint(&mut bytes, number).ok();
        }
        bytes
    }
}

/// A call of `decide.lua`. Equal plans are listed once. `around` is about Redis' time: calendar windows are sent from there.
pub fn batch(
    keys: &Keys,
    id: BatchId,
    generation: Option<Generation>,
    subjects: &[SubjectBatch],
    around: Timestamp,
) -> Call {
    let mut plans: Vec<&Plan> = Vec::new();
    let mut checks = Numbers::default();
    let mut standing = Standing::new(around);
    let (mut beside, mut blobs) = (Vec::new(), Vec::new());
    let mut call = Call::default();
    call.keys.reserve(subjects.len().saturating_add(2));
    call.keys.extend([keys.marker(id), keys.generation()]);
    for batch in subjects {
        standing.add(batch);
        call.keys.push(keys.counters(&batch.subject));
        let logs = logs_of(batch);
        checks.push_len(batch.asks.len());
        checks.push_len(logs.len());
        for (slot, period) in logs {
            checks.push(slot.raw());
            checks.push_period(period);
            beside.push(keys.log(&batch.subject, slot));
        }
        for ask in &batch.asks {
            // A batch has few plans: one a tier, and one for each override in it.
            let plan: &Plan = &ask.plan;
            let number = plans.iter().position(|known| std::ptr::eq(*known, plan)).unwrap_or_else(|| {
                plans.push(plan);
                plans.len().saturating_sub(1)
            });
            checks.push_len(number.saturating_add(1));
            push_check(&mut checks, ask);
            if let Some(lease) = &ask.lease {
                beside.push(keys.leases(&batch.subject, lease.kind));
                blobs.extend(lease.taken().map(|(secret, _)| secret.to_be_bytes().to_vec()));
            }
            if let Some(identity) = &ask.identity {
                beside.push(keys.identity(&batch.subject, &identity.request_id));
                blobs.push(identity.memo.clone());
            }
        }
    }
    call.keys.append(&mut beside);
    let mut numbers = Numbers::default();
    numbers.push_len(plans.len());
    for plan in plans {
        numbers.push_len(plan.limits.len());
        plan.limits.iter().for_each(|limit| push_limit(&mut numbers, limit, around));
    }
    numbers.0.append(&mut checks.0);
    call.arguments.extend([standing.into_bytes(id, generation), numbers.into_bytes()]);
    call.arguments.append(&mut blobs);
    call
}

/// The logs that the plans of a subject's checks have, each once.
fn logs_of(batch: &SubjectBatch) -> SmallVec<[(SlotId, Period); 1]> {
    let mut logs = SmallVec::new();
    for limit in batch.asks.iter().flat_map(|ask| &ask.plan.limits) {
        if let Rule::SlidingLog(period) = limit.rule
            && !logs.contains(&(limit.slot, period))
        {
            logs.push((limit.slot, period));
        }
    }
    logs
}

fn push_check(checks: &mut Numbers, ask: &Ask) {
    checks.push(ask.cost.units());
    let mode: u64 = match ask.mode {
        AskMode::Charge => 0,
        AskMode::Peek => 1,
        AskMode::Force => 2,
    };
    let lease = ask.lease.as_ref().map_or(0, |lease| match lease.wish {
        LeaseWish::Take { .. } => TAKE_LEASE,
        LeaseWish::Look => LOOK_FOR_LEASE,
        LeaseWish::Count => COUNT_LEASES,
    });
    let identity = if ask.identity.is_some() { IDENTITY } else { 0 };
    checks.push(mode | lease | identity);
    if let Some(lease) = &ask.lease {
        checks.push(ask.plan.slots(lease.kind));
        checks.push_period(lease.taken().map_or(Period::ZERO, |(_, lasts)| lasts));
    }
}

fn push_limit(numbers: &mut Numbers, limit: &PlannedLimit, around: Timestamp) {
    let kind = match &limit.rule {
        Rule::FixedWindow(Windows::Every { .. }) => FIXED,
        Rule::FixedWindow(_) => CALENDAR,
        Rule::SlidingLog(_) => LOG,
        Rule::SlidingCounter(_) => COUNTER,
        Rule::TokenBucket(_) => BUCKET,
    };
    numbers.push(kind);
    numbers.push(limit.slot.raw());
    numbers.push(if limit.enforce { limit.requests } else { NO_LIMIT });
    let until = numbers.0.len().saturating_add(4);
    match &limit.rule {
        Rule::FixedWindow(Windows::Every { period, anchor }) => {
            numbers.push_period(*period);
            numbers.push_instant(*anchor);
        }
        Rule::FixedWindow(windows) => {
            let mut end = windows.start(around);
            for _ in 0..4 {
                numbers.push_instant(end);
                end = windows.end(end);
            }
        }
        Rule::SlidingLog(period) => {
            numbers.push_period(*period);
            numbers.push(limit.requests);
        }
        Rule::SlidingCounter(period) => numbers.push_period(*period),
        Rule::TokenBucket(bucket) => {
            numbers.push_period(bucket.period);
            numbers.push(bucket.requests);
            numbers.push(bucket.burst);
            numbers.push_period(bucket.fill());
        }
    }
    numbers.0.resize(until, 0);
}

/// A call of `add.lua`: what was granted to each subject, no subject twice. `id` is that of an addition; without one, counters
/// are raised.
pub fn granted(keys: &Keys, id: Option<BatchId>, granted: &[Granted], around: Timestamp) -> Call {
    let mut call = Call::default();
    let mut beside = Vec::new();
    let mut numbers = Numbers::default();
    call.keys.push(id.map_or_else(|| keys.generation(), |id| keys.added(id)));
    numbers.push(u64::from(id.is_none()));
    numbers.push_len(granted.len());
    for Granted { subject, limits, state } in granted {
        call.keys.push(keys.counters(subject));
        let counted = || limits.iter().filter(|limit| is_counted(state, limit));
        numbers.push_len(counted().count());
        for limit in counted() {
            push_limit(&mut numbers, limit, around);
            match state.logs().iter().find(|log| log.id == limit.slot) {
                Some(log) if id.is_none() => push_sum(&mut numbers, log, decide::used(state, limit, around)),
                _ => push_counted(&mut numbers, state, limit),
            }
            if matches!(limit.rule, Rule::SlidingLog(_)) {
                beside.push(keys.log(subject, limit.slot));
            }
        }
    }
    call.keys.append(&mut beside);
    call.arguments.push(numbers.into_bytes());
    call
}

/// A log as one entry, as new as its newest.
fn push_sum(numbers: &mut Numbers, log: &Log, sum: u64) {
    numbers.push_instant(log.whole_at);
    numbers.push_len(1);
    numbers.push_instant(log.entries().back().map_or(Timestamp::EPOCH, |newest| newest.at));
    numbers.push(sum);
}

fn is_counted(state: &SubjectState, limit: &PlannedLimit) -> bool {
    state.slots().iter().any(|slot| slot.id == limit.slot) || state.logs().iter().any(|log| log.id == limit.slot)
}

fn push_counted(numbers: &mut Numbers, state: &SubjectState, limit: &PlannedLimit) {
    if let Some(log) = state.logs().iter().find(|log| log.id == limit.slot) {
        numbers.push_instant(log.whole_at);
        numbers.push_len(log.entries().len());
        for entry in log.entries() {
            numbers.push_instant(entry.at);
            numbers.push(entry.units);
        }
    } else if let Some(slot) = state.slots().iter().find(|slot| slot.id == limit.slot) {
        numbers.push_instant(slot.whole_at);
        match limit.rule {
            Rule::FixedWindow(_) => numbers.push(slot.a),
            Rule::SlidingCounter(_) => numbers.0.extend([slot.a, slot.b]),
            Rule::TokenBucket(_) => numbers.0.extend([slot.a, slot.b, slot.c]),
            // A sum stands for one entry.
            Rule::SlidingLog(_) => numbers.0.extend([1, slot.c, slot.a]),
        }
    }
}

/// A call of `give_back.lua`.
pub fn given_back(keys: &Keys, id: BatchId, returns: &[GivenBack]) -> Call {
    let mut call = Call::default();
    call.keys.push(keys.added(id));
    let mut numbers = Numbers::default();
    for GivenBack { subject, windows } in returns {
        call.keys.push(keys.counters(subject));
        numbers.push_len(windows.len());
        for (slot, ends, units) in windows {
            numbers.push(slot.raw());
            numbers.push_instant(*ends);
            numbers.push(*units);
        }
    }
    call.arguments.push(numbers.into_bytes());
    call
}

/// A call of `reset.lua`.
pub fn reset(keys: &Keys, subject: &Subject, slots: &[SlotId]) -> Call {
    let slots = Numbers(slots.iter().map(|slot| slot.raw()).collect());
    Call { keys: vec![keys.counters(subject)], arguments: vec![slots.into_bytes()] }
}

/// A call of `lease.lua`.
pub fn leases(keys: &Keys, changes: &[LeaseChange]) -> Call {
    let mut call = Call::default();
    let mut numbers = Numbers::default();
    call.arguments.push(Vec::new());
    for (id, change) in changes {
        call.keys.push(keys.leases(&id.subject, id.kind));
        call.arguments.push(id.secret.to_be_bytes().to_vec());
        match change {
            ChangeLease::Hold(until) => {
                numbers.push(0);
                numbers.push_instant(*until);
            }
            ChangeLease::Renew(lasts) => {
                numbers.push(1);
                numbers.push_period(*lasts);
            }
            ChangeLease::Release => numbers.0.extend([2, 0]),
        }
    }
    if let Some(first) = call.arguments.first_mut() {
        *first = numbers.into_bytes();
    }
    call
}

/// What `held.lua` is asked. Those of the kind that expire at the instant of the place come behind it, before it, or one by one
/// where the place is of this kind.
pub fn held(keys: &Keys, subject: &Subject, kind: LeaseKind, after: Option<LeasePlace>, limit: usize) -> Call {
    let (from, behind) = match after {
        None => (0, Vec::new()),
        Some((ends, of, secret)) => match kind.cmp(&of) {
            Ordering::Less => (ends.as_micros().saturating_add(1), Vec::new()),
            Ordering::Equal => (ends.as_micros(), secret.to_be_bytes().to_vec()),
            Ordering::Greater => (ends.as_micros(), Vec::new()),
        },
    };
    let arguments = vec![from.to_string().into_bytes(), behind, limit.to_string().into_bytes()];
    Call { keys: vec![keys.leases(subject, kind)], arguments }
}
