//! What is remembered of credentials for a while: which verified, and which addresses showed such as did not.
//!
//! It decides alone whether a credential waits behind a limit of its address. Each is verified all the same.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::CredentialHeaders;
use crate::domain::subject::Subject;
use crate::domain::time::{Period, Timestamp};

/// Failures are forgotten after so long, and credentials that were not shown.
pub const REMEMBERED: Period = Period::from_seconds(600);

/// Of credentials, and of addresses. Past it those that were not heard of for longest are forgotten: such a credential waits behind
/// the limit where its address has failed, and such an address is remembered with its next failure.
const CAPACITY: u64 = 100_000;

/// Credentials and addresses that were seen lately.
#[derive(Debug)]
pub struct Attempts {
    /// By a hash under a key that only this process knows. Two of one hash would be two that don't wait: no more than that.
    verified: Cache<u64, (), RandomState>,
    hasher: RandomState,
    failed: Cache<Subject, (), RandomState>,
    /// In microseconds. Mostly nobody has failed lately, and nothing else has to be looked at.
    last_failure: AtomicI64,
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Attempts {
    fn new(capacity: u64) -> Self {
        let remembered = Duration::from_secs(REMEMBERED.ceil_seconds());
        let (credentials, addresses) = (Cache::builder(), Cache::builder());
        Self {
            verified: credentials
                .max_capacity(capacity)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(remembered)
                .build_with_hasher(RandomState::default()),
            hasher: RandomState::default(),
            failed: addresses
                .max_capacity(capacity)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(remembered)
                .build_with_hasher(RandomState::default()),
            last_failure: AtomicI64::new(i64::MIN),
        }
    }

    pub fn verified(&self, credential: CredentialHeaders<'_>) {
        let hash = self.hasher.hash_one(credential);
        // To look it up also keeps it.
        if !credential.is_none() && self.verified.get(&hash).is_none() {
            self.verified.insert(hash, ());
        }
    }

    pub fn failed(&self, address: Subject, now: Timestamp) {
        self.failed.insert(address, ());
        self.last_failure.fetch_max(now.as_micros(), Ordering::Relaxed);
    }

    /// Whether a credential waits behind the limit of its address: it was not seen to verify, and the address has failed.
    pub fn is_suspect(
        &self,
        credential: CredentialHeaders<'_>,
        address: impl FnOnce() -> Option<Subject>,
        now: Timestamp,
    ) -> bool {
        let last_failure = Timestamp::from_micros(self.last_failure.load(Ordering::Relaxed));
        now < last_failure.saturating_add(REMEMBERED)
            && !credential.is_none()
            && !self.verified.contains_key(&self.hasher.hash_one(credential))
            && address().is_some_and(|address| self.failed.contains_key(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::ClientAddress;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn address(last: u8) -> Subject {
        Subject::Ip(ClientAddress::new([192, 0, 2, last].into(), 64))
    }

    fn key(text: &str) -> CredentialHeaders<'_> {
        CredentialHeaders { api_key: Some(text.as_bytes()), authorization: None }
    }

    fn is_suspect(attempts: &Attempts, credential: CredentialHeaders<'_>, last: u8, now: Timestamp) -> bool {
        attempts.is_suspect(credential, || Some(address(last)), now)
    }

    #[test]
    fn only_an_unknown_credential_of_an_address_that_has_failed_waits() {
        let attempts = Attempts::default();
        assert!(!is_suspect(&attempts, key("bad"), 1, NOW), "nobody has failed");
        attempts.verified(key("good"));
        attempts.failed(address(1), NOW);
        assert!(is_suspect(&attempts, key("bad"), 1, NOW));
        assert!(!is_suspect(&attempts, key("good"), 1, NOW), "it is known");
        assert!(!is_suspect(&attempts, CredentialHeaders::default(), 1, NOW), "there is none");
        assert!(!is_suspect(&attempts, key("bad"), 2, NOW), "another address");
        assert!(!is_suspect(&attempts, key("bad"), 1, NOW.saturating_add(REMEMBERED)), "long ago");
    }

    #[test]
    fn a_credential_is_known_as_it_was_shown() {
        let attempts = Attempts::default();
        attempts.verified(key("good"));
        attempts.failed(address(1), NOW);
        let bearer = CredentialHeaders { authorization: Some(b"good"), api_key: None };
        assert!(is_suspect(&attempts, bearer, 1, NOW));
        attempts.verified(CredentialHeaders::default());
        assert_eq!(attempts.verified.iter().count(), 1);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let attempts = Attempts::new(10);
        for number in 0..200 {
            attempts.failed(address(number), NOW);
            attempts.verified(key(&number.to_string()));
        }
        attempts.failed.run_pending_tasks();
        attempts.verified.run_pending_tasks();
        assert_eq!((attempts.failed.entry_count(), attempts.verified.entry_count()), (10, 10));
        assert!(is_suspect(&attempts, key("bad"), 199, NOW), "the newest are kept");
        assert!(!is_suspect(&attempts, key("199"), 199, NOW));
    }
}
