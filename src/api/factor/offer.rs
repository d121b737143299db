//! `factor.offer`: a secret for an authenticator, against the password. Nothing is bound yet.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Operation, exposed, task};
use crate::problem::Problem;
use crate::secret::Secret;
use crate::tool::{self, Audience, Task, TokenRule};

/// The password, once more.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FactorAsk {
    /// Your present password.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String, max_length = 1024)]
    pub password: Secret<String>,
}

/// A secret for an authenticator. It is shown this once, and bound by `factor.add`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FactorOffer {
    /// The secret in base32, to type into an authenticator.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub secret: Secret<String>,
    /// The same as an `otpauth://` address, which authenticators read from a picture.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub uri: Secret<String>,
    /// To give back with the first code.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub binding: Secret<String>,
    /// Until when that is possible (RFC 3339).
    pub until: String,
}

pub(in crate::api) struct Offer;

impl Operation for Offer {
    type Body = FactorAsk;
    type Answer = FactorOffer;
    const LIMIT: usize = 8 * 1024;
    const SUMMARY: &'static str = "Offers a secret for an authenticator";

    fn task() -> Task {
        Task {
            tokens: TokenRule::Never,
            max_body: Some(Self::LIMIT as u64),
            // Nothing is kept of an offer.
            ..task(
                "factor.offer",
                "POST /api/v1/me/factors/offer",
                tool::Kind::Read,
                Audience::AnyPerson,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: FactorAsk) -> Result<FactorOffer, Problem> {
        // The gateway's host, without the port: what people know it by.
        let host = call.base.strip_prefix("https://").unwrap_or(&call.base);
        let host = host.split(':').next().unwrap_or_default();
        let offer = api
            .authenticate
            .offer_factor(&call.subject, &body.password, host)
            .await?;
        Ok(FactorOffer {
            secret: offer.secret,
            uri: offer.uri,
            binding: offer.binding,
            until: offer.until.to_string(),
        })
    }
}
