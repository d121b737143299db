use std::slice;
use std::sync::Arc;

use proptest::prelude::*;

use super::level::{Level, Whole};
use super::*;
use crate::clock::{HandClock, Timestamp};
use crate::id::{Ids, PersonId, RandomError, RoleId, SystemSource};
use crate::record::{ChangeEvent, StateDigests};
use crate::store::tests_support::{Postgres, sqlite};
use crate::tool::{Registered, Tool};
use crate::vo::{
    Assignment, CardFields, Ceiling, CeilingScope, CeilingTask, Condition, Directory, DirectoryHandle, Grant,
    Membership, Person, PersonState, Role, Upstream, UpstreamAddress, Vo, VoState,
};

fn ids() -> Ids {
    let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
    Ids::new(clock, Arc::new(SystemSource::new()))
}

fn next<T: From<uuid::Uuid>>(ids: &Ids) -> T {
    let id: Result<T, RandomError> = ids.next();
    id.unwrap()
}

/// One VO with a few rows of each kind.
fn whole(ids: &Ids) -> (VoId, Whole) {
    let vo: VoId = next(ids);
    let (person, other): (PersonId, PersonId) = (next(ids), next(ids));
    let role: RoleId = next(ids);
    let account = |id, username: &str| Person {
        id,
        username: username.into(),
        home: vo,
        state: PersonState::Active,
        until: None,
        card: Hash::default(),
        version: 1,
    };
    let mut whole = Whole::default();
    whole.rows.vos = vec![Vo {
        id: vo,
        name: "imense".into(),
        state: VoState::Active,
        version: 7,
    }];
    whole.rows.people = vec![account(person, "john"), account(other, "jane")];
    whole.rows.memberships = [person, other]
        .map(|person| Membership {
            id: next(ids),
            vo,
            person,
        })
        .into();
    whole.rows.roles = ["scientist", "operator"]
        .map(|name| Role {
            id: if name == "operator" { role } else { next(ids) },
            vo,
            name: name.into(),
        })
        .into();
    whole.rows.assignments = [Some(Timestamp::from_secs(9)), None]
        .map(|until| Assignment {
            id: next(ids),
            vo,
            role,
            person,
            until,
        })
        .into();
    whole.rows.grants = ["run", "look"]
        .map(|task| Grant {
            id: next(ids),
            vo,
            role,
            tool: "jobs".into(),
            task: task.into(),
            condition: Condition::Own,
        })
        .into();
    whole.rows.upstreams = ["ce", "se"]
        .map(|name| Upstream {
            id: next(ids),
            vo,
            name: name.into(),
            address: UpstreamAddress::Tls {
                host: "ce.example.org".into(),
                port: 443,
                ca: Some("PEM".into()),
                name: Some("ce".into()),
            },
            url: "https://ce.example.org".into(),
            allow_local: false,
            http2: false,
            version: 1,
        })
        .into();
    whole.rows.ceilings = vec![Ceiling {
        id: next(ids),
        vo,
        scope: CeilingScope::Tool("jobs".into()),
        kinds: vec!["read".into()],
        tasks: vec![CeilingTask {
            tool: "jobs".into(),
            task: "run".into(),
            pin: Hash::of(b"run"),
        }],
    }];
    whole.tools = ["jobs", "store"]
        .map(|name| Registered {
            id: next(ids),
            version: 3,
            vo,
            name: name.into(),
            manifest: "[tool]".into(),
        })
        .into();
    (vo, whole)
}

fn digest(whole: &Whole, vo: VoId) -> Hash {
    whole.levels().remove(&vo).unwrap().digest(vo)
}

type Edit = fn(&mut Whole, &Ids);

/// Every field that decides.
const EDITS: &[(&str, Edit)] = &[
    ("name of the VO", |w, _| w.rows.vos[0].name = "other".into()),
    ("state of the VO", |w, _| w.rows.vos[0].state = VoState::Suspended),
    ("version of the VO", |w, _| w.rows.vos[0].version += 1),
    ("user name", |w, _| w.rows.people[0].username = "mallory".into()),
    ("standing", |w, _| w.rows.people[0].state = PersonState::Suspended),
    ("end of an account", |w, _| {
        w.rows.people[1].state = PersonState::Ended;
    }),
    ("home", |w, _| w.rows.people[0].home = Directory::gateway()),
    ("a member goes", |w, _| w.rows.memberships.truncate(1)),
    ("another member", |w, ids| {
        w.rows.memberships[0].person = next(ids);
    }),
    ("id of a membership", |w, ids| {
        w.rows.memberships[0].id = next(ids)
    }),
    ("name of a role", |w, _| w.rows.roles[0].name = "boss".into()),
    ("a role goes", |w, _| w.rows.roles.truncate(1)),
    ("role of an assignment", |w, ids| {
        w.rows.assignments[0].role = next(ids);
    }),
    ("person of an assignment", |w, ids| {
        w.rows.assignments[0].person = next(ids);
    }),
    ("end of an assignment", |w, _| w.rows.assignments[0].until = None),
    ("later end", |w, _| {
        w.rows.assignments[0].until = Some(Timestamp::from_secs(10));
    }),
    ("an assignment goes", |w, _| w.rows.assignments.truncate(1)),
    ("role of a grant", |w, ids| w.rows.grants[0].role = next(ids)),
    ("tool of a grant", |w, _| w.rows.grants[0].tool = "store".into()),
    ("task of a grant", |w, _| w.rows.grants[0].task = "delete".into()),
    ("condition of a grant", |w, _| {
        w.rows.grants[0].condition = Condition::Always;
    }),
    ("a grant comes", |w, ids| {
        let grant = Grant {
            id: next(ids),
            ..w.rows.grants[0].clone()
        };
        w.rows.grants.push(grant);
    }),
    ("name of an upstream", |w, _| {
        w.rows.upstreams[0].name = "x".into()
    }),
    ("url of an upstream", |w, _| {
        w.rows.upstreams[0].url = "https://evil.example.org".into();
    }),
    ("authority of an upstream", |w, _| {
        if let UpstreamAddress::Tls { ca, .. } = &mut w.rows.upstreams[0].address {
            *ca = None;
        }
    }),
    ("expected name of an upstream", |w, _| {
        if let UpstreamAddress::Tls { name, .. } = &mut w.rows.upstreams[0].address {
            *name = Some("evil".into());
        }
    }),
    ("protocol of an upstream", |w, _| w.rows.upstreams[0].http2 = true),
    ("version of an upstream", |w, _| w.rows.upstreams[0].version = 2),
    ("scope of a ceiling", |w, _| {
        w.rows.ceilings[0].scope = CeilingScope::All;
    }),
    ("name of a ceiling", |w, _| {
        w.rows.ceilings[0].scope = CeilingScope::Tool("x".into());
    }),
    ("kinds of a ceiling", |w, _| {
        w.rows.ceilings[0].kinds.push("delete".into())
    }),
    ("tasks of a ceiling", |w, _| w.rows.ceilings[0].tasks.clear()),
    ("pin of a ceiling", |w, _| {
        w.rows.ceilings[0].tasks[0].pin = Hash::of(b"other");
    }),
    ("a ceiling goes", |w, _| w.rows.ceilings.clear()),
    ("manifest of a tool", |w, _| {
        w.tools[0].manifest = "[tool] ".into()
    }),
    ("name of a tool", |w, _| w.tools[0].name = "x".into()),
    ("version of a tool", |w, _| w.tools[0].version = 4),
    ("a tool goes", |w, _| w.tools.truncate(1)),
];

#[test]
fn every_field_that_decides_changes_the_digest_and_is_told() {
    let ids = ids();
    let (vo, before) = whole(&ids);
    for (what, edit) in EDITS {
        let mut after = before.clone();
        edit(&mut after, &ids);
        assert_ne!(digest(&before, vo), digest(&after, vo), "{what}");
        let difference = before.levels()[&vo].difference(&after.levels()[&vo]);
        assert!(!difference.is_empty(), "{what}");
        assert!(
            !format!("{difference:?}").contains("mallory"),
            "a name of a person in {difference:?}"
        );
    }
}

#[test]
fn a_second_row_with_the_id_of_another_is_in_the_digest_and_in_doubt() {
    let ids = ids();
    let (vo, before) = whole(&ids);
    let doubles: [fn(&mut Whole); 3] = [
        |w| {
            let double = Registered {
                version: 4,
                manifest: "[evil]".into(),
                ..w.tools[0].clone()
            };
            w.tools.push(double);
        },
        |w| {
            let double = Grant {
                task: "delete".into(),
                ..w.rows.grants[0].clone()
            };
            w.rows.grants.insert(0, double);
        },
        |w| w.rows.assignments.push(w.rows.assignments[0].clone()),
    ];
    for double in doubles {
        let mut after = before.clone();
        double(&mut after);
        assert_ne!(digest(&before, vo), digest(&after, vo));
        let level = &after.levels()[&vo];
        let [(_, _, how)] = before.levels()[&vo].difference(level).try_into().unwrap();
        assert_eq!(how, "is there more than once");
        assert_eq!(&Level::parse(&level.text()).unwrap(), level);
        // Not even what was taken for right.
        let known = digests(&after);
        let (_, doubts) = judge::judge(&known, after.clone(), Some(&after), &|_| None);
        assert_eq!(doubts.keys().collect::<Vec<_>>(), [&vo]);
        assert!(!doubts[&vo].kept);
    }
}

#[test]
fn an_account_of_no_living_vo_is_the_gateways() {
    let ids = ids();
    let (vo, mut before) = whole(&ids);
    let gateway = Directory::gateway();
    before.rows.vos.push(Vo {
        id: gateway,
        name: "countersign".into(),
        ..before.rows.vos[0].clone()
    });
    let mut after = before.clone();
    let mut stranger = after.rows.people[0].clone();
    (stranger.id, stranger.home, stranger.username) = (next(&ids), next(&ids), "eve".into());
    after.rows.people.push(stranger);
    assert_eq!(digest(&before, vo), digest(&after, vo));
    assert_ne!(digest(&before, gateway), digest(&after, gateway));
    assert!(!after.twice_named());
    after.rows.people[2].username = "john".into();
    assert!(after.twice_named());
    after.rows.people[2].state = PersonState::Ended;
    assert!(!after.twice_named());
}

#[test]
fn what_does_not_decide_leaves_the_digest() {
    let ids = ids();
    let (vo, before) = whole(&ids);
    let mut after = before.clone();
    after.rows.people[0].card = Hash::of(b"another name");
    after.rows.people[0].version = 99;
    let mut stranger = after.rows.people[0].clone();
    (stranger.id, stranger.home) = (next(&ids), Directory::gateway());
    after.rows.people.push(stranger);
    assert_eq!(digest(&before, vo), digest(&after, vo));
}

#[test]
fn the_lines_of_a_level_are_read_as_they_were_written() {
    let (vo, whole) = whole(&ids());
    let level = whole.levels().remove(&vo).unwrap();
    assert_eq!(Level::parse(&level.text()).unwrap(), level);
    assert_eq!(level::digest_of(vo, &level.text()), level.digest(vo));
    assert!(!level.text().contains("john") && !level.text().contains("[tool]"));
    assert_eq!(Level::parse("grant 1"), None);
    assert_eq!(Level::parse("dream 1 00"), None);
}

proptest! {
    #[test]
    fn the_order_of_rows_does_not_matter(turns in proptest::collection::vec(0usize..7, 0..20)) {
        let (vo, before) = whole(&ids());
        let mut after = before.clone();
        for turn in turns {
            match turn {
                0 => after.rows.people.reverse(),
                1 => after.rows.memberships.reverse(),
                2 => after.rows.roles.rotate_left(1),
                3 => after.rows.assignments.reverse(),
                4 => after.rows.grants.rotate_left(1),
                5 => after.rows.upstreams.reverse(),
                _ => after.tools.reverse(),
            }
        }
        prop_assert_eq!(digest(&before, vo), digest(&after, vo));
    }

    #[test]
    fn texts_do_not_run_into_each_other(tool in "[a-z]{1,4}", task in "[a-z]{1,4}", cut in 1usize..8) {
        let (vo, mut before) = whole(&ids());
        let whole_text = format!("{tool}{task}");
        before.rows.grants[0].tool.clone_from(&tool);
        before.rows.grants[0].task.clone_from(&task);
        let cut = cut.min(whole_text.len());
        let mut after = before.clone();
        after.rows.grants[0].tool = whole_text[..cut].to_owned();
        after.rows.grants[0].task = whole_text[cut..].to_owned();
        prop_assert_eq!(digest(&before, vo) == digest(&after, vo), cut == tool.len());
    }
}

fn listed(part: u32, parts: u32, vos: &[(VoId, &[u8])]) -> Event {
    Event::State(StateDigests {
        scheme: level::SCHEME,
        part,
        parts,
        levels: vos
            .iter()
            .map(|(vo, text)| StateStep {
                vo: *vo,
                before: None,
                after: Some(Hash::of(text)),
            })
            .collect(),
        ..StateDigests::default()
    })
}

#[test]
fn the_newest_whole_list_and_the_changes_since_count() {
    let ids = ids();
    let (a, b): (VoId, VoId) = (next(&ids), next(&ids));
    let request = next(&ids);
    let to = |text: &[u8]| StateStep {
        vo: a,
        before: None,
        after: Some(Hash::of(text)),
    };
    let change = |text: &[u8]| {
        let change = Change {
            action: "grant.add".into(),
            kind: "grant".into(),
            target: "x".into(),
            vo: a,
            person: None,
            before: None,
            after: None,
        };
        Event::Change(Box::new(ChangeEvent {
            state: vec![to(text)],
            ..ChangeEvent::of(request, change)
        }))
    };
    assert_eq!(told(&[change(b"1")]), None, "no list to start from");
    assert_eq!(told(&[listed(0, 2, &[(a, b"1")])]), None, "half a list");
    let events = [
        listed(0, 1, &[(a, b"0")]),
        change(b"1"),
        listed(0, 2, &[(a, b"2")]),
        listed(1, 2, &[(b, b"3")]),
        change(b"4"),
        // A list that a crash cut off says nothing.
        listed(0, 2, &[(b, b"5")]),
    ];
    let told = told(&events).unwrap();
    assert_eq!(
        told.levels,
        BTreeMap::from([(a, Hash::of(b"2")), (b, Hash::of(b"3"))])
    );
    assert_eq!(told.changes, vec![(request, vec![to(b"4")])]);
    assert!(told.applied.is_empty());
}

struct World {
    states: States,
    vos: Vos,
    db: Db,
    ids: Ids,
    vo: VoId,
    other: VoId,
    person: PersonId,
}

impl World {
    async fn new(db: &Db) -> Self {
        let ids = ids();
        let vos = Vos::new(db.clone(), DirectoryHandle::default(), ids.clone());
        let own = Arc::new(Tool::own(Vec::new()).unwrap());
        let tools = ToolStore::new(db.clone(), vos.handle(), ids.clone(), own);
        let mut tx = db.begin_write().await.unwrap();
        vos.establish(&mut tx).await.unwrap();
        let fields = CardFields {
            name: "Ada".into(),
            ..CardFields::default()
        };
        let gateway = Directory::gateway();
        let (person, _) = vos.add_person(&mut tx, gateway, "ada", &fields).await.unwrap();
        let (vo, _) = vos.create_vo(&mut tx, "imense", person).await.unwrap();
        let (other, _) = vos.create_vo(&mut tx, "other", person).await.unwrap();
        tx.commit().await.unwrap();
        let states = States::new(db.clone(), vos.clone(), tools);
        states.load().await.unwrap();
        Self {
            states,
            vos,
            db: db.clone(),
            ids,
            vo,
            other,
            person,
        }
    }

    /// A gateway that starts on the same store, with what the log of this one says.
    async fn started_again(&self, log: &[Event]) -> Self {
        let vos = Vos::new(self.db.clone(), DirectoryHandle::default(), self.ids.clone());
        let own = Arc::new(Tool::own(Vec::new()).unwrap());
        let tools = ToolStore::new(self.db.clone(), vos.handle(), self.ids.clone(), own);
        let states = States::new(self.db.clone(), vos.clone(), tools);
        states.expect(told(log).unwrap()).await.unwrap();
        states.load().await.unwrap();
        Self {
            states,
            vos,
            db: self.db.clone(),
            ids: self.ids.clone(),
            ..*self
        }
    }

    async fn list(&self) -> Vec<Event> {
        let held = self.states.hold().await.unwrap();
        let list = held.records();
        held.written();
        list
    }

    /// One change in order: gives what the log is told.
    async fn role(&self, vo: VoId, name: &str) -> Result<Vec<Event>, StateError> {
        let (ready, request, events) = self.prepared(vo, name).await?;
        ready.commit(request).await?;
        Ok(events)
    }

    async fn prepared(&self, vo: VoId, name: &str) -> Result<(Ready, RequestId, Vec<Event>), StateError> {
        let request = next(&self.ids);
        let mut tx = self.states.begin().await?;
        let change = self.vos.create_role(&mut tx, vo, name).await.unwrap();
        let mut ready = tx.ready(slice::from_ref(&change)).await?;
        ready.tx().applied(request, Timestamp::from_secs(1)).await?;
        let (state, further) = ready.records(request, true);
        let event = Event::Change(Box::new(ChangeEvent {
            state,
            ..ChangeEvent::of(request, change)
        }));
        Ok((ready, request, std::iter::once(event).chain(further).collect()))
    }

    /// Somebody makes a role past the gateway, and even raises the version as the gateway does.
    async fn foreign(&self, vo: VoId, name: &str) {
        let mut tx = self.db.begin_write().await.unwrap();
        self.vos.create_role(&mut tx, vo, name).await.unwrap();
        tx.commit().await.unwrap();
    }

    fn has(&self, vo: VoId, role: &str) -> bool {
        self.vos.handle().load().role_named(vo, role).is_some()
    }

    fn doubted(&self) -> Vec<VoId> {
        self.states.doubts().iter().map(|doubt| doubt.vo).collect()
    }
}

async fn contract(db: &Db) {
    let world = World::new(db).await;
    let (vo, other) = (world.vo, world.other);
    let mut log = world.list().await;
    log.extend(world.role(vo, "first").await.unwrap());
    assert!(world.has(vo, "first") && world.doubted().is_empty());

    // What somebody else writes does not come into force, by a load or with the next change.
    world.foreign(vo, "ghost").await;
    let refused = world.role(vo, "second").await.unwrap_err();
    assert!(matches!(refused, StateError::InDoubt(_)), "{refused}");
    world.states.load().await.unwrap();
    assert!(!world.has(vo, "ghost") && world.has(vo, "first"));
    assert!(world.vos.handle().load().is_member(vo, world.person));
    let [doubt] = world.states.doubts().try_into().unwrap();
    assert!(doubt.kept && doubt.vo == vo && doubt.name == "imense");
    let words = doubt.difference.join("; ");
    assert!(
        words.contains("added (ghost)") && words.contains("vo "),
        "{words}"
    );
    // The rest goes on.
    log.extend(world.role(other, "elsewhere").await.unwrap());
    assert!(world.has(other, "elsewhere") && !world.has(vo, "ghost"));

    // It is told once, and not lost.
    let [(told_of, said)] = world.states.untold().try_into().unwrap();
    assert_eq!((said.effect.as_str(), said.vo), ("last_good", vo));
    world.states.was_told(&told_of, &said);
    assert!(world.states.untold().is_empty());

    // A start has nothing that was in force: nothing is allowed there, all else is.
    let again = world.started_again(&log).await;
    assert_eq!(again.doubted(), [vo]);
    let directory = again.vos.handle().load();
    assert_eq!(directory.vo(vo).unwrap().state, VoState::InDoubt);
    assert!(directory.roles_of_vo(vo).next().is_none());
    assert!(again.has(other, "elsewhere"));
    assert_eq!(directory.vo(other).unwrap().state, VoState::Active);
    assert_eq!(again.states.untold()[0].1.effect, "refused");

    // Accepted is what was looked at.
    let mut tx = again.states.begin().await.unwrap();
    let moved = tx.accept(vo, Some(Hash::default())).await.unwrap_err();
    assert!(matches!(moved, StateError::Moved));
    let none = tx.accept(other, None).await.unwrap_err();
    assert!(matches!(none, StateError::Certain(_)));
    let found = again.states.doubts()[0].found;
    tx.accept(vo, found).await.unwrap();
    let request = next(&again.ids);
    let mut ready = tx.ready(&[]).await.unwrap();
    ready
        .tx()
        .applied(request, Timestamp::from_secs(1))
        .await
        .unwrap();
    let (state, _) = ready.records(request, true);
    assert_eq!((state.len(), state[0].vo, state[0].before), (1, vo, doubt.known));
    ready.commit(request).await.unwrap();
    assert!(again.doubted().is_empty() && again.has(vo, "ghost"));
    again.role(vo, "second").await.unwrap();
}

#[tokio::test]
async fn what_somebody_writes_past_the_gateway_is_no_right() {
    let (db, _folder) = sqlite().await;
    contract(&db).await;
}

#[tokio::test]
async fn what_somebody_writes_past_the_gateway_is_no_right_on_postgresql() {
    let server = Postgres::new().await;
    contract(&server.db).await;
    server.end().await;
}

#[tokio::test]
async fn rows_that_are_put_back_end_the_doubt() {
    let (db, _folder) = sqlite().await;
    let world = World::new(&db).await;
    let run = async |sql: &'static str| {
        let Db::Sqlite(pool) = &db else {
            panic!("another store")
        };
        sqlx::query(sql).execute(pool).await.unwrap();
        world.states.load().await.unwrap();
    };
    run("UPDATE role SET name = 'boss' WHERE name = 'scientist'").await;
    assert_eq!(world.doubted().len(), 2);
    assert!(world.has(world.vo, "scientist") && !world.has(world.vo, "boss"));
    for (doubt, said) in world.states.untold() {
        world.states.was_told(&doubt, &said);
    }
    run("UPDATE role SET name = 'scientist' WHERE name = 'boss'").await;
    assert!(world.doubted().is_empty());
    let back: Vec<String> = world
        .states
        .untold()
        .into_iter()
        .map(|(_, said)| said.effect)
        .collect();
    assert_eq!(back, ["put_back", "put_back"]);
    for (doubt, said) in world.states.untold() {
        world.states.was_told(&doubt, &said);
    }
    assert!(world.states.untold().is_empty());
    // A VO that is taken away stays, one that is put in is not served.
    run("UPDATE vo SET ended_at = 1 WHERE name = 'other'").await;
    assert!(world.vos.handle().load().vo_named("other").is_some());
    run("UPDATE vo SET ended_at = NULL WHERE name = 'other'").await;
    run("INSERT INTO vo (id, name, state, version, created_at) VALUES (x'00112233445566778899aabbccddeeff', 'mine', 'active', 1, 1)").await;
    let directory = world.vos.handle().load();
    assert_eq!(directory.vo_named("mine").unwrap().state, VoState::InDoubt);
}

#[tokio::test]
async fn a_crash_between_record_and_commit_and_after_it_is_no_foreign_change() {
    let (db, _folder) = sqlite().await;
    let world = World::new(&db).await;
    let mut log = world.list().await;
    // Recorded, and the gateway dies before the commit.
    let (ready, _, events) = world.prepared(world.vo, "never").await.unwrap();
    drop(ready);
    log.extend(events);
    let world = world.started_again(&log).await;
    assert!(world.doubted().is_empty() && !world.has(world.vo, "never"));
    // Committed, and the gateway dies before anything else.
    log.extend(world.role(world.vo, "once").await.unwrap());
    let world = world.started_again(&log).await;
    assert!(world.doubted().is_empty() && world.has(world.vo, "once"));
    // The same without a crash: what is refused at the last moment leaves nothing behind.
    let (ready, ..) = world.prepared(world.vo, "not").await.unwrap();
    drop(ready);
    world.role(world.vo, "after").await.unwrap();
    assert!(world.doubted().is_empty());
}

async fn run(db: &Db, sql: &'static str) {
    match db {
        Db::Sqlite(pool) => drop(sqlx::raw_sql(sql).execute(pool).await.unwrap()),
        Db::Postgres(pool) => drop(sqlx::raw_sql(sql).execute(pool).await.unwrap()),
    }
}

#[tokio::test]
async fn an_older_store_that_is_put_back_does_not_undo_what_the_log_says() {
    let (db, _folder) = sqlite().await;
    let world = World::new(&db).await;
    let mut log = world.list().await;
    let changed = world.role(world.vo, "after").await.unwrap();
    let Some(Event::Change(change)) = changed.first() else {
        panic!("no change")
    };
    let outcome = crate::record::Outcome {
        status: Some(201),
        ..crate::record::Outcome::ended(change.request, crate::record::Ending::Answered)
    };
    log.extend(changed);
    log.push(Event::Outcome(Box::new(outcome)));
    // As the store was before.
    let sql =
        "DELETE FROM role WHERE name = 'after'; UPDATE vo SET version = version - 1 WHERE name = 'imense'";
    run(&db, sql).await;
    run(&db, "DELETE FROM applied").await;
    let again = world.started_again(&log).await;
    assert_eq!(again.doubted(), [world.vo]);
}

/// With `trigger`, every change makes a role that it does not name.
async fn triggered(db: &Db, trigger: &'static str, gone: &'static str) {
    let world = World::new(db).await;
    let log = world.list().await;
    run(db, trigger).await;
    let refused = world.role(world.vo, "reader").await.unwrap_err();
    assert!(matches!(refused, StateError::Flawed(_)), "{refused}");
    assert!(refused.to_string().contains("trigger `helpful`"), "{refused}");
    world.states.load().await.unwrap();
    assert_eq!(world.doubted().len(), 3, "every level");
    assert!(world.has(world.vo, "scientist") && !world.has(world.vo, "reader"));
    let again = world.started_again(&log).await;
    assert_eq!(again.doubted().len(), 3);
    assert!(!again.has(world.vo, "scientist"));
    run(db, gone).await;
    again.states.load().await.unwrap();
    assert!(again.doubted().is_empty() && again.has(world.vo, "scientist"));
    again.role(world.vo, "reader").await.unwrap();
}

#[tokio::test]
async fn a_trigger_does_not_ride_along_with_a_change() {
    let (db, _folder) = sqlite().await;
    let trigger = "CREATE TRIGGER helpful AFTER INSERT ON role WHEN new.name <> 'ghost' BEGIN
        INSERT INTO role SELECT randomblob(16), vo_id, 'ghost', 1, 1, NULL FROM role WHERE id = new.id; END";
    triggered(&db, trigger, "DROP TRIGGER helpful").await;
}

#[tokio::test]
async fn a_trigger_does_not_ride_along_with_a_change_on_postgresql() {
    let server = Postgres::new().await;
    let trigger = "CREATE FUNCTION help() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := 'ghost'; RETURN NEW; END $$;
        CREATE TRIGGER helpful BEFORE INSERT ON role FOR EACH ROW EXECUTE FUNCTION help()";
    triggered(&server.db, trigger, "DROP TRIGGER helpful ON role").await;
    server.end().await;
}

#[tokio::test]
async fn what_no_change_names_does_not_ride_along() {
    let (db, _folder) = sqlite().await;
    let world = World::new(&db).await;
    let mut tx = world.states.begin().await.unwrap();
    let change = world.vos.create_role(&mut tx, world.vo, "reader").await.unwrap();
    // Whatever it is that writes there.
    let other = world
        .vos
        .create_role(&mut tx, world.other, "ghost")
        .await
        .unwrap();
    let error = tx.ready(slice::from_ref(&change)).await.unwrap_err();
    assert!(matches!(error, StateError::Flawed(_)), "{error}");
    assert!(!world.has(world.vo, "reader") && !world.has(world.other, "ghost"));
    let mut tx = world.states.begin().await.unwrap();
    for (vo, name) in [(world.vo, "reader"), (world.other, "ghost")] {
        world.vos.create_role(&mut tx, vo, name).await.unwrap();
    }
    tx.ready(&[change, other]).await.unwrap();
}

#[tokio::test]
async fn an_id_of_another_type_closes_the_store() {
    let (db, _folder) = sqlite().await;
    let world = World::new(&db).await;
    // Read as the same row, but no statement that names its id ends it.
    run(&db, "UPDATE assignment SET id = CAST(id AS TEXT)").await;
    world.states.load().await.unwrap();
    assert_eq!(world.doubted().len(), 3);
    run(&db, "UPDATE assignment SET id = CAST(id AS BLOB)").await;
    world.states.load().await.unwrap();
    assert!(world.doubted().is_empty());
}

#[tokio::test]
async fn an_account_with_an_end_is_ended_whatever_its_state_says() {
    let (db, _folder) = sqlite().await;
    let world = World::new(&db).await;
    run(&db, "UPDATE person SET ended_at = 1").await;
    world.states.load().await.unwrap();
    assert_eq!(world.doubted().len(), 3);
}

#[tokio::test]
async fn accepting_never_brings_a_version_back_that_was_in_force() {
    let (db, _folder) = sqlite().await;
    let world = World::new(&db).await;
    for name in ["a", "b", "c"] {
        world.role(world.vo, name).await.unwrap();
    }
    let version = |world: &World| world.vos.handle().load().vo(world.vo).unwrap().version;
    let before = version(&world);
    // One change back, so that the next version would be the one in force.
    run(
        &db,
        "UPDATE vo SET version = version - 1 WHERE name = 'imense'; DELETE FROM role WHERE name = 'c'",
    )
    .await;
    world.states.load().await.unwrap();
    let found = world.states.doubts()[0].found;
    let mut tx = world.states.begin().await.unwrap();
    tx.accept(world.vo, found).await.unwrap();
    let request = next(&world.ids);
    let ready = tx.ready(&[]).await.unwrap();
    ready.commit(request).await.unwrap();
    assert!(version(&world) > before);
    assert!(!world.has(world.vo, "c"));
}

async fn all_at_one_moment(db: &Db) {
    let world = World::new(db).await;
    let mut tx = world.states.begin().await.unwrap();
    world.foreign(world.other, "ghost").await;
    let role = world.vos.create_role(&mut tx, world.vo, "reader").await;
    let change = role.unwrap();
    let ready = tx.ready(&[change]).await.unwrap();
    let (steps, _) = ready.records(next(&world.ids), true);
    assert_eq!(steps.iter().map(|step| step.vo).collect::<Vec<_>>(), [world.vo]);
    ready.commit(next(&world.ids)).await.unwrap();
    world.states.load().await.unwrap();
    assert_eq!(world.doubted(), [world.other]);
}

#[tokio::test]
async fn a_row_that_comes_during_a_change_is_not_part_of_it_on_postgresql() {
    let server = Postgres::new().await;
    all_at_one_moment(&server.db).await;
    server.end().await;
}

#[tokio::test]
async fn who_was_let_in_past_the_gateway_is_not_known() {
    let (db, _folder) = sqlite().await;
    let world = World::new(&db).await;
    let fields = CardFields {
        name: "Eve".into(),
        ..CardFields::default()
    };
    let mut tx = db.begin_write().await.unwrap();
    let (eve, _) = world
        .vos
        .add_person(&mut tx, world.vo, "eve", &fields)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let Db::Sqlite(pool) = &db else {
        panic!("another store")
    };
    let sql = "UPDATE person SET state = 'suspended' WHERE username = 'ada'";
    sqlx::query(sql).execute(pool).await.unwrap();
    world.states.load().await.unwrap();
    let directory = world.vos.handle().load();
    assert!(directory.person(eve).is_none());
    assert_eq!(
        directory.person(world.person).unwrap().state,
        PersonState::Active,
        "as in force before"
    );
    assert_eq!(
        world.doubted().len(),
        3,
        "every level that she belongs to: {:?}",
        world.doubted()
    );
}
