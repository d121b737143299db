//! The programs that this one starts of itself: the upstream, and the bare proxy that is the measure.
//!
//! Each prints its port and serves until its standard input ends.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use countersign::trust::tls::{Identity, server_config};
use http::{Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// `upstream`, or `bare UPSTREAM-PORT CERTIFICATE KEY`.
pub(crate) fn child(arguments: &[String]) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["upstream"] => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(upstream());
        }
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

async fn listen() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    std::io::stdout().flush().expect("a pipe");
    listener
}

async fn upstream() {
    let listener = listen().await;
    let page = Bytes::from(vec![b'x'; 1024]);
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let page = page.clone();
        let answer = move |_: Request<Incoming>| {
            let page = page.clone();
            async move {
                let answer = Response::builder().header(header::CONTENT_TYPE, "text/plain");
                Ok::<_, Infallible>(answer.body(Full::new(page)).expect("an answer"))
            }
        };
        let server = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(answer));
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
    let listener = listen().await;
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
