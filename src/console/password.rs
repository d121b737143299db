//! Choosing a password, the first one or another.

use http::{Response, StatusCode};

use super::form::Form;
use super::login::{address, words};
use super::{Console, answer, local, nobody, pages, parameter};
use crate::authenticate::{COOKIE, PasswordChange, Subject, clear_cookie};
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::id::RequestId;
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{ChangeEvent, Event};
use crate::secret::Secret;
use crate::store::StoreError;

impl Console {
    pub(super) fn password_page(&self, request: &LocalRequest) -> Result<Response<Body>, Problem> {
        let subject = request.permit.subject();
        let (person, session) = subject.as_person().zip(subject.session()).ok_or_else(nobody)?;
        let to = local(parameter(request, "to"));
        let page = pages::password(&pages::Said::Nothing, to, &person.username, session.must_change);
        Ok(answer::page(StatusCode::OK, page))
    }

    pub(super) async fn password(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (id, subject) = (request.id, request.permit.subject().clone());
        let (person, session) = subject.as_person().zip(subject.session()).ok_or_else(nobody)?;
        let form = Form::read(request.request).await?;
        let to = local(form.text("to"));
        match self.change(&subject, &form, id).await {
            Ok(()) if session.must_change => {
                let response = answer::see_other(&address(to, "changed"));
                Ok(answer::with_cookie(response, &clear_cookie(COOKIE)))
            }
            Ok(()) => Ok(answer::see_other("/?note=saved")),
            Err(problem) => {
                let said = pages::Said::Bad(words(&problem));
                let page = pages::password(&said, to, &person.username, session.must_change);
                Ok(answer::refused(&problem, page))
            }
        }
    }

    async fn change(&self, subject: &Subject, form: &Form, request: RequestId) -> Result<(), Problem> {
        let authenticate = &self.0.authenticate;
        let empty = Secret::new(String::new());
        let new = form.secret("new").unwrap_or(&empty);
        if form.secret("again").unwrap_or(&empty) != new {
            return Err(Problem::new(Kind::Invalid, "the two new passwords differ").with("field", "again"));
        }
        let words = self.words(subject).await.map_err(|error| error.as_problem())?;
        let judged = authenticate
            .new_password(subject, form.secret("current"), new, &words)
            .await?;
        let failed = |error: StoreError| error.as_problem();
        let mut tx = authenticate.begin_write().await.map_err(failed)?;
        let PasswordChange { change, ended } = authenticate.change_password(&mut tx, judged, request).await?;
        // The mark comes first, so that the transaction cannot fail on it once the records are written.
        tx.applied(request, self.0.ids.clock().now())
            .await
            .map_err(failed)?;
        let mut events = vec![Event::Change(Box::new(ChangeEvent::of(request, change)))];
        events.extend(ended.clone().map(Event::SessionEnded));
        // INVARIANT: the log leads, the store follows.
        self.record(events).await?;
        if let Err(error) = tx.commit().await
            && !authenticate.was_applied(request).await.map_err(failed)?
        {
            return Err(error.as_problem());
        }
        if let Some(ended) = &ended {
            for session in &ended.sessions {
                self.0.delegate.end_session(*session);
            }
            authenticate.forget(ended).await.map_err(failed)?;
        }
        Ok(())
    }

    /// What anybody would try for this account: her name and the names of the tools she uses.
    async fn words(&self, subject: &Subject) -> Result<Vec<String>, StoreError> {
        let Some(person) = subject.as_person() else {
            return Ok(Vec::new());
        };
        let fields = self
            .0
            .vos
            .card(person.id)
            .await?
            .map(|card| card.fields)
            .unwrap_or_default();
        let mut words = vec![fields.name];
        words.extend(fields.organisation);
        words.extend(fields.mail);
        let tools = self.0.tools.load();
        for vo in self.0.vos.handle().load().vos_of(person.id) {
            words.extend(tools.all(vo).map(|tool| tool.name.clone()));
        }
        Ok(words)
    }
}
