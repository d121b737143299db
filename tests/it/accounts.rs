//! Feature rows of accounts: states, ends, flags (A5, B9), and what people are told of them (J5).

use std::fs;

use serde_json::{Value, json};

use crate::factor;
use crate::peers::Peer;
use crate::python::PythonTool;
use crate::world::{Answer, PASSWORD, World, curl, until};

const MAILBOX: &str =
    "[tool]\nname = \"mailbox\"\nupstream = \"mailbox\"\ndelegation = \"none\"\nbasic = true\n
[[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n";

/// A tool that takes Basic, for scientists.
fn mailbox(world: &World) -> PythonTool {
    let tool = PythonTool::start(world.dir.path());
    let file = world.dir.path().join("mailbox.toml");
    fs::write(&file, MAILBOX).unwrap();
    let file = file.to_str().unwrap();
    let allowed = ["upstream", "allow", "imense", "mailbox", &tool.url()];
    world.cli("admin", &allowed).ok();
    world.cli("admin", &["tool", "add", "imense", file]).ok();
    let grant = ["grant", "add", "imense", "scientist", "mailbox", "look"];
    world.cli("admin", &grant).ok();
    tool
}

fn sign_in(world: &World, user: &str, password: &str) -> Answer {
    let body = json!({ "username": user, "password": password }).to_string();
    let url = format!("{}/api/v1/sessions", world.base());
    world.curl(&["-H", "Content-Type: application/json", "-d", &body, &url])
}

fn basic(world: &World, user: &str) -> Answer {
    let url = format!("{}/imense/mailbox/look", world.base());
    world.curl(&["-u", &format!("{user}:{PASSWORD}"), &url])
}

fn bearer(world: &World, token: &str, path: &str) -> Answer {
    let url = format!("{}{path}", world.base());
    world.curl(&["-H", &format!("Authorization: Bearer {token}"), &url])
}

/// A session of a browser, as its cookie.
fn cookie(world: &World, user: &str) -> String {
    let form = format!("username={user}&password={}", PASSWORD.replace(' ', "+"));
    let (url, origin) = (
        format!("{}/login", world.base()),
        format!("Origin: {}", world.base()),
    );
    let answer = world
        .curl(&["-H", &origin, "--data-binary", &form, &url])
        .expect(303);
    let line = answer.header("set-cookie").unwrap();
    line.split(';').next().unwrap().to_owned()
}

fn with_cookie(world: &World, cookie: &str) -> Answer {
    let url = format!("{}/.countersign/me", world.base());
    world.curl(&[
        "-H",
        &format!("Cookie: {cookie}"),
        "-H",
        "Accept: application/json",
        &url,
    ])
}

fn set(world: &World, words: &[&str]) {
    world.cli("admin", words).ok();
}

/// Every way in is shut, and who knows the password is told `kind`; the sessions that there were are worth nothing.
#[track_caller]
fn shut(world: &World, user: &str, (token, cookie): (&str, &str), kind: &str) {
    let refused = bearer(world, token, "/imense/mailbox/look");
    assert!([401, 403].contains(&refused.status), "{}", refused.text());
    let refused = with_cookie(world, cookie);
    assert!([401, 403].contains(&refused.status), "{}", refused.text());
    for refused in [sign_in(world, user, PASSWORD), basic(world, user)] {
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert_eq!(refused.problem(), kind);
        let said = refused.json();
        assert!(said["next"].as_str().unwrap().len() > 20, "{said}");
    }
    let wrong = sign_in(world, user, "not the password at all").expect(401);
    assert_eq!(wrong.problem(), "wrong_credential", "a stranger learns nothing");
    let form = format!("username={user}&password={}", PASSWORD.replace(' ', "+"));
    let (url, origin) = (
        format!("{}/login", world.base()),
        format!("Origin: {}", world.base()),
    );
    let page = world
        .curl(&["-H", &origin, "--data-binary", &form, &url])
        .expect(403);
    assert!(page.header("set-cookie").is_none(), "{}", page.text());
}

fn change_of(world: &World, action: &str) -> Vec<Value> {
    let records = world.records().into_iter();
    let changes = records.map(|record| record["event"]["change"]["change"].clone());
    changes.filter(|change| change["action"] == action).collect()
}

#[test]
fn b9_each_state_has_its_own_refusal_at_every_way_in() {
    let world = World::start();
    world.admin();
    let _tool = mailbox(&world);
    let mut told = Vec::new();
    for (user, words, kind) in [
        ("john", &["suspend", "imense", "john"][..], "suspended"),
        ("mary", &["expire", "imense", "mary"], "account_expired"),
        ("paul", &["delete", "imense", "paul"], "account_deleted"),
    ] {
        world.person(user, &["scientist"]);
        let token = world.token(user);
        let cookie = cookie(&world, user);
        bearer(&world, &token, "/imense/mailbox/look").expect(200);
        with_cookie(&world, &cookie).expect(200);
        basic(&world, user).expect(200);
        set(&world, &[&["user"], words, &["--reason", "a test"]].concat());
        // The command has come back: nothing is open from here on.
        shut(&world, user, (&token, &cookie), kind);
        told.push(sign_in(&world, user, PASSWORD).json()["explanation"].to_string());
        let open = format!(
            "SELECT count(*) FROM session s JOIN person p ON p.id = s.person WHERE p.username = '{user}' AND s.ended_at IS NULL"
        );
        assert_eq!(world.stored(&open), 0, "{user}");
    }
    told.dedup();
    assert_eq!(told.len(), 3, "each says something else: {told:?}");
    let refused: Vec<String> = world
        .records()
        .iter()
        .filter_map(|record| record["event"]["login"]["result"].as_str().map(str::to_owned))
        .collect();
    for word in ["suspended", "account_expired", "deleted"] {
        assert!(refused.iter().any(|result| result == word), "{word}: {refused:?}");
    }

    // Who was suspended or has expired comes back; who was deleted does not, and her name is free.
    set(&world, &["user", "resume", "imense", "john"].map(|word| word));
    set(
        &world,
        &["user", "expire", "imense", "mary", "--never", "--reason", "stays"],
    );
    for user in ["john", "mary"] {
        sign_in(&world, user, PASSWORD).expect(201);
    }
    let ran = world.cli("admin", &["user", "resume", "imense", "paul"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    world.person("paul", &["scientist"]);
    sign_in(&world, "paul", PASSWORD).expect(201);
    let ended = change_of(&world, "user.end");
    assert_eq!(ended[0]["after"]["state"], "ended", "{ended:?}");
    world.verify().ok();
}

#[test]
fn b9_an_account_expires_at_its_second_and_keeps_nothing() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let _tool = mailbox(&world);
    let (token, cookie) = (world.token("john"), cookie(&world, "john"));
    basic(&world, "john").expect(200);
    let clock = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        i64::try_from(now.unwrap().as_micros()).unwrap()
    };
    let at = countersign::clock::Timestamp((clock() / 1_000_000 + 4) * 1_000_000);
    let shown = world.cli_json(
        "admin",
        &[
            "user",
            "expire",
            "imense",
            "john",
            "--at",
            &at.to_string(),
            "--reason",
            "a guest",
        ],
    );
    assert_eq!(
        (&shown["state"], &shown["until"]),
        (&"active".into(), &at.to_string().into())
    );
    // What begins after that second is refused, whether the end was written down yet or not.
    let mut before = 0;
    loop {
        let begun = clock();
        let answer = bearer(&world, &token, "/imense/mailbox/look");
        if begun >= at.micros() {
            assert!([401, 403].contains(&answer.status), "{}", answer.text());
            break;
        }
        if answer.status == 200 {
            before += 1;
        } else {
            assert!(clock() >= at.micros(), "{}", answer.text());
        }
    }
    assert!(before > 0);
    shut(&world, "john", (&token, &cookie), "account_expired");
    let lapsed = until("the end of the account on record", || {
        change_of(&world, "user.lapse").pop()
    });
    assert_eq!(lapsed["after"]["state"], "expired");
    until("the end of its sessions", || {
        let open = "SELECT count(*) FROM session s JOIN person p ON p.id = s.person WHERE p.username = 'john' AND s.ended_at IS NULL";
        (world.stored(open) == 0).then_some(())
    });
    let listed = world.cli_json("admin", &["user", "list", "imense", "--state", "expired"]);
    assert_eq!(listed["users"][0]["username"], "john", "{listed}");
    // More time opens it again.
    let later = [
        "user",
        "expire",
        "imense",
        "john",
        "--at",
        "2090-01-01T00:00:00Z",
        "--reason",
        "stays",
    ];
    set(&world, &later);
    sign_in(&world, "john", PASSWORD).expect(201);
    // The last administrator's account does not end by itself.
    let ran = world.cli(
        "admin",
        &["user", "expire", "imense", "admin", "--reason", "a slip"],
    );
    assert_ne!(ran.code, 0, "{}", ran.stdout);
    let ran = world.cli(
        "admin",
        &["user", "delete", "imense", "admin", "--reason", "a slip"],
    );
    assert_ne!(ran.code, 0, "{}", ran.stdout);
    world.verify().ok();
}

#[test]
fn a5_an_old_password_works_and_one_that_others_may_know_must_be_changed_at_the_next_sign_in() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let _tool = mailbox(&world);
    let old = "UPDATE password SET set_at = set_at - 400 * 86400 * 1000000";
    world.write_store(old);
    sign_in(&world, "john", PASSWORD).expect(201);
    let (mut authenticator, _) = factor::bind(&world, &world.token("mary"));
    for user in ["john", "mary"] {
        let token = match user {
            "john" => sign_in(&world, user, PASSWORD).expect(201).json()["token"].to_string(),
            _ => world.token(user),
        };
        let token = token.trim_matches('"').to_owned();
        bearer(&world, &token, "/api/v1/vos/imense").expect(200);
        let flag = [
            "user",
            "flag-compromised",
            "imense",
            user,
            "--reason",
            "in a published list",
        ];
        set(&world, &flag);
        bearer(&world, &token, "/api/v1/vos/imense").expect(401);
    }
    // Basic cannot change it, so it opens nothing.
    assert_eq!(
        basic(&world, "john").expect(403).problem(),
        "password_change_required"
    );
    let begun = sign_in(&world, "john", PASSWORD).expect(201).json();
    assert_eq!(begun["must_change"], true);
    let token = begun["token"].as_str().unwrap();
    let refused = bearer(&world, token, "/imense/mailbox/look").expect(403);
    assert_eq!(refused.problem(), "password_change_required");
    // Nor does a second factor spare her that.
    let body = json!({ "username": "mary", "password": PASSWORD, "code": authenticator.code() }).to_string();
    let url = format!("{}/api/v1/sessions", world.base());
    let json = "Content-Type: application/json";
    let begun = world.curl(&["-H", json, "-d", &body, &url]).expect(201).json();
    assert_eq!(begun["must_change"], true);

    let change = |new: &str| {
        let url = format!("{}/api/v1/me/password", world.base());
        let body = json!({ "new": new }).to_string();
        let bearer = format!("Authorization: Bearer {token}");
        world.curl(&["-H", json, "-H", &bearer, "-d", &body, &url])
    };
    assert_eq!(
        change(PASSWORD).problem(),
        "weak_password",
        "the same again is none"
    );
    let new = "a long swim across the lake";
    assert!((200..300).contains(&change(new).status));
    let begun = sign_in(&world, "john", new).expect(201).json();
    assert_eq!(begun["must_change"], false);
    let flagged = change_of(&world, "user.flag_compromised");
    assert_eq!(flagged.len(), 2);
    assert_eq!(flagged[0]["after"], json!({ "compromised": true }));
    world.verify().ok();
}

/// A gateway that sends its mails to the receiver.
fn mailing(peer: &Peer) -> World {
    let mut world = World::initialised();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("# transport = \"file\"", "transport = \"smtp\"");
    let smtp = format!(
        "\n[alert.smtp]\nhost = \"localhost\"\nport = {}\nsecurity = \"starttls\"\nca_file = \"{}\"\n",
        peer.env("PORT"),
        peer.env("CA")
    );
    fs::write(&file, text + &smtp).unwrap();
    world.serve();
    world.admin();
    world
}

/// All mails to an address, once there are so many.
fn mails(peer: &Peer, to: &str, atleast: usize) -> Vec<Value> {
    let url = format!("{}/messages?to={to}&atleast={atleast}&wait=10", peer.env("HTTP"));
    curl(None, &[&url]).expect(200).json().as_array().unwrap().clone()
}

fn subjects(mails: &[Value]) -> Vec<&str> {
    mails
        .iter()
        .map(|mail| mail["subject"].as_str().unwrap())
        .collect()
}

#[test]
fn j5_the_person_and_the_administrators_get_one_mail_each_of_every_change_of_state() {
    let peer = Peer::start("smtp");
    let world = mailing(&peer);
    world
        .person("john", &["scientist"])
        .person("ada", &["vo-administrator"]);
    let mut expected = Vec::new();
    for (words, about) in [
        (
            &["suspend", "imense", "john", "--reason", "a test"][..],
            "was suspended",
        ),
        (&["resume", "imense", "john"], "is open again"),
        (&["expire", "imense", "john", "--reason", "a test"], "has expired"),
        (&["resume", "imense", "john"], "is open again"),
        (&["delete", "imense", "john", "--reason", "a test"], "was deleted"),
    ] {
        set(&world, &[&["user"], words].concat());
        expected.push(about);
        for to in ["john@example.org", "ada@example.org"] {
            let came = mails(&peer, to, expected.len());
            let came = subjects(&came);
            assert_eq!(came.len(), expected.len(), "one each: {to} {came:?}");
            assert!(came.last().unwrap().contains(about), "{to} {came:?}");
        }
    }
}
