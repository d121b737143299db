//! Tracing proxies.

pub mod trace;
pub mod trace_many;
