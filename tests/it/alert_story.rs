//! Feature rows J over the built program: repeated denials become one mail, and mails arrive whatever the server does.

use std::fs;

use serde_json::Value;

use crate::peers::Peer;
use crate::world::{PASSWORD, World, curl};

/// A gateway that sends its mails to the receiver; John and Mary are scientists.
fn world(peer: &Peer) -> World {
    let mut world = World::initialised();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("# transport = \"file\"", "transport = \"smtp\"");
    let smtp = format!(
        "\n[alert.smtp]\nhost = \"{}\"\nport = {}\nsecurity = \"starttls\"\nca_file = \"{}\"\n",
        "localhost",
        peer.env("PORT"),
        peer.env("CA")
    );
    fs::write(&file, text + &smtp).unwrap();
    world.serve();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    world
}

fn ask(peer: &Peer, path: &str) -> Vec<Value> {
    let url = format!("{}{path}", peer.env("HTTP"));
    let answer = curl(None, &[&url]).expect(200);
    answer.json().as_array().unwrap().clone()
}

/// The mails to an address about `subject`, once there are so many to that address at all.
fn mails(peer: &Peer, to: &str, atleast: usize) -> Vec<Value> {
    ask(peer, &format!("/messages?to={to}&atleast={atleast}&wait=55"))
}

fn subject(mail: &Value) -> &str {
    mail["subject"].as_str().unwrap()
}

fn text(mail: &Value) -> String {
    mail["text"].as_str().unwrap().replace("\r\n", "\n")
}

/// `who` tries to remove somebody, which only administrators may.
fn refused(world: &World, who: &str, whom: &str) {
    let ran = world.cli(who, &["user", "remove", "imense", whom]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
}

fn refused_requests(world: &World) -> Vec<String> {
    let records = world.records();
    let refused = records.iter().map(|record| &record["event"]["refused"]);
    refused
        .filter(|event| event["place"]["task"] == "user.remove" && event["subject"]["person"].is_string())
        .map(|event| event["request"].as_str().unwrap().to_owned())
        .collect()
}

/// The checkpoint that a mail quotes, as a file.
fn quoted_checkpoint(world: &World, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let origin = lines
        .iter()
        .position(|line| line.starts_with("  gw.localhost/log/"));
    let origin = origin.unwrap_or_else(|| panic!("no checkpoint in {text}"));
    let quoted: Vec<&str> = lines[origin..]
        .iter()
        .take_while(|line| line.starts_with("  "))
        .map(|line| &line[2..])
        .collect();
    let file = world.dir.path().join("quoted");
    fs::write(&file, quoted.join("\n") + "\n").unwrap();
    file.to_str().unwrap().to_owned()
}

/// How many records a checkpoint covers.
fn size_of(checkpoint: &str) -> u64 {
    checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

#[test]
fn j1_the_third_refusal_sends_one_mail_with_person_task_count_requests_and_checkpoint() {
    let peer = Peer::start("smtp");
    let world = world(&peer);
    let before = size_of(&fs::read_to_string(world.data().join("log/checkpoint")).unwrap());
    refused(&world, "john", "mary");
    refused(&world, "john", "mary");
    // Nobody in particular never counts.
    let url = format!("{}/api/v1/vos/imense/users/mary", world.base());
    for _ in 0..4 {
        world.curl(&["-X", "DELETE", &url]).expect(401);
    }
    refused(&world, "john", "mary");
    let requests = refused_requests(&world);
    assert_eq!(requests.len(), 3);
    let got = mails(&peer, "admin@example.org", 1);
    let told = text(&got[0]);
    let parts = ["john", "user.remove", "refused 3 times"].into_iter();
    for part in parts.chain(requests.iter().map(String::as_str)) {
        assert!(told.contains(part), "`{part}` in {told}");
    }
    assert_eq!(got[0]["tls"], true);
    // The checkpoint in the mail is the log's own: the verifier takes it, and finds it kept.
    let checkpoint = quoted_checkpoint(&world, &told);
    let (data, config) = (world.data(), world.config("admin"));
    let verify = [
        "audit",
        "verify",
        "--data",
        data.to_str().unwrap(),
        "--checkpoint",
        &checkpoint,
    ];
    crate::world::run_in(&config, &verify).ok();
    // It is the one of its time: none from before the first refusal.
    let size = size_of(&fs::read_to_string(&checkpoint).unwrap());
    assert!(
        size >= before,
        "a checkpoint over {size} records, there was one over {before}"
    );

    // The fourth of the same episode sends nothing. When a mail of a later one is there, a wrong one would be too.
    refused(&world, "john", "mary");
    for _ in 0..3 {
        refused(&world, "mary", "john");
    }
    let got = mails(&peer, "admin@example.org", 2);
    let about = |who: &str| got.iter().filter(|mail| text(mail).contains(who)).count();
    assert_eq!(
        (
            got.len(),
            about("audit search --vo imense --person john"),
            about("audit search --vo imense --person mary")
        ),
        (2, 1, 1)
    );
}

#[test]
fn j4_a_mail_survives_a_failing_server_and_a_restart_and_a_refused_one_is_told() {
    let peer = Peer::start("smtp");
    let mut world = world(&peer);
    for (user, mail) in [("tess", "tempfail@example.org"), ("ben", "bounce@example.org")] {
        world
            .cli(
                "admin",
                &[
                    "user",
                    "add",
                    "imense",
                    user,
                    "--mail",
                    mail,
                    "--role",
                    "vo-administrator",
                    "--show-password",
                ],
            )
            .ok();
    }
    let before = mails(&peer, "admin@example.org", 0).len();
    let attempts = |to: &str| ask(&peer, &format!("/attempts?to={to}&atleast=1&wait=55"));
    for _ in 0..3 {
        refused(&world, "john", "mary");
    }
    // 550 for Ben: given up, counted, and told to the gateway's administrators, who are told of John too.
    let told = |wanted: &str, atleast: usize| {
        let got = mails(&peer, "admin@example.org", before + atleast);
        got.iter().filter(|mail| text(mail).contains(wanted)).count()
    };
    assert_eq!(attempts("bounce@example.org")[0]["code"], 550);
    let alert = "john was refused 3 times";
    let undelivered = "To:       bounce@example.org";
    crate::world::until("both mails to the administrator", || {
        (told(alert, 1) >= 1 && told(undelivered, 1) >= 1).then_some(())
    });
    let metrics = curl(None, &[&format!("http://{}/metrics", world.operations())])
        .expect(200)
        .text();
    let failed = metrics
        .lines()
        .find(|line| line.starts_with("countersign_mails_total{state=\"failed\"}"));
    let failed = failed.unwrap_or_else(|| panic!("no failed mail is counted: {metrics}"));
    assert!(
        failed.rsplit(' ').next().unwrap().parse::<f64>().unwrap() >= 1.0,
        "{failed}"
    );
    // 451 for Tess: tried, and not delivered.
    assert_eq!(attempts("tempfail@example.org")[0]["code"], 451);
    assert_eq!(mails(&peer, "tempfail@example.org", 0).len(), 0);
    // It survives a restart, and arrives exactly once.
    world.stop();
    curl(
        None,
        &["-X", "DELETE", &format!("{}/rules/tempfail", peer.env("HTTP"))],
    )
    .expect(200);
    world.serve();
    // The port is another one after a restart.
    world.login("mary", PASSWORD).ok();
    let alerts = |atleast: usize| {
        let got = mails(&peer, "tempfail@example.org", atleast);
        got.iter().filter(|mail| text(mail).contains(alert)).count()
    };
    assert_eq!(alerts(1), 1);
    // A second episode's mail is the fence: whatever would have been sent twice is there before it.
    for _ in 0..3 {
        refused(&world, "mary", "john");
    }
    let fence = crate::world::until("the mail of the second episode", || {
        let got = mails(&peer, "tempfail@example.org", 2);
        got.iter()
            .any(|mail| text(mail).contains("mary was refused 3 times"))
            .then_some(got)
    });
    assert_eq!(
        fence.iter().filter(|mail| text(mail).contains(alert)).count(),
        1,
        "{fence:?}"
    );
}

#[test]
fn counters_survive_a_crash() {
    let peer = Peer::start("smtp");
    let mut world = world(&peer);
    refused(&world, "john", "mary");
    refused(&world, "john", "mary");
    // At once: a denial is counted beside its answer, and what was answered counts.
    world.kill();
    world.serve();
    // The port is another one after a restart.
    world.login("john", PASSWORD).ok();
    refused(&world, "john", "mary");
    let got = mails(&peer, "admin@example.org", 1);
    assert!(
        got.iter().any(|mail| text(mail).contains("refused 3 times")),
        "{got:?}"
    );
}

#[test]
fn j5_a_suspended_person_and_each_administrator_get_one_mail() {
    let peer = Peer::start("smtp");
    let world = world(&peer);
    world
        .cli("admin", &["role", "assign", "imense", "vo-administrator", "mary"])
        .ok();
    world.cli("admin", &["user", "suspend", "imense", "john"]).ok();
    world.cli("admin", &["user", "resume", "imense", "john"]).ok();
    let request_of = |action: &str| {
        let records = world.records();
        let changes = records.iter().map(|record| &record["event"]["change"]);
        let mut found = changes.filter(|change| change["change"]["action"] == action);
        found.next().unwrap()["request"].as_str().unwrap().to_owned()
    };
    let (stopped, opened) = (request_of("user.suspend"), request_of("user.resume"));
    for address in ["john@example.org", "admin@example.org", "mary@example.org"] {
        let got = mails(&peer, address, 2);
        let about = |what: &str, request: &str| {
            got.iter()
                .filter(|mail| subject(mail).contains(what) && text(mail).contains(request))
                .count()
        };
        assert_eq!(
            (
                about("account `john` was suspended", &stopped),
                about("account `john` is open again", &opened)
            ),
            (1, 1),
            "{address}: {got:?}"
        );
    }
}

#[test]
fn j6_a_trace_is_told_to_the_other_administrators_of_the_vo() {
    let peer = Peer::start("smtp");
    let mut world = world(&peer);
    world
        .cli("admin", &["role", "assign", "imense", "vo-administrator", "mary"])
        .ok();
    world.segmentation();
    let image = [b"P5\n4 4\n255\n".to_vec(), [10, 10, 200, 200].repeat(4)].concat();
    world.tool("john", "POST", "/jobs", Some(&image)).expect(201);
    let records = world.records();
    let minted = records
        .iter()
        .find_map(|record| record["event"]["mint"]["serial"].as_str());
    world
        .cli("admin", &["trace", minted.unwrap(), "--vo", "imense"])
        .ok();
    let traced = world.records();
    let traced = traced
        .iter()
        .find_map(|record| record["event"]["trace"]["request"].as_str());
    let got = mails(&peer, "mary@example.org", 1);
    let told = text(&got[0]);
    assert!(
        subject(&got[0]).contains("a proxy of `john` was traced"),
        "{told}"
    );
    assert!(
        told.contains(traced.unwrap()) && told.contains("By:      admin"),
        "{told}"
    );
    // A mail that comes later is there: one about the trace would be, too, to who traced or was traced.
    world.cli("admin", &["user", "suspend", "imense", "john"]).ok();
    for address in ["admin@example.org", "john@example.org"] {
        let got = mails(&peer, address, 1);
        assert!(got.iter().any(|mail| subject(mail).contains("was suspended")));
        assert!(
            !got.iter().any(|mail| subject(mail).contains("was traced")),
            "{got:?}"
        );
    }
}
