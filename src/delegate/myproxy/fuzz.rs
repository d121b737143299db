//! What a peer may send, in pieces of every size: the same comes out, within bounds, and is written as it was read.
#![allow(
    clippy::expect_used,
    reason = "a target ends at the first thing that is not as it claims"
)]

use super::{CHAIN_MAX, Inbox, MESSAGE_MAX, Request, Response, Unfit, chain};

/// What an inbox gives when bytes come in pieces of `step`: pieces until it errs, or wants more.
fn taken<T>(
    bytes: &[u8],
    step: usize,
    mut ask: impl FnMut(&mut Inbox) -> Result<Option<T>, Unfit>,
) -> (Vec<T>, Option<Unfit>) {
    let (mut inbox, mut pieces) = (Inbox::default(), Vec::new());
    for part in bytes.chunks(step.max(1)) {
        inbox.push(part);
        loop {
            match ask(&mut inbox) {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break,
                Err(unfit) => return (pieces, Some(unfit)),
            }
        }
    }
    (pieces, None)
}

fn same<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    ask: impl Fn(&mut Inbox) -> Result<Option<T>, Unfit>,
) -> Vec<T> {
    let whole = taken(bytes, bytes.len(), &ask);
    for step in [1, 7] {
        let (pieces, unfit) = taken(bytes, step, &ask);
        assert_eq!(pieces, whole.0);
        // A line or length may be seen to be too long sooner or later, but never be taken by one and refused by the other.
        assert_eq!(unfit.is_some(), whole.1.is_some());
    }
    whole.0
}

/// A client's messages.
pub(crate) fn fuzz_request(bytes: &[u8]) {
    for message in same(bytes, Inbox::message) {
        assert!(message.len() <= MESSAGE_MAX);
        let Ok(request) = Request::read(&message) else {
            continue;
        };
        let written = request.write();
        let (message, nul) = written.expose().as_bytes().split_at(written.expose().len() - 1);
        assert_eq!(nul, [0]);
        let again = Request::read(message).expect("what was written is read");
        // What is asked for beside a proxy is noted, and not asked for again.
        assert_eq!(
            Request {
                attributes: request.attributes,
                ..again
            },
            request
        );
    }
    for certificate_request in same(bytes, Inbox::request) {
        assert!(certificate_request.len() <= crate::delegate::pkcs10::LONGEST);
        crate::delegate::pkcs10::fuzz(&certificate_request);
    }
}

/// A server's messages, and the chain that a client sends it.
pub(crate) fn fuzz_response(bytes: &[u8]) {
    for message in same(bytes, Inbox::message) {
        let Ok(response) = Response::read(&message) else {
            continue;
        };
        let written = response.write();
        let again = Response::read(written.trim_end_matches('\0').as_bytes());
        assert_eq!(again.map(|again| again.more), Ok(response.more));
    }
    for certificates in same(bytes, Inbox::chain) {
        assert!((1..=usize::from(CHAIN_MAX)).contains(&certificates.len()));
        let bytes_again = chain(&certificates).expect("a chain");
        assert_eq!(taken(&bytes_again, 3, Inbox::chain), (vec![certificates], None));
    }
}
