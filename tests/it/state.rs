//! What somebody writes into the store past the gateway: it gives nobody a right, and everybody who must know is told.

use serde_json::Value;

use crate::world::{PASSWORD, World, until};

/// Makes john an administrator of the VO, as whoever can write the file does.
const PROMOTE: &str = "INSERT INTO assignment (id, vo_id, role, person, until, version, created_at)
    SELECT x'0198000000007000800000000000abcd', r.vo_id, r.id, p.id, NULL, 1, 1 FROM role r, person p, vo v
    WHERE r.name = 'vo-administrator' AND r.vo_id = v.id AND v.name = 'imense' AND p.username = 'john'";
/// Takes that back.
const DEMOTE: &str = "DELETE FROM assignment WHERE id = x'0198000000007000800000000000abcd'";

fn image() -> Vec<u8> {
    let mut pgm = b"P5\n8 8\n255\n".to_vec();
    pgm.extend((0..64u8).map(|i| if i % 8 < 4 { 20 } else { 200 }));
    pgm
}

fn world() -> World {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    world.cli("admin", &["vo", "create", "lab"]).ok();
    world
}

fn in_doubt(world: &World) -> u64 {
    world.metric("countersign_state_in_doubt").unwrap()
}

fn foreign(world: &World) -> Vec<Value> {
    let records = world.records().into_iter();
    records
        .filter_map(|record| record["event"].get("state_foreign_change").cloned())
        .collect()
}

fn readiness(world: &World) -> String {
    let url = format!("http://{}/readyz", world.operations());
    world.curl(&[&url]).expect(200).text()
}

fn again(world: &mut World) {
    world.serve();
    for user in ["admin", "john"] {
        world.login(user, PASSWORD).ok();
    }
}

#[test]
fn a_row_put_in_by_hand_gives_nothing_and_is_told() {
    let mut world = world();
    assert_eq!((in_doubt(&world), readiness(&world).as_str()), (0, "ready\n"));
    assert_eq!(world.cli("john", &["user", "list", "imense"]).code, 3);
    world.write_store(PROMOTE);
    world.signal("HUP");
    until("the foreign change to be seen", || {
        (in_doubt(&world) == 1).then_some(())
    });
    // Nothing of it is in force, what was in force goes on, and the other VO too.
    assert_eq!(world.cli("john", &["user", "list", "imense"]).code, 3);
    world.tool("john", "POST", "/jobs", Some(&image())).expect(201);
    world.cli("admin", &["role", "create", "lab", "reader"]).ok();
    // Nothing can be changed there: with the next change, the row would be on the log's side.
    let refused = world.cli("admin", &["role", "create", "imense", "reader"]);
    assert!(
        refused.code != 0 && refused.stderr.contains("past the gateway"),
        "{}",
        refused.stderr
    );
    // Everybody who must know is told, without a name.
    let told = foreign(&world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["effect"], &told[0]["count"]),
        (&"last_good".into(), &1.into())
    );
    let words = told[0]["difference"][0].as_str().unwrap();
    assert!(
        words.starts_with(
            "assignment 01980000-0000-7000-8000-00000000abcd added (role vo-administrator, person "
        ),
        "{words}"
    );
    assert!(!words.contains("john"));
    assert!(readiness(&world).contains("note: state: one level was changed past the gateway"));
    until("the mail", || {
        (world.stored("SELECT count(*) FROM mail WHERE kind = 'foreign_change'") == 1).then_some(())
    });
    let shown = world.cli_json("admin", &["vo", "state", "show"]);
    assert_eq!(shown["doubts"][0]["level"], "imense", "{shown}");
    assert_eq!(world.cli("john", &["vo", "state", "show"]).code, 3);
    assert_eq!(
        world
            .cli("john", &["vo", "state", "accept", "imense", "--reason", "mine"])
            .code,
        3
    );

    // Accepted, it is in force, on record with before and after, and stays so.
    let accept = ["vo", "state", "accept", "imense", "--reason", "moved by hand"];
    world.cli("admin", &accept).ok();
    assert_eq!(in_doubt(&world), 0);
    world.cli("john", &["user", "list", "imense"]).ok();
    world.cli("admin", &["role", "create", "imense", "reader"]).ok();
    let records = world.records();
    let accepted = records
        .iter()
        .find(|record| record["event"]["change"]["change"]["action"] == "state.accept")
        .unwrap();
    let change = &accepted["event"]["change"];
    assert_eq!(change["change"]["after"]["reason"], "moved by hand");
    assert_eq!(change["state"][0]["before"], told[0]["known"]);
    assert_eq!(change["change"]["after"]["digest"], told[0]["found"]);
    world.stop();
    again(&mut world);
    assert_eq!(in_doubt(&world), 0);
    world.cli("john", &["user", "list", "imense"]).ok();
    world.verify().ok();
}

#[test]
fn a_row_put_in_while_the_gateway_stood_still_closes_its_vo_alone() {
    let mut world = world();
    world.stop();
    world.write_store(PROMOTE);
    again(&mut world);
    assert_eq!(in_doubt(&world), 1);
    let refused = world.tool("john", "POST", "/jobs", Some(&image())).expect(503);
    assert_eq!(refused.problem(), "state_in_doubt");
    assert!(refused.text().contains("countersign vo state show"));
    world.cli("admin", &["role", "create", "lab", "reader"]).ok();
    // The lines that were kept say what differs, also now.
    let told = foreign(&world);
    assert_eq!(told[0]["effect"], "refused");
    let words = told[0]["difference"][0].as_str().unwrap();
    assert!(words.contains("added (role vo-administrator"), "{told:?}");
    // What is put back is served again.
    world.write_store(DEMOTE);
    let shown = world.cli_json("admin", &["vo", "state", "show"]);
    assert_eq!(shown["doubts"], serde_json::json!([]));
    world.tool("john", "POST", "/jobs", Some(&image())).expect(201);
    until("the end of it on record", || {
        foreign(&world)
            .iter()
            .any(|told| told["effect"] == "put_back")
            .then_some(())
    });
}

#[test]
fn a_log_that_was_taken_away_makes_nobody_what_the_store_says() {
    let mut world = world();
    world.stop();
    let level = PROMOTE
        .replace("'vo-administrator'", "'system-administrator'")
        .replace("v.name = 'imense'", "v.name = 'countersign'");
    world.write_store(&level);
    std::fs::remove_dir_all(world.data().join("log")).unwrap();
    again(&mut world);
    assert!(in_doubt(&world) >= 2, "the gateway's own level and each VO");
    for user in ["john", "admin"] {
        assert_ne!(world.cli(user, &["admin", "list"]).code, 0);
    }
    assert_ne!(world.tool("john", "GET", "/jobs", None).status, 200);
}

#[test]
fn at_the_gateways_own_level_the_operator_settles_it() {
    let mut world = world();
    world.stop();
    let level = PROMOTE
        .replace("'vo-administrator'", "'system-administrator'")
        .replace("v.name = 'imense'", "v.name = 'countersign'");
    world.write_store(&level);
    again(&mut world);
    // Nobody is a system administrator until it is settled; people work on.
    for user in ["john", "admin"] {
        let refused = world.cli(user, &["admin", "list"]);
        assert!(refused.code != 0, "{}", refused.stdout);
    }
    world.tool("john", "POST", "/jobs", Some(&image())).expect(201);
    world.cli("admin", &["user", "list", "imense"]).ok();
    world.write_store(DEMOTE);
    world.signal("HUP");
    until("the rows to be seen", || (in_doubt(&world) == 0).then_some(()));
    world.cli("admin", &["admin", "list"]).ok();
    assert_eq!(world.cli("john", &["admin", "list"]).code, 3);
    // The same again, and accepted by who operates the machine, with the gateway stopped and running.
    for stopped in [true, false] {
        world.stop();
        world.write_store(&format!("{DEMOTE}; {level}"));
        if !stopped {
            again(&mut world);
        }
        let data = world.data();
        let data = data.to_str().unwrap();
        let accept = [
            "admin",
            "accept-state",
            "gateway",
            "--data",
            data,
            "--reason",
            "drill",
        ];
        world.cli("admin", &accept).ok();
        if stopped {
            again(&mut world);
        }
        assert_eq!(in_doubt(&world), 0);
        world.cli("john", &["admin", "list"]).ok();
        world.cli("john", &["admin", "remove", "john"]).ok();
    }
    let accepted = world
        .records()
        .iter()
        .filter(|record| record["event"]["change"]["change"]["action"] == "state.accept")
        .count();
    assert_eq!(accepted, 2);
}

#[test]
fn kill_9_amid_changes_is_no_foreign_change() {
    let mut world = world();
    let changes = |world: &World, cycle: i64| {
        let token = world.token("admin");
        let url = format!("{}/api/v1/vos/lab/roles?reason=test", world.base());
        let ca = world.ca();
        std::thread::spawn(move || {
            let bearer = format!("Authorization: Bearer {token}");
            let mut made = 0;
            for number in 0.. {
                let body = format!("{{\"name\":\"r{cycle}-{number}\"}}");
                let json = "Content-Type: application/json";
                let args = ["-X", "POST", "-H", &bearer, "-H", json, "-d", &body, &url];
                match crate::world::curl(Some(&ca), &args).status {
                    0 => break,
                    201 => made += 1,
                    _ => {}
                }
            }
            made
        })
    };
    let mut made = 0;
    for cycle in 0..6 {
        let before = world.stored("SELECT count(*) FROM role");
        let changing = changes(&world, cycle);
        until("some changes", || {
            (world.stored("SELECT count(*) FROM role") > before + 2 + cycle).then_some(())
        });
        world.kill();
        made += changing.join().unwrap();
        again(&mut world);
        assert_eq!(in_doubt(&world), 0, "cycle {cycle}: {}", world.log());
    }
    assert!(made > 0);
    assert!(foreign(&world).is_empty());
    world.verify().ok();
}
