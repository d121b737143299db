//! What a tool is given with one request.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use rustls::client::ResolvesClientCert;

use crate::secret::Secret;

use super::mint::{MintError, Proxy};
use super::outside::Outside;
use super::proxies::{Form, Live};
use super::spool::ToSpool;
use super::upload::Upload;

/// Header of the signed assertion.
pub(super) const ASSERTION: HeaderName = HeaderName::from_static("x-countersign-assertion");
/// Header of the proxy as a PEM file in base64.
const PROXY: HeaderName = HeaderName::from_static("x-countersign-proxy");

/// A credential that is ready to be used.
pub enum Credential {
    /// None but the identity headers.
    None,
    /// A header: a static credential, an assertion, or a proxy as PEM.
    Header {
        /// Its name.
        name: HeaderName,
        /// Its value.
        value: Secret<String>,
    },
    /// Several headers: where a proxy is kept for the tool.
    Headers(Vec<(HeaderName, Secret<String>)>),
    /// A MyProxy server that has to be filled first; then it is [`Credential::Headers`].
    Upload(Box<Upload>),
    /// A proxy that has to be put into a folder first; then it is [`Credential::Header`].
    Spool(Box<ToSpool>),
    /// What the tool is called with, once the certificate that it is to be brought is signed.
    Lend(Box<Self>, Box<Outside>),
    /// A proxy as client certificate.
    ClientCertificate {
        /// Gives the chain and the key to TLS. One configuration, without resumption, belongs to one proxy.
        resolver: Arc<dyn ResolvesClientCert>,
        /// Names the proxy (SHA-256 of its certificate): connections are shared under this id only.
        id: String,
    },
}

impl Credential {
    /// The headers that it consists of.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &Secret<String>)> {
        let (one, several) = match self {
            Self::Header { name, value } => (Some((name, value)), &[][..]),
            Self::Headers(headers) => (None, headers.as_slice()),
            Self::None
            | Self::Upload(_)
            | Self::Spool(_)
            | Self::Lend(..)
            | Self::ClientCertificate { .. } => (None, &[][..]),
        };
        one.into_iter()
            .chain(several.iter().map(|(name, value)| (name, value)))
    }

    pub(super) fn of(live: &Live) -> Self {
        match &live.form {
            Form::Resolver(resolver) => Self::ClientCertificate {
                resolver: resolver.clone(),
                id: live.certificate.to_string(),
            },
            Form::File(spool, value) => Self::Spool(Box::new(ToSpool::new(spool, value, live.not_after))),
            Form::Pem(value) => Self::Header {
                name: PROXY,
                value: value.clone(),
            },
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Header { name, .. } => write!(f, "Header({name})"),
            Self::Headers(headers) => write!(f, "Headers({})", headers.len()),
            Self::Upload(upload) => upload.fmt(f),
            Self::Spool(file) => file.fmt(f),
            Self::Lend(call, _) => write!(f, "Lend({call:?})"),
            Self::ClientCertificate { id, .. } => write!(f, "ClientCertificate({id})"),
        }
    }
}

/// The proxy's PEM file in base64, as the header carries it.
pub(super) fn pem_header(proxy: &Proxy) -> Result<Secret<String>, MintError> {
    Ok(Secret::new(
        data_encoding::BASE64.encode(proxy.pem()?.expose().as_bytes()),
    ))
}
