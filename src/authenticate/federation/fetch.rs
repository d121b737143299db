//! What is asked of a provider: its document, its keys, and a token for a code. With limits of time and size, over TLS only,
//! and wherever the registered issuer says: no redirect is followed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::provider::{Idp, is_address};
use super::token::Keys;
use crate::authenticate::percent;
use crate::clock::Clock;
use crate::id::IdpId;
use crate::outbound::{self, Outbound};
use crate::problem::{Kind, Problem};
use crate::record::Hash;
use crate::secret::Secret;

/// How long a provider may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const LONGEST: usize = 256 * 1024;
/// For how long its document is taken for what it says now, when somebody begins to sign in.
const FRESH: Duration = Duration::from_secs(5);
/// For how long the document is good while somebody is on her way, and keys are: one that was taken out is not believed for longer.
const KEPT: Duration = Duration::from_secs(600);
/// Keys are not fetched anew more often than this, whatever keys tokens name.
const KEYS_PAUSE: Duration = Duration::from_secs(10);
/// A provider that does not answer is not asked again for so long.
const DOWN_PAUSE: Duration = Duration::from_secs(2);
/// Calls of one provider that go on at once; whoever comes then waits.
const AT_ONCE: usize = 16;

/// A provider's own document (OpenID Connect Discovery 1.0 section 3), as far as it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) authorization: String,
    pub(super) token: String,
    pub(super) keys: String,
    /// Whether its answers name it (RFC 9207 section 3).
    pub(super) names_itself: bool,
}

impl Metadata {
    fn read(document: &Value, issuer: &str) -> Option<Self> {
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        // SECURITY: a document that names another issuer is that issuer's (section 4.3).
        if text("issuer") != Some(issuer) {
            return None;
        }
        let address = |name: &str| text(name).filter(|text| is_address(text)).map(str::to_owned);
        let flag = document.get("authorization_response_iss_parameter_supported");
        Some(Self {
            authorization: address("authorization_endpoint")?,
            token: address("token_endpoint")?,
            keys: address("jwks_uri")?,
            names_itself: flag == Some(&Value::Bool(true)),
        })
    }
}

/// What is remembered of each provider.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<IdpId, Arc<Provider>>>);

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remembered(..)")
    }
}

/// A provider to be asked, and what it said.
pub(super) struct Provider {
    http: Outbound,
    /// Of issuer and authorities: with others it is another provider.
    of: Hash,
    turns: Semaphore,
    // INVARIANT: held while a document or keys are fetched, so that many who come at once ask once.
    said: tokio::sync::Mutex<Said>,
}

#[derive(Default)]
struct Said {
    metadata: Option<(Metadata, Duration)>,
    keys: Option<(Arc<Keys>, Duration)>,
    down: Option<Duration>,
}

/// Why a provider gives no answer that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It does not answer, or with something that is none.
    Down,
    /// It says that the code is not good.
    Refused,
}

/// What somebody is told whose provider is down.
pub(super) fn down(idp: &Idp) -> Problem {
    let detail = format!(
        "{} does not answer at the moment, so nobody can sign in with it",
        idp.settings.display_name
    );
    Problem::new(Kind::ProviderUnavailable, detail).retry_after(10)
}

impl Remembered {
    /// What is known of a provider, with a client that trusts what its registration says.
    pub(super) fn of(&self, idp: &Idp) -> Result<Arc<Provider>, Problem> {
        let of = Hash::of(format!("{}\n{:?}", idp.settings.issuer, idp.settings.ca).as_bytes());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&idp.id).filter(|known| known.of == of) {
            return Ok(Arc::clone(known));
        }
        let http = outbound::secure(idp.settings.ca.as_deref(), "identity provider").map_err(|error| {
            tracing::error!("the identity provider `{}` cannot be asked: {error}", idp.name);
            down(idp)
        })?;
        let provider = Arc::new(Provider {
            http,
            of,
            turns: Semaphore::new(AT_ONCE),
            said: tokio::sync::Mutex::default(),
        });
        all.insert(idp.id, Arc::clone(&provider));
        Ok(provider)
    }
}

impl Provider {
    /// Its document: as it is now where somebody begins, else as it was a while ago.
    pub(super) async fn metadata(
        &self,
        idp: &Idp,
        begins: bool,
        clock: &dyn Clock,
    ) -> Result<Metadata, Problem> {
        let mut said = self.said.lock().await;
        // Only now: whoever waited for somebody else's question takes its answer.
        let now = clock.monotonic();
        let good = if begins { FRESH } else { KEPT };
        if let Some((metadata, at)) = &said.metadata
            && now.saturating_sub(*at) < good
        {
            return Ok(metadata.clone());
        }
        if said.down.is_some_and(|at| now.saturating_sub(at) < DOWN_PAUSE) {
            return Err(down(idp));
        }
        let issuer = &idp.settings.issuer;
        let address = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let document = self.get(&address).await.ok();
        let Some(metadata) = document.and_then(|document| Metadata::read(&document, issuer)) else {
            said.down = Some(clock.monotonic());
            tracing::warn!(
                "the identity provider `{}` gives no document of its own at {address}",
                idp.name
            );
            return Err(down(idp));
        };
        said.down = None;
        said.metadata = Some((metadata.clone(), now));
        Ok(metadata)
    }

    /// Its keys; fetched anew when they are old, or `anew` asks for it and it was not done just now.
    pub(super) async fn keys(
        &self,
        idp: &Idp,
        address: &str,
        anew: bool,
        clock: &dyn Clock,
    ) -> Result<Arc<Keys>, Problem> {
        let mut said = self.said.lock().await;
        let now = clock.monotonic();
        let good = if anew { KEYS_PAUSE } else { KEPT };
        if let Some((keys, at)) = &said.keys
            && now.saturating_sub(*at) < good
        {
            return Ok(Arc::clone(keys));
        }
        if said.down.is_some_and(|at| now.saturating_sub(at) < DOWN_PAUSE) {
            return Err(down(idp));
        }
        let document = self.get(address).await.ok();
        let Some(keys) = document.as_ref().and_then(Keys::read) else {
            said.down = Some(clock.monotonic());
            return Err(down(idp));
        };
        let keys = Arc::new(keys);
        said.keys = Some((Arc::clone(&keys), now));
        Ok(keys)
    }

    /// The ID token for a code (RFC 6749 section 4.1.3), as the client with this secret.
    pub(super) async fn redeem(
        &self,
        address: &str,
        (client, secret): (&str, &Secret<String>),
        (code, verifier, redirect): (&str, &str, &str),
    ) -> Result<Secret<String>, Failure> {
        let form = format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={}",
            percent(code),
            percent(redirect),
            percent(verifier)
        );
        // RFC 6749 section 2.3.1: both are encoded as in a form before they are put together.
        let pair = Secret::new(format!("{}:{}", percent(client), percent(secret.expose())));
        let basic = Secret::new(format!("Basic {}", BASE64.encode(pair.expose().as_bytes())));
        let mut basic = HeaderValue::from_str(basic.expose()).map_err(|_| Failure::Down)?;
        basic.set_sensitive(true);
        let request = Request::post(address)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(AUTHORIZATION, basic);
        let (status, answer) = self.ask(request, form).await?;
        if status.is_client_error() {
            return Err(Failure::Refused);
        }
        let token = answer.filter(|_| status == StatusCode::OK);
        let token = token.as_ref().and_then(|answer| answer.get("id_token"));
        let token = token.and_then(Value::as_str).ok_or(Failure::Down)?;
        Ok(Secret::new(token.to_owned()))
    }

    async fn get(&self, address: &str) -> Result<Value, Failure> {
        let (status, document) = self.ask(Request::get(address), String::new()).await?;
        // A redirect is no answer: what was registered is what is asked.
        document.filter(|_| status == StatusCode::OK).ok_or(Failure::Down)
    }

    async fn ask(
        &self,
        request: http::request::Builder,
        body: String,
    ) -> Result<(StatusCode, Option<Value>), Failure> {
        let request = request
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| Failure::Down)?;
        let whole = async {
            let _turn = self.turns.acquire().await.map_err(|_| Failure::Down)?;
            let answer = self.http.request(request).await;
            let (head, body) = answer.map_err(|_| Failure::Down)?.into_parts();
            let body = Limited::new(body, LONGEST).collect().await;
            let body = body.map_err(|_| Failure::Down)?.to_bytes();
            Ok((head.status, serde_json::from_slice(&body).ok()))
        };
        let answer = tokio::time::timeout(PATIENCE, whole).await;
        answer.unwrap_or(Err(Failure::Down))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_its_issuers_own_and_leads_nowhere_but_over_tls() {
        let issuer = "https://idp.example.org";
        let document = json!({
            "issuer": issuer, "authorization_endpoint": "https://idp.example.org/auth",
            "token_endpoint": "https://idp.example.org/token", "jwks_uri": "https://keys.example.org/jwks",
            "authorization_response_iss_parameter_supported": true,
        });
        let read = Metadata::read(&document, issuer).unwrap();
        assert!(read.names_itself && read.keys == "https://keys.example.org/jwks");
        assert_eq!(Metadata::read(&document, "https://idp.example.org/"), None);
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
            for bad in [json!("http://idp.example.org/x"), json!(7), Value::Null] {
                let mut other = document.clone();
                other[name] = bad;
                assert_eq!(Metadata::read(&other, issuer), None, "{name}");
            }
        }
    }
}
