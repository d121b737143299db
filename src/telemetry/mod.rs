//! What the site's monitoring sees: log lines, metrics, and whether the gateway is alive and ready.
//!
//! Log lines and metrics are for operating the gateway; what happened to whom stands in the audit log alone. So **no
//! label and no log line of this module carries a person, a resource or a request's content**: labels are names of
//! tools, problem types and other words of the program.
//!
//! ```
//! use countersign::telemetry::{Health, Metrics, operations};
//! let (metrics, health) = (Metrics::new(), Health::new(&["store"]));
//! assert_eq!(operations("/ready", &metrics, &health).status, 503);
//! health.up("store");
//! assert_eq!(operations("/ready", &metrics, &health).status, 200);
//! ```

mod config;
mod health;
mod metrics;

pub use config::{Config, Format, TelemetryError, start};
pub use health::Health;
pub use metrics::Metrics;

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

/// Answers one path of the operations listener: `/live`, `/ready` or `/metrics`.
///
/// `/live` says that the process answers at all; `/ready` is 200 when every part is up, else 503 with one line for
/// each part that is down.
#[must_use]
pub fn operations(path: &str, metrics: &Metrics, health: &Health) -> Page {
    let (status, content_type, body) = match path {
        "/live" => (200, PLAIN, "alive\n".to_owned()),
        "/ready" => {
            let down = health.down_parts();
            if down.is_empty() {
                (200, PLAIN, "ready\n".to_owned())
            } else {
                let lines = down.iter().map(|(part, why)| format!("down: {part}: {why}\n"));
                (503, PLAIN, lines.collect())
            }
        }
        "/metrics" => match metrics.render() {
            Ok(body) => (200, OPEN_METRICS, body),
            Err(_) => (500, PLAIN, "the metrics cannot be rendered\n".to_owned()),
        },
        _ => (404, PLAIN, "here are /live, /ready and /metrics\n".to_owned()),
    };
    Page {
        status,
        content_type,
        body,
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_names_every_part_that_is_down() {
        let (metrics, health) = (Metrics::new(), Health::new(&["log", "store"]));
        health.up("log");
        health.down("store", "the database does not answer");
        let page = operations("/ready", &metrics, &health);
        assert_eq!(
            (page.status, page.body.as_str()),
            (503, "down: store: the database does not answer\n")
        );
        health.up("store");
        assert_eq!(operations("/ready", &metrics, &health).status, 200);
    }

    #[test]
    fn live_answers_while_parts_are_down() {
        let page = operations("/live", &Metrics::new(), &Health::new(&["log"]));
        assert_eq!(page.status, 200);
    }

    #[test]
    fn metrics_show_what_was_counted() {
        let metrics = Metrics::new();
        metrics.request(Some("jobs"), 403);
        metrics.refusal("no_grant");
        metrics.policy_error("jobs");
        metrics.mint("pem");
        let hashes = prometheus_client::metrics::counter::Counter::<u64>::default();
        hashes.inc();
        metrics.register(|registry| registry.register("password_hashes", "Hashes", hashes));
        metrics.mail("sent");
        metrics.mail_pending(2);
        metrics.audit(7, 1_500);
        let page = operations("/metrics", &metrics, &Health::new(&[]));
        assert_eq!(page.status, 200);
        for line in [
            "countersign_requests_total{class=\"4xx\",tool=\"jobs\"} 1",
            "countersign_refusals_total{problem=\"no_grant\"} 1",
            "countersign_policy_errors_total{tool=\"jobs\"} 1",
            "countersign_mints_total{way=\"pem\"} 1",
            "countersign_password_hashes_total 1",
            "countersign_mails_total{state=\"sent\"} 1",
            "countersign_mails_pending 2",
            "countersign_audit_queue_records 7",
            "countersign_audit_age_seconds 0.0015",
        ] {
            assert!(
                page.body.lines().any(|shown| shown == line),
                "no {line} in {}",
                page.body
            );
        }
    }

    #[test]
    fn an_unknown_path_is_not_found() {
        let page = operations("/", &Metrics::new(), &Health::new(&[]));
        assert_eq!(page.status, 404);
    }
}
