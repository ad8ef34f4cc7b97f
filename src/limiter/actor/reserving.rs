//! Blocks on their way back to Redis, and checks that wait for those of other instances.

use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;

use super::{ShardActor, in_time};
use crate::counters::redis::Notice;
use crate::limiter::messages::{Heard, Tell};

/// A check that waits is asked again so much later.
const ASK_AGAIN: Duration = Duration::from_millis(4);

impl ShardActor {
    /// Gives back what is to be given back. Commands go out in the order of the calls: what is asked afterwards finds it there.
    pub(super) fn give_back(&mut self, lane: usize, ctx: &mut Context<Self>) {
        let Some(((remote, _), redis)) = self.shard.lane(lane).zip(self.redis.lanes.get(lane)) else { return };
        let Some((id, returns)) = remote.take_returns() else { return };
        let (redis, deadline) = (redis.1.clone(), self.redis.deadline);
        let tell = async move {
            let told = in_time(deadline, redis.give_back(id, &returns)).await;
            (returns, told)
        };
        ctx.spawn(wrap_future(tell).map(move |(returns, told), actor: &mut Self, _ctx| {
            let Some((remote, ledger)) = actor.shard.lane(lane) else { return };
            if told.is_err() {
                return remote.lose_returns(id, returns);
            }
            let units = returns.iter().filter_map(|back| back.windows.first()).map(|(_, _, units)| units);
            ledger.metrics.returned_units.inc_by(units.fold(0, |sum: u64, units| sum.saturating_add(*units)));
        }));
    }

    /// Gives back what is left of blocks that have ended.
    pub(super) fn give_back_ended(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        for lane in 0..self.redis.lanes.len() {
            if let Some((remote, _)) = self.shard.lane(lane) {
                remote.give_back_ended(now);
            }
            self.give_back(lane, ctx);
        }
    }

    /// Gives back what is left of all blocks, where Redis answers: this instance needs them no more.
    pub(super) fn give_back_all(&mut self) -> impl Future<Output = ()> + 'static {
        let deadline = self.redis.deadline;
        let mut all = Vec::new();
        for (lane, (_, redis)) in self.redis.lanes.iter().enumerate() {
            let Some((remote, _)) = self.shard.lane(lane) else { continue };
            remote.give_back_all();
            while let Some((id, returns)) = remote.take_returns() {
                all.push((redis.clone(), id, returns));
            }
        }
        async move {
            for (redis, id, returns) in all {
                if let Err(error) = in_time(deadline, redis.give_back(id, &returns)).await {
                    tracing::warn!(error = %error, "blocks were not given back: their units stay charged until their windows end");
                    return;
                }
            }
        }
    }

    /// Asks other instances for the blocks that checks wait for, and looks a little later whether they are back.
    pub(super) fn wait_for_blocks(&mut self, lane: usize, ctx: &mut Context<Self>) {
        let Some((remote, _)) = self.shard.lane(lane) else { return };
        let wanted = remote.take_wanted();
        if !remote.keeps_any_waiting() {
            return;
        }
        let Some(redis) = self.redis.lane(lane) else { return };
        let deadline = self.redis.deadline;
        let ask = async move {
            for subject in wanted {
                // Who does not hear it gives back by time.
                in_time(deadline, redis.tell(&Notice::Wanted(subject))).await.ok();
            }
        };
        ctx.spawn(wrap_future(ask));
        ctx.run_later(ASK_AGAIN, move |actor, ctx| {
            if let Some((remote, _)) = actor.shard.lane(lane) {
                remote.ask_again();
            }
            actor.pump(ctx);
        });
    }
}

impl Handler<Tell> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: Tell, ctx: &mut Self::Context) {
        let Some(redis) = self.redis.lane(0) else { return };
        let deadline = self.redis.deadline;
        // Who does not hear it finds it out by time.
        let tell = async move { drop(in_time(deadline, redis.tell(&message.notice)).await) };
        ctx.spawn(wrap_future(tell));
    }
}

impl Handler<Heard> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: Heard, ctx: &mut Self::Context) {
        let lane = |subject| self.shard.lane_of(subject);
        match message.notice {
            Notice::Wanted(subject) => {
                let lane = lane(&subject);
                if let Some((remote, _)) = self.shard.lane(lane) {
                    remote.give_back(&subject);
                }
                self.give_back(lane, ctx);
            }
            Notice::Reset(subject) => {
                let lane = lane(&subject);
                if let Some((remote, _)) = self.shard.lane(lane) {
                    remote.reset_elsewhere(&subject);
                }
            }
            Notice::Changed => {}
        }
    }
}
