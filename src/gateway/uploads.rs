//! What is put on MyProxy servers for requests, and removed again.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;

use super::pipeline::Pipeline;
use crate::clock::Timestamp;
use crate::delegate::myproxy::{Client, ClientError, Command, Request};
use crate::delegate::{Credential, Left};
use crate::forward::ForwardError;
use crate::secret::Secret;
use crate::tool::VoRef;
use crate::vo::Upstream;

/// No conversation with a MyProxy server takes longer: making an RSA key there may take seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Why something is not, or may still be, on a server.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("its upstream is not registered any more")]
    NoUpstream,
    #[error(transparent)]
    Unreachable(#[from] ForwardError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Delegate(#[from] crate::delegate::DelegateError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

impl Pipeline {
    /// The server that an upload goes to.
    pub(super) fn myproxy_server(&self, left: &Left) -> Result<Arc<Upstream>, UploadError> {
        let directory = self.directory.load();
        let upstream = directory.upstream(left.vo, &left.upstream).cloned();
        upstream.ok_or(UploadError::NoUpstream)
    }

    /// A conversation with a MyProxy server as `identity`.
    pub(super) async fn myproxy(
        &self,
        upstream: &Arc<Upstream>,
        identity: Arc<dyn ResolvesClientCert>,
    ) -> Result<Client<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send>, UploadError> {
        let credential = Credential::ClientCertificate {
            resolver: identity,
            id: String::new(),
        };
        let stream = self.forward.dial(upstream, &credential).await?;
        Ok(Client::begin(stream, PATIENCE).await?)
    }

    /// Has a server remove what it keeps, and forgets it then.
    async fn destroy(&self, left: &Left) -> Result<(), UploadError> {
        let vo = {
            let directory = self.directory.load();
            let vo = directory.vo(left.vo).ok_or(UploadError::NoUpstream)?;
            VoRef {
                id: left.vo,
                name: vo.name.clone(),
            }
        };
        let upstream = self.myproxy_server(left)?;
        let mut client = self.myproxy(&upstream, self.delegate.robot(&vo)?).await?;
        let request = Request::new(
            Command::Destroy,
            &left.username,
            Secret::new(String::new()),
            Duration::ZERO,
        );
        match client.ask(&request).await {
            // What is not there needs no removal: most often the server never got so far.
            Ok(_) | Err(ClientError::Refused(_)) => Ok(self.delegate.forget_upload(left).await?),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what one request left, as soon as it has ended. What cannot be removed now is tried again.
    pub(super) async fn tidy(&self, left: &Left) {
        if let Err(error) = self.delegate.upload_ended(left).await {
            tracing::error!(request.id = %left.request, "an upload cannot be marked as ended: {error}");
        }
        if let Err(error) = self.destroy(left).await {
            tracing::warn!(request.id = %left.request,
                "what was put on the MyProxy server `{}` for request {} could not be removed yet: {error}", left.upstream, left.request);
        }
    }

    /// Removes what ended requests left on servers, and what a gateway left that was killed before this one `started`.
    pub async fn sweep_uploads(&self, started: Timestamp) {
        let left = match self.delegate.uploads_left(started).await {
            Ok(left) => left,
            Err(error) => return tracing::error!("uploads cannot be read: {error}"),
        };
        let now = self.ids.clock().now();
        for left in left {
            if left.not_after < now {
                // The proxy has ended, whoever keeps it.
                if let Err(error) = self.delegate.forget_upload(&left).await {
                    tracing::error!("an upload cannot be forgotten: {error}");
                }
                continue;
            }
            self.tidy(&left).await;
        }
    }
}
