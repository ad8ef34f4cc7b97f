//! How a shard finds out that Redis is gone, and how a lane goes back to it: signs of life, lost rounds, lost counters, debts.

use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;

use super::{ShardActor, in_time};
use crate::counters::redis::{Generation, RedisCounters, RedisError, Verdict};
use crate::limiter::redis_state::Failure;
use crate::limiter::remote::{Missed, Server};

/// After so many ticks without a check Redis is asked for a sign of life.
const QUIET_TICKS: u32 = 10;

/// A line that gives no sign of life for so long, and for the deadline where that is longer, is made anew.
const PATIENCE: Duration = Duration::from_millis(250);

/// After a server was told what it lacks, other instances have so long to tell it theirs. The larger count stays: what would be charged
/// before they have told would hide what they know and the server does not.
const ALL_TELL: Duration = Duration::from_millis(300);

/// What was found of a Redis that answers again.
struct Found {
    round_trip: Duration,
    /// What came of the rounds whose answers were lost.
    missed: Vec<Option<Vec<Verdict>>>,
    generation: Option<Generation>,
    server: Server,
}

/// A lane on its way back. Where another begins meanwhile this one ends.
#[derive(Debug, Clone, Copy)]
struct Way {
    lane: usize,
    turn: u32,
}

impl ShardActor {
    fn is_current(&self, way: Way) -> bool {
        self.watches.get(way.lane).is_some_and(|watch| watch.recovery == way.turn)
    }

    /// Finds out which counters Redis has, before the first check is sent to it. None waits longer for that than for an answer.
    pub(super) fn attach(&mut self, ctx: &mut Context<Self>) {
        for lane in 0..self.redis.lanes.len() {
            let missed = self.shard.lane(lane).map(|(remote, _)| remote.begin_recovery());
            self.recover(lane, missed.unwrap_or_default(), ctx);
        }
        ctx.run_later(self.redis.deadline, |actor, ctx| {
            let now = actor.clock.now();
            for lane in 0..actor.redis.lanes.len() {
                let node = actor.redis.lane(lane).map(|redis| redis.node()).unwrap_or_default();
                if let Some((remote, ledger)) = actor.shard.lane(lane) {
                    remote.stop_waiting(node, ledger, now);
                }
            }
            actor.pump(ctx);
        });
    }

    /// While nothing is under way, asks Redis for a sign of life now and then: a line that is dead is not left to the next
    /// check to find. While Redis is away, asks whether it is back.
    pub(super) fn probe(&mut self, lane: usize, ctx: &mut Context<Self>) {
        let Some(((remote, _), watch)) = self.shard.lane(lane).zip(self.watches.get_mut(lane)) else { return };
        if remote.wants_probe() {
            let missed = remote.begin_recovery();
            self.recover(lane, missed, ctx);
        } else if remote.is_idle() && !watch.listening {
            watch.quiet_ticks = watch.quiet_ticks.saturating_add(1);
            if watch.quiet_ticks >= QUIET_TICKS {
                (watch.quiet_ticks, watch.listening) = (0, true);
                self.listen(lane, ctx);
            }
        } else {
            watch.quiet_ticks = 0;
        }
    }

    /// A lane has found its node silent: those that go to the same and have nothing under way need not find it out each by itself.
    pub(super) fn lose_neighbours(&mut self, lane: usize, failure: &Failure) {
        let now = self.clock.now();
        for (number, (_, redis)) in self.redis.lanes.iter().enumerate() {
            if number != lane
                && redis.node() == failure.node
                && let Some((remote, ledger)) = self.shard.lane(number)
                && remote.is_idle()
            {
                remote.lose(failure, Vec::new(), ledger, now);
            }
        }
    }

    /// Another server answers than before: a replica, which may not have heard of the last that its master did.
    pub(super) fn follow_server(&mut self, lane: usize, ctx: &mut Context<Self>) {
        let Some(redis) = self.redis.lane(lane) else { return };
        let (node, server) = (redis.node(), redis.server());
        let now = self.clock.now();
        let begins =
            self.shard.lane(lane).is_some_and(|(remote, ledger)| remote.begin_moving(node, server, ledger, now));
        if begins {
            self.recover(lane, Vec::new(), ctx);
        }
    }

    fn listen(&mut self, lane: usize, ctx: &mut Context<Self>) {
        let Some(redis) = self.redis.lane(lane) else { return };
        let patience = self.redis.deadline.max(PATIENCE);
        let ask = async move { sign_of_life(&redis, patience).await.map_err(|error| Failure::new(&redis, &error)) };
        ctx.spawn(wrap_future(ask).map(move |answer, actor: &mut Self, ctx| {
            if let Some(watch) = actor.watches.get_mut(lane) {
                watch.listening = false;
            }
            let now = actor.clock.now();
            let Some((remote, ledger)) = actor.shard.lane(lane) else { return };
            match answer {
                Ok(round_trip) => remote.answered(round_trip),
                Err(failure) if remote.is_idle() => {
                    remote.lose(&failure, Vec::new(), ledger, now);
                    actor.lose_neighbours(lane, &failure);
                }
                Err(_) => {}
            }
            actor.pump(ctx);
        }));
    }

    /// Looks up what came of the rounds whose answers were lost and which counters Redis has, and tells what is owed.
    fn recover(&mut self, lane: usize, missed: Vec<Missed>, ctx: &mut Context<Self>) {
        let Some((redis, watch)) = self.redis.lane(lane).zip(self.watches.get_mut(lane)) else { return };
        watch.recovery = watch.recovery.wrapping_add(1);
        let way = Way { lane, turn: watch.recovery };
        let deadline = self.redis.deadline;
        let look_up = async move {
            let round_trip = sign_of_life(&redis, deadline.max(PATIENCE)).await?;
            if round_trip > deadline {
                return Err(RedisError::Late(deadline));
            }
            let generation = in_time(deadline, redis.generation(None)).await?;
            let run_id = in_time(deadline, redis.run_id()).await?;
            let server = Server { number: redis.server(), run_id };
            let mut found = Found { round_trip, missed: Vec::with_capacity(missed.len()), generation, server };
            for (id, _) in &missed {
                found.missed.push(in_time(deadline, redis.missed(*id)).await?);
            }
            Ok(found)
        };
        ctx.spawn(wrap_future(look_up).map(move |found, actor: &mut Self, ctx| {
            if !actor.is_current(way) {
                return;
            }
            let now = actor.clock.now();
            let limits = actor.shard.known_limits();
            let Some((remote, _)) = actor.shard.lane(lane) else { return };
            match found {
                Ok(Found { round_trip, missed, generation, server }) => {
                    remote.answered(round_trip);
                    remote.found_missed(&missed, now);
                    if remote.must_restore(generation, server, limits) {
                        actor.restore(way, generation, ctx);
                    } else {
                        actor.settle(way, ctx);
                    }
                }
                Err(error) => actor.give_up(way, &error, ctx),
            }
        }));
    }

    /// Tells a Redis what was seen of the counters; where it has none at all, then what the database has of them.
    fn restore(&mut self, way: Way, found: Option<Generation>, ctx: &mut Context<Self>) {
        let lane = way.lane;
        if !self.is_current(way) {
            return;
        }
        let Some((partition, redis)) = self.redis.lanes.get(lane).cloned() else { return };
        let (now, deadline) = (self.clock.now(), self.redis.deadline);
        let Some((remote, _)) = self.shard.lane(lane) else { return };
        if let Some((counted, around)) = remote.next_to_restore(now) {
            let tell = async move { in_time(deadline, redis.raise(&counted, around)).await };
            ctx.spawn(wrap_future(tell).map(move |told, actor: &mut Self, ctx| match told {
                Ok(()) => actor.restore(way, found, ctx),
                Err(error) => actor.give_up(way, &error, ctx),
            }));
            return;
        }
        if let Some(generation) = found {
            remote.adopt(generation);
            let (state, decided_before) = (remote.redis_state(), !remote.is_attaching());
            ctx.spawn(wrap_future(async move { state.look_at(&redis).await }));
            if decided_before {
                ctx.run_later(ALL_TELL, move |actor, ctx| actor.settle(way, ctx));
            } else {
                self.settle(way, ctx);
            }
            return;
        }
        let restoration = self.redis.restoration.clone();
        let finish = async move { restoration.finish(&redis, partition, now).await };
        ctx.spawn(wrap_future(finish).map(move |generation, actor: &mut Self, ctx| match generation {
            Ok(generation) => {
                if let Some((remote, _)) = actor.shard.lane(lane) {
                    remote.restore_granted();
                }
                actor.restore(way, Some(generation), ctx);
            }
            Err(error) => actor.give_up(way, &error, ctx),
        }));
    }

    /// Tells Redis what is owed, until nothing is.
    fn settle(&mut self, way: Way, ctx: &mut Context<Self>) {
        let lane = way.lane;
        if !self.is_current(way) {
            return;
        }
        let now = self.clock.now();
        let Some((remote, _)) = self.shard.lane(lane) else { return };
        let Some((id, owed, around)) = remote.take_debts(now) else {
            self.settle_leases(way, ctx);
            return;
        };
        let Some(redis) = self.redis.lane(lane) else { return };
        let deadline = self.redis.deadline;
        let tell = async move {
            let told = in_time(deadline, redis.add(id, &owed, around)).await;
            told.map_err(|error| Failure::new(&redis, &error))
        };
        ctx.spawn(wrap_future(tell).map(move |told, actor: &mut Self, ctx| {
            if !actor.is_current(way) {
                return;
            }
            let now = actor.clock.now();
            let Some((remote, ledger)) = actor.shard.lane(lane) else { return };
            match told {
                Ok(()) => {
                    remote.paid(ledger, now);
                    actor.settle(way, ctx);
                }
                Err(failure) => {
                    remote.unpaid(&failure, ledger, now);
                    actor.pump(ctx);
                }
            }
        }));
    }

    /// Tells Redis of leases, until it knows of all; then it decides again.
    fn settle_leases(&mut self, way: Way, ctx: &mut Context<Self>) {
        let lane = way.lane;
        if !self.is_current(way) {
            return;
        }
        let now = self.clock.now();
        let Some((remote, _)) = self.shard.lane(lane) else { return };
        let changes = remote.lease_debts(now);
        if changes.is_empty() {
            remote.recovered();
            self.pump(ctx);
            return;
        }
        let Some(redis) = self.redis.lane(lane) else { return };
        let deadline = self.redis.deadline;
        let tell = async move {
            let told = in_time(deadline, redis.change_leases(&changes)).await;
            told.map(|_| changes)
        };
        ctx.spawn(wrap_future(tell).map(move |told, actor: &mut Self, ctx| match told {
            Ok(changes) => {
                if let Some((remote, _)) = actor.shard.lane(lane) {
                    remote.leases_told(&changes);
                }
                actor.settle(way, ctx);
            }
            Err(error) => actor.give_up(way, &error, ctx),
        }));
    }

    /// Redis has not come back after all.
    fn give_up(&mut self, way: Way, error: &RedisError, ctx: &mut Context<Self>) {
        let lane = way.lane;
        if !self.is_current(way) {
            return;
        }
        let now = self.clock.now();
        if let Some(((remote, ledger), redis)) = self.shard.lane(lane).zip(self.redis.lane(lane)) {
            remote.lose(&Failure::new(&redis, error), Vec::new(), ledger, now);
        }
        self.pump(ctx);
    }
}

/// How long a sign of life took. Without one the line is given up: it may be dead at this end alone.
async fn sign_of_life(redis: &RedisCounters, patience: Duration) -> Result<Duration, RedisError> {
    let answer = in_time(patience, redis.ping()).await;
    if let Err(RedisError::Late(_)) = answer {
        redis.replace_line();
    }
    answer
}
