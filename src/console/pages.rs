//! The pages as text. No script, no inline style: they work under `default-src 'none'; style-src 'self'`.
//!
//! A page is a body in a common frame; askama escapes whatever is put in, the frame takes the finished body.

use askama::Template;

use super::access::Access;
use super::trace::Place;
use crate::id::RequestId;
use crate::problem::{Kind, Problem};

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} · Countersign</title>
<link rel="stylesheet" href="/.countersign/assets/console.css">
<link rel="icon" href="/.countersign/assets/icon.svg" type="image/svg+xml">
{%- if let Some(to) = refresh %}
<meta http-equiv="refresh" content="0;url={{ to }}">
{%- endif %}
</head>
<body>
<header class="bar"><span class="brand">Countersign</span>
{%- if let Some(username) = username -%}
<span class="who">{{ username }}</span><form method="post" action="/.countersign/logout"><button class="quiet">Sign out</button></form>
{%- endif -%}
</header>
<main class="{{ width }}">
{{ body|safe }}
</main>
</body>
</html>
"#
)]
struct Frame<'a> {
    title: &'a str,
    username: Option<&'a str>,
    refresh: Option<&'a str>,
    width: &'static str,
    body: &'a str,
}

impl<'a> Frame<'a> {
    const fn new(title: &'a str, width: &'static str, body: &'a str) -> Self {
        Self {
            title,
            username: None,
            refresh: None,
            width,
            body,
        }
    }
}

/// The text of a template. Writing into a string does not fail; were it to, the page would be empty, never half a page.
pub(super) fn text(page: &impl Template) -> String {
    page.render().unwrap_or_default()
}

/// A page of somebody who is signed in.
pub(super) fn framed(title: &str, username: &str, body: &str) -> String {
    text(&Frame {
        username: Some(username),
        ..Frame::new(title, "text", body)
    })
}

/// A narrow page, of somebody who is signed in or of nobody.
pub(super) fn narrow(title: &str, username: Option<&str>, body: &str) -> String {
    text(&Frame {
        username,
        ..Frame::new(title, "narrow", body)
    })
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
    text(&Frame::new("Sign in", "narrow", &body))
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
    let frame = Frame::new("Password", "narrow", &body);
    text(&Frame {
        username: Some(username),
        ..frame
    })
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
    text(&Frame::new("Continue", "narrow", &body))
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
    let frame = Frame::new("Sign in there", "narrow", &body);
    text(&Frame {
        refresh: Some(to),
        ..frame
    })
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
    let frame = Frame::new("Signed in", "narrow", &body);
    text(&Frame {
        refresh: Some(to),
        ..frame
    })
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>{{ problem.kind.title() }}</h1>
<p>{{ detail }}</p>
<p>{{ problem.kind.what() }}</p>
<p><strong>What to do next:</strong> {{ problem.next() }}</p>
<dl>
{%- for (name, value) in members %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{%- endfor %}
{%- if let Some(seconds) = problem.retry_after %}
<dt>Try again in</dt><dd>{{ seconds }} s</dd>
{%- endif %}
<dt>Request</dt><dd><code>{{ request }}</code></dd>
<dt>Problem</dt><dd><a href="/.countersign/problems/{{ problem.kind.name() }}">{{ problem.kind.name() }}</a> ({{ problem.kind.status() }})</dd>
</dl>
</section>
"#
)]
struct ProblemBody<'a> {
    problem: &'a Problem,
    detail: String,
    members: Vec<(String, String)>,
    request: RequestId,
}

/// One occurrence of a problem, as a page.
pub(super) fn problem(problem: &Problem, request: RequestId) -> String {
    let body = text(&ProblemBody {
        problem,
        detail: sentence(&problem.detail),
        members: problem.members.iter().filter_map(member).collect(),
        request,
    });
    text(&Frame::new(problem.kind.title(), "text", &body))
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

/// A detail (lower case, without a final stop) as a sentence.
fn sentence(detail: &str) -> String {
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
    text(&Frame::new(kind.title(), "text", &body))
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
    text(&Frame::new("Problems", "text", &body))
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<section class="card">
<h1>My access</h1>
<dl>
<dt>Signed in as</dt><dd>{{ access.username }}</dd>
<dt>Known to tools as</dt><dd><code>{{ access.person }}</code></dd>
<dt>This session ends</dt><dd>{{ until }}</dd>
<dt>Signed in with</dt><dd>{% for method in access.session.methods %}<span class="tag">{{ method }}</span>{% endfor %}</dd>
{%- if !access.roles.is_empty() %}
<dt>Roles at the gateway</dt><dd>{% for role in access.roles %}<span class="tag">{{ role }}</span>{% endfor %}</dd>
{%- endif %}
</dl>
<p class="hint"><a href="/password">Change my password</a> · <a href="/factors">Second factors</a> · <a href="/identities">Home organisations</a></p>
</section>
{%- if !traces.is_empty() %}
<section class="card">
<h2>Trace a proxy</h2>
<p>From a certificate that somebody met to the person behind it:</p>
<ul>
{%- for place in traces %}
<li><a href="{{ place.href }}">of {{ place.of }}</a></li>
{%- endfor %}
</ul>
</section>
{%- endif %}
{%- if access.vos.is_empty() %}
<section class="card"><h2>No virtual organisation yet</h2>
<p>You are not a member of one. Ask its administrator to add you: name <code>{{ access.username }}</code>.</p></section>
{%- endif %}
{%- for vo in access.vos %}
<section class="card">
<h2>{{ vo.name }}</h2>
<p>{% for role in vo.roles %}<span class="tag">{{ role }}</span>{% else %}<span class="hint">You hold no role here.</span>{% endfor %}</p>
{%- for tool in vo.tools %}
<article class="tool">
<header><h3>{{ tool.name }}</h3>
{%- for url in tool.pages %}
<a href="{{ url }}">Open {{ url }}</a>
{%- endfor %}
</header>
{%- for task in tool.tasks %}
<details>
<summary>{{ task.name }} <span class="tag">{{ task.kind }}</span>{% for condition in task.conditions %}{% if condition != "always" %} <span class="tag">{{ condition }}</span>{% endif %}{% endfor %}</summary>
{%- for call in task.calls %}
<pre>{{ call }}</pre>
{%- endfor %}
</details>
{%- endfor %}
</article>
{%- else %}
<p class="hint">None of your roles allows a tool here yet.</p>
{%- endfor %}
</section>
{%- endfor %}
{%- if access.calls() %}
<section class="card">
<h2>From the command line</h2>
<p>The lines above want the gateway's certificate authority in <code>ca.pem</code> and a token in <code>$TOKEN</code>. The answer to this one holds a token:</p>
<pre>curl --cacert ca.pem --json '{"username": "{{ access.username }}", "password": "..."}' {{ base }}/api/v1/sessions</pre>
<p class="hint">Or let the command line keep both: <code>countersign login --gateway {{ base }} --ca ca.pem --user {{ access.username }}</code></p>
</section>
{%- endif %}
"#
)]
struct HomeBody<'a> {
    said: &'a Said,
    access: &'a Access,
    traces: &'a [Place],
    until: String,
    base: &'a str,
}

/// "My access".
pub(super) fn home(said: &Said, access: &Access, traces: &[Place], base: &str) -> String {
    // To the minute; the document for programs has it whole.
    let until = access
        .session
        .expires
        .get(..16)
        .unwrap_or_default()
        .replace('T', " ")
        + " UTC";
    let body = text(&HomeBody {
        said,
        access,
        traces,
        until,
        base,
    });
    let frame = Frame::new("My access", "", &body);
    text(&Frame {
        username: Some(&access.username),
        ..frame
    })
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
