//! What the operations listener answers: liveness, readiness, metrics.

use std::fmt::Write as _;

use super::{Health, Metrics};

/// An answer of the operations listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Body.
    pub body: String,
}

impl Page {
    const fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            body,
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers one path of the operations listener: `/livez`, `/readyz` or `/metrics` (`/live` and `/ready` are the same).
///
/// `/livez` says that the process answers at all; `/readyz` is 200 when every part is up, else 503, with a line for each
/// part that is down; a line that begins with `note` says what should be looked at although the node serves. `/metrics` is OpenMetrics 1.0 for whoever `accept`s it, else Prometheus' older text format.
#[must_use]
pub fn operations(path: &str, accept: &str, metrics: &Metrics, health: &Health) -> Page {
    match path {
        "/livez" | "/live" => Page::new(200, PLAIN, "alive\n".to_owned()),
        "/readyz" | "/ready" => {
            let down = health.down_parts();
            let notes = health.notes();
            let notes = notes
                .iter()
                .map(|(about, what)| format!("note: {about}: {what}\n"));
            if down.is_empty() {
                return Page::new(
                    200,
                    PLAIN,
                    std::iter::once("ready\n".to_owned()).chain(notes).collect(),
                );
            }
            let lines = down.iter().map(|(part, why)| format!("down: {part}: {why}\n"));
            Page::new(503, PLAIN, lines.chain(notes).collect())
        }
        "/metrics" => match metrics.render() {
            Ok(body) if accept.contains("application/openmetrics-text") => Page::new(200, OPEN_METRICS, body),
            Ok(body) => Page::new(200, CLASSIC, classic(&body)),
            Err(_) => Page::new(500, PLAIN, "the metrics cannot be rendered\n".to_owned()),
        },
        _ => Page::new(404, PLAIN, "here are /livez, /readyz and /metrics\n".to_owned()),
    }
}

/// The older text format: a counter's or info's head has the whole name, an info is a gauge, there are no units and no
/// mark of the end.
fn classic(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = Some(about);
        } else if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').unwrap_or((about, "untyped"));
            let (ending, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            if let Some((_, meaning)) = help.take().and_then(|help| help.split_once(' ')) {
                // Writing to a `String` cannot fail.
                let _ = writeln!(text, "# HELP {name}{ending} {meaning}");
            }
            let _ = writeln!(text, "# TYPE {name}{ending} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Decision, Where, family};
    use super::*;

    #[test]
    fn ready_names_every_part_that_is_down() {
        let (metrics, health) = (Metrics::new(), Health::new(&["log", "store"]));
        health.up("log");
        health.down("store", "the database does not answer");
        let page = operations("/readyz", "", &metrics, &health);
        assert_eq!(
            (page.status, page.body.as_str()),
            (503, "down: store: the database does not answer\n")
        );
        health.up("store");
        assert_eq!(operations("/readyz", "", &metrics, &health).status, 200);
    }

    #[test]
    fn live_answers_while_parts_are_down() {
        let page = operations("/livez", "", &Metrics::new(), &Health::new(&["log"]));
        assert_eq!(page.status, 200);
    }

    fn counted() -> Metrics {
        let metrics = Metrics::new();
        let at = Where {
            vo: Some("imense"),
            tool: Some("jobs"),
            task: Some("submit job"),
        };
        metrics.decided(at, Decision::Deny);
        metrics.decided(Where::default(), Decision::Throttle);
        metrics.tool_answered(at, Duration::from_millis(20));
        metrics.tool_failed(at, "timeout");
        metrics.answered(403);
        metrics.answered(1000);
        metrics.refusal("no_grant");
        metrics.policy_error("jobs");
        metrics.mint("pem", Duration::from_micros(80));
        metrics.mail("sent");
        metrics.mail_pending(2);
        metrics.gauges().audit_queue.set(7.0);
        metrics
    }

    #[test]
    fn metrics_show_what_was_counted() {
        let page = operations(
            "/metrics",
            "application/openmetrics-text",
            &counted(),
            &Health::new(&[]),
        );
        assert_eq!((page.status, page.content_type), (200, OPEN_METRICS));
        let task = "vo=\"imense\",tool=\"jobs\",task=\"submit job\"";
        for line in [
            &format!("countersign_requests_total{{{task},decision=\"deny\"}} 1"),
            &format!("countersign_requests_total{{{task},decision=\"permit\"}} 0"),
            "countersign_requests_total{vo=\"none\",tool=\"none\",task=\"none\",decision=\"throttle\"} 1",
            "countersign_throttled_total 1",
            "countersign_tool_answer_seconds_bucket{le=\"0.05\",vo=\"imense\",tool=\"jobs\"} 1",
            "countersign_tool_failures_total{vo=\"imense\",tool=\"jobs\",reason=\"timeout\"} 1",
            "countersign_responses_total{class=\"4xx\"} 1",
            "countersign_refusals_total{problem=\"no_grant\"} 1",
            "countersign_policy_errors_total{tool=\"jobs\"} 1",
            "countersign_mints_total{way=\"pem\"} 1",
            "countersign_mint_seconds_sum 0.00008",
            "countersign_mails_total{state=\"sent\"} 1",
            "countersign_mails_pending 2.0",
            "countersign_audit_queue_records 7.0",
            "# EOF",
        ] {
            assert!(
                page.body.lines().any(|shown| shown == line),
                "no {line} in {}",
                page.body
            );
        }
    }

    #[test]
    fn the_older_format_says_the_same_numbers() {
        let (metrics, health) = (counted(), Health::new(&[]));
        let open = operations("/metrics", "application/openmetrics-text", &metrics, &health);
        let classic = operations("/metrics", "text/plain", &metrics, &health);
        assert_eq!(classic.content_type, CLASSIC);
        let samples = |text: &str| {
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            samples.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(samples(&open.body), samples(&classic.body));
        assert!(
            classic
                .body
                .contains("# TYPE countersign_throttled_total counter\n")
        );
        assert!(classic.body.contains("# TYPE countersign_build_info gauge\n"));
        assert!(!classic.body.contains("EOF"));
    }

    #[test]
    fn every_family_that_is_shown_stands_in_the_table() {
        let text = counted().render().unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let known = family::FAMILIES
                .iter()
                .find(|known| format!("{}_{}", family::PREFIX, known.name) == name);
            assert_eq!(known.map(|known| known.kind.as_str()), Some(kind), "{name}");
        }
    }

    #[test]
    fn an_unknown_path_is_not_found() {
        let page = operations("/", "", &Metrics::new(), &Health::new(&[]));
        assert_eq!(page.status, 404);
    }
}
