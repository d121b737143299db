//! Targets: one spelling of each is served, and every other is refused, over HTTP/1.1 and HTTP/2 alike.

use super::Then::{Declined, Passed, Refused};
use super::{Bench, Then, http1, http2, wire};

/// What is served, as it came (behind `/imense/probe`).
const SERVED: &[&str] = &[
    "/a",
    "/a/b/",
    "/a%20b",
    "/%C3%A9",
    "/a?x=%2F..%2F",
    "/a?b=c&b=d",
    "/a+b?c+d",
    "/~john/-._!$&'()*,=:@",
    "/a?[b]={c}|^`",
    "/100%25",
    "/a?x=%252e",
    "/a?y=2&z=/?",
];

/// What is refused, by what it tries.
#[rustfmt::skip]
const REFUSED: &[(&str, &[&str])] = &[
    ("an encoded slash", &["/a%2Fb", "/a%2fb", "/a%252Fb", "/a%252fb", "/%2F", "/a%c0%af", "/a%C0%AFb", "/a%E0%80%AFb", "/a%u2215b"]),
    ("a backslash", &["/a\\b", "/a%5Cb", "/a%5cb", "/a%255Cb", "/..\\b", "/..%5C..%5Cb"]),
    ("dot segments", &["/.", "/..", "/a/.", "/a/..", "/a/./b", "/a/../b", "/../b", "/a/../../b", "/...%2F"]),
    ("encoded dot segments", &["/%2e", "/%2E%2E", "/a/%2e%2e/b", "/a/.%2e/b", "/a/%2E./b", "/a/%2e/b", "/a/%20../b", "/a/..%20/b"]),
    ("doubly encoded dot segments", &["/%252e%252e/b", "/%252E", "/a/%25%32%65/b", "/a/%2%65/b", "/%25252e"]),
    ("empty segments", &["//", "//a", "/a//b", "/a//"]),
    ("path parameters", &["/a;b", "/a;jsessionid=1", "/..;/b", "/a%3Bb", "/a%3bb", "/a?x=1;y=2"]),
    ("NUL and control characters", &["/%00", "/a%00b", "/a%0a", "/a%0D%0AX:%20y", "/a%7F", "/a%C2%85", "/a?x=%00", "/a?x=%0A"]),
    ("overlong and broken UTF-8", &["/%C0%AE%C0%AE/b", "/%E0%80%AE", "/%F0%80%80%AE", "/%ED%A0%80", "/%C3", "/%FF", "/%F8%88%80%80%80"]),
    ("needless encoding", &["/%61", "/a%2Db", "/a%5Fb", "/%7Ejohn", "/a%2E", "/a?%61=b", "/a?x=%41"]),
    ("encoding in small letters", &["/%c3%a9", "/a%3fb", "/a?x=%2f"]),
    ("a percent sign that encodes nothing", &["/%", "/%1", "/%zz", "/a%", "/a?%", "/%u0041", "/a?x=%G0"]),
    ("characters that no target has", &["/a\"b", "/a<b>", "/a[b]", "/a{b}", "/a|b", "/a^b", "/a`b"]),
    ("parameters without a name", &["/a?", "/a?&", "/a?b=c&", "/a?=c", "/a?b&&c"]),
];

pub(super) fn check(bench: &mut Bench) {
    for target in SERVED {
        both(bench, "served", target, |line| Passed(line, ""));
    }
    for (what, targets) in REFUSED {
        for target in *targets {
            both(bench, what, target, |_| Refused(400, "bad_target"));
        }
    }
    // A parameter that would change the method for the tool.
    for target in ["/a?_method=DELETE", "/a?X-HTTP-Method-Override=DELETE"] {
        both(bench, "a method override", target, |_| Declined(403, "no_task"));
    }
}

fn both(bench: &mut Bench, what: &str, target: &'static str, then: impl Fn(&'static str) -> Then) {
    let line: &'static str = Box::leak(format!("GET {target}").into_boxed_str());
    let what = format!("{what}: {target}");
    let head = format!(
        "GET /imense/probe{target} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        bench.host, bench.token
    );
    let over_http1 = match then(line) {
        // Where the target ends was never in doubt, so the connection goes on; but where no parser would take it for one
        // it ends.
        Refused(status, problem) if plain(target) => Declined(status, problem),
        then => then,
    };
    http1::try_one(
        bench,
        &format!("{what} over HTTP/1.1"),
        head.as_bytes(),
        over_http1,
    );
    let mut fields = http2::good(bench);
    fields[3].1 = format!("/imense/probe{target}").into_bytes();
    // What HTTP/2's parser takes for no path at all is not answered.
    let over_http2 = match then(line) {
        Refused(..) if !plain(target) => Then::Ended,
        then => then,
    };
    http2::try_one(
        bench,
        &format!("{what} over HTTP/2"),
        &wire::headers(1, &fields, true),
        over_http2,
    );
}

/// Whether the parsers that stand before the canonical form take it.
fn plain(target: &str) -> bool {
    http::Uri::try_from(format!("/imense/probe{target}")).is_ok()
}
