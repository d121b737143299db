//! Why a command failed, with its exit code: 1 failed, 2 usage, 3 refused, 4 not found, 5 unreachable.

use std::fmt;

use serde_json::Value;

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
    pub(crate) problem: Option<Value>,
}

impl Failure {
    /// Failed (exit code 1).
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), hint: None, problem: None }
    }

    /// Used wrongly (exit code 2).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, ..Self::failed(message) }
    }

    /// Nothing there (exit code 4).
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { code: 4, ..Self::failed(message) }
    }

    /// Not reached (exit code 5).
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { code: 5, ..Self::failed(message) }
    }

    /// The same, with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// From a problem document (RFC 9457) of the gateway.
    pub(crate) fn from_problem(status: u16, document: Value) -> Self {
        let text = |name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
        let code = match status {
            401 | 403 | 429 => 3,
            404 => 4,
            400 | 409 | 413 | 422 => 1,
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
        Self { code, message, hint: text("next"), problem: Some(document) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: anyhow::Error = error.into();
        Self::failed(format!("{error:#}"))
    }
}
