//! Feature rows A: passwords, second factors and assurance.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use serde_json::{Value, json};

use crate::world::{Answer, PASSWORD, World, until};

/// An authenticator app: it shows a code for each 30 s (RFC 6238).
pub struct Authenticator {
    secret: Vec<u8>,
    last: i64,
}

fn step() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() / 30
}

impl Authenticator {
    /// Takes the secret of an offer.
    pub fn of(offer: &Value) -> Self {
        let secret = offer["secret"].as_str().unwrap();
        assert!(
            offer["uri"]
                .as_str()
                .unwrap()
                .contains(&format!("secret={secret}&"))
        );
        Self {
            secret: BASE32_NOPAD.decode(secret.as_bytes()).unwrap(),
            last: 0,
        }
    }

    /// A code that was not shown before; one step ahead is taken, so that only every third has to be waited for.
    pub fn code(&mut self) -> String {
        let wanted = step().max(self.last + 1);
        let start = Instant::now();
        while wanted > step() + 1 {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the clock stands still"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        self.last = wanted;
        self.shown(wanted)
    }
}

/// Six digits that the authenticator does not show now.
fn wrong(authenticator: &Authenticator) -> String {
    let now = step();
    let near: Vec<String> = (now - 3..=now + 3)
        .map(|step| authenticator.shown(step))
        .collect();
    (0..10)
        .map(|code| format!("{code:06}"))
        .find(|code| !near.contains(code))
        .unwrap()
}

impl Authenticator {
    fn shown(&self, step: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.secret);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let at = usize::from(tag[19] & 0x0f);
        let number = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", number % 1_000_000)
    }
}

fn ask(world: &World, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let (url, bearer) = (
        format!("{}{path}", world.base()),
        format!("Authorization: Bearer {token}"),
    );
    let mut args = vec!["-X", method];
    if !token.is_empty() {
        args.extend(["-H", &bearer]);
    }
    let text = body.map(|body| body.to_string());
    if let Some(text) = &text {
        args.extend(["-H", "Content-Type: application/json", "--data-binary", text]);
    }
    args.push(&url);
    world.curl(&args)
}

fn post(world: &World, token: &str, path: &str, body: Value) -> Answer {
    ask(world, token, "POST", path, Some(body))
}

fn sign_in(world: &World, user: &str, password: &str, code: Option<&str>) -> Answer {
    let mut body = json!({ "username": user, "password": password });
    if let Some(code) = code {
        body["code"] = code.into();
    }
    post(world, "", "/api/v1/sessions", body)
}

/// Binds an authenticator in the session of `token`; with the recovery codes.
pub fn bind(world: &World, token: &str) -> (Authenticator, Vec<String>) {
    let offer = post(
        world,
        token,
        "/api/v1/me/factors/offer",
        json!({ "password": PASSWORD }),
    )
    .expect(200);
    let mut authenticator = Authenticator::of(&offer.json());
    let add = json!({ "binding": offer.json()["binding"], "code": authenticator.code(), "name": "phone" });
    let added = post(world, token, "/api/v1/me/factors", add).expect(201).json();
    let codes = added["recovery_codes"].as_array().unwrap();
    let codes = codes
        .iter()
        .map(|code| code.as_str().unwrap().to_owned())
        .collect();
    (authenticator, codes)
}

/// The id that records have of somebody.
fn listed_person(world: &World, user: &str) -> Value {
    world.cli_json("admin", &["user", "show", "imense", user])["id"].clone()
}

fn file(world: &World, name: &str, text: &str) -> String {
    let file = world.dir.path().join(name);
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A tool whose tasks ask for little and for much; scientists may do all of it.
fn wrapped(world: &mut World, manifest: &str) {
    let (socket, _) = world.sample_tool();
    let url = format!("unix:{}", socket.display());
    let manifest = file(world, "lab.toml", manifest);
    world
        .cli("admin", &["upstream", "allow", "imense", "lab", &url])
        .ok();
    world.cli("admin", &["tool", "add", "imense", &manifest]).ok();
}

const LAB: &str = "[tool]\nname = \"lab\"\nupstream = \"lab\"\ndelegation = \"none\"\nbasic = true\n
[[task]]\nname = \"look\"\nmatch = [\"GET /jobs\"]\nkind = \"read\"\n
[[task]]\nname = \"careful\"\nmatch = [\"GET /\"]\nkind = \"read\"\nmin_assurance = \"aal2\"\n
[[task]]\nname = \"conditional\"\nmatch = [\"GET /jobs/{job:int}\"]\nkind = \"read\"\n";

const CHALLENGE: &str = "Bearer error=\"insufficient_user_authentication\", acr_values=\"aal2\"";

#[test]
fn a9_with_a_factor_a_password_alone_opens_nothing_by_any_way() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    wrapped(&mut world, LAB);
    world
        .cli("admin", &["grant", "add", "imense", "scientist", "lab", "look"])
        .ok();
    let other = sign_in(&world, "john", PASSWORD, None).expect(201).json();
    assert_eq!((&other["acr"], &other["amr"]), (&json!("aal1"), &json!(["pwd"])));
    let basic = format!("john:{PASSWORD}");
    let jobs = format!("{}/imense/lab/jobs", world.base());
    world.curl(&["--user", &basic, &jobs]).expect(200);

    let john = world.token("john");
    let (mut authenticator, codes) = bind(&world, &john);
    assert_eq!(codes.len(), 10);
    // What had begun by the password alone has ended, but for the session in which it was bound.
    ask(
        &world,
        other["token"].as_str().unwrap(),
        "GET",
        "/api/v1/me",
        None,
    )
    .expect(401);
    ask(&world, &john, "GET", "/api/v1/me", None).expect(200);
    assert_eq!(
        world.curl(&["--user", &basic, &jobs]).expect(401).problem(),
        "second_factor_required"
    );
    let alone = sign_in(&world, "john", PASSWORD, None).expect(401);
    assert_eq!(alone.problem(), "second_factor_required");
    // A wrong code is answered as a wrong password is.
    let bad = wrong(&authenticator);
    let code = sign_in(&world, "john", PASSWORD, Some(&bad)).expect(401);
    let password = sign_in(&world, "john", "a noisy walk along the river", Some(&bad)).expect(401);
    assert_eq!(code.json()["detail"], password.json()["detail"]);
    assert_eq!(code.problem(), "wrong_credential");
    // The right one opens, once.
    let good = authenticator.code();
    let opened = sign_in(&world, "john", PASSWORD, Some(&good)).expect(201);
    assert_eq!(opened.json()["acr"], "aal2");
    assert_eq!(opened.json()["amr"], json!(["pwd", "otp", "mfa"]));
    assert_eq!(
        sign_in(&world, "john", PASSWORD, Some(&good))
            .expect(401)
            .problem(),
        "wrong_credential"
    );
    // A recovery code does as well, once; the command line gives it from a file.
    let (base, ca) = (world.base(), world.ca());
    let (pass, code_file) = (file(&world, "pass", PASSWORD), file(&world, "code", &codes[0]));
    let login = [
        "login",
        "--gateway",
        &base,
        "--ca",
        &ca,
        "--user",
        "john",
        "--password-file",
        &pass,
    ];
    let refused = world.cli("john", &login);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("--code-file"), "{refused:?}");
    let with_code = [&login[..], &["--code-file", &code_file]].concat();
    world.cli("john", &with_code).ok();
    assert_eq!(world.cli("john", &with_code).code, 3);
    let listed = world.cli_json("john", &["factor", "list"]);
    assert_eq!(listed["recovery_codes_left"], 9);
    assert_eq!(listed["factors"][0]["name"], "phone");
    let sessions = world.cli("john", &["session", "list"]).ok().stdout;
    assert!(sessions.contains("aal2 (pwd, otp, mfa)"), "{sessions}");

    // All of it is on record, and nothing of the secrets, there or in the store.
    let records = world.records();
    let logins: Vec<&Value> = records.iter().map(|record| &record["event"]["login"]).collect();
    let of = |request: String| {
        logins
            .iter()
            .find(|login| login["request"] == request.as_str())
            .unwrap()
    };
    assert_eq!(of(alone.request_id())["result"], "code_needed");
    assert_eq!(of(code.request_id())["result"], "wrong_code");
    assert_eq!(of(password.request_id())["result"], "wrong");
    assert_eq!(of(opened.request_id())["methods"], json!(["pwd", "otp", "mfa"]));
    let changes = records.iter().map(|record| &record["event"]["change"]["change"]);
    let actions: Vec<&str> = changes
        .filter_map(|change| change["action"].as_str())
        .filter(|action| action.starts_with("factor."))
        .collect();
    assert_eq!(actions, ["factor.add", "factor.use_recovery_code"]);
    let secret = BASE32_NOPAD.encode(&authenticator.secret);
    let raw = data_encoding::HEXUPPER.encode(&authenticator.secret);
    let (log, dump) = (format!("{records:?}"), world.dump());
    for told in [&log, &dump] {
        assert!(!told.contains(&secret) && !told.to_uppercase().contains(&raw));
        assert!(!told.contains(&codes[1]) && !told.contains(&codes[1].replace('-', "")));
    }
    let told = until("the mails about it", || {
        let folder = fs::read_dir(world.data().join("outbox")).ok()?;
        let mails: Vec<String> = folder
            .map(|mail| fs::read_to_string(mail.unwrap().path()).unwrap_or_default())
            .filter(|mail| mail.contains("john@example.org"))
            .collect();
        (mails.len() >= 2).then_some(mails.concat())
    });
    assert!(told.contains("a second factor was added"), "{told}");
    assert!(told.contains("a recovery code of"), "{told}");
}

#[test]
fn a9_a_task_that_asks_for_two_factors_challenges_and_is_done_after_the_step_up() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    wrapped(&mut world, LAB);
    for grant in [
        &["careful", "look"][..],
        &[
            "conditional",
            "--when",
            "context.session.acr == \"aal2\" && context.session.amr.contains(\"otp\")",
        ],
    ] {
        let args = [&["grant", "add", "imense", "scientist", "lab"][..], grant].concat();
        world.cli("admin", &args).ok();
    }
    let look = |token: &str, path: &str| ask(&world, token, "GET", &format!("/imense/lab{path}"), None);
    let old = world.token("john");
    look(&old, "/jobs").expect(200);
    let mut refused = Vec::new();
    for path in ["/", "/jobs/1"] {
        let answer = look(&old, path).expect(401);
        assert_eq!(answer.header("www-authenticate"), Some(CHALLENGE));
        assert_eq!(answer.problem(), "step_up_required");
        assert_eq!(answer.json()["acr_values"], "aal2");
        refused.push(answer.request_id());
    }
    // Who has no factor cannot step up, and is told what to do.
    let none = post(
        &world,
        &old,
        "/api/v1/sessions/current/step-up",
        json!({ "code": "123456" }),
    )
    .expect(422);
    assert!(none.text().contains("countersign factor add"), "{}", none.text());
    let (mut authenticator, codes) = bind(&world, &old);
    look(&old, "/").expect(401);
    let bad = wrong(&authenticator);
    post(
        &world,
        &old,
        "/api/v1/sessions/current/step-up",
        json!({ "code": bad }),
    )
    .expect(422);
    look(&old, "/jobs").expect(200);
    let code = authenticator.code();
    let raised = post(
        &world,
        &old,
        "/api/v1/sessions/current/step-up",
        json!({ "code": code }),
    )
    .expect(201);
    assert_eq!(raised.json()["acr"], "aal2");
    let new = raised.json()["token"].as_str().unwrap().to_owned();
    // The old session has ended; the same code raises nothing again.
    assert_eq!(look(&old, "/jobs").expect(401).problem(), "wrong_credential");
    let permitted = look(&new, "/").expect(200).request_id();
    look(&new, "/jobs/1").expect(404);
    post(
        &world,
        &new,
        "/api/v1/sessions/current/step-up",
        json!({ "code": code }),
    )
    .expect(422);
    // Where the role does not allow it, no factor helps.
    let admin = world.token("admin");
    assert_eq!(look(&admin, "/").expect(403).problem(), "no_grant");

    let explained = world.cli_json("admin", &["explain", &refused[0]]);
    assert_eq!(
        (&explained["reason"], &explained["acr"]),
        (&json!("step_up_required"), &json!("aal1"))
    );
    let explained = world.cli_json("admin", &["explain", &permitted]);
    assert_eq!(
        (&explained["acr"], &explained["amr"]),
        (&json!("aal2"), &json!(["pwd", "otp", "mfa"]))
    );
    let records = world.records();
    for (request, acr) in refused
        .iter()
        .map(|id| (id, "aal1"))
        .chain([(&permitted, "aal2")])
    {
        let entry = records.iter().find_map(|record| {
            let event = &record["event"];
            [&event["refused"], &event["intent"]]
                .into_iter()
                .find(|entry| entry["request"] == request.as_str())
        });
        assert_eq!(entry.unwrap()["subject"]["acr"], acr, "{entry:?}");
    }
    let ended = records.iter().map(|record| &record["event"]["session_ended"]);
    assert!(ended.into_iter().any(|ended| ended["reason"] == "step_up"));
    // The command line shows what to do, and does it.
    let (base, ca) = (world.base(), world.ca());
    let (pass, code) = (file(&world, "pass", PASSWORD), file(&world, "code", &codes[0]));
    let login = [
        "login",
        "--gateway",
        &base,
        "--ca",
        &ca,
        "--user",
        "john",
        "--password-file",
        &pass,
        "--code-file",
        &code,
    ];
    world.cli("john", &login).ok();
    let code = file(&world, "code", &codes[1]);
    world
        .cli("john", &["session", "step-up", "--code-file", &code])
        .ok();
    look(&world.token("john"), "/").expect(200);
}

#[test]
fn a4_fourteen_characters_are_too_few_alone_and_eight_are_enough_beside_a_factor() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let change = |token: &str, current: Option<&str>, new: &str| {
        let mut body = json!({ "new": new });
        if let Some(current) = current {
            body["current"] = current.into();
        }
        post(&world, token, "/api/v1/me/password", body)
    };
    let john = world.token("john");
    let refused = change(&john, Some(PASSWORD), "kqwvzhrtpxngbm").expect(422);
    assert_eq!(refused.problem(), "weak_password");
    assert_eq!(refused.json()["reason"], "too_short");
    let (mut authenticator, codes) = bind(&world, &john);
    let refused = change(&john, Some(PASSWORD), "kqwvzhr").expect(422);
    assert!(refused.text().contains("at least 8"), "{}", refused.text());
    change(&john, Some(PASSWORD), "kqwvzhrt").expect(204);
    let opened = sign_in(&world, "john", "kqwvzhrt", Some(&codes[0])).expect(201);
    assert_eq!(opened.json()["must_change"], false);
    // Without the factor it is too short: the next sign-in opens nothing but its change.
    let factors = ask(&world, &john, "GET", "/api/v1/me/factors", None).expect(200);
    let id = factors.json()["factors"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/me/factors/{id}/remove");
    let bad = wrong(&authenticator);
    post(&world, &john, &path, json!({ "code": bad })).expect(422);
    post(&world, &john, &path, json!({ "code": authenticator.code() })).expect(204);
    let opened = sign_in(&world, "john", "kqwvzhrt", None).expect(201).json();
    assert_eq!(opened["must_change"], true);
    let token = opened["token"].as_str().unwrap();
    let refused = ask(&world, token, "GET", "/api/v1/me/factors", None).expect(403);
    assert_eq!(refused.problem(), "password_change_required");
    change(token, None, "kqwvzhrq").expect(422);
    change(token, None, "another quiet walk by the sea").expect(204);
    let opened = sign_in(&world, "john", "another quiet walk by the sea", None).expect(201);
    assert_eq!(opened.json()["must_change"], false);
    // The recovery codes went with the factor.
    let left = ask(
        &world,
        opened.json()["token"].as_str().unwrap(),
        "GET",
        "/api/v1/me/factors",
        None,
    );
    assert_eq!(
        left.expect(200).json(),
        json!({ "factors": [], "recovery_codes_left": 0 })
    );
}

#[test]
fn a3_a_context_word_and_a_listed_password_are_refused_and_a_phrase_is_accepted() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    for (new, reason) in [
        ("Countersign2026", "context"),
        ("passwordpassword", "common"),
        ("imense2026imense", "context"),
    ] {
        let body = json!({ "current": PASSWORD, "new": new });
        let refused = post(&world, &world.token("john"), "/api/v1/me/password", body).expect(422);
        assert_eq!(refused.json()["reason"], reason, "{new}");
    }
    let body = json!({ "current": PASSWORD, "new": "violetharbourtuesday" });
    post(&world, &world.token("john"), "/api/v1/me/password", body).expect(204);
}

#[test]
fn a5_a_password_of_400_days_is_still_good() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let before = world.stored("SELECT min(set_at) FROM password");
    world.write_store("UPDATE password SET set_at = set_at - 34560000000000");
    assert_eq!(
        world.stored("SELECT min(set_at) FROM password"),
        before - 400 * 86_400_000_000
    );
    let opened = sign_in(&world, "john", PASSWORD, None).expect(201);
    assert_eq!(opened.json()["must_change"], false);
}

#[test]
fn a10_each_session_says_how_sure_it_is_and_administrators_can_be_asked_for_more() {
    let mut world = World::initialised();
    let settings = world.data().join("countersign.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let text = text.replace(
        "[authenticate]\n",
        "[authenticate]\nrequire_mfa_for_admin = true\n",
    );
    assert!(text.contains("require_mfa_for_admin"), "{text}");
    fs::write(&settings, text).unwrap();
    world.serve();
    world.admin();
    // What is everybody's own is open, so that a factor can be added.
    let admin = world.token("admin");
    let me = ask(&world, &admin, "GET", "/api/v1/me", None).expect(200).json();
    assert_eq!((&me["acr"], &me["amr"]), (&json!("aal1"), &json!(["pwd"])));
    for (method, path) in [
        ("GET", "/api/v1/vos/imense/users"),
        ("GET", "/api/v1/administrators"),
    ] {
        let refused = ask(&world, &admin, method, path, None).expect(401);
        assert_eq!(refused.problem(), "step_up_required", "{path}");
        assert_eq!(refused.header("www-authenticate"), Some(CHALLENGE));
    }
    let (mut authenticator, _) = bind(&world, &admin);
    let code = authenticator.code();
    let raised = post(
        &world,
        &admin,
        "/api/v1/sessions/current/step-up",
        json!({ "code": code }),
    )
    .expect(201);
    let token = raised.json()["token"].as_str().unwrap().to_owned();
    ask(&world, &token, "GET", "/api/v1/vos/imense/users", None).expect(200);
    let sessions = ask(&world, &token, "GET", "/api/v1/sessions", None)
        .expect(200)
        .json();
    let this = sessions["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|session| session["this"] == true);
    assert_eq!(this.unwrap()["acr"], "aal2");
    assert_eq!(this.unwrap()["amr"], json!(["pwd", "otp", "mfa"]));
}

#[test]
fn a9_a_hundred_wrong_codes_are_the_last_which_is_told_and_on_record() {
    let mut world = World::initialised();
    let settings = world.data().join("countersign.toml");
    let text = fs::read_to_string(&settings).unwrap();
    // So that the test need not wait.
    let text = text.replace("[authenticate]\n", "[authenticate]\naccount_burst = 1000\n");
    assert!(text.contains("account_burst = 1000"), "{text}");
    fs::write(&settings, text).unwrap();
    world.serve();
    world.admin().person("john", &["scientist"]);
    let john = world.token("john");
    let (mut authenticator, codes) = bind(&world, &john);
    let show = |world: &World, code: &str| {
        let body = json!({ "code": code });
        post(world, &john, "/api/v1/sessions/current/step-up", body)
    };
    let noted = |world: &World, actions: &[&str]| {
        let records = world.records();
        let changes = records.iter().map(|record| &record["event"]["change"]["change"]);
        let noted: Vec<&str> = changes
            .filter_map(|change| change["action"].as_str())
            .filter(|action| action.ends_with("_codes"))
            .collect();
        (noted == actions).then_some(())
    };
    let (note, stop) = ("factor.note_wrong_codes", "factor.stop_codes");
    for _ in 0..10 {
        show(&world, &wrong(&authenticator)).expect(422);
    }
    until("the record of ten", || noted(&world, &[note]));
    for _ in 10..99 {
        show(&world, &wrong(&authenticator)).expect(422);
    }
    // Not even a restart begins the count anew.
    world.stop();
    world.serve();
    show(&world, &wrong(&authenticator)).expect(422);
    let code = authenticator.code();
    let stopped = show(&world, &code).expect(429);
    assert!(stopped.text().contains("recovery code"), "{}", stopped.text());
    let signing = sign_in(&world, "john", PASSWORD, Some(&code)).expect(429);
    until("the record of the end", || noted(&world, &[note, stop]));
    let login = world
        .records()
        .into_iter()
        .map(|record| record["event"]["login"].clone())
        .find(|login| login["request"] == signing.request_id().as_str());
    assert_eq!(login.unwrap()["result"], "stopped");
    until("the mails to john", || {
        let folder = fs::read_dir(world.data().join("outbox")).ok()?;
        let mails: String = folder
            .map(|mail| fs::read_to_string(mail.unwrap().path()).unwrap_or_default())
            .filter(|mail| mail.contains("john@example.org"))
            .collect();
        // Lines of a header are folded, those of a text broken.
        let mails = mails.replace("\r\n ", " ").replace("=\r\n", "");
        let told = ["somebody tries codes of", "is taken any more"];
        told.iter().all(|told| mails.contains(told)).then_some(())
    });
    // A recovery code still opens the account, and ends it.
    sign_in(&world, "john", PASSWORD, Some(&codes[0])).expect(201);
    sign_in(&world, "john", PASSWORD, Some(&authenticator.code())).expect(201);
}

#[test]
fn a9_an_administrator_takes_factors_away_with_a_reason_and_nobody_else_does() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let john = world.token("john");
    bind(&world, &john);
    let reset = |who: &str, reason: &str| {
        world.cli(
            who,
            &["user", "reset-factors", "imense", "john", "--reason", reason],
        )
    };
    assert_eq!(reset("mary", "curious").code, 3);
    assert_eq!(reset("admin", " ").code, 1);
    assert_eq!(
        sign_in(&world, "john", PASSWORD, None).expect(401).problem(),
        "second_factor_required"
    );
    reset("admin", "lost his phone").ok();
    ask(&world, &john, "GET", "/api/v1/me", None).expect(401);
    assert_eq!(
        sign_in(&world, "john", PASSWORD, None).expect(201).json()["acr"],
        "aal1"
    );
    assert_eq!(reset("admin", "again").code, 1);
    let records = world.records();
    let change = records
        .iter()
        .map(|record| &record["event"]["change"])
        .find(|event| event["change"]["action"] == "person.factor.reset")
        .unwrap();
    assert_eq!(change["reason"], "lost his phone");
    assert_eq!(change["change"]["before"], json!({ "factors": 1 }));
    until("the mail to john", || {
        let folder = fs::read_dir(world.data().join("outbox")).ok()?;
        let told = folder
            .map(|mail| fs::read_to_string(mail.unwrap().path()).unwrap_or_default())
            .any(|mail| mail.contains("john@example.org") && mail.contains("were taken away"));
        told.then_some(())
    });
    // The command line does it all, also where there is no terminal.
    let pass = file(&world, "pass", PASSWORD);
    let offer = world.cli_json("mary", &["factor", "add", "--password-file", &pass]);
    let mut authenticator = Authenticator::of(&offer);
    let binding = file(&world, "binding", offer["binding"].as_str().unwrap());
    let code = file(&world, "code", &authenticator.code());
    let confirm = [
        "factor",
        "confirm",
        "--binding-file",
        &binding,
        "--code-file",
        &code,
        "--name",
        "phone",
    ];
    let added = world.cli_json("mary", &confirm);
    assert_eq!(added["recovery_codes"].as_array().unwrap().len(), 10);
    assert_eq!(world.cli("mary", &confirm).code, 1, "an offer is taken up once");
    let listed = world.cli("mary", &["factor", "list"]).ok().stdout;
    assert!(
        listed.contains("phone") && listed.contains("Recovery codes left: 10"),
        "{listed}"
    );
    let code = file(&world, "code", added["recovery_codes"][0].as_str().unwrap());
    let renewed = world.cli_json("mary", &["factor", "recovery-codes", "--code-file", &code]);
    let code = file(&world, "code", renewed["recovery_codes"][9].as_str().unwrap());
    let id = added["id"].as_str().unwrap();
    world
        .cli("mary", &["factor", "remove", id, "--code-file", &code])
        .ok();
    // Both uses of a recovery code are on record before what they allowed, and told by mail.
    let records = world.records();
    let changes = records.iter().map(|record| &record["event"]["change"]["change"]);
    let actions: Vec<&str> = changes
        .filter(|change| change["person"] == listed_person(&world, "mary"))
        .filter_map(|change| change["action"].as_str())
        .filter(|action| action.starts_with("factor."))
        .collect();
    let used = "factor.use_recovery_code";
    let renewed = "factor.renew_recovery_codes";
    assert_eq!(actions, ["factor.add", used, renewed, used, "factor.remove"]);
    until("the mails to mary", || {
        let folder = fs::read_dir(world.data().join("outbox")).ok()?;
        let told = folder
            .map(|mail| fs::read_to_string(mail.unwrap().path()).unwrap_or_default())
            .filter(|mail| mail.contains("mary@example.org") && mail.contains("a recovery code of"))
            .count();
        (told >= 2).then_some(())
    });
    // The session ended with the last factor.
    assert_eq!(world.cli("mary", &["factor", "list"]).code, 3);
    world.login("mary", PASSWORD).ok();
    assert_eq!(world.cli_json("mary", &["factor", "list"])["factors"], json!([]));
    // Whoever operates the machine helps the administrator who lost hers, codes and all.
    let admin = world.token("admin");
    bind(&world, &admin);
    assert_eq!(
        sign_in(&world, "admin", PASSWORD, None).expect(401).problem(),
        "second_factor_required"
    );
    let data = world.data();
    let args = [
        "admin",
        "recover",
        "--data",
        data.to_str().unwrap(),
        "--user",
        "admin",
        "--json",
    ];
    let recovered = world.cli("admin", &args).ok().json();
    let one_time = recovered["one_time_password"].as_str().unwrap();
    assert_eq!(
        sign_in(&world, "admin", one_time, None).expect(201).json()["must_change"],
        true
    );
}

#[test]
fn a9_sealed_a_gateway_lets_nobody_in_who_has_a_factor_and_a_changed_key_opens_as_before() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let (mut authenticator, codes) = bind(&world, &world.token("john"));
    world.stop();
    let settings = fs::read_to_string(world.data().join("countersign.toml")).unwrap();
    let key = settings
        .lines()
        .find_map(|line| line.strip_prefix("key_file = "))
        .unwrap();
    let key = world.data().join(key.trim_matches('"'));
    fs::rename(&key, key.with_extension("aside")).unwrap();
    world.serve();
    for code in [None, Some(&codes[0])] {
        let refused = sign_in(&world, "john", PASSWORD, code.map(String::as_str)).expect(503);
        assert_eq!(refused.problem(), "sealed");
        assert!(
            refused.text().contains("no code can be checked"),
            "{}",
            refused.text()
        );
    }
    sign_in(&world, "admin", PASSWORD, None).expect(201);
    let john = world.token("john");
    let offer = post(
        &world,
        &john,
        "/api/v1/me/factors/offer",
        json!({ "password": PASSWORD }),
    );
    assert!(matches!(offer.status, 401 | 503), "{}", offer.text());
    world.stop();
    fs::rename(key.with_extension("aside"), &key).unwrap();
    let data = world.data();
    let rotate = [
        "seal",
        "rotate",
        "--data",
        data.to_str().unwrap(),
        "--reason",
        "yearly",
    ];
    world.cli("admin", &rotate).ok();
    world.serve();
    let opened = sign_in(&world, "john", PASSWORD, Some(&authenticator.code())).expect(201);
    assert_eq!(opened.json()["acr"], "aal2");
}

/// A browser with a jar for its cookies.
struct Browser<'a> {
    world: &'a World,
    jar: String,
}

impl<'a> Browser<'a> {
    fn new(world: &'a World) -> Self {
        let jar = world.dir.path().join("jar").to_str().unwrap().to_owned();
        Self { world, jar }
    }

    fn open(&self, path: &str) -> Answer {
        let url = match path.strip_prefix("https://") {
            Some(_) => path.to_owned(),
            None => format!("{}{path}", self.world.base()),
        };
        let html = "Accept: text/html";
        let navigates = "Sec-Fetch-Mode: navigate";
        let own = "Sec-Fetch-Site: none";
        self.world.curl(&[
            "-b", &self.jar, "-c", &self.jar, "-H", html, "-H", navigates, "-H", own, &url,
        ])
    }

    fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let url = format!("{}{path}", self.world.base());
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut args = vec![
            "-b",
            &self.jar,
            "-c",
            &self.jar,
            "-H",
            "Sec-Fetch-Site: same-origin",
        ];
        args.extend(["-X", "POST", "-H", "Accept: text/html", "--data", ""]);
        for field in &fields {
            args.extend(["--data-urlencode", field]);
        }
        args.push(&url);
        self.world.curl(&args)
    }
}

/// Scheme, host and port of an address.
fn origin(address: &str) -> &str {
    let host = address.find("//").unwrap() + 2;
    let path = address[host..].find('/').unwrap();
    &address[..host + path]
}

/// The value of a field of a form.
fn value<'a>(page: &'a str, name: &str) -> &'a str {
    let start = format!("name=\"{name}\" value=\"");
    let at = page.find(&start).unwrap_or_else(|| panic!("no {name} in {page}")) + start.len();
    page[at..].split('"').next().unwrap()
}

#[test]
fn a9_in_a_browser_the_code_comes_after_the_password_and_a_page_that_asks_for_more_asks_for_it() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let manifest = LAB.replace("basic = true\n", "basic = true\nhosts = [\"lab.gw.localhost\"]\n");
    wrapped(&mut world, &manifest);
    world
        .cli(
            "admin",
            &["grant", "add", "imense", "scientist", "lab", "look", "careful"],
        )
        .ok();
    let browser = Browser::new(&world);
    let login = [("username", "john"), ("password", PASSWORD)];
    assert_eq!(
        browser.submit("/login", &login).expect(303).header("location"),
        Some("/")
    );
    // A factor is added on the pages.
    let page = browser.open("/factors").expect(200).text();
    assert!(page.contains("Add an authenticator"), "{page}");
    let page = browser
        .submit("/factors/offer", &[("password", "wrong")])
        .expect(422)
        .text();
    assert!(page.contains("The present password is not right"), "{page}");
    let page = browser
        .submit("/factors/offer", &[("password", PASSWORD)])
        .expect(200)
        .text();
    assert!(page.contains("<svg class=\"qr\""), "{page}");
    let secret = value(&page, "secret").to_owned();
    let uri = value(&page, "uri").replace("&amp;", "&").replace("&#38;", "&");
    let mut authenticator = Authenticator::of(&json!({ "secret": secret, "uri": uri }));
    let binding = value(&page, "binding").to_owned();
    let bad = wrong(&authenticator);
    let fields = [
        ("secret", secret.as_str()),
        ("uri", &uri),
        ("binding", &binding),
        ("name", "phone"),
    ];
    let page = browser
        .submit("/factors", &[&fields[..], &[("code", bad.as_str())]].concat())
        .expect(422)
        .text();
    assert_eq!(
        value(&page, "binding"),
        binding,
        "a wrong code is not the end of the offer"
    );
    let code = authenticator.code();
    let page = browser
        .submit("/factors", &[&fields[..], &[("code", code.as_str())]].concat())
        .expect(200)
        .text();
    assert_eq!(page.matches("<li><code>").count(), 10, "{page}");
    let recovery = page
        .split("<li><code>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap()
        .to_owned();
    assert!(
        browser
            .open("/factors")
            .expect(200)
            .text()
            .contains("10 are left")
    );

    // A page of a tool that asks for more leads over the code and back.
    let port = world.port();
    let tool = format!("https://lab.gw.localhost:{port}/");
    let mut at = tool.clone();
    let mut seen = Vec::new();
    for _ in 0..6 {
        let answer = browser.open(&at);
        let Some(next) = answer.header("location") else {
            break;
        };
        at = match next.starts_with('/') {
            true => format!("{}{next}", origin(&at)),
            false => next.to_owned(),
        };
        seen.push(at.clone());
    }
    assert!(at.contains("/step-up?to="), "{seen:?}");
    let page = browser.open(&at).expect(200).text();
    let to = value(&page, "to").replace("&amp;", "&").replace("&#38;", "&");
    let bad = wrong(&authenticator);
    browser
        .submit("/step-up", &[("to", &to), ("code", &bad)])
        .expect(422);
    let code = authenticator.code();
    let page = browser
        .submit("/step-up", &[("to", &to), ("code", &code)])
        .expect(200)
        .text();
    assert!(page.contains("Go on"), "{page}");
    at = format!("{}{to}", world.base());
    let mut last = browser.open(&at);
    for _ in 0..4 {
        let Some(next) = last.header("location").map(str::to_owned) else {
            break;
        };
        at = match next.starts_with('/') {
            true => format!("{}{next}", origin(&at)),
            false => next,
        };
        last = browser.open(&at);
    }
    last.expect(200);

    // Signing in anew: the password, then the code on a page of its own.
    browser.submit("/.countersign/logout", &[]).expect(303);
    let page = browser.submit("/login", &login).expect(200).text();
    assert!(
        page.contains("autocomplete=\"one-time-code\"") && !page.contains(PASSWORD),
        "{page}"
    );
    assert_eq!(browser.open("/").expect(303).header("location"), Some("/login"));
    let ticket = value(&page, "ticket").to_owned();
    let bad = wrong(&authenticator);
    let page = browser
        .submit("/login/code", &[("ticket", &ticket), ("code", &bad)])
        .expect(401)
        .text();
    assert_eq!(value(&page, "ticket"), ticket);
    let made_up = browser
        .submit("/login/code", &[("ticket", "AAAA"), ("code", &recovery)])
        .expect(401);
    assert!(made_up.text().contains("Sign in again"), "{}", made_up.text());
    let opened = browser
        .submit("/login/code", &[("ticket", &ticket), ("code", &recovery)])
        .expect(303);
    assert_eq!(opened.header("location"), Some("/"));
    let home = browser.open("/").expect(200).text();
    assert!(home.contains("<span class=\"tag\">mfa</span>"), "{home}");
    // And away again.
    let page = browser.open("/factors").expect(200).text();
    let factor = value(&page, "factor").to_owned();
    let code = authenticator.code();
    let removed = browser
        .submit("/factors/remove", &[("factor", &factor), ("code", &code)])
        .expect(303);
    assert_eq!(removed.header("location"), Some("/factors?note=factor-removed"));
    // The session ended with the last factor.
    let next = browser.open("/factors?note=factor-removed");
    assert!(next.expect(303).header("location").unwrap().starts_with("/login"));
}
