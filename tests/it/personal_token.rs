//! Personal access tokens, as scripts use them: narrower than their person, shown once, ended with everything of hers.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::factor::bind;
use crate::world::{Answer, PASSWORD, World};

/// A moment some days from now (RFC 3339).
pub fn days(days: u64) -> String {
    let at = SystemTime::now() + Duration::from_secs(days * 86_400);
    let seconds = i64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    countersign::clock::Timestamp::from_secs(seconds).to_string()
}

fn ask(world: &World, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let (url, bearer) = (
        format!("{}{path}", world.base()),
        format!("Authorization: Bearer {token}"),
    );
    let mut args = vec!["-X", method, "-H", &bearer];
    let text = body.map(Value::to_string);
    if let Some(text) = &text {
        args.extend(["-H", "Content-Type: application/json", "--data-binary", text]);
    }
    args.push(&url);
    world.curl(&args)
}

/// Asks for a token.
pub fn asked(world: &World, by: &str, body: &Value) -> Answer {
    ask(world, by, "POST", "/api/v1/me/tokens", Some(body))
}

/// A token of somebody who has just signed in: its id and its text.
#[track_caller]
fn token(world: &World, user: &str, scopes: &[&str], more: Value) -> (String, String) {
    let mut body = json!({ "name": "nightly", "scopes": scopes, "expires": days(1) });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let made = asked(world, &world.token(user), &body).expect(201).json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

/// Binds a factor, and shows it: the bearer token of the session that comes of it.
pub fn with_factor(world: &World, user: &str) -> String {
    let present = world.token(user);
    let (mut authenticator, _) = bind(world, &present);
    let body = json!({ "name": "nightly", "scopes": ["imense"], "expires": days(1) });
    let short = asked(world, &present, &body).expect(401);
    assert_eq!(short.problem(), "step_up_required");
    let code = json!({ "code": authenticator.code() });
    let raised = ask(
        world,
        &present,
        "POST",
        "/api/v1/sessions/current/step-up",
        Some(&code),
    )
    .expect(201);
    raised.json()["token"].as_str().unwrap().to_owned()
}

#[track_caller]
fn out_of_scope(answer: Answer, reason: &str) -> Answer {
    let answer = answer.expect(403);
    assert_eq!(answer.problem(), "out_of_scope", "{}", answer.text());
    assert_eq!(answer.json()["reason"], reason, "{}", answer.text());
    answer
}

#[test]
fn a_token_does_what_its_person_may_do_within_its_scope_and_its_records_name_it() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let jobs = "/imense/segmentation/jobs";
    let (id, script) = token(&world, "john", &["imense/segmentation"], json!({}));
    // As bearer token, and in the place of the password: the manifest takes no passwords by Basic.
    let answer = ask(&world, &script, "GET", jobs, None).expect(200);
    let url = format!("{}{jobs}", world.base());
    world
        .curl(&["--user", &format!("john:{script}"), &url])
        .expect(200);
    let netrc = world.dir.path().join("netrc");
    let host = world.base().replace("https://", "");
    let host = host.split(':').next().unwrap();
    fs::write(&netrc, format!("machine {host} login john password {script}\n")).unwrap();
    world
        .curl(&["--netrc-file", netrc.to_str().unwrap(), &url])
        .expect(200);
    // Nobody else's name goes with it, and a page of another site cannot use it.
    let foreign = world
        .curl(&["--user", &format!("admin:{script}"), &url])
        .expect(401);
    assert_eq!(foreign.problem(), "wrong_credential");
    let origin = ["-H", "Origin: https://evil.example"];
    let user = format!("john:{script}");
    let led = world.curl(&[&origin[..], &["--user", &user, &url]].concat());
    assert_eq!(led.expect(403).problem(), "foreign_origin");

    let intent = &world.events_of(&answer.request_id())[0];
    assert_eq!(
        (intent.0.as_str(), &intent.1["subject"]["session"]),
        ("intent", &json!(id))
    );
    assert_eq!(intent.1["subject"]["methods"], json!(["token"]));
    assert_eq!(intent.1["subject"]["acr"], "aal1");

    // What john may do beside that, his token may not; what he may not, it may not either.
    ask(&world, &world.token("john"), "GET", "/api/v1/me", None).expect(200);
    let refused = out_of_scope(ask(&world, &script, "GET", "/api/v1/me", None), "out_of_scope");
    let events = world.events_of(&refused.request_id());
    let denied = events.iter().find(|(_, event)| event["subject"]["session"] == id);
    assert!(
        denied.unwrap().1.to_string().contains("out_of_scope"),
        "{events:?}"
    );
    let (_, reader) = token(&world, "john", &["imense"], json!({ "read_only": true }));
    ask(&world, &reader, "GET", jobs, None).expect(200);
    let job = json!({ "image": "S7" });
    out_of_scope(ask(&world, &reader, "POST", jobs, Some(&job)), "out_of_scope");
    let (_, wide) = token(&world, "john", &["imense", "gateway"], json!({}));
    let me = ask(&world, &wide, "GET", "/api/v1/me", None).expect(200).json();
    assert_eq!(me["username"], "john");
    let users = ask(&world, &wide, "GET", "/api/v1/vos/imense/users", None).expect(403);
    assert_eq!(users.problem(), "no_grant");
    let (_, one) = token(&world, "john", &["imense/segmentation/list jobs"], json!({}));
    ask(&world, &one, "GET", jobs, None).expect(200);
    out_of_scope(
        ask(&world, &one, "GET", "/imense/segmentation/", None),
        "out_of_scope",
    );
    // Pages are for browsers.
    out_of_scope(ask(&world, &wide, "GET", "/tokens", None), "not_by_token");
    // A slip of the pen is told.
    let slip = ask(&world, &script[..script.len() - 1], "GET", jobs, None).expect(401);
    assert!(slip.text().contains("checksum"), "{}", slip.text());
}

#[test]
fn a_token_is_shown_once_and_kept_hashed() {
    let world = World::start();
    world.admin();
    let made = world.cli_json(
        "admin",
        &[
            "token",
            "create",
            "nightly",
            "--scope",
            "imense",
            "--read-only",
            "--expires",
            "12h",
        ],
    );
    let text = made["token"].as_str().unwrap();
    assert!(text.starts_with("cst_pat_") && text.len() == 56, "{text}");
    ask(&world, text, "GET", "/api/v1/vos/imense/users", None).expect(200);
    let list = world.cli("admin", &["token", "list"]).ok();
    assert!(
        list.stdout.contains("nightly") && list.stdout.contains("read only"),
        "{list:?}"
    );
    let listed = world.cli_json("admin", &["token", "list"]);
    assert!(listed["tokens"][0]["used"].is_string(), "{listed}");
    let records: String = world.records().iter().map(Value::to_string).collect();
    let secret = &text["cst_pat_".len()..];
    for (place, held) in [
        ("list", listed.to_string()),
        ("store", world.dump()),
        ("log", records),
        ("log lines", world.log()),
    ] {
        assert!(!held.contains(secret), "the token stands in the {place}");
    }
}

#[test]
fn no_token_makes_another_or_ends_another_but_itself() {
    let world = World::start();
    world.admin();
    let everything = json!({});
    let (id, script) = token(&world, "admin", &["gateway", "imense"], everything.clone());
    let (other, second) = token(&world, "admin", &["gateway"], everything);
    let body = json!({ "name": "more", "scopes": ["imense"], "expires": days(1) });
    out_of_scope(asked(&world, &script, &body), "not_by_token");
    world.person("jane", &["scientist"]);
    let shown = world.cli_json("admin", &["user", "show", "imense", "jane"]);
    let person = shown["id"]
        .as_str()
        .or(shown["user"]["id"].as_str())
        .unwrap()
        .to_owned();
    let session = ask(&world, &world.token("admin"), "GET", "/api/v1/me", None).json()["session"]
        .as_str()
        .unwrap()
        .to_owned();
    for (method, path, body) in [
        ("DELETE", format!("/api/v1/me/tokens/{other}"), None),
        ("DELETE", format!("/api/v1/sessions/{session}"), None),
        (
            "POST",
            "/api/v1/me/password".into(),
            Some(json!({ "current": PASSWORD, "new": "another phrase of some words" })),
        ),
        (
            "POST",
            "/api/v1/me/factors/offer".into(),
            Some(json!({ "password": PASSWORD })),
        ),
        (
            "POST",
            "/api/v1/sessions/current/step-up".into(),
            Some(json!({ "code": "123456" })),
        ),
        (
            "POST",
            format!("/api/v1/vos/imense/users/{person}/reset-password?show_password=true"),
            None,
        ),
    ] {
        let answer = ask(&world, &script, method, &path, body.as_ref());
        out_of_scope(answer, "not_by_token");
    }
    // Itself it may revoke, whatever its scope.
    ask(
        &world,
        &second,
        "DELETE",
        &format!("/api/v1/me/tokens/{other}"),
        None,
    )
    .expect(204);
    ask(&world, &second, "GET", "/api/v1/me", None).expect(401);
    ask(&world, &script, "GET", "/api/v1/me", None).expect(200);
    world.cli("admin", &["token", "revoke", &id]).ok();
    ask(&world, &script, "GET", "/api/v1/me", None).expect(401);
    assert_eq!(world.cli("admin", &["token", "revoke", &id]).code, 4);
}

#[test]
fn what_is_asked_of_a_token_is_judged_when_it_is_made() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let by = world.token("john");
    let body =
        |scopes: Value, expires: &str| json!({ "name": "nightly", "scopes": scopes, "expires": expires });
    let day = days(1);
    for (body, said) in [
        (body(json!(["imense/nothing"]), &day), "no tool `nothing`"),
        (body(json!(["imense/segmentation/fly"]), &day), "no task `fly`"),
        (body(json!(["elsewhere"]), &day), "not a member"),
        (body(json!(["a b"]), &day), "VO/TOOL/TASK"),
        (body(json!([]), &day), "is for something"),
        (body(json!(["imense"]), &days(91)), "at most 90 days"),
        (body(json!(["imense"]), "2020-01-01T00:00:00Z"), "must lie ahead"),
        (body(json!(["imense"]), "tomorrow"), "`expires` must be a date"),
        (
            json!({ "name": "", "scopes": ["imense"], "expires": day }),
            "`name` must have",
        ),
        (
            json!({ "name": "x", "scopes": ["imense"] }),
            "missing field `expires`",
        ),
    ] {
        let refused = asked(&world, &by, &body).expect(422);
        assert!(refused.text().contains(said), "{said}: {}", refused.text());
    }
    // So many at a time, and a session of long ago makes none.
    for _ in 0..50 {
        asked(&world, &by, &body(json!(["imense"]), &day)).expect(201);
    }
    let many = asked(&world, &by, &body(json!(["imense"]), &day)).expect(409);
    assert!(many.text().contains("at most 50"), "{}", many.text());
    world.stop();
    world.write_store(
        "UPDATE session SET created_at = created_at - 901000000 WHERE kind = 'token';
         UPDATE session SET ended_at = 1 WHERE kind = 'personal'",
    );
    world.serve();
    let stale = asked(&world, &by, &body(json!(["imense"]), &day)).expect(401);
    assert_eq!(stale.problem(), "step_up_required");
    assert_eq!(stale.json()["max_age"], 900);
    world.login("john", PASSWORD).ok();
    asked(&world, &world.token("john"), &body(json!(["imense"]), &day)).expect(201);
}

#[test]
fn a_token_ends_with_everything_of_its_person_within_a_second() {
    let mut world = World::start();
    world.admin();
    world.segmentation();
    let jobs = "/imense/segmentation/jobs";
    for (user, ends) in [("john", "reset"), ("mary", "suspend"), ("zoe", "password")] {
        world.person(user, &["scientist"]);
        let (_, script) = token(&world, user, &["imense"], json!({}));
        ask(&world, &script, "GET", jobs, None).expect(200);
        match ends {
            "reset" => {
                world
                    .cli("admin", &["user", "reset-password", "imense", user])
                    .ok();
            }
            "suspend" => {
                world.cli("admin", &["user", "suspend", "imense", user]).ok();
            }
            _ => {
                let new = json!({ "current": PASSWORD, "new": "another phrase of some words" });
                ask(
                    &world,
                    &world.token(user),
                    "POST",
                    "/api/v1/me/password",
                    Some(&new),
                )
                .expect(204);
            }
        }
        let after = ask(&world, &script, "GET", jobs, None);
        assert_eq!(after.expect(401).problem(), "wrong_credential", "{ends}");
    }
}

#[test]
fn with_a_factor_only_a_session_that_showed_it_makes_a_token_and_the_token_shows_none() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let raised = with_factor(&world, "john");
    let body = json!({ "name": "nightly", "scopes": ["imense"], "expires": days(1) });
    let made = asked(&world, &raised, &body).expect(201).json();
    let script = made["token"].as_str().unwrap();
    let jobs = "/imense/segmentation/jobs";
    // The password alone opens nothing any more; the token does, and says nothing of the factor.
    let answer = ask(&world, script, "GET", jobs, None).expect(200);
    let intent = &world.events_of(&answer.request_id())[0].1;
    assert_eq!(intent["subject"]["acr"], "aal1");
    let manifest = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/segmentation/segmentation.toml"
    );
    let strict =
        fs::read_to_string(manifest)
            .unwrap()
            .replacen("[tool]", "[tool]\nmin_assurance = \"aal2\"", 1);
    let file = world.dir.path().join("strict.toml");
    fs::write(&file, strict).unwrap();
    let file = file.to_str().unwrap();
    world
        .cli("admin", &["tool", "add", "imense", file, "--replace"])
        .ok();
    ask(&world, &raised, "GET", jobs, None).expect(200);
    out_of_scope(ask(&world, script, "GET", jobs, None), "token_assurance");
}

#[test]
fn the_page_makes_a_token_and_revokes_it() {
    let world = World::start();
    world.admin();
    let jar = world.dir.path().join("jar");
    let jar = jar.to_str().unwrap();
    let own = "Sec-Fetch-Site: same-origin";
    let page = |path: &str, fields: &[(&str, &str)]| {
        let url = format!("{}{path}", world.base());
        let mut args: Vec<String> = ["-b", jar, "-c", jar, "-H", own].map(str::to_owned).to_vec();
        for (name, value) in fields {
            args.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        args.push(url);
        world.curl(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    page(
        "/login",
        &[("username", "admin"), ("password", PASSWORD), ("to", "/")],
    );
    assert!(page("/tokens", &[]).expect(200).text().contains("You have none"));
    let fields = [
        ("name", "nightly"),
        ("scopes", "imense\n"),
        ("read_only", "yes"),
        ("myproxy", "no"),
        ("days", "7"),
    ];
    let made = page("/tokens", &fields).expect(200).text();
    let at = made.find("cst_pat_").expect("a token");
    let script = &made[at..at + 56];
    ask(&world, script, "GET", "/api/v1/vos/imense/users", None).expect(200);
    let listed = page("/tokens", &[]).expect(200).text();
    assert!(listed.contains("nightly") && !listed.contains(script), "{listed}");
    let id = listed
        .split("name=\"token\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    page("/tokens/revoke", &[("token", id)]).expect(303);
    ask(&world, script, "GET", "/api/v1/vos/imense/users", None).expect(401);
    let refused = page("/tokens", &[("name", "x"), ("scopes", ""), ("days", "7")])
        .expect(422)
        .text();
    assert!(refused.contains("name a VO"), "{refused}");
}
