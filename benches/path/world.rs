//! A gateway with one VO, wrapped tools and one person, set up through its own command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::TempDir;

use super::load::Client;
use super::process::Peer;

pub(crate) const COUNTERSIGN: &str = env!("CARGO_BIN_EXE_countersign");
const PASSWORD: &str = "a quiet walk along the river";
/// All load comes from one address, and stays.
const SETTINGS: &str =
    "connections_per_source = 20000\nrequests_per_source = 10000\nidle_timeout = \"10m\"\n";

/// A tool to wrap.
pub(crate) struct Tool {
    pub(crate) name: String,
    /// Port of its upstream.
    pub(crate) upstream: u16,
    pub(crate) manifest: String,
    /// Tasks that the role `scientist` may do.
    pub(crate) tasks: Vec<&'static str>,
}

impl Tool {
    /// The tool that everything is asked of: pages, a resource, large bodies, and a task that nobody may do.
    pub(crate) fn bench(upstream: u16) -> Self {
        Self {
            name: "bench".to_owned(),
            upstream,
            manifest: MANIFEST.to_owned(),
            tasks: vec!["view page", "view job", "change page", "view large"],
        }
    }
}

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
name = "view large"
match = ["GET /large/{bytes:int}"]
kind = "download"

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

/// A running gateway.
pub(crate) struct Site {
    pub(crate) gateway: Peer,
    /// Name in the certificate.
    pub(crate) host: String,
    /// Bearer token of the person, who holds the role `scientist`.
    pub(crate) token: String,
    /// Address of health and metrics.
    pub(crate) operations: String,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Whom a client of the load trusts.
    pub(crate) tls: rustls::ClientConfig,
    folder: TempDir,
}

impl Site {
    /// Makes a data folder, lets `prepare` see it, starts the gateway, wraps the tools, and signs a person in who also
    /// holds the role `role`.
    pub(crate) fn start(tools: &[Tool], role: Option<&str>, prepare: impl FnOnce(&Path)) -> Self {
        // Beside the build's output, which lies on a disk: the log is as fast as the disk under it.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let data = folder.path().join("data");
        let args = "init --listen 127.0.0.1:0 --operations 127.0.0.1:0 --vo lab --admin admin --admin-mail admin@example.org --throwaway --json --data";
        let made = run(folder.path(), "admin", args, &[path(&data)]);
        let settings = data.join("countersign.toml");
        let text = fs::read_to_string(&settings).expect("settings");
        let text = text.replacen("[gateway]\n", &format!("[gateway]\n{SETTINGS}"), 1);
        fs::write(&settings, text).expect("a file");
        prepare(&data);
        let (gateway, listeners) = serve(folder.path(), &data);
        let (base, ca) = (field(&listeners, "base").to_owned(), data.join("tls/ca.pem"));
        let setup = Setup {
            folder: folder.path(),
            base: &base,
            ca: &ca,
        };
        setup.login("admin", field(&made, "one_time_password"));
        for tool in tools {
            setup.tool(tool);
        }
        let mut add =
            "user add lab anna --name Anna --mail anna@example.org --role scientist --show-password --json"
                .to_owned();
        if let Some(role) = role {
            add.push_str(&format!(" --role {role}"));
        }
        let added = run(folder.path(), "admin", &add, &[]);
        setup.login("anna", field(&added, "one_time_password"));
        let token = saved_token(folder.path(), "anna");
        let host = base.trim_start_matches("https://").split(':').next();
        Self {
            gateway,
            host: host.unwrap_or_default().to_owned(),
            token,
            operations: field(&listeners, "operations").to_owned(),
            certificate: data.join("tls/server.pem"),
            key: data.join("tls/server.key"),
            tls: trust(&ca),
            folder,
        }
    }

    /// Bearer token of whoever signed in under this name: `admin` or `anna`.
    pub(crate) fn token_of(&self, user: &str) -> String {
        saved_token(self.folder.path(), user)
    }

    /// The gateway's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the gateway again, after it has ended.
    pub(crate) fn start_again(&mut self) {
        let data = self.data();
        let _ = fs::remove_file(data.join("listeners.json"));
        let (gateway, listeners) = serve(self.folder.path(), &data);
        field(&listeners, "operations").clone_into(&mut self.operations);
        self.gateway = gateway;
    }

    /// The folder in which everything lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of a program that shows this certificate.
    pub(crate) fn client(&self, port: u16) -> Client {
        Client::new(port, &self.host, &self.tls)
    }

    /// The bare proxy, with the same certificate.
    pub(crate) fn bare(&self, upstream: &Peer) -> Peer {
        let port = upstream.port.to_string();
        Peer::of_self(&["bare", &port, path(&self.certificate), path(&self.key)])
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

    fn tool(&self, tool: &Tool) {
        let manifest = self.file("manifest.toml", &tool.manifest);
        let (name, port) = (&tool.name, tool.upstream);
        let allow = format!("upstream allow lab {name} http://127.0.0.1:{port}");
        run(self.folder, "admin", &allow, &[]);
        run(self.folder, "admin", "tool add lab", &[path(&manifest)]);
        if !tool.tasks.is_empty() {
            let grant = format!("grant add lab scientist {name}");
            run(self.folder, "admin", &grant, &tool.tasks);
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.join(name);
        fs::write(&file, text).expect("a file");
        file
    }
}

fn saved_token(folder: &Path, user: &str) -> String {
    let saved = fs::read(folder.join(format!("home-{user}/login.json"))).expect("a sign-in");
    field(&serde_json::from_slice(&saved).expect("JSON"), "token").to_owned()
}

/// Starts the gateway; gives where it listens too.
fn serve(folder: &Path, data: &Path) -> (Peer, Value) {
    let log = fs::File::create(folder.join("gateway.log")).expect("a file");
    let mut peer = Peer::of(COUNTERSIGN, &["serve", "--data", path(data)], 0, log);
    let file = data.join("listeners.json");
    while !file.exists() {
        let said = || fs::read_to_string(folder.join("gateway.log")).unwrap_or_default();
        assert!(peer.is_up(), "the gateway ended: {}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    let listeners: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    let port = field(&listeners, "gateway").rsplit(':').next();
    peer.port = port.and_then(|port| port.parse().ok()).expect("a port");
    (peer, listeners)
}

/// Runs the program once as `user`; what it prints as JSON, if it does.
fn run(folder: &Path, user: &str, words: &str, more: &[&str]) -> Value {
    let mut command = Command::new(COUNTERSIGN);
    command.args(words.split(' ')).args(more).stdin(Stdio::null());
    command
        .env("COUNTERSIGN_REASON", "a measurement")
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

fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect("a text")
}

/// A path as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Clients trust the private authority and offer one choice only, so that every proxy does the same work: TLS 1.3 with
/// AES-256-GCM, X25519 alone, and no resumption.
fn trust(ca: &Path) -> rustls::ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).expect("a certificate"))
        .expect("an authority");
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}
