//! Reads a manifest: the text in which a VO administrator wraps a tool once.
//!
//! Every flaw is reported at once, with line, key path and accepted form. Keys of the grammar whose behaviour this
//! version does not have are refused by name, never ignored: a manifest that is accepted does what it says.
//!
//! ```
//! use countersign::tool::Manifest;
//! let manifest = Manifest::parse("jobs.toml", r#"
//! [tool]
//! name = "jobs"
//! upstream = "ce"
//!
//! [[task]]
//! name = "monitor job"
//! match = ["GET /jobs/{job:int}"]
//! kind = "read"
//! resource = { type = "job", id = "{job}" }
//! "#).unwrap();
//! let found = manifest.tool.try_request("GET /jobs/7").unwrap().unwrap();
//! assert_eq!(found.task.name, "monitor job");
//! assert_eq!(found.resource.unwrap().id, "7");
//! assert!(manifest.tool.try_request("GET /jobs/007").unwrap().is_none());
//! ```

mod answers;
mod demands;
mod renew;
mod task;
mod tool;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::task::Written;
use super::demand::{self, overlap};
use super::{Routes, Template, Tool};
use crate::settings::{Document, Flaw, Flaws, Table};

/// Longest manifest in bytes.
const MAX_MANIFEST: usize = 1024 * 1024;
/// Most tasks of a manifest.
const MAX_TASKS: usize = 1_000;
/// Most templates of all its tasks; each is compared with each.
const MAX_TEMPLATES: usize = 2_000;
/// Most overlaps that are reported.
const MAX_OVERLAPS: usize = 100;
/// Most entries of any list of names.
const MAX_NAMES: usize = 64;

/// A manifest that was read, with what its writer should think about.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The tool that it describes; without id and version until it is registered.
    pub tool: Tool,
    /// What is allowed but probably not meant, one sentence each.
    pub warnings: Vec<String>,
}

impl Manifest {
    /// Reads `text`; `file` is the name that flaws show.
    ///
    /// # Errors
    /// All [`Flaws`] at once, in the order of lines.
    pub fn parse(file: &str, text: &str) -> Result<Self, Flaws> {
        if text.len() > MAX_MANIFEST {
            return Err(Flaws(vec![Flaw {
                file: file.to_owned(),
                line: 1,
                message: format!("the manifest has more than {MAX_MANIFEST} bytes"),
            }]));
        }
        let document = Document::parse(file, text)?;
        let mut root = document.root();
        let mut tool = tool::read(&mut root, text);
        let written = tasks(&mut root);
        overlaps(&document, &written, tool.case_insensitive);
        nesting(&document, &written);
        named_hosts(&document, &written, &tool);
        if let Some(renew) = &mut tool.renew {
            renew::fill(&document, &written, renew);
        }
        for one in written
            .iter()
            .filter(|one| tool.strict && !one.task.recorded.outcome)
        {
            let message = format!(
                "the task `{}` has `audit = \"intent\"`, which cannot stand in a tool that is `strict`: that needs every outcome",
                one.task.name
            );
            document.flaw(one.at, message);
        }
        let by_person = tool.delegation.is_proxy();
        for one in written
            .iter()
            .filter(|one| by_person && one.task.resolve.is_some())
        {
            let message = format!(
                "the task `{}` has `resolve`, which needs a delegation that does not speak for a person: none, static or assertion",
                one.task.name
            );
            document.flaw(one.at, message);
        }
        tool.tasks = written.iter().map(|one| Arc::new(one.task.clone())).collect();
        tool.unique = types(&mut root, &tool.kinds());
        root.end();
        document.finish(())?;
        tool.routes = Routes::build(&tool.tasks, tool.case_insensitive).map_err(|error| {
            Flaws(vec![Flaw {
                file: file.to_owned(),
                line: 1,
                message: error.to_string(),
            }])
        })?;
        let warnings = warnings(&tool);
        Ok(Self { tool, warnings })
    }
}

fn tasks(root: &mut Table<'_>) -> Vec<Written> {
    let tables = root.tables("task");
    if tables.is_empty() {
        root.flaw(
            "task",
            "is missing: a tool needs at least one `[[task]]`; what no task names is refused",
        );
    }
    if tables.len() > MAX_TASKS {
        root.flaw(
            "task",
            format!(
                "stands there {} times; at most {MAX_TASKS} are accepted",
                tables.len()
            ),
        );
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    let mut written = Vec::new();
    for mut table in tables {
        let one = task::read(&mut table);
        if !one.task.name.is_empty() && !names.insert(one.task.name.clone()) {
            table.flaw(
                "name",
                format!("is `{}` for two tasks; names are unique in a tool", one.task.name),
            );
        }
        table.end();
        written.push(one);
    }
    written
}

/// Reports every pair of tasks that one request could match: neither may win by standing first.
fn overlaps(document: &Document<'_>, written: &[Written], case_insensitive: bool) {
    let all: Vec<_> = written
        .iter()
        .flat_map(|one| one.templates.iter().map(move |template| (one, template)))
        .collect();
    let folded: Vec<Template> = all.iter().map(|(_, template)| template.folded()).collect();
    let all: Vec<_> = all
        .into_iter()
        .zip(&folded)
        .map(|((one, template), folded)| (one, if case_insensitive { folded } else { template }))
        .collect();
    if let Some((one, _)) = all.get(MAX_TEMPLATES) {
        document.flaw(
            one.at,
            format!("`task` has more than {MAX_TEMPLATES} templates in all"),
        );
        return;
    }
    let by_name = |name: &str| written.iter().map(|one| &one.task).find(|task| task.name == name);
    let mut found = 0;
    for (at, (first, template)) in all.iter().enumerate() {
        for (second, other) in all.iter().skip(at + 1) {
            let Some(example) = overlap((&first.task, template), (&second.task, other), by_name) else {
                continue;
            };
            let message = if first.at == second.at {
                format!(
                    "the task `{}` matches `{example}` by two of its templates; one of them is unreachable",
                    first.task.name
                )
            } else {
                format!(
                    "the tasks `{}` (line {}) and `{}` (line {}) overlap: both match `{example}`; make one template narrower, \
                     e.g. by a type (int, uuid, slug), tell them apart by `query`, `headers` or `body`, or say `within`",
                    first.task.name,
                    document.line(first.at),
                    second.task.name,
                    document.line(second.at),
                )
            };
            document.flaw(second.at, message);
            found += 1;
            if found == MAX_OVERLAPS {
                return;
            }
        }
    }
}

/// Checks `host`: it is one of the tool's, and the tool sees it.
fn named_hosts(document: &Document<'_>, written: &[Written], tool: &Tool) {
    for one in written {
        let (task, Some(host)) = (&one.task.name, &one.task.demands.host) else {
            continue;
        };
        if !tool.hosts.contains(host) {
            document.flaw(
                one.at,
                format!("the task `{task}` has the `host` `{host}`, which is not one of `tool.hosts`"),
            );
        }
        // SECURITY: what the tool cannot see does not tell what it will do.
        if tool.upstream_host_header == Some(true) {
            let message = format!(
                "the task `{task}` has a `host`, which the tool does not see with `host_header = \"upstream\"`"
            );
            document.flaw(one.at, message);
        }
    }
}

/// Checks `within`: the wider task is there, and takes whatever the narrower one takes.
fn nesting(document: &Document<'_>, written: &[Written]) {
    for one in written {
        let Some(name) = &one.task.within else {
            continue;
        };
        let task = &one.task.name;
        let Some(wider) = written
            .iter()
            .find(|other| other.task.name == *name && name != task)
        else {
            document.flaw(
                one.at,
                format!(
                    "the task `{task}` is `within` the task `{name}`, which is not another task of this tool"
                ),
            );
            continue;
        };
        let by_name = |name: &str| written.iter().map(|one| &one.task).find(|task| task.name == name);
        if demand::wider(&wider.task, by_name)
            .iter()
            .any(|outer| outer.name == *task)
        {
            document.flaw(
                one.at,
                format!("the tasks `{task}` and `{name}` are each `within` the other"),
            );
            continue;
        }
        let covered = |template: &Template| wider.templates.iter().any(|outer| outer.covers(template));
        if let Some(template) = one.templates.iter().find(|template| !covered(template)) {
            let text = one.task.matches.get(
                one.templates
                    .iter()
                    .position(|other| other == template)
                    .unwrap_or(0),
            );
            document.flaw(
                one.at,
                format!(
                    "the task `{task}` is `within` the task `{name}`, which does not match all that `{}` matches",
                    text.map_or("", String::as_str)
                ),
            );
        }
        if !one.task.demands.narrows(&wider.task.demands) {
            document.flaw(
                one.at,
                format!("the task `{task}` is `within` the task `{name}`, but does not ask for all that it asks for in `query`, `headers` and `body`"),
            );
        }
    }
}

/// Reads `[type.NAME]`; gives the types whose ids are never shared.
fn types(root: &mut Table<'_>, known: &BTreeSet<&str>) -> Vec<String> {
    let mut unique = Vec::new();
    let Some(mut types) = root.table("type") else {
        return unique;
    };
    for name in keys(&types) {
        if !known.contains(name.as_str()) {
            types.flaw(&name, "is a type that no task names");
        }
        if let Some(mut table) = types.table(&name) {
            if table.boolean("unique", false) {
                unique.push(name);
            }
            table.end();
        }
    }
    types.end();
    unique
}

fn warnings(tool: &Tool) -> Vec<String> {
    let owned: BTreeSet<&str> = tool
        .tasks
        .iter()
        .flat_map(|task| &task.creates)
        .filter(|made| made.owner == super::Whose::Subject)
        .map(|made| made.kind.as_str())
        .collect();
    if owned.is_empty() {
        return Vec::new();
    }
    let owned = owned.into_iter().collect::<Vec<_>>().join("`, `");
    tool.tasks
        .iter()
        .filter(|task| {
            matches!(task.kind, super::Kind::Read | super::Kind::Download)
                && task.resource.is_none()
                && task.filter.is_none()
        })
        .map(|task| {
            format!(
                "the task `{}` reads without a resource and without a filter, although things of type `{owned}` belong to people: \
                 whoever may do it sees everyone's",
                task.name
            )
        })
        .collect()
}

/// Refuses the keys of the grammar that this version does not have.
fn not_yet(table: &mut Table<'_>, keys: &[(&str, &str)]) {
    for (key, what) in keys {
        if table.has(key) {
            table.flaw(key, format!("is not yet supported: {what}"));
        }
    }
}

/// The keys of a table whose keys are names.
fn keys(table: &Table<'_>) -> Vec<String> {
    let keys = table.keys();
    if keys.len() > MAX_NAMES {
        let message = format!(
            "a table has {} names; at most {MAX_NAMES} are accepted",
            keys.len()
        );
        table.document().flaw(table.at(), message);
        return Vec::new();
    }
    keys
}

/// Reads a short list of texts; one text may stand for a list of one.
fn names(table: &mut Table<'_>, key: &str) -> Vec<String> {
    let names = if table.is_text(key) {
        table.text(key).into_iter().collect()
    } else {
        table.texts(key)
    };
    if names.len() > MAX_NAMES {
        table.flaw(
            key,
            format!("has {} entries; at most {MAX_NAMES} are accepted", names.len()),
        );
        return Vec::new();
    }
    names
}

/// Reads a size in bytes: an integer, or a text such as `"64KiB"`, `"8MiB"`, `"2GiB"`.
fn size(table: &mut Table<'_>, key: &str, most: u64) -> Option<u64> {
    if !table.is_text(key) {
        if !table.has(key) {
            return None;
        }
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        return u64::try_from(table.integer(key, 1..=most, Some(1))).ok();
    }
    table.parsed(
        key,
        &format!("bytes from 1 to {most}, as an integer or a text with KiB, MiB or GiB, e.g. \"8MiB\""),
        |text| {
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = text.split_at(digits);
            let unit: u64 = match unit.trim_start() {
                "" | "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                _ => return None,
            };
            let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
            (1..=most).contains(&bytes).then_some(bytes)
        },
    )
}

/// Whether `name` may name a type of resource: `[a-z0-9_-]`, 1 to 40, beginning with a letter.
pub(super) fn is_type(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests;
