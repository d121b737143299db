//! (skeleton)

pub mod mint;
