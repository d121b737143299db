//! Feature row H2: a resource provider traces the proxies of its own tool, without anybody of the VO in between or as a
//! case, and learns nothing else.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use countersign::record::Hash;

use crate::delegate::{keeper, openssl_key};
use crate::proof::{check, text};
use crate::trace::{Kept, der};
use crate::world::{Answer, World, until};

/// A member without a role who has signed in.
fn account(world: &World, user: &str) {
    let mail = format!("{user}@example.org");
    let mut add = vec![
        "user",
        "add",
        "imense",
        user,
        "--name",
        "Operators",
        "--mail",
        &mail,
    ];
    add.extend(["--no-role", "--show-password"]);
    let added = world.cli_json("admin", &add);
    world
        .login(user, added["one_time_password"].as_str().unwrap())
        .ok();
}

fn add(world: &World, tool: &str, user: &str, more: &[&str]) {
    let args = [&["provider", "add", "imense", tool, user][..], more].concat();
    world.cli("admin", &args).ok();
}

/// `provider.trace`, as a program calls it.
fn ask(world: &World, user: &str, tool: &str, query: &str) -> Answer {
    let body = world.dir.path().join("query.json");
    fs::write(&body, json!({ "query": query, "proof": true }).to_string()).unwrap();
    let (body, bearer) = (
        format!("@{}", body.display()),
        format!("Authorization: Bearer {}", world.token(user)),
    );
    let url = format!("{}/api/v1/vos/imense/tools/{tool}/trace", world.base());
    let json = "Content-Type: application/json";
    world.curl(&[
        "-X",
        "POST",
        "-H",
        &bearer,
        "-H",
        json,
        "--data-binary",
        &body,
        &url,
    ])
}

fn certificate(file: &Path) -> String {
    crate::trace::blocks(file).remove(0)
}

/// The mails to `address` with this in their subject.
fn mails(world: &World, address: &str, subject: &str) -> Vec<String> {
    let files = fs::read_dir(world.data().join("outbox"));
    let files = files.into_iter().flatten().flatten().map(|entry| entry.path());
    let texts = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "eml"))
        .map(|file| fs::read_to_string(file).unwrap());
    let wanted = |text: &String| {
        let (head, _) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let head = head.replace("\r\n ", " ");
        let line = |name: &str, words: &str| {
            head.lines()
                .any(|line| line.to_ascii_lowercase().starts_with(name) && line.contains(words))
        };
        line("to:", address) && line("subject:", subject)
    };
    texts.filter(wanted).collect()
}

fn traces(world: &World) -> Vec<Value> {
    let records = world.records();
    let traces = records.iter().map(|record| record["event"]["trace"].clone());
    traces.filter(|trace| !trace.is_null()).collect()
}

#[test]
fn h2_a_provider_traces_what_was_minted_for_its_own_tool_and_sees_what_the_vo_chose() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let alpha = Kept::at(&world, "alpha");
    let beta = Kept::at(&world, "beta");
    let (his, request) = alpha.proxy_of(&world, "alpha", "john");
    let (hers, _) = beta.proxy_of(&world, "beta", "mary");
    account(&world, "ops-a");
    account(&world, "ops-b");
    add(
        &world,
        "alpha",
        "ops-a",
        &["--answer", "at-once", "--show", "mail"],
    );
    add(
        &world,
        "beta",
        "ops-b",
        &["--answer", "at-once", "--show", "name"],
    );

    // What it sees: the opaque id, the fields that were chosen, validity, and of each request time and task.
    let proof = world.dir.path().join("case-7");
    let traced = world.cli_json(
        "ops-a",
        &[
            "provider",
            "trace",
            "imense",
            "alpha",
            text(&his),
            "--proof",
            text(&proof),
        ],
    );
    let proxy = &traced["proxies"][0];
    let person = proxy["person"].as_object().unwrap();
    assert_eq!(person.keys().collect::<Vec<_>>(), ["id", "mail"], "{traced}");
    assert_eq!(person["mail"], "john@example.org");
    let requests = proxy["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 1);
    let seen = requests[0].as_object().unwrap();
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["time", "task"], "{traced}");
    assert_eq!((&seen["task"], proxy.get("session")), (&"look".into(), None));
    assert!(
        !traced
            .to_string()
            .replace(&proxy["proof"].to_string(), "")
            .contains(&request)
    );
    let key = world.data().join("keys/log.pub");
    let shown = check(&proof, &key, &["--json"]).ok().json();
    assert_eq!(
        shown["shows"]["record"]["event"]["mint"]["serial"],
        proxy["serial"]
    );
    // The administrators of the VO are told, by whom it was.
    let told = until("the mail about the trace", || {
        mails(&world, "admin@example.org", "a proxy of `john` was traced").pop()
    });
    assert!(told.contains("ops-a"), "{told}");

    // Of the proxies of others it is told what it is told of none: by certificate and by hash.
    let (stranger, _) = openssl_key(&world, "stranger", &[]);
    let unknown = ask(&world, "ops-a", "alpha", &certificate(Path::new(&stranger))).expect(200);
    let der = der(&beta.folder, &certificate(&hers));
    let hash = Hash::of(&der).to_string();
    for query in [certificate(&hers), fs::read_to_string(&hers).unwrap(), hash] {
        let answer = ask(&world, "ops-a", "alpha", &query).expect(200);
        assert_eq!(answer.body, unknown.body, "{query}");
    }
    let both = certificate(&hers) + &certificate(&his);
    let answer = ask(&world, "ops-a", "alpha", &both).expect(200);
    assert_eq!(answer.json()["proxies"].as_array().unwrap().len(), 1);
    // Nor does what is said of its own tell whether the other is a proxy at all.
    let strange = fs::read_to_string(&stranger).unwrap() + &certificate(&his);
    let strange = ask(&world, "ops-a", "alpha", &strange).expect(200);
    let said = |answer: &Answer| {
        let mut proxy = answer.json()["proxies"][0].clone();
        let proxy = proxy.as_object_mut().unwrap();
        proxy.remove("proof");
        proxy.clone()
    };
    assert_eq!(said(&strange), said(&answer));
    assert_eq!(said(&answer)["proved"], false);
    let none = world.cli("ops-a", &["provider", "trace", "imense", "alpha", text(&hers)]);
    assert_eq!((none.code, none.stdout.as_str()), (4, ""), "{}", none.stderr);
    // A serial or a name alone is nobody's proof.
    let serial = proxy["serial"].as_str().unwrap();
    for query in [serial, proxy["subject"].as_str().unwrap()] {
        let answer = ask(&world, "ops-a", "alpha", query).expect(422);
        assert!(answer.text().contains("somebody's word"), "{}", answer.text());
    }
    // Nor does it get further: at the other tool, over the whole VO, or to the person behind the id.
    assert_eq!(
        ask(&world, "ops-a", "beta", &certificate(&hers))
            .expect(403)
            .problem(),
        "condition_not_met"
    );
    assert_eq!(
        world.cli("ops-a", &["trace", text(&his), "--vo", "imense"]).code,
        3
    );
    assert_eq!(
        world.cli("ops-a", &["provider", "cases", "imense", "beta"]).code,
        3
    );
    assert_eq!(world.cli("ops-a", &["user", "list", "imense"]).code, 3);
    for user in ["john", "nobody"] {
        let find = json!({ "username": user }).to_string();
        let url = format!("{}/api/v1/vos/imense/users/find", world.base());
        let bearer = format!("Authorization: Bearer {}", world.token("ops-a"));
        let json = "Content-Type: application/json";
        world
            .curl(&[
                "-X",
                "POST",
                "-H",
                &bearer,
                "-H",
                json,
                "--data-binary",
                &find,
                &url,
            ])
            .expect(404);
    }
    assert_eq!(
        ask(&world, "john", "alpha", &certificate(&his))
            .expect(403)
            .problem(),
        "no_grant"
    );

    // Each of them is on record, what was refused as a refusal.
    let traces = traces(&world);
    let found = |trace: &&Value| !trace["found"].as_array().unwrap().is_empty();
    assert_eq!(traces.len(), 8, "{traces:?}");
    assert_eq!(traces.iter().filter(found).count(), 3);
    assert!(
        traces
            .iter()
            .filter(|trace| !found(trace))
            .all(|trace| trace["persons"] == json!([]))
    );

    // The other one sees what was chosen for its tool; a removed one sees nothing.
    let traced = world.cli_json("ops-b", &["provider", "trace", "imense", "beta", text(&hers)]);
    assert_eq!(traced["proxies"][0]["person"]["name"], "mary");
    world
        .cli("admin", &["provider", "remove", "imense", "beta", "ops-b"])
        .ok();
    ask(&world, "ops-b", "beta", &certificate(&hers)).expect(403);
    // An account without any role learns of nobody's id either.
    let find = json!({ "username": "john" }).to_string();
    let url = format!("{}/api/v1/vos/imense/users/find", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token("ops-b"));
    let json = "Content-Type: application/json";
    let head = ["-X", "POST", "-H", &bearer, "-H", json];
    let found = world.curl(&[&head[..], &["--data-binary", &find, &url]].concat());
    assert!(!found.expect(404).text().contains("\"id\""));
    let listed = world.cli_json("admin", &["provider", "list", "imense"]);
    let listed = listed["providers"].as_array().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["username"], &listed[0]["shows"]),
        (&json!("ops-a"), &json!(["mail"]))
    );
}

#[test]
fn h2_a_provider_asks_sixty_times_an_hour_and_no_more() {
    let world = World::start();
    world.admin();
    let _alpha = Kept::at(&world, "alpha");
    account(&world, "ops-a");
    add(&world, "alpha", "ops-a", &["--answer", "at-once"]);
    for _ in 0..60 {
        ask(&world, "ops-a", "alpha", &"0".repeat(64)).expect(200);
    }
    let answer = ask(&world, "ops-a", "alpha", &"0".repeat(64)).expect(429);
    assert_eq!(answer.problem(), "too_many_attempts");
    let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&wait), "{wait}");
}

#[test]
fn h2_until_the_vo_chooses_otherwise_a_trace_is_a_case_that_its_administrator_answers() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let alpha = Kept::at(&world, "alpha");
    let (his, _) = alpha.proxy_of(&world, "alpha", "john");
    let (hers, _) = alpha.proxy_of(&world, "alpha", "mary");
    account(&world, "ops-a");
    add(&world, "alpha", "ops-a", &[]);
    let note = "filled the disk of node 7";
    let trace = |file: &Path| {
        let asked = ["provider", "trace", "imense", "alpha", text(file), "--note", note];
        world.cli_json("ops-a", &asked)["proxies"][0].clone()
    };
    let open = trace(&his);
    let case = open["case"].as_str().unwrap().to_owned();
    assert!(
        open.get("person").is_none() && open.get("proof").is_none(),
        "{open}"
    );
    let john = world.cli_json("admin", &["user", "show", "imense", "john"])["id"].clone();
    assert!(!open.to_string().contains(john.as_str().unwrap()), "{open}");
    let told = until("the mail about the case", || {
        mails(&world, "admin@example.org", "a provider of `alpha` asks").pop()
    });
    assert!(
        told.contains(&case) && told.contains(note) && !told.contains("john"),
        "{told}"
    );

    // Nothing of the person before it is answered, also with its id.
    let mine = ["provider", "cases", "imense", "alpha", "--case", &case];
    let before = world.cli_json("ops-a", &mine)["cases"][0].clone();
    assert_eq!(
        (&before["state"], before.get("person")),
        (&json!("open"), None),
        "{before}"
    );
    // The administrator sees who it is, and answers.
    let listed = world.cli_json("admin", &["case", "list", "imense", "--open"]);
    assert_eq!(listed["cases"][0]["id"], case.as_str());
    let shown = world.cli_json("admin", &["case", "show", "imense", &case]);
    assert_eq!(shown["proxy"]["person"]["username"], "john");
    assert_eq!(
        (&shown["case"]["note"], &shown["case"]["provider"]),
        (&json!(note), &json!("ops-a"))
    );
    let answer = [
        "case",
        "answer",
        "imense",
        &case,
        "--show",
        "name",
        "--text",
        "he is told",
    ];
    assert_eq!(world.cli("ops-a", &answer).code, 3, "not by the provider");
    world.cli("admin", &answer).ok();
    until("the mail about the answer", || {
        mails(&world, "ops-a@example.org", "was answered").pop()
    });
    let proof = world.dir.path().join("case-7");
    let polled = [&mine[..], &["--proof", text(&proof)]].concat();
    let after = world.cli_json("ops-a", &polled)["cases"][0].clone();
    assert_eq!(after["person"], json!({ "id": john, "name": "john" }), "{after}");
    assert_eq!(after["text"], "he is told");
    check(&proof, &world.data().join("keys/log.pub"), &[]).ok();
    let again = world.cli("admin", &answer);
    assert!(
        again.code == 1 && again.stderr.contains("was answered already"),
        "{}",
        again.stderr
    );

    // One that is declined says nothing of her.
    let case = trace(&hers)["case"].as_str().unwrap().to_owned();
    let decline = [
        "case",
        "answer",
        "imense",
        &case,
        "--decline",
        "--text",
        "ask our officer",
    ];
    world.cli("admin", &decline).ok();
    let mine = ["provider", "cases", "imense", "alpha", "--case", &case];
    let declined = world.cli_json("ops-a", &mine)["cases"][0].clone();
    assert_eq!(
        (&declined["state"], declined.get("person")),
        (&json!("declined"), None)
    );
    // All of it is on record without a word of what was written, and is told to whom it is about.
    let records = world.records();
    let actions: Vec<&Value> = records
        .iter()
        .map(|record| &record["event"]["change"]["change"]["action"])
        .filter(|action| action.as_str().is_some_and(|action| action.starts_with("case.")))
        .collect();
    assert_eq!(actions, ["case.open", "case.answer", "case.open", "case.answer"]);
    let all = Value::from(records).to_string();
    assert!(!all.contains(note) && !all.contains("he is told"));
    let held = world.cli_json("admin", &["user", "export", "john", "--vo", "imense"]);
    assert_eq!(held["held"]["cases"][0]["note"], note, "{}", held["held"]);
    assert_eq!(held["held"]["cases"][0]["shows"], json!(["name"]));
}

#[test]
fn asking_again_finds_the_open_case_and_an_account_has_only_so_many() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let alpha = Kept::at(&world, "alpha");
    let (his, _) = alpha.proxy_of(&world, "alpha", "john");
    let (hers, _) = alpha.proxy_of(&world, "alpha", "mary");
    account(&world, "ops-a");
    add(&world, "alpha", "ops-a", &[]);
    let case = |answer: &Answer, at: usize| answer.json()["proxies"][at]["case"].clone();
    let first = case(&ask(&world, "ops-a", "alpha", &certificate(&his)).expect(200), 0);
    let again = ask(&world, "ops-a", "alpha", &certificate(&his)).expect(200);
    assert_eq!(case(&again, 0), first);
    // With one that is new, only that one is opened.
    let both = certificate(&his) + &certificate(&hers);
    let both = ask(&world, "ops-a", "alpha", &both).expect(200);
    assert_eq!(case(&both, 0), first);
    assert_ne!(case(&both, 1), first);
    let listed = world.cli_json("admin", &["case", "list", "imense"]);
    assert_eq!(listed["cases"].as_array().unwrap().len(), 2);
    // Once it is answered, it is a new question.
    world
        .cli("admin", &["case", "answer", "imense", first.as_str().unwrap()])
        .ok();
    let new = case(&ask(&world, "ops-a", "alpha", &certificate(&his)).expect(200), 0);
    assert_ne!(new, first);
    world
        .cli("admin", &["case", "answer", "imense", new.as_str().unwrap()])
        .ok();
    // Hers is open; 49 more, about other proxies, fill what an account may have.
    world.write_store(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 49)
         INSERT INTO trace_case (id, vo_id, version, tool, provider, person, request, issuer, serial, state, shows, created_at, shown)
         SELECT randomblob(16), vo_id, 1, tool, provider, person, request, issuer, i, 'open', '', created_at, shown
         FROM trace_case, n WHERE state = 'open'",
    );
    let refused = ask(&world, "ops-a", "alpha", &certificate(&his)).expect(409);
    assert!(refused.text().contains("50 open cases"), "{}", refused.text());
    // What is asked already is found all the same, and every page of a list comes.
    ask(&world, "ops-a", "alpha", &certificate(&hers)).expect(200);
    let url = format!("{}/api/v1/vos/imense/cases?state=open&limit=20", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token("admin"));
    let (mut seen, mut after) = (Vec::new(), String::new());
    for expected in [20, 20, 10] {
        let page = world
            .curl(&["-H", &bearer, &format!("{url}{after}")])
            .expect(200)
            .json();
        let cases = page["cases"].as_array().unwrap();
        assert_eq!(cases.len(), expected, "{page}");
        seen.extend(cases.iter().map(|case| case["id"].as_str().unwrap().to_owned()));
        after = page["next"]
            .as_str()
            .map_or(String::new(), |next| format!("&after={next}"));
    }
    assert_eq!(after, "");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 50);
    let wrong = world.curl(&["-H", &bearer, &format!("{url}x")]).expect(422);
    assert!(wrong.text().contains("`limit`"), "{}", wrong.text());
}

#[test]
fn one_key_of_two_persons_is_a_case_also_where_the_gateway_answers_at_once() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    let alpha = Kept::at(&world, "alpha");
    let (his, _) = alpha.proxy_of(&world, "alpha", "john");
    let (hers, _) = alpha.proxy_of(&world, "alpha", "mary");
    account(&world, "ops-a");
    add(
        &world,
        "alpha",
        "ops-a",
        &["--answer", "at-once", "--show", "mail"],
    );
    let key = |file: &Path| {
        let shown = ["x509", "-in", text(file), "-noout", "-pubkey"];
        crate::trace::line(crate::trace::openssl(&alpha.folder, &shown))
    };
    let of_his = key(&his);
    let answer = ask(&world, "ops-a", "alpha", &of_his).expect(200).json();
    assert_eq!(answer["proxies"][0]["proved"], true, "{answer}");
    assert_eq!(answer["proxies"][0]["person"]["mail"], "john@example.org");
    // As it would be, had she got a certificate for his key.
    world.write_store("UPDATE proxy SET spki = (SELECT spki FROM proxy ORDER BY not_before, serial LIMIT 1)");
    let _ = hers;
    let query = [key(&his), key(&hers)]
        .into_iter()
        .find(|key| {
            let found = ask(&world, "ops-a", "alpha", key).expect(200).json();
            found["proxies"].as_array().unwrap().len() == 2
        })
        .unwrap();
    let answer = ask(&world, "ops-a", "alpha", &query).expect(200).json();
    for proxy in answer["proxies"].as_array().unwrap() {
        assert_eq!(proxy["proved"], false, "{answer}");
        assert!(
            proxy["case"].is_string() && proxy.get("person").is_none(),
            "{answer}"
        );
        let case = proxy["case"].as_str().unwrap();
        let shown = world.cli_json("admin", &["case", "show", "imense", case]);
        assert_eq!(shown["proxy"]["several"], true, "{shown}");
        assert_eq!(shown["proxy"]["proved"], false, "{shown}");
    }
    // Nor is an administrator told that it is proved.
    let pem = world.dir.path().join("key.pem");
    fs::write(&pem, query + "\n").unwrap();
    let said = world
        .cli("admin", &["trace", text(&pem), "--vo", "imense"])
        .ok()
        .stdout;
    assert!(
        said.contains("several persons") && !said.contains("Proved"),
        "{said}"
    );
}

#[test]
fn roles_of_providers_are_made_by_provider_add_alone_and_a_tools_name_leaves_room_for_one() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let _alpha = Kept::at(&world, "alpha");
    account(&world, "ops-a");
    add(&world, "alpha", "ops-a", &[]);
    for by_hand in [
        &["role", "create", "imense", "provider-beta"][..],
        &["role", "assign", "imense", "provider-alpha", "john"],
        &["grant", "add", "imense", "provider-alpha", "alpha", "look"],
        &[
            "user",
            "add",
            "imense",
            "jane",
            "--name",
            "Jane",
            "--role",
            "provider-alpha",
            "--show-password",
        ],
    ] {
        let refused = world.cli("admin", by_hand);
        assert_ne!(refused.code, 0, "{by_hand:?}");
        assert!(refused.stderr.contains("provider add"), "{}", refused.stderr);
    }
    let long = "a".repeat(32);
    let _long = Kept::at(&world, &long);
    let refused = world.cli("admin", &["provider", "add", "imense", &long, "ops-a"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("at most 31"), "{}", refused.stderr);
}

#[test]
fn a_removed_tool_takes_its_providers_and_what_they_see_along() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let alpha = Kept::at(&world, "alpha");
    account(&world, "ops-a");
    account(&world, "ops-b");
    add(
        &world,
        "alpha",
        "ops-a",
        &["--answer", "at-once", "--show", "mail"],
    );
    let list = || world.cli_json("admin", &["provider", "list", "imense"])["providers"].clone();
    assert_eq!(list().as_array().map(Vec::len), Some(1));
    world.cli("admin", &["tool", "remove", "imense", "alpha"]).ok();
    assert_eq!(list(), json!([]));
    // All of it is on record, with the removal.
    let records = world.records();
    let change = |action: &str| {
        let mut changes = records.iter().rev().map(|record| &record["event"]["change"]);
        changes
            .find(|change| change["change"]["action"] == action)
            .unwrap()
    };
    let (removed, role, choice) = (
        change("tool.remove"),
        change("role.unassign"),
        change("provider.choose"),
    );
    for with_it in [role, choice] {
        assert_eq!(with_it["request"], removed["request"]);
        assert!(with_it["change"]["after"].is_null(), "{with_it}");
    }
    // Another tool of that name is another one's: the old provider traces nothing of it, and nothing is shown at once.
    let manifest = world.dir.path().join("alpha.toml");
    world
        .cli("admin", &["tool", "add", "imense", text(&manifest)])
        .ok();
    let (proxy, _) = alpha.proxy_of(&world, "alpha", "john");
    ask(&world, "ops-a", "alpha", &certificate(&proxy)).expect(403);
    add(&world, "alpha", "ops-b", &[]);
    let listed = list();
    assert_eq!(
        (&listed[0]["username"], &listed[0]["answer"], &listed[1]),
        (&json!("ops-b"), &json!("case"), &Value::Null)
    );
}

/// What a tool was told by its last request: the headers that name somebody, and the claims of the assertion.
fn told(folder: &Path) -> (String, String, Value) {
    let header = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let assertion = header("x-countersign-assertion");
    let claims = assertion.split('.').nth(1).unwrap();
    let claims = data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap();
    (
        header("x-countersign-user"),
        header("x-countersign-vo"),
        serde_json::from_slice(&claims).unwrap(),
    )
}

#[test]
fn g19_a_tool_is_told_the_vo_and_an_opaque_id_and_the_user_name_where_its_vo_chose_so() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let john = world.cli_json("admin", &["user", "show", "imense", "john"])["id"].clone();
    let john = john.as_str().unwrap();
    let (tool, folder) = keeper(&world, "opaque", "assertion");
    world.call("john", "GET", "/imense/opaque/look", None).expect(200);
    let (user, vo, claims) = told(&folder);
    assert_eq!((user.as_str(), vo.as_str()), (john, "imense"));
    assert_eq!((&claims["sub"], &claims["vo"]), (&json!(john), &json!("imense")));
    assert!(!claims.to_string().contains("\"john"), "{claims}");

    let manifest = |name: &str, delegation: &str| {
        let file = world.dir.path().join(format!("{name}.toml"));
        let text = format!(
            "[tool]\nname = \"{name}\"\nupstream = \"{name}\"\ndelegation = \"{delegation}\"\nidentity = \"username\"\n\n\
             [[task]]\nname = \"look\"\nmatch = [\"GET /look\"]\nkind = \"read\"\n"
        );
        fs::write(&file, text).unwrap();
        text_of(&file)
    };
    let allow = ["upstream", "allow", "imense", "named", &tool.url()];
    world.cli("admin", &allow).ok();
    world
        .cli(
            "admin",
            &["tool", "add", "imense", &manifest("named", "assertion")],
        )
        .ok();
    let grant = ["grant", "add", "imense", "scientist", "named", "look"];
    world.cli("admin", &grant).ok();
    world.call("john", "GET", "/imense/named/look", None).expect(200);
    let (user, _, claims) = told(&folder);
    assert_eq!(user, john, "the header stays opaque");
    assert_eq!(
        (&claims["sub"], &claims["preferred_username"]),
        (&json!(john), &json!("john"))
    );
    // Only an assertion can say it.
    let refused = world.cli("admin", &["tool", "add", "imense", &manifest("other", "pem")]);
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .stderr
            .contains("is only for `delegation = \"assertion\"`"),
        "{}",
        refused.stderr
    );
}

fn text_of(file: &Path) -> String {
    text(file).to_owned()
}
