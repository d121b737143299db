//! From method and target to the one task that names the request.
//!
//! The templates of a tool stand in a tree, one level per segment. Where two templates can match one path, their tasks are
//! told apart by what else they demand (a value in the query, a header, the body), or one is `within` the other; anything
//! else is refused when the tool is built. So the order of the tree decides nothing, and a request has one meaning.
//!
//! What tells tasks apart is read in one way only: a second value of it, or a name that tools could take for it, refuses the
//! request, so that a tool can never obey what was not judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, Method, header};

use super::content::{BodyRule, Content, ContentError};
use super::demand::{HeaderValueRule, overlap, wider};
use super::target::{Target, TargetError};
use super::template::{Part, Template, TemplateError, Variable, fold_case};
use super::{Found, Parameters, ResourceRef, Task, Tool};
use crate::problem::{AsProblem, Kind, Problem};

/// Longest id of a resource in bytes.
pub const MAX_ID: usize = 512;

/// The templates of a tool's tasks as a tree.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    methods: Vec<(Method, Node)>,
    path_parameters: bool,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: BTreeMap<String, Node>,
    variables: Vec<(Variable, Node)>,
    rest: Vec<Leaf>,
    here: Vec<Leaf>,
}

#[derive(Clone, Debug)]
struct Leaf {
    task: usize,
    template: Template,
}

/// Why tasks cannot stand beside each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A template cannot be read.
    #[error("the task `{task}` {error}")]
    Template {
        /// The task.
        task: String,
        /// Why.
        #[source]
        error: TemplateError,
    },
    /// One request could match two templates.
    #[error("the tasks `{first}` and `{second}` overlap: both match `{example}`")]
    Overlap {
        /// The task that stands first.
        first: String,
        /// The other one (or the same, when it repeats itself).
        second: String,
        /// A request that both match.
        example: String,
    },
}

/// Why a request that a task names is refused all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// The query has a parameter that the task does not name.
    #[error("the task `{task}` does not take the query parameter `{name}`; it takes: {accepted}")]
    UnknownParameter {
        /// The task.
        task: String,
        /// The parameter.
        name: String,
        /// What it takes, as a list in words.
        accepted: String,
    },
    /// A parameter that the task names stands there twice.
    #[error(
        "the query parameter `{name}` stands there twice, or in another spelling; the task `{task}` takes it once"
    )]
    Repeated {
        /// The task.
        task: String,
        /// The parameter.
        name: String,
    },
    /// A parameter that changes the method for some frameworks.
    #[error("the query parameter `{name}` could change the method for the tool, so it is always refused")]
    MethodOverride {
        /// The parameter.
        name: String,
    },
    /// A header that tasks here look at is absent, twice there, or not one that they take.
    #[error("the task `{task}` needs the header `{name}` once, with a value that it takes")]
    Header {
        /// The task.
        task: String,
        /// The header.
        name: String,
    },
    /// A parameter in the body is absent or not one that the task takes.
    #[error("the task `{task}` needs the parameter `{name}`, which stands at `{at}` in the body")]
    BodyParameter {
        /// The task.
        task: String,
        /// The parameter.
        name: String,
        /// Where it stands.
        at: String,
    },
    /// Nothing in query, headers or body tells which task it is.
    #[error("tasks name this method and path, and host, query, headers and body are of none of them")]
    Unfit,
    /// The body cannot be read in one way.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The parameter that names the resource is absent, empty or too long.
    #[error("the task `{task}` needs the parameter `{name}`, with 1 to {MAX_ID} bytes")]
    Resource {
        /// The task.
        task: String,
        /// The parameter.
        name: String,
    },
}

impl AsProblem for FindError {
    fn as_problem(&self) -> Problem {
        let kind = match self {
            Self::Content(ContentError::TooLarge(_)) => Kind::TooLarge,
            _ => Kind::Malformed,
        };
        Problem::new(kind, self.to_string())
    }
}

/// Why a line such as `GET /jobs/7` cannot be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryError {
    /// Not a method and a target.
    #[error(
        "`{0}` is not a request; accepted: a method in capital letters, a space and a path, e.g. `GET /jobs/7`"
    )]
    NotARequest(String),
    /// The target is not canonical.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The task refuses the query.
    #[error(transparent)]
    Find(#[from] FindError),
}

impl AsProblem for TryError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::NotARequest(_) => Problem::new(Kind::Invalid, self.to_string()),
            Self::Target(error) => error.as_problem(),
            Self::Find(error) => error.as_problem(),
        }
    }
}

/// The part of a request that names its task.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a Method,
    /// Canonical target.
    pub target: &'a Target,
    /// Which of the tool's own hosts it came in by; `None` in the path form.
    pub host: Option<&'a str>,
    /// Headers, as they came.
    pub headers: &'a HeaderMap,
    /// The whole body, where it was read.
    pub body: Option<&'a [u8]>,
}

/// What a request is to a tool.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// No task names it.
    Nothing,
    /// This task names it.
    Task(Box<Found>),
    /// Its body decides, and was not read: at most so many bytes are to be.
    Body(u64),
}

impl Tool {
    /// The task that names a request, with its parameters and its resource.
    ///
    /// A `HEAD` is matched where the same `GET` is. Of several tasks that a request shows everything of, the one that is
    /// `within` the others is meant; that there is one was checked when the tool was built.
    ///
    /// # Errors
    /// [`FindError`] when tasks name the path, but the rest of the request is not one that they take.
    pub fn find(&self, asked: &Asked<'_>) -> Result<Lookup, FindError> {
        let folded: Vec<String>;
        let segments = if self.case_insensitive {
            folded = asked
                .target
                .segments()
                .iter()
                .map(|segment| fold_case(segment))
                .collect();
            &folded
        } else {
            asked.target.segments()
        };
        let mut leaves = Vec::new();
        self.routes.leaves(asked.method, segments, &mut leaves);
        let mut candidates = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            match self.tasks.get(leaf.task) {
                Some(task) if leaf.writes_out(segments) => candidates.push((leaf, task)),
                _ => {}
            }
        }
        if candidates.is_empty() {
            return Ok(Lookup::Nothing);
        }
        check_query(&candidates, asked.target)?;
        check_headers(&candidates, asked.headers)?;
        candidates.retain(|(_, task)| shows(task, asked));
        let rules: Vec<&BodyRule> = candidates
            .iter()
            .filter_map(|(_, task)| task.demands.body.as_ref())
            .collect();
        let Some(bytes) = asked.body.or((rules.is_empty()).then_some(&[])) else {
            return Ok(Lookup::Body(
                rules.iter().map(|rule| rule.limit).max().unwrap_or(0),
            ));
        };
        if let Some(rule) = candidates.iter().find(|(_, task)| task.demands.body.is_some()) {
            let told = [header::CONTENT_TYPE.as_str(), "soapaction"];
            if let Some(name) = told.into_iter().find(|name| ends_here(asked.headers, name)) {
                return Err(FindError::Header {
                    task: rule.1.name.clone(),
                    name: name.to_owned(),
                });
            }
        }
        let content = match rules.as_slice() {
            [] => None,
            rules => Content::read(rules, asked.headers, bytes)?,
        };
        let mut chosen = Vec::with_capacity(1);
        for (leaf, task) in candidates {
            let fits = match (&task.demands.body, &content) {
                (None, _) => true,
                (Some(rule), Some(content)) => rule.fits(content)?,
                (Some(_), None) => false,
            };
            if fits {
                chosen.push((leaf, task));
            }
        }
        let by_name = |name: &str| {
            self.tasks
                .iter()
                .map(AsRef::as_ref)
                .find(|task| task.name == name)
        };
        // INVARIANT: tasks that overlap are nested (`Routes::build`), so one of them is within all others.
        let narrowest = chosen.iter().find(|(_, task)| {
            chosen.len() == 1 || {
                let wider = wider(task, by_name);
                let within = |name: &str| name == task.name || wider.iter().any(|wider| wider.name == name);
                chosen.iter().all(|(_, other)| within(&other.name))
            }
        });
        let Some((leaf, task)) = narrowest else {
            return Err(FindError::Unfit);
        };
        let mut parameters = leaf.parameters(segments);
        take_query(task, asked.target, &mut parameters)?;
        take_headers(task, asked.headers, &mut parameters)?;
        take_body(task, content.as_ref(), bytes, &mut parameters)?;
        let resource = self.resource_of(task, &parameters)?;
        Ok(Lookup::Task(Box::new(Found {
            task: Arc::clone(task),
            parameters,
            resource,
        })))
    }

    /// Tries a line such as `GET /jobs/7`, as [`Tool::find`] would be asked. Nothing is sent. `None` for no task.
    ///
    /// # Errors
    /// [`TryError`] when the line is not a request, or would be refused whatever the tasks say.
    pub fn try_request(&self, line: &str) -> Result<Option<Found>, TryError> {
        self.try_whole(line, &HeaderMap::new(), &[])
    }

    /// The same for a request with headers and a body.
    ///
    /// # Errors
    /// As [`Tool::try_request`].
    pub fn try_whole(&self, line: &str, headers: &HeaderMap, body: &[u8]) -> Result<Option<Found>, TryError> {
        let not_a_request = || TryError::NotARequest(line.to_owned());
        let (method, target) = line.trim().split_once(' ').ok_or_else(not_a_request)?;
        if !method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            return Err(not_a_request());
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| not_a_request())?;
        let target = Target::parse(target)?;
        if let Some(at) = target.path_parameter().filter(|_| !self.takes_path_parameters()) {
            return Err(TargetError::PathParameter { at }.into());
        }
        let host = headers
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok());
        let host = host.and_then(|host| host.split(':').next());
        let found = self.find(&Asked {
            method: &method,
            target: &target,
            host,
            headers,
            body: Some(body),
        })?;
        Ok(match found {
            Lookup::Task(found) => Some(*found),
            Lookup::Nothing | Lookup::Body(_) => None,
        })
    }

    /// Whether a template of it writes out path parameters (`;`); else no request may have any.
    #[must_use]
    pub const fn takes_path_parameters(&self) -> bool {
        self.routes.path_parameters
    }

    /// An id as it is compared: in one spelling, where the tool folds capital and small letters.
    #[must_use]
    pub fn id_of(&self, id: &str) -> String {
        if self.case_insensitive {
            fold_case(id)
        } else {
            id.to_owned()
        }
    }

    fn resource_of(&self, task: &Task, parameters: &Parameters) -> Result<Option<ResourceRef>, FindError> {
        let Some(rule) = &task.resource else {
            return Ok(None);
        };
        let id = match rule.parameter() {
            None => rule.id.clone(),
            Some(name) => match parameters.get(name) {
                Some(id) if is_id(id) => self.id_of(id),
                _ => {
                    return Err(FindError::Resource {
                        task: task.name.clone(),
                        name: name.to_owned(),
                    });
                }
            },
        };
        Ok(Some(ResourceRef {
            kind: rule.kind.clone(),
            id,
        }))
    }
}

impl Routes {
    /// Makes the tree of all templates of `tasks`; `case_insensitive` where the tool does not tell capital letters from
    /// small ones.
    ///
    /// # Errors
    /// The first [`RouteError`]: a template that cannot be read, or two templates that one request could match.
    pub fn build(tasks: &[Arc<Task>], case_insensitive: bool) -> Result<Self, RouteError> {
        let mut all = Vec::new();
        for (index, task) in tasks.iter().enumerate() {
            for text in &task.matches {
                let template = Template::parse(text).map_err(|error| RouteError::Template {
                    task: task.name.clone(),
                    error,
                })?;
                let template = if case_insensitive {
                    template.folded()
                } else {
                    template
                };
                all.push((index, task.as_ref(), template));
            }
        }
        let by_name = |name: &str| tasks.iter().map(AsRef::as_ref).find(|task| task.name == name);
        for (at, (_, first, template)) in all.iter().enumerate() {
            for (_, second, other) in all.iter().skip(at + 1) {
                if let Some(example) = overlap((first, template), (second, other), by_name) {
                    return Err(RouteError::Overlap {
                        first: first.name.clone(),
                        second: second.name.clone(),
                        example,
                    });
                }
            }
        }
        let mut routes = Self::default();
        for (task, _, template) in all {
            routes.path_parameters |= template.has_path_parameters();
            routes.insert(task, template);
        }
        Ok(routes)
    }

    fn insert(&mut self, task: usize, template: Template) {
        let mut node = entry(&mut self.methods, template.method().clone());
        for part in template.parts() {
            node = match part {
                Part::Literal(literal) => node.literals.entry(literal.clone()).or_default(),
                Part::Variable(_, Variable::Rest) => {
                    node.rest.push(Leaf { task, template });
                    return;
                }
                Part::Variable(_, variable) => entry(&mut node.variables, *variable),
            };
        }
        node.here.push(Leaf { task, template });
    }

    /// All leaves that a path leads to.
    fn leaves<'a>(&'a self, method: &Method, segments: &[String], found: &mut Vec<&'a Leaf>) {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        if let Some((_, node)) = self.methods.iter().find(|(known, _)| known == method) {
            node.leaves(segments, found);
        }
    }
}

fn entry<K: PartialEq>(entries: &mut Vec<(K, Node)>, key: K) -> &mut Node {
    let at = entries
        .iter()
        .position(|(known, _)| *known == key)
        .unwrap_or(entries.len());
    if at == entries.len() {
        entries.push((key, Node::default()));
    }
    #[expect(clippy::indexing_slicing, reason = "pushed above when it was not there")]
    &mut entries[at].1
}

impl Node {
    /// Visits each node at most once, so the work is bounded by the size of the manifest.
    fn leaves<'a>(&'a self, segments: &[String], found: &mut Vec<&'a Leaf>) {
        let Some((segment, after)) = segments.split_first() else {
            found.extend(&self.here);
            return;
        };
        if let Some(node) = self.literals.get(segment) {
            node.leaves(after, found);
        }
        for (variable, node) in &self.variables {
            if variable.accepts(segment) {
                node.leaves(after, found);
            }
        }
        if Variable::Rest.accepts(segment) {
            found.extend(&self.rest);
        }
    }
}

impl Leaf {
    /// Whether every path parameter stands in a segment that the template writes out.
    fn writes_out(&self, segments: &[String]) -> bool {
        segments
            .iter()
            .enumerate()
            .filter(|(_, segment)| segment.contains(';'))
            .all(|(index, _)| matches!(self.template.parts().get(index), Some(Part::Literal(_))))
    }

    fn parameters(&self, segments: &[String]) -> Parameters {
        let mut parameters = Parameters::new();
        for (index, part) in self.template.parts().iter().enumerate() {
            let value = match part {
                Part::Literal(_) => continue,
                Part::Variable(_, Variable::Rest) => segments.get(index..).map(|rest| rest.join("/")),
                Part::Variable(..) => segments.get(index).cloned(),
            };
            if let (Part::Variable(name, _), Some(value)) = (part, value) {
                parameters.insert(name.clone(), value);
            }
        }
        parameters
    }
}

/// A task with the template by which it was found.
type Candidate<'a> = (&'a Leaf, &'a Arc<Task>);

/// Refuses what no task may be asked with: a parameter that changes the method, and two values where one tells tasks apart.
fn check_query(candidates: &[Candidate<'_>], target: &Target) -> Result<(), FindError> {
    for (name, _) in target.query() {
        // SECURITY: a tool that obeys one of these would do something else than what was judged.
        if is_method_override(name) {
            return Err(FindError::MethodOverride { name: name.clone() });
        }
    }
    for (_, task) in candidates {
        for (known, _) in &task.demands.query {
            // SECURITY: `Action` and `action[]` are `action` for some frameworks.
            let folded = folded_name(known);
            let mut twins = target
                .query()
                .iter()
                .filter(|(name, _)| folded_name(name) == folded);
            if let (Some((name, _)), second) = (twins.next(), twins.next())
                && (name != known || second.is_some())
            {
                return Err(FindError::Repeated {
                    task: task.name.clone(),
                    name: known.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Whether `Connection` says that a header ends at this hop: then the tool does not get it.
fn ends_here(headers: &HeaderMap, name: &str) -> bool {
    let named = headers.get_all(header::CONNECTION).iter();
    named
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// A header that any task here looks at stands there at most once, can be read, and reaches the tool.
fn check_headers(candidates: &[Candidate<'_>], headers: &HeaderMap) -> Result<(), FindError> {
    for (_, task) in candidates {
        for demand in &task.demands.headers {
            let mut values = headers.get_all(&demand.name).iter();
            let readable = values.next().is_none_or(|value| value.to_str().is_ok());
            // SECURITY: what was judged is what the tool gets; `Connection` could take it away on the way there.
            if !readable || values.next().is_some() || ends_here(headers, demand.name.as_str()) {
                return Err(FindError::Header {
                    task: task.name.clone(),
                    name: demand.name.to_string(),
                });
            }
        }
    }
    Ok(())
}

/// Whether host, query and headers show what tells the task from others.
fn shows(task: &Task, asked: &Asked<'_>) -> bool {
    let query = task
        .demands
        .query
        .iter()
        .all(|(name, value)| asked.target.query().iter().any(|(n, v)| n == name && v == value));
    let host = task.demands.host.is_none() || task.demands.host.as_deref() == asked.host;
    host && query
        && task.demands.headers.iter().all(|demand| match &demand.value {
            HeaderValueRule::Fixed(fixed) => {
                asked
                    .headers
                    .get(&demand.name)
                    .and_then(|value| value.to_str().ok())
                    == Some(fixed)
            }
            HeaderValueRule::Bound { .. } => true,
        })
}

fn take_query(task: &Task, target: &Target, parameters: &mut Parameters) -> Result<(), FindError> {
    let Some(named) = &task.query else {
        return Ok(());
    };
    for (name, value) in target.query() {
        if task.demands.query.iter().any(|(known, _)| known == name) {
            continue;
        }
        if !named.contains(name) {
            let fixed = task
                .demands
                .query
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            let accepted: Vec<String> = fixed.chain(named.iter().cloned()).collect();
            return Err(FindError::UnknownParameter {
                task: task.name.clone(),
                name: name.clone(),
                accepted: if accepted.is_empty() {
                    "none".to_owned()
                } else {
                    accepted.join(", ")
                },
            });
        }
        if parameters.insert(name.clone(), value.clone()).is_some() {
            return Err(FindError::Repeated {
                task: task.name.clone(),
                name: name.clone(),
            });
        }
    }
    Ok(())
}

fn take_headers(task: &Task, headers: &HeaderMap, parameters: &mut Parameters) -> Result<(), FindError> {
    for demand in &task.demands.headers {
        let HeaderValueRule::Bound { name, accepts } = &demand.value else {
            continue;
        };
        let value = headers.get(&demand.name).and_then(|value| value.to_str().ok());
        let accepted = value.filter(|value| match accepts {
            Some(variable) => variable.accepts(value),
            None => !value.is_empty(),
        });
        let Some(value) = accepted else {
            return Err(FindError::Header {
                task: task.name.clone(),
                name: demand.name.to_string(),
            });
        };
        parameters.insert(name.clone(), value.to_owned());
    }
    Ok(())
}

fn take_body(
    task: &Task,
    content: Option<&Content<'_>>,
    bytes: &[u8],
    parameters: &mut Parameters,
) -> Result<(), FindError> {
    let (Some(rule), Some(content)) = (&task.demands.body, content) else {
        return Ok(());
    };
    if bytes.len() as u64 > rule.limit {
        return Err(ContentError::TooLarge(rule.limit).into());
    }
    let missing = rule.bind(content, |name, value| {
        parameters.insert(name.to_owned(), value);
    })?;
    match missing {
        None => Ok(()),
        Some(taken) => Err(FindError::BodyParameter {
            task: task.name.clone(),
            name: taken.name.clone(),
            at: taken.at.clone(),
        }),
    }
}

/// Whether some framework takes the method from a query parameter of this name (`_method` and its kind), in the spellings
/// that frameworks fold together: case, spaces and dots for `_` at the start, `name[..]` for an array.
pub(super) fn is_method_override(name: &str) -> bool {
    let folded = folded_name(name);
    matches!(
        folded.trim_start_matches('_'),
        "x_http_method_override"
            | "http_method_override"
            | "x_http_method"
            | "x_method_override"
            | "method_override"
            | "httpmethod"
            | "http_method"
            | "requestmethod"
            | "request_method"
    ) || folded == "_method"
}

/// One spelling for the names of parameters that frameworks take for the same: without regard to case, `.`, `-` and spaces
/// as `_`, `name[..]` as `name`.
pub(super) fn folded_name(name: &str) -> String {
    let fold = |c: char| match c {
        ' ' | '.' | '-' => "_".to_owned(),
        c => c.to_lowercase().collect(),
    };
    let plain = name.split('[').next().unwrap_or_default();
    plain.trim().chars().map(fold).collect()
}

/// Whether `id` can be the id of a resource: 1 to 512 bytes without control characters.
#[must_use]
pub fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && !id.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
