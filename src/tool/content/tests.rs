use http::HeaderValue;
use http::header::CONTENT_TYPE;
use proptest::prelude::*;

use super::*;

fn rule(language: Language) -> BodyRule {
    BodyRule {
        language,
        operation: None,
        action: None,
        equals: Vec::new(),
        take: Vec::new(),
        fields: None,
        limit: 200,
    }
}

fn taken(name: &str, at: &str, accepts: Option<Variable>) -> Taken {
    Taken {
        name: name.into(),
        at: at.into(),
        accepts,
    }
}

fn typed(kind: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
    }
    headers
}

/// Whether the body fits, and the parameters it has; `None` for a missing one.
type Read = Result<(bool, Option<Vec<(String, String)>>), ContentError>;

fn read(rule: &BodyRule, kind: &str, body: &str) -> Read {
    let content = Content::read(&[rule], &typed(kind), body.as_bytes())?.unwrap();
    let mut parameters = Vec::new();
    let missing = rule.bind(&content, |name, value| parameters.push((name.to_owned(), value)))?;
    Ok((rule.fits(&content)?, missing.is_none().then_some(parameters)))
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn a_json_body_says_its_task_and_its_parameters_in_one_way() {
    let mut start = rule(Language::Json);
    start.equals = vec![("/action".into(), "start".into())];
    start.take = vec![
        taken("job", "/job/id", Some(Variable::Int)),
        taken("queue", "/queue", None),
    ];
    let of = |text: &str| read(&start, JSON, text);
    let job = |id: &str| {
        Some(vec![
            ("job".to_owned(), id.to_owned()),
            ("queue".to_owned(), "q".to_owned()),
        ])
    };
    assert_eq!(
        of(r#"{"action":"start","job":{"id":7},"queue":"q","x":[1.5]}"#),
        Ok((true, job("7")))
    );
    assert_eq!(
        of(r#"{"action":"start","job":{"id":"7"},"queue":"q"}"#),
        Ok((true, job("7")))
    );
    assert_eq!(
        of(r#"{"action":"stop","job":{"id":7},"queue":"q"}"#),
        Ok((false, job("7")))
    );
    assert_eq!(
        of(r#"{"action":"start","job":{"id":"07"},"queue":"q"}"#),
        Ok((true, None))
    );
    assert_eq!(of(r#"{"action":"start","job":{"id":7}}"#), Ok((true, None)));
    assert_eq!(
        of(r#"{"action":"start","job":{"id":7},"queue":""}"#),
        Ok((true, None))
    );
    for text in [
        r#"{"action":"start","Action":"stop","job":{"id":7},"queue":"q"}"#,
        r#"{"ACTION":"start","job":{"id":7},"queue":"q"}"#,
        r#"{"action":"start","job":{"id":7,"ID":8},"queue":"q"}"#,
        r#"{"action":["start"],"job":{"id":7},"queue":"q"}"#,
        r#"{"action":1.0,"job":{"id":7},"queue":"q"}"#,
        r#"{"action":null,"job":{"id":7},"queue":"q"}"#,
        r#"{"action":"start","action":"stop","job":{"id":7},"queue":"q"}"#,
        r#"{"action":"start","job":{"id":7},"queue":"a\nb"}"#,
        r#"{"action":"start","#,
        "\u{feff}{}",
        " ",
    ] {
        assert!(of(text).is_err(), "{text}");
    }
}

#[test]
fn a_form_takes_the_fields_that_its_task_names() {
    let mut start = rule(Language::Form);
    start.equals = vec![("action".into(), "start".into())];
    start.take = vec![taken("job", "job", Some(Variable::Int))];
    start.fields = Some(vec!["note".into()]);
    let of = |text: &str| read(&start, FORM, text);
    let job = Some(vec![("job".to_owned(), "7".to_owned())]);
    assert_eq!(of("action=start&job=7&note=a+b"), Ok((true, job.clone())));
    assert_eq!(of("job=7&action=stop"), Ok((false, job.clone())));
    assert_eq!(of("action=start"), Ok((true, None)));
    assert_eq!(
        of("action=start&job=7&admin=1"),
        Err(ContentError::UnknownField("admin".into()))
    );
    for text in [
        "action=start&job=7&job=8",
        "action=start&job=7&Job=8",
        "action=start&job=7&job[]=8",
        "action=start&job=7&_method=DELETE",
    ] {
        assert!(of(text).is_err(), "{text}");
    }
    start.fields = None;
    assert_eq!(read(&start, FORM, "action=start&job=7&admin=1"), Ok((true, job)));
}

#[test]
fn a_body_is_read_only_as_what_it_says_it_is() {
    let json = rule(Language::Json);
    for kind in [
        "",
        FORM,
        "text/plain",
        "text/xml",
        "application/json; charset=utf-16",
    ] {
        assert!(
            matches!(read(&json, kind, "{}"), Err(ContentError::Media(_))),
            "{kind}"
        );
    }
    let mut encoded = typed(JSON);
    encoded.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    assert_eq!(
        Content::read(&[&json], &encoded, b"{}").unwrap_err(),
        ContentError::Encoded
    );
    let large = format!("\"{}\"", "a".repeat(200));
    assert_eq!(read(&json, JSON, &large), Err(ContentError::TooLarge(200)));
    assert!(Content::read(&[&json], &typed(""), b"").unwrap().is_none());
    assert!(Content::read(&[&json], &typed(JSON), b"").unwrap().is_none());
    assert!(
        Content::read(&[&json], &typed(FORM), b"").is_err(),
        "no task here takes a form"
    );
    assert_eq!(
        read(&rule(Language::Form), FORM, ""),
        Ok((true, Some(Vec::new())))
    );
    let form = rule(Language::Form);
    let error = Content::read(&[&json, &form], &typed("text/xml"), b"<a/>").unwrap_err();
    assert_eq!(
        error,
        ContentError::Media("application/json, application/x-www-form-urlencoded".into())
    );
}

#[test]
fn an_error_repeats_no_value_of_the_body() {
    let mut start = rule(Language::Json);
    start.take = vec![taken("job", "/job", None)];
    for text in [
        r#"{"job":["secret"]}"#,
        r#"{"job":1,"JOB":"secret"}"#,
        "secret",
        r#"{"secret":1,"secret":2}"#,
    ] {
        let error = read(&start, JSON, text).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn rules_that_no_body_fits_both_exclude_each_other() {
    let mut start = rule(Language::Json);
    start.equals = vec![("/a".into(), "1".into())];
    let mut stop = start.clone();
    stop.equals = vec![("/a".into(), "2".into())];
    let mut other = start.clone();
    other.equals = vec![("/b".into(), "2".into())];
    assert!(start.excludes(&stop) && stop.excludes(&start));
    assert!(!start.excludes(&other) && !start.excludes(&rule(Language::Json)) && !start.excludes(&start));
    assert!(start.excludes(&rule(Language::Form)));
    let mut soap = rule(Language::Soap);
    soap.operation = Some(("urn:a".into(), "b".into()));
    let mut soap2 = soap.clone();
    soap2.operation = Some(("urn:a".into(), "c".into()));
    assert!(soap.excludes(&soap2) && !soap.excludes(&soap));
    assert!(start.narrows(&rule(Language::Json)) && !rule(Language::Json).narrows(&start));
}

proptest! {
    #[test]
    fn two_rules_that_exclude_each_other_never_both_fit(
        a in proptest::collection::btree_map("/[a-c]", "[12]", 0..3),
        b in proptest::collection::btree_map("/[a-c]", "[12]", 0..3),
        body in proptest::collection::btree_map("[a-c]", "[12]", 0..4),
    ) {
        let of = |equals: std::collections::BTreeMap<String, String>| BodyRule { equals: equals.into_iter().collect(), ..rule(Language::Json) };
        let (a, b) = (of(a), of(b));
        let text = serde_json::to_string(&body).unwrap();
        let content = Content::read(&[&a, &b], &typed(JSON), text.as_bytes()).unwrap().unwrap();
        let (fits_a, fits_b) = (a.fits(&content).unwrap(), b.fits(&content).unwrap());
        prop_assert!(!(a.excludes(&b) && fits_a && fits_b));
        prop_assert!(!(a.narrows(&b) && fits_a && !fits_b));
    }
}
