//! What a task asks of a request besides method and path: values in the query, headers, and what its body says.

use http::HeaderName;

use super::content::BodyRule;
use super::template::Variable;
use super::{Task, Template};

/// How long the tool has to answer a look-up.
pub const LOOK_UP_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// What a request must show to be this task's, besides its template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// The one of the tool's hosts that it is asked under.
    pub host: Option<String>,
    /// Query parameters with a fixed value.
    pub query: Vec<(String, String)>,
    /// Headers.
    pub headers: Vec<HeaderDemand>,
    /// The body.
    pub body: Option<BodyRule>,
}

/// A header that must be there, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderDemand {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValueRule,
}

/// What the value of a header must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValueRule {
    /// This text; it tells the task from others.
    Fixed(String),
    /// A parameter.
    Bound {
        /// Its name.
        name: String,
        /// What it accepts; `None` for any text.
        accepts: Option<Variable>,
    },
}

/// `resolve = { get, type, id }`: how a service asks the tool for the parent of a thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolve {
    /// The look-up as a task of its own, which no request can match and only the service may do.
    pub task: std::sync::Arc<Task>,
    /// Path of the look-up, with `{parameter}`s of the asking task.
    pub get: Vec<Piece>,
    /// Type of the parent.
    pub kind: String,
    /// JSON pointer of the parent's id in the answer.
    pub id: String,
}

/// A part of the path of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A segment as it is sent.
    Text(String),
    /// The value of a parameter, as one segment.
    Parameter(String),
}

impl Demands {
    fn fixed_headers(&self) -> impl Iterator<Item = (&HeaderName, &str)> {
        self.headers.iter().filter_map(|header| match &header.value {
            HeaderValueRule::Fixed(value) => Some((&header.name, value.as_str())),
            HeaderValueRule::Bound { .. } => None,
        })
    }

    /// In words for an administrator.
    pub(super) fn shown(&self) -> Vec<String> {
        let mut words: Vec<String> = self.host.iter().map(|host| format!("host {host}")).collect();
        words.extend(self.query.iter().map(|(name, value)| format!("?{name}={value}")));
        words.extend(self.headers.iter().map(|header| match &header.value {
            HeaderValueRule::Fixed(value) => format!("{}: {value}", header.name),
            HeaderValueRule::Bound { name, .. } => format!("{}: {{{name}}}", header.name),
        }));
        if let Some(body) = &self.body {
            let operation = body
                .operation
                .iter()
                .map(|(namespace, local)| format!(" {{{namespace}}}{local}"));
            let equals = body.equals.iter().map(|(at, text)| format!(" {at}={text}"));
            let taken = body
                .take
                .iter()
                .map(|taken| format!(" {}={{{}}}", taken.at, taken.name));
            let parts: String = operation.chain(equals).chain(taken).collect();
            words.push(format!("{} body{parts}", body.language.as_str()));
        }
        words
    }

    /// Whether no request shows both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        let query = self
            .query
            .iter()
            .any(|(name, value)| other.query.iter().any(|(n, v)| n == name && v != value));
        let headers = self
            .fixed_headers()
            .any(|(name, value)| other.fixed_headers().any(|(n, v)| n == name && v != value));
        let bodies = match (&self.body, &other.body) {
            (Some(body), Some(other)) => body.excludes(other),
            _ => false,
        };
        let hosts = self.host.is_some() && other.host.is_some() && self.host != other.host;
        hosts || query || headers || bodies
    }

    /// Whether whatever shows this shows `other` too.
    pub(super) fn narrows(&self, other: &Self) -> bool {
        let headers: Vec<_> = self.fixed_headers().collect();
        let body = match (&self.body, &other.body) {
            (Some(body), Some(other)) => body.narrows(other),
            (None, Some(_)) => false,
            (_, None) => true,
        };
        let bound = |demand: &&HeaderDemand| matches!(demand.value, HeaderValueRule::Bound { .. });
        let host = other.host.is_none() || self.host == other.host;
        host && body
            && other.query.iter().all(|one| self.query.contains(one))
            && other.fixed_headers().all(|one| headers.contains(&one))
            && other
                .headers
                .iter()
                .filter(bound)
                .all(|one| self.headers.iter().any(|header| header.name == one.name))
    }
}

/// The tasks that a task is within, nearest first; ends where a name is unknown, or comes round.
pub(super) fn wider<'a>(task: &'a Task, find: impl Fn(&str) -> Option<&'a Task>) -> Vec<&'a Task> {
    let mut all: Vec<&Task> = Vec::new();
    let mut next = task.within.as_deref();
    while let Some(wider) = next.and_then(&find) {
        if wider.name == task.name || all.iter().any(|seen| seen.name == wider.name) {
            break;
        }
        next = wider.within.as_deref();
        all.push(wider);
    }
    all
}

/// A request that two tasks could both be named by, or `None` when there is none: their templates are apart, what they
/// demand is, or one of them is `within` the other.
pub(super) fn overlap<'a>(
    (first, template): (&'a Task, &Template),
    (second, other): (&'a Task, &Template),
    find: impl Fn(&str) -> Option<&'a Task> + Copy,
) -> Option<String> {
    let example = template.overlap(other)?;
    let is_within =
        |one: &'a Task, other: &Task| wider(one, find).iter().any(|wider| wider.name == other.name);
    let told_apart = first.demands.excludes(&second.demands)
        || (first.name != second.name && (is_within(first, second) || is_within(second, first)));
    (!told_apart).then_some(example)
}
