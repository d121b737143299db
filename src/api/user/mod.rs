//! People of a VO.

pub mod add;
pub mod certificate;
pub mod delete;
pub mod edit;
pub mod expire;
pub mod export;
pub mod find;
pub mod flag_compromised;
mod hand_over;
pub mod list;
pub mod remove;
pub mod reset_factors;
pub mod reset_password;
pub mod resume;
pub mod show;
pub mod suspend;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::operation::{Call, member};
use super::{Api, etag, problem, unposted};
use crate::alert::{Happened, Notice};
use crate::delegate::{Which, Why};
use crate::id::{PersonId, VoId};
use crate::problem::{Kind, Problem};
use crate::record::{Change, Event};
use crate::state::Begun;
use crate::store::Tx;
use crate::tool::Audience;
use crate::vo::{CardFields, Directory, GATEWAY, Person, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR};

/// A member of a VO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// Opaque id.
    pub id: String,
    /// User name.
    pub username: String,
    /// `active`, `suspended`, `pending`, `rejected`, `expired` or `deleted`.
    pub state: String,
    /// When the account expires by itself, or expired (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Whose administrators reset the account: a VO's name, or `countersign` for the gateway itself.
    pub home: String,
    /// Name.
    pub name: String,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Home organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Roles in this VO, with their ends.
    pub roles: Vec<HeldRole>,
}

/// A role that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldRole {
    /// Name of the role.
    pub role: String,
    /// When it ends by itself (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

pub(super) fn home(directory: &Directory, home: VoId) -> String {
    directory
        .vo(home)
        .map_or_else(|| GATEWAY.to_owned(), |vo| vo.name.clone())
}

/// The tag of what `user.edit` changes.
fn tag(user: &UserView) -> Option<String> {
    etag::tag(&(&user.id, &user.name, &user.mail, &user.organisation))
}

/// A person as an administrator of `vo` sees her.
async fn view(api: &Api, vo: VoId, person: &Person) -> Result<UserView, Problem> {
    let card = api.vos.card(person.id).await.map_err(problem)?;
    let fields = card.map(|card| card.fields).unwrap_or_default();
    let directory = api.directory();
    let mut roles: Vec<HeldRole> = directory
        .assignments(vo, person.id, api.now())
        .filter_map(|held| {
            Some(HeldRole {
                role: directory.role(held.role)?.name.clone(),
                until: held.until.map(|until| until.to_string()),
            })
        })
        .collect();
    roles.sort_by(|a, b| a.role.cmp(&b.role));
    Ok(UserView {
        id: person.id.to_string(),
        username: person.username.clone(),
        state: person.standing(api.now()).as_str().into(),
        until: person.until.map(|until| until.to_string()),
        home: home(&directory, person.home),
        name: fields.name,
        mail: fields.mail,
        organisation: fields.organisation,
        roles,
    })
}

/// Tells the person and the administrators of the VO what happened to her account.
async fn tell(
    api: &Api,
    call: &Call,
    tx: &mut Tx,
    happened: Happened,
    person: &Person,
) -> Result<(), Problem> {
    let (vo, by) = (call.vo()?, call.person()?);
    let notice = Notice {
        happened,
        person: person.id,
        username: &person.username,
        by_username: &by.username,
        vo_name: &vo.name,
        request: call.id,
    };
    let told = api.alert.notify(tx, vo.id, &notice).await;
    told.map_err(|error| unposted(&error))
}

/// Tells the person alone.
async fn tell_person(
    api: &Api,
    call: &Call,
    tx: &mut Tx,
    happened: Happened,
    person: &Person,
) -> Result<(), Problem> {
    let (vo, by) = (call.vo()?, call.person()?);
    let notice = Notice {
        happened,
        person: person.id,
        username: &person.username,
        by_username: &by.username,
        vo_name: &vo.name,
        request: call.id,
    };
    let told = api.alert.notify_person(tx, vo.id, &notice).await;
    told.map_err(|error| unposted(&error))
}

/// What stops an account stops with it: its proxies are revoked, its sessions end, and mails tell of it.
async fn stop(
    api: &Api,
    call: &Call,
    mut tx: Begun,
    change: Change,
    (person, happened): (&Person, Happened),
) -> Result<(), Problem> {
    let all = Which::all_of(person.id);
    // SECURITY: what was minted for her is in others' hands; letting her in again does not bring it back.
    let revoked = api.delegate.revoke(&mut tx, &all, Why::Suspended, None).await;
    let revoked = revoked.map_err(problem)?;
    tell(api, call, &mut tx, happened, person).await?;
    let ended = api
        .authenticate
        .ending_all(person.id, None, happened.reason(), Some(call.id));
    let further = ended.iter().cloned().map(Event::SessionEnded).collect();
    let changes = std::iter::once(change).chain(revoked.changes).collect();
    api.commit_with(call, tx, changes, further).await?;
    let done = match ended {
        Some(ended) => api.end_recorded(&ended).await,
        None => Ok(()),
    };
    api.delegate.forget_proxies(&revoked.serials);
    done
}

/// Who may stop an account and let it in again; [`stoppable`] says which.
const STOP: Audience = Audience::Granted(&[SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR]);

/// The person in the path, if who asks may stop her account: system administrators anybody's, administrators of its home
/// those of their VO whatever roles she has elsewhere, others by grant only where she administers nothing.
fn stoppable(api: &Api, call: &Call) -> Result<Arc<Person>, Problem> {
    let directory = api.directory();
    if administers_gateway(api, call)? {
        let person = call.id_of("person").map(|id| directory.person(id).cloned())?;
        return person.ok_or_else(|| Problem::new(Kind::NotFound, "there is no such person"));
    }
    let (person, vo) = (member(api, call)?, call.vo()?.id);
    let administrators = directory.holders(vo, VO_ADMINISTRATOR, api.now());
    let by_role = administrators.contains(&call.person()?.id);
    // SECURITY: an account works in every VO, so only its home decides whether it works at all.
    if person.home == vo && (by_role || !administers(api, &directory, person.id)) {
        return Ok(person);
    }
    let detail = "an account is stopped and let in again by the administrators of its home, and by system administrators";
    Err(Problem::new(Kind::ConditionNotMet, detail))
}

/// Whether the person administers any VO or the gateway.
fn administers(api: &Api, directory: &Directory, person: PersonId) -> bool {
    let places = directory.all_vos().map(|vo| vo.id).chain([Directory::gateway()]);
    places.into_iter().any(|vo| {
        [SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR]
            .iter()
            .any(|role| directory.holders(vo, role, api.now()).contains(&person))
    })
}

/// Whether who asks is a system administrator.
fn administers_gateway(api: &Api, call: &Call) -> Result<bool, Problem> {
    let holders = api
        .directory()
        .holders(Directory::gateway(), SYSTEM_ADMINISTRATOR, api.now());
    Ok(holders.contains(&call.person()?.id))
}

/// An account by user name.
pub(super) fn named(api: &Api, username: &str) -> Result<Arc<Person>, Problem> {
    api.directory()
        .person_named(username)
        .cloned()
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no user `{username}`")))
}

/// The fields of a card, as a request gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardInput {
    /// Name.
    #[schema(max_length = 200)]
    pub name: String,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    pub mail: Option<String>,
    /// Home organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub organisation: Option<String>,
}

impl From<CardInput> for CardFields {
    fn from(input: CardInput) -> Self {
        Self {
            name: input.name,
            mail: input.mail,
            organisation: input.organisation,
        }
    }
}
