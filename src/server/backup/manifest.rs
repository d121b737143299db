//! What a backup says of itself, and the seal over it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::file::{self, Written};
use crate::config;
use crate::id::Random;
use crate::record::Hash;
use crate::trust::seal::{Label, SealingKey};

/// Version of the form.
pub(super) const FORMAT: u32 = 1;
const FILE: &str = "manifest.json";
const SEAL: &str = "manifest.seal";

/// What is in a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the form.
    pub format: u32,
    /// Of this backup alone.
    pub id: String,
    /// Version of the program that made it.
    pub program: String,
    /// When (RFC 3339).
    pub made: String,
    /// Host name of the gateway.
    pub gateway: String,
    /// `sqlite`, or `postgres`: then the store is not in it.
    pub store: String,
    /// Where the sealing key lay, by the settings.
    pub sealing_key: PathBuf,
    /// The log in it.
    pub log: LogState,
    /// Its files.
    pub files: Vec<Written>,
}

/// How far the log of a backup reaches.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LogState {
    /// Its newest epoch.
    pub epoch: u64,
    /// Records of that epoch.
    pub records: u64,
    /// Records under its newest checkpoint.
    pub signed: u64,
    /// What stands before this record was in the store when it was copied.
    pub from: u64,
}

/// Files of a data folder that are copied in a way of their own, or made anew by the gateway.
pub(super) const OWN: &[Own] = &[
    Own::File(config::FILE),
    Own::File("keys/log.pub"),
    Own::File("lock"),
    Own::File("admin.sock"),
    Own::File("listeners.json"),
    Own::File("listeners.part"),
    Own::Begins("store.db"),
    Own::Begins("index.db"),
    Own::Begins("log/"),
    // Mails on their way out are in the store.
    Own::Begins("outbox/"),
];

/// Which files are meant.
pub(super) enum Own {
    /// One.
    File(&'static str),
    /// All that begin so.
    Begins(&'static str),
}

impl Own {
    pub(super) fn covers(&self, name: &str) -> bool {
        match self {
            Self::File(file) => name == *file,
            Self::Begins(start) => name.starts_with(start),
        }
    }
}

/// What an envelope in a backup is for.
pub(super) enum Seal<'a> {
    /// The manifest's hash.
    Manifest,
    /// A file, bound to its name and its backup.
    File {
        /// The backup's id.
        id: &'a str,
        /// The file's name below the data folder.
        name: &'a str,
    },
}

impl Seal<'_> {
    pub(super) fn label(&self) -> Label {
        match self {
            Self::Manifest => Label::new("backup manifest"),
            Self::File { id, name } => Label::new("backup file")
                .with(id.as_bytes())
                .with(name.as_bytes()),
        }
    }
}

impl Manifest {
    /// Writes manifest and seal into `folder`.
    pub(super) fn write(&self, folder: &Path, key: &SealingKey, random: &dyn Random) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        let seal = key.seal(random, &Seal::Manifest.label(), &Hash::of(&text).0)?;
        file::write(&text, folder, FILE)?;
        file::write(&seal, folder, SEAL)?;
        Ok(())
    }

    /// Reads the manifest in `folder`, which must be the one that a holder of the sealing key made.
    pub(super) fn read(folder: &Path, key: &SealingKey) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read(&path)
            .with_context(|| format!("`{}` is no backup: its {FILE} cannot be read", folder.display()))?;
        let manifest: Self =
            serde_json::from_slice(&text).with_context(|| format!("`{}` was changed", path.display()))?;
        anyhow::ensure!(
            manifest.format == FORMAT,
            "the backup has form {}, this program reads form {FORMAT}",
            manifest.format
        );
        let seal = fs::read(folder.join(SEAL)).with_context(|| format!("`{SEAL}` cannot be read"))?;
        let sealed = key
            .open(&Seal::Manifest.label(), &seal)
            .with_context(|| format!("the seal of `{}` does not open", path.display()))?;
        // SECURITY: nothing of the backup is used before this: the manifest pins every file, and only a holder of the key seals one.
        anyhow::ensure!(
            sealed.expose().as_slice() == Hash::of(&text).0,
            "`{}` was changed since the backup was made",
            path.display()
        );
        Ok(manifest)
    }

    /// Compares every file with what is written here.
    pub(super) fn check(&self, folder: &Path, progress: super::Progress<'_>) -> anyhow::Result<()> {
        let total = self.files.iter().map(|file| file.bytes).sum();
        let mut done = 0;
        for file in &self.files {
            let found = file::look(&file::below(folder, &file.name)?, &file.name)?;
            anyhow::ensure!(
                found == *file,
                "`{}` is not the file that was backed up",
                file.name
            );
            done += file.bytes;
            progress("checking", done, total);
        }
        Ok(())
    }
}
