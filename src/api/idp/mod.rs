//! Identity providers: registered, changed, suspended and removed while the gateway runs; who they vouch for; and which account
//! whoever comes from one gets.

pub mod add;
pub mod approve;
pub mod arrive;
pub mod edit;
pub mod identities;
pub mod link;
pub mod list;
pub mod reject;
pub mod remove;
pub mod resume;
pub mod show;
pub mod sign_in;
pub mod suspend;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::operation::Call;
use super::{Api, user};
use crate::authenticate::{Approval, Idp, IdpSettings, Mapping};
use crate::problem::{Kind, Problem};
use crate::tool::Assurance;

pub use arrive::arrive;

/// From which claim each field is taken; none where it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdpMapping {
    /// User name; `preferred_username` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub username: Option<String>,
    /// Name; `name` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub name: Option<String>,
    /// E-mail address; `email` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub mail: Option<String>,
    /// Affiliations; `eduperson_scoped_affiliation` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub affiliation: Option<String>,
    /// Groups; `groups` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub groups: Option<String>,
}

impl IdpMapping {
    fn onto(self, mapping: &mut Mapping) {
        for (said, field) in [
            (self.username, &mut mapping.username),
            (self.name, &mut mapping.name),
            (self.mail, &mut mapping.mail),
            (self.affiliation, &mut mapping.affiliation),
            (self.groups, &mut mapping.groups),
        ] {
            if let Some(said) = said {
                *field = said;
            }
        }
    }

    fn of(mapping: &Mapping) -> Self {
        let some = |claim: &String| Some(claim.clone());
        Self {
            username: some(&mapping.username),
            name: some(&mapping.name),
            mail: some(&mapping.mail),
            affiliation: some(&mapping.affiliation),
            groups: some(&mapping.groups),
        }
    }
}

/// An identity provider. Its client secret is shown to nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdpView {
    /// Id.
    pub id: String,
    /// Name, as addresses and commands have it.
    pub name: String,
    /// What people know it by.
    pub display_name: String,
    /// `active` or `suspended`.
    pub state: String,
    /// Issuer identifier.
    pub issuer: String,
    /// Who this gateway is there.
    pub client_id: String,
    /// What to register there: the address to which browsers come back.
    pub redirect_uri: String,
    /// What to register there for back-channel logout.
    pub backchannel_logout_uri: String,
    /// Scopes that are asked for, beside `openid`.
    pub scopes: Vec<String>,
    /// Accepted values of `acr`, with what each is worth here (`aal1`, `aal2`); empty: every sign-in will do, for one factor.
    pub acr: BTreeMap<String, String>,
    /// Where its people belong: a virtual organisation's name, or `countersign` for the gateway itself.
    pub home: String,
    /// From which claim each field is taken.
    pub mapping: IdpMapping,
    /// Who decides on a first sign-in: `manual` (an administrator) or `automatic`.
    pub approval: String,
    /// Who decides when an approval is over: `manual` or `automatic`.
    pub renewal: String,
    /// For how many days an approval is good.
    pub valid_days: u32,
    /// Whether it trusts authorities of its own instead of the system's.
    pub own_ca: bool,
    /// Since when (RFC 3339).
    pub created: String,
}

pub(super) fn view(api: &Api, call: &Call, idp: &Idp) -> IdpView {
    let settings = &idp.settings;
    let acr = settings.acr.iter();
    IdpView {
        id: idp.id.to_string(),
        name: idp.name.clone(),
        display_name: settings.display_name.clone(),
        state: if idp.active { "active" } else { "suspended" }.to_owned(),
        issuer: settings.issuer.clone(),
        client_id: settings.client_id.clone(),
        redirect_uri: format!("{}/login/with/{}/callback", call.base, idp.name),
        backchannel_logout_uri: format!("{}/login/with/{}/logout", call.base, idp.name),
        scopes: settings.scopes.iter().cloned().collect(),
        acr: acr
            .map(|(acr, level)| (acr.clone(), level.as_str().to_owned()))
            .collect(),
        home: user::home(&api.directory(), idp.home),
        mapping: IdpMapping::of(&settings.mapping),
        approval: settings.approval.as_str().to_owned(),
        renewal: settings.renewal.as_str().to_owned(),
        valid_days: settings.valid_days,
        own_ca: settings.ca.is_some(),
        created: idp.created.to_string(),
    }
}

/// What may be said of a provider from its first day on and changed later; absent is as it was, or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdpSaid {
    /// What people know it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub display_name: Option<String>,
    /// Who this gateway is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub client_id: Option<String>,
    /// Scopes to ask for, beside `openid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20)]
    pub scopes: Option<Vec<String>>,
    /// Accepted values of `acr`, with what each is worth here (`aal1`, `aal2`); empty: every sign-in will do, for one factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<BTreeMap<String, String>>,
    /// From which claim each field is taken; a field that is absent is as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<IdpMapping>,
    /// Who decides on a first sign-in: `manual` (an administrator; the default) or `automatic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 20)]
    pub approval: Option<String>,
    /// Who decides when an approval is over: `manual` (the default) or `automatic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 20)]
    pub renewal: Option<String>,
    /// For how many days an approval is good; 365 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3650)]
    pub valid_days: Option<u32>,
    /// PEM of the authorities that may sign for its addresses; the system's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 65536)]
    pub ca: Option<String>,
}

fn invalid(field: &str, accepted: &str) -> Problem {
    Problem::new(Kind::Invalid, format!("`{field}` must be {accepted}")).with("field", field)
}

impl IdpSaid {
    fn onto(self, settings: &mut IdpSettings) -> Result<(), Problem> {
        let policy = |field: &str, said: Option<String>, old: Approval| match said {
            None => Ok(old),
            Some(word) => {
                Approval::parse(&word).ok_or_else(|| invalid(field, &format!("one of {}", Approval::NAMES)))
            }
        };
        settings.approval = policy("approval", self.approval, settings.approval)?;
        settings.renewal = policy("renewal", self.renewal, settings.renewal)?;
        if let Some(display_name) = self.display_name {
            settings.display_name = display_name;
        }
        if let Some(client_id) = self.client_id {
            settings.client_id = client_id;
        }
        if let Some(scopes) = self.scopes {
            settings.scopes = scopes.into_iter().collect();
        }
        if let Some(acr) = self.acr {
            let levels = acr.into_iter().map(|(acr, level)| {
                let known = Assurance::parse(&level);
                let known =
                    known.ok_or_else(|| invalid("acr", &format!("worth one of {}", Assurance::NAMES)))?;
                Ok((acr, known))
            });
            settings.acr = levels.collect::<Result<_, Problem>>()?;
        }
        if let Some(mapping) = self.mapping {
            mapping.onto(&mut settings.mapping);
        }
        if let Some(days) = self.valid_days {
            settings.valid_days = days;
        }
        if self.ca.is_some() {
            settings.ca = self.ca;
        }
        Ok(())
    }
}

/// The provider in the path.
pub(super) async fn of(api: &Api, call: &Call) -> Result<Idp, Problem> {
    api.authenticate.idp(call.parameter("idp")?).await
}
