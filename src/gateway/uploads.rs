//! What is put on MyProxy servers for requests, and removed again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use serde_json::json;

use super::pipeline::Pipeline;
use crate::delegate::myproxy::{Client, ClientError, Command, Request};
use crate::delegate::{Credential, Left, Slot};
use crate::forward::ForwardError;
use crate::id::VoId;
use crate::record::{Change, ChangeEvent, Event};
use crate::secret::Secret;
use crate::tool::VoRef;
use crate::vo::Upstream;

/// No conversation with a MyProxy server takes longer: making an RSA key there may take seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// So long after a request a server that was not heard may come to keep what it was sent.
const SETTLED: Duration = Duration::from_secs(60);
/// So long after the end of a proxy nobody takes it, also where a clock is behind.
const OVER: Duration = Duration::from_secs(300);

/// What a server has got of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// Nothing that it could keep.
    Nothing,
    /// Perhaps all.
    Perhaps,
    /// All, and it said so.
    All,
}

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
    #[error("its removal could not be recorded: {0}")]
    Audit(#[from] crate::audit::AuditError),
    #[error("the server keeps nothing of it yet, and may be about to")]
    Unsettled,
    #[error("the server did not answer just now")]
    Silent,
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

    /// Has a server remove what was put there. Says how it is gone.
    ///
    /// SECURITY: only an answer that says that it is removed, or was not there, counts: whatever else a server says, somebody
    /// may still fetch the proxy.
    async fn destroy(&self, left: &Left, got: Got) -> Result<&'static str, UploadError> {
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
            Ok(_) => Ok("removed"),
            Err(error) if !error.says_that_nothing_is_there() => Err(error.into()),
            // A server that took all of it, and was not heard any more, may be about to keep it.
            Err(_) if got == Got::Perhaps && self.ids.clock().now() < left.since.plus(SETTLED) => {
                Err(UploadError::Unsettled)
            }
            Err(_) => Ok("not there"),
        }
    }

    /// Removes what one request put on a server, as soon as the request has ended. What cannot be removed now is tried again.
    pub(super) async fn tidy(&self, mut left: Left, slot: Slot, got: Got) {
        if got == Got::Nothing {
            // The server never got what it would keep, so nothing takes room there; a row that is left, where there is one, is
            // claimed by the sweep.
            if let Err(error) = self.delegate.forget_upload(&left).await {
                tracing::error!(request.id = %left.request, "an upload cannot be forgotten: {error}");
            }
            return drop(slot);
        }
        match self.delegate.upload_ended(&left).await {
            Ok(ended) => left.since = ended,
            Err(error) => {
                tracing::error!(request.id = %left.request, "an upload cannot be marked as ended: {error}");
            }
        }
        match self.removed(&left, got).await {
            Ok(()) => drop(slot),
            Err(error) => {
                slot.leave();
                tracing::warn!(request.id = %left.request,
                    "what was put on the MyProxy server `{}` for request {} could not be removed yet: {error}", left.upstream, left.request);
            }
        }
    }

    /// Has it removed; on record, then forgotten.
    async fn removed(&self, left: &Left, got: Got) -> Result<(), UploadError> {
        let how = self.destroy(left, got).await?;
        self.gone(left, "myproxy.destroy", how).await
    }

    /// Writes down how something is no longer on its server, and forgets it.
    async fn gone(&self, left: &Left, action: &str, how: &str) -> Result<(), UploadError> {
        let change = Change {
            action: action.to_owned(),
            kind: "myproxy_upload".to_owned(),
            target: left.username.clone(),
            vo: left.vo,
            person: left.person,
            before: Some(json!({ "upstream": left.upstream, "not_after": left.not_after })),
            after: Some(json!({ "server": how })),
        };
        let event = ChangeEvent::of(left.request, change);
        self.audit.write(Event::Change(Box::new(event))).await?;
        Ok(self.delegate.forget_upload(left).await?)
    }

    /// Removes what ended requests left on servers, in this run of the gateway or in one before.
    pub async fn sweep_uploads(&self) {
        let left = match self.delegate.uploads().await {
            Ok(left) => left,
            Err(error) => return tracing::error!("uploads cannot be read: {error}"),
        };
        // One that does not answer keeps nobody from the others.
        let mut silent = HashSet::new();
        for left in left {
            match self.delegate.claim_upload(&left).await {
                Ok(Some(slot)) => self.swept(&left, slot, &mut silent).await,
                Ok(None) => {}
                Err(error) => tracing::error!("uploads cannot be read: {error}"),
            }
        }
    }

    async fn swept(&self, left: &Left, slot: Slot, silent: &mut HashSet<(VoId, String)>) {
        let server = (left.vo, left.upstream.clone());
        let removed = match silent.contains(&server) {
            true => Err(UploadError::Silent),
            // How far it got nobody knows any more.
            false => self.removed(left, Got::Perhaps).await,
        };
        let Err(error) = removed else { return };
        if error.is_silence() {
            silent.insert(server);
        }
        if left.not_after.plus(OVER) < self.ids.clock().now() {
            // The proxy has ended, whoever keeps it.
            match self
                .gone(left, "myproxy.give_up", "not heard, and it has ended")
                .await
            {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(request.id = %left.request, "an upload cannot be forgotten: {error}")
                }
            }
        }
        tracing::warn!(request.id = %left.request,
            "what was put on the MyProxy server `{}` for request {} is still to be removed: {error}", left.upstream, left.request);
        slot.leave();
    }
}

impl UploadError {
    /// Whether the server says nothing to anybody.
    const fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Client(ClientError::Late(_) | ClientError::Broken(_) | ClientError::Unfit(_))
        )
    }
}
