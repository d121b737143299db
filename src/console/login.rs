//! Signing in and out in the browser.

use http::{Response, StatusCode};

use super::form::Form;
use super::{Console, answer, local, nobody, note, pages, parameter, second, wants_page, with_query};
use crate::authenticate::{
    COOKIE, Opened, Opening, Prepared, SessionKind, SignIn, clear_cookie, not_begun, set_cookie,
};
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::problem::{AsProblem, Problem};
use crate::record::{Event, Login, SessionEnded};
use crate::secret::Secret;
use crate::tool::Address;

/// The address of the login page that leads on to `to`, with a note.
pub(super) fn address(to: &str, note: &str) -> String {
    let to = if to == "/" { "" } else { to };
    with_query("/login", &[("note", note), ("to", to)])
}

/// The address of the password page that leads on to `to`.
pub(super) fn password_address(to: &str) -> String {
    let to = if to == "/" { "" } else { to };
    with_query("/password", &[("to", to)])
}

impl Console {
    pub(super) async fn login_page(&self, request: LocalRequest) -> Response<Body> {
        let to = local(parameter(&request, "to")).to_owned();
        if let Some(session) = request.permit.subject().session() {
            return match session.must_change {
                true => answer::see_other(&password_address(&to)),
                false => answer::see_other(&to),
            };
        }
        let said = note(parameter(&request, "note"));
        drop(request);
        let with = self.providers().await;
        answer::page(StatusCode::OK, pages::login_with(&said, &to, "", &with))
    }

    pub(super) async fn login(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (id, source) = (request.id, request.permit.subject().source());
        let form = Form::read(request.request).await?;
        let to = local(form.text("to")).to_owned();
        let username = form.text("username");
        let empty = Secret::new(String::new());
        let asked = SignIn {
            username,
            password: form.secret("password").unwrap_or(&empty),
            code: None,
            opening: Opening::Browser,
            source,
            request: id,
        };
        let with = self.providers().await;
        let again = |problem: &Problem| {
            let said = pages::Said::Bad(words(problem));
            answer::refused(problem, pages::login_with(&said, &to, username, &with))
        };
        let signed = match self.0.authenticate.sign_in(asked).await {
            Ok(signed) => signed,
            Err(problem) => return Ok(again(&problem)),
        };
        // INVARIANT: the login, right or wrong, is on record before its cookie is worth anything.
        self.record(signed.events()).await?;
        if let Some(ticket) = &signed.ticket {
            let page = second::code_page(&pages::Said::Nothing, &to, ticket.expose());
            return Ok(answer::page(StatusCode::OK, page));
        }
        let opened = match signed.result {
            Ok(prepared) => self.begin_login(&signed.login, prepared).await,
            Err(problem) => Err(problem),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(problem) => return Ok(again(&problem)),
        };
        Ok(Self::signed_in(&opened, &to))
    }

    /// The cookie of a session that has begun, and where it leads.
    pub(super) fn signed_in(opened: &Opened, to: &str) -> Response<Body> {
        let response = if opened.session.must_change {
            answer::see_other(&password_address(to))
        } else if to == "/" {
            answer::see_other("/")
        } else {
            answer::page(StatusCode::OK, pages::onward(to))
        };
        answer::with_cookie(response, &set_cookie(COOKIE, &opened.token))
    }

    /// Ends the session with its children; on a tool's host, the whole session that it belongs to.
    pub(super) async fn logout(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (permit, authenticate) = (&request.permit, &self.0.authenticate);
        let session = permit.subject().session().ok_or_else(nobody)?;
        let id = match session.kind {
            SessionKind::Child { parent, .. } => parent,
            _ => session.id,
        };
        if let Some(ended) = authenticate.ending(id, "logout", Some(request.id)) {
            self.end(&ended).await?;
        }
        let response = match (wants_page(request.request.headers()), permit.place().address) {
            (false, _) => answer::nothing(),
            (true, Address::ToolHost) => {
                answer::see_other(&format!("{}{}", request.base, address("/", "signed-out")))
            }
            (true, _) => answer::see_other(&address("/", "signed-out")),
        };
        Ok(answer::with_cookie(response, &clear_cookie(COOKIE)))
    }

    /// Begins a session whose login is on record, and ends what is too many then.
    pub(super) async fn begin(&self, prepared: Prepared) -> Result<Opened, Problem> {
        let opened = self.0.authenticate.begin(prepared).await?;
        if let Some(surplus) = &opened.surplus {
            self.end(surplus).await?;
        }
        Ok(opened)
    }

    /// The same; a login whose session did not begin is on record as such.
    pub(super) async fn begin_login(&self, login: &Login, prepared: Prepared) -> Result<Opened, Problem> {
        let begun = self.begin(prepared).await;
        if begun.is_err() {
            self.record(vec![not_begun(login)]).await?;
        }
        begun
    }

    /// Ends sessions: records, then store and memory.
    pub(super) async fn end(&self, ended: &SessionEnded) -> Result<(), Problem> {
        self.record(vec![Event::SessionEnded(ended.clone())]).await?;
        for session in &ended.sessions {
            self.0.delegate.end_session(*session);
        }
        let ended = self.0.authenticate.end(ended).await;
        ended.map_err(|error| error.as_problem())
    }

    /// Writes events; none of what they say takes effect before this returns.
    pub(super) async fn record(&self, events: Vec<Event>) -> Result<(), Problem> {
        let written = self.0.audit.write_all(events).await;
        written.map(|_| ()).map_err(|error| error.as_problem())
    }
}

/// What a form says of a problem: what exactly, and what to do next.
pub(super) fn words(problem: &Problem) -> String {
    let mut detail = problem.detail.clone();
    if let Some(first) = detail.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    match problem.retry_after {
        Some(seconds) => format!("{detail}. Try again in {seconds} s."),
        None => format!("{detail}. {}", problem.next()),
    }
}
