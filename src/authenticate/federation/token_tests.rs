use proptest::prelude::*;
use serde_json::json;

use super::fuzz::{Signer, expected};
use super::*;

const NONCE: &str = "n-0S6_WzA2Mj";

fn claims() -> Value {
    let now = expected().now.secs();
    json!({
        "iss": "https://idp.example.org", "sub": "alice-0001", "aud": "gateway", "exp": now + 600, "iat": now - 5,
        "nonce": NONCE, "acr": "https://refeds.org/profile/mfa", "amr": ["pwd", "otp"], "name": "Alice Example",
    })
}

fn with(change: impl Fn(&mut Value)) -> Value {
    let mut changed = claims();
    change(&mut changed);
    changed
}

fn signed_as(signer: &Signer, header: &Value, payload: &Value) -> String {
    signer.sign(header.to_string().as_bytes(), payload.to_string().as_bytes())
}

fn judged(header: Value, payload: &Value) -> Result<Claims, Flaw> {
    let signer = Signer::new();
    id_token(
        &signed_as(&signer, &header, payload),
        &signer.keys,
        expected(),
        NONCE,
    )
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "k", "typ": "JWT" })
}

#[test]
fn a_right_token_says_who_has_signed_in_and_how() {
    let claims = judged(header(), &claims()).unwrap();
    assert_eq!(claims.subject, "alice-0001");
    assert_eq!(claims.acr.as_deref(), Some("https://refeds.org/profile/mfa"));
    assert_eq!(claims.amr, ["pwd", "otp"]);
    assert_eq!(claims.all["name"], "Alice Example");
    // Without `kid` and `typ`, and with the audience as a list.
    let listed = with(|claims| claims["aud"] = json!(["gateway"]));
    assert!(judged(json!({ "alg": "ES256" }), &listed).is_ok());
}

#[test]
fn each_wrong_claim_is_refused_by_its_name() {
    let now = expected().now.secs();
    let cases: Vec<(Flaw, Value)> = vec![
        (Flaw::Nonce, with(|c| c["nonce"] = json!("another"))),
        (
            Flaw::Nonce,
            with(|c| drop(c.as_object_mut().unwrap().remove("nonce"))),
        ),
        (Flaw::Audience, with(|c| c["aud"] = json!("another"))),
        (Flaw::Audience, with(|c| c["aud"] = json!(["gateway", "another"]))),
        (Flaw::Audience, with(|c| c["aud"] = json!([]))),
        (Flaw::Party, with(|c| c["azp"] = json!("another"))),
        (Flaw::Party, with(|c| c["azp"] = Value::Null)),
        (
            Flaw::Issuer,
            with(|c| c["iss"] = json!("https://idp.example.org/")),
        ),
        (Flaw::Expired, with(|c| c["exp"] = json!(now - 60))),
        (Flaw::Expired, with(|c| c["exp"] = json!("never"))),
        (Flaw::Expired, with(|c| c["exp"] = json!(1e300))),
        (Flaw::Time, with(|c| c["nbf"] = json!(now + 61))),
        (Flaw::Time, with(|c| c["nbf"] = json!("soon"))),
        (Flaw::Time, with(|c| c["iat"] = json!(now + 61))),
        (Flaw::Time, with(|c| c["iat"] = json!(now - 601))),
        (
            Flaw::Subject,
            with(|c| drop(c.as_object_mut().unwrap().remove("sub"))),
        ),
        (Flaw::Subject, with(|c| c["sub"] = json!(""))),
        (Flaw::Subject, with(|c| c["sub"] = json!(7))),
        (Flaw::Subject, with(|c| c["sub"] = json!("x".repeat(256)))),
        (Flaw::Subject, with(|c| c["sub"] = json!("alice\n"))),
        (Flaw::Kind, with(|c| c["events"] = json!({}))),
    ];
    for (flaw, payload) in cases {
        assert_eq!(judged(header(), &payload), Err(flaw), "{payload}");
    }
}

#[test]
fn the_header_chooses_neither_algorithm_nor_key() {
    let signer = Signer::new();
    let of = |header: Value| {
        id_token(
            &signed_as(&signer, &header, &claims()),
            &signer.keys,
            expected(),
            NONCE,
        )
        .map(|_| ())
    };
    for algorithm in ["none", "None", "HS256", "HS512", "RS512", "ES512", ""] {
        assert_eq!(
            of(json!({ "alg": algorithm, "kid": "k" })),
            Err(Flaw::Algorithm),
            "{algorithm}"
        );
    }
    for algorithm in ["RS256", "PS256", "ES384", "EdDSA"] {
        assert_eq!(
            of(json!({ "alg": algorithm, "kid": "k" })),
            Err(Flaw::Key),
            "{algorithm}"
        );
    }
    assert_eq!(of(json!({ "kid": "k" })), Err(Flaw::Algorithm));
    assert_eq!(of(json!({ "alg": "ES256", "kid": "another" })), Err(Flaw::Key));
    assert_eq!(of(json!({ "alg": "ES256", "kid": 7 })), Err(Flaw::Form));
    assert_eq!(
        of(json!({ "alg": "ES256", "kid": "k", "crit": ["exp"] })),
        Err(Flaw::Critical)
    );
    assert_eq!(
        of(json!({ "alg": "ES256", "kid": "k", "typ": "at+jwt" })),
        Err(Flaw::Kind)
    );
    assert_eq!(
        of(json!({ "alg": "ES256", "kid": "k", "typ": "logout+jwt" })),
        Err(Flaw::Kind)
    );
    // A key that the token brings along is not looked at.
    let stranger = Signer::new();
    let token = signed_as(
        &stranger,
        &json!({ "alg": "ES256", "kid": "k", "jku": "https://evil.example" }),
        &claims(),
    );
    assert_eq!(
        id_token(&token, &signer.keys, expected(), NONCE),
        Err(Flaw::Signature)
    );
}

#[test]
fn of_two_keys_that_would_do_neither_is_taken() {
    let (one, two) = (Signer::new(), Signer::new());
    let both = Keys([one.keys.0.clone(), two.keys.0.clone()].concat());
    let token = signed_as(&one, &header(), &claims());
    assert_eq!(id_token(&token, &both, expected(), NONCE), Err(Flaw::Key));
}

#[test]
fn keys_that_are_symmetric_private_short_or_not_for_signing_are_left_out() {
    let modulus = |bytes: usize| BASE64URL_NOPAD.encode(&vec![0xff; bytes]);
    let rsa = |bytes: usize| json!({ "kty": "RSA", "n": modulus(bytes), "e": "AQAB", "kid": "r" });
    let read = |key: Value| Keys::read(&json!({ "keys": [key] })).unwrap().0.len();
    assert_eq!(read(rsa(256)), 1);
    assert_eq!(read(rsa(128)), 0);
    let but = |name: &str, value: Value| {
        let mut key = rsa(256);
        key[name] = value;
        read(key)
    };
    assert_eq!(but("use", json!("enc")), 0);
    assert_eq!(but("alg", json!("HS256")), 0);
    assert_eq!(but("d", json!("AQAB")), 0);
    assert_eq!(read(json!({ "kty": "oct", "k": "AAAA", "alg": "HS256" })), 0);
    assert!(Keys::read(&json!({})).is_none() && Keys::read(&json!({ "keys": 7 })).is_none());
}

#[test]
fn a_logout_token_is_none_that_signs_in_and_the_other_way_round() {
    let signer = Signer::new();
    let now = expected().now.secs();
    let event = json!({ LOGOUT_EVENT: {} });
    let right = json!({
        "iss": "https://idp.example.org", "sub": "alice-0001", "aud": "gateway", "iat": now, "exp": now + 120,
        "jti": "one", "events": event,
    });
    let of = |payload: &Value| {
        let token = signed_as(
            &signer,
            &json!({ "alg": "ES256", "kid": "k", "typ": "logout+jwt" }),
            payload,
        );
        logout_token(&token, &signer.keys, expected())
    };
    let logout = of(&right).unwrap();
    assert_eq!(
        (logout.subject.as_str(), logout.id.as_str()),
        ("alice-0001", "one")
    );
    let but = |name: &str, value: Value| {
        let mut other = right.clone();
        other[name] = value;
        of(&other).unwrap_err()
    };
    assert_eq!(but("nonce", json!("a")), Flaw::Event);
    assert_eq!(but("events", json!({})), Flaw::Event);
    assert_eq!(but("events", json!({ LOGOUT_EVENT: true })), Flaw::Event);
    assert_eq!(but("jti", Value::Null), Flaw::Event);
    assert_eq!(but("sub", Value::Null), Flaw::Subject);
    assert_eq!(but("aud", json!("another")), Flaw::Audience);
    let id = signed_as(&signer, &header(), &claims());
    assert_eq!(logout_token(&id, &signer.keys, expected()), Err(Flaw::Event));
}

proptest! {
    #[test]
    fn no_changed_byte_of_a_token_is_taken(at in 0_usize..1_000, by in 1_u8..=255) {
        let signer = Signer::new();
        let token = signed_as(&signer, &header(), &claims());
        let mut bytes = token.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= by;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assert!(id_token(&changed, &signer.keys, expected(), NONCE).is_err());
        }
    }

    #[test]
    fn any_text_is_refused_and_nothing_panics(text in "\\PC{0,200}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        let keys = Keys::default();
        prop_assert!(id_token(&text, &keys, expected(), NONCE).is_err());
        prop_assert!(logout_token(&parts.join("."), &keys, expected()).is_err());
    }
}
