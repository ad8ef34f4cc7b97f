//! What people page through: users, overrides, leases.

use super::account::{Account, QuotaOverride};
use super::subject::UserId;
use super::time::Timestamp;

/// A part of a list in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, Place> {
    pub items: Vec<T>,
    /// Where the next part begins: behind this place. `None` where there is no more.
    pub next: Option<Place>,
}

/// A user who has an entry, an override, or usage in the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownUser {
    pub account: Account,
    /// The start of the last hour in which anything was used or denied.
    pub last_hour: Option<Timestamp>,
}

/// An override, whose it is, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetOverride {
    pub user_id: UserId,
    pub quota_override: QuotaOverride,
    pub set_at: Timestamp,
}

/// Which overrides are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverrideFilter {
    /// `Some(true)` those in force, `Some(false)` those that have ended.
    pub active: Option<bool>,
    pub user: Option<UserId>,
}

/// Where an override stands in the list: by its end, those that never end last, then by user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverridePlace {
    pub ends: Option<Timestamp>,
    pub user_id: UserId,
}

impl<T, Place> Page<T, Place> {
    /// The page of at most `limit` items out of one more than that, where there is one more.
    pub fn cut(mut items: Vec<T>, limit: usize, place: impl Fn(&T) -> Place) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(place);
        Self { items, next }
    }
}

impl SetOverride {
    pub fn place(&self) -> OverridePlace {
        OverridePlace { ends: self.quota_override.expires_at, user_id: self.user_id.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_where_the_next_begins_and_the_last_that_there_is_none() {
        let page = |count: u32, limit| Page::cut((0..count).collect(), limit, |item| *item);
        assert_eq!(page(3, 2), Page { items: vec![0, 1], next: Some(1) });
        assert_eq!(page(2, 2), Page { items: vec![0, 1], next: None });
        assert_eq!(page(0, 2), Page { items: vec![], next: None });
    }
}
