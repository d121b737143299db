//! A whole world for black-box tests: the built binary, initialised in a folder of its own and serving on a free port,
//! with people who have signed in, the sample tool behind it, and `curl` as the client.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The built program.
pub const COUNTERSIGN: &str = env!("CARGO_BIN_EXE_countersign");

/// The password that everyone in a test chooses.
pub const PASSWORD: &str = "a quiet walk along the river";

/// A running gateway.
pub struct World {
    /// The folder that holds everything of this test.
    pub dir: TempDir,
    /// The VO that `init` made.
    pub vo: String,
    one_time: String,
    gateway: Option<Child>,
    tools: Vec<Child>,
}

/// One run of the program.
#[derive(Debug)]
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Expects exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {}", self.stdout))
    }
}

/// An answer, as curl saw it.
#[derive(Debug)]
pub struct Answer {
    /// Status; 0 when there was none.
    pub status: u16,
    /// Header lines of the last answer, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// Last part of a problem document's type.
    #[track_caller]
    pub fn problem(&self) -> String {
        let document = self.json();
        let kind = document["type"].as_str().unwrap_or_default();
        kind.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// The request id.
    #[track_caller]
    pub fn request_id(&self) -> String {
        self.header("x-countersign-request-id")
            .expect("an answer without a request id")
            .to_owned()
    }

    /// Expects a status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Runs the program once, in an environment of its own.
pub fn run_in(config: &Path, args: &[&str]) -> Ran {
    let output = Command::new(COUNTERSIGN)
        .args(args)
        .env("COUNTERSIGN_CONFIG", config)
        .env_remove("COUNTERSIGN_DATA")
        .env("COUNTERSIGN_REASON", "a test")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until `done` gives something, for at most 30 seconds.
#[track_caller]
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "waited 30 s for {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl World {
    /// Initialises a gateway with the VO `imense` and the administrator `admin`, and starts it.
    pub fn start() -> Self {
        Self::with_settings("")
    }

    /// The same, with lines added to `countersign.toml` (whole sections, or keys of sections that it has not).
    pub fn with_settings(settings: &str) -> Self {
        let mut world = Self::initialised();
        if !settings.is_empty() {
            let file = world.data().join("countersign.toml");
            let mut text = fs::read_to_string(&file).unwrap();
            text.push('\n');
            text.push_str(settings);
            fs::write(&file, text).unwrap();
        }
        world.serve();
        world
    }

    /// Initialises, and does not start.
    pub fn initialised() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("countersign-it-")
            .tempdir()
            .unwrap();
        let data = dir.path().join("data");
        let args = [
            "init",
            "--data",
            data.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--operations",
            "127.0.0.1:0",
            "--vo",
            "imense",
            "--admin",
            "admin",
            "--admin-mail",
            "admin@example.org",
            "--throwaway",
            "--json",
        ];
        let made = run_in(dir.path(), &args).ok().json();
        let one_time = made["one_time_password"].as_str().unwrap().to_owned();
        Self {
            dir,
            vo: "imense".into(),
            one_time,
            gateway: None,
            tools: Vec::new(),
        }
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The administrator's one-time password, as `init` printed it.
    pub fn one_time(&self) -> &str {
        &self.one_time
    }

    /// Starts the gateway and waits until it serves.
    pub fn serve(&mut self) {
        self.serve_with(&[]);
    }

    /// The same, with more in its environment.
    pub fn serve_with(&mut self, environment: &[(&str, &str)]) {
        assert!(self.gateway.is_none(), "the gateway runs already");
        let _ = fs::remove_file(self.data().join("listeners.json"));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("gateway.log"))
            .unwrap();
        let child = Command::new(COUNTERSIGN)
            .args(["serve", "--data"])
            .arg(self.data())
            .env("COUNTERSIGN_CONFIG", self.dir.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.gateway = Some(child);
        let listeners = self.data().join("listeners.json");
        let started = Instant::now();
        while !listeners.exists() {
            let ended = self.gateway.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(
                ended.is_none(),
                "the gateway ended with {ended:?}:\n{}",
                self.log()
            );
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the gateway does not serve:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the gateway printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("gateway.log")).unwrap_or_default()
    }

    fn listeners(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.data().join("listeners.json")).unwrap()).unwrap()
    }

    /// The gateway's origin.
    pub fn base(&self) -> String {
        self.listeners()["base"].as_str().unwrap().to_owned()
    }

    /// The gateway's port.
    pub fn port(&self) -> u16 {
        self.base().rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Address of the operations listener.
    pub fn operations(&self) -> String {
        self.listeners()["operations"].as_str().unwrap().to_owned()
    }

    /// The whole number that monitoring sees behind `line` (name and labels as they are shown).
    pub fn metric(&self, line: &str) -> Option<u64> {
        let url = format!("http://{}/metrics", self.operations());
        let text = self.curl(&[&url]).expect(200).text();
        let value = text.lines().find_map(|shown| shown.strip_prefix(line));
        value.map(|value| value.trim().parse::<f64>().unwrap() as u64)
    }

    /// The store, as a thief would dump it.
    pub fn dump(&self) -> String {
        self.read_store("for line in store.iterdump(): print(line)")
    }

    /// What a Python program prints that has the store as `store`, to read.
    pub fn read_store(&self, program: &str) -> String {
        self.python("ro", program)
    }

    /// Changes the store as whoever can reach its file does, past the gateway.
    pub fn write_store(&self, sql: &str) {
        self.python("rw", &format!("store.executescript({sql:?})\nstore.commit()"));
    }

    fn python(&self, mode: &str, program: &str) -> String {
        let open = format!(
            "import sqlite3, sys\nstore = sqlite3.connect(f'file:{{sys.argv[1]}}?mode={mode}', uri=True, timeout=30)\n"
        );
        let output = Command::new("python3")
            .args(["-c", &(open + program)])
            .arg(self.data().join("store.db"))
            .output()
            .expect("python3 runs (apt-get install python3)");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The CA's certificate.
    pub fn ca(&self) -> String {
        self.data().join("tls/ca.pem").to_str().unwrap().to_owned()
    }

    /// The gateway's process id.
    pub fn pid(&self) -> u32 {
        self.gateway.as_ref().unwrap().id()
    }

    /// Ends the gateway with `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.gateway.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends the gateway a signal (`TERM`, `HUP`).
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.args([&format!("-{name}"), &self.pid().to_string()]);
        assert!(kill.status().unwrap().success());
    }

    /// Lets the gateway's files grow to `size` and no further: `0`, and it cannot write at all; `unlimited`.
    pub fn limit(&self, size: &str) {
        let status = Command::new("prlimit")
            .args([
                &format!("--fsize={size}:unlimited"),
                "--pid",
                &self.pid().to_string(),
            ])
            .status()
            .expect("prlimit runs (apt-get install util-linux)");
        assert!(status.success());
    }

    /// Waits for the gateway's end; its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let mut child = self.gateway.take().unwrap();
        until("the gateway to stop", || child.try_wait().unwrap()).code()
    }

    /// Ends the gateway in order (SIGTERM) and waits for it.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.ended();
    }

    /// A person's own settings folder.
    pub fn config(&self, user: &str) -> PathBuf {
        self.dir.path().join(format!("home-{user}"))
    }

    /// Runs a command as `user` (who has signed in).
    pub fn cli(&self, user: &str, args: &[&str]) -> Ran {
        run_in(&self.config(user), args)
    }

    /// The same, with `--json`, expecting success.
    #[track_caller]
    pub fn cli_json(&self, user: &str, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        self.cli(user, &args).ok().json()
    }

    fn secret_file(&self, name: &str, text: &str) -> String {
        let file = self.dir.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Signs in with the command line; a one-time password is exchanged for [`PASSWORD`].
    pub fn login(&self, user: &str, password: &str) -> Ran {
        let (base, ca) = (self.base(), self.ca());
        let old = self.secret_file(&format!("{user}.password"), password);
        let new = self.secret_file(&format!("{user}.new"), PASSWORD);
        let args = [
            "login",
            "--gateway",
            &base,
            "--ca",
            &ca,
            "--user",
            user,
            "--password-file",
            &old,
            "--new-password-file",
            &new,
        ];
        self.cli(user, &args)
    }

    /// Signs the administrator in for the first time.
    pub fn admin(&self) -> &Self {
        self.login("admin", &self.one_time).ok();
        self
    }

    /// Adds a person to the VO and signs her in with [`PASSWORD`].
    pub fn person(&self, user: &str, roles: &[&str]) -> &Self {
        let mail = format!("{user}@example.org");
        let mut args = vec![
            "user",
            "add",
            &self.vo,
            user,
            "--name",
            user,
            "--mail",
            &mail,
            "--show-password",
        ];
        for role in roles {
            args.extend(["--role", role]);
        }
        let added = self.cli_json("admin", &args);
        let one_time = added["one_time_password"]
            .as_str()
            .expect("a one-time password")
            .to_owned();
        self.login(user, &one_time).ok();
        self
    }

    /// The bearer token of a person who has signed in.
    pub fn token(&self, user: &str) -> String {
        let text = fs::read_to_string(self.config(user).join("login.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Starts the sample tool on a Unix socket; gives the socket and the file in which it notes what it saw.
    pub fn sample_tool(&mut self) -> (PathBuf, PathBuf) {
        let (socket, seen) = (self.dir.path().join("tool.sock"), self.dir.path().join("seen"));
        let child = Command::new(COUNTERSIGN)
            .args(["sample-tool", "--socket"])
            .arg(&socket)
            .arg("--seen")
            .arg(&seen)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.tools.push(child);
        until("the sample tool", || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        (socket, seen)
    }

    /// Wraps the sample tool as `segmentation` and grants its tasks: everything to the VO administrator, the own jobs to
    /// scientists. Gives the file in which the tool notes what it saw.
    pub fn segmentation(&mut self) -> PathBuf {
        let (socket, seen) = self.sample_tool();
        let manifest = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/examples/segmentation/segmentation.toml"
        );
        let url = format!("unix:{}", socket.display());
        let vo = self.vo.clone();
        self.cli("admin", &["upstream", "allow", &vo, "segmentation", &url])
            .ok();
        self.cli("admin", &["tool", "add", &vo, manifest]).ok();
        let own = ["list jobs", "monitor job", "download result", "terminate job"];
        for (role, when, tasks) in [
            ("scientist", "always", vec!["submit job", "view page"]),
            ("scientist", "own", own.to_vec()),
            ("vo-administrator", "always", own.to_vec()),
        ] {
            let mut args = vec!["grant", "add", &vo, role, "segmentation"];
            args.extend(&tasks);
            args.extend(["--when", when]);
            self.cli("admin", &args).ok();
        }
        seen
    }

    /// Runs curl with the gateway's CA.
    pub fn curl(&self, args: &[&str]) -> Answer {
        curl(Some(&self.ca()), args)
    }

    /// Calls a path on the gateway's host as `user`.
    pub fn call(&self, user: &str, method: &str, path: &str, body: Option<&[u8]>) -> Answer {
        let (url, bearer) = (
            format!("{}{path}", self.base()),
            format!("Authorization: Bearer {}", self.token(user)),
        );
        let mut args = vec!["-X", method, "-H", &bearer];
        let file;
        let upload;
        if let Some(body) = body {
            file = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
            file.as_file().write_all(body).unwrap();
            upload = format!("@{}", file.path().display());
            args.extend([
                "--data-binary",
                &upload,
                "-H",
                "Content-Type: application/octet-stream",
            ]);
        }
        args.push(&url);
        self.curl(&args)
    }

    /// Calls the wrapped tool `segmentation` by its path form as `user`.
    pub fn tool(&self, user: &str, method: &str, path: &str, body: Option<&[u8]>) -> Answer {
        self.call(user, method, &format!("/{}/segmentation{path}", self.vo), body)
    }

    /// All records of the log, oldest first. Readers stop at the newest checkpoint, so this waits until one covers
    /// everything that is durable.
    pub fn records(&self) -> Vec<Value> {
        let data = self.data();
        until("a checkpoint over all records", || {
            let report = self.verify().ok().json()["report"].clone();
            (report["records"] == report["signed"]).then_some(())
        });
        let ran = run_in(
            self.dir.path(),
            &[
                "audit",
                "tail",
                "--data",
                data.to_str().unwrap(),
                "--all",
                "--json",
            ],
        )
        .ok();
        ran.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A number out of the store, which the gateway tells nobody.
    pub fn stored(&self, query: &str) -> i64 {
        let said = self.read_store(&format!("print(store.execute({query:?}).fetchone()[0])"));
        said.trim().parse().unwrap_or_else(|_| panic!("{query}: {said}"))
    }

    /// A text out of the store.
    pub fn stored_text(&self, query: &str) -> String {
        let said = self.read_store(&format!("print(store.execute({query:?}).fetchone()[0])"));
        said.trim().to_owned()
    }

    /// The events of one request, as (name, body).
    pub fn events_of(&self, request: &str) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        for record in self.records() {
            for (name, event) in record["event"].as_object().unwrap() {
                if event["request"] == request {
                    events.push((name.clone(), event.clone()));
                }
            }
        }
        events
    }

    /// Verifies the log with the program's own verifier.
    pub fn verify(&self) -> Ran {
        self.verified(&[])
    }

    /// Verifies the log, and that it continues what a checkpoint in a file vouches for.
    pub fn verify_against(&self, checkpoint: &Path) -> Ran {
        self.verified(&["--checkpoint", checkpoint.to_str().unwrap()])
    }

    fn verified(&self, more: &[&str]) -> Ran {
        let data = self.data();
        let words = ["audit", "verify", "--data", data.to_str().unwrap(), "--json"];
        run_in(self.dir.path(), &[&words, more].concat())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for mut child in self.gateway.take().into_iter().chain(self.tools.drain(..)) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the gateway printed:\n{}", self.log());
        }
    }
}

/// Runs curl; `ca` is the authority to trust.
pub fn curl(ca: Option<&str>, args: &[&str]) -> Answer {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--include",
        "--max-time",
        "60",
        "--path-as-is",
    ]);
    if let Some(ca) = ca {
        command.args(["--cacert", ca]);
    }
    let output = command
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("curl is installed (apt-get install curl)");
    read_answer(&output.stdout)
}

/// Reads an answer with its head as it came.
pub fn read_answer(bytes: &[u8]) -> Answer {
    let mut rest = bytes;
    let (mut status, mut headers) = (0, Vec::new());
    while rest.starts_with(b"HTTP/") {
        let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") else {
            break;
        };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let mut lines = head.lines();
        status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
    }
    Answer {
        status,
        headers,
        body: rest.to_vec(),
    }
}
