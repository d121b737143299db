//! Feature rows H1 to H3: from whatever a provider found to one person, also long after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::delegate::{import, keeper, openssl_key};
use crate::proof::{check, text};
use crate::time::Hand;
use crate::world::{PASSWORD, World};

/// A tool that keeps the proxies it is given, and a person who calls it; gives the folder.
pub struct Kept {
    pub folder: PathBuf,
    _tool: crate::delegate::HeaderTool,
}

impl Kept {
    pub fn at(world: &World, name: &str) -> Self {
        let (tool, folder) = keeper(world, name, "pem");
        Self { folder, _tool: tool }
    }

    /// The file of the proxy that `user` calls the tool with now, and the id of the request.
    pub fn proxy_of(&self, world: &World, tool: &str, user: &str) -> (PathBuf, String) {
        let answer = world
            .call(user, "GET", &format!("/imense/{tool}/look"), None)
            .expect(200);
        let id = answer.request_id();
        let file = self.folder.join(format!("{id}.pem"));
        fs::copy(self.folder.join("proxy.pem"), &file).unwrap();
        (file, id)
    }
}

/// What `openssl` prints, as bytes.
pub fn openssl(folder: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl")
        .args(args)
        .current_dir(folder)
        .output()
        .expect("openssl runs (apt-get install openssl)");
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

pub fn line(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap().trim().to_owned()
}

/// Delegates on below the proxy in `above`, as a peer does; gives the new proxy's file, with its key.
fn delegated(folder: &Path, above: &Path, serial: &str) -> PathBuf {
    let path = |end: &str| folder.join(format!("delegated-{serial}.{end}"));
    let (key, request, file) = (path("key"), path("csr"), path("pem"));
    fs::write(
        path("ext"),
        "proxyCertInfo=critical,language:id-ppl-inheritAll\nkeyUsage=critical,digitalSignature\n",
    )
    .unwrap();
    let shown = [
        "x509",
        "-in",
        text(above),
        "-noout",
        "-subject",
        "-nameopt",
        "compat",
    ];
    let subject = line(openssl(folder, &shown));
    let subject = format!("{}/CN={serial}", subject.strip_prefix("subject=").unwrap());
    let new = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let mut args: Vec<&str> = new.split(' ').collect();
    args.extend(["-subj", &subject, "-keyout", text(&key), "-out", text(&request)]);
    openssl(folder, &args);
    let ext = path("ext");
    let mut args: Vec<&str> = "x509 -req -days 1 -set_serial".split(' ').collect();
    args.extend([
        serial,
        "-in",
        text(&request),
        "-CA",
        text(above),
        "-CAkey",
        text(above),
    ]);
    args.extend(["-extfile", text(&ext), "-out", text(&file)]);
    openssl(folder, &args);
    let both = fs::read_to_string(&file).unwrap() + &fs::read_to_string(&key).unwrap();
    fs::write(&file, both).unwrap();
    file
}

/// The certificates of a file, one PEM block each.
pub fn blocks(file: &Path) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let text = fs::read_to_string(file).unwrap();
    let mut blocks: Vec<String> = Vec::new();
    for part in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let (body, _) = part.split_once(END).unwrap();
        blocks.push(format!("-----BEGIN CERTIFICATE-----{body}{END}"));
    }
    blocks
}

pub fn der(folder: &Path, pem: &str) -> Vec<u8> {
    let file = folder.join("one.pem");
    fs::write(&file, pem).unwrap();
    openssl(folder, &["x509", "-in", text(&file), "-outform", "DER"])
}

fn trace(world: &World, query: &str) -> Value {
    world.cli_json("admin", &["trace", query, "--vo", "imense"])
}

/// The one proxy that a trace led to: by what, and whose.
#[track_caller]
fn only(traced: &Value) -> (String, bool, String, String) {
    let proxies = traced["proxies"].as_array().unwrap();
    assert_eq!(proxies.len(), 1, "{traced}");
    let proxy = &proxies[0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        text(&proxy["by"]),
        proxy["proved"].as_bool().unwrap(),
        text(&proxy["person"]["username"]),
        text(&proxy["serial"]),
    )
}

#[test]
fn h1_what_peers_delegated_further_leads_to_the_first_proxy_above_the_vo_certificate() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let (certificate, key) = openssl_key(&world, "vo", &[]);
    import(&world, &certificate, &key).ok();
    let kept = Kept::at(&world, "grid");
    let (hers, _) = kept.proxy_of(&world, "grid", "mary");
    let (ours, _) = kept.proxy_of(&world, "grid", "john");
    let folder = kept.folder.as_path();
    let first = delegated(folder, &ours, "1182");
    let second = delegated(folder, &first, "407");
    // It is a chain that openssl takes, down to the last one.
    let chain: Vec<String> = [&second, &first, &ours]
        .into_iter()
        .flat_map(|file| blocks(file))
        .collect();
    let between = folder.join("between.pem");
    fs::write(&between, chain[1..].concat()).unwrap();
    let verify = [
        "verify",
        "-allow_proxy_certs",
        "-partial_chain",
        "-CAfile",
        &certificate,
    ];
    openssl(
        folder,
        &[&verify[..], &["-untrusted", text(&between), text(&second)]].concat(),
    );

    let shown = ["x509", "-in", text(&ours), "-noout", "-serial"];
    let hexadecimal = line(openssl(folder, &shown)).replace("serial=", "");
    let serial = u64::from_str_radix(&hexadecimal, 16).unwrap().to_string();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        text(&path).to_owned()
    };
    let reversed: Vec<String> = chain.iter().rev().cloned().collect();
    let all_der: Vec<u8> = chain.iter().flat_map(|pem| der(folder, pem)).collect();
    let key = openssl(folder, &["x509", "-in", text(&ours), "-noout", "-pubkey"]);
    let proved = [
        ("certificate", file("chain.pem", chain.concat().as_bytes())),
        ("certificate", file("reversed.pem", reversed.concat().as_bytes())),
        ("certificate", file("chain.der", &all_der)),
        ("certificate", file("ours.der", &der(folder, &chain[2]))),
        ("certificate", text(&ours).to_owned()),
        ("public_key", file("key.pem", &key)),
    ];
    for (by, query) in &proved {
        let expected = ((*by).to_owned(), true, "john".to_owned(), serial.clone());
        assert_eq!(only(&trace(&world, query)), expected, "{query}");
    }
    // What is shown beside it comes from it by its signatures, or is not said to.
    let whole = trace(&world, &file("chain.pem", chain.concat().as_bytes()))["proxies"][0].clone();
    assert_eq!(
        (&whole["delegated"], &whole["beside"]),
        (&2.into(), &0.into()),
        "{whole}"
    );
    let gap = [&chain[0], &chain[2]].map(String::as_str).concat();
    let gap = trace(&world, &file("gap.pem", gap.as_bytes()))["proxies"][0].clone();
    assert_eq!(
        (&gap["proved"], &gap["beside"]),
        (&false.into(), &1.into()),
        "{gap}"
    );
    assert!(gap["says"].as_str().unwrap().starts_with("Not proved"), "{gap}");
    // More than is looked at is refused, not cut.
    let many = file("many.pem", chain[2].repeat(33).as_bytes());
    let refused = world.cli("admin", &["trace", &many, "--vo", "imense"]);
    assert!(
        refused.code != 0 && refused.stderr.contains("at most 32"),
        "{}",
        refused.stderr
    );
    // The last one alone names ours, which proves nothing.
    let alone = file("alone.pem", chain[0].as_bytes());
    let subject = line(openssl(
        folder,
        &["x509", "-in", &alone, "-noout", "-subject", "-nameopt", "compat"],
    ));
    let subject = subject.strip_prefix("subject=").unwrap();
    for (by, query) in [
        ("subject", alone.as_str()),
        ("subject", subject),
        ("serial", &serial),
        ("serial", &format!("0x{hexadecimal}")),
    ] {
        let expected = (by.to_owned(), false, "john".to_owned(), serial.clone());
        assert_eq!(only(&trace(&world, query)), expected, "{query}");
    }
    // A file with two people's proxies is answered for both.
    let both = file("both.pem", [blocks(&hers), chain].concat().concat().as_bytes());
    let traced = trace(&world, &both);
    let people: Vec<&Value> = traced["proxies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|proxy| &proxy["person"]["username"])
        .collect();
    assert_eq!(people, ["mary", "john"]);
}

#[test]
fn h1_many_are_traced_at_once_and_each_is_on_record() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let kept = Kept::at(&world, "grid");
    let (hers, _) = kept.proxy_of(&world, "grid", "mary");
    let (his, his_request) = kept.proxy_of(&world, "grid", "john");
    let mut found = String::from("# found on node 7\n4711\nno such thing!\n");
    found.push_str(&fs::read_to_string(&his).unwrap());
    found.push_str(&blocks(&hers)[0]);
    let file = world.dir.path().join("found.txt");
    fs::write(&file, &found).unwrap();
    let bulk = ["trace", "--bulk", text(&file), "--vo", "imense"];
    let traced = world.cli_json("admin", &bulk);
    let of = |at: usize| &traced["traces"][at];
    assert_eq!(traced["traces"].as_array().unwrap().len(), 4, "{traced}");
    assert_eq!(of(0)["proxies"], serde_json::json!([]));
    assert!(of(1)["error"].as_str().unwrap().contains("accepted:"), "{traced}");
    assert_eq!(of(2)["proxies"][0]["person"]["username"], "john");
    assert_eq!(
        of(2)["proxies"][0]["requests"][0]["request"],
        his_request.as_str()
    );
    assert_eq!(of(3)["proxies"][0]["person"]["username"], "mary");
    let said = world.cli("admin", &bulk).ok().stdout;
    assert!(
        said.contains("none fits") && said.contains("cannot be read") && said.contains("mary"),
        "{said}"
    );
    // Three that could be read, twice; none of them holds a whole certificate.
    let records = world.records();
    let traces: Vec<&Value> = records
        .iter()
        .map(|record| &record["event"]["trace"])
        .filter(|trace| !trace.is_null())
        .collect();
    assert_eq!(traces.len(), 6);
    assert!(
        traces
            .iter()
            .all(|trace| trace["query"].as_str().unwrap().len() <= 64)
    );
    // Who may not ask is refused, and so is more than the bound.
    assert_eq!(world.cli("john", &bulk).code, 3);
    // A system administrator may, in every virtual organisation.
    assert_eq!(world.cli("mary", &bulk).code, 3);
    world.cli("admin", &["admin", "add", "mary"]).ok();
    world.login("mary", PASSWORD).ok();
    world.cli("mary", &bulk).ok();
    let many = serde_json::json!({ "queries": vec!["1"; 501] }).to_string();
    let url = format!("{}/api/v1/vos/imense/traces", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token("admin"));
    let json = "Content-Type: application/json";
    let answer = world.curl(&[
        "-X",
        "POST",
        "-H",
        &bearer,
        "-H",
        json,
        "--data-binary",
        &many,
        &url,
    ]);
    assert_eq!(answer.expect(422).problem(), "invalid");
}

#[test]
fn h1_a_trace_comes_with_a_proof_that_the_guides_program_checks() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let kept = Kept::at(&world, "grid");
    let (ours, request) = kept.proxy_of(&world, "grid", "john");
    let (proof, key) = (world.dir.path().join("case-7"), world.data().join("keys/log.pub"));
    let said = world
        .cli(
            "admin",
            &["trace", text(&ours), "--vo", "imense", "--proof", text(&proof)],
        )
        .ok()
        .stdout;
    assert!(
        said.contains("Proof of record 1.") && said.contains("(mint)"),
        "{said}"
    );
    let shown = check(&proof, &key, &["--json"]).ok().json();
    let mint = &shown["shows"]["record"]["event"]["mint"];
    assert_eq!(mint["request"], request.as_str());
    let spki = openssl(&kept.folder, &["x509", "-in", text(&ours), "-noout", "-pubkey"]);
    let public = kept.folder.join("public.pem");
    fs::write(&public, spki).unwrap();
    let der = openssl(
        &kept.folder,
        &["pkey", "-pubin", "-in", text(&public), "-outform", "DER"],
    );
    let hash = countersign::record::Hash::of(&der).to_string();
    assert_eq!(
        mint["spki"],
        hash.as_str(),
        "what the provider holds is what the record says"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("tests/peers/.cache/venv/bin/python");
    let output = Command::new(&python)
        .arg(root.join("docs/guides/check_proof.py"))
        .args([&proof, &key])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error} (tests/peers/install brings it)", python.display()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains(&hash),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn h3_a_proxy_of_13_months_ago_is_traced_after_its_end_its_owners_and_its_keys() {
    let hand = Hand::with("[delegation]", "trace_period = \"500d\"");
    let world = &hand.world;
    world.person("john", &["scientist"]);
    let kept = Kept::at(world, "grid");
    let (ours, request) = kept.proxy_of(world, "grid", "john");
    let before = trace(world, text(&ours));
    let (_, _, _, serial) = only(&before);
    // He leaves, the VO's key is replaced, time passes.
    world.cli("admin", &["user", "remove", "imense", "john"]).ok();
    let (certificate, key) = openssl_key(world, "next", &[]);
    // Made by the machine's clock, which went on meanwhile.
    hand.later(Duration::from_secs(3_600));
    import(world, &certificate, &key).ok();
    let john = before["proxies"][0]["person"]["id"].as_str().unwrap().to_owned();
    hand.later(Duration::from_secs(396 * 86_400));
    world.login("admin", PASSWORD).ok();
    let shown = [
        "x509",
        "-in",
        text(&ours),
        "-noout",
        "-subject",
        "-nameopt",
        "compat",
    ];
    let subject = line(openssl(&kept.folder, &shown));
    let subject = subject.strip_prefix("subject=").unwrap().to_owned();
    let pem = text(&ours).to_owned();
    let after = |query: &str| {
        let traced = trace(world, query);
        let proxy = &traced["proxies"][0];
        assert_eq!(proxy["serial"], serial.as_str(), "{query}: {traced}");
        assert_eq!(
            proxy["requests"][0]["request"],
            request.as_str(),
            "{query}: {traced}"
        );
        proxy["person"].clone()
    };
    let then = &before["proxies"][0]["person"];
    for query in [&pem, &serial, &subject] {
        assert_eq!(&after(query), then, "{query}");
    }
    // As long as he may be traced, he is not erased.
    let erase = ["user", "erase", "john"];
    let refused = world.cli("admin", &erase);
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("may be traced until"),
        "{}",
        refused.stderr
    );
    // When he is, the proxy still leads to one person, whose name nobody knows any more.
    hand.later(Duration::from_secs(110 * 86_400));
    world.login("admin", PASSWORD).ok();
    world.cli("admin", &erase).ok();
    let erased = after(&pem);
    assert_eq!(erased["id"], john.as_str());
    assert!(
        erased.get("name").is_none() && erased.get("username").is_none(),
        "{erased}"
    );
}

/// The cookie of somebody who signed in with a browser's form.
fn cookie(world: &World, user: &str) -> String {
    let base = world.base();
    let (origin, user) = (format!("Origin: {base}"), format!("username={user}"));
    let password = format!("password={PASSWORD}");
    let login = format!("{base}/login");
    let form = [
        "-H",
        &origin,
        "--data",
        &user,
        "--data-urlencode",
        &password,
        &login,
    ];
    let answer = world.curl(&form).expect(303);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap();
    format!("Cookie: {cookie}")
}

#[test]
fn h1_the_page_of_a_trace_needs_no_script_and_is_for_who_may_trace() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let kept = Kept::at(&world, "grid");
    let (his, _) = kept.proxy_of(&world, "grid", "john");
    let add = [
        "provider", "add", "imense", "grid", "mary", "--answer", "at-once", "--show", "mail",
    ];
    world.cli("admin", &add).ok();
    let base = world.base();
    let get = |cookie: &str, path: &str| world.curl(&["-H", cookie, &format!("{base}{path}")]);
    let send = |cookie: &str, path: &str, origin: &str, field: &str| {
        let (url, origin) = (format!("{base}{path}"), format!("Origin: {origin}"));
        world.curl(&["-H", cookie, "-H", &origin, "-F", field, &url])
    };
    let [admin, john, mary] = ["admin", "john", "mary"].map(|user| cookie(&world, user));
    let (all, own) = ("/trace/imense", "/trace/imense/grid");
    // The way there is on the first page, and only for whom it is open.
    for (cookie, may) in [(&admin, vec![all]), (&john, vec![]), (&mary, vec![own])] {
        let home = get(cookie, "/").expect(200).text();
        for page in [all, own] {
            assert_eq!(
                home.contains(&format!("href=\"{page}\"")),
                may.contains(&page),
                "{page}: {home}"
            );
        }
    }
    assert_eq!(
        (
            get(&john, all).status,
            get(&mary, all).status,
            get(&john, own).status
        ),
        (403, 403, 403)
    );
    let page = get(&admin, all).expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'self'"),
        "{policy}"
    );
    assert!(!page.text().contains("<script"));
    // By what was pasted, and by a file in DER.
    let pasted = format!("query={}", blocks(&his).concat());
    let file = kept.folder.join("his.der");
    fs::write(&file, der(&kept.folder, &blocks(&his)[0])).unwrap();
    for field in [pasted.as_str(), &format!("file=@{}", file.display())] {
        let answer = send(&admin, all, &base, field).expect(200).text();
        assert!(
            answer.contains("john@example.org") && answer.contains("Proved"),
            "{answer}"
        );
    }
    // A provider sees what was chosen, on its own page.
    let answer = send(&mary, own, &base, &pasted).expect(200).text();
    assert!(
        answer.contains("john@example.org") && !answer.contains("<dt>User name"),
        "{answer}"
    );
    assert!(
        send(&mary, own, &base, "query=4711")
            .expect(422)
            .text()
            .contains("somebody&#39;s word")
    );
    assert!(
        send(&admin, all, &base, "query= ")
            .expect(422)
            .text()
            .contains("choose its file")
    );
    // Another site's form traces nothing.
    assert_eq!(
        send(&admin, all, "https://elsewhere.example", &pasted).status,
        403
    );
    let traces = world
        .records()
        .iter()
        .filter(|record| !record["event"]["trace"].is_null())
        .count();
    assert_eq!(traces, 3);
}
