//! What is held on one person: told on request, and erased.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::world::{PASSWORD, World, until};

/// Everything that names the person of this story, in lower case.
const NAMES: [&str; 3] = ["quirinus", "zwiebelbach", "q.z@example"];

/// Every file of the data folder in which she is named.
fn naming(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(naming(&path));
        } else if path.is_file() {
            let content = fs::read(&path).unwrap().to_ascii_lowercase();
            let named = |name: &&str| {
                content
                    .windows(name.len())
                    .any(|window| window == name.as_bytes())
            };
            if NAMES.iter().any(named) {
                found.push(path);
            }
        }
    }
    found
}

fn image() -> Vec<u8> {
    let mut pgm = b"P5\n8 8\n255\n".to_vec();
    pgm.extend((0..64u8).map(|i| if i % 8 < 4 { 20 } else { 200 }));
    pgm
}

/// A member who works, is denied until somebody is mailed, and gets another card.
fn quirinus(world: &mut World) -> String {
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let vo = world.vo.clone();
    let add = [
        "user",
        "add",
        &vo,
        "quirinus",
        "--name",
        "Quirinus Zwiebelbach",
        "--mail",
        "q.z@example.org",
        "--show-password",
    ];
    let added = world.cli_json("admin", &add);
    let password = added["one_time_password"].as_str().unwrap();
    world.login("quirinus", password).ok();
    // Nothing that mints a proxy, which could be traced for a while: that is for john.
    assert_eq!(world.cli("quirinus", &["user", "show", &vo, "john"]).code, 3);
    world.tool("john", "POST", "/jobs", Some(&image())).expect(201);
    for _ in 0..6 {
        world.tool("quirinus", "POST", "/admin", None).expect(403);
    }
    let edit = ["user", "edit", &vo, "quirinus", "--mail", "q.z@example.net"];
    world.cli("admin", &edit).ok();
    until("a mail about the denials", || {
        let sent = "SELECT count(*) FROM delivery d JOIN mail m ON m.id = d.mail
                    WHERE m.kind = 'alert' AND d.state = 'sent'";
        (world.stored(sent) > 0).then_some(())
    });
    added["user"]["id"].as_str().unwrap().to_owned()
}

fn list<'a>(export: &'a Value, name: &str) -> &'a Vec<Value> {
    export["held"][name]
        .as_array()
        .unwrap_or_else(|| panic!("no {name} in {export}"))
}

#[test]
fn n8_export_for_one_person_and_after_erasure_the_log_still_verifies() {
    let mut world = World::start();
    let id = quirinus(&mut world);
    let vo = world.vo.clone();
    assert!(!naming(&world.data()).is_empty());

    // All that is held, for the home and for system administrators, and for nobody else.
    let ours = world.cli_json("admin", &["user", "export", "quirinus", "--vo", &vo]);
    let all = world.cli_json("admin", &["user", "export", "quirinus"]);
    for export in [&ours, &all] {
        assert_eq!(export["id"], id.as_str());
        assert_eq!(export["held"]["username"], "quirinus");
        assert_eq!(list(export, "cards").len(), 2);
        assert!(
            list(export, "cards")[0]["text"]
                .to_string()
                .contains("q.z@example.org")
        );
        assert_eq!(list(export, "memberships").len(), 1);
        assert_eq!(list(export, "roles")[0]["role"], "scientist");
        assert!(!list(export, "sessions").is_empty());
        assert!(!export.to_string().contains("argon2"));
    }
    let events = |export: &Value, name: &str| {
        let records = export["records"].as_array().unwrap();
        records
            .iter()
            .filter(|record| record["event"].get(name).is_some())
            .count()
    };
    assert!(
        events(&ours, "intent") > 0 && events(&ours, "refused") >= 6,
        "{ours}"
    );
    assert!(events(&all, "login") > 0 && events(&all, "refused") >= 6, "{all}");
    let john = world.cli_json("admin", &["user", "export", "john"]);
    assert_eq!(list(&john, "proxies").len(), 1);
    assert!(list(&ours, "proxies").is_empty());
    assert_eq!(
        world
            .cli("john", &["user", "export", "quirinus", "--vo", &vo])
            .code,
        3
    );
    assert_eq!(world.cli("john", &["user", "export", "quirinus"]).code, 3);
    let exported = world.records();
    let exports = exported.iter().filter(|record| {
        let place = &record["event"]["intent"]["place"];
        place["task"] == "user.export" || place["task"] == "person.export"
    });
    assert!(exports.count() >= 2, "each export is on record");

    // Not as long as she belongs anywhere, nor by anybody, nor within the trace period.
    let refused = world.cli("admin", &["user", "erase", "quirinus"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("still a member"),
        "{}",
        refused.stderr
    );
    world.cli("admin", &["user", "remove", &vo, "quirinus"]).ok();
    assert_eq!(world.cli("john", &["user", "erase", &id]).code, 3);
    let refused = world.cli("admin", &["user", "erase", "quirinus"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("may be traced"),
        "{}",
        refused.stderr
    );
    world.stop();
    let file = world.data().join("countersign.toml");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        settings.replace("# trace_period = \"180d\"", "trace_period = \"0s\""),
    )
    .unwrap();
    world.serve();
    world.login("admin", PASSWORD).ok();

    // A proxy that is still valid counts too.
    world.cli("admin", &["user", "remove", &vo, "john"]).ok();
    let refused = world.cli("admin", &["user", "erase", "john"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("may be traced"),
        "{}",
        refused.stderr
    );

    // Erased: nothing in the folder names her, and nobody else was touched.
    let erased = world.cli_json("admin", &["user", "erase", "quirinus"]);
    assert_eq!(erased["cards"], 2, "{erased}");
    assert_eq!(erased["scrubbed"], true, "{erased}");
    assert!(erased["mails"].as_u64().unwrap() > 0, "{erased}");
    assert_eq!(naming(&world.data()), Vec::<PathBuf>::new());
    assert_eq!(world.login("quirinus", PASSWORD).code, 3);
    world.login("john", PASSWORD).ok();
    let left = world.cli_json("admin", &["user", "export", &id]);
    assert!(list(&left, "cards").is_empty());
    assert_eq!(left["held"]["username"], "");
    assert_eq!(left["held"]["state"], "ended");
    assert!(events(&left, "intent") > 0, "her records stay");
    let erasure = world.records();
    let erasure = erasure
        .iter()
        .find(|record| record["event"]["change"]["change"]["action"] == "person.erase");
    let change = &erasure.expect("the erasure is on record")["event"]["change"]["change"];
    assert_eq!(change["target"], id.as_str());
    assert_eq!(change["before"]["cards"].as_array().unwrap().len(), 2);
    world.verify().ok();

    // Also at rest, and after the next start.
    world.stop();
    assert_eq!(naming(&world.data()), Vec::<PathBuf>::new());
    world.serve();
    world.verify().ok();
    world.login("john", PASSWORD).ok();
}
