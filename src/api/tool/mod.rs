//! Wrapped tools.

pub mod set_credential;
