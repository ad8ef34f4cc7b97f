//! Making one connection: address, TLS, login, time-outs.

use std::path::Path;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, TlsCertificates,
};

use crate::config::{HostPort, RedisSettings};

/// To a node that keeps counters.
pub async fn to_node(settings: &RedisSettings, at: &HostPort) -> Result<MultiplexedConnection, String> {
    connect(settings, at, login(settings), settings.socket_timeout).await
}

/// To a node, in order to listen to its channels.
pub async fn to_listen(settings: &RedisSettings, at: &HostPort) -> Result<PubSub, String> {
    let client = client(settings, at, login(settings)).map_err(|error| format!("{at}: {error}"))?;
    let connecting = tokio::time::timeout(settings.connect_timeout, client.get_async_pubsub()).await;
    connecting.map_err(|_| format!("{at} does not answer"))?.map_err(|error| format!("{at}: {error}"))
}

fn login(settings: &RedisSettings) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_db(settings.database);
    if let Some(username) = &settings.username {
        login = login.set_username(username);
    }
    if let Some(password) = &settings.password {
        login = login.set_password(password.expose());
    }
    login
}

/// To a sentinel, which has a password of its own or none.
pub async fn to_sentinel(settings: &RedisSettings, at: &HostPort) -> Result<MultiplexedConnection, String> {
    let mut login = RedisConnectionInfo::default();
    if let Some(password) = &settings.sentinel_password {
        login = login.set_password(password.expose());
    }
    connect(settings, at, login, settings.connect_timeout).await
}

async fn connect(
    settings: &RedisSettings,
    at: &HostPort,
    login: RedisConnectionInfo,
    patience: Duration,
) -> Result<MultiplexedConnection, String> {
    let client = client(settings, at, login).map_err(|error| format!("{at}: {error}"))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.connect_timeout))
        .set_response_timeout(Some(patience.max(Duration::from_millis(1))));
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| format!("{at}: {error}"))
}

fn client(settings: &RedisSettings, at: &HostPort, login: RedisConnectionInfo) -> Result<Client, String> {
    let (host, port) = (at.host.clone(), at.port);
    let address = if settings.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
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
    let client_tls = match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        _ => None,
    };
    let root_cert = settings.ca_file.as_deref().map(read).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
