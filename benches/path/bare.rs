//! The programs that this one starts of itself: the upstream, who answers for nginx and Caddy whether somebody may, and
//! the bare proxy that is the measure.
//!
//! Each prints its port and serves until its standard input ends.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use countersign::trust::tls::{Identity, server_config};
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use super::load::Repeat;

/// `upstream PORT` (0: any), `auth TOKEN`, or `bare UPSTREAM-PORT CERTIFICATE KEY`.
pub(crate) fn child(arguments: &[String]) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let single = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime")
    };
    match words[..] {
        ["upstream", port] => single().block_on(upstream(port.parse().expect("a port"))),
        ["auth", token] => single().block_on(auth(token)),
        ["bare", port, certificate, key] => {
            // The same runtime as the gateway's.
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime
                .expect("a runtime")
                .block_on(bare(port, Path::new(certificate), Path::new(key)));
        }
        _ => panic!("no such child: {words:?}"),
    }
}

async fn listen(port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).expect("a port");
    // Room for every client that connects at the same moment.
    let listener = socket.listen(4096).expect("a listener");
    println!("{}", listener.local_addr().expect("an address").port());
    std::io::stdout().flush().expect("a pipe");
    listener
}

/// Answers 1 KiB, or as many bytes as a path `.../large/BYTES` says, after it has read the request's body.
async fn upstream(port: u16) {
    let page = Bytes::from(vec![b'x'; 1024]);
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    serve(port, move |request| {
        let (page, piece) = (page.clone(), piece.clone());
        async move {
            let large = request.uri().path().rsplit_once("/large/");
            let body = match large.and_then(|(_, bytes)| bytes.parse().ok()) {
                Some(bytes) => Repeat::new(piece, bytes),
                None => Repeat::new(page, 1024),
            };
            let mut sent = request.into_body();
            while let Some(frame) = sent.frame().await {
                if frame.is_err() {
                    break;
                }
            }
            let answer = Response::builder().header(header::CONTENT_TYPE, "text/plain");
            answer.body(body).expect("an answer")
        }
    })
    .await;
}

/// Says for `auth_request` and `forward_auth` who asks, by a token in memory.
async fn auth(token: &str) {
    let expected: Arc<str> = format!("Bearer {token}").into();
    serve(0, move |request| {
        let expected = expected.clone();
        async move {
            let given = request.headers().get(header::AUTHORIZATION);
            let known = given.is_some_and(|given| given.as_bytes() == expected.as_bytes());
            let status = if known {
                StatusCode::OK
            } else {
                StatusCode::UNAUTHORIZED
            };
            let mut answer = Response::builder().status(status);
            if known {
                answer = answer.header("x-remote-user", "anna");
            }
            answer.body(Repeat::new(Bytes::new(), 0)).expect("an answer")
        }
    })
    .await;
}

async fn serve<F>(port: u16, answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static)
where
    F: Future<Output = Response<Repeat>> + Send + 'static,
{
    let listener = listen(port).await;
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let server =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(server);
    }
}

async fn bare(upstream: &str, certificate: &Path, key: &Path) {
    let identity = Identity::load(certificate, key).expect("a certificate");
    let tls = TlsAcceptor::from(server_config(identity, &[b"h2", b"http/1.1"]).expect("a configuration"));
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool: Client<_, Incoming> = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector);
    let authority: Arc<str> = format!("127.0.0.1:{upstream}").into();
    let listener = listen(0).await;
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let (tls, pool, authority) = (tls.clone(), pool.clone(), authority.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let pass = move |mut request: Request<Incoming>| {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let uri = Uri::builder()
                    .scheme("http")
                    .authority(&*authority)
                    .path_and_query(path);
                *request.uri_mut() = uri.build().expect("a target");
                *request.version_mut() = http::Version::HTTP_11;
                request.headers_mut().remove(header::HOST);
                pool.request(request)
            };
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new());
            let _ = server
                .serve_connection(TokioIo::new(stream), service_fn(pass))
                .await;
        });
    }
}
