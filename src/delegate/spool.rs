//! A proxy as a file, for a tool on this machine that reads it where `X509_USER_PROXY` points: put into a folder that the
//! settings name, under a name that nobody can guess, for one request.
//!
//! A file is removed when its request has ended, however that came; when its proxy has ended; and, where a gateway was
//! killed in between, when the next one starts. A removal that fails is tried again every minute. Nothing outside the folder is ever written or removed: everything goes
//! through the folder's own descriptor, and no symbolic link is followed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::{BASE64, HEXLOWER};
use http::HeaderName;
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Uid};

use crate::clock::Timestamp;
use crate::id::{Random, RandomError, random_bytes};
use crate::secret::Secret;
use crate::settings::Table;
use crate::tool::{Tool, ToolTarget, VoRef};
use crate::vo::{UpstreamAddress, is_name};

use super::{Credential, Delegate, DelegateError, forsaken};

/// Header that names the file.
const FILE: HeaderName = HeaderName::from_static("x-countersign-proxy-file");
/// What every file's name begins with. Nothing else is ever removed from a folder.
const PREFIX: &str = "countersign-";
const SUFFIX: &str = ".pem";
/// What a file is called until it is whole.
const PART: &str = ".part";
/// Kinds of file system that rest in memory only (Linux, `statfs(2)`).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A folder that proxies are put into, as the settings name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// What manifests call it.
    pub name: String,
    /// Where it is.
    pub folder: PathBuf,
    /// Mode of the files.
    pub mode: u32,
    /// Who owns them, where that is not the gateway's own account.
    pub owner: Option<u32>,
    /// Their group, where that is not the gateway's own.
    pub group: Option<u32>,
    /// The VOs whose tools may use it, by name; all of them when empty.
    pub vos: Vec<String>,
}

impl SpoolConfig {
    /// Reads a table. `None` when it is not whole: then it has a flaw.
    pub(super) fn read(mut table: Table<'_>) -> Option<Self> {
        for key in ["name", "folder"] {
            if !table.has(key) {
                table.flaw(key, "is missing: each `[[delegation.spool]]` needs one");
            }
        }
        let name = table.parsed("name", "1 to 40 of a-z, 0-9 and inner `-`", |text| {
            is_name(text).then(|| text.to_owned())
        });
        let accepted = "an absolute path of printable ASCII, as the tool sees it too";
        let folder = table.parsed("folder", accepted, |text| {
            let printable = text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
            (printable && text.starts_with('/')).then(|| PathBuf::from(text))
        });
        let mode = table.parsed("mode", "\"0600\" or \"0640\"", |text| match text {
            "0600" => Some(0o600),
            "0640" => Some(0o640),
            _ => None,
        });
        let id = |table: &mut Table<'_>, key: &str| {
            let id = table
                .has(key)
                .then(|| table.integer(key, 0..=4_294_967_294, Some(0)));
            id.and_then(|id| u32::try_from(id).ok())
        };
        let (owner, group) = (id(&mut table, "owner"), id(&mut table, "group"));
        if mode == Some(0o640) && group.is_none() {
            table.flaw("mode", "is \"0640\", and no `group` is named that may read");
        }
        let vos = table.texts("vos");
        table.end();
        Some(Self {
            name: name?,
            folder: folder?,
            mode: mode.unwrap_or(0o600),
            owner,
            group,
            vos,
        })
    }
}

/// The folders of `[[delegation.spool]]`; a flaw where two have one name or one place.
pub(super) fn read(table: &mut Table<'_>) -> Vec<SpoolConfig> {
    let mut all: Vec<SpoolConfig> = Vec::new();
    for one in table.tables("spool") {
        let Some(spool) = SpoolConfig::read(one) else {
            continue;
        };
        if all
            .iter()
            .any(|other| other.name == spool.name || other.folder == spool.folder)
        {
            let message = format!(
                "has `{}` twice: each name and each folder stands once",
                spool.name
            );
            table.flaw("spool", message);
        }
        all.push(spool);
    }
    all
}

/// Why a folder is not used, or a file was not put there.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The list of folders cannot be read or written.
    #[error("`{}`, which lists the spool folders in use, cannot be read or written: {error}", .list.display())]
    Noted {
        /// The list.
        list: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It cannot be opened.
    #[error("the spool folder `{}` cannot be opened: {error}", .folder.display())]
    Open {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A symbolic link leads there.
    #[error(
        "the spool folder `{}` is reached by a symbolic link; accepted: its own path, `{}`",
        .folder.display(), .real.display()
    )]
    Linked {
        /// The folder, as named.
        folder: PathBuf,
        /// Where it is.
        real: PathBuf,
    },
    /// Others can write into it.
    #[error(
        "others can write into the spool folder `{}` (owner {owner}, mode {mode:04o}); accepted: one that belongs to the \
         gateway's own account ({own}), and that no other may write into, e.g. mode 0711",
        .folder.display()
    )]
    Shared {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Its mode.
        mode: u32,
        /// The gateway's account.
        own: u32,
    },
    /// Others can see what lies in it.
    #[error(
        "others can list the spool folder `{}` (mode {mode:04o}); accepted: one that no other may read, e.g. mode 0711",
        .folder.display()
    )]
    Listed {
        /// The folder.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Others can put another folder in its place.
    #[error(
        "others can write into `{}`, which the spool folder `{}` lies in (owner {owner}, mode {mode:04o}); accepted: one of the \
         gateway's own account or of root, that no other may write into, or with the sticky bit",
        .above.display(), .folder.display()
    )]
    Above {
        /// The folder.
        folder: PathBuf,
        /// The folder above it.
        above: PathBuf,
        /// Whose that is.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// Another gateway uses it.
    #[error("another gateway uses the spool folder `{}`; accepted: a folder for each gateway", .0.display())]
    Taken(PathBuf),
    /// A file could not be put there.
    #[error("the proxy could not be put into the spool folder `{name}`")]
    Put {
        /// Name of the folder.
        name: String,
    },
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Looks at a folder without taking it; a warning where it rests on a disk.
///
/// # Errors
/// [`SpoolError`] when it cannot be used.
pub fn check(config: &SpoolConfig) -> Result<Option<String>, SpoolError> {
    let opened = open(config)?;
    // On what file system it is cannot always be told.
    let kind = rustix::fs::fstatfs(&opened).ok().map(|found| found.f_type);
    let in_memory = kind.is_some_and(|kind| u64::try_from(kind).is_ok_and(|kind| IN_MEMORY.contains(&kind)));
    Ok((!in_memory).then(|| {
        format!(
            "the spool folder `{}` is not in memory (tmpfs): keys of proxies may rest on its disk after they were removed",
            config.folder.display()
        )
    }))
}

fn open(config: &SpoolConfig) -> Result<OwnedFd, SpoolError> {
    let folder = || config.folder.clone();
    let failed = |error: io::Error| SpoolError::Open {
        folder: folder(),
        error,
    };
    let real = std::fs::canonicalize(&config.folder).map_err(failed)?;
    if real != config.folder {
        return Err(SpoolError::Linked {
            folder: folder(),
            real,
        });
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&config.folder, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let found = rustix::fs::fstat(&opened).map_err(|e| failed(e.into()))?;
    let (own, mode) = (rustix::process::geteuid().as_raw(), found.st_mode & 0o7777);
    // SECURITY: whoever else could write here could put his own file in the place of somebody's proxy.
    if found.st_uid != own || mode & 0o022 != 0 {
        return Err(SpoolError::Shared {
            folder: folder(),
            owner: found.st_uid,
            mode,
            own,
        });
    }
    // SECURITY: a name that nobody can guess is not to be read off the folder either.
    if mode & 0o044 != 0 {
        return Err(SpoolError::Listed {
            folder: folder(),
            mode,
        });
    }
    // SECURITY: the tool goes by the path; whoever could rename a part of it could show the tool a folder of his own.
    for (depth, above) in config.folder.ancestors().skip(1).enumerate() {
        let found = rustix::fs::stat(above).map_err(|e| failed(e.into()))?;
        let (owner, mode) = (found.st_uid, found.st_mode & 0o7777);
        let foreign = depth == 0 && owner != own && owner != 0;
        if foreign || (mode & 0o022 != 0 && mode & 0o1000 == 0) {
            return Err(SpoolError::Above {
                folder: folder(),
                above: above.to_owned(),
                owner,
                mode,
            });
        }
    }
    Ok(opened)
}

/// A folder in use.
pub(super) struct Folder {
    config: SpoolConfig,
    at: OwnedFd,
    random: Arc<dyn Random>,
    /// What lies there, and from when on it is to be removed: the end of the proxy in it, or at once where that failed before.
    files: Mutex<HashMap<String, Timestamp>>,
}

impl Folder {
    /// Takes a folder into use, for this gateway alone, and removes what one before it left there.
    pub(super) fn take(config: SpoolConfig, random: Arc<dyn Random>) -> Result<Self, SpoolError> {
        let at = open(&config)?;
        rustix::fs::flock(&at, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| SpoolError::Taken(config.folder.clone()))?;
        let folder = Self {
            config,
            at,
            random,
            files: Mutex::default(),
        };
        let left = folder.clear().map_err(|error| SpoolError::Open {
            folder: folder.config.folder.clone(),
            error,
        })?;
        if left > 0 {
            let folder = folder.config.folder.display();
            tracing::warn!("{left} proxies were left in the spool folder `{folder}`; they are removed now");
        }
        Ok(folder)
    }

    /// Removes every file of ours. The folder's lock says that nobody uses them.
    fn clear(&self) -> io::Result<usize> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.at)? {
            let entry = entry?;
            let name = entry.file_name().to_str().unwrap_or_default().to_owned();
            if is_ours(&name) && entry.file_type() != FileType::Directory {
                names.push(name);
            }
        }
        for name in &names {
            rustix::fs::unlinkat(&self.at, name, AtFlags::empty())?;
        }
        Ok(names.len())
    }

    /// Puts a proxy there; the file is whole when it has its name.
    fn put(self: &Arc<Self>, pem: &Secret<Vec<u8>>, not_after: Timestamp) -> Result<Spooled, SpoolError> {
        let name = HEXLOWER.encode(&random_bytes::<16>(&*self.random)?);
        let name = format!("{PREFIX}{name}{SUFFIX}");
        let part = format!(".{name}{PART}");
        // From here on the file goes when this is dropped, also when it never gets its name.
        let spooled = Spooled {
            folder: self.clone(),
            name: name.clone(),
        };
        self.lock().insert(name.clone(), not_after);
        let written = self.write(&part, pem).and_then(|()| {
            rustix::fs::renameat(&self.at, &part, &self.at, &name)?;
            Ok(())
        });
        written.map_err(|error| {
            let _ = rustix::fs::unlinkat(&self.at, &part, AtFlags::empty());
            let folder = self.config.folder.display();
            tracing::error!("a proxy could not be put into the spool folder `{folder}`: {error}");
            SpoolError::Put {
                name: self.config.name.clone(),
            }
        })?;
        Ok(spooled)
    }

    fn write(&self, part: &str, pem: &Secret<Vec<u8>>) -> io::Result<()> {
        // SECURITY: it is made here and now (EXCL also refuses a symbolic link), and nobody else reads it before it is whole.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.at, part, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        file.write_all(pem.expose())?;
        // The group before the mode that lets it read, and the owner last: an account gives its own files away only once.
        if let Some(group) = self.config.group {
            rustix::fs::fchown(&file, None, Some(Gid::from_raw(group)))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(self.config.mode))?;
        if let Some(owner) = self.config.owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(owner)), None)?;
        }
        Ok(())
    }

    /// Removes a file, if it is still there; what cannot be removed is tried again.
    fn remove(&self, name: &str) {
        match rustix::fs::unlinkat(&self.at, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => drop(self.lock().remove(name)),
            Err(error) => {
                self.lock().insert(name.to_owned(), Timestamp(i64::MIN));
                let folder = self.config.folder.display();
                tracing::error!("`{name}` could not be removed from the spool folder `{folder}`: {error}");
            }
        }
    }

    fn remove_ended(&self, now: Timestamp) {
        let ended: Vec<String> = self
            .lock()
            .iter()
            .filter(|(_, not_after)| **not_after <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            self.remove(&name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        // INVARIANT: nothing panics while the map is half changed.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Folder({})", self.config.name)
    }
}

/// Whether the gateway made a file of this name.
fn is_ours(name: &str) -> bool {
    let whole = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(PART))
        .unwrap_or(name);
    let middle = whole
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX));
    middle.is_some_and(|middle| {
        middle.len() == 32
            && middle
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// The folder that a tool's proxies are put into; two are equal when they are the same.
#[derive(Clone, Debug)]
pub(super) struct Spool(Arc<Folder>);

impl PartialEq for Spool {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Spool {}

/// A proxy that is to be put into a folder for one request.
pub struct ToSpool {
    spool: Spool,
    /// The PEM file in base64.
    file: Secret<String>,
    not_after: Timestamp,
}

impl ToSpool {
    pub(super) fn new(spool: &Spool, file: &Secret<String>, not_after: Timestamp) -> Self {
        Self {
            spool: spool.clone(),
            file: file.clone(),
            not_after,
        }
    }

    /// Puts it there. The file goes when what this gives is dropped.
    ///
    /// # Errors
    /// [`SpoolError`]; then nothing lies there.
    pub async fn put(self) -> Result<Spooled, SpoolError> {
        let (folder, name) = (self.spool.0, self.file);
        let lost = SpoolError::Put {
            name: folder.config.name.clone(),
        };
        let not_after = self.not_after;
        // Files are no business of a lane.
        let put = tokio::task::spawn_blocking(move || {
            let pem = BASE64.decode(name.expose().as_bytes()).unwrap_or_default();
            folder.put(&Secret::new(pem), not_after)
        });
        put.await.unwrap_or(Err(lost))
    }
}

impl fmt::Debug for ToSpool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToSpool({})", self.spool.0.config.name)
    }
}

/// A proxy that lies in a folder until this is dropped.
#[derive(Debug)]
pub struct Spooled {
    folder: Arc<Folder>,
    name: String,
}

impl Spooled {
    /// What the tool is told: where the file is.
    #[must_use]
    pub fn told(&self) -> Credential {
        let path = self.folder.config.folder.join(&self.name);
        Credential::Header {
            name: FILE,
            value: Secret::new(path.display().to_string()),
        }
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.folder.remove(&self.name);
    }
}

/// All folders, by name.
pub(super) type Spools = BTreeMap<String, Spool>;

/// How a tool is given authority, as records call it.
pub(super) fn way(tool: &Tool) -> &'static str {
    match tool.spool {
        Some(_) => "spool",
        None => tool.delegation.as_str(),
    }
}

impl Delegate {
    /// The same, with the spool folders of its settings, which are this gateway's alone from then on.
    ///
    /// # Errors
    /// [`SpoolError`] for the first that cannot be used.
    ///
    /// `list` is the file that lists them, so that none is forgotten when the settings name it no more.
    pub fn spooling(mut self, list: &Path) -> Result<Self, SpoolError> {
        forsaken::remove(list, &self.config.spool, self.ids.random())?;
        for config in &self.config.spool {
            let folder = Folder::take(config.clone(), self.ids.random().clone())?;
            self.spools.insert(config.name.clone(), Spool(Arc::new(folder)));
        }
        Ok(self)
    }

    /// Removes the files whose proxies have ended.
    pub(super) fn sweep_spools(&self, now: Timestamp) {
        for spool in self.spools.values() {
            spool.0.remove_ended(now);
        }
    }

    /// The folder that this tool's proxies are put into, where its manifest asks for one.
    ///
    /// # Errors
    /// [`DelegateError::NoSpool`] when the settings have none for it; [`DelegateError::FarTool`] when the tool is elsewhere.
    pub(super) fn spool_for(&self, vo: &VoRef, tool: &Tool) -> Result<Option<Spool>, DelegateError> {
        let Some(name) = &tool.spool else {
            return Ok(None);
        };
        // SECURITY: where files may be is the settings' to say, and for whom; a manifest only picks.
        let allowed = |spool: &&Spool| {
            let vos = &spool.0.config.vos;
            vos.is_empty() || vos.contains(&vo.name)
        };
        let spool = self.spools.get(name).filter(allowed);
        let spool = spool.ok_or_else(|| DelegateError::NoSpool {
            name: name.clone(),
            vo: vo.name.clone(),
        })?;
        let directory = self.directory.load();
        let address = match &tool.target {
            ToolTarget::Upstream(upstream) => directory.upstream(vo.id, upstream).map(|found| &found.address),
            ToolTarget::Local(_) => None,
        };
        match address {
            Some(address) if !is_here(address) => Err(DelegateError::FarTool),
            _ => Ok(Some(spool.clone())),
        }
    }
}

/// Whether an address is on this machine.
fn is_here(address: &UpstreamAddress) -> bool {
    let (UpstreamAddress::Tcp(host, _) | UpstreamAddress::Tls { host, .. }) = address else {
        return true;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
