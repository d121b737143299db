//! Signing in with a home organisation: the browser goes there, and comes back.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::form::Form;
use super::login::words;
use super::{Console, answer, local, login, pages, parameter, wants_page};
use crate::api::idp::{arrive, link::link};
use crate::api::{Api, Asked};
use crate::authenticate::{
    FederatedRefusal, LOGIN_COOKIE, Opened, Returned, Source, clear_cookie, login_cookie,
};
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::id::RequestId;
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::secret::Secret;

/// What is needed of a request after its first wait.
struct Back {
    asked: Asked,
    idp: String,
    query: Vec<(String, String)>,
    cookie: Option<Secret<String>>,
    base: String,
    source: Source,
    id: RequestId,
}

/// What came of it, with where to go on.
enum Came {
    SignedIn(Box<Opened>, String),
    Linked(String),
}

impl Console {
    /// The home organisations that the login page offers. Without them it still opens: passwords do not need them.
    pub(super) async fn providers(&self) -> Vec<pages::With> {
        let idps = self.0.authenticate.idps().await.unwrap_or_else(|error| {
            tracing::error!("the login page offers no home organisations: {error}");
            Vec::new()
        });
        let active = idps.into_iter().filter(|idp| idp.active);
        let mut offered: Vec<pages::With> = active
            .map(|idp| pages::With {
                name: idp.name,
                display_name: idp.settings.display_name,
            })
            .collect();
        offered.sort_by(|one, other| one.display_name.cmp(&other.display_name));
        offered
    }

    /// Sends the browser to the provider.
    pub(super) async fn federated_start(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (id, page) = (request.id, wants_page(request.request.headers()));
        let to = local(parameter(&request, "to")).to_owned();
        if let Some(session) = request.permit.subject().session() {
            return Ok(match session.must_change {
                true => answer::see_other(&login::password_address(&to)),
                false => answer::see_other(&to),
            });
        }
        let (idp, base) = (parameter(&request, "idp").to_owned(), request.base.clone());
        drop(request);
        Ok(
            match self.0.authenticate.federated_start(&idp, &base, &to).await {
                Ok(start) => answer::with_cookie(answer::see_other(&start.location), &start.cookie),
                Err(problem) => refused(&problem, page, id),
            },
        )
    }

    /// Takes the browser back from the provider.
    pub(super) async fn federated_return(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (id, page) = (request.id, wants_page(request.request.headers()));
        let cookie = login_cookie(request.request.headers());
        let cookie = cookie.map_err(|error| Problem::new(Kind::TwoCredentials, error.to_string()))?;
        let back = Back {
            asked: Asked::of(&request),
            idp: parameter(&request, "idp").to_owned(),
            query: request.permit.place().target.query().to_vec(),
            cookie,
            base: request.base.clone(),
            source: request.permit.subject().source(),
            id,
        };
        drop(request);
        let response = match self.returned(back).await {
            Ok(Came::SignedIn(opened, to)) => Self::signed_in(&opened, &to),
            Ok(Came::Linked(to)) => answer::see_other(&to),
            Err(problem) => refused(&problem, page, id),
        };
        // Whatever came of it, it is over.
        Ok(answer::with_cookie(response, &clear_cookie(LOGIN_COOKIE)))
    }

    async fn returned(&self, back: Back) -> Result<Came, Problem> {
        let api = self.federation()?;
        let returned = Returned {
            idp: &back.idp,
            query: &back.query,
            cookie: back.cookie.as_ref(),
            base: &back.base,
            source: back.source,
            request: back.id,
        };
        let authenticate = &self.0.authenticate;
        let arrived = match authenticate.federated_return(returned).await? {
            Ok(arrived) => arrived,
            Err(refusal) => return Err(self.refuse(*refusal).await),
        };
        if arrived.link.is_some() {
            link(api, &back.asked, &arrived).await?;
            return Ok(Came::Linked(arrived.to));
        }
        let identity = match arrive(api, &back.asked, &arrived).await? {
            Ok(identity) => identity,
            Err(refusal) => return Err(self.refuse(*refusal).await),
        };
        let at = (back.source, back.id);
        let signed = authenticate.federated_session(&arrived, &identity, at).await?;
        // INVARIANT: the login, right or wrong, is on record before its cookie is worth anything.
        self.record(signed.events()).await?;
        let opened = self.begin(signed.result?).await?;
        Ok(Came::SignedIn(Box::new(opened), arrived.to))
    }

    /// The answer to somebody who does not get in, once that is on record.
    async fn refuse(&self, refusal: FederatedRefusal) -> Problem {
        match self.record(vec![Event::Login(refusal.login)]).await {
            Ok(()) => refusal.problem,
            Err(problem) => problem,
        }
    }

    /// Ends what a provider says is over (OpenID Connect Back-Channel Logout section 2.5).
    pub(super) async fn federated_logout(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (id, idp) = (request.id, parameter(&request, "idp").to_owned());
        let form = Form::read(request.request).await?;
        let token = form.text("logout_token");
        let ended = self.0.authenticate.federated_logout(&idp, token, id).await?;
        if let Some(ended) = &ended {
            self.end(ended).await?;
        }
        Ok(answer::text("text/plain; charset=utf-8", String::new()))
    }

    pub(super) fn federation(&self) -> Result<&Api, Problem> {
        let api = self.0.api.get();
        api.map(AsRef::as_ref)
            .ok_or_else(|| Problem::new(Kind::Internal, "nobody can come from elsewhere here"))
    }
}

/// What the gateway is as a protected resource (RFC 9728 section 2). It names no authorization server: tokens of others are not
/// taken here, whoever people sign in with.
pub(super) fn resource(base: &str) -> Value {
    json!({
        "resource": base,
        "resource_name": "Countersign",
        "bearer_methods_supported": ["header"],
        "resource_documentation": format!("{base}/api/v1/openapi.json"),
    })
}

/// A refusal as a page, or in plain words for whoever reads no pages.
pub(super) fn refused(problem: &Problem, page: bool, id: RequestId) -> Response<Body> {
    if page {
        return answer::refused(problem, pages::problem(problem, id));
    }
    let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer::told(problem, status, format!("{}\nRequest: {id}\n", words(problem)))
}
