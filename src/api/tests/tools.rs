//! Tools, what they made, and the credentials they get.

use serde_json::{Value, json};

use super::world::{ADMIN, World, kind};
use crate::id::{PersonId, RequestId, SessionId, VoId};
use crate::record::{
    Ending, Entry, Event, Hash, Mint, Outcome, PlaceEntry, ResourceEntry, SignedEntry, SubjectEntry,
};
use crate::tool::ResourceRef;
use crate::trust::authority::{Names, issue};

const MANIFEST: &str = r#"
[tool]
name = "jobs"
upstream = "ce"
hosts = ["jobs.gw.example.org"]
delegation = "static"

[[task]]
name = "submit job"
match = ["POST /jobs"]
kind = "create"
creates = { type = "job", id = "header:Location#last-segment", status = [201], owner = "subject" }

[[task]]
name = "monitor job"
match = ["GET /jobs/{job:int}"]
kind = "read"
resource = { type = "job", id = "{job}" }
"#;

async fn with_jobs(world: &World) -> String {
    let admin = world.token(ADMIN).await;
    let upstream = json!({ "name": "ce", "url": "unix:/run/jobs.sock" });
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/upstreams", Some(upstream))
        .await;
    assert_eq!(status, 201);
    let (status, added) = add(world, &admin, MANIFEST, 0).await;
    assert_eq!((status, &added["tool"]["version"]), (201, &json!(1)), "{added}");
    admin
}

async fn add(world: &World, admin: &str, manifest: &str, version: i64) -> (u16, Value) {
    let body = json!({ "manifest": manifest, "file": "jobs.toml", "version": version });
    world
        .ask(admin, "POST", "/api/v1/vos/imense/tools", Some(body))
        .await
}

#[tokio::test]
async fn a_tool_is_wrapped_tried_replaced_and_removed() {
    let world = World::new().await;
    let admin = with_jobs(&world).await;
    let (jane, _) = world.member("jane").await;
    let tools = "/api/v1/vos/imense/tools";
    let before = world.api.directory().vo_named("imense").unwrap().version;
    let (status, _) = add(&world, &admin, MANIFEST, 0).await;
    assert_eq!(status, 409, "another version is in force");
    let (status, _) = add(&world, &admin, MANIFEST, 1).await;
    assert_eq!(status, 201);
    assert!(world.api.directory().vo_named("imense").unwrap().version > before);
    let (_, shown) = world.ask(&admin, "GET", &format!("{tools}/jobs"), None).await;
    assert_eq!(shown["manifest"], json!(MANIFEST));
    let csv = json!({ "csv": "type,id,owner\njob,7,jane\n" });
    let (status, imported) = world
        .ask(&admin, "POST", &format!("{tools}/jobs/resources"), Some(csv))
        .await;
    assert_eq!((status, &imported["rows"]), (200, &json!(1)), "{imported}");
    let trial = json!({ "tool": "jobs", "request": "GET /jobs/7", "as": "jane" });
    let try_it = || {
        world.ask(
            &admin,
            "POST",
            "/api/v1/vos/imense/tools/try",
            Some(trial.clone()),
        )
    };
    let (_, tried) = try_it().await;
    assert_eq!(
        (&tried["task"], &tried["decision"]),
        (&json!("monitor job"), &json!("refused"))
    );
    let grant = json!({ "role": "scientist", "tool": "jobs", "tasks": ["monitor job"], "when": "own" });
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant))
        .await;
    assert_eq!(status, 201);
    let (_, tried) = try_it().await;
    assert_eq!(
        (&tried["owner"], &tried["decision"]),
        (&json!("jane"), &json!("permitted"))
    );
    let (status, _) = world
        .ask(&admin, "DELETE", &format!("{tools}/jobs?version=1"), None)
        .await;
    assert_eq!(status, 409);
    let (status, _) = world.ask(&admin, "DELETE", &format!("{tools}/jobs"), None).await;
    assert_eq!(status, 204);
    let (_, list) = world.ask(&admin, "GET", tools, None).await;
    assert_eq!(list["tools"], json!([]));
    assert!(!jane.is_empty());
}

#[tokio::test]
async fn a_request_with_headers_and_a_body_is_tried_as_it_would_be_judged() {
    let world = World::new().await;
    let admin = with_jobs(&world).await;
    let manifest = "[tool]\nname = \"ws\"\nupstream = \"ce\"\n\
        [[task]]\nname = \"order\"\nmatch = \"POST /o\"\nkind = \"update\"\n\
        [[task]]\nname = \"cancel\"\nmatch = \"POST /o\"\nkind = \"update\"\nwithin = \"order\"\nheaders = { X-Op = \"cancel\" }\n\
        body = { kind = \"json\", take = { order = { at = \"/id\", type = \"int\" } } }\n";
    let trial = |headers: Value, content: &str| {
        let body =
            json!({ "manifest": manifest, "request": "POST /o", "headers": headers, "content": content });
        let (world, admin) = (&world, &admin);
        async move {
            world
                .ask(admin, "POST", "/api/v1/vos/imense/tools/try", Some(body))
                .await
        }
    };
    let (_, tried) = trial(
        json!(["X-Op: cancel", "Content-Type: application/json"]),
        "{\"id\":7}",
    )
    .await;
    assert_eq!(
        (&tried["task"], &tried["within"], &tried["parameters"]),
        (&json!("cancel"), &json!("order"), &json!({ "order": "7" }))
    );
    let (_, tried) = trial(json!([]), "anything").await;
    assert_eq!(tried["task"], json!("order"));
    for (headers, content) in [
        (json!(["X-Op: cancel"]), "{\"id\":7}"),
        (
            json!(["X-Op: cancel", "Content-Type: application/json"]),
            "{\"id\":\"x\"}",
        ),
        (json!(["X-Op: cancel", "X-Op: cancel"]), ""),
        (json!(["no header"]), ""),
    ] {
        let (status, problem) = trial(headers.clone(), content).await;
        assert_eq!(status, 422, "{headers} {content}: {problem}");
    }
    let (_, added) = add(&world, &admin, manifest, 0).await;
    assert_eq!(
        added["tool"]["tasks"][1]["demands"],
        json!(["x-op: cancel", "json body /id={order}", "within order"])
    );
}

#[tokio::test]
async fn a_broken_manifest_is_refused_with_every_flaw_and_changes_nothing() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    let (status, problem) = add(&world, &admin, MANIFEST, 0).await;
    assert_eq!(status, 422, "the upstream is not the VO's: {problem}");
    let broken = "[tool]\nname = \"UPPER\"\ncolour = \"red\"\n";
    let (status, problem) = add(&world, &admin, broken, 0).await;
    assert_eq!(status, 422);
    let errors = problem["errors"].as_array().unwrap();
    assert!(errors.len() >= 3, "{errors:?}");
    assert!(
        errors
            .iter()
            .all(|error| error.as_str().unwrap().starts_with("jobs.toml:"))
    );
    let own = MANIFEST.replace("jobs.gw.example.org", "gw.example.org");
    let (status, problem) = add(&world, &admin, &own, 0).await;
    assert_eq!(status, 422, "{problem}");
    let (_, list) = world.ask(&admin, "GET", "/api/v1/vos/imense/tools", None).await;
    assert_eq!(list["tools"], json!([]));
}

#[tokio::test]
async fn an_address_that_its_tools_cannot_use_is_not_given_in_the_place_of_another() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    let upstreams = "/api/v1/vos/imense/upstreams";
    let allow = async |url: &str| {
        let body = json!({ "name": "grid", "url": url });
        world.ask(&admin, "POST", upstreams, Some(body)).await
    };
    assert_eq!(allow("https://ce.example.org").await.0, 201);
    let manifest = MANIFEST
        .replace("\"ce\"", "\"grid\"")
        .replace("\"static\"", "\"client-certificate\"");
    let (status, added) = add(&world, &admin, &manifest, 0).await;
    assert_eq!(status, 201, "{added}");
    let end = format!("{upstreams}/grid");
    assert_eq!(world.ask(&admin, "DELETE", &end, None).await.0, 204);
    for url in ["http://ce.example.org", "unix:/run/ce.sock"] {
        let (status, refused) = allow(url).await;
        let detail = refused["detail"].as_str().unwrap();
        assert_eq!(status, 422, "{refused}");
        assert!(
            detail.contains("`jobs`") && detail.contains("`https://`"),
            "{detail}"
        );
    }
    assert_eq!(allow("https://other.example.org").await.0, 201);
}

#[tokio::test]
async fn a_static_credential_goes_in_and_never_out() {
    let world = World::new().await;
    let admin = with_jobs(&world).await;
    let path = "/api/v1/vos/imense/tools/jobs/credential";
    let secret = json!({ "scheme": "bearer", "secret": "open-sesame-4711" });
    let (status, problem) = world.ask(&admin, "PUT", path, Some(secret)).await;
    assert_eq!(status, 204, "{problem}");
    let mixed = json!({ "scheme": "bearer", "user": "u", "secret": "x" });
    let (status, _) = world.ask(&admin, "PUT", path, Some(mixed)).await;
    assert_eq!(status, 422);
    let (_, shown) = world
        .ask(&admin, "GET", "/api/v1/vos/imense/tools/jobs", None)
        .await;
    let (_, records) = world.ask(&admin, "GET", "/api/v1/vos/imense/audit", None).await;
    assert!(!format!("{shown}{records}").contains("sesame"));
}

#[tokio::test]
async fn a_vo_certificate_is_imported_and_a_wrong_one_is_not() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    let issued = issue(&Names::loopback(), "imense", &world.api.ids).unwrap();
    let path = "/api/v1/vos/imense/certificates";
    let body = json!({ "certificate": issued.vo.certificate, "key": issued.vo.key.expose() });
    let (status, imported) = world.ask(&admin, "POST", path, Some(body)).await;
    assert_eq!(status, 201, "{imported}");
    let (_, list) = world.ask(&admin, "GET", path, None).await;
    assert_eq!(list["certificates"][0], imported["certificate"]);
    let wrong =
        json!({ "certificate": issued.ca, "key": issued.vo.key.expose(), "certificate_name": "ca.pem" });
    let (status, problem) = world.ask(&admin, "POST", path, Some(wrong)).await;
    assert_eq!((status, &problem["type"]), (422, &kind("invalid")));
    assert!(problem.to_string().contains("ca.pem"), "{problem}");
    let (_, still) = world.ask(&admin, "GET", path, None).await;
    assert_eq!(still, {
        let mut list = list;
        list["_request"] = still["_request"].clone();
        list
    });
}

/// A request to the wrapped tool that nobody saw the end of.
async fn lost(world: &World, person: PersonId, ending: Ending) -> RequestId {
    let vo = world.api.directory().vo_named("imense").unwrap().id;
    let id: RequestId = world.api.ids.next().unwrap();
    let entry = Entry {
        request: id,
        trace: None,
        subject: SubjectEntry {
            kind: "person".into(),
            person: Some(person),
            result: "ok".into(),
            ..SubjectEntry::default()
        },
        place: PlaceEntry {
            via: "path".into(),
            vo: Some("imense".into()),
            vo_id: Some(vo),
            tool: Some("jobs".into()),
            task: Some("submit job".into()),
            kind: Some("create".into()),
            method: "POST".into(),
            path: Some("/jobs".into()),
        },
        parameters: std::collections::BTreeMap::new(),
        resource: None::<ResourceEntry>,
        decision: None,
        delegation: None,
        source: "192.0.2.0/24".into(),
        no_outcome: false,
    };
    let receipt = world.api.audit.intent(entry, Vec::new()).await.unwrap();
    receipt.outcome(ended(id, ending, None)).await.unwrap();
    id
}

fn ended(request: RequestId, ending: Ending, signed: Option<SignedEntry>) -> Outcome {
    Outcome {
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
        signed,
        bodies: None,
    }
}

#[tokio::test]
async fn what_an_unknown_outcome_made_is_settled_to_whoever_asked_and_only_once() {
    let world = World::new().await;
    let admin = with_jobs(&world).await;
    let (jane, _) = world.member("jane").await;
    let (john, _) = world.member("john").await;
    let (jane, john): (PersonId, PersonId) = (jane.parse().unwrap(), john.parse().unwrap());
    let settle = async |request: RequestId, kind: &str, id: &str| {
        let path = format!("/api/v1/vos/imense/requests/{request}/settle");
        let body = json!({ "type": kind, "id": id });
        world.ask(&admin, "POST", &path, Some(body)).await
    };
    let answered = lost(&world, jane, Ending::Answered).await;
    assert_eq!(settle(answered, "job", "42").await.0, 409);
    let unknown = lost(&world, jane, Ending::Unknown).await;
    assert_eq!(settle(unknown, "image", "42").await.0, 422);
    let (status, problem) = settle(unknown, "job", "42").await;
    assert_eq!(status, 204, "{problem}");
    let vo = world.api.directory().vo_named("imense").unwrap().id;
    let job = ResourceRef {
        kind: "job".into(),
        id: "42".into(),
    };
    let chain = world.api.resources.chain(vo, "jobs", &job).await.unwrap();
    assert_eq!(chain[0].owner, Some(jane));
    let later = lost(&world, john, Ending::Unknown).await;
    assert_eq!(settle(later, "job", "42").await.0, 409, "the first owner stays");
}

#[tokio::test]
async fn a_trace_names_the_person_in_her_own_vo_and_is_recorded() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    let (jane, _) = world.member("jane").await;
    let person: PersonId = jane.parse().unwrap();
    let imense = world.api.directory().vo_named("imense").unwrap().id;
    minted(&world, person, imense, 4711).await;
    minted(&world, person, crate::vo::Directory::gateway(), 4712).await;
    let trace = async |query: &str| {
        let body = json!({ "query": query });
        world
            .ask(&admin, "POST", "/api/v1/vos/imense/trace", Some(body))
            .await
    };
    let (status, found) = trace("4711").await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["proxies"][0]["person"]["username"], json!("jane"));
    assert_eq!(
        found["proxies"][0]["proved"],
        json!(false),
        "a serial is somebody's word"
    );
    let newest = world.api.audit.checkpoint().unwrap();
    let carried = crate::audit::Checkpoint::parse(found["checkpoint"].as_str().unwrap()).unwrap();
    assert_eq!((carried.origin, carried.epoch), (newest.origin, newest.epoch));
    let (_, other) = trace("4712").await;
    assert_eq!(other["proxies"], json!([]), "another VO's proxy");
    let (status, _) = trace("no such thing!").await;
    assert_eq!(status, 422);
    let traces = world
        .api
        .audit
        .search()
        .request(found["_request"].as_str().unwrap().parse().unwrap())
        .await
        .unwrap();
    let recorded = traces.iter().any(|record| match &record.event {
        Event::Trace(trace) => trace.persons == [person] && trace.found == ["4711"],
        _ => false,
    });
    assert!(recorded);
}

async fn minted(world: &World, person: PersonId, vo: VoId, serial: u64) {
    let request: RequestId = world.api.ids.next().unwrap();
    let session: SessionId = world.api.ids.next().unwrap();
    let card = world.api.directory().person(person).unwrap().card;
    let issuer = Hash::of(b"issuer");
    let mint = Event::Mint(Box::new(Mint {
        request,
        issuer,
        serial: serial.to_string(),
        spki: Hash::of(&serial.to_be_bytes()),
        not_before: crate::clock::Timestamp::from_secs(1_800_000_000),
        not_after: crate::clock::Timestamp::from_secs(1_800_003_600),
        vo,
        person,
        card,
        session,
        tool: "jobs".into(),
        way: "pem".into(),
    }));
    world.api.delegate.index(&[mint]).await.unwrap();
}

#[tokio::test]
async fn a_search_of_the_gateways_own_level_tells_nothing_of_a_text_that_stands_in_a_vo() {
    let world = World::new().await;
    let admin = with_jobs(&world).await;
    let (jane, _) = world.member("jane").await;
    for _ in 0..25 {
        lost(&world, jane.parse().unwrap(), Ending::Answered).await;
    }
    let search = async |query: &str| {
        let path = format!("/api/v1/audit?fresh=true&limit=1&{query}");
        let (status, found) = world.ask(&admin, "GET", &path, None).await;
        assert_eq!(status, 200, "{found}");
        (found["records"].clone(), found.get("next").cloned(), found)
    };
    // The searches' own records hold the texts: those are left out.
    let before = search("event=login").await.2["head"].as_str().unwrap().to_owned();
    for order in ["", "onward=0.0&"] {
        for text in ["submit%20job", "nowhere"] {
            let (records, next, _) = search(&format!("{order}before={before}&text={text}")).await;
            assert_eq!((records, next), (json!([]), None), "{order}{text}");
        }
    }
    let (mut pages, mut from) = (0, before);
    loop {
        let (records, next, _) = search(&format!("before={from}")).await;
        pages += 1;
        let Some(next) = next else { break };
        assert_eq!(records.as_array().unwrap().len(), 1, "a page is of own records");
        from = next.as_str().unwrap().to_owned();
    }
    assert!(pages > 2);
}
