//! How often subjects are asked for, as far as it matters: in the running span, and in the one before.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::domain::block::{LIFE, Pace};
use crate::domain::cost::Cost;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// Subjects that are counted in one span; others are not busy.
const SUBJECTS: usize = 65_536;

type Span = HashMap<Subject, Pace, RandomState>;

/// How often each subject is asked for.
#[derive(Debug, Default)]
pub struct Paces {
    current: Span,
    previous: Span,
    /// When the running span ends.
    ends: Timestamp,
}

impl Paces {
    pub fn note(&mut self, subject: &Subject, cost: Cost, now: Timestamp) {
        if self.ends <= now {
            let is_next = now < self.ends.saturating_add(LIFE);
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
            if !is_next {
                self.previous.clear();
            }
            self.ends = LIFE.next_multiple(now);
        }
        let has_room = self.current.len() < SUBJECTS || self.current.contains_key(subject);
        if has_room {
            let pace = self.current.entry(subject.clone()).or_default();
            pace.checks = pace.checks.saturating_add(1);
            pace.units = pace.units.saturating_add(cost.units());
        }
    }

    /// How often it is asked for in a span.
    pub fn of(&self, subject: &Subject) -> Pace {
        let pace = |span: &Span| span.get(subject).copied().unwrap_or_default();
        let (current, previous) = (pace(&self.current), pace(&self.previous));
        Pace { checks: current.checks.max(previous.checks), units: current.units.max(previous.units) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::UserId;

    fn user(id: usize) -> Subject {
        Subject::User(UserId::parse(&id.to_string()).unwrap())
    }

    #[test]
    fn it_is_that_of_the_last_span_and_the_running_one() {
        let mut pace = Paces::default();
        let at = |spans: i64| Timestamp::from_micros(LIFE.as_micros() * (1_000_000 + spans));
        (0..5).for_each(|_| pace.note(&user(1), Cost::of_units(2), at(0)));
        assert_eq!(pace.of(&user(1)), Pace { checks: 5, units: 10 });
        pace.note(&user(1), Cost::of_units(1), at(1));
        assert_eq!(pace.of(&user(1)), Pace { checks: 5, units: 10 });
        pace.note(&user(2), Cost::of_units(1), at(2));
        assert_eq!((pace.of(&user(1)).checks, pace.of(&user(2)).checks), (1, 1));
        pace.note(&user(2), Cost::of_units(1), at(9));
        assert_eq!((pace.of(&user(1)).checks, pace.of(&user(2)).checks), (0, 1));
    }

    #[test]
    fn it_is_bounded() {
        let mut pace = Paces::default();
        (0..SUBJECTS + 10).for_each(|id| pace.note(&user(id), Cost::of_units(1), Timestamp::EPOCH));
        assert_eq!(pace.current.len(), SUBJECTS);
        assert_eq!(pace.of(&user(SUBJECTS + 5)), Pace::default());
    }
}
