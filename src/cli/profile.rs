//! Where the command line keeps its sign-in: gateway, authority and token, in `$XDG_CONFIG_HOME/countersign/`, mode 0600.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::failure::Failure;

/// A saved sign-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// The gateway's origin, e.g. `https://gw.localhost:8443`.
    pub(crate) gateway: String,
    /// PEM of the authorities to trust; the system's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    /// The user name that signed in.
    pub(crate) username: String,
    /// The bearer token.
    token: String,
}

impl Profile {
    /// A sign-in to be saved.
    pub(crate) const fn new(gateway: String, ca: Option<String>, username: String, token: String) -> Self {
        Self {
            gateway,
            ca,
            username,
            token,
        }
    }

    /// The token, for the one header that carries it.
    pub(crate) fn token(&self) -> Zeroizing<String> {
        Zeroizing::new(self.token.clone())
    }

    /// The folder of saved sign-ins.
    pub(crate) fn folder() -> Result<PathBuf, Failure> {
        if let Some(folder) = std::env::var_os("COUNTERSIGN_CONFIG") {
            return Ok(PathBuf::from(folder));
        }
        let base = match std::env::var_os("XDG_CONFIG_HOME") {
            Some(base) if !base.is_empty() => PathBuf::from(base),
            _ => match std::env::var_os("HOME") {
                Some(home) => PathBuf::from(home).join(".config"),
                None => return Err(Failure::usage("neither XDG_CONFIG_HOME nor HOME is set")),
            },
        };
        Ok(base.join("countersign"))
    }

    fn file() -> Result<PathBuf, Failure> {
        Ok(Self::folder()?.join("login.json"))
    }

    /// Reads the saved sign-in.
    pub(crate) fn load() -> Result<Self, Failure> {
        let file = Self::file()?;
        let missing = || {
            Failure::usage("not signed in").hint("countersign login --gateway URL [--ca FILE] --user NAME")
        };
        let text = fs::read_to_string(&file).map_err(|_| missing())?;
        let mode = fs::metadata(&file)?.permissions().mode() & 0o077;
        if mode != 0 {
            return Err(
                Failure::failed(format!("`{}` can be read by others", file.display()))
                    .hint(format!("chmod 600 {}", file.display())),
            );
        }
        serde_json::from_str(&text).map_err(|_| missing())
    }

    /// Saves this sign-in, readable by its owner only.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let file = Self::file()?;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        let part = file.with_extension("part");
        let _ = fs::remove_file(&part);
        let mut to = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        to.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        to.sync_all()?;
        fs::rename(&part, &file)?;
        Ok(())
    }

    /// Forgets the saved sign-in.
    pub(crate) fn forget() -> Result<(), Failure> {
        match fs::remove_file(Self::file()?) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
