//! Forms: `application/x-www-form-urlencoded` (URL Standard section 5.1), with one reading.

use super::{BodyRule, ContentError};
use crate::tool::matching::{folded_name, is_method_override};

/// Most fields of a form.
const MAX_FIELDS: usize = 1_000;

/// The fields of a form, in order; no name stands there twice.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::tool) struct Form(Vec<(String, String)>);

fn wrong(reason: &str) -> ContentError {
    ContentError::unreadable("form", reason)
}

impl Form {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ContentError> {
        let mut fields: Vec<(String, String)> = Vec::new();
        if bytes.is_empty() {
            return Ok(Self(fields));
        }
        for part in bytes.split(|byte| *byte == b'&') {
            if fields.len() == MAX_FIELDS {
                return Err(wrong("it has more than 1000 fields"));
            }
            let at = part.iter().position(|byte| *byte == b'=');
            let (name, value) = part.split_at(at.unwrap_or(part.len()));
            let (name, value) = (decoded(name)?, decoded(value.get(1..).unwrap_or_default())?);
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(wrong("a field has no name, or one with control characters"));
            }
            if is_method_override(&name) {
                return Err(ContentError::MethodOverride(shown(&name)));
            }
            fields.push((name, value));
        }
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(wrong("a field stands there twice"));
        }
        Ok(Self(fields))
    }

    /// The value of a field that is judged.
    pub(super) fn only(&self, name: &str) -> Result<Option<&str>, ContentError> {
        let folded = folded_name(name);
        let mut found = None;
        for (field, value) in &self.0 {
            if field == name {
                found = Some(value.as_str());
            } else if folded_name(field) == folded {
                // SECURITY: `Job`, `job[]` and `job.` are `job` for some frameworks, and the last one wins there.
                return Err(ContentError::Twin(name.to_owned()));
            }
        }
        Ok(found)
    }

    /// The first field that the rule does not name.
    pub(super) fn unknown(&self, rule: &BodyRule) -> Option<&str> {
        let fields = rule.fields.as_deref().unwrap_or_default();
        self.0
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| !fields.iter().any(|field| field == name) && !rule.places().any(|at| at == *name))
    }
}

pub(super) fn shown(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(40).collect()
}

fn decoded(text: &[u8]) -> Result<String, ContentError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits
                    .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                    .ok_or_else(|| wrong("a `%` is not followed by two hexadecimal digits"))?;
                rest = after.get(2..).unwrap_or_default();
                byte
            }
            // `;` separates fields for some programs.
            b'!'..=b'~' if *first != b';' => *first,
            _ => return Err(wrong("a byte stands there unencoded that has no place in a form")),
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 once decoded"))?;
    if text.contains('\0') {
        return Err(wrong("it has a NUL"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str) -> Option<Vec<(String, String)>> {
        Form::parse(text.as_bytes()).ok().map(|form| form.0)
    }

    #[test]
    fn a_form_has_one_reading_or_none() {
        let owned = |pairs: &[(&str, &str)]| {
            Some(
                pairs
                    .iter()
                    .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                    .collect(),
            )
        };
        assert_eq!(fields(""), owned(&[]));
        assert_eq!(
            fields("job=7&note=a+b%0Ac&empty&also="),
            owned(&[("job", "7"), ("note", "a b\nc"), ("empty", ""), ("also", "")])
        );
        assert_eq!(
            fields("p=/a/b%C3%A9&x=a=b"),
            owned(&[("p", "/a/b\u{e9}"), ("x", "a=b")])
        );
        for text in [
            "&",
            "a=1&",
            "&a=1",
            "=1",
            "a=1&a=2",
            "a=1&%61=2",
            "a=1;b=2",
            "a=%",
            "a=%4",
            "a=%+4",
            "a=%zz",
            "a=%00",
            "a=%FF",
            "a=%C0%AF",
            "a= b",
            "a=\u{e9}",
            "a\n=1",
            "%0A=1",
            "_method=DELETE",
            "a=1&_Method=x",
            "X-HTTP-Method-Override=PUT",
        ] {
            assert_eq!(fields(text), None, "{text:?}");
        }
        assert!(fields(&vec!["a"; 2_000].join("&")).is_none());
    }

    #[test]
    fn a_judged_field_has_no_twin_in_any_spelling() {
        let only = |text: &str| {
            Form::parse(text.as_bytes())
                .unwrap()
                .only("job")
                .map(|v| v.map(str::to_owned))
        };
        assert_eq!(only("job=7&other=8"), Ok(Some("7".into())));
        assert_eq!(only("other=8"), Ok(None));
        for twin in ["Job=8", "job%5B%5D=8", "job%5B0%5D=8", "+job=8", "JOB=8"] {
            assert!(only(&format!("job=7&{twin}")).is_err(), "{twin}");
            assert!(only(twin).is_err(), "{twin}");
        }
    }

    proptest! {
        #[test]
        fn what_a_browser_encodes_is_read_back(pairs in proptest::collection::btree_map("[a-z]{1,8}", "[^\0]{0,12}", 0..6)) {
            let encode = |text: &str| -> String {
                text.bytes().map(|byte| match byte {
                    b' ' => "+".to_owned(),
                    byte if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) => char::from(byte).to_string(),
                    byte => format!("%{byte:02X}"),
                }).collect()
            };
            let text: Vec<String> = pairs.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
            prop_assert_eq!(fields(&text.join("&")), Some(pairs.into_iter().collect()));
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in "[a-c=&%+;0-9_]{0,30}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                if let Ok(form) = Form::parse(bytes) {
                    let mut names: Vec<&String> = form.0.iter().map(|(name, _)| name).collect();
                    names.sort();
                    let all = names.len();
                    names.dedup();
                    prop_assert_eq!(names.len(), all);
                }
            }
        }
    }
}
