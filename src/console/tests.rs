//! The pages as a browser meets them: host table, subject, decision, service, with a cookie jar. Only listener and
//! pipeline are missing.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, Method, Request, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::audit::{Config as AuditConfig, LogKey};
use crate::authenticate::{Config as AuthenticateConfig, Cost, Journal, Source};
use crate::clock::{Clock, HandClock, Timestamp};
use crate::delegate::Config as DelegateConfig;
use crate::gateway::Hosts;
use crate::id::{PersonId, SystemSource, VoId};
use crate::record::{Event, Hash};
use crate::resource::Resources;
use crate::store::Db;
use crate::telemetry::Metrics;
use crate::tool::{Tool, ToolTarget, Tools, VoRef};
use crate::vo::{
    Assignment, Condition, Directory, DirectoryHandle, Grant, Membership, Person, PersonState, Role, Rows,
    VoState,
};

const GATEWAY: &str = "gw.localhost";
const SEGMENTATION: &str = "segmentation.gw.localhost";
const ORTHANC: &str = "orthanc.gw.localhost";
const BASE: &str = "https://gw.localhost:8443";
const PHRASE: &str = "violet harbour tuesday";

struct World {
    console: Console,
    hosts: Hosts,
    db: Db,
    clock: Arc<HandClock>,
    john: PersonId,
    home: VoId,
    #[expect(dead_code, reason = "kept until the world ends")]
    folder: tempfile::TempDir,
}

/// What a browser keeps, and what it got last.
#[derive(Default)]
struct Browser {
    cookies: BTreeMap<(String, String), String>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
    request: RequestId,
}

impl Answer {
    fn location(&self) -> &str {
        self.headers
            .get(header::LOCATION)
            .map_or("", |value| value.to_str().unwrap())
    }
}

fn wrapped(name: &str, host: &str) -> Tool {
    let mut submit = task(
        "submit job",
        "POST /jobs",
        tool::Kind::Create,
        Audience::Granted(&[]),
    );
    let mut show = task(
        "show job",
        "GET /jobs/{job:int}",
        tool::Kind::Read,
        Audience::Granted(&[]),
    );
    (submit.local, show.local) = (None, None);
    let mut tool = Tool::own(vec![submit, show]).unwrap();
    tool.name = name.into();
    tool.hosts = vec![host.into()];
    tool.target = ToolTarget::Upstream(name.into());
    tool
}

fn rows(ids: &Ids, john: PersonId, home: VoId) -> Rows {
    let (role, other) = (ids.next().unwrap(), ids.next().unwrap());
    let grant = |task: &str, condition| Grant {
        id: ids.next().unwrap(),
        vo: home,
        role,
        tool: "segmentation".into(),
        task: task.into(),
        condition,
    };
    Rows {
        people: vec![Person {
            id: john,
            username: "john".into(),
            home,
            state: PersonState::Active,
            until: None,
            card: Hash::of(b"card"),
            version: 1,
        }],
        vos: [(home, "imense"), (Directory::gateway(), "countersign")]
            .map(|(id, name)| crate::vo::Vo {
                id,
                name: name.into(),
                state: VoState::Active,
                version: 1,
            })
            .to_vec(),
        memberships: vec![Membership {
            id: ids.next().unwrap(),
            vo: home,
            person: john,
        }],
        roles: [(role, "scientist"), (other, "clinician")]
            .map(|(id, name)| Role {
                id,
                vo: home,
                name: name.into(),
            })
            .to_vec(),
        assignments: vec![Assignment {
            id: ids.next().unwrap(),
            vo: home,
            role,
            person: john,
            until: None,
        }],
        grants: vec![
            grant("submit job", Condition::Always),
            grant("show job", Condition::Own),
        ],
        ..Rows::default()
    }
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("store.db")).await.unwrap();
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
        let (john, home): (PersonId, VoId) = (ids.next().unwrap(), ids.next().unwrap());
        let directory = DirectoryHandle::new(Directory::build(rows(&ids, john, home)));
        let mut tools = Tools::new(Arc::new(Tool::own(tasks()).unwrap()));
        let vo = VoRef {
            id: home,
            name: "imense".into(),
        };
        tools.insert(&vo, Arc::new(wrapped("segmentation", SEGMENTATION)));
        tools.insert(&vo, Arc::new(wrapped("orthanc", ORTHANC)));
        let tools = ToolsHandle::new(tools);
        let shared: Arc<dyn Clock> = clock.clone();
        let resources = Resources::new(db.clone(), shared.clone());
        let config = AuthenticateConfig {
            cost: Cost {
                memory_kib: 64,
                passes: 1,
                lanes: 1,
            },
            ..AuthenticateConfig::default()
        };
        let audit = AuditConfig {
            folder: folder.path().join("log"),
            segment_bytes: 256 * 1024,
            min_free_bytes: 0,
            stop_free_bytes: 0,
            allow_any_fs: true,
            ..AuditConfig::default()
        };
        let key = LogKey::generate(&**ids.random()).unwrap();
        let console = Console::new(
            Authenticate::open(db.clone(), directory.clone(), ids.clone(), config)
                .await
                .unwrap(),
            Authorize::new(directory.clone(), Arc::new(resources), shared, Metrics::new()),
            Audit::open(audit, key, "gw.localhost/log", ids.clone())
                .unwrap()
                .audit,
            tools.clone(),
            Vos::new(db.clone(), directory.clone(), ids.clone()),
            Arc::new(Delegate::new(
                DelegateConfig::default(),
                db.clone(),
                None,
                ids.clone(),
                BASE.to_owned(),
            )),
            ids,
        );
        let hosts = Hosts::new(
            [GATEWAY.to_owned()],
            [8_443, 443],
            directory,
            tools,
            crate::gateway::framing::Limits::default(),
        );
        Self {
            console,
            hosts,
            db,
            clock,
            john,
            home,
            folder,
        }
    }

    /// John's one-time password.
    async fn one_time(&self) -> String {
        let authenticate = &self.console.0.authenticate;
        let one_time = authenticate.one_time_password().await.unwrap();
        let mut tx = self.db.begin_write().await.unwrap();
        let password = authenticate
            .first_password(&mut tx, self.john, self.home, one_time)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        password.expose().clone()
    }

    /// A browser in which John is signed in with a password of his own.
    async fn signed_in(&self) -> Browser {
        let mut browser = Browser::default();
        let one_time = self.one_time().await;
        browser
            .submit(
                self,
                GATEWAY,
                "/login",
                &[("username", "john"), ("password", &one_time)],
            )
            .await;
        browser
            .submit(self, GATEWAY, "/password", &[("new", PHRASE), ("again", PHRASE)])
            .await;
        let answer = browser
            .submit(
                self,
                GATEWAY,
                "/login",
                &[("username", "john"), ("password", PHRASE)],
            )
            .await;
        assert_eq!((answer.status, answer.location()), (303, "/"));
        browser
    }

    /// The path of a request, as the pipeline runs it; problems as pages.
    async fn serve(&self, request: Request<Body>) -> Answer {
        let id: RequestId = self.console.0.ids.next().unwrap();
        let response = self
            .run(request, id)
            .await
            .unwrap_or_else(|problem| answer::refused(&problem, super::pages::problem(&problem, id)));
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
            request: id,
        }
    }

    async fn run(&self, request: Request<Body>, id: RequestId) -> Result<Response<Body>, Problem> {
        let (head, body) = request.into_parts();
        let place = self.hosts.place(&head)?;
        let source = Source::Ip("192.0.2.1".parse().unwrap());
        let sign_in = |problem: Problem| match problem.kind {
            Kind::NoCredential | Kind::PasswordChangeRequired => {
                self.console.sign_in(&head, &place, BASE).ok_or(problem)
            }
            _ => Err(problem),
        };
        let journal = Journal {
            request: id,
            write: &|events| panic!("{events:?}"),
        };
        let authenticate = &self.console.0.authenticate;
        let subject = match authenticate.subject(&head, &place, source, &journal).await {
            Ok(subject) => subject,
            Err(refusal) => return sign_in(refusal.problem),
        };
        let permit = match self.console.0.authorize.decide(subject, place.clone()).await {
            Ok(permit) => permit,
            Err(denial) => return sign_in(denial.problem),
        };
        let request = LocalRequest {
            request: Request::from_parts(head, body),
            permit: Arc::new(permit),
            id,
            base: BASE.into(),
            certifier: None,
            gone: tokio_util::sync::CancellationToken::new(),
            within: None,
        };
        Ok(self.console.service().oneshot(request).await.unwrap())
    }

    async fn recorded(&self, request: RequestId) -> Vec<Event> {
        let index = self.console.0.audit.search();
        index.catch_up().await.unwrap();
        let records = index.request(request).await.unwrap();
        records.into_iter().map(|record| record.event).collect()
    }
}

impl Browser {
    async fn send(
        &mut self,
        world: &World,
        host: &str,
        request: http::request::Builder,
        body: Body,
    ) -> Answer {
        let own = self.cookies.iter().filter(|((at, _), _)| at == host);
        let cookies: Vec<String> = own.map(|((_, name), value)| format!("{name}={value}")).collect();
        let mut request = request
            .header("host", format!("{host}:8443"))
            .header("accept", "text/html,application/xhtml+xml")
            .header("sec-fetch-mode", "navigate");
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        let answer = world.serve(request.body(body).unwrap()).await;
        for line in answer.headers.get_all(header::SET_COOKIE) {
            let line = line.to_str().unwrap();
            assert!(
                line.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax") || line.ends_with("Max-Age=0")
            );
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            let key = (host.to_owned(), name.to_owned());
            match line.contains("Max-Age=0") {
                true => self.cookies.remove(&key),
                false => self.cookies.insert(key, value.to_owned()),
            };
        }
        answer
    }

    async fn open(&mut self, world: &World, host: &str, path: &str) -> Answer {
        let request = Request::builder().uri(path).header("sec-fetch-site", "none");
        self.send(world, host, request, crate::body::empty()).await
    }

    /// Opens an address with host, as a redirect gives it.
    async fn follow(&mut self, world: &World, address: &str) -> Answer {
        let (host, path) = match address.strip_prefix("https://") {
            Some(rest) => {
                let at = rest.find('/').unwrap();
                (
                    rest[..at].strip_suffix(":8443").unwrap().to_owned(),
                    rest[at..].to_owned(),
                )
            }
            None => (GATEWAY.to_owned(), address.to_owned()),
        };
        self.open(world, &host, &path).await
    }

    async fn submit(&mut self, world: &World, host: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.submit_from(world, host, path, fields, "same-origin").await
    }

    async fn submit_from(
        &mut self,
        world: &World,
        host: &str,
        path: &str,
        fields: &[(&str, &str)],
        site: &str,
    ) -> Answer {
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", percent(value)))
            .collect();
        let body = fields.join("&");
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("content-length", body.len())
            .header("sec-fetch-site", site);
        self.send(world, host, request, crate::body::full(body)).await
    }
}

#[tokio::test]
async fn a_one_time_password_leads_to_the_choice_of_a_password_and_then_home() {
    let world = World::new().await;
    let one_time = world.one_time().await;
    let mut browser = Browser::default();
    let answer = browser.open(&world, GATEWAY, "/").await;
    assert_eq!((answer.status, answer.location()), (303, "/login"));
    let answer = browser.open(&world, GATEWAY, "/login").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.contains("autocomplete=\"current-password\""));
    let answer = browser
        .submit(
            &world,
            GATEWAY,
            "/login",
            &[("username", "john"), ("password", "not it at all")],
        )
        .await;
    assert_eq!(answer.status, 401);
    assert!(answer.text.contains("The user name or the password is not right"));
    assert!(answer.text.contains("value=\"john\"") && !answer.text.contains("not it at all"));
    let logins = world.recorded(answer.request).await;
    assert!(
        matches!(&logins[..], [Event::Login(login)] if login.result == "wrong" && login.person == Some(world.john))
    );
    let answer = browser
        .submit(
            &world,
            GATEWAY,
            "/login",
            &[("username", "john"), ("password", &one_time)],
        )
        .await;
    assert_eq!((answer.status, answer.location()), (303, "/password"));
    let logins = world.recorded(answer.request).await;
    assert!(matches!(&logins[..], [Event::Login(login)] if login.result == "ok" && login.session.is_some()));
    let answer = browser.open(&world, GATEWAY, "/").await;
    assert_eq!(
        (answer.status, answer.location()),
        (303, "/login"),
        "nothing else is open"
    );
    let answer = browser.follow(&world, "/login").await;
    assert_eq!(answer.location(), "/password");
    let answer = browser.follow(&world, "/password").await;
    assert!(answer.text.contains("Choose your password") && !answer.text.contains("name=\"current\""));
    for (new, again, said) in [
        (PHRASE, "another phrase of hers", "two new passwords differ"),
        ("Segmentation2026", "Segmentation2026", "segmentation"),
        ("too short", "too short", "at least 15 are needed"),
    ] {
        let answer = browser
            .submit(&world, GATEWAY, "/password", &[("new", new), ("again", again)])
            .await;
        assert_eq!(answer.status, 422, "{new}");
        assert!(answer.text.contains(said), "{said} in {}", answer.text);
    }
    let answer = browser
        .submit(
            &world,
            GATEWAY,
            "/password",
            &[("new", PHRASE), ("again", PHRASE)],
        )
        .await;
    assert_eq!((answer.status, answer.location()), (303, "/login?note=changed"));
    let events = world.recorded(answer.request).await;
    assert!(
        matches!(&events[..], [Event::Change(_), Event::SessionEnded(_)]),
        "{events:?}"
    );
    assert!(browser.cookies.is_empty());
    let answer = browser
        .submit(
            &world,
            GATEWAY,
            "/login",
            &[("username", "john"), ("password", PHRASE)],
        )
        .await;
    assert_eq!((answer.status, answer.location()), (303, "/"));
    let answer = browser.follow(&world, "/").await;
    assert_eq!(answer.status, 200);
    for part in [
        "submit job",
        "scientist",
        "curl --cacert ca.pem",
        "https://gw.localhost:8443/imense/segmentation/jobs/JOB",
    ] {
        assert!(answer.text.contains(part), "{part}");
    }
    // No task of hers is `GET /`, so there is no page to open.
    assert!(!answer.text.contains("https://segmentation.gw.localhost:8443/"));
}

#[tokio::test]
async fn a_tool_is_entered_over_the_gateway_and_left_everywhere_at_once() {
    let world = World::new().await;
    let mut browser = world.signed_in().await;
    let answer = browser.open(&world, SEGMENTATION, "/jobs/7?x=1").await;
    assert_eq!(answer.status, 303);
    let there = answer.location().to_owned();
    assert!(
        there.starts_with(
            "https://gw.localhost:8443/.countersign/enter?host=segmentation.gw.localhost&nonce="
        )
    );
    let answer = browser.follow(&world, &there).await;
    let back = answer.location().to_owned();
    assert!(
        back.starts_with("https://segmentation.gw.localhost:8443/.countersign/enter?code="),
        "{back}"
    );
    let answer = browser.follow(&world, &back).await;
    assert_eq!((answer.status, answer.location()), (303, "/jobs/7?x=1"));
    let logins = world.recorded(answer.request).await;
    assert!(matches!(&logins[..], [Event::Login(login)] if login.person == Some(world.john)));
    let answer = browser.follow(&world, &back).await;
    assert_eq!(answer.status, 401, "a code is good once");
    // There it is John's, and says of him what concerns this tool.
    let answer = browser.open(&world, SEGMENTATION, "/.countersign/me").await;
    let me: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(
        (&me["username"], &me["session"]["kind"]),
        (&"john".into(), &"child".into())
    );
    assert_eq!(me["vos"][0]["tools"][0]["name"], "segmentation");
    assert_eq!(me["vos"][0]["tools"].as_array().unwrap().len(), 1);
    // The gateway's own pages are not on the tool's host, and its cookie is of no use elsewhere.
    let child = browser.cookies[&(SEGMENTATION.to_owned(), "__Host-countersign".to_owned())].clone();
    let mut thief = Browser::default();
    for host in [GATEWAY, ORTHANC] {
        thief
            .cookies
            .insert((host.into(), "__Host-countersign".into()), child.clone());
        let answer = thief.open(&world, host, "/.countersign/me").await;
        assert_eq!(answer.status, 303, "not signed in at {host}");
    }
    let answer = browser
        .submit(&world, SEGMENTATION, "/.countersign/logout", &[])
        .await;
    assert_eq!(
        answer.location(),
        "https://gw.localhost:8443/login?note=signed-out"
    );
    let answer = browser.open(&world, GATEWAY, "/").await;
    assert_eq!(answer.location(), "/login", "the gateway's session has ended too");
}

#[tokio::test]
async fn who_is_not_signed_in_signs_in_on_the_way_and_arrives() {
    let world = World::new().await;
    world.signed_in().await;
    let mut browser = Browser::default();
    let answer = browser.open(&world, SEGMENTATION, "/").await;
    let answer = browser.follow(&world, answer.location()).await;
    let login = answer.location().to_owned();
    assert!(login.starts_with("/login?to=%2F.countersign%2Fenter%3Fhost%3Dsegmentation.gw.localhost"));
    let page = browser.follow(&world, &login).await;
    let to = page
        .text
        .split("name=\"to\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let to = to.replace("&#38;", "&").replace("&amp;", "&");
    let answer = browser
        .submit(
            &world,
            GATEWAY,
            "/login",
            &[("username", "john"), ("password", PHRASE), ("to", &to)],
        )
        .await;
    assert_eq!(
        answer.status, 200,
        "a page and not a redirect: it may lead to another host"
    );
    assert!(answer.text.contains("http-equiv=\"refresh\""));
    let answer = browser.follow(&world, &to).await;
    let answer = browser.follow(&world, answer.location()).await;
    assert_eq!((answer.status, answer.location()), (303, "/"));
}

#[tokio::test]
async fn no_address_leads_to_another_site() {
    let world = World::new().await;
    let mut browser = world.signed_in().await;
    for evil in [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
    ] {
        let answer = browser
            .open(&world, GATEWAY, &format!("/login?to={}", percent(evil)))
            .await;
        assert_eq!(answer.location(), "/", "{evil}");
        let fields = [("username", "john"), ("password", PHRASE), ("to", evil)];
        let answer = Browser::default()
            .submit(&world, GATEWAY, "/login", &fields)
            .await;
        assert_eq!((answer.status, answer.location()), (303, "/"), "{evil}");
        let enter = format!(
            "/.countersign/enter?host={SEGMENTATION}&nonce={}&to={}",
            "0".repeat(64),
            percent(evil)
        );
        let answer = browser.open(&world, GATEWAY, &enter).await;
        assert!(
            answer
                .location()
                .starts_with("https://segmentation.gw.localhost:8443/.countersign/enter?code=")
        );
        assert!(!answer.location().contains("evil"));
    }
    let nonce = "0".repeat(64);
    for host in ["evil.example", "gw.localhost", "evil.example:8443", ""] {
        let enter = format!("/.countersign/enter?host={}&nonce={nonce}&to=%2F", percent(host));
        let answer = browser.open(&world, GATEWAY, &enter).await;
        assert_eq!((answer.status, answer.location()), (404, ""), "{host}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_gets_no_code_without_a_click() {
    let world = World::new().await;
    let mut browser = world.signed_in().await;
    let nonce = "0".repeat(64);
    let enter = format!("/.countersign/enter?host={SEGMENTATION}&nonce={nonce}&to=%2Fr");
    let mut lead = async |site: &str| {
        let request = Request::builder().uri(&enter).header("sec-fetch-site", site);
        browser.send(&world, GATEWAY, request, crate::body::empty()).await
    };
    for site in ["cross-site", "new-word", ""] {
        let answer = lead(site).await;
        assert_eq!((answer.status, answer.location()), (200, ""), "{site}");
        assert!(answer.text.contains("Continue to segmentation?"));
        assert!(!answer.text.contains("code=") && !answer.text.contains("http-equiv"));
        let link = answer
            .text
            .split("<a href=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert_eq!(link.replace("&#38;", "&").replace("&amp;", "&"), enter);
    }
    for site in ["none", "same-site", "same-origin"] {
        let answer = lead(site).await;
        assert_eq!(answer.status, 303, "{site}");
        assert!(answer.location().contains("/.countersign/enter?code="), "{site}");
    }
}

#[tokio::test]
async fn another_site_can_neither_sign_somebody_in_nor_out() {
    let world = World::new().await;
    let mut browser = world.signed_in().await;
    for site in ["same-site", "cross-site"] {
        let answer = browser
            .submit_from(&world, GATEWAY, "/.countersign/logout", &[], site)
            .await;
        assert_eq!(answer.status, 403);
        let fields = [("username", "john"), ("password", PHRASE)];
        let answer = Browser::default()
            .submit_from(&world, GATEWAY, "/login", &fields, site)
            .await;
        assert_eq!(answer.status, 403);
    }
    assert_eq!(browser.open(&world, GATEWAY, "/").await.status, 200);
    let answer = browser.submit(&world, GATEWAY, "/.countersign/logout", &[]).await;
    assert_eq!(
        (answer.status, answer.location()),
        (303, "/login?note=signed-out")
    );
}

#[tokio::test]
async fn guessing_at_the_page_is_slowed_and_says_for_how_long() {
    let world = World::new().await;
    world.signed_in().await;
    let mut browser = Browser::default();
    let fields = [("username", "john"), ("password", "wrong wrong wrong wrong")];
    for _ in 0..5 {
        assert_eq!(
            browser.submit(&world, GATEWAY, "/login", &fields).await.status,
            401
        );
    }
    let answer = browser.submit(&world, GATEWAY, "/login", &fields).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers["retry-after"], "20");
    assert!(answer.text.contains("Try again in 20 s"));
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(
        browser.submit(&world, GATEWAY, "/login", &fields).await.status,
        401
    );
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_keep_it_from_harm() {
    let world = World::new().await;
    let mut browser = world.signed_in().await;
    for (host, path, status, kind) in [
        (GATEWAY, "/", 200, "text/html; charset=utf-8"),
        (GATEWAY, "/password", 200, "text/html; charset=utf-8"),
        (GATEWAY, "/.countersign/me", 200, "application/json"),
        (GATEWAY, "/.countersign/problems", 200, "text/html; charset=utf-8"),
        (
            GATEWAY,
            "/.countersign/problems/not_owner",
            200,
            "text/html; charset=utf-8",
        ),
        (
            GATEWAY,
            "/.countersign/problems/nothing",
            404,
            "text/html; charset=utf-8",
        ),
        (GATEWAY, "/.countersign/jwks.json", 200, "application/json"),
        (
            GATEWAY,
            "/.countersign/crl/nobody",
            404,
            "text/html; charset=utf-8",
        ),
        (GATEWAY, "/.countersign/assets/icon.svg", 200, "image/svg+xml"),
        (
            SEGMENTATION,
            "/.countersign/assets/console.css",
            200,
            "text/css; charset=utf-8",
        ),
        (
            SEGMENTATION,
            "/.countersign/problems/no_grant",
            200,
            "text/html; charset=utf-8",
        ),
        (
            GATEWAY,
            "/.countersign/assets/other.css",
            404,
            "text/html; charset=utf-8",
        ),
    ] {
        let answer = browser.open(&world, host, path).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["content-type"], kind, "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cross-origin-resource-policy"], "same-origin");
        let cache = answer.headers["cache-control"].to_str().unwrap();
        assert_eq!(
            cache == "no-store",
            !path.contains("assets") || status != 200,
            "{path}"
        );
    }
}
