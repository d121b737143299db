//! `user.add`: makes somebody a member, with a new account or the one she has.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::hand_over::HandOver;
use super::{UserView, administers_gateway, named, view};
use crate::api::operation::{Call, Operation, VO, exposed_if, moment, reasoned, task};
use crate::api::provider::no_provider;
use crate::api::{Api, problem};
use crate::authenticate::OneTime;
use crate::id::{PersonId, VoId};
use crate::problem::{Kind, Problem};
use crate::record::Change;
use crate::secret::Secret;
use crate::store::Tx;
use crate::tool::{self, Task};
use crate::vo::{CardFields, SCIENTIST};

/// Who comes, with which roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserAdd {
    /// User name: lower-case letters, digits, `.`, `-`, `_`; 2 to 40.
    #[schema(max_length = 40)]
    pub username: String,
    /// Name, for a new account. Without it, an account of this home joins again; one of another home joins only when
    /// a system administrator asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub name: Option<String>,
    /// E-mail address, for a new account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    pub mail: Option<String>,
    /// Home organisation, for a new account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub organisation: Option<String>,
    /// Roles; `scientist` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 50)]
    pub roles: Option<Vec<String>>,
    /// When the roles end by themselves (RFC 3339); for good when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub until: Option<String>,
    /// Show the one-time password of a new account also where it can go by mail.
    #[serde(default)]
    pub show_password: bool,
}

/// The new member.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UserAdded {
    /// She.
    pub user: UserView,
    /// The one-time password of a new account, unless it went to her by mail. It opens nothing but the choice of a
    /// password of her own.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed_if"
    )]
    #[schema(value_type = Option<String>)]
    pub one_time_password: Option<Secret<String>>,
}

pub(in crate::api) struct Add;

impl Operation for Add {
    type Body = UserAdd;
    type Answer = UserAdded;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SECRET: bool = true;
    const SUMMARY: &'static str = "Makes somebody a member, with a new account or the one she has";

    fn task() -> Task {
        reasoned(task(
            "user.add",
            "POST /api/v1/vos/{vo:slug}/users",
            tool::Kind::Create,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: UserAdd) -> Result<UserAdded, Problem> {
        let vo = call.vo()?.id;
        let until = body
            .until
            .as_deref()
            .map(|text| moment("until", text))
            .transpose()?;
        for role in body.roles.iter().flatten() {
            no_provider(role)?;
        }
        // Before the store's lock is taken: a password hash takes its time.
        let one_time = match body.name {
            Some(_) => Some(api.authenticate.one_time_password().await.map_err(problem)?),
            None => None,
        };
        let mut tx = api.begin().await?;
        let mut changes = Vec::new();
        let (person, password) = match (&body.name, one_time) {
            (Some(name), Some(one_time)) => {
                let (person, mut change, password) =
                    account(api, &mut tx, (vo, name), &body, one_time).await?;
                let hand_over = HandOver {
                    vo,
                    vo_name: &call.vo()?.name,
                    base: &call.base,
                    username: &body.username,
                    mail: body.mail.as_deref(),
                    show: body.show_password,
                };
                let shown = hand_over.run(api, &mut tx, password, &mut change).await?;
                changes.push(change);
                (person, shown)
            }
            _ => (known(api, call, &body)?, None),
        };
        changes.push(api.vos.join(&mut tx, vo, person).await.map_err(problem)?);
        let default = [SCIENTIST.to_owned()];
        for role in body.roles.as_deref().unwrap_or(&default) {
            let assigned = api.vos.assign(&mut tx, vo, role, person, until).await;
            changes.push(assigned.map_err(problem)?);
        }
        api.commit(call, tx, changes).await?;
        let directory = api.directory();
        let person = directory
            .person(person)
            .ok_or_else(|| Problem::new(Kind::Internal, "the new member is not there"))?;
        let mut user = view(api, vo, person).await?;
        // SECURITY: a card is for the administrators of the account's home.
        if person.home != vo {
            (user.name, user.mail, user.organisation) = (String::new(), None, None);
        }
        Ok(UserAdded {
            user,
            one_time_password: password,
        })
    }
}

/// A new account with its one-time password.
async fn account(
    api: &Api,
    tx: &mut Tx,
    (vo, name): (VoId, &str),
    body: &UserAdd,
    one_time: OneTime,
) -> Result<(PersonId, Change, Secret<String>), Problem> {
    // SECURITY: whoever means to make a new account never gets somebody else's by the same name into her VO.
    let fields = CardFields {
        name: name.to_owned(),
        mail: body.mail.clone(),
        organisation: body.organisation.clone(),
    };
    let (person, change) = api
        .vos
        .add_person(tx, vo, &body.username, &fields)
        .await
        .map_err(problem)?;
    let password = api
        .authenticate
        .first_password(tx, person, vo, one_time)
        .await
        .map_err(problem)?;
    Ok((person, change, password))
}

/// An account that is there already: one whose home is this VO, or any for a system administrator.
fn known(api: &Api, call: &Call, body: &UserAdd) -> Result<PersonId, Problem> {
    if body.mail.is_some() || body.organisation.is_some() {
        let detail = "`mail` and `organisation` are for new accounts, which need `name`";
        return Err(Problem::new(Kind::Invalid, detail));
    }
    let known = named(api, &body.username);
    if administers_gateway(api, call)? {
        let known = known.map_err(|problem| Problem {
            detail: format!("{}; give `name` to make a new account", problem.detail),
            ..problem
        })?;
        return Ok(known.id);
    }
    // SECURITY: nobody is made a member, and so given roles that protect or bind her account, by a VO that she has
    // nothing to do with. The answer is the same whether there is such an account or not.
    let home = call.vo()?.id;
    let ours = known.ok().filter(|person| person.home == home);
    ours.map(|person| person.id).ok_or_else(|| {
        let detail = format!(
            "`{}` is not an account of this virtual organisation; only a system administrator lets an account of \
             another home join, and `name` makes a new account",
            body.username
        );
        Problem::new(Kind::Invalid, detail)
    })
}
