//! `factor.renew_recovery_codes`: new recovery codes, against a code; the old ones end.

use super::{FactorCode, RecoveryCodes, done, tell_of_use};
use crate::api::Api;
use crate::api::operation::{Call, Operation, task};
use crate::problem::Problem;
use crate::tool::{self, Audience, Task, TokenRule};

pub(in crate::api) struct Renew;

impl Operation for Renew {
    type Body = FactorCode;
    type Answer = RecoveryCodes;
    const LIMIT: usize = 8 * 1024;
    const SUMMARY: &'static str = "Makes new recovery codes; the old ones end";

    fn task() -> Task {
        Task {
            tokens: TokenRule::Never,
            max_body: Some(Self::LIMIT as u64),
            ..task(
                "factor.renew_recovery_codes",
                "POST /api/v1/me/recovery-codes",
                tool::Kind::Update,
                Audience::AnyPerson,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: FactorCode) -> Result<RecoveryCodes, Problem> {
        let used = api.authenticate.fresh_code(&call.subject, &body.code).await?;
        let by_recovery = used.is_recovery();
        let mut turn = 0;
        let (mut tx, change) = loop {
            let mut tx = api.begin().await?;
            let used = used.clone();
            let renewed = api
                .authenticate
                .renew_recovery_codes(&mut tx, &call.subject, used);
            let renewed = renewed.await;
            if !Api::yields(&renewed, &mut turn) {
                break (tx, renewed?);
            }
        };
        tell_of_use(api, call, &mut tx, by_recovery).await?;
        done(api, call, tx, &change).await?;
        Ok(RecoveryCodes {
            recovery_codes: change.recovery_codes,
        })
    }
}
