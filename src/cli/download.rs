//! `countersign proxy get`: a proxy file for grid tools that know of no gateway.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use clap::{Args, ValueEnum};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::Serialize;
use zeroize::Zeroizing;

use super::client::Client;
use super::failure::Failure;
use super::output::Output;
use crate::api::person::me::{MeView, MyVo};
use crate::api::proxy::download::{ProxyDownload, ProxyDownloaded};
use crate::delegate::DOWNLOAD;
use crate::settings::duration_of;
use crate::vo::OWN_TOOL;

/// Downloads a proxy for grid tools that know of no gateway.
///
/// It is written into the file in which they look for it, readable by you alone. Its private key is made here and never
/// leaves this machine. What is done with it is done in the virtual organisation's name and leaves no record at the gateway:
/// keep it short, and revoke it when it is lost. The virtual organisation must allow it (task proxy.download).
///
/// Examples:
///   countersign proxy get
///   countersign proxy get --vo imaging --lifetime 2h
///   countersign proxy get --key p256 --out proxy.pem
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Get {
    /// Name of the virtual organisation; needed where more than one lets you download.
    #[arg(long)]
    vo: Option<String>,
    /// How long it is to live at most, e.g. 30m or 2h; as long as the virtual organisation allows when not given.
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    lifetime: Option<Duration>,
    /// Kind of key. Every grid service takes RSA; GridFTP, xrootd and MyProxy take nothing else.
    #[arg(long, value_enum, default_value_t = Key::Rsa2048)]
    key: Key,
    /// Where to write it; $X509_USER_PROXY when not given, else /tmp/x509up_u and the number of your account.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Key {
    Rsa2048,
    P256,
}

/// What was downloaded, as `--json` prints it.
#[derive(Serialize)]
struct Downloaded {
    file: String,
    vo: String,
    serial: String,
    not_after: String,
}

/// Runs the command.
pub(super) async fn run(client: &Client, args: Get, out: Output) -> Result<(), Failure> {
    let vo = match args.vo {
        Some(vo) => vo,
        None => only_vo(client.task("person.me").fetch::<MeView>().await?.vos)?,
    };
    let key = key_pair(args.key)?;
    let request = CertificateParams::new(Vec::new())?
        .serialize_request(&key)?
        .pem()?;
    let body = ProxyDownload {
        request,
        lifetime: args.lifetime.map(|time| time.as_secs()),
    };
    let got: ProxyDownloaded = client.task(DOWNLOAD).at("vo", &vo).send(&body).await?;
    let file = args.out.unwrap_or_else(|| {
        usual_file(
            std::env::var_os("X509_USER_PROXY"),
            rustix::process::getuid().as_raw(),
        )
    });
    write(
        &file,
        &proxy_file(&got.chain, &Zeroizing::new(key.serialize_pem()))?,
    )?;
    let downloaded = Downloaded {
        file: file.display().to_string(),
        vo,
        serial: got.serial,
        not_after: got.not_after,
    };
    out.show(&downloaded, |out, got| {
        out.line(format!(
            "a proxy of {} is in `{}` until {} (serial {})",
            got.vo, got.file, got.not_after, got.serial
        ))
    })?;
    Ok(())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    duration_of(text)
        .filter(|time| time.as_secs() >= 60)
        .ok_or_else(|| "give at least 60s, e.g. 30m or 2h".to_owned())
}

/// The only VO that lets somebody download; where none does, the only one that she is in, which then says why not.
fn only_vo(vos: Vec<MyVo>) -> Result<String, Failure> {
    let downloads = |vo: &MyVo| {
        let mut may = vo.may.iter();
        may.any(|may| may.tool == OWN_TOOL && may.task == DOWNLOAD)
    };
    let (giving, others): (Vec<MyVo>, Vec<MyVo>) = vos.into_iter().partition(downloads);
    let names = |vos: Vec<MyVo>| vos.into_iter().map(|vo| vo.vo).collect::<Vec<_>>();
    match (names(giving).as_slice(), names(others).as_slice()) {
        ([name], _) | ([], [name]) => Ok(name.clone()),
        ([], _) => Err(Failure {
            code: 3,
            ..Failure::failed("no virtual organisation lets you download proxies")
        }),
        (several, _) => Err(Failure::usage(format!(
            "say of which virtual organisation with --vo: {}",
            several.join(", ")
        ))),
    }
}

fn key_pair(kind: Key) -> Result<KeyPair, Failure> {
    Ok(match kind {
        Key::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        Key::Rsa2048 => {
            let no_key = |_| Failure::failed("no key could be made");
            let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).map_err(no_key)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(no_key)?;
            KeyPair::try_from(der.as_ref())?
        }
    })
}

/// The file in which grid tools look for the proxy of an account.
fn usual_file(named: Option<OsString>, account: u32) -> PathBuf {
    match named {
        Some(file) if !file.is_empty() => PathBuf::from(file),
        _ => PathBuf::from(format!("/tmp/x509up_u{account}")),
    }
}

/// Certificate, key, and the certificates above: the order that all grid tools read.
fn proxy_file(chain: &str, key: &str) -> Result<Zeroizing<String>, Failure> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let (first, above) = chain
        .split_once(END)
        .ok_or_else(|| Failure::failed("the gateway's answer holds no certificate"))?;
    Ok(Zeroizing::new(format!("{first}{END}{key}{above}")))
}

/// Writes a file that its owner alone can read, in place of what stood there.
///
/// SECURITY: its usual folder is everybody's. The file is new, under a name that nobody can foresee, before anything stands
/// in it, and takes the place of whatever was put under the name that everybody knows, be it a link.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let cannot = |error: std::io::Error| {
        Failure::failed(format!("cannot write `{}`: {error}", file.display()))
            .hint("choose another one with --out FILE")
    };
    // The crate makes it with mode 0600.
    let mut new = tempfile::Builder::new()
        .prefix(".x509up-")
        .tempfile_in(folder)
        .map_err(cannot)?;
    new.write_all(text.as_bytes()).map_err(cannot)?;
    new.as_file().sync_all().map_err(cannot)?;
    new.persist(file).map_err(|failed| cannot(failed.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn the_file_is_where_grid_tools_look_for_it() {
        let named = |name: &str| usual_file(Some(name.into()), 1000);
        assert_eq!(named("/home/john/proxy"), Path::new("/home/john/proxy"));
        assert_eq!(named(""), Path::new("/tmp/x509up_u1000"));
        assert_eq!(usual_file(None, 0), Path::new("/tmp/x509up_u0"));
    }

    #[test]
    fn the_key_stands_behind_its_certificate_and_before_those_above() {
        let block = |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n");
        let chain = block("one") + &block("two");
        let file = proxy_file(&chain, "KEY\n").unwrap();
        assert_eq!(*file, block("one") + "KEY\n" + &block("two"));
        assert!(proxy_file("", "KEY\n").is_err());
    }

    #[test]
    fn a_link_that_somebody_put_there_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, file) = (folder.path().join("target"), folder.path().join("x509up"));
        std::fs::write(&target, "somebody's").unwrap();
        symlink(&target, &file).unwrap();
        write(&file, "proxy").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "somebody's");
        let meta = std::fs::symlink_metadata(&file).unwrap();
        assert!(meta.is_file());
        assert_eq!(meta.mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "proxy");
        // Nothing is left beside it, and what cannot be written says so.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(write(folder.path(), "proxy").is_err());
    }

    #[test]
    fn the_vo_is_named_where_there_are_several() {
        let vo = |name: &str, task: Option<&str>| MyVo {
            vo: name.to_owned(),
            roles: Vec::new(),
            may: task
                .map(|task| crate::api::person::me::MayView {
                    tool: OWN_TOOL.to_owned(),
                    task: task.to_owned(),
                    conditions: Vec::new(),
                    roles: Vec::new(),
                })
                .into_iter()
                .collect(),
        };
        let (a, b) = (vo("a", Some(DOWNLOAD)), vo("b", Some("other")));
        assert_eq!(only_vo(vec![a.clone(), b.clone()]).unwrap(), "a");
        assert_eq!(only_vo(vec![b.clone()]).unwrap(), "b");
        assert!(only_vo(vec![b, vo("c", None)]).is_err());
        let several = only_vo(vec![a, vo("c", Some(DOWNLOAD))]).unwrap_err();
        assert!(several.message.contains("a, c"), "{}", several.message);
    }

    #[test]
    fn a_lifetime_is_read_with_its_unit() {
        assert_eq!(lifetime("2h"), Ok(Duration::from_secs(7_200)));
        assert!(lifetime("30s").is_err() && lifetime("long").is_err());
    }
}
