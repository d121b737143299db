//! Recovery of an administrator by whoever operates the machine: where nobody is left who could reset her account.
//!
//! It goes through the administration socket of the running gateway (`admin.sock` in the data folder), or, where none
//! runs, holds the folder's lock meanwhile. Both are for the account that owns the folder, and for root; what is done is
//! in the audit log before it takes effect.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::{Built, FolderLock, LockError, build};
use crate::audit::{Audit, Receipt};
use crate::config::{self, Config};
use crate::delegate::{RESET, Which, Why};
use crate::id::{Ids, RequestId};
use crate::record::{
    Change, ChangeEvent, DecisionEntry, Ending, Entry, Event, OPERATOR, Outcome, PlaceEntry, ResourceEntry,
    SubjectEntry,
};
use crate::secret::Secret;
use crate::state::Ready;
use crate::tool::{Kind, unfit_reason};
use crate::vo::{Directory, OWN_TOOL, Person, PersonState, SYSTEM_ADMINISTRATOR};

/// Longest question and answer, in bytes.
const LONGEST: u64 = 4096;
/// A question must come within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer may take a password hash, a record and a transaction.
const ANSWER: Duration = Duration::from_secs(60);

/// Which account is to be recovered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// User name; may be absent where there is one system administrator.
    pub user: Option<String>,
    /// Whether she becomes a system administrator when she is none.
    #[serde(default)]
    pub promote: bool,
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// User name.
    pub user: String,
    /// Good for choosing an own password.
    // SECURITY: for the operator's eyes, over a socket that only she reaches.
    #[serde(serialize_with = "exposed")]
    pub one_time_password: Secret<String>,
    /// Whether the account was suspended and no longer is.
    pub resumed: bool,
    /// Whether she has become a system administrator.
    pub promoted: bool,
    /// The request that the records name.
    pub request: String,
}

/// What the socket is asked.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Question {
    Backup(Backup),
    Accept(AcceptState),
    Recover(Recover),
}

/// What the store holds of a level is to be what it must hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptState {
    /// Name or id of the VO; `gateway` for the gateway's own level.
    pub accept: String,
    /// Why.
    pub reason: String,
}

/// A backup begins, which is to be on record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Backup {
    backup: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Recovered),
    /// Under this request.
    Noted(String),
    Refused(String),
}

fn exposed<S: serde::Serializer>(secret: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// Recovers an account of the gateway in `data`, running or not.
///
/// # Errors
/// In words for the operator; then nothing has changed.
pub async fn recover(data: &Path, asked: &Recover, ids: Ids) -> anyhow::Result<Recovered> {
    match FolderLock::take(data) {
        Ok(_lock) => offline(data, asked, ids).await,
        Err(LockError::Held { .. }) => match ask(&socket(data), &Question::Recover(asked.clone())).await? {
            Answer::Done(done) => Ok(done),
            _ => anyhow::bail!("the running gateway is of another version"),
        },
        Err(error) => Err(error.into()),
    }
}

/// Takes what the store of the gateway in `data` holds of a level for what it must hold, running or not: for where nobody is
/// left who could do so through the gateway. Gives the request.
///
/// # Errors
/// In words for the operator; then nothing has changed.
pub async fn accept_state(data: &Path, asked: &AcceptState, ids: Ids) -> anyhow::Result<String> {
    match FolderLock::take(data) {
        Ok(_lock) => {
            let config = Config::load(data)?;
            let base = config::origin(&config.gateway.name, config.gateway.listen.port());
            let built = build(&config, &base, ids).await?;
            let done = accepted(&built, asked, rustix::process::geteuid().as_raw()).await;
            built.audit.close("a state was accepted").await;
            built.db.close().await;
            done
        }
        Err(LockError::Held { .. }) => match ask(&socket(data), &Question::Accept(asked.clone())).await? {
            Answer::Noted(request) => Ok(request),
            _ => anyhow::bail!("the running gateway is of another version"),
        },
        Err(error) => Err(error.into()),
    }
}

/// Has the gateway that runs in `data` write down that the folder is backed up now. Gives the request.
pub(super) async fn note_backup(data: &Path) -> anyhow::Result<String> {
    match ask(&socket(data), &Question::Backup(Backup { backup: true })).await? {
        Answer::Noted(request) => Ok(request),
        _ => anyhow::bail!("the running gateway is of another version"),
    }
}

/// With the folder's lock held: everything as a start does it, without listeners.
async fn offline(data: &Path, asked: &Recover, ids: Ids) -> anyhow::Result<Recovered> {
    let config = Config::load(data)?;
    let base = config::origin(&config.gateway.name, config.gateway.listen.port());
    let built = build(&config, &base, ids).await?;
    let done = done(&built, asked, rustix::process::geteuid().as_raw()).await;
    built.audit.close("an account was recovered").await;
    built.db.close().await;
    done
}

/// Through the running gateway.
async fn ask(socket: &Path, asked: &Question) -> anyhow::Result<Answer> {
    let unreachable = || format!("the running gateway does not answer at `{}`", socket.display());
    let talk = async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut question = serde_json::to_vec(asked)?;
        question.push(b'\n');
        stream.write_all(&question).await?;
        let mut answer = String::new();
        stream.take(LONGEST).read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(ANSWER, talk)
        .await
        .with_context(unreachable)?;
    let answer = answer.with_context(unreachable)?;
    match serde_json::from_str(&answer).with_context(unreachable)? {
        Answer::Refused(why) => Err(anyhow::Error::msg(why)),
        answer => Ok(answer),
    }
}

fn socket(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

/// The administration socket of a running gateway.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Opens it. The folder's lock is held, so one that is there already is nobody's.
    pub(super) fn open(data: &Path) -> std::io::Result<Self> {
        let path = socket(data);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers one after the other until told to stop.
    pub(super) async fn serve(self, built: Arc<Built>, stop: CancellationToken) {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            if let Err(error) = answer(stream, &built).await {
                tracing::warn!("the administration socket: {error:#}");
            }
        }
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(mut stream: UnixStream, built: &Built) -> anyhow::Result<()> {
    let peer = stream.peer_cred()?.uid();
    // SECURITY: the folder and the socket's mode keep others out already; who gets in all the same is nobody else either.
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        anyhow::bail!("the account {peer} was sent away");
    }
    let mut line = String::new();
    let mut lines = BufReader::new((&mut stream).take(LONGEST));
    tokio::time::timeout(PATIENCE, lines.read_line(&mut line)).await??;
    let said = match serde_json::from_str(&line) {
        Ok(Question::Recover(asked)) => done(built, &asked, peer).await.map(Answer::Done),
        Ok(Question::Backup(_)) => noted(built, peer).await.map(Answer::Noted),
        Ok(Question::Accept(asked)) => accepted(built, &asked, peer).await.map(Answer::Noted),
        Err(error) => Err(anyhow::anyhow!("not a question: {error}")),
    };
    let said = said.unwrap_or_else(|error| Answer::Refused(format!("{error:#}")));
    let text = serde_json::to_vec(&said)?;
    tokio::time::timeout(PATIENCE, stream.write_all(&text)).await??;
    Ok(())
}

/// Gives the account a one-time password, and back what it lacks. `by` is the operator's account on this machine.
async fn done(built: &Built, asked: &Recover, by: u32) -> anyhow::Result<Recovered> {
    let person = chosen(built, asked)?;
    let gateway = Directory::gateway();
    let now = built.ids.clock().now();
    let directory = built.vos.handle().load();
    let holds = directory
        .holders(gateway, SYSTEM_ADMINISTRATOR, now)
        .contains(&person.id);
    let promote = asked.promote && !holds;
    let resume = matches!(
        person.standing(now),
        PersonState::Suspended | PersonState::Expired
    );
    // Before the store's lock is taken: a password hash takes its time.
    let one_time = built.authenticate.one_time_password().await?;
    let request: RequestId = built.ids.next()?;
    let mut tx = built.states.begin().await?;
    let mut changes = Vec::new();
    if promote {
        let assigned = built
            .vos
            .assign(&mut tx, gateway, SYSTEM_ADMINISTRATOR, person.id, None);
        changes.push(assigned.await?);
    }
    if resume {
        changes.push(built.vos.resume_person(&mut tx, person.id).await?);
    }
    let reset = built
        .authenticate
        .reset_password(&mut tx, &person, one_time, request)
        .await?;
    changes.push(Change {
        action: "admin.recover".into(),
        ..reset.change
    });
    // Whoever has lost her factor and her recovery codes has nobody else to ask.
    let factors = built
        .authenticate
        .reset_factors(&mut tx, &person, request)
        .await?;
    changes.extend(factors.into_iter().flat_map(|reset| reset.changes));
    // SECURITY: as with every reset.
    let which = Which::all_of(person.id);
    let revoked = built.delegate.revoke(&mut tx, &which, Why::Revoked, Some(RESET));
    let revoked = revoked.await?;
    changes.extend(revoked.changes);
    let mut ready = tx.ready(&changes).await?;
    ready.tx().applied(request, now).await?;
    let (mut state, steps) = ready.records(request, true);
    // INVARIANT: what the operator does is on record before it takes effect, like everybody's, and so is how it ended: a
    // start after a crash looks whether it was applied.
    let events = changes
        .into_iter()
        .map(|change| by_operator(change, by))
        .map(|change| {
            let state = std::mem::take(&mut state);
            Event::Change(Box::new(ChangeEvent {
                state,
                ..ChangeEvent::of(request, change)
            }))
        })
        .chain(steps)
        .chain(reset.ended.iter().cloned().map(Event::SessionEnded))
        .collect();
    let mut intent = intent(request, "admin.recover", by);
    intent.resource = Some(ResourceEntry {
        kind: "person".into(),
        id: person.id.to_string(),
        generation: None,
        owner: None,
        parents: Vec::new(),
    });
    let receipt = built.audit.intent(intent, events).await?;
    let committed = signed_then(&built.audit, &receipt, ready, request).await;
    let applied = committed.is_ok();
    let ending = if applied {
        Ending::Applied
    } else {
        Ending::NotApplied
    };
    let recorded = receipt.outcome(Outcome::ended(request, ending)).await;
    if !applied {
        committed?;
    }
    let forgotten = match &reset.ended {
        Some(ended) => {
            let sessions = ended.sessions.iter();
            sessions.for_each(|session| built.delegate.end_session(*session));
            built.authenticate.forget(ended).await
        }
        None => Ok(()),
    };
    built.delegate.forget_proxies(&revoked.serials);
    forgotten?;
    if let Err(error) = recorded {
        tracing::error!("the outcome of {request} is written later: {error}");
    }
    tracing::warn!(
        "the account person/{} was recovered by the operator of this machine (account {by})",
        person.id
    );
    Ok(Recovered {
        user: person.username.clone(),
        one_time_password: reset.password,
        resumed: resume,
        promoted: promote,
        request: request.to_string(),
    })
}

/// The gateway's own change, whatever VO the account comes from: there system administrators look for it.
pub(super) fn by_operator(change: Change, by: u32) -> Change {
    let mut after = change.after.unwrap_or_else(|| json!({}));
    if let Value::Object(after) = &mut after {
        after.insert("by".into(), json!({ "operator": by }));
        after.insert("home".into(), json!(change.vo));
    }
    Change {
        vo: Directory::gateway(),
        after: Some(after),
        ..change
    }
}

/// Accepts what the store holds of a level. `by` is the operator's account on this machine.
async fn accepted(built: &Built, asked: &AcceptState, by: u32) -> anyhow::Result<String> {
    if let Some(flaw) = unfit_reason(&asked.reason) {
        anyhow::bail!("say why, with --reason: {flaw}");
    }
    built.states.load().await?;
    let doubt = built
        .states
        .doubts()
        .into_iter()
        .find(|doubt| doubt.name == asked.accept || doubt.vo.to_string() == asked.accept)
        .with_context(|| format!("`{}` is not in doubt", asked.accept))?;
    let request: RequestId = built.ids.next()?;
    let mut tx = built.states.begin().await?;
    let doubt = tx.accept(doubt.vo, doubt.found).await?;
    let mut ready = tx.ready(&[]).await?;
    ready.tx().applied(request, built.ids.clock().now()).await?;
    let (state, steps) = ready.records(request, true);
    // Of the level itself: whoever administers it finds who accepted what was changed there.
    let change = Change {
        vo: doubt.vo,
        ..by_operator(doubt.accepted(&asked.reason), by)
    };
    let events = std::iter::once(Event::Change(Box::new(ChangeEvent {
        state,
        ..ChangeEvent::of(request, change).because(Some(&asked.reason))
    })));
    let entry = intent(request, "state.accept", by);
    let receipt = built.audit.intent(entry, events.chain(steps).collect()).await?;
    let committed = signed_then(&built.audit, &receipt, ready, request).await;
    let ending = if committed.is_ok() {
        Ending::Applied
    } else {
        Ending::NotApplied
    };
    receipt.outcome(Outcome::ended(request, ending)).await?;
    committed?;
    Ok(request.to_string())
}

/// Commits what a receipt's batch says, once that is signed.
async fn signed_then(
    audit: &Audit,
    receipt: &Receipt,
    ready: Ready,
    request: RequestId,
) -> anyhow::Result<()> {
    if ready.moves() {
        audit.signed(receipt.seq()).await?;
    }
    Ok(ready.commit(request).await?)
}

/// Writes down that the operator takes a copy of everything. `by` is her account on this machine.
async fn noted(built: &Built, by: u32) -> anyhow::Result<String> {
    let request: RequestId = built.ids.next()?;
    let mut entry = intent(request, "backup", by);
    entry.place.kind = Some(Kind::Download.as_str().into());
    entry.place.method = "BACKUP".into();
    let receipt = built.audit.intent(entry, Vec::new()).await?;
    receipt.outcome(Outcome::ended(request, Ending::Answered)).await?;
    Ok(request.to_string())
}

/// The operator's request, as its record says it: permitted by who reaches the socket or the folder.
pub(super) fn intent(request: RequestId, task: &str, by: u32) -> Entry {
    Entry {
        request,
        trace: None,
        subject: SubjectEntry {
            kind: OPERATOR.into(),
            result: "ok".into(),
            ..SubjectEntry::default()
        },
        place: PlaceEntry {
            via: "gateway".into(),
            tool: Some(OWN_TOOL.into()),
            task: Some(task.into()),
            kind: Some(Kind::Update.as_str().into()),
            method: "RECOVER".into(),
            ..PlaceEntry::default()
        },
        parameters: BTreeMap::from([("operator".to_owned(), by.to_string())]),
        resource: None,
        decision: Some(Arc::new(DecisionEntry {
            permit: true,
            reason: "operator".into(),
            ..DecisionEntry::default()
        })),
        delegation: None,
        source: "local".into(),
        no_outcome: false,
    }
}

/// The account that is meant.
fn chosen(built: &Built, asked: &Recover) -> anyhow::Result<Arc<Person>> {
    let directory = built.vos.handle().load();
    let holders = directory.holders(
        Directory::gateway(),
        SYSTEM_ADMINISTRATOR,
        built.ids.clock().now(),
    );
    let names = || {
        let names = holders.iter().filter_map(|id| directory.person(*id));
        let names: Vec<String> = names.map(|person| format!("`{}`", person.username)).collect();
        names.join(", ")
    };
    let person = match (&asked.user, holders.as_slice()) {
        (Some(name), _) => directory
            .person_named(name)
            .filter(|person| person.state != PersonState::Ended)
            .with_context(|| {
                format!(
                    "there is no user `{name}`; the system administrators are {}",
                    names()
                )
            })?,
        (None, [only]) => directory
            .person(*only)
            .context("the system administrator has no account")?,
        (None, []) => {
            anyhow::bail!("there is no system administrator; name an account with --user NAME --promote")
        }
        (None, _) => anyhow::bail!(
            "there are several system administrators, name one with --user NAME: {}",
            names()
        ),
    };
    anyhow::ensure!(
        asked.promote || holders.contains(&person.id),
        "`{}` is no system administrator (these are: {}); --promote makes her one. The administrators of her home reset \
         all other accounts",
        person.username,
        names()
    );
    Ok(person.clone())
}
