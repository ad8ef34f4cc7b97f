//! The table of webhook events: one row a threshold, one sender an event, and no more rows than must be.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use quotad::domain::decision::Source;
use quotad::domain::delivery::{Attempt, DeliveryState, NewDelivery, Outcome};
use quotad::domain::event::{About, Event, EventId, Threshold};
use quotad::domain::limit::LimitName;

use super::*;

fn event(number: u128, about: About) -> NewDelivery {
    NewDelivery { id: EventId::of(number), event: Event { at: HOUR, about }, body: format!("{{\"number\":{number}}}") }
}

fn threshold(number: u128, name: &str, percent: u64, window_end: Timestamp) -> NewDelivery {
    let told = Threshold {
        subject: user(name),
        tier: tier("free"),
        limit: LimitName::hour(),
        percent,
        requests: 10,
        used: 9,
        window_end,
        source: Source::Redis,
    };
    event(number, About::Threshold(Box::new(told)))
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(HOUR.floor_seconds() + seconds)
}

fn answered(status: u16) -> Attempt {
    Attempt { status: Some(status), ..Attempt::default() }
}

on_every_database! {
    async fn a_threshold_is_written_once_a_window_by_whichever_instance(home) {
        let database = home.database().await;
        let end = at(1);
        let first = [threshold(1, "u", 80, end), threshold(2, "u", 100, end), threshold(3, "v", 80, end)];
        assert_eq!(database.add_webhooks(&first, HOUR).await.unwrap(), 3);
        let again = [threshold(4, "u", 80, end), threshold(5, "u", 80, at(2)), event(6, About::Recovered), event(7, About::Recovered)];
        assert_eq!(database.add_webhooks(&again, HOUR).await.unwrap(), 3, "another window, and what is of no limit");
        // A commit that was not answered is sent again.
        assert_eq!(database.add_webhooks(&again, HOUR).await.unwrap(), 0);
        let other = Database::connect(&home.settings).unwrap();
        let both = (0..20).map(|number| {
            let instance = if number % 2 == 0 { &database } else { &other };
            let row = [threshold(100 + number, "w", 80, end)];
            async move { instance.add_webhooks(&row, HOUR).await.unwrap() }
        });
        assert_eq!(join_all(both).await.into_iter().sum::<usize>(), 1);
        assert_eq!(database.pending_webhooks(100).await.unwrap(), 7);
        assert_eq!(database.pending_webhooks(5).await.unwrap(), 5);
    }

    async fn an_event_is_one_instances_to_send_until_its_claim_ends(home) {
        let database = home.database().await;
        let other = Database::connect(&home.settings).unwrap();
        let events: Vec<NewDelivery> = (0..60).map(|number| event(number, About::Recovered)).collect();
        database.add_webhooks(&events, HOUR).await.unwrap();
        let claims = (0..12).map(|number| {
            let instance = if number % 2 == 0 { &database } else { &other };
            async move { instance.claim_webhooks(later(1), later(31), 8).await.unwrap() }
        });
        let claimed: Vec<_> = join_all(claims).await.into_iter().flatten().collect();
        let ids: BTreeSet<&EventId> = claimed.iter().map(|claim| &claim.id).collect();
        assert_eq!((claimed.len(), ids.len()), (60, 60), "each once");
        assert!(claimed.iter().all(|claim| claim.attempts == 1 && claim.give_up_at == later(3600)));
        assert_eq!(database.claim_webhooks(later(30), later(60), 8).await.unwrap(), []);
        let again = other.claim_webhooks(later(31), later(61), 1).await.unwrap();
        assert_eq!((again.len(), again[0].attempts), (1, 2), "whoever had it has died");
        let first = claimed.iter().find(|claim| claim.id == again[0].id).unwrap();
        let late = database.settle_webhook(first, &answered(500), Outcome::GivenUp, later(32)).await.unwrap();
        assert!(!late, "it is another's by now");
        assert!(other.settle_webhook(&again[0], &answered(200), Outcome::Delivered, later(33)).await.unwrap());
        assert!(!other.settle_webhook(&again[0], &answered(200), Outcome::Delivered, later(34)).await.unwrap());
    }

    async fn what_came_of_an_event_stands_in_the_log(home) {
        let database = home.database().await;
        let events: Vec<NewDelivery> = (0..3).map(|number| event(number, About::Recovered)).collect();
        for (event, second) in events.iter().zip(0..) {
            database.add_webhooks(std::slice::from_ref(event), later(second)).await.unwrap();
        }
        let claimed = database.claim_webhooks(later(5), later(35), 10).await.unwrap();
        let refused = Attempt { error: Some("no connection"), ..Attempt::default() };
        let claim = |number: u128| claimed.iter().find(|claim| claim.id == EventId::of(number)).unwrap();
        database.settle_webhook(claim(0), &answered(204), Outcome::Delivered, later(6)).await.unwrap();
        database.settle_webhook(claim(1), &refused, Outcome::Again(later(9)), later(7)).await.unwrap();
        database.settle_webhook(claim(2), &answered(410), Outcome::GivenUp, later(8)).await.unwrap();
        let page = database.list_webhooks(None, 2, None).await.unwrap();
        let states: Vec<_> = page.items.iter().map(|item| (item.state, item.status, item.settled_at)).collect();
        let expected = [(DeliveryState::GivenUp, Some(410), Some(later(8))), (DeliveryState::Pending, None, None)];
        assert_eq!(states, expected, "the newest first");
        assert_eq!((page.items[1].error.as_deref(), page.items[1].due_at), (Some("no connection"), later(9)));
        let rest = database.list_webhooks(None, 2, page.next.as_ref()).await.unwrap();
        assert_eq!((rest.items.len(), rest.items[0].state, rest.next), (1, DeliveryState::Delivered, None));
        assert_eq!(rest.items[0].body, "{\"number\":0}");
        let pending = database.list_webhooks(Some(DeliveryState::Pending), 9, None).await.unwrap();
        assert_eq!(pending.items.iter().map(|item| item.id.clone()).collect::<Vec<_>>(), [EventId::of(1)]);
        assert_eq!(database.claim_webhooks(later(8), later(40), 10).await.unwrap(), []);
        assert_eq!(database.claim_webhooks(later(9), later(40), 10).await.unwrap().len(), 1);
    }

    /// Were the row of a window that still runs removed, the event would be told again.
    async fn what_is_settled_is_removed_after_its_window_and_some_days(home) {
        let database = home.database().await;
        let month = later(30 * 86_400);
        let events = [event(1, About::Recovered), threshold(2, "u", 80, month)];
        database.add_webhooks(&events, HOUR).await.unwrap();
        database.add_webhooks(&[event(3, About::Recovered)], later(1)).await.unwrap();
        for claim in database.claim_webhooks(HOUR, later(30), 9).await.unwrap() {
            database.settle_webhook(&claim, &answered(204), Outcome::Delivered, HOUR).await.unwrap();
        }
        let left = async |now: Timestamp| {
            database.remove_leftovers(now).await.unwrap();
            let page = database.list_webhooks(None, 9, None).await.unwrap();
            page.items.iter().map(|item| item.id.clone()).collect::<BTreeSet<_>>()
        };
        let ids = |numbers: &[u128]| numbers.iter().map(|number| EventId::of(*number)).collect::<BTreeSet<_>>();
        assert_eq!(left(later(7 * 86_400)).await, ids(&[1, 2, 3]));
        assert_eq!(left(later(8 * 86_400)).await, ids(&[2, 3]), "the window still runs");
        assert_eq!(left(later(38 * 86_400)).await, ids(&[3]), "what waits is never removed");
    }
}
