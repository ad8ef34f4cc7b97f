//! What the counters of `/metrics` count, and what they leave out.

use serde_json::json;

use crate::support::quotad::{Backend, Quotad, Stores};

async fn reached(quotad: &Quotad, percent: u32) -> f64 {
    quotad.metric(&format!(r#"quotad_limits_reached_total{{limit="hour",percent="{percent}",tier="free"}}"#)).await
}

async fn spend(quotad: &Quotad, user: &str, items: u64, status: u16) {
    assert_eq!(quotad.check(json!({"user_id": user, "items": items})).await.status, status);
}

on_both! {
    /// Once for a part and a window, by the check that came to it.
    async fn parts_of_limits_that_are_reached(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_DAY", "100000")]).await;
        // Both at once, so that both are told of.
        spend(&quotad, "one", 100, 200).await;
        assert_eq!((reached(&quotad, 80).await, reached(&quotad, 100).await), (1.0, 1.0));

        spend(&quotad, "two", 79, 200).await;
        let dry = quotad.check(json!({"user_id": "two", "items": 21, "dry_run": true})).await;
        assert_eq!((dry.status, reached(&quotad, 80).await), (200, 1.0));
        spend(&quotad, "two", 1, 200).await;
        spend(&quotad, "two", 19, 200).await;
        assert_eq!((reached(&quotad, 80).await, reached(&quotad, 100).await), (2.0, 1.0));
        spend(&quotad, "two", 1, 200).await;
        spend(&quotad, "two", 1, 429).await;
        assert_eq!((reached(&quotad, 80).await, reached(&quotad, 100).await), (2.0, 2.0));
    }

    async fn wishes_for_slots(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let counted = async |kind: &str, outcome: &str| {
            quotad.metric(&format!(r#"quotad_leases_total{{kind="{kind}",outcome="{outcome}"}}"#)).await
        };
        assert_eq!((counted("request", "taken").await, counted("websocket", "denied").await), (0.0, 0.0));
        let wish = json!({"ip": "192.0.2.1", "kind": "websocket", "ttl_seconds": 60});
        for status in [201, 201, 429] {
            assert_eq!(quotad.post("/api/v2/leases", wish.clone()).await.status, status);
        }
        assert_eq!((counted("websocket", "taken").await, counted("websocket", "denied").await), (2.0, 1.0));
        // Denied by a rate, with slots free: nobody wanted for one.
        let check = json!({"ip": "192.0.2.2", "items": 11, "lease": "request"});
        assert_eq!(quotad.check(check).await.status, 429);
        quotad.get("/api/v2/admin/ips/192.0.2.2").await;
        assert_eq!((counted("request", "taken").await, counted("request", "denied").await), (0.0, 0.0));
    }
}

/// Told from the start, so that a queue's use can be told too.
#[tokio::test]
async fn the_bound_of_a_queue_and_the_process() {
    let quotad = Stores::start(Backend::Embedded).quotad(&[("SHARD_MAILBOX", "123")]).await;
    assert_eq!(quotad.metric("quotad_shard_queue_bound").await, 123.0);
    assert!(quotad.metric("quotad_process_resident_memory_bytes").await > 1e6);
}
