//! Roles and what they may do, as a matrix: a row for each task of a tool, a column for each role.

use askama::Template;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::ask::{Ask, Refusal, Visit};
use super::form::Form;
use super::frame::{Page, address};
use super::members::corrected;
use super::pages::{Said, text};
use super::{Console, answer, note, with_query};
use crate::api::grant::list::{GrantList, GrantView};
use crate::api::role::list::{RoleList, RoleView};
use crate::api::tool::list::ToolList;
use crate::body::Body;
use crate::problem::{Kind, Problem};
use crate::vo::OWN_TOOL;

/// A row of the matrix.
struct Row {
    task: String,
    kind: String,
    /// For each role the grants that it holds on the task.
    cells: Vec<Vec<GrantView>>,
}

#[derive(Template)]
#[template(path = "roles.html")]
struct RolesBody<'a> {
    said: &'a Said,
    vo: &'a str,
    roles: Vec<RoleView>,
    tools: Vec<String>,
    /// The tool whose tasks are shown.
    tool: String,
    rows: Vec<Row>,
    /// Grants on the gateway's own tasks.
    own: Vec<GrantView>,
    /// Whether there are more grants than one answer holds.
    more: bool,
}

impl Console {
    pub(super) async fn matrix(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let said = note(request.parameter("note"));
        let tool = request.parameter("tool").to_owned();
        let page = self.roles_page(request, &said, tool).await?;
        Ok(answer::page(StatusCode::OK, page))
    }

    async fn roles_page(&self, request: &Visit, said: &Said, tool: String) -> Result<String, Refusal> {
        let (ask, vo) = (Ask::of(request)?, request.parameter("vo"));
        let (path, all) = ([("vo", vo)], [("limit", "1000")]);
        let roles: RoleList = ask.read("role.list", &path, &all).await?;
        let tools: ToolList = ask.read("tool.list", &path, &all).await?;
        let grants: GrantList = ask.read("grant.list", &path, &all).await?;
        let shown = tools.tools.iter().find(|known| known.name == tool);
        let shown = shown.or_else(|| tools.tools.first());
        let held = |tool: &str, task: &str, role: &str| {
            let on = |grant: &&GrantView| grant.tool == tool && grant.task == task && grant.role == role;
            grants.grants.iter().filter(on).cloned().collect()
        };
        let rows = shown
            .iter()
            .flat_map(|tool| tool.tasks.iter().map(move |task| (tool, task)));
        let rows = rows.map(|(tool, task)| Row {
            task: task.name.clone(),
            kind: task.kind.clone(),
            cells: roles
                .roles
                .iter()
                .map(|role| held(&tool.name, &task.name, &role.name))
                .collect(),
        });
        let body = text(&RolesBody {
            said,
            vo,
            rows: rows.collect(),
            tool: shown.map(|tool| tool.name.clone()).unwrap_or_default(),
            tools: tools.tools.iter().map(|tool| tool.name.clone()).collect(),
            own: grants
                .grants
                .iter()
                .filter(|grant| grant.tool == OWN_TOOL)
                .cloned()
                .collect(),
            more: grants.next.is_some(),
            roles: roles.roles,
        });
        let shell = self.shell_in(request, vo).at(&address(vo, "roles"));
        let page = Page {
            shell: Some(&shell),
            ..Page::new("Roles and grants", "", &body)
        };
        Ok(page.show())
    }

    /// Whatever the page of roles does: a button of a cell says what and where, the form around them under which condition.
    pub(super) async fn role_change(&self, request: &Visit, form: &Form) -> Result<Response<Body>, Refusal> {
        let vo = request.parameter("vo");
        let tool = form.text("tool").to_owned();
        match change(&Ask::of(request)?, vo, form).await {
            Ok(note) => {
                let here = address(vo, "roles");
                Ok(answer::see_other(&with_query(
                    &here,
                    &[("tool", &tool), ("note", note)],
                )))
            }
            Err(refusal) => {
                let problem = corrected(refusal)?;
                let said = Said::Bad(super::login::words(&problem));
                let page = self.roles_page(request, &said, tool).await?;
                Ok(answer::refused(&problem, page))
            }
        }
    }
}

async fn change(ask: &Ask, vo: &str, form: &Form) -> Result<&'static str, Refusal> {
    let (path, reason) = ([("vo", vo)], [("reason", form.text("reason"))]);
    if let Some((role, task)) = form.text("add").split_once('/') {
        let when = match (form.text("when"), form.text("expression").trim()) {
            ("expression", "") => {
                let detail = "write the condition down, or choose another one";
                return Err(Problem::new(Kind::Invalid, detail).into());
            }
            ("expression", text) => text,
            (when, _) => when,
        };
        let body = json!({ "role": role, "tool": form.text("tool"), "tasks": [task], "when": when });
        ask.act::<Value>("grant.add", &path, &reason, Some(body)).await?;
        return Ok("granted");
    }
    if !form.text("remove").is_empty() {
        let path = [("vo", vo), ("grant", form.text("remove"))];
        ask.act::<()>("grant.remove", &path, &reason, None).await?;
        return Ok("grant-removed");
    }
    match form.text("do") {
        "create" => {
            let body = json!({ "name": form.text("name").trim() });
            ask.act::<Value>("role.create", &path, &reason, Some(body))
                .await?;
            Ok("role-created")
        }
        "end" => {
            let path = [("vo", vo), ("role", form.text("role"))];
            ask.act::<Value>("role.end", &path, &reason, None).await?;
            Ok("role-ended")
        }
        _ => Err(Problem::new(Kind::Invalid, "the form does not say what to do").into()),
    }
}
