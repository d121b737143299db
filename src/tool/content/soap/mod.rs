//! SOAP 1.1 and 1.2: the one element of the Body is the operation; what is judged below it stands there once.
//!
//! XML is read by `quick-xml`, which expands nothing. Refused beyond its own checks: document types, processing
//! instructions, comments, entities other than the five of XML, other encodings and versions, names that are none, and
//! whatever stands beside the envelope's own parts. A tool that reads SOAP at all reads what is left in the same way.

use std::borrow::Cow;

use http::header::HeaderMap;
use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};

use super::ContentError;
use super::media::Media;

const SOAP11: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const SOAP12: &str = "http://www.w3.org/2003/05/soap-envelope";
/// Deepest nesting of elements.
const MAX_DEPTH: usize = 64;
/// Most bytes of one judged text, or of an action.
const MAX_TEXT: usize = 4_096;

/// A SOAP envelope, as far as it is judged.
#[derive(Debug)]
pub(in crate::tool) struct Soap {
    operation: (String, String),
    watched: Vec<Watched>,
    /// Actions that are sent beside the body: `SOAPAction`, `action`, and `Action` of WS-Addressing.
    actions: Vec<String>,
}

/// A path of elements below the operation.
#[derive(Debug)]
struct Watched {
    path: String,
    count: usize,
    text: String,
    plain: bool,
}

/// Where in the envelope an element stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spot {
    Envelope,
    Header,
    Body,
    /// A child of the Header that says an action.
    Action,
    /// The operation, and what is below it; also what is below a child of the Header.
    Inner,
}

fn wrong<T>(reason: &str) -> Result<T, ContentError> {
    Err(ContentError::unreadable("SOAP", reason))
}

impl Soap {
    /// Reads an envelope, and the texts at the `watched` paths.
    pub(super) fn parse<'p>(
        bytes: &[u8],
        media: &Media,
        headers: &HeaderMap,
        watched: impl Iterator<Item = &'p str>,
    ) -> Result<Self, ContentError> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return wrong("it is not UTF-8");
        };
        if !text.chars().all(is_xml_char) {
            return wrong("it has a character that XML does not have, or a byte order mark");
        }
        let mut reading = Reading {
            envelope: if media.is_soap12() { SOAP12 } else { SOAP11 },
            spots: Vec::new(),
            path: Vec::new(),
            headers: 0,
            bodies: 0,
            done: false,
            soap: Self {
                operation: (String::new(), String::new()),
                watched: Vec::new(),
                actions: said(headers, media)?,
            },
        };
        for path in watched {
            if reading.soap.watched.iter().all(|one| one.path != path) {
                reading.soap.watched.push(Watched {
                    path: path.to_owned(),
                    count: 0,
                    text: String::new(),
                    plain: true,
                });
            }
        }
        reading.run(text)?;
        if !reading.done || reading.soap.operation.1.is_empty() {
            return wrong("it has no envelope with one operation in its Body");
        }
        Ok(reading.soap)
    }

    /// Namespace and local name of the operation.
    pub(super) const fn operation(&self) -> &(String, String) {
        &self.operation
    }

    /// The text of the one element at a path.
    pub(super) fn only(&self, path: &str) -> Result<Option<String>, ContentError> {
        match self.watched.iter().find(|watched| watched.path == path) {
            Some(watched) if watched.count > 1 => Err(ContentError::Twin(path.to_owned())),
            Some(watched) if watched.count == 1 => {
                // Some programs take space off the ends of a text and some do not.
                if watched.plain && watched.text.trim() == watched.text {
                    Ok(Some(watched.text.clone()))
                } else {
                    Err(ContentError::NotPlain(path.to_owned()))
                }
            }
            _ => Ok(None),
        }
    }

    /// Whether every action that is sent beside the body is the operation's, or `declared`.
    pub(super) fn says_only(&self, declared: Option<&str>) -> bool {
        let (namespace, local) = &self.operation;
        let own = |action: &str| {
            action == local
                || action
                    .strip_prefix(namespace.as_str())
                    .is_some_and(|rest| rest.strip_prefix(['/', '#', ':']).unwrap_or(rest) == local)
        };
        self.actions.iter().all(|action| match declared {
            Some(declared) => action == declared,
            None => own(action),
        })
    }
}

/// The actions in the head: `SOAPAction` (SOAP 1.1 section 6.1.1) and the media type's `action`. An empty one says nothing.
fn said(headers: &HeaderMap, media: &Media) -> Result<Vec<String>, ContentError> {
    let mut actions = Vec::new();
    let mut values = headers.get_all("soapaction").iter();
    if let Some(value) = values.next() {
        let Ok(value) = value.to_str() else {
            return Err(ContentError::Action);
        };
        let value = value.trim();
        let bare = match value.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"').ok_or(ContentError::Action)?,
            None => value,
        };
        if bare.contains('"') || values.next().is_some() {
            return Err(ContentError::Action);
        }
        actions.push(bare.to_owned());
    }
    actions.extend(media.action.clone());
    actions.retain(|action| !action.is_empty());
    Ok(actions)
}

struct Reading {
    envelope: &'static str,
    spots: Vec<Spot>,
    /// Local names below the operation.
    path: Vec<String>,
    headers: usize,
    bodies: usize,
    done: bool,
    soap: Soap,
}

impl Reading {
    fn run(&mut self, text: &str) -> Result<(), ContentError> {
        let mut reader = NsReader::from_str(text);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.check_end_names = true;
        let mut first = true;
        loop {
            let Ok((resolved, event)) = reader.read_resolved_event() else {
                return wrong("it is not well-formed XML");
            };
            match event {
                Event::Decl(declaration) if first => declared(&declaration)?,
                Event::Start(start) => {
                    let namespace = match resolved {
                        ResolveResult::Bound(Namespace(namespace)) => namespace.to_owned(),
                        ResolveResult::Unbound => String::new(),
                        ResolveResult::Unknown(_) => return wrong("a prefix is not declared"),
                    };
                    self.start(&namespace, &start)?;
                }
                Event::End(_) => self.end(),
                Event::Text(text) => self.text(&text)?,
                Event::GeneralRef(reference) => {
                    let text = referred(&reference)?;
                    self.text(&text)?;
                    if self.spots.last() != Some(&Spot::Inner) && self.spots.last() != Some(&Spot::Action) {
                        return wrong("a reference stands between the envelope's parts");
                    }
                }
                Event::CData(_) => self.not_plain()?,
                Event::Eof => return Ok(()),
                // Empty elements come as a start and an end.
                Event::Empty(_) => return wrong("it is not well-formed XML"),
                Event::Decl(_) | Event::DocType(_) | Event::PI(_) | Event::Comment(_) => {
                    return wrong("it has a document type, a processing instruction or a comment");
                }
            }
            first = false;
        }
    }

    fn start(&mut self, namespace: &str, start: &BytesStart<'_>) -> Result<(), ContentError> {
        if self.spots.len() == MAX_DEPTH {
            return wrong("its elements are nested too deeply");
        }
        let bare = attributes(start)?;
        let name = start.local_name();
        let local: &str = name.as_ref();
        let own = namespace == self.envelope;
        let spot = match self.spots.last() {
            None if own && local == "Envelope" && !self.done => Spot::Envelope,
            None => return wrong("its root is not the envelope of its media type's SOAP version"),
            Some(Spot::Envelope) if own && local == "Header" && self.bodies + self.headers == 0 => {
                Spot::Header
            }
            Some(Spot::Envelope) if own && local == "Body" && self.bodies == 0 => {
                self.bodies = 1;
                Spot::Body
            }
            Some(Spot::Envelope) => {
                return wrong("its envelope has other parts than one Header and one Body");
            }
            Some(Spot::Header) if local == "Action" => {
                self.soap.actions.push(String::new());
                Spot::Action
            }
            Some(Spot::Header) => Spot::Inner,
            Some(Spot::Body) => {
                if !self.soap.operation.1.is_empty() {
                    return wrong("its Body has more than one element");
                }
                self.soap.operation = (namespace.to_owned(), local.to_owned());
                Spot::Inner
            }
            Some(Spot::Action) => return wrong("an action has elements in it"),
            Some(Spot::Inner) => {
                if self.bodies == 1 {
                    self.path.push(local.to_owned());
                    self.meet(bare);
                }
                Spot::Inner
            }
        };
        self.headers += usize::from(spot == Spot::Header);
        self.spots.push(spot);
        Ok(())
    }

    /// Notes an element that is watched; an element within a watched one makes its text no plain one.
    fn meet(&mut self, bare: bool) {
        let here = here(&self.path);
        for watched in &mut self.soap.watched {
            if watched.path == here {
                watched.count += 1;
                watched.plain &= bare;
            } else if here
                .strip_prefix(watched.path.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
            {
                watched.plain = false;
            }
        }
    }

    fn end(&mut self) {
        match self.spots.pop() {
            Some(Spot::Envelope) => self.done = true,
            Some(Spot::Inner) if self.bodies == 1 => {
                self.path.pop();
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) -> Result<(), ContentError> {
        match self.spots.last() {
            Some(Spot::Action) => {
                if let Some(action) = self.soap.actions.last_mut() {
                    action.push_str(text);
                    if action.len() > MAX_TEXT {
                        return Err(ContentError::Action);
                    }
                }
            }
            Some(Spot::Inner) => {
                let here = here(&self.path);
                for watched in self.soap.watched.iter_mut().filter(|one| one.path == here) {
                    watched.text.push_str(text);
                    watched.plain &= watched.text.len() <= MAX_TEXT;
                }
            }
            _ if !text
                .bytes()
                .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) =>
            {
                return wrong("text stands between the envelope's parts");
            }
            _ => {}
        }
        Ok(())
    }

    /// Marked sections: fine where nothing is judged.
    fn not_plain(&mut self) -> Result<(), ContentError> {
        if self.spots.last() != Some(&Spot::Inner) {
            return wrong("a marked section stands between the envelope's parts, or in an action");
        }
        let here = here(&self.path);
        for watched in self.soap.watched.iter_mut().filter(|one| one.path == here) {
            watched.plain = false;
        }
        Ok(())
    }
}

/// `/a/b`, as a manifest writes it.
fn here(path: &[String]) -> String {
    path.iter().map(|name| format!("/{name}")).collect()
}

/// Checks names and attributes of an element; gives whether it has none that could give it another meaning.
fn attributes(start: &BytesStart<'_>) -> Result<bool, ContentError> {
    let name = start.name();
    if !is_qname(name.as_ref()) {
        return wrong("an element's name is none");
    }
    let mut bare = true;
    for attribute in start.attributes() {
        let Ok(attribute) = attribute else {
            return wrong("an attribute is not well-formed, or stands there twice");
        };
        let name: &str = attribute.key.as_ref();
        if !is_qname(name) || attribute.value.contains('<') {
            return wrong("an attribute is not well-formed");
        }
        let declares = name == "xmlns" || name.starts_with("xmlns:");
        // A namespace that is spelled with references would have another name for other programs.
        if declares && attribute.value.contains(['&', '\t', '\n', '\r']) {
            return wrong("a namespace is not spelled plainly");
        }
        let typed = name == "type" || name.ends_with(":type");
        bare &= declares || typed;
    }
    Ok(bare)
}

/// `<?xml version="1.0" encoding="UTF-8"?>`, with or without the encoding.
fn declared(declaration: &quick_xml::events::BytesDecl<'_>) -> Result<(), ContentError> {
    let version = declaration.version().is_ok_and(|version| version == "1.0");
    let encoding = match declaration.encoding() {
        None => true,
        Some(Ok(encoding)) => encoding.eq_ignore_ascii_case("utf-8"),
        Some(Err(_)) => false,
    };
    // The declaration's own reader takes the first of two.
    let twice = ["version", "encoding", "standalone"]
        .iter()
        .any(|name| declaration.matches(name).count() > 1);
    if version && encoding && !twice {
        Ok(())
    } else {
        wrong("it is declared as something else than XML 1.0 in UTF-8")
    }
}

/// What `&name;` stands for: one of the five of XML, or a character.
fn referred(reference: &quick_xml::events::BytesRef<'_>) -> Result<Cow<'static, str>, ContentError> {
    let name: &str = reference;
    let text = match name {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "quot" => "\"",
        "apos" => "'",
        _ => {
            return match reference.resolve_char_ref() {
                Ok(Some(character)) if is_xml_char(character) => Ok(character.to_string().into()),
                _ => wrong("it has an entity that is not one of XML's five"),
            };
        }
    };
    Ok(text.into())
}

/// XML 1.0 section 2.2, without the byte order mark.
const fn is_xml_char(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FEFE}' | '\u{FF00}'..='\u{FFFD}' | '\u{10000}'..)
}

/// Whether `name` is a name with at most one prefix.
fn is_qname(name: &str) -> bool {
    match name.split_once(':') {
        Some((prefix, local)) => is_ncname(prefix) && is_ncname(local),
        None => is_ncname(name),
    }
}

/// Whether `name` is a name without a colon (XML Names section 3); of the characters beyond ASCII all are taken.
pub(in crate::tool) fn is_ncname(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || !first.is_ascii())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') || !c.is_ascii())
}

/// Whether `path` is `/name/name` with at least one name.
pub(in crate::tool) fn is_path(path: &str) -> bool {
    path.len() <= 512
        && path
            .strip_prefix('/')
            .is_some_and(|names| names.split('/').all(is_ncname))
}

#[cfg(test)]
mod tests;
