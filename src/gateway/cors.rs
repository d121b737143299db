//! Pages of other origins (CORS, Fetch section 3.2): the gateway speaks for a tool whose manifest lists `origins`.
//!
//! A preflight carries no credential, so nothing of it can be decided or sent to the tool: the gateway answers it for a
//! listed origin, and the request that follows is decided like any other. Cookies never travel this way: no answer says
//! `Access-Control-Allow-Credentials`, so a page of another origin needs a token of its own.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION,
    COOKIE, HeaderName, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::exchange::Exchange;
use super::pipeline::Pipeline;
use crate::body::{self, Body};
use crate::id::VoId;
use crate::tool::{Place, is_claim, is_hop_by_hop};
use crate::vo::{Directory, VoState};

/// How long a browser may keep the answer, in seconds.
const MAX_AGE: u32 = 600;
/// The word under which preflights are counted in the log, with the requests of strangers.
const COUNTED: &str = "preflight";
/// What answers depend on.
pub(super) const VARIES: &str = "Origin";

impl Pipeline {
    /// Whether a VO, and the gateway above it, is open.
    fn is_open(&self, vo: VoId) -> bool {
        let directory = self.directory.load();
        let is_open = |vo| directory.vo(vo).is_none_or(|vo| vo.state == VoState::Active);
        is_open(vo) && is_open(Directory::gateway())
    }

    /// Answers a preflight for an origin that the tool lists. It is counted in the log like the refusals of strangers: per
    /// network and minute.
    pub(super) fn preflight(&self, x: &Exchange, place: &Place) -> Option<Response<Body>> {
        let headers = preflight(&x.head, place)?;
        // Nobody is signed in here, so networks have the share of strangers, and a suspended VO says nothing.
        let vo = place.vo.as_ref()?.id;
        if !self.is_open(vo) || self.strangers.admit(x.source).is_err() {
            return None;
        }
        self.audit.stranger(COUNTED, &x.source.network(), x.id);
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() = headers;
        Some(self.answers.dress(response, x.id, place))
    }
}

/// The origin that asks, where the tool of the place lists it.
fn listed<'a>(head: &'a Parts, place: &Place) -> Option<&'a HeaderValue> {
    let mut origins = head.headers.get_all(ORIGIN).iter();
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    let tool = place.tool.as_ref()?;
    tool.origins
        .iter()
        .any(|known| known.as_bytes() == origin.as_bytes())
        .then_some(origin)
}

/// The headers that answer a preflight; `None` when it is none, or not one of a listed origin.
fn preflight(head: &Parts, place: &Place) -> Option<HeaderMap> {
    let headers = &head.headers;
    if head.method != Method::OPTIONS || headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE) {
        return None;
    }
    let mut methods = headers.get_all(ACCESS_CONTROL_REQUEST_METHOD).iter();
    let method = methods.next().filter(|_| methods.next().is_none())?;
    let origin = listed(head, place)?;
    // Which methods and headers there are is decided when the request comes; saying it here would tell strangers.
    Method::from_bytes(method.as_bytes()).ok()?;
    let mut answer = HeaderMap::new();
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    let asked: Vec<HeaderName> = headers
        .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_claim(name.as_str()) && !is_hop_by_hop(name.as_str()))
        .collect();
    let asked = asked
        .iter()
        .map(HeaderName::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(value) = HeaderValue::from_str(&asked)
        .ok()
        .filter(|value| !value.is_empty())
    {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
    }
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE));
    answer.insert(
        VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    Some(answer)
}

/// Lets a page of a listed origin read the answer, a refusal as well.
pub(super) fn allow(head: &Parts, place: &Place, response: &mut Response<Body>) {
    if place.tool.as_ref().is_none_or(|tool| tool.origins.is_empty()) {
        return;
    }
    let headers = response.headers_mut();
    // A cache must not hand the answer for one origin to another.
    if headers.get_all(VARY).iter().all(|names| names != VARIES) {
        headers.append(VARY, HeaderValue::from_static(VARIES));
    }
    if let Some(origin) = listed(head, place) {
        headers
            .entry(ACCESS_CONTROL_ALLOW_ORIGIN)
            .or_insert_with(|| origin.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tool::{Address, Target, Tool};

    fn place() -> Place {
        let mut tool = Tool::own(Vec::new()).unwrap();
        tool.origins = vec!["https://viewer.example.org".into()];
        Place {
            address: Address::ToolHost,
            vo: None,
            unknown_vo: None,
            tool: Some(Arc::new(tool)),
            found: None,
            method: Method::OPTIONS,
            target: Target::parse("/jobs").unwrap(),
            host: "jobs.gw.example.org".into(),
        }
    }

    fn asked(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/jobs");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const ORIGIN: (&str, &str) = ("origin", "https://viewer.example.org");
    const PUT: (&str, &str) = ("access-control-request-method", "PUT");

    #[test]
    fn a_preflight_of_a_listed_origin_is_answered_without_credentials() {
        let names = (
            "access-control-request-headers",
            "authorization, x-op,X-Countersign-User, x_user, connection",
        );
        let answer = preflight(&asked("OPTIONS", &[ORIGIN, PUT, names]), &place()).unwrap();
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN.1);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "authorization, x-op");
        assert!(!answer.contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn whatever_is_no_such_preflight_goes_the_way_of_every_request() {
        for (method, headers) in [
            ("OPTIONS", &[("origin", "https://evil.example"), PUT][..]),
            (
                "OPTIONS",
                &[("origin", "https://viewer.example.org.evil.example"), PUT],
            ),
            ("OPTIONS", &[("origin", "HTTPS://viewer.example.org"), PUT]),
            ("OPTIONS", &[("origin", "null"), PUT]),
            ("OPTIONS", &[ORIGIN, ORIGIN, PUT]),
            ("OPTIONS", &[ORIGIN]),
            ("OPTIONS", &[PUT]),
            ("OPTIONS", &[ORIGIN, PUT, PUT]),
            ("OPTIONS", &[ORIGIN, ("access-control-request-method", "P T")]),
            ("OPTIONS", &[ORIGIN, PUT, ("cookie", "a=b")]),
            ("OPTIONS", &[ORIGIN, PUT, ("authorization", "Bearer x")]),
            ("GET", &[ORIGIN, PUT]),
        ] {
            assert!(
                preflight(&asked(method, headers), &place()).is_none(),
                "{method} {headers:?}"
            );
        }
        let mut unlisted = place();
        unlisted.tool = Some(Arc::new(Tool::own(Vec::new()).unwrap()));
        assert!(preflight(&asked("OPTIONS", &[ORIGIN, PUT]), &unlisted).is_none());
    }

    #[test]
    fn an_answer_names_the_listed_origin_that_asks_and_no_other() {
        let mut response = Response::new(body::empty());
        allow(&asked("GET", &[ORIGIN]), &place(), &mut response);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN.1);
        assert_eq!(response.headers()[VARY], "Origin");
        let mut response = Response::new(body::empty());
        allow(
            &asked("GET", &[("origin", "https://evil.example")]),
            &place(),
            &mut response,
        );
        assert_eq!(response.headers()[VARY], "Origin");
        assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let mut unlisted = place();
        unlisted.tool = Some(Arc::new(Tool::own(Vec::new()).unwrap()));
        let mut response = Response::new(body::empty());
        allow(&asked("GET", &[ORIGIN]), &unlisted, &mut response);
        assert!(response.headers().is_empty());
    }
}
