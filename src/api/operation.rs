//! What an operation is: a task, a body, an answer and a handler; and how its request is read.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::etag::IfMatch;
use super::{Api, cursor, json};
use crate::authenticate::{Session, Subject};
use crate::body::Body;
use crate::clock::Timestamp;
use crate::delegate::Certifier;
use crate::forward::LocalRequest;
use crate::id::{PersonId, RequestId};
use crate::problem::{Kind, Problem};
use crate::secret::Secret;
use crate::tool::{self, Audience, Parameters, REASON, Task, VoRef, unfit_reason};
use crate::vo::{Person, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR};

/// Largest body of an operation that does not say otherwise.
pub(super) const LIMIT: usize = 1024 * 1024;

/// How many items of a list are answered at most, and where nothing is asked for.
pub(super) const MOST: usize = 1000;
pub(super) const USUAL: usize = 200;

/// For administrators of the VO in the path.
pub(super) const VO: Audience = Audience::Granted(&[VO_ADMINISTRATOR]);
/// For system administrators; their role is looked up at the gateway's level, also where the path names a VO.
pub(super) const SYSTEM: Audience = Audience::Granted(&[SYSTEM_ADMINISTRATOR]);

/// One operation.
pub(super) trait Operation: 'static {
    /// What it reads; [`Nothing`] when it has no body.
    type Body: DeserializeOwned + ToSchema + Send;
    /// What it answers; [`Nothing`] for 204.
    type Answer: Serialize + ToSchema + Send + 'static;
    /// Status of a success that has an answer.
    const STATUS: StatusCode = StatusCode::OK;
    /// Largest body in bytes.
    const LIMIT: usize = LIMIT;
    /// Whether its answer may be so long that it is not written where connections live.
    const LONG: bool = false;
    /// One line for the reference.
    const SUMMARY: &'static str;
    /// Whether its answer shows a secret, and is therefore told once.
    const SECRET: bool = false;
    /// Whether it edits what there is, and stops where that is not what was read ([`Call::unchanged`]).
    const EDITS: bool = false;
    /// Whether its answer has a tag ([`Operation::tag`]).
    const TAGGED: bool = false;

    /// The tag of what an edit would change of what is answered ([`etag::tag`]).
    fn tag(_answer: &Self::Answer) -> Option<String> {
        None
    }

    /// Its task: name, address, kind, audience.
    fn task() -> Task;

    /// Does it. The request is permitted and recorded.
    fn run(
        api: &Api,
        call: &Call,
        body: Self::Body,
    ) -> impl Future<Output = Result<Self::Answer, Problem>> + Send;
}

/// No body, or no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Nothing {}

/// Writes a secret into JSON.
///
/// SECURITY: only for bodies that the command line sends to the gateway, and for the one answer that shows a secret to
/// whom it belongs; `no-store` stands on all of them.
pub(super) fn exposed<S: serde::Serializer>(
    secret: &Secret<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// The same for one that may be absent.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn exposed_if<S: serde::Serializer>(
    secret: &Option<Secret<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => exposed(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// The same for several.
pub(super) fn exposed_all<S: serde::Serializer>(
    secrets: &[Secret<String>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(|secret| secret.expose().as_str()))
}

type Run = for<'a> fn(&'a Api, Call, Bytes) -> BoxFuture<'a, Result<Response<Body>, Problem>>;
type Schemas = Vec<(String, RefOr<Schema>)>;

/// An [`Operation`], as the dispatcher and the reference see it.
pub(super) struct Entry {
    pub(super) task: fn() -> Task,
    pub(super) limit: usize,
    pub(super) summary: &'static str,
    pub(super) run: Run,
    pub(super) status: StatusCode,
    pub(super) body: Option<fn(&mut Schemas) -> String>,
    pub(super) answer: Option<fn(&mut Schemas) -> String>,
    pub(super) secret: bool,
    pub(super) edits: bool,
    pub(super) tagged: bool,
}

/// Erases the types of an operation.
pub(super) fn entry<O: Operation>() -> Entry {
    let nothing = Nothing::name();
    let answers = O::Answer::name() != nothing;
    Entry {
        task: O::task,
        limit: O::LIMIT,
        summary: O::SUMMARY,
        run: run::<O>,
        status: if answers {
            O::STATUS
        } else {
            StatusCode::NO_CONTENT
        },
        body: (O::Body::name() != nothing).then_some(schema::<O::Body> as fn(&mut Schemas) -> String),
        answer: answers.then_some(schema::<O::Answer> as fn(&mut Schemas) -> String),
        secret: O::SECRET,
        edits: O::EDITS,
        tagged: O::TAGGED,
    }
}

/// Adds a type and all it refers to; gives its name.
fn schema<T: ToSchema>(schemas: &mut Schemas) -> String {
    let name = T::name().into_owned();
    schemas.push((name.clone(), T::schema()));
    T::schemas(schemas);
    name
}

fn run<O: Operation>(api: &Api, call: Call, body: Bytes) -> BoxFuture<'_, Result<Response<Body>, Problem>> {
    Box::pin(async move {
        let body = parse::<O::Body>(&call, &body)?;
        let answer = O::run(api, &call, body).await?;
        if O::Answer::name() == Nothing::name() {
            return Ok(json(StatusCode::NO_CONTENT, "application/json", String::new()));
        }
        let tag = O::tag(&answer).and_then(|tag| HeaderValue::from_str(&tag).ok());
        let text = if O::LONG {
            aside(move || serde_json::to_string(&answer)).await?
        } else {
            serde_json::to_string(&answer)
        };
        let text = text.map_err(|_| Problem::new(Kind::Internal, "the answer cannot be written"))?;
        let mut response = json(O::STATUS, "application/json", text + "\n");
        if let Some(tag) = tag {
            response.headers_mut().insert(header::ETAG, tag);
        }
        Ok(response)
    })
}

/// How many long answers are put together at the same time.
const ASIDE: usize = 2;
static TURNS: Semaphore = Semaphore::const_new(ASIDE);

/// Work that takes a while, on a thread of its own: in a lane, everybody else whose connection lives there would wait.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let broken = || Problem::new(Kind::Internal, "the answer was not put together");
    let _turn = TURNS.acquire().await.map_err(|_| broken())?;
    tokio::task::spawn_blocking(work).await.map_err(|_| broken())
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read(request: http::Request<Body>, limit: usize) -> Result<Bytes, Problem> {
    let mut body = request.into_body();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(Kind::Malformed, "the body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            let detail = format!("the body may have at most {limit} bytes");
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

fn parse<T: DeserializeOwned + ToSchema>(call: &Call, body: &[u8]) -> Result<T, Problem> {
    if T::name() == Nothing::name() {
        if !body.is_empty() {
            return Err(Problem::new(Kind::Invalid, "this operation takes no body"));
        }
        return serde_json::from_slice(b"{}").map_err(|_| Problem::new(Kind::Internal, "no body"));
    }
    // SECURITY: a form of another site can be sent without asking its visitor, JSON cannot.
    if !call.json {
        return Err(Problem::new(
            Kind::Invalid,
            "the body must be JSON, and say so: `Content-Type: application/json`",
        ));
    }
    // serde's message names the field and what is accepted; it may quote the body, never a secret (those are strings).
    serde_json::from_slice(body).map_err(|error| Problem::new(Kind::Invalid, error.to_string()))
}

/// A permitted request, as a handler sees it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: RequestId,
    task: String,
    pub(super) subject: Subject,
    pub(super) vo: Option<VoRef>,
    pub(super) parameters: Parameters,
    pub(super) query: Vec<(String, String)>,
    pub(super) json: bool,
    pub(super) base: String,
    /// Leave to certify a key, where the task is to download a proxy.
    pub(super) certifier: Option<Arc<Certifier>>,
    /// Cancelled when nobody waits for the answer any more.
    pub(super) gone: CancellationToken,
    reasoned: bool,
    if_match: IfMatch,
}

/// A permitted request, for pages that do what an operation does.
#[derive(Clone, Debug)]
pub struct Asked(pub(super) Call);

impl Asked {
    /// Who asks, in which VO, with which parameters.
    #[must_use]
    pub fn of(request: &LocalRequest) -> Self {
        Self(Call::of(request))
    }

    /// The same for a page that takes the reason in its form.
    pub(super) fn because(&self, reason: &str) -> Result<Call, Problem> {
        if let Some(flaw) = unfit_reason(reason) {
            return Err(Problem::new(Kind::ReasonRequired, flaw).with("field", "why"));
        }
        let mut call = self.0.clone();
        call.parameters.insert(REASON.into(), reason.into());
        call.reasoned = true;
        Ok(call)
    }
}

impl Call {
    pub(super) fn of(request: &LocalRequest) -> Self {
        let (permit, place) = (&request.permit, request.permit.place());
        let kind = request.request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        Self {
            id: request.id,
            task: permit.found().task.name.clone(),
            subject: permit.subject().clone(),
            vo: place.vo.clone(),
            parameters: permit.found().parameters.clone(),
            query: place.target.query().to_vec(),
            json: kind.eq_ignore_ascii_case("application/json"),
            base: request.base.clone(),
            certifier: request.certifier.clone(),
            gone: request.gone.clone(),
            reasoned: permit.found().task.reasoned,
            if_match: IfMatch::of(request.request.headers()),
        }
    }

    /// The VO in the path.
    pub(super) fn vo(&self) -> Result<&VoRef, Problem> {
        self.vo
            .as_ref()
            .ok_or_else(|| Problem::new(Kind::NotFound, "there is no such virtual organisation"))
    }

    /// Who asks.
    pub(super) fn person(&self) -> Result<&Arc<Person>, Problem> {
        self.subject
            .as_person()
            .ok_or_else(|| Problem::new(Kind::NoCredential, "this operation needs a person"))
    }

    /// The session that asks.
    pub(super) fn session(&self) -> Result<&Arc<Session>, Problem> {
        self.subject
            .session()
            .ok_or_else(|| Problem::new(Kind::NoCredential, "this operation needs a session"))
    }

    /// A parameter of the path.
    pub(super) fn parameter(&self, name: &str) -> Result<&str, Problem> {
        self.parameters
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| Problem::new(Kind::Internal, format!("the task has no parameter `{name}`")))
    }

    /// Why it is done, where its task takes a reason and one was given.
    pub(super) fn reason(&self) -> Option<&str> {
        self.parameters
            .get(REASON)
            .filter(|_| self.reasoned)
            .map(String::as_str)
    }

    /// Whether what is to be edited, whose tag is `present`, is what was read. To be asked once the change has begun: from then
    /// on nobody else changes it.
    pub(super) fn unchanged(&self, api: &Api, present: Option<&str>) -> Result<(), Problem> {
        self.if_match.judge(present, api.require_if_match)
    }

    /// A parameter of the path that is an id.
    pub(super) fn id_of<T: std::str::FromStr>(&self, name: &str) -> Result<T, Problem> {
        let text = self.parameter(name)?;
        text.parse()
            .map_err(|_| Problem::new(Kind::NotFound, format!("there is no {name} `{text}`")))
    }

    /// A parameter of the query; at most once.
    pub(super) fn query(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.query.iter().filter(|(known, _)| known == name);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => Ok(Some(value)),
            _ => Err(Problem::new(
                Kind::Invalid,
                format!("`{name}` may stand once in the query"),
            )),
        }
    }

    /// A parameter of the query that has a form of its own.
    pub(super) fn query_as<T: std::str::FromStr>(
        &self,
        name: &str,
        accepted: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.query(name)? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| Problem::new(Kind::Invalid, format!("`{name}` must be {accepted}")))
    }

    /// A moment in the query.
    pub(super) fn moment(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.query(name)?.map(|text| moment(name, text)).transpose()
    }

    /// The part of a list that the query asks for: `after` a key, at most `limit`.
    pub(super) fn page<T>(
        &self,
        mut items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>), Problem> {
        let limit = self.limit()?;
        if let Some(after) = self.query("after")? {
            let after = cursor::read(&self.task, after)
                .ok_or_else(|| Problem::new(Kind::Invalid, "`after` must be what `next` of this list was"))?;
            items.retain(|item| key(item) > after);
        }
        items.sort_by_cached_key(&key);
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next = last.map(|last| cursor::written(&self.task, &key(last)));
        Ok((items, next))
    }

    /// How many items a list may have.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let limit = self
            .query_as("limit", "a number from 1 to 1000")?
            .unwrap_or(USUAL);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::new(
                Kind::Invalid,
                "`limit` must be a number from 1 to 1000",
            ));
        }
        Ok(limit)
    }
}

/// Reads a moment; the problem names the field.
pub(super) fn moment(field: &str, text: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse(text).map_err(|_| {
        let detail = format!("`{field}` must be a date and time such as 2030-01-31T12:00:00Z");
        Problem::new(Kind::Invalid, detail)
    })
}

/// A task of the API without anything particular.
pub(super) fn task(name: &str, matches: &str, kind: tool::Kind, audience: Audience) -> Task {
    Task {
        max_body: Some(LIMIT as u64),
        local: Some(super::SERVICE),
        ..Task::plain(name, &[matches], kind, audience)
    }
}

/// The same for a list that pages.
pub(super) fn list(name: &str, matches: &str, audience: Audience) -> Task {
    Task {
        query: Some(vec!["after".into(), "limit".into()]),
        ..task(name, matches, tool::Kind::Read, audience)
    }
}

/// The same for one that edits by hand who may do what: it takes a reason, which stands on record beside the change.
pub(super) fn reasoned(mut task: Task) -> Task {
    task.reasoned = true;
    task.query.get_or_insert_default().push(REASON.into());
    task
}

/// The same for a task that acts on the person in the path.
pub(super) fn on_person(task: Task) -> Task {
    Task {
        resource: Some(tool::ResourceRule {
            kind: "person".into(),
            id: "{person}".into(),
        }),
        ..task
    }
}

/// What somebody who does not belong to the VO in the path is told, whether there is such a VO or not.
pub(super) fn stranger(call: &Call) -> Problem {
    let name = call.vo.as_ref().map_or("", |vo| vo.name.as_str());
    let detail = format!("you are not a member of a virtual organisation `{name}`");
    Problem::new(Kind::NotAMember, detail).with("vo", name)
}

/// The person in the path, who must be a member of the VO in the path.
pub(super) fn member(api: &Api, call: &Call) -> Result<Arc<Person>, Problem> {
    let vo = call.vo()?;
    let id: PersonId = call.id_of("person")?;
    let directory = api.directory();
    // SECURITY: an administrator sees and changes the members of her own VO only.
    directory
        .person(id)
        .filter(|_| directory.is_member(vo.id, id))
        .cloned()
        .ok_or_else(|| {
            Problem::new(
                Kind::NotFound,
                format!("there is no member `{id}` in {}", vo.name),
            )
        })
}
