//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a creation that is asked for again, because its answer was
//! lost, is not done again.
//!
//! A key belongs to its person and to one request, for a day. The same request under it gets the same answer, another one is
//! refused, and so is one while the first is under way. Answers that show a secret are told once: what is kept then is only that
//! it was done. What was refused may be asked again under the same key.
//!
//! A key is claimed before anything is done. Where the gateway ended in between, the mark that every change of state leaves
//! (`applied`) says whether it came to anything.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;

use super::{Api, json, problem};
use crate::authorize::Permit;
use crate::body::{self, Body};
use crate::id::{PersonId, RequestId, VoId};
use crate::problem::{Kind, Problem};
use crate::record::Hash;
use crate::store::{StoreError, Tx, run, tx_rows};

/// The header.
pub(super) const HEADER: &str = "idempotency-key";
/// Longest key, in characters.
const LONGEST: usize = 128;
/// How long a key is kept.
const KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);
/// Keys of one person at a time.
const MOST: i64 = 1_000;
/// How an answer says that it was given before.
const REPLAYED: &str = "idempotency-replayed";

/// Requests that are under way in this process.
#[derive(Debug, Default)]
pub struct Running(Mutex<HashSet<RequestId>>);

impl Running {
    fn begin(&self, request: RequestId) -> Ending<'_> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(request);
        Ending(self, request)
    }

    fn has(&self, request: RequestId) -> bool {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.contains(&request)
    }
}

/// Takes a request off the list, however it ends.
struct Ending<'a>(&'a Running, RequestId);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut running = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.1);
    }
}

/// A request under a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    person: PersonId,
    home: VoId,
    request: RequestId,
    key: Hash,
    asked: Hash,
}

/// A key that was used before.
struct Known {
    asked: Hash,
    request: RequestId,
    status: Option<i64>,
    answer: Option<String>,
}

impl Asked {
    /// The key of a request; none where none was given, or nobody known asks.
    pub(super) fn of(
        (permit, request): (&Permit, RequestId),
        body: &[u8],
        headers: &HeaderMap,
        target: &str,
    ) -> Result<Option<Self>, Problem> {
        let Some(key) = key(headers)? else {
            return Ok(None);
        };
        let Some(person) = permit.subject().as_person() else {
            return Ok(None);
        };
        // Lengths stand before what varies, so that no two requests are written alike.
        let task = &permit.found().task.name;
        let mut text = format!("{} {task} {} {target} ", task.len(), target.len()).into_bytes();
        text.extend_from_slice(body);
        Ok(Some(Self {
            person: person.id,
            home: person.home,
            request,
            key: Hash::of(key.as_bytes()),
            asked: Hash::of(&text),
        }))
    }
}

/// The key as it was sent: a string with or without its quotation marks.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let flaw = || {
        let detail =
            format!("`Idempotency-Key` must stand once, with 1 to {LONGEST} printable ASCII characters");
        Problem::new(Kind::Malformed, detail)
    };
    let text = value.to_str().map_err(|_| flaw())?.trim();
    let bare = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    let fits = (1..=LONGEST).contains(&bare.len())
        && bare.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if !fits || values.next().is_some() {
        return Err(flaw());
    }
    Ok(Some(bare.to_owned()))
}

/// Does what is asked, or tells what became of it when it was asked before. `is_secret` says that the answer is told once.
pub(super) async fn once(
    api: &Api,
    asked: Asked,
    is_secret: bool,
    run: impl Future<Output = Result<Response<Body>, Problem>> + Send,
) -> Result<Response<Body>, Problem> {
    let _ending = api.running.begin(asked.request);
    if let Some(known) = claim(api, asked).await? {
        return told(known, asked);
    }
    match run.await {
        Ok(answer) => kept(api, asked, is_secret, answer).await,
        Err(refused) => {
            // What failed after its change was committed has been done.
            let done = api.db.was_applied(asked.request).await;
            let settled = match done {
                Ok(true) => settle(api, asked, StatusCode::INTERNAL_SERVER_ERROR, None).await,
                Ok(false) => release(api, asked).await,
                Err(error) => Err(error),
            };
            note(settled);
            Err(refused)
        }
    }
}

/// Takes the key for this request; gives what is known of it where it was taken already.
async fn claim(api: &Api, asked: Asked) -> Result<Option<Known>, Problem> {
    let now = api.now();
    let mut tx = api.db.begin_write().await.map_err(problem)?;
    run!(
        &mut tx,
        "DELETE FROM idempotency WHERE created_at < $1",
        now.minus(KEPT).micros()
    )
    .map_err(problem)?;
    if let Some(known) = look(&mut tx, asked).await.map_err(problem)? {
        tx.commit().await.map_err(problem)?;
        return settled(api, asked, known).await;
    }
    if count(&mut tx, asked.person).await.map_err(problem)? >= MOST {
        let detail = format!("a person has at most {MOST} idempotency keys in a day");
        return Err(Problem::new(Kind::TooManyAttempts, detail).retry_after(3_600));
    }
    let claimed = run!(
        &mut tx,
        "INSERT INTO idempotency (person, key, vo_id, asked, request, status, answer, created_at)
         VALUES ($1, $2, $3, $4, $5, NULL, NULL, $6) ON CONFLICT (person, key) DO NOTHING",
        asked.person.uuid(),
        asked.key.0.to_vec(),
        asked.home.uuid(),
        asked.asked.0.to_vec(),
        asked.request.uuid(),
        now.micros()
    )
    .map_err(problem)?;
    tx.commit().await.map_err(problem)?;
    match claimed {
        1 => Ok(None),
        _ => Err(in_progress()),
    }
}

/// What is known of a key that was used before. One whose request ended with a gateway is free again where nothing came of it.
async fn settled(api: &Api, asked: Asked, mut known: Known) -> Result<Option<Known>, Problem> {
    if known.status.is_some() || api.running.has(known.request) || known.asked != asked.asked {
        return Ok(Some(known));
    }
    if api.db.was_applied(known.request).await.map_err(problem)? {
        known.status = Some(i64::from(StatusCode::INTERNAL_SERVER_ERROR.as_u16()));
        return Ok(Some(known));
    }
    let mut tx = api.db.begin_write().await.map_err(problem)?;
    let taken = run!(
        &mut tx,
        "UPDATE idempotency SET request = $1 WHERE person = $2 AND key = $3 AND request = $4 AND status IS NULL",
        asked.request.uuid(),
        asked.person.uuid(),
        asked.key.0.to_vec(),
        known.request.uuid()
    )
    .map_err(problem)?;
    tx.commit().await.map_err(problem)?;
    match taken {
        1 => Ok(None),
        _ => Err(in_progress()),
    }
}

fn told(known: Known, asked: Asked) -> Result<Response<Body>, Problem> {
    if known.asked != asked.asked {
        let detail = "this `Idempotency-Key` was used for another request of yours";
        return Err(Problem::new(Kind::KeyReused, detail));
    }
    let (status, answer) = match (known.status, known.answer) {
        (None, _) => return Err(in_progress()),
        (Some(_), None) => {
            let detail = "this was done under the same `Idempotency-Key`, and its answer is told once";
            return Err(Problem::new(Kind::AlreadyDone, detail).with("request", known.request.to_string()));
        }
        (Some(status), Some(answer)) => (status, answer),
    };
    let status = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = json(status.unwrap_or(StatusCode::OK), "application/json", answer);
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn in_progress() -> Problem {
    let detail = "the first request with this `Idempotency-Key` is under way";
    Problem::new(Kind::InProgress, detail).retry_after(1)
}

/// Keeps an answer, where it may be told again.
async fn kept(
    api: &Api,
    asked: Asked,
    is_secret: bool,
    answer: Response<Body>,
) -> Result<Response<Body>, Problem> {
    let (head, body) = answer.into_parts();
    let broken = |_| Problem::new(Kind::Internal, "the answer was not put together");
    let whole = body.collect().await.map_err(broken)?.to_bytes();
    // SECURITY: a secret that is shown once stands nowhere.
    let text = (!is_secret).then(|| String::from_utf8_lossy(&whole).into_owned());
    note(settle(api, asked, head.status, text.as_deref()).await);
    Ok(Response::from_parts(head, body::full(whole)))
}

/// The request itself is done; that its key is not settled shows when it is asked again (`applied`).
fn note(settled: Result<(), StoreError>) {
    if let Err(error) = settled {
        tracing::error!("what became of an idempotency key was not written down: {error}");
    }
}

async fn look(tx: &mut Tx, asked: Asked) -> Result<Option<Known>, StoreError> {
    type Row = (Vec<u8>, uuid::Uuid, Option<i64>, Option<String>);
    let found = tx_rows!(
        tx,
        Row,
        "SELECT asked, request, status, answer FROM idempotency WHERE person = $1 AND key = $2",
        asked.person.uuid(),
        asked.key.0.to_vec()
    )?;
    let Some((asked, request, status, answer)) = found.into_iter().next() else {
        return Ok(None);
    };
    let asked = <[u8; 32]>::try_from(asked).map_err(|_| {
        StoreError::Inconsistent("an idempotency key has a hash of a wrong length".to_owned())
    })?;
    Ok(Some(Known {
        asked: Hash(asked),
        request: RequestId::from(request),
        status,
        answer,
    }))
}

async fn count(tx: &mut Tx, person: PersonId) -> Result<i64, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT COUNT(*) FROM idempotency WHERE person = $1",
        person.uuid()
    )?;
    Ok(found.first().map_or(0, |(count,)| *count))
}

async fn settle(api: &Api, asked: Asked, status: StatusCode, answer: Option<&str>) -> Result<(), StoreError> {
    let mut tx = api.db.begin_write().await?;
    run!(
        &mut tx,
        "UPDATE idempotency SET status = $1, answer = $2 WHERE person = $3 AND key = $4 AND request = $5",
        i64::from(status.as_u16()),
        answer,
        asked.person.uuid(),
        asked.key.0.to_vec(),
        asked.request.uuid()
    )?;
    tx.commit().await
}

async fn release(api: &Api, asked: Asked) -> Result<(), StoreError> {
    let mut tx = api.db.begin_write().await?;
    run!(
        &mut tx,
        "DELETE FROM idempotency WHERE person = $1 AND key = $2 AND request = $3",
        asked.person.uuid(),
        asked.key.0.to_vec(),
        asked.request.uuid()
    )?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_one_way_or_not_at_all() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_str(value).unwrap());
            }
            key(&headers).map_err(|problem| problem.kind)
        };
        assert_eq!(read(&[]), Ok(None));
        for same in ["\"8e03978e\"", "8e03978e", " 8e03978e "] {
            assert_eq!(read(&[same]), Ok(Some("8e03978e".to_owned())), "{same}");
        }
        for bad in ["", "\"\"", "a b", "\"a\"b\"", &"x".repeat(129)] {
            assert_eq!(read(&[bad]), Err(Kind::Malformed), "{bad}");
        }
        assert_eq!(read(&["a", "a"]), Err(Kind::Malformed));
    }

    #[test]
    fn a_request_is_on_the_list_while_it_runs() {
        let running = Running::default();
        let request = RequestId::from(uuid::Uuid::from_u128(7));
        let ending = running.begin(request);
        assert!(running.has(request));
        drop(ending);
        assert!(!running.has(request));
    }
}
