//! `src/db/schema.rs` is written by hand for both databases: it is held to what the migrations make, and each table and
//! column is explained where it is made.

use std::collections::BTreeMap;

use diesel::QueryableByName;
use diesel::RunQueryDsl;
use diesel::sql_types::{Bool, Text};

use super::*;

const WRITTEN: &str = include_str!("../../../src/db/schema.rs");

/// By table, each column with its type; those that may be null as `Nullable<...>`, those of the key with `key` behind it.
type Tables = BTreeMap<String, BTreeMap<String, String>>;

fn written() -> Tables {
    let mut tables = Tables::new();
    let mut lines = WRITTEN.lines().map(str::trim);
    while lines.by_ref().any(|line| line == "diesel::table! {") {
        let (name, rest) = lines.next().unwrap().split_once(" (").unwrap();
        let keys: Vec<&str> = rest.trim_end_matches(") {").split(", ").collect();
        let columns = lines.by_ref().take_while(|line| *line != "}").map(|line| {
            let (column, kind) = line.trim_end_matches(',').split_once(" -> ").unwrap();
            (column.to_owned(), if keys.contains(&column) { format!("{kind} key") } else { kind.to_owned() })
        });
        tables.insert(name.to_owned(), columns.collect());
    }
    tables
}

#[derive(QueryableByName)]
struct Made {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Bool)]
    nullable: bool,
    #[diesel(sql_type = Bool)]
    key: bool,
    /// What explains it.
    #[diesel(sql_type = Text)]
    comment: String,
}

/// What was made, of the types that `kinds` translates.
fn made(rows: Vec<Made>, kinds: &[(&str, &str)]) -> Tables {
    let mut tables = Tables::new();
    for row in rows {
        let place = format!("{}.{}", row.table_name, row.column_name);
        assert!(row.comment.trim().ends_with('.'), "{place} is explained: {:?}", row.comment);
        let (_, kind) =
            kinds.iter().find(|(made, _)| *made == row.kind).unwrap_or_else(|| panic!("{place}: {}", row.kind));
        let kind = if row.nullable { format!("Nullable<{kind}>") } else { (*kind).to_owned() };
        let kind = if row.key { format!("{kind} key") } else { kind };
        tables.entry(row.table_name).or_default().insert(row.column_name, kind);
    }
    tables
}

#[actix::test]
async fn the_schema_is_what_sqlite_has() {
    let home = Home::sqlite();
    home.database().await;
    let DatabaseLocation::Sqlite { path } = &home.settings.location else { unreachable!() };
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    // SQLite keeps a table as it was written: the comment of a column stands behind it.
    let rows: Vec<Made> = diesel::sql_query(
        "SELECT m.name AS table_name, c.name AS column_name, c.type AS kind, c.\"notnull\" = 0 AS nullable, c.pk > 0 AS key, \
         substr(line.value, instr(line.value, '-- ') + 3) AS comment \
         FROM sqlite_master m, pragma_table_info(m.name) c \
         LEFT JOIN json_each('[\"' || replace(replace(replace(m.sql, '\\', '\\\\'), '\"', '\\\"'), char(10), '\",\"') || '\"]') line \
           ON line.value LIKE '    ' || c.name || ' %-- %' \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE '%diesel%'",
    )
    .load(&mut connection)
    .unwrap();
    assert_eq!(made(rows, &[("TEXT", "Text"), ("INTEGER", "BigInt"), ("BLOB", "Binary")]), written());
}

#[actix::test]
async fn the_schema_is_what_postgres_has() {
    let home = Home::postgres();
    home.database().await;
    let DatabaseLocation::Postgres { url } = &home.settings.location else { unreachable!() };
    let client = session(url.expose()).await;
    let asked = "SELECT t.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, \
           COALESCE(a.attnum = ANY(i.indkey), false), COALESCE(col_description(t.oid, a.attnum), ''), COALESCE(obj_description(t.oid), '') \
         FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid LEFT JOIN pg_index i ON i.indrelid = t.oid AND i.indisprimary \
         WHERE t.relkind = 'r' AND t.relnamespace = 'public'::regnamespace AND t.relname NOT LIKE '%diesel%' AND a.attnum > 0 AND NOT a.attisdropped";
    let row = |row: &tokio_postgres::Row| {
        let (table, about): (String, String) = (row.get(0), row.get(6));
        assert!(about.ends_with('.'), "{table} is explained: {about:?}");
        let (nullable, key, comment) = (row.get(3), row.get(4), row.get(5));
        Made { table_name: table, column_name: row.get(1), kind: row.get(2), nullable, key, comment }
    };
    let rows = client.query(asked, &[]).await.unwrap().iter().map(row).collect();
    assert_eq!(made(rows, &[("text", "Text"), ("bigint", "BigInt"), ("bytea", "Binary")]), written());
}
