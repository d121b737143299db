//! The console in a real browser: what people come to do with it, what it shows to whom, and how each page looks and reads.
//! `tests/screens DIR` keeps the pictures of the pages.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::proof::check;
use crate::world::{World, curl, until};

/// Most bytes of a page with all that it loads.
const LARGEST: u64 = 100_000;

/// A page, who looks at it, and where it is.
struct Shown {
    name: &'static str,
    who: &'static str,
    path: String,
}

/// A VO in which something has happened: a tool, two people, jobs, refusals, an alert.
fn lived_in() -> World {
    let mut world = World::start();
    world.admin();
    world.segmentation();
    world.cli("admin", &["role", "create", "imense", "visitor"]).ok();
    world.person("john", &["scientist"]).person("mary", &["visitor"]);
    let image = [b"P5\n4 4\n255\n".to_vec(), [10, 10, 200, 200].repeat(4)].concat();
    world
        .tool("john", "POST", "/jobs?name=first", Some(&image))
        .expect(201);
    for path in ["/nothing", "/nothing", "/nothing/else"] {
        world.tool("john", "GET", path, None).expect(403);
    }
    for _ in 0..4 {
        world.tool("mary", "GET", "/jobs", None).expect(403);
    }
    world
}

fn id_of(world: &World, user: &str) -> String {
    let list = world.cli_json("admin", &["user", "list", "imense"]);
    let users = list["users"].as_array().or(list.as_array()).unwrap();
    let found = users.iter().find(|known| known["username"] == user);
    found.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Every page there is, for one world.
fn pages(world: &World) -> Vec<Shown> {
    let refused = world.tool("john", "GET", "/nothing", None).request_id();
    let john = id_of(world, "john");
    let vo = |path: &str| format!("/console/vos/imense/{path}");
    let page = |name, who, path: &str| Shown {
        name,
        who,
        path: path.to_owned(),
    };
    vec![
        page("login", "", "/login"),
        page("problems", "", "/.countersign/problems"),
        page("problem", "", "/.countersign/problems/no_grant"),
        page("my-access", "john", "/"),
        page("my-requests", "john", "/console/requests"),
        page("my-refusals", "john", "/console/requests?only=refused"),
        page("my-request", "john", &format!("/console/requests/{refused}")),
        page("my-sessions", "john", "/console/sessions"),
        page("password", "john", "/password"),
        page("factors", "john", "/factors"),
        page("refused", "john", &vo("members")),
        page("administrators-access", "admin", "/"),
        page("members", "admin", &vo("members")),
        page("members-none", "admin", &vo("members?text=nobody")),
        page("member", "admin", &vo(&format!("members/{john}"))),
        page("roles", "admin", &vo("roles")),
        page("tools", "admin", &vo("tools")),
        page("tool", "admin", &vo("tools/segmentation")),
        page("denials", "admin", &vo("denials?span=day")),
        page("audit", "admin", &vo("audit")),
        page("audit-fault", "admin", &vo("audit?who=nobody")),
        page("audit-request", "admin", &vo(&format!("requests/{refused}"))),
        page("trace", "admin", "/trace/imense"),
        page("gateway", "admin", "/console/gateway"),
    ]
}

/// How a page is looked at.
struct Look {
    name: &'static str,
    width: u32,
    dark: bool,
}

const LOOKS: [Look; 4] = [
    Look {
        name: "wide-light",
        width: 1280,
        dark: false,
    },
    Look {
        name: "wide-dark",
        width: 1280,
        dark: true,
    },
    Look {
        name: "phone-light",
        width: 390,
        dark: false,
    },
    Look {
        name: "phone-dark",
        width: 390,
        dark: true,
    },
];

impl Browser {
    /// A command of the browser's own protocol.
    fn devtools(&self, folder: &Path, command: &str, parameters: &Value) -> Value {
        let asked = json!({"cmd": command, "params": parameters}).to_string();
        // It may be longer than an argument can be.
        let file = folder.join("devtools.json");
        fs::write(&file, asked).unwrap();
        let url = format!("{}/goog/cdp/execute", self.session());
        let body = format!("@{}", file.display());
        let json = "Content-Type: application/json";
        let args = [
            "--max-time",
            "120",
            "-X",
            "POST",
            "-H",
            json,
            "--data-binary",
            &body,
            &url,
        ];
        curl(None, &args).expect(200).json()["value"].clone()
    }

    fn look(&self, folder: &Path, look: &Look) {
        let metrics =
            json!({"width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": look.width < 800});
        self.devtools(folder, "Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools(folder, "Emulation.setEmulatedMedia", &media);
    }

    /// The whole page as a picture.
    fn picture(&self, folder: &Path, file: &Path) {
        let height = "return document.documentElement.scrollHeight;";
        let height = self.run(height, json!([])).as_u64().unwrap().min(8_000);
        let width = self.run("return window.innerWidth;", json!([]));
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let asked = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.devtools(folder, "Page.captureScreenshot", &asked);
        let data = shot["data"].as_str().unwrap();
        fs::write(file, data_encoding::BASE64.decode(data.as_bytes()).unwrap()).unwrap();
    }

    /// What it would send to the gateway's own host.
    fn cookies(&self) -> String {
        let all = curl(None, &[&format!("{}/cookie", self.session())]).json();
        let one = |cookie: &Value| {
            let word = |name: &str| cookie[name].as_str().unwrap().to_owned();
            format!("{}={}", word("name"), word("value"))
        };
        let all: Vec<String> = all["value"].as_array().unwrap().iter().map(one).collect();
        all.join("; ")
    }

    fn sign_out(&self) {
        curl(None, &["-X", "DELETE", &format!("{}/cookie", self.session())]).expect(200);
    }

    /// Presses the first thing that a selector names, and waits until the page says `then`.
    #[track_caller]
    fn press_and_read(&self, selector: &str, then: &str) -> String {
        let script = "const found = document.querySelector(arguments[0]); if (!found) return false;
            found.closest('details')?.setAttribute('open', '');
            for (const field of found.form?.querySelectorAll('[name=reason]') || []) field.value ||= 'a test';
            found.click(); return true;";
        assert_eq!(
            self.run(script, json!([selector])),
            true,
            "no `{selector}` in {}",
            self.text()
        );
        until(&format!("`{then}`"), || {
            let text = self.text();
            text.contains(then).then_some(text)
        })
    }

    #[track_caller]
    fn read(&self, url: &str, then: &str) -> String {
        self.open(url);
        let text = self.text();
        assert!(text.contains(then), "no `{then}` in {text}");
        text
    }
}

/// The accessibility checker, as `tests/peers/install axe` brings it.
fn axe() -> String {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/.cache/axe/node_modules/axe-core/axe.min.js");
    fs::read_to_string(&file).expect("axe-core is missing; run tests/peers/install axe")
}

/// What a page breaks of WCAG 2.2 AA, as the checker words it.
fn violations(browser: &Browser) -> Value {
    let tags = json!(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]);
    browser.run(
        "return axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}}).then(result =>
            result.violations.map(rule => rule.id + ': ' + rule.nodes.map(node =>
                node.target.join(' ') + ' ' + (node.any[0] || node.all[0] || node.none[0] || {}).message).join('; ')));",
        json!([tags]),
    )
}

#[test]
fn m5_every_page_is_small_fits_a_phone_and_breaks_no_rule_of_wcag_2_2_aa_in_light_and_dark() {
    let axe = axe();
    let world = lived_in();
    let pages = pages(&world);
    let kept = std::env::var_os("COUNTERSIGN_SCREENS").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let browser = Browser::start();
    browser.devtools(folder, "Page.enable", &json!({}));
    let source = json!({ "source": axe });
    browser.devtools(folder, "Page.addScriptToEvaluateOnNewDocument", &source);
    let mut signed_in = "";
    let mut wrong = Vec::new();
    for page in &pages {
        if page.who != signed_in {
            browser.sign_out();
            browser.sign_in(&world, page.who);
            signed_in = page.who;
        }
        for look in &LOOKS {
            browser.look(folder, look);
            browser.open(&format!("{}{}", world.base(), page.path));
            let at = format!("{} {}", page.name, look.name);
            if let Some(kept) = &kept {
                fs::create_dir_all(kept).unwrap();
                let name = format!("{}-{}.png", page.name, look.name);
                browser.picture(folder, &kept.join(name));
            }
            let found = violations(&browser);
            if found != json!([]) {
                wrong.push(format!("{at}: {found}"));
            }
            let widths = "return document.documentElement.scrollWidth - window.innerWidth;";
            if browser.run(widths, json!([])).as_i64().unwrap() > 0 {
                wrong.push(format!("{at}: is wider than its window"));
            }
            let size = "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
                .reduce((sum, entry) => sum + entry.decodedBodySize, 0);";
            let size = browser.run(size, json!([])).as_u64().unwrap();
            if !(1_000..LARGEST).contains(&size) {
                wrong.push(format!("{at}: {size} bytes"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn m9_a_scientist_is_refused_in_the_browser_and_reads_why_and_what_to_do() {
    let world = lived_in();
    let browser = Browser::start();
    browser.sign_in(&world, "mary");
    // A page of an administrator: refused by the operation behind it, on record under her name.
    let page = browser.read(
        &format!("{}/console/vos/imense/members", world.base()),
        "None of your roles allows this task",
    );
    for part in [
        "What to do next",
        "no_grant",
        "user.list",
        "Ask your VO administrator",
    ] {
        assert!(page.contains(part), "no `{part}` in {page}");
    }
    let mary = id_of(&world, "mary");
    let records = world.records();
    let refused = records.iter().map(|record| &record["event"]["refused"]);
    let own: Vec<&Value> = refused
        .filter(|event| event["subject"]["person"] == mary.as_str() && event["place"]["task"] == "user.list")
        .collect();
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(page.contains(own[0]["request"].as_str().unwrap()), "{page}");

    // Her refusals at the tool stand in her list, each with its reason.
    let list = browser.read(
        &format!("{}/console/requests?only=refused", world.base()),
        "list jobs",
    );
    assert!(
        list.contains("no_grant") && list.contains("segmentation of imense"),
        "{list}"
    );
    let why = browser.press_and_read("td a[href^='/console/requests/']", "Reason code");
    assert!(
        why.contains("What to do next") && why.contains("Would allow it"),
        "{why}"
    );
}

#[test]
fn m9_ones_own_requests_are_listed_to_oneself_alone() {
    let world = lived_in();
    let list = |user: &str, more: &[&str]| {
        let found = world.cli_json(user, &[&["request", "list"], more].concat());
        let found = found["requests"].as_array().or(found.as_array()).unwrap().clone();
        let pair = |request: &Value| (request["task"].clone(), request["reason"].clone());
        found.iter().map(pair).collect::<Vec<_>>()
    };
    let hers = list("mary", &["--refused"]);
    assert_eq!(hers, vec![(json!("list jobs"), json!("no_grant")); 4]);
    let his = list("john", &[]);
    assert!(his.contains(&(json!("submit job"), json!("granted"))), "{his:?}");
    assert!(his.iter().all(|(task, _)| task != "list jobs"), "{his:?}");
    // What somebody else asked looks like nothing at all.
    let refused = world.tool("john", "GET", "/nothing", None).request_id();
    let browser = Browser::start();
    browser.sign_in(&world, "mary");
    let page = format!("{}/console/requests/{refused}", world.base());
    browser.read(&page, "There is no such thing");
}

#[test]
fn an_administrators_page_asks_for_the_second_factor_where_the_gateway_wants_one() {
    let mut world = World::initialised();
    let settings = world.data().join("countersign.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let text = text.replace(
        "[authenticate]\n",
        "[authenticate]\nrequire_mfa_for_admin = true\n",
    );
    assert!(text.contains("require_mfa_for_admin = true"), "{text}");
    fs::write(&settings, text).unwrap();
    world.serve();
    world.admin();
    let browser = Browser::start();
    browser.sign_in(&world, "admin");
    browser.open(&format!(
        "{}/console/vos/imense/members?state=active",
        world.base()
    ));
    let led = format!(
        "{}/step-up?to=%2Fconsole%2Fvos%2Fimense%2Fmembers%3Fstate%3Dactive",
        world.base()
    );
    assert_eq!(browser.url(), led, "{}", browser.text());
    // What is her own needs none.
    browser.read(&format!("{}/console/sessions", world.base()), "this one");
}

#[test]
fn m9_each_class_of_refusal_has_a_text_of_its_own() {
    let world = World::start();
    let page = |path: &str| {
        world
            .curl(&[&format!("{}{path}", world.base())])
            .expect(200)
            .text()
    };
    let list = page("/.countersign/problems");
    let links: Vec<&str> = list
        .split("href=\"/.countersign/problems/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(links.len() > 30, "{links:?}");
    let mut texts: Vec<String> = links
        .iter()
        .map(|name| {
            let text = page(&format!("/.countersign/problems/{name}"));
            assert!(text.contains("What to do next:") && text.contains(name), "{text}");
            let main = text.split("<main").nth(1).unwrap();
            main.split("<dl>").next().unwrap().to_owned()
        })
        .collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), links.len(), "two classes say the same");
}

#[test]
fn m2_m5_an_administrator_adds_a_member_grants_a_task_and_sees_the_denials_in_the_console() {
    let world = lived_in();
    let base = world.base();
    let vo = |path: &str| format!("{base}/console/vos/imense/{path}");
    let browser = Browser::start();
    browser.sign_in(&world, "admin");

    // What is wrong with the form is said at the field.
    browser.read(&vo("members"), "Add a member");
    let fill = |username: &str| {
        browser.run(
            "const set = (name, value) => { document.querySelector(`main form[method=post] [name=${name}]`).value = value; };
             set('username', arguments[0]); set('name', 'Anna Berg'); set('reason', 'joins the study');
             document.querySelector('[name=show]').checked = true;",
            json!([username]),
        );
    };
    fill("Anna Berg!");
    let add = "main form[method=post] button:not([name])";
    browser.press_and_read(add, "cannot be a user name");
    let described = "const field = document.querySelector('[name=username][aria-invalid=true]');
        return field && document.getElementById(field.getAttribute('aria-describedby')).innerText;";
    let described = browser.run(described, json!([]));
    assert!(
        described
            .as_str()
            .is_some_and(|text| text.contains("cannot be a user name")),
        "{described}"
    );
    fill("anna");
    let added = browser.press_and_read(add, "anna is a member now");
    assert!(added.contains("one-time password"), "{added}");
    let one_time = browser.run(
        "return document.querySelector('code.secret').innerText;",
        json!([]),
    );
    world.login("anna", one_time.as_str().unwrap()).ok();
    browser.read(&vo("members?text=Berg"), "Anna Berg");

    // She is refused; the matrix grants the task; then she is not.
    world.tool("anna", "GET", "/jobs", None).expect(200);
    let jobs = "button[name=remove][aria-label='Remove: scientist may list jobs own']";
    browser.read(&vo("roles?tool=segmentation"), "list jobs");
    browser.press_and_read(jobs, "The grant is removed");
    world.tool("anna", "GET", "/jobs", None).expect(403);
    browser.run("document.querySelector('#when').value = 'own';", json!([]));
    browser.press_and_read(
        "button[name=add][value='scientist/list jobs']",
        "The grant is made",
    );
    world.tool("anna", "GET", "/jobs", None).expect(200);

    // The picture has the denial, and the table beside it leads to the reason and to its proof.
    let denials = browser.read(&vo("denials?span=day"), "The same as a table");
    assert!(denials.contains("anna") && denials.contains("mary"), "{denials}");
    let dots = "return [...document.querySelectorAll('svg.picture title')].map(title => title.textContent);";
    let dots = browser.run(dots, json!([]));
    let dots: Vec<&str> = dots
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        dots.iter()
            .any(|dot| dot.starts_with("mary, list jobs (segmentation): 4 ")),
        "{dots:?}"
    );
    let why = browser.press_and_read("td.time a[href*='/requests/']", "Its records in the log");
    assert!(
        why.contains("Policies") || why.contains("no_task") || why.contains("no_grant"),
        "{why}"
    );

    // An account is stopped and let in again.
    let anna = id_of(&world, "anna");
    browser.read(&vo(&format!("members/{anna}")), "Anna Berg");
    browser.press_and_read("button[value=suspend]", "The account is suspended");
    world.tool("anna", "GET", "/jobs", None).expect(401);
    browser.press_and_read("button[value=resume]", "The account is resumed");

    // Each of these is a change of the operation's own, with the reason that was given.
    let records = world.records();
    let actions: Vec<&str> = records
        .iter()
        .filter_map(|record| record["event"]["change"]["change"]["action"].as_str())
        .collect();
    for action in ["user.suspend", "user.resume", "grant.remove", "grant.add"] {
        assert!(actions.contains(&action), "no `{action}` in {actions:?}");
    }
    let told = |record: &Value| record["event"]["change"]["reason"] == "joins the study";
    assert!(records.iter().any(told), "the reason stands on record");
    // And what is looked at is asked for as by a program.
    let asked = |task: &str| {
        let intents = records
            .iter()
            .filter(|record| record["event"]["intent"]["place"]["task"] == task);
        intents.count()
    };
    assert!(asked("console.members") > 0 && asked("user.list") >= asked("console.members"));
}

#[test]
fn m5_a_proof_that_was_downloaded_from_the_console_holds_offline() {
    let world = lived_in();
    let refused = world.tool("john", "GET", "/nothing", None).request_id();
    let browser = Browser::start();
    browser.sign_in(&world, "admin");
    let url = format!("{}/console/vos/imense/requests/{refused}", world.base());
    browser.read(&url, "Its records in the log");
    let href = "return document.querySelector('a[download]').href;";
    let href = browser.run(href, json!([]));
    let cookie = format!("Cookie: {}", browser.cookies());
    let answer = world.curl(&["-H", &cookie, href.as_str().unwrap()]).expect(200);
    assert!(
        answer
            .header("content-disposition")
            .is_some_and(|value| value.starts_with("attachment"))
    );
    let file = world.dir.path().join("record.tlog-proof");
    fs::write(&file, &answer.body).unwrap();
    let said = check(&file, &world.data().join("keys/log.pub"), &[]).ok().stdout;
    assert!(said.contains("The proof holds."), "{said}");
}
