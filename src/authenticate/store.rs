//! The capability's SQL. Rows stay here.

use std::sync::Arc;

use super::federation;
use super::session::Live;
use super::subject::{Session, SessionKind};
use crate::clock::Timestamp;
use crate::id::{PersonId, SessionId, VoId};
use crate::record::Hash;
use crate::store::{Db, StoreError, Tx, row, rows, run};

/// What the store knows of an account's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) hash: String,
    pub(super) one_time: bool,
    pub(super) expires: Option<Timestamp>,
    pub(super) used: bool,
    /// Long enough beside a second factor only.
    pub(super) short: bool,
    /// Others may know it.
    pub(super) flagged: bool,
    pub(super) version: i64,
}

/// How often and when an account signed in, or failed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginCount {
    /// Successful logins.
    pub logins: i64,
    /// The last of them.
    pub last_login: Option<Timestamp>,
    /// Failed attempts.
    pub failures: i64,
    /// The last of them.
    pub last_failure: Option<Timestamp>,
}

pub(super) async fn password(db: &Db, person: PersonId) -> Result<Option<Stored>, StoreError> {
    let found = row!(
        db,
        (String, bool, Option<i64>, Option<i64>, bool, bool, i64),
        "SELECT hash, one_time, expires_at, used_at, short, flagged, version FROM password
         WHERE person = $1 AND ended_at IS NULL",
        person.uuid()
    )?;
    Ok(found.map(
        |(hash, one_time, expires, used, short, flagged, version)| Stored {
            hash,
            one_time,
            expires: expires.map(Timestamp),
            used: used.is_some(),
            short,
            flagged,
            version,
        },
    ))
}

/// Sets the password, whatever it was before: its hash, and whether it is short. `expires` makes it a one-time password.
pub(super) async fn set_password(
    tx: &mut Tx,
    (person, home): (PersonId, VoId),
    (hash, short): (&str, bool),
    expires: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO password (person, vo_id, hash, one_time, expires_at, used_at, set_at, short, version, ended_at)
         VALUES ($1, $2, $3, $4, $5, NULL, $6, $7, 1, NULL)
         ON CONFLICT (person) DO UPDATE SET hash = excluded.hash, one_time = excluded.one_time,
             expires_at = excluded.expires_at, used_at = NULL, set_at = excluded.set_at, short = excluded.short,
             flagged = FALSE,
             version = password.version + 1, ended_at = NULL",
        person.uuid(),
        home.uuid(),
        hash,
        expires.is_some(),
        expires.map(Timestamp::micros),
        now.micros(),
        short
    )
    .map(|_| ())
}

/// Notes that others may know the password; `false` when there is none.
pub(super) async fn flag(tx: &mut Tx, person: PersonId) -> Result<bool, StoreError> {
    let changed = run!(
        tx,
        "UPDATE password SET flagged = TRUE, version = version + 1 WHERE person = $1 AND ended_at IS NULL",
        person.uuid()
    )?;
    Ok(changed == 1)
}

/// The same password under a new cost, unless it was changed meanwhile.
pub(super) async fn rehash(
    tx: &mut Tx,
    person: PersonId,
    hash: &str,
    version: i64,
) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE password SET hash = $1, version = version + 1 WHERE person = $2 AND version = $3 AND ended_at IS NULL",
        hash,
        person.uuid(),
        version
    )
    .map(|_| ())
}

/// Uses a one-time password up; `false` when somebody was faster or it was changed.
pub(super) async fn use_up(
    tx: &mut Tx,
    person: PersonId,
    version: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let changed = run!(
        tx,
        "UPDATE password SET used_at = $1, version = version + 1
         WHERE person = $2 AND version = $3 AND one_time AND used_at IS NULL AND ended_at IS NULL",
        now.micros(),
        person.uuid(),
        version
    )?;
    Ok(changed == 1)
}

/// Whether the password is still the one of `version`.
pub(super) async fn is_unchanged(tx: &mut Tx, person: PersonId, version: i64) -> Result<bool, StoreError> {
    let touched = run!(
        tx,
        "UPDATE password SET version = version WHERE person = $1 AND version = $2 AND ended_at IS NULL",
        person.uuid(),
        version
    )?;
    Ok(touched == 1)
}

pub(super) async fn login_count(db: &Db, person: PersonId) -> Result<LoginCount, StoreError> {
    let found = row!(
        db,
        (i64, Option<i64>, i64, Option<i64>),
        "SELECT logins, last_login, failures, last_failure FROM login_count WHERE person = $1",
        person.uuid()
    )?;
    Ok(found
        .map(|(logins, last_login, failures, last_failure)| LoginCount {
            logins,
            last_login: last_login.map(Timestamp),
            failures,
            last_failure: last_failure.map(Timestamp),
        })
        .unwrap_or_default())
}

pub(super) async fn count_login(
    tx: &mut Tx,
    person: PersonId,
    home: VoId,
    now: Timestamp,
) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO login_count (person, vo_id, logins, last_login, failures, last_failure, version, ended_at)
         VALUES ($1, $2, 1, $3, 0, NULL, 1, NULL)
         ON CONFLICT (person) DO UPDATE SET logins = login_count.logins + 1, last_login = excluded.last_login,
             version = login_count.version + 1",
        person.uuid(),
        home.uuid(),
        now.micros()
    )
    .map(|_| ())
}

pub(super) async fn count_failure(
    tx: &mut Tx,
    person: PersonId,
    home: VoId,
    now: Timestamp,
) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO login_count (person, vo_id, logins, last_login, failures, last_failure, version, ended_at)
         VALUES ($1, $2, 0, NULL, 1, $3, 1, NULL)
         ON CONFLICT (person) DO UPDATE SET failures = login_count.failures + 1, last_failure = excluded.last_failure,
             version = login_count.version + 1",
        person.uuid(),
        home.uuid(),
        now.micros()
    )
    .map(|_| ())
}

pub(super) async fn insert_session(
    tx: &mut Tx,
    session: &Session,
    home: VoId,
    token: Option<Hash>,
) -> Result<(), StoreError> {
    let (parent, host) = match &session.kind {
        SessionKind::Child { parent, host } => (Some(parent.uuid()), Some(host.as_str())),
        _ => (None, None),
    };
    run!(
        tx,
        "INSERT INTO session (id, vo_id, person, kind, parent, host, token, created_at, expires_at, seen_at,
             methods, acr, must_change, identity, version, ended_at, end_reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 1, NULL, NULL)",
        session.id.uuid(),
        home.uuid(),
        session.person.uuid(),
        session.kind.as_str(),
        parent,
        host,
        token.map(|hash| hash.0.to_vec()),
        session.created.micros(),
        session.expires.micros(),
        session.created.micros(),
        session.methods.join(" "),
        session.acr.as_str(),
        session.must_change,
        session.identity.as_ref().map(|by| by.id.uuid())
    )
    .map(|_| ())
}

/// Whether a session is alive, locked against its end until the transaction is over.
pub(super) async fn is_alive(tx: &mut Tx, id: SessionId) -> Result<bool, StoreError> {
    let touched = run!(
        tx,
        "UPDATE session SET version = version WHERE id = $1 AND ended_at IS NULL",
        id.uuid()
    )?;
    Ok(touched == 1)
}

/// Ends a session and its children.
pub(super) async fn end_session(
    tx: &mut Tx,
    id: SessionId,
    reason: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    run!(
        tx,
        "UPDATE session SET ended_at = $1, end_reason = $2, version = version + 1
         WHERE (id = $3 OR parent = $3) AND ended_at IS NULL",
        now.micros(),
        reason,
        id.uuid()
    )
}

/// Ends everything of a person, except the session `except` and its children.
pub(super) async fn end_sessions(
    tx: &mut Tx,
    person: PersonId,
    except: Option<SessionId>,
    reason: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let except = except.map_or(uuid::Uuid::nil(), SessionId::uuid);
    run!(
        tx,
        "UPDATE session SET ended_at = $1, end_reason = $2, version = version + 1
         WHERE person = $3 AND ended_at IS NULL AND id <> $4 AND (parent IS NULL OR parent <> $4)",
        now.micros(),
        reason,
        person.uuid(),
        except
    )
}

pub(super) async fn seen(tx: &mut Tx, id: SessionId, at: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE session SET seen_at = $1 WHERE id = $2 AND seen_at < $1",
        at.micros(),
        id.uuid()
    )
    .map(|_| ())
}

/// Every session that has not ended.
pub(super) async fn alive(db: &Db) -> Result<Vec<Live>, StoreError> {
    type Row = (
        uuid::Uuid,
        uuid::Uuid,
        String,
        Option<uuid::Uuid>,
        Option<String>,
        Option<Vec<u8>>,
        i64,
        i64,
        i64,
        String,
        String,
        bool,
        Option<uuid::Uuid>,
        Option<String>,
        Option<String>,
    );
    let identities = federation::store::began_by(db).await?;
    let rows = rows!(
        db,
        Row,
        "SELECT s.id, s.person, s.kind, s.parent, s.host, s.token, s.created_at, s.expires_at, s.seen_at, s.methods,
             s.acr, s.must_change, s.identity, p.name, p.scope
         FROM session s LEFT JOIN personal_token p ON p.session = s.id WHERE s.ended_at IS NULL ORDER BY s.id"
    )?;
    rows.into_iter()
        .map(
            |(
                id,
                person,
                kind,
                parent,
                host,
                token,
                created,
                expires,
                seen,
                methods,
                acr,
                must_change,
                by,
                name,
                scope,
            )| {
                let kind = match (kind.as_str(), parent, host) {
                    ("personal", None, None) => {
                        super::personal::stored(id, name.unwrap_or_default(), &scope.unwrap_or_default())?
                    }
                    ("browser", None, None) => SessionKind::Browser,
                    ("token", None, None) => SessionKind::Token,
                    ("basic", None, None) => SessionKind::Basic,
                    ("certificate", None, None) => SessionKind::Certificate,
                    ("child", Some(parent), Some(host)) => SessionKind::Child {
                        parent: SessionId::from(parent),
                        host,
                    },
                    (other, ..) => {
                        return Err(StoreError::Inconsistent(format!(
                            "session {id} has kind `{other}`"
                        )));
                    }
                };
                let token = token
                    .map(|bytes| <[u8; 32]>::try_from(bytes).map(Hash))
                    .transpose()
                    .map_err(|_| {
                        StoreError::Inconsistent(format!("session {id} has a token of a wrong length"))
                    })?;
                let session = Session {
                    id: SessionId::from(id),
                    person: PersonId::from(person),
                    kind,
                    created: Timestamp(created),
                    expires: Timestamp(expires),
                    methods: methods
                        .split(' ')
                        .filter(|method| !method.is_empty())
                        .map(str::to_owned)
                        .collect(),
                    acr,
                    must_change,
                    identity: by.and_then(|id| identities.get(&id).cloned()),
                };
                Ok(Live::new(Arc::new(session), token, Timestamp(seen)))
            },
        )
        .collect()
}
