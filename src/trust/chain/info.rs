//! `proxyCertInfo` (RFC 3820 section 3.8): what a proxy may do, and how many proxies may be below it.

use der::asn1::{ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Sequence};

use super::refused::Rule;

/// Its object identifier.
pub(super) const PROXY_CERT_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.14");
/// The same, from the drafts before the RFC.
pub(super) const DRAFT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3536.1.222");
pub(super) const INHERIT_ALL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.21.1");
pub(super) const INDEPENDENT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.21.2");
pub(super) const LIMITED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3536.1.1.1.9");

/// What a proxy may do of what its issuer may. In the order of strictness: the stricter one of a chain holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// Everything.
    #[default]
    InheritAll,
    /// Everything but starting what acts for its person again (Globus: no jobs).
    Limited,
    /// Nothing: it is a name of its own.
    Independent,
}

impl Policy {
    /// The name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InheritAll => "inheritAll",
            Self::Limited => "limited",
            Self::Independent => "independent",
        }
    }
}

/// A `proxyCertInfo` that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyCertInfo {
    /// How many proxies may be below; no number, no bound.
    pub path_length: Option<u32>,
    /// What it may do.
    pub policy: Policy,
}

#[derive(Sequence)]
struct Asn1<'a> {
    path_length: Option<UintRef<'a>>,
    policy: Asn1Policy<'a>,
}

#[derive(Sequence)]
struct Asn1Policy<'a> {
    language: ObjectIdentifier,
    policy: Option<&'a OctetStringRef>,
}

impl ProxyCertInfo {
    /// Reads the value of the extension.
    ///
    /// # Errors
    /// [`Rule::InfoMalformed`], [`Rule::UnknownPolicy`], [`Rule::PolicyText`].
    pub fn read(value: &[u8]) -> Result<Self, Rule> {
        let read = Asn1::from_der(value).map_err(|_| Rule::InfoMalformed)?;
        let policy = match read.policy.language {
            INHERIT_ALL => Policy::InheritAll,
            LIMITED => Policy::Limited,
            INDEPENDENT => Policy::Independent,
            // SECURITY: RFC 3820 section 4.2 (1): what restricts in words that are not understood is refused.
            other => return Err(Rule::UnknownPolicy(other.to_string())),
        };
        if read.policy.policy.is_some() {
            return Err(Rule::PolicyText);
        }
        Ok(Self {
            path_length: read.path_length.map(|length| saturated(length.as_bytes())),
            policy,
        })
    }
}

/// A number of any length; a chain is never so long that more than this mattered.
fn saturated(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0_u32, |number, byte| {
        number
            .checked_mul(256)
            .map_or(u32::MAX, |number| number.saturating_add(u32::from(*byte)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `language` with what stands before and behind it.
    fn value(before: &[u8], language: ObjectIdentifier, behind: &[u8]) -> Vec<u8> {
        let mut policy = der::Encode::to_der(&language).unwrap();
        policy.extend(behind);
        let mut inner = before.to_vec();
        inner.extend([0x30, u8::try_from(policy.len()).unwrap()]);
        inner.extend(policy);
        let mut outer = vec![0x30, u8::try_from(inner.len()).unwrap()];
        outer.extend(inner);
        outer
    }

    #[test]
    fn the_three_languages_are_read_with_their_path_length() {
        for (language, policy) in [
            (INHERIT_ALL, Policy::InheritAll),
            (LIMITED, Policy::Limited),
            (INDEPENDENT, Policy::Independent),
        ] {
            for (before, path_length) in [
                (&[][..], None),
                (&[2, 1, 0], Some(0)),
                (&[2, 1, 7], Some(7)),
                (&[2, 2, 0, 255], Some(255)),
                (&[2, 5, 1, 0, 0, 0, 0], Some(u32::MAX)),
            ] {
                assert_eq!(
                    ProxyCertInfo::read(&value(before, language, &[])),
                    Ok(ProxyCertInfo { path_length, policy })
                );
            }
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let any = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.21.0");
        assert_eq!(
            ProxyCertInfo::read(&value(&[], any, &[])),
            Err(Rule::UnknownPolicy("1.3.6.1.5.5.7.21.0".to_owned()))
        );
        assert_eq!(
            ProxyCertInfo::read(&value(&[], INHERIT_ALL, &[4, 1, b'x'])),
            Err(Rule::PolicyText)
        );
        let mut behind = value(&[], INHERIT_ALL, &[]);
        behind.push(0);
        for bad in [
            vec![],
            vec![0x30, 0],
            value(&[2, 1, 0xff], INHERIT_ALL, &[]),
            value(&[2, 2, 0, 1], INHERIT_ALL, &[]),
            value(&[2, 0], INHERIT_ALL, &[]),
            value(&[], INHERIT_ALL, &[5, 0]),
            behind,
        ] {
            assert_eq!(ProxyCertInfo::read(&bad), Err(Rule::InfoMalformed), "{bad:?}");
        }
    }
}
