//! Spool folders that the settings name no more: what a killed gateway left in one is found by the next.
//!
//! A file in the data folder lists the folders that may hold proxies: written before they are taken into use, so that no folder
//! holds one that no list has.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::id::Random;

use super::spool::{Folder, SpoolConfig, SpoolError};

/// Removes what is left in folders that the list has and the settings have not, and writes the list anew. What cannot be looked
/// into stays in the list, and is told at each start.
///
/// # Errors
/// [`SpoolError::Noted`] when the list cannot be read or written.
pub(super) fn remove(
    list: &Path,
    spools: &[SpoolConfig],
    random: &Arc<dyn Random>,
) -> Result<(), SpoolError> {
    let noted = |error| SpoolError::Noted {
        list: list.to_owned(),
        error,
    };
    let known = match fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(noted(error)),
    };
    let mut folders: BTreeSet<PathBuf> = spools.iter().map(|spool| spool.folder.clone()).collect();
    for folder in known.lines().map(PathBuf::from) {
        if !folders.contains(&folder) && !is_empty_now(&folder, random) {
            folders.insert(folder);
        }
    }
    let lines: String = folders
        .iter()
        .map(|folder| format!("{}\n", folder.display()))
        .collect();
    if lines == known {
        return Ok(());
    }
    let part = list.with_extension("part");
    let written = fs::File::create(&part).and_then(|mut file| {
        io::Write::write_all(&mut file, lines.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&part, list)).map_err(noted)
}

/// Empties a folder of our files. Whether nothing of ours is there any more.
fn is_empty_now(folder: &Path, random: &Arc<dyn Random>) -> bool {
    if fs::symlink_metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return true;
    }
    let config = SpoolConfig {
        name: "former".to_owned(),
        folder: folder.to_owned(),
        mode: 0o600,
        owner: None,
        group: None,
        vos: Vec::new(),
    };
    // It says itself how many there were.
    match Folder::take(config, random.clone()) {
        Ok(_) => true,
        Err(error) => {
            tracing::error!(
                "proxies may be left in `{}`, which is no spool folder of the settings any more: {error}; remove `countersign-*.pem` there",
                folder.display()
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::id::SystemSource;

    #[test]
    fn what_is_left_in_a_folder_that_left_the_settings_is_removed_and_what_cannot_be_looked_into_stays_listed()
     {
        let outer = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(outer.path()).unwrap();
        let list = base.join("spool-folders");
        let random: Arc<dyn Random> = Arc::new(SystemSource::new());
        let spool = |name: &str| {
            let folder = base.join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
            SpoolConfig {
                name: name.to_owned(),
                folder,
                mode: 0o600,
                owner: None,
                group: None,
                vos: Vec::new(),
            }
        };
        let (former, open, gone) = (spool("former"), spool("open"), spool("gone"));
        remove(&list, &[former.clone(), open.clone(), gone.clone()], &random).unwrap();
        assert_eq!(fs::read_to_string(&list).unwrap().lines().count(), 3);
        let left = former.folder.join(format!("countersign-{}.pem", "0".repeat(32)));
        let others = former.folder.join("notes.txt");
        fs::write(&left, "a key").unwrap();
        fs::write(&others, "of somebody else").unwrap();
        fs::remove_dir(&gone.folder).unwrap();
        fs::set_permissions(&open.folder, fs::Permissions::from_mode(0o777)).unwrap();
        let present = spool("present");
        remove(&list, std::slice::from_ref(&present), &random).unwrap();
        assert!(!left.exists() && others.exists());
        let listed = fs::read_to_string(&list).unwrap();
        assert_eq!(
            listed,
            format!("{}\n{}\n", open.folder.display(), present.folder.display())
        );
        // Once it can be looked into, it goes as well.
        fs::set_permissions(&open.folder, fs::Permissions::from_mode(0o711)).unwrap();
        remove(&list, &[], &random).unwrap();
        assert_eq!(fs::read_to_string(&list).unwrap(), "");
    }
}
