//! The rules of the ledger, without an actor or a database.

use super::*;
use crate::domain::limit::SlotId;
use crate::domain::state::Slot;
use crate::domain::subject::{ClientAddress, UserId};
use crate::domain::tier::TierName;

const HOUR: Timestamp = Timestamp::from_seconds(1_795_766_400);
const NEXT_HOUR: Timestamp = Timestamp::from_seconds(1_795_770_000);
const ONE: Usage = Usage { requests: 1, cost: 2, denied: 3 };
const APPLIED: FlushOutcome = FlushOutcome::Applied { refused: Vec::new() };

fn user(number: usize) -> Subject {
    Subject::User(UserId::parse(&number.to_string()).unwrap())
}

fn address(number: u8) -> Subject {
    Subject::Ip(ClientAddress::new([10, 0, 0, number].into(), 64))
}

fn key(subject: Subject, hour: Timestamp) -> UsageKey {
    UsageKey { subject, hour, tier: TierName::free() }
}

fn used(subject: Subject, hour: Timestamp) -> RecordUsage {
    RecordUsage { usage: vec![(key(subject, hour), ONE)], counters: vec![] }
}

fn counted(subject: Subject, whole_at: Timestamp) -> RecordUsage {
    let state = [Slot { id: SlotId::from_raw(1), whole_at, a: 1, b: 0, c: 0 }].into_iter().collect();
    RecordUsage { usage: vec![], counters: vec![(subject, Some(state))] }
}

fn ledger(usage_keys: usize, counter_keys: usize, batch_rows: usize) -> Ledger {
    Ledger::new("run".to_owned(), LedgerBounds { usage_keys, counter_keys, batch_rows })
}

/// Everything that the ledger would send, all of it landing.
fn drain(ledger: &mut Ledger) -> Vec<Arc<FlushBatch>> {
    std::iter::from_fn(|| {
        let batch = ledger.next_batch()?;
        ledger.landed(&APPLIED, HOUR);
        Some(batch)
    })
    .collect()
}

fn total(batches: &[Arc<FlushBatch>]) -> Usage {
    let mut total = Usage::default();
    for batch in batches {
        let amounts = batch.usage.iter().map(|(_, usage)| usage).chain(batch.overflow.iter().map(|(_, usage)| usage));
        amounts.for_each(|usage| total.add(*usage));
    }
    total
}

#[test]
fn one_key_is_one_row_however_often_it_is_recorded() {
    let mut ledger = ledger(10, 10, 10);
    for _ in 0..5 {
        ledger.record(used(user(1), HOUR), HOUR);
    }
    let batches = drain(&mut ledger);
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].usage, vec![(key(user(1), HOUR), Usage { requests: 5, cost: 10, denied: 15 })]);
    assert_eq!(ledger.next_batch(), None);
}

#[test]
fn the_newest_counters_of_a_subject_win() {
    let mut ledger = ledger(10, 10, 10);
    ledger.record(counted(user(1), HOUR), HOUR);
    ledger.record(RecordUsage { usage: vec![], counters: vec![(user(1), None)] }, HOUR);
    assert_eq!(drain(&mut ledger)[0].counters, vec![(user(1), None)]);
}

#[test]
fn a_batch_that_failed_is_sent_again_unchanged_and_new_usage_waits_for_the_next() {
    let mut ledger = ledger(10, 10, 10);
    ledger.record(used(user(1), HOUR), HOUR);
    let first = ledger.next_batch().unwrap();
    ledger.failed(&DbError::Broken { operation: "flush" });
    ledger.record(used(user(1), HOUR), HOUR);
    assert_eq!(ledger.next_batch().unwrap(), first);
    assert_eq!((ledger.stats().failures, ledger.stats().pending_rows), (1, 2));
    assert!(ledger.stats().last_error.is_some());
    ledger.landed(&FlushOutcome::AlreadyApplied, HOUR);
    let second = ledger.next_batch().unwrap();
    assert_eq!((first.sequence, second.sequence), (1, 2));
    assert_eq!((first.instance.as_str(), second.instance.as_str()), ("run", "run"));
}

#[test]
fn a_ticket_lands_with_the_last_batch_of_what_was_recorded_before_it() {
    let mut ledger = ledger(10, 10, 2);
    assert!(ledger.has_landed(ledger.ticket()));
    for number in 0..3 {
        ledger.record(used(user(number), HOUR), HOUR);
    }
    let before = ledger.ticket();
    assert_eq!(ledger.next_batch().unwrap().rows(), 2);
    let leaving = ledger.ticket();
    ledger.record(used(user(9), HOUR), HOUR);
    let after = ledger.ticket();
    assert!(ledger.landed(&APPLIED, HOUR));
    assert!(!ledger.has_landed(before) && !ledger.has_landed(leaving));
    assert_eq!(ledger.next_batch().unwrap().rows(), 1);
    assert!(!ledger.landed(&APPLIED, HOUR));
    assert!(ledger.has_landed(before) && ledger.has_landed(leaving) && !ledger.has_landed(after));
    drain(&mut ledger);
    assert!(ledger.has_landed(after));
}

#[test]
fn the_age_of_what_is_pending_is_that_of_the_oldest() {
    let mut ledger = ledger(10, 10, 10);
    assert_eq!((ledger.stats().oldest_pending, ledger.stats().lag(HOUR)), (None, Duration::ZERO));
    ledger.record(used(user(1), HOUR), Timestamp::from_seconds(1));
    assert_eq!(ledger.stats().lag(Timestamp::from_seconds(5)), Duration::from_secs(4));
    ledger.next_batch();
    ledger.record(used(user(1), HOUR), Timestamp::from_seconds(2));
    assert_eq!(ledger.stats().oldest_pending, Some(Timestamp::from_seconds(1)));
    ledger.landed(&APPLIED, HOUR);
    assert_eq!(ledger.stats().oldest_pending, Some(Timestamp::from_seconds(2)));
    drain(&mut ledger);
    assert_eq!(ledger.stats().oldest_pending, None);
}

#[test]
fn past_the_bound_the_hours_of_a_subject_become_its_day() {
    let mut ledger = ledger(4, 10, 10);
    for hour in [HOUR, NEXT_HOUR] {
        ledger.record(used(user(1), hour), HOUR);
        ledger.record(used(user(2), hour), HOUR);
    }
    ledger.record(used(user(3), NEXT_HOUR), HOUR);
    let mut rows = drain(&mut ledger)[0].usage.clone();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let day = start_of_day(HOUR);
    let both = Usage { requests: 2, cost: 4, denied: 6 };
    assert_eq!(rows, vec![(key(user(1), day), both), (key(user(2), day), both), (key(user(3), NEXT_HOUR), ONE)]);
}

#[test]
fn subjects_past_the_bound_are_added_up_by_kind_and_lost_to_nobody() {
    let mut ledger = ledger(2, 10, 10);
    for subject in [user(1), user(2), user(3), user(4), address(1), user(1)] {
        ledger.record(used(subject, HOUR), HOUR);
    }
    let batches = drain(&mut ledger);
    assert_eq!(total(&batches), Usage { requests: 6, cost: 12, denied: 18 });
    let mut overflow = batches[0].overflow.clone();
    overflow.sort_by(|a, b| a.0.cmp(&b.0));
    let nobody = |kind| OverflowKey { kind, hour: HOUR, tier: TierName::free() };
    let two = Usage { requests: 2, cost: 4, denied: 6 };
    assert_eq!(overflow, vec![(nobody(SubjectKind::User), two), (nobody(SubjectKind::Ip), ONE)]);
    assert_eq!(ledger.stats().overflowed, 3);
}

#[test]
fn a_hundred_thousand_keys_stay_within_the_bound() {
    const BOUND: usize = 10_000;
    let mut ledger = ledger(BOUND, BOUND, 1_000);
    for hour in [HOUR, NEXT_HOUR] {
        for number in 0..50_000 {
            ledger.record(used(user(number % 8_000), hour), HOUR);
            ledger.record(used(user(number), hour), HOUR);
            ledger.record(counted(user(number), NEXT_HOUR), HOUR);
        }
    }
    let stats = ledger.stats();
    assert!(stats.pending_rows <= 2 * BOUND + 4, "{stats:?}");
    assert!(stats.coarsened > 0 && stats.overflowed > 0 && stats.counters_dropped > 0, "{stats:?}");
    let batches = drain(&mut ledger);
    assert_eq!(total(&batches), Usage { requests: 200_000, cost: 400_000, denied: 600_000 });
    assert!(batches.iter().all(|batch| batch.rows() <= 1_000));
}

#[test]
fn at_the_bound_counters_that_say_nothing_make_room_and_a_reset_always_has_it() {
    let mut ledger = ledger(10, 1, 10);
    ledger.record(counted(user(1), HOUR), Timestamp::EPOCH);
    ledger.record(counted(user(2), NEXT_HOUR), HOUR);
    ledger.record(counted(user(3), NEXT_HOUR), HOUR);
    ledger.record(RecordUsage { usage: vec![], counters: vec![(user(4), None)] }, HOUR);
    let mut kept: Vec<_> = drain(&mut ledger)[0].counters.iter().map(|(subject, _)| subject.clone()).collect();
    kept.sort();
    assert_eq!(kept, vec![user(2), user(4)]);
    assert_eq!(ledger.stats().counters_dropped, 1);
}
