//! The integration tests: one binary, one module per capability. What they start is the built program and real peers.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test ends at the first thing that is not as it claims, says so, and waits with a limit of real time"
)]

mod access;
mod accounts;
mod alert;
mod alert_story;
mod api_document;
mod architecture;
mod audit;
mod authenticate;
mod authorize;
mod backup;
mod bad_input;
mod canary;
mod browser;
mod certificates;
mod chain;
mod changes;
mod cli;
mod conformance;
mod console;
mod delegate;
mod dependencies;
mod doctor;
mod documents;
mod many;
mod monitoring;
mod myproxy;
mod life;
mod manifest;
mod edits;
mod evil_tool;
mod factor;
mod federation;
mod grid;
mod grpc;
mod held;
mod idempotency;
mod keys;
mod lease;
mod level;
mod log_key;
mod logon;
mod peers;
mod personal_token;
mod policy;
mod power;
mod proof;
mod property;
mod provider;
mod python;
mod records;
mod renewal;
mod recover;
mod refusals;
mod retain;
mod revocation;
mod room;
mod search;
mod state;
mod story;
mod streaming;
mod syslog;
mod time;
mod token;
mod trace;
mod two_sites;
mod upgrade;
mod uploads;
mod wire;
mod witness;
mod world;
