//! Every byte surface as a plain function: bytes in, an assertion that fails if a promise does not hold.
//!
//! One target per surface. Each asks more than "no crash": what is judged reads the same when it comes in pieces, what is
//! parsed is what is written, and nothing is accepted that a second, independent reading refuses. Every `cargo test`
//! replays the inputs in `fuzz/seeds/TARGET` (written by hand) and `fuzz/regressions/TARGET` (once found, now fixed);
//! `fuzz/run` looks for new ones with libFuzzer. Where a surface is private to its module, its target stands there.
//!
//! This module is in the tests and, with the feature `fuzzing`, in the package `fuzz`; no release has it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target ends at the first thing that is not as it claims"
)]

mod certificate;
mod settings;
mod tool;

use crate::{audit, authenticate, console, delegate, forward, gateway, trust};

/// A byte surface.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder of seeds.
    pub name: &'static str,
    /// Tries one input. Panics when something is not as promised.
    pub run: fn(&[u8]),
}

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("request-head", gateway::fuzz_request_head),
    target("target", tool::target),
    target("matching", tool::matching),
    target("manifest", tool::manifest),
    target("list", tool::list),
    target("credential", authenticate::fuzz_credential),
    target("id-token", authenticate::fuzz_token),
    target("token", authenticate::fuzz_personal),
    target("request-headers", forward::fuzz_request_headers),
    target("answer-headers", forward::fuzz_answer_headers),
    target("segment", audit::fuzz::segment),
    target("dropped", audit::fuzz::dropped),
    target("packed", audit::fuzz::packed),
    target("record", audit::fuzz::record),
    target("checkpoint", audit::fuzz::checkpoint),
    target("proof", audit::fuzz::proof),
    target("add-checkpoint", audit::fuzz::add_checkpoint),
    target("index-block", audit::index::fuzz_block),
    target("certificate", certificate::certificate),
    target("trace", certificate::trace),
    target("proxy-chain", trust::chain::fuzz_chain),
    target("proxy-cert-info", trust::chain::fuzz_info),
    target("pkcs12", trust::pkcs12::fuzz),
    target("form", console::fuzz_form),
    target("settings", settings::settings),
    target("pkcs10", delegate::pkcs10::fuzz),
    target("myproxy-request", delegate::myproxy::fuzz_request),
    target("myproxy-response", delegate::myproxy::fuzz_response),
];

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz")
            .join(folder)
            .join(target);
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    }

    /// Tries one input and says why it fails.
    fn failure(target: &Target, input: &[u8]) -> Option<String> {
        let panic = std::panic::catch_unwind(|| (target.run)(input)).err()?;
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Some(format!(
            "{}: {:?} with {}",
            target.name,
            said,
            input.escape_ascii()
        ))
    }

    #[test]
    fn every_seed_and_every_input_that_once_failed_passes() {
        let mut failures = Vec::new();
        for target in TARGETS {
            let seeds = inputs("seeds", target.name);
            assert!(seeds.len() > 2, "{} has {} seeds", target.name, seeds.len());
            for file in seeds.iter().chain(&inputs("regressions", target.name)) {
                failures.extend(failure(target, &std::fs::read(file).unwrap()));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn every_seed_with_a_byte_changed_or_left_out_or_cut_short_passes() {
        let most = if std::env::var_os("COUNTERSIGN_LONG").is_some() {
            1_000
        } else {
            24
        };
        let mut failures = Vec::new();
        for target in TARGETS {
            for file in inputs("seeds", target.name) {
                let bytes = std::fs::read(&file).unwrap();
                let steps = most.min(bytes.len());
                for step in 0..steps {
                    let at = step * bytes.len() / steps;
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << (step % 8);
                    let mut short = bytes.clone();
                    short.remove(at);
                    for input in [&changed[..], &short[..], &bytes[..at]] {
                        failures.extend(failure(target, input));
                    }
                }
            }
        }
        failures.truncate(20);
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn every_folder_of_inputs_belongs_to_a_target() {
        for folder in ["seeds", "regressions"] {
            for path in inputs(folder, "") {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let name = name.trim_end_matches(".dict");
                assert!(Target::named(name).is_some(), "{}", path.display());
            }
        }
    }
}
