//! Feature rows A: people sign in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use crate::world::{PASSWORD, World, curl, until};

fn login_body(user: &str, password: &str) -> String {
    serde_json::json!({ "username": user, "password": password }).to_string()
}

fn sign_in(world: &World, user: &str, password: &str) -> crate::world::Answer {
    let url = format!("{}/api/v1/sessions", world.base());
    world.curl(&[
        "-X",
        "POST",
        "-H",
        "Content-Type: application/json",
        "--data",
        &login_body(user, password),
        &url,
    ])
}

fn login_events(world: &World) -> Vec<serde_json::Value> {
    world
        .records()
        .iter()
        .filter_map(|record| record["event"].get("login").cloned())
        .collect()
}

#[test]
fn a1_the_right_password_opens_a_session_and_a_wrong_one_does_not_both_on_record() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let right = sign_in(&world, "john", PASSWORD).expect(201);
    let token = right.json()["token"].as_str().unwrap().to_owned();
    assert!(token.len() >= 40);
    let me = format!("{}/.countersign/me", world.base());
    let bearer = format!("Authorization: Bearer {token}");
    let shown = world.curl(&["-H", &bearer, &me]).expect(200);
    assert!(shown.text().contains("john"), "{}", shown.text());
    let wrong = sign_in(&world, "john", "a noisy walk along the river").expect(401);
    assert_eq!(wrong.problem(), "wrong_credential");
    assert_eq!(wrong.json()["token"], serde_json::Value::Null);
    let events = login_events(&world);
    let of = |id: &str| {
        events
            .iter()
            .find(|event| event["request"] == id)
            .cloned()
            .expect("a login record")
    };
    assert_eq!(of(&right.request_id())["result"], "ok");
    assert_eq!(of(&wrong.request_id())["result"], "wrong");
    assert_eq!(
        of(&wrong.request_id())["person"],
        of(&right.request_id())["person"]
    );
}

#[test]
fn an_unknown_user_gets_the_same_answer_as_a_wrong_password_and_costs_one_hash() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let hashes = || -> u64 {
        let metrics = curl(None, &[&format!("http://{}/metrics", world.operations())])
            .expect(200)
            .text();
        let line = metrics
            .lines()
            .find(|line| line.contains("password_hashes") && !line.starts_with('#'))
            .expect("the counter");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let before = hashes();
    let wrong = sign_in(&world, "john", "a noisy walk along the river").expect(401);
    let between = hashes();
    let unknown = sign_in(&world, "nobody.at.all", "a noisy walk along the river").expect(401);
    let after = hashes();
    assert_eq!((between - before, after - between), (1, 1));
    let strip = |answer: &crate::world::Answer| {
        let mut document = answer.json();
        document.as_object_mut().unwrap().remove("request_id");
        document
    };
    assert_eq!(strip(&wrong), strip(&unknown));
}

#[test]
fn a2_passwords_are_unreadable_in_the_store_and_a_raised_cost_is_taken_up_at_the_next_login() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]).person("mary", &[]);
    world
        .cli("admin", &["user", "reset-password", "imense", "mary"])
        .ok();
    // What the dump says of each account's password: person, hash.
    let hashes = |world: &World| -> BTreeMap<String, String> {
        let dump = world.dump();
        for secret in [PASSWORD, world.one_time()] {
            assert!(!dump.contains(secret), "a password stands in the clear");
        }
        let rows = dump
            .lines()
            .filter(|line| line.starts_with("INSERT INTO \"password\""));
        rows.map(|row| {
            let mut values = row.split_once('(').unwrap().1.split(',');
            let person = values.next().unwrap().to_owned();
            // The commas within a hash are its own.
            let hash = row.split('\'').find(|text| text.starts_with('$')).unwrap_or(row);
            (person, hash.to_owned())
        })
        .collect()
    };
    let before = hashes(&world);
    assert_eq!(
        before.len(),
        3,
        "the administrator, John, and Mary's one-time password"
    );
    for hash in before.values() {
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    }
    let salts: BTreeSet<_> = before.values().map(|hash| hash.split('$').nth(4)).collect();
    assert_eq!(
        salts.len(),
        3,
        "two people have the same password, and no two the same salt"
    );
    world.stop();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("[authenticate]\n", "[authenticate]\nargon2_passes = 3\n");
    fs::write(&file, text).unwrap();
    world.serve();
    assert_eq!(hashes(&world), before);
    sign_in(&world, "john", "a noisy walk along the river").expect(401);
    assert_eq!(hashes(&world), before, "a wrong password changes nothing");
    sign_in(&world, "john", PASSWORD).expect(201);
    let after = hashes(&world);
    let changed: Vec<_> = after
        .iter()
        .filter(|(person, hash)| before[*person] != **hash)
        .collect();
    assert_eq!(changed.len(), 1, "{after:?}");
    assert!(
        changed[0].1.starts_with("$argon2id$v=19$m=19456,t=3,p=1$"),
        "{changed:?}"
    );
    sign_in(&world, "john", PASSWORD).expect(201);
    assert_eq!(hashes(&world), after);
}

#[test]
fn a6_a_one_time_password_opens_only_the_change_and_only_once() {
    let mut world = World::start();
    world.admin();
    world.segmentation();
    let added = world.cli_json(
        "admin",
        &[
            "user",
            "add",
            "imense",
            "john",
            "--role",
            "scientist",
            "--show-password",
        ],
    );
    let one_time = added["one_time_password"].as_str().unwrap().to_owned();
    let first = sign_in(&world, "john", &one_time).expect(201);
    assert_eq!(first.json()["must_change"], true);
    let bearer = format!(
        "Authorization: Bearer {}",
        first.json()["token"].as_str().unwrap()
    );
    for (method, path) in [
        ("GET", "/imense/segmentation/jobs"),
        ("POST", "/imense/segmentation/jobs"),
        ("GET", "/api/v1/vos/imense/users"),
        ("POST", "/api/v1/vos/imense/roles"),
        ("GET", "/api/v1/vos"),
    ] {
        let url = format!("{}{path}", world.base());
        let refused = world.curl(&["-X", method, "-H", &bearer, &url]).expect(403);
        assert_eq!(refused.problem(), "password_change_required", "{method} {path}");
    }
    let second = sign_in(&world, "john", &one_time).expect(401);
    assert_eq!(second.problem(), "wrong_credential");
    let change = |current: &str| {
        let body = serde_json::json!({ "current": current, "new": PASSWORD }).to_string();
        let url = format!("{}/api/v1/me/password", world.base());
        let json = "Content-Type: application/json";
        world.curl(&["-X", "POST", "-H", json, "-H", &bearer, "--data", &body, &url])
    };
    let changed = change(&one_time);
    assert_eq!(changed.status / 100, 2, "{}", changed.text());
    sign_in(&world, "john", &one_time).expect(401);
    let own = sign_in(&world, "john", PASSWORD).expect(201);
    assert_eq!(own.json()["must_change"], false);
    let bearer = format!("Authorization: Bearer {}", own.json()["token"].as_str().unwrap());
    let tool = format!("{}/imense/segmentation/jobs", world.base());
    world.curl(&["-H", &bearer, &tool]).expect(200);
}

#[test]
fn a7_a_scientist_cannot_reset_another_and_the_administrator_can() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let refused = world.cli("john", &["user", "reset-password", "imense", "mary"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    let hers = world.cli_json("mary", &["whoami"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let reset = format!("/api/v1/vos/imense/users/{hers}/reset-password");
    let answer = world.call("john", "POST", &reset, None).expect(403);
    assert_eq!(answer.problem(), "no_grant");
    let record = world
        .records()
        .into_iter()
        .find_map(|record| {
            record["event"]
                .get("refused")
                .filter(|event| event["place"]["task"] == "user.reset_password")
                .cloned()
        })
        .expect("the refusal is on record");
    assert_eq!(record["problem"], "no_grant");
    let john = &world.cli_json("john", &["whoami"])["id"];
    assert_eq!(&record["subject"]["person"], john);
    sign_in(&world, "mary", PASSWORD).expect(201);
    let reset = world.cli_json("admin", &["user", "reset-password", "imense", "mary"]);
    let one_time = reset["one_time_password"].as_str().unwrap();
    // Her old password and her old token are gone with the reset.
    sign_in(&world, "mary", PASSWORD).expect(401);
    world.call("mary", "GET", "/.countersign/me", None).expect(401);
    world.login("mary", one_time).ok();
    world.call("mary", "GET", "/.countersign/me", None).expect(200);
    // Her own she changes herself; that is another task, which needs no administrator.
    let mut changes = world.records().into_iter().rev().filter_map(|record| {
        let intent = record["event"].get("intent")?.clone();
        (intent["place"]["task"] == "user.change_own_password").then_some(intent)
    });
    let mary = &world.cli_json("mary", &["whoami"])["id"];
    assert!(
        changes
            .next()
            .is_some_and(|intent| intent["subject"]["person"] == *mary)
    );
}

#[test]
fn a_person_changes_her_own_password_and_weak_ones_are_refused_with_a_reason() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let file = |name: &str, text: &str| {
        let path = world.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let old = file("old", PASSWORD);
    for (weak, why) in [
        ("Countersign2026", "short or a context word"),
        ("only 14 letter", "14 characters"),
    ] {
        let new = file("new", weak);
        let ran = world.cli(
            "john",
            &[
                "password",
                "change",
                "--password-file",
                &old,
                "--new-password-file",
                &new,
            ],
        );
        assert_eq!(ran.code, 1, "{why}: {}", ran.stderr);
        assert!(ran.stderr.contains("stronger password"), "{}", ran.stderr);
    }
    let new = file("new", "twenty letters phrase");
    world
        .cli(
            "john",
            &[
                "password",
                "change",
                "--password-file",
                &old,
                "--new-password-file",
                &new,
            ],
        )
        .ok();
    sign_in(&world, "john", PASSWORD).expect(401);
    sign_in(&world, "john", "twenty letters phrase").expect(201);
}

#[test]
fn a13_plain_http_is_never_served_and_old_tls_is_refused() {
    let world = World::start();
    let plain = curl(
        None,
        &[
            "-H",
            "Host: gw.localhost",
            &format!("http://127.0.0.1:{}/login", world.port()),
        ],
    );
    assert!(plain.status == 308 || plain.status == 0, "{}", plain.status);
    assert!(!plain.text().contains("password"));
    let url = format!("{}/login", world.base());
    world.curl(&["--tlsv1.2", "--tls-max", "1.2", &url]).expect(200);
    world.curl(&["--tlsv1.3", &url]).expect(200);
    // A client that could speak it is told so by the gateway, not by its own library.
    for version in ["-tls1", "-tls1_1"] {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{}", world.port())])
            .args([
                "-servername",
                "gw.localhost",
                version,
                "-cipher",
                "DEFAULT@SECLEVEL=0",
            ])
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs (apt-get install openssl)");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("SSL alert number"),
            "{version}: {said}"
        );
    }
}

#[test]
fn a13_answers_carry_hsts_unless_the_certificate_is_from_the_private_authority() {
    let mut world = World::start();
    let header = |world: &World, path: &str| {
        let answer = world.curl(&[&format!("{}{path}", world.base())]);
        answer.header("strict-transport-security").map(str::to_owned)
    };
    let paths = ["/login", "/.countersign/me", "/no/such/place"];
    for path in paths {
        assert_eq!(header(&world, path), None, "{path}");
    }
    world.stop();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("private_ca = true", "private_ca = false")).unwrap();
    world.serve();
    for path in paths {
        let told = header(&world, path);
        let age = told.as_deref().and_then(|told| told.strip_prefix("max-age="));
        assert!(
            age.is_some_and(|age| age.parse::<u64>().unwrap() >= 31_536_000),
            "{path}: {told:?}"
        );
    }
}

#[test]
fn a8_ten_wrong_passwords_end_in_429_and_the_administrator_sees_how_many_and_when() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let wrong: Vec<u16> = (0..10)
        .map(|_| sign_in(&world, "john", "a noisy walk along the river").status)
        .collect();
    assert_eq!(wrong.first(), Some(&401));
    assert_eq!(wrong.last(), Some(&429), "{wrong:?}");
    let looked_at = wrong.iter().filter(|status| **status == 401).count();
    let shown = world.cli_json("admin", &["user", "show", "imense", "john"]);
    assert_eq!(shown["username"], "john");
    let counted = &shown["sign_ins"];
    assert_eq!(counted["failed"], looked_at, "{shown}");
    assert!(counted["last_failed"].as_str().is_some(), "{shown}");
    assert!(counted["count"].as_u64().unwrap() >= 1, "{shown}");
    let of_mary = world.cli_json("admin", &["user", "show", "imense", "mary"]);
    assert_eq!(of_mary["sign_ins"]["failed"], 0, "{of_mary}");
    // In a list of members it is nobody's business.
    let listed = world.cli_json("admin", &["user", "list", "imense"]);
    assert!(!listed.to_string().contains("sign_ins"), "{listed}");
    let text = world
        .cli("admin", &["user", "show", "imense", "john"])
        .ok()
        .stdout;
    assert!(text.contains("In vain"), "{text}");
}

#[test]
fn guessing_is_slowed_for_the_account_and_nobody_else_is_locked_out() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let mut throttled = None;
    for _ in 0..30 {
        let answer = sign_in(&world, "john", "a noisy walk along the river");
        if answer.status == 429 {
            throttled = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let throttled = throttled.expect("guessing is slowed");
    assert_eq!(throttled.problem(), "too_many_attempts");
    assert!(throttled.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    sign_in(&world, "mary", PASSWORD).expect(201);
    // John's own session goes on.
    world.call("john", "GET", "/.countersign/me", None).expect(200);
}

#[test]
fn logout_ends_the_session_on_the_server() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let token = world.token("john");
    world.cli("john", &["logout"]).ok();
    let me = format!("{}/.countersign/me", world.base());
    let gone = world.curl(&["-H", &format!("Authorization: Bearer {token}"), &me]);
    assert_eq!(gone.status, 401);
    let ended = until("the end of the session on record", || {
        world
            .records()
            .into_iter()
            .find(|record| record["event"]["session_ended"]["reason"] == "logout")
    });
    assert!(ended["event"]["session_ended"]["person"].is_string());
}

#[test]
fn a_basic_login_and_sessions_that_are_too_many_are_on_record() {
    let mut world = World::initialised();
    let settings = world.data().join("countersign.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let text = text.replace("[authenticate]\n", "[authenticate]\nsessions_per_person = 2\n");
    fs::write(&settings, text).unwrap();
    world.serve();
    world.admin().person("john", &["scientist"]);
    let (socket, _) = world.sample_tool();
    let manifest = world.dir.path().join("mailbox.toml");
    let text = "[tool]\nname = \"mailbox\"\nupstream = \"mailbox\"\ndelegation = \"none\"\nbasic = true\n\n\
                [[task]]\nname = \"look\"\nmatch = [\"GET /jobs\"]\nkind = \"read\"\n";
    fs::write(&manifest, text).unwrap();
    let url = format!("unix:{}", socket.display());
    for args in [
        &["upstream", "allow", "imense", "mailbox", &url][..],
        &["tool", "add", "imense", manifest.to_str().unwrap()],
        &["grant", "add", "imense", "scientist", "mailbox", "look"],
    ] {
        world.cli("admin", args).ok();
    }
    // Her session of the command line is the first, this one the second, that of Basic the third.
    let second = sign_in(&world, "john", PASSWORD).expect(201).json();
    let url = format!("{}/imense/mailbox/jobs", world.base());
    let password = format!("john:{PASSWORD}");
    let answer = world.curl(&["--user", &password, &url]).expect(200);
    world.curl(&["--user", &password, &url]).expect(200);
    world.call("john", "GET", "/api/v1/me", None).expect(401);
    let events = world.events_of(&answer.request_id());
    let of = |wanted: &str| {
        let mut found = events.iter().filter(|(name, _)| name == wanted);
        let event = found.next().unwrap_or_else(|| panic!("no {wanted}: {events:?}"));
        assert!(found.next().is_none(), "{events:?}");
        event.1.clone()
    };
    let (login, ended, intent) = (of("login"), of("session_ended"), of("intent"));
    assert_eq!(
        (&login["result"], &login["person"]),
        (&"ok".into(), &intent["subject"]["person"])
    );
    assert_eq!(login["session"], intent["subject"]["session"]);
    assert_eq!(ended["reason"], "surplus");
    assert_eq!(ended["sessions"].as_array().unwrap().len(), 1);
    assert_ne!(ended["sessions"][0], second["session"], "the oldest goes");
    let logins = world.records();
    let of_basic = |record: &&serde_json::Value| record["event"]["login"]["session"] == login["session"];
    assert_eq!(
        logins.iter().filter(of_basic).count(),
        1,
        "one session, one login"
    );
}
