//! Connections to upstreams, counted for monitoring.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::{ConnectError, Stream};
use crate::id::UpstreamId;

/// The connections of every upstream that was ever connected to.
#[derive(Debug, Default)]
pub struct Meters {
    known: ArcSwap<HashMap<UpstreamId, Arc<Meter>>>,
    /// INVARIANT: held while the map is copied, so that no two meters are made for one upstream.
    adding: Mutex<()>,
}

/// The connections to one upstream.
#[derive(Debug, Default)]
pub struct Meter {
    open: AtomicU64,
    connecting: AtomicU64,
    busy: AtomicU64,
    connected: AtomicU64,
    failed: AtomicU64,
}

impl Meters {
    /// The meter of one upstream.
    pub(super) fn of(&self, upstream: UpstreamId) -> Arc<Meter> {
        if let Some(meter) = self.known.load().get(&upstream) {
            return meter.clone();
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = HashMap::clone(&self.known.load());
        let meter = known.entry(upstream).or_default().clone();
        self.known.store(Arc::new(known));
        meter
    }

    /// All meters.
    #[must_use]
    pub fn all(&self) -> Vec<(UpstreamId, Arc<Meter>)> {
        let known = self.known.load();
        known.iter().map(|(id, meter)| (*id, meter.clone())).collect()
    }
}

impl Meter {
    /// Open connections.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Open connections that no request needs.
    #[must_use]
    pub fn idle(&self) -> u64 {
        self.open().saturating_sub(self.busy.load(Ordering::Relaxed))
    }

    /// Connections that are being made.
    #[must_use]
    pub fn connecting(&self) -> u64 {
        self.connecting.load(Ordering::Relaxed)
    }

    /// Attempts to connect that succeeded, and that failed.
    #[must_use]
    pub fn connects(&self) -> (u64, u64) {
        (
            self.connected.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }

    /// Counts a connection while it is made and while it is open.
    pub(super) async fn counted(
        self: Arc<Self>,
        connecting: impl Future<Output = Result<Stream, ConnectError>>,
    ) -> Result<Stream, ConnectError> {
        let made = {
            let _connecting = Held::of(self.clone(), |meter| &meter.connecting);
            connecting.await
        };
        let result = if made.is_ok() {
            &self.connected
        } else {
            &self.failed
        };
        result.fetch_add(1, Ordering::Relaxed);
        let stream = made?;
        let _open = Held::of(self, |meter| &meter.open);
        Ok(Stream(Box::new(Counted { stream, _open })))
    }

    /// Counts a request that needs a connection, until the guard goes.
    pub(super) fn busy(self: Arc<Self>) -> Busy {
        Busy(Held::of(self, |meter| &meter.busy))
    }
}

/// A request that needs a connection.
#[derive(Debug)]
pub struct Busy(#[expect(dead_code, reason = "counts by being there")] Held);

/// One of something, for as long as it lives.
#[derive(Debug)]
struct Held {
    meter: Arc<Meter>,
    what: fn(&Meter) -> &AtomicU64,
}

impl Held {
    fn of(meter: Arc<Meter>, what: fn(&Meter) -> &AtomicU64) -> Self {
        what(&meter).fetch_add(1, Ordering::Relaxed);
        Self { meter, what }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.what)(&self.meter).fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection.
struct Counted {
    stream: Stream,
    _open: Held,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
