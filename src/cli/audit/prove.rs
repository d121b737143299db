//! `countersign audit prove`: one record with the proof that it is in the log.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::log_folder;
use crate::api::audit::prove::RecordProof;
use crate::audit::prove::{Place, ProveError, find, prove};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::id::RequestId;
use crate::record::Event;

/// Proves that one record is in the log: a small file (C2SP tlog-proof) with the record, a checkpoint and what connects
/// the two. Whoever has the log's public key can check it without the gateway and without the log: `countersign audit
/// check-proof`, or the Python program of the guide.
///
/// The record is named by its place (epoch and number, as in `1.4711`) or by a request id: then it is the one with which
/// the request began, or the one of the kind in --event. With a data folder the files are read, also while no gateway runs.
/// Without one the gateway is asked, by an administrator of the virtual organisation for its records, or without --vo by a
/// system administrator for those of the gateway's own level.
///
/// Examples:
///   countersign audit prove 0199a1b2-0000-7000-8000-000000000001 --vo imaging --output case-7.tlog-proof
///   countersign audit prove 0199a1b2-0000-7000-8000-000000000001 --vo imaging --event mint --output mint.tlog-proof
///   countersign audit prove 1.4711 --data /srv/countersign > case-7.tlog-proof
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Prove {
    /// Place of the record, or id of a request.
    #[arg(value_name = "EPOCH.NUMBER|REQUEST", value_parser = asked)]
    record: Asked,
    /// The data folder, or the folder of a log.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Asks the gateway for a record of this virtual organisation.
    #[arg(long, conflicts_with = "data")]
    vo: Option<String>,
    /// Which record of the request, by its kind; the intent or the refusal when not given.
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(Event::NAMES))]
    event: Option<String>,
    /// Where to write the proof; standard output when not given.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Place(Place),
    Request(RequestId),
}

fn asked(text: &str) -> Result<Asked, String> {
    if let Ok(request) = text.parse() {
        return Ok(Asked::Request(request));
    }
    text.parse().map(Asked::Place).map_err(|_| {
        "give the place of a record, `EPOCH.NUMBER` (such as 1.4711), or the id of a request".to_owned()
    })
}

/// Runs the command.
pub(super) async fn run(args: Prove, out: Output) -> Result<(), Failure> {
    if matches!(args.record, Asked::Place(_)) && args.event.is_some() {
        return Err(Failure::usage(
            "--event goes with a request id: a place names one record",
        ));
    }
    let found = match &args.data {
        Some(data) => offline(&log_folder(data), &args)?,
        None => online(&args).await?,
    };
    let Some(file) = &args.output else {
        return Ok(out.show(&found, |out, found| out.line(found.proof.trim_end_matches('\n')))?);
    };
    write(file, &found.proof)?;
    out.show(&found, |out, found| {
        out.line(format!(
            "The proof of record {} ({}) is in `{}`, against a checkpoint of {} records.",
            found.record,
            found.event,
            file.display(),
            found.size
        ))
    })?;
    Ok(())
}

async fn online(args: &Prove) -> Result<RecordProof, Failure> {
    let client = Client::saved()?;
    let call = match &args.vo {
        Some(vo) => client.task("audit.prove").at("vo", vo),
        None => client.task("audit.prove_gateway"),
    };
    let call = match args.record {
        Asked::Place(place) => call.query("record", format!("{}.{}", place.epoch, place.seq)),
        Asked::Request(request) => call.query("request", request.to_string()),
    };
    call.maybe("event", args.event.as_ref()).fetch().await
}

fn offline(folder: &Path, args: &Prove) -> Result<RecordProof, Failure> {
    let place = match args.record {
        Asked::Place(place) => place,
        Asked::Request(request) => find(folder, request, args.event.as_deref()).map_err(failure)?,
    };
    let proof = prove(folder, place).map_err(failure)?;
    let record: serde_json::Value = serde_json::from_slice(proof.record())?;
    let event = record
        .get("event")
        .and_then(|event| event.as_object()?.keys().next());
    Ok(RecordProof {
        record: format!("{}.{}", place.epoch, place.seq),
        event: event.cloned().unwrap_or_default(),
        size: proof.checkpoint().size,
        proof: proof.to_string(),
    })
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text)
        .map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", file.display())))
}

fn failure(error: ProveError) -> Failure {
    match error {
        ProveError::NoLog(_) | ProveError::Epoch(_) | ProveError::Request(_) => {
            Failure::not_found(error.to_string())
        }
        ProveError::Dropped { .. } | ProveError::EpochDropped { .. } => Failure::not_found(error.to_string())
            .hint("a backup from before has it: countersign audit prove with --data on that"),
        ProveError::NotCovered { .. } => Failure::not_found(error.to_string())
            .hint("a record is under a checkpoint one second after it was written"),
        ProveError::Damaged(_) => {
            Failure::failed(error.to_string()).hint("countersign audit verify says what is wrong")
        }
        ProveError::File { .. } => Failure::failed(error.to_string()),
    }
}
