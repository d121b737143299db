//! Operations on the running gateway itself.

pub mod reload;
pub mod show;

use tokio::sync::{mpsc, oneshot};

use crate::id::RequestId;
use crate::problem::{Kind, Problem};

use reload::GatewayReloaded;

/// Asks the server for a reload. Reloads follow each other.
#[derive(Clone, Debug)]
pub struct Reload(mpsc::Sender<ReloadAsked>);

/// A reload that is asked for.
#[derive(Debug)]
pub struct ReloadAsked {
    /// The request that asks; none for a signal.
    pub request: Option<RequestId>,
    /// Takes what came of it.
    pub answer: oneshot::Sender<Result<GatewayReloaded, Problem>>,
}

/// Reloads that may wait.
const WAITING: usize = 16;

impl Reload {
    /// A way to ask, and where the server hears it.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<ReloadAsked>) {
        let (ask, asked) = mpsc::channel(WAITING);
        (Self(ask), asked)
    }

    /// Asks, and does not wait: what comes of it is logged and recorded.
    pub fn begin(&self, request: Option<RequestId>) -> oneshot::Receiver<Result<GatewayReloaded, Problem>> {
        let (answer, came) = oneshot::channel();
        // When as many wait already, each of them will read what this one would have read.
        let _ = self.0.try_send(ReloadAsked { request, answer });
        came
    }

    /// Asks, and waits.
    ///
    /// # Errors
    /// 422 with every flaw when the settings or certificates are not in order: then nothing has changed. 503 when the
    /// change could not be recorded, or too many reloads wait.
    pub async fn run(&self, request: RequestId) -> Result<GatewayReloaded, Problem> {
        self.begin(Some(request))
            .await
            .map_err(|_| Problem::new(Kind::Busy, "the gateway takes no reload now"))?
    }
}
