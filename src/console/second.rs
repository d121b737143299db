//! The second factor in the browser: the code after the password, the code in a session that has begun, and the page on which
//! factors are added and removed.

use askama::Template;
use http::{Response, StatusCode};
use qrcode::{Color, QrCode};

use super::answer::with_cookie;
use super::form::Form;
use super::frame::{Page, Shell};
use super::login::words;
use super::pages::{self, Said, text};
use super::{Console, answer, local, nobody, note, with_query};
use crate::api::factor::add::{FactorAdd, FactorAdded};
use crate::api::factor::offer::{FactorAsk, FactorOffer};
use crate::api::factor::{
    FactorCode, RecoveryCodes, add_on_page, offer_on_page, remove_on_page, renew_on_page, tell_of_recovery,
};
use crate::api::{Api, Asked};
use crate::authenticate::{COOKIE, Factor, SecondStep, SessionKind, set_cookie};
use crate::authorize::Permit;
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::id::{PersonId, RequestId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::secret::Secret;
use crate::tool::Assurance;
use crate::vo::Person;

/// The address of the page that asks for a code and leads on to `to`.
pub(super) fn step_up_address(to: &str) -> String {
    let to = if to == "/" { "" } else { to };
    with_query("/step-up", &[("to", to)])
}

/// A parameter that the task took from the query; empty when it is not there.
fn given<'a>(permit: &'a Permit, name: &str) -> &'a str {
    permit.found().parameters.get(name).map_or("", String::as_str)
}

fn field(form: &Form, name: &str) -> Secret<String> {
    let empty = || Secret::new(String::new());
    form.secret(name).cloned().unwrap_or_else(empty)
}

impl Console {
    /// The code that follows a right password.
    pub(super) async fn login_code(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (id, source) = (request.id, request.permit.subject().source());
        let form = Form::read(request.request).await?;
        let to = local(form.text("to")).to_owned();
        let (ticket, code) = (field(&form, "ticket"), field(&form, "code"));
        let asked = SecondStep {
            ticket: &ticket,
            code: &code,
            source,
            request: id,
        };
        let again = |problem: &Problem| {
            let said = Said::Bad(words(problem));
            answer::refused(problem, code_page(&said, &to, ticket.expose()))
        };
        let signed = match self.0.authenticate.second_step(asked).await {
            Ok(signed) => signed,
            Err(problem) => return Ok(again(&problem)),
        };
        // INVARIANT: the login, right or wrong, is on record before its cookie is worth anything.
        self.record(signed.events()).await?;
        let opened = match signed.result {
            Ok(prepared) => self.begin_login(&signed.login, prepared).await,
            Err(problem) => Err(problem),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(problem) if signed.login.result == "expired" => {
                let said =
                    Said::Bad("That took too long, or the password was changed. Sign in again.".into());
                return Ok(answer::refused(&problem, pages::login(&said, &to, "")));
            }
            Err(problem) => return Ok(again(&problem)),
        };
        if signed.change.is_some() {
            self.recovery_used(id, opened.session.person).await;
        }
        Ok(Self::signed_in(&opened, &to))
    }

    async fn recovery_used(&self, request: RequestId, person: PersonId) {
        let directory = self.0.vos.handle().load();
        if let (Some(api), Some(person)) = (self.0.api.get(), directory.person(person)) {
            tell_of_recovery(api, request, person).await;
        }
    }

    pub(super) async fn step_up_page(&self, permit: &Permit) -> Result<Response<Body>, Problem> {
        let subject = permit.subject();
        let (person, session) = subject.as_person().zip(subject.session()).ok_or_else(nobody)?;
        let to = local(given(permit, "to"));
        // Who has shown it long ago may be asked for it anew.
        if session.assurance() >= Assurance::Aal2 && self.0.authenticate.is_fresh(session) {
            return Ok(answer::see_other(to));
        }
        let factors = self.0.authenticate.factors(person.id).await;
        let (factors, _) = factors.map_err(|error| error.as_problem())?;
        let page = step_up_page(&Said::Nothing, to, &person.username, !factors.is_empty());
        Ok(answer::page(StatusCode::OK, page))
    }

    pub(super) async fn step_up(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (id, subject) = (request.id, request.permit.subject().clone());
        let (person, session) = subject.as_person().zip(subject.session()).ok_or_else(nobody)?;
        if session.kind != SessionKind::Browser {
            let detail = "programs show their second factor with `session.step_up` of the API";
            return Err(Problem::new(Kind::Invalid, detail));
        }
        let form = Form::read(request.request).await?;
        let to = local(form.text("to")).to_owned();
        let again = |problem: &Problem| {
            let said = Said::Bad(words(problem));
            answer::refused(problem, step_up_page(&said, &to, &person.username, true))
        };
        let signed = match self
            .0
            .authenticate
            .step_up(&subject, &field(&form, "code"), id)
            .await
        {
            Ok(signed) => signed,
            Err(problem) => return Ok(again(&problem)),
        };
        // INVARIANT: on record before the new cookie is worth anything.
        self.record(signed.events()).await?;
        let opened = match signed.result {
            Ok(prepared) => self.begin_login(&signed.login, prepared).await,
            Err(problem) => Err(problem),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(problem) => return Ok(again(&problem)),
        };
        if let Some(ended) = &signed.ended {
            ended
                .sessions
                .iter()
                .for_each(|session| self.0.delegate.end_session(*session));
            let forgotten = self.0.authenticate.forget(ended).await;
            forgotten.map_err(|error| error.as_problem())?;
        }
        if signed.change.is_some() {
            self.recovery_used(id, person.id).await;
        }
        let response = answer::page(StatusCode::OK, pages::onward(&to));
        Ok(with_cookie(response, &set_cookie(COOKIE, &opened.token)))
    }

    pub(super) async fn factors_page(&self, permit: &Permit) -> Result<Response<Body>, Problem> {
        let person = permit.subject().as_person().ok_or_else(nobody)?;
        let page = self.factors(permit, person, &note(given(permit, "note"))).await?;
        Ok(answer::page(StatusCode::OK, page))
    }

    async fn factors(&self, permit: &Permit, person: &Person, said: &Said) -> Result<String, Problem> {
        let factors = self.0.authenticate.factors(person.id).await;
        let (factors, left) = factors.map_err(|error| error.as_problem())?;
        let shell = self.shell_of(permit, None).at("/factors");
        Ok(factors_page(said, &shell, &factors, left))
    }

    /// Whatever the page of factors does: offers, adds, removes, or makes new recovery codes.
    pub(super) async fn factor(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let permit = request.permit.clone();
        let person = permit.subject().as_person().ok_or_else(nobody)?;
        let asked = Asked::of(&request);
        let api = self.0.api.get();
        let api = api.ok_or_else(|| Problem::new(Kind::Internal, "nothing can be changed here"))?;
        let form = Form::read(request.request).await?;
        let task = permit.found().task.name.as_str();
        match act(api, &asked, task, &form).await {
            Ok(Done::Offered(offer)) => Ok(answer::page(
                StatusCode::OK,
                offer_page(&Said::Nothing, &person.username, &offer),
            )),
            Ok(Done::Codes(codes)) => Ok(answer::page(StatusCode::OK, codes_page(&person.username, &codes))),
            Ok(Done::Changed(note)) => Ok(answer::see_other(&with_query("/factors", &[("note", note)]))),
            Err(problem) => {
                let said = Said::Bad(words(&problem));
                let page = match offered(&form) {
                    // A wrong code is not the end of the offer.
                    Some(offer) if problem.members.get("field").is_some_and(|field| field == "code") => {
                        offer_page(&said, &person.username, &offer)
                    }
                    _ => self.factors(&permit, person, &said).await?,
                };
                Ok(answer::refused(&problem, page))
            }
        }
    }
}

enum Done {
    Offered(Box<FactorOffer>),
    Codes(Vec<Secret<String>>),
    Changed(&'static str),
}

async fn act(api: &Api, asked: &Asked, task: &str, form: &Form) -> Result<Done, Problem> {
    let code = || FactorCode {
        code: field(form, "code"),
    };
    match task {
        "console.factor_offer" => {
            let password = field(form, "password");
            let offer = offer_on_page(api, asked, FactorAsk { password }).await?;
            Ok(Done::Offered(Box::new(offer)))
        }
        "console.factor_add" => {
            let add = FactorAdd {
                binding: field(form, "binding"),
                code: field(form, "code"),
                name: form.text("name").to_owned(),
            };
            let FactorAdded { recovery_codes, .. } = add_on_page(api, asked, add).await?;
            Ok(match recovery_codes.is_empty() {
                true => Done::Changed("factor-added"),
                false => Done::Codes(recovery_codes),
            })
        }
        "console.factor_remove" => {
            remove_on_page(api, asked, form.text("factor"), code()).await?;
            Ok(Done::Changed("factor-removed"))
        }
        _ => {
            let RecoveryCodes { recovery_codes } = renew_on_page(api, asked, code()).await?;
            Ok(Done::Codes(recovery_codes))
        }
    }
}

/// The offer that a form goes back to.
fn offered(form: &Form) -> Option<FactorOffer> {
    Some(FactorOffer {
        secret: form.secret("secret")?.clone(),
        uri: form.secret("uri")?.clone(),
        binding: form.secret("binding")?.clone(),
        until: form.text("until").to_owned(),
    })
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Your second factor</h1>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<p>The password is right. Now the code that your authenticator shows.</p>
<form method="post" action="/login/code">
<input type="hidden" name="to" value="{{ to }}">
<input type="hidden" name="ticket" value="{{ ticket }}">
<label for="code">Code</label>
<input id="code" name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required autofocus>
<button>Sign in</button>
</form>
</section>
<p class="hint">Authenticator lost? A recovery code does as well, once. Without one, the administrator of your virtual organisation takes the factor away.</p>
"#
)]
struct CodeBody<'a> {
    said: &'a Said,
    to: &'a str,
    ticket: &'a str,
}

/// The second page of the sign-in.
pub(super) fn code_page(said: &Said, to: &str, ticket: &str) -> String {
    let body = text(&CodeBody { said, to, ticket });
    pages::narrow("Sign in", None, &body)
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Show your second factor</h1>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
{%- if has %}
<p>What you asked for wants more assurance than the password alone gives.</p>
<form method="post" action="/step-up">
<input type="hidden" name="to" value="{{ to }}">
<label for="code">Code of your authenticator, or a recovery code</label>
<input id="code" name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required autofocus>
<button>Go on</button>
</form>
{%- else %}
<p>What you asked for wants a second factor, and your account has none yet.</p>
<p><a href="/factors">Add a second factor</a></p>
{%- endif %}
</section>
"#
)]
struct StepUpBody<'a> {
    said: &'a Said,
    to: &'a str,
    has: bool,
}

fn step_up_page(said: &Said, to: &str, username: &str, has: bool) -> String {
    let body = text(&StepUpBody { said, to, has });
    pages::narrow("Second factor", Some(username), &body)
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<section class="card">
<h1>Second factors</h1>
{%- if factors.is_empty() %}
<p>Your password alone opens your account. With an authenticator on your phone, nobody who learns it gets in.</p>
{%- else %}
<table>
<thead><tr><th>Name</th><th>Added</th><th>Last used</th></tr></thead>
<tbody>
{%- for factor in factors %}
<tr><td>{{ factor.name }}</td><td>{{ factor.added }}</td><td>{{ factor.used }}</td></tr>
{%- endfor %}
</tbody>
</table>
{%- endif %}
</section>
<section class="card">
<h2>Add an authenticator</h2>
<p>Any app for one-time passwords will do. Your other sessions end when it is added.</p>
<form method="post" action="/factors/offer">
<input name="username" autocomplete="username" value="{{ username }}" readonly hidden>
<label for="password">Your password, once more</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Go on</button>
</form>
</section>
{%- if !factors.is_empty() %}
<section class="card">
<h2>Recovery codes</h2>
<p>{{ left }} are left. New ones put an end to the old ones.</p>
<form method="post" action="/factors/recovery-codes">
<label for="renew">A code of your authenticator</label>
<input id="renew" name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required>
<button>Make new recovery codes</button>
</form>
</section>
{%- for factor in factors %}
<section class="card">
<h2>Remove {{ factor.name }}</h2>
<form method="post" action="/factors/remove">
<input type="hidden" name="factor" value="{{ factor.id }}">
<label for="remove-{{ factor.id }}">A code of your authenticator, or a recovery code</label>
<input id="remove-{{ factor.id }}" name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required>
<button>Remove it</button>
</form>
</section>
{%- endfor %}
{%- endif %}
<p class="hint"><a href="/">My access</a></p>
"#
)]
struct FactorsBody<'a> {
    said: &'a Said,
    username: &'a str,
    factors: Vec<Row>,
    left: usize,
}

struct Row {
    id: String,
    name: String,
    added: String,
    used: String,
}

fn factors_page(said: &Said, shell: &Shell, factors: &[Factor], left: usize) -> String {
    let day = |at: crate::clock::Timestamp| at.to_string().get(..10).unwrap_or_default().to_owned();
    let rows = factors.iter().map(|factor| Row {
        id: factor.id.to_string(),
        name: factor.name.clone(),
        added: day(factor.created),
        used: factor.used.map_or_else(|| "never".to_owned(), day),
    });
    let body = text(&FactorsBody {
        said,
        username: &shell.username,
        factors: rows.collect(),
        left,
    });
    Page {
        shell: Some(shell),
        ..Page::new("Second factors", "text", &body)
    }
    .show()
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Add an authenticator</h1>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<p>Let your authenticator read the picture, or type the secret into it. It is shown this once.</p>
{%- if let Some(picture) = picture %}
<svg class="qr" role="img" aria-label="The address below, as a QR code" viewBox="0 0 {{ picture.side }} {{ picture.side }}"><rect width="{{ picture.side }}" height="{{ picture.side }}" fill="white"/><path d="{{ picture.path }}" fill="black"/></svg>
{%- endif %}
<dl>
<dt>Secret</dt><dd><code>{{ secret }}</code></dd>
<dt>Address</dt><dd><a href="{{ uri }}"><code>{{ uri }}</code></a></dd>
</dl>
<form method="post" action="/factors">
<input type="hidden" name="secret" value="{{ secret }}">
<input type="hidden" name="uri" value="{{ uri }}">
<input type="hidden" name="binding" value="{{ binding }}">
<label for="name">What you call it</label>
<input id="name" name="name" maxlength="60" value="authenticator">
<label for="code">Code that it shows now</label>
<input id="code" name="code" autocomplete="one-time-code" inputmode="numeric" required autofocus>
<button>Add it</button>
</form>
</section>
<p class="hint"><a href="/factors">Leave it</a></p>
"#
)]
struct OfferBody<'a> {
    said: &'a Said,
    secret: &'a str,
    uri: &'a str,
    binding: &'a str,
    picture: Option<Picture>,
}

/// A QR code: the length of its sides, and its dark squares as a path.
struct Picture {
    side: usize,
    path: String,
}

/// Squares of light that must be around a QR code (ISO/IEC 18004 section 6.3.8).
const QUIET: usize = 4;

impl Picture {
    /// The picture of an address; `None` when it is longer than such a code can be.
    fn of(address: &str) -> Option<Self> {
        let code = QrCode::new(address.as_bytes()).ok()?;
        let width = code.width();
        let mut path = String::new();
        for (row, squares) in code.to_colors().chunks(width).enumerate() {
            let dark = squares
                .iter()
                .enumerate()
                .filter(|(_, square)| **square == Color::Dark);
            for (column, _) in dark {
                path.push_str(&format!("M{} {}h1v1h-1z", column + QUIET, row + QUIET));
            }
        }
        Some(Self {
            side: width + 2 * QUIET,
            path,
        })
    }
}

fn offer_page(said: &Said, username: &str, offer: &FactorOffer) -> String {
    let body = text(&OfferBody {
        said,
        secret: offer.secret.expose(),
        uri: offer.uri.expose(),
        binding: offer.binding.expose(),
        picture: Picture::of(offer.uri.expose()),
    });
    pages::framed("Add an authenticator", username, &body)
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Your recovery codes</h1>
<p>Each opens your account once, in the place of a code of your authenticator. They are shown this once: print them, or keep them where your password is not.</p>
<ul>
{%- for code in codes %}
<li><code>{{ code }}</code></li>
{%- endfor %}
</ul>
<p><a href="/factors">I have kept them</a></p>
</section>
"#
)]
struct CodesBody<'a> {
    codes: Vec<&'a str>,
}

fn codes_page(username: &str, codes: &[Secret<String>]) -> String {
    let codes = codes.iter().map(|code| code.expose().as_str()).collect();
    let body = text(&CodesBody { codes });
    pages::framed("Recovery codes", username, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "\"><script>alert(1)</script>";

    fn offer(uri: &str) -> FactorOffer {
        let secret = |text: &str| Secret::new(text.to_owned());
        FactorOffer {
            secret: secret(NASTY),
            uri: secret(uri),
            binding: secret(NASTY),
            until: String::new(),
        }
    }

    fn pages() -> Vec<String> {
        let bad = Said::Bad(NASTY.into());
        let factor = Factor {
            id: uuid::Uuid::nil().into(),
            name: NASTY.into(),
            created: crate::clock::Timestamp::from_secs(0),
            used: None,
        };
        vec![
            code_page(&bad, NASTY, NASTY),
            step_up_page(&bad, NASTY, NASTY, true),
            factors_page(&bad, &Shell::of(NASTY), &[factor], 3),
            offer_page(&bad, NASTY, &offer(NASTY)),
            codes_page(NASTY, &[Secret::new(NASTY.to_owned())]),
        ]
    }

    #[test]
    fn whatever_is_put_in_is_escaped_and_there_is_no_script_or_inline_style() {
        for page in pages() {
            for forbidden in ["<script", "<style", " style=", " onclick", "http://", "https://"] {
                assert!(!page.contains(forbidden), "{forbidden} in {page}");
            }
        }
    }

    #[test]
    fn every_field_has_a_label_and_every_page_one_title() {
        for page in pages() {
            assert_eq!(page.matches("<title>").count(), 1);
            for field in page.split("<input ").skip(1) {
                let field = field.split('>').next().unwrap();
                let is_hidden = field.contains("type=\"hidden\"") || field.contains(" hidden");
                let id = field
                    .strip_prefix("id=\"")
                    .and_then(|rest| rest.split('"').next());
                let labelled = id.is_some_and(|id| page.contains(&format!("<label for=\"{id}\">")));
                assert!(is_hidden || labelled, "{field}");
            }
        }
    }

    #[test]
    fn the_picture_has_its_three_corners_and_is_quiet_around_them() {
        let picture = Picture::of("otpauth://totp/gw.example.org:john?secret=JBSWY3DPEHPK3PXP").unwrap();
        let dark = |x: usize, y: usize| picture.path.contains(&format!("M{x} {y}h1v1h-1z"));
        let far = picture.side - QUIET - 7;
        for (x, y) in [(QUIET, QUIET), (far, QUIET), (QUIET, far)] {
            assert!((0..7).all(|at| dark(x + at, y) && dark(x, y + at)));
            assert!(!dark(x + 1, y + 1) && dark(x + 3, y + 3));
        }
        let edge = picture.side - 1;
        assert!(
            (0..picture.side).all(|at| !dark(at, 0) && !dark(0, at) && !dark(edge, at) && !dark(at, edge))
        );
        assert!(Picture::of(&"x".repeat(5_000)).is_none());
    }
}
