//! What was granted without Redis is added to what it has, by the script as by the rule, and once.

use quotad::counters::redis::Granted;

use super::*;

/// Charges at some instants, in order: how long after the one before, and how much.
fn charges() -> impl Strategy<Value = Vec<(i64, u64)>> {
    let gap = prop_oneof![0..3_i64, 0..5_000_000_i64, 0..2_000_000_000_i64];
    proptest::collection::vec((gap, 1..20_u64), 0..8)
}

/// A plan, when it begins, what Redis has charged, what was granted alone after it, and how long after that it is told.
type History = (Plan, i64, Vec<(i64, u64)>, Vec<(i64, u64)>, i64);

/// A plan whose limits share neither slot nor log with another.
fn history() -> impl Strategy<Value = History> {
    let later = prop_oneof![0..3_i64, 0..60_000_000_i64, 0..7_200_000_000_i64];
    (a_plan(), 1_795_766_000_000_000..1_795_770_000_000_000_i64, charges(), charges(), later)
}

async fn add(redis: &RedisServer, question: History) -> Result<(), TestCaseError> {
    let (plan, mut now, before, alone, later) = question;
    redis.cli(&["FLUSHALL"]);
    let settings = settings_of(redis);
    let line = Rc::new(line_to(&settings));
    let counters = RedisCounters::new(&settings, 0, Box::new(TimedLink { line: Rc::clone(&line) }));
    let (plan, mut id) = (Arc::new(plan), BatchId::first(1, 0, 0));
    let ask = |units: u64, mode: AskMode| {
        let ask = Ask { plan: Arc::clone(&plan), cost: cost(units), mode, lease: None, identity: None };
        [SubjectBatch { subject: subject(1), asks: [ask].into_iter().collect() }]
    };
    let (mut known, mut granted) = (SubjectState::default(), SubjectState::default());
    for (gap, units) in before {
        now += gap;
        let time = Timestamp::from_micros(now);
        set_time(&line, time).await;
        counters.decide(id, None, &ask(units, AskMode::Force), time).await.expect("it is charged");
        id = id.next();
        decide::charge(&mut known, &plan, cost(units), time);
    }
    for (gap, units) in alone {
        now += gap;
        decide::charge(&mut granted, &plan, cost(units), Timestamp::from_micros(now));
    }
    let time = Timestamp::from_micros(now + later);
    set_time(&line, time).await;
    let owed = [Granted { subject: subject(1), limits: plan.limits.to_vec(), state: granted.clone() }];
    for _ in 0..2 {
        counters.add(id, &owed, time).await.expect("it is added");
    }
    plan.limits.iter().for_each(|limit| decide::add(&mut known, limit, &granted, time));
    let outcome = counters.decide(id.next(), None, &ask(0, AskMode::Peek), time).await.expect("an answer");
    let SubjectOutcome::Decided { before, .. } = &outcome.subjects[0] else { panic!("unreadable") };
    prop_assert_eq!(decide::statuses(before, &plan, time), decide::statuses(&known, &plan, time));
    Ok(())
}

#[test]
fn the_script_adds_as_the_rule_does_and_once() {
    let redis = RedisServer::start();
    let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&history(), |question| actix_web::rt::System::new().block_on(add(&redis, question)));
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
