//! A record as one line of text, for `audit tail`.

use crate::record::{Ending, Entry, Event, Record};
use crate::tool::is_unseen;

/// `record` as one line: time, event, request, who, VO/tool/task, decision or ending, status.
///
/// ```
/// # use countersign::record::{Event, Record};
/// # use countersign::clock::Timestamp;
/// let event = Event::Stop { reason: "asked to".into() };
/// let record = Record { v: 1, seq: 7, time: Timestamp(0), mono: 0, salt: String::new(), cut: None, event };
/// assert_eq!(countersign::audit::render::line(&record), "1970-01-01T00:00:00Z 7 stop asked to");
/// ```
#[must_use]
pub fn line(record: &Record) -> String {
    let mut words = vec![
        record.time.to_string(),
        record.seq.to_string(),
        record.event.name().to_owned(),
    ];
    words.extend(record.event.request().map(|request| request.to_string()));
    words.extend(details(&record.event));
    if record.cut.is_some() {
        words.push("(cut)".to_owned());
    }
    // A line stays one line, whatever a client put into it.
    words
        .join(" ")
        .chars()
        .map(|c| if is_unseen(c) { '\u{fffd}' } else { c })
        .collect()
}

fn details(event: &Event) -> Vec<String> {
    match event {
        Event::Intent(entry) => of_entry(entry),
        Event::Refused(refused) => {
            let mut words = of_entry(&refused.entry);
            words.push(format!("{} {}", refused.problem, refused.status));
            words
        }
        Event::Lease(lease) => vec![
            lease.decision.reason.clone(),
            format!("{} bytes in, {} out", lease.bytes_in, lease.bytes_out),
        ],
        Event::Outcome(outcome) => {
            let mut words = vec![ending(outcome.ending).to_owned()];
            words.extend(outcome.status.map(|status| status.to_string()));
            words.extend(outcome.error.clone());
            words.extend(
                outcome
                    .created
                    .iter()
                    .map(|made| format!("created={}/{}", made.kind, made.id)),
            );
            words.extend(
                outcome
                    .deleted
                    .iter()
                    .map(|gone| format!("deleted={}/{}", gone.kind, gone.id)),
            );
            words.push(format!("{}us", outcome.duration_us));
            words
        }
        Event::Strangers(strangers) => {
            vec![format!(
                "{} x {} from {}",
                strangers.count, strangers.problem, strangers.source
            )]
        }
        Event::Login(login) => vec![
            person(login.person),
            format!(
                "{} {} from {}",
                login.methods.join("+"),
                login.result,
                login.source
            ),
        ],
        Event::SessionEnded(ended) => {
            vec![format!(
                "person/{} {} ({} sessions)",
                ended.person,
                ended.reason,
                ended.sessions.len()
            )]
        }
        Event::Change(change) => {
            let mut words = vec![format!(
                "{} {}/{}",
                change.change.action, change.change.kind, change.change.target
            )];
            words.extend(change.reason.as_ref().map(|reason| format!("because: {reason}")));
            words
        }
        Event::Mint(mint) => {
            vec![format!(
                "person/{} for {} serial={} until {}",
                mint.person, mint.tool, mint.serial, mint.not_after
            )]
        }
        Event::RevocationList(list) => {
            vec![format!(
                "number {} with {} revoked until {} issuer={}",
                list.number, list.count, list.due, list.issuer
            )]
        }
        Event::Trace(trace) => vec![format!(
            "by {} {}: {} found",
            trace.by,
            trace.query,
            trace.found.len()
        )],
        Event::Alert(alert) => {
            vec![format!(
                "person/{} {} times {}",
                alert.person, alert.count, alert.task
            )]
        }
        Event::OwnershipConflict(conflict) => {
            vec![format!(
                "{}/{} belongs to {}",
                conflict.claimed.kind,
                conflict.claimed.id,
                person(conflict.owner)
            )]
        }
        Event::Start(start) => vec![format!("version {} epoch {}", start.version, start.epoch)],
        Event::Stop { reason } => vec![reason.clone()],
        Event::ReloadFailed(failed) => {
            let flaws = if failed.count == 1 { "flaw" } else { "flaws" };
            vec![format!("by {}, {} {flaws}", failed.by, failed.count)]
        }
        Event::Recovery(recovery) => {
            let mut words = vec![format!(
                "{} records, {} bytes torn, {} open",
                recovery.records,
                recovery.torn_bytes,
                recovery.settled.len()
            )];
            words.extend(recovery.damage.iter().map(|damage| format!("DAMAGE: {damage}")));
            words
        }
        Event::Epoch(begun) => {
            let words = format!(
                "epoch {} begins, {} files of earlier ones",
                begun.epoch, begun.total
            );
            std::iter::once(words).chain(begun.reason.clone()).collect()
        }
        Event::KeyChanged(change) => {
            vec![format!(
                "key {} from epoch {} on, before {}",
                change.new, change.epoch, change.old
            )]
        }
        Event::LogOpen { open } => vec![format!("{} requests", open.len())],
        Event::Unwritten { count, from, to } => vec![format!("{count} requests refused from {from} to {to}")],
        Event::LogDegraded(degraded) => {
            let free = degraded.free_bytes.map(|free| format!("{free} bytes free"));
            std::iter::once(format!("room: {}", degraded.room))
                .chain(free)
                .collect()
        }
        Event::LogDropped(dropped) => {
            let epochs = (dropped.epochs > 0).then(|| format!("epochs up to {}", dropped.epochs));
            let records = format!(
                "the first {} records of epoch {}, older than {}",
                dropped.records, dropped.epoch, dropped.before
            );
            epochs.into_iter().chain([records]).collect()
        }
        Event::State(state) => {
            let words = format!("{} levels", state.levels.len());
            std::iter::once(words).chain(state.adopted.clone()).collect()
        }
        Event::StateForeignChange(changed) => {
            let words = format!("vo/{} {}", changed.vo, changed.effect);
            std::iter::once(words).chain(changed.difference.clone()).collect()
        }
        Event::Witness(witness) => {
            let known = witness.known.map(|known| format!(", which knows {known}"));
            vec![format!(
                "{} {} for {} records{}",
                witness.witness,
                witness.problem,
                witness.size,
                known.unwrap_or_default()
            )]
        }
    }
}

fn of_entry(entry: &Entry) -> Vec<String> {
    let place = &entry.place;
    let parts = [place.vo.as_deref(), place.tool.as_deref(), place.task.as_deref()];
    let mut words = vec![
        person(entry.subject.person),
        parts.map(|part| part.unwrap_or("-")).join("/"),
        place.method.clone(),
    ];
    words.extend(
        entry
            .resource
            .as_ref()
            .map(|resource| format!("{}/{}", resource.kind, resource.id)),
    );
    words.extend(entry.decision.as_ref().map(|decision| decision.reason.clone()));
    words
}

fn person(person: Option<crate::id::PersonId>) -> String {
    person.map_or_else(|| "anonymous".to_owned(), |person| format!("person/{person}"))
}

pub(super) const fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Answered => "answered",
        Ending::DeniedByResource => "denied_by_resource",
        Ending::ToolFailed => "tool_failed",
        Ending::Failed => "failed",
        Ending::Abandoned => "abandoned",
        Ending::Unknown => "unknown",
        Ending::NotSent => "not_sent",
        Ending::NotApplied => "not_applied",
        Ending::Applied => "applied",
        Ending::Withheld => "withheld",
        Ending::Revoked => "revoked",
    }
}
