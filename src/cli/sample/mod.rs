//! The sample tool: a program that segments images and has no users and no security of its own, as the legacy tools
//! that Countersign is made for. The quickstart and the tests put it behind the gateway.
//!
//! | Request | Answer |
//! | --- | --- |
//! | `POST /jobs?name=&smooth=` with a PGM image | `201`, `Location: /jobs/N`, the job |
//! | `GET /jobs` | `{"jobs": [...], "total": n}` |
//! | `GET /jobs/N` | the job: state, progress, threshold, foreground, the proxy it was submitted with |
//! | `GET /jobs/N/result` | the mask as PGM, `409` until the job is done |
//! | `DELETE /jobs/N` | `204`; the work stops and the job is forgotten |
//! | `GET /` | a page to do all of this in a browser |
//!
//! It promises to be deterministic, bounded (16 MiB an image, 1,000 jobs) and to write down what it received (`--seen`)
//! before it acts on it, so that a test can compare that with the audit log.

mod caller;
mod jobs;
mod otsu;
mod pgm;
mod routes;
mod seen;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use self::routes::Tool;

/// The manifest that wraps this tool.
pub const MANIFEST: &str = include_str!("../../../examples/segmentation/segmentation.toml");

/// The longest wait for a request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The most connections served at once.
const MAX_CONNECTIONS: usize = 256;

/// Runs the sample tool: a program that segments images and has no security of its own.
#[derive(Debug, clap::Args)]
pub struct SampleTool {
    /// Unix socket to listen on; made with mode 0600, removed at the end.
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with = "listen",
        required_unless_present = "listen"
    )]
    pub socket: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Writes one line per received request to this file: method, address, request id.
    #[arg(long, value_name = "FILE")]
    pub seen: Option<PathBuf>,
}

/// What the tool listens on.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket.
    Unix(UnixListener),
    /// A TCP port.
    Tcp(TcpListener),
}

/// How the tool runs.
#[derive(Debug, Default)]
pub struct Options {
    /// Where to write one line per received request.
    pub seen: Option<PathBuf>,
}

/// Runs the command until it is interrupted or told to end.
///
/// # Errors
/// When the listener or the file cannot be opened.
pub async fn run(arguments: SampleTool) -> anyhow::Result<()> {
    let (listener, address, _socket) = match (arguments.socket, arguments.listen) {
        (Some(path), _) => {
            let (listener, guard) = bind(&path)?;
            (listener, format!("unix:{}", path.display()), Some(guard))
        }
        (None, Some(address)) => {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on `{address}`"))?;
            let address = format!("http://{}", listener.local_addr()?);
            (Listener::Tcp(listener), address, None)
        }
        (None, None) => anyhow::bail!("either `--socket` or `--listen` is needed"),
    };
    writeln!(io::stdout(), "listening on {address}")?;
    let mut end = signal(SignalKind::terminate())?;
    tokio::select! {
        served = serve(listener, Options { seen: arguments.seen }) => served.context("the sample tool failed"),
        _ = end.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

/// Opens a Unix socket that only this user can connect to. The guard removes it.
///
/// # Errors
/// When something stands at `path` already, or the socket cannot be made.
pub fn bind(path: &Path) -> anyhow::Result<(Listener, SocketFile)> {
    use std::os::unix::fs::PermissionsExt as _;
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot make the socket `{}`", path.display()))?;
    let guard = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect the socket `{}`", path.display()))?;
    Ok((Listener::Unix(listener), guard))
}

/// Removes the socket's file when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Serves the tool until the future is dropped, which also ends its connections and stops its jobs.
///
/// # Errors
/// When the file for what was seen cannot be opened, or accepting fails for good.
pub async fn serve(listener: Listener, options: Options) -> io::Result<()> {
    let tool = Arc::new(Tool::new(options.seen.as_deref())?);
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match &listener {
            Listener::Unix(listener) => match listener.accept().await {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&tool)))),
                Err(error) => passing(error)?,
            },
            Listener::Tcp(listener) => match listener.accept().await {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&tool)))),
                Err(error) => passing(error)?,
            },
        }
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, tool: Arc<Tool>) {
    let service = service_fn(move |request| {
        let tool = Arc::clone(&tool);
        async move { Ok::<_, std::convert::Infallible>(tool.answer(request).await) }
    });
    // A client that breaks off is no concern of the tool.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An image like those that the tool is made for: bright cells on a dark, uneven ground, 256 x 256, 8 bit, always the same.
#[must_use]
pub fn sample_image() -> Vec<u8> {
    // Centre (x, y) and radius of each cell.
    const CELLS: [(i32, i32, i32); 9] = [
        (40, 44, 22),
        (118, 36, 17),
        (205, 58, 26),
        (70, 128, 30),
        (150, 118, 20),
        (222, 150, 15),
        (48, 214, 18),
        (132, 202, 27),
        (206, 222, 21),
    ];
    let mut grain = 0x2545_f491_u32;
    let pixels = (0..256 * 256)
        .map(|index: i32| {
            let (x, y) = (index % 256, index / 256);
            // xorshift (Marsaglia 2003): grain that is the same on every machine.
            grain ^= grain << 13;
            grain ^= grain >> 17;
            grain ^= grain << 5;
            let light = CELLS.iter().map(|(cx, cy, r)| {
                let distance = (x - cx).pow(2) + (y - cy).pow(2);
                (130 * (r * r - distance) / (r * r) + 60).clamp(0, 120) * i32::from(distance < r * r)
            });
            let value =
                46 + x / 16 + y / 24 + light.max().unwrap_or(0) + i32::from(grain.to_be_bytes()[0] % 24);
            u16::try_from(value.clamp(0, 255)).unwrap_or(0)
        })
        .collect();
    pgm::Image {
        width: 256,
        height: 256,
        max: 255,
        pixels,
    }
    .encode()
}

/// An accept that failed for one connection is passed over; anything else ends the tool.
fn passing(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {
            Ok(())
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests;
