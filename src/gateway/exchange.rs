//! One request on its way through the pipeline: its id, its head, and the words for its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use http::request::Parts;

use crate::authenticate::{Presented, Source, Subject};
use crate::body::hex;
use crate::id::RequestId;
use crate::record::{DecisionEntry, DelegationEntry, Entry, PlaceEntry, ResourceEntry, SubjectEntry};
use crate::secret::Secret;
use crate::telemetry::{Trace, Where};
use crate::tool::Place;

/// A request whose framing and target are canonical.
pub(crate) struct Exchange {
    /// Names the request in records, answers, logs and towards the tool.
    pub(crate) id: RequestId,
    /// The head, as hyper parsed it.
    pub(crate) head: Parts,
    /// Where it came from.
    pub(crate) source: Source,
    /// What its connection's client proved to be, on the certificate listener.
    pub(crate) presented: Option<Arc<Presented>>,
    /// The trace that it belongs to.
    pub(crate) trace: Trace,
}

/// How much of a path a record shows, in characters.
const PATH_IN_RECORD: usize = 512;

/// Turns places, subjects and decisions into the words of `record.rs`.
#[derive(Clone)]
pub struct Words {
    sensitive: hmac::Key,
}

impl Words {
    /// `key` is the key under which sensitive parameters stand in records: 64 hexadecimal digits. `None` when it is not.
    #[must_use]
    pub fn from_hex(key: &str) -> Option<Self> {
        let key = Secret::new(data_encoding::HEXLOWER_PERMISSIVE.decode(key.as_bytes()).ok()?);
        (key.expose().len() == 32).then(|| Self {
            sensitive: hmac::Key::new(hmac::HMAC_SHA256, key.expose()),
        })
    }

    /// The common part of intents and refusals.
    pub(crate) fn entry(
        &self,
        (request, trace): (RequestId, &Trace),
        subject: SubjectEntry,
        place: Option<&Place>,
        source: Source,
    ) -> Entry {
        Entry {
            request,
            trace: trace.recorded(),
            subject,
            place: place.map(place_entry).unwrap_or_default(),
            parameters: place.map(|place| self.parameters(place)).unwrap_or_default(),
            resource: None,
            decision: None,
            delegation: None,
            source: source.network(),
            no_outcome: place
                .and_then(|place| place.found.as_ref())
                .is_some_and(|found| !found.task.recorded.outcome),
        }
    }

    /// The entry of a decided request.
    pub(crate) fn decided(
        &self,
        request: (RequestId, &Trace),
        subject: &Subject,
        place: &Place,
        (decision, resource): (Arc<DecisionEntry>, Option<ResourceEntry>),
        delegation: Option<DelegationEntry>,
    ) -> Entry {
        Entry {
            resource,
            decision: Some(decision),
            delegation,
            ..self.entry(request, subject.entry(), Some(place), subject.source())
        }
    }

    fn parameters(&self, place: &Place) -> BTreeMap<String, String> {
        let Some(found) = &place.found else {
            return BTreeMap::new();
        };
        let mut parameters = BTreeMap::new();
        for (name, value) in &found.parameters {
            let shown = if found.task.sensitive.contains(name) {
                // SECURITY: a sensitive value can be compared with a suspected one by whoever has the key, never read.
                format!(
                    "hmac:{}",
                    hex(hmac::sign(&self.sensitive, value.as_bytes()).as_ref())
                )
            } else {
                value.clone()
            };
            parameters.insert(name.clone(), shown);
        }
        parameters
    }
}

/// A place in names of what exists, for metrics and traces.
pub(crate) fn named(place: Option<&Place>) -> Where<'_> {
    let Some(place) = place else {
        return Where::default();
    };
    Where {
        vo: place.vo.as_ref().map(|vo| vo.name.as_str()),
        tool: place.tool.as_ref().map(|tool| tool.name.as_str()),
        task: place.found.as_ref().map(|found| found.task.name.as_str()),
    }
}

/// A place as a record shows it. The path stands there only when nothing of it can be sensitive.
fn place_entry(place: &Place) -> PlaceEntry {
    let task = place.found.as_ref().map(|found| &found.task);
    // SECURITY: where no task names the request, any segment may be what a task of this tool would have hidden.
    let hidden = match task {
        Some(task) => !task.sensitive.is_empty(),
        None => place
            .tool
            .iter()
            .flat_map(|tool| &tool.tasks)
            .any(|task| !task.sensitive.is_empty()),
    };
    let path: String = place.target.path().chars().take(PATH_IN_RECORD).collect();
    PlaceEntry {
        via: place.address.as_str().into(),
        vo: place
            .vo
            .as_ref()
            .map(|vo| vo.name.clone())
            .or_else(|| place.unknown_vo.clone()),
        vo_id: place.vo.as_ref().map(|vo| vo.id),
        tool: place.tool.as_ref().map(|tool| tool.name.clone()),
        task: task.map(|task| task.name.clone()),
        kind: task.map(|task| task.kind.as_str().to_owned()),
        method: place.method.as_str().to_owned(),
        path: (!hidden).then_some(path),
    }
}
