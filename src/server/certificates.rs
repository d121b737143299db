//! Whose certificates the second listener takes, and the job that reads CAs and revocation lists anew.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::Built;
use crate::config::Config;
use crate::trust::client::Trust;

/// Reads CAs and lists, where there is such a listener, and lets people in by them.
pub(super) fn trust(config: &Config, built: &Built) -> anyhow::Result<Option<Arc<Trust>>> {
    let Some(listener) = &config.certificate_listener else {
        return Ok(None);
    };
    let clock = built.ids.clock().clone();
    let trust = Trust::load(listener.trust.clone(), listener.limits, clock)
        .context("the listener for certificates has nothing to trust")?;
    let trust = Arc::new(trust);
    built.authenticate.trusting(trust.clone());
    Ok(Some(trust))
}

/// Reads them anew every `check`, until `stop`. What cannot be read changes nothing and is said once.
pub(super) async fn keep_reading(trust: Arc<Trust>, check: Duration, stop: CancellationToken) {
    let mut said = String::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(check) => {}
        }
        let reading = trust.clone();
        let read = tokio::task::spawn_blocking(move || reading.reload()).await;
        let flaw = match read {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if flaw != said && !flaw.is_empty() {
            tracing::error!("CAs and revocation lists stay as they were read before: {flaw}");
        }
        said = flaw;
    }
}
