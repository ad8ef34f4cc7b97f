//! Counters that were lost are raised to what they were, blocks are given back, and another server's counters are left alone.

use quotad::counters::redis::{Generation, GivenBack, Granted, RedisError};
use quotad::domain::block;
use quotad::domain::plan::PlannedLimit;
use quotad::domain::state::Slot;

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_123);

struct Kept {
    redis: RedisServer,
    line: Rc<Line>,
    counters: RedisCounters,
    id: BatchId,
}

impl Kept {
    async fn start() -> Self {
        let redis = RedisServer::start();
        let settings = settings_of(&redis);
        let line = Rc::new(line_to(&settings));
        let counters = RedisCounters::new(&settings, 0, Box::new(TimedLink { line: Rc::clone(&line) }));
        set_time(&line, NOW).await;
        Self { redis, line, counters, id: BatchId::first(1, 0, 0) }
    }

    fn next_id(&mut self) -> BatchId {
        self.id = self.id.next();
        self.id
    }

    /// The verdict, and the state that was met.
    async fn ask(&mut self, plan: &Arc<Plan>, units: u64) -> (Verdict, SubjectState) {
        let id = self.next_id();
        let (plan, mode) = (Arc::clone(plan), AskMode::Charge);
        let ask = Ask { plan, cost: Cost::of_units(units), mode, lease: None, identity: None };
        let batch = [SubjectBatch { subject: subject(0), asks: [ask].into_iter().collect() }];
        let outcome = self.counters.decide(id, None, &batch, NOW).await.expect("it is decided");
        match outcome.subjects.into_iter().next().expect("one subject") {
            SubjectOutcome::Decided { before, told } => (told[0].verdict, before),
            SubjectOutcome::Unreadable => panic!("nothing foreign stands there"),
        }
    }

    async fn used(&mut self, plan: &Arc<Plan>) -> Vec<u64> {
        let (_, state) = self.ask(plan, 0).await;
        used(&state, plan)
    }
}

fn used(state: &SubjectState, plan: &Plan) -> Vec<u64> {
    plan.limits.iter().map(|limit| decide::used(state, limit, NOW)).collect()
}

/// One limit of each algorithm.
fn plan() -> Arc<Plan> {
    let algorithms = [
        Algorithm::CalendarWindow(Window::Day),
        Algorithm::SlidingWindowLog { period: Period::from_seconds(60) },
        Algorithm::SlidingWindowCounter { period: Period::from_seconds(60) },
        Algorithm::TokenBucket { period: Period::from_seconds(86_400), burst: None },
    ];
    let limit = |(number, algorithm): (usize, Algorithm)| {
        let name = LimitName::parse(&format!("limit-{number}")).expect("a name");
        Limit { name, algorithm, requests: 1000, enforce: true }
    };
    let limits = algorithms.into_iter().enumerate().map(limit).collect();
    Arc::new(Plan::of_tier(&Tier { limits, ..Tier::hourly_and_daily(TierName::free(), 0, 0, 1) }))
}

/// A state of so many units.
fn charged(plan: &Plan, units: u64) -> Granted {
    let mut state = SubjectState::default();
    decide::charge(&mut state, plan, Cost::of_units(units), NOW);
    let limits: Vec<PlannedLimit> = plan.limits.to_vec();
    Granted { subject: subject(0), limits, state }
}

#[test]
fn counters_are_raised_to_what_they_were_and_never_lowered() {
    actix_web::rt::System::new().block_on(async {
        let (mut kept, plan) = (Kept::start().await, plan());
        kept.counters.raise(&[charged(&plan, 7)], NOW).await.expect("raised");
        assert_eq!(kept.used(&plan).await, [7; 4]);
        for units in [7, 3, 7] {
            kept.counters.raise(&[charged(&plan, units)], NOW).await.expect("raised");
            assert_eq!(kept.used(&plan).await, [7; 4], "{units} are no more than there are");
        }
        kept.counters.raise(&[charged(&plan, 10)], NOW).await.expect("raised");
        assert_eq!(kept.used(&plan).await, [10; 4]);
        assert_eq!(kept.ask(&plan, 5).await.0, Verdict::Charged);
        assert_eq!(kept.used(&plan).await, [15; 4], "it counts on from there");
        // What this instance saw of a server that has lost everything.
        let (_, seen) = kept.ask(&plan, 0).await;
        kept.redis.cli(&["FLUSHALL"]);
        set_time(&kept.line, NOW).await;
        let granted = Granted { subject: subject(0), limits: plan.limits.to_vec(), state: seen };
        kept.counters.raise(&[granted], NOW).await.expect("raised");
        assert_eq!(kept.used(&plan).await, [15; 4]);
    });
}

#[test]
fn what_is_left_of_a_block_goes_back_once_and_to_its_own_windows() {
    actix_web::rt::System::new().block_on(async {
        let mut kept = Kept::start().await;
        let plan = Arc::new(Plan::of_tier(&Tier::hourly_and_daily(TierName::free(), 1000, 10_000, 1)));
        let by = block::reserving(&plan, block::turn(NOW));
        assert_eq!(kept.ask(&by, 40).await.0, Verdict::Charged);
        let (_, state) = kept.ask(&plan, 0).await;
        assert_eq!((used(&state, &plan), block::reserved(&state, NOW)), (vec![40, 40], 40));
        let window = |slot: &Slot, units| (slot.id, slot.whole_at, units);
        let windows: Vec<_> =
            state.slots().iter().map(|slot| window(slot, if slot.id.raw() < 3 { 40 } else { 15 })).collect();
        let back = GivenBack { subject: subject(0), windows: windows.clone().into_iter().collect() };
        let id = kept.next_id();
        for _ in 0..3 {
            kept.counters.give_back(id, std::slice::from_ref(&back)).await.expect("given back");
            let (_, state) = kept.ask(&plan, 0).await;
            assert_eq!((used(&state, &plan), block::reserved(&state, NOW)), (vec![25, 25], 0));
        }
        let other =
            windows.into_iter().map(|(slot, ends, units)| (slot, ends.saturating_add(Period::from_seconds(1)), units));
        let other = GivenBack { subject: subject(0), windows: other.collect() };
        let (id, nobody) = (kept.next_id(), GivenBack { subject: subject(1), ..back });
        kept.counters.give_back(id, &[other, nobody]).await.expect("nothing to give back");
        assert_eq!(kept.used(&plan).await, [25, 25]);
    });
}

#[test]
fn a_batch_for_other_counters_does_nothing() {
    actix_web::rt::System::new().block_on(async {
        let (mut kept, plan) = (Kept::start().await, plan());
        assert_eq!(kept.counters.generation(None).await.expect("an answer"), None);
        let (first, second) = (Generation::new(7), Generation::new(8));
        assert_eq!(kept.counters.generation(first).await.expect("an answer"), first);
        assert_eq!(kept.counters.generation(second).await.expect("an answer"), first, "one that stands stays");
        let ask = |plan: &Arc<Plan>| {
            let (plan, mode) = (Arc::clone(plan), AskMode::Charge);
            let ask = Ask { plan, cost: Cost::of_units(1), mode, lease: None, identity: None };
            [SubjectBatch { subject: subject(0), asks: [ask].into_iter().collect() }]
        };
        for (asked, found) in [(second, first), (first, None)] {
            if found.is_none() {
                kept.redis.cli(&["FLUSHALL"]);
                set_time(&kept.line, NOW).await;
            }
            let id = kept.next_id();
            match kept.counters.decide(id, asked, &ask(&plan), NOW).await {
                Err(RedisError::OtherGeneration(stands)) => assert_eq!(stands, found),
                answer => panic!("{answer:?}"),
            }
            assert_eq!(kept.used(&plan).await, [0; 4], "nothing was charged");
        }
        let new = kept.counters.generation(second).await.expect("an answer");
        let id = kept.next_id();
        kept.counters.decide(id, new, &ask(&plan), NOW).await.expect("it is decided");
        assert_eq!(kept.used(&plan).await, [1; 4]);
    });
}
