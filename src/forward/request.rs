//! The head that a tool gets: the client's, minus credentials and identity, plus the gateway's word.

use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::credential::Credential;
use super::names;
use crate::authenticate::Source;
use crate::id::{PersonId, RequestId};
use crate::tool::{Address, Tool};
use crate::vo::UpstreamAddress;

/// Beginning of the gateway's own bearer tokens.
const OUR_TOKEN: &str = "cst_";

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
    pub upstream: &'a UpstreamAddress,
    pub identity: &'a Identity,
    pub credential: &'a Credential,
    pub address: Address,
    /// As the client wrote it: host and, if not the default, port.
    pub public_host: &'a str,
    pub client: Source,
}

/// A header cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of `{0}` cannot stand in a header")]
pub struct UnfitHeader(&'static str);

/// The headers that the tool gets.
///
/// # Errors
/// [`UnfitHeader`] when a value of ours has bytes that no header may have.
pub(super) fn headers(mut headers: HeaderMap, context: &Context<'_>) -> Result<HeaderMap, UnfitHeader> {
    drop_credentials(&mut headers, context);
    names::drop_hop_by_hop(&mut headers);
    // SECURITY: a tool takes these for the gateway's word, so none of a client's may pass, in any spelling.
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| names::is_claim(name.as_str()))
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
    keep_cookies(&mut headers, context);
    keep_trace(&mut headers);
    // INVARIANT: ours are written last, so nothing a client sends (`Connection` included) takes them away.
    write_ours(&mut headers, context)?;
    Ok(headers)
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

/// Passes on a valid trace context (W3C Trace Context level 1) and drops any other.
fn keep_trace(headers: &mut HeaderMap) {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let valid = values.next().is_some_and(|value| is_traceparent(value.as_bytes())) && values.next().is_none();
    if !valid {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
}

fn is_traceparent(value: &[u8]) -> bool {
    let parts: Vec<&[u8]> = value.split(|b| *b == b'-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else {
        return false;
    };
    let hex = |part: &[u8], length: usize| {
        part.len() == length && part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    *version == b"00" && hex(trace, 32) && !zero(trace) && hex(parent, 16) && !zero(parent) && hex(flags, 2)
}

fn write_ours(headers: &mut HeaderMap, context: &Context<'_>) -> Result<(), UnfitHeader> {
    let identity = context.identity;
    let mut write = |name: &'static str, value: &str| {
        let value = HeaderValue::from_str(value).map_err(|_| UnfitHeader(name))?;
        headers.insert(HeaderName::from_static(name), value);
        Ok(())
    };
    if let Some(person) = identity.person {
        write("x-countersign-user", &person.to_string())?;
    }
    write("x-countersign-vo", &identity.vo)?;
    write("x-countersign-task", &identity.task)?;
    write("x-countersign-request-id", &identity.request.to_string())?;
    write("x-forwarded-proto", "https")?;
    write("x-forwarded-host", context.public_host)?;
    let peer = match context.client {
        Source::Ip(ip) => {
            let ip = ip.to_canonical();
            write("x-forwarded-for", &ip.to_string())?;
            forwarded_node(ip)
        }
        Source::Local => "unknown".to_owned(),
    };
    write(
        "forwarded",
        &format!("for={peer};host=\"{}\";proto=https", context.public_host),
    )?;
    if context.address == Address::Path {
        write("x-forwarded-prefix", &prefix(&identity.vo, &context.tool.name))?;
    }
    write("host", &host(context))?;
    if let Credential::Header { name, value } = context.credential {
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| UnfitHeader("credential"))?;
        value.set_sensitive(true);
        headers.insert(name.clone(), value);
    }
    Ok(())
}

/// A node identifier of RFC 7239 section 6.
fn forwarded_node(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    }
}

/// Where the path form of a tool begins.
pub(super) fn prefix(vo: &str, tool: &str) -> String {
    format!("/{vo}/{tool}")
}

/// The `Host` that the tool sees (tools.md, `host_header`).
pub(super) fn host(context: &Context<'_>) -> String {
    let upstream = context
        .tool
        .upstream_host_header
        .unwrap_or(context.address != Address::ToolHost);
    if upstream {
        upstream_host(context.upstream)
    } else {
        context.public_host.to_owned()
    }
}

/// The authority under which the upstream knows itself.
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
#[path = "request_tests.rs"]
mod tests;
