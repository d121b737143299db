//! W3C Trace Context: whose trace a request belongs to, and what of it is told to the collector.
//!
//! Every request has a trace. It is a new one, named by the request's own id, unless the request comes from a network that
//! the settings trust and carries a valid `traceparent`. Ids of spans come out of the request id too, so a trace costs no
//! random bytes; only a request that is told to the collector keeps anything in memory.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::config::Traces;
use super::export::Exporter;
use super::requests::{Decision, Where};
use super::timing::Stage;
use crate::clock::{Clock, Timestamp};
use crate::id::RequestId;
use crate::network::Networks;
use crate::record::TraceId;

/// The header that names trace, parent and flags.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What other tracing systems on the way say to each other.
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest `tracestate` that is passed on (Trace Context section 3.3.1.5 asks for at least this).
const STATE_BYTES: usize = 512;
/// The flag that says that the caller tells a collector of this trace.
const SAMPLED: u8 = 1;

/// Begins traces.
#[derive(Debug)]
pub struct Tracing {
    trusted: Networks,
    one_in: u64,
    exporter: Option<Exporter>,
    clock: Arc<dyn Clock>,
}

/// The trace of one request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trace {
    id: TraceId,
    span: u64,
    state: Option<HeaderValue>,
    foreign: bool,
    told: Option<Arc<Told>>,
}

/// A request of which the collector will be told; it is handed over when the last who holds it lets go.
#[derive(Debug)]
pub(super) struct Told {
    exporter: Exporter,
    clock: Arc<dyn Clock>,
    wall: Timestamp,
    start: Duration,
    facts: Mutex<Option<Facts>>,
}

/// What is told of a request. No person, no resource, no path.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) trace: TraceId,
    pub(super) span: u64,
    pub(super) parent: Option<u64>,
    pub(super) state: Option<HeaderValue>,
    pub(super) request: RequestId,
    pub(super) method: &'static str,
    pub(super) vo: Option<String>,
    pub(super) tool: Option<String>,
    pub(super) task: Option<String>,
    pub(super) decision: Option<Decision>,
    pub(super) status: Option<u16>,
    pub(super) begun: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) stages: Vec<(Stage, Timestamp, Timestamp)>,
}

impl Tracing {
    /// Traces by these settings; `exporter` is where they are told to, if anywhere.
    #[must_use]
    pub fn new(config: &Traces, exporter: Option<Exporter>, clock: Arc<dyn Clock>) -> Self {
        Self {
            trusted: config.trust.clone(),
            one_in: config.one_in.max(1),
            exporter,
            clock,
        }
    }

    /// The trace of a request that came from `source` with these headers.
    #[must_use]
    pub fn begin(
        &self,
        request: RequestId,
        head: (&http::Method, &HeaderMap),
        source: Option<IpAddr>,
    ) -> Trace {
        let id = u128::from_be_bytes(*request.uuid().as_bytes());
        // The low half of a UUIDv7 is random but for its variant, which keeps it from being zero.
        let span = u64::try_from(id & u128::from(u64::MAX)).unwrap_or(1);
        // SECURITY: a stranger's context is neither continued nor believed: it would let her join anybody's trace, and
        // decide what is kept.
        let trusted = source.is_some_and(|source| self.trusted.contains(source));
        let parent = trusted.then(|| Parent::read(head.1)).flatten();
        let sampled = match &parent {
            Some(parent) => parent.sampled,
            None => span % self.one_in == 0,
        };
        let trace = TraceId(parent.as_ref().map_or(id.to_be_bytes(), |parent| parent.trace.0));
        let told = self.exporter.as_ref().filter(|_| sampled).map(|exporter| {
            Arc::new(Told {
                exporter: exporter.clone(),
                clock: self.clock.clone(),
                wall: self.clock.now(),
                start: self.clock.monotonic(),
                facts: Mutex::new(Some(Facts {
                    trace,
                    span,
                    parent: parent.as_ref().map(|parent| parent.span),
                    state: parent.as_ref().and_then(|parent| parent.state.clone()),
                    request,
                    method: method(head.0),
                    vo: None,
                    tool: None,
                    task: None,
                    decision: None,
                    status: None,
                    begun: self.clock.now(),
                    ended: Timestamp(0),
                    stages: Vec::with_capacity(Stage::ALL.len()),
                })),
            })
        });
        Trace {
            id: trace,
            span,
            foreign: parent.is_some(),
            state: parent.and_then(|parent| parent.state),
            told,
        }
    }
}

impl Trace {
    /// The trace of something that no client asked for.
    #[must_use]
    pub fn own(request: RequestId) -> Self {
        let id = u128::from_be_bytes(*request.uuid().as_bytes());
        Self {
            id: TraceId(id.to_be_bytes()),
            span: u64::try_from(id & u128::from(u64::MAX)).unwrap_or(1),
            state: None,
            foreign: false,
            told: None,
        }
    }

    /// The trace as a record names it: when somebody else began it, or a collector is told of it. Else it is the request's
    /// own id, which stands there already.
    #[must_use]
    pub fn recorded(&self) -> Option<TraceId> {
        (self.foreign || self.told.is_some()).then_some(self.id)
    }

    /// Writes the context that the tool gets, in place of whatever a client sent.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.remove(TRACESTATE);
        let span = match &self.told {
            Some(_) => child(self.span, Stage::Act),
            None => self.span,
        };
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (trace, rest) = value.split_at_mut(35);
        let (span_id, flags) = rest.split_at_mut(17);
        let hex = data_encoding::HEXLOWER;
        hex.encode_mut(&self.id.0, trace.get_mut(3..).unwrap_or_default());
        hex.encode_mut(&span.to_be_bytes(), span_id.get_mut(1..).unwrap_or_default());
        hex.encode_mut(
            &[u8::from(self.told.is_some())],
            flags.get_mut(1..).unwrap_or_default(),
        );
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }

    /// The request was decided.
    pub fn decided(&self, at: Where<'_>, decision: Decision) {
        self.note(|facts| {
            let name = |name: Option<&str>| name.map(str::to_owned);
            (facts.vo, facts.tool, facts.task) = (name(at.vo), name(at.tool), name(at.task));
            facts.decision = Some(decision);
        });
    }

    /// The request was answered.
    pub fn answered(&self, status: u16) {
        self.note(|facts| facts.status = Some(status));
    }

    /// A stage ran from `from` to `to` on the monotonic clock.
    pub(super) fn stage(&self, stage: Stage, from: Duration, to: Duration) {
        let Some(told) = &self.told else { return };
        self.note(|facts| facts.stages.push((stage, told.at(from), told.at(to))));
    }

    fn note(&self, note: impl FnOnce(&mut Facts)) {
        let Some(told) = &self.told else { return };
        let mut facts = told.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.as_mut().map(note);
    }
}

impl Told {
    /// A moment of the monotonic clock on the wall clock that the request began with, which no step of it moves.
    fn at(&self, moment: Duration) -> Timestamp {
        self.wall.plus(moment.saturating_sub(self.start))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let facts = self
            .facts
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut facts) = facts {
            facts.ended = self.at(self.clock.monotonic());
            self.exporter.tell(facts);
        }
    }
}

/// The id of the span of a stage: the request's, which is random, with the stage in its last bits.
pub(super) const fn child(span: u64, stage: Stage) -> u64 {
    span ^ (stage as u64 + 1)
}

/// A client may write any method; a span shows those that are known.
fn method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

/// A caller's span.
struct Parent {
    trace: TraceId,
    span: u64,
    sampled: bool,
    state: Option<HeaderValue>,
}

impl Parent {
    /// Reads the context of a request; `None` when there is none, or more than one, or it is not valid.
    fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        let (trace, span, flags) = parse(value.as_bytes())?;
        Some(Self {
            trace,
            span,
            sampled: flags & SAMPLED != 0,
            state: state(headers),
        })
    }
}

/// Trace Context section 3.2.2. A later version may say more behind the flags, after a dash.
fn parse(value: &[u8]) -> Option<(TraceId, u64, u8)> {
    let text = std::str::from_utf8(value).ok()?;
    let (known, more) = (text.get(..55)?, text.get(55..)?);
    let mut parts = known.split('-');
    let mut next = |digits: usize| {
        let part = parts.next()?;
        let hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (part.len() == digits && hex).then_some(part)
    };
    let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    let fits = match version {
        "ff" => false,
        "00" => more.is_empty(),
        _ => more.is_empty() || more.starts_with('-'),
    };
    let trace = u128::from_str_radix(trace, 16).ok()?;
    let span = u64::from_str_radix(span, 16).ok()?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    (fits && trace != 0 && span != 0).then_some((TraceId(trace.to_be_bytes()), span, flags))
}

/// All `tracestate` headers as one; none of them when they are longer than they may be.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut joined = Vec::new();
    for value in headers.get_all(TRACESTATE) {
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(value.as_bytes());
    }
    let fits = !joined.is_empty() && joined.len() <= STATE_BYTES && joined.is_ascii();
    fits.then(|| HeaderValue::from_bytes(&joined).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::SystemClock;
    use crate::id::{Ids, SystemSource};

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn sent(trusted: bool, headers: &[(&'static str, &str)], from: &str) -> (RequestId, Trace, HeaderMap) {
        let clock = SystemClock::shared();
        let config = Traces {
            trust: if trusted {
                Networks::from_iter(crate::network::Network::parse("192.0.2.0/24"))
            } else {
                Networks::default()
            },
            ..Traces::default()
        };
        let tracing = Tracing::new(&config, None, clock.clone());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let request = Ids::new(clock, Arc::new(SystemSource::new())).next().unwrap();
        let trace = tracing.begin(request, (&http::Method::GET, &map), from.parse().ok());
        trace.write(&mut map);
        (request, trace, map)
    }

    fn own(request: RequestId) -> String {
        let id = request.uuid().simple().to_string();
        format!("00-{id}-{}-00", &id[16..])
    }

    #[test]
    fn a_strangers_trace_is_not_continued() {
        let headers = [("traceparent", GOOD), ("tracestate", "a=b")];
        for (trusted, from) in [(false, "192.0.2.7"), (true, "198.51.100.1"), (true, "local")] {
            let (request, trace, map) = sent(trusted, &headers, from);
            assert_eq!(map["traceparent"], own(request).as_str());
            assert!(!map.contains_key("tracestate"));
            assert_eq!(trace.recorded(), None);
        }
    }

    #[test]
    fn a_trusted_callers_trace_goes_on_with_a_span_of_our_own() {
        let headers = [
            ("traceparent", GOOD),
            ("tracestate", "a=b"),
            ("tracestate", "c=d"),
        ];
        let (_, trace, map) = sent(true, &headers, "::ffff:192.0.2.7");
        let value = map["traceparent"].to_str().unwrap();
        assert!(
            value.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
            "{value}"
        );
        assert!(
            !value.contains("00f067aa0ba902b7"),
            "the tool's parent is our span: {value}"
        );
        assert_eq!(map["tracestate"], "a=b,c=d");
        assert_eq!(
            trace.recorded().unwrap().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
    }

    #[test]
    fn what_is_not_a_trace_context_begins_a_new_trace() {
        let long = format!("a={}", "b".repeat(STATE_BYTES));
        let (_, trace, map) = sent(true, &[("traceparent", GOOD), ("tracestate", &long)], "192.0.2.7");
        assert!(trace.recorded().is_some() && !map.contains_key("tracestate"));
        for bad in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
        ] {
            let (request, trace, map) = sent(true, &[("traceparent", bad)], "192.0.2.7");
            assert_eq!(trace.recorded(), None, "{bad}");
            assert_eq!(map["traceparent"], own(request).as_str());
        }
        let two = [("traceparent", GOOD), ("traceparent", GOOD)];
        assert_eq!(sent(true, &two, "192.0.2.7").1.recorded(), None);
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(
            sent(true, &[("traceparent", later)], "192.0.2.7")
                .1
                .recorded()
                .is_some()
        );
    }

    proptest! {
        #[test]
        fn whatever_stands_in_the_header_the_tool_gets_a_valid_context(
            value in prop_oneof!["[ -~]{0,70}", "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]{0,5})?"],
        ) {
            let (request, trace, map) = sent(true, &[("traceparent", &value)], "192.0.2.7");
            let written = map["traceparent"].as_bytes();
            let (id, span, _) = parse(written).unwrap();
            prop_assert_eq!(Some(id), trace.recorded().or(Some(TraceId(*request.uuid().as_bytes()))));
            prop_assert_eq!(format!("{span:016x}"), &request.uuid().simple().to_string()[16..]);
        }
    }
}
