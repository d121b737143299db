//! What a request carries to prove who asks: readers of `Authorization`, `Cookie`, `Origin` and `Sec-Fetch-Site`.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::request::Parts;
use http::{HeaderMap, Method, header};

use crate::id::{Random, RandomError, random_bytes};
use crate::record::Hash;
use crate::secret::Secret;

/// Name of the session cookie, on every host. The prefix makes browsers insist on `Secure`, `Path=/` and no `Domain`
/// (RFC 6265bis section 4.1.3.2).
pub const COOKIE: &str = "__Host-countersign";
/// Name of the cookie that holds the nonce while a tool's host waits for its session.
pub const NONCE_COOKIE: &str = "__Host-countersign-enter";
/// Name of the cookie that holds what a browser was sent to an identity provider with.
pub const LOGIN_COOKIE: &str = "__Host-countersign-login";
/// What every bearer token begins with, so that scanners for leaked secrets recognise it.
pub const TOKEN_PREFIX: &str = "cst_";

const MAX_VALUE: usize = 4_096;

/// The credential of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// `Authorization: Bearer`.
    Bearer(Secret<String>),
    /// `Authorization: Basic`.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret<String>,
    },
    /// The session cookie.
    Cookie(Secret<String>),
}

/// Why the headers cannot be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Several `Authorization` headers.
    #[error("the request carries more than one `Authorization` header")]
    TwoAuthorizations,
    /// Several cookies of one of our names.
    #[error("the request carries more than one `{COOKIE}` cookie")]
    TwoCookies,
    /// `Authorization` in one of our schemes, but malformed.
    #[error("the `Authorization` header is not well formed")]
    Malformed,
}

/// Reads `Authorization`. A scheme that is not the gateway's is not a credential.
///
/// # Errors
/// [`CredentialError`] when there are two, or one of our schemes is malformed.
pub(super) fn authorization(headers: &HeaderMap) -> Result<Option<Credential>, CredentialError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(CredentialError::TwoAuthorizations);
    }
    let (scheme, rest) = split_scheme(value.as_bytes());
    let ours = scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"basic");
    if !ours {
        return Ok(None);
    }
    let rest = std::str::from_utf8(rest).map_err(|_| CredentialError::Malformed)?;
    if rest.is_empty() || rest.len() > MAX_VALUE || !rest.bytes().all(is_token68) {
        return Err(CredentialError::Malformed);
    }
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(Some(Credential::Bearer(Secret::new(rest.to_owned()))));
    }
    basic(rest).ok_or(CredentialError::Malformed).map(Some)
}

/// Scheme and the rest after one or more spaces (RFC 9110 section 11.4).
fn split_scheme(value: &[u8]) -> (&[u8], &[u8]) {
    match value.iter().position(|byte| *byte == b' ') {
        None => (value, &[]),
        Some(at) => {
            let (scheme, rest) = value.split_at(at);
            (scheme, rest.trim_ascii())
        }
    }
}

const fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

/// RFC 7617 section 2: `user:password` in UTF-8; control characters are refused.
fn basic(encoded: &str) -> Option<Credential> {
    let bytes = Secret::new(BASE64.decode(encoded.as_bytes()).ok()?);
    let text = std::str::from_utf8(bytes.expose()).ok()?;
    let (username, password) = text.split_once(':')?;
    if text.chars().any(char::is_control) {
        return None;
    }
    Some(Credential::Basic {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    })
}

/// The value of our session cookie.
///
/// # Errors
/// [`CredentialError::TwoCookies`].
pub(super) fn cookie(headers: &HeaderMap) -> Result<Option<Secret<String>>, CredentialError> {
    named_cookie(headers, COOKIE)
}

/// The value of the nonce cookie.
///
/// # Errors
/// [`CredentialError::TwoCookies`].
pub fn nonce(headers: &HeaderMap) -> Result<Option<Secret<String>>, CredentialError> {
    named_cookie(headers, NONCE_COOKIE)
}

/// The value of the cookie of a sign-in with an identity provider.
///
/// # Errors
/// [`CredentialError::TwoCookies`].
pub fn login_cookie(headers: &HeaderMap) -> Result<Option<Secret<String>>, CredentialError> {
    named_cookie(headers, LOGIN_COOKIE)
}

fn named_cookie(headers: &HeaderMap, wanted: &str) -> Result<Option<Secret<String>>, CredentialError> {
    let mut found = None;
    for line in headers.get_all(header::COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (pair.get(..at).unwrap_or(pair), pair.get(at + 1..).unwrap_or(&[])),
                None => (pair, &[][..]),
            };
            // SECURITY: compared without regard to case, because some servers read cookie names so.
            if !name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()) {
                continue;
            }
            // An unreadable value is a value that no session has; it still counts as one of our cookies.
            let value = std::str::from_utf8(value)
                .unwrap_or_default()
                .trim_ascii()
                .to_owned();
            if found.replace(Secret::new(value)).is_some() {
                return Err(CredentialError::TwoCookies);
            }
        }
    }
    Ok(found)
}

/// What the browser says of the page that made the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Initiator {
    /// Of the same origin.
    Same,
    /// Of another origin.
    Foreign,
    /// It says nothing (programs; browsers without fetch metadata on a plain navigation).
    Unsaid,
}

/// Reads `Sec-Fetch-Site` and `Origin`. Any foreign value, and any value that cannot be read, is foreign.
#[must_use]
pub(super) fn initiator(head: &Parts) -> Initiator {
    let site = single(&head.headers, "sec-fetch-site");
    let origin = single(&head.headers, "origin");
    let by_site = match site {
        Header::Absent => Initiator::Unsaid,
        Header::One("same-origin") => Initiator::Same,
        Header::One("none") => Initiator::Unsaid,
        _ => Initiator::Foreign,
    };
    let by_origin = match origin {
        Header::Absent => Initiator::Unsaid,
        // A page with `Referrer-Policy: no-referrer` sends its own forms with `null` (Fetch section 3.2); what an opaque
        // origin sends is never `same-origin`, and a page cannot set `Sec-Fetch-Site`.
        Header::One("null") if by_site == Initiator::Same => Initiator::Unsaid,
        Header::One(origin) if own_origin(head).is_some_and(|own| own.eq_ignore_ascii_case(origin)) => {
            Initiator::Same
        }
        _ => Initiator::Foreign,
    };
    match (by_site, by_origin) {
        (Initiator::Foreign, _) | (_, Initiator::Foreign) => Initiator::Foreign,
        (Initiator::Unsaid, Initiator::Unsaid) => Initiator::Unsaid,
        _ => Initiator::Same,
    }
}

/// Whether the browser says that it is opening a page, so that a refusal may be a redirect.
#[must_use]
pub fn is_navigation(head: &Parts) -> bool {
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    let mode = single(&head.headers, "sec-fetch-mode");
    reads && matches!(mode, Header::One("navigate"))
}

/// The origin that the request was sent to, as a browser writes it (RFC 6454 section 6.2: without the default port).
fn own_origin(head: &Parts) -> Option<String> {
    let authority = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => match single(&head.headers, "host") {
            Header::One(host) => host,
            _ => return None,
        },
    };
    Some(format!(
        "https://{}",
        authority.strip_suffix(":443").unwrap_or(authority)
    ))
}

enum Header<'a> {
    Absent,
    One(&'a str),
    Unclear,
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Header<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Header::Absent,
        (Some(value), None) => value.to_str().map_or(Header::Unclear, Header::One),
        _ => Header::Unclear,
    }
}

/// `Set-Cookie` for a session: ends with the browser (no `Max-Age`, no `Expires`), for this host only.
#[must_use]
pub fn set_cookie(name: &str, value: &Secret<String>) -> String {
    format!(
        "{name}={}; Path=/; Secure; HttpOnly; SameSite=Lax",
        value.expose()
    )
}

/// `Set-Cookie` that takes the cookie away.
#[must_use]
pub fn clear_cookie(name: &str) -> String {
    format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

/// A fresh token: `prefix` and 32 random bytes in base64url, with the hash under which it is kept.
///
/// # Errors
/// [`RandomError`].
pub(super) fn fresh(random: &dyn Random, prefix: &str) -> Result<(Secret<String>, Hash), RandomError> {
    let bytes = Secret::new(random_bytes::<32>(random)?);
    let token = Secret::new(format!("{prefix}{}", BASE64URL_NOPAD.encode(bytes.expose())));
    let hash = Hash::of(token.expose().as_bytes());
    Ok((token, hash))
}

#[cfg(any(test, feature = "fuzzing"))]
#[path = "credential_fuzz.rs"]
mod fuzz;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::credential as fuzz_credential;

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method("POST").uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn bearer_and_basic_are_read_and_foreign_schemes_are_not_credentials() {
        let read = |value: &str| authorization(&head(&[("authorization", value)]).headers);
        assert_eq!(
            read("Bearer cst_abc"),
            Ok(Some(Credential::Bearer(secret("cst_abc"))))
        );
        assert_eq!(
            read("bearer  cst_abc"),
            Ok(Some(Credential::Bearer(secret("cst_abc"))))
        );
        assert_eq!(
            read("Basic am9objpwYTpzcw=="),
            Ok(Some(Credential::Basic {
                username: "john".into(),
                password: secret("pa:ss")
            }))
        );
        for foreign in [
            "Negotiate abc",
            "Digest username=\"x\"",
            "AWS4-HMAC-SHA256 x",
            "",
            "Bearerx y",
        ] {
            assert_eq!(read(foreign), Ok(None), "{foreign}");
        }
        for malformed in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Basic",
            "Basic %%%",
            "Basic am9obg==",
            "Basic /w==",
            "Basic am9obgo6eA==",
        ] {
            assert_eq!(read(malformed), Err(CredentialError::Malformed), "{malformed}");
        }
    }

    #[test]
    fn two_of_a_kind_are_refused() {
        let two = head(&[("authorization", "Bearer a"), ("authorization", "Digest b")]);
        assert_eq!(
            authorization(&two.headers),
            Err(CredentialError::TwoAuthorizations)
        );
        for cookies in [
            &[("cookie", "__Host-countersign=a; __Host-countersign=b")][..],
            &[
                ("cookie", "__Host-countersign=a"),
                ("cookie", "x=1;__Host-countersign=a"),
            ],
            &[("cookie", "__Host-countersign=a; __host-Countersign=b")],
            &[("cookie", "__Host-countersign; __Host-countersign=b")],
        ] {
            assert_eq!(cookie(&head(cookies).headers), Err(CredentialError::TwoCookies));
        }
    }

    #[test]
    fn our_cookie_is_found_among_others() {
        let found =
            cookie(&head(&[("cookie", "a=b; __Host-countersign=tok; c=__Host-countersign=no")]).headers);
        assert_eq!(found, Ok(Some(secret("tok"))));
        assert_eq!(
            cookie(&head(&[("cookie", "x__Host-countersign=a")]).headers),
            Ok(None)
        );
        assert_eq!(
            nonce(&head(&[("cookie", "__Host-countersign=a")]).headers),
            Ok(None)
        );
    }

    #[test]
    fn the_initiator_is_the_same_only_when_nothing_says_otherwise() {
        let says = |headers: &[(&str, &str)]| {
            let mut all = vec![("host", "gw.example.org:8443")];
            all.extend_from_slice(headers);
            initiator(&head(&all))
        };
        assert_eq!(says(&[]), Initiator::Unsaid);
        assert_eq!(says(&[("sec-fetch-site", "same-origin")]), Initiator::Same);
        assert_eq!(says(&[("sec-fetch-site", "none")]), Initiator::Unsaid);
        assert_eq!(
            says(&[("origin", "https://gw.example.org:8443")]),
            Initiator::Same
        );
        for foreign in [
            &[("sec-fetch-site", "same-site")][..],
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "https://gw.example.org:8443"),
            ],
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "https://evil.example"),
            ],
            &[("origin", "https://gw.example.org")],
            &[("origin", "http://gw.example.org:8443")],
            &[("origin", "null")],
            &[
                ("origin", "https://gw.example.org:8443"),
                ("origin", "https://evil.example"),
            ],
            &[("sec-fetch-site", "")],
        ] {
            assert_eq!(says(foreign), Initiator::Foreign, "{foreign:?}");
        }
        let own_form = says(&[("sec-fetch-site", "same-origin"), ("origin", "null")]);
        assert_eq!(own_form, Initiator::Same);
        let default_port = head(&[
            ("host", "gw.example.org:443"),
            ("origin", "https://gw.example.org"),
        ]);
        assert_eq!(initiator(&default_port), Initiator::Same);
    }

    #[test]
    fn cookies_end_with_the_browser() {
        let line = set_cookie(COOKIE, &secret("abc"));
        assert_eq!(
            line,
            "__Host-countersign=abc; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
        assert!(!line.contains("Max-Age") && !line.contains("Expires") && !line.contains("Domain"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_value_or_an_error(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                headers.insert(header::AUTHORIZATION, value.clone());
                headers.insert(header::COOKIE, value);
                let _ = authorization(&headers);
                let _ = cookie(&headers);
            }
        }

        #[test]
        fn basic_reads_back_what_was_encoded(user in "[^:\\p{C}]{0,20}", password in "[^\\p{C}]{0,40}") {
            let value = format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()));
            let read = authorization(&head(&[("authorization", &value)]).headers);
            prop_assert_eq!(read, Ok(Some(Credential::Basic { username: user, password: Secret::new(password) })));
        }

        #[test]
        fn a_cookie_among_others_is_the_one_that_was_set(before in "[a-z]{1,8}=[a-z0-9]{0,8}", value in "[A-Za-z0-9_-]{1,60}") {
            let line = format!("{before}; {COOKIE}={value}");
            prop_assert_eq!(cookie(&head(&[("cookie", &line)]).headers), Ok(Some(Secret::new(value))));
        }
    }
}
