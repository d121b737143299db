//! How a browser that is signed in at the gateway gets a session on a tool's own host.
//!
//! The tool's host sets a nonce cookie and sends the browser to the gateway with the nonce's hash; the gateway, where
//! she is signed in, sends it back with a code; the tool's host takes code and nonce for a session that is good there
//! and nowhere else. The code is good once, for 30 s, for that host, session and nonce.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Authenticate;
use super::credential::{NONCE_COOKIE, fresh, set_cookie};
use super::login::{Ground, Prepared};
use super::subject::{Session, SessionKind, Source, Subject};
use crate::id::{RequestId, SessionId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Hash, Login};
use crate::secret::Secret;

const CODE_LIFETIME: Duration = Duration::from_secs(30);
const CODES_AT_MOST: usize = 10_000;
const LONGEST_PATH: usize = 2_048;

/// The first step, at the tool's host: a redirect to the gateway and a cookie.
#[derive(Debug)]
pub struct EnterStart {
    /// Path and query on the gateway's host.
    pub location: String,
    /// `Set-Cookie` with the nonce.
    pub cookie: String,
}

/// The last step, at the tool's host. Record `login`, then [`Authenticate::begin`] the session.
#[derive(Debug)]
pub struct Entered {
    /// For the log.
    pub login: Login,
    /// The child session.
    pub prepared: Prepared,
    /// Where the browser wanted to go: a path on this host.
    pub to: String,
}

/// Codes that were given out and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Codes(Mutex<HashMap<Hash, Code>>);

#[derive(Debug)]
struct Code {
    session: SessionId,
    host: String,
    nonce: Hash,
    to: String,
    until: Duration,
}

impl Codes {
    fn put(&self, hash: Hash, code: Code, mono: Duration) -> Result<(), Problem> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, code| mono < code.until);
        if codes.len() >= CODES_AT_MOST {
            return Err(
                Problem::new(Kind::Busy, "too many people are entering tools at once").retry_after(5),
            );
        }
        codes.insert(hash, code);
        Ok(())
    }

    /// Takes a code out: whatever comes of it, it is used up.
    fn take(&self, hash: &Hash, mono: Duration) -> Option<Code> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.remove(hash).filter(|code| mono < code.until)
    }
}

impl Authenticate {
    /// First step: at the tool's host `host`, for a browser that wants to open `to` (path and query).
    ///
    /// # Errors
    /// A [`Problem`] when there are no random bytes.
    pub fn enter_start(&self, host: &str, to: &str) -> Result<EnterStart, Problem> {
        let (nonce, hash) = fresh(&**self.0.ids.random(), "").map_err(|_| no_random())?;
        Ok(EnterStart {
            location: format!(
                "/.countersign/enter?host={}&nonce={hash}&to={}",
                percent(host),
                percent(safe_path(to))
            ),
            cookie: set_cookie(NONCE_COOKIE, &nonce),
        })
    }

    /// Second step: at the gateway's host, for somebody who is signed in there. Gives the code. The caller has checked
    /// that `host` is the host of a tool.
    ///
    /// # Errors
    /// A [`Problem`] when the session is not one that may have children, or the nonce is malformed.
    pub fn enter_code(
        &self,
        subject: &Subject,
        host: &str,
        nonce: &str,
        to: &str,
    ) -> Result<Secret<String>, Problem> {
        let session = subject
            .session()
            .filter(|session| session.kind == SessionKind::Browser && !session.must_change)
            .ok_or_else(|| Problem::new(Kind::NoCredential, "a tool is entered from a browser session"))?;
        let nonce = Hash::parse(nonce)
            .filter(|_| nonce.len() == 64)
            .ok_or_else(|| Problem::new(Kind::Malformed, "`nonce` must be 64 hexadecimal digits"))?;
        let (code, hash) = fresh(&**self.0.ids.random(), "").map_err(|_| no_random())?;
        let mono = self.0.ids.clock().monotonic();
        let entry = Code {
            session: session.id,
            host: host.to_ascii_lowercase(),
            nonce,
            // SECURITY: where the browser goes in the end is a path and is kept here, so no address of another site
            // can come back through the browser.
            to: safe_path(to).to_owned(),
            until: mono.saturating_add(CODE_LIFETIME),
        };
        self.0.codes.put(hash, entry, mono)?;
        Ok(code)
    }

    /// Last step: at the tool's host, with the code from the address and the nonce from the cookie.
    ///
    /// # Errors
    /// A [`Problem`] (401) when the code is unknown, used, too old, or meant for another host or browser.
    pub fn enter_finish(
        &self,
        (host, source): (&str, Source),
        code: &str,
        nonce: Option<&Secret<String>>,
        request: RequestId,
    ) -> Result<Entered, Problem> {
        let refused = || {
            Problem::new(
                Kind::WrongCredential,
                "the way from the gateway to this tool was not completed in time or in this browser",
            )
        };
        let mono = self.0.ids.clock().monotonic();
        let code = self
            .0
            .codes
            .take(&Hash::of(code.as_bytes()), mono)
            .ok_or_else(refused)?;
        let nonce = nonce.map(|nonce| Hash::of(nonce.expose().as_bytes()));
        // SECURITY: the code is only good where and for whom it was made (session fixation, stolen addresses).
        if code.host != host || nonce != Some(code.nonce) {
            return Err(refused());
        }
        let parent = self
            .0
            .sessions
            .by_id(code.session, self.now())
            .ok_or_else(refused)?;
        let directory = self.0.directory.load();
        let person = directory.person(parent.person).ok_or_else(refused)?;
        let prepared = self.prepare_child(&parent, person.home, host, request)?;
        Ok(Entered {
            login: Login {
                request,
                person: Some(person.id),
                card: Some(person.card),
                session: Some(prepared.session.id),
                methods: parent.methods.clone(),
                result: "ok".into(),
                count: 0,
                source: source.network(),
                certificate: None,
                federated: None,
            },
            prepared,
            to: code.to,
        })
    }

    fn prepare_child(
        &self,
        parent: &Arc<Session>,
        home: crate::id::VoId,
        host: &str,
        request: RequestId,
    ) -> Result<Prepared, Problem> {
        let (token, hash) = fresh(&**self.0.ids.random(), "").map_err(|_| no_random())?;
        let session = Session {
            id: self.0.ids.next().map_err(|_| no_random())?,
            person: parent.person,
            kind: SessionKind::Child {
                parent: parent.id,
                host: host.to_owned(),
            },
            created: self.now(),
            expires: parent.expires,
            methods: parent.methods.clone(),
            acr: parent.acr.clone(),
            must_change: parent.must_change,
            identity: parent.identity.clone(),
        };
        Ok(Prepared {
            request,
            session,
            home,
            token,
            hash,
            ground: Ground::Parent(parent.id),
        })
    }
}

fn no_random() -> Problem {
    super::AuthenticateError::Random(crate::id::RandomError).as_problem()
}

/// Where a tool's host sends the browser in the end: `to` if it is a plain path of the tool, else `/`.
fn safe_path(to: &str) -> &str {
    if is_local_path(to) && !to.starts_with("/.countersign/") {
        to
    } else {
        "/"
    }
}

/// Whether `to` is a path (with query) in canonical form that no browser reads as another host.
#[must_use]
pub fn is_local_path(to: &str) -> bool {
    let mut bytes = to.bytes();
    bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && to.len() <= LONGEST_PATH
        && to
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#')
        && crate::tool::Target::parse(to).is_ok()
}

/// Percent-encodes everything but unreserved characters (RFC 3986 section 2.3).
#[must_use]
pub fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&data_encoding::HEXUPPER.encode(&[byte]));
        }
    }
    encoded
}

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_plain_path_is_kept() {
        for good in ["/", "/app/x?y=1&z=%2F", "/a//b"] {
            if crate::tool::Target::parse(good).is_ok() {
                assert_eq!(safe_path(good), good);
            }
        }
        for bad in [
            "",
            "//evil.example/",
            "/\\evil.example",
            "https://evil.example/",
            "/x\r\nSet-Cookie: a",
            "/.countersign/logout",
            "/x#y",
            "javascript:alert(1)",
            "/ü",
        ] {
            assert_eq!(safe_path(bad), "/", "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_kept_stays_on_the_host(to in any::<String>()) {
            let kept = safe_path(&to);
            prop_assert!(kept.starts_with('/') && !kept.starts_with("//") && !kept.contains('\\'));
        }

        #[test]
        fn percent_encoding_is_only_unreserved_characters(text in any::<String>()) {
            prop_assert!(percent(&text).bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        }
    }
}
