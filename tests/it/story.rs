//! Feature rows M: what people do from the first command on, with the program as it is and `curl`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::python::{PythonTool, wrap};
use crate::world::{COUNTERSIGN, PASSWORD, World, run_in, until};

fn file(world: &World, name: &str, text: &str) -> String {
    let path = world.dir.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A VO certificate of this organisation; gives its files.
fn certificate(world: &World, organisation: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut form = rcgen::CertificateParams::default();
    form.distinguished_name = rcgen::DistinguishedName::new();
    form.distinguished_name
        .push(rcgen::DnType::OrganizationName, organisation);
    form.distinguished_name.push(rcgen::DnType::CommonName, "VO");
    form.is_ca = rcgen::IsCa::ExplicitNoCa;
    form.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let made = form.self_signed(&key).unwrap();
    (
        file(world, &format!("{organisation}.pem"), &made.pem()),
        file(world, &format!("{organisation}.key"), &key.serialize_pem()),
    )
}

const ONE_TASK: &str = "[tool]\nname = \"bench\"\nupstream = \"bench\"\ndelegation = \"pem\"\n\n\
    [[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n";

#[test]
fn m1_from_empty_to_a_first_proxied_request_in_at_most_ten_commands() {
    // Each line that a person types is one of these.
    let mut commands = 0;
    let mut typed = || commands += 1;
    typed(); // countersign init
    let mut world = World::initialised();
    let tool = PythonTool::start(world.dir.path());
    let manifest = file(&world, "bench.toml", ONE_TASK);
    typed(); // countersign serve
    world.serve();
    typed(); // countersign login
    world.admin();
    let mut cli = |args: &[&str]| {
        typed();
        world.cli_json("admin", args)
    };
    cli(&["upstream", "allow", "imense", "bench", &tool.url()]);
    cli(&["tool", "add", "imense", &manifest]);
    cli(&["grant", "add", "imense", "scientist", "bench", "look"]);
    let begun = Instant::now();
    let added = cli(&[
        "user",
        "add",
        "imense",
        "john",
        "--role",
        "scientist",
        "--show-password",
    ]);
    typed(); // countersign login
    world
        .login("john", added["one_time_password"].as_str().unwrap())
        .ok();
    typed(); // curl
    let answer = world.call("john", "GET", "/imense/bench/look", None).expect(200);
    assert_eq!(answer.json()["path"], "/look");
    assert!(commands <= 10, "{commands} commands");
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "a new user works within a minute"
    );
    // It was proxied indeed: with a credential for John, under the id of this request, and on record.
    let seen = tool.seen().pop().unwrap().to_string().to_ascii_lowercase();
    assert!(
        seen.contains("x-countersign-proxy") && seen.contains(&answer.request_id()),
        "{seen}"
    );
    let events = world.events_of(&answer.request_id());
    assert!(events.iter().any(|(name, _)| name == "mint") && events.iter().any(|(name, _)| name == "intent"));
}

#[test]
fn m2_the_seven_administrative_steps_by_command_line() {
    let world = World::start();
    world.admin();
    let tool = PythonTool::start(world.dir.path());
    let manifest = file(&world, "bench.toml", ONE_TASK);
    let (pem, key) = certificate(&world, "Second");
    let cli = |args: &[&str]| world.cli_json("admin", args);
    cli(&["vo", "create", "second", "--admin", "admin"]);
    cli(&[
        "vo",
        "certificate",
        "import",
        "second",
        "--certificate",
        &pem,
        "--key",
        &key,
    ]);
    cli(&["user", "add", "second", "eve", "--show-password"]);
    let reset = cli(&["user", "reset-password", "second", "eve"]);
    cli(&["role", "create", "second", "clinician"]);
    cli(&["upstream", "allow", "second", "bench", &tool.url()]);
    cli(&["tool", "add", "second", &manifest]);
    cli(&["grant", "add", "second", "clinician", "bench", "look"]);
    world
        .login("eve", reset["one_time_password"].as_str().unwrap())
        .ok();
    let look = || world.call("eve", "GET", "/second/bench/look", None);
    assert_eq!(look().expect(403).problem(), "no_grant");
    cli(&["role", "assign", "second", "clinician", "eve"]);
    look().expect(200);
    // What was done can be looked at, and stands in the log.
    for (args, shows) in [
        (&["vo", "list"][..], "second"),
        (&["vo", "certificate", "list", "second"], "Second"),
        (&["user", "list", "second"], "eve"),
        (&["role", "list", "second"], "clinician"),
        (&["grant", "list", "second"], "look"),
        (&["user", "show", "second", "eve"], "clinician"),
    ] {
        let shown = cli(args).to_string();
        assert!(shown.contains(shows), "{args:?}: {shown}");
    }
    let records = world.records();
    for action in [
        "vo.create",
        "user.add",
        "user.reset_password",
        "role.create",
        "grant.add",
        "role.assign",
    ] {
        let changes = records.iter().map(|record| &record["event"]["change"]["change"]);
        assert!(
            changes.clone().any(|change| change["action"] == action),
            "{action} is not on record"
        );
    }
    let imports = records.iter().map(|record| &record["event"]["change"]["change"]);
    assert!(imports.clone().any(|change| {
        change["kind"]
            .as_str()
            .is_some_and(|kind| kind.contains("certificate"))
    }));
}

#[test]
fn m3_a_second_vo_stands_by_itself_and_the_wrong_vo_is_a_403() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    let manifest = file(&world, "bench.toml", ONE_TASK);
    let cli = |args: &[&str]| world.cli_json("admin", args);
    cli(&["vo", "create", "second", "--admin", "admin"]);
    for vo in ["imense", "second"] {
        let (pem, key) = certificate(&world, vo);
        cli(&[
            "vo",
            "certificate",
            "import",
            vo,
            "--certificate",
            &pem,
            "--key",
            &key,
        ]);
        cli(&["upstream", "allow", vo, "bench", &tool.url()]);
        cli(&["tool", "add", vo, &manifest]);
        cli(&["grant", "add", vo, "scientist", "bench", "look"]);
    }
    let added = cli(&["user", "add", "second", "eve", "--show-password"]);
    world
        .login("eve", added["one_time_password"].as_str().unwrap())
        .ok();
    let look = |user: &str, vo: &str| world.call(user, "GET", &format!("/{vo}/bench/look"), None);
    // Each is called with a proxy of the VO that was asked.
    for (user, vo) in [("john", "imense"), ("eve", "second")] {
        let answer = look(user, vo).expect(200);
        let events = world.events_of(&answer.request_id());
        let mint = &events.iter().find(|(name, _)| name == "mint").unwrap().1;
        let traced = world
            .cli_json("admin", &["trace", mint["serial"].as_str().unwrap(), "--vo", vo])
            .to_string();
        assert!(
            traced.contains(&format!("O={vo}")) && traced.contains(&format!("\"{user}\"")),
            "{traced}"
        );
    }
    let seen = tool.seen().len();
    for (user, vo) in [("john", "second"), ("eve", "imense"), ("john", "nowhere")] {
        let answer = look(user, vo).expect(403);
        assert_eq!(answer.problem(), "not_a_member", "{user} {vo}");
    }
    assert_eq!(tool.seen().len(), seen);
    // Who belongs to both picks one by the address.
    cli(&["user", "add", "second", "john", "--existing"]);
    for vo in ["imense", "second"] {
        look("john", vo).expect(200);
    }
    // An administrator of one has nothing to say in the other.
    let added = cli(&[
        "user",
        "add",
        "second",
        "vera",
        "--role",
        "vo-administrator",
        "--show-password",
    ]);
    world
        .login("vera", added["one_time_password"].as_str().unwrap())
        .ok();
    world.cli("vera", &["role", "create", "second", "guest"]).ok();
    assert_eq!(world.cli("vera", &["role", "create", "imense", "guest"]).code, 3);
    assert_eq!(
        world
            .cli("vera", &["vo", "create", "third", "--admin", "vera"])
            .code,
        3
    );
    assert_eq!(
        world
            .cli("vera", &["upstream", "allow", "second", "other", &tool.url()])
            .code,
        3
    );
}

#[test]
fn m4_no_client_certificate_is_needed() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "bench", &tool.url(), "pem");
    for version in ["-tls1_2", "-tls1_3"] {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{}", world.port()),
                "-servername",
                "gw.localhost",
                version,
            ])
            .args(["-CAfile", &world.ca(), "-verify_return_error"])
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs (apt-get install openssl)");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("Verify return code: 0"), "{said}");
        assert!(said.contains("No client certificate CA names sent"), "{said}");
        assert!(
            !said.contains("Requested Signature Algorithms"),
            "a certificate is asked for: {said}"
        );
    }
    // User name and password are all that the browser's way and the program's way take.
    let origin = format!("Origin: {}", world.base());
    let password = format!("password={PASSWORD}");
    let form = [
        "-H",
        &origin,
        "--data",
        "username=john",
        "--data-urlencode",
        &password,
    ];
    let login = format!("{}/login", world.base());
    world.curl(&[&form[..], &[&login]].concat()).expect(303);
    world.call("john", "GET", "/imense/bench/look", None).expect(200);
    assert!(
        tool.seen()
            .pop()
            .unwrap()
            .to_string()
            .to_ascii_lowercase()
            .contains("x-countersign-proxy")
    );
}

/// A tool that nobody has heard of: notes without users, which anybody can read and remove.
const NOTES: &str = r#"
import http.server, json, sys
notes = {}
class Notes(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def say(self, status, value, more=()):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, content in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *more):
            self.send_header(name, content)
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        number = str(len(notes) + 1)
        notes[number] = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.say(201, {"note": number})
    def do_GET(self):
        if self.path == "/notes":
            return self.say(200, [{"note": number, "text": text} for number, text in notes.items()])
        number = self.path.split("/")[2]
        self.say(200 if number in notes else 404, {"text": notes.get(number)})
    def do_DELETE(self):
        self.say(200, {"gone": notes.pop(self.path.split("/")[2])})
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Notes)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

const NOTES_MANIFEST: &str = r#"
[tool]
name = "notes"
upstream = "notes"
delegation = "none"

[[task]]
name = "write"
match = ["POST /notes"]
kind = "create"
creates = { type = "note", id = "/note", status = [201], owner = "subject" }

[[task]]
name = "list"
match = ["GET /notes"]
kind = "read"
filter = { type = "note", items = "", id = "/note" }

[[task]]
name = "read"
match = ["GET /notes/{note:int}"]
kind = "read"
resource = { type = "note", id = "{note}" }

[[task]]
name = "tear up"
match = ["DELETE /notes/{note:int}"]
kind = "delete"
resource = { type = "note", id = "{note}" }
deletes = true
"#;

#[test]
fn m6_a_tool_is_wrapped_by_a_manifest_alone() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let tool = PythonTool::running(NOTES, &world.dir.path().join("unused"));
    let manifest = file(&world, "notes.toml", NOTES_MANIFEST);
    world
        .cli("admin", &["upstream", "allow", "imense", "notes", &tool.url()])
        .ok();
    world.cli("admin", &["tool", "add", "imense", &manifest]).ok();
    let grant = |tasks: &[&str]| {
        let args = [&["grant", "add", "imense", "scientist", "notes"][..], tasks].concat();
        world.cli("admin", &args).ok();
    };
    grant(&["write"]);
    grant(&["list", "read", "tear up", "--when", "own"]);
    let call = |user: &str, method: &str, path: &str, body: Option<&[u8]>| {
        world.call(user, method, &format!("/imense/notes{path}"), body)
    };
    for user in ["john", "mary"] {
        let written = call(user, "POST", "/notes", Some(user.as_bytes())).expect(201);
        assert_eq!(written.json()["note"], if user == "john" { "1" } else { "2" });
    }
    for (user, own, other) in [("john", 1, 2), ("mary", 2, 1)] {
        let list = call(user, "GET", "/notes", None).expect(200).json();
        assert_eq!(
            list,
            serde_json::json!([{ "note": own.to_string(), "text": user }])
        );
        call(user, "GET", &format!("/notes/{own}"), None).expect(200);
        assert_eq!(
            call(user, "GET", &format!("/notes/{other}"), None)
                .expect(403)
                .problem(),
            "not_owner"
        );
        assert_eq!(
            call(user, "DELETE", &format!("/notes/{other}"), None)
                .expect(403)
                .problem(),
            "not_owner"
        );
    }
    call("john", "DELETE", "/notes/1", None).expect(200);
    assert_eq!(
        call("john", "GET", "/notes", None).expect(200).json(),
        serde_json::json!([])
    );
}

/// One line of a transcript with everything that differs from run to run replaced by a word.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut token = String::new();
    let mut after_password = false;
    for c in line.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '_') {
            token.push(c);
            continue;
        }
        let word = plain_token(&token);
        plain.push_str(if after_password && !token.is_empty() {
            "PASSWORD"
        } else {
            &word
        });
        after_password = plain.ends_with("anna, one-time password");
        token.clear();
        plain.push(c);
    }
    let indent = line.len() - line.trim_start().len();
    let mut words: Vec<&str> = plain.split_whitespace().collect();
    // The place of a record in the log.
    if let ["TIME", place, ..] = words.as_mut_slice()
        && place.bytes().all(|b| b.is_ascii_digit())
    {
        *place = "N";
    }
    let text = " ".repeat(indent) + &words.join(" ");
    let told = text.trim_start();
    // How often the story asked whether the job is done, and what that makes of the log, is not part of it.
    for counted in ["Records", "Checkpoints", "Segments", "Used for"] {
        if told.starts_with(counted) {
            return format!("{}{counted} N", " ".repeat(indent));
        }
    }
    if told.starts_with("A throw-away gateway in QS=") {
        return "A throw-away gateway in QS=DIR".into();
    }
    text.trim_end().to_owned()
}

fn plain_token(token: &str) -> String {
    let hexadecimal = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if token.len() == 36
        && token.bytes().filter(|b| *b == b'-').count() == 4
        && hexadecimal(&token.replace('-', ""))
    {
        return "ID".into();
    }
    if token.len() == 64 && hexadecimal(token) {
        return "HASH".into();
    }
    if token.len() >= 15 && digits(token) {
        return "SERIAL".into();
    }
    if token.len() >= 20 && token.starts_with("20") && token.contains('T') && token.ends_with('Z') {
        return "TIME".into();
    }
    match token.rsplit_once(':') {
        Some((host, port)) if digits(port) && host.contains('.') => format!("{host}:PORT"),
        _ => token.to_owned(),
    }
}

#[test]
fn quickstart_check_passes_and_tells_the_story_that_is_written_down() {
    let output = Command::new(COUNTERSIGN)
        .args(["quickstart", "--check"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // What is being written while the log is verified is not part of the story either.
    let steady = said
        .lines()
        .filter(|line| !line.trim_start().starts_with("Broken off "));
    let mut told: Vec<String> = steady.map(plain).collect();
    told.dedup();
    let told = told.join("\n") + "\n";
    // To look at, or to take as the new transcript when the story has changed.
    let actual = concat!(env!("CARGO_TARGET_TMPDIR"), "/quickstart.txt");
    fs::write(actual, &told).unwrap();
    let written = include_str!("quickstart.txt");
    for (number, (told, written)) in told.lines().zip(written.lines()).enumerate() {
        assert_eq!(
            told,
            written,
            "line {} of tests/it/quickstart.txt; the whole: {actual}",
            number + 1
        );
    }
    assert_eq!(told.lines().count(), written.lines().count(), "{actual}");
    // Nothing is left behind.
    let folder = said.lines().next().unwrap().rsplit('=').next().unwrap();
    until("the folder to be gone", || {
        (!std::path::Path::new(folder).exists()).then_some(())
    });
}

/// All files of the data folder with what is in them.
fn contents(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![world.data()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.display().to_string(), fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn init_refuses_to_overwrite() {
    let world = World::initialised();
    let before = contents(&world);
    let data = world.data();
    let other = world.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter"), "dear").unwrap();
    for folder in [&data, &other] {
        let folder = folder.to_str().unwrap();
        let args = [
            "init",
            "--data",
            folder,
            "--vo",
            "imense",
            "--admin",
            "admin",
            "--throwaway",
        ];
        let ran = run_in(world.dir.path(), &args);
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        assert!(ran.stderr.contains(folder), "{}", ran.stderr);
    }
    assert!(contents(&world) == before, "something in the folder has changed");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    // A key that lies outside is not overwritten either, and nothing is made beside it.
    let key = file(&world, "sealing.key", "mine");
    let third = world.dir.path().join("third");
    let args = [
        "init",
        "--data",
        third.to_str().unwrap(),
        "--admin",
        "admin",
        "--sealing-key",
        &key,
    ];
    let ran = run_in(world.dir.path(), &args);
    assert_eq!(
        (ran.code, fs::read_to_string(&key).unwrap().as_str()),
        (1, "mine"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains(&key), "{}", ran.stderr);
    assert!(!third.exists());
}

#[test]
fn init_where_nothing_can_be_made_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let data = dir.path().join("file/data");
    let ran = run_in(
        dir.path(),
        &[
            "init",
            "--data",
            data.to_str().unwrap(),
            "--admin",
            "admin",
            "--throwaway",
        ],
    );
    assert_eq!(ran.code, 1);
    let said = format!("error: `{}` cannot be made: ", data.display());
    assert!(ran.stderr.starts_with(&said), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("hint: nothing was changed;"),
        "{}",
        ran.stderr
    );
}

#[test]
fn check_config_reports_every_flaw_at_once() {
    let world = World::initialised();
    let data = world.data();
    let check = || {
        run_in(
            world.dir.path(),
            &["serve", "--data", data.to_str().unwrap(), "--check-config"],
        )
    };
    check().ok();
    let settings = data.join("countersign.toml");
    let good = fs::read_to_string(&settings).unwrap();
    let bad = good
        .replace("[audit]\n", "[audit]\nqueue = \"many\"\n")
        .replace(
            "[authenticate]\n",
            "[authenticate]\nargon2_passes = 0\nbrowser_life = \"1h\"\n",
        )
        .replace(
            "[alert]\n",
            "[alert]\ntransport = \"pigeon\"\nwindow = \"soon\"\n",
        )
        + "\n[nonsense]\na = 1\n";
    fs::write(&settings, &bad).unwrap();
    let before = contents(&world);
    let ran = check();
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    for (key, accepted) in [
        ("audit.queue", "integer"),
        ("authenticate.argon2_passes", "1"),
        ("authenticate.browser_life", "accepted here"),
        ("alert.transport", "file, smtp"),
        ("alert.window", "h"),
        ("nonsense", ""),
    ] {
        let line = ran.stderr.lines().find(|line| line.contains(key));
        let line = line.unwrap_or_else(|| panic!("`{key}` is not named: {}", ran.stderr));
        let leaf = key.rsplit('.').next().unwrap();
        let at = bad
            .lines()
            .position(|line| line.starts_with(leaf) || line == format!("[{leaf}]"))
            .unwrap()
            + 1;
        assert!(
            line.contains(accepted) && line.contains(&format!("countersign.toml:{at}:")),
            "{line}"
        );
    }
    // It does not start either, and says the same.
    let start = run_in(world.dir.path(), &["serve", "--data", data.to_str().unwrap()]);
    assert_eq!((start.code, start.stderr), (1, ran.stderr));
    assert!(contents(&world) == before);
}

#[test]
fn check_config_finds_what_a_start_would_refuse() {
    let world = World::initialised();
    let data = world.data();
    let serve = |more: &[&str]| {
        let args = [&["serve", "--data", data.to_str().unwrap()], more].concat();
        run_in(world.dir.path(), &args)
    };
    let settings = data.join("countersign.toml");
    let good = fs::read_to_string(&settings).unwrap();
    let shown = serve(&["--check-config"]).ok().stdout;
    assert!(
        shown.contains("warning: no checkpoint of the audit log leaves"),
        "{shown}"
    );
    assert!(!shown.contains("certificate in"), "{shown}");

    // An auditor takes the checkpoints away; the certificate is for another name, the sealing key is not there.
    let named = good
        .replace("name = \"gw.localhost\"", "name = \"gw.example.org\"")
        .replace("[alert]\n", "[alert]\nauditor = \"auditor@example.org\"\n")
        .replace("keys/sealing.key", "keys/elsewhere.key");
    fs::write(&settings, named).unwrap();
    let shown = serve(&["--check-config"]).ok().stdout;
    assert!(!shown.contains("no checkpoint"), "{shown}");
    assert!(shown.contains("is not for `gw.example.org`"), "{shown}");
    assert!(
        shown.contains("starts sealed") && shown.contains("keys/elsewhere.key"),
        "{shown}"
    );

    // What keeps a gateway from starting is said all at once, and a start says the same.
    let log = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
    fs::rename(data.join("log"), data.join("log-before")).unwrap();
    std::os::unix::fs::symlink(log.path(), data.join("log")).unwrap();
    fs::remove_file(data.join("tls/server.key")).unwrap();
    fs::remove_file(data.join("keys/log.key")).unwrap();
    fs::write(data.join("keys/records.key"), "short").unwrap();
    let smtp =
        "smtp = { host = \"mail.example.org\", username = \"u\", password_file = \"keys/smtp.password\" }\n";
    let broken = good
        .replace("[alert]\n", &format!("[alert]\ntransport = \"smtp\"\n{smtp}"))
        .replace("[store]\n", "[store]\nurl_file = \"store.url\"\n");
    fs::write(&settings, broken).unwrap();
    let before = contents(&world);
    let checked = serve(&["--check-config"]);
    for file in [
        "tls/server.key",
        "keys/log.key",
        "keys/records.key",
        "tmpfs",
        "keys/smtp.password",
        "store.url",
    ] {
        assert!(
            checked.stderr.contains(file),
            "`{file}` is not named: {}",
            checked.stderr
        );
    }
    let started = serve(&[]);
    assert_eq!((checked.code, started.code), (1, 1));
    assert!(started.stderr.ends_with(&checked.stderr), "{}", started.stderr);
    assert!(contents(&world) == before, "checking changes nothing");
}

#[test]
fn a_second_gateway_on_a_folder_names_the_first_one() {
    let world = World::start();
    let second = run_in(
        world.dir.path(),
        &["serve", "--data", world.data().to_str().unwrap()],
    );
    assert_eq!(second.code, 1, "{}", second.stdout);
    let first = format!("is in use by another process (process {})", world.pid());
    assert!(second.stderr.contains(&first), "{}", second.stderr);

    let taken = format!("127.0.0.1:{}", world.port());
    let other = World::initialised();
    let settings = other.data().join("countersign.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replacen("127.0.0.1:0", &taken, 1)).unwrap();
    let ran = run_in(
        other.dir.path(),
        &["serve", "--data", other.data().to_str().unwrap()],
    );
    assert!(
        ran.stderr
            .contains(&format!("cannot listen on {taken}: another program does")),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_data_folder_and_everything_in_it_are_closed_to_other_accounts() {
    use std::os::unix::fs::PermissionsExt;

    let world = World::start();
    world.admin();
    let mut folders = vec![world.data()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            }
            // The store is what holds password hashes and cards; public keys and certificates may be read.
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".db") || name.ends_with(".key") || name.ends_with("-wal") {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
                assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 4, "only {seen} files looked at");
}
