//! Feature rows G2 and G3 against the software that grids really run: what the running gateway hands out, shown to each peer.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::delegate::{import, keeper};
use crate::peers::Peer;
use crate::world::{World, until};

/// The grid that the tests going on at the moment share; it goes with the last of them.
pub(crate) fn grid() -> Arc<Peer> {
    static SHARED: Mutex<Weak<Peer>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let peer = Arc::new(Peer::start("grid"));
        *shared = Arc::downgrade(&peer);
        peer
    })
}

/// Shows a proxy file to peers of the grid (all of them where none is named); gives what those said that refuse it.
pub(crate) fn refused(grid: &Peer, proxy: &Path, peers: &[&str]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/check-proxy");
    let mut command = Command::new(script);
    let command = command
        .arg(grid.folder())
        .arg(proxy)
        .args(peers)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let all = if peers.is_empty() { 11 } else { peers.len() };
    assert_eq!(
        said.lines().count(),
        all,
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let refused = said.lines().filter(|line| !line.starts_with("PASS "));
    refused.map(str::to_owned).collect()
}

#[track_caller]
pub(crate) fn taken(grid: &Peer, proxy: &Path, peers: &[&str]) {
    assert_eq!(refused(grid, proxy, peers), [""; 0]);
}

/// A gateway with `john`, whose VO has the grid's certificate `which` (`RSA`, `EC`).
pub(crate) fn world_of(grid: &Peer, which: &str) -> World {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let (certificate, key) = (format!("VO_{which}"), format!("VO_{which}_KEY"));
    import(&world, grid.env(&certificate), grid.env(&key)).ok();
    world
}

#[test]
fn g2_openssl_apache_and_arc_take_a_p256_proxy_and_the_others_refuse_it() {
    let grid = grid();
    for which in ["EC", "RSA"] {
        let world = world_of(&grid, which);
        let (_tool, kept) = keeper(&world, "keeper", "pem\nkey = \"p256\"");
        world.call("john", "GET", "/imense/keeper/look", None).expect(200);
        let proxy = kept.join("proxy.pem");
        taken(
            &grid,
            &proxy,
            &[
                "file", "openssl", "globus", "voms", "arcproxy", "sserver", "apache", "arc",
            ],
        );
        // What the check of a tool's settings says of these peers is so.
        let others = refused(&grid, &proxy, &["gridftp", "xrootd"]);
        assert_eq!(others.len(), 2, "{others:#?}");
    }
}

#[test]
fn g3_every_peer_takes_a_proxy_of_the_gateway_with_an_rsa_key_and_runs_a_job_for_it() {
    let grid = grid();
    for (policy, more) in [("", &[][..]), ("\npolicy = \"inheritAll\"", &["job"])] {
        let world = world_of(&grid, "RSA");
        let (_tool, kept) = keeper(&world, "keeper", &format!("pem{policy}"));
        world.call("john", "GET", "/imense/keeper/look", None).expect(200);
        let proxy = kept.join("proxy.pem");
        taken(&grid, &proxy, &[]);
        if !more.is_empty() {
            taken(&grid, &proxy, more);
        }
    }
}

#[test]
fn by_the_vos_choice_a_proxy_names_its_person_readably_and_every_peer_takes_it() {
    let grid = grid();
    let world = world_of(&grid, "RSA");
    let (_tool, kept) = keeper(&world, "keeper", "pem\npolicy = \"inheritAll\"");
    let proxy = kept.join("proxy.pem");
    let says = || {
        world.call("john", "GET", "/imense/keeper/look", None).expect(200);
        let shown = Command::new("openssl")
            .args(["x509", "-noout", "-text", "-in"])
            .arg(&proxy)
            .output()
            .expect("openssl runs (apt-get install openssl)");
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    let id = world.cli_json("admin", &["user", "show", "imense", "john"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let text = says();
    assert!(
        !text.contains("Directory Attributes") && !text.contains("john"),
        "{text}"
    );
    let choose = |tells: &str| {
        let command = ["vo", "proxy-identity", "set", "imense", tells];
        world.cli("admin", &command).ok();
        world.cli_json("admin", &["vo", "proxy-identity", "show", "imense"])["tells"].clone()
    };
    assert_eq!(choose("username"), "username");
    let text = says();
    // No word behind the colon: it is not critical.
    let (_, attributes) = text
        .split_once("X509v3 Subject Directory Attributes: \n")
        .expect(&text);
    let attributes: String = attributes.lines().take(4).collect();
    assert!(attributes.contains("john"), "{text}");
    taken(&grid, &proxy, &[]);
    taken(&grid, &proxy, &["job"]);
    assert_eq!(choose("id"), "id");
    let text = says();
    assert!(
        text.contains("Directory Attributes") && !text.contains("john"),
        "{text}"
    );
    assert_eq!(choose("opaque"), "opaque");
    assert!(!says().contains("Directory Attributes"));
    let der = Command::new("openssl")
        .args(["x509", "-outform", "DER", "-in"])
        .arg(&proxy)
        .output()
        .unwrap()
        .stdout;
    assert!(!der.windows(id.len()).any(|part| part == id.as_bytes()));
    // Each choice is on record, and a scientist makes none.
    let changes = world.records().into_iter();
    let changes =
        changes.filter(|record| record["event"]["change"]["change"]["action"] == "proxy_identity.set");
    assert_eq!(changes.count(), 3);
    let refused = world.cli("john", &["vo", "proxy-identity", "set", "imense", "username"]);
    assert_ne!(refused.code, 0);
}

#[test]
fn g3_apache_and_arc_answer_the_gateway_that_calls_them_with_a_proxy() {
    let grid = grid();
    let world = world_of(&grid, "EC");
    let apache = format!("https://localhost:{}", grid.env("APACHE_PORT"));
    let arc = format!("https://localhost:{}", grid.env("ARC_PORT"));
    called(&world, &grid, "apache", &apache, "/whoami.txt");
    called(&world, &grid, "arc", &arc, "/arex/rest/1.0/jobs");

    let answer = world
        .call("john", "GET", "/imense/apache/whoami.txt", None)
        .expect(200);
    assert_eq!(answer.text(), "accepted\n");
    let serial = serial_of(&world, &answer.request_id());
    let log = grid.folder().join("apache/access");
    let line = until("Apache's log", || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.lines()
            .find(|line| line.contains(&format!("CN={serial}")))
            .map(str::to_owned)
    });
    // Apache writes whole bytes in hexadecimal: a serial may begin with a zero there.
    let (_, digits) = line.split_once("serial=").expect(&line);
    let digits: String = digits.chars().take_while(char::is_ascii_hexdigit).collect();
    assert_eq!(
        u64::from_str_radix(&digits, 16),
        Ok(serial.parse().unwrap()),
        "{line}"
    );
    assert!(line.contains("issuer=\"CN=imense-vo robot,"), "{line}");

    let answer = world
        .call("john", "GET", "/imense/arc/arex/rest/1.0/jobs", None)
        .expect(200);
    assert!(answer.text().contains("jobs"), "{}", answer.text());
}

/// Wraps a resource that is called over TLS with the person's proxy; scientists may read `path`.
fn called(world: &World, grid: &Peer, name: &str, url: &str, path: &str) {
    let file = world.dir.path().join(format!("{name}.toml"));
    let text = format!(
        "[tool]\nname = \"{name}\"\nupstream = \"{name}\"\ndelegation = \"client-certificate\"\n\n\
         [[task]]\nname = \"look\"\nmatch = [\"GET {path}\"]\nkind = \"read\"\n"
    );
    std::fs::write(&file, text).unwrap();
    for args in [
        &["upstream", "allow", "imense", name, url, "--ca", grid.env("CA")][..],
        &["tool", "add", "imense", file.to_str().unwrap()],
        &["grant", "add", "imense", "scientist", name, "look"],
    ] {
        world.cli("admin", args).ok();
    }
}

/// The serial of the proxy that a request was made with.
fn serial_of(world: &World, request: &str) -> String {
    let events = world.events_of(request);
    let intent = &events.iter().find(|(name, _)| name == "intent").unwrap().1;
    intent["delegation"]["serial"].as_str().unwrap().to_owned()
}
