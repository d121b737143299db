//! The pages of accounts on their way: strangers ask, confirm and take invitations; reviewers decide.

use askama::Template;
use http::{Response, StatusCode};

use super::form::Form;
use super::login::words;
use super::pages::{self, Said, text};
use super::{Console, answer, nobody, parameter};
use crate::api::account::enrol::{Taken, Wish, ask, confirm, may_ask, opened, take};
use crate::api::account::{AccountRequest, decide_on_page, waiting_on_page};
use crate::api::{Api, Asked};
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::problem::{Kind, Problem};
use crate::secret::Secret;
use crate::vo::{Enrolment, EnrolmentKind};

fn field(form: &Form, name: &str) -> Secret<String> {
    let empty = || Secret::new(String::new());
    form.secret(name).cloned().unwrap_or_else(empty)
}

/// The two passwords of a form, which must be the same.
fn chosen(form: &Form) -> Result<Secret<String>, Problem> {
    let (new, again) = (field(form, "new"), field(form, "again"));
    match new == again {
        true => Ok(new),
        false => Err(Problem::new(Kind::Invalid, "the two passwords differ").with("field", "again")),
    }
}

impl Console {
    fn enrolling(&self) -> Result<&Api, Problem> {
        let api = self.0.api.get();
        let api = api.ok_or_else(|| Problem::new(Kind::Internal, "nothing can be changed here"))?;
        Ok(api)
    }

    pub(super) async fn join_page(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let vo = parameter(&request, "organisation").to_owned();
        may_ask(self.enrolling()?, &vo).await?;
        let page = join_page(&Said::Nothing, &vo, &Wish::default());
        Ok(answer::page(StatusCode::OK, page))
    }

    pub(super) async fn join(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let vo = parameter(&request, "organisation").to_owned();
        let (api, asked) = (self.enrolling()?, Asked::of(&request));
        let form = Form::read(request.request).await?;
        let typed = |name: &str| form.text(name).trim().to_owned();
        let wish = Wish {
            username: typed("username"),
            name: typed("name"),
            mail: typed("mail"),
            organisation: typed("organisation"),
            // A browser ends lines with CR LF (HTML section 4.10.22.4).
            reason: typed("reason").replace("\r\n", "\n"),
        };
        match ask(api, &asked, &vo, &wish).await {
            Ok(()) => Ok(answer::page(
                StatusCode::OK,
                told(&Told {
                    title: "Look into your mail",
                    text: "If the address can be reached, it gets a link. Open it within 24 hours to confirm the address and to choose your \
                       password; then the administrators decide.",
                    next: None,
                }),
            )),
            Err(problem) if problem.kind == Kind::NotFound => Err(problem),
            Err(problem) => {
                let page = join_page(&Said::Bad(words(&problem)), &vo, &wish);
                Ok(answer::refused(&problem, page))
            }
        }
    }

    /// The page behind a link: of a request, or of an invitation. Looking at it uses nothing up: mail programs look, too.
    pub(super) async fn enrol_page(
        &self,
        request: LocalRequest,
        kind: EnrolmentKind,
    ) -> Result<Response<Body>, Problem> {
        let code = Secret::new(parameter(&request, "code").to_owned());
        let source = request.permit.subject().source();
        let found = opened(self.enrolling()?, kind, &code, source).await?;
        let page = Choosing::of(self, kind, &code, &found).page(&Said::Nothing);
        Ok(answer::page(StatusCode::OK, page))
    }

    pub(super) async fn confirm(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (api, asked) = (self.enrolling()?, Asked::of(&request));
        let source = request.permit.subject().source();
        let form = Form::read(request.request).await?;
        let code = field(&form, "code");
        let done = match chosen(&form) {
            Ok(new) => confirm(api, &asked, &code, &new).await,
            Err(problem) => Err(problem),
        };
        match done {
            Ok(username) => Ok(answer::page(
                StatusCode::OK,
                told(&Told {
                    title: "Your request waits for a decision",
                    text: &format!(
                        "Your mail address is confirmed, and the administrators have been told. Your user name is {username}. A mail tells \
                     you what they decide; until then the account opens nothing."
                    ),
                    next: None,
                }),
            )),
            Err(problem) => {
                let found = opened(api, EnrolmentKind::Request, &code, source).await?;
                let page = Choosing::of(self, EnrolmentKind::Request, &code, &found);
                Ok(answer::refused(&problem, page.page(&Said::Bad(words(&problem)))))
            }
        }
    }

    pub(super) async fn take_invitation(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (api, asked) = (self.enrolling()?, Asked::of(&request));
        let source = request.permit.subject().source();
        let form = Form::read(request.request).await?;
        let (code, username, name) = (
            field(&form, "code"),
            form.text("username").trim(),
            form.text("name").trim(),
        );
        let done = match chosen(&form) {
            Ok(new) => {
                let taken = Taken {
                    username,
                    name,
                    password: &new,
                };
                take(api, &asked, &code, taken).await
            }
            Err(problem) => Err(problem),
        };
        match done {
            Ok(()) => Ok(answer::page(
                StatusCode::OK,
                told(&Told {
                    title: "Your account is ready",
                    text: &format!("Sign in as {username} with the password that you chose."),
                    next: Some("/login"),
                }),
            )),
            Err(problem) => {
                let found = opened(api, EnrolmentKind::Invitation, &code, source).await?;
                let mut page = Choosing::of(self, EnrolmentKind::Invitation, &code, &found);
                page.username = username.to_owned();
                page.name = name.to_owned();
                Ok(answer::refused(&problem, page.page(&Said::Bad(words(&problem)))))
            }
        }
    }

    pub(super) async fn accounts_page(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let asked = Asked::of(&request);
        let waiting = waiting_on_page(self.enrolling()?, &asked).await?;
        accounts_page(&request, &Said::Nothing, &waiting)
    }

    pub(super) async fn decide_account(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (api, asked) = (self.enrolling()?, Asked::of(&request));
        let (permit, vo) = (request.permit.clone(), parameter(&request, "vo").to_owned());
        let person = permit.subject().as_person().ok_or_else(nobody)?;
        let form = Form::read(request.request).await?;
        let message = form.text("message").trim().replace("\r\n", "\n");
        let of = (form.text("id"), form.text("why"));
        let decided = match form.text("decision") {
            "approve" => decide_on_page(api, &asked, of, None).await,
            "reject" => decide_on_page(api, &asked, of, Some(&message)).await,
            _ => Err(Problem::new(Kind::Invalid, "approve or refuse").with("field", "decision")),
        };
        let said = match &decided {
            Ok(account) if account.state == "approved" => {
                Said::Good("The account is approved; its owner is told by mail.")
            }
            Ok(_) => Said::Good("The request is refused; who asked is told by mail."),
            Err(problem) => Said::Bad(words(problem)),
        };
        let waiting = waiting_on_page(api, &asked).await?;
        let page = queue_page(&said, &person.username, &vo, &waiting);
        Ok(match &decided {
            Ok(_) => answer::page(StatusCode::OK, page),
            Err(problem) => answer::refused(problem, page),
        })
    }
}

fn accounts_page(
    request: &LocalRequest,
    said: &Said,
    waiting: &[AccountRequest],
) -> Result<Response<Body>, Problem> {
    let person = request.permit.subject().as_person().ok_or_else(nobody)?;
    let page = queue_page(said, &person.username, parameter(request, "vo"), waiting);
    Ok(answer::page(StatusCode::OK, page))
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Ask for an account</h1>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<p>For the virtual organisation <strong>{{ vo }}</strong>. Its administrators decide; you are told by mail.</p>
<form method="post" action="/vo/{{ vo }}/join">
<label for="name">Your name</label>
<input id="name" name="name" autocomplete="name" maxlength="200" required autofocus value="{{ wish.name }}">
<label for="mail">Mail address</label>
<input id="mail" name="mail" type="email" autocomplete="email" maxlength="254" required value="{{ wish.mail }}">
<label for="organisation">Institute or company</label>
<input id="organisation" name="organisation" autocomplete="organization" maxlength="200" value="{{ wish.organisation }}">
<label for="username">User name that you would like (a to z, digits, dots; another one is found if somebody has it)</label>
<input id="username" name="username" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="40" required value="{{ wish.username }}">
<label for="reason">What you need the account for, and who there knows you</label>
<textarea id="reason" name="reason" rows="5" maxlength="1000" required>{{ wish.reason }}</textarea>
<button>Ask</button>
</form>
</section>
<p class="hint">What you write here is seen by the administrators of {{ vo }} and of this gateway. If the address is not confirmed within 24 hours, it is forgotten.</p>
"#
)]
struct JoinBody<'a> {
    said: &'a Said,
    vo: &'a str,
    wish: &'a Wish,
}

fn join_page(said: &Said, vo: &str, wish: &Wish) -> String {
    let body = text(&JoinBody { said, vo, wish });
    pages::narrow("Ask for an account", None, &body)
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>{% if invited %}Your account at {{ vo }}{% else %}Confirm your mail address{% endif %}</h1>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<form method="post" action="{{ action }}">
<input type="hidden" name="code" value="{{ code }}">
{%- if invited %}
<label for="name">Your name</label>
<input id="name" name="name" autocomplete="name" maxlength="200" required value="{{ name }}">
<label for="username">User name (a to z, digits, dots; a letter first)</label>
<input id="username" name="username" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="40" required value="{{ username }}">
{%- else %}
<p>You asked for an account of <strong>{{ vo }}</strong> as <strong>{{ username }}</strong>. Choose the password with which you will sign in.</p>
<input name="username" autocomplete="username" value="{{ username }}" readonly hidden>
{%- endif %}
<p>At least 15 characters; a phrase of a few words is best. Nothing else is demanded, and it never expires.</p>
<label for="new">Password</label>
<input id="new" name="new" type="password" autocomplete="new-password" minlength="15" required>
<label for="again">Password again</label>
<input id="again" name="again" type="password" autocomplete="new-password" minlength="15" required>
<button>{% if invited %}Make the account{% else %}Confirm{% endif %}</button>
</form>
</section>
"#
)]
struct ChoosingBody<'a> {
    said: &'a Said,
    invited: bool,
    action: String,
    vo: &'a str,
    code: &'a str,
    username: &'a str,
    name: &'a str,
}

/// The page behind a link.
struct Choosing {
    kind: EnrolmentKind,
    vo: String,
    code: Secret<String>,
    username: String,
    name: String,
}

impl Choosing {
    fn of(console: &Console, kind: EnrolmentKind, code: &Secret<String>, found: &Enrolment) -> Self {
        let directory = console.0.vos.handle().load();
        Self {
            kind,
            vo: directory
                .vo(found.vo)
                .map(|vo| vo.name.clone())
                .unwrap_or_default(),
            code: code.clone(),
            username: found.username.clone().unwrap_or_default(),
            name: found.name.clone().unwrap_or_default(),
        }
    }

    fn page(&self, said: &Said) -> String {
        let invited = self.kind == EnrolmentKind::Invitation;
        let body = text(&ChoosingBody {
            said,
            invited,
            action: match invited {
                true => "/invitation".to_owned(),
                false => format!("/vo/{}/join/confirm", self.vo),
            },
            vo: &self.vo,
            code: self.code.expose(),
            username: &self.username,
            name: &self.name,
        });
        pages::narrow("Your account", None, &body)
    }
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>{{ title }}</h1>
<p role="status">{{ text }}</p>
{%- if let Some(next) = next %}
<p><a href="{{ next }}">Go on</a></p>
{%- endif %}
</section>
"#
)]
struct Told<'a> {
    title: &'a str,
    text: &'a str,
    next: Option<&'a str>,
}

fn told(what: &Told<'_>) -> String {
    pages::narrow(what.title, None, &text(what))
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>Requests for accounts of {{ vo }}</h1>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
{%- if waiting.is_empty() %}
<p>Nobody waits for a decision.</p>
{%- endif %}
{%- for account in waiting %}
<section class="card">
<h2>{{ account.name }}</h2>
<dl>
<dt>User name</dt><dd>{{ account.username }}</dd>
<dt>Mail</dt><dd>{{ account.mail.as_deref().unwrap_or("-") }} (confirmed)</dd>
<dt>Organisation</dt><dd>{{ account.organisation.as_deref().unwrap_or("-") }}</dd>
<dt>Asked</dt><dd>{{ account.asked }}</dd>
{%- if !account.same_mail.is_empty() %}
<dt>Accounts with the same address</dt><dd>{{ account.same_mail.join(", ") }}</dd>
{%- endif %}
<dt>Why</dt><dd>{{ account.reason }}</dd>
</dl>
<form method="post" action="/accounts/{{ vo }}">
<input type="hidden" name="id" value="{{ account.id }}">
<label for="why-{{ account.id }}">Reason, for the audit log</label>
<input id="why-{{ account.id }}" name="why" maxlength="500" required>
<label for="message-{{ account.id }}">Message to the applicant, where you refuse</label>
<textarea id="message-{{ account.id }}" name="message" rows="3" maxlength="1000"></textarea>
<button name="decision" value="approve">Approve as scientist</button>
<button class="quiet" name="decision" value="reject">Refuse</button>
</form>
</section>
{%- endfor %}
<p class="hint">With other roles: <code>countersign account approve {{ vo }} USER --role ROLE</code></p>
"#
)]
struct QueueBody<'a> {
    said: &'a Said,
    vo: &'a str,
    waiting: &'a [AccountRequest],
}

fn queue_page(said: &Said, username: &str, vo: &str, waiting: &[AccountRequest]) -> String {
    let body = text(&QueueBody { said, vo, waiting });
    pages::framed("Requests for accounts", username, &body)
}
