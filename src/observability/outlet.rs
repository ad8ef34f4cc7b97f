//! Where events for the outside go in, from any thread, without waiting. Who sends them stands above.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::metrics::Metrics;
use crate::clock::Clock;
use crate::domain::event::{About, Event};
use crate::domain::time::Timestamp;

/// Takes events in while there is room for them.
#[derive(Debug, Clone)]
pub struct Outlet {
    events: mpsc::Sender<Event>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Outlet {
    pub const fn new(events: mpsc::Sender<Event>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { events, clock, metrics }
    }

    /// Takes in what happened at an instant by the clock that decided. False where there is no room, which is counted: whoever
    /// can tell it again may.
    pub fn tell(&self, at: Timestamp, about: About) -> bool {
        let taken = self.events.try_send(Event { at, about }).is_ok();
        if !taken {
            self.metrics.webhook_dropped.inc();
        }
        taken
    }

    /// Takes in what happens now.
    pub fn tell_now(&self, about: About) {
        self.tell(self.clock.now(), about);
    }

    /// How many wait here to be written.
    pub fn waiting(&self) -> usize {
        self.events.max_capacity().saturating_sub(self.events.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_does_not_wait() {
        let (events, mut inbox) = mpsc::channel(2);
        let metrics = Arc::new(Metrics::new().unwrap());
        let outlet = Outlet::new(events, Clock::manual(Timestamp::from_seconds(7)), Arc::clone(&metrics));
        let told = [(); 3].map(|()| outlet.tell(Timestamp::EPOCH, About::Recovered));
        assert_eq!((told, outlet.waiting(), metrics.webhook_dropped.get()), ([true, true, false], 2, 1));
        inbox.try_recv().unwrap();
        outlet.tell_now(About::Test);
        assert_eq!((outlet.waiting(), metrics.webhook_dropped.get()), (2, 1));
        inbox.try_recv().unwrap();
        assert_eq!(inbox.try_recv().unwrap(), Event { at: Timestamp::from_seconds(7), about: About::Test });
    }
}
