//! Feature rows G and H: what the tool gets, and who was behind it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::peers::Peer;
use crate::python::{PythonTool, wrap as wrap_python};
use crate::wire::PROMPTLY;
use crate::world::{World, until};

fn image() -> Vec<u8> {
    let mut pgm = b"P5\n4 4\n255\n".to_vec();
    pgm.extend([10, 10, 200, 200].repeat(4));
    pgm
}

/// A manifest that wraps a tool with one task and one way to delegate; after its name, more lines of the table may follow.
fn manifest(world: &World, name: &str, delegation: &str) -> String {
    let file = world.dir.path().join(format!("{name}.toml"));
    let (way, more) = delegation.split_once('\n').unwrap_or((delegation, ""));
    let text = format!(
        "[tool]\nname = \"{name}\"\nupstream = \"{name}\"\ndelegation = \"{way}\"\n{more}\n\n\
         [[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Imports a certificate and its key for the VO.
pub fn import(world: &World, certificate: &str, key: &str) -> crate::world::Ran {
    let files = ["--certificate", certificate, "--key", key];
    world.cli(
        "admin",
        &[&["vo", "certificate", "import", "imense"][..], &files].concat(),
    )
}

/// Wraps a tool with one task, which scientists may use.
fn wrap(world: &World, name: &str, delegation: &str, url: &str, more: &[&str]) {
    let file = manifest(world, name, delegation);
    let allow = [&["upstream", "allow", "imense", name, url][..], more].concat();
    for args in [
        &allow[..],
        &["tool", "add", "imense", &file],
        &["grant", "add", "imense", "scientist", name, "look"],
    ] {
        world.cli("admin", args).ok();
    }
}

/// Wraps a tool that keeps the credential it was given; gives it and the folder.
pub fn keeper(world: &World, name: &str, delegation: &str) -> (HeaderTool, PathBuf) {
    let kept = world.dir.path().join("kept");
    fs::create_dir_all(&kept).unwrap();
    let tool = HeaderTool::start(&kept);
    wrap(world, name, delegation, &tool.url(), &[]);
    (tool, kept)
}

/// 32 secret bytes of the private key in a PEM file (PKCS #8, RFC 5958): an EC key itself (RFC 5915), or the inside of the
/// first prime of an RSA key of 2048 bits (RFC 8017 appendix A.1.2).
pub fn private_key(pem: &str) -> Vec<u8> {
    let (_, rest) = pem
        .split_once("-----BEGIN PRIVATE KEY-----")
        .expect("a private key");
    let (body, _) = rest.split_once("-----END").unwrap();
    let body: String = body.split_whitespace().collect();
    let der = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
    let find = |bytes: &[u8]| der.windows(bytes.len()).position(|part| part == bytes);
    if let Some(at) = find(&[2, 1, 1, 4, 32]) {
        return der[at + 5..at + 37].to_vec();
    }
    // The public exponent 65537, the private one of at most 256 bytes, then the prime of 128.
    let exponent = find(&[2, 3, 1, 0, 1, 2, 0x82]).expect("an RSA key") + 5;
    let length = usize::from(u16::from_be_bytes([der[exponent + 2], der[exponent + 3]]));
    let prime = exponent + 4 + length;
    assert_eq!(der[prime..prime + 2], [2, 0x81], "the first prime");
    der[prime + 30..prime + 62].to_vec()
}

/// Where bytes stand in the data folder, in a dump of the store or in what the gateway printed: as they are, in hexadecimal digits, or in base64.
pub fn finds(world: &World, bytes: &[u8]) -> Vec<String> {
    fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => files(&path, found),
                // The administration socket holds nothing.
                path if !path.is_file() => {}
                path => {
                    let mut bytes = fs::read(&path).unwrap();
                    // Segments of the log are made in advance, of zeros.
                    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
                    found.push((path.display().to_string(), bytes));
                }
            }
        }
    }
    let mut places = vec![
        ("the dump".to_owned(), world.dump().into_bytes()),
        ("the log lines".to_owned(), world.log().into_bytes()),
    ];
    files(&world.data(), &mut places);
    let mut forms = vec![
        bytes.to_vec(),
        data_encoding::HEXLOWER.encode(bytes).into_bytes(),
        data_encoding::HEXUPPER.encode(bytes).into_bytes(),
    ];
    // Base64 from each of the three places in which they may begin, without what their neighbours change.
    for shift in 0..3 {
        let text = data_encoding::BASE64_NOPAD.encode(&[&vec![0; shift], bytes].concat());
        forms.push(text.as_bytes()[4 * shift.min(1)..text.len() - 4].to_vec());
    }
    let holds = |text: &[u8]| {
        let one_line: Vec<u8> = text
            .iter()
            .copied()
            .filter(|byte| !b"\r\n".contains(byte))
            .collect();
        let stands = |form: &Vec<u8>| {
            let is_there = |text: &[u8]| text.windows(form.len()).any(|part| part == form);
            is_there(text) || is_there(&one_line)
        };
        forms.iter().any(stands)
    };
    places.retain(|(_, text)| holds(text));
    places.into_iter().map(|(place, _)| place).collect()
}

/// Submits a job and gives what the tool saw of the proxy.
fn called_with(world: &World, user: &str) -> serde_json::Value {
    let answer = world.tool(user, "POST", "/jobs", Some(&image())).expect(201);
    answer.json()["called_with"].clone()
}

#[test]
fn g1_the_vo_key_is_unreadable_in_a_dump_of_the_store_and_in_the_data_folder() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let (certificate, key) = openssl_key(&world, "imported", &[]);
    import(&world, &certificate, &key).ok();
    // It is in use: a proxy was signed with it.
    let _keeper = keeper(&world, "keeper", "pem");
    world.call("john", "GET", "/imense/keeper/look", None).expect(200);
    let secret = private_key(&fs::read_to_string(&key).unwrap());
    assert_eq!(finds(&world, &secret), [""; 0]);
    // What is no secret would be found in the same way.
    let certificate = fs::read_to_string(&certificate).unwrap();
    let body: String = certificate
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let der = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
    assert!(finds(&world, &der[20..60]).contains(&"the dump".to_owned()));
}

/// A P-256 certificate and key made by openssl; gives their files.
pub fn openssl_key(world: &World, name: &str, extra: &[&str]) -> (String, String) {
    let path = |suffix: &str| {
        world
            .dir
            .path()
            .join(format!("{name}.{suffix}"))
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (certificate, key) = (path("pem"), path("key"));
    let mut args = vec![
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/O=Test/CN=VO imense",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "keyUsage=critical,digitalSignature",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    args.extend(extra);
    let output = Command::new("openssl")
        .args(&args)
        .output()
        .expect("openssl runs (apt-get install openssl)");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (certificate, key)
}

#[test]
fn g2_openssl_accepts_a_minted_proxy_and_two_people_get_different_keys() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let (certificate, key) = openssl_key(&world, "vo", &[]);
    import(&world, &certificate, &key).ok();
    // A tool of our own that keeps the header it got, so that openssl can judge the very file.
    let (_tool, kept) = keeper(&world, "keeper", "pem");
    let mut keys = Vec::new();
    for user in ["john", "mary"] {
        world.call(user, "GET", "/imense/keeper/look", None).expect(200);
        let pem = fs::read_to_string(kept.join("proxy.pem")).unwrap();
        let file = kept.join(format!("{user}.pem"));
        fs::write(&file, &pem).unwrap();
        let verify = Command::new("openssl")
            .args([
                "verify",
                "-allow_proxy_certs",
                "-partial_chain",
                "-CAfile",
                &certificate,
            ])
            .arg("-untrusted")
            .arg(&certificate)
            .arg(&file)
            .output()
            .unwrap();
        assert!(
            verify.status.success(),
            "{}{}",
            String::from_utf8_lossy(&verify.stdout),
            String::from_utf8_lossy(&verify.stderr)
        );
        let public = Command::new("openssl")
            .args(["x509", "-noout", "-pubkey", "-in"])
            .arg(&file)
            .output()
            .unwrap();
        keys.push(String::from_utf8(public.stdout).unwrap());
    }
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn g4_only_the_public_half_of_a_proxy_is_kept() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let (_tool, kept) = keeper(&world, "keeper", "pem");
    world.call("john", "GET", "/imense/keeper/look", None).expect(200);
    let pem = kept.join("proxy.pem");
    let secret = private_key(&fs::read_to_string(&pem).unwrap());
    let spki = Command::new("sh")
        .args([
            "-c",
            "openssl x509 -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary",
        ])
        .stdin(fs::File::open(&pem).unwrap())
        .output()
        .unwrap()
        .stdout;
    assert_eq!(spki.len(), 32);
    let check = |world: &World| {
        assert_eq!(finds(world, &secret), [""; 0], "the private half was kept");
        assert!(finds(world, &spki).contains(&"the dump".to_owned()));
    };
    until("the public half to be kept", || {
        (!finds(&world, &spki).is_empty()).then_some(())
    });
    check(&world);
    world.stop();
    check(&world);
}

#[test]
fn a_tools_log_a_request_and_a_trace_name_the_same_proxy() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let answer = world.tool("john", "POST", "/jobs", Some(&image())).expect(201);
    let seen = answer.json()["called_with"].clone();
    let serial = seen["serial"].as_str().expect("the tool saw a serial").to_owned();
    // The tool's own log names the request, and the request names the proxy.
    let intent = world
        .events_of(&answer.request_id())
        .into_iter()
        .find(|(name, _)| name == "intent")
        .unwrap()
        .1;
    assert_eq!(intent["delegation"]["serial"], serial.as_str());
    let tool_log = fs::read_to_string(world.dir.path().join("seen")).unwrap();
    assert!(tool_log.contains(&answer.request_id()), "{tool_log}");
    // A provider shows the serial and learns who it was; the trace itself is on record.
    let traced = world.cli_json("admin", &["trace", &serial, "--vo", "imense"]);
    let text = traced.to_string();
    assert!(text.contains("\"john\""), "{text}");
    assert!(
        text.contains(&answer.request_id()),
        "the requests it was used for: {text}"
    );
    let recorded = world
        .records()
        .into_iter()
        .find(|record| record["event"]["trace"]["query"].as_str().is_some());
    assert!(recorded.is_some(), "the trace is on record");
}

#[test]
fn the_client_certificate_of_a_mutual_tls_tool_is_each_persons_own_also_when_it_resumes_sessions() {
    for version in ["1.2", "1.3"] {
        let mut world = World::start();
        world
            .admin()
            .person("john", &["scientist"])
            .person("mary", &["scientist"]);
        let peer = Peer::start("mtls");
        let (certificate, key) = (peer.env("VO_CERTIFICATE"), peer.env("VO_KEY"));
        import(&world, certificate, key).ok();
        let port = peer.env(if version == "1.2" { "TLS12_PORT" } else { "PORT" });
        let url = format!("https://{}:{port}", peer.env("HOST"));
        wrap(
            &world,
            "grid",
            "client-certificate",
            &url,
            &["--ca", peer.env("CA")],
        );
        let mut subjects = Vec::new();
        for user in ["john", "mary", "john", "mary"] {
            let answer = world.call(user, "GET", "/imense/grid/look", None).expect(200);
            subjects.push(answer.json()["chain"][0]["serial"].to_string());
        }
        assert_eq!(subjects[0], subjects[2], "one proxy per session and tool");
        assert_eq!(subjects[1], subjects[3]);
        assert_ne!(
            subjects[0], subjects[1],
            "TLS {version}: an identity leaked from one person to another"
        );
        world.stop();
    }
}

#[test]
fn an_assertion_is_signed_for_its_tool_and_verifies_with_the_published_keys() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let (_tool, kept) = keeper(&world, "modern", "assertion");
    let answer = world.call("john", "GET", "/imense/modern/look", None).expect(200);
    let jwt = fs::read_to_string(kept.join("x-countersign-assertion")).unwrap();
    let jwks = world
        .curl(&[&format!("{}/.countersign/jwks.json", world.base())])
        .expect(200)
        .json();
    let header = jsonwebtoken::decode_header(&jwt).unwrap();
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks).unwrap();
    let key =
        jsonwebtoken::DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).expect("the key is published"))
            .unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.validate_aud = false;
    let claims = jsonwebtoken::decode::<serde_json::Value>(&jwt, &key, &validation)
        .unwrap()
        .claims;
    assert!(claims["aud"].to_string().contains("modern"), "{claims}");
    assert_eq!(claims["jti"], answer.request_id());
    assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 60);
    world.stop();
}

#[test]
fn bad_vo_certificates_are_refused_with_the_field_and_change_nothing() {
    let world = World::start();
    world.admin();
    let good = openssl_key(&world, "good", &[]);
    let other = openssl_key(&world, "other", &[]);
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let rsa = world.dir.path().join("rsa");
    let path = |name: &str| rsa.with_extension(name).to_str().unwrap().to_owned();
    let openssl = |args: &[&str]| {
        assert!(
            Command::new("openssl")
                .args(args)
                .output()
                .unwrap()
                .status
                .success()
        )
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:1024",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=weak",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        &path("key"),
        "-out",
        &path("pem"),
    ]);
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=ca",
        "-keyout",
        &path("cakey"),
        "-out",
        &path("capem"),
    ]);
    let before = world.cli_json("admin", &["vo", "certificate", "list", "imense"]);
    for (certificate, key, what) in [
        (&good.0, &other.1, "key"),
        (&path("pem"), &path("key"), "2048"),
        (&path("capem"), &path("cakey"), "CA"),
        (&good.1, &good.1, "certificate"),
        (&"/nonexistent/vo.pem".to_owned(), &good.1, "/nonexistent/vo.pem"),
    ] {
        let ran = import(&world, certificate, key);
        assert_ne!(ran.code, 0, "{what}");
        assert!(ran.stderr.contains(what), "`{what}` in {}", ran.stderr);
    }
    assert_eq!(
        world.cli_json("admin", &["vo", "certificate", "list", "imense"]),
        before
    );
    assert!(fs::metadata(fixtures).is_ok());
}

/// A tool in a few lines of Python that keeps the delegated credential it was given.
pub struct HeaderTool {
    child: std::process::Child,
    port: u16,
}

impl HeaderTool {
    pub fn start(kept: &std::path::Path) -> Self {
        const PROGRAM: &str = r#"
import base64, http.server, pathlib, sys
kept = pathlib.Path(sys.argv[1])
class Tool(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_GET(self):
        for name, value in self.headers.items():
            (kept / name.lower()).write_text(value)
        if self.headers.get("X-Countersign-Proxy"):
            (kept / "proxy.pem").write_bytes(base64.b64decode(self.headers["X-Countersign-Proxy"]))
        body = b"{}"
        self.send_response(200); self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tool)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;
        use std::io::BufRead;
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM])
            .arg(kept)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 runs (apt-get install python3)");
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            port: line.trim().parse().unwrap(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for HeaderTool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the proxy where it is told to, and notes it with its mode. `/look` answers, `/act` never does.
const READER: &str = r#"
import http.server, json, os, sys, threading
class Tool(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def note(self):
        path = self.headers["X-Countersign-Proxy-File"]
        with open(path) as file, open(sys.argv[1], "a") as kept:
            print(json.dumps({"file": path, "pem": file.read(), "mode": os.fstat(file.fileno()).st_mode & 0o7777,
                              "proxy": self.headers["X-Countersign-Proxy"]}), file=kept, flush=True)
    def do_GET(self):
        self.note()
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"{}")
    def do_POST(self):
        self.note()
        threading.Event().wait()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tool)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

#[test]
fn a_proxy_as_a_file_is_there_for_its_request_and_gone_after_it_also_when_the_gateway_is_killed() {
    let spool = tempfile::tempdir().unwrap();
    let folder = fs::canonicalize(spool.path()).unwrap();
    let files = || fs::read_dir(&folder).unwrap().count();
    fs::create_dir(folder.join("others")).unwrap();
    for closed in [&folder, &folder.join("others")] {
        fs::set_permissions(closed, fs::Permissions::from_mode(0o711)).unwrap();
    }
    let folders = format!(
        "[[delegation.spool]]\nname = \"grid\"\nfolder = \"{0}\"\n\
         [[delegation.spool]]\nname = \"others\"\nfolder = \"{0}/others\"\nvos = [\"lab\"]\n",
        folder.display()
    );
    let mut world = World::with_settings(&folders);
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::running(READER, &world.dir.path().join("kept.jsonl"));
    wrap_python(
        &world,
        "reader",
        &tool.url(),
        "pem\"\nkey = \"p256\"\nspool = \"grid",
    );

    let answer = world.call("john", "GET", "/imense/reader/look", None).expect(200);
    let seen = &tool.seen()[0];
    let path = PathBuf::from(seen["file"].as_str().unwrap());
    assert_eq!(path.parent(), Some(folder.as_path()));
    assert_eq!(seen["mode"], 0o600);
    assert!(seen["proxy"].is_null(), "the key is in no header: {seen}");
    until("the file to go", || (files() == 1).then_some(()));
    let pem = seen["pem"].as_str().unwrap();
    assert_eq!(finds(&world, &private_key(pem)), [""; 0]);
    let intent = world.events_of(&answer.request_id()).remove(0).1;
    assert_eq!(intent["delegation"]["way"], "spool");
    let traced = world.cli_json("admin", &["trace", &found(&intent, "serial"), "--vo", "imense"]);
    assert!(traced.to_string().contains("\"john\""), "{traced}");

    // What the settings do not allow is refused, and said when the tool is registered.
    for (name, spool, url, said) in [
        ("stranger", "others", tool.url(), "no spool folder `others` for"),
        ("unknown", "tmp", tool.url(), "no spool folder `tmp` for"),
        ("far", "grid", "http://192.0.2.1:80".to_owned(), "another machine"),
    ] {
        let file = manifest(&world, name, &format!("pem\nkey = \"p256\"\nspool = \"{spool}\""));
        world
            .cli("admin", &["upstream", "allow", "imense", name, &url])
            .ok();
        let added = world.cli("admin", &["tool", "add", "imense", &file]).ok();
        assert!(added.stderr.contains(said), "{}{}", added.stdout, added.stderr);
        world
            .cli("admin", &["grant", "add", "imense", "scientist", name, "look"])
            .ok();
        let refused = world.call("john", "GET", &format!("/imense/{name}/look"), None);
        assert_eq!(refused.problem(), "delegation_failed", "{}", refused.text());
        assert!(refused.text().contains(said), "{}", refused.text());
    }
    assert_eq!(tool.seen().len(), 1);

    let port = world.port();
    let bearer = format!("Authorization: Bearer {}", world.token("john"));
    // A request whose proxy is revoked: the file does not wait for what the tool does.
    let client = Command::new("curl")
        .args(["-s", "--cacert", &world.ca(), "-X", "POST", "-H", &bearer])
        .arg(format!("https://gw.localhost:{port}/imense/reader/act"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl runs (apt-get install curl)");
    until("the tool to have its file", || {
        (tool.seen().len() == 2).then_some(())
    });
    assert_eq!(files(), 2);
    world.cli("john", &["proxy", "revoke", "--all"]).ok();
    let revoked = Instant::now();
    until("the file to go", || (files() == 1).then_some(()));
    assert!(revoked.elapsed() < PROMPTLY, "{:?}", revoked.elapsed());
    let told = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
    assert!(told.contains("was revoked meanwhile"), "{told}");

    // A request that the gateway does not outlive.
    let mut client = Command::new("curl")
        .args(["-s", "--cacert", &world.ca(), "-X", "POST", "-H", &bearer])
        .arg(format!("https://gw.localhost:{port}/imense/reader/act"))
        .spawn()
        .expect("curl runs (apt-get install curl)");
    until("the tool to have its file", || {
        (tool.seen().len() == 3).then_some(())
    });
    assert_eq!(files(), 2);
    world.kill();
    assert_eq!(files(), 2);
    world.serve();
    assert_eq!(files(), 1, "what was left is removed before anybody is served");
    client.wait().unwrap();

    let port = world.port();
    // The same, and the folder has left the settings when it starts again.
    let mut client = Command::new("curl")
        .args(["-s", "--cacert", &world.ca(), "-X", "POST", "-H", &bearer])
        .arg(format!("https://gw.localhost:{port}/imense/reader/act"))
        .spawn()
        .expect("curl runs (apt-get install curl)");
    until("the tool to have its file", || {
        (tool.seen().len() == 4).then_some(())
    });
    world.kill();
    assert_eq!(files(), 2);
    let settings = world.data().join("countersign.toml");
    let text = fs::read_to_string(&settings).unwrap();
    assert!(text.contains(&folders));
    fs::write(&settings, text.replace(&folders, "")).unwrap();
    world.serve();
    assert_eq!(files(), 1, "a folder that left the settings is not forgotten");
    client.wait().unwrap();
}

#[test]
fn a_tool_with_a_proxy_shows_whose_it_is() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let seen = called_with(&world, "john");
    assert!(seen["subject"].as_str().unwrap().contains("CN="), "{seen}");
    assert!(seen["serial"].as_str().is_some());
}

/// The first text of this name, wherever it stands in a document.
fn found(document: &serde_json::Value, name: &str) -> String {
    fn look<'a>(value: &'a serde_json::Value, name: &str) -> Option<&'a str> {
        match value {
            serde_json::Value::Object(members) => members
                .get(name)
                .and_then(serde_json::Value::as_str)
                .or_else(|| members.values().find_map(|value| look(value, name))),
            serde_json::Value::Array(values) => values.iter().find_map(|value| look(value, name)),
            _ => None,
        }
    }
    look(document, name)
        .unwrap_or_else(|| panic!("no `{name}` in {document}"))
        .to_owned()
}

#[test]
fn h1_a_provider_shows_the_certificate_and_learns_person_session_task_and_times() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let (_tool, kept) = keeper(&world, "keeper", "pem");
    world.call("mary", "GET", "/imense/keeper/look", None).expect(200);
    let answer = world.call("john", "GET", "/imense/keeper/look", None).expect(200);
    // The whole PEM file, then the certificate's and the public key's SHA-256, as a provider would find them.
    let pem = kept.join("proxy.pem").to_str().unwrap().to_owned();
    let openssl = |args: &str| {
        let line = format!("openssl x509 -in {pem} {args}");
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .split_whitespace()
            .last()
            .unwrap()
            .to_owned()
    };
    let certificate = openssl("-outform DER | sha256sum | cut -d' ' -f1");
    let spki = openssl("-noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1");
    let session = {
        let events = world.events_of(&answer.request_id());
        let intent = &events.iter().find(|(name, _)| name == "intent").unwrap().1;
        intent["subject"]["session"].as_str().unwrap().to_owned()
    };
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let times = ["-startdate", "-enddate"].map(|which| {
        let shown = openssl(&format!("-noout {which} -dateopt iso_8601 | tr ' ' T"));
        digits(&shown)
    });
    for query in [pem.as_str(), certificate.as_str(), spki.as_str()] {
        let traced = world.cli_json("admin", &["trace", query, "--vo", "imense"]);
        let of = |name: &str| digits(&found(&traced, name)).chars().take(14).collect::<String>();
        assert_eq!([of("not_before"), of("not_after")], times, "{query}: {traced}");
        assert_eq!(found(&traced, "session"), session, "{query}: {traced}");
        let traced = traced.to_string();
        assert!(
            traced.contains("\"john\"") && !traced.contains("\"mary\""),
            "{query}: {traced}"
        );
        assert!(
            traced.contains(&answer.request_id()) && traced.contains("\"look\""),
            "{query}: {traced}"
        );
    }
    let traces = world
        .records()
        .iter()
        .filter(|record| record["event"].get("trace").is_some())
        .count();
    assert_eq!(traces, 3, "every trace is on record");
    // Somebody who may not ask is refused.
    assert_eq!(
        world.cli("john", &["trace", &certificate, "--vo", "imense"]).code,
        3
    );
}

#[test]
fn h4_the_id_in_a_providers_log_gives_one_request_with_its_proxy() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let seen = world.segmentation();
    let answer = world.tool("john", "POST", "/jobs", Some(&image())).expect(201);
    let log = fs::read_to_string(seen).unwrap();
    let id = log.lines().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(id, answer.request_id());
    let intents: Vec<_> = world
        .events_of(&id)
        .into_iter()
        .filter(|(name, _)| name == "intent")
        .collect();
    assert_eq!(intents.len(), 1);
    assert_eq!(
        intents[0].1["delegation"]["serial"],
        answer.json()["called_with"]["serial"]
    );
}
