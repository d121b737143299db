//! The few messages of the OpenTelemetry protocol that a trace needs, as Protocol Buffers
//! (`opentelemetry/proto/collector/trace/v1/trace_service.proto`, version 1).
//!
//! Written by hand: eight messages do not pay for a code generator and its run-time (`docs/decisions`).

use super::requests::Decision;
use super::timing::Stage;
use super::trace::{Facts, child};
use crate::clock::Timestamp;
use crate::record::TraceId;

/// Kinds of spans (`Span.SpanKind`).
const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// `Status.StatusCode`.
const ERROR: u64 = 2;

/// An `ExportTraceServiceRequest` with the spans of these requests; gives it and the number of spans in it.
pub(super) fn request(service: &str, requests: &[Facts]) -> (Vec<u8>, u64) {
    let mut count = 0;
    let mut message = Message::default();
    message.message(1, |spans| {
        spans.message(1, |resource| {
            resource.attribute(1, "service.name", "countersign");
            resource.attribute(1, "service.version", env!("CARGO_PKG_VERSION"));
            resource.attribute(1, "service.instance.id", service);
        });
        spans.message(2, |scope| {
            scope.message(1, |name| {
                name.text(1, "countersign");
                name.text(2, env!("CARGO_PKG_VERSION"));
            });
            for facts in requests {
                count += 1 + facts.stages.len() as u64;
                scope.message(2, |span| root(span, facts));
                for (stage, from, to) in &facts.stages {
                    scope.message(2, |span| part(span, facts, *stage, (*from, *to)));
                }
            }
        });
    });
    (message.0, count)
}

/// The span of the whole request.
fn root(span: &mut Message, facts: &Facts) {
    let name = match (&facts.tool, &facts.task) {
        (Some(tool), Some(task)) => format!("{tool} {task}"),
        _ => facts.method.to_owned(),
    };
    head(span, facts.trace, facts.span, facts.parent);
    if let Some(state) = facts.state.as_ref().and_then(|state| state.to_str().ok()) {
        span.text(3, state);
    }
    body(span, &name, SERVER, (facts.begun, facts.ended));
    span.attribute(9, "http.request.method", facts.method);
    if let Some(status) = facts.status {
        span.number_attribute(9, "http.response.status_code", u64::from(status));
    }
    span.attribute(9, "countersign.request_id", &facts.request.to_string());
    for (key, value) in [
        ("countersign.vo", &facts.vo),
        ("countersign.tool", &facts.tool),
        ("countersign.task", &facts.task),
    ] {
        if let Some(value) = value {
            span.attribute(9, key, value);
        }
    }
    if let Some(decision) = facts.decision {
        span.attribute(9, "countersign.decision", decision.as_str());
    }
    let failed = facts.decision == Some(Decision::Fail) || facts.status.is_some_and(|status| status >= 500);
    if failed {
        span.message(15, |status| status.number(3, ERROR));
    }
}

/// The span of one stage; that of `act` is the call of the tool.
fn part(span: &mut Message, facts: &Facts, stage: Stage, times: (Timestamp, Timestamp)) {
    head(span, facts.trace, child(facts.span, stage), Some(facts.span));
    let kind = if stage == Stage::Act { CLIENT } else { INTERNAL };
    body(span, stage.as_str(), kind, times);
}

fn head(span: &mut Message, trace: TraceId, id: u64, parent: Option<u64>) {
    span.bytes(1, &trace.0);
    span.bytes(2, &id.to_be_bytes());
    if let Some(parent) = parent {
        span.bytes(4, &parent.to_be_bytes());
    }
}

fn body(span: &mut Message, name: &str, kind: u64, (from, to): (Timestamp, Timestamp)) {
    span.text(5, name);
    span.number(6, kind);
    span.fixed(7, nanos(from));
    span.fixed(8, nanos(to));
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.micros()).unwrap_or(0).saturating_mul(1_000)
}

/// Bytes of a message. Field numbers and wire types are those of the encoding guide of Protocol Buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn fixed(&mut self, field: u64, value: u64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// A `KeyValue` with a string.
    fn attribute(&mut self, field: u64, key: &str, value: &str) {
        self.message(field, |pair| {
            pair.text(1, key);
            pair.message(2, |any| any.text(1, value));
        });
    }

    /// A `KeyValue` with an integer.
    fn number_attribute(&mut self, field: u64, key: &str, value: u64) {
        self.message(field, |pair| {
            pair.text(1, key);
            pair.message(2, |any| any.number(3, value));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lengths_are_written_as_the_encoding_guide_shows() {
        let mut message = Message::default();
        message.number(1, 150);
        message.text(2, "testing");
        message.fixed(3, 1);
        assert_eq!(
            message.0,
            b"\x08\x96\x01\x12\x07testing\x19\x01\x00\x00\x00\x00\x00\x00\x00"
        );
        let long = "x".repeat(300);
        let mut message = Message::default();
        message.message(1, |inner| inner.text(1, &long));
        assert_eq!(&message.0[..6], b"\x0a\xaf\x02\x0a\xac\x02");
        assert_eq!(message.0.len(), 306);
    }
}
