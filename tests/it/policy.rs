//! The life of a virtual organisation (rows C10 and M2): what it may grant at all, and who looks.

use std::collections::BTreeMap;
use std::fs;

use countersign::tool::Audience;
use serde_json::{Value, json};

use crate::world::{Answer, World};

const MANIFEST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/segmentation/segmentation.toml"
);

fn image() -> Vec<u8> {
    let mut pgm = b"P5\n8 8\n255\n".to_vec();
    pgm.extend((0..64u8).map(|i| if i % 8 < 4 { 20 } else { 200 }));
    pgm
}

/// Submits a job and gives its path.
fn submit(world: &World, user: &str) -> String {
    let answer = world.tool(user, "POST", "/jobs", Some(&image())).expect(201);
    let id = answer.header("location").unwrap().rsplit('/').next().unwrap();
    format!("/jobs/{id}")
}

/// The changes of one action, oldest first.
fn changes(world: &World, action: &str) -> Vec<Value> {
    let of = |record: Value| {
        let change = &record["event"]["change"]["change"];
        (change["action"] == action).then(|| change.clone())
    };
    world.records().into_iter().filter_map(of).collect()
}

#[test]
fn c10_a_vo_grants_nothing_outside_its_ceiling_and_a_lowered_one_counts_at_once() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let seen = world.segmentation();
    let seen = || fs::read_to_string(&seen).unwrap_or_default().lines().count();
    let job = submit(&world, "john");
    let ceiling = |args: &[&str]| {
        let mut whole = vec!["vo", "ceiling", "set", "imense", "--upstream", "segmentation"];
        whole.extend(args);
        world.cli("admin", &whole)
    };

    // What would no longer hold is shown before anything is changed.
    let looks = ["--kind", "read", "--kind", "download", "--kind", "asset"];
    let mut check: Vec<&str> = looks.to_vec();
    check.extend(["--check", "--json"]);
    let would = ceiling(&check).ok().json();
    let cut = |answer: &Value| -> Vec<String> {
        let cut = answer["cut"].as_array().unwrap().iter();
        cut.map(|grant| format!("{} {}", grant["role"], grant["task"]).replace('"', ""))
            .collect()
    };
    let expected = [
        "scientist submit job",
        "scientist terminate job",
        "vo-administrator terminate job",
    ];
    assert_eq!(cut(&would), expected);
    submit(&world, "john");

    // A grant that is there does not hold from the next request on, and is not ended.
    let mut set: Vec<&str> = looks.to_vec();
    set.push("--json");
    assert_eq!(cut(&ceiling(&set).ok().json()), expected);
    let before = seen();
    for (method, path) in [("POST", "/jobs"), ("DELETE", job.as_str())] {
        let answer = world.tool("john", method, path, Some(&image())).expect(403);
        assert_eq!(answer.problem(), "outside_ceiling", "{method} {path}");
        let explained = world.cli_json("admin", &["explain", &answer.request_id()]);
        let path = explained["path"].to_string();
        assert!(path.contains("ceiling/upstream/segmentation"), "{explained}");
        assert_eq!(explained["policies"], json!(["core/ceiling"]));
    }
    assert_eq!(seen(), before, "a refused request reached the tool");
    world.tool("john", "GET", "/jobs", None).expect(200);
    let grants = world.cli_json("admin", &["grant", "list", "imense", "--role", "scientist"]);
    assert_eq!(grants["grants"].as_array().unwrap().len(), 6);
    // Who asks what she may do is not told of them.
    let mine = world.cli("john", &["whoami", "--json"]).ok().stdout;
    assert!(!mine.contains("submit job"), "{mine}");

    // A new one is refused when it is made, with the ceiling.
    world.cli("admin", &["role", "create", "imense", "operator"]).ok();
    let grant = |task: &str| {
        let args = ["grant", "add", "imense", "operator", "segmentation", task];
        world.cli("admin", &args)
    };
    let refused = grant("terminate job");
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    let sentence = "`terminate job` of `segmentation` is outside the ceiling over the upstream `segmentation` of `imense`, \
                    which lets it grant the kinds `asset`, `download`, `read`";
    let said = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(sentence), "{said}");
    grant("monitor job").ok();

    // Named tasks are let through whatever their kind, as long as they are what they were.
    ceiling(&["--kind", "read", "--task", "segmentation/submit job"]).ok();
    submit(&world, "john");
    let text = fs::read_to_string(MANIFEST).unwrap();
    let other = world.dir.path().join("other.toml");
    let changed = text.replace(
        "match    = [\"POST /jobs\"]",
        "match    = [\"POST /jobs\", \"PUT /jobs\"]",
    );
    assert_ne!(changed, text);
    fs::write(&other, changed).unwrap();
    let add = ["tool", "add", "imense", other.to_str().unwrap(), "--replace"];
    world.cli("admin", &add).ok();
    let answer = world.tool("john", "POST", "/jobs", Some(&image())).expect(403);
    assert_eq!(answer.problem(), "outside_ceiling");
    let shown = world
        .cli("admin", &["vo", "ceiling", "show", "imense"])
        .ok()
        .stdout;
    assert!(shown.contains("submit job (changed since)"), "{shown}");
    // A kind is not believed against the method.
    let lie = text
        .replace("kind     = \"delete\"", "kind     = \"read\"")
        .replace("deletes  = true\n", "");
    assert_ne!(lie, text);
    fs::write(&other, lie).unwrap();
    world.cli("admin", &add).ok();
    world.tool("john", "POST", "/jobs", Some(&image())).expect(201);
    let answer = world.tool("john", "DELETE", &job, None).expect(403);
    assert_eq!(answer.problem(), "outside_ceiling");

    ceiling(&["--lift"]).ok();
    world.tool("john", "DELETE", &job, None).expect(204);
    let none = json!({ "ceiling": "none" });
    let made = changes(&world, "ceiling.set");
    assert_eq!(made.len(), 3, "a check leaves no change");
    assert_eq!((&made[0]["before"], &made[2]["after"]), (&none, &none));
    assert_eq!(made[0]["after"]["kinds"], json!(["asset", "download", "read"]));
    assert_eq!(made[1]["before"], made[0]["after"]);
    world.stop();
    world.verify().ok();
}

#[test]
fn c10_only_a_system_administrator_sets_a_ceiling_and_every_ceiling_counts() {
    let mut world = World::start();
    world.admin().person("anna", &["vo-administrator", "scientist"]);
    world.segmentation();
    let set = [
        "vo",
        "ceiling",
        "set",
        "imense",
        "--tool",
        "segmentation",
        "--nothing",
    ];
    let refused = world.cli("anna", &set);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    submit(&world, "anna");
    world.cli("admin", &set).ok();
    assert_eq!(
        world.tool("anna", "GET", "/jobs", None).expect(403).problem(),
        "outside_ceiling"
    );
    // She looks, and cannot lift it.
    let shown = world.cli_json("anna", &["vo", "ceiling", "show", "imense"]);
    assert_eq!(shown["ceilings"][0]["tool"], "segmentation");
    let lift = [
        "vo",
        "ceiling",
        "set",
        "imense",
        "--tool",
        "segmentation",
        "--lift",
    ];
    assert_eq!(world.cli("anna", &lift).code, 3);
    // A task must be within all of them.
    world
        .cli("admin", &["vo", "ceiling", "set", "imense", "--kind", "read"])
        .ok();
    assert_eq!(
        world.tool("anna", "GET", "/jobs", None).expect(403).problem(),
        "outside_ceiling"
    );
    world.cli("admin", &lift).ok();
    world.tool("anna", "GET", "/jobs", None).expect(200);
    assert_eq!(world.cli("admin", &lift).code, 4, "there is none to lift");
    for (args, code) in [
        (&["--kind", "reed"][..], 1),
        (&["--task", "segmentation/nothing"], 4),
        (&["--upstream", "elsewhere", "--kind", "read"], 4),
        (&["--tool", "countersign", "--kind", "read"], 1),
        (&[], 2),
    ] {
        let mut whole = vec!["vo", "ceiling", "set", "imense"];
        whole.extend(args);
        let ran = world.cli("admin", &whole);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
    }
}

/// What an operation's path asks for, with something that is there in the other VO wherever it names it.
fn parameters(template: &str, known: &BTreeMap<&'static str, String>) -> Vec<(String, String)> {
    let variables = template
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let value = |variable: &str| {
        let (name, kind) = variable.split_once(':').unwrap_or((variable, ""));
        let value = known.get(name).cloned().unwrap_or_else(|| match kind {
            "uuid" => "0199a1b2-0000-7000-8000-000000000001".into(),
            "int" => "1".into(),
            _ => "x".into(),
        });
        (name.to_owned(), value)
    };
    variables.map(value).collect()
}

/// Operations that name no VO and are not a system administrator's: what they show and do is the asker's own.
const OWN_AFFAIRS: &[&str] = &[
    "api.describe",
    "factor.add",
    "factor.list",
    "factor.offer",
    "factor.remove",
    "factor.renew_recovery_codes",
    "identity.list",
    "identity.unlink",
    // Whom one may sign in with: the same for everybody.
    "idp.sign_in",
    "person.me",
    "proxy.list",
    "proxy.revoke",
    "request.explain_own",
    "request.list_own",
    "session.create",
    "session.end",
    "session.list",
    "session.step_up",
    "terms.accept",
    "terms.owed",
    "token.create",
    "token.list",
    "token.revoke",
    "user.change_own_password",
    "vo.list",
];

#[test]
fn m2_an_administrator_of_one_vo_is_refused_every_operation_on_another_and_that_is_recorded() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]).person("anna", &[]);
    world.segmentation();
    world
        .cli("admin", &["vo", "create", "ahe", "--admin", "anna"])
        .ok();
    world.cli("admin", &["user", "remove", "imense", "anna"]).ok();
    world.login("anna", crate::world::PASSWORD).ok();
    world.cli("anna", &["role", "create", "ahe", "reader"]).ok();
    let first = |list: &[&str], member: &str| {
        world.cli_json("admin", list)[member][0]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let known = BTreeMap::from([
        ("vo", "imense".to_owned()),
        ("person", first(&["user", "list", "imense"], "users")),
        ("grant", first(&["grant", "list", "imense"], "grants")),
        ("role", "scientist".to_owned()),
        ("tool", "segmentation".to_owned()),
        ("upstream", "segmentation".to_owned()),
        ("level", "imense".to_owned()),
    ]);
    let there = || {
        let lists = [
            &["user", "list", "imense"][..],
            &["role", "list", "imense"],
            &["grant", "list", "imense"],
            &["tool", "list", "imense"],
            &["upstream", "list", "imense"],
            &["vo", "show", "imense"],
        ];
        lists.map(|list| world.cli_json("admin", list))
    };
    let before = there();
    let mut asked: BTreeMap<String, (String, bool)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for task in countersign::api::tasks() {
        let (method, template) = task.matches[0].split_once(' ').unwrap();
        let of_vo = template.contains("{vo:");
        let anyones = !matches!(task.audience, Audience::Granted(_));
        if !of_vo && anyones {
            if !OWN_AFFAIRS.contains(&task.name.as_str()) {
                wrong.push(format!(
                    "`{}` names no VO and is for everybody: say here that it is the asker's own",
                    task.name
                ));
            }
            continue;
        }
        let filled = parameters(template, &known);
        let filled: Vec<(&str, &str)> = filled
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (_, path) = countersign::api::address(&task.name, &filled).unwrap();
        let reason = if task.reasoned { "?reason=mine" } else { "" };
        let answer = ask(
            &world,
            "anna",
            (method, body(&task.name)),
            &format!("{path}{reason}"),
        );
        let problem = if answer.status == 403 {
            answer.problem()
        } else {
            String::new()
        };
        let expected: &[&str] = match of_vo {
            true => &["not_a_member", "no_grant"],
            false => &["no_grant"],
        };
        if !expected.contains(&problem.as_str()) {
            wrong.push(format!(
                "`{}` ({method} {path}) was answered {}: {}",
                task.name,
                answer.status,
                answer.text()
            ));
            continue;
        }
        if answer.text().contains("john") {
            wrong.push(format!("`{}` tells of a member: {}", task.name, answer.text()));
        }
        asked.insert(task.name.clone(), (answer.request_id(), of_vo));
    }
    for own in OWN_AFFAIRS {
        if !countersign::api::tasks().iter().any(|task| task.name == *own) {
            wrong.push(format!("there is no operation `{own}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked.len() > 60, "only {} operations", asked.len());
    assert_eq!(there(), before, "something changed");

    let mut refused: BTreeMap<String, Value> = BTreeMap::new();
    let mut answered: BTreeMap<String, Value> = BTreeMap::new();
    for record in world.records() {
        let event = &record["event"];
        for (name, kept) in [("refused", &mut refused), ("outcome", &mut answered)] {
            if let Some(request) = event[name]["request"].as_str() {
                kept.insert(request.to_owned(), event[name].clone());
            }
        }
    }
    for (task, (request, of_vo)) in asked {
        // Who may see a VO at all is for a few operations themselves to say; the others are refused by the decision.
        let status = match (refused.get(&request), answered.get(&request)) {
            (Some(refused), _) => {
                assert_eq!(refused["place"]["task"], task.as_str());
                assert!(!of_vo || refused["place"]["vo"] == "imense", "{refused}");
                &refused["status"]
            }
            (None, Some(outcome)) => &outcome["status"],
            (None, None) => panic!("`{task}` left no record"),
        };
        assert_eq!(*status, 403, "{task}");
    }
    world.stop();
    world.verify().ok();
}

/// A body that an operation can read, for those that themselves say who may look.
fn body(task: &str) -> &'static str {
    match task {
        "user.find" => r#"{"username":"john"}"#,
        _ => "{}",
    }
}

fn ask(world: &World, user: &str, (method, body): (&str, &str), path: &str) -> Answer {
    let url = format!("{}{path}", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token(user));
    let mut args = vec!["-X", method, "-H", &bearer];
    if !matches!(method, "GET" | "HEAD") {
        args.extend(["-H", "Content-Type: application/json", "--data-binary", body]);
    }
    args.push(&url);
    world.curl(&args)
}
