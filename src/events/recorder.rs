//! Writes events down as they come, and holds them while the table is away. Only what is written is sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::{PENDING_MAX, Shared};
use crate::domain::delivery::NewDelivery;
use crate::domain::event::Event;

/// Events of one transaction.
const WRITTEN_AT_ONCE: usize = 256;

/// Between two tries to write.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs until it is told to stop, and has written all that was told before.
pub(super) async fn run(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Event>, mut stop: oneshot::Receiver<()>) {
    loop {
        let mut events = Vec::with_capacity(WRITTEN_AT_ONCE);
        tokio::select! {
            received = inbox.recv_many(&mut events, WRITTEN_AT_ONCE) => {
                if received == 0 {
                    return;
                }
                write(&shared, events).await;
            }
            // What is in it still comes out.
            _ = &mut stop, if !inbox.is_closed() => inbox.close(),
        }
    }
}

/// Writes them, however long that takes.
async fn write(shared: &Shared, events: Vec<Event>) {
    let count = events.len() as u64;
    if shared.pending.load(Ordering::Relaxed) >= PENDING_MAX {
        shared.metrics.webhook_dropped.inc_by(count);
        if !shared.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(waiting = PENDING_MAX, "as many webhook events wait as may: new ones are dropped");
        }
        return;
    }
    shared.full.store(false, Ordering::Relaxed);
    let named = events.into_iter().map(|event| shared.delivery(event)).collect::<Result<Vec<NewDelivery>, _>>();
    let named = match named {
        Ok(named) => named,
        Err(error) => {
            shared.metrics.webhook_dropped.inc_by(count);
            tracing::error!(%error, events = count, "webhook events can't be named and are dropped");
            return;
        }
    };
    loop {
        match shared.database.add_webhooks(&named, shared.clock.now()).await {
            Ok(added) => {
                shared.table_answered();
                shared.pending.fetch_add(u32::try_from(added).unwrap_or(u32::MAX), Ordering::Relaxed);
                shared.written.notify_one();
                return;
            }
            // An insert whose commit was not answered finds its rows there the next time.
            Err(error) => shared.table_failed(&error),
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Settings;
    use crate::db::Database;
    use crate::domain::event::About;
    use crate::domain::time::Timestamp;
    use crate::observability::metrics::Metrics;

    #[actix::test]
    async fn while_as_many_wait_as_may_new_ones_are_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let vars = [
            ("QUOTAD_DATA_DIR", folder.path().to_string_lossy().into_owned()),
            ("QUOTAD_WEBHOOK_URL", "http://127.0.0.1:1/".to_owned()),
            ("QUOTAD_WEBHOOK_SECRET", "a secret of enough characters".to_owned()),
        ];
        let settings = Settings::from_vars(vars.map(|(name, value)| (name.to_owned(), value))).unwrap();
        let database = Database::connect(&settings.database).unwrap();
        database.migrate().await.unwrap();
        let (clock, metrics) = (Clock::manual(Timestamp::from_seconds(9)), Arc::new(Metrics::new().unwrap()));
        let webhooks = settings.webhooks.unwrap();
        let shared = Shared::new(&webhooks, database.clone(), clock, Arc::clone(&metrics), "one".to_owned()).unwrap();
        let recovered = Event { at: Timestamp::EPOCH, about: About::Recovered };
        shared.pending.store(PENDING_MAX - 1, Ordering::Relaxed);
        write(&shared, vec![recovered.clone()]).await;
        assert_eq!((database.pending_webhooks(9).await.unwrap(), metrics.webhook_dropped.get()), (1, 0));
        write(&shared, vec![recovered.clone(), recovered]).await;
        assert_eq!((database.pending_webhooks(9).await.unwrap(), metrics.webhook_dropped.get()), (1, 2));
    }
}
