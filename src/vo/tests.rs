//! One contract for people, roles, grants and upstreams, run on both engines.

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, HandClock};
use crate::id::{GrantId, PersonId, SystemSource};
use crate::record::Change;
use crate::store::tests_support;

struct Story {
    vos: Vos,
    db: Db,
    clock: Arc<HandClock>,
}

impl Story {
    fn new(db: &Db) -> Self {
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
        Self {
            vos: Vos::new(db.clone(), DirectoryHandle::default(), ids),
            db: db.clone(),
            clock,
        }
    }

    fn directory(&self) -> Arc<Directory> {
        self.vos.handle().load()
    }
}

/// Runs one change in a transaction of its own, commits it and loads the snapshot; an error commits nothing.
macro_rules! done {
    ($story:expr, $method:ident $(, $argument:expr)*) => {{
        let mut tx = $story.db.begin_write().await.unwrap();
        let result = $story.vos.$method(&mut tx $(, $argument)*).await;
        if result.is_ok() {
            tx.commit().await.unwrap();
            $story.vos.load().await.unwrap();
        }
        result
    }};
}

fn fields(name: &str) -> CardFields {
    CardFields {
        name: name.into(),
        mail: Some(format!("{}@example.org", name.to_lowercase())),
        organisation: Some("Example University".into()),
    }
}

async fn founded(db: &Db) -> (Story, VoId, PersonId) {
    let story = Story::new(db);
    done!(story, establish).unwrap();
    let (admin, _) = done!(story, add_person, Directory::gateway(), "admin", &fields("Ada")).unwrap();
    let (vo, _) = done!(story, create_vo, "imense", admin).unwrap();
    (story, vo, admin)
}

async fn contract(db: &Db) {
    let (story, vo, admin) = founded(db).await;
    a_vo_begins_with_its_administrator_and_the_shipped_roles(&story, vo, admin);
    people_come_and_go(&story, vo, admin).await;
    cards_have_versions(&story).await;
    roles_and_grants(&story, vo).await;
    somebody_always_administers(&story, vo, admin).await;
    upstreams(&story, vo).await;
    suspension(&story, vo).await;
    a_change_without_commit_changes_nothing(&story, vo).await;
}

fn a_vo_begins_with_its_administrator_and_the_shipped_roles(story: &Story, vo: VoId, admin: PersonId) {
    let directory = story.directory();
    assert_eq!(directory.vo_named("imense").unwrap().id, vo);
    assert!(
        directory.vo_named(GATEWAY).is_none(),
        "the gateway is not a VO by name"
    );
    assert_eq!(directory.vo(Directory::gateway()).unwrap().name, GATEWAY);
    assert!(directory.is_member(vo, admin));
    assert_eq!(
        directory.holders(vo, VO_ADMINISTRATOR, story.clock.now()),
        [admin]
    );
    assert!(directory.role_named(vo, SCIENTIST).is_some());
    assert!(
        directory
            .role_named(Directory::gateway(), SYSTEM_ADMINISTRATOR)
            .is_some()
    );
}

async fn people_come_and_go(story: &Story, vo: VoId, admin: PersonId) {
    assert!(matches!(
        done!(story, create_vo, "imense", admin),
        Err(VoError::Taken { .. })
    ));
    assert!(matches!(
        done!(story, create_vo, "login", admin),
        Err(VoError::Name(_))
    ));
    assert!(matches!(
        done!(story, add_person, vo, "Jane", &fields("Jane")),
        Err(VoError::Username(_))
    ));
    let (jane, change) = done!(story, add_person, vo, "jane", &fields("Jane")).unwrap();
    says_nothing_personal(&change, "jane");
    assert!(matches!(
        done!(story, add_person, vo, "jane", &fields("Other")),
        Err(VoError::Taken { .. })
    ));
    let before = story.directory().vo(vo).unwrap().version;
    done!(story, join, vo, jane).unwrap();
    assert!(story.directory().vo(vo).unwrap().version > before);
    assert!(matches!(done!(story, join, vo, jane), Err(VoError::Taken { .. })));
    done!(story, assign, vo, SCIENTIST, jane, None).unwrap();
    done!(story, leave, vo, jane).unwrap();
    assert!(!story.directory().is_member(vo, jane));
    assert_eq!(
        story.directory().assignments(vo, jane, story.clock.now()).count(),
        0,
        "roles end with the membership"
    );
    assert!(matches!(done!(story, leave, vo, jane), Err(VoError::NotAMember)));
    done!(story, join, vo, jane).unwrap();
    assert_eq!(
        story.directory().assignments(vo, jane, story.clock.now()).count(),
        0,
        "a new membership does not bring old roles back"
    );
}

fn says_nothing_personal(change: &Change, word: &str) {
    let text = serde_json::to_string(change).unwrap().to_lowercase();
    assert!(!text.contains(word), "{text}");
}

async fn cards_have_versions(story: &Story) {
    let jane = story.directory().person_named("jane").unwrap().clone();
    let first = story.vos.card(jane.id).await.unwrap().unwrap();
    assert!(first.is_genuine() && first.hash == jane.card && first.version == 1);
    story.clock.advance(Duration::from_secs(60));
    let married = CardFields {
        name: "Jane Smith".into(),
        ..fields("Jane")
    };
    let change = done!(story, edit_card, jane.id, &married).unwrap();
    says_nothing_personal(&change, "smith");
    let second = story.vos.card(jane.id).await.unwrap().unwrap();
    assert_eq!((second.version, &second.fields), (2, &married));
    assert_eq!(story.directory().person(jane.id).unwrap().card, second.hash);
    let unknown = crate::record::Hash::of(b"nobody");
    let cards = story
        .vos
        .cards(&[first.hash, second.hash, unknown])
        .await
        .unwrap();
    assert_eq!(cards.len(), 2);
    let old = &cards[&first.hash];
    assert_eq!(old.fields.name, "Jane");
    assert_eq!(old.until, Some(second.since));
    assert!(old.is_genuine());
    let forged = Card {
        username: "john".into(),
        ..old.clone()
    };
    assert!(!forged.is_genuine());
    let mails = story.vos.mail_of(&[jane.id]).await.unwrap();
    assert_eq!(mails, HashMap::from([(jane.id, "jane@example.org".to_owned())]));
}

async fn roles_and_grants(story: &Story, vo: VoId) {
    let jane = story.directory().person_named("jane").unwrap().id;
    done!(story, create_role, vo, "operator").unwrap();
    assert!(matches!(
        done!(story, create_role, vo, "operator"),
        Err(VoError::Taken { .. })
    ));
    assert!(matches!(
        done!(story, create_role, vo, SYSTEM_ADMINISTRATOR),
        Err(VoError::Name(_))
    ));
    a_role_held_until_a_moment_ends_then(story, vo, jane).await;
    let tasks = vec!["monitor job".to_owned(), "list jobs".to_owned()];
    let (grants, _) = done!(
        story,
        add_grants,
        vo,
        "operator",
        ("jobs", &tasks),
        &Condition::Own
    )
    .unwrap();
    let held = story.directory().grants(vo, "jobs", "monitor job").to_vec();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].id, &held[0].condition), (grants[0], &Condition::Own));
    assert!(matches!(
        done!(
            story,
            add_grants,
            vo,
            "operator",
            ("jobs", &tasks),
            &Condition::Own
        ),
        Err(VoError::Taken { .. })
    ));
    let (cedar, _) = done!(
        story,
        add_grants,
        vo,
        "operator",
        ("jobs", &tasks[..1]),
        &Condition::Cedar("context.mfa".into())
    )
    .unwrap();
    let elsewhere: VoId = Directory::gateway();
    assert!(matches!(
        done!(story, end_grant, elsewhere, grants[0]),
        Err(VoError::Unknown { .. })
    ));
    done!(story, end_grant, vo, grants[0]).unwrap();
    let left: Vec<GrantId> = story
        .directory()
        .grants(vo, "jobs", "monitor job")
        .iter()
        .map(|grant| grant.id)
        .collect();
    assert_eq!(left, cedar);
    done!(story, end_role, vo, "operator").unwrap();
    assert_eq!(story.directory().grants_of_vo(vo).count(), 0);
    assert!(matches!(
        done!(story, end_role, vo, SCIENTIST),
        Err(VoError::Shipped(_))
    ));
    assert!(matches!(
        done!(
            story,
            add_grants,
            vo,
            SCIENTIST,
            ("jobs", &["ä".to_owned()]),
            &Condition::Always
        ),
        Err(VoError::Task(_))
    ));
}

async fn a_role_held_until_a_moment_ends_then(story: &Story, vo: VoId, jane: PersonId) {
    let now = story.clock.now();
    assert!(matches!(
        done!(story, assign, vo, "operator", jane, Some(now)),
        Err(VoError::Past)
    ));
    let until = now.plus(Duration::from_secs(10));
    done!(story, assign, vo, "operator", jane, Some(until)).unwrap();
    assert!(matches!(
        done!(story, assign, vo, "operator", jane, None),
        Err(VoError::Taken { .. })
    ));
    let directory = story.directory();
    assert_eq!(directory.assignments(vo, jane, now).count(), 1);
    assert_eq!(directory.assignments(vo, jane, until).count(), 0);
    story.clock.advance(Duration::from_secs(10));
    done!(story, assign, vo, "operator", jane, None).unwrap();
    assert_eq!(story.directory().assignments(vo, jane, until).count(), 1);
    done!(story, unassign, vo, "operator", jane).unwrap();
    assert!(matches!(
        done!(story, unassign, vo, "operator", jane),
        Err(VoError::Unknown { .. })
    ));
    let (stranger, _) = done!(story, add_person, vo, "stranger", &fields("Stranger")).unwrap();
    assert!(matches!(
        done!(story, assign, vo, "operator", stranger, None),
        Err(VoError::NotAMember)
    ));
}

async fn somebody_always_administers(story: &Story, vo: VoId, admin: PersonId) {
    let jane = story.directory().person_named("jane").unwrap().id;
    assert!(matches!(
        done!(story, leave, vo, admin),
        Err(VoError::LastAdministrator(VO_ADMINISTRATOR))
    ));
    let soon = story.clock.now().plus(Duration::from_secs(1));
    done!(story, assign, vo, VO_ADMINISTRATOR, jane, Some(soon)).unwrap();
    assert!(
        matches!(
            done!(story, unassign, vo, VO_ADMINISTRATOR, admin),
            Err(VoError::LastAdministrator(VO_ADMINISTRATOR))
        ),
        "one whose role runs out does not count"
    );
    done!(story, unassign, vo, VO_ADMINISTRATOR, jane).unwrap();
    let gateway = Directory::gateway();
    done!(story, assign, gateway, SYSTEM_ADMINISTRATOR, admin, None).unwrap();
    assert!(matches!(
        done!(story, unassign, gateway, SYSTEM_ADMINISTRATOR, admin),
        Err(VoError::LastAdministrator(SYSTEM_ADMINISTRATOR))
    ));
}

async fn upstreams(story: &Story, vo: VoId) {
    let new = NewUpstream {
        http2: false,
        name: "ce".into(),
        url: "unix:/run/jobs.sock".into(),
        ca: None,
        expected: None,
    };
    done!(story, allow_upstream, vo, &new).unwrap();
    assert!(matches!(
        done!(story, allow_upstream, vo, &new),
        Err(VoError::Taken { .. })
    ));
    let directory = story.directory();
    let upstream = directory.upstream(vo, "ce").unwrap();
    assert_eq!(upstream.address, UpstreamAddress::Unix("/run/jobs.sock".into()));
    assert!(upstream.allow_local);
    done!(story, end_upstream, vo, "ce").unwrap();
    assert!(story.directory().upstream(vo, "ce").is_none());
    assert!(matches!(
        done!(story, end_upstream, vo, "ce"),
        Err(VoError::Unknown { .. })
    ));
    let again = NewUpstream {
        http2: false,
        url: "https://ce.example.org".into(),
        expected: Some("other.example.org".into()),
        ..new
    };
    done!(story, allow_upstream, vo, &again).unwrap();
    let directory = story.directory();
    assert!(!directory.upstream(vo, "ce").unwrap().allow_local);
}

async fn suspension(story: &Story, vo: VoId) {
    let jane = story.directory().person_named("jane").unwrap().id;
    let before = story.directory().vo(vo).unwrap().version;
    done!(story, suspend_person, jane).unwrap();
    let directory = story.directory();
    assert_eq!(directory.person(jane).unwrap().state, PersonState::Suspended);
    assert!(
        directory.vo(vo).unwrap().version > before,
        "every VO of a suspended person has a new version"
    );
    done!(story, resume_person, jane).unwrap();
    assert_eq!(story.directory().person(jane).unwrap().state, PersonState::Active);
    done!(story, suspend_vo, vo).unwrap();
    assert_eq!(story.directory().vo(vo).unwrap().state, VoState::Suspended);
    done!(story, resume_vo, vo).unwrap();
    assert_eq!(story.directory().vo(vo).unwrap().state, VoState::Active);
    assert!(done!(story, suspend_vo, Directory::gateway()).is_err());
    done!(story, end_person, jane).unwrap();
    let directory = story.directory();
    assert!(directory.person_named("jane").is_none());
    assert_eq!(
        directory.person(jane).unwrap().username,
        "jane",
        "kept for tracing"
    );
    assert!(!directory.is_member(vo, jane));
    assert!(matches!(
        done!(story, resume_person, jane),
        Err(VoError::Unknown { .. })
    ));
    let (other, _) = done!(story, add_person, vo, "jane", &fields("Jane")).unwrap();
    assert_ne!(other, jane, "a name may be used again, an id never");
    erasure(story, jane).await;
}

/// Jane's account has ended, and her card was replaced once.
async fn erasure(story: &Story, jane: PersonId) {
    let cards = async || story.vos.held(jane).await.unwrap().unwrap().cards.len();
    let kept = cards().await;
    let long_ago = Timestamp::from_secs(0);
    assert!(done!(story, destroy_old_cards, long_ago).unwrap().is_empty());
    assert_eq!(cards().await, kept);
    let far = Timestamp::from_secs(100_000_000_000);
    let destroyed = done!(story, destroy_old_cards, far).unwrap();
    assert!(destroyed.iter().all(|change| change.action == "card.destroy"));
    assert!(destroyed.iter().any(|change| change.person == Some(jane)));
    assert_eq!(cards().await, 1, "the present card stays");

    let text = |change: &Change| serde_json::to_string(change).unwrap();
    let change = done!(story, erase_person, jane).unwrap();
    assert!(!text(&change).to_lowercase().contains("jane"), "{change:?}");
    let held = story.vos.held(jane).await.unwrap().unwrap();
    assert!(held.cards.is_empty() && held.username.is_empty() && !held.is_bound());
    assert!(story.vos.card(jane).await.unwrap().is_none());
    let ada = story.directory().person_named("admin").unwrap().id;
    assert!(
        done!(story, erase_person, ada).is_err(),
        "her account has not ended"
    );
    story.db.scrub().await.unwrap();
}

async fn a_change_without_commit_changes_nothing(story: &Story, vo: VoId) {
    let before = story.directory().vo(vo).unwrap().version;
    let mut tx = story.db.begin_write().await.unwrap();
    story.vos.create_role(&mut tx, vo, "ghost").await.unwrap();
    drop(tx);
    story.vos.load().await.unwrap();
    let directory = story.directory();
    assert!(directory.role_named(vo, "ghost").is_none());
    assert_eq!(directory.vo(vo).unwrap().version, before);
}

#[tokio::test]
async fn the_contract_holds_on_sqlite() {
    let (db, _folder) = tests_support::sqlite().await;
    contract(&db).await;
    db.close().await;
}

#[tokio::test]
async fn the_contract_holds_on_postgres() {
    let postgres = tests_support::Postgres::new().await;
    contract(&postgres.db).await;
    postgres.end().await;
}
