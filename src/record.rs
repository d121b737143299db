//! The typed audit record, and [`Change`]: the only words in which the product writes to its log.
//!
//! A [`Record`] is one [`Event`] with its place in the log. Every request leaves an *intent* (or a *refusal*) and, when
//! it was permitted, an *outcome*, all under one [`RequestId`]. A capability declared above `audit/` never records: it
//! returns a [`Change`], and the operation that called it writes the record.
//!
//! Records hold no personal data: a person is her random id and the hash of her *card* (name, mail, home; kept in the
//! store). Never in a record: passwords, tokens, keys, bodies, cookie values, query values that no task names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{EpisodeId, IdpId, PersonId, RequestId, SessionId, VoId};

/// Version of the record format written by this build.
pub const VERSION: u8 = 1;

/// A SHA-256 hash, shown in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }

    /// Reads 64 hexadecimal digits; colons and capital letters are accepted.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain: String = text.chars().filter(|c| *c != ':').collect();
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(plain.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}

/// The id of a trace (W3C Trace Context), shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

impl TraceId {
    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl std::str::FromStr for TraceId {
    type Err = NotTraceId;

    fn from_str(text: &str) -> Result<Self, NotTraceId> {
        Self::parse(text).ok_or(NotTraceId)
    }
}

/// Not a trace id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 32 hexadecimal digits")]
pub struct NotTraceId;

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl Serialize for TraceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 32 hexadecimal digits"))
    }
}

/// One audit entry, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Format version, [`VERSION`].
    pub v: u8,
    /// Position in the node's log, from 0, without gaps.
    pub seq: u64,
    /// The node's wall clock when the writer took the record.
    pub time: Timestamp,
    /// Microseconds of the node's monotonic clock, so that a stepped wall clock shows.
    pub mono: i64,
    /// 16 random bytes (32 hex digits): sibling hashes travel in proofs and must not be guessable.
    pub salt: String,
    /// Present when the event was too long for a record: strings, lists and maps in it were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// What happened.
    pub event: Event,
}

/// What an event was before it was cut to fit into a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Bytes of the whole event as JSON.
    pub bytes: u64,
    /// SHA-256 of the whole event as JSON.
    pub hash: Hash,
}

/// Everything that can be written to the log. There is no other way to write one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A permitted request, written before anything happens.
    Intent(Box<Entry>),
    /// A request that was refused, written before the refusal is answered.
    Refused(Box<Refused>),
    /// Refusals of strangers, counted per problem, source network and minute.
    Strangers(Strangers),
    /// A permitted request that is still under way was decided again; it goes on only when that is durable.
    Lease(Box<Lease>),
    /// How a permitted request ended.
    Outcome(Box<Outcome>),
    /// A login, right or wrong.
    Login(Login),
    /// A session ended (logout, expiry, reset, suspension), with its children.
    SessionEnded(SessionEnded),
    /// A change of state, written before it is committed to the store.
    Change(Box<ChangeEvent>),
    /// A credential that is about to be signed.
    Mint(Box<Mint>),
    /// A list of what a VO has revoked that is about to be signed.
    RevocationList(Box<RevocationList>),
    /// A proxy was traced (or a trace found nothing).
    Trace(Box<TraceEvent>),
    /// Repeated denials became an alert.
    Alert(AlertEvent),
    /// An owner was claimed for something that already has another.
    OwnershipConflict(OwnershipConflict),
    /// The gateway started.
    Start(Start),
    /// The gateway stopped in order.
    Stop {
        /// Why, as the operator or the system gave it.
        reason: String,
    },
    /// A reload that found a flaw; nothing has changed. One that succeeds is a change, `gateway.reload`.
    ReloadFailed(ReloadFailed),
    /// What recovery found and did when the log was opened.
    Recovery(Recovery),
    /// The log goes on in a new epoch: what was put aside, file by file.
    Epoch(EpochBegun),
    /// The log goes on under another key, from this epoch on.
    KeyChanged(Box<KeyChanged>),
    /// Requests whose outcome is not written yet.
    LogOpen {
        /// Their ids.
        open: Vec<RequestId>,
    },
    /// Requests were refused because the log could not take their records.
    Unwritten {
        /// How many.
        count: u64,
        /// From when.
        from: Timestamp,
        /// Until when.
        to: Timestamp,
    },
    /// How much room the log has is another than before.
    LogDegraded(LogDegraded),
    /// Old records are dropped: they have been kept for as long as the settings ask. Written before they go.
    LogDropped(LogDropped),
    /// The witness of the log's checkpoints gives no cosignature; once, until it gives one again or the cause is another.
    Witness(WitnessEvent),
    /// The digests of what decisions are made from, level by level: what the store must hold from here on, until changes say
    /// otherwise.
    State(StateDigests),
    /// The store holds something else than the log says: somebody changed it past the gateway.
    StateForeignChange(StateForeignChange),
}

/// [`SubjectEntry::kind`] of whoever operates the machine.
pub const OPERATOR: &str = "operator";

/// Who asks, and how they proved it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubjectEntry {
    /// `person`, `service`, `provider`, `app`, `anonymous`, or `operator` (whoever operates the machine).
    pub kind: String,
    /// The opaque person id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// Hash of the person's card at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Hash>,
    /// The session that carried the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Result of the authentication: `ok`, `none`, `failed`.
    pub result: String,
    /// Methods (RFC 8176 `amr` values: `pwd`, `otp`, ...), empty when anonymous.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Level of assurance (`acr`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub acr: String,
    /// By which identity of an identity provider the session began, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityEntry>,
}

/// Who somebody is at an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityEntry {
    /// The provider.
    pub provider: IdpId,
    /// Its issuer identifier.
    pub issuer: String,
    /// Hash of issuer and subject with a salt: whoever is shown the three can check it, and nobody guesses a subject from it.
    pub subject: Hash,
}

/// A sign-in with an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederatedLogin {
    /// The provider.
    pub provider: IdpId,
    /// Its issuer identifier.
    pub issuer: String,
    /// Hash of issuer and subject, where it is an identity that is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Hash>,
    /// What was wrong with the provider's answer, in a word: a member of its token (`nonce`, `aud`, `signature`), `state`, `iss`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaw: Option<String>,
}

/// Where the request was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaceEntry {
    /// `gateway`, `host` (the tool's own host) or `path` (`/{vo}/{tool}/...`).
    pub via: String,
    /// Name of the VO; absent at the gateway's own level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vo: Option<String>,
    /// Id of the VO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vo_id: Option<VoId>,
    /// Name of the tool; `countersign` for the gateway's own tasks; absent when none matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Name of the task; absent when no task names the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The task's kind (`read`, `create`, ...).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// HTTP method, or the protocol's verb.
    pub method: String,
    /// The canonical path, without the query, cut at 512 bytes; absent for strangers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What a request acts on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceEntry {
    /// Type, as the manifest names it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The tool's own id.
    pub id: String,
    /// Which use of that id (ids may be used again after a deletion).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Owner at the time of the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PersonId>,
    /// Parents, nearest first, as `type/id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
}

/// A decision with its reasons, as they were at the time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionEntry {
    /// Whether the request was permitted.
    pub permit: bool,
    /// Short reason: `granted`, or a problem name such as `no_grant` or `not_owner`.
    pub reason: String,
    /// Ids of the policies that determined the decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Ids of all policies that were considered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub considered: Vec<String>,
    /// The path that led to the decision, one hop each: `person/..`, `role/scientist`, `grant/...`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// Errors of policy evaluation; any of them is a denial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Version of the VO's authorisation state.
    pub policy_version: i64,
    /// Roles that would have allowed the task (for a denial).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_allow: Vec<String>,
}

/// The plan of delegation: on whose behalf, with which credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationEntry {
    /// `none`, `static`, `assertion`, `client-certificate`, `pem`, `spool`, `myproxy`, `download`, `arc`, `local`.
    pub way: String,
    /// Serial of the proxy in decimal, where one is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Whether this request mints it (a `mint` record stands in the same batch).
    #[serde(default, skip_serializing_if = "is_false")]
    pub minted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Common part of intents and refusals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The request.
    pub request: RequestId,
    /// The trace that it belongs to, where a trusted caller began it or a collector is told of it. Absent otherwise: the
    /// trace then has the request's own id (without the dashes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// Who asks.
    pub subject: SubjectEntry,
    /// Where.
    pub place: PlaceEntry,
    /// Parameters that the task names (sensitive ones as keyed HMAC).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// What it acts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceEntry>,
    /// May they; absent when the request never came that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Arc<DecisionEntry>>,
    /// With what; absent for refusals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<DelegationEntry>,
    /// Source network: /24 (IPv4) or /56 (IPv6); `local` for sockets and jobs.
    pub source: String,
    /// The task's manifest asks for no outcome: there is one only if the request was not answered by the tool.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_outcome: bool,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// The request, as far as it came.
    #[serde(flatten)]
    pub entry: Entry,
    /// Status that was answered.
    pub status: u16,
    /// Problem type that was answered.
    pub problem: String,
}

/// Coalesced refusals of strangers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strangers {
    /// Problem type; `preflight` for a browser's question that was answered, `unheard` for requests over HTTP/2 that
    /// nobody looked at before their connection ended, and for MyProxy clients that took too long.
    pub problem: String,
    /// Source network, or `other` when the minute's table was full.
    pub source: String,
    /// Start of the minute.
    pub minute: Timestamp,
    /// Exact number of refusals since the last record of this kind.
    pub count: u64,
    /// One of the requests, as an example.
    pub example: RequestId,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The tool (or the gateway's own operation) answered.
    Answered,
    /// The tool answered 401 or 403: the resource's own refusal.
    DeniedByResource,
    /// The tool could not be reached, or broke off.
    ToolFailed,
    /// The gateway itself failed after the intent.
    Failed,
    /// The handler of the request went away without saying how it ended.
    Abandoned,
    /// Found open after a crash; nobody knows.
    Unknown,
    /// The intent became durable after its waiter had been refused; nothing was sent.
    NotSent,
    /// A change of state that was never applied.
    NotApplied,
    /// A change of state that was applied, found by looking after a crash.
    Applied,
    /// The answer was withheld (an unfilterable list, an ownership conflict).
    Withheld,
    /// It was broken off while it was under way: its session ended, or it is not allowed any more.
    Revoked,
}

/// A renewal of the lease that a long transfer holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The request.
    pub request: RequestId,
    /// May it go on; a denial ends it.
    pub decision: Arc<DecisionEntry>,
    /// Bytes that went to the tool so far.
    pub bytes_in: u64,
    /// Bytes that came from the tool so far.
    pub bytes_out: u64,
}

/// The last record of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The request.
    pub request: RequestId,
    /// How it ended.
    pub ending: Ending,
    /// Status that the client got; absent when it got none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Status that the tool gave, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_status: Option<u16>,
    /// Bytes of request body sent to the tool.
    pub bytes_in: u64,
    /// Bytes of answer body received from the tool.
    pub bytes_out: u64,
    /// Microseconds from intent to outcome.
    pub duration_us: u64,
    /// What went wrong, as a short word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the request made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<CreatedEntry>,
    /// What the request removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<DeletedEntry>,
    /// The credential that was signed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedEntry>,
    /// Digests of the bodies, where the task's manifest asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bodies: Option<Box<BodyDigests>>,
}

/// What went to the tool and what came from it, as SHA-256: the bytes themselves, after transfer codings are taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyDigests {
    /// Of the request's body; absent when nothing of it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<BodyDigest>,
    /// Of the answer's body; absent when nothing of it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<BodyDigest>,
}

/// The digest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyDigest {
    /// SHA-256 of the bytes that passed.
    pub sha256: Hash,
    /// Whether the body came to its end; `false`: it broke off, and the digest is that of the part before.
    pub whole: bool,
}

impl Outcome {
    /// An outcome of which only the ending is known.
    #[must_use]
    pub const fn ended(request: RequestId, ending: Ending) -> Self {
        Self {
            request,
            ending,
            status: None,
            tool_status: None,
            bytes_in: 0,
            bytes_out: 0,
            duration_us: 0,
            error: None,
            created: Vec::new(),
            deleted: Vec::new(),
            signed: None,
            bodies: None,
        }
    }
}

/// Something that a request made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedEntry {
    /// VO of the resource.
    pub vo: VoId,
    /// Tool that made it.
    pub tool: String,
    /// Type, as the manifest names it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The tool's own id.
    pub id: String,
    /// Owner, if it has one (a parent never does).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PersonId>,
    /// Nearest parent as (type, id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<(String, String)>,
    /// Attributes taken from the answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Something that a request removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedEntry {
    /// VO of the resource.
    pub vo: VoId,
    /// Tool that removed it.
    pub tool: String,
    /// Type, as the manifest names it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The tool's own id.
    pub id: String,
}

/// A credential after its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedEntry {
    /// SHA-256 of the issuer certificate (DER).
    pub issuer: Hash,
    /// Serial in decimal.
    pub serial: String,
    /// SHA-256 of the certificate (DER).
    pub certificate: Hash,
}

/// A login attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Login {
    /// The request that carried it.
    pub request: RequestId,
    /// The person, where the account exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// Her card's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Hash>,
    /// The session that began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Methods that were tried.
    pub methods: Vec<String>,
    /// `ok`, `wrong`, `throttled`, `expired` (the one-time password), `used`; where the password is right and the account opens
    /// nothing: `suspended`, `pending`, `rejected`, `account_expired`, `deleted`; `one_time` where a one-time password was right and
    /// not taken; with a second factor also `code_needed` (the password was right), `wrong_code`, `sealed`, `stopped` (after too many
    /// wrong codes none of an authenticator is taken); with an identity provider
    /// also `refused` (its answer is not accepted), `wrong_assurance`, `pending`, `rejected`, `lapsed`, `unavailable`; `not_begun` after an `ok`
    /// of the same request whose session did not begin, because what it rested on was changed or used up meanwhile.
    pub result: String,
    /// How many logins this account has had, this one included; 0 when it failed.
    pub count: i64,
    /// Source network.
    pub source: String,
    /// SHA-256 of the end entity's certificate (DER), where she came with one or with a proxy of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Hash>,
    /// The identity provider, where she came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federated: Option<FederatedLogin>,
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnded {
    /// The request that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Whose.
    pub person: PersonId,
    /// Which, children included.
    pub sessions: Vec<SessionId>,
    /// `logout`, `provider_logout`, `provider_removed`, `expired`, `reset`, `suspended`, `account_expired`, `deleted`, `compromised`, `password_changed`, `factor_added`, `factor_removed`, `factor_reset`, `step_up` (another
    /// session with more assurance came in its place).
    pub reason: String,
}

/// A change of state: what was changed, and how it looked before and after.
///
/// Personal fields appear as card hashes only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The task's dotted name, e.g. `role.create`.
    pub action: String,
    /// What kind of thing.
    pub kind: String,
    /// Its id or name.
    pub target: String,
    /// The VO it belongs to (the gateway's id at the gateway's level).
    pub vo: VoId,
    /// The person it concerns, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// State before; absent for something new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// State after; absent for something that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// A [`Change`] with the request that makes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeEvent {
    /// The request.
    pub request: RequestId,
    /// Why, in the words of whoever made it; absent where no reason is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The change.
    pub change: Change,
    /// The authorisation state of every level that the request changes, before and after; in the first record of the
    /// request's changes. They hold when the request was applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<StateStep>,
}

/// How a change of state moves the digest of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateStep {
    /// The VO (the gateway's id for the gateway's own level).
    pub vo: VoId,
    /// Digest before; absent for a VO that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Hash>,
    /// Digest after; absent for a VO that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Hash>,
}

/// Digests of authorisation states. Without a request, all parts together name every level there is; with one, they are
/// further steps of that request's change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigests {
    /// Version of the way in which the digests are made.
    pub scheme: u8,
    /// The request whose change this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Which part this is, from 0.
    pub part: u32,
    /// How many parts there are; they stand beside each other.
    pub parts: u32,
    /// Why the state of the store was taken as it was found, where the log did not say what it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<String>,
    /// The digests.
    pub levels: Vec<StateStep>,
}

/// The store holds something else than the log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateForeignChange {
    /// The VO (the gateway's id for the gateway's own level).
    pub vo: VoId,
    /// The digest that the log says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Hash>,
    /// The digest of what the store holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Hash>,
    /// `last_good`: decisions are made from what was in force before; `refused`: nothing is allowed; `put_back`: the store
    /// holds again what the log says.
    pub effect: String,
    /// What differs, by kind and id; at most 100 of them.
    pub difference: Vec<String>,
    /// How many things differ.
    pub count: u64,
}

impl ChangeEvent {
    /// A change without a reason, that leaves the authorisation state as it is, or whose digests stand in another record.
    #[must_use]
    pub const fn of(request: RequestId, change: Change) -> Self {
        Self {
            request,
            reason: None,
            change,
            state: Vec::new(),
        }
    }

    /// The same with a reason.
    #[must_use]
    pub fn because(mut self, reason: Option<&str>) -> Self {
        self.reason = reason.map(str::to_owned);
        self
    }
}

/// Written before a proxy is signed: everything a trace needs, without addresses or membership paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mint {
    /// The request that needs it.
    pub request: RequestId,
    /// SHA-256 of the issuer certificate (DER).
    pub issuer: Hash,
    /// Serial in decimal.
    pub serial: String,
    /// SHA-256 of the SubjectPublicKeyInfo (DER).
    pub spki: Hash,
    /// Not before.
    pub not_before: Timestamp,
    /// Not after.
    pub not_after: Timestamp,
    /// The VO.
    pub vo: VoId,
    /// For whom.
    pub person: PersonId,
    /// Her card's hash.
    pub card: Hash,
    /// The session.
    pub session: SessionId,
    /// The tool that will get it.
    pub tool: String,
    /// `client-certificate`, `pem`, `spool`, `myproxy`, `download` or `arc`.
    pub way: String,
}

/// Written before a revocation list is signed; a list that is given again leaves none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationList {
    /// The request that needs it.
    pub request: RequestId,
    /// SHA-256 of the VO certificate (DER) whose key signs it.
    pub issuer: Hash,
    /// The VO.
    pub vo: VoId,
    /// Its CRL number.
    pub number: u64,
    /// How many proxies stand on it.
    pub count: u64,
    /// Its `thisUpdate`.
    pub made: Timestamp,
    /// Its `nextUpdate`.
    pub due: Timestamp,
    /// SHA-256 of what is signed (`tbsCertList`, DER).
    pub body: Hash,
}

/// A trace was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// The request that asked.
    pub request: RequestId,
    /// `certificate`, `serial`, `spki`, `fingerprint`, `subject`.
    pub by: String,
    /// What was looked for: a hash or a serial, never a whole certificate.
    pub query: String,
    /// Serials that were found.
    pub found: Vec<String>,
    /// Persons that were named.
    pub persons: Vec<PersonId>,
}

/// Repeated denials became an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertEvent {
    /// The episode.
    pub episode: EpisodeId,
    /// The VO whose administrators are told.
    pub vo: VoId,
    /// Who was refused.
    pub person: PersonId,
    /// The tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The task (`no_task` where none matched).
    pub task: String,
    /// How often.
    pub count: u32,
    /// The refused requests.
    pub requests: Vec<RequestId>,
}

/// An owner was claimed for something that already has another; the first owner stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnershipConflict {
    /// The request whose answer claimed it.
    pub request: RequestId,
    /// What was claimed.
    pub claimed: CreatedEntry,
    /// Who owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PersonId>,
}

/// The gateway started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Version of the program.
    pub version: String,
    /// SHA-256 of the configuration file.
    pub config: Hash,
    /// Epoch of the log.
    pub epoch: u64,
}

/// Settings or certificates that were not taken up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadFailed {
    /// The request that asked, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// `signal`, `request`, or `certificate` for a renewal that was found.
    pub by: String,
    /// SHA-256 of the settings file that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Hash>,
    /// Number of flaws.
    pub count: u64,
    /// The first 50 of them.
    pub flaws: Vec<String>,
}

/// Why a checkpoint was not cosigned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessEvent {
    /// Name of the witness.
    pub witness: String,
    /// `unreachable`, `refused` (it answers, and does not cosign), or `conflict`: it saw a log that this one does not
    /// continue, so one of the two was rolled back or rewritten.
    pub problem: String,
    /// Size of the checkpoint that it was asked for.
    pub size: u64,
    /// Size of the newest checkpoint that it cosigned, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<u64>,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Records found whole.
    pub records: u64,
    /// Bytes of a torn tail that were never acknowledged and were dropped.
    pub torn_bytes: u64,
    /// Requests that were open and are now settled.
    pub settled: Vec<RequestId>,
    /// Damage, in words; empty when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
}

/// How much room the log has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDegraded {
    /// `ok`; `low`: uploads and new proxies are refused; `stopped`: every request is refused; `reserved`: there is no segment
    /// left but the reserved one, which takes nothing else than records like this one and what the operator does.
    pub room: String,
    /// Bytes free on its file system, where they could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
}

/// What is dropped of the log, and where the rest begins. Several neighbours say the same where the list of files needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDropped {
    /// The epoch that goes on.
    pub epoch: u64,
    /// Of its segments, those before this number are gone, with those that were dropped before.
    pub segments: u64,
    /// Of its records, those before this position are gone.
    pub records: u64,
    /// Root of the tree over them (RFC 6962).
    pub root: Hash,
    /// All epochs up to this one are gone whole; 0 when none is.
    pub epochs: u64,
    /// Every record that is gone is older than this.
    pub before: Timestamp,
    /// Number of files in all records of this kind that stand together.
    pub total: u64,
    /// The files that go, as they were.
    pub files: Vec<FileAside>,
}

/// The log goes on in a new epoch. Stands among the first records of that epoch, as often as the list of files needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochBegun {
    /// The epoch that begins.
    pub epoch: u64,
    /// Records under the newest checkpoint that was known before; 0 when there was none.
    pub signed: u64,
    /// Root of that checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Hash>,
    /// Why it begins, where that is no damage: the log was restored from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of files in all records of this kind at the beginning of the epoch.
    pub total: u64,
    /// Files of all epochs that ended.
    pub files: Vec<FileAside>,
}

/// Another key signs the log's checkpoints from an epoch on. Both keys signed this: `countersign log key change`, the log's name,
/// the epoch, the old and the new key, each a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanged {
    /// The first epoch of the new key.
    pub epoch: u64,
    /// Public key until then, as a C2SP verifier key.
    pub old: String,
    /// Public key from then on.
    pub new: String,
    /// Signature of the old key (Ed25519, base64).
    pub old_signature: String,
    /// Signature of the new one.
    pub new_signature: String,
}

/// A file of the log, as it was when an epoch began that found it, or when it was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAside {
    /// Folder of the epoch and name of the file.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub hash: Hash,
}

impl Event {
    /// Whether it is signed at once, for what it says is done only then: it names what a change makes of the authorisation
    /// state, or what is dropped from the log.
    #[must_use]
    pub fn is_signed_first(&self) -> bool {
        match self {
            Self::LogDropped(_) => true,
            Self::Change(change) => !change.state.is_empty(),
            Self::State(list) => list.request.is_some(),
            _ => false,
        }
    }

    /// The request that this event belongs to, if one.
    #[must_use]
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Self::Intent(entry) => Some(entry.request),
            Self::Refused(refused) => Some(refused.entry.request),
            Self::Strangers(strangers) => Some(strangers.example),
            Self::Lease(lease) => Some(lease.request),
            Self::Outcome(outcome) => Some(outcome.request),
            Self::Login(login) => Some(login.request),
            Self::SessionEnded(ended) => ended.request,
            Self::ReloadFailed(failed) => failed.request,
            Self::Change(change) => Some(change.request),
            Self::Mint(mint) => Some(mint.request),
            Self::RevocationList(list) => Some(list.request),
            Self::Trace(trace) => Some(trace.request),
            Self::OwnershipConflict(conflict) => Some(conflict.request),
            Self::Alert(_)
            | Self::Start(_)
            | Self::Stop { .. }
            | Self::Recovery(_)
            | Self::Epoch(_)
            | Self::KeyChanged(_)
            | Self::LogOpen { .. }
            | Self::Unwritten { .. }
            | Self::LogDegraded(_)
            | Self::LogDropped(_)
            | Self::Witness(_)
            | Self::StateForeignChange(_) => None,
            Self::State(state) => state.request,
        }
    }

    /// Whether it is written even where only the reserved segment is left: what happens to the log itself, and what
    /// whoever operates the machine does about it.
    #[must_use]
    pub fn is_vital(&self) -> bool {
        match self {
            Self::Intent(entry) => entry.subject.kind == OPERATOR,
            Self::Start(_)
            | Self::Stop { .. }
            | Self::Recovery(_)
            | Self::Epoch(_)
            | Self::LogOpen { .. }
            | Self::Unwritten { .. }
            | Self::LogDegraded(_) => true,
            _ => false,
        }
    }

    /// The names of all events, in the order of the reference page.
    pub const NAMES: &'static [&'static str] = &[
        "intent",
        "refused",
        "strangers",
        "lease",
        "outcome",
        "login",
        "session_ended",
        "change",
        "mint",
        "revocation_list",
        "trace",
        "alert",
        "ownership_conflict",
        "start",
        "stop",
        "reload_failed",
        "recovery",
        "epoch",
        "key_changed",
        "log_open",
        "unwritten",
        "log_degraded",
        "log_dropped",
        "witness",
        "state",
        "state_foreign_change",
    ];

    /// The event's name, as it stands in the record.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Intent(_) => "intent",
            Self::Refused(_) => "refused",
            Self::Strangers(_) => "strangers",
            Self::Lease(_) => "lease",
            Self::Outcome(_) => "outcome",
            Self::Login(_) => "login",
            Self::SessionEnded(_) => "session_ended",
            Self::Change(_) => "change",
            Self::Mint(_) => "mint",
            Self::RevocationList(_) => "revocation_list",
            Self::Trace(_) => "trace",
            Self::Alert(_) => "alert",
            Self::OwnershipConflict(_) => "ownership_conflict",
            Self::Start(_) => "start",
            Self::Stop { .. } => "stop",
            Self::ReloadFailed(_) => "reload_failed",
            Self::Recovery(_) => "recovery",
            Self::Epoch(_) => "epoch",
            Self::KeyChanged(_) => "key_changed",
            Self::LogOpen { .. } => "log_open",
            Self::Unwritten { .. } => "unwritten",
            Self::LogDegraded(_) => "log_degraded",
            Self::LogDropped(_) => "log_dropped",
            Self::Witness(_) => "witness",
            Self::State(_) => "state",
            Self::StateForeignChange(_) => "state_foreign_change",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_events_are_those_that_records_have() {
        let error = serde_json::from_str::<Event>("{\"dreamt\": {}}")
            .unwrap_err()
            .to_string();
        let (_, known) = error.split_once("expected one of ").unwrap();
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        assert_eq!(known, Event::NAMES);
    }
}
