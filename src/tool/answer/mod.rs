//! What a tool's answer says about ownership: what it made, and which items of a list are whose.
//!
//! Pure functions over status, headers and body. Whatever does not look as the manifest says is an [`AnswerError`],
//! never a guess: the caller withholds a list, and records that it does not know what was made.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::json::Json;
use super::matching::is_id;
use super::target::Target;
use super::{Creates, FilterRule, IdSource, Parameters, Whose};
use crate::problem::{AsProblem, Kind, Problem};

/// Most items of one list, and most things that one answer makes.
const MAX_ITEMS: usize = 100_000;
/// Longest attribute in bytes.
const MAX_ATTRIBUTE: usize = 1_024;

/// Why an answer does not fit the manifest. Nothing of the answer is repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The body was not read, or there is none.
    #[error("the answer has no body that could be read")]
    NoBody,
    /// The body is not strict JSON.
    #[error("the answer cannot be read: {0}")]
    NotJson(String),
    /// A pointer leads nowhere, or to something else.
    #[error("the answer has no {expected} at `{pointer}`")]
    Pointer {
        /// The pointer.
        pointer: String,
        /// What the manifest says is there.
        expected: &'static str,
    },
    /// A header is absent, repeated or has another form.
    #[error("the answer has no single header `{name}` that ends in an id")]
    Header {
        /// Its name.
        name: String,
    },
    /// A parameter of the request is absent or cannot be an id.
    #[error("the parameter `{0}` is not an id")]
    Parameter(String),
    /// Too many items.
    #[error("the answer lists more than {MAX_ITEMS} items")]
    TooMany,
    /// Larger than the rule allows.
    #[error("the answer is larger than the {0} bytes that the manifest allows")]
    TooLarge(u64),
    /// The decisions do not belong to this list.
    #[error("the list has another number of items than decisions were made")]
    Decisions,
}

impl AsProblem for AnswerError {
    fn as_problem(&self) -> Problem {
        Problem::new(Kind::ToolAnswer, self.to_string())
    }
}

/// Something that an answer says was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Type.
    pub kind: String,
    /// The tool's own id.
    pub id: String,
    /// Whose it is.
    pub owner: Whose,
    /// Nearest parent as (type, id).
    pub parent: Option<(String, String)>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

/// Whether [`created`] will look into the body of an answer with this status.
#[must_use]
pub fn needs_body(rules: &[Creates], status: u16) -> bool {
    let in_body = |source: &IdSource| matches!(source, IdSource::Body(_));
    rules
        .iter()
        .filter(|rule| rule.status.contains(&status))
        .any(|rule| {
            rule.items.is_some()
                || rule.when.is_some()
                || in_body(&rule.id)
                || rule.parent.iter().any(|(_, source)| in_body(source))
                || rule.attributes.values().any(in_body)
        })
}

/// What an answer made, by the task's `creates`. `body` is the whole body where [`needs_body`] says so.
///
/// # Errors
/// [`AnswerError`] when the answer does not look as the manifest says; then nothing is known of what was made.
pub fn created(
    rules: &[Creates],
    parameters: &Parameters,
    status: u16,
    headers: &HeaderMap,
    body: Option<&[u8]>,
) -> Result<Vec<Created>, AnswerError> {
    let json = if needs_body(rules, status) {
        Some(Json::parse(body.ok_or(AnswerError::NoBody)?).map_err(AnswerError::NotJson)?)
    } else {
        None
    };
    let answer = Answer { parameters, headers };
    let mut made = Vec::new();
    for rule in rules.iter().filter(|rule| rule.status.contains(&status)) {
        let scopes = match (&rule.items, json) {
            (Some(pointer), Some(json)) => list(json, pointer)?.into_iter().map(Some).collect(),
            _ => vec![json],
        };
        for scope in scopes {
            if happened(rule, scope) {
                made.push(answer.made(rule, scope)?);
            }
        }
        if made.len() > MAX_ITEMS {
            return Err(AnswerError::TooMany);
        }
    }
    Ok(made)
}

fn happened(rule: &Creates, scope: Option<Json<'_>>) -> bool {
    match (&rule.when, scope) {
        (None, _) => true,
        (Some((pointer, text)), Some(json)) => {
            json.at(pointer).and_then(Json::scalar).as_deref() == Some(text.as_str())
        }
        (Some(_), None) => false,
    }
}

fn list<'a>(json: Json<'a>, pointer: &str) -> Result<Vec<Json<'a>>, AnswerError> {
    let list = json
        .at(pointer)
        .and_then(Json::elements)
        .ok_or_else(|| missing(pointer, "list"))?;
    if list.len() > MAX_ITEMS {
        return Err(AnswerError::TooMany);
    }
    Ok(list)
}

fn missing(pointer: &str, expected: &'static str) -> AnswerError {
    AnswerError::Pointer {
        pointer: pointer.to_owned(),
        expected,
    }
}

struct Answer<'a> {
    parameters: &'a Parameters,
    headers: &'a HeaderMap,
}

impl Answer<'_> {
    fn made(&self, rule: &Creates, scope: Option<Json<'_>>) -> Result<Created, AnswerError> {
        let mut attributes = BTreeMap::new();
        for (name, source) in &rule.attributes {
            if let Some(value) = self.attribute(source, scope)? {
                attributes.insert(name.clone(), value);
            }
        }
        Ok(Created {
            kind: rule.kind.clone(),
            id: self.id(&rule.id, scope)?,
            owner: rule.owner,
            parent: match &rule.parent {
                Some((kind, source)) => Some((kind.clone(), self.id(source, scope)?)),
                None => None,
            },
            attributes,
        })
    }

    fn id(&self, source: &IdSource, scope: Option<Json<'_>>) -> Result<String, AnswerError> {
        match source {
            IdSource::Header { name, last_segment } => self.header(name, *last_segment),
            IdSource::HeaderEnd(name) => self.header_end(name),
            IdSource::Body(pointer) => id_at(scope.ok_or(AnswerError::NoBody)?, pointer),
            IdSource::Parameter(name) => self
                .parameters
                .get(name)
                .filter(|id| is_id(id))
                .cloned()
                .ok_or_else(|| AnswerError::Parameter(name.clone())),
        }
    }

    fn header(&self, name: &str, last_segment: bool) -> Result<String, AnswerError> {
        let wrong = || AnswerError::Header {
            name: name.to_owned(),
        };
        let mut values = self.headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(wrong());
        };
        let value = value.to_str().map_err(|_| wrong())?.trim();
        let id = if last_segment {
            last_segment_of(value).ok_or_else(wrong)?
        } else {
            value.to_owned()
        };
        if is_id(&id) { Ok(id) } else { Err(wrong()) }
    }

    fn header_end(&self, name: &str) -> Result<String, AnswerError> {
        let wrong = || AnswerError::Header {
            name: name.to_owned(),
        };
        let mut values = self.headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(wrong());
        };
        let value = value.to_str().map_err(|_| wrong())?.trim();
        let id = value.rsplit_once('/').map(|(_, id)| id.to_owned());
        // SECURITY: one spelling only; what would have to be decoded is no id.
        let plain = |id: &String| is_id(id) && !id.contains(['%', '?', '#']);
        id.filter(plain).ok_or_else(wrong)
    }

    /// An attribute that is absent, `null` or empty is left out: a condition that asks for it then does not hold.
    fn attribute(&self, source: &IdSource, scope: Option<Json<'_>>) -> Result<Option<String>, AnswerError> {
        let value = match source {
            IdSource::Header { name, last_segment } if self.headers.contains_key(name) => {
                Some(self.header(name, *last_segment)?)
            }
            IdSource::HeaderEnd(name) if self.headers.contains_key(name) => Some(self.header_end(name)?),
            IdSource::Header { .. } | IdSource::HeaderEnd(_) => None,
            IdSource::Parameter(name) => self.parameters.get(name).cloned(),
            IdSource::Body(pointer) => match scope.and_then(|json| json.at(pointer)) {
                Some(value) if !value.is_null() => Some(
                    value
                        .scalar()
                        .ok_or_else(|| missing(pointer, "text, number or truth value"))?,
                ),
                _ => None,
            },
        };
        Ok(value.filter(|value| !value.is_empty() && value.len() <= MAX_ATTRIBUTE))
    }
}

/// An id in JSON: a string, or a whole number in its plain spelling.
fn id_at(json: Json<'_>, pointer: &str) -> Result<String, AnswerError> {
    json.at(pointer)
        .and_then(|value| {
            if value.is_integer() {
                Some(value.raw().to_owned())
            } else {
                value.string()
            }
        })
        .filter(|id| is_id(id))
        .ok_or_else(|| missing(pointer, "id"))
}

/// The id that the answer to a look-up has at `pointer`.
///
/// # Errors
/// [`AnswerError`] when it is not strict JSON, or has no id there.
pub fn looked_up(body: &[u8], pointer: &str) -> Result<String, AnswerError> {
    id_at(Json::parse(body).map_err(AnswerError::NotJson)?, pointer)
}

/// The last segment of the path of a URI reference (RFC 3986 section 4.1), decoded; a trailing slash is passed over.
fn last_segment_of(reference: &str) -> Option<String> {
    let path = reference.split(['?', '#']).next()?;
    let path = match path.split_once("://") {
        Some((_, after)) => after.get(after.find('/')?..)?,
        None => path,
    };
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let target = Target::parse(&path).ok()?;
    target
        .segments()
        .iter()
        .rev()
        .find(|segment| !segment.is_empty())
        .cloned()
}

/// A list that was read, before it is narrowed to what its reader may see.
#[derive(Debug)]
pub struct Listed<'a> {
    body: &'a [u8],
    list: Json<'a>,
    items: Vec<Json<'a>>,
    totals: Vec<Json<'a>>,
    ids: Vec<String>,
}

impl FilterRule {
    /// Reads the list in a tool's whole, unencoded answer.
    ///
    /// # Errors
    /// [`AnswerError`] for every surprise: then the whole answer is withheld.
    pub fn read<'a>(&self, body: &'a [u8]) -> Result<Listed<'a>, AnswerError> {
        if body.len() as u64 > self.limit {
            return Err(AnswerError::TooLarge(self.limit));
        }
        let json = Json::parse(body).map_err(AnswerError::NotJson)?;
        let items = list(json, &self.items)?;
        Ok(Listed {
            body,
            list: json.at(&self.items).ok_or_else(|| missing(&self.items, "list"))?,
            ids: items
                .iter()
                .map(|item| id_at(*item, &self.id))
                .collect::<Result<_, _>>()?,
            totals: self
                .totals
                .iter()
                .map(|pointer| {
                    json.at(pointer)
                        .filter(|total| total.is_integer())
                        .ok_or_else(|| missing(pointer, "whole number"))
                })
                .collect::<Result<_, _>>()?,
            items,
        })
    }
}

impl Listed<'_> {
    /// The ids of its items, in order; the decisions for [`Listed::keep`] stand in the same order.
    #[must_use]
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// The answer with only the items for which `keep` is true, and totals that count only these.
    ///
    /// # Errors
    /// [`AnswerError::Decisions`] unless there is one decision for each item.
    pub fn keep(&self, keep: &[bool]) -> Result<Vec<u8>, AnswerError> {
        // SECURITY: a decision must never fall on another item than it was made for.
        if keep.len() != self.items.len() {
            return Err(AnswerError::Decisions);
        }
        let kept: Vec<&str> = self
            .items
            .iter()
            .zip(keep)
            .filter(|(_, keep)| **keep)
            .map(|(item, _)| item.raw())
            .collect();
        let count = kept.len().to_string();
        let mut edits = vec![(self.list.range(), format!("[{}]", kept.join(",")))];
        edits.extend(self.totals.iter().map(|total| (total.range(), count.clone())));
        edits.sort_by_key(|(range, _)| range.start);
        let mut narrowed = Vec::with_capacity(self.body.len());
        let mut at = 0;
        for (range, text) in edits {
            // INVARIANT: the ranges lie apart, since no total is a part of the list or of another total.
            let between = self.body.get(at..range.start).ok_or(AnswerError::Decisions)?;
            narrowed.extend_from_slice(between);
            narrowed.extend_from_slice(text.as_bytes());
            at = range.end;
        }
        narrowed.extend_from_slice(self.body.get(at..).unwrap_or_default());
        Ok(narrowed)
    }
}

#[cfg(test)]
mod tests;
