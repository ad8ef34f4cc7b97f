//! The records that the limiter works with: accounts and counters from the database, usage to the books.

use futures_util::FutureExt;

use crate::db::Database;
use crate::domain::account::Account;
use crate::domain::state::SubjectState;
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::limiter::{Reading, Records, Unreadable};
use crate::persistence::Books;
use crate::persistence::messages::RecordUsage;

/// The database, and the books that are kept in it.
#[derive(Debug)]
pub struct DatabaseRecords {
    pub database: Database,
    pub books: Books,
}

impl Records for DatabaseRecords {
    fn accounts(&self, users: Vec<UserId>) -> Reading<Account> {
        let database = self.database.clone();
        async move { database.load_accounts(&users).await.map_err(Unreadable::new) }.boxed()
    }

    fn counters(&self, now: Timestamp) -> Reading<(Subject, SubjectState)> {
        let (database, books) = (self.database.clone(), self.books.clone());
        let read = async move {
            books.flush().await.map_err(Unreadable::new)?;
            database.load_counters(now).await.map_err(Unreadable::new)
        };
        read.boxed()
    }

    fn costs_since(&self, since: Timestamp) -> Reading<(Subject, TierName, u64)> {
        let database = self.database.clone();
        async move { database.costs_since(since).await.map_err(Unreadable::new) }.boxed()
    }

    fn record(&self, recorded: RecordUsage) {
        self.books.record(recorded);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Settings;
    use crate::domain::cost::{Items, Multiplier};
    use crate::domain::policy::Policy;
    use crate::limiter::{Check, LimiterError, Outbox, Parts, Shards, shard_of};
    use crate::observability::metrics::Metrics;
    use crate::persistence::LedgerBounds;

    fn subject(id: &str) -> Subject {
        Subject::User(UserId::parse(id).unwrap())
    }

    /// One more check of a user; what they have used in the hour.
    async fn used(outbox: &Outbox, id: &str) -> Result<u64, LimiterError> {
        let one = Multiplier::ONE.times(Items::ONE);
        let check = Check { cost: one, items: Some(Items::ONE), dry_run: false, ..Check::look(subject(id), None) };
        outbox.check(check).await.map(|decision| decision.limits[0].used)
    }

    #[actix::test]
    async fn a_shard_that_panics_is_started_again_with_its_counts_and_the_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let vars = [("QUOTAD_DATA_DIR", folder.path().to_string_lossy().into_owned()), ("QUOTAD_SHARDS", "2".into())];
        let settings = Settings::from_vars(vars.map(|(name, value)| (name.to_owned(), value))).unwrap();
        let database = Database::connect(&settings.database).unwrap();
        database.migrate().await.unwrap();
        let now = Timestamp::from_seconds(1_800_000_000);
        let clock = Clock::manual(now);
        let bounds = LedgerBounds::default();
        let books = Books::start(database.clone(), &settings.database, clock.clone(), "one".to_owned(), bounds);
        let metrics = Arc::new(Metrics::new().unwrap());
        let policy = Arc::new(ArcSwap::from_pointee(Policy::of_layers(&[&settings.policy.layer()]).unwrap()));
        let records = Arc::new(DatabaseRecords { database: database.clone(), books: books.clone() });
        let (limiter, metrics_of) = (settings.limiter, Arc::clone(&metrics));
        let parts =
            Parts { limiter, redis: None, records, policy, metrics: metrics_of, clock, instance: 1, outlet: None };
        let shards = Shards::start(parts).await.unwrap();
        let outbox = Outbox::new(shards.limiter.clone());

        let on_shard = |number| (0..100).map(|id| id.to_string()).find(|id| shard_of(&subject(id), 2) == number);
        let (falls, stays) = (on_shard(0).unwrap(), on_shard(1).unwrap());
        for count in 1..=3 {
            assert_eq!((used(&outbox, &falls).await, used(&outbox, &stays).await), (Ok(count), Ok(count)));
        }
        shards.limiter.fail(&subject(&falls));
        assert_eq!(used(&outbox, &stays).await, Ok(4));
        let after = loop {
            match used(&outbox, &falls).await {
                Err(LimiterError::Stopped) => tokio::time::sleep(Duration::from_millis(5)).await,
                answer => break answer,
            }
        };
        assert_eq!(after, Ok(4), "what was counted is counted still");
        assert_eq!(metrics.shard_restarts.get(), 1);
        assert!(shards.limiter.health().shards.iter().all(|shard| shard.alive));
        shards.stop().await;
        books.close().await.unwrap();
        let report =
            database.usage_report(now.start_of_hour(), crate::domain::report::ReportOrder::Cost, 10).await.unwrap();
        assert_eq!(report.totals.usage.requests, 8, "no usage is lost with the shard");
    }
}
