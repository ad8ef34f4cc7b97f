//! Redis loses what it had counted: nobody gets a second quota for that.

use std::time::{Duration, Instant};

use futures_util::future::join;
use serde_json::json;

use super::answers::Answers;
use super::either;
use super::load::{Load, name};
use super::place::{Kind, Place, back_on_redis, charged};
use super::report::row;
use crate::support::postgres_server;
use crate::support::quotad::{Quotad, Start};

const USERS: u32 = 10;
const LIMIT: u64 = 60;

/// More than anybody may have.
const ASKED: u64 = 2 * LIMIT;

fn start(place: &Place, database: &str) -> Start {
    place.service().postgres(database).set("FREE_TIER_LIMIT_DAY", &LIMIT.to_string())
}

/// Each user asks for as much as `turns`, on both instances.
async fn ask(instances: &[&Quotad], turns: u64) -> Answers {
    let load = Load::of(8).for_users(USERS).resting(Duration::ZERO);
    load.during(instances, async |running| running.more(turns * u64::from(USERS)).await).await.0
}

/// Everybody's usage is in the database, which is asked for it in the end.
async fn flushed() {
    tokio::time::sleep(Duration::from_millis(400)).await;
}

on_each_place! {
    async fn an_emptied_redis_is_told_what_was_counted(kind: Kind) {
        let provoked = format!("FLUSHALL between two halves of a day's use, two instances, {}", kind.name());
        row("running days are restored before they are granted anew", &provoked, async |report| {
            let mut place = kind.start();
            let database = postgres_server::database();
            let (one, other) = join(start(&place, &database).start(), start(&place, &database).start()).await;
            back_on_redis(&one, USERS, Instant::now()).await;
            back_on_redis(&other, USERS, Instant::now()).await;
            let mut answers = Vec::new();
            for _ in 0..either(2, 10) {
                answers.extend(ask(&[&one, &other], LIMIT / 3).await.0);
                flushed().await;
                place.cli_on_masters(&["FLUSHALL"]);
            }
            answers.extend(ask(&[&one, &other], ASKED).await.0);
            let answers = Answers(answers);
            report.exactly("checks failed", answers.failed(), 0);
            let granted = |user: u32| answers.of(user).allowed();
            report.exactly("granted over the limit", (0..USERS).map(|user| granted(user).saturating_sub(LIMIT)).sum(), 0);
            let mut missing = 0;
            for user in 0..USERS {
                missing += granted(user).min(LIMIT).saturating_sub(charged(&one, user).await);
            }
            report.exactly("granted and not charged", missing, 0);
            report.exactly("wrongly denied", (0..USERS).map(|user| LIMIT.saturating_sub(granted(user))).sum(), 0);
        })
        .await;
    }

    /// Nobody remembers but the database.
    async fn an_empty_redis_and_a_new_instance_go_by_the_database(kind: Kind) {
        let provoked = format!("an empty Redis, and an instance that was just started, {}", kind.name());
        row("running days are restored before they are granted anew", &provoked, async |report| {
            let mut place = kind.start();
            let database = postgres_server::database();
            let one = start(&place, &database).start().await;
            let before = ask(&[&one], LIMIT / 2).await;
            one.stop();
            place.cli_on_masters(&["FLUSHALL"]);
            let other = start(&place, &database).start().await;
            let first = other.check(json!({"user_id": name(0)})).await;
            report.tell("used at the first check", first.used("day"));
            let after = ask(&[&other], ASKED).await;
            let granted = |user: u32| before.of(user).allowed() + after.of(user).allowed() + u64::from(user == 0 && first.status == 200);
            report.exactly("granted over the limit", (0..USERS).map(|user| granted(user).saturating_sub(LIMIT)).sum(), 0);
            report.exactly("wrongly denied", (0..USERS).map(|user| LIMIT.saturating_sub(granted(user))).sum(), 0);
        })
        .await;
    }
}

/// Its counters are those that were known, and older. The plain link makes its connection anew without a word, so that nobody
/// notices there.
#[cfg(not(feature = "actix-redis"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_with_an_older_snapshot_is_told_the_rest() {
    let provoked = "killed, and back with a snapshot of half a day's use before, two instances";
    row("running days are restored before they are granted anew", provoked, async |report| {
        let mut place = Kind::Node.start();
        let database = postgres_server::database();
        let (one, other) = join(start(&place, &database).start(), start(&place, &database).start()).await;
        back_on_redis(&one, USERS, Instant::now()).await;
        back_on_redis(&other, USERS, Instant::now()).await;
        place.cli_on_masters(&["SAVE"]);
        let mut answers = ask(&[&one, &other], LIMIT / 2).await;
        flushed().await;
        place.kill();
        place.start_again();
        back_on_redis(&one, USERS, Instant::now()).await;
        back_on_redis(&other, USERS, Instant::now()).await;
        answers.0.extend(ask(&[&one, &other], ASKED).await.0);
        let over = (0..USERS).map(|user| answers.of(user).allowed().saturating_sub(LIMIT)).sum();
        report.exactly("granted over the limit", over, 0);
    })
    .await;
}
