//! What the tool received: one line per request, in the file before the request is acted on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hyper::http::request::Parts;

/// The header in which the gateway names the request.
const REQUEST_ID: &str = "x-countersign-request-id";

/// Appends to the file, if there is one.
#[derive(Debug)]
pub(super) struct Seen(Option<Mutex<File>>);

impl Seen {
    /// Opens the file for appending.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = path
            .map(|path| OpenOptions::new().create(true).append(true).open(path))
            .transpose()?;
        Ok(Self(file.map(Mutex::new)))
    }

    /// Writes method, address and request id (`-` without one) as one line, in one write.
    ///
    /// # Errors
    /// When it cannot be written; the request must not be acted on then.
    pub(super) fn note(&self, head: &Parts) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let id = head
            .headers
            .get(REQUEST_ID)
            .and_then(|id| id.to_str().ok())
            .unwrap_or("-");
        let line = format!("{} {} {id}\n", head.method, head.uri);
        file.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(line.as_bytes())
    }
}
