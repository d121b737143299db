//! What may enter the dependency tree: `deny.toml` is the one list, read here and by `cargo deny`.
//!
//! The tree is asked for (`cargo tree`), not the lock file: a crate can stand there through a weak feature without
//! ever being compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use toml::{Table, Value};

fn deny() -> Table {
    read("deny.toml").parse().unwrap()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The `crate` of every entry of a list in `[bans]`; every entry must give its reason.
fn banned(list: &str) -> Vec<String> {
    let deny = deny();
    let entries = deny["bans"][list].as_array().unwrap();
    entries
        .iter()
        .map(|entry| {
            let name = entry["crate"].as_str().unwrap();
            assert!(
                entry
                    .get("reason")
                    .and_then(Value::as_str)
                    .is_some_and(|reason| !reason.is_empty()),
                "{name}"
            );
            name.to_owned()
        })
        .collect()
}

/// Runs `cargo tree` without the network and with the lock file as it stands.
fn tree(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--prefix", "none"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// Every crate that is compiled, as (name, version, licence).
fn compiled(edges: &str) -> BTreeSet<(String, String, String)> {
    let (done, out, err) = tree(&["-e", edges, "--format", "{p}|{l}"]);
    assert!(done, "cargo tree: {err}");
    out.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (package, licence) = line.trim_end_matches("(*)").split_once('|').unwrap();
            let (name, version) = package.split_once(" v").unwrap();
            let version = version.split(' ').next().unwrap();
            (name.to_owned(), version.to_owned(), licence.trim().to_owned())
        })
        .collect()
}

#[test]
fn a_second_tls_stack_or_http_client_is_never_compiled() {
    let names = banned("deny");
    assert!(
        ["ring", "openssl-sys", "native-tls", "reqwest"]
            .iter()
            .all(|name| names.iter().any(|n| n == name))
    );
    for name in names {
        let (done, out, err) = tree(&["-e", "normal,build", "-i", &name]);
        let absent = if done {
            out.trim().is_empty()
        } else {
            err.contains("did not match any packages")
        };
        assert!(absent, "`{name}` is compiled:\n{out}{err}");
    }
    let (done, out, _) = tree(&["-e", "normal,build", "-i", "rustls"]);
    assert!(
        done && out.lines().count() > 1,
        "the same question finds what is there"
    );
}

#[test]
fn every_licence_is_on_the_list() {
    let deny = deny();
    let allowed: Vec<&str> = deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a.as_str().unwrap())
        .collect();
    let all = compiled("normal,build,dev");
    assert!(all.len() > 200, "only {} crates", all.len());
    let wrong: Vec<String> = all
        .iter()
        .filter(|(_, _, licence)| !permitted(licence, &|name| allowed.contains(&name)))
        .map(|(name, version, licence)| format!("{name} {version}: `{licence}`"))
        .collect();
    assert!(
        wrong.is_empty(),
        "not allowed by deny.toml:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_crate_comes_in_two_versions_only_with_a_reason() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, version, _) in compiled("normal,build") {
        versions.entry(name).or_default().insert(version);
    }
    let skips = banned("skip");
    let skipped = |name: &str, version: &str| {
        skips.iter().position(|skip| {
            let (skip_name, skip_version) = skip.split_once('@').expect("a skip names crate@version");
            skip_name == name && (version == skip_version || version.starts_with(&format!("{skip_version}.")))
        })
    };
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let (reasoned, left): (Vec<&String>, Vec<&String>) = versions
            .iter()
            .partition(|version| skipped(name, version).is_some());
        used.extend(reasoned.into_iter().filter_map(|version| skipped(name, version)));
        if left.len() > 1 {
            wrong.push(format!("{name}: {left:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "several versions without a reason in deny.toml:\n{}",
        wrong.join("\n")
    );
    let stale: Vec<&String> = skips
        .iter()
        .enumerate()
        .filter(|(index, _)| !used.contains(index))
        .map(|(_, s)| s)
        .collect();
    assert!(stale.is_empty(), "skipped in deny.toml without need: {stale:?}");
}

#[test]
fn every_crate_comes_from_a_registry_and_none_from_git() {
    let lock: Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    assert!(packages.len() > 200);
    for package in packages {
        let (name, source) = (
            package["name"].as_str().unwrap(),
            package.get("source").and_then(Value::as_str),
        );
        match source {
            None => assert_eq!(name, env!("CARGO_PKG_NAME"), "`{name}` is a path dependency"),
            Some(source) => {
                assert!(source.starts_with("registry+"), "`{name}` comes from `{source}`");
                assert!(package.get("checksum").is_some(), "`{name}` has no checksum");
            }
        }
    }
}

/// Whether a licence expression (SPDX: `AND` binds tighter than `OR`; `/` is the old spelling of `OR`) can be met.
fn permitted(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = either(&mut rest, allowed);
    met && rest.is_empty()
}

fn either(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = both(words, allowed);
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        met |= both(words, allowed);
    }
    met
}

fn both(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, allowed);
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let Some((first, rest)) = words.split_first() else {
        return false;
    };
    *words = rest;
    if *first == "(" {
        let met = either(words, allowed);
        let closed = words.first() == Some(&")");
        *words = words.get(1..).unwrap_or_default();
        return met && closed;
    }
    // An exception only ever adds permissions.
    if words.first() == Some(&"WITH") {
        *words = words.get(2..).unwrap_or_default();
    }
    allowed(first)
}

#[test]
fn a_licence_expression_is_read_as_spdx_says() {
    let allowed = |name: &str| ["MIT", "Apache-2.0"].contains(&name);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("GPL-3.0/MIT", true),
        ("MIT AND (GPL-3.0 OR Apache-2.0)", true),
        ("MIT OR GPL-3.0 AND GPL-2.0", true),
        ("(MIT OR GPL-3.0) AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("", false),
        ("(MIT", false),
        ("MIT MIT", false),
    ] {
        assert_eq!(permitted(expression, &allowed), met, "{expression}");
    }
}

/// The fuzzer is a package of its own; what it tries must be what is shipped.
#[test]
fn the_fuzzer_is_built_from_the_same_versions() {
    let packages = |name: &str| -> Vec<(String, String)> {
        let lock: Table = read(name).parse().unwrap();
        let all = lock["package"].as_array().unwrap().iter();
        all.map(|package| {
            let text = |key: &str| package[key].as_str().unwrap().to_owned();
            (text("name"), text("version"))
        })
        .collect()
    };
    let shipped = packages("Cargo.lock");
    let others: Vec<(String, String)> = packages("fuzz/Cargo.lock")
        .into_iter()
        .filter(|package| !shipped.contains(package))
        .filter(|(name, _)| !["countersign-fuzz", "libfuzzer-sys", "arbitrary"].contains(&name.as_str()))
        .collect();
    assert!(
        others.is_empty(),
        "fuzz/Cargo.lock: {others:?} (cp Cargo.lock fuzz/ && cargo metadata --manifest-path fuzz/Cargo.toml)"
    );
}
