//! Framing: whether a request's head can be read in one way only. Refuses rather than repairs.
//!
//! For HTTP/1.1 the raw bytes were judged before they were parsed (`guard.rs`: a parser has already merged lengths and
//! dropped what it did not like); what it refused arrives here as [`Refused`]. The rules on the parsed head are the same
//! for HTTP/1.1 and HTTP/2.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderName, ORIGIN, RANGE,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use crate::forward::claims_identity;
use crate::problem::{AsProblem, Kind, Problem};
use crate::tool::Target;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of headers.
    pub headers: usize,
    /// The whole head, in bytes.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            headers: 100,
            header_bytes: 32 * 1024,
        }
    }
}

/// In the extensions of a request whose bytes were refused; nothing else of that request means anything.
#[derive(Clone, Debug)]
pub struct Refused(pub Problem);

/// What a well framed request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The host it is meant for.
    pub authority: Authority,
    /// The canonical target.
    pub target: Target,
}

/// A host and perhaps a port, as in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`: ASCII, no user, no path, no trailing dot, no empty port.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let end = if text.starts_with('[') {
            text.find(']')? + 1
        } else {
            text.find(':').unwrap_or(text.len())
        };
        let (host, port) = text.split_at(end);
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some(digits) if (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|port| *port != 0)?)
            }
            _ => return None,
        };
        is_host(host).then(|| Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// The host, lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host alone, lower case.
    #[must_use]
    pub fn into_host(self) -> String {
        self.host
    }

    /// The port, if one was given.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }
}

impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return v6.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// Headers of which two would leave it open which one counts.
const SINGLE: [HeaderName; 6] = [
    HOST,
    CONTENT_TYPE,
    ORIGIN,
    RANGE,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
];

/// Judges a head.
///
/// # Errors
/// The [`Problem`] to refuse it with: 400, 405, 431 or 501.
pub fn check(head: &Parts, limits: &Limits) -> Result<Asked, Problem> {
    if let Some(Refused(problem)) = head.extensions.get::<Refused>() {
        return Err(problem.clone());
    }
    let authority = authority(head)?;
    check_method(head)?;
    check_size(head, limits)?;
    check_length(head)?;
    check_single(head)?;
    // SECURITY: identity is the gateway's word; a client that says such a thing is refused, not corrected.
    if let Some(name) = claims_identity(&head.headers) {
        let detail = format!("the header `{}` is the gateway's word", shown(name.as_str()));
        return Err(Problem::new(Kind::IdentityHeader, detail));
    }
    // Over HTTP/1.1 the guard refuses a target with `#`. Over HTTP/2 the parser cuts a `:path` at its `#` before anything
    // here sees it; what is decided on, recorded and sent to the tool is that same shorter path, so there is one reading
    // (docs/decisions/0004-fragments-in-http-2.md).
    let path = head
        .uri
        .path_and_query()
        .ok_or_else(|| malformed("the target must be a path that begins with `/`"))?
        .as_str();
    let target = Target::parse(path).map_err(|error| error.as_problem())?;
    Ok(Asked { authority, target })
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::Malformed, detail)
}

/// A client's text, short and printable.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic() && *c != '`')
        .take(40)
        .collect()
}

/// The one host that the request is meant for (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
fn authority(head: &Parts) -> Result<Authority, Problem> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(malformed("there are two `Host` headers"));
    }
    let given = |text: &str| {
        Authority::parse(text)
            .ok_or_else(|| malformed("`Host` is not a plain host name with an optional port"))
    };
    let host = match host {
        Some(value) => Some(given(value.to_str().unwrap_or_default())?),
        None => None,
    };
    let in_target = match head.uri.authority() {
        Some(authority) => Some(given(authority.as_str())?),
        None => None,
    };
    check_form(head)?;
    match (head.version, host, in_target) {
        (Version::HTTP_11, Some(host), None) => Ok(host),
        (Version::HTTP_2, None, Some(target)) => Ok(target),
        (Version::HTTP_11 | Version::HTTP_2, Some(host), Some(target)) if host == target => Ok(host),
        (Version::HTTP_11 | Version::HTTP_2, Some(_), Some(_)) => {
            Err(malformed("the target and `Host` name two different hosts"))
        }
        (Version::HTTP_11 | Version::HTTP_2, _, _) => Err(malformed("the request names no host")),
        _ => Err(malformed("only HTTP/1.1 and HTTP/2 are served")),
    }
}

/// Origin form, or absolute form with `https`; never authority or asterisk form.
fn check_form(head: &Parts) -> Result<(), Problem> {
    let uri = &head.uri;
    let path = uri
        .path_and_query()
        .is_some_and(|path| path.as_str().starts_with('/'));
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if path && head.version == Version::HTTP_11 => Ok(()),
        (Some("https"), Some(_)) if path => Ok(()),
        // `CONNECT host:port` is refused for its method.
        (None, Some(_)) if head.method == Method::CONNECT => Ok(()),
        (Some(_), Some(_)) if path => Err(malformed("the scheme must be `https`")),
        _ => Err(malformed("the target must be a path that begins with `/`")),
    }
}

fn check_method(head: &Parts) -> Result<(), Problem> {
    let method = &head.method;
    if *method == Method::CONNECT || *method == Method::TRACE || method.as_str() == "TRACK" {
        return Err(Problem::new(
            Kind::MethodNotAllowed,
            format!("the method `{}` is not served", shown(method.as_str())),
        ));
    }
    let upgrade = head.headers.contains_key(UPGRADE)
        || head.headers.contains_key(SEC_WEBSOCKET_KEY)
        || head.extensions.get::<hyper::ext::Protocol>().is_some()
        || tokens(&head.headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    if !upgrade || is_websocket_handshake(head) {
        return Ok(());
    }
    let detail = if head.version == Version::HTTP_2 {
        "WebSocket and other protocols are served over HTTP/1.1 only: offer `http/1.1` alone in the TLS handshake (ALPN)"
    } else {
        "the request asks for another protocol, and is not a WebSocket handshake of version 13"
    };
    Err(Problem::new(Kind::NotImplemented, detail))
}

/// Whether a request is a whole and plain opening handshake of RFC 6455 section 4.1. Whether its task takes one is decided
/// later; every other use of `Upgrade` ends here.
fn is_websocket_handshake(head: &Parts) -> bool {
    let headers = &head.headers;
    let only = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    let key = only(&SEC_WEBSOCKET_KEY).and_then(|key| data_encoding::BASE64.decode(key.as_bytes()).ok());
    let empty = !headers.contains_key(TRANSFER_ENCODING)
        && headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
    head.version == Version::HTTP_11
        && head.method == Method::GET
        && only(&UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && only(&SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13")
        && key.is_some_and(|key| key.len() == 16)
        && empty
        && !headers.contains_key(EXPECT)
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim)
}

fn check_size(head: &Parts, limits: &Limits) -> Result<(), Problem> {
    let bytes: usize = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if head.headers.len() > limits.headers {
        let detail = format!("there are more than {} headers", limits.headers);
        return Err(Problem::new(Kind::HeadersTooLarge, detail));
    }
    if bytes > limits.header_bytes {
        let detail = format!("the head is larger than {} bytes", limits.header_bytes);
        return Err(Problem::new(Kind::HeadersTooLarge, detail));
    }
    Ok(())
}

/// One length, told in one way (RFC 9112 section 6.3).
fn check_length(head: &Parts) -> Result<(), Problem> {
    let lengths: Vec<_> = head.headers.get_all(CONTENT_LENGTH).iter().collect();
    let codings: Vec<_> = head.headers.get_all(TRANSFER_ENCODING).iter().collect();
    check_lengths(
        &lengths.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(),
        &codings.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(),
    )?;
    if head.version == Version::HTTP_2 && !codings.is_empty() {
        return Err(malformed("HTTP/2 has no `Transfer-Encoding`"));
    }
    Ok(())
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Fixed(u64),
    Chunked,
}

/// The one reading of these `Content-Length` and `Transfer-Encoding` values.
pub(super) fn check_lengths(lengths: &[&[u8]], codings: &[&[u8]]) -> Result<Length, Problem> {
    match (lengths, codings) {
        ([], []) => Ok(Length::Fixed(0)),
        ([length], []) => {
            let digits = std::str::from_utf8(length)
                .ok()
                .filter(|text| (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            length
                .map(Length::Fixed)
                .ok_or_else(|| malformed("`Content-Length` is not a plain number"))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Length::Chunked),
        ([], _) => Err(malformed("`Transfer-Encoding` is not exactly `chunked`")),
        (_, []) => Err(malformed("there are two `Content-Length` headers")),
        _ => Err(malformed(
            "there are both `Content-Length` and `Transfer-Encoding`",
        )),
    }
}

fn check_single(head: &Parts) -> Result<(), Problem> {
    let twice = |name: &HeaderName| head.headers.get_all(name).iter().nth(1).is_some();
    if twice(&AUTHORIZATION) {
        return Err(Problem::new(
            Kind::TwoCredentials,
            "there are two `Authorization` headers",
        ));
    }
    if let Some(name) = SINGLE.iter().find(|name| twice(name)) {
        return Err(malformed(format!("there are two `{name}` headers")));
    }
    if head.version == Version::HTTP_11 && twice(&COOKIE) {
        return Err(malformed("there are two `Cookie` headers"));
    }
    match head.headers.get(EXPECT) {
        Some(value) if twice(&EXPECT) || !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(malformed("`Expect` asks for something other than `100-continue`"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(version: Version, method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Asked, Kind> {
        let mut request = http::Request::builder().version(version).method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(
            &head,
            &Limits {
                headers: 8,
                header_bytes: 400,
            },
        )
        .map_err(|problem| problem.kind)
    }

    #[test]
    fn a_plain_request_says_where_it_goes() {
        for (version, uri, headers) in [
            (
                Version::HTTP_11,
                "/jobs?a=b",
                &[("host", "GW.example.org:8443")][..],
            ),
            (
                Version::HTTP_11,
                "https://gw.example.org:8443/jobs?a=b",
                &[("host", "gw.example.org:8443")],
            ),
            (Version::HTTP_2, "https://gw.example.org:8443/jobs?a=b", &[]),
            (
                Version::HTTP_2,
                "https://gw.example.org:8443/jobs?a=b",
                &[("host", "gw.example.org:8443"), ("cookie", "a"), ("cookie", "b")],
            ),
        ] {
            let asked = judged(version, "GET", uri, headers).unwrap();
            assert_eq!(
                (asked.authority.host(), asked.authority.port()),
                ("gw.example.org", Some(8443))
            );
            assert_eq!(asked.target.as_str(), "/jobs?a=b");
        }
    }

    /// Method, target, headers, and the problem.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Kind);

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use Kind::*;
        let long = "a".repeat(401);
        let h1: &[Case] = &[
            ("GET", "/", &[], Malformed),
            ("GET", "/", &[("host", "a"), ("host", "a")], Malformed),
            ("GET", "/", &[("host", "a/b")], Malformed),
            ("GET", "/", &[("host", "u@a")], Malformed),
            ("GET", "/", &[("host", "")], Malformed),
            ("GET", "/", &[("host", "a.")], Malformed),
            ("GET", "/", &[("host", "a..b")], Malformed),
            ("GET", "/", &[("host", "a:")], Malformed),
            ("GET", "/", &[("host", "a:0")], Malformed),
            ("GET", "/", &[("host", "a:99999")], Malformed),
            ("GET", "/", &[("host", "a, b")], Malformed),
            ("GET", "https://other/", &[("host", "a")], Malformed),
            ("GET", "https://a:1/", &[("host", "a")], Malformed),
            ("GET", "http://a/", &[("host", "a")], Malformed),
            ("OPTIONS", "*", &[("host", "a")], Malformed),
            ("GET", "foo", &[("host", "foo")], Malformed),
            ("GET", "/a/../b", &[("host", "a")], BadTarget),
            ("GET", "/a%2fb", &[("host", "a")], BadTarget),
            ("CONNECT", "a:443", &[("host", "a:443")], MethodNotAllowed),
            ("TRACE", "/", &[("host", "a")], MethodNotAllowed),
            (
                "GET",
                "/",
                &[("host", "a"), ("upgrade", "websocket"), ("connection", "upgrade")],
                NotImplemented,
            ),
            (
                "GET",
                "/",
                &[("host", "a"), ("connection", "close, Upgrade")],
                NotImplemented,
            ),
            (
                "POST",
                "/",
                &[("host", "a"), ("content-length", "1"), ("content-length", "1")],
                Malformed,
            ),
            (
                "POST",
                "/",
                &[("host", "a"), ("content-length", "1, 1")],
                Malformed,
            ),
            ("POST", "/", &[("host", "a"), ("content-length", "+1")], Malformed),
            ("POST", "/", &[("host", "a"), ("content-length", "-1")], Malformed),
            (
                "POST",
                "/",
                &[("host", "a"), ("content-length", "0x1")],
                Malformed,
            ),
            ("POST", "/", &[("host", "a"), ("content-length", "")], Malformed),
            (
                "POST",
                "/",
                &[("host", "a"), ("content-length", "9999999999999999999")],
                Malformed,
            ),
            (
                "POST",
                "/",
                &[
                    ("host", "a"),
                    ("content-length", "1"),
                    ("transfer-encoding", "chunked"),
                ],
                Malformed,
            ),
            (
                "POST",
                "/",
                &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
                Malformed,
            ),
            (
                "POST",
                "/",
                &[
                    ("host", "a"),
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                Malformed,
            ),
            (
                "POST",
                "/",
                &[("host", "a"), ("transfer-encoding", "xchunked")],
                Malformed,
            ),
            (
                "GET",
                "/",
                &[
                    ("host", "a"),
                    ("authorization", "Bearer a"),
                    ("authorization", "Bearer b"),
                ],
                TwoCredentials,
            ),
            (
                "GET",
                "/",
                &[("host", "a"), ("cookie", "a=1"), ("cookie", "b=1")],
                Malformed,
            ),
            (
                "GET",
                "/",
                &[("host", "a"), ("origin", "https://a"), ("origin", "https://b")],
                Malformed,
            ),
            ("GET", "/", &[("host", "a"), ("expect", "200-ok")], Malformed),
            (
                "GET",
                "/",
                &[("host", "a"), ("x-countersign-user", "root")],
                IdentityHeader,
            ),
            (
                "GET",
                "/",
                &[("host", "a"), ("X_Countersign.User", "root")],
                IdentityHeader,
            ),
            ("GET", "/", &[("host", "a"), ("x-a", &long)], HeadersTooLarge),
            (
                "GET",
                "/",
                &[
                    ("host", "a"),
                    ("x", "1"),
                    ("x", "1"),
                    ("x", "1"),
                    ("x", "1"),
                    ("x", "1"),
                    ("x", "1"),
                    ("x", "1"),
                    ("x", "1"),
                ],
                HeadersTooLarge,
            ),
        ];
        for (method, uri, headers, kind) in h1 {
            let got = judged(Version::HTTP_11, method, uri, headers);
            assert_eq!(got.as_ref().err(), Some(kind), "{method} {uri} {headers:?}");
        }
        for version in [Version::HTTP_10, Version::HTTP_09, Version::HTTP_3] {
            assert_eq!(judged(version, "GET", "/", &[("host", "a")]), Err(Malformed));
        }
        for (uri, headers) in [
            ("https://a/", &[("host", "b")][..]),
            ("https://u@a/", &[]),
            ("http://a/", &[]),
            ("/", &[]),
            ("https://a/", &[("transfer-encoding", "chunked")]),
        ] {
            assert_eq!(
                judged(Version::HTTP_2, "GET", uri, headers),
                Err(Malformed),
                "{uri} {headers:?}"
            );
        }
    }

    #[test]
    fn what_the_guard_refused_is_refused() {
        let mut request = http::Request::get("/").header("host", "a").body(()).unwrap();
        request.extensions_mut().insert(Refused(malformed("bare LF")));
        let (head, ()) = request.into_parts();
        assert_eq!(check(&head, &Limits::default()).unwrap_err().detail, "bare LF");
    }

    proptest! {
        #[test]
        fn an_authority_reads_what_it_shows(text in "\\PC{0,20}|[a-z0-9.:\\[\\]-]{0,24}") {
            if let Some(authority) = Authority::parse(&text) {
                prop_assert_eq!(authority.to_string().len(), text.len() - text.rsplit_once(':').map_or(0, |(_, port)| {
                    if authority.port().is_some() { port.len() - port.trim_start_matches('0').len() } else { 0 }
                }));
                prop_assert_eq!(Authority::parse(&authority.to_string()), Some(authority));
                prop_assert!(text.is_ascii() && !text.contains(['/', '@', ' ', ',']));
            }
        }
    }
}
