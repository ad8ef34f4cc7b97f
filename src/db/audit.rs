//! The table `audit`: who changed what, when, from where, before and after.

use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::{Value, json};

use super::schema::audit as audit_table;
use super::{Database, DbError};
use crate::domain::report::{AuditEntry, Author};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// What was done to what.
pub(super) struct AuditNote {
    /// As `override.put`.
    pub(super) action: &'static str,
    /// As `user:42`.
    pub(super) target: String,
    /// How it was; `None` where there was nothing.
    pub(super) before: Option<Value>,
    /// How it is; `None` where it was removed.
    pub(super) after: Option<Value>,
}

type Row = (i64, i64, String, Option<String>, String, String, Option<String>, Option<String>);

impl Database {
    /// Notes that limits of a subject (null: all of them) were reset. What other instances remember of a user is stale then.
    pub async fn note_reset(
        &self,
        subject: &Subject,
        limits: Value,
        author: &Author,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let (subject, author) = (subject.clone(), author.clone());
        on!(self, write, "write the audit trail", audit::note_reset(&subject, limits, &author, now))
    }

    /// The newest entries first, at most `limit`, with ids below `before` where it is given.
    pub async fn audit(&self, limit: u32, before: Option<i64>) -> Result<Vec<AuditEntry>, DbError> {
        on!(self, read, "read the audit trail", audit::list(limit, before))
    }
}

fn entry((id, at, actor, address, action, target, before, after): Row) -> AuditEntry {
    // What is written here is JSON; text that is not was put in by hand and is shown as it is.
    let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    AuditEntry {
        id,
        at: Timestamp::from_micros(at),
        actor,
        address,
        action,
        target,
        before: before.map(json),
        after: after.map(json),
    }
}

on_both! {
    pub(in crate::db) async fn ping(connection: &mut Connection) -> QueryResult<()> {
        diesel::select(1.into_sql::<diesel::sql_types::Integer>()).execute(connection).await.map(|_| ())
    }

    /// Writes the entry of the change `id`, in its transaction; which is rolled back where the author expects something else
    /// than what was there before.
    pub(in crate::db) async fn write(
        connection: &mut Connection,
        id: i64,
        note: &AuditNote,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<()> {
        if !author.expects.is_met_by(note.before.as_ref()) {
            return Err(QueryError::RollbackTransaction);
        }
        diesel::insert_into(audit_table::table)
            .values((
                audit_table::id.eq(id),
                audit_table::at.eq(now.as_micros()),
                audit_table::actor.eq(author.actor.as_str()),
                audit_table::address.eq(author.address.map(|address| address.to_string())),
                audit_table::action.eq(note.action),
                audit_table::target.eq(note.target.as_str()),
                audit_table::before.eq(note.before.as_ref().map(Value::to_string)),
                audit_table::after.eq(note.after.as_ref().map(Value::to_string)),
            ))
            .execute(connection)
            .await
            .map(|_| ())
    }

    pub(in crate::db) async fn note_reset(
        connection: &mut Connection,
        subject: &Subject,
        limits: Value,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<()> {
        let after = Some(json!({ "limits": limits }));
        let note = AuditNote { action: "quota.reset", target: subject.to_string(), before: None, after };
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                if let Subject::User(user) = subject {
                    changes::of_user(connection, version, user, now).await?;
                }
                write(connection, version, &note, author, now).await
            })
            .await
    }

    pub(in crate::db) async fn list(
        connection: &mut Connection,
        limit: u32,
        before: Option<i64>,
    ) -> QueryResult<Vec<AuditEntry>> {
        let rows: Vec<Row> = audit_table::table
            .filter(audit_table::id.lt(before.unwrap_or(i64::MAX)))
            .order(audit_table::id.desc())
            .limit(i64::from(limit))
            .load(connection)
            .await?;
        Ok(rows.into_iter().map(entry).collect())
    }
}
