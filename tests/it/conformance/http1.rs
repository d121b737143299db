//! HTTP/1.1. In the bytes, `<H>` is the right `Host` line, `<A>` the line with John's token, `<P>` the way to the tool
//! (`/imense/probe`), `<HOST>` the gateway's host and port, and `<FF>` the byte 0xFF.

use super::Then::{Broken, Declined, Passed, Refused};
use super::{Bench, Then, wire};

/// What it is, where it is ruled, the bytes, and what must become of them.
type Case = (&'static str, &'static str, &'static str, Then);

const MALFORMED: Then = Refused(400, "malformed");
/// Framed without doubt, but for another reason not a request that is served.
const DECLINED: Then = Declined(400, "malformed");

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    // What is well formed reaches the tool as it is.
    ("a plain request", "9112 3", "GET <P>/a?b=c HTTP/1.1\r\n<H><A>\r\n", Passed("GET /a?b=c", "")),
    ("names in any case", "9110 5.1", "GET <P>/a HTTP/1.1\r\nhOsT: <HOST>\r\n<A>\r\n", Passed("GET /a", "")),
    ("no space behind the colon", "9112 5.1", "GET <P>/a HTTP/1.1\r\nHost:<HOST>\r\n<A>\r\n", Passed("GET /a", "")),
    ("absolute form of our own authority", "9112 3.2.2", "GET https://<HOST><P>/a HTTP/1.1\r\n<H><A>\r\n", Passed("GET /a", "")),
    ("a length", "9112 6.2", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 5\r\n\r\nhello", Passed("POST /a", "hello")),
    ("a length of nothing", "9112 6.2", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 0\r\n\r\n", Passed("POST /a", "")),
    ("chunks", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Passed("POST /a", "hello")),
    ("chunks with sizes in any case", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: CHUNKED\r\n\r\n0A\r\n0123456789\r\n000\r\n\r\n", Passed("POST /a", "0123456789")),
    ("a chunk extension is dropped", "9112 7.1.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0;c\r\n\r\n", Passed("POST /a", "hello")),
    ("trailers", "9112 7.1.2", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", Passed("POST /a", "hello")),
    ("a body that looks like a request", "9112 6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 38\r\n\r\nGET /b HTTP/1.1\r\nHost: example.org\r\n\r\n", Passed("POST /a", "GET /b HTTP/1.1\r\nHost: example.org\r\n\r\n")),
    ("a body on GET", "9110 9.3.1", "GET <P>/a HTTP/1.1\r\n<H><A>Content-Length: 5\r\n\r\nhello", Passed("GET /a", "hello")),
    ("chunks on GET", "9110 9.3.1", "GET <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Passed("GET /a", "hello")),
    ("expectation", "9110 10.1.1", "POST <P>/a HTTP/1.1\r\n<H><A>Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", Passed("POST /a", "hi")),

    // Lengths (RFC 9112 section 6.3; the smuggler's tools).
    ("length and coding", "9112 6.3", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("coding and length", "9112 6.3", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", MALFORMED),
    ("two equal lengths", "9112 6.3", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", MALFORMED),
    ("two lengths", "9112 6.3", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 2\r\nContent-Length: 7\r\n\r\nhi", MALFORMED),
    ("a list of lengths", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 2, 2\r\n\r\nhi", MALFORMED),
    ("a signed length", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: +2\r\n\r\nhi", MALFORMED),
    ("a negative length", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: -2\r\n\r\nhi", MALFORMED),
    ("a length with a space in it", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 1 2\r\n\r\nhi", MALFORMED),
    ("a length with a tab in it", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 1\t2\r\n\r\nhi", MALFORMED),
    ("a hexadecimal length", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 0x2\r\n\r\nhi", MALFORMED),
    ("a length in words", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: two\r\n\r\nhi", MALFORMED),
    ("a broken length", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 2.0\r\n\r\nhi", MALFORMED),
    ("an empty length", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length:\r\n\r\n", MALFORMED),
    ("a huge length", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 18446744073709551618\r\n\r\nhi", MALFORMED),
    ("a huge length that is 2 in 64 bits", "9110 8.6", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Length: 38893488147419103234\r\n\r\nhi", MALFORMED),
    ("an unknown coding", "9112 6.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a coding before chunked", "9112 6.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a coding behind chunked", "9112 6.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked twice", "9112 6.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("identity", "9112 6.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: identity\r\n\r\n", MALFORMED),
    ("an empty coding", "9112 6.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding:\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a coding with a comma", "9112 6.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a coding in quotes", "9112 6.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a coding behind a vertical tab", "9112 6.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a space before the coding's colon", "9112 5.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a folded coding", "9112 5.2", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a length with an underscore", "9110 5.1", "POST <P>/a HTTP/1.1\r\n<H><A>Content_Length: 2\r\n\r\n", Passed("POST /a", "")),

    // Chunks that are none.
    ("a size that is no number", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n", Broken),
    ("an empty size", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", Broken),
    ("a size of 2^64 and five", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", Broken),
    ("a negative size", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", Broken),
    ("a size with 0x", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", Broken),
    ("a size behind a space", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n", Broken),
    ("a space behind the size", "9112 7.1.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", Broken),
    ("a size that ends with LF", "9112 2.2", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", Broken),
    ("an extension with a bare LF", "9112 7.1.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n", Broken),
    ("an extension with a bare CR", "9112 7.1.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n", Broken),
    ("an endless extension", "9112 7.1.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n5;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nhello\r\n0\r\n\r\n", Broken),
    ("a chunk longer than it says", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", Broken),
    ("a chunk that ends with LF", "9112 7.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n", Broken),
    ("trailers with a length", "9110 6.5.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", Broken),
    ("trailers with a coding", "9110 6.5.1", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", Broken),
    ("a folded trailer", "9112 5.2", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n b\r\n\r\n", Broken),
    ("a trailer that ends with LF", "9112 2.2", "POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\n\r\n", Broken),

    // Lines.
    ("bare LF", "9112 2.2", "GET <P>/a HTTP/1.1\nHost: <HOST>\n\n", MALFORMED),
    ("one bare LF", "9112 2.2", "GET <P>/a HTTP/1.1\r\nX: a\n<H><A>\r\n", MALFORMED),
    ("LF for the empty line", "9112 2.2", "GET <P>/a HTTP/1.1\r\n<H><A>\n", MALFORMED),
    ("two CR before LF", "9112 2.2", "GET <P>/a HTTP/1.1\r\n<H><A>X: a\r\r\n\r\n", MALFORMED),
    ("bare CR in a value", "9112 2.2", "GET <P>/a HTTP/1.1\r\n<H><A>X: a\rY: b\r\n\r\n", MALFORMED),
    ("bare CR in the request line", "9112 2.2", "GET <P>/a\r HTTP/1.1\r\n<H><A>\r\n", Refused(400, "bad_target")),
    ("a folded header", "9112 5.2", "GET <P>/a HTTP/1.1\r\n<H><A>X: a\r\n b\r\n\r\n", MALFORMED),
    ("a header folded with a tab", "9112 5.2", "GET <P>/a HTTP/1.1\r\n<H><A>X: a\r\n\tb\r\n\r\n", MALFORMED),
    ("a first header with a space before it", "9112 2.2", "GET <P>/a HTTP/1.1\r\n X: a\r\n<H><A>\r\n", MALFORMED),
    ("NUL in a value", "9110 5.5", "GET <P>/a HTTP/1.1\r\n<H><A>X: a\0b\r\n\r\n", MALFORMED),
    ("NUL in a name", "9110 5.1", "GET <P>/a HTTP/1.1\r\n<H><A>X\0: a\r\n\r\n", MALFORMED),
    ("a control character in a value", "9110 5.5", "GET <P>/a HTTP/1.1\r\n<H><A>X: a\x07b\r\n\r\n", MALFORMED),
    ("DEL in a value", "9110 5.5", "GET <P>/a HTTP/1.1\r\n<H><A>X: a\x7fb\r\n\r\n", MALFORMED),
    ("a byte above ASCII in a name", "9110 5.1", "GET <P>/a HTTP/1.1\r\n<H><A>X<FF>: a\r\n\r\n", MALFORMED),
    ("brackets in a name", "9110 5.1", "GET <P>/a HTTP/1.1\r\n<H><A>X(Y): a\r\n\r\n", MALFORMED),
    ("a space in a name", "9112 5.1", "GET <P>/a HTTP/1.1\r\n<H><A>X Y: a\r\n\r\n", MALFORMED),
    ("a space before the colon", "9112 5.1", "GET <P>/a HTTP/1.1\r\n<H><A>X : a\r\n\r\n", MALFORMED),
    ("no name", "9112 5", "GET <P>/a HTTP/1.1\r\n<H><A>: a\r\n\r\n", MALFORMED),
    ("no colon", "9112 5", "GET <P>/a HTTP/1.1\r\n<H><A>X\r\n\r\n", MALFORMED),
    ("an empty line first", "9112 2.2", "\r\nGET <P>/a HTTP/1.1\r\n<H><A>\r\n", MALFORMED),
    ("obs-text in a value passes", "9110 5.5", "GET <P>/a HTTP/1.1\r\n<H><A>X-Note: a<FF>b\r\n\r\n", Passed("GET /a", "")),

    // The request line.
    ("HTTP/0.9", "9112 3", "GET <P>/a\r\n\r\n", MALFORMED),
    ("HTTP/0.9 with its name", "9112 2.3", "GET <P>/a HTTP/0.9\r\n<H><A>\r\n", MALFORMED),
    ("HTTP/1.0", "product", "GET <P>/a HTTP/1.0\r\n<H><A>\r\n", MALFORMED),
    ("HTTP/1.2", "9112 2.3", "GET <P>/a HTTP/1.2\r\n<H><A>\r\n", MALFORMED),
    ("HTTP/2.0 without its preface", "9112 2.3", "GET <P>/a HTTP/2.0\r\n<H><A>\r\n", MALFORMED),
    ("a version of more digits", "9112 2.3", "GET <P>/a HTTP/1.10\r\n<H><A>\r\n", MALFORMED),
    ("a name in small letters", "9112 2.3", "GET <P>/a http/1.1\r\n<H><A>\r\n", MALFORMED),
    ("two spaces", "9112 3", "GET  <P>/a HTTP/1.1\r\n<H><A>\r\n", MALFORMED),
    ("a tab", "9112 3", "GET\t<P>/a HTTP/1.1\r\n<H><A>\r\n", MALFORMED),
    ("a space at the end", "9112 3", "GET <P>/a HTTP/1.1 \r\n<H><A>\r\n", MALFORMED),
    ("a space at the beginning", "9112 3", " GET <P>/a HTTP/1.1\r\n<H><A>\r\n", MALFORMED),
    ("four words", "9112 3", "GET <P>/a b HTTP/1.1\r\n<H><A>\r\n", MALFORMED),
    ("a method that is no word", "9110 9.1", "G@T <P>/a HTTP/1.1\r\n<H><A>\r\n", MALFORMED),
    ("no method", "9112 3", " <P>/a HTTP/1.1\r\n<H><A>\r\n", MALFORMED),
    ("an h2 preface", "9113 3.4", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", MALFORMED),
    ("CONNECT", "9110 9.3.6", "CONNECT <HOST> HTTP/1.1\r\n<H><A>\r\n", Refused(405, "method_not_allowed")),
    ("CONNECT elsewhere", "9110 9.3.6", "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n<A>\r\n", Refused(405, "method_not_allowed")),
    ("TRACE", "9110 9.3.8", "TRACE <P>/a HTTP/1.1\r\n<H><A>\r\n", Declined(405, "method_not_allowed")),
    ("a method in small letters", "9110 9.1", "get <P>/a HTTP/1.1\r\n<H><A>\r\n", Declined(403, "no_task")),
    ("GET foo", "9112 3.2", "GET foo HTTP/1.1\r\n<H><A>\r\n", DECLINED),
    ("the asterisk", "9112 3.2.4", "OPTIONS * HTTP/1.1\r\n<H><A>\r\n", DECLINED),
    ("the asterisk with GET", "9112 3.2.4", "GET * HTTP/1.1\r\n<H><A>\r\n", DECLINED),
    ("absolute form of another authority", "9112 3.2.2", "GET https://example.org<P>/a HTTP/1.1\r\n<H><A>\r\n", DECLINED),
    ("absolute form of another port", "9112 3.2.2", "GET https://gw.localhost:1<P>/a HTTP/1.1\r\n<H><A>\r\n", DECLINED),
    ("absolute form without TLS", "9112 3.2.2", "GET http://<HOST><P>/a HTTP/1.1\r\n<H><A>\r\n", DECLINED),
    ("absolute form with a user", "9110 4.2.4", "GET https://u@<HOST><P>/a HTTP/1.1\r\n<H><A>\r\n", DECLINED),
    ("absolute form of a file", "9112 3.2.2", "GET file://<HOST><P>/a HTTP/1.1\r\n<H><A>\r\n", DECLINED),
    ("a byte above ASCII in the target", "9112 3.2", "GET <P>/<FF> HTTP/1.1\r\n<H><A>\r\n", Refused(400, "bad_target")),
    ("NUL in the target", "9112 3.2", "GET <P>/\0 HTTP/1.1\r\n<H><A>\r\n", Refused(400, "bad_target")),
    ("a fragment", "9112 3.2", "GET <P>/a#b HTTP/1.1\r\n<H><A>\r\n", Refused(400, "bad_target")),

    // Host.
    ("no host", "9112 3.2", "GET <P>/a HTTP/1.1\r\n<A>\r\n", DECLINED),
    ("two hosts", "9112 3.2", "GET <P>/a HTTP/1.1\r\n<H><H><A>\r\n", DECLINED),
    ("two different hosts", "9112 3.2", "GET <P>/a HTTP/1.1\r\n<H>Host: example.org\r\n<A>\r\n", DECLINED),
    ("an empty host", "9112 3.2", "GET <P>/a HTTP/1.1\r\nHost:\r\n<A>\r\n", DECLINED),
    ("a host with a path", "9112 3.2", "GET <P>/a HTTP/1.1\r\nHost: <HOST>/x\r\n<A>\r\n", DECLINED),
    ("a host with a query", "9112 3.2", "GET <P>/a HTTP/1.1\r\nHost: <HOST>?x\r\n<A>\r\n", DECLINED),
    ("a host with a user", "9112 3.2", "GET <P>/a HTTP/1.1\r\nHost: u@<HOST>\r\n<A>\r\n", DECLINED),
    ("a host with a scheme", "9112 3.2", "GET <P>/a HTTP/1.1\r\nHost: https://<HOST>\r\n<A>\r\n", DECLINED),
    ("a list of hosts", "9112 3.2", "GET <P>/a HTTP/1.1\r\nHost: <HOST>, example.org\r\n<A>\r\n", DECLINED),
    ("a host with a trailing dot", "tools.md", "GET <P>/a HTTP/1.1\r\nHost: gw.localhost.\r\n<A>\r\n", DECLINED),
    ("a host above ASCII", "9110 4.2.3", "GET <P>/a HTTP/1.1\r\nHost: gw<FF>.localhost\r\n<A>\r\n", DECLINED),
    ("a host with an empty port", "tools.md", "GET <P>/a HTTP/1.1\r\nHost: gw.localhost:\r\n<A>\r\n", DECLINED),
    ("a host with a port of letters", "9110 4.2.3", "GET <P>/a HTTP/1.1\r\nHost: gw.localhost:x\r\n<A>\r\n", DECLINED),
    ("a host that is not served", "9110 7.4", "GET <P>/a HTTP/1.1\r\nHost: example.org\r\n<A>\r\n", Declined(421, "unknown_host")),
    ("a host in capitals", "9110 4.2.3", "GET <P>/a HTTP/1.1\r\nHost: <HOST>\r\n<A>\r\n", Passed("GET /a", "")),

    // Headers.
    ("two credentials", "9110 11.6.2", "GET <P>/a HTTP/1.1\r\n<H><A><A>\r\n", Declined(400, "two_credentials")),
    ("two cookie headers", "6265 5.4", "GET <P>/a HTTP/1.1\r\n<H><A>Cookie: a=1\r\nCookie: b=2\r\n\r\n", DECLINED),
    ("two content types", "9110 8.3", "POST <P>/a HTTP/1.1\r\n<H><A>Content-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 0\r\n\r\n", DECLINED),
    ("two origins", "6454 7.3", "GET <P>/a HTTP/1.1\r\n<H><A>Origin: https://a\r\nOrigin: https://b\r\n\r\n", DECLINED),
    ("two ranges", "9110 14.2", "GET <P>/a HTTP/1.1\r\n<H><A>Range: bytes=0-1\r\nRange: bytes=1-2\r\n\r\n", DECLINED),
    ("another expectation", "9110 10.1.1", "GET <P>/a HTTP/1.1\r\n<H><A>Expect: 200-ok\r\n\r\n", DECLINED),
    ("identity", "tools.md", "GET <P>/a HTTP/1.1\r\n<H><A>X-Countersign-User: root\r\n\r\n", Declined(400, "identity_header")),
    ("identity with underscores", "tools.md", "GET <P>/a HTTP/1.1\r\n<H><A>X_Countersign_User: root\r\n\r\n", Declined(400, "identity_header")),
];

/// Tries one case, the canary behind it.
pub(super) fn check(bench: &mut Bench, (what, ruled, text, then): &Case) {
    let what = format!("{what} ({ruled})");
    let bytes = written(bench, text);
    try_one(bench, &what, &bytes, *then);
}

/// The bytes that a text stands for.
fn written(bench: &Bench, text: &str) -> Vec<u8> {
    let text = text
        .replace("<H>", &format!("Host: {}\r\n", bench.host))
        .replace("<A>", &format!("Authorization: Bearer {}\r\n", bench.token))
        .replace("<P>", "/imense/probe")
        .replace("<HOST>", &bench.host);
    let pieces: Vec<&[u8]> = text.split("<FF>").map(str::as_bytes).collect();
    pieces.join(&b"\xff"[..])
}

pub(super) fn try_one(bench: &mut Bench, what: &str, bytes: &[u8], then: Then) {
    let canary = written(
        bench,
        "GET <P>/canary HTTP/1.1\r\n<H><A>Connection: close\r\n\r\n",
    );
    let answers = wire::converse(&bench.world, &[bytes, &canary].concat());
    let got = bench.tool.take();
    let told = format!("{answers:?}, the tool got {got:?}");
    bench.expect(what, answers.is_some(), || {
        format!("the connection stays open: {told}")
    });
    let answers = answers.unwrap_or_default();
    let whole: Vec<(&str, &[u8])> = got
        .iter()
        .filter(|got| got.whole)
        .map(|got| (got.line(), &got.body[..]))
        .collect();
    let canary: (&str, &[u8]) = ("GET /canary", b"");
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let right = match then {
        Then::Refused(status, problem) => {
            bench.note(problem);
            statuses == [status] && answers[0].problem() == problem && got.is_empty()
        }
        Then::Cut(status, problem) => {
            bench.note(problem);
            got.is_empty() && (statuses.is_empty() || statuses == [status] && answers[0].problem() == problem)
        }
        Then::Declined(status, problem) => {
            bench.note(problem);
            statuses == [status, 200]
                && answers[0].problem() == problem
                && whole == [canary]
                && got.len() == 1
        }
        Then::Broken => {
            whole.is_empty() && statuses.len() < 2 && statuses.iter().all(|status| *status >= 400)
        }
        Then::Ended => got.is_empty() && statuses.is_empty(),
        Then::Passed(line, body) => {
            let one_length = |got: &super::tool::Got| {
                got.values("content-length").len() + got.values("transfer-encoding").len() < 2
                    && got.values("host").len() == 1
                    && got.values("authorization").is_empty()
            };
            statuses == [200, 200] && whole == [(line, body.as_bytes()), canary] && got.iter().all(one_length)
        }
    };
    bench.expect(what, right, || format!("expected {then:?}: {told}"));
}

/// What is too large to stand in the table.
pub(super) fn large(bench: &mut Bench) {
    let large = Refused(431, "headers_too_large");
    let mebibyte = format!("X: {}\r\n", "a".repeat(1 << 20));
    let thousand: String = (0..1_000).map(|at| format!("X-{at}: a\r\n")).collect();
    let many: String = (0..90).map(|at| format!("X-{at}: a\r\n")).collect();
    let name = format!("{}: a\r\n", "x".repeat(40_000));
    let target = "a".repeat(40_000);
    for (what, text, then) in [
        (
            "a header of 1 MiB",
            format!("GET <P>/a HTTP/1.1\r\n<H><A>{mebibyte}\r\n"),
            Then::Cut(431, "headers_too_large"),
        ),
        (
            "1,000 headers",
            format!("GET <P>/a HTTP/1.1\r\n<H><A>{thousand}\r\n"),
            large,
        ),
        (
            "1,000 equal headers",
            format!("GET <P>/a HTTP/1.1\r\n<H><A>{}\r\n", "X: a\r\n".repeat(1_000)),
            large,
        ),
        (
            "a name of 40 kB",
            format!("GET <P>/a HTTP/1.1\r\n<H><A>{name}\r\n"),
            large,
        ),
        (
            "a target of 40 kB",
            format!("GET <P>/{target} HTTP/1.1\r\n<H><A>\r\n"),
            large,
        ),
        (
            "a target of 9 kB",
            format!("GET <P>/{} HTTP/1.1\r\n<H><A>\r\n", &target[..9_000]),
            Declined(400, "bad_target"),
        ),
        (
            "90 headers",
            format!("GET <P>/a HTTP/1.1\r\n<H><A>{many}\r\n"),
            Passed("GET /a", ""),
        ),
        (
            "trailers of 1 MiB",
            format!("POST <P>/a HTTP/1.1\r\n<H><A>Transfer-Encoding: chunked\r\n\r\n0\r\n{mebibyte}\r\n"),
            Broken,
        ),
    ] {
        let bytes = written(bench, &text);
        try_one(bench, what, &bytes, then);
    }
    // Nothing passes before all of it is judged, however slowly it comes: byte by byte is the same.
    let slow = written(bench, "GET <P>/a HTTP/1.1\r\n<H><A>X: a\rb\r\n\r\n");
    try_one(bench, "bare CR", &slow, MALFORMED);
}
