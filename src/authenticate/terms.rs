//! Terms of use: what somebody agrees to before a session of hers opens anything, of the gateway and of each VO.
//!
//! Each text has a version and is kept; an acceptance names the version and the text's digest. Which texts are in force, and
//! who accepted them, is known in memory: a request does not wait for the store. It is no part of the authorisation state, as
//! passwords are none: it only takes away what roles give.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use serde_json::json;
use uuid::Uuid;

use super::subject::Subject;
use super::{Authenticate, store};
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, Hash};
use crate::store::{Db, StoreError, Tx, rows, run, tx_rows};
use crate::tool::{Audience, Place};
use crate::vo::Directory;

/// Longest text, in bytes.
const LONGEST: usize = 64 * 1024;

/// A text that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whose: a VO's, or the gateway's.
    pub vo: VoId,
    /// Version, from 1.
    pub version: i64,
    /// The text.
    pub text: String,
    /// SHA-256 of the text.
    pub digest: Hash,
    /// Since when it is in force.
    pub since: Timestamp,
}

/// What is in force, and who accepted it.
#[derive(Debug, Default)]
pub(super) struct Table(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    versions: HashMap<VoId, i64>,
    accepted: HashSet<(PersonId, VoId, i64)>,
}

impl Table {
    /// Whether there is a text of `vo` that the person has not accepted.
    fn owes(&self, person: PersonId, vo: VoId) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let version = known.versions.get(&vo);
        version.is_some_and(|version| !known.accepted.contains(&(person, vo, *version)))
    }

    /// Makes memory say what the store says.
    pub(super) async fn refresh(&self, db: &Db) -> Result<(), StoreError> {
        let versions = rows!(
            db,
            (Uuid, i64),
            "SELECT vo_id, version FROM terms WHERE ended_at IS NULL"
        )?;
        let accepted = rows!(
            db,
            (Uuid, Uuid, i64),
            "SELECT a.person, a.vo_id, a.version FROM acceptance a
             JOIN terms t ON t.vo_id = a.vo_id AND t.version = a.version WHERE t.ended_at IS NULL"
        )?;
        let fresh = Known {
            versions: versions
                .into_iter()
                .map(|(vo, version)| (vo.into(), version))
                .collect(),
            accepted: accepted
                .into_iter()
                .map(|(person, vo, version)| (person.into(), vo.into(), version))
                .collect(),
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

impl Authenticate {
    /// The terms of a VO (or of the gateway) that are in force.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn terms(&self, vo: VoId) -> Result<Option<Terms>, StoreError> {
        let found = rows!(
            &self.0.db,
            (i64, String, Vec<u8>, i64),
            "SELECT version, text, digest, created_at FROM terms WHERE vo_id = $1 AND ended_at IS NULL",
            vo.uuid()
        )?;
        let read = |(version, text, digest, since): (i64, String, Vec<u8>, i64)| {
            let digest = digest.try_into().map(Hash);
            Ok(Terms {
                vo,
                version,
                text,
                digest: digest.map_err(|_| StoreError::Inconsistent("the digest of a text".into()))?,
                since: Timestamp(since),
            })
        };
        found.into_iter().next().map(read).transpose()
    }

    /// What a person has yet to accept: the gateway's terms first, then those of her VOs by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn owed(&self, person: PersonId) -> Result<Vec<Terms>, StoreError> {
        let mut owed = Vec::new();
        for vo in self.bound_by(person) {
            if self.0.terms.owes(person, vo) {
                owed.extend(self.terms(vo).await?);
            }
        }
        Ok(owed)
    }

    /// Whether a person has anything yet to accept.
    #[must_use]
    pub fn owes(&self, person: PersonId) -> bool {
        self.bound_by(person)
            .into_iter()
            .any(|vo| self.0.terms.owes(person, vo))
    }

    /// Whose terms bind a person.
    fn bound_by(&self, person: PersonId) -> Vec<VoId> {
        let directory = self.0.directory.load();
        let mut vos: Vec<_> = directory
            .vos_of(person)
            .filter_map(|vo| directory.vo(vo))
            .map(|vo| (vo.name.clone(), vo.id))
            .collect();
        vos.sort();
        std::iter::once(Directory::gateway())
            .chain(vos.into_iter().map(|(_, vo)| vo))
            .collect()
    }

    /// Puts a text in force, in the place of the one before; without a text, there is none any more. Everybody whom it binds
    /// accepts it before anything else. After the commit, [`Authenticate::refresh_terms`].
    ///
    /// # Errors
    /// A [`Problem`]: the text cannot be one, is the one that is in force, or the store failed.
    pub async fn set_terms(&self, tx: &mut Tx, vo: VoId, text: Option<&str>) -> Result<Change, Problem> {
        let failed = |error: StoreError| error.as_problem();
        if let Some(text) = text {
            check(text)?;
        }
        let known = tx_rows!(
            &mut *tx,
            (i64, Vec<u8>, Option<i64>),
            "SELECT version, digest, ended_at FROM terms WHERE vo_id = $1 ORDER BY version DESC LIMIT 1",
            vo.uuid()
        );
        let last = known.map_err(failed)?.pop();
        let present = last.as_ref().filter(|(_, _, ended)| ended.is_none());
        let digest = text.map(|text| Hash::of(text.as_bytes()));
        let before = present.map(|(_, digest, _)| digest.as_slice());
        if before == digest.as_ref().map(|digest| digest.0.as_slice()) {
            let detail = match digest {
                Some(_) => "this text is in force already",
                None => "there are no terms of use here",
            };
            return Err(Problem::new(Kind::Conflict, detail));
        }
        let said = |version: i64, digest: Option<&[u8]>| {
            let digest = digest.map(|digest| data_encoding::HEXLOWER.encode(digest));
            json!({ "version": version, "digest": digest })
        };
        let before = said(present.map_or(0, |(version, ..)| *version), before);
        let version = last.as_ref().map_or(0, |(version, ..)| *version) + 1;
        let written = write(tx, vo, text.zip(digest), version, self.now()).await;
        written.map_err(failed)?;
        let after = match digest {
            Some(digest) => said(version, Some(digest.0.as_slice())),
            None => said(0, None),
        };
        Ok(Change {
            action: "terms.set".into(),
            kind: "terms".into(),
            target: vo.to_string(),
            vo,
            person: None,
            before: Some(before),
            after: Some(after),
        })
    }

    /// Accepts what is shown as `(whose, version, digest)`. After the commit, [`Authenticate::refresh_terms`].
    ///
    /// # Errors
    /// A [`Problem`]: nothing is named, something else is in force meanwhile, the session has ended, or the store failed.
    pub async fn accept_terms(
        &self,
        tx: &mut Tx,
        subject: &Subject,
        shown: &[(VoId, i64, Hash)],
        request: RequestId,
    ) -> Result<Vec<Change>, Problem> {
        let failed = |error: StoreError| error.as_problem();
        let (Some(person), Some(session)) = (subject.as_person(), subject.session()) else {
            return Err(Problem::new(Kind::NoCredential, "nobody is signed in"));
        };
        if shown.is_empty() {
            return Err(Problem::new(Kind::Invalid, "name the terms that are accepted"));
        }
        // SECURITY: a session that ended meanwhile accepts nothing.
        if !store::is_alive(tx, session.id).await.map_err(failed)? {
            return Err(Problem::new(
                Kind::WrongCredential,
                "the session has ended meanwhile",
            ));
        }
        let bound = self.bound_by(person.id);
        let mut changes = Vec::new();
        for (vo, version, digest) in shown {
            let same = tx_rows!(
                &mut *tx,
                (i64,),
                "SELECT version FROM terms WHERE vo_id = $1 AND version = $2 AND digest = $3 AND ended_at IS NULL",
                vo.uuid(),
                *version,
                digest.0.to_vec()
            );
            // SECURITY: nobody accepts what she was not shown, and texts of VOs that are none of hers look like none.
            if !bound.contains(vo) || same.map_err(failed)?.is_empty() {
                let detail = "these are not the terms that are in force; read them again";
                return Err(Problem::new(Kind::Conflict, detail));
            }
            let accepted = run!(
                &mut *tx,
                "INSERT INTO acceptance (person, vo_id, version, digest, session, request, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (person, vo_id, version) DO NOTHING",
                person.id.uuid(),
                vo.uuid(),
                *version,
                digest.0.to_vec(),
                session.id.uuid(),
                request.uuid(),
                self.now().micros()
            );
            if accepted.map_err(failed)? == 1 {
                changes.push(Change {
                    action: "terms.accept".into(),
                    kind: "terms".into(),
                    target: vo.to_string(),
                    vo: *vo,
                    person: Some(person.id),
                    before: None,
                    after: Some(json!({ "version": version, "digest": digest, "session": session.id })),
                });
            }
        }
        Ok(changes)
    }

    /// Makes memory say what the store says of terms.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn refresh_terms(&self) -> Result<(), StoreError> {
        self.0.terms.refresh(&self.0.db).await
    }

    /// Why a session opens nothing yet: there are terms of use that its person has not accepted.
    ///
    /// SECURITY: the gateway's shut everything; a VO's shut that VO, since no administrator of one may shut what is another's.
    pub(super) fn owed_at(&self, subject: &Subject, place: &Place) -> Option<Problem> {
        let person = subject.as_person()?.id;
        let audience = place.found.as_ref().map(|found| found.task.audience);
        if matches!(audience, Some(Audience::Everyone | Audience::AnySession)) {
            return None;
        }
        let owed = |detail: String| Some(Problem::new(Kind::TermsNotAccepted, detail));
        if self.0.terms.owes(person, Directory::gateway()) {
            return owed("the terms of use of this gateway are not accepted yet".into());
        }
        let vo = place.vo.as_ref()?;
        let bound = self.0.terms.owes(person, vo.id) && self.0.directory.load().is_member(vo.id, person);
        if bound {
            return owed(format!("the terms of use of `{}` are not accepted yet", vo.name));
        }
        None
    }
}

fn check(text: &str) -> Result<(), Problem> {
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.trim().is_empty() || text.len() > LONGEST || text.contains(bad) {
        let detail = format!(
            "terms of use must be text of 1 to {LONGEST} bytes, with lines that end in LF and no other control characters"
        );
        return Err(Problem::new(Kind::Invalid, detail).with("field", "text"));
    }
    Ok(())
}

async fn write(
    tx: &mut Tx,
    vo: VoId,
    text: Option<(&str, Hash)>,
    version: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    run!(
        &mut *tx,
        "UPDATE terms SET ended_at = $2 WHERE vo_id = $1 AND ended_at IS NULL",
        vo.uuid(),
        now.micros()
    )?;
    if let Some((text, digest)) = text {
        run!(
            &mut *tx,
            "INSERT INTO terms (vo_id, version, text, digest, created_at) VALUES ($1, $2, $3, $4, $5)",
            vo.uuid(),
            version,
            text,
            digest.0.to_vec(),
            now.micros()
        )?;
    }
    Ok(())
}
