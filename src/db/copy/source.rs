//! What SQLite sends.

use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::Text;
use tokio::sync::mpsc;

use super::{Line, Part, Table};

/// Rows that travel together.
const ROWS_A_PART: usize = 5_000;

const TABLES: &str = "SELECT name AS text FROM sqlite_master \
     WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_\\_diesel%' ESCAPE '\\' ORDER BY name";

/// `usage_late.id` counts by itself on either side.
const COLUMNS: &str = "SELECT name, type AS kind FROM pragma_table_info($1) \
     WHERE NOT ($1 = 'usage_late' AND name = 'id') ORDER BY cid";

/// Ends early where nobody receives any more: the receiver says why.
pub(super) fn send_all(connection: &mut SqliteConnection, to: &mpsc::Sender<Part>) -> QueryResult<()> {
    for Line { text: name } in diesel::sql_query(TABLES).load::<Line>(connection)? {
        let columns = diesel::sql_query(COLUMNS).bind::<Text, _>(&name).load(connection)?;
        let table = Table { name, columns };
        let (mut json, mut rows, mut waiting) = (String::from("["), 0_i64, 0_usize);
        for line in diesel::sql_query(table.objects()).load_iter::<Line, DefaultLoadingMode>(connection)? {
            if waiting > 0 {
                json.push(',');
            }
            json.push_str(&line?.text);
            (rows, waiting) = (rows.saturating_add(1), waiting.saturating_add(1));
            if waiting == ROWS_A_PART {
                json.push(']');
                let json = std::mem::replace(&mut json, String::from("["));
                waiting = 0;
                if to.blocking_send(Part::Rows { table: table.clone(), json }).is_err() {
                    return Ok(());
                }
            }
        }
        json.push(']');
        let check = diesel::sql_query(table.check()).get_result::<Line>(connection)?.text;
        let last = [Part::Rows { table: table.clone(), json }, Part::End { table, rows, check }];
        for part in last {
            if to.blocking_send(part).is_err() {
                return Ok(());
            }
        }
    }
    // Where nobody receives it, nobody waits for it.
    let _ = to.blocking_send(Part::Done);
    Ok(())
}
