//! The filters of a search without an index: for whoever reads the log's files from the beginning.

use std::collections::HashSet;

use super::facts::{Facts, Origin};
use super::{Query, has_text};
use crate::audit::ongoing::Ongoing;
use crate::id::{RequestId, VoId};
use crate::record::{Event, Record};

/// Tells which records a [`Query`] asks for. They come oldest first: an outcome is found by the intent before it.
#[derive(Debug)]
pub struct Matching {
    query: Query,
    /// Nothing is filtered.
    all: bool,
    vo_id: Option<VoId>,
    origins: Ongoing<Origin>,
    /// Requests of the trace that is asked for.
    traced: HashSet<RequestId>,
}

impl Matching {
    /// For the filters of `query`; its page and order are not looked at.
    #[must_use]
    pub fn new(mut query: Query) -> Self {
        query.text = query.text.map(|text| text.to_lowercase());
        let trace = query.trace.map(|trace| uuid::Uuid::from_bytes(trace.0).into());
        let any = Query {
            before: query.before,
            onward: query.onward,
            limit: query.limit,
            fresh: query.fresh,
            ..Query::default()
        };
        Self {
            all: query == any,
            vo_id: query.vo.as_ref().and_then(|vo| vo.parse().ok()),
            query,
            origins: Ongoing::default(),
            traced: trace.into_iter().collect(),
        }
    }

    /// Whether `record` is asked for.
    pub fn takes(&mut self, record: &Record) -> bool {
        if self.all {
            return true;
        }
        self.learn(&record.event);
        let mut facts = Facts::of(record.event.clone());
        if let Some(request) = facts.request {
            match facts.event {
                "intent" => self.origins.begin(request, facts.origin.clone()),
                "lease" | "trace" => {
                    facts.origin = self.origins.about(request).cloned().unwrap_or_default();
                }
                "outcome" => facts.origin = self.origins.end(request).unwrap_or_default(),
                _ => {}
            }
            if facts.trace.is_some() && facts.trace == self.query.trace {
                self.traced.insert(request);
            }
        }
        self.fits(record, &facts)
    }

    /// Changes and mints name a VO by its id only; what names both tells which it is.
    fn learn(&mut self, event: &Event) {
        let Some(name) = self.query.vo.as_deref().filter(|_| self.vo_id.is_none()) else {
            return;
        };
        self.vo_id = match event {
            Event::Intent(entry) if entry.place.vo.as_deref() == Some(name) => entry.place.vo_id,
            Event::Change(event) if event.change.kind == "vo" => {
                let after = event.change.after.as_ref().and_then(|after| after.get("name"));
                after
                    .filter(|after| after.as_str() == Some(name))
                    .and_then(|_| event.change.target.parse().ok())
            }
            _ => None,
        };
    }

    fn fits(&self, record: &Record, facts: &Facts) -> bool {
        let (query, origin) = (&self.query, &facts.origin);
        let same = |wanted: &Option<String>, there: &Option<String>| wanted.is_none() || wanted == there;
        let of_vo = query.vo.is_none()
            || query.vo == origin.vo
            || (self.vo_id.is_some() && self.vo_id == origin.vo_id);
        let of_trace = || {
            facts
                .request
                .is_some_and(|request| self.traced.contains(&request))
        };
        of_vo
            && query.level.is_none_or(|level| level.holds(origin.vo_id))
            && query.event.as_deref().is_none_or(|event| event == facts.event)
            && same(&query.tool, &origin.tool)
            && same(&query.task, &origin.task)
            && same(&query.resource, &origin.resource)
            && same(&query.serial, &facts.serial)
            && (query.person.is_none() || query.person == origin.person)
            && (query.permit.is_none() || query.permit == facts.permit)
            && (query.request.is_none() || query.request == facts.request)
            && query.from.is_none_or(|from| record.time >= from)
            && query.to.is_none_or(|to| record.time < to)
            && (query.trace.is_none() || of_trace())
            && query
                .text
                .as_deref()
                .is_none_or(|text| has_text(&record.event, text))
    }
}
