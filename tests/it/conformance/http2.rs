//! HTTP/2, frame by frame. A case changes the fields of a good request: `("-name", _)` leaves one out, `("name", value)`
//! sets or adds one in its place, `("+name", value)` adds one at the end and `("^name", value)` at the beginning.
//!
//! What HTTP/2 itself forbids (RFC 9113 section 8.1.1, a malformed request) ends the stream or the connection below
//! anything that could answer it; it is counted in the log as `malformed`, once.

use super::Then::{Declined, Ended, Passed, Refused};
use super::{Bench, Then, wire};

/// What it is, where it is ruled, what differs from a good request, and what must become of it.
type Case = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    Then,
);

const MALFORMED: Then = Refused(400, "malformed");

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    ("a plain request", "9113 8.3.1", &[], Passed("GET /a?b=c", "")),
    ("the same authority in both", "9113 8.3.1", &[("+host", "<HOST>")], Passed("GET /a?b=c", "")),
    ("a cookie in pieces", "9113 8.2.3", &[("+cookie", "a=1"), ("+cookie", "b=2")], Passed("GET /a?b=c", "")),
    ("te: trailers", "9113 8.2.2", &[("+te", "trailers")], Passed("GET /a?b=c", "")),

    // Pseudo-headers (RFC 9113 section 8.3).
    ("no method", "9113 8.3.1", &[("-:method", "")], Ended),
    ("no path", "9113 8.3.1", &[("-:path", "")], Ended),
    ("an empty path", "9113 8.3.1", &[(":path", "")], Ended),
    ("no scheme", "9113 8.3.1", &[("-:scheme", "")], Ended),
    ("no authority and no host", "9113 8.3.1", &[("-:authority", "")], MALFORMED),
    ("a host for the authority", "9113 8.3.1", &[("-:authority", ""), ("+host", "<HOST>")], MALFORMED),
    ("an empty authority", "9113 8.3.1", &[(":authority", "")], Ended),
    ("another host", "9113 8.3.1", &[("+host", "example.org")], MALFORMED),
    ("two hosts", "9113 8.3.1", &[("+host", "<HOST>"), ("+host", "<HOST>")], MALFORMED),
    ("an authority with a user", "9113 8.3.1", &[(":authority", "u@<HOST>")], MALFORMED),
    ("an authority with a path", "9113 8.3.1", &[(":authority", "<HOST>/x")], Ended),
    ("an authority with a trailing dot", "tools.md", &[(":authority", "gw.localhost.")], MALFORMED),
    ("a list of authorities", "9113 8.3.1", &[(":authority", "<HOST>, example.org")], Ended),
    ("an authority that is not served", "9110 7.4", &[(":authority", "example.org")], Refused(421, "unknown_host")),
    ("another scheme", "9113 8.3.1", &[(":scheme", "http")], MALFORMED),
    ("a scheme that is none", "9113 8.3.1", &[(":scheme", "1:/")], Ended),
    ("two methods", "9113 8.3", &[("^:method", "POST")], Ended),
    ("two paths", "9113 8.3", &[("^:path", "/imense/probe/b")], Ended),
    ("two authorities", "9113 8.3", &[("^:authority", "<HOST>")], Ended),
    ("a pseudo-header behind a header", "9113 8.3", &[("-:path", ""), ("+:path", "/imense/probe/a")], Ended),
    ("an unknown pseudo-header", "9113 8.3", &[("^:user", "root")], Ended),
    ("a pseudo-header of answers", "9113 8.3", &[("^:status", "200")], Ended),
    ("extended CONNECT that was never offered", "8441 3", &[(":method", "CONNECT"), ("^:protocol", "websocket")], Ended),
    ("CONNECT", "9113 8.5", &[(":method", "CONNECT"), ("-:path", ""), ("-:scheme", "")], Refused(405, "method_not_allowed")),
    ("TRACE", "9110 9.3.8", &[(":method", "TRACE")], Refused(405, "method_not_allowed")),
    ("a method that is no word", "9110 9.1", &[(":method", "G T")], Ended),
    ("a method in small letters", "9110 9.1", &[(":method", "get")], Declined(403, "no_task")),
    ("the asterisk", "9113 8.3.1", &[(":method", "OPTIONS"), (":path", "*")], MALFORMED),
    ("a path that does not begin with /", "9113 8.3.1", &[(":path", "imense/probe/a")], Ended),
    ("an absolute path", "9113 8.3.1", &[(":path", "https://<HOST>/imense/probe/a")], Ended),

    // Fields (RFC 9113 section 8.2).
    ("a name in capitals", "9113 8.2.1", &[("+X-Note", "a")], Ended),
    ("a space in a name", "9113 8.2.1", &[("+x y", "a")], Ended),
    ("a colon in a name", "9113 8.2.1", &[("+x:y", "a")], Ended),
    ("an empty name", "9113 8.2.1", &[("+", "a")], Ended),
    ("CR LF in a value", "9113 8.2.1", &[("+x-note", "a\r\nx-countersign-user: root")], Ended),
    ("LF in a value", "9113 8.2.1", &[("+x-note", "a\nb")], Ended),
    ("NUL in a value", "9113 8.2.1", &[("+x-note", "a\0b")], Ended),
    ("LF in a path", "9113 8.2.1", &[(":path", "/imense/probe/a\r\nx: y")], Ended),
    ("connection", "9113 8.2.2", &[("+connection", "x-note")], Ended),
    ("transfer-encoding", "9113 8.2.2", &[("+transfer-encoding", "chunked")], Ended),
    ("keep-alive", "9113 8.2.2", &[("+keep-alive", "5")], Ended),
    ("upgrade", "9113 8.2.2", &[("+upgrade", "websocket")], Ended),
    ("proxy-connection", "9113 8.2.2", &[("+proxy-connection", "close")], Ended),
    ("te: gzip", "9113 8.2.2", &[("+te", "gzip")], Ended),
    ("a length and no body", "9113 8.1.1", &[("+content-length", "5")], Ended),
    ("a signed length", "9110 8.6", &[("+content-length", "+0")], Ended),
    ("two lengths", "9110 8.6", &[("+content-length", "0"), ("+content-length", "0")], MALFORMED),
    ("two credentials", "9110 11.6.2", &[("+authorization", "Bearer x")], Refused(400, "two_credentials")),
    ("two content types", "9110 8.3", &[("+content-type", "a/b"), ("+content-type", "c/d")], MALFORMED),
    ("another expectation", "9110 10.1.1", &[("+expect", "200-ok")], MALFORMED),
    ("identity", "tools.md", &[("+x-countersign-user", "root")], Refused(400, "identity_header")),
    ("identity with dots", "tools.md", &[("+x.countersign.user", "root")], Refused(400, "identity_header")),
];

type Fields = Vec<(String, Vec<u8>)>;

/// The fields of a good request.
pub(super) fn good(bench: &Bench) -> Fields {
    [
        (":method", "GET".to_owned()),
        (":scheme", "https".to_owned()),
        (":authority", bench.host.clone()),
        (":path", "/imense/probe/a?b=c".to_owned()),
        ("authorization", format!("Bearer {}", bench.token)),
    ]
    .map(|(name, value)| (name.to_owned(), value.into_bytes()))
    .to_vec()
}

pub(super) fn check(bench: &mut Bench, (what, ruled, changes, then): &Case) {
    let mut fields = good(bench);
    for (name, value) in *changes {
        let value = value.replace("<HOST>", &bench.host).into_bytes();
        if let Some(name) = name.strip_prefix('-') {
            fields.retain(|(field, _)| field != name);
        } else if let Some(name) = name.strip_prefix('+') {
            fields.push((name.to_owned(), value));
        } else if let Some(name) = name.strip_prefix('^') {
            fields.insert(0, (name.to_owned(), value));
        } else {
            fields.iter_mut().find(|(field, _)| field == name).unwrap().1 = value;
        }
    }
    let bytes = wire::headers(1, &fields, true);
    try_one(bench, &format!("{what} ({ruled})"), &bytes, *then);
}

pub(super) fn try_one(bench: &mut Bench, what: &str, bytes: &[u8], then: Then) {
    let ended = wire::ask(&bench.world, bytes);
    let got = bench.tool.take();
    let right = match (&ended, then) {
        (wire::Ended::Answered(answer), Refused(status, problem) | Declined(status, problem)) => {
            bench.note(problem);
            answer.status == status && answer.problem() == problem && got.is_empty()
        }
        (wire::Ended::Reset(_) | wire::Ended::Gone(_), Ended) => {
            bench.note("malformed");
            got.is_empty()
        }
        (wire::Ended::Reset(_) | wire::Ended::Gone(_), Then::Broken) => got.iter().all(|got| !got.whole),
        (wire::Ended::Answered(answer), Then::Broken) => {
            answer.status >= 400 && got.iter().all(|got| !got.whole)
        }
        (wire::Ended::Answered(answer), Passed(line, body)) => {
            answer.status == 200 && got.len() == 1 && got[0].line() == line && got[0].body == body.as_bytes()
        }
        _ => false,
    };
    bench.expect(what, right, || {
        format!("expected {then:?}: {ended:?}, the tool got {got:?}")
    });
}

/// Bodies, and what is too large to stand in the table.
pub(super) fn large(bench: &mut Bench) {
    let with = |bench: &Bench, more: &[(&str, String)]| {
        let mut fields = good(bench);
        fields[0].1 = b"POST".to_vec();
        fields[3].1 = b"/imense/probe/a".to_vec();
        fields.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes())),
        );
        fields
    };
    let plain = with(bench, &[]);
    let five = with(bench, &[("content-length", "5".into())]);
    let data = |bytes: &[u8], end: u8| wire::frame(wire::DATA, end, 1, bytes);
    let trailers = |fields: &[(&str, &str)]| {
        let fields: Fields = fields
            .iter()
            .map(|(name, value)| ((*name).into(), value.as_bytes().to_vec()))
            .collect();
        wire::headers(1, &fields, true)
    };
    let (open, sized) = (wire::headers(1, &plain, false), wire::headers(1, &five, false));
    let mebibyte = with(bench, &[("x-note", "a".repeat(1 << 20))]);
    let thousand: Vec<(String, Vec<u8>)> = (0..1_000).map(|at| (format!("x-{at}"), b"a".to_vec())).collect();
    let forty = with(bench, &[("x-note", "a".repeat(40_000))]);
    let passed = Passed("POST /a", "hello");
    let too_large = Refused(431, "headers_too_large");
    for (what, bytes, then) in [
        ("a body", [open.clone(), data(b"hello", 1)].concat(), passed),
        (
            "a body and its length",
            [sized.clone(), data(b"hello", 1)].concat(),
            passed,
        ),
        (
            "a body in pieces",
            [open.clone(), data(b"hel", 0), data(b"", 0), data(b"lo", 1)].concat(),
            passed,
        ),
        (
            "trailers",
            [open.clone(), data(b"hello", 0), trailers(&[("x-sum", "1")])].concat(),
            passed,
        ),
        (
            "a body shorter than its length",
            [sized.clone(), data(b"hell", 1)].concat(),
            Then::Broken,
        ),
        (
            "a body longer than its length",
            [sized.clone(), data(b"hello!", 1)].concat(),
            Then::Broken,
        ),
        (
            "a pseudo-header in trailers is dropped",
            [open.clone(), data(b"hello", 0), trailers(&[(":path", "/b")])].concat(),
            passed,
        ),
        (
            "a field block in the middle",
            [
                open.clone(),
                data(b"hel", 0),
                wire::headers(1, &[("x".into(), b"1".to_vec())], false),
                data(b"lo", 1),
            ]
            .concat(),
            Then::Broken,
        ),
        ("a header of 1 MiB", wire::headers(1, &mebibyte, true), Ended),
        (
            "1,000 headers",
            wire::headers(1, &[plain.clone(), thousand].concat(), true),
            too_large,
        ),
        ("a header of 40 kB", wire::headers(1, &forty, true), too_large),
        ("a stream of the server's", wire::headers(2, &plain, true), Ended),
        ("data on a stream that is not open", data(b"hello", 1), Ended),
        (
            "a continuation of nothing",
            wire::frame(wire::CONTINUATION, wire::END_HEADERS, 1, &[]),
            Ended,
        ),
        (
            "headers that another frame cuts in two",
            [wire::frame(wire::HEADERS, 0, 1, &[]), data(b"", 0)].concat(),
            Ended,
        ),
        (
            "a frame larger than agreed",
            wire::frame(wire::DATA, 1, 1, &[0; 20_000]),
            Ended,
        ),
        (
            "HTTP/1.1 on an h2 connection",
            b"GET /imense/probe/a HTTP/1.1\r\nHost: gw.localhost\r\n\r\n".to_vec(),
            Ended,
        ),
    ] {
        try_one(bench, what, &bytes, then);
    }
}
