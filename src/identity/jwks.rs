//! The keys that an issuer publishes: a JSON Web Key Set (RFC 7517) at an address, read again now and then, and at once when
//! a token names a key that is not among them. While the address is down, the keys that were read last still hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::config::{IdentitySettings, Secret};
use crate::domain::time::{Period, Timestamp};
use crate::observability::chain::Chain;

/// A document larger than this, or with more keys, is no key set for people's tokens.
const DOCUMENT_MAX_BYTES: usize = 256 * 1024;
const KEYS_MAX: usize = 100;

const DEADLINE: Duration = Duration::from_secs(5);

/// Keys that the issuer has withdrawn stop holding within this time.
const READ_EVERY: Duration = Duration::from_secs(300);
/// The same while the address is down.
const TRY_EVERY: Duration = Duration::from_secs(15);

/// Tokens of unknown keys have the address asked no more often than this, whoever sends how many of them.
const ASK_EVERY: Period = Period::from_seconds(60);

/// Keys at an address.
pub struct KeySet {
    address: Secret,
    client: reqwest::Client,
    keys: ArcSwap<Vec<PublicKey>>,
    /// When a token of an unknown key had the address asked last.
    asked_at: Mutex<Option<Timestamp>>,
    /// The last reading failed, and the log says so.
    is_down: AtomicBool,
}

/// A key of the set, and the one algorithm that it is for.
pub(super) struct PublicKey {
    pub id: Option<String>,
    pub key: DecodingKey,
    pub algorithm: Algorithm,
}

/// The set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    #[error("the address of the key set does not answer")]
    Fetch(#[from] reqwest::Error),
    #[error("the address of the key set answers {0}")]
    Status(u16),
    #[error("the key set is larger than 256 KiB")]
    TooLarge,
    #[error("the key set can't be read")]
    Malformed(#[from] serde_json::Error),
    #[error("the key set has no RS256, ES256 or EdDSA key, or more than 100 keys")]
    Keys,
}

#[derive(Debug, Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySet({} keys)", self.keys.load().len())
    }
}

impl KeySet {
    /// `None` where no address is set. It is read by [`start`].
    pub fn new(settings: &IdentitySettings) -> Result<Option<Self>, KeySetError> {
        let Some(address) = settings.jwks_url.clone() else { return Ok(None) };
        let client = reqwest::Client::builder()
            .timeout(DEADLINE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("quotad/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Some(Self {
            address,
            client,
            keys: ArcSwap::default(),
            asked_at: Mutex::default(),
            is_down: AtomicBool::new(false),
        }))
    }

    /// What `verify` makes of the keys that a token may be signed by: the one of its `kid`, or all where it names none.
    pub(super) fn find<T>(&self, id: Option<&str>, verify: impl FnMut(&PublicKey) -> Option<T>) -> Option<T> {
        let keys = self.keys.load();
        keys.iter().filter(|key| id.is_none() || key.id.as_deref() == id).find_map(verify)
    }

    pub fn knows(&self, id: &str) -> bool {
        self.keys.load().iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Reads the set again for a key that it does not know, at most once a minute. Who comes meanwhile waits for the same answer.
    pub async fn ask_for(&self, id: &str, now: Timestamp) {
        let mut asked_at = self.asked_at.lock().await;
        let is_early = asked_at.is_some_and(|at| now < at.saturating_add(ASK_EVERY));
        if is_early || self.knows(id) {
            return;
        }
        *asked_at = Some(now);
        self.refresh().await;
    }

    /// False where it failed: the keys stay as they were.
    async fn refresh(&self) -> bool {
        match self.read().await {
            Ok(keys) => {
                if self.is_down.swap(false, Ordering::Relaxed) {
                    tracing::info!(keys = keys.len(), "the key set at JWKS_URL is read again");
                }
                self.keys.store(keys.into());
                true
            }
            Err(error) => {
                if !self.is_down.swap(true, Ordering::Relaxed) {
                    let held = self.keys.load().len();
                    tracing::warn!(
                        error = %Chain(&error),
                        held,
                        "the key set at JWKS_URL can't be read; the keys that were read before still hold"
                    );
                }
                false
            }
        }
    }

    async fn read(&self) -> Result<Vec<PublicKey>, KeySetError> {
        let mut response = self.client.get(self.address.expose()).send().await.map_err(reqwest::Error::without_url)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(KeySetError::Status(response.status().as_u16()));
        }
        let mut document = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            document.extend_from_slice(&piece);
            if document.len() > DOCUMENT_MAX_BYTES {
                return Err(KeySetError::TooLarge);
            }
        }
        read_keys(&document)
    }
}

/// The keys of a set that this service can verify tokens by; all others are passed over.
fn read_keys(document: &[u8]) -> Result<Vec<PublicKey>, KeySetError> {
    let document: Document = serde_json::from_slice(document)?;
    if document.keys.len() > KEYS_MAX {
        return Err(KeySetError::Keys);
    }
    let keys: Vec<PublicKey> = document.keys.into_iter().filter_map(public_key).collect();
    if keys.is_empty() { Err(KeySetError::Keys) } else { Ok(keys) }
}

fn public_key(value: serde_json::Value) -> Option<PublicKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    // A symmetric key in a public document is known to all: it verifies nothing.
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|algorithm| algorithm != named) {
        return None;
    }
    Some(PublicKey { id: jwk.common.key_id.clone(), key: DecodingKey::from_jwk(&jwk).ok()?, algorithm })
}

/// Reads the set, and goes on reading it for as long as the service runs. Where the address is down, the service starts
/// without the keys after five seconds at most.
pub async fn start(keys: Arc<KeySet>) {
    let mut was_read = keys.refresh().await;
    actix::spawn(async move {
        loop {
            tokio::time::sleep(if was_read { READ_EVERY } else { TRY_EVERY }).await;
            was_read = keys.refresh().await;
        }
    });
}

/// The key that a token names, where it names one.
pub(super) fn key_id(token: &str) -> Option<String> {
    jsonwebtoken::decode_header(token).ok()?.kid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_keys_for_signatures_are_taken() {
        let ec = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
        let set = |keys: &[String]| format!("{{\"keys\":[{}]}}", keys.join(","));
        let read = |keys: &[String]| read_keys(set(keys).as_bytes());
        let good = format!("{{{ec},\"kid\":\"a\"}}");
        assert_eq!(read(&[good.clone(), "{\"kty\":\"new\"}".to_owned(), "7".to_owned()]).unwrap().len(), 1);
        for bad in [
            "{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ\"}".to_owned(),
            format!("{{{ec},\"use\":\"enc\"}}"),
            format!("{{{ec},\"alg\":\"HS256\"}}"),
            good.replace("P-256", "P-384"),
        ] {
            assert!(matches!(read(std::slice::from_ref(&bad)), Err(KeySetError::Keys)), "{bad}");
        }
        assert!(matches!(read(&vec![good; 101]), Err(KeySetError::Keys)));
        for text in ["", "[]", "{}", "{\"keys\":7}"] {
            assert!(matches!(read_keys(text.as_bytes()), Err(KeySetError::Malformed(_))), "{text}");
        }
    }
}
