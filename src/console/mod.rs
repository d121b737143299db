//! The pages of the gateway itself: login, choice of a password, "my access", problems; and the way from the gateway's
//! host to a tool's own host and out again.
//!
//! Server-rendered, without script, readable on a phone and in the dark. Every page and action is a task of the
//! reserved tool `countersign` and comes here through the pipeline, like any other request; [`Console::service`]
//! dispatches on the task that was permitted, never on the path.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use http::request::Parts;
use http::{Response, StatusCode};
use tower::service_fn;

mod access;
mod answer;
mod ask;
mod asking;
mod audit;
mod denials;
mod enrol;
mod enter;
mod faults;
mod federation;
mod form;
mod frame;
mod gateway;
mod home;
mod identity;
mod login;
mod members;
mod multipart;
mod own;
mod pages;
mod password;
mod roles;
mod second;
mod terms;
#[cfg(test)]
mod tests;
mod token;
mod tools;
mod trace;

use ask::Refusal;

use crate::api::{Api, Asked};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use multipart::fuzz_form;

use crate::api::provider::on_tool;
use crate::api::proxy::TRACERS;
use crate::audit::Audit;
use crate::authenticate::{Authenticate, is_local_path, is_navigation, percent};
use crate::authorize::{Authorize, Permit};
use crate::body::Body;
use crate::delegate::{Delegate, DelegateError, LIST_TASK, Signing};
use crate::forward::{LocalRequest, LocalService};
use crate::gateway::Pages;
use crate::id::{Ids, RequestId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::tool::{self, Address, Audience, Place, Task, ToolsHandle};
use crate::vo::{EnrolmentKind, VO_ADMINISTRATOR, Vos};

/// Name of the service, as tasks name it.
pub const SERVICE: &str = "console";

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    authenticate: Authenticate,
    authorize: Authorize,
    audit: Audit,
    tools: ToolsHandle,
    vos: Vos,
    delegate: Arc<Delegate>,
    ids: Ids,
    /// Does what pages do that have an operation of their own.
    api: OnceLock<Arc<Api>>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console(..)")
    }
}

/// The tasks of the console, for the reserved tool.
#[must_use]
pub fn tasks() -> Vec<Task> {
    use tool::Kind::{Asset, Create, Delete, Read, Update};
    let to = || Some(vec!["to".to_owned(), "note".to_owned()]);
    let form = |task: Task| Task {
        max_body: Some(form::LIMIT as u64),
        strict: true,
        ..task
    };
    let mut tasks = vec![
        Task {
            query: to(),
            ..task("console.home", "GET /", Read, Audience::AnyPerson)
        },
        Task {
            query: to(),
            ..task("console.login_page", "GET /login", Read, Audience::Everyone)
        },
        form(task("console.login", "POST /login", Create, Audience::Everyone)),
        form(task(
            "console.login_code",
            "POST /login/code",
            Create,
            Audience::Everyone,
        )),
        Task {
            query: Some(vec!["to".to_owned()]),
            ..task(
                "console.federated_start",
                "GET /login/with/{idp:slug}",
                Read,
                Audience::Everyone,
            )
        },
        // Not a change of state in its kind, for the browser comes from another site. What it brings (state, code) is good once, and
        // is judged there; providers send parameters of their own along.
        Task {
            query: None,
            strict: true,
            ..task(
                "console.federated_return",
                "GET /login/with/{idp:slug}/callback",
                Read,
                Audience::Everyone,
            )
        },
        Task {
            query: to(),
            ..task(
                "console.identities_page",
                "GET /identities",
                Read,
                Audience::AnyPerson,
            )
        },
        form(task(
            "console.identity_link",
            "POST /identities/link",
            Update,
            Audience::AnyPerson,
        )),
        form(task(
            "console.identity_unlink",
            "POST /identities/unlink",
            Delete,
            Audience::AnyPerson,
        )),
        form(task(
            "console.federated_logout",
            "POST /login/with/{idp:slug}/logout",
            Update,
            Audience::Everyone,
        )),
        Task {
            query: to(),
            ..task("console.step_up_page", "GET /step-up", Read, Audience::AnyPerson)
        },
        form(task(
            "console.step_up",
            "POST /step-up",
            Create,
            Audience::AnyPerson,
        )),
        Task {
            query: to(),
            ..task("console.factors_page", "GET /factors", Read, Audience::AnyPerson)
        },
        form(task(
            "console.factor_offer",
            "POST /factors/offer",
            Read,
            Audience::AnyPerson,
        )),
        form(task(
            "console.factor_add",
            "POST /factors",
            Create,
            Audience::AnyPerson,
        )),
        form(task(
            "console.factor_remove",
            "POST /factors/remove",
            Delete,
            Audience::AnyPerson,
        )),
        form(task(
            "console.recovery_codes",
            "POST /factors/recovery-codes",
            Update,
            Audience::AnyPerson,
        )),
        Task {
            query: to(),
            ..task(
                "console.password_page",
                "GET /password",
                Read,
                Audience::AnySession,
            )
        },
        form(task(
            "console.password",
            "POST /password",
            Update,
            Audience::AnySession,
        )),
        // Not `vo`: a virtual organisation that is not there looks like one that takes no requests.
        task(
            "console.join_page",
            "GET /vo/{organisation:slug}/join",
            Read,
            Audience::Everyone,
        ),
        form(task(
            "console.join",
            "POST /vo/{organisation:slug}/join",
            Create,
            Audience::Everyone,
        )),
        Task {
            query: Some(vec!["code".into()]),
            // SECURITY: a code is a credential until it is used.
            sensitive: vec!["code".into()],
            ..task(
                "console.confirm_page",
                "GET /vo/{organisation:slug}/join/confirm",
                Read,
                Audience::Everyone,
            )
        },
        form(task(
            "console.confirm",
            "POST /vo/{organisation:slug}/join/confirm",
            Create,
            Audience::Everyone,
        )),
        Task {
            query: Some(vec!["code".into()]),
            sensitive: vec!["code".into()],
            ..task(
                "console.invitation_page",
                "GET /invitation",
                Read,
                Audience::Everyone,
            )
        },
        form(task(
            "console.take_invitation",
            "POST /invitation",
            Create,
            Audience::Everyone,
        )),
        task(
            "console.accounts_page",
            "GET /accounts/{vo:slug}",
            Read,
            Audience::Granted(&[VO_ADMINISTRATOR]),
        ),
        form(task(
            "console.decide_account",
            "POST /accounts/{vo:slug}",
            Update,
            Audience::Granted(&[VO_ADMINISTRATOR]),
        )),
        Task {
            query: to(),
            ..task("console.terms_page", "GET /terms", Read, Audience::AnySession)
        },
        form(task(
            "console.accept_terms",
            "POST /terms",
            Create,
            Audience::AnySession,
        )),
        form(task(
            "console.logout",
            "POST /.countersign/logout",
            Delete,
            Audience::AnySession,
        )),
        task("console.trace_page", "GET /trace/{vo:slug}", Read, TRACERS),
        Task {
            max_body: Some(trace::LIMIT as u64),
            ..task("console.trace", "POST /trace/{vo:slug}", Read, TRACERS)
        },
        Task {
            resource: on_tool(),
            ..task(
                "console.provider_trace_page",
                "GET /trace/{vo:slug}/{tool:slug}",
                Read,
                Audience::Granted(&[VO_ADMINISTRATOR]),
            )
        },
        Task {
            resource: on_tool(),
            max_body: Some(trace::LIMIT as u64),
            strict: true,
            ..task(
                "console.provider_trace",
                "POST /trace/{vo:slug}/{tool:slug}",
                Create,
                Audience::Granted(&[VO_ADMINISTRATOR]),
            )
        },
        Task {
            query: Some(["host", "nonce", "to", "code"].map(str::to_owned).to_vec()),
            // SECURITY: a code is a credential for 30 s.
            sensitive: vec!["code".into()],
            ..task(
                "console.enter",
                "GET /.countersign/enter",
                Read,
                Audience::Everyone,
            )
        },
        task("console.me", "GET /.countersign/me", Read, Audience::AnyPerson),
        task(
            "console.problems",
            "GET /.countersign/problems",
            Read,
            Audience::Everyone,
        ),
        task(
            "console.problem",
            "GET /.countersign/problems/{problem:slug}",
            Read,
            Audience::Everyone,
        ),
        task(
            "console.asset",
            "GET /.countersign/assets/{file:slug}",
            Asset,
            Audience::Everyone,
        ),
        task(
            "protected_resource",
            "GET /.well-known/oauth-protected-resource",
            Read,
            Audience::Everyone,
        ),
        task("jwks", "GET /.countersign/jwks.json", Read, Audience::Everyone),
        // Not `vo`: a list of what is revoked is there for everybody, also while the VO is suspended.
        task(
            LIST_TASK,
            "GET /.countersign/crl/{issuer:slug}",
            Read,
            Audience::Everyone,
        ),
    ];
    tasks.extend(token::tasks());
    tasks.extend(asking::tasks());
    tasks
}

fn task(name: &str, matches: &str, kind: tool::Kind, audience: Audience) -> Task {
    Task {
        max_body: Some(0),
        local: Some(SERVICE),
        ..Task::plain(name, &[matches], kind, audience)
    }
}

impl Console {
    /// The console over the parts it shows and acts with.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of the gateway, named by their types"
    )]
    pub fn new(
        authenticate: Authenticate,
        authorize: Authorize,
        audit: Audit,
        tools: ToolsHandle,
        vos: Vos,
        delegate: Arc<Delegate>,
        ids: Ids,
    ) -> Self {
        Self(Arc::new(Inner {
            authenticate,
            authorize,
            audit,
            tools,
            vos,
            delegate,
            ids,
            api: OnceLock::new(),
        }))
    }

    /// The same, with pages that do what operations of the API do.
    #[must_use]
    pub fn with_api(self, api: Arc<Api>) -> Self {
        // There is one API; a second one would change nothing.
        let _ = self.0.api.set(api);
        self
    }

    /// The service that carries out permitted requests.
    #[must_use]
    pub fn service(&self) -> LocalService {
        let console = self.clone();
        LocalService::new(service_fn(move |request: LocalRequest| {
            let console = console.clone();
            async move {
                let (id, permit) = (request.id, request.permit.clone());
                let answer = console.answer(request).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|refusal| console.instead(&refusal, &permit, id)))
            }
        }))
    }

    async fn answer(&self, request: LocalRequest) -> Result<Response<Body>, Refusal> {
        // SECURITY: the task that was permitted decides what is done, never the request's own path.
        let permit = Arc::clone(&request.permit);
        let answered = match permit.found().task.name.as_str() {
            "console.home" => self.home(&request),
            "console.login_page" => Ok(self.login_page(request).await),
            "console.federated_start" => self.federated_start(request).await,
            "console.identities_page" => self.identities_page(request).await,
            "console.identity_link" => self.identity_link(request).await,
            "console.identity_unlink" => self.identity_unlink(request).await,
            "console.federated_return" => self.federated_return(request).await,
            "console.federated_logout" => self.federated_logout(request).await,
            "console.login" => self.login(request).await,
            "console.login_code" => self.login_code(request).await,
            "console.step_up_page" => self.step_up_page(&permit).await,
            "console.step_up" => self.step_up(request).await,
            "console.factors_page" => self.factors_page(&permit).await,
            "console.factor_offer"
            | "console.factor_add"
            | "console.factor_remove"
            | "console.recovery_codes" => self.factor(request).await,
            "console.tokens_page" => self.tokens_page(&permit, Asked::of(&request)).await,
            "console.token_create" | "console.token_revoke" => self.token(request).await,
            "console.password_page" => self.password_page(&request),
            "console.password" => self.password(request).await,
            "console.join_page" => self.join_page(request).await,
            "console.join" => self.join(request).await,
            "console.confirm_page" => self.enrol_page(request, EnrolmentKind::Request).await,
            "console.confirm" => self.confirm(request).await,
            "console.invitation_page" => self.enrol_page(request, EnrolmentKind::Invitation).await,
            "console.take_invitation" => self.take_invitation(request).await,
            "console.accounts_page" => self.accounts_page(request).await,
            "console.decide_account" => self.decide_account(request).await,
            "console.terms_page" => self.terms_page(request).await,
            "console.accept_terms" => self.accept_terms(request).await,
            "console.logout" => self.logout(request).await,
            "console.trace_page" | "console.provider_trace_page" => self.trace_page(&request),
            "console.trace" | "console.provider_trace" => self.trace(request).await,
            "console.enter" => self.enter(request).await,
            "console.me" => self.me(&request),
            "console.problems" => Ok(answer::page(StatusCode::OK, pages::kinds())),
            "console.problem" => problem_type(parameter(&request, "problem")),
            "console.asset" => asset(parameter(&request, "file")),
            LIST_TASK => {
                let vo = parameter(&request, "issuer").to_owned();
                self.revocation_lists(&vo, &request.permit, request.id).await
            }
            "protected_resource" => Ok(answer::json(&federation::resource(&request.base))),
            "jwks" => Ok(answer::json(&self.0.delegate.jwks())),
            _ => return self.asked(request).await,
        };
        answered.map_err(Refusal::from)
    }

    async fn revocation_lists(
        &self,
        vo: &str,
        permit: &Permit,
        request: RequestId,
    ) -> Result<Response<Body>, Problem> {
        let unknown = || Problem::new(Kind::NotFound, "there is no revocation list of this name");
        let id = self.0.vos.handle().load().vo_named(vo).map(|vo| vo.id);
        let id = id.ok_or_else(unknown)?;
        let by = Signing::permitted(permit, request, &self.0.audit);
        let by = by.map_err(|error| error.as_problem())?;
        let lists = self.0.delegate.revocation_lists(id, vo, &by).await;
        match lists {
            // SECURITY: whether a VO without a certificate exists is not for strangers to learn.
            Err(DelegateError::NoCertificate { .. }) => Err(unknown()),
            lists => lists
                .map(|lists| answer::text("application/x-pem-file", lists))
                .map_err(|error| error.as_problem()),
        }
    }

    fn me(&self, request: &LocalRequest) -> Result<Response<Body>, Problem> {
        let access = self.access(request).ok_or_else(nobody)?;
        let value = serde_json::to_value(access)
            .map_err(|_| Problem::new(Kind::Internal, "the answer cannot be written"))?;
        Ok(answer::json(&value))
    }

    /// Where a browser that navigates and is not signed in (or has yet to choose a password) is sent instead of a
    /// refusal: on the gateway's host to the login page, on a tool's host over the gateway and back.
    #[must_use]
    pub fn sign_in(&self, head: &Parts, place: &Place, base: &str) -> Option<Response<Body>> {
        if !is_navigation(head) {
            return None;
        }
        let to = place.target.as_str();
        match place.address {
            Address::Path => None,
            Address::Gateway => Some(answer::see_other(&login::address(to, ""))),
            Address::ToolHost => {
                let start = self.0.authenticate.enter_start(&place.host, to).ok()?;
                let response = answer::see_other(&format!("{base}{}", start.location));
                Some(answer::with_cookie(response, &start.cookie))
            }
        }
    }
}

impl Console {
    /// The same for one whose session has too little assurance: over the page that asks for a code. From a tool's host it goes
    /// over the gateway and back, since the session there ends with the one that it came from.
    fn raise(&self, head: &Parts, place: &Place, base: &str) -> Option<Response<Body>> {
        if !is_navigation(head) {
            return None;
        }
        let to = place.target.as_str();
        match place.address {
            Address::Path => None,
            Address::Gateway => Some(answer::see_other(&second::step_up_address(to))),
            Address::ToolHost => {
                let start = self.0.authenticate.enter_start(&place.host, to).ok()?;
                let address = second::step_up_address(&start.location);
                let response = answer::see_other(&format!("{base}{address}"));
                Some(answer::with_cookie(response, &start.cookie))
            }
        }
    }
}

impl Pages for Console {
    fn problem(&self, problem: &Problem, request: RequestId) -> String {
        pages::problem(problem, request)
    }

    fn sign_in(&self, head: &Parts, place: &Place, base: &str) -> Option<Response<Body>> {
        Self::sign_in(self, head, place, base)
    }

    fn step_up(&self, head: &Parts, place: &Place, base: &str) -> Option<Response<Body>> {
        Self::raise(self, head, place, base)
    }

    fn terms(&self, head: &Parts, place: &Place, base: &str) -> Option<Response<Body>> {
        self.to_terms(head, place, base)
    }
}

fn problem_type(name: &str) -> Result<Response<Body>, Problem> {
    let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
    kind.map(|kind| answer::page(StatusCode::OK, pages::kind(*kind)))
        .ok_or_else(|| Problem::new(Kind::NotFound, "there is no problem of this name"))
}

fn asset(name: &str) -> Result<Response<Body>, Problem> {
    match name {
        "console.css" => Ok(answer::file(
            "text/css; charset=utf-8",
            include_str!("console.css"),
        )),
        "icon.svg" => Ok(answer::file("image/svg+xml", include_str!("icon.svg"))),
        _ => Err(Problem::new(Kind::NotFound, "there is no such file")),
    }
}

fn nobody() -> Problem {
    Problem::new(Kind::NoCredential, "nobody is signed in")
}

/// A parameter that the task took from the path or the query; empty when it is not there.
fn parameter<'a>(request: &'a LocalRequest, name: &str) -> &'a str {
    request
        .permit
        .found()
        .parameters
        .get(name)
        .map_or("", String::as_str)
}

/// Where to go afterwards: a path on this host, else home.
fn local(to: &str) -> &str {
    // SECURITY: what a link says of where to go is followed on this host only.
    if is_local_path(to) { to } else { "/" }
}

/// The notes that an address can ask a page to show; free text never comes from an address.
fn note(name: &str) -> pages::Said {
    match name {
        "changed" => pages::Said::Good("Your password is changed. Sign in with the new one."),
        "saved" => pages::Said::Good("Your password is changed, and your other sessions have ended."),
        "factor-added" => {
            pages::Said::Good("The authenticator is added, and your other sessions have ended.")
        }
        "factor-removed" => {
            pages::Said::Good("The authenticator is removed, and your other sessions have ended.")
        }
        "token-revoked" => pages::Said::Good(token::REVOKED),
        "identity-linked" => {
            pages::Said::Good("The home organisation is linked: it opens your account from now on.")
        }
        "identity-unlinked" => pages::Said::Good(
            "The home organisation is taken away, and sessions that began there have ended.",
        ),
        "signed-out" => pages::Said::Good("You are signed out here and at all tools."),
        "ended" => pages::Said::Good("The session has ended."),
        "revoked" => {
            pages::Said::Good("The proxies are revoked: they stand on the revocation list from now on.")
        }
        "member-added" => {
            pages::Said::Good("The member is added, and the one-time password is on its way by mail.")
        }
        "member-removed" => pages::Said::Good("The member is removed. What was done stays on record."),
        "suspended" => {
            pages::Said::Good("The account is suspended: its sessions have ended, its proxies are revoked.")
        }
        "resumed" => pages::Said::Good("The account is resumed."),
        "factors-reset" => pages::Said::Good("The second factors are taken away."),
        "password-mailed" => {
            pages::Said::Good("The password is reset, and a one-time password is on its way by mail.")
        }
        "role-assigned" => pages::Said::Good("The role is given; the next request is decided with it."),
        "role-unassigned" => {
            pages::Said::Good("The role is taken away; the next request is decided without it.")
        }
        "granted" => pages::Said::Good("The grant is made; the next request is decided with it."),
        "grant-removed" => pages::Said::Good("The grant is removed; the next request is decided without it."),
        "role-created" => pages::Said::Good("The role is made. Grant it tasks in the matrix."),
        "role-ended" => pages::Said::Good("The role has ended, with its grants and everybody's hold on it."),
        _ => pages::Said::Nothing,
    }
}

/// A moment as pages show it, to the second; the documents for programs have it whole.
fn shown_moment(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

/// Whether the client would rather have a page than a bare status.
fn wants_page(head: &http::HeaderMap) -> bool {
    let accept = head
        .get(http::header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// An address with a query parameter more, where the value is not empty.
fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut address = path.to_owned();
    let mut mark = '?';
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        address.push(mark);
        address.push_str(name);
        address.push('=');
        address.push_str(&percent(value));
        mark = '&';
    }
    address
}
