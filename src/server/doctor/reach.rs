//! What the gateway works with: itself if it runs, the store, the VOs' certificates, the mail server, the upstreams.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, Limited};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Finding, ending};
use crate::alert;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::delegate::Credential;
use crate::forward::Forward;
use crate::outbound;
use crate::trust::certificate::VoCertificate;
use crate::trust::store as certificates;
use crate::vo::{Directory, Upstream, UpstreamAddress, Vos};

/// How long one thing may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Upstreams that are asked at once.
const AT_ONCE: usize = 16;
/// How long this machine may take to answer itself.
const NEAR: Duration = Duration::from_secs(1);
/// More is no answer to whether the gateway is ready.
const LONGEST: usize = 64 * 1024;

pub(super) async fn look(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut found = gateway(&config.data).await;
    found.push(mail(config).await);
    match stored(config).await {
        Ok((directory, certificates)) => {
            found.push(Finding::ok("store", "it can be read"));
            for certificate in certificates {
                let vo = certificate.vo;
                let name = directory
                    .vo(vo)
                    .map_or_else(|| vo.to_string(), |vo| vo.name.clone());
                let about = format!("certificate of {name} for {}", certificate.purpose.as_str());
                found.push(
                    ending(about, certificate.facts.not_after, now)
                        .next(format!("countersign vo certificate import {name}")),
                );
            }
            found.extend(upstreams(config, &directory).await);
        }
        Err(error) => found.push(
            Finding::flaw("store", format!("it cannot be read: {error}"))
                .next("a start brings a store of an older version up to date"),
        ),
    }
    found
}

/// Whether the gateway of this folder runs, and what it says of itself.
async fn gateway(data: &Path) -> Vec<Finding> {
    const ABOUT: &str = "gateway";
    let listening = std::fs::read(data.join("listeners.json")).ok();
    let listening = listening.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let Some(address) = listening
        .as_ref()
        .and_then(|listening| listening["operations"].as_str())
    else {
        return vec![
            Finding::warning(ABOUT, "it does not run")
                .next(format!("countersign serve --data {}", data.display())),
        ];
    };
    match ready(address).await {
        Ok((status, text)) => {
            let lines = text.lines();
            let mut found: Vec<Finding> = lines
                .filter_map(|line| {
                    line.strip_prefix("down: ")
                        .map(|part| Finding::flaw(ABOUT, format!("it is not ready: {part}")))
                        .or_else(|| {
                            line.strip_prefix("note: ")
                                .map(|note| Finding::warning(ABOUT, note))
                        })
                })
                .collect();
            if status == http::StatusCode::OK {
                found.insert(0, Finding::ok(ABOUT, "it runs and is ready"));
            } else if found.is_empty() {
                found.push(Finding::flaw(
                    ABOUT,
                    format!("its readiness was answered {status}"),
                ));
            }
            found
        }
        Err(error) => vec![
            Finding::flaw(
                ABOUT,
                format!("`{address}`, where it says how it is, does not answer: {error}"),
            )
            .next("its log, and whether the process runs"),
        ],
    }
}

async fn ready(address: &str) -> Result<(http::StatusCode, String), String> {
    let url: http::Uri = format!("http://{address}/readyz")
        .parse()
        .map_err(|_| "no address".to_owned())?;
    let client = outbound::client(&url, None, "operations").map_err(|error| error.to_string())?;
    let request = http::Request::get(url).body(Full::<Bytes>::default());
    let request = request.map_err(|error| error.to_string())?;
    let asked = async {
        let answer = client.request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok((head.status, text))
    };
    timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err("no answer in time".into()))
}

async fn mail(config: &Config) -> Finding {
    const ABOUT: &str = "mail";
    match timeout(PATIENCE, alert::probe(&config.alert, &config.data)).await {
        Ok(Ok(None)) => Finding::warning(ABOUT, "alerts are written into a folder, and nobody is sent them")
            .next("`[alert] transport = \"smtp\"` and `[alert.smtp]`"),
        Ok(Ok(Some(server))) => Finding::ok(ABOUT, format!("{server} takes our sign-in")),
        Ok(Err(error)) => Finding::flaw(ABOUT, error).next("`[alert.smtp]`, and the mail server"),
        Err(_) => Finding::flaw(ABOUT, "the mail server does not answer in time")
            .next("`[alert.smtp]`, and the mail server"),
    }
}

type Stored = (Directory, Vec<VoCertificate>);

async fn stored(config: &Config) -> Result<Stored, String> {
    let text = |error: crate::store::StoreError| error.to_string();
    let db = config.store.look(&config.data).await.map_err(text)?;
    let directory = Vos::look(&db).await.map_err(text)?;
    let certificates = certificates::alive(&db).await.map_err(text)?;
    db.close().await;
    Ok((directory, certificates))
}

async fn upstreams(config: &Config, directory: &Directory) -> Vec<Finding> {
    let forward = Forward::new(config.forward.clone());
    let all = directory.all_vos().flat_map(|vo| {
        let upstreams = directory.upstreams_of_vo(vo.id);
        upstreams.map(|upstream| (format!("upstream {}/{}", vo.name, upstream.name), upstream))
    });
    let looked = all.map(|(about, upstream)| {
        let forward = &forward;
        async move {
            let mut found = vec![reached(forward, upstream, &about).await];
            found.extend(past(&upstream.address, &about).await);
            found
        }
    });
    // Those that do not answer are waited for together.
    stream::iter(looked).buffered(AT_ONCE).concat().await
}

/// Whether a connection is made; over TLS with its certificate verified as for every request.
async fn reached(forward: &Forward, upstream: &Arc<Upstream>, about: &str) -> Finding {
    match timeout(PATIENCE, forward.dial(upstream, &Credential::None)).await {
        Ok(Ok(_)) => Finding::ok(about, format!("`{}` takes connections", upstream.url)),
        Ok(Err(error)) => Finding::flaw(about, error.to_string()).next("the tool, or `countersign upstream`"),
        Err(_) => Finding::flaw(about, format!("`{}` takes no connection in time", upstream.url))
            .next("the tool, or `countersign upstream`"),
    }
}

/// Whether others can get to the tool past the gateway, as far as that can be seen from here: a tool on this machine that
/// answers on an address of the network as well, or a socket that every account may write to.
async fn past(address: &UpstreamAddress, about: &str) -> Option<Finding> {
    let (host, port) = match address {
        UpstreamAddress::Unix(path) => {
            let open = std::fs::metadata(path).is_ok_and(|socket| socket.mode() & 0o002 != 0);
            return open.then(|| {
                Finding::warning(
                    about,
                    format!(
                        "every account of this machine may connect to `{}`, past the gateway",
                        path.display()
                    ),
                )
                .next("a socket, or a folder around it, for the gateway's account alone")
            });
        }
        UpstreamAddress::Tcp(host, port) | UpstreamAddress::Tls { host, port, .. } => (host, *port),
    };
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let own = here.then(own_address).flatten()?;
    let answered = timeout(NEAR, TcpStream::connect(SocketAddr::new(own, port))).await;
    matches!(answered, Ok(Ok(_))).then(|| {
        Finding::warning(
            about,
            format!("port {port} answers on {own} too: who reaches this machine may reach the tool past the gateway"),
        )
        .next("let the tool listen on 127.0.0.1 or a Unix socket only, or close the port to the network")
    })
}

/// The address by which this machine goes out, if it has one. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // RFC 5737: a network that is nobody's.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}
