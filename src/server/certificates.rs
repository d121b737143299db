//! Whose certificates the second listener takes, and the job that reads CAs and revocation lists anew.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Built;
use crate::config::Config;
use crate::telemetry::Health;
use crate::trust::client::Trust;

/// What health calls it.
const ABOUT: &str = "certificates";

/// Reads CAs and lists, where there is such a listener, and lets people in by them. What cannot be read closes that
/// listener to everybody, until it can be.
pub(super) fn trust(config: &Config, built: &Built) -> Option<Arc<Trust>> {
    let listener = config.certificate_listener.as_ref()?;
    let clock = built.ids.clock().clone();
    let trust = Arc::new(Trust::new(listener.trust.clone(), listener.limits, clock));
    tell(&trust, &built.health, trust.reload().err());
    built.authenticate.trusting(trust.clone());
    Some(trust)
}

/// Reads them anew every `check`, until `stop`. What cannot be taken changes nothing and is said once.
pub(super) async fn keep_reading(
    trust: Arc<Trust>,
    check: Duration,
    health: Health,
    stop: CancellationToken,
) {
    // What was said at the start; also that it is over is said.
    let mut said = trust.is_empty().then(String::new);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(check) => {}
        }
        let reading = trust.clone();
        let read = tokio::task::spawn_blocking(move || reading.reload()).await;
        let flaw = match read {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if flaw != said {
            tell(&trust, &health, flaw.as_ref());
        }
        said = flaw;
    }
}

/// Says what keeps CAs and lists from being taken, and that they are again.
fn tell(trust: &Trust, health: &Health, flaw: Option<impl std::fmt::Display>) {
    let path = trust.path().display();
    let note = match (&flaw, trust.is_empty()) {
        (None, _) => {
            tracing::info!("CAs and revocation lists were read from `{path}`");
            None
        }
        (Some(flaw), true) => {
            tracing::error!("nobody can sign in with a certificate: `{path}`: {flaw}");
            Some("nobody can sign in with one: CAs or revocation lists cannot be read")
        }
        (Some(flaw), false) => {
            tracing::error!("CAs and revocation lists stay as they were read before: `{path}`: {flaw}");
            Some("CAs and revocation lists are those read before: what is there now is not taken")
        }
    };
    health.note(ABOUT, note.map(str::to_owned));
}
