//! A connection that was switched to another protocol: bytes both ways, counted, with bounded buffers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

/// Bytes that are held in each direction.
const BUFFER: usize = 16 * 1024;
/// How long one side may go on after the other has ended.
const HALF_CLOSED: Duration = Duration::from_secs(10);

type Side = TokioIo<Upgraded>;

/// Both ends of a tunnel.
pub(super) struct Tunnel {
    client: (ReadHalf<Side>, WriteHalf<Side>),
    tool: (ReadHalf<Side>, WriteHalf<Side>),
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
    idle: Duration,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Both sides ended it, or one did and the other did not answer that.
    Ended,
    /// The connection to the client broke.
    ClientBroke,
    /// The connection to the tool broke.
    ToolBroke,
    /// Nothing came for too long.
    Idle,
}

impl Tunnel {
    /// Bytes to the tool are counted in `up`, bytes from it in `down`; silence for `idle` ends it.
    pub(super) fn new(
        client: Upgraded,
        tool: Upgraded,
        (up, down): (Arc<AtomicU64>, Arc<AtomicU64>),
        idle: Duration,
    ) -> Self {
        Self {
            client: tokio::io::split(TokioIo::new(client)),
            tool: tokio::io::split(TokioIo::new(tool)),
            up,
            down,
            idle,
        }
    }

    /// Passes bytes until the tunnel ends. The client is not told of the end: that is [`Tunnel::close`].
    pub(super) async fn run(&mut self) -> Closed {
        let (up, down) = (self.up.clone(), self.down.clone());
        let moved = || {
            up.load(Ordering::Relaxed)
                .wrapping_add(down.load(Ordering::Relaxed))
        };
        let upward = async {
            pass(&mut self.client.0, &mut self.tool.1, &up).await?;
            // The tool may have something to say to that.
            self.tool
                .1
                .shutdown()
                .await
                .map_err(|_: io::Error| Broke::Writing)
        };
        let downward = pass(&mut self.tool.0, &mut self.client.1, &down);
        let (mut upward, mut downward) = (std::pin::pin!(upward), std::pin::pin!(downward));
        let silent = silent(self.idle, moved);
        // INVARIANT: each direction reads only what it could write: neither side fills memory.
        tokio::select! {
            passed = &mut upward => match passed {
                Ok(()) => {
                    let _ = tokio::time::timeout(HALF_CLOSED, downward).await;
                    Closed::Ended
                }
                Err(broke) => broke.at(Closed::ClientBroke, Closed::ToolBroke),
            },
            passed = &mut downward => match passed {
                // The tool has ended: what the client still says goes nowhere.
                Ok(()) => Closed::Ended,
                Err(broke) => broke.at(Closed::ToolBroke, Closed::ClientBroke),
            },
            () = silent => Closed::Idle,
        }
    }

    /// Ends both connections in order.
    pub(super) async fn close(mut self) {
        let close = async {
            let _ = tokio::join!(self.client.1.shutdown(), self.tool.1.shutdown());
        };
        let _ = tokio::time::timeout(HALF_CLOSED, close).await;
    }
}

/// Which side of a direction broke.
enum Broke {
    Reading,
    Writing,
}

impl Broke {
    const fn at(&self, reading: Closed, writing: Closed) -> Closed {
        match self {
            Self::Reading => reading,
            Self::Writing => writing,
        }
    }
}

/// Passes bytes one way until the sender ends.
async fn pass<R, W>(from: &mut R, to: &mut W, count: &AtomicU64) -> Result<(), Broke>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from
            .read(&mut buffer)
            .await
            .map_err(|_: io::Error| Broke::Reading)?;
        if read == 0 {
            return Ok(());
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        to.write_all(bytes).await.map_err(|_: io::Error| Broke::Writing)?;
        to.flush().await.map_err(|_: io::Error| Broke::Writing)?;
        count.fetch_add(u64::try_from(read).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Comes back when nothing moved for as long as `idle`.
async fn silent(idle: Duration, moved: impl Fn() -> u64) {
    let mut before = moved();
    loop {
        tokio::time::sleep(idle).await;
        let now = moved();
        if now == before {
            return;
        }
        before = now;
    }
}
