//! `tool.try`: what a request would be, and whether somebody might make it. Nothing is sent.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{check, named, parsed, warnings};
use crate::api::operation::{Call, Operation, VO, task};
use crate::api::{Api, problem, user};
use crate::id::VoId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Found, Task, Tool};
use crate::vo::{Condition, Person, PersonState};

/// A request to try.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolTry {
    /// A manifest to try; otherwise `tool` names one that is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// Name of the manifest's file, for errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub file: Option<String>,
    /// Name of a registered tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub tool: Option<String>,
    /// The request: `GET /jobs/7`. Without one, only the manifest is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 8192)]
    pub request: Option<String>,
    /// Its headers, each as `Name: value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub headers: Vec<String>,
    /// Its body, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// User name of a member who would make it.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub person: Option<String>,
}

/// What the request would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolTried {
    /// The tool.
    pub tool: String,
    /// The task that names the request; absent when none does, and it would be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The task that it is a narrowing of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Its parameters.
    pub parameters: std::collections::BTreeMap<String, String>,
    /// What it would act on, as `type/id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// User name of the owner, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// For `as`: `permitted`, `refused`, or `depends` on a condition that is an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Roles of the VO that may do the task, with their conditions.
    pub allowed: Vec<TriedGrant>,
    /// What is allowed in the manifest but probably not meant.
    pub warnings: Vec<String>,
}

/// A role that may do the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TriedGrant {
    /// Name of the role.
    pub role: String,
    /// `always`, `own`, or a Cedar expression.
    pub condition: String,
    /// Whether the person holds the role now.
    pub held: bool,
}

pub(in crate::api) struct TryRequest;

impl Operation for TryRequest {
    type Body = ToolTry;
    type Answer = ToolTried;
    const SUMMARY: &'static str =
        "Says which task a request would be and who may make it, without sending anything";

    fn task() -> Task {
        task(
            "tool.try",
            "POST /api/v1/vos/{vo:slug}/tools/try",
            tool::Kind::Read,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, body: ToolTry) -> Result<ToolTried, Problem> {
        let vo = call.vo()?.id;
        let (tool, warnings) = match (&body.manifest, &body.tool) {
            (Some(text), None) => {
                let manifest = parsed(body.file.as_deref(), text)?;
                check(api, call, &manifest.tool)?;
                let warnings = warnings(api, call, &manifest.tool, manifest.warnings)?;
                (Arc::new(manifest.tool), warnings)
            }
            (None, Some(name)) => (named(api, vo, name)?, Vec::new()),
            _ => return Err(Problem::new(Kind::Invalid, "give either `manifest` or `tool`")),
        };
        let tried = ToolTried {
            tool: tool.name.clone(),
            warnings,
            ..ToolTried::default()
        };
        let Some(line) = &body.request else {
            return Ok(tried);
        };
        let found = tool
            .try_whole(
                line,
                &headers(&body.headers)?,
                body.content.as_deref().unwrap_or_default().as_bytes(),
            )
            .map_err(|error| Problem::new(Kind::Invalid, error.to_string()))?;
        let person = body
            .person
            .as_deref()
            .map(|name| member(api, vo, name))
            .transpose()?;
        match found {
            Some(found) => judged(api, vo, &tool, &found, person.as_deref(), tried).await,
            None => Ok(ToolTried {
                decision: person.map(|_| "refused".to_owned()),
                ..tried
            }),
        }
    }
}

/// Reads `Name: value` lines.
fn headers(lines: &[String]) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let read = line.split_once(':').and_then(|(name, value)| {
            let name = name.parse::<HeaderName>().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let Some((name, value)) = read else {
            let shown: String = line.chars().take(40).collect();
            let detail = format!("`{shown}` is not a header; accepted: `Name: value`");
            return Err(Problem::new(Kind::Invalid, detail));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

fn member(api: &Api, vo: VoId, username: &str) -> Result<Arc<Person>, Problem> {
    let person = user::named(api, username)?;
    if api.directory().is_member(vo, person.id) {
        return Ok(person);
    }
    Err(Problem::new(
        Kind::NotFound,
        format!("there is no member `{username}` here"),
    ))
}

async fn judged(
    api: &Api,
    vo: VoId,
    tool: &Tool,
    found: &Found,
    person: Option<&Person>,
    tried: ToolTried,
) -> Result<ToolTried, Problem> {
    let owner = match &found.resource {
        Some(resource) => {
            let chain = api
                .resources
                .chain(vo, &tool.name, resource)
                .await
                .map_err(problem)?;
            chain.first().and_then(|first| first.owner)
        }
        None => None,
    };
    let directory = api.directory();
    let roles: Vec<_> = person
        .into_iter()
        .flat_map(|person| directory.assignments(vo, person.id, api.now()))
        .map(|held| held.role)
        .collect();
    let grants = directory.grants(vo, &tool.name, &found.task.name);
    let held: Vec<&Condition> = grants
        .iter()
        .filter(|grant| roles.contains(&grant.role))
        .map(|grant| &grant.condition)
        .collect();
    let decision = person.map(|person| {
        let owns = owner == Some(person.id);
        let lists = found.resource.is_none() && found.task.filter.is_some();
        decision(person.standing(api.now()), &held, owns || lists).to_owned()
    });
    let allowed = grants
        .iter()
        .filter_map(|grant| {
            Some(TriedGrant {
                role: directory.role(grant.role)?.name.clone(),
                condition: grant.condition.as_str().to_owned(),
                held: roles.contains(&grant.role),
            })
        })
        .collect();
    Ok(ToolTried {
        task: Some(found.task.name.clone()),
        within: found.task.within.clone(),
        parameters: found.parameters.clone(),
        resource: found
            .resource
            .as_ref()
            .map(|resource| format!("{}/{}", resource.kind, resource.id)),
        owner: owner.and_then(|owner| Some(directory.person(owner)?.username.clone())),
        decision,
        allowed,
        ..tried
    })
}

/// What grants alone say; the decision itself is made when a request comes.
fn decision(state: PersonState, held: &[&Condition], owns: bool) -> &'static str {
    let holds = |condition: &&Condition| match condition {
        Condition::Always => true,
        Condition::Own => owns,
        Condition::Cedar(_) => false,
    };
    if state != PersonState::Active {
        "refused"
    } else if held.iter().any(holds) {
        "permitted"
    } else if held
        .iter()
        .any(|condition| matches!(condition, Condition::Cedar(_)))
    {
        "depends"
    } else {
        "refused"
    }
}
