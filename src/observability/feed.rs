//! What happens, for those who watch: decisions, counted and sampled, and changes of state.
//!
//! While nobody watches a decision costs one look at a number. A shard gathers what it saw by itself and tells it ten times a
//! second; no shard ever waits for a watcher, and one who reads too slowly loses events and is told how many.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::domain::decision::{Decision, Source};
use crate::domain::tier::TierName;

/// How many may watch at once.
pub const WATCHERS_MAX: usize = 32;

/// Decisions shown in a second, of all shards together. Allowed ones are no more than half of it, so that denials are seen.
pub const SHOWN_A_SECOND: usize = 50;
const ALLOWED_A_SECOND: usize = SHOWN_A_SECOND / 2;

/// Events that wait for the slowest watcher; older ones are lost to it.
const WAITING_MAX: usize = 512;

/// An event in the form of a stream of server-sent events.
pub type Event = Arc<str>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    #[error("as many watch as may")]
    Full,
    #[error("the service is stopping")]
    Closed,
}

/// What is told to all who watch.
#[derive(Debug)]
pub struct Feed {
    watchers: AtomicUsize,
    /// `None` when the service stops.
    events: Mutex<Option<broadcast::Sender<Event>>>,
    second: Mutex<Second>,
}

/// One who watches. The place is free again when it is dropped.
#[derive(Debug)]
pub struct Watching {
    feed: Arc<Feed>,
    events: broadcast::Receiver<Event>,
}

/// Checks, and what the allowed ones of them were charged, by tier, by source, and by whether they were allowed.
type Tallies = BTreeMap<(TierName, &'static str, bool), (u64, u64)>;

/// The running second.
#[derive(Debug, Default)]
struct Second {
    tallies: Tallies,
    allowed_shown: usize,
    shown: usize,
}

/// What one shard has seen since it last told. It has room for no more decisions than may be shown.
#[derive(Debug, Default)]
pub struct Seen {
    tallies: Tallies,
    allowed: Vec<Event>,
    denied: Vec<Event>,
}

impl Default for Feed {
    fn default() -> Self {
        let events = Mutex::new(Some(broadcast::Sender::new(WAITING_MAX)));
        Self { watchers: AtomicUsize::new(0), events, second: Mutex::default() }
    }
}

impl Feed {
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// Takes a place among the watchers.
    pub fn watch(self: &Arc<Self>) -> Result<Watching, WatchError> {
        let events = lock(&self.events).as_ref().map(broadcast::Sender::subscribe).ok_or(WatchError::Closed)?;
        let take = |watchers: usize| (watchers < WATCHERS_MAX).then(|| watchers.saturating_add(1));
        let before = self.watchers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if before.map_err(|_| WatchError::Full)? == 0 {
            *lock(&self.second) = Second::default();
        }
        Ok(Watching { feed: Arc::clone(self), events })
    }

    /// Tells what a shard has seen, and empties it.
    pub fn take(&self, seen: &mut Seen) {
        if seen.tallies.is_empty() {
            return;
        }
        let Seen { tallies, allowed, denied } = std::mem::take(seen);
        if !self.is_watched() {
            return;
        }
        let mut second = lock(&self.second);
        for (key, (checks, cost)) in tallies {
            second.count(key, checks, cost);
        }
        let denied: Vec<Event> = denied.into_iter().take(SHOWN_A_SECOND.saturating_sub(second.shown)).collect();
        second.shown = second.shown.saturating_add(denied.len());
        let room = ALLOWED_A_SECOND.saturating_sub(second.allowed_shown);
        let room = room.min(SHOWN_A_SECOND.saturating_sub(second.shown));
        let allowed: Vec<Event> = allowed.into_iter().take(room).collect();
        second.allowed_shown = second.allowed_shown.saturating_add(allowed.len());
        second.shown = second.shown.saturating_add(allowed.len());
        drop(second);
        denied.into_iter().chain(allowed).for_each(|event| self.send(event));
    }

    /// A second has passed: tells all decisions of it, and begins another. Nothing is told where there was none.
    pub fn turn(&self) {
        if !self.is_watched() {
            return;
        }
        let Second { tallies, shown, .. } = std::mem::take(&mut *lock(&self.second));
        if tallies.is_empty() {
            return;
        }
        let decisions: Vec<Value> = tallies
            .into_iter()
            .map(|((tier, source, allowed), (checks, cost))| {
                json!({ "tier": tier, "source": source, "allowed": allowed, "checks": checks, "cost": cost })
            })
            .collect();
        self.send(event("summary", &json!({ "decisions": decisions, "shown": shown })));
    }

    /// Tells a change of state.
    pub fn tell(&self, name: &str, about: &Value) {
        if self.is_watched() {
            self.send(event(name, about));
        }
    }

    /// Ends for all who watch, and nobody may watch any more.
    pub fn close(&self) {
        lock(&self.events).take();
    }

    fn send(&self, event: Event) {
        if let Some(events) = lock(&self.events).as_ref() {
            // The last watcher may have left just now.
            events.send(event).ok();
        }
    }
}

impl Watching {
    /// The next event; `None` when the service stops.
    pub async fn next(&mut self) -> Option<Event> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(events)) => Some(event("lost", &json!({ "events": events }))),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.feed.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Second {
    fn count(&mut self, key: (TierName, &'static str, bool), checks: u64, cost: u64) {
        let (all_checks, all_cost) = self.tallies.entry(key).or_default();
        (*all_checks, *all_cost) = (all_checks.saturating_add(checks), all_cost.saturating_add(cost));
    }
}

impl Seen {
    pub fn note(&mut self, decision: &Decision) {
        let allowed = decision.is_allowed();
        let key = (decision.tier.clone(), Source::as_str(decision.source), allowed);
        let (checks, cost) = self.tallies.entry(key).or_default();
        *checks = checks.saturating_add(1);
        if allowed {
            *cost = cost.saturating_add(decision.cost.units());
        }
        let (shown, room) =
            if allowed { (&mut self.allowed, ALLOWED_A_SECOND) } else { (&mut self.denied, SHOWN_A_SECOND) };
        if shown.len() < room {
            shown.push(event("decision", &view(decision)));
        }
    }
}

fn view(decision: &Decision) -> Value {
    json!({
        "at": decision.decided_at,
        "subject": decision.subject.to_string(),
        "tier": decision.tier,
        "allowed": decision.is_allowed(),
        "cost": decision.cost.units(),
        "denied_by": decision.denied_by().map(|denial| denial.limit.as_str()),
        "retry_after": decision.retry_after_seconds(),
        "source": decision.source.as_str(),
    })
}

/// JSON has no line breaks of its own, so one line of data is enough.
pub fn event(name: &str, about: &Value) -> Event {
    format!("event: {name}\ndata: {about}\n\n").into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left at worst a second's numbers behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::cost::{Items, Multiplier};
    use crate::domain::decision::Violation;
    use crate::domain::limit::LimitName;
    use crate::domain::subject::{Subject, UserId};
    use crate::domain::time::Timestamp;

    fn decision(allowed: bool) -> Decision {
        let denial = Violation { limit: LimitName::hour(), room_at: Some(Timestamp::from_seconds(12)) };
        Decision {
            subject: Subject::User(UserId::parse("a").unwrap()),
            tier: TierName::free(),
            cost: Multiplier::ONE.times(Items::ONE),
            limits: Vec::new(),
            violations: if allowed { Vec::new() } else { vec![denial] },
            source: Source::Memory,
            decided_at: Timestamp::from_seconds(10),
            slots: None,
            explanation: None,
            repeated: false,
        }
    }

    fn read(watching: &mut Watching) -> Vec<(String, Value)> {
        std::iter::from_fn(|| watching.next().now_or_never().flatten())
            .map(|event| {
                let (name, data) = event.trim_end().split_once('\n').unwrap();
                let data = serde_json::from_str(data.trim_start_matches("data: ")).unwrap();
                (name.trim_start_matches("event: ").to_owned(), data)
            })
            .collect()
    }

    fn saw(feed: &Feed, allowed: usize, denied: usize) {
        let mut seen = Seen::default();
        (0..allowed).for_each(|_| seen.note(&decision(true)));
        (0..denied).for_each(|_| seen.note(&decision(false)));
        feed.take(&mut seen);
    }

    #[test]
    fn totals_are_right_however_few_decisions_are_shown_and_denials_are_among_them() {
        let feed = Arc::new(Feed::default());
        let mut watching = feed.watch().unwrap();
        for _ in 0..10 {
            saw(&feed, 1000, 3);
        }
        feed.turn();
        let told = read(&mut watching);
        let shown = |allowed| told.iter().filter(|(_, data)| data["allowed"] == json!(allowed)).count();
        assert_eq!((shown(true), shown(false)), (25, 25));
        let (name, summary) = told.last().unwrap();
        assert_eq!((name.as_str(), &summary["shown"]), ("summary", &json!(50)));
        assert_eq!(
            summary["decisions"],
            json!([
                {"tier": "free", "source": "memory", "allowed": false, "checks": 30, "cost": 0},
                {"tier": "free", "source": "memory", "allowed": true, "checks": 10_000, "cost": 10_000},
            ])
        );
        let denial = told.iter().find(|(_, data)| data["allowed"] == json!(false)).unwrap();
        assert_eq!((&denial.1["denied_by"], &denial.1["retry_after"]), (&json!("hour"), &json!(2)));
        feed.turn();
        assert!(read(&mut watching).is_empty(), "a second without decisions is not told");
        saw(&feed, 1, 0);
        assert_eq!(read(&mut watching).len(), 1, "another second has room again");
    }

    #[test]
    fn who_reads_too_slowly_is_told_how_much_was_lost() {
        let feed = Arc::new(Feed::default());
        let mut watching = feed.watch().unwrap();
        for _ in 0..WAITING_MAX + 7 {
            feed.tell("policy.changed", &json!({}));
        }
        let told = read(&mut watching);
        assert_eq!(told[0], ("lost".to_owned(), json!({"events": 7})));
        assert_eq!(told.len(), 1 + WAITING_MAX);
    }

    #[test]
    fn places_are_bounded_and_given_back_and_all_end_when_it_closes() {
        let feed = Arc::new(Feed::default());
        let mut all: Vec<Watching> = (0..WATCHERS_MAX).map(|_| feed.watch().unwrap()).collect();
        assert_eq!(feed.watch().err(), Some(WatchError::Full));
        drop(all.pop());
        assert!(feed.watch().is_ok());
        feed.close();
        assert!(all.iter_mut().all(|watching| watching.next().now_or_never() == Some(None)));
        assert_eq!(feed.watch().err(), Some(WatchError::Closed));
        drop(all);
        assert!(!feed.is_watched());
    }

    #[test]
    fn what_was_seen_while_nobody_watched_is_nobody_s() {
        let feed = Arc::new(Feed::default());
        let mut seen = Seen::default();
        seen.note(&decision(true));
        feed.take(&mut seen);
        let mut watching = feed.watch().unwrap();
        feed.take(&mut seen);
        feed.turn();
        assert!(read(&mut watching).is_empty());
    }
}
