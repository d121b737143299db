//! The head of a tool's answer as the client gets it.

use http::header::{
    CONTENT_LENGTH, CONTENT_SECURITY_POLICY, LOCATION, SET_COOKIE, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::names;
use crate::id::RequestId;
use crate::tool::{Address, Tool};

/// Name of the header that tells everyone the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-countersign-request-id");

/// Headers by which one tool could act on a whole host, on a browser's memory, or ask for the gateway's credentials.
const NEVER: &[&str] = &[
    "alt-svc",
    "clear-site-data",
    "public-key-pins",
    "service-worker-allowed",
    "set-cookie2",
    "set-login",
    "strict-transport-security",
    "www-authenticate",
    "authentication-info",
    "x-sendfile",
];

/// Further ones under the gateway's own origin.
const NEVER_IN_PATH_FORM: &[&str] = &[
    "accept-ch",
    "critical-ch",
    "nel",
    "report-to",
    "reporting-endpoints",
    "speculation-rules",
];

/// How much head a tool may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of headers.
    pub count: usize,
    /// Names and values together, in bytes.
    pub bytes: usize,
}

/// What is needed to judge an answer's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub tool: &'a Tool,
    pub address: Address,
    pub request: RequestId,
    /// As the client wrote it.
    pub public_host: &'a str,
    /// `/{vo}/{tool}`.
    pub prefix: &'a str,
    /// Authorities under which the tool speaks of itself: the upstream's own, and the `Host` that it was sent.
    pub own: [&'a str; 2],
    pub limits: Limits,
}

/// Why an answer is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitAnswer {
    /// More headers than allowed.
    #[error("the tool's answer has more than {0} headers")]
    TooMany(usize),
    /// Larger headers than allowed.
    #[error("the head of the tool's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// A header that must stand alone stands twice.
    #[error("the tool's answer has two `{0}` headers")]
    Twice(&'static str),
    /// A protocol switch that nobody asked for.
    #[error("the tool switched protocols without being asked")]
    Switched,
    /// A protocol switch that is not the one that was asked for.
    #[error("the tool's answer to the handshake is wrong in `{0}`")]
    WrongSwitch(&'static str),
    /// Lengths that can be read in two ways.
    #[error("the length of the tool's answer can be read in two ways")]
    TwoLengths,
}

/// Cleans the head of an answer.
///
/// # Errors
/// [`UnfitAnswer`] when it cannot be passed on.
pub(super) fn clean(headers: &mut HeaderMap, context: &Context<'_>) -> Result<(), UnfitAnswer> {
    measure(headers, context.limits)?;
    check_length(headers)?;
    names::drop_hop_by_hop(headers);
    drop_dangerous(headers, context);
    keep_cookies(headers, context);
    for name in [LOCATION, http::header::CONTENT_LOCATION] {
        rewrite(headers, &name, context)?;
    }
    if context.address == Address::Path {
        // SECURITY: the path form shares the gateway's origin; nothing a tool sends there may run in it. Appended,
        // since policies only add up (CSP level 3, section 8.1).
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    if let Ok(id) = HeaderValue::from_str(&context.request.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    Ok(())
}

/// Cleans the trailers of an answer: none of them may do what a header may not.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    let dropped: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !is_safe_trailer(name.as_str()))
        .cloned()
        .collect();
    for name in dropped {
        trailers.remove(name);
    }
}

/// Whether a field may stand in trailers (RFC 9110 section 6.5.1).
pub(super) fn is_safe_trailer(name: &str) -> bool {
    !names::is_claim(name)
        && !names::is_hop_by_hop(name)
        && !NEVER.contains(&name)
        && !name.starts_with("access-control-")
        && !matches!(
            name,
            "authorization"
                | "cache-control"
                | "content-encoding"
                | "content-length"
                | "content-range"
                | "content-type"
                | "cookie"
                | "host"
                | "location"
                | "set-cookie"
                | "trailer"
                | "vary"
        )
}

fn measure(headers: &HeaderMap, limits: Limits) -> Result<(), UnfitAnswer> {
    if headers.len() > limits.count {
        return Err(UnfitAnswer::TooMany(limits.count));
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if bytes > limits.bytes {
        return Err(UnfitAnswer::TooLarge(limits.bytes));
    }
    Ok(())
}

/// One length, told in one way (RFC 9112 section 6.3): a client must not read another answer than the gateway did.
fn check_length(headers: &HeaderMap) -> Result<(), UnfitAnswer> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    let plain = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let one = lengths.next().is_none() && codings.next().is_none() && !(length.is_some() && coding.is_some());
    if one && length.is_none_or(plain) && coding.is_none_or(chunked) {
        Ok(())
    } else {
        Err(UnfitAnswer::TwoLengths)
    }
}

fn drop_dangerous(headers: &mut HeaderMap, context: &Context<'_>) {
    let cors = allows_origin(headers, &context.tool.origins);
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            NEVER.contains(&name)
                || names::is_ours(name)
                || name.starts_with("x-accel-")
                || (name.starts_with("access-control-") && !cors)
                || (context.address == Address::Path && NEVER_IN_PATH_FORM.contains(&name))
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// Whether the answer allows exactly one of the origins that the manifest lists.
fn allows_origin(headers: &HeaderMap, origins: &[String]) -> bool {
    let mut values = headers.get_all(http::header::ACCESS_CONTROL_ALLOW_ORIGIN).iter();
    let first = values.next().and_then(|value| value.to_str().ok());
    values.next().is_none() && first.is_some_and(|value| origins.iter().any(|origin| origin == value))
}

fn keep_cookies(headers: &mut HeaderMap, context: &Context<'_>) {
    let values: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    // SECURITY: in the path form a cookie would reach every other tool and the console.
    if context.address != Address::ToolHost || !context.tool.keep_cookies {
        return;
    }
    for value in values {
        if is_own_cookie(&value) {
            headers.append(SET_COOKIE, value);
        }
    }
}

/// Whether a cookie is the tool's own: it has a name, not one of ours, and stays on the tool's host.
fn is_own_cookie(value: &HeaderValue) -> bool {
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut parts = text.split(';');
    let Some((name, _)) = parts.next().and_then(|pair| pair.split_once('=')) else {
        return false;
    };
    // A browser sends a nameless cookie as its bare value, which could read like one of ours.
    !name.trim().is_empty()
        && !names::is_our_cookie(name)
        && parts.all(|attribute| {
            let name = attribute.split('=').next().unwrap_or_default().trim();
            !name.eq_ignore_ascii_case("domain")
        })
}

fn rewrite(headers: &mut HeaderMap, name: &HeaderName, context: &Context<'_>) -> Result<(), UnfitAnswer> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(()) };
    if values.next().is_some() {
        return Err(UnfitAnswer::Twice(if *name == LOCATION {
            "Location"
        } else {
            "Content-Location"
        }));
    }
    if let Ok(text) = first.to_str()
        && let Some(rewritten) = public(text, context)
        && let Ok(value) = HeaderValue::from_str(&rewritten)
    {
        headers.insert(name.clone(), value);
    }
    Ok(())
}

/// The public form of a reference to the tool itself; `None` when it stays as it is.
fn public(reference: &str, context: &Context<'_>) -> Option<String> {
    let prefix = if context.address == Address::Path {
        context.prefix
    } else {
        ""
    };
    let (authority, rest) = match split(reference) {
        Some(parts) => parts,
        None if reference.starts_with('/') => {
            return prefixed(prefix, reference).filter(|_| !prefix.is_empty());
        }
        None => return None,
    };
    let own = context.own.iter().any(|own| same_authority(authority, own));
    own.then(|| {
        let path = if rest.starts_with('/') {
            rest.to_owned()
        } else {
            format!("/{rest}")
        };
        let path = prefixed(prefix, &path).unwrap_or(path);
        format!("https://{}{path}", context.public_host)
    })
}

/// `path` under `prefix`, unless it is there already (tools that obey `X-Forwarded-Prefix`).
fn prefixed(prefix: &str, path: &str) -> Option<String> {
    let there = path
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    (!there).then(|| format!("{prefix}{path}"))
}

/// Authority and the rest of `http://a/r`, `https://a/r` or `//a/r`.
fn split(reference: &str) -> Option<(&str, &str)> {
    let after = if let Some(after) = reference.strip_prefix("//") {
        after
    } else {
        let (scheme, after) = reference.split_once("://")?;
        (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(after)?
    };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    Some(after.split_at(end))
}

/// Whether two authorities are one, with and without the usual ports.
fn same_authority(one: &str, other: &str) -> bool {
    let bare = |authority: &str| {
        let lower = authority.to_ascii_lowercase();
        lower
            .strip_suffix(":80")
            .or_else(|| lower.strip_suffix(":443"))
            .map_or(lower.clone(), str::to_owned)
    };
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tests::{identity, tool};

    const PUBLIC: &str = "gw.example.org:8443";

    fn cleaned(address: Address, answer: &[(&str, &str)]) -> Result<HeaderMap, UnfitAnswer> {
        let mut tool = tool();
        tool.origins = vec!["https://viewer.example.org".into()];
        let mut headers = HeaderMap::new();
        for (name, value) in answer {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let context = Context {
            tool: &tool,
            address,
            request: identity().request,
            public_host: PUBLIC,
            prefix: "/imense/jobs",
            own: ["ce.internal:8080", PUBLIC],
            limits: Limits {
                count: 20,
                bytes: 2_000,
            },
        };
        clean(&mut headers, &context).map(|()| headers)
    }

    #[test]
    fn redirects_to_the_upstream_come_back_to_the_tools_own_address() {
        for (given, host, path) in [
            (
                "http://ce.internal:8080/jobs/7?a=b",
                "https://gw.example.org:8443/jobs/7?a=b",
                "https://gw.example.org:8443/imense/jobs/jobs/7?a=b",
            ),
            (
                "HTTP://CE.internal:8080",
                "https://gw.example.org:8443/",
                "https://gw.example.org:8443/imense/jobs/",
            ),
            (
                "//ce.internal:8080?x",
                "https://gw.example.org:8443/?x",
                "https://gw.example.org:8443/imense/jobs/?x",
            ),
            (
                "http://gw.example.org:8443/a",
                "https://gw.example.org:8443/a",
                "https://gw.example.org:8443/imense/jobs/a",
            ),
            ("/jobs/7", "/jobs/7", "/imense/jobs/jobs/7"),
            (
                "/imense/jobs/jobs/7",
                "/imense/jobs/jobs/7",
                "/imense/jobs/jobs/7",
            ),
            ("7", "7", "7"),
            (
                "https://elsewhere.example/",
                "https://elsewhere.example/",
                "https://elsewhere.example/",
            ),
            (
                "http://ce.internal:8080@elsewhere.example/",
                "http://ce.internal:8080@elsewhere.example/",
                "http://ce.internal:8080@elsewhere.example/",
            ),
        ] {
            assert_eq!(
                cleaned(Address::ToolHost, &[("location", given)]).unwrap()["location"],
                host,
                "{given}"
            );
            assert_eq!(
                cleaned(Address::Path, &[("location", given)]).unwrap()["location"],
                path,
                "{given}"
            );
        }
        assert_eq!(
            cleaned(Address::Path, &[("location", "/a"), ("location", "/b")]),
            Err(UnfitAnswer::Twice("Location"))
        );
    }

    #[test]
    fn cookies_stay_on_the_tools_own_host_and_never_pass_in_the_path_form() {
        let answer = [
            ("set-cookie", "sid=1; Path=/; HttpOnly"),
            ("set-cookie", "wide=1; Domain=example.org"),
            ("set-cookie", "wide=1; domain"),
            ("set-cookie", "__Host-countersign=stolen; Path=/; Secure"),
            ("set-cookie", " __host-Countersign-nonce=x"),
            ("set-cookie", "=__Host-countersign=nameless"),
            ("set-cookie", "novalue"),
        ];
        let headers = cleaned(Address::ToolHost, &answer).unwrap();
        let kept: Vec<&HeaderValue> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(kept, ["sid=1; Path=/; HttpOnly"]);
        assert!(
            !cleaned(Address::Path, &answer)
                .unwrap()
                .contains_key("set-cookie")
        );
    }

    #[test]
    fn dangerous_headers_end_here() {
        let answer = [
            ("service-worker-allowed", "/"),
            ("clear-site-data", "\"*\""),
            ("alt-svc", "h3=\":1\""),
            ("www-authenticate", "Basic"),
            ("strict-transport-security", "max-age=1"),
            ("access-control-allow-origin", "*"),
            ("connection", "x-a"),
            ("x-a", "1"),
            ("x-countersign-request-id", "forged"),
            ("X-Countersign_User", "forged"),
            ("x-accel-redirect", "/etc"),
            ("server", "Orthanc"),
            ("content-type", "text/html"),
            ("etag", "\"1\""),
        ];
        let headers = cleaned(Address::ToolHost, &answer).unwrap();
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["content-type", "etag", "server", "x-countersign-request-id"]
        );
        assert_eq!(
            headers["x-countersign-request-id"],
            identity().request.to_string()
        );
    }

    #[test]
    fn a_listed_origin_keeps_its_cors_headers() {
        let answer = |origin| {
            [
                ("access-control-allow-origin", origin),
                ("access-control-allow-headers", "x-a"),
            ]
        };
        let headers = cleaned(Address::ToolHost, &answer("https://viewer.example.org")).unwrap();
        assert!(headers.contains_key("access-control-allow-headers"));
        let headers = cleaned(Address::ToolHost, &answer("https://evil.example")).unwrap();
        assert!(!headers.contains_key("access-control-allow-headers"));
    }

    #[test]
    fn every_answer_in_the_path_form_is_sandboxed_and_the_tools_own_policy_stays() {
        let headers = cleaned(
            Address::Path,
            &[("content-security-policy", "default-src 'none'")],
        )
        .unwrap();
        let policies: Vec<&HeaderValue> = headers.get_all("content-security-policy").iter().collect();
        assert_eq!(policies, ["default-src 'none'", "sandbox"]);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let headers = cleaned(Address::ToolHost, &[]).unwrap();
        assert!(!headers.contains_key("content-security-policy"));
    }

    #[test]
    fn too_much_head_is_withheld() {
        let many = vec![("x-a", "1"); 21];
        assert_eq!(cleaned(Address::Path, &many), Err(UnfitAnswer::TooMany(20)));
        let long = "a".repeat(2_000);
        assert_eq!(
            cleaned(Address::Path, &[("x-a", &long)]),
            Err(UnfitAnswer::TooLarge(2_000))
        );
    }
}
