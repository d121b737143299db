//! Assertions: short-lived JWTs that tell a tool who asks, signed by the gateway (ES256, RFC 7518 section 3.4).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId};
use crate::record::Hash;
use crate::secret::Secret;
use crate::trust::seal::Label;

/// How long an assertion is good for, in seconds.
pub(super) const LIFETIME: i64 = 60;

/// What an assertion says.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Claims {
    /// The gateway's own origin.
    pub(super) iss: String,
    /// The tool, as `VO/TOOL`: two VOs may have tools of one name.
    pub(super) aud: String,
    /// The opaque person id; absent for anonymous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<PersonId>,
    /// Her user name, for a tool whose VO chose that it is told (OpenID Connect Core section 5.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) preferred_username: Option<String>,
    /// The request.
    pub(super) jti: RequestId,
    /// The VO's name.
    pub(super) vo: String,
    /// The task's name.
    pub(super) task: String,
    iat: i64,
    exp: i64,
}

impl Claims {
    pub(super) fn new(iss: &str, vo: &str, tool: &str, jti: RequestId) -> Self {
        let aud = format!("{vo}/{tool}");
        Self {
            iss: iss.to_owned(),
            aud,
            sub: None,
            preferred_username: None,
            jti,
            vo: vo.to_owned(),
            task: String::new(),
            iat: 0,
            exp: 0,
        }
    }

    /// The same, good from `now` for a minute.
    pub(super) const fn at(mut self, now: Timestamp) -> Self {
        self.iat = now.secs();
        self.exp = now.secs() + LIFETIME;
        self
    }
}

/// A key that was just made: its id, its public point, and the private key to be sealed (PKCS#8).
pub(super) struct Fresh {
    pub(super) kid: String,
    pub(super) public: Vec<u8>,
    pub(super) private: Secret<Vec<u8>>,
}

/// Makes a key.
pub(super) fn generate() -> Option<Fresh> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).ok()?;
    let public = pair.public_key().as_ref().to_vec();
    let private = Secret::new(pair.to_pkcs8v1().ok()?.as_ref().to_vec());
    let kid = HEXLOWER.encode(Hash::of(&public).0.get(..8)?);
    Some(Fresh { kid, public, private })
}

/// What the envelope of an assertion key is bound to.
pub(super) fn label(kid: &str) -> Label {
    Label::new("assertion key").with(kid.as_bytes())
}

/// A key that signs.
pub(super) struct AssertionKey {
    kid: String,
    key: EncodingKey,
}

impl AssertionKey {
    pub(super) fn new(kid: &str, private: &Secret<Vec<u8>>) -> Self {
        Self {
            kid: kid.to_owned(),
            key: EncodingKey::from_ec_der(private.expose()),
        }
    }

    /// The signed assertion in its compact form (RFC 7515 section 3.1).
    pub(super) fn sign(&self, claims: &Claims) -> Option<Secret<String>> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key)
            .ok()
            .map(Secret::new)
    }
}

/// One public key of the JWKS (RFC 7517 section 4); `None` when `public` is no uncompressed point of P-256.
pub(super) fn jwk(kid: &str, public: &[u8]) -> Option<Value> {
    let (form, point) = public.split_first()?;
    let (x, y) = point.split_at_checked(32)?;
    (*form == 4 && y.len() == 32).then(|| {
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
            "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y),
        })
    })
}
