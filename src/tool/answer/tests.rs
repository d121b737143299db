use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn rule(id: &str) -> Creates {
    Creates {
        kind: "job".into(),
        id: match id.strip_prefix("header:") {
            Some(name) => IdSource::Header {
                name: name.into(),
                last_segment: true,
            },
            None => IdSource::Body(id.into()),
        },
        items: None,
        status: vec![201],
        owner: Whose::Subject,
        when: None,
        parent: None,
        attributes: BTreeMap::new(),
    }
}

fn ids(rules: &[Creates], body: &str) -> Result<Vec<String>, AnswerError> {
    let made = created(
        rules,
        &Parameters::new(),
        201,
        &HeaderMap::new(),
        Some(body.as_bytes()),
    )?;
    Ok(made.into_iter().map(|one| one.id).collect())
}

#[test]
fn the_id_in_a_location_is_its_last_segment() {
    let rules = [rule("header:location")];
    assert!(!needs_body(&rules, 201));
    let made = |location: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("location", location.parse().unwrap());
        created(&rules, &Parameters::new(), 201, &headers, None).map(|made| made[0].id.clone())
    };
    for (location, id) in [
        ("/jobs/7", "7"),
        ("/jobs/7/", "7"),
        ("7", "7"),
        ("https://ce.example.org:8443/jobs/7?full=1#top", "7"),
        ("/jobs/a%20b", "a b"),
    ] {
        assert_eq!(made(location).as_deref(), Ok(id), "{location}");
    }
    for location in [
        "",
        "/",
        "https://ce.example.org",
        "/jobs/..",
        "/jobs/%2e%2e",
        "../7",
        "/jobs//",
        "/jobs/a%2Fb",
        "/jobs/%37",
    ] {
        assert!(made(location).is_err(), "{location}");
    }
}

#[test]
fn what_follows_the_last_slash_is_an_id_also_within_a_query() {
    let rules = [Creates {
        id: IdSource::HeaderEnd("location".into()),
        ..rule("")
    }];
    let made = |location: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("location", location.parse().unwrap());
        created(&rules, &Parameters::new(), 201, &headers, None).map(|made| made[0].id.clone())
    };
    for location in [
        "/delegations?action=new/5210c1",
        "/delegations/5210c1",
        "https://ce/5210c1",
    ] {
        assert_eq!(made(location).as_deref(), Ok("5210c1"), "{location}");
    }
    for location in ["", "5210c1", "/a/", "/a/b?c", "/a/%37", "/a/b#c"] {
        assert!(made(location).is_err(), "{location}");
    }
}

#[test]
fn a_header_that_is_absent_or_twice_there_is_an_error() {
    let rules = [rule("header:location")];
    let mut headers = HeaderMap::new();
    assert!(created(&rules, &Parameters::new(), 201, &headers, None).is_err());
    headers.append("location", "/jobs/7".parse().unwrap());
    headers.append("location", "/jobs/8".parse().unwrap());
    assert!(created(&rules, &Parameters::new(), 201, &headers, None).is_err());
    assert_eq!(
        created(&rules, &Parameters::new(), 200, &headers, None),
        Ok(vec![]),
        "only listed statuses make"
    );
}

#[test]
fn ids_in_a_body_are_texts_or_plain_whole_numbers() {
    for (body, id) in [
        ("{\"id\": 42}", Some("42")),
        ("{\"id\": \"a\\u0062\"}", Some("ab")),
        (
            "{\"id\": 123456789012345678901234567890}",
            Some("123456789012345678901234567890"),
        ),
        ("{\"id\": 42.0}", None),
        ("{\"id\": 4e1}", None),
        ("{\"id\": null}", None),
        ("{\"id\": true}", None),
        ("{\"id\": [42]}", None),
        ("{\"id\": \"\"}", None),
        ("{\"id\": \"a\\nb\"}", None),
        ("{\"id\": 1, \"id\": 2}", None),
        ("{\"ID\": 1}", None),
        ("[]", None),
        ("", None),
    ] {
        assert_eq!(
            ids(&[rule("/id")], body).ok(),
            id.map(|id| vec![id.to_owned()]),
            "{body}"
        );
    }
    assert_eq!(
        created(&[rule("/id")], &Parameters::new(), 201, &HeaderMap::new(), None),
        Err(AnswerError::NoBody)
    );
}

#[test]
fn an_upload_that_stored_nothing_new_makes_nothing() {
    let mut upload = rule("/ID");
    upload.when = Some(("/Status".into(), "Success".into()));
    upload.parent = Some(("series".into(), IdSource::Body("/ParentSeries".into())));
    let rules = [upload];
    assert_eq!(
        ids(&rules, r#"{"ID":"a-1","Status":"Success","ParentSeries":"s-1"}"#),
        Ok(vec!["a-1".into()])
    );
    assert_eq!(
        ids(
            &rules,
            r#"{"ID":"a-1","Status":"AlreadyStored","ParentSeries":"s-1"}"#
        ),
        Ok(vec![])
    );
    assert_eq!(ids(&rules, r#"{"ID":"a-1"}"#), Ok(vec![]));
    assert!(
        ids(&rules, r#"{"ID":"a-1","Status":"Success"}"#).is_err(),
        "the parent is missing"
    );
}

#[test]
fn one_answer_makes_several_things_with_parents_and_attributes() {
    let mut each = rule("/id");
    each.items = Some("/jobs".into());
    each.when = Some(("/ok".into(), "true".into()));
    each.parent = Some(("batch".into(), IdSource::Parameter("batch".into())));
    each.attributes = [("queue", "/queue"), ("note", "/note"), ("cores", "/cores")]
        .map(|(name, pointer)| (name.to_owned(), IdSource::Body(pointer.to_owned())))
        .into();
    let body = br#"{"jobs":[{"id":1,"ok":true,"queue":"long","note":null,"cores":4},{"id":2,"ok":false},{"id":3,"ok":true}]}"#;
    let parameters = Parameters::from([("batch".to_owned(), "b1".to_owned())]);
    let made = created(&[each.clone()], &parameters, 201, &HeaderMap::new(), Some(body)).unwrap();
    assert_eq!(
        made.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["1", "3"]
    );
    assert_eq!(made[0].parent, Some(("batch".to_owned(), "b1".to_owned())));
    let attributes: Vec<_> = made[0]
        .attributes
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(attributes, [("cores", "4"), ("queue", "long")]);
    let composed = br#"{"jobs":[{"id":1,"ok":true,"queue":["long"]}]}"#;
    assert!(created(&[each], &parameters, 201, &HeaderMap::new(), Some(composed)).is_err());
}

fn filter(items: &str, id: &str, totals: &[&str]) -> FilterRule {
    FilterRule {
        kind: "job".into(),
        items: items.into(),
        id: id.into(),
        totals: totals.iter().map(|total| (*total).to_owned()).collect(),
        limit: 1 << 20,
    }
}

#[test]
fn a_list_keeps_what_may_be_seen_and_its_own_spelling() {
    let rule = filter("/jobs", "/id", &["/total", "/page/count"]);
    let body = br#"{ "total": 3, "jobs" : [ {"id":1,"n":1.50}, {"id":2}, {"id":3, "x":"\u00e9"} ], "page":{"count":3}, "v":1e400000000000 }"#;
    // A number that no float holds is refused by the parser; everything else keeps its bytes.
    assert!(rule.read(body).is_err());
    let body = br#"{ "total": 3, "jobs" : [ {"id":1,"n":1.50}, {"id":2}, {"id":3, "x":"\u00e9"} ], "page":{"count":3} }"#;
    let listed = rule.read(body).unwrap();
    assert_eq!(listed.ids(), ["1", "2", "3"]);
    assert_eq!(
        String::from_utf8(listed.keep(&[true, false, true]).unwrap()).unwrap(),
        r#"{ "total": 2, "jobs" : [{"id":1,"n":1.50},{"id":3, "x":"\u00e9"}], "page":{"count":2} }"#
    );
    assert_eq!(
        String::from_utf8(listed.keep(&[false; 3]).unwrap()).unwrap(),
        r#"{ "total": 0, "jobs" : [], "page":{"count":0} }"#
    );
    assert_eq!(listed.keep(&[true; 2]), Err(AnswerError::Decisions));
    assert_eq!(listed.keep(&[true; 4]), Err(AnswerError::Decisions));
}

#[test]
fn a_bare_list_of_ids_is_a_list() {
    let listed = filter("", "", &[]);
    let listed = listed.read(br#"["a", "b","c"]"#).unwrap();
    assert_eq!(listed.ids(), ["a", "b", "c"]);
    assert_eq!(listed.keep(&[false, true, false]).unwrap(), br#"["b"]"#);
    assert_eq!(
        filter("", "", &[]).read(b" [] \n").unwrap().keep(&[]).unwrap(),
        b" [] \n"
    );
}

#[test]
fn every_surprise_in_a_list_is_an_error() {
    let rule = filter("/jobs", "/id", &["/total"]);
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "{\"jobs\":[]}",
        "{\"jobs\":null,\"total\":0}",
        "{\"jobs\":{},\"total\":0}",
        "{\"jobs\":[{}],\"total\":1}",
        "{\"jobs\":[7],\"total\":1}",
        "{\"jobs\":[{\"id\":1.5}],\"total\":1}",
        "{\"jobs\":[{\"id\":null}],\"total\":1}",
        "{\"jobs\":[],\"total\":\"0\"}",
        "{\"jobs\":[],\"total\":0.0}",
        "{\"jobs\":[],\"jobs\":[],\"total\":0}",
        "{\"jobs\":[{\"id\":1,\"id\":2}],\"total\":1}",
        "<html>",
        "{\"jobs\":[],\"total\":0}x",
        "\u{1f}\u{8b}\u{8}",
    ] {
        assert!(rule.read(body.as_bytes()).is_err(), "{body}");
    }
    let mut small = filter("", "", &[]);
    small.limit = 3;
    assert_eq!(small.read(b"[\"a\"]").unwrap_err(), AnswerError::TooLarge(3));
}

proptest! {
    #[test]
    fn a_narrowed_list_is_the_list_without_what_is_hidden(
        entries in proptest::collection::vec((any::<i64>(), "[a\\]\\[\",{}\u{e9}]{0,5}", any::<bool>()), 0..20),
        before in any::<bool>(),
        pretty in any::<bool>(),
    ) {
        let item = |(id, text, _): &(i64, String, bool)| json!({"text": text, "deep": [{"id": 0}, [text]], "id": id});
        let document = |items: Vec<Value>| {
            let count = items.len();
            if before {
                json!({"a": {"total": count}, "list": {"items": items}, "z": "]"})
            } else {
                json!({"list": {"items": items}, "a": {"total": count}, "z": "]"})
            }
        };
        let all = document(entries.iter().map(item).collect());
        let text = if pretty { serde_json::to_vec_pretty(&all) } else { serde_json::to_vec(&all) }.unwrap();
        let rule = filter("/list/items", "/id", &["/a/total"]);
        let listed = rule.read(&text).unwrap();
        let ids: Vec<String> = entries.iter().map(|(id, ..)| id.to_string()).collect();
        prop_assert_eq!(listed.ids(), &ids[..]);
        let keep: Vec<bool> = entries.iter().map(|(.., keep)| *keep).collect();
        let narrowed = listed.keep(&keep).unwrap();
        let visible: Vec<Value> = entries.iter().filter(|(.., keep)| *keep).map(item).collect();
        prop_assert_eq!(serde_json::from_slice::<Value>(&narrowed).unwrap(), document(visible));
        // What was narrowed can be narrowed again to the same bytes.
        let again = rule.read(&narrowed).unwrap();
        prop_assert_eq!(again.keep(&vec![true; again.ids().len()]).unwrap(), narrowed.clone());
    }

    #[test]
    fn any_answer_is_read_or_refused_without_a_panic(body in "[\\[\\]{}\",:0-9a-di ]{0,60}", location in "[ -~]{0,40}") {
        let _ = filter("", "/a", &["/b"]).read(body.as_bytes()).map(|listed| listed.keep(&[]));
        let _ = ids(&[rule("/id")], &body);
        if let Ok(id) = last_segment_of(&location).ok_or(()) {
            prop_assert!(!id.is_empty() && !id.contains('/'));
        }
    }
}
