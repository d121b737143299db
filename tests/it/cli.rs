//! The command line as a script and as a person meet it: exit codes, what goes where, who may read what is kept.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::world::{PASSWORD, Ran, World, run_in};

/// The failure that `--json` prints on standard error.
#[track_caller]
fn failure(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stderr).unwrap_or_else(|error| panic!("{error} in {}", ran.stderr))
}

#[test]
fn wrong_usage_and_no_sign_in_end_with_2_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["vo", "craete", "x"][..],
        &["vo", "create"],
        &["trace", "1"],
        &["vo", "list"],
        &[],
    ] {
        assert_eq!(run_in(folder.path(), args).code, 2, "{args:?}");
    }
    let ran = run_in(folder.path(), &["vo", "craete", "x", "--json"]);
    assert_eq!((ran.code, failure(&ran)["exit_code"].as_u64()), (2, Some(2)));
    assert!(ran.stdout.is_empty());
    assert_eq!(run_in(folder.path(), &["vo", "create", "--help"]).code, 0);
}

#[test]
fn a_gateway_that_is_not_there_or_not_trusted_ends_with_5() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, PASSWORD).unwrap();
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/ca.pem");
    // A port that was free a moment ago, and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("https://gw.localhost:{port}");
    let args = [
        "login",
        "--gateway",
        &url,
        "--ca",
        ca,
        "--user",
        "anna",
        "--password-file",
        password.to_str().unwrap(),
    ];
    let ran = run_in(folder.path(), &args);
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
    assert!(!folder.path().join("login.json").exists());
}

#[test]
fn a_person_signs_in_chooses_a_password_and_signs_out() {
    let world = World::start();
    let (base, ca, home) = (world.base(), world.ca(), world.config("admin"));
    let file = |name: &str, text: &str| {
        let path = world.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (first, own) = (file("first", world.one_time()), file("own", PASSWORD));
    let login = |password: &str| {
        let args = [
            "login",
            "--gateway",
            &base,
            "--ca",
            &ca,
            "--user",
            "admin",
            "--password-file",
            password,
            "--json",
        ];
        world.cli("admin", &args)
    };

    // A gateway whose CA is not given is not trusted.
    let args = [
        "login",
        "--gateway",
        &base,
        "--user",
        "admin",
        "--password-file",
        &first,
    ];
    assert_eq!(world.cli("admin", &args).code, 5);

    // A one-time password opens nothing but the choice of an own one.
    let signed_in = login(&first).ok().json();
    assert_eq!(signed_in["must_change"], true);
    assert_eq!(signed_in["ca_sha256"].as_array().unwrap().len(), 1);
    assert!(
        !signed_in.to_string().contains("cst_"),
        "the token is not printed"
    );
    let refused = world.cli("admin", &["vo", "list", "--json"]);
    assert_eq!(refused.code, 3);
    assert!(
        failure(&refused)["problem"]["type"]
            .as_str()
            .unwrap()
            .ends_with("/password_change_required")
    );

    let weak = file("weak", "short");
    assert_eq!(
        world
            .cli("admin", &["password", "change", "--new-password-file", &weak])
            .code,
        1
    );
    world
        .cli("admin", &["password", "change", "--new-password-file", &own])
        .ok();
    assert_eq!(world.cli_json("admin", &["whoami"])["must_change"], false);
    assert_eq!(login(&first).code, 3, "the one-time password is used up");

    // What is kept can be read by its owner only.
    let kept = home.join("login.json");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        world.cli("admin", &["whoami"]).code,
        1,
        "a sign-in that others can read is not used"
    );
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();

    // Signing out ends it at the gateway too.
    let token = fs::read(&kept).unwrap();
    world.cli("admin", &["logout"]).ok();
    assert!(!kept.exists());
    fs::write(&kept, token).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    let ended = world.cli("admin", &["whoami"]);
    assert_eq!(ended.code, 3);
    assert!(
        ended.stderr.contains("countersign login --gateway"),
        "{}",
        ended.stderr
    );
}

#[test]
fn what_is_not_there_ends_with_4_and_lists_that_are_empty_say_so() {
    let world = World::start();
    world.admin();
    let missing = world.cli("admin", &["user", "show", &world.vo, "nobody"]);
    assert_eq!(missing.code, 4, "{}", missing.stderr);
    let none = world.cli("admin", &["upstream", "list", &world.vo]).ok();
    assert_eq!(
        (none.stdout.as_str(), none.stderr.as_str()),
        ("", "no upstreams\n")
    );
    assert_eq!(
        world.cli_json("admin", &["upstream", "list", &world.vo])["upstreams"],
        Value::Array(Vec::new())
    );
    let trace = world.cli("admin", &["trace", "4711", "--vo", &world.vo]);
    assert_eq!(trace.code, 4, "{}", trace.stderr);
}

#[test]
fn all_flaws_of_a_manifest_are_shown_with_their_lines() {
    let world = World::start();
    world.admin();
    let file = world.dir.path().join("bad.toml");
    fs::write(&file, "[tool]\nname = \"Bad Name\"\ncolour = 1\n").unwrap();
    let ran = world.cli("admin", &["tool", "add", &world.vo, file.to_str().unwrap()]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("bad.toml:2: ") && ran.stderr.contains("bad.toml:3: "),
        "{}",
        ran.stderr
    );
    assert!(
        world.cli_json("admin", &["tool", "list", &world.vo])["tools"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_log_that_was_changed_does_not_verify_and_says_where() {
    let mut world = World::start();
    world.admin();
    world.stop();
    let whole = world.verify().ok().json();
    assert_eq!(
        (&whole["ok"], &whole["outside"]),
        (&Value::Bool(true), &Value::Null)
    );
    let data = world.data();

    // A checkpoint that lies in the folder counts as none; the same one kept elsewhere backs the log.
    let inside = data.join("log/checkpoint");
    let elsewhere = world.dir.path().join("kept");
    fs::copy(&inside, &elsewhere).unwrap();
    for (file, counts) in [(&inside, false), (&elsewhere, true)] {
        let args = [
            "audit",
            "verify",
            data.to_str().unwrap(),
            "--checkpoint",
            file.to_str().unwrap(),
            "--json",
        ];
        assert_eq!(
            run_in(world.dir.path(), &args).ok().json()["outside"]["elsewhere"],
            counts
        );
    }

    let segment = data.join("log/0000000000.log");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|window| window == b"\"seq\":").unwrap();
    bytes[at + 40] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let bad = world.verify();
    assert_eq!(bad.code, 1);
    let verdict = bad.json();
    assert_eq!(verdict["ok"], false);
    assert_eq!(verdict["error"], failure(&bad)["error"]);
    assert_eq!(verdict["first_bad_record"], 0, "{verdict}");
    assert_eq!(run_in(world.dir.path(), &["audit", "verify", "/nowhere"]).code, 4);
}

#[test]
fn a_hint_says_what_is_wrong_and_the_next_step() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let reload = world.cli("john", &["reload"]);
    assert_eq!(reload.code, 3, "{}", reload.stderr);
    let hint = reload
        .stderr
        .lines()
        .find(|line| line.starts_with("hint: "))
        .unwrap();
    assert!(
        hint.contains("for system administrators of the gateway"),
        "{hint}"
    );

    let trace = world.cli("admin", &["trace", "nofile.pem", "--vo", "imense"]);
    assert_eq!(trace.code, 4, "{}", trace.stderr);
    assert!(
        trace.stderr.contains("there is no file `nofile.pem`"),
        "{}",
        trace.stderr
    );

    let url = format!("{}/imense/segmentation/jobs", world.base());
    let basic = world
        .curl(&["-u", &format!("john:{PASSWORD}"), &url])
        .expect(401)
        .json();
    assert!(
        basic["detail"]
            .as_str()
            .unwrap()
            .contains("Basic is not accepted here"),
        "{basic}"
    );
    assert!(
        basic["next"].as_str().unwrap().contains("`basic = true`"),
        "{basic}"
    );

    let manifest = world.dir.path().join("static.toml");
    let text = "[tool]\nname = \"archive\"\nupstream = \"segmentation\"\ndelegation = \"static\"\n\n\
                [[task]]\nname = \"look\"\nmatch = [\"GET /\"]\nkind = \"read\"\n";
    fs::write(&manifest, text).unwrap();
    let manifest = manifest.to_str().unwrap();
    for command in ["try", "add"] {
        let told = world
            .cli("admin", &["tool", command, "imense", manifest])
            .ok()
            .stderr;
        assert!(
            told.contains("the tool cannot be called yet") && told.contains("`countersign tool credential`"),
            "{command}: {told}"
        );
    }
    let grant = ["grant", "add", "imense", "scientist", "archive", "look"];
    world.cli("admin", &grant).ok();
    let missing = world
        .call("john", "GET", "/imense/archive/", None)
        .expect(503)
        .json();
    assert!(
        missing["detail"]
            .as_str()
            .unwrap()
            .contains("`countersign tool credential`"),
        "{missing}"
    );

    fs::write(manifest, text.replace("\"read\"", "\"reed\"")).unwrap();
    let refused = world.cli("admin", &["tool", "try", "imense", manifest]);
    assert!(
        refused.stderr.contains("each of the errors"),
        "{}",
        refused.stderr
    );
}
