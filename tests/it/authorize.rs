//! Feature rows C: what a person may do with a wrapped tool.

use std::fs;
use std::path::PathBuf;

use crate::world::{Answer, World, until};

fn image() -> Vec<u8> {
    let mut pgm = b"P5\n8 8\n255\n".to_vec();
    pgm.extend((0..64u8).map(|i| if i % 8 < 4 { 20 } else { 200 }));
    pgm
}

/// Submits a job and gives its id.
fn submit(world: &World, user: &str) -> String {
    let answer = world.tool(user, "POST", "/jobs", Some(&image())).expect(201);
    answer
        .header("location")
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned()
}

fn seen(file: &std::path::Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// Wraps the sample tool and grants nothing of it; gives the file in which it notes what it saw.
fn ungranted(world: &mut World) -> PathBuf {
    let (socket, seen_file) = world.sample_tool();
    let manifest = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/segmentation/segmentation.toml"
    );
    let url = format!("unix:{}", socket.display());
    let allow = ["upstream", "allow", "imense", "segmentation", &url];
    world.cli("admin", &allow).ok();
    world.cli("admin", &["tool", "add", "imense", manifest]).ok();
    seen_file
}

#[test]
fn c1_when_no_record_can_be_written_nothing_is_forwarded_and_it_recovers() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let seen_file = world.segmentation();
    submit(&world, "john");
    let before = seen(&seen_file);
    world.limit("0");
    for _ in 0..3 {
        let answer = world.tool("john", "GET", "/jobs", None).expect(503);
        assert_eq!(answer.problem(), "log_unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(
        seen(&seen_file),
        before,
        "the tool saw a request without a record"
    );
    world.limit("unlimited");
    let answer = until("the log to recover", || {
        let answer = world.tool("john", "GET", "/jobs", None);
        (answer.status == 200).then_some(answer)
    });
    let names: Vec<String> = world
        .events_of(&answer.request_id())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"intent".to_owned()), "{names:?}");
    world.stop();
    world.verify().ok();
}

#[test]
fn c2_what_no_task_names_is_refused_and_not_forwarded() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let seen_file = world.segmentation();
    let before = seen(&seen_file);
    for (method, path) in [
        ("GET", "/log"),
        ("PUT", "/jobs/1"),
        ("PATCH", "/jobs"),
        ("GET", "/jobs/1/secret"),
    ] {
        let answer = world.tool("john", method, path, None).expect(403);
        assert_eq!(answer.problem(), "no_task", "{method} {path}");
    }
    assert_eq!(seen(&seen_file), before);
}

#[test]
fn c3_a_task_added_to_a_role_counts_for_the_next_request() {
    let mut world = World::start();
    world.admin();
    ungranted(&mut world);
    world.person("john", &["scientist"]);
    assert_eq!(
        world.tool("john", "GET", "/jobs", None).expect(403).problem(),
        "no_grant"
    );
    world
        .cli(
            "admin",
            &["grant", "add", "imense", "scientist", "segmentation", "list jobs"],
        )
        .ok();
    world.tool("john", "GET", "/jobs", None).expect(200);
}

#[test]
fn c4_two_scientists_see_and_handle_their_own_jobs_only() {
    let mut world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let seen_file = world.segmentation();
    let (johns, marys) = (submit(&world, "john"), submit(&world, "mary"));
    assert_ne!(johns, marys);
    for (user, own, other) in [("john", &johns, &marys), ("mary", &marys, &johns)] {
        world.tool(user, "GET", &format!("/jobs/{own}"), None).expect(200);
        let before = seen(&seen_file);
        for (method, path) in [
            ("GET", format!("/jobs/{other}")),
            ("DELETE", format!("/jobs/{other}")),
            ("GET", format!("/jobs/{other}/result")),
        ] {
            let answer = world.tool(user, method, &path, None).expect(403);
            assert_eq!(answer.problem(), "not_owner", "{user} {method} {path}");
        }
        assert_eq!(seen(&seen_file), before, "a refused request reached the tool");
        let list = world.tool(user, "GET", "/jobs", None).expect(200).json();
        let ids: Vec<String> = list["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].to_string())
            .collect();
        assert_eq!(ids.len(), 1, "{list}");
        assert_eq!(ids[0].trim_matches('"'), own);
        assert_eq!(list["total"], 1);
    }
}

#[test]
fn c5_the_vo_administrator_handles_any_job_by_role() {
    let mut world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    world.segmentation();
    let by_role = |answer: &Answer| {
        let events = world.events_of(&answer.request_id());
        let intent = &events.iter().find(|(name, _)| name == "intent").unwrap().1;
        let path = intent["decision"]["path"].to_string();
        assert!(path.contains("role/vo-administrator"), "{path}");
    };
    for user in ["john", "mary"] {
        let job = submit(&world, user);
        let (monitor, download) = (format!("/jobs/{job}"), format!("/jobs/{job}/result"));
        by_role(&world.tool("admin", "GET", &monitor, None).expect(200));
        by_role(&until("the job to be done", || {
            let answer = world.tool("admin", "GET", &download, None);
            (answer.status == 200).then_some(answer)
        }));
        by_role(&world.tool("admin", "DELETE", &monitor, None).expect(204));
    }
}

#[test]
fn c6_administrative_commands_are_tasks_and_are_refused_and_counted_like_any_other() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    for _ in 0..3 {
        let ran = world.cli("john", &["role", "create", "imense", "clinician"]);
        assert_eq!(ran.code, 3, "{}", ran.stderr);
    }
    let refused = world
        .records()
        .iter()
        .map(|record| &record["event"]["refused"])
        .filter(|event| event["place"]["task"] == "role.create" && event["status"] == 403)
        .count();
    assert_eq!(refused, 3);
    until("the alert on record", || {
        world
            .records()
            .into_iter()
            .find(|record| record["event"]["alert"]["task"] == "role.create")
    });
}

#[test]
fn c7_a_person_with_two_roles_has_the_union_and_the_decision_names_the_role() {
    let mut world = World::start();
    world.admin();
    world.segmentation();
    world.cli("admin", &["role", "create", "imense", "watcher"]).ok();
    world
        .cli(
            "admin",
            &["grant", "add", "imense", "watcher", "segmentation", "monitor job"],
        )
        .ok();
    world
        .person("john", &["scientist"])
        .person("mary", &["scientist", "watcher"]);
    let job = submit(&world, "john");
    let named = |answer: &Answer, role: &str| {
        let events = world.events_of(&answer.request_id());
        let path =
            events.iter().find(|(name, _)| name == "intent").unwrap().1["decision"]["path"].to_string();
        assert!(path.contains(&format!("role/{role}")), "{path}");
    };
    let monitor = format!("/jobs/{job}");
    let watched = world.tool("mary", "GET", &monitor, None).expect(200);
    named(&watched, "watcher");
    let submitted = world.tool("mary", "POST", "/jobs", Some(&image())).expect(201);
    named(&submitted, "scientist");
    // The union, and no more; without one of them, the other.
    world.tool("mary", "DELETE", &monitor, None).expect(403);
    world
        .cli("admin", &["role", "unassign", "imense", "scientist", "mary"])
        .ok();
    world.tool("mary", "POST", "/jobs", Some(&image())).expect(403);
    world.tool("mary", "GET", &monitor, None).expect(200);
}

#[test]
fn c8_in_a_fresh_vo_every_request_to_a_tool_is_refused() {
    let mut world = World::start();
    world.admin();
    let seen_file = ungranted(&mut world);
    world.person("john", &["scientist"]);
    for user in ["john", "admin"] {
        for (method, path) in [
            ("GET", "/jobs"),
            ("POST", "/jobs"),
            ("GET", "/jobs/1"),
            ("DELETE", "/jobs/1"),
            ("GET", "/"),
        ] {
            world.tool(user, method, path, None).expect(403);
        }
    }
    assert_eq!(seen(&seen_file), 0);
}

#[test]
fn g3_m3_a_person_of_another_vo_is_refused_and_no_proxy_is_minted() {
    let mut world = World::start();
    world.admin();
    let seen_file = world.segmentation();
    world
        .cli("admin", &["vo", "create", "other", "--admin", "admin"])
        .ok();
    let added = world.cli_json(
        "admin",
        &[
            "user",
            "add",
            "other",
            "eve",
            "--role",
            "scientist",
            "--show-password",
        ],
    );
    world
        .login("eve", added["one_time_password"].as_str().unwrap())
        .ok();
    let mints = |world: &World| {
        world
            .records()
            .iter()
            .filter(|record| record["event"].get("mint").is_some())
            .count()
    };
    let before = mints(&world);
    let answer = world.tool("eve", "POST", "/jobs", Some(&image())).expect(403);
    assert_eq!(answer.problem(), "not_a_member");
    let nowhere = world
        .call("eve", "GET", "/no-such-vo/segmentation/jobs", None)
        .expect(403);
    assert_eq!(nowhere.problem(), "not_a_member");
    assert_eq!(mints(&world), before);
    assert_eq!(seen(&seen_file), 0);
}

#[test]
fn m9_each_refusal_class_has_its_own_text_and_says_what_to_do_next() {
    let mut world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    world.segmentation();
    let job = submit(&world, "john");
    let url = format!("{}/imense/segmentation/jobs", world.base());
    let mut answers = vec![
        ("no_credential", world.curl(&[&url])),
        (
            "wrong_credential",
            world.curl(&[
                "-H",
                "Authorization: Bearer cst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                &url,
            ]),
        ),
        ("no_task", world.tool("john", "GET", "/nothing", None)),
        (
            "not_owner",
            world.tool("mary", "GET", &format!("/jobs/{job}"), None),
        ),
        (
            "not_a_member",
            world.call("john", "GET", "/elsewhere/segmentation/jobs", None),
        ),
    ];
    world.cli("admin", &["grant", "list", "imense"]).ok();
    world
        .cli("admin", &["role", "create", "imense", "bystander"])
        .ok();
    world.person("eve", &["bystander"]);
    answers.push(("no_grant", world.tool("eve", "GET", "/jobs", None)));
    let body = serde_json::json!({ "username": "john", "password": "a noisy walk along the river" });
    let (json, sessions) = (
        "Content-Type: application/json",
        format!("{}/api/v1/sessions", world.base()),
    );
    let wrong = world.curl(&["-H", json, "--data", &body.to_string(), &sessions]);
    assert_eq!(
        wrong.expect(401).problem(),
        "wrong_credential",
        "a password is a credential"
    );
    let nobody = format!("unix:{}", world.dir.path().join("nobody.sock").display());
    crate::wire::wrap(
        &world,
        "down",
        &nobody,
        "[[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n",
    );
    answers.push((
        "tool_unreachable",
        world.call("john", "GET", "/imense/down/look", None),
    ));
    world.limit("0");
    answers.push(("log_unavailable", world.tool("john", "GET", "/jobs", None)));
    world.limit("unlimited");
    let mut sentences = std::collections::HashSet::new();
    for (name, answer) in &answers {
        let document = answer.json();
        assert_eq!(answer.problem(), *name);
        assert_eq!(document["status"], answer.status);
        assert_eq!(document["request_id"], answer.request_id());
        let next = document["next"].as_str().unwrap();
        assert!(next.len() > 20, "{next}");
        for text in ["title", "explanation", "next"] {
            let text = document[text].as_str().unwrap().to_owned();
            assert!(
                sentences.insert(text),
                "{name} has the text of another class: {document}"
            );
        }
        assert!(
            answer
                .header("content-type")
                .unwrap()
                .starts_with("application/problem+json")
        );
    }
}

#[test]
fn a_suspended_vo_is_shut_at_once_for_its_members_and_opens_again() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    world.tool("john", "GET", "/jobs", None).expect(200);
    let shown = world.cli_json("admin", &["vo", "suspend", "imense"]);
    assert_eq!(shown["state"], "suspended");
    // The same session, the next request.
    let refused = world.tool("john", "GET", "/jobs", None).expect(403);
    assert_eq!(refused.problem(), "suspended");
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("the virtual organisation `imense` is suspended"),
        "{detail}"
    );
    let ran = world.cli("admin", &["role", "create", "imense", "watcher"]);
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    // What is not the VO's goes on, and her session lives.
    world.call("john", "GET", "/api/v1/me", None).expect(200);
    // Who is not a member learns nothing of it.
    world
        .cli("admin", &["vo", "create", "other", "--admin", "admin"])
        .ok();
    let ran = world.cli(
        "admin",
        &[
            "user",
            "add",
            "other",
            "paul",
            "--name",
            "Paul",
            "--show-password",
            "--json",
        ],
    );
    let one_time = ran.ok().json()["one_time_password"].as_str().unwrap().to_owned();
    world.login("paul", &one_time).ok();
    for path in ["/imense/segmentation/jobs", "/api/v1/vos/imense"] {
        let refused = world.call("paul", "GET", path, None).expect(403);
        assert_eq!(refused.problem(), "not_a_member", "{path}");
    }
    let refused = world
        .call("john", "POST", "/api/v1/vos/imense/resume", None)
        .expect(403);
    assert_ne!(refused.problem(), "invalid");
    let shown = world.cli_json("admin", &["vo", "resume", "imense"]);
    assert_eq!(shown["state"], "active");
    world.tool("john", "GET", "/jobs", None).expect(200);
    let changes: Vec<_> = world
        .records()
        .iter()
        .filter_map(|record| {
            let change = &record["event"]["change"]["change"];
            let action = change["action"].as_str().unwrap_or_default();
            ["vo.suspend", "vo.resume"].contains(&action).then(|| {
                (
                    action.to_owned(),
                    change["before"].clone(),
                    change["after"].clone(),
                )
            })
        })
        .collect();
    let state = |word: &str| serde_json::json!({ "state": word });
    assert_eq!(
        changes,
        [
            ("vo.suspend".to_owned(), state("active"), state("suspended")),
            ("vo.resume".to_owned(), state("suspended"), state("active")),
        ]
    );
    let ran = world.cli("admin", &["vo", "suspend", "nowhere"]);
    assert_ne!(ran.code, 0);
}

#[test]
fn explain_names_the_owner_to_administrators_and_to_herself_only() {
    let mut world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("jane", &["scientist"]);
    world.segmentation();
    let image = [b"P5\n4 4\n255\n".to_vec(), [10, 10, 200, 200].repeat(4)].concat();
    let made = world.tool("jane", "POST", "/jobs", Some(&image)).expect(201);
    let job = made.json()["id"].as_i64().unwrap();
    let path = format!("/jobs/{job}");
    let refused = world.tool("john", "GET", &path, None).expect(403).request_id();
    let own = world.tool("jane", "GET", &path, None).expect(200).request_id();
    let jane = world.cli_json("jane", &["whoami"])["id"].clone();
    let explained = |user: &str, id: &str| {
        let found = world.cli_json(user, &["explain", id]);
        assert_eq!(found["owner"], jane);
        let text = world.cli(user, &["explain", id]).ok().stdout;
        // Each record of the request stands there, with the same words as in a search.
        for record in found["records"].as_array().into_iter().flatten() {
            let (seq, event) = (&record["seq"], record["event"].as_object().unwrap());
            let kind = event.keys().next().unwrap();
            assert!(text.contains(&format!(" {seq} {kind} {id}")), "{text}");
        }
        (found["owner_name"]["username"].clone(), text)
    };
    let shown = format!("jane (user jane), {}", jane.as_str().unwrap());
    for (user, id) in [("admin", &refused), ("admin", &own), ("jane", &own)] {
        let (name, text) = explained(user, id);
        assert_eq!(name, "jane", "{user}");
        assert!(text.contains(&shown), "{text}");
    }
    let (name, text) = explained("john", &refused);
    assert_eq!(name, serde_json::Value::Null);
    assert!(!text.contains("jane"), "{text}");
}

/// Takes the grant of `submit job` from scientists.
fn take_back_submit(world: &World) {
    let listed = world.cli_json("admin", &["grant", "list", "imense"]);
    let mut grants = listed["grants"].as_array().unwrap().iter();
    let grant = grants.find(|grant| grant["role"] == "scientist" && grant["task"] == "submit job");
    let id = grant.unwrap()["id"].as_str().unwrap();
    world.cli("admin", &["grant", "remove", "imense", id]).ok();
}

#[test]
fn h6_why_a_request_was_allowed_is_told_as_it_was_then_after_everything_has_changed() {
    let mut world = World::start();
    world.admin();
    world.segmentation();
    world.person("john", &["scientist"]);
    let allowed = world
        .tool("john", "POST", "/jobs", Some(&image()))
        .expect(201)
        .request_id();
    let explain = || {
        let whole = world.cli_json("admin", &["explain", &allowed]);
        let intent = world
            .events_of(&allowed)
            .into_iter()
            .find(|(name, _)| name == "intent");
        (whole, intent.unwrap().1["decision"].clone())
    };
    let (before, decision) = explain();
    let path = decision["path"].to_string();
    assert!(
        path.contains("role/scientist") && path.contains("grant/"),
        "{path}"
    );
    assert!(decision["policies"][0].is_string());
    // Grant, role and person go; the tool, too.
    take_back_submit(&world);
    world
        .cli("admin", &["role", "unassign", "imense", "scientist", "john"])
        .ok();
    world.tool("john", "POST", "/jobs", Some(&image())).expect(403);
    world.cli("admin", &["user", "remove", "imense", "john"]).ok();
    world
        .cli("admin", &["tool", "remove", "imense", "segmentation"])
        .ok();
    let (after, same) = explain();
    assert_eq!(decision, same);
    assert_eq!(before["decision"], after["decision"], "{after}");
    let told = world.cli("admin", &["explain", &allowed]).ok().stdout;
    for part in ["scientist", "submit job", "grant"] {
        assert!(told.contains(part), "`{part}` in {told}");
    }
}

#[test]
fn c15_every_decision_carries_the_version_of_the_policies_and_a_change_is_another_version() {
    let mut world = World::start();
    world.admin();
    world.segmentation();
    world.person("john", &["scientist"]);
    let version = |answer: Answer| {
        let events = world.events_of(&answer.request_id());
        let of = |name: &str| events.iter().find(|(kind, _)| kind == name);
        let (_, event) = of("intent").or_else(|| of("refused")).unwrap();
        event["decision"]["policy_version"].as_i64().unwrap()
    };
    let submit = || world.tool("john", "POST", "/jobs", Some(&image()));
    let (first, again) = (version(submit().expect(201)), version(submit().expect(201)));
    assert_eq!(first, again);
    take_back_submit(&world);
    let refused = version(submit().expect(403));
    assert!(refused > first, "{refused} after {first}");
    let records = world.records();
    let decided = records.iter().filter_map(|record| {
        let event = record["event"]
            .get("intent")
            .or_else(|| record["event"].get("refused"))?;
        event.get("decision")
    });
    let versions: Vec<Option<i64>> = decided
        .map(|decision| decision["policy_version"].as_i64())
        .collect();
    assert!(
        versions.len() > 10 && versions.iter().all(Option::is_some),
        "{versions:?}"
    );
}
