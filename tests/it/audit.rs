//! Feature rows I: the log, from the outside.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::world::{World, until};

fn image() -> Vec<u8> {
    let mut pgm = b"P5\n4 4\n255\n".to_vec();
    pgm.extend([10, 10, 200, 200].repeat(4));
    pgm
}

#[test]
fn i1_kill_9_under_load_leaves_no_request_without_a_record() {
    if std::env::var_os("COUNTERSIGN_LONG").is_none() {
        kill_under_load(3, 12);
        return;
    }
    // Ten gateways are killed ten times each: their lists of jobs stay short.
    let answered: usize = (0..10).map(|_| kill_under_load(10, 210)).sum();
    assert!(answered >= 20_000, "only {answered} requests were answered");
}

/// Kills a gateway under load so often, each time when its tool has seen so many requests more; gives how many were answered.
fn kill_under_load(cycles: usize, each: usize) -> usize {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let seen_file = world.segmentation();
    let mut answered: HashSet<String> = HashSet::new();
    // As a witness would have them.
    let checkpoints = tempfile::tempdir().unwrap();
    for cycle in 0..cycles {
        let stop = AtomicBool::new(false);
        let ids: Vec<String> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    let (world, stop) = (&world, &stop);
                    scope.spawn(move || {
                        let mut ids = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            let answer = match worker {
                                0 | 1 => world.tool("john", "POST", "/jobs", Some(&image())),
                                _ => world.tool("john", "GET", "/jobs", None),
                            };
                            if answer.status == 0 {
                                break;
                            }
                            ids.push(answer.request_id());
                        }
                        ids
                    })
                })
                .collect();
            until("some load", || {
                (fs::read_to_string(&seen_file).unwrap_or_default().lines().count() > each * (cycle + 1))
                    .then_some(())
            });
            let kept = checkpoints.path().join(cycle.to_string());
            fs::copy(world.data().join("log/checkpoint"), kept).unwrap();
            let pid = world.pid();
            assert!(
                Command::new("kill")
                    .args(["-9", &pid.to_string()])
                    .status()
                    .unwrap()
                    .success()
            );
            stop.store(true, Ordering::Relaxed);
            workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap())
                .collect()
        });
        answered.extend(ids);
        world.kill();
        world.serve();
    }
    world.stop();
    for kept in fs::read_dir(checkpoints.path()).unwrap() {
        // Nothing that a checkpoint vouched for was written anew.
        world.verify_against(&kept.unwrap().path()).ok();
    }
    let records = world.records();
    let mut intents = HashSet::new();
    let mut outcomes: HashMap<String, u32> = HashMap::new();
    for record in &records {
        if let Some(id) = record["event"]["intent"]["request"].as_str() {
            intents.insert(id.to_owned());
        }
        if let Some(id) = record["event"]["outcome"]["request"].as_str() {
            *outcomes.entry(id.to_owned()).or_default() += 1;
        }
    }
    let recoveries = records
        .iter()
        .filter(|record| !record["event"]["recovery"].is_null());
    assert_eq!(
        recoveries.count(),
        cycles,
        "one for each crash, and no second one"
    );
    let seen = fs::read_to_string(&seen_file).unwrap();
    let mut saw = HashSet::new();
    for line in seen.lines() {
        let id = line.rsplit(' ').next().unwrap();
        assert!(intents.contains(id), "the tool saw {id}, which has no intent");
        assert!(saw.insert(id), "the tool saw {id} twice");
    }
    // At most one for each worker was under way when it was killed.
    assert!(
        saw.len() >= cycles * each && answered.len() >= cycles * (each - 4),
        "the tool saw only {} requests, {} were answered",
        saw.len(),
        answered.len()
    );
    for id in &answered {
        assert!(intents.contains(id), "{id} was answered and has no intent");
    }
    for id in &intents {
        assert_eq!(outcomes.get(id), Some(&1), "{id} has not exactly one outcome");
    }
    answered.len()
}

#[test]
fn i2_authentication_authorisation_and_the_tools_answer_stand_in_two_records_of_one_request() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let answer = world.tool("john", "GET", "/jobs", None).expect(200);
    let id = answer.request_id();
    let events = until("the outcome of a read", || {
        let events = world.events_of(&id);
        events.iter().any(|(name, _)| name == "outcome").then_some(events)
    });
    assert_eq!(
        events
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| *name != "mint")
            .collect::<Vec<_>>(),
        ["intent", "outcome"]
    );
    let of = |wanted: &str| events.iter().find(|(name, _)| name == wanted).unwrap().1.clone();
    let (intent, outcome) = (of("intent"), of("outcome"));
    assert_eq!(intent["subject"]["result"], "ok");
    assert_eq!(intent["subject"]["methods"][0], "pwd");
    assert_eq!(intent["decision"]["permit"], true);
    assert_eq!(intent["place"]["task"], "list jobs");
    assert_eq!(outcome["status"], 200);
    assert_eq!(outcome["ending"], "answered");
}

#[test]
fn a_denial_is_on_record_with_its_reasons_before_the_client_hears_it() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let answer = world.tool("john", "GET", "/jobs/77", None).expect(403);
    let events = world.events_of(&answer.request_id());
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].0, "refused");
    assert_eq!(events[0].1["decision"]["permit"], false);
    assert_eq!(events[0].1["status"], 403);
}

#[test]
fn records_hold_no_names_passwords_tokens_or_addresses() {
    let mut world = World::start();
    world.admin().person("john.canary", &["scientist"]);
    world.segmentation();
    world
        .tool("john.canary", "POST", "/jobs?name=secretly-named", Some(&image()))
        .expect(201);
    let token = world.token("john.canary");
    world.stop();
    let mut bytes = Vec::new();
    for entry in fs::read_dir(world.data().join("log")).unwrap().flatten() {
        bytes.extend(fs::read(entry.path()).unwrap());
    }
    bytes.extend(fs::read(world.data().join("index.db")).unwrap());
    // The gateway says where it listens; no other line may name an address.
    let lines = world.log();
    bytes.extend(
        lines
            .lines()
            .filter(|line| !line.contains("serving https://"))
            .flat_map(str::bytes),
    );
    let text = String::from_utf8_lossy(&bytes);
    for canary in [
        "john.canary@example.org",
        crate::world::PASSWORD,
        world.one_time(),
        &token,
        "127.0.0.1",
    ] {
        assert!(
            !text.contains(canary),
            "`{canary}` stands in the log, the index or the log lines"
        );
    }
}

#[test]
fn a_changed_record_is_found_offline() {
    let mut world = World::start();
    world.admin();
    world.stop();
    world.verify().ok();
    let mut changed = false;
    for entry in fs::read_dir(world.data().join("log")).unwrap().flatten() {
        let mut bytes = fs::read(entry.path()).unwrap();
        let needle = b"user.change_own_password";
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            bytes[at] = b'U';
            fs::write(entry.path(), bytes).unwrap();
            changed = true;
            break;
        }
    }
    assert!(changed, "no record to change");
    let ran = world.verify();
    assert_eq!(ran.code, 1, "{}", ran.stdout);
}

#[test]
fn a_stop_under_load_answers_what_it_accepted_and_the_log_verifies() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let mut slow = Command::new("curl")
        .args([
            "--silent",
            "--cacert",
            &world.ca(),
            "-H",
            &format!("Authorization: Bearer {}", world.token("john")),
        ])
        .args([
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &format!("{}/imense/segmentation/jobs", world.base()),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    world.stop();
    slow.wait().unwrap();
    world.verify().ok();
    let records = world.records();
    assert!(
        records.last().unwrap()["event"].get("stop").is_some(),
        "{:?}",
        records.last()
    );
}

#[test]
fn a_sensitive_value_is_hidden_also_when_no_task_names_the_request() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let (socket, _) = world.sample_tool();
    let manifest = world.dir.path().join("secretive.toml");
    let text = "[tool]\nname = \"secretive\"\nupstream = \"secretive\"\ndelegation = \"none\"\n\n\
                [[task]]\nname = \"look\"\nmatch = [\"GET /s/{key:slug}\"]\nkind = \"read\"\nsensitive = [\"key\"]\n";
    fs::write(&manifest, text).unwrap();
    let url = format!("unix:{}", socket.display());
    world
        .cli("admin", &["upstream", "allow", "imense", "secretive", &url])
        .ok();
    world
        .cli("admin", &["tool", "add", "imense", manifest.to_str().unwrap()])
        .ok();
    world
        .cli(
            "admin",
            &["grant", "add", "imense", "scientist", "secretive", "look"],
        )
        .ok();
    for (method, path) in [
        ("GET", "/s/topsecretkey"),
        ("PUT", "/s/topsecretkey"),
        ("GET", "/s/topsecretkey?x=1"),
        ("GET", "/s/topsecretkey/"),
    ] {
        world.call("john", method, &format!("/imense/secretive{path}"), None);
    }
    let records = world.records();
    let asked = records
        .iter()
        .filter(|record| record.to_string().contains("\"secretive\""))
        .count();
    assert!(asked >= 4, "{asked} records name the tool");
    assert!(
        !records
            .iter()
            .any(|record| record.to_string().contains("topsecretkey")),
        "a sensitive value is in the clear"
    );
}

#[test]
fn outcomes_are_found_by_vo_person_tool_and_task_and_stay_in_their_vo() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let id = world.tool("john", "GET", "/jobs", None).expect(200).request_id();
    world.cli("admin", &["vo", "create", "other"]).ok();
    let found = |args: &[&str]| {
        let mut all = vec!["audit", "search", "--event", "outcome"];
        all.extend(args);
        let found = world.cli_json("admin", &all);
        let records = found["records"].as_array().unwrap().clone();
        assert!(
            records
                .iter()
                .all(|record| record["event"].get("outcome").is_some())
        );
        records
            .iter()
            .any(|record| record["event"]["outcome"]["request"] == id.as_str())
    };
    until("the outcome of a read", || {
        found(&["--vo", "imense"]).then_some(())
    });
    let of = |more: &[&str]| {
        let mut args = vec!["--vo", "imense"];
        args.extend(more);
        found(&args)
    };
    assert!(of(&["--person", "john"]));
    assert!(of(&["--tool", "segmentation", "--task", "list jobs"]));
    assert!(!of(&["--person", "admin"]));
    assert!(!of(&["--task", "submit job"]));
    assert!(!found(&["--vo", "other"]), "another VO shows it");
    assert!(
        !found(&[]),
        "the gateway's own level shows an outcome of a VO's tool"
    );
}
