use super::*;
use std::process::Stdio;
use std::sync::Mutex;

use http_body_util::BodyExt;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::process::Command;
use tokio::sync::Notify;

use crate::body;
use crate::gateway::framing;

/// Answers what it was asked, and waits where the path says so.
struct Echo {
    limits: Limits,
    entered: Notify,
    leave: Notify,
    shed: Mutex<Vec<&'static str>>,
}

impl Handler for Echo {
    fn handle<'a>(
        &'a self,
        request: Request<Body>,
        connection: &'a ConnectionInfo,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let (head, incoming) = request.into_parts();
            let asked = match framing::check(&head, &self.limits) {
                Ok(asked) => asked,
                Err(problem) => {
                    let mut response = Response::new(body::full(problem.kind.name()));
                    *response.status_mut() = problem.kind.status().try_into().unwrap();
                    return response;
                }
            };
            if asked.target.path() == "/wait" {
                self.entered.notify_one();
                self.leave.notified().await;
            }
            if asked.target.path() == "/source" {
                return Response::new(body::full(format!("{:?}", connection.source)));
            }
            if asked.target.path() == "/endless" {
                let piece = || {
                    Ok::<_, crate::body::BoxError>(http_body::Frame::data(bytes::Bytes::from_static(
                        &[0; 16 * 1024],
                    )))
                };
                let pieces = futures_util::stream::repeat_with(piece);
                return Response::new(http_body_util::StreamBody::new(pieces).boxed_unsync());
            }
            if asked.target.path() == "/unread" {
                return Response::new(body::full("not read"));
            }
            let read = incoming.collect().await.map(|whole| whole.to_bytes().len());
            let text = format!(
                "{:?} {} {} {read:?}",
                connection.protocol,
                asked.authority,
                asked.target.as_str()
            );
            Response::new(body::full(text))
        })
    }

    fn shed(&self, _: Source, reason: &'static str) {
        self.shed.lock().unwrap().push(reason);
    }
}

struct Server {
    address: SocketAddr,
    ca: CertificateDer<'static>,
    pem: tempfile::NamedTempFile,
    echo: Arc<Echo>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    listener: Arc<Listener>,
    tls: Arc<rustls::ServerConfig>,
}

async fn start(bounds: Bounds) -> Server {
    start_behind(bounds, Balancers::default()).await
}

async fn start_behind(bounds: Bounds, balancers: Balancers) -> Server {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let ca = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![ca.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let pem = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(pem.path(), certified.cert.pem()).unwrap();
    let limits = Limits::default();
    let echo = Arc::new(Echo {
        limits,
        entered: Notify::new(),
        leave: Notify::new(),
        shed: Mutex::default(),
    });
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let tls = Arc::new(config);
    let front = Front {
        tls: tls.clone(),
        handler: echo.clone(),
        bounds,
        limits,
        balancers,
    };
    let listener = Listener::new(front);
    let lanes = Arc::new(Lanes::start(2).unwrap());
    let served = tokio::spawn(listener.clone().serve(vec![socket], lanes, stop.clone()));
    Server {
        address,
        ca,
        pem,
        echo,
        stop,
        served,
        listener,
        tls,
    }
}

type Client = tokio_rustls::client::TlsStream<TcpStream>;

impl Server {
    async fn connect(&self, alpn: &[&[u8]]) -> io::Result<Client> {
        let stream = TcpStream::connect(self.address).await?;
        self.shake(stream, alpn).await
    }

    async fn shake(&self, stream: TcpStream, alpn: &[&[u8]]) -> io::Result<Client> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// Sends raw bytes over HTTP/1.1 and reads until the connection ends.
    async fn raw(&self, text: &str) -> String {
        let mut client = self.connect(&[b"http/1.1"]).await.unwrap();
        client.write_all(text.as_bytes()).await.unwrap();
        read_all(&mut client).await
    }

    async fn curl(&self, arguments: &[&str]) -> String {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                "--noproxy",
                "*",
                "--cacert",
            ])
            .arg(self.pem.path())
            .args([
                "--resolve",
                &format!("localhost:{}:127.0.0.1", self.address.port()),
            ])
            .args(["--write-out", "|%{http_code}|%{http_version}"])
            .args(arguments)
            .output()
            .await
            .expect("curl is needed: apt-get install curl");
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

async fn read_all(client: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    // A peer that closes without a goodbye is an error to TLS; what came before is what counts here.
    let _ = client.read_to_end(&mut text).await;
    String::from_utf8(text).unwrap()
}

/// Waits for what nobody is told of, for at most a minute.
async fn until(what: &str, done: impl Fn() -> bool) {
    let look = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !done() {
            looks.tick().await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(60), look).await;
    done.unwrap_or_else(|_| panic!("waited a minute for {what}"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start(Bounds::default()).await;
    let text = server
        .raw(
            "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc\
             PUT /b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n\
             GET /c HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )
        .await;
    let found: Vec<&str> = text.lines().filter(|line| line.contains("Http1 ")).collect();
    let joined = found.join("\n");
    let (a, b, c) = (
        joined.find("/a Ok(3)"),
        joined.find("/b Ok(4)"),
        joined.find("/c Ok(0)"),
    );
    assert!(a.is_some() && a < b && b < c, "{text}");
}

#[tokio::test]
async fn what_is_not_well_framed_is_refused_and_the_connection_ends() {
    let server = start(Bounds::default()).await;
    let host = "Host: localhost\r\n";
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400 "),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), "400 "),
        ("GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n".into(), "400 "),
        (format!("GET foo HTTP/1.1\r\n{host}\r\n"), "400 "),
        (format!("GET http://other/ HTTP/1.1\r\n{host}\r\n"), "400 "),
        (format!("OPTIONS * HTTP/1.1\r\n{host}\r\n"), "400 "),
        (format!("GET /a/../b HTTP/1.1\r\n{host}\r\n"), "400 "),
        (format!("GET / HTTP/1.0\r\n{host}\r\n"), "400 "),
        ("GET /\r\n".into(), "400 "),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "400 "),
        (format!("GET / HTTP/1.1\n{host}\n\n"), "400 "),
        (format!("GET / HTTP/1.1\r\n{host} folded: 1\r\n\r\n"), "400 "),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            "400 ",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
            "400 ",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n"),
            "400 ",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}X_Countersign-User: root\r\n\r\n"),
            "400 ",
        ),
        (format!("CONNECT localhost:1 HTTP/1.1\r\n{host}\r\n"), "405 "),
        (format!("TRACE / HTTP/1.1\r\n{host}\r\n"), "405 "),
        (
            format!("GET / HTTP/1.1\r\n{host}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
            "501 ",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(40_000)),
            "431 ",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: a\r\n".repeat(120)),
            "431 ",
        ),
    ] {
        // A second request behind it shows whether the connection went on.
        let text = server
            .raw(&format!(
                "{head}GET /after HTTP/1.1\r\n{host}Connection: close\r\n\r\n"
            ))
            .await;
        let shown = head.get(..60.min(head.len())).unwrap();
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status}")),
            "{shown:?}: {text:?}"
        );
    }
}

#[tokio::test]
async fn a_smuggled_request_is_never_served() {
    let server = start(Bounds::default()).await;
    for head in [
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\nY: b\r\n\r\n",
    ] {
        let text = server
            .raw(&format!(
                "{head}GET /smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(!text.contains("/smuggled"), "{head:?}: {text}");
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_gets_to_read_why() {
    let server = start(Bounds::default()).await;
    let mut client = server.connect(&[b"http/1.1"]).await.unwrap();
    let head = "POST /unread HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&[b'a'; 150_000]).await.unwrap();
    client.flush().await.unwrap();
    let text = read_all(&mut client).await;
    assert!(text.ends_with("not read"), "{text}");
}

/// Found with curl 7.88, which lost the answer when its stream was reset while it still sent.
#[tokio::test]
async fn an_http2_upload_that_is_refused_is_not_reset_while_it_is_sent() {
    use raw_http2::{begin, frame, frames, get};
    const END: u8 = 0x1;
    const ACK: u8 = 0x1;
    let server = start(Bounds::default()).await;
    let mut client = begin(&server).await;
    let mut post = get("/unread");
    post[0] = 0x83;
    client.write_all(&frame(1, 0x4, 1, &post)).await.unwrap();
    let answered = frames(&mut client, |kind, flags, _| kind == 0 && flags & END != 0).await;
    assert_eq!(answered.last().unwrap().2, b"not read");
    // As much as fits into the first window.
    for flags in [0, 0, END] {
        client
            .write_all(&frame(0, flags, 1, &[b'a'; 16_384]))
            .await
            .unwrap();
    }
    client.write_all(&frame(6, 0, 0, b"the ping")).await.unwrap();
    let seen = frames(&mut client, |kind, flags, _| kind == 6 && flags & ACK != 0).await;
    let resets = answered.iter().chain(&seen).filter(|(kind, ..)| *kind == 3);
    assert_eq!(resets.count(), 0);
}

#[tokio::test]
async fn alpn_alone_chooses_the_protocol() {
    let server = start(Bounds::default()).await;
    let (h1, h2) = (
        server.curl(&["--http1.1", &server.url("/x?a=b")]).await,
        server.curl(&["--http2", &server.url("/x?a=b")]).await,
    );
    let authority = format!("localhost:{}", server.address.port());
    assert_eq!(h1, format!("Http1 {authority} /x?a=b Ok(0)|200|1.1"));
    assert_eq!(h2, format!("Http2 {authority} /x?a=b Ok(0)|200|2"));
    // An HTTP/2 preface on a connection that chose HTTP/1.1 is a refusal, on one without ALPN too.
    for alpn in [&[b"http/1.1".as_slice()][..], &[]] {
        let mut client = server.connect(alpn).await.unwrap();
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let text = read_all(&mut client).await;
        assert!(
            text.starts_with("HTTP/1.1 400 ") && text.ends_with("malformed"),
            "{text:?}"
        );
    }
    // HTTP/1.1 bytes on a connection that chose HTTP/2 are not served.
    let mut client = server.connect(&[b"h2"]).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut read = Vec::new();
    let _ = client.read_to_end(&mut read).await;
    assert!(!read.windows(4).any(|four| four == b"HTTP"));
}

#[tokio::test]
async fn http2_is_held_to_the_same_rules() {
    let server = start(Bounds::default()).await;
    for (arguments, expected) in [
        (&["-H", "X-Countersign-User: root"][..], "identity_header|400|2"),
        (&["-X", "TRACE"], "method_not_allowed|405|2"),
        (&["--path-as-is", "-H", "a: b"], "|200|2"),
    ] {
        let url = server.url("/");
        let told = server.curl(&[&["--http2", &url], arguments].concat()).await;
        assert!(told.ends_with(expected), "{arguments:?}: {told}");
    }
    let long = format!("X: {}", "a".repeat(40_000));
    let told = server.curl(&["--http2", &server.url("/"), "-H", &long]).await;
    assert!(told.ends_with("headers_too_large|431|2"), "{told}");
    let told = server
        .curl(&["--http2", "--path-as-is", &server.url("/a/../b")])
        .await;
    assert!(told.ends_with("bad_target|400|2"), "{told}");
}

#[tokio::test]
async fn plain_http_is_redirected_and_never_served() {
    let server = start(Bounds::default()).await;
    for (sent, expected) in [
        (
            "GET /a?b HTTP/1.1\r\nHost: gw.example.org:8443\r\n\r\n",
            "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://gw.example.org:8443/a?b\r\n",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", ""),
        ("SSH-2.0-x\r\n\r\n", ""),
    ] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(sent.as_bytes()).await.unwrap();
        let text = read_all(&mut client).await;
        assert!(
            text.starts_with(expected) && (expected.is_empty() == text.is_empty()),
            "{sent:?}: {text:?}"
        );
    }
}

#[tokio::test]
async fn only_tls_1_2_and_1_3_are_spoken() {
    let server = start(Bounds::default()).await;
    for (version, expected) in [("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &server.address.to_string(),
                version,
                "-cipher",
                "ALL:@SECLEVEL=0",
                "-brief",
            ])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("openssl is needed: apt-get install openssl");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            told.contains("CONNECTION ESTABLISHED"),
            expected,
            "{version}: {told}"
        );
    }
}

#[tokio::test]
async fn one_source_cannot_take_all_places() {
    let server = start(Bounds {
        connections_per_source: 1,
        ..Bounds::default()
    })
    .await;
    let mut first = server.connect(&[b"http/1.1"]).await.unwrap();
    assert!(server.connect(&[b"http/1.1"]).await.is_err());
    first
        .write_all(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut first).await.contains("Http1 a /x"));
    drop(first);
    // Its place is free again as soon as the server has seen the end.
    while server.connect(&[b"http/1.1"]).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn silent_and_idle_connections_end() {
    let short = Duration::from_millis(20);
    let server = start(Bounds {
        handshake_timeout: short,
        ..Bounds::default()
    })
    .await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");
    let server = start(Bounds {
        idle_timeout: short,
        ..Bounds::default()
    })
    .await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut idle = server.connect(&[alpn]).await.unwrap();
        if alpn == b"h2" {
            idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .await
                .unwrap();
        }
        let mut read = Vec::new();
        let _ = idle.read_to_end(&mut read).await;
        assert!(!read.windows(4).any(|four| four == b"HTTP"));
    }
}

/// The client's end of one HTTP/2 connection, driven in the background.
async fn http2_client(
    server: &Server,
    window: u32,
) -> (
    hyper::client::conn::http2::SendRequest<Body>,
    tokio::task::JoinHandle<Result<(), hyper::Error>>,
) {
    let client = server.connect(&[b"h2"]).await.unwrap();
    let (send, drive) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(client))
        .await
        .unwrap();
    (send, tokio::spawn(drive))
}

fn asks(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .body(body)
        .unwrap()
}

/// A body that never comes.
struct Never;

impl http_body::Body for Never {
    type Data = bytes::Bytes;
    type Error = crate::body::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn finding_6_an_http2_body_that_never_comes_is_an_error_to_its_reader() {
    let server = start(Bounds {
        body_timeout: Duration::from_millis(20),
        ..Bounds::default()
    })
    .await;
    let (mut send, _drive) = http2_client(&server, 65_535).await;
    let answer = send
        .send_request(asks("POST", "/login", Never.boxed_unsync()))
        .await
        .unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(
        text.contains("/login Err(") && text.contains("TimedOut"),
        "{text}"
    );
}

#[tokio::test]
async fn finding_6_an_http2_answer_that_is_not_taken_ends_its_connection() {
    let server = start(Bounds {
        write_timeout: Duration::from_millis(20),
        ..Bounds::default()
    })
    .await;
    let (mut send, drive) = http2_client(&server, 0).await;
    let answer = send
        .send_request(asks("GET", "/unread", body::empty()))
        .await
        .unwrap();
    // The head came; its body cannot, and the connection does not wait for ever.
    let _ = drive.await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn finding_6_one_source_has_only_so_many_requests_under_way() {
    let server = start(Bounds {
        requests_per_source: 1,
        ..Bounds::default()
    })
    .await;
    let (mut first, _one) = http2_client(&server, 65_535).await;
    let (mut second, _two) = http2_client(&server, 65_535).await;
    let waiting = tokio::spawn(first.send_request(asks("GET", "/wait", body::empty())));
    server.echo.entered.notified().await;
    let answer = second
        .send_request(asks("GET", "/unread", body::empty()))
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "busy");
    server.echo.leave.notify_one();
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let _ = answer.into_body().collect().await.unwrap();
    // The place is free again as soon as the server has let go of the answer.
    loop {
        let again = second
            .send_request(asks("GET", "/unread", body::empty()))
            .await
            .unwrap();
        if again.status() == 200 {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_under_way_finish_when_the_gateway_stops() {
    let server = start(Bounds::default()).await;
    let mut client = server.connect(&[b"http/1.1"]).await.unwrap();
    client
        .write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    server.echo.entered.notified().await;
    let _idle = server.connect(&[b"http/1.1"]).await.unwrap();
    server.stop.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.echo.leave.notify_one();
    assert!(read_all(&mut client).await.contains("Http1 a /wait"));
    server.served.await.unwrap();
}

#[tokio::test]
async fn the_drain_time_ends_what_does_not_finish() {
    let server = start(Bounds {
        drain: Duration::from_millis(20),
        ..Bounds::default()
    })
    .await;
    let mut client = server.connect(&[b"http/1.1"]).await.unwrap();
    client
        .write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    server.echo.entered.notified().await;
    server.stop.cancel();
    server.served.await.unwrap();
    assert_eq!(read_all(&mut client).await, "");
}

/// HTTP/2 bytes that no client library sends.
mod raw_http2 {
    use super::*;

    pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// `:method GET`, `:scheme https`, `:path` and `:authority`, without indexing (RFC 7541).
    pub(super) fn get(path: &str) -> Vec<u8> {
        let literal =
            |index: u8, text: &str| [&[index, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0x82, 0x87], literal(0x04, path), literal(0x01, "localhost")].concat()
    }

    pub(super) async fn begin(server: &Server) -> Client {
        let mut client = server.connect(&[b"h2"]).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        client
    }

    /// Whether these bytes come before the connection ends.
    pub(super) async fn sees(client: &mut Client, awaited: &[u8]) -> bool {
        let mut seen = Vec::new();
        while !seen.windows(awaited.len()).any(|bytes| bytes == awaited) {
            if !client.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {
                return false;
            }
        }
        true
    }

    /// The frames (kind, flags, payload) that come, up to one that is `last`.
    pub(super) async fn frames(
        client: &mut Client,
        last: impl Fn(u8, u8, &[u8]) -> bool,
    ) -> Vec<(u8, u8, Vec<u8>)> {
        let mut seen = Vec::new();
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            client.read_exact(&mut payload).await.unwrap();
            let done = last(head[3], head[4], &payload);
            seen.push((head[3], head[4], payload));
            if done {
                return seen;
            }
        }
    }

    /// Writes `bytes` again and again until the server ends the connection; how often that was.
    pub(super) async fn flood(mut client: Client, mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
        let (mut reading, mut writing) = tokio::io::split(&mut client);
        let drain = async {
            let mut sink = vec![0; 64 * 1024];
            while reading.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        };
        let mut sent = 0;
        let send = async {
            for number in 0..1_000_000 {
                if writing.write_all(&next(number)).await.is_err() || writing.flush().await.is_err() {
                    break;
                }
                sent = number;
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = drain => {}
            () = send => {}
        }
        sent
    }
}

#[tokio::test]
async fn floods_of_frames_end_their_connection_and_nobody_elses() {
    use raw_http2::{begin, flood, frame, get};
    let server = start(Bounds::default()).await;
    type Next = Box<dyn FnMut(u32) -> Vec<u8>>;
    let floods: [(&str, Next); 6] = [
        ("ping", Box::new(|_| frame(6, 0, 0, &[0; 8]).repeat(10))),
        ("settings", Box::new(|_| frame(4, 0, 0, &[]).repeat(10))),
        (
            "priority",
            Box::new(|_| frame(2, 0, 1, &[0, 0, 0, 3, 0]).repeat(10)),
        ),
        (
            "rapid reset (CVE-2023-44487)",
            Box::new(|number| {
                let stream = number * 2 + 1;
                [
                    frame(1, 0x5, stream, &get("/unread")),
                    frame(3, 0, stream, &[0, 0, 0, 8]),
                ]
                .concat()
            }),
        ),
        (
            "continuation (CVE-2024-27316)",
            Box::new(|number| match number {
                0 => frame(1, 0x1, 1, &get("/unread")),
                _ => frame(9, 0, 1, &[0x00, 0x01, b'x', 0x01, b'y']),
            }),
        ),
        (
            "empty continuation",
            Box::new(|number| match number {
                0 => frame(1, 0x1, 1, &get("/unread")),
                _ => frame(9, 0, 1, &[]),
            }),
        ),
    ];
    for (name, next) in floods {
        let sent = flood(begin(&server).await, next).await;
        assert!(sent < 100_000, "{name}: {sent}");
        let told = server.curl(&["--http2", &server.url("/x")]).await;
        assert!(told.ends_with("|200|2"), "{name}: {told}");
    }
}

#[tokio::test]
async fn one_http2_connection_has_only_so_many_requests_under_way() {
    use raw_http2::{begin, frame, get, sees};
    let server = start(Bounds {
        streams: 3,
        ..Bounds::default()
    })
    .await;
    let mut client = begin(&server).await;
    for number in 0..4 {
        client
            .write_all(&frame(1, 0x5, number * 2 + 1, &get("/wait")))
            .await
            .unwrap();
    }
    // The fourth is refused with a reset (REFUSED_STREAM), and never reaches the handler.
    assert!(sees(&mut client, &frame(3, 0, 7, &[0, 0, 0, 7])).await);
    until("that it is told of", || {
        !server.echo.shed.lock().unwrap().is_empty()
    })
    .await;
    assert_eq!(*server.echo.shed.lock().unwrap(), ["busy"]);
}

#[tokio::test]
async fn what_the_parser_of_http2_refuses_by_itself_is_told_of_once_and_at_once() {
    use raw_http2::{begin, frame, get, sees};
    let server = start(Bounds::default()).await;
    let told = || std::mem::take(&mut *server.echo.shed.lock().unwrap());
    let (good, length) = (get("/unread"), [0x0f, 0x0d, 1, b'1']); // content-length: 1
    let no_path = [&[0x82, 0x87][..], b"\x01\x09localhost"].concat();
    let connect = [&b"\x02\x07CONNECT\x01\x09localhost"[..], &length].concat();
    // x-note: 70,000 bytes, which is 127 and 69,873 in pieces of seven bits.
    let large = [&good[..], b"\0\x06x-note\x7f\xf1\xa1\x04", &[b'a'; 70_000]].concat();
    let pieces: Vec<&[u8]> = large.chunks(16_384).collect();
    let large = pieces.iter().enumerate().flat_map(|(at, piece)| match at {
        0 => frame(1, 0x1, 1, piece),
        at if at + 1 == pieces.len() => frame(9, 0x4, 1, piece),
        _ => frame(9, 0, 1, piece),
    });
    let flawed = frame(1, 0x5, 1, &no_path);
    for (what, frames, expected) in [
        ("a request", frame(1, 0x5, 1, &good), &[][..]),
        ("no path", flawed.clone(), &["malformed"]),
        (
            "a flawed one, a good one, a flawed one",
            [flawed, frame(1, 0x5, 3, &good), frame(1, 0x5, 5, &no_path)].concat(),
            &["malformed", "malformed"],
        ),
        (
            "a length and no body",
            frame(1, 0x5, 1, &[&good[..], &length].concat()),
            &["malformed"],
        ),
        (
            "more of a body than its length, which the handler hears of",
            [
                frame(1, 0x4, 1, &[&good[..], &length].concat()),
                frame(0, 0x1, 1, b"12"),
            ]
            .concat(),
            &[],
        ),
        (
            "a head that is too large to be read",
            large.collect(),
            &["headers_too_large"],
        ),
        ("data of nothing", frame(0, 0x1, 1, b"1"), &["malformed"]),
        (
            "half a head, and then something else",
            frame(1, 0x1, 1, &good[..2]),
            &["malformed"],
        ),
        ("a tunnel with a length", frame(1, 0x4, 1, &connect), &["unheard"]),
    ] {
        let mut client = begin(&server).await;
        let (ping, pong) = (frame(6, 0, 0, b"everyone"), frame(6, 1, 0, b"everyone"));
        client.write_all(&[frames, ping].concat()).await.unwrap();
        // Until all of it was read, or the connection has ended.
        if !sees(&mut client, &pong).await {
            drop(client);
            until("the end of the connection", || server.listener.connections() == 0).await;
        }
        // What the client sees was written a moment before it is told; what is too much shows in the next round.
        let shed = || server.echo.shed.lock().unwrap().len();
        until(what, || shed() >= expected.len()).await;
        assert_eq!(told(), expected, "{what}");
    }
    until("the end of all connections", || {
        server.listener.connections() == 0
    })
    .await;
    assert_eq!(told(), [""; 0], "nothing more at their ends");
}

#[tokio::test]
async fn what_begins_otherwise_than_http2_is_told_of_and_what_only_begins_is_not() {
    use raw_http2::{begin, frame, get};
    let server = start(Bounds::default()).await;
    let mut half = begin(&server).await;
    half.write_all(&frame(1, 0x1, 1, &get("/")[..2])).await.unwrap();
    half.shutdown().await.unwrap();
    let _ = half.read_to_end(&mut Vec::new()).await;
    let mut other = server.connect(&[b"h2"]).await.unwrap();
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let _ = other.read_to_end(&mut Vec::new()).await;
    until("the end of both", || server.listener.connections() == 0).await;
    assert_eq!(*server.echo.shed.lock().unwrap(), ["malformed"]);
}

#[tokio::test]
async fn all_sources_together_have_only_so_many_requests_under_way() {
    let server = start(Bounds {
        requests: 1,
        ..Bounds::default()
    })
    .await;
    let (mut first, _one) = http2_client(&server, 65_535).await;
    let (mut second, _two) = http2_client(&server, 65_535).await;
    let waiting = tokio::spawn(first.send_request(asks("GET", "/wait", body::empty())));
    server.echo.entered.notified().await;
    let answer = second
        .send_request(asks("GET", "/unread", body::empty()))
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    server.echo.leave.notify_one();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn connections_that_find_no_place_are_told_of() {
    let server = start(Bounds {
        connections: 1,
        ..Bounds::default()
    })
    .await;
    let _first = server.connect(&[b"http/1.1"]).await.unwrap();
    assert!(server.connect(&[b"http/1.1"]).await.is_err());
    assert_eq!(*server.echo.shed.lock().unwrap(), ["busy"]);
}

#[tokio::test]
async fn what_is_swapped_serves_new_requests_on_open_connections() {
    let server = start(Bounds::default()).await;
    let mut client = server.connect(&[b"http/1.1"]).await.unwrap();
    let ask = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(ask).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("Http1 a /x") {
        assert!(client.read_buf(&mut seen).await.unwrap() > 0);
    }
    // From here on there is one place, which this connection has, and no room for a request.
    server.listener.swap(Front {
        tls: server.tls.clone(),
        handler: server.echo.clone(),
        bounds: Bounds {
            connections: 1,
            requests: 0,
            ..Bounds::default()
        },
        limits: Limits::default(),
        balancers: Balancers::default(),
    });
    client
        .write_all(b"GET /y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 503 "));
}

fn v2_head(ip: [u8; 4]) -> Vec<u8> {
    let addresses = [&ip[..], &[127, 0, 0, 1, 0, 9, 0, 9]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &addresses].concat()
}

fn networks(text: &str) -> crate::network::Networks {
    [crate::network::Network::parse(text).unwrap()]
        .into_iter()
        .collect()
}

impl Server {
    /// Sends `first` before the handshake, then asks for `/source`, with further header lines.
    async fn source(&self, first: &[u8], lines: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(first).await?;
        let mut client = self.shake(stream, &[b"http/1.1"]).await?;
        let ask = format!("GET /source HTTP/1.1\r\nHost: a\r\n{lines}Connection: close\r\n\r\n");
        client.write_all(ask.as_bytes()).await?;
        let text = read_all(&mut client).await;
        Ok(text.rsplit("\r\n").next().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn a_balancer_must_say_where_a_connection_comes_from_and_nobody_else_may() {
    let behind = Balancers {
        proxy_protocol: networks("127.0.0.0/8"),
        ..Balancers::default()
    };
    let server = start_behind(Bounds::default(), behind).await;
    assert_eq!(
        server.source(&v2_head([192, 0, 2, 9]), "").await.unwrap(),
        "Ip(192.0.2.9)"
    );
    let health = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    assert_eq!(server.source(health, "").await.unwrap(), "Ip(127.0.0.1)");
    assert!(server.source(b"", "").await.is_err());
    // What a client says in a header is nobody's word.
    let lines = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n";
    assert_eq!(
        server.source(&v2_head([192, 0, 2, 9]), lines).await.unwrap(),
        "Ip(192.0.2.9)"
    );
    let open = start(Bounds::default()).await;
    assert!(open.source(&v2_head([192, 0, 2, 9]), "").await.is_err());
    assert_eq!(open.source(b"", lines).await.unwrap(), "Ip(127.0.0.1)");
}

#[tokio::test]
async fn a_share_is_that_of_the_client_behind_a_balancer_not_of_the_balancer() {
    let behind = Balancers {
        proxy_protocol: networks("127.0.0.1"),
        ..Balancers::default()
    };
    let bounds = Bounds {
        connections_per_source: 1,
        ..Bounds::default()
    };
    let server = start_behind(bounds, behind).await;
    let open = async |ip| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&v2_head(ip)).await.unwrap();
        server.shake(stream, &[b"http/1.1"]).await
    };
    let first = open([192, 0, 2, 1]).await.unwrap();
    let _other = open([192, 0, 2, 2]).await.unwrap();
    assert!(open([192, 0, 2, 1]).await.is_err());
    drop(first);
    while open([192, 0, 2, 1]).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_balancer_that_says_half_of_it_is_not_waited_for() {
    let behind = Balancers {
        proxy_protocol: networks("127.0.0.1"),
        ..Balancers::default()
    };
    let bounds = Bounds {
        handshake_timeout: Duration::from_millis(20),
        ..Bounds::default()
    };
    let server = start_behind(bounds, behind).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&v2_head([192, 0, 2, 9])[..20]).await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn a_trusted_proxy_says_where_each_request_comes_from() {
    let behind = Balancers {
        trusted_proxies: networks("127.0.0.0/8"),
        ..Balancers::default()
    };
    let server = start_behind(Bounds::default(), behind).await;
    for (lines, expected) in [
        ("X-Forwarded-For: 6.6.6.6, 192.0.2.9\r\n", "Ip(192.0.2.9)"),
        (
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.9, 127.0.0.9\r\n",
            "Ip(192.0.2.9)",
        ),
        ("Forwarded: for=6.6.6.6\r\n", "Ip(127.0.0.1)"),
        ("", "Ip(127.0.0.1)"),
    ] {
        assert_eq!(server.source(b"", lines).await.unwrap(), expected, "{lines}");
    }
}

#[tokio::test]
async fn an_http2_connection_is_told_to_go_and_what_it_asked_for_finishes() {
    let server = start(Bounds::default()).await;
    let (mut send, drive) = http2_client(&server, 65_535).await;
    let waiting = tokio::spawn(send.send_request(asks("GET", "/wait", body::empty())));
    server.echo.entered.notified().await;
    server.stop.cancel();
    // GOAWAY has come when the client takes no more requests.
    while send
        .send_request(asks("GET", "/unread", body::empty()))
        .await
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
    server.echo.leave.notify_one();
    let answer = waiting.await.unwrap().unwrap();
    assert!(answer.into_body().collect().await.is_ok());
    drive.await.unwrap().unwrap();
    server.served.await.unwrap();
}

/// Clients that begin something and do not go on, each kind in its own way.
#[derive(Clone, Copy, Debug)]
enum Slow {
    Handshake,
    Head,
    Body,
    Read,
    Http2Head,
}

/// What stays of a slow client: its connection.
type Left = Box<dyn std::any::Any + Send>;

impl Server {
    async fn slow(&self, kind: Slow) -> Left {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // A small window, so that an answer that is not read is held back soon.
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        if matches!(kind, Slow::Handshake) {
            stream.write_all(&[TLS_HANDSHAKE, 3, 1]).await.unwrap();
            return Box::new(stream);
        }
        let alpn = if matches!(kind, Slow::Http2Head) {
            b"h2".as_slice()
        } else {
            b"http/1.1"
        };
        let mut client = self.shake(stream, &[alpn]).await.unwrap();
        let begun = match kind {
            Slow::Handshake | Slow::Head => b"GET / HTTP/1.1\r\nHost: a\r\nX-".to_vec(),
            Slow::Body => b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na".to_vec(),
            Slow::Read => b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            Slow::Http2Head => [
                raw_http2::PREFACE,
                &raw_http2::frame(1, 0x1, 1, &raw_http2::get("/")),
            ]
            .concat(),
        };
        client.write_all(&begun).await.unwrap();
        client.flush().await.unwrap();
        Box::new(client)
    }
}

/// Five kinds at once, 1,000 of each with `COUNTERSIGN_LONG`, else 100: a client like any other is answered while they
/// hang, and their bounds end them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_of_every_kind_starve_nobody_and_are_gone_at_their_bounds() {
    let _ = crate::gateway::raise_file_limit();
    let (each, bound) = match std::env::var_os("COUNTERSIGN_LONG") {
        Some(_) => (1_000, Duration::from_secs(30)),
        None => (100, Duration::from_secs(15)),
    };
    let kinds = [
        Slow::Handshake,
        Slow::Head,
        Slow::Body,
        Slow::Read,
        Slow::Http2Head,
    ];
    let server = Arc::new(
        start(Bounds {
            handshake_timeout: bound,
            header_timeout: bound,
            body_timeout: bound,
            write_timeout: bound,
            connections_per_source: 20_000,
            requests_per_source: 20_000,
            ..Bounds::default()
        })
        .await,
    );
    let mut opening = tokio::task::JoinSet::new();
    for kind in kinds {
        let server = server.clone();
        opening.spawn(async move {
            let mut left = Vec::new();
            for _ in 0..each {
                left.push(server.slow(kind).await);
            }
            left
        });
    }
    let left: Vec<Left> = opening.join_all().await.into_iter().flatten().collect();
    for protocol in ["--http1.1", "--http2"] {
        let told = server.curl(&[protocol, &server.url("/x")]).await;
        assert!(told.contains("/x Ok(0)|200|"), "{told}");
    }
    // They hung while the others were answered, and then they are gone, whether they look or not.
    let hanging = server.listener.connections();
    assert!(hanging > each, "{hanging}");
    until("the slow ones to be gone", || server.listener.connections() == 0).await;
    drop(left);
}
