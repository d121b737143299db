//! Judging a signed token of an identity provider: an ID token (OpenID Connect Core 1.0 section 3.1.3.7) or a logout token
//! (OpenID Connect Back-Channel Logout 1.0 section 2.6). All of it is here, and none of it asks anybody.
//!
//! SECURITY: what a token says of itself decides nothing. The algorithm is one of [`ALGORITHMS`], all of them asymmetric, and the
//! key must be of that algorithm's kind, whatever the header names; keys come from the provider's own document alone (`jku`, `jwk`
//! and `x5u` are not looked at); the audience is this client and nobody else.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use crate::clock::Timestamp;

/// Algorithms that are taken.
pub(super) const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Longest token, in bytes.
const LONGEST: usize = 32 * 1024;
/// Shortest modulus of an RSA key, in bytes.
const SHORTEST_RSA: usize = 256;
/// Longest subject (OpenID Connect Core section 2).
const LONGEST_SUBJECT: usize = 255;
/// By how much two clocks may differ.
const SKEW: Duration = Duration::from_secs(60);
/// How long ago a token may have been issued; it answers a sign-in that has just ended.
const FRESH: Duration = Duration::from_secs(600);
/// The member of `events` that makes a token a logout token.
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    /// Not a signed token in compact form.
    #[error("it is not a signed token in compact form")]
    Form,
    /// A kind of token that is taken for something else.
    #[error("`typ` says that it is another kind of token")]
    Kind,
    /// `crit` asks for what is not understood.
    #[error("`crit` asks for something that is not understood")]
    Critical,
    /// Unsigned, symmetric or unknown.
    #[error("`alg` is none of those that are taken")]
    Algorithm,
    /// No key of the provider fits.
    #[error("none of the provider's keys is the one that `kid` names")]
    Key,
    /// The signature is not that key's.
    #[error("the signature is not right")]
    Signature,
    /// Of another issuer.
    #[error("`iss` is another provider")]
    Issuer,
    /// For somebody else.
    #[error("`aud` is not this client alone")]
    Audience,
    /// Issued to somebody else.
    #[error("`azp` is another client")]
    Party,
    /// About nobody.
    #[error("`sub` is missing or not a subject")]
    Subject,
    /// Over.
    #[error("it has expired")]
    Expired,
    /// Not good yet, or of an unlikely time.
    #[error("it is not valid yet, or was issued too long ago")]
    Time,
    /// Of another sign-in.
    #[error("`nonce` is that of another sign-in")]
    Nonce,
    /// A logout token without what makes it one.
    #[error("it is not a logout token")]
    Event,
}

impl Flaw {
    /// The word in records.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Kind => "typ",
            Self::Critical => "crit",
            Self::Algorithm => "alg",
            Self::Key => "kid",
            Self::Signature => "signature",
            Self::Issuer => "iss",
            Self::Audience => "aud",
            Self::Party => "azp",
            Self::Subject => "sub",
            Self::Expired => "exp",
            Self::Time => "time",
            Self::Nonce => "nonce",
            Self::Event => "events",
        }
    }
}

/// The keys of a provider that sign: those of its document that are fit to.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<Jwk>);

impl Keys {
    /// Reads a JWK set (RFC 7517 section 5). What is no key that could sign here is left out, as the section asks.
    pub(super) fn read(document: &Value) -> Option<Self> {
        let keys = document.get("keys")?.as_array()?;
        let fit = keys.iter().filter_map(|key| {
            // SECURITY: a set that gives private or symmetric keys away is not believed in these.
            let private = ["d", "k"].iter().any(|member| key.get(member).is_some());
            let key: Jwk = serde_json::from_value(key.clone()).ok().filter(|_| !private)?;
            let signs = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
            (signs && ALGORITHMS.iter().any(|algorithm| is_of(&key, *algorithm))).then_some(key)
        });
        Some(Self(fit.collect()))
    }

    /// The one key for a header; none where several would do.
    fn fit(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&Jwk> {
        let mut fit = self.0.iter().filter(|key| {
            let named = kid.is_none_or(|kid| key.common.key_id.as_deref() == Some(kid));
            named && is_of(key, algorithm)
        });
        let first = fit.next()?;
        fit.next().is_none().then_some(first)
    }
}

/// Whether a key is of an algorithm's kind, says nothing else of itself, and is long enough.
fn is_of(key: &Jwk, algorithm: Algorithm) -> bool {
    let kind = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(rsa), Algorithm::RS256 | Algorithm::PS256) => {
            let modulus = BASE64URL_NOPAD.decode(rsa.n.as_bytes()).unwrap_or_default();
            modulus.iter().skip_while(|byte| **byte == 0).count() >= SHORTEST_RSA
        }
        (AlgorithmParameters::EllipticCurve(ec), Algorithm::ES256) => ec.curve == EllipticCurve::P256,
        (AlgorithmParameters::EllipticCurve(ec), Algorithm::ES384) => ec.curve == EllipticCurve::P384,
        (AlgorithmParameters::OctetKeyPair(okp), Algorithm::EdDSA) => okp.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let said = match key.common.key_algorithm {
        None => true,
        Some(said) => said == named(algorithm),
    };
    kind && said
}

const fn named(algorithm: Algorithm) -> KeyAlgorithm {
    match algorithm {
        Algorithm::PS256 => KeyAlgorithm::PS256,
        Algorithm::ES256 => KeyAlgorithm::ES256,
        Algorithm::ES384 => KeyAlgorithm::ES384,
        Algorithm::EdDSA => KeyAlgorithm::EdDSA,
        _ => KeyAlgorithm::RS256,
    }
}

/// What a token must be of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client: &'a str,
    pub(super) now: Timestamp,
}

/// What an ID token says of a person who has just signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Her subject at the issuer.
    pub subject: String,
    /// `acr`.
    pub acr: Option<String>,
    /// `amr`.
    pub amr: Vec<String>,
    /// All of them.
    pub all: Map<String, Value>,
}

/// Judges an ID token that answers the sign-in with this nonce.
pub(super) fn id_token(
    token: &str,
    keys: &Keys,
    expected: Expected<'_>,
    nonce: &str,
) -> Result<Claims, Flaw> {
    let all = signed(token, keys, &["jwt"])?;
    of_us(&all, expected)?;
    let same = all.get("nonce").and_then(Value::as_str);
    if nonce.is_empty() || same != Some(nonce) {
        return Err(Flaw::Nonce);
    }
    // SECURITY: a logout token is signed by the same key for the same client.
    if all.contains_key("events") {
        return Err(Flaw::Kind);
    }
    let subject = subject(&all)?;
    let text = |name: &str| all.get(name).and_then(Value::as_str).map(str::to_owned);
    let amr = all.get("amr").and_then(Value::as_array);
    let amr = amr.into_iter().flatten().filter_map(Value::as_str);
    Ok(Claims {
        subject,
        acr: text("acr"),
        amr: amr.map(str::to_owned).collect(),
        all,
    })
}

/// Whose sessions end, by a logout token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logout {
    pub(super) subject: String,
    /// What names the token; it is taken once.
    pub(super) id: String,
    pub(super) expires: Timestamp,
}

/// Judges a logout token. It must name a subject; a session alone (`sid`) is not enough.
pub(super) fn logout_token(token: &str, keys: &Keys, expected: Expected<'_>) -> Result<Logout, Flaw> {
    let all = signed(token, keys, &["logout+jwt", "jwt"])?;
    of_us(&all, expected)?;
    let event = all.get("events").and_then(|events| events.get(LOGOUT_EVENT));
    // SECURITY: an ID token must not do, which has a nonce and no event.
    if !event.is_some_and(Value::is_object) || all.contains_key("nonce") {
        return Err(Flaw::Event);
    }
    let id = all.get("jti").and_then(Value::as_str);
    let id = id.filter(|id| (1..=LONGEST_SUBJECT).contains(&id.len()));
    Ok(Logout {
        subject: subject(&all)?,
        id: id.ok_or(Flaw::Event)?.to_owned(),
        expires: second(&all, "exp").ok_or(Flaw::Expired)?,
    })
}

/// The claims of a token whose signature is a key's. Nothing of what they say is judged yet.
fn signed(token: &str, keys: &Keys, kinds: &[&str]) -> Result<Map<String, Value>, Flaw> {
    if token.len() > LONGEST {
        return Err(Flaw::Form);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Flaw::Form)?;
    let (header, payload) = message.split_once('.').ok_or(Flaw::Form)?;
    if payload.contains('.') {
        return Err(Flaw::Form);
    }
    let header = object(header)?;
    if header.contains_key("crit") {
        return Err(Flaw::Critical);
    }
    let kind = header.get("typ").map(|kind| kind.as_str().unwrap_or_default());
    if kind.is_some_and(|kind| !kinds.contains(&bare(kind).as_str())) {
        return Err(Flaw::Kind);
    }
    let algorithm = header.get("alg").and_then(Value::as_str);
    let algorithm = algorithm.and_then(|name| name.parse::<Algorithm>().ok());
    let algorithm = algorithm
        .filter(|named| ALGORITHMS.contains(named))
        .ok_or(Flaw::Algorithm)?;
    let kid = match header.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().ok_or(Flaw::Form)?),
    };
    let key = keys.fit(algorithm, kid).ok_or(Flaw::Key)?;
    let key = DecodingKey::from_jwk(key).map_err(|_| Flaw::Key)?;
    match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, algorithm) {
        Ok(true) => object(payload),
        _ => Err(Flaw::Signature),
    }
}

/// A media type without its tree (RFC 7515 section 4.1.9), in small letters.
fn bare(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    kind.strip_prefix("application/").unwrap_or(&kind).to_owned()
}

fn object(part: &str) -> Result<Map<String, Value>, Flaw> {
    let bytes = BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Flaw::Form)?;
    serde_json::from_slice(&bytes).map_err(|_| Flaw::Form)
}

/// Whether claims are of this issuer, for this client, and of now.
fn of_us(claims: &Map<String, Value>, expected: Expected<'_>) -> Result<(), Flaw> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(Flaw::Issuer);
    }
    let for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == expected.client,
        // SECURITY: with another audience beside this one, another client holds the same token.
        Some(Value::Array(all)) => matches!(all.as_slice(), [Value::String(one)] if one == expected.client),
        _ => false,
    };
    if !for_us {
        return Err(Flaw::Audience);
    }
    if claims.contains_key("azp") && text("azp") != Some(expected.client) {
        return Err(Flaw::Party);
    }
    let now = expected.now;
    let expires = second(claims, "exp").ok_or(Flaw::Expired)?;
    if now.minus(SKEW) >= expires {
        return Err(Flaw::Expired);
    }
    let issued = second(claims, "iat").ok_or(Flaw::Time)?;
    let begins = match claims.contains_key("nbf") {
        true => second(claims, "nbf").ok_or(Flaw::Time)?,
        false => issued,
    };
    let latest = now.plus(SKEW);
    if issued > latest || begins > latest || issued < now.minus(FRESH) {
        return Err(Flaw::Time);
    }
    Ok(())
}

/// A moment of RFC 7519 section 2, in whole seconds; a fraction is cut off.
fn second(claims: &Map<String, Value>, name: &str) -> Option<Timestamp> {
    let value = claims.get(name)?;
    let whole = value.as_i64().or_else(|| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "cut off on purpose, and bounded below"
        )]
        let whole = value.as_f64().map(|value| value as i64);
        whole
    })?;
    // Beyond the year 9999 nothing is meant.
    (0..253_402_300_800)
        .contains(&whole)
        .then(|| Timestamp::from_secs(whole))
}

fn subject(claims: &Map<String, Value>) -> Result<String, Flaw> {
    let subject = claims.get("sub").and_then(Value::as_str);
    let fit = |subject: &&str| {
        (1..=LONGEST_SUBJECT).contains(&subject.len()) && !subject.chars().any(char::is_control)
    };
    subject.filter(fit).map(str::to_owned).ok_or(Flaw::Subject)
}

#[cfg(any(test, feature = "fuzzing"))]
#[path = "token_fuzz.rs"]
mod fuzz;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::token as fuzz_token;

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
