//! The gateway's front: TLS listener, framing, host table, and the pipeline that runs the path of a request.
//!
//! Promises: what can be read in two ways is refused, not repaired; everything is bounded in size, number and time; a
//! request that is not well formed still reaches the pipeline, as a refusal to record; nothing reaches a tool before the
//! record that permits it is durable.

mod act;
mod acts;
mod answer;
mod budgets;
mod config;
mod counts;
mod cors;
mod digest;
mod exchange;
mod flow;
mod forwarded;
mod frames;
pub mod framing;
mod guard;
pub mod hosts;
mod judged;
mod late;
mod lease;
pub mod listener;
mod myproxy;
mod outlive;
mod pace;
mod pipeline;
mod proxy;
mod reason;
mod renewal;
mod resolve;
mod seldom;
mod sources;
mod strangers;
mod tunnel;
mod unheard;
mod uploads;
mod within;

pub use acts::Acts;
pub use answer::Pages;
pub(crate) use answer::step_up_challenge;
pub use budgets::Budgets;
pub use config::{Balancers, Bounds, CertificateListener, Config, TooFewFiles, raise_file_limit};
pub use counts::{Counts, Open};
pub use exchange::Words;
pub use forwarded::ForwardedHeader;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use guard::fuzz_request_head;
pub use hosts::Hosts;
pub use listener::{ConnectionInfo, Front, Handler, Listener, Protocol};
pub use myproxy::{Config as MyProxyConfig, MyProxyServer};
pub use pipeline::{Parts, Pipeline};
