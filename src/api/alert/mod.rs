//! Alerts: repeated denials that were told to the administrators.

pub mod list;
