//! The one canonical form of a request's target: decided once, authorised and forwarded as the same bytes.
//!
//! A spelling that two programs could read differently is refused, never repaired: dot segments, empty segments, encoded
//! separators, needless or lower-case percent-encoding, double encoding, control characters, and whatever is not UTF-8
//! once decoded. What is left has one meaning, and it is sent as it came. Path parameters (`;`) are read, but only a
//! template that writes them out matches them, and a tool without such a template refuses them ([`TargetError::PathParameter`]).
//!
//! ```
//! use countersign::tool::Target;
//! let target = Target::parse("/jobs/7?full=yes").unwrap();
//! assert_eq!(target.segments(), ["jobs", "7"]);
//! assert_eq!(target.query(), [("full".to_owned(), "yes".to_owned())]);
//! assert!(Target::parse("/jobs/%37").is_err(), "`7` has one spelling");
//! ```

use crate::problem::{AsProblem, Kind, Problem};

/// Longest target in bytes.
pub const MAX_TARGET: usize = 8 * 1024;
/// Most segments of a path.
const MAX_SEGMENTS: usize = 128;
/// Most parameters of a query.
const MAX_PAIRS: usize = 256;

/// A canonical path and query (origin form, RFC 9112 section 3.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    path_end: usize,
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

/// Why a target is not in canonical form. Offsets are in bytes, from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a path that begins with `/`.
    #[error("the target must be a path that begins with `/`")]
    NotAPath,
    /// Too long.
    #[error("the target has more than {MAX_TARGET} bytes")]
    TooLong,
    /// Too many segments or parameters.
    #[error("the target has more than {MAX_SEGMENTS} segments or {MAX_PAIRS} query parameters")]
    TooMany,
    /// A byte that has no place in a target.
    #[error("byte {at} of the target is {}, which has no place there; accepted: printable ASCII of RFC 3986, anything else as `%` with two capital hexadecimal digits", shown(*.byte))]
    Byte {
        /// Where.
        at: usize,
        /// Which.
        byte: u8,
    },
    /// `%` without two hexadecimal digits.
    #[error("byte {at} of the target is a `%` without two hexadecimal digits; a plain percent sign is `%25`")]
    Percent {
        /// Where.
        at: usize,
    },
    /// Percent-encoding other than the canonical spelling.
    #[error("byte {at} of the target: the only accepted spelling is `{accepted}`")]
    Spelling {
        /// Where.
        at: usize,
        /// The spelling to use.
        accepted: String,
    },
    /// An encoded character that tools read as something else.
    #[error("byte {at} of the target is an encoded {what}, which is refused in every spelling")]
    Encoded {
        /// Where.
        at: usize,
        /// What it is.
        what: &'static str,
    },
    /// `.` or `..`.
    #[error("the segment at byte {at} of the target is a dot segment; send the path that it leads to")]
    DotSegment {
        /// Where.
        at: usize,
    },
    /// `//`.
    #[error("the segment at byte {at} of the target is empty; accepted: one `/` between segments")]
    EmptySegment {
        /// Where.
        at: usize,
    },
    /// Not UTF-8 once decoded.
    #[error("the part at byte {at} of the target is not UTF-8 once decoded")]
    NotUtf8 {
        /// Where.
        at: usize,
    },
    /// `;` in the path, where no template asks for it.
    #[error(
        "byte {at} of the target is `;`, which begins a path parameter; accepted only where a task writes it out"
    )]
    PathParameter {
        /// Where.
        at: usize,
    },
    /// A query, or a part of it, without a name.
    #[error("the query parameter at byte {at} of the target has no name; leave the lone `?`, `&` or `=` out")]
    EmptyPair {
        /// Where.
        at: usize,
    },
}

impl AsProblem for TargetError {
    fn as_problem(&self) -> Problem {
        Problem::new(Kind::BadTarget, self.to_string())
    }
}

fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("`{}`", char::from(byte))
    } else {
        format!("0x{byte:02X}")
    }
}

impl Target {
    /// The bytes as they are sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(..self.path_end).unwrap_or("/")
    }

    /// The query as it is sent, without the `?`; `None` when there is none.
    #[must_use]
    pub fn query_text(&self) -> Option<&str> {
        self.text.get(self.path_end + 1..)
    }

    /// The decoded segments of the path; empty for `/`. A trailing slash shows as a last empty segment.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Where the first path parameter (`;`) begins, in bytes; `None` when there is none.
    #[must_use]
    pub fn path_parameter(&self) -> Option<usize> {
        self.path().find(';')
    }

    /// The decoded query pairs, in order.
    #[must_use]
    pub fn query(&self) -> &[(String, String)] {
        &self.query
    }

    /// Reads a target.
    ///
    /// # Errors
    /// [`TargetError`] for everything that two programs could read differently.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        // SECURITY: what is accepted here is authorised and forwarded byte for byte; nothing is ever rewritten.
        if !text.starts_with('/') {
            return Err(TargetError::NotAPath);
        }
        if text.len() > MAX_TARGET {
            return Err(TargetError::TooLong);
        }
        let path_end = text.find('?').unwrap_or(text.len());
        let (path, query) = text.split_at(path_end);
        Ok(Self {
            segments: segments(path)?,
            query: match query.strip_prefix('?') {
                Some(query) => pairs(query, path_end + 1)?,
                None => Vec::new(),
            },
            text: text.to_owned(),
            path_end,
        })
    }

    /// This target without its first `count` segments, as the tool behind a path form sees it: `/vo/tool/jobs?all=1`
    /// becomes `/jobs?all=1`, and `/vo/tool` becomes `/`. `None` when there are fewer segments.
    #[must_use]
    pub fn without_prefix(&self, count: usize) -> Option<Self> {
        let segments = self.segments.get(count..)?;
        let mut rest = self.path();
        for _ in 0..count {
            let after = rest.strip_prefix('/')?;
            rest = after.get(after.find('/').unwrap_or(after.len())..)?;
        }
        let path = if rest.is_empty() { "/" } else { rest };
        Some(Self {
            text: match self.query_text() {
                Some(query) => format!("{path}?{query}"),
                None => path.to_owned(),
            },
            path_end: path.len(),
            // A trailing slash that was all that is left is the root now.
            segments: match segments {
                [only] if only.is_empty() => Vec::new(),
                segments => segments.to_vec(),
            },
            query: self.query.clone(),
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn segments(path: &str) -> Result<Vec<String>, TargetError> {
    let mut segments = Vec::with_capacity(8);
    let mut at = 1;
    let inner = path.strip_prefix('/').ok_or(TargetError::NotAPath)?;
    if inner.is_empty() {
        return Ok(segments);
    }
    for part in inner.split('/') {
        if segments.len() == MAX_SEGMENTS {
            return Err(TargetError::TooMany);
        }
        let last = at + part.len() == path.len();
        if part.is_empty() && (!last || segments.is_empty()) {
            return Err(TargetError::EmptySegment { at });
        }
        let segment = decoded(part, at, Part::Path)?;
        // Some programs take path parameters off a name, and spaces off its ends, before they look at it.
        let bare = segment.split(';').next().unwrap_or_default().trim_matches(' ');
        if matches!(bare, "." | "..") {
            return Err(TargetError::DotSegment { at });
        }
        if bare.is_empty() && segment.contains(';') {
            return Err(TargetError::EmptySegment { at });
        }
        segments.push(segment);
        at += part.len() + 1;
    }
    Ok(segments)
}

fn pairs(query: &str, start: usize) -> Result<Vec<(String, String)>, TargetError> {
    let mut pairs = Vec::with_capacity(4);
    let mut at = start;
    for part in query.split('&') {
        if pairs.len() == MAX_PAIRS {
            return Err(TargetError::TooMany);
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if name.is_empty() {
            return Err(TargetError::EmptyPair { at });
        }
        pairs.push((
            decoded(name, at, Part::Query)?,
            decoded(value, at + name.len() + 1, Part::Query)?,
        ));
        at += part.len() + 1;
    }
    Ok(pairs)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Query,
}

fn decoded(text: &str, start: usize, part: Part) -> Result<String, TargetError> {
    let mut plain = true;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'%' => plain = false,
            b'+' if part == Part::Query => plain = false,
            byte if has_place(byte, part) => {}
            byte => {
                return Err(TargetError::Byte {
                    at: start + index,
                    byte,
                });
            }
        }
    }
    if plain {
        return Ok(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let at = start + text.len() - rest.len();
        rest = match first {
            b'%' => {
                bytes.push(escaped(after, at, part)?);
                after.get(2..).unwrap_or_default()
            }
            b'+' if part == Part::Query => {
                bytes.push(b' ');
                after
            }
            byte => {
                bytes.push(*byte);
                after
            }
        };
    }
    let text = String::from_utf8(bytes).map_err(|_| TargetError::NotUtf8 { at: start })?;
    if text.chars().any(char::is_control) {
        return Err(TargetError::Encoded {
            at: start,
            what: "control character",
        });
    }
    Ok(text)
}

/// The byte that `%` and the first two of `after` stand for.
fn escaped(after: &[u8], at: usize, part: Part) -> Result<u8, TargetError> {
    let (Some(high), Some(low)) = (
        after.first().copied().and_then(digit),
        after.get(1).copied().and_then(digit),
    ) else {
        return Err(TargetError::Percent { at });
    };
    let byte = high << 4 | low;
    let what = match byte {
        b'/' if part == Part::Path => Some("slash"),
        b'\\' if part == Part::Path => Some("backslash"),
        b';' if part == Part::Path => Some("semicolon"),
        0 => Some("NUL"),
        1..=0x1F | 0x7F => Some("control character"),
        b'%' if part == Part::Path && is_escape(after.get(2..)) => Some("percent-encoding"),
        _ => None,
    };
    if let Some(what) = what {
        return Err(TargetError::Encoded { at, what });
    }
    // Forms (application/x-www-form-urlencoded) write `~` as `%7E`, so a query may.
    if is_unreserved(byte) && !(byte == b'~' && part == Part::Query) {
        return Err(TargetError::Spelling {
            at,
            accepted: char::from(byte).to_string(),
        });
    }
    if after.iter().take(2).any(u8::is_ascii_lowercase) {
        return Err(TargetError::Spelling {
            at,
            accepted: format!("%{byte:02X}"),
        });
    }
    Ok(byte)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn is_escape(text: Option<&[u8]>) -> bool {
    matches!(text, Some([high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether `byte` may stand unencoded: `pchar` of RFC 3986 section 3.3; not `;` in a query (a separator for some programs),
/// there also `/`, `?` and what browsers leave as it is.
const fn has_place(byte: u8, part: Part) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
        )
        || (matches!(part, Part::Path) && byte == b';')
        || (matches!(part, Part::Query)
            && matches!(byte, b'/' | b'?' | b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'`'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attack_spellings_are_refused() {
        let long = format!("/{}", "a".repeat(MAX_TARGET));
        let deep = "/a".repeat(MAX_SEGMENTS + 1);
        let wide = format!("/?{}", vec!["a"; MAX_PAIRS + 1].join("&"));
        for attack in [
            "",
            "*",
            "jobs",
            "http://x/jobs",
            "//",
            "//x/jobs",
            "/jobs//7",
            "/jobs//",
            "/./jobs",
            "/jobs/.",
            "/jobs/..",
            "/jobs/../x",
            "/jobs/%2e",
            "/jobs/%2E%2E/x",
            "/jobs/.%2e/x",
            "/jobs/%2e%2E",
            "/jobs/%252e",
            "/jobs/%252e%252e/x",
            "/jobs/%25252e",
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/a%5cb",
            "/a\\b",
            "/a%252Fb",
            "/a%255cb",
            "/jobs/7#x",
            "/jobs#",
            "/a b",
            "/a\tb",
            "/a\r\nHost: x",
            "/a\0",
            "/a%00",
            "/a%0A",
            "/a%0D%0AX:y",
            "/a%7F",
            "/\u{e9}",
            "/%C3%A9\u{e9}",
            "/a%c3%a9",
            "/%C0%AF",
            "/%E0%80%AF",
            "/%C0%AE",
            "/%FF",
            "/%ED%A0%80",
            "/%F4%90%80%80",
            "/%C2%85",
            "/%41",
            "/%7Eme",
            "/%2D",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a%+1",
            "/a%u002e",
            "/jobs/;",
            "/;x/jobs",
            "/jobs/%20;x",
            "/jobs/..;/x",
            "/jobs/..;a=b;c/x",
            "/jobs/.;/x",
            "/jobs/..%20;/x",
            "/jobs/%3Bx",
            "/jobs/..%20",
            "/jobs/%20.",
            "/a\"b",
            "/a<b",
            "/a>b",
            "/a[b",
            "/a|b",
            "/a{b}",
            "/a^b",
            "/a`b",
            "/a?",
            "/a?&b=1",
            "/a?b=1&",
            "/a?b&&c",
            "/a?=1",
            "/a?b=1;c=2",
            "/a?b=%00",
            "/a?b=%0A",
            "/a?b=%41",
            "/a?b=%2e",
            "/a?b=%c3%a9",
            "/a?b=%FF",
            "/a?b=\"",
            "/a?b=<",
            "/a?b=\\",
            "/a?b=#c",
            "/a?b=%",
            "/a?b=\u{e9}",
            "/a?b=c d",
            &long,
            &deep,
            &wide,
        ] {
            let refused = Target::parse(attack);
            assert!(refused.is_err(), "{attack:?} was read as {refused:?}");
        }
    }

    #[test]
    fn ordinary_spellings_are_read_as_they_are() {
        for (text, segments, query) in [
            ("/", vec![], vec![]),
            ("/jobs", vec!["jobs"], vec![]),
            ("/jobs/", vec!["jobs", ""], vec![]),
            ("/a/b.c/~d-e_f", vec!["a", "b.c", "~d-e_f"], vec![]),
            ("/...", vec!["..."], vec![]),
            ("/my%20scan.pgm", vec!["my scan.pgm"], vec![]),
            ("/caf%C3%A9", vec!["caf\u{e9}"], vec![]),
            ("/a%3Ab", vec!["a:b"], vec![]),
            ("/a;v=1/b;", vec!["a;v=1", "b;"], vec![]),
            ("/a:b@c!$&'()*+,=", vec!["a:b@c!$&'()*+,="], vec![]),
            ("/100%25", vec!["100%"], vec![]),
            ("/a?b", vec!["a"], vec![("b", "")]),
            ("/?b=1&b=2", vec![], vec![("b", "1"), ("b", "2")]),
            ("/?q=a+b%2Bc%20d", vec![], vec![("q", "a b+c d")]),
            (
                "/?p=%2Fdata%2Fx&u=%7Eme",
                vec![],
                vec![("p", "/data/x"), ("u", "~me")],
            ),
            ("/?c[0]=a=b?/", vec![], vec![("c[0]", "a=b?/")]),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.as_str(), text);
            assert_eq!(target.segments(), segments, "{text}");
            let pairs: Vec<(&str, &str)> = target.query().iter().map(|(n, v)| (&**n, &**v)).collect();
            assert_eq!(pairs, query, "{text}");
        }
    }

    #[test]
    fn an_error_says_what_where_and_what_is_accepted() {
        let said = |text| Target::parse(text).unwrap_err().to_string();
        assert_eq!(
            said("/jobs/%37"),
            "byte 6 of the target: the only accepted spelling is `7`"
        );
        assert_eq!(
            said("/caf%c3%a9"),
            "byte 4 of the target: the only accepted spelling is `%C3`"
        );
        assert_eq!(
            said("/a/..%2Fb"),
            "byte 5 of the target is an encoded slash, which is refused in every spelling"
        );
        assert!(said("/a?b=1;c").starts_with("byte 6 of the target is `;`"));
        assert!(said("/a/\t").starts_with("byte 3 of the target is 0x09"));
        assert!(said("/a/../b").starts_with("the segment at byte 3 of the target is a dot segment"));
    }

    #[test]
    fn the_path_form_loses_its_prefix_and_nothing_else() {
        for (text, rest) in [
            ("/vo/tool", "/"),
            ("/vo/tool/", "/"),
            ("/vo/tool/jobs", "/jobs"),
            ("/vo/tool/jobs/?a=1", "/jobs/?a=1"),
            ("/vo/tool?a=%20", "/?a=%20"),
        ] {
            let taken = Target::parse(text).unwrap().without_prefix(2).unwrap();
            assert_eq!(taken, Target::parse(rest).unwrap(), "{text}");
        }
        assert_eq!(Target::parse("/vo").unwrap().without_prefix(2), None);
        let same = Target::parse("/jobs/?a").unwrap();
        assert_eq!(same.without_prefix(0), Some(same));
    }

    fn spelling() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z0-9._~-]{1,4}",
            "%[0-9A-Fa-f]{2}",
            "%25[0-9A-Fa-f]{2}",
            Just("/".to_owned()),
            Just("?".to_owned()),
            Just("&".to_owned()),
            Just("=".to_owned()),
            "[ -~]",
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn what_is_accepted_is_sent_unchanged_and_hides_nothing(text in spelling()) {
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(target.as_str(), &text);
                prop_assert_eq!(&Target::parse(target.as_str()).unwrap(), &target);
                for (index, segment) in target.segments().iter().enumerate() {
                    prop_assert!(!segment.contains(['/', '\\']));
                    prop_assert!(!segment.contains(';') || target.path_parameter().is_some());
                    let bare = segment.split(';').next().unwrap_or_default();
                    prop_assert!(bare != "." && bare != ".." && (!segment.contains(';') || !bare.is_empty()));
                    prop_assert!(!segment.is_empty() || index + 1 == target.segments().len());
                    prop_assert!(!segment.chars().any(char::is_control));
                    let again = Target::parse(&format!("/{}", segment.replace('?', "%3F")));
                    prop_assert!(again.is_err() || again.unwrap().segments().concat() == *segment, "decodes twice");
                }
                for (name, value) in target.query() {
                    prop_assert!(!name.is_empty());
                    prop_assert!(!name.chars().chain(value.chars()).any(char::is_control));
                }
                for count in 0..=target.segments().len() {
                    let rest = target.without_prefix(count).unwrap();
                    prop_assert_eq!(&Target::parse(rest.as_str()).unwrap(), &rest);
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in any::<String>()) {
            let _ = Target::parse(&text);
        }
    }
}
