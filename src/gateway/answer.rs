//! Turns stops and answers into what the client sees: problem documents for programs, pages and redirects for people,
//! and the headers that every answer carries.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::cors;
use crate::body::{self, Body};
use crate::forward::REQUEST_ID;
use crate::id::RequestId;
use crate::problem::{Kind, Problem};
use crate::tool::{Address, Place};

/// Methods that a task can have.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What people see instead of a problem document. The console implements it; the gateway knows only this.
pub trait Pages: Send + Sync {
    /// A problem as a page.
    fn problem(&self, problem: &Problem, request: RequestId) -> String;
    /// Where a browser that is not signed in is sent instead of a 401; `None` for everything that is not a navigation.
    fn sign_in(&self, head: &Parts, place: &Place, base: &str) -> Option<Response<Body>>;
    /// The same for one whose session has too little assurance.
    fn step_up(&self, head: &Parts, place: &Place, base: &str) -> Option<Response<Body>>;
    /// The same for one who has terms of use yet to accept.
    fn terms(&self, head: &Parts, place: &Place, base: &str) -> Option<Response<Body>>;
}

/// Makes answers.
pub(crate) struct Answers {
    base: String,
    /// What follows a host: `:8443`, or nothing for the usual port.
    port: String,
    hsts: bool,
    pages: Arc<dyn Pages>,
}

impl Answers {
    /// `base` is the gateway's own origin, e.g. `https://gw.example.org:8443`; `hsts` is off while the server
    /// certificate is from the private CA of first use.
    pub(crate) fn new(base: String, hsts: bool, pages: Arc<dyn Pages>) -> Self {
        let port = base
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        let port = port.filter(|port| *port != 443);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Self {
            base,
            port,
            hsts,
            pages,
        }
    }

    /// The gateway's own origin.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Host and port under which the client reached this place.
    pub(crate) fn public_host(&self, place: &Place) -> String {
        [&*place.host, &self.port].concat()
    }

    /// A refusal: a redirect to the sign-in for a browser that navigates, a page for one that reads HTML, else a document.
    pub(crate) fn problem(
        &self,
        head: &Parts,
        request: RequestId,
        place: Option<&Place>,
        problem: &Problem,
    ) -> Response<Body> {
        if let Some(place) = place
            && let Some(response) = self.elsewhere(head, place, problem)
        {
            return self.dress(response, request, place);
        }
        let mut response = self.document(head, request, problem);
        if problem.kind.status() == 401 {
            self.challenge(&mut response, place, problem);
        }
        match place {
            Some(place) => {
                cors::allow(head, place, &mut response);
                self.dress(response, request, place)
            }
            None => self.mark(response, request),
        }
    }

    /// Where a browser that navigates is sent instead of the refusal.
    fn elsewhere(&self, head: &Parts, place: &Place, problem: &Problem) -> Option<Response<Body>> {
        match problem.kind {
            Kind::NoCredential | Kind::PasswordChangeRequired => self.pages.sign_in(head, place, &self.base),
            Kind::StepUpRequired => self.pages.step_up(head, place, &self.base),
            Kind::TermsNotAccepted => self.pages.terms(head, place, &self.base),
            _ => None,
        }
    }

    /// The answer when not even an id can be made.
    pub(crate) fn unnamed(&self) -> Response<Body> {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    }

    /// A problem after the intent (the tool failed, the resource refused).
    pub(crate) fn acted(
        &self,
        head: &Parts,
        request: RequestId,
        place: &Place,
        problem: &Problem,
    ) -> Response<Body> {
        let mut response = self.document(head, request, problem);
        cors::allow(head, place, &mut response);
        self.dress(response, request, place)
    }

    fn document(&self, head: &Parts, request: RequestId, problem: &Problem) -> Response<Body> {
        let (kind, text) = if wants_page(head) {
            ("text/html; charset=utf-8", self.pages.problem(problem, request))
        } else {
            (
                "application/problem+json",
                problem.document(&self.base, request).to_string() + "\n",
            )
        };
        let mut response = Response::new(body::full(text));
        *response.status_mut() =
            StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // SECURITY: on every refusal, so that it does not tell which tools list origins.
        headers.insert(header::VARY, HeaderValue::from_static(cors::VARIES));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'",
            ),
        );
        if problem.kind == Kind::MethodNotAllowed {
            // RFC 9110 section 15.5.6: what is served at all; a task says more, and whether there is one is not for strangers.
            headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
        }
        if let Some(seconds) = problem.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// `WWW-Authenticate`: Bearer everywhere; Basic only where a tool takes it, and never in the path form, where a
    /// browser would ask for the account password in the gateway's own origin.
    fn challenge(&self, response: &mut Response<Body>, place: Option<&Place>, problem: &Problem) {
        let headers = response.headers_mut();
        if let Some(challenge) = step_up_challenge(problem) {
            headers.append(header::WWW_AUTHENTICATE, challenge);
            return;
        }
        headers.append(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"countersign\""),
        );
        let basic = place.is_some_and(|place| {
            place.address == Address::ToolHost && place.tool.as_ref().is_some_and(|tool| tool.basic)
        });
        if basic {
            headers.append(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"countersign\", charset=\"UTF-8\""),
            );
        }
    }

    /// What every answer of a place carries.
    pub(crate) fn dress(
        &self,
        mut response: Response<Body>,
        request: RequestId,
        place: &Place,
    ) -> Response<Body> {
        if place.address == Address::Path {
            // SECURITY: a tool's page under the gateway's own origin must not be able to act there.
            let headers = response.headers_mut();
            headers.insert(
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("sandbox"),
            );
            headers.insert(
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            );
        }
        self.mark(response, request)
    }

    fn mark(&self, mut response: Response<Body>, request: RequestId) -> Response<Body> {
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&request.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        if self.hsts {
            headers.insert(
                header::STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static("max-age=31536000"),
            );
        }
        response
    }
}

/// What asks for more assurance (RFC 9470 section 3); `None` for any other problem.
pub(crate) fn step_up_challenge(problem: &Problem) -> Option<HeaderValue> {
    let acr = problem.members.get("acr_values").and_then(|acr| acr.as_str());
    let acr = acr.filter(|_| problem.kind == Kind::StepUpRequired)?;
    let challenge = format!("Bearer error=\"insufficient_user_authentication\", acr_values=\"{acr}\"");
    HeaderValue::from_str(&challenge).ok()
}

/// Whether the client would rather see a page: it navigates, or asks for HTML before anything else.
fn wants_page(head: &Parts) -> bool {
    let accept = head
        .headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    (head.method == Method::GET || head.method == Method::POST || head.method == Method::HEAD)
        && accept
            .split(',')
            .next()
            .is_some_and(|first| first.trim().starts_with("text/html"))
}
