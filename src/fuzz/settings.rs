//! The settings file.

use std::path::Path;

use crate::config::Config;
use crate::record::Hash;

/// Text as `countersign.toml`.
///
/// Read twice it is the same; every flaw is in a line that the file has, and says something.
pub(super) fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read = || Config::parse(Path::new("/data"), "countersign.toml", text);
    match (read(), read()) {
        (Ok(first), Ok(second)) => {
            assert_eq!(format!("{first:?}"), format!("{second:?}"));
            assert_eq!(first.hash, Hash::of(data));
            assert!(first.sealing_key.starts_with("/"), "{:?}", first.sealing_key);
        }
        (Err(first), Err(second)) => {
            assert_eq!(first.to_string(), second.to_string());
            assert!(!first.0.is_empty());
            // TOML ends lines with LF or CR LF; the last line may be empty.
            let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
            for flaw in &first.0 {
                assert!(flaw.line <= lines && !flaw.message.is_empty(), "{flaw:?}");
            }
        }
        _ => panic!("read twice, the settings are not the same"),
    }
}
