//! The shell around a shard: its message loop, its tick, and the round trips it waits for. What is decided stands in
//! [`super::shard`].

mod listing;
mod recovery;
mod reserving;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::LimiterError;
use super::messages::{ChangeHeld, Checks, Forget, HandOver, Reset};
use super::records::Records;
use super::redis_state::Failure;
use super::remote::Round;
use super::restoration::Restoration;
use super::shard::Shard;
use super::spans::round_trip_span;
use crate::clock::{Clock, Stopwatch};
use crate::counters::redis::{Notice, RedisCounters, RedisError};
use crate::domain::limit::SlotId;
use crate::domain::subject::Subject;
use crate::observability::chain::Chain;
use crate::persistence::messages::RecordUsage;

/// How often usage is handed over, and how often Redis is asked whether it is back.
const TICK: Duration = Duration::from_millis(100);

/// How often blocks that have ended are given back.
const BLOCKS_TICK: Duration = Duration::from_millis(20);

/// Longer than this no check waits for the records: its user is taken as one without an account.
const ACCOUNT_DEADLINE: Duration = Duration::from_millis(500);

/// An actor that owns one shard.
#[derive(Debug)]
pub struct ShardActor {
    shard: Shard,
    redis: RedisLanes,
    /// Of each lane.
    watches: Vec<Watch>,
    records: Arc<dyn Records>,
    clock: Clock,
    /// The last read of accounts failed.
    accounts_fail: bool,
    told_to_stop: bool,
    /// Told the shard's number where the actor ends by itself.
    fallen: Fallen,
}

/// What is noticed of a lane while nobody asks anything.
#[derive(Debug, Clone, Default)]
struct Watch {
    /// Ticks in a row without a check under way.
    quiet_ticks: u32,
    /// A sign of life is waited for.
    listening: bool,
    /// Counts the ways back, so that there is one at a time.
    recovery: u32,
}

/// Where the lanes of a shard go; there are none with embedded counters.
#[derive(Debug)]
pub struct RedisLanes {
    /// Each with the partition that it is for; `None` is all of them.
    pub lanes: Vec<(Option<u64>, Rc<RedisCounters>)>,
    /// No answer of Redis is waited for longer.
    pub deadline: Duration,
    pub restoration: Arc<Restoration>,
}

impl RedisLanes {
    fn lane(&self, number: usize) -> Option<Rc<RedisCounters>> {
        self.lanes.get(number).map(|(_, redis)| Rc::clone(redis))
    }
}

/// Whom to tell that a shard has ended by itself, and which one.
pub type Fallen = (mpsc::Sender<usize>, usize);

impl ShardActor {
    /// The lanes of `redis` are those of the shard, in their order.
    pub fn new(shard: Shard, redis: RedisLanes, records: Arc<dyn Records>, clock: Clock, fallen: Fallen) -> Self {
        let watches = vec![Watch::default(); redis.lanes.len()];
        Self { shard, redis, watches, records, clock, accounts_fail: false, told_to_stop: false, fallen }
    }

    /// Starts whatever can be started, a read of accounts, rounds to Redis, and sends the answers that there are. Whatever has
    /// come to its end, this is what follows.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if let Some(users) = self.shard.next_load() {
            let read = tokio::time::timeout(ACCOUNT_DEADLINE, self.records.accounts(users));
            ctx.spawn(wrap_future(read).map(|read, actor: &mut Self, ctx| {
                let accounts = match read {
                    Ok(Ok(accounts)) => Ok(accounts),
                    Ok(Err(error)) => Err(Chain(&error).to_string()),
                    Err(late) => Err(late.to_string()),
                };
                actor.note_accounts(accounts.as_ref().err());
                actor.shard.loaded(accounts.ok(), actor.clock.now());
                actor.pump(ctx);
            }));
        }
        let now = self.clock.now();
        for lane in 0..self.redis.lanes.len() {
            while let Some(round) = self.shard.lane(lane).and_then(|(remote, _)| remote.next_round(now)) {
                self.send_round(lane, round, ctx);
            }
            self.give_back(lane, ctx);
        }
        self.shard.send_answers();
        if self.shard.must_hand_over() {
            self.hand_over();
        }
    }

    /// Tells when accounts can't be read any more, and when they can again.
    fn note_accounts(&mut self, error: Option<&String>) {
        let failed_before = std::mem::replace(&mut self.accounts_fail, error.is_some());
        match error {
            Some(error) if !failed_before => {
                tracing::warn!(
                    error,
                    "accounts can't be read: tiers of tokens and defaults hold for users not remembered"
                );
            }
            None if failed_before => tracing::info!("accounts are read again"),
            _ => {}
        }
    }

    fn send_round(&mut self, lane: usize, round: Round, ctx: &mut Context<Self>) {
        // What goes back goes first: a check may wait for it.
        self.give_back(lane, ctx);
        let Some(redis) = self.redis.lane(lane) else { return };
        let (deadline, span) = (self.redis.deadline, round_trip_span(&round));
        let trip = async move {
            let watch = Stopwatch::start();
            let asked = redis.decide(round.id, round.generation, &round.subjects, round.around);
            let outcome = in_time(deadline, asked).instrument(span.clone()).await;
            let lost_counters = matches!(outcome, Err(RedisError::OtherGeneration(_)));
            let outcome = outcome.map_err(|error| Failure::new(&redis, &error));
            if let Err(failure) = &outcome {
                span.record("otel.status_description", &failure.brief);
            }
            (round, outcome, lost_counters, watch.elapsed())
        };
        ctx.spawn(wrap_future(trip).map(move |(round, outcome, lost_counters, elapsed), actor: &mut Self, ctx| {
            let now = actor.clock.now();
            let failure = outcome.as_ref().err().cloned();
            if let Some((remote, ledger)) = actor.shard.lane(lane) {
                match &outcome {
                    Ok(_) => {
                        let checks: usize = round.subjects.iter().map(|subject| subject.asks.len()).sum();
                        remote.answered(elapsed);
                        ledger.metrics.redis_seconds.observe(elapsed.as_secs_f64());
                        ledger.metrics.redis_batch_checks.observe(f64::from(u32::try_from(checks).unwrap_or(u32::MAX)));
                    }
                    Err(_) => ledger.metrics.redis_failures.inc(),
                }
                remote.landed(round, outcome, ledger, now);
            }
            match failure {
                // There is nothing to wait for.
                Some(_) if lost_counters => actor.probe(lane, ctx),
                Some(failure) => actor.lose_neighbours(lane, &failure),
                None => {
                    actor.follow_server(lane, ctx);
                    actor.wait_for_blocks(lane, ctx);
                }
            }
            actor.pump(ctx);
        }));
    }

    fn hand_over(&mut self) {
        let gathered = self.shard.gather();
        if !gathered.usage.is_empty() || !gathered.counters.is_empty() {
            self.records.record(RecordUsage { usage: gathered.usage, counters: gathered.counters });
        }
    }
}

/// The answer of Redis, or that it came too late.
async fn in_time<T>(deadline: Duration, answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    tokio::time::timeout(deadline, answer).await.unwrap_or(Err(RedisError::Late(deadline)))
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |actor, ctx| {
            actor.hand_over();
            for lane in 0..actor.redis.lanes.len() {
                actor.probe(lane, ctx);
            }
        });
        if !self.redis.lanes.is_empty() {
            ctx.run_interval(BLOCKS_TICK, Self::give_back_ended);
        }
        self.attach(ctx);
    }
}

impl Handler<Checks> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: Checks, ctx: &mut Self::Context) {
        let now = self.clock.now();
        for job in message.jobs {
            self.shard.take(job, now);
        }
        self.pump(ctx);
    }
}

impl Handler<ChangeHeld> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: ChangeHeld, ctx: &mut Self::Context) {
        let ChangeHeld { id, change, reply, permit } = message;
        let now = self.clock.now();
        let lane = self.shard.lane_of(&id.subject);
        let with_redis = self.shard.lane(lane).is_some_and(|(remote, _)| remote.keeps_leases());
        let Some(redis) = self.redis.lane(lane).filter(|_| with_redis) else {
            reply.send(self.shard.change_lease(&id, change, now)).ok();
            return;
        };
        let deadline = self.redis.deadline;
        let changes = vec![(id, change)];
        let ask = async move {
            let answer = in_time(deadline, redis.change_leases(&changes)).await;
            (changes, answer.map_err(|error| Failure::new(&redis, &error)))
        };
        ctx.spawn(wrap_future(ask).map(move |(changes, answer), actor: &mut Self, ctx| {
            let now = actor.clock.now();
            let Some((id, change)) = changes.into_iter().next() else { return };
            let outcome = match answer {
                Ok(answer) => Ok(actor.shard.lease_changed(&id, change, &answer)),
                // What may have been done is done again here, and Redis told of it.
                Err(failure) => {
                    if let Some((remote, ledger)) = actor.shard.lane(lane) {
                        remote.lose(&failure, Vec::new(), ledger, now);
                    }
                    actor.shard.change_lease(&id, change, now)
                }
            };
            // The place is free before the caller can ask again.
            drop(permit);
            reply.send(outcome).ok();
            actor.pump(ctx);
        }));
    }
}

impl Handler<Forget> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: Forget, _ctx: &mut Self::Context) {
        self.shard.forget(message.users.as_deref());
        message.reply.send(()).ok();
    }
}

impl Handler<HandOver> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: HandOver, _ctx: &mut Self::Context) {
        self.hand_over();
        message.reply.send(()).ok();
    }
}

impl Handler<Reset> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: Reset, ctx: &mut Self::Context) {
        let Reset { subject, slots, reply } = message;
        let Some(redis) = self.redis.lane(self.shard.lane_of(&subject)) else {
            self.shard.reset(&subject, slots.as_deref());
            reply.send(Ok(())).ok();
            return;
        };
        // What it holds beforehand is void with the rest.
        if let Some((remote, _)) = self.shard.lane(self.shard.lane_of(&subject)) {
            remote.reset_elsewhere(&subject);
        }
        let deadline = self.redis.deadline;
        let reset = async move {
            let done = in_time(deadline, redis.reset(&subject, slots.as_deref())).await.is_ok();
            if done {
                // Who does not hear it forgets by time.
                in_time(deadline, redis.tell(&Notice::Reset(subject.clone()))).await.ok();
            }
            (subject, slots, done)
        };
        ctx.spawn(wrap_future(reset).map(
            |(subject, slots, done): (Subject, Option<Vec<SlotId>>, bool), actor: &mut Self, _| {
                if done {
                    actor.shard.reset(&subject, slots.as_deref());
                }
                reply.send(if done { Ok(()) } else { Err(LimiterError::CountersUnavailable) }).ok();
            },
        ));
    }
}

/// Stop when everything sent before is answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

impl Handler<Stop> for ShardActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _message: Stop, _ctx: &mut Self::Context) -> Self::Result {
        let given_back = self.give_back_all();
        Box::pin(wrap_future(given_back).map(|(), actor: &mut Self, ctx| {
            actor.told_to_stop = true;
            actor.hand_over();
            ctx.stop();
        }))
    }
}

impl Drop for ShardActor {
    /// A panic in a handler ends an actor for good, and nobody else would notice. What it has gathered is not lost with it.
    fn drop(&mut self) {
        if !self.told_to_stop {
            self.hand_over();
            let (watch, number) = &self.fallen;
            // There is a place for each shard; where nobody listens the service is ending.
            watch.try_send(*number).ok();
        }
    }
}

/// Has a shard fail.
#[cfg(test)]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

#[cfg(test)]
impl Handler<Panic> for ShardActor {
    type Result = ();

    fn handle(&mut self, _message: Panic, _ctx: &mut Self::Context) {
        panic!("on purpose");
    }
}
