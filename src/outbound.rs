//! What the gateway itself calls beside tools: a witness of its log, a collector of traces. One small HTTPS client for all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A client for HTTP/1.1 with whole bodies.
pub type Outbound = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why nothing can be called.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The authorities to trust cannot be read.
    #[error("`{}` is not a file of PEM certificates that can be trusted (`[{section}] ca_file`)", file.display())]
    Authorities {
        /// The file.
        file: PathBuf,
        /// Section of the settings that names it.
        section: &'static str,
    },
    /// The same, where they are no file.
    #[error("the authorities of an {whom} are no PEM certificates that can be trusted")]
    Text {
        /// For whom.
        whom: &'static str,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A client for `url`, of which the settings say something in `section`. It trusts the authorities in `ca_file` (PEM), else
/// the system's. Whether plain HTTP may be used is for the settings to say.
///
/// # Errors
/// [`OutboundError`].
pub fn client(url: &Uri, ca_file: Option<&Path>, section: &'static str) -> Result<Outbound, OutboundError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(url, ca_file, section)?)
        .with_no_client_auth();
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// A client that speaks TLS and nothing else, for `whom`. It trusts the authorities in `pem`, else the system's.
///
/// # Errors
/// [`OutboundError`].
pub fn secure(pem: Option<&str>, whom: &'static str) -> Result<Outbound, OutboundError> {
    let roots = match pem {
        None => authorities(None, whom)?,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|_| OutboundError::Text { whom })?;
                roots.add(certificate).map_err(|_| OutboundError::Text { whom })?;
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

fn roots(url: &Uri, ca_file: Option<&Path>, section: &'static str) -> Result<RootCertStore, OutboundError> {
    match (ca_file, url.scheme_str()) {
        (None, scheme) if scheme != Some("https") => Ok(RootCertStore::empty()),
        _ => authorities(ca_file, section),
    }
}

/// The authorities in `ca_file` (PEM), of which the settings say something in `section`; else the system's.
///
/// # Errors
/// [`OutboundError::Authorities`].
pub fn authorities(ca_file: Option<&Path>, section: &'static str) -> Result<RootCertStore, OutboundError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let flaw = || OutboundError::Authorities {
        file: file.to_owned(),
        section,
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(|_| flaw())? {
        roots.add(certificate.map_err(|_| flaw())?).map_err(|_| flaw())?;
    }
    if roots.is_empty() {
        return Err(flaw());
    }
    Ok(roots)
}
