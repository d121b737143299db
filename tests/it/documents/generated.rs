//! The reference pages that are made from the sources. `COUNTERSIGN_BLESS=1 cargo test --test it documents::generated`
//! writes them anew; without it, a page that differs fails.

use std::fmt::Write as _;
use std::fs;

use countersign::problem::Kind;

use super::root;

/// Compares a page with what it should be, or writes it.
pub(super) fn keep(name: &str, text: &str) {
    let path = root().join("docs/reference").join(name);
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if kept == text {
        return;
    }
    let differs = kept.lines().zip(text.lines()).find(|(kept, made)| kept != made);
    panic!(
        "docs/reference/{name} is not what the sources say; write it anew with\n  \
         COUNTERSIGN_BLESS=1 cargo test --test it documents::generated\nfirst difference (kept, made): {differs:?}"
    );
}

#[test]
fn the_page_of_problems_is_what_the_program_answers() {
    let mut page = String::from(
        "# Problem types\n\nGenerated from `src/problem.rs`. Every refusal and failure is answered with a problem document (RFC 9457,\n\
         `application/problem+json`):\n\n\
         | Member | Is |\n| --- | --- |\n\
         | `type` | `https://HOST/.countersign/problems/NAME`, with a name of the list below; it does not change |\n\
         | `title`, `status` | the same for every occurrence |\n\
         | `detail` | what exactly, for this request |\n\
         | `explanation`, `next` | what happened, and what to do next |\n\
         | `request_id` | the request, as in the `X-Countersign-Request-Id` header and in the audit log |\n\
         | others | by type, e.g. `task`, `would_allow`, `errors` |\n\n\
         | Status | Name | Title |\n| --- | --- | --- |\n",
    );
    for kind in Kind::ALL {
        let _ = writeln!(
            page,
            "| {} | [`{}`](#{1}) | {} |",
            kind.status(),
            kind.name(),
            kind.title()
        );
    }
    for kind in Kind::ALL {
        let _ = write!(
            page,
            "\n## {}\n\n{}: {}.\n\n{}\n\nNext: {}\n",
            kind.name(),
            kind.status(),
            kind.title(),
            kind.what(),
            kind.next()
        );
    }
    keep("problems.md", &page);
}

#[test]
fn the_page_of_metrics_is_the_table_of_families() {
    let mut page = String::from(
        "# Metrics\n\nGenerated from `src/telemetry/family.rs`. `/metrics` of the operations listener shows these families: in OpenMetrics 1.0 to\n\
         whoever accepts `application/openmetrics-text`, else in Prometheus' older text format. No label holds a person, a resource or\n\
         anything that a client chooses: `vo`, `tool`, `task` and `upstream` are names that administrators gave, and `none` where a request\n\
         names nothing that exists; every other label has a fixed list of values. A family without a sample yet is left out. How to\n\
         use them: [monitor it](../guides/monitor-it.md).\n\n| Name | Kind | Labels | Is |\n| --- | --- | --- | --- |\n",
    );
    for family in countersign::telemetry::family::FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {}. |",
            family.full_name(),
            family.kind.as_str(),
            labels.join(" "),
            family.help
        );
    }
    keep("metrics.md", &page);
}

#[test]
fn the_page_of_settings_is_what_init_writes() {
    let template = fs::read_to_string(root().join("src/config/countersign.toml")).unwrap();
    let mut page = String::from(
        "# Settings\n\nGenerated from the file that `countersign init` writes, `countersign.toml` in the data folder. Times are seconds,\n\
         or a number with `ms`, `s`, `m`, `h` or `d`; relative paths are below the data folder. Unknown keys are errors.\n\
         `countersign serve --data DIR --check-config` names every error at once; `countersign reload` takes a change up:\n\
         all of `[forward]`, and of `[gateway]` all but `listen` and `name`; it names those\n\
         that take effect at the next start.\n",
    );
    // The head of the file is said above; sections begin with their name.
    let body = &template[template.find("\n[").unwrap()..];
    let mut words: Vec<&str> = Vec::new();
    let mut keys: Vec<String> = Vec::new();
    let flush = |words: &mut Vec<&str>, keys: &mut Vec<String>, page: &mut String| {
        if !words.is_empty() {
            let _ = write!(page, "\n{}\n", words.join(" "));
        }
        if !keys.is_empty() {
            let _ = write!(page, "\n{}\n", keys.join("\n"));
        }
        words.clear();
        keys.clear();
    };
    for line in body.lines() {
        let plain = line.trim_start_matches("# ");
        let key = plain.split_once(" = ").filter(|(key, _)| {
            key.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        });
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            flush(&mut words, &mut keys, &mut page);
            let _ = write!(page, "\n## {section}\n");
        } else if let Some((key, value)) = key {
            keys.push(setting(key, value, line.starts_with('#')));
        } else if let Some(comment) = line.strip_prefix("# ") {
            if !keys.is_empty() {
                flush(&mut words, &mut keys, &mut page);
            }
            words.push(comment);
        }
    }
    flush(&mut words, &mut keys, &mut page);
    keep("settings.md", &page);
}

fn setting(key: &str, value: &str, commented: bool) -> String {
    match (value.strip_prefix('@'), commented) {
        (Some("segment"), _) => format!("* `{key}`: 67108864"),
        (Some(_), false) => format!("* `{key}`: chosen at `init`"),
        (Some(_), true) => format!("* `{key}`: none"),
        // An example of a path or table that has no default.
        (None, true) if value.starts_with("\"/") || value.starts_with('{') => {
            format!("* `{key}`: none; e.g. `{value}`")
        }
        (None, _) => format!("* `{key}`: `{value}`"),
    }
}

#[test]
fn the_page_of_records_is_what_can_be_written() {
    let source = fs::read_to_string(root().join("src/record.rs")).unwrap();
    let types = types(&source);
    let find = |name: &str| {
        types
            .iter()
            .find(|found| found.name == name)
            .unwrap_or_else(|| panic!("no type `{name}`"))
    };
    let event = find("Event");
    let mut page = String::from(
        "# Records\n\nGenerated from `src/record.rs`. A record is one JSON object. Times are microseconds since 1970-01-01 UTC, ids are UUIDs,\n\
         hashes are SHA-256 in 64 hexadecimal digits. Personal data is in no record: a person is her id and the hash of her\n\
         *card*. What is marked *optional* is left out when there is nothing to say.\n\n## Frame\n\n",
    );
    fields(&mut page, find("Record"));
    let _ = write!(page, "\n`event` has one member, named by the event. `cut`:\n\n");
    fields(&mut page, find("Cut"));
    let _ = write!(page, "\n## Events\n\n| Event | Is |\n| --- | --- |\n");
    for variant in &event.fields {
        let _ = writeln!(
            page,
            "| [`{0}`](#{0}) | {1} |",
            snake(&variant.name),
            variant.docs
        );
    }
    let mut told: Vec<String> = vec!["Event".into(), "Record".into(), "Cut".into()];
    for variant in &event.fields {
        let _ = write!(page, "\n### {}\n\n{}\n\n", snake(&variant.name), variant.docs);
        if variant.inner.is_empty() {
            fields(&mut page, find(bare(&variant.kind)));
            told.push(bare(&variant.kind).to_owned());
        } else {
            let inner = Type {
                name: variant.name.clone(),
                docs: String::new(),
                fields: variant.inner.clone(),
                is_enum: false,
            };
            fields(&mut page, &inner);
        }
    }
    let _ = write!(page, "\n## Parts\n");
    for part in types.iter().filter(|part| {
        !told.contains(&part.name) && !["Hash", "TraceId", "NotTraceId"].contains(&part.name.as_str())
    }) {
        let _ = write!(page, "\n### {}\n\n{}\n\n", part_name(&part.name), part.docs);
        fields(&mut page, part);
    }
    assert_eq!(
        event.fields.len(),
        26,
        "the parser of this test misses events, or there are new ones: count them"
    );
    keep("records.md", &page);
}

/// A type of `record.rs`.
pub(super) struct Type {
    pub(super) name: String,
    pub(super) docs: String,
    pub(super) fields: Vec<Field>,
    pub(super) is_enum: bool,
}

#[derive(Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) docs: String,
    pub(super) flattened: bool,
    /// Whether it may be absent.
    pub(super) optional: bool,
    pub(super) inner: Vec<Field>,
}

/// Reads the public types of a source file that rustfmt has formatted.
pub(super) fn types(source: &str) -> Vec<Type> {
    let mut found: Vec<Type> = Vec::new();
    let (mut docs, mut rename, mut flattened, mut optional) = (String::new(), None, false, false);
    // The type that is open, and the variant with fields of its own that is open in it.
    let (mut open, mut variant) = (false, false);
    for line in source.lines() {
        let text = line.trim();
        if let Some(comment) = text.strip_prefix("///") {
            docs.push_str(comment);
        } else if let Some(rest) = text.strip_prefix("#[serde(") {
            rename = rest
                .strip_prefix("rename = \"")
                .and_then(|rest| rest.split('"').next())
                .map(str::to_owned);
            flattened = rest.starts_with("flatten");
            optional = rest.starts_with("default");
        } else if let Some(name) = line
            .strip_prefix("pub struct ")
            .or(line.strip_prefix("pub enum "))
        {
            open = line.ends_with('{');
            let name = name.split([' ', '(']).next().unwrap_or_default().to_owned();
            let is_enum = line.starts_with("pub enum");
            found.push(Type {
                name,
                docs: sentence(&docs),
                fields: Vec::new(),
                is_enum,
            });
            docs.clear();
            rename = None;
        } else if line == "}" {
            open = false;
        } else if text == "}," && variant {
            variant = false;
        } else if open && !text.is_empty() && !text.starts_with('#') && !text.starts_with("//") {
            let Some(last) = found.last_mut() else { continue };
            let mut field = field(text, sentence(&docs), rename.take(), flattened);
            field.optional = optional;
            match last.fields.last_mut() {
                Some(outer) if variant => outer.inner.push(field),
                _ => last.fields.push(field),
            }
            variant |= text.ends_with('{');
            (docs, flattened, optional) = (String::new(), false, false);
        } else if text.is_empty() {
            docs.clear();
        }
    }
    found
}

fn field(text: &str, docs: String, rename: Option<String>, flattened: bool) -> Field {
    let text = text.trim_start_matches("pub ").trim_end_matches([',', '{', ' ']);
    let (name, kind) = match (text.split_once(": "), text.split_once('(')) {
        (Some((name, kind)), _) => (name, kind),
        (None, Some((name, kind))) => (name, kind.trim_end_matches(')')),
        (None, None) => (text, ""),
    };
    Field {
        name: rename.unwrap_or_else(|| name.to_owned()),
        kind: kind.to_owned(),
        docs,
        flattened,
        optional: false,
        inner: Vec::new(),
    }
}

/// Docs as one line of Markdown, without links into the program.
fn sentence(docs: &str) -> String {
    docs.trim()
        .replace("[`", "`")
        .replace("`]", "`")
        .replace('|', "\\|")
}

/// `Box<Entry>` and `Arc<Entry>` are an `Entry`.
pub(super) fn bare(kind: &str) -> &str {
    let inner = kind.strip_prefix("Box<").or_else(|| kind.strip_prefix("Arc<"));
    inner.and_then(|rest| rest.strip_suffix('>')).unwrap_or(kind)
}

pub(super) fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn fields(page: &mut String, of: &Type) {
    if of.is_enum {
        page.push_str("| Value | Is |\n| --- | --- |\n");
        for variant in &of.fields {
            let _ = writeln!(page, "| `{}` | {} |", snake(&variant.name), variant.docs);
        }
        return;
    }
    page.push_str("| Field | Form | Is |\n| --- | --- | --- |\n");
    for field in &of.fields {
        if field.flattened {
            page.push_str("| all of [intent](#intent) | | The request, as far as it came. |\n");
            continue;
        }
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            field.name,
            words(&field.kind),
            field.docs
        );
    }
}

/// A type's form in words.
fn words(kind: &str) -> String {
    let inside = |outer: &str| kind.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
    if let Some(inner) = inside("Option<") {
        return format!("{}, optional", words(inner));
    }
    if let Some(inner) = inside("Vec<") {
        return format!("list of {}", words(inner));
    }
    match bare(kind) {
        "u8" | "u16" | "u32" | "u64" | "i64" => "number".into(),
        "bool" => "true or false".into(),
        "String" => "text".into(),
        "Hash" => "hash".into(),
        "TraceId" => "32 hexadecimal digits".into(),
        "Timestamp" => "time".into(),
        "serde_json::Value" => "any JSON".into(),
        "BTreeMap<String, String>" => "names and texts".into(),
        "(String, String)" => "pair of texts".into(),
        id if id.ends_with("Id") => "id".into(),
        "Event" => "[event](#events)".into(),
        "Cut" => "see below".into(),
        part => format!("[{0}](#{1})", part_name(part), part_name(part).replace(' ', "-")),
    }
}

/// How the page calls a part of a record.
fn part_name(kind: &str) -> String {
    match kind {
        // There is an event of the name.
        "Change" => "what changed".into(),
        part => snake(part.strip_suffix("Entry").unwrap_or(part)).replace('_', " "),
    }
}
