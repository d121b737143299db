//! What a task asks of a request besides method and path: `query`, `headers`, `body`; and `resolve`.

use std::sync::Arc;

use http::{HeaderName, Method};

use super::answers::is_pointer;
use super::keys;
use super::task::{Names, known, type_name};
use crate::settings::Table;
use crate::tool::content::{is_ncname, is_path};
use crate::tool::matching::is_method_override;
use crate::tool::template::Variable;
use crate::tool::{
    Audience, BodyRule, Demands, HeaderDemand, HeaderValueRule, JUDGED, Kind, Language, MOST_JUDGED, Piece,
    Resolve, ResourceRule, Taken, Target, Task, Template, is_claim, is_hop_by_hop,
};

/// What the names of look-ups begin with in records; no task of a manifest may be named so.
pub(super) const LOOK_UP: &str = "resolve:";
/// Headers that have rules of their own.
const RULED: [&str; 15] = [
    "accept-encoding",
    "authorization",
    "cookie",
    "host",
    "content-length",
    "content-encoding",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "soapaction",
    "traceparent",
    "tracestate",
];

/// Reads `query`: the names that may come, and the fixed values.
pub(super) fn query(table: &mut Table<'_>) -> (Option<Vec<String>>, Vec<(String, String)>) {
    if table.is_text("query") {
        if table.text("query").as_deref() != Some("any") {
            table.flaw("query", "must be a list of parameter names, or \"any\"");
        }
        return (None, Vec::new());
    }
    let (mut names, mut fixed) = (Vec::new(), Vec::new());
    for entry in super::names(table, "query") {
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (entry.as_str(), None),
        };
        if !(1..=64).contains(&name.len()) || !name.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
            table.flaw(
                "query",
                format!("has `{name}`; accepted: names of 1 to 64 printable ASCII characters without spaces, or `name=value`"),
            );
        }
        if is_method_override(name) {
            table.flaw(
                "query",
                format!("has `{name}`, which could change the method and is always refused"),
            );
        }
        if names
            .iter()
            .chain(fixed.iter().map(|(name, _)| name))
            .any(|other| other == name)
        {
            table.flaw("query", format!("has `{name}` twice"));
        }
        match value {
            Some(value) => fixed.push((name.to_owned(), value.to_owned())),
            None => names.push(name.to_owned()),
        }
    }
    (Some(names), fixed)
}

/// Reads `headers`: names with a fixed value, or with a `{parameter}`.
pub(super) fn headers(table: &mut Table<'_>) -> Vec<HeaderDemand> {
    let mut demands: Vec<HeaderDemand> = Vec::new();
    let Some(mut table) = table.table("headers") else {
        return demands;
    };
    for key in keys(&table) {
        let text = table.required_text(&key);
        let Some(name) = header_name(&mut table, &key) else {
            continue;
        };
        if demands.iter().any(|demand| demand.name == name) {
            table.flaw(&key, "stands there twice, in another spelling");
        }
        if let Some(value) = header_value(&mut table, &key, &text) {
            demands.push(HeaderDemand { name, value });
        }
    }
    table.end();
    demands
}

fn header_name(table: &mut Table<'_>, key: &str) -> Option<HeaderName> {
    let name = key.parse::<HeaderName>().ok();
    let name = name.filter(|name| {
        let name = name.as_str();
        // SECURITY: what never reaches the tool cannot tell what the tool will do.
        !is_claim(name) && !is_hop_by_hop(name) && !RULED.contains(&name)
    });
    if name.is_none() && key.eq_ignore_ascii_case("soapaction") {
        table.flaw(
            key,
            "is no way to tell tasks apart: tools obey the body; accepted: `body = { kind = \"soap\", operation = \"{namespace}name\" }`, \
             to which a `SOAPAction` that is sent must be equal",
        );
    } else if name.is_none() {
        table.flaw(
            key,
            "is not the name of a header that can be judged: it does not reach the tool as it was sent, or has rules of its own",
        );
    }
    name
}

fn header_value(table: &mut Table<'_>, key: &str, text: &str) -> Option<HeaderValueRule> {
    if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        let (name, kind) = match inner.split_once(':') {
            Some((name, kind)) => (name, Some(kind)),
            None => (inner, None),
        };
        let accepts = match kind {
            None => None,
            Some(kind) => Some(variable(table, key, kind)?),
        };
        return Some(HeaderValueRule::Bound {
            name: name.to_owned(),
            accepts,
        });
    }
    let plain = (1..=256).contains(&text.len())
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && text.trim() == text
        && !text.contains(['{', '}']);
    if !plain {
        table.flaw(
            key,
            "must be a fixed text of 1 to 256 printable ASCII characters, or one `{parameter}`",
        );
    }
    plain.then(|| HeaderValueRule::Fixed(text.to_owned()))
}

/// A type of a value that is not part of a path.
fn variable(table: &mut Table<'_>, key: &str, kind: &str) -> Option<Variable> {
    let variable = Variable::parse(kind)
        .filter(|variable| matches!(variable, Variable::Int | Variable::Uuid | Variable::Slug));
    if variable.is_none() {
        table.flaw(key, format!("has the type `{kind}`; accepted: int, uuid, slug"));
    }
    variable
}

/// Reads `body`: a language, or a table with what the body must say.
pub(super) fn body(task: &mut Table<'_>, templates: &[Template], max_body: Option<u64>) -> Option<BodyRule> {
    if !task.has("body") {
        return None;
    }
    let has_none = |method: &Method| *method == Method::GET || *method == Method::OPTIONS;
    if templates.iter().any(|template| has_none(template.method())) {
        task.flaw(
            "body",
            "cannot be judged where a template is a `GET` or `OPTIONS`, whose body means nothing",
        );
    }
    if max_body.is_some_and(|most| most > MOST_JUDGED) {
        task.flaw(
            "max_body",
            format!(
                "must be at most {MOST_JUDGED} bytes where the body is judged, since it is held in memory"
            ),
        );
    }
    let limit = max_body.unwrap_or(JUDGED).min(MOST_JUDGED);
    let empty = |language| BodyRule {
        language,
        operation: None,
        action: None,
        equals: Vec::new(),
        take: Vec::new(),
        fields: Some(Vec::new()),
        limit,
    };
    if task.is_text("body") {
        let language = task.parsed("body", "soap, json, form, or a table", Language::parse)?;
        if language == Language::Soap {
            task.flaw(
                "body",
                "needs the operation, e.g. { kind = \"soap\", operation = \"{urn:example:jobs}submitJob\" }",
            );
        }
        return Some(BodyRule {
            fields: None,
            ..empty(language)
        });
    }
    let mut table = task.table("body")?;
    if !table.has("kind") {
        table.flaw("kind", "is missing; accepted: soap, json, form");
    }
    let language = table.parsed("kind", "soap, json, form", Language::parse);
    let rule = language.map(|language| BodyRule {
        operation: operation(&mut table, language),
        action: action(&mut table, language),
        equals: equals(&mut table, language),
        take: take(&mut table, language),
        fields: fields(&mut table, language),
        ..empty(language)
    });
    if rule.is_some() {
        table.end();
    }
    rule
}

fn operation(table: &mut Table<'_>, language: Language) -> Option<(String, String)> {
    const ACCEPTED: &str = "`{namespace}name`, the qualified name of the one element of the Body";
    if language != Language::Soap {
        if table.has("operation") {
            table.flaw("operation", "is only for `kind = \"soap\"`");
        }
        return None;
    }
    if !table.has("operation") {
        table.flaw("operation", format!("is missing; accepted: {ACCEPTED}"));
    }
    table.parsed("operation", ACCEPTED, |text| {
        let (namespace, local) = text.strip_prefix('{')?.split_once('}')?;
        let plain = !namespace.is_empty() && namespace.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        (plain && is_ncname(local)).then(|| (namespace.to_owned(), local.to_owned()))
    })
}

fn action(table: &mut Table<'_>, language: Language) -> Option<String> {
    if language != Language::Soap && table.has("action") {
        table.flaw("action", "is only for `kind = \"soap\"`");
    }
    table.parsed(
        "action",
        "the `SOAPAction` as it is sent, without quotes",
        |text| {
            let plain = !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'"');
            plain.then(|| text.to_owned())
        },
    )
}

/// Whether `at` is a place in a body of this language.
fn is_place(at: &str, language: Language) -> bool {
    match language {
        Language::Json => !at.is_empty() && is_pointer(at),
        Language::Soap => is_path(at),
        Language::Form => {
            (1..=64).contains(&at.len()) && at.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
        }
    }
}

const fn place(language: Language) -> &'static str {
    match language {
        Language::Json => "a JSON pointer such as `/job/id`",
        Language::Soap => "a path of elements below the operation, such as `/job/id`",
        Language::Form => "the name of a field",
    }
}

fn equals(table: &mut Table<'_>, language: Language) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let Some(mut table) = table.table("equals") else {
        return all;
    };
    for at in keys(&table) {
        let text = table.required_text(&at);
        if !is_place(&at, language) {
            table.flaw(&at, format!("must be {}", place(language)));
        }
        if language == Language::Form && is_method_override(&at) {
            table.flaw(&at, "could change the method and is always refused");
        }
        if text.trim() != text || text.len() > 256 || text.chars().any(char::is_control) {
            table.flaw(
                &at,
                "must be a text of at most 256 bytes without spaces at the ends",
            );
        }
        all.push((at, text));
    }
    table.end();
    all
}

fn take(table: &mut Table<'_>, language: Language) -> Vec<Taken> {
    let mut all = Vec::new();
    let Some(mut table) = table.table("take") else {
        return all;
    };
    for name in keys(&table) {
        let (at, accepts) = if table.is_text(&name) {
            (table.required_text(&name), None)
        } else {
            let Some(mut below) = table.table(&name) else {
                continue;
            };
            let at = below.required_text("at");
            let kind = below.text("type");
            let accepts = kind.and_then(|kind| variable(&mut below, "type", &kind));
            below.end();
            (at, accepts)
        };
        if !is_place(&at, language) {
            table.flaw(&name, format!("has `{at}`; accepted: {}", place(language)));
        }
        all.push(Taken { name, at, accepts });
    }
    table.end();
    all
}

fn fields(table: &mut Table<'_>, language: Language) -> Option<Vec<String>> {
    if language == Language::Soap {
        if table.has("fields") {
            table.flaw("fields", "is only for `kind = \"form\"` and `kind = \"json\"`");
        }
        return None;
    }
    if language == Language::Json && !table.has("fields") {
        return None;
    }
    if table.is_text("fields") {
        if table.text("fields").as_deref() != Some("any") {
            let what = match language {
                Language::Json => "places",
                _ => "field names",
            };
            table.flaw("fields", format!("must be a list of {what}, or \"any\""));
        }
        return None;
    }
    let fields = super::names(table, "fields");
    for field in &fields {
        if language == Language::Json && !is_place(field, language) {
            table.flaw("fields", format!("has `{field}`; accepted: {}", place(language)));
        }
        if language == Language::Form && is_method_override(field) {
            table.flaw(
                "fields",
                format!("has `{field}`, which could change the method and is always refused"),
            );
        }
    }
    Some(fields)
}

/// The parameters that headers and body bind, with the key that says so.
pub(super) fn bound(demands: &Demands) -> impl Iterator<Item = (&'static str, &str)> {
    let headers = demands.headers.iter().filter_map(|demand| match &demand.value {
        HeaderValueRule::Bound { name, .. } => Some(("headers", name.as_str())),
        HeaderValueRule::Fixed(_) => None,
    });
    let body = demands.body.iter().flat_map(|rule| &rule.take);
    headers.chain(body.map(|taken| ("body", taken.name.as_str())))
}

/// Reads `resolve`: how a service asks the tool for the parent of the task's resource.
pub(super) fn resolve(
    task: &mut Table<'_>,
    name: &str,
    resource: Option<&ResourceRule>,
    names: &Names,
) -> Option<Resolve> {
    if !task.has("resolve") {
        return None;
    }
    if resource.is_none() {
        task.flaw(
            "resolve",
            "needs a `resource`: it asks for the parent of that resource",
        );
    }
    let mut table = task.table("resolve")?;
    let text = table.required_text("get");
    let get = pieces(&mut table, &text, names);
    if !table.has("id") {
        table.flaw(
            "id",
            "is missing; accepted: a JSON pointer (RFC 6901) to the parent's id in the answer",
        );
    }
    let resolve = Resolve {
        task: Arc::new(look_up(name, &text, resource)),
        get,
        kind: type_name(&mut table),
        id: table
            .parsed(
                "id",
                "a JSON pointer (RFC 6901) to the parent's id in the answer",
                |text| is_pointer(text).then(|| text.to_owned()),
            )
            .unwrap_or_default(),
    };
    table.end();
    Some(resolve)
}

fn pieces(table: &mut Table<'_>, text: &str, names: &Names) -> Vec<Piece> {
    let Some(inner) = text.strip_prefix('/').filter(|inner| !inner.is_empty()) else {
        table.flaw("get", "must be a path such as `/instances/{instance}`");
        return Vec::new();
    };
    let mut pieces = Vec::new();
    for part in inner.split('/') {
        if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            known(table, "get", name, names);
            pieces.push(Piece::Parameter(name.to_owned()));
            continue;
        }
        if part.is_empty() || part.contains(['?', ';']) || Target::parse(&format!("/{part}")).is_err() {
            table.flaw(
                "get",
                format!("has the segment `{part}`; accepted: a plain segment, or one `{{parameter}}`"),
            );
        }
        pieces.push(Piece::Text(part.to_owned()));
    }
    pieces
}

/// The look-up as a task: what is decided, recorded and told to the tool.
fn look_up(name: &str, get: &str, resource: Option<&ResourceRule>) -> Task {
    let (name, get) = (format!("{LOOK_UP}{name}"), format!("GET {get}"));
    Task {
        resource: resource.cloned(),
        max_body: Some(0),
        timeout: Some(crate::tool::LOOK_UP_TIME),
        ..Task::plain(name, &[&get], Kind::Read, Audience::Granted(&[]))
    }
}
