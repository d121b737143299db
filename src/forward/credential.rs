//! What a tool is given to prove whose authority the request has.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use rustls::client::ResolvesClientCert;

use crate::secret::Secret;

/// A credential that is ready to be used.
#[derive(Clone)]
pub enum Credential {
    /// None but the identity headers.
    None,
    /// A header: a static key, an assertion, or a proxy as PEM.
    Header {
        /// Its name.
        name: HeaderName,
        /// Its value.
        value: Secret<String>,
    },
    /// A proxy as client certificate.
    ClientCertificate {
        /// Gives the chain and the key to TLS.
        resolver: Arc<dyn ResolvesClientCert>,
        /// Names the proxy: connections are shared under this id only.
        id: String,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Header { name, .. } => write!(f, "Header({name})"),
            Self::ClientCertificate { id, .. } => write!(f, "ClientCertificate({id})"),
        }
    }
}
