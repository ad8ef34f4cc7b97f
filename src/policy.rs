//! The policy in force, and what it is made of: the settings, the policy file above them, and what was set by the API above
//! both. Tiers are taken by name, endpoint costs all together.
//!
//! A source that can't be read changes nothing: what it said last holds, and [`PolicyStore::status`] says why.

mod file;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::domain::policy::{InvalidPolicy, Layer, Policy};
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::persistence::{Books, BooksError};

pub use file::FileError;

/// Why there is no policy to start with.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("POLICY_FILE {path}: {source}")]
    File { path: PathBuf, source: FileError },
    #[error("the tiers that were set can't be read")]
    Books(#[from] BooksError),
    #[error(transparent)]
    Invalid(#[from] InvalidPolicy),
}

/// How the policy file is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyStatus {
    /// Whether there is a file.
    pub has_file: bool,
    /// Why the file, as it is now, is not in force.
    pub error: Option<String>,
    /// When it was last taken over.
    pub loaded_at: Option<Timestamp>,
    /// How often a file could not be taken over.
    pub failures: u64,
}

/// Where a tier is from, the highest of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierSource {
    Settings,
    File,
    Api,
}

/// Owns the policy. Clones share it.
#[derive(Debug, Clone)]
pub struct PolicyStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    in_force: Arc<ArcSwap<Policy>>,
    layers: Mutex<Layers>,
    /// Held while the database is read, so that what was read earlier never takes the place of what was read later.
    reading: tokio::sync::Mutex<()>,
    path: Option<PathBuf>,
    books: Books,
    clock: Clock,
}

#[derive(Debug)]
struct Layers {
    settings: Layer,
    file: Layer,
    api: Layer,
    /// The file that was last taken over, or could not be.
    seen: Option<file::Seen>,
    /// The file at the last look.
    last_look: Option<file::Seen>,
    status: PolicyStatus,
}

impl PolicyStore {
    /// # Errors
    /// A file that can't be taken over stops the start: running with other limits than were written would be worse.
    pub async fn start(
        settings: Layer,
        path: Option<PathBuf>,
        books: Books,
        clock: Clock,
    ) -> Result<Self, PolicyError> {
        let api = books.load_policy().await?;
        let (mut file, mut seen) = (Layer::default(), None);
        if let Some(path) = &path {
            let read = file::Seen::read(path);
            file = read.layer().map_err(|source| PolicyError::File { path: path.clone(), source })?;
            seen = Some(read);
        }
        let has_file = path.is_some();
        let loaded_at = has_file.then(|| clock.now());
        let status = PolicyStatus { has_file, loaded_at, ..PolicyStatus::default() };
        let layers = Layers { settings, file, api, seen, last_look: None, status };
        let in_force = Arc::new(ArcSwap::from_pointee(layers.policy()?));
        Ok(Self(Arc::new(Inner {
            in_force,
            layers: Mutex::new(layers),
            reading: tokio::sync::Mutex::default(),
            path,
            books,
            clock,
        })))
    }

    /// The policy in force, and whichever follows it.
    pub fn in_force(&self) -> Arc<ArcSwap<Policy>> {
        Arc::clone(&self.0.in_force)
    }

    /// Takes over what was set by the API, on this instance or another.
    pub async fn follow_api(&self) -> Result<(), BooksError> {
        let reading = self.0.reading.lock().await;
        let api = self.0.books.load_policy().await?;
        let mut layers = self.layers();
        let before = std::mem::replace(&mut layers.api, api);
        if let Err(error) = self.put_in_force(&layers) {
            tracing::error!(%error, "what was set by the API does not make a policy: the one in force holds");
            layers.api = before;
        }
        drop((layers, reading));
        Ok(())
    }

    /// Reads the policy file anew. Where it has changed it is taken over, `at_once` or when two looks have found the same: it may
    /// be being written. It reads from a disk.
    pub fn follow_file(&self, at_once: bool) {
        let Some(path) = &self.0.path else { return };
        let read = file::Seen::read(path);
        let mut layers = self.layers();
        let settled = layers.last_look.replace(read.clone()).as_ref() == Some(&read);
        if layers.seen.as_ref() == Some(&read) || !(settled || at_once) {
            return;
        }
        let taken = read.layer().map_err(|error| error.to_string()).and_then(|layer| {
            let before = std::mem::replace(&mut layers.file, layer);
            self.put_in_force(&layers).map_err(|error| {
                layers.file = before;
                error.to_string()
            })
        });
        layers.seen = Some(read);
        match taken {
            Ok(()) => {
                tracing::info!("the policy file is in force as it is now");
                layers.status.error = None;
                layers.status.loaded_at = Some(self.0.clock.now());
            }
            Err(error) => {
                tracing::error!(error, "the policy file can't be taken over: the policy in force holds");
                layers.status.failures = layers.status.failures.saturating_add(1);
                layers.status.error = Some(error);
            }
        }
    }

    pub fn status(&self) -> PolicyStatus {
        self.layers().status.clone()
    }

    /// Where a tier is from; `None` where there is none of the name.
    pub fn source_of(&self, name: &TierName) -> Option<TierSource> {
        let layers = self.layers();
        let sources = [
            (&layers.api, TierSource::Api),
            (&layers.file, TierSource::File),
            (&layers.settings, TierSource::Settings),
        ];
        sources.into_iter().find(|(layer, _)| layer.has_tier(name)).map(|(_, source)| source)
    }

    /// Whether there would be a tier of the name without what was set by the API.
    pub fn has_below_api(&self, name: &TierName) -> bool {
        let layers = self.layers();
        layers.file.has_tier(name) || layers.settings.has_tier(name)
    }

    /// Whether endpoint costs were set by the API.
    pub fn has_api_costs(&self) -> bool {
        self.layers().api.costs.is_some()
    }

    fn put_in_force(&self, layers: &Layers) -> Result<(), InvalidPolicy> {
        self.0.in_force.store(Arc::new(layers.policy()?));
        Ok(())
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.0.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layers {
    fn policy(&self) -> Result<Policy, InvalidPolicy> {
        Policy::of_layers(&[&self.settings, &self.file, &self.api])
    }
}
