//! Bad input: each is refused with what is wrong, where, and what is accepted; and nothing has changed afterwards.

use std::fs;
use std::path::Path;

use crate::world::World;

/// Every row of every table, and the names of all files. Left out: sessions and logins, the counts of denials, and the spares
/// that the log makes ready by itself.
fn state(world: &World) -> (String, Vec<String>) {
    const PROGRAM: &str = r#"
left_out = {"session", "login_count", "alert_denial", "alert_turn"}
for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
    if table not in left_out:
        for row in sorted(map(repr, store.execute(f'SELECT * FROM "{table}"'))):
            print(table, row)
"#;
    let tables = world.read_store(PROGRAM);
    assert!(
        tables.contains("\nrole ") && tables.contains("\nupstream "),
        "{tables}"
    );
    let mut files = Vec::new();
    walk(&world.data(), &mut files);
    files.sort();
    (tables, files)
}

fn walk(folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        }
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("spare-") {
            files.push(path.display().to_string());
        }
    }
}

/// A command that must fail.
struct Bad<'a> {
    args: Vec<&'a str>,
    code: i32,
    says: &'a [&'a str],
}

fn bad<'a>(args: &[&'a str], code: i32, says: &'a [&'a str]) -> Bad<'a> {
    let args = args.to_vec();
    Bad { args, code, says }
}

/// Runs each; whatever is not as claimed is told at once.
fn check(world: &World, cases: &[Bad<'_>]) {
    let mut before = state(world);
    let mut wrong = Vec::new();
    for Bad { args, code, says } in cases {
        let ran = world.cli("admin", args);
        let told = format!(
            "countersign {}\n  exit code {}\n  {}",
            args.join(" "),
            ran.code,
            ran.stderr
        );
        if ran.code != *code {
            wrong.push(format!("exit code {code} expected: {told}"));
        }
        for part in says.iter().filter(|part| !ran.stderr.contains(**part)) {
            wrong.push(format!("`{part}` is not said: {told}"));
        }
        if ran.stderr.contains("panicked") || !ran.stdout.is_empty() {
            wrong.push(format!("not a plain refusal: {told}{}", ran.stdout));
        }
        let after = state(world);
        if after != before {
            wrong.push(format!("something has changed: {told}"));
            before = after;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn file(world: &World, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = world.dir.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const TOOL: &str = "[tool]\nname = \"bench\"\nupstream = \"segmentation\"\ndelegation = \"none\"\n";

#[test]
fn a_broken_manifest_is_refused_with_file_line_and_accepted_form() {
    let mut world = World::start();
    world.admin();
    world.segmentation();
    let task = "\n[[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n";
    let write = |name: &str, text: &str| file(&world, name, text);
    let toml = write("toml.toml", "[tool]\nname = \"bench\"\nupstream =\n");
    let key = write("key.toml", &TOOL.replace("delegation", "delegaton"));
    let kind = write(
        "kind.toml",
        &(TOOL.to_owned() + &task.replace("\"read\"", "\"reed\"")),
    );
    let method = write(
        "method.toml",
        &(TOOL.to_owned() + &task.replace("GET /look", "look")),
    );
    let variable = write(
        "variable.toml",
        &(TOOL.to_owned() + &task.replace("/look", "/look/{id:number}")),
    );
    let twice = write(
        "twice.toml",
        &(TOOL.to_owned() + task + &task.replace("\"look\"", "\"peek\"")),
    );
    let upstream = write(
        "upstream.toml",
        &(TOOL.replace("segmentation", "elsewhere") + task),
    );
    let way = write("way.toml", &(TOOL.replace("\"none\"", "\"kerberos\"") + task));
    let name = write("name.toml", &(TOOL.replace("\"bench\"", "\"Bench No 1\"") + task));
    let several = write(
        "several.toml",
        &(TOOL.replace("\"none\"", "\"kerberos\"") + &task.replace("\"read\"", "\"reed\"")),
    );
    let plain = write(
        "plain.toml",
        &(TOOL.replace("\"none\"", "\"client-certificate\"") + task),
    );
    let host = write(
        "host.toml",
        &(TOOL.to_owned() + "hosts = [\"bench.example.org\"]\n" + task),
    );
    let taken = write(
        "taken.toml",
        &(TOOL.to_owned() + "hosts = [\"segmentation.gw.localhost\"]\n" + task),
    );
    let bytes = file(&world, "bytes.toml", [0xff, 0xfe, 0x00]);
    let folder = world.dir.path().to_str().unwrap();
    check(
        &world,
        &[
            bad(&["tool", "add", "imense", &toml], 1, &["toml.toml:3"]),
            bad(
                &["tool", "add", "imense", &key],
                1,
                &["key.toml:4", "`tool.delegaton`"],
            ),
            bad(
                &["tool", "add", "imense", &kind],
                1,
                &["kind.toml:9", "kind", "read"],
            ),
            bad(
                &["tool", "add", "imense", &method],
                1,
                &["method.toml:8", "match"],
            ),
            bad(
                &["tool", "add", "imense", &variable],
                1,
                &["variable.toml:8", "number", "int"],
            ),
            bad(&["tool", "add", "imense", &twice], 1, &["`look`", "`peek`"]),
            bad(&["tool", "add", "imense", &upstream], 1, &["`elsewhere`"]),
            bad(&["tool", "add", "imense", &way], 1, &["way.toml:4", "assertion"]),
            bad(&["tool", "add", "imense", &name], 1, &["name.toml:2"]),
            bad(
                &["tool", "add", "imense", &several],
                1,
                &["several.toml:4", "several.toml:9"],
            ),
            // What is refused when a tool is added is refused when it is tried.
            bad(
                &["tool", "add", "imense", &plain],
                1,
                &["client-certificate", "`https://`"],
            ),
            bad(
                &["tool", "try", "imense", &plain],
                1,
                &["client-certificate", "`https://`"],
            ),
            bad(&["tool", "try", "imense", &upstream], 1, &["`elsewhere`"]),
            bad(
                &["tool", "try", "imense", &host],
                1,
                &["directly below `gw.localhost`"],
            ),
            bad(
                &["tool", "try", "imense", &taken],
                1,
                &["belongs to another tool"],
            ),
            bad(&["tool", "add", "imense", &bytes], 1, &["bytes.toml", "UTF-8"]),
            bad(&["tool", "add", "imense", folder], 1, &[folder]),
            bad(
                &["tool", "add", "imense", "/nonexistent/m.toml"],
                4,
                &["/nonexistent/m.toml"],
            ),
        ],
    );
}

#[test]
fn bad_grants_roles_and_people_are_refused_with_what_is_accepted() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let grant = [
        "grant",
        "add",
        "imense",
        "scientist",
        "segmentation",
        "monitor job",
        "--when",
    ];
    let when = |condition| [&grant[..], &[condition]].concat();
    check(
        &world,
        &[
            bad(
                &when("resource.owner =="),
                1,
                &["not an expression", "line 1, column"],
            ),
            bad(&when("true) || (true"), 1, &["not an expression"]),
            bad(&when("resource.nonsense == 1"), 1, &["does not fit", "nonsense"]),
            bad(
                &when("resource has ward && resource.ward == \"A3\""),
                1,
                &["does not fit", "`resource.ward`", "declared:", "owner"],
            ),
            bad(
                &when("context has colour || resource.owner == principal"),
                1,
                &["`context.colour`", "mfa"],
            ),
            bad(
                &[
                    "grant",
                    "add",
                    "imense",
                    "scientist",
                    "segmentation",
                    "submit job",
                    "--when",
                    "own",
                ],
                1,
                &["`submit job`", "leave the condition out"],
            ),
            bad(
                &["grant", "add", "imense", "scientist", "nothing", "look"],
                4,
                &["`nothing`"],
            ),
            bad(
                &["grant", "add", "imense", "scientist", "segmentation", "look"],
                4,
                &["`segmentation`", "`look`"],
            ),
            bad(
                &["grant", "add", "imense", "nobody", "segmentation", "list jobs"],
                4,
                &["`nobody`"],
            ),
            bad(&["grant", "remove", "imense", "nonsense"], 2, &["'nonsense'"]),
            bad(&["grant", "add", "imense"], 2, &["Usage"]),
            bad(
                &["role", "create", "imense", "Not A Name"],
                1,
                &["`Not A Name`", "lower-case letters"],
            ),
            bad(&["role", "create", "imense", "scientist"], 1, &["scientist"]),
            bad(
                &["role", "assign", "imense", "scientist", "nobody"],
                4,
                &["`nobody`"],
            ),
            bad(
                &["role", "assign", "imense", "nothing", "john"],
                4,
                &["`nothing`"],
            ),
            bad(
                &[
                    "role",
                    "assign",
                    "imense",
                    "scientist",
                    "admin",
                    "--until",
                    "tomorrow",
                ],
                2,
                &["2030-01-31T12:00:00Z"],
            ),
            bad(&["user", "show", "imense", "nobody"], 4, &["`nobody`"]),
            bad(&["user", "remove", "imense", "nobody"], 4, &["`nobody`"]),
            bad(&["user", "reset-password", "imense", "nobody"], 4, &["`nobody`"]),
            bad(&["user", "add", "imense", "john"], 1, &["john"]),
            bad(
                &["user", "add", "imense", "Not A Name"],
                1,
                &["`Not A Name`", "lower-case letters"],
            ),
            bad(
                &["user", "add", "imense", "eve", "--mail", "nonsense"],
                1,
                &["`mail`"],
            ),
            bad(
                &["user", "add", "imense", "eve", "--role", "nothing"],
                4,
                &["`nothing`"],
            ),
            bad(&["user", "list", "nowhere"], 3, &["nowhere"]),
            bad(&["vo", "show", "nowhere"], 3, &["nowhere"]),
            bad(&["vo", "create", "imense", "--admin", "admin"], 1, &["imense"]),
            bad(
                &["vo", "create", "Not A Name", "--admin", "admin"],
                1,
                &["`Not A Name`", "lower-case letters"],
            ),
            bad(&["tool", "show", "imense", "nothing"], 4, &["`nothing`"]),
            bad(&["tool", "remove", "imense", "nothing"], 4, &["`nothing`"]),
            bad(
                &["tool", "try", "imense", "segmentation", "--request", "nonsense"],
                1,
                &["`nonsense`", "`GET /jobs/7`"],
            ),
            bad(
                &["audit", "search", "--vo", "imense", "--event", "denial"],
                2,
                &["'denial'", "refused", "session_ended"],
            ),
            bad(&["request", "explain", "nonsense"], 2, &["'nonsense'"]),
            bad(
                &["trace", "nonsense", "--vo", "imense"],
                1,
                &["accepted: a certificate"],
            ),
        ],
    );
}

#[test]
fn bad_addresses_files_and_certificates_are_refused_with_what_is_accepted() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let write = |name: &str, text: &str| file(&world, name, text);
    let column = write("column.csv", "type,id,proprietor\njob,1,john\n");
    let kind = write("kind.csv", "type,id,owner\njob,1,john\nwork,2,john\n");
    let owner = write("owner.csv", "type,id,owner\njob,1,john\njob,2,nobody\n");
    let short = write("short.csv", "type,id,owner\njob,1\n");
    let empty = write("empty.csv", "");
    let certificate = |name: &str, from: i64, to: i64| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut form = rcgen::CertificateParams::default();
        form.distinguished_name = rcgen::DistinguishedName::new();
        form.distinguished_name
            .push(rcgen::DnType::CommonName, "VO imense");
        form.is_ca = rcgen::IsCa::ExplicitNoCa;
        form.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        let now = time::OffsetDateTime::now_utc();
        form.not_before = now + time::Duration::hours(from);
        form.not_after = now + time::Duration::hours(to);
        let made = form.self_signed(&key).unwrap();
        (
            write(&format!("{name}.pem"), &made.pem()),
            write(&format!("{name}.key"), &key.serialize_pem()),
        )
    };
    let (expired, future) = (certificate("expired", -48, -24), certificate("future", 24, 48));
    let forms = &["`http://HOST[:PORT]`", "`https://HOST[:PORT]`", "`unix:/PATH`"];
    let allow = |url| ["upstream", "allow", "imense", "bench", url];
    check(
        &world,
        &[
            bad(
                &allow("ftp://127.0.0.1"),
                1,
                &[forms[0], forms[1], forms[2], "ftp://127.0.0.1"],
            ),
            bad(&allow("127.0.0.1:80"), 1, forms),
            bad(&allow("http://127.0.0.1:99999"), 1, &["99999"]),
            bad(&allow("http://user:secret@127.0.0.1"), 1, &["HOST"]),
            bad(&allow(&world.base()), 1, &[&world.base(), "this gateway itself"]),
            bad(
                &allow(&world.base().replace("gw.localhost", "127.0.0.1")),
                1,
                &["this gateway itself"],
            ),
            bad(
                &allow(&format!("http://{}", world.operations())),
                1,
                &["this gateway itself"],
            ),
            bad(&allow("unix:tool.sock"), 1, &["tool.sock", "absolute path"]),
            bad(&["upstream", "remove", "imense", "nothing"], 4, &["`nothing`"]),
            bad(
                &[
                    "upstream",
                    "allow",
                    "imense",
                    "bench",
                    "https://127.0.0.1",
                    "--ca",
                    &empty,
                ],
                1,
                &["PEM"],
            ),
            bad(
                &["resource", "import", "imense", "segmentation", &column],
                1,
                &["line 1", "proprietor", "type,id,owner"],
            ),
            bad(
                &["resource", "import", "imense", "segmentation", &kind],
                1,
                &["line 3", "`work`", "job"],
            ),
            bad(
                &["resource", "import", "imense", "segmentation", &owner],
                1,
                &["line 3", "`nobody`"],
            ),
            bad(
                &["resource", "import", "imense", "segmentation", &short],
                1,
                &["line 2"],
            ),
            bad(
                &["resource", "import", "imense", "segmentation", &empty],
                1,
                &["type,id"],
            ),
            bad(
                &["resource", "import", "imense", "nothing", &kind],
                4,
                &["`nothing`"],
            ),
            bad(
                &["resource", "import", "imense", "segmentation", "/nonexistent.csv"],
                4,
                &["/nonexistent.csv"],
            ),
            bad(
                &[
                    "vo",
                    "certificate",
                    "import",
                    "imense",
                    "--certificate",
                    &expired.0,
                    "--key",
                    &expired.1,
                ],
                1,
                &["certificate", "expired"],
            ),
            bad(
                &[
                    "vo",
                    "certificate",
                    "import",
                    "imense",
                    "--certificate",
                    &future.0,
                    "--key",
                    &future.1,
                ],
                1,
                &["certificate", "notBefore"],
            ),
            bad(
                &[
                    "vo",
                    "certificate",
                    "import",
                    "imense",
                    "--certificate",
                    &future.1,
                    "--key",
                    &future.1,
                ],
                1,
                &["certificate"],
            ),
        ],
    );
}
