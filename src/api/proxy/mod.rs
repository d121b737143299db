//! Proxies that were minted.

pub mod list;
pub mod revoke;
pub mod trace;
