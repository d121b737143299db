//! Feature rows G3, G5 and G6: proxies that people fetch themselves, with Debian's MyProxy clients, with a certification
//! request, and with `countersign proxy get`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::delegate::import;
use crate::grid::{grid, taken};
use crate::myproxy::{events, memory};
use crate::peers::{Peer, told};
use crate::world::{Answer, COUNTERSIGN, PASSWORD, World};

const GRANT: [&str; 6] = [
    "grant",
    "add",
    "imense",
    "scientist",
    "countersign",
    "proxy.download",
];

/// A gateway that is a MyProxy server, with `john` as scientist and a VO certificate for each use.
struct Server {
    world: World,
    /// The folder in which Debian's clients find the authority of its host certificate.
    trust: PathBuf,
    port: String,
}

impl Server {
    /// One at which nobody may download yet.
    fn new(grid: &Peer) -> Self {
        let mut world = World::initialised();
        let settings = world.data().join("countersign.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let (trust, roots) = (world.dir.path().join("trust"), world.dir.path().join("roots"));
        for folder in [&trust, &roots] {
            let from = format!("{}/.", grid.env("TRUST"));
            let copied = told("cp", &["-a", &from, folder.to_str().unwrap()], world.dir.path());
            assert!(copied.0, "{copied:?}");
        }
        fs::copy(world.ca(), roots.join("feedf00d.0")).unwrap();
        let section = format!(
            "[myproxy]\nlisten = \"127.0.0.1:0\"\ntrust_roots = \"{}\"\ncertificate = \"{1}/host.pem\"\nkey = \"{1}/host.key\"\n",
            roots.display(),
            grid.folder().join("host").display()
        );
        let changed = text.replace("[myproxy]\n", &section);
        assert_ne!(changed, text);
        fs::write(&settings, changed).unwrap();
        world.serve();
        world.admin().person("john", &["scientist"]);
        import(&world, grid.env("VO_RSA"), grid.env("VO_RSA_KEY")).ok();
        let text = fs::read_to_string(world.data().join("listeners.json")).unwrap();
        let listeners: Value = serde_json::from_str(&text).unwrap();
        let address = listeners["myproxy"].as_str().unwrap();
        let port = address.rsplit(':').next().unwrap().to_owned();
        Self { world, trust, port }
    }

    /// One at which scientists may.
    fn granting(grid: &Peer) -> Self {
        let server = Self::new(grid);
        server.certify(grid);
        server.world.cli("admin", &GRANT).ok();
        server
    }

    /// Gives the VO its certificate for downloads.
    fn certify(&self, grid: &Peer) {
        let words = ["vo", "certificate", "import", "imense", "--use", "download"];
        let files = [
            "--certificate",
            grid.env("VO_DOWNLOAD"),
            "--key",
            grid.env("VO_DOWNLOAD_KEY"),
        ];
        self.world.cli("admin", &[&words[..], &files].concat()).ok();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.dir.path().join(name)
    }

    /// Runs one of Debian's clients; gives whether it succeeded and what it said.
    fn client(&self, program: &str, words: &[&str], phrase: &str) -> (bool, String) {
        let line = format!(
            "printf '%s\\n' \"$PHRASE\" | timeout 60 {program} -s localhost -p {} {}",
            self.port,
            words.join(" ")
        );
        let output = Command::new("sh")
            .args(["-c", &line])
            .env("PHRASE", phrase)
            .env("X509_CERT_DIR", &self.trust)
            .env("HOME", self.world.dir.path())
            .env_remove("X509_USER_PROXY")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// `myproxy-logon` into the file `x509up`.
    fn logon(&self, user: &str, phrase: &str, more: &[&str]) -> (bool, String) {
        let file = self.file("x509up");
        let _ = fs::remove_file(&file);
        let words = ["-S", "-l", user, "-o", file.to_str().unwrap()];
        let (done, said) = self.client("myproxy-logon", &[&words[..], more].concat(), phrase);
        assert_eq!(done, file.exists(), "{said}");
        (done, said)
    }

    #[track_caller]
    fn refused(&self, user: &str, phrase: &str, more: &[&str]) -> String {
        let (done, said) = self.logon(user, phrase, more);
        assert!(!done, "{said}");
        said
    }

    #[track_caller]
    fn given(&self, user: &str, phrase: &str, more: &[&str]) {
        let (done, said) = self.logon(user, phrase, more);
        assert!(done, "{said}");
    }

    /// `myproxy-info` with the proxy in `x509up`.
    fn info(&self, user: &str) -> (bool, String) {
        let program = format!(
            "env X509_USER_PROXY={} myproxy-info",
            self.file("x509up").display()
        );
        self.client(&program, &["-l", user], "")
    }

    /// What `openssl x509` says of the first certificate in a file.
    fn x509(&self, file: &str, words: &[&str]) -> (bool, String) {
        let all = [&["x509", "-in", file, "-noout"][..], words].concat();
        told("openssl", &all, self.world.dir.path())
    }

    /// All events of a name, oldest first.
    fn events(&self, name: &str) -> Vec<Value> {
        let records = self.world.records();
        let of = |record: &Value| record["event"].get(name).cloned();
        records.iter().filter_map(of).collect()
    }

    fn sessions_of(&self, user: &str) -> i64 {
        self.world.stored(&format!(
            "SELECT count(*) FROM session WHERE ended_at IS NULL AND person = (SELECT id FROM person WHERE username = '{user}')"
        ))
    }
}

#[test]
fn g5_debians_myproxy_logon_gets_a_proxy_of_the_second_certificate_with_an_account_of_the_gateway() {
    let grid = grid();
    let server = Server::granting(&grid);
    let world = &server.world;
    server.given("john", PASSWORD, &[]);
    let file = server.file("x509up");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2);
    let (_, subject) = server.x509("x509up", &["-subject"]);
    assert!(subject.contains("imense-vo download"), "{subject}");
    taken(&grid, &file, &[]);
    // The session that it took has ended; that of john's command line goes on.
    assert_eq!(server.sessions_of("john"), 1);

    // It was decided, and is on record before it was signed; whoever finds it learns whose it is.
    let mint = server.events("mint").pop().unwrap();
    assert_eq!(
        (&mint["way"], &mint["tool"]),
        (&"download".into(), &"countersign".into())
    );
    let request = mint["request"].as_str().unwrap();
    let order: Vec<String> = world
        .events_of(request)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(order, ["intent", "mint", "outcome"]);
    let intent = &events(world, request, "intent")[0];
    assert_eq!(intent["delegation"]["serial"], mint["serial"]);
    let outcome = &events(world, request, "outcome")[0];
    assert_eq!(outcome["signed"]["serial"], mint["serial"]);
    let traced = world.cli_json("admin", &["trace", file.to_str().unwrap(), "--vo", "imense"]);
    assert!(traced.to_string().contains("\"john\""), "{traced}");

    // Instead of the password an access token does, of this user and no other.
    world.person("mary", &["scientist"]);
    server.given("john", &world.token("john"), &["-k", "imense"]);
    let said = server.refused("john", &world.token("mary"), &[]);
    assert!(said.contains("the access token is not this user"), "{said}");
    let said = server.refused("john", "cst_nobodys", &[]);
    assert!(!said.contains("password"), "{said}");
    assert_eq!(server.events("mint").len(), 2);
}

#[test]
fn a15_with_a_factor_bound_a_personal_token_made_for_proxies_logs_on_at_the_myproxy_port() {
    let grid = grid();
    let server = Server::granting(&grid);
    let world = &server.world;
    let raised = crate::personal_token::with_factor(world, "john");
    let expires = crate::personal_token::days(30);
    let made = |more: Value| {
        let mut body = serde_json::json!({ "name": "logon", "expires": expires });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let made = crate::personal_token::asked(world, &raised, &body)
            .expect(201)
            .json();
        made["token"].as_str().unwrap().to_owned()
    };
    let proxies = made(serde_json::json!({ "myproxy": true }));
    let reader = made(serde_json::json!({ "scopes": ["imense", "gateway"], "read_only": true }));
    server.refused("john", PASSWORD, &[]);
    server.given("john", &proxies, &["-k", "imense"]);
    let said = server.refused("john", &reader, &["-k", "imense"]);
    assert!(said.contains("the access token was not made for"), "{said}");
    // It gets proxies and nothing else, and a proxy's record names it.
    let mint = server.events("mint").pop().unwrap();
    let intent = &events(world, mint["request"].as_str().unwrap(), "intent")[0];
    assert_eq!(intent["subject"]["methods"], serde_json::json!(["token"]));
    let url = format!("{}/api/v1/me/tokens", world.base());
    let bearer = format!("Authorization: Bearer {proxies}");
    let refused = world.curl(&["-H", &bearer, &url]).expect(403);
    assert_eq!(refused.problem(), "out_of_scope");
}

#[test]
fn a9_with_a_factor_bound_a_password_gets_no_proxy_from_the_myproxy_port_and_a_token_does() {
    let grid = grid();
    let server = Server::granting(&grid);
    server.given("john", PASSWORD, &[]);
    let token = server.world.token("john");
    crate::factor::bind(&server.world, &token);
    server.refused("john", PASSWORD, &[]);
    assert_eq!(server.events("mint").len(), 1);
    server.given("john", &token, &["-k", "imense"]);
    assert_eq!(server.events("mint").len(), 2);
}

#[test]
fn b9_no_stopped_account_gets_a_proxy_at_the_myproxy_port_and_its_owner_is_told_why() {
    let grid = grid();
    let server = Server::granting(&grid);
    server.given("john", PASSWORD, &[]);
    for (words, why) in [
        ("user suspend imense john", "suspended"),
        ("user expire imense john", "expired"),
        ("user delete imense john", "deleted"),
    ] {
        let words: Vec<&str> = words.split(' ').chain(["--reason", "a test"]).collect();
        server.world.cli("admin", &words).ok();
        let said = server.refused("john", PASSWORD, &[]);
        assert!(said.contains(why), "{said}");
        if why != "deleted" {
            server
                .world
                .cli("admin", &["user", "resume", "imense", "john"])
                .ok();
            server.given("john", PASSWORD, &[]);
        }
    }
}

#[test]
fn g5_a_name_that_nobody_has_and_a_wrong_password_are_answered_alike_and_slowed_down_like_every_login() {
    let grid = grid();
    let server = Server::granting(&grid);
    let world = &server.world;
    let wrong = server.refused("john", "not the password", &[]);
    assert!(
        wrong.contains("user name or the password is not right"),
        "{wrong}"
    );
    assert_eq!(server.refused("nobody", "not the password", &[]), wrong);
    let results = |server: &Server| {
        let logins = server.events("login").into_iter();
        let results: Vec<String> = logins.map(|login| login["result"].to_string()).collect();
        results
    };
    assert_eq!(
        results(&server)
            .iter()
            .filter(|result| *result == "\"wrong\"")
            .count(),
        2
    );

    // What is tried at this port counts at the other one as well.
    let slowed = (0..50).find(|_| {
        server
            .refused("john", "not the password", &[])
            .contains("too many")
    });
    assert!(slowed.is_some());
    let body = serde_json::json!({ "username": "john", "password": PASSWORD }).to_string();
    let url = format!("{}/api/v1/sessions", world.base());
    let json = "Content-Type: application/json";
    let answer = world.curl(&["--interface", "127.0.0.1", "-H", json, "-d", &body, &url]);
    assert_eq!(answer.problem(), "too_many_attempts");
    assert!(results(&server).contains(&"\"throttled\"".to_owned()));
    assert!(server.events("mint").is_empty());
}

#[test]
fn g3_who_may_not_download_is_refused_on_record_and_nothing_is_signed() {
    let grid = grid();
    let server = Server::new(&grid);
    let world = &server.world;
    // Off until the VO turns it on, and then only with a certificate for it: never from the one that tools are called with.
    let said = server.refused("john", PASSWORD, &[]);
    assert!(said.contains("none of your roles"), "{said}");
    world.cli("admin", &GRANT).ok();
    let said = server.refused("john", PASSWORD, &[]);
    assert!(said.contains("certificate"), "{said}");
    server.certify(&grid);
    server.given("john", PASSWORD, &[]);

    // Another VO's, whoever is asked for it.
    world.cli("admin", &["vo", "create", "other"]).ok();
    let other = server.refused("john", PASSWORD, &["-k", "other"]);
    server.refused("john", PASSWORD, &["-k", "nowhere"]);
    assert!(!other.is_empty());

    // A member without the role, be she the one who gives it.
    world.person("mary", &["vo-administrator"]);
    server.refused("mary", PASSWORD, &["-k", "imense"]);
    // With a one-time password nothing is open but the choice of another one.
    let added = world.cli_json(
        "admin",
        &[
            "user",
            "add",
            "imense",
            "jane",
            "--name",
            "Jane",
            "--role",
            "scientist",
            "--show-password",
        ],
    );
    let one_time = added["one_time_password"].as_str().unwrap();
    let said = server.refused("jane", one_time, &[]);
    assert!(said.contains("this is a one-time password"), "{said}");
    // It is not used up by that.
    let login = server.events("login").pop().unwrap();
    assert_eq!(
        (&login["result"], login.get("session")),
        (&"one_time".into(), None)
    );
    world.login("jane", one_time).ok();
    server.given("jane", PASSWORD, &[]);
    // Whoever is suspended.
    world.cli("admin", &["user", "suspend", "imense", "john"]).ok();
    let token = world.token("john");
    server.refused("john", PASSWORD, &[]);
    server.refused("john", &token, &[]);

    let refusals = server.events("refused");
    let of_download = refusals
        .iter()
        .filter(|refused| refused.to_string().contains("proxy.download"));
    assert!(of_download.count() >= 3, "{refusals:#?}");
    assert_eq!(server.events("mint").len(), 2);
    // No login of any of these goes on, but those of the command line (john's ended when he was suspended).
    assert_eq!(
        [
            server.sessions_of("john"),
            server.sessions_of("mary"),
            server.sessions_of("jane")
        ],
        [0, 1, 1]
    );
}

#[test]
fn g6_a_logon_for_48_hours_gets_what_the_vo_allows() {
    let grid = grid();
    let server = Server::granting(&grid);
    let within = |seconds: &str| !server.x509("x509up", &["-checkend", seconds]).0;
    server.given("john", PASSWORD, &["-t", "48"]);
    assert!(within("3601") && !within("3300"));
    let limit = ["vo", "proxy-limit", "set", "imense", "--seconds", "1800"];
    server.world.cli("admin", &limit).ok();
    server.given("john", PASSWORD, &["-t", "48"]);
    assert!(within("1801") && !within("1500"));
}

#[test]
fn debians_myproxy_info_and_get_trustroots_are_answered() {
    let grid = grid();
    let server = Server::granting(&grid);
    // It shows a credential of its own, as its user has one who has logged on before.
    server.given("john", PASSWORD, &[]);
    let info = |user: &str| server.info(user);
    let (done, said) = info("john");
    assert!(done && said.contains("username: john"), "{said}");
    // Whether a name is somebody's is not told.
    assert_eq!(info("nobody").1.replace("nobody", "john"), said);
    let (done, said) = server.client("myproxy-get-trustroots", &[], "");
    assert!(done, "{said}");
    let fetched = || {
        let file = server.trust.join("feedf00d.0");
        fs::read(&file).is_ok_and(|fetched| {
            fs::remove_file(&file).is_ok() && fetched == fs::read(server.world.ca()).unwrap()
        })
    };
    assert!(fetched());
    server.given("john", PASSWORD, &["-T"]);
    assert!(fetched());
}

/// A client that does `sys.argv[3]`, and says what it was told and how long it was borne.
const RUDE: &str = r#"
import socket, ssl, sys, time
context = ssl.create_default_context(cafile=sys.argv[2]); context.check_hostname = False
raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
begun = time.monotonic()
try:
    if sys.argv[3] == "silent":
        raw.recv(1); raise OSError("closed")
    s = context.wrap_socket(raw, server_hostname="gw.localhost")
    if sys.argv[3] == "endless":
        s.sendall(b"0")
        while True: s.sendall(b"A" * 65536)
    if sys.argv[3] == "begin": s.sendall(b"GET / HTTP/1.1\r\n\r\n")
    if sys.argv[3] == "lines":
        s.sendall(b"0VERSION=MYPROXYv2\n")
        while True: s.sendall(b"A=b\n" * 4096)
    if sys.argv[3] == "slow":
        s.sendall(b"0")
        while True: s.sendall(b"V"); time.sleep(0.5)
    if sys.argv[3] == "twice": s.sendall(b"0VERSION=MYPROXYv2\nCOMMAND=0\nUSERNAME=a\nUSERNAME=b\n\0")
    if sys.argv[3] == "put": s.sendall(b"0VERSION=MYPROXYv2\nCOMMAND=1\nUSERNAME=a\nPASSPHRASE=b\nLIFETIME=0\n\0")
    if sys.argv[3] in ("huge", "leaves"):
        password = sys.argv[4].encode()
        s.sendall(b"0VERSION=MYPROXYv2\nCOMMAND=0\nUSERNAME=john\nPASSPHRASE=" + password + b"\nLIFETIME=0\n\0")
        while b"RESPONSE=0" not in s.recv(4096): pass
        if sys.argv[3] == "leaves": s.close(); sys.exit()
        s.sendall(b"\x30\x82\xff\xff" + b"A" * 65535)
    said = b""
    while True:
        more = s.recv(4096)
        if not more: break
        said += more
    print(said.decode("latin-1"))
except OSError as error: print("cut", error)
print(round(time.monotonic() - begun))
"#;

#[test]
fn a_rude_client_is_left_in_bounded_time_and_memory_and_others_are_served() {
    let grid = grid();
    let server = Server::granting(&grid);
    let world = &server.world;
    let before = memory(world.pid());
    let rude = |mode: &str| {
        let (ca, folder) = (grid.env("CA"), world.dir.path());
        told("python3", &["-c", RUDE, &server.port, ca, mode, PASSWORD], folder).1
    };
    // These two are borne for a minute, side by side.
    let slow = std::thread::scope(|scope| {
        let slow = ["slow", "silent"].map(|mode| scope.spawn(move || rude(mode)));
        for (mode, expected) in [
            ("endless", ""),
            ("lines", ""),
            ("begin", "does not begin with"),
            ("twice", "stands twice"),
            ("put", "keeps no credentials"),
            ("huge", "DER"),
            ("leaves", ""),
        ] {
            let said = rude(mode);
            assert!(said.contains(expected), "{mode}: {said}");
        }
        server.given("john", PASSWORD, &[]);
        slow.map(|slow| slow.join().unwrap())
    });
    for said in slow {
        let seconds: u64 = said.lines().last().unwrap().parse().unwrap();
        assert!((50..100).contains(&seconds), "{said}");
    }
    assert!(memory(world.pid()) < before + 64 * 1024);
    // What was begun for those who left has ended, and what they sent is counted.
    assert_eq!(server.sessions_of("john"), 1);
    assert_eq!(server.events("mint").len(), 1);
    let (done, said) = server.info("john");
    assert!(done, "{said}");
}

/// Asks as john for the certificate of a key.
fn ask(world: &World, pem: &str, lifetime: u64) -> Answer {
    let body = serde_json::json!({ "request": pem, "lifetime": lifetime }).to_string();
    let bearer = format!("Authorization: Bearer {}", world.token("john"));
    let url = format!("{}/api/v1/vos/imense/proxies", world.base());
    let json = "Content-Type: application/json";
    world.curl(&["-H", &bearer, "-H", json, "-d", &body, &url])
}

#[test]
fn g5_a_certification_request_returns_the_signed_chain_once_it_is_granted() {
    let grid = grid();
    let server = Server::new(&grid);
    let (world, folder) = (&server.world, server.world.dir.path());
    let make =
        "openssl req -new -newkey rsa:2048 -nodes -keyout key.pem -subj /CN=whoever -out request.pem 2>&1";
    assert!(told("sh", &["-c", make], folder).0);
    let pem = fs::read_to_string(folder.join("request.pem")).unwrap();
    ask(world, &pem, 600).expect(403);
    world.cli("admin", &GRANT).ok();
    assert_eq!(ask(world, &pem, 600).problem(), "delegation_failed");
    server.certify(&grid);
    ask(world, "not a request", 600).expect(422);
    ask(world, &pem, 5).expect(422);
    let answer = ask(world, &pem, 600).expect(201).json();
    fs::write(folder.join("chain.pem"), answer["chain"].as_str().unwrap()).unwrap();
    let verify = format!(
        "openssl verify -allow_proxy_certs -CAfile {} -untrusted chain.pem chain.pem && \
         [ \"$(openssl x509 -in chain.pem -noout -pubkey)\" = \"$(openssl pkey -in key.pem -pubout)\" ] && \
         openssl x509 -in chain.pem -noout -subject && ! openssl x509 -in chain.pem -noout -checkend 660",
        grid.env("CA")
    );
    let (done, said) = told("sh", &["-c", &verify], folder);
    assert!(done && said.contains("imense-vo download"), "{said}");
    assert!(said.contains(answer["serial"].as_str().unwrap()), "{said}");
    // A key leads to one request only: whoever saw it cannot have it certified again.
    assert!(ask(world, &pem, 600).status >= 400);
    assert_eq!(server.events("mint").len(), 1);
}

#[test]
fn g5_proxy_get_writes_the_file_that_grid_tools_read_and_proxy_revoke_ends_it() {
    let grid = grid();
    let server = Server::granting(&grid);
    let (world, file) = (&server.world, server.file("x509up_u1000"));
    let get = |more: &[&str]| {
        let output = Command::new(COUNTERSIGN)
            .args([&["proxy", "get", "--json"], more].concat())
            .env("COUNTERSIGN_CONFIG", world.config("john"))
            .env("X509_USER_PROXY", &file)
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{said}");
        serde_json::from_str::<Value>(&said).unwrap()
    };
    fs::write(&file, "an older one").unwrap();
    let got = get(&["--lifetime", "20m"]);
    assert_eq!(got["file"], file.to_str().unwrap());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    taken(&grid, &file, &[]);
    let (_, subject) = server.x509("x509up_u1000", &["-subject"]);
    assert!(subject.contains("imense-vo download"), "{subject}");
    let within = |seconds: &str| !server.x509("x509up_u1000", &["-checkend", seconds]).0;
    assert!(within("1201") && !within("900"));
    let second = server.file("p256.pem");
    get(&[
        "--vo",
        "imense",
        "--key",
        "p256",
        "--out",
        second.to_str().unwrap(),
    ]);
    taken(&grid, &second, &["file", "openssl", "apache", "arc"]);

    // The VO's list refuses the one that its holder revokes, and not the other.
    let serial = got["serial"].as_str().unwrap();
    let listed = world.cli_json("john", &["proxy", "list"]);
    assert_eq!(listed["proxies"].as_array().unwrap().len(), 2, "{listed}");
    assert!(listed.to_string().contains(serial), "{listed}");
    world.cli("john", &["proxy", "revoke", serial]).ok();
    let list = server.file("imense.crl");
    world
        .cli("john", &["crl", "imense", "--out", list.to_str().unwrap()])
        .ok();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guides/check_revocation.sh");
    let judged = |proxy: &Path| {
        let files = [
            proxy.to_str().unwrap(),
            grid.env("VO_DOWNLOAD"),
            list.to_str().unwrap(),
        ];
        told("sh", &[&[script][..], &files].concat(), world.dir.path())
            .1
            .trim()
            .to_owned()
    };
    assert_eq!([judged(&file), judged(&second)], ["revoked", "good"]);
    let traced = world.cli_json("admin", &["trace", file.to_str().unwrap(), "--vo", "imense"]);
    assert!(traced.to_string().contains("\"john\""), "{traced}");
    // Its private key stands nowhere but in this file.
    let secret = crate::delegate::private_key(&fs::read_to_string(&file).unwrap());
    let finds = crate::delegate::finds(world, &secret);
    assert_eq!(finds, [""; 0]);
}
