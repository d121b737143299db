//! `administrator.add`: gives somebody the gateway's own role, for sessions that begin from then on.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::{AdministratorView, view};
use crate::api::operation::{Call, Operation, SYSTEM, moment, reasoned, task};
use crate::api::{Api, problem, user};
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::tool::{self, Task};
use crate::vo::{Directory, SYSTEM_ADMINISTRATOR};

/// Who becomes a system administrator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdministratorAdd {
    /// User name of an account that is there.
    #[schema(max_length = 40)]
    pub username: String,
    /// When it ends by itself (RFC 3339); for good when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub until: Option<String>,
}

pub(in crate::api) struct Add;

impl Operation for Add {
    type Body = AdministratorAdd;
    type Answer = AdministratorView;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str = "Makes somebody a system administrator, for good or until a moment";

    fn task() -> Task {
        // SECURITY: for system administrators alone, and no grant within a VO can give it to anybody else.
        reasoned(task(
            "administrator.add",
            "POST /api/v1/administrators",
            tool::Kind::Create,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, body: AdministratorAdd) -> Result<AdministratorView, Problem> {
        let until = body.until.map(|text| moment("until", &text)).transpose()?;
        let person = user::named(api, &body.username)?;
        let gateway = Directory::gateway();
        // SECURITY: whoever was shown the one-time password could sign in before her, as system administrator.
        if api
            .authenticate
            .awaits_own_password(person.id)
            .await
            .map_err(problem)?
        {
            return Err(Problem::new(
                Kind::Conflict,
                format!("`{}` has not chosen a password of her own yet", person.username),
            )
            .instead("Ask her to sign in and choose one, then try again."));
        }
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .assign(&mut tx, gateway, SYSTEM_ADMINISTRATOR, person.id, until)
            .await
            .map_err(problem)?;
        // SECURITY: sessions that began with less are not good for more.
        let ended = api
            .authenticate
            .ending_all(person.id, None, "promoted", Some(call.id));
        let further = ended.iter().cloned().map(Event::SessionEnded).collect();
        api.commit_with(call, tx, vec![change], further).await?;
        if let Some(ended) = ended {
            api.end_recorded(&ended).await?;
        }
        let directory = api.directory();
        directory
            .assignments(gateway, person.id, api.now())
            .find_map(|held| view((&directory, api.now()), held))
            .ok_or_else(|| Problem::new(Kind::Internal, "the new administrator is not there"))
    }
}
