use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::mint::MintError;
use super::plan::{Wanted, choose};
use super::*;
use crate::clock::{Clock, HandClock, SystemClock};
use crate::id::{RequestId, SystemSource};
use crate::problem::{AsProblem, Kind};
use crate::record::{Ending, Entry, Hash, Outcome, PlaceEntry, SubjectEntry};
use crate::secret::Secret;
use crate::tool::{Delegation, ProxyKey, ProxyPolicy, ProxySettings, Tool, ToolTarget, VoRef};
use crate::trust::certificate::{Source, Use};
use crate::trust::pem;

mod lists;

/// A delegation service with one VO on a store.
struct World {
    clock: Arc<HandClock>,
    ids: Ids,
    vo: VoRef,
    delegate: Delegate,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let world = Self::empty().await;
        world
            .import(
                include_str!("../../../certs/vo-ec.pem"),
                include_str!("../../../certs/vo-ec.key"),
            )
            .await;
        world
    }

    async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("store.db")).await.unwrap();
        Self::on(db, folder)
    }

    fn on(db: Db, folder: tempfile::TempDir) -> Self {
        // The machine's time to begin with, because openssl verifies against it.
        let clock = Arc::new(HandClock::new(SystemClock::new().now()));
        let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
        let sealing = SealingKey::generate(&**ids.random()).unwrap();
        let origin = "https://gw.localhost:8443".to_owned();
        let delegate = Delegate::new(Config::default(), db, Some(sealing), ids.clone(), origin);
        let vo = VoRef {
            id: ids.next().unwrap(),
            name: "imense".to_owned(),
        };
        Self {
            clock,
            ids,
            vo,
            delegate,
            _folder: folder,
        }
    }

    async fn import(&self, certificate: &str, key: &str) -> Imported {
        let (certificate, key) = (
            Source {
                name: "vo.pem",
                text: certificate,
            },
            Source {
                name: "vo.key",
                text: key,
            },
        );
        let mut tx = self.delegate.db.begin_write().await.unwrap();
        let imported = self
            .delegate
            .import_certificate(&mut tx, (self.vo.id, Use::Tools), certificate, key, None)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        self.delegate.load().await.unwrap();
        imported
    }

    fn id<T: From<uuid::Uuid>>(&self) -> T {
        self.ids.next().unwrap()
    }

    fn wanted(&self, session: SessionId, delegation: Delegation) -> Wanted {
        Wanted {
            person: Some((self.id(), Hash::of(b"card"))),
            username: None,
            session: Some(session),
            vo: Some(self.vo.clone()),
            tool: Some(Arc::new(tool(delegation))),
            task: "submit job".to_owned(),
            local: false,
        }
    }

    fn plan(&self, wanted: &Wanted) -> Result<Plan, DelegateError> {
        choose(&self.delegate, self.id(), wanted)
    }

    async fn deliver(&self, plan: Plan) -> Result<(Credential, Option<SignedEntry>), DelegateError> {
        let request = plan.request();
        self.delegate
            .deliver(plan.work(request)?, &Durable::witnessed(request))
            .await
    }

    /// Plans and delivers; the serial, whether it was minted, and the credential.
    async fn get(&self, wanted: &Wanted) -> (String, bool, Credential) {
        let plan = self.plan(wanted).unwrap();
        let entry = plan.entry();
        let (credential, signed) = self.deliver(plan).await.unwrap();
        assert_eq!(signed.is_some(), entry.minted);
        (entry.serial.unwrap(), entry.minted, credential)
    }
}

fn tool(delegation: Delegation) -> Tool {
    Tool {
        name: "jobs".to_owned(),
        version: 1,
        target: ToolTarget::Upstream("ce".to_owned()),
        delegation,
        proxy: ProxySettings {
            lifetime: Duration::from_secs(7_200),
            policy: ProxyPolicy::InheritAll,
            path_length: None,
            key: ProxyKey::P256,
        },
        ..Tool::own(Vec::new()).unwrap()
    }
}

/// The PEM file that a `pem` tool gets.
fn file_of(credential: &Credential) -> String {
    let Credential::Header { name, value } = credential else {
        panic!("no header: {credential:?}")
    };
    assert_eq!(name.as_str(), "x-countersign-proxy");
    String::from_utf8(data_encoding::BASE64.decode(value.expose().as_bytes()).unwrap()).unwrap()
}

fn certificate_of(credential: &Credential) -> Vec<u8> {
    pem::certificates("proxy", &file_of(credential))
        .unwrap()
        .remove(0)
}

#[tokio::test]
async fn a_session_has_one_proxy_for_each_tool() {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let (first, minted, one) = world.get(&wanted).await;
    let (second, again, two) = world.get(&wanted).await;
    assert_eq!((first, minted, again), (second, true, false));
    assert_eq!(file_of(&one), file_of(&two));
    let mut other = wanted.clone();
    other.tool = Some(Arc::new(Tool {
        name: "other".to_owned(),
        ..tool(Delegation::Pem)
    }));
    assert!(world.get(&other).await.1);
    assert_eq!(world.delegate.in_use(), 2);
}

#[tokio::test]
async fn two_sessions_get_different_keys() {
    let world = World::new().await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (_, _, credential) = world.get(&world.wanted(world.id(), Delegation::Pem)).await;
        keys.push(pem::key("proxy", &file_of(&credential)).unwrap());
    }
    assert!(keys[0] != keys[1]);
}

#[tokio::test]
async fn the_lifetime_is_capped_whatever_the_tool_asks_for() {
    let world = World::new().await;
    let plan = world.plan(&world.wanted(world.id(), Delegation::Pem)).unwrap();
    let [Event::Mint(mint)] = &plan.events()[..] else {
        panic!("no mint record")
    };
    let asked = mint.not_after.since(world.clock.now());
    assert!(
        asked <= Duration::from_secs(3_600) && asked > Duration::from_secs(3_590),
        "{asked:?}"
    );
    assert_eq!((mint.tool.as_str(), mint.way.as_str()), ("jobs", "pem"));
}

#[tokio::test]
async fn a_proxy_is_renewed_at_two_thirds_of_its_life() {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let (first, ..) = world.get(&wanted).await;
    world.clock.advance(Duration::from_secs(2_390));
    assert_eq!(world.get(&wanted).await.0, first);
    world.clock.advance(Duration::from_secs(20));
    // While one request renews, others go on with the proxy that is still good.
    let renewal = world.plan(&wanted).unwrap();
    assert!(renewal.entry().minted);
    assert_eq!(world.get(&wanted).await.0, first);
    world.deliver(renewal).await.unwrap();
    let (renewed, minted, _) = world.get(&wanted).await;
    assert!(renewed != first && !minted);
}

#[tokio::test]
async fn requests_that_come_together_share_one_mint() {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let first = world.plan(&wanted).unwrap();
    let second = world.plan(&wanted).unwrap();
    assert_eq!((first.events().len(), second.events().len()), (1, 0));
    assert_eq!(first.entry().serial, second.entry().serial);
    let (one, two) = tokio::join!(world.deliver(first), world.deliver(second));
    assert_eq!(file_of(&one.unwrap().0), file_of(&two.unwrap().0));
}

#[tokio::test]
async fn when_the_mint_fails_those_who_waited_are_told_and_the_next_mints() {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let first = world.plan(&wanted).unwrap();
    let second = world.plan(&wanted).unwrap();
    drop(first); // its intent could not be written
    let error = world.deliver(second).await.unwrap_err();
    assert!(matches!(error, DelegateError::Raced));
    assert_eq!(error.as_problem().kind, Kind::Busy);
    assert!(world.get(&wanted).await.1);
}

#[tokio::test]
async fn a_proxy_goes_with_its_session() {
    let world = World::new().await;
    let session = world.id();
    let wanted = world.wanted(session, Delegation::ClientCertificate);
    let (first, ..) = world.get(&wanted).await;
    world.delegate.end_session(session);
    assert_eq!(world.delegate.in_use(), 0);
    let late = world.plan(&wanted).unwrap();
    assert_ne!(late.entry().serial.unwrap(), first);
    world.delegate.end_session(session);
    world.deliver(late).await.unwrap();
    assert_eq!(world.delegate.in_use(), 0);
}

#[tokio::test]
async fn a_changed_tool_or_a_new_vo_certificate_means_a_new_proxy() {
    let world = World::new().await;
    let mut wanted = world.wanted(world.id(), Delegation::Pem);
    let (first, ..) = world.get(&wanted).await;
    wanted.tool = Some(Arc::new(Tool {
        version: 2,
        ..tool(Delegation::Pem)
    }));
    let (second, minted, _) = world.get(&wanted).await;
    assert!(minted && second != first);
    let imported = world
        .import(
            include_str!("../../../certs/vo-rsa.pem"),
            include_str!("../../../certs/vo-rsa.key"),
        )
        .await;
    assert!(imported.change.before.is_some() && imported.warnings.is_empty());
    let (third, minted, _) = world.get(&wanted).await;
    assert!(minted && third != second);
}

#[tokio::test]
async fn ended_proxies_are_swept() {
    let world = World::new().await;
    world.get(&world.wanted(world.id(), Delegation::Pem)).await;
    world.clock.advance(Duration::from_secs(3_601));
    world.delegate.sweep();
    assert_eq!(world.delegate.in_use(), 0);
}

#[tokio::test]
async fn the_number_of_sessions_in_memory_is_bounded() {
    let mut world = World::new().await;
    world.delegate.proxies = Proxies::new(32);
    for _ in 0..100 {
        world.get(&world.wanted(world.id(), Delegation::Pem)).await;
    }
    assert!(world.delegate.in_use() <= 32);
}

#[tokio::test]
async fn a_plan_is_carried_out_only_for_its_own_request() {
    let world = World::new().await;
    let plan = world.plan(&world.wanted(world.id(), Delegation::Pem)).unwrap();
    assert!(matches!(
        plan.work(world.id()),
        Err(DelegateError::ForeignReceipt)
    ));
}

/// A log of its own below `folder`.
fn log(world: &World, folder: &std::path::Path) -> crate::audit::Audit {
    let config = crate::audit::Config {
        folder: folder.join("log"),
        segment_bytes: 256 * 1024,
        min_free_bytes: 0,
        stop_free_bytes: 0,
        allow_any_fs: true,
        ..crate::audit::Config::default()
    };
    let key = crate::audit::LogKey::generate(&**world.ids.random()).unwrap();
    let opened = crate::audit::Audit::open(config, key, "gw.localhost/log", world.ids.clone());
    opened.unwrap().audit
}

/// The receipt for the intent of a plan.
async fn intent(audit: &crate::audit::Audit, plan: &Plan) -> crate::audit::Receipt {
    let entry = Entry {
        request: plan.request(),
        trace: None,
        subject: SubjectEntry::default(),
        place: PlaceEntry::default(),
        parameters: std::collections::BTreeMap::new(),
        resource: None,
        decision: None,
        delegation: Some(plan.entry()),
        source: "local".to_owned(),
        no_outcome: false,
    };
    audit.intent(entry, plan.events()).await.unwrap()
}

#[tokio::test]
async fn the_key_signs_with_the_receipt_of_its_own_request_and_the_mint_record_is_in_the_log() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let audit = log(&world, folder.path());
    let receipt = async |plan: &Plan| intent(&audit, plan).await;
    let plan = world.plan(&world.wanted(world.id(), Delegation::Pem)).unwrap();
    let other = world.plan(&world.wanted(world.id(), Delegation::Pem)).unwrap();
    let before = audit.size();
    let (own, foreign) = (receipt(&plan).await, receipt(&other).await);
    assert_eq!(audit.size() - before, 4, "two intents, each with its mint record");
    let (_, signed) = world.delegate.credential(plan, &own).await.unwrap();
    assert!(signed.is_some());
    let refused = world.delegate.credential(other, &own).await.unwrap_err();
    assert!(matches!(refused, DelegateError::ForeignReceipt));
    drop((own, foreign));
    audit.close("test").await;
}

#[tokio::test]
async fn nobody_signed_in_and_no_certificate_are_refused_in_the_plan() {
    let world = World::empty().await;
    let mut wanted = world.wanted(world.id(), Delegation::Pem);
    let error = world.plan(&wanted).unwrap_err();
    assert!(matches!(error, DelegateError::NoCertificate { .. }));
    assert_eq!(error.as_problem().kind, Kind::DelegationFailed);
    wanted.session = None;
    assert!(matches!(
        world.plan(&wanted).unwrap_err(),
        DelegateError::NoPerson
    ));
}

#[tokio::test]
async fn a_vo_certificate_that_ended_is_said_and_spoils_no_proxy_in_use() {
    let world = World::empty().await;
    let issued =
        crate::trust::authority::issue(&crate::trust::authority::Names::loopback(), "imense", &world.ids)
            .unwrap();
    world.import(&issued.vo.certificate, issued.vo.key.expose()).await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    world
        .clock
        .advance(issued.not_after.since(world.clock.now()) - Duration::from_secs(120));
    let (first, ..) = world.get(&wanted).await;
    world.clock.advance(Duration::from_secs(85));
    assert_eq!(world.get(&wanted).await.0, first);
    world.clock.advance(Duration::from_secs(30));
    let error = world.plan(&wanted).unwrap_err().as_problem();
    assert_eq!(error.kind, Kind::DelegationFailed);
    assert!(error.detail.contains("ended at"), "{}", error.detail);
}

#[tokio::test]
async fn without_the_sealing_key_only_tools_without_delegation_work() {
    let world = World::new().await;
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    let secret = StaticCredential::Bearer(Secret::new("abc".to_owned()));
    world
        .delegate
        .set_static(&mut tx, world.vo.id, "jobs", &secret)
        .await
        .unwrap();
    world.delegate.new_assertion_key(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let origin = world.delegate.origin.clone();
    let sealed = Delegate::new(
        Config::default(),
        world.delegate.db.clone(),
        None,
        world.ids.clone(),
        origin,
    );
    sealed.load().await.unwrap();
    for way in [
        Delegation::Pem,
        Delegation::ClientCertificate,
        Delegation::Static,
        Delegation::Assertion,
    ] {
        let error = choose(&sealed, world.id(), &world.wanted(world.id(), way)).unwrap_err();
        assert_eq!(error.as_problem().kind, Kind::Sealed, "{way:?}");
    }
    let plan = choose(&sealed, world.id(), &world.wanted(world.id(), Delegation::None)).unwrap();
    assert_eq!(plan.entry().way, "none");
    assert_eq!(sealed.jwks()["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_static_credential_reaches_its_header_and_rests_sealed() {
    let world = World::new().await;
    let set = async |credential: StaticCredential| {
        let mut tx = world.delegate.db.begin_write().await.unwrap();
        let change = world
            .delegate
            .set_static(&mut tx, world.vo.id, "jobs", &credential)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        world.delegate.load().await.unwrap();
        change
    };
    let wanted = world.wanted(world.id(), Delegation::Static);
    assert!(matches!(
        world.plan(&wanted).unwrap_err(),
        DelegateError::NoStatic { .. }
    ));
    let password = Secret::new("correct horse".to_owned());
    set(StaticCredential::Basic {
        user: "tool".to_owned(),
        password,
    })
    .await;
    let (credential, _) = world.deliver(world.plan(&wanted).unwrap()).await.unwrap();
    let Credential::Header { name, value } = credential else {
        panic!("no header")
    };
    assert_eq!(
        (name.as_str(), value.expose().as_str()),
        ("authorization", "Basic dG9vbDpjb3JyZWN0IGhvcnNl")
    );
    let change = set(StaticCredential::Key(Secret::new("k-123".to_owned()))).await;
    assert!(!serde_json::to_string(&change).unwrap().contains("k-123"));
    let mut keyed = wanted.clone();
    keyed.tool = Some(Arc::new(Tool {
        credential_header: Some("X-Api-Key".to_owned()),
        ..tool(Delegation::Static)
    }));
    let (credential, _) = world.deliver(world.plan(&keyed).unwrap()).await.unwrap();
    let Credential::Header { name, value } = credential else {
        panic!("no header")
    };
    assert_eq!((name.as_str(), value.expose().as_str()), ("x-api-key", "k-123"));
}

#[tokio::test]
async fn a_credential_that_could_split_a_header_is_refused() {
    let world = World::new().await;
    let secret = |text: &str| Secret::new(text.to_owned());
    for credential in [
        StaticCredential::Key(secret("a\r\nX-Countersign-User: eve")),
        StaticCredential::Key(secret("")),
        StaticCredential::Bearer(secret("päss")),
        StaticCredential::Basic {
            user: "a:b".to_owned(),
            password: secret("c"),
        },
    ] {
        let mut tx = world.delegate.db.begin_write().await.unwrap();
        let set = world
            .delegate
            .set_static(&mut tx, world.vo.id, "jobs", &credential)
            .await;
        assert!(matches!(set, Err(DelegateError::Value)), "{credential:?}");
    }
}

#[tokio::test]
async fn an_assertion_verifies_with_the_published_key_for_one_minute() {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Assertion);
    assert!(matches!(
        world.plan(&wanted).unwrap_err(),
        DelegateError::NoAssertion
    ));
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    world.delegate.new_assertion_key(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    world.delegate.load().await.unwrap();
    let request: RequestId = world.id();
    let plan = choose(&world.delegate, request, &wanted).unwrap();
    let (credential, signed) = world.deliver(plan).await.unwrap();
    assert!(signed.is_none());
    let Credential::Header { name, value } = credential else {
        panic!("no header")
    };
    assert_eq!(name.as_str(), "x-countersign-assertion");
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(world.delegate.jwks()).unwrap();
    let header = jsonwebtoken::decode_header(value.expose()).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.set_audience(&["imense/jobs"]);
    rules.set_issuer(&["https://gw.localhost:8443"]);
    let claims = jsonwebtoken::decode::<serde_json::Value>(value.expose(), &key, &rules)
        .unwrap()
        .claims;
    assert_eq!(claims["jti"], request.to_string());
    assert_eq!(claims["sub"], wanted.person.unwrap().0.to_string());
    assert_eq!(
        (claims["vo"].as_str(), claims["task"].as_str()),
        (Some("imense"), Some("submit job"))
    );
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        60
    );
    rules.set_audience(&["other/jobs"]);
    assert!(jsonwebtoken::decode::<serde_json::Value>(value.expose(), &key, &rules).is_err());
}

#[tokio::test]
async fn the_store_holds_no_private_key_in_the_clear() {
    let world = World::new().await;
    let (_, _, credential) = world.get(&world.wanted(world.id(), Delegation::Pem)).await;
    let proxy_key = pem::key("proxy", &file_of(&credential)).unwrap();
    let vo_key = pem::key("vo", include_str!("../../../certs/vo-ec.key")).unwrap();
    world.delegate.db.close().await;
    let mut stored = Vec::new();
    for file in std::fs::read_dir(world._folder.path()).unwrap() {
        stored.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    let has = |needle: &[u8]| stored.windows(needle.len()).any(|window| window == needle);
    assert!(
        has(&certificate_serial(&credential)),
        "the map must be in what was read"
    );
    for key in [&proxy_key, &vo_key] {
        // The private scalar of a P-256 key in PKCS#8 stands at bytes 36 to 68 (RFC 5915).
        let scalar = &key.expose()[36..68];
        assert!(!has(scalar) && !has(data_encoding::BASE64.encode(scalar).as_bytes()));
    }
}

fn certificate_serial(credential: &Credential) -> [u8; 32] {
    Hash::of(&certificate_of(credential)).0
}

/// What must hold on both engines: keys load again, and every proxy is traced to its person by whatever was found.
async fn a_proxy_is_traced_by_whatever_was_found(world: World) {
    world
        .import(
            include_str!("../../../certs/vo-rsa.pem"),
            include_str!("../../../certs/vo-rsa.key"),
        )
        .await;
    world
        .import(
            include_str!("../../../certs/vo-ec.pem"),
            include_str!("../../../certs/vo-ec.key"),
        )
        .await;
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    for token in ["one", "two"] {
        let secret = StaticCredential::Bearer(Secret::new(token.to_owned()));
        world
            .delegate
            .set_static(&mut tx, world.vo.id, "jobs", &secret)
            .await
            .unwrap();
    }
    world.delegate.new_assertion_key(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    world.delegate.load().await.unwrap();
    assert!(world.delegate.has_assertion_key());

    let session = world.id();
    let wanted = world.wanted(session, Delegation::Pem);
    let (serial, _, credential) = world.get(&wanted).await;
    world.get(&world.wanted(world.id(), Delegation::Pem)).await;
    let (file, der) = (file_of(&credential), certificate_of(&credential));
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let (certificate, spki) = (Hash::of(&der), Hash::of(parsed.public_key().raw));
    let number: u64 = serial.parse().unwrap();
    for (query, by) in [
        (file.clone().into_bytes(), By::Certificate),
        (der.clone(), By::Certificate),
        (certificate.to_string().into_bytes(), By::Certificate),
        (spki.to_string().into_bytes(), By::PublicKey),
        (serial.clone().into_bytes(), By::Serial),
        (format!("0x{number:X}").into_bytes(), By::Serial),
        (format!("serial={number:016X}").into_bytes(), By::Serial),
        (format!("CN={serial}").into_bytes(), By::Subject),
        (
            format!("/C=GB/O=Countersign throw-away/CN=VO vo-ec/CN={serial}/CN=99").into_bytes(),
            By::Subject,
        ),
    ] {
        let found = world
            .delegate
            .trace(&TraceQuery::parse(&query).unwrap())
            .await
            .unwrap()
            .proxies;
        let shown = String::from_utf8_lossy(&query);
        assert_eq!(found.len(), 1, "{shown}");
        assert_eq!(found[0].shown.by, by, "{shown}");
        let proxy = &found[0].proxy;
        assert_eq!(
            (proxy.person, proxy.session, proxy.vo),
            (wanted.person.unwrap().0, session, world.vo.id)
        );
        assert_eq!((proxy.certificate, proxy.spki), (Some(certificate), spki));
        assert_eq!(
            proxy.subject.as_deref(),
            Some(parsed.subject().to_string().as_str())
        );
    }
    for unknown in [
        "4711",
        &Hash::of(b"x").to_string(),
        include_str!("../../../certs/vo-rsa.pem"),
    ] {
        let found = world
            .delegate
            .trace(&TraceQuery::parse(unknown.as_bytes()).unwrap())
            .await
            .unwrap();
        assert!(found.proxies.is_empty(), "{unknown}");
    }
    a_revoked_proxy_stands_on_the_list_of_its_issuer(&world, wanted.person.unwrap().0, number).await;
}

/// The VO had another certificate before: each has a list, and what is revoked stands on that of its own issuer.
async fn a_revoked_proxy_stands_on_the_list_of_its_issuer(world: &World, person: PersonId, serial: u64) {
    let (delegate, vo) = (&world.delegate, world.vo.id);
    let entries =
        |lists: &str| -> Vec<Vec<u64>> { lists::read(lists).into_iter().map(|list| list.serials).collect() };
    let audit = world.audit();
    let empty = world.lists(&audit).await.unwrap();
    assert_eq!(entries(&empty), [[0_u64; 0], []]);
    assert_eq!(world.lists(&audit).await.unwrap(), empty);
    let serials = [serial];
    let which = Which {
        person,
        vo: Some(vo),
        serials: Some(&serials),
    };
    for (why, note, touched) in [
        (Why::Revoked, "a note", 1),
        (Why::Suspended, "a note", 0),
        (Why::Compromised, "found in a log", 1),
        // What was found out first stays.
        (Why::Compromised, "all is well", 0),
        (Why::Revoked, "all is well", 0),
    ] {
        let mut tx = delegate.db.begin_write().await.unwrap();
        let revoked = delegate.revoke(&mut tx, &which, why, Some(note)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((revoked.serials.len(), revoked.changes.len()), (touched, touched));
    }
    let lists = world.lists(&audit).await.unwrap();
    let mut found = entries(&lists);
    found.sort();
    assert_eq!(found, [vec![], vec![serial]]);
    let listed = delegate.valid_proxies(person, Some(vo)).await.unwrap();
    let one = listed
        .iter()
        .find(|listed| listed.proxy.serial == serial)
        .unwrap();
    assert_eq!(
        (one.why.as_deref(), one.note.as_deref()),
        (Some("compromised"), Some("found in a log"))
    );
    assert!(one.proxy.revoked.is_some());
}

#[tokio::test]
async fn a_proxy_is_traced_by_whatever_was_found_on_sqlite() {
    a_proxy_is_traced_by_whatever_was_found(World::empty().await).await;
    what_the_store_holds_of_keys(World::empty().await).await;
}

/// Limits are set, replaced and taken away, ends of certificates are told once, and everything that is sealed is sealed anew.
async fn what_the_store_holds_of_keys(world: World) {
    use crate::trust::store as certificates;
    let (chain, key) = (
        include_str!("../../../certs/vo-chain.pem"),
        include_str!("../../../certs/vo-chain.key"),
    );
    // The same certificate twice: the first one has ended.
    world.import(chain, key).await;
    let sha256 = world
        .delegate
        .certificate(world.vo.id, Use::Tools)
        .unwrap()
        .sha256;
    let told = async |days| {
        let mut tx = world.delegate.db.begin_write().await.unwrap();
        let first = certificates::mark_told(&mut tx, world.vo.id, sha256, days)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        first
    };
    assert_eq!((told(30).await, told(30).await), (true, false));
    world.import(chain, key).await;
    assert_eq!(
        (told(30).await, told(7).await, told(14).await),
        (false, true, false)
    );
    let limit = async |seconds: Option<u64>| {
        let mut tx = world.delegate.db.begin_write().await.unwrap();
        let seconds = seconds.map(Duration::from_secs);
        let set = world.delegate.set_limit(&mut tx, world.vo.id, None, seconds);
        set.await.unwrap();
        tx.commit().await.unwrap();
        world.delegate.load().await.unwrap();
        world.delegate.limits(world.vo.id)
    };
    assert_eq!(limit(Some(900)).await, [(None, Duration::from_secs(900))]);
    assert_eq!(limit(Some(600)).await, [(None, Duration::from_secs(600))]);
    assert_eq!(limit(None).await, []);
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    let secret = StaticCredential::Bearer(Secret::new("abc".to_owned()));
    let set = world.delegate.set_static(&mut tx, world.vo.id, "jobs", &secret);
    set.await.unwrap();
    world.delegate.new_assertion_key(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let next = SealingKey::generate(&**world.ids.random()).unwrap();
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    let done = world.delegate.reseal(&mut tx, &next).await.unwrap();
    tx.commit().await.unwrap();
    assert!(done.sealed >= 4, "{done:?}");
    assert!(is_sealed_with(&world.delegate.db, &next).await.unwrap());
}

#[tokio::test]
async fn a_proxy_is_traced_by_whatever_was_found_on_postgres() {
    let url = std::env::var("COUNTERSIGN_TEST_POSTGRES").expect(
        "a PostgreSQL server is needed: start one with tests/peers/postgres and set COUNTERSIGN_TEST_POSTGRES to its URL",
    );
    let name = format!(
        "delegate_{}",
        uuid::Builder::from_random_bytes(crate::id::random_bytes(&SystemSource::new()).unwrap())
            .into_uuid()
            .simple()
    );
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&pool)
        .await
        .unwrap();
    let (base, _) = url.rsplit_once('/').unwrap();
    let db = Db::postgres(&format!("{base}/{name}")).await.unwrap();
    a_proxy_is_traced_by_whatever_was_found(World::on(db.clone(), tempfile::tempdir().unwrap())).await;
    what_the_store_holds_of_keys(World::on(db.clone(), tempfile::tempdir().unwrap())).await;
    who_is_stopped_while_her_proxy_is_signed_gets_none(&db).await;
    db.close().await;
    sqlx::query(sqlx::AssertSqlSafe(format!("DROP DATABASE {name}")))
        .execute(&pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_delegated_below_our_proxy_leads_to_it_by_its_name() {
    let world = World::new().await;
    let (serial, _, credential) = world.get(&world.wanted(world.id(), Delegation::Pem)).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("proxy.pem"), file_of(&credential)).unwrap();
    let script = format!(
        "openssl req -new -newkey rsa:2048 -nodes -keyout k.pem -subj '/C=GB/O=Countersign throw-away/CN=VO vo-ec/CN={serial}/CN=5' -out r.pem && \
         printf 'proxyCertInfo=critical,language:id-ppl-inheritAll\\n' > e && \
         openssl x509 -req -in r.pem -CA proxy.pem -CAkey proxy.pem -set_serial 5 -days 1 -extfile e -out below.pem && \
         cat below.pem proxy.pem > chain.pem && \
         openssl req -x509 -new -key k.pem -subj '/C=GB/O=Countersign throw-away/CN=VO vo-ec/CN={serial}' -days 1 -out false.pem && \
         openssl x509 -req -in r.pem -CA false.pem -CAkey k.pem -set_serial 6 -days 1 -extfile e -out forged.pem && \
         cat forged.pem proxy.pem > forged-chain.pem && cat forged.pem below.pem proxy.pem > both.pem"
    );
    let made = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let trace = async |name: &str| {
        let query = TraceQuery::parse(&std::fs::read(folder.path().join(name)).unwrap()).unwrap();
        let found = world.delegate.trace(&query).await.unwrap().proxies;
        (found.len(), found[0].shown, found[0].proxy.serial.to_string())
    };
    let itself = Shown::by(By::Certificate);
    let shown = |delegated, beside| Shown {
        delegated,
        beside,
        ..itself
    };
    assert_eq!(trace("proxy.pem").await, (1, itself, serial.clone()));
    assert_eq!(trace("chain.pem").await, (1, shown(1, 0), serial.clone()));
    // Named below it, and signed by somebody else: shown beside it, which proves nothing.
    assert_eq!(trace("forged-chain.pem").await, (1, shown(0, 1), serial.clone()));
    assert_eq!(trace("both.pem").await, (1, shown(1, 1), serial.clone()));
    assert_eq!(trace("below.pem").await, (1, Shown::by(By::Subject), serial));
    let proved = [
        itself,
        shown(1, 0),
        shown(0, 1),
        shown(1, 1),
        Shown::by(By::Subject),
    ];
    assert_eq!(
        proved.map(|shown| shown.proves()),
        [true, true, false, false, false]
    );
}

/// The record of a mint that the plan of `wanted` would leave.
fn mint_of(world: &World, wanted: &Wanted) -> Mint {
    let fresh = Wanted {
        session: Some(world.id()),
        ..wanted.clone()
    };
    match world.plan(&fresh).unwrap().events().remove(0) {
        Event::Mint(mint) => *mint,
        other => panic!("{other:?}"),
    }
}

async fn enter(world: &World, mints: &[Mint]) {
    let events: Vec<Event> = mints
        .iter()
        .map(|mint| Event::Mint(Box::new(mint.clone())))
        .collect();
    world.delegate.index(&events).await.unwrap();
}

async fn traced(world: &World, query: &[u8]) -> Found {
    let query = TraceQuery::parse(query).unwrap();
    world.delegate.trace(&query).await.unwrap()
}

#[tokio::test]
async fn one_key_that_leads_to_several_persons_proves_nothing_and_of_many_rows_the_answer_says_that_it_is_cut()
 {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let (_, _, credential) = world.get(&wanted).await;
    let der = certificate_of(&credential);
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let spki = Hash::of(parsed.public_key().raw);
    let template = mint_of(&world, &wanted);
    let row = |serial: u64, person| Mint {
        serial: serial.to_string(),
        person,
        spki,
        ..template.clone()
    };
    let key = spki.to_string();
    let hers = wanted.person.unwrap().0;
    // The same key twice for one person: it is still she.
    enter(&world, &[row(7, hers)]).await;
    let found = traced(&world, key.as_bytes()).await;
    assert_eq!(found.proxies.len(), 2);
    assert!(found.proxies.iter().all(|traced| traced.shown.proves()));
    enter(&world, &[row(8, world.id())]).await;
    let found = traced(&world, key.as_bytes()).await;
    assert_eq!((found.proxies.len(), found.cut), (3, false));
    for traced in &found.proxies {
        assert!(traced.shown.several && !traced.shown.proves(), "{traced:?}");
    }
    // The very certificate is still hers alone.
    let found = traced(&world, &der).await;
    assert_eq!(found.proxies.len(), 1);
    assert!(found.proxies[0].shown.proves() && found.proxies[0].proxy.person == hers);
    let many: Vec<Mint> = (100..198).map(|serial| row(serial, hers)).collect();
    enter(&world, &many).await;
    let found = traced(&world, key.as_bytes()).await;
    assert_eq!((found.proxies.len(), found.cut), (100, true));
    assert!(found.proxies.iter().all(|traced| !traced.shown.proves()));
}

#[tokio::test]
async fn certificate_and_key_of_a_vo_lead_to_nobody_also_where_the_map_has_its_key() {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let (serial, _, credential) = world.get(&wanted).await;
    let vo = pem::certificates("vo", include_str!("../../../certs/vo-ec.pem"))
        .unwrap()
        .remove(0);
    let (_, parsed) = x509_parser::parse_x509_certificate(&vo).unwrap();
    let spki = Hash::of(parsed.public_key().raw);
    let poisoned = Mint {
        serial: "7".to_owned(),
        person: world.id(),
        spki,
        ..mint_of(&world, &wanted)
    };
    enter(&world, &[poisoned]).await;
    for query in [
        vo.as_slice(),
        spki.to_string().as_bytes(),
        include_bytes!("../../../certs/vo-ec.pem"),
    ] {
        assert_eq!(traced(&world, query).await, Found::default());
    }
    // Pasted with the chain it takes nothing away from what is proved.
    let chain = [certificate_of(&credential), vo].concat();
    let found = traced(&world, &chain).await;
    assert_eq!(found.proxies.len(), 1);
    assert_eq!(found.proxies[0].proxy.serial.to_string(), serial);
    assert!(found.proxies[0].shown.proves());
}

#[tokio::test]
async fn a_key_of_the_map_or_of_a_vo_certificate_is_known_and_so_never_certified_again() {
    let world = World::new().await;
    let (_, _, credential) = world.get(&world.wanted(world.id(), Delegation::Pem)).await;
    let key = |der: &[u8]| {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
        Hash::of(parsed.public_key().raw)
    };
    let vo = pem::certificates("vo", include_str!("../../../certs/vo-ec.pem")).unwrap();
    let mut known = vec![key(&certificate_of(&credential))];
    known.extend(vo.iter().map(|der| key(der)));
    // Also that of a VO certificate that was replaced.
    world
        .import(
            include_str!("../../../certs/vo-rsa.pem"),
            include_str!("../../../certs/vo-rsa.key"),
        )
        .await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let claim = async |spki, again| {
        let mint = Mint {
            spki,
            ..mint_of(&world, &wanted)
        };
        world.delegate.claim_key(&mint, again).await.unwrap()
    };
    for key in known {
        assert!(!claim(key, false).await);
        assert!(!claim(key, true).await, "it is not hers");
    }
    let another = Hash::of(b"another");
    assert!(claim(another, false).await);
    assert!(!claim(another, false).await);
    assert!(claim(another, true).await, "her own, for the same job");
}

#[tokio::test]
async fn of_two_requests_at_once_for_one_key_one_gets_it_certified() {
    let (world, wanted) = world_of_uploads("active").await;
    let folder = tempfile::tempdir().unwrap();
    let audit = log(&world, folder.path());
    let asked = asked();
    let mut ready = Vec::new();
    for _ in 0..2 {
        let plan = world.plan(&wanted).unwrap();
        let receipt = intent(&audit, &plan).await;
        let (credential, _) = world.delegate.credential(plan, &receipt).await.unwrap();
        let Credential::Upload(upload) = credential else {
            panic!("no upload: {credential:?}")
        };
        ready.push((upload.into_parts(), receipt));
    }
    let (first, second) = (ready.remove(0), ready.remove(0));
    let certified = async |((parts, slot), receipt): ((UploadParts, Slot), crate::audit::Receipt)| {
        let intended = receipt.intended();
        let done = world
            .delegate
            .certify(parts.outside, &asked, &audit, &intended)
            .await;
        drop((slot, receipt));
        done.map(drop)
    };
    let done = <[_; 2]>::from(tokio::join!(certified(first), certified(second)));
    let refused = |done: &&Result<(), DelegateError>| matches!(done, Err(DelegateError::KnownKey));
    assert_eq!(done.iter().filter(refused).count(), 1, "{done:?}");
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
    audit.close("test").await;
}

#[tokio::test]
async fn a_certificate_by_which_somebody_signs_in_becomes_no_vo_certificate() {
    let world = World::new().await;
    let (text, key) = (
        include_str!("../../../certs/vo-rsa.pem"),
        include_str!("../../../certs/vo-rsa.key"),
    );
    let chain = pem::certificates("vo", text).unwrap();
    let login = crate::trust::chain::end_entity(&chain).unwrap();
    let source = |name, text| Source { name, text };
    let named = (world.vo.id, Use::Tools);
    // By its subject, as the issuer of another certificate, and by its key alone.
    for (subject, issuer, spki) in [
        (login.subject.clone(), b"x".to_vec(), Hash::of(b"x")),
        (b"x".to_vec(), login.subject.clone(), Hash::of(b"x")),
        (b"x".to_vec(), b"x".to_vec(), login.spki),
    ] {
        let mut tx = world.delegate.db.begin_write().await.unwrap();
        crate::store::run!(
            &mut tx,
            "INSERT INTO person_certificate (id, person, vo_id, issuer, subject, created_at, spki) VALUES ($1, $2, $3, $4, $5, 0, $6)",
            uuid::Uuid::nil(),
            uuid::Uuid::nil(),
            world.vo.id.uuid(),
            issuer.as_slice(),
            subject.as_slice(),
            spki.0.as_slice()
        )
        .unwrap();
        let refused = world
            .delegate
            .import_certificate(
                &mut tx,
                named,
                source("vo.pem", text),
                source("vo.key", key),
                None,
            )
            .await
            .unwrap_err();
        assert!(matches!(refused, DelegateError::NamedAlike { .. }), "{refused}");
        assert!(refused.to_string().contains("signs in with"), "{refused}");
    }
}

#[tokio::test]
async fn the_map_is_rebuilt_from_the_log_and_replay_changes_nothing() {
    let world = World::new().await;
    let plan = world.plan(&world.wanted(world.id(), Delegation::Pem)).unwrap();
    let mint = plan.events().remove(0);
    let Event::Mint(record) = &mint else {
        panic!("no mint record")
    };
    let query = TraceQuery::parse(record.serial.as_bytes()).unwrap();
    assert!(world.delegate.trace(&query).await.unwrap().proxies.is_empty());
    let signed = SignedEntry {
        issuer: record.issuer,
        serial: record.serial.clone(),
        certificate: Hash::of(b"x"),
    };
    let outcome = Event::Outcome(Box::new(outcome(record.request, signed)));
    for _ in 0..2 {
        world
            .delegate
            .index(&[mint.clone(), outcome.clone()])
            .await
            .unwrap();
    }
    let found = world.delegate.trace(&query).await.unwrap().proxies;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].proxy.certificate, found[0].proxy.spki),
        (Some(Hash::of(b"x")), record.spki)
    );
    assert_eq!(
        (found[0].proxy.person, found[0].proxy.request),
        (record.person, record.request)
    );
}

fn outcome(request: RequestId, signed: SignedEntry) -> Outcome {
    Outcome {
        request,
        ending: Ending::Answered,
        status: Some(200),
        tool_status: None,
        bytes_in: 0,
        bytes_out: 0,
        duration_us: 0,
        error: None,
        created: Vec::new(),
        deleted: Vec::new(),
        signed: Some(signed),
        bodies: None,
    }
}

/// A real TLS server that wants a proxy and answers with what it saw of it.
struct Openssl {
    process: std::process::Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Openssl {
    fn start(version: &str) -> Self {
        use std::io::BufRead;
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ca.pem", include_str!("../../../certs/ca.pem")),
            ("server.pem", include_str!("../../../certs/vo-ec.pem")),
            ("server.key", include_str!("../../../certs/vo-ec.key")),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut process = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-cert",
                "server.pem",
                "-key",
                "server.key",
                "-CAfile",
                "ca.pem",
            ])
            .args([
                "-Verify",
                "5",
                "-verify_return_error",
                "-allow_proxy_certs",
                "-www",
                version,
            ])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is missing: apt-get install openssl");
        let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines
            .find(|line| line.as_ref().is_ok_and(|line| line.starts_with("ACCEPT")))
            .unwrap()
            .unwrap();
        let port = line.rsplit_once(':').unwrap().1.trim().parse().unwrap();
        // Read on, so that the server never waits for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            port,
            _folder: folder,
        }
    }

    /// What the server says about the client that presents `resolver`.
    async fn seen(
        &self,
        resolver: Option<Arc<dyn rustls::client::ResolvesClientCert>>,
    ) -> std::io::Result<String> {
        let mut roots = rustls::RootCertStore::empty();
        let ca = pem::certificates("ca", include_str!("../../../certs/ca.pem"))
            .unwrap()
            .remove(0);
        roots.add(ca.into()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NoNames(provider)));
        let mut config = match resolver {
            Some(resolver) => builder.with_client_cert_resolver(resolver),
            None => builder.with_no_client_auth(),
        };
        config.resumption = rustls::client::Resumption::disabled();
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        tls.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The fixture that the test server presents has no host name; only the client's certificate matters here.
#[derive(Debug)]
struct NoNames(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for NoNames {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_takes_each_scientists_own_proxy_in_mutual_tls() {
    let world = World::new().await;
    for version in ["-tls1_2", "-tls1_3"] {
        let server = Openssl::start(version);
        assert!(
            server.seen(None).await.is_err(),
            "{version}: a client without a proxy was let in"
        );
        for _ in 0..2 {
            let (serial, _, credential) = world
                .get(&world.wanted(world.id::<SessionId>(), Delegation::ClientCertificate))
                .await;
            let Credential::ClientCertificate { resolver, id } = credential else {
                panic!("no certificate")
            };
            assert_eq!(id.len(), 64);
            let page = server.seen(Some(resolver)).await.unwrap();
            assert!(
                page.contains(&format!("CN={serial}")),
                "{version}: {serial} is not in {page}"
            );
        }
    }
}

#[tokio::test]
async fn a_limit_of_the_vo_or_of_a_role_that_she_holds_shortens_her_next_proxy() {
    use crate::id::RoleId;
    use crate::vo::{Assignment, Directory, DirectoryHandle, Role, Rows};
    let mut world = World::new().await;
    let (role, assignment): (RoleId, _) = (world.id(), world.id());
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let (person, _) = wanted.person.unwrap();
    let student = Role {
        id: role,
        vo: world.vo.id,
        name: "student".to_owned(),
    };
    let rows = Rows {
        roles: vec![student.clone()],
        assignments: vec![Assignment {
            id: assignment,
            vo: world.vo.id,
            role,
            person,
            until: None,
        }],
        ..Rows::default()
    };
    let empty = Delegate::new(
        Config::default(),
        world.delegate.db.clone(),
        None,
        world.ids.clone(),
        String::new(),
    );
    let delegate = std::mem::replace(&mut world.delegate, empty);
    world.delegate = delegate.knowing(DirectoryHandle::new(Directory::build(rows)));
    let limit = async |role: Option<&Role>, seconds: Option<u64>| {
        let mut tx = world.delegate.db.begin_write().await.unwrap();
        let seconds = seconds.map(Duration::from_secs);
        let set = world
            .delegate
            .set_limit(&mut tx, world.vo.id, role, seconds)
            .await;
        tx.commit().await.unwrap();
        world.delegate.load().await.unwrap();
        set
    };
    let lives = async |wanted: &Wanted| {
        let (_, minted, credential) = world.get(wanted).await;
        let certificate = certificate_of(&credential);
        let (_, parsed) =
            <x509_parser::prelude::X509Certificate<'_> as x509_parser::prelude::FromDer<_>>::from_der(
                &certificate,
            )
            .unwrap();
        (
            minted,
            parsed.validity().not_after.timestamp() - world.clock.now().secs(),
        )
    };
    assert_eq!(lives(&wanted).await, (true, 3_600));
    limit(None, Some(1_800)).await.unwrap();
    assert_eq!(lives(&wanted).await, (true, 1_800));
    limit(Some(&student), Some(600)).await.unwrap();
    assert_eq!(lives(&wanted).await, (true, 600));
    let other = world.wanted(world.id(), Delegation::Pem);
    assert_eq!(lives(&other).await, (true, 1_800), "she is no student");
    // A limit never lengthens.
    let change = limit(Some(&student), None).await.unwrap();
    assert!(change.before.unwrap().to_string().contains("600"));
    limit(None, Some(1_000_000)).await.unwrap();
    assert_eq!(lives(&wanted).await, (true, 3_600));
    assert!(matches!(limit(None, Some(299)).await, Err(DelegateError::Limit)));
    assert_eq!(lives(&wanted).await, (false, 3_600), "nothing has changed");
}

#[tokio::test]
async fn a_proxy_says_of_its_person_what_the_vo_chose_last_and_nothing_before_that() {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let id = wanted.person.unwrap().0.to_string();
    let choose = async |tells| {
        let mut tx = world.delegate.db.begin_write().await.unwrap();
        let set = world.delegate.set_proxy_identity(&mut tx, world.vo.id, tells);
        let change = set.await.unwrap();
        tx.commit().await.unwrap();
        world.delegate.load().await.unwrap();
        change
    };
    let says = async || {
        let (_, minted, credential) = world.get(&wanted).await;
        let certificate = certificate_of(&credential);
        let told = certificate.windows(id.len()).any(|part| part == id.as_bytes());
        (minted, told)
    };
    assert_eq!(says().await, (true, false));
    let change = choose(ProxyIdentity::Id).await;
    assert_eq!(
        (change.before.unwrap(), change.after.unwrap()),
        (
            serde_json::json!({ "tells": "opaque" }),
            serde_json::json!({ "tells": "id" })
        )
    );
    assert_eq!(says().await, (true, true), "a proxy in use is replaced");
    assert_eq!(says().await, (false, true));
    // Whoever is not known by name is not named by another.
    choose(ProxyIdentity::Username).await;
    assert_eq!(says().await, (false, true));
    choose(ProxyIdentity::Opaque).await;
    assert_eq!(says().await, (true, false));
}

/// What a `pem` tool gets that wants an RSA key.
fn rsa_tool() -> Tool {
    let proxy = ProxySettings {
        key: ProxyKey::Rsa2048,
        ..tool(Delegation::Pem).proxy
    };
    Tool {
        proxy,
        ..tool(Delegation::Pem)
    }
}

#[tokio::test]
async fn whoever_finds_no_rsa_key_waits_for_one_and_everybody_gets_another() {
    let mut world = World::new().await;
    world.delegate.pool = Pool::new(1);
    let wanted = || Wanted {
        tool: Some(Arc::new(rsa_tool())),
        ..world.wanted(world.id(), Delegation::Pem)
    };
    assert!(matches!(
        world.plan(&wanted()),
        Err(DelegateError::Mint(MintError::NoKeyReady))
    ));
    let mut keys = std::collections::HashSet::new();
    for _ in 0..3 {
        let wanted = wanted();
        let plan = loop {
            let made = world.delegate.key_made();
            match world.plan(&wanted) {
                Err(error) if error.is_no_key() => made.await,
                plan => break plan.unwrap(),
            }
        };
        let (credential, _) = world.deliver(plan).await.unwrap();
        let certificate = certificate_of(&credential);
        let (_, parsed) =
            <x509_parser::prelude::X509Certificate<'_> as x509_parser::prelude::FromDer<_>>::from_der(
                &certificate,
            )
            .unwrap();
        assert_eq!(parsed.public_key().parsed().unwrap().key_size(), 2048);
        assert!(keys.insert(parsed.public_key().raw.to_vec()));
    }
}

#[tokio::test]
async fn keys_are_made_in_advance_only_where_a_tool_wants_them() {
    let world = World::new().await;
    let (p256, rsa) = (Arc::new(tool(Delegation::Pem)), Arc::new(rsa_tool()));
    let unused = Arc::new(Tool {
        delegation: Delegation::None,
        ..rsa_tool()
    });
    world.delegate.make_keys_for([&p256, &unused].into_iter());
    assert!(!world.delegate.pool.is_filling());
    world.delegate.make_keys_for([&p256, &rsa].into_iter());
    assert!(world.delegate.pool.is_filling());
}

#[test]
fn a_request_without_a_key_is_told_that_the_gateway_is_busy() {
    let problem = DelegateError::Mint(MintError::NoKeyReady).as_problem();
    assert_eq!(problem.kind, Kind::Busy);
    assert_eq!(problem.kind.status(), 503);
}

#[tokio::test]
async fn a_row_that_gives_downloads_the_name_of_tools_mints_nothing_for_them() {
    let world = World::new().await;
    // Past the gateway: the same certificate for the other use.
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    crate::store::run!(
        &mut tx,
        "INSERT INTO vo_certificate (id, vo_id, purpose, sha256, chain, sealed_key, created_at) \
         SELECT $1, vo_id, 'download', sha256, chain, sealed_key, created_at FROM vo_certificate",
        world.id::<crate::id::CertificateId>().uuid(),
    )
    .unwrap();
    tx.commit().await.unwrap();
    world.delegate.load().await.unwrap();
    assert_eq!(world.delegate.certificates().len(), 2);
    let keys = world.delegate.keys.load();
    assert!(keys.issuer(&world.vo, Use::Tools).is_ok());
    assert!(keys.issuer(&world.vo, Use::Download).is_err());
}

#[tokio::test]
async fn a_vo_has_a_certificate_for_each_use_and_each_names_its_own_command() {
    let world = World::new().await;
    let error = world
        .delegate
        .keys
        .load()
        .issuer(&world.vo, Use::Download)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("`countersign vo certificate import --use download`"),
        "{error}"
    );
    let (certificate, key) = (
        Source {
            name: "people.pem",
            text: include_str!("../../../certs/vo-rsa.pem"),
        },
        Source {
            name: "people.key",
            text: include_str!("../../../certs/vo-rsa.key"),
        },
    );
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    let named = (world.vo.id, Use::Download);
    world
        .delegate
        .import_certificate(&mut tx, named, certificate, key, None)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    world.delegate.load().await.unwrap();
    let of = |purpose| {
        world
            .delegate
            .keys
            .load()
            .issuer(&world.vo, purpose)
            .unwrap()
            .facts()
            .clone()
    };
    assert!(of(Use::Tools).subject_text.contains("vo-ec"));
    assert!(of(Use::Download).subject_text.contains("vo-rsa"));
    // Tools go on with theirs.
    let (_, minted, credential) = world.get(&world.wanted(world.id(), Delegation::Pem)).await;
    assert!(minted && file_of(&credential).contains("CERTIFICATE"));
}

#[tokio::test]
async fn what_is_sealed_anew_opens_with_the_next_key_only() {
    let world = World::new().await;
    let next = SealingKey::generate(&**world.ids.random()).unwrap();
    let id = next.id();
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    let done = world.delegate.reseal(&mut tx, &next).await.unwrap();
    assert_eq!(done, Resealed { sealed: 1, left: 0 });
    tx.commit().await.unwrap();
    assert!(is_sealed_with(&world.delegate.db, &next).await.unwrap());
    world.delegate.load().await.unwrap();
    assert!(world.delegate.needs_key());
    let again = Delegate::new(
        Config::default(),
        world.delegate.db.clone(),
        Some(next),
        world.ids.clone(),
        world.delegate.origin.clone(),
    );
    again.load().await.unwrap();
    assert!(!again.needs_key());
    choose(&again, world.id(), &world.wanted(world.id(), Delegation::Pem)).unwrap();
    // The key until now opens nothing, so it cannot take anything along.
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    let other = SealingKey::generate(&**world.ids.random()).unwrap();
    assert!(world.delegate.reseal(&mut tx, &other).await.is_err());
    assert_ne!(id, other.id());
}

/// Every proxy leads to the person it was minted for, whatever came in between: other VO keys, people who were erased, and a
/// map that was built anew from the log. 10,000 of them with `COUNTERSIGN_LONG`.
#[tokio::test]
async fn every_proxy_is_traced_after_keys_were_replaced_and_people_erased() {
    use crate::vo::{CardFields, Directory, DirectoryHandle, Vos};
    let count = match std::env::var_os("COUNTERSIGN_LONG") {
        Some(_) => 10_000,
        None => 200,
    };
    let world = World::new().await;
    let vos = Vos::new(
        world.delegate.db.clone(),
        DirectoryHandle::default(),
        world.ids.clone(),
    );
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    vos.establish(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let keys = [
        (
            include_str!("../../../certs/vo-rsa.pem"),
            include_str!("../../../certs/vo-rsa.key"),
        ),
        (
            include_str!("../../../certs/vo-p384.pem"),
            include_str!("../../../certs/vo-p384.key"),
        ),
        (
            include_str!("../../../certs/vo-ec.pem"),
            include_str!("../../../certs/vo-ec.key"),
        ),
    ];
    let (mut minted, mut events, mut issuers) = (Vec::new(), Vec::new(), std::collections::BTreeSet::new());
    for at in 0..count {
        if at % (count / 5) == count / 10 {
            let (certificate, key) = keys[at / (count / 5) % keys.len()];
            world.import(certificate, key).await;
        }
        let mut wanted = world.wanted(world.id(), Delegation::Pem);
        if at % 10 == 0 {
            let mut tx = world.delegate.db.begin_write().await.unwrap();
            let fields = CardFields {
                name: "Jane".to_owned(),
                ..CardFields::default()
            };
            let added = vos
                .add_person(&mut tx, Directory::gateway(), &format!("p{at}"), &fields)
                .await;
            tx.commit().await.unwrap();
            wanted.person = Some((added.unwrap().0, Hash::of(b"card")));
        }
        let person = wanted.person.unwrap().0;
        let plan = world.plan(&wanted).unwrap();
        events.extend(plan.events());
        let (credential, signed) = world.deliver(plan).await.unwrap();
        let signed = signed.unwrap();
        issuers.insert(signed.issuer);
        events.push(Event::Outcome(Box::new(Outcome {
            signed: Some(signed),
            ..Outcome::ended(world.id(), Ending::Answered)
        })));
        minted.push((person, certificate_of(&credential)));
        world.delegate.end_session(wanted.session.unwrap());
        if at % 10 == 0 {
            let mut tx = world.delegate.db.begin_write().await.unwrap();
            vos.end_person(&mut tx, person).await.unwrap();
            vos.erase_person(&mut tx, person).await.unwrap();
            tx.commit().await.unwrap();
        }
    }
    assert_eq!(issuers.len(), 3);
    let other = World::empty().await;
    for chunk in events.chunks(500) {
        other.delegate.index(chunk).await.unwrap();
    }
    for delegate in [&world.delegate, &other.delegate] {
        for (person, der) in &minted {
            let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
            let spki = Hash::of(parsed.public_key().raw).to_string();
            for query in [der.as_slice(), spki.as_bytes()] {
                let found = delegate.trace(&TraceQuery::parse(query).unwrap()).await.unwrap();
                let found = found.proxies;
                let found: Vec<PersonId> = found.iter().map(|traced| traced.proxy.person).collect();
                assert_eq!(found, [*person]);
            }
        }
    }
}

/// A VO whose tool fetches its proxies from a MyProxy server, with a person in the store.
async fn world_of_uploads(state: &str) -> (World, Wanted) {
    let world = World::empty().await;
    let (certificate, key) = (
        include_str!("../../../certs/vo-rsa.pem"),
        include_str!("../../../certs/vo-rsa.key"),
    );
    world.import(certificate, key).await;
    let wanted = Wanted {
        tool: Some(Arc::new(Tool {
            myproxy: Some(crate::tool::MyProxy {
                upstream: "vault".to_owned(),
                username_header: "x-grid-user".to_owned(),
                passphrase_header: "x-grid-passphrase".to_owned(),
            }),
            ..tool(Delegation::MyProxy)
        })),
        ..world.wanted(world.id(), Delegation::MyProxy)
    };
    let (person, card) = wanted.person.unwrap();
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    crate::store::run!(
        &mut tx,
        "INSERT INTO vo (id, name, state, version, created_at) VALUES ($1, 'imense', 'active', 1, 1)",
        world.vo.id.uuid()
    )
    .unwrap();
    crate::store::run!(
        &mut tx,
        "INSERT INTO person (id, vo_id, username, state, card, version, created_at) VALUES ($1, $2, 'john', $3, $4, 1, 1)",
        person.uuid(),
        world.vo.id.uuid(),
        state,
        card.0.as_slice()
    )
    .unwrap();
    tx.commit().await.unwrap();
    (world, wanted)
}

/// What a server asks for a key of its own.
fn asked() -> pkcs10::Asked {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let request = rcgen::CertificateParams::new(Vec::new())
        .unwrap()
        .serialize_request(&key)
        .unwrap();
    pkcs10::Asked::read(request.der()).unwrap()
}

#[tokio::test]
async fn who_is_suspended_while_her_proxy_is_certified_gets_none_and_it_is_revoked() {
    for (state, gets) in [("active", true), ("suspended", false), ("ended", false)] {
        let (world, wanted) = world_of_uploads(state).await;
        let folder = tempfile::tempdir().unwrap();
        let audit = log(&world, folder.path());
        let plan = world.plan(&wanted).unwrap();
        let serial: u64 = plan.entry().serial.unwrap().parse().unwrap();
        let receipt = intent(&audit, &plan).await;
        let (credential, _) = world.delegate.credential(plan, &receipt).await.unwrap();
        let Credential::Upload(upload) = credential else {
            panic!("no upload: {credential:?}")
        };
        let (parts, _slot) = upload.into_parts();
        let certified = world
            .delegate
            .certify(parts.outside, &asked(), &audit, &receipt.intended())
            .await;
        match certified {
            Ok((chain, signed)) => {
                assert!(gets, "{state}");
                assert_eq!((chain.len(), signed.serial), (2, serial.to_string()));
            }
            Err(error) => assert!(
                !gets && matches!(error, DelegateError::Suspended),
                "{state}: {error}"
            ),
        }
        // What was signed is in the map either way, and on the VO's list unless she may have it.
        let (found, _) = store::by_serial(&world.delegate.db, serial).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].revoked.is_none(), gets, "{state}");
        drop(receipt);
        audit.close("test").await;
    }
}

/// A store with a VO whose proxies a person may have.
async fn world_of_person(db: &Db) -> (World, Wanted) {
    let world = World::on(db.clone(), tempfile::tempdir().unwrap());
    world
        .import(
            include_str!("../../../certs/vo-ec.pem"),
            include_str!("../../../certs/vo-ec.key"),
        )
        .await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let ((person, card), vo) = (wanted.person.unwrap(), world.vo.id);
    let mut tx = db.begin_write().await.unwrap();
    // Names of their own, because the worlds share a store.
    let name = vo.uuid().simple().to_string();
    crate::store::run!(
        &mut tx,
        "INSERT INTO vo (id, name, state, version, created_at) VALUES ($1, $2, 'active', 1, 1)",
        vo.uuid(),
        name.as_str()
    )
    .unwrap();
    crate::store::run!(
        &mut tx,
        "INSERT INTO person (id, vo_id, username, state, card, version, created_at) VALUES ($1, $2, $3, 'active', $4, 1, 1)",
        person.uuid(),
        vo.uuid(),
        name.as_str(),
        card.0.as_slice()
    )
    .unwrap();
    crate::store::run!(
        &mut tx,
        "INSERT INTO membership (id, vo_id, person, version, created_at) VALUES ($1, $2, $3, 1, 1)",
        world.id::<RequestId>().uuid(),
        vo.uuid(),
        person.uuid()
    )
    .unwrap();
    crate::store::run!(
        &mut tx,
        "INSERT INTO session (id, vo_id, person, kind, created_at, expires_at, seen_at, methods, acr, must_change, version)
         VALUES ($1, $2, $3, 'password', 1, 1, 1, '[]', '1', $4, 1)",
        wanted.session.unwrap().uuid(),
        vo.uuid(),
        person.uuid(),
        false
    )
    .unwrap();
    tx.commit().await.unwrap();
    (world, wanted)
}

/// What takes the right away, as it is in the store.
async fn stop(tx: &mut crate::store::Tx, how: &str, world: &World, wanted: &Wanted) {
    let (person, _) = wanted.person.unwrap();
    let (person, vo, session) = (person.uuid(), world.vo.id.uuid(), wanted.session.unwrap().uuid());
    let done = match how {
        "suspended" => crate::store::run!(
            &mut *tx,
            "UPDATE person SET state = 'suspended' WHERE id = $1",
            person
        ),
        "removed" => crate::store::run!(
            &mut *tx,
            "UPDATE membership SET ended_at = 2 WHERE person = $1",
            person
        ),
        "reset" => crate::store::run!(
            &mut *tx,
            "UPDATE session SET ended_at = 2, end_reason = 'reset' WHERE id = $1",
            session
        ),
        _ => crate::store::run!(&mut *tx, "UPDATE vo SET state = 'suspended' WHERE id = $1", vo),
    };
    assert_eq!(done.unwrap(), 1, "{how}");
    let revoked = match how {
        "vo" => world.delegate.revoke_vo(&mut *tx, world.vo.id, None).await,
        _ => {
            let which = Which::all_of(wanted.person.unwrap().0);
            world.delegate.revoke(&mut *tx, &which, Why::Revoked, None).await
        }
    };
    assert_eq!(revoked.unwrap().serials, [0_u64; 0], "nothing was there yet");
}

/// The one transaction is over before the other looks: whichever comes first, nobody has a proxy that is good.
async fn who_is_stopped_while_her_proxy_is_signed_gets_none(db: &Db) {
    for how in ["suspended", "removed", "reset", "vo"] {
        let (world, wanted) = world_of_person(db).await;
        let plan = world.plan(&wanted).unwrap();
        let serial: u64 = plan.entry().serial.unwrap().parse().unwrap();
        let mut tx = db.begin_write().await.unwrap();
        stop(&mut tx, how, &world, &wanted).await;
        let stopped = async {
            waits_for_a_lock(db).await;
            tx.commit().await.unwrap();
        };
        let (made, ()) = tokio::join!(world.deliver(plan), stopped);
        assert!(matches!(made, Err(DelegateError::Suspended)), "{how}: {made:?}");
        let (found, _) = store::by_serial(db, serial).await.unwrap();
        assert!(found[0].revoked.is_some(), "{how}");
        assert_eq!(world.delegate.in_use(), 0, "{how}");
    }
}

/// Comes back when a transaction waits for another one. An SQLite store has one that writes at a time anyway.
async fn waits_for_a_lock(db: &Db) {
    let Db::Postgres(pool) = db else { return };
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let wait = async {
        while sqlx::query_as::<_, (i64,)>(asked)
            .fetch_one(pool)
            .await
            .unwrap()
            .0
            == 0
        {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.expect("the mint waits for who stops its person");
}

#[tokio::test]
async fn who_is_stopped_while_her_proxy_is_signed_gets_none_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(&folder.path().join("store.db")).await.unwrap();
    who_is_stopped_while_her_proxy_is_signed_gets_none(&db).await;
}

#[tokio::test]
async fn all_proxies_of_a_suspended_vo_are_revoked_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(&folder.path().join("store.db")).await.unwrap();
    let (world, wanted) = world_of_person(&db).await;
    let (other, elsewhere) = world_of_person(&db).await;
    let hers = world.get(&wanted).await.0;
    let his = world.get(&world.wanted(world.id(), Delegation::Pem)).await.0;
    other.get(&elsewhere).await;
    let mut tx = db.begin_write().await.unwrap();
    let revoked = world
        .delegate
        .revoke_vo(&mut tx, world.vo.id, None)
        .await
        .unwrap();
    let again = world
        .delegate
        .revoke_vo(&mut tx, world.vo.id, None)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let mut serials: Vec<String> = revoked.serials.iter().map(u64::to_string).collect();
    let mut both = [hers, his];
    serials.sort();
    both.sort();
    assert_eq!(serials, both);
    // One for each person, so that hers stands with her.
    assert_eq!(revoked.changes.len(), 2);
    assert!(again.changes.is_empty() && again.serials.is_empty());
}

#[tokio::test]
async fn whoever_uses_a_proxy_hears_of_its_revocation_also_when_it_stands_in_no_slot_any_more() {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let minting = world.plan(&wanted).unwrap();
    let serial: u64 = minting.entry().serial.unwrap().parse().unwrap();
    let waiting = world.plan(&wanted).unwrap();
    let mut told = vec![minting.revocation().unwrap(), waiting.revocation().unwrap()];
    world.deliver(minting).await.unwrap();
    let using = world.plan(&wanted).unwrap();
    assert!(!using.mints());
    told.push(using.revocation().unwrap());
    // Another one has taken its place, and the sweep has been.
    world.clock.advance(Duration::from_secs(2_500));
    let (renewed, minted, _) = world.get(&wanted).await;
    assert!(minted);
    let next = world.plan(&wanted).unwrap().revocation().unwrap();
    world.delegate.sweep();
    assert!(told.iter().all(|revocation| !revocation.has_come()));
    world.delegate.forget_proxies(&[serial]);
    for revocation in &told {
        revocation.came().await;
    }
    assert!(!next.has_come());
    assert_eq!(world.get(&wanted).await.0, renewed);
    world.delegate.end_session(wanted.session.unwrap());
    world.delegate.forget_proxies(&[renewed.parse().unwrap()]);
    assert!(next.has_come(), "its session's end took it out of use before");
    assert!(
        world
            .plan(&world.wanted(world.id(), Delegation::None))
            .unwrap()
            .revocation()
            .is_none()
    );
}

#[tokio::test]
async fn a_proxy_that_is_revoked_while_it_is_made_is_given_to_nobody_who_waits() {
    let world = World::new().await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let minting = world.plan(&wanted).unwrap();
    let waiting = world.plan(&wanted).unwrap();
    let serial: u64 = minting.entry().serial.unwrap().parse().unwrap();
    world.delegate.forget_proxies(&[serial]);
    world.deliver(minting).await.unwrap();
    let error = world.deliver(waiting).await.unwrap_err();
    assert!(matches!(error, DelegateError::Raced), "{error}");
    assert_eq!(world.delegate.in_use(), 0);
}

#[tokio::test]
async fn a_key_that_was_certified_before_is_not_certified_again() {
    let (world, wanted) = world_of_uploads("active").await;
    let folder = tempfile::tempdir().unwrap();
    let audit = log(&world, folder.path());
    let asked = asked();
    let mut certified = Vec::new();
    for _ in 0..2 {
        let plan = world.plan(&wanted).unwrap();
        let receipt = intent(&audit, &plan).await;
        let (credential, _) = world.delegate.credential(plan, &receipt).await.unwrap();
        let Credential::Upload(upload) = credential else {
            panic!("no upload: {credential:?}")
        };
        let (parts, _slot) = upload.into_parts();
        let done = world
            .delegate
            .certify(parts.outside, &asked, &audit, &receipt.intended())
            .await;
        certified.push(done.map(drop));
        drop(receipt);
    }
    assert!(matches!(&certified[..], [Ok(()), Err(DelegateError::KnownKey)]));
    audit.close("test").await;
}

#[tokio::test]
async fn uploads_are_noted_with_their_person_and_known_as_under_way_without_a_clock() {
    let (world, wanted) = world_of_uploads("active").await;
    let plan = world.plan(&wanted).unwrap();
    let request = plan.request();
    let Work::Upload(upload) = plan.work(request).unwrap() else {
        panic!("no upload")
    };
    let (parts, slot) = upload.into_parts();
    let delegate = &world.delegate;
    delegate.note_upload(&parts.left).await.unwrap();
    // A clock that is put back or on changes nothing of it.
    world.clock.advance(Duration::from_secs(30 * 86_400));
    let found = delegate.uploads().await.unwrap();
    assert_eq!(found, std::slice::from_ref(&parts.left));
    assert_eq!(found[0].person, wanted.person.map(|(person, _)| person));
    assert!(delegate.claim_upload(&found[0]).await.unwrap().is_none());
    slot.leave();
    let claimed = delegate.claim_upload(&found[0]).await.unwrap().unwrap();
    let ended = delegate.upload_ended(&parts.left).await.unwrap();
    assert_eq!(delegate.uploads().await.unwrap()[0].since, ended);
    delegate.forget_upload(&parts.left).await.unwrap();
    drop(claimed);
    // What was removed since it was read is nobody's to remove again.
    assert!(delegate.claim_upload(&found[0]).await.unwrap().is_none());
    assert_eq!(delegate.uploads().await.unwrap(), []);
}

#[tokio::test]
async fn a_lent_proxy_is_due_at_two_thirds_of_its_life_and_what_fails_after_pauses_that_grow() {
    lent_again(&World::new().await).await;
}

#[tokio::test]
async fn a_lent_proxy_is_due_and_a_key_is_claimed_on_postgres_too() {
    let postgres = crate::store::tests_support::Postgres::new().await;
    let world = World::on(postgres.db.clone(), tempfile::tempdir().unwrap());
    let (certificate, key) = (
        include_str!("../../../certs/vo-ec.pem"),
        include_str!("../../../certs/vo-ec.key"),
    );
    world.import(certificate, key).await;
    lent_again(&world).await;
    let wanted = world.wanted(world.id(), Delegation::Pem);
    let mints = [(); 8].map(|()| Mint {
        spki: Hash::of(b"one key"),
        request: world.id(),
        ..mint_of(&world, &wanted)
    });
    let claims = mints.iter().map(|mint| world.delegate.claim_key(mint, false));
    let claimed = futures_util::future::join_all(claims).await;
    let claimed = claimed.into_iter().map(Result::unwrap).filter(|claimed| *claimed);
    assert_eq!(claimed.count(), 1, "one of eight at once");
    assert!(world.delegate.claim_key(&mints[0], true).await.unwrap());
    drop(world);
    postgres.end().await;
}

async fn lent_again(world: &World) {
    let seconds = Duration::from_secs;
    let lent = Lent {
        vo: world.vo.id,
        tool: "arc".to_owned(),
        id: world.vo.id.to_string(),
        person: world.id(),
        session: world.id(),
        not_after: world.clock.now().plus(seconds(300)),
        failures: 0,
        refused: None,
    };
    let delegate = &world.delegate;
    // The worlds share a store.
    let due = async || {
        let due = delegate.lent_due(1_000).await.unwrap();
        due.into_iter().find(|due| due.id == lent.id)
    };
    delegate.lend(&lent).await.unwrap();
    world.clock.advance(seconds(199));
    assert_eq!(due().await, None);
    world.clock.advance(seconds(1));
    assert_eq!(due().await.as_ref(), Some(&lent));
    for (failures, pause) in [(0, 5), (1, 10), (2, 20), (3, 40)] {
        let now = due().await.unwrap();
        assert_eq!(now.failures, failures);
        delegate.lent_later(&now, Some("no_grant")).await.unwrap();
        world.clock.advance(seconds(pause - 1));
        assert_eq!(due().await, None, "{failures}");
        world.clock.advance(seconds(1));
    }
    assert_eq!(due().await.unwrap().refused.as_deref(), Some("no_grant"));
    let often = Lent {
        failures: 1_000_000,
        ..lent.clone()
    };
    delegate.lent_later(&often, None).await.unwrap();
    world.clock.advance(seconds(600));
    let again = due().await.unwrap();
    assert_eq!(again.refused, None);
    // Renewed, everything is as at the beginning.
    let renewed = Lent {
        not_after: world.clock.now().plus(seconds(300)),
        ..lent.clone()
    };
    delegate.lend(&renewed).await.unwrap();
    assert_eq!(due().await, None);
    world.clock.advance(seconds(200));
    assert_eq!(due().await, Some(renewed.clone()));
    delegate.lent_ended(&renewed).await.unwrap();
    assert_eq!(due().await, None);
}
