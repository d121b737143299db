//! `person.export`: all that is held on one person, for system administrators; `user.export` gives the home its part.
//!
//! Its records come in pages: the first page has everything else too.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::audit::{QueryPosition, vo_of};
use crate::api::factor::FactorView;
use crate::api::idp::identities::{self, IdentityView};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, on_person, task};
use crate::api::user::certificate::{self, UserCertificate};
use crate::api::{Api, problem, user};
use crate::audit::index::Query;
use crate::delegate::provider::names;
use crate::id::{PersonId, VoId};
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};
use crate::vo::{Held, HeldIn};

/// All that is held on one person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PersonExport {
    /// Opaque id, as records and tools see it.
    pub id: String,
    /// Everything but the records; on the first page only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldOnPerson>,
    /// The records of what she did and of what was done to her account, as they stand in the log, newest first.
    #[schema(value_type = Vec<Object>)]
    pub records: Vec<Value>,
    /// What to give as `before` for older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What the store holds on a person, what has ended included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HeldOnPerson {
    /// User name; an erased account has none.
    pub username: String,
    /// `active`, `suspended` or `ended`.
    pub state: String,
    /// Whose administrators reset the account.
    pub home: String,
    /// Since when (RFC 3339).
    pub since: String,
    /// Until when (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Sign-ins so far.
    pub logins: i64,
    /// Failed sign-ins so far.
    pub failed_logins: i64,
    /// All versions of the card, oldest first.
    pub cards: Vec<HeldCard>,
    /// Memberships, oldest first.
    pub memberships: Vec<HeldPart>,
    /// Roles, oldest first.
    pub roles: Vec<HeldPart>,
    /// Sessions, oldest first.
    pub sessions: Vec<HeldSessionView>,
    /// Second factors.
    pub factors: Vec<FactorView>,
    /// Certificates by which she signs in, oldest first.
    pub certificates: Vec<UserCertificate>,
    /// Who she is at identity providers, oldest first, with what has ended.
    #[serde(default)]
    pub identities: Vec<IdentityView>,
    /// Proxies that were minted for her, oldest first.
    pub proxies: Vec<HeldProxy>,
    /// What resource providers asked about her proxies, and were answered, oldest first.
    pub cases: Vec<HeldCase>,
}

/// A case about a proxy of hers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldCase {
    /// Id.
    pub id: String,
    /// The virtual organisation.
    pub vo: String,
    /// The tool that the proxy was minted for.
    pub tool: String,
    /// Serial of the proxy in decimal.
    pub serial: String,
    /// `open`, `answered` or `declined`.
    pub state: String,
    /// Fields of her card that the provider was shown.
    pub shows: Vec<String>,
    /// What the provider said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it was asked (RFC 3339).
    pub opened: String,
}

/// A version of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldCard {
    /// Its hash, as records have it.
    pub hash: String,
    /// The text that the hash covers.
    pub text: String,
    /// The salt of the hash, in hexadecimal.
    pub salt: String,
    /// From when (RFC 3339).
    pub since: String,
    /// Until when (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A membership, or a role that was held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldPart {
    /// Where.
    pub vo: String,
    /// The role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// From when (RFC 3339).
    pub since: String,
    /// When it ends by itself (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// When it was ended (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// A session, also one that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldSessionView {
    /// Id.
    pub id: String,
    /// `browser`, `child`, `token`, `personal`, `basic` or `certificate`.
    pub kind: String,
    /// What a personal access token is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The one host that a child was good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How she showed who she is.
    pub methods: String,
    /// Level of assurance.
    pub acr: String,
    /// Start (RFC 3339).
    pub created: String,
    /// When it was last used (RFC 3339).
    pub seen: String,
    /// End (RFC 3339).
    pub expires: String,
    /// When it was ended (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A proxy that was minted for her.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldProxy {
    /// Serial in decimal.
    pub serial: String,
    /// Subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The virtual organisation.
    pub vo: String,
    /// The tool that got it.
    pub tool: String,
    /// Her card's hash at the time.
    pub card: String,
    /// The session.
    pub session: String,
    /// Begin of its validity (RFC 3339).
    pub not_before: String,
    /// End of its validity (RFC 3339).
    pub not_after: String,
}

pub(in crate::api) struct Export;

impl Operation for Export {
    type Body = Nothing;
    type Answer = PersonExport;
    const SUMMARY: &'static str = "All that is held on one person";

    fn task() -> Task {
        let task = task(
            "person.export",
            "GET /api/v1/persons/{person:uuid}",
            tool::Kind::Download,
            SYSTEM,
        );
        on_person(Task {
            query: Some(vec!["before".into(), "limit".into()]),
            ..task
        })
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<PersonExport, Problem> {
        export(api, call, call.id_of("person")?, None).await
    }
}

/// What is held on `person`: all of it, or what belongs to the account and to `vo`.
pub(in crate::api) async fn export(
    api: &Api,
    call: &Call,
    person: PersonId,
    vo: Option<VoId>,
) -> Result<PersonExport, Problem> {
    let unknown = || Problem::new(Kind::NotFound, format!("there is no person `{person}`"));
    let held = api.vos.held(person).await.map_err(problem)?.ok_or_else(unknown)?;
    let before = call.query("before")?.map(QueryPosition::parse).transpose()?;
    let query = Query {
        person: Some(person),
        vo: vo.map(|vo| vo.to_string()),
        before,
        limit: u32::try_from(call.limit()?).unwrap_or(100),
        fresh: true,
        ..Query::default()
    };
    let page = api.audit.search().search(&query).await.map_err(problem)?;
    // SECURITY: the index only finds; a virtual organisation is given the records that say they are its own.
    let own = page
        .records
        .iter()
        .filter(|record| vo.is_none() || vo_of(record) == vo);
    let records = own
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()
        .map_err(|_| Problem::new(Kind::Internal, "a record cannot be written"))?;
    let held = match before {
        None => Some(view(api, person, held, vo).await?),
        Some(_) => None,
    };
    Ok(PersonExport {
        id: person.to_string(),
        held,
        records,
        next: page.next.map(QueryPosition::text),
    })
}

async fn view(api: &Api, person: PersonId, held: Held, vo: Option<VoId>) -> Result<HeldOnPerson, Problem> {
    let logins = api.authenticate.logins(person).await.map_err(problem)?;
    let sessions = api.authenticate.held(person).await.map_err(problem)?;
    let proxies = api.delegate.held(person).await.map_err(problem)?;
    let (factors, _) = api.authenticate.factors(person).await.map_err(problem)?;
    let links = api.authenticate.links(person).await.map_err(problem)?;
    let identities = api.authenticate.identities_held(person).await.map_err(problem)?;
    let cases = api.providers.held(person).await.map_err(problem)?;
    let directory = api.directory();
    let name = |id: VoId| {
        directory
            .vo(id)
            .map_or_else(|| id.to_string(), |vo| vo.name.clone())
    };
    let parts = |held: Vec<HeldIn>| {
        let of_vo = held.into_iter().filter(|held| vo.is_none_or(|vo| vo == held.vo));
        of_vo.map(part).collect()
    };
    Ok(HeldOnPerson {
        username: held.username,
        state: held.state,
        home: user::home(&directory, held.home),
        since: held.since.to_string(),
        until: held.until.map(|at| at.to_string()),
        logins: logins.logins,
        failed_logins: logins.failures,
        cards: held
            .cards
            .iter()
            .map(|card| HeldCard {
                hash: card.hash.to_string(),
                text: card.text(),
                salt: crate::body::hex(&card.salt),
                since: card.since.to_string(),
                until: card.until.map(|at| at.to_string()),
            })
            .collect(),
        memberships: parts(held.memberships),
        roles: parts(held.roles),
        sessions: sessions
            .into_iter()
            .map(|session| HeldSessionView {
                id: session.id.to_string(),
                kind: session.kind,
                name: session.name,
                host: session.host,
                methods: session.methods,
                acr: session.acr,
                created: session.created.to_string(),
                seen: session.seen.to_string(),
                expires: session.expires.to_string(),
                ended: session.ended.map(|at| at.to_string()),
                reason: session.reason,
            })
            .collect(),
        factors: factors.into_iter().map(FactorView::from).collect(),
        certificates: links.into_iter().map(certificate::view).collect(),
        identities: identities
            .into_iter()
            .map(|one| identities::view(api, one))
            .collect(),
        cases: cases
            .into_iter()
            .filter(|case| vo.is_none_or(|vo| vo == case.vo))
            .map(|case| HeldCase {
                id: case.id.to_string(),
                vo: name(case.vo),
                serial: case.serial.to_string(),
                state: case.state.as_str().to_owned(),
                shows: names(&case.shows),
                opened: case.opened.to_string(),
                tool: case.tool,
                note: case.note,
                text: case.text,
            })
            .collect(),
        proxies: proxies
            .into_iter()
            .filter(|proxy| vo.is_none_or(|vo| vo == proxy.vo))
            .map(|proxy| HeldProxy {
                serial: proxy.serial.to_string(),
                subject: proxy.subject,
                vo: name(proxy.vo),
                tool: proxy.tool,
                card: proxy.card.to_string(),
                session: proxy.session.to_string(),
                not_before: proxy.not_before.to_string(),
                not_after: proxy.not_after.to_string(),
            })
            .collect(),
    })
}

fn part(held: HeldIn) -> HeldPart {
    HeldPart {
        vo: held.vo_name,
        role: held.role,
        since: held.since.to_string(),
        until: held.until.map(|at| at.to_string()),
        ended: held.ended.map(|at| at.to_string()),
    }
}
