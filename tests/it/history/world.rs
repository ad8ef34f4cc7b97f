//! Clients and instances around a limiter, in a time of their own: what is asked, decided and answered takes time, comes
//! in any order, and is sometimes lost.

use std::collections::BTreeMap;

use super::dice::Dice;
use super::limiter::{Bug, Limiter};
use super::record::{History, Kind, Lease, Micros, Operation, Outcome, SECOND, Slot, Tier};

const MILLI: Micros = 1000;

#[derive(Debug, Clone)]
pub struct World {
    pub tier: Tier,
    pub seed: u64,
    pub clients: u32,
    pub subjects: u32,
    pub operations: usize,
    /// The longest that a message is under way, and that a client rests between two operations.
    pub latency: Micros,
    pub rest: Micros,
    pub largest_cost: i64,
    /// How many of a hundred operations are not checks of rates.
    pub leases: u64,
    /// How many of a hundred go wrong: refused, lost, or executed although nobody waits any more.
    pub trouble: u64,
    /// The store is away for a while, again and again. There is one instance then.
    pub outages: bool,
    pub bug: Option<Bug>,
}

/// What happens next, to whom.
enum Step {
    Ask,
    Decide {
        operation: Operation,
        answered: bool,
        again: bool,
    },
    /// What was decided by an earlier reading.
    Write {
        operation: Operation,
        answered: bool,
    },
    Answer(Operation),
}

/// A lease that a client took, and whether it gave it back.
struct Taken {
    subject: u32,
    lease: u64,
    released: bool,
}

struct Play<'a> {
    world: &'a World,
    dice: Dice,
    limiter: Limiter,
    agenda: BTreeMap<(Micros, u64), (u32, Step)>,
    steps: u64,
    taken: Vec<Vec<Taken>>,
    next_lease: u64,
    away: bool,
    asked: usize,
    recorded: Vec<Operation>,
}

impl World {
    /// Many clients on two subjects, on a quick network.
    pub fn busy(tier: Tier, seed: u64, bug: Option<Bug>) -> Self {
        Self {
            tier,
            seed,
            clients: 8,
            subjects: 2,
            operations: 2000,
            latency: 5 * MILLI,
            rest: 60 * MILLI,
            largest_cost: 4,
            leases: 0,
            trouble: 0,
            outages: false,
            bug,
        }
    }

    pub fn play(&self) -> History {
        let mut dice = Dice::new(self.seed);
        let begun = dice.between(1_700_000_000, 1_900_000_000) * SECOND + dice.between(0, SECOND);
        let mut play = Play {
            world: self,
            dice,
            limiter: Limiter::new(self.tier.clone(), self.bug),
            agenda: BTreeMap::new(),
            steps: 0,
            taken: (0..self.clients).map(|_| Vec::new()).collect(),
            next_lease: 0,
            away: false,
            asked: 0,
            recorded: Vec::with_capacity(self.operations),
        };
        for client in 0..self.clients {
            play.plan(begun, client, Step::Ask);
        }
        while let Some(((now, _), (client, step))) = play.agenda.pop_first() {
            play.take(now, client, step);
        }
        History { tier: self.tier.clone(), operations: play.recorded }
    }
}

impl Play<'_> {
    fn plan(&mut self, at: Micros, client: u32, step: Step) {
        self.steps += 1;
        self.agenda.insert((at, self.steps), (client, step));
    }

    fn soon(&mut self, now: Micros) -> Micros {
        now + self.dice.between(1, self.world.latency)
    }

    fn take(&mut self, now: Micros, client: u32, step: Step) {
        match step {
            Step::Ask if self.asked == self.world.operations => {}
            Step::Ask => self.ask(now, client),
            Step::Decide { operation, answered, again } => match self.decide(&operation, now) {
                None => {
                    let written = self.soon(now);
                    self.plan(written, client, Step::Write { operation, answered });
                }
                Some(_) if again => {
                    let retried = self.soon(now);
                    self.plan(retried, client, Step::Decide { operation, answered, again: false });
                }
                Some(outcome) => self.decided(now, operation, outcome, answered),
            },
            Step::Write { operation, answered } => {
                if let Kind::Check { cost, lease } = operation.kind {
                    self.limiter.charge(operation.subject, cost, lease, now);
                }
                self.decided(now, operation, Outcome::Allowed, answered);
            }
            Step::Answer(mut operation) => {
                operation.answered = now;
                if let (Kind::Check { lease: Some(lease), .. }, Outcome::Allowed) = (operation.kind, &operation.outcome)
                {
                    let taken = Taken { subject: operation.subject, lease: lease.number, released: false };
                    self.taken[client as usize].push(taken);
                }
                self.recorded.push(operation);
                let rested = now + self.dice.between(0, self.world.rest);
                self.plan(rested, client, Step::Ask);
            }
        }
    }

    fn decided(&mut self, now: Micros, mut operation: Operation, outcome: Outcome, answered: bool) {
        // What is answered with an error may have been charged none the less.
        if operation.outcome != Outcome::Error {
            operation.outcome = outcome;
        }
        if answered {
            let at = self.soon(now);
            self.plan(at, operation.client, Step::Answer(operation));
        }
    }

    fn ask(&mut self, now: Micros, client: u32) {
        self.asked += 1;
        let (subject, kind) = self.choose(client);
        let mut operation = Operation { client, subject, kind, asked: now, answered: now, outcome: Outcome::Unknown };
        let again = self.world.bug == Some(Bug::RetryAfterTimeout) && self.dice.percent(10);
        let arrives = self.soon(now);
        if !self.dice.percent(self.world.trouble) {
            return self.plan(arrives, client, Step::Decide { operation, answered: true, again });
        }
        let given_up = now + 3 * self.world.latency;
        match self.dice.below(5) {
            0 => {
                operation.outcome = Outcome::Error;
                return self.plan(arrives, client, Step::Answer(operation));
            }
            1 => {
                operation.outcome = Outcome::Error;
                return self.plan(arrives, client, Step::Decide { operation, answered: true, again });
            }
            2 => {}
            3 => self.plan(arrives, client, Step::Decide { operation: operation.clone(), answered: false, again }),
            _ => {
                let late = given_up + self.dice.between(0, SECOND);
                self.plan(late, client, Step::Decide { operation: operation.clone(), answered: false, again });
            }
        }
        self.plan(given_up, client, Step::Answer(operation));
    }

    /// A lease is renewed or released by the client that took it.
    fn choose(&mut self, client: u32) -> (u32, Kind) {
        let world = self.world;
        let subject = self.dice.below(world.subjects as usize) as u32;
        let cost = self.dice.between(1, world.largest_cost).cast_unsigned();
        if !self.dice.percent(world.leases) {
            return (subject, Kind::Check { cost, lease: None });
        }
        let own = &mut self.taken[client as usize];
        if own.len() > 4 {
            own.remove(0);
        }
        let ttl = self.dice.between(SECOND / 10, 2 * SECOND);
        if own.is_empty() || self.dice.percent(45) {
            self.next_lease += 1;
            let slot = if self.dice.percent(70) { Slot::Request } else { Slot::Websocket };
            let lease = Some(Lease { number: self.next_lease, slot, ttl });
            return (subject, Kind::Check { cost: if self.dice.percent(50) { cost } else { 0 }, lease });
        }
        let chosen = self.dice.below(own.len());
        let Taken { subject, lease, released } = &mut own[chosen];
        if !*released && self.dice.percent(40) {
            return (*subject, Kind::Renewal { lease: *lease, ttl });
        }
        // Now and then what is released already is released once more.
        *released = true;
        (*subject, Kind::Release { lease: *lease })
    }

    /// `None` where it is allowed, and is to be written later.
    fn decide(&mut self, operation: &Operation, now: Micros) -> Option<Outcome> {
        if self.world.outages {
            let away = now.rem_euclid(1_100 * MILLI) < 500 * MILLI;
            match (self.away, away) {
                (false, true) => self.limiter.lose_store(),
                (true, false) => self.limiter.find_store(),
                _ => {}
            }
            self.away = away;
        }
        let now = match self.world.bug {
            Some(Bug::LocalClock) if self.dice.percent(50) => now + 300 * MILLI,
            Some(Bug::LocalClock) => now - 300 * MILLI,
            _ => now,
        };
        let subject = operation.subject;
        Some(match operation.kind {
            Kind::Check { cost, lease } if self.world.bug == Some(Bug::GetThenIncr) => {
                return Some(self.limiter.look(subject, cost, lease, now))
                    .filter(|outcome| *outcome != Outcome::Allowed);
            }
            Kind::Check { cost, lease } => self.limiter.decide(subject, cost, lease, now),
            Kind::Renewal { lease, ttl } => self.limiter.renew(subject, lease, ttl, now),
            Kind::Release { lease } => self.limiter.release(subject, lease, now),
        })
    }
}
