//! Writes to the database when API keys were last used: each minute, and once more at the end.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::domain::credential::KeyId;
use crate::domain::time::Timestamp;
use crate::identity::Identity;
use crate::identity::key_use::UnwrittenUse;
use crate::observability::chain::Chain;
use crate::persistence::Books;

const EVERY: Duration = Duration::from_secs(60);

/// One transaction holds no more rows than this.
const KEYS_AT_ONCE: usize = 500;

/// Nobody waits for a stop because of it.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// The task that writes.
pub struct KeyUses {
    task: JoinHandle<()>,
    identity: Identity,
    books: Books,
}

impl KeyUses {
    pub fn start(identity: Identity, books: Books) -> Self {
        let (ring, to) = (identity.clone(), books.clone());
        let task = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                write(&ring, &to).await;
            }
        });
        Self { task, identity, books }
    }

    /// Writes what is left, where the database takes it at once.
    pub async fn stop(self) {
        self.task.abort();
        timeout(LAST_WRITE, write(&self.identity, &self.books)).await.ok();
    }
}

/// What the database does not take is tried again in a minute.
async fn write(identity: &Identity, books: &Books) {
    for uses in identity.key_ring().unwritten_uses().chunks(KEYS_AT_ONCE) {
        let rows: Vec<(KeyId, Timestamp)> = uses.iter().map(|one| (one.id.clone(), one.at)).collect();
        match books.note_key_uses(&rows).await {
            Ok(()) => uses.iter().for_each(UnwrittenUse::was_written),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "when API keys were last used was not written; it is kept");
                return;
            }
        }
    }
}
