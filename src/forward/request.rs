//! The head that a tool gets: the client's, minus credentials and identity, plus the gateway's word.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TE, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::names;
use super::response::REQUEST_ID;
use crate::authenticate::Source;
use crate::delegate::Credential;
use crate::id::{PersonId, RequestId};
use crate::tool::{Address, Tool, Upgrade};
use crate::vo::UpstreamAddress;

/// Beginning of the gateway's own bearer tokens.
const OUR_TOKEN: &str = "cst_";

const USER: HeaderName = HeaderName::from_static("x-countersign-user");
const VO: HeaderName = HeaderName::from_static("x-countersign-vo");
const TASK: HeaderName = HeaderName::from_static("x-countersign-task");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What the gateway says about a request.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who asks; `None` for anonymous.
    pub person: Option<PersonId>,
    /// Name of the VO.
    pub vo: String,
    /// Name of the task.
    pub task: String,
    /// The request.
    pub request: RequestId,
}

/// What is needed to write the head, besides the client's headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub tool: &'a Tool,
    pub identity: &'a Identity,
    pub credential: &'a Credential,
    pub address: Address,
    /// As the client wrote it: host and, if not the default, port.
    pub public_host: &'a str,
    pub client: Source,
    /// The `Host` that the tool sees ([`host`]).
    pub host: &'a str,
    pub hop: Hop,
}

/// How the next hop is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    Http1,
    Http2,
    /// HTTP/1.1, on a connection that is to be switched.
    Switch(Upgrade),
}

/// A header cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of `{0}` cannot stand in a header")]
pub struct UnfitHeader(pub(super) String);

/// The headers that the tool gets.
///
/// # Errors
/// [`UnfitHeader`] when a value of ours has bytes that no header may have.
pub(super) fn headers(mut headers: HeaderMap, context: &Context<'_>) -> Result<HeaderMap, UnfitHeader> {
    let trailers = takes_trailers(&headers);
    drop_credentials(&mut headers, context);
    names::drop_hop_by_hop(&mut headers);
    // SECURITY: a tool takes these for the gateway's word, so none of a client's may pass, in any spelling.
    names::drop_if(&mut headers, names::is_claim);
    keep_cookies(&mut headers, context);
    // SECURITY: the tool's trace is the gateway's to name; a stranger's would join anybody's.
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
    // INVARIANT: ours are written last, so nothing a client sends (`Connection` included) takes them away.
    write_ours(&mut headers, context)?;
    write_hop(&mut headers, context.hop, trailers);
    Ok(headers)
}

/// Whether the client takes trailers (RFC 9110 section 10.1.4).
fn takes_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("trailers"))
}

/// What is said to the next hop alone.
fn write_hop(headers: &mut HeaderMap, hop: Hop, trailers: bool) {
    let te = HeaderValue::from_static("trailers");
    match hop {
        Hop::Http1 if trailers => {
            headers.insert(TE, te);
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        Hop::Http2 => {
            if trailers {
                headers.insert(TE, te);
            }
            // `:authority` says it (RFC 9113 section 8.3.1).
            headers.remove(HOST);
        }
        Hop::Switch(upgrade) => {
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade.as_str()));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        Hop::Http1 => {}
    }
}

/// Makes a request for a list that will be filtered: whole, unencoded and unconditional (tools.md, "Lists").
pub fn ask_for_whole_list(headers: &mut HeaderMap) {
    for name in [
        RANGE,
        IF_RANGE,
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
    ] {
        headers.remove(name);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

fn drop_credentials(headers: &mut HeaderMap, context: &Context<'_>) {
    let foreign = context.tool.foreign_authorization
        && headers.get_all(AUTHORIZATION).iter().count() == 1
        && headers.get(AUTHORIZATION).is_some_and(is_foreign);
    if !foreign {
        headers.remove(AUTHORIZATION);
    }
    // The length is written anew from the body, which was checked against it.
    headers.remove(CONTENT_LENGTH);
    headers.remove(HOST);
    // SECURITY: the header in which the tool expects the gateway's own credential is never a client's.
    if let Some(name) = &context.tool.credential_header
        && let Ok(name) = HeaderName::from_bytes(name.as_bytes())
        && name != AUTHORIZATION
    {
        headers.remove(name);
    }
}

/// Whether an `Authorization` value is in a scheme that is not the gateway's.
fn is_foreign(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let scheme = text.trim_start().split([' ', '\t']).next().unwrap_or_default();
    !scheme.eq_ignore_ascii_case("basic") && !text.contains(OUR_TOKEN)
}

fn keep_cookies(headers: &mut HeaderMap, context: &Context<'_>) {
    if !headers.contains_key(COOKIE) {
        return;
    }
    let values: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    if context.address != Address::ToolHost || !context.tool.keep_cookies {
        return;
    }
    // HTTP/2 may split a cookie header (RFC 9113 section 8.2.3); the tool gets it whole.
    let kept: Vec<&[u8]> = values
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty() && !is_our_pair(pair))
        .collect();
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
    {
        headers.insert(COOKIE, value);
    }
}

fn is_our_pair(pair: &[u8]) -> bool {
    let name = pair.split(|b| *b == b'=').next().unwrap_or_default();
    names::is_our_cookie(&String::from_utf8_lossy(name))
}

fn write_ours(headers: &mut HeaderMap, context: &Context<'_>) -> Result<(), UnfitHeader> {
    let identity = context.identity;
    let mut ours = Ours::new(headers);
    if let Some(person) = identity.person {
        let text = &mut uuid::Uuid::encode_buffer();
        ours.write(USER, &[person.uuid().hyphenated().encode_lower(text)])?;
    }
    ours.write(VO, &[&identity.vo])?;
    ours.write(TASK, &[&identity.task])?;
    let text = &mut uuid::Uuid::encode_buffer();
    let request = identity.request.uuid().hyphenated().encode_lower(text);
    ours.write(REQUEST_ID, &[request])?;
    ours.write(FORWARDED_HOST, &[context.public_host])?;
    let host = context.public_host;
    let forwarded = |node: [&'static str; 2], peer: &str, ours: &mut Ours<'_>| {
        let [before, after] = node;
        let parts = ["for=", before, peer, after, ";host=\"", host, "\";proto=https"];
        ours.write(FORWARDED, &parts)
    };
    match context.client {
        Source::Ip(ip) => {
            let ip = ip.to_canonical();
            let peer = ip.to_string();
            ours.write(FORWARDED_FOR, &[&peer])?;
            forwarded(node(ip), &peer, &mut ours)?;
        }
        Source::Local => forwarded(["", ""], "unknown", &mut ours)?,
    }
    if context.address == Address::Path {
        ours.write(FORWARDED_PREFIX, &["/", &identity.vo, "/", &context.tool.name])?;
    }
    ours.write(HOST, &[context.host])?;
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    for (name, value) in context.credential.headers() {
        let mut value =
            HeaderValue::from_str(value.expose()).map_err(|_| UnfitHeader("credential".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(name.clone(), value);
    }
    Ok(())
}

/// Writes the gateway's own headers. All values lie in one piece of memory.
struct Ours<'a> {
    headers: &'a mut HeaderMap,
    room: BytesMut,
}

impl<'a> Ours<'a> {
    /// Bytes that the values of most requests take together.
    const USUAL: usize = 384;

    fn new(headers: &'a mut HeaderMap) -> Self {
        Self {
            headers,
            room: BytesMut::with_capacity(Self::USUAL),
        }
    }

    /// Sets a header to these parts, one after the other.
    fn write(&mut self, name: HeaderName, parts: &[&str]) -> Result<(), UnfitHeader> {
        for part in parts {
            self.room.extend_from_slice(part.as_bytes());
        }
        let value = self.room.split().freeze();
        let value = visible(value).ok_or_else(|| UnfitHeader(name.as_str().to_owned()))?;
        self.headers.insert(name, value);
        Ok(())
    }
}

/// A value of visible ASCII; others mean different things to different readers (RFC 9110 section 5.5).
fn visible(value: Bytes) -> Option<HeaderValue> {
    let value = value.is_ascii().then(|| HeaderValue::from_maybe_shared(value))?;
    value.ok()
}

/// What stands around an address in a node identifier of RFC 7239 section 6.
const fn node(ip: IpAddr) -> [&'static str; 2] {
    match ip {
        IpAddr::V4(_) => ["", ""],
        IpAddr::V6(_) => ["\"[", "]\""],
    }
}

/// The `Host` that the tool sees (tools.md, `host_header`).
pub(super) fn host<'a>(tool: &Tool, address: Address, own: &'a str, public: &'a str) -> &'a str {
    let upstream = tool.upstream_host_header.unwrap_or(address != Address::ToolHost);
    if upstream { own } else { public }
}

/// The authority under which an upstream knows itself.
pub(super) fn upstream_host(address: &UpstreamAddress) -> String {
    let (host, port, usual) = match address {
        UpstreamAddress::Tcp(host, port) => (host, *port, 80),
        UpstreamAddress::Tls { host, port, .. } => (host, *port, 443),
        UpstreamAddress::Unix(_) => return "localhost".to_owned(),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = if bare.contains(':') {
        format!("[{bare}]")
    } else {
        bare.to_ascii_lowercase()
    };
    if port == usual {
        host
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tests::{identity, tool};
    use proptest::prelude::*;

    fn sent(address: Address, change: impl Fn(&mut Tool), client: &[(&str, &str)]) -> HeaderMap {
        let mut tool = tool();
        change(&mut tool);
        let mut raw = HeaderMap::new();
        for (name, value) in client {
            raw.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let context = Context {
            tool: &tool,
            identity: &identity(),
            credential: &Credential::None,
            address,
            public_host: "jobs.gw.example.org:8443",
            client: Source::Ip("2001:db8::9".parse().unwrap()),
            host: host(&tool, address, "ce.internal:8080", "jobs.gw.example.org:8443"),
            hop: Hop::Http1,
        };
        headers(raw, &context).unwrap()
    }

    #[test]
    fn the_gateway_says_who_asks_and_nothing_takes_it_away() {
        let headers = sent(
            Address::ToolHost,
            |_| {},
            &[
                (
                    "connection",
                    "close, x-countersign-user, x-forwarded-for, host, x-secret",
                ),
                ("x-countersign-user", "root"),
                ("x-secret", "1"),
                ("x-forwarded-for", "6.6.6.6"),
                ("forwarded", "for=6.6.6.6"),
                ("host", "evil.example"),
            ],
        );
        let identity = identity();
        assert_eq!(
            headers["x-countersign-user"],
            identity.person.unwrap().to_string()
        );
        assert_eq!(headers.get_all("x-countersign-user").iter().count(), 1);
        assert_eq!(headers["x-countersign-vo"], "imense");
        assert_eq!(headers["x-countersign-task"], "submit job");
        assert_eq!(headers["x-countersign-request-id"], identity.request.to_string());
        assert_eq!(headers["x-forwarded-for"], "2001:db8::9");
        assert_eq!(
            headers["forwarded"],
            "for=\"[2001:db8::9]\";host=\"jobs.gw.example.org:8443\";proto=https"
        );
        assert_eq!(headers["host"], "jobs.gw.example.org:8443");
        assert!(!headers.contains_key("x-secret") && !headers.contains_key("connection"));
    }

    #[test]
    fn the_path_form_sends_the_upstreams_host_a_prefix_and_no_cookie() {
        let headers = sent(
            Address::Path,
            |_| {},
            &[("cookie", "tool=1; __Host-countersign=abc")],
        );
        assert_eq!(headers["host"], "ce.internal:8080");
        assert_eq!(headers["x-forwarded-prefix"], "/imense/jobs");
        assert!(!headers.contains_key("cookie"));
        let headers = sent(Address::Path, |tool| tool.upstream_host_header = Some(false), &[]);
        assert_eq!(headers["host"], "jobs.gw.example.org:8443");
    }

    #[test]
    fn our_cookies_go_and_the_tools_own_stay_whole() {
        let client = [
            ("cookie", "a=1; __Host-countersign=abc; b=2"),
            ("cookie", "__HOST-Countersign-nonce=x;c=3"),
        ];
        assert_eq!(
            sent(Address::ToolHost, |_| {}, &client)["cookie"],
            "a=1; b=2; c=3"
        );
        assert!(!sent(Address::ToolHost, |tool| tool.keep_cookies = false, &client).contains_key("cookie"));
    }

    #[test]
    fn authorization_passes_only_in_foreign_schemes_and_only_when_the_tool_wants_it() {
        let foreign = |tool: &mut Tool| tool.foreign_authorization = true;
        for ours in [
            "Bearer cst_abc",
            "bearer  cst_abc",
            "Basic am9objpz",
            "BASIC x",
            "Token cst_abc",
        ] {
            assert!(
                !sent(Address::Path, foreign, &[("authorization", ours)]).contains_key("authorization"),
                "{ours}"
            );
        }
        let digest = [("authorization", "Digest username=\"a\"")];
        assert!(sent(Address::Path, foreign, &digest).contains_key("authorization"));
        assert!(!sent(Address::Path, |_| {}, &digest).contains_key("authorization"));
        let two = [("authorization", "Digest a"), ("authorization", "Basic b")];
        assert!(!sent(Address::Path, foreign, &two).contains_key("authorization"));
    }

    #[test]
    fn the_header_of_the_static_credential_is_never_a_clients() {
        let headers = sent(
            Address::Path,
            |tool| tool.credential_header = Some("X-Api-Key".into()),
            &[("x-api-key", "mine")],
        );
        assert!(!headers.contains_key("x-api-key"));
    }

    #[test]
    fn a_clients_trace_context_ends_here() {
        let client = [
            (
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
            ("tracestate", "a=b"),
        ];
        let headers = sent(Address::Path, |_| {}, &client);
        assert!(!headers.contains_key("traceparent") && !headers.contains_key("tracestate"));
    }

    #[test]
    fn hop_by_hop_headers_end_here_and_ordinary_ones_pass() {
        let headers = sent(
            Address::Path,
            |_| {},
            &[
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("proxy-authorization", "x"),
                ("keep-alive", "1"),
                ("expect", "100-continue"),
                ("proxy", "http://evil"),
                ("accept", "*/*"),
                ("range", "bytes=0-1"),
                ("content-type", "a/b"),
                ("content_type", "c/d"),
            ],
        );
        let mut names: Vec<&str> = headers
            .keys()
            .map(HeaderName::as_str)
            .filter(|name| !name.starts_with("x-"))
            .collect();
        names.sort_unstable();
        // What the client said of trailers is said anew, for the next hop.
        assert_eq!(
            names,
            [
                "accept",
                "connection",
                "content-type",
                "forwarded",
                "host",
                "range",
                "te"
            ]
        );
        assert_eq!(
            (&headers["te"], &headers["connection"]),
            (&"trailers".parse().unwrap(), &"te".parse().unwrap())
        );
    }

    #[test]
    fn a_list_that_will_be_filtered_is_asked_for_whole() {
        let mut headers = HeaderMap::new();
        for name in ["range", "if-none-match", "if-range", "accept-encoding"] {
            headers.insert(name, "gzip".parse().unwrap());
        }
        ask_for_whole_list(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["accept-encoding"], "identity");
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_the_identity_is_the_gateways(
            client in prop::collection::vec(("[xX][-_.!](countersign|forwarded|auth|user|real|remote)[-_.a-zA-Z]{0,12}", "[a-z]{1,8}"), 0..8),
            connection in "[a-z, -]{0,40}",
        ) {
            let mut raw: Vec<(&str, &str)> = client.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            raw.push(("connection", &connection));
            let clean = sent(Address::Path, |_| {}, &[]);
            prop_assert_eq!(sent(Address::Path, |_| {}, &raw), clean);
        }
    }
}
