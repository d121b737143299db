//! `user.list_certificates`: the certificates by which a member signs in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::UserCertificate;
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

/// Certificates, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserCertificateList {
    /// The certificates.
    pub certificates: Vec<UserCertificate>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = UserCertificateList;
    const SUMMARY: &'static str = "The certificates by which a member signs in";

    fn task() -> Task {
        let task = task(
            "user.list_certificates",
            "GET /api/v1/vos/{vo:slug}/users/{person:uuid}/certificates",
            tool::Kind::Read,
            VO,
        );
        Task {
            home_only: true,
            ..on_person(task)
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UserCertificateList, Problem> {
        let person = member(api, call)?;
        Ok(UserCertificateList {
            certificates: super::of(api, &person).await?,
        })
    }
}
