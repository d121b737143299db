//! A record as a message of syslog (RFC 5424), framed for a stream (RFC 5425 section 4.3).

use std::fmt::Write as _;

use crate::audit::index::Position;
use crate::record::{Event, Record};

/// Facility 13, log audit (RFC 5424 section 6.2.1).
const FACILITY: u8 = 13;
/// Longest host name in a message.
const HOST: usize = 255;
/// Largest `sequenceId`; behind it comes 1 (RFC 5424 section 7.3.1).
const MOST_IN_SEQUENCE: u32 = 2_147_483_647;
/// Byte order mark: what follows is UTF-8 (RFC 5424 section 6.4).
const BOM: char = '\u{feff}';

/// Writes messages of one host, numbered.
#[derive(Debug)]
pub(super) struct Messages {
    host: String,
    sequence: u32,
}

impl Messages {
    pub(super) fn of(host: &str) -> Self {
        let host: String = host.chars().filter(char::is_ascii_graphic).take(HOST).collect();
        Self {
            host: if host.is_empty() { "-".to_owned() } else { host },
            sequence: 0,
        }
    }

    /// A record at its place with `text`, which is its message, as a frame.
    pub(super) fn frame(&mut self, record: &Record, at: Position, text: &str) -> Vec<u8> {
        let message = self.message(record, at, text);
        let mut frame = format!("{} ", message.len()).into_bytes();
        frame.extend_from_slice(message.as_bytes());
        frame
    }

    fn message(&mut self, record: &Record, at: Position, text: &str) -> String {
        self.sequence = match self.sequence {
            MOST_IN_SEQUENCE => 1,
            before => before + 1,
        };
        let mut message = String::with_capacity(text.len() + 256);
        let priority = FACILITY * 8 + severity(&record.event);
        // Nothing fails in memory.
        let _ = write!(
            message,
            "<{priority}>1 {} {} countersign - {} [meta sequenceId=\"{}\"][countersign@32473 epoch=\"{}\" seq=\"{}\"",
            record.time,
            self.host,
            record.event.name(),
            self.sequence,
            at.epoch,
            at.seq,
        );
        if let Some(request) = record.event.request() {
            let _ = write!(message, " request=\"{}\"", escaped(&request.to_string()));
        }
        message.push_str("] ");
        message.push(BOM);
        message.push_str(text);
        message
    }
}

/// The value of a parameter of structured data (RFC 5424 section 6.3.3).
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for sign in value.chars() {
        if matches!(sign, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(sign);
    }
    escaped
}

/// How bad it is, as syslog counts: 3 error, 4 warning, 5 notice, 6 informational.
const fn severity(event: &Event) -> u8 {
    match event {
        Event::Unwritten { .. } | Event::LogDegraded(_) | Event::Epoch(_) => 3,
        Event::Refused(_)
        | Event::Strangers(_)
        | Event::Alert(_)
        | Event::OwnershipConflict(_)
        | Event::ReloadFailed(_)
        | Event::Witness(_) => 4,
        Event::Change(_) | Event::Start(_) | Event::Stop { .. } | Event::Recovery(_) | Event::Trace(_) => 5,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::testing::{entry, ids};
    use crate::clock::Timestamp;

    fn record(event: Event) -> Record {
        Record {
            v: 1,
            seq: 7,
            time: Timestamp(1_790_000_000_000_001),
            mono: 0,
            salt: String::new(),
            cut: None,
            event,
        }
    }

    const AT: Position = Position { epoch: 2, seq: 7 };

    #[test]
    fn a_message_is_as_rfc_5424_has_it_and_its_frame_counts_its_bytes() {
        let mut messages = Messages::of("gw.example.org");
        let stop = record(Event::Stop { reason: "ü".into() });
        let frame = String::from_utf8(messages.frame(&stop, AT, "{\"ü\":1}")).unwrap();
        let (length, message) = frame.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), message.len());
        assert_eq!(
            message,
            "<109>1 2026-09-21T14:13:20.000001Z gw.example.org countersign - stop \
             [meta sequenceId=\"1\"][countersign@32473 epoch=\"2\" seq=\"7\"] \u{feff}{\"ü\":1}"
        );
        let entry = entry(&ids());
        let request = entry.request;
        let intent = record(Event::Intent(Box::new(entry)));
        let frame = String::from_utf8(messages.frame(&intent, AT, "x")).unwrap();
        assert!(
            frame.contains("<110>1 ") && frame.contains("sequenceId=\"2\""),
            "{frame}"
        );
        assert!(
            frame.contains(&format!("seq=\"7\" request=\"{request}\"] ")),
            "{frame}"
        );
    }

    #[test]
    fn numbers_begin_anew_behind_the_largest_and_a_host_without_a_name_is_a_dash() {
        let mut messages = Messages::of(" \u{7f}ü");
        messages.sequence = MOST_IN_SEQUENCE;
        let stop = record(Event::Stop {
            reason: String::new(),
        });
        let frame = String::from_utf8(messages.frame(&stop, AT, "")).unwrap();
        assert!(
            frame.contains("Z - countersign - stop [meta sequenceId=\"1\"]"),
            "{frame}"
        );
    }

    proptest! {
        #[test]
        fn whatever_a_value_holds_it_ends_where_it_should(value in "\\PC*") {
            let escaped = escaped(&value);
            // As a receiver reads it: up to the first quote that nothing escapes.
            let (mut read, mut signs) = (String::new(), escaped.chars());
            while let Some(sign) = signs.next() {
                prop_assert!(sign != '"' && sign != ']');
                read.push(if sign == '\\' { signs.next().unwrap() } else { sign });
            }
            prop_assert_eq!(read, value);
        }
    }
}
