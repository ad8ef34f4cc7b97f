//! What instances tell each other through Redis: that something was changed, reset, or is wanted back. All of it is found out by
//! time too.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::counters::redis::{Notice, Subscription};
use crate::limiter::Limiter;
use crate::persistence::Books;

/// The tasks that listen and tell.
#[derive(Debug)]
pub struct Notices {
    tasks: Vec<JoinHandle<()>>,
}

impl Notices {
    /// `None` listens to nobody. `changed` is told when another instance has changed the database. Must be called within a
    /// running actix system.
    pub fn start(subscription: Option<Subscription>, limiter: &Limiter, books: &Books, changed: &Arc<Notify>) -> Self {
        let Some(subscription) = subscription else { return Self { tasks: Vec::new() } };
        let (hearing, changed) = (limiter.clone(), Arc::clone(changed));
        let hear = move |notice| match &notice {
            Notice::Wanted(subject) | Notice::Reset(subject) => hearing.hear(&subject.clone(), notice),
            Notice::Changed => changed.notify_one(),
        };
        let (limiter, books) = (limiter.clone(), books.clone());
        let tell = async move {
            loop {
                books.changed().await;
                limiter.tell(Notice::Changed);
            }
        };
        Self { tasks: vec![actix::spawn(subscription.run(hear)), actix::spawn(tell)] }
    }

    pub fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
