//! The proof that an intent is durable, and the duty to say how the request ended.

use super::{Audit, AuditError};
use crate::id::RequestId;
use crate::record::{Ending, Event, Outcome};

/// Proof that the intent of a request is on stable storage. Only the log makes one.
///
/// It is used up by [`Receipt::outcome`] or [`Receipt::outcome_soon`]; dropped without either, it writes
/// [`Ending::Abandoned`].
#[derive(Debug)]
#[must_use = "a request ends with an outcome"]
pub struct Receipt {
    // Taken when the outcome is on its way.
    audit: Option<Audit>,
    request: RequestId,
    seq: u64,
}

impl Receipt {
    // SECURITY: called only where the writer has acknowledged the batch.
    pub(super) fn new(audit: Audit, request: RequestId, seq: u64) -> Self {
        Self {
            audit: Some(audit),
            request,
            seq,
        }
    }

    /// The request whose intent it is.
    #[must_use]
    pub const fn request(&self) -> RequestId {
        self.request
    }

    /// The same proof for somebody who does not write the outcome.
    #[must_use]
    pub const fn intended(&self) -> Intended {
        Intended(self.request)
    }

    /// Position of the intent in the log.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Writes the outcome; durable when it returns. For everything that changes state.
    ///
    /// # Errors
    /// [`AuditError`]: the answer must be broken off. The outcome is kept and written once the log can be written.
    pub async fn outcome(mut self, outcome: Outcome) -> Result<(), AuditError> {
        let outcome = Outcome {
            request: self.request,
            ..outcome
        };
        match self.audit.take() {
            Some(audit) => audit.settle(outcome).await,
            None => Ok(()),
        }
    }

    /// Writes the outcome with the next batch, at most 20 ms later. For reads.
    pub fn outcome_soon(mut self, outcome: Outcome) {
        let outcome = Outcome {
            request: self.request,
            ..outcome
        };
        if let Some(audit) = self.audit.take() {
            audit.write_soon(Event::Outcome(Box::new(outcome)));
        }
    }

    /// The intent stands alone: its task's manifest asks for no outcome.
    pub fn alone(mut self) {
        self.audit = None;
    }

    /// The intent became durable after its request had been refused.
    pub(super) fn not_sent(self) {
        let outcome = Outcome::ended(self.request, Ending::NotSent);
        self.outcome_soon(outcome);
    }
}

/// Proof that the intent of a request is on stable storage, without the duty to say how it ended. Made from a [`Receipt`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intended(RequestId);

impl Intended {
    /// The request whose intent it is.
    #[must_use]
    pub const fn request(&self) -> RequestId {
        self.0
    }
}

/// Proof that records of a request, written after its intent, are on stable storage. Only the log makes one.
#[derive(Debug)]
pub struct Written(RequestId);

impl Written {
    // SECURITY: called only where the writer has acknowledged the batch.
    pub(super) const fn new(request: RequestId) -> Self {
        Self(request)
    }

    /// The request whose records they are.
    #[must_use]
    pub const fn request(&self) -> RequestId {
        self.0
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(audit) = self.audit.take() {
            audit.write_soon(Event::Outcome(Box::new(Outcome::ended(
                self.request,
                Ending::Abandoned,
            ))));
        }
    }
}
