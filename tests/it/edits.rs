//! Two administrators never overwrite each other silently: `ETag` on what can be edited, `If-Match` on edits.

use serde_json::{Value, json};

use crate::world::{Answer, World};

struct Api<'a>(&'a World);

impl Api<'_> {
    fn ask(&self, method: &str, path: &str, tag: Option<&str>, body: Option<&Value>) -> Answer {
        let url = format!("{}{path}", self.0.base());
        let bearer = format!("Authorization: Bearer {}", self.0.token("admin"));
        let mut args = vec!["-X", method, "-H", &bearer];
        let line = tag.map(|tag| format!("If-Match: {tag}"));
        args.extend(line.iter().flat_map(|line| ["-H", line]));
        let text = body.map(Value::to_string);
        if let Some(text) = &text {
            args.extend(["-H", "Content-Type: application/json", "--data-binary", text]);
        }
        args.push(&url);
        self.0.curl(&args)
    }

    fn tag(&self, path: &str) -> String {
        let read = self.ask("GET", path, None, None).expect(200);
        let tag = read
            .header("etag")
            .unwrap_or_else(|| panic!("{path} has no ETag"));
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        tag.to_owned()
    }
}

/// What can be edited: where it is read, where it is edited, and two edits.
fn editable(jane: &str) -> Vec<(String, String, Value, Value)> {
    let of = |rest: &str| format!("/api/v1/vos/imense{rest}");
    let because = |path: String| format!("{path}?reason=a%20test");
    vec![
        (
            of(&format!("/users/{jane}")),
            of(&format!("/users/{jane}/card")),
            json!({ "name": "Jane Doe" }),
            json!({ "name": "Jane Roe" }),
        ),
        (
            of("/proxy-limits"),
            because(of("/proxy-limits")),
            json!({ "lifetime": 600 }),
            json!({ "lifetime": 900 }),
        ),
        (
            of("/proxy-identity"),
            because(of("/proxy-identity")),
            json!({ "tells": "id" }),
            json!({ "tells": "username" }),
        ),
    ]
}

#[test]
fn an_edit_of_what_somebody_else_has_changed_is_refused_and_changes_nothing() {
    let world = World::start();
    world.admin().person("jane", &["scientist"]);
    let jane = world.cli_json("admin", &["user", "show", "imense", "jane"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let api = Api(&world);
    for (read, edit, first, second) in editable(&jane) {
        let seen = api.tag(&read);
        assert_eq!(api.tag(&read), seen, "{read}");
        let done = api.ask("PUT", &edit, Some(&seen), Some(&first)).expect(200);
        let now = api.tag(&read);
        assert_ne!(now, seen, "{read}");
        assert_eq!(
            done.header("etag"),
            Some(now.as_str()),
            "the answer has the tag to go on with"
        );
        let before = api.ask("GET", &read, None, None).json();
        let stale = api.ask("PUT", &edit, Some(&seen), Some(&second)).expect(412);
        assert_eq!(stale.problem(), "stale");
        let outcome = world.events_of(&stale.request_id());
        assert!(outcome.iter().all(|(name, _)| name != "change"), "{outcome:?}");
        let mut after = api.ask("GET", &read, None, None).json();
        if let Some(shown) = after.as_object_mut() {
            shown.insert("sign_ins".into(), before["sign_ins"].clone());
        }
        let mut before = before;
        if let Some(shown) = before.as_object_mut() {
            shown.entry("sign_ins").or_insert(Value::Null);
        }
        assert_eq!(after, before, "{read}");
        let weak = format!("W/{now}");
        assert_eq!(api.ask("PUT", &edit, Some(&weak), Some(&second)).status, 412);
        assert_eq!(api.ask("PUT", &edit, Some("now"), Some(&second)).status, 400);
        api.ask("PUT", &edit, Some(&format!("{seen}, {now}")), Some(&second))
            .expect(200);
        api.ask("PUT", &edit, Some("*"), Some(&first)).expect(200);
        // Nobody has to say it, unless the settings ask for it.
        api.ask("PUT", &edit, None, Some(&second)).expect(200);
    }
}

#[test]
fn where_the_settings_say_so_an_edit_names_what_it_changes_and_the_command_line_does() {
    let world = World::initialised();
    let file = world.data().join("countersign.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = text.replacen("[gateway]", "[gateway]\nrequire_if_match = true", 1);
    assert_ne!(text, changed);
    std::fs::write(&file, changed).unwrap();
    let mut world = world;
    world.serve();
    world.admin().person("jane", &["scientist"]);
    let jane = world.cli_json("admin", &["user", "show", "imense", "jane"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (_, edit, first, _) in editable(&jane) {
        let refused = Api(&world).ask("PUT", &edit, None, Some(&first)).expect(428);
        assert_eq!(refused.problem(), "match_required");
    }
    let edited = world.cli_json("admin", &["user", "edit", "imense", "jane", "--name", "Jane Doe"]);
    assert_eq!(edited["name"], "Jane Doe");
    world
        .cli(
            "admin",
            &["vo", "proxy-limit", "set", "imense", "--seconds", "600"],
        )
        .ok();
    world
        .cli("admin", &["vo", "proxy-identity", "set", "imense", "id"])
        .ok();
    world.segmentation();
    let tool = "/api/v1/vos/imense/tools/segmentation";
    let bare = Api(&world)
        .ask("DELETE", &format!("{tool}?reason=a%20test"), None, None)
        .expect(428);
    assert_eq!(bare.problem(), "match_required");
    let seen = Api(&world).tag(tool);
    assert_eq!(
        Api(&world)
            .ask("DELETE", &format!("{tool}?reason=a%20test"), Some("\"x\""), None)
            .status,
        412
    );
    assert_eq!(Api(&world).tag(tool), seen);
    world
        .cli("admin", &["tool", "remove", "imense", "segmentation"])
        .ok();
}
