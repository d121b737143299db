//! A request that has its receipt reaches its target: an upstream's tool, or a service inside the gateway.
//!
//! Promises: the bytes that were judged are the bytes that are sent; identity is the gateway's word; a request is never
//! sent twice; the address of an upstream is checked at every connect; a connection that carries a proxy is never shared
//! with another proxy.
//!
//! [`Forward::send`] takes the client's headers as they came and writes the tool's from them: what ends at this hop,
//! credentials and identity go, the gateway's word comes last. The answer's head is cleaned on the way back.

mod address;
mod config;
mod connect;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod local;
mod meters;
mod names;
mod pools;
mod request;
mod response;
mod switch;
mod traffic;
mod upstream;
#[cfg(test)]
mod tests;

pub use address::{OwnListeners, Refused};
pub use config::Config;
pub use error::ForwardError;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::{answer_headers as fuzz_answer_headers, request_headers as fuzz_request_headers};
pub use local::{AskWithin, LocalRequest, LocalService, Within};
pub use meters::{Busy, Meter, Meters};
pub use names::claims_identity;
pub use request::{Identity, UnfitHeader, ask_for_whole_list};
pub use response::{Limits, REQUEST_ID, UnfitAnswer};
pub use switch::Switched;
pub use upstream::{Forward, Outgoing};
