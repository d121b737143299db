//! How sure the gateway is of who asks.

use std::fmt;

/// A level of authentication assurance (SP 800-63B-4 section 2), lowest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Assurance {
    /// One factor: a password, or the key of a certificate.
    #[default]
    Aal1,
    /// Two different factors, shown for this session.
    Aal2,
}

impl Assurance {
    /// Accepted names, for messages.
    pub const NAMES: &str = "aal1, aal2";

    /// The name in manifests, sessions, records and challenges (`acr`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aal1 => "aal1",
            Self::Aal2 => "aal2",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Aal1, Self::Aal2]
            .into_iter()
            .find(|level| level.as_str() == name)
    }
}

impl fmt::Display for Assurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_factors_are_more_than_one_and_each_name_is_read_back() {
        assert!(Assurance::Aal1 < Assurance::Aal2);
        for level in [Assurance::Aal1, Assurance::Aal2] {
            assert_eq!(Assurance::parse(level.as_str()), Some(level));
        }
        assert_eq!(Assurance::parse("aal3"), None);
    }
}
