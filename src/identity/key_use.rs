//! When an API key was last used on this instance. It is noted on the path of every request, so that it costs one look at a
//! number where nothing has changed within the second.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::domain::credential::KeyId;
use crate::domain::time::Timestamp;

/// Seconds since 1970; 0 is never.
#[derive(Debug, Default)]
pub struct KeyUse {
    last: AtomicI64,
    written: AtomicI64,
}

/// A use that the database does not know yet.
#[derive(Debug)]
pub struct UnwrittenUse {
    pub id: KeyId,
    pub at: Timestamp,
    used: Arc<KeyUse>,
}

impl KeyUse {
    pub(super) fn note(&self, now: Timestamp) {
        let second = now.floor_seconds();
        // Threads that serve the same key would take the number from each other with every write.
        if self.last.load(Ordering::Relaxed) < second {
            self.last.fetch_max(second, Ordering::Relaxed);
        }
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        let second = self.last.load(Ordering::Relaxed);
        (second > 0).then(|| Timestamp::from_seconds(second))
    }

    pub(super) fn unwritten(self: &Arc<Self>, id: &KeyId) -> Option<UnwrittenUse> {
        let at = self.last()?;
        let is_new = self.written.load(Ordering::Relaxed) < at.floor_seconds();
        is_new.then(|| UnwrittenUse { id: id.clone(), at, used: Arc::clone(self) })
    }
}

impl UnwrittenUse {
    pub fn was_written(&self) {
        self.used.written.fetch_max(self.at.floor_seconds(), Ordering::Relaxed);
    }
}
