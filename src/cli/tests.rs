//! The command line as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, Parser};

use super::{Cli, command, reference};
use crate::api;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

fn leaves(command: &Command, found: &mut Vec<(String, Command)>, parent: &str) {
    let name = format!("{parent}{}", command.get_name());
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    if !command.has_subcommands() {
        found.push((name, command.clone()));
        return;
    }
    for inner in command.get_subcommands() {
        leaves(inner, found, &format!("{name} "));
    }
}

fn commands() -> Vec<(String, Command)> {
    let mut found = Vec::new();
    leaves(&command(), &mut found, "");
    found
}

/// Words as a shell would split them, as far as examples need it: single quotes, redirections and comments.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let line = line.split("   ").next().unwrap();
    let line = line.split(" > ").next().unwrap().split(" < ").next().unwrap();
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    assert!(!quoted, "{line}");
    words
}

#[test]
fn every_command_has_examples_and_each_of_them_parses() {
    for (name, command) in commands() {
        let (about, examples) = reference::text(&command);
        assert!(!about.is_empty(), "{name} does not say what it does");
        assert!(!examples.is_empty(), "{name} has no example");
        for example in examples {
            assert!(example.starts_with(&name), "{name}: {example}");
            if let Err(error) = Cli::try_parse_from(split(&example)) {
                panic!("{example}\n{error}");
            }
        }
    }
}

#[test]
fn a_list_of_commands_shows_one_sentence_of_each() {
    for (name, command) in commands() {
        let short = command.get_about().unwrap().to_string();
        assert!(
            short.len() > 10 && short.len() < 120 && !short.contains('\n'),
            "{name}: {short}"
        );
    }
}

#[test]
fn every_argument_is_explained() {
    for (name, command) in commands() {
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{name}: {} is not explained",
                argument.get_id()
            );
        }
    }
}

#[test]
fn a_command_that_does_not_exist_is_wrong_usage() {
    for wrong in [
        &["countersign", "vo", "craete", "x"][..],
        &["countersign"],
        &["countersign", "trace", "1"],
    ] {
        assert_eq!(
            Cli::try_parse_from(wrong).unwrap_err().exit_code(),
            2,
            "{wrong:?}"
        );
    }
}

#[test]
fn json_is_accepted_before_and_after_every_command() {
    assert!(
        Cli::try_parse_from(["countersign", "--json", "vo", "list"])
            .unwrap()
            .json
    );
    assert!(
        Cli::try_parse_from(["countersign", "vo", "list", "--json"])
            .unwrap()
            .json
    );
    for (name, command) in commands() {
        let first = reference::text(&command).1.remove(0);
        let mut words = split(&first);
        if !words.contains(&"--json".to_owned()) {
            words.push("--json".into());
        }
        assert!(Cli::try_parse_from(words).unwrap().json, "{name}");
    }
}

#[test]
fn no_option_takes_a_secret_or_turns_verification_off() {
    for (name, command) in commands() {
        for argument in command.get_arguments() {
            let long = argument.get_long().unwrap_or_default();
            let secret = ["password", "token", "secret"].contains(&long);
            let blind = ["insecure", "no-verify", "skip-verify", "allow-invalid"].contains(&long);
            assert!(!secret && !blind, "{name} --{long}");
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every `.task("NAME")` in the command line's own source, with the `.at("PARAMETER", ...)` that follow it.
fn calls() -> Vec<(String, BTreeSet<String>)> {
    let mut files = Vec::new();
    sources(&Path::new(ROOT).join("src/cli"), &mut files);
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(file).unwrap();
        for call in text.split(".task(\"").skip(1) {
            let (name, rest) = call.split_once('"').unwrap();
            let end = [
                ".fetch(", ".send(", ".send::<", ".act(", ".list(", ".list::<", ";",
            ];
            let rest = &rest[..end
                .iter()
                .filter_map(|end| rest.find(end))
                .min()
                .unwrap_or(rest.len())];
            let at = rest
                .split(".at(\"")
                .skip(1)
                .map(|at| at.split('"').next().unwrap().to_owned());
            found.push((name.to_owned(), at.collect()));
        }
    }
    found
}

#[test]
fn every_operation_that_is_called_exists_with_these_parameters() {
    let calls = calls();
    assert!(calls.len() > 20, "{calls:?}");
    for (task, given) in calls {
        let given: Vec<(&str, &str)> = given.iter().map(|name| (name.as_str(), "x")).collect();
        assert!(api::address(&task, &given).is_some(), "{task} with {given:?}");
    }
}

#[test]
fn the_reference_page_is_that_of_this_program() {
    let page = reference::page(command());
    let file = Path::new(ROOT).join("docs/reference/cli.md");
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &page).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == page,
        "docs/reference/cli.md is not that of this program; write it anew with\n  \
         COUNTERSIGN_BLESS=1 cargo test --lib cli::tests"
    );
}
