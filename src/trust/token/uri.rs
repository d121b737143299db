//! Names of keys on PKCS#11 tokens (RFC 7512), as far as they name a private key.

use std::fmt::{self, Write as _};

/// Why a name was refused. Values are never quoted: a PIN may stand in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Not one at all.
    #[error(
        "this is no PKCS#11 URI; accepted: one such as `pkcs11:token=imaging;object=vo;type=private` (RFC 7512)"
    )]
    Form,
    /// An attribute that says nothing of a key, or that is the settings' to say.
    #[error(
        "the PKCS#11 URI has `{0}`; accepted: token, object, id, type, serial, model, manufacturer (module and PIN stand in the \
         settings, `[[delegation.token]]`)"
    )]
    Attribute(String),
    /// An attribute is there twice, or its value is none.
    #[error("the PKCS#11 URI has a `{0}` that cannot be read, or has it twice")]
    Value(&'static str),
    /// The key is not named.
    #[error("the PKCS#11 URI needs `token`, and `object` or `id`")]
    Incomplete,
}

/// The name of a private key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uri {
    /// Label of the token.
    pub(super) token: String,
    /// Label of the key.
    pub(super) object: Option<String>,
    /// Id of the key.
    pub(super) id: Option<Vec<u8>>,
    /// Serial number of the token.
    pub(super) serial: Option<String>,
    /// Its model.
    pub(super) model: Option<String>,
    /// Who made it.
    pub(super) manufacturer: Option<String>,
}

impl Uri {
    /// Whether a text is meant to be one.
    #[must_use]
    pub fn is_meant(text: &[u8]) -> bool {
        text.get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"pkcs11:"))
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`UriError`].
    pub fn parse(text: &str) -> Result<Self, UriError> {
        if !Self::is_meant(text.as_bytes()) || text.len() > 1_000 {
            return Err(UriError::Form);
        }
        let rest = text.get(7..).unwrap_or_default();
        // SECURITY: a module is code, and a PIN file anybody's: neither is said by who may import a certificate.
        if let Some((_, query)) = rest.split_once('?') {
            return Err(UriError::Attribute(name(
                query.split('&').next().unwrap_or_default(),
            )));
        }
        let (mut uri, mut token, mut kind) = (Self::default(), None, None);
        for part in rest.split(';') {
            let (key, value) = part.split_once('=').ok_or(UriError::Form)?;
            match key {
                "token" => once("token", &mut token, value, words)?,
                "object" => once("object", &mut uri.object, value, words)?,
                "id" => once("id", &mut uri.id, value, decoded)?,
                "type" => once("type", &mut kind, value, words)?,
                "serial" => once("serial", &mut uri.serial, value, words)?,
                "model" => once("model", &mut uri.model, value, words)?,
                "manufacturer" => once("manufacturer", &mut uri.manufacturer, value, words)?,
                _ => return Err(UriError::Attribute(name(part))),
            }
        }
        if kind.is_some_and(|kind| kind != "private") {
            return Err(UriError::Value("type"));
        }
        uri.token = token.ok_or(UriError::Incomplete)?;
        if uri.object.is_none() && uri.id.is_none() {
            return Err(UriError::Incomplete);
        }
        Ok(uri)
    }

    /// Label of the token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}

/// The name of an attribute, as an error shows it.
fn name(attribute: &str) -> String {
    let name = attribute.split('=').next().unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
    name.chars().filter(plain).take(32).collect()
}

fn once<T>(
    key: &'static str,
    slot: &mut Option<T>,
    value: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<(), UriError> {
    let value = read(value).ok_or(UriError::Value(key))?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError::Value(key)),
    }
}

fn words(value: &str) -> Option<String> {
    let text = String::from_utf8(decoded(value)?).ok()?;
    (!text.contains('\0')).then_some(text)
}

/// The bytes of a value (RFC 7512 section 2.3, `pk11-pchar`); never none.
fn decoded(value: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes().iter().copied();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte if is_plain(byte) => byte,
            _ => return None,
        };
        bytes.push(byte);
    }
    (!bytes.is_empty()).then_some(bytes)
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b':'
                | b'['
                | b']'
                | b'@'
                | b'!'
                | b'$'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b'&'
        )
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes = [
            ("token", Some(self.token.as_bytes())),
            ("object", self.object.as_deref().map(str::as_bytes)),
            ("id", self.id.as_deref()),
            ("serial", self.serial.as_deref().map(str::as_bytes)),
            ("model", self.model.as_deref().map(str::as_bytes)),
            ("manufacturer", self.manufacturer.as_deref().map(str::as_bytes)),
        ];
        f.write_str("pkcs11:")?;
        for (key, value) in attributes {
            let Some(value) = value else { continue };
            write!(f, "{key}=")?;
            for byte in value {
                match byte {
                    byte if is_plain(*byte) => f.write_char(char::from(*byte))?,
                    byte => write!(f, "%{byte:02X}")?,
                }
            }
            f.write_char(';')?;
        }
        f.write_str("type=private")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_other_programs_print_is_read() {
        let text = "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=5d2f0a;token=imaging;id=%01%A2;object=vo;type=private";
        let uri = Uri::parse(text).unwrap();
        assert_eq!(uri.token(), "imaging");
        assert_eq!(uri.model.as_deref(), Some("SoftHSM v2"));
        assert_eq!(uri.id.as_deref(), Some(&[0x01, 0xa2][..]));
        assert_eq!(Uri::parse(&uri.to_string()), Ok(uri));
        assert!(Uri::parse("PKCS11:token=a;id=%00").is_ok());
    }

    #[test]
    fn neither_module_nor_pin_is_taken_from_a_name_and_no_value_is_quoted() {
        for text in [
            "pkcs11:token=a;object=b?pin-value=geheim",
            "pkcs11:token=a;object=b?pin-source=file:/etc/geheim",
            "pkcs11:token=a;object=b?module-path=/tmp/geheim.so",
            "pkcs11:token=a;object=b;slot-id=geheim",
            "pkcs11:token=a;object=b;pin-value=geheim",
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert!(matches!(error, UriError::Attribute(_)), "{text}: {error}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }

    #[test]
    fn what_names_no_private_key_is_refused() {
        for (text, error) in [
            ("", UriError::Form),
            ("pkcs11", UriError::Form),
            ("pkcs11:", UriError::Form),
            ("file:/key", UriError::Form),
            ("pkcs11:token=a;object", UriError::Form),
            ("pkcs11:token=a", UriError::Incomplete),
            ("pkcs11:object=a", UriError::Incomplete),
            ("pkcs11:token=;object=a", UriError::Value("token")),
            ("pkcs11:token=a;token=b;object=a", UriError::Value("token")),
            ("pkcs11:token=a;object=a;type=cert", UriError::Value("type")),
            ("pkcs11:token=a;object=b c", UriError::Value("object")),
            ("pkcs11:token=a;object=%ff", UriError::Value("object")),
            ("pkcs11:token=a;object=%00", UriError::Value("object")),
            ("pkcs11:token=a;id=%1", UriError::Value("id")),
            ("pkcs11:token=a;id=%+1", UriError::Value("id")),
        ] {
            assert_eq!(Uri::parse(text), Err(error), "{text}");
        }
        assert_eq!(
            Uri::parse(&format!("pkcs11:token=a;object={}", "b".repeat(1_000))),
            Err(UriError::Form)
        );
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(
            token in "[^\0]{1,16}", object in proptest::option::of("[^\0]{1,16}"),
            id in proptest::collection::vec(any::<u8>(), 1..16), serial in proptest::option::of("[^\0]{1,8}"),
        ) {
            let uri = Uri { token, object, id: Some(id), serial, ..Uri::default() };
            prop_assert_eq!(Uri::parse(&uri.to_string()), Ok(uri));
        }

        #[test]
        fn no_text_is_read_as_something_that_is_written_otherwise(text in "(pkcs11:)?[ -~]{0,60}") {
            if let Ok(uri) = Uri::parse(&text) {
                prop_assert_eq!(Uri::parse(&uri.to_string()), Ok(uri));
            }
        }
    }
}
