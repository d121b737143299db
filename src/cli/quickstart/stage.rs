//! The stage of the story: a throw-away folder, the gateway and the tool as child processes, people with their own
//! settings folders. Everything ends with it.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::client::{Answer, Client};
use crate::cli::failure::Failure;
use crate::cli::profile::Profile;
use crate::cli::sample;
use crate::id::{SystemSource, random_bytes};

/// Where the gateway listens if the port is free.
const PORT: u16 = 8443;
/// Why people change things in the story.
pub(super) const REASON: &str = "the quickstart";
/// How long anything on the stage may take to be ready.
const READY: Duration = Duration::from_secs(20);

/// The stage.
pub(super) struct Stage {
    dir: TempDir,
    program: PathBuf,
    gateway: Option<Child>,
    tool: Option<Child>,
    password: String,
}

/// What a command printed.
pub(super) struct Ran {
    /// Exit code.
    pub(super) code: i32,
    /// Standard output.
    pub(super) stdout: String,
    /// Standard error.
    pub(super) stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.stdout)
            .map_err(|_| Failure::failed(format!("not JSON: {}{}", self.stdout, self.stderr)))
    }
}

impl Stage {
    /// An empty stage.
    pub(super) fn build() -> Result<Self, Failure> {
        let dir = tempfile::Builder::new()
            .prefix("countersign-quickstart-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()?;
        let random = random_bytes::<15>(&SystemSource::new())?;
        let letters = data_encoding::BASE32_NOPAD.encode(&random).to_ascii_lowercase();
        Ok(Self {
            dir,
            program: std::env::current_exe()?,
            gateway: None,
            tool: None,
            password: letters,
        })
    }

    /// The folder of everything.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program as it can be typed here.
    pub(super) fn program(&self) -> String {
        let here = std::env::current_dir().unwrap_or_default();
        self.program
            .strip_prefix(&here)
            .unwrap_or(&self.program)
            .display()
            .to_string()
    }

    /// The data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The password that everyone in the story chooses: random for each run.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// The tool's socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("tool.sock")
    }

    /// The file in which the tool notes what reached it.
    pub(super) fn seen(&self) -> PathBuf {
        self.dir.path().join("tool.seen")
    }

    /// A listening address that is free now, the usual one if it can be had.
    pub(super) fn address(&self) -> String {
        match TcpListener::bind(("127.0.0.1", PORT)) {
            Ok(_) => format!("127.0.0.1:{PORT}"),
            Err(_) => "127.0.0.1:0".into(),
        }
    }

    /// Runs `countersign ARGS` as one of the people.
    pub(super) fn run(&self, who: &str, args: &[&str]) -> Result<Ran, Failure> {
        let output = Command::new(&self.program)
            .args(args)
            .env("COUNTERSIGN_CONFIG", self.home(who))
            .env_remove("COUNTERSIGN_DATA")
            .env("COUNTERSIGN_REASON", REASON)
            .stdin(Stdio::null())
            .output()?;
        Ok(Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// A person's settings folder.
    pub(super) fn home(&self, who: &str) -> PathBuf {
        self.dir.path().join("people").join(who)
    }

    /// Writes a secret where a command can read it.
    pub(super) fn secret(&self, name: &str, text: &str) -> Result<String, Failure> {
        let file = self.dir.path().join(name);
        fs::write(&file, text)?;
        Ok(file.display().to_string())
    }

    /// Starts the sample tool on its socket.
    pub(super) async fn start_tool(&mut self) -> Result<(), Failure> {
        let child = Command::new(&self.program)
            .args(["sample-tool", "--socket"])
            .arg(self.socket())
            .arg("--seen")
            .arg(self.seen())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.tool = Some(child);
        let socket = self.socket();
        ready("the tool", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })
        .await
    }

    /// Starts the gateway and waits until it serves.
    pub(super) async fn start_gateway(&mut self) -> Result<(), Failure> {
        let log = fs::File::create(self.dir.path().join("gateway.log"))?;
        let child = Command::new(&self.program)
            .args(["serve", "--data"])
            .arg(self.data())
            .env("COUNTERSIGN_CONFIG", self.home("gateway"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.gateway = Some(child);
        let listeners = self.data().join("listeners.json");
        ready("the gateway", || listeners.exists()).await
    }

    /// The end of what the gateway printed.
    pub(super) fn gateway_log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(self.dir.path().join("gateway.log")) {
            let _ = file.read_to_string(&mut text);
        }
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(20);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// Ends when the gateway does.
    pub(super) async fn ended(&mut self) {
        loop {
            match self.gateway.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => tokio::time::sleep(Duration::from_millis(200)).await,
                _ => return,
            }
        }
    }

    /// The gateway's origin.
    pub(super) fn base(&self) -> Result<String, Failure> {
        let text = fs::read_to_string(self.data().join("listeners.json"))?;
        let listeners: Value = serde_json::from_str(&text)?;
        let base = listeners.get("base").and_then(Value::as_str).unwrap_or_default();
        Ok(base.to_owned())
    }

    /// The CA's certificate.
    pub(super) fn ca(&self) -> String {
        self.data().join("tls/ca.pem").display().to_string()
    }

    /// Calls a path of the gateway with a person's token.
    pub(super) async fn call(
        &self,
        who: &str,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let text = fs::read_to_string(self.home(who).join("login.json"))?;
        let profile: Profile = serde_json::from_str(&text)?;
        let client =
            Client::new(&self.base()?, Some(&fs::read_to_string(self.ca())?))?.with_token(profile.token());
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", client.base()));
        client.send(request, Bytes::from(body)).await
    }

    /// The sample image.
    pub(super) fn image(&self) -> Vec<u8> {
        sample::sample_image()
    }

    /// The mails in the outbox folder, as text.
    pub(super) fn mails(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.data().join("outbox"))
            .map(|entries| {
                entries
                    .flatten()
                    .map(|entry| entry.path())
                    .filter(|path| path.extension().is_some_and(|e| e == "eml"))
                    .collect()
            })
            .unwrap_or_default();
        files.sort();
        files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok())
            .collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in [self.gateway.take(), self.tool.take()].into_iter().flatten() {
            end(child);
        }
    }
}

/// Ends a child in order, then waits for it.
fn end(mut child: Child) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    for _ in 0..100 {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until `done`.
pub(super) async fn ready(what: &str, done: impl Fn() -> bool) -> Result<(), Failure> {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(READY, wait)
        .await
        .map_err(|_| Failure::failed(format!("{what} was not ready in {} s", READY.as_secs())))
}
