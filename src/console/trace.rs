//! Tracing a proxy in a browser: paste what was found or choose (or drop) its file. Without script.

use askama::Template;
use http::{Response, StatusCode};

use super::frame::{Page, Shell};
use super::login::words;
use super::multipart::Parts;
use super::pages::{Said, text};
use super::{Console, answer, nobody, parameter};
use crate::api::provider::trace::{ProviderQuery, ProviderTrace};
use crate::api::provider::{tool_of_role, trace as provider};
use crate::api::proxy::trace::{TraceInput, TraceResult, trace};
use crate::api::{Api, Asked};
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::problem::{Kind, Problem};
use crate::vo::{Directory, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR};

/// Largest form, in bytes: what is pasted, what is in the file, and the lines between.
pub(super) const LIMIT: usize = 1_200_000;

/// Where somebody may trace, as "my access" offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) href: String,
    pub(super) of: String,
}

impl Console {
    /// The pages on which this person may trace: of a VO, or of a tool as its provider.
    pub(super) fn traces(&self, request: &LocalRequest) -> Vec<Place> {
        let Some(person) = request.permit.subject().as_person() else {
            return Vec::new();
        };
        let (directory, now) = (self.0.vos.handle().load(), self.0.ids.clock().now());
        let holds = |vo, name: &str| directory.holders(vo, name, now).contains(&person.id);
        let everywhere = holds(Directory::gateway(), SYSTEM_ADMINISTRATOR);
        let mut places = Vec::new();
        for vo in directory.all_vos() {
            if everywhere || holds(vo.id, VO_ADMINISTRATOR) {
                places.push(Place {
                    href: format!("/trace/{}", vo.name),
                    of: vo.name.clone(),
                });
            }
            for held in directory.assignments(vo.id, person.id, now) {
                let role = directory.role(held.role);
                if let Some(tool) = role.and_then(|role| tool_of_role(&role.name)) {
                    places.push(Place {
                        href: format!("/trace/{}/{tool}", vo.name),
                        of: format!("{tool} of {}", vo.name),
                    });
                }
            }
        }
        places
    }

    pub(super) fn trace_page(&self, request: &LocalRequest) -> Result<Response<Body>, Problem> {
        let asks = self.asks(request)?;
        Ok(answer::page(
            StatusCode::OK,
            asks.page(&Said::Nothing, &Answered::No),
        ))
    }

    /// Answers a trace, as the operation of the same task does it.
    pub(super) async fn trace(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (asks, asked) = (self.asks(&request)?, Asked::of(&request));
        let api = self.0.api.get();
        let api = api.ok_or_else(|| Problem::new(Kind::Internal, "nothing can be traced here"))?;
        let form = Parts::read(request.request, LIMIT).await?;
        match asks.ask(api, &asked, &form).await {
            Ok(answered) => {
                let said = match answered.is_empty() {
                    true => Said::Bad(format!(
                        "No proxy of {} fits{}. The attempt is on record.",
                        asks.of,
                        answered.looked()
                    )),
                    false => Said::Nothing,
                };
                Ok(answer::page(StatusCode::OK, asks.page(&said, &answered)))
            }
            Err(problem) => {
                let page = asks.page(&Said::Bad(words(&problem)), &Answered::No);
                Ok(answer::refused(&problem, page))
            }
        }
    }
}

impl Console {
    fn asks(&self, request: &LocalRequest) -> Result<Asks, Problem> {
        request.permit.subject().as_person().ok_or_else(nobody)?;
        let (vo, tool) = (parameter(request, "vo"), parameter(request, "tool"));
        let (action, of) = match tool {
            "" => (format!("/trace/{vo}"), vo.to_owned()),
            tool => (format!("/trace/{vo}/{tool}"), format!("{tool} of {vo}")),
        };
        Ok(Asks {
            shell: self.shell_of(&request.permit, Some(vo)).at(&action),
            action,
            of,
            tool: !tool.is_empty(),
        })
    }
}

/// What a trace led to.
enum Answered {
    No,
    Vo(TraceResult),
    Provider(ProviderTrace),
}

impl Answered {
    fn is_empty(&self) -> bool {
        match self {
            Self::No => true,
            Self::Vo(found) => found.proxies.is_empty(),
            Self::Provider(found) => found.proxies.is_empty(),
        }
    }
}

impl Answered {
    /// What is said where not everything was looked at.
    fn looked(&self) -> &'static str {
        let more = match self {
            Self::No => false,
            Self::Vo(found) => found.more,
            Self::Provider(found) => found.more,
        };
        if more {
            " among what was looked at, which is not all"
        } else {
            ""
        }
    }
}

/// Who asks, and where.
struct Asks {
    shell: Shell,
    action: String,
    of: String,
    tool: bool,
}

impl Asks {
    async fn ask(&self, api: &Api, asked: &Asked, form: &Parts) -> Result<Answered, Problem> {
        let (query, proof) = (query(form)?, !form.bytes("proof").is_empty());
        if !self.tool {
            return trace(api, asked, TraceInput { query, proof })
                .await
                .map(Answered::Vo);
        }
        let note = Some(form.text("note").trim()).filter(|note| !note.is_empty());
        let query = ProviderQuery {
            query,
            note: note.map(|note| note.replace("\r\n", "\n")),
            proof,
        };
        provider::trace(api, asked, query).await.map(Answered::Provider)
    }

    fn page(&self, said: &Said, answered: &Answered) -> String {
        let mut body = match answered {
            Answered::No => String::new(),
            Answered::Vo(found) => text(&VoBody { found }),
            Answered::Provider(found) => text(&ProviderBody { found }),
        };
        body.push_str(&text(&FormBody {
            said,
            action: &self.action,
            of: &self.of,
            tool: self.tool,
            again: !answered.is_empty(),
        }));
        Page {
            shell: Some(&self.shell),
            ..Page::new("Trace a proxy", "text", &body)
        }
        .show()
    }
}

/// What is looked for: the file, else what was pasted.
fn query(form: &Parts) -> Result<String, Problem> {
    let file = form.bytes("file");
    let query = match std::str::from_utf8(file) {
        Ok(text) if text.trim().is_empty() => form.text("query").to_owned(),
        Ok(text) => text.to_owned(),
        Err(_) => data_encoding::BASE64.encode(file),
    };
    if query.trim().is_empty() {
        let detail = "paste what you found, or choose its file";
        return Err(Problem::new(Kind::Invalid, detail));
    }
    Ok(query)
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<section class="card">
<h1>{% if again %}Trace another proxy{% else %}Trace a proxy{% endif %}</h1>
<p>Who is behind a proxy of {{ of }}? The trace is recorded{% if tool %}, and the administrators of the virtual organisation are told{% endif %}.</p>
{%- if let Some(words) = said.words() %}
<p class="said {{ said.class() }}" role="status">{{ words }}</p>
{%- endif %}
<form method="post" action="{{ action }}" enctype="multipart/form-data">
<label for="query">What you found</label>
<textarea id="query" name="query" rows="8" spellcheck="false" autocapitalize="none" aria-describedby="accepted"{% if !again %} autofocus{% endif %}></textarea>
<p class="hint" id="accepted">
{%- if tool -%}
A certificate or chain (PEM), its public key (PEM), or the SHA-256 of one of them. A serial or a name alone is not enough. Never a private key.
{%- else -%}
A certificate or chain (PEM), its public key (PEM), the SHA-256 of one of them, a serial, or a distinguished name. Never a private key.
{%- endif -%}
</p>
<label for="file">Or its file (PEM or DER): choose it, or drop it here</label>
<input id="file" name="file" type="file">
{%- if tool %}
<label for="note">What happened, for whoever answers</label>
<input id="note" name="note" maxlength="500" autocomplete="off">
{%- endif %}
<p class="check"><input id="proof" name="proof" type="checkbox" value="yes"><label for="proof">With a proof that can be checked without the gateway</label></p>
<button>Trace</button>
</form>
</section>
"#
)]
struct FormBody<'a> {
    said: &'a Said,
    action: &'a str,
    of: &'a str,
    tool: bool,
    again: bool,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"{%- for proxy in found.proxies %}
<section class="card">
<h1>{% if let Some(name) = proxy.person.name %}{{ name }}{% else %}{{ proxy.person.id }}{% endif %}</h1>
<p class="said {% if proxy.proved %}good{% else %}bad{% endif %}" role="status">{{ proxy.says }}</p>
<dl>
<dt>Person</dt><dd><code>{{ proxy.person.id }}</code>{% if proxy.person.present %} (her present card; the one of then was destroyed){% endif %}</dd>
{%- if let Some(value) = proxy.person.username %}
<dt>User name</dt><dd>{{ value }}</dd>
{%- endif %}
{%- if let Some(value) = proxy.person.mail %}
<dt>Mail</dt><dd>{{ value }}</dd>
{%- endif %}
{%- if let Some(value) = proxy.person.organisation %}
<dt>Organisation</dt><dd>{{ value }}</dd>
{%- endif %}
<dt>Proxy</dt><dd>{% if let Some(value) = proxy.subject %}{{ value }}{% endif %}</dd>
<dt>Serial</dt><dd><code>{{ proxy.serial }}</code></dd>
<dt>Found by</dt><dd>{{ proxy.by }}</dd>
<dt>Given to tool</dt><dd>{{ proxy.tool }} ({{ proxy.way }})</dd>
<dt>Valid</dt><dd>{{ proxy.not_before }} to {{ proxy.not_after }}</dd>
{%- if let Some(value) = proxy.revoked %}
<dt>Revoked</dt><dd>{{ value }}</dd>
{%- endif %}
</dl>
<h2>Used for {% if proxy.more_requests %}more than {% endif %}{{ proxy.requests.len() }} requests</h2>
<table>
<thead><tr><th scope="col">Time</th><th scope="col">Task</th><th scope="col">Resource</th><th scope="col">Request</th></tr></thead>
<tbody>
{%- for request in proxy.requests %}
<tr><td>{{ request.time }}</td><td>{% if let Some(task) = request.task %}{{ task }}{% endif %}</td><td>{% if let Some(resource) = request.resource %}{{ resource }}{% endif %}</td><td><code>{{ request.request }}</code></td></tr>
{%- endfor %}
</tbody>
</table>
{%- if let Some(proof) = proxy.proof %}
<details><summary>Proof of the record {{ proof.record }}</summary><pre>{{ proof.proof }}</pre></details>
{%- endif %}
</section>
{%- endfor %}
{%- if found.more %}
<p class="said bad" role="status">There may be more: it leads to more proxies or numbers than one answer holds.</p>
{%- endif %}
"#
)]
struct VoBody<'a> {
    found: &'a TraceResult,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"{%- for proxy in found.proxies %}
<section class="card">
{%- if let Some(person) = proxy.person %}
<h1>{% if let Some(name) = person.name %}{{ name }}{% else %}{{ person.id }}{% endif %}</h1>
<p class="said {% if proxy.proved %}good{% else %}bad{% endif %}" role="status">{{ proxy.says }}</p>
<dl>
<dt>Person</dt><dd><code>{{ person.id }}</code></dd>
{%- if let Some(value) = person.username %}
<dt>User name</dt><dd>{{ value }}</dd>
{%- endif %}
{%- if let Some(value) = person.mail %}
<dt>Mail</dt><dd>{{ value }}</dd>
{%- endif %}
{%- if let Some(value) = person.organisation %}
<dt>Organisation</dt><dd>{{ value }}</dd>
{%- endif %}
{%- else %}
<h1>A case is open</h1>
<p class="said good" role="status">The administrators of {{ proxy.vo }} are told, and answer. A mail tells you when they have.</p>
<dl>
{%- if let Some(case) = proxy.case %}
<dt>Case</dt><dd><code>{{ case }}</code></dd>
{%- endif %}
{%- endif %}
<dt>Proxy</dt><dd>{% if let Some(value) = proxy.subject %}{{ value }}{% endif %}</dd>
<dt>Serial</dt><dd><code>{{ proxy.serial }}</code></dd>
<dt>Valid</dt><dd>{{ proxy.not_before }} to {{ proxy.not_after }}</dd>
{%- if let Some(value) = proxy.revoked %}
<dt>Revoked</dt><dd>{{ value }}</dd>
{%- endif %}
</dl>
<h2>Used for {% if proxy.more_requests %}more than {% endif %}{{ proxy.requests.len() }} requests to {{ proxy.tool }}</h2>
<table>
<thead><tr><th scope="col">Time</th><th scope="col">Task</th></tr></thead>
<tbody>
{%- for request in proxy.requests %}
<tr><td>{{ request.time }}</td><td>{% if let Some(task) = request.task %}{{ task }}{% endif %}</td></tr>
{%- endfor %}
</tbody>
</table>
{%- if let Some(proof) = proxy.proof %}
<details><summary>Proof of the record {{ proof.record }}</summary><pre>{{ proof.proof }}</pre></details>
{%- endif %}
</section>
{%- endfor %}
{%- if found.more %}
<p class="said bad" role="status">There may be more: it leads to more proxies than one answer holds.</p>
{%- endif %}
"#
)]
struct ProviderBody<'a> {
    found: &'a ProviderTrace,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::provider::ShownPerson;
    use crate::api::provider::trace::ProviderTraced;

    fn asks(tool: bool) -> Asks {
        Asks {
            shell: Shell::of("admin"),
            action: "/trace/imense".into(),
            of: "imense".into(),
            tool,
        }
    }

    #[test]
    fn the_pages_have_no_script_and_escape_what_others_wrote() {
        let nasty = "\"><script>alert(1)</script>".to_owned();
        let proxy = ProviderTraced {
            vo: nasty.clone(),
            subject: Some(nasty.clone()),
            person: Some(ShownPerson {
                name: Some(nasty.clone()),
                ..ShownPerson::default()
            }),
            ..ProviderTraced::default()
        };
        let case = ProviderTraced {
            person: None,
            case: Some(nasty.clone()),
            ..proxy.clone()
        };
        let found = Answered::Provider(ProviderTrace {
            proxies: vec![proxy, case],
            more: true,
        });
        for page in [
            asks(false).page(&Said::Bad(nasty), &Answered::No),
            asks(true).page(&Said::Nothing, &found),
        ] {
            for forbidden in ["<script", "<style", " style=", " onclick", "http://", "https://"] {
                assert!(!page.contains(forbidden), "{forbidden} in {page}");
            }
        }
    }
}
