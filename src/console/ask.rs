//! How a page asks for what it shows and does: by operations of the API, for whoever asked for the page.
//!
//! INVARIANT: what a page of this console shows of people, roles, tools and records, and whatever it changes, comes from
//! here; so each part of it is decided and recorded under the operation's own task, like a call from the command line.

use std::sync::Arc;

use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api;
use crate::authorize::Permit;
use crate::forward::{LocalRequest, Within};
use crate::id::RequestId;
use crate::problem::{Kind, Problem};

/// Names with their values, for paths and queries; of a query, what is empty is left out.
pub(super) type Pairs<'a> = &'a [(&'a str, &'a str)];

/// What a page needs of the request for it: all but its body.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) permit: Arc<Permit>,
    within: Option<Within>,
}

impl Visit {
    pub(super) fn of(request: &LocalRequest) -> Self {
        Self {
            permit: request.permit.clone(),
            within: request.within.clone(),
        }
    }

    /// A parameter that the task took from the path or the query; empty when it is not there.
    pub(super) fn parameter(&self, name: &str) -> &str {
        let found = self.permit.found();
        found.parameters.get(name).map_or("", String::as_str)
    }
}

/// Asks for operations.
#[derive(Clone, Debug)]
pub(super) struct Ask(Within);

/// Why a page cannot be shown, or did not do what was asked of it.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) problem: Problem,
    /// The request that was refused, where it is not the one for the page.
    pub(super) request: Option<RequestId>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            request: None,
        }
    }
}

impl Ask {
    /// For whoever made `request`.
    pub(super) fn of(visit: &Visit) -> Result<Self, Problem> {
        let within = visit.within.clone();
        let none = || Problem::new(Kind::Internal, "nothing can be asked for here");
        within.map(Self).ok_or_else(none)
    }

    /// What an operation answers that has no body.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        task: &str,
        path: Pairs<'_>,
        query: Pairs<'_>,
    ) -> Result<T, Refusal> {
        self.act(task, path, query, None).await
    }

    /// What an operation answers; `()` for one that answers nothing.
    pub(super) async fn act<T: DeserializeOwned>(
        &self,
        task: &str,
        path: Pairs<'_>,
        query: Pairs<'_>,
        body: Option<Value>,
    ) -> Result<T, Refusal> {
        let unknown = || Problem::new(Kind::Internal, format!("there is no operation `{task}`"));
        let (method, path) = api::address(task, path).ok_or_else(unknown)?;
        let target = super::with_query(&path, query);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let response = self.0.0.ask(method, target, body.into()).await;
        let (head, body) = response.into_parts();
        let broken = || Problem::new(Kind::Internal, "the operation's answer cannot be read");
        let whole = body.collect().await.map_err(|_| broken())?.to_bytes();
        if !head.status.is_success() {
            return Err(refusal(&whole, &head.headers));
        }
        let answer: &[u8] = if whole.is_empty() { b"null" } else { &whole };
        serde_json::from_slice(answer).map_err(|_| broken().into())
    }
}

/// What a problem document says.
fn refusal(document: &[u8], headers: &http::HeaderMap) -> Refusal {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
    let id = headers.get(crate::forward::REQUEST_ID);
    let id = id.and_then(|id| id.to_str().ok());
    Refusal {
        problem: Problem {
            retry_after: number("retry-after"),
            ..problem(document)
        },
        request: id.and_then(|id| id.parse().ok()),
    }
}

fn problem(document: &[u8]) -> Problem {
    let unread = || Problem::new(Kind::Internal, "the operation failed");
    let Ok(Value::Object(mut members)) = serde_json::from_slice(document) else {
        return unread();
    };
    let name = members.remove("type").unwrap_or_default();
    let name = name.as_str().and_then(|name| name.rsplit('/').next());
    let Some(kind) = Kind::ALL.iter().find(|kind| Some(kind.name()) == name) else {
        return unread();
    };
    let detail = members.remove("detail").unwrap_or_default();
    // What the kind and the request say by themselves.
    for known in ["title", "status", "explanation", "request_id"] {
        members.remove(known);
    }
    if members.get("next").and_then(Value::as_str) == Some(kind.next()) {
        members.remove("next");
    }
    Problem {
        members,
        ..Problem::new(*kind, detail.as_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_is_read_back_as_the_problem_it_was() {
        let id = RequestId::from(uuid::Uuid::from_u128(7));
        let was = Problem::new(Kind::NoGrant, "none of your roles allows it").with("task", "user.list");
        let document = was.document("https://gw.example.org", id).to_string();
        let read = problem(document.as_bytes());
        assert_eq!((read.kind, &read.detail), (was.kind, &was.detail));
        assert_eq!(read.members.get("task"), was.members.get("task"));
        assert_eq!(read.next(), was.next());
    }

    #[test]
    fn what_is_no_problem_document_is_a_failure() {
        for document in [&b""[..], b"[]", b"{}", b"{\"type\":\"x/no_such\"}", b"\xff"] {
            assert_eq!(problem(document).kind, Kind::Internal);
        }
    }
}
