//! May they: from a subject and a place to a [`Permit`] or a [`Denial`].

mod permit;

pub use permit::{Denial, Permit};
