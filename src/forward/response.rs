//! The head of a tool's answer as the client gets it.

use http::header::{
    CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_SECURITY_POLICY, LINK, LOCATION, REFRESH, SET_COOKIE,
    TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::names;
use crate::id::RequestId;
use crate::tool::{Address, Tool};

/// Name of the header that tells everyone the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-countersign-request-id");

/// Headers by which one tool could act on a whole host, on a browser's memory, or ask for the gateway's credentials.
const NEVER: &[&str] = &[
    "access-control-allow-credentials",
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
    /// VO and tool, which the path form begins with: `/{vo}/{tool}`.
    pub prefix: [&'a str; 2],
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
    rewrite(headers, &LOCATION, "Location", context)?;
    rewrite(headers, &CONTENT_LOCATION, "Content-Location", context)?;
    rewrite_within(headers, &REFRESH, |text| refreshed(text, context));
    rewrite_within(headers, &LINK, |text| linked(text, context));
    if context.address == Address::Path {
        // SECURITY: the path form shares the gateway's origin; nothing a tool sends there may run in it. Appended,
        // since policies only add up (CSP level 3, section 8.1).
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    let text = &mut uuid::Uuid::encode_buffer();
    if let Ok(id) = HeaderValue::from_str(context.request.uuid().hyphenated().encode_lower(text)) {
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
        if let Some(value) = own_cookie(&value) {
            headers.append(SET_COOKIE, value);
        }
    }
}

/// A cookie as the tool's own: it has a name, not one of ours, and without `Domain` it stays on the tool's host.
fn own_cookie(value: &HeaderValue) -> Option<HeaderValue> {
    let mut parts = value.as_bytes().split(|byte| *byte == b';');
    let pair = parts.next()?;
    let name = pair.split(|byte| *byte == b'=').next()?;
    // A browser sends a nameless cookie as its bare value, which could read like one of ours.
    if name.len() == pair.len()
        || name.trim_ascii().is_empty()
        || names::is_our_cookie(&String::from_utf8_lossy(name))
    {
        return None;
    }
    let attribute = |part: &&[u8]| {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        !name.trim_ascii().eq_ignore_ascii_case(b"domain")
    };
    let kept: Vec<&[u8]> = std::iter::once(pair).chain(parts.filter(attribute)).collect();
    HeaderValue::from_bytes(&kept.join(&b';')).ok()
}

/// Rewrites a header that holds references among other things. One that cannot be read is dropped: it must not name the
/// upstream.
fn rewrite_within(headers: &mut HeaderMap, name: &HeaderName, rewrite: impl Fn(&str) -> Option<String>) {
    let values: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    for value in values {
        let rewritten = value.to_str().ok().and_then(&rewrite);
        if let Some(value) = rewritten.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.append(name.clone(), value);
        }
    }
}

/// `Refresh: 5; url=REFERENCE` (HTML section 4.2.5.3, which takes quotes and no `url=` as well).
fn refreshed(text: &str, context: &Context<'_>) -> Option<String> {
    let Some(at) = text.find([';', ',']) else {
        return Some(text.to_owned());
    };
    let (seconds, rest) = text.split_at(at);
    let rest = rest.get(1..)?.trim();
    let bare = match rest.get(..3) {
        Some(url) if url.eq_ignore_ascii_case("url") => {
            rest.get(3..)?.trim_start().strip_prefix('=')?.trim_start()
        }
        _ => rest,
    };
    let bare = bare.trim_matches(['"', '\'']);
    let reference = public(bare, context).unwrap_or_else(|| bare.to_owned());
    Some(format!("{seconds}; url={reference}"))
}

/// `Link: <REFERENCE>; rel=next, <...>` (RFC 8288 section 3).
fn linked(text: &str, context: &Context<'_>) -> Option<String> {
    let mut rewritten = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        let (reference, after) = after.split_once('>')?;
        rewritten.push_str(before);
        rewritten.push('<');
        rewritten.push_str(&public(reference.trim(), context).unwrap_or_else(|| reference.to_owned()));
        rewritten.push('>');
        rest = after;
    }
    rewritten.push_str(rest);
    Some(rewritten)
}

fn rewrite(
    headers: &mut HeaderMap,
    name: &HeaderName,
    shown: &'static str,
    context: &Context<'_>,
) -> Result<(), UnfitAnswer> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(()) };
    if values.next().is_some() {
        return Err(UnfitAnswer::Twice(shown));
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
    let prefix = match (context.address, context.prefix) {
        (Address::Path, [vo, tool]) => format!("/{vo}/{tool}"),
        _ => String::new(),
    };
    let (authority, rest) = match split(reference) {
        Some(parts) => parts,
        None if reference.starts_with('/') => {
            return prefixed(&prefix, reference).filter(|_| !prefix.is_empty());
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
        let path = prefixed(&prefix, &path).unwrap_or(path);
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
            prefix: ["imense", "jobs"],
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
            ("set-cookie", "wide=1; domain; Secure"),
            ("set-cookie", "list=1; a; DOMAIN =gw.example.org ;Domain=."),
            ("set-cookie", "__Host-countersign=stolen; Path=/; Secure"),
            ("set-cookie", " __host-Countersign-nonce=x"),
            ("set-cookie", "=__Host-countersign=nameless"),
            ("set-cookie", "novalue"),
        ];
        let headers = cleaned(Address::ToolHost, &answer).unwrap();
        let kept: Vec<&HeaderValue> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(
            kept,
            ["sid=1; Path=/; HttpOnly", "wide=1", "wide=1; Secure", "list=1; a"]
        );
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
    fn references_within_other_headers_come_back_to_the_tools_own_address() {
        let answer = [
            ("refresh", "5; url=http://ce.internal:8080/a"),
            ("refresh", "0;URL='//ce.internal:8080/b'"),
            ("refresh", "30"),
            ("refresh", "1, /c"),
            (
                "link",
                "<http://ce.internal:8080/a>; rel=\"next\", </b?x=1>; rel=prev",
            ),
            ("link", "<https://elsewhere.example/>; rel=help"),
            ("link", "<http://ce.internal:8080/cut; rel=next"),
            ("content-location", "http://ce.internal:8080/d"),
        ];
        let of = |address, name: &str| -> Vec<String> {
            let headers = cleaned(address, &answer).unwrap();
            headers
                .get_all(name)
                .iter()
                .map(|value| value.to_str().unwrap().to_owned())
                .collect()
        };
        let base = format!("https://{PUBLIC}");
        assert_eq!(
            of(Address::ToolHost, "refresh"),
            [
                format!("5; url={base}/a"),
                format!("0; url={base}/b"),
                "30".into(),
                "1; url=/c".into()
            ]
        );
        assert_eq!(
            of(Address::ToolHost, "link"),
            [
                format!("<{base}/a>; rel=\"next\", </b?x=1>; rel=prev"),
                "<https://elsewhere.example/>; rel=help".into()
            ]
        );
        assert_eq!(
            of(Address::Path, "content-location"),
            [format!("{base}/imense/jobs/d")]
        );
        assert_eq!(of(Address::Path, "refresh")[3], "1; url=/imense/jobs/c");
        assert!(of(Address::Path, "link")[0].contains("</imense/jobs/b?x=1>; rel=prev"));
    }

    proptest::proptest! {
        #[test]
        fn no_header_that_is_rewritten_still_names_the_upstream(
            before in "[ -~]{0,12}", path in "(/[a-z]{0,4}){0,2}", after in "[ -~]{0,12}",
        ) {
            let reference = format!("http://ce.internal:8080{path}");
            for (name, text) in [
                ("location", reference.clone()),
                ("refresh", format!("1; url={reference}")),
                ("link", format!("<{reference}>; rel=x")),
            ] {
                let headers = cleaned(Address::ToolHost, &[(name, &text)]).unwrap();
                proptest::prop_assert!(!headers[name].to_str().unwrap().contains("ce.internal"));
            }
            // Whatever else stands there is read or dropped, never a panic.
            let _ = cleaned(Address::Path, &[("refresh", &format!("{before};{after}")), ("link", &format!("{before}<{after}"))]);
        }

        #[test]
        fn a_cookie_that_passes_is_the_tools_and_stays_on_its_host(
            name in "(__Host-|__Secure-|__HOST-)?(countersign|Countersign-x|sid)",
            attributes in proptest::collection::vec("(;[ ]?(Domain|domain |DOMAIN)(=[a-z.]{0,8})?|; Path=/|;Secure| ?; ?[a-z]{0,5})", 0..6),
        ) {
            let text = format!("{name}=1{}", attributes.concat());
            let headers = cleaned(Address::ToolHost, &[("set-cookie", &text)]).unwrap();
            match headers.get("set-cookie") {
                None => proptest::prop_assert!(name.to_lowercase().contains("countersign")),
                Some(value) => {
                    let value = value.to_str().unwrap().to_lowercase();
                    proptest::prop_assert!(!value.contains("domain") && !value.contains("countersign"));
                    proptest::prop_assert_eq!(value.contains("path=/"), text.contains("Path=/"));
                }
            }
        }
    }

    #[test]
    fn a_listed_origin_keeps_its_cors_headers() {
        let answer = |origin| {
            [
                ("access-control-allow-origin", origin),
                ("access-control-allow-headers", "x-a"),
                ("access-control-allow-credentials", "true"),
            ]
        };
        let headers = cleaned(Address::ToolHost, &answer("https://viewer.example.org")).unwrap();
        assert!(headers.contains_key("access-control-allow-headers"));
        assert!(
            !headers.contains_key("access-control-allow-credentials"),
            "cookies never travel this way"
        );
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
