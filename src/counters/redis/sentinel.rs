//! Where the master is, as sentinels know it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use super::connect;
use crate::config::{HostPort, RedisSettings};

/// A master that was deposed is left within so long, though it goes on answering.
const PAUSE: Duration = Duration::from_millis(250);

/// No sentinel is waited for longer: there are others.
const PATIENCE: Duration = Duration::from_millis(250);

/// The sentinels of one master.
#[derive(Debug)]
pub struct Sentinels {
    settings: RedisSettings,
    sentinels: Vec<HostPort>,
    master: String,
    /// Where the master was when it was last asked for.
    known: Mutex<Option<HostPort>>,
    /// One to each sentinel at most.
    connections: Mutex<HashMap<HostPort, MultiplexedConnection>>,
}

impl Sentinels {
    /// Asks now and then, for as long as anybody holds this.
    pub fn watch(settings: &RedisSettings, sentinels: &[HostPort], master: &str) -> Arc<Self> {
        let this = Arc::new(Self {
            settings: settings.clone(),
            sentinels: sentinels.to_vec(),
            master: master.to_owned(),
            known: Mutex::new(None),
            connections: Mutex::default(),
        });
        actix::spawn(follow(Arc::downgrade(&this)));
        this
    }

    /// Whether the master is where it was, as far as is known.
    pub fn is_still_master(&self, at: &HostPort) -> bool {
        lock(&self.known).as_ref().is_none_or(|known| known == at)
    }

    /// Connects to the server that is the master now, and says so itself.
    pub async fn connect_to_master(&self) -> Result<(MultiplexedConnection, HostPort), String> {
        let at = self.find().await?;
        let mut connection = connect::to_node(&self.settings, &at).await?;
        let role: redis::Value =
            redis::cmd("ROLE").query_async(&mut connection).await.map_err(|error| format!("{at}: {error}"))?;
        let role = redis::from_redis_value::<Vec<redis::Value>>(role).unwrap_or_default().into_iter().next();
        match role.map(redis::from_redis_value::<String>) {
            Some(Ok(role)) if role == "master" => Ok((connection, at)),
            _ => Err(format!("{at} is not the master yet")),
        }
    }

    /// Where the master is: asks one sentinel after another.
    pub async fn find(&self) -> Result<HostPort, String> {
        let mut reason = String::new();
        for sentinel in &self.sentinels {
            let answer = tokio::time::timeout(PATIENCE, self.ask(sentinel)).await;
            match answer.unwrap_or_else(|_| Err(format!("{sentinel} does not answer"))) {
                Ok(at) => {
                    *lock(&self.known) = Some(at.clone());
                    return Ok(at);
                }
                Err(error) => {
                    lock(&self.connections).remove(sentinel);
                    reason = error;
                }
            }
        }
        Err(format!("no sentinel knows the master: {reason}"))
    }

    async fn ask(&self, sentinel: &HostPort) -> Result<HostPort, String> {
        let kept = lock(&self.connections).get(sentinel).cloned();
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let connection = connect::to_sentinel(&self.settings, sentinel).await?;
                lock(&self.connections).insert(sentinel.clone(), connection.clone());
                connection
            }
        };
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(&self.master);
        let answer: Option<(String, u16)> =
            command.query_async(&mut connection).await.map_err(|error| format!("{sentinel}: {error}"))?;
        let (host, port) = answer.ok_or_else(|| format!("{sentinel} knows no master {}", self.master))?;
        Ok(HostPort { host, port })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the master {}", self.master)
    }
}

async fn follow(sentinels: Weak<Sentinels>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(sentinels) = sentinels.upgrade() else { return };
        // Nobody is told here that there is no answer: whoever connects is.
        sentinels.find().await.ok();
    }
}
