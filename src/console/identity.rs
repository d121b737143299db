//! The page of one's own identities at home organisations: seeing them, linking another, taking one away.

use askama::Template;
use http::{Response, StatusCode};

use super::form::Form;
use super::login::words;
use super::pages::{self, Said, text};
use super::{Console, answer, nobody, note, parameter, wants_page, with_query};
use crate::api::Asked;
use crate::api::idp::identities::IdentityView;
use crate::api::idp::link::{list_on_page, unlink_on_page};
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::problem::Problem;

/// Where the browser goes when an identity is linked.
const LINKED: &str = "/identities?note=identity-linked";

impl Console {
    pub(super) async fn identities_page(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (asked, said) = (Asked::of(&request), note(parameter(&request, "note")));
        let username = username(&request)?;
        drop(request);
        let page = self.identities(&asked, &said, &username).await?;
        Ok(answer::page(StatusCode::OK, page))
    }

    async fn identities(&self, asked: &Asked, said: &Said, username: &str) -> Result<String, Problem> {
        let mine = list_on_page(self.federation()?, asked).await?;
        Ok(identities_page(said, username, &mine, &self.providers().await))
    }

    /// Sends the browser to the provider whose identity is to be linked.
    pub(super) async fn identity_link(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (id, page) = (request.id, wants_page(request.request.headers()));
        let (subject, base) = (request.permit.subject().clone(), request.base.clone());
        let form = Form::read(request.request).await?;
        let start = self
            .0
            .authenticate
            .link_start(&subject, form.text("idp"), (&base, LINKED));
        Ok(match start.await {
            // Not a redirect: pages send their forms to this host only, and browsers hold redirects against that.
            Ok(start) => {
                let page = answer::page(StatusCode::OK, pages::away(&start.location));
                answer::with_cookie(page, &start.cookie)
            }
            Err(problem) => super::federation::refused(&problem, page, id),
        })
    }

    pub(super) async fn identity_unlink(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (asked, username) = (Asked::of(&request), username(&request)?);
        let form = Form::read(request.request).await?;
        match unlink_on_page(self.federation()?, &asked, form.text("identity")).await {
            Ok(()) => Ok(answer::see_other(&with_query(
                "/identities",
                &[("note", "identity-unlinked")],
            ))),
            Err(problem) => {
                let said = Said::Bad(words(&problem));
                let page = self.identities(&asked, &said, &username).await?;
                Ok(answer::refused(&problem, page))
            }
        }
    }
}

fn username(request: &LocalRequest) -> Result<String, Problem> {
    let person = request.permit.subject().as_person();
    person.map(|person| person.username.clone()).ok_or_else(nobody)
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<section class="card">
<h1>Home organisations</h1>
{%- if mine.is_empty() %}
<p>No home organisation opens your account yet.</p>
{%- else %}
<p>Each of these opens your account.</p>
{%- for one in mine %}
<form method="post" action="/identities/unlink">
<dl>
<dt>Issuer</dt><dd><code>{{ one.issuer }}</code></dd>
<dt>Known there as</dt><dd><code>{{ one.subject }}</code></dd>
</dl>
<input type="hidden" name="identity" value="{{ one.id }}">
<button>Take it away</button>
</form>
{%- endfor %}
<p class="hint">Sessions that began by an identity end when it is taken away.</p>
{%- endif %}
</section>
{%- if !with.is_empty() %}
<section class="card">
<h2>Link another</h2>
<p>You sign in there once more, and it opens your account from then on.</p>
{%- for one in with %}
<form method="post" action="/identities/link">
<input type="hidden" name="idp" value="{{ one.name }}">
<button>{{ one.display_name }}</button>
</form>
{%- endfor %}
</section>
{%- endif %}
<p class="hint"><a href="/">My access</a></p>
"#
)]
struct IdentitiesBody<'a> {
    said: &'a Said,
    mine: &'a [IdentityView],
    with: &'a [pages::With],
}

fn identities_page(said: &Said, username: &str, mine: &[IdentityView], with: &[pages::With]) -> String {
    let body = text(&IdentitiesBody { said, mine, with });
    pages::framed("Home organisations", username, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_provider_is_called_is_escaped() {
        const NASTY: &str = "\"><script>alert(1)</script>";
        let with = [pages::With {
            name: NASTY.into(),
            display_name: NASTY.into(),
        }];
        let mine = [IdentityView {
            id: NASTY.into(),
            issuer: NASTY.into(),
            subject: NASTY.into(),
            state: NASTY.into(),
            person: None,
            username: None,
            name: None,
            mail: None,
            affiliation: Vec::new(),
            groups: Vec::new(),
            valid_until: None,
            created: NASTY.into(),
            seen: NASTY.into(),
        }];
        let said = Said::Bad(NASTY.into());
        for page in [
            identities_page(&said, NASTY, &mine, &with),
            pages::login_with(&said, NASTY, NASTY, &with),
        ] {
            for forbidden in ["<script", "<style", " style=", " onclick"] {
                assert!(!page.contains(forbidden), "{forbidden} in {page}");
            }
        }
    }
}
