//! Feature rows G1, G6 and B14: the keys of VOs, how long they are good for, and the key under which they rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::delegate::{HeaderTool, finds, import, keeper, private_key};
use crate::world::{COUNTERSIGN, PASSWORD, World, run_in, until};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Files of a certificate and its RSA key, made by openssl.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn new(world: &World, name: &str, subject: &str, days: u32) -> Self {
        let file = |ending: &str| world.dir.path().join(format!("{name}.{ending}"));
        let pair = Self {
            certificate: file("pem"),
            key: file("key"),
        };
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                &days.to_string(),
            ])
            .args(["-subj", subject, "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-addext", "keyUsage=critical,digitalSignature,keyEncipherment"])
            .args(["-keyout", text(&pair.key), "-out", text(&pair.certificate)])
            .output()
            .expect("openssl runs (apt-get install openssl)");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        pair
    }

    fn import(&self, world: &World) {
        import(world, text(&self.certificate), text(&self.key)).ok();
    }

    /// Whether openssl takes the proxy in `file` for one below this certificate.
    fn is_above(&self, file: &Path) -> bool {
        let verify = Command::new("openssl")
            .args(["verify", "-allow_proxy_certs", "-partial_chain", "-CAfile"])
            .args([
                &self.certificate,
                Path::new("-untrusted"),
                &self.certificate,
                file,
            ])
            .output()
            .unwrap();
        verify.status.success()
    }
}

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Calls the keeper, and keeps the proxy that it got under another name.
fn proxy(world: &World, user: &str, kept: &Path, name: &str) -> PathBuf {
    world.call(user, "GET", "/imense/keeper/look", None).expect(200);
    let file = kept.join(name);
    fs::copy(kept.join("proxy.pem"), &file).unwrap();
    file
}

#[test]
fn g1_a_vo_certificate_is_replaced_without_a_lost_request_and_proxies_below_the_old_one_are_traced() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let pairs: Vec<Pair> = (0..3)
        .map(|n| Pair::new(&world, &format!("vo{n}"), "/O=Test/CN=VO imense", 60))
        .collect();
    pairs[0].import(&world);
    let (_tool, kept) = keeper(&world, "keeper", "pem");
    let old = proxy(&world, "john", &kept, "old.pem");
    assert!(pairs[0].is_above(&old) && !pairs[1].is_above(&old));
    // Somebody works all the time, while the certificate is replaced twice.
    let (done, asked) = (AtomicBool::new(false), std::sync::atomic::AtomicU32::new(0));
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                world.call("mary", "GET", "/imense/keeper/look", None).expect(200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        for pair in &pairs[1..] {
            let before = asked.load(Ordering::Relaxed);
            until("some requests", || {
                (worker.is_finished() || asked.load(Ordering::Relaxed) > before + 3).then_some(())
            });
            pair.import(&world);
        }
        let before = asked.load(Ordering::Relaxed);
        until("more requests", || {
            (worker.is_finished() || asked.load(Ordering::Relaxed) > before + 3).then_some(())
        });
        done.store(true, Ordering::Relaxed);
        worker.join().unwrap();
    });
    let new = proxy(&world, "john", &kept, "new.pem");
    assert!(pairs[2].is_above(&new) && !pairs[0].is_above(&new));
    for file in [&old, &new] {
        let traced = world.cli_json("admin", &["trace", text(file), "--vo", "imense"]);
        assert!(traced.to_string().contains("\"john\""), "{traced}");
    }
    let listed = world.cli_json("admin", &["vo", "certificate", "list", "imense"]);
    assert_eq!(
        listed["certificates"].as_array().map_or(1, Vec::len),
        1,
        "{listed}"
    );
}

#[test]
fn g6_a_request_for_48_hours_gets_the_cap_and_whoever_configures_it_is_told() {
    let mut world = World::initialised();
    let settings = world.data().join("countersign.toml");
    let set = fs::read_to_string(&settings).unwrap();
    fs::write(
        &settings,
        set.replace("# max_lifetime = \"1h\"", "max_lifetime = \"2h\""),
    )
    .unwrap();
    world.serve();
    world.admin().person("john", &["scientist"]);
    Pair::new(&world, "vo", "/O=Test/CN=VO imense", 60).import(&world);
    let kept = world.dir.path().join("kept");
    fs::create_dir(&kept).unwrap();
    let tool = HeaderTool::start(&kept);
    let manifest = world.dir.path().join("keeper.toml");
    let asks = "[tool]\nname = \"keeper\"\nupstream = \"keeper\"\ndelegation = \"pem\"\nlifetime = \"48h\"\n\
                policy = \"inheritAll\"\npath_length = 3\n\n\
                [[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n";
    fs::write(&manifest, asks).unwrap();
    world
        .cli("admin", &["upstream", "allow", "imense", "keeper", &tool.url()])
        .ok();
    let added = world
        .cli("admin", &["tool", "add", "imense", text(&manifest)])
        .ok();
    assert!(
        added
            .stderr
            .contains("172800 s are asked for, and no proxy lives longer than 7200 s"),
        "{}",
        added.stderr
    );
    world
        .cli(
            "admin",
            &["grant", "add", "imense", "scientist", "keeper", "look"],
        )
        .ok();
    let file = proxy(&world, "john", &kept, "capped.pem");
    let lives = |file: &Path, seconds: u32| {
        let check = Command::new("openssl")
            .args([
                "x509",
                "-noout",
                "-in",
                text(file),
                "-checkend",
                &seconds.to_string(),
            ])
            .output()
            .unwrap();
        check.status.success()
    };
    assert!(
        lives(&file, 6_900) && !lives(&file, 7_200),
        "two hours and not more"
    );
    // What the VO sets is shorter, and so is what it sets for a role; it holds from the next request on.
    for (set, seconds) in [
        (&["--seconds", "3600"][..], 3_600),
        (&["--role", "scientist", "--seconds", "900"], 900),
    ] {
        let limit = ["vo", "proxy-limit", "set", "imense"];
        world.cli("admin", &[&limit[..], set].concat()).ok();
        let file = proxy(&world, "john", &kept, "limited.pem");
        assert!(
            lives(&file, seconds - 300) && !lives(&file, seconds),
            "{seconds} s and not more"
        );
    }
    let refused = world.cli(
        "admin",
        &["vo", "proxy-limit", "set", "imense", "--seconds", "60"],
    );
    assert!(
        refused.code != 0 && refused.stderr.contains("accepted: 300 s or more"),
        "{}",
        refused.stderr
    );
    let limits = world
        .cli_json("admin", &["vo", "proxy-limit", "list", "imense"])
        .to_string();
    assert!(
        limits.contains("3600") && limits.contains("scientist"),
        "{limits}"
    );
    let shown = openssl(&["x509", "-noout", "-text", "-in", text(&file)]);
    assert!(shown.contains("Path Length Constraint: 03"), "{shown}");
    assert!(shown.contains("Policy Language: Inherit all"), "{shown}");
}

#[test]
fn b14_the_proxies_of_two_vos_chain_to_different_certificates() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let imense = Pair::new(&world, "imense", "/O=Test/CN=VO imense", 60);
    let lab = Pair::new(&world, "lab", "/O=Test/CN=VO lab", 60);
    imense.import(&world);
    let (tool, kept) = keeper(&world, "keeper", "pem");
    let ours = proxy(&world, "john", &kept, "imense.pem");
    let (certificate, key) = (text(&lab.certificate), text(&lab.key));
    let manifest = world.dir.path().join("keeper.toml");
    for args in [
        &["vo", "create", "lab", "--admin", "admin"][..],
        &[
            "vo",
            "certificate",
            "import",
            "lab",
            "--certificate",
            certificate,
            "--key",
            key,
        ],
        &["upstream", "allow", "lab", "keeper", &tool.url()],
        &["tool", "add", "lab", text(&manifest)],
        &["role", "assign", "lab", "scientist", "admin"],
        &["grant", "add", "lab", "scientist", "keeper", "look"],
    ] {
        world.cli("admin", args).ok();
    }
    world.call("admin", "GET", "/lab/keeper/look", None).expect(200);
    let theirs = kept.join("proxy.pem");
    assert!(imense.is_above(&ours) && !imense.is_above(&theirs));
    assert!(lab.is_above(&theirs) && !lab.is_above(&ours));
}

#[test]
fn a_certificate_for_downloads_has_a_subject_that_none_for_tools_has() {
    let world = World::start();
    world.admin();
    let tools = Pair::new(&world, "tools", "/O=Test/CN=VO imense", 60);
    let alike = Pair::new(&world, "alike", "/O=Test/CN=vo IMENSE", 60);
    let people = Pair::new(&world, "people", "/O=Test/CN=People of imense", 60);
    tools.import(&world);
    let give = |pair: &Pair, purpose: &str| {
        let (certificate, key) = (text(&pair.certificate), text(&pair.key));
        let args = ["vo", "certificate", "import", "imense", "--use", purpose];
        world.cli(
            "admin",
            &[&args[..], &["--certificate", certificate, "--key", key]].concat(),
        )
    };
    for pair in [&tools, &alike] {
        let refused = give(pair, "download");
        assert!(
            refused.code != 0
                && refused
                    .stderr
                    .contains("is the subject of a certificate for `tools` already"),
            "{}",
            refused.stderr
        );
    }
    give(&people, "download").ok();
    // Not the other way round either, and not after it has ended.
    let other = Pair::new(&world, "other", "/O=Test/CN=Others of imense", 60);
    give(&other, "download").ok();
    for pair in [&people, &other] {
        let refused = give(pair, "tools");
        assert!(
            refused.code != 0
                && refused
                    .stderr
                    .contains("is the subject of a certificate for `download` already"),
            "{}",
            refused.stderr
        );
    }
    let listed = world
        .cli("admin", &["vo", "certificate", "list", "imense"])
        .ok()
        .stdout;
    assert!(
        listed.contains("CN=VO imense") && listed.contains("CN=Others of imense"),
        "{listed}"
    );
    assert!(!listed.contains("CN=People"), "{listed}");
    assert!(finds(&world, &private_key(&fs::read_to_string(&other.key).unwrap())).is_empty());
}

#[test]
fn a_name_that_somebody_gave_her_own_certificate_keeps_no_other_vo_from_its_certificate() {
    let world = World::start();
    world.admin();
    world
        .cli("admin", &["vo", "create", "lab", "--admin", "admin"])
        .ok();
    let made = Pair::new(&world, "made", "/O=Test/CN=VO lab", 60);
    let theirs = Pair::new(&world, "theirs", "/O=Test/CN=VO lab", 60);
    let give = |vo: &str, pair: &Pair, purpose: &str| {
        let files = ["--certificate", text(&pair.certificate), "--key", text(&pair.key)];
        let args = ["vo", "certificate", "import", vo, "--use", purpose];
        world.cli("admin", &[&args[..], &files].concat())
    };
    give("imense", &made, "download").ok();
    // The very same one is what both would be called with.
    let same = give("lab", &made, "tools");
    assert!(
        same.code != 0
            && same
                .stderr
                .contains("is the subject of a certificate for `download` already"),
        "{}",
        same.stderr
    );
    let imported = give("lab", &theirs, "tools").ok();
    let said = imported.stdout + &imported.stderr;
    assert!(
        said.contains("another virtual organisation has a certificate of the name"),
        "{said}"
    );
}

/// The mails in the outbox whose text has this word.
fn mails(world: &World, word: &str) -> usize {
    let Ok(folder) = fs::read_dir(world.data().join("outbox")) else {
        return 0;
    };
    let read = folder.map(|mail| fs::read_to_string(mail.unwrap().path()).unwrap_or_default());
    // Long lines are folded in a mail.
    read.filter(|mail| mail.replace("\r\n ", " ").contains(word))
        .count()
}

#[test]
fn the_end_of_a_vo_certificate_is_told_once_for_each_step_also_after_a_restart() {
    let mut world = World::start();
    world.admin();
    let soon = Pair::new(&world, "soon", "/O=Test/CN=VO imense", 10);
    soon.import(&world);
    until("a mail", || {
        (mails(&world, "the certificate for tools ends within 14 days") > 0).then_some(())
    });
    // The same one given once more is no news.
    soon.import(&world);
    let end = "countersign_vo_certificate_not_after_timestamp_seconds";
    let metrics = world
        .curl(&[&format!("http://{}/metrics", world.operations())])
        .expect(200)
        .text();
    let labels = ["vo=\"imense\"", "use=\"tools\""];
    let line = metrics
        .lines()
        .find(|line| line.starts_with(end) && labels.iter().all(|label| line.contains(label)));
    assert!(line.is_some(), "{metrics}");
    world.stop();
    world.serve();
    world.login("admin", PASSWORD).ok();
    // Another certificate's mail shows that all were looked at again.
    let people = Pair::new(&world, "people", "/O=Test/CN=People of imense", 5);
    let (certificate, key) = (text(&people.certificate), text(&people.key));
    let args = ["vo", "certificate", "import", "imense", "--use", "download"];
    world
        .cli(
            "admin",
            &[&args[..], &["--certificate", certificate, "--key", key]].concat(),
        )
        .ok();
    until("the other mail", || {
        (mails(&world, "the certificate for download ends within 7 days") > 0).then_some(())
    });
    assert_eq!(mails(&world, "the certificate for tools ends within 14 days"), 1);
}

/// Where the sealing key lies.
fn sealing_key(world: &World) -> PathBuf {
    let settings = fs::read_to_string(world.data().join("countersign.toml")).unwrap();
    let key = settings
        .lines()
        .find_map(|line| line.strip_prefix("key_file = "))
        .unwrap();
    world.data().join(key.trim_matches('"'))
}

#[test]
fn a_gateway_without_its_sealing_key_serves_what_needs_none_and_says_why_it_mints_nothing() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let (tool, _) = keeper(&world, "keeper", "pem");
    let manifest = world.dir.path().join("open.toml");
    let open = "[tool]\nname = \"open\"\nupstream = \"keeper\"\ndelegation = \"none\"\n\n\
                [[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n";
    fs::write(&manifest, open).unwrap();
    world
        .cli("admin", &["tool", "add", "imense", text(&manifest)])
        .ok();
    world
        .cli("admin", &["grant", "add", "imense", "scientist", "open", "look"])
        .ok();
    world.stop();
    let key = sealing_key(&world);
    fs::rename(&key, key.with_extension("aside")).unwrap();
    world.serve();
    world.call("john", "GET", "/imense/open/look", None).expect(200);
    let refused = world.call("john", "GET", "/imense/keeper/look", None).expect(503);
    assert_eq!(refused.problem(), "sealed");
    assert!(
        refused.text().contains("the sealing key is not there"),
        "{}",
        refused.text()
    );
    assert_eq!(world.metric("countersign_part_up{part=\"sealing_key\"}"), Some(0));
    world.stop();
    fs::rename(key.with_extension("aside"), &key).unwrap();
    world.serve();
    world.call("john", "GET", "/imense/keeper/look", None).expect(200);
    drop(tool);
}

fn rotate(world: &World) -> Vec<String> {
    let data = world.data();
    [
        "seal",
        "rotate",
        "--data",
        text(&data),
        "--reason",
        "yearly",
        "--json",
    ]
    .map(str::to_owned)
    .into()
}

/// The ids of the keys that made the envelopes in the store.
fn sealed_with(world: &World) -> Vec<String> {
    let query = "SELECT lower(hex(substr(sealed_key, 2, 8))) FROM vo_certificate UNION \
                 SELECT lower(hex(substr(sealed, 2, 8))) FROM static_credential UNION \
                 SELECT lower(hex(substr(sealed, 2, 8))) FROM assertion_key";
    let said = world.read_store(&format!("for row in store.execute({query:?}): print(row[0])"));
    said.lines().map(str::to_owned).collect()
}

#[test]
fn another_sealing_key_seals_everything_anew_on_record() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let (_tool, _) = keeper(&world, "keeper", "pem");
    let secret = world.dir.path().join("secret");
    fs::write(&secret, "a tool's own password").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let words: Vec<String> = rotate(&world);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let running = run_in(world.dir.path(), &words);
    assert!(
        running.code != 0 && running.stderr.contains("stop the gateway"),
        "{}",
        running.stderr
    );
    world.stop();
    let (key, before) = (sealing_key(&world), sealed_with(&world));
    let old = fs::read(&key).unwrap();
    let changed = run_in(world.dir.path(), &words).ok().json();
    assert_eq!(before, [changed["old_key"].as_str().unwrap()]);
    assert_eq!(sealed_with(&world), [changed["key"].as_str().unwrap()]);
    assert!(
        changed["sealed"].as_u64().unwrap() >= 2 && changed["left"] == 0,
        "{changed}"
    );
    assert_ne!(fs::read(&key).unwrap(), old);
    assert_eq!(fs::read(changed["old_key_file"].as_str().unwrap()).unwrap(), old);
    world.serve();
    world.call("john", "GET", "/imense/keeper/look", None).expect(200);
    let events = world.events_of(changed["request"].as_str().unwrap());
    let change = events
        .iter()
        .find(|(name, _)| name == "change")
        .expect("a change")
        .1
        .to_string();
    assert!(
        change.contains("seal.rotate") && change.contains("yearly"),
        "{change}"
    );
    let outcome = &events
        .iter()
        .find(|(name, _)| name == "outcome")
        .expect("an outcome")
        .1;
    assert_eq!(outcome["ending"], "applied", "{outcome}");
    world.verify().ok();
}

#[test]
fn a_change_of_the_sealing_key_may_be_killed_at_any_moment() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let (_tool, _) = keeper(&world, "keeper", "pem");
    world.stop();
    let key = sealing_key(&world);
    let (mut killed, mut seen) = (0, std::collections::BTreeSet::new());
    // A little later each time, until one runs to its end before it is killed.
    for after in (0..).map(|step| Duration::from_millis(25 * step)) {
        let mut child = Command::new(COUNTERSIGN)
            .args(rotate(&world))
            .env("COUNTERSIGN_CONFIG", world.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(after);
        let ended = child.try_wait().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        // Everything is sealed with one key, and that is there.
        let made = sealed_with(&world);
        assert_eq!(made.len(), 1, "{made:?}");
        seen.insert(made[0].clone());
        assert!(key.is_file());
        if let Some(ended) = ended {
            assert!(ended.success());
            break;
        }
        killed += 1;
    }
    assert!(killed > 0 && seen.len() > 1);
    world.serve();
    world.call("john", "GET", "/imense/keeper/look", None).expect(200);
    world.verify().ok();
    assert!(!key.with_extension("key.next").exists());
}

#[test]
fn the_gateway_leaves_no_core_file() {
    let world = World::start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", world.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let numbers: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{core}");
}

#[test]
fn g6_a_pkcs12_file_of_openssl_is_imported_and_its_password_goes_nowhere() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let pair = Pair::new(&world, "vo", "/O=Test/CN=VO imense", 60);
    let word = world.dir.path().join("word");
    fs::write(&word, "Pass-phrase of a PKCS#12 file\n").unwrap();
    let exported = |name: &str, more: &[&str]| {
        let file = world.dir.path().join(name);
        let ran = Command::new("openssl")
            .args([
                "pkcs12",
                "-export",
                "-in",
                text(&pair.certificate),
                "-inkey",
                text(&pair.key),
            ])
            .args(["-passout", &format!("file:{}", text(&word)), "-out", text(&file)])
            .args(more)
            .output()
            .expect("openssl runs (apt-get install openssl)");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        file
    };
    let import = |file: &Path, word: &Path| {
        let args = [
            "vo",
            "certificate",
            "import",
            "imense",
            text(file),
            "--password-file",
            text(word),
        ];
        world.cli("admin", &args)
    };

    let old = import(&exported("old.p12", &["-legacy"]), &word);
    assert_ne!(old.code, 0);
    assert!(
        old.stderr.contains("openssl pkcs12 -legacy -in"),
        "{}",
        old.stderr
    );
    let file = exported("vo.p12", &[]);
    let wrong = world.dir.path().join("wrong");
    fs::write(&wrong, "another").unwrap();
    let refused = import(&file, &wrong);
    assert!(
        refused.stderr.contains("the password does not open"),
        "{}",
        refused.stderr
    );

    import(&file, &word).ok();
    let (_tool, kept) = keeper(&world, "keeper", "pem");
    world.call("john", "GET", "/imense/keeper/look", None).expect(200);
    assert!(
        fs::read_to_string(kept.join("proxy.pem"))
            .unwrap()
            .contains("PRIVATE KEY")
    );
    assert_eq!(finds(&world, b"Pass-phrase of a PKCS#12 file"), [""; 0]);
    let key = private_key(&fs::read_to_string(&pair.key).unwrap());
    assert_eq!(finds(&world, &key), [""; 0], "the key rests sealed");
    // The password is never among the arguments.
    let told = world.cli(
        "admin",
        &[
            "vo",
            "certificate",
            "import",
            "imense",
            text(&file),
            "--password",
            "x",
        ],
    );
    assert_eq!(told.code, 2, "{}", told.stderr);
}
