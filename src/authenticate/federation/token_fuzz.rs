//! The fuzz target of what identity providers sign (see `crate::fuzz`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target ends at the first thing that is not as it claims"
)]

use std::sync::LazyLock;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use super::*;

const ISSUER: &str = "https://idp.example.org";
const CLIENT: &str = "gateway";
const NONCE: &str = "n-0S6_WzA2Mj";
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(super) struct Signer {
    pair: EcdsaKeyPair,
    pub(super) keys: Keys,
}

impl Signer {
    #[expect(clippy::disallowed_methods, reason = "a key that is thrown away")]
    pub(super) fn new() -> Self {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (
            BASE64URL_NOPAD.encode(&point[1..33]),
            BASE64URL_NOPAD.encode(&point[33..]),
        );
        let key =
            json!({ "kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "use": "sig", "x": x, "y": y });
        let keys = Keys::read(&json!({ "keys": [key] })).unwrap();
        Self { pair, keys }
    }

    #[expect(clippy::disallowed_methods, reason = "a signature that is thrown away")]
    pub(super) fn sign(&self, header: &[u8], payload: &[u8]) -> String {
        let (header, payload) = (BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(payload));
        let message = format!("{header}.{payload}");
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature = self.pair.sign(&random, message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

static SIGNER: LazyLock<Signer> = LazyLock::new(Signer::new);

pub(super) const fn expected() -> Expected<'static> {
    Expected {
        issuer: ISSUER,
        client: CLIENT,
        now: NOW,
    }
}

/// The first line is the header, the rest the payload, once as they stand (unsigned) and once well signed; and all of it as a token.
///
/// Nothing is taken that the provider's key did not sign. What is taken says, read a second time and member by member, that it
/// is of this issuer, for this client alone, of this sign-in, and of now; and no token is an ID token and a logout token at once.
pub(crate) fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(id_token(&text, &SIGNER.keys, expected(), NONCE).is_err());
    assert!(logout_token(&text, &SIGNER.keys, expected()).is_err());
    let (header, payload) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&br#"{"alg":"ES256","kid":"k"}"#[..], data),
    };
    let unsigned = format!(
        "{}.{}.",
        BASE64URL_NOPAD.encode(header),
        BASE64URL_NOPAD.encode(payload)
    );
    assert!(id_token(&unsigned, &SIGNER.keys, expected(), NONCE).is_err());
    let signed = SIGNER.sign(header, payload);
    let other = Keys::default();
    assert!(id_token(&signed, &other, expected(), NONCE).is_err());
    let (taken, logout) = (
        id_token(&signed, &SIGNER.keys, expected(), NONCE),
        logout_token(&signed, &SIGNER.keys, expected()),
    );
    assert!(taken.is_err() || logout.is_err(), "one token, two meanings");
    if taken.is_err() && logout.is_err() {
        return;
    }
    let head: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(head["alg"], "ES256");
    assert!(head.get("crit").is_none());
    let said: Value = serde_json::from_slice(payload).unwrap();
    assert_eq!(said["iss"], ISSUER);
    assert!(said["aud"] == CLIENT || said["aud"] == json!([CLIENT]));
    assert!(said.get("azp").is_none_or(|party| party == CLIENT));
    assert!(said["exp"].as_f64().unwrap() > (NOW.secs() - 61) as f64);
    assert!(said["iat"].as_f64().unwrap() < (NOW.secs() + 61) as f64);
    if let Ok(claims) = taken {
        assert_eq!(
            (&said["nonce"], &said["sub"]),
            (&json!(NONCE), &json!(claims.subject))
        );
    }
    if logout.is_ok() {
        assert!(said.get("nonce").is_none() && said["events"][LOGOUT_EVENT].is_object());
    }
}
