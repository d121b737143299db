//! `proxy.download`: a certificate for a key that the caller holds.

use std::time::Duration;

use data_encoding::BASE64;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Operation, task};
use crate::api::{Api, problem};
use crate::delegate::DOWNLOAD;
use crate::delegate::pkcs10::Asked;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Audience, Task};

/// A key to be certified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyDownload {
    /// Certification request (PKCS#10), in PEM or as base64 of DER. Its subject is not looked at.
    #[schema(max_length = 16384)]
    pub request: String,
    /// Seconds that the proxy is to live; as long as the virtual organisation allows when absent, and never longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u64>,
}

/// A proxy, whose private key the caller has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProxyDownloaded {
    /// The proxy, then the certificate that signed it and those above that (PEM).
    pub chain: String,
    /// Its serial in decimal.
    pub serial: String,
    /// When it ends (RFC 3339).
    pub not_after: String,
}

pub(in crate::api) struct Download;

impl Operation for Download {
    type Body = ProxyDownload;
    type Answer = ProxyDownloaded;
    const STATUS: StatusCode = StatusCode::CREATED;
    const LIMIT: usize = 32 * 1024;
    const SUMMARY: &'static str =
        "Certifies a key of yours as a proxy of the virtual organisation's certificate for downloads";

    /// Nobody may, until the virtual organisation grants it.
    fn task() -> Task {
        Task {
            strict: true,
            max_body: Some(Self::LIMIT as u64),
            ..task(
                DOWNLOAD,
                "POST /api/v1/vos/{vo:slug}/proxies",
                tool::Kind::Read,
                Audience::Granted(&[]),
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: ProxyDownload) -> Result<ProxyDownloaded, Problem> {
        let invalid = |detail: String| Problem::new(Kind::Invalid, detail);
        let leave = call.certifier.as_ref();
        let leave =
            leave.ok_or_else(|| Problem::new(Kind::Internal, "nothing was reserved for this request"))?;
        let der = der(&body.request)
            .ok_or_else(|| invalid("`request` must be PKCS#10, in PEM or as base64 of DER".into()))?;
        let asked = Asked::read(&der).map_err(|error| invalid(format!("`request`: {error}")))?;
        if body.lifetime.is_some_and(|seconds| seconds < 60) {
            return Err(invalid("`lifetime` must be 60 or more".into()));
        }
        let lifetime = body.lifetime.map(Duration::from_secs);
        let downloaded = api.delegate.download(leave, &asked, lifetime, &api.audit).await;
        let (chain, serial, ends) = downloaded.map_err(problem)?;
        Ok(ProxyDownloaded {
            chain: pem(&chain)?,
            serial,
            not_after: ends.to_string(),
        })
    }
}

fn der(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if !text.starts_with("-----BEGIN ") {
        return BASE64.decode(text.as_bytes()).ok();
    }
    let (label, der) = der::pem::decode_vec(text.as_bytes()).ok()?;
    ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"]
        .contains(&label)
        .then_some(der)
}

fn pem(chain: &[Vec<u8>]) -> Result<String, Problem> {
    let block = |der: &Vec<u8>| der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der);
    let blocks: Result<Vec<String>, _> = chain.iter().map(block).collect();
    let blocks = blocks.map_err(|_| Problem::new(Kind::Internal, "the chain cannot be written"))?;
    Ok(blocks.concat())
}
