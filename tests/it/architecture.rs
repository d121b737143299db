//! Keeps the rule of `src/lib.rs`: a module uses only modules declared above it.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_module_uses_only_modules_declared_above_it() {
    let modules = declared(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    assert!(modules.len() > 10, "src/lib.rs declares {modules:?}");
    let mut wrong = Vec::new();
    let mut read = 0;
    for file in sources(&root().join("src")) {
        let below = file.strip_prefix(root().join("src")).unwrap();
        let module = below
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if module == "lib" || module == "main" {
            continue;
        }
        let Some(place) = modules.iter().position(|name| name == module) else {
            wrong.push(format!(
                "{} belongs to no module that src/lib.rs declares",
                below.display()
            ));
            continue;
        };
        read += 1;
        for used in paths(&fs::read_to_string(&file).unwrap(), depth(below)) {
            match modules.iter().position(|name| *name == used) {
                Some(other) if other <= place => {}
                Some(_) => wrong.push(format!(
                    "{}: `{module}` uses `{used}`, which src/lib.rs declares below it",
                    below.display()
                )),
                None => wrong.push(format!(
                    "{}: `crate::{used}` is no declared module",
                    below.display()
                )),
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        read >= modules.len(),
        "{read} files for {} modules",
        modules.len()
    );
}

/// The modules of `lib.rs`, in order.
fn declared(lib: &str) -> Vec<String> {
    bare(lib)
        .lines()
        .filter_map(|line| {
            let line = line
                .trim()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            Some(line.strip_prefix("mod ")?.strip_suffix(';')?.trim().to_owned())
        })
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// How many `super::` lead from this file (relative to `src`) to the crate's root.
fn depth(below: &Path) -> usize {
    let parts = below.components().count();
    if below.ends_with("mod.rs") {
        parts - 1
    } else {
        parts
    }
}

/// The first name of every path that starts at the crate's root.
fn paths(source: &str, depth: usize) -> Vec<String> {
    let text = without_tests(&bare(source));
    let mut found = Vec::new();
    for start in ["crate", "super"] {
        let mut rest = text.as_str();
        while let Some(at) = rest.find(start) {
            let before = rest[..at].chars().next_back();
            let mut after = rest[at + start.len()..].trim_start();
            rest = &rest[at + start.len()..];
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') || !after.starts_with("::") {
                continue;
            }
            after = after[2..].trim_start();
            if start == "super" {
                // `super::super::x` is met once per `super`; the chain is counted from its first link.
                if text[..text.len() - rest.len() - start.len()]
                    .trim_end()
                    .ends_with("::")
                {
                    continue;
                }
                let mut links = 1;
                while let Some(next) = after
                    .strip_prefix("super")
                    .and_then(|next| next.trim_start().strip_prefix("::"))
                {
                    links += 1;
                    after = next.trim_start();
                }
                if links < depth {
                    continue;
                }
            }
            found.extend(first_names(after));
        }
    }
    found
}

/// `a::b` gives `a`; `{a::b, c, d::{e}}` gives `a`, `c`, `d`; a macro at the root is no module.
fn first_names(path: &str) -> Vec<String> {
    if let Some(group) = path.strip_prefix('{') {
        let (mut level, mut names, mut start) = (0, Vec::new(), true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => level += 1,
                '}' if level == 0 => break,
                '}' => level -= 1,
                ',' if level == 0 => start = true,
                c if start && level == 0 && !c.is_whitespace() => {
                    names.extend(first_names(&group[at..]));
                    start = false;
                }
                _ => {}
            }
        }
        return names;
    }
    let end = path
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(path.len());
    let (name, after) = path.split_at(end);
    if name.is_empty() || name == "self" || after.starts_with('!') {
        Vec::new()
    } else {
        vec![name.to_owned()]
    }
}

/// The source without comments, documentation and the content of strings and character literals.
fn bare(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut out = String::new();
    let mut i = 0;
    while i < chars.len() {
        let word_before = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut level = 0;
                while i < chars.len() {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (level, i) = (level + 1, i + 2),
                        ('*', '/') => (level, i) = (level - 1, i + 2),
                        _ => i += 1,
                    }
                    if level == 0 {
                        break;
                    }
                }
            }
            'r' if (!word_before || at(i - 1) == 'b') && (at(i + 1) == '"' || at(i + 1) == '#') => {
                let hashes = (0..).take_while(|n| at(i + 1 + n) == '#').count();
                if at(i + 1 + hashes) != '"' {
                    out.push('r');
                    i += 1;
                    continue;
                }
                i += hashes + 2;
                while i < chars.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                    i += 1;
                }
                i += hashes + 1;
                out.push_str("\"\"");
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
                out.push_str("\"\"");
            }
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            c => {
                out.push(c);
                i += 1;
            }
        }
    }
    out
}

/// The bare source without the items that stand under `#[cfg(test)]`.
fn without_tests(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut level = 0;
        let mut end = rest.len();
        for (index, c) in rest.char_indices() {
            match c {
                '{' => level += 1,
                '}' => level -= 1,
                _ => continue,
            }
            if level == 0 {
                end = index + 1;
                break;
            }
        }
        // An item without a body (`#[cfg(test)] mod tests;`, a `use`) ends at its semicolon.
        let semicolon = rest.find(';').map_or(rest.len(), |index| index + 1);
        let brace = rest.find('{').unwrap_or(rest.len());
        rest = &rest[if semicolon <= brace { semicolon } else { end }..];
    }
    out.push_str(rest);
    out
}

#[test]
fn every_spelling_of_a_path_from_the_root_is_seen() {
    let source = r##"
        //! crate::documented is only [`crate::documented`].
        use crate::one::Thing;
        use crate::{two::{a, b}, three, four::C as D};
        use super::five::X;
        use super::{six, seven::Y};
        /* crate::commented /* crate::nested */ crate::still */
        fn f(c: char) -> &'static str { let _ = ('"', '\'', b'"'); crate :: eight::g("crate::text"); r#"crate::raw "text""# }
        pub(in crate::nine) fn h() { crate::a_macro!("x"); mycrate::not_ours(); }
        #[cfg(test)]
        use crate::for_tests;
        #[cfg(test)]
        mod tests { use crate::only_tests; fn g() { if true {} } }
        macro_rules! m { () => { $crate::ten::x() } }
    "##;
    let mut found = paths(source, 1);
    found.sort();
    let mut expected = [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ]
    .map(str::to_owned);
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(paths("use super::x; use super::super::y;", 2), ["y"]);
    assert_eq!(
        declared("pub mod a;\n// mod b;\nmod c;\npub(crate) mod d;\n#[cfg(test)]\nmod e { }"),
        ["a", "c", "d"]
    );
}

/// The files of the program, without their tests, in which `text` stands.
fn holding(text: &str) -> Vec<String> {
    let source = root().join("src");
    let mut found: Vec<String> = sources(&source)
        .into_iter()
        .filter(|file| without_tests(&fs::read_to_string(file).unwrap()).contains(text))
        .map(|file| file.strip_prefix(&source).unwrap().display().to_string())
        .filter(|file| !file.contains("tests"))
        .collect();
    found.sort();
    found
}

#[test]
fn a_vo_key_signs_proxies_in_one_module_which_looks_for_a_receipt_itself() {
    // Keys are opened in one place, and handed to no module but that which mints.
    assert_eq!(holding("certificate.open("), ["delegate/opening.rs"]);
    // Beside it, the VO's certificate is shown to MyProxy servers, in TLS.
    assert_eq!(
        holding("issuer.signer"),
        ["delegate/mint.rs", "delegate/robot.rs"]
    );
    // And signs revocation lists, once their bytes are on record.
    assert_eq!(holding("signer::sign_apart("), ["delegate/crl/list.rs"]);
    let list = fs::read_to_string(root().join("src/delegate/crl/list.rs")).unwrap();
    assert!(list.find("= record(body").unwrap() < list.find("sign_apart(signer").unwrap());
    assert_eq!(holding("Durable::by("), ["delegate/plan.rs"]);
    assert_eq!(holding("Durable::after("), ["delegate/outside.rs"]);
    let mint = fs::read_to_string(root().join("src/delegate/mint.rs")).unwrap();
    let allowed = &mint[mint.find("fn allowed(").unwrap()..];
    let (look, allows, signs) = (
        allowed.find("durable.request != self.reserved.request"),
        allowed.find("Ok(Allowed(self))"),
        allowed.find(".signer.sign("),
    );
    assert!(look.unwrap() < allows.unwrap() && allows.unwrap() < signs.unwrap());
    // Only what was looked at is signed, and in one place.
    let without = mint.replace("struct Allowed(Chosen)", "");
    assert_eq!(without.matches("Allowed(").count(), 1);
    assert_eq!(mint.matches(".signer.sign(").count(), 1);
}
