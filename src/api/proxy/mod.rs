//! Proxies that were minted.

pub mod trace;
