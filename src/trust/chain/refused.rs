//! Why a chain is refused: which certificate, and which rule.

use std::time::Duration;

use crate::clock::Timestamp;

/// A chain that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("certificate {position} of the chain (`{subject}`) is refused: {rule}")]
pub struct Refused {
    /// Which certificate, from 1 at the bottom (the one that the peer holds the key of).
    pub position: usize,
    /// Its subject in words; `unreadable` where it has none that can be read.
    pub subject: String,
    /// The rule that it breaks.
    pub rule: Rule,
}

/// A rule of RFC 3820 section 4 (or a stricter one of ours) that a certificate breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Nothing is trusted at the moment.
    #[error("no CA is trusted at the moment: CAs and revocation lists could not be read")]
    NoAnchors,
    /// No certificate at all.
    #[error("the chain is empty")]
    Empty,
    /// More certificates than any real chain has.
    #[error("the chain has more than {0} certificates")]
    TooLong(usize),
    /// More proxies than are followed.
    #[error("it lies more than {0} proxies below its end entity")]
    TooDeep(usize),
    /// Not DER, or not a certificate.
    #[error("it is no X.509 certificate in DER")]
    Unreadable,
    /// Not version 3.
    #[error("it is not version 3")]
    Version,
    /// Every certificate is a proxy.
    #[error("only proxies are there, and no end entity above them")]
    NoEndEntity,
    /// A proxy from before RFC 3820.
    #[error("it is a proxy from before RFC 3820")]
    Draft,
    /// The path from the end entity to a trusted CA does not hold.
    #[error("{0}")]
    Path(PathFlaw),
    /// An extension stands twice.
    #[error("the extension {0} is there twice")]
    TwiceExtended(String),
    /// `proxyCertInfo` is not critical.
    #[error("proxyCertInfo is not critical")]
    InfoNotCritical,
    /// `proxyCertInfo` cannot be read.
    #[error("proxyCertInfo is not what RFC 3820 section 3.8 says")]
    InfoMalformed,
    /// A policy language that nobody here understands.
    #[error("the policy language {0} is not known; accepted: inheritAll, limited, independent")]
    UnknownPolicy(String),
    /// A policy where the language takes none.
    #[error("it has a policy that its language does not take")]
    PolicyText,
    /// The issuer is not the certificate above.
    #[error("its issuer is not the subject of the certificate above")]
    Issuer,
    /// The subject is not the issuer's plus one CN.
    #[error("its subject is not its issuer's plus one CN")]
    Subject,
    /// The signature is by another key, or of a kind that is not taken.
    #[error("its signature is not that of the certificate above")]
    Signature,
    /// The two places that name the signature's algorithm differ.
    #[error("it names two algorithms for its signature")]
    TwoAlgorithms,
    /// Not valid yet.
    #[error("it is valid from {0} on")]
    NotYetValid(Timestamp),
    /// Not valid any more.
    #[error("it was valid until {0}")]
    Expired(Timestamp),
    /// Valid for longer than a proxy may be.
    #[error("it is valid for more than {} s", .0.as_secs())]
    TooLasting(Duration),
    /// The key may not sign.
    #[error("its keyUsage lacks digitalSignature")]
    MayNotSign,
    /// The key may sign certificates of a CA.
    #[error("its keyUsage has keyCertSign")]
    MaySignCertificates,
    /// Its extended key usage leaves no client.
    #[error("its extendedKeyUsage lacks clientAuth")]
    NoClient,
    /// A proxy that calls itself a CA.
    #[error("it is a proxy with CA:TRUE or a path length of CAs")]
    Authority,
    /// A name of another kind.
    #[error("it is a proxy with a subjectAltName or an issuerAltName")]
    AlternativeName,
    /// A critical extension that is not known.
    #[error("the critical extension {0} is not known")]
    UnknownCritical(String),
    /// An extension that cannot be read.
    #[error("the extension {0} cannot be read")]
    ExtensionMalformed(String),
    /// More proxies below one than it allows.
    #[error("{below} proxies are below it, and its path length is {allowed}")]
    PathLength {
        /// How many it allows.
        allowed: u32,
        /// How many there are.
        below: usize,
    },
    /// Its issuer revoked it.
    #[error("it is revoked")]
    Revoked,
    /// Its issuer's list cannot be relied on.
    #[error("the revocation list of its issuer is not signed by it or is out of date")]
    RevocationList,
}

impl Rule {
    /// Its name in tables.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoAnchors => "no-anchors",
            Self::Empty => "empty",
            Self::TooLong(_) => "too-long",
            Self::TooDeep(_) => "too-deep",
            Self::Unreadable => "unreadable",
            Self::Version => "version",
            Self::NoEndEntity => "no-end-entity",
            Self::Draft => "draft",
            Self::Path(flaw) => flaw.name(),
            Self::TwiceExtended(_) => "twice-extended",
            Self::InfoNotCritical => "info-not-critical",
            Self::InfoMalformed => "info-malformed",
            Self::UnknownPolicy(_) => "unknown-policy",
            Self::PolicyText => "policy-text",
            Self::Issuer => "issuer",
            Self::Subject => "subject",
            Self::Signature => "signature",
            Self::TwoAlgorithms => "two-algorithms",
            Self::NotYetValid(_) => "not-yet-valid",
            Self::Expired(_) => "expired",
            Self::TooLasting(_) => "too-lasting",
            Self::MayNotSign => "may-not-sign",
            Self::MaySignCertificates => "may-sign-certificates",
            Self::NoClient => "no-client",
            Self::Authority => "authority",
            Self::AlternativeName => "alternative-name",
            Self::UnknownCritical(_) => "unknown-critical",
            Self::ExtensionMalformed(_) => "extension-malformed",
            Self::PathLength { .. } => "path-length",
            Self::Revoked => "revoked",
            Self::RevocationList => "revocation-list",
        }
    }
}

/// Why the path from the end entity to a trusted CA does not hold (RFC 5280 section 6, as webpki judges it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFlaw {
    /// No CA that is trusted issued it.
    #[error("no trusted CA issued it")]
    Untrusted,
    /// A CA's own certificate where an end entity's belongs.
    #[error("it is a CA's own certificate")]
    IsAuthority,
    /// An end entity issued it.
    #[error("what issued it is no CA and no proxy can be seen in it")]
    IssuerIsNoAuthority,
    /// It, or one above it, is out of its time.
    #[error("it or a CA above it is not valid at this time")]
    Time,
    /// A signature does not hold.
    #[error("a signature on the way to the trusted CA does not hold or is of a kind that is not taken")]
    Signature,
    /// It, or a CA above it, is revoked.
    #[error("it or a CA above it is revoked")]
    Revoked,
    /// Nobody says whether it is revoked.
    #[error("no revocation list that is up to date says whether it is revoked")]
    RevocationUnknown,
    /// Not for clients.
    #[error("its extendedKeyUsage lacks clientAuth")]
    NoClient,
    /// A bound of a CA above is broken: names, or the number of CAs.
    #[error("a CA above it does not allow such a certificate")]
    Constraint,
    /// A critical extension that is not known.
    #[error("it or a CA above it has a critical extension that is not known")]
    UnknownCritical,
    /// Anything else that is wrong with a certificate on the way.
    #[error("it or a CA above it is malformed or of a kind that is not taken")]
    Malformed,
}

impl PathFlaw {
    const fn name(self) -> &'static str {
        match self {
            Self::Untrusted => "path-untrusted",
            Self::IsAuthority => "path-is-authority",
            Self::IssuerIsNoAuthority => "path-issuer-is-no-authority",
            Self::Time => "path-time",
            Self::Signature => "path-signature",
            Self::Revoked => "path-revoked",
            Self::RevocationUnknown => "path-revocation-unknown",
            Self::NoClient => "path-no-client",
            Self::Constraint => "path-constraint",
            Self::UnknownCritical => "path-unknown-critical",
            Self::Malformed => "path-malformed",
        }
    }
}

impl From<webpki::Error> for PathFlaw {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::UnknownIssuer => Self::Untrusted,
            E::CaUsedAsEndEntity => Self::IsAuthority,
            E::EndEntityUsedAsCa => Self::IssuerIsNoAuthority,
            E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => Self::Time,
            E::InvalidSignatureForPublicKey
            | E::SignatureAlgorithmMismatch
            | E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::Signature,
            E::CertRevoked => Self::Revoked,
            E::UnknownRevocationStatus
            | E::CrlExpired { .. }
            | E::InvalidCrlSignatureForPublicKey
            | E::IssuerNotCrlSigner
            | E::UnsupportedCrlSignatureAlgorithmContext(_)
            | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => Self::RevocationUnknown,
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Self::NoClient,
            E::PathLenConstraintViolated
            | E::NameConstraintViolation
            | E::MaximumPathDepthExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumSignatureChecksExceeded => Self::Constraint,
            E::UnsupportedCriticalExtension => Self::UnknownCritical,
            // SECURITY: what a later version of the library refuses for another reason is refused all the same.
            _ => Self::Malformed,
        }
    }
}
