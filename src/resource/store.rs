//! The SQL of ownership. A row is one generation of an id; the row without an end is the live one.

use std::collections::BTreeMap;

use super::{MAX_PARENTS, Name, Resource};
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId, VoId};
use crate::record::{CreatedEntry, DeletedEntry};
use crate::store::{Db, StoreError, Tx, rows, run, tx_rows};

/// kind, id, generation, owner, parent_kind, parent_id, attributes
type Row = (
    String,
    String,
    i64,
    Option<uuid::Uuid>,
    Option<String>,
    Option<String>,
    String,
);

/// Names in one query: below the bound of parameters of both engines.
const BATCH: usize = 5_000;

fn resource(vo: VoId, tool: &str, row: Row) -> Result<Resource, StoreError> {
    let (kind, id, generation, owner, parent_kind, parent_id, attributes) = row;
    let attributes: BTreeMap<String, String> = serde_json::from_str(&attributes).map_err(|_| {
        StoreError::Inconsistent(format!("the attributes of the {kind} `{id}` cannot be read"))
    })?;
    Ok(Resource {
        vo,
        tool: tool.to_owned(),
        kind,
        id,
        generation,
        owner: owner.map(PersonId::from),
        parent: parent_kind.zip(parent_id),
        attributes,
    })
}

/// The live rows of `name` and of its parents.
pub(super) async fn chain(db: &Db, vo: VoId, tool: &str, name: &Name) -> Result<Vec<Resource>, StoreError> {
    let (kind, id) = name;
    let depth = i64::try_from(MAX_PARENTS).unwrap_or(0);
    rows!(
        db,
        Row,
        "WITH RECURSIVE chain (depth, kind, id, generation, owner, parent_kind, parent_id, attributes) AS ( \
           SELECT CAST(0 AS BIGINT), kind, id, generation, owner, parent_kind, parent_id, attributes FROM resource \
           WHERE vo_id = $1 AND tool = $2 AND kind = $3 AND id = $4 AND ended_at IS NULL \
           UNION ALL \
           SELECT chain.depth + 1, up.kind, up.id, up.generation, up.owner, up.parent_kind, up.parent_id, up.attributes \
           FROM resource up JOIN chain ON up.kind = chain.parent_kind AND up.id = chain.parent_id \
           WHERE up.vo_id = $1 AND up.tool = $2 AND up.ended_at IS NULL AND chain.depth < $5 \
         ) SELECT kind, id, generation, owner, parent_kind, parent_id, attributes FROM chain ORDER BY depth",
        vo.uuid(),
        tool,
        kind,
        id,
        depth,
    )?
    .into_iter()
    .map(|row| resource(vo, tool, row))
    .collect()
}

/// The live rows of many names.
pub(super) async fn named(
    db: &Db,
    vo: VoId,
    tool: &str,
    names: &[Name],
) -> Result<Vec<Resource>, StoreError> {
    /// The one query of this file whose length depends on its arguments, for either engine.
    macro_rules! query {
        ($engine:ty, $pool:expr, $names:expr) => {{
            let mut query = sqlx::QueryBuilder::<$engine>::new(
                "SELECT kind, id, generation, owner, parent_kind, parent_id, attributes FROM resource WHERE vo_id = ",
            );
            query.push_bind(vo.uuid()).push(" AND tool = ").push_bind(tool.to_owned());
            query.push(" AND ended_at IS NULL AND (kind, id) IN (");
            query.push_values($names, |mut tuple, (kind, id)| {
                tuple.push_bind(kind.clone()).push_bind(id.clone());
            });
            query.push(")");
            query.build_query_as::<Row>().fetch_all($pool).await
        }};
    }
    let mut found = Vec::with_capacity(names.len());
    for batch in names.chunks(BATCH) {
        let rows = match db {
            Db::Sqlite(pool) => query!(sqlx::Sqlite, pool, batch),
            Db::Postgres(pool) => query!(sqlx::Postgres, pool, batch),
        }?;
        for row in rows {
            found.push(resource(vo, tool, row)?);
        }
    }
    Ok(found)
}

/// The ids of what somebody owns, the newest first.
pub(super) async fn owned(
    db: &Db,
    (vo, tool, kind): (VoId, &str, &str),
    owner: PersonId,
    most: u32,
) -> Result<Vec<String>, StoreError> {
    let found = rows!(
        db,
        (String,),
        "SELECT id FROM resource WHERE owner = $1 AND vo_id = $2 AND tool = $3 AND kind = $4 AND ended_at IS NULL \
         ORDER BY created_at DESC, id LIMIT $5",
        owner.uuid(),
        vo.uuid(),
        tool,
        kind,
        i64::from(most),
    )?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// What became of a claim.
pub(super) enum Claim {
    /// It holds: made now, or by this request before, or the same owner's already.
    Holds,
    /// The live id belongs to another, or to nobody.
    Conflict(Option<PersonId>),
}

/// Starts a generation of the id unless one is alive.
pub(super) async fn claim(
    tx: &mut Tx,
    request: RequestId,
    entry: &CreatedEntry,
    now: Timestamp,
) -> Result<Claim, StoreError> {
    // SECURITY: the first owner stays; nothing here ever changes the owner of a row.
    // Two rounds, since on PostgreSQL the row that stood in the way can end between the two statements.
    for _ in 0..2 {
        if start(tx, request, entry, now).await? {
            return Ok(Claim::Holds);
        }
        let rows = tx_rows!(
            tx,
            (Option<uuid::Uuid>, uuid::Uuid),
            "SELECT owner, created_request FROM resource WHERE vo_id = $1 AND tool = $2 AND kind = $3 AND id = $4 \
             AND (ended_at IS NULL OR (created_request = $5 AND (ended_request IS NULL OR ended_request <> $5)))",
            entry.vo.uuid(),
            &entry.tool,
            &entry.kind,
            &entry.id,
            request.uuid(),
        )?;
        if rows.iter().any(|(_, made_by)| *made_by == request.uuid()) {
            return Ok(Claim::Holds);
        }
        if let Some((owner, _)) = rows.into_iter().next() {
            let owner = owner.map(PersonId::from);
            return Ok(if owner == entry.owner {
                Claim::Holds
            } else {
                Claim::Conflict(owner)
            });
        }
    }
    Err(StoreError::Inconsistent(format!(
        "the {} `{}` is neither free nor taken",
        entry.kind, entry.id
    )))
}

async fn start(
    tx: &mut Tx,
    request: RequestId,
    entry: &CreatedEntry,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let attributes = serde_json::to_string(&entry.attributes)
        .map_err(|_| StoreError::Inconsistent("attributes cannot be written".into()))?;
    let (parent_kind, parent_id) = entry.parent.clone().unzip();
    let started = run!(
        tx,
        "INSERT INTO resource (vo_id, tool, kind, id, generation, version, owner, parent_kind, parent_id, attributes, \
                               created_request, created_at) \
         SELECT $1, $2, $3, $4, COALESCE(MAX(generation), 0) + 1, 1, $5, $6, $7, $8, $9, $10 FROM resource \
         WHERE vo_id = $1 AND tool = $2 AND kind = $3 AND id = $4 \
         HAVING COALESCE(SUM(CASE WHEN ended_at IS NULL \
             OR (created_request = $9 AND (ended_request IS NULL OR ended_request <> $9)) THEN 1 ELSE 0 END), 0) = 0 \
         ON CONFLICT DO NOTHING",
        entry.vo.uuid(),
        &entry.tool,
        &entry.kind,
        &entry.id,
        entry.owner.map(PersonId::uuid),
        parent_kind,
        parent_id,
        attributes,
        request.uuid(),
        now.micros(),
    )?;
    Ok(started == 1)
}

/// Ends the live generation of the id, and of everything below it.
pub(super) async fn retire(
    tx: &mut Tx,
    request: RequestId,
    entry: &DeletedEntry,
    now: Timestamp,
) -> Result<(), StoreError> {
    let done = tx_rows!(
        tx,
        (i64,),
        "SELECT generation FROM resource WHERE vo_id = $1 AND tool = $2 AND kind = $3 AND id = $4 AND ended_request = $5",
        entry.vo.uuid(),
        &entry.tool,
        &entry.kind,
        &entry.id,
        request.uuid(),
    )?;
    if !done.is_empty() {
        return Ok(());
    }
    // What was never known leaves a row too, made and ended by this request, so that the deletion is not done twice.
    start(
        tx,
        request,
        &CreatedEntry {
            vo: entry.vo,
            tool: entry.tool.clone(),
            kind: entry.kind.clone(),
            id: entry.id.clone(),
            owner: None,
            parent: None,
            attributes: BTreeMap::new(),
        },
        now,
    )
    .await?;
    run!(
        tx,
        "WITH RECURSIVE gone (kind, id, depth) AS ( \
           SELECT CAST($3 AS TEXT), CAST($4 AS TEXT), CAST(0 AS BIGINT) \
           UNION ALL \
           SELECT below.kind, below.id, gone.depth + 1 \
           FROM resource below JOIN gone ON below.parent_kind = gone.kind AND below.parent_id = gone.id \
           WHERE below.vo_id = $1 AND below.tool = $2 AND below.ended_at IS NULL AND gone.depth < $7 \
         ) UPDATE resource SET ended_at = $5, ended_request = $6, version = version + 1 \
           WHERE vo_id = $1 AND tool = $2 AND ended_at IS NULL AND (kind, id) IN (SELECT kind, id FROM gone)",
        entry.vo.uuid(),
        &entry.tool,
        &entry.kind,
        &entry.id,
        now.micros(),
        request.uuid(),
        i64::try_from(MAX_PARENTS).unwrap_or(0),
    )?;
    Ok(())
}
