//! A request that has its receipt reaches its target: an upstream's tool, or a service inside the gateway.
//!
//! Promises: the bytes that were judged are the bytes that are sent; identity is the gateway's word; a request is never
//! sent twice; the address of an upstream is checked at every connect; connections are never shared between proxies.

mod local;

pub use local::{LocalRequest, LocalService};
