//! A gateway without listener and pipeline: the stages themselves.

use std::sync::Arc;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::alert::Config as AlertConfig;
use crate::api::*;
use crate::audit::{Config as AuditConfig, LogKey};
use crate::authenticate::{Config as AuthenticateConfig, Cost, Source};
use crate::clock::HandClock;
use crate::delegate::Config as DelegateConfig;
use crate::id::SystemSource;
use crate::record::Entry as LogEntry;
use crate::tool::{Address, Place, Target, Tool, VoRef};
use crate::trust::seal::SealingKey;
use crate::vo::{CardFields, DirectoryHandle, OWN_TOOL, SYSTEM_ADMINISTRATOR};

pub(super) struct World {
    pub(super) api: Arc<Api>,
    service: LocalService,
    pub(super) clock: Arc<HandClock>,
    #[expect(dead_code, reason = "kept until the world ends")]
    folder: tempfile::TempDir,
}

/// User name of the first person, and everybody's password once chosen.
pub(super) const ADMIN: &str = "admin";
pub(super) const PASSWORD: &str = "a long walk to the far shore";

impl World {
    pub(super) async fn new() -> Self {
        Self::with(AlertConfig::default()).await
    }

    /// A gateway whose mails go where `mails` says.
    pub(super) async fn with(mails: AlertConfig) -> Self {
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
        let resources = Resources::new(db.clone(), clock.clone());
        let tools = ToolStore::new(db.clone(), handle.clone(), ids.clone(), own)
            .reserving(["gw.example.org".to_owned()]);
        let api = Arc::new(Api {
            states: States::new(db.clone(), vos.clone(), tools.clone()),
            tools,
            own: upstream::OwnPlaces {
                name: "gw.example.org".into(),
                public_ports: vec![443],
                ..upstream::OwnPlaces::default()
            },
            reload: gateway::Reload::channel().0,
            require_if_match: false,
            running: idempotency::Running::default(),
            authenticate: Authenticate::open(db.clone(), handle.clone(), ids.clone(), cheap)
                .await
                .unwrap(),
            authorize: Authorize::new(
                handle.clone(),
                Arc::new(resources.clone()),
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
            providers: Providers::new(db.clone(), ids.clone()),
            resources,
            alert: Alert::new(
                mails,
                db.clone(),
                vos.clone(),
                ids.clone(),
                crate::telemetry::Metrics::default(),
                folder.path(),
            )
            .unwrap(),
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

    pub(super) async fn sign_in(&self, username: &str, password: &str) -> (u16, Value) {
        let body = json!({ "username": username, "password": password });
        self.ask("", "POST", "/api/v1/sessions", Some(body)).await
    }

    pub(super) async fn token(&self, username: &str) -> String {
        let (status, session) = self.sign_in(username, PASSWORD).await;
        assert_eq!(status, 201, "{session}");
        session["token"].as_str().unwrap().to_owned()
    }

    /// A new member of `imense` with a password of her own: id and token.
    pub(super) async fn member(&self, username: &str) -> (String, String) {
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
    pub(super) async fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
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
    pub(super) async fn send(&self, request: http::Request<Body>) -> (u16, Value) {
        let place = self.place(&request);
        let source = Source::Ip("192.0.2.7".parse().unwrap());
        let (head, body) = request.into_parts();
        let journal = crate::authenticate::Journal {
            request: self.api.ids.next().unwrap(),
            write: &|events| panic!("{events:?}"),
        };
        let asked = self.api.authenticate.subject(&head, &place, source, &journal);
        let subject = match asked.await {
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
            certifier: None,
            gone: tokio_util::sync::CancellationToken::new(),
            within: None,
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
        let tool = self.api.wrapped().own().clone();
        let asked = crate::tool::Asked {
            method: request.method(),
            target: &target,
            host: None,
            headers: request.headers(),
            body: None,
        };
        let found = match tool.find(&asked).unwrap() {
            crate::tool::Lookup::Task(found) => Some(*found),
            _ => None,
        };
        let name = found.as_ref().and_then(|found| found.parameters.get("vo"));
        let vo = name.and_then(|name| self.api.directory().vo_named(name).cloned());
        let unknown_vo = name.filter(|_| vo.is_none()).cloned();
        Place {
            address: Address::Gateway,
            vo: vo.map(|vo| VoRef {
                id: vo.id,
                name: vo.name.clone(),
            }),
            unknown_vo,
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
        trace: None,
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
        no_outcome: false,
    }
}

fn problem_of(problem: &Problem) -> (u16, Value) {
    let document = problem.document("https://gw.example.org", RequestId::from(uuid::Uuid::nil()));
    (problem.kind.status(), document)
}

pub(super) fn kind(name: &str) -> Value {
    format!("https://gw.example.org/.countersign/problems/{name}").into()
}
