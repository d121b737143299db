//! What a crash left open is settled by looking, and the store catches up with the log, before anything is served.

use crate::audit::{Opened, Recovered};
use crate::delegate::Delegate;
use crate::record::{Ending, Entry, Event, Outcome, Recovery};
use crate::resource::Resources;
use crate::store::Db;
use crate::tool::Kind;
use crate::vo::OWN_TOOL;

/// Replays ownership and mints into the store, settles every open request, and writes down what was found.
pub(super) async fn settle(
    opened: &Opened,
    db: &Db,
    resources: &Resources,
    delegate: &Delegate,
) -> anyhow::Result<()> {
    let found = &opened.recovery;
    replay(found, resources, delegate).await?;
    for entry in &found.open {
        let ending = ending(entry, db).await?;
        opened.audit.settle(outcome(entry, ending)).await?;
    }
    let nothing = found.open.is_empty() && found.damage.is_empty() && found.torn_bytes == 0;
    if found.fresh || nothing {
        return Ok(());
    }
    for damage in &found.damage {
        tracing::error!("the audit log is damaged: {damage}");
    }
    let recovery = Recovery {
        records: found.records,
        torn_bytes: found.torn_bytes,
        settled: found.open.iter().map(|entry| entry.request).collect(),
        damage: found.damage.clone(),
    };
    opened.audit.write(Event::Recovery(recovery)).await?;
    Ok(())
}

/// Ownership and mints that were recorded and perhaps never reached the store.
async fn replay(found: &Recovered, resources: &Resources, delegate: &Delegate) -> anyhow::Result<()> {
    for record in &found.recent {
        if let Event::Outcome(outcome) = &record.event {
            resources.deleted(outcome.request, &outcome.deleted).await?;
            resources.created(outcome.request, &outcome.created).await?;
        }
    }
    let events: Vec<Event> = found.recent.iter().map(|record| record.event.clone()).collect();
    delegate.index(&events).await?;
    Ok(())
}

/// A change of the gateway's own state was applied or not, and the store says which; what a tool did, nobody knows.
async fn ending(entry: &Entry, db: &Db) -> anyhow::Result<Ending> {
    let own = entry.place.tool.as_deref() == Some(OWN_TOOL);
    let changes = entry
        .place
        .kind
        .as_deref()
        .and_then(Kind::parse)
        .is_some_and(Kind::changes_state);
    if !own || !changes {
        return Ok(Ending::Unknown);
    }
    Ok(if db.was_applied(entry.request).await? {
        Ending::Applied
    } else {
        Ending::NotApplied
    })
}

fn outcome(entry: &Entry, ending: Ending) -> Outcome {
    Outcome {
        request: entry.request,
        ending,
        status: None,
        tool_status: None,
        bytes_in: 0,
        bytes_out: 0,
        duration_us: 0,
        error: None,
        created: Vec::new(),
        deleted: Vec::new(),
        signed: None,
    }
}
