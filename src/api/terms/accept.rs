//! `terms.accept`: accepts terms of use, by version and digest: nobody accepts what she was not shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::owed;
use super::owed::TermsOwed;
use crate::api::operation::{Call, Operation, task};
use crate::api::{Api, problem};
use crate::problem::{Kind, Problem};
use crate::record::Hash;
use crate::tool::{self, Audience, Task};
use crate::vo::{Directory, GATEWAY};

/// Terms that were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TermsRead {
    /// Whose: name of a virtual organisation, or `countersign` for the gateway itself.
    #[schema(max_length = 40)]
    pub vo: String,
    /// Version.
    pub version: i64,
    /// SHA-256 of the text, in hexadecimal digits.
    #[schema(max_length = 64)]
    pub digest: String,
}

/// Terms to accept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TermsAccept {
    /// Which.
    #[schema(max_items = 100)]
    pub accept: Vec<TermsRead>,
}

pub(in crate::api) struct Accept;

impl Operation for Accept {
    type Body = TermsAccept;
    type Answer = TermsOwed;
    const SUMMARY: &'static str = "Accepts terms of use; answers with what is left to accept";

    fn task() -> Task {
        task(
            "terms.accept",
            "POST /api/v1/me/terms/accept",
            tool::Kind::Create,
            Audience::AnySession,
        )
    }

    async fn run(api: &Api, call: &Call, body: TermsAccept) -> Result<TermsOwed, Problem> {
        accept(api, call, &body).await
    }
}

pub(super) async fn accept(api: &Api, call: &Call, body: &TermsAccept) -> Result<TermsOwed, Problem> {
    let directory = api.directory();
    let stale = || {
        let detail = "these are not the terms that are in force; read them again";
        Problem::new(Kind::Conflict, detail)
    };
    let read = |read: &TermsRead| {
        let vo = match read.vo.as_str() {
            GATEWAY => Some(Directory::gateway()),
            name => directory.vo_named(name).map(|vo| vo.id),
        };
        let digest = Hash::parse(&read.digest);
        Some((vo?, read.version, digest?))
    };
    let shown: Option<Vec<_>> = body.accept.iter().map(read).collect();
    let shown = shown.ok_or_else(stale)?;
    let mut tx = api.db.begin_write().await.map_err(problem)?;
    let changes = api
        .authenticate
        .accept_terms(&mut tx, &call.subject, &shown, call.id)
        .await?;
    api.commit_aside(call, tx, changes).await?;
    api.authenticate.refresh_terms().await.map_err(problem)?;
    Ok(TermsOwed {
        owed: owed(api, call).await?,
    })
}
