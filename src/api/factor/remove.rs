//! `factor.remove`: takes one of the own factors away, against a code. Other sessions of the person end, and with the last
//! factor the one that asks.

use super::{FactorCode, done, tell, tell_of_use};
use crate::alert::Happened;
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, task};
use crate::id::FactorId;
use crate::problem::Problem;
use crate::tool::{self, Audience, Task, TokenRule};

pub(in crate::api) struct Remove;

impl Operation for Remove {
    type Body = FactorCode;
    type Answer = Nothing;
    const LIMIT: usize = 8 * 1024;
    const SUMMARY: &'static str =
        "Removes one of your second factors; your other sessions end, with the last factor this one too";

    fn task() -> Task {
        Task {
            tokens: TokenRule::Never,
            max_body: Some(Self::LIMIT as u64),
            ..task(
                "factor.remove",
                "POST /api/v1/me/factors/{factor:uuid}/remove",
                tool::Kind::Delete,
                Audience::AnyPerson,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: FactorCode) -> Result<Nothing, Problem> {
        remove(api, call, call.id_of("factor")?, &body).await?;
        Ok(Nothing {})
    }
}

pub(super) async fn remove(api: &Api, call: &Call, id: FactorId, body: &FactorCode) -> Result<(), Problem> {
    let used = api.authenticate.fresh_code(&call.subject, &body.code).await?;
    let by_recovery = used.is_recovery();
    let mut turn = 0;
    let (mut tx, change) = loop {
        let mut tx = api.begin().await?;
        let what = (id, used.clone());
        let removed = api
            .authenticate
            .remove_factor(&mut tx, &call.subject, what, call.id);
        let removed = removed.await;
        if !Api::yields(&removed, &mut turn) {
            break (tx, removed?);
        }
    };
    tell_of_use(api, call, &mut tx, by_recovery).await?;
    tell(api, call.id, &mut tx, Happened::FactorRemoved, call.person()?).await?;
    done(api, call, tx, &change).await
}
