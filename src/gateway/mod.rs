//! The gateway's front: TLS listener, framing, host table, and the pipeline that runs the path of a request.
//!
//! Promises: what can be read in two ways is refused, not repaired; everything is bounded in size, number and time; a
//! request that is not well formed still reaches the pipeline, as a refusal to record.

mod config;
pub mod framing;
mod guard;
pub mod hosts;
pub mod listener;

pub use config::Config;
pub use hosts::Hosts;
pub use listener::{ConnectionInfo, Handler, Listener, Protocol};
