//! Targets inside the gateway: API, login and console are services of the reserved tool `countersign`.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::authorize::Permit;
use crate::body::Body;
use crate::delegate::Certifier;
use crate::id::RequestId;

/// A permitted request to a service inside the gateway.
pub struct LocalRequest {
    /// The request; its URI is the canonical target.
    pub request: http::Request<Body>,
    /// Who may do what.
    pub permit: Arc<Permit>,
    /// The request's id.
    pub id: RequestId,
    /// The gateway's own origin: `https://host[:port]`.
    pub base: String,
    /// Leave to certify a key, where the task is to download a proxy.
    pub certifier: Option<Arc<Certifier>>,
    /// Cancelled when nobody waits for the answer any more. An operation may end then where it only reads.
    pub gone: CancellationToken,
    /// The way to further operations for whoever asks, each decided and recorded by itself. Absent where there is none.
    pub within: Option<Within>,
}

/// Asks for operations of the gateway's own from within, on behalf of whoever made a request.
#[derive(Clone)]
pub struct Within(pub Arc<dyn AskWithin>);

/// What [`Within`] asks. The pipeline implements it; services know only this.
pub trait AskWithin: Send + Sync {
    /// Asks for an operation of the API: `target` is path and query, `body` JSON or nothing. It is decided, recorded and
    /// answered as if the person had sent it; a refusal is its problem document.
    fn ask(&self, method: http::Method, target: String, body: Bytes) -> BoxFuture<'_, http::Response<Body>>;
}

impl fmt::Debug for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Within(..)")
    }
}

impl fmt::Debug for LocalRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRequest")
            .field("id", &self.id)
            .field("task", &self.permit.found().task.name)
            .finish_non_exhaustive()
    }
}

/// A service inside the gateway, boxed where it meets the pipeline. It always has an answer.
pub type LocalService = tower::util::BoxCloneSyncService<LocalRequest, http::Response<Body>, Infallible>;
