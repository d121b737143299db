//! From credentials to a [`Subject`]: passwords, sessions, tokens.

mod subject;

pub use subject::{Session, SessionKind, Source, Subject, Who};
