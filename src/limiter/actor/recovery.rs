//! How a shard finds out that Redis is gone, and how it goes back to it: signs of life, lost rounds, debts.

use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;

use super::{ShardActor, in_time};
use crate::counters::redis::{RedisCounters, RedisError};
use crate::limiter::remote::Missed;

/// After so many ticks without a check Redis is asked for a sign of life.
const QUIET_TICKS: u32 = 10;

/// A line that gives no sign of life for so long, and for the deadline where that is longer, is made anew.
const PATIENCE: Duration = Duration::from_millis(500);

impl ShardActor {
    /// While nothing is under way, asks Redis for a sign of life now and then: a line that is dead is not left to the next
    /// check to find. While Redis is away, asks whether it is back.
    pub(super) fn probe(&mut self, ctx: &mut Context<Self>) {
        let Some((remote, _)) = self.shard.remote() else { return };
        if remote.wants_probe() {
            let missed = remote.begin_recovery();
            self.recover(missed, ctx);
        } else if remote.is_idle() && !self.listening {
            self.quiet_ticks = self.quiet_ticks.saturating_add(1);
            if self.quiet_ticks >= QUIET_TICKS {
                self.quiet_ticks = 0;
                self.listen(ctx);
            }
        } else {
            self.quiet_ticks = 0;
        }
    }

    fn listen(&mut self, ctx: &mut Context<Self>) {
        let Some(redis) = self.redis.clone() else { return };
        self.listening = true;
        let patience = self.deadline.max(PATIENCE);
        let ask = async move { sign_of_life(&redis, patience).await };
        ctx.spawn(wrap_future(ask).map(|answer, actor: &mut Self, ctx| {
            actor.listening = false;
            let now = actor.clock.now();
            let Some((remote, ledger)) = actor.shard.remote() else { return };
            match answer {
                Ok(round_trip) => remote.answered(round_trip),
                Err(error) if remote.is_idle() => remote.silent(&error, ledger, now),
                Err(_) => {}
            }
            actor.pump(ctx);
        }));
    }

    /// Looks up what came of the rounds whose answers were lost, and tells what is owed.
    fn recover(&self, missed: Vec<Missed>, ctx: &mut Context<Self>) {
        let Some(redis) = self.redis.clone() else { return };
        let deadline = self.deadline;
        let look_up = async move {
            let round_trip = sign_of_life(&redis, deadline.max(PATIENCE)).await?;
            if round_trip > deadline {
                return Err(RedisError::Late(deadline));
            }
            let mut found = Vec::with_capacity(missed.len());
            for (id, _) in &missed {
                found.push(in_time(deadline, redis.missed(*id)).await?);
            }
            Ok((round_trip, found))
        };
        ctx.spawn(wrap_future(look_up).map(|found, actor: &mut Self, ctx| {
            let now = actor.clock.now();
            let Some((remote, ledger)) = actor.shard.remote() else { return };
            match found {
                Ok((round_trip, found)) => {
                    remote.answered(round_trip);
                    remote.found_missed(&found, now);
                    actor.settle(ctx);
                }
                Err(error) => {
                    remote.silent(&error, ledger, now);
                    actor.pump(ctx);
                }
            }
        }));
    }

    /// Tells Redis what is owed, until nothing is.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let Some((remote, _)) = self.shard.remote() else { return };
        let Some((id, owed, around)) = remote.take_debts(now) else {
            self.settle_leases(ctx);
            return;
        };
        let Some(redis) = self.redis.clone() else { return };
        let deadline = self.deadline;
        let tell = async move { in_time(deadline, redis.add(id, &owed, around)).await };
        ctx.spawn(wrap_future(tell).map(|told, actor: &mut Self, ctx| {
            let now = actor.clock.now();
            let Some((remote, ledger)) = actor.shard.remote() else { return };
            match told {
                Ok(()) => {
                    remote.paid(ledger, now);
                    actor.settle(ctx);
                }
                Err(error) => {
                    remote.unpaid(&error, ledger, now);
                    actor.pump(ctx);
                }
            }
        }));
    }

    /// Tells Redis of leases, until it knows of all; then it decides again.
    fn settle_leases(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let Some((remote, _)) = self.shard.remote() else { return };
        let changes = remote.lease_debts(now);
        if changes.is_empty() {
            remote.recovered();
            self.pump(ctx);
            return;
        }
        let Some(redis) = self.redis.clone() else { return };
        let deadline = self.deadline;
        let tell = async move {
            let told = in_time(deadline, redis.change_leases(&changes)).await;
            told.map(|_| changes)
        };
        ctx.spawn(wrap_future(tell).map(|told, actor: &mut Self, ctx| {
            let now = actor.clock.now();
            let Some((remote, ledger)) = actor.shard.remote() else { return };
            match told {
                Ok(changes) => {
                    remote.leases_told(&changes);
                    actor.settle(ctx);
                }
                Err(error) => {
                    remote.silent(&error, ledger, now);
                    actor.pump(ctx);
                }
            }
        }));
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
