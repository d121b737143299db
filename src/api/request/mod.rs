//! Requests, long after they were made.

pub mod explain;
pub mod explain_own;
pub mod list_own;
pub mod settle;
