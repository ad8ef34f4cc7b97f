//! The link over redis-rs: one multiplexed connection, shared by the shards that hold a clone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, TlsCertificates, Value,
};
use tokio::sync::Notify;

use super::link::{Answer, Link, LinkError};
use crate::config::RedisSettings;

/// A connection that is made when it is first needed, and anew when it broke. Clones share it.
#[derive(Debug, Clone)]
pub struct RedisLink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: RedisSettings,
    state: Mutex<State>,
    /// Told when an attempt to connect has ended.
    attempt_ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that only the one that broke is thrown away.
    generation: u64,
    connecting: bool,
    last_error: Option<String>,
}

impl RedisLink {
    pub fn new(settings: &RedisSettings) -> Self {
        Self(Arc::new(Inner {
            settings: settings.clone(),
            state: Mutex::new(State::default()),
            attempt_ended: Notify::new(),
        }))
    }

    /// The connection and its number. One attempt to connect serves all who wait, and goes on when they have left.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64), LinkError> {
        let ended = self.0.attempt_ended.notified();
        tokio::pin!(ended);
        // Listening begins before the state is read, so that no end is missed.
        ended.as_mut().enable();
        let must_connect = {
            let mut state = self.state();
            if let Some(connection) = &state.connection {
                return Ok((connection.clone(), state.generation));
            }
            !std::mem::replace(&mut state.connecting, true)
        };
        if must_connect {
            let link = self.clone();
            actix::spawn(async move {
                let attempt = connect(&link.0.settings).await;
                let mut state = link.state();
                state.connecting = false;
                match attempt {
                    Ok(connection) => {
                        state.connection = Some(connection);
                        state.generation = state.generation.wrapping_add(1);
                    }
                    Err(error) => state.last_error = Some(error),
                }
                drop(state);
                link.0.attempt_ended.notify_waiters();
            });
        }
        ended.await;
        let state = self.state();
        match &state.connection {
            Some(connection) => Ok((connection.clone(), state.generation)),
            None => Err(LinkError::Connect(state.last_error.clone().unwrap_or_default())),
        }
    }

    fn throw_away(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation {
            state.connection = None;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link for RedisLink {
    fn command<'a>(&'a self, parts: &'a [Vec<u8>]) -> Answer<'a> {
        Box::pin(async move {
            let (mut connection, generation) = self.connection().await?;
            let mut command = redis::Cmd::with_capacity(parts.len(), parts.iter().map(Vec::len).sum());
            for part in parts {
                command.arg(part);
            }
            match connection.send_packed_command(&command).await {
                Ok(value) => text_of(value),
                Err(error) => match error.code() {
                    Some(code) => Err(LinkError::from_reply(format!("{code} {}", error.detail().unwrap_or_default()))),
                    None => {
                        self.throw_away(generation);
                        Err(LinkError::Broken(error.to_string()))
                    }
                },
            }
        })
    }

    fn replace(&self) {
        self.state().connection = None;
    }
}

fn text_of(value: Value) -> Result<Option<Vec<u8>>, LinkError> {
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

async fn connect(settings: &RedisSettings) -> Result<MultiplexedConnection, String> {
    let client = client(settings)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.connect_timeout))
        .set_response_timeout(Some(settings.socket_timeout.max(Duration::from_millis(1))));
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| error.to_string())
}

fn client(settings: &RedisSettings) -> Result<Client, String> {
    let host = settings.host.clone();
    let address = if settings.tls {
        ConnectionAddr::TcpTls { host, port: settings.port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, settings.port)
    };
    let mut login = RedisConnectionInfo::default().set_db(settings.database);
    if let Some(username) = &settings.username {
        login = login.set_username(username);
    }
    if let Some(password) = &settings.password {
        login = login.set_password(password.expose());
    }
    let info: ConnectionInfo = address
        .into_connection_info()
        .map_err(|error| error.to_string())?
        .set_tcp_settings(redis::io::tcp::TcpSettings::default().set_nodelay(true))
        .set_redis_settings(login);
    if settings.tls {
        Client::build_with_tls(info, certificates(settings)?).map_err(|error| error.to_string())
    } else {
        Client::open(info).map_err(|error| error.to_string())
    }
}

fn certificates(settings: &RedisSettings) -> Result<TlsCertificates, String> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let client_tls = match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert: settings.ca_file.as_ref().map(read).transpose()? })
}
