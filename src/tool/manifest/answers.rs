//! What a task's answer tells: `creates` and `filter`.

use std::collections::BTreeMap;

use http::HeaderName;

use super::size;
use super::task::{Names, known, type_name};
use crate::settings::Table;
use crate::tool::{Creates, FilterRule, IdSource, Whose};

const SOURCE: &str = "`header:NAME`, `header:NAME#last-segment`, `header:NAME#after-last-slash`, a JSON pointer such as `/id` (or `body:/id`), or `{parameter}`";
const POINTER: &str = "a JSON pointer (RFC 6901): empty, or beginning with `/`";
/// Largest answer that is held in memory, unless the manifest says otherwise.
const DEFAULT_LIMIT: u64 = 8 << 20;
const MAX_LIMIT: u64 = 256 << 20;
/// Attribute names that mean something to a decision already.
const RESERVED: [&str; 8] = [
    "id",
    "kind",
    "type",
    "owner",
    "parent",
    "vo",
    "tool",
    "generation",
];

pub(super) fn creates(task: &mut Table<'_>, names: &Names) -> Vec<Creates> {
    task.tables("creates")
        .into_iter()
        .map(|mut table| {
            let made = created(&mut table, names);
            table.end();
            made
        })
        .collect()
}

fn created(table: &mut Table<'_>, names: &Names) -> Creates {
    let made = Creates {
        kind: type_name(table),
        id: required_source(table, "id", names),
        items: pointer(table, "items"),
        status: status(table),
        owner: table
            .parsed("owner", "subject, nobody", |text| match text {
                "subject" => Some(Whose::Subject),
                "nobody" => Some(Whose::Nobody),
                _ => None,
            })
            .unwrap_or(Whose::Subject),
        when: when(table),
        parent: parent(table, names),
        attributes: attributes(table, names),
    };
    if made.items.is_some() && !matches!(made.id, IdSource::Body(_)) {
        table.flaw(
            "id",
            "must be a JSON pointer into each item, since `items` is there",
        );
    }
    // SECURITY: what is nobody's is shared (a patient of many images); one person's upload must not describe it.
    if made.owner == Whose::Nobody && !made.attributes.is_empty() {
        table.flaw(
            "attributes",
            "cannot be given to a thing that is nobody's: anyone's answer could set them",
        );
    }
    made
}

fn status(table: &mut Table<'_>) -> Vec<u16> {
    let status = table.integers("status", 200..=399);
    if status.is_empty() {
        table.flaw(
            "status",
            "must list the statuses on which something was made, from 200 to 399, e.g. [201]",
        );
    }
    status
        .into_iter()
        .filter_map(|code| u16::try_from(code).ok())
        .collect()
}

fn when(table: &mut Table<'_>) -> Option<(String, String)> {
    table.parsed(
        "when",
        "a JSON pointer, ` = ` and the text it must equal, e.g. \"/Status = Success\"",
        |text| {
            let (pointer, value) = text.split_once('=')?;
            let (pointer, value) = (pointer.trim(), value.trim());
            (is_pointer(pointer) && !value.is_empty()).then(|| (pointer.to_owned(), value.to_owned()))
        },
    )
}

fn parent(table: &mut Table<'_>, names: &Names) -> Option<(String, IdSource)> {
    let mut table = table.table("parent")?;
    let parent = (type_name(&mut table), required_source(&mut table, "id", names));
    table.end();
    Some(parent)
}

fn attributes(table: &mut Table<'_>, names: &Names) -> BTreeMap<String, IdSource> {
    let mut attributes = BTreeMap::new();
    let Some(mut table) = table.table("attributes") else {
        return attributes;
    };
    for name in super::keys(&table) {
        let accepted = name.len() <= 40
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !RESERVED.contains(&name.as_str());
        if !accepted {
            table.flaw(
                &name,
                format!(
                    "cannot name an attribute; accepted: 1 to 40 ASCII letters, digits and `_`, beginning with a letter, none of {}",
                    RESERVED.join(", ")
                ),
            );
        }
        let source = required_source(&mut table, &name, names);
        attributes.insert(name, source);
    }
    attributes
}

fn required_source(table: &mut Table<'_>, key: &str, names: &Names) -> IdSource {
    let text = table.required_text(key);
    let source = source(&text);
    match &source {
        Some(IdSource::Parameter(name)) => known(table, key, name, names),
        Some(_) => {}
        None => table.flaw(key, format!("has the value `{text}`; accepted: {SOURCE}")),
    }
    source.unwrap_or_else(|| IdSource::Body(String::new()))
}

fn source(text: &str) -> Option<IdSource> {
    if let Some(header) = text.strip_prefix("header:") {
        if let Some(name) = header.strip_suffix("#after-last-slash") {
            let name = name.parse::<HeaderName>().ok()?.as_str().to_owned();
            return Some(IdSource::HeaderEnd(name));
        }
        let (name, last_segment) = match header.strip_suffix("#last-segment") {
            Some(name) => (name, true),
            None => (header, false),
        };
        let name = name.parse::<HeaderName>().ok()?.as_str().to_owned();
        return Some(IdSource::Header { name, last_segment });
    }
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return Some(IdSource::Parameter(name.to_owned()));
    }
    let pointer = text.strip_prefix("body:").unwrap_or(text);
    is_pointer(pointer).then(|| IdSource::Body(pointer.to_owned()))
}

fn pointer(table: &mut Table<'_>, key: &str) -> Option<String> {
    table.parsed(key, POINTER, |text| is_pointer(text).then(|| text.to_owned()))
}

/// RFC 6901 section 3: empty, or `/` and reference tokens in which `~` is followed by 0 or 1.
pub(super) fn is_pointer(text: &str) -> bool {
    (text.is_empty() || text.starts_with('/'))
        && text.len() <= 512
        && text.split('~').skip(1).all(|after| after.starts_with(['0', '1']))
}

pub(super) fn filter(task: &mut Table<'_>) -> Option<FilterRule> {
    let mut table = task.table("filter")?;
    for key in ["items", "id"] {
        if !table.has(key) {
            table.flaw(key, format!("is missing; accepted: {POINTER}"));
        }
    }
    let rule = FilterRule {
        kind: type_name(&mut table),
        items: pointer(&mut table, "items").unwrap_or_default(),
        id: pointer(&mut table, "id").unwrap_or_default(),
        totals: totals(&mut table),
        limit: size(&mut table, "limit", MAX_LIMIT).unwrap_or(DEFAULT_LIMIT),
    };
    let list = format!("{}/", rule.items);
    for (index, total) in rule.totals.iter().enumerate() {
        let inside = format!("{total}/").starts_with(&list) || list.starts_with(&format!("{total}/"));
        if inside || rule.totals.iter().take(index).any(|other| other == total) {
            table.flaw(
                "totals",
                format!("has `{total}`, which is the list itself, a part of it, or there twice"),
            );
        }
    }
    table.end();
    Some(rule)
}

fn totals(table: &mut Table<'_>) -> Vec<String> {
    let totals = super::names(table, "totals");
    for total in &totals {
        if !is_pointer(total) {
            table.flaw("totals", format!("has `{total}`; accepted: {POINTER}"));
        }
    }
    totals
}
