//! One's own requests with their reasons, sessions and proxies.

use askama::Template;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::ask::{Ask, Refusal, Visit};
use super::form::Form;
use super::frame::Page;
use super::pages::{Said, text};
use super::{Console, answer, note, shown_moment, with_query};
use crate::api::proxy::list::ProxyList;
use crate::api::request::explain::Explanation;
use crate::api::request::list_own::RequestList;
use crate::api::session::list::SessionList;
use crate::body::Body;
use crate::problem::Kind;

const REQUESTS: &str = "/console/requests";
const SESSIONS: &str = "/console/sessions";
/// Rows of a page.
pub(super) const ROWS: &str = "50";

#[derive(Template)]
#[template(path = "requests.html")]
struct RequestsBody {
    /// `refused`, `permitted`, or nothing for all.
    only: String,
    list: RequestList,
    older: Option<String>,
    first: bool,
}

#[derive(Template)]
#[template(path = "request.html")]
pub(super) struct RequestBody<'a> {
    pub(super) found: &'a Explanation,
    /// What the problem is called, for a refusal.
    pub(super) title: Option<&'static str>,
    pub(super) time: String,
    pub(super) summary: String,
    /// For administrators: where the proof of a record is, with the record's kind and its text.
    pub(super) records: Vec<ShownRecord>,
    /// Where else to look, for administrators.
    pub(super) more: Vec<(String, String)>,
}

/// A record of a request.
pub(super) struct ShownRecord {
    pub(super) kind: String,
    pub(super) time: String,
    pub(super) text: String,
    pub(super) proof: String,
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsBody<'a> {
    said: &'a Said,
    sessions: SessionList,
    proxies: ProxyList,
}

impl Console {
    pub(super) async fn own_requests(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let only = request.parameter("only");
        let permit = match only {
            "refused" => "false",
            "permitted" => "true",
            _ => "",
        };
        let after = request.parameter("after");
        let query = [("permit", permit), ("after", after), ("limit", ROWS)];
        let list: RequestList = Ask::of(request)?.read("request.list_own", &[], &query).await?;
        let older = list.next.as_deref();
        let body = text(&RequestsBody {
            only: only.to_owned(),
            older: older.map(|next| with_query(REQUESTS, &[("only", only), ("after", next)])),
            first: after.is_empty(),
            list,
        });
        let shell = self.shell(request).at(REQUESTS);
        let page = Page {
            shell: Some(&shell),
            ..Page::new("My requests", "", &body)
        };
        Ok(answer::page(StatusCode::OK, page.show()))
    }

    pub(super) async fn own_request(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let path = [("request", request.parameter("request"))];
        let found: Explanation = Ask::of(request)?.read("request.explain_own", &path, &[]).await?;
        let body = explained(&found, Vec::new(), Vec::new());
        let shell = self.shell(request).at(REQUESTS);
        let page = Page {
            shell: Some(&shell),
            crumbs: &[(REQUESTS.to_owned(), "Requests".to_owned())],
            ..Page::new("Request", "text", &body)
        };
        Ok(answer::page(StatusCode::OK, page.show()))
    }

    pub(super) async fn sessions(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let said = note(request.parameter("note"));
        self.sessions_saying(request, &said, StatusCode::OK).await
    }

    async fn sessions_saying(
        &self,
        request: &Visit,
        said: &Said,
        status: StatusCode,
    ) -> Result<Response<Body>, Refusal> {
        let ask = Ask::of(request)?;
        let mut sessions: SessionList = ask.read("session.list", &[], &[]).await?;
        sessions.sessions.reverse();
        let body = text(&SessionsBody {
            said,
            sessions,
            proxies: ask.read("proxy.list", &[], &[]).await?,
        });
        let shell = self.shell(request).at(SESSIONS);
        let page = Page {
            shell: Some(&shell),
            ..Page::new("Sessions and proxies", "", &body)
        };
        Ok(answer::page(status, page.show()))
    }

    /// Ends a session, or revokes a proxy.
    pub(super) async fn end_own(&self, request: &Visit, form: &Form) -> Result<Response<Body>, Refusal> {
        let ask = Ask::of(request)?;
        let (session, serial) = (form.text("session"), form.text("serial"));
        let done: Result<Value, Refusal> = match session {
            "" => {
                let body = match serial {
                    "all" => json!({}),
                    serial => json!({ "serials": [serial] }),
                };
                ask.act("proxy.revoke", &[], &[], Some(body)).await
            }
            session => ask.act("session.end", &[("session", session)], &[], None).await,
        };
        match done {
            Ok(_) => {
                let note = if session.is_empty() { "revoked" } else { "ended" };
                Ok(answer::see_other(&with_query(SESSIONS, &[("note", note)])))
            }
            // It is over already: the page says what there is.
            Err(refusal) if refusal.problem.kind == Kind::NotFound => {
                let said = Said::Bad(super::login::words(&refusal.problem));
                self.sessions_saying(request, &said, StatusCode::NOT_FOUND).await
            }
            Err(refusal) => Err(refusal),
        }
    }
}

/// Why a request was permitted or refused.
pub(super) fn explained(
    found: &Explanation,
    records: Vec<ShownRecord>,
    more: Vec<(String, String)>,
) -> String {
    let kind = Kind::ALL
        .iter()
        .find(|kind| !found.permit && kind.name() == found.reason);
    text(&RequestBody {
        found,
        title: kind.map(|kind| kind.title()),
        time: shown_moment(&found.time),
        summary: super::pages::sentence(&found.summary),
        records,
        more,
    })
}
