//! Where shards put the answers for one worker thread.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;

use super::LimiterError;
use crate::domain::decision::Decision;

pub type Outcome = Result<Decision, LimiterError>;

/// An answer, and who waits for it.
pub type Answered = (oneshot::Sender<Outcome>, Outcome);

/// Where shards put the answers for one thread. No more can stand in it than may wait at all shards.
#[derive(Debug, Default)]
pub struct Inbox {
    answers: Mutex<Vec<Answered>>,
    reader: AtomicWaker,
}

impl Inbox {
    /// Takes the answers over and wakes the thread.
    pub fn put(&self, answers: &mut Vec<Answered>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).append(answers);
        self.reader.wake();
    }

    /// Hands answers out on the thread that waits for them, for as long as it lives.
    pub async fn hand_out(self: Arc<Self>) {
        loop {
            let answers = poll_fn(|context| {
                self.reader.register(context.waker());
                let answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
                if answers.is_empty() { Poll::Pending } else { Poll::Ready(answers) }
            });
            for (waiting, outcome) in answers.await {
                // Who has left need not be told; what was charged stays charged.
                waiting.send(outcome).ok();
            }
        }
    }
}
