//! A client that speaks bytes and frames, not requests.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use serde_json::Value;

pub(crate) use crate::wire::Tls;
use crate::world::World;

/// How long a connection may stay silent before that is what it does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects with this protocol (ALPN).
pub(crate) fn connect(world: &World, protocol: &str) -> Tls {
    crate::wire::connect(world, protocol, PATIENCE)
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.body.escape_ascii())
    }
}

impl Answer {
    /// The last part of its problem's type; empty when it is no problem.
    pub(crate) fn problem(&self) -> String {
        problem(&self.body)
    }
}

/// The last part of a problem document's type.
pub(crate) fn problem(body: &[u8]) -> String {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let kind = document["type"].as_str().unwrap_or_default();
    kind.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Sends bytes and reads all answers until the connection ends; `None` when it stays open.
pub(crate) fn converse(world: &World, bytes: &[u8]) -> Option<Vec<Answer>> {
    let mut tls = connect(world, "http/1.1");
    // The gateway may end the connection before it has read everything.
    let _ = tls.write_all(bytes).and_then(|()| tls.flush());
    let mut read = Vec::new();
    let mut space = [0; 16 * 1024];
    loop {
        match tls.read(&mut space) {
            Ok(0) => break,
            Ok(count) => read.extend_from_slice(&space[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
            Err(_) => break,
        }
    }
    Some(answers(&read))
}

/// Answers one after another; each tells its length.
fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut found = Vec::new();
    while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        bytes = &bytes[end + 4..];
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {head}"));
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse().unwrap());
        let body = bytes[..bytes.len().min(length)].to_vec();
        bytes = &bytes[bytes.len().min(length)..];
        // An interim answer is no answer yet (RFC 9110 section 15.2).
        if status >= 200 {
            found.push(Answer { status, body });
        }
    }
    assert!(
        bytes.is_empty(),
        "behind the last answer: {}",
        bytes.escape_ascii()
    );
    found
}

/// The types of frames that are written here (RFC 9113 section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// Most bytes of a frame's payload (the initial `SETTINGS_MAX_FRAME_SIZE`).
const FRAME: usize = 16_384;

/// What a client begins with, and empty settings.
pub(crate) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // No dynamic table, so that answers can be read field by field (RFC 7541 section 4.2).
    bytes.extend(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
    bytes
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The frames of a header block.
pub(crate) fn headers(stream: u32, fields: &[(String, Vec<u8>)], end: bool) -> Vec<u8> {
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| literal(name.as_bytes(), value))
        .collect();
    let mut bytes = Vec::new();
    let pieces: Vec<&[u8]> = if block.is_empty() {
        vec![&[]]
    } else {
        block.chunks(FRAME).collect()
    };
    for (at, piece) in pieces.iter().enumerate() {
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        let mut flags = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        if at == 0 && end {
            flags |= END_STREAM;
        }
        bytes.extend(frame(kind, flags, stream, piece));
    }
    bytes
}

/// A field as a literal that enters no table (RFC 7541 section 6.2.2), its strings as they are.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        let mut length = text.len();
        if length < 127 {
            bytes.push(u8::try_from(length).unwrap());
        } else {
            bytes.push(127);
            length -= 127;
            while length >= 128 {
                bytes.push(u8::try_from(length % 128 + 128).unwrap());
                length /= 128;
            }
            bytes.push(u8::try_from(length).unwrap());
        }
        bytes.extend_from_slice(text);
    }
    bytes
}

/// How a stream ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With an answer.
    Answered(Answer),
    /// RST_STREAM with this error code.
    #[expect(dead_code, reason = "to be shown")]
    Reset(u32),
    /// GOAWAY with this error code, or the end of the connection.
    #[expect(dead_code, reason = "to be shown")]
    Gone(Option<u32>),
    /// Not at all.
    Open,
}

/// Sends bytes behind a preface and reads until stream 1 has ended.
pub(crate) fn ask(world: &World, bytes: &[u8]) -> Ended {
    let mut tls = connect(world, "h2");
    let _ = tls
        .write_all(&[&preface()[..], bytes].concat())
        .and_then(|()| tls.flush());
    let (mut status, mut body) = (0, Vec::new());
    loop {
        let mut head = [0; 9];
        if let Err(error) = tls.read_exact(&mut head) {
            return match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Ended::Open,
                _ => Ended::Gone(None),
            };
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if tls.read_exact(&mut payload).is_err() {
            return Ended::Gone(None);
        }
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let code = |at: usize| {
            let code = payload.get(at..at + 4).map(|code| code.try_into().unwrap());
            code.map_or(0, u32::from_be_bytes)
        };
        match (kind, stream) {
            (SETTINGS, _) if flags & 1 == 0 => {
                let _ = tls.write_all(&frame(SETTINGS, 1, 0, &[]));
            }
            (GOAWAY, _) if code(4) != 0 => return Ended::Gone(Some(code(4))),
            (RST_STREAM, 1) if status == 0 => return Ended::Reset(code(0)),
            (HEADERS, 1) if status == 0 => status = status_of(&payload),
            (DATA, 1) => body.extend_from_slice(&payload),
            _ => {}
        }
        if stream == 1 && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            return Ended::Answered(Answer { status, body });
        }
    }
}

/// The status, which is the first field of a block: indexed (RFC 7541 appendix A), or as three digits, perhaps in the
/// Huffman code (appendix B: five bits for `0` to `2`, six for the others).
fn status_of(block: &[u8]) -> u16 {
    // A change of the table's size may stand before it.
    let block = match block {
        [first, rest @ ..] if first & 0xe0 == 0x20 => rest,
        block => block,
    };
    match block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [_, length, rest @ ..] if length & 0x80 != 0 => {
            let bits = rest[..usize::from(length & 0x7f)]
                .iter()
                .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            let mut left = u32::from(length & 0x7f) * 8;
            let mut status = 0;
            for _ in 0..3 {
                let five = bits >> (left - 5) & 31;
                let digit = if five < 3 {
                    left -= 5;
                    five
                } else {
                    left -= 6;
                    (bits >> left & 63) - 25 + 3
                };
                status = status * 10 + u16::try_from(digit).unwrap();
            }
            status
        }
        [_, length, rest @ ..] => std::str::from_utf8(&rest[..usize::from(*length)])
            .unwrap()
            .parse()
            .unwrap(),
        other => panic!("no status in {other:?}"),
    }
}
