//! The gateway's front: TLS listener, framing, host table, and the pipeline that runs the path of a request.
//!
//! Promises: what can be read in two ways is refused, not repaired; everything is bounded in size, number and time; a
//! request that is not well formed still reaches the pipeline, as a refusal to record; nothing reaches a tool before the
//! record that permits it is durable.

mod act;
mod answer;
mod config;
mod exchange;
mod flow;
pub mod framing;
mod guard;
pub mod hosts;
mod lease;
pub mod listener;
mod pace;
mod pipeline;
mod strangers;
mod tunnel;

pub use answer::Pages;
pub use config::{Config, TooFewFiles, raise_file_limit};
pub use exchange::Words;
pub use hosts::Hosts;
pub use listener::{ConnectionInfo, Handler, Listener, Protocol};
pub use pipeline::{Parts, Pipeline};
