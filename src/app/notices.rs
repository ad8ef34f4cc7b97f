//! What instances tell each other through Redis: that something was changed, reset, or is wanted back. All of it is found out by
//! time too.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::counters::redis::Notice;
use crate::limiter::Shards;
use crate::persistence::Books;

/// The tasks that listen and tell.
#[derive(Debug)]
pub struct Notices {
    tasks: Vec<JoinHandle<()>>,
}

impl Notices {
    /// `changed` is told when another instance has changed the database. Must be called within a running actix system.
    pub fn start(shards: &Shards, books: &Books, changed: &Arc<Notify>) -> Self {
        let heard = Arc::clone(changed);
        let Some(listening) = shards.listen(move || heard.notify_one()) else { return Self { tasks: Vec::new() } };
        let (limiter, books) = (shards.limiter.clone(), books.clone());
        let tell = async move {
            loop {
                books.changed().await;
                limiter.tell(Notice::Changed);
            }
        };
        Self { tasks: vec![listening, actix::spawn(tell)] }
    }

    pub fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
