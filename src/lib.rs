//! Countersign: an audited delegation gateway.
//!
//! One binary stands in front of tools that have no security of their own. Every request is authenticated,
//! authorised and written to a durable, tamper-evident audit log *before* the tool sees it; the tool is then
//! called with a short-lived credential minted from the virtual organisation's certificate, and whoever is
//! shown such a credential can have it traced to one person.
//!
//! The modules are declared in the order in which they build on each other: **a module uses only modules
//! declared above it** (kept by `tests/it/architecture.rs`). `ARCHITECTURE.md` walks through them with a request.

pub mod clock;
pub mod id;
pub mod secret;
pub mod body;
pub mod lane;
pub mod problem;
pub mod record;
pub mod settings;
pub mod network;
pub mod outbound;
pub mod telemetry;
pub mod store;
pub mod vo;
pub mod tool;
pub mod state;
pub mod resource;
pub mod trust;
pub mod authenticate;
pub mod authorize;
pub mod audit;
pub mod delegate;
pub mod forward;
pub mod alert;
pub mod gateway;
pub mod api;
pub mod console;
pub mod config;
pub mod server;
pub mod cli;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
