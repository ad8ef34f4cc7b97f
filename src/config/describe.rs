//! What `quotad config` prints: every setting in force, each as a value that could be set.

use super::fields::DatabaseLocation;
use super::names::{NAMES, Name};
use super::parse::Source;
use super::sections::Settings;
use super::shown;

/// `QUOTAD_NAME` and its value, secrets masked; empty where nothing is in force.
pub fn describe(source: &Source<'_>, settings: &Settings) -> Vec<(String, String)> {
    let value = |known: &Name| match worked_out(known.name, settings) {
        Some(value) => value,
        None => source.find(known.name).map_or_else(|| known.default.to_owned(), |(_, value)| value.to_owned()),
    };
    NAMES
        .iter()
        .filter(|known| known.supported)
        .map(|known| (format!("QUOTAD_{}", known.name), shown::masked(known.name, &value(known))))
        .collect()
}

/// What is in force where neither the variable nor the default of the table says it.
fn worked_out(name: &str, settings: &Settings) -> Option<String> {
    let redis = settings.redis.as_ref();
    match name {
        "WORKERS" => Some(settings.http.workers.to_string()),
        "SHARDS" => Some(settings.limiter.shards.to_string()),
        "DATABASE_URL" => match &settings.database.location {
            DatabaseLocation::Sqlite { path } => Some(format!("sqlite://{}", path.display())),
            DatabaseLocation::Postgres { .. } => None,
        },
        "REDIS_SSL" => redis.map(|redis| redis.tls.to_string()),
        "REDIS_USERNAME" => redis.and_then(|redis| redis.username.clone()),
        "REDIS_PASSWORD" => redis.and_then(|redis| redis.password.as_ref()).map(|secret| secret.expose().to_owned()),
        _ => None,
    }
}
