//! The HTTP server: how many connections there may be, and for how long.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_http::{HttpService, Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream};

use super::patience::Patient;
use crate::config::Settings;

/// After SIGTERM, in-flight requests have so long to be answered.
const DRAIN_SECONDS: u64 = 5;

/// Connections that wait for a worker.
const BACKLOG: u32 = 4096;

/// A connection without a request is closed after this time, and one whose first head has not come to its end.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// An answer that is not taken, and what is left of a body that nobody reads, are waited for this long once a connection is closing.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// A connection to which nothing was written for so long, or up to twice as long, is closed. Longer than the silence of
/// `/api/v2/admin/events`, and than any check may take.
const STILL_MAX: Duration = Duration::from_secs(30);

/// The most connections of one worker, where the process may have as many files open.
const CONNECTIONS_MAX: u64 = 25_000;

/// Files of a thread (its event loop), and of everything else but connections.
const FILES_OF_A_THREAD: u64 = 8;
const FILES_OF_THE_REST: u64 = 64;

/// A worker has room for so many connections, however few files the process may have open.
const CONNECTIONS_MIN: u64 = 16;

/// Listens at the address of the settings, and serves what `app` makes for each worker. Nothing is served before the server is polled.
pub fn listen<F, I, S, B>(settings: &Settings, app: F) -> io::Result<(SocketAddr, Server)>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Error: Into<Response<actix_web::body::BoxBody>> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let (workers, address) = (settings.http.workers, settings.http.listen);
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let address = listener.local_addr()?;

    let connections = connections_of_a_worker(settings, raise_open_files());
    let server = Server::build().workers(workers).max_concurrent_connections(connections);
    let server = server.shutdown_timeout(DRAIN_SECONDS).disable_signals();
    let still_max = STILL_MAX.max(settings.redis.as_ref().map_or(STILL_MAX, |redis| redis.deadline.saturating_mul(2)));
    let stopping = server.graceful_shutdown_signal();
    let server = server.listen("http", listener, move || {
        let stopping = stopping.clone();
        let http = HttpService::build()
            .keep_alive(IDLE_MAX)
            .client_request_timeout(IDLE_MAX)
            .client_disconnect_timeout(CLOSING_MAX)
            // As actix-web's own server does: idle connections are not waited for at the end.
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .h1(map_config(app(), |()| AppConfig::default()));
        fn_service(move |stream: TcpStream| {
            let peer = stream.peer_addr().ok();
            std::future::ready(Ok((Patient::new(stream, still_max), peer)))
        })
        .and_then(http)
    })?;
    Ok((address, server.run()))
}

/// Raises the number of files that this process may have open to the most that it may set itself. It says that number.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
    .unwrap_or(u64::MAX)
}

/// So many that connections to Redis and the database can always be made: past it, callers wait for one that is closed.
fn connections_of_a_worker(settings: &Settings, files: u64) -> usize {
    let workers = settings.http.workers as u64;
    let redis = settings.redis.as_ref().map_or(0, |redis| redis.max_connections as u64);
    let threads = workers.saturating_add(settings.limiter.shards as u64).saturating_mul(FILES_OF_A_THREAD);
    let stores = redis.saturating_add(settings.database.max_connections as u64);
    let kept = FILES_OF_THE_REST.saturating_add(threads).saturating_add(stores);
    let room = files.saturating_sub(kept).checked_div(workers).unwrap_or_default();
    if room < CONNECTIONS_MIN {
        tracing::warn!(files, kept, "the process may have few files open: callers may have to wait");
    }
    usize::try_from(room.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_stores() {
        let vars = [("QUOTAD_WORKERS", "2"), ("QUOTAD_SHARDS", "2"), ("QUOTAD_REDIS_URL", "redis://h")];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::from_vars(vars).unwrap();
        for (files, connections) in [(0, 16), (100, 16), (1024, 454), (20_000, 9942), (u64::MAX, 25_000)] {
            assert_eq!(connections_of_a_worker(&settings, files), connections, "{files}");
        }
    }
}
