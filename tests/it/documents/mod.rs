//! Keeps what the documents say true: their links, commands, manifests, generated pages, and the program of the guide
//! that verifies a log without ours.

mod generated;
mod log;
mod proof;
mod schema;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use countersign::config::Config;
use countersign::tool::Manifest;

use self::text::{blocks, commands, headings, links, rows, ticked};

/// The built program.
const COUNTERSIGN: &str = env!("CARGO_BIN_EXE_countersign");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document that is kept, with its text.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ] {
        found.insert(
            root().join(name),
            fs::read_to_string(root().join(name)).expect(name),
        );
    }
    for folder in ["docs", "examples", "benches"] {
        for path in files(&root().join(folder), "md") {
            let text = fs::read_to_string(&path).unwrap();
            found.insert(path, text);
        }
    }
    assert!(found.len() > 10, "{:?}", found.keys());
    found
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|known| known == extension) {
            found.push(path);
        }
    }
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut wrong = Vec::new();
    let mut followed = 0;
    for (path, text) in &documents {
        for link in links(text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let target = target.canonicalize().unwrap_or(target);
            if !target.exists() {
                wrong.push(format!("{}: `{link}` is not there", shown(path)));
            } else if !anchor.is_empty() && !headings(&fs::read_to_string(&target).unwrap()).contains(anchor)
            {
                wrong.push(format!("{}: `{link}` has no such heading", shown(path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(followed > 30, "only {followed} links were found");
}

/// What `--help` says of each command path, once.
#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, Option<String>>);

impl Helps {
    /// `None` when the program does not know the command.
    fn of(&mut self, path: &[String]) -> Option<&str> {
        let help = self.0.entry(path.to_vec()).or_insert_with(|| {
            let output = Command::new(COUNTERSIGN)
                .args(path)
                .arg("--help")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        });
        help.as_deref()
    }

    /// Why the program would not take a command line; `None` when it would.
    fn flaw(&mut self, words: &[String]) -> Option<String> {
        let mut path = Vec::new();
        for word in words {
            let help = self.of(&path)?.to_owned();
            let Some((_, list)) = help.split_once("\nCommands:\n") else {
                break;
            };
            let known = |line: &str| line.split_whitespace().next() == Some(word);
            let hidden = self
                .of(&[path.as_slice(), std::slice::from_ref(word)].concat())
                .is_some();
            if word.starts_with('-') || !(list.lines().any(known) || hidden) {
                break;
            }
            path.push(word.clone());
        }
        let Some(help) = self.of(&path).map(str::to_owned) else {
            return Some(format!("there is no command `{}`", path.join(" ")));
        };
        let rest = &words[path.len()..];
        // One that has commands and can stand alone, with options of its own, is shown so by its first line of usage.
        let usage = help.lines().find_map(|line| line.strip_prefix("Usage: "));
        let alone = usage.is_some_and(|usage| !usage.contains("COMMAND"));
        let named = match alone {
            true => rest.first().is_none_or(|word| word.starts_with('-')),
            false => rest.iter().all(|word| word.starts_with('-')),
        };
        if help.contains("\nCommands:\n") && !named {
            return Some(format!(
                "`{}` has no command `{}`",
                path.join(" "),
                rest.join(" ")
            ));
        }
        let listed: BTreeSet<&str> = help
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.starts_with('-'))
            .collect();
        rest.iter()
            .map(|word| word.split('=').next().unwrap_or_default())
            .find(|word| word.starts_with("--") && word.len() > 2 && !listed.contains(word))
            .map(|word| format!("`{}` has no option `{word}`", path.join(" ")))
    }
}

#[test]
fn every_command_that_a_document_shows_is_one() {
    let mut helps = Helps::default();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (path, text) in &documents() {
        for words in commands(text) {
            tried += 1;
            if let Some(flaw) = helps.flaw(&words) {
                wrong.push(format!(
                    "{}: `countersign {}`: {flaw}",
                    shown(path),
                    words.join(" ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 30, "only {tried} commands were found");
}

#[test]
fn a_command_that_does_not_exist_is_found_out() {
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let mut helps = Helps::default();
    assert_eq!(helps.flaw(&words("audit verify --data D")), None);
    assert!(helps.flaw(&words("audit varify --data D")).is_some());
    assert!(helps.flaw(&words("audit verify --no-check")).is_some());
    assert!(helps.flaw(&words("frobnicate")).is_some());
}

#[test]
fn every_manifest_that_a_document_or_an_example_shows_is_accepted() {
    let mut texts: Vec<(String, String)> = Vec::new();
    for (path, text) in &documents() {
        let manifests = blocks(text, "toml")
            .into_iter()
            .filter(|block| block.contains("[tool]"));
        texts.extend(manifests.map(|block| (shown(path), block)));
    }
    for path in files(&root().join("examples"), "toml") {
        texts.push((shown(&path), fs::read_to_string(&path).unwrap()));
    }
    for (name, text) in &texts {
        if let Err(flaws) = Manifest::parse(name, text) {
            panic!("{flaws}\n{text}");
        }
    }
    assert!(texts.len() >= 4, "{texts:?}");
}

#[test]
fn every_setting_that_a_document_shows_is_accepted() {
    let mut tried = 0;
    for (path, text) in &documents() {
        for block in blocks(text, "toml") {
            if block.contains("[gateway]") || block.contains("[alert") {
                tried += 1;
                if let Err(flaws) = Config::parse(Path::new("/data"), &shown(path), &block) {
                    panic!("{flaws}\n{block}");
                }
            }
        }
    }
    assert!(tried >= 2, "only {tried} blocks of settings were found");
}

const MANIFEST: &str = "docs/reference/manifest.md";

/// Keys that the parser knows where `at` stands in a manifest, by asking it about one that nobody knows.
fn known_keys(text: &str) -> Vec<String> {
    let flaws = Manifest::parse("t.toml", text)
        .expect_err("`zzz` is no key")
        .to_string();
    let after = flaws.split("zzz` (accepted here: ").nth(1);
    let list = after.and_then(|rest| rest.split(')').next()).expect(&flaws);
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_page_of_the_manifest_has_every_key_and_no_other() {
    const TASK: &str = "\n[[task]]\nname = \"t\"\nmatch = [\"POST /t/{x}\"]\nkind = \"read\"\n";
    const TOOL: &str = "[tool]\nname = \"a\"\nupstream = \"b\"\n";
    const RESOURCE: &str = "resource = { type = \"j\", id = \"{x}\" }\n";
    let page = fs::read_to_string(root().join(MANIFEST)).unwrap();
    let task = |text: &str| format!("{TOOL}{TASK}{text}\n");
    for (heading, text) in [
        ("`[tool]`", format!("{TOOL}zzz = 1\n{TASK}")),
        (
            "`[type.NAME]`",
            format!("{TOOL}{TASK}{RESOURCE}[type.j]\nzzz = 1\n"),
        ),
        ("`[[task]]`", task("zzz = 1")),
        (
            "`resource`",
            task("resource = { type = \"j\", id = \"{x}\", zzz = 1 }"),
        ),
        ("`body`", task("body = { kind = \"json\", zzz = 1 }")),
        (
            "`body.take`",
            task("body = { kind = \"json\", take = { a = { at = \"/a\", zzz = 1 } } }"),
        ),
        (
            "`resolve`",
            task(&format!(
                "{RESOURCE}resolve = {{ get = \"/a\", type = \"j\", id = \"/id\", zzz = 1 }}"
            )),
        ),
        (
            "`creates`",
            task("creates = { type = \"j\", id = \"/id\", status = [201], zzz = 1 }"),
        ),
        (
            "`filter`",
            task("filter = { type = \"j\", items = \"\", id = \"\", zzz = 1 }"),
        ),
        ("`audit`", task("audit = { level = \"full\", zzz = 1 }")),
    ] {
        let shown: BTreeSet<String> = rows(&page, heading).into_iter().map(|(key, _)| key).collect();
        let known: BTreeSet<String> = known_keys(&text).into_iter().collect();
        assert_eq!(
            shown, known,
            "{MANIFEST}, {heading}: shown, and known to the parser"
        );
    }
    // What the top level knows are the tables themselves.
    assert_eq!(
        known_keys(&format!("zzz = 1\n{TOOL}{TASK}")),
        ["task", "tool", "type"]
    );
}

#[test]
fn what_the_page_calls_not_yet_is_refused_as_such_and_the_example_has_everything_else() {
    let page = fs::read_to_string(root().join(MANIFEST)).unwrap();
    let examples: String = blocks(&page, "toml").concat();
    let mut refused = 0;
    for (heading, in_task) in [("`[tool]`", false), ("`[[task]]`", true)] {
        for (key, accepted) in rows(&page, heading) {
            if !accepted.starts_with("*not yet*") {
                let shown = examples
                    .lines()
                    .any(|line| line.split('=').next().unwrap_or_default().trim() == key);
                assert!(shown, "no example has `{key}`");
                continue;
            }
            refused += 1;
            let line = format!("{key} = \"x\"\n");
            let (tool, task) = if in_task {
                ("", line.as_str())
            } else {
                (line.as_str(), "")
            };
            let text = format!(
                "[tool]\nname = \"a\"\nupstream = \"b\"\n{tool}[[task]]\nname = \"t\"\nmatch = [\"GET /t\"]\nkind = \"read\"\n{task}"
            );
            let flaws = Manifest::parse("t.toml", &text).expect_err(&key).to_string();
            assert!(flaws.contains("is not yet supported"), "`{key}`: {flaws}");
        }
    }
    assert_eq!(refused, 2, "keys of later versions");
}

#[test]
fn the_page_of_the_manifest_shows_the_values_that_the_parser_accepts() {
    let page = fs::read_to_string(root().join(MANIFEST)).unwrap();
    let named = ticked(&page);
    let flaws = Manifest::parse(
        "t.toml",
        "[tool]\nname = \"a\"\nupstream = \"b\"\ndelegation = \"zzz\"\npolicy = \"zzz\"\nhost_header = \"zzz\"\n\
         authorization = \"zzz\"\ncookies = \"zzz\"\n[[task]]\nname = \"t\"\nmatch = [\"GET /t/{a:zzz}\"]\nkind = \"zzz\"\nbody = { kind = \"zzz\" }\n\
         creates = { type = \"j\", id = \"/id\", status = [201], owner = \"zzz\" }\n",
    )
    .unwrap_err();
    let mut seen = 0;
    for flaw in &flaws.0 {
        let Some((_, values)) = flaw.message.split_once("has the value `zzz`; accepted: ") else {
            continue;
        };
        for value in values.split(", ") {
            seen += 1;
            assert!(
                named.contains(value),
                "{MANIFEST} does not name the value `{value}`: {}",
                flaw.message
            );
        }
    }
    assert!(seen > 20, "{flaws}");
}
