//! What the counters need of a connection. Lines to nodes give it, [`super::ClusterLink`] over several of them, and
//! `ActixLink` behind its feature.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// A command under way. It stays on the thread of its shard.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, LinkError>> + 'a>>;

/// A connection to the node that keeps the counters, made anew when it breaks. Commands go out in the order of the calls.
pub trait Link: fmt::Debug {
    /// Sends one command, its name first. The answer is a bulk string, or the text of a status or number; `None` is nil.
    ///
    /// Never resends what may have been done: where the line breaks after sending, the error says that it may have been.
    fn command<'a>(&'a self, parts: &'a [Vec<u8>]) -> Answer<'a>;

    /// Gives the connection up: it answers nothing, though no error says so. The next command makes a new one.
    fn replace(&self);

    /// Where the next command will go, as far as that is known. What one link finds out about a node holds for the others.
    fn node(&self) -> String;

    /// Another number when commands have begun to go to another server than before.
    fn server(&self) -> u64;
}

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nothing was sent.
    #[error("cannot connect to Redis: {0}")]
    Connect(String),
    /// Something may have been sent.
    #[error("the line to Redis broke: {0}")]
    Broken(String),
    /// The server does not know the script, and has not run it.
    #[error("Redis does not know the script")]
    UnknownScript,
    /// The server refused the command before running it.
    #[error("Redis refuses: {0}")]
    Refused(String),
    /// The server failed while it ran the command.
    #[error("Redis failed: {0}")]
    Failed(String),
}

impl LinkError {
    /// Reads the text of an error reply.
    pub fn from_reply(text: String) -> Self {
        let code = text.split_whitespace().next().unwrap_or_default();
        match code.trim_start_matches('-') {
            "NOSCRIPT" => LinkError::UnknownScript,
            "LOADING" | "READONLY" | "NOAUTH" | "WRONGPASS" | "NOPERM" | "BUSY" | "MASTERDOWN" | "NOREPLICAS"
            | "OOM" | "MISCONF" | "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" => LinkError::Refused(text),
            _ => LinkError::Failed(text),
        }
    }

    pub const fn may_have_been_applied(&self) -> bool {
        matches!(self, LinkError::Broken(_) | LinkError::Failed(_))
    }
}
