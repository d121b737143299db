//! Operations through the real stages: find, subject, decide, intent, service. Only listener and pipeline are missing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::audit::{Config as AuditConfig, LogKey};
use crate::authenticate::{Config as AuthenticateConfig, Cost, Source};
use crate::authorize::Chains;
use crate::clock::{Clock, HandClock};
use crate::delegate::Config as DelegateConfig;
use crate::id::{PersonId, SystemSource, VoId};
use crate::record::Entry as LogEntry;
use crate::resource::Resource;
use crate::store::StoreError;
use crate::tool::{Address, Place, ResourceRef, Target, Tool, Tools, VoRef};
use crate::trust::seal::SealingKey;
use crate::vo::{CardFields, DirectoryHandle, OWN_TOOL, SYSTEM_ADMINISTRATOR};

#[derive(Debug)]
struct Unknown;

fn unknown(vo: VoId, tool: &str, kind: &str, id: &str) -> Resource {
    Resource {
        vo,
        tool: tool.into(),
        kind: kind.into(),
        id: id.into(),
        generation: 0,
        owner: None,
        parent: None,
        attributes: std::collections::BTreeMap::new(),
    }
}

impl Chains for Unknown {
    fn chain<'a>(
        &'a self,
        vo: VoId,
        tool: &'a str,
        resource: &'a ResourceRef,
    ) -> BoxFuture<'a, Result<Vec<Resource>, StoreError>> {
        Box::pin(async move { Ok(vec![unknown(vo, tool, &resource.kind, &resource.id)]) })
    }

    fn chains<'a>(
        &'a self,
        vo: VoId,
        tool: &'a str,
        kind: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<HashMap<String, Vec<Resource>>, StoreError>> {
        let one = move |id: &String| (id.clone(), vec![unknown(vo, tool, kind, id)]);
        Box::pin(async move { Ok(ids.iter().map(one).collect()) })
    }
}

struct World {
    api: Arc<Api>,
    service: LocalService,
    clock: Arc<HandClock>,
    #[expect(dead_code, reason = "kept until the world ends")]
    folder: tempfile::TempDir,
}

/// User name of the first person, and everybody's password once chosen.
const ADMIN: &str = "admin";
const PASSWORD: &str = "a long walk to the far shore";

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("store.db")).await.unwrap();
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_800_000_000)));
        let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
        let handle = DirectoryHandle::default();
        let vos = Vos::new(db.clone(), handle.clone(), ids.clone());
        let config = AuditConfig {
            folder: folder.path().join("log"),
            segment_bytes: 256 * 1024,
            min_free_bytes: 0,
            stop_free_bytes: 0,
            allow_any_fs: true,
            ..AuditConfig::default()
        };
        let key = LogKey::generate(&**ids.random()).unwrap();
        let audit = Audit::open(config, key, "gw.example.org/log", ids.clone())
            .unwrap()
            .audit;
        let cheap = AuthenticateConfig {
            cost: Cost {
                memory_kib: 64,
                passes: 1,
                lanes: 1,
            },
            ..AuthenticateConfig::default()
        };
        let sealing = SealingKey::generate(&**ids.random()).unwrap();
        let origin = "https://gw.example.org".to_owned();
        let own = Arc::new(Tool::own(tasks()).unwrap());
        let api = Arc::new(Api {
            authenticate: Authenticate::open(db.clone(), handle.clone(), ids.clone(), cheap)
                .await
                .unwrap(),
            authorize: Authorize::new(
                handle,
                Arc::new(Unknown),
                clock.clone(),
                crate::telemetry::Metrics::default(),
            ),
            delegate: Arc::new(Delegate::new(
                DelegateConfig::default(),
                db.clone(),
                Some(sealing),
                ids.clone(),
                origin,
            )),
            tools: ToolsHandle::new(Tools::new(own)),
            audit,
            vos,
            ids,
            db,
        });
        let world = Self {
            service: service(api.clone()),
            api,
            clock,
            folder,
        };
        world.found().await;
        world
    }

    /// What `init` does: the gateway, one person who administers it, a VO.
    async fn found(&self) {
        let (vos, gateway) = (&self.api.vos, Directory::gateway());
        let one_time = self.api.authenticate.one_time_password().await.unwrap();
        let mut tx = self.api.db.begin_write().await.unwrap();
        let fields = CardFields {
            name: "Ada".into(),
            ..CardFields::default()
        };
        vos.establish(&mut tx).await.unwrap();
        let (admin, _) = vos.add_person(&mut tx, gateway, ADMIN, &fields).await.unwrap();
        vos.assign(&mut tx, gateway, SYSTEM_ADMINISTRATOR, admin, None)
            .await
            .unwrap();
        vos.create_vo(&mut tx, "imense", admin).await.unwrap();
        let password = self
            .api
            .authenticate
            .first_password(&mut tx, admin, gateway, one_time)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        vos.load().await.unwrap();
        self.choose(ADMIN, password.expose()).await;
    }

    /// Signs in with a one-time password and chooses [`PASSWORD`].
    async fn choose(&self, username: &str, one_time: &str) {
        let (status, session) = self.sign_in(username, one_time).await;
        assert_eq!(
            (status, &session["must_change"]),
            (201, &json!(true)),
            "{session}"
        );
        let token = session["token"].as_str().unwrap();
        let (status, problem) = self.ask(token, "GET", "/api/v1/vos", None).await;
        assert_eq!(
            (status, &problem["type"]),
            (403, &kind("password_change_required"))
        );
        let change = json!({ "new": PASSWORD });
        let (status, problem) = self.ask(token, "POST", "/api/v1/me/password", Some(change)).await;
        assert_eq!(status, 204, "{problem}");
        let (status, _) = self.ask(token, "GET", "/api/v1/me", None).await;
        assert_eq!(status, 401, "the short session ends with the choice");
    }

    async fn sign_in(&self, username: &str, password: &str) -> (u16, Value) {
        let body = json!({ "username": username, "password": password });
        self.ask("", "POST", "/api/v1/sessions", Some(body)).await
    }

    async fn token(&self, username: &str) -> String {
        let (status, session) = self.sign_in(username, PASSWORD).await;
        assert_eq!(status, 201, "{session}");
        session["token"].as_str().unwrap().to_owned()
    }

    /// A new member of `imense` with a password of her own: id and token.
    async fn member(&self, username: &str) -> (String, String) {
        let admin = self.token(ADMIN).await;
        let body = json!({ "username": username, "name": "Jane Smith" });
        let (status, added) = self
            .ask(&admin, "POST", "/api/v1/vos/imense/users", Some(body))
            .await;
        assert_eq!(status, 201, "{added}");
        self.choose(username, added["one_time_password"].as_str().unwrap())
            .await;
        let id = added["user"]["id"].as_str().unwrap().to_owned();
        (id, self.token(username).await)
    }

    /// One request: an empty token means nobody is signed in.
    async fn ask(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = http::Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(String::new, |body| body.to_string());
        self.send(request.body(body::full(body)).unwrap()).await
    }

    /// The stages that the pipeline runs.
    async fn send(&self, request: http::Request<Body>) -> (u16, Value) {
        let place = self.place(&request);
        let source = Source::Ip("192.0.2.7".parse().unwrap());
        let (head, body) = request.into_parts();
        let subject = match self.api.authenticate.subject(&head, &place, source).await {
            Ok(subject) => subject,
            Err(refusal) => return problem_of(&refusal.problem),
        };
        let permit = match self.api.authorize.decide(subject, place).await {
            Ok(permit) => permit,
            Err(denial) => return problem_of(&denial.problem),
        };
        let id: RequestId = self.api.ids.next().unwrap();
        let receipt = self.api.audit.intent(entry_of(id, &permit), Vec::new()).await;
        drop(receipt);
        let call = LocalRequest {
            request: http::Request::from_parts(head, body),
            permit: Arc::new(permit),
            id,
            base: "https://gw.example.org".into(),
        };
        let Ok(answer) = self.service.clone().oneshot(call).await;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let mut value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if let Some(members) = value.as_object_mut().filter(|_| status < 300) {
            members.insert("_request".into(), id.to_string().into());
        }
        (status, value)
    }

    fn place(&self, request: &http::Request<Body>) -> Place {
        let target = Target::parse(&request.uri().to_string()).unwrap();
        let tool = self.api.tools.load().own().clone();
        let found = tool.find(request.method(), &target).unwrap();
        let name = found.as_ref().and_then(|found| found.parameters.get("vo"));
        let vo = name.and_then(|name| self.api.directory().vo_named(name).cloned());
        Place {
            address: Address::Gateway,
            vo: vo.map(|vo| VoRef {
                id: vo.id,
                name: vo.name.clone(),
            }),
            unknown_vo: None,
            tool: Some(tool),
            found,
            method: request.method().clone(),
            target,
            host: "gw.example.org".into(),
        }
    }
}

fn entry_of(id: RequestId, permit: &crate::authorize::Permit) -> LogEntry {
    let place = permit.place();
    LogEntry {
        request: id,
        subject: permit.subject().entry(),
        place: crate::record::PlaceEntry {
            via: place.address.as_str().into(),
            vo: place.vo.as_ref().map(|vo| vo.name.clone()),
            vo_id: place.vo.as_ref().map(|vo| vo.id),
            tool: Some(OWN_TOOL.into()),
            task: Some(permit.found().task.name.clone()),
            kind: Some(permit.found().task.kind.as_str().into()),
            method: place.method.to_string(),
            path: Some(place.target.path().to_owned()),
        },
        parameters: permit.found().parameters.clone(),
        resource: permit.resource_entry(),
        decision: Some(permit.decision().clone()),
        delegation: None,
        source: permit.subject().source().network(),
    }
}

fn problem_of(problem: &Problem) -> (u16, Value) {
    let document = problem.document("https://gw.example.org", RequestId::from(uuid::Uuid::nil()));
    (problem.kind.status(), document)
}

fn kind(name: &str) -> Value {
    format!("https://gw.example.org/.countersign/problems/{name}").into()
}

#[tokio::test]
async fn a7_an_administrator_resets_a_password_and_everybody_else_changes_only_her_own() {
    let world = World::new().await;
    let (jane, jane_token) = world.member("jane").await;
    let (_, john_token) = world.member("john").await;
    let reset = format!("/api/v1/vos/imense/users/{jane}/reset-password");
    let (status, problem) = world.ask(&john_token, "POST", &reset, None).await;
    assert_eq!((status, &problem["type"]), (403, &kind("no_grant")));
    let admin = world.token(ADMIN).await;
    let (status, answer) = world.ask(&admin, "POST", &reset, None).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _) = world.ask(&jane_token, "GET", "/api/v1/me", None).await;
    assert_eq!(status, 401, "a reset ends all sessions");
    let (status, _) = world.sign_in("jane", PASSWORD).await;
    assert_eq!(status, 401, "the old password is gone");
    let one_time = answer["one_time_password"].as_str().unwrap();
    let (status, session) = world.sign_in("jane", one_time).await;
    assert_eq!(status, 201);
    let token = session["token"].as_str().unwrap();
    let weak = json!({ "new": "jane" });
    let (status, problem) = world.ask(token, "POST", "/api/v1/me/password", Some(weak)).await;
    assert_eq!((status, &problem["type"]), (422, &kind("weak_password")));
    let good = json!({ "new": "something else altogether" });
    let (status, _) = world.ask(token, "POST", "/api/v1/me/password", Some(good)).await;
    assert_eq!(status, 204);
}

#[tokio::test]
async fn only_the_home_of_an_account_resets_suspends_and_edits_it() {
    let world = World::new().await;
    let (jane, _) = world.member("jane").await;
    let admin = world.token(ADMIN).await;
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos", Some(json!({ "name": "other" })))
        .await;
    assert_eq!(status, 201);
    let add = json!({ "username": "jane" });
    let (status, added) = world
        .ask(&admin, "POST", "/api/v1/vos/other/users", Some(add))
        .await;
    assert_eq!(
        (status, &added["user"]["home"]),
        (201, &json!("imense")),
        "{added}"
    );
    assert!(added.get("one_time_password").is_none());
    let card = json!({ "name": "Jane", "mail": "thief@example.org" });
    for (method, what, body) in [
        ("POST", "reset-password", None),
        ("POST", "suspend", None),
        ("PUT", "card", Some(card)),
    ] {
        let path = format!("/api/v1/vos/other/users/{jane}/{what}");
        let (status, problem) = world.ask(&admin, method, &path, body.clone()).await;
        assert_eq!(status, 403, "{what}: {problem}");
        let path = format!("/api/v1/vos/imense/users/{jane}/{what}");
        let (status, problem) = world.ask(&admin, method, &path, body).await;
        assert_eq!(status, 200, "{what}: {problem}");
    }
}

#[tokio::test]
async fn c6_administrative_tasks_are_refused_to_a_scientist() {
    let world = World::new().await;
    let (jane, token) = world.member("jane").await;
    let person = format!("/api/v1/vos/imense/users/{jane}");
    let refused = AtomicUsize::new(0);
    for (method, path, body) in [
        ("POST", "/api/v1/vos", Some(json!({ "name": "mine" }))),
        ("POST", "/api/v1/vos/imense/roles", Some(json!({ "name": "r" }))),
        ("GET", "/api/v1/vos/imense/users", None),
        ("GET", person.as_str(), None),
        ("DELETE", person.as_str(), None),
        ("GET", "/api/v1/vos/imense/audit", None),
        ("GET", "/api/v1/audit", None),
        ("POST", "/api/v1/vos/imense/trace", Some(json!({ "query": "1" }))),
        ("GET", "/api/v1/vos/imense/upstreams", None),
    ] {
        let (status, problem) = world.ask(&token, method, path, body).await;
        assert_eq!(
            (status, &problem["type"]),
            (403, &kind("no_grant")),
            "{method} {path}"
        );
        refused.fetch_add(1, Ordering::SeqCst);
    }
    assert_eq!(refused.into_inner(), 9);
    let (status, problem) = world.ask("", "GET", "/api/v1/vos/imense/roles", None).await;
    assert_eq!((status, &problem["type"]), (401, &kind("no_credential")));
}

#[tokio::test]
async fn c3_a_role_gets_a_task_and_the_next_request_is_allowed() {
    let world = World::new().await;
    let (jane, jane_token) = world.member("jane").await;
    let admin = world.token(ADMIN).await;
    let roles = "/api/v1/vos/imense/roles";
    let (status, _) = world
        .ask(&admin, "POST", roles, Some(json!({ "name": "helpdesk" })))
        .await;
    assert_eq!(status, 201);
    let members = format!("{roles}/helpdesk/members/{jane}");
    let (status, _) = world.ask(&admin, "PUT", &members, Some(json!({}))).await;
    assert_eq!(status, 204);
    let (status, _) = world
        .ask(&jane_token, "GET", "/api/v1/vos/imense/users", None)
        .await;
    assert_eq!(status, 403);
    let grant = json!({ "role": "helpdesk", "tool": "countersign", "tasks": ["user.list"] });
    let (status, granted) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant.clone()))
        .await;
    assert_eq!(status, 201, "{granted}");
    let (status, users) = world
        .ask(&jane_token, "GET", "/api/v1/vos/imense/users", None)
        .await;
    assert_eq!(status, 200);
    assert_eq!(users["users"].as_array().unwrap().len(), 2);
    let (_, me) = world.ask(&jane_token, "GET", "/api/v1/me", None).await;
    assert_eq!(me["vos"][0]["roles"], json!(["helpdesk", "scientist"]));
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant))
        .await;
    assert_eq!(status, 409, "the same grant twice");
    let id = granted["grants"][0]["id"].as_str().unwrap();
    let (status, _) = world
        .ask(&admin, "DELETE", &format!("/api/v1/vos/imense/grants/{id}"), None)
        .await;
    assert_eq!(status, 204);
    let (status, _) = world
        .ask(&jane_token, "GET", "/api/v1/vos/imense/users", None)
        .await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn an_administrator_cannot_pass_on_what_is_the_gateways() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    for task in ["upstream.allow", "vo.create", "session.create", "person.me"] {
        let grant = json!({ "role": "scientist", "tool": "countersign", "tasks": [task] });
        let (status, problem) = world
            .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant))
            .await;
        assert_eq!((status, &problem["type"]), (422, &kind("invalid")), "{task}");
    }
    for (grant, status) in [
        (
            json!({ "role": "scientist", "tool": "none", "tasks": ["x"] }),
            404,
        ),
        (
            json!({ "role": "scientist", "tool": "countersign", "tasks": ["no.task"] }),
            404,
        ),
        (
            json!({ "role": "nobody", "tool": "countersign", "tasks": ["user.list"] }),
            404,
        ),
        (
            json!({ "role": "scientist", "tool": "countersign", "tasks": ["user.list"], "when": "1 +" }),
            422,
        ),
    ] {
        let (answered, problem) = world
            .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant))
            .await;
        assert_eq!(answered, status, "{problem}");
    }
}

#[tokio::test]
async fn m3_a_vo_is_hidden_from_those_who_do_not_belong_to_it() {
    let world = World::new().await;
    let (_, jane) = world.member("jane").await;
    let admin = world.token(ADMIN).await;
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos", Some(json!({ "name": "other" })))
        .await;
    assert_eq!(status, 201);
    let (_, vos) = world.ask(&jane, "GET", "/api/v1/vos", None).await;
    assert_eq!(vos["vos"].as_array().unwrap().len(), 1);
    let (there, a) = world.ask(&jane, "GET", "/api/v1/vos/other", None).await;
    let (not_there, b) = world.ask(&jane, "GET", "/api/v1/vos/nothing", None).await;
    assert_eq!((there, a["type"].clone()), (not_there, b["type"].clone()));
    assert_eq!(there, 404);
    let (status, _) = world.ask(&jane, "GET", "/api/v1/vos/other/roles", None).await;
    assert_eq!(status, 403);
    let (_, vos) = world.ask(&admin, "GET", "/api/v1/vos?limit=1", None).await;
    assert_eq!(vos["next"], json!("imense"));
    let (_, vos) = world.ask(&admin, "GET", "/api/v1/vos?after=imense", None).await;
    assert_eq!(vos["vos"][0]["name"], json!("other"));
}

#[tokio::test]
async fn m2_the_list_of_administration_goes_over_the_api() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    let upstream = json!({ "name": "ce", "url": "unix:/run/jobs.sock" });
    let (status, answer) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/upstreams", Some(upstream))
        .await;
    assert_eq!((status, &answer["local"]), (201, &json!(true)), "{answer}");
    let (status, _) = world
        .ask(&admin, "DELETE", "/api/v1/vos/imense/upstreams/ce", None)
        .await;
    assert_eq!(status, 204);
    let (jane, _) = world.member("jane").await;
    let (_, found) = world
        .ask(&admin, "GET", "/api/v1/vos/imense/users?username=jane", None)
        .await;
    assert_eq!(found["users"][0]["id"], json!(jane));
    let twice = json!({ "username": "jane", "name": "Another Jane" });
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/users", Some(twice))
        .await;
    assert_eq!(status, 409);
    let until = world.clock.now().plus(Duration::from_secs(60)).to_string();
    let path = format!("/api/v1/vos/imense/roles/vo-administrator/members/{jane}");
    let (status, _) = world
        .ask(&admin, "PUT", &path, Some(json!({ "until": until })))
        .await;
    assert_eq!(status, 204);
    let (status, _) = world.ask(&admin, "DELETE", &path, None).await;
    assert_eq!(status, 204);
    let (status, _) = world
        .ask(
            &admin,
            "DELETE",
            &format!("/api/v1/vos/imense/users/{jane}"),
            None,
        )
        .await;
    assert_eq!(status, 204);
    let (status, _) = world
        .ask(&admin, "GET", &format!("/api/v1/vos/imense/users/{jane}"), None)
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_session_ends_at_once_and_only_ones_own() {
    let world = World::new().await;
    let (_, jane) = world.member("jane").await;
    let (_, john) = world.member("john").await;
    let (_, me) = world.ask(&jane, "GET", "/api/v1/me", None).await;
    let path = format!("/api/v1/sessions/{}", me["session"].as_str().unwrap());
    let (status, _) = world.ask(&john, "DELETE", &path, None).await;
    assert_eq!(status, 404);
    let (status, _) = world.ask(&jane, "DELETE", &path, None).await;
    assert_eq!(status, 204);
    let (status, _) = world.ask(&jane, "GET", "/api/v1/me", None).await;
    assert_eq!(status, 401);
    let suspended = world.member("paul").await;
    let admin = world.token(ADMIN).await;
    let path = format!("/api/v1/vos/imense/users/{}/suspend", suspended.0);
    let (status, _) = world.ask(&admin, "POST", &path, None).await;
    assert_eq!(status, 200);
    let (status, _) = world.ask(&suspended.1, "GET", "/api/v1/me", None).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn every_change_is_on_record_and_names_nobody() {
    let world = World::new().await;
    let (jane, _) = world.member("jane").await;
    let admin = world.token(ADMIN).await;
    let (status, found) = world
        .ask(&admin, "GET", "/api/v1/vos/imense/audit?event=change", None)
        .await;
    assert_eq!(status, 200, "{found}");
    let actions: Vec<&str> = found["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["event"]["change"]["change"]["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions[1..],
        ["role.assign", "user.add", "user.create"],
        "{actions:?}"
    );
    assert_eq!(actions[0], "user.change_own_password");
    let text = found["records"].to_string().to_lowercase();
    assert!(
        text.contains(&jane) && !text.contains("jane") && !text.contains("smith"),
        "{text}"
    );
    let (_, gateway) = world.ask(&admin, "GET", "/api/v1/audit?event=login", None).await;
    assert!(!gateway["records"].as_array().unwrap().is_empty());
    let (_, gateway) = world.ask(&admin, "GET", "/api/v1/audit?event=change", None).await;
    let text = gateway["records"].to_string();
    assert!(!text.contains("role.assign"), "a VO's records are the VO's");
}

#[tokio::test]
async fn a_request_is_explained_to_its_author_and_to_its_administrator_only() {
    let world = World::new().await;
    let (_, jane) = world.member("jane").await;
    let (_, john) = world.member("john").await;
    let (_, vo) = world.ask(&jane, "GET", "/api/v1/vos/imense", None).await;
    let id = vo["_request"].as_str().unwrap();
    let own = format!("/api/v1/requests/{id}");
    let (status, explained) = world.ask(&jane, "GET", &own, None).await;
    assert_eq!(
        (status, &explained["task"]),
        (200, &json!("vo.show")),
        "{explained}"
    );
    assert!(
        explained.get("considered").is_none(),
        "policies are for administrators"
    );
    let (status, _) = world.ask(&john, "GET", &own, None).await;
    assert_eq!(status, 404);
    let admin = world.token(ADMIN).await;
    let path = format!("/api/v1/vos/imense/requests/{id}");
    let (status, explained) = world.ask(&admin, "GET", &path, None).await;
    assert_eq!(status, 200);
    assert_eq!(explained["person"]["username"], json!("jane"));
    assert!(!explained["considered"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn without_the_log_nothing_changes() {
    let world = World::new().await;
    let admin = world.api.directory().person_named(ADMIN).unwrap().id;
    world.api.audit.close("test").await;
    let vo = world.api.directory().vo_named("imense").unwrap().id;
    let mut tx = world.api.db.begin_write().await.unwrap();
    let change = world.api.vos.create_role(&mut tx, vo, "ghost").await.unwrap();
    let request = world.api.ids.next().unwrap();
    let problem = world.api.commit(request, tx, vec![change]).await.unwrap_err();
    assert_eq!(problem.kind, Kind::LogUnavailable);
    assert!(!world.api.db.was_applied(request).await.unwrap());
    world.api.vos.load().await.unwrap();
    assert!(world.api.directory().role_named(vo, "ghost").is_none());
    assert!(world.api.directory().is_member(vo, admin));
}

#[tokio::test]
async fn a_body_is_strict_json_of_bounded_size() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    let ask = |kind: &str, body: String| {
        http::Request::builder()
            .method("POST")
            .uri("/api/v1/vos/imense/roles")
            .header("authorization", format!("Bearer {admin}"))
            .header("content-type", kind)
            .body(body::full(body))
            .unwrap()
    };
    for (kind, body, status) in [
        (
            "application/json",
            r#"{"name":"a","colour":"red"}"#.to_owned(),
            422,
        ),
        ("application/json", r#"{"name":"a","name":"b"}"#.to_owned(), 422),
        ("application/json", r#"{"name":"a"} x"#.to_owned(), 422),
        ("application/json", r#"{"name":7}"#.to_owned(), 422),
        ("application/json", String::new(), 422),
        ("text/plain", r#"{"name":"a"}"#.to_owned(), 422),
        (
            "application/json",
            format!(r#"{{"name":"{}"}}"#, "x".repeat(operation::LIMIT)),
            413,
        ),
        ("application/json", r#"{"name":"UPPER"}"#.to_owned(), 422),
        (
            "application/json; charset=utf-8",
            r#"{"name":"a"}"#.to_owned(),
            201,
        ),
    ] {
        let (answered, problem) = world.send(ask(kind, body.clone())).await;
        assert_eq!(
            answered,
            status,
            "{kind} {} {problem}",
            body.get(..40).unwrap_or(&body)
        );
    }
}

#[test]
fn every_operation_has_one_name_and_one_address() {
    let tool = Tool::own(tasks()).unwrap();
    let mut names: Vec<&str> = tool.tasks.iter().map(|task| task.name.as_str()).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    for task in &tool.tasks {
        assert_eq!(task.local, Some(SERVICE), "{}", task.name);
        assert!(
            task.matches.iter().all(|matched| matched.contains(" /api/v1/")),
            "{}",
            task.name
        );
        let on_person = task
            .matches
            .iter()
            .any(|matched| matched.contains("{person:uuid}/"));
        let held = task.matches.iter().any(|matched| matched.contains("/members/"));
        assert_eq!(
            task.home_only,
            on_person && !held,
            "what acts on an account itself is for its home: {}",
            task.name
        );
    }
}

#[test]
fn the_openapi_document_is_the_committed_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/openapi.json");
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/reference/openapi.json is not of this code: run `UPDATE_REFERENCE=1 cargo test --lib api::` and look at the difference"
    );
}

#[test]
fn every_reference_in_the_openapi_document_leads_somewhere() {
    let document = document();
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let references: Vec<&str> = text
        .split("#/components/schemas/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(references.len() > 50);
    for name in references {
        assert!(schemas.contains_key(name), "{name}");
    }
}

#[test]
fn an_address_is_filled_in_and_encoded() {
    let id = PersonId::from(uuid::Uuid::nil()).to_string();
    let (method, path) = address("user.remove", &[("vo", "a b"), ("person", &id)]).unwrap();
    assert_eq!(method, Method::DELETE);
    assert_eq!(path, format!("/api/v1/vos/a%20b/users/{id}"));
    assert!(address("user.remove", &[("vo", "a")]).is_none());
    assert!(address("no.such", &[]).is_none());
}
