//! Answers of the console: pages, redirects, files, each with the headers that keep it from being used against people.

use http::{HeaderValue, Response, StatusCode, header};

use crate::body::{self, Body};
use crate::problem::Problem;

/// No script, nothing from elsewhere, no frames, forms only to this host.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

fn plain(status: StatusCode, kind: &'static str, content: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // SECURITY: tools live on neighbouring hosts of the same site, where cookies travel along; their pages may not
    // embed what stands here.
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    // `no-referrer` would make browsers send `Origin: null` with the page's own forms (Fetch section 3.2).
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// A page.
pub(super) fn page(status: StatusCode, text: String) -> Response<Body> {
    plain(status, "text/html; charset=utf-8", text)
}

/// A page that answers a problem of a form.
pub(super) fn refused(problem: &Problem, text: String) -> Response<Body> {
    let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = page(status, text);
    if let Some(seconds) = problem.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer realm=\"countersign\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    response
}

/// A problem in plain words, for whoever reads no pages.
pub(super) fn told(problem: &Problem, status: StatusCode, text: String) -> Response<Body> {
    let mut response = plain(status, "text/plain; charset=utf-8", text);
    if let Some(seconds) = problem.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A JSON document.
pub(super) fn json(value: &serde_json::Value) -> Response<Body> {
    plain(StatusCode::OK, "application/json", format!("{value}\n"))
}

/// A text that is made anew when it changes.
pub(super) fn text(kind: &'static str, content: String) -> Response<Body> {
    plain(StatusCode::OK, kind, content)
}

/// A public file; it may be kept for an hour.
pub(super) fn file(kind: &'static str, content: &'static str) -> Response<Body> {
    let mut response = plain(StatusCode::OK, kind, content);
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    response
}

/// Nothing more to say.
pub(super) fn nothing() -> Response<Body> {
    plain(StatusCode::NO_CONTENT, "text/plain", "")
}

/// Sends the browser elsewhere with a GET (RFC 9110 section 15.4.4).
pub(super) fn see_other(location: &str) -> Response<Body> {
    let mut response = plain(StatusCode::SEE_OTHER, "text/plain", "");
    // What is not a header value is no address of ours.
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// The same answer, with a cookie set or taken away.
pub(super) fn with_cookie(mut response: Response<Body>, line: &str) -> Response<Body> {
    if let Ok(mut value) = HeaderValue::from_str(line) {
        value.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}
