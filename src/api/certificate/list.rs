//! `vo_certificate.list`: the certificates that a VO has.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CertificateUse;
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::problem::Problem;
use crate::tool::{self, Task};
use crate::trust::certificate::{Facts, Use};

/// A VO certificate. Its key is never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// What its proxies are for.
    #[serde(rename = "use")]
    pub purpose: CertificateUse,
    /// SHA-256 of the certificate (DER).
    pub sha256: String,
    /// Subject.
    pub subject: String,
    /// Begin of its validity (RFC 3339).
    pub not_before: String,
    /// End of its validity (RFC 3339).
    pub not_after: String,
    /// What works, but not with every peer.
    pub warnings: Vec<String>,
}

pub(super) fn view(purpose: Use, facts: &Facts) -> CertificateView {
    CertificateView {
        purpose: purpose.into(),
        sha256: facts.sha256.to_string(),
        subject: facts.subject_text.clone(),
        not_before: facts.not_before.to_string(),
        not_after: facts.not_after.to_string(),
        warnings: facts.warnings.clone(),
    }
}

/// The certificates in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateList {
    /// At most one for each use.
    pub certificates: Vec<CertificateView>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = CertificateList;
    const SUMMARY: &'static str = "The certificates of a virtual organisation";

    fn task() -> Task {
        task(
            "vo_certificate.list",
            "GET /api/v1/vos/{vo:slug}/certificates",
            tool::Kind::Read,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<CertificateList, Problem> {
        let vo = call.vo()?.id;
        let certificates = Use::ALL.into_iter().filter_map(|purpose| {
            let facts = api.delegate.certificate(vo, purpose)?;
            Some(view(purpose, &facts))
        });
        Ok(CertificateList {
            certificates: certificates.collect(),
        })
    }
}
