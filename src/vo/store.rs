//! The SQL of people, VOs and what binds them. Rows stay in this file.

use uuid::Uuid;

use super::{Assignment, Card, CardFields, Grant, Membership, Person, PersonState, Role, Upstream, VoState};
use crate::clock::Timestamp;
use crate::id::{PersonId, RoleId, VoId};
use crate::record::Hash;
use crate::store::{Db, StoreError, Tx, row, rows, run, tx_rows};

pub(super) type PersonRow = (
    Uuid,
    Uuid,
    String,
    String,
    Option<String>,
    Option<i64>,
    Vec<u8>,
    i64,
);
type CardRow = (
    Vec<u8>,
    Uuid,
    i64,
    Vec<u8>,
    String,
    String,
    Option<String>,
    Option<String>,
    i64,
    Option<i64>,
);

pub(super) fn vo_state(state: &str) -> Result<VoState, StoreError> {
    match state {
        "active" => Ok(VoState::Active),
        "suspended" => Ok(VoState::Suspended),
        _ => Err(StoreError::Inconsistent("the state of a VO".into())),
    }
}

/// INVARIANT: whoever has a standing is stored as suspended, so that no statement takes her for active.
fn person_state(state: &str, standing: Option<&str>) -> Result<PersonState, StoreError> {
    match (state, standing) {
        ("active", None) => Ok(PersonState::Active),
        ("suspended", None) => Ok(PersonState::Suspended),
        ("suspended", Some("pending")) => Ok(PersonState::Pending),
        ("suspended", Some("rejected")) => Ok(PersonState::Rejected),
        ("suspended", Some("expired")) => Ok(PersonState::Expired),
        ("ended", _) => Ok(PersonState::Ended),
        _ => Err(StoreError::Inconsistent("the state of a person".into())),
    }
}

/// The columns `state` and `standing`.
const fn columns(state: PersonState) -> (&'static str, Option<&'static str>) {
    match state {
        PersonState::Active => ("active", None),
        PersonState::Suspended => ("suspended", None),
        PersonState::Pending => ("suspended", Some("pending")),
        PersonState::Rejected => ("suspended", Some("rejected")),
        PersonState::Expired => ("suspended", Some("expired")),
        PersonState::Ended => ("ended", None),
    }
}

pub(super) fn person(row: PersonRow) -> Result<Person, StoreError> {
    let (id, home, username, state, standing, until, card, version) = row;
    Ok(Person {
        id: id.into(),
        username,
        home: home.into(),
        state: person_state(&state, standing.as_deref())?,
        until: until.map(Timestamp),
        card: hash(card)?,
        version,
    })
}

pub(super) fn hash(bytes: Vec<u8>) -> Result<Hash, StoreError> {
    bytes
        .try_into()
        .map(Hash)
        .map_err(|_| StoreError::Inconsistent("a hash has the wrong length".into()))
}

pub(super) async fn touch(tx: &mut Tx, vo: VoId) -> Result<u64, StoreError> {
    run!(
        tx,
        "UPDATE vo SET version = version + 1 WHERE id = $1 AND ended_at IS NULL",
        vo.uuid()
    )
}

/// Raises the version of every VO that a person belongs to, her home included.
pub(super) async fn touch_person(tx: &mut Tx, person: PersonId) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE vo SET version = version + 1 WHERE ended_at IS NULL AND id IN (
             SELECT vo_id FROM person WHERE id = $1
             UNION SELECT vo_id FROM membership WHERE person = $1 AND ended_at IS NULL
             UNION SELECT vo_id FROM assignment WHERE person = $1 AND ended_at IS NULL)",
        person.uuid()
    )
    .map(|_| ())
}

pub(super) async fn insert_vo(tx: &mut Tx, vo: VoId, name: &str, at: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO vo (id, name, state, version, created_at) VALUES ($1, $2, 'active', 1, $3)",
        vo.uuid(),
        name,
        at.micros()
    )
    .map(|_| ())
}

pub(super) async fn vo(tx: &mut Tx, vo: VoId) -> Result<Option<VoState>, StoreError> {
    tx_rows!(
        tx,
        (String,),
        "SELECT state FROM vo WHERE id = $1 AND ended_at IS NULL",
        vo.uuid()
    )?
    .pop()
    .map(|(state,)| vo_state(&state))
    .transpose()
}

pub(super) async fn set_vo_state(tx: &mut Tx, vo: VoId, state: &str) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE vo SET state = $2 WHERE id = $1 AND ended_at IS NULL",
        vo.uuid(),
        state
    )
    .map(|_| ())
}

pub(super) async fn insert_person(tx: &mut Tx, person: &Person, at: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO person (id, vo_id, username, state, standing, until, card, version, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8)",
        person.id.uuid(),
        person.home.uuid(),
        person.username.as_str(),
        columns(person.state).0,
        columns(person.state).1,
        person.until.map(Timestamp::micros),
        person.card.0.to_vec(),
        at.micros()
    )
    .map(|_| ())
}

pub(super) async fn find_person(tx: &mut Tx, id: PersonId) -> Result<Option<Person>, StoreError> {
    tx_rows!(
        tx,
        PersonRow,
        "SELECT id, vo_id, username, state, standing, until, card, version FROM person WHERE id = $1",
        id.uuid()
    )?
    .pop()
    .map(person)
    .transpose()
}

pub(super) async fn set_person_state(
    tx: &mut Tx,
    id: PersonId,
    (state, until): (PersonState, Option<Timestamp>),
    ended: Option<Timestamp>,
) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE person SET state = $2, standing = $3, until = $4, ended_at = $5, version = version + 1 WHERE id = $1",
        id.uuid(),
        columns(state).0,
        columns(state).1,
        until.map(Timestamp::micros),
        ended.map(Timestamp::micros)
    )
    .map(|_| ())
}

/// Whether a living account has this user name.
pub(super) async fn is_username_taken(tx: &mut Tx, username: &str) -> Result<bool, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT count(*) FROM person WHERE username = $1 AND ended_at IS NULL",
        username
    )?;
    Ok(found.first().is_some_and(|(count,)| *count > 0))
}

/// Where a person holds a role.
pub(super) async fn levels_of(tx: &mut Tx, person: PersonId) -> Result<Vec<VoId>, StoreError> {
    let found = tx_rows!(
        tx,
        (Uuid,),
        "SELECT DISTINCT a.vo_id FROM assignment a JOIN vo v ON v.id = a.vo_id
         WHERE a.person = $1 AND a.ended_at IS NULL AND v.ended_at IS NULL ORDER BY a.vo_id",
        person.uuid()
    )?;
    Ok(found.into_iter().map(|(vo,)| vo.into()).collect())
}

pub(super) async fn set_card(tx: &mut Tx, id: PersonId, card: Hash) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE person SET card = $2, version = version + 1 WHERE id = $1",
        id.uuid(),
        card.0.to_vec()
    )
    .map(|_| ())
}

pub(super) async fn insert_card(tx: &mut Tx, card: &Card) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO card (hash, person, version, salt, username, name, mail, organisation, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        card.hash.0.to_vec(),
        card.person.uuid(),
        card.version,
        card.salt.to_vec(),
        card.username.as_str(),
        card.fields.name.as_str(),
        card.fields.mail.as_deref(),
        card.fields.organisation.as_deref(),
        card.since.micros()
    )
    .map(|_| ())
}

pub(super) async fn end_cards(tx: &mut Tx, person: PersonId, at: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE card SET ended_at = $2 WHERE person = $1 AND ended_at IS NULL",
        person.uuid(),
        at.micros()
    )
    .map(|_| ())
}

pub(super) async fn last_card_version(tx: &mut Tx, person: PersonId) -> Result<i64, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT version FROM card WHERE person = $1 ORDER BY version DESC LIMIT 1",
        person.uuid()
    )?;
    Ok(found.first().map_or(0, |(version,)| *version))
}

pub(super) async fn present_card(db: &Db, person: PersonId) -> Result<Option<Card>, StoreError> {
    row!(
        db,
        CardRow,
        "SELECT c.hash, c.person, c.version, c.salt, c.username, c.name, c.mail, c.organisation, c.created_at, c.ended_at
         FROM card c JOIN person p ON p.card = c.hash WHERE p.id = $1",
        person.uuid()
    )?
    .map(card_of)
    .transpose()
}

/// Every card of a person, oldest first.
pub(super) async fn cards_of(db: &Db, person: PersonId) -> Result<Vec<Card>, StoreError> {
    let cards = rows!(
        db,
        CardRow,
        "SELECT hash, person, version, salt, username, name, mail, organisation, created_at, ended_at
         FROM card WHERE person = $1 ORDER BY version",
        person.uuid()
    )?;
    cards.into_iter().map(card_of).collect()
}

pub(super) async fn card(db: &Db, hash: Hash) -> Result<Option<Card>, StoreError> {
    row!(
        db,
        CardRow,
        "SELECT hash, person, version, salt, username, name, mail, organisation, created_at, ended_at
         FROM card WHERE hash = $1",
        hash.0.to_vec()
    )?
    .map(card_of)
    .transpose()
}

/// The present cards of a VO's members.
pub(super) async fn present_cards(db: &Db, vo: VoId) -> Result<Vec<Card>, StoreError> {
    let found = rows!(
        db,
        CardRow,
        "SELECT hash, person, version, salt, username, name, mail, organisation, created_at, ended_at
         FROM card WHERE ended_at IS NULL
         AND person IN (SELECT person FROM membership WHERE vo_id = $1 AND ended_at IS NULL)",
        vo.uuid()
    )?;
    found.into_iter().map(card_of).collect()
}

fn card_of(row: CardRow) -> Result<Card, StoreError> {
    let (digest, person, version, salt, username, name, mail, organisation, since, until) = row;
    Ok(Card {
        hash: hash(digest)?,
        person: person.into(),
        version,
        username,
        fields: CardFields {
            name,
            mail,
            organisation,
        },
        salt: salt
            .try_into()
            .map_err(|_| StoreError::Inconsistent("a salt has the wrong length".into()))?,
        since: Timestamp(since),
        until: until.map(Timestamp),
    })
}

pub(super) async fn insert_membership(
    tx: &mut Tx,
    membership: &Membership,
    at: Timestamp,
) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO membership (id, vo_id, person, version, created_at) VALUES ($1, $2, $3, 1, $4)",
        membership.id.uuid(),
        membership.vo.uuid(),
        membership.person.uuid(),
        at.micros()
    )
    .map(|_| ())
}

pub(super) async fn is_member(tx: &mut Tx, vo: VoId, person: PersonId) -> Result<bool, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT version FROM membership WHERE vo_id = $1 AND person = $2 AND ended_at IS NULL",
        vo.uuid(),
        person.uuid()
    )?;
    Ok(!found.is_empty())
}

/// Ends a membership; gives how many rows that were.
pub(super) async fn end_membership(
    tx: &mut Tx,
    vo: VoId,
    person: PersonId,
    at: Timestamp,
) -> Result<u64, StoreError> {
    run!(
        tx,
        "UPDATE membership SET ended_at = $3, version = version + 1
         WHERE vo_id = $1 AND person = $2 AND ended_at IS NULL",
        vo.uuid(),
        person.uuid(),
        at.micros()
    )
}

pub(super) async fn end_all_memberships(
    tx: &mut Tx,
    person: PersonId,
    at: Timestamp,
) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE membership SET ended_at = $2, version = version + 1 WHERE person = $1 AND ended_at IS NULL",
        person.uuid(),
        at.micros()
    )?;
    run!(
        tx,
        "UPDATE assignment SET ended_at = $2, version = version + 1 WHERE person = $1 AND ended_at IS NULL",
        person.uuid(),
        at.micros()
    )
    .map(|_| ())
}

pub(super) async fn insert_role(tx: &mut Tx, role: &Role, at: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO role (id, vo_id, name, version, created_at) VALUES ($1, $2, $3, 1, $4)",
        role.id.uuid(),
        role.vo.uuid(),
        role.name.as_str(),
        at.micros()
    )
    .map(|_| ())
}

pub(super) async fn role(tx: &mut Tx, vo: VoId, name: &str) -> Result<Option<RoleId>, StoreError> {
    let found = tx_rows!(
        tx,
        (Uuid,),
        "SELECT id FROM role WHERE vo_id = $1 AND name = $2 AND ended_at IS NULL",
        vo.uuid(),
        name
    )?;
    Ok(found.first().map(|(id,)| RoleId::from(*id)))
}

/// Ends a role with its assignments and grants.
pub(super) async fn end_role(tx: &mut Tx, role: RoleId, at: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE role SET ended_at = $2, version = version + 1 WHERE id = $1 AND ended_at IS NULL",
        role.uuid(),
        at.micros()
    )?;
    run!(
        tx,
        "UPDATE assignment SET ended_at = $2, version = version + 1 WHERE role = $1 AND ended_at IS NULL",
        role.uuid(),
        at.micros()
    )?;
    run!(
        tx,
        "UPDATE role_grant SET ended_at = $2, version = version + 1 WHERE role = $1 AND ended_at IS NULL",
        role.uuid(),
        at.micros()
    )
    .map(|_| ())
}

pub(super) async fn insert_assignment(
    tx: &mut Tx,
    assignment: &Assignment,
    at: Timestamp,
) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO assignment (id, vo_id, role, person, until, version, created_at)
         VALUES ($1, $2, $3, $4, $5, 1, $6)",
        assignment.id.uuid(),
        assignment.vo.uuid(),
        assignment.role.uuid(),
        assignment.person.uuid(),
        assignment.until.map(Timestamp::micros),
        at.micros()
    )
    .map(|_| ())
}

/// Names of the roles that a person holds in a VO, those that ran out included.
pub(super) async fn roles_held(
    tx: &mut Tx,
    vo: VoId,
    person: PersonId,
) -> Result<Vec<(String, Option<i64>)>, StoreError> {
    tx_rows!(
        tx,
        (String, Option<i64>),
        "SELECT r.name, a.until FROM assignment a JOIN role r ON r.id = a.role
         WHERE a.vo_id = $1 AND a.person = $2 AND a.ended_at IS NULL ORDER BY r.name",
        vo.uuid(),
        person.uuid()
    )
}

/// How many other people hold a role without an end, in accounts without an end.
pub(super) async fn other_holders(tx: &mut Tx, role: RoleId, person: PersonId) -> Result<i64, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT count(*) FROM assignment a JOIN person p ON p.id = a.person
         WHERE a.role = $1 AND a.person <> $2 AND a.until IS NULL AND a.ended_at IS NULL
             AND p.state = 'active' AND p.until IS NULL",
        role.uuid(),
        person.uuid()
    )?;
    Ok(found.first().map_or(0, |(count,)| *count))
}

pub(super) async fn end_assignment(
    tx: &mut Tx,
    role: RoleId,
    person: PersonId,
    at: Timestamp,
) -> Result<u64, StoreError> {
    run!(
        tx,
        "UPDATE assignment SET ended_at = $3, version = version + 1
         WHERE role = $1 AND person = $2 AND ended_at IS NULL",
        role.uuid(),
        person.uuid(),
        at.micros()
    )
}

/// Ends the assignment of a role to a person if its time has run out, so that it can be made anew.
pub(super) async fn end_lapsed(
    tx: &mut Tx,
    role: RoleId,
    person: PersonId,
    at: Timestamp,
) -> Result<u64, StoreError> {
    run!(
        tx,
        "UPDATE assignment SET ended_at = until, version = version + 1
         WHERE role = $1 AND person = $2 AND ended_at IS NULL AND until <= $3",
        role.uuid(),
        person.uuid(),
        at.micros()
    )
}

pub(super) async fn end_assignments(
    tx: &mut Tx,
    vo: VoId,
    person: PersonId,
    at: Timestamp,
) -> Result<u64, StoreError> {
    run!(
        tx,
        "UPDATE assignment SET ended_at = $3, version = version + 1
         WHERE vo_id = $1 AND person = $2 AND ended_at IS NULL",
        vo.uuid(),
        person.uuid(),
        at.micros()
    )
}

pub(super) async fn insert_grant(tx: &mut Tx, grant: &Grant, at: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO role_grant (id, vo_id, role, tool, task, condition, version, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, 1, $7)",
        grant.id.uuid(),
        grant.vo.uuid(),
        grant.role.uuid(),
        grant.tool.as_str(),
        grant.task.as_str(),
        grant.condition.as_str(),
        at.micros()
    )
    .map(|_| ())
}

/// A living grant of a VO: role, tool, task, condition.
pub(super) async fn grant(
    tx: &mut Tx,
    vo: VoId,
    id: Uuid,
) -> Result<Option<(String, String, String, String)>, StoreError> {
    Ok(tx_rows!(
        tx,
        (String, String, String, String),
        "SELECT r.name, g.tool, g.task, g.condition FROM role_grant g JOIN role r ON r.id = g.role
         WHERE g.id = $1 AND g.vo_id = $2 AND g.ended_at IS NULL",
        id,
        vo.uuid()
    )?
    .pop())
}

pub(super) async fn end_grant(tx: &mut Tx, id: Uuid, at: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE role_grant SET ended_at = $2, version = version + 1 WHERE id = $1 AND ended_at IS NULL",
        id,
        at.micros()
    )
    .map(|_| ())
}

pub(super) async fn insert_upstream(
    tx: &mut Tx,
    upstream: &Upstream,
    trust: (Option<&str>, Option<&str>),
    at: Timestamp,
) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO upstream (id, vo_id, name, url, ca, expected, version, created_at, http2)
         VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8)",
        upstream.id.uuid(),
        upstream.vo.uuid(),
        upstream.name.as_str(),
        upstream.url.as_str(),
        trust.0,
        trust.1,
        at.micros(),
        i64::from(upstream.http2)
    )
    .map(|_| ())
}

/// The URL of a living upstream.
pub(super) async fn upstream_url(tx: &mut Tx, vo: VoId, name: &str) -> Result<Option<String>, StoreError> {
    let found = tx_rows!(
        tx,
        (String,),
        "SELECT url FROM upstream WHERE vo_id = $1 AND name = $2 AND ended_at IS NULL",
        vo.uuid(),
        name
    )?;
    Ok(found.into_iter().next().map(|(url,)| url))
}

pub(super) async fn end_upstream(tx: &mut Tx, vo: VoId, name: &str, at: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE upstream SET ended_at = $3, version = version + 1
         WHERE vo_id = $1 AND name = $2 AND ended_at IS NULL",
        vo.uuid(),
        name,
        at.micros()
    )
    .map(|_| ())
}
