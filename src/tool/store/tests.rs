use super::*;
use crate::clock::HandClock;
use crate::id::{SystemSource, UpstreamId};
use crate::store::tests_support::{Postgres, sqlite};
use crate::vo::{Directory, Rows, Upstream, UpstreamAddress, Vo, VoState};

struct World {
    tools: ToolStore,
    db: Db,
    vo: VoId,
    other: VoId,
}

impl World {
    fn new(db: &Db) -> Self {
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let ids = Ids::new(clock, Arc::new(SystemSource::new()));
        let (vo, other) = (ids.next::<VoId>().unwrap(), ids.next::<VoId>().unwrap());
        let upstream = |vo: VoId| Upstream {
            id: ids.next::<UpstreamId>().unwrap(),
            vo,
            name: "ce".into(),
            address: UpstreamAddress::Tcp("ce.example.org".into(), 80),
            url: "http://ce.example.org".into(),
            allow_local: false,
            http2: false,
            version: 1,
        };
        let row = |id: VoId, name: &str| Vo {
            id,
            name: name.into(),
            state: VoState::Active,
            version: 1,
        };
        let directory = Directory::build(Rows {
            vos: vec![row(vo, "imense"), row(other, "other")],
            upstreams: vec![upstream(vo), upstream(other)],
            ..Rows::default()
        });
        let own = Arc::new(Tool::own(Vec::new()).unwrap());
        Self {
            tools: ToolStore::new(db.clone(), DirectoryHandle::new(directory), ids, own)
                .reserving(["gw.example.org".to_owned(), "gw".to_owned()]),
            db: db.clone(),
            vo,
            other,
        }
    }

    async fn add(&self, vo: VoId, manifest: &str, seen: i64) -> Result<Change, ToolError> {
        let manifest = Manifest::parse("t.toml", manifest).unwrap();
        let mut tx = self.db.begin_write().await?;
        let change = self.tools.add(&mut tx, vo, &manifest, seen).await?;
        tx.commit().await?;
        assert_eq!(self.tools.load().await?, []);
        Ok(change)
    }

    async fn remove(&self, name: &str, seen: i64) -> Result<Change, ToolError> {
        let mut tx = self.db.begin_write().await?;
        let change = self.tools.remove(&mut tx, self.vo, name, seen).await?;
        tx.commit().await?;
        self.tools.load().await?;
        Ok(change)
    }
}

fn manifest(name: &str, host: &str, task: &str) -> String {
    format!(
        "[tool]\nname = \"{name}\"\nupstream = \"ce\"\nhosts = [\"{host}\"]\n\
         [[task]]\nname = \"{task}\"\nmatch = [\"GET /\"]\nkind = \"read\"\n"
    )
}

async fn a_tool_is_registered_changed_and_removed(db: &Db) {
    let world = World::new(db);
    let change = world
        .add(world.vo, &manifest("jobs", "jobs.gw", "look"), 0)
        .await
        .unwrap();
    assert_eq!((change.action.as_str(), change.before), ("tool.add", None));
    assert_eq!(change.after.unwrap()["tasks"][0], "look");
    let tools = world.tools.handle().load();
    let tool = tools.get(world.vo, "jobs").unwrap();
    assert_eq!((tool.version, tools.all(world.vo).count()), (1, 1));
    let (vo, by_host) = tools.by_host("jobs.gw").unwrap();
    assert_eq!((vo.name.as_str(), by_host.id), ("imense", tool.id));
    assert!(tools.get(world.other, "jobs").is_none());
    assert_eq!(tools.own().name, crate::vo::OWN_TOOL);

    let change = world
        .add(world.vo, &manifest("jobs", "new.gw", "see"), 1)
        .await
        .unwrap();
    assert_eq!(change.before.unwrap()["version"], 1);
    let changed = world.tools.handle().load();
    let now = changed.get(world.vo, "jobs").unwrap();
    assert_eq!(
        (now.id, now.version, now.tasks[0].name.as_str()),
        (tool.id, 2, "see")
    );
    assert!(changed.by_host("jobs.gw").is_none() && changed.by_host("new.gw").is_some());
    assert_eq!(
        world.tools.manifest(tool.id, 1).await.unwrap().as_deref(),
        Some(manifest("jobs", "jobs.gw", "look").as_str())
    );

    world.remove("jobs", 2).await.unwrap();
    let gone = world.tools.handle().load();
    assert!(gone.get(world.vo, "jobs").is_none() && gone.by_host("new.gw").is_none());
    assert!(matches!(
        world.remove("jobs", 2).await,
        Err(ToolError::Unknown(_))
    ));
    world
        .add(world.vo, &manifest("jobs", "new.gw", "see"), 0)
        .await
        .unwrap();
    let again = world.tools.handle().load();
    assert_ne!(again.get(world.vo, "jobs").unwrap().id, tool.id);
    world.remove("jobs", 1).await.unwrap();
}

async fn a_change_of_what_changed_meanwhile_is_refused(db: &Db) {
    let world = World::new(db);
    let text = manifest("jobs", "seen.gw", "look");
    assert!(matches!(
        world.add(world.vo, &text, 1).await,
        Err(ToolError::Version { present: 0, .. })
    ));
    world.add(world.vo, &text, 0).await.unwrap();
    assert!(matches!(
        world.add(world.vo, &text, 0).await,
        Err(ToolError::Version { present: 1, .. })
    ));
    assert!(matches!(
        world.remove("jobs", 3).await,
        Err(ToolError::Version { present: 1, .. })
    ));
    world.add(world.vo, &text, 1).await.unwrap();
    assert_eq!(
        world.tools.handle().load().get(world.vo, "jobs").unwrap().version,
        2
    );
}

async fn a_host_is_one_tools_and_an_upstream_is_the_vos(db: &Db) {
    let world = World::new(db);
    world
        .add(world.vo, &manifest("jobs", "one.gw", "look"), 0)
        .await
        .unwrap();
    for (vo, name) in [(world.vo, "more"), (world.other, "jobs")] {
        let refused = world.add(vo, &manifest(name, "one.gw", "look"), 0).await;
        assert!(matches!(refused, Err(ToolError::HostTaken(host)) if host == "one.gw"));
    }
    world
        .add(world.other, &manifest("jobs", "two.gw", "look"), 0)
        .await
        .unwrap();
    let ours = world
        .add(world.vo, &manifest("fake", "gw.example.org", "look"), 0)
        .await;
    assert!(
        matches!(ours, Err(ToolError::HostTaken(_))),
        "the gateway's own host was given away"
    );
    let elsewhere = manifest("far", "far.gw", "look").replace("\"ce\"", "\"far\"");
    assert!(
        matches!(world.add(world.vo, &elsewhere, 0).await, Err(ToolError::Upstream(name)) if name == "far")
    );
    assert_eq!(world.tools.handle().load().all(world.vo).count(), 1);
}

async fn a_manifest_that_cannot_be_read_is_fatal_for_its_tool_only(db: &Db) {
    let world = World::new(db);
    world
        .add(world.vo, &manifest("good", "good.gw", "look"), 0)
        .await
        .unwrap();
    world
        .add(world.vo, &manifest("bad", "bad.gw", "look"), 0)
        .await
        .unwrap();
    let mut tx = db.begin_write().await.unwrap();
    run!(
        &mut tx,
        "UPDATE tool SET manifest = $1 WHERE vo_id = $2 AND name = $3 AND ended_at IS NULL",
        "[tool]\nname = \"bad\"\nspeed = 9\n",
        world.vo.uuid(),
        "bad"
    )
    .unwrap();
    tx.commit().await.unwrap();
    let broken = world.tools.load().await.unwrap();
    assert_eq!(
        (broken.len(), broken[0].vo, broken[0].name.as_str()),
        (1, world.vo, "bad")
    );
    assert!(broken[0].flaws.contains("unknown key `tool.speed`"));
    let tools = world.tools.handle().load();
    assert!(tools.get(world.vo, "bad").is_none() && tools.by_host("bad.gw").is_none());
    assert!(tools.get(world.vo, "good").is_some());
}

async fn a_tools_host_lies_directly_below_the_gateways_name(db: &Db) {
    let world = World::new(db);
    for host in [
        "evil.example.com",
        "example.org",
        "evil-gw.example.org",
        "a.b.gw.example.org",
        "login.gw.example.org",
        "api.gw",
    ] {
        let refused = world.add(world.vo, &manifest("below", host, "look"), 0).await;
        assert!(
            matches!(&refused, Err(error @ ToolError::Host { .. }) if error.as_problem().kind == Kind::Invalid),
            "{host}: {refused:?}"
        );
    }
    let good = manifest("below", "below.gw.example.org", "look");
    world.add(world.vo, &good, 0).await.unwrap();
    // What an earlier version let in, or a gateway of another name, is entered by nobody.
    let mut tx = db.begin_write().await.unwrap();
    run!(
        &mut tx,
        "UPDATE tool SET manifest = $1 WHERE vo_id = $2 AND name = $3 AND ended_at IS NULL",
        manifest("below", "evil.example.com", "look"),
        world.vo.uuid(),
        "below"
    )
    .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.tools.load().await.unwrap(), []);
    let tools = world.tools.handle().load();
    assert!(tools.get(world.vo, "below").unwrap().hosts.is_empty());
    assert!(tools.by_host("evil.example.com").is_none());
}

async fn contract(db: &Db) {
    a_tools_host_lies_directly_below_the_gateways_name(db).await;
    a_tool_is_registered_changed_and_removed(db).await;
    a_change_of_what_changed_meanwhile_is_refused(db).await;
    a_host_is_one_tools_and_an_upstream_is_the_vos(db).await;
    a_manifest_that_cannot_be_read_is_fatal_for_its_tool_only(db).await;
}

#[tokio::test]
async fn the_contract_holds_on_sqlite() {
    let (db, _folder) = sqlite().await;
    contract(&db).await;
    db.close().await;
}

#[tokio::test]
async fn the_contract_holds_on_postgres() {
    let postgres = Postgres::new().await;
    contract(&postgres.db).await;
    postgres.end().await;
}
