//! Resource providers: accounts that trace the proxies of one tool, and nothing else.
//!
//! A provider of the tool `ce` is a member with the role `provider-ce`, which is granted `provider.trace` and
//! `provider.cases` where the resource is that tool. So what a provider may do is decided, recorded, explained and guarded
//! against changes of the store like everything else.

pub mod add;
pub mod cases;
pub mod choose;
pub mod list;
pub mod remove;
pub mod trace;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::operation::Call;
use super::proxy::trace::card;
use super::{Api, problem};
use crate::delegate::Mapped;
use crate::delegate::provider::{Answered, Choice, Field};
use crate::id::{PersonId, VoId};
use crate::problem::{Kind, Problem};
use crate::record::Change;
use crate::store::Tx;
use crate::tool::ResourceRule;
use crate::vo::Condition;

/// Longest name of a role.
const NAME_MAX: usize = 40;
/// What the role of a tool's providers begins with.
const ROLE: &str = "provider-";
/// The tasks that it is granted: of the API, and the pages that do the same.
const TASKS: [&str; 4] = [
    "provider.trace",
    "provider.cases",
    "console.provider_trace_page",
    "console.provider_trace",
];

/// The role of a tool's providers.
fn role(tool: &str) -> String {
    format!("{ROLE}{tool}")
}

/// Refuses a role that only `provider add` makes and gives.
///
/// SECURITY: whoever holds such a role is taken for a provider, who is told nothing of other members.
pub(super) fn no_provider(role: &str) -> Result<(), Problem> {
    if tool_of_role(role).is_none() {
        return Ok(());
    }
    let detail = format!(
        "roles named `{ROLE}…` are those of resource providers, which `countersign provider add` makes and gives; accepted: another \
         name than `{}`",
        cut(role)
    );
    Err(Problem::new(Kind::Invalid, detail))
}

/// Where its grants hold.
///
/// SECURITY: a provider of one tool may not ask about another. Names of tools hold no quotes.
fn condition(tool: &str) -> Condition {
    Condition::Cedar(format!("resource.id == \"{tool}\""))
}

/// The tool that a provider's task acts on.
#[must_use]
pub fn on_tool() -> Option<ResourceRule> {
    Some(ResourceRule {
        kind: "tool".into(),
        id: "{tool}".into(),
    })
}

/// The tool in the path, which the VO must have.
fn tool_of<'a>(api: &Api, call: &'a Call) -> Result<&'a str, Problem> {
    let name = call.parameter("tool")?;
    known_tool(api, call, name)?;
    Ok(name)
}

/// The role of this tool's providers, if its name leaves room for one.
fn role_for(tool: &str) -> Result<String, Problem> {
    let name = role(tool);
    let longest = NAME_MAX - ROLE.len();
    let refused = || {
        let detail = format!(
            "the name of the tool `{tool}` has {} characters, and `{ROLE}TOOL` is the role of its providers; accepted: a tool \
             whose name has at most {longest}",
            tool.len()
        );
        Problem::new(Kind::Invalid, detail)
    };
    (tool.len() <= longest).then_some(name).ok_or_else(refused)
}

fn known_tool(api: &Api, call: &Call, name: &str) -> Result<(), Problem> {
    let known = api.wrapped().get(call.vo()?.id, name).is_some();
    let unknown = || Problem::new(Kind::NotFound, format!("there is no tool `{name}` here"));
    known.then_some(()).ok_or_else(unknown)
}

/// The tool whose providers hold this role.
#[must_use]
pub fn tool_of_role(role: &str) -> Option<&str> {
    role.strip_prefix(ROLE)
}

/// Whether all that this member may do here is what providers may; one without any role may no more.
pub(super) fn is_provider(api: &Api, call: &Call) -> Result<bool, Problem> {
    let (vo, person, directory) = (call.vo()?.id, call.person()?.id, api.directory());
    let mut held = directory.assignments(vo, person, api.now());
    let names_provider = |role| {
        let role = directory.role(role);
        role.is_some_and(|role| role.name.starts_with(ROLE))
    };
    Ok(held.all(|held| names_provider(held.role)))
}

/// What providers see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderChoice {
    /// `case` (when absent): an administrator answers. `at-once`: the gateway does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 10)]
    pub answer: Option<String>,
    /// Fields of the person's card that providers see at once: `username`, `name`, `mail`, `organisation`.
    #[serde(default)]
    #[schema(max_items = 4)]
    pub shows: Vec<String>,
}

/// Reads a choice.
fn choice(asked: &ProviderChoice) -> Result<Choice, Problem> {
    let answered = match asked.answer.as_deref() {
        None => Answered::default(),
        Some(answer) => Answered::parse(answer).ok_or_else(|| {
            let detail = format!("`answer` is `{}`; accepted: `case`, `at-once`", cut(answer));
            Problem::new(Kind::Invalid, detail)
        })?,
    };
    let shows = fields(&asked.shows)?;
    if answered == Answered::Case && !shows.is_empty() {
        let detail = "`shows` belongs to `answer` = `at-once`: what a case shows is chosen with its answer";
        return Err(Problem::new(Kind::Invalid, detail));
    }
    Ok(Choice { answered, shows })
}

/// Reads names of fields; each counts once.
pub(super) fn fields(names: &[String]) -> Result<Vec<Field>, Problem> {
    let mut fields = names
        .iter()
        .map(|name| {
            Field::parse(name).ok_or_else(|| {
                let detail = format!(
                    "`shows` names `{}`; accepted: `username`, `name`, `mail`, `organisation`",
                    cut(name)
                );
                Problem::new(Kind::Invalid, detail)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    fields.sort_unstable();
    fields.dedup();
    Ok(fields)
}

/// Ends all that the providers of a tool, which is removed, may, and what the VO chose for them.
///
/// SECURITY: another tool of that name is another provider's. `tx` began before this is called, so no assignment comes in between.
pub(super) async fn dismiss(api: &Api, tx: &mut Tx, vo: VoId, tool: &str) -> Result<Vec<Change>, Problem> {
    let (directory, name) = (api.directory(), role(tool));
    let mut changes = Vec::new();
    if let Some(role) = directory.role_named(vo, &name) {
        let mut held: Vec<PersonId> = directory
            .assignments_of_vo(vo)
            .filter(|held| held.role == role.id)
            .map(|held| held.person)
            .collect();
        held.sort_unstable();
        held.dedup();
        for person in held {
            changes.push(api.vos.unassign(tx, vo, &name, person).await.map_err(problem)?);
        }
    }
    changes.extend(api.providers.forget(tx, vo, tool).await.map_err(problem)?);
    Ok(changes)
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Free text that somebody wrote: not empty, and of at most `most` characters.
pub(super) fn words(field: &str, text: Option<String>, most: usize) -> Result<Option<String>, Problem> {
    let Some(text) = text else {
        return Ok(None);
    };
    let text = text.trim();
    let unseen = |c: char| c != '\n' && crate::tool::is_unseen(c);
    if text.is_empty() || text.chars().count() > most || text.chars().any(unseen) {
        let detail = format!("`{field}` must have 1 to {most} characters, none of them invisible");
        return Err(Problem::new(Kind::Invalid, detail));
    }
    Ok(Some(text.to_owned()))
}

/// The person behind a proxy, as far as a provider sees her.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownPerson {
    /// Opaque id, the one that the tool sees in `X-Countersign-User`.
    pub id: String,
    /// User name, where the VO shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Name, where the VO shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address, where the VO shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Home organisation, where the VO shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
}

/// The person behind `proxy`, with these fields of her card and no others.
async fn shown(api: &Api, proxy: &Mapped, shows: &[Field]) -> Result<ShownPerson, Problem> {
    let card = card(api, proxy).await?.filter(|_| !shows.is_empty());
    let may = |field: Field| shows.contains(&field);
    let card = card.as_ref();
    Ok(ShownPerson {
        id: proxy.person.to_string(),
        username: card
            .filter(|_| may(Field::Username))
            .map(|card| card.username.clone()),
        name: card
            .filter(|_| may(Field::Name))
            .map(|card| card.fields.name.clone()),
        mail: card
            .filter(|_| may(Field::Mail))
            .and_then(|card| card.fields.mail.clone()),
        organisation: card
            .filter(|_| may(Field::Organisation))
            .and_then(|card| card.fields.organisation.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_does_to_one_tools_providers_a_policy_can_bind_to_that_tool() {
        let mut bound = Vec::new();
        for task in crate::api::tasks() {
            if task.name.starts_with("provider.") && task.matches.iter().any(|at| at.contains("{tool:slug}"))
            {
                assert_eq!(task.resource, on_tool(), "{}", task.name);
                bound.push(task.name);
            }
        }
        assert_eq!(
            bound,
            [
                "provider.choose",
                "provider.remove",
                "provider.trace",
                "provider.cases"
            ]
        );
    }

    #[test]
    fn the_role_of_the_longest_tool_that_has_one_is_a_name_and_one_more_is_refused() {
        let longest = "t".repeat(31);
        assert!(crate::vo::is_name(&role_for(&longest).unwrap()));
        let refused = role_for(&format!("{longest}t")).unwrap_err();
        assert!(refused.detail.contains("at most 31"), "{}", refused.detail);
    }
}
