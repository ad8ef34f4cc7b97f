//! The blocks that a lane holds, and those that are on their way there and back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::pace::Paces;
use crate::counters::redis::{BatchId, GivenBack};
use crate::domain::block::{self, Block};
use crate::domain::cost::Cost;
use crate::domain::decide;
use crate::domain::plan::Plan;
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// Blocks are given back in calls of so many: the script blocks Redis while it runs.
const RETURNS_A_CALL: usize = 256;

/// What waits to be given back. What finds no room stays charged until its windows end.
const RETURNS: usize = 65_536;

/// The blocks of subjects that are asked for often; none where they are switched off.
#[derive(Debug, Default)]
pub struct Blocks {
    enabled: bool,
    held: HashMap<Subject, Block, RandomState>,
    /// A block of these is asked for.
    asked: HashSet<Subject, RandomState>,
    returns: Vec<GivenBack>,
    /// What was sent back, without an answer that it came: it is sent again under the same id, which adds nothing twice.
    lost: Vec<(BatchId, Vec<GivenBack>)>,
    paces: Paces,
    /// The plan that blocks were last taken of, and those by which they are charged.
    reserving: Option<(Arc<Plan>, [Arc<Plan>; 2])>,
}

impl Blocks {
    pub fn new(enabled: bool) -> Self {
        Self { enabled, ..Self::default() }
    }

    /// Counts that the subject is asked for, and gives out units of its block. Where it can't, what is left goes back: Redis
    /// decides then.
    pub fn ask_for(&mut self, subject: &Subject, plan: &Arc<Plan>, cost: Cost, now: Timestamp) -> bool {
        if !self.enabled || !block::can_be_reserved(plan) {
            return false;
        }
        self.paces.note(subject, cost, now);
        let Some(block) = self.held.get_mut(subject) else { return false };
        let fits = block.give_out(plan, cost.units(), now);
        if !fits {
            self.give_back(subject);
        }
        fits
    }

    /// Gives out units of the subject's block, where it has one that holds them.
    pub fn give_out(&mut self, subject: &Subject, plan: &Arc<Plan>, cost: Cost, now: Timestamp) -> bool {
        self.held.get_mut(subject).is_some_and(|block| block.give_out(plan, cost.units(), now))
    }

    /// The units of a state, as Redis has it, that other instances hold.
    pub fn held_elsewhere(&self, subject: &Subject, state: &SubjectState, now: Timestamp) -> u64 {
        let own = self.held.get(subject).map_or(0, Block::taken);
        block::reserved(state, now).saturating_sub(own)
    }

    /// A block to ask for together with checks of the subject: the plan to charge, and how many units.
    pub fn ask(
        &mut self,
        subject: &Subject,
        plan: &Arc<Plan>,
        state: &SubjectState,
        now: Timestamp,
    ) -> Option<(Arc<Plan>, Cost)> {
        if !self.enabled || !block::can_be_reserved(plan) || self.held.contains_key(subject) {
            return None;
        }
        let units = block::size(state, plan, self.paces.of(subject), now);
        (units > 0 && self.asked.insert(subject.clone())).then(|| (self.reserving(plan, now), Cost::of_units(units)))
    }

    /// A block was charged as it was asked for; `state` is what the subject's counters were then.
    pub fn took(
        &mut self,
        subject: &Subject,
        plan: &Arc<Plan>,
        (reserving, cost): (&Plan, Cost),
        state: &SubjectState,
        now: Timestamp,
    ) {
        self.asked.remove(subject);
        let mut state = state.clone();
        decide::charge(&mut state, reserving, cost, now);
        if let Some(block) = Block::new(plan, reserving, cost.units(), &state, now) {
            self.held.insert(subject.clone(), block);
        }
    }

    /// A block was asked for, and none came.
    pub fn got_none(&mut self, subject: &Subject) {
        self.asked.remove(subject);
    }

    /// A block may have been charged though nobody said so: Redis has found that it was.
    pub fn give_back_unseen(&mut self, subject: &Subject, plan: &Arc<Plan>, cost: Cost, now: Timestamp) {
        let mut state = SubjectState::default();
        decide::charge(&mut state, plan, cost, now);
        let windows = state.slots().iter().map(|slot| (slot.id, slot.whole_at, cost.units())).collect();
        self.keep(GivenBack { subject: subject.clone(), windows });
    }

    /// The subject's block.
    pub fn of(&self, subject: &Subject) -> Option<&Block> {
        self.held.get(subject)
    }

    /// What is left of the subject's block goes back, where it holds one.
    pub fn give_back(&mut self, subject: &Subject) {
        if let Some(block) = self.held.remove(subject) {
            self.keep(GivenBack { subject: subject.clone(), windows: block.unused().collect() });
        }
    }

    /// What is left of the subject's block goes back; until it is there, `state` is charged with it. False where nothing is left.
    pub fn give_back_from(&mut self, subject: &Subject, state: &mut SubjectState, now: Timestamp) -> bool {
        let Some(block) = self.held.get(subject).filter(|block| block.left() > 0) else { return false };
        block.add_to(state, now);
        self.give_back(subject);
        true
    }

    /// What is left of blocks that have ended goes back.
    pub fn give_back_ended(&mut self, now: Timestamp) {
        let returns = &mut self.returns;
        self.held.retain(|subject, block| {
            let has_ended = block.has_ended(now);
            // What is out is counted no longer when they have.
            if has_ended && block.left() > 0 && returns.len() < RETURNS {
                returns.push(GivenBack { subject: subject.clone(), windows: block.unused().collect() });
            }
            !has_ended
        });
    }

    /// What is left of every block goes back, and none is taken any more.
    pub fn give_back_all(&mut self) {
        self.enabled = false;
        let subjects: Vec<Subject> = self.held.keys().cloned().collect();
        subjects.iter().for_each(|subject| self.give_back(subject));
    }

    /// What was to be given back was lost with all that was charged.
    pub fn forget_returns(&mut self) {
        self.returns.clear();
        self.lost.clear();
    }

    /// The subject's counters were reset, and with them what the block was charged.
    pub fn forget(&mut self, subject: &Subject) {
        self.held.remove(subject);
    }

    /// What is to be given back next, and the id where it was sent once already.
    pub fn take_returns(&mut self) -> (Option<BatchId>, Vec<GivenBack>) {
        if let Some((id, lost)) = self.lost.pop() {
            return (Some(id), lost);
        }
        let rest = self.returns.split_off(self.returns.len().min(RETURNS_A_CALL));
        (None, std::mem::replace(&mut self.returns, rest))
    }

    /// These may have been given back, or not.
    pub fn lose(&mut self, id: BatchId, returns: Vec<GivenBack>) {
        let waiting = self.lost.len().saturating_mul(RETURNS_A_CALL);
        if waiting < RETURNS {
            self.lost.push((id, returns));
        }
    }

    /// These are to be given back.
    fn keep(&mut self, returns: GivenBack) {
        if self.returns.len() < RETURNS {
            self.returns.push(returns);
        }
    }

    /// Most subjects have the plan of their tier: what they need is made once.
    fn reserving(&mut self, plan: &Arc<Plan>, now: Timestamp) -> Arc<Plan> {
        let by_turn = match self.reserving.take() {
            Some((known, by_turn)) if Arc::ptr_eq(&known, plan) => by_turn,
            _ => [0, 1].map(|turn| block::reserving(plan, turn)),
        };
        let [first, second] = &by_turn;
        let reserving = Arc::clone(if block::turn(now) == 0 { first } else { second });
        self.reserving = Some((Arc::clone(plan), by_turn));
        reserving
    }
}
