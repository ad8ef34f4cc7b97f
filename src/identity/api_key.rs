//! API keys: `qd_<id>_<secret>`. Only the SHA-256 of the secret is kept. A secret has 256 random bits, so a plain hash is
//! as good as a slow one; it is compared in constant time.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

use super::key_use::{KeyUse, UnwrittenUse};
use super::{Caller, Rejected};
use crate::config::Secret;
use crate::domain::credential::{ApiKeyRecord, KeyId};
use crate::domain::time::Timestamp;

const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// So much of a hash finds its key. Two keys of 10,000 agree in it once in 10^11 rings.
const FINDS: usize = 8;

/// All keys in force, in memory: a check never asks the database who is calling.
#[derive(Debug)]
pub struct KeyRing {
    admin_sha256: [u8; 32],
    /// By the beginning of the hashes of their secrets. Found by its id, a key would be told from one that is not there by the
    /// time it takes; the hash of a near miss leads as far away as that of any other text.
    keys: ArcSwap<HashMap<[u8; FINDS], HeldKey>>,
    /// Whose list is newest: one is read and taken in at a time.
    reloading: Mutex<()>,
}

#[derive(Debug)]
struct HeldKey {
    record: ApiKeyRecord,
    used: Arc<KeyUse>,
}

/// A key that was just made: what is kept of it, and what is shown once.
#[derive(Debug)]
pub struct NewKey {
    pub id: KeyId,
    pub secret_sha256: [u8; 32],
    /// `qd_<id>_<secret>`
    pub text: String,
}

/// Makes a key from the system's random bytes.
pub fn make() -> Result<NewKey, getrandom::Error> {
    let mut bytes = [0_u8; ID_BYTES + SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    let (id, secret) = bytes.split_at(ID_BYTES);
    let (id, secret) = (hex::encode(id), hex::encode(secret));
    let text = format!("qd_{id}_{secret}");
    // Sixteen hexadecimal digits are a valid id.
    let id = KeyId::parse(&id).ok_or(getrandom::Error::UNEXPECTED)?;
    Ok(NewKey { id, secret_sha256: sha256(secret.as_bytes()), text })
}

impl KeyRing {
    pub fn new(admin_key: &Secret) -> Self {
        let admin_sha256 = sha256(admin_key.expose().as_bytes());
        Self { admin_sha256, keys: ArcSwap::default(), reloading: Mutex::default() }
    }

    /// Takes the list that `read` gets from the database in the place of what was known. A list that was read before a change
    /// never takes the place of one that was read after it.
    pub async fn reload<E>(&self, read: impl Future<Output = Result<Vec<ApiKeyRecord>, E>>) -> Result<(), E> {
        let _alone = self.reloading.lock().await;
        self.replace(read.await?);
        Ok(())
    }

    fn replace(&self, records: Vec<ApiKeyRecord>) {
        let known = self.keys.load();
        let held = records.into_iter().map(|record| {
            let place = place(&record.secret_sha256);
            let used = known.get(&place).filter(|key| key.record.id == record.id).map(|key| Arc::clone(&key.used));
            (place, HeldKey { record, used: used.unwrap_or_default() })
        });
        self.keys.store(Arc::new(held.collect()));
    }

    /// How long this takes tells nothing of how near a wrong key is: what is compared are hashes, whole, and where no key is
    /// found, with the hash of none.
    pub fn verify(&self, text: &str, now: Timestamp) -> Result<Caller, Rejected> {
        let (id, secret) = split(text).unwrap_or(("", text));
        let hash = sha256(secret.as_bytes());
        let keys = self.keys.load();
        let key = keys.get(&place(&hash));
        let (known_id, known_hash) =
            key.map_or(("", &[0; 32]), |key| (key.record.id.as_str(), &key.record.secret_sha256));
        let is_key: bool = (hash.ct_eq(known_hash) & id.as_bytes().ct_eq(known_id.as_bytes())).into();
        let is_admin: bool = sha256(text.as_bytes()).ct_eq(&self.admin_sha256).into();
        match key {
            Some(HeldKey { record, used }) if is_key && record.is_valid(now) => {
                used.note(now);
                Ok(Caller::Key { id: record.id.clone(), role: record.role, user_id: record.user_id.clone() })
            }
            Some(_) if is_key => Err(Rejected("the key is revoked or has expired")),
            _ if is_admin => Ok(Caller::AdminKey),
            _ => Err(Rejected("no such key")),
        }
    }

    /// When each key was last used here, as far as it was since the service started.
    pub fn last_used(&self) -> HashMap<KeyId, Timestamp> {
        let keys = self.keys.load();
        keys.values().filter_map(|key| Some((key.record.id.clone(), key.used.last()?))).collect()
    }

    /// Those of [`last_used`](Self::last_used) that are not written yet.
    pub fn unwritten_uses(&self) -> Vec<UnwrittenUse> {
        let keys = self.keys.load();
        keys.values().filter_map(|key| key.used.unwritten(&key.record.id)).collect()
    }
}

fn place(hash: &[u8; 32]) -> [u8; FINDS] {
    let mut place = [0; FINDS];
    place.iter_mut().zip(hash).for_each(|(byte, of_hash)| *byte = *of_hash);
    place
}

fn split(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("qd_")?.split_once('_')
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::credential::Role;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn ring(change: impl FnOnce(&mut ApiKeyRecord)) -> (KeyRing, String) {
        let ring = KeyRing::new(&Secret::new("an operator's key of enough characters"));
        let key = make().unwrap();
        let mut record = ApiKeyRecord {
            id: key.id,
            name: "test".to_owned(),
            role: Role::Service,
            user_id: None,
            secret_sha256: key.secret_sha256,
            created_at: NOW,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            successor: None,
        };
        change(&mut record);
        ring.replace(vec![record]);
        (ring, key.text)
    }

    #[test]
    fn a_key_is_known_and_near_misses_are_not() {
        let (ring, key) = ring(|_| {});
        assert_eq!(ring.verify(&key, NOW).unwrap().role(), Some(Role::Service));
        let (id, secret) = split(&key).unwrap();
        let changed = |at: usize| {
            let mut changed = key.clone();
            changed.replace_range(at..=at, if &key[at..=at] == "0" { "1" } else { "0" });
            changed
        };
        let start = key.len() - secret.len();
        for wrong in [
            changed(3),
            changed(start),
            changed(start + 32),
            changed(key.len() - 1),
            key[..key.len() - 1].to_owned(),
            key[..start].to_owned(),
            key[1..].to_owned(),
            format!("{key}0"),
            format!("{key} "),
            format!("{key}\n"),
            format!("{key}\0"),
            format!(" {key}"),
            key.to_uppercase(),
            format!("qd_{id}_{}", secret.to_uppercase()),
            format!("qd_{}_{secret}", id.to_uppercase()),
            format!("QD_{id}_{secret}"),
            format!("qd__{secret}"),
            format!("qd_{id}__{secret}"),
            format!("qd_{id}_{secret}_{secret}"),
            format!("{id}_{secret}"),
            secret.to_owned(),
            hex::encode(sha256(secret.as_bytes())),
            format!("qd_{id}_{}", hex::encode(sha256(secret.as_bytes()))),
            String::new(),
            "qd_".to_owned(),
            "qd__".to_owned(),
        ] {
            assert_eq!(ring.verify(&wrong, NOW), Err(Rejected("no such key")), "{wrong}");
        }
        assert_eq!(ring.verify("an operator's key of enough characters", NOW), Ok(Caller::AdminKey));
    }

    #[test]
    fn a_key_ends_when_it_is_revoked_or_expires() {
        let (revoked, key) = ring(|record| record.revoked_at = Some(NOW));
        assert!(revoked.verify(&key, NOW).is_err());
        let (expiring, key) = ring(|record| record.expires_at = Some(Timestamp::from_seconds(1_001)));
        assert!(expiring.verify(&key, NOW).is_ok());
        assert!(expiring.verify(&key, Timestamp::from_seconds(1_001)).is_err());
    }

    /// The one who reads first is slow: what it has read is from before the other's change.
    #[tokio::test]
    async fn an_older_list_never_takes_the_place_of_a_newer_one() {
        let (ring, key) = ring(|_| {});
        let old: Vec<ApiKeyRecord> = ring.keys.load().values().map(|key| key.record.clone()).collect();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let slow = ring.reload(async { gone.await.map(|()| old) });
        let quick = ring.reload(async { Ok::<_, std::convert::Infallible>(Vec::new()) });
        let release = async {
            tokio::task::yield_now().await;
            go.send(()).unwrap();
        };
        let (slow, quick, ()) = tokio::join!(slow, quick, release);
        slow.unwrap();
        quick.unwrap();
        assert!(ring.verify(&key, NOW).is_err(), "the revocation was read last");
    }

    #[test]
    fn a_use_is_known_to_the_second_and_until_it_is_written() {
        let (ring, key) = ring(|_| {});
        assert!(ring.verify("qd_00000000_no", NOW).is_err());
        assert_eq!((ring.last_used().len(), ring.unwritten_uses().len()), (0, 0));
        ring.verify(&key, Timestamp::from_micros(1_000_999_999)).unwrap();
        let unwritten = ring.unwritten_uses();
        assert_eq!(unwritten.iter().map(|one| one.at).collect::<Vec<_>>(), [NOW]);
        let records = ring.keys.load().values().map(|key| key.record.clone()).collect();
        ring.replace(records);
        ring.verify(&key, Timestamp::from_seconds(1_007)).unwrap();
        unwritten.iter().for_each(UnwrittenUse::was_written);
        let later: Vec<Timestamp> = ring.unwritten_uses().iter().map(|one| one.at).collect();
        assert_eq!(
            later,
            [Timestamp::from_seconds(1_007)],
            "used again while it was written, and the list was read anew"
        );
        ring.unwritten_uses().iter().for_each(UnwrittenUse::was_written);
        assert!(ring.unwritten_uses().is_empty());
        assert_eq!(ring.last_used().into_values().collect::<Vec<_>>(), [Timestamp::from_seconds(1_007)]);
    }
}
