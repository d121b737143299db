//! Feature rows I3, I6, I7, I9, I10 and I11: searching, exporting and reporting, from the outside.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::python::PythonTool;
use crate::records::{flaws, ocsf_flaw};
use crate::world::{COUNTERSIGN, PASSWORD, Ran, World, run_in, until};

fn image() -> Vec<u8> {
    let mut pgm = b"P5\n4 4\n255\n".to_vec();
    pgm.extend([10, 10, 200, 200].repeat(4));
    pgm
}

/// A world with one scientist and one job of hers.
fn world() -> (World, String) {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let answer = world.tool("john", "POST", "/jobs", Some(&image())).expect(201);
    let job = answer
        .header("location")
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    (world, job)
}

fn search(world: &World, user: &str, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["audit", "search", "--fresh", "--limit", "1000"];
    all.extend(args);
    world.cli_json(user, &all)["records"].as_array().unwrap().clone()
}

fn requests(records: &[Value]) -> BTreeSet<String> {
    let of = |record: &Value| {
        let event = record["event"]
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap()
            .clone();
        event["request"].as_str().map(str::to_owned)
    };
    records.iter().filter_map(of).collect()
}

fn offline(world: &World, args: &[&str]) -> Ran {
    let data = world.data();
    let mut all = vec!["audit"];
    all.extend(args);
    all.extend(["--data", data.to_str().unwrap()]);
    run_in(world.dir.path(), &all)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Reads a table with another reader than the one of the program.
fn table(text: &str) -> Vec<Value> {
    let program = "import csv, io, json, sys
print(json.dumps(list(csv.DictReader(io.StringIO(sys.stdin.read(), newline='')))))";
    let mut python = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs (apt-get install python3)");
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    serde_json::from_slice::<Value>(&output.stdout)
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn i6_records_are_found_by_person_and_dataset_and_by_every_other_filter() {
    let (world, job) = world();
    let seen = world
        .tool("john", "GET", &format!("/jobs/{job}"), None)
        .expect(200)
        .request_id();
    let denied = world
        .tool("john", "GET", "/jobs/4242", None)
        .expect(403)
        .request_id();
    let resource = format!("job/{job}");
    let dataset = search(
        &world,
        "admin",
        &["--vo", "imense", "--person", "john", "--resource", &resource],
    );
    let names: Vec<_> = dataset
        .iter()
        .map(|record| {
            record["event"]
                .as_object()
                .unwrap()
                .keys()
                .next()
                .unwrap()
                .clone()
        })
        .collect();
    assert_eq!(
        names,
        ["outcome", "intent"],
        "access and its decision, newest first"
    );
    let intent = &dataset[1]["event"]["intent"];
    assert_eq!(intent["decision"]["permit"], true);
    let serial = intent["delegation"]["serial"]
        .as_str()
        .expect("a proxy")
        .to_owned();
    let time = |record: &Value| record["time"].as_i64().unwrap();
    let moment = |micros: i64| {
        let at = countersign::clock::Timestamp(micros);
        at.to_string()
    };
    let (at, after) = (moment(time(&dataset[1])), moment(time(&dataset[1]) + 1));
    let trace = seen.replace('-', "");
    let found = |args: &[&str], request: &str| {
        let mut all = vec!["--vo", "imense"];
        all.extend(args);
        requests(&search(&world, "admin", &all)).contains(request)
    };
    let filters: [(&[&str], &[&str]); 12] = [
        (&["--person", "john"], &["--person", "admin"]),
        (&["--tool", "segmentation"], &["--tool", "countersign"]),
        (&["--task", "monitor job"], &["--task", "submit job"]),
        (&["--resource", &resource], &["--resource", "job/4242"]),
        (&["--decision", "permit"], &["--decision", "denial"]),
        (&["--event", "intent"], &["--event", "refused"]),
        (&["--request", &seen], &["--request", &denied]),
        (&["--proxy", &serial], &["--proxy", "1"]),
        (&["--serial", &serial], &["--serial", "1"]),
        (
            &["--trace", &trace],
            &["--trace", "00000000000000000000000000000001"],
        ),
        (
            &["--since", &at, "--until", &after],
            &["--until", &at, "--request", &seen],
        ),
        (&["--text", "MONITOR"], &["--text", "a text that nowhere stands"]),
    ];
    for (with, without) in filters {
        assert!(found(with, &seen), "{with:?}");
        assert!(!found(without, &seen), "{without:?}");
    }
    assert!(found(&["--decision", "denial", "--text", "4242"], &denied));
    // The same filters over the files.
    world.records();
    let john = world.stored_text("SELECT lower(hex(id)) FROM person WHERE username = 'john'");
    let john = uuid::Uuid::parse_str(&john).unwrap().to_string();
    for args in [
        vec!["--person", &john, "--resource", &resource],
        vec!["--resource", &resource, "--tool", "segmentation"],
    ] {
        let mut all = vec!["export", "--vo", "imense"];
        all.extend(args);
        let exported = lines(&offline(&world, &all).ok().stdout);
        let newest_first: Vec<_> = exported.into_iter().rev().collect();
        assert_eq!(newest_first, dataset);
    }
}

#[test]
fn i11_a_vo_administrator_finds_and_exports_her_own_vo_only() {
    let (world, _) = world();
    world.cli("admin", &["vo", "create", "other"]).ok();
    let args = [
        "user",
        "add",
        "other",
        "olga",
        "--name",
        "Olga",
        "--mail",
        "olga@example.org",
        "--show-password",
        "--role",
        "vo-administrator",
    ];
    let one_time = world.cli_json("admin", &args)["one_time_password"]
        .as_str()
        .unwrap()
        .to_owned();
    world.login("olga", &one_time).ok();
    for args in [
        &["audit", "search", "--vo", "imense"][..],
        &["audit", "search"],
        &["audit", "export", "--vo", "imense"],
        &["audit", "export"],
        &["audit", "report", "usage", "--by", "tool", "--vo", "imense"],
        &["audit", "report", "completeness"],
    ] {
        let ran = world.cli("olga", args);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (3, ""),
            "{args:?}: {}",
            ran.stderr
        );
    }
    let imense = search(&world, "admin", &["--vo", "imense"]);
    assert!(!imense.is_empty());
    let foreign = requests(&imense);
    let exported = world
        .cli("olga", &["audit", "export", "--vo", "other"])
        .ok()
        .stdout;
    let own = lines(&exported);
    assert!(!own.is_empty());
    for records in [
        search(&world, "olga", &["--vo", "other"]),
        search(&world, "olga", &["--vo", "other", "--text", "segmentation"]),
        search(&world, "olga", &["--vo", "other", "--tool", "segmentation"]),
        own,
    ] {
        assert!(requests(&records).is_disjoint(&foreign), "{records:?}");
    }
    // The gateway's own level belongs to system administrators, and a VO's records not to it.
    for record in search(&world, "admin", &[]) {
        let event = &record["event"];
        for entry in [&event["intent"], &event["refused"]] {
            assert!(entry["place"]["vo"].is_null(), "{record}");
        }
        assert!(event.get("mint").is_none(), "{record}");
    }
}

#[test]
fn a_search_is_itself_on_record_with_what_was_searched_for() {
    let (world, _) = world();
    search(
        &world,
        "admin",
        &["--vo", "imense", "--text", "needle", "--task", "list jobs"],
    );
    world.cli("admin", &["audit", "export", "--vo", "imense"]).ok();
    let records = world.records();
    let searches: Vec<&Value> = records
        .iter()
        .map(|record| &record["event"]["intent"])
        .filter(|intent| intent["place"]["task"] == "audit.search")
        .collect();
    assert!(
        searches
            .iter()
            .all(|intent| intent["subject"]["person"].is_string())
    );
    assert!(
        searches
            .iter()
            .any(|intent| intent["parameters"]["text"] == "needle"
                && intent["parameters"]["task"] == "list jobs"),
        "{searches:?}"
    );
    assert!(
        searches
            .iter()
            .any(|intent| intent["parameters"]["onward"] == "0.0"),
        "the export"
    );
}

#[test]
fn i10_a_call_of_the_api_is_found_with_person_path_and_status() {
    let (world, _) = world();
    let answer = world.call("john", "GET", "/api/v1/me", None).expect(200);
    let refused = world
        .call("john", "GET", "/api/v1/vos/imense/users", None)
        .expect(403);
    let found = search(&world, "admin", &["--request", &answer.request_id()]);
    let of = |name: &str| {
        let one = found.iter().find(|record| record["event"].get(name).is_some());
        one.unwrap_or_else(|| panic!("no {name} in {found:?}"))["event"][name].clone()
    };
    assert!(of("intent")["subject"]["person"].is_string());
    assert_eq!(of("intent")["place"]["path"], "/api/v1/me");
    assert_eq!(of("intent")["place"]["method"], "GET");
    assert_eq!(of("outcome")["status"], 200);
    let found = search(
        &world,
        "admin",
        &["--vo", "imense", "--request", &refused.request_id()],
    );
    assert_eq!(found[0]["event"]["refused"]["status"], 403);
    let rows = table(
        &world
            .cli("admin", &["audit", "export", "--format", "csv"])
            .ok()
            .stdout,
    );
    let row = rows
        .iter()
        .find(|row| row["request"] == answer.request_id() && row["event"] == "outcome")
        .expect("a row of the outcome");
    assert_eq!(
        (&row["status"], &row["path"]),
        (&"200".into(), &"/api/v1/me".into())
    );
}

#[test]
fn a_search_gives_all_pages_a_table_and_says_how_far_the_index_lags() {
    let (world, _) = world();
    for _ in 0..12 {
        world.tool("john", "GET", "/jobs", None).expect(200);
    }
    // More than go into one page of the gateway's own, by its smallest page.
    let lists = [
        "audit",
        "search",
        "--vo",
        "imense",
        "--task",
        "list jobs",
        "--event",
        "intent",
    ];
    let with = |more: &[&str]| world.cli("admin", &[&lists[..], more].concat()).ok().stdout;
    until("all intents in the index", || {
        (lines(&with(&["--all", "--json"])).len() == 12).then_some(())
    });
    assert_eq!(lines(&with(&["--limit", "0", "--json"])).len(), 12);
    let limited: Value = serde_json::from_str(&with(&["--limit", "5", "--json", "--fresh"])).unwrap();
    assert_eq!(limited["records"].as_array().unwrap().len(), 5);
    assert_eq!(limited["lag"], 0);
    let rows = table(&with(&["--limit", "5", "--csv"]));
    assert_eq!(rows.len(), 5);
    assert!(
        rows.iter()
            .all(|row| row["user"] == "john" && row["decision"] == "permit"),
        "{rows:?}"
    );
    let page = world.call(
        "admin",
        "GET",
        "/api/v1/vos/imense/audit?limit=1&task=list%20jobs&onward=0.0",
        None,
    );
    let page = page.expect(200).json();
    let next = page["next"].as_str().expect("a next page").to_owned();
    let path = format!("/api/v1/vos/imense/audit?limit=1000&task=list%20jobs&onward={next}");
    let rest = world.call("admin", "GET", &path, None).expect(200).json();
    assert!(rest["next"].is_null());
    let (first, rest) = (&page["records"][0]["seq"], &rest["records"].as_array().unwrap());
    assert!(rest.len() >= 11 && rest.iter().all(|record| record["seq"].as_u64() > first.as_u64()));
    for bad in ["text=", "onward=7", "fresh=maybe"] {
        let answer = world.call("admin", "GET", &format!("/api/v1/vos/imense/audit?{bad}"), None);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (422, "invalid"),
            "{bad}"
        );
    }
}

#[test]
fn a_search_that_is_followed_shows_what_comes_and_not_its_own_looks() {
    let (world, _) = world();
    let mut child = Command::new(COUNTERSIGN)
        .args([
            "audit", "search", "--vo", "imense", "--limit", "1", "--follow", "--json",
        ])
        .env("COUNTERSIGN_CONFIG", world.config("admin"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&shown.next().unwrap().unwrap()).unwrap();
    let mut own = 0;
    for _ in 0..2 {
        let id = world.tool("john", "GET", "/jobs", None).expect(200).request_id();
        let mut last = first["seq"].as_u64().unwrap();
        loop {
            let record: Value = serde_json::from_str(&shown.next().unwrap().unwrap()).unwrap();
            let seq = record["seq"].as_u64().unwrap();
            assert!(seq > last, "oldest first, and none twice");
            last = seq;
            own += usize::from(record.to_string().contains("audit.search"));
            if record["event"]["outcome"]["request"] == id.as_str() {
                break;
            }
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(own, 0, "looks of the command itself");
}

#[test]
fn an_export_is_every_record_in_each_of_its_forms() {
    let (mut world, _) = world();
    world.tool("john", "GET", "/jobs/4242", None).expect(403);
    world.login("john", "a wrong password");
    world.cli("john", &["logout"]);
    world.stop();
    let records = world.records();
    let json = offline(&world, &["export"]).ok();
    assert_eq!(lines(&json.stdout), records);
    assert_eq!(json.stderr, "", "no progress where nobody looks");
    for (record, flaw) in records.iter().zip(flaws(&records)) {
        assert_eq!(flaw, "", "the published schema refuses {record}");
    }
    let events = lines(&offline(&world, &["export", "--format", "ocsf"]).ok().stdout);
    assert_eq!(events.len(), records.len());
    for (event, record) in events.iter().zip(&records) {
        assert_eq!(ocsf_flaw(event), None, "{event:#}");
        assert_eq!(event["metadata"]["sequence"], record["seq"]);
    }
    let outcomes = events
        .iter()
        .filter(|event| event["metadata"]["event_code"] == "outcome");
    for outcome in outcomes {
        assert!(
            outcome["api"]["operation"] != "unknown",
            "no intent for {outcome:#}"
        );
    }
    let rows = table(&offline(&world, &["export", "--format", "csv"]).ok().stdout);
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(&records) {
        assert_eq!(row["seq"], record["seq"].to_string());
        assert!(record["event"].get(row["event"].as_str().unwrap()).is_some());
    }
    let logins = offline(&world, &["export", "--event", "login"]).ok().stdout;
    assert!(logins.lines().count() >= 3);
    let unknown = offline(&world, &["export", "--person", "john"]);
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);
}

/// A tool of which each kind of task that is counted has one.
const COUNTED: &str = "[tool]\nname = \"counted\"\nupstream = \"counted\"\ndelegation = \"none\"\n
[[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"
[[task]]\nname = \"fetch\"\nmatch = [\"GET /fetch/{study:int}\"]\nkind = \"download\"\nresource = { type = \"study\", id = \"{study}\" }
[[task]]\nname = \"amend\"\nmatch = [\"POST /amend/{study:int}\"]\nkind = \"update\"\nresource = { type = \"study\", id = \"{study}\" }
[[task]]\nname = \"drop\"\nmatch = [\"DELETE /drop/{study:int}\"]\nkind = \"delete\"\nresource = { type = \"study\", id = \"{study}\" }
[[task]]\nname = \"give\"\nmatch = [\"POST /give/{study:int}\"]\nkind = \"transfer\"\nresource = { type = \"study\", id = \"{study}\" }\n";

fn counted() -> (World, PythonTool) {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("jane", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    let manifest = world.dir.path().join("counted.toml");
    fs::write(&manifest, COUNTED).unwrap();
    world
        .cli("admin", &["upstream", "allow", "imense", "counted", &tool.url()])
        .ok();
    world
        .cli("admin", &["tool", "add", "imense", manifest.to_str().unwrap()])
        .ok();
    let mut grant = vec!["grant", "add", "imense", "scientist", "counted"];
    grant.extend(["look", "fetch", "amend", "drop", "give"]);
    world.cli("admin", &grant).ok();
    (world, tool)
}

#[test]
fn i3_logins_downloads_updates_deletions_and_transfers_are_events_with_a_time_and_are_counted() {
    let (world, _tool) = counted();
    let call = |user: &str, method: &str, path: &str| {
        let body = (method == "POST").then_some(&b"x"[..]);
        world
            .call(user, method, &format!("/imense/counted{path}"), body)
            .expect(200)
            .request_id()
    };
    let acts = [
        (call("john", "GET", "/fetch/7"), "download"),
        (call("john", "POST", "/amend/7"), "update"),
        (call("john", "DELETE", "/drop/8"), "delete"),
        (call("jane", "POST", "/give/7"), "transfer"),
        (call("jane", "GET", "/fetch/7"), "download"),
        (call("jane", "GET", "/look"), "read"),
    ];
    let records = world.records();
    for (request, kind) in &acts {
        let intent = records
            .iter()
            .find(|record| record["event"]["intent"]["request"] == request.as_str())
            .expect("an intent");
        assert_eq!(intent["event"]["intent"]["place"]["kind"], *kind);
        assert!(
            intent["time"].as_i64().unwrap() > 1_700_000_000_000_000,
            "microseconds of UTC"
        );
    }
    let john = search(
        &world,
        "admin",
        &["--vo", "imense", "--person", "john", "--tool", "counted"],
    );
    let id = john[0]["event"]["intent"]["subject"]["person"].as_str();
    let id = id
        .or_else(|| john[1]["event"]["intent"]["subject"]["person"].as_str())
        .unwrap();
    let usage = |args: &[&str]| -> Value {
        let mut all = vec!["report", "usage", "--json"];
        all.extend(args);
        offline(&world, &all).ok().json()
    };
    let row = |report: &Value, by: &str, key: &str| -> Value {
        let rows = report["rows"].as_array().unwrap().clone();
        rows.into_iter()
            .find(|row| row[by] == key)
            .unwrap_or_else(|| panic!("no {key} in {report}"))
    };
    let by_tool = row(&usage(&["--by", "tool"]), "tool", "imense/counted");
    let counts = |row: &Value| {
        let of = |name: &str| row[name].as_u64().unwrap();
        [
            of("requests"),
            of("downloads"),
            of("updates_deletes"),
            of("transfers"),
        ]
    };
    assert_eq!(counts(&by_tool), [6, 2, 2, 1]);
    let by_person = row(&usage(&["--by", "person"]), "person", id);
    // One is her own first password.
    assert_eq!(by_person["updates_deletes"], 3);
    assert!(by_person["logins"].as_u64().unwrap() >= 2, "{by_person}");
    let by_dataset = row(&usage(&["--by", "dataset"]), "dataset", "imense/counted study/7");
    assert_eq!(counts(&by_dataset), [4, 2, 1, 1]);
}

#[test]
fn i9_the_totals_of_a_usage_report_equal_the_numbers_of_records() {
    let (world, _tool) = counted();
    for study in ["1", "2", "1"] {
        world
            .call("john", "GET", &format!("/imense/counted/fetch/{study}"), None)
            .expect(200);
    }
    world
        .call("john", "GET", "/imense/counted/nothing", None)
        .expect(403);
    world.login("jane", "a wrong password");
    let records = world.records();
    let count =
        |of: &dyn Fn(&Value) -> bool| records.iter().filter(|record| of(&record["event"])).count() as u64;
    let kind = |kinds: &'static [&str]| {
        move |event: &Value| {
            let kind = event["intent"]["place"]["kind"].as_str();
            kind.is_some_and(|kind| kinds.contains(&kind))
        }
    };
    let expected = [
        ("requests", count(&|event| event.get("intent").is_some())),
        ("refused", count(&|event| event.get("refused").is_some())),
        ("logins", count(&|event| event["login"]["result"] == "ok")),
        ("downloads", count(&kind(&["download"]))),
        ("updates_deletes", count(&kind(&["update", "delete"]))),
        ("transfers", count(&kind(&["transfer"]))),
    ];
    let bytes: u64 = records
        .iter()
        .filter_map(|record| record["event"]["outcome"]["bytes_out"].as_u64())
        .sum();
    assert!(bytes > 0);
    for by in ["tool", "person", "dataset"] {
        let report = offline(&world, &["report", "usage", "--by", by, "--json"])
            .ok()
            .json();
        for (name, number) in expected {
            assert_eq!(report["total"][name], number, "{name} by {by}");
            let rows = report["rows"].as_array().unwrap();
            let sum: u64 = rows.iter().map(|row| row[name].as_u64().unwrap()).sum();
            assert_eq!(sum, number, "rows of {name} by {by}");
        }
        assert_eq!(report["total"]["bytes_out"], bytes, "by {by}");
        let rows = table(
            &offline(&world, &["report", "usage", "--by", by, "--csv"])
                .ok()
                .stdout,
        );
        assert_eq!(rows.last().unwrap()["requests"], expected[0].1.to_string());
    }
    // A VO's own, over the API.
    let found = search(
        &world,
        "admin",
        &["--vo", "imense", "--event", "intent", "--tool", "counted"],
    );
    let args = ["audit", "report", "usage", "--by", "tool", "--vo", "imense"];
    let report = world.cli_json("admin", &args);
    let rows = report["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["tool"] == "imense/counted").unwrap();
    assert_eq!(row["requests"], found.len());
}

#[test]
fn i9_a_completeness_report_adds_up_and_is_signed_with_the_logs_key() {
    let (mut world, _tool) = counted();
    world
        .call("john", "GET", "/imense/counted/look", None)
        .expect(200);
    world.kill();
    world.serve();
    world.login("admin", PASSWORD).ok();
    world.login("john", PASSWORD).ok();
    world
        .call("john", "GET", "/imense/counted/look", None)
        .expect(200);
    let online = world.cli_json("admin", &["audit", "report", "completeness", "--vo", "imense"]);
    assert_eq!(
        (&online["complete"], &online["note"]),
        (&true.into(), &Value::Null)
    );
    world.stop();
    let records = world.records();
    let intents = records
        .iter()
        .filter(|record| record["event"].get("intent").is_some());
    let report = offline(&world, &["report", "completeness", "--json"]).ok().json();
    assert_eq!(report["complete"], true);
    let days = report["days"].as_array().unwrap();
    let sum = |name: &str| -> u64 { days.iter().map(|day| day[name].as_u64().unwrap()).sum() };
    assert_eq!(sum("intents"), intents.count() as u64);
    assert_eq!(sum("accepted"), sum("intents"));
    assert_eq!(
        sum("intents"),
        sum("outcomes") + sum("unknown") + sum("assets") + sum("open")
    );
    assert_eq!((sum("gaps"), sum("open")), (0, 0));
    let note = report["note"].as_str().expect("a signed note").to_owned();
    assert_eq!(offline(&world, &["report", "completeness"]).ok().stdout, note);
    let file = world.dir.path().join("report.txt");
    let key = world.data().join("keys/log.pub");
    let check = |note: &str| {
        fs::write(&file, note).unwrap();
        let args = [
            "audit",
            "report",
            "check",
            file.to_str().unwrap(),
            "--key",
            key.to_str().unwrap(),
        ];
        run_in(world.dir.path(), &args)
    };
    let shown = check(&note).ok().stdout;
    assert!(shown.contains("complete accepted="), "{shown}");
    assert_eq!(check(&note.replace("gaps=0", "gaps=1")).code, 1);
    let checkpoint = fs::read_to_string(world.data().join("log/checkpoint")).unwrap();
    assert_eq!(check(&checkpoint).code, 1, "a checkpoint is no report");
    // The log's key signs no root but that of the records.
    let root = checkpoint.lines().nth(2).unwrap();
    let forged = checkpoint.replace(root, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    fs::write(world.data().join("log/checkpoint"), &forged).unwrap();
    let refused = offline(&world, &["report", "completeness"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(
        refused.stderr.contains("is not signed by the log's key"),
        "{}",
        refused.stderr
    );
    fs::write(world.data().join("log/checkpoint"), &checkpoint).unwrap();
    // Another implementation of signed notes says the same.
    let public = fs::read_to_string(&key).unwrap();
    let verifier = signed_note::StandardVerifier::new(public.trim()).unwrap();
    let list = signed_note::VerifierList::new(vec![Box::new(verifier)]);
    signed_note::Note::from_bytes(note.as_bytes())
        .unwrap()
        .verify(&list)
        .unwrap();
}

#[test]
fn the_index_is_dropped_and_made_anew_by_command_while_no_gateway_serves() {
    let (mut world, _) = world();
    let id = world.tool("john", "GET", "/jobs", None).expect(200).request_id();
    let busy = offline(&world, &["reindex"]);
    assert_eq!(busy.code, 1, "{}", busy.stdout);
    assert!(
        busy.stderr.contains("a gateway serves this folder"),
        "{}",
        busy.stderr
    );
    world.stop();
    fs::write(world.data().join("index.db"), "no index at all").unwrap();
    let made = offline(&world, &["reindex"]).ok();
    assert!(made.stdout.contains("records"), "{}", made.stdout);
    let mode = fs::metadata(world.data().join("index.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    world.serve();
    world.login("admin", PASSWORD).ok();
    let found = search(&world, "admin", &["--vo", "imense", "--request", &id]);
    assert_eq!(
        found.len(),
        2 + usize::from(found.iter().any(|record| record["event"].get("mint").is_some()))
    );
    let nowhere = run_in(world.dir.path(), &["audit", "reindex", "--data", "/nonexistent"]);
    assert_eq!(nowhere.code, 4);
}

#[test]
fn m7_members_are_found_by_a_text_a_role_and_a_state_and_the_search_is_on_record_without_the_text() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let edit = [
        "user",
        "edit",
        "imense",
        "mary",
        "--name",
        "Mary Übel",
        "--organisation",
        "St Thomas",
    ];
    world.cli("admin", &edit).ok();
    world.cli("admin", &["user", "suspend", "imense", "john"]).ok();
    let found = |more: &[&str]| {
        let listed = world.cli_json("admin", &[&["user", "list", "imense"], more].concat());
        let users = listed["users"].as_array().unwrap().iter();
        users
            .map(|user| user["username"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&["--text", "übel"]), ["mary"]);
    assert_eq!(found(&["--text", "THOMAS"]), ["mary"]);
    assert_eq!(found(&["--text", "mary übel st"]), [""; 0]);
    assert_eq!(found(&["--role", "scientist"]), ["john", "mary"]);
    assert_eq!(found(&["--role", "scientist", "--state", "suspended"]), ["john"]);
    assert_eq!(found(&["--role", "vo-administrator"]), ["admin"]);
    assert_eq!(found(&["--text", "%"]), [""; 0]);
    let refused = world.call("admin", "GET", "/api/v1/vos/imense/users?state=gone", None);
    let detail = refused.expect(422).json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("active, suspended, pending, rejected, expired, deleted"),
        "{detail}"
    );
    let records = world.records();
    let asked = |text: &str| records.iter().any(|record| record.to_string().contains(text));
    assert!(asked("user.list"));
    assert!(!asked("übel") && !asked("THOMAS"));
}
