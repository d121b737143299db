//! `audit.prove` and `audit.prove_gateway`: one record with the proof that it is in the log, for whoever has its public key.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{event, of_vo};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, VO, task};
use crate::api::{Api, problem};
use crate::audit::Proof;
use crate::audit::prove::{Place, ProveError, ended, prove};
use crate::id::{RequestId, VoId};
use crate::problem::{Kind, Problem};
use crate::record::Record;
use crate::tool::{self, Task};

/// Parameters of the query.
const QUERY: &[&str] = &["record", "request", "event"];
/// How long a record may wait for the next checkpoint, in looks.
const LOOKS: u32 = 30;
const LOOK: Duration = Duration::from_millis(100);
/// A proof may read a good part of the log: so many at once.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// A record and why it is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordProof {
    /// Place of the record: `EPOCH.NUMBER`.
    pub record: String,
    /// Kind of the record.
    pub event: String,
    /// Records under the checkpoint in the proof.
    pub size: u64,
    /// The proof: a C2SP tlog-proof with the record in `extra`.
    pub proof: String,
}

pub(in crate::api) struct Prove;

impl Operation for Prove {
    type Body = Nothing;
    type Answer = RecordProof;
    const SUMMARY: &'static str =
        "One record of a virtual organisation, with the proof that it is in the log";

    fn task() -> Task {
        with_query(task(
            "audit.prove",
            "GET /api/v1/vos/{vo:slug}/audit/proof",
            tool::Kind::Read,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<RecordProof, Problem> {
        let vo = call.vo()?.id;
        answer(api, call, Some(vo)).await
    }
}

pub(in crate::api) struct ProveGateway;

impl Operation for ProveGateway {
    type Body = Nothing;
    type Answer = RecordProof;
    const SUMMARY: &'static str =
        "One record of the gateway's own level, with the proof that it is in the log";

    fn task() -> Task {
        with_query(task(
            "audit.prove_gateway",
            "GET /api/v1/audit/proof",
            tool::Kind::Read,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<RecordProof, Problem> {
        answer(api, call, None).await
    }
}

fn with_query(task: Task) -> Task {
    Task {
        query: Some(QUERY.iter().map(|name| (*name).to_owned()).collect()),
        ..task
    }
}

async fn answer(api: &Api, call: &Call, vo: Option<VoId>) -> Result<RecordProof, Problem> {
    let place: Option<Place> = call.query_as("record", "`EPOCH.NUMBER`, such as `1.4711`")?;
    let request: Option<RequestId> = call.query_as("request", "an id")?;
    let event = event(call)?;
    let (epoch, proof, record) = match (place, request) {
        (Some(place), None) if event.is_none() => {
            signed(api, place).await?;
            let (proof, record) = proved(api, place).await?;
            (place.epoch, proof, record)
        }
        (None, Some(request)) => {
            // Without a kind it is the record with which the request began.
            let right = |record: &Record| {
                let name = record.event.name();
                event
                    .as_deref()
                    .map_or(matches!(name, "intent" | "refused"), |event| event == name)
            };
            of_request(api, request, right).await?
        }
        _ => {
            let detail = "give `record`, or `request` and perhaps `event`";
            return Err(Problem::new(Kind::Invalid, detail));
        }
    };
    let answer = RecordProof::of(epoch, &proof, &record);
    // SECURITY: the record in the proof itself says whose it is; one of another VO looks like none.
    if of_vo(api, vec![record], vo).await?.is_empty() {
        return Err(unknown());
    }
    Ok(answer)
}

/// The proof of the first record of a request that is `right`; `None` when the log has no such record (any more).
pub(in crate::api) async fn of(
    api: &Api,
    request: RequestId,
    right: impl Fn(&Record) -> bool,
) -> Result<Option<RecordProof>, Problem> {
    match of_request(api, request, right).await {
        Ok((epoch, proof, record)) => Ok(Some(RecordProof::of(epoch, &proof, &record))),
        Err(problem) if problem.kind == Kind::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}

impl RecordProof {
    fn of(epoch: u64, proof: &Proof, record: &Record) -> Self {
        Self {
            record: format!("{epoch}.{}", record.seq),
            event: record.event.name().to_owned(),
            size: proof.checkpoint().size,
            proof: proof.to_string(),
        }
    }
}

/// The first record of a request that is `right`. The index only finds it.
async fn of_request(
    api: &Api,
    request: RequestId,
    right: impl Fn(&Record) -> bool,
) -> Result<(u64, Proof, Record), Problem> {
    let records = api.audit.search().request(request).await.map_err(problem)?;
    let record = records.into_iter().find(right).ok_or_else(unknown)?;
    let present = api.audit.checkpoint().map_or(1, |newest| newest.epoch);
    let seq = record.seq;
    signed(api, Place { epoch: present, seq }).await?;
    let folder: PathBuf = api.audit.folder().to_owned();
    let failed = |_: std::io::Error| Problem::new(Kind::Internal, "the audit log could not be read");
    let ended = tokio::task::spawn_blocking(move || ended(&folder)).await;
    let ended = ended.map_err(std::io::Error::other).map_err(failed)?;
    let ended = ended.map_err(failed)?;
    // Those that there are: the number of one that a restore began is a time, and far from the one before.
    for epoch in std::iter::once(present).chain(ended.into_iter().rev()) {
        // A record does not say its epoch; its salt tells it from any other.
        match proved(api, Place { epoch, seq }).await {
            Ok((proof, found)) if found == record => return Ok((epoch, proof, found)),
            Ok(_) => {}
            Err(problem) if problem.kind == Kind::NotFound => {}
            Err(problem) => return Err(problem),
        }
    }
    Err(unknown())
}

/// Waits until the next checkpoint covers a record that was just written.
async fn signed(api: &Api, place: Place) -> Result<(), Problem> {
    let durable = api.audit.size();
    for _ in 0..LOOKS {
        let newest = api.audit.checkpoint();
        let waits = |newest: &crate::audit::Checkpoint| {
            newest.epoch == place.epoch && (newest.size..durable).contains(&place.seq)
        };
        if !newest.as_ref().is_some_and(waits) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Problem::new(Kind::Busy, "the record is not under a checkpoint yet").retry_after(1))
}

async fn proved(api: &Api, place: Place) -> Result<(Proof, Record), Problem> {
    let _permit = AT_ONCE.acquire().await;
    let folder: PathBuf = api.audit.folder().to_owned();
    let proof = tokio::task::spawn_blocking(move || prove(&folder, place)).await;
    let failed = |detail: &str| Problem::new(Kind::Internal, detail);
    let proof = proof.map_err(|_| failed("the proof could not be made"))?;
    let proof = proof.map_err(|error| match error {
        ProveError::NotCovered { .. } | ProveError::Epoch(_) | ProveError::Request(_) => unknown(),
        error => {
            tracing::error!("no proof of record {}.{}: {error}", place.epoch, place.seq);
            failed("the log cannot be proved from: `countersign audit verify` says what is wrong")
        }
    })?;
    let record = serde_json::from_slice(proof.record()).map_err(|_| failed("the record cannot be read"))?;
    Ok((proof, record))
}

fn unknown() -> Problem {
    Problem::new(Kind::NotFound, "there is no such record here")
}
