//! `countersign doctor`, on gateways with real troubles.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::peers::Peer;
use crate::world::{Ran, World, run_in};

fn doctor(world: &World, more: &[&str]) -> Ran {
    let data = world.data();
    let args = [&["doctor", "--data", data.to_str().unwrap()], more].concat();
    run_in(world.dir.path(), &args)
}

/// What is found about one thing: `state: sentence` each.
#[track_caller]
fn about(world: &World, about: &str) -> Vec<String> {
    let report: Value = doctor(world, &["--json"]).json();
    let findings = report["findings"].as_array().unwrap();
    let told = |finding: &&Value| finding["about"] == about;
    findings
        .iter()
        .filter(told)
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            format!("{}: {}", text("state"), text("said"))
        })
        .collect()
}

#[track_caller]
fn one(world: &World, what: &str, begins: &str) {
    let found = about(world, what);
    assert!(
        found.iter().any(|line| line.starts_with(begins)),
        "{what}: {found:#?}"
    );
}

/// Adds lines to the settings, or puts some in place of others.
fn set(world: &World, from: &str, to: &str) {
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn the_doctor_finds_no_flaw_in_a_new_gateway_and_says_whether_it_runs() {
    let mut world = World::start();
    let report = doctor(&world, &[]).ok();
    assert!(
        report.stdout.contains("gateway: it runs and is ready"),
        "{}",
        report.stdout
    );
    assert!(report.stderr.contains("0 flaws"), "{}", report.stderr);
    one(&world, "certificate of imense for tools", "ok: 89 days");
    one(&world, "store", "ok");
    // What a throw-away gateway has of warnings fails with --strict.
    assert_eq!(doctor(&world, &["--strict"]).code, 1);
    world.stop();
    let names = || {
        let entries = fs::read_dir(world.data()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    one(&world, "gateway", "warning: it does not run");
    one(&world, "store", "ok");
    assert_eq!(names(), before, "the doctor leaves nothing behind");
}

#[test]
fn the_doctor_names_files_that_others_may_read_and_changes_nothing() {
    let world = World::start();
    let file = world.data().join("store.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    one(
        &world,
        "data folder",
        "flaw: other accounts may read or change `store.db`",
    );
    assert_eq!(doctor(&world, &[]).code, 1);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o604);
}

#[test]
fn the_doctor_names_a_secret_that_lies_elsewhere_and_that_others_may_read() {
    let world = World::initialised();
    let elsewhere = tempfile::tempdir().unwrap();
    let password = elsewhere.path().join("smtp.password");
    fs::write(&password, "secret\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let smtp = format!(
        "[alert]\ntransport = \"smtp\"\nsmtp = {{ host = \"localhost\", port = 1, security = \"none\", username = \"u\", password_file = \"{}\" }}\n",
        password.display()
    );
    set(&world, "[alert]\n", &smtp);
    assert_eq!(about(&world, "secrets"), [""; 0]);
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    one(&world, "secrets", "flaw: other accounts may read or change `");
}

#[test]
fn the_doctor_tells_a_tool_that_is_not_there_from_one_that_others_reach_too() {
    let world = World::start();
    world.admin();
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let own = own
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .and_then(|()| own.local_addr())
        .map(|address| address.ip());
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    for (name, port) in [
        ("gone", gone.port()),
        ("closed", closed.local_addr().unwrap().port()),
        ("open", open.local_addr().unwrap().port()),
    ] {
        let url = format!("http://127.0.0.1:{port}");
        world
            .cli("admin", &["upstream", "allow", "imense", name, &url])
            .ok();
    }
    one(&world, "upstream imense/gone", "flaw");
    assert_eq!(about(&world, "upstream imense/closed").len(), 1);
    one(&world, "upstream imense/closed", "ok");
    one(&world, "upstream imense/open", "ok");
    let port = open.local_addr().unwrap().port();
    match own {
        Ok(own) => one(
            &world,
            "upstream imense/open",
            &format!("warning: port {port} answers on {own} too"),
        ),
        // A machine without a network: there is no way past the gateway.
        Err(_) => assert_eq!(about(&world, "upstream imense/open").len(), 1),
    }
}

#[test]
fn the_doctor_signs_in_at_the_mail_server_and_sends_nothing() {
    let peer = Peer::start("smtp");
    let world = World::initialised();
    one(&world, "mail", "warning: alerts are written into a folder");
    let server = |port: &str| {
        format!(
            "[alert]\ntransport = \"smtp\"\nsmtp = {{ host = \"localhost\", port = {port}, security = \"starttls\", ca_file = \"{}\" }}\n",
            peer.env("CA")
        )
    };
    let right = server(peer.env("PORT"));
    set(&world, "[alert]\n", &right);
    one(&world, "mail", "ok: localhost:");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    set(&world, &right, &server(&nobody.port().to_string()));
    one(&world, "mail", "flaw: localhost:");
}

#[test]
fn the_doctor_says_where_sign_in_is_weaker_than_recommended() {
    let world = World::initialised();
    one(&world, "passwords and sessions", "ok");
    set(
        &world,
        "[authenticate]\n",
        "[authenticate]\nargon2_memory_kib = 8192\ntoken_lifetime = \"90d\"\n",
    );
    let found = about(&world, "passwords and sessions");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].starts_with("warning: a guess at a stolen password costs 8192 KiB"),
        "{found:#?}"
    );
    assert!(
        found[1].starts_with("warning: nobody is asked again for 90 days"),
        "{found:#?}"
    );
}

#[test]
fn the_doctor_sees_a_clock_that_is_behind_the_log() {
    let mut world = World::start();
    world.stop();
    let segment = |folder: &Path| {
        let mut entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        entries.find(|path| path.is_file()).unwrap()
    };
    let file = segment(&world.data().join("log"));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(later)
        .unwrap();
    one(&world, "clock", "flaw: it says");
}
