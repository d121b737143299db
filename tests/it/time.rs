//! Rows about time: the same server in this process, over real TLS, with a clock that is moved by hand.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock, HandClock, SystemClock, Timestamp};
use countersign::config::Config;
use countersign::id::{Ids, SystemSource};
use countersign::server::Server;
use serde_json::Value;

use crate::world::{Answer, PASSWORD, World, until};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A gateway whose time stands still until it is moved.
pub struct Hand {
    // Stopped before the world's folder goes.
    server: Option<Server>,
    runtime: tokio::runtime::Runtime,
    clock: Arc<HandClock>,
    /// The gateway that it is, with its people and tools.
    pub world: World,
}

impl Hand {
    /// With the settings as `init` writes them.
    pub fn start() -> Self {
        Self::with("[authenticate]", "")
    }

    /// With keys for one section of the settings.
    pub fn with(section: &str, keys: &str) -> Self {
        let world = World::initialised();
        let file = world.data().join("countersign.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(section, &format!("{section}\n{keys}"))).unwrap();
        let clock = Arc::new(HandClock::new(SystemClock::new().now()));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let config = Config::load(&world.data()).unwrap();
        let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
        let server = runtime.block_on(Server::start(config, ids)).unwrap();
        world.admin();
        Self {
            server: Some(server),
            runtime,
            clock,
            world,
        }
    }

    /// Moves time on.
    pub fn later(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn sign_in(&self, user: &str, password: &str) -> Answer {
        let body = serde_json::json!({ "username": user, "password": password }).to_string();
        let url = format!("{}/api/v1/sessions", self.world.base());
        let json = "Content-Type: application/json";
        self.world
            .curl(&["-X", "POST", "-H", json, "--data", &body, &url])
    }

    fn me(&self, header: &str) -> u16 {
        let url = format!("{}/.countersign/me", self.world.base());
        self.world.curl(&["-H", header, &url]).status
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop("test"));
        }
    }
}

fn image() -> Vec<u8> {
    let mut pgm = b"P5\n4 4\n255\n".to_vec();
    pgm.extend([10, 10, 200, 200].repeat(4));
    pgm
}

#[test]
fn a6_a_one_time_password_ends_after_seven_days() {
    let hand = Hand::start();
    let one_time = |user: &str| {
        let added = [
            "user",
            "add",
            "imense",
            user,
            "--role",
            "scientist",
            "--show-password",
        ];
        let added = hand.world.cli_json("admin", &added);
        added["one_time_password"].as_str().unwrap().to_owned()
    };
    let (john, mary) = (one_time("john"), one_time("mary"));
    hand.later(7 * 24 * HOUR - SECOND);
    assert_eq!(
        hand.sign_in("john", &john).expect(201).json()["must_change"],
        true
    );
    hand.later(2 * SECOND);
    let late = hand.sign_in("mary", &mary).expect(401);
    assert_eq!(late.problem(), "wrong_credential");
    let login = hand.world.events_of(&late.request_id());
    let login = login.iter().find(|(name, _)| name == "login").unwrap();
    assert_eq!(login.1["result"], "expired");
}

#[test]
fn a_token_ends_when_it_rests_too_long_and_at_the_end_of_its_life_however_it_is_used() {
    let hand = Hand::with("[authenticate]", "token_idle = \"1h\"");
    hand.world.person("john", &["scientist"]);
    let bearer = |answer: &Answer| {
        format!(
            "Authorization: Bearer {}",
            answer.json()["token"].as_str().unwrap()
        )
    };
    let used = bearer(&hand.sign_in("john", PASSWORD).expect(201));
    let rests = bearer(&hand.sign_in("john", PASSWORD).expect(201));
    hand.later(HOUR - SECOND);
    assert_eq!((hand.me(&used), hand.me(&rests)), (200, 200));
    hand.later(HOUR / 2);
    assert_eq!(hand.me(&used), 200);
    hand.later(HOUR / 2 + SECOND);
    assert_eq!((hand.me(&used), hand.me(&rests)), (200, 401), "one hour of rest");
    // 2 hours have passed; 12 is all that a token gets.
    for _ in 0..19 {
        hand.later(HOUR / 2);
        assert_eq!(hand.me(&used), 200);
    }
    hand.later(HOUR / 2 - 2 * SECOND);
    assert_eq!(hand.me(&used), 200, "a second or two before its end");
    hand.later(2 * SECOND);
    assert_eq!(hand.me(&used), 401, "12 hours of life");
    until("the ends of the sessions on record", || {
        let records = hand.world.records();
        let ended = records.iter().map(|record| &record["event"]["session_ended"]);
        let ended = ended.filter(|event| event["reason"] == "expired");
        let sessions: Vec<String> = ended
            .flat_map(|event| event["sessions"].as_array().unwrap())
            .map(Value::to_string)
            .collect();
        let different: HashSet<&String> = sessions.iter().collect();
        assert_eq!(different.len(), sessions.len(), "an end that is on record twice");
        // Those of this test, the administrator's and the one that John signed in with.
        (sessions.len() >= 4).then_some(())
    });
}

#[test]
fn a_browser_session_ends_when_it_rests_for_two_hours() {
    let hand = Hand::start();
    hand.world.person("john", &["scientist"]);
    let base = hand.world.base();
    let origin = format!("Origin: {base}");
    let (user, password) = ("username=john", format!("password={PASSWORD}"));
    let form = [
        "-H",
        &origin,
        "--data",
        user,
        "--data-urlencode",
        &password,
        &format!("{base}/login"),
    ];
    let answer = hand.world.curl(&form).expect(303);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap();
    let cookie = format!("Cookie: {cookie}");
    for _ in 0..3 {
        hand.later(2 * HOUR - SECOND);
        assert_eq!(hand.me(&cookie), 200);
    }
    hand.later(2 * HOUR + SECOND);
    assert_eq!(hand.me(&cookie), 401);
    // A person who opens a page is led to the login instead.
    let page = hand.world.curl(&[
        "-H",
        &cookie,
        "-H",
        "Sec-Fetch-Mode: navigate",
        &format!("{base}/"),
    ]);
    assert_eq!(page.expect(303).header("location"), Some("/login"));
}

/// What the tool was called with at this moment: serial and end.
fn called_with(hand: &Hand) -> (String, Timestamp) {
    let answer = hand
        .world
        .tool("john", "POST", "/jobs", Some(&image()))
        .expect(201);
    let seen = answer.json()["called_with"].clone();
    let end = Timestamp::parse(seen["not_after"].as_str().unwrap()).unwrap();
    (seen["serial"].as_str().unwrap().to_owned(), end)
}

/// While no RSA key is ready, a proxy that is due is used on; hours that pass in no time at all leave none to be made.
fn a_key_is_ready(hand: &Hand) {
    until("a key for the next proxy", || {
        hand.world
            .metric("countersign_rsa_keys ")
            .filter(|keys| *keys > 0)
    });
}

#[test]
fn g2_a_proxy_is_renewed_before_it_ends_and_never_lives_longer_than_an_hour() {
    let mut hand = Hand::start();
    hand.world.person("john", &["scientist"]);
    hand.world.segmentation();
    let (first, end) = called_with(&hand);
    assert!(
        end <= hand.now().plus(HOUR) && end > hand.now().plus(HOUR - 2 * SECOND),
        "{end}"
    );
    hand.later(39 * MINUTE);
    assert_eq!(
        called_with(&hand),
        (first.clone(), end),
        "one proxy for a session and tool"
    );
    hand.later(2 * MINUTE);
    a_key_is_ready(&hand);
    let (second, later) = called_with(&hand);
    assert_ne!(second, first, "renewed after two thirds of its life");
    assert!(later > end);
    for _ in 0..20 {
        hand.later(7 * MINUTE);
        a_key_is_ready(&hand);
        let (_, end) = called_with(&hand);
        // Whatever the tool begins with it, it has minutes to finish.
        assert!(
            end >= hand.now().plus(5 * MINUTE) && end <= hand.now().plus(HOUR),
            "{end} at {}",
            hand.now()
        );
    }
}

#[test]
fn g2_no_proxy_lives_past_the_certificate_of_its_vo() {
    let mut hand = Hand::start();
    hand.world.person("john", &["scientist"]);
    hand.world.segmentation();
    let (before, _) = called_with(&hand);
    let issuer_end = Timestamp::from_secs(hand.now().secs()).plus(40 * MINUTE);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut form = rcgen::CertificateParams::default();
    form.distinguished_name = rcgen::DistinguishedName::new();
    form.distinguished_name
        .push(rcgen::DnType::OrganizationName, "Test");
    form.distinguished_name
        .push(rcgen::DnType::CommonName, "VO imense");
    form.is_ca = rcgen::IsCa::ExplicitNoCa;
    form.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    form.not_before = hand.now().minus(HOUR).to_offset();
    form.not_after = issuer_end.to_offset();
    let certificate = form.self_signed(&key).unwrap().pem();
    let file = |name: &str, text: &str| {
        let path = hand.world.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (certificate, key) = (
        file("short.pem", &certificate),
        file("short.key", &key.serialize_pem()),
    );
    let import = [
        "vo",
        "certificate",
        "import",
        "imense",
        "--certificate",
        &certificate,
        "--key",
        &key,
    ];
    hand.world.cli("admin", &import).ok();
    let (first, end) = called_with(&hand);
    assert_ne!(first, before, "a new certificate, a new proxy");
    assert_eq!(end, issuer_end);
    for _ in 0..3 {
        hand.later(10 * MINUTE);
        assert!(called_with(&hand).1 <= issuer_end);
    }
    hand.later(10 * MINUTE + SECOND);
    let answer = hand
        .world
        .tool("john", "POST", "/jobs", Some(&image()))
        .expect(503);
    assert_eq!(answer.problem(), "delegation_failed");
}

fn alerts(hand: &Hand) -> Vec<Value> {
    let records = hand.world.records();
    let alerts = records.iter().filter_map(|record| record["event"].get("alert"));
    alerts.cloned().collect()
}

/// The mails in the outbox folder, oldest first.
fn mails(hand: &Hand) -> Vec<String> {
    let Ok(folder) = fs::read_dir(hand.world.data().join("outbox")) else {
        return Vec::new();
    };
    let mut files: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
    files.sort();
    files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect()
}

fn denials(hand: &Hand) -> i64 {
    hand.world.stored("SELECT count(*) FROM alert_denial")
}

/// One denial, and its count in the store.
fn denied(hand: &Hand) {
    let before = denials(hand);
    let answer = hand.world.tool("john", "GET", "/nothing", None).expect(403);
    assert_eq!(answer.problem(), "no_task");
    until("the denial to be counted", || {
        (denials(hand) > before).then_some(())
    });
}

#[test]
fn j1_three_denials_in_an_hour_alert_and_an_episode_ends_when_it_was_quiet() {
    let mut hand = Hand::start();
    hand.world.person("john", &["scientist"]);
    hand.world.segmentation();
    // At 0, 31 and 62 minutes: never three within an hour.
    for wait in [0, 31, 31] {
        hand.later(wait * MINUTE);
        denied(&hand);
    }
    // At 63 minutes it is the third within an hour, and the one at 0 has no part in it.
    hand.later(MINUTE);
    denied(&hand);
    let first = until("the alert", || alerts(&hand).pop());
    assert_eq!((&first["count"], &first["task"]), (&3.into(), &"no_task".into()));
    assert_eq!(first["requests"].as_array().unwrap().len(), 3);
    until("its mail", || (!mails(&hand).is_empty()).then_some(()));
    // The episode goes on as long as no hour is quiet, and says nothing more.
    for _ in 0..4 {
        hand.later(50 * MINUTE);
        denied(&hand);
    }
    assert_eq!(hand.world.stored("SELECT count FROM alert_episode"), 7);
    // After a quiet hour the next three are another one.
    hand.later(HOUR);
    for _ in 0..3 {
        denied(&hand);
        hand.later(MINUTE);
    }
    until("the second alert", || (alerts(&hand).len() >= 2).then_some(()));
    until("the second mail", || (mails(&hand).len() >= 2).then_some(()));
    assert_eq!((alerts(&hand).len(), mails(&hand).len()), (2, 2));
}

#[test]
fn j1_at_most_four_mails_an_hour_then_a_digest() {
    let hand = Hand::start();
    hand.world.person("john", &["scientist"]);
    let tasks: [(&str, &[&str]); 6] = [
        ("user.remove", &["user", "remove", "imense", "admin"]),
        ("role.create", &["role", "create", "imense", "x"]),
        ("user.list", &["user", "list", "imense"]),
        ("role.list", &["role", "list", "imense"]),
        ("grant.list", &["grant", "list", "imense"]),
        ("upstream.list", &["upstream", "list", "imense"]),
    ];
    for (number, (task, args)) in tasks.iter().enumerate() {
        for _ in 0..3 {
            let ran = hand.world.cli("john", args);
            assert_eq!(ran.code, 3, "{task}: {}", ran.stderr);
        }
        until("the alert", || (alerts(&hand).len() > number).then_some(()));
        if number < 4 {
            until("its mail", || (mails(&hand).len() > number).then_some(()));
        } else {
            let waiting = "SELECT count(*) FROM alert_episode WHERE mail = 'digest'";
            until("it to wait for a digest", || {
                (hand.world.stored(waiting) > number as i64 - 4).then_some(())
            });
        }
        hand.later(MINUTE);
    }
    assert_eq!(mails(&hand).len(), 4);
    hand.later(HOUR);
    until("the digest", || (mails(&hand).len() > 4).then_some(()));
    let all = mails(&hand);
    assert_eq!(all.len(), 5);
    assert!(all[4].contains("2 more episodes"), "{}", all[4]);
    for (task, _) in &tasks[4..] {
        assert!(all[4].contains(task), "{task} in {}", all[4]);
        assert!(
            !all[..4].iter().any(|mail| mail.contains(task)),
            "{task} was mailed before"
        );
    }
}

#[test]
fn c7_a_role_that_was_given_until_a_moment_is_gone_at_that_moment() {
    let mut hand = Hand::start();
    hand.world
        .cli("admin", &["role", "create", "imense", "bystander"])
        .ok();
    hand.world.person("jane", &["bystander"]);
    hand.world.segmentation();
    hand.world
        .cli("admin", &["role", "create", "imense", "guest"])
        .ok();
    hand.world
        .cli(
            "admin",
            &["grant", "add", "imense", "guest", "segmentation", "list jobs"],
        )
        .ok();
    let end = Timestamp::from_secs(hand.now().secs()).plus(100 * SECOND);
    let end_text = end.to_string();
    hand.world
        .cli(
            "admin",
            &["role", "assign", "imense", "guest", "jane", "--until", &end_text],
        )
        .ok();
    hand.later(end.since(hand.now()) - Duration::from_micros(1));
    hand.world.tool("jane", "GET", "/jobs", None).expect(200);
    hand.later(Duration::from_micros(1));
    assert_eq!(hand.now(), end);
    let answer = hand.world.tool("jane", "GET", "/jobs", None).expect(403);
    assert_eq!(answer.problem(), "no_grant");
    // A moment that has passed is not taken.
    let ran = hand.world.cli(
        "admin",
        &["role", "assign", "imense", "guest", "jane", "--until", &end_text],
    );
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}
