//! Bodies that name the task: read strictly, in one way only, or refused.
//!
//! A tool that dispatches on its body is judged by its body. What is read here is bounded by the task, UTF-8, not
//! encoded, of the media type that it says, and without names that stand there twice; what two programs could read
//! differently is a [`ContentError`]. Nothing is rewritten: the bytes that were judged are the bytes that are sent.

mod form;
mod media;
mod soap;

use http::header::{CONTENT_ENCODING, HeaderMap};

use self::form::{Form, shown};
use self::media::Media;
use self::soap::Soap;
use super::json::{Json, Twin};
use super::template::Variable;

pub(super) use self::soap::{is_ncname, is_path};

/// Longest value that is taken from a body, in bytes.
const MAX_TAKEN: usize = 1_024;
/// Largest body that is judged, unless the task says otherwise with `max_body`.
pub const JUDGED: u64 = 1 << 20;
/// Largest body that a task may have judged.
pub const MOST_JUDGED: u64 = 64 << 20;

/// What a judged body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// SOAP 1.1 or 1.2.
    Soap,
    /// JSON (RFC 8259).
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

impl Language {
    /// The name in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Soap => "soap",
            Self::Json => "json",
            Self::Form => "form",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Soap, Self::Json, Self::Form]
            .into_iter()
            .find(|language| language.as_str() == name)
    }
}

/// `body = { kind, operation, action, equals, take, fields }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRule {
    /// What it is written in.
    pub language: Language,
    /// For SOAP: namespace and local name of the one element of the Body.
    pub operation: Option<(String, String)>,
    /// For SOAP: the action that may be sent, where it is not made of the operation's name.
    pub action: Option<String>,
    /// Places and the text that must stand there; they tell this task from others.
    pub equals: Vec<(String, String)>,
    /// Parameters that are taken from it.
    pub take: Vec<Taken>,
    /// What else may come: for forms names of fields, for JSON places; `None` means any.
    pub fields: Option<Vec<String>>,
    /// Largest body in bytes.
    pub limit: u64,
}

/// A parameter that stands in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Where: a JSON pointer, the name of a form field, or a path of elements below the operation.
    pub at: String,
    /// What it accepts; `None` for any text.
    pub accepts: Option<Variable>,
}

/// Why a body cannot be read in one way. Nothing of the body is repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// `Content-Encoding`.
    #[error("the body is encoded (`Content-Encoding`), and this address takes it plain only")]
    Encoded,
    /// Another media type, or none.
    #[error("the body's `Content-Type` is not one of those that this address takes: {0}")]
    Media(String),
    /// Larger than the tasks here take.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// Not strictly in its language.
    #[error("the body is not strict {language}: {reason}")]
    Unreadable {
        /// The language.
        language: &'static str,
        /// Why.
        reason: String,
    },
    /// A place that is judged has a twin that tools may take for it.
    #[error(
        "what stands at `{0}` in the body stands there twice, in a list, under a name that tools may take for it, or spelled so that they may take it for what a task asks for"
    )]
    Twin(String),
    /// A place that is judged holds something else than one text.
    #[error("what stands at `{0}` in the body is not one plain text, whole number (to 2^53) or truth value")]
    NotPlain(String),
    /// A form field that no task here takes.
    #[error("the form has the field `{0}`, which this task does not take")]
    UnknownField(String),
    /// Something in a JSON body that no task here takes.
    #[error("the body has something at `{0}`, which this task does not take")]
    UnknownPlace(String),
    /// A field that changes the method for some frameworks.
    #[error("the form field `{0}` could change the method for the tool, so it is always refused")]
    MethodOverride(String),
    /// An action that is not the operation's.
    #[error("the action that is sent beside the body is not that of the body's operation")]
    Action,
}

impl ContentError {
    fn unreadable(language: &'static str, reason: impl Into<String>) -> Self {
        Self::Unreadable {
            language,
            reason: reason.into(),
        }
    }
}

/// A body that was read.
#[derive(Debug)]
pub(super) enum Content<'a> {
    Json(Json<'a>),
    Form(Form),
    Soap(Soap),
}

impl<'a> Content<'a> {
    /// Reads a body for the rules of the tasks that it could name. `None` when there is no body.
    pub(super) fn read(
        rules: &[&BodyRule],
        headers: &HeaderMap,
        bytes: &'a [u8],
    ) -> Result<Option<Self>, ContentError> {
        let media = Media::of(headers);
        // Nothing says nothing, in whatever type; but an empty form is a form.
        let form = media
            .as_ref()
            .is_some_and(|media| media.language() == Language::Form);
        if bytes.is_empty() && !form {
            return Ok(None);
        }
        let limit = rules.iter().map(|rule| rule.limit).max().unwrap_or(0);
        if bytes.len() as u64 > limit {
            return Err(ContentError::TooLarge(limit));
        }
        // SECURITY: a tool may decode what the gateway did not look into.
        if headers.contains_key(CONTENT_ENCODING) {
            return Err(ContentError::Encoded);
        }
        let media = media.filter(|media| {
            let language = media.language();
            rules.iter().any(|rule| rule.language == language)
        });
        // SECURITY: also where a wider task would take any body: many tools parse without looking at the type.
        let Some(media) = media else {
            let mut accepted: Vec<&str> = rules.iter().map(|rule| media::accepted(rule.language)).collect();
            accepted.sort_unstable();
            accepted.dedup();
            return Err(ContentError::Media(accepted.join(", ")));
        };
        let content = match media.language() {
            Language::Json => {
                Self::Json(Json::parse(bytes).map_err(|reason| ContentError::unreadable("JSON", reason))?)
            }
            Language::Form => Self::Form(Form::parse(bytes)?),
            Language::Soap => {
                let watched = rules.iter().flat_map(|rule| rule.places());
                Self::Soap(Soap::parse(bytes, &media, headers, watched)?)
            }
        };
        Ok(Some(content))
    }

    const fn language(&self) -> Language {
        match self {
            Self::Json(_) => Language::Json,
            Self::Form(_) => Language::Form,
            Self::Soap(_) => Language::Soap,
        }
    }

    /// The one text at a place, if there is one.
    fn text(&self, at: &str) -> Result<Option<String>, ContentError> {
        let text = match self {
            Self::Json(json) => match json.only(at) {
                Err(Twin) => return Err(ContentError::Twin(at.to_owned())),
                Ok(None) => None,
                Ok(Some(value)) => Some(plain(value).ok_or_else(|| ContentError::NotPlain(at.to_owned()))?),
            },
            Self::Form(form) => form.only(at)?.map(str::to_owned),
            Self::Soap(soap) => soap.only(at)?,
        };
        match text {
            Some(text) if text.len() > MAX_TAKEN || text.chars().any(char::is_control) => {
                Err(ContentError::NotPlain(at.to_owned()))
            }
            text => Ok(text),
        }
    }
}

/// A text, a whole number in its plain spelling, or a truth value.
fn plain(value: Json<'_>) -> Option<String> {
    let number = value
        .raw()
        .starts_with(|first: char| first == '-' || first.is_ascii_digit());
    value.scalar().filter(|_| !number || value.is_exact())
}

impl BodyRule {
    /// The places that are judged.
    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        let equals = self.equals.iter().map(|(at, _)| at.as_str());
        equals.chain(self.take.iter().map(|taken| taken.at.as_str()))
    }

    /// Whether no body fits both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.language != other.language
            || self.operation != other.operation
            || self.equals.iter().any(|(at, text)| {
                other
                    .equals
                    .iter()
                    .any(|(there, other)| at == there && text != other)
            })
    }

    /// Whether every body that fits this one fits `other`.
    pub(super) fn narrows(&self, other: &Self) -> bool {
        self.language == other.language
            && self.operation == other.operation
            && other.equals.iter().all(|one| self.equals.contains(one))
    }

    /// Whether the body is one of this task.
    pub(super) fn fits(&self, content: &Content<'_>) -> Result<bool, ContentError> {
        if content.language() != self.language {
            return Ok(false);
        }
        if let (Content::Soap(soap), Some(operation)) = (content, &self.operation)
            && soap.operation() != operation
        {
            return Ok(false);
        }
        let mut fits = true;
        for (at, expected) in &self.equals {
            // Every place is looked at, so that a twin anywhere refuses the body.
            let text = content.text(at)?;
            let fold = |text: &str| text.trim().to_lowercase();
            // SECURITY: a wider task would be taken for it, and the tool may do what this one guards.
            if text
                .as_ref()
                .is_some_and(|text| text != expected && fold(text) == fold(expected))
            {
                return Err(ContentError::Twin(at.clone()));
            }
            fits &= text.as_deref() == Some(expected);
        }
        Ok(fits)
    }

    /// Checks what only the chosen task can say, and hands its parameters to `put`. Gives the first one that is missing.
    pub(super) fn bind(
        &self,
        content: &Content<'_>,
        mut put: impl FnMut(&str, String),
    ) -> Result<Option<&Taken>, ContentError> {
        match content {
            Content::Form(form) => {
                if let (Some(name), Some(_)) = (form.unknown(self), &self.fields) {
                    return Err(ContentError::UnknownField(name.to_owned()));
                }
            }
            Content::Soap(soap) if !soap.says_only(self.action.as_deref()) => {
                return Err(ContentError::Action);
            }
            Content::Json(json) => {
                if let Some(at) = self.fields.as_ref().and_then(|fields| {
                    let further = fields.iter().map(String::as_str);
                    json.outside(&self.places().chain(further).collect::<Vec<&str>>())
                }) {
                    return Err(ContentError::UnknownPlace(shown(&at)));
                }
            }
            Content::Soap(_) => {}
        }
        for taken in &self.take {
            let text = content.text(&taken.at)?;
            let accepted = text.filter(|text| match taken.accepts {
                Some(variable) => variable.accepts(text),
                None => !text.is_empty(),
            });
            match accepted {
                Some(text) => put(&taken.name, text),
                None => return Ok(Some(taken)),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
