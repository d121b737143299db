//! The folder of authorities that clients may fetch.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::delegate::myproxy::Response;

/// No folder that is given out has more files, or larger ones, in bytes, or more in all.
const FILES: usize = 2_000;
const FILE: u64 = 256 * 1024;
const ALL: usize = 8 * 1024 * 1024;
/// How long what was read of it is given out: revocation lists change by the hour.
const FRESH: Duration = Duration::from_secs(60);

/// The folder, read now and then. SECURITY: whoever asks for it needs no account, so however many ask, and take nothing of the
/// answer, it is in memory once.
pub(super) struct Roots {
    folder: Option<PathBuf>,
    read: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Roots {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            read: Mutex::new(None),
        }
    }

    /// The whole message that grants something and brings the authorities, where there are any.
    pub(super) async fn answer(&self) -> Arc<str> {
        let Some(folder) = &self.folder else {
            return with("").into();
        };
        let mut read = self.read.lock().await;
        if let Some((at, lines)) = &*read
            && at.elapsed() < FRESH
        {
            return lines.clone();
        }
        let folder = folder.clone();
        let read_now = tokio::task::spawn_blocking(move || with(&lines(&authorities(&folder)))).await;
        let answer: Arc<str> = read_now.unwrap_or_else(|_| with("")).into();
        *read = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// The message with these lines at its end.
fn with(lines: &str) -> String {
    let message = Response::fine().write();
    let head = message.strip_suffix('\0').unwrap_or(&message);
    [head, lines, "\0"].concat()
}

fn lines(files: &[(String, Vec<u8>)]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let mut lines = format!("TRUSTED_CERTS={}\n", names.join(","));
    for (name, bytes) in files {
        // Writing into a string does not fail.
        let _ = writeln!(lines, "FILEDATA_{name}={}", BASE64.encode(bytes));
    }
    lines
}

/// The files of the folder that grid software reads, by name, within bounds.
fn authorities(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_known(name))
        .collect();
    names.sort();
    if names.len() > FILES {
        tracing::warn!(
            "of `{}` only {FILES} files are given to clients",
            folder.display()
        );
    }
    names.truncate(FILES);
    let (mut files, mut all) = (Vec::new(), 0);
    for name in names {
        let path = folder.join(&name);
        let small = std::fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= FILE);
        let Some(bytes) = small.then(|| std::fs::read(&path).ok()).flatten() else {
            tracing::warn!(
                "`{}` is not given to clients: it is too large or cannot be read",
                path.display()
            );
            continue;
        };
        all += bytes.len();
        if all > ALL {
            tracing::warn!("of `{}` only {ALL} bytes are given to clients", folder.display());
            break;
        }
        files.push((name, bytes));
    }
    files
}

/// `HASH.0`, `HASH.r0`, `HASH.signing_policy` and the like: a private key that lies beside them is never among them.
fn is_known(name: &str) -> bool {
    let Some((hash, rest)) = name.split_once('.') else {
        return false;
    };
    let kinds = ["signing_policy", "namespaces", "info", "crl_url"];
    let numbered = rest.strip_prefix('r').unwrap_or(rest);
    let numbered = !numbered.is_empty() && numbered.bytes().all(|byte| byte.is_ascii_digit());
    !hash.is_empty()
        && hash
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && (numbered || kinds.contains(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grid_software_reads_is_given_out_and_nothing_else_that_lies_there() {
        for name in [
            "0a1b2c3d.0",
            "0a1b2c3d.r0",
            "0a1b2c3d.signing_policy",
            "UKe-CA_2B.info",
        ] {
            assert!(is_known(name), "{name}");
        }
        for name in [
            "ca.key", "ca.pem", "a.0.key", ".0", "a", "a.", "a.r", "a b.0", "a\n.0", "a,b.0", "a.-1",
        ] {
            assert!(!is_known(name), "{name}");
        }
    }

    #[tokio::test]
    async fn the_lines_name_the_files_and_hold_them_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        put("b.0", b"two");
        put("a.0", b"one");
        put("host.key", b"secret");
        put("c.0", &vec![0; usize::try_from(FILE).unwrap() + 1]);
        let roots = Roots::new(Some(folder.path().to_owned()));
        let answer = roots.answer().await;
        let fine = Response::fine().write();
        let head = fine.strip_suffix('\0').unwrap();
        assert_eq!(
            &*answer,
            format!("{head}TRUSTED_CERTS=a.0,b.0\nFILEDATA_a.0=b25l\nFILEDATA_b.0=dHdv\n\0")
        );
        // Whoever asks next gets the very same, from the same memory.
        assert!(Arc::ptr_eq(&answer, &roots.answer().await));
        assert_eq!(&*Roots::new(None).answer().await, fine);
        assert_eq!(&*Roots::new(Some("/nowhere".into())).answer().await, fine);
    }
}
