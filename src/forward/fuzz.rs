//! The fuzz targets of heads, to a tool and back (see `crate::fuzz`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target ends at the first thing that is not as it claims"
)]

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::request::{self, Identity};
use super::response::{self, Limits};
use crate::authenticate::Source;
use crate::delegate::Credential;
use crate::id::{PersonId, RequestId};
use crate::secret::Secret;
use crate::tool::{Address, Tool};

const PUBLIC: &str = "jobs.gw.example.org:8443";

static TOOL: LazyLock<Tool> = LazyLock::new(|| Tool {
    name: "jobs".into(),
    keep_cookies: true,
    foreign_authorization: true,
    credential_header: Some("x-api-key".into()),
    ..Tool::own(Vec::new()).unwrap()
});

/// Lines `name: value`; what is no header is left out.
fn lines(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value.trim_ascii()),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

fn address(data: &[u8]) -> Address {
    if data.first().is_some_and(|byte| byte % 2 == 0) {
        Address::Path
    } else {
        Address::ToolHost
    }
}

/// What a program that folds names makes of one: letters in upper case, everything else `_`.
fn variable(name: &HeaderName) -> String {
    let fold = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    name.as_str().chars().map(fold).collect()
}

/// Lines as the headers of a client's request.
///
/// Whatever they say, the tool is told once, by the gateway alone, who asks, from where and under which name; no two names
/// that it gets are one for a program that folds them; and nothing of the gateway's credentials passes.
pub(crate) fn request_headers(data: &[u8]) {
    let person = PersonId::from(uuid::Uuid::from_u128(1));
    let identity = Identity {
        person: Some(person),
        vo: "imense".into(),
        task: "submit job".into(),
        request: RequestId::from(uuid::Uuid::from_u128(2)),
    };
    let credential = Credential::Header {
        name: HeaderName::from_static("x-api-key"),
        value: Secret::new("of the gateway".to_owned()),
    };
    let address = address(data);
    let context = request::Context {
        tool: &TOOL,
        identity: &identity,
        credential: &credential,
        address,
        public_host: PUBLIC,
        client: Source::Ip("192.0.2.7".parse().unwrap()),
        host: request::host(&TOOL, address, "ce.internal:8080", PUBLIC),
        hop: request::Hop::Http1,
    };
    let Ok(sent) = request::headers(lines(data), &context) else {
        panic!("the gateway's own values are always fit")
    };
    for (name, value) in [
        ("x-countersign-user", person.to_string()),
        ("x-countersign-vo", "imense".into()),
        ("x-countersign-task", "submit job".into()),
        ("x-forwarded-for", "192.0.2.7".into()),
        ("x-forwarded-proto", "https".into()),
        ("x-forwarded-host", PUBLIC.into()),
        ("x-api-key", "of the gateway".into()),
    ] {
        let folded = variable(&HeaderName::from_static(name));
        let told: Vec<&[u8]> = sent
            .iter()
            .filter(|(name, _)| variable(name) == folded)
            .map(|(_, value)| value.as_bytes())
            .collect();
        assert_eq!(told, [value.as_bytes()], "{name}");
    }
    for name in sent.keys() {
        let folded = variable(name);
        let same = sent.keys().filter(|other| variable(other) == folded).count();
        assert_eq!(same, 1, "{name} has another spelling");
        for gone in [
            "CONNECTION",
            "TRANSFER_ENCODING",
            "UPGRADE",
            "KEEP_ALIVE",
            "TRAILER",
            "CONTENT_LENGTH",
            "X_HTTP_METHOD_OVERRIDE",
            "X_ORIGINAL_URL",
            "X_REWRITE_URL",
            "REMOTE_USER",
            "X_REMOTE_USER",
            "X_FORWARDED_USER",
            "PROXY",
            "SSL_CLIENT_S_DN",
        ] {
            // Of the hop to the tool, the gateway says that it takes trailers.
            let ours = folded == "CONNECTION" && sent[name].as_bytes().eq_ignore_ascii_case(b"te");
            assert!(folded != gone || ours, "{name}: {:?}", sent[name]);
        }
    }
    for value in sent.get_all("authorization") {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        assert!(
            text.split([' ', '\t']).next() != Some("basic") && !text.contains("cst_"),
            "{text}"
        );
    }
    for value in sent.get_all("cookie") {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let ours = |pair: &str| {
            pair.split('=')
                .next()
                .unwrap_or_default()
                .trim()
                .starts_with("__host-countersign")
        };
        assert!(!text.split(';').any(ours), "{text}");
    }
}

/// Lines as the headers of a tool's answer.
///
/// What the client gets sets no cookie beyond the tool's own host and none of the gateway's names, says nothing in the
/// gateway's name, does nothing to the whole host or the connection, and leads back under the public name.
pub(crate) fn answer_headers(data: &[u8]) {
    let mut headers = lines(data);
    let address = address(data);
    let request = RequestId::from(uuid::Uuid::from_u128(2));
    let limits = Limits {
        count: 40,
        bytes: 4_000,
    };
    let context = response::Context {
        tool: &TOOL,
        address,
        request,
        public_host: PUBLIC,
        prefix: ["imense", "jobs"],
        own: ["ce.internal:8080", PUBLIC],
        limits,
    };
    let (count, bytes) = (
        headers.len(),
        headers
            .iter()
            .map(|(n, v)| n.as_str().len() + v.len() + 4)
            .sum::<usize>(),
    );
    if response::clean(&mut headers, &context).is_err() {
        return;
    }
    assert!(count <= limits.count && bytes <= limits.bytes);
    assert_eq!(headers.get_all(response::REQUEST_ID).iter().count(), 1);
    assert_eq!(headers[response::REQUEST_ID], request.to_string());
    for name in headers.keys() {
        let folded = variable(name);
        assert!(
            !folded.starts_with("X_COUNTERSIGN") || name == response::REQUEST_ID,
            "{name}"
        );
        // Browsers, who obey these, do not fold names.
        assert!(!name.as_str().starts_with("access-control-"), "{name}");
        for gone in [
            "connection",
            "transfer-encoding",
            "upgrade",
            "keep-alive",
            "clear-site-data",
            "alt-svc",
            "strict-transport-security",
            "service-worker-allowed",
            "www-authenticate",
        ] {
            assert_ne!(name.as_str(), gone);
        }
    }
    for value in headers.get_all("set-cookie") {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        assert_eq!(address, Address::ToolHost);
        let name = text.split(['=', ';']).next().unwrap_or_default().trim();
        assert!(
            !name.is_empty() && !name.starts_with("__host-countersign"),
            "{text}"
        );
        let domain = |part: &str| part.split('=').next().unwrap_or_default().trim() == "domain";
        assert!(!text.split(';').skip(1).any(domain), "{text}");
    }
    assert!(headers.get_all("location").iter().count() < 2);
    if let Some(location) = headers.get("location").and_then(|value| value.to_str().ok()) {
        let inner = location.to_ascii_lowercase();
        let leaks = inner.strip_prefix("http://ce.internal:8080");
        assert!(
            !leaks.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#'])),
            "{location}"
        );
        if address == Address::Path && location.starts_with('/') && !location.starts_with("//") {
            assert!(location.starts_with("/imense/jobs"), "{location}");
        }
    }
    if address == Address::Path {
        let policies: Vec<_> = headers.get_all("content-security-policy").iter().collect();
        assert!(policies.iter().any(|policy| *policy == "sandbox"), "{policies:?}");
    }
    let mut trailers = lines(data);
    response::clean_trailers(&mut trailers);
    for name in [
        "set-cookie",
        "content-length",
        "transfer-encoding",
        "location",
        "x-countersign-user",
        "connection",
    ] {
        assert!(!trailers.contains_key(name), "{name} in the trailers");
    }
}
