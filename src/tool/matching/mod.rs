//! From method and target to the one task that names the request.
//!
//! The templates of a tool stand in a tree, one level per segment. No two templates can match one request (that is
//! refused when the tool is built), so the order of the tree decides nothing, and a request has one meaning.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use super::target::{Target, TargetError};
use super::template::{Part, Template, TemplateError, Variable};
use super::{Found, Parameters, ResourceRef, Task, Tool};
use crate::problem::{AsProblem, Kind, Problem};

/// Longest id of a resource in bytes.
pub const MAX_ID: usize = 512;

/// The templates of a tool's tasks as a tree.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    methods: Vec<(Method, Node)>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: BTreeMap<String, Node>,
    variables: Vec<(Variable, Node)>,
    rest: Option<Leaf>,
    here: Option<Leaf>,
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
    #[error("the query parameter `{name}` stands there twice; the task `{task}` takes it once")]
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
        Problem::new(Kind::Malformed, self.to_string())
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

impl Tool {
    /// The task that names `method` and `target`, with its parameters and its resource; `None` when there is none.
    ///
    /// A `HEAD` is matched where the same `GET` is.
    ///
    /// # Errors
    /// [`FindError`] when a task names the path, but the query is not one that it takes.
    pub fn find(&self, method: &Method, target: &Target) -> Result<Option<Found>, FindError> {
        let Some(leaf) = self.routes.leaf(method, target.segments()) else {
            return Ok(None);
        };
        let Some(task) = self.tasks.get(leaf.task) else {
            return Ok(None);
        };
        let mut parameters = leaf.parameters(target.segments());
        take_query(task, target, &mut parameters)?;
        let resource = resource_of(task, &parameters)?;
        Ok(Some(Found {
            task: Arc::clone(task),
            parameters,
            resource,
        }))
    }

    /// Tries a line such as `GET /jobs/7`, as [`Tool::find`] would be asked. Nothing is sent.
    ///
    /// # Errors
    /// [`TryError`] when the line is not a request, or would be refused whatever the tasks say.
    pub fn try_request(&self, line: &str) -> Result<Option<Found>, TryError> {
        let not_a_request = || TryError::NotARequest(line.to_owned());
        let (method, target) = line.trim().split_once(' ').ok_or_else(not_a_request)?;
        if !method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            return Err(not_a_request());
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| not_a_request())?;
        Ok(self.find(&method, &Target::parse(target)?)?)
    }
}

impl Routes {
    /// Makes the tree of all templates of `tasks`.
    ///
    /// # Errors
    /// The first [`RouteError`]: a template that cannot be read, or two templates that one request could match.
    pub fn build(tasks: &[Arc<Task>]) -> Result<Self, RouteError> {
        let mut all = Vec::new();
        for (index, task) in tasks.iter().enumerate() {
            for text in &task.matches {
                let template = Template::parse(text).map_err(|error| RouteError::Template {
                    task: task.name.clone(),
                    error,
                })?;
                all.push((index, template));
            }
        }
        for (at, (first, template)) in all.iter().enumerate() {
            for (second, other) in all.iter().skip(at + 1) {
                if let Some(example) = template.overlap(other) {
                    let name = |index: &usize| {
                        tasks
                            .get(*index)
                            .map_or_else(String::new, |task| task.name.clone())
                    };
                    return Err(RouteError::Overlap {
                        first: name(first),
                        second: name(second),
                        example,
                    });
                }
            }
        }
        let mut routes = Self::default();
        for (task, template) in all {
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
                    node.rest = Some(Leaf { task, template });
                    return;
                }
                Part::Variable(_, variable) => entry(&mut node.variables, *variable),
            };
        }
        node.here = Some(Leaf { task, template });
    }

    fn leaf(&self, method: &Method, segments: &[String]) -> Option<&Leaf> {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let (_, node) = self.methods.iter().find(|(known, _)| known == method)?;
        node.leaf(segments)
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
    fn leaf(&self, segments: &[String]) -> Option<&Leaf> {
        let Some((segment, after)) = segments.split_first() else {
            return self.here.as_ref();
        };
        let literal = self.literals.get(segment).and_then(|node| node.leaf(after));
        literal
            .or_else(|| {
                self.variables
                    .iter()
                    .filter(|(variable, _)| variable.accepts(segment))
                    .find_map(|(_, node)| node.leaf(after))
            })
            .or_else(|| self.rest.as_ref().filter(|_| Variable::Rest.accepts(segment)))
    }
}

impl Leaf {
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

fn take_query(task: &Task, target: &Target, parameters: &mut Parameters) -> Result<(), FindError> {
    for (name, value) in target.query() {
        // SECURITY: a tool that obeys one of these would do something else than what was judged.
        if is_method_override(name) {
            return Err(FindError::MethodOverride { name: name.clone() });
        }
        let Some(named) = &task.query else {
            continue;
        };
        if !named.contains(name) {
            return Err(FindError::UnknownParameter {
                task: task.name.clone(),
                name: name.clone(),
                accepted: if named.is_empty() {
                    "none".to_owned()
                } else {
                    named.join(", ")
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

/// Whether some framework takes the method from a query parameter of this name (`_method` and its kind), in the spellings
/// that frameworks fold together: case, spaces and dots for `_` at the start, `name[..]` for an array.
pub(super) fn is_method_override(name: &str) -> bool {
    let folded: String = name
        .split('[')
        .next()
        .unwrap_or_default()
        .trim()
        .chars()
        .map(|c| match c {
            ' ' | '.' | '-' => '_',
            c => c.to_ascii_lowercase(),
        })
        .collect();
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

fn resource_of(task: &Task, parameters: &Parameters) -> Result<Option<ResourceRef>, FindError> {
    let Some(rule) = &task.resource else {
        return Ok(None);
    };
    let id = match rule.parameter() {
        None => rule.id.clone(),
        Some(name) => match parameters.get(name) {
            Some(id) if is_id(id) => id.clone(),
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

/// Whether `id` can be the id of a resource: 1 to 512 bytes without control characters.
#[must_use]
pub fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && !id.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
