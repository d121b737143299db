//! The MyProxy protocol (GFD-E.54, and what MyProxy 6 does), for both directions.
//!
//! Inside TLS, a client writes one byte (`0`: it delegates nothing yet), then requests; each side's messages are lines
//! `KEY=VALUE` ended by a NUL byte. Where a credential is delegated, the side that will hold it sends a certification
//! request (DER), and the other answers with one byte that counts the certificates, and these (DER), the new one first.
//!
//! [`Inbox`] takes bytes as they come and gives whole pieces, each within its bounds; [`Request`] and [`Response`] are read
//! from them and written. Nothing here reads from a connection or waits; [`Client`] does, with a limit of time for all of it.

mod client;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod inbox;
mod request;
mod response;

pub use client::{Client, ClientError, Put};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::{fuzz_request, fuzz_response};
pub use inbox::Inbox;
pub use request::{Command, Request};
pub use response::{Reply, Response};

/// The protocol's only version.
const VERSION: &str = "MYPROXYv2";
/// No line is longer, in bytes, of what is read.
const LINE_MAX: usize = 4 * 1024;
/// No message has more lines.
const LINES_MAX: usize = 64;
/// No message is longer, in bytes.
const MESSAGE_MAX: usize = 32 * 1024;
/// No certificate is longer, in bytes.
const CERTIFICATE_MAX: usize = 16 * 1024;
/// No chain has more certificates.
const CHAIN_MAX: u8 = 12;

/// Why what the other side sent was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A message without an end.
    #[error("a message is longer than {MESSAGE_MAX} bytes, or a line longer than {LINE_MAX}")]
    TooLong,
    /// A message with too many lines.
    #[error("a message has more than {LINES_MAX} lines")]
    TooMany,
    /// Not `KEY=VALUE`.
    #[error("a line is not `KEY=VALUE` in UTF-8")]
    Line,
    /// The same key twice.
    #[error("`{0}` stands twice in a message")]
    Twice(&'static str),
    /// Not the version.
    #[error("a message does not begin with `VERSION={VERSION}`")]
    Version,
    /// A key that must be there, or a value that is not accepted.
    #[error("`{0}` is missing or has a value that is not accepted")]
    Value(&'static str),
    /// Not DER, or not of an acceptable length.
    #[error("what should be DER is not, or is longer than accepted")]
    Der,
    /// A chain of no certificate, or of too many.
    #[error("a chain has {0} certificates; accepted: 1 to {CHAIN_MAX}")]
    Count(u8),
    /// A first byte that no client sends.
    #[error("the client does not begin with `0`")]
    Begin,
}

/// The lines of a message, as key and value.
type Lines<'a> = Vec<(&'a str, &'a str)>;

/// Splits a message (without its NUL) into its lines, the version taken off.
fn lines(message: &[u8]) -> Result<Lines<'_>, Unfit> {
    if message.len() > MESSAGE_MAX {
        return Err(Unfit::TooLong);
    }
    let mut lines = Vec::new();
    for line in message
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        if line.len() > LINE_MAX {
            return Err(Unfit::TooLong);
        }
        if lines.len() == LINES_MAX {
            return Err(Unfit::TooMany);
        }
        let line = std::str::from_utf8(line).map_err(|_| Unfit::Line)?;
        lines.push(line.split_once('=').ok_or(Unfit::Line)?);
    }
    match lines.first() {
        Some(("VERSION", VERSION)) => {
            lines.remove(0);
            Ok(lines)
        }
        _ => Err(Unfit::Version),
    }
}

/// The only value of a key. What stands twice could be read in two ways.
fn only<'a>(lines: &Lines<'a>, key: &'static str) -> Result<Option<&'a str>, Unfit> {
    let mut values = lines.iter().filter(|(name, _)| *name == key);
    let value = values.next().map(|(_, value)| *value);
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Unfit::Twice(key)),
    }
}

/// Writes one line. A value never holds what would end it.
fn line(message: &mut String, key: &str, value: &str) {
    message.push_str(key);
    message.push('=');
    message.extend(value.chars().filter(|char| !matches!(char, '\n' | '\0')));
    message.push('\n');
}

/// A chain as it is delegated: its count, then the certificates. `None` when there is none, or too many.
#[must_use]
pub fn chain(certificates: &[Vec<u8>]) -> Option<Vec<u8>> {
    let count = u8::try_from(certificates.len()).ok()?;
    (1..=CHAIN_MAX).contains(&count).then(|| {
        let mut bytes = vec![count];
        certificates.iter().for_each(|der| bytes.extend_from_slice(der));
        bytes
    })
}

#[cfg(test)]
mod tests;
