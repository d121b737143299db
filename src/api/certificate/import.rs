//! `vo_certificate.import`: the certificate and key that the VO's proxies are minted from.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CertificateUse;
use super::list::{CertificateView, view};
use crate::api::operation::{Call, Operation, VO, exposed_if, task};
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
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed_if"
    )]
    #[schema(value_type = Option<String>)]
    pub key: Option<Secret<String>>,
    /// Instead of `key`: the name of its key on a PKCS#11 token of the settings (RFC 7512), e.g.
    /// `pkcs11:token=imaging;object=vo;type=private`. It stays there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub pkcs11_uri: Option<String>,
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
        let named = (vo, body.purpose.into());
        let trust = api.authenticate.trust();
        let (tx, imported) = match (&body.key, &body.pkcs11_uri) {
            (Some(key), None) => {
                let key = Source {
                    name: &body.key_name,
                    text: key.expose(),
                };
                let mut tx = api.begin().await?;
                let imported = api
                    .delegate
                    .import_certificate(&mut tx, named, certificate, key, trust)
                    .await;
                (tx, imported)
            }
            (None, Some(uri)) => {
                // The token is asked before the store is: nobody else waits for it.
                let checked = api
                    .delegate
                    .check_on_token(&call.vo()?.name, certificate, uri)
                    .await;
                let checked = checked.map_err(problem)?;
                let mut tx = api.begin().await?;
                let imported = api
                    .delegate
                    .import_checked(&mut tx, named, certificate.name, checked, trust)
                    .await;
                (tx, imported)
            }
            _ => {
                let detail = "accepted: either `key` or `pkcs11_uri`";
                return Err(Problem::new(Kind::Invalid, detail));
            }
        };
        let imported = imported.map_err(problem)?;
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
