//! The keys that delegation uses, opened from the store: VO certificates, static credentials, assertion keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::authenticate::is_login;
use crate::id::VoId;
use crate::record::{Change, Hash};
use crate::secret::Secret;
use crate::store::{Db, StoreError, Tx};
use crate::tool::VoRef;
use crate::trust::certificate::{Checked, Facts, Use, VoCertificate};
use crate::trust::chain;
use crate::trust::client::Trust;
use crate::trust::seal::{Label, SealError, SealingKey};
use crate::trust::store as certificates;
use crate::trust::token::TokenError;
use crate::vo::Directory;

use super::assertion::{self, AssertionKey};
use super::limit::Limits;
use super::mint::Issuer;
use super::opening::{self, Opening};
use super::store::{self, AssertionRow, StaticRow};
use super::told::Identities;
use super::{Delegate, DelegateError};

/// A snapshot of all keys; swapped whole.
#[derive(Default)]
pub(super) struct Keys {
    facts: BTreeMap<(VoId, Use), Facts>,
    issuers: HashMap<(VoId, Use), Arc<Issuer>>,
    /// Those whose key is on a token that is not theirs any more.
    away: HashMap<(VoId, Use), TokenError>,
    statics: HashMap<(VoId, String), StaticRow>,
    assertion: Option<AssertionKey>,
    public: Vec<Value>,
    pub(super) limits: Limits,
    pub(super) identities: Identities,
    sealed: bool,
}

impl Keys {
    pub(super) async fn load(db: &Db, opening: Opening<'_>) -> Result<Self, StoreError> {
        let sealing = opening.sealing;
        let mut keys = Self {
            sealed: sealing.is_none(),
            limits: Limits::load(db).await?,
            identities: Identities::load(db).await?,
            ..Self::default()
        };
        let alive = certificates::alive(db).await?;
        for certificate in &alive {
            match clash(certificate, &alive, None) {
                // SECURITY: the import refuses such a pair; a row that came here past it mints nothing.
                Some(other) if certificate.purpose == Use::Download => {
                    tracing::error!(
                        "nothing is minted for downloads in VO {}: {}",
                        certificate.vo,
                        named_alike(other)
                    );
                    let named = (certificate.vo, certificate.purpose);
                    keys.facts.insert(named, certificate.facts.clone());
                }
                _ => keys.add_issuer(certificate, &opening),
            }
        }
        for row in store::statics(db).await? {
            keys.statics.insert((row.vo, row.tool.clone()), row);
        }
        for row in store::assertion_keys(db).await? {
            keys.add_assertion(&row, sealing);
        }
        Ok(keys)
    }

    fn add_issuer(&mut self, certificate: &VoCertificate, opening: &Opening<'_>) {
        let named = (certificate.vo, certificate.purpose);
        match opening.signer(certificate) {
            Ok(signer) => {
                let issuer = Issuer::new(certificate.facts.clone(), certificate.chain.clone(), signer);
                self.issuers.insert(named, Arc::new(issuer));
            }
            Err(DelegateError::Seal(SealError::Sealed)) => {}
            Err(DelegateError::Token(error)) => {
                tracing::error!(vo.id = %certificate.vo, "nothing is minted in VO {}: {error}", certificate.vo);
                self.away.insert(named, error);
            }
            // One VO's broken key stops that VO alone.
            Err(error) => {
                tracing::error!(vo.id = %certificate.vo, "the key of VO {} does not open: {error}", certificate.vo)
            }
        }
        self.facts.insert(named, certificate.facts.clone());
    }

    fn add_assertion(&mut self, row: &AssertionRow, sealing: Option<&SealingKey>) {
        self.public.extend(assertion::jwk(&row.kid, &row.public));
        let Some(sealing) = sealing.filter(|_| self.assertion.is_none()) else {
            return;
        };
        match sealing.open(&assertion::label(&row.kid), &row.sealed) {
            Ok(private) => self.assertion = Some(AssertionKey::new(&row.kid, &private)),
            Err(error) => tracing::error!("the assertion key {} does not open: {error}", row.kid),
        }
    }

    /// Whether something is sealed here of which nothing opens.
    pub(super) fn are_closed(&self) -> bool {
        let opening = self.facts.len() + self.public.len();
        let opened = self.issuers.len() + self.away.len() + usize::from(self.assertion.is_some());
        match self.sealed {
            true => opening + self.statics.len() > 0,
            false => opening > 0 && opened == 0,
        }
    }

    pub(super) fn jwks(&self) -> Value {
        json!({ "keys": self.public })
    }

    /// The certificate and key from which the VO's proxies for `purpose` are minted.
    pub(super) fn issuer(&self, vo: &VoRef, purpose: Use) -> Result<Arc<Issuer>, DelegateError> {
        if let Some(issuer) = self.issuers.get(&(vo.id, purpose)) {
            return Ok(issuer.clone());
        }
        if let Some(error) = self.away.get(&(vo.id, purpose)) {
            return Err(error.clone().into());
        }
        match self.facts.contains_key(&(vo.id, purpose)) {
            true if self.sealed => Err(SealError::Sealed.into()),
            true => Err(SealError::Broken.into()),
            false => Err(DelegateError::NoCertificate {
                vo: vo.name.clone(),
                purpose,
            }),
        }
    }

    pub(super) fn assertion(&self) -> Result<&AssertionKey, DelegateError> {
        match &self.assertion {
            Some(key) => Ok(key),
            None if self.sealed => Err(SealError::Sealed.into()),
            None => Err(DelegateError::NoAssertion),
        }
    }

    pub(super) fn static_value(
        &self,
        sealing: Option<&SealingKey>,
        vo: VoId,
        tool: &str,
    ) -> Result<Secret<String>, DelegateError> {
        let row = self.statics.get(&(vo, tool.to_owned()));
        let row = row.ok_or_else(|| DelegateError::NoStatic {
            tool: tool.to_owned(),
        })?;
        let sealing = sealing.ok_or(SealError::Sealed)?;
        let bytes = sealing.open(&static_label(row.vo, &row.tool, row.version), &row.sealed)?;
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| SealError::Broken)?;
        Ok(Secret::new(text.to_owned()))
    }
}

/// The first of these certificates that has another use and a name that a peer could take for this one.
///
/// SECURITY: whoever downloads a proxy must not pass for a tool's caller at any peer. Within a VO the name alone decides, since its
/// administrators choose both. The name of another VO's counts only where that VO showed what it cannot have made up: the same key,
/// or a chain to a CA of `trust`. Anybody can make a certificate of any name, which no peer would take, and with it keep another VO
/// from ever importing its own. Without `trust` that chain cannot be told; the import then warns of the name.
fn clash<'c>(
    own: &VoCertificate,
    all: &'c [VoCertificate],
    trust: Option<&Trust>,
) -> Option<&'c VoCertificate> {
    let key = own.spki();
    alike(own, all).find(|other| {
        other.vo == own.vo
            || (!key.is_empty() && other.spki() == key)
            || trust.is_some_and(|trust| other.is_proven(trust, &own.chain))
    })
}

/// The certificates for another use whose name a peer could take for this one.
fn alike<'c>(own: &VoCertificate, all: &'c [VoCertificate]) -> impl Iterator<Item = &'c VoCertificate> {
    all.iter()
        .filter(|other| other.purpose != own.purpose && other.facts.is_named_like(&own.facts))
}

/// What is said of a name that another VO has, too, of which nothing is proven.
fn also_there(own: &VoCertificate) -> String {
    format!(
        "another virtual organisation has a certificate of the name `{}` for another use; make sure that no CA gave it both",
        own.facts.subject_text,
    )
}

/// What is wrong with a certificate that is named as a CA is.
fn named_as_authority(facts: &Facts) -> String {
    format!(
        "`{}` is the name of a CA by which people sign in here; accepted: a certificate that a CA issued to the virtual organisation",
        facts.subject_text,
    )
}

/// What is wrong with a certificate that has the name of this one.
fn named_alike(other: &VoCertificate) -> String {
    format!(
        "`{}` is the subject of a certificate for `{}` already; accepted: another subject, since whoever downloads a \
         proxy could act in the name of everybody's jobs",
        other.facts.subject_text,
        other.purpose.as_str(),
    )
}

/// What is wrong with a certificate by which somebody signs in.
fn signs_in(facts: &Facts) -> String {
    format!(
        "somebody signs in with `{}`, its key, or a certificate below it, and every proxy would be that person; accepted: \
         another certificate, or this one after that link has ended (`countersign user certificate remove`)",
        facts.subject_text,
    )
}

// SECURITY: an envelope moved to another tool, or an older one put back, does not open.
pub(super) fn static_label(vo: VoId, tool: &str, version: i64) -> Label {
    Label::new("static credential")
        .with(vo.uuid().as_bytes())
        .with(tool.as_bytes())
        .with(&version.to_be_bytes())
}

/// A credential that only the gateway knows, for a tool with one shared account.
#[derive(Clone, Debug)]
pub enum StaticCredential {
    /// HTTP Basic (RFC 7617).
    Basic {
        /// User name, without a colon.
        user: String,
        /// Password.
        password: Secret<String>,
    },
    /// A bearer token (RFC 6750).
    Bearer(Secret<String>),
    /// The header's whole value, e.g. an API key.
    Key(Secret<String>),
}

impl StaticCredential {
    fn header_value(&self) -> Result<Secret<String>, DelegateError> {
        let value = match self {
            Self::Basic { user, .. } if user.contains(':') => return Err(DelegateError::Value),
            Self::Basic { user, password } => {
                let pair = Secret::new(format!("{user}:{}", password.expose()));
                format!("Basic {}", BASE64.encode(pair.expose().as_bytes()))
            }
            Self::Bearer(token) => format!("Bearer {}", token.expose()),
            Self::Key(value) => value.expose().clone(),
        };
        let value = Secret::new(value);
        let printable = value.expose().bytes().all(|byte| (0x20..0x7f).contains(&byte));
        let trimmed = !value.expose().is_empty() && value.expose().trim() == value.expose();
        if printable && trimmed {
            Ok(value)
        } else {
            Err(DelegateError::Value)
        }
    }
}

/// What an import of a VO certificate did.
#[derive(Debug)]
pub struct Imported {
    /// For the record.
    pub change: Change,
    /// What works, but not with every peer.
    pub warnings: Vec<String>,
}

impl Delegate {
    /// What the VO's certificate for this use says, if it has one.
    #[must_use]
    pub fn certificate(&self, vo: VoId, purpose: Use) -> Option<Facts> {
        self.keys.load().facts.get(&(vo, purpose)).cloned()
    }

    /// What all certificates in use say, by VO and use.
    #[must_use]
    pub fn certificates(&self) -> Vec<(VoId, Use, Facts)> {
        let keys = self.keys.load();
        let facts = keys.facts.iter();
        facts
            .map(|((vo, purpose), facts)| (*vo, *purpose, facts.clone()))
            .collect()
    }

    /// Makes a checked certificate the VO's for this use, its key sealed; those before end. `file` is what errors call it.
    ///
    /// # Errors
    /// [`DelegateError::NamedAlike`] when a certificate for another
    /// use has, or had, the same subject, or somebody signs in with this one, or it is named as a CA of `trust`;
    /// [`DelegateError::Seal`] while the gateway is sealed.
    pub async fn import_checked(
        &self,
        tx: &mut Tx,
        (vo, purpose): (VoId, Use),
        file: &str,
        checked: Checked,
        trust: Option<&Trust>,
    ) -> Result<Imported, DelegateError> {
        let sealing = self.sealing.as_ref().ok_or(SealError::Sealed)?;
        let token = checked.token();
        let mut sealed = checked.seal(self.ids.next()?, (vo, purpose), sealing, &**self.ids.random())?;
        let refused = |why: String| DelegateError::NamedAlike {
            file: file.to_owned(),
            why,
        };
        // Also those that ended: what was minted below them may live still.
        let all = certificates::all(tx).await?;
        if let Some(other) = clash(&sealed, &all, trust) {
            return Err(refused(named_alike(other)));
        }
        // SECURITY: nothing that is looked up by the name of who issued it may lead to this.
        let facts = &sealed.facts;
        if trust.is_some_and(|trust| trust.has_name(&facts.subject, &facts.subject_text)) {
            return Err(refused(named_as_authority(facts)));
        }
        // SECURITY: every proxy that is minted from now on would let whoever holds it in as that person.
        let keys = sealed.chain.iter().filter_map(|der| chain::public_key(der));
        let keys: Vec<Hash> = keys.map(|spki| Hash::of(&spki)).collect();
        if is_login(tx, &sealed.facts.subject, &keys).await? {
            return Err(refused(signs_in(&sealed.facts)));
        }
        if alike(&sealed, &all).next().is_some() {
            sealed.facts.warnings.push(also_there(&sealed));
        }
        certificates::insert(tx, &sealed, self.ids.clock().now()).await?;
        let described = |facts: &Facts| described(purpose, facts);
        let mut change = Change {
            action: "vo_certificate.import".to_owned(),
            kind: "vo_certificate".to_owned(),
            target: sealed.facts.sha256.to_string(),
            vo,
            person: None,
            before: self.certificate(vo, purpose).as_ref().map(described),
            after: Some(described(&sealed.facts)),
        };
        opening::noted(&mut change, token);
        Ok(Imported {
            change,
            warnings: sealed.facts.warnings,
        })
    }

    /// Seals a static credential for a tool; the one before ends. After the commit, [`Delegate::load`] takes it into use.
    ///
    /// # Errors
    /// [`DelegateError::Value`] when it cannot stand in a header; [`DelegateError::Seal`] while the gateway is sealed.
    pub async fn set_static(
        &self,
        tx: &mut Tx,
        vo: VoId,
        tool: &str,
        credential: &StaticCredential,
    ) -> Result<Change, DelegateError> {
        let sealing = self.sealing.as_ref().ok_or(SealError::Sealed)?;
        let value = credential.header_value()?;
        let version = store::next_static_version(tx, vo, tool).await?;
        let label = static_label(vo, tool, version);
        let sealed = sealing.seal(&**self.ids.random(), &label, value.expose().as_bytes())?;
        let row = StaticRow {
            vo,
            tool: tool.to_owned(),
            version,
            sealed,
        };
        store::insert_static(tx, &row, self.ids.clock().now()).await?;
        Ok(Change {
            action: "tool.set_credential".to_owned(),
            kind: "static_credential".to_owned(),
            target: tool.to_owned(),
            vo,
            person: None,
            before: (version > 1).then(|| json!({ "version": version - 1 })),
            after: Some(json!({ "version": version })),
        })
    }

    /// Whether assertions can be signed.
    #[must_use]
    pub fn has_assertion_key(&self) -> bool {
        self.keys.load().assertion.is_some()
    }

    /// Makes a key for assertions; those before stay published. After the commit, [`Delegate::load`] takes it into use.
    ///
    /// # Errors
    /// [`DelegateError::Seal`] while the gateway is sealed.
    pub async fn new_assertion_key(&self, tx: &mut Tx) -> Result<Change, DelegateError> {
        let sealing = self.sealing.as_ref().ok_or(SealError::Sealed)?;
        let fresh = assertion::generate().ok_or(DelegateError::NoAssertion)?;
        let sealed = sealing.seal(
            &**self.ids.random(),
            &assertion::label(&fresh.kid),
            fresh.private.expose(),
        )?;
        let row = AssertionRow {
            kid: fresh.kid,
            public: fresh.public,
            sealed,
        };
        store::insert_assertion_key(tx, &row, self.ids.clock().now()).await?;
        Ok(Change {
            action: "assertion_key.create".to_owned(),
            kind: "assertion_key".to_owned(),
            target: row.kid,
            vo: Directory::gateway(),
            person: None,
            before: None,
            after: Some(json!({})),
        })
    }
}

fn described(purpose: Use, facts: &Facts) -> Value {
    json!({
        "use": purpose.as_str(),
        "sha256": facts.sha256,
        "subject": facts.subject_text,
        "not_before": facts.not_before.to_string(),
        "not_after": facts.not_after.to_string(),
        "key": facts.algorithm.to_string(),
    })
}
