//! Notices that a subject has used 80 or 100 % of an enforced limit, and tells it once a window.
//!
//! What is used may jump past a part: another instance has used it, or a block of it was taken. So it is asked whether a part is
//! reached, not whether it was passed just now, and remembered what was told. The memory is small, and may forget: the database
//! holds that each is told once.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use crate::domain::cost::Cost;
use crate::domain::decision::{Decision, LimitStatus, Source};
use crate::domain::event::{About, THRESHOLDS, Threshold};
use crate::domain::limit::SlotId;
use crate::domain::plan::{Plan, PlannedLimit};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::observability::outlet::Outlet;

/// What one shard remembers of what it has told. Where there is no more room, what has ended is forgotten, and then all.
const TOLD_MAX: usize = 16_384;

#[derive(Debug)]
pub struct Thresholds {
    outlet: Outlet,
    told: HashMap<(Subject, SlotId), Told, RandomState>,
}

/// The highest part that was told of a window.
#[derive(Debug, Clone, Copy)]
struct Told {
    percent: u64,
    window_end: Timestamp,
}

impl Thresholds {
    pub fn new(outlet: Outlet) -> Self {
        Self { outlet, told: HashMap::default() }
    }

    /// Looks at the limits of a decision that was no dry run. Most are far from any threshold, and cost a comparison each.
    pub fn look(&mut self, plan: &Plan, decision: &Decision) {
        // A denial that is remembered shows what was seen when it was proven.
        let is_stale = decision.source == Source::Cache && !decision.is_allowed();
        if decision.cost == Cost::ZERO || is_stale {
            return;
        }
        for status in decision.limits.iter().filter(|status| status.enforce) {
            let reached = THRESHOLDS.iter().rev().find(|percent| status.is_at(**percent));
            if let Some((reached, limit)) = reached.zip(plan.limit(&status.name)) {
                self.tell(*reached, limit, status, decision);
            }
        }
    }

    /// Tells each part up to `reached` that was not told in this window. What finds no room is told with the next check.
    fn tell(&mut self, reached: u64, limit: &PlannedLimit, status: &LimitStatus, decision: &Decision) {
        let at = decision.decided_at;
        let window_end = limit.window_end(status, at);
        let key = (decision.subject.clone(), limit.slot);
        let known = self.told.get(&key).filter(|told| told.window_end == window_end).map_or(0, |told| told.percent);
        for percent in THRESHOLDS.into_iter().filter(|percent| known < *percent && *percent <= reached) {
            let threshold = Threshold {
                subject: decision.subject.clone(),
                tier: decision.tier.clone(),
                limit: status.name.clone(),
                percent,
                requests: status.limit,
                used: status.used,
                window_end,
                source: decision.source,
            };
            if !self.outlet.tell(at, About::Threshold(Box::new(threshold))) {
                return;
            }
            self.make_room(at);
            self.told.insert(key.clone(), Told { percent, window_end });
        }
    }

    fn make_room(&mut self, now: Timestamp) {
        if self.told.len() >= TOLD_MAX {
            self.told.retain(|_, told| now < told.window_end);
            // Were it nearly full still, the next would look at all of them again.
            if self.told.len() > TOLD_MAX / 2 {
                self.told.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::Clock;
    use crate::domain::decide;
    use crate::domain::decision::Violation;
    use crate::domain::event::Event;
    use crate::domain::limit::{Limit, LimitName};
    use crate::domain::state::SubjectState;
    use crate::domain::subject::UserId;
    use crate::domain::tier::{Tier, TierName};
    use crate::observability::metrics::Metrics;

    const NOON: Timestamp = Timestamp::from_seconds(1_795_780_800);

    struct Scene {
        thresholds: Thresholds,
        events: mpsc::Receiver<Event>,
        plan: Plan,
        state: SubjectState,
    }

    impl Scene {
        /// A limit of ten, written as in a tier.
        fn new(limit: &str, room: usize) -> Self {
            let (events, inbox) = mpsc::channel(room);
            let outlet = Outlet::new(events, Clock::manual(NOON), Arc::new(Metrics::new().unwrap()));
            let limit: Limit = serde_json::from_str(limit).unwrap();
            let tier = Tier { limits: vec![limit], ..Tier::hourly_and_daily(TierName::free(), 1, 1, 1) };
            let (plan, state) = (Plan::of_tier(&tier), SubjectState::default());
            Self { thresholds: Thresholds::new(outlet), events: inbox, plan, state }
        }

        fn fixed() -> Self {
            Self::new(r#"{"name": "hour", "algorithm": "fixed_window", "window": "hour", "requests": 10}"#, 100)
        }

        fn decision(&self, user: &str, cost: u64, now: Timestamp) -> Decision {
            Decision {
                subject: Subject::User(UserId::parse(user).unwrap()),
                tier: TierName::free(),
                cost: Cost::of_units(cost),
                limits: decide::statuses(&self.state, &self.plan, now),
                violations: Vec::new(),
                source: Source::Memory,
                decided_at: now,
                slots: None,
                explanation: None,
                repeated: false,
            }
        }

        /// Charges so much, and looks at what came of it: the parts that were told, and of which window.
        fn charge(&mut self, units: u64, now: Timestamp) -> Vec<(u64, Timestamp)> {
            decide::charge(&mut self.state, &self.plan, Cost::of_units(units), now);
            let decision = self.decision("u", units, now);
            self.thresholds.look(&self.plan, &decision);
            self.told()
        }

        fn told(&mut self) -> Vec<(u64, Timestamp)> {
            let told = std::iter::from_fn(|| self.events.try_recv().ok());
            told.map(|event| match event.about {
                About::Threshold(told) => (told.percent, told.window_end),
                about => panic!("{about:?}"),
            })
            .collect()
        }
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(NOON.floor_seconds() + seconds)
    }

    #[test]
    fn each_part_is_told_once_a_window() {
        let mut scene = Scene::fixed();
        assert_eq!(scene.charge(7, after(1)), []);
        assert_eq!(scene.charge(1, after(2)), [(80, after(3600))]);
        assert_eq!(scene.charge(1, after(3)), []);
        assert_eq!(scene.charge(1, after(4)), [(100, after(3600))]);
        assert_eq!(scene.charge(1, after(5)), []);
        assert_eq!(scene.charge(10, after(3600)), [(80, after(7200)), (100, after(7200))], "a jump tells both");
    }

    #[test]
    fn what_slides_or_fills_is_told_once_a_period_of_the_clock() {
        for algorithm in ["sliding_window_log", "sliding_window_counter", "token_bucket"] {
            let limit = format!(r#"{{"name": "m", "algorithm": "{algorithm}", "period_seconds": 60, "requests": 10}}"#);
            let mut scene = Scene::new(&limit, 100);
            assert_eq!(scene.charge(9, after(50)), [(80, after(60))], "{algorithm}");
            assert_eq!(scene.charge(0, after(51)), [], "{algorithm}: what costs nothing changes nothing");
            let next = scene.charge(4, after(61));
            assert_eq!(next.first(), Some(&(80, after(120))), "{algorithm}");
        }
    }

    #[test]
    fn what_is_not_enforced_or_not_seen_just_now_is_not_told() {
        let text =
            r#"{"name": "hour", "algorithm": "fixed_window", "window": "hour", "requests": 10, "enforce": false}"#;
        assert_eq!(Scene::new(text, 100).charge(10, NOON), []);
        let mut scene = Scene::fixed();
        decide::charge(&mut scene.state, &scene.plan, Cost::of_units(10), NOON);
        let violations = vec![Violation { limit: LimitName::hour(), room_at: None }];
        let denied = Decision { violations, ..scene.decision("u", 1, NOON) };
        scene.thresholds.look(&scene.plan, &Decision { source: Source::Cache, ..denied.clone() });
        assert_eq!(scene.told(), []);
        scene.thresholds.look(&scene.plan, &denied);
        assert_eq!(scene.told(), [(80, after(3600)), (100, after(3600))], "others have used it up");
    }

    #[test]
    fn what_finds_no_room_is_told_with_the_next_check() {
        let text = r#"{"name": "hour", "algorithm": "fixed_window", "window": "hour", "requests": 10}"#;
        let mut scene = Scene::new(text, 1);
        assert_eq!(scene.charge(10, after(1)), [(80, after(3600))]);
        assert_eq!(scene.charge(1, after(2)), [(100, after(3600))]);
        assert_eq!(scene.charge(1, after(3)), []);
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let mut scene = Scene::fixed();
        decide::charge(&mut scene.state, &scene.plan, Cost::of_units(9), NOON);
        for number in 0..3 * TOLD_MAX {
            let decision = scene.decision(&number.to_string(), 1, NOON);
            scene.thresholds.look(&scene.plan, &decision);
            assert_eq!(scene.told().len(), 1);
            assert!(scene.thresholds.told.len() <= TOLD_MAX);
        }
    }
}
