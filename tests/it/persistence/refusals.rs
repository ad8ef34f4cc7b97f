//! What a flush does where the database refuses: a row is set aside only where it is its own fault.

use super::*;

on_every_database! {
    async fn a_row_that_the_database_refuses_is_set_aside_alone(home) {
        let database = home.database().await;
        home.refuse("user:poison").await;
        let mut rows: Vec<_> =
            (0..6_000).map(|number| (key(user(&number.to_string()), HOUR, "free"), usage(1, 1, 0))).collect();
        rows.push((key(user("poison"), HOUR, "free"), usage(5, 6, 7)));
        let counters = vec![(user("poison"), Some(state(at(48))))];
        let whole = FlushBatch { usage: rows, counters, ..(*batch(1, vec![])).clone() };
        let FlushOutcome::Applied { refused } = database.flush(&Arc::new(whole), HOUR).await.unwrap() else {
            panic!("it was not there before");
        };
        assert_eq!(refused.len(), 1);
        assert_eq!((refused[0].table, refused[0].subject.as_str()), ("usage", "user:poison"));
        assert_eq!(refused[0].usage, Some((HOUR, "free".to_owned(), usage(5, 6, 7))));
        assert_eq!(database.usage_report(DAY, ReportOrder::Cost, 1).await.unwrap().totals.usage, usage(6_000, 6_000, 0));
        assert_eq!(database.load_counters(HOUR).await.unwrap().len(), 1);
    }

    async fn a_table_that_takes_no_rows_is_not_the_fault_of_the_rows(home) {
        let database = home.database().await;
        home.execute("ALTER TABLE usage RENAME TO elsewhere").await;
        let rows = vec![(key(user("1"), HOUR, "free"), usage(1, 1, 0)), (key(user("2"), HOUR, "free"), usage(1, 1, 0))];
        let whole = batch(1, rows);
        assert!(matches!(database.flush(&whole, HOUR).await, Err(DbError::Query { .. })));
        home.execute("ALTER TABLE elsewhere RENAME TO usage").await;
        assert_eq!(database.flush(&whole, HOUR).await.unwrap(), applied());
    }

    async fn a_constraint_that_no_row_keeps_is_not_the_fault_of_the_rows(home) {
        let database = home.database().await;
        home.refuse("").await;
        assert!(matches!(database.flush(&three_rows(1), HOUR).await, Err(DbError::Query { .. })));
        home.accept().await;
        assert_eq!(database.flush(&three_rows(1), HOUR).await.unwrap(), applied());
    }

    async fn a_flush_that_is_refused_too_many_rows_fails_and_is_kept(home) {
        let database = home.database().await;
        home.refuse("user:bad").await;
        let rows = (0..300).map(|number| (key(user(&format!("bad{number}")), HOUR, "free"), usage(1, 1, 0)));
        let whole = batch(1, rows.chain([(key(user("good"), HOUR, "free"), usage(1, 1, 0))]).collect());
        assert!(matches!(database.flush(&whole, HOUR).await, Err(DbError::Query { .. })));
        assert_eq!(all_of(&database, &user("good")).await, usage(0, 0, 0));
        home.accept().await;
        assert_eq!(database.flush(&whole, HOUR).await.unwrap(), applied());
        assert_eq!(database.usage_report(DAY, ReportOrder::Cost, 1).await.unwrap().totals.usage, usage(301, 301, 0));
    }
}

fn three_rows(sequence: i64) -> Arc<FlushBatch> {
    let row = |name| (key(user(name), HOUR, "free"), usage(1, 1, 0));
    batch(sequence, vec![row("a"), row("odd"), row("z")])
}

/// Makes PostgreSQL answer one subject's rows with an error of a class, whatever the row.
async fn answer_with(home: &Home, sqlstate: &str) {
    home.execute(&format!(
        "CREATE OR REPLACE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF new.subject = 'user:odd' THEN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{sqlstate}'; END IF; \
         RETURN new; END $$; \
         CREATE OR REPLACE TRIGGER odd BEFORE INSERT ON usage FOR EACH ROW EXECUTE FUNCTION odd(); \
         CREATE OR REPLACE TRIGGER odd BEFORE INSERT ON counters FOR EACH ROW EXECUTE FUNCTION odd()"
    ))
    .await;
}

#[actix::test]
async fn a_row_that_meets_a_full_disk_a_deadlock_or_a_shutdown_is_not_refused() {
    let home = Home::postgres();
    let database = home.database().await;
    let mut sequence = 0;
    // Disk full, memory, lock not had in time, deadlock, serialization, cancelled, shutdown, read-only, an I/O error, a bug.
    for sqlstate in ["53100", "53200", "55P03", "40P01", "40001", "57014", "57P01", "25006", "58030", "XX000"] {
        answer_with(&home, sqlstate).await;
        sequence += 1;
        let whole = three_rows(sequence);
        let outcome = database.flush(&whole, HOUR).await;
        assert!(outcome.is_err(), "{sqlstate}: {outcome:?}");
        home.execute("DROP TRIGGER odd ON usage").await;
        assert_eq!(database.flush(&whole, HOUR).await.unwrap(), applied(), "{sqlstate}");
    }
    let total = sequence.unsigned_abs();
    assert_eq!(all_of(&database, &user("odd")).await, usage(total, total, 0));
    assert_eq!(all_of(&database, &user("a")).await, usage(total, total, 0));
}

#[actix::test]
async fn a_row_with_a_bad_value_or_against_a_constraint_is_set_aside() {
    let home = Home::postgres();
    let database = home.database().await;
    for (sequence, sqlstate) in (1..).zip(["22003", "22021", "22P05", "23505", "23514", "44000", "P0001"]) {
        answer_with(&home, sqlstate).await;
        let rows = three_rows(sequence);
        let counters = vec![(user("a"), Some(state(at(48)))), (user("odd"), Some(state(at(48)))), (user("z"), None)];
        let whole = FlushBatch { counters, ..(*rows).clone() };
        let FlushOutcome::Applied { refused } = database.flush(&Arc::new(whole), HOUR).await.unwrap() else {
            panic!("it was not there before");
        };
        let refused: Vec<_> = refused.iter().map(|row| (row.table, row.subject.as_str())).collect();
        assert_eq!(refused, [("usage", "user:odd"), ("counters", "user:odd")], "{sqlstate}");
    }
    assert_eq!(all_of(&database, &user("z")).await, usage(7, 7, 0));
    assert_eq!(database.load_counters(HOUR).await.unwrap(), vec![(user("a"), state(at(48)))]);
}

#[actix::test]
async fn a_row_that_another_session_holds_is_not_refused() {
    let home = Home::postgres();
    let direct = home.database().await;
    direct.flush(&three_rows(1), HOUR).await.unwrap();
    home.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lock_timeout = 100', current_database()); END $$")
        .await;
    let database = Database::connect(&home.settings).unwrap();
    let lock = home.lock_with("BEGIN; UPDATE usage SET cost = cost WHERE subject = 'user:odd'").await;
    let whole = three_rows(2);
    assert!(database.flush(&whole, HOUR).await.is_err());
    drop(lock);
    while database.flush(&whole, HOUR).await.is_err() {}
    assert_eq!(all_of(&direct, &user("odd")).await, usage(2, 2, 0));
}

/// PostgreSQL may keep its texts in an encoding that lacks most letters.
#[actix::test]
async fn an_id_that_the_encoding_of_the_database_lacks_is_set_aside_alone() {
    let name = format!("test_{}_latin1", std::process::id());
    let server = session(&postgres_server::server_url()).await;
    let made = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
    server.batch_execute(&made).await.unwrap();
    let home = Home { settings: postgres_server::settings(&postgres_server::url_of(&name)), _folder: None };
    let database = home.database().await;
    let row = |name| (key(user(name), HOUR, "free"), usage(1, 1, 0));
    let rows = vec![row("a"), row("grün"), row("日本"), row("it's; DROP TABLE usage; --"), row("$quotad$")];
    let FlushOutcome::Applied { refused } = database.flush(&batch(1, rows), HOUR).await.unwrap() else {
        panic!("it was not there before");
    };
    assert_eq!(refused.iter().map(|row| row.subject.as_str()).collect::<Vec<_>>(), ["user:日本"]);
    for name in ["a", "grün", "it's; DROP TABLE usage; --", "$quotad$"] {
        assert_eq!(all_of(&database, &user(name)).await, usage(1, 1, 0), "{name}");
    }
}
