//! (skeleton)

pub mod sample;
