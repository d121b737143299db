//! A gateway whose audit log has little room left, or none.

use std::fs;

use serde_json::Value;

use super::world::{World, run_in, until};

/// More than any disk has.
const ENDLESS: &str = "9000000000000000000";

/// The same gateway, started anew with these settings of its log.
fn again(world: &mut World, settings: &str) {
    world.stop();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("_free_bytes ="))
        .collect();
    let text = text
        .join("\n")
        .replace("[audit]\n", &format!("[audit]\n{settings}\n"));
    fs::write(&file, text).unwrap();
    world.serve();
}

fn rooms(world: &World) -> Vec<String> {
    let room = |record: &Value| Some(record["event"]["log_degraded"]["room"].as_str()?.to_owned());
    world.records().iter().filter_map(room).collect()
}

fn mails(world: &World) -> Vec<String> {
    let Ok(folder) = fs::read_dir(world.data().join("outbox")) else {
        return Vec::new();
    };
    folder
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

fn mail(world: &World, subject: &str) -> String {
    until(subject, || {
        mails(world)
            .into_iter()
            .find(|mail| mail.contains(&format!("Subject: [Countersign] {subject}")))
    })
}

#[test]
fn where_little_room_is_left_nothing_is_brought_in_and_no_proxy_is_made_and_administrators_are_told() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let image = [b"P5\n4 4\n255\n".to_vec(), [10, 10, 200, 200].repeat(4)].concat();
    world.tool("john", "POST", "/jobs", Some(&image)).expect(201);
    again(&mut world, &format!("min_free_bytes = {ENDLESS}"));
    let refused = world.tool("john", "POST", "/jobs", Some(&image)).expect(503);
    assert_eq!(refused.problem(), "low_space");
    assert!(refused.header("retry-after").is_some());
    let recorded = world.events_of(&refused.request_id());
    let [(kind, refusal)] = recorded.as_slice() else {
        panic!("{recorded:?}")
    };
    assert_eq!(
        (kind.as_str(), &refusal["problem"]),
        ("refused", &Value::from("low_space"))
    );
    // To read needs a new proxy after a start.
    let unread = world.tool("john", "GET", "/jobs", None).expect(503);
    assert_eq!(unread.problem(), "low_space");
    world.call("admin", "GET", "/api/v1/vos", None).expect(200);
    assert_eq!(rooms(&world), ["low"]);
    let told = mail(&world, "little room is left for the audit log");
    assert!(told.contains("new proxies, are refused"), "{told}");

    again(&mut world, "min_free_bytes = 0\nstop_free_bytes = 0");
    world.tool("john", "GET", "/jobs", None).expect(200);
    world.verify().ok();
}

#[test]
fn where_no_room_is_left_nobody_is_served_and_the_operator_can_still_let_an_administrator_in() {
    let mut world = World::start();
    world.admin();
    again(
        &mut world,
        &format!("min_free_bytes = {ENDLESS}\nstop_free_bytes = {ENDLESS}"),
    );
    let ready = || world.curl(&[&format!("{}/readyz", world.operations())]).status;
    until("not ready", || (ready() == 503).then_some(()));
    let refused = world.call("admin", "GET", "/api/v1/vos", None).expect(503);
    assert_eq!(refused.problem(), "log_unavailable");
    let data = world.data();
    let args = ["admin", "recover", "--data", data.to_str().unwrap(), "--json"];
    run_in(world.dir.path(), &args).ok();
    let is_recovery = |record: &Value| record["event"]["change"]["change"]["action"] == "admin.recover";
    assert!(world.records().iter().any(is_recovery));
    assert_eq!(rooms(&world), ["stopped"]);
    mail(&world, "no request is served: the audit log has no room");

    again(&mut world, "min_free_bytes = 0\nstop_free_bytes = 0");
    until("ready again", || {
        let ready = world.curl(&[&format!("{}/readyz", world.operations())]);
        (ready.status == 200).then_some(())
    });
    world.verify().ok();
}
