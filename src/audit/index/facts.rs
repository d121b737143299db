//! What a record is found by. Whoever asks for a record says it, where the rest of the event can be let go at once; the
//! index then needs no more than this.

use crate::id::{PersonId, RequestId, VoId};
use crate::record::{Entry, Event, TraceId};

/// What a record is found by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::audit) struct Facts {
    pub(super) event: &'static str,
    pub(super) request: Option<RequestId>,
    pub(super) trace: Option<TraceId>,
    pub(super) permit: Option<bool>,
    /// Serial of a credential, in decimal.
    pub(super) serial: Option<String>,
    pub(super) origin: Origin,
}

/// Whom a record concerns, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) person: Option<PersonId>,
    pub(super) vo: Option<String>,
    pub(super) vo_id: Option<VoId>,
    pub(super) tool: Option<String>,
    pub(super) task: Option<String>,
    /// As `type/id`.
    pub(super) resource: Option<String>,
}

impl Facts {
    /// What a record says of itself. An outcome, a lease and a trace name only their request: their origin is that of the intent.
    pub(in crate::audit) fn of(event: Event) -> Self {
        let facts = Self {
            event: event.name(),
            request: event.request(),
            ..Self::default()
        };
        match event {
            Event::Intent(entry) => facts.entered(*entry),
            Event::Refused(refused) => Self {
                permit: Some(false),
                ..facts.entered(refused.entry)
            },
            Event::Lease(lease) => Self {
                permit: Some(lease.decision.permit),
                ..facts
            },
            Event::Outcome(outcome) => Self {
                serial: outcome.signed.map(|signed| signed.serial),
                ..facts
            },
            Event::Login(login) => facts.at(Origin {
                person: login.person,
                ..Origin::default()
            }),
            Event::SessionEnded(ended) => facts.at(Origin {
                person: Some(ended.person),
                ..Origin::default()
            }),
            Event::Change(change) => {
                let change = change.change;
                facts.at(Origin {
                    person: change.person,
                    vo_id: Some(change.vo),
                    resource: Some(format!("{}/{}", change.kind, change.target)),
                    task: Some(change.action),
                    ..Origin::default()
                })
            }
            Event::RevocationList(list) => facts.at(Origin {
                vo_id: Some(list.vo),
                ..Origin::default()
            }),
            Event::Mint(mint) => {
                let origin = Origin {
                    person: Some(mint.person),
                    vo_id: Some(mint.vo),
                    tool: Some(mint.tool),
                    ..Origin::default()
                };
                let serial = Some(mint.serial);
                Self {
                    serial,
                    ..facts.at(origin)
                }
            }
            Event::Trace(trace) => Self {
                serial: trace.found.into_iter().next(),
                ..facts
            },
            Event::Alert(alert) => facts.at(Origin {
                person: Some(alert.person),
                vo_id: Some(alert.vo),
                tool: alert.tool,
                task: Some(alert.task),
                ..Origin::default()
            }),
            Event::OwnershipConflict(conflict) => facts.at(Origin {
                person: conflict.owner,
                vo_id: Some(conflict.claimed.vo),
                resource: Some(format!("{}/{}", conflict.claimed.kind, conflict.claimed.id)),
                tool: Some(conflict.claimed.tool),
                ..Origin::default()
            }),
            Event::StateForeignChange(changed) => facts.at(Origin {
                vo_id: Some(changed.vo),
                ..Origin::default()
            }),
            _ => facts,
        }
    }

    fn at(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    fn entered(self, entry: Entry) -> Self {
        let resource = entry.resource;
        Self {
            trace: entry.trace,
            permit: entry.decision.map(|decision| decision.permit),
            serial: entry.delegation.and_then(|delegation| delegation.serial),
            origin: Origin {
                person: entry.subject.person,
                vo: entry.place.vo,
                vo_id: entry.place.vo_id,
                tool: entry.place.tool,
                task: entry.place.task,
                resource: resource.map(|resource| format!("{}/{}", resource.kind, resource.id)),
            },
            ..self
        }
    }
}
