//! The fuzz target of what a request carries to prove who asks (see `crate::fuzz`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target ends at the first thing that is not as it claims"
)]

use http::{HeaderName, HeaderValue, Request};

use super::*;

/// Lines `name: value` as the headers of a request.
///
/// A credential that is found stands in the one header that may carry it and, written again, is found again; of our
/// cookies there is one or none, as a plain count of them says; and a page of another origin is never taken for our own.
pub(crate) fn credential(data: &[u8]) {
    let mut head = Request::get("/").body(()).unwrap().into_parts().0;
    for line in data.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value.trim_ascii()),
        ) {
            head.headers.append(name, value);
        }
    }
    check_authorization(&head.headers);
    for wanted in [COOKIE, NONCE_COOKIE] {
        check_cookie(&head.headers, wanted);
    }
    let origins: Vec<_> = head.headers.get_all("origin").iter().collect();
    let sites: Vec<_> = head.headers.get_all("sec-fetch-site").iter().collect();
    match initiator(&head) {
        Initiator::Same => {
            assert!(origins.len() < 2 && sites.len() < 2);
            assert!(sites.is_empty() || matches!(sites[0].as_bytes(), b"same-origin" | b"none"));
            if let (Some(origin), Some(host)) = (origins.first(), head.headers.get("host")) {
                let host = String::from_utf8_lossy(host.as_bytes()).to_ascii_lowercase();
                let origin = String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase();
                let bare = host.strip_suffix(":443").unwrap_or(&host);
                assert!(
                    origin == format!("https://{bare}") || origin == "null",
                    "{origin} at {host}"
                );
            }
        }
        Initiator::Unsaid => {
            assert!(
                sites
                    .iter()
                    .all(|site| matches!(site.as_bytes(), b"none" | b"same-origin"))
            );
            assert!(origins.iter().all(|origin| origin.as_bytes() == b"null"));
        }
        Initiator::Foreign => assert!(!origins.is_empty() || !sites.is_empty()),
    }
}

fn check_authorization(headers: &HeaderMap) {
    let values: Vec<_> = headers.get_all(header::AUTHORIZATION).iter().collect();
    let Ok(found) = authorization(headers) else {
        assert!(!values.is_empty());
        return;
    };
    assert!(values.len() < 2, "two are never read");
    let again = match &found {
        None => return,
        Some(Credential::Bearer(token)) => {
            let value = String::from_utf8_lossy(values[0].as_bytes()).into_owned();
            assert_eq!(
                value.to_ascii_lowercase().split_whitespace().next(),
                Some("bearer")
            );
            assert_eq!(value.split_whitespace().nth(1), Some(token.expose().as_str()));
            assert_eq!(value.split_whitespace().count(), 2);
            format!("Bearer {}", token.expose())
        }
        Some(Credential::Basic { username, password }) => {
            assert!(!username.contains(':'));
            let both = format!("{username}:{}", password.expose());
            assert!(!both.chars().any(char::is_control));
            format!("Basic {}", BASE64.encode(both.as_bytes()))
        }
        Some(Credential::Cookie(_)) => panic!("a cookie out of `Authorization`"),
    };
    let mut written = HeaderMap::new();
    written.insert(header::AUTHORIZATION, again.parse().unwrap());
    assert_eq!(authorization(&written).unwrap(), found);
}

fn check_cookie(headers: &HeaderMap, wanted: &str) {
    let mut values = Vec::new();
    for line in headers.get_all(header::COOKIE) {
        let text = String::from_utf8_lossy(line.as_bytes()).into_owned();
        for pair in text.split(';') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.trim_matches([' ', '\t']).eq_ignore_ascii_case(wanted) {
                values.push(value.trim_matches([' ', '\t']).to_owned());
            }
        }
    }
    match named_cookie(headers, wanted) {
        Ok(None) => assert_eq!(values.len(), 0, "{values:?}"),
        Ok(Some(value)) => {
            assert_eq!(values.len(), 1, "{values:?}");
            assert!(value.expose().is_empty() || *value.expose() == values[0]);
        }
        Err(_) => assert!(values.len() > 1, "{values:?}"),
    }
}
