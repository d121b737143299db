//! Feature row G1: proxies that a computing element keeps for jobs are renewed while the jobs live, on a real ARC.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::grid::{grid, world_of};
use crate::peers::Peer;
use crate::world::{Answer, PASSWORD, World, until};

const BASE: &str = "/imense/arc/arex/rest/1.0";

/// A gateway with `john`, who has a job at ARC that lives by a delegation.
struct Story {
    world: World,
    grid: Arc<Peer>,
    delegation: String,
    job: String,
}

impl Story {
    fn begin() -> Self {
        let grid = grid();
        let world = world_of(&grid, "RSA");
        let url = format!("https://localhost:{}", grid.env("ARC_PORT"));
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/arc/arc.toml");
        for args in [
            &["upstream", "allow", "imense", "arc", &url, "--ca", grid.env("CA")][..],
            &["tool", "add", "imense", manifest],
            &[
                "grant",
                "add",
                "imense",
                "scientist",
                "arc",
                "begin delegation",
                "prepare job",
            ],
            &[
                "grant",
                "add",
                "imense",
                "scientist",
                "arc",
                "submit job",
                "monitor job",
                "terminate job",
                "--when",
                "own",
            ],
        ] {
            world.cli("admin", args).ok();
        }
        let begun = asked(&world, "POST", "/delegations?action=new", &[]).expect(201);
        let (_, delegation) = begun.header("location").unwrap().rsplit_once('/').unwrap();
        let delegation = delegation.to_owned();
        let mut story = Self {
            world,
            grid,
            delegation,
            job: String::new(),
        };
        story.job = story.submit();
        story
    }

    /// A job that takes longer than any test.
    fn submit(&self) -> String {
        let description = format!(
            "<?xml version=\"1.0\"?>
<ActivityDescription xmlns=\"http://www.eu-emi.eu/es/2010/12/adl\" xmlns:n=\"http://www.nordugrid.org/es/2011/12/nordugrid-adl\">
  <ActivityIdentification><Name>long</Name></ActivityIdentification>
  <Application><Executable><Path>run.sh</Path></Executable></Application>
  <DataStaging>
    <n:DelegationID>{}</n:DelegationID>
    <InputFile><Name>run.sh</Name><IsExecutable>true</IsExecutable></InputFile>
  </DataStaging>
</ActivityDescription>",
            self.delegation
        );
        let xml = [
            "-H",
            "Content-Type: application/xml",
            "--data-binary",
            &description,
        ];
        let made = asked(&self.world, "POST", "/jobs?action=new", &xml).expect(201);
        let job = made.json()["job"]["id"].as_str().unwrap().to_owned();
        let status = format!("/jobs/{job}/diagnose/status");
        until("ARC to take files for the job", || {
            let answer = asked(&self.world, "GET", &status, &[]);
            (answer.text().trim() == "PREPARING").then_some(())
        });
        let program = ["--data-binary", "#!/bin/sh\nsleep 900\n"];
        asked(
            &self.world,
            "PUT",
            &format!("/jobs/{job}/session/run.sh"),
            &program,
        )
        .expect(200);
        job
    }

    /// ARC's own record of the delegation, as a file with the certificate alone. Beside the job it keeps the first one.
    fn kept(&self) -> PathBuf {
        let mut file = self.grid.folder().join("arc/control/delegations");
        let (first, last) = self.delegation.split_at(9);
        first
            .as_bytes()
            .chunks(3)
            .for_each(|part| file.push(std::str::from_utf8(part).unwrap()));
        let (file, kept) = (file.join(last), self.world.dir.path().join("kept.pem"));
        let shown = Command::new("openssl")
            .args(["x509", "-in"])
            .arg(file)
            .arg("-out")
            .arg(&kept)
            .output()
            .expect("openssl runs (apt-get install openssl)");
        // It is being written.
        let _ = shown.status.success() || std::fs::write(&kept, "").is_err();
        kept
    }

    /// The serial of the proxy that ARC holds for the job, in decimal.
    fn serial(&self) -> String {
        let shown = Command::new("openssl")
            .args([
                "x509",
                "-noout",
                "-subject",
                "-nameopt",
                "multiline,-align",
                "-in",
            ])
            .arg(self.kept())
            .output()
            .expect("openssl runs (apt-get install openssl)");
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        last.rsplit(' ').next().unwrap_or_default().to_owned()
    }

    /// Makes it due now.
    fn due(&self) {
        self.world
            .write_store("UPDATE lent_proxy SET due_at = 1 WHERE ended_at IS NULL");
    }

    /// What the store says of the renewal.
    fn stored(&self, column: &str) -> String {
        self.world.stored_text(&format!(
            "SELECT {column} FROM lent_proxy WHERE id = '{}'",
            self.delegation
        ))
    }

    fn id_of_john(&self) -> String {
        let john = self.world.cli_json("admin", &["user", "show", "imense", "john"]);
        john["id"].as_str().unwrap().to_owned()
    }

    /// What is on record of the service, by the kind of the record.
    fn of_the_service(&self, kind: &str) -> Vec<Value> {
        let events = self.world.records().into_iter();
        let events = events.filter_map(|record| record["event"].get(kind).cloned());
        events
            .filter(|event| event["subject"]["kind"] == "service")
            .collect()
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        // So that it does not run on in the grid that other tests share.
        let body = format!("{{\"job\":[{{\"id\":\"{}\"}}]}}", self.job);
        let json = ["-H", "Content-Type: application/json", "--data", &body];
        let _ = asked(&self.world, "POST", "/jobs?action=kill", &json);
    }
}

fn asked(world: &World, method: &str, path: &str, more: &[&str]) -> Answer {
    let (url, bearer) = (
        format!("{}{BASE}{path}", world.base()),
        format!("Authorization: Bearer {}", world.token("john")),
    );
    let how = ["-X", method, "-H", &bearer, "-H", "Accept: application/json"];
    world.curl(&[&how[..], more, &[&url]].concat())
}

#[test]
fn g1_a_job_that_outlives_its_first_proxy_is_renewed_and_what_arc_keeps_leads_to_its_owner() {
    let mut story = Story::begin();
    let first = story.serial();
    assert!(first.parse::<u64>().is_ok(), "{first}");
    // It is due in another run of the gateway.
    story.world.stop();
    story.due();
    story.world.serve();
    story.world.login("admin", PASSWORD).ok();
    let tried = until("it to be tried", || {
        Some(story.stored("failures || ' ' || due_at || ' ' || (ended_at IS NULL)"))
            .filter(|now| *now != "0 1 1")
    });
    assert!(
        tried.starts_with("0 ") && tried.ends_with(" 1"),
        "{tried}: {:#?}",
        story.of_the_service("intent")
    );
    let second = until("ARC to hold another proxy for the job", || {
        Some(story.serial()).filter(|serial| *serial != first && !serial.is_empty())
    });
    until("it to be noted", || (story.stored("due_at") != "1").then_some(()));
    assert_eq!(story.stored("failures"), "0");

    // Its request: the service's, on behalf of the owner, decided by her rights, with what was signed.
    let john = story.id_of_john();
    let intents = story.of_the_service("intent");
    let brought = |serial: &str| {
        let is =
            |intent: &&Value| intent["delegation"]["serial"] == serial && intent["place"]["method"] == "PUT";
        intents.iter().find(is).unwrap()
    };
    for (serial, job) in [(&first, Value::Null), (&second, story.job.clone().into())] {
        let intent = brought(serial);
        assert_eq!(intent["subject"]["person"], *john, "{intent}");
        assert_eq!(intent["delegation"]["way"], "arc");
        assert_eq!(intent["place"]["task"], "prepare job");
        assert_eq!(intent["decision"]["reason"], "granted");
        assert_eq!(intent["parameters"]["delegation"], *story.delegation);
        assert_eq!(intent["parameters"]["job"], job);
        let events = story.world.events_of(intent["request"].as_str().unwrap());
        let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["intent", "mint", "outcome"]);
        assert_eq!(events[2].1["signed"]["serial"], **serial);
    }

    // ARC's own record is traced back to her.
    let kept = story.kept();
    let traced = story
        .world
        .cli_json("admin", &["trace", kept.to_str().unwrap(), "--vo", "imense"]);
    assert_eq!(traced["proxies"][0]["person"]["username"], "john", "{traced}");
    assert_eq!(traced["proxies"][0]["serial"], *second, "{traced}");

    // With the job ends what lives by it.
    let body = format!("{{\"job\":[{{\"id\":\"{}\"}}]}}", story.job);
    let json = ["-H", "Content-Type: application/json", "--data", &body];
    asked(&story.world, "POST", "/jobs?action=kill", &json).expect(201);
    // ARC says so by and by.
    let begun = Instant::now();
    while story.stored("ended_at IS NOT NULL") != "1" {
        assert!(
            begun.elapsed() < Duration::from_secs(180),
            "it does not end with the job"
        );
        story.due();
        std::thread::sleep(Duration::from_millis(500));
    }
    let ended = story.world.records().into_iter().find_map(|record| {
        let change = &record["event"]["change"]["change"];
        (change["action"] == "delegation.end_renewal").then(|| change.clone())
    });
    let ended = ended.unwrap();
    assert_eq!(ended["after"]["why"], "no job lives by it");
    assert_eq!(
        (&ended["target"], &ended["person"]),
        (&(*story.delegation).into(), &(*john).into())
    );
    story.world.verify().ok();
}

#[test]
fn g1_who_is_suspended_or_may_make_no_jobs_any_more_has_nothing_renewed_until_she_may_again() {
    let story = Story::begin();
    let held = story.serial();
    let mails = || {
        let folder = std::fs::read_dir(story.world.data().join("outbox"))
            .into_iter()
            .flatten();
        let texts = folder
            .flatten()
            .filter_map(|file| std::fs::read_to_string(file.path()).ok());
        texts.filter(|text| text.contains("Delegation: ")).count()
    };
    let on_record = |why: &str| {
        let refused = story.of_the_service("refused");
        let because = |refused: &&Value| refused["decision"]["reason"] == why;
        refused.iter().filter(because).count()
    };
    let listed = story.world.cli_json("admin", &["grant", "list", "imense"]);
    let mut grants = listed["grants"].as_array().unwrap().iter();
    let grant = grants.find(|grant| grant["task"] == "prepare job").unwrap();
    let grant = grant["id"].as_str().unwrap();
    for (how, why, back) in [
        (
            &["user", "suspend", "imense", "john"][..],
            "suspended",
            &["user", "resume", "imense", "john"][..],
        ),
        (
            &["grant", "remove", "imense", grant],
            "no_grant",
            &["grant", "add", "imense", "scientist", "arc", "prepare job"],
        ),
        (
            &["vo", "suspend", "imense"],
            "suspended",
            &["vo", "resume", "imense"],
        ),
    ] {
        let (serial, before, told) = (story.serial(), on_record(why), mails());
        story.world.cli("admin", how).ok();
        for _ in 0..2 {
            let tries = story.stored("failures");
            story.due();
            until("it to be tried", || {
                (story.stored("failures") != tries).then_some(())
            });
        }
        assert_eq!(story.stored("refused"), why);
        assert_eq!(story.serial(), serial);
        assert_eq!(on_record(why), before + 1, "once, whatever was tried");
        until("an administrator to be told", || {
            (mails() == told + 1).then_some(())
        });
        story.world.cli("admin", back).ok();
        story.due();
        until("it to be renewed again", || {
            let now = story.serial();
            (now != serial && !now.is_empty()).then_some(())
        });
        until("it to be noted", || {
            (story.stored("failures") == "0").then_some(())
        });
    }
    assert_ne!(story.serial(), held);
}
