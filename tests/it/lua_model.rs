//! The script that decides in a real Redis, against `domain::decide`: the same histories, the same verdicts, and the same
//! state to the microsecond. Time is set, by changing the one place where the scripts read it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quotad::counters::redis::{
    Ask, AskMode, BatchId, Link, LinkError, RedisCounters, SubjectBatch, SubjectOutcome, Verdict,
};
use quotad::domain::cost::{Cost, Items, Multiplier};
use quotad::domain::decide;
use quotad::domain::limit::{Limit, LimitName, Window};
use quotad::domain::plan::Plan;
use quotad::domain::state::SubjectState;
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::{Tier, TierName};
use quotad::domain::time::Timestamp;

use crate::support::redis_server::RedisServer;
use crate::support::settings_of;

#[cfg(feature = "actix-redis")]
type Line = quotad::counters::redis::ActixLink;
#[cfg(not(feature = "actix-redis"))]
type Line = quotad::counters::redis::RedisLink;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, LinkError>> + 'a>>;

/// A line whose server believes that it is `now`, and keeps every key for an hour of the real time.
#[derive(Debug)]
struct TimedLink {
    line: Rc<Line>,
}

impl Link for TimedLink {
    fn command<'a>(&'a self, parts: &'a [Vec<u8>]) -> Answer<'a> {
        Box::pin(async move {
            match parts[0].as_slice() {
                b"EVALSHA" => Err(LinkError::UnknownScript),
                b"EVAL" => {
                    let mut parts = parts.to_vec();
                    let text = String::from_utf8(parts[1].clone()).expect("a script is text");
                    let text = replaced(&text, "call('TIME')", "call('MGET', 'now:seconds', 'now:micros')");
                    let text = replaced(&text, "max(ceil((whole_at - now) / 1000), 1)", "3600000");
                    parts[1] = text.into_bytes();
                    self.line.command(&parts).await
                }
                _ => self.line.command(parts).await,
            }
        })
    }

    fn replace(&self) {}
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "the scripts read the time in one place: {from}");
    text.replace(from, to)
}

async fn set_time(line: &Line, now: Timestamp) {
    let (seconds, micros) = (now.floor_seconds(), now.as_micros().rem_euclid(1_000_000));
    let command = ["MSET", "now:seconds", &seconds.to_string(), "now:micros", &micros.to_string()];
    line.command(&command.map(|part| part.as_bytes().to_vec())).await.expect("the time is set");
}

#[derive(Debug, Clone)]
struct Step {
    /// Microseconds from the step before; back where negative.
    gap: i64,
    asks: Vec<(usize, usize, u64, AskMode)>,
}

fn a_plan() -> impl Strategy<Value = Plan> {
    let requests = prop_oneof![0..20_u64, Just(0), Just(1), Just(1_000_000_000_000)];
    let limit = |name: LimitName, window| {
        (requests.clone(), any::<bool>(), 0..4_u8).prop_map(move |(requests, enforce, stands)| {
            (stands > 0)
                .then(|| Limit { enforce: enforce || requests > 5, ..Limit::fixed(name.clone(), window, requests) })
        })
    };
    let limits = (
        limit(LimitName::hour(), Window::Hour),
        limit(LimitName::day(), Window::Day),
        limit(LimitName::parse("second-day").expect("a name"), Window::Day),
    );
    (limits, any::<bool>()).prop_map(|((a, b, c), reversed)| {
        let mut limits: Vec<Limit> = [a, b, c].into_iter().flatten().collect();
        if reversed {
            limits.reverse();
        }
        Plan::of_tier(&Tier { name: TierName::free(), limits, concurrent_requests: 1, concurrent_websockets: 1 })
    })
}

fn a_step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![
        4 => 0..3_i64,
        4 => 0..2_000_000_000_i64,
        2 => 0..7_200_000_000_i64,
        1 => 0..200_000_000_000_i64,
        1 => 0..100_000_000_000_000_i64,
        1 => -5_000_000_000..0_i64,
    ];
    let cost = prop_oneof![4 => 0..4_u64, 1 => 0..30_u64, 1 => Just(1_000_000_000_000)];
    let mode = prop_oneof![5 => Just(AskMode::Charge), 1 => Just(AskMode::Peek), 1 => Just(AskMode::Force)];
    let asks = proptest::collection::vec((0..4_usize, 0..3_usize, cost, mode), 1..10);
    (gap, asks).prop_map(|(gap, asks)| Step { gap, asks })
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

/// What the model says of an ask, and does.
fn model(state: &mut SubjectState, ask: &Ask, now: Timestamp) -> Verdict {
    let denied = ask.mode != AskMode::Force && !decide::violations(state, &ask.plan, ask.cost, now).is_empty();
    match (denied, ask.mode, ask.cost == Cost::ZERO || ask.plan.limits.is_empty()) {
        (true, _, _) => Verdict::Denied,
        (false, AskMode::Peek, _) | (false, _, true) => Verdict::Allowed,
        (false, _, false) => {
            decide::charge(state, &ask.plan, ask.cost, now);
            Verdict::Charged
        }
    }
}

async fn play(redis: &RedisServer, plans: &[Arc<Plan>], begun: i64, steps: &[Step]) -> Result<(), TestCaseError> {
    redis.cli(&["FLUSHALL"]);
    let settings = settings_of(redis);
    let line = Rc::new(Line::new(&settings));
    let counters = RedisCounters::new(&settings, Box::new(TimedLink { line: Rc::clone(&line) }));
    let mut states: HashMap<Subject, SubjectState> = HashMap::new();
    let mut id = BatchId::first(1, 0);
    let mut now = begun;
    for step in steps {
        now = (now + step.gap).max(0);
        let time = Timestamp::from_micros(now);
        set_time(&line, time).await;
        let mut batch: Vec<SubjectBatch> = Vec::new();
        for (who, plan, units, mode) in &step.asks {
            let ask = Ask { plan: Arc::clone(&plans[*plan]), cost: cost(*units), mode: *mode };
            match batch.iter_mut().find(|group| group.subject == subject(*who)) {
                Some(group) => group.asks.push(ask),
                None => batch.push(SubjectBatch { subject: subject(*who), asks: [ask].into_iter().collect() }),
            }
        }
        let outcome = counters.decide(id, &batch).await.expect("it is decided");
        id = id.next();
        prop_assert_eq!(outcome.now, time);
        for (group, outcome) in batch.iter().zip(outcome.subjects) {
            let SubjectOutcome::Decided { before, verdicts } = outcome else { panic!("unreadable") };
            let state = states.entry(group.subject.clone()).or_default();
            for plan in plans {
                prop_assert_eq!(decide::statuses(&before, plan, time), decide::statuses(state, plan, time));
            }
            for (ask, verdict) in group.asks.iter().zip(verdicts) {
                prop_assert_eq!(verdict, model(state, ask, time), "{:?}", ask);
            }
        }
    }
    Ok(())
}

#[test]
fn the_script_decides_as_the_rule_does() {
    let redis = RedisServer::start();
    let history = (
        proptest::collection::vec(a_plan().prop_map(Arc::new), 3),
        prop_oneof![Just(1_795_766_399_999_990_i64), 0..4_000_000_000_000_000_i64],
        proptest::collection::vec(a_step(), 1..25),
    );
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
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
        let counters = RedisCounters::new(&settings, Box::new(Line::new(&settings)));
        let plan = Arc::new(Plan::of_tier(&Tier::hourly_and_daily(TierName::free(), 1, 10, 1)));
        let ask = |plan: &Arc<Plan>| Ask { plan: Arc::clone(plan), cost: cost(1), mode: AskMode::Charge };
        let batch = [SubjectBatch { subject: subject(1), asks: [ask(&plan), ask(&plan)].into_iter().collect() }];
        let (withdrawn, ran) = (BatchId::first(1, 0), BatchId::first(1, 0).next());
        assert_eq!(counters.missed(withdrawn, &batch).await.expect("an answer"), None);
        counters.decide(withdrawn, &batch).await.expect_err("it was withdrawn");
        counters.decide(ran, &batch).await.expect("it runs");
        let found = counters.missed(ran, &batch).await.expect("an answer");
        assert_eq!(found, Some(vec![Verdict::Charged, Verdict::Denied]));
        counters.decide(ran, &batch).await.expect_err("it ran already");
    });
}
