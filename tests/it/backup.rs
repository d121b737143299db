//! Backup and restore, as an operator does it: the data folder is lost, and the gateway comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::world::{PASSWORD, Ran, World, curl, run_in, until};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A place of its own, outside the data folder.
fn place(world: &World, name: &str) -> PathBuf {
    world.dir.path().join(name)
}

fn backup(world: &World, target: &Path) -> Ran {
    let data = world.data();
    run_in(
        world.dir.path(),
        &["backup", "--data", text(&data), text(target), "--json"],
    )
}

fn restore(world: &World, backup: &Path, data: &Path, more: &[&str]) -> Ran {
    let key = place(world, "sealing.key");
    let mut args = vec![
        "restore",
        text(backup),
        "--data",
        text(data),
        "--sealing-key",
        text(&key),
        "--json",
    ];
    args.extend(more);
    run_in(world.dir.path(), &args)
}

/// A world at work, whose sealing key has a copy in another place.
fn at_work() -> World {
    let mut world = World::start();
    let key = world.data().join("keys/sealing.key");
    fs::copy(key, place(&world, "sealing.key")).unwrap();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    world
}

fn image() -> Vec<u8> {
    let mut pgm = b"P5\n8 8\n255\n".to_vec();
    pgm.extend((0..64u8).map(|i| if i % 8 < 4 { 20 } else { 200 }));
    pgm
}

/// Submits a job as `john`; gives its path.
#[track_caller]
fn submit(world: &World) -> String {
    let answer = world.tool("john", "POST", "/jobs", Some(&image())).expect(201);
    let location = answer.header("location").expect("a location");
    format!("/jobs/{}", location.rsplit('/').next().unwrap())
}

/// The restored folder gets its sealing key, as the restore said, and serves.
fn serve(world: &mut World) {
    fs::copy(place(world, "sealing.key"), world.data().join("keys/sealing.key")).unwrap();
    world.serve();
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[track_caller]
fn epoch_begun(world: &World) -> Value {
    let records = world.records();
    let begun = records.iter().find_map(|record| record["event"].get("epoch"));
    begun.expect("a record of the new epoch").clone()
}

#[test]
fn a_gateway_comes_back_from_a_backup_made_while_it_worked() {
    let mut world = at_work();
    let job = submit(&world);
    let asked = world.tool("john", "GET", &job, None).expect(200).request_id();
    let target = place(&world, "backup");
    let ended = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut answered = 0;
            while !ended.load(Ordering::Relaxed) || answered == 0 {
                submit(&world);
                answered += 1;
            }
            answered
        });
        let made = backup(&world, &target).ok().json();
        ended.store(true, Ordering::Relaxed);
        assert!(busy.join().unwrap() > 0);
        made
    });
    assert_eq!(made["running"], true);
    assert_eq!(
        made["manifest"]["log"]["records"],
        made["manifest"]["log"]["signed"]
    );
    let request = made["request"].as_str().expect("the backup is on record");
    let events = world.events_of(request);
    assert_eq!(events[0].1["place"]["task"], "backup", "{events:?}");
    world.verify().ok();
    let (old_token, old_base) = (world.token("john"), world.base());
    assert!(old_base.starts_with("https://"));

    // The disk is gone.
    world.kill();
    fs::remove_dir_all(world.data()).unwrap();
    let restored = restore(&world, &target, &world.data(), &[]).ok().json();
    assert_eq!(restored["sealing_key_there"], false);
    assert!(restored["ended"]["sessions"].as_u64().unwrap() >= 2, "{restored}");
    serve(&mut world);

    // Whoever held a session signs in again; people, roles, owners, tools and the VO's key are there.
    let (bearer, url) = (
        format!("Authorization: Bearer {old_token}"),
        format!("{}/{}/segmentation{job}", world.base(), world.vo),
    );
    curl(Some(&world.ca()), &["-H", &bearer, &url]).expect(401);
    world.login("john", PASSWORD).ok();
    world.login("admin", PASSWORD).ok();
    world.tool("john", "GET", &job, None).expect(200);
    submit(&world);
    let shown = world.cli_json("admin", &["user", "show", &world.vo, "john"]);
    assert!(shown.to_string().contains("scientist"), "{shown}");

    // What is restored is the operator's word, and looks to nobody like rows that were changed by hand.
    assert_eq!(world.metric("countersign_state_in_doubt"), Some(0));
    // A request of the old epoch is found and proved by the gateway that goes on in the new one.
    let search = ["audit", "search", "--vo", &world.vo, "--request", &asked];
    let found = world.cli_json("admin", &search).to_string();
    assert!(found.contains("\"intent\"") && found.contains(&asked), "{found}");
    let proof = place(&world, "proof").to_str().unwrap().to_owned();
    let prove = ["audit", "prove", &asked, "--vo", &world.vo, "--output", &proof];
    world.cli("admin", &prove).ok();
    let public = fs::read_to_string(world.data().join("keys/log.pub")).unwrap();
    let check = ["audit", "check-proof", &proof, "--key", public.trim()];
    world.cli("admin", &check).ok();

    // The log: the old epoch whole, and a new one that says why it began.
    let report = world.verify().ok().json()["report"].clone();
    assert_eq!(report["epoch"], restored["epoch"]);
    assert_eq!(report["earlier"][0]["damage"], Value::Null, "{report}");
    assert_eq!(report["earlier"][0]["records"], restored["records"]);
    let begun = epoch_begun(&world);
    assert_eq!(begun["epoch"], restored["epoch"]);
    assert_eq!(begun["signed"], made["manifest"]["log"]["signed"]);
    assert!(
        begun["reason"].as_str().unwrap().starts_with("restored: "),
        "{begun}"
    );

    // It goes on in the new epoch, and a backup of it is as good.
    world.stop();
    world.serve();
    world.login("john", PASSWORD).ok();
    let again = place(&world, "again");
    backup(&world, &again).ok();
    world.stop();
    let elsewhere = place(&world, "elsewhere");
    let second = restore(&world, &again, &elsewhere, &[]).ok().json();
    assert!(second["epoch"].as_u64() > restored["epoch"].as_u64(), "{second}");
}

#[test]
fn the_log_that_survived_brings_back_what_is_newer_than_the_backup() {
    let mut world = at_work();
    let before = submit(&world);
    let target = place(&world, "backup");
    backup(&world, &target).ok();
    let after = submit(&world);
    world.person("late", &["scientist"]);
    until("all of it signed", || {
        let report = world.verify().ok().json()["report"].clone();
        (report["records"] == report["signed"]).then_some(())
    });
    world.kill();
    let old = place(&world, "old");
    fs::rename(world.data(), &old).unwrap();
    let log = old.join("log");
    let restored = restore(&world, &target, &world.data(), &["--log", text(&log)])
        .ok()
        .json();
    assert!(restored["newer_records"].as_u64().unwrap() > 0, "{restored}");
    let lost: Vec<&str> = restored["lost"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lost| lost["action"].as_str().unwrap())
        .collect();
    assert!(
        lost.contains(&"user.create") && lost.contains(&"role.assign"),
        "{lost:?}"
    );
    serve(&mut world);
    world.login("john", PASSWORD).ok();
    world.tool("john", "GET", &before, None).expect(200);
    world.tool("john", "GET", &after, None).expect(200);
    assert_eq!(
        world.login("late", PASSWORD).code,
        3,
        "her account is in the log only"
    );
    let report = world.verify().ok().json()["report"].clone();
    assert_eq!(report["earlier"][0]["damage"], Value::Null, "{report}");
    assert_eq!(report["earlier"][0]["records"], restored["records"]);

    // A log that does not continue the backup is refused, and leaves nothing behind.
    world.stop();
    let other = place(&world, "other");
    let own = world.data().join("log");
    let refused = restore(&world, &target, &other, &["--log", text(&own)]);
    assert!(
        refused.code == 1 && refused.stderr.contains("of epoch"),
        "{}",
        refused.stderr
    );
    let segments = files(&log).into_iter();
    let segment = segments
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .max()
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes
        .windows(6)
        .rposition(|window| window == b"\"seq\":")
        .unwrap();
    bytes[last + 40] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let refused = restore(&world, &target, &other, &["--log", text(&log)]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(!other.exists());
}

#[test]
fn a_backup_holds_no_key_and_a_changed_one_is_refused() {
    let mut world = at_work();
    submit(&world);
    world.stop();
    let target = place(&world, "backup");
    let made = backup(&world, &target).ok().json();
    assert_eq!(made["running"], false);
    assert!(
        made["sealing_key"]
            .as_str()
            .unwrap()
            .ends_with("keys/sealing.key")
    );

    // Nothing of it opens without the sealing key, and only its owner reads it.
    let keys = [
        "keys/sealing.key",
        "keys/log.key",
        "keys/records.key",
        "tls/server.key",
    ];
    let keys = keys.map(|name| {
        let path = world.data().join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}; {:?}", files(&world.data())))
    });
    for file in files(&target) {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600,
            "{file:?}"
        );
        let content = fs::read(&file).unwrap();
        for key in &keys {
            let key = key.trim_ascii();
            assert!(
                !content.windows(key.len()).any(|window| window == key),
                "{file:?}"
            );
        }
        assert!(
            !content.windows(11).any(|window| window == b"PRIVATE KEY"),
            "{file:?}"
        );
    }

    // Nothing is overwritten.
    let refused = backup(&world, &target);
    assert!(
        refused.code == 1 && refused.stderr.contains("never overwrites"),
        "{}",
        refused.stderr
    );
    let refused = restore(&world, &target, &world.data(), &[]);
    assert!(
        refused.code == 1 && refused.stderr.contains("never overwrites"),
        "{}",
        refused.stderr
    );

    // Another key, and every file changed: refused, and no folder is made.
    let data = place(&world, "new");
    let own = fs::read(place(&world, "sealing.key")).unwrap();
    let mut other = own.clone();
    other[0] = if own[0] == b'0' { b'1' } else { b'0' };
    fs::write(place(&world, "sealing.key"), other).unwrap();
    let refused = restore(&world, &target, &data, &[]);
    assert!(
        refused.code == 1 && refused.stderr.contains("sealing key"),
        "{}",
        refused.stderr
    );
    fs::write(place(&world, "sealing.key"), own).unwrap();
    for file in files(&target) {
        let content = fs::read(&file).unwrap();
        let mut changed = content.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(&file, changed).unwrap();
        let refused = restore(&world, &target, &data, &[]);
        assert_eq!(refused.code, 1, "{file:?} was changed: {}", refused.stderr);
        assert!(!data.exists(), "{file:?}");
        fs::write(&file, content).unwrap();
    }
    let left: Vec<_> = fs::read_dir(world.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".countersign"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // Two who restore one backup never sign the same epoch.
    let first = restore(&world, &target, &data, &[]).ok().json();
    let second = restore(&world, &target, &place(&world, "twin"), &[]).ok().json();
    assert_ne!(first["epoch"], second["epoch"]);
    assert!(first["lost"].as_array().unwrap().is_empty(), "{first}");
}
