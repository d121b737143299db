//! What both benches of the whole path are made of: programs, load, and how it is measured.

pub(crate) mod bare;
pub(crate) mod load;
pub(crate) mod measure;
pub(crate) mod options;
pub(crate) mod process;
pub(crate) mod records;
pub(crate) mod round;
pub(crate) mod world;
