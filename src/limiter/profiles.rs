//! What the shard remembers of users: the database's entry, or that there is none.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::messages::Job;
use crate::domain::account::Account;
use crate::domain::subject::{Subject, UserId};
use crate::domain::time::{Period, Timestamp};

/// After a read that failed, users that are not known are taken as unknown to the database for so long.
const PAUSE_AFTER_FAILURE: Period = Period::from_seconds(1);

/// What is known of a subject's account.
#[derive(Debug)]
pub enum Known {
    /// An account, or that the database has none.
    Account(Option<Arc<Account>>),
    /// Ask the database.
    NotYet,
}

/// The profile cache, and the checks that wait for an entry of it.
#[derive(Debug)]
pub struct Profiles {
    cache: Cache<UserId, Option<Arc<Account>>, RandomState>,
    waiting: Vec<Job>,
    loading: Vec<Job>,
    /// Something was forgotten while a read was under way: what it brings may be older than the change.
    loading_is_stale: bool,
    unreadable_until: Timestamp,
}

impl Profiles {
    /// `capacity` is in users.
    pub fn new(capacity: usize) -> Self {
        Self {
            cache: Cache::builder()
                .max_capacity(capacity as u64)
                .eviction_policy(EvictionPolicy::lru())
                .build_with_hasher(RandomState::default()),
            waiting: Vec::new(),
            loading: Vec::new(),
            loading_is_stale: false,
            unreadable_until: Timestamp::EPOCH,
        }
    }

    /// An address has no account. While the database can't be read, a user who isn't remembered is taken as one without.
    pub fn get(&self, subject: &Subject, now: Timestamp) -> Known {
        let Subject::User(user) = subject else { return Known::Account(None) };
        match self.cache.get(user) {
            Some(account) => Known::Account(account),
            None if now < self.unreadable_until => Known::Account(None),
            None => Known::NotYet,
        }
    }

    pub fn wait(&mut self, job: Job) {
        self.waiting.push(job);
    }

    /// The users to read next, where any are waited for and no read is under way.
    pub fn next_load(&mut self) -> Option<Vec<UserId>> {
        if !self.loading.is_empty() || self.waiting.is_empty() {
            return None;
        }
        self.loading = std::mem::take(&mut self.waiting);
        self.loading_is_stale = false;
        let mut users: Vec<UserId> = self.loading.iter().filter_map(|job| user_of(&job.check.subject)).collect();
        users.sort_unstable();
        users.dedup();
        Some(users)
    }

    /// Takes in what was read (`None`: the read failed), and gives back the checks that waited, in their order.
    ///
    /// Where something was forgotten meanwhile nothing is given back and the same users are asked for again.
    pub fn loaded(&mut self, accounts: Option<Vec<Account>>, now: Timestamp) -> Vec<Job> {
        let mut jobs = std::mem::take(&mut self.loading);
        match accounts {
            Some(_) if self.loading_is_stale => {
                jobs.append(&mut self.waiting);
                self.waiting = jobs;
                return Vec::new();
            }
            Some(accounts) => {
                let mut found: HashMap<UserId, Arc<Account>> =
                    accounts.into_iter().map(|account| (account.user_id.clone(), Arc::new(account))).collect();
                for user in jobs.iter().filter_map(|job| user_of(&job.check.subject)) {
                    if !self.cache.contains_key(&user) {
                        self.cache.insert(user.clone(), found.remove(&user));
                    }
                }
            }
            None => self.unreadable_until = now.saturating_add(PAUSE_AFTER_FAILURE),
        }
        jobs
    }

    pub fn forget(&mut self, users: Option<&[UserId]>) {
        self.loading_is_stale = true;
        match users {
            Some(users) => users.iter().for_each(|user| self.cache.invalidate(user)),
            None => self.cache.invalidate_all(),
        }
    }
}

fn user_of(subject: &Subject) -> Option<UserId> {
    match subject {
        Subject::User(user) => Some(user.clone()),
        Subject::Ip(_) => None,
    }
}
