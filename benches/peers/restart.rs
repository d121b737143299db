//! A tool is killed and started again under load: what users of another tool notice, and how soon it is answered from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::clock::Clock;
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use http_body_util::BodyExt;

use super::Scale;
use super::report::{BACK, DOWN, Report};
use crate::path::load::{Ask, Client, Protocol};
use crate::path::process::Peer;
use crate::path::round::{middle, part};
use crate::path::world::{Site, Tool};

/// Clients of the tool that stays up, each with one request at a time.
const STEADY: usize = 8;
/// Clients of the other one, each with a request every 10 ms at most.
const OTHERS: usize = 4;

/// When an answer came, and how long it took; `None` if it was not 200.
type Answers = Vec<(Duration, Option<Duration>)>;

/// Measures it, as often as there are rounds.
pub(crate) async fn run(scale: &Scale, report: &mut Report, clock: &Arc<dyn Clock>) {
    let steady = Peer::of_self(&["upstream", "0"]);
    let mut frail = Peer::of_self(&["upstream", "0"]);
    let other = Tool {
        name: "frail".to_owned(),
        manifest: Tool::bench(0).manifest.replace("\"bench\"", "\"frail\""),
        ..Tool::bench(frail.port)
    };
    let site = Site::start(&[Tool::bench(steady.port), other], None, |_| {});
    let client = site.client(site.gateway.port);
    let (mut down, mut back) = (Vec::new(), Vec::new());
    for round in 0..=scale.rounds {
        eprintln!("round {round} of {}: a tool is killed", scale.rounds);
        let stop = Arc::new(AtomicBool::new(false));
        let start = |tool: &str, pause: Option<Duration>| {
            let bearer = vec![(AUTHORIZATION, format!("Bearer {}", site.token))];
            let ask = Ask::new(Method::GET, &format!("/lab/{tool}/page"), bearer, StatusCode::OK);
            tokio::spawn(go_on(client.clone(), ask, pause, stop.clone(), clock.clone()))
        };
        let pause = Some(Duration::from_millis(10));
        let steady: Vec<_> = (0..STEADY).map(|_| start("bench", None)).collect();
        let others: Vec<_> = (0..OTHERS).map(|_| start("frail", pause)).collect();
        tokio::time::sleep(scale.phase / 5).await;
        let begun = clock.monotonic();
        tokio::time::sleep(scale.phase).await;
        let (port, killed) = (frail.port, clock.monotonic());
        frail.kill();
        tokio::time::sleep(scale.phase).await;
        frail = Peer::of_self(&["upstream", &port.to_string()]);
        let again = clock.monotonic();
        // However short the phases are: it must come back within this time.
        tokio::time::sleep(scale.phase.max(Duration::from_secs(2))).await;
        stop.store(true, Ordering::Relaxed);
        let (steady, others) = (all(steady).await, all(others).await);
        let failed =
            |(at, took): &(Duration, Option<Duration>)| *at >= killed && *at < again && took.is_none();
        assert!(others.iter().any(failed), "the tool was not down");
        assert!(
            steady.iter().all(|(_, took)| took.is_some()),
            "another tool failed"
        );
        let first = others.iter().filter(|(at, took)| *at >= again && took.is_some());
        let first = first.map(|(at, _)| *at).min().expect("the tool comes back");
        if round > 0 {
            let both_up = p99(&steady, begun, killed);
            down.push(p99(&steady, killed, Duration::MAX) / both_up);
            back.push((first - again).as_secs_f64() * 1e3);
        }
    }
    report.fact(DOWN, "Countersign", middle(down), "x");
    report.fact(BACK, "Countersign", middle(back), "ms");
}

async fn all(tasks: Vec<tokio::task::JoinHandle<Answers>>) -> Answers {
    let mut answers = Vec::new();
    for task in tasks {
        answers.extend(task.await.expect("a client"));
    }
    answers
}

fn p99(answers: &Answers, from: Duration, to: Duration) -> f64 {
    let within = answers.iter().filter(|(at, _)| *at >= from && *at < to);
    let mut times: Vec<Duration> = within.filter_map(|(_, took)| *took).collect();
    times.sort_unstable();
    part(&times, 99)
}

/// One client, until it is told to stop.
async fn go_on(
    client: Client,
    ask: Ask,
    pause: Option<Duration>,
    stop: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
) -> Answers {
    let mut answers = Vec::new();
    let mut open = None;
    while !stop.load(Ordering::Relaxed) {
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => client.open(Protocol::Http1).await.expect("a connection"),
        };
        let start = clock.monotonic();
        let answer = connection.answer(&ask, 0).await;
        let status = answer.as_ref().map(http::Response::status).ok();
        let whole = match answer {
            Ok(answer) => answer.into_body().collect().await.is_ok(),
            Err(_) => false,
        };
        let now = clock.monotonic();
        let good = whole && status == Some(ask.status);
        answers.push((now, good.then(|| now - start)));
        open = whole.then_some(connection);
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    answers
}
