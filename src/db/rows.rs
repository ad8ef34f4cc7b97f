//! Rows as the database has them, and what they mean.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use serde_json::{Value, json};

use super::schema::{api_keys, audit, changes, overrides, users};
use crate::domain::account::{Account, QuotaOverride};
use crate::domain::credential::{ApiKeyRecord, KeyId, Role};
use crate::domain::report::{AuditEntry, HistoryItem, SubjectUsage, Totals};
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::domain::usage::Usage;

#[derive(Insertable, AsChangeset)]
#[diesel(table_name = users, treat_none_as_null = true, treat_none_as_default_value = false)]
pub struct NewUser<'a> {
    pub user_id: &'a str,
    pub tier: Option<&'a str>,
    pub updated_at: i64,
}

#[derive(Insertable, AsChangeset)]
#[diesel(table_name = overrides, treat_none_as_null = true, treat_none_as_default_value = false)]
pub struct NewOverride<'a> {
    pub user_id: &'a str,
    pub requests_per_hour: Option<i64>,
    pub requests_per_day: Option<i64>,
    pub expires_at: Option<i64>,
    pub reason: Option<&'a str>,
    pub updated_at: i64,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = overrides)]
pub struct OverrideRow {
    user_id: String,
    requests_per_hour: Option<i64>,
    requests_per_day: Option<i64>,
    expires_at: Option<i64>,
    reason: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = api_keys, treat_none_as_default_value = false)]
pub struct NewKey<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub role: &'a str,
    pub user_id: Option<&'a str>,
    pub secret_sha256: &'a [u8],
    pub created_at: i64,
    pub expires_at: Option<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = api_keys)]
pub struct KeyRow {
    id: String,
    name: String,
    role: String,
    user_id: Option<String>,
    secret_sha256: Vec<u8>,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

#[derive(Insertable)]
#[diesel(table_name = audit, treat_none_as_default_value = false)]
pub struct NewAudit<'a> {
    pub at: i64,
    pub actor: &'a str,
    pub address: Option<String>,
    pub action: &'a str,
    pub target: &'a str,
    pub old_value: Option<String>,
    pub new_value: Option<String>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = audit)]
pub struct AuditRow {
    id: i64,
    at: i64,
    actor: String,
    address: Option<String>,
    action: String,
    target: String,
    old_value: Option<String>,
    new_value: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = changes, treat_none_as_default_value = false)]
pub struct NewChange<'a> {
    pub kind: &'a str,
    pub user_id: Option<&'a str>,
    pub at: i64,
}

#[derive(QueryableByName)]
pub struct BucketRow {
    #[diesel(sql_type = BigInt)]
    start: i64,
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    cost: i64,
    #[diesel(sql_type = BigInt)]
    denied: i64,
}

#[derive(QueryableByName)]
pub struct TierRow {
    #[diesel(sql_type = Text)]
    tier: String,
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    cost: i64,
    #[diesel(sql_type = BigInt)]
    denied: i64,
    #[diesel(sql_type = BigInt)]
    active_users: i64,
}

#[derive(QueryableByName)]
pub struct SubjectRow {
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Text)]
    tier: String,
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    cost: i64,
    #[diesel(sql_type = BigInt)]
    denied: i64,
}

#[derive(QueryableByName)]
pub struct CountRow {
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// A count as a column holds it; what is too large for one is its largest.
pub fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A column as a count; a negative one, which nothing here writes, is nothing.
pub fn amount(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

fn sums(requests: i64, cost: i64, denied: i64) -> Usage {
    Usage { requests: amount(requests), cost: amount(cost), denied: amount(denied) }
}

/// What the audit shows of an override.
pub fn override_json(quota_override: &QuotaOverride) -> Value {
    json!({
        "custom_requests_per_hour": quota_override.requests_per_hour,
        "custom_requests_per_day": quota_override.requests_per_day,
        "expires_at": quota_override.expires_at,
        "reason": quota_override.reason,
    })
}

/// The accounts that tiers and overrides together make. A row that can't be read is passed over.
pub fn accounts(tiers: Vec<(String, Option<String>)>, overrides: Vec<OverrideRow>) -> Vec<Account> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    let mut entry = |name: &str, put: &dyn Fn(&mut Account)| {
        if let Ok(user) = UserId::parse(name) {
            put(accounts.entry(name.to_owned()).or_insert_with(|| Account::unknown(user)));
        }
    };
    for (name, tier) in tiers {
        let tier = tier.and_then(|tier| TierName::parse(&tier).ok());
        entry(&name, &|account| account.tier.clone_from(&tier));
    }
    for row in overrides {
        let name = row.user_id.clone();
        let quota_override = row.into_override();
        entry(&name, &|account| account.quota_override = Some(quota_override.clone()));
    }
    accounts.into_values().collect()
}

impl OverrideRow {
    pub fn into_override(self) -> QuotaOverride {
        QuotaOverride {
            requests_per_hour: self.requests_per_hour.map(amount),
            requests_per_day: self.requests_per_day.map(amount),
            expires_at: self.expires_at.map(Timestamp::from_micros),
            reason: self.reason,
        }
    }
}

impl KeyRow {
    pub fn into_record(self) -> Option<ApiKeyRecord> {
        let user_id = match self.user_id {
            Some(user) => Some(UserId::parse(&user).ok()?),
            None => None,
        };
        Some(ApiKeyRecord {
            id: KeyId::parse(&self.id)?,
            name: self.name,
            role: Role::parse(&self.role)?,
            user_id,
            secret_sha256: self.secret_sha256.try_into().ok()?,
            created_at: Timestamp::from_micros(self.created_at),
            expires_at: self.expires_at.map(Timestamp::from_micros),
            revoked_at: self.revoked_at.map(Timestamp::from_micros),
        })
    }
}

impl AuditRow {
    pub fn into_entry(self) -> AuditEntry {
        let json = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
        AuditEntry {
            id: self.id,
            at: Timestamp::from_micros(self.at),
            actor: self.actor,
            address: self.address,
            action: self.action,
            target: self.target,
            before: json(self.old_value),
            after: json(self.new_value),
        }
    }
}

impl BucketRow {
    pub fn into_item(self) -> HistoryItem {
        HistoryItem { start: Timestamp::from_micros(self.start), usage: sums(self.requests, self.cost, self.denied) }
    }
}

impl TierRow {
    pub fn into_totals(self) -> Option<(TierName, Totals)> {
        let usage = sums(self.requests, self.cost, self.denied);
        let totals = Totals { usage, active_users: amount(self.active_users) };
        Some((TierName::parse(&self.tier).ok()?, totals))
    }
}

impl SubjectRow {
    pub fn into_usage(self) -> Option<SubjectUsage> {
        Some(SubjectUsage {
            subject: Subject::parse(&self.subject).ok()?,
            tier: TierName::parse(&self.tier).ok()?,
            usage: sums(self.requests, self.cost, self.denied),
        })
    }
}
