//! The table `counters`: the running windows that an instance without Redis starts again from.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::schema::counters as counters_table;
use super::{Database, DbError, FLUSH_DEADLINE, state_codec};
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

impl Database {
    /// The counters that still say something at `now`. As many as were flushed: it is meant for the start.
    pub async fn load_counters(&self, now: Timestamp) -> Result<Vec<(Subject, SubjectState)>, DbError> {
        on!(self, read within FLUSH_DEADLINE, "load the counters", counters::load(now))
    }
}

on_both! {
    pub(in crate::db) async fn load(
        connection: &mut Connection,
        now: Timestamp,
    ) -> QueryResult<Vec<(Subject, SubjectState)>> {
        let rows: Vec<(String, Vec<u8>)> = counters_table::table
            .filter(counters_table::whole_at.gt(now.as_micros()))
            .select((counters_table::subject, counters_table::state))
            .load(connection)
            .await?;
        let stored = rows.len();
        let read = |(subject, packed): (String, Vec<u8>)| {
            Some((Subject::parse(&subject).ok()?, state_codec::unpack(&packed)?))
        };
        let states: Vec<_> = rows.into_iter().filter_map(read).collect();
        if states.len() < stored {
            tracing::warn!(table = "counters", rows = stored.saturating_sub(states.len()), "skipped counters that can't be read");
        }
        Ok(states)
    }
}
