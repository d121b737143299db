//! Keys that rest on PKCS#11 tokens (smart cards, hardware security modules) and never leave them.
//!
//! Which module is loaded, which token it is and for whom, and where its PIN lies, stands in the settings; whoever imports a
//! certificate only names the key on that token. Nothing is opened before the first signature: a gateway whose token is away
//! starts and serves, and says of each proxy why it cannot be minted.

mod module;
mod uri;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use der::asn1::UintRef;
use der::{Encode, Sequence};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::clock::Clock;
use crate::settings::Table;

use super::signer::{Algorithm, SignError, Signer};
pub use uri::{Uri, UriError};

use module::{Module, Way};

/// How long a signature is waited for.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A token, as the settings name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// What errors and log lines call it.
    pub name: String,
    /// The module's file, a shared library.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
    /// The file that holds the PIN.
    pub pin_file: PathBuf,
    /// The VO whose keys may be on it, by name.
    pub vo: String,
    /// Labels of its keys, where it is not the only one with keys there.
    pub keys: Vec<String>,
}

impl TokenConfig {
    /// Reads a table of `[[delegation.token]]`. `None` when it is not whole: then it has a flaw.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        for key in ["name", "module", "label", "pin_file", "vo"] {
            if !table.has(key) {
                table.flaw(key, "is missing: each `[[delegation.token]]` needs one");
            }
        }
        let name = table.parsed("name", "1 to 40 of a-z, 0-9 and inner `-`", |text| {
            crate::vo::is_name(text).then(|| text.to_owned())
        });
        // SECURITY: never looked for along a search path.
        let module = table.parsed("module", "the absolute path of a shared library", |text| {
            text.starts_with('/').then(|| PathBuf::from(text))
        });
        let label = table.parsed("label", "the label of a token, 1 to 32 bytes", |text| {
            (1..=32).contains(&text.len()).then(|| text.to_owned())
        });
        let pin_file = table.text("pin_file").map(PathBuf::from);
        // SECURITY: whoever may use a VO's key acts in its name, and a certificate is no secret: so each VO has an entry of its own.
        let vo = table.parsed("vo", "the name of a virtual organisation", |text| {
            crate::vo::is_name(text).then(|| text.to_owned())
        });
        let keys = table.texts("keys");
        table.end();
        Some(Self {
            name: name?,
            module: module?,
            label: label?,
            pin_file: pin_file?,
            vo: vo?,
            keys,
        })
    }

    /// Whether another VO than this one's could sign with a key of this one.
    #[must_use]
    pub fn is_shared_with(&self, other: &Self) -> bool {
        let same = self.module == other.module && self.label == other.label && self.vo != other.vo;
        let apart = !self.keys.is_empty()
            && !other.keys.is_empty()
            && !self.keys.iter().any(|key| other.keys.contains(key));
        same && !apart
    }

    /// Whether a key of that name is one of this VO's.
    fn holds(&self, uri: &Uri) -> bool {
        let named = |label: &String| self.keys.contains(label);
        self.label == uri.token() && (self.keys.is_empty() || uri.object.as_ref().is_some_and(named))
    }

    /// The same with its PIN file in `folder`, where that path is relative.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        self.pin_file = folder.join(self.pin_file);
        self
    }
}

/// Why a token did not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The settings do not let the VO use it.
    #[error(
        "the virtual organisation `{vo}` has no token with the label `{label}`, or no such key there; accepted: a `label` of a \
         `[[delegation.token]]` in the settings whose `vo` it is, and, where `keys` stand there, one of these as `object`"
    )]
    NotAllowed {
        /// Name of the VO.
        vo: String,
        /// Label of the token.
        label: String,
    },
    /// The module is not there, or is none.
    #[error("the PKCS#11 module of the token `{0}` cannot be used")]
    Module(String),
    /// It is not there.
    #[error("the token `{0}` is not there")]
    Absent(String),
    /// There are two.
    #[error("there are several tokens with the label of `{0}`; accepted: one, or a URI with its `serial`")]
    Alike(String),
    /// Its PIN cannot be read.
    #[error("the PIN of the token `{0}` cannot be read")]
    PinFile(String),
    /// It refused the PIN.
    #[error("the token `{0}` refused the PIN, which is not tried again: another one in its file is")]
    PinRefused(String),
    /// No such key.
    #[error("the token `{0}` has no private key of that name, or several")]
    NoKey(String),
    /// The key can be copied.
    #[error(
        "the private key on the token `{0}` can be copied out of it; accepted: one that is made there, sensitive and never extractable"
    )]
    Extractable(String),
    /// It signed with another key.
    #[error("the private key on the token `{0}` does not belong to the certificate")]
    Foreign(String),
    /// It failed.
    #[error("the token `{0}` did not sign")]
    Refused(String),
    /// It takes too long.
    #[error("the token `{0}` did not answer in time")]
    Slow(String),
}

impl TokenError {
    /// Whether it may be gone when everything is opened anew.
    const fn may_pass(&self) -> bool {
        matches!(self, Self::Module(_) | Self::Absent(_) | Self::Refused(_))
    }
}

/// All tokens of the settings.
#[derive(Debug, Default)]
pub struct Tokens(Vec<(Arc<TokenConfig>, Arc<Module>)>);

impl Tokens {
    /// The tokens of these settings. Opens nothing.
    #[must_use]
    pub fn new(all: &[TokenConfig], clock: &Arc<dyn Clock>) -> Self {
        let mut tokens: Vec<(Arc<TokenConfig>, Arc<Module>)> = Vec::new();
        for config in all {
            // A program opens a module once, however many tokens it brings.
            let known = tokens.iter().find(|(other, _)| other.module == config.module);
            let module = match known {
                Some((_, module)) => module.clone(),
                None => Arc::new(Module::new(&config.module, clock.clone())),
            };
            tokens.push((Arc::new(config.clone()), module));
        }
        Self(tokens)
    }

    /// The key of that name for a VO, whose certificate holds this public key (`SubjectPublicKeyInfo`, DER). Opens nothing.
    ///
    /// # Errors
    /// [`TokenError::NotAllowed`].
    pub fn key(
        &self,
        vo: &str,
        uri: &Uri,
        algorithm: Algorithm,
        spki: Vec<u8>,
    ) -> Result<TokenKey, TokenError> {
        // SECURITY: a certificate is no secret; without this, one VO could import another's and sign with its key.
        let allowed = |config: &TokenConfig| config.vo == vo && config.holds(uri);
        let found = self.0.iter().find(|(config, _)| allowed(config));
        let (token, module) = found.ok_or_else(|| TokenError::NotAllowed {
            vo: vo.to_owned(),
            label: uri.token().to_owned(),
        })?;
        Ok(TokenKey {
            token: token.clone(),
            module: module.clone(),
            uri: uri.clone(),
            algorithm,
            spki,
        })
    }
}

/// A private key on a token.
pub struct TokenKey {
    token: Arc<TokenConfig>,
    module: Arc<Module>,
    uri: Uri,
    algorithm: Algorithm,
    spki: Vec<u8>,
}

impl TokenKey {
    /// Whether the token is there, and its key the one that the certificate holds the public half of.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn prove(&self) -> Result<(), SignError> {
        // What is signed here must never be taken for a certificate.
        self.sign(b"countersign: a key is shown to belong to a certificate")
            .map(drop)
    }

    fn ask(&self, way: Way, data: &[u8]) -> Result<Vec<u8>, SignError> {
        let question = (way, data.to_vec());
        Ok(self.module.sign(&self.token, &self.uri, question, PATIENCE)?)
    }

    /// SECURITY: what a token gives is looked at: another key under the same name signs nothing that goes out.
    fn checked(
        &self,
        by: &'static dyn VerificationAlgorithm,
        message: &[u8],
        signature: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        let foreign = || SignError::Token(TokenError::Foreign(self.token.name.clone()));
        let (_, spki) = SubjectPublicKeyInfo::from_der(&self.spki).map_err(|_| foreign())?;
        let key = UnparsedPublicKey::new(by, &spki.subject_public_key.data);
        key.verify(message, &signature).map_err(|_| foreign())?;
        Ok(signature)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({}, {})", self.algorithm, self.token.name)
    }
}

impl Signer for TokenKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn spki(&self) -> Result<Vec<u8>, SignError> {
        Ok(self.spki.clone())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        // Many tokens sign digests only.
        let (by, signature): (&'static dyn VerificationAlgorithm, _) = match self.algorithm {
            Algorithm::P256 => {
                let digest = digest::digest(&digest::SHA256, message);
                (
                    &ECDSA_P256_SHA256_ASN1,
                    ecdsa(&self.ask(Way::Ecdsa, digest.as_ref())?)?,
                )
            }
            Algorithm::P384 => {
                let digest = digest::digest(&digest::SHA384, message);
                (
                    &ECDSA_P384_SHA384_ASN1,
                    ecdsa(&self.ask(Way::Ecdsa, digest.as_ref())?)?,
                )
            }
            Algorithm::Rsa(_) => (&RSA_PKCS1_2048_8192_SHA256, self.ask(Way::Pkcs1, message)?),
        };
        self.checked(by, message, signature)
    }

    /// No token is asked to sign in TLS, where a lane would have to wait for it.
    fn sign_pss(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
        Err(SignError::Refused)
    }
}

/// An ECDSA signature as it stands in a certificate (RFC 3279 section 2.2.3).
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// The same from two numbers of equal length, as tokens give it (PKCS #11 section 2.3.1).
fn ecdsa(pair: &[u8]) -> Result<Vec<u8>, SignError> {
    let halves = pair
        .split_at_checked(pair.len() / 2)
        .filter(|(r, s)| r.len() == s.len());
    let (r, s) = halves.ok_or(SignError::Refused)?;
    let written = || {
        EcdsaSignature {
            r: UintRef::new(r)?,
            s: UintRef::new(s)?,
        }
        .to_der()
    };
    written().map_err(|_| SignError::Refused)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
