//! The pages that show and do what operations of the API show and do: their tasks, and which function serves which.
//!
//! Whoever is signed in may ask for them, and learns nothing by that: what stands on them is asked for by the operations
//! ([`super::ask`]), each of which decides for itself.

use http::Response;

use super::ask::{Refusal, Visit};
use super::form::Form;
use super::frame::Page;
use super::{Console, answer, form, pages, second, task};
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Audience, Task};

/// The tasks of these pages.
pub(super) fn tasks() -> Vec<Task> {
    vec![
        look("console.requests", "GET /console/requests", &["only", "after"]),
        look("console.request", "GET /console/requests/{request:uuid}", &[]),
        look("console.sessions", "GET /console/sessions", &["note"]),
        form("console.session_end", "POST /console/sessions/end"),
        form("console.proxy_revoke", "POST /console/sessions/revoke"),
        personal(
            look(
                "console.members",
                "GET /console/vos/{vo:slug}/members",
                &["text", "state", "role", "after", "note"],
            ),
            &["text", "after"],
        ),
        form("console.member_add", "POST /console/vos/{vo:slug}/members"),
        look(
            "console.member",
            "GET /console/vos/{vo:slug}/members/{person:uuid}",
            &["note"],
        ),
        form(
            "console.member_change",
            "POST /console/vos/{vo:slug}/members/{person:uuid}",
        ),
        look(
            "console.roles",
            "GET /console/vos/{vo:slug}/roles",
            &["tool", "note"],
        ),
        form("console.role_change", "POST /console/vos/{vo:slug}/roles"),
        look("console.tools", "GET /console/vos/{vo:slug}/tools", &[]),
        look(
            "console.tool",
            "GET /console/vos/{vo:slug}/tools/{tool:slug}",
            &[],
        ),
        look(
            "console.denials",
            "GET /console/vos/{vo:slug}/denials",
            &["span", "person"],
        ),
        personal(
            look(
                "console.audit",
                "GET /console/vos/{vo:slug}/audit",
                &[
                    "who", "person", "tool", "task", "event", "from", "to", "text", "before",
                ],
            ),
            &["who", "text"],
        ),
        look(
            "console.audit_request",
            "GET /console/vos/{vo:slug}/requests/{request:uuid}",
            &[],
        ),
        look(
            "console.audit_proof",
            "GET /console/vos/{vo:slug}/requests/{request:uuid}/proof",
            &["event"],
        ),
        look("console.gateway", "GET /console/gateway", &[]),
    ]
}

fn look(name: &str, matches: &str, query: &[&str]) -> Task {
    Task {
        query: Some(query.iter().map(|name| (*name).to_owned()).collect()),
        ..task(name, matches, tool::Kind::Read, Audience::AnyPerson)
    }
}

/// The same where a name is personal data: records show its keyed hash.
fn personal(task: Task, names: &[&str]) -> Task {
    Task {
        sensitive: names.iter().map(|name| (*name).to_owned()).collect(),
        ..task
    }
}

fn form(name: &str, matches: &str) -> Task {
    Task {
        max_body: Some(form::LIMIT as u64),
        strict: true,
        ..task(name, matches, tool::Kind::Update, Audience::AnyPerson)
    }
}

impl Console {
    /// One of these pages.
    pub(super) async fn asked(&self, request: LocalRequest) -> Result<Response<Body>, Refusal> {
        let visit = Visit::of(&request);
        let form = match visit.permit.found().task.kind {
            tool::Kind::Read => return self.looked(&visit).await,
            _ => Form::read(request.request).await?,
        };
        match visit.permit.found().task.name.as_str() {
            "console.session_end" | "console.proxy_revoke" => self.end_own(&visit, &form).await,
            "console.member_add" => self.member_add(&visit, &form).await,
            "console.member_change" => self.member_change(&visit, &form).await,
            "console.role_change" => self.role_change(&visit, &form).await,
            _ => Err(nowhere()),
        }
    }

    async fn looked(&self, visit: &Visit) -> Result<Response<Body>, Refusal> {
        match visit.permit.found().task.name.as_str() {
            "console.requests" => self.own_requests(visit).await,
            "console.request" => self.own_request(visit).await,
            "console.sessions" => self.sessions(visit).await,
            "console.members" => self.members(visit).await,
            "console.member" => self.member(visit).await,
            "console.roles" => self.matrix(visit).await,
            "console.tools" => self.tools(visit).await,
            "console.tool" => self.tool(visit).await,
            "console.denials" => self.denials(visit).await,
            "console.audit" => self.audit(visit).await,
            "console.audit_request" => self.audit_request(visit).await,
            "console.audit_proof" => self.audit_proof(visit).await,
            "console.gateway" => self.gateway(visit).await,
            _ => Err(nowhere()),
        }
    }

    /// What is shown instead of a page: why not, or where more assurance is asked for, the page for that.
    pub(super) fn instead(
        &self,
        refusal: &Refusal,
        permit: &crate::authorize::Permit,
        id: crate::id::RequestId,
    ) -> Response<Body> {
        let problem = &refusal.problem;
        if problem.kind == Kind::StepUpRequired {
            let place = permit.place();
            let to = match place.method {
                http::Method::GET => place.target.as_str(),
                _ => place.target.path(),
            };
            return answer::see_other(&second::step_up_address(to));
        }
        let shell = self.shell_of(permit, None);
        let body = pages::problem_body(problem, refusal.request.unwrap_or(id), true);
        let page = Page {
            shell: Some(&shell).filter(|shell| !shell.links.is_empty()),
            ..Page::new(problem.kind.title(), "text", &body)
        };
        answer::refused(problem, page.show())
    }
}

fn nowhere() -> Refusal {
    Problem::new(Kind::Internal, "this task has no page").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn these_pages_are_for_whoever_is_signed_in_and_decide_nothing_themselves() {
        for task in tasks() {
            assert_eq!(task.audience, Audience::AnyPerson, "{}", task.name);
            assert_eq!(task.resource, None, "{}", task.name);
        }
    }
}
