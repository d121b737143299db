//! `vo.list`: the VOs of the person who asks; a system administrator sees all.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{VoView, may_see, view};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, list};
use crate::problem::Problem;
use crate::tool::{Audience, Task};

/// VOs by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VoList {
    /// The VOs.
    pub vos: Vec<VoView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = VoList;
    const SUMMARY: &'static str = "Your virtual organisations; all of them for a system administrator";

    fn task() -> Task {
        list("vo.list", "GET /api/v1/vos", Audience::AnyPerson)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<VoList, Problem> {
        let (directory, person) = (api.directory(), call.person()?.id);
        let vos = directory
            .all_vos()
            .filter(|vo| may_see(api, &directory, vo, person))
            .map(|vo| view(api, &directory, vo, person))
            .collect();
        let (vos, next) = call.page(vos, |vo| vo.name.clone())?;
        Ok(VoList { vos, next })
    }
}
