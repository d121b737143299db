//! Cases: what resource providers ask about proxies, and the VO answers itself.

pub mod answer;
pub mod list;
pub mod show;

use super::operation::Call;
use super::{Api, problem};
use crate::delegate::provider::Case;
use crate::id::CaseId;
use crate::problem::{Kind, Problem};

/// The case in the path.
async fn case_of(api: &Api, call: &Call) -> Result<Case, Problem> {
    let id: CaseId = call.id_of("case")?;
    // SECURITY: an administrator sees the cases of her own VO only.
    let found = api.providers.case(call.vo()?.id, id).await.map_err(problem)?;
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no case `{id}` here")))
}
