//! Upstreams: addresses that system administrators give to VOs.

pub mod allow;
pub mod end;
pub mod list;
mod own;

pub use own::OwnPlaces;
