//! The pages as text. No script, no inline style: they work under `default-src 'none'; style-src 'self'`.
//!
//! A page is a body in a common frame; askama escapes whatever is put in, the frame takes the finished body.

use askama::Template;

use super::frame::{Page, Shell};
use crate::id::RequestId;
use crate::problem::{Kind, Problem};

/// The text of a template. Writing into a string does not fail; were it to, the page would be empty, never half a page.
pub(super) fn text(page: &impl Template) -> String {
    page.render().unwrap_or_default()
}

/// A page of somebody who is signed in, with the navigation that everybody has.
pub(super) fn framed(title: &str, username: &str, body: &str) -> String {
    let shell = Shell::of(username);
    Page {
        shell: Some(&shell),
        ..Page::new(title, "text", body)
    }
    .show()
}

/// A narrow page, of somebody who is signed in or of nobody.
pub(super) fn narrow(title: &str, username: Option<&str>, body: &str) -> String {
    let shell = username.map(|username| Shell {
        username: username.to_owned(),
        ..Shell::default()
    });
    Page {
        shell: shell.as_ref(),
        ..Page::new(title, "narrow", body)
    }
    .show()
}

/// Something that a page says above its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    Nothing,
    /// Good news.
    Good(&'static str),
    /// Why it did not work.
    Bad(String),
}

impl Said {
    pub(super) const fn class(&self) -> &'static str {
        match self {
            Self::Good(_) => "good",
            _ => "bad",
        }
    }

    pub(super) fn words(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Good(words) => Some(words),
            Self::Bad(words) => Some(words),
        }
    }
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Sign in</h1>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<form method="post" action="/login">
<input type="hidden" name="to" value="{{ to }}">
<label for="username">User name</label>
<input id="username" name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus value="{{ username }}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Sign in</button>
</form>
</section>
{%- if !with.is_empty() %}
<section class="card">
<h2>Or sign in with your home organisation</h2>
<ul class="with">
{%- for one in with %}
<li><a href="{{ one.address(to) }}">{{ one.display_name }}</a></li>
{%- endfor %}
</ul>
</section>
{%- endif %}
<p class="hint">No password yet, or forgotten? The administrator of your virtual organisation gives you a one-time password.</p>
"#
)]
struct LoginBody<'a> {
    said: &'a Said,
    to: &'a str,
    username: &'a str,
    with: &'a [With],
}

/// A home organisation that the login page offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct With {
    pub(super) name: String,
    pub(super) display_name: String,
}

impl With {
    fn address(&self, to: &str) -> String {
        let to = if to == "/" { "" } else { to };
        super::with_query(&format!("/login/with/{}", self.name), &[("to", to)])
    }
}

/// The login page.
pub(super) fn login(said: &Said, to: &str, username: &str) -> String {
    login_with(said, to, username, &[])
}

/// The same, with home organisations.
pub(super) fn login_with(said: &Said, to: &str, username: &str, with: &[With]) -> String {
    let body = text(&LoginBody {
        said,
        to,
        username,
        with,
    });
    Page::new("Sign in", "narrow", &body).show()
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>{% if first %}Choose your password{% else %}Change your password{% endif %}</h1>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<p>At least 15 characters (8 beside a <a href="/factors">second factor</a>); a phrase of a few words is best. Nothing else is demanded, and it never expires.</p>
<form method="post" action="/password">
<input type="hidden" name="to" value="{{ to }}">
<input name="username" autocomplete="username" value="{{ username }}" readonly hidden>
{%- if !first %}
<label for="current">Present password</label>
<input id="current" name="current" type="password" autocomplete="current-password" required autofocus>
{%- endif %}
<label for="new">New password</label>
<input id="new" name="new" type="password" autocomplete="new-password" minlength="8" required{% if first %} autofocus{% endif %}>
<label for="again">New password again</label>
<input id="again" name="again" type="password" autocomplete="new-password" minlength="8" required>
<button>Save</button>
</form>
</section>
<p class="hint">{% if first %}You then sign in with it.{% else %}Your other sessions end when you change it.{% endif %}</p>
"#
)]
struct PasswordBody<'a> {
    said: &'a Said,
    to: &'a str,
    username: &'a str,
    first: bool,
}

/// The page on which somebody chooses a password; `first` after a one-time password.
pub(super) fn password(said: &Said, to: &str, username: &str, first: bool) -> String {
    let body = text(&PasswordBody {
        said,
        to,
        username,
        first,
    });
    narrow("Password", Some(username), &body)
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Continue to {{ tool }}?</h1>
<p>A page of another site leads you to <code>{{ host }}</code>.</p>
<p><a href="{{ here }}">Continue</a></p>
</section>
"#
)]
struct LedBody<'a> {
    tool: &'a str,
    host: &'a str,
    here: &'a str,
}

/// The page that asks whether to go on into a tool; `here` is the address that was asked for, on this host.
pub(super) fn led(tool: &str, host: &str, here: &str) -> String {
    let body = text(&LedBody { tool, host, here });
    Page::new("Continue", "narrow", &body).show()
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>On to your home organisation</h1>
<p><a href="{{ to }}">Go on</a></p>
</section>
"#
)]
struct AwayBody<'a> {
    to: &'a str,
}

/// A page that leads to another site.
pub(super) fn away(to: &str) -> String {
    let body = text(&AwayBody { to });
    Page {
        refresh: Some(to),
        ..Page::new("Sign in there", "narrow", &body)
    }
    .show()
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>You are signed in</h1>
<p><a href="{{ to }}">Go on</a></p>
</section>
"#
)]
struct OnwardBody<'a> {
    to: &'a str,
}

/// Sends a browser on without a redirect: what follows a form may lead to another host, which the page's own
/// `form-action` would forbid to a redirect.
pub(super) fn onward(to: &str) -> String {
    let body = text(&OnwardBody { to });
    Page {
        refresh: Some(to),
        ..Page::new("Signed in", "narrow", &body)
    }
    .show()
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemBody<'a> {
    problem: &'a Problem,
    detail: String,
    members: Vec<(String, String)>,
    request: RequestId,
    own: bool,
}

/// One occurrence of a problem, as a page.
pub(super) fn problem(problem: &Problem, request: RequestId) -> String {
    let body = problem_body(problem, request, false);
    Page::new(problem.kind.title(), "text", &body).show()
}

/// The same as a body; with `own`, it leads to the request's own page, for somebody who is signed in.
pub(super) fn problem_body(problem: &Problem, request: RequestId, own: bool) -> String {
    text(&ProblemBody {
        problem,
        detail: sentence(&problem.detail),
        members: problem.members.iter().filter_map(member).collect(),
        request,
        own,
    })
}

/// A member of the document as words; what has a deeper shape is left to the document.
fn member((name, value): (&String, &serde_json::Value)) -> Option<(String, String)> {
    let words = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(serde_json::Value::as_str).collect();
            items.filter(|items| !items.is_empty())?.join(", ")
        }
        _ => return None,
    };
    if name == "vo" {
        return Some(("VO".to_owned(), words));
    }
    Some((
        sentence(&name.replace('_', " ")).trim_end_matches('.').to_owned(),
        words,
    ))
}

/// The parts of a text, each with whether it stood in backticks.
pub(super) fn marked(text: &str) -> Vec<(bool, &str)> {
    // A backtick without its partner is a backtick.
    let paired = text.matches('`').count().is_multiple_of(2);
    if !paired {
        return vec![(false, text)];
    }
    let parts = text.split('`').enumerate();
    parts
        .map(|(index, part)| (index % 2 == 1, part))
        .filter(|(_, part)| !part.is_empty())
        .collect()
}

/// A detail (lower case, without a final stop) as a sentence.
pub(super) fn sentence(detail: &str) -> String {
    let mut characters = detail.chars();
    let Some(first) = characters.next() else {
        return String::new();
    };
    let stop = if detail.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    format!("{}{}{stop}", first.to_uppercase(), characters.as_str())
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>{{ kind.title() }}</h1>
<p>{{ kind.what() }}</p>
<p><strong>What to do next:</strong> {{ kind.next() }}</p>
<dl>
<dt>Name</dt><dd><code>{{ kind.name() }}</code></dd>
<dt>HTTP status</dt><dd>{{ kind.status() }}</dd>
</dl>
</section>
<p><a href="/.countersign/problems">All problems</a></p>
"#
)]
struct KindBody {
    kind: Kind,
}

/// The page that explains a problem type.
pub(super) fn kind(kind: Kind) -> String {
    let body = text(&KindBody { kind });
    Page::new(kind.title(), "text", &body).show()
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>Problems</h1>
<p>Every way in which the gateway refuses or fails, and what to do about it.</p>
<table>
<thead><tr><th>Status</th><th>Problem</th></tr></thead>
<tbody>
{%- for kind in kinds %}
<tr><td>{{ kind.status() }}</td><td><a href="/.countersign/problems/{{ kind.name() }}">{{ kind.title() }}</a></td></tr>
{%- endfor %}
</tbody>
</table>
</section>
"#
)]
struct KindsBody {
    kinds: &'static [Kind],
}

/// The list of all problem types.
pub(super) fn kinds() -> String {
    let body = text(&KindsBody { kinds: Kind::ALL });
    Page::new("Problems", "text", &body).show()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_put_in_is_escaped() {
        let nasty = "\"><script>alert(1)</script>";
        let request = RequestId::from(uuid::Uuid::nil());
        let shown = Problem::new(Kind::NoGrant, nasty).with("task", nasty);
        for page in [
            login(&Said::Bad(nasty.into()), nasty, nasty),
            password(&Said::Bad(nasty.into()), nasty, nasty, true),
            problem(&shown, request),
            onward(nasty),
        ] {
            assert!(!page.contains("<script"), "{page}");
            assert!(
                page.contains("&#60;script") || page.contains("&lt;script"),
                "{page}"
            );
        }
    }

    #[test]
    fn no_page_has_script_or_inline_style() {
        let request = RequestId::from(uuid::Uuid::nil());
        let mut pages = vec![
            login(&Said::Nothing, "/", ""),
            password(&Said::Nothing, "/", "john", false),
            kinds(),
            problem(
                &Problem::new(Kind::LogUnavailable, "the log is full").retry_after(1),
                request,
            ),
        ];
        pages.extend(Kind::ALL.iter().copied().map(kind));
        for page in pages {
            for forbidden in ["<script", "<style", " style=", " onclick", "http://", "https://"] {
                assert!(!page.contains(forbidden), "{forbidden} in {page}");
            }
        }
    }

    #[test]
    fn what_stands_in_backticks_is_code_and_nothing_is_lost() {
        assert_eq!(
            marked("may do `user.list` on `x`"),
            [
                (false, "may do "),
                (true, "user.list"),
                (false, " on "),
                (true, "x")
            ]
        );
        assert_eq!(marked("one ` alone"), [(false, "one ` alone")]);
    }

    #[test]
    fn a_problem_page_says_what_to_do_next_and_the_request() {
        let request = RequestId::from(uuid::Uuid::from_u128(7));
        let shown =
            Problem::new(Kind::NotOwner, "job 42 is not yours").with("would_allow", vec!["vo-administrator"]);
        let page = problem(&shown, request);
        for part in [
            "Job 42 is not yours.",
            Kind::NotOwner.next(),
            &request.to_string(),
            "Would allow",
            "vo-administrator",
            "/.countersign/problems/not_owner",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }
}
