//! System administrators: a second one, and the way back in for one who cannot sign in.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::world::{PASSWORD, Ran, World, run_in};

/// As the operator of the machine, who has signed in nowhere.
fn recover(world: &World, more: &[&str]) -> Ran {
    let data = world.data();
    let args = [
        &["admin", "recover", "--data", data.to_str().unwrap(), "--json"],
        more,
    ]
    .concat();
    run_in(world.dir.path(), &args)
}

#[track_caller]
fn one_time(ran: Ran) -> String {
    let done = ran.ok().json();
    done["one_time_password"].as_str().unwrap().to_owned()
}

/// The changes of the last recovery, oldest first: action and who did it.
fn recorded(world: &World) -> Vec<(String, Value)> {
    let records = world.records();
    let changes = records.iter().filter_map(|record| record["event"].get("change"));
    let changes: Vec<&Value> = changes.collect();
    let is_recovery = |change: &&&Value| change["change"]["action"] == "admin.recover";
    let last = changes.iter().rfind(is_recovery).expect("a recovery on record");
    let same = changes
        .iter()
        .filter(|change| change["request"] == last["request"]);
    same.map(|change| {
        let change = &change["change"];
        let action = change["action"].as_str().unwrap().to_owned();
        (action, change["after"]["by"]["operator"].clone())
    })
    .collect()
}

#[test]
fn a_system_administrator_who_cannot_sign_in_is_let_in_again_by_the_operator() {
    let mut world = World::start();
    world.admin();
    let own = Value::from(rustix::process::geteuid().as_raw());
    let socket = world.data().join("admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    // While the gateway runs: through the socket.
    let password = one_time(recover(&world, &[]));
    assert_eq!(world.cli("admin", &["whoami"]).code, 3, "her sessions have ended");
    assert_eq!(recorded(&world), [("admin.recover".to_owned(), own.clone())]);
    world.login("admin", &password).ok();
    world.cli("admin", &["vo", "list"]).ok();

    // While it does not: with the folder's lock.
    world.stop();
    assert!(!socket.exists());
    let password = one_time(recover(&world, &["--user", "admin"]));
    assert_eq!(recorded(&world), [("admin.recover".to_owned(), own)]);
    world.serve();
    world.login("admin", &password).ok();
    world.cli("admin", &["vo", "list"]).ok();

    // After a crash the socket is still there, and nobody's.
    world.kill();
    assert!(socket.exists());
    let password = one_time(recover(&world, &[]));
    world.serve();
    world.login("admin", &password).ok();
    world.verify().ok();
}

#[test]
fn a_second_system_administrator_is_made_and_the_last_one_stays() {
    let world = World::start();
    world
        .admin()
        .person("ben", &["scientist"])
        .person("john", &["scientist"]);
    let refused = world.cli("john", &["admin", "add", "john"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("for system administrators"),
        "{}",
        refused.stderr
    );
    assert_eq!(world.cli("john", &["admin", "list"]).code, 3);

    world.cli("admin", &["admin", "add", "ben"]).ok();
    let before = world.cli("ben", &["whoami"]);
    assert_eq!(before.code, 3, "a session that began with less has ended");
    world.login("ben", PASSWORD).ok();
    let listed = world.cli_json("ben", &["admin", "list"]);
    let names: Vec<&str> = listed["administrators"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["username"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["admin", "ben"]);
    // Each of them acts for the gateway, also on the other.
    world
        .cli("ben", &["vo", "create", "other", "--admin", "ben"])
        .ok();
    world.cli("ben", &["admin", "remove", "admin"]).ok();
    assert_eq!(
        world
            .cli("admin", &["vo", "create", "third", "--admin", "admin"])
            .code,
        3
    );
    let last = world.cli("ben", &["admin", "remove", "ben"]);
    assert_eq!(last.code, 1, "{}", last.stderr);
    let unknown = world.cli("ben", &["admin", "remove", "admin"]);
    assert_eq!(unknown.code, 4, "{}", unknown.stderr);
}

#[test]
fn recovery_names_whom_it_could_mean_and_promotes_only_when_told_to() {
    let world = World::start();
    world
        .admin()
        .person("ben", &["scientist"])
        .person("john", &["scientist"]);
    world.cli("admin", &["admin", "add", "ben"]).ok();
    let which = recover(&world, &[]);
    assert!(
        which.code == 1 && which.stderr.contains("`admin`") && which.stderr.contains("`ben`"),
        "{}",
        which.stderr
    );
    let nobody = recover(&world, &["--user", "nobody"]);
    assert!(
        nobody.code == 1 && nobody.stderr.contains("no user `nobody`"),
        "{}",
        nobody.stderr
    );
    let none = recover(&world, &["--user", "john"]);
    assert!(
        none.code == 1 && none.stderr.contains("--promote"),
        "{}",
        none.stderr
    );
    world.cli("john", &["whoami"]).ok();

    // Whoever was suspended is let in again, with what she needs to act.
    world.cli("admin", &["user", "suspend", "imense", "john"]).ok();
    let done = recover(&world, &["--user", "john", "--promote"]).ok().json();
    assert_eq!(
        (&done["resumed"], &done["promoted"]),
        (&true.into(), &true.into())
    );
    let actions: Vec<String> = recorded(&world).into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["role.assign", "user.resume", "admin.recover"]);
    world
        .login("john", done["one_time_password"].as_str().unwrap())
        .ok();
    world.cli("john", &["admin", "remove", "ben"]).ok();

    let elsewhere = run_in(world.dir.path(), &["admin", "recover", "--data", "/nonexistent"]);
    assert_eq!(elsewhere.code, 4, "{}", elsewhere.stderr);
    world.verify().ok();
}

#[test]
fn whoever_knows_a_one_time_password_does_not_become_system_administrator_by_it() {
    let world = World::start();
    world.admin();
    let args = [
        "user",
        "add",
        "imense",
        "mia",
        "--name",
        "Mia",
        "--mail",
        "mia@example.org",
        "--show-password",
    ];
    let one_time = world.cli_json("admin", &args)["one_time_password"].clone();
    let refused = world.cli("admin", &["admin", "add", "mia"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("has not chosen a password of her own"),
        "{}",
        refused.stderr
    );
    world.login("mia", one_time.as_str().unwrap()).ok();
    world.cli("admin", &["admin", "add", "mia"]).ok();
}

#[test]
fn a_recovery_is_a_request_of_its_own_that_system_administrators_find() {
    let world = World::start();
    world.admin().person("ben", &["scientist"]);
    world.cli("admin", &["admin", "add", "ben"]).ok();
    let done = recover(&world, &["--user", "ben"]).ok().json();
    let request = done["request"].as_str().unwrap();
    let names: Vec<String> = world
        .events_of(request)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["intent", "change", "outcome"]);
    let (_, outcome) = world.events_of(request).pop().unwrap();
    assert_eq!(outcome["ending"], "applied");
    // His home is a virtual organisation; the records are the gateway's own all the same.
    let found = world.cli_json("admin", &["audit", "search", "--event", "change"]);
    let found = found["records"].as_array().unwrap().iter();
    let actions: Vec<&str> = found
        .filter(|record| record["event"]["change"]["request"] == request)
        .filter_map(|record| record["event"]["change"]["change"]["action"].as_str())
        .collect();
    assert_eq!(actions, ["admin.recover"]);
}
