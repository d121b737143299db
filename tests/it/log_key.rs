//! Another log key: everybody who trusts the old one or the new one comes to the same log.

use std::fs;
use std::path::Path;

use crate::world::{Ran, World, run_in};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn audit(world: &World, args: &[&str]) -> Ran {
    run_in(world.dir.path(), &[&["audit"], args].concat())
}

#[test]
fn a_changed_log_key_is_followed_from_the_old_one_and_from_the_new_one() {
    let mut world = World::start();
    world.admin();
    world.records();
    let (data, elsewhere) = (world.data(), world.dir.path().to_owned());
    let [old, kept, proof] = ["old.pub", "kept", "old.tlog-proof"].map(|name| elsewhere.join(name));
    fs::copy(data.join("keys/log.pub"), &old).unwrap();
    fs::copy(data.join("log/checkpoint"), &kept).unwrap();
    audit(
        &world,
        &["prove", "1.0", "--data", text(&data), "--output", text(&proof)],
    )
    .ok();

    let change = ["key", "change", "--data", text(&data), "--json"];
    let running = audit(&world, &change);
    assert_ne!(running.code, 0, "{}", running.stdout);
    assert!(running.stderr.contains("stop the gateway"), "{}", running.stderr);
    world.stop();
    let before = fs::read(data.join("keys/log.key")).unwrap();
    let changed = audit(&world, &change).ok().json();
    let new = changed["new"].as_str().unwrap();
    assert_eq!(changed["epoch"], 2);
    assert_eq!(fs::read_to_string(&old).unwrap().trim(), changed["old"]);
    assert_eq!(
        fs::read(&old).unwrap(),
        fs::read(changed["old_key_file"].as_str().unwrap()).unwrap()
    );
    assert_eq!(
        audit(&world, &["key", "--data", text(&data)]).ok().stdout.trim(),
        new
    );
    for entry in fs::read_dir(data.join("keys")).unwrap() {
        let path = entry.unwrap().path();
        assert_ne!(
            fs::read(&path).unwrap(),
            before,
            "the old private key is gone: {path:?}"
        );
    }

    // Nothing is backed up that could not be restored.
    let target = elsewhere.join("backup");
    let pending = run_in(
        world.dir.path(),
        &["backup", "--data", text(&data), text(&target)],
    );
    assert!(
        pending.code != 0 && pending.stderr.contains("start the gateway once"),
        "{}",
        pending.stderr
    );
    assert!(!target.exists());
    let early = audit(&world, &["verify", "--data", text(&data)]);
    assert!(
        early.code != 0 && format!("{}{}", early.stdout, early.stderr).contains("log-until-000002.pub"),
        "{}{}",
        early.stdout,
        early.stderr
    );
    audit(&world, &["verify", "--data", text(&data), "--key", text(&old)]).ok();

    world.serve();
    let records = world.records();
    assert!(
        records
            .iter()
            .any(|record| record["event"]["key_changed"]["new"] == new)
    );
    for key in [text(&old), new] {
        let args = [
            "verify",
            "--data",
            text(&data),
            "--key",
            key,
            "--checkpoint",
            text(&kept),
            "--json",
        ];
        let report = audit(&world, &args).ok().json()["report"].clone();
        assert_eq!(
            (&report["epoch"], &report["key_changes"][0]["new"]),
            (&2.into(), &new.into())
        );
        assert_eq!(
            report["earlier"][0]["damage"],
            serde_json::Value::Null,
            "{report}"
        );
    }
    // A proof of before is the old key's, one of now the new one's.
    let later = elsewhere.join("new.tlog-proof");
    audit(
        &world,
        &["prove", "2.0", "--data", text(&data), "--output", text(&later)],
    )
    .ok();
    let check = |proof: &Path, key: &str| audit(&world, &["check-proof", text(proof), "--key", key]).code;
    assert_eq!([check(&proof, text(&old)), check(&later, new)], [0, 0]);
    assert_ne!(check(&proof, new), 0);
    assert_ne!(check(&later, text(&old)), 0);

    // The old key, put back, signs nothing more.
    world.stop();
    fs::write(data.join("keys/log.key"), before).unwrap();
    let refused = run_in(world.dir.path(), &["serve", "--data", text(&data)]);
    assert!(
        refused.code != 0 && refused.stderr.contains("another key"),
        "{}",
        refused.stderr
    );
}
