//! How a permitted request ends, before it is written down.

use http::StatusCode;

use crate::forward::ForwardError;
use crate::gateway::flow;
use crate::gateway::lease::Why;
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{CreatedEntry, DeletedEntry, Ending};

/// How a request ended, before it is written down.
pub(super) struct End {
    pub(super) ending: Ending,
    pub(super) status: Option<u16>,
    pub(super) tool_status: Option<u16>,
    pub(super) error: Option<String>,
    pub(super) created: Vec<CreatedEntry>,
    pub(super) deleted: Vec<DeletedEntry>,
}

/// An end without an answer of the tool: what is written down, and what the client hears.
pub(super) type Failure = Box<(End, Problem)>;

impl End {
    pub(super) const fn new(ending: Ending) -> Self {
        Self {
            ending,
            status: None,
            tool_status: None,
            error: None,
            created: Vec::new(),
            deleted: Vec::new(),
        }
    }

    pub(super) fn answered(status: StatusCode) -> Self {
        Self {
            status: Some(status.as_u16()),
            ..Self::new(Ending::Answered)
        }
    }

    pub(super) fn problem(ending: Ending, problem: &Problem) -> Self {
        Self {
            status: Some(problem.kind.status()),
            error: Some(problem.kind.name().into()),
            ..Self::new(ending)
        }
    }

    pub(super) fn failure(ending: Ending, problem: Problem) -> Failure {
        Box::new((Self::problem(ending, &problem), problem))
    }
}

impl From<Why> for Failure {
    /// The lease ended before there was an answer.
    fn from(why: Why) -> Self {
        let (ending, word) = why.told();
        let (word, problem) = (word.to_owned(), why.problem());
        let end = End {
            error: Some(word),
            ..End::problem(ending, &problem)
        };
        Box::new((end, problem))
    }
}

impl From<ForwardError> for Failure {
    fn from(error: ForwardError) -> Self {
        let problem = too_large(&error).unwrap_or_else(|| error.as_problem());
        let ending = if error.sent() {
            Ending::ToolFailed
        } else {
            Ending::NotSent
        };
        let end = End {
            error: Some(error.word().into()),
            ..End::problem(ending, &problem)
        };
        Box::new((end, problem))
    }
}

/// The lease ended in the middle of an answer.
pub(super) fn cut(why: &Why, status: StatusCode) -> End {
    let (ending, word) = why.told();
    End {
        status: Some(status.as_u16()),
        error: Some(word.to_owned()),
        ..End::new(ending)
    }
}

/// A request body past its task's limit, which broke off on its way to the tool.
fn too_large(error: &ForwardError) -> Option<Problem> {
    let ForwardError::BodyBroke(cause) = error else {
        return None;
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**cause);
    while let Some(error) = cause {
        if let Some(flow::TooLarge(limit)) = error.downcast_ref() {
            return Some(Problem::new(
                Kind::TooLarge,
                format!("this task takes at most {limit} bytes"),
            ));
        }
        cause = error.source();
    }
    None
}
