//! The delegation tables: the proxy map, static credentials, assertion keys.

use std::collections::HashSet;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId, SessionId, VoId};
use crate::record::{Hash, Mint, SignedEntry};
use crate::store::{Db, StoreError, Tx, rows, run, tx_rows};
use crate::trust::{chain, pem};
use crate::vo::Directory;

/// Most rows that one hash or serial is answered with.
const MOST: usize = 100;

/// One row of the proxy map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// SHA-256 of the issuing VO certificate (DER).
    pub issuer: Hash,
    /// Serial.
    pub serial: u64,
    /// SHA-256 of the public key (`SubjectPublicKeyInfo`, DER).
    pub spki: Hash,
    /// SHA-256 of the certificate (DER); absent when it was never signed, or the gateway stopped in between.
    pub certificate: Option<Hash>,
    /// Its subject in words; absent when the map was rebuilt from the log.
    pub subject: Option<String>,
    /// The VO.
    pub vo: VoId,
    /// For whom.
    pub person: PersonId,
    /// Her card's hash at the time.
    pub card: Hash,
    /// The session.
    pub session: SessionId,
    /// The request that needed it first.
    pub request: RequestId,
    /// The tool that got it.
    pub tool: String,
    /// `client-certificate`, `pem`, `spool`, `myproxy`, `download` or `arc`.
    pub way: String,
    /// Begin of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

impl Mapped {
    /// Whether `other` is the same proxy.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (self.issuer, self.serial) == (other.issuer, other.serial)
    }
}

type Row = (
    Vec<u8>,
    i64,
    Vec<u8>,
    Option<Vec<u8>>,
    Option<String>,
    Uuid,
    Uuid,
    Vec<u8>,
    Uuid,
    Uuid,
    String,
    String,
    i64,
    i64,
    Option<i64>,
);

fn mapped(row: Row) -> Result<Mapped, StoreError> {
    let (
        issuer,
        serial,
        spki,
        certificate,
        subject,
        vo,
        person,
        card,
        session,
        request,
        tool,
        way,
        from,
        to,
        revoked,
    ) = row;
    Ok(Mapped {
        issuer: hash(&issuer)?,
        serial: u64::try_from(serial)
            .map_err(|_| StoreError::Inconsistent("a proxy's serial is negative".to_owned()))?,
        spki: hash(&spki)?,
        certificate: certificate.as_deref().map(hash).transpose()?,
        subject,
        vo: VoId::from(vo),
        person: PersonId::from(person),
        card: hash(&card)?,
        session: SessionId::from(session),
        request: RequestId::from(request),
        tool,
        way,
        not_before: Timestamp(from),
        not_after: Timestamp(to),
        revoked: revoked.map(Timestamp),
    })
}

pub(super) fn hash(bytes: &[u8]) -> Result<Hash, StoreError> {
    bytes
        .try_into()
        .map(Hash)
        .map_err(|_| StoreError::Inconsistent("a hash of a proxy has another length".to_owned()))
}

/// Enters a proxy from its `mint` record; one that is there stays as it is.
pub(super) async fn insert_minted(tx: &mut Tx, mint: &Mint) -> Result<(), StoreError> {
    let serial = mint.serial.parse::<i64>();
    let serial = serial.map_err(|_| StoreError::Inconsistent("a mint record has no serial".to_owned()))?;
    run!(
        tx,
        "INSERT INTO proxy (issuer, serial, spki, vo_id, person, card, session, request, tool, way, not_before, not_after) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (issuer, serial) DO NOTHING",
        mint.issuer.0.as_slice(),
        serial,
        mint.spki.0.as_slice(),
        mint.vo.uuid(),
        mint.person.uuid(),
        mint.card.0.as_slice(),
        mint.session.uuid(),
        mint.request.uuid(),
        mint.tool.as_str(),
        mint.way.as_str(),
        mint.not_before.micros(),
        mint.not_after.micros(),
    )
    .map(|_| ())
}

/// Adds what is known after the signature.
pub(super) async fn set_signed(
    tx: &mut Tx,
    signed: &SignedEntry,
    subject: Option<&str>,
) -> Result<(), StoreError> {
    let serial = signed.serial.parse::<i64>();
    let serial =
        serial.map_err(|_| StoreError::Inconsistent("an outcome record has no serial".to_owned()))?;
    run!(
        tx,
        "UPDATE proxy SET certificate = $1, subject = COALESCE($2, subject), version = version + 1 WHERE issuer = $3 AND serial = $4",
        signed.certificate.0.as_slice(),
        subject,
        signed.issuer.0.as_slice(),
        serial,
    )
    .map(|_| ())
}

/// SHA-256 of the certificates that issue proxies or issued them, of those above them, and of the public keys of all.
pub(super) async fn issuers(db: &Db) -> Result<HashSet<Hash>, StoreError> {
    let chains = rows!(db, (String,), "SELECT chain FROM vo_certificate")?;
    let mut hashes = HashSet::new();
    for (text,) in &chains {
        let chain = pem::certificates("vo_certificate", text);
        for der in chain.map_err(|error| StoreError::Inconsistent(error.to_string()))? {
            hashes.insert(Hash::of(&der));
            hashes.extend(chain::public_key(&der).map(|spki| Hash::of(&spki)));
        }
    }
    Ok(hashes)
}

/// Reads at most [`MOST`] rows, and says whether there are more.
fn mapped_most(mut rows: Vec<Row>) -> Result<(Vec<Mapped>, bool), StoreError> {
    let cut = rows.len() > MOST;
    rows.truncate(MOST);
    Ok((rows.into_iter().map(mapped).collect::<Result<_, _>>()?, cut))
}

/// The proxy with this certificate, or else those with this public key; and whether there are more.
pub(super) async fn by_hash(db: &Db, hash: Hash) -> Result<(Vec<Mapped>, bool), StoreError> {
    let rows = rows!(
        db,
        Row,
        "SELECT issuer, serial, spki, certificate, subject, vo_id, person, card, session, request, tool, way, not_before, not_after, ended_at \
         FROM proxy WHERE certificate = $1 OR spki = $2 ORDER BY not_before LIMIT 101",
        hash.0.as_slice(),
        hash.0.as_slice(),
    )?;
    mapped_most(rows)
}

/// Every proxy of a person, oldest first.
pub(super) async fn by_person(db: &Db, person: PersonId) -> Result<Vec<Mapped>, StoreError> {
    let rows = rows!(
        db,
        Row,
        "SELECT issuer, serial, spki, certificate, subject, vo_id, person, card, session, request, tool, way, not_before, not_after, ended_at \
         FROM proxy WHERE person = $1 ORDER BY not_before, serial",
        person.uuid(),
    )?;
    rows.into_iter().map(mapped).collect()
}

/// The proxies with this serial (one for each issuer, at most); and whether there are more.
pub(super) async fn by_serial(db: &Db, serial: u64) -> Result<(Vec<Mapped>, bool), StoreError> {
    let Ok(serial) = i64::try_from(serial) else {
        return Ok((Vec::new(), false));
    };
    let rows = rows!(
        db,
        Row,
        "SELECT issuer, serial, spki, certificate, subject, vo_id, person, card, session, request, tool, way, not_before, not_after, ended_at \
         FROM proxy WHERE serial = $1 ORDER BY not_before LIMIT 101",
        serial,
    )?;
    mapped_most(rows)
}

/// The proxy of this issuer with this serial.
pub(super) async fn by_issuer(db: &Db, issuer: Hash, serial: u64) -> Result<Option<Mapped>, StoreError> {
    let Ok(serial) = i64::try_from(serial) else {
        return Ok(None);
    };
    let rows = rows!(
        db,
        Row,
        "SELECT issuer, serial, spki, certificate, subject, vo_id, person, card, session, request, tool, way, not_before, not_after, ended_at \
         FROM proxy WHERE issuer = $1 AND serial = $2",
        issuer.0.as_slice(),
        serial,
    )?;
    rows.into_iter().next().map(mapped).transpose()
}

/// A sealed static credential.
#[derive(Clone, Debug)]
pub(super) struct StaticRow {
    pub(super) vo: VoId,
    pub(super) tool: String,
    pub(super) version: i64,
    pub(super) sealed: Vec<u8>,
}

/// All static credentials that are alive.
pub(super) async fn statics(db: &Db) -> Result<Vec<StaticRow>, StoreError> {
    let rows = rows!(
        db,
        (Uuid, String, i64, Vec<u8>),
        "SELECT vo_id, tool, version, sealed FROM static_credential WHERE ended_at IS NULL ORDER BY vo_id, tool",
    )?;
    let row = |(vo, tool, version, sealed)| StaticRow {
        vo: VoId::from(vo),
        tool,
        version,
        sealed,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// All static credentials, also those that ended.
pub(super) async fn all_statics(tx: &mut Tx) -> Result<Vec<StaticRow>, StoreError> {
    let rows = tx_rows!(
        tx,
        (Uuid, String, i64, Vec<u8>),
        "SELECT vo_id, tool, version, sealed FROM static_credential ORDER BY vo_id, tool, version",
    )?;
    let row = |(vo, tool, version, sealed)| StaticRow {
        vo: VoId::from(vo),
        tool,
        version,
        sealed,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Puts another envelope in the place of a static credential's.
pub(super) async fn set_static_sealed(tx: &mut Tx, row: &StaticRow, sealed: &[u8]) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE static_credential SET sealed = $1 WHERE vo_id = $2 AND tool = $3 AND version = $4",
        sealed,
        row.vo.uuid(),
        row.tool.as_str(),
        row.version,
    )
    .map(|_| ())
}

/// All assertion keys, also those that ended.
pub(super) async fn all_assertion_keys(tx: &mut Tx) -> Result<Vec<AssertionRow>, StoreError> {
    let rows = tx_rows!(
        tx,
        (String, Vec<u8>, Vec<u8>),
        "SELECT kid, public, sealed FROM assertion_key ORDER BY kid",
    )?;
    Ok(rows
        .into_iter()
        .map(|(kid, public, sealed)| AssertionRow { kid, public, sealed })
        .collect())
}

/// Puts another envelope in the place of an assertion key's.
pub(super) async fn set_assertion_sealed(tx: &mut Tx, kid: &str, sealed: &[u8]) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE assertion_key SET sealed = $1, version = version + 1 WHERE kid = $2",
        sealed,
        kid,
    )
    .map(|_| ())
}

/// Every envelope that there is.
pub(super) async fn envelopes(db: &Db) -> Result<Vec<Vec<u8>>, StoreError> {
    let rows = rows!(
        db,
        (Vec<u8>,),
        "SELECT sealed_key FROM vo_certificate UNION ALL SELECT sealed FROM static_credential \
         UNION ALL SELECT sealed FROM assertion_key",
    )?;
    Ok(rows.into_iter().map(|(envelope,)| envelope).collect())
}

/// The version that a tool's next static credential will have.
pub(super) async fn next_static_version(tx: &mut Tx, vo: VoId, tool: &str) -> Result<i64, StoreError> {
    let rows = tx_rows!(
        tx,
        (i64,),
        "SELECT COALESCE(MAX(version), 0) FROM static_credential WHERE vo_id = $1 AND tool = $2",
        vo.uuid(),
        tool,
    )?;
    Ok(rows.first().map_or(1, |(version,)| version + 1))
}

/// Puts a static credential in place of the one before.
pub(super) async fn insert_static(tx: &mut Tx, row: &StaticRow, at: Timestamp) -> Result<(), StoreError> {
    run!(
        &mut *tx,
        "UPDATE static_credential SET ended_at = $1 WHERE vo_id = $2 AND tool = $3 AND ended_at IS NULL",
        at.micros(),
        row.vo.uuid(),
        row.tool.as_str(),
    )?;
    run!(
        tx,
        "INSERT INTO static_credential (vo_id, tool, version, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
        row.vo.uuid(),
        row.tool.as_str(),
        row.version,
        row.sealed.as_slice(),
        at.micros(),
    )
    .map(|_| ())
}

/// An assertion key: public half and envelope.
#[derive(Clone, Debug)]
pub(super) struct AssertionRow {
    pub(super) kid: String,
    pub(super) public: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

/// The assertion keys that are alive, the newest first.
pub(super) async fn assertion_keys(db: &Db) -> Result<Vec<AssertionRow>, StoreError> {
    let rows = rows!(
        db,
        (String, Vec<u8>, Vec<u8>),
        "SELECT kid, public, sealed FROM assertion_key WHERE ended_at IS NULL ORDER BY created_at DESC, kid",
    )?;
    Ok(rows
        .into_iter()
        .map(|(kid, public, sealed)| AssertionRow { kid, public, sealed })
        .collect())
}

/// Adds an assertion key; the ones before stay published until they end.
pub(super) async fn insert_assertion_key(
    tx: &mut Tx,
    row: &AssertionRow,
    at: Timestamp,
) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO assertion_key (kid, vo_id, public, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
        row.kid.as_str(),
        Directory::gateway().uuid(),
        row.public.as_slice(),
        row.sealed.as_slice(),
        at.micros(),
    )
    .map(|_| ())
}
