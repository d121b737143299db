//! `Content-Type` of a judged body (RFC 9110 section 8.3).

use http::header::{CONTENT_TYPE, HeaderMap};

use super::Language;
use crate::tool::is_token;

/// A media type of a language that is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Media {
    kind: String,
    /// The `action` of SOAP 1.2 (RFC 3902 section 2).
    pub(super) action: Option<String>,
}

/// What a language is sent as.
pub(super) const fn accepted(language: Language) -> &'static str {
    match language {
        Language::Soap => "text/xml or application/soap+xml",
        Language::Json => "application/json",
        Language::Form => "application/x-www-form-urlencoded",
    }
}

impl Media {
    /// Reads the one `Content-Type`; `None` for every other type, and for a `charset` that is not UTF-8.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(CONTENT_TYPE).iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let (kind, mut rest) = value.split_at(value.find(';').unwrap_or(value.len()));
        let kind = kind.trim().to_ascii_lowercase();
        language(&kind)?;
        let mut media = Self { kind, action: None };
        let mut seen: Vec<String> = Vec::new();
        while let Some(after) = rest.strip_prefix(';') {
            let (name, value, after) = parameter(after)?;
            rest = after;
            if seen.contains(&name) {
                return None;
            }
            match name.as_str() {
                "charset" if !value.eq_ignore_ascii_case("utf-8") => return None,
                "action" => media.action = Some(value),
                _ => {}
            }
            seen.push(name);
        }
        rest.is_empty().then_some(media)
    }

    pub(super) fn language(&self) -> Language {
        language(&self.kind).unwrap_or(Language::Json)
    }

    /// Whether it is that of SOAP 1.2.
    pub(super) fn is_soap12(&self) -> bool {
        self.kind == "application/soap+xml"
    }
}

fn language(kind: &str) -> Option<Language> {
    match kind {
        "application/json" => Some(Language::Json),
        "application/x-www-form-urlencoded" => Some(Language::Form),
        "text/xml" | "application/soap+xml" => Some(Language::Soap),
        _ => {
            let sub = kind.strip_prefix("application/")?.strip_suffix("+json")?;
            (!sub.is_empty() && sub.bytes().all(is_token)).then_some(Language::Json)
        }
    }
}

/// One `name=value` and what follows it: a token, or a text in quotes without escapes.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let text = text.trim_start();
    let (name, after) = text.split_once('=')?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    let (value, after) = match after.strip_prefix('"') {
        Some(quoted) => {
            let (value, after) = quoted.split_once('"')?;
            (!value.contains('\\')).then_some((value, after))?
        }
        None => after.split_at(after.find([';', ' ', '\t']).unwrap_or(after.len())),
    };
    Some((name.to_ascii_lowercase(), value.to_owned(), after.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn media(value: &str) -> Option<Media> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, value.parse().ok()?);
        Media::of(&headers)
    }

    #[test]
    fn only_the_types_of_the_three_languages_in_utf8_are_read() {
        for (value, language) in [
            ("application/json", Language::Json),
            ("Application/JSON ; Charset=UTF-8", Language::Json),
            ("application/json;charset=\"utf-8\"", Language::Json),
            ("application/fhir+json; fhirVersion=4.0", Language::Json),
            ("application/x-www-form-urlencoded", Language::Form),
            ("text/xml; charset=utf-8", Language::Soap),
            (
                "application/soap+xml; charset=utf-8; action=\"urn:a\"",
                Language::Soap,
            ),
        ] {
            assert_eq!(
                media(value).map(|media| media.language()),
                Some(language),
                "{value}"
            );
        }
        for value in [
            "",
            "text/plain",
            "text/json",
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/json, text/plain",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset",
            "application/json; charset=\"utf-8",
            "application/json; charset=\"u\\tf-8\"",
            "application/json; charset=utf-8 utf-7",
            "application/json;",
            "application/+json",
            "application/a/b+json",
            "text/xml; charset=iso-8859-1",
        ] {
            assert_eq!(media(value), None, "{value}");
        }
        let twice: HeaderMap = ["application/json", "application/json"]
            .into_iter()
            .map(|value| (CONTENT_TYPE, value.parse().unwrap()))
            .collect();
        // `collect` keeps one of a name; put the second beside it.
        let mut twice = twice;
        twice.append(CONTENT_TYPE, "text/xml".parse().unwrap());
        assert_eq!(Media::of(&twice), None);
    }

    #[test]
    fn the_action_of_soap_12_is_read() {
        let media = media("application/soap+xml; action=\"urn:jobs/start\"").unwrap();
        assert_eq!(media.action.as_deref(), Some("urn:jobs/start"));
        assert!(media.is_soap12());
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_refused_without_a_panic(value in "(application/json|text/xml)?[ -~]{0,40}") {
            if let Some(media) = media(&value) {
                prop_assert!(!value.to_ascii_lowercase().contains("charset=utf-16"));
                let _ = media.language();
            }
        }
    }
}
