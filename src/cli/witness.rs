//! `countersign witness`: a small witness of audit logs, on another machine than the gateways.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, Subcommand};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::audit::given_key;
use super::failure::Failure;
use super::output::Output;
use crate::audit::witness::{Answer, StateError, Witness as Cosigner, WitnessSigner};
use crate::body::{self, Body};
use crate::clock::SystemClock;
use crate::id::SystemSource;
use crate::telemetry;
use crate::trust::tls::{Identity, server_config};

/// Connections at once.
const MOST: usize = 256;
/// How long a handshake, a head or a body may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once from one address, but for this machine's own: there is what stands before the witness.
const MOST_OF_ONE: usize = 8;
/// How long a connection may live: for one request, and that is short.
const LIFE: Duration = Duration::from_secs(30);

/// A witness of audit logs: it cosigns a log's checkpoint only when that continues the one before.
#[derive(Debug, Subcommand)]
pub(crate) enum Witness {
    Init(Init),
    Serve(Serve),
}

/// Makes the key of a witness, and prints the public one: `[audit.witness] key` of the gateways takes it, and so does
/// `--witness-key` of `countersign audit verify` and `check-proof`.
///
/// Examples:
///   countersign witness init --key witness.key --name witness.example.org
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Init {
    /// Where to write the private key; the public one goes beside it, with the extension `pub`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Name of the witness: a host name as a rule.
    #[arg(long, value_name = "NAME")]
    name: String,
}

/// Runs a witness (C2SP tlog-witness) until it is told to stop. It keeps the newest checkpoint that it cosigned of each log and
/// epoch, a file each, on stable storage before it answers. A log that was cut, rolled back or rebuilt gets no cosignature. Neither does a new epoch of
/// a log that it knows, until `--accept-epoch` names it: a restored log begins one, and so does one that was rolled back.
///
/// Run it on a machine that the gateways' administrators cannot write on. Its files are checkpoints to verify with:
/// `countersign audit verify --checkpoint`. Beyond this machine it serves HTTPS only.
///
/// Examples:
///   countersign witness serve --listen 127.0.0.1:7700 --key witness.key --state ./witness --log-key gw.pub
///   countersign witness serve --listen 0.0.0.0:443 --key witness.key --state ./witness --log-key gw.pub --certificate chain.pem --certificate-key key.pem
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The private key that `witness init` made.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Folder for what was seen; made when it is not there. It must survive the machine's crashes.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Public key of a log to witness: a file, or the key itself. May be given more than once.
    #[arg(long, value_name = "PUB", required = true)]
    log_key: Vec<String>,
    /// A later epoch of a log that is witnessed, as the first line of its checkpoints says it (`gw.example.org/log/2`). May be
    /// given more than once, and is needed until the first cosignature.
    #[arg(long, value_name = "ORIGIN")]
    accept_epoch: Vec<String>,
    /// Certificate for HTTPS (PEM, leaf first).
    #[arg(long, value_name = "FILE", requires = "certificate_key")]
    certificate: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_key: Option<PathBuf>,
}

/// Runs the command.
pub(super) async fn run(command: Witness, out: Output) -> Result<(), Failure> {
    match command {
        Witness::Init(args) => init(&args, out),
        Witness::Serve(args) => serve(args, out).await,
    }
}

fn init(args: &Init, out: Output) -> Result<(), Failure> {
    let made = WitnessSigner::generate(&args.name, &SystemSource::new())
        .and_then(|signer| signer.save(&args.key).map(|()| signer));
    let signer = made.map_err(|error| Failure::failed(error.to_string()))?;
    let key = signer.public().to_string();
    Ok(out.show(&json!({ "key": key }), |out, _| out.line(&key))?)
}

async fn serve(args: Serve, out: Output) -> Result<(), Failure> {
    let tls = acceptor(&args)?;
    let logs = args.log_key.iter().map(|key| given_key(key));
    let logs = logs.collect::<Result<_, _>>()?;
    let signer = WitnessSigner::load(&args.key).map_err(|error| Failure::failed(error.to_string()))?;
    telemetry::start(&telemetry::Config::default())?;
    let witness = Cosigner::open(signer, logs, &args.state, SystemClock::shared())
        .map_err(refused)?
        .accepting(args.accept_epoch);
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::failed(format!("cannot listen on {}: {error}", args.listen)))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    let shown = json!({ "url": url, "key": witness.key().to_string() });
    out.show(&shown, |out, _| out.line(format!("witnessing on {url}")))?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        () = accept(listener, tls, Arc::new(witness)) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn refused(error: StateError) -> Failure {
    let failure = Failure::failed(error.to_string());
    match error {
        StateError::NotOurs { .. } => failure.hint(
            "a witness that forgets cosigns what it should refuse: give the keys it had, or find out who changed the file",
        ),
        StateError::File { .. } | StateError::Locked(_) => failure,
    }
}

/// How clients connect.
///
/// SECURITY: cosignatures are signed by themselves, but what is sent here tells how much is done at a gateway.
fn acceptor(args: &Serve) -> Result<Option<TlsAcceptor>, Failure> {
    match (&args.certificate, &args.certificate_key) {
        (Some(certificate), Some(key)) => {
            let identity = Identity::load(certificate, key).and_then(|identity| server_config(identity, &[]));
            let config = identity.map_err(|error| Failure::failed(error.to_string()))?;
            Ok(Some(TlsAcceptor::from(config)))
        }
        _ if args.listen.ip().is_loopback() => Ok(None),
        _ => Err(
            Failure::usage(format!("{} is beyond this machine, and there is no certificate", args.listen))
                .hint("give --certificate FILE and --certificate-key FILE, or listen on 127.0.0.1 behind something that has one"),
        ),
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, witness: Arc<Cosigner>) {
    let places = Arc::new(Semaphore::new(MOST));
    let guests = Arc::new(Guests::default());
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // SECURITY: anybody may connect, so nobody gets all places.
        let Some(guest) = guests.enter(from.ip()) else {
            continue;
        };
        let (tls, witness) = (tls.clone(), witness.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(LIFE, connection(stream, tls, witness)).await;
            drop((place, guest));
        });
    }
}

/// Who is connected, and how often.
#[derive(Debug, Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address; it ends when this is dropped.
#[derive(Debug)]
struct Guest {
    guests: Arc<Guests>,
    of: IpAddr,
}

impl Guests {
    /// A place for one more; `None` when the address has its share.
    fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Guest> {
        let (of, most) = (
            network(from),
            if from.to_canonical().is_loopback() {
                MOST
            } else {
                MOST_OF_ONE
            },
        );
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(of).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        let guests = self.clone();
        Some(Guest { guests, of })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.of) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

/// What one client has as a rule: an IPv4 address, or 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, witness: Arc<Cosigner>) {
    match tls {
        None => http(stream, witness).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                http(stream, witness).await;
            }
        }
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin>(stream: S, witness: Arc<Cosigner>) {
    let service = service_fn(move |request| {
        let witness = witness.clone();
        async move { Ok::<_, Infallible>(answered(request, witness).await) }
    });
    // A client that breaks off is no concern of the witness.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answered(request: Request<Incoming>, witness: Arc<Cosigner>) -> Response<Body> {
    if request.uri().path() != "/add-checkpoint" {
        return plain(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = Limited::new(request.into_body(), Cosigner::LONGEST).collect();
    let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, body).await else {
        return plain(StatusCode::BAD_REQUEST);
    };
    let body = body.to_bytes();
    let answer = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body)).await;
    answer.map_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR), response)
}

fn response(answer: Answer) -> Response<Body> {
    let mut response = Response::new(body::full(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = header::HeaderValue::from_static(answer.content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_or_network_never_has_all_places() {
        let guests = Arc::new(Guests::default());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut inside: Vec<_> = (0..MOST_OF_ONE)
            .map(|_| guests.enter(address("192.0.2.1")).unwrap())
            .collect();
        assert!(guests.enter(address("192.0.2.1")).is_none());
        assert!(
            guests.enter(address("::ffff:192.0.2.1")).is_none(),
            "the same one"
        );
        assert!(guests.enter(address("192.0.2.2")).is_some());
        inside.pop();
        assert!(
            guests.enter(address("192.0.2.1")).is_some(),
            "a place became free"
        );
        let hosts = (0..MOST_OF_ONE).map(|n| address(&format!("2001:db8::{n:x}")));
        let network: Vec<_> = hosts.map(|host| guests.enter(host).unwrap()).collect();
        assert!(guests.enter(address("2001:db8::ffff")).is_none());
        assert!(guests.enter(address("2001:db8:0:1::1")).is_some());
        drop((inside, network));
        assert!(guests.0.lock().unwrap().is_empty());
        let own: Vec<_> = (0..MOST)
            .map(|_| guests.enter(address("127.0.0.1")).unwrap())
            .collect();
        assert_eq!(own.len(), MOST);
    }
}
