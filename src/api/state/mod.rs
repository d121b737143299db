//! The authorisation state held against the log: what is in doubt, and taking it over.

pub mod accept;
pub mod list;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::Doubt;

/// A level of which the store holds something else than the log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoubtView {
    /// Name of the virtual organisation; `gateway` for the gateway's own level.
    pub level: String,
    /// Its id.
    pub id: String,
    /// `last_good`: what was in force before goes on; `refused`: nothing is allowed.
    pub effect: String,
    /// Digest that the log says; absent for one that the log does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Digest of what the store holds; absent where it holds nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What differs, in words and ids; at most 100.
    pub difference: Vec<String>,
    /// How much differs.
    pub count: u64,
}

fn view(doubt: &Doubt) -> DoubtView {
    DoubtView {
        level: doubt.name.clone(),
        id: doubt.vo.to_string(),
        effect: doubt.record().effect,
        known: doubt.known.map(|digest| digest.to_string()),
        found: doubt.found.map(|digest| digest.to_string()),
        difference: doubt.difference.clone(),
        count: doubt.count,
    }
}
