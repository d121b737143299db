//! The API answers as its own OpenAPI document says. schemathesis makes requests from the document, right and
//! wrong ones, and holds every answer against it.

use std::fs;
use std::process::Command;

use crate::world::World;

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/.cache/venv/bin/python");
const MISSING: &str = "schemathesis runs (tests/peers/install)";

/// Names below `localhost` are this machine (RFC 6761), whatever the system's resolver thinks of them.
const PROGRAM: &str = r#"
import socket, sys
resolve = socket.getaddrinfo
def here(host, *rest, **more):
    return resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **more)
socket.getaddrinfo = here
from schemathesis.cli import schemathesis
schemathesis(sys.argv[1:])
"#;

/// What answers may be: nothing above 499, and no status, type, header or shape that the document does not have; a 405 says what is
/// served, and whoever shows nothing, or something wrong, is refused. (A method that no task names is 403 `no_task`, not 405.)
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,allow_header_conformance,ignored_auth";

/// The same seed makes the same requests.
const SEED: &str = "20300131";

/// Holds the operations that `chosen` names against the document; `parameters` are what its paths and queries are filled with.
fn hold(world: &World, chosen: &[&str], parameters: &str) {
    let settings = world.dir.path().join("schemathesis.toml");
    fs::write(&settings, format!("[parameters]\n{parameters}")).unwrap();
    let document = format!("{}/api/v1/openapi.json", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token("admin"));
    let output = Command::new(PYTHON)
        .args([
            "-c",
            PROGRAM,
            "--config-file",
            settings.to_str().unwrap(),
            "run",
            &document,
        ])
        .args([
            "--tls-verify",
            &world.ca(),
            "--header",
            &bearer,
            "--checks",
            CHECKS,
            "--seed",
            SEED,
        ])
        .args([
            "--phases",
            "coverage,fuzzing",
            "--max-examples",
            "8",
            "--generation-database",
            "none",
        ])
        .args(["--no-color", "--warnings", "off", "--request-timeout", "30"])
        .args(["--continue-on-failure", "--no-shrink"])
        .args(chosen)
        .current_dir(world.dir.path())
        .output()
        .expect(MISSING);
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    // That something was asked at all.
    let cases: u32 = said
        .lines()
        .find_map(|line| line.trim().split(" generated, ").next()?.parse().ok())
        .unwrap_or_else(|| panic!("{said}\n{failed}"));
    assert!(cases > 500, "{said}");
}

#[test]
fn schemathesis_finds_no_failure_and_no_answer_outside_the_document() {
    let world = World::start();
    world.admin().person("jane", &["scientist"]);
    let shown = world.cli_json("admin", &["user", "show", "imense", "jane"]);
    let jane = shown["id"].as_str().unwrap();
    let parameters = format!(
        "vo = \"imense\"\nperson = \"{jane}\"\nrole = \"scientist\"\ntool = \"segmentation\"\nreason = \"a test\"\n"
    );
    // What makes the rest pointless stands outside: the VO suspended, the own password changed, the session ended.
    let but = [
        "vo.suspend",
        "user.change_own_password",
        "session.end",
        "gateway.reload",
    ];
    let chosen: Vec<&str> = but
        .iter()
        .flat_map(|name| ["--exclude-operation-id", *name])
        .collect();
    hold(&world, &chosen, &parameters);
}
