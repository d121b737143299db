//! Operations through the real stages: find, subject, decide, intent, service. Only listener and pipeline are missing.

mod tools;
mod world;

use std::time::Duration;

use serde_json::json;

use self::world::{ADMIN, PASSWORD, World, kind};
use super::*;
use crate::alert::{Config as AlertConfig, Security, Smtp, Transport};
use crate::clock::Clock;
use crate::id::PersonId;
use crate::record::AlertEvent;
use crate::tool::Tool;

#[tokio::test]
async fn a7_an_administrator_resets_a_password_and_everybody_else_changes_only_her_own() {
    let world = World::new().await;
    let (jane, jane_token) = world.member("jane").await;
    let (_, john_token) = world.member("john").await;
    let reset = format!("/api/v1/vos/imense/users/{jane}/reset-password");
    let (status, problem) = world.ask(&john_token, "POST", &reset, None).await;
    assert_eq!((status, &problem["type"]), (403, &kind("no_grant")));
    let admin = world.token(ADMIN).await;
    let (status, answer) = world.ask(&admin, "POST", &reset, None).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _) = world.ask(&jane_token, "GET", "/api/v1/me", None).await;
    assert_eq!(status, 401, "a reset ends all sessions");
    let (status, _) = world.sign_in("jane", PASSWORD).await;
    assert_eq!(status, 401, "the old password is gone");
    let one_time = answer["one_time_password"].as_str().unwrap();
    let (status, session) = world.sign_in("jane", one_time).await;
    assert_eq!(status, 201);
    let token = session["token"].as_str().unwrap();
    let weak = json!({ "new": "jane" });
    let (status, problem) = world.ask(token, "POST", "/api/v1/me/password", Some(weak)).await;
    assert_eq!((status, &problem["type"]), (422, &kind("weak_password")));
    let good = json!({ "new": "something else altogether" });
    let (status, _) = world.ask(token, "POST", "/api/v1/me/password", Some(good)).await;
    assert_eq!(status, 204);
}

#[tokio::test]
async fn a_one_time_password_goes_by_mail_unless_the_administrator_asks_to_see_it() {
    let mails = AlertConfig {
        transport: Transport::Smtp(Smtp {
            host: "mail.example.org".into(),
            port: 587,
            security: Security::StartTls,
            username: None,
            password_file: None,
            ca_file: None,
            timeout: Duration::from_secs(1),
        }),
        ..AlertConfig::default()
    };
    let world = World::with(mails).await;
    let admin = world.token(ADMIN).await;
    let add = async |username: &str, mail: Option<&str>, show: bool| {
        let body = json!({ "username": username, "name": "Jane", "mail": mail, "show_password": show });
        let (status, added) = world
            .ask(&admin, "POST", "/api/v1/vos/imense/users", Some(body))
            .await;
        assert_eq!(status, 201, "{added}");
        added
    };
    let mailed = add("jane", Some("jane@example.org"), false).await;
    assert!(mailed.get("one_time_password").is_none());
    assert!(
        add("john", None, false).await["one_time_password"].is_string(),
        "nowhere to send it"
    );
    assert!(add("paul", Some("paul@example.org"), true).await["one_time_password"].is_string());
    let id = mailed["user"]["id"].as_str().unwrap();
    let path = format!("/api/v1/vos/imense/users/{id}/reset-password");
    let (status, reset) = world.ask(&admin, "POST", &path, None).await;
    assert_eq!((status, reset.get("one_time_password")), (200, None));
    let (_, reset) = world
        .ask(&admin, "POST", &format!("{path}?show_password=true"), None)
        .await;
    assert!(reset["one_time_password"].is_string());
    let outbox = world.api.alert.outbox(10).await.unwrap();
    assert_eq!(outbox.len(), 2);
    assert!(
        outbox
            .iter()
            .all(|mail| mail.kind == "secret" && mail.to == "jane@example.org")
    );
    let path = "/api/v1/vos/imense/audit?event=change";
    let (_, found) = world.ask(&admin, "GET", path, None).await;
    let text = found["records"].to_string();
    assert_eq!(text.matches(r#""one_time_password":"mailed""#).count(), 2);
    assert_eq!(text.matches(r#""one_time_password":"shown""#).count(), 3);
    assert!(!text.contains("example.org"));
}

#[tokio::test]
async fn an_alert_is_listed_in_its_own_vo() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    let (jane, _) = world.member("jane").await;
    for vo in [
        world.api.directory().vo_named("imense").unwrap().id,
        Directory::gateway(),
    ] {
        let alert = Event::Alert(AlertEvent {
            episode: world.api.ids.next().unwrap(),
            vo,
            person: jane.parse().unwrap(),
            tool: Some("jobs".into()),
            task: "terminate job".into(),
            count: 3,
            requests: Vec::new(),
        });
        world.api.audit.write(alert).await.unwrap();
    }
    let (status, found) = world.ask(&admin, "GET", "/api/v1/vos/imense/alerts", None).await;
    assert_eq!(status, 200, "{found}");
    let alerts = found["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["username"], json!("jane"));
}

#[tokio::test]
async fn only_the_home_of_an_account_resets_and_edits_it() {
    let world = World::new().await;
    let (jane, _) = world.member("jane").await;
    let admin = world.token(ADMIN).await;
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos", Some(json!({ "name": "other" })))
        .await;
    assert_eq!(status, 201);
    let add = json!({ "username": "jane" });
    let (status, added) = world
        .ask(&admin, "POST", "/api/v1/vos/other/users", Some(add))
        .await;
    assert_eq!(
        (status, &added["user"]["home"]),
        (201, &json!("imense")),
        "{added}"
    );
    assert!(added.get("one_time_password").is_none());
    let card = json!({ "name": "Jane", "mail": "thief@example.org" });
    assert_eq!(
        (&added["user"]["name"], added["user"].get("mail")),
        (&json!(""), None),
        "a card is for the home"
    );
    for (method, what, body) in [("POST", "reset-password", None), ("PUT", "card", Some(card))] {
        let path = format!("/api/v1/vos/other/users/{jane}/{what}");
        let (status, problem) = world.ask(&admin, method, &path, body.clone()).await;
        assert_eq!(status, 403, "{what}: {problem}");
        let path = format!("/api/v1/vos/imense/users/{jane}/{what}");
        let (status, problem) = world.ask(&admin, method, &path, body).await;
        assert_eq!(status, 200, "{what}: {problem}");
    }
}

/// A VO `beta` that bob administers, who is no system administrator and at home in `imense`.
async fn beta(world: &World) -> (String, String) {
    let (_, bob) = world.member("bob").await;
    let admin = world.token(ADMIN).await;
    let create = json!({ "name": "beta", "administrator": "bob" });
    let (status, made) = world.ask(&admin, "POST", "/api/v1/vos", Some(create)).await;
    assert_eq!(status, 201, "{made}");
    (bob, admin)
}

#[tokio::test]
async fn an_administrator_takes_in_no_account_of_another_home() {
    let world = World::new().await;
    let (bob, admin) = beta(&world).await;
    world.member("jane").await;
    let join = async |token: &str, username: &str| {
        let body = json!({ "username": username, "roles": ["vo-administrator"] });
        world
            .ask(token, "POST", "/api/v1/vos/beta/users", Some(body))
            .await
    };
    let (status, refused) = join(&bob, "jane").await;
    assert_eq!((status, &refused["type"]), (422, &kind("invalid")), "{refused}");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("only a system administrator"), "{detail}");
    let (status, nobody) = join(&bob, "none").await;
    assert_eq!(
        (status, nobody["detail"].as_str().unwrap().replace("none", "jane")),
        (422, detail.to_owned()),
        "whether there is such an account is not told"
    );
    // An account of the VO's own comes back without anybody's help.
    let new = json!({ "username": "eve", "name": "Eve" });
    let (status, eve) = world.ask(&bob, "POST", "/api/v1/vos/beta/users", Some(new)).await;
    assert_eq!((status, &eve["user"]["home"]), (201, &json!("beta")), "{eve}");
    let path = format!("/api/v1/vos/beta/users/{}", eve["user"]["id"].as_str().unwrap());
    assert_eq!(world.ask(&bob, "DELETE", &path, None).await.0, 204);
    let (status, eve) = join(&bob, "eve").await;
    assert_eq!((status, &eve["user"]["name"]), (201, &json!("Eve")), "{eve}");
    // The system administrator is no administrator of `beta`, and so adds nobody there.
    assert_eq!(join(&admin, "jane").await.0, 403);
}

#[tokio::test]
async fn a_role_elsewhere_makes_nobody_unstoppable() {
    let world = World::new().await;
    let (jane, janes) = world.member("jane").await;
    let (bob, admin) = beta(&world).await;
    let jane_id = jane.parse().unwrap();
    let role = async |vo, role: &str, person| {
        let mut tx = world.api.begin().await.unwrap();
        let assigned = world.api.vos.assign(&mut tx, vo, role, person, None);
        let change = assigned.await.unwrap();
        let request = world.api.ids.next().unwrap();
        world
            .api
            .apply((request, None), tx, vec![change], Vec::new())
            .await
            .unwrap();
    };
    let imense = world.api.directory().vo_named("imense").unwrap().id;
    let bob_id = world.api.directory().person_named("bob").unwrap().id;
    role(imense, crate::vo::VO_ADMINISTRATOR, jane_id).await;
    // Jane, of bob's home and no system administrator, stops bob although he administers `beta`.
    let stop = async |token: &str, vo: &str, who: &str, what: &str| {
        let path = format!("/api/v1/vos/{vo}/users/{who}/{what}");
        world.ask(token, "POST", &path, None).await
    };
    let bobs = bob_id.to_string();
    let (status, problem) = stop(&janes, "imense", &bobs, "reset-password").await;
    assert_eq!((status, &problem["type"]), (403, &kind("condition_not_met")));
    let (status, view) = stop(&janes, "imense", &bobs, "suspend").await;
    assert_eq!((status, &view["state"]), (200, &json!("suspended")), "{view}");
    assert_ne!(world.ask(&bob, "GET", "/api/v1/me", None).await.0, 200);
    let (status, view) = stop(&janes, "imense", &bobs, "resume").await;
    assert_eq!((status, &view["state"]), (200, &json!("active")), "{view}");
    // Bob, of another VO, stops nobody who is only a member there; the system administrator stops anybody anywhere.
    let bob = world.token("bob").await;
    let (status, _) = stop(&bob, "beta", &bobs, "suspend").await;
    assert_eq!(status, 403, "his home is not `beta`");
    let (status, view) = stop(&admin, "beta", &jane, "suspend").await;
    assert_eq!((status, &view["state"]), (200, &json!("suspended")), "{view}");
    assert_eq!(stop(&admin, "beta", &jane, "resume").await.0, 200);
    // All but the last of their own.
    let own = world.api.directory().person_named(ADMIN).unwrap().id;
    let (status, last) = stop(&admin, "imense", &own.to_string(), "suspend").await;
    assert_eq!((status, &last["type"]), (409, &kind("conflict")), "{last}");
    role(Directory::gateway(), crate::vo::SYSTEM_ADMINISTRATOR, jane_id).await;
    let (status, view) = stop(&admin, "imense", &jane, "suspend").await;
    assert_eq!((status, &view["state"]), (200, &json!("suspended")), "{view}");
}

#[tokio::test]
async fn a_grant_with_which_one_can_rise_comes_with_a_warning() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    for (task, warned) in [("role.assign", true), ("user.add", true), ("user.list", false)] {
        let grant = json!({ "role": "scientist", "tool": "countersign", "tasks": [task] });
        let (status, made) = world
            .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant))
            .await;
        assert_eq!(status, 201, "{made}");
        let warning = made.get("warning").and_then(serde_json::Value::as_str);
        assert_eq!(
            warning.is_some_and(|text| text.contains("administrator")),
            warned,
            "{made}"
        );
    }
}

#[tokio::test]
async fn c6_administrative_tasks_are_refused_to_a_scientist() {
    let world = World::new().await;
    let (jane, token) = world.member("jane").await;
    let person = format!("/api/v1/vos/imense/users/{jane}");
    for (method, path, body) in [
        ("POST", "/api/v1/vos", Some(json!({ "name": "mine" }))),
        ("POST", "/api/v1/vos/imense/roles", Some(json!({ "name": "r" }))),
        ("GET", "/api/v1/vos/imense/users", None),
        ("GET", person.as_str(), None),
        ("DELETE", person.as_str(), None),
        ("GET", "/api/v1/vos/imense/audit", None),
        ("GET", "/api/v1/audit", None),
        ("POST", "/api/v1/vos/imense/trace", Some(json!({ "query": "1" }))),
        ("GET", "/api/v1/vos/imense/upstreams", None),
    ] {
        let (status, problem) = world.ask(&token, method, path, body).await;
        assert_eq!(
            (status, &problem["type"]),
            (403, &kind("no_grant")),
            "{method} {path}"
        );
    }
    let (status, problem) = world.ask("", "GET", "/api/v1/vos/imense/roles", None).await;
    assert_eq!((status, &problem["type"]), (401, &kind("no_credential")));
}

#[tokio::test]
async fn c3_a_role_gets_a_task_and_the_next_request_is_allowed() {
    let world = World::new().await;
    let (jane, jane_token) = world.member("jane").await;
    let admin = world.token(ADMIN).await;
    let roles = "/api/v1/vos/imense/roles";
    let (status, _) = world
        .ask(&admin, "POST", roles, Some(json!({ "name": "helpdesk" })))
        .await;
    assert_eq!(status, 201);
    let members = format!("{roles}/helpdesk/members/{jane}");
    let (status, _) = world.ask(&admin, "PUT", &members, Some(json!({}))).await;
    assert_eq!(status, 204);
    let (status, _) = world
        .ask(&jane_token, "GET", "/api/v1/vos/imense/users", None)
        .await;
    assert_eq!(status, 403);
    let grant = json!({ "role": "helpdesk", "tool": "countersign", "tasks": ["user.list"] });
    let (status, granted) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant.clone()))
        .await;
    assert_eq!(status, 201, "{granted}");
    let (status, users) = world
        .ask(&jane_token, "GET", "/api/v1/vos/imense/users", None)
        .await;
    assert_eq!(status, 200);
    assert_eq!(users["users"].as_array().unwrap().len(), 2);
    let (_, me) = world.ask(&jane_token, "GET", "/api/v1/me", None).await;
    assert_eq!(me["vos"][0]["roles"], json!(["helpdesk", "scientist"]));
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant))
        .await;
    assert_eq!(status, 409, "the same grant twice");
    let id = granted["grants"][0]["id"].as_str().unwrap();
    let (status, _) = world
        .ask(&admin, "DELETE", &format!("/api/v1/vos/imense/grants/{id}"), None)
        .await;
    assert_eq!(status, 204);
    let (status, _) = world
        .ask(&jane_token, "GET", "/api/v1/vos/imense/users", None)
        .await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn an_administrator_cannot_pass_on_what_is_the_gateways() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    for task in ["upstream.allow", "vo.create", "session.create", "person.me"] {
        let grant = json!({ "role": "scientist", "tool": "countersign", "tasks": [task] });
        let (status, problem) = world
            .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant))
            .await;
        assert_eq!((status, &problem["type"]), (422, &kind("invalid")), "{task}");
    }
    for (grant, status) in [
        (
            json!({ "role": "scientist", "tool": "none", "tasks": ["x"] }),
            404,
        ),
        (
            json!({ "role": "scientist", "tool": "countersign", "tasks": ["no.task"] }),
            404,
        ),
        (
            json!({ "role": "nobody", "tool": "countersign", "tasks": ["user.list"] }),
            404,
        ),
        (
            json!({ "role": "scientist", "tool": "countersign", "tasks": ["user.list"], "when": "1 +" }),
            422,
        ),
    ] {
        let (answered, problem) = world
            .ask(&admin, "POST", "/api/v1/vos/imense/grants", Some(grant))
            .await;
        assert_eq!(answered, status, "{problem}");
    }
}

/// A problem without the VO's name and the request's id in it.
fn words(problem: &serde_json::Value, vo: &str) -> String {
    let mut problem = problem.clone();
    problem.as_object_mut().unwrap().remove("request_id");
    problem.to_string().replace(vo, "VO")
}

#[tokio::test]
async fn m3_a_vo_is_hidden_from_those_who_do_not_belong_to_it() {
    let world = World::new().await;
    let (_, jane) = world.member("jane").await;
    let admin = world.token(ADMIN).await;
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos", Some(json!({ "name": "other" })))
        .await;
    assert_eq!(status, 201);
    let (_, vos) = world.ask(&jane, "GET", "/api/v1/vos", None).await;
    assert_eq!(vos["vos"].as_array().unwrap().len(), 1);
    let (there, a) = world.ask(&jane, "GET", "/api/v1/vos/other", None).await;
    let (not_there, b) = world.ask(&jane, "GET", "/api/v1/vos/nothing", None).await;
    assert_eq!((there, &a["type"]), (not_there, &b["type"]));
    assert_eq!((there, words(&a, "other")), (403, words(&b, "nothing")));
    let (status, _) = world.ask(&jane, "GET", "/api/v1/vos/other/roles", None).await;
    assert_eq!(status, 403);
    let (_, vos) = world.ask(&admin, "GET", "/api/v1/vos?limit=1", None).await;
    let place = vos["next"].as_str().unwrap();
    for (list, status) in [("users", 422), ("roles", 422)] {
        let elsewhere = format!("/api/v1/vos/imense/{list}?after={place}");
        assert_eq!(world.ask(&admin, "GET", &elsewhere, None).await.0, status);
    }
    assert_eq!(
        world.ask(&admin, "GET", "/api/v1/vos?after=imense", None).await.0,
        422
    );
    let next = format!("/api/v1/vos?after={place}");
    let (_, vos) = world.ask(&admin, "GET", &next, None).await;
    assert_eq!(vos["vos"][0]["name"], json!("other"));
}

#[tokio::test]
async fn a_name_is_turned_into_an_id_for_those_who_belong_to_the_vo_only() {
    let world = World::new().await;
    let (jane, token) = world.member("jane").await;
    let admin = world.token(ADMIN).await;
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos", Some(json!({ "name": "other" })))
        .await;
    assert_eq!(status, 201);
    let find = async |vo: &str, username: &str| {
        let path = format!("/api/v1/vos/{vo}/users/find");
        world
            .ask(&token, "POST", &path, Some(json!({ "username": username })))
            .await
    };
    let (status, found) = find("imense", "jane").await;
    assert_eq!((status, &found["id"]), (200, &json!(jane)));
    let (status, outside) = find("other", ADMIN).await;
    assert_eq!(status, 403);
    let (status, nothing) = find("nothing", ADMIN).await;
    assert_eq!(
        (status, words(&nothing, "nothing")),
        (403, words(&outside, "other")),
        "a VO that is there and one that is not look alike"
    );
    assert_eq!(find("imense", "nobody").await.0, 404);
}

#[tokio::test]
async fn m2_the_list_of_administration_goes_over_the_api() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    let upstream = json!({ "name": "ce", "url": "unix:/run/jobs.sock" });
    let (status, answer) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/upstreams", Some(upstream))
        .await;
    assert_eq!((status, &answer["local"]), (201, &json!(true)), "{answer}");
    let (status, _) = world
        .ask(&admin, "DELETE", "/api/v1/vos/imense/upstreams/ce", None)
        .await;
    assert_eq!(status, 204);
    let (jane, _) = world.member("jane").await;
    let (_, found) = world
        .ask(&admin, "GET", "/api/v1/vos/imense/users?username=jane", None)
        .await;
    assert_eq!(found["users"][0]["id"], json!(jane));
    let twice = json!({ "username": "jane", "name": "Another Jane" });
    let (status, _) = world
        .ask(&admin, "POST", "/api/v1/vos/imense/users", Some(twice))
        .await;
    assert_eq!(status, 409);
    let until = world.clock.now().plus(Duration::from_secs(60)).to_string();
    let path = format!("/api/v1/vos/imense/roles/vo-administrator/members/{jane}");
    let (status, _) = world
        .ask(&admin, "PUT", &path, Some(json!({ "until": until })))
        .await;
    assert_eq!(status, 204);
    let (status, _) = world.ask(&admin, "DELETE", &path, None).await;
    assert_eq!(status, 204);
    let (status, _) = world
        .ask(
            &admin,
            "DELETE",
            &format!("/api/v1/vos/imense/users/{jane}"),
            None,
        )
        .await;
    assert_eq!(status, 204);
    let (status, _) = world
        .ask(&admin, "GET", &format!("/api/v1/vos/imense/users/{jane}"), None)
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_session_ends_at_once_and_only_ones_own() {
    let world = World::new().await;
    let (_, jane) = world.member("jane").await;
    let (_, john) = world.member("john").await;
    let (_, me) = world.ask(&jane, "GET", "/api/v1/me", None).await;
    let path = format!("/api/v1/sessions/{}", me["session"].as_str().unwrap());
    let (status, _) = world.ask(&john, "DELETE", &path, None).await;
    assert_eq!(status, 404);
    let (status, _) = world.ask(&jane, "DELETE", &path, None).await;
    assert_eq!(status, 204);
    let (status, _) = world.ask(&jane, "GET", "/api/v1/me", None).await;
    assert_eq!(status, 401);
    let suspended = world.member("paul").await;
    let admin = world.token(ADMIN).await;
    let path = format!("/api/v1/vos/imense/users/{}/suspend", suspended.0);
    let (status, _) = world.ask(&admin, "POST", &path, None).await;
    assert_eq!(status, 200);
    let (status, _) = world.ask(&suspended.1, "GET", "/api/v1/me", None).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn every_change_is_on_record_and_names_nobody() {
    let world = World::new().await;
    let (jane, _) = world.member("jane").await;
    let admin = world.token(ADMIN).await;
    let (status, found) = world
        .ask(&admin, "GET", "/api/v1/vos/imense/audit?event=change", None)
        .await;
    assert_eq!(status, 200, "{found}");
    let actions: Vec<&str> = found["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["event"]["change"]["change"]["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions[1..],
        ["role.assign", "user.add", "user.create"],
        "{actions:?}"
    );
    assert_eq!(actions[0], "user.change_own_password");
    let text = found["records"].to_string().to_lowercase();
    assert!(
        text.contains(&jane) && !text.contains("jane") && !text.contains("smith"),
        "{text}"
    );
    let (_, gateway) = world.ask(&admin, "GET", "/api/v1/audit?event=login", None).await;
    assert!(!gateway["records"].as_array().unwrap().is_empty());
    let (_, gateway) = world.ask(&admin, "GET", "/api/v1/audit?event=change", None).await;
    let text = gateway["records"].to_string();
    assert!(!text.contains("role.assign"), "a VO's records are the VO's");
    for path in [
        "/api/v1/audit?event=changes",
        "/api/v1/vos/imense/audit?event=changes",
    ] {
        let (status, refused) = world.ask(&admin, "GET", path, None).await;
        let detail = refused["detail"].as_str().unwrap();
        assert_eq!(status, 422, "a kind that no record has finds nothing");
        assert!(
            detail.contains("`changes`") && detail.contains("accepted: intent, refused,"),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_request_is_explained_to_its_author_and_to_its_administrator_only() {
    let world = World::new().await;
    let (_, jane) = world.member("jane").await;
    let (_, john) = world.member("john").await;
    let (_, vo) = world.ask(&jane, "GET", "/api/v1/vos/imense", None).await;
    let id = vo["_request"].as_str().unwrap();
    let own = format!("/api/v1/requests/{id}");
    let (status, explained) = world.ask(&jane, "GET", &own, None).await;
    assert_eq!(
        (status, &explained["task"]),
        (200, &json!("vo.show")),
        "{explained}"
    );
    assert!(
        explained.get("considered").is_none(),
        "policies are for administrators"
    );
    let (status, _) = world.ask(&john, "GET", &own, None).await;
    assert_eq!(status, 404);
    let admin = world.token(ADMIN).await;
    let path = format!("/api/v1/vos/imense/requests/{id}");
    let (status, explained) = world.ask(&admin, "GET", &path, None).await;
    assert_eq!(status, 200);
    assert_eq!(explained["person"]["username"], json!("jane"));
    assert!(!explained["considered"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn without_the_log_nothing_changes() {
    let world = World::new().await;
    let admin = world.api.directory().person_named(ADMIN).unwrap().id;
    world.api.audit.close("test").await;
    let vo = world.api.directory().vo_named("imense").unwrap().id;
    let mut tx = world.api.begin().await.unwrap();
    let change = world.api.vos.create_role(&mut tx, vo, "ghost").await.unwrap();
    let request = world.api.ids.next().unwrap();
    let applied = world.api.apply((request, None), tx, vec![change], Vec::new());
    let problem = applied.await.unwrap_err();
    assert_eq!(problem.kind, Kind::LogUnavailable);
    assert!(!world.api.db.was_applied(request).await.unwrap());
    world.api.vos.load().await.unwrap();
    assert!(world.api.directory().role_named(vo, "ghost").is_none());
    assert!(world.api.directory().is_member(vo, admin));
}

#[tokio::test]
async fn a_body_is_strict_json_of_bounded_size() {
    let world = World::new().await;
    let admin = world.token(ADMIN).await;
    let ask = |kind: &str, body: String| {
        http::Request::builder()
            .method("POST")
            .uri("/api/v1/vos/imense/roles")
            .header("authorization", format!("Bearer {admin}"))
            .header("content-type", kind)
            .body(body::full(body))
            .unwrap()
    };
    for (kind, body, status) in [
        (
            "application/json",
            r#"{"name":"a","colour":"red"}"#.to_owned(),
            422,
        ),
        ("application/json", r#"{"name":"a","name":"b"}"#.to_owned(), 422),
        ("application/json", r#"{"name":"a"} x"#.to_owned(), 422),
        ("application/json", r#"{"name":7}"#.to_owned(), 422),
        ("application/json", String::new(), 422),
        ("text/plain", r#"{"name":"a"}"#.to_owned(), 422),
        (
            "application/json",
            format!(r#"{{"name":"{}"}}"#, "x".repeat(operation::LIMIT)),
            413,
        ),
        ("application/json", r#"{"name":"UPPER"}"#.to_owned(), 422),
        (
            "application/json; charset=utf-8",
            r#"{"name":"a"}"#.to_owned(),
            201,
        ),
    ] {
        let (answered, problem) = world.send(ask(kind, body.clone())).await;
        assert_eq!(
            answered,
            status,
            "{kind} {} {problem}",
            body.get(..40).unwrap_or(&body)
        );
    }
}

#[test]
fn every_operation_has_one_name_and_one_address() {
    let tool = Tool::own(tasks()).unwrap();
    let mut names: Vec<&str> = tool.tasks.iter().map(|task| task.name.as_str()).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    for task in &tool.tasks {
        assert_eq!(task.local, Some(SERVICE), "{}", task.name);
        assert!(
            task.matches.iter().all(|matched| matched.contains(" /api/v1/")),
            "{}",
            task.name
        );
        let on_person = task
            .matches
            .iter()
            .any(|matched| matched.contains("{person:uuid}/"));
        let held = task.matches.iter().any(|matched| matched.contains("/members/"));
        assert_eq!(
            task.home_only,
            on_person
                && !held
                && !["user.suspend", "user.resume", "user.expire", "user.delete"]
                    .contains(&task.name.as_str()),
            "what acts on an account itself is for its home: {}",
            task.name
        );
    }
}

#[test]
fn the_openapi_document_is_the_committed_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/openapi.json");
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/reference/openapi.json is not of this code: run `UPDATE_REFERENCE=1 cargo test --lib api::` and look at the difference"
    );
}

#[test]
fn every_reference_in_the_openapi_document_leads_somewhere() {
    let document = document();
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let references: Vec<&str> = text
        .split("#/components/schemas/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(references.len() > 50);
    for name in references {
        assert!(schemas.contains_key(name), "{name}");
    }
}

#[test]
fn an_address_is_filled_in_and_encoded() {
    let id = PersonId::from(uuid::Uuid::nil()).to_string();
    let (method, path) = address("user.remove", &[("vo", "a b"), ("person", &id)]).unwrap();
    assert_eq!(method, Method::DELETE);
    assert_eq!(path, format!("/api/v1/vos/a%20b/users/{id}"));
    assert!(address("user.remove", &[("vo", "a")]).is_none());
    assert!(address("no.such", &[]).is_none());
}

#[tokio::test]
async fn a_long_answer_is_put_together_beside_the_lane() {
    let (go, wait) = std::sync::mpsc::channel();
    let answer = operation::aside(move || wait.recv().unwrap());
    // On one thread: done where everybody else is, the answer would wait for what never comes.
    let told = async { go.send(7).unwrap() };
    let (answer, ()) = tokio::join!(answer, told);
    assert_eq!(answer.unwrap(), 7);
}
