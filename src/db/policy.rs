//! The tables `tiers` and `endpoint_costs`: what operators set by the API.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::audit::AuditNote;
use super::schema::{endpoint_costs, tiers, users};
use super::{Database, DbError};
use crate::domain::endpoint::{EndpointCost, EndpointCosts};
use crate::domain::policy::{Layer, TierRemoval};
use crate::domain::report::Author;
use crate::domain::tier::{Tier, TierName};
use crate::domain::time::Timestamp;

/// The most tiers that may be set.
const TIERS_MAX: i64 = 1000;

impl Database {
    /// All that was set by the API.
    pub async fn load_policy(&self) -> Result<Layer, DbError> {
        on!(self, read, "load the policy", policy::load())
    }

    /// Sets a tier in the place of the one of its name; false where there are [`TIERS_MAX`] others.
    pub async fn put_tier(&self, tier: &Tier, author: &Author, now: Timestamp) -> Result<bool, DbError> {
        let (tier, author) = (tier.clone(), author.clone());
        on!(self, write, "set a tier", policy::put_tier(&tier, &author, now))
    }

    /// Removes a tier that was set. `is_elsewhere`: whether users who are placed in it still have one of the name then.
    pub async fn delete_tier(
        &self,
        name: &TierName,
        is_elsewhere: bool,
        author: &Author,
        now: Timestamp,
    ) -> Result<TierRemoval, DbError> {
        let (name, author) = (name.clone(), author.clone());
        on!(self, write, "remove a tier", policy::delete_tier(&name, is_elsewhere, &author, now))
    }

    /// Sets all endpoint costs.
    pub async fn put_endpoint_costs(
        &self,
        costs: &[EndpointCost],
        author: &Author,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let (costs, author) = (costs.to_vec(), author.clone());
        on!(self, write, "set the endpoint costs", policy::put_costs(&costs, &author, now))
    }
}

/// What is stored, where this version can read it. What it can't was put in by a newer one, or by hand.
fn readable<T: DeserializeOwned>(table: &'static str, text: &str) -> Option<T> {
    serde_json::from_str(text)
        .inspect_err(|error| tracing::warn!(table, %error, "passed over a definition that can't be read"))
        .ok()
}

/// A tier that is one by itself and bears the name that it stands under.
fn stored_tier((name, definition): &(String, String)) -> Option<Tier> {
    let tier: Tier = readable("tiers", definition)?;
    let valid = tier.check().is_ok() && tier.name.as_str() == name;
    if !valid {
        tracing::warn!(table = "tiers", "passed over a tier that can't be one");
    }
    valid.then_some(tier)
}

fn stored_costs(text: &str) -> Option<Vec<EndpointCost>> {
    let costs: Vec<EndpointCost> = readable("endpoint_costs", text)?;
    let valid = EndpointCosts::new(costs.clone()).inspect_err(|error| {
        tracing::warn!(table = "endpoint_costs", %error, "passed over endpoint costs that can't be");
    });
    valid.is_ok().then_some(costs)
}

fn costs_json(text: &str) -> Value {
    json!({ "costs": json(text) })
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn written<T: serde::Serialize + ?Sized>(value: &T) -> String {
    // Names, numbers and texts always have a JSON form.
    serde_json::to_string(value).unwrap_or_default()
}

on_both! {
    pub(in crate::db) async fn load(connection: &mut Connection) -> QueryResult<Layer> {
        let definitions: Vec<(String, String)> =
            tiers::table.order(tiers::name).select((tiers::name, tiers::definition)).load(connection).await?;
        let costs: Option<String> =
            endpoint_costs::table.select(endpoint_costs::costs).first(connection).await.optional()?;
        Ok(Layer {
            tiers: definitions.iter().filter_map(stored_tier).collect(),
            costs: costs.and_then(|text| stored_costs(&text)),
        })
    }

    async fn definition_of(connection: &mut Connection, name: &TierName) -> QueryResult<Option<String>> {
        tiers::table.find(name.as_str()).select(tiers::definition).first(connection).await.optional()
    }

    pub(in crate::db) async fn put_tier(
        connection: &mut Connection,
        tier: &Tier,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<bool> {
        let definition = written(tier);
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                let before = definition_of(connection, &tier.name).await?;
                if before.is_none() && tiers::table.count().get_result::<i64>(connection).await? >= TIERS_MAX {
                    return Ok(false);
                }
                let values = (tiers::definition.eq(&definition), tiers::updated_at.eq(now.as_micros()));
                diesel::insert_into(tiers::table)
                    .values((tiers::name.eq(tier.name.as_str()), values))
                    .on_conflict(tiers::name)
                    .do_update()
                    .set(values)
                    .execute(connection)
                    .await?;
                changes::of_policy(connection, version, now).await?;
                let note = AuditNote {
                    action: "tier.put",
                    target: format!("tier:{}", tier.name),
                    before: before.as_deref().map(json),
                    after: Some(json(&definition)),
                };
                audit::write(connection, version, &note, author, now).await?;
                Ok(true)
            })
            .await
    }

    pub(in crate::db) async fn delete_tier(
        connection: &mut Connection,
        name: &TierName,
        is_elsewhere: bool,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<TierRemoval> {
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                let Some(before) = definition_of(connection, name).await? else { return Ok(TierRemoval::Absent) };
                let placed: i64 =
                    users::table.filter(users::tier.eq(name.as_str())).count().get_result(connection).await?;
                if placed > 0 && !is_elsewhere {
                    return Ok(TierRemoval::InUse { users: placed.max(0).cast_unsigned() });
                }
                diesel::delete(tiers::table.find(name.as_str())).execute(connection).await?;
                changes::of_policy(connection, version, now).await?;
                let target = format!("tier:{name}");
                let note = AuditNote { action: "tier.delete", target, before: Some(json(&before)), after: None };
                audit::write(connection, version, &note, author, now).await?;
                Ok(TierRemoval::Removed)
            })
            .await
    }

    pub(in crate::db) async fn put_costs(
        connection: &mut Connection,
        costs: &[EndpointCost],
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<()> {
        let text = written(costs);
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                let before: Option<String> =
                    endpoint_costs::table.select(endpoint_costs::costs).first(connection).await.optional()?;
                let values = (endpoint_costs::costs.eq(&text), endpoint_costs::updated_at.eq(now.as_micros()));
                diesel::insert_into(endpoint_costs::table)
                    .values((endpoint_costs::id.eq(1), values))
                    .on_conflict(endpoint_costs::id)
                    .do_update()
                    .set(values)
                    .execute(connection)
                    .await?;
                changes::of_policy(connection, version, now).await?;
                let note = AuditNote {
                    action: "endpoints.put",
                    target: "endpoints".to_owned(),
                    before: before.as_deref().map(costs_json),
                    after: Some(costs_json(&text)),
                };
                audit::write(connection, version, &note, author, now).await
            })
            .await
    }
}
