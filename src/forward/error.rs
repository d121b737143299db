//! How a request can fail on its way to a tool.

use super::request::UnfitHeader;
use super::response::UnfitAnswer;
use crate::body::BoxError;
use crate::problem::{AsProblem, Kind, Problem};

/// A request did not come back with an answer that can be passed on.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No connection; not a byte was sent.
    #[error("the upstream `{upstream}` cannot be reached: {reason}")]
    NotConnected {
        /// Name of the upstream.
        upstream: String,
        /// What happened, in a few words.
        reason: String,
    },
    /// The address may not be connected to; not a byte was sent.
    #[error("the upstream `{upstream}` resolves to an address that {reason}")]
    RefusedAddress {
        /// Name of the upstream.
        upstream: String,
        /// Why.
        reason: &'static str,
    },
    /// A value of ours cannot be written; not a byte was sent.
    #[error(transparent)]
    Unfit(#[from] UnfitHeader),
    /// The trust settings of the upstream cannot be used; not a byte was sent.
    #[error("the trust settings of the upstream `{upstream}` cannot be used: {reason}")]
    Trust {
        /// Name of the upstream.
        upstream: String,
        /// Why.
        reason: String,
    },
    /// The client's own body broke off while it was being sent on.
    #[error("the request's body broke off before its end")]
    BodyBroke(#[source] BoxError),
    /// The connection broke after the request was sent, wholly or in part.
    #[error("the tool broke off before it answered; whether it did anything is not known")]
    Broke,
    /// No answer in time.
    #[error("the tool did not begin to answer within {0} s")]
    Timeout(u64),
    /// An answer that is not well formed HTTP.
    #[error("the tool's answer is not well formed HTTP")]
    NotHttp,
    /// An answer that is withheld.
    #[error(transparent)]
    Answer(#[from] UnfitAnswer),
}

impl ForwardError {
    /// Whether the tool may have seen any of the request.
    #[must_use]
    pub const fn sent(&self) -> bool {
        !matches!(
            self,
            Self::NotConnected { .. } | Self::RefusedAddress { .. } | Self::Unfit(_) | Self::Trust { .. }
        )
    }

    /// A short word for the outcome record.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NotConnected { .. } => "not_connected",
            Self::RefusedAddress { .. } => "refused_address",
            Self::Unfit(_) => "unfit_header",
            Self::Trust { .. } => "trust",
            Self::BodyBroke(_) => "body_broke",
            Self::Broke => "broke",
            Self::Timeout(_) => "timeout",
            Self::NotHttp => "not_http",
            Self::Answer(_) => "unfit_answer",
        }
    }
}

impl AsProblem for ForwardError {
    fn as_problem(&self) -> Problem {
        match self {
            // Where an upstream is, is the administrator's business: the client learns only that it is not there.
            Self::NotConnected { .. } | Self::RefusedAddress { .. } | Self::Trust { .. } => {
                Problem::new(Kind::ToolUnreachable, "no connection to the tool could be made")
            }
            Self::Unfit(_) => Problem::new(Kind::Internal, self.to_string()),
            Self::BodyBroke(_) => Problem::new(Kind::Malformed, self.to_string()),
            Self::Timeout(_) => Problem::new(Kind::ToolTimeout, self.to_string()),
            Self::Broke | Self::NotHttp | Self::Answer(_) => Problem::new(Kind::ToolAnswer, self.to_string()),
        }
    }
}
