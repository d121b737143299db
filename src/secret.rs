//! [`Secret<T>`]: a value that is never shown, is compared in constant time and is zeroed when dropped; and the one way
//! to read a file that holds one ([`read_file`]).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A password, token, cookie or key. It has no `Display` and no `Serialize`; the only way in is [`Secret::expose`].
///
/// ```
/// use countersign::secret::Secret;
/// let password = Secret::new(String::from("correct horse battery staple"));
/// assert_eq!(format!("{password:?}"), "Secret(..)");
/// assert!(password == Secret::new(String::from("correct horse battery staple")));
/// ```
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every use of this is a place for a reviewer to look.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<T: Zeroize + AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().ct_eq(other.0.as_ref()).into()
    }
}

impl<T: Zeroize + AsRef<[u8]>> Eq for Secret<T> {}

impl<'de, T: Zeroize + serde::Deserialize<'de>> serde::Deserialize<'de> for Secret<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // SECURITY: serde's own message quotes a value of another type; a password may well be a number.
        T::deserialize(deserializer)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a secret must be a text in quotes"))
    }
}

/// Largest file that holds a secret, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Reads a file that holds a secret. It may be read by its owner, and by its group where that was arranged; never by
/// everyone, and written by nobody else.
///
/// # Errors
/// [`io::Error`]: it cannot be read, is too large, or other accounts may read or write it (then the message says what to
/// type).
pub fn read_file(path: &Path) -> io::Result<Secret<Vec<u8>>> {
    let file = File::open(path)?;
    // SECURITY: the open file is judged, not its name, which could be swapped in between.
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & 0o027 != 0 {
        let why = format!(
            "other accounts may read or change it (mode {mode:04o}): chmod 600 {}",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut bytes = Vec::new();
    let read = file.take(FILE_MAX + 1).read_to_end(&mut bytes);
    let secret = Secret::new(bytes);
    read?;
    if secret.expose().len() as u64 > FILE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is larger than any key",
        ));
    }
    Ok(secret)
}

/// The same for a file of text; white space around it is taken off.
///
/// # Errors
/// As [`read_file`], and when it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<Secret<String>> {
    let bytes = read_file(path)?;
    let text = std::str::from_utf8(bytes.expose())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text"))?;
    Ok(Secret::new(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_that_others_may_read_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, " hush\n").unwrap();
        for (mode, accepted) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o644, false),
            (0o660, false),
            (0o602, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_text(&path).is_ok(), accepted, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_text(&path).unwrap().expose(), "hush");
    }

    #[test]
    fn a_secret_of_another_type_is_not_quoted_by_the_error() {
        for wrong in ["8675309", "[\"8675309\"]", "{\"8675309\": 1}", "true"] {
            let error = serde_json::from_str::<Secret<String>>(wrong)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("a secret must be a text in quotes"), "{error}");
            assert!(!error.contains("8675309"), "{error}");
        }
    }
}
