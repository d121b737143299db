//! `resource.import`: owners and parents of what a tool had before it was wrapped.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::named;
use crate::api::operation::{Call, Operation, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::id::{PersonId, VoId};
use crate::problem::{Kind, Problem};
use crate::resource::{Import as Rows, ImportError};
use crate::tool::{self, Task};

/// Largest body in bytes: 200,000 rows.
const LIMIT: usize = 32 * 1024 * 1024;

/// A CSV file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceImport {
    /// CSV with the columns `type,id,owner,parent_type,parent_id`; the last three may be left out or empty.
    pub csv: String,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourceImported {
    /// How many rows.
    pub rows: usize,
}

pub(in crate::api) struct Import;

impl Operation for Import {
    type Body = ResourceImport;
    type Answer = ResourceImported;
    const LIMIT: usize = LIMIT;
    const SUMMARY: &'static str = "Says whose the things are that a tool had before it was wrapped";

    fn task() -> Task {
        let task = task(
            "resource.import",
            "POST /api/v1/vos/{vo:slug}/tools/{tool:slug}/resources",
            tool::Kind::Update,
            VO,
        );
        reasoned(Task {
            max_body: Some(LIMIT as u64),
            ..task
        })
    }

    async fn run(api: &Api, call: &Call, body: ResourceImport) -> Result<ResourceImported, Problem> {
        let vo = call.vo()?.id;
        let tool = named(api, vo, call.parameter("tool")?)?;
        let rows = Rows::parse(&body.csv, &tool, |text| member(api, vo, text)).map_err(refused)?;
        let mut tx = api.begin().await?;
        let change = api
            .resources
            .import(&mut tx, call.id, vo, &rows)
            .await
            .map_err(refused)?;
        api.commit(call, tx, vec![change]).await?;
        api.resources.forget();
        Ok(ResourceImported { rows: rows.len() })
    }
}

/// A member by user name or id.
fn member(api: &Api, vo: VoId, text: &str) -> Option<PersonId> {
    let directory = api.directory();
    let person = match text.parse() {
        Ok(id) => id,
        Err(_) => directory.person_named(text)?.id,
    };
    directory.is_member(vo, person).then_some(person)
}

fn refused(error: ImportError) -> Problem {
    match error {
        ImportError::Rows(rows) => {
            let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
            Problem::new(
                Kind::Invalid,
                "the file is not accepted; nothing of it was imported",
            )
            .with("errors", rows)
        }
        other => problem(other),
    }
}
