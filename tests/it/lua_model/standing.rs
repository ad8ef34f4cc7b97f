//! Batches as most are: fixed windows alone, which the script decides by comparing where it can.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;

use quotad::counters::redis::{Link, LinkError};

use super::*;

/// Fixed windows, so many that some plans are compared and some not; the plans of a history share many.
fn plain_plan() -> impl Strategy<Value = Plan> {
    let requests = prop_oneof![4 => 0..40_u64, 4 => Just(1_000_000), 1 => Just(1_000_000_000_000)];
    let limit = (requests, prop_oneof![5 => Just(true), 1 => Just(false)]);
    let windows = proptest::sample::subsequence(vec![0, 1, 2, 3, 4, 5], 0..=6);
    (windows, proptest::collection::vec(limit, 6)).prop_map(|(windows, limits)| {
        let limits = windows.into_iter().zip(limits).map(|(which, (requests, enforce))| {
            let algorithm = match which {
                0 => Algorithm::CalendarWindow(Window::Hour),
                1 => Algorithm::CalendarWindow(Window::Day),
                2 => Algorithm::CalendarWindow(Window::Week),
                3 => Algorithm::CalendarWindow(Window::Month),
                seconds => Algorithm::FixedWindow { period: Period::from_seconds(seconds * 7) },
            };
            let name = LimitName::parse(&format!("limit-{which}")).expect("a name");
            Limit { name, algorithm, requests, enforce }
        });
        let tier = Tier::hourly_and_daily(TierName::free(), 0, 0, 0);
        Plan::of_tier(&Tier { limits: limits.collect(), ..tier })
    })
}

/// Most ask as most callers do.
fn plain_step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![20 => Just(AskMode::Charge), 1 => Just(AskMode::Peek), 1 => Just(AskMode::Force)];
    let units = prop_oneof![1 => Just(0_u64), 8 => 1..4_u64, 1 => Just(30), 1 => Just(1_000_000_000_000)];
    let plan = prop_oneof![4 => Just(0_usize), 1 => 1..3_usize];
    let question = (0..8_usize, plan, units, mode).prop_map(|(who, plan, units, mode)| {
        let kind = LeaseKind::Request;
        Question { who, plan, units, mode, slots: 0, kind, identity: None }
    });
    // Of the order of the shortest windows, so that what is expected often is of the window before or after.
    let skew = prop_oneof![2 => Just(None), 1 => (-40_000_000..40_000_000_i64).prop_map(Some)];
    let gap = prop_oneof![1 => Just(None), 2 => (0..20_000_000_i64).prop_map(Some)];
    (a_step(), gap, skew, proptest::collection::vec(question, 1..16)).prop_map(|(step, gap, skew, asks)| Step {
        gap: gap.unwrap_or(step.gap),
        skew: skew.unwrap_or(step.skew),
        asks,
        ..step
    })
}

#[test]
fn fixed_windows_are_decided_as_the_rule_does() {
    let redis = RedisServer::start();
    let history = (
        proptest::collection::vec(plain_plan().prop_map(Arc::new), 3),
        prop_oneof![Just(1_795_766_399_999_990_i64), 0..4_000_000_000_000_000_i64],
        proptest::collection::vec(plain_step(), 1..25),
    );
    let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&history, |(plans, begun, steps)| {
        actix_web::rt::System::new().block_on(play(&redis, &plans, begun, &steps))
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A line that can spoil what only decide.lua reads: whoever does not need it does not notice.
#[derive(Debug)]
struct Spoiling {
    line: Line,
    spoils: Rc<Cell<bool>>,
}

impl Link for Spoiling {
    fn command<'a>(
        &'a self,
        parts: &'a [Vec<u8>],
    ) -> Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, LinkError>> + 'a>> {
        Box::pin(async move {
            let mut parts = parts.to_vec();
            let keys: usize = String::from_utf8_lossy(&parts[2]).parse().expect("a number of keys");
            if self.spoils.get() {
                parts[4 + keys] = b"\xc1".to_vec();
            }
            self.line.command(&parts).await
        })
    }

    fn replace(&self) {}

    fn node(&self) -> String {
        self.line.node()
    }

    fn server(&self) -> u64 {
        self.line.server()
    }
}

#[test]
fn counters_that_stand_as_expected_are_decided_by_comparing() {
    let redis = RedisServer::start();
    actix_web::rt::System::new().block_on(async {
        let settings = settings_of(&redis);
        let spoils = Rc::new(Cell::new(false));
        let line = Spoiling { line: line_to(&settings), spoils: Rc::clone(&spoils) };
        let counters = RedisCounters::new(&settings, 0, Box::new(line));
        let limit = |window, requests| Limit {
            name: LimitName::parse(&format!("{window:?}").to_lowercase()).expect("a name"),
            algorithm: Algorithm::CalendarWindow(window),
            requests,
            enforce: true,
        };
        // Windows that are not over while the test runs, unless it begins a moment before a month does.
        let tier = Tier::hourly_and_daily(TierName::free(), 0, 0, 1);
        let plan = |limits| Arc::new(Plan::of_tier(&Tier { limits, ..tier.clone() }));
        let (few, more) =
            (plan(vec![limit(Window::Month, 8)]), plan(vec![limit(Window::Month, 9), limit(Window::Week, 7)]));
        let ask = |plan: &Arc<Plan>, units: u64| Ask {
            plan: Arc::clone(plan),
            cost: cost(units),
            mode: AskMode::Charge,
            lease: None,
            identity: None,
        };
        let asks = |who, asks: Vec<Ask>| SubjectBatch { subject: subject(who), asks: asks.into_iter().collect() };
        let now = || Timestamp::from(jiff::Timestamp::now());
        let mut id = BatchId::first(1, 0, 0);
        let mut decide = async |batch: Vec<SubjectBatch>| {
            id = id.next();
            counters.decide(id, None, &batch, now()).await.map(|outcome| {
                let told = |outcome| match outcome {
                    SubjectOutcome::Decided { told, .. } => told.into_iter().map(|told| told.verdict).collect(),
                    SubjectOutcome::Unreadable => Vec::new(),
                };
                outcome.subjects.into_iter().map(told).collect::<Vec<Vec<Verdict>>>()
            })
        };
        let (charged, allowed, denied) = (Verdict::Charged, Verdict::Allowed, Verdict::Denied);
        let one = |who| asks(who, vec![ask(&few, 1)]);
        let three = |units| asks(2, vec![ask(&more, units), ask(&more, 0), ask(&more, units)]);
        let all = vec![vec![charged], vec![charged, allowed, charged], vec![charged], vec![charged]];
        let decided = decide(vec![one(1), three(1), one(3), one(4)]).await;
        assert_eq!(decided.expect("there is nothing yet"), all);
        spoils.set(true);
        let decided = decide(vec![one(1), three(2), one(3), one(4)]).await;
        assert_eq!(decided.expect("they stand"), all);
        decide(vec![three(1)]).await.expect_err("there is no room for all");
        spoils.set(false);
        let decided = decide(vec![one(1), three(1), one(5)]).await;
        let some = vec![vec![charged], vec![charged, allowed, denied], vec![charged]];
        assert_eq!(decided.expect("the whole script is there"), some);
    });
}
