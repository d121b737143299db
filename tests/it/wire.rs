//! Bytes on the wire: a TLS client that sends what it likes, and tools made of raw sockets, some of them evil.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::world::World;

/// A TLS connection to the gateway.
pub type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// A client's settings: it trusts these certificates and speaks this protocol (ALPN).
pub fn trusting(roots: &[CertificateDer<'static>], protocol: &str) -> Arc<rustls::ClientConfig> {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

/// Connects with this protocol; a read that waits for longer than `patience` is an error.
pub fn connect(world: &World, protocol: &str, patience: Duration) -> Tls {
    let root = CertificateDer::from_pem_file(world.ca()).unwrap();
    let name = ServerName::try_from("gw.localhost").unwrap();
    let tls = rustls::ClientConnection::new(trusting(&[root], protocol), name).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", world.port())).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    rustls::StreamOwned::new(tls, socket)
}

/// How long a connection may stay silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is promised within a second has this long: a machine under load is not the gateway's fault, and whatever else could
/// end a connection takes longer (a lease is renewed after 30 s, silence ends after 60 s). That a second is kept is seen in
/// `gateway::lease`, whose times are fractions of it.
pub const PROMPTLY: Duration = Duration::from_secs(10);

/// A client's connection to the gateway.
pub struct Wire(Tls);

impl Wire {
    /// Connects with one ALPN protocol.
    pub fn connect(world: &World, alpn: &str) -> Self {
        Self(connect(world, alpn, PATIENCE))
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.write_all(bytes.as_ref()).unwrap();
        self.0.flush().unwrap();
        self
    }

    /// Reads until what came ends with `end`.
    #[track_caller]
    pub fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(end.as_bytes()) {
            match self.0.read(&mut byte) {
                Ok(1) => text.push(byte[0]),
                other => panic!("{other:?} after {}", String::from_utf8_lossy(&text)),
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Reads the head of an answer.
    #[track_caller]
    pub fn head(&mut self) -> String {
        self.until("\r\n\r\n")
    }

    /// Reads exactly so many bytes.
    #[track_caller]
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads to the end of the connection, however it ends; gives what came and how long it took.
    #[track_caller]
    pub fn rest(&mut self) -> (String, Duration) {
        let began = Instant::now();
        let mut bytes = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut bytes) {
            let open = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(
                !open,
                "the connection stays open after {}",
                String::from_utf8_lossy(&bytes)
            );
        }
        (String::from_utf8_lossy(&bytes).into_owned(), began.elapsed())
    }

    /// Whether nothing comes for a moment.
    pub fn is_silent(&mut self, moment: Duration) -> bool {
        self.0.sock.set_read_timeout(Some(moment)).unwrap();
        let read = self.0.read(&mut [0]);
        self.0.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}

/// A connection to a raw tool.
pub struct Caller {
    /// The socket.
    pub socket: TcpStream,
    /// What was read beyond the last head.
    rest: Vec<u8>,
}

impl Caller {
    /// Reads one head; `None` when the connection ends before one begins.
    pub fn head(&mut self) -> Option<String> {
        let mut space = [0; 4096];
        loop {
            if let Some(at) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.rest.drain(..at + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            match self.socket.read(&mut space) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.rest.extend_from_slice(&space[..read]),
            }
        }
    }

    /// Reads whatever comes next; nothing at the end.
    pub fn read(&mut self) -> Vec<u8> {
        if !self.rest.is_empty() {
            return std::mem::take(&mut self.rest);
        }
        let mut space = vec![0; 64 * 1024];
        let read = self.socket.read(&mut space).unwrap_or(0);
        space.truncate(read);
        space
    }

    /// Sends bytes; whether they could be sent.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).is_ok()
    }
}

/// A tool made of a raw socket: every connection is handed to the same function, in a thread of its own.
pub struct RawTool {
    /// Where it listens.
    pub port: u16,
    connections: Arc<AtomicUsize>,
}

impl RawTool {
    /// Starts it.
    pub fn start(serve: impl Fn(Caller) + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), serve)
    }

    /// Starts it on a socket.
    pub fn start_on(listener: TcpListener, serve: impl Fn(Caller) + Send + Sync + 'static) -> Self {
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (serve, count) = (Arc::new(serve), connections.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                let caller = Caller {
                    socket,
                    rest: Vec::new(),
                };
                std::thread::spawn(move || serve(caller));
            }
        });
        Self { port, connections }
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A channel for what a tool saw.
pub fn seen<T>() -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
    mpsc::channel()
}

/// Wraps a tool with these tasks (TOML) and grants all of them to scientists.
pub fn wrap(world: &World, name: &str, url: &str, tasks: &str) {
    wrap_with(world, name, url, &[], tasks);
}

/// The same, with further arguments for `upstream allow`.
pub fn wrap_with(world: &World, name: &str, url: &str, arguments: &[&str], tasks: &str) {
    let manifest = world.dir.path().join(format!("{name}.toml"));
    let text = format!("[tool]\nname = \"{name}\"\nupstream = \"{name}\"\ndelegation = \"none\"\n\n{tasks}");
    fs::write(&manifest, &text).unwrap();
    let mut allow = vec!["upstream", "allow", &world.vo, name, url];
    allow.extend(arguments);
    world.cli("admin", &allow).ok();
    world
        .cli("admin", &["tool", "add", &world.vo, manifest.to_str().unwrap()])
        .ok();
    let mut grant = vec!["grant", "add", &world.vo, "scientist", name];
    let tasks: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("name = \""))
        .skip(1)
        .filter_map(|rest| rest.strip_suffix('"'))
        .collect();
    grant.extend(tasks);
    world.cli("admin", &grant).ok();
}

/// Host and credential lines of a request of `user`.
pub fn lines(world: &World, user: &str) -> String {
    format!(
        "Host: gw.localhost:{}\r\nAuthorization: Bearer {}\r\n",
        world.port(),
        world.token(user)
    )
}

/// The value of a header in a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(header, _)| header.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// The outcome of a request.
pub fn outcome(world: &World, request: &str) -> serde_json::Value {
    crate::world::until("the outcome", || {
        let events = world.events_of(request);
        events
            .into_iter()
            .find_map(|(name, event)| (name == "outcome").then_some(event))
    })
}
