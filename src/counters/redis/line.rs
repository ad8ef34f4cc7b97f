//! A line to one node over redis-rs: one multiplexed connection, shared by the shards that hold a clone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::connect;
use super::link::{Answer, Link, LinkError};
use super::sentinel::Sentinels;
use crate::config::{HostPort, RedisSettings};

/// How the node is found.
#[derive(Debug, Clone)]
pub enum Finder {
    At(HostPort),
    /// Wherever the sentinels say that the master is.
    Master(Arc<Sentinels>),
}

/// A connection that is made when it is first needed, and anew when it broke. Clones share it.
#[derive(Debug, Clone)]
pub struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: RedisSettings,
    finder: Finder,
    state: Mutex<State>,
    /// Told when an attempt to connect has ended.
    attempt_ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connected>,
    /// Counts connections, so that only the one that broke is thrown away.
    generation: u64,
    /// Where the last connection went, and how often that was elsewhere than the one before.
    last_at: Option<HostPort>,
    server: u64,
    attempt: Option<AbortHandle>,
    last_error: Option<String>,
}

#[derive(Debug, Clone)]
struct Connected {
    connection: MultiplexedConnection,
    at: HostPort,
    generation: u64,
}

impl Line {
    pub fn new(settings: &RedisSettings, finder: Finder) -> Self {
        let (settings, state) = (settings.clone(), Mutex::new(State::default()));
        Self(Arc::new(Inner { settings, finder, state, attempt_ended: Notify::new() }))
    }

    /// Sends one command, and gives its answer as it came.
    pub async fn ask(&self, command: &Cmd) -> Result<Value, LinkError> {
        let mut connected = self.connected().await?;
        let answer = connected.connection.send_packed_command(command).await;
        answer.map_err(|error| self.failed(&error, connected.generation))
    }

    /// Sends a command that the node would refuse by itself: its slot is on its way to it.
    pub async fn ask_moving(&self, command: &Cmd) -> Result<Value, LinkError> {
        let mut connected = self.connected().await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("ASKING").add_command(command.clone());
        let answer = connected.connection.send_packed_commands(&pipeline, 1, 1).await;
        let answer = answer.map_err(|error| self.failed(&error, connected.generation))?;
        answer.into_iter().next().ok_or_else(|| LinkError::Failed("no answer to a command".to_owned()))
    }

    /// The connection. One attempt to make it serves all who wait, and goes on when they have left.
    async fn connected(&self) -> Result<Connected, LinkError> {
        let ended = self.0.attempt_ended.notified();
        tokio::pin!(ended);
        // Listening begins before the state is read, so that no end is missed.
        ended.as_mut().enable();
        {
            let mut state = self.state();
            match &state.connection {
                Some(connected) if self.0.finder.still_means(&connected.at) => return Ok(connected.clone()),
                _ => state.connection = None,
            }
            if state.attempt.is_none() {
                let line = self.clone();
                state.attempt = Some(actix::spawn(async move { line.attempt().await }).abort_handle());
            }
        }
        ended.await;
        let state = self.state();
        let error = || LinkError::Connect(state.last_error.clone().unwrap_or_else(|| "no answer".to_owned()));
        state.connection.clone().ok_or_else(error)
    }

    async fn attempt(&self) {
        let attempt = self.0.finder.connect(&self.0.settings).await;
        let mut state = self.state();
        state.attempt = None;
        match attempt {
            Ok((connection, at)) => {
                state.generation = state.generation.wrapping_add(1);
                if state.last_at.replace(at.clone()).is_some_and(|last| last != at) {
                    state.server = state.server.wrapping_add(1);
                }
                state.connection = Some(Connected { connection, at, generation: state.generation });
            }
            Err(error) => state.last_error = Some(error),
        }
        drop(state);
        self.0.attempt_ended.notify_waiters();
    }

    /// What an error means, and whether the connection is of use any more.
    fn failed(&self, error: &RedisError, generation: u64) -> LinkError {
        let failure = match error.code() {
            Some(code) => LinkError::from_reply(format!("{code} {}", error.detail().unwrap_or_default())),
            None => LinkError::Broken(error.to_string()),
        };
        let is_of_use = match &failure {
            LinkError::Broken(_) => false,
            // It is a replica now: the master is elsewhere.
            LinkError::Refused(text) => !text.starts_with("READONLY"),
            _ => true,
        };
        let mut state = self.state();
        if !is_of_use && state.generation == generation {
            state.connection = None;
        }
        failure
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link for Line {
    fn command<'a>(&'a self, parts: &'a [Vec<u8>]) -> Answer<'a> {
        Box::pin(async move { text_of(self.ask(&command_of(parts)).await?) })
    }

    fn replace(&self) {
        let mut state = self.state();
        state.connection = None;
        // An attempt that hangs would be waited for by all.
        if let Some(attempt) = state.attempt.take() {
            attempt.abort();
        }
        drop(state);
        self.0.attempt_ended.notify_waiters();
    }

    fn node(&self) -> String {
        let state = self.state();
        match (&state.connection, &self.0.finder) {
            (Some(connected), _) => connected.at.to_string(),
            (None, Finder::At(at)) => at.to_string(),
            (None, Finder::Master(sentinels)) => sentinels.to_string(),
        }
    }

    fn server(&self) -> u64 {
        self.state().server
    }
}

impl Finder {
    /// Whether a connection that was made to this place still goes where it should.
    fn still_means(&self, at: &HostPort) -> bool {
        match self {
            Finder::At(_) => true,
            Finder::Master(sentinels) => sentinels.is_still_master(at),
        }
    }

    async fn connect(&self, settings: &RedisSettings) -> Result<(MultiplexedConnection, HostPort), String> {
        match self {
            Finder::At(at) => Ok((connect::to_node(settings, at).await?, at.clone())),
            Finder::Master(sentinels) => sentinels.connect_to_master().await,
        }
    }
}

pub fn command_of(parts: &[Vec<u8>]) -> Cmd {
    let mut command = Cmd::with_capacity(parts.len(), parts.iter().map(Vec::len).sum());
    for part in parts {
        command.arg(part);
    }
    command
}

pub fn text_of(value: Value) -> Result<Option<Vec<u8>>, LinkError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        Value::Okay => Ok(Some(b"OK".to_vec())),
        Value::Int(number) => Ok(Some(number.to_string().into_bytes())),
        Value::ServerError(error) => {
            Err(LinkError::from_reply(format!("{} {}", error.code(), error.details().unwrap_or_default())))
        }
        _ => Err(LinkError::Failed("an answer of an unexpected kind".to_owned())),
    }
}
