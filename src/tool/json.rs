//! JSON of answers and judged requests, read strictly and left as it stands: numbers, order and spelling of what is passed on are the
//! tool's own bytes.
//!
//! The text is checked once ([RFC 8259] grammar, UTF-8, no name twice in an object, bounded depth); after that a
//! [`Json`] is a range of it, and looking something up only skips over ranges.
//!
//! [RFC 8259]: https://www.rfc-editor.org/rfc/rfc8259

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A name that some program could take for the one that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Twin;

/// One value within a checked text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json<'a> {
    text: &'a str,
    start: usize,
    end: usize,
}

impl<'a> Json<'a> {
    /// Checks `bytes` and gives the whole value. The error says what is wrong without showing any of it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Strict
            .deserialize(&mut deserializer)
            .and_then(|()| deserializer.end())
            .map_err(|error| {
                format!(
                    "{} at line {} column {}",
                    reason(&error),
                    error.line(),
                    error.column()
                )
            })?;
        let start = skip_space(text, 0);
        Ok(Self {
            text,
            start,
            end: value_end(text, start),
        })
    }

    /// Its bytes as the tool sent them.
    pub(super) fn raw(self) -> &'a str {
        self.text.get(self.start..self.end).unwrap_or_default()
    }

    /// Where it stands in the whole text.
    pub(super) const fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// The value that an RFC 6901 pointer names.
    pub(super) fn at(self, pointer: &str) -> Option<Self> {
        let mut value = self;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            value = match value.first_byte()? {
                b'{' => {
                    value
                        .children()
                        .find(|(name, _)| name.is_some_and(|name| name.is_string(&token)))?
                        .1
                }
                b'[' if is_index(&token) => value.children().nth(token.parse().ok()?)?.1,
                _ => return None,
            };
        }
        Some(value)
    }

    /// The value that a pointer names, where no object on the way has a name that some program could take for the one that
    /// is asked for.
    ///
    /// # Errors
    /// [`Twin`]: `Job`, `x:job`, `jo_b` or `job\0` beside, or instead of, `job` (several JSON libraries match names without regard
    /// to case and punctuation, and programs that make XML of JSON drop prefixes), or a list on the way that holds more than the
    /// element that is named, or an object where a list is asked for, or a list where an object is.
    pub(super) fn only(self, pointer: &str) -> Result<Option<Self>, Twin> {
        let mut value = self;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            if value.first_byte() == Some(b'{') {
                // SECURITY: programs that read an object as a list take `"0"` for its first element, and the others as well.
                if is_index(&token) {
                    return Err(Twin);
                }
                for name in value.children().filter_map(|(name, _)| name?.string()) {
                    if name != token && may_be(&name, &token) {
                        return Err(Twin);
                    }
                }
            }
            // SECURITY: a program that takes one or many reads the first of `[{"task": ..}]`, or all of them, as `{"task": ..}`.
            if !is_index(&token) && value.elements().is_some_and(|elements| !elements.is_empty()) {
                return Err(Twin);
            }
            // SECURITY: `/job/0/id` names one job; the tool would act on the others of the list as well.
            if value.elements().is_some_and(|elements| elements.len() > 1) {
                return Err(Twin);
            }
            let step = format!("/{}", token.replace('~', "~0").replace('/', "~1"));
            match value.at(&step) {
                Some(found) => value = found,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    /// The first place, as a pointer, that holds something and is not at or below one of `places`.
    pub(super) fn outside(self, places: &[&str]) -> Option<String> {
        self.outside_at(String::new(), places)
    }

    fn outside_at(self, at: String, places: &[&str]) -> Option<String> {
        let within = |place: &&str| {
            at.strip_prefix(*place)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if places.iter().any(within) {
            return None;
        }
        let is_on_the_way = places.iter().any(|place| place.starts_with(&format!("{at}/")));
        if !is_on_the_way || !matches!(self.first_byte(), Some(b'{' | b'[')) {
            return Some(at);
        }
        self.children().enumerate().find_map(|(index, (name, value))| {
            let token = name.map_or_else(|| Some(index.to_string()), Self::string)?;
            let token = token.replace('~', "~0").replace('/', "~1");
            value.outside_at(format!("{at}/{token}"), places)
        })
    }

    /// The elements, when it is an array.
    pub(super) fn elements(self) -> Option<Vec<Self>> {
        (self.first_byte() == Some(b'[')).then(|| self.children().map(|(_, value)| value).collect())
    }

    /// Its text, when it is a string.
    pub(super) fn string(self) -> Option<String> {
        (self.first_byte() == Some(b'"'))
            .then(|| serde_json::from_str(self.raw()).ok())
            .flatten()
    }

    /// Whether it is a whole number that every program reads as the same one: those with doubles have no others (RFC 8259
    /// section 6).
    pub(super) fn is_exact(self) -> bool {
        const MOST: u64 = (1 << 53) - 1;
        let size = self.raw().trim_start_matches('-').parse::<u64>();
        self.is_integer() && size.is_ok_and(|size| size <= MOST)
    }

    /// Whether it is a whole number in its plain spelling (`7`, not `7.0` or `07` or `-0`).
    pub(super) fn is_integer(self) -> bool {
        let digits = self.raw().strip_prefix('-').unwrap_or(self.raw());
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && self.raw() != "-0"
    }

    /// A string's text, or the bytes of a number, `true` or `false`; `None` for `null` and anything composed.
    pub(super) fn scalar(self) -> Option<String> {
        match self.first_byte()? {
            b'"' => self.string(),
            b'{' | b'[' | b'n' => None,
            _ => Some(self.raw().to_owned()),
        }
    }

    pub(super) fn is_null(self) -> bool {
        self.first_byte() == Some(b'n')
    }

    fn first_byte(self) -> Option<u8> {
        self.text.as_bytes().get(self.start).copied()
    }

    fn is_string(self, text: &str) -> bool {
        let raw = self.raw();
        let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
        if inner.contains('\\') {
            self.string().as_deref() == Some(text)
        } else {
            inner == text
        }
    }

    /// Names (of an object) and values, in order.
    fn children(self) -> impl Iterator<Item = (Option<Self>, Self)> {
        let text = self.text;
        let object = self.first_byte() == Some(b'{');
        let part = move |start: usize| Self {
            text,
            start,
            end: value_end(text, start),
        };
        let mut at = skip_space(text, self.start + 1);
        std::iter::from_fn(move || {
            if matches!(text.as_bytes().get(at), None | Some(b'}' | b']')) {
                return None;
            }
            let mut name = None;
            if object {
                let key = part(at);
                at = skip_space(text, skip_space(text, key.end) + 1);
                name = Some(key);
            }
            let value = part(at);
            at = skip_space(text, value.end);
            if text.as_bytes().get(at) == Some(&b',') {
                at = skip_space(text, at + 1);
            }
            Some((name, value))
        })
    }
}

/// The words of an error that do not repeat anything of the answer.
fn reason(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a name stands in one object twice",
        _ => "it is not strict JSON",
    }
}

/// Whether some program takes `name` for `judged`, or for a place below it (`job.id`, `job[id]`).
fn may_be(name: &str, judged: &str) -> bool {
    let begin = |name: &str| seen_as(name.split(['.', '[']).next().unwrap_or_default());
    let seen = seen_as(judged);
    seen_as(name) == seen || begin(name) == seen || seen_as(name) == begin(judged)
}

/// What some program takes a name for: without regard to case, punctuation and space, cut where C ends a text, and without a
/// prefix, as those do that make XML of JSON.
fn seen_as(name: &str) -> String {
    let cut = name.split(char::is_control).next().unwrap_or_default();
    let local = cut.rsplit(':').next().unwrap_or_default();
    // One letter after the other, and up before down: `\u{17f}` and `\u{131}` are an s and an i only that way.
    let folded = local
        .chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase);
    let is_word = |letter: &char| !letter.is_whitespace() && !"\u{307}_-.@$#".contains(*letter);
    folded.filter(is_word).collect()
}

fn is_index(token: &str) -> bool {
    token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()))
}

fn skip_space(text: &str, at: usize) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    at + rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        .count()
}

/// The end of the value at `start`. Only for texts that were checked.
fn value_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = start;
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ if depth == 0 => {
                let rest = bytes.get(at..).unwrap_or_default();
                let scalar = |byte: &&u8| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                return at + rest.iter().take_while(scalar).count();
            }
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// Accepts any value in which no object has a name twice. serde_json bounds the depth (128) and refuses what is not the
/// grammar, lone surrogates included.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(Self)?;
            if !names.insert(name) {
                return Err(A::Error::custom("a name stands there twice"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1,\"\\u0061\":2}",
            "[{\"b\":{\"a\":1,\"a\":1}}]",
            "1 2",
            "{} x",
            "'a'",
            "{a:1}",
            "[1] // x",
            "NaN",
            "01",
            "+1",
            ".5",
            "1.",
            "\"\\ud800\"",
            "\"\t\"",
            "\"\\x\"",
            "\u{feff}[]",
            "tru",
            "[\u{a0}1]",
        ] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(Json::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn an_error_repeats_nothing_of_the_answer() {
        let error = Json::parse(b"{\"password of John\":1,\"password of John\":2}").unwrap_err();
        assert_eq!(error, "a name stands in one object twice at line 1 column 43");
        assert!(!Json::parse(b"[secret]").unwrap_err().contains("secret"));
    }

    #[test]
    fn a_name_that_some_program_takes_for_the_judged_one_is_a_twin() {
        let only = |text: &str| {
            Json::parse(text.as_bytes())
                .unwrap()
                .only("/job/id")
                .map(|v| v.map(Json::raw).map(str::to_owned))
        };
        assert_eq!(only(r#"{"job":{"id":7,"name":1},"Id":2}"#), Ok(Some("7".into())));
        assert_eq!(only(r#"{"job":{"name":1}}"#), Ok(None));
        assert_eq!(only(r#"{"job":[]}"#), Ok(None));
        assert_eq!(
            only(r#"{"job":{"id":7,"video":2,"jobs":3}}"#),
            Ok(Some("7".into()))
        );
        for twin in [
            r#"{"job":[{"id":1}]}"#,
            r#"[{"job":{"id":1}}]"#,
            "{\"job\":{\"id\":7,\"\u{131}d\":8}}",
            "{\"job\":{\"id\":7,\"\u{130}d\":8}}",
            r#"{"job":{"id":7,"\u0131d":8}}"#,
            r#"{"job":{"id":7},"jo_b":{"id":8}}"#,
            r#"{"job":{"id":7},"job.id":8}"#,
            r#"{"job":{"id":7},"job[id]":8}"#,
            r#"{"job":{"id":7,"@id":8}}"#,
            r#"{"job":{"id":7,"$id":8}}"#,
            r#"{"job":{"id":7,"ID":8}}"#,
            r#"{"job":{"Id":8}}"#,
            r#"{"job":{"id":7},"Job":{"id":8}}"#,
            r#"{"JO\u0042":{"id":8}}"#,
            r#"{"job":{"id":7,"x:id":8}}"#,
            r#"{"x:job":{"id":8},"job":{"id":7}}"#,
            r#"{"job":{"id\u0000":8,"id":7}}"#,
            r#"{"job":{"id\u0000more":8,"id":7}}"#,
            r#"{"job":{" id\t":8,"id":7}}"#,
            r#"{"job":{"{urn:x}ID":8,"a:b: Id ":8,"id":7}}"#,
        ] {
            assert_eq!(only(twin), Err(Twin), "{twin}");
        }
    }

    #[test]
    fn letters_that_a_program_folds_are_the_same() {
        let disk = |text: &str| {
            Json::parse(text.as_bytes())
                .unwrap()
                .only("/disk")
                .map(|v| v.is_some())
        };
        for name in [
            "di\u{17f}k",
            "d\u{131}sk",
            "d\u{130}sk",
            "dis\u{212a}",
            "DISK",
            "di_sk",
            "di-sk",
        ] {
            assert_eq!(disk(&format!("{{\"disk\":7,\"{name}\":8}}")), Err(Twin), "{name}");
        }
        assert_eq!(disk(r#"{"disk":7,"disc":8,"disks":9}"#), Ok(true));
    }

    #[test]
    fn an_index_names_the_only_element_of_its_list() {
        let only = |text: &str| {
            Json::parse(text.as_bytes())
                .unwrap()
                .only("/job/0/id")
                .map(|v| v.map(Json::raw).map(str::to_owned))
        };
        assert_eq!(only(r#"{"job":[{"id":7}]}"#), Ok(Some("7".into())));
        assert_eq!(only(r#"{"job":[]}"#), Ok(None));
        assert_eq!(only(r#"{"job":[{"id":7},{"id":8}]}"#), Err(Twin));
        assert_eq!(only(r#"{"job":[{"id":7},null]}"#), Err(Twin));
        assert_eq!(only(r#"{"job":{"0":{"id":7}}}"#), Err(Twin));
        assert_eq!(only(r#"{"job":{"0":{"id":7},"id":8}}"#), Err(Twin));
        assert_eq!(only(r#"{"job":{"id":8}}"#), Err(Twin));
    }

    #[test]
    fn what_stands_outside_of_the_places_is_found_whatever_it_is() {
        let outside = |text: &str, places: &[&str]| Json::parse(text.as_bytes()).unwrap().outside(places);
        let judged: &[&str] = &["/job/0/id"];
        assert_eq!(outside(r#"{"job":[{"id":"a"}]}"#, judged), None);
        for (text, at) in [
            (r#"{"job":[{"id":"a","x:id":"b"}]}"#, "/job/0/x:id"),
            (r#"{"job":[{"id":"a"},{"id":"b"}]}"#, "/job/1"),
            (r#"{"job":[{"id":"a"}],"all":{}}"#, "/all"),
            (r#"{"job":[{"id":"a"}],"a/b":[]}"#, "/a~1b"),
            (r#"{"job":"a"}"#, "/job"),
            (r#"[1]"#, "/0"),
            ("7", ""),
        ] {
            assert_eq!(outside(text, judged), Some(at.to_owned()), "{text}");
        }
        assert_eq!(
            outside(
                r#"{"job":[{"id":"a"}],"note":{"by":[1]}}"#,
                &["/job/0/id", "/note"]
            ),
            None
        );
        assert_eq!(
            outside(r#"{"notes":1,"note":2}"#, &["/note"]),
            Some("/notes".to_owned())
        );
    }

    #[test]
    fn numbers_keep_their_spelling() {
        let text = br#" { "n" : 123456789012345678901234567890.10e+5 , "i":-7,"z":-0,"f":7.0} "#;
        let json = Json::parse(text).unwrap();
        assert_eq!(
            json.at("/n").unwrap().raw(),
            "123456789012345678901234567890.10e+5"
        );
        assert!(json.at("/i").unwrap().is_integer());
        for not in ["/n", "/z", "/f"] {
            assert!(!json.at(not).unwrap().is_integer());
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a\\\\\"{}\\[\\],: ~/\u{e9}]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-c~/\\\\\"\u{e9}]{0,3}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
        all.push(at.to_owned());
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    pointers(item, &format!("{at}/{index}"), all);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    pointers(member, &format!("{at}/{name}"), all);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn a_pointer_finds_what_serde_json_finds(value in value(), pretty in any::<bool>(), miss in "(/[a-c0-9~]{0,2}){0,3}") {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let json = Json::parse(text.as_bytes()).unwrap();
            let mut all = vec![miss];
            pointers(&value, "", &mut all);
            for pointer in all {
                let ours = json.at(&pointer).map(|found| serde_json::from_str::<Value>(found.raw()).unwrap());
                prop_assert_eq!(ours.as_ref(), value.pointer(&pointer), "{}", pointer);
            }
            prop_assert_eq!(json.elements().map(|list| list.len()), value.as_array().map(Vec::len));
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}\",:0-9eE.\\\\ntu-]{0,40}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                if let Ok(json) = Json::parse(bytes) {
                    prop_assert!(serde_json::from_slice::<Value>(bytes).is_ok());
                    let _ = (json.at("/0/a"), json.elements(), json.scalar());
                }
            }
        }
    }
}
