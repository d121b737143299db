//! The one canonical form of a request's target: decided once, authorised and forwarded as the same bytes.

/// A canonical path and query (origin form, RFC 9112 section 3.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    path_end: usize,
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

/// Why a target is not in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a path that begins with `/`.
    #[error("the target must be a path that begins with `/`")]
    NotAPath,
}

impl Target {
    /// The bytes as they are sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(..self.path_end).unwrap_or("/")
    }

    /// The decoded segments of the path; empty for `/`. A trailing slash shows as a last empty segment.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The decoded query pairs, in order.
    #[must_use]
    pub fn query(&self) -> &[(String, String)] {
        &self.query
    }

    /// Reads a target.
    ///
    /// # Errors
    /// [`TargetError`] for everything that two programs could read differently.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if !text.starts_with('/') {
            return Err(TargetError::NotAPath);
        }
        Ok(Self {
            text: text.to_owned(),
            path_end: text.len(),
            segments: Vec::new(),
            query: Vec::new(),
        })
    }
}
