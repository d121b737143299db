//! Old records are dropped, and the log still proves what it says: row N8.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock, HandClock, SystemClock};
use countersign::config::Config;
use countersign::id::{Ids, SystemSource};
use countersign::server::Server;
use serde_json::Value;

use crate::world::{PASSWORD, Ran, World, run_in, until};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn log(world: &World) -> PathBuf {
    world.data().join("log")
}

fn segments(world: &World) -> Vec<String> {
    let names = fs::read_dir(log(world))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.contains(".log")).collect();
    names.sort();
    names
}

/// A world that keeps records for two hours, with several segments of requests.
fn filled() -> World {
    let mut world = World::initialised();
    let file = world.data().join("countersign.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let lines = settings.lines().map(|line| match line.split(" = ").next() {
        Some("segment_bytes" | "# segment_bytes") => "segment_bytes = 262144\nkeep = \"2h\"".to_owned(),
        _ if line == "[delegation]" => "[delegation]\ntrace_period = \"0s\"".to_owned(),
        _ => line.to_owned(),
    });
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    world.serve();
    world.admin();
    let bearer = format!("Authorization: Bearer {}", world.token("admin"));
    let url = format!("{}/api/v1/vos?limit=[1-1000]", world.base());
    let ended = Command::new("curl")
        .args([
            "--silent",
            "--cacert",
            &world.ca(),
            "--output",
            "/dev/null",
            "-H",
            &bearer,
            &url,
        ])
        .status()
        .unwrap();
    assert!(ended.success());
    world.records();
    world.stop();
    assert!(segments(&world).len() > 4, "{:?}", segments(&world));
    world
}

/// The gateway is started so much later, and when its job has dropped something, does what is asked for.
fn later<T>(world: &World, by: Duration, meanwhile: impl FnOnce() -> T) -> T {
    let clock = Arc::new(HandClock::new(SystemClock::new().now()));
    clock.advance(by);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config::load(&world.data()).unwrap();
    let ids = Ids::new(clock, Arc::new(SystemSource::new()));
    let server = runtime.block_on(Server::start(config, ids)).unwrap();
    until("the first segment to go", || {
        (!segments(world)[0].starts_with("0000000000.")).then_some(())
    });
    let told = meanwhile();
    runtime.block_on(server.stop("test"));
    told
}

fn verify(world: &World, more: &[&str]) -> Ran {
    let data = world.data();
    let mut args = vec!["audit", "verify", "--data", text(&data), "--json"];
    args.extend(more);
    run_in(world.dir.path(), &args)
}

fn prove(world: &World, seq: u64) -> Ran {
    let (data, place) = (world.data(), format!("1.{seq}"));
    run_in(
        world.dir.path(),
        &["audit", "prove", &place, "--data", text(&data)],
    )
}

#[test]
fn n8_dropped_segments_leave_a_log_that_verifies_proves_and_is_restored() {
    let world = filled();
    let kept = world.dir.path().join("kept-elsewhere");
    let checkpoints = fs::read_to_string(log(&world).join("checkpoints")).unwrap();
    let mut parts = checkpoints.split("\n\n");
    let (words, signature) = (parts.next().unwrap(), parts.next().unwrap());
    fs::write(&kept, format!("{words}\n\n{signature}\n")).unwrap();
    let newest = world.dir.path().join("newest-elsewhere");
    fs::copy(log(&world).join("checkpoint"), &newest).unwrap();
    // Serving goes on, and a search says what it cannot find any more.
    let found = later(&world, Duration::from_secs(3 * 3_600), || {
        world.login("admin", PASSWORD).ok();
        until("the search to know of it", || {
            let found = world.cli_json("admin", &["audit", "search", "--event", "log_dropped", "--fresh"]);
            found["dropped"].is_string().then_some(found)
        })
    });
    assert!(!found["records"].as_array().unwrap().is_empty(), "{found}");

    let report = verify(&world, &["--checkpoint", text(&newest)]).ok().json()["report"].clone();
    let dropped = &report["dropped"];
    let (records, said) = (
        dropped["records"].as_u64().unwrap(),
        dropped["record"].as_str().unwrap(),
    );
    assert!(records > 500 && dropped["epochs"] == 0, "{report}");
    let said: u64 = said.strip_prefix("1.").unwrap().parse().unwrap();
    let told = run_in(
        world.dir.path(),
        &["audit", "verify", "--data", text(&world.data())],
    )
    .ok();
    assert!(
        told.stdout
            .contains(&format!("the first {records} records of epoch 1 on ")),
        "{}",
        told.stdout
    );
    assert!(
        told.stdout.contains(&format!("as record 1.{said} says")),
        "{}",
        told.stdout
    );

    // The record itself, with every file that went.
    let data = world.data();
    let tail = run_in(
        world.dir.path(),
        &["audit", "tail", "--data", text(&data), "--all", "--json"],
    )
    .ok();
    let lines: Vec<Value> = tail
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["seq"], records);
    let event = lines
        .iter()
        .find_map(|record| record["event"].get("log_dropped"))
        .unwrap();
    let names: Vec<&str> = event["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["name"].as_str().unwrap())
        .collect();
    assert!(names[0].starts_with("0000000000.log"), "{names:?}");
    assert!(
        segments(&world)
            .iter()
            .all(|name| !names.contains(&name.as_str()))
    );

    // What is gone cannot be proved, and that is said; what is there can.
    let gone = prove(&world, records - 1);
    assert_eq!(gone.code, 4, "{}", gone.stderr);
    assert!(
        gone.stderr
            .contains(&format!("was dropped: records before 1.{records}")),
        "{}",
        gone.stderr
    );
    prove(&world, records).ok();
    let older = verify(&world, &["--checkpoint", text(&kept)]);
    assert_eq!(older.code, 1);
    assert!(older.stderr.contains("take a newer one"), "{}", older.stderr);

    // It is backed up and restored like any other.
    let (key, backup, back) = (
        world.dir.path().join("sealing.key"),
        world.dir.path().join("backup"),
        world.dir.path().join("back"),
    );
    fs::copy(data.join("keys/sealing.key"), &key).unwrap();
    run_in(
        world.dir.path(),
        &["backup", "--data", text(&data), text(&backup)],
    )
    .ok();
    let args = [
        "restore",
        text(&backup),
        "--data",
        text(&back),
        "--sealing-key",
        text(&key),
    ];
    run_in(world.dir.path(), &args).ok();
    let restored = run_in(
        world.dir.path(),
        &["audit", "verify", "--data", text(&back), "--json"],
    )
    .ok()
    .json();
    assert_eq!(restored["report"]["dropped"]["records"], records);

    // Whoever deletes one more is found.
    fs::remove_file(log(&world).join(&segments(&world)[0])).unwrap();
    let tampered = verify(&world, &[]);
    assert_eq!(tampered.code, 1);
    assert!(tampered.stderr.contains("is missing"), "{}", tampered.stderr);
}
