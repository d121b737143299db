//! The log as it grows, for a receiver of syslog over TLS: rsyslog, killed and started again, and one that hangs.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::peers::Peer;
use crate::world::{PASSWORD, World, until};

/// A world that is initialised with this receiver, and does not serve yet.
fn sending_to(receiver: &str) -> World {
    let world = World::initialised();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("[audit]\n", &format!("[audit]\nsyslog = [{{ {receiver} }}]\n"));
    fs::write(&file, text).unwrap();
    world
}

fn to(peer: &Peer, more: &str) -> World {
    let (port, tls) = (peer.env("PORT"), peer.env("TLS"));
    sending_to(&format!(
        "address = \"localhost:{port}\", name = \"siem\", ca_file = \"{tls}/ca.pem\", \
         certificate_file = \"{tls}/client.pem\", key_file = \"{tls}/client.key\"{more}"
    ))
}

/// What rsyslog made of a message: time, host, application, message id, structured data, and the text behind the mark.
struct Message {
    head: Vec<String>,
    seq: u64,
    text: Value,
}

fn messages(kept: &Path) -> Vec<Message> {
    let text = fs::read_to_string(kept).unwrap_or_default();
    // The last line may still be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| {
            let (head, text) = line.split_once(" \u{feff}").unwrap_or_else(|| panic!("{line}"));
            let seq = head.split("seq=\"").nth(1).unwrap().split('"').next().unwrap();
            Message {
                head: head.split(' ').map(str::to_owned).collect(),
                seq: seq.parse().unwrap(),
                text: serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {line}")),
            }
        })
        .collect()
}

/// How often each record came.
fn counts(kept: &Path) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for message in messages(kept) {
        *counts.entry(message.seq).or_default() += 1;
    }
    counts
}

/// Waits until every record that the log has now came at least once.
#[track_caller]
fn all_there(world: &World, kept: &Path) -> BTreeMap<u64, usize> {
    let last = world.records().last().unwrap()["seq"].as_u64().unwrap();
    until("every record at the receiver", || {
        let counts = counts(kept);
        (0..=last).all(|seq| counts.contains_key(&seq)).then_some(counts)
    })
}

fn some_requests(world: &World) {
    for _ in 0..5 {
        world.cli("admin", &["role", "list", "imense"]).ok();
    }
}

fn kill(process: u32) {
    let status = Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn position(world: &World) -> (u64, u64) {
    let text = fs::read_to_string(world.data().join("syslog/siem")).unwrap();
    let (epoch, seq) = text.trim().split_once(' ').unwrap();
    (epoch.parse().unwrap(), seq.parse().unwrap())
}

#[test]
fn syslog_every_record_reaches_rsyslog_through_its_death_and_that_of_the_gateway() {
    let peer = Peer::start("syslog");
    let kept = PathBuf::from(peer.env("KEPT"));
    let mut world = to(&peer, "");
    world.serve();
    world.admin();
    some_requests(&world);
    let once = all_there(&world, &kept);
    assert!(once.values().all(|count| *count == 1), "{once:?}");
    // What rsyslog parsed is what RFC 5424 says, and the message is the record as it stands in the log.
    let records = world.records();
    for message in messages(&kept) {
        let record = records.iter().find(|record| record["seq"] == message.seq);
        let Some(record) = record else { continue };
        assert_eq!(&message.text, record);
        let [_, _, host, application, event, meta, ..] = &message.head[..] else {
            panic!("{:?}", message.head);
        };
        let name = record["event"].as_object().unwrap().keys().next().unwrap();
        assert_eq!(
            (host.as_str(), application.as_str()),
            ("gw.localhost", "countersign")
        );
        assert_eq!((event, meta.as_str()), (name, "[meta"));
        if let Some(request) = record["event"][name]["request"].as_str() {
            assert!(message.head.concat().contains(&format!("request=\"{request}\"]")));
        }
    }

    // The receiver dies; requests go on, and nothing is lost.
    kill(peer.processes()[0]);
    some_requests(&world);
    let (port, tls, keeps) = (peer.env("PORT"), peer.env("TLS"), peer.env("KEPT"));
    let again = Peer::start_with("syslog", &[("PORT", port), ("TLS", tls), ("KEPT", keeps)]);
    some_requests(&world);
    let counts = all_there(&world, &kept);
    let connected = "countersign_audit_syslog_connections_total{receiver=\"siem\",result=\"connected\"}";
    let connections = usize::try_from(world.metric(connected).unwrap()).unwrap();
    assert!(connections >= 2);
    assert!(
        counts.values().all(|count| *count <= connections),
        "{connections}: {counts:?}"
    );

    // The gateway ends in order, and goes on where the receiver read everything.
    world.stop();
    let (epoch, seq) = position(&world);
    assert!(
        (epoch, seq) >= (1, *counts.keys().max().unwrap()),
        "{epoch} {seq}"
    );
    world.serve();
    world.login("admin", PASSWORD).ok();
    let counts = all_there(&world, &kept);
    for (at, count) in &counts {
        assert!(
            *count <= connections + usize::from(*at >= seq),
            "record {at}: {counts:?}"
        );
    }
    // The gateway dies: what does not count as delivered is sent again, and nothing is lost.
    some_requests(&world);
    world.kill();
    world.serve();
    world.login("admin", PASSWORD).ok();
    let counts = all_there(&world, &kept);
    assert!(
        counts.values().all(|count| *count <= connections + 3),
        "{counts:?}"
    );
    drop(again);
    // What rsyslog had open is gone with it, and the log verifies.
    world.stop();
    world.verify().ok();
}

#[test]
fn syslog_a_receiver_can_be_told_in_ocsf() {
    let peer = Peer::start("syslog");
    let kept = PathBuf::from(peer.env("KEPT"));
    let mut world = to(&peer, ", format = \"ocsf\"");
    world.serve();
    world.admin();
    all_there(&world, &kept);
    let classes: Vec<Value> = messages(&kept)
        .iter()
        .map(|message| message.text["class_uid"].clone())
        .collect();
    assert!(
        classes.iter().all(Value::is_u64) && classes.contains(&3002.into()),
        "{classes:?}"
    );
}

#[test]
fn syslog_a_receiver_that_hangs_or_is_away_holds_up_nothing_and_administrators_are_told() {
    // Whoever connects is taken in by the system, and nobody ever says a word to them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut world = sending_to(&format!(
        "address = \"127.0.0.1:{port}\", name = \"siem\", alert_after = \"10s\""
    ));
    world.serve();
    world.admin();
    let begun = Instant::now();
    some_requests(&world);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let lag = world.metric("countersign_audit_syslog_lag_records{receiver=\"siem\"}");
    assert!(lag.unwrap() > 0);
    let outbox = world.data().join("outbox");
    until("the mail to the administrators", || {
        let mails = fs::read_dir(&outbox).ok()?;
        let mut mails = mails.map(|file| fs::read_to_string(file.unwrap().path()).unwrap_or_default());
        mails.find(|mail| mail.contains("the syslog receiver `siem` is behind the audit log"))
    });
    some_requests(&world);
    let begun = Instant::now();
    world.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    world.verify().ok();
}

#[test]
fn syslog_settings_that_cannot_work_are_said_before_the_start() {
    let check = |receiver: &str| {
        let world = sending_to(receiver);
        let data = world.data();
        world.cli(
            "admin",
            &["serve", "--check-config", "--data", data.to_str().unwrap()],
        )
    };
    check("address = \"siem.example.org\"").ok();
    for (receiver, says) in [
        (
            "address = \"siem.example.org\", ca_file = \"/nowhere.pem\"",
            "/nowhere.pem",
        ),
        (
            "address = \"siem.example.org\", certificate_file = \"tls/none.pem\", key_file = \"tls/none.key\"",
            "tls/none.pem",
        ),
        ("name = \"siem\"", "address"),
        (
            "address = \"a.example.org\", name = \"x\" }, { address = \"b.example.org\", name = \"x\"",
            "two receivers",
        ),
    ] {
        let told = check(receiver);
        assert!(
            told.code != 0 && told.stderr.contains(says),
            "{receiver}: {told:?}"
        );
    }
}
