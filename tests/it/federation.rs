//! Feature rows B: signing in with a home organisation, against a real OpenID provider and one that lies as it is told. The
//! browser is curl with a cookie jar, which fills in the provider's forms.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::peers::Peer;
use crate::world::{Answer, PASSWORD, Ran, World, curl, until};

const MFA: &str = "https://refeds.org/profile/mfa";
const SFA: &str = "https://refeds.org/profile/sfa";

/// A gateway, and the providers that its people sign in with.
struct Homes {
    world: World,
    peer: Option<Peer>,
    /// Who signs for all of them.
    bundle: PathBuf,
}

impl Homes {
    fn new() -> Self {
        let world = World::start();
        world.admin();
        let here = |path: &str| format!("{}/login/with/uni-a/{path}", world.base());
        let (back, out) = (here("callback"), here("logout"));
        let peer = Peer::start_with(
            "oidc",
            &[("REDIRECT", &back), ("LOGOUT", &out), ("GATEWAY_CA", &world.ca())],
        );
        let bundle = world.dir.path().join("bundle.pem");
        let both = [world.ca(), peer.env("CA").to_owned()].map(|file| fs::read_to_string(file).unwrap());
        fs::write(&bundle, both.concat()).unwrap();
        Self {
            world,
            peer: Some(peer),
            bundle,
        }
    }

    fn peer(&self) -> &Peer {
        self.peer.as_ref().unwrap()
    }

    fn env(&self, key: &str) -> &str {
        self.peer().env(key)
    }

    fn add(&self, name: &str, issuer: &str, more: &[&str]) -> Ran {
        let peer = self.peer();
        let mut args = vec!["idp", "add", name, "--issuer", issuer];
        args.extend([
            "--client-id",
            peer.env("CLIENT"),
            "--client-secret-file",
            peer.env("SECRET_FILE"),
        ]);
        args.extend(["--ca", peer.env("CA")]);
        args.extend(more);
        self.world.cli("admin", &args)
    }

    /// The real provider, with accounts made at once, in the VO.
    fn university(&self, more: &[&str]) {
        let common = [
            "--display-name",
            "University A",
            "--vo",
            "imense",
            "--scope",
            "profile",
            "--scope",
            "email",
        ];
        let all = [&common[..], &["--scope", "groups"], more].concat();
        self.add("uni-a", self.env("ISSUER"), &all).ok();
    }

    /// The other one, whose people belong to the gateway alone.
    fn liar(&self, more: &[&str]) {
        let all = [
            &["--display-name", "Liar's College", "--approval", "automatic"][..],
            more,
        ]
        .concat();
        self.add("liar", self.env("LIAR"), &all).ok();
    }

    /// Tells the liar what to lie about from now on.
    fn tell(&self, said: Value) {
        let url = format!("{}/mode", self.env("LIAR_HTTP"));
        curl(None, &["-X", "PUT", "--data", &said.to_string(), &url]).expect(200);
    }

    fn side(&self, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.env("LIAR_HTTP"));
        let body = body.to_string();
        curl(None, &["-X", "POST", "--data", &body, &url])
            .expect(200)
            .json()
    }

    fn asked(&self, path: &str) -> u64 {
        let url = format!("{}/asked", self.env("LIAR_HTTP"));
        curl(None, &[&url]).expect(200).json()[path].as_u64().unwrap_or(0)
    }

    fn browser(&self) -> Browser<'_> {
        Browser {
            homes: self,
            jar: tempfile::Builder::new()
                .prefix("jar-")
                .tempfile_in(self.world.dir.path())
                .unwrap(),
        }
    }

    /// Somebody who signs in at the university.
    fn student(&self, login: &str) -> (Browser<'_>, Answer) {
        let browser = self.browser();
        let (form, page) = browser.follow(&self.start("uni-a"), &[]);
        assert!(page.text().contains("name=\"login\""), "{form}: {}", page.text());
        let (name, word) = (format!("login={login}"), format!("password={login}-pass-2026"));
        let (_, answer) = browser.follow(&form, &["--data-urlencode", &name, "--data-urlencode", &word]);
        (browser, answer)
    }

    /// Somebody who signs in at the other one, which asks nobody.
    fn guest(&self) -> (Browser<'_>, Answer) {
        let browser = self.browser();
        let (_, answer) = browser.follow(&self.start("liar"), &[]);
        (browser, answer)
    }

    fn start(&self, idp: &str) -> String {
        format!("{}/login/with/{idp}", self.world.base())
    }

    /// The logins that are on record, oldest first.
    fn logins(&self) -> Vec<Value> {
        let records = self.world.records();
        let logins = records.iter().map(|record| &record["event"]["login"]);
        logins
            .filter(|login| login["federated"].is_object())
            .cloned()
            .collect()
    }

    fn identities(&self, idp: &str) -> Vec<Value> {
        let list = self.world.cli_json("admin", &["idp", "identities", idp]);
        list["identities"].as_array().unwrap().clone()
    }
}

/// A browser: cookies are kept, redirects are followed.
struct Browser<'a> {
    homes: &'a Homes,
    jar: tempfile::NamedTempFile,
}

impl Browser<'_> {
    /// Opens one address, as a browser that comes from another site.
    fn open(&self, url: &str, more: &[&str]) -> Answer {
        let jar = self.jar.path().to_str().unwrap();
        let mut args = vec![
            "-b",
            jar,
            "-c",
            jar,
            "-H",
            "Accept: text/html",
            "-H",
            "Sec-Fetch-Mode: navigate",
        ];
        args.extend(["-H", "Sec-Fetch-Site: cross-site"]);
        args.extend(more);
        args.push(url);
        curl(self.homes.bundle.to_str(), &args)
    }

    /// Opens an address and goes where it leads; with the last address.
    fn follow(&self, url: &str, more: &[&str]) -> (String, Answer) {
        let (mut url, mut more) = (url.to_owned(), more);
        for _ in 0..20 {
            let answer = self.open(&url, more);
            let Some(location) = answer.header("location").filter(|_| answer.status / 100 == 3) else {
                return (url, answer);
            };
            url = match location.starts_with('/') {
                true => {
                    let origin: Vec<&str> = url.splitn(4, '/').take(3).collect();
                    origin.join("/") + location
                }
                false => location.to_owned(),
            };
            more = &[];
        }
        panic!("redirects without end, at {url}");
    }

    /// Who is signed in here, if anybody.
    fn me(&self) -> Option<Value> {
        let url = format!("{}/.countersign/me", self.homes.world.base());
        let jar = self.jar.path().to_str().unwrap();
        let answer = curl(self.homes.bundle.to_str(), &["-b", jar, &url]);
        (answer.status == 200).then(|| answer.json())
    }
}

fn contains(list: &Value, word: &str) -> bool {
    list.as_array().unwrap().iter().any(|one| one == word)
}

#[test]
fn b1_who_signs_in_at_home_has_a_session_here_and_every_record_says_by_which_identity() {
    let homes = Homes::new();
    let (mfa, sfa) = (format!("{MFA}=aal2"), SFA);
    homes.university(&["--approval", "automatic", "--acr", &mfa, "--acr", sfa]);
    let login = homes
        .browser()
        .open(&format!("{}/login?to=/factors", homes.world.base()), &[])
        .expect(200);
    assert!(
        login.text().contains("University A") && login.text().contains("/login/with/uni-a?to=%2Ffactors")
    );

    let (alice, page) = homes.student("alice");
    assert_eq!(page.status, 200, "{}", page.text());
    let me = alice.me().unwrap();
    assert_eq!(me["username"], "alice", "{me}");
    assert_eq!(me["session"]["acr"], "aal2", "{me}");
    for method in ["federated", "pwd", "otp", "mfa"] {
        assert!(contains(&me["session"]["methods"], method), "{me}");
    }
    let jar = fs::read_to_string(alice.jar.path()).unwrap();
    assert!(
        jar.contains("__Host-countersign\t") && !jar.contains("__Host-countersign-login"),
        "{jar}"
    );
    let (bob, _) = homes.student("bob");
    let him = bob.me().unwrap();
    assert_eq!(
        (&him["username"], &him["session"]["acr"]),
        (&json!("bob"), &json!("aal1"))
    );
    assert!(!contains(&him["session"]["methods"], "mfa"));
    let users = homes
        .world
        .cli_json("admin", &["user", "show", "imense", "alice"]);
    assert_eq!(
        (&users["mail"], &users["roles"][0]["role"]),
        (&json!("alice@uni-a.example"), &json!("scientist"))
    );

    // The same person when she comes again, and no second account.
    let (again, _) = homes.student("alice");
    assert_eq!(again.me().unwrap()["person"], me["person"]);
    assert_eq!(homes.identities("uni-a").len(), 2);

    let logins = homes.logins();
    assert!(
        logins.iter().all(|login| login["result"] == "ok") && logins.len() == 3,
        "{logins:?}"
    );
    let hers = &logins[0]["federated"];
    assert_eq!(hers["issuer"], homes.env("ISSUER"));
    assert_eq!(
        (
            &logins[2]["federated"],
            logins[1]["federated"]["subject"] == hers["subject"]
        ),
        (hers, false)
    );
    let records = homes.world.records();
    let at = |wanted: &dyn Fn(&Value) -> bool| {
        records
            .iter()
            .position(|record| wanted(&record["event"]))
            .unwrap()
    };
    let made = at(&|event| event["change"]["change"]["action"] == "user.create");
    let admitted = at(&|event| event["change"]["change"]["action"] == "idp.admit");
    let signed_in = at(&|event| event["login"]["federated"].is_object());
    let looked = at(&|event| event["intent"]["place"]["task"] == "console.me");
    assert!(made < admitted && admitted < signed_in && signed_in < looked);
    let looked = &records[looked]["event"]["intent"]["subject"];
    assert_eq!(looked["identity"]["subject"], hers["subject"], "{looked}");
    assert_eq!(looked["identity"]["issuer"], homes.env("ISSUER"));
    // Records name nobody: not by her subject, her name or her address.
    let text = serde_json::to_string(&records).unwrap();
    for name in ["alice-0001", "Alice Example", "alice@uni-a.example"] {
        assert!(!text.contains(name), "{name}");
    }
}

#[test]
fn b1_each_wrong_answer_of_a_provider_is_refused_and_recorded_by_what_is_wrong() {
    let homes = Homes::new();
    homes.liar(&[]);
    let lies = [
        ("nonce", "nonce"),
        ("no-nonce", "nonce"),
        ("aud", "aud"),
        ("aud-more", "aud"),
        ("azp", "azp"),
        ("iss", "iss"),
        ("none", "alg"),
        ("confused", "alg"),
        ("expired", "exp"),
        ("early", "time"),
        ("old", "time"),
        ("no-sub", "sub"),
        ("kid", "kid"),
        ("foreign-jwks", "signature"),
        ("unsigned", "signature"),
        ("typ", "typ"),
        ("state", "state"),
        ("mix-up", "iss"),
        ("unnamed", "iss"),
    ];
    for (lie, _) in lies {
        homes.tell(json!({ "mode": lie }));
        let (browser, answer) = homes.guest();
        assert_eq!(answer.status, 403, "{lie}: {}", answer.text());
        assert!(
            answer.text().contains("not accepted") || answer.text().contains("This sign-in"),
            "{lie}"
        );
        assert!(browser.me().is_none(), "{lie}");
    }
    assert_eq!(homes.world.stored("SELECT COUNT(*) FROM federated_identity"), 0);
    // Its keys were not asked for again with every name that it does not have.
    assert!(homes.asked("/jwks") < 6, "{}", homes.asked("/jwks"));
    homes.tell(json!({}));

    // An answer is good in the browser that set out, under the address of its provider, and once.
    homes.university(&["--approval", "automatic"]);
    let browser = homes.browser();
    let start = browser.open(&homes.start("liar"), &[]).expect(303);
    let at_home = browser.open(start.header("location").unwrap(), &[]).expect(303);
    let back = at_home.header("location").unwrap().to_owned();
    homes.browser().open(&back, &[]).expect(403);
    let elsewhere = back.replace("/login/with/liar/", "/login/with/uni-a/");
    let (copy, copied) = (homes.browser(), homes.browser());
    for jar in [&copy, &copied] {
        fs::copy(browser.jar.path(), jar.jar.path()).unwrap();
    }
    copied.open(&elsewhere, &[]).expect(403);
    browser.open(&back, &[]).expect(303);
    assert_eq!(browser.me().unwrap()["session"]["acr"], "aal1");
    copy.open(&back, &[]).expect(403);
    assert!(copy.me().is_none());
    let denied = format!("{}/callback?error=access_denied&state=x", homes.start("liar"));
    homes.browser().open(&denied, &[]).expect(403);

    let flaws: Vec<Value> = homes
        .logins()
        .iter()
        .map(|login| login["federated"]["flaw"].clone())
        .collect();
    let expected: Vec<Value> = lies.iter().map(|(_, flaw)| json!(flaw)).collect();
    assert_eq!(flaws[..lies.len()], expected);
    assert_eq!(
        flaws[lies.len()..],
        [
            json!("state"),
            json!("state"),
            Value::Null,
            json!("replayed"),
            json!("state")
        ]
    );
}

#[test]
fn b1_nobody_gets_an_account_that_is_there_by_its_name_or_its_address() {
    let homes = Homes::new();
    homes.liar(&[]);
    let claims = json!({ "preferred_username": "admin", "email": "admin@example.org", "name": "Admin" });
    homes.tell(json!({ "sub": "mallory-0004", "claims": claims }));
    let (mallory, _) = homes.guest();
    let me = mallory.me().unwrap();
    let name = me["username"].as_str().unwrap();
    assert!(name.starts_with("admin-"), "{name}");
    let admin = homes.world.cli_json("admin", &["whoami"]);
    assert_ne!(me["person"], admin["person"]);
    // The subject is what counts, whatever else the provider says of it; another subject is another person.
    homes.tell(json!({ "sub": "mallory-0004", "claims": { "preferred_username": "root" } }));
    assert_eq!(homes.guest().0.me().unwrap()["person"], me["person"]);
    homes.tell(json!({ "sub": "mallory-0005", "claims": claims }));
    assert_ne!(homes.guest().0.me().unwrap()["person"], me["person"]);
}

#[test]
fn b4_providers_are_registered_suspended_and_removed_while_the_gateway_runs() {
    let homes = Homes::new();
    let world = &homes.world;
    homes.liar(&[]);
    let (guest, _) = homes.guest();
    assert!(guest.me().is_some());
    for (issuer, named) in [
        (homes.env("LIAR"), "there already"),
        ("http://idp.example.org", "`issuer`"),
    ] {
        let ran = homes.add("other", issuer, &["--display-name", "Other"]);
        assert!(ran.code != 0 && ran.stderr.contains(named), "{ran:?}");
    }
    world
        .cli(
            "admin",
            &["idp", "edit", "liar", "--display-name", "Honest College"],
        )
        .ok();
    assert!(
        world
            .cli("admin", &["idp", "list"])
            .ok()
            .stdout
            .contains("Honest College")
    );

    world.cli("admin", &["idp", "suspend", "liar"]).ok();
    let suspended = Instant::now();
    homes.browser().open(&homes.start("liar"), &[]).expect(403);
    assert!(suspended.elapsed() < Duration::from_secs(1));
    let page = homes
        .browser()
        .open(&format!("{}/login", world.base()), &[])
        .expect(200);
    assert!(!page.text().contains("Honest College"));
    assert!(guest.me().is_some(), "who is signed in stays so");
    assert_ne!(world.cli("admin", &["idp", "suspend", "liar"]).code, 0);
    world.cli("admin", &["idp", "resume", "liar"]).ok();

    // Whoever is on her way when the provider is suspended does not arrive.
    let browser = homes.browser();
    let start = browser.open(&homes.start("liar"), &[]).expect(303);
    let at_home = browser.open(start.header("location").unwrap(), &[]).expect(303);
    world.cli("admin", &["idp", "suspend", "liar"]).ok();
    browser.open(at_home.header("location").unwrap(), &[]).expect(403);
    assert!(browser.me().is_none());
    world.cli("admin", &["idp", "resume", "liar"]).ok();

    world.cli("admin", &["idp", "remove", "liar"]).ok();
    assert!(guest.me().is_none(), "who came from there is signed out");
    homes.browser().open(&homes.start("liar"), &[]).expect(404);
    world.person("sue", &["vo-administrator"]);
    assert_eq!(
        world.cli("sue", &["idp", "list"]).code,
        3,
        "for system administrators alone"
    );

    let records = world.records();
    let changes = records.iter().map(|record| &record["event"]["change"]);
    let changes: Vec<&Value> = changes
        .filter(|event| event["change"]["kind"] == "identity_provider")
        .collect();
    let actions: Vec<&str> = changes
        .iter()
        .map(|event| event["change"]["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "idp.add",
            "idp.edit",
            "idp.suspend",
            "idp.resume",
            "idp.suspend",
            "idp.resume",
            "idp.remove"
        ]
    );
    assert_eq!(
        changes[1]["change"]["before"]["settings"]["display_name"],
        "Liar's College"
    );
    assert_eq!(
        changes[1]["change"]["after"]["settings"]["display_name"],
        "Honest College"
    );
    assert_eq!(changes[2]["change"]["after"]["state"], "suspended");
    assert!(changes.iter().all(|event| event["reason"] == "a test"));
    let secret = fs::read_to_string(homes.env("SECRET_FILE")).unwrap();
    let everything = serde_json::to_string(&records).unwrap() + &world.dump() + &world.log();
    assert!(
        !everything.contains(secret.trim()),
        "the client's secret is sealed, and on no record"
    );
}

#[test]
fn b5_b6_a_provider_vouches_for_what_it_may_and_its_claims_fill_the_fields() {
    let homes = Homes::new();
    let claims = ["--claim", "username=uid", "--claim", "mail=nothing"];
    homes.university(&[&["--approval", "automatic", "--acr", MFA][..], &claims].concat());
    let (bob, page) = homes.student("bob");
    assert_eq!(page.status, 403);
    assert!(
        page.text().contains(SFA) && page.text().contains(MFA),
        "{}",
        page.text()
    );
    assert!(bob.me().is_none());
    let refused = homes.logins();
    assert_eq!(
        (&refused[0]["result"], &refused[0]["federated"]["flaw"]),
        (&json!("wrong_assurance"), &json!("acr"))
    );
    let (alice, _) = homes.student("alice");
    let me = alice.me().unwrap();
    // Two factors there are worth one here, where the administrator says so.
    assert_eq!(
        (&me["username"], &me["session"]["acr"]),
        (&json!("a.example"), &json!("aal1"))
    );
    assert!(!contains(&me["session"]["methods"], "otp"));
    let card = homes
        .world
        .cli_json("admin", &["user", "show", "imense", "a.example"]);
    assert_eq!(
        (&card["name"], &card["organisation"]),
        (&json!("Alice Example"), &json!("uni-a.example"))
    );
    assert!(card.get("mail").is_none_or(Value::is_null), "{card}");
    let hers = &homes.identities("uni-a")[0];
    assert_eq!(hers["groups"], json!(["/vo-imaging", "/vo-imaging/scientists"]));
    assert_eq!(hers["affiliation"], json!(["faculty@uni-a.example"]));
    // A claim that is renamed here is read from the next sign-in on.
    homes
        .world
        .cli("admin", &["idp", "edit", "uni-a", "--claim", "mail=email"])
        .ok();
    let (_, _) = homes.student("alice");
    assert_eq!(homes.identities("uni-a")[0]["mail"], "alice@uni-a.example");
}

#[test]
fn b7_an_administrator_decides_who_gets_an_account_and_whether_it_goes_on() {
    let homes = Homes::new();
    let world = &homes.world;
    homes.university(&["--valid-days", "30"]);
    for login in ["alice", "bob"] {
        let (browser, page) = homes.student(login);
        assert_eq!(page.status, 403);
        assert!(
            page.text().contains("has yet to give you an account"),
            "{}",
            page.text()
        );
        assert!(browser.me().is_none());
    }
    let users = world
        .cli("admin", &["user", "list", "imense", "--json"])
        .ok()
        .stdout;
    assert!(
        !users.contains("alice"),
        "no account before somebody says so: {users}"
    );
    let waiting = homes.identities("uni-a");
    assert!(waiting.iter().all(|one| one["state"] == "pending") && waiting.len() == 2);
    let id = |sub: &str| {
        let one = waiting.iter().find(|one| one["subject"] == sub).unwrap();
        one["id"].as_str().unwrap().to_owned()
    };
    let (alice, bob) = (id("alice-0001"), id("bob-0002"));
    let approved = world.cli_json("admin", &["idp", "approve", "uni-a", &alice]);
    assert_eq!(
        (&approved["state"], &approved["username"]),
        (&json!("active"), &json!("alice"))
    );
    world.cli("admin", &["idp", "reject", "uni-a", &bob]).ok();
    let (browser, _) = homes.student("alice");
    assert_eq!(browser.me().unwrap()["username"], "alice");
    let (_, page) = homes.student("bob");
    assert!(
        page.status == 403 && page.text().contains("you get no account"),
        "{}",
        page.text()
    );

    // The approval is over: an administrator renews it, or nobody has to.
    let lapse =
        || world.write_store("UPDATE federated_identity SET valid_until = 1 WHERE subject = 'alice-0001'");
    lapse();
    let (browser, page) = homes.student("alice");
    assert!(
        page.status == 403 && page.text().contains("is over"),
        "{}",
        page.text()
    );
    assert!(browser.me().is_none());
    assert_eq!(homes.identities("uni-a")[0]["state"], "lapsed");
    world.cli("admin", &["idp", "approve", "uni-a", &alice]).ok();
    assert!(homes.student("alice").0.me().is_some());
    world
        .cli("admin", &["idp", "edit", "uni-a", "--renewal", "automatic"])
        .ok();
    lapse();
    assert!(homes.student("alice").0.me().is_some());

    // Suspended here is suspended, whatever the provider says.
    world.cli("admin", &["user", "suspend", "imense", "alice"]).ok();
    let (browser, page) = homes.student("alice");
    assert!(page.status == 403 && browser.me().is_none(), "{}", page.text());
    let results: Vec<Value> = homes
        .logins()
        .iter()
        .map(|login| login["result"].clone())
        .collect();
    assert_eq!(
        results,
        [
            "pending",
            "pending",
            "ok",
            "rejected",
            "lapsed",
            "ok",
            "ok",
            "suspended"
        ]
        .map(Value::from)
    );
    let records = world.records();
    let changes = records.iter().map(|record| &record["event"]["change"]["change"]);
    let of_identities = changes.filter(|change| change["kind"] == "federated_identity");
    let actions: Vec<&str> = of_identities
        .map(|change| change["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "idp.wait",
            "idp.wait",
            "idp.admit",
            "idp.reject",
            "idp.renew",
            "idp.renew"
        ]
    );
}

#[test]
fn a16_a_provider_that_is_down_keeps_out_its_own_people_only() {
    let mut homes = Homes::new();
    homes.university(&["--approval", "automatic"]);
    homes.liar(&[]);
    // Answers that are none: somebody else's document, a redirect, more than is read.
    for lie in ["document", "redirect", "endless"] {
        homes.tell(json!({ "mode": lie }));
        let start = homes.start("liar");
        // What it said a moment ago is believed for a moment.
        until("the lie to be seen", || {
            (homes.browser().open(&start, &[]).status == 503).then_some(())
        });
    }
    let (alice, _) = homes.student("alice");
    assert!(alice.me().is_some());
    let start = homes.start("uni-a");
    let (jar, bundle) = (
        fs::read_to_string(alice.jar.path()).unwrap(),
        homes.bundle.clone(),
    );
    drop(alice);
    homes.peer = None;
    let down = until("the provider to be missed", || {
        let answer = curl(bundle.to_str(), &[&start]);
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(down.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(
        down.header("retry-after").is_some() && !down.text().contains('<'),
        "{}",
        down.text()
    );
    assert!(
        down.text().contains("University A does not answer"),
        "{}",
        down.text()
    );
    assert!(down.header("set-cookie").is_none());
    // Passwords go on, and so do sessions that have begun.
    homes.world.login("admin", PASSWORD).ok();
    let alice = homes.browser();
    fs::write(alice.jar.path(), jar).unwrap();
    assert_eq!(alice.me().unwrap()["username"], "alice");
    homes
        .browser()
        .open(&format!("{}/login", homes.world.base()), &[])
        .expect(200);
}

#[test]
fn b15_anybody_sees_with_whom_to_sign_in_and_how_the_api_is_asked() {
    let homes = Homes::new();
    let base = homes.world.base();
    let list = || {
        homes
            .world
            .curl(&[&format!("{base}/api/v1/sign-in")])
            .expect(200)
            .json()
    };
    assert_eq!(list(), json!({ "providers": [] }));
    homes.university(&[]);
    homes.liar(&[]);
    homes.world.cli("admin", &["idp", "suspend", "liar"]).ok();
    let address = format!("{base}/login/with/uni-a");
    let expected = json!({ "name": "uni-a", "display_name": "University A", "address": address });
    assert_eq!(list(), json!({ "providers": [expected] }));
    let document = homes
        .world
        .curl(&[&format!("{base}/.well-known/oauth-protected-resource")])
        .expect(200);
    assert_eq!(document.header("content-type"), Some("application/json"));
    let document = document.json();
    // RFC 9728 section 3.3: the identifier is the one that the address was made of.
    assert_eq!(document["resource"], base.as_str());
    assert_eq!(document["bearer_methods_supported"], json!(["header"]));
}

#[test]
fn b1_who_signs_out_at_home_is_signed_out_here_and_keys_may_change() {
    let homes = Homes::new();
    homes.university(&["--approval", "automatic"]);
    homes.liar(&[]);
    // At the real provider: its page asks whether to sign out there, and it tells the gateway.
    let (alice, _) = homes.student("alice");
    let (other, _) = homes.student("bob");
    assert!(alice.me().is_some());
    let end = format!("{}/session/end", homes.env("ISSUER"));
    let page = alice.open(&end, &[]).expect(200).text();
    let xsrf = page
        .split("name=\"xsrf\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let fields = [
        "--data-urlencode",
        &format!("xsrf={xsrf}"),
        "--data",
        "logout=yes",
    ];
    alice.follow(&format!("{end}/confirm"), &fields);
    until("the session to end", || alice.me().is_none().then_some(()));
    assert!(other.me().is_some(), "nobody else's");

    let (guest, _) = homes.guest();
    let url = format!("{}/logout", homes.start("liar"));
    let say = |token: &str| {
        let field = format!("logout_token={token}");
        homes.world.curl(&["--data-urlencode", &field, &url]).status
    };
    let token = |said: Value| homes.side("/logout", said)["token"].as_str().unwrap().to_owned();
    let hers = json!({ "sub": "carol-0003" });
    let but = |name: &str, value: Value| {
        let mut said = hers.clone();
        said[name] = value;
        token(said)
    };
    for wrong in [
        but("aud", json!("another")),
        but("iss", json!("https://another.example")),
        but("nonce", json!("a")),
        but("events", json!({})),
        but("exp", json!(1)),
        but("jti", Value::Null),
        token(json!({ "sid": "a session" })),
        "no.token.at-all".to_owned(),
        String::new(),
    ] {
        assert_eq!(say(&wrong), 400, "{wrong}");
    }
    assert!(guest.me().is_some());
    let right = but("jti", json!("one"));
    assert_eq!(say(&right), 200);
    assert!(guest.me().is_none());
    let (again, _) = homes.guest();
    assert_eq!(say(&right), 400, "a token is taken once");
    assert!(again.me().is_some());
    let records = homes.world.records();
    let ended = records
        .iter()
        .filter(|record| record["event"]["session_ended"]["reason"] == "provider_logout");
    assert_eq!(ended.count(), 2);

    // Another key under another name is fetched when a token names it, though not more often than now and then.
    homes.side("/rotate", json!({}));
    until("the new key to be known", || homes.guest().0.me());
}

/// Where a page that leads on leads to.
fn onward(page: &Answer) -> String {
    let text = page.text();
    let to = text
        .split("content=\"0;url=")
        .nth(1)
        .unwrap_or_else(|| panic!("{text}"));
    to.split('"')
        .next()
        .unwrap()
        .replace("&#38;", "&")
        .replace("&amp;", "&")
}

impl Browser<'_> {
    /// Sends a form of a page of the gateway.
    fn post(&self, path: &str, field: &str) -> Answer {
        let base = self.homes.world.base();
        let jar = self.jar.path().to_str().unwrap();
        let (url, origin) = (format!("{base}{path}"), format!("Origin: {base}"));
        let args = [
            "-b",
            jar,
            "-c",
            jar,
            "-H",
            "Accept: text/html",
            "-H",
            &origin,
            "--data-urlencode",
            field,
            &url,
        ];
        curl(self.homes.bundle.to_str(), &args)
    }

    fn identities(&self) -> Vec<Value> {
        let url = format!("{}/api/v1/me/identities", self.homes.world.base());
        let jar = self.jar.path().to_str().unwrap();
        let answer = curl(self.homes.bundle.to_str(), &["-b", jar, &url]).expect(200);
        answer.json()["identities"].as_array().unwrap().clone()
    }
}

#[test]
fn b10_two_identities_open_one_account_once_both_sign_ins_are_hers_and_fresh() {
    let homes = Homes::new();
    homes.university(&["--approval", "automatic"]);
    homes.liar(&[]);
    let (alice, _) = homes.student("alice");
    let person = alice.me().unwrap()["person"].clone();
    // The provider's sign-in was long ago; another browser comes back; somebody else's session does.
    homes.tell(json!({ "mode": "stale" }));
    let away = onward(&alice.post("/identities/link", "idp=liar").expect(200));
    assert!(
        away.contains("prompt=login") && away.contains("max_age=0"),
        "{away}"
    );
    let (_, page) = alice.follow(&away, &[]);
    assert!(
        page.status == 403 && page.text().contains("did not ask you to sign in anew"),
        "{}",
        page.text()
    );
    homes.tell(json!({}));
    let away = onward(&alice.post("/identities/link", "idp=liar").expect(200));
    let back = alice
        .open(&away, &[])
        .expect(303)
        .header("location")
        .unwrap()
        .to_owned();
    let (bob, _) = homes.student("bob");
    let cookies = fs::read_to_string(alice.jar.path()).unwrap();
    let login = cookies
        .lines()
        .find(|line| line.contains("__Host-countersign-login"))
        .unwrap();
    let his = fs::read_to_string(bob.jar.path()).unwrap();
    fs::write(bob.jar.path(), format!("{his}{login}\n")).unwrap();
    let page = bob.open(&back, &[]);
    assert!(
        page.status == 403 && page.text().contains("session set out to link"),
        "{}",
        page.text()
    );
    assert_eq!(homes.world.stored("SELECT COUNT(*) FROM federated_identity"), 2);

    // Hers, and fresh.
    let away = onward(&alice.post("/identities/link", "idp=liar").expect(200));
    let (at, page) = alice.follow(&away, &[]);
    assert!(
        at.ends_with("/identities?note=identity-linked") && page.status == 200,
        "{at}: {}",
        page.text()
    );
    assert!(page.text().contains("carol-0003") && page.text().contains("alice-0001"));
    let mine = alice.identities();
    assert_eq!(mine.len(), 2);
    let (guest, _) = homes.guest();
    assert_eq!(guest.me().unwrap()["person"], person, "one account");
    let ids =
        |identities: &[Value]| -> Vec<Value> { identities.iter().map(|one| one["id"].clone()).collect() };
    assert_eq!(ids(&guest.identities()), ids(&mine), "and it sees both");
    // It is hers alone, and once.
    for (browser, status) in [(&alice, 409), (&bob, 403)] {
        let away = onward(&browser.post("/identities/link", "idp=liar").expect(200));
        assert_eq!(browser.follow(&away, &[]).1.status, status);
    }
    // Whoever is signed in at the real provider is asked there all the same.
    let away = onward(&bob.post("/identities/link", "idp=uni-a").expect(200));
    let (_, form) = bob.follow(&away, &[]);
    assert!(form.text().contains("name=\"password\""), "{}", form.text());

    // Taken away, with the sessions that began by it and no others; the last one stays.
    let of = |subject: &str| {
        let one = mine.iter().find(|one| one["subject"] == subject).unwrap();
        format!("identity={}", one["id"].as_str().unwrap())
    };
    bob.post("/identities/unlink", &of("carol-0003")).expect(404);
    alice.post("/identities/unlink", &of("carol-0003")).expect(303);
    assert!(guest.me().is_none() && alice.me().is_some());
    let page = alice.post("/identities/unlink", &of("alice-0001")).expect(409);
    assert!(page.text().contains("only way in"), "{}", page.text());
    let (guest, _) = homes.guest();
    assert_ne!(guest.me().unwrap()["person"], person);
    let records = homes.world.records();
    let changes = records.iter().map(|record| &record["event"]["change"]["change"]);
    let actions: Vec<&str> = changes
        .filter(|change| change["kind"] == "federated_identity" && change["person"].is_string())
        .map(|change| change["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "idp.admit",
            "idp.admit",
            "identity.link",
            "identity.unlink",
            "idp.admit"
        ]
    );
}
