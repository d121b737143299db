//! What a crash left open is settled by looking, and the store catches up with the log, before anything is served.

use crate::alert::{Alert, Denied};
use crate::audit::{Opened, Recovered};
use crate::delegate::Delegate;
use crate::problem::Kind as ProblemKind;
use crate::record::{Ending, Entry, Event, Outcome, Record, Recovery};
use crate::resource::Resources;
use crate::store::Db;
use crate::tool::Kind;
use crate::vo::{Directory, OWN_TOOL};

/// Replays ownership, mints and denials into the store, settles every open request, and writes down what was found.
pub(super) async fn settle(
    opened: &Opened,
    db: &Db,
    resources: &Resources,
    delegate: &Delegate,
    alert: &Alert,
) -> anyhow::Result<()> {
    let found = &opened.recovery;
    replay(found, resources, delegate).await?;
    // A denial is counted beside its answer, so a crash can come between; counting twice is counting once.
    for denied in found.recent.iter().filter_map(denial) {
        if let Some(event) = alert.denied(denied).await? {
            opened.audit.write(Event::Alert(event)).await?;
        }
    }
    for entry in &found.open {
        let ending = ending(entry, db).await?;
        opened.audit.settle(Outcome::ended(entry.request, ending)).await?;
    }
    let mut damage = found.damage.clone();
    let gone = found.fresh && db.has_history().await?;
    if gone {
        damage.push(
            "the log is new although the store has a history: the log that was here is gone".to_owned(),
        );
    }
    for damage in &damage {
        tracing::error!("the audit log is damaged: {damage}");
    }
    let nothing = found.open.is_empty() && damage.is_empty() && found.torn_bytes == 0;
    if nothing || (found.told && !gone) {
        return Ok(());
    }
    let recovery = Recovery {
        records: found.records,
        torn_bytes: found.torn_bytes,
        settled: found.open.iter().map(|entry| entry.request).collect(),
        damage,
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

/// A denial that counts for alerts: a decision about a person.
fn denial(record: &Record) -> Option<Denied> {
    let Event::Refused(refused) = &record.event else {
        return None;
    };
    let decided = refused
        .entry
        .decision
        .as_ref()
        .is_some_and(|decision| !decision.permit);
    let place = &refused.entry.place;
    let vo = place.vo_id.zip(place.vo.clone());
    let (vo, vo_name) = vo.unwrap_or_else(|| (Directory::gateway(), OWN_TOOL.to_owned()));
    Some(Denied {
        vo,
        vo_name,
        person: refused
            .entry
            .subject
            .person
            .filter(|_| decided && refused.status == 403)?,
        tool: place.tool.clone(),
        task: place
            .task
            .clone()
            .unwrap_or_else(|| ProblemKind::NoTask.name().to_owned()),
        request: refused.entry.request,
        at: record.time,
    })
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
