//! `countersign init`: makes a data folder, from nothing to ready in a second.
//!
//! Everything is made in a folder beside the final one and renamed at the very end, so that a failure leaves nothing
//! behind. An existing folder is never touched.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output::Output;
use crate::audit::{self, Audit, LogKey};
use crate::authenticate::Authenticate;
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::delegate::Delegate;
use crate::id::{Ids, RequestId, SystemSource, random_bytes};
use crate::record::{Change, ChangeEvent, Event};
use crate::secret::Secret;
use crate::store::Db;
use crate::trust::authority::{self, Issued, Names};
use crate::trust::certificate::{Source as PemSource, Use};
use crate::trust::seal::SealingKey;
use crate::trust::tls::Identity;
use crate::vo::{CardFields, Directory, DirectoryHandle, SYSTEM_ADMINISTRATOR, Vos, is_name, is_username};

/// Makes a data folder: settings, keys, a private CA for first use, a store, a first virtual organisation and its
/// administrator.
///
/// Examples:
///   countersign init --data /srv/countersign --admin anna --admin-mail anna@example.org --vo imaging
///   countersign init --data ./try --admin anna --throwaway
///   countersign init --data /srv/cs --admin anna --name gw.example.org --certificate fullchain.pem --key key.pem
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Init {
    /// The folder to make; it must not exist, or be empty.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// User name of the first administrator (of the system and of the first VO).
    #[arg(long, value_name = "NAME")]
    admin: String,
    /// Full name of the first administrator, for the card.
    #[arg(long, value_name = "TEXT")]
    admin_name: Option<String>,
    /// Mail address of the first administrator: alerts go there.
    #[arg(long, value_name = "MAIL")]
    admin_mail: Option<String>,
    /// Name of the first virtual organisation.
    #[arg(long, value_name = "NAME", default_value = "first")]
    vo: String,
    /// Host name of the gateway; tools get names below it.
    #[arg(long, value_name = "HOST", default_value = "gw.localhost")]
    name: String,
    /// Address to listen on; loopback until you say otherwise.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Address of the operations listener (health, metrics).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8444")]
    operations: SocketAddr,
    /// PostgreSQL instead of the embedded store: a file that holds one line, postgres://...
    #[arg(long, value_name = "FILE")]
    store_url_file: Option<PathBuf>,
    /// Server certificate chain (PEM) to use instead of one from the private CA.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Where the sealing key is to lie, outside the data folder: made there, or used if one is there. When not given, a key of
    /// its own is made in /etc/countersign (as root) or in ~/.config/countersign.
    #[arg(long, value_name = "FILE", conflicts_with = "throwaway")]
    sealing_key: Option<PathBuf>,
    /// Put the sealing key inside the data folder. Only for trying things out.
    #[arg(long)]
    throwaway: bool,
    /// Who gets a checkpoint of the audit log by mail every day.
    #[arg(long, value_name = "MAIL")]
    auditor: Option<String>,
}

/// What `init` made.
#[derive(Debug, Serialize)]
pub(crate) struct Made {
    data: PathBuf,
    gateway: String,
    ca: Option<PathBuf>,
    ca_sha256: Option<String>,
    log_key: String,
    sealing_key: PathBuf,
    vo: String,
    admin: String,
    one_time_password: String,
    auditor: Option<String>,
    login: String,
}

/// Runs the command.
pub(super) async fn run(args: Init, out: Output) -> Result<(), Failure> {
    let made = make(&args).await?;
    out.show(&made, |out, made| {
        out.pairs(&[
            ("Data folder", made.data.display().to_string()),
            ("Gateway", format!("{} (listens on {})", made.gateway, args.listen)),
            ("Sealing key", made.sealing_key.display().to_string()),
            ("Log key", made.log_key.clone()),
            ("Administrator", format!("{} (of the system, and of the virtual organisation {})", made.admin, made.vo)),
            ("One-time password", format!("{}   (good for choosing your own, for 7 days)", made.one_time_password)),
        ])?;
        if let (Some(ca), Some(sha256)) = (&made.ca, &made.ca_sha256) {
            out.pairs(&[("Private CA", ca.display().to_string()), ("  SHA-256", sha256.clone())])?;
            out.line("  for first use: 90 days, bound to this host's names, its key is gone")?;
        }
        match &made.auditor {
            Some(auditor) => out.line(format!("Checkpoints of the audit log go to {auditor} every day."))?,
            None => out.line(
                "No checkpoint of the audit log leaves this machine: tampering by whoever owns it cannot be shown.\n\
                 Name an auditor (`[alert] auditor` in countersign.toml), a witness (`[audit] witness`) or a file elsewhere (`[audit] outside`).",
            )?,
        }
        out.line(format!("\nNext:\n  countersign serve --data {}\n  {}", made.data.display(), made.login))
    })?;
    Ok(())
}

/// Makes the folder; also used by the quickstart.
async fn make(args: &Init) -> Result<Made, Failure> {
    check(args)?;
    let data = absolute(&args.data)?;
    let parent = data.parent().unwrap_or(Path::new("/")).to_owned();
    let staging = fs::create_dir_all(&parent)
        .and_then(|()| {
            tempfile::Builder::new()
                .prefix(".countersign-init-")
                .permissions(fs::Permissions::from_mode(0o700))
                .tempdir_in(&parent)
        })
        .map_err(|error| not_made(&data, &error))?;
    let (sealing_path, mut undo) = sealing_key(args, &data, staging.path())?;
    let made = fill(args, staging.path(), &data, &sealing_path).await?;
    if data.exists() {
        fs::remove_dir(&data)?; // it is empty: `check` saw to that, and `remove_dir` takes nothing else
    }
    fs::rename(staging.path(), &data)?;
    let _ = staging.keep();
    fs::File::open(&parent)?.sync_all()?;
    undo.keep();
    Ok(made)
}

/// A folder or file that this account may not make.
fn not_made(path: &Path, error: &std::io::Error) -> Failure {
    let folder = path.parent().unwrap_or(path).display();
    // Its own words name a file with a random name.
    let error = error
        .get_ref()
        .and_then(|inner| inner.source())
        .map_or_else(|| error.to_string(), ToString::to_string);
    Failure::failed(format!("`{}` cannot be made: {error}", path.display())).hint(format!(
        "nothing was changed; this account must be able to write in `{folder}`: make that folder and give it to the \
         account that is to run the gateway, or choose another place"
    ))
}

fn check(args: &Init) -> Result<(), Failure> {
    if !is_name(&args.vo) {
        return Err(
            Failure::usage(format!("`{}` cannot name a virtual organisation", args.vo))
                .hint("a to z, 0 to 9 and hyphens, at most 40, and not a reserved word"),
        );
    }
    if !is_username(&args.admin) {
        return Err(Failure::usage(format!("`{}` cannot be a user name", args.admin))
            .hint("a to z, 0 to 9, `.`, `-` and `_`, 2 to 40, beginning with a letter"));
    }
    if args.data.exists() && (!args.data.is_dir() || fs::read_dir(&args.data)?.next().is_some()) {
        return Err(
            Failure::failed(format!("`{}` is there already", args.data.display())).hint(
                "nothing was changed; choose another folder, or serve this one with `countersign serve`",
            ),
        );
    }
    Ok(())
}

async fn fill(args: &Init, folder: &Path, data: &Path, sealing: &Path) -> Result<Made, Failure> {
    let clock = SystemClock::shared();
    let ids = Ids::new(clock.clone(), std::sync::Arc::new(SystemSource::new()));
    for name in ["tls", "keys", "log", "outbox"] {
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(folder.join(name))?;
    }
    let issued = authority::issue(&names(args), &args.vo, &ids)?;
    let own_ca = server_identity(args, folder, &issued)?;
    let log_key = LogKey::generate(&**ids.random())?;
    let origin = config::log_origin(&args.name);
    log_key.save(&folder.join("keys/log.key"), &origin)?;
    private(
        &folder.join("keys/records.key"),
        Secret::new(crate::body::hex(&random_bytes::<32>(&**ids.random())?)).expose(),
    )?;
    write(&folder.join("countersign.toml"), &settings(args, data, sealing))?;

    let config = Config::load(folder)?;
    let sealing_key = SealingKey::load(sealing)?;
    let db = config.store.open(folder).await?;
    let request: RequestId = ids.next()?;
    let (changes, one_time) = people(args, &config, &db, &ids, (&issued, sealing_key), request).await?;
    let public = fs::read_to_string(folder.join("keys/log.pub"))?.trim().to_owned();

    // The first records of the log: who made what, before anything is served.
    let opened = Audit::open(
        audit::Config {
            allow_any_fs: true,
            ..config.audit_in(folder)
        },
        log_key,
        &origin,
        ids,
    )?;
    let events = changes
        .into_iter()
        .map(|change| Event::Change(Box::new(ChangeEvent::of(request, change))))
        .collect();
    opened.audit.write_all(events).await?;
    opened.audit.close("initialised").await;
    db.close().await;

    let gateway = config::origin(&args.name, args.listen.port());
    let ca = own_ca.then(|| data.join("tls/ca.pem"));
    let trust = ca
        .as_ref()
        .map(|ca| format!(" --ca {}", ca.display()))
        .unwrap_or_default();
    Ok(Made {
        login: format!(
            "countersign login --gateway {gateway}{trust} --user {}",
            args.admin
        ),
        data: data.to_owned(),
        gateway,
        ca_sha256: own_ca.then(|| issued.ca_sha256.to_string()),
        ca,
        log_key: public,
        sealing_key: if args.throwaway {
            data.join("keys/sealing.key")
        } else {
            sealing.to_owned()
        },
        vo: args.vo.clone(),
        admin: args.admin.clone(),
        one_time_password: one_time.expose().clone(),
        auditor: args.auditor.clone(),
    })
}

/// The gateway level, the first person, the first VO with a throw-away certificate: one transaction.
async fn people(
    args: &Init,
    config: &Config,
    db: &Db,
    ids: &Ids,
    (issued, sealing): (&Issued, SealingKey),
    request: RequestId,
) -> Result<(Vec<Change>, Secret<String>), Failure> {
    let vos = Vos::new(db.clone(), DirectoryHandle::default(), ids.clone());
    let authenticate =
        Authenticate::open(db.clone(), vos.handle(), ids.clone(), config.authenticate.clone()).await?;
    let delegate = Delegate::new(
        config.delegate.clone(),
        db.clone(),
        Some(sealing),
        ids.clone(),
        String::new(),
    );
    let one_time = authenticate.one_time_password().await?;
    let mut tx = db.begin_write().await?;
    let mut changes = vec![vos.establish(&mut tx).await?];
    let fields = CardFields {
        name: args.admin_name.clone().unwrap_or_else(|| args.admin.clone()),
        mail: args.admin_mail.clone(),
        organisation: None,
    };
    let (person, change) = vos
        .add_person(&mut tx, Directory::gateway(), &args.admin, &fields)
        .await?;
    changes.push(change);
    changes.push(
        vos.assign(&mut tx, Directory::gateway(), SYSTEM_ADMINISTRATOR, person, None)
            .await?,
    );
    let (vo, change) = vos.create_vo(&mut tx, &args.vo, person).await?;
    changes.push(change);
    let one_time = authenticate
        .first_password(&mut tx, person, Directory::gateway(), one_time)
        .await?;
    let certificate = PemSource {
        name: "the throw-away VO certificate",
        text: &issued.vo.certificate,
    };
    let key = PemSource {
        name: "its key",
        text: issued.vo.key.expose(),
    };
    changes.push(
        delegate
            .import_certificate(&mut tx, (vo, Use::Tools), certificate, key, None)
            .await?
            .change,
    );
    changes.push(delegate.new_assertion_key(&mut tx).await?);
    tx.applied(request, ids.clock().now()).await?;
    tx.commit().await?;
    Ok((changes, one_time))
}

/// Writes the server's certificate and key; says whether they are from the private CA.
fn server_identity(args: &Init, folder: &Path, issued: &Issued) -> Result<bool, Failure> {
    let (certificate, key) = match (&args.certificate, &args.key) {
        (Some(certificate), Some(key)) => {
            Identity::load(certificate, key)?;
            (
                fs::read_to_string(certificate)?,
                Secret::new(fs::read_to_string(key)?),
            )
        }
        _ => {
            write(&folder.join("tls/ca.pem"), &issued.ca)?;
            (issued.server.certificate.clone(), issued.server.key.clone())
        }
    };
    write(&folder.join("tls/server.pem"), &certificate)?;
    private(&folder.join("tls/server.key"), key.expose())?;
    Ok(args.certificate.is_none())
}

fn names(args: &Init) -> Names {
    let mut names = Names::loopback();
    for name in [args.name.clone(), format!("*.{}", args.name)] {
        if !names.dns.contains(&name) {
            names.dns.push(name);
        }
    }
    if !args.listen.ip().is_unspecified() && !names.ips.contains(&args.listen.ip()) {
        names.ips.push(args.listen.ip());
    }
    names
}

fn settings(args: &Init, data: &Path, sealing: &Path) -> String {
    let sealing = if args.throwaway {
        PathBuf::from("keys/sealing.key")
    } else {
        sealing.to_owned()
    };
    let mut chosen = config::Chosen {
        listen: args.listen.to_string(),
        operations: args.operations.to_string(),
        name: args.name.clone(),
        sealing_key: sealing.display().to_string(),
        private_ca: args.certificate.is_none(),
        ..config::Chosen::default()
    };
    chosen.auditor.clone_from(&args.auditor);
    chosen.store_url_file = args
        .store_url_file
        .as_ref()
        .map(|file| file.display().to_string());
    let _ = data;
    config::template(&chosen)
}

/// Where the sealing key is to lie, made there unless the command line names one that is there; undone when `init` fails.
fn sealing_key(args: &Init, data: &Path, staging: &Path) -> Result<(PathBuf, Undo), Failure> {
    let path = match (&args.sealing_key, args.throwaway) {
        (_, true) => {
            fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(staging.join("keys"))?;
            staging.join("keys/sealing.key")
        }
        (Some(path), false) => absolute(path)?,
        (None, false) => default_sealing_key()?,
    };
    if !args.throwaway && path.starts_with(data) {
        return Err(Failure::usage("the sealing key must lie outside the data folder")
            .hint("whoever takes the folder must not have the key; --throwaway is for trying things out"));
    }
    let undo = make_key(&path, args.sealing_key.is_some())?;
    Ok((path, undo))
}

/// Makes a sealing key at `path`; one that is there is taken where the command line names it.
fn make_key(path: &Path, named: bool) -> Result<Undo, Failure> {
    if path.exists() {
        // SECURITY: two gateways share a key only where somebody says so: who takes the one then opens the other.
        if !named {
            let shown = path.display();
            return Err(Failure::failed(format!(
                "there is a sealing key in `{shown}` already, of another gateway or of one that was here before"
            ))
            .hint(format!(
                "nothing was changed; --sealing-key FILE makes one for this gateway elsewhere (`--sealing-key {shown}` \
                 shares it); if nothing needs it any more, move it away"
            )));
        }
        SealingKey::load(path)?;
        return Ok(Undo(None));
    }
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(folder)
            .map_err(|error| not_made(path, &error))?;
    }
    SealingKey::generate(&SystemSource::new())?.write(path)?;
    Ok(Undo(Some(path.to_owned())))
}

/// `/etc/countersign/sealing.key` as root, else below `$XDG_CONFIG_HOME`.
fn default_sealing_key() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/etc/countersign/sealing.key"));
    }
    Ok(super::profile::Profile::folder()?.join("sealing.key"))
}

/// Removes a file that was made, unless everything went well.
#[derive(Debug)]
struct Undo(Option<PathBuf>);

impl Undo {
    fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path)?)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    put(path, text, 0o644)
}

fn private(path: &Path, text: &str) -> std::io::Result<()> {
    put(path, text, 0o600)
}

fn put(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gateway_does_not_share_the_first_ones_sealing_key_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("countersign/sealing.key");
        make_key(&path, false).unwrap().keep();
        let first = fs::read(&path).unwrap();
        let refused = make_key(&path, false).unwrap_err();
        assert!(refused.message.contains("sealing.key` already"), "{refused}");
        assert!(refused.hint.unwrap().contains("--sealing-key FILE"));
        drop(make_key(&path, true).unwrap());
        assert_eq!(
            fs::read(&path).unwrap(),
            first,
            "named, it is shared; and it stays when `init` fails"
        );
    }
}
