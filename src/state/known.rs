//! What the log says that the store must hold, read from the end of the log.

use std::collections::{BTreeMap, BTreeSet};

use super::level::SCHEME;
use crate::id::{RequestId, VoId};
use crate::record::{Ending, Event, Hash, Outcome, StateDigests, StateStep};

/// Most levels that one record names: so many that none is cut.
const PER_RECORD: usize = 200;

/// What the log says, before it is known which of the last changes were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The newest whole list of digests.
    pub(super) levels: BTreeMap<VoId, Hash>,
    /// Changes since, in their order; each holds if it was applied.
    pub(super) changes: Vec<(RequestId, Vec<StateStep>)>,
    /// Requests of which the log says that they succeeded, so that the store is not asked.
    pub(super) applied: BTreeSet<RequestId>,
}

/// The log's newest list of digests, and the changes since: `None` where these events hold no whole list.
pub fn told<'a>(events: impl IntoIterator<Item = &'a Event>) -> Option<Told> {
    let mut told: Option<Told> = None;
    let mut list: Option<(u32, BTreeMap<VoId, Hash>)> = None;
    let add = |told: &mut Option<Told>, request, steps: &[StateStep]| {
        if let Some(told) = told {
            told.changes.push((request, steps.to_vec()));
        }
    };
    for event in events {
        match event {
            Event::Change(change) if !change.state.is_empty() => {
                add(&mut told, change.request, &change.state);
            }
            Event::State(StateDigests {
                request: Some(request),
                levels,
                ..
            }) => add(&mut told, *request, levels),
            Event::State(part) if part.scheme == SCHEME => {
                let (next, mut levels) = match list.take() {
                    Some((next, levels)) if part.part == next => (next, levels),
                    _ if part.part == 0 => (0, BTreeMap::new()),
                    _ => continue,
                };
                let known = part.levels.iter();
                levels.extend(known.filter_map(|step| Some((step.vo, step.after?))));
                if next + 1 == part.parts {
                    told = Some(Told {
                        levels,
                        ..Told::default()
                    });
                } else {
                    list = Some((next + 1, levels));
                }
            }
            Event::Outcome(outcome) if succeeded(outcome) => {
                if let Some(told) = &mut told {
                    told.applied.insert(outcome.request);
                }
            }
            _ => {}
        }
    }
    told
}

/// Whether a change of state was applied, by what the log says of its end.
#[must_use]
pub fn succeeded(outcome: &Outcome) -> bool {
    match outcome.ending {
        Ending::Applied => true,
        Ending::Answered => outcome.status.is_some_and(|status| (200..300).contains(&status)),
        _ => false,
    }
}

/// The records of a whole list.
pub(super) fn list(known: &BTreeMap<VoId, Hash>, adopted: Option<&str>) -> Vec<Event> {
    let steps: Vec<StateStep> = known
        .iter()
        .map(|(vo, digest)| StateStep {
            vo: *vo,
            before: None,
            after: Some(*digest),
        })
        .collect();
    records(&steps, None, adopted)
}

/// Steps of a change beyond those that its own record holds.
pub(super) fn further(request: RequestId, steps: &[StateStep]) -> Vec<Event> {
    if steps.is_empty() {
        return Vec::new();
    }
    records(steps, Some(request), None)
}

fn records(steps: &[StateStep], request: Option<RequestId>, adopted: Option<&str>) -> Vec<Event> {
    let mut lists: Vec<Vec<StateStep>> = steps.chunks(PER_RECORD).map(<[_]>::to_vec).collect();
    if lists.is_empty() {
        lists.push(Vec::new());
    }
    let parts = u32::try_from(lists.len()).unwrap_or(u32::MAX);
    let record = |(part, levels)| {
        Event::State(StateDigests {
            scheme: SCHEME,
            request,
            part,
            parts,
            adopted: adopted.map(str::to_owned),
            levels,
        })
    };
    (0..).zip(lists).map(record).collect()
}
