//! The scripts in a real Redis, against `domain::decide`: the same histories, the same verdicts, and the same state to the
//! microsecond.

mod adding;
mod events;
mod keeping;
mod standing;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quotad::counters::redis::{
    Ask, AskIdentity, AskMode, BatchId, Generation, Keys, RedisCounters, RedisError, SubjectBatch, SubjectOutcome,
    Told, Verdict,
};
use quotad::domain::concurrency::{self, InUse};
use quotad::domain::cost::{Cost, Items, Multiplier};
use quotad::domain::decide;
use quotad::domain::decision::{LimitStatus, Violation};
use quotad::domain::lease::{Lease, LeaseAsk, LeaseKind, LeaseWish};
use quotad::domain::limit::{Algorithm, Limit, LimitName, Window};
use quotad::domain::plan::{Plan, PlannedLimit, Rule};
use quotad::domain::state::SubjectState;
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::{Tier, TierName};
use quotad::domain::time::{Period, Timestamp};

use self::events::{Event, an_event, happen};
use crate::support::redis_server::RedisServer;
use crate::support::settings_of;
use crate::support::timed_link::{Line, TimedLink, line_to, set_time};

#[derive(Debug, Clone)]
struct Step {
    /// Microseconds from the step before; back where negative.
    gap: i64,
    /// How far the clock of who asks is ahead of Redis'.
    skew: i64,
    event: Option<Event>,
    asks: Vec<Question>,
}

#[derive(Debug, Clone)]
struct Question {
    who: usize,
    plan: usize,
    units: u64,
    mode: AskMode,
    /// What is wished of slots of which kind: nothing, one for so many seconds, a look, a count.
    slots: u8,
    kind: LeaseKind,
    identity: Option<u8>,
}

/// One of a few limits of each algorithm, so that the plans of a history share slots with other numbers.
fn a_limit() -> impl Strategy<Value = Limit> {
    let requests = prop_oneof![4 => 0..20_u64, 1 => Just(0), 1 => Just(10_000)];
    let burst = prop_oneof![Just(None), (1..30_u64).prop_map(Some), Just(Some(1_000_000_000_000))];
    (0..10_u8, requests, burst, any::<bool>()).prop_map(|(which, requests, burst, enforce)| {
        let period = |seconds| Period::from_seconds(seconds);
        let algorithm = match which {
            0 => Algorithm::CalendarWindow(Window::Hour),
            1 => Algorithm::CalendarWindow(Window::Day),
            2 => Algorithm::CalendarWindow(Window::Month),
            3 => Algorithm::FixedWindow { period: period(7) },
            4 => Algorithm::SlidingWindowLog { period: period(10) },
            5 => Algorithm::SlidingWindowLog { period: period(3600) },
            6 => Algorithm::SlidingWindowCounter { period: period(60) },
            7 => Algorithm::SlidingWindowCounter { period: period(31_622_400) },
            8 => Algorithm::TokenBucket { period: period(60), burst: burst.filter(|_| requests > 0) },
            _ => Algorithm::TokenBucket { period: period(31_622_400), burst: burst.filter(|_| requests > 0) },
        };
        let name = LimitName::parse(&format!("limit-{which}")).expect("a name");
        let most = if which == 6 { requests.saturating_mul(100_000_000) } else { requests };
        Limit { name, algorithm, requests: most, enforce: enforce || requests > 5 }
    })
}

fn a_plan() -> impl Strategy<Value = Plan> {
    let limits = proptest::collection::vec(a_limit(), 0..5);
    (limits, 0..4_u64, 0..3_u64).prop_map(|(mut limits, requests, websockets)| {
        let mut known = Vec::new();
        limits.retain(|limit| {
            !known.contains(&limit.name) && {
                known.push(limit.name.clone());
                true
            }
        });
        Plan::of_tier(&Tier {
            limits,
            concurrent_requests: requests,
            concurrent_websockets: websockets,
            ..Tier::hourly_and_daily(TierName::free(), 0, 0, 0)
        })
    })
}

fn a_question() -> impl Strategy<Value = Question> {
    let units = prop_oneof![6 => 0..4_u64, 2 => 0..30_u64, 1 => Just(9_999), 1 => Just(1_000_000_000_000)];
    let mode = prop_oneof![5 => Just(AskMode::Charge), 1 => Just(AskMode::Peek), 1 => Just(AskMode::Force)];
    let slots = prop_oneof![4 => Just(0_u8), 2 => Just(1), 1 => Just(2), 1 => Just(3)];
    let kind = prop_oneof![Just(LeaseKind::Request), Just(LeaseKind::Websocket)];
    let identity = prop_oneof![8 => Just(None), 1 => (0..3_u8).prop_map(Some)];
    (0..4_usize, 0..3_usize, units, mode, slots, kind, identity).prop_map(
        |(who, plan, units, mode, slots, kind, identity)| Question { who, plan, units, mode, slots, kind, identity },
    )
}

fn a_step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![
        4 => 0..3_i64,
        4 => 0..5_000_000_i64,
        4 => 0..2_000_000_000_i64,
        2 => 0..7_200_000_000_i64,
        1 => 0..200_000_000_000_i64,
        1 => 0..100_000_000_000_000_i64,
        1 => -5_000_000_000..0_i64,
        1 => -5_000_000..0_i64,
    ];
    let skew = prop_oneof![6 => Just(0_i64), 2 => -2_000_000..2_000_000_i64, 1 => -3_600_000_000..3_600_000_000_i64];
    let event = prop_oneof![9 => Just(None), 1 => an_event().prop_map(Some)];
    let asks = proptest::collection::vec(a_question(), 1..10);
    (gap, skew, event, asks).prop_map(|(gap, skew, event, asks)| Step { gap, skew, event, asks })
}

fn cost(units: u64) -> Cost {
    match units {
        0 => Cost::ZERO,
        _ if units <= Items::MAX => Multiplier::ONE.times(Items::new(units).expect("in range")),
        _ => Multiplier::new(units / Items::MAX).expect("in range").times(Items::new(Items::MAX).expect("in range")),
    }
}

fn subject(number: usize) -> Subject {
    Subject::User(UserId::parse(&format!("user-{number}")).expect("an id"))
}

/// What is known of a subject by the rule.
#[derive(Default)]
struct Model {
    state: SubjectState,
    /// When checks with an identity were decided, and what their limits were then.
    remembered: HashMap<String, (Timestamp, Vec<LimitStatus>)>,
    /// Whether something else stands in the place of the counters.
    foreign: bool,
}

/// What came of an ask by the rule: the verdict, what was violated, and the slots held then.
fn model(model: &mut Model, ask: &Ask, now: Timestamp) -> (Verdict, Vec<Violation>, Option<InUse>) {
    let Model { state, remembered, .. } = model;
    let slots = ask.lease.map(|lease| (lease, concurrency::in_use(state, lease.kind, ask.plan.slots(lease.kind), now)));
    let in_use = slots.map(|(_, in_use)| in_use);
    if let Some(identity) = ask.identity.as_ref().filter(|known| remembered.contains_key(&known.request_id)) {
        let _ = identity;
        return (Verdict::Repeated, Vec::new(), in_use);
    }
    let mut violated = Vec::new();
    if ask.mode != AskMode::Force {
        violated = decide::violations(state, &ask.plan, ask.cost, now);
        let asked = slots.filter(|(lease, _)| lease.wish != LeaseWish::Count);
        violated.extend(asked.and_then(|(lease, in_use)| in_use.violation(lease.kind, &ask.plan)));
    }
    if !violated.is_empty() {
        return (Verdict::Denied, violated, in_use);
    }
    if ask.mode == AskMode::Peek {
        return (Verdict::Allowed, violated, in_use);
    }
    let charges = ask.cost != Cost::ZERO && !ask.plan.limits.is_empty();
    decide::charge(state, &ask.plan, ask.cost, now);
    if let Some(identity) = &ask.identity {
        remembered.insert(identity.request_id.clone(), (now, decide::statuses(state, &ask.plan, now)));
    }
    let taken = ask.lease.and_then(|lease| Some((lease.kind, lease.taken()?)));
    if let Some((kind, (secret, lasts))) = taken {
        concurrency::take(state, Lease { kind, secret, expires_at: now.saturating_add(lasts) }, now);
        let held = in_use.map(|known| InUse { held: known.held + 1, ..known });
        return (Verdict::Charged, violated, held);
    }
    (if charges { Verdict::Charged } else { Verdict::Allowed }, violated, in_use)
}

/// What was violated, as it is told: from the state that the ask met, with the logs' rooms that Redis knows.
fn violations_told(state: &SubjectState, ask: &Ask, told: &Told, now: Timestamp) -> Vec<Violation> {
    let mut violations = decide::violations(state, &ask.plan, ask.cost, now);
    for Violation { limit, room_at } in &mut violations {
        let slot = ask.plan.limit(limit).map(|limit| limit.slot);
        if let Some((_, room)) = told.log_rooms.iter().find(|(log, _)| Some(*log) == slot) {
            *room_at = Some(*room);
        }
    }
    let asked = ask.lease.filter(|lease| lease.wish != LeaseWish::Count).zip(told.in_use);
    violations.extend(asked.and_then(|(lease, in_use)| in_use.violation(lease.kind, &ask.plan)));
    violations
}

fn ask(question: &Question, plans: &[Arc<Plan>], secret: u128) -> Ask {
    let wish = match question.slots {
        0 => None,
        1 => Some(LeaseWish::Take { secret, lasts: Period::from_seconds(question.units.min(3600) + 1) }),
        2 => Some(LeaseWish::Look),
        _ => Some(LeaseWish::Count),
    };
    let ask = LeaseAsk { kind: question.kind, wish: wish.unwrap_or(LeaseWish::Count) };
    let ask = if question.mode == AskMode::Peek { ask.without_trace() } else { ask };
    let memo = secret.to_be_bytes().to_vec();
    Ask {
        plan: Arc::clone(&plans[question.plan]),
        cost: cost(question.units),
        mode: question.mode,
        lease: wish.map(|_| ask),
        identity: question.identity.map(|id| AskIdentity { request_id: format!("id:{id}"), memo }),
    }
}

async fn play(redis: &RedisServer, plans: &[Arc<Plan>], begun: i64, steps: &[Step]) -> Result<(), TestCaseError> {
    redis.cli(&["FLUSHALL"]);
    let settings = settings_of(redis);
    let line = Rc::new(line_to(&settings));
    let counters = RedisCounters::new(&settings, 0, Box::new(TimedLink { line: Rc::clone(&line) }));
    let mut models: HashMap<Subject, Model> = HashMap::new();
    let mut id = BatchId::first(1, 0, 0);
    let (mut now, mut secret) = (begun, 0_u128);
    for step in steps {
        now = (now + step.gap).max(0);
        let time = Timestamp::from_micros(now);
        set_time(&line, time).await;
        if let Some(event) = &step.event {
            happen(event, (&line, &counters, id), plans, &mut models, time).await;
        }
        let mut batch: Vec<SubjectBatch> = Vec::new();
        for question in &step.asks {
            secret += 1;
            let ask = ask(question, plans, secret);
            match batch.iter_mut().find(|group| group.subject == subject(question.who)) {
                Some(group) => group.asks.push(ask),
                None => batch.push(SubjectBatch { subject: subject(question.who), asks: [ask].into_iter().collect() }),
            }
        }
        let outcome = counters
            .decide(id, None, &batch, Timestamp::from_micros((now + step.skew).max(0)))
            .await
            .expect("it is decided");
        id = id.next();
        prop_assert_eq!(outcome.now, time);
        for (group, outcome) in batch.iter().zip(outcome.subjects) {
            let known = models.entry(group.subject.clone()).or_default();
            prop_assert_eq!(std::mem::take(&mut known.foreign), outcome == SubjectOutcome::Unreadable);
            let SubjectOutcome::Decided { before: mut seen, told } = outcome else { continue };
            for (ask, told) in group.asks.iter().zip(told) {
                // Of a log that no check of the batch asks about, only what it ever held is told.
                let asked = |plan: &&Arc<Plan>| {
                    let logs = plan.limits.iter().filter(|limit| matches!(limit.rule, Rule::SlidingLog(_)));
                    let known = || group.asks.iter().flat_map(|ask| &ask.plan.limits).map(|limit| limit.slot);
                    logs.map(|limit| limit.slot).all(|slot| known().any(|known| known == slot))
                };
                for plan in plans.iter().filter(asked) {
                    prop_assert_eq!(decide::statuses(&seen, plan, time), decide::statuses(&known.state, plan, time));
                }
                let (verdict, violated, in_use) = model(known, ask, time);
                prop_assert_eq!(told.verdict, verdict, "{:?}", ask);
                prop_assert_eq!(told.in_use, in_use, "{:?}", ask);
                match verdict {
                    Verdict::Denied => prop_assert_eq!(violations_told(&seen, ask, &told, time), violated),
                    Verdict::Charged => decide::charge(&mut seen, &ask.plan, ask.cost, time),
                    Verdict::Allowed => {}
                    Verdict::Repeated => {
                        let remembered = told.remembered.expect("what is remembered");
                        let first_plan = plans.iter().find(|plan| {
                            let mut state = remembered.before.clone();
                            let secret = u128::from_be_bytes(remembered.memo.clone().try_into().expect("16 bytes"));
                            let question = &steps.iter().flat_map(|step| &step.asks).nth(secret as usize - 1);
                            let question = question.expect("an earlier question");
                            decide::charge(&mut state, plan, cost(question.units), remembered.now);
                            let id = &ask.identity.as_ref().expect("an identity").request_id;
                            known.remembered[id] == (remembered.now, decide::statuses(&state, plan, remembered.now))
                        });
                        prop_assert!(first_plan.is_some(), "the first answer can be put together again");
                    }
                }
            }
        }
    }
    Ok(())
}

/// Histories; more on request.
fn cases() -> u32 {
    std::env::var("QUOTAD_TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

#[test]
fn the_script_decides_as_the_rule_does() {
    let redis = RedisServer::start();
    let history = (
        proptest::collection::vec(a_plan().prop_map(Arc::new), 3),
        prop_oneof![Just(1_795_766_399_999_990_i64), 0..4_000_000_000_000_000_i64],
        proptest::collection::vec(a_step(), 1..25),
    );
    let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&history, |(plans, begun, steps)| {
        actix_web::rt::System::new().block_on(play(&redis, &plans, begun, &steps))
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A batch that is withdrawn does not run, and one that ran says so: whichever comes first at the server.
#[test]
fn a_batch_runs_or_is_withdrawn() {
    let redis = RedisServer::start();
    actix_web::rt::System::new().block_on(async {
        let settings = settings_of(&redis);
        let counters = RedisCounters::new(&settings, 0, Box::new(line_to(&settings)));
        let plan = Arc::new(Plan::of_tier(&Tier::hourly_and_daily(TierName::free(), 1, 10, 1)));
        let ask = |plan: &Arc<Plan>| Ask {
            plan: Arc::clone(plan),
            cost: cost(1),
            mode: AskMode::Charge,
            lease: None,
            identity: None,
        };
        let batch = [SubjectBatch { subject: subject(1), asks: [ask(&plan), ask(&plan)].into_iter().collect() }];
        let (withdrawn, ran) = (BatchId::first(1, 0, 0), BatchId::first(1, 0, 0).next());
        assert_eq!(counters.missed(withdrawn).await.expect("an answer"), None);
        counters.decide(withdrawn, None, &batch, Timestamp::EPOCH).await.expect_err("it was withdrawn");
        counters.decide(ran, None, &batch, Timestamp::EPOCH).await.expect("it runs");
        let found = counters.missed(ran).await.expect("an answer");
        assert_eq!(found, Some(vec![Verdict::Charged, Verdict::Denied]));
        counters.decide(ran, None, &batch, Timestamp::EPOCH).await.expect_err("it ran already");
        // The next batch that is marked under the same key keeps the key's expiry.
        let later = (0..64).fold(ran, |id, _| id.next());
        let batch = [SubjectBatch { subject: subject(2), asks: [ask(&plan)].into_iter().collect() }];
        counters.decide(later, None, &batch, Timestamp::EPOCH).await.expect("it runs");
        assert_eq!(counters.missed(later).await.expect("an answer"), Some(vec![Verdict::Charged]));
        counters.decide(ran, None, &batch, Timestamp::EPOCH).await.expect_err("a later one ran");
        let marker = String::from_utf8(Keys::new("quotad", 0).marker(later)).expect("text");
        let seconds: u64 = redis.cli(&["TTL", &marker]).parse().expect("it expires");
        assert!(seconds > 7200, "{seconds}");
    });
}

/// Counters that are not those that were asked for are left alone.
#[test]
fn a_batch_of_another_generation_does_nothing() {
    let redis = RedisServer::start();
    actix_web::rt::System::new().block_on(async {
        let settings = settings_of(&redis);
        let counters = RedisCounters::new(&settings, 0, Box::new(line_to(&settings)));
        let plan = Arc::new(Plan::of_tier(&Tier::hourly_and_daily(TierName::free(), 1, 10, 1)));
        let ask = Ask { plan, cost: cost(1), mode: AskMode::Charge, lease: None, identity: None };
        let batch = [SubjectBatch { subject: subject(1), asks: [ask].into_iter().collect() }];
        let (these, others) = (Generation::new(7), Generation::new(8));
        let mut id = BatchId::first(1, 0, 0);
        let mut decide = async |generation| {
            id = id.next();
            counters.decide(id, generation, &batch, Timestamp::EPOCH).await
        };
        for stands in [None, these] {
            assert_eq!(counters.generation(stands).await.expect("an answer"), stands);
            let refusal = decide(others).await.expect_err("others stand there");
            assert!(matches!(refusal, RedisError::OtherGeneration(found) if found == stands), "{refusal:?}");
        }
        let SubjectOutcome::Decided { told, .. } = &decide(these).await.expect("these").subjects[0] else { panic!() };
        assert_eq!(told[0].verdict, Verdict::Charged);
    });
}
