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

fn post(world: &World, token: &str, path: &str, body: &Value) -> Answer {
    let (url, bearer) = (
        format!("{}{path}", world.base()),
        format!("Authorization: Bearer {token}"),
    );
    let (json, body) = ("Content-Type: application/json", body.to_string());
    world.curl(&["-H", json, "-H", &bearer, "-d", &body, &url])
}

fn set_terms(world: &World, whose: &str, text: &str) {
    let file = world.dir.path().join("terms.txt");
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    set(
        world,
        &["terms", "set", whose, "--file", file, "--reason", "a test"],
    );
}

fn owed(world: &World, token: &str) -> Value {
    bearer(world, token, "/api/v1/me/terms").expect(200).json()["owed"].clone()
}

/// Accepts what is owed first, with another digest where one is given.
fn accept(world: &World, token: &str, digest: Option<&str>) -> Answer {
    let shown = owed(world, token)[0].clone();
    let digest = digest.map_or(shown["digest"].clone(), Value::from);
    let read = json!({ "vo": shown["vo"], "version": shown["version"], "digest": digest });
    post(
        world,
        token,
        "/api/v1/me/terms/accept",
        &json!({ "accept": [read] }),
    )
}

#[test]
fn n6_nothing_is_open_before_the_terms_are_accepted_and_again_when_they_change() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let _tool = mailbox(&world);
    let token = world.token("john");
    let cookie = cookie(&world, "john");
    let look = || bearer(&world, &token, "/imense/mailbox/look");
    look().expect(200);

    // Those of the gateway shut everything, to sessions that there are and to Basic.
    set_terms(&world, "--gateway", "Version one.\nBe kind.\n");
    for path in ["/imense/mailbox/look", "/api/v1/vos/imense", "/api/v1/sessions"] {
        let refused = bearer(&world, &token, path).expect(403);
        assert_eq!(refused.problem(), "terms_not_accepted", "{path}");
    }
    assert_eq!(basic(&world, "john").expect(403).problem(), "terms_not_accepted");
    let begun = sign_in(&world, "john", PASSWORD).expect(201).json();
    assert_eq!(begun["owes_terms"], true);
    bearer(&world, &token, "/api/v1/me").expect(200);
    // A browser is led to the page and back.
    let page = |path: &str| {
        let url = format!("{}{path}", world.base());
        let navigates = [
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: document",
            "Accept: text/html",
        ];
        let cookie = format!("Cookie: {cookie}");
        let mut args = vec!["-H", &cookie];
        args.extend(navigates.iter().flat_map(|header| ["-H", header]));
        args.push(&url);
        world.curl(&args)
    };
    let led = page("/factors").expect(303);
    assert_eq!(led.header("location"), Some("/terms?to=%2Ffactors"));
    let shown = page("/terms?to=%2Ffactors").expect(200).text();
    assert!(shown.contains("Be kind."), "{shown}");
    let kept = shown.split("name=\"shown\" value=\"").nth(1).unwrap();
    let kept = kept.split('"').next().unwrap();
    let form = |form: &str| {
        let (url, origin) = (
            format!("{}/terms", world.base()),
            format!("Origin: {}", world.base()),
        );
        let cookie = format!("Cookie: {cookie}");
        world.curl(&["-H", &cookie, "-H", &origin, "--data-binary", form, &url])
    };
    form(&format!("to=%2Ffactors&shown={kept}")).expect(422);
    look().expect(403);
    // Nobody accepts what she was not shown.
    let wrong = accept(&world, &token, Some(&"0".repeat(64))).expect(409);
    assert_eq!(wrong.problem(), "conflict");
    let onward = form(&format!("to=%2Ffactors&shown={kept}&accept=yes"))
        .expect(200)
        .text();
    assert!(onward.contains("url=/factors"), "{onward}");
    look().expect(200);
    page("/factors").expect(200);
    assert_eq!(owed(&world, &token), json!([]));

    // On record, with version and digest of the text.
    let accepted = change_of(&world, "terms.accept").pop().unwrap();
    let digest = countersign::record::Hash::of(b"Version one.\nBe kind.\n").to_string();
    assert_eq!(
        (&accepted["after"]["version"], &accepted["after"]["digest"]),
        (&1.into(), &digest.into())
    );
    let john = world.cli_json("john", &["whoami"])["id"].clone();
    assert_eq!(accepted["person"], john);

    // The administrator owes them as well; the command line accepts.
    let ran = world.cli("admin", &["vo", "list"]);
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    let ran = world.cli("admin", &["terms", "accept"]);
    assert_ne!(ran.code, 0, "nobody can be asked: {}", ran.stdout);
    set(&world, &["terms", "accept", "--yes"]);

    // Changed terms are accepted anew; the same text again is no change.
    let again = world.cli(
        "admin",
        &[
            "terms",
            "set",
            "--gateway",
            "--file",
            world.dir.path().join("terms.txt").to_str().unwrap(),
            "--reason",
            "again",
        ],
    );
    assert_ne!(again.code, 0, "{}", again.stdout);
    set_terms(&world, "--gateway", "Version two.\n");
    assert_eq!(look().expect(403).problem(), "terms_not_accepted");
    assert_eq!(owed(&world, &token)[0]["version"], 2);
    accept(&world, &token, None).expect(200);
    look().expect(200);
    set(&world, &["terms", "accept", "--yes"]);

    // Those of a VO shut that VO and nothing else.
    set_terms(&world, "imense", "Of imense.\n");
    assert_eq!(look().expect(403).problem(), "terms_not_accepted");
    bearer(&world, &token, "/api/v1/sessions").expect(200);
    accept(&world, &token, None).expect(200);
    look().expect(200);
    set(&world, &["terms", "accept", "--yes"]);
    set(
        &world,
        &["terms", "set", "imense", "--none", "--reason", "not needed"],
    );
    world.person("mary", &["scientist"]);
    let mary = world.token("mary");
    assert_eq!(
        owed(&world, &mary)[0]["vo"],
        "countersign",
        "who comes later owes what is in force"
    );
    assert_eq!(
        bearer(&world, &mary, "/imense/mailbox/look")
            .expect(403)
            .problem(),
        "terms_not_accepted"
    );
    world.verify().ok();
}

fn submit(world: &World, path: &str, fields: &[(&str, &str)], cookie: Option<&str>) -> Answer {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", countersign::authenticate::percent(value)))
        .collect();
    let (url, origin) = (
        format!("{}{path}", world.base()),
        format!("Origin: {}", world.base()),
    );
    let (form, cookie) = (pairs.join("&"), cookie.map(|cookie| format!("Cookie: {cookie}")));
    let mut args = vec!["-H", &origin, "--data-binary", &form];
    if let Some(cookie) = &cookie {
        args.extend(["-H", cookie]);
    }
    args.push(&url);
    world.curl(&args)
}

fn open(world: &World, path: &str) -> Answer {
    world.curl(&[&format!("{}{path}", world.base())])
}

/// Asks for an account on the page of the VO.
fn ask(world: &World, username: &str, mail: &str) -> Answer {
    let fields = [
        ("username", username),
        ("name", "Jane Q. Doe"),
        ("mail", mail),
        ("organisation", "St Mary's"),
        ("reason", "I work on images.\r\nAda knows me."),
    ];
    submit(world, "/vo/imense/join", &fields, None)
}

/// The code of the link in a text.
pub fn code_in(text: &str) -> String {
    // Some mails come as quoted-printable (RFC 2045 section 6.7).
    let text = text.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=");
    let code = text.split("?code=").nth(1).expect("a link");
    code.chars().take_while(|c| !c.is_whitespace()).collect()
}

fn text_of(mail: &Value) -> String {
    mail["text"].as_str().unwrap().replace("\r\n", "\n")
}

fn confirm(world: &World, code: &str, new: &str, again: &str) -> Answer {
    let fields = [("code", code), ("new", new), ("again", again)];
    submit(world, "/vo/imense/join/confirm", &fields, None)
}

/// Asks, and confirms with the link in the mail; the `n`th to that address.
fn applied(world: &World, peer: &Peer, (username, mail): (&str, &str), n: usize) {
    ask(world, username, mail).expect(200);
    let code = code_in(&text_of(&mails(peer, mail, n)[n - 1]));
    confirm(world, &code, PASSWORD, PASSWORD).expect(200);
}

#[test]
fn b8_an_account_is_asked_for_confirmed_approved_and_told_by_mail() {
    let peer = Peer::start("smtp");
    let world = mailing(&peer);
    world
        .person("john", &["scientist"])
        .person("ada", &["vo-administrator"]);
    let _tool = mailbox(&world);
    // Off by default; a VO that takes none looks like one that is not there.
    let closed = [open(&world, "/vo/imense/join"), open(&world, "/vo/nowhere/join")].map(|page| {
        assert_eq!(page.status, 404, "{}", page.text());
        page.text().replace(&page.request_id(), "")
    });
    assert_eq!(closed[0], closed[1]);
    ask(&world, "jane", "jane.doe@example.org").expect(404);
    let opened = ["account", "open", "imense", "--reason", "summer school"];
    let page = world.cli_json("ada", &opened)["page"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(page.ends_with("/vo/imense/join"), "{page}");
    assert!(
        open(&world, "/vo/imense/join")
            .expect(200)
            .text()
            .contains("name=\"reason\"")
    );

    // Nothing that a stranger is told depends on who is known here.
    let known = ask(&world, "john", "john@example.org").expect(200);
    let unknown = ask(&world, "jane", "jane.doe@example.org").expect(200);
    assert_eq!(known.text(), unknown.text());
    for (username, mail) in [("Jane Doe", "x@example.org"), ("jane", "nowhere")] {
        ask(&world, username, mail).expect(422);
    }
    let mail = mails(&peer, "jane.doe@example.org", 1);
    let code = code_in(&text_of(&mail[0]));
    let link = format!("/vo/imense/join/confirm?code={code}");
    // Looking uses nothing up, and a poor password neither.
    open(&world, &link).expect(200);
    open(&world, &link).expect(200);
    confirm(&world, &code, PASSWORD, "another one altogether").expect(422);
    confirm(&world, &code, "password1234567", "password1234567").expect(422);
    assert!(
        confirm(&world, &code, PASSWORD, PASSWORD)
            .expect(200)
            .text()
            .contains("is jane.")
    );
    confirm(&world, &code, PASSWORD, PASSWORD).expect(404);
    open(&world, &link).expect(404);
    assert_eq!(
        sign_in(&world, "jane", PASSWORD).expect(403).problem(),
        "account_pending"
    );
    assert_eq!(basic(&world, "jane").expect(403).problem(), "account_pending");

    // The administrators are told, see her in the queue, and decide.
    let told = mails(&peer, "ada@example.org", 1);
    assert!(
        subjects(&told)
            .last()
            .unwrap()
            .contains("`jane` asks for an account"),
        "{told:?}"
    );
    let queue = world.cli_json("ada", &["account", "list", "imense"]);
    let one = &queue["accounts"][0];
    assert_eq!(
        (&one["username"], &one["mail"]),
        (&"jane".into(), &"jane.doe@example.org".into())
    );
    assert!(one["reason"].as_str().unwrap().contains("Ada knows me."), "{one}");
    let ran = world.cli("john", &["account", "list", "imense"]);
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    let before = std::time::Instant::now();
    let approve = ["account", "approve", "imense", "jane", "--reason", "known"];
    world.cli("ada", &approve).ok();
    let told = mails(&peer, "jane.doe@example.org", 2);
    assert!(before.elapsed().as_secs() < 10);
    assert!(subjects(&told)[1].contains("approved"), "{told:?}");
    assert!(text_of(&told[1]).contains("Sign in at:") && text_of(&told[1]).contains("countersign login"));
    sign_in(&world, "jane", PASSWORD).expect(201);
    basic(&world, "jane").expect(200);

    // Refused with a message; nobody lets her in past the decision, but it can be thought over.
    applied(&world, &peer, ("kate", "kate@example.org"), 1);
    let reject = [
        "account",
        "reject",
        "imense",
        "kate",
        "--message",
        "Ask Ada first.",
        "--reason",
        "unknown",
    ];
    world.cli("ada", &reject).ok();
    let told = mails(&peer, "kate@example.org", 2);
    assert!(text_of(&told[1]).contains("Ask Ada first."), "{told:?}");
    assert_eq!(
        sign_in(&world, "kate", PASSWORD).expect(403).problem(),
        "account_rejected"
    );
    let again = ["account", "approve", "imense", "kate", "--reason", "known now"];
    world.cli("ada", &again).ok();
    sign_in(&world, "kate", PASSWORD).expect(201);
    let ran = world.cli("ada", &again);
    assert_ne!(ran.code, 0, "decided: {}", ran.stdout);

    // A name that somebody has gets a number; the reviewer sees who else has the address.
    applied(&world, &peer, ("john", "kate@example.org"), 4);
    let queue = world.cli_json("ada", &["account", "list", "imense"]);
    let one = &queue["accounts"][0];
    assert_eq!(
        (&one["username"], &one["same_mail"]),
        (&"john2".into(), &json!(["kate"]))
    );
    // The queue as a page: a decision takes a reason.
    let ada = cookie(&world, "ada");
    let url = format!("{}/accounts/imense", world.base());
    let page = world
        .curl(&["-H", &format!("Cookie: {ada}"), &url])
        .expect(200)
        .text();
    assert!(page.contains("john2") && !page.contains("<script"), "{page}");
    let id = one["id"].as_str().unwrap();
    let decide = |why: &str| {
        let fields = [("id", id), ("why", why), ("decision", "approve")];
        submit(&world, "/accounts/imense", &fields, Some(&ada))
    };
    decide("").expect(422);
    decide("known").expect(200);
    sign_in(&world, "john2", PASSWORD).expect(201);

    // Nobody fills somebody's mailbox.
    let asked: Vec<u16> = (0..4)
        .map(|_| ask(&world, "spam", "spam@example.org").status)
        .collect();
    assert_eq!(asked, [200, 200, 200, 429]);
    world
        .cli("ada", &["account", "close", "imense", "--reason", "full"])
        .ok();
    ask(&world, "late", "late@example.org").expect(404);
    // No record holds a name, an address or a code.
    let log = world.records().iter().map(Value::to_string).collect::<String>();
    for secret in ["Jane Q. Doe", "jane.doe@example.org", &code, "images"] {
        assert!(!log.contains(secret), "{secret}");
    }
    assert_eq!(
        world.stored(
            "SELECT count(*) FROM enrolment WHERE state <> 'open' AND (mail IS NOT NULL OR code IS NOT NULL)"
        ),
        0
    );
    world.verify().ok();
}

fn invited(world: &World, more: &[&str]) -> Value {
    let words = ["user", "invite", "imense", "--reason", "a test"];
    world.cli_json("admin", &[&words[..], more].concat())
}

fn takes(world: &World, code: &str, username: &str) -> Answer {
    let fields = [
        ("code", code),
        ("username", username),
        ("name", "Jane Doe"),
        ("new", PASSWORD),
        ("again", PASSWORD),
    ];
    submit(world, "/invitation", &fields, None)
}

#[test]
fn an_invitation_is_good_once_for_a_while_and_until_it_is_taken_back() {
    let peer = Peer::start("smtp");
    let world = mailing(&peer);
    world
        .person("john", &["scientist"])
        .person("ada", &["vo-administrator"]);
    let made = invited(&world, &[]);
    let code = code_in(made["link"].as_str().unwrap());
    let page = |code: &str| open(&world, &format!("/invitation?code={code}"));
    page(&code).expect(200);
    // Names are the taker's choice; one that somebody has is not to be had.
    takes(&world, &code, "john").expect(409);
    takes(&world, &code, "No Name").expect(422);
    takes(&world, &code, "jane").expect(200);
    sign_in(&world, "jane", PASSWORD).expect(201);
    let shown = world.cli_json("admin", &["user", "show", "imense", "jane"]);
    assert_eq!(
        (&shown["name"], &shown["roles"][0]["role"]),
        (&"Jane Doe".into(), &"scientist".into())
    );
    takes(&world, &code, "jane2").expect(404);
    page(&code).expect(404);

    let code = code_in(
        invited(&world, &["--role", "vo-administrator"])["link"]
            .as_str()
            .unwrap(),
    );
    let listed = world.cli_json("admin", &["user", "invitations", "imense"]);
    let id = listed["invitations"][0]["id"].as_str().unwrap().to_owned();
    world
        .cli(
            "admin",
            &["user", "uninvite", "imense", &id, "--reason", "a slip"],
        )
        .ok();
    takes(&world, &code, "mary").expect(404);

    let code = code_in(invited(&world, &[])["link"].as_str().unwrap());
    world.write_store("UPDATE enrolment SET expires_at = 1 WHERE state = 'open'");
    takes(&world, &code, "mary").expect(404);

    // By mail, where there is an address: then the administrator does not see the link.
    let made = invited(&world, &["--mail", "mary@example.org"]);
    assert!(made.get("link").is_none(), "{made}");
    let code = code_in(&text_of(&mails(&peer, "mary@example.org", 1)[0]));
    takes(&world, &code, "mary").expect(200);
    let shown = world.cli_json("admin", &["user", "show", "imense", "mary"]);
    assert_eq!(shown["mail"], "mary@example.org");

    // It is worth what its maker is.
    let words = ["user", "invite", "imense", "--reason", "a test"];
    let made = world.cli_json("ada", &words);
    let code = code_in(made["link"].as_str().unwrap());
    page(&code).expect(200);
    set(
        &world,
        &["user", "suspend", "imense", "ada", "--reason", "a test"],
    );
    takes(&world, &code, "paul").expect(404);

    let used = change_of(&world, "invitation.use");
    assert_eq!(used.len(), 2);
    let log = world.records().iter().map(Value::to_string).collect::<String>();
    assert!(!log.contains(&code) && !log.contains("mary@example.org"));
    world.verify().ok();
}
