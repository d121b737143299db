//! The service as its callers use it, on both store engines and with the clock in hand.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::request::Parts;

use super::*;
use crate::clock::{Clock, HandClock};
use crate::id::{SystemSource, VoId};
use crate::record::{Change, Event, Hash, Login};
use crate::secret::Secret;
use crate::tool::{Address, Audience, Found, Kind as TaskKind, Place, Target, Task, Tool, ToolTarget};
use crate::vo::{Directory, Membership, Person, PersonState, Rows, Vo, VoState};

mod factors;
mod federation;
mod personal;

const PHRASE: &str = "violet harbour tuesday";
const OTHER: &str = "copper lantern thursday";
const HOST: &str = "gw.localhost";
const TOOL_HOST: &str = "segmentation.gw.localhost";

struct World {
    service: Authenticate,
    clock: Arc<HandClock>,
    db: Db,
    directory: DirectoryHandle,
    ids: Ids,
    config: Config,
    john: PersonId,
    home: VoId,
}

fn cheap() -> Config {
    Config {
        cost: Cost {
            memory_kib: 64,
            passes: 1,
            lanes: 1,
        },
        ..Config::default()
    }
}

fn request() -> RequestId {
    RequestId::from(uuid::Uuid::from_u128(7))
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn from(ip: &str) -> Source {
    Source::Ip(ip.parse().unwrap())
}

impl World {
    async fn new(db: &Db) -> Self {
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let shared: Arc<dyn Clock> = clock.clone();
        let ids = Ids::new(shared, Arc::new(SystemSource::new()));
        let (john, home) = (ids.next().unwrap(), ids.next().unwrap());
        let directory = DirectoryHandle::default();
        let service = Authenticate::open(db.clone(), directory.clone(), ids.clone(), cheap())
            .await
            .unwrap();
        let world = Self {
            service,
            clock,
            db: db.clone(),
            directory,
            ids,
            config: cheap(),
            john,
            home,
        };
        world.state(PersonState::Active);
        world
    }

    /// Puts John into the directory in this state.
    fn state(&self, state: PersonState) {
        self.directory.swap(Directory::build(Rows {
            people: vec![Person {
                id: self.john,
                username: "john".into(),
                home: self.home,
                state,
                until: None,
                card: Hash::of(b"card"),
                version: 1,
            }],
            vos: vec![Vo {
                id: self.home,
                name: "imense".into(),
                state: VoState::Active,
                version: 1,
            }],
            memberships: vec![Membership {
                id: self.ids.next().unwrap(),
                vo: self.home,
                person: self.john,
            }],
            ..Rows::default()
        }));
    }

    fn person(&self) -> Arc<Person> {
        self.directory.load().person(self.john).unwrap().clone()
    }

    /// The same store, read by a fresh process with this configuration.
    async fn restarted(&self, config: Config) -> Authenticate {
        Authenticate::open(self.db.clone(), self.directory.clone(), self.ids.clone(), config)
            .await
            .unwrap()
    }

    async fn try_sign_in(&self, username: &str, password: &str, opening: Opening, ip: &str) -> SignedIn {
        let password = secret(password);
        let asked = SignIn {
            username,
            password: &password,
            code: None,
            opening,
            source: from(ip),
            request: request(),
        };
        self.service.sign_in(asked).await.unwrap()
    }

    async fn sign_in(&self, password: &str, opening: Opening) -> Opened {
        let signed = self.try_sign_in("john", password, opening, "192.0.2.1").await;
        assert_eq!(signed.login.result, "ok");
        self.service.begin(signed.result.unwrap()).await.unwrap()
    }

    async fn refused(&self, username: &str, password: &str, ip: &str) -> (Login, Problem) {
        let signed = self.try_sign_in(username, password, Opening::Token, ip).await;
        (signed.login, signed.result.unwrap_err())
    }

    async fn first_password(&self) -> Secret<String> {
        let one_time = self.service.one_time_password().await.unwrap();
        let mut tx = self.db.begin_write().await.unwrap();
        let password = self
            .service
            .first_password(&mut tx, self.john, self.home, one_time)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        password
    }

    async fn change(
        &self,
        subject: &Subject,
        current: Option<&str>,
        new: &str,
    ) -> Result<PasswordChange, Problem> {
        let (current, new) = (current.map(secret), secret(new));
        let judged = self
            .service
            .new_password(subject, current.as_ref(), &new, &[])
            .await?;
        let mut tx = self.db.begin_write().await.unwrap();
        let changed = self.service.change_password(&mut tx, judged, request()).await?;
        tx.commit().await.unwrap();
        if let Some(ended) = &changed.ended {
            self.service.forget(ended).await.unwrap();
        }
        Ok(changed)
    }

    async fn reset(&self) -> Reset {
        let one_time = self.service.one_time_password().await.unwrap();
        let mut tx = self.db.begin_write().await.unwrap();
        let reset = self
            .service
            .reset_password(&mut tx, &self.person(), one_time, request())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        reset
    }

    /// John with a password of his own.
    async fn settled(&self) {
        let first = self.first_password().await;
        let opened = self.sign_in(first.expose(), Opening::Token).await;
        let subject = self
            .ask(&bearer(&opened), &own(Audience::AnySession))
            .await
            .unwrap();
        self.change(&subject, None, PHRASE).await.unwrap();
    }

    async fn ask(&self, head: &Parts, place: &Place) -> Result<Subject, Box<Refusal>> {
        self.ask_noting(head, place).await.0
    }

    /// The same, with what is to be recorded.
    async fn ask_noting(&self, head: &Parts, place: &Place) -> (Result<Subject, Box<Refusal>>, Vec<Event>) {
        let noted = std::sync::Mutex::new(Vec::new());
        let write = |events: Vec<Event>| {
            noted.lock().unwrap().extend(events);
            std::future::ready(Ok(())).boxed()
        };
        let journal = Journal {
            request: request(),
            write: &write,
        };
        let subject = self.service.subject(head, place, from("192.0.2.1"), &journal);
        let subject = subject.await;
        (subject, noted.into_inner().unwrap())
    }

    async fn kind(&self, head: &Parts, place: &Place) -> Option<Kind> {
        self.ask(head, place)
            .await
            .err()
            .map(|refusal| refusal.problem.kind)
    }
}

/// Of requests that begin no session.
fn unrecorded() -> Journal<'static> {
    Journal {
        request: request(),
        write: &|events| panic!("{events:?}"),
    }
}

fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = http::Request::builder().method(method).uri("/x");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn bearer(opened: &Opened) -> Parts {
    head(
        "GET",
        &[("authorization", &format!("Bearer {}", opened.token.expose()))],
    )
}

fn with_cookie(method: &str, opened: &Opened, more: &[(&str, &str)]) -> Parts {
    let cookie = format!("a=b; {COOKIE}={}", opened.token.expose());
    let mut headers = vec![("cookie", cookie.as_str())];
    headers.extend_from_slice(more);
    head(method, &headers)
}

fn basic(username: &str, password: &str) -> Parts {
    let value = data_encoding::BASE64.encode(format!("{username}:{password}").as_bytes());
    head("GET", &[("authorization", &format!("Basic {value}"))])
}

fn task(audience: Audience, kind: TaskKind) -> Task {
    Task::plain("a task", &[], kind, audience)
}

fn place(address: Address, host: &str, audience: Audience) -> Place {
    Place {
        address,
        vo: None,
        unknown_vo: None,
        tool: None,
        found: Some(Found {
            task: Arc::new(task(audience, TaskKind::Read)),
            parameters: std::collections::BTreeMap::new(),
            resource: None,
        }),
        method: http::Method::GET,
        target: Target::parse("/x").unwrap(),
        host: host.into(),
    }
}

fn own(audience: Audience) -> Place {
    place(Address::Gateway, HOST, audience)
}

fn tool_place(address: Address, basic: bool) -> Place {
    let host = if address == Address::Path { HOST } else { TOOL_HOST };
    let mut place = place(address, host, Audience::Granted(&[]));
    place.tool = Some(Arc::new(tool(basic)));
    place
}

async fn contract(db: &Db) {
    a_one_time_password_opens_only_its_change_and_only_once(&World::new(db).await).await;
    a_one_time_password_expires(&World::new(db).await).await;
    wrong_and_unknown_get_the_same_answer_and_one_computation_each(&World::new(db).await).await;
    guessing_is_slowed_where_it_comes_from(&World::new(db).await).await;
    an_own_change_ends_the_other_sessions(&World::new(db).await).await;
    a_reset_ends_everything(&World::new(db).await).await;
    a_login_that_was_overtaken_by_a_reset_begins_nothing(&World::new(db).await).await;
    a_raised_cost_changes_the_hash_at_the_next_login(&World::new(db).await).await;
    sessions_survive_a_restart_and_logout_ends_them(&World::new(db).await).await;
    a_session_ended_by_another_node_is_forgotten_at_the_next_refresh(&World::new(db).await).await;
    sessions_are_swept_when_their_time_is_over(&World::new(db).await).await;
    each_address_takes_its_own_credentials_only(&World::new(db).await).await;
    a_cookie_acts_only_for_pages_of_its_own_origin(&World::new(db).await).await;
    a_stale_cookie_is_anonymous_only_where_somebody_could_sign_in(&World::new(db).await).await;
    basic_is_computed_once_a_minute_and_ends_with_a_reset(&World::new(db).await).await;
    composed_and_decomposed_spellings_sign_in_alike(&World::new(db).await).await;
    a_basic_session_begins_with_a_login_on_record_and_not_without(&World::new(db).await).await;
    sessions_over_the_limit_end_with_a_record(&World::new(db).await).await;
    a_tools_host_gets_a_session_of_its_own(&World::new(db).await).await;
    a_code_is_good_once_for_one_host_and_browser(&World::new(db).await).await;
    suspension_and_the_end_of_an_account_are_seen_at_once(&World::new(db).await).await;
    no_password_or_token_is_in_the_store(&World::new(db).await).await;
    a_certificate_leads_to_one_person_until_its_link_ends(&World::new(db).await).await;
    factors::contract(db).await;
    personal::contract(db).await;
}

async fn a_certificate_leads_to_one_person_until_its_link_ends(world: &World) {
    let chain =
        crate::trust::pem::certificates("vo-ec.pem", include_str!("../../../certs/vo-ec.pem")).unwrap();
    let end_entity = crate::trust::chain::end_entity(&chain).unwrap();
    let (service, person) = (&world.service, world.person());
    let mut tx = world.db.begin_write().await.unwrap();
    let (id, added) = service.link(&mut tx, &person, &end_entity).await.unwrap();
    tx.commit().await.unwrap();
    // A record must name no one: it has a hash of the names.
    assert!(!added.after.unwrap().to_string().contains("CN="));
    let mut tx = world.db.begin_write().await.unwrap();
    let again = service.link(&mut tx, &person, &end_entity).await.unwrap_err();
    assert_eq!(again.kind, Kind::Conflict);
    let marked = service
        .mark_compromised(&mut tx, &person, id, "stolen")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(marked.before.unwrap()["state"], "active");
    let links = service.links(person.id).await.unwrap();
    assert_eq!(
        (links.len(), links[0].id, links[0].note.as_deref()),
        (1, id, Some("stolen"))
    );
    assert!(links[0].compromised.is_some() && links[0].subject == end_entity.subject);
    let mut tx = world.db.begin_write().await.unwrap();
    service.unlink(&mut tx, &person, id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(service.links(person.id).await.unwrap(), []);
    // The mark stays with the names and with the key, whatever the names.
    let other = |subject: &[u8], spki| crate::trust::chain::EndEntity {
        subject: subject.to_vec(),
        spki,
        ..end_entity.clone()
    };
    let new_key = other(&end_entity.subject, Hash::of(b"another key"));
    let new_names = other(b"another subject", end_entity.spki);
    for marked in [&end_entity, &new_key, &new_names] {
        let mut tx = world.db.begin_write().await.unwrap();
        let refused = service.link(&mut tx, &person, marked).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Conflict);
        assert!(refused.detail.contains(&id.to_string()), "{}", refused.detail);
    }
    let mut tx = world.db.begin_write().await.unwrap();
    let cleared = service.clear(&mut tx, id).await.unwrap();
    assert!(cleared.before.is_some() && !cleared.after.unwrap().to_string().contains("CN="));
    assert_eq!(service.clear(&mut tx, id).await.unwrap_err().kind, Kind::NotFound);
    tx.commit().await.unwrap();
    let mut tx = world.db.begin_write().await.unwrap();
    service.link(&mut tx, &person, &end_entity).await.unwrap();
    service.erase(&mut tx, person.id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(service.links(person.id).await.unwrap(), []);
}

async fn a_one_time_password_opens_only_its_change_and_only_once(world: &World) {
    let first = world.first_password().await;
    let opened = world.sign_in(first.expose(), Opening::Token).await;
    assert!(opened.session.must_change);
    let head = bearer(&opened);
    for audience in [Audience::AnyPerson, Audience::Granted(&[])] {
        assert_eq!(
            world.kind(&head, &own(audience)).await,
            Some(Kind::PasswordChangeRequired)
        );
    }
    let mut nowhere = own(Audience::AnyPerson);
    nowhere.found = None;
    assert_eq!(
        world.kind(&head, &nowhere).await,
        Some(Kind::PasswordChangeRequired)
    );
    let subject = world.ask(&head, &own(Audience::AnySession)).await.unwrap();
    let (login, problem) = world.refused("john", first.expose(), "192.0.2.1").await;
    assert_eq!(
        (login.result.as_str(), problem.kind),
        ("used", Kind::WrongCredential)
    );
    // A weak one changes nothing, and neither does the one-time password itself.
    for weak in ["Countersign2026", "short", "password1234567890", first.expose()] {
        let refused = world.change(&subject, None, weak).await.unwrap_err();
        assert_eq!(refused.kind, Kind::WeakPassword, "{weak}");
    }
    let changed = world.change(&subject, None, PHRASE).await.unwrap();
    assert_eq!(changed.change.action, "user.change_own_password");
    assert_eq!(changed.ended.unwrap().sessions, [opened.session.id]);
    assert_eq!(
        world.kind(&head, &own(Audience::AnySession)).await,
        Some(Kind::WrongCredential),
        "the session that chose the password ends with it"
    );
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    assert!(!opened.session.must_change);
    assert!(
        world
            .ask(&bearer(&opened), &own(Audience::AnyPerson))
            .await
            .is_ok()
    );
}

async fn a_one_time_password_expires(world: &World) {
    let first = world.first_password().await;
    world.clock.advance(Duration::from_secs(7 * 86_400));
    let (login, problem) = world.refused("john", first.expose(), "192.0.2.1").await;
    assert_eq!(
        (login.result.as_str(), problem.kind),
        ("expired", Kind::WrongCredential)
    );
}

async fn wrong_and_unknown_get_the_same_answer_and_one_computation_each(world: &World) {
    world.settled().await;
    let before = world.service.password_hashes().get();
    let (wrong, wrong_problem) = world.refused("john", OTHER, "192.0.2.1").await;
    assert_eq!(world.service.password_hashes().get(), before + 1);
    let (unknown, unknown_problem) = world.refused("nobody", OTHER, "192.0.2.1").await;
    assert_eq!(world.service.password_hashes().get(), before + 2);
    assert_eq!(wrong_problem, unknown_problem);
    assert_eq!((wrong.result.as_str(), wrong.person), ("wrong", Some(world.john)));
    assert_eq!((unknown.result.as_str(), unknown.person), ("wrong", None));
    let count = world.service.logins(world.john).await.unwrap();
    assert_eq!((count.logins, count.failures), (1, 1));
    assert_eq!(count.last_failure, Some(world.clock.now()));
    let signed = world
        .try_sign_in(" John ", PHRASE, Opening::Browser, "192.0.2.1")
        .await;
    assert_eq!((signed.login.result.as_str(), signed.login.count), ("ok", 2));
    assert_eq!(signed.login.source, "192.0.2.0/24");
    let long = "x".repeat(5_000);
    let (login, _) = world.refused("john", &long, "192.0.2.1").await;
    assert_eq!(login.result, "wrong");
}

async fn guessing_is_slowed_where_it_comes_from(world: &World) {
    world.settled().await;
    let mut results = Vec::new();
    for _ in 0..10 {
        let (login, problem) = world.refused("john", OTHER, "198.51.100.7").await;
        results.push((login.result, problem.kind.status()));
    }
    assert!(
        results
            .iter()
            .take(5)
            .all(|(result, status)| result == "wrong" && *status == 401)
    );
    assert!(
        results
            .iter()
            .skip(5)
            .all(|(result, status)| result == "throttled" && *status == 429)
    );
    let before = world.service.password_hashes().get();
    let (_, problem) = world.refused("john", PHRASE, "198.51.100.7").await;
    assert!(problem.retry_after.is_some_and(|wait| wait > 0));
    assert_eq!(
        world.service.password_hashes().get(),
        before,
        "what is slowed costs nothing"
    );
    // John himself, from where he is, is not locked out, and from there he can after the wait.
    world.sign_in(PHRASE, Opening::Token).await;
    world.clock.advance(Duration::from_secs(20));
    let signed = world
        .try_sign_in("john", PHRASE, Opening::Token, "198.51.100.7")
        .await;
    assert_eq!(signed.login.result, "ok");
    assert_eq!(world.service.logins(world.john).await.unwrap().failures, 5);
}

async fn an_own_change_ends_the_other_sessions(world: &World) {
    world.settled().await;
    let mine = world.sign_in(PHRASE, Opening::Browser).await;
    let other = world.sign_in(PHRASE, Opening::Token).await;
    let subject = world
        .ask(&with_cookie("GET", &mine, &[]), &own(Audience::AnyPerson))
        .await
        .unwrap();
    let missing = world.change(&subject, None, OTHER).await.unwrap_err();
    assert_eq!(missing.kind, Kind::Invalid);
    let overtaken = world
        .service
        .new_password(&subject, Some(&secret(PHRASE)), &secret(OTHER), &[])
        .await
        .unwrap();
    let wrong = world
        .change(&subject, Some("not it at all really"), OTHER)
        .await
        .unwrap_err();
    assert_eq!(wrong.kind, Kind::Invalid);
    let same = world.change(&subject, Some(PHRASE), PHRASE).await.unwrap_err();
    assert_eq!(same.members["reason"], "unchanged");
    let changed = world.change(&subject, Some(PHRASE), OTHER).await.unwrap();
    assert_eq!(changed.ended.unwrap().sessions, [other.session.id]);
    let mut tx = world.db.begin_write().await.unwrap();
    let late = world.service.change_password(&mut tx, overtaken, request()).await;
    assert_eq!(
        late.unwrap_err().kind,
        Kind::Conflict,
        "judged before another change"
    );
    drop(tx);
    assert!(
        world
            .ask(&with_cookie("GET", &mine, &[]), &own(Audience::AnyPerson))
            .await
            .is_ok()
    );
    assert_eq!(
        world.kind(&bearer(&other), &own(Audience::AnyPerson)).await,
        Some(Kind::WrongCredential)
    );
    world.refused("john", PHRASE, "192.0.2.1").await;
    world.sign_in(OTHER, Opening::Token).await;
}

async fn a_reset_ends_everything(world: &World) {
    world.settled().await;
    let browser = world.sign_in(PHRASE, Opening::Browser).await;
    let token = world.sign_in(PHRASE, Opening::Token).await;
    let reset = world.reset().await;
    let ended = reset.ended.unwrap();
    assert_eq!((ended.reason.as_str(), ended.sessions.len()), ("reset", 2));
    assert!(
        !serde_json::to_string(&reset.change)
            .unwrap()
            .contains(reset.password.expose())
    );
    world.service.forget(&ended).await.unwrap();
    assert_eq!(
        world.kind(&bearer(&token), &own(Audience::AnyPerson)).await,
        Some(Kind::WrongCredential)
    );
    assert_eq!(
        world
            .kind(&with_cookie("GET", &browser, &[]), &own(Audience::AnyPerson))
            .await,
        Some(Kind::WrongCredential)
    );
    world.refused("john", PHRASE, "192.0.2.1").await;
    assert!(
        world
            .sign_in(reset.password.expose(), Opening::Token)
            .await
            .session
            .must_change
    );
}

async fn a_login_that_was_overtaken_by_a_reset_begins_nothing(world: &World) {
    world.settled().await;
    let signed = world
        .try_sign_in("john", PHRASE, Opening::Token, "192.0.2.1")
        .await;
    let reset = world.first_password().await;
    let refused = world.service.begin(signed.result.unwrap()).await.unwrap_err();
    assert_eq!(refused.kind, Kind::WrongCredential);
    // Two uses of one one-time password at the same time: one begins.
    let one = world
        .try_sign_in("john", reset.expose(), Opening::Token, "192.0.2.1")
        .await;
    let two = world
        .try_sign_in("john", reset.expose(), Opening::Token, "192.0.2.1")
        .await;
    assert!(world.service.begin(one.result.unwrap()).await.is_ok());
    assert!(world.service.begin(two.result.unwrap()).await.is_err());
    assert_eq!(world.service.sessions_of(world.john).len(), 1);
}

async fn a_raised_cost_changes_the_hash_at_the_next_login(world: &World) {
    world.settled().await;
    let hash = async || {
        store::password(&world.db, world.john)
            .await
            .unwrap()
            .unwrap()
            .hash
    };
    let before = hash().await;
    let mut config = world.config.clone();
    config.cost.passes = 2;
    let raised = world.restarted(config).await;
    let password = secret(PHRASE);
    for _ in 0..2 {
        let asked = SignIn {
            username: "john",
            password: &password,
            code: None,
            opening: Opening::Token,
            source: Source::Local,
            request: request(),
        };
        let signed = raised.sign_in(asked).await.unwrap();
        raised.begin(signed.result.unwrap()).await.unwrap();
        let after = hash().await;
        assert_ne!(before, after);
        assert!(after.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{after}");
    }
    let after = hash().await;
    world.sign_in(PHRASE, Opening::Token).await;
    assert_ne!(
        hash().await,
        after,
        "any other cost than the configured one is replaced"
    );
}

async fn sessions_survive_a_restart_and_logout_ends_them(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Browser).await;
    let cookie = with_cookie("GET", &opened, &[]);
    let again = world.restarted(world.config.clone()).await;
    let place = own(Audience::AnyPerson);
    assert!(
        again
            .subject(&cookie, &place, Source::Local, &unrecorded())
            .await
            .is_ok()
    );
    let ending = again
        .ending(opened.session.id, "logout", Some(request()))
        .unwrap();
    assert!(
        again
            .subject(&cookie, &place, Source::Local, &unrecorded())
            .await
            .is_ok(),
        "naming it ends nothing"
    );
    again.end(&ending).await.unwrap();
    assert!(
        again
            .subject(&cookie, &place, Source::Local, &unrecorded())
            .await
            .is_err()
    );
    assert!(again.session(opened.session.id).is_none());
    let third = world.restarted(world.config.clone()).await;
    assert!(
        third
            .subject(&cookie, &place, Source::Local, &unrecorded())
            .await
            .is_err()
    );
}

async fn a_session_ended_by_another_node_is_forgotten_at_the_next_refresh(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let node = world.restarted(world.config.clone()).await;
    let ending = world.service.ending(opened.session.id, "logout", None).unwrap();
    world.service.end(&ending).await.unwrap();
    let place = own(Audience::AnyPerson);
    assert!(
        node.subject(&bearer(&opened), &place, Source::Local, &unrecorded())
            .await
            .is_ok()
    );
    node.refresh().await.unwrap();
    assert!(
        node.subject(&bearer(&opened), &place, Source::Local, &unrecorded())
            .await
            .is_err()
    );
    let elsewhere = world.sign_in(PHRASE, Opening::Token).await;
    node.refresh().await.unwrap();
    assert!(
        node.subject(&bearer(&elsewhere), &place, Source::Local, &unrecorded())
            .await
            .is_ok()
    );
}

async fn sessions_are_swept_when_their_time_is_over(world: &World) {
    world.settled().await;
    let place = own(Audience::AnyPerson);
    let browser = world.sign_in(PHRASE, Opening::Browser).await;
    let token = world.sign_in(PHRASE, Opening::Token).await;
    world.clock.advance(Duration::from_secs(3_600));
    assert!(
        world
            .ask(&with_cookie("GET", &browser, &[]), &place)
            .await
            .is_ok()
    );
    assert!(world.service.sweep().await.unwrap().is_empty());
    world.clock.advance(Duration::from_secs(7_200));
    assert!(
        world
            .ask(&with_cookie("GET", &browser, &[]), &place)
            .await
            .is_err(),
        "it rested for two hours"
    );
    assert!(world.ask(&bearer(&token), &place).await.is_ok());
    let swept = world.service.sweep().await.unwrap();
    let ours: Vec<_> = swept
        .into_iter()
        .filter(|ended| ended.person == world.john)
        .collect();
    assert_eq!(ours.len(), 1);
    assert_eq!(
        (ours[0].reason.as_str(), &ours[0].sessions[..]),
        ("expired", &[browser.session.id][..])
    );
    for ended in &ours {
        world.service.end(ended).await.unwrap();
    }
    assert_eq!(world.service.sessions_of(world.john).len(), 1);
    world.clock.advance(Duration::from_secs(9 * 3_600));
    assert!(
        world.ask(&bearer(&token), &place).await.is_err(),
        "twelve hours are over"
    );
}

async fn each_address_takes_its_own_credentials_only(world: &World) {
    world.settled().await;
    let browser = world.sign_in(PHRASE, Opening::Browser).await;
    let token = world.sign_in(PHRASE, Opening::Token).await;
    let gateway = own(Audience::AnyPerson);
    let host = tool_place(Address::ToolHost, false);
    let path = tool_place(Address::Path, false);
    let cookie = with_cookie("GET", &browser, &[]);
    assert!(world.ask(&cookie, &gateway).await.is_ok());
    assert_eq!(world.kind(&cookie, &host).await, Some(Kind::WrongCredential));
    assert!(
        world.ask(&cookie, &path).await.unwrap().is_anonymous(),
        "the path form takes no cookie"
    );
    let twice = format!("{COOKIE}=a; {COOKIE}=b");
    assert_eq!(
        world.kind(&head("GET", &[("cookie", &twice)]), &gateway).await,
        Some(Kind::TwoCredentials)
    );
    assert!(
        world
            .ask(&head("GET", &[("cookie", &twice)]), &path)
            .await
            .is_ok()
    );
    for place in [&gateway, &host, &path] {
        assert!(world.ask(&bearer(&token), place).await.is_ok());
        assert!(
            world.ask(&bearer(&browser), place).await.is_err(),
            "a cookie's value is no token"
        );
        assert!(world.ask(&head("GET", &[]), place).await.unwrap().is_anonymous());
        assert!(
            world
                .ask(&head("GET", &[("authorization", "Negotiate abc")]), place)
                .await
                .unwrap()
                .is_anonymous()
        );
        assert_eq!(
            world
                .kind(&head("GET", &[("authorization", "Bearer cst_x")]), place)
                .await,
            Some(Kind::WrongCredential)
        );
        let two = head(
            "GET",
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
        );
        assert_eq!(world.kind(&two, place).await, Some(Kind::TwoCredentials));
    }
    let swapped = format!("{COOKIE}={}", token.token.expose());
    assert!(
        world
            .ask(&head("GET", &[("cookie", &swapped)]), &gateway)
            .await
            .is_err(),
        "a token is no cookie"
    );
    // A scheme of others is judged by the cookie.
    let foreign = with_cookie("GET", &browser, &[("authorization", "Digest x")]);
    assert!(!world.ask(&foreign, &gateway).await.unwrap().is_anonymous());
}

async fn a_cookie_acts_only_for_pages_of_its_own_origin(world: &World) {
    world.settled().await;
    let browser = world.sign_in(PHRASE, Opening::Browser).await;
    let place = own(Audience::AnyPerson);
    let host = ("host", "gw.localhost:8443");
    let refused = async |head: Parts, place: &Place| {
        let refusal = world.ask(&head, place).await.unwrap_err();
        assert_eq!(refusal.problem.kind, Kind::ForeignOrigin);
        assert_eq!(refusal.subject_entry().person, Some(world.john));
    };
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        refused(with_cookie(method, &browser, &[host]), &place).await;
        refused(
            with_cookie(method, &browser, &[host, ("sec-fetch-site", "same-site")]),
            &place,
        )
        .await;
        refused(
            with_cookie(
                method,
                &browser,
                &[host, ("origin", "https://segmentation.gw.localhost:8443")],
            ),
            &place,
        )
        .await;
        for same in [
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://gw.localhost:8443"),
        ] {
            assert!(
                world
                    .ask(&with_cookie(method, &browser, &[host, same]), &place)
                    .await
                    .is_ok()
            );
        }
    }
    let cross = ("sec-fetch-site", "cross-site");
    assert!(
        world
            .ask(&with_cookie("GET", &browser, &[host, cross]), &place)
            .await
            .is_ok(),
        "a link is a plain read"
    );
    refused(
        with_cookie("GET", &browser, &[host, ("upgrade", "websocket")]),
        &place,
    )
    .await;
    let mut acting = own(Audience::AnyPerson);
    acting.found.as_mut().unwrap().task = Arc::new(task(Audience::AnyPerson, TaskKind::Execute));
    refused(with_cookie("GET", &browser, &[host, cross]), &acting).await;
    // Another site's form cannot sign a visitor in; a program that says nothing can.
    let login = own(Audience::Everyone);
    assert_eq!(
        world.kind(&head("POST", &[host, cross]), &login).await,
        Some(Kind::ForeignOrigin)
    );
    assert!(world.ask(&head("POST", &[host]), &login).await.is_ok());
}

async fn a_stale_cookie_is_anonymous_only_where_somebody_could_sign_in(world: &World) {
    let stale = format!("{COOKIE}=gone");
    let navigation = head("GET", &[("cookie", &stale), ("sec-fetch-mode", "navigate")]);
    assert!(
        world
            .ask(&navigation, &own(Audience::AnyPerson))
            .await
            .unwrap()
            .is_anonymous()
    );
    let post = head("POST", &[("cookie", &stale), ("sec-fetch-mode", "navigate")]);
    assert_eq!(
        world.kind(&post, &own(Audience::AnyPerson)).await,
        Some(Kind::WrongCredential)
    );
    assert!(
        world
            .ask(&post, &own(Audience::Everyone))
            .await
            .unwrap()
            .is_anonymous()
    );
    let script = head("GET", &[("cookie", &stale)]);
    assert_eq!(
        world.kind(&script, &own(Audience::AnyPerson)).await,
        Some(Kind::WrongCredential)
    );
}

async fn basic_is_computed_once_a_minute_and_ends_with_a_reset(world: &World) {
    let first = world.first_password().await;
    let path = tool_place(Address::Path, true);
    assert_eq!(
        world.kind(&basic("john", first.expose()), &path).await,
        Some(Kind::WrongCredential),
        "a one-time password opens nothing"
    );
    world.settled().await;
    let good = basic("john", PHRASE);
    for refusing in [own(Audience::AnyPerson), tool_place(Address::Path, false)] {
        let before = world.service.password_hashes().get();
        assert_eq!(world.kind(&good, &refusing).await, Some(Kind::WrongCredential));
        assert_eq!(world.service.password_hashes().get(), before);
    }
    let mut own_tool = own(Audience::AnyPerson);
    own_tool.tool = Some(Arc::new(tool(true)));
    assert!(
        world.kind(&good, &own_tool).await.is_some(),
        "never for console or API"
    );
    let before = world.service.password_hashes().get();
    let mut sessions = std::collections::HashSet::new();
    for _ in 0..3 {
        let subject = world.ask(&good, &path).await.unwrap();
        sessions.insert(subject.session().unwrap().id);
    }
    assert_eq!(world.service.password_hashes().get(), before + 1);
    world.clock.advance(Duration::from_secs(60));
    sessions.insert(world.ask(&good, &path).await.unwrap().session().unwrap().id);
    assert_eq!(world.service.password_hashes().get(), before + 2);
    assert_eq!(sessions.len(), 1, "one Basic session per person");
    let wrong = world.ask(&basic("john", OTHER), &path).await.unwrap_err();
    assert_eq!(wrong.subject_entry().person, Some(world.john));
    assert_eq!(wrong.subject_entry().result, "failed");
    let mut foreign = good.clone();
    foreign
        .headers
        .insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(world.kind(&foreign, &path).await, Some(Kind::ForeignOrigin));
    let reset = world.reset().await;
    world.service.forget(&reset.ended.unwrap()).await.unwrap();
    assert_eq!(world.kind(&good, &path).await, Some(Kind::WrongCredential));
}

async fn composed_and_decomposed_spellings_sign_in_alike(world: &World) {
    world.settled().await;
    let (composed, decomposed) = ("caf\u{e9} noir \u{e0} midi", "cafe\u{301} noir a\u{300} midi");
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let subject = world
        .ask(&bearer(&opened), &own(Audience::AnyPerson))
        .await
        .unwrap();
    world.change(&subject, Some(PHRASE), decomposed).await.unwrap();
    for spelling in [composed, decomposed] {
        world.sign_in(spelling, Opening::Token).await;
        let place = tool_place(Address::Path, true);
        assert!(world.ask(&basic("john", spelling), &place).await.is_ok());
    }
    assert_eq!(
        world
            .refused("john", "cafe noir a midi", "192.0.2.1")
            .await
            .0
            .result,
        "wrong"
    );
    let unchanged = world
        .change(&subject, Some(composed), composed)
        .await
        .unwrap_err();
    assert_eq!(unchanged.kind, Kind::WeakPassword, "the same in another spelling");
}

async fn a_basic_session_begins_with_a_login_on_record_and_not_without(world: &World) {
    world.settled().await;
    let (path, good) = (tool_place(Address::Path, true), basic("john", PHRASE));
    let write = |_| std::future::ready(Err(Problem::new(Kind::Internal, "the log is full"))).boxed();
    let journal = Journal {
        request: request(),
        write: &write,
    };
    let refused = world.service.subject(&good, &path, Source::Local, &journal).await;
    assert_eq!(refused.unwrap_err().problem.detail, "the log is full");
    let of = |session: &(Arc<Session>, Timestamp)| session.0.kind == SessionKind::Basic;
    assert!(!world.service.sessions_of(world.john).iter().any(of));
    let before = world.service.logins(world.john).await.unwrap().logins;
    let (subject, noted) = world.ask_noting(&good, &path).await;
    let id = subject.unwrap().session().unwrap().id;
    let [Event::Login(login)] = &noted[..] else {
        panic!("{noted:?}");
    };
    assert_eq!(
        (login.person, login.session, login.result.as_str(), login.count),
        (Some(world.john), Some(id), "ok", before + 1)
    );
    assert!(world.ask_noting(&good, &path).await.1.is_empty(), "once");
    // A password that was judged before it was changed gets no session of the new one.
    let person = world.person();
    let stale = world
        .service
        .basic_session(&person, i64::MAX, Source::Local, &journal);
    assert_eq!(stale.await.unwrap_err().kind, Kind::WrongCredential);
}

async fn sessions_over_the_limit_end_with_a_record(world: &World) {
    world.settled().await;
    let limit = world.config.sessions_per_person;
    while world.service.sessions_of(world.john).len() < limit {
        assert!(world.sign_in(PHRASE, Opening::Token).await.surplus.is_none());
    }
    let oldest = || world.service.sessions_of(world.john)[0].0.id;
    let goes = oldest();
    let ended = world.sign_in(PHRASE, Opening::Token).await.surplus.unwrap();
    assert_eq!(
        (ended.person, ended.reason.as_str(), &ended.sessions[..]),
        (world.john, "surplus", &[goes][..])
    );
    world.service.end(&ended).await.unwrap();
    let left: Vec<_> = world.service.sessions_of(world.john);
    assert_eq!(left.len(), limit);
    assert!(!left.iter().any(|(session, _)| session.id == goes));
    let goes = oldest();
    // The same for a session that Basic begins.
    let (_, noted) = world
        .ask_noting(&basic("john", PHRASE), &tool_place(Address::Path, true))
        .await;
    let [Event::Login(_), Event::SessionEnded(ended)] = &noted[..] else {
        panic!("{noted:?}");
    };
    assert_eq!(ended.sessions, [goes]);
    assert!(world.service.session(goes).is_none());
    assert_eq!(world.service.sessions_of(world.john).len(), limit);
}

/// Goes the whole way from the tool's host over the gateway and back.
async fn enter(world: &World, parent: &Opened) -> (Opened, String) {
    let start = world.service.enter_start(TOOL_HOST, "/jobs?x=1").unwrap();
    assert!(
        start
            .location
            .starts_with("/.countersign/enter?host=segmentation.gw.localhost&nonce=")
    );
    let (nonce, code) = code(world, parent, &start);
    let entered = world
        .service
        .enter_finish(
            (TOOL_HOST, from("192.0.2.1")),
            code.expose(),
            Some(&nonce),
            request(),
        )
        .unwrap();
    assert_eq!(entered.login.person, Some(world.john));
    (world.service.begin(entered.prepared).await.unwrap(), entered.to)
}

fn code(world: &World, parent: &Opened, start: &EnterStart) -> (Secret<String>, Secret<String>) {
    let hash = start
        .location
        .split("nonce=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    let value = start.cookie.split(['=', ';']).nth(1).unwrap();
    let subject = Subject::person(world.person(), Arc::clone(&parent.session), Source::Local);
    let code = world
        .service
        .enter_code(&subject, TOOL_HOST, hash, "/jobs?x=1")
        .unwrap();
    (secret(value), code)
}

async fn a_tools_host_gets_a_session_of_its_own(world: &World) {
    world.settled().await;
    let parent = world.sign_in(PHRASE, Opening::Browser).await;
    let (child, to) = enter(world, &parent).await;
    assert!(to == "/jobs?x=1" || to == "/");
    let cookie = with_cookie("GET", &child, &[]);
    let host = tool_place(Address::ToolHost, false);
    assert!(world.ask(&cookie, &host).await.is_ok());
    let mut neighbour = tool_place(Address::ToolHost, false);
    neighbour.host = "orthanc.gw.localhost".into();
    for elsewhere in [&neighbour, &own(Audience::AnyPerson)] {
        assert_eq!(world.kind(&cookie, elsewhere).await, Some(Kind::WrongCredential));
    }
    let restarted = world.restarted(world.config.clone()).await;
    assert!(
        restarted
            .subject(&cookie, &host, Source::Local, &unrecorded())
            .await
            .is_ok()
    );
    let ending = world
        .service
        .ending(parent.session.id, "logout", Some(request()))
        .unwrap();
    assert_eq!(ending.sessions, [parent.session.id, child.session.id]);
    world.service.end(&ending).await.unwrap();
    assert_eq!(world.kind(&cookie, &host).await, Some(Kind::WrongCredential));
}

async fn a_code_is_good_once_for_one_host_and_browser(world: &World) {
    world.settled().await;
    let parent = world.sign_in(PHRASE, Opening::Browser).await;
    let ask = |host: &str, code: &Secret<String>, nonce: Option<&Secret<String>>| {
        world
            .service
            .enter_finish((host, Source::Local), code.expose(), nonce, request())
            .map_err(|problem| problem.kind)
    };
    let fresh = || {
        let start = world.service.enter_start(TOOL_HOST, "/").unwrap();
        code(world, &parent, &start)
    };
    let refused = Some(Kind::WrongCredential);
    let (nonce, code) = fresh();
    assert!(ask(TOOL_HOST, &code, Some(&nonce)).is_ok());
    assert_eq!(ask(TOOL_HOST, &code, Some(&nonce)).err(), refused, "used");
    let (nonce, code) = fresh();
    assert_eq!(
        ask("orthanc.gw.localhost", &code, Some(&nonce)).err(),
        refused,
        "another host"
    );
    assert_eq!(
        ask(TOOL_HOST, &code, Some(&nonce)).err(),
        refused,
        "and the try used it up"
    );
    let (_, code) = fresh();
    assert_eq!(ask(TOOL_HOST, &code, None).err(), refused, "another browser");
    let (_, code) = fresh();
    let (other, _) = fresh();
    assert_eq!(
        ask(TOOL_HOST, &code, Some(&other)).err(),
        refused,
        "another nonce"
    );
    let (nonce, code) = fresh();
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(ask(TOOL_HOST, &code, Some(&nonce)).err(), refused, "too late");
    let (nonce, code) = fresh();
    let entered = ask(TOOL_HOST, &code, Some(&nonce)).unwrap();
    let ending = world.service.ending(parent.session.id, "logout", None).unwrap();
    world.service.end(&ending).await.unwrap();
    assert!(
        world.service.begin(entered.prepared).await.is_err(),
        "the parent ended meanwhile"
    );
    let token = world.sign_in(PHRASE, Opening::Token).await;
    let subject = Subject::person(world.person(), token.session, Source::Local);
    assert!(
        world
            .service
            .enter_code(&subject, TOOL_HOST, &"0".repeat(64), "/")
            .is_err()
    );
}

async fn suspension_and_the_end_of_an_account_are_seen_at_once(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let place = own(Audience::AnyPerson);
    world.state(PersonState::Suspended);
    let (login, problem) = world.refused("john", PHRASE, "192.0.2.1").await;
    assert_eq!(
        (login.result.as_str(), problem.kind),
        ("suspended", Kind::Suspended)
    );
    let (_, problem) = world.refused("john", OTHER, "192.0.2.1").await;
    assert_eq!(
        problem.kind,
        Kind::WrongCredential,
        "who does not know the password learns nothing"
    );
    let subject = world.ask(&bearer(&opened), &place).await.unwrap();
    assert_eq!(
        subject.as_person().unwrap().state,
        PersonState::Suspended,
        "the decision refuses her"
    );
    let ending = world
        .service
        .ending_all(world.john, None, "suspended", None)
        .unwrap();
    world.service.end(&ending).await.unwrap();
    assert!(world.ask(&bearer(&opened), &place).await.is_err());
    assert!(
        world
            .service
            .ending_all(world.john, None, "suspended", None)
            .is_none()
    );
    for (state, word) in [
        (PersonState::Pending, "pending"),
        (PersonState::Rejected, "rejected"),
        (PersonState::Expired, "account_expired"),
        (PersonState::Ended, "deleted"),
    ] {
        world.state(state);
        let (login, problem) = world.refused("john", PHRASE, "192.0.2.1").await;
        assert_eq!(
            (login.result.as_str(), Some(problem.kind)),
            (word, state.refusal())
        );
        let elsewhere = format!("198.51.100.{}", word.len());
        let (_, problem) = world.refused("john", OTHER, &elsewhere).await;
        assert_eq!(problem.kind, Kind::WrongCredential, "{word}");
    }
    world.state(PersonState::Active);
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    world.state(PersonState::Ended);
    assert!(world.ask(&bearer(&opened), &place).await.is_err());
}

async fn no_password_or_token_is_in_the_store(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let passwords = crate::store::rows!(&world.db, (String,), "SELECT hash FROM password").unwrap();
    assert!(passwords.iter().all(|(hash,)| hash.starts_with("$argon2id$")));
    let tokens = crate::store::rows!(
        &world.db,
        (Vec<u8>,),
        "SELECT token FROM session WHERE token IS NOT NULL"
    )
    .unwrap();
    let token = opened.token.expose().as_bytes();
    assert!(
        tokens
            .iter()
            .all(|(stored,)| stored.len() == 32 && stored != token)
    );
    assert!(tokens.iter().any(|(stored,)| stored[..] == Hash::of(token).0));
}

#[tokio::test]
async fn the_contract_holds_on_sqlite() {
    let (db, _folder) = crate::store::tests_support::sqlite().await;
    contract(&db).await;
    db.close().await;
}

#[tokio::test]
async fn the_contract_holds_on_postgres() {
    let postgres = crate::store::tests_support::Postgres::new().await;
    contract(&postgres.db).await;
    postgres.end().await;
}

fn tool(basic: bool) -> Tool {
    let mut tool = Tool::own(Vec::new()).unwrap();
    tool.name = "segmentation".into();
    tool.target = ToolTarget::Upstream("seg".into());
    tool.hosts = vec![TOOL_HOST.into()];
    tool.basic = basic;
    tool
}
