//! What resource providers learn of a trace: the choice of the VO for each of its tools, and the cases that it answers
//! itself.
//!
//! A provider is an account that may trace the proxies of one tool and nothing else. Whether it sees a person's card at
//! once, or only what an administrator of the VO answers, is chosen by the VO; until it has chosen, every trace is a case.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{CaseId, Ids, PersonId, RandomError, RequestId, VoId};
use crate::record::{Change, Hash};
use crate::store::{Db, StoreError, Tx, rows, run, tx_rows};

use super::store::hash;
use super::trace::{Shown, Traced};

/// Traces of one account in one [`WINDOW`].
pub const TRACES: u32 = 60;
/// The time in which an account may make so many traces.
pub const WINDOW: Duration = Duration::from_secs(3_600);
/// Accounts whose traces are counted at once; those whose time is over go first.
const COUNTED: usize = 10_000;
/// Cases of one account that nobody has answered.
pub const OPEN_CASES: usize = 50;

/// A field of a person's card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// User name.
    Username,
    /// Name.
    Name,
    /// E-mail address.
    Mail,
    /// Home organisation.
    Organisation,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Username, Self::Name, Self::Mail, Self::Organisation];

    /// The name in answers and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Name => "name",
            Self::Mail => "mail",
            Self::Organisation => "organisation",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == name)
    }
}

/// How a provider is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answered {
    /// By an administrator of the VO.
    #[default]
    Case,
    /// By the gateway.
    AtOnce,
}

impl Answered {
    /// The name in answers and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Case => "case",
            Self::AtOnce => "at-once",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Case, Self::AtOnce]
            .into_iter()
            .find(|answered| answered.as_str() == name)
    }
}

/// What a VO chose for the providers of one of its tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// How they are answered.
    pub answered: Answered,
    /// The fields of the card that they see at once.
    pub shows: Vec<Field>,
}

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseState {
    /// Nobody has answered yet.
    Open,
    /// It was answered.
    Answered,
    /// The VO does not answer it.
    Declined,
}

impl CaseState {
    /// The name in answers and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Answered => "answered",
            Self::Declined => "declined",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Open, Self::Answered, Self::Declined]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// A provider's question about a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Id.
    pub id: CaseId,
    /// Whose proxy it is.
    pub vo: VoId,
    /// The tool it was minted for.
    pub tool: String,
    /// Who asks.
    pub provider: PersonId,
    /// For whom the proxy was minted.
    pub person: PersonId,
    /// The request that asked.
    pub request: RequestId,
    /// Issuer of the proxy.
    pub issuer: Hash,
    /// Serial of the proxy.
    pub serial: u64,
    /// What the provider showed of it.
    pub shown: Shown,
    /// What the provider says of it.
    pub note: Option<String>,
    /// What became of it.
    pub state: CaseState,
    /// The fields of the card that the answer shows.
    pub shows: Vec<Field>,
    /// What the VO says of it.
    pub text: Option<String>,
    /// Who answered.
    pub answered_by: Option<PersonId>,
    /// When.
    pub answered: Option<Timestamp>,
    /// When it was asked.
    pub opened: Timestamp,
}

/// The answer to a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseAnswer {
    /// Who answers.
    pub by: PersonId,
    /// Whether it is an answer or a refusal to give one.
    pub state: CaseState,
    /// The fields of the card that it shows.
    pub shows: Vec<Field>,
    /// What the VO says of it.
    pub text: Option<String>,
}

/// Which cases of a VO.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Those about proxies of this tool.
    pub tool: Option<&'a str>,
    /// Those of which this became.
    pub state: Option<CaseState>,
    /// Those that were opened before this one.
    pub after: Option<CaseId>,
    /// No more than so many.
    pub limit: usize,
}

/// Choices, cases, and how often providers ask.
#[derive(Debug)]
pub struct Providers {
    db: Db,
    ids: Ids,
    /// When an account's time began, and how many traces it has made since.
    turns: Mutex<HashMap<PersonId, (Timestamp, u32)>>,
}

type CaseRow = (
    Uuid,
    Uuid,
    String,
    Uuid,
    Uuid,
    Uuid,
    Vec<u8>,
    i64,
    Option<String>,
    String,
    String,
    Option<String>,
    Option<Uuid>,
    Option<i64>,
    i64,
    String,
);

impl Providers {
    /// Over `db`.
    #[must_use]
    pub fn new(db: Db, ids: Ids) -> Self {
        Self {
            db,
            ids,
            turns: Mutex::default(),
        }
    }

    /// Counts a trace of this account.
    ///
    /// # Errors
    /// The seconds to wait, when it has made [`TRACES`] in this [`WINDOW`] already.
    pub fn turn(&self, provider: PersonId) -> Result<(), u32> {
        let now = self.ids.clock().now();
        // INVARIANT: nothing panics while the map is half changed.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= COUNTED {
            turns.retain(|_, (begun, _)| now.since(*begun) < WINDOW);
        }
        let (begun, count) = turns.entry(provider).or_insert((now, 0));
        if now.since(*begun) >= WINDOW {
            (*begun, *count) = (now, 0);
        }
        if *count < TRACES {
            *count += 1;
            return Ok(());
        }
        let left = WINDOW.saturating_sub(now.since(*begun));
        Err(u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1))
    }

    /// What the VO chose for the providers of this tool.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn choice(&self, vo: VoId, tool: &str) -> Result<Choice, StoreError> {
        let mut choices = self.choices(vo).await?;
        Ok(choices.remove(tool).unwrap_or_default())
    }

    /// What the VO chose, by tool.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn choices(&self, vo: VoId) -> Result<HashMap<String, Choice>, StoreError> {
        let found = rows!(
            &self.db,
            (String, String, String),
            "SELECT tool, answer, shows FROM provider_choice WHERE vo_id = $1 AND ended_at IS NULL",
            vo.uuid(),
        )?;
        let read = |(tool, answer, shows): (String, String, String)| {
            let choice = Choice {
                // SECURITY: what cannot be read shows nothing.
                answered: Answered::parse(&answer).unwrap_or_default(),
                shows: fields(&shows),
            };
            (tool, choice)
        };
        Ok(found.into_iter().map(read).collect())
    }

    /// Puts a choice in place of the one before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn choose(
        &self,
        tx: &mut Tx,
        vo: VoId,
        tool: &str,
        choice: &Choice,
    ) -> Result<Change, StoreError> {
        let before = self.choices(vo).await?.remove(tool);
        let now = self.ids.clock().now().micros();
        run!(
            &mut *tx,
            "UPDATE provider_choice SET ended_at = $1 WHERE vo_id = $2 AND tool = $3 AND ended_at IS NULL",
            now,
            vo.uuid(),
            tool,
        )?;
        run!(
            &mut *tx,
            "INSERT INTO provider_choice (vo_id, tool, version, answer, shows, created_at) \
             SELECT $1, $2, COALESCE(MAX(version), 0) + 1, $3, $4, $5 FROM provider_choice WHERE vo_id = $1 AND tool = $2",
            vo.uuid(),
            tool,
            choice.answered.as_str(),
            words(&choice.shows),
            now,
        )?;
        Ok(Change {
            action: "provider.choose".to_owned(),
            kind: "tool".to_owned(),
            target: tool.to_owned(),
            vo,
            person: None,
            before: Some(state_of(&before.unwrap_or_default())),
            after: Some(state_of(choice)),
        })
    }

    /// Ends what the VO chose for the providers of this tool; `None` where it had chosen nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget(&self, tx: &mut Tx, vo: VoId, tool: &str) -> Result<Option<Change>, StoreError> {
        let before = self.choices(vo).await?.remove(tool);
        run!(
            tx,
            "UPDATE provider_choice SET ended_at = $1 WHERE vo_id = $2 AND tool = $3 AND ended_at IS NULL",
            self.ids.clock().now().micros(),
            vo.uuid(),
            tool,
        )?;
        Ok(before.map(|before| Change {
            action: "provider.choose".to_owned(),
            kind: "tool".to_owned(),
            target: tool.to_owned(),
            vo,
            person: None,
            before: Some(state_of(&before)),
            after: None,
        }))
    }

    /// A new case about a proxy; it is there once [`Providers::open`] was committed.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn case_of(
        &self,
        traced: &Traced,
        provider: PersonId,
        request: RequestId,
        note: Option<String>,
    ) -> Result<Case, RandomError> {
        let Traced { shown, proxy } = traced;
        Ok(Case {
            id: self.ids.next()?,
            vo: proxy.vo,
            tool: proxy.tool.clone(),
            provider,
            person: proxy.person,
            request,
            issuer: proxy.issuer,
            serial: proxy.serial,
            shown: *shown,
            note,
            state: CaseState::Open,
            shows: Vec::new(),
            text: None,
            answered_by: None,
            answered: None,
            opened: self.ids.clock().now(),
        })
    }

    /// Enters a case. What was said stays out of the change: records hold no personal data.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(&self, tx: &mut Tx, case: &Case) -> Result<Change, StoreError> {
        run!(
            tx,
            "INSERT INTO trace_case (id, vo_id, version, tool, provider, person, request, issuer, serial, note, state, shows, created_at, shown) \
             VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, 'open', '', $10, $11)",
            case.id.uuid(),
            case.vo.uuid(),
            case.tool.as_str(),
            case.provider.uuid(),
            case.person.uuid(),
            case.request.uuid(),
            case.issuer.0.as_slice(),
            i64::try_from(case.serial).unwrap_or(i64::MAX),
            case.note.as_deref(),
            case.opened.micros(),
            case.shown.kept(),
        )?;
        Ok(change("case.open", case, None, state(case)))
    }

    /// Answers an open case, or declines it.
    ///
    /// # Errors
    /// [`StoreError`]; `None` when it is not open (any more).
    pub async fn answer(
        &self,
        tx: &mut Tx,
        case: &Case,
        answer: &CaseAnswer,
    ) -> Result<Option<(Case, Change)>, StoreError> {
        let now = self.ids.clock().now();
        let changed = run!(
            tx,
            "UPDATE trace_case SET state = $1, shows = $2, text = $3, answered_by = $4, answered_at = $5, version = version + 1 \
             WHERE id = $6 AND state = 'open'",
            answer.state.as_str(),
            words(&answer.shows),
            answer.text.as_deref(),
            answer.by.uuid(),
            now.micros(),
            case.id.uuid(),
        )?;
        if changed == 0 {
            return Ok(None);
        }
        let after = Case {
            state: answer.state,
            shows: answer.shows.clone(),
            text: answer.text.clone(),
            answered_by: Some(answer.by),
            answered: Some(now),
            ..case.clone()
        };
        let change = change("case.answer", case, Some(state(case)), state(&after));
        Ok(Some((after, change)))
    }

    /// The open cases of this account about these proxies, each where it has one; and how many it has open in all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_of(
        &self,
        tx: &mut Tx,
        provider: PersonId,
        found: &[Traced],
    ) -> Result<(Vec<Option<Case>>, usize), StoreError> {
        let rows = tx_rows!(
            tx,
            CaseRow,
            "SELECT id, vo_id, tool, provider, person, request, issuer, serial, note, state, shows, text, answered_by, answered_at, created_at, shown \
             FROM trace_case WHERE provider = $1 AND state = 'open' ORDER BY id",
            provider.uuid(),
        )?;
        let open = rows.into_iter().map(case).collect::<Result<Vec<_>, _>>()?;
        let about = |traced: &Traced| {
            let proxy = &traced.proxy;
            let same = |case: &&Case| (case.issuer, case.serial) == (proxy.issuer, proxy.serial);
            open.iter().find(same).cloned()
        };
        Ok((found.iter().map(about).collect(), open.len()))
    }

    /// Cases of a VO, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cases(&self, vo: VoId, wanted: Wanted<'_>) -> Result<Vec<Case>, StoreError> {
        // Ids grow with time.
        let found = rows!(
            &self.db,
            CaseRow,
            "SELECT id, vo_id, tool, provider, person, request, issuer, serial, note, state, shows, text, answered_by, answered_at, created_at, shown \
             FROM trace_case WHERE vo_id = $1 AND ($2 = '' OR tool = $2) AND ($3 = '' OR state = $3) AND id < $4 ORDER BY id DESC LIMIT $5",
            vo.uuid(),
            wanted.tool.unwrap_or_default(),
            wanted.state.map_or("", CaseState::as_str),
            wanted.after.map_or(Uuid::max(), CaseId::uuid),
            i64::try_from(wanted.limit).unwrap_or(i64::MAX),
        )?;
        found.into_iter().map(case).collect()
    }

    /// A case of a VO.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn case(&self, vo: VoId, id: CaseId) -> Result<Option<Case>, StoreError> {
        let found = rows!(
            &self.db,
            CaseRow,
            "SELECT id, vo_id, tool, provider, person, request, issuer, serial, note, state, shows, text, answered_by, answered_at, created_at, shown \
             FROM trace_case WHERE vo_id = $1 AND id = $2",
            vo.uuid(),
            id.uuid(),
        )?;
        found.into_iter().next().map(case).transpose()
    }

    /// The cases about proxies of a person, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held(&self, person: PersonId) -> Result<Vec<Case>, StoreError> {
        let found = rows!(
            &self.db,
            CaseRow,
            "SELECT id, vo_id, tool, provider, person, request, issuer, serial, note, state, shows, text, answered_by, answered_at, created_at, shown \
             FROM trace_case WHERE person = $1 ORDER BY created_at, id",
            person.uuid(),
        )?;
        found.into_iter().map(case).collect()
    }

    /// Takes out of the cases about an erased person what was written in them: it may name her.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase(&self, tx: &mut Tx, person: PersonId) -> Result<(), StoreError> {
        run!(
            tx,
            "UPDATE trace_case SET note = NULL, text = NULL, version = version + 1 WHERE person = $1",
            person.uuid(),
        )
        .map(|_| ())
    }
}

fn state_of(choice: &Choice) -> serde_json::Value {
    json!({ "answer": choice.answered.as_str(), "shows": names(&choice.shows) })
}

fn case(row: CaseRow) -> Result<Case, StoreError> {
    let (
        id,
        vo,
        tool,
        provider,
        person,
        request,
        issuer,
        serial,
        note,
        state,
        shows,
        text,
        answered_by,
        answered,
        opened,
        shown,
    ) = row;
    Ok(Case {
        id: id.into(),
        vo: vo.into(),
        tool,
        provider: provider.into(),
        person: person.into(),
        request: request.into(),
        issuer: hash(&issuer)?,
        serial: u64::try_from(serial)
            .map_err(|_| StoreError::Inconsistent("the serial in a case is negative".to_owned()))?,
        shown: Shown::parse(&shown),
        note,
        state: CaseState::parse(&state)
            .ok_or_else(|| StoreError::Inconsistent("a case has a state that there is not".to_owned()))?,
        shows: fields(&shows),
        text,
        answered_by: answered_by.map(PersonId::from),
        answered: answered.map(Timestamp),
        opened: Timestamp(opened),
    })
}

fn state(case: &Case) -> serde_json::Value {
    json!({
        "state": case.state.as_str(),
        "tool": case.tool,
        "serial": case.serial.to_string(),
        "provider": case.provider,
        "shows": names(&case.shows),
    })
}

fn change(action: &str, case: &Case, before: Option<serde_json::Value>, after: serde_json::Value) -> Change {
    Change {
        action: action.to_owned(),
        kind: "case".to_owned(),
        target: case.id.to_string(),
        vo: case.vo,
        person: Some(case.person),
        before,
        after: Some(after),
    }
}

/// The names of fields.
#[must_use]
pub fn names(fields: &[Field]) -> Vec<String> {
    fields.iter().map(|field| field.as_str().to_owned()).collect()
}

fn words(fields: &[Field]) -> String {
    names(fields).join(",")
}

fn fields(words: &str) -> Vec<Field> {
    words.split(',').filter_map(Field::parse).collect()
}

#[cfg(test)]
mod tests {
    use std::slice;
    use std::sync::Arc;

    use super::super::store::Mapped;
    use super::super::trace::By;
    use super::*;
    use crate::clock::HandClock;
    use crate::id::{SessionId, SystemSource};
    use crate::store::tests_support::{Postgres, sqlite};

    struct World {
        providers: Providers,
        clock: Arc<HandClock>,
    }

    fn mapped(vo: VoId, person: PersonId, request: RequestId, tool: &str) -> Mapped {
        Mapped {
            issuer: Hash::of(b"issuer"),
            serial: 4711,
            spki: Hash::of(b"spki"),
            certificate: None,
            subject: None,
            vo,
            person,
            card: Hash::of(b"card"),
            session: SessionId::from(Uuid::nil()),
            request,
            tool: tool.to_owned(),
            way: "pem".to_owned(),
            not_before: Timestamp::from_secs(0),
            not_after: Timestamp::from_secs(1),
            revoked: None,
        }
    }

    fn mapped_of(case: &Case) -> Mapped {
        mapped(case.vo, case.person, case.request, &case.tool)
    }

    impl World {
        fn on(db: Db) -> Self {
            let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_800_000_000)));
            let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
            Self {
                providers: Providers::new(db, ids),
                clock,
            }
        }

        fn id<T: From<Uuid>>(&self) -> T {
            self.providers.ids.next().unwrap()
        }

        /// A case about a proxy of nobody in particular, which is open.
        async fn asked(&self, vo: VoId, tool: &str) -> Case {
            let proxy = mapped(vo, self.id(), self.id(), tool);
            let note = Some("a full disk".to_owned());
            let traced = Traced {
                shown: Shown {
                    delegated: 2,
                    ..Shown::by(By::PublicKey)
                },
                proxy,
            };
            let case = self
                .providers
                .case_of(&traced, self.id(), self.id(), note)
                .unwrap();
            let mut tx = self.providers.db.begin_write().await.unwrap();
            let change = self.providers.open(&mut tx, &case).await.unwrap();
            tx.commit().await.unwrap();
            assert!(!format!("{change:?}").contains("full disk"));
            case
        }

        async fn answer(&self, case: &Case, answer: &CaseAnswer) -> Option<Case> {
            let mut tx = self.providers.db.begin_write().await.unwrap();
            let answered = self.providers.answer(&mut tx, case, answer).await.unwrap();
            tx.commit().await.unwrap();
            answered.map(|(case, _)| case)
        }
    }

    /// What must hold on both engines.
    async fn contract(world: World) {
        let providers = &world.providers;
        let [vo, other]: [VoId; 2] = [world.id(), world.id()];
        assert_eq!(providers.choice(vo, "ce").await.unwrap(), Choice::default());
        for shows in [
            vec![Field::Name, Field::Mail],
            vec![Field::Organisation],
            Vec::new(),
        ] {
            let choice = Choice {
                answered: Answered::AtOnce,
                shows,
            };
            let mut tx = providers.db.begin_write().await.unwrap();
            let change = providers.choose(&mut tx, vo, "ce", &choice).await.unwrap();
            tx.commit().await.unwrap();
            assert_ne!(change.before, change.after);
            assert_eq!(providers.choice(vo, "ce").await.unwrap(), choice);
        }
        assert_eq!(providers.choice(vo, "other").await.unwrap(), Choice::default());
        assert_eq!(providers.choice(other, "ce").await.unwrap(), Choice::default());

        let first = world.asked(vo, "ce").await;
        world.clock.advance(Duration::from_secs(1));
        let second = world.asked(vo, "se").await;
        let all = Wanted {
            limit: 10,
            ..Wanted::default()
        };
        let ids = async |vo, wanted| {
            let cases = providers.cases(vo, wanted).await.unwrap();
            cases.iter().map(|case| case.id).collect::<Vec<_>>()
        };
        assert_eq!(
            providers.cases(vo, all).await.unwrap(),
            [second.clone(), first.clone()]
        );
        let of_tool = Wanted {
            tool: Some("ce"),
            ..all
        };
        assert_eq!(ids(vo, of_tool).await, [first.id]);
        let newest = Wanted { limit: 1, ..all };
        assert_eq!(ids(vo, newest).await, [second.id]);
        let rest = Wanted {
            after: Some(second.id),
            ..newest
        };
        assert_eq!(ids(vo, rest).await, [first.id]);
        assert_eq!(ids(other, all).await, []);
        // What is open is found again by proxy and account, and counted.
        let mut tx = providers.db.begin_write().await.unwrap();
        let traced = |case: &Case, serial| Traced {
            shown: case.shown,
            proxy: Mapped {
                serial,
                ..mapped_of(case)
            },
        };
        let asked = [traced(&first, first.serial), traced(&first, 4712)];
        let open = providers.open_of(&mut tx, first.provider, &asked).await.unwrap();
        assert_eq!(open, (vec![Some(first.clone()), None], 1));
        let open = providers.open_of(&mut tx, world.id(), &asked).await.unwrap();
        assert_eq!(open, (vec![None, None], 0));
        drop(tx);
        assert_eq!(providers.case(other, first.id).await.unwrap(), None);
        let answer = CaseAnswer {
            by: world.id(),
            state: CaseState::Answered,
            shows: vec![Field::Name],
            text: Some("she is told".to_owned()),
        };
        let answered = world.answer(&first, &answer).await.unwrap();
        assert_eq!(
            providers.case(vo, first.id).await.unwrap(),
            Some(answered.clone())
        );
        assert_eq!(world.answer(&first, &answer).await, None, "answered once");
        let open = Wanted {
            state: Some(CaseState::Open),
            ..all
        };
        assert_eq!(ids(vo, open).await, [second.id]);
        let mut tx = providers.db.begin_write().await.unwrap();
        let asked = [traced(&first, first.serial)];
        let open = providers.open_of(&mut tx, first.provider, &asked).await.unwrap();
        assert_eq!(open, (vec![None], 0));
        drop(tx);
        assert_eq!(
            providers.held(first.person).await.unwrap(),
            slice::from_ref(&answered)
        );
        let mut tx = providers.db.begin_write().await.unwrap();
        providers.erase(&mut tx, first.person).await.unwrap();
        tx.commit().await.unwrap();
        let erased = Case {
            note: None,
            text: None,
            ..answered
        };
        assert_eq!(providers.case(vo, first.id).await.unwrap(), Some(erased));
        assert_eq!(providers.case(vo, second.id).await.unwrap(), Some(second));
    }

    #[tokio::test]
    async fn choices_and_cases_read_back_on_sqlite() {
        let (db, _folder) = sqlite().await;
        contract(World::on(db)).await;
    }

    #[tokio::test]
    async fn choices_and_cases_read_back_on_postgres() {
        let postgres = Postgres::new().await;
        contract(World::on(postgres.db.clone())).await;
        postgres.end().await;
    }

    #[tokio::test]
    async fn a_provider_asks_so_often_in_an_hour_and_others_do_not_wait_for_it() {
        let (db, _folder) = sqlite().await;
        let world = World::on(db);
        let [one, other]: [PersonId; 2] = [world.id(), world.id()];
        for _ in 0..TRACES {
            assert_eq!(world.providers.turn(one), Ok(()));
        }
        world.clock.advance(WINDOW / 2);
        assert_eq!(world.providers.turn(one), Err(1_800));
        assert_eq!(world.providers.turn(other), Ok(()));
        world.clock.advance(WINDOW / 2);
        assert_eq!(world.providers.turn(one), Ok(()));
    }

    #[test]
    fn fields_read_back_and_unknown_ones_are_left_out() {
        assert_eq!(fields(&words(&Field::ALL)), Field::ALL);
        assert_eq!(fields("name,password"), [Field::Name]);
        assert_eq!(fields(""), []);
    }
}
