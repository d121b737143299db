//! What the proxies of a virtual organisation say of their person.

pub mod set;
pub mod show;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::delegate::ProxyIdentity;

/// What proxies say of their person, in `subjectDirectoryAttributes` (RFC 5280 section 4.2.1.8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyIdentityView {
    /// `opaque` when nothing was chosen.
    pub tells: Tells,
}

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tells {
    /// Nothing: only a trace leads to the person.
    Opaque,
    /// Her id (`uniqueIdentifier`).
    Id,
    /// Her id, and her user name (`uid`).
    Username,
}

impl From<ProxyIdentity> for Tells {
    fn from(chosen: ProxyIdentity) -> Self {
        match chosen {
            ProxyIdentity::Opaque => Self::Opaque,
            ProxyIdentity::Id => Self::Id,
            ProxyIdentity::Username => Self::Username,
        }
    }
}

impl From<Tells> for ProxyIdentity {
    fn from(asked: Tells) -> Self {
        match asked {
            Tells::Opaque => Self::Opaque,
            Tells::Id => Self::Id,
            Tells::Username => Self::Username,
        }
    }
}
