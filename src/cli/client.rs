//! Calls the gateway's API over HTTPS. Nothing turns verification off.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioExecutor;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};
use zeroize::Zeroizing;

use super::failure::Failure;
use super::profile::Profile;

type Addresses = std::vec::IntoIter<SocketAddr>;
type Resolver = BoxCloneSyncService<Name, Addresses, std::io::Error>;

/// Largest answer that is read, in bytes.
const LIMIT: usize = 64 * 1024 * 1024;
/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to one gateway.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    token: Option<Zeroizing<String>>,
    /// How to sign in again, where the token is a saved one.
    again: Option<String>,
    http: HyperClient<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
}

/// An answer: status, content type and bytes.
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// Headers.
    pub(crate) headers: http::HeaderMap,
    /// Body.
    pub(crate) body: Bytes,
}

impl Client {
    /// A client of the gateway at `base` (an origin), trusting the PEM in `ca` or else the system's authorities.
    pub(crate) fn new(base: &str, ca: Option<&str>) -> Result<Self, Failure> {
        let base = base.trim_end_matches('/').to_owned();
        if !base.starts_with("https://") {
            return Err(Failure::usage(format!(
                "the gateway's address `{base}` must begin with https://"
            )));
        }
        let mut roots = rustls::RootCertStore::empty();
        match ca {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(
                        certificate.map_err(|error| {
                            anyhow::anyhow!("the authority's PEM cannot be read: {error}")
                        })?,
                    )?;
                }
            }
            None => {
                for certificate in rustls_native_certs::load_native_certs().certs {
                    let _ = roots.add(certificate);
                }
            }
        }
        if roots.is_empty() {
            return Err(Failure::usage("no authority to trust").hint("give the gateway's CA with --ca FILE"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new_with_resolver(BoxCloneSyncService::new(tower::service_fn(resolve)));
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(Duration::from_secs(10)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        Ok(Self {
            base,
            token: None,
            again: None,
            http: HyperClient::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// A client with the saved sign-in.
    pub(crate) fn saved() -> Result<Self, Failure> {
        let profile = Profile::load()?;
        let mut client = Self::new(&profile.gateway, profile.ca.as_deref())?.with_token(profile.token());
        let ca = if profile.ca.is_some() { " --ca FILE" } else { "" };
        client.again = Some(format!(
            "sign in again: countersign login --gateway {}{ca} --user {}",
            profile.gateway, profile.username
        ));
        Ok(client)
    }

    /// The same client, with a bearer token.
    pub(crate) fn with_token(mut self, token: Zeroizing<String>) -> Self {
        self.token = Some(token);
        self
    }

    /// The gateway's origin.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request and gives whatever comes back.
    pub(crate) async fn send(&self, request: http::request::Builder, body: Bytes) -> Result<Answer, Failure> {
        let mut request = request.body(Full::new(body))?;
        if let Some(token) = &self.token {
            let mut value = http::HeaderValue::from_str(&format!("Bearer {}", token.as_str()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let unreachable = |why: String| {
            Failure::unreachable(format!("the gateway at {} cannot be reached: {why}", self.base)).hint(
                "is it running, and is the address right? With a private CA, give it with --ca FILE at login",
            )
        };
        let answer = tokio::time::timeout(TIMEOUT, self.http.request(request))
            .await
            .map_err(|_| unreachable("no answer in 60 s".into()))?
            .map_err(|error| unreachable(root_cause(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LIMIT)
            .collect()
            .await
            .map_err(|error| unreachable(error.to_string()))?
            .to_bytes();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// Calls an operation with a JSON body and reads a JSON answer; a problem document becomes a [`Failure`].
    pub(crate) async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Failure> {
        self.exchange(method, path, body, None)
            .await
            .map(|(answer, _)| answer)
    }

    /// The same, where `if_match` is what was read of what it edits; with the tag of what it answers.
    pub(crate) async fn exchange<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        if_match: Option<&str>,
    ) -> Result<(T, Option<String>), Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::ACCEPT, "application/json");
        if let Some(tag) = if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(serde_json::to_vec(body)?)
            }
            None => Bytes::new(),
        };
        let answer = self.send(request, bytes).await?;
        let tag = answer.headers.get(header::ETAG);
        let tag = tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        Ok((self.read(answer)?, tag))
    }

    /// Reads the JSON answer of a `GET`, with the id of the request.
    pub(crate) async fn look<T: DeserializeOwned>(&self, path: &str) -> Result<(T, String), Failure> {
        let request = Request::builder()
            .uri(format!("{}{path}", self.base))
            .header(header::ACCEPT, "application/json");
        let answer = self.send(request, Bytes::new()).await?;
        let id = answer.headers.get("x-countersign-request-id");
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        Ok((self.read(answer)?, id))
    }

    fn read<T: DeserializeOwned>(&self, answer: Answer) -> Result<T, Failure> {
        let status = answer.status;
        answer.read().map_err(|failure| match &self.again {
            Some(again) if status == StatusCode::UNAUTHORIZED => failure.hint(again),
            _ => failure,
        })
    }
}

impl Answer {
    /// The JSON of a success; a [`Failure`] for everything else.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, Failure> {
        if self.status.is_success() {
            let bytes = if self.body.is_empty() {
                &b"null"[..]
            } else {
                &self.body
            };
            return serde_json::from_slice(bytes)
                .map_err(|error| Failure::failed(format!("the gateway's answer cannot be read: {error}")));
        }
        let document = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let mut failure = Failure::from_problem(self.status.as_u16(), document);
        let wait = self
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        if let Some(seconds) = wait.and_then(|value| value.parse::<u32>().ok()) {
            failure.message.push_str(&format!("; wait {seconds} s"));
        }
        Err(failure)
    }
}

/// Names below `localhost` are this machine (RFC 6761 section 6.3), whatever the system's resolver thinks of them.
async fn resolve(name: Name) -> Result<Addresses, std::io::Error> {
    if name.as_str() == "localhost" || name.as_str().ends_with(".localhost") {
        return Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))].into_iter());
    }
    let mut resolver = GaiResolver::new();
    let found = resolver.ready().await?.call(name).await?;
    Ok(found.collect::<Vec<_>>().into_iter())
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
