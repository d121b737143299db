use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const JOBS: &str = "urn:jobs";

fn read(text: &[u8], kind: &str, headers: &[(&str, &str)]) -> Result<Soap, ContentError> {
    let mut map = HeaderMap::new();
    map.insert("content-type", HeaderValue::from_str(kind).unwrap());
    for (name, value) in headers {
        map.append(
            name.parse::<http::HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let media = Media::of(&map).unwrap();
    Soap::parse(text, &media, &map, ["/job/id", "/queue"].into_iter())
}

fn soap11(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<s:Envelope xmlns:s=\"{SOAP11}\" xmlns:j=\"{JOBS}\">{inner}</s:Envelope>\n"
    )
}

fn body(inner: &str) -> Result<Soap, ContentError> {
    read(
        soap11(&format!("<s:Header/><s:Body>{inner}</s:Body>")).as_bytes(),
        "text/xml; charset=utf-8",
        &[],
    )
}

#[test]
fn the_one_element_of_the_body_is_the_operation() {
    let soap = body("\n  <j:submit><job><id>7</id><note>a &amp; <![CDATA[b]]></note></job><j:queue>long</j:queue></j:submit>\n").unwrap();
    assert_eq!(soap.operation(), &(JOBS.to_owned(), "submit".to_owned()));
    assert_eq!(soap.only("/job/id"), Ok(Some("7".into())));
    assert_eq!(soap.only("/queue"), Ok(Some("long".into())));
    let default = read(
        format!("<Envelope xmlns=\"{SOAP12}\"><Body><submit xmlns=\"{JOBS}\"/></Body></Envelope>").as_bytes(),
        "application/soap+xml",
        &[],
    )
    .unwrap();
    assert_eq!(default.operation().1, "submit");
    assert_eq!(default.only("/queue"), Ok(None));
}

#[test]
fn what_two_programs_could_dispatch_differently_is_refused() {
    for inner in [
        "",
        "text",
        "<j:submit/>text",
        "<j:submit/><j:cancel/>",
        "<j:submit/><j:multiRef id=\"a\"/>",
        "<!-- c --><j:submit/>",
        "<j:submit><!-- c --></j:submit>",
        "<?pi x?><j:submit/>",
        "<j:submit><?pi x?></j:submit>",
        "<![CDATA[x]]><j:submit/>",
        "&amp;<j:submit/>",
        "&#32;<j:submit/>",
        "<j:submit>&x;</j:submit>",
        "<j:submit>&#0;</j:submit>",
        "<j:submit>&#xFFFF;</j:submit>",
        "<j:submit>& </j:submit>",
        "<j:submit a=\"1\" a=\"2\"/>",
        "<j:submit a=1/>",
        "<j:submit a/>",
        "<j:submit a=\"<\"/>",
        "<j:submit></j:cancel>",
        "<j:submit>",
        "<k:submit/>",
        "<j:sub:mit/>",
        "<j:1submit/>",
        "<j:submit!/>",
        "<j:submit xmlns:k=\"urn:&#120;\"/>",
        "<j:submit>\u{1}</j:submit>",
        "<j:submit>\u{feff}</j:submit>",
    ] {
        assert!(body(inner).is_err(), "{inner}");
    }
    let submit = "<s:Body><j:submit/></s:Body>";
    for inner in [
        submit.repeat(2),
        format!("{submit}<s:Header/>"),
        format!("<s:Header/><s:Header/>{submit}"),
        format!("{submit}<j:after/>"),
        format!("<j:before/>{submit}"),
        format!("text{submit}"),
        "<s:Header/>".to_owned(),
        format!("<Body>{submit}</Body>"),
        format!("<j:Body>{submit}</j:Body>"),
    ] {
        assert!(
            read(soap11(&inner).as_bytes(), "text/xml", &[]).is_err(),
            "{inner}"
        );
    }
    let whole = soap11(submit);
    let plain = whole.split_once('\n').unwrap().1;
    assert!(read(plain.as_bytes(), "text/xml", &[]).is_ok());
    for text in [
        whole.replace("utf-8", "utf-16"),
        whole.replace("utf-8", "iso-8859-1"),
        whole.replace("1.0", "1.1"),
        whole.replace("encoding", "version"),
        format!("\u{feff}{whole}"),
        format!(" {whole}"),
        format!("{whole}{plain}"),
        format!("{whole}x"),
        format!("{whole}<!-- c -->"),
        format!("<!DOCTYPE s:Envelope>{plain}"),
        format!("<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>{plain}"),
        format!("<!DOCTYPE x SYSTEM \"file:///etc/passwd\">{plain}"),
        plain.replace("Envelope", "envelope"),
        plain.replace(SOAP11, SOAP12),
        plain.replace(SOAP11, "urn:other"),
        String::new(),
        "<".repeat(1_000),
        format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000)),
    ] {
        let shown: String = text.chars().take(120).collect();
        assert!(read(text.as_bytes(), "text/xml", &[]).is_err(), "{shown}");
    }
    assert!(read(b"\xff\xfe<\0", "text/xml", &[]).is_err());
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(read(&utf16, "text/xml", &[]).is_err());
    assert!(
        read(plain.as_bytes(), "application/soap+xml", &[]).is_err(),
        "the version is another"
    );
}

#[test]
fn an_entity_bomb_and_deep_nesting_cost_nothing() {
    let deep = format!(
        "<j:submit>{}{}</j:submit>",
        "<a>".repeat(MAX_DEPTH),
        "</a>".repeat(MAX_DEPTH)
    );
    assert!(body(&deep).is_err());
    let bomb = format!("<j:submit>{}</j:submit>", "&lol;".repeat(10_000));
    assert!(body(&bomb).is_err());
}

#[test]
fn an_action_that_is_sent_is_the_operations() {
    let said = |headers: &[(&str, &str)], declared| {
        read(
            soap11("<s:Body><j:submit/></s:Body>").as_bytes(),
            "text/xml",
            headers,
        )
        .map(|soap| soap.says_only(declared))
    };
    for action in [
        "",
        "\"\"",
        "submit",
        "\"submit\"",
        "\"urn:jobs#submit\"",
        "urn:jobs/submit",
        "urn:jobs:submit",
        "urn:jobssubmit",
    ] {
        assert_eq!(said(&[("soapaction", action)], None), Ok(true), "{action}");
    }
    for action in [
        "cancel",
        "\"urn:jobs#cancel\"",
        "urn:other#submit",
        "SUBMIT",
        "urn:jobs//submit",
        "urn:jobs",
    ] {
        assert_eq!(said(&[("soapaction", action)], None), Ok(false), "{action}");
    }
    assert_eq!(
        said(&[("soapaction", "\"http://x/Start\"")], Some("http://x/Start")),
        Ok(true)
    );
    assert_eq!(
        said(&[("soapaction", "submit")], Some("http://x/Start")),
        Ok(false)
    );
    assert_eq!(said(&[], Some("http://x/Start")), Ok(true));
    for action in ["\"submit", "submit\"", "su\"bmit"] {
        assert_eq!(
            said(&[("soapaction", action)], None),
            Err(ContentError::Action),
            "{action}"
        );
    }
    assert_eq!(
        said(&[("soapaction", "submit"), ("soapaction", "submit")], None),
        Err(ContentError::Action)
    );
    let addressed = |action: &str| {
        let header = format!(
            "<s:Header><a:Action xmlns:a=\"http://www.w3.org/2005/08/addressing\">{action}</a:Action></s:Header>"
        );
        read(
            soap11(&format!("{header}<s:Body><j:submit/></s:Body>")).as_bytes(),
            "text/xml",
            &[],
        )
        .map(|soap| soap.says_only(None))
    };
    assert_eq!(addressed("urn:jobs/submit"), Ok(true));
    assert_eq!(addressed("urn:jobs/cancel"), Ok(false));
    assert!(addressed("<x/>").is_err());
    assert!(addressed("<![CDATA[urn:jobs/cancel]]>").is_err());
    let twelve = format!(
        "<e:Envelope xmlns:e=\"{SOAP12}\"><e:Body><j:submit xmlns:j=\"{JOBS}\"/></e:Body></e:Envelope>"
    );
    let with = |kind: &str| read(twelve.as_bytes(), kind, &[]).map(|soap| soap.says_only(None));
    assert_eq!(with("application/soap+xml; action=\"urn:jobs#submit\""), Ok(true));
    assert_eq!(
        with("application/soap+xml; action=\"urn:jobs#cancel\""),
        Ok(false)
    );
}

#[test]
fn a_judged_text_stands_there_once_and_plainly() {
    let at =
        |inner: &str| body(&format!("<j:submit>{inner}</j:submit>")).and_then(|soap| soap.only("/job/id"));
    assert_eq!(at("<job><id>7</id></job>"), Ok(Some("7".into())));
    assert_eq!(
        at("<job><id xsi:type=\"xsd:int\" xmlns:xsi=\"urn:x\">7</id></job>"),
        Ok(Some("7".into()))
    );
    assert_eq!(at("<job><id>a&#x26;b</id></job>"), Ok(Some("a&b".into())));
    assert_eq!(at("<job/><x><job><id>8</id></job></x><id>9</id>"), Ok(None));
    for twin in [
        "<job><id>7</id><id>8</id></job>",
        "<job><id>7</id></job><job><id>8</id></job>",
        "<job><id>7</id><j:id>8</j:id></job>",
    ] {
        assert_eq!(at(twin), Err(ContentError::Twin("/job/id".into())), "{twin}");
    }
    for not in [
        "<job><id> 7</id></job>",
        "<job><id>7\n</id></job>",
        "<job><id>7<x/></id></job>",
        "<job><id><![CDATA[7]]></id></job>",
        "<job><id href=\"#1\">7</id></job>",
        "<job><id n:nil=\"true\" xmlns:n=\"urn:x\"></id></job>",
    ] {
        assert_eq!(at(not), Err(ContentError::NotPlain("/job/id".into())), "{not}");
    }
}

/// A text as XML writes it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(id in "[!-~\u{e9}]{1,12}", note in "[ -~\n]{0,20}", operation in "[a-z][a-zA-Z0-9]{0,8}") {
        let text = format!("<j:{operation}><note>{}</note><job><id>{}</id></job></j:{operation}>", escaped(&note), escaped(&id));
        let soap = body(&text).unwrap();
        prop_assert_eq!(soap.operation(), &(JOBS.to_owned(), operation));
        prop_assert_eq!(soap.only("/job/id"), Ok(Some(id)));
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        inner in "(<j:submit>|</j:submit>|<s:Body>|</s:Body>|<s:Header/>|<id>|</id>|<!\\[CDATA\\[|\\]\\]>|&amp;|&x;|<\\?|<!|[ a-z<>&\"'=/]){0,12}",
    ) {
        let _ = read(&bytes, "text/xml", &[]);
        let _ = body(&inner);
        if let Ok(soap) = read(soap11(&inner).as_bytes(), "text/xml", &[]) {
            prop_assert!(is_ncname(&soap.operation().1));
        }
    }
}
