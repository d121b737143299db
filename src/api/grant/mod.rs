//! Grants: which tasks a role may do, and under which condition.

pub mod add;
pub mod list;
pub mod remove;
