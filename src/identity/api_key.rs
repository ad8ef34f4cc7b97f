//! API keys: `qd_<id>_<secret>`. Only the SHA-256 of the secret is kept. A secret has 256 random bits, so a plain hash is
//! as good as a slow one; it is compared in constant time.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Caller, Rejected};
use crate::config::Secret;
use crate::domain::credential::{ApiKeyRecord, KeyId};
use crate::domain::time::Timestamp;

const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// All keys in force, in memory: a check never asks the database who is calling.
#[derive(Debug)]
pub struct KeyRing {
    admin_sha256: [u8; 32],
    keys: ArcSwap<HashMap<KeyId, ApiKeyRecord>>,
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
        Self { admin_sha256: sha256(admin_key.expose().as_bytes()), keys: ArcSwap::default() }
    }

    /// Takes the database's list in the place of what was known.
    pub fn replace(&self, keys: Vec<ApiKeyRecord>) {
        self.keys.store(keys.into_iter().map(|key| (key.id.clone(), key)).collect::<HashMap<_, _>>().into());
    }

    /// How long this takes tells nothing of how near a wrong key is: a hash is compared whole, also for an unknown id.
    pub fn verify(&self, text: &str, now: Timestamp) -> Result<Caller, Rejected> {
        let (id, secret) = split(text).unwrap_or(("", text));
        let keys = self.keys.load();
        let key = KeyId::parse(id).and_then(|id| keys.get(&id));
        let expected = key.map_or([0_u8; 32], |key| key.secret_sha256);
        let is_key: bool = sha256(secret.as_bytes()).ct_eq(&expected).into();
        match key {
            Some(key) if is_key && key.is_valid(now) => {
                return Ok(Caller::Key { id: key.id.clone(), role: key.role, user_id: key.user_id.clone() });
            }
            Some(_) if is_key => return Err(Rejected("the key is revoked or has expired")),
            _ => {}
        }
        let is_admin: bool = sha256(text.as_bytes()).ct_eq(&self.admin_sha256).into();
        if is_admin { Ok(Caller::AdminKey) } else { Err(Rejected("no such key")) }
    }
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
        };
        change(&mut record);
        ring.replace(vec![record]);
        (ring, key.text)
    }

    #[test]
    fn a_key_is_known_and_near_misses_are_not() {
        let (ring, key) = ring(|_| {});
        assert_eq!(ring.verify(&key, NOW).unwrap().role(), Some(Role::Service));
        let mut last_changed = key.clone();
        last_changed.replace_range(key.len() - 1.., if key.ends_with('0') { "1" } else { "0" });
        for wrong in [&last_changed, &key[..key.len() - 1], &format!("{key}0"), &key.to_uppercase(), "", "qd_", "qd__"]
        {
            assert!(ring.verify(wrong, NOW).is_err(), "{wrong}");
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
}
