//! The page of personal access tokens: what there is, a form for one more, and the one page that shows a text.

use askama::Template;
use http::{Response, StatusCode};

use super::form::Form;
use super::login::words;
use super::pages::{self, Said, text};
use super::{Console, answer, nobody, note, with_query};
use crate::api::token::create::{TokenCreate, TokenCreated};
use crate::api::token::list::TokenView;
use crate::api::token::{create_on_page, list_on_page, revoke_on_page};
use crate::api::{Api, Asked};
use crate::authorize::Permit;
use crate::body::Body;
use crate::clock::Timestamp;
use crate::forward::LocalRequest;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Audience, Task};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// The tasks of the page.
pub(super) fn tasks() -> Vec<Task> {
    let form = |name: &str, matches: &str, kind: tool::Kind| Task {
        max_body: Some(super::form::LIMIT as u64),
        strict: true,
        ..super::task(name, matches, kind, Audience::AnyPerson)
    };
    vec![
        Task {
            query: Some(vec!["note".into()]),
            ..super::task(
                "console.tokens_page",
                "GET /tokens",
                tool::Kind::Read,
                Audience::AnyPerson,
            )
        },
        form("console.token_create", "POST /tokens", tool::Kind::Create),
        form("console.token_revoke", "POST /tokens/revoke", tool::Kind::Delete),
    ]
}

/// What the page says after a token was revoked.
pub(super) const REVOKED: &str = "The token is revoked.";

impl Console {
    pub(super) async fn tokens_page(&self, permit: &Permit, asked: Asked) -> Result<Response<Body>, Problem> {
        let person = permit.subject().as_person().ok_or_else(nobody)?;
        let noted = permit.found().parameters.get("note").map_or("", String::as_str);
        let list = list_on_page(self.token_api()?, &asked).await?;
        let page = tokens_page(&note(noted), &person.username, &list.tokens);
        Ok(answer::page(StatusCode::OK, page))
    }

    fn token_api(&self) -> Result<&Api, Problem> {
        let api = self.0.api.get();
        api.map(|api| &**api)
            .ok_or_else(|| Problem::new(Kind::Internal, "nothing can be changed here"))
    }

    /// Makes a token, or revokes one.
    pub(super) async fn token(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let asked = Asked::of(&request);
        let api = self.token_api()?;
        let person = request.permit.subject().as_person().ok_or_else(nobody)?.clone();
        let makes = request.permit.found().task.name == "console.token_create";
        let form = Form::read(request.request).await?;
        let refused = match makes {
            true => match create_on_page(api, &asked, self.asked_for(&form)).await {
                Ok(made) => {
                    return Ok(answer::page(StatusCode::OK, made_page(&person.username, &made)));
                }
                Err(problem) => problem,
            },
            false => match revoke_on_page(api, &asked, form.text("token")).await {
                Ok(()) => {
                    return Ok(answer::see_other(&with_query(
                        "/tokens",
                        &[("note", "token-revoked")],
                    )));
                }
                Err(problem) => problem,
            },
        };
        if refused.kind == Kind::StepUpRequired && refused.members.contains_key("acr_values") {
            let again = super::second::step_up_address("/tokens");
            return Ok(answer::see_other(&again));
        }
        let said = Said::Bad(match refused.kind {
            Kind::StepUpRequired => {
                "You signed in too long ago for this. Sign out, sign in again, and make the token then."
                    .to_owned()
            }
            _ => words(&refused),
        });
        let list = list_on_page(api, &asked).await?;
        let page = tokens_page(&said, &person.username, &list.tokens);
        Ok(answer::refused(&refused, page))
    }

    fn asked_for(&self, form: &Form) -> TokenCreate {
        let lines = form.text("scopes").lines().map(str::trim);
        let days: u32 = form.text("days").trim().parse().unwrap_or(0);
        let now: Timestamp = self.0.ids.clock().now();
        TokenCreate {
            name: form.text("name").to_owned(),
            scopes: lines.filter(|line| !line.is_empty()).map(str::to_owned).collect(),
            read_only: form.text("read_only") == "yes",
            myproxy: form.text("myproxy") == "yes",
            expires: now.plus(DAY.saturating_mul(days)).to_string(),
        }
    }
}

struct Row {
    id: String,
    name: String,
    purpose: String,
    used: String,
    ends: String,
}

impl From<&TokenView> for Row {
    fn from(token: &TokenView) -> Self {
        let day = |at: &str| at.get(..10).unwrap_or_default().to_owned();
        let mut purpose = token.scopes.clone();
        purpose.extend(token.read_only.then(|| "read only".to_owned()));
        purpose.extend(token.myproxy.then(|| "own proxies".to_owned()));
        Self {
            id: token.id.clone(),
            name: token.name.clone(),
            purpose: purpose.join(", "),
            used: token.used.as_deref().map_or_else(|| "never".to_owned(), day),
            ends: day(&token.expires),
        }
    }
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<section class="card">
<h1>Access tokens</h1>
{%- if tokens.is_empty() %}
<p>You have none. A token lets a script in without your password, for what you name and no longer than you say.</p>
{%- else %}
<table>
<thead><tr><th>Name</th><th>For</th><th>Last used</th><th>Ends</th><th>Revoke</th></tr></thead>
<tbody>
{%- for token in tokens %}
<tr><td>{{ token.name }}</td><td>{{ token.purpose }}</td><td>{{ token.used }}</td><td>{{ token.ends }}</td><td><form method="post" action="/tokens/revoke"><input type="hidden" name="token" value="{{ token.id }}"><button class="quiet" aria-label="Revoke {{ token.name }}">Revoke</button></form></td></tr>
{%- endfor %}
</tbody>
</table>
{%- endif %}
</section>
<section class="card">
<h2>Make a token</h2>
<form method="post" action="/tokens">
<label for="name">Name</label>
<input id="name" name="name" maxlength="60" autocomplete="off" required>
<label for="scopes">What it is for, one a line: VO, VO/TOOL or VO/TOOL/TASK</label>
<textarea id="scopes" name="scopes" rows="3" autocapitalize="none" spellcheck="false"></textarea>
<label for="read_only">Only what changes nothing</label>
<select id="read_only" name="read_only"><option value="no">no</option><option value="yes">yes</option></select>
<label for="myproxy">Also your proxies (MyProxy)</label>
<select id="myproxy" name="myproxy"><option value="no">no</option><option value="yes">yes</option></select>
<label for="days">Days until it ends</label>
<input id="days" name="days" inputmode="numeric" value="30" required>
<button>Make it</button>
</form>
</section>
<p class="hint">A token does what you may do, and less: what asks for a second factor, and these pages, it never opens. <a href="/">My access</a></p>
"#
)]
struct TokensBody<'a> {
    said: &'a Said,
    tokens: Vec<Row>,
}

fn tokens_page(said: &Said, username: &str, tokens: &[TokenView]) -> String {
    let tokens = tokens.iter().map(Row::from).collect();
    pages::framed("Access tokens", username, &text(&TokensBody { said, tokens }))
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Your access token</h1>
<p>It is shown this once: give it to your script now. It ends on {{ ends }}.</p>
<p><code>{{ token }}</code></p>
<p>In <code>~/.netrc</code>, for <code>curl --netrc</code>:</p>
<p><code>machine HOST login {{ username }} password {{ token }}</code></p>
<p><a href="/tokens">I have kept it</a></p>
</section>
"#
)]
struct MadeBody<'a> {
    username: &'a str,
    token: &'a str,
    ends: &'a str,
}

fn made_page(username: &str, made: &TokenCreated) -> String {
    let body = text(&MadeBody {
        username,
        token: made.token.expose(),
        ends: made.expires.get(..10).unwrap_or_default(),
    });
    pages::framed("Access token", username, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const NASTY: &str = "\"><script>alert(1)</script>";

    #[test]
    fn whatever_is_put_in_is_escaped_and_every_field_has_a_label() {
        let token = TokenView {
            id: NASTY.into(),
            name: NASTY.into(),
            scopes: vec![NASTY.into()],
            read_only: true,
            myproxy: true,
            created: NASTY.into(),
            used: Some(NASTY.into()),
            expires: NASTY.into(),
        };
        let made = TokenCreated {
            id: String::new(),
            token: Secret::new(NASTY.into()),
            expires: String::new(),
        };
        for page in [
            tokens_page(&Said::Bad(NASTY.into()), NASTY, &[token]),
            made_page(NASTY, &made),
        ] {
            for forbidden in ["<script", "<style", " style=", " onclick", "http://", "https://"] {
                assert!(!page.contains(forbidden), "{forbidden} in {page}");
            }
            for tag in ["<input ", "<textarea ", "<select "] {
                for field in page.split(tag).skip(1) {
                    let field = field.split('>').next().unwrap();
                    let id = field
                        .strip_prefix("id=\"")
                        .and_then(|rest| rest.split('"').next());
                    let labelled = id.is_some_and(|id| page.contains(&format!("<label for=\"{id}\">")));
                    assert!(field.contains("type=\"hidden\"") || labelled, "{field}");
                }
            }
        }
    }
}
