//! `countersign audit check-proof`: does a proof hold?

use std::io;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{given_key, witness_keys};
use crate::audit::proof::{Proof, ProofError, Proved};
use crate::audit::render;
use crate::cli::failure::Failure;
use crate::cli::input::bytes;
use crate::cli::output::{Output, plain, words};

/// Checks a proof that `countersign audit prove` wrote, with public keys only: no gateway and no log are needed. Prints the
/// record and what the proof shows. Exit code 1 says that it does not hold, and what is wrong.
///
/// The log's key must come from somewhere else than the proof: ask for it before there is a case. A checkpoint that a
/// witness cosigned was there at the time of the cosignature; without one, whoever has the log's private key could have
/// made log and proof at any time.
///
/// Examples:
///   countersign audit check-proof case-7.tlog-proof --key noted.pub
///   countersign audit check-proof case-7.tlog-proof --key noted.pub --witness-key witness.pub
///   countersign audit check-proof - --key noted.pub --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CheckProof {
    /// The proof (- for standard input).
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The log's public key as you noted it: a file, or the key itself.
    #[arg(long, value_name = "PUB")]
    key: String,
    /// Public key of a witness that must have cosigned: a file, or the key itself. May be given more than once.
    #[arg(long, value_name = "PUB")]
    witness_key: Vec<String>,
}

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Verdict {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shows: Option<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    log: String,
    epoch: u64,
    index: u64,
    size: u64,
    root: String,
    cosigned: Vec<Cosigned>,
    unchecked: Vec<String>,
    record: Value,
}

#[derive(Debug, Serialize)]
struct Cosigned {
    witness: String,
    time: String,
}

/// Runs the command.
pub(super) fn run(args: &CheckProof, out: Output) -> Result<(), Failure> {
    let (key, witnesses) = (given_key(&args.key)?, witness_keys(&args.witness_key)?);
    let proof = bytes(&args.file)?;
    let checked = Proof::parse(&proof).and_then(|proof| proof.check(&key, &witnesses));
    match checked {
        Ok(proved) => {
            let verdict = Verdict {
                ok: true,
                error: None,
                shows: Some(shown(&proved)),
            };
            Ok(out.show(&verdict, |out, _| print(out, &proved))?)
        }
        Err(error) => {
            let verdict = Verdict {
                error: Some(error.to_string()),
                ..Verdict::default()
            };
            out.show(&verdict, |out, _| out.line("The proof does NOT hold."))?;
            let failure = Failure::failed(error.to_string());
            Err(match error {
                ProofError::Checkpoint(_) => {
                    failure.hint("is it the key of this log? It must be the one that `init` printed")
                }
                _ => failure,
            })
        }
    }
}

fn shown(proved: &Proved) -> Shown {
    let cosigned = |by: &crate::audit::proof::Cosigned| Cosigned {
        witness: by.witness.clone(),
        time: by.time.to_string(),
    };
    Shown {
        log: proved.log.clone(),
        epoch: proved.epoch,
        index: proved.index,
        size: proved.size,
        root: proved.root.to_string(),
        cosigned: proved.cosigned.iter().map(cosigned).collect(),
        unchecked: proved.unchecked.clone(),
        // Of a newer gateway it may be of a form that is not known here; it is JSON all the same.
        record: serde_json::from_str(&proved.record).unwrap_or_else(|_| Value::from(proved.record.as_str())),
    }
}

fn print(out: Output, proved: &Proved) -> io::Result<()> {
    out.line("The proof holds.")?;
    out.pairs(&[
        ("Log", format!("{}, epoch {}", proved.log, proved.epoch)),
        (
            "Record",
            format!(
                "number {} of the first {} that the log signed",
                proved.index, proved.size
            ),
        ),
        ("Root", proved.root.to_string()),
    ])?;
    for by in &proved.cosigned {
        out.pairs(&[(
            "Cosigned",
            format!("by {}: it was there on {}", by.witness, by.time),
        )])?;
    }
    if proved.cosigned.is_empty() {
        out.line("Cosigned  by nobody whose key was given: whoever has the log's private key could have made this log and this proof at any time.")?;
    }
    if !proved.unchecked.is_empty() {
        out.line(format!(
            "Not checked  signatures of {}: give their keys with --witness-key PUB.",
            plain(&words(&proved.unchecked))
        ))?;
    }
    if let Ok(record) = serde_json::from_str(&proved.record) {
        out.line(render::line(&record))?;
    }
    out.line(plain(&proved.record))
}
