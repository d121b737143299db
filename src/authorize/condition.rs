//! Conditions of grants: parsed as one expression, checked against the task's schema before they are stored.

use std::fmt;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Expression, pst};

use crate::problem::{AsProblem, Kind, Problem};

/// Longest condition in bytes.
pub(super) const LONGEST: usize = 1_000;
/// Deepest nesting of brackets.
const DEEPEST: usize = 20;
/// Most operators, dots and `if`s: each can be one more level of the tree.
const MOST_OPERATORS: usize = 100;

/// Why a condition is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// The tool has no such task.
    #[error("the tool `{tool}` has no task `{task}`")]
    NoTask {
        /// Tool.
        tool: String,
        /// Task.
        task: String,
    },
    /// The tool is not there.
    #[error("there is no tool `{0}`")]
    NoTool(String),
    /// `own` on a task that acts on nothing that could have an owner.
    #[error(
        "`own` does not fit `{0}`, which acts on no resource and filters no list; leave the condition out, or name a task with `resource` or `filter`"
    )]
    NothingToOwn(String),
    /// Not one Cedar expression.
    #[error("the condition is not an expression: {message} ({at})")]
    Syntax {
        /// What the parser found.
        message: String,
        /// Where.
        at: At,
    },
    /// An expression that does not fit the task's schema.
    #[error("the condition does not fit the task: {0}")]
    Invalid(String),
    /// An attribute that nothing declares, so that the condition could never hold as it was meant.
    #[error("the condition does not fit the task: nothing declares `{attribute}` (declared: {declared})")]
    Undeclared {
        /// The attribute, with what it is looked for in.
        attribute: String,
        /// What there is.
        declared: String,
    },
    /// Nested deeper, or of more parts, than the limit.
    #[error(
        "the condition is too complex: at most {DEEPEST} levels of brackets and {MOST_OPERATORS} operators, dots and `if`s"
    )]
    TooComplex,
    /// Longer than the limit.
    #[error("the condition is longer than {LONGEST} bytes")]
    TooLong,
    /// The task has as many conditions as a bucket holds.
    #[error("the task has {0} different conditions already, which is the most that one task may have")]
    TooMany(usize),
}

/// A place in a condition's text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl AsProblem for ConditionError {
    fn as_problem(&self) -> Problem {
        let problem = Problem::new(Kind::Invalid, self.to_string()).with("field", "when");
        match self {
            Self::Syntax { at, .. } => problem.with("line", at.line).with("column", at.column),
            _ => problem,
        }
    }
}

/// Parses a condition as exactly one expression.
///
/// SECURITY: the text never becomes part of another text: it is parsed by itself, so it cannot close a clause and open
/// a policy of its own.
pub(super) fn expression(text: &str) -> Result<pst::Expr, ConditionError> {
    if text.len() > LONGEST {
        return Err(ConditionError::TooLong);
    }
    if is_too_complex(text) {
        return Err(ConditionError::TooComplex);
    }
    let parsed: Expression = text.parse().map_err(|errors| syntax(text, &errors))?;
    pst::Expr::try_from(parsed.as_ref().clone()).map_err(|error| ConditionError::Invalid(error.to_string()))
}

/// Whether the tree of an expression could be too high.
///
/// SECURITY: Cedar's parser, validator and destructor recurse along brackets and along chains of operators, and some
/// hundred levels would overflow the stack, which ends the whole gateway. Strings are left out; what is counted may be
/// more than there is, never less.
fn is_too_complex(text: &str) -> bool {
    let (mut open, mut deepest, mut operators) = (0_usize, 0_usize, 0_usize);
    let (mut in_string, mut escaped, mut in_comment, mut before) = (false, false, false, 0);
    for byte in text.bytes() {
        match byte {
            _ if in_comment => in_comment = byte != b'\n',
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'(' | b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
                operators += usize::from(byte == b'[');
            }
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'+' | b'-' | b'*' | b'.' | b'!' => operators += 1,
            b'/' if before == b'/' => in_comment = true,
            b'&' | b'|' | b':' if before == byte => operators += 1,
            b'f' if before == b'i' => operators += 1,
            _ => {}
        }
        before = byte;
    }
    deepest > DEEPEST || operators > MOST_OPERATORS
}

fn syntax(text: &str, errors: &cedar_policy::ParseErrors) -> ConditionError {
    let detailed = DetailedError::from(errors);
    let start = detailed
        .source_locations
        .first()
        .map_or(0, |label| label.loc.start);
    let before = text.get(..start.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    ConditionError::Syntax {
        message: detailed.message,
        at: At { line, column },
    }
}
