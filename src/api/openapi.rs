//! The OpenAPI document, made from the operations themselves; `docs/reference/openapi.json` is its committed copy.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::operation::{Call, Entry, MOST, Nothing, Operation, USUAL, task};
use super::{Api, entries};
use crate::problem::Problem;
use crate::tool::{self, Audience, REASON, Task};

/// A problem document (RFC 9457).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct ProblemDocument {
    /// A page that explains this type of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every occurrence.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What exactly, for this request.
    pub detail: String,
    /// What it means.
    pub explanation: String,
    /// What to do next.
    pub next: String,
    /// To name when asking for help.
    pub request_id: String,
}

/// The whole document (OpenAPI 3.1).
#[must_use]
pub fn document() -> Value {
    let mut schemas: Vec<(String, RefOr<Schema>)> =
        vec![("ProblemDocument".to_owned(), ProblemDocument::schema())];
    let mut paths: BTreeMap<String, serde_json::Map<String, Value>> = BTreeMap::new();
    for entry in entries() {
        let task = (entry.task)();
        for matched in &task.matches {
            let Some((method, template)) = matched.split_once(' ') else {
                continue;
            };
            let operation = operation(&entry, &task, template, &mut schemas);
            paths
                .entry(plain(template))
                .or_default()
                .insert(method.to_lowercase(), operation);
        }
    }
    let schemas: BTreeMap<String, RefOr<Schema>> = schemas.into_iter().collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Countersign",
            "version": "v1",
            "description": "The gateway's own API. Every operation is a task: permitted by roles, recorded before it is done.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(
    entry: &Entry,
    task: &Task,
    template: &str,
    schemas: &mut Vec<(String, RefOr<Schema>)>,
) -> Value {
    let mut operation = json!({
        "operationId": task.name,
        "tags": [task.name.split('.').next().unwrap_or_default()],
        "summary": entry.summary,
        "description": audience(task),
        "parameters": parameters(entry, task, template),
        "responses": responses(entry, schemas),
    });
    let Some(members) = operation.as_object_mut() else {
        return operation;
    };
    if task.audience == Audience::Everyone {
        members.insert("security".into(), json!([]));
    }
    if let Some(body) = entry.body {
        let content = content("application/json", &body(schemas));
        members.insert(
            "requestBody".into(),
            json!({ "required": true, "content": content }),
        );
    }
    operation
}

fn responses(entry: &Entry, schemas: &mut Vec<(String, RefOr<Schema>)>) -> Value {
    let mut done = json!({ "description": "done" });
    if let (Some(answer), Some(members)) = (entry.answer, done.as_object_mut()) {
        members.insert("content".into(), content("application/json", &answer(schemas)));
        if entry.tagged {
            let tag = json!({
                "description": "names what can be edited of it, for `If-Match`",
                "required": true,
                "schema": { "type": "string", "pattern": "^\"[!#-~]*\"$" },
            });
            members.insert("headers".into(), json!({ "ETag": tag }));
        }
    }
    // Nothing else is ever answered: neither another success nor a redirect.
    let problem = |why: &str| {
        json!({
            "description": format!("{why}: a problem document (RFC 9457)"),
            "content": content("application/problem+json", "ProblemDocument"),
        })
    };
    json!({
        entry.status.as_str(): done,
        "4XX": problem("refused"),
        "5XX": problem("failed"),
    })
}

fn content(kind: &str, schema: &str) -> Value {
    json!({ kind: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}

fn audience(task: &Task) -> String {
    let who = match task.audience {
        Audience::Everyone => "For everyone.".to_owned(),
        Audience::AnySession => {
            "For every signed-in person, also before she has chosen her own password.".to_owned()
        }
        Audience::AnyPerson => "For every signed-in person.".to_owned(),
        Audience::Granted([]) => "By grant only.".to_owned(),
        Audience::Granted(roles) => format!("For the role {}, or by grant.", roles.join(", ")),
    };
    if task.home_only {
        return who + " Only in the account's home.";
    }
    who
}

fn parameters(entry: &Entry, task: &Task, template: &str) -> Vec<Value> {
    let variables = template
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = variables
        .map(|variable| {
            let (name, kind) = variable.split_once(':').unwrap_or((variable, "segment"));
            let schema = match kind {
                "uuid" => json!({ "type": "string", "format": "uuid" }),
                "int" => json!({ "type": "integer", "minimum": 0 }),
                "slug" => json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$" }),
                _ => json!({ "type": "string", "minLength": 1 }),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    for name in task.query.iter().flatten() {
        let required = task.reasoned && name == REASON;
        parameters.push(json!({ "name": name, "in": "query", "required": required, "schema": query(name) }));
    }
    if entry.status == StatusCode::CREATED && task.audience != Audience::Everyone {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "the same key with the same request gets the same answer, for a day; with another request 422",
            "schema": { "type": "string", "pattern": "^[!#-~]{1,128}$" },
        }));
    }
    if entry.edits {
        parameters.push(json!({
            "name": "If-Match",
            "in": "header",
            "required": false,
            "description": "`ETag` of what you read: 412 where it has changed since; 428 where the settings ask for it and it is missing",
            "schema": { "type": "string", "pattern": "^(\\*|(W/)?\"[!#-~]*\")$" },
        }));
    }
    parameters
}

/// What a parameter of the query may be. One name means the same wherever it stands.
fn query(name: &str) -> Value {
    match name {
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL }),
        REASON => json!({ "type": "string", "minLength": 1, "maxLength": 500 }),
        "show_password" => json!({ "type": "boolean" }),
        "from" | "to" => json!({ "type": "string", "format": "date-time" }),
        _ => json!({ "type": "string" }),
    }
}

/// `/vos/{vo:slug}` as OpenAPI writes it: `/vos/{vo}`.
fn plain(template: &str) -> String {
    let part = |part: &str| match (part.starts_with('{'), part.split_once(':')) {
        (true, Some((name, _))) => format!("{name}}}"),
        _ => part.to_owned(),
    };
    template.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// `api.describe`.
pub(super) struct Describe;

/// The document itself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub(super) struct Description(pub(super) Value);

impl Operation for Describe {
    type Body = Nothing;
    type Answer = Description;
    const SUMMARY: &'static str = "This document";

    fn task() -> Task {
        task(
            "api.describe",
            "GET /api/v1/openapi.json",
            tool::Kind::Read,
            Audience::Everyone,
        )
    }

    async fn run(_: &Api, _: &Call, _: Nothing) -> Result<Description, Problem> {
        Ok(Description(document()))
    }
}
