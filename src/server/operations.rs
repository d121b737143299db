//! The operations listener: liveness, readiness and metrics. It carries no personal and no resource ids, and nothing else
//! is served there.

use std::convert::Infallible;
use std::time::Duration;

use http::{Method, Request, Response, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::body::{self, Body};
use crate::telemetry::{self, Health, Metrics};

/// A head must come within this time.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// A connection may live this long.
const LIFE: Duration = Duration::from_secs(60);

/// Serves until told to stop.
pub(super) async fn serve(listener: TcpListener, metrics: Metrics, health: Health, stop: CancellationToken) {
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
        let (metrics, health) = (metrics.clone(), health.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &metrics, &health);
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

fn answer(request: &Request<hyper::body::Incoming>, metrics: &Metrics, health: &Health) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = Response::new(body::empty());
        *response.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    let page = telemetry::operations(request.uri().path(), metrics, health);
    let mut response = Response::new(body::full(page.body));
    *response.status_mut() =
        http::StatusCode::from_u16(page.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static(page.content_type),
    );
    response
}
