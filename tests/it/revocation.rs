//! Proxies that are not to be trusted any more (F11, F12, H5, H7): what the gateway, its list and openssl say of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::delegate::{HeaderTool, import, keeper, openssl_key};
use crate::world::{World, run_in};

/// A VO with a certificate of openssl's, a tool that keeps the proxy it was given, and two people.
struct Vo {
    world: World,
    certificate: String,
    _tool: HeaderTool,
    kept: PathBuf,
}

impl Vo {
    fn new() -> Self {
        let world = World::start();
        world
            .admin()
            .person("john", &["scientist"])
            .person("mary", &["scientist"]);
        let (certificate, key) = openssl_key(&world, "vo", &[]);
        import(&world, &certificate, &key).ok();
        let (tool, kept) = keeper(&world, "keeper", "pem");
        Self {
            world,
            certificate,
            _tool: tool,
            kept,
        }
    }

    /// The proxy that the tool gets with a request of this person: its file and its serial.
    fn proxy(&self, user: &str) -> (PathBuf, String) {
        self.world
            .call(user, "GET", "/imense/keeper/look", None)
            .expect(200);
        let listed = self.world.cli_json(user, &["proxy", "list"]);
        let pem = fs::read_to_string(self.kept.join("proxy.pem")).unwrap();
        let serial = subject_number(&self.kept.join("proxy.pem"));
        assert!(listed.to_string().contains(&serial), "{listed}");
        let file = self.kept.join(format!("{user}-{serial}.pem"));
        fs::write(&file, pem).unwrap();
        (file, serial)
    }

    /// The list as everybody gets it.
    fn list(&self) -> PathBuf {
        let url = format!("{}/.countersign/crl/imense", self.world.base());
        let answer = self.world.curl(&[&url]).expect(200);
        assert_eq!(answer.header("content-type"), Some("application/x-pem-file"));
        let file = self.kept.join("list.crl");
        fs::write(&file, answer.body).unwrap();
        file
    }

    /// What a provider finds with openssl alone: `good` or `revoked`.
    fn judged(&self, proxy: &Path) -> String {
        self.judged_by(proxy, &self.list())
    }

    fn judged_by(&self, proxy: &Path, list: &Path) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guides/check_revocation.sh");
        let output = Command::new("sh")
            .arg(script)
            .arg(proxy)
            .arg(&self.certificate)
            .arg(list)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What `openssl crl` and `openssl verify` print.
    fn openssl(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new("openssl")
            .args(args)
            .output()
            .expect("openssl runs (apt-get install openssl)");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }
}

/// The last CN of a proxy: its serial in decimal.
fn subject_number(file: &Path) -> String {
    let args = [
        "x509",
        "-noout",
        "-subject",
        "-nameopt",
        "compat",
        "-in",
        file.to_str().unwrap(),
    ];
    let output = Command::new("openssl")
        .args(args)
        .output()
        .expect("openssl runs (apt-get install openssl)");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .rsplit('=')
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn f11_the_vos_list_refuses_the_revoked_proxy_and_no_other() {
    let vo = Vo::new();
    let ((johns, serial), (marys, _)) = (vo.proxy("john"), vo.proxy("mary"));
    assert_eq!([vo.judged(&johns), vo.judged(&marys)], ["good", "good"]);
    let first = fs::read_to_string(vo.list()).unwrap();
    assert_eq!(
        fs::read_to_string(vo.list()).unwrap(),
        first,
        "nothing has changed, nothing is signed"
    );
    vo.world.cli("john", &["proxy", "revoke", &serial]).ok();
    assert_eq!([vo.judged(&johns), vo.judged(&marys)], ["revoked", "good"]);
    // Whichever list comes first: all that the key signed are looked at.
    let both = vo.kept.join("both.crl");
    fs::write(&both, first.clone() + &fs::read_to_string(vo.list()).unwrap()).unwrap();
    assert_eq!(
        [vo.judged_by(&johns, &both), vo.judged_by(&marys, &both)],
        ["revoked", "good"]
    );
    let signed: Vec<serde_json::Value> = vo
        .world
        .records()
        .into_iter()
        .map(|record| record["event"]["revocation_list"].clone())
        .filter(|list| list.is_object())
        .collect();
    // One record for each that was signed: both issuers' first ones, and the second one of the one that changed.
    let numbers: Vec<_> = signed
        .iter()
        .map(|list| (&list["number"], &list["count"]))
        .collect();
    assert_eq!(
        numbers,
        [
            (&1.into(), &0.into()),
            (&1.into(), &0.into()),
            (&2.into(), &1.into())
        ],
        "{signed:?}"
    );
    let list = vo.list();
    let list = list.to_str().unwrap();
    let (_, said) = vo.openssl(&[
        "crl",
        "-in",
        list,
        "-CAfile",
        &vo.certificate,
        "-verify",
        "-noout",
        "-text",
    ]);
    assert!(
        said.contains("verify OK")
            && said.contains("X509v3 CRL Number")
            && said.contains("X509v3 Authority Key Identifier"),
        "{said}"
    );
    assert!(!said.contains("Key Compromise"), "{said}");
    let fetched = vo.world.cli_json("mary", &["crl", "imense"]);
    assert_eq!(fetched["crl"], fs::read_to_string(list).unwrap());
    // The gateway itself does not use it again: the next request brings another one.
    let (_, next) = vo.proxy("john");
    assert_ne!(next, serial);
    // A proxy of somebody else is nobody's to revoke, and nothing is told of it.
    let foreign = vo.world.cli("mary", &["proxy", "revoke", &next]);
    assert!(foreign.stderr.contains("there is no proxy"), "{}", foreign.stderr);
    let unknown = format!("{}/.countersign/crl/nobody", vo.world.base());
    vo.world.curl(&[&unknown]).expect(404);
    // What the guide says of OpenSSL: it looks no proxy up. Should that change, the guide does.
    for proxy in [&johns, &marys] {
        let flags = [
            "verify",
            "-allow_proxy_certs",
            "-partial_chain",
            "-crl_check",
            "-CRLfile",
            list,
        ];
        let files = ["-CAfile", &vo.certificate, proxy.to_str().unwrap()];
        let (accepted, said) = vo.openssl(&[&flags[..], &files].concat());
        assert!(accepted, "{said}");
    }
}

#[test]
fn f12_a_proxy_marked_as_compromised_is_refused_by_the_list_and_used_no_more() {
    let vo = Vo::new();
    let (johns, serial) = vo.proxy("john");
    let args = [
        "proxy",
        "revoke",
        &serial,
        "--user",
        "john",
        "--vo",
        "imense",
        "--compromised",
        "found in a log",
    ];
    vo.world.cli("admin", &args).ok();
    assert_eq!(vo.judged(&johns), "revoked");
    let list = vo.list();
    let (_, said) = vo.openssl(&["crl", "-in", list.to_str().unwrap(), "-noout", "-text"]);
    assert!(said.contains("Key Compromise"), "{said}");
    let listed = vo
        .world
        .cli_json("admin", &["proxy", "list", "--user", "john", "--vo", "imense"]);
    let proxy = &listed["proxies"][0];
    assert_eq!(
        (proxy["state"].as_str(), proxy["note"].as_str()),
        (Some("compromised"), Some("found in a log"))
    );
    let changes = vo
        .world
        .records()
        .into_iter()
        .map(|record| record["event"]["change"].clone());
    let change = changes
        .into_iter()
        .find(|change| change["change"]["action"] == "proxy.revoke");
    let change = change.expect("the change");
    assert_eq!(change["reason"], "a test");
    assert_eq!(change["change"]["after"]["note"], "found in a log");
    assert_ne!(vo.proxy("john").1, serial);
}

#[test]
fn h5_all_proxies_of_a_person_are_revoked_at_once() {
    let vo = Vo::new();
    let first = vo.proxy("john");
    // A second session has a second one.
    vo.world.login("john", crate::world::PASSWORD).ok();
    let (second, marys) = (vo.proxy("john"), vo.proxy("mary"));
    assert_ne!(first.1, second.1);
    // For administrators only.
    let all = ["proxy", "revoke", "--all", "--user", "john", "--vo", "imense"];
    assert_eq!(vo.world.cli("mary", &all).code, 3);
    let revoked = vo.world.cli_json("admin", &all);
    assert_eq!(revoked["serials"].as_array().unwrap().len(), 2, "{revoked}");
    for proxy in [&first.0, &second.0] {
        assert_eq!(vo.judged(proxy), "revoked");
    }
    assert_eq!(vo.judged(&marys.0), "good");
    assert_eq!(
        vo.world.cli_json("admin", &all)["serials"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
}

#[test]
fn h7_suspending_one_person_revokes_her_proxies_at_once_and_others_go_on() {
    let vo = Vo::new();
    let (johns, marys) = (vo.proxy("john"), vo.proxy("mary"));
    vo.world.cli("admin", &["user", "suspend", "imense", "john"]).ok();
    // With the end of the command, not some time after.
    assert_eq!(vo.judged(&johns.0), "revoked");
    assert_ne!(
        vo.world.call("john", "GET", "/imense/keeper/look", None).status,
        200
    );
    // Her neighbour keeps the very proxy that she had.
    assert_eq!(vo.judged(&marys.0), "good");
    assert_eq!(vo.proxy("mary").1, marys.1);
    // Resuming the account brings no proxy back.
    vo.world.cli("admin", &["user", "resume", "imense", "john"]).ok();
    vo.world.login("john", crate::world::PASSWORD).ok();
    assert_ne!(vo.proxy("john").1, johns.1);
    assert_eq!(vo.judged(&johns.0), "revoked");
}

#[test]
fn a_reset_a_removal_and_a_suspended_vo_revoke_what_was_minted() {
    let vo = Vo::new();
    vo.world.person("anna", &["scientist"]);
    let (johns, marys, annas) = (vo.proxy("john"), vo.proxy("mary"), vo.proxy("anna"));
    let admin = |args: &[&str]| {
        vo.world.cli("admin", args).ok();
    };
    let judged = || [&johns.0, &marys.0, &annas.0].map(|proxy| vo.judged(proxy));
    admin(&["user", "reset-password", "imense", "john"]);
    assert_eq!(judged(), ["revoked", "good", "good"]);
    admin(&["user", "remove", "imense", "mary"]);
    assert_eq!(judged(), ["revoked", "revoked", "good"]);
    admin(&["vo", "suspend", "imense"]);
    admin(&["vo", "resume", "imense"]);
    assert_eq!(judged(), ["revoked", "revoked", "revoked"]);
    // Each is on record with its person, in the batch of what brought it about.
    let changes: Vec<serde_json::Value> = vo
        .world
        .records()
        .into_iter()
        .map(|record| record["event"]["change"]["change"].clone())
        .filter(|change| change["action"] == "proxy.revoke")
        .collect();
    let notes: Vec<_> = changes.iter().map(|change| &change["after"]["note"]).collect();
    assert_eq!(
        notes,
        [
            "the password was reset",
            "the membership ended",
            "the virtual organisation was suspended"
        ]
    );
    for (change, (_, serial)) in changes.iter().zip([&johns, &marys, &annas]) {
        assert_eq!(change["after"]["serials"][0], serial.as_str());
    }
    // Who is still there gets another one.
    assert_ne!(vo.proxy("anna").1, annas.1);
}

#[test]
fn a_recovery_by_the_operator_revokes_the_proxies_of_the_account() {
    let vo = Vo::new();
    let assign = ["role", "assign", "imense", "scientist", "admin"];
    vo.world.cli("admin", &assign).ok();
    let ((own, serial), (johns, _)) = (vo.proxy("admin"), vo.proxy("john"));
    assert_eq!([vo.judged(&own), vo.judged(&johns)], ["good", "good"]);
    let data = vo.world.data();
    let recover = ["admin", "recover", "--data", data.to_str().unwrap(), "--json"];
    let password = run_in(vo.world.dir.path(), &recover).ok().json();
    assert_eq!([vo.judged(&own), vo.judged(&johns)], ["revoked", "good"]);
    let password = password["one_time_password"].as_str().unwrap();
    vo.world.login("admin", password).ok();
    // A new session has a new one.
    let (next, other) = vo.proxy("admin");
    assert_ne!(other, serial);
    assert_eq!(vo.judged(&next), "good");
}
