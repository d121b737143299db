//! VO keys on a PKCS#11 token: SoftHSM, which keeps them in files of its own as a hardware module keeps them in itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::delegate::{finds, keeper};
use crate::world::{Ran, World};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const MISSING: &str = "runs (tests/peers/install token)";
const PIN: &str = "pin-27182818";

/// A token with keys, and the CA that certifies them.
struct Token {
    folder: PathBuf,
    conf: String,
}

impl Token {
    /// A token with the label `imense`, in a folder of its own.
    fn new(folder: &Path) -> Self {
        let folder = folder.join("softhsm");
        fs::create_dir_all(folder.join("tokens")).unwrap();
        let conf = folder.join("softhsm2.conf");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            folder.join("tokens").display()
        );
        fs::write(&conf, text).unwrap();
        let token = Self {
            conf: conf.to_str().unwrap().to_owned(),
            folder,
        };
        token.run(
            "softhsm2-util",
            &[
                "--init-token",
                "--free",
                "--label",
                "imense",
                "--so-pin",
                "so-31415926",
                "--pin",
                PIN,
            ],
        );
        let pin = token.file("pin");
        token.set_pin(PIN);
        fs::set_permissions(pin, fs::Permissions::from_mode(0o600)).unwrap();
        token.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/O=Test/CN=CA",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ]);
        token
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn set_pin(&self, pin: &str) {
        fs::write(self.file("pin"), format!("{pin}\n")).unwrap();
    }

    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program)
            .args(args)
            .env("SOFTHSM2_CONF", &self.conf)
            .current_dir(&self.folder)
            .output()
            .unwrap_or_else(|error| panic!("{program} {MISSING}: {error}"));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{program} {args:?}: {said}");
        said
    }

    fn openssl(&self, args: &[&str]) -> String {
        self.run("openssl", args)
    }

    fn pkcs11(&self, args: &[&str]) -> String {
        let common = [
            "--module",
            MODULE,
            "--token-label",
            "imense",
            "--login",
            "--pin",
            PIN,
        ];
        self.run("pkcs11-tool", &[&common[..], args].concat())
    }

    /// Makes a key on the token and has the CA certify it; gives the certificate's file.
    fn key(&self, name: &str, id: &str, kind: &str, more: &[&str]) -> String {
        let make = [
            "--keypairgen",
            "--key-type",
            kind,
            "--label",
            name,
            "--id",
            id,
            "--usage-sign",
        ];
        self.pkcs11(&[&make[..], more].concat());
        let (public, certificate) = (
            self.file(&format!("{name}.pub")),
            self.file(&format!("{name}.pem")),
        );
        match kind {
            // What pkcs11-tool cannot write down it can still show.
            "EC:secp384r1" => fs::write(&public, self.p384()).unwrap(),
            _ => drop(self.pkcs11(&[
                "--read-object",
                "--type",
                "pubkey",
                "--id",
                id,
                "--output-file",
                &public,
            ])),
        }
        let extensions = self.file("extensions");
        fs::write(
            &extensions,
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n",
        )
        .unwrap();
        let subject = format!("/O=Test/CN=VO {name}");
        self.openssl(&[
            "x509",
            "-new",
            "-force_pubkey",
            &public,
            "-subj",
            &subject,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-days",
            "30",
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ]);
        certificate
    }

    /// The public half of a P-384 key (`SubjectPublicKeyInfo`, RFC 5480 section 2).
    fn p384(&self) -> Vec<u8> {
        let shown = self.pkcs11(&["--list-objects", "--type", "pubkey"]);
        // 97 bytes in an OCTET STRING, of which there is one here.
        let mut words = shown.split_whitespace();
        let point = words.find_map(|word| word.strip_prefix("0461").filter(|point| point.len() == 194));
        let point = point.expect(&shown);
        let head = "3076301006072a8648ce3d020106052b81040022036200";
        data_encoding::HEXLOWER
            .decode(format!("{head}{point}").as_bytes())
            .unwrap()
    }

    /// The settings that name it for `vo`.
    fn settings(&self, vo: &str) -> String {
        format!(
            "[[delegation.token]]\nname = \"hsm\"\nmodule = \"{MODULE}\"\nlabel = \"imense\"\npin_file = \"{}\"\nvo = \"{vo}\"\n",
            self.file("pin")
        )
    }

    /// A gateway whose settings name it for `vo`.
    fn world(&self, vo: &str) -> World {
        let mut world = World::initialised();
        let file = world.data().join("countersign.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\n{}", self.settings(vo))).unwrap();
        self.serve(&mut world);
        world
    }

    fn serve(&self, world: &mut World) {
        world.serve_with(&[("SOFTHSM2_CONF", &self.conf)]);
    }
}

fn import(world: &World, certificate: &str, uri: &str) -> Ran {
    let command = [
        "vo",
        "certificate",
        "import",
        "imense",
        "--certificate",
        certificate,
        "--pkcs11-uri",
        uri,
    ];
    world.cli("admin", &command)
}

#[test]
fn a_vo_key_that_never_leaves_its_token_signs_proxies_that_openssl_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let token = Token::new(folder.path());
    let world = token.world("imense");
    world.admin().person("john", &["scientist"]);
    let (_tool, kept) = keeper(&world, "keeper", "pem\nkey = \"p256\"");
    for (name, id, kind) in [
        ("rsa", "01", "rsa:2048"),
        ("p256", "02", "EC:prime256v1"),
        ("p384", "03", "EC:secp384r1"),
    ] {
        let certificate = token.key(name, id, kind, &[]);
        let objects = token.pkcs11(&["--list-objects", "--type", "privkey"]);
        let count = |what: &str| objects.matches(what).count();
        assert_eq!(
            count("never extractable"),
            count("Private Key Object"),
            "{objects}"
        );
        import(
            &world,
            &certificate,
            &format!("pkcs11:token=imense;object={name};id=%{id};type=private"),
        )
        .ok();
        world.call("john", "GET", "/imense/keeper/look", None).expect(200);
        let proxy = kept.join("proxy.pem");
        let said = token.openssl(&[
            "verify",
            "-allow_proxy_certs",
            "-CAfile",
            "ca.pem",
            "-untrusted",
            &certificate,
            proxy.to_str().unwrap(),
        ]);
        assert!(said.contains(": OK"), "{said}");
        let issuer = token.openssl(&["x509", "-noout", "-issuer", "-in", proxy.to_str().unwrap()]);
        assert!(issuer.contains(&format!("VO {name}")), "{issuer}");
        // The list of revoked proxies is signed by it too.
        let list = world.curl(&[&format!("{}/.countersign/crl/imense", world.base())]);
        fs::write(token.file("list.pem"), list.expect(200).body).unwrap();
        let said = token.openssl(&[
            "crl",
            "-in",
            "list.pem",
            "-noout",
            "-CAfile",
            &certificate,
            "-verify",
        ]);
        assert!(said.contains("verify OK"), "{said}");
    }
    let mut records = world.records().into_iter().rev();
    let last =
        records.find(|record| record["event"]["change"]["change"]["action"] == "vo_certificate.import");
    let last = last.unwrap();
    assert_eq!(last["event"]["change"]["change"]["after"]["token"], "imense");
    assert_eq!(finds(&world, PIN.as_bytes()), [""; 0]);
    // It signs nothing in TLS, which is said when a tool would need that.
    let file = world.dir.path().join("fetcher.toml");
    let manifest = "[tool]\nname = \"fetcher\"\nupstream = \"vault\"\ndelegation = \"myproxy\"\nmyproxy = \"vault\"\n\n\
                    [[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n";
    fs::write(&file, manifest).unwrap();
    let allow = ["upstream", "allow", "imense", "vault", "https://localhost:7512"];
    world.cli("admin", &allow).ok();
    let added = world
        .cli("admin", &["tool", "add", "imense", file.to_str().unwrap()])
        .ok();
    assert!(
        added.stderr.contains("`imense` is on a token"),
        "{}",
        added.stderr
    );
}

#[test]
fn a_token_that_is_away_mints_nothing_and_says_so_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let token = Token::new(folder.path());
    let mut world = token.world("imense");
    world.admin().person("john", &["scientist"]);
    let certificate = token.key("vo", "01", "EC:prime256v1", &[]);
    import(&world, &certificate, "pkcs11:token=imense;object=vo").ok();
    let (_tool, _) = keeper(&world, "keeper", "pem\nkey = \"p256\"");
    let (_other, _) = keeper(&world, "plain", "none");
    world.stop();
    let (here, away) = (token.file("tokens"), token.file("away"));
    fs::rename(&here, &away).unwrap();
    fs::create_dir(&here).unwrap();
    token.serve(&mut world);
    let look = |world: &World, tool: &str| world.call("john", "GET", &format!("/imense/{tool}/look"), None);
    let refused = look(&world, "keeper");
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (503, "delegation_failed")
    );
    assert!(
        refused.text().contains("the token `hsm` is not there"),
        "{}",
        refused.text()
    );
    look(&world, "plain").expect(200);
    fs::remove_dir(&here).unwrap();
    fs::rename(&away, &here).unwrap();
    // A module that found nothing is not asked anew at once.
    crate::world::until("the token to be found again", || {
        (look(&world, "keeper").status == 200).then_some(())
    });

    // A wrong PIN is tried once: tokens lock themselves.
    world.stop();
    token.set_pin("wrong-0000");
    token.serve(&mut world);
    for _ in 0..6 {
        let refused = look(&world, "keeper");
        assert!(refused.text().contains("refused the PIN"), "{}", refused.text());
    }
    assert_eq!(world.log().matches("did not take its PIN").count(), 1);
    token.set_pin(PIN);
    crate::world::until("the right PIN to be tried", || {
        (look(&world, "keeper").status == 200).then_some(())
    });
    assert_eq!(world.verify().ok().code, 0);
}

#[test]
fn a_key_of_another_certificate_or_vo_or_one_that_can_leave_its_token_is_not_imported() {
    let folder = tempfile::tempdir().unwrap();
    let token = Token::new(folder.path());
    let certificate = token.key("vo", "01", "EC:prime256v1", &[]);
    token.key("other", "02", "EC:prime256v1", &[]);
    let loose = token.key("loose", "03", "EC:prime256v1", &["--extractable"]);
    let world = token.world("imense");
    world.admin();
    for (certificate, uri, said) in [
        (
            &certificate,
            "pkcs11:token=imense;object=other",
            "does not belong to the certificate",
        ),
        (
            &certificate,
            "pkcs11:token=imense;object=nothing",
            "no private key of that name",
        ),
        (
            &certificate,
            "pkcs11:token=elsewhere;object=vo",
            "no token with the label `elsewhere`",
        ),
        (
            &certificate,
            "pkcs11:token=imense;object=vo?module-path=/tmp/evil.so",
            "has `module-path`",
        ),
        (
            &certificate,
            "pkcs11:token=imense;object=vo?pin-value=1234",
            "has `pin-value`",
        ),
        (&certificate, "file:/etc/key", "no PKCS#11 URI"),
        (
            &loose,
            "pkcs11:token=imense;object=loose",
            "can be copied out of it",
        ),
    ] {
        let refused = import(&world, certificate, uri);
        assert!(
            refused.code != 0 && refused.stderr.contains(said),
            "{uri}: {}",
            refused.stderr
        );
    }
    import(&world, &certificate, "pkcs11:token=imense;object=vo").ok();
    // The settings name it for another VO.
    let world = token.world("lab");
    world.admin();
    let refused = import(&world, &certificate, "pkcs11:token=imense;object=vo");
    assert!(
        refused.stderr.contains("`imense` has no token"),
        "{}",
        refused.stderr
    );
}
