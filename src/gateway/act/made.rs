//! What an answer makes or removes: written down, then owned, then told.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::end::End;
use super::{Act, Answer};
use crate::audit::Receipt;
use crate::body::Body;
use crate::gateway::flow;
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{CreatedEntry, DeletedEntry, Ending, Event};
use crate::tool::{self, Task, Tool, Whose};

/// Largest answer in which created ids are looked for.
const CREATED_LIMIT: u64 = 8 * 1024 * 1024;

impl Act {
    /// An answer that makes or removes something: the outcome with it is durable, then the store, then the answer.
    pub(super) async fn made(
        mut self,
        response: Response<Body>,
        task: &Task,
        receipt: Receipt,
        answer: Answer,
    ) {
        let (head, body) = response.into_parts();
        let (whole, trailers) = match self.collect(body, CREATED_LIMIT).await {
            Ok(read) => read,
            Err(failure) => return self.fail(failure, receipt, answer).await,
        };
        let mut end = End::answered(head.status);
        match self.created(task, &head, &whole) {
            Ok(created) => end.created = created,
            Err(problem) => {
                end = End {
                    tool_status: Some(head.status.as_u16()),
                    ..End::problem(Ending::Withheld, &problem)
                };
                return self.fail(Box::new((end, problem)), receipt, answer).await;
            }
        }
        if task.deletes && head.status.is_success() {
            end.deleted = self.deleted();
        }
        let (created, deleted) = (end.created.clone(), end.deleted.clone());
        if let Err(error) = receipt.outcome(self.outcome(end)).await {
            let _ = answer.send(Err(error.as_problem()));
            return;
        }
        let made = match self.owned(&created, &deleted).await {
            Ok(()) => Box::pin(self.pipeline.lend(&self.permit, &created)).await,
            Err(problem) => Err(problem),
        };
        let response = match made {
            Ok(()) => Ok(Response::from_parts(head, flow::whole(whole, trailers))),
            Err(problem) => Err(problem),
        };
        let _ = answer.send(response);
    }

    fn created(
        &self,
        task: &Task,
        head: &http::response::Parts,
        whole: &Bytes,
    ) -> Result<Vec<CreatedEntry>, Problem> {
        let (place, found) = (self.permit.place(), self.permit.found());
        let (Some(vo), Some(by)) = (&place.vo, &place.tool) else {
            return Ok(Vec::new());
        };
        let person = self.permit.subject().as_person().map(|person| person.id);
        let made = tool::created(
            &task.creates,
            &found.parameters,
            head.status.as_u16(),
            &head.headers,
            Some(whole),
        )
        .map_err(|error| error.as_problem())?;
        let entry = |made: tool::Created| CreatedEntry {
            vo: vo.id,
            tool: by.name.clone(),
            kind: made.kind,
            id: by.id_of(&made.id),
            owner: match made.owner {
                Whose::Subject => person,
                Whose::Nobody => None,
            },
            parent: made.parent.map(|(kind, id)| (kind, by.id_of(&id))),
            attributes: made.attributes,
        };
        Ok(made.into_iter().map(entry).collect())
    }

    fn deleted(&self) -> Vec<DeletedEntry> {
        let place = self.permit.place();
        let (Some(vo), Some(tool), Some(resource)) = (&place.vo, &place.tool, &self.permit.found().resource)
        else {
            return Vec::new();
        };
        let (kind, id) = (resource.kind.clone(), resource.id.clone());
        vec![DeletedEntry {
            vo: vo.id,
            tool: tool.name.clone(),
            kind,
            id,
        }]
    }

    /// Writes down who owns what. The first owner stays; a second claim is recorded, and withheld for unique types.
    async fn owned(&mut self, created: &[CreatedEntry], deleted: &[DeletedEntry]) -> Result<(), Problem> {
        let resources = &self.pipeline.resources;
        resources
            .deleted(self.id, deleted)
            .await
            .map_err(|error| error.as_problem())?;
        let conflicts = resources
            .created(self.id, created)
            .await
            .map_err(|error| error.as_problem())?;
        let mut withhold = false;
        for conflict in conflicts {
            let unique = self
                .permit
                .place()
                .tool
                .as_ref()
                .is_some_and(|tool: &Arc<Tool>| tool.unique.contains(&conflict.claimed.kind));
            withhold |= unique;
            tracing::error!(request.id = %self.id, "request {} claimed something that has another owner", self.id);
            let event = Event::OwnershipConflict(conflict);
            self.pipeline
                .audit
                .write(event)
                .await
                .map_err(|error| error.as_problem())?;
        }
        if withhold {
            return Err(Problem::new(
                Kind::ToolAnswer,
                "the tool answered with an id that belongs to somebody else",
            ));
        }
        Ok(())
    }
}
