//! Grid certificates as login (A14): what openssl issues, shown by curl and Python to the listener for certificates.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::world::{Answer, PASSWORD, Ran, World, until};

/// A throw-away grid CA, in a folder of its own; made and used with openssl alone.
pub struct Grid(PathBuf);

const EXTENSIONS: &str = "[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
[person]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
[proxy]
proxyCertInfo=critical,language:id-ppl-inheritAll
keyUsage=critical,digitalSignature
[limited]
proxyCertInfo=critical,language:1.3.6.1.4.1.3536.1.1.1.9
keyUsage=critical,digitalSignature
";

const DATABASE: &str = "[ca]
default_ca=db
[db]
database=index
crlnumber=number
default_md=sha256
default_crl_days=1
";

impl Grid {
    pub fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let grid = Self(folder.to_owned());
        fs::write(grid.0.join("x.cnf"), EXTENSIONS).unwrap();
        fs::write(grid.0.join("db.cnf"), DATABASE).unwrap();
        fs::write(grid.0.join("index"), "").unwrap();
        fs::write(grid.0.join("number"), "01\n").unwrap();
        grid.key("ca", "/O=Grid/CN=CA");
        grid.openssl(
            "x509 -req -in ca.csr -signkey ca.key -days 30 -extfile x.cnf -extensions ca -out ca.pem",
        );
        fs::create_dir_all(grid.0.join("trust")).unwrap();
        fs::copy(grid.0.join("ca.pem"), grid.0.join("trust/ca.pem")).unwrap();
        grid.publish();
        grid
    }

    #[track_caller]
    fn openssl(&self, line: &str) -> String {
        let output = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(&self.0)
            .output()
            .expect("openssl runs (apt-get install openssl)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {line}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn key(&self, name: &str, subject: &str) {
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj {subject}"
        ));
    }

    /// A person's certificate from the CA; `NAME.all` is what she shows.
    pub fn person(&self, name: &str) {
        self.key(name, &format!("/O=Grid/CN={name}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -extfile x.cnf -extensions person \
             -out {name}.pem"
        ));
        fs::copy(
            self.0.join(format!("{name}.pem")),
            self.0.join(format!("{name}.all")),
        )
        .unwrap();
    }

    /// A proxy of `above`, of a kind, with the next CN.
    pub fn proxy(&self, name: &str, above: &str, kind: &str) {
        let subject = self.openssl(&format!("x509 -in {above}.pem -noout -subject -nameopt compat"));
        let subject = subject.trim().trim_start_matches("subject=").trim();
        self.key(name, &format!("{subject}/CN=4711"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {above}.pem -CAkey {above}.key -set_serial 4711 -days 1 -extfile x.cnf \
             -extensions {kind} -out {name}.pem"
        ));
        let all = [format!("{name}.pem"), format!("{above}.all")]
            .map(|file| fs::read_to_string(self.0.join(file)).unwrap());
        fs::write(self.0.join(format!("{name}.all")), all.concat()).unwrap();
    }

    pub fn revoke(&self, name: &str) {
        self.openssl(&format!(
            "ca -config db.cnf -revoke {name}.pem -cert ca.pem -keyfile ca.key"
        ));
        self.publish();
    }

    fn publish(&self) {
        self.openssl("ca -config db.cnf -gencrl -cert ca.pem -keyfile ca.key -out ca.crl");
        fs::rename(self.0.join("ca.crl"), self.0.join("trust/ca.crl")).unwrap();
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub fn trust(&self) -> String {
        self.file("trust")
    }

    /// The file of a proof that the key of `name` wants its certificate linked to `user`.
    pub fn proof(&self, name: &str, user: &str) -> String {
        let (certificate, key) = (
            self.file(&format!("{name}.pem")),
            self.file(&format!("{name}.key")),
        );
        prove(&self.0, (&certificate, &key), user)
    }
}

/// Signs in `folder`, with openssl, that a certificate is to be linked to `user`; gives the file of the proof.
pub fn prove(folder: &Path, (certificate, key): (&str, &str), user: &str) -> String {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(folder).output();
        let output = output.expect("openssl runs (apt-get install openssl)");
        assert!(output.status.success(), "openssl {args:?}");
        output.stdout
    };
    let der = openssl(&["x509", "-in", certificate, "-outform", "DER"]);
    let hash = countersign::record::Hash::of(&der);
    let text = format!("countersign certificate\ngw.localhost\n{user}\n{hash}\n");
    fs::write(folder.join("to-sign"), text).unwrap();
    let name = format!("{user}.proof");
    openssl(&["dgst", "-sha256", "-sign", key, "-out", &name, "to-sign"]);
    folder.join(name).to_str().unwrap().to_owned()
}

/// A gateway that takes the grid's certificates, with `john` in it.
fn world() -> (World, Grid) {
    let mut world = World::initialised();
    let grid = Grid::new(&world.dir.path().join("grid"));
    listen(&world, &grid.trust());
    world.serve();
    world.admin().person("john", &["scientist"]);
    (world, grid)
}

/// Turns the listener for certificates on.
pub fn listen(world: &World, trust: &str) {
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let section =
        format!("[certificate_listener]\ntrust = {trust:?}\nlisten = \"127.0.0.1:0\"\ncheck = \"1s\"\n");
    let changed = text.replace("[certificate_listener]\n", &section);
    assert_ne!(changed, text);
    fs::write(&file, changed).unwrap();
}

fn port(world: &World) -> String {
    let listeners = fs::read_to_string(world.data().join("listeners.json")).unwrap();
    let listeners: serde_json::Value = serde_json::from_str(&listeners).unwrap();
    listeners["certificates"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned()
}

/// `GET` of who one is, with a certificate; status 0 where there is no connection.
fn me(world: &World, grid: &Grid, name: &str, more: &[&str]) -> Answer {
    let url = format!("https://gw.localhost:{}/api/v1/me", port(world));
    let (all, key) = (
        grid.file(&format!("{name}.all")),
        grid.file(&format!("{name}.key")),
    );
    let mut args = vec!["--cert", &all, "--key", &key];
    args.extend(more);
    args.push(&url);
    world.curl(&args)
}

fn link(world: &World, grid: &Grid, name: &str) -> String {
    let linked = add(world, grid, ("john", name), &format!("{name}.pem"))
        .ok()
        .stdout;
    let id = linked.rsplit_once("(id ").expect("an id").1;
    id.trim().trim_end_matches(')').to_owned()
}

/// Adds what is in `file` for `user`, with a proof by the key of `name`.
fn add(world: &World, grid: &Grid, (user, name): (&str, &str), file: &str) -> Ran {
    let (file, proof) = (grid.file(file), grid.proof(name, user));
    let args = [
        "user",
        "certificate",
        "add",
        "imense",
        user,
        &file,
        "--proof",
        &proof,
    ];
    world.cli("admin", &args)
}

/// One connection that is kept, on which a request can be made at any time.
struct Kept(Child, BufReader<std::process::ChildStdout>);

const KEPT: &str = r#"
import http.client, socket, ssl, sys
port, ca, certificate, key = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(certificate, key)
connection = http.client.HTTPConnection("gw.localhost", int(port))
connection.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))), server_hostname="gw.localhost")
connection.auto_open = 0
for _ in sys.stdin:
    connection.request("GET", "/api/v1/me")
    answer = connection.getresponse()
    answer.read()
    print(answer.status, connection.sock.fileno(), flush=True)
"#;

impl Kept {
    fn open(world: &World, grid: &Grid, name: &str) -> Self {
        let files = [
            world.ca(),
            grid.file(&format!("{name}.all")),
            grid.file(&format!("{name}.key")),
        ];
        let mut child = Command::new("python3")
            .args(["-c", KEPT, &port(world)])
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs (apt-get install python3)");
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    /// The status of one more request, and the connection that it went over.
    fn ask(&mut self) -> (u16, String) {
        writeln!(self.0.stdin.as_mut().unwrap()).unwrap();
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        let (status, connection) = line.trim().split_once(' ').expect("an answer");
        (status.parse().unwrap(), connection.to_owned())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn b9_a_certificate_lets_nobody_in_whose_account_is_stopped_and_says_why() {
    let (world, grid) = world();
    grid.person("john");
    link(&world, &grid, "john");
    me(&world, &grid, "john", &[]).expect(200);
    for (words, kind) in [
        ("user suspend imense john", "suspended"),
        ("user expire imense john", "account_expired"),
        ("user delete imense john", "account_deleted"),
    ] {
        let words: Vec<&str> = words.split(' ').chain(["--reason", "a test"]).collect();
        world.cli("admin", &words).ok();
        let refused = me(&world, &grid, "john", &[]).expect(403);
        assert_eq!(refused.problem(), kind, "{}", refused.text());
        if kind != "account_deleted" {
            world.cli("admin", &["user", "resume", "imense", "john"]).ok();
            me(&world, &grid, "john", &[]).expect(200);
        }
    }
}

#[test]
fn a14_a_proxy_of_a_trusted_ca_logs_in_as_its_end_entity_and_a_revoked_one_does_not() {
    let (world, grid) = world();
    grid.person("jsmith");
    grid.proxy("proxy", "jsmith", "proxy");
    grid.proxy("second", "proxy", "proxy");
    grid.proxy("limited", "jsmith", "limited");
    // Trusted, and nobody's.
    let stranger = me(&world, &grid, "jsmith", &[]).expect(401);
    assert!(
        stranger.text().contains("no account is linked"),
        "{}",
        stranger.text()
    );
    link(&world, &grid, "jsmith");
    for name in ["jsmith", "proxy", "second"] {
        let who = me(&world, &grid, name, &[]).expect(200).json();
        assert_eq!(who["username"], "john", "{name}");
    }
    // HTTP/1.1 as well as HTTP/2.
    me(&world, &grid, "proxy", &["--http1.1"]).expect(200);
    let limited = me(&world, &grid, "limited", &[]).expect(401);
    assert!(limited.text().contains("limited"), "{}", limited.text());
    // Her sessions say how she came, and the record which certificate it was.
    let sessions = world.cli_json("john", &["session", "list"]);
    let kinds: Vec<&str> = sessions["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["kind"].as_str())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "certificate").count(),
        3,
        "{sessions}"
    );
    let der = grid.openssl("x509 -in jsmith.pem -noout -fingerprint -sha256");
    let hash = der
        .trim()
        .rsplit('=')
        .next()
        .unwrap()
        .replace(':', "")
        .to_lowercase();
    let logins: Vec<serde_json::Value> = world
        .records()
        .into_iter()
        .map(|record| record["event"]["login"].clone())
        .filter(|login| login["certificate"] == hash.as_str())
        .collect();
    assert_eq!(logins.len(), 3);
    assert!(
        logins.iter().all(|login| login["methods"][0] == "pop"),
        "{logins:?}"
    );
    // A connection that is open is no way round: the request after the list names her is refused.
    let mut kept = Kept::open(&world, &grid, "proxy");
    let (status, connection) = kept.ask();
    assert_eq!(status, 200);
    grid.revoke("jsmith");
    let same = until("the revocation list to be read", || {
        let (status, connection) = kept.ask();
        (status == 401).then_some(connection)
    });
    assert_eq!(same, connection);
    // And there is no new connection, with her certificate or with any proxy below it.
    for name in ["jsmith", "proxy", "second"] {
        assert_eq!(me(&world, &grid, name, &["--no-fail"]).status, 0, "{name}");
    }
}

#[test]
fn a14_only_the_listener_for_certificates_asks_for_one_and_it_takes_nothing_else() {
    let (world, grid) = world();
    grid.person("jsmith");
    link(&world, &grid, "jsmith");
    let other = Grid::new(&world.dir.path().join("other"));
    other.person("jsmith");
    // The same names from another CA, and no certificate at all: no connection.
    assert_eq!(me(&world, &other, "jsmith", &[]).status, 0);
    let url = format!("https://gw.localhost:{}/api/v1/me", port(&world));
    let bearer = format!("Authorization: Bearer {}", world.token("john"));
    assert_eq!(world.curl(&["-H", &bearer, &url]).status, 0);
    // Another credential beside it is refused.
    let both = me(&world, &grid, "jsmith", &["-H", &bearer]).expect(400);
    assert_eq!(both.problem(), "two_credentials");
    // TLS 1.2 is not spoken.
    assert_eq!(me(&world, &grid, "jsmith", &["--tls-max", "1.2"]).status, 0);
    // A request for another host than the connection's, or for the other listener's port, is sent away.
    for host in [
        format!("jobs.gw.localhost:{}", port(&world)),
        format!("gw.localhost:{}", world.port()),
    ] {
        let header = format!("Host: {host}");
        assert_eq!(
            me(&world, &grid, "jsmith", &["--http1.1", "-H", &header]).status,
            421,
            "{host}"
        );
    }
    // The host is one of this gateway's, and not the one that the connection was opened for.
    let (all, key) = (grid.file("jsmith.all"), grid.file("jsmith.key"));
    let url = format!("https://jobs.gw.localhost:{}/api/v1/me", port(&world));
    let header = format!("Host: gw.localhost:{}", port(&world));
    let other = world.curl(&["--http1.1", "--cert", &all, "--key", &key, "-H", &header, &url]);
    assert_eq!(other.expect(421).problem(), "unknown_host");
    // A page of another site cannot use the certificate that a browser shows by itself.
    let foreign = ["-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: cors"];
    assert_eq!(
        me(&world, &grid, "jsmith", &foreign).expect(403).problem(),
        "foreign_origin"
    );
    // On the listener for everybody a certificate is not asked for and counts for nothing.
    let main = format!("{}/api/v1/me", world.base());
    assert_eq!(world.curl(&["--cert", &all, "--key", &key, &main]).status, 401);
}

#[test]
fn a14_an_account_that_is_suspended_or_a_certificate_that_is_unlinked_or_marked_lets_nobody_in_at_once() {
    let (world, grid) = world();
    grid.person("jsmith");
    grid.proxy("proxy", "jsmith", "proxy");
    let id = link(&world, &grid, "jsmith");
    let mut kept = Kept::open(&world, &grid, "proxy");
    assert_eq!(kept.ask().0, 200);
    let refused_at_once = |kept: &mut Kept, args: &[&str]| {
        let done = world.cli("admin", args).ok();
        let status = kept.ask().0;
        assert!(
            [401, 403].contains(&status),
            "{status} after {args:?}: {}",
            done.stdout
        );
    };
    refused_at_once(&mut kept, &["user", "suspend", "imense", "john"]);
    world.cli("admin", &["user", "resume", "imense", "john"]).ok();
    assert_eq!(kept.ask().0, 200);
    let note = [
        "user",
        "certificate",
        "mark",
        "imense",
        "john",
        &id,
        "--note",
        "key on a stolen laptop",
    ];
    refused_at_once(&mut kept, &note);
    let listed = world.cli_json("admin", &["user", "certificate", "list", "imense", "john"]);
    assert_eq!(listed["certificates"][0]["state"], "compromised");
    assert_eq!(listed["certificates"][0]["note"], "key on a stolen laptop");
    world
        .cli("admin", &["user", "certificate", "remove", "imense", "john", &id])
        .ok();
    // The mark is not washed off with the link: not for him, not for another account, not with a proxy around it.
    world.person("mary", &["scientist"]);
    for (user, file) in [
        ("john", "jsmith.pem"),
        ("mary", "jsmith.pem"),
        ("john", "proxy.all"),
    ] {
        let again = add(&world, &grid, (user, "jsmith"), file);
        assert_ne!(again.code, 0);
        let marked = again.stderr.contains("marked as compromised") && again.stderr.contains(&id);
        assert!(marked, "{}", again.stderr);
    }
    // An administrator of the virtual organisation alone does not lift it, a system administrator does.
    world
        .cli("admin", &["role", "assign", "imense", "vo-administrator", "mary"])
        .ok();
    let clear = ["user", "certificate", "clear", &id];
    assert_eq!(world.cli("mary", &clear).code, 3);
    world.cli("admin", &clear).ok();
    link(&world, &grid, "jsmith");
    assert_eq!(kept.ask().0, 200);
    let listed = world.cli_json("admin", &["user", "certificate", "list", "imense", "john"]);
    let id = listed["certificates"][0]["id"].as_str().unwrap().to_owned();
    refused_at_once(
        &mut kept,
        &["user", "certificate", "remove", "imense", "john", &id],
    );
}

#[test]
fn a_certificate_leads_to_one_account_and_never_the_private_key_to_the_gateway() {
    let (world, grid) = world();
    world.person("mary", &["scientist"]);
    grid.person("jsmith");
    // A whole proxy file, key included: the command sends the certificates alone.
    grid.proxy("proxy", "jsmith", "proxy");
    let (all, key) = (grid.file("proxy.all"), grid.file("proxy.key"));
    fs::write(
        grid.file("x509up"),
        fs::read_to_string(all).unwrap() + &fs::read_to_string(key).unwrap(),
    )
    .unwrap();
    add(&world, &grid, ("john", "jsmith"), "x509up").ok();
    let again = add(&world, &grid, ("mary", "jsmith"), "jsmith.pem");
    assert_ne!(again.code, 0);
    assert!(
        again.stderr.contains("linked to an account already"),
        "{}",
        again.stderr
    );
    // A CA is nobody, and who is no administrator links nothing.
    let ca = world.cli(
        "admin",
        &[
            "user",
            "certificate",
            "add",
            "imense",
            "mary",
            &grid.file("ca.pem"),
        ],
    );
    assert!(ca.stderr.contains("no end entity"), "{}", ca.stderr);
    let own = world.cli(
        "mary",
        &[
            "user",
            "certificate",
            "add",
            "imense",
            "mary",
            &grid.file("jsmith.pem"),
        ],
    );
    assert_ne!(own.code, 0);
    // No name of hers stands in the log: it cannot be taken out again.
    let records = serde_json::to_string(&world.records()).unwrap();
    assert!(records.contains("user.add_certificate") && !records.contains("CN=jsmith"));
}

#[test]
fn a_certificate_that_could_not_sign_in_is_linked_to_nobody() {
    let (world, grid) = world();
    let refused = |file: &str| {
        let added = world.cli("admin", &["user", "certificate", "add", "imense", "john", file]);
        assert_ne!(added.code, 0, "{}", added.stdout);
        added.stderr
    };
    // From another CA of the same name, which anybody can make.
    let other = Grid::new(&world.dir.path().join("other"));
    other.person("jsmith");
    let said = refused(&other.file("jsmith.pem"));
    assert!(said.contains("could not sign in"), "{said}");
    // Revoked by its own: once the gateway knows that, which who was linked before shows.
    grid.person("gone");
    let id = link(&world, &grid, "gone");
    me(&world, &grid, "gone", &[]).expect(200);
    grid.revoke("gone");
    until("the revocation list to be read", || {
        (me(&world, &grid, "gone", &[]).status == 0).then_some(())
    });
    world
        .cli("admin", &["user", "certificate", "remove", "imense", "john", &id])
        .ok();
    let said = refused(&grid.file("gone.pem"));
    assert!(said.contains("revoked"), "{said}");
    // The proxy is not what is linked: it may have ended.
    grid.person("jsmith");
    grid.proxy("proxy", "jsmith", "proxy");
    add(&world, &grid, ("john", "jsmith"), "proxy.all").ok();
}

#[test]
fn without_trusted_authorities_no_certificate_is_linked() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let grid = Grid::new(&world.dir.path().join("grid"));
    grid.person("jsmith");
    let file = grid.file("jsmith.pem");
    let added = world.cli("admin", &["user", "certificate", "add", "imense", "john", &file]);
    assert_ne!(added.code, 0);
    assert!(
        added.stderr.contains("[certificate_listener]"),
        "{}",
        added.stderr
    );
}

#[test]
fn what_is_a_vo_certificate_is_nobodys_login_at_import_at_link_and_at_login() {
    let (world, grid) = world();
    grid.person("vo");
    let id = link(&world, &grid, "vo");
    me(&world, &grid, "vo", &[]).expect(200);
    // It is a login already: no VO certificate, nor is another one with the same key.
    let (pem, key) = (grid.file("vo.pem"), grid.file("vo.key"));
    let refused = crate::delegate::import(&world, &pem, &key);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("signs in with"), "{}", refused.stderr);
    grid.openssl("req -x509 -new -key vo.key -subj /O=Grid/CN=other -days 20 -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature -out same-key.pem");
    let refused = crate::delegate::import(&world, &grid.file("same-key.pem"), &key);
    assert!(refused.stderr.contains("signs in with"), "{}", refused.stderr);
    world
        .cli("admin", &["user", "certificate", "remove", "imense", "john", &id])
        .ok();
    crate::delegate::import(&world, &pem, &key).ok();
    // From then on it is linked to nobody.
    let linked = add(&world, &grid, ("john", "vo"), "vo.pem");
    assert_ne!(linked.code, 0);
    assert!(
        linked.stderr.contains("virtual organisation"),
        "{}",
        linked.stderr
    );
    // Nor is another one that the same CA gives under that name.
    for file in ["vo.pem", "vo.all", "vo.key"] {
        fs::copy(grid.file(file), grid.file(&format!("first-{file}"))).unwrap();
    }
    grid.person("vo");
    let linked = add(&world, &grid, ("john", "vo"), "vo.pem");
    assert!(
        linked.code != 0 && linked.stderr.contains("virtual organisation"),
        "{}",
        linked.stderr
    );
    for file in ["vo.pem", "vo.all", "vo.key"] {
        fs::copy(grid.file(&format!("first-{file}")), grid.file(file)).unwrap();
    }
    // And where the store says otherwise, it lets nobody in.
    world.write_store("UPDATE person_certificate SET ended_at = NULL");
    let refused = me(&world, &grid, "vo", &[]).expect(401);
    assert!(
        refused.text().contains("virtual organisation"),
        "{}",
        refused.text()
    );
}

#[test]
fn a_certificate_is_linked_where_its_own_key_asks_for_this_very_account_and_no_other() {
    let (world, grid) = world();
    world.person("zoe", &["scientist"]);
    grid.openssl(
        "req -new -newkey rsa:2048 -nodes -keyout userkey.pem -out jsmith.csr -subj /O=Grid/CN=jsmith",
    );
    grid.openssl(
        "x509 -req -in jsmith.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -extfile x.cnf -extensions person -out jsmith.pem",
    );
    fs::copy(grid.file("jsmith.pem"), grid.file("jsmith.all")).unwrap();
    fs::copy(grid.file("userkey.pem"), grid.file("jsmith.key")).unwrap();
    grid.person("zoe");
    // His public certificate is all that is needed to try: without his key, with another one, with what he signed for himself.
    let file = grid.file("jsmith.pem");
    let public = ["user", "certificate", "add", "imense", "zoe", &file];
    let (certificate, key) = (grid.file("jsmith.pem"), grid.file("zoe.key"));
    let hers = prove(&grid.0, (&certificate, &key), "zoe");
    let his = grid.proof("jsmith", "john");
    for (proof, flaw) in [
        (None, "is missing"),
        (Some(&hers), "was not made by the key"),
        (Some(&his), "was not made by the key"),
    ] {
        let proof = proof.map(|proof| vec!["--proof", proof]).unwrap_or_default();
        let refused = world.cli("admin", &[&public[..], &proof].concat());
        assert_ne!(refused.code, 0, "{}", refused.stdout);
        assert!(refused.stderr.contains(flaw), "{}", refused.stderr);
    }
    me(&world, &grid, "jsmith", &[]).expect(401);
    // The refusal has the command that he runs.
    let asked = world.cli("admin", &["user", "certificate", "add", "imense", "john", &file]);
    let (_, command) = asked.stderr.split_once("printf ").expect("a command");
    let (command, _) = command.split_once("-out proof").expect("the whole of it");
    let made = Command::new("sh")
        .args(["-c", &format!("printf {command}-out proof")])
        .current_dir(&grid.0)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let proof = grid.file("proof");
    let args = [
        "user",
        "certificate",
        "add",
        "imense",
        "john",
        &file,
        "--proof",
        &proof,
    ];
    world.cli("admin", &args).ok();
    let who = me(&world, &grid, "jsmith", &[]).expect(200).json();
    assert_eq!(who["username"], "john");
}

/// A certificate of this name that its holder made herself, with `own.key`.
fn own_as(grid: &Grid, name: &str) -> String {
    grid.openssl(&format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 20 -keyout own.key -out own.pem -subj /O=Grid/CN={name} \
         -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature"
    ));
    grid.file("own.pem")
}

#[test]
fn a_vo_certificate_that_names_itself_as_a_ca_or_a_person_keeps_nobody_out() {
    let mut world = World::initialised();
    let grid = Grid::new(&world.dir.path().join("grid"));
    world.serve();
    world.admin().person("john", &["scientist"]);
    grid.person("jsmith");
    // While no CA is trusted here nothing is known of names.
    for name in ["CA", "jsmith"] {
        crate::delegate::import(&world, &own_as(&grid, name), &grid.file("own.key")).ok();
    }
    world.stop();
    listen(&world, &grid.trust());
    world.serve();
    world.login("admin", PASSWORD).ok();
    let id = link(&world, &grid, "jsmith");
    let who = me(&world, &grid, "jsmith", &[]).expect(200).json();
    assert_eq!(who["username"], "john");
    world
        .cli("admin", &["user", "certificate", "remove", "imense", "john", &id])
        .ok();
    // From then on a CA's name is refused, in whatever case.
    for name in ["CA", "ca"] {
        let refused = crate::delegate::import(&world, &own_as(&grid, name), &grid.file("own.key"));
        assert_ne!(refused.code, 0);
        assert!(
            refused.stderr.contains("is the name of a CA"),
            "{}",
            refused.stderr
        );
    }
}

#[test]
fn the_name_that_a_ca_gave_one_vo_for_its_tools_is_not_anothers_for_downloads() {
    let (world, grid) = world();
    grid.person("robot");
    let (certificate, key) = (grid.file("robot.pem"), grid.file("robot.key"));
    world
        .cli("admin", &["vo", "create", "lab", "--admin", "admin"])
        .ok();
    let import = |vo: &str, purpose: &str, certificate: &str, key: &str| {
        let files = ["--certificate", certificate, "--key", key, "--use", purpose];
        world.cli(
            "admin",
            &[&["vo", "certificate", "import", vo][..], &files].concat(),
        )
    };
    import("lab", "tools", &certificate, &key).ok();
    // Renewed, with another key; and one of that name that anybody can make.
    grid.person("robot");
    let renewed = (certificate, key);
    for (certificate, key) in [renewed, (own_as(&grid, "robot"), grid.file("own.key"))] {
        let refused = import("imense", "download", &certificate, &key);
        assert!(
            refused.code != 0
                && refused
                    .stderr
                    .contains("is the subject of a certificate for `tools` already"),
            "{}",
            refused.stderr
        );
    }
}

/// What `/readyz` says.
fn ready(world: &World) -> (u16, String) {
    let answer = world.curl(&[&format!("http://{}/readyz", world.operations())]);
    (answer.status, answer.text())
}

/// Waits until `/readyz`, which stays green, does or does not say something of certificates.
fn noted(world: &World, what: &str, is_there: bool) {
    until(&format!("`{what}` to be noted: {is_there}"), || {
        let (status, text) = ready(world);
        assert_eq!(status, 200, "{text}");
        (text.contains(what) == is_there).then_some(())
    });
}

#[test]
fn a_damaged_list_closes_the_listener_for_certificates_and_nothing_else() {
    let mut world = World::initialised();
    let grid = Grid::new(&world.dir.path().join("grid"));
    let damaged = grid.0.join("trust/damaged.crl");
    fs::write(
        &damaged,
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    )
    .unwrap();
    listen(&world, &grid.trust());
    let data = world.data();
    let args = ["serve", "--check-config", "--data", data.to_str().unwrap()];
    let checked = world.cli("admin", &args).ok();
    let said = checked.stdout + &checked.stderr;
    assert!(
        said.contains("nobody can sign in with a certificate") && said.contains("damaged.crl"),
        "{said}"
    );
    world.serve();
    world.admin().person("john", &["scientist"]);
    grid.person("jsmith");
    noted(&world, "note: certificates: nobody can sign in", true);
    assert!(world.log().contains("damaged.crl"), "{}", world.log());
    assert_eq!(me(&world, &grid, "jsmith", &["--no-fail"]).status, 0);
    world.call("john", "GET", "/api/v1/me", None).expect(200);
    // Mended, it opens by itself.
    fs::remove_file(&damaged).unwrap();
    noted(&world, "certificates", false);
    link(&world, &grid, "jsmith");
    me(&world, &grid, "jsmith", &[]).expect(200);
}

#[test]
fn a_list_that_is_gone_or_older_lets_nobody_in_who_was_kept_out() {
    let (world, grid) = world();
    for name in ["jsmith", "mary"] {
        grid.person(name);
    }
    link(&world, &grid, "mary");
    link(&world, &grid, "jsmith");
    let list = grid.0.join("trust/ca.crl");
    let older = fs::read(&list).unwrap();
    grid.revoke("jsmith");
    let newest = fs::read(&list).unwrap();
    until("the revocation list to be read", || {
        (me(&world, &grid, "jsmith", &[]).status == 0).then_some(())
    });
    for (content, said) in [
        (None, "there is no revocation list of"),
        (Some(&older), "is older than"),
    ] {
        match content {
            None => fs::remove_file(&list).unwrap(),
            Some(content) => fs::write(&list, content).unwrap(),
        }
        until(&format!("`{said}` to be logged"), || {
            world.log().contains(said).then_some(())
        });
        noted(
            &world,
            "note: certificates: CAs and revocation lists are those",
            true,
        );
        assert_eq!(me(&world, &grid, "jsmith", &[]).status, 0);
        me(&world, &grid, "mary", &[]).expect(200);
    }
    fs::write(&list, newest).unwrap();
    noted(&world, "certificates", false);
    assert_eq!(me(&world, &grid, "jsmith", &[]).status, 0);
}

#[test]
fn a_marked_certificate_that_keeps_knocking_is_counted_and_has_one_record_a_minute() {
    let (mut world, grid) = world();
    grid.person("jsmith");
    let id = link(&world, &grid, "jsmith");
    let mut kept = Kept::open(&world, &grid, "jsmith");
    assert_eq!(kept.ask().0, 200);
    let mark = [
        "user",
        "certificate",
        "mark",
        "imense",
        "john",
        &id,
        "--note",
        "key on a stolen laptop",
    ];
    world.cli("admin", &mark).ok();
    const KNOCKS: u64 = 40;
    for _ in 0..KNOCKS {
        assert_eq!(kept.ask().0, 401);
    }
    drop(kept);
    // What was counted is written with the end of the minute, or of the gateway.
    world.stop();
    let (mut own, mut counted) = (0, 0);
    for record in world.records() {
        let refused = &record["event"]["refused"];
        own += u64::from(refused["subject"]["methods"][0] == "pop");
        let strangers = &record["event"]["strangers"];
        if strangers["problem"] == "wrong_credential" {
            counted += strangers["count"].as_u64().unwrap();
        }
    }
    assert_eq!(own + counted, KNOCKS, "none is lost");
    // A new minute may have begun in between.
    assert!((1..=2).contains(&own), "{own}");
}
