//! Who somebody is at a provider: issuer and subject, and nothing else. Never her name, never her e-mail address.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::provider::{Idp, Mapping};
use super::token::Claims;
use crate::clock::Timestamp;
use crate::id::{IdentityId, IdpId, PersonId, VoId};
use crate::record::{Change, Hash, IdentityEntry};
use crate::vo::{CardFields, is_username};

/// Kind of thing in records.
const KIND: &str = "federated_identity";
/// Most groups or affiliations that are kept, and the longest of each.
const MOST: usize = 100;
const LONGEST: usize = 200;
/// Longest user name that is made of a claim, so that something can stand behind it.
const LONGEST_STEM: usize = 32;

/// What became of somebody's wish for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An administrator has yet to say.
    Pending,
    /// She has an account.
    Active,
    /// An administrator said no.
    Rejected,
}

impl Standing {
    /// The name in the store and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Rejected => "rejected",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Active, Self::Rejected]
            .into_iter()
            .find(|known| known.as_str() == word)
    }
}

/// What a provider says of somebody, as its mapping reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// What may become her user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Affiliations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affiliation: Vec<String>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Attributes {
    pub(super) fn of(claims: &Claims, mapping: &Mapping) -> Self {
        let one = |claim: &str| {
            let text = claims.all.get(claim).and_then(Value::as_str)?;
            Some(text.trim().to_owned()).filter(|text| is_line(text))
        };
        let several = |claim: &str| -> Vec<String> {
            let all = match claims.all.get(claim) {
                Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
                Some(Value::String(one)) => vec![one.as_str()],
                _ => Vec::new(),
            };
            let fit = all.into_iter().filter(|text| is_line(text));
            fit.take(MOST).map(str::to_owned).collect()
        };
        Self {
            username: one(&mapping.username).and_then(|said| stem(&said)),
            name: one(&mapping.name),
            mail: one(&mapping.mail),
            affiliation: several(&mapping.affiliation),
            groups: several(&mapping.groups),
        }
    }

    /// The card of a new account. What does not fit there is left out: a provider's whim must keep nobody out.
    #[must_use]
    pub fn card(&self, username: &str) -> CardFields {
        let organisation = self.affiliation.first().map(|scoped| {
            // `faculty@uni.example`: the organisation is the scope.
            scoped
                .rsplit_once('@')
                .map_or(scoped.as_str(), |(_, scope)| scope)
        });
        let mut card = CardFields {
            name: self.name.clone().unwrap_or_else(|| username.to_owned()),
            mail: self.mail.clone(),
            organisation: organisation.filter(|text| is_line(text)).map(str::to_owned),
        };
        if card.check().is_err() {
            card.mail = None;
        }
        if card.check().is_err() {
            username.clone_into(&mut card.name);
        }
        card
    }
}

fn is_line(text: &str) -> bool {
    !text.is_empty()
        && text.chars().count() <= LONGEST
        && text.trim() == text
        && !text.chars().any(char::is_control)
}

/// A user name out of what a provider says: what stands before an `@`, in small letters; `None` when nothing is left.
fn stem(said: &str) -> Option<String> {
    let local = said.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let kept = local
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
    let stem: String = kept
        .skip_while(|c| !c.is_ascii_lowercase())
        .take(LONGEST_STEM)
        .collect();
    is_username(&stem).then_some(stem)
}

/// An identity that the gateway knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id.
    pub id: IdentityId,
    /// The provider.
    pub provider: IdpId,
    /// Home of the account, now or once there is one.
    pub home: VoId,
    /// Issuer.
    pub issuer: String,
    /// Subject there.
    pub subject: String,
    /// Whose it is.
    pub person: Option<PersonId>,
    /// What became of it.
    pub standing: Standing,
    /// What the provider said last.
    pub attributes: Attributes,
    /// Until when the approval is good.
    pub valid_until: Option<Timestamp>,
    /// Since when.
    pub created: Timestamp,
    /// When it last came.
    pub seen: Timestamp,
    pub(super) salt: [u8; 16],
}

/// Issuer and subject as records hold them: salted, so that nobody guesses a subject, and whoever is shown both can check.
pub(super) fn hash(issuer: &str, subject: &str, salt: &[u8]) -> Hash {
    // Strings always serialise.
    let text = serde_json::to_string(&[issuer, subject]).unwrap_or_default();
    Hash::of(&[text.as_bytes(), salt].concat())
}

impl Identity {
    /// Issuer and subject as records hold them.
    #[must_use]
    pub fn name(&self) -> Hash {
        hash(&self.issuer, &self.subject, &self.salt)
    }

    /// As a session carries it into every record.
    #[must_use]
    pub fn entry(&self) -> IdentityEntry {
        IdentityEntry {
            provider: self.provider,
            issuer: self.issuer.clone(),
            subject: self.name(),
        }
    }

    /// The same with an account, whose approval is good until then.
    #[must_use]
    pub fn admitted(self, person: PersonId, until: Timestamp) -> Self {
        Self {
            person: Some(person),
            standing: Standing::Active,
            valid_until: Some(until),
            ..self
        }
    }

    /// The same with an approval that is good until then.
    #[must_use]
    pub fn renewed(self, until: Timestamp) -> Self {
        Self {
            valid_until: Some(until),
            ..self
        }
    }

    /// The same, to whom an administrator said no.
    #[must_use]
    pub fn rejected(self) -> Self {
        Self {
            standing: Standing::Rejected,
            ..self
        }
    }

    /// The same, of whom the provider says something else now.
    #[must_use]
    pub fn described(self, attributes: Attributes) -> Self {
        Self { attributes, ..self }
    }

    /// Whether the approval is over at `now`.
    #[must_use]
    pub fn has_lapsed(&self, now: Timestamp) -> bool {
        self.valid_until.is_some_and(|until| now >= until)
    }

    /// A user name for a new account of hers: what the provider says, where that is free, else with something behind it that is
    /// always the same for her. Never that of an account that is there: a name proves nothing.
    #[must_use]
    pub fn username(&self, is_free: impl Fn(&str) -> bool) -> String {
        let name = hash(&self.issuer, &self.subject, &[]);
        let tail: String = name.to_string().chars().take(7).collect();
        match &self.attributes.username {
            Some(stem) if is_free(stem) => stem.clone(),
            Some(stem) => format!("{stem}-{tail}"),
            None => format!("user-{tail}"),
        }
    }

    pub(super) fn state(&self) -> Value {
        let attributes = serde_json::to_vec(&self.attributes).unwrap_or_default();
        json!({
            "identity": self.entry(),
            "state": self.standing.as_str(),
            "valid_until": self.valid_until.map(|at| at.to_string()),
            // SECURITY: personal details stand in the store only.
            "attributes": Hash::of(&[attributes.as_slice(), self.salt.as_slice()].concat()),
        })
    }

    pub(super) fn change(&self, action: &str, before: Option<Value>, after: Option<Value>) -> Change {
        Change {
            action: action.to_owned(),
            kind: KIND.to_owned(),
            target: self.id.to_string(),
            vo: self.home,
            person: self.person,
            before,
            after,
        }
    }
}

/// Of an identity, what a session needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedInBy {
    /// Its id.
    pub id: IdentityId,
    /// As records hold it.
    pub entry: IdentityEntry,
}

impl From<&Identity> for SignedInBy {
    fn from(identity: &Identity) -> Self {
        Self {
            id: identity.id,
            entry: identity.entry(),
        }
    }
}

/// The idp by which somebody is known, beside what she may be known as.
pub(super) fn fresh(
    idp: &Idp,
    (id, salt): (IdentityId, [u8; 16]),
    claims: &Claims,
    now: Timestamp,
) -> Identity {
    Identity {
        id,
        provider: idp.id,
        home: idp.home,
        issuer: idp.settings.issuer.clone(),
        subject: claims.subject.clone(),
        person: None,
        standing: Standing::Pending,
        attributes: Attributes::of(claims, &idp.settings.mapping),
        valid_until: None,
        created: now,
        seen: now,
        salt,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn claims(all: Value) -> Claims {
        Claims {
            subject: "alice-0001".into(),
            acr: None,
            amr: Vec::new(),
            all: all.as_object().cloned().unwrap(),
        }
    }

    #[test]
    fn fields_come_from_the_claims_that_the_mapping_names() {
        let said = claims(json!({
            "uid": "Alice@uni-a.example", "cn": "Alice Example", "mail": "alice@uni-a.example",
            "groups": ["/a", 7, ""], "affiliation": "faculty@uni-a.example", "name": "not this one",
        }));
        let mapping = Mapping {
            username: "uid".into(),
            name: "cn".into(),
            mail: "mail".into(),
            affiliation: "affiliation".into(),
            groups: "groups".into(),
        };
        let attributes = Attributes::of(&said, &mapping);
        assert_eq!(attributes.username.as_deref(), Some("alice"));
        assert_eq!(attributes.groups, ["/a"]);
        let card = attributes.card("alice");
        assert_eq!(
            (card.name.as_str(), card.mail.as_deref()),
            ("Alice Example", Some("alice@uni-a.example"))
        );
        assert_eq!(card.organisation.as_deref(), Some("uni-a.example"));
        assert_eq!(
            Attributes::of(&said, &Mapping::default()).name.as_deref(),
            Some("not this one")
        );
    }

    #[test]
    fn a_name_that_is_taken_is_never_taken_over() {
        let idp = Idp {
            id: uuid::Uuid::nil().into(),
            name: "uni-a".into(),
            home: uuid::Uuid::nil().into(),
            active: true,
            settings: super::super::provider::tests::settings(),
            created: Timestamp::from_secs(0),
            version: 1,
            sealed: Vec::new(),
        };
        let said = claims(json!({ "preferred_username": "admin" }));
        let id = (uuid::Uuid::nil().into(), [7; 16]);
        let identity = fresh(&idp, id, &said, Timestamp::from_secs(0));
        assert_eq!(identity.username(|_| true), "admin");
        let other = identity.username(|name| name != "admin");
        assert!(other.starts_with("admin-") && is_username(&other), "{other}");
        assert_eq!(other, identity.username(|name| name != "admin"));
        let bare = fresh(&idp, id, &claims(json!({})), Timestamp::from_secs(0));
        assert!(is_username(&bare.username(|_| true)));
        assert_ne!(hash("a", "bc", &[]), hash("ab", "c", &[]));
    }

    #[test]
    fn a_scope_that_is_no_name_is_no_organisation() {
        let scoped = |scope: &str| {
            let all = json!({ "eduperson_scoped_affiliation": [scope] });
            Attributes::of(&claims(all), &Mapping::default())
                .card("alice")
                .organisation
        };
        assert_eq!(scoped("faculty@uni.example"), Some("uni.example".to_owned()));
        assert_eq!(scoped("@ uni"), None);
        assert_eq!(scoped("faculty@"), None);
    }

    proptest! {
        #[test]
        fn whatever_a_provider_says_of_a_name_a_card_and_a_user_name_come_of_it(
            said in "\\PC{0,60}", name in "\\PC{0,300}", mail in "\\PC{0,60}", scope in "\\PC{0,250}"
        ) {
            let all = json!({
                "preferred_username": said, "name": name, "email": mail, "eduperson_scoped_affiliation": [scope],
            });
            let attributes = Attributes::of(&claims(all), &Mapping::default());
            prop_assert!(attributes.username.as_deref().is_none_or(is_username));
            prop_assert!(attributes.card("alice").check().is_ok());
        }
    }
}
