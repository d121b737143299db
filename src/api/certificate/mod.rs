//! VO certificates.

pub mod import;
pub mod list;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::trust::certificate::Use;

/// What the proxies below a certificate are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CertificateUse {
    /// Proxies that the gateway gives to tools, or calls them with.
    #[default]
    Tools,
    /// Proxies that people download; its subject must be another one.
    Download,
}

impl From<CertificateUse> for Use {
    fn from(purpose: CertificateUse) -> Self {
        match purpose {
            CertificateUse::Tools => Self::Tools,
            CertificateUse::Download => Self::Download,
        }
    }
}

impl From<Use> for CertificateUse {
    fn from(purpose: Use) -> Self {
        match purpose {
            Use::Tools => Self::Tools,
            Use::Download => Self::Download,
        }
    }
}
