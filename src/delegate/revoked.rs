//! Proxies that are not to be trusted any more: revoked, one or all of a person or of a VO, with why.

use std::collections::HashSet;

use serde_json::json;

use super::Delegate;
use super::proxies::Proxies;
use super::store::{self, Mapped};
use crate::clock::Timestamp;
use crate::id::{PersonId, VoId};
use crate::record::{Change, Mint, SignedEntry};
use crate::store::{Db, StoreError, Tx, rows, run, tx_rows};
use crate::vo::Directory;

/// Noted with proxies that ended with a password.
pub const RESET: &str = "the password was reset";

/// Why a proxy is not to be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody no longer wants it used, or the right to it ended.
    Revoked,
    /// Its key, or what carries it, is in the wrong hands.
    Compromised,
    /// Its person's account, or its VO, was suspended.
    Suspended,
}

impl Why {
    /// The name in store, records and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Compromised => "compromised",
            Self::Suspended => "suspended",
        }
    }

    /// As a revocation list says it (RFC 5280 section 5.3.1); `None` is left out, as the RFC asks for `unspecified`.
    pub(super) fn reason_code(text: &str) -> Option<u8> {
        (text == Self::Compromised.as_str()).then_some(1)
    }
}

/// Which of a person's proxies.
#[derive(Clone, Debug)]
pub struct Which<'a> {
    /// Whose.
    pub person: PersonId,
    /// Only those of this VO.
    pub vo: Option<VoId>,
    /// Only those with these serials; else all that have not ended.
    pub serials: Option<&'a [u64]>,
}

impl Which<'static> {
    /// All that a person has, in every VO.
    #[must_use]
    pub const fn all_of(person: PersonId) -> Self {
        Self {
            person,
            vo: None,
            serials: None,
        }
    }
}

/// What a revocation did.
#[derive(Debug)]
pub struct Revoked {
    /// For the record, one for each VO.
    pub changes: Vec<Change>,
    /// The serials, also of those that had been revoked before.
    pub serials: Vec<u64>,
}

/// A proxy with why it was revoked, if it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The proxy.
    pub proxy: Mapped,
    /// `revoked`, `compromised` or `suspended`.
    pub why: Option<String>,
    /// What those who revoked it noted.
    pub note: Option<String>,
}

impl Delegate {
    /// The proxies of a person that have not ended by themselves, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn valid_proxies(&self, person: PersonId, vo: Option<VoId>) -> Result<Vec<Listed>, StoreError> {
        let now = self.ids.clock().now();
        let mapped = store::by_person(&self.db, person).await?;
        let whys = whys(&self.db, person, now).await?;
        let valid = mapped
            .into_iter()
            .filter(|proxy| now <= proxy.not_after && vo.is_none_or(|vo| vo == proxy.vo));
        Ok(valid
            .map(|proxy| {
                let found = whys.iter().find(|(serial, ..)| *serial == proxy.serial);
                let (why, note) = found
                    .map(|(_, why, note)| (why.clone(), note.clone()))
                    .unwrap_or_default();
                Listed { proxy, why, note }
            })
            .collect())
    }

    /// Revokes proxies that have not ended. After the commit, [`Delegate::forget_proxies`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke(
        &self,
        tx: &mut Tx,
        which: &Which<'_>,
        why: Why,
        note: Option<&str>,
    ) -> Result<Revoked, StoreError> {
        // INVARIANT: whoever mints holds these rows from before it looks until its proxy is in the map, so that a proxy either
        // stands there now, or its person is looked at after this. (A transaction that writes has an SQLite store alone.)
        run!(
            &mut *tx,
            "UPDATE vo SET version = version WHERE id IN (
                 SELECT vo_id FROM membership WHERE person = $1 UNION SELECT vo_id FROM person WHERE id = $1)",
            which.person.uuid()
        )?;
        self.revoke_found(tx, which, why, note).await
    }

    /// Revokes all proxies of a suspended VO that have not ended, whosever they are. After the commit,
    /// [`Delegate::forget_proxies`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_vo(&self, tx: &mut Tx, vo: VoId, note: Option<&str>) -> Result<Revoked, StoreError> {
        // See above.
        run!(
            &mut *tx,
            "UPDATE vo SET version = version WHERE id = $1",
            vo.uuid()
        )?;
        let people = tx_rows!(
            &mut *tx,
            (uuid::Uuid,),
            "SELECT DISTINCT person FROM proxy WHERE vo_id = $1 AND not_after >= $2 AND ended_at IS NULL ORDER BY person",
            vo.uuid(),
            self.ids.clock().now().micros()
        )?;
        let (mut changes, mut serials) = (Vec::new(), Vec::new());
        for (person,) in people {
            let which = Which {
                person: person.into(),
                vo: Some(vo),
                serials: None,
            };
            let revoked = self.revoke_found(tx, &which, Why::Suspended, note).await?;
            changes.extend(revoked.changes);
            serials.extend(revoked.serials);
        }
        Ok(Revoked { changes, serials })
    }

    async fn revoke_found(
        &self,
        tx: &mut Tx,
        which: &Which<'_>,
        why: Why,
        note: Option<&str>,
    ) -> Result<Revoked, StoreError> {
        let now = self.ids.clock().now();
        let found = tx_rows!(
            &mut *tx,
            (Vec<u8>, i64, uuid::Uuid, Option<i64>, Option<String>),
            "SELECT issuer, serial, vo_id, ended_at, why FROM proxy WHERE person = $1 AND not_after >= $2 ORDER BY not_before, serial",
            which.person.uuid(),
            now.micros()
        )?;
        let mut touched: Vec<(VoId, u64)> = Vec::new();
        for (issuer, serial, vo, ended, was) in found {
            let (vo, number) = (VoId::from(vo), u64::try_from(serial).unwrap_or_default());
            let asked = which.vo.is_none_or(|asked| asked == vo)
                && which.serials.is_none_or(|serials| serials.contains(&number));
            // What was revoked stays so; only that it is compromised is news worth adding, once.
            let is_news = ended.is_none()
                || (why == Why::Compromised && was.as_deref() != Some(Why::Compromised.as_str()));
            if !asked || !is_news {
                continue;
            }
            run!(
                &mut *tx,
                "UPDATE proxy SET ended_at = COALESCE(ended_at, $1), why = $2, note = $3, version = version + 1
                 WHERE issuer = $4 AND serial = $5",
                now.micros(),
                why.as_str(),
                note,
                issuer.as_slice(),
                serial
            )?;
            touched.push((vo, number));
        }
        Ok(revoked(which.person, touched, why, note))
    }

    /// After a revocation was committed: none of these is used for a request any more.
    pub fn forget_proxies(&self, serials: &[u64]) {
        let serials: HashSet<u64> = serials.iter().copied().collect();
        self.proxies.forget(&serials);
    }

    /// Enters a proxy that was signed into the map. Where its person, her membership, her session or its VO was being
    /// stopped meanwhile, it is revoked before anybody has it. Says whether it was.
    pub(super) async fn enter(
        &self,
        tx: &mut Tx,
        mint: &Mint,
        (signed, subject): (&SignedEntry, Option<&str>),
        serial: u64,
    ) -> Result<bool, StoreError> {
        // INVARIANT: held to the end of this transaction; see `revoke`.
        if matches!(tx, Tx::Postgres(_)) {
            run!(
                &mut *tx,
                "SELECT 1 FROM vo WHERE id = $1 FOR SHARE",
                mint.vo.uuid()
            )?;
        }
        store::insert_minted(tx, mint).await?;
        store::set_signed(tx, signed, subject).await?;
        if !is_stopped(tx, mint).await? {
            return Ok(false);
        }
        let serials = [serial];
        let which = Which {
            person: mint.person,
            vo: None,
            serials: Some(&serials),
        };
        let note = "the right to it ended while it was made";
        self.revoke_found(tx, &which, Why::Revoked, Some(note)).await?;
        Ok(true)
    }
}

impl Revoked {
    /// The same, with a change also where nothing was left to revoke: that somebody meant to is on record.
    #[must_use]
    pub fn or_nothing(mut self, which: &Which<'_>, why: Why, note: Option<&str>) -> Self {
        if self.changes.is_empty() {
            let vo = which.vo.unwrap_or_else(Directory::gateway);
            self.changes.push(change(which.person, vo, &[], why, note));
        }
        self
    }
}

fn revoked(person: PersonId, touched: Vec<(VoId, u64)>, why: Why, note: Option<&str>) -> Revoked {
    let mut vos: Vec<VoId> = touched.iter().map(|(vo, _)| *vo).collect();
    vos.sort_unstable();
    vos.dedup();
    let of = |vo: VoId| {
        let serials = touched.iter().filter(|(of, _)| *of == vo);
        let serials: Vec<String> = serials.map(|(_, serial)| serial.to_string()).collect();
        change(person, vo, &serials, why, note)
    };
    Revoked {
        changes: vos.into_iter().map(of).collect(),
        serials: touched.into_iter().map(|(_, serial)| serial).collect(),
    }
}

fn change(person: PersonId, vo: VoId, serials: &[String], why: Why, note: Option<&str>) -> Change {
    Change {
        action: "proxy.revoke".into(),
        kind: "proxy".into(),
        target: person.to_string(),
        vo,
        person: Some(person),
        before: Some(json!({ "state": "valid" })),
        after: Some(json!({ "state": why.as_str(), "serials": serials, "note": note })),
    }
}

/// Whether the account or the VO is not active, the membership has ended, or the session ended with a password.
async fn is_stopped(tx: &mut Tx, mint: &Mint) -> Result<bool, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT (SELECT COUNT(*) FROM person WHERE id = $1 AND state <> 'active')
              + (SELECT COUNT(*) FROM vo WHERE id = $2 AND state <> 'active')
              + (SELECT COUNT(*) FROM session WHERE id = $3 AND end_reason = 'reset')
              + (SELECT COUNT(*) FROM membership WHERE person = $1 AND vo_id = $2 AND ended_at IS NOT NULL)
              * (1 - (SELECT COUNT(*) FROM membership WHERE person = $1 AND vo_id = $2 AND ended_at IS NULL))",
        mint.person.uuid(),
        mint.vo.uuid(),
        mint.session.uuid()
    )?;
    Ok(found.iter().any(|(reasons,)| *reasons > 0))
}

type WhyRow = (u64, Option<String>, Option<String>);

async fn whys(db: &Db, person: PersonId, now: Timestamp) -> Result<Vec<WhyRow>, StoreError> {
    let found = rows!(
        db,
        (i64, Option<String>, Option<String>),
        "SELECT serial, why, note FROM proxy WHERE person = $1 AND not_after >= $2 AND ended_at IS NOT NULL",
        person.uuid(),
        now.micros()
    )?;
    let row = |(serial, why, note)| (u64::try_from(serial).unwrap_or_default(), why, note);
    Ok(found.into_iter().map(row).collect())
}

impl Proxies {
    /// Drops the proxies with these serials, those that are being minted included, and tells whoever uses one.
    pub(super) fn forget(&self, serials: &HashSet<u64>) {
        self.retain(|serial| !serials.contains(&serial));
        self.revoke(serials);
    }
}
