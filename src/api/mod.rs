//! The JSON API, `/api/v1`: what an administrator, a scientist and the command line do with the gateway itself.
//!
//! Every operation is a [`Task`] of the reserved tool `countersign`: the pipeline has identified, permitted and recorded
//! the request before it comes here, and [`service`] dispatches on the name of the task that was permitted, so routing
//! cannot disagree with what was authorised. One file holds one operation: request, answer, task, handler.
//!
//! A change of state is written to the audit log before it is committed to the store (`Api::commit`); without a
//! durable record nothing changes.
//!
//! People stand in paths by their opaque id, so that no record holds a name: [`user::list`] finds the id of a user name.

pub mod account;
pub mod administrator;
pub mod alert;
pub mod audit;
pub mod case;
pub mod ceiling;
pub mod certificate;
mod cursor;
mod etag;
pub mod factor;
pub mod gateway;
pub mod grant;
pub mod idempotency;
pub mod idp;
pub mod invitation;
mod openapi;
mod operation;
pub mod person;
pub mod provider;
pub mod proxy;
pub mod proxy_identity;
pub mod proxy_limit;
pub mod request;
pub mod role;
pub mod session;
pub mod state;
pub mod token;
pub mod terms;
pub mod tool;
pub mod upstream;
pub mod user;
pub mod vo;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use tower::service_fn;

use crate::alert::{Alert, AlertError};
use crate::audit::Audit;
use crate::authenticate::Authenticate;
use crate::authorize::Authorize;
use crate::body::{self, Body};
use crate::clock::Timestamp;
use crate::delegate::Delegate;
use crate::delegate::provider::Providers;
use crate::forward::{LocalRequest, LocalService};
use crate::gateway::step_up_challenge;
use crate::id::{Ids, RequestId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, ChangeEvent, Event, SessionEnded};
use crate::resource::Resources;
use crate::state::{Begun, States};
use crate::store::{Db, Tx, is_overtaken};
use crate::tool::{Task, ToolStore, Tools};
use crate::vo::{Directory, Vos};

use operation::{Call, Entry, entry};

pub use openapi::document;
pub use operation::Asked;

/// How often a change is begun that something else overtakes.
const TURNS: u32 = 8;
/// Name of the service, as tasks name it.
pub const SERVICE: &str = "api";

/// What the operations work with.
pub struct Api {
    /// The store.
    pub db: Db,
    /// People, VOs, roles, grants, upstreams.
    pub vos: Vos,
    /// The audit log.
    pub audit: Audit,
    /// Time and ids.
    pub ids: Ids,
    /// Tools, the gateway's own included.
    pub tools: ToolStore,
    /// All that decisions are made from, held against the log.
    pub states: States,
    /// Owners and parents of what tools made.
    pub resources: Resources,
    /// Passwords and sessions.
    pub authenticate: Authenticate,
    /// Decisions, for what somebody may do and for conditions.
    pub authorize: Authorize,
    /// The outbox, for one-time passwords.
    pub alert: Alert,
    /// VO certificates, static credentials, traces.
    pub delegate: Arc<Delegate>,
    /// What resource providers see of traces, and their cases.
    pub providers: Providers,
    /// Where the gateway itself is reached.
    pub own: upstream::OwnPlaces,
    /// Asks the server to read its settings anew.
    pub reload: gateway::Reload,
    /// Whether an edit must say what it changes (`If-Match`).
    pub require_if_match: bool,
    /// Creations under an `Idempotency-Key` that are under way.
    pub running: idempotency::Running,
}

/// All operations; the order is that of the reference.
fn entries() -> Vec<Entry> {
    vec![
        entry::<vo::create::Create>(),
        entry::<vo::list::List>(),
        entry::<vo::show::Show>(),
        entry::<vo::suspend::Suspend>(),
        entry::<vo::resume::Resume>(),
        entry::<state::list::List>(),
        entry::<state::accept::Accept>(),
        entry::<user::add::Add>(),
        entry::<user::list::List>(),
        entry::<user::find::Find>(),
        entry::<user::show::Show>(),
        entry::<user::edit::Edit>(),
        entry::<user::remove::Remove>(),
        entry::<user::reset_password::ResetPassword>(),
        entry::<user::reset_factors::ResetFactors>(),
        entry::<user::suspend::Suspend>(),
        entry::<user::resume::Resume>(),
        entry::<user::expire::Expire>(),
        entry::<user::delete::Delete>(),
        entry::<user::flag_compromised::FlagCompromised>(),
        entry::<user::export::Export>(),
        entry::<proxy_limit::list::List>(),
        entry::<proxy_limit::set::Set>(),
        entry::<proxy_identity::show::Show>(),
        entry::<proxy_identity::set::Set>(),
        entry::<user::certificate::add::Add>(),
        entry::<user::certificate::list::List>(),
        entry::<user::certificate::remove::Remove>(),
        entry::<user::certificate::mark::Mark>(),
        entry::<user::certificate::clear::Clear>(),
        entry::<role::create::Create>(),
        entry::<role::list::List>(),
        entry::<role::end::End>(),
        entry::<role::assign::Assign>(),
        entry::<role::unassign::Unassign>(),
        entry::<grant::add::Add>(),
        entry::<grant::list::List>(),
        entry::<grant::remove::Remove>(),
        entry::<ceiling::show::Show>(),
        entry::<ceiling::set::Set>(),
        entry::<upstream::allow::Allow>(),
        entry::<upstream::list::List>(),
        entry::<upstream::end::End>(),
        entry::<certificate::import::Import>(),
        entry::<certificate::list::List>(),
        entry::<tool::add::Add>(),
        entry::<tool::try_request::TryRequest>(),
        entry::<tool::list::List>(),
        entry::<tool::show::Show>(),
        entry::<tool::remove::Remove>(),
        entry::<tool::set_credential::SetCredential>(),
        entry::<tool::import::Import>(),
        entry::<proxy::download::Download>(),
        entry::<proxy::list::List>(),
        entry::<proxy::list::ListOf>(),
        entry::<proxy::revoke::Revoke>(),
        entry::<proxy::revoke::RevokeOf>(),
        entry::<proxy::trace::Trace>(),
        entry::<proxy::trace_many::TraceMany>(),
        entry::<provider::add::Add>(),
        entry::<provider::list::List>(),
        entry::<provider::choose::Choose>(),
        entry::<provider::remove::Remove>(),
        entry::<provider::trace::Trace>(),
        entry::<provider::cases::Cases>(),
        entry::<case::list::List>(),
        entry::<case::show::Show>(),
        entry::<case::answer::Answer>(),
        entry::<request::explain::Explain>(),
        entry::<request::explain_own::ExplainOwn>(),
        entry::<request::list_own::ListOwn>(),
        entry::<request::settle::Settle>(),
        entry::<audit::search::Search>(),
        entry::<audit::gateway::SearchGateway>(),
        entry::<audit::prove::Prove>(),
        entry::<audit::prove::ProveGateway>(),
        entry::<alert::list::List>(),
        entry::<administrator::add::Add>(),
        entry::<administrator::list::List>(),
        entry::<administrator::remove::Remove>(),
        entry::<idp::add::Add>(),
        entry::<idp::list::List>(),
        entry::<idp::show::Show>(),
        entry::<idp::edit::Edit>(),
        entry::<idp::suspend::Suspend>(),
        entry::<idp::resume::Resume>(),
        entry::<idp::remove::Remove>(),
        entry::<idp::identities::Identities>(),
        entry::<idp::approve::Approve>(),
        entry::<idp::reject::Reject>(),
        entry::<idp::link::List>(),
        entry::<idp::link::Unlink>(),
        entry::<idp::sign_in::Show>(),
        entry::<gateway::reload::Run>(),
        entry::<gateway::show::Show>(),
        entry::<session::create::Create>(),
        entry::<session::list::List>(),
        entry::<session::end::End>(),
        entry::<session::step_up::StepUp>(),
        entry::<token::create::Create>(),
        entry::<token::list::List>(),
        entry::<token::revoke::Revoke>(),
        entry::<factor::list::List>(),
        entry::<factor::offer::Offer>(),
        entry::<factor::add::Add>(),
        entry::<factor::remove::Remove>(),
        entry::<factor::renew::Renew>(),
        entry::<account::take::Take>(),
        entry::<account::list::List>(),
        entry::<account::approve::Approve>(),
        entry::<account::reject::Reject>(),
        entry::<invitation::create::Create>(),
        entry::<invitation::list::List>(),
        entry::<invitation::revoke::Revoke>(),
        entry::<terms::owed::Owed>(),
        entry::<terms::accept::Accept>(),
        entry::<terms::show::Show>(),
        entry::<terms::set::Set>(),
        entry::<terms::show::ShowGateway>(),
        entry::<terms::set::SetGateway>(),
        entry::<person::me::Me>(),
        entry::<person::change_password::ChangePassword>(),
        entry::<person::find::Find>(),
        entry::<person::export::Export>(),
        entry::<person::erase::Erase>(),
        entry::<openapi::Describe>(),
    ]
}

/// The tasks of all operations, for the reserved tool.
#[must_use]
pub fn tasks() -> Vec<Task> {
    entries().into_iter().map(|entry| (entry.task)()).collect()
}

/// Method and path of an operation, with its parameters filled in and percent-encoded; `None` when there is no such
/// operation or a parameter is missing.
///
/// ```
/// let (method, path) = countersign::api::address("role.end", &[("vo", "imense"), ("role", "operator")]).unwrap();
/// assert_eq!((method, path.as_str()), (http::Method::DELETE, "/api/v1/vos/imense/roles/operator"));
/// ```
#[must_use]
pub fn address(task: &str, parameters: &[(&str, &str)]) -> Option<(Method, String)> {
    let task = tasks().into_iter().find(|known| known.name == task)?;
    let (method, template) = task.matches.first()?.split_once(' ')?;
    let mut path = String::new();
    for part in template.split('/').skip(1) {
        path.push('/');
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            None => path.push_str(part),
            Some(variable) => {
                let name = variable.split(':').next()?;
                let (_, value) = parameters.iter().find(|(known, _)| *known == name)?;
                path.push_str(&encoded(value));
            }
        }
    }
    Some((Method::from_bytes(method.as_bytes()).ok()?, path))
}

/// One segment of a path or one value of a query, percent-encoded (RFC 3986 section 2.1).
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The service that carries out permitted operations.
#[must_use]
pub fn service(api: Arc<Api>) -> LocalService {
    let table: Arc<HashMap<String, Entry>> = Arc::new(
        entries()
            .into_iter()
            .map(|entry| ((entry.task)().name, entry))
            .collect(),
    );
    LocalService::new(service_fn(move |request: LocalRequest| {
        let (api, table) = (api.clone(), table.clone());
        async move {
            let (id, base) = (request.id, request.base.clone());
            let answer = answer(&api, &table, request).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|problem| refusal(&problem, &base, id)))
        }
    }))
}

async fn answer(
    api: &Api,
    table: &HashMap<String, Entry>,
    request: LocalRequest,
) -> Result<Response<Body>, Problem> {
    // SECURITY: the task that was permitted decides what is done, never the request's own path.
    let entry = table
        .get(&request.permit.found().task.name)
        .ok_or_else(|| Problem::new(Kind::Internal, "this task has no operation"))?;
    let call = Call::of(&request);
    let headers = request.request.headers().clone();
    // Without the host and its port, under which a gateway may be reached in several ways.
    let target = request
        .request
        .uri()
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
        .to_owned();
    let (permit, id) = (Arc::clone(&request.permit), request.id);
    let body = operation::read(request.request, entry.limit).await?;
    let asked = match entry.status {
        StatusCode::CREATED => idempotency::Asked::of((&permit, id), &body, &headers, &target)?,
        _ => None,
    };
    let run = (entry.run)(api, call, body);
    match asked {
        Some(asked) => idempotency::once(api, asked, entry.secret, run).await,
        None => run.await,
    }
}

fn refusal(problem: &Problem, base: &str, request: RequestId) -> Response<Body> {
    let text = problem.document(base, request).to_string() + "\n";
    let mut response = json(
        StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        "application/problem+json",
        text,
    );
    if let Some(seconds) = problem.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = step_up_challenge(problem) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn json(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(if text.is_empty() {
        body::empty()
    } else {
        body::full(text)
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // SECURITY: tools live on neighbouring hosts of the same site, where cookies travel along; their pages may not
    // embed what stands here.
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    response
}

impl Api {
    /// Writes the changes down with their reason, then commits them with the mark that the request was applied, then lets decisions see them.
    ///
    /// # Errors
    /// 503 when the log cannot take the records: then nothing is committed. 503 when the store fails to commit: then
    /// the log says what was meant, and the mark says that it did not happen.
    async fn commit(&self, call: &Call, tx: Begun, changes: Vec<Change>) -> Result<(), Problem> {
        self.commit_with(call, tx, changes, Vec::new()).await
    }

    /// The same with further events that the change brings about, in the same batch.
    async fn commit_with(
        &self,
        call: &Call,
        tx: Begun,
        changes: Vec<Change>,
        further: Vec<Event>,
    ) -> Result<(), Problem> {
        self.apply((call.id, call.reason()), tx, changes, further).await
    }

    /// The same for a change of what no decision is made from: nobody's roles, grants or standing.
    async fn commit_aside(&self, call: &Call, mut tx: Tx, changes: Vec<Change>) -> Result<(), Problem> {
        // The mark comes first, so that the transaction cannot fail on it once the records are written.
        tx.applied(call.id, self.now()).await.map_err(problem)?;
        let recorded =
            |change| Event::Change(Box::new(ChangeEvent::of(call.id, change).because(call.reason())));
        let events = changes.into_iter().map(recorded).collect();
        // INVARIANT: the log leads, the store follows.
        self.audit.write_all(events).await.map_err(problem)?;
        match tx.commit().await {
            Err(error) if !self.db.was_applied(call.id).await.map_err(problem)? => Err(problem(error)),
            _ => Ok(()),
        }
    }

    async fn apply(
        &self,
        (request, reason): (RequestId, Option<&str>),
        tx: Begun,
        changes: Vec<Change>,
        further: Vec<Event>,
    ) -> Result<(), Problem> {
        let mut ready = tx.ready(&changes).await.map_err(problem)?;
        // The mark comes first, so that the transaction cannot fail on it once the records are written.
        ready.tx().applied(request, self.now()).await.map_err(problem)?;
        let (mut state, steps) = ready.records(request, !changes.is_empty());
        let recorded = |change| {
            let state = std::mem::take(&mut state);
            Event::Change(Box::new(ChangeEvent {
                state,
                ..ChangeEvent::of(request, change).because(reason)
            }))
        };
        let events = changes
            .into_iter()
            .map(recorded)
            .chain(steps)
            .chain(further)
            .collect();
        let signed = ready.moves();
        // INVARIANT: the log leads, the store follows: durable records before the commit, and signed ones where they say what
        // the state will be, for a start believes no others.
        let seqs = self.audit.write_all(events).await.map_err(problem)?;
        if let Some(last) = seqs.last().filter(|_| signed) {
            self.audit.signed(*last).await.map_err(problem)?;
        }
        ready.commit(request).await.map_err(problem)
    }

    /// After sessions ended with a committed change: nothing of them is of any use from here on.
    async fn forget(&self, ended: Option<&SessionEnded>) -> Result<(), Problem> {
        let Some(ended) = ended else {
            return Ok(());
        };
        for session in &ended.sessions {
            self.delegate.end_session(*session);
        }
        self.authenticate.forget(ended).await.map_err(problem)
    }

    /// Ends sessions: records, then store and memory.
    async fn end(&self, ended: SessionEnded) -> Result<(), Problem> {
        self.audit
            .write(Event::SessionEnded(ended.clone()))
            .await
            .map_err(problem)?;
        self.end_recorded(&ended).await
    }

    /// Ends sessions whose end is on record.
    async fn end_recorded(&self, ended: &SessionEnded) -> Result<(), Problem> {
        for session in &ended.sessions {
            self.delegate.end_session(*session);
        }
        self.authenticate.end(ended).await.map_err(problem)
    }

    /// Whether a change that was begun for the `turn`-th time is to be begun anew, for all of it was undone: something else
    /// changed the same meanwhile. Every sign-in touches the password that a change of factors or of the password moves on, so
    /// that no session outlives it; on PostgreSQL one of the two has to yield.
    fn yields<T>(done: &Result<T, Problem>, turn: &mut u32) -> bool {
        *turn += 1;
        *turn < TURNS && done.as_ref().is_err_and(is_overtaken)
    }

    /// Begins a change of state. Changes follow each other.
    async fn begin(&self) -> Result<Begun, Problem> {
        self.states.begin().await.map_err(problem)
    }

    fn directory(&self) -> Arc<Directory> {
        self.vos.handle().load()
    }

    fn wrapped(&self) -> Arc<Tools> {
        self.tools.handle().load()
    }

    fn now(&self) -> Timestamp {
        self.ids.clock().now()
    }
}

/// A mail that belongs to a change could not be queued: then nothing is changed.
fn unposted(error: &AlertError) -> Problem {
    tracing::error!("a mail could not be queued: {error}");
    Problem::new(Kind::StoreUnavailable, "the mail could not be queued").retry_after(1)
}

/// The problem of an error, for `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn problem(error: impl AsProblem) -> Problem {
    error.as_problem()
}
