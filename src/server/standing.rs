//! The authorisation state and the log: what the log says at a start, and what it is told while the gateway runs.

use std::sync::Arc;
use std::time::Duration;

use super::Built;
use crate::audit::{Audit, Recovered};
use crate::record::Event;
use crate::state::{self, States, Told};

/// How many records may come before all digests are written down again, so that a start finds them near the log's end.
const EVERY: u64 = 20_000;
/// And how long after the last ones, so that they are not dropped with old records.
const AT_LEAST: Duration = Duration::from_secs(86_400);

/// When all digests were written down last.
#[derive(Debug)]
pub(super) struct Last {
    records: u64,
    time: Duration,
}

impl Last {
    /// Now.
    pub(super) fn now(built: &Built) -> Self {
        Self {
            records: built.audit.size(),
            time: built.ids.clock().monotonic(),
        }
    }
}

/// Takes what the log says that the store must hold.
pub(super) async fn expect(states: &States, found: &Recovered) -> anyhow::Result<()> {
    if found.restored {
        // What was restored is the operator's word, and on record as such.
        states.adopt("the log was restored from a backup").await;
        return Ok(());
    }
    match state::told(&found.states) {
        Some(told) => states.expect(told).await?,
        None if !found.damage.is_empty() => {
            states
                .adopt("the log is damaged, and what is left of it does not say what the state must be")
                .await;
        }
        // SECURITY: what the front of the log would say cannot be read, so nothing that the store holds is believed for it.
        None if !found.whole => {
            let hint = match found.fresh {
                true => "put the log back",
                false => "mount the archive",
            };
            tracing::error!(
                "the log, or its front, is not there, and nothing says what the state must be: {hint} and start again, or accept \
                 what the store holds (`countersign admin accept-state`)"
            );
            states.expect(Told::default()).await?;
        }
        None => states.adopt("the log did not say what the state must be").await,
    }
    Ok(())
}

/// Writes all digests down; those that cannot be written are due at once.
pub(super) async fn write(states: &States, audit: &Audit) -> anyhow::Result<()> {
    let held = states.hold().await?;
    let records = held.records();
    if !records.is_empty()
        && let Err(error) = audit.write_all(records).await
    {
        held.due();
        return Err(error.into());
    }
    held.written();
    Ok(())
}

/// Writes all digests down when they have changed, or when the last ones lie far back.
pub(super) async fn write_if_due(built: &Built, last: &mut Last) -> anyhow::Result<()> {
    let (now, held) = (Last::now(built), built.states.hold().await?);
    let far =
        now.records.saturating_sub(last.records) >= EVERY || now.time.saturating_sub(last.time) >= AT_LEAST;
    if !held.moved() && !far {
        return Ok(());
    }
    drop(held);
    write(&built.states, &built.audit).await?;
    *last = Last::now(built);
    Ok(())
}

/// Holds the store against the log.
pub(super) async fn look(built: &Built) -> anyhow::Result<()> {
    built.states.load().await?;
    Ok(())
}

/// Tells log, monitoring and administrators of what was changed past the gateway. What cannot be told now is told at the next call.
pub(super) async fn tell(built: &Arc<Built>) {
    let _one_at_a_time = built.telling.lock().await;
    let note = match built.states.in_doubt() {
        0 => None,
        1 => Some("one level was changed past the gateway".to_owned()),
        many => Some(format!("{many} levels were changed past the gateway")),
    };
    built.health.note("state", note);
    for (doubt, said) in built.states.untold() {
        let event = Event::StateForeignChange(said.clone());
        if let Err(error) = built.audit.write(event).await {
            tracing::error!("a foreign change cannot be recorded: {error}");
            return;
        }
        built.states.was_told(&doubt, &said);
        let checkpoint = built.audit.checkpoint();
        let checkpoint = checkpoint.map(|checkpoint| checkpoint.note).unwrap_or_default();
        if let Err(error) = built.alert.foreign_change(&doubt.name, &said, &checkpoint).await {
            tracing::error!("a foreign change cannot be mailed: {error}");
        }
    }
}
