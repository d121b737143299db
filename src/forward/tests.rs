//! The whole of `forward` against tools made of raw sockets, some of them evil.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::authenticate::Source;
use crate::body::{self, Body, BoxError};
use crate::delegate::Credential;
use crate::id::{PersonId, RequestId, UpstreamId, VoId};
use crate::problem::{AsProblem, Kind};
use crate::tool::{Address, Tool};
use crate::vo::{Upstream, UpstreamAddress};

pub(super) fn tool() -> Tool {
    Tool {
        name: "jobs".into(),
        keep_cookies: true,
        ..Tool::own(Vec::new()).unwrap()
    }
}

pub(super) fn identity() -> Identity {
    Identity {
        person: Some(PersonId::from(uuid::Uuid::from_u128(1))),
        vo: "imense".into(),
        task: "submit job".into(),
        request: RequestId::from(uuid::Uuid::from_u128(2)),
    }
}

fn upstream(address: UpstreamAddress, allow_local: bool) -> Arc<Upstream> {
    Arc::new(Upstream {
        id: UpstreamId::from(uuid::Uuid::from_u128(3)),
        vo: VoId::from(uuid::Uuid::from_u128(4)),
        name: "ce".into(),
        address,
        url: String::new(),
        allow_local,
        http2: false,
        version: 1,
    })
}

fn outgoing(upstream: Arc<Upstream>, target: &str) -> Outgoing {
    Outgoing {
        method: Method::GET,
        target: target.into(),
        headers: HeaderMap::new(),
        body: body::empty(),
        tool: Arc::new(tool()),
        upstream,
        credential: Credential::None,
        identity: identity(),
        address: Address::Path,
        public_host: "gw.example.org".into(),
        client: Source::Ip("192.0.2.1".parse().unwrap()),
        trace: crate::telemetry::Trace::own(identity().request),
        timeout: None,
    }
}

/// A tool that reads one request head per connection (and `body` bytes more), answers with fixed bytes and closes.
/// Gives its upstream and what it read.
async fn fixed(
    body: usize,
    answer: &'static [u8],
) -> (Arc<Upstream>, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut text = read_head(&mut stream).await;
            let mut rest = vec![0; body];
            stream.read_exact(&mut rest).await.unwrap();
            text.push_str(&String::from_utf8(rest).unwrap());
            let _ = send.send(text);
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (
        upstream(UpstreamAddress::Tcp("127.0.0.1".into(), port), true),
        seen,
    )
}

async fn read_head<S: tokio::io::AsyncRead + Unpin>(stream: &mut BufReader<S>) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if stream.read_line(&mut text).await.unwrap() == 0 {
            break;
        }
    }
    text
}

async fn text(response: http::Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn the_tool_gets_the_judged_bytes_and_the_gateways_word() {
    let (upstream, mut seen) = fixed(
        5,
        b"HTTP/1.1 201 Made\r\nLocation: /jobs/8\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let forward = Forward::new(Config::default());
    let mut out = outgoing(upstream, "/jobs/a%20b?x=1&y=%2F");
    out.method = Method::POST;
    out.headers.insert("content-length", "5".parse().unwrap());
    out.headers.insert("x-countersign-user", "root".parse().unwrap());
    out.body = body::full("hello");
    let response = forward.send(out).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["location"], "/imense/jobs/jobs/8");
    assert_eq!(response.headers()["content-security-policy"], "sandbox");
    assert_eq!(text(response).await, "ok");
    let seen = seen.recv().await.unwrap();
    assert!(
        seen.starts_with("POST /jobs/a%20b?x=1&y=%2F HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
    assert!(
        seen.contains("content-length: 5\r\n") && !seen.contains("root"),
        "{seen}"
    );
    assert!(
        seen.contains(&format!("x-countersign-user: {}\r\n", identity().person.unwrap())),
        "{seen}"
    );
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_chunked() {
    let (upstream, mut seen) = fixed(15, b"HTTP/1.1 204 No\r\n\r\n").await;
    let mut out = outgoing(upstream, "/jobs");
    out.method = Method::POST;
    let frames = futures_util::stream::iter([Ok::<_, BoxError>(http_body::Frame::data("hello".into()))]);
    out.body = http_body_util::StreamBody::new(frames).boxed_unsync();
    assert_eq!(
        Forward::new(Config::default()).send(out).await.unwrap().status(),
        204
    );
    let seen = seen.recv().await.unwrap();
    assert!(
        seen.contains("transfer-encoding: chunked\r\n") && seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_unix_socket_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tool.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream).await;
        assert!(head.contains("host: localhost\r\n"), "{head}");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
            .await
            .unwrap();
    });
    let forward = Forward::new(Config::default());
    let at = upstream(UpstreamAddress::Unix(path.clone()), false);
    assert_eq!(
        text(forward.send(outgoing(at.clone(), "/")).await.unwrap()).await,
        "hi"
    );
    let forward = Forward::new(Config::default());
    forward.set_own_listeners(OwnListeners {
        addresses: Vec::new(),
        sockets: vec![path],
    });
    assert!(matches!(
        forward.send(outgoing(at, "/")).await,
        Err(ForwardError::RefusedAddress { .. })
    ));
}

#[tokio::test]
async fn addresses_are_judged_at_every_connect() {
    let (allowed, _seen) = fixed(0, b"HTTP/1.1 204 No\r\n\r\n").await;
    let UpstreamAddress::Tcp(_, port) = allowed.address.clone() else {
        panic!()
    };
    let forward = Forward::new(Config::default());
    for host in ["127.0.0.1", "localhost", "[::1]", "::ffff:127.0.0.1"] {
        let refused = upstream(UpstreamAddress::Tcp(host.into(), port), false);
        let error = Forward::new(Config::default())
            .send(outgoing(refused, "/"))
            .await
            .unwrap_err();
        assert!(
            matches!(error, ForwardError::RefusedAddress { .. }),
            "{host}: {error}"
        );
        assert!(!error.sent() && error.as_problem().kind == Kind::ToolUnreachable);
    }
    assert_eq!(
        forward
            .send(outgoing(allowed.clone(), "/"))
            .await
            .unwrap()
            .status(),
        204
    );
    // The pool has no idle connection left (the tool closed it), so the next request connects, and is judged, again.
    forward.set_own_listeners(OwnListeners {
        addresses: vec![format!("0.0.0.0:{port}").parse().unwrap()],
        sockets: Vec::new(),
    });
    let error = forward.send(outgoing(allowed, "/")).await.unwrap_err();
    assert!(matches!(error, ForwardError::RefusedAddress { .. }), "{error}");
}

#[tokio::test]
async fn a_tool_that_is_not_there_was_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let at = upstream(UpstreamAddress::Tcp("127.0.0.1".into(), port), true);
    let error = Forward::new(Config::default())
        .send(outgoing(at, "/"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ForwardError::NotConnected { .. }) && !error.sent(),
        "{error}"
    );
    assert_eq!(error.as_problem().kind, Kind::ToolUnreachable);
}

#[tokio::test]
async fn a_tool_that_breaks_off_is_never_asked_twice() {
    let (at, mut seen) = fixed(0, b"").await;
    let error = Forward::new(Config::default())
        .send(outgoing(at, "/once"))
        .await
        .unwrap_err();
    assert!(matches!(error, ForwardError::Broke) && error.sent(), "{error}");
    assert_eq!(error.as_problem().kind, Kind::ToolAnswer);
    assert!(seen.recv().await.unwrap().starts_with("GET /once"));
    assert!(seen.try_recv().is_err());
}

#[tokio::test]
async fn evil_answers_are_withheld() {
    let huge: &'static [u8] = Box::leak(
        format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "a".repeat(90_000))
            .into_bytes()
            .into_boxed_slice(),
    );
    let many: &'static [u8] = Box::leak(
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: 1\r\n".repeat(500))
            .into_bytes()
            .into_boxed_slice(),
    );
    let answers: [&'static [u8]; 7] = [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nbad header: 1\r\n\r\n",
        huge,
        many,
    ];
    for answer in answers {
        let (at, _seen) = fixed(0, answer).await;
        let error = Forward::new(Config::default()).send(outgoing(at, "/")).await;
        let shown = String::from_utf8_lossy(answer.get(..60.min(answer.len())).unwrap());
        let error = error.map(|response| response.status()).expect_err(&shown);
        assert_eq!(error.as_problem().kind, Kind::ToolAnswer, "{shown}: {error}");
    }
}

#[tokio::test]
async fn extra_bytes_of_one_answer_never_become_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut count = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count += 1;
            let mut stream = BufReader::new(stream);
            read_head(&mut stream).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{count}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    });
    let at = upstream(UpstreamAddress::Tcp("127.0.0.1".into(), port), true);
    let forward = Forward::new(Config::default());
    for expected in ["1", "2", "3"] {
        match forward.send(outgoing(at.clone(), "/")).await {
            Ok(response) => assert_eq!(text(response).await, expected),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_truncated_answer_ends_in_an_error() {
    let (at, _seen) = fixed(0, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
    let response = Forward::new(Config::default())
        .send(outgoing(at, "/"))
        .await
        .unwrap();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn a_tool_that_is_silent_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut out = outgoing(
        upstream(UpstreamAddress::Tcp("127.0.0.1".into(), port), true),
        "/",
    );
    out.timeout = Some(Duration::from_millis(30));
    let error = Forward::new(Config::default()).send(out).await.unwrap_err();
    assert!(
        matches!(error, ForwardError::Timeout(_)) && error.sent(),
        "{error}"
    );
    assert_eq!(error.as_problem().kind, Kind::ToolTimeout);
}

#[tokio::test]
async fn a_client_that_breaks_off_is_told_apart_from_a_tool_that_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut out = outgoing(
        upstream(UpstreamAddress::Tcp("127.0.0.1".into(), port), true),
        "/",
    );
    out.method = Method::PUT;
    let frames = futures_util::stream::iter([
        Ok::<_, BoxError>(http_body::Frame::data("hello".into())),
        Err("the client left".into()),
    ]);
    out.body = http_body_util::StreamBody::new(frames).boxed_unsync();
    match Forward::new(Config::default()).send(out).await {
        Err(ForwardError::BodyBroke(cause)) => assert_eq!(cause.to_string(), "the client left"),
        other => panic!("{other:?}"),
    }
}

/// A private CA with a server certificate for `localhost` and any number of client certificates.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(
        &self,
        name: &str,
    ) -> (
        Vec<rustls_pki_types::CertificateDer<'static>>,
        PrivateKeyDer<'static>,
    ) {
        let key = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        let certificate = CertificateParams::new(vec![name.into()])
            .unwrap()
            .signed_by(&key, issuer)
            .unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
    }
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesClientCert for Fixed {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// A tool over TLS that answers every request on a connection with the SHA-256 of the client's certificate.
async fn mutual_tls(ca: &Ca, version: &'static rustls::SupportedProtocolVersion) -> u16 {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
    let (chain, key) = ca.issue("localhost");
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(64);
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            tokio::spawn(async move {
                let peer = stream
                    .get_ref()
                    .1
                    .peer_certificates()
                    .map(|chain| crate::record::Hash::of(&chain[0]).to_string());
                let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                let peer = peer.unwrap_or_else(|| "nobody".into());
                let mut stream = BufReader::new(stream);
                while !read_head(&mut stream).await.is_empty() {
                    let text = format!("{peer} {resumed}");
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    port
}

fn certificate(ca: &Ca, name: &str) -> (Credential, String) {
    let (chain, key) = ca.issue(name);
    let hash = crate::record::Hash::of(&chain[0]).to_string();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let resolver = Arc::new(Fixed(Arc::new(CertifiedKey::new(chain, key))));
    (
        Credential::ClientCertificate {
            resolver,
            id: name.into(),
        },
        hash,
    )
}

/// The same credential for another request.
fn again(credential: &Credential) -> Credential {
    match credential {
        Credential::ClientCertificate { resolver, id } => Credential::ClientCertificate {
            resolver: resolver.clone(),
            id: id.clone(),
        },
        _ => Credential::None,
    }
}

#[tokio::test]
async fn two_scientists_never_share_a_connection_or_a_session() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let ca = Ca::new();
        let port = mutual_tls(&ca, version).await;
        let at = upstream(
            UpstreamAddress::Tls {
                host: "127.0.0.1".into(),
                port,
                ca: Some(ca.0.pem()),
                name: Some("localhost".into()),
            },
            true,
        );
        let forward = Forward::new(Config::default());
        let (jane, jane_hash) = certificate(&ca, "jane");
        let (john, john_hash) = certificate(&ca, "john");
        for _ in 0..3 {
            for (credential, expected) in [
                (&jane, jane_hash.as_str()),
                (&john, &john_hash),
                (&Credential::None, "nobody"),
            ] {
                let mut out = outgoing(at.clone(), "/");
                out.credential = again(credential);
                let seen = text(forward.send(out).await.unwrap()).await;
                assert_eq!(seen, format!("{expected} false"));
            }
        }
        // A proxy that has ended leaves no connection behind; the next one is made, and proved, anew.
        forward.forget("jane");
        let mut out = outgoing(at.clone(), "/");
        out.credential = jane;
        assert_eq!(
            text(forward.send(out).await.unwrap()).await,
            format!("{jane_hash} false")
        );
    }
}

#[tokio::test]
async fn a_tool_with_another_authority_or_name_is_not_reached() {
    let ca = Ca::new();
    let port = mutual_tls(&ca, &rustls::version::TLS13).await;
    let tls = |ca: &Ca, name: &str| UpstreamAddress::Tls {
        host: "127.0.0.1".into(),
        port,
        ca: Some(ca.0.pem()),
        name: Some(name.into()),
    };
    for address in [tls(&Ca::new(), "localhost"), tls(&ca, "other.example")] {
        let error = Forward::new(Config::default())
            .send(outgoing(upstream(address, true), "/"))
            .await
            .unwrap_err();
        assert!(matches!(error, ForwardError::NotConnected { .. }), "{error}");
    }
    let mut out = outgoing(
        upstream(UpstreamAddress::Tcp("127.0.0.1".into(), port), true),
        "/",
    );
    out.credential = certificate(&ca, "jane").0;
    let error = Forward::new(Config::default()).send(out).await.unwrap_err();
    assert!(
        matches!(error, ForwardError::Trust { .. }) && !error.sent(),
        "{error}"
    );
}
