//! One proxy against the certificate above it (RFC 3820 sections 3 and 4.1).

use der::asn1::{ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use der::{AnyRef, Decode, Sequence, Tag, Tagged};
use rustls_pki_types::SignatureVerificationAlgorithm;

use crate::clock::Timestamp;

use super::Limits;
use super::certificate::{BASIC_CONSTRAINTS, BasicConstraints, Certificate, KEY_USAGE};
use super::info::{PROXY_CERT_INFO, ProxyCertInfo};
use super::refused::Rule;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const ISSUER_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.18");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

#[derive(Sequence)]
struct Attribute<'a> {
    kind: ObjectIdentifier,
    value: AnyRef<'a>,
}

/// Checks `proxy`, that `above` signed it, and that it is in its time; says what it may do.
pub(super) fn check(
    proxy: &Certificate<'_>,
    above: &Certificate<'_>,
    limits: &Limits,
    now: Timestamp,
    taken: &[&dyn SignatureVerificationAlgorithm],
) -> Result<ProxyCertInfo, Rule> {
    if !proxy.is_version_3() {
        return Err(Rule::Version);
    }
    no_extension_twice(proxy)?;
    let info = info(proxy)?;
    // SECURITY: the very bytes, not what they mean: a name that only looks the same is another one.
    if proxy.issuer().is_empty() || proxy.issuer() != above.subject() {
        return Err(Rule::Issuer);
    }
    if !is_one_name_below(proxy) {
        return Err(Rule::Subject);
    }
    if !proxy.names_one_algorithm() {
        return Err(Rule::TwoAlgorithms);
    }
    if !proxy.is_signed_by(above, taken) {
        return Err(Rule::Signature);
    }
    time(proxy, limits, now)?;
    extensions(proxy)?;
    Ok(info)
}

fn no_extension_twice(proxy: &Certificate<'_>) -> Result<(), Rule> {
    let all = proxy.extensions();
    for (index, extension) in all.iter().enumerate() {
        if all.iter().skip(index + 1).any(|other| other.id == extension.id) {
            return Err(Rule::TwiceExtended(extension.id.to_string()));
        }
    }
    Ok(())
}

fn info(proxy: &Certificate<'_>) -> Result<ProxyCertInfo, Rule> {
    let extension = proxy.extension(PROXY_CERT_INFO).ok_or(Rule::InfoMalformed)?;
    if !extension.critical {
        return Err(Rule::InfoNotCritical);
    }
    ProxyCertInfo::read(extension.value.as_bytes())
}

/// Whether the subject is the issuer plus one RDN with one CN (RFC 3820 section 3.4).
fn is_one_name_below(proxy: &Certificate<'_>) -> bool {
    let Some(last) = proxy.subject().strip_prefix(proxy.issuer()) else {
        return false;
    };
    let Ok(rdn) = AnyRef::from_der(last) else {
        return false;
    };
    if rdn.tag() != Tag::Set {
        return false;
    }
    // One attribute, or what follows it could not be read as nothing.
    let Ok(attribute) = Attribute::from_der(rdn.value()) else {
        return false;
    };
    let value = attribute.value;
    let text = match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().is_ok(),
        Tag::PrintableString => value.decode_as::<PrintableStringRef<'_>>().is_ok(),
        _ => false,
    };
    attribute.kind == COMMON_NAME && text && !value.value().is_empty()
}

fn time(proxy: &Certificate<'_>, limits: &Limits, now: Timestamp) -> Result<(), Rule> {
    let (from, to) = (proxy.not_before(), proxy.not_after());
    if now < from {
        return Err(Rule::NotYetValid(from));
    }
    if now > to {
        return Err(Rule::Expired(to));
    }
    if to.since(from) > limits.lifetime {
        return Err(Rule::TooLasting(limits.lifetime));
    }
    Ok(())
}

fn extensions(proxy: &Certificate<'_>) -> Result<(), Rule> {
    for extension in proxy.extensions() {
        let malformed = || Rule::ExtensionMalformed(extension.id.to_string());
        let value = extension.value.as_bytes();
        match extension.id {
            SUBJECT_ALT_NAME | ISSUER_ALT_NAME => return Err(Rule::AlternativeName),
            BASIC_CONSTRAINTS => {
                let constraints = BasicConstraints::from_der(value).map_err(|_| malformed())?;
                if constraints.authority || constraints.path_length.is_some() {
                    return Err(Rule::Authority);
                }
            }
            KEY_USAGE => {
                let usage = proxy.usage().ok_or_else(malformed)?;
                if usage.sign_certificates {
                    return Err(Rule::MaySignCertificates);
                }
                if !usage.sign {
                    return Err(Rule::MayNotSign);
                }
            }
            EXTENDED_KEY_USAGE => {
                let usages = Vec::<ObjectIdentifier>::from_der(value).map_err(|_| malformed())?;
                if !usages.contains(&CLIENT_AUTH) {
                    return Err(Rule::NoClient);
                }
            }
            PROXY_CERT_INFO => {}
            other if extension.critical => return Err(Rule::UnknownCritical(other.to_string())),
            _ => {}
        }
    }
    Ok(())
}
