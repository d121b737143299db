//! Why no credential was made.

use crate::problem::{AsProblem, Kind, Problem};
use crate::store::StoreError;
use crate::trust::certificate::{self, Use};
use crate::trust::seal::SealError;
use crate::trust::signer::SignError;
use crate::trust::token::TokenError;

use super::mint::MintError;

/// Why no credential was made.
#[derive(Debug, thiserror::Error)]
pub enum DelegateError {
    /// The VO has no certificate.
    #[error(
        "the virtual organisation `{vo}` has no certificate for `{}` yet; its administrator imports one with `countersign vo certificate import{}`",
        .purpose.as_str(), match .purpose { Use::Tools => "", Use::Download => " --use download" }
    )]
    NoCertificate {
        /// Name of the VO.
        vo: String,
        /// What for.
        purpose: Use,
    },
    /// A certificate for another use has the same subject, or somebody signs in with this one.
    #[error("`{file}`: {why}")]
    NamedAlike {
        /// The file.
        file: String,
        /// Which, and what is accepted.
        why: String,
    },
    /// The tool has no static credential.
    #[error(
        "no static credential is stored for the tool `{tool}`; an administrator of the virtual organisation sets one with `countersign tool credential`"
    )]
    NoStatic {
        /// Name of the tool.
        tool: String,
    },
    /// There is no key for assertions, or it does not sign.
    #[error("the gateway has no key for assertions")]
    NoAssertion,
    /// A proxy is minted for a person in a session only.
    #[error("a proxy is made for a person only, and nobody is signed in")]
    NoPerson,
    /// A permit without VO or tool.
    #[error("the request belongs to no tool of a virtual organisation")]
    NoTool,
    /// The tool's header name is none.
    #[error("`{0}` is not a header name")]
    Header(String),
    /// The limit is too short.
    #[error("a proxy that lives for less than 300 s is of use to nobody; accepted: 300 s or more")]
    Limit,
    /// The static credential cannot stand in a header.
    #[error(
        "the credential cannot stand in a header; accepted: printable ASCII, and no colon in a user name"
    )]
    Value,
    /// The account, its membership, its session or its VO was stopped while its proxy was being signed.
    #[error(
        "the right to a proxy ended meanwhile: the account or the virtual organisation was suspended, the membership ended, or the password was reset"
    )]
    Suspended,
    /// Another request was minting the proxy, and failed.
    #[error("the proxy that this request waited for was not made")]
    Raced,
    /// The receipt is that of another request.
    #[error("the receipt is that of another request")]
    ForeignReceipt,
    /// The VO's key is of a kind that MyProxy servers do not work with.
    #[error(
        "the VO certificate of `{vo}` has an EC key: a MyProxy server takes what it signed and never gives it out; accepted: a VO certificate with an RSA key"
    )]
    NotRsa {
        /// Name of the VO.
        vo: String,
    },
    /// A key that somebody else holds was certified before.
    #[error("the key is known already: a new one is made for each proxy")]
    KnownKey,
    /// A person has as much on MyProxy servers as she may.
    #[error(
        "{0} of this person's requests have something on a MyProxy server already, and no person may have more at once"
    )]
    PersonsUploads(usize),
    /// As much is on a MyProxy server as may be.
    #[error(
        "{most} requests have something on the MyProxy server `{server}` already, and it takes no more at once"
    )]
    ServersUploads {
        /// The upstream that it is.
        server: String,
        /// How many may.
        most: usize,
    },
    /// The VO's key is on a token, which does not sign in TLS.
    #[error(
        "the key of the VO certificate of `{vo}` is on a token, and the gateway cannot show it to a MyProxy server; accepted: a VO \
         certificate whose key is imported from a file"
    )]
    OnToken {
        /// Name of the VO.
        vo: String,
    },
    /// The key that was to be imported is not on its token.
    #[error(transparent)]
    NotOnToken(TokenError),
    /// The key that was to be imported is not named.
    #[error(transparent)]
    Uri(#[from] crate::trust::token::UriError),
    /// The token that holds the VO's key is not there, or not the VO's.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The settings have no such folder for the VO.
    #[error(
        "there is no spool folder `{name}` for the virtual organisation `{vo}`; accepted: the `name` of a `[[delegation.spool]]` of \
         the settings, which the gateway's own administrator writes"
    )]
    NoSpool {
        /// Name of the folder.
        name: String,
        /// Name of the VO.
        vo: String,
    },
    /// A file is of no use to it.
    #[error(
        "the tool is on another machine, where a file of this one is of no use; accepted for `spool`: an upstream on a Unix \
         socket, `localhost` or a loopback address"
    )]
    FarTool,
    /// The proxy was not put into its folder.
    #[error(transparent)]
    Spool(#[from] super::spool::SpoolError),
    /// The log did not take the `mint` record.
    #[error(transparent)]
    Audit(#[from] crate::audit::AuditError),
    /// A key is sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The certificate that was to be imported is not accepted.
    #[error(transparent)]
    Flaws(#[from] certificate::Flaws),
    /// The proxy was not minted.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] crate::id::RandomError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DelegateError {
    /// Whether no RSA key is ready, and nothing else is wrong.
    #[must_use]
    pub const fn is_no_key(&self) -> bool {
        matches!(self, Self::Mint(MintError::NoKeyReady))
    }
}

impl AsProblem for DelegateError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Seal(error) => error.as_problem(),
            Self::Flaws(flaws) => flaws.as_problem(),
            Self::Store(error) => error.as_problem(),
            Self::Suspended => Problem::new(Kind::Suspended, self.to_string()),
            Self::Audit(error) => error.as_problem(),
            Self::PersonsUploads(_) | Self::ServersUploads { .. } => {
                Problem::new(Kind::Busy, self.to_string()).retry_after(5)
            }
            Self::Raced => Problem::new(Kind::Busy, self.to_string()).retry_after(1),
            Self::Mint(MintError::NoKeyReady) => Problem::new(Kind::Busy, self.to_string()).retry_after(5),
            Self::NamedAlike { .. } => Problem::new(Kind::Invalid, "the certificate is not accepted")
                .with("errors", vec![self.to_string()]),
            Self::NotOnToken(_) | Self::Uri(_) => {
                Problem::new(Kind::Invalid, "the key is not accepted").with("errors", vec![self.to_string()])
            }
            Self::Header(_) | Self::Value | Self::Limit => Problem::new(Kind::Invalid, self.to_string()),
            Self::KnownKey => Problem::new(Kind::Conflict, self.to_string()),
            Self::ForeignReceipt | Self::Random(_) => {
                Problem::new(Kind::Internal, "no credential could be made")
            }
            Self::Mint(
                MintError::IssuerExpired(_)
                | MintError::IssuerNotYetValid(_)
                | MintError::Sign(SignError::Token(_)),
            )
            | Self::Token(_)
            | Self::OnToken { .. }
            | Self::NoCertificate { .. }
            | Self::NoStatic { .. }
            | Self::NotRsa { .. }
            | Self::NoAssertion
            | Self::NoPerson
            | Self::NoSpool { .. }
            | Self::FarTool
            | Self::Spool(_)
            | Self::NoTool => Problem::new(Kind::DelegationFailed, self.to_string()),
            Self::Mint(_) => Problem::new(Kind::DelegationFailed, "the proxy could not be made"),
        }
    }
}
