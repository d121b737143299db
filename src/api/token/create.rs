//! `token.create`: a personal access token, by somebody who has just shown who she is.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Operation, exposed, moment, task};
use crate::api::{Api, problem};
use crate::authenticate::{SCOPE_PARTS, Scope, ScopePart, TokenAsk};
use crate::problem::{Kind, Problem};
use crate::secret::Secret;
use crate::tool::{self, Audience, Task, TokenRule};
use crate::vo::Directory;

/// A token to make.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// What you call it.
    #[schema(min_length = 1, max_length = 60)]
    pub name: String,
    /// What it is for: `VO`, `VO/TOOL` or `VO/TOOL/TASK`; `gateway` in the place of the VO for what belongs to none, and
    /// `countersign` in that of the tool for the gateway's own tasks.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub scopes: Vec<String>,
    /// Of these only what changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// It also gets your proxies: at the MyProxy port, or by `proxy.download`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub myproxy: bool,
    /// When it ends (RFC 3339); the settings say how late that may be.
    #[schema(format = DateTime)]
    pub expires: String,
}

/// A token that was made. Its text is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// Id, by which records name it.
    pub id: String,
    /// To send as `Authorization: Bearer TOKEN`, or in the place of your password.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub token: Secret<String>,
    /// When it ends (RFC 3339).
    pub expires: String,
}

pub(in crate::api) struct Create;

impl Operation for Create {
    type Body = TokenCreate;
    type Answer = TokenCreated;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SECRET: bool = true;
    const LIMIT: usize = 64 * 1024;
    const SUMMARY: &'static str = "Makes a personal access token, for a script";

    fn task() -> Task {
        Task {
            max_body: Some(Self::LIMIT as u64),
            strict: true,
            tokens: TokenRule::Never,
            ..task(
                "token.create",
                "POST /api/v1/me/tokens",
                tool::Kind::Create,
                Audience::AnyPerson,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: TokenCreate) -> Result<TokenCreated, Problem> {
        let expires = moment("expires", &body.expires)?;
        let ask = TokenAsk {
            name: &body.name,
            scope: scope(api, call, &body)?,
            expires,
        };
        let new = api.authenticate.new_token(&call.subject, ask).await?;
        let mut tx = api.begin().await?;
        let change = api.authenticate.write_token(&mut tx, &new).await?;
        api.commit(call, tx, vec![change]).await?;
        api.authenticate.refresh().await.map_err(problem)?;
        Ok(TokenCreated {
            id: new.session().id.to_string(),
            expires: new.session().expires.to_string(),
            token: new.token,
        })
    }
}

/// What the token is for: only what there is, in VOs of whoever asks.
fn scope(api: &Api, call: &Call, body: &TokenCreate) -> Result<Scope, Problem> {
    if body.scopes.len() > SCOPE_PARTS {
        return Err(invalid(format!("at most {SCOPE_PARTS} scopes are accepted")));
    }
    let mut parts = Vec::with_capacity(body.scopes.len());
    for text in &body.scopes {
        let part: ScopePart = text.parse().map_err(|error| invalid(format!("{error}")))?;
        there_is(api, call, &part)?;
        parts.push(part);
    }
    parts.sort_unstable();
    parts.dedup();
    Ok(Scope {
        parts,
        read_only: body.read_only,
        myproxy: body.myproxy,
    })
}

fn there_is(api: &Api, call: &Call, part: &ScopePart) -> Result<(), Problem> {
    let (directory, person) = (api.directory(), call.person()?.id);
    let vo = match part.is_gateway() {
        true => Some(Directory::gateway()),
        // SECURITY: a VO that is not there and one that she does not belong to look alike.
        false => directory
            .vo_named(&part.vo)
            .map(|vo| vo.id)
            .filter(|vo| directory.is_member(*vo, person)),
    };
    let vo = vo.ok_or_else(|| {
        invalid(format!(
            "you are not a member of a virtual organisation `{}`",
            part.vo
        ))
    })?;
    let Some(name) = &part.tool else {
        return Ok(());
    };
    let wrapped = api.wrapped();
    let own = Some(wrapped.own()).filter(|own| own.name == *name);
    let tool = own.or_else(|| wrapped.get(vo, name));
    let tool = tool.ok_or_else(|| invalid(format!("there is no tool `{name}` in {}", part.vo)))?;
    match &part.task {
        Some(task) if tool.task(task).is_none() => Err(invalid(format!("`{name}` has no task `{task}`"))),
        _ => Ok(()),
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(Kind::Invalid, detail).with("field", "scopes")
}
