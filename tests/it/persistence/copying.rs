//! Moving from SQLite to PostgreSQL.

use super::*;

/// Something in every table that the service itself writes.
async fn filled(home: &Home) -> Database {
    let database = home.database().await;
    let rows = |hours: i64| {
        let row = |number: i64| {
            let subject = if number % 9 == 0 { address("203.0.113.9") } else { user(&format!("ü\"'\\ {number}")) };
            (key(subject, at(number % hours), "free"), usage(number.unsigned_abs(), (1 << 53) - 1, 1))
        };
        (0..12_000).map(row).collect::<Vec<_>>()
    };
    let counters = vec![(user("42"), Some(state(at(9))))];
    let whole = FlushBatch { counters, ..(*batch(1, rows(30))).clone() };
    database.flush(&Arc::new(whole), HOUR).await.unwrap();
    database.roll_up(at(24)).await.unwrap();
    database.flush(&batch(2, rows(10)), HOUR).await.unwrap();
    database.put_override(&id("42"), &days_override(Some(at(50))), &author(), HOUR).await.unwrap();
    database.put_user(&id("43"), &entry(Some("pro")), false, &author(), HOUR).await.unwrap();
    database.insert_key(&api_key("testkey1"), &author(), HOUR).await.unwrap();
    database
}

#[actix::test]
async fn everything_moves_from_sqlite_to_postgres() {
    let (old, new) = (Home::sqlite(), Home::postgres());
    let (source, target) = (filled(&old).await, new.database().await);
    let copied = source.copy_to(&target).await.unwrap();
    assert!(copied.iter().any(|table| table.name == "usage" && table.rows > 1_000), "{copied:?}");
    assert!(copied.iter().any(|table| table.name == "usage_late" && table.rows > 0), "{copied:?}");
    for since in [at(0), at(24), at(-29 * 24)] {
        for order in ReportOrder::ALL {
            let reports = (source.usage_report(since, order, 50).await, target.usage_report(since, order, 50).await);
            assert_eq!(reports.0.unwrap(), reports.1.unwrap());
        }
    }
    assert_eq!(source.audit(100, None).await.unwrap(), target.audit(100, None).await.unwrap());
    assert_eq!(source.list_keys().await.unwrap(), target.list_keys().await.unwrap());
    assert_eq!(source.load_counters(at(1)).await.unwrap(), target.load_counters(at(1)).await.unwrap());
    let ids = [id("42"), id("43")];
    assert_eq!(source.load_accounts(&ids).await.unwrap(), target.load_accounts(&ids).await.unwrap());

    // It goes on there: numbers of changes, and of what is flushed late, are not given twice.
    target.put_override(&id("44"), &days_override(None), &author(), HOUR).await.unwrap();
    target.flush(&batch(3, vec![(key(user("42"), at(1), "free"), usage(1, 1, 1))]), HOUR).await.unwrap();
}

#[actix::test]
async fn a_copy_is_whole_or_not_there_and_never_beside_something_else() {
    let (old, new) = (Home::sqlite(), Home::postgres());
    let (source, target) = (filled(&old).await, new.database().await);
    // The last table but two refuses a row: nothing of those before it stays.
    new.refuse("user:").await;
    source.copy_to(&target).await.unwrap_err();
    assert_eq!(target.audit(1, None).await.unwrap(), []);
    assert_eq!(target.load_counters(at(1)).await.unwrap(), []);
    new.accept().await;

    // What arrives otherwise than it was sent is noticed.
    new.execute(
        "CREATE FUNCTION one_less() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.cost := new.cost - 1; RETURN new; END'; \
         CREATE TRIGGER one_less BEFORE INSERT ON usage FOR EACH ROW WHEN (new.requests = 15) EXECUTE FUNCTION one_less()",
    )
    .await;
    let noticed = source.copy_to(&target).await.unwrap_err();
    assert!(matches!(&noticed, DbError::Copy { reason } if reason.contains("usage")), "{noticed}");
    new.execute("DROP TRIGGER one_less ON usage").await;

    target.insert_key(&api_key("testkey2"), &author(), HOUR).await.unwrap();
    let refused = source.copy_to(&target).await.unwrap_err();
    assert!(matches!(&refused, DbError::Copy { reason } if reason.contains("must be empty")), "{refused}");
    let backwards = target.copy_to(&source).await.unwrap_err();
    assert!(matches!(&backwards, DbError::Copy { .. }), "{backwards}");
}
