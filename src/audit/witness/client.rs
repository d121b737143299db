//! The gateway's side: asks the witness for a cosignature every ten seconds, beside everything else. A witness that is slow
//! or away costs cosignatures, and never a request.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use signed_note::{Note, VerifierList};
use tokio_util::sync::CancellationToken;

use super::WitnessKey;
use super::config::Config;
use super::request::{AddCheckpoint, number};
use crate::audit::Audit;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::prove::{COSIGNATURES, ProveError, consistency, cosigned};
use crate::outbound::{self, Outbound, OutboundError};
use crate::record::{Event, WitnessEvent};
use crate::telemetry::family;

/// How long the witness may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const LONGEST: usize = 16 * 1024;

/// Where the settings are.
const SETTINGS: &str = "audit.witness";

/// Why there is no cosignature this time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Unreachable(String),
    #[error("it answered {0}")]
    Status(u16),
    #[error("its answer has no cosignature of the key in `[audit.witness] key`")]
    Answer,
    #[error(
        "it cosigned {known} records of this log, of which there are {size}: this log was rolled back, or another continues it"
    )]
    Ahead { known: u64, size: u64 },
    #[error("it saw other records than this log has among the first {known}: one of the two was rewritten")]
    Fork { known: u64 },
    #[error("it cosigned a later epoch of this log: this log was rolled back, or another continues it")]
    Ended,
    #[error(transparent)]
    Prove(#[from] ProveError),
    #[error("the cosignature cannot be stored: {0}")]
    Store(io::Error),
}

impl Failure {
    /// What the record and the metric call it.
    const fn problem(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Ahead { .. } | Self::Fork { .. } | Self::Ended => "conflict",
            Self::Status(_) | Self::Answer => "refused",
            Self::Prove(_) | Self::Store(_) => "failed",
        }
    }

    const fn known(&self) -> Option<u64> {
        match self {
            Self::Ahead { known, .. } | Self::Fork { known } => Some(*known),
            _ => None,
        }
    }
}

/// Asks one witness for cosignatures.
pub struct Client {
    config: Config,
    http: Outbound,
    audit: Audit,
    results: Family<[(&'static str, &'static str); 1], Counter>,
    records: Gauge<u64, AtomicU64>,
}

impl Client {
    /// Whether one can be made with these settings.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub fn check(config: &Config) -> Result<(), OutboundError> {
        outbound::client(&config.url, config.ca_file.as_deref(), SETTINGS).map(drop)
    }

    /// A client for the checkpoints of `audit`.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub fn new(config: Config, audit: Audit) -> Result<Self, OutboundError> {
        let (results, records) = (Family::default(), Gauge::default());
        Ok(Self {
            http: outbound::client(&config.url, config.ca_file.as_deref(), SETTINGS)?,
            config,
            audit,
            results,
            records,
        })
    }

    /// Registers `audit_witness` and `audit_cosigned_records`.
    pub fn register(&self, registry: &mut Registry) {
        family::register(registry, "audit_witness", self.results.clone());
        family::register(registry, "audit_cosigned_records", self.records.clone());
    }

    /// Asks on its beat until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut seen = Seen::default();
        let folder = self.audit.folder().to_owned();
        if let Some(newest) = self.audit.checkpoint() {
            seen.known = self.stored(folder, newest.epoch).await;
            self.records.set(seen.known);
        }
        let mut ticks = tokio::time::interval(self.config.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let round = async {
                ticks.tick().await;
                self.round(&mut seen).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = round => {}
            }
        }
    }

    /// Size of the checkpoint of this epoch that the witness is known to have cosigned.
    async fn stored(&self, folder: PathBuf, epoch: u64) -> u64 {
        let key = self.config.key.clone();
        let read = move || {
            let ours = |of: &Checkpoint| of.epoch == epoch && key.cosigned(of).is_some();
            cosigned(&folder).into_iter().find(ours).map_or(0, |of| of.size)
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(0)
    }

    async fn round(&self, seen: &mut Seen) {
        let Some(newest) = self.audit.checkpoint() else {
            return;
        };
        if seen.done == Some((newest.epoch, newest.size)) {
            return;
        }
        let done = self.cosign(seen.known, &newest).await;
        let result = done.as_ref().map_or_else(Failure::problem, |()| "cosigned");
        self.results.get_or_create(&[("result", result)]).inc();
        match done {
            Ok(()) => {
                (seen.known, seen.done) = (newest.size, Some((newest.epoch, newest.size)));
                self.records.set(newest.size);
                if seen.failing.take().is_some() {
                    tracing::info!(records = newest.size, "the witness cosigns again");
                }
            }
            // One record for each episode: a witness that is away for a week is not a reason to write.
            Err(failure) if seen.failing != Some(failure.problem()) => {
                let (problem, name) = (failure.problem(), self.config.key.name());
                seen.failing = Some(problem);
                tracing::error!(
                    records = newest.size,
                    "the witness `{name}` does not cosign: {failure}"
                );
                self.audit.write_soon(Event::Witness(WitnessEvent {
                    witness: name.to_owned(),
                    problem: problem.to_owned(),
                    size: newest.size,
                    known: failure.known(),
                }));
            }
            Err(_) => {}
        }
    }

    /// Has `newest` cosigned, from the size `known` on or from the one that the witness knows instead.
    async fn cosign(&self, known: u64, newest: &Checkpoint) -> Result<(), Failure> {
        let size = newest.size;
        let known = known.min(size);
        let old = match self.ask(known, newest).await? {
            Asked::Cosigned(cosigned) => return self.store(cosigned).await,
            Asked::Knows(known) if known > size => return Err(Failure::Ahead { known, size }),
            Asked::Knows(same) if same == known => return Err(Failure::Fork { known }),
            Asked::Knows(other) => other,
            Asked::Other => return Err(Failure::Fork { known }),
        };
        match self.ask(old, newest).await? {
            Asked::Cosigned(cosigned) => self.store(cosigned).await,
            Asked::Knows(known) if known > size => Err(Failure::Ahead { known, size }),
            Asked::Knows(_) | Asked::Other => Err(Failure::Fork { known: old }),
        }
    }

    async fn ask(&self, old: u64, newest: &Checkpoint) -> Result<Asked, Failure> {
        let (folder, size) = (self.audit.folder().to_owned(), newest.size);
        let prove = move || consistency(&folder, old, size);
        let proof = tokio::task::spawn_blocking(prove).await;
        let request = AddCheckpoint {
            old,
            proof: proof.map_err(|error| Failure::Unreachable(error.to_string()))??,
            checkpoint: newest.clone(),
        };
        let answer = tokio::time::timeout(PATIENCE, self.post(request.text())).await;
        let (status, body) = answer.map_err(|_| Failure::Unreachable("no answer in 10 s".into()))??;
        match status {
            200 => cosigned_by(&self.config.key, newest, &body)
                .map(Asked::Cosigned)
                .ok_or(Failure::Answer),
            409 => number(body.trim_end_matches('\n'))
                .map(Asked::Knows)
                .ok_or(Failure::Status(status)),
            410 => Err(Failure::Ended),
            422 => Ok(Asked::Other),
            _ => Err(Failure::Status(status)),
        }
    }

    async fn post(&self, body: String) -> Result<(u16, String), Failure> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| Failure::Unreachable(root_cause(error));
        let base = self.config.url.to_string();
        let uri: Uri = format!("{}/add-checkpoint", base.trim_end_matches('/'))
            .parse()
            .map_err(|error: http::uri::InvalidUri| unreachable(&error))?;
        let request = Request::post(uri)
            .header(CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| unreachable(&error))?;
        let answer = self.http.request(request).await;
        let (head, body) = answer.map_err(|error| unreachable(&error))?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|error| unreachable(&*error))?.to_bytes();
        let text = String::from_utf8(body.to_vec()).map_err(|_| Failure::Answer)?;
        Ok((head.status.as_u16(), text))
    }

    /// Keeps the cosigned checkpoint beside the log, in place of the one before it in its epoch.
    async fn store(&self, newest: Checkpoint) -> Result<(), Failure> {
        let folder = self.audit.folder().to_owned();
        let stored = tokio::task::spawn_blocking(move || store(&folder, &newest)).await;
        stored
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(Failure::Store)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What is known of the witness.
#[derive(Default)]
struct Seen {
    /// Size that it cosigned last.
    known: u64,
    /// Epoch and size that need not be asked for again.
    done: Option<(u64, u64)>,
    /// What is said and recorded already.
    failing: Option<&'static str>,
}

/// What the witness answered.
enum Asked {
    Cosigned(Checkpoint),
    /// It cosigned another size.
    Knows(u64),
    /// It saw other records.
    Other,
}

/// The checkpoint with the witness's cosignature; `None` when there is none in its answer.
fn cosigned_by(key: &WitnessKey, newest: &Checkpoint, lines: &str) -> Option<Checkpoint> {
    let note = Note::from_bytes(format!("{}{lines}", newest.note).as_bytes()).ok()?;
    // SECURITY: what others may have added is left out; a cosignature is one of the key in the settings.
    let (verified, _) = note
        .verify(&VerifierList::new(vec![Box::new(key.clone())]))
        .ok()?;
    let line = String::from_utf8(verified.first()?.to_bytes()).ok()?;
    let cosigned = Checkpoint::parse(&format!("{}{line}", newest.note)).ok()?;
    // SECURITY: an answer with an empty line in it makes another text of the note. Only what is signed under this one counts.
    key.cosigned(&cosigned).map(|_| cosigned)
}

/// What is at the bottom of an error: the rest says that a request failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn store(folder: &Path, newest: &Checkpoint) -> io::Result<()> {
    let mut text = format!("{}\n", newest.note);
    for other in cosigned(folder) {
        if other.epoch != newest.epoch {
            text.push_str(&other.note);
            text.push('\n');
        }
    }
    let path = folder.join(COSIGNATURES);
    let temporary = path.with_extension("new");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    // It is the newest word of somebody else: a crash must not leave half of it.
    file.sync_all()?;
    std::fs::rename(&temporary, &path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::LogKey;
    use crate::audit::witness::WitnessSigner;
    use crate::clock::Timestamp;
    use crate::id::SystemSource;
    use crate::record::Hash;

    #[test]
    fn an_answer_whose_signature_is_under_another_text_is_no_cosignature() {
        let source = SystemSource::new();
        let log = LogKey::generate(&source).unwrap();
        let newest = Checkpoint::sign(&log, "gw.example.org/log", 1, 5, Hash::of(b"root")).unwrap();
        let signer = WitnessSigner::generate("witness.example.org", &source).unwrap();
        let time = Timestamp::from_secs(1_795_262_400);
        let line = signer.cosign(&newest, time);
        let stranger = WitnessSigner::generate("other.example.org", &source).unwrap();
        let more = format!("{}{line}", stranger.cosign(&newest, time));
        for answer in [&line, &more] {
            let cosigned = cosigned_by(signer.public(), &newest, answer).unwrap();
            assert_eq!(cosigned.note, format!("{}{line}", newest.note));
        }
        // The note with `X` under it is another text, under which the witness can sign as well.
        let other = Checkpoint {
            note: format!("{}X\n\n", newest.note),
            ..newest.clone()
        };
        let answer = format!("X\n\n{}", signer.cosign(&other, time));
        let whole = Note::from_bytes(format!("{}{answer}", newest.note).as_bytes()).unwrap();
        let keys = VerifierList::new(vec![Box::new(signer.public().clone())]);
        assert!(whole.verify(&keys).is_ok(), "it is signed, but not this");
        assert_eq!(cosigned_by(signer.public(), &newest, &answer), None);
    }

    #[test]
    fn a_log_rolled_back_across_an_epoch_is_a_conflict() {
        assert_eq!(Failure::Ended.problem(), "conflict");
        assert_eq!(Failure::Status(404).problem(), "refused");
    }
}
