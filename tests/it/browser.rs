//! The two-site attack in a real browser: the page of a tool, under the tool's own host, tries what a page can try against
//! the console, the API and another tool, while the visitor is signed in to all of them.

use std::fs;

use serde_json::{Value, json};

use crate::peers::Peer;
use crate::python::{PythonTool, wrap};
use crate::trace::Kept;
use crate::world::{PASSWORD, World, curl, until};

/// A tool with a page of its own; it keeps what reaches it like the others.
const PROGRAM: &str = r#"
import http.server, json, sys
PAGE = b"""<!DOCTYPE html><title>The tool's page</title><p>Good morning.</p><script>
async function attack(at) {
  const told = {};
  const attempt = async (name, act) => {
    try { told[name] = String(await act()); } catch (error) { told[name] = "failed: " + error.name; }
  };
  const role = '{"name":"stolen"}';
  const post = (url, type, body) => fetch(url, {method: "POST", mode: "no-cors", credentials: "include",
    headers: {"Content-Type": type}, body}).then(answer => answer.type);
  const framed = (load, url) => new Promise(done => {
    const frame = document.createElement("iframe");
    frame.name = "frame" + Math.random();
    let timer = setTimeout(() => done("silent"), 8000);
    frame.onload = () => {
      let inner = null;
      try { inner = frame.contentDocument; } catch (error) {}
      if (inner && inner.URL === "about:blank") return;
      clearTimeout(timer);
      done(inner ? "read: " + inner.body.textContent : "unreadable");
    };
    document.body.append(frame);
    load(frame, url);
  });
  const form = url => framed((frame, url) => {
    const form = document.createElement("form");
    form.method = "POST"; form.action = url; form.target = frame.name; form.enctype = "text/plain";
    const input = document.createElement("input");
    input.name = '{"name":"stolen","x":"'; input.value = '"}';
    form.append(input); document.body.append(form); form.submit();
  }, url);
  const frame = url => framed((frame, url) => { frame.src = url; }, url);
  const socket = url => new Promise(done => {
    const socket = new WebSocket(url);
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
  });
  const read = url => fetch(url, {credentials: "include"}).then(answer => answer.text());
  await attempt("roles by fetch", () => post(at.roles, "text/plain", role));
  await attempt("roles by form", () => form(at.roles));
  await attempt("roles with a preflight", () => fetch(at.roles, {method: "POST", credentials: "include",
    headers: {"Content-Type": "application/json"}, body: role}).then(answer => answer.status));
  await attempt("roles read", () => read(at.roles));
  await attempt("console read", () => read(at.console));
  await attempt("console in a frame", () => frame(at.console));
  await attempt("me read", () => read(at.me));
  await attempt("the other tool by fetch", () => post(at.act, "text/plain", "x"));
  await attempt("the other tool by form", () => form(at.act));
  await attempt("the other tool read", () => read(at.look));
  await attempt("the other tool by socket", () => socket(at.socket));
  await attempt("logout by fetch", () => post(at.logout, "text/plain", ""));
  await attempt("logout by form", () => form(at.logout));
  await attempt("sign-in by form", () => form(at.login));
  return told;
}
</script>"""
class Tool(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with open(sys.argv[1], "a") as kept:
            print(json.dumps({"method": self.command, "path": self.path, "host": self.headers.get("Host"),
                              "body": body.decode("latin-1")}), file=kept, flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)
    do_GET = do_POST = answer
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tool)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// A browser that is driven.
pub(crate) struct Browser {
    session: String,
    _peer: Peer,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let peer = Peer::start("chromium");
        let profile = format!("--user-data-dir={}", peer.env("PROFILE"));
        // The gateway's private CA is not the machine's; root has no sandbox.
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "timeouts": {"script": 120_000, "pageLoad": 60_000},
            "goog:chromeOptions": {"args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--no-proxy-server", profile
            ]},
        }}});
        let url = format!("{}/session", peer.env("URL"));
        let made = post(&url, &wanted);
        let id = made["sessionId"].as_str().unwrap_or_else(|| panic!("{made}"));
        Self {
            session: format!("{url}/{id}"),
            _peer: peer,
        }
    }

    /// The address of its session at the driver.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    pub(crate) fn open(&self, url: &str) {
        post(&format!("{}/url", self.session), &json!({"url": url}));
    }

    pub(crate) fn url(&self) -> String {
        let answer = curl(None, &[&format!("{}/url", self.session)]).json();
        answer["value"].as_str().unwrap().to_owned()
    }

    /// Shows pages as a phone of this width does, in CSS pixels.
    pub(crate) fn as_phone(&self, width: u32) {
        let metrics = json!({"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": true});
        let asked = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics});
        post(&format!("{}/goog/cdp/execute", self.session), &asked);
    }

    /// Runs a script in the page and gives what it returns (or what its promise becomes).
    pub(crate) fn run(&self, script: &str, arguments: Value) -> Value {
        let asked = json!({"script": script, "args": arguments});
        post(&format!("{}/execute/sync", self.session), &asked)
    }

    /// Presses these keys one after the other, wherever the focus is.
    pub(crate) fn press(&self, keys: &[&str]) {
        let press = |key: &&str| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key}));
        let actions: Vec<Value> = keys.iter().flat_map(press).collect();
        let asked = json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]});
        post(&format!("{}/actions", self.session), &asked);
    }

    /// Types into the element that a CSS selector names; a path chooses a file.
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let asked = json!({"using": "css selector", "value": selector});
        let found = post(&format!("{}/element", self.session), &asked);
        let id = found
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap()
            .as_str()
            .unwrap();
        post(
            &format!("{}/element/{id}/value", self.session),
            &json!({"text": text}),
        );
    }

    /// What the page says; nothing while another one is on its way.
    pub(crate) fn text(&self) -> String {
        let asked = json!({"script": "return document.body.innerText;", "args": []}).to_string();
        let url = format!("{}/execute/sync", self.session);
        let json = "Content-Type: application/json";
        let answer = curl(None, &["-X", "POST", "-H", json, "--data", &asked, &url]);
        let text = answer.json()["value"].as_str().map(str::to_owned);
        text.unwrap_or_default()
    }

    /// Signs in as a person does.
    pub(crate) fn sign_in(&self, world: &World, user: &str) {
        self.open(&format!("{}/login", world.base()));
        self.run(
            "const field = name => document.querySelector(`[name=${name}]`);
             field('username').value = arguments[0]; field('password').value = arguments[1];
             field('password').form.submit();",
            json!([user, PASSWORD]),
        );
        let home = format!("{}/", world.base());
        until("the console", || (self.url() == home).then_some(()));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = curl(None, &["-X", "DELETE", &self.session]);
    }
}

/// A WebDriver command; gives its value.
#[track_caller]
pub(crate) fn post(url: &str, body: &Value) -> Value {
    let text = body.to_string();
    let long = [
        "--max-time",
        "180",
        "-X",
        "POST",
        "-H",
        "Content-Type: application/json",
    ];
    let answer = curl(None, &[&long[..], &["--data", &text, url]].concat());
    let value = answer.json()["value"].clone();
    assert_eq!(answer.status, 200, "{url}: {value}");
    value
}

#[test]
fn in_a_browser_the_page_of_one_tool_can_do_nothing_with_the_session_at_another_site() {
    let world = World::start();
    world.admin();
    let tool = PythonTool::running(PROGRAM, &world.dir.path().join("kept.jsonl"));
    wrap(&world, "alpha", &tool.url(), "none");
    wrap(&world, "beta", &tool.url(), "none");
    let assign = ["role", "assign", "imense", "scientist", "admin"];
    world.cli("admin", &assign).ok();
    let (base, port) = (world.base(), world.port());
    let host = |tool: &str| format!("https://{tool}.gw.localhost:{port}");
    let (alpha, beta) = (host("alpha"), host("beta"));
    let roles = world.cli_json("admin", &["role", "list", "imense"]);

    let browser = Browser::start();
    browser.sign_in(&world, "admin");
    // Signed in at the other tool too, so that nothing of what follows fails for want of a session.
    for page in [format!("{beta}/look"), format!("{alpha}/look")] {
        browser.open(&page);
        until("the tool's page", || (browser.url() == page).then_some(()));
    }
    let acts = |tool: &PythonTool| tool.seen().iter().filter(|got| got["method"] != "GET").count();
    let told = browser.run(
        "return attack(arguments[0]);",
        json!([{
            "roles": format!("{base}/api/v1/vos/imense/roles"),
            "console": format!("{base}/"),
            "me": format!("{base}/.countersign/me"),
            "act": format!("{beta}/act"),
            "look": format!("{beta}/look"),
            "socket": format!("{}/look", beta.replace("https", "wss")),
            "logout": format!("{base}/.countersign/logout"),
            "login": format!("{base}/login"),
        }]),
    );
    for (attempt, outcome) in told.as_object().unwrap() {
        let outcome = outcome.as_str().unwrap();
        // An opaque answer says nothing, not even its status; the rest never got that far.
        let nothing = matches!(outcome, "opaque" | "unreadable" | "refused" | "failed: TypeError");
        assert!(nothing, "{attempt}: {outcome} ({told})");
    }
    assert_eq!(told.as_object().unwrap().len(), 14, "{told}");

    assert_eq!(world.cli_json("admin", &["role", "list", "imense"]), roles);
    assert_eq!(acts(&tool), 0, "{:?}", tool.seen());
    // Each attempt to act is on record with whose session was used; and nobody was signed out by it.
    let records = world.records();
    for (method, path, times) in [
        ("POST", "/api/v1/vos/imense/roles", 2),
        ("POST", "/act", 2),
        ("POST", "/.countersign/logout", 2),
    ] {
        let found: Vec<&Value> = records
            .iter()
            .map(|record| &record["event"]["refused"])
            .filter(|event| event["problem"] == "foreign_origin")
            .filter(|event| event["place"]["method"] == method && event["place"]["path"] == path)
            .collect();
        assert_eq!(found.len(), times, "{method} {path}: {found:?}");
        assert!(
            found.iter().all(|event| event["subject"]["person"].is_string()),
            "{found:?}"
        );
    }
    for page in [format!("{base}/"), format!("{beta}/look")] {
        browser.open(&page);
        assert_eq!(browser.url(), page, "the visitor was signed out");
    }
    // The tool's own page may act in its own name.
    browser.open(&format!("{beta}/look"));
    let own = "return fetch('/act', {method: 'POST', body: 'x'}).then(answer => answer.status);";
    assert_eq!(browser.run(own, json!([])), 200);
    assert_eq!(acts(&tool), 1);
}

#[test]
fn the_sample_tools_page_fits_on_a_phone() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let image = [b"P5\n4 4\n255\n".to_vec(), [10, 10, 200, 200].repeat(4)].concat();
    let name = "a-name-as-long-as-people-give-them".repeat(2);
    let path = format!("/jobs?name={name}");
    world.tool("john", "POST", &path, Some(&image)).expect(201);
    let page = format!("https://segmentation.gw.localhost:{}/", world.port());

    let browser = Browser::start();
    browser.as_phone(360);
    browser.sign_in(&world, "john");
    browser.open(&page);
    let rows = "return document.querySelectorAll('#jobs tr').length;";
    until("the job in its list", || {
        (browser.run(rows, json!([])) == 1).then_some(())
    });
    let widths = browser.run(
        "return [document.documentElement.scrollWidth, window.innerWidth];",
        json!([]),
    );
    assert_eq!(widths, json!([360, 360]), "what is wider scrolls by itself");
}

const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";

#[test]
fn h1_a_proxy_is_traced_in_a_browser_with_the_keyboard_alone_and_by_its_file() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let kept = Kept::at(&world, "grid");
    let (his, request) = kept.proxy_of(&world, "grid", "john");
    let browser = Browser::start();
    browser.sign_in(&world, "admin");
    assert!(browser.text().contains("of imense"), "{}", browser.text());
    let page = format!("{}/trace/imense", world.base());
    browser.open(&page);
    let unlabelled = "return [...document.querySelectorAll('input, textarea, select')]
        .filter(field => field.type !== 'hidden' && field.labels.length === 0).length;";
    assert_eq!(browser.run(unlabelled, json!([])), 0);
    // The field has the focus; from there on: file, proof, button.
    assert_eq!(
        browser.run("return document.activeElement.id;", json!([])),
        "query"
    );
    browser.type_into("#query", &crate::trace::blocks(&his).concat());
    browser.press(&[TAB, TAB, " ", TAB, ENTER]);
    let shown = until("the answer", || {
        let text = browser.text();
        text.contains("Proved: this is the certificate of this proxy")
            .then_some(text)
    });
    assert!(
        shown.contains("john@example.org") && shown.contains(&request),
        "{shown}"
    );
    assert!(shown.contains("Proof of the record 1."), "{shown}");
    // Its file in DER, as it is dropped on the field.
    let der = kept.folder.join("his.der");
    let bytes = crate::trace::der(&kept.folder, &crate::trace::blocks(&his)[0]);
    fs::write(&der, bytes).unwrap();
    browser.open(&page);
    browser.type_into("#file", der.to_str().unwrap());
    browser.run("document.querySelector('main form button').click();", json!([]));
    until("the answer", || {
        browser.text().contains("john@example.org").then_some(())
    });
    // What nobody knows is said above the form.
    browser.open(&page);
    browser.type_into("#query", "4711");
    browser.press(&[TAB, TAB, TAB, ENTER]);
    until("the answer", || {
        browser.text().contains("No proxy of imense fits").then_some(())
    });
    let traces = world
        .records()
        .iter()
        .filter(|record| !record["event"]["trace"].is_null())
        .count();
    assert_eq!(traces, 3);
}
