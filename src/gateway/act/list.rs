//! Lists: every item is decided, and whatever cannot be checked is withheld.

use http::{HeaderValue, Response, StatusCode, header};

use super::end::{End, Failure};
use super::{Act, Answer};
use crate::audit::Receipt;
use crate::body::{self, Body};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::Ending;
use crate::tool::Task;

impl Act {
    /// A list: every item is decided; whatever cannot be checked is withheld.
    pub(super) async fn narrowed(
        mut self,
        response: Response<Body>,
        task: &Task,
        receipt: Receipt,
        answer: Answer,
    ) {
        match self.narrow(response, task).await {
            Ok(response) => {
                let end = End::answered(response.status());
                self.whole(end, response, task, receipt, answer).await;
            }
            Err(failure) => {
                if failure.0.ending == Ending::Withheld {
                    tracing::error!(request.id = %self.id, "a list was withheld from request {}: {}", self.id, failure.1.detail);
                }
                self.fail(failure, receipt, answer).await;
            }
        }
    }

    async fn narrow(&mut self, response: Response<Body>, task: &Task) -> Result<Response<Body>, Failure> {
        let unfit = |problem| End::failure(Ending::Withheld, problem);
        let withheld = |detail: String| unfit(Problem::new(Kind::ToolAnswer, detail));
        if self.permit.place().method == http::Method::HEAD {
            // The head of the whole list tells its size; that of the narrowed one is not known without its body.
            let mut head = Response::new(body::empty());
            *head.status_mut() = response.status();
            head.headers_mut().insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("private, no-store"),
            );
            return Ok(head);
        }
        let Some(rule) = &task.filter else {
            return Err(withheld("the task has no filter".into()));
        };
        let (mut head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(withheld(format!(
                "the list came with status {}, which cannot be checked",
                head.status.as_u16()
            )));
        }
        if head.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(withheld(
                "the list came encoded although it was asked for plain".into(),
            ));
        }
        let (whole, _) = match self.collect(body, rule.limit).await {
            Ok(read) => read,
            Err(failure) if failure.0.ending == Ending::ToolFailed => return Err(unfit(failure.1)),
            Err(failure) => return Err(failure),
        };
        let list = rule.read(&whole).map_err(|error| unfit(error.as_problem()))?;
        let tool = self.permit.place().tool.as_ref();
        let ids: Vec<String> = list
            .ids()
            .iter()
            .map(|id| tool.map_or_else(|| id.clone(), |tool| tool.id_of(id)))
            .collect();
        let keep = self
            .pipeline
            .authorize
            .visible(&self.permit, &rule.kind, &ids)
            .await
            .map_err(unfit)?;
        let narrowed = list.keep(&keep).map_err(|error| unfit(error.as_problem()))?;
        for name in [
            header::ETAG,
            header::LAST_MODIFIED,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
        ] {
            head.headers.remove(name);
        }
        head.headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-store"),
        );
        Ok(Response::from_parts(head, body::full(narrowed)))
    }
}
