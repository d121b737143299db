//! What is measured: the upstream, the bare proxy, and a gateway with one VO, one wrapped tool and one person.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::TempDir;

const COUNTERSIGN: &str = env!("CARGO_BIN_EXE_countersign");
const PASSWORD: &str = "a quiet walk along the river";
const MANIFEST: &str = r#"
[tool]
name = "bench"
upstream = "bench"
delegation = "none"

[[task]]
name = "view page"
match = ["GET /page"]
kind = "read"

[[task]]
name = "change page"
match = ["PUT /page"]
kind = "update"

[[task]]
name = "view job"
match = ["GET /jobs/{job:int}"]
kind = "read"
resource = { type = "job", id = "{job}" }

[[task]]
name = "view closed page"
match = ["GET /closed"]
kind = "read"
"#;

/// A process that is measured or asked.
pub(crate) struct Peer {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) port: u16,
    _input: Option<ChildStdin>,
}

/// Everything, in a folder of its own.
pub(crate) struct World {
    pub(crate) gateway: Peer,
    pub(crate) bare: Peer,
    _upstream: Peer,
    /// Name in the certificate of both proxies.
    pub(crate) host: String,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// Bearer token of the person.
    pub(crate) token: String,
    _folder: TempDir,
}

impl World {
    /// Sets the gateway up through its command line and starts everything.
    pub(crate) fn start() -> Self {
        // Beside the build's output, which lies on a disk: the log is as fast as the disk under it.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let data = folder.path().join("data");
        let args = "init --listen 127.0.0.1:0 --operations 127.0.0.1:0 --vo lab --admin admin --admin-mail admin@example.org --throwaway --json --data";
        let made = run(folder.path(), "admin", args, &[path(&data)]);
        let upstream = Peer::of_self(&["upstream"]);
        let (certificate, key) = (data.join("tls/server.pem"), data.join("tls/server.key"));
        let bare = Peer::of_self(&["bare", &upstream.port.to_string(), path(&certificate), path(&key)]);
        let (gateway, base) = serve(folder.path(), &data);
        let ca = data.join("tls/ca.pem");
        let setup = Setup {
            folder: folder.path(),
            base: &base,
            ca: &ca,
        };
        setup.login("admin", text(&made, "one_time_password"));
        setup.tool(upstream.port);
        let added = run(
            folder.path(),
            "admin",
            "user add lab anna --name Anna --mail anna@example.org --role scientist --show-password --json",
            &[],
        );
        setup.login("anna", text(&added, "one_time_password"));
        let saved = fs::read(folder.path().join("home-anna/login.json")).expect("a sign-in");
        let token = text(&serde_json::from_slice(&saved).expect("JSON"), "token").to_owned();
        let host = base
            .trim_start_matches("https://")
            .split(':')
            .next()
            .unwrap_or_default()
            .to_owned();
        Self {
            gateway,
            bare,
            _upstream: upstream,
            host,
            tls: trust(&ca),
            token,
            _folder: folder,
        }
    }
}

struct Setup<'a> {
    folder: &'a Path,
    base: &'a str,
    ca: &'a Path,
}

impl Setup<'_> {
    fn login(&self, user: &str, one_time: &str) {
        let (old, new) = (self.file("old", one_time), self.file("new", PASSWORD));
        let files = [
            path(self.ca),
            "--password-file",
            path(&old),
            "--new-password-file",
            path(&new),
        ];
        run(
            self.folder,
            user,
            &format!("login --gateway {} --user {user} --ca", self.base),
            &files,
        );
    }

    fn tool(&self, upstream: u16) {
        let manifest = self.file("bench.toml", MANIFEST);
        run(
            self.folder,
            "admin",
            &format!("upstream allow lab bench http://127.0.0.1:{upstream}"),
            &[],
        );
        run(self.folder, "admin", "tool add lab", &[path(&manifest)]);
        run(
            self.folder,
            "admin",
            "grant add lab scientist bench",
            &["view page", "view job", "change page"],
        );
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.join(name);
        fs::write(&file, text).expect("a file");
        file
    }
}

impl Peer {
    fn of_self(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command
            .arg("--child")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a port");
        let port = line.trim().parse().expect("a port");
        Self {
            pid: child.id(),
            port,
            _input: child.stdin.take(),
            child,
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the gateway; gives its origin too.
fn serve(folder: &Path, data: &Path) -> (Peer, String) {
    let log = fs::File::create(folder.join("gateway.log")).expect("a file");
    let mut command = Command::new(COUNTERSIGN);
    command.arg("serve").arg("--data").arg(data).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file")).stderr(log);
    let mut child = command.spawn().expect("the gateway");
    let file = data.join("listeners.json");
    while !file.exists() {
        assert!(
            child.try_wait().expect("a process").is_none(),
            "the gateway ended"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let listeners: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    let base = text(&listeners, "base").to_owned();
    let port = base
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    (
        Peer {
            pid: child.id(),
            port,
            _input: None,
            child,
        },
        base,
    )
}

/// Runs the program once as `user`; what it prints as JSON, if it does.
fn run(folder: &Path, user: &str, words: &str, more: &[&str]) -> Value {
    let mut command = Command::new(COUNTERSIGN);
    command.args(words.split(' ')).args(more).stdin(Stdio::null());
    command
        .env("COUNTERSIGN_CONFIG", folder.join(format!("home-{user}")))
        .env_remove("COUNTERSIGN_DATA");
    let output = command.output().expect("the program");
    assert!(
        output.status.success(),
        "{words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect("a text")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn trust(ca: &Path) -> Arc<rustls::ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).expect("a certificate"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Processor time of a process, user and system, threads that ended included (proc(5): fields 14 and 15, in ticks of
/// 10 ms).
pub(crate) fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("ticks"));
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Waits until the process has nothing more to do: at most a tick in 300 ms, for at most 10 seconds.
pub(crate) async fn settled(pid: u32) {
    let mut last = processor_time(pid);
    for _ in 0..33 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = processor_time(pid);
        if now - last <= Duration::from_millis(10) {
            return;
        }
        last = now;
    }
}
