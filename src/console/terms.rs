//! Terms of use in the browser: whoever has some yet to accept is led here from wherever she wanted to go.

use askama::Template;
use http::request::Parts;
use http::{Response, StatusCode};

use super::form::Form;
use super::login::words;
use super::pages::{self, Said, text};
use super::{Console, answer, local, nobody, parameter, with_query};
use crate::api::terms::accept::{TermsAccept, TermsRead};
use crate::api::terms::{TermsView, accept_on_page, owed_on_page};
use crate::api::{Api, Asked};
use crate::authenticate::is_navigation;
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::problem::{Kind, Problem};
use crate::tool::{Address, Place};

/// The address of the page that leads on to `to`.
fn address(to: &str) -> String {
    let to = if to == "/" { "" } else { to };
    with_query("/terms", &[("to", to)])
}

impl Console {
    /// Where a browser that navigates is sent that has terms yet to accept.
    pub(super) fn to_terms(&self, head: &Parts, place: &Place, base: &str) -> Option<Response<Body>> {
        if !is_navigation(head) {
            return None;
        }
        let to = place.target.as_str();
        match place.address {
            Address::Path => None,
            Address::Gateway => Some(answer::see_other(&address(to))),
            Address::ToolHost => {
                let start = self.0.authenticate.enter_start(&place.host, to).ok()?;
                let response = answer::see_other(&format!("{base}{}", address(&start.location)));
                Some(answer::with_cookie(response, &start.cookie))
            }
        }
    }

    fn own_api(&self) -> Result<&Api, Problem> {
        let api = self.0.api.get();
        let api = api.ok_or_else(|| Problem::new(Kind::Internal, "nothing can be changed here"))?;
        Ok(api)
    }

    pub(super) async fn terms_page(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let person = request.permit.subject().as_person().ok_or_else(nobody)?;
        let to = local(parameter(&request, "to")).to_owned();
        let asked = Asked::of(&request);
        let owed = owed_on_page(self.own_api()?, &asked).await?;
        if owed.is_empty() {
            return Ok(answer::see_other(&to));
        }
        let page = terms_page(&Said::Nothing, &to, &person.username, &owed);
        Ok(answer::page(StatusCode::OK, page))
    }

    pub(super) async fn accept_terms(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let permit = request.permit.clone();
        let person = permit.subject().as_person().ok_or_else(nobody)?;
        let (api, asked) = (self.own_api()?, Asked::of(&request));
        let form = Form::read(request.request).await?;
        let to = local(form.text("to"));
        let done = match form.text("accept") {
            "yes" => accept_on_page(api, &asked, shown(form.text("shown"))).await,
            _ => Err(Problem::new(
                Kind::Invalid,
                "nothing is open to you before you accept these terms",
            )
            .with("field", "accept")
            .instead("Tick the box if you agree, or sign out.")),
        };
        match done {
            Ok(left) if left.owed.is_empty() => Ok(answer::page(StatusCode::OK, pages::onward(to))),
            Ok(left) => {
                let page = terms_page(&Said::Nothing, to, &person.username, &left.owed);
                Ok(answer::page(StatusCode::OK, page))
            }
            Err(problem) => {
                let owed = owed_on_page(api, &asked).await?;
                let page = terms_page(&Said::Bad(words(&problem)), to, &person.username, &owed);
                Ok(answer::refused(&problem, page))
            }
        }
    }
}

/// What the page showed: `vo:version:digest`, with spaces between.
fn shown(text: &str) -> TermsAccept {
    let read = |one: &str| {
        let mut parts = one.splitn(3, ':');
        Some(TermsRead {
            vo: parts.next()?.to_owned(),
            version: parts.next()?.parse().ok()?,
            digest: parts.next()?.to_owned(),
        })
    };
    TermsAccept {
        accept: text.split(' ').filter_map(read).collect(),
    }
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Terms of use</h1>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<p>Nothing else is open to you before you accept {% if owed.len() == 1 %}this text{% else %}these texts{% endif %}.</p>
{%- for terms in owed %}
<h2>{{ terms.vo }}, version {{ terms.version }}</h2>
<pre class="terms" tabindex="0">{{ terms.text }}</pre>
{%- endfor %}
<form method="post" action="/terms">
<input type="hidden" name="to" value="{{ to }}">
<input type="hidden" name="shown" value="{{ shown }}">
<p><input id="accept" name="accept" type="checkbox" value="yes" required> <label for="accept">I have read {% if owed.len() == 1 %}it{% else %}them{% endif %} and accept {% if owed.len() == 1 %}it{% else %}them{% endif %}</label></p>
<button>Accept</button>
</form>
</section>
<p class="hint">That you accepted, and which version, stands on record.</p>
"#
)]
struct TermsBody<'a> {
    said: &'a Said,
    to: &'a str,
    owed: &'a [TermsView],
    shown: String,
}

fn terms_page(said: &Said, to: &str, username: &str, owed: &[TermsView]) -> String {
    let shown: Vec<String> = owed
        .iter()
        .map(|terms| format!("{}:{}:{}", terms.vo, terms.version, terms.digest))
        .collect();
    let body = text(&TermsBody {
        said,
        to,
        owed,
        shown: shown.join(" "),
    });
    pages::framed("Terms of use", username, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_showed_is_what_is_accepted() {
        let digest = "ab".repeat(32);
        let one = TermsView {
            vo: "imense".into(),
            version: 7,
            digest: digest.clone(),
            since: String::new(),
            text: "Be <b>kind</b>".into(),
        };
        let page = terms_page(&Said::Nothing, "/x", "john", &[one]);
        assert!(!page.contains("<b>kind"), "{page}");
        let value = format!("imense:7:{digest}");
        assert!(page.contains(&format!("value=\"{value}\"")), "{page}");
        let read = shown(&value).accept.pop().unwrap();
        assert_eq!(
            (read.vo.as_str(), read.version, read.digest),
            ("imense", 7, digest)
        );
        assert!(shown("").accept.is_empty() && shown("a:b:c").accept.is_empty());
    }
}
