//! One `[[task]]` table.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{answers, demands, is_type, size};
use crate::settings::Table;
use crate::tool::matching::{MAX_ID, is_id};
use crate::tool::template::is_parameter;
use crate::tool::{Audience, Demands, Kind, Recorded, ResourceRule, Task, Template, Upgrade};

const KINDS: &str = "read, download, create, update, delete, execute, transfer, asset";
const TYPE: &str = "1 to 40 of a-z, 0-9, `-` and `_`, beginning with a letter";
const MAX_BODY: u64 = 1 << 40;

/// A task with what later checks need of its text.
pub(super) struct Written {
    pub(super) task: Task,
    pub(super) templates: Vec<Template>,
    pub(super) at: usize,
}

/// The parameters that a task can name.
pub(super) struct Names {
    /// Bound by every template or by the query.
    pub(super) always: BTreeSet<String>,
    any: BTreeSet<String>,
}

pub(super) fn read(table: &mut Table<'_>) -> Written {
    let name = name(table);
    let (matches, templates) = matches(table);
    let (query, fixed) = demands::query(table);
    let headers = demands::headers(table);
    let max_body = size(table, "max_body", MAX_BODY);
    let body = demands::body(table, &templates, max_body);
    let demands = Demands {
        host: table.text("host"),
        query: fixed,
        headers,
        body,
    };
    let names = names(table, &templates, query.as_deref().unwrap_or_default(), &demands);
    let kind = kind(table);
    let resource = resource(table, &names);
    let resolve = demands::resolve(table, &name, resource.as_ref(), &names);
    let deletes = table.boolean("deletes", false);
    if deletes && resource.is_none() {
        table.flaw(
            "deletes",
            "needs a `resource`: it retires the id of that resource",
        );
    }
    let task = Task {
        name,
        matches,
        kind,
        audience: Audience::Granted(&[]),
        resource,
        creates: answers::creates(table, &names),
        filter: answers::filter(table),
        deletes,
        query,
        demands,
        within: table.text("within"),
        resolve,
        sensitive: sensitive(table, &names),
        min_assurance: super::tool::assurance(table),
        strict: table.boolean("strict", false),
        recorded: recorded(table),
        reasoned: false,
        max_body,
        timeout: timeout(table),
        upgrade: upgrade(table),
        home_only: false,
        local: None,
        tokens: crate::tool::TokenRule::May,
    };
    if task.filter.is_some() && !matches!(task.kind, Kind::Read | Kind::Download) {
        table.flaw(
            "filter",
            "is only for a task of `kind = \"read\"` or `\"download\"`",
        );
    }
    if task.filter.is_some() && !task.creates.is_empty() {
        table.flaw("filter", "cannot stand beside `creates`");
    }
    check_upgrade(table, &task, &templates);
    check_recorded(table, &task);
    Written {
        task,
        templates,
        at: table.at(),
    }
}

fn name(table: &mut Table<'_>) -> String {
    let name = table.required_text("name");
    let accepted = (1..=64).contains(&name.len())
        && !name.starts_with(demands::LOOK_UP)
        && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && name.trim() == name;
    if table.is_text("name") && !accepted {
        table.flaw(
            "name",
            format!(
                "has the value `{name}`; accepted: 1 to 64 printable ASCII characters, no space at the ends, not beginning with `{}`",
                demands::LOOK_UP
            ),
        );
    }
    name
}

fn matches(table: &mut Table<'_>) -> (Vec<String>, Vec<Template>) {
    let texts = super::names(table, "match");
    if texts.is_empty() {
        table.flaw("match", "must have a template, e.g. [\"GET /jobs/{job:int}\"]");
    }
    let mut templates = Vec::new();
    for text in &texts {
        match Template::parse(text) {
            Ok(template) => templates.push(template),
            Err(error) => table.flaw("match", error),
        }
    }
    (texts, templates)
}

fn names(table: &mut Table<'_>, templates: &[Template], query: &[String], demands: &Demands) -> Names {
    let of = |template: &Template| -> BTreeSet<String> {
        template.variables().map(|(name, _)| name.to_owned()).collect()
    };
    let paths: Vec<BTreeSet<String>> = templates.iter().map(of).collect();
    let mut any: BTreeSet<String> = paths.iter().flatten().cloned().collect();
    let mut always = any.clone();
    always.retain(|name| paths.iter().all(|path| path.contains(name)));
    for name in query {
        if any.contains(name) {
            table.flaw(
                "query",
                format!("has `{name}`, which is a variable of the path too"),
            );
        }
        always.insert(name.clone());
        any.insert(name.clone());
    }
    for (key, name) in demands::bound(demands) {
        if !is_parameter(name) {
            table.flaw(
                key,
                format!("binds `{name}`, which must be 1 to 40 ASCII letters, digits and `_`, beginning with a letter"),
            );
        }
        if !any.insert(name.to_owned()) {
            table.flaw(
                key,
                format!("binds `{name}`, which path, query, headers or body bind already"),
            );
        }
        always.insert(name.to_owned());
    }
    Names { always, any }
}

fn kind(table: &mut Table<'_>) -> Kind {
    if !table.has("kind") {
        table.flaw("kind", format!("is missing; accepted: {KINDS}"));
    }
    table.parsed("kind", KINDS, Kind::parse).unwrap_or(Kind::Execute)
}

/// Reads `type`, and notes a flaw when it is not a name of a type.
pub(super) fn type_name(table: &mut Table<'_>) -> String {
    let name = table.required_text("type");
    if table.is_text("type") && !is_type(&name) {
        table.flaw("type", format!("has the value `{name}`; accepted: {TYPE}"));
    }
    name
}

fn resource(table: &mut Table<'_>, names: &Names) -> Option<ResourceRule> {
    let mut table = table.table("resource")?;
    let rule = ResourceRule {
        kind: type_name(&mut table),
        id: table.required_text("id"),
    };
    match rule.parameter() {
        Some(name) => known(&mut table, "id", name, names),
        None if rule.id.contains(['{', '}']) => {
            table.flaw(
                "id",
                "is not yet supported: an id of several parts; accepted: one `{parameter}`, or a fixed text",
            );
        }
        None if table.is_text("id") && !is_id(&rule.id) => {
            table.flaw(
                "id",
                format!("must have 1 to {MAX_ID} bytes without control characters"),
            );
        }
        None => {}
    }
    table.end();
    Some(rule)
}

/// Notes a flaw unless every request of the task can have the parameter `name`.
pub(super) fn known(table: &mut Table<'_>, key: &str, name: &str, names: &Names) {
    if !names.always.contains(name) {
        let accepted = names.always.iter().cloned().collect::<Vec<_>>().join(", ");
        table.flaw(
            key,
            format!(
                "names `{{{name}}}`, which not every template of `match` has and `query` does not name; accepted here: {}",
                if accepted.is_empty() { "none" } else { &accepted }
            ),
        );
    }
}

fn sensitive(table: &mut Table<'_>, names: &Names) -> Vec<String> {
    let sensitive = super::names(table, "sensitive");
    for name in &sensitive {
        if !names.any.contains(name) {
            table.flaw(
                "sensitive",
                format!("has `{name}`, which is not a parameter of this task"),
            );
        }
    }
    sensitive
}

fn upgrade(table: &mut Table<'_>) -> Vec<Upgrade> {
    let mut upgrades = Vec::new();
    for name in super::names(table, "upgrade") {
        match Upgrade::parse(&name) {
            Some(upgrade) if !upgrades.contains(&upgrade) => upgrades.push(upgrade),
            Some(_) => table.flaw("upgrade", format!("has `{name}` twice")),
            None => table.flaw("upgrade", format!("has `{name}`; accepted: \"websocket\"")),
        }
    }
    upgrades
}

/// What flows after a switch is not looked at, so nothing that is learned from answers can stand beside it.
fn check_upgrade(table: &mut Table<'_>, task: &Task, templates: &[Template]) {
    if task.upgrade.is_empty() {
        return;
    }
    if templates
        .iter()
        .any(|template| *template.method() != http::Method::GET)
    {
        table.flaw("upgrade", "is only for templates of the method GET");
    }
    if task.filter.is_some() || task.deletes || !task.creates.is_empty() {
        table.flaw(
            "upgrade",
            "cannot stand beside `filter`, `creates` or `deletes`: what flows after the switch is not looked at",
        );
    }
}

const LEVEL: &str = "`full`, or `intent` for a task of `kind = \"asset\"`; nothing goes below the intent";

/// `audit = "intent"`, or `audit = { level = "full", body = "digest" }`.
fn recorded(table: &mut Table<'_>) -> Recorded {
    let outcome = |text: &str| match text {
        "full" => Some(true),
        "intent" => Some(false),
        _ => None,
    };
    let default = Recorded::default();
    if !table.has("audit") || table.is_text("audit") {
        return Recorded {
            outcome: table.parsed("audit", LEVEL, outcome).unwrap_or(default.outcome),
            ..default
        };
    }
    let Some(mut audit) = table.table("audit") else {
        return default;
    };
    let digest = |text: &str| match text {
        "digest" => Some(true),
        "none" => Some(false),
        _ => None,
    };
    let recorded = Recorded {
        outcome: audit.parsed("level", LEVEL, outcome).unwrap_or(default.outcome),
        digest: audit
            .parsed("body", "`digest`, or `none`", digest)
            .unwrap_or(default.digest),
    };
    audit.end();
    recorded
}

/// What would leave a change, or a digest, without the record that it stands in.
fn check_recorded(table: &mut Table<'_>, task: &Task) {
    let Recorded { outcome, digest } = task.recorded;
    if !outcome && task.kind != Kind::Asset {
        table.flaw(
            "audit",
            "the level `intent` is only for a task of `kind = \"asset\"`",
        );
    }
    if !outcome && (task.strict || task.deletes || !task.creates.is_empty()) {
        table.flaw(
            "audit",
            "the level `intent` cannot stand beside `strict`, `creates` or `deletes`, which need the outcome",
        );
    }
    let reads = |line: &String| line.starts_with("GET ") || line.starts_with("HEAD ");
    let only_reads = task.upgrade.is_empty() && task.matches.iter().all(reads);
    if !outcome && !only_reads {
        table.flaw(
            "audit",
            "the level `intent` is only for tasks that match `GET` and `HEAD` alone, without `upgrade`: what anything else did \
             stands in the outcome",
        );
    }
    if !outcome && digest {
        table.flaw(
            "audit",
            "has `body = \"digest\"`, which stands in the outcome: the level must be `full`",
        );
    }
    if digest && !task.upgrade.is_empty() {
        table.flaw(
            "audit",
            "has `body = \"digest\"` beside `upgrade`: what flows after the switch has no digest",
        );
    }
}

fn timeout(table: &mut Table<'_>) -> Option<Duration> {
    const RANGE: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(86_400);
    table
        .has("timeout")
        .then(|| table.duration("timeout", RANGE, Duration::from_secs(60)))
}
