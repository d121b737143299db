//! Sessions: signing in, looking, signing out.

pub mod create;
pub mod end;
pub mod list;
pub mod step_up;
