//! Trust: the VO's own certificate and key, the sealing of keys at rest, the private CA for first use, and the
//! gateway's TLS identity.
//!
//! Promises: a private key rests only in an envelope of [`seal`] whose key lies elsewhere, and is in memory only as a
//! [`signer::Signer`]; a certificate that no peer would take is refused on import with every flaw at once
//! ([`certificate::check`]); the CA's key of [`authority`] is never written.
//!
//! ```
//! use countersign::clock::SystemClock;
//! use countersign::trust::certificate::{Source, check};
//!
//! let none = Source { name: "vo.pem", text: "" };
//! let flaws = check(none, Source { name: "vo.key", text: "" }, &SystemClock::new()).unwrap_err();
//! assert_eq!(flaws.0.len(), 2);
//! ```

pub mod authority;
pub mod certificate;
pub mod chain;
pub mod client;
pub mod pem;
pub mod pkcs12;
pub mod seal;
pub mod signer;
pub mod store;
pub mod tls;
pub mod token;
