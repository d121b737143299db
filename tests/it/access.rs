//! One report from request to access.

use serde_json::Value;

use crate::world::World;

fn lines(world: &World, more: &[&str]) -> Vec<Value> {
    let mut args = vec!["audit", "report", "access", "--vo", "imense"];
    args.extend(more);
    let report = world.cli_json("admin", &args);
    report["lines"].as_array().unwrap().clone()
}

fn whats(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["what"].as_str().unwrap()).collect()
}

#[test]
fn n3_one_report_leads_from_the_grant_and_its_reason_to_decisions_accesses_proxies_and_traces() {
    let mut world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"])
        .person("jane", &["scientist"]);
    world.segmentation();
    let reason = "ticket 4711";
    let assign = [
        "role",
        "assign",
        "imense",
        "vo-administrator",
        "john",
        "--reason",
        reason,
    ];
    world.cli("admin", &assign).ok();
    let unassign = [
        "role",
        "unassign",
        "imense",
        "vo-administrator",
        "john",
        "--reason",
        "done",
    ];
    world.cli("admin", &unassign).ok();
    let image = [b"P5\n2 2\n255\n".as_slice(), &[0, 200, 10, 250]].concat();
    let made = world
        .tool("john", "POST", "/jobs?name=cells", Some(&image))
        .expect(201);
    let submitted = made.request_id();
    world.tool("john", "GET", "/jobs/1", None).expect(200);
    world.tool("mary", "GET", "/jobs/1", None).expect(403);
    world.tool("jane", "GET", "/jobs", None).expect(200);
    let serial = world
        .records()
        .iter()
        .find_map(|record| record["event"]["mint"]["serial"].as_str().map(str::to_owned))
        .unwrap();
    world.cli("admin", &["trace", &serial, "--vo", "imense"]).ok();
    let id = |user: &str| world.cli_json("admin", &["user", "show", "imense", user])["id"].clone();
    let (john, mary, jane, admin) = (id("john"), id("mary"), id("jane"), id("admin"));

    let all = lines(&world, &["--person", "john", "--tool", "segmentation"]);
    let of = |what: &str| -> Vec<&Value> { all.iter().filter(|line| line["what"] == what).collect() };
    // Who was granted what by whom, when and why.
    let granted = of("grant.add");
    assert!(
        !granted.is_empty() && granted.iter().all(|line| line["by"] == admin),
        "{all:?}"
    );
    assert!(
        granted.iter().all(|line| line["tool"] == "segmentation"),
        "{granted:?}"
    );
    let why: Vec<(&Value, &Value)> = of("role.assign")
        .into_iter()
        .map(|line| (&line["person"], &line["because"]))
        .collect();
    assert!(why.contains(&(&john, &reason.into())), "{why:?}");
    assert_eq!(of("role.unassign")[0]["because"], "done");
    assert_eq!(of("role.unassign")[0]["by_user"], "admin");
    // What was decided, and by what.
    let allowed = of("allowed");
    let first = allowed
        .iter()
        .find(|line| line["request"] == submitted.as_str())
        .unwrap();
    assert_eq!(
        (&first["user"], &first["decision"]),
        (&"john".into(), &"granted".into())
    );
    assert_eq!(first["task"], "submit job");
    for field in ["policies", "path", "policy_version"] {
        assert!(!first[field].as_str().unwrap().is_empty(), "{field}: {first}");
    }
    // What came of it, and with which proxy.
    let ended = of("ended");
    let ended = ended
        .iter()
        .find(|line| line["request"] == submitted.as_str())
        .unwrap();
    assert_eq!(ended["status"], made.status.to_string());
    assert_eq!(of("minted")[0]["serial"], serial.as_str());
    let traced = of("traced");
    assert_eq!((&traced[0]["by"], &traced[0]["person"]), (&admin, &john));
    // In the order of the log, and of nobody else.
    let seqs: Vec<u64> = all.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    let order = whats(&all);
    let at = |what: &str| order.iter().position(|one| *one == what).unwrap();
    assert!(at("grant.add") < at("allowed") && at("allowed") < at("minted") && at("minted") < at("traced"));
    assert!(
        all.iter()
            .all(|line| line["person"] != mary && line["person"] != jane)
    );

    // By what was acted on: who was refused stands there too, and who made it.
    let of_job = lines(&world, &["--resource", "job/1"]);
    let denied: Vec<&Value> = of_job.iter().filter(|line| line["what"] == "denied").collect();
    assert_eq!(
        (&denied[0]["person"], &denied[0]["decision"]),
        (&mary, &"not_owner".into())
    );
    assert!(
        of_job.iter().any(|line| line["request"] == submitted.as_str()),
        "{of_job:?}"
    );
    assert!(of_job.iter().all(|line| line["person"] != jane), "{of_job:?}");
    // As a table, and of the files.
    let csv = world.cli("admin", &["audit", "report", "access", "--vo", "imense", "--csv"]);
    let csv = csv.ok().stdout;
    assert!(
        csv.starts_with("time,seq,what,request,person,user,by,by_user,"),
        "{csv}"
    );
    assert!(csv.contains(reason));
    let table = world.cli("admin", &["audit", "report", "access", "--vo", "imense"]);
    assert!(table.ok().stdout.contains(reason));
    let (data, john) = (world.data(), john.as_str().unwrap());
    let files = lines(
        &world,
        &[
            "--person",
            john,
            "--tool",
            "segmentation",
            "--data",
            data.to_str().unwrap(),
        ],
    );
    assert_eq!(whats(&files), order);
}

#[test]
fn a_trace_is_found_in_the_virtual_organisation_in_which_it_was_asked_for_and_not_at_the_gateways_level() {
    let world = World::start();
    world.admin();
    world.cli("admin", &["trace", "4711", "--vo", "imense"]);
    let found = |more: &[&str]| {
        let args = [&["audit", "search", "--event", "trace", "--fresh"], more].concat();
        world.cli_json("admin", &args)["records"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(found(&["--vo", "imense"]), 1);
    assert_eq!(found(&[]), 0);
}
