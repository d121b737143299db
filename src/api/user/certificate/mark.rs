//! `user.mark_certificate`: a member's certificate is compromised. It stays on her account, and lets nobody in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, reasoned, task};
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};

/// Longest note, in characters.
const NOTE: usize = 500;

/// Why a credential is not to be trusted any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Compromised {
    /// What happened, as those who look at it later are to know it.
    #[schema(min_length = 1, max_length = 500)]
    pub note: String,
}

impl Compromised {
    /// The note, if it is one.
    pub(in crate::api) fn note(&self) -> Result<&str, Problem> {
        let note = self.note.trim();
        let fits = (1..=NOTE).contains(&note.chars().count()) && !note.chars().any(char::is_control);
        fits.then_some(note)
            .ok_or_else(|| Problem::new(Kind::Invalid, "`note` must have 1 to 500 characters, on one line"))
    }
}

pub(in crate::api) struct Mark;

impl Operation for Mark {
    type Body = Compromised;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Marks a member's certificate as compromised: it lets nobody in any more";

    fn task() -> Task {
        let task = task(
            "user.mark_certificate",
            "POST /api/v1/vos/{vo:slug}/users/{person:uuid}/certificates/{certificate:uuid}/compromised",
            tool::Kind::Update,
            VO,
        );
        reasoned(Task {
            home_only: true,
            ..on_person(task)
        })
    }

    async fn run(api: &Api, call: &Call, body: Compromised) -> Result<Nothing, Problem> {
        let person = member(api, call)?;
        let note = body.note()?;
        let id = call.id_of("certificate")?;
        let mut tx = api.begin().await?;
        let change = api
            .authenticate
            .mark_compromised(&mut tx, &person, id, note)
            .await?;
        super::shut(api, call, &person, tx, change).await?;
        Ok(Nothing {})
    }
}
