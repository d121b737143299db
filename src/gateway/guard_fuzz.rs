//! The fuzz target of request heads (see `crate::fuzz`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target ends at the first thing that is not as it claims"
)]

use super::*;
use crate::gateway::framing::{Authority, check};
use crate::tool::Target;

/// What a stream of bytes was judged to be.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    passed: Vec<u8>,
    refused: Option<(u64, Kind)>,
    broken: bool,
}

/// As [`Guard`] reads: what may not pass yet is shown again, with more.
fn judged<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Judged {
    let mut framer = Framer::new(Limits::default(), Arc::default());
    let (mut held, mut passed) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let (count, stop) = framer.advance(&held);
        passed.extend(held.drain(..count));
        let number = framer.verdict.passed.load(Ordering::Acquire);
        match stop {
            None => {}
            Some(Stop::Head(problem)) => {
                return Judged {
                    passed,
                    refused: Some((number, problem.kind)),
                    broken: false,
                };
            }
            Some(Stop::Body) => {
                return Judged {
                    passed,
                    refused: None,
                    broken: true,
                };
            }
        }
    }
    Judged {
        passed,
        refused: None,
        broken: false,
    }
}

/// Bytes as what a client sends over HTTP/1.1.
///
/// However they are cut, the judgement is the same. What passes is what came, byte for byte; a second parser (the one
/// behind the guard) reads every head that passed as one whole request and finds the bodies where the guard found them;
/// and what framing says of a head is what stands in it.
pub(crate) fn request_head(data: &[u8]) {
    let whole = judged([data]);
    assert!(data.starts_with(&whole.passed));
    let at = data.first().map_or(0, |byte| usize::from(*byte) % data.len());
    assert_eq!(judged([&data[..at], &data[at..]]), whole, "cut at {at}");
    if data.len() <= 600 {
        assert_eq!(judged(data.chunks(1)), whole, "byte by byte");
    }
    let mut rest = whole.passed.as_slice();
    while !rest.is_empty() {
        rest = follow(rest);
    }
}

/// Reads the request that `bytes` begin with and gives what stands behind it.
fn follow(bytes: &[u8]) -> &[u8] {
    let mut space = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut space);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        other => panic!(
            "passed, but for another parser it is {other:?}: {}",
            bytes.escape_ascii()
        ),
    };
    assert_eq!(request.version, Some(1));
    let (method, target) = (request.method.unwrap(), request.path.unwrap());
    assert!(bytes.starts_with(format!("{method} {target} HTTP/1.1\r\n").as_bytes()));
    let values = |wanted: &str| -> Vec<&[u8]> {
        request
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(wanted))
            .map(|header| header.value)
            .collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.len() + codings.len() < 2, "two ways to tell the length");
    let mut made = http::Request::builder().method(method).uri(target);
    for header in request.headers.iter() {
        made = made.header(header.name, header.value);
    }
    let (parts, ()) = made.body(()).expect("passed, but no request").into_parts();
    if let Ok(asked) = check(&parts, &Limits::default()) {
        let [host] = values("host")[..] else {
            panic!("accepted, but with {} hosts", values("host").len())
        };
        assert!(
            host.eq_ignore_ascii_case(asked.authority.to_string().as_bytes())
                || host.ends_with(b"0")
                || host.contains(&b'0')
        );
        assert_eq!(
            Authority::parse(&asked.authority.to_string()),
            Some(asked.authority)
        );
        assert_eq!(Target::parse(asked.target.as_str()), Ok(asked.target.clone()));
        // In origin form the target is the very bytes; in absolute form what follows the host.
        assert!(
            target == asked.target.as_str()
                || target.ends_with(asked.target.as_str())
                || asked.target.as_str() == "/"
                || asked.target.as_str().starts_with("/?")
        );
        assert!(!matches!(method, "CONNECT" | "TRACE"));
        let last = request.headers.last().is_some();
        assert!(last, "accepted without a header");
    }
    let body = &bytes[head..];
    if !codings.is_empty() {
        return chunks(body);
    }
    let Some(length) = lengths.first() else {
        return body;
    };
    let length: u64 = std::str::from_utf8(length)
        .unwrap()
        .parse()
        .expect("a length that is no number");
    &body[take(length, body)..]
}

fn chunks(mut body: &[u8]) -> &[u8] {
    loop {
        let (line, size) = match httparse::parse_chunk_size(body) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return &[],
            Err(_) => panic!("a chunk passed that is none: {}", body.escape_ascii()),
        };
        body = &body[line..];
        if size == 0 {
            let mut space = [httparse::EMPTY_HEADER; 4_096];
            return match httparse::parse_headers(body, &mut space) {
                Ok(httparse::Status::Complete((trailers, _))) => &body[trailers..],
                Ok(httparse::Status::Partial) => &[],
                Err(error) => panic!("trailers passed that are none ({error}): {}", body.escape_ascii()),
            };
        }
        body = &body[take(size, body)..];
        match body {
            [b'\r', b'\n', rest @ ..] => body = rest,
            [] | [b'\r'] => return &[],
            _ => panic!("a chunk passed without its end: {}", body.escape_ascii()),
        }
    }
}
