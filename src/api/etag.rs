//! Entity tags (RFC 9110 section 8.8.3): a name for what somebody read, so that nobody overwrites what another changed since.
//!
//! A tag is of what can be edited, and of nothing else: an answer may tell more (how often somebody signed in) that changes by
//! itself. Tags are compared while no other change can begin, so that between the look and the change there is nothing.

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, header};
use serde::Serialize;

use crate::problem::{Kind, Problem};
use crate::record::Hash;

/// Bytes of a tag.
const LENGTH: usize = 18;
/// Tags that are looked at in one request.
const MOST: usize = 20;

/// The tag of something that can be edited, with its quotation marks.
pub(super) fn tag(state: &impl Serialize) -> Option<String> {
    let text = serde_json::to_vec(state).ok()?;
    let hash = Hash::of(&text);
    let short = hash.0.get(..LENGTH)?;
    Some(format!("\"{}\"", BASE64URL_NOPAD.encode(short)))
}

/// `If-Match` (RFC 9110 section 13.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// There is none.
    #[default]
    Absent,
    /// `*`: whatever it is now.
    Any,
    /// One of these, with their quotation marks.
    Tags(Vec<String>),
    /// It cannot be read.
    Malformed,
}

impl IfMatch {
    /// What the headers say.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut tags = Vec::new();
        let mut any = false;
        let mut there = false;
        for value in headers.get_all(header::IF_MATCH) {
            there = true;
            let Ok(text) = value.to_str() else {
                return Self::Malformed;
            };
            if text.trim() == "*" {
                any = true;
                continue;
            }
            let Some(more) = list(text) else {
                return Self::Malformed;
            };
            tags.extend(more);
        }
        match (there, any, tags.is_empty()) {
            (false, ..) => Self::Absent,
            (_, true, true) => Self::Any,
            (_, false, false) if tags.len() <= MOST => Self::Tags(tags),
            _ => Self::Malformed,
        }
    }

    /// Whether what is to be edited is what was read; `required` says that something must have been.
    ///
    /// # Errors
    /// 412 `stale`, 428 `match_required`, 400 where the header cannot be read.
    pub(super) fn judge(&self, present: Option<&str>, required: bool) -> Result<(), Problem> {
        match self {
            Self::Absent if required => Err(Problem::new(
                Kind::MatchRequired,
                "the edit does not say what it changes: `If-Match` is missing",
            )),
            Self::Absent | Self::Any => Ok(()),
            Self::Tags(tags) if present.is_some_and(|present| tags.iter().any(|tag| tag == present)) => {
                Ok(())
            }
            Self::Tags(_) => Err(Problem::new(
                Kind::Stale,
                "it was changed by somebody else since you read it, so nothing was done",
            )),
            Self::Malformed => {
                let detail = "`If-Match` must be `*` or a list of tags as `ETag` gave them, e.g. `\"abc\"`";
                Err(Problem::new(Kind::Malformed, detail))
            }
        }
    }
}

/// Tags between commas. Weak ones are read and never match (section 8.8.3.2).
fn list(text: &str) -> Option<Vec<String>> {
    let mut tags = Vec::new();
    let mut rest = text.trim();
    loop {
        let opaque = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let end = opaque.find('"')?;
        let inner = opaque.get(..end)?;
        // Section 8.8.3: `etagc`.
        if !inner
            .bytes()
            .all(|byte| byte == 0x21 || (0x23..=0x7e).contains(&byte))
        {
            return None;
        }
        let weak = rest.starts_with("W/");
        tags.push(if weak {
            format!("W/\"{inner}\"")
        } else {
            format!("\"{inner}\"")
        });
        rest = opaque.get(end + 1..)?.trim_start();
        if rest.is_empty() {
            return Some(tags);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> IfMatch {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_str(value).unwrap());
        }
        IfMatch::of(&headers)
    }

    #[test]
    fn if_match_is_read_in_one_way_or_not_at_all() {
        let tags = |tags: &[&str]| IfMatch::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect());
        for (values, is) in [
            (&[][..], IfMatch::Absent),
            (&["*"], IfMatch::Any),
            (&["\"a\""], tags(&["\"a\""])),
            (&["\"a\",  \"b,c\""], tags(&["\"a\"", "\"b,c\""])),
            (&["\"a\"", "W/\"b\""], tags(&["\"a\"", "W/\"b\""])),
            (&["\"\""], tags(&["\"\""])),
            (&[""], IfMatch::Malformed),
            (&["a"], IfMatch::Malformed),
            (&["\"a"], IfMatch::Malformed),
            (&["\"a\" \"b\""], IfMatch::Malformed),
            (&["\"a\","], IfMatch::Malformed),
            (&["*", "\"a\""], IfMatch::Malformed),
            (&["\"a b\""], IfMatch::Malformed),
        ] {
            assert_eq!(read(values), is, "{values:?}");
        }
    }

    #[test]
    fn an_edit_goes_on_where_nothing_has_changed_and_stops_otherwise() {
        let (now, then) = (tag(&("jane", 2)).unwrap(), tag(&("jane", 1)).unwrap());
        assert_ne!(now, then);
        let judged = |values: &[&str], required| {
            let judged = read(values).judge(Some(&now), required);
            judged.map_err(|problem| problem.kind)
        };
        assert_eq!(judged(&[], false), Ok(()));
        assert_eq!(judged(&[], true), Err(Kind::MatchRequired));
        assert_eq!(judged(&["*"], true), Ok(()));
        assert_eq!(judged(&[&now], true), Ok(()));
        assert_eq!(judged(&[&format!("{then}, {now}")], true), Ok(()));
        assert_eq!(judged(&[&then], false), Err(Kind::Stale));
        assert_eq!(judged(&[&format!("W/{now}")], false), Err(Kind::Stale));
        assert_eq!(judged(&["now"], false), Err(Kind::Malformed));
        assert_eq!(read(&[&now]).judge(None, false).unwrap_err().kind, Kind::Stale);
    }

    proptest! {
        #[test]
        fn a_list_of_tags_reads_back(tags in proptest::collection::vec("[!#-~]{0,12}", 1..6)) {
            let quoted: Vec<String> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
            prop_assert_eq!(read(&[&quoted.join(" , ")]), IfMatch::Tags(quoted));
        }

        #[test]
        fn any_bytes_end_in_a_word_or_a_flaw(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(header::IF_MATCH, value);
                prop_assert_ne!(IfMatch::of(&headers), IfMatch::Absent);
            }
        }
    }
}
