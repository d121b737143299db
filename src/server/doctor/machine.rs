//! The machine: whose files these are and who may read them, how long the disk lasts, and whether anything keeps the clock.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{DAY, Finding};
use crate::alert::Transport;
use crate::clock::Timestamp;
use crate::config::Config;

/// Files of the log that are newer than the clock by more than this were written under another one.
const AHEAD: Duration = Duration::from_secs(120);
/// Over how many days the growth of the log is measured.
const MEASURED: u32 = 7;
/// Below this many days, the end of the room is near.
const FEW_DAYS: u64 = 30;
/// How many files are named.
const NAMED: usize = 5;
/// Traces of the programs that keep a clock: systemd-timesyncd (written when it is in step), chrony, ntpd, OpenNTPD.
const CLOCK_KEEPERS: &[&str] = &[
    "/run/systemd/timesync/synchronized",
    "/run/chrony/chronyd.pid",
    "/run/chronyd.pid",
    "/run/ntpd.pid",
    "/run/ntpsec/ntpd.pid",
    "/run/openntpd/ntpd.sock",
    "/run/ntpd.sock",
];

pub(super) fn look(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut found = vec![folder(&config.data), room(config, now), clock(config, now)];
    found.extend(elsewhere(config));
    found
}

/// Files with secrets that settings name outside the data folder, and that others may read.
fn elsewhere(config: &Config) -> Option<Finding> {
    let tokens = config.delegate.token.iter();
    let smtp = match &config.alert.transport {
        Transport::Smtp(smtp) => smtp.password_file.as_ref(),
        Transport::File { .. } => None,
    };
    let named = tokens
        .map(|token| config.data.join(&token.pin_file))
        .chain(smtp.map(|file| config.data.join(file)))
        .chain([config.sealing_key.clone()]);
    let open = |path: &PathBuf| {
        let outside = !path.starts_with(&config.data);
        outside && fs::metadata(path).is_ok_and(|about| about.mode() & 0o027 != 0)
    };
    let path = named.into_iter().find(open)?;
    let said = format!("other accounts may read or change `{}`", path.display());
    Some(Finding::flaw("secrets", said).next(format!("chmod 600 {}", path.display())))
}

/// Every file below the data folder, with what is known of it; links are not followed.
fn files(folder: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            // A file may go while the gateway runs.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            if about.is_dir() {
                folders.push(entry.path());
            }
            found.push((entry.path(), about));
        }
    }
    found
}

fn folder(data: &Path) -> Finding {
    const ABOUT: &str = "data folder";
    let whole = match fs::metadata(data) {
        Ok(whole) => whole,
        Err(error) => return Finding::flaw(ABOUT, format!("`{}` cannot be read: {error}", data.display())),
    };
    let owner = whole.uid();
    let mut open = Vec::new();
    let mut foreign = Vec::new();
    let all = files(data);
    for (path, about) in std::iter::once((data.to_owned(), whole)).chain(all.iter().cloned()) {
        // Nobody beside the gateway needs a key.
        let secret = path.starts_with(data.join("keys")) && path.extension().is_none_or(|end| end != "pub");
        let mask = if secret { 0o077 } else { 0o027 };
        let closed = about.is_symlink() || about.mode() & mask == 0;
        if !closed {
            open.push(path.clone());
        }
        if about.uid() != owner {
            foreign.push(path);
        }
    }
    if !open.is_empty() {
        return Finding::flaw(
            ABOUT,
            format!("other accounts may read or change {}", named(&open, data)),
        )
        .next(format!("chmod -R go-rwx {}", data.display()));
    }
    if !foreign.is_empty() {
        return Finding::flaw(
            ABOUT,
            format!(
                "{} belongs to another account than the folder (account {owner})",
                named(&foreign, data)
            ),
        )
        .next(format!("chown -R {owner} {}", data.display()));
    }
    if owner == 0 {
        return Finding::warning(ABOUT, "it belongs to root, so the gateway runs as root")
            .next("give it to an account of its own; started as root, the gateway becomes that");
    }
    Finding::ok(ABOUT, format!("{} files, closed to other accounts", all.len()))
}

/// The first few of them, below `folder`.
fn named(paths: &[PathBuf], folder: &Path) -> String {
    let short = |path: &PathBuf| {
        let below = path
            .strip_prefix(folder)
            .ok()
            .filter(|below| below != &Path::new(""));
        format!("`{}`", below.unwrap_or(path).display())
    };
    let mut text = paths.iter().take(NAMED).map(short).collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED {
        text.push_str(&format!(" and {} more", paths.len() - NAMED));
    }
    text
}

/// How much room the log has, and for how many days at the pace of the last week.
fn room(config: &Config, now: Timestamp) -> Finding {
    const ABOUT: &str = "room for the audit log";
    let log = &config.audit;
    let stat = match rustix::fs::statvfs(&log.folder) {
        Ok(stat) => stat,
        Err(error) => {
            return Finding::flaw(
                ABOUT,
                format!("`{}` cannot be looked at: {error}", log.folder.display()),
            );
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let shown = mib(free);
    if free < log.stop_free_bytes {
        return Finding::flaw(ABOUT, format!("{shown} are left: requests are refused")).next(more());
    }
    if free < log.min_free_bytes {
        return Finding::warning(ABOUT, format!("{shown} are left: what brings data in is refused"))
            .next(more());
    }
    let Some(daily) = daily_growth(&log.folder, now).filter(|daily| *daily > 0) else {
        return Finding::ok(ABOUT, format!("{shown} are left"));
    };
    let days = (free - log.min_free_bytes) / daily;
    let said = format!(
        "{shown} are left, for {days} days at {} a day (the last {MEASURED} days)",
        mib(daily)
    );
    match days < FEW_DAYS {
        true => Finding::warning(ABOUT, said).next(more()),
        false => Finding::ok(ABOUT, said),
    }
}

fn more() -> &'static str {
    "more room, `[audit] compress` and `archive`, or a shorter `keep`"
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1 << 20))
}

/// Bytes a day that the log grew by lately; `None` while it is younger than a day.
fn daily_growth(folder: &Path, now: Timestamp) -> Option<u64> {
    let window = DAY * MEASURED;
    let recent = files(folder).into_iter().filter_map(|(_, about)| {
        let written = modified(&about)?;
        (about.is_file() && written > now.minus(window)).then_some((written, about.blocks() * 512))
    });
    let recent: Vec<(Timestamp, u64)> = recent.collect();
    let first = recent.iter().map(|(written, _)| *written).min()?;
    let days = now.since(first).as_secs() / DAY.as_secs();
    let grown: u64 = recent.iter().map(|(_, bytes)| bytes).sum();
    grown.checked_div(days)
}

fn modified(about: &Metadata) -> Option<Timestamp> {
    let since = about
        .modified()
        .ok()?
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    Some(Timestamp::from_secs(i64::try_from(since.as_secs()).ok()?))
}

/// Whether the clock is behind what was written by it, and whether anything keeps it.
fn clock(config: &Config, now: Timestamp) -> Finding {
    const ABOUT: &str = "clock";
    let log = files(&config.audit.folder);
    let newest = log.iter().filter_map(|(_, about)| modified(about)).max();
    if let Some(newest) = newest.filter(|newest| *newest > now.plus(AHEAD)) {
        return Finding::flaw(
            ABOUT,
            format!("it says {now}, and the audit log was written until {newest}"),
        )
        .next("set the clock; records, sessions and certificates go by it");
    }
    match CLOCK_KEEPERS.iter().find(|path| Path::new(path).exists()) {
        Some(keeper) => Finding::ok(ABOUT, format!("it is kept (`{keeper}`)")),
        None => Finding::warning(ABOUT, "nothing is seen that keeps it right").next(
            "systemd-timesyncd, chrony or ntpd on this machine; in a container, on its host, and then this may be passed over",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::State;
    use super::*;

    #[test]
    fn a_file_that_others_may_read_is_named() {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let key = data.path().join("keys/log.key");
        fs::create_dir(data.path().join("keys")).unwrap();
        fs::write(&key, "secret").unwrap();
        for (mode, state) in [
            (0o600, State::Ok),
            (0o640, State::Flaw),
            (0o644, State::Flaw),
            (0o660, State::Flaw),
            (0o601, State::Flaw),
        ] {
            fs::set_permissions(data.path().join("keys"), fs::Permissions::from_mode(0o700)).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            let found = folder(data.path());
            // Root's own folder works, with a word of warning.
            let fine = [State::Ok, State::Warning].contains(&found.state);
            assert_eq!(fine, state == State::Ok, "{mode:o}: {found:?}");
            assert_eq!(
                found.said.contains("`keys/log.key`"),
                state == State::Flaw,
                "{found:?}"
            );
        }
    }

    #[test]
    fn growth_is_measured_over_days_that_were() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        assert_eq!(daily_growth(folder.path(), now), None);
        for (age, name) in [(1, "a"), (4, "b"), (30, "c")] {
            let path = folder.path().join(name);
            fs::write(&path, vec![7; 1 << 20]).unwrap();
            let at = now.minus(DAY * age).secs();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap());
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(at)
                .unwrap();
        }
        // Two of them within the week, the older one four days ago.
        let grown = daily_growth(folder.path(), now).unwrap();
        assert!((1 << 19..(1 << 19) + 8_192).contains(&grown), "{grown}");
    }
}
