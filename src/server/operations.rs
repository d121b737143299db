//! The operations listener: liveness, readiness and metrics. It carries no personal and no resource ids, and nothing else
//! is served there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::gauges::Gauges;
use crate::body::{self, Body};
use crate::gateway::Open;
use crate::telemetry;

/// A head must come within this time.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// A connection may live this long.
const LIFE: Duration = Duration::from_secs(60);

/// Most connections at once: monitoring needs few, and whoever reaches this listener must not exhaust the gateway.
const MOST: u64 = 64;

/// Serves until told to stop.
pub(super) async fn serve(listener: TcpListener, gauges: Arc<Gauges>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        if gauges.operations.open() >= MOST {
            gauges.operations.refuse_full();
            continue;
        }
        let open = Open::count(&gauges.operations);
        let gauges = gauges.clone();
        tokio::spawn(async move {
            let _open = open;
            let service = service_fn(move |request| {
                let answer = answer(&request, &gauges);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(LIFE, connection).await;
        });
    }
}

fn answer(request: &Request<hyper::body::Incoming>, gauges: &Gauges) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = Response::new(body::empty());
        *response.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    let path = request.uri().path();
    if path == "/metrics" {
        gauges.refresh();
    }
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let page = telemetry::operations(path, accept, &gauges.metrics, &gauges.health);
    let mut response = Response::new(body::full(page.body));
    *response.status_mut() =
        http::StatusCode::from_u16(page.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static(page.content_type),
    );
    response
}
