//! Virtual organisations: people, memberships, roles, grants and upstreams.
//!
//! The [`Directory`] is an immutable snapshot of all of it, kept in memory and swapped whole after every change, so
//! that a decision never waits for the store. Every change returns a [`Change`](crate::record::Change); the operation
//! that asked for it writes the record before it commits.

mod directory;

pub use directory::{
    Assignment, Condition, Directory, DirectoryHandle, Grant, Membership, Person, PersonState, Role, Rows,
    Upstream, UpstreamAddress, Vo, VoState,
};

/// Name of the role that administers the gateway itself.
pub const SYSTEM_ADMINISTRATOR: &str = "system-administrator";
/// Name of the role that administers a VO.
pub const VO_ADMINISTRATOR: &str = "vo-administrator";
/// Name of the role that every scientist starts with.
pub const SCIENTIST: &str = "scientist";
/// The level above all VOs, as its row is named in the store; no VO can have this name.
pub const GATEWAY: &str = "countersign";
/// Name of the reserved tool whose tasks are the gateway's own: API, login, console.
pub const OWN_TOOL: &str = "countersign";
/// Names that no VO and no tool may have.
pub const RESERVED: &[&str] = &[
    "api",
    "login",
    "logout",
    "static",
    "countersign",
    "console",
    "gateway",
    "health",
    "metrics",
    "www",
    "admin",
];

/// Whether `name` may name a VO, a tool, a role or an upstream: `[a-z0-9-]`, 1 to 40, not reserved, no leading hyphen.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !RESERVED.contains(&name)
}
