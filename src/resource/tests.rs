use super::*;
use crate::clock::{HandClock, Timestamp};
use crate::id::{Ids, SystemSource};
use crate::store::tests_support::{Postgres, sqlite};
use crate::tool::{Manifest, Tool};

/// A VO of its own in the store, so that the parts of the contract do not meet.
struct World {
    resources: Resources,
    ids: Ids,
    vo: VoId,
    anna: PersonId,
    bob: PersonId,
}

const TOOL: &str = "jobs";

impl World {
    fn new(db: &Db) -> Self {
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
        Self {
            resources: Resources::new(db.clone(), clock),
            vo: ids.next().unwrap(),
            anna: ids.next().unwrap(),
            bob: ids.next().unwrap(),
            ids,
        }
    }

    fn request(&self) -> RequestId {
        self.ids.next().unwrap()
    }

    fn entry(
        &self,
        kind: &str,
        id: &str,
        owner: Option<PersonId>,
        parent: Option<(&str, &str)>,
    ) -> CreatedEntry {
        CreatedEntry {
            vo: self.vo,
            tool: TOOL.into(),
            kind: kind.into(),
            id: id.into(),
            owner,
            parent: parent.map(|(kind, id)| (kind.to_owned(), id.to_owned())),
            attributes: BTreeMap::from([("queue".to_owned(), "long \"\u{e9}\"".to_owned())]),
        }
    }

    async fn create(&self, entries: &[CreatedEntry]) -> Vec<OwnershipConflict> {
        self.resources.created(self.request(), entries).await.unwrap()
    }

    async fn delete(&self, request: RequestId, kind: &str, id: &str) {
        let entry = DeletedEntry {
            vo: self.vo,
            tool: TOOL.into(),
            kind: kind.into(),
            id: id.into(),
        };
        self.resources.deleted(request, &[entry]).await.unwrap();
    }

    async fn chain(&self, kind: &str, id: &str) -> Vec<Resource> {
        let resource = ResourceRef {
            kind: kind.into(),
            id: id.into(),
        };
        let chain = self.resources.chain(self.vo, TOOL, &resource).await.unwrap();
        // The plural agrees with the singular, from an empty cache too.
        for fresh in [false, true] {
            if fresh {
                self.resources.forget();
            }
            let ids = [id.to_owned()];
            let chains = self.resources.chains(self.vo, TOOL, kind, &ids).await.unwrap();
            assert_eq!(chains[id], chain, "fresh: {fresh}");
        }
        chain
    }

    async fn state(&self, kind: &str, id: &str) -> (i64, Option<PersonId>) {
        let chain = self.chain(kind, id).await;
        (chain[0].generation, chain[0].owner)
    }
}

async fn what_is_not_known_has_no_owner(db: &Db) {
    let world = World::new(db);
    let chain = world.chain("job", "7").await;
    assert_eq!(chain, [Resource::unknown(world.vo, TOOL, "job", "7")]);
    // It is seen at once when it is made.
    world
        .create(&[world.entry("job", "7", Some(world.anna), None)])
        .await;
    let chain = world.chain("job", "7").await;
    assert_eq!(
        (chain.len(), chain[0].generation, chain[0].owner),
        (1, 1, Some(world.anna))
    );
    assert_eq!(chain[0].attributes["queue"], "long \"\u{e9}\"");
    // The same id of another tool, type or VO is another thing.
    let other = ResourceRef {
        kind: "job".into(),
        id: "7".into(),
    };
    assert_eq!(
        world.resources.chain(world.vo, "other", &other).await.unwrap()[0].generation,
        0
    );
    assert_eq!(
        world
            .resources
            .chain(world.ids.next().unwrap(), TOOL, &other)
            .await
            .unwrap()[0]
            .generation,
        0
    );
    assert_eq!(world.state("log", "7").await, (0, None));
}

async fn the_first_owner_stays(db: &Db) {
    let world = World::new(db);
    assert_eq!(
        world
            .create(&[world.entry("job", "7", Some(world.anna), None)])
            .await,
        []
    );
    let claimed = world.entry("job", "7", Some(world.bob), None);
    let request = world.request();
    let conflicts = world
        .resources
        .created(request, std::slice::from_ref(&claimed))
        .await
        .unwrap();
    assert_eq!(
        conflicts,
        [OwnershipConflict {
            request,
            claimed,
            owner: Some(world.anna),
        }]
    );
    assert_eq!(world.state("job", "7").await, (1, Some(world.anna)));
    // The owner herself may say so again, and what is nobody's is not taken.
    assert_eq!(
        world
            .create(&[world.entry("job", "7", Some(world.anna), None)])
            .await,
        []
    );
    assert_eq!(world.create(&[world.entry("patient", "p", None, None)]).await, []);
    assert_eq!(world.create(&[world.entry("patient", "p", None, None)]).await, []);
    assert_eq!(
        world
            .create(&[world.entry("patient", "p", Some(world.bob), None)])
            .await
            .len(),
        1
    );
    assert_eq!(world.state("patient", "p").await, (1, None));
}

async fn an_id_is_used_again_only_after_its_deletion(db: &Db) {
    let world = World::new(db);
    let made = world.request();
    let entry = world.entry("job", "7", Some(world.anna), None);
    world
        .resources
        .created(made, std::slice::from_ref(&entry))
        .await
        .unwrap();
    let deleted = world.request();
    world.delete(deleted, "job", "7").await;
    assert_eq!(world.state("job", "7").await, (0, None), "retired");
    assert_eq!(
        world
            .create(&[world.entry("job", "7", Some(world.bob), None)])
            .await,
        []
    );
    assert_eq!(world.state("job", "7").await, (2, Some(world.bob)));
    // What recovery does again changes nothing.
    assert_eq!(world.resources.created(made, &[entry]).await.unwrap(), []);
    world.delete(deleted, "job", "7").await;
    assert_eq!(world.state("job", "7").await, (2, Some(world.bob)));
    // Nor does a deletion of what was never known, done twice.
    let unknown = world.request();
    world.delete(unknown, "job", "8").await;
    world
        .create(&[world.entry("job", "8", Some(world.bob), None)])
        .await;
    world.delete(unknown, "job", "8").await;
    assert_eq!(world.state("job", "8").await, (2, Some(world.bob)));
}

async fn what_is_replaced_belongs_to_who_replaced_it(db: &Db) {
    let world = World::new(db);
    world
        .create(&[world.entry("file", "known", Some(world.anna), None)])
        .await;
    for (id, generation) in [("known", 2), ("unknown", 2)] {
        let request = world.request();
        for _ in 0..2 {
            world.delete(request, "file", id).await;
            let entry = world.entry("file", id, Some(world.bob), None);
            assert_eq!(world.resources.created(request, &[entry]).await.unwrap(), []);
            assert_eq!(
                world.state("file", id).await,
                (generation, Some(world.bob)),
                "{id}"
            );
        }
    }
}

async fn a_parent_gets_nothing_through_a_child(db: &Db) {
    let world = World::new(db);
    world
        .create(&[world.entry("image", "i1", Some(world.anna), Some(("series", "s1")))])
        .await;
    let chain = world.chain("image", "i1").await;
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1], Resource::unknown(world.vo, TOOL, "series", "s1"));
    // A forged parent claims nobody's patient, and a known thing keeps its parent.
    world
        .create(&[
            world.entry("series", "s1", None, Some(("patient", "p1"))),
            world.entry("image", "i2", Some(world.bob), Some(("series", "s1"))),
            world.entry("series", "s1", None, Some(("patient", "forged"))),
        ])
        .await;
    let chain = world.chain("image", "i2").await;
    let names: Vec<_> = chain.iter().map(|one| (one.id.as_str(), one.owner)).collect();
    assert_eq!(names, [("i2", Some(world.bob)), ("s1", None), ("p1", None)]);
    assert_eq!(chain[2].generation, 0);
}

async fn what_is_learned_holds_for_one_use_of_an_id(db: &Db) {
    let world = World::new(db);
    let image = ResourceRef {
        kind: "image".into(),
        id: "i1".into(),
    };
    let told = || ("series".to_owned(), "s9".to_owned());
    let first = async || world.resources.chain(world.vo, TOOL, &image).await.unwrap()[0].clone();
    world
        .create(&[world.entry("image", "i1", Some(world.anna), None)])
        .await;
    let question = world.resources.question(&first().await);
    world.resources.learn(question, told());
    assert_eq!(first().await.parent, Some(told()));
    // Asked of the one, told of the other.
    let question = world.resources.question(&first().await);
    world.delete(world.request(), "image", "i1").await;
    world
        .create(&[world.entry("image", "i1", Some(world.bob), None)])
        .await;
    world.resources.learn(question, told());
    assert_eq!(first().await.parent, None);
}

async fn a_deletion_retires_what_is_below(db: &Db) {
    let world = World::new(db);
    world
        .create(&[
            world.entry("series", "s1", None, Some(("patient", "p1"))),
            world.entry("image", "i1", Some(world.anna), Some(("series", "s1"))),
            world.entry("image", "i2", Some(world.anna), Some(("series", "s2"))),
        ])
        .await;
    assert_eq!(world.state("image", "i1").await, (1, Some(world.anna)));
    world.delete(world.request(), "patient", "p1").await;
    assert_eq!(world.state("image", "i1").await, (0, None));
    assert_eq!(world.state("series", "s1").await, (0, None));
    assert_eq!(world.state("image", "i2").await, (1, Some(world.anna)));
}

async fn a_chain_is_bounded_and_never_goes_round(db: &Db) {
    let world = World::new(db);
    let entries: Vec<_> = (0..12)
        .map(|n| {
            let parent = (n + 1).to_string();
            world.entry("node", &n.to_string(), None, Some(("node", parent.as_str())))
        })
        .collect();
    world.create(&entries).await;
    assert_eq!(world.chain("node", "0").await.len(), 1 + MAX_PARENTS);
    world
        .create(&[
            world.entry("loop", "a", None, Some(("loop", "b"))),
            world.entry("loop", "b", None, Some(("loop", "a"))),
        ])
        .await;
    let chain = world.chain("loop", "a").await;
    assert_eq!(
        chain.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    world.delete(world.request(), "loop", "b").await;
    assert_eq!(world.state("loop", "a").await, (0, None));
}

async fn many_chains_are_one_answer(db: &Db) {
    let world = World::new(db);
    let entries: Vec<_> = (0..60)
        .map(|n| {
            world.entry(
                "job",
                &n.to_string(),
                Some(world.anna),
                Some(("batch", if n % 2 == 0 { "even" } else { "odd" })),
            )
        })
        .collect();
    world.create(&entries).await;
    world
        .create(&[world.entry("batch", "even", Some(world.bob), None)])
        .await;
    let ids: Vec<String> = (0..6_000).map(|n| n.to_string()).collect();
    for _ in 0..2 {
        let chains = world.resources.chains(world.vo, TOOL, "job", &ids).await.unwrap();
        assert_eq!(chains.len(), ids.len());
        for (id, chain) in &chains {
            let n: usize = id.parse().unwrap();
            let expected = match n {
                0..60 if n.is_multiple_of(2) => (1, Some(world.anna), 2, Some(world.bob)),
                0..60 => (1, Some(world.anna), 2, None),
                _ => (0, None, 1, None),
            };
            let parent = chain.get(1).and_then(|parent| parent.owner);
            assert_eq!(
                (chain[0].generation, chain[0].owner, chain.len(), parent),
                expected,
                "{id}"
            );
        }
    }
    assert!(
        world
            .resources
            .chains(world.vo, TOOL, "job", &[])
            .await
            .unwrap()
            .is_empty()
    );
}

async fn one_of_two_claims_at_once_wins(db: &Db) {
    let world = Arc::new(World::new(db));
    for round in 0..10 {
        let claims = [world.anna, world.bob].map(|person| {
            let world = Arc::clone(&world);
            let entry = world.entry("job", &round.to_string(), Some(person), None);
            tokio::spawn(async move { world.create(&[entry]).await })
        });
        let mut conflicts = Vec::new();
        for claim in claims {
            conflicts.extend(claim.await.unwrap());
        }
        let [conflict] = &conflicts[..] else {
            panic!("both or neither won: {conflicts:?}")
        };
        let (generation, owner) = world.state("job", &round.to_string()).await;
        assert_eq!((generation, owner), (1, conflict.owner));
        assert_ne!(conflict.claimed.owner, owner);
    }
}

async fn half_a_request_is_not_written_down(db: &Db) {
    let world = World::new(db);
    let mut tx = db.begin_write().await.unwrap();
    let entry = world.entry("job", "7", Some(world.anna), None);
    world
        .resources
        .created_in(&mut tx, world.request(), &[entry])
        .await
        .unwrap();
    drop(tx);
    assert_eq!(world.state("job", "7").await, (0, None));
}

fn tool() -> Tool {
    let manifest = "[tool]\nname = \"jobs\"\nupstream = \"u\"\n[[task]]\nname = \"a\"\nmatch = \"POST /\"\nkind = \"create\"\n\
                    creates = { type = \"job\", id = \"/id\", status = [201], parent = { type = \"batch\", id = \"/batch\" } }\n";
    Manifest::parse("t.toml", manifest).unwrap().tool
}

async fn an_import_is_whole_or_nothing(db: &Db) {
    let world = World::new(db);
    let person = |name: &str| match name {
        "anna" => Some(world.anna),
        "bob" => Some(world.bob),
        _ => None,
    };
    world
        .create(&[world.entry("job", "9", Some(world.bob), None)])
        .await;
    let import = async |csv: &str| {
        let import = Import::parse(csv, &tool(), person)?;
        let mut tx = db.begin_write().await?;
        let change = world
            .resources
            .import(&mut tx, world.request(), world.vo, &import)
            .await?;
        tx.commit().await?;
        Ok::<_, ImportError>(change)
    };
    let refused = import("type,id,owner\njob,7,anna\njob,9,anna\n")
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "line 3: the job `9` is known already, and another person's; the first owner stays"
    );
    assert_eq!(world.state("job", "7").await, (0, None));
    let good =
        "type,id,owner,parent_type,parent_id\njob,7,anna,batch,b1\nbatch,b1,,,\n\"job\",\"a,b\",bob,,\n";
    let change = import(good).await.unwrap();
    assert_eq!(
        (change.action.as_str(), change.target.as_str()),
        ("resource.import", "jobs")
    );
    assert_eq!(change.after.unwrap()["rows"], 3);
    let chain = world.chain("job", "7").await;
    assert_eq!(
        (chain[0].owner, chain[1].id.as_str(), chain[1].generation),
        (Some(world.anna), "b1", 1)
    );
    assert_eq!(world.state("job", "a,b").await, (1, Some(world.bob)));
    import(good).await.expect("the same again changes nothing");
    assert_eq!(world.state("job", "7").await, (1, Some(world.anna)));
}

#[test]
fn every_row_that_cannot_be_imported_is_named_with_its_line() {
    let csv = "type,id,owner,parent_type,parent_id\njbo,1,,,\njob,,,,\njob,2,eve,,\njob,3,,batch,\njob,4,,,\njob,4,,,\n\
               job,5,,job,5\njob,6\n,,,,\njob,\"a\nb\",,,\n";
    let Err(ImportError::Rows(errors)) = Import::parse(csv, &tool(), |_| None) else {
        panic!("the file was read")
    };
    let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for claim in [
        "line 2: `jbo` is not a type of this tool; accepted: batch, job",
        "line 3: type and id must be there",
        "line 4: `eve` is not a member; accepted: a user name",
        "line 5: parent_type and parent_id go together",
        "line 7: the job `4` stands in line 6 already",
        "line 8: a thing cannot be its own parent",
        "line 9: the row has 2 fields, the first line 5",
        "line 10: type and id must be there",
        "line 11: an id must have 1 to 512 bytes without control characters",
    ] {
        assert!(
            found.iter().any(|flaw| flaw.starts_with(claim)),
            "no {claim:?} in {found:#?}"
        );
    }
    assert_eq!(found.len(), 9);
    for (csv, says) in [
        ("", "the column `type` is missing"),
        ("type,id,who\n", "unknown column `who`"),
        ("type,id,id\n", "stands there twice"),
    ] {
        let error = Import::parse(csv, &tool(), |_| None).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_sqlite() {
    let (db, _folder) = sqlite().await;
    contract(&db).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_postgres() {
    let postgres = Postgres::new().await;
    contract(&postgres.db).await;
    postgres.end().await;
}

async fn contract(db: &Db) {
    what_is_not_known_has_no_owner(db).await;
    the_first_owner_stays(db).await;
    an_id_is_used_again_only_after_its_deletion(db).await;
    what_is_replaced_belongs_to_who_replaced_it(db).await;
    a_parent_gets_nothing_through_a_child(db).await;
    what_is_learned_holds_for_one_use_of_an_id(db).await;
    a_deletion_retires_what_is_below(db).await;
    a_chain_is_bounded_and_never_goes_round(db).await;
    many_chains_are_one_answer(db).await;
    one_of_two_claims_at_once_wins(db).await;
    half_a_request_is_not_written_down(db).await;
    an_import_is_whole_or_nothing(db).await;
}
