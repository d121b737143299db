//! The one body type that passes between the gateway's parts, and a table-driven hex encoder.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};

/// Any error of a body or of a service behind the gateway.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way through the gateway: frames are bounded, its end is an end or an error, never a guess.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// A body without content.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is all of `bytes`.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// `bytes` in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
