//! How the story is printed.

use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// Prints the story's steps.
#[derive(Clone, Copy)]
pub(super) struct Say(Output);

impl Say {
    pub(super) fn new() -> Self {
        Self(Output::new(false))
    }

    /// A step's heading.
    pub(super) fn step(self, number: usize, title: &str) -> Result<(), Failure> {
        self.0.line("")?;
        Ok(self.0.heading(&format!("{number:>2}  {title}"))?)
    }

    /// A command, as it was run.
    pub(super) fn command(self, line: &str) -> Result<(), Failure> {
        Ok(self.0.line(format!("    $ {line}"))?)
    }

    /// What it printed, or what to see in it.
    pub(super) fn shown(self, text: &str) -> Result<(), Failure> {
        for line in text.lines() {
            self.0.line(format!("      {line}"))?;
        }
        Ok(())
    }

    /// A line of text.
    pub(super) fn line(self, text: &str) -> Result<(), Failure> {
        Ok(self.0.line(text)?)
    }
}
