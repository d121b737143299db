//! Who asks: the one function that turns a request's head into a [`Subject`].

use std::sync::Arc;

use http::request::Parts;
use http::{Method, header};

use super::Authenticate;
use super::basic::Journal;
use super::credential::{self, Credential, CredentialError, Initiator};
use super::personal;
use super::subject::{Session, SessionKind, Source, Subject};
use crate::problem::{Kind, Problem};
use crate::record::{Hash, SubjectEntry};
use crate::secret::Secret;
use crate::tool::{Address, Audience, Place};
use crate::vo::{Person, PersonState};

/// A request that got no subject. It is recorded before it is answered.
#[derive(Debug)]
pub struct Refusal {
    /// The answer: 400, 401, 403, 429 or 503.
    pub problem: Problem,
    /// Who asks, where that was established before the refusal.
    pub subject: Option<Subject>,
    /// The person whose name was given with a credential that was not accepted.
    pub attempted: Option<Arc<Person>>,
    /// Methods that were tried.
    pub methods: Vec<String>,
}

impl Refusal {
    pub(super) fn stranger(problem: Problem) -> Box<Self> {
        Box::new(Self {
            problem,
            subject: None,
            attempted: None,
            methods: Vec::new(),
        })
    }

    /// A credential that leads to `person` and is not accepted.
    pub(super) fn attempted(problem: Problem, person: Arc<Person>, method: &str) -> Box<Self> {
        Box::new(Self {
            problem,
            subject: None,
            attempted: Some(person),
            methods: vec![method.to_owned()],
        })
    }

    fn of(subject: Subject, problem: Problem) -> Box<Self> {
        Box::new(Self {
            problem,
            subject: Some(subject),
            attempted: None,
            methods: Vec::new(),
        })
    }

    /// As it stands in a record.
    #[must_use]
    pub fn subject_entry(&self) -> SubjectEntry {
        if let Some(subject) = &self.subject {
            return subject.entry();
        }
        let attempted = self.attempted.as_deref();
        SubjectEntry {
            kind: if attempted.is_some() {
                "person"
            } else {
                "anonymous"
            }
            .into(),
            person: attempted.map(|person| person.id),
            card: attempted.map(|person| person.card),
            session: None,
            result: "failed".into(),
            methods: self.methods.clone(),
            acr: String::new(),
            identity: None,
        }
    }
}

impl From<CredentialError> for Box<Refusal> {
    fn from(error: CredentialError) -> Self {
        let kind = match error {
            CredentialError::TwoAuthorizations | CredentialError::TwoCookies => Kind::TwoCredentials,
            CredentialError::Malformed => Kind::WrongCredential,
        };
        Refusal::stranger(Problem::new(kind, error.to_string()))
    }
}

impl Authenticate {
    /// Who asks. No credential means anonymous; a bad one is refused.
    ///
    /// - The path form takes `Authorization` only; its cookies are not even looked at.
    /// - The gateway's host takes its browser cookie or a bearer token; a tool's host takes the cookie of exactly that
    ///   host, a bearer token, or HTTP Basic where the tool allows it.
    /// - `Authorization` in one of our schemes goes before a cookie; in a foreign scheme it is not a credential.
    /// - A personal access token does as bearer token and in the place of a Basic password, wherever a bearer token does.
    /// - The first use of HTTP Basic with a password begins a session, which `journal` takes down.
    /// - A cookie that no session has (any more) counts as anonymous where a browser opens a page and on the pages for
    ///   everyone, so that the login page can be reached; elsewhere it is refused.
    ///
    /// # Errors
    /// [`Refusal`]: 400 two credentials, 401 wrong credential, 403 foreign origin or password change required,
    /// 429 too many attempts, 503 busy or store.
    pub async fn subject(
        &self,
        head: &Parts,
        place: &Place,
        source: Source,
        journal: &Journal<'_>,
    ) -> Result<Subject, Box<Refusal>> {
        let cookie = match place.address {
            Address::Path => None,
            Address::Gateway | Address::ToolHost => credential::cookie(&head.headers)?,
        };
        let presented = match credential::authorization(&head.headers)? {
            Some(credential) => Some(credential),
            None => cookie.map(Credential::Cookie),
        };
        let subject = match presented {
            None => Subject::anonymous(source),
            Some(Credential::Bearer(token)) => self.bearer(&token, source)?,
            Some(Credential::Basic { username, password }) => {
                let given = (&*username, &password);
                Box::pin(self.by_basic(given, head, place, source, journal)).await?
            }
            Some(Credential::Cookie(token)) => self.by_cookie(&token, head, place, source)?,
        };
        refuse_foreign_form(&subject, head, place)?;
        self.refuse_what_is_due(subject, place)
    }

    /// A session in which something is due first (another password, terms of use) opens nothing else.
    pub(super) fn refuse_what_is_due(
        &self,
        subject: Subject,
        place: &Place,
    ) -> Result<Subject, Box<Refusal>> {
        let subject = refuse_until_changed(subject, place)?;
        match self.owed_at(&subject, place) {
            Some(problem) => Err(Refusal::of(subject, problem)),
            None => Ok(subject),
        }
    }

    fn bearer(&self, token: &Secret<String>, source: Source) -> Result<Subject, Box<Refusal>> {
        if personal::is_meant(token.expose()) {
            return self.by_personal(token, None, source);
        }
        let session = self
            .0
            .sessions
            .by_token(&Hash::of(token.expose().as_bytes()), self.now())
            // SECURITY: the value of a cookie is not a bearer token, and the other way round.
            .filter(|session| session.kind == SessionKind::Token);
        match session.and_then(|session| self.person_of(session, source)) {
            Some(subject) => Ok(subject),
            None => Err(Refusal::stranger(Problem::new(
                Kind::WrongCredential,
                "the token is unknown or has ended",
            ))),
        }
    }

    async fn by_basic(
        &self,
        (username, password): (&str, &Secret<String>),
        head: &Parts,
        place: &Place,
        source: Source,
        journal: &Journal<'_>,
    ) -> Result<Subject, Box<Refusal>> {
        if personal::is_meant(password.expose()) {
            // SECURITY: browsers add Basic by themselves, see below.
            if credential::initiator(head) == Initiator::Foreign {
                return Err(Refusal::stranger(foreign_origin()));
            }
            return self.by_personal(password, Some(username), source);
        }
        // SECURITY: never for console or API, and only where the manifest says so.
        let allowed = place.address != Address::Gateway && place.tool.as_ref().is_some_and(|tool| tool.basic);
        if !allowed {
            return Err(Refusal::stranger(Problem::new(
                Kind::WrongCredential,
                "HTTP Basic is not accepted here, whatever the user name and password",
            )
            .instead(
                "Send `Authorization: Bearer TOKEN` (`countersign login` gets one), or a personal access token in the place of the \
                 password (`countersign token create`). Passwords are only for tools whose manifest says `basic = true`; your VO \
                 administrator can add that.",
            )));
        }
        // SECURITY: browsers add Basic by themselves, so another site's page must not be able to use it.
        if credential::initiator(head) == Initiator::Foreign {
            return Err(Refusal::stranger(foreign_origin()));
        }
        let refused = |refused: super::basic::BasicRefused| {
            Box::new(Refusal {
                problem: refused.problem,
                subject: None,
                attempted: refused.attempted,
                methods: vec!["pwd".into()],
            })
        };
        let session = self
            .basic(username, password, source, journal)
            .await
            .map_err(refused)?;
        self.person_of(session, source)
            .ok_or_else(|| Refusal::stranger(super::login::wrong()))
    }

    fn by_cookie(
        &self,
        token: &Secret<String>,
        head: &Parts,
        place: &Place,
        source: Source,
    ) -> Result<Subject, Box<Refusal>> {
        let session = self
            .0
            .sessions
            .by_token(&Hash::of(token.expose().as_bytes()), self.now())
            .filter(|session| fits(&session.kind, place));
        let Some(subject) = session.and_then(|session| self.person_of(session, source)) else {
            if credential::is_navigation(head) || audience(place) == Some(Audience::Everyone) {
                return Ok(Subject::anonymous(source));
            }
            return Err(Refusal::stranger(Problem::new(
                Kind::WrongCredential,
                "the session has ended",
            )));
        };
        // SECURITY: a cookie travels by itself, so whatever is not a plain read must come from a page of this origin.
        if !is_plain_read(head, place) && credential::initiator(head) != Initiator::Same {
            return Err(Refusal::of(subject, foreign_origin()));
        }
        Ok(subject)
    }

    pub(super) fn person_of(&self, session: Arc<Session>, source: Source) -> Option<Subject> {
        let directory = self.0.directory.load();
        let person = directory.person(session.person)?;
        // A suspended person stays known: the decision refuses her, with the reason.
        (person.state != PersonState::Ended).then(|| Subject::person(Arc::clone(person), session, source))
    }
}

/// Whether a cookie's session is good at this address.
fn fits(kind: &SessionKind, place: &Place) -> bool {
    match (place.address, kind) {
        (Address::Gateway, SessionKind::Browser) => true,
        (Address::ToolHost, SessionKind::Child { host, .. }) => *host == place.host,
        _ => false,
    }
}

fn audience(place: &Place) -> Option<Audience> {
    place.found.as_ref().map(|found| found.task.audience)
}

fn is_plain_read(head: &Parts, place: &Place) -> bool {
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    let changes = place
        .found
        .as_ref()
        .is_some_and(|found| found.task.kind.changes_state());
    reads && !changes && !head.headers.contains_key(header::UPGRADE)
}

pub(super) fn foreign_origin() -> Problem {
    Problem::new(
        Kind::ForeignOrigin,
        "neither `Sec-Fetch-Site` nor `Origin` shows that a page of this origin asks",
    )
}

/// Another site's form must not sign a visitor in to an account of its choice.
fn refuse_foreign_form(subject: &Subject, head: &Parts, place: &Place) -> Result<(), Box<Refusal>> {
    let own_page = place.address != Address::Path && audience(place) == Some(Audience::Everyone);
    if subject.is_anonymous()
        && own_page
        && !is_plain_read(head, place)
        && credential::initiator(head) == Initiator::Foreign
    {
        return Err(Refusal::stranger(foreign_origin()));
    }
    Ok(())
}

/// A session that was opened with a one-time password is good for choosing a new one and nothing else.
fn refuse_until_changed(subject: Subject, place: &Place) -> Result<Subject, Box<Refusal>> {
    let must_change = subject.session().is_some_and(|session| session.must_change);
    if must_change && !matches!(audience(place), Some(Audience::Everyone | Audience::AnySession)) {
        let problem = Problem::new(
            Kind::PasswordChangeRequired,
            "this session can only choose a new password",
        );
        return Err(Refusal::of(subject, problem));
    }
    Ok(subject)
}
