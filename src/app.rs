//! The composition root: makes every part, introduces them to each other, and stops them in order.

pub mod admin_key;
mod credential_limit;
pub mod healthcheck;
mod key_uses;
mod notices;
mod patience;
mod records;
mod server;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::App;
use actix_web::middleware::{Condition, from_fn};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::{DatabaseLocation, DatabaseSettings, Settings};
use crate::db::{CopiedTable, Database, DbError};
use crate::events::{WebhookError, Webhooks};
use crate::http;
use crate::identity::{Identity, IdentityError, jwks};
use crate::limiter::{self, Shards, StartError};
use crate::middleware::QuotaError;
use crate::observability::logging;
use crate::observability::metrics::Metrics;
use crate::observability::traces::{Traces, TracesError};
use crate::persistence::{Books, BooksError, LedgerBounds};
use crate::policy::PolicyStore;
use key_uses::KeyUses;
use notices::Notices;
use records::DatabaseRecords;

/// Why the service could not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("cannot make the data folder {path}")]
    DataFolder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    AdminKey(#[from] admin_key::AdminKeyError),
    #[error("cannot open the database")]
    Database(#[from] DbError),
    #[error("cannot keep the books")]
    Books(#[from] BooksError),
    #[error("cannot verify credentials")]
    Identity(#[from] IdentityError),
    #[error("cannot send webhooks")]
    Webhooks(#[from] WebhookError),
    #[error("cannot make the metrics")]
    Metrics(#[from] prometheus::Error),
    #[error(transparent)]
    Traces(#[from] TracesError),
    #[error(transparent)]
    Policy(#[from] crate::policy::PolicyError),
    #[error(transparent)]
    Shards(#[from] StartError),
    #[error("cannot limit bad credentials")]
    CredentialLimit(#[from] QuotaError),
    #[error("cannot listen on {address}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the HTTP server failed")]
    Serve(#[source] io::Error),
}

/// Brings the database to this version's schema.
pub async fn migrate(settings: &Settings) -> Result<(), AppError> {
    make_data_folder(settings)?;
    Ok(Database::connect(&settings.database)?.migrate().await?)
}

/// Brings both databases to this version's schema, and copies all tables of the one to the other.
pub async fn copy(
    from: DatabaseLocation,
    to: DatabaseLocation,
    settings: &Settings,
) -> Result<Vec<CopiedTable>, AppError> {
    let [from, to] = [from, to].map(|location| DatabaseSettings { location, ..settings.database.clone() });
    let (from, to) = (Database::connect(&from)?, Database::connect(&to)?);
    from.migrate().await?;
    to.migrate().await?;
    Ok(from.copy_to(&to).await?)
}

/// Runs the service until SIGTERM or SIGINT. Everything that was answered is in the database when it returns.
pub async fn serve(settings: Settings) -> Result<(), AppError> {
    let instance = getrandom::u64().map_err(admin_key::AdminKeyError::Random)?;
    let metrics = Arc::new(Metrics::new()?);
    let (otlp, shown) = (settings.otlp.as_ref(), logging::shows_spans(&settings.log));
    let traces = Traces::new(otlp, &instance_name(instance), shown, &metrics)?;
    logging::init(&settings.log, traces.layer());
    let outcome = run(settings, instance, metrics, traces.clone()).await;
    traces.stop().await;
    outcome
}

async fn run(settings: Settings, instance: u64, metrics: Arc<Metrics>, traces: Traces) -> Result<(), AppError> {
    make_data_folder(&settings)?;
    let admin_key = admin_key::obtain(settings.identity.admin_key.as_ref(), &settings.data_dir)?;
    let clock = Clock::system();

    let database = Database::connect(&settings.database)?;
    database.migrate().await?;
    let (name, bounds) = (instance_name(instance), LedgerBounds::default());
    let books = Books::start(database.clone(), &settings.database, clock.clone(), name.clone(), bounds);
    let identity = Identity::new(&settings.identity, &admin_key.key)?;

    let file = settings.policy.file.clone();
    let policy = PolicyStore::start(settings.policy.layer(), file, books.clone(), clock.clone()).await?;
    let start = |webhooks| Webhooks::start(webhooks, database.clone(), clock.clone(), Arc::clone(&metrics), name);
    let (webhooks, telling) = settings.webhooks.as_ref().map(start).transpose()?.unzip();
    let shards = Shards::start(limiter::Parts {
        limiter: settings.limiter.clone(),
        redis: settings.redis.clone(),
        records: Arc::new(DatabaseRecords { database: database.clone(), books: books.clone() }),
        policy: policy.in_force(),
        metrics: Arc::clone(&metrics),
        clock: clock.clone(),
        instance,
        outlet: webhooks.as_ref().map(|webhooks| webhooks.outlet().clone()),
    })
    .await?;
    let limiter = shards.limiter.clone();
    let changed = Arc::new(Notify::new());
    let notices = Notices::start(&shards, &books, &changed);
    let parts = watch::Parts {
        database,
        limiter: limiter.clone(),
        identity: identity.clone(),
        policy: policy.clone(),
        books: books.clone(),
        metrics: Arc::clone(&metrics),
        clock: clock.clone(),
        changed,
    };
    let watch = watch::start(parts).await?;
    let key_uses = KeyUses::start(identity.clone(), books.clone());

    let feed = Arc::clone(&metrics.feed);
    let credential_limit = credential_limit::start(&clock).await?;
    let attempts = Arc::default();
    let edge = http::Edge::new(instance, traces, clock.clone());
    let state = http::State { limiter, policy, books: books.clone(), identity, attempts, clock, metrics, webhooks };
    if let Some(keys) = state.identity.published_keys() {
        jwks::start(Arc::clone(keys)).await;
    }
    let limiting = credential_limit.clone();
    let app = move || {
        let has_keys = state.identity.published_keys().is_some();
        App::new()
            .wrap(Condition::new(has_keys, from_fn(http::look_for_key)))
            .wrap(limiting.clone())
            .wrap(edge.clone())
            .configure(http::routes(state.clone()))
    };
    let address = settings.http.listen;
    let (address, server) = server::listen(&settings, app).map_err(|source| AppError::Listen { address, source })?;
    greet(address, &settings, &admin_key);
    let handle = server.handle();
    // Actix's own handling of signals would stop every arbiter, and with it the shards and the books, before they are flushed.
    actix::spawn(async move {
        asked_to_stop().await;
        // An answer that never ends by itself would be waited for.
        feed.close();
        handle.stop(true).await;
    });
    server.await.map_err(AppError::Serve)?;

    tracing::info!("every request is answered: flushing");
    watch.stop();
    notices.stop();
    credential_limit.stop().await;
    key_uses.stop().await;
    shards.stop().await;
    // Both have some seconds of the same ten.
    let told = async {
        if let Some(telling) = telling {
            telling.stop().await;
        }
    };
    let (closed, ()) = tokio::join!(books.close(), told);
    closed?;
    tracing::info!("stopped");
    Ok(())
}

/// What this run is called in the database and by the collector.
fn instance_name(instance: u64) -> String {
    format!("{instance:016x}")
}

/// SIGTERM or SIGINT came. Where signals can't be listened to, only a kill ends the service.
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

fn make_data_folder(settings: &Settings) -> Result<(), AppError> {
    let path = &settings.data_dir;
    std::fs::create_dir_all(path).map_err(|source| AppError::DataFolder { path: path.clone(), source })
}

/// What a newcomer needs to know, in four lines.
fn greet(address: std::net::SocketAddr, settings: &Settings, admin_key: &admin_key::AdminKey) {
    let counters = match &settings.redis {
        Some(redis) => format!("Redis: {}", redis.place),
        None => "embedded in this process (no Redis)".to_owned(),
    };
    let database = match &settings.database.location {
        DatabaseLocation::Sqlite { path } => format!("SQLite at {}", path.display()),
        DatabaseLocation::Postgres { .. } => "PostgreSQL".to_owned(),
    };
    let key = admin_key.describe();
    tracing::info!(%address, counters, database, admin_key = key, "quotad {} is up", env!("CARGO_PKG_VERSION"));
    let key_text = match &admin_key.file {
        Some(path) => format!("$(cat {})", path.display()),
        None => "$QUOTAD_ADMIN_KEY".to_owned(),
    };
    println!("quotad {} listens on http://{address}", env!("CARGO_PKG_VERSION"));
    println!("  counters   {counters}");
    println!("  database   {database}");
    println!("  admin key  {key}");
    println!("  try        curl -s http://{address}/api/v2/check -H \"X-API-Key: {key_text}\" \\");
    println!("                  -H 'Content-Type: application/json' -d '{{\"user_id\": \"42\"}}'");
    println!("  API        http://{address}/docs");
}
