//! Creations under an `Idempotency-Key`: asked again, they are not done again.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::world::{Answer, World};

fn post(world: &World, user: &str, path: &str, key: Option<&str>, body: &Value) -> Answer {
    let url = format!("{}{path}", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token(user));
    let line = key.map(|key| format!("Idempotency-Key: {key}"));
    let text = body.to_string();
    let mut args = vec![
        "-X",
        "POST",
        "-H",
        &bearer,
        "-H",
        "Content-Type: application/json",
    ];
    args.extend(line.iter().flat_map(|line| ["-H", line.as_str()]));
    args.extend(["--data-binary", &text, &url]);
    world.curl(&args)
}

const ROLES: &str = "/api/v1/vos/imense/roles?reason=a%20test";

#[test]
fn a_creation_that_is_asked_again_gets_the_same_answer_and_is_done_once() {
    let mut world = World::start();
    world.admin().person("jane", &["vo-administrator"]);
    let body = json!({ "name": "reader" });
    let first = post(&world, "admin", ROLES, Some("\"k-1\""), &body).expect(201);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = post(&world, "admin", ROLES, Some("k-1"), &body).expect(201);
    assert_eq!(again.json(), first.json());
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert!(
        world
            .events_of(&again.request_id())
            .iter()
            .all(|(name, _)| name != "change")
    );
    // Without it, or under another key, it is another request.
    post(&world, "admin", ROLES, None, &body).expect(409);
    post(&world, "admin", ROLES, Some("k-2"), &body).expect(409);
    // What was refused may be asked again under its key, and a key stands for one request.
    let other = json!({ "name": "writer" });
    assert_eq!(
        post(&world, "admin", ROLES, Some("k-1"), &other)
            .expect(422)
            .problem(),
        "key_reused"
    );
    post(&world, "admin", ROLES, Some("k-2"), &json!({ "name": "UPPER" })).expect(422);
    post(&world, "admin", ROLES, Some("k-2"), &other).expect(201);
    // A key is its person's own.
    post(&world, "jane", ROLES, Some("k-1"), &json!({ "name": "janes" })).expect(201);
    for bad in ["a b", "\"", &"x".repeat(129)] {
        assert_eq!(
            post(&world, "admin", ROLES, Some(bad), &other)
                .expect(400)
                .problem(),
            "malformed"
        );
    }
    // Over a restart too.
    world.stop();
    world.serve();
    let after = post(&world, "admin", ROLES, Some("k-1"), &body).expect(201);
    assert_eq!(after.json(), first.json());
}

#[test]
fn a_secret_is_shown_once_also_under_a_key() {
    let world = World::start();
    world.admin();
    let path = "/api/v1/vos/imense/users?reason=a%20test";
    let body = json!({ "username": "jane", "name": "Jane", "show_password": true });
    let first = post(&world, "admin", path, Some("k-1"), &body).expect(201).json();
    let secret = first["one_time_password"].as_str().unwrap();
    let again = post(&world, "admin", path, Some("k-1"), &body).expect(409);
    assert_eq!(again.problem(), "already_done");
    assert!(!again.text().contains(secret) && !world.dump().contains(secret));
}

#[test]
fn many_at_once_do_it_once() {
    let world = World::start();
    world.admin();
    let url = format!("{}{ROLES}", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token("admin"));
    let ca = world.ca();
    let asks: Vec<_> = (0..8)
        .map(|_| {
            let mut curl = Command::new("curl");
            curl.args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--cacert",
                &ca,
                "-H",
                &bearer,
            ]);
            curl.args([
                "-H",
                "Content-Type: application/json",
                "-H",
                "Idempotency-Key: k-1",
            ]);
            curl.args(["--data-binary", "{\"name\":\"reader\"}", &url]);
            curl.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut said: Vec<String> = asks
        .into_iter()
        .map(|ask| String::from_utf8(ask.wait_with_output().unwrap().stdout).unwrap())
        .collect();
    said.sort_unstable();
    assert!(said.contains(&"201".to_owned()), "{said:?}");
    assert!(
        said.iter().all(|status| status == "201" || status == "409"),
        "{said:?}"
    );
    let made = world.records();
    let made = made
        .iter()
        .filter(|record| record["event"]["change"]["change"]["action"] == "role.create");
    assert_eq!(made.count(), 1);
}

#[test]
fn what_a_gateway_that_was_killed_left_is_settled_by_whether_it_was_applied() {
    let mut world = World::start();
    world.admin();
    let body = json!({ "name": "reader" });
    post(&world, "admin", ROLES, Some("done"), &body).expect(201);
    let other = json!({ "name": "writer" });
    post(&world, "admin", ROLES, Some("undone"), &other).expect(201);
    world.stop();
    // As after a crash: under way when the gateway ended, one before its change was applied, one after.
    world.write_store("UPDATE idempotency SET status = NULL, answer = NULL");
    let done = world.stored_text("SELECT hex(request) FROM idempotency ORDER BY created_at LIMIT 1");
    world.write_store(&format!("DELETE FROM applied WHERE hex(request) <> '{done}'"));
    world.serve();
    assert_eq!(
        post(&world, "admin", ROLES, Some("done"), &body)
            .expect(409)
            .problem(),
        "already_done"
    );
    // Nothing says that it was done, so it is tried, and what is there stops it.
    assert_eq!(
        post(&world, "admin", ROLES, Some("undone"), &other)
            .expect(409)
            .problem(),
        "conflict"
    );
}
