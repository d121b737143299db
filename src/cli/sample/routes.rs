//! The sample tool's HTTP side: which request does what.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};

use super::caller::{Caller, HEADER};
use super::jobs::{Job, Jobs, Order, State};
use super::pgm::Image;
use super::seen::Seen;

/// The largest image file, in bytes.
pub(super) const MAX_BODY: usize = 16 * 1024 * 1024;
/// The longest name of a job, in characters.
const MAX_NAME: usize = 80;
/// The most passes of smoothing.
const MAX_SMOOTH: u32 = 100_000;

/// The tool: its jobs and what it saw.
#[derive(Debug)]
pub(super) struct Tool {
    jobs: Jobs,
    seen: Seen,
}

/// A request that cannot be served: status and a sentence.
struct Refusal(StatusCode, String);

type Answer = Response<Full<Bytes>>;

impl Tool {
    /// A tool without jobs that notes what it sees in a file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn new(seen: Option<&Path>) -> io::Result<Self> {
        Ok(Self {
            jobs: Jobs::default(),
            seen: Seen::open(seen)?,
        })
    }

    /// Answers one request.
    pub(super) async fn answer<B: Body>(&self, request: Request<B>) -> Answer
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        // INVARIANT: what is acted on stands in the file first.
        if let Err(error) = self.seen.note(&head) {
            return refused(Refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("cannot note the request: {error}"),
            ));
        }
        self.route(&head, body).await.unwrap_or_else(refused)
    }

    async fn route<B: Body>(&self, head: &Parts, body: B) -> Result<Answer, Refusal>
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let parts: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        let read = matches!(head.method, Method::GET | Method::HEAD);
        match parts.as_slice() {
            [""] if read => Ok(page()),
            ["jobs"] if read => Ok(self.list()),
            ["jobs"] if head.method == Method::POST => self.submit(head, body).await,
            ["jobs", id] if read => Ok(json(StatusCode::OK, &self.find(id)?.document())),
            ["jobs", id] if head.method == Method::DELETE => self.terminate(id),
            ["jobs", id, "result"] if read => self.result(id),
            [""] | ["jobs"] | ["jobs", _] | ["jobs", _, "result"] => Err(Refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("`{}` does nothing at this address", head.method),
            )),
            _ => Err(Refusal(
                StatusCode::NOT_FOUND,
                "there is nothing at this address".to_owned(),
            )),
        }
    }

    fn list(&self) -> Answer {
        let jobs: Vec<Value> = self.jobs.list().iter().map(|job| job.document()).collect();
        json(StatusCode::OK, &json!({ "total": jobs.len(), "jobs": jobs }))
    }

    async fn submit<B: Body>(&self, head: &Parts, body: B) -> Result<Answer, Refusal>
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (name, smooth) = wishes(head.uri.query().unwrap_or(""))?;
        let file = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Refusal(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the image is larger than {MAX_BODY} bytes"),
                )
            } else {
                Refusal(
                    StatusCode::BAD_REQUEST,
                    "the image did not arrive whole".to_owned(),
                )
            }
        })?;
        let image = Image::parse(&file.to_bytes())
            .map_err(|error| Refusal(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
        let caller = head
            .headers
            .get(HEADER)
            .map(|value| Caller::read(value.as_bytes()));
        let job = self
            .jobs
            .submit(Order {
                name,
                smooth,
                image,
                caller,
            })
            .map_err(|error| Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
        let mut answer = json(StatusCode::CREATED, &job.document());
        if let Ok(location) = header::HeaderValue::try_from(format!("/jobs/{}", job.id())) {
            answer.headers_mut().insert(header::LOCATION, location);
        }
        Ok(answer)
    }

    fn result(&self, id: &str) -> Result<Answer, Refusal> {
        let job = self.find(id)?;
        match job.state() {
            State::Done(_, _, mask) => Ok(answer(StatusCode::OK, "image/x-portable-graymap", mask)),
            _ => Err(Refusal(
                StatusCode::CONFLICT,
                format!("job {} is not done yet", job.id()),
            )),
        }
    }

    fn terminate(&self, id: &str) -> Result<Answer, Refusal> {
        let job = self.find(id)?;
        if self.jobs.terminate(job.id()) {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            Ok(answer)
        } else {
            Err(no_job(id))
        }
    }

    fn find(&self, id: &str) -> Result<std::sync::Arc<Job>, Refusal> {
        // Only the canonical spelling names a job: 042 is not 42.
        let number = id.parse::<u64>().ok().filter(|number| number.to_string() == id);
        number
            .and_then(|number| self.jobs.find(number))
            .ok_or_else(|| no_job(id))
    }
}

fn no_job(id: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("there is no job `{id}`"))
}

/// Name and passes of smoothing from the query.
fn wishes(query: &str) -> Result<(String, u32), Refusal> {
    let bad = |message: &str| Refusal(StatusCode::UNPROCESSABLE_ENTITY, message.to_owned());
    let (mut name, mut smooth) = (String::new(), 0);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "name" => {
                name = decoded(value)
                    .filter(|name| name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control))
                    .ok_or_else(|| bad("`name` must be text of at most 80 characters"))?;
            }
            "smooth" => {
                smooth = value
                    .parse()
                    .ok()
                    .filter(|passes| *passes <= MAX_SMOOTH)
                    .ok_or_else(|| bad("`smooth` must be an integer from 0 to 100000"))?;
            }
            _ => return Err(bad("only `name` and `smooth` may stand in the query")),
        }
    }
    Ok((name, smooth))
}

/// Percent-decodes a query value (RFC 3986 section 2.1; `+` is a space as forms write it).
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (pair, after) = rest.split_at_checked(2)?;
                rest = after;
                bytes.push(
                    data_encoding::HEXLOWER_PERMISSIVE
                        .decode(pair)
                        .ok()?
                        .first()
                        .copied()?,
                );
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

fn page() -> Answer {
    answer(
        StatusCode::OK,
        "text/html; charset=utf-8",
        Bytes::from_static(include_bytes!("page.html")),
    )
}

fn json(status: StatusCode, document: &Value) -> Answer {
    answer(status, "application/json", Bytes::from(document.to_string()))
}

fn refused(Refusal(status, message): Refusal) -> Answer {
    json(status, &json!({ "error": message }))
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}
