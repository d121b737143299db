//! Why a command failed, with its exit code: 1 failed, 2 usage, 3 refused, 4 not found, 5 unreachable.

use std::fmt;
use std::io;

use serde_json::{Value, json};

use super::output::{Closed, plain};

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// One sentence.
    pub(crate) message: String,
    /// What to do about it, where we know.
    pub(crate) hint: Option<String>,
    /// The gateway's problem document, where there is one.
    pub(crate) problem: Option<Box<Value>>,
}

impl Failure {
    /// Failed (exit code 1).
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            message: message.into(),
            hint: None,
            problem: None,
        }
    }

    /// Used wrongly (exit code 2).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: 2,
            ..Self::failed(message)
        }
    }

    /// Nothing there (exit code 4).
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: 4,
            ..Self::failed(message)
        }
    }

    /// Not reached (exit code 5).
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self {
            code: 5,
            ..Self::failed(message)
        }
    }

    /// The same, with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// From a problem document (RFC 9457) of the gateway.
    pub(crate) fn from_problem(status: u16, document: Value) -> Self {
        let text = |name: &str| document.get(name).and_then(Value::as_str).map(plain);
        let code = match status {
            401 | 403 | 429 => 3,
            404 => 4,
            _ => 1,
        };
        let title = text("title").unwrap_or_else(|| format!("the gateway answered {status}"));
        let mut message = match text("detail") {
            Some(detail) => format!("{title}: {detail}"),
            None => title,
        };
        if let Some(id) = text("request_id") {
            message.push_str(&format!(" (request {id})"));
        }
        Self {
            code,
            message,
            hint: text("next"),
            problem: Some(Box::new(document)),
        }
    }

    /// Whether the gateway answered with this type of problem.
    pub(crate) fn is_problem(&self, name: &str) -> bool {
        let kind = self
            .problem
            .as_ref()
            .and_then(|problem| problem.get("type"))
            .and_then(Value::as_str);
        kind.is_some_and(|kind| kind.rsplit('/').next() == Some(name))
    }

    /// All that is wrong, where the problem lists it: lines of a manifest, rows of a file.
    fn flaws(&self) -> impl Iterator<Item = String> + '_ {
        let errors = self
            .problem
            .as_ref()
            .and_then(|problem| problem.get("errors"))
            .and_then(Value::as_array);
        errors
            .into_iter()
            .flatten()
            .map(|error| plain(&error.as_str().map_or_else(|| error.to_string(), str::to_owned)))
    }

    /// Not a failure at all: whoever read the output has seen enough.
    pub(crate) fn is_closed(&self) -> bool {
        self.code == 0
    }

    /// The document that `--json` prints on standard error.
    pub(crate) fn document(&self) -> Value {
        json!({ "error": self.message, "hint": self.hint, "exit_code": self.code, "problem": self.problem })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for flaw in self.flaws() {
            write!(f, "\n  {flaw}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: anyhow::Error = error.into();
        let closed = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if closed.is_some_and(|cause| cause.is::<Closed>()) {
            return Self {
                code: 0,
                ..Self::failed("")
            };
        }
        Self::failed(format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_refused_from_not_found_from_failed() {
        for (status, code) in [
            (401, 3),
            (403, 3),
            (429, 3),
            (404, 4),
            (409, 1),
            (422, 1),
            (503, 1),
        ] {
            assert_eq!(Failure::from_problem(status, Value::Null).code, code, "{status}");
        }
    }

    #[test]
    fn a_problem_is_shown_with_what_to_do_and_its_request() {
        let document = json!({ "title": "No", "detail": "not so", "next": "Ask.", "request_id": "r1" });
        let failure = Failure::from_problem(403, document.clone());
        assert_eq!(failure.to_string(), "error: No: not so (request r1)\nhint: Ask.");
        let listed = json!({ "title": "No", "errors": ["line 1\u{1b}", "line 2"] });
        assert_eq!(
            Failure::from_problem(422, listed).to_string(),
            "error: No\n  line 1\u{fffd}\n  line 2"
        );
        assert_eq!(failure.document()["problem"], document);
        assert_eq!(failure.document()["exit_code"], 3);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::from(io::Error::new(io::ErrorKind::BrokenPipe, Closed));
        assert!(failure.is_closed());
        assert!(!Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed());
    }
}
