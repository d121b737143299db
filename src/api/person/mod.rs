//! The person who asks, and accounts whatever virtual organisation they belong to.

pub mod change_password;
pub mod erase;
pub mod export;
pub mod find;
pub mod me;
