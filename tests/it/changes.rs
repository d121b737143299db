//! Feature row I7: every operation that changes something leaves its change, with before and after. The test walks the list of
//! tasks: a new one that nobody called here fails.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use countersign::tool::Kind;
use serde_json::{Value, json};

use crate::factor::Authenticator;
use crate::python::PythonTool;
use crate::world::{Answer, PASSWORD, World, until};

/// Tasks that change no state of the gateway's but sessions, with the event that they leave instead of a change.
const OF_SESSIONS: [(&str, &str); 4] = [
    ("session.create", "login"),
    ("session.end", "session_ended"),
    ("session.step_up", "login"),
    ("token.revoke", "session_ended"),
];
/// Updates of what was not there before: their change has no `before`.
const NEW: [&str; 7] = [
    "idp.approve",
    "account.approve",
    "user.reset_password",
    "vo_certificate.import",
    "tool.set_credential",
    "resource.import",
    "request.settle",
];

/// A tool that notes what it got, and never answers.
const SILENT: &str = r#"
import http.server, sys, threading
class Tool(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_POST(self):
        with open(sys.argv[1], "a") as kept: print('{"path": "/"}', file=kept, flush=True)
        threading.Event().wait()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tool)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

const MANIFEST: &str = "[tool]\nname = \"jobs\"\nupstream = \"jobs\"\ndelegation = \"none\"\n
[[task]]\nname = \"submit\"\nmatch = [\"POST /jobs\"]\nkind = \"create\"
creates = { type = \"job\", id = \"header:Location#last-segment\", status = [201], owner = \"subject\" }
[type.job]\nunique = true\n";

/// Calls operations, and notes which request was for which task.
struct Walk {
    world: World,
    asked: BTreeMap<String, String>,
}

impl Walk {
    /// An operation with this answer's status, by the address that the API itself gives.
    #[track_caller]
    fn call(&mut self, user: &str, task: &str, at: &[(&str, &str)], body: Option<Value>) -> Value {
        let (method, path) =
            countersign::api::address(task, at).unwrap_or_else(|| panic!("no address of {task}"));
        let path = match reasoned(task) {
            true => self.with_reason(user, (task, method.as_str(), &path), body.clone()),
            false => path,
        };
        let answer = self.send(user, method.as_str(), &path, body);
        assert!((200..300).contains(&answer.status), "{task}: {}", answer.text());
        self.asked.insert(task.to_owned(), answer.request_id());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// The address with a reason, after it was refused without one (which changed nothing: what follows finds all as it was).
    #[track_caller]
    fn with_reason(
        &self,
        user: &str,
        (task, method, path): (&str, &str, &str),
        body: Option<Value>,
    ) -> String {
        let answer = self.send(user, method, path, body);
        assert_eq!(answer.status, 422, "{task}: {}", answer.text());
        assert_eq!(answer.problem(), "reason_required", "{task}");
        format!("{path}?reason=for%20{task}")
    }

    fn send(&self, user: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let url = format!("{}{path}", self.world.base());
        let bearer = format!("Authorization: Bearer {}", self.world.token(user));
        let mut args = vec!["-X", method, "-H", &bearer];
        let text = body.map(|body| body.to_string());
        if let Some(text) = &text {
            args.extend(["-H", "Content-Type: application/json", "--data-binary", text]);
        }
        args.push(&url);
        self.world.curl(&args)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.world.dir.path().join(name)).unwrap()
    }
}

/// Whether a task edits by hand who may do what.
fn reasoned(task: &str) -> bool {
    let tasks = countersign::api::tasks();
    tasks.iter().any(|known| known.name == task && known.reasoned)
}

fn people_and_roles(walk: &mut Walk) {
    let vo = ("vo", "imense");
    walk.call("admin", "vo.create", &[], Some(json!({ "name": "lab" })));
    walk.call("admin", "vo.suspend", &[("vo", "lab")], None);
    walk.call("admin", "vo.resume", &[("vo", "lab")], None);
    let jane = json!({ "username": "jane", "name": "Jane", "show_password": true });
    let added = walk.call("admin", "user.add", &[vo], Some(jane));
    let person = added["user"]["id"].as_str().unwrap().to_owned();
    let jane = [vo, ("person", person.as_str())];
    walk.call(
        "admin",
        "user.edit",
        &jane,
        Some(json!({ "name": "Jane Doe", "mail": "jane@example.org" })),
    );
    walk.call("admin", "user.suspend", &jane, None);
    walk.call("admin", "user.resume", &jane, None);
    let until = json!({ "until": "2090-01-01T00:00:00Z" });
    walk.call("admin", "user.expire", &jane, Some(until));
    walk.call("admin", "user.flag_compromised", &jane, None);
    walk.call("admin", "user.reset_password", &jane, None);
    let of = |file: &str| format!("{}/certs/{file}", env!("CARGO_MANIFEST_DIR"));
    let files = (of("vo-ec.pem"), of("vo-ec.key"));
    let proof = crate::certificates::prove(walk.world.dir.path(), (&files.0, &files.1), "jane");
    let proof = data_encoding::BASE64.encode(&fs::read(proof).unwrap());
    let certificate = json!({ "certificate": include_str!("../../certs/vo-ec.pem"), "proof": proof });
    let linked = walk.call("admin", "user.add_certificate", &jane, Some(certificate));
    let certificate = ("certificate", linked["id"].as_str().unwrap());
    let certificate = [jane[0], jane[1], certificate];
    let note = json!({ "note": "a test" });
    walk.call("admin", "user.mark_certificate", &certificate, Some(note));
    walk.call("admin", "user.remove_certificate", &certificate, None);
    walk.call("admin", "user.clear_certificate", &[certificate[2]], None);
    walk.call("admin", "user.revoke_proxies", &jane, Some(json!({})));
    walk.call("john", "proxy.revoke", &[], Some(json!({})));
    walk.call("admin", "role.create", &[vo], Some(json!({ "name": "reader" })));
    let reader = [vo, ("role", "reader"), ("person", person.as_str())];
    walk.call("admin", "role.assign", &reader, Some(json!({})));
    walk.call("admin", "role.unassign", &reader, None);
    walk.call("admin", "user.remove", &jane, None);
    walk.call("admin", "person.erase", &[("person", person.as_str())], None);
    let kate = json!({ "username": "kate", "name": "Kate", "show_password": true });
    let added = walk.call("admin", "user.add", &[vo], Some(kate));
    let kate = [vo, ("person", added["user"]["id"].as_str().unwrap())];
    walk.call("admin", "user.delete", &kate, None);
    let john = walk.call("john", "person.me", &[], None)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    walk.call(
        "admin",
        "administrator.add",
        &[],
        Some(json!({ "username": "john" })),
    );
    walk.call("admin", "administrator.remove", &[("person", &john)], None);
    walk.world.login("john", PASSWORD).ok();
    let sessions = walk.call(
        "john",
        "session.create",
        &[],
        Some(json!({ "username": "john", "password": PASSWORD })),
    );
    let session = sessions["session"].as_str().unwrap().to_owned();
    walk.call("john", "session.end", &[("session", &session)], None);
    let expires = crate::personal_token::days(1);
    let token = json!({ "name": "nightly", "scopes": ["imense"], "expires": expires });
    let token = walk.call("john", "token.create", &[], Some(token));
    let token = token["id"].as_str().unwrap().to_owned();
    walk.call("john", "token.revoke", &[("token", &token)], None);
    let new = json!({ "current": PASSWORD, "new": "another quiet walk by the sea" });
    walk.call("mary", "user.change_own_password", &[], Some(new));
}

/// Two ask for accounts, of whom one gets hers; an invitation is taken back.
fn accounts(walk: &mut Walk) {
    let vo = ("vo", "imense");
    walk.call(
        "admin",
        "account.take_requests",
        &[vo],
        Some(json!({ "open": true })),
    );
    for (user, decision) in [("lea", "account.approve"), ("max", "account.reject")] {
        let form = |path: &str, fields: &str| {
            let url = format!("{}/vo/imense/join{path}", walk.world.base());
            walk.world.curl(&["--data-binary", fields, &url]).expect(200)
        };
        form(
            "",
            &format!("username={user}&name=N&mail={user}%40example.org&reason=work"),
        );
        let mail = until("the mail with the link", || {
            let folder = fs::read_dir(walk.world.data().join("outbox")).ok()?;
            folder
                .map(|mail| fs::read_to_string(mail.unwrap().path()).unwrap_or_default())
                .find(|mail| mail.contains(&format!("{user}@example.org")) && mail.contains("code"))
        });
        let (code, new) = (crate::accounts::code_in(&mail), PASSWORD.replace(' ', "+"));
        form("/confirm", &format!("code={code}&new={new}&again={new}"));
        let waiting = walk.call("admin", "account.list", &[vo], None);
        let id = waiting["accounts"][0]["id"].as_str().unwrap().to_owned();
        let body = match decision {
            "account.reject" => json!({ "message": "Not now." }),
            _ => json!({}),
        };
        walk.call("admin", decision, &[vo, ("account", &id)], Some(body));
    }
    let made = walk.call("admin", "invitation.create", &[vo], Some(json!({})));
    let id = made["id"].as_str().unwrap().to_owned();
    walk.call("admin", "invitation.revoke", &[vo, ("invitation", &id)], None);
}

/// Terms of use are put in force, accepted, and taken away again.
fn terms(walk: &mut Walk) {
    let text = json!({ "text": "Be kind.\n" });
    for (set, at) in [
        ("terms.set_gateway", &[][..]),
        ("terms.set", &[("vo", "imense")][..]),
    ] {
        walk.call("admin", set, at, Some(text.clone()));
        let owed = walk.call("admin", "terms.owed", &[], None);
        let shown = &owed["owed"][0];
        let read = json!({ "vo": shown["vo"], "version": shown["version"], "digest": shown["digest"] });
        let accept = json!({ "accept": [read] });
        walk.call("admin", "terms.accept", &[], Some(accept));
        walk.call("admin", set, at, Some(json!({})));
    }
}

/// Somebody adds an authenticator, makes new recovery codes and removes it; another shows hers and loses it.
fn factors(walk: &mut Walk) {
    let bound = |walk: &mut Walk, user: &str| {
        let offer = walk.call(user, "factor.offer", &[], Some(json!({ "password": PASSWORD })));
        let mut authenticator = Authenticator::of(&offer);
        let add = json!({ "binding": offer["binding"], "code": authenticator.code() });
        let added = walk.call(user, "factor.add", &[], Some(add));
        (authenticator, added["id"].as_str().unwrap().to_owned())
    };
    let (mut of_john, id) = bound(walk, "john");
    let code = json!({ "code": of_john.code() });
    let codes = walk.call("john", "factor.renew_recovery_codes", &[], Some(code));
    let code = json!({ "code": codes["recovery_codes"][0] });
    walk.call("john", "factor.remove", &[("factor", &id)], Some(code));
    walk.world.login("john", PASSWORD).ok();
    let (mut of_mary, _) = bound(walk, "mary");
    let mary = walk.call("mary", "person.me", &[], None)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let code = json!({ "code": of_mary.code() });
    walk.call("mary", "session.step_up", &[], Some(code));
    let mary = [("vo", "imense"), ("person", mary.as_str())];
    walk.call("admin", "person.factor.reset", &mary, None);
    walk.world.login("mary", PASSWORD).ok();
}

fn tools(walk: &mut Walk, url: &str) {
    let vo = ("vo", "imense");
    walk.call(
        "admin",
        "upstream.allow",
        &[vo],
        Some(json!({ "name": "jobs", "url": url })),
    );
    walk.call("admin", "tool.add", &[vo], Some(json!({ "manifest": MANIFEST })));
    let grant = json!({ "role": "scientist", "tool": "jobs", "tasks": ["submit"] });
    walk.call("admin", "grant.add", &[vo], Some(grant));
    walk.call(
        "admin",
        "resource.import",
        &[vo, ("tool", "jobs")],
        Some(json!({ "csv": "type,id,owner\njob,1,john\n" })),
    );
    let other = MANIFEST
        .replace("\"jobs\"", "\"spare\"")
        .replace("\"none\"", "\"static\"");
    let spare = json!({ "name": "spare", "url": "http://127.0.0.1:9" });
    walk.call("admin", "upstream.allow", &[vo], Some(spare));
    walk.call("admin", "tool.add", &[vo], Some(json!({ "manifest": other })));
    let credential = json!({ "scheme": "bearer", "secret": "of the tool's own" });
    walk.call(
        "admin",
        "tool.set_credential",
        &[vo, ("tool", "spare")],
        Some(credential),
    );
    let grant = json!({ "role": "scientist", "tool": "spare", "tasks": ["submit"] });
    let granted = walk.call("admin", "grant.add", &[vo], Some(grant));
    let id = granted["grants"][0].clone();
    let id = id
        .as_str()
        .or(id["id"].as_str())
        .unwrap_or_else(|| panic!("{granted}"))
        .to_owned();
    walk.call("admin", "grant.remove", &[vo, ("grant", &id)], None);
    walk.call("admin", "tool.remove", &[vo, ("tool", "spare")], None);
    walk.call("admin", "upstream.end", &[vo, ("upstream", "spare")], None);
    walk.call("admin", "role.end", &[vo, ("role", "reader")], None);
    let made = Command::new("openssl")
        .current_dir(walk.world.dir.path())
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
        ])
        .args([
            "-subj",
            "/O=Test/CN=VO imense",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args([
            "-addext",
            "keyUsage=critical,digitalSignature",
            "-keyout",
            "vo.key",
            "-out",
            "vo.pem",
        ])
        .stderr(Stdio::null())
        .status()
        .expect("openssl runs (apt-get install openssl)");
    assert!(made.success());
    let pair = json!({
        "certificate": walk.read("vo.pem"), "key": walk.read("vo.key"), "certificate_name": "vo.pem",
        "key_name": "vo.key",
    });
    walk.call("admin", "vo_certificate.import", &[vo], Some(pair));
    let limit = json!({ "lifetime": 600 });
    walk.call("admin", "proxy_limit.set", &[vo], Some(limit));
    walk.call(
        "admin",
        "ceiling.set",
        &[vo],
        Some(json!({ "kinds": ["read", "create"] })),
    );
    walk.call("admin", "ceiling.set", &[vo], Some(json!({ "lift": true })));
    let tells = json!({ "tells": "username" });
    walk.call("admin", "proxy_identity.set", &[vo], Some(tells));
    let late = json!({ "name": "late", "url": "http://127.0.0.1:9" });
    walk.call("admin", "upstream.allow", &[vo], Some(late));
    walk.world
        .write_store("UPDATE upstream SET url = 'http://127.0.0.1:10' WHERE name = 'late'");
    let doubts = walk.call("admin", "state.list", &[], None);
    let found = json!({ "found": doubts["doubts"][0]["found"], "reason": "meant so" });
    walk.call("admin", "state.accept", &[("level", "imense")], Some(found));
    let settings = walk.world.data().join("countersign.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text + "\n# changed\n").unwrap();
    walk.call("admin", "gateway.reload", &[], None);
}

/// An identity provider comes and goes; of two who came from it one gets an account. Nothing is asked of it.
fn identity_providers(walk: &mut Walk) {
    let settings = json!({ "display_name": "University A", "client_id": "gateway" });
    let add = json!({ "name": "uni-a", "issuer": "https://idp.example.org", "client_secret": "s", "settings": settings });
    let added = walk.call("admin", "idp.add", &[], Some(add));
    let idp = ("idp", "uni-a");
    let edit = json!({ "settings": { "display_name": "University B" } });
    walk.call("admin", "idp.edit", &[idp], Some(edit));
    walk.call("admin", "idp.suspend", &[idp], None);
    walk.call("admin", "idp.resume", &[idp], None);
    let provider = added["id"].as_str().unwrap().replace('-', "");
    for (id, subject) in [("1", "alice-0001"), ("2", "bob-0002")] {
        walk.world.write_store(&format!(
            "INSERT INTO federated_identity VALUES (X'0199a1b2000070008000{id:0>12}', zeroblob(16), X'{provider}',
                 'https://idp.example.org', '{subject}', zeroblob(16), NULL, 'pending', '{{}}', NULL, 1, 1, 1, NULL)"
        ));
    }
    let of = |id: &str| format!("0199a1b2-0000-7000-8000-{id:0>12}");
    let (alice, bob) = (of("1"), of("2"));
    walk.call("admin", "idp.approve", &[idp, ("identity", &alice)], None);
    // And one of John's own, whose password opens his account too.
    let john = walk.call("john", "person.me", &[], None)["id"]
        .as_str()
        .unwrap()
        .replace('-', "");
    walk.world.write_store(&format!(
        "INSERT INTO federated_identity VALUES (X'0199a1b2000070008000000000000003', zeroblob(16), X'{provider}',
             'https://idp.example.org', 'john-0003', zeroblob(16), X'{john}', 'active', '{{}}', NULL, 1, 1, 1, NULL)"
    ));
    let own = of("3");
    walk.world.login("john", PASSWORD).ok();
    walk.call("john", "identity.unlink", &[("identity", &own)], None);
    walk.call("admin", "idp.reject", &[idp, ("identity", &bob)], None);
    walk.call("admin", "idp.remove", &[idp], None);
}

/// A provider asks about a proxy of its tool, and is answered.
fn providers(walk: &mut Walk) {
    let (vo, grid) = (("vo", "imense"), ("tool", "grid"));
    let manifest = "[tool]\nname = \"grid\"\nupstream = \"jobs\"\ndelegation = \"pem\"\n
[[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n";
    walk.call("admin", "tool.add", &[vo], Some(json!({ "manifest": manifest })));
    let grant = json!({ "role": "scientist", "tool": "grid", "tasks": ["look"] });
    walk.call("admin", "grant.add", &[vo], Some(grant));
    let request = walk.send("john", "GET", "/imense/grid/look", None).request_id();
    let events = walk.world.events_of(&request);
    let mint = events.iter().find(|(name, _)| name == "mint").unwrap();
    let spki = mint.1["spki"].clone();
    let ops = json!({ "username": "ops", "name": "Operators", "roles": [], "show_password": true });
    let added = walk.call("admin", "user.add", &[vo], Some(ops));
    let ops = added["user"]["id"].as_str().unwrap().to_owned();
    let provider =
        json!({ "tool": "grid", "username": "ops", "choice": { "answer": "at-once", "shows": ["name"] } });
    walk.call("admin", "provider.add", &[vo], Some(provider));
    let case = json!({ "answer": "case" });
    walk.call("admin", "provider.choose", &[vo, grid], Some(case));
    let traced = walk.call(
        "admin",
        "provider.trace",
        &[vo, grid],
        Some(json!({ "query": spki })),
    );
    let case = traced["proxies"][0]["case"].as_str().unwrap().to_owned();
    let answer = json!({ "shows": ["name"] });
    walk.call("admin", "case.answer", &[vo, ("case", &case)], Some(answer));
    walk.call("admin", "provider.remove", &[vo, grid, ("person", &ops)], None);
}

/// A request of which nobody knows how it ended: the gateway died while the tool had it.
fn unknown(walk: &mut Walk, tool: &PythonTool) -> String {
    let world = &walk.world;
    let mut waiting = Command::new("curl")
        .args(["--silent", "--cacert", &world.ca(), "-X", "POST", "-d", "x"])
        .args(["-H", &format!("Authorization: Bearer {}", world.token("john"))])
        .arg(format!("{}/imense/jobs/jobs", world.base()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the tool to have the request", || {
        (!tool.seen().is_empty()).then_some(())
    });
    walk.world.kill();
    waiting.wait().unwrap();
    walk.world.serve();
    for user in ["admin", "john"] {
        walk.world.login(user, PASSWORD).ok();
    }
    let unknown = until("the outcome of the request", || {
        let records = walk.world.records();
        let unknown = records
            .iter()
            .find(|record| record["event"]["outcome"]["ending"] == "unknown");
        unknown.map(|record| record["event"]["outcome"]["request"].clone())
    });
    unknown.as_str().unwrap().to_owned()
}

#[test]
fn i7_every_task_that_changes_state_leaves_a_change_with_before_and_after() {
    let mut world = World::initialised();
    let trust = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/ca.pem");
    crate::certificates::listen(&world, trust);
    world.serve();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let kept = world.dir.path().join("kept.jsonl");
    let tool = PythonTool::running(SILENT, &kept);
    let asked = BTreeMap::new();
    let mut walk = Walk { world, asked };
    factors(&mut walk);
    people_and_roles(&mut walk);
    accounts(&mut walk);
    terms(&mut walk);
    tools(&mut walk, &tool.url());
    providers(&mut walk);
    identity_providers(&mut walk);
    let request = unknown(&mut walk, &tool);
    let settle = [("vo", "imense"), ("request", request.as_str())];
    walk.call(
        "admin",
        "request.settle",
        &settle,
        Some(json!({ "type": "job", "id": "7" })),
    );

    let records = walk.world.records();
    let events = |request: &str| -> Vec<(String, Value)> {
        records
            .iter()
            .flat_map(|record| record["event"].as_object().unwrap().clone())
            .filter(|(_, event)| event["request"] == request)
            .collect()
    };
    let mut wrong = Vec::new();
    for task in countersign::api::tasks() {
        let name = task.name.as_str();
        // Whoever reads or downloads changes nothing.
        if matches!(task.kind, Kind::Read | Kind::Download) {
            continue;
        }
        let Some(request) = walk.asked.get(name) else {
            wrong.push(format!("`{name}` changes state and is not called here"));
            continue;
        };
        let events = events(request);
        let has = |wanted: &str| events.iter().any(|(event, _)| event == wanted);
        if let Some((_, event)) = OF_SESSIONS.iter().find(|(known, _)| *known == name) {
            if !has(event) {
                wrong.push(format!("`{name}` leaves no `{event}`"));
            }
            continue;
        }
        let changes = events.iter().filter(|(event, _)| event == "change");
        if task.reasoned {
            let reason = format!("for {name}");
            if changes
                .clone()
                .any(|(_, event)| event["reason"] != reason.as_str())
            {
                wrong.push(format!("`{name}` leaves no reason"));
            }
        }
        let changes: Vec<&Value> = changes.map(|(_, event)| &event["change"]).collect();
        if changes.is_empty() || !has("outcome") {
            wrong.push(format!("`{name}` leaves no change: {events:?}"));
        }
        for change in changes {
            let (before, after) = (change.get("before").is_some(), change.get("after").is_some());
            let is_new = NEW.contains(&name);
            let fits = match task.kind {
                Kind::Create => after,
                Kind::Delete => before,
                _ => after && (before || is_new || change["action"] == "role.assign"),
            };
            if !fits {
                wrong.push(format!("`{name}` leaves {change}"));
            }
            if change["target"].as_str().is_none_or(str::is_empty) {
                wrong.push(format!("`{name}` names no target"));
            }
        }
        let person = events.iter().find(|(event, _)| event == "intent");
        if !person.is_some_and(|(_, intent)| intent["subject"]["person"].is_string()) {
            wrong.push(format!("`{name}` names no person"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The edits of who may do what, as the guide lists them.
const EDITS: &[&str] = &[
    "account.approve",
    "account.reject",
    "account.take_requests",
    "administrator.add",
    "administrator.remove",
    "ceiling.set",
    "grant.add",
    "grant.remove",
    "idp.add",
    "idp.approve",
    "idp.edit",
    "idp.reject",
    "idp.remove",
    "idp.resume",
    "idp.suspend",
    "invitation.create",
    "invitation.revoke",
    "person.factor.reset",
    "provider.add",
    "provider.choose",
    "provider.remove",
    "proxy_identity.set",
    "proxy_limit.set",
    "request.settle",
    "resource.import",
    "role.assign",
    "role.create",
    "role.end",
    "role.unassign",
    "terms.set",
    "terms.set_gateway",
    "tool.add",
    "tool.remove",
    "upstream.allow",
    "upstream.end",
    "user.add",
    "user.add_certificate",
    "user.clear_certificate",
    "user.delete",
    "user.expire",
    "user.flag_compromised",
    "user.mark_certificate",
    "user.remove",
    "user.remove_certificate",
    "user.resume",
    "user.revoke_proxies",
    "user.suspend",
    "vo.create",
    "vo.resume",
    "vo.suspend",
];

#[test]
fn i8_an_edit_without_a_reason_is_422_and_changes_nothing_and_the_reason_stands_beside_before_and_after() {
    let mut edits: Vec<String> = countersign::api::tasks()
        .into_iter()
        .filter(|task| task.reasoned)
        .map(|task| task.name)
        .collect();
    edits.sort();
    assert_eq!(edits, EDITS);
    let guide = include_str!("../../docs/guides/review-the-audit-log.md");
    for edit in EDITS {
        assert!(
            guide.contains(&format!("`{edit}`")),
            "the guide does not name {edit}"
        );
    }

    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let before = world.cli_json("admin", &["role", "list", "imense"]);
    let create = |reason: &str| {
        let url = format!("{}/api/v1/vos/imense/roles{reason}", world.base());
        let bearer = format!("Authorization: Bearer {}", world.token("admin"));
        let json = "Content-Type: application/json";
        let body = "{\"name\":\"reader\"}";
        world.curl(&["-X", "POST", "-H", &bearer, "-H", json, "--data", body, &url])
    };
    let long = format!("?reason={}", "x".repeat(501));
    let unfit = ["", "?reason=", "?reason=%20%20", &long];
    for reason in unfit {
        let answer = create(reason).expect(422);
        assert_eq!(answer.problem(), "reason_required", "{reason}");
        assert!(answer.text().contains("--reason TEXT"), "{}", answer.text());
    }
    // What could not stand in one line does not even come so far.
    for control in ["?reason=%0A", "?reason=%C2%85", "?reason=%1B"] {
        assert_eq!(create(control).expect(400).problem(), "bad_target", "{control}");
    }
    assert_eq!(world.cli_json("admin", &["role", "list", "imense"]), before);
    // The command line says the same, with the way out.
    let none = world.cli("admin", &["role", "create", "imense", "reader", "--reason", " "]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stderr.contains("the reason is empty"), "{none:?}");

    let why = "Ticket 4711: für die Studie „Herz“";
    let person = world.cli_json("admin", &["user", "show", "imense", "john"])["id"].clone();
    for command in [
        &["role", "create", "imense", "reader", "--reason", why][..],
        &["role", "assign", "imense", "reader", "john", "--reason", why],
        &["role", "unassign", "imense", "reader", "john", "--reason", why],
    ] {
        world.cli("admin", command).ok();
    }
    let records = world.records();
    let because: Vec<&Value> = records
        .iter()
        .map(|record| &record["event"]["change"])
        .filter(|event| event["reason"] == why)
        .collect();
    let actions: Vec<&Value> = because.iter().map(|event| &event["change"]["action"]).collect();
    assert_eq!(actions, ["role.create", "role.assign", "role.unassign"]);
    assert!(because[1]["change"]["after"].is_object() && because[2]["change"]["before"].is_object());
    assert!(
        because[1..]
            .iter()
            .all(|event| event["change"]["person"] == person)
    );
    // Refused edits are on record too, and nothing else of them.
    let refused = records.iter().map(|record| &record["event"]["refused"]);
    let refused = refused.filter(|event| event["problem"] == "reason_required");
    assert_eq!(refused.count(), unfit.len() + 1);
    // Whoever looks finds it: by search, and by explanation.
    let asked = because[1]["request"].as_str().unwrap();
    let explained = world.cli_json("admin", &["explain", asked]);
    assert_eq!(explained["because"], why);
    let shown = world.cli("admin", &["explain", asked]).ok().stdout;
    assert!(shown.contains(why), "{shown}");
    let found = world.cli(
        "admin",
        &[
            "audit",
            "search",
            "--vo",
            "imense",
            "--text",
            "Ticket 4711",
            "--fresh",
            "--json",
        ],
    );
    assert!(found.ok().stdout.contains(why));
}

#[test]
fn i8_where_the_settings_say_so_a_reason_is_taken_down_and_not_asked_for() {
    let mut world = World::initialised();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("[audit]\n", "[audit]\nreasons = \"optional\"\n");
    fs::write(&file, text).unwrap();
    world.serve();
    world.admin();
    let url = format!("{}/api/v1/vos/imense/roles", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token("admin"));
    let json = "Content-Type: application/json";
    let create = |name: &str, reason: &str| {
        let (body, url) = (format!("{{\"name\":\"{name}\"}}"), format!("{url}{reason}"));
        world.curl(&["-X", "POST", "-H", &bearer, "-H", json, "--data", &body, &url])
    };
    create("reader", "").expect(201);
    create("writer", "?reason=%20").expect(422);
    create("writer", "?reason=asked%20for").expect(201);
    let records = world.records();
    let changes = records.iter().map(|record| &record["event"]["change"]);
    let made: Vec<&Value> = changes
        .filter(|event| event["change"]["action"] == "role.create")
        .map(|event| &event["reason"])
        .collect();
    assert_eq!(made[made.len() - 2..], [&Value::Null, &json!("asked for")]);
}
