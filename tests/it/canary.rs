//! Secrets are planted wherever a client can put one, and none may come out again: not in the log's files, the index, what is
//! exported of them, mails, metrics, error pages or log lines. A harmless marker shows for each of these places that it is
//! searched.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::world::{Answer, PASSWORD, World, run_in, until};

/// What the tool gets, and keeps: a marker in a query value that its task names.
const MARKER: &str = "harmless-marker-4711";

/// The world, the secrets that were planted, and all that was answered.
struct Canary {
    world: World,
    planted: RefCell<Vec<(String, String)>>,
    /// Of these: what stands where a name belongs. A refusal quotes a name to whoever sent it, and to nobody else.
    names: RefCell<Vec<String>>,
    answered: RefCell<Vec<(String, Vec<u8>)>>,
    count: Cell<u32>,
}

impl Canary {
    fn new(world: World) -> Self {
        Self {
            world,
            planted: RefCell::default(),
            names: RefCell::default(),
            answered: RefCell::default(),
            count: Cell::new(0),
        }
    }

    /// A secret that nobody else has, to be put in this place.
    fn plant(&self, place: &str) -> String {
        self.count.set(self.count.get() + 1);
        let secret = format!("canary{:03}q7Zx9Kw2Lm", self.count.get());
        self.planted.borrow_mut().push((place.to_owned(), secret.clone()));
        secret
    }

    /// The same in place of a name.
    fn plant_name(&self, place: &str) -> String {
        let secret = self.plant(place);
        self.names.borrow_mut().push(secret.clone());
        secret
    }

    /// A private key in PEM, which is a secret as a whole and line by line.
    fn plant_pem(&self, place: &str) -> String {
        let line = data_encoding::BASE64.encode(self.plant(place).repeat(2).as_bytes());
        self.planted.borrow_mut().push((place.to_owned(), line.clone()));
        format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n")
    }

    fn keep(&self, what: &str, answer: Answer) -> Answer {
        let mut bytes = answer.body.clone();
        for (name, value) in &answer.headers {
            bytes.extend(format!("{name}: {value}\n").into_bytes());
        }
        self.answered.borrow_mut().push((what.to_owned(), bytes));
        answer
    }

    /// A request with these headers, by `user` or by nobody.
    fn ask(
        &self,
        user: Option<&str>,
        method: &str,
        path: &str,
        headers: &[String],
        body: Option<&str>,
    ) -> Answer {
        let url = format!("{}{path}", self.world.base());
        let bearer = user.map(|user| format!("Authorization: Bearer {}", self.world.token(user)));
        let mut args = vec!["-X", method];
        for header in headers.iter().chain(bearer.iter()) {
            args.extend(["-H", header]);
        }
        if let Some(body) = body {
            args.extend(["--data-binary", body]);
        }
        args.push(&url);
        self.keep(&format!("the answer to {method} {path}"), self.world.curl(&args))
    }

    /// Bytes that curl would not send; without TLS, and with it.
    fn raw(&self, what: &str, head: &str) {
        let mut plain = TcpStream::connect(("127.0.0.1", self.world.port())).unwrap();
        plain.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // The gateway speaks TLS: it may reset what does not.
        let _ = plain.shutdown(std::net::Shutdown::Write);
        let _ = plain.read_to_end(&mut answer);
        self.answered.borrow_mut().push((what.to_owned(), answer));
        const PROGRAM: &str = "import socket, ssl, sys
context = ssl._create_unverified_context()
with context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1]))), server_hostname='gw.localhost') as to:
    to.sendall(sys.argv[2].encode())
    to.settimeout(30)
    said = to.recv(65536)
    while said and b'\\r\\n\\r\\n' not in said:
        more = to.recv(65536)
        said += more
        if not more: break
    sys.stdout.buffer.write(said)
";
        let output = Command::new("python3")
            .args(["-c", PROGRAM, &self.world.port().to_string(), head])
            .output()
            .expect("python3 runs (apt-get install python3)");
        assert!(
            output.status.success(),
            "{what}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.answered.borrow_mut().push((what.to_owned(), output.stdout));
    }

    /// Where `bytes` hold a planted secret, plain, in base64 or in hexadecimal.
    fn found(&self, place: &str, bytes: &[u8], quoted: bool) -> Vec<String> {
        let (mut found, text) = (Vec::new(), String::from_utf8_lossy(bytes));
        for (planted, secret) in self.planted.borrow().iter() {
            if quoted && self.names.borrow().contains(secret) {
                continue;
            }
            for form in [
                secret.clone(),
                data_encoding::BASE64.encode(secret.as_bytes()),
                data_encoding::HEXLOWER.encode(secret.as_bytes()),
            ] {
                if text.contains(&form) {
                    found.push(format!("{planted} stands in {place}"));
                }
            }
        }
        found
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

/// The bytes of all files in a folder, without the zeros behind the last record.
fn files(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            bytes.extend(files(&entry.path()));
        } else {
            let mut file = fs::read(entry.path()).unwrap();
            let end = file
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            file.truncate(end);
            bytes.extend(file);
        }
    }
    bytes
}

/// Where a client authenticates.
fn in_credentials(canary: &Canary) {
    let json = ["Content-Type: application/json".to_owned()];
    let login = |user: &str, password: &str| {
        let body = serde_json::json!({ "username": user, "password": password }).to_string();
        canary.ask(None, "POST", "/api/v1/sessions", &json, Some(&body))
    };
    login("john", &canary.plant("a wrong password")).expect(401);
    login(&canary.plant("a password in place of the user name"), "x").expect(401);
    login(
        &canary.plant("a user that nobody has"),
        &canary.plant("her password"),
    )
    .expect(401);
    let number = "86753091234567";
    canary
        .planted
        .borrow_mut()
        .push(("a password that is a number".into(), number.into()));
    let bodies = [
        format!("{{\"username\": \"john\", \"password\": {number}}}"),
        format!(
            "{{\"username\": \"john\", \"password\": [\"{}\"]}}",
            canary.plant("a password in a list")
        ),
        format!(
            "{{\"username\": \"john\", \"password\": {{\"{}\": 1}}}}",
            canary.plant("a password as a name")
        ),
        format!(
            "{{\"username\": \"john\", \"password\": \"{}\"",
            canary.plant("a body that breaks off")
        ),
    ];
    for body in &bodies {
        let answer = canary.ask(None, "POST", "/api/v1/sessions", &json, Some(body));
        assert!([400, 422].contains(&answer.status), "{}", answer.text());
    }
    let basic = |text: &str| {
        let encoded = data_encoding::BASE64.encode(text.as_bytes());
        canary
            .planted
            .borrow_mut()
            .push(("basic credentials, encoded".into(), encoded.clone()));
        format!("Authorization: Basic {encoded}")
    };
    for path in [
        "/",
        "/api/v1/me",
        "/imense/segmentation/jobs",
        "/.countersign/me",
        "/nowhere",
    ] {
        let headers = [
            format!("Authorization: Bearer {}", canary.plant("a bearer token")),
            basic(&format!("john:{}", canary.plant("a basic password"))),
            basic(&canary.plant("basic without a colon")),
            format!("Authorization: {}", canary.plant("a scheme")),
            format!(
                "Authorization: Negotiate {}",
                canary.plant("another scheme's token")
            ),
            format!(
                "Cookie: __Host-countersign={0}; session={0}",
                canary.plant("a cookie")
            ),
            format!("Cookie: {}", canary.plant("a cookie without a name")),
            format!(
                "Proxy-Authorization: Bearer {}",
                canary.plant("a token for a proxy")
            ),
        ];
        for header in headers {
            canary.ask(None, "GET", path, &[header], None);
        }
    }
    // A new password, refused and taken.
    let change = |new: &str| {
        let body = serde_json::json!({ "current": PASSWORD, "new": new }).to_string();
        canary.ask(Some("mary"), "POST", "/api/v1/me/password", &json, Some(&body))
    };
    let short = canary.plant("a new password that is refused").repeat(80);
    assert!(change(&short).status >= 400);
    assert!(change(&canary.plant("a new password")).status < 300);
}

/// Beside the credentials: headers, query, path, method, body.
fn in_requests(canary: &Canary) {
    for (user, path) in [
        (None, "/imense/segmentation/jobs"),
        (None, "/api/v1/me"),
        (Some("john"), "/imense/segmentation/jobs"),
        (Some("john"), "/imense/segmentation/jobs/4242"),
        (Some("john"), "/api/v1/me"),
        (Some("john"), "/nowhere"),
    ] {
        let names = [
            "X-Api-Key",
            "X-Auth-Token",
            "X-Amz-Security-Token",
            "X-Countersign-Proxy",
            "X-Countersign-Request-Id",
            "Sec-WebSocket-Protocol",
            "Origin",
            "Referer",
            "User-Agent",
            "X-Forwarded-For",
            "Traceparent",
            "Content-Type",
            "If-None-Match",
        ];
        for name in names {
            let header = format!("{name}: {}", canary.plant(&format!("a secret in {name}")));
            canary.ask(user, "GET", path, &[header], None);
        }
        for name in ["access_token", "password", "token", "name2", "sig"] {
            let secret = canary.plant(&format!("a secret in the query as {name}"));
            canary.ask(user, "GET", &format!("{path}?{name}={secret}"), &[], None);
        }
        let secret = canary.plant_name("a secret as a name in the query");
        canary.ask(user, "GET", &format!("{path}?{secret}"), &[], None);
        let pem = canary.plant_pem("a private key as a body");
        canary.ask(user, "POST", path, &[], Some(&pem));
        canary.ask(
            user,
            "PUT",
            path,
            &["Content-Type: application/json".into()],
            Some(&pem),
        );
    }
    // A stranger's path is not recorded, nor are hosts that nobody has.
    let secret = canary.plant("a stranger's path");
    canary.ask(None, "GET", &format!("/imense/segmentation/{secret}"), &[], None);
    let host = format!("Host: {}.gw.localhost", canary.plant("a host"));
    canary.ask(None, "GET", "/", &[host], None);
    for (what, head) in [
        (
            "a user in an absolute target",
            "GET https://user:SECRET@gw.localhost/ HTTP/1.1\r\nHost: gw.localhost\r\n\r\n",
        ),
        (
            "a method",
            "SECRET / HTTP/1.1\r\nHost: gw.localhost\r\nConnection: close\r\n\r\n",
        ),
        (
            "a head that is none",
            "GET / HTTP/1.1\r\nAuthorization : Bearer SECRET\r\n\r\n",
        ),
        ("two hosts", "GET /SECRET HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("no HTTP at all", "SECRET\r\n\r\n"),
    ] {
        canary.raw(what, &head.replace("SECRET", &canary.plant(what)));
    }
}

/// What administrators send: manifests, credentials, certificates, tables, names.
fn in_administration(canary: &Canary) {
    let json = ["Content-Type: application/json".to_owned()];
    let send = |method: &str, path: &str, body: serde_json::Value| {
        canary.ask(Some("admin"), method, path, &json, Some(&body.to_string()))
    };
    let good = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/segmentation/segmentation.toml"
    ));
    let good = good.unwrap();
    let remark = format!("# {}\n{good}", canary.plant("a remark in a manifest"));
    let broken = format!("{good}\n{}", canary.plant_pem("a private key in a manifest"));
    for manifest in [&remark, &broken] {
        send(
            "POST",
            "/api/v1/vos/imense/tools?reason=canary",
            serde_json::json!({ "manifest": manifest }),
        );
    }
    let credential = "/api/v1/vos/imense/tools/keyed/credential";
    let secret = canary.plant("a tool's credential");
    let user = canary.plant("the user name of a tool's credential");
    send(
        "PUT",
        credential,
        serde_json::json!({ "scheme": "basic", "user": user, "secret": secret }),
    )
    .expect(204);
    let number = "31415926535897";
    canary
        .planted
        .borrow_mut()
        .push(("a credential that is a number".into(), number.into()));
    let body = format!("{{\"scheme\": \"bearer\", \"secret\": {number}}}");
    canary
        .ask(Some("admin"), "PUT", credential, &json, Some(&body))
        .expect(422);
    let key = canary.plant_pem("a VO's private key");
    let both =
        serde_json::json!({ "certificate": key, "key": key, "certificate_name": "a", "key_name": "b" });
    send("POST", "/api/v1/vos/imense/certificates", both).expect(422);
    let rows = format!(
        "type,id,owner\njob,1,{}\n",
        canary.plant_name("a secret in place of an owner")
    );
    send(
        "POST",
        "/api/v1/vos/imense/tools/segmentation/resources?reason=canary",
        serde_json::json!({ "csv": rows }),
    );
    let query = canary.plant_pem("a private key to be traced");
    send(
        "POST",
        "/api/v1/vos/imense/trace",
        serde_json::json!({ "query": query }),
    );
    let name = canary.plant_name("a secret as the name of a VO");
    send(
        "POST",
        "/api/v1/vos?reason=canary",
        serde_json::json!({ "name": format!("{name} {name}") }),
    )
    .expect(422);
    let url = format!(
        "https://user:{}@tool.example.org/",
        canary.plant("a password in an upstream's address")
    );
    send(
        "POST",
        "/api/v1/vos/imense/upstreams?reason=canary",
        serde_json::json!({ "name": "odd", "url": url }),
    )
    .expect(422);
    let ca = canary.plant_pem("a private key in place of an upstream's CA");
    let upstream = serde_json::json!({ "name": "odd", "url": "https://tool.example.org", "ca": ca });
    send("POST", "/api/v1/vos/imense/upstreams?reason=canary", upstream).expect(422);
}

/// A tool with a credential of its own, which is not called.
fn wrap_static(world: &World) {
    let manifest = world.dir.path().join("static.toml");
    let text = "[tool]\nname = \"keyed\"\nupstream = \"keyed\"\ndelegation = \"static\"\n\n\
                [[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n";
    fs::write(&manifest, text).unwrap();
    world
        .cli(
            "admin",
            &["upstream", "allow", "imense", "keyed", "http://127.0.0.1:9"],
        )
        .ok();
    world
        .cli("admin", &["tool", "add", "imense", manifest.to_str().unwrap()])
        .ok();
}

#[test]
fn no_secret_comes_out_again_wherever_a_client_puts_it() {
    let mut world = World::with_settings("");
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    world.segmentation();
    wrap_static(&world);
    let token = world.token("john");
    let canary = Canary::new(world);
    for (what, secret) in [
        ("John's token", token.as_str()),
        ("everybody's password", PASSWORD),
        ("the first password", canary.world.one_time()),
    ] {
        canary
            .planted
            .borrow_mut()
            .push((what.to_owned(), secret.to_owned()));
    }
    let path = format!("/imense/segmentation/jobs?name={MARKER}");
    canary
        .ask(Some("john"), "POST", &path, &[], Some("P5\n2 2\n255\n0aZz"))
        .expect(201);
    in_credentials(&canary);
    in_requests(&canary);
    in_administration(&canary);
    // Repeated denials send a mail.
    for _ in 0..3 {
        canary
            .ask(
                Some("john"),
                "DELETE",
                "/imense/segmentation/jobs/4242",
                &[],
                None,
            )
            .expect(403);
    }
    let outbox = canary.world.data().join("outbox");
    let mails = until("an alert mail", || {
        let mails = if outbox.is_dir() {
            files(&outbox)
        } else {
            Vec::new()
        };
        holds(&mails, "terminate job").then_some(mails)
    });
    let metrics = format!("http://{}/metrics", canary.world.operations());
    let metrics = canary.world.curl(&[&metrics]).expect(200).body;
    // The index has whole blocks only: enough requests for one.
    let many = format!("{}/imense/segmentation/jobs#[1-700]", canary.world.base());
    let bearer = format!("Authorization: Bearer {token}");
    let sent = Command::new("curl")
        .args(["--silent", "--cacert", &canary.world.ca(), "-H", &bearer])
        .args(["-o", "/dev/null", "-w", "%{http_code} ", &many])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&sent.stdout), "200 ".repeat(700));
    let lines = canary.world.log();
    let mut canary = canary;
    canary.world.stop();
    let world = &canary.world;
    let data = world.data();
    let data = data.to_str().unwrap();
    run_in(world.dir.path(), &["audit", "reindex", "--data", data]).ok();
    let exported = |format: &str| {
        let args = ["audit", "export", "--data", data, "--format", format];
        run_in(world.dir.path(), &args).ok().stdout.into_bytes()
    };
    let pages: Vec<u8> = canary
        .answered
        .borrow()
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    let places = [
        ("the log's files", files(&world.data().join("log")), MARKER),
        (
            "the index",
            fs::read(world.data().join("index.db")).unwrap(),
            "list jobs",
        ),
        ("exported records", exported("json"), MARKER),
        ("exported rows", exported("csv"), "list jobs"),
        ("exported OCSF events", exported("ocsf"), MARKER),
        ("mails", mails, "terminate job"),
        ("metrics", metrics, "segmentation"),
        ("answers", pages, "/problems/wrong_credential"),
        ("log lines", lines.into_bytes(), "serving https://"),
    ];
    let mut found = Vec::new();
    for (place, bytes, marker) in places {
        assert!(
            holds(&bytes, marker),
            "`{marker}` is not found in {place}: is it looked at?"
        );
        if place != "answers" {
            found.extend(canary.found(place, &bytes, false));
        }
    }
    for (what, bytes) in canary.answered.borrow().iter() {
        found.extend(canary.found(what, bytes, true));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(canary.planted.borrow().len() > 150);
}
