//! What the service manager is told (sd_notify(3)), where there is one.

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager could not be told: {error}");
    }
}

/// Serving.
pub(super) fn ready(base: &str) {
    let status = format!("serving {base}");
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// A reload begins; [`ready`] says that it is over, whatever came of it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("this machine has no monotonic clock: {error}"),
    }
}

/// Stopping; requests under way end.
pub(super) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing the requests under way"),
    ]);
}

/// How often the service manager wants to hear of us, if it does; half of its patience.
pub(super) fn watchdog() -> Option<std::time::Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}

/// Still there.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}
