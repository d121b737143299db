//! `user.add_certificate`: links a grid certificate to a member, whose key agreed to it. For administrators of the account's home.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::UserCertificate;
use crate::api::Api;
use crate::api::operation::{Call, Operation, VO, member, on_person, reasoned, task};
use crate::authenticate::Account;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task, TokenRule};
use crate::trust::pem;

/// A certificate to be linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCertificateAdd {
    /// PEM: the certificate that the CA issued, or a proxy with it, and those between it and a CA that is trusted here. It must be
    /// valid now. The private key must not come along.
    #[schema(max_length = 100_000)]
    pub certificate: String,
    /// Base64 of a signature by the certificate's own key (RSA PKCS#1 v1.5 or ECDSA with SHA-256, ECDSA with SHA-384) over
    /// `countersign certificate`, the gateway's name, the user name, and the SHA-256 of the certificate in hex, each with a line feed
    /// behind it. Without it the refusal has the command that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_000)]
    pub proof: Option<String>,
}

pub(in crate::api) struct Add;

impl Operation for Add {
    type Body = UserCertificateAdd;
    type Answer = UserCertificate;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str = "Lets a member sign in with a grid certificate";

    fn task() -> Task {
        let task = task(
            "user.add_certificate",
            "POST /api/v1/vos/{vo:slug}/users/{person:uuid}/certificates",
            tool::Kind::Create,
            VO,
        );
        reasoned(Task {
            // SECURITY: who links a certificate can be that person; only the account's home may.
            home_only: true,
            tokens: TokenRule::Never,
            ..on_person(task)
        })
    }

    async fn run(api: &Api, call: &Call, body: UserCertificateAdd) -> Result<UserCertificate, Problem> {
        let person = member(api, call)?;
        let invalid = |detail: String| Problem::new(Kind::Invalid, detail);
        if body.certificate.contains("PRIVATE KEY") {
            // SECURITY: it was sent to nobody's use; the answer says so before it is sent again.
            let detail = "`certificate` holds a private key; accepted: certificates alone (the key stays with its person)";
            return Err(invalid(detail.to_owned()));
        }
        let account = Account {
            gateway: &api.own.name,
            username: &person.username,
        };
        let chain = pem::certificates("certificate", &body.certificate)
            .map_err(|error| invalid(error.to_string()))?;
        let end_entity = api
            .authenticate
            .judge_link(&chain, &account, body.proof.as_deref())?;
        let mut tx = api.begin().await?;
        let (id, change) = api.authenticate.link(&mut tx, &person, &end_entity).await?;
        api.commit(call, tx, vec![change]).await?;
        let id = id.to_string();
        let linked = super::of(api, &person).await?;
        let found = linked.into_iter().find(|linked| linked.id == id);
        found.ok_or_else(|| Problem::new(Kind::Conflict, "the link was ended meanwhile"))
    }
}
