//! An identity provider as system administrators register it: where it is, what is believed of it, and what becomes of its people.

use std::collections::{BTreeMap, BTreeSet};

use http::Uri;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::id::{IdpId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::Change;
use crate::tool::Assurance;
use crate::vo::{Directory, is_name};

/// Kind of thing in records.
pub(super) const KIND: &str = "identity_provider";
/// Longest display name, client id and claim name, in characters.
const LONGEST: usize = 200;
const LONGEST_ISSUER: usize = 500;
const LONGEST_CA: usize = 64 * 1024;
const MOST: usize = 20;

/// Why a provider cannot be registered so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {accepted}")]
pub struct IdpError {
    field: &'static str,
    accepted: &'static str,
}

impl AsProblem for IdpError {
    fn as_problem(&self) -> Problem {
        Problem::new(Kind::Invalid, self.to_string()).with("field", self.field)
    }
}

/// Who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// An administrator, each time.
    #[default]
    Manual,
    /// Nobody: what the provider says is enough.
    Automatic,
}

impl Approval {
    /// Accepted names, for messages.
    pub const NAMES: &str = "manual, automatic";

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Automatic => "automatic",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Manual, Self::Automatic]
            .into_iter()
            .find(|known| known.as_str() == name)
    }
}

/// From which claim each field is taken; none where it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// User name.
    pub username: String,
    /// Name, as people call her.
    pub name: String,
    /// E-mail address.
    pub mail: String,
    /// Affiliations; the first is her home organisation.
    pub affiliation: String,
    /// Groups.
    pub groups: String,
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            username: "preferred_username".to_owned(),
            name: "name".to_owned(),
            mail: "email".to_owned(),
            affiliation: "eduperson_scoped_affiliation".to_owned(),
            groups: "groups".to_owned(),
        }
    }
}

/// What an administrator says of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdpSettings {
    /// What people know it by.
    pub display_name: String,
    /// Its issuer identifier (RFC 8414 section 2), an `https` address.
    pub issuer: String,
    /// Who this gateway is there.
    pub client_id: String,
    /// Scopes that are asked for, beside `openid`.
    pub scopes: BTreeSet<String>,
    /// Accepted values of `acr`, with the level of assurance that each is worth here; empty where every sign-in will do, for one factor.
    pub acr: BTreeMap<String, Assurance>,
    /// From which claim each field is taken.
    pub mapping: Mapping,
    /// Who decides that somebody who comes for the first time gets an account.
    pub approval: Approval,
    /// Who decides that an account goes on when its time is over.
    pub renewal: Approval,
    /// For how many days an approval is good.
    pub valid_days: u32,
    /// PEM of the authorities that may sign for its addresses; the system's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl IdpSettings {
    /// Checks every field.
    ///
    /// # Errors
    /// [`IdpError`] with the field and what it accepts.
    pub fn check(&self) -> Result<(), IdpError> {
        let wrong = |field, accepted| Err(IdpError { field, accepted });
        if !is_line(&self.display_name) || self.display_name.is_empty() {
            return wrong("display_name", "must be 1 to 200 characters on one line");
        }
        if !is_issuer(&self.issuer) {
            return wrong("issuer", "must be an `https` address without query and fragment");
        }
        if self.client_id.is_empty() || !is_token(&self.client_id) {
            return wrong(
                "client_id",
                "must be 1 to 200 printable ASCII characters without spaces",
            );
        }
        let scopes = self.scopes.iter();
        if scopes.len() > MOST || !scopes.clone().all(|scope| !scope.is_empty() && is_token(scope)) {
            return wrong("scopes", "may be at most 20 words of printable ASCII");
        }
        let acr = self.acr.keys();
        if acr.len() > MOST || !acr.clone().all(|acr| !acr.is_empty() && is_token(acr)) {
            return wrong(
                "acr",
                "may be at most 20 values of printable ASCII without spaces",
            );
        }
        let mapping = &self.mapping;
        let claims = [
            &mapping.username,
            &mapping.name,
            &mapping.mail,
            &mapping.affiliation,
            &mapping.groups,
        ];
        if !claims.iter().all(|claim| is_token(claim)) {
            return wrong(
                "mapping",
                "must be names of claims: printable ASCII without spaces, or nothing",
            );
        }
        if !(1..=3_650).contains(&self.valid_days) {
            return wrong("valid_days", "must be from 1 to 3650");
        }
        match &self.ca {
            Some(pem) if pem.len() > LONGEST_CA || !is_pem(pem) => {
                wrong("ca", "must be certificates in PEM, at most 64 KiB")
            }
            _ => Ok(()),
        }
    }

    /// What `acr` of a token is worth; `None` when it is not accepted.
    pub(super) fn level(&self, acr: Option<&str>) -> Option<Assurance> {
        if self.acr.is_empty() {
            return Some(Assurance::Aal1);
        }
        acr.and_then(|acr| self.acr.get(acr)).copied()
    }
}

fn is_line(text: &str) -> bool {
    text.chars().count() <= LONGEST && text.trim() == text && !text.chars().any(char::is_control)
}

fn is_token(text: &str) -> bool {
    text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether `text` is an `https` address with a host, and without user, query and fragment.
pub(super) fn is_address(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    text.len() <= LONGEST_ISSUER
        && text.starts_with("https://")
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && !text.contains(['#', '@', '"', '\\', '<', '>'])
        && uri.host().is_some_and(|host| !host.is_empty())
}

fn is_issuer(text: &str) -> bool {
    is_address(text) && !text.contains('?')
}

fn is_pem(text: &str) -> bool {
    let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes()).peekable();
    certificates.peek().is_some() && certificates.all(|one| one.is_ok())
}

/// A provider that is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idp {
    /// Id.
    pub id: IdpId,
    /// Name, as addresses and commands have it.
    pub name: String,
    /// Home of the accounts of its people: a VO, or the gateway.
    pub home: VoId,
    /// Whether its people may sign in.
    pub active: bool,
    /// What was said of it.
    pub settings: IdpSettings,
    /// Since when.
    pub created: Timestamp,
    /// Version of the row.
    pub version: i64,
    /// The client's secret, sealed.
    pub(super) sealed: Vec<u8>,
}

impl Idp {
    /// As a record shows it. The secret is not there; the authorities are many words, of which their digest is enough.
    pub(super) fn state(&self) -> Value {
        let mut settings = serde_json::to_value(&self.settings).unwrap_or_default();
        if let (Some(members), Some(ca)) = (settings.as_object_mut(), &self.settings.ca) {
            let digest = crate::record::Hash::of(ca.as_bytes());
            members.insert("ca".to_owned(), json!({ "sha256": digest }));
        }
        json!({
            "name": self.name,
            "home": self.home,
            "state": if self.active { "active" } else { "suspended" },
            "settings": settings,
        })
    }

    /// A change of it.
    pub(super) fn change(&self, action: &str, before: Option<Value>, after: Option<Value>) -> Change {
        Change {
            action: action.to_owned(),
            kind: KIND.to_owned(),
            target: self.id.to_string(),
            vo: Directory::gateway(),
            person: None,
            before,
            after,
        }
    }
}

/// Whether `name` may name a provider.
///
/// # Errors
/// [`IdpError`].
pub(super) fn check_name(name: &str) -> Result<(), IdpError> {
    match is_name(name) {
        true => Ok(()),
        false => Err(IdpError {
            field: "name",
            accepted: "must be lower-case letters, digits and inner hyphens, 1 to 40, and none of the reserved words",
        }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::authenticate) fn settings() -> IdpSettings {
        IdpSettings {
            display_name: "University A".into(),
            issuer: "https://idp.example.org".into(),
            client_id: "gateway".into(),
            scopes: BTreeSet::new(),
            acr: BTreeMap::new(),
            mapping: Mapping::default(),
            approval: Approval::Automatic,
            renewal: Approval::Automatic,
            valid_days: 365,
            ca: None,
        }
    }

    #[test]
    fn an_issuer_is_an_https_address_and_nothing_more() {
        for good in ["https://idp.example.org", "https://idp.example.org:8443/realms/a"] {
            assert!(is_issuer(good), "{good}");
        }
        for bad in [
            "",
            "http://idp.example.org",
            "https://",
            "https://idp.example.org/?a=b",
            "https://idp.example.org/#a",
            "https://user@idp.example.org/",
            "https://idp.example.org/ä",
            "HTTPS://idp.example.org",
            "https://idp.example.org/a b",
        ] {
            assert!(!is_issuer(bad), "{bad}");
        }
    }

    #[test]
    fn an_acr_is_worth_what_the_administrator_says_and_one_factor_where_she_says_nothing() {
        let mut settings = settings();
        assert_eq!(settings.level(None), Some(Assurance::Aal1));
        assert_eq!(
            settings.level(Some("https://refeds.org/profile/mfa")),
            Some(Assurance::Aal1)
        );
        settings
            .acr
            .insert("https://refeds.org/profile/mfa".into(), Assurance::Aal2);
        assert_eq!(
            settings.level(Some("https://refeds.org/profile/mfa")),
            Some(Assurance::Aal2)
        );
        assert_eq!(settings.level(Some("https://refeds.org/profile/sfa")), None);
        assert_eq!(settings.level(None), None);
    }

    #[test]
    fn each_field_is_checked_and_named() {
        assert_eq!(settings().check(), Ok(()));
        let field = |change: &dyn Fn(&mut IdpSettings)| {
            let mut changed = settings();
            change(&mut changed);
            changed.check().unwrap_err().field
        };
        assert_eq!(field(&|s| s.display_name.clear()), "display_name");
        assert_eq!(field(&|s| s.issuer = "http://idp.example.org".into()), "issuer");
        assert_eq!(field(&|s| s.client_id = "a b".into()), "client_id");
        assert_eq!(
            field(&|s| {
                s.scopes.insert("a b".into());
            }),
            "scopes"
        );
        assert_eq!(
            field(&|s| {
                s.acr.insert(String::new(), Assurance::Aal1);
            }),
            "acr"
        );
        assert_eq!(field(&|s| s.mapping.name = "a b".into()), "mapping");
        assert_eq!(field(&|s| s.valid_days = 0), "valid_days");
        assert_eq!(field(&|s| s.ca = Some("no certificate".into())), "ca");
    }
}
