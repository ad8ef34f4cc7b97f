//! What goes through to the database at once. Reads of usage flush first, so that an instance tells what it has counted.

use serde_json::Value;

use super::{Books, BooksError};
use crate::db::DbError;
use crate::domain::account::{Account, QuotaOverride, UserEntry};
use crate::domain::credential::{ApiKeyRecord, KeyId, KeyRotated, KeyRotation};
use crate::domain::delivery::{Delivery, DeliveryPlace, DeliveryState};
use crate::domain::endpoint::EndpointCost;
use crate::domain::limit::LimitName;
use crate::domain::listing::{KnownUser, OverrideFilter, OverridePlace, Page, SetOverride};
use crate::domain::policy::{Layer, TierRemoval};
use crate::domain::report::{AuditEntry, Author, HistoryItem, HistoryRange, ReportOrder, UsageReport};
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::{Tier, TierName};
use crate::domain::time::Timestamp;

/// See the functions of the same names of [`crate::db::Database`].
///
/// # Errors
/// [`BooksError::Unavailable`] where the database is away, [`BooksError::Refused`] where it refuses.
impl Books {
    /// With what this instance has counted until now; of all subjects where none is named.
    pub async fn history(
        &self,
        subject: Option<&Subject>,
        range: HistoryRange,
    ) -> Result<Page<HistoryItem, Timestamp>, BooksError> {
        self.flush().await?;
        Ok(match subject {
            Some(subject) => self.shared.database.history(subject, range).await?,
            None => self.shared.database.system_history(range).await?,
        })
    }

    /// With what this instance has counted until now.
    pub async fn usage_report(
        &self,
        since: Timestamp,
        order: ReportOrder,
        top: u32,
    ) -> Result<UsageReport, BooksError> {
        self.flush().await?;
        Ok(self.shared.database.usage_report(since, order, top).await?)
    }

    /// With what this instance has counted until now.
    pub async fn list_users(
        &self,
        search: &str,
        limit: u32,
        after: Option<&UserId>,
    ) -> Result<Page<KnownUser, UserId>, BooksError> {
        self.flush().await?;
        Ok(self.shared.database.list_users(search, limit, after).await?)
    }

    pub async fn list_overrides(
        &self,
        filter: &OverrideFilter,
        limit: u32,
        after: Option<&OverridePlace>,
    ) -> Result<Page<SetOverride, OverridePlace>, BooksError> {
        Ok(self.shared.database.list_overrides(filter, limit, after, self.now()).await?)
    }

    pub async fn list_webhooks(
        &self,
        state: Option<DeliveryState>,
        limit: u32,
        after: Option<&DeliveryPlace>,
    ) -> Result<Page<Delivery, DeliveryPlace>, BooksError> {
        Ok(self.shared.database.list_webhooks(state, limit, after).await?)
    }

    /// The user as the database has it now.
    pub async fn account(&self, user: &UserId) -> Result<Account, BooksError> {
        let found = self.shared.database.load_accounts(std::slice::from_ref(user)).await?;
        Ok(found.into_iter().next().unwrap_or_else(|| Account::unknown(user.clone())))
    }

    pub async fn put_override(
        &self,
        user: &UserId,
        quota_override: &QuotaOverride,
        author: &Author,
    ) -> Result<(), BooksError> {
        self.written(self.shared.database.put_override(user, quota_override, author, self.now()).await)
    }

    pub async fn delete_override(&self, user: &UserId, author: &Author) -> Result<bool, BooksError> {
        self.written(self.shared.database.delete_override(user, author, self.now()).await)
    }

    pub async fn put_user(
        &self,
        user: &UserId,
        entry: &UserEntry,
        must_be_set: bool,
        author: &Author,
    ) -> Result<bool, BooksError> {
        self.written(self.shared.database.put_user(user, entry, must_be_set, author, self.now()).await)
    }

    pub async fn load_policy(&self) -> Result<Layer, BooksError> {
        Ok(self.shared.database.load_policy().await?)
    }

    pub async fn put_tier(&self, tier: &Tier, author: &Author) -> Result<bool, BooksError> {
        self.written(self.shared.database.put_tier(tier, author, self.now()).await)
    }

    pub async fn delete_tier(
        &self,
        name: &TierName,
        is_elsewhere: bool,
        author: &Author,
    ) -> Result<TierRemoval, BooksError> {
        self.written(self.shared.database.delete_tier(name, is_elsewhere, author, self.now()).await)
    }

    pub async fn put_endpoint_costs(&self, costs: &[EndpointCost], author: &Author) -> Result<(), BooksError> {
        self.written(self.shared.database.put_endpoint_costs(costs, author, self.now()).await)
    }

    pub async fn insert_key(&self, key: &ApiKeyRecord, author: &Author) -> Result<(), BooksError> {
        self.written(self.shared.database.insert_key(key, author, self.now()).await)
    }

    pub async fn list_keys(&self) -> Result<Vec<ApiKeyRecord>, BooksError> {
        Ok(self.shared.database.list_keys().await?)
    }

    pub async fn revoke_key(&self, id: &KeyId, author: &Author) -> Result<bool, BooksError> {
        self.written(self.shared.database.revoke_key(id, author, self.now()).await)
    }

    pub async fn rotate_key(&self, rotation: &KeyRotation, author: &Author) -> Result<KeyRotated, BooksError> {
        self.written(self.shared.database.rotate_key(rotation, author, self.now()).await)
    }

    pub async fn note_key_uses(&self, uses: &[(KeyId, Timestamp)]) -> Result<(), BooksError> {
        Ok(self.shared.database.note_key_uses(uses).await?)
    }

    /// `None` is all limits.
    pub async fn note_reset(
        &self,
        subject: &Subject,
        limits: Option<&[LimitName]>,
        author: &Author,
    ) -> Result<(), BooksError> {
        let limits = limits.map_or(Value::Null, |names| names.iter().map(|name| Value::from(name.as_str())).collect());
        Ok(self.shared.database.note_reset(subject, limits, author, self.now()).await?)
    }

    pub async fn audit(&self, limit: u32, before: Option<i64>) -> Result<Vec<AuditEntry>, BooksError> {
        Ok(self.shared.database.audit(limit, before).await?)
    }

    pub async fn ping(&self) -> Result<(), BooksError> {
        Ok(self.shared.database.ping().await?)
    }

    /// Whoever follows changes is told of one.
    fn written<T>(&self, result: Result<T, DbError>) -> Result<T, BooksError> {
        if result.is_ok() {
            self.shared.changed.notify_one();
        }
        Ok(result?)
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}
