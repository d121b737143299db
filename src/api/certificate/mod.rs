//! VO certificates.

pub mod import;
pub mod list;
