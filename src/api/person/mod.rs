//! The person who asks.

pub mod change_password;
pub mod me;
