//! The authorisation state and the log: what the log says at a start, and what it is told while the gateway runs.

use std::sync::Arc;

use super::Built;
use crate::audit::{Audit, Recovered};
use crate::record::Event;
use crate::state::{self, States};

/// How many records may come before all digests are written down again, so that a start finds them near the log's end.
const EVERY: u64 = 20_000;

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

/// Writes all digests down when they have changed, or when the last ones lie far back; `last` is where the log was then.
pub(super) async fn write_if_due(built: &Built, last: &mut u64) -> anyhow::Result<()> {
    let (now, held) = (built.audit.size(), built.states.hold().await?);
    if !held.moved() && now.saturating_sub(*last) < EVERY {
        return Ok(());
    }
    drop(held);
    write(&built.states, &built.audit).await?;
    *last = built.audit.size();
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
