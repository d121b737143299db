//! `provider.list`: who may trace the proxies of which tool, and what they see.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ROLE, role};
use crate::api::operation::{Call, Nothing, Operation, VO, list};
use crate::api::{Api, problem};
use crate::delegate::provider::names;
use crate::problem::Problem;
use crate::tool::Task;

/// A provider of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderView {
    /// Tool whose proxies may be traced.
    pub tool: String,
    /// Opaque id of the account.
    pub id: String,
    /// User name.
    pub username: String,
    /// When it ends by itself (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// `case` or `at-once`, for all providers of the tool.
    pub answer: String,
    /// Fields of a card that all providers of the tool see at once.
    pub shows: Vec<String>,
}

/// Providers by tool and user name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderList {
    /// The providers.
    pub providers: Vec<ProviderView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = ProviderList;
    const SUMMARY: &'static str = "Who may trace the proxies of which tool, and what they see";

    fn task() -> Task {
        list("provider.list", "GET /api/v1/vos/{vo:slug}/providers", VO)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<ProviderList, Problem> {
        let (vo, directory, now) = (call.vo()?.id, api.directory(), api.now());
        let choices = api.providers.choices(vo).await.map_err(problem)?;
        let mut providers = Vec::new();
        for known in directory.roles_of_vo(vo) {
            let Some(tool) = known.name.strip_prefix(ROLE) else {
                continue;
            };
            let choice = choices.get(tool).cloned().unwrap_or_default();
            for person in directory.holders(vo, &role(tool), now) {
                let until = directory
                    .assignments(vo, person, now)
                    .find(|held| held.role == known.id)
                    .and_then(|held| held.until);
                let username = directory.person(person).map(|person| person.username.clone());
                providers.push(ProviderView {
                    tool: tool.to_owned(),
                    id: person.to_string(),
                    username: username.unwrap_or_default(),
                    until: until.map(|until| until.to_string()),
                    answer: choice.answered.as_str().to_owned(),
                    shows: names(&choice.shows),
                });
            }
        }
        let (providers, next) = call.page(providers, |one| format!("{} {}", one.tool, one.username))?;
        Ok(ProviderList { providers, next })
    }
}
