//! How long proxies may live in a virtual organisation, and those of a role's holders.

pub mod list;
pub mod set;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use crate::id::VoId;

/// A limit. The shortest one that applies holds, within the settings' `delegation.max_lifetime`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProxyLimitView {
    /// Name of the role; absent for everybody in the virtual organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Longest life of a proxy, in seconds.
    pub lifetime: u64,
}

/// The limits of a VO, its own first.
fn views(api: &Api, vo: VoId) -> Vec<ProxyLimitView> {
    let directory = api.directory();
    let view = |(role, limit): (Option<_>, std::time::Duration)| {
        let role = match role {
            None => None,
            // A role that has ended limits nobody.
            Some(id) => Some(directory.role(id)?.name.clone()),
        };
        Some(ProxyLimitView {
            role,
            lifetime: limit.as_secs(),
        })
    };
    let mut views: Vec<ProxyLimitView> = api.delegate.limits(vo).into_iter().filter_map(view).collect();
    views.sort_by(|a, b| a.role.cmp(&b.role));
    views
}
