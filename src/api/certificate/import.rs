//! `vo_certificate.import`: the certificate and key that the VO's proxies are minted from.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CertificateUse;
use super::list::{CertificateView, view};
use crate::api::operation::{Call, Operation, VO, exposed, task};
use crate::api::{Api, problem};
use crate::problem::{Kind, Problem};
use crate::secret::Secret;
use crate::tool::{self, Task};
use crate::trust::certificate::Source;

/// A certificate and its key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateImport {
    /// The certificate in PEM, then its intermediates.
    pub certificate: String,
    /// Its private key in PEM. It is sealed before it is stored.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub key: Secret<String>,
    /// What its proxies are for.
    #[serde(default, rename = "use")]
    pub purpose: CertificateUse,
    /// What errors call the certificate (a file's name).
    #[serde(default = "certificate")]
    #[schema(max_length = 200)]
    pub certificate_name: String,
    /// What errors call the key.
    #[serde(default = "key")]
    #[schema(max_length = 200)]
    pub key_name: String,
}

fn certificate() -> String {
    "certificate".into()
}

fn key() -> String {
    "key".into()
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateImported {
    /// It.
    pub certificate: CertificateView,
    /// What works, but not with every peer.
    pub warnings: Vec<String>,
}

pub(in crate::api) struct Import;

impl Operation for Import {
    type Body = CertificateImport;
    type Answer = CertificateImported;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str =
        "Gives a virtual organisation its certificate and key for a use; those before end";

    fn task() -> Task {
        task(
            "vo_certificate.import",
            "POST /api/v1/vos/{vo:slug}/certificates",
            tool::Kind::Update,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, body: CertificateImport) -> Result<CertificateImported, Problem> {
        let vo = call.vo()?.id;
        let certificate = Source {
            name: &body.certificate_name,
            text: &body.certificate,
        };
        let key = Source {
            name: &body.key_name,
            text: body.key.expose(),
        };
        let mut tx = api.begin().await?;
        let trust = api.authenticate.trust();
        let imported = api
            .delegate
            .import_certificate(&mut tx, (vo, body.purpose.into()), certificate, key, trust)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![imported.change]).await?;
        api.delegate.load().await.map_err(problem)?;
        let facts = api
            .delegate
            .certificate(vo, body.purpose.into())
            .ok_or_else(|| Problem::new(Kind::Internal, "the new certificate is not there"))?;
        Ok(CertificateImported {
            certificate: view(body.purpose.into(), &facts),
            warnings: imported.warnings,
        })
    }
}
