//! What is wrong with the store itself: then a row that is read as it should be says nothing about the next one.
//!
//! SECURITY: a trigger, a rule or a view in a table's place writes or shows rows that no change named, in the very
//! transaction of a change that is permitted; an id of another type is not met by the statement that ends its row.

use crate::store::{StoreError, Tx, tx_rows};

/// The first flaw, in words; `None` where there is none.
pub(super) async fn of(tx: &mut Tx) -> Result<Option<String>, StoreError> {
    match tx {
        Tx::Sqlite(_) => sqlite(tx).await,
        Tx::Postgres(_) => postgres(tx).await,
    }
}

async fn sqlite(tx: &mut Tx) -> Result<Option<String>, StoreError> {
    let made = tx_rows!(
        tx,
        (String, String),
        "SELECT type, name FROM sqlite_master
         WHERE lower(type) = 'trigger' OR (lower(type) <> 'table' AND lower(name) IN
             ('vo', 'person', 'membership', 'role', 'assignment', 'role_grant', 'upstream', 'ceiling', 'tool', 'applied'))
         ORDER BY name LIMIT 1"
    )?;
    if let Some(flaw) = made.first().map(in_words) {
        return Ok(Some(flaw));
    }
    let odd = tx_rows!(
        tx,
        (String,),
        "SELECT 'vo' FROM vo WHERE typeof(id) <> 'blob'
         UNION ALL SELECT 'person' FROM person WHERE typeof(id) <> 'blob' OR typeof(vo_id) <> 'blob'
         UNION ALL SELECT 'membership' FROM membership
             WHERE typeof(id) <> 'blob' OR typeof(vo_id) <> 'blob' OR typeof(person) <> 'blob'
         UNION ALL SELECT 'role' FROM role WHERE typeof(id) <> 'blob' OR typeof(vo_id) <> 'blob'
         UNION ALL SELECT 'assignment' FROM assignment
             WHERE typeof(id) <> 'blob' OR typeof(vo_id) <> 'blob' OR typeof(role) <> 'blob' OR typeof(person) <> 'blob'
         UNION ALL SELECT 'role_grant' FROM role_grant
             WHERE typeof(id) <> 'blob' OR typeof(vo_id) <> 'blob' OR typeof(role) <> 'blob'
         UNION ALL SELECT 'upstream' FROM upstream WHERE typeof(id) <> 'blob' OR typeof(vo_id) <> 'blob'
         UNION ALL SELECT 'ceiling' FROM ceiling WHERE typeof(id) <> 'blob' OR typeof(vo_id) <> 'blob'
         UNION ALL SELECT 'tool' FROM tool WHERE typeof(id) <> 'blob' OR typeof(vo_id) <> 'blob'
         LIMIT 1"
    )?;
    Ok(odd
        .first()
        .map(|(table,)| format!("the table `{table}` has an id that is no blob")))
}

async fn postgres(tx: &mut Tx) -> Result<Option<String>, StoreError> {
    let made = tx_rows!(
        tx,
        (String, String),
        "SELECT kind, name FROM (
             SELECT 'trigger' AS kind, t.tgname::text AS name FROM pg_trigger t
                 JOIN pg_class c ON c.oid = t.tgrelid
                 WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace
             UNION ALL SELECT 'rule', r.rulename::text FROM pg_rewrite r
                 JOIN pg_class c ON c.oid = r.ev_class
                 WHERE c.relkind NOT IN ('v', 'm') AND c.relnamespace = current_schema()::regnamespace
             UNION ALL SELECT 'view', c.relname::text FROM pg_class c
                 WHERE c.relkind IN ('v', 'm', 'f') AND c.relnamespace = current_schema()::regnamespace AND lower(c.relname) IN
                     ('vo', 'person', 'membership', 'role', 'assignment', 'role_grant', 'upstream', 'ceiling', 'tool', 'applied')
         ) AS made ORDER BY kind, name LIMIT 1"
    )?;
    Ok(made.first().map(in_words))
}

fn in_words((kind, name): &(String, String)) -> String {
    format!("the store has a {kind} `{name}`, which the gateway did not make")
}
