//! Starts the real peers of `tests/peers` and stops them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A peer that runs until this is dropped, or until the test's process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Peer {
    script: PathBuf,
    folder: tempfile::TempDir,
    env: BTreeMap<String, String>,
}

impl Peer {
    /// Starts the peer and waits until it answers. A missing program fails the test with the line that installs it.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// The same with options (see `tests/peers/README.md`).
    pub(crate) fn start_with(name: &str, options: &[(&str, &str)]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/peers")
            .join(name);
        let folder = tempfile::Builder::new().prefix("peer-").tempdir().unwrap();
        let output = Command::new(&script)
            .arg("up")
            .arg(folder.path())
            .env("PEER_OWNER", std::process::id().to_string())
            .envs(options.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "the peer `{name}` did not start (if something is missing: tests/peers/install {name})\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
        let env = env.lines().filter_map(|line| line.split_once('='));
        let env = env
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Self { script, folder, env }
    }

    /// What the peer says about itself under this key.
    pub(crate) fn env(&self, key: &str) -> &str {
        self.env
            .get(key)
            .unwrap_or_else(|| panic!("{} says no `{key}`: {:?}", self.script.display(), self.env))
    }

    /// Its folder; goes with the peer.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The processes it consists of.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.folder().join("processes")).unwrap();
        text.lines()
            .map(|line| line.split(' ').next().unwrap().parse().unwrap())
            .collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let down = Command::new(&self.script)
            .arg("down")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .output();
        if let Ok(output) = down
            && !output.status.success()
            && !std::thread::panicking()
        {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Runs a program; gives whether it succeeded and what it said on either stream.
pub(crate) fn told(program: &str, arguments: &[&str], folder: &Path) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error} (tests/peers/install brings it)"));
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn gone(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    // A zombie has ended; whoever started it has not looked yet.
    stat.map_or(true, |stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with('Z'))
    })
}

#[test]
fn postgresql_asks_for_the_password_and_ends_with_its_peer() {
    let peer = Peer::start("postgres");
    let ask = |url: &str| told("psql", &[url, "-Atc", "SELECT current_database()"], peer.folder());
    assert_eq!(ask(peer.env("URL")), (true, "countersign\n".to_owned()));
    let (done, said) = ask(&peer.env("URL").replace(peer.env("PASSWORD"), "wrong"));
    assert!(!done && said.contains("password authentication failed"), "{said}");
    let processes = peer.processes();
    assert!(!processes.is_empty() && !processes.iter().any(|process| gone(*process)));
    drop(peer);
    assert!(processes.iter().all(|process| gone(*process)));
}

#[test]
fn the_mail_receiver_keeps_mail_and_refuses_as_told() {
    let peer = Peer::start("smtp");
    std::fs::write(
        peer.folder().join("mail"),
        "Subject: three refusals\r\n\r\ntext\r\n",
    )
    .unwrap();
    let send = |to: &str| {
        let url = format!("smtp://localhost:{}", peer.env("PORT"));
        let arguments = [
            "-sS",
            "--ssl-reqd",
            "--cacert",
            peer.env("CA"),
            &url,
            "--mail-from",
            "gw@example.org",
            "--mail-rcpt",
            to,
        ];
        told("curl", &[&arguments[..], &["-T", "mail"]].concat(), peer.folder())
    };
    let side = |path: &str, more: &[&str]| {
        let url = format!("{}{path}", peer.env("HTTP"));
        let (done, said) = told("curl", &[&["-sSf", url.as_str()], more].concat(), peer.folder());
        assert!(done, "{said}");
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    assert_eq!(send("admin@example.org"), (true, String::new()));
    let kept = side("/messages?to=admin@example.org&atleast=1&wait=10", &[]);
    assert_eq!(
        (&kept[0]["subject"], &kept[0]["tls"]),
        (&"three refusals".into(), &true.into())
    );
    assert!(send("tempfail@example.org").1.contains("451"));
    assert!(send("bounce@example.org").1.contains("550"));
    side(
        "/rules/tempfail",
        &["-X", "PUT", "-d", r#"{"code": 451, "times": 1}"#],
    );
    assert!(send("tempfail@example.org").1.contains("451"));
    assert!(send("tempfail@example.org").0);
    assert_eq!(
        side("/attempts?to=tempfail@example.org", &[])
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn the_upstream_takes_a_proxy_and_refuses_a_client_without_certificate() {
    let peer = Peer::start("mtls");
    let run = |program: &str, arguments: &str| {
        told(
            program,
            &arguments.split_whitespace().collect::<Vec<_>>(),
            peer.folder(),
        )
    };
    std::fs::write(
        peer.folder().join("ext"),
        "proxyCertInfo=critical,language:id-ppl-inheritAll\n",
    )
    .unwrap();
    let subject = "/O=Throw-away/CN=VO robot/CN=77";
    let request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out request -subj";
    let request: Vec<&str> = request.split(' ').chain([subject]).collect();
    assert!(told("openssl", &request, peer.folder()).0);
    let (vo, key) = (peer.env("VO_CERTIFICATE"), peer.env("VO_KEY"));
    let sign =
        format!("x509 -req -in request -CA {vo} -CAkey {key} -set_serial 77 -days 1 -extfile ext -out proxy");
    assert!(run("openssl", &sign).0);
    let proxy = std::fs::read_to_string(peer.folder().join("proxy")).unwrap();
    std::fs::write(
        peer.folder().join("chain"),
        proxy + &std::fs::read_to_string(vo).unwrap(),
    )
    .unwrap();
    for (port, version) in [("PORT", "TLSv1.3"), ("TLS12_PORT", "TLSv1.2")] {
        let url = format!(
            "-sS --cacert {} https://localhost:{}/where",
            peer.env("CA"),
            peer.env(port)
        );
        let (done, said) = run("curl", &format!("{url} --cert chain --key key"));
        assert!(done, "{said}");
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&said["tls"], &said["path"]), (&version.into(), &"/where".into()));
        assert_eq!(
            (&said["chain"][0]["serial"], &said["chain"][0]["subject"]),
            (&"77".into(), &subject.into())
        );
        assert!(!run("curl", &url).0);
    }
    let (_, said) = run(
        "curl",
        &format!("-sS {}/connections?atleast=4&wait=10", peer.env("HTTP")),
    );
    let connections: serde_json::Value = serde_json::from_str(&said).unwrap();
    let refused = connections
        .as_array()
        .unwrap()
        .iter()
        .filter(|connection| connection.get("error").is_some());
    assert_eq!(refused.count(), 2, "{said}");
}

#[test]
fn orthanc_takes_a_real_image() {
    let peer = Peer::start("orthanc");
    let image = format!("@{}/CT_small.dcm", peer.env("DICOM"));
    let url = format!("{}/instances", peer.env("URL"));
    let (done, said) = told("curl", &["-sSf", &url, "--data-binary", &image], peer.folder());
    assert!(done, "{said}");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["Status"], "Success");
}

#[test]
fn a_peer_goes_with_the_process_that_owns_it() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/mtls");
    let folder = tempfile::tempdir().unwrap();
    let mut owner = Command::new("sleep").arg("600").spawn().unwrap();
    let up = Command::new(&script)
        .arg("up")
        .arg(folder.path())
        .env("PEER_OWNER", owner.id().to_string())
        .output();
    assert!(up.unwrap().status.success(), "tests/peers/install mtls");
    let processes = std::fs::read_to_string(folder.path().join("processes")).unwrap();
    let process: u32 = processes.split(' ').next().unwrap().parse().unwrap();
    assert!(!gone(process));
    owner.kill().unwrap();
    owner.wait().unwrap();
    // The peer's watcher looks twice a second; waiting on the process itself needs no luck.
    let (_, said) = told(
        "tail",
        &["--pid", &process.to_string(), "-f", "/dev/null"],
        folder.path(),
    );
    assert_eq!(said, "");
    assert!(gone(process));
}
