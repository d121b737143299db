//! `provider.trace`: a provider shows a proxy of its own tool, and sees what the VO chose, or opens a case.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ShownPerson, on_tool, shown, words};
use crate::alert::CaseNotice;
use crate::api::audit::prove::RecordProof;
use crate::api::operation::{Asked, Call, Operation, VO, task};
use crate::api::proxy::trace::{mint_proof, parse, persons, requests, tell, vo_name};
use crate::api::{Api, problem, unposted};
use crate::delegate::provider::{Answered, Case, OPEN_CASES};
use crate::delegate::{Mapped, Traced};
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::tool::{self, Task};

/// Most requests in an answer.
const REQUESTS: u32 = 1_000;
/// Longest note, in characters.
const NOTE: usize = 500;

/// What a provider found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderQuery {
    /// A certificate or chain in PEM (or DER in base64), its public key in PEM, or the SHA-256 of one of them. A serial or a
    /// name alone is not enough.
    pub query: String,
    /// What happened, for whoever answers a case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub note: Option<String>,
    /// Whether the answer comes with the `mint` record and the proof that it is in the audit log. Not with a case that is
    /// still open: the record holds the person's id.
    #[serde(default)]
    pub proof: bool,
}

/// What a provider sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderTrace {
    /// The proxies of its own tool; none when what it showed is not one of them, whatever else it is.
    pub proxies: Vec<ProviderTraced>,
    /// Whether there may be more: a key leads to more than 100 proxies.
    #[serde(default)]
    pub more: bool,
}

/// A proxy, as its provider sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderTraced {
    /// By what it was found: `certificate` or `public_key`.
    pub by: String,
    /// Whether all that was shown can only have come from this proxy, or from others of this answer.
    #[serde(default)]
    pub proved: bool,
    /// What is proved, in words.
    #[serde(default)]
    pub says: String,
    /// Serial in decimal.
    pub serial: String,
    /// Subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The VO.
    pub vo: String,
    /// The tool that got it.
    pub tool: String,
    /// Begin of its validity (RFC 3339).
    pub not_before: String,
    /// End of its validity (RFC 3339).
    pub not_after: String,
    /// When it was revoked (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// The person, where the VO answers at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<ShownPerson>,
    /// The case, where an administrator of the VO answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// The requests to this tool that it was used for, newest first, at most 1,000.
    pub requests: Vec<ProviderRequest>,
    /// Whether there are more of them.
    #[serde(default)]
    pub more_requests: bool,
    /// The `mint` record with the proof that it is in the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<RecordProof>,
}

/// A request, as a provider sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderRequest {
    /// When (RFC 3339).
    pub time: String,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

pub(in crate::api) struct Trace;

impl Operation for Trace {
    type Body = ProviderQuery;
    type Answer = ProviderTrace;
    const SUMMARY: &'static str =
        "For resource providers: who is behind a proxy of their own tool, or a case; the trace is recorded";

    fn task() -> Task {
        Task {
            resource: on_tool(),
            ..task(
                "provider.trace",
                "POST /api/v1/vos/{vo:slug}/tools/{tool:slug}/trace",
                tool::Kind::Create,
                VO,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: ProviderQuery) -> Result<ProviderTrace, Problem> {
        let (vo, name) = (call.vo()?.id, call.parameter("tool")?);
        slow_down(api, call)?;
        let note = words("note", body.note, NOTE)?;
        let query = parse(&body.query)?;
        if !query.proves() {
            let detail = "a provider traces a certificate or a public key, or the SHA-256 of one of them: a serial or a name \
                          alone is somebody's word";
            return Err(Problem::new(Kind::Invalid, detail));
        }
        // SECURITY: of the proxies of others it is told what it is told of none, also where a name leads to one of its own.
        let may = |proxy: &Mapped| proxy.vo == vo && proxy.tool == name;
        let traced = api.delegate.trace_within(&query, &may).await.map_err(problem)?;
        let (mut found, more) = (traced.proxies, traced.cut);
        found.retain(|traced| traced.shown.by.proves());
        let choice = api.providers.choice(vo, name).await.map_err(problem)?;
        // INVARIANT: whoever is named, it is on record before the answer says so.
        let event = Event::Trace(Box::new(query.event(call.id, &found)));
        // SECURITY: where one key leads to several people, somebody of the VO says who it was.
        let is_case = choice.answered == Answered::Case || found.iter().any(|traced| traced.shown.several);
        let cases = match is_case {
            true if !found.is_empty() => open(api, call, &found, note, event).await?,
            _ => {
                api.audit.write(event).await.map_err(problem)?;
                tell(api, call, &persons(&found)).await?;
                Vec::new()
            }
        };
        let mut proxies = Vec::with_capacity(found.len());
        for (at, traced) in found.iter().enumerate() {
            let mut proxy = view(api, traced).await?;
            match cases.get(at) {
                Some(case) => proxy.case = Some(case.id.to_string()),
                None => {
                    proxy.person = Some(shown(api, &traced.proxy, &choice.shows).await?);
                    if body.proof {
                        proxy.proof = mint_proof(api, &traced.proxy).await?;
                    }
                }
            }
            proxies.push(proxy);
        }
        Ok(ProviderTrace { proxies, more })
    }
}

/// Does what the operation does, for a page.
///
/// # Errors
/// As the operation: what is looked for cannot be read or is not enough, too many traces, or log or store fail.
pub async fn trace(api: &Api, asked: &Asked, query: ProviderQuery) -> Result<ProviderTrace, Problem> {
    Trace::run(api, &asked.0, query).await
}

/// Whoever has somebody else's account cannot try what it gets hold of at any speed.
fn slow_down(api: &Api, call: &Call) -> Result<(), Problem> {
    api.providers.turn(call.person()?.id).map_err(|seconds| {
        let detail = "this account has made as many traces as it may make in an hour";
        Problem::new(Kind::TooManyAttempts, detail).retry_after(seconds)
    })
}

/// Opens a case about each of the proxies that has none of this account's, and tells the administrators of the VO.
async fn open(
    api: &Api,
    call: &Call,
    found: &[Traced],
    note: Option<String>,
    event: Event,
) -> Result<Vec<Case>, Problem> {
    let (vo, by) = (call.vo()?, call.person()?);
    let mut tx = api.begin().await?;
    let known = api.providers.open_of(&mut tx, by.id, found).await;
    let (known, count) = known.map_err(problem)?;
    let new = known.iter().filter(|case| case.is_none()).count();
    if new == 0 || count + new > OPEN_CASES {
        drop(tx);
        api.audit.write(event).await.map_err(problem)?;
        return match new {
            0 => Ok(known.into_iter().flatten().collect()),
            _ => Err(too_many(count)),
        };
    }
    let (mut cases, mut changes) = (Vec::new(), Vec::new());
    for (traced, known) in found.iter().zip(known) {
        if let Some(known) = known {
            cases.push(known);
            continue;
        }
        let case = api.providers.case_of(traced, by.id, call.id, note.clone());
        let case = case.map_err(|_| Problem::new(Kind::Internal, "there are no random bytes"))?;
        changes.push(api.providers.open(&mut tx, &case).await.map_err(problem)?);
        let notice = CaseNotice {
            case: case.id,
            tool: &case.tool,
            vo_name: &vo.name,
            by_username: &by.username,
            note: case.note.as_deref(),
        };
        let told = api.alert.notify_case(&mut tx, vo.id, &notice).await;
        told.map_err(|error| unposted(&error))?;
        cases.push(case);
    }
    api.commit_with(call, tx, changes, vec![event]).await?;
    Ok(cases)
}

/// Somebody reads every case: no account piles them up.
fn too_many(open: usize) -> Problem {
    let detail = format!(
        "this account has {open} open cases, and may have {OPEN_CASES}; an administrator of the virtual organisation answers \
         or declines some first"
    );
    Problem::new(Kind::Conflict, detail)
}

/// A proxy without the person behind it.
pub(super) async fn view(api: &Api, traced: &Traced) -> Result<ProviderTraced, Problem> {
    let proxy = &traced.proxy;
    // SECURITY: a proxy is minted for one tool, so these are requests to that tool; of each, nothing but time and task.
    let (requests, more_requests) = requests(api, proxy, REQUESTS).await?;
    let requests = requests.into_iter().map(|request| ProviderRequest {
        time: request.time,
        task: request.task,
    });
    Ok(ProviderTraced {
        by: traced.shown.by.as_str().to_owned(),
        proved: traced.shown.proves(),
        says: traced.shown.words(),
        serial: proxy.serial.to_string(),
        subject: proxy.subject.clone(),
        vo: vo_name(api, proxy.vo),
        tool: proxy.tool.clone(),
        not_before: proxy.not_before.to_string(),
        not_after: proxy.not_after.to_string(),
        revoked: proxy.revoked.map(|at| at.to_string()),
        requests: requests.collect(),
        more_requests,
        ..ProviderTraced::default()
    })
}
