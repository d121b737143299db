//! Whom a proxy names to whoever reads it: nobody, unless its VO chose that it names its person.
//!
//! What is told stands in the standard extension for it, `subjectDirectoryAttributes` (RFC 5280 section 4.2.1.8), which is
//! never critical: software that does not look for it takes the proxy as it takes any other. The subject stays as it is.

use std::collections::HashMap;

use der::asn1::{AnyRef, ObjectIdentifier, Utf8StringRef};
use der::{Encode, Sequence, Tag};
use serde_json::json;
use uuid::Uuid;

use crate::id::{PersonId, VoId};
use crate::record::Change;
use crate::store::{Db, StoreError, Tx, rows, run};

use super::Delegate;

/// The extension (RFC 5280 section 4.2.1.8).
pub(super) const SUBJECT_DIRECTORY_ATTRIBUTES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.9");
/// `uid`, a user name (RFC 4519 section 2.39).
const UID: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1");
/// `uniqueIdentifier`, what an object is told apart by (RFC 4524 section 2.24).
const UNIQUE_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.44");

/// What the proxies of a VO say of their person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyIdentity {
    /// Nothing: only a trace leads from a proxy to its person.
    #[default]
    Opaque,
    /// Her id, the same in all that she does.
    Id,
    /// Her id and her user name.
    Username,
}

impl ProxyIdentity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Opaque, Self::Id, Self::Username];

    /// The name in records and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Id => "id",
            Self::Username => "username",
        }
    }

    /// Reads what [`ProxyIdentity::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// What every VO chose that is not `opaque`.
#[derive(Debug, Default)]
pub(super) struct Identities(HashMap<VoId, ProxyIdentity>);

impl Identities {
    pub(super) async fn load(db: &Db) -> Result<Self, StoreError> {
        let rows = rows!(db, (Uuid, String), "SELECT vo_id, tells FROM proxy_identity")?;
        // SECURITY: a word that nobody wrote here tells nothing.
        let known = |(vo, tells): (Uuid, String)| Some((VoId::from(vo), ProxyIdentity::parse(&tells)?));
        Ok(Self(rows.into_iter().filter_map(known).collect()))
    }
}

/// What one proxy tells of its person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    person: PersonId,
    username: Option<String>,
}

impl Told {
    #[cfg(test)]
    pub(super) fn of(person: PersonId, username: Option<&str>) -> Self {
        Self {
            person,
            username: username.map(str::to_owned),
        }
    }

    /// The value of the extension (DER).
    pub(super) fn to_der(&self) -> der::Result<Vec<u8>> {
        let id = self.person.to_string();
        let mut attributes = vec![attribute(UNIQUE_IDENTIFIER, &id)?];
        if let Some(username) = &self.username {
            attributes.push(attribute(UID, username)?);
        }
        AnyRef::new(Tag::Sequence, &attributes.concat())?.to_der()
    }
}

/// RFC 5280 appendix A.1: a kind, and the set of its values.
#[derive(Sequence)]
struct Attribute<'a> {
    kind: ObjectIdentifier,
    values: AnyRef<'a>,
}

fn attribute(kind: ObjectIdentifier, text: &str) -> der::Result<Vec<u8>> {
    let value = Utf8StringRef::new(text)?.to_der()?;
    Attribute {
        kind,
        values: AnyRef::new(Tag::Set, &value)?,
    }
    .to_der()
}

impl Delegate {
    /// What the proxies of a VO say of their person.
    #[must_use]
    pub fn proxy_identity(&self, vo: VoId) -> ProxyIdentity {
        self.keys
            .load()
            .identities
            .0
            .get(&vo)
            .copied()
            .unwrap_or_default()
    }

    /// What a proxy of this person tells of her.
    pub(super) fn told(&self, vo: VoId, person: PersonId) -> Option<Told> {
        let username = match self.proxy_identity(vo) {
            ProxyIdentity::Opaque => return None,
            ProxyIdentity::Id => None,
            ProxyIdentity::Username => {
                let directory = self.directory.load();
                directory.person(person).map(|known| known.username.clone())
            }
        };
        Some(Told { person, username })
    }

    /// Chooses what the proxies of a VO say of their person. After the commit, [`Delegate::load`] takes it into use; what was
    /// minted before stays as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_proxy_identity(
        &self,
        tx: &mut Tx,
        vo: VoId,
        tells: ProxyIdentity,
    ) -> Result<Change, StoreError> {
        let before = self.proxy_identity(vo);
        run!(
            tx,
            "INSERT INTO proxy_identity (vo_id, version, tells) VALUES ($1, 1, $2) \
             ON CONFLICT (vo_id) DO UPDATE SET tells = $2, version = proxy_identity.version + 1",
            vo.uuid(),
            tells.as_str(),
        )?;
        let shown = |tells: ProxyIdentity| json!({ "tells": tells.as_str() });
        Ok(Change {
            action: "proxy_identity.set".to_owned(),
            kind: "proxy_identity".to_owned(),
            target: vo.to_string(),
            vo,
            person: None,
            before: Some(shown(before)),
            after: Some(shown(tells)),
        })
    }
}
