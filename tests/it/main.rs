//! The integration tests: one binary, one module per capability. What they start is the built program and real peers.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it claims"
)]

mod alert;
mod alert_story;
mod architecture;
mod audit;
mod authenticate;
mod authorize;
mod bad_input;
mod delegate;
mod dependencies;
mod documents;
mod peers;
mod python;
mod refusals;
mod time;
mod two_sites;
mod world;
