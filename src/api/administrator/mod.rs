//! System administrators: who holds the gateway's own role.

pub mod add;
pub mod list;
pub mod remove;
