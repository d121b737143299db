//! The certificate that MyProxy clients are shown.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::trust::tls::{self, Identity, TlsError};

/// How long what was read of the files is shown: host certificates are renewed in their place.
const FRESH: Duration = Duration::from_secs(60);

/// Its own, which grid software takes, or that of the gateway.
pub(super) struct Shown(Option<Own>);

struct Own {
    certificate: PathBuf,
    key: PathBuf,
    read: Mutex<(Instant, Arc<ServerConfig>)>,
}

impl Shown {
    pub(super) fn load(files: Option<&(PathBuf, PathBuf)>) -> Result<Self, TlsError> {
        let Some((certificate, key)) = files else {
            return Ok(Self(None));
        };
        let identity = Identity::load(certificate, key)?;
        let config = tls::server_config(identity, &[])?;
        let config = alone(&config);
        Ok(Self(Some(Own {
            certificate: certificate.clone(),
            key: key.clone(),
            read: Mutex::new((Instant::now(), config)),
        })))
    }

    /// What to speak TLS with at `now`, where `gateways` is what the gateway itself does.
    pub(super) async fn config(&self, gateways: &ServerConfig, now: Instant) -> Arc<ServerConfig> {
        let Some(own) = &self.0 else {
            return alone(gateways);
        };
        let mut read = own.read.lock().await;
        if now.saturating_duration_since(read.0) < FRESH {
            return read.1.clone();
        }
        let (certificate, key) = (own.certificate.clone(), own.key.clone());
        let load = move || tls::server_config(Identity::load(&certificate, &key)?, &[]);
        match tokio::task::spawn_blocking(load).await {
            Ok(Ok(config)) => *read = (now, alone(&config)),
            // Half of it may be renewed already: what was shown before is shown until both fit.
            Ok(Err(error)) => {
                tracing::warn!("the certificate for MyProxy clients stays as it was: {error}");
                read.0 = now;
            }
            Err(_) => {}
        }
        read.1.clone()
    }
}

/// The same for a protocol that is not HTTP: no session is resumed.
fn alone(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols.clear();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_renewed_certificate_is_shown_and_one_that_does_not_fit_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = (folder.path().join("host.pem"), folder.path().join("host.key"));
        let put = |name: &str| {
            let signed = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            std::fs::write(&files.0, signed.cert.pem()).unwrap();
            signed.signing_key.serialize_pem()
        };
        let lock = |key: String| {
            std::fs::write(&files.1, key).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&files.1, mode).unwrap();
        };
        lock(put("one.example.org"));
        let shown = Shown::load(Some(&files)).unwrap();
        let gateways = tls::server_config(Identity::load(&files.0, &files.1).unwrap(), &[b"h2"]).unwrap();
        let begun = Instant::now();
        let at = |minutes: u32| {
            let (shown, gateways) = (&shown, &gateways);
            async move { shown.config(gateways, begun + FRESH * minutes).await }
        };
        let first = at(0).await;
        assert!(first.alpn_protocols.is_empty());
        let key = put("two.example.org");
        assert!(Arc::ptr_eq(&at(2).await, &first));
        lock(key);
        assert!(Arc::ptr_eq(&at(2).await, &first), "within the minute");
        assert!(!Arc::ptr_eq(&at(3).await, &first));
        // Without files of its own it follows the gateway.
        let none = Shown::load(None).unwrap();
        assert!(none.config(&gateways, begun).await.alpn_protocols.is_empty());
        std::fs::remove_file(&files.0).unwrap();
        assert!(Shown::load(Some(&files)).is_err());
    }
}
