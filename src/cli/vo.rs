//! `countersign vo`: virtual organisations and their certificates.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::ceiling::{self, Ceiling};
use super::client::Client;
use super::failure::Failure;
use super::input::{Reason, bytes, password, secret_file, text_file};
use super::output::{Output, words};
use crate::api::certificate::CertificateUse;
use crate::api::certificate::import::{CertificateImport, CertificateImported};
use crate::api::certificate::list::{CertificateList, CertificateView};
use crate::api::proxy_identity::{ProxyIdentityView, Tells};
use crate::api::proxy_limit::list::ProxyLimitList;
use crate::api::proxy_limit::set::ProxyLimitSet;
use crate::api::state::DoubtView;
use crate::api::state::accept::StateAccept;
use crate::api::vo::VoView;
use crate::api::vo::create::VoCreate;
use crate::secret::Secret;
use crate::trust::pkcs12;

/// Virtual organisations.
#[derive(Debug, Subcommand)]
pub(crate) enum Vo {
    Create(Create),
    List(List),
    Show(Show),
    /// Stops everything in a virtual organisation until it is resumed: its tools, its administration, its roles. Its
    /// people stay signed in and keep their other virtual organisations. Proxies that tools have already are revoked. For
    /// system administrators.
    ///
    /// Examples:
    ///   countersign vo suspend imaging --reason 'incident 12'
    #[command(verbatim_doc_comment)]
    Suspend(Named),
    /// Opens a suspended virtual organisation again.
    ///
    /// Examples:
    ///   countersign vo resume imaging
    #[command(verbatim_doc_comment)]
    Resume(Named),
    /// The certificates from which proxies are minted.
    #[command(subcommand)]
    Certificate(Certificate),
    /// How long proxies may live.
    #[command(subcommand)]
    ProxyLimit(ProxyLimit),
    /// What proxies say of their person.
    #[command(subcommand)]
    ProxyIdentity(ProxyIdentity),
    /// What a virtual organisation may grant at all.
    #[command(subcommand)]
    Ceiling(Ceiling),
    /// What was changed in the database past the gateway.
    #[command(subcommand)]
    State(State),
}

/// How long proxies may live.
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyLimit {
    List(ListLimits),
    Set(SetLimit),
}

/// Shows how long proxies may live in a virtual organisation, and those of its roles.
///
/// Examples:
///   countersign vo proxy-limit list imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ListLimits {
    /// Name of the virtual organisation.
    vo: String,
}

/// Limits how long proxies live in a virtual organisation, or those of a role's holders.
///
/// The shortest of what applies holds: `[delegation] max_lifetime`, the virtual organisation, each role that somebody holds, the
/// tool's manifest, the end of the virtual organisation's certificate. A proxy that is in use is replaced with the next request.
///
/// Examples:
///   countersign vo proxy-limit set imaging --seconds 7200 --reason 'provider asks for it'
///   countersign vo proxy-limit set imaging --role student --seconds 900 --reason course
///   countersign vo proxy-limit set imaging --role student --none --reason 'the course is over'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct SetLimit {
    /// Name of the virtual organisation.
    vo: String,
    /// Of the holders of this role only.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Longest life in seconds, 300 or more.
    #[arg(long, value_name = "SECONDS", required_unless_present = "none")]
    seconds: Option<u64>,
    /// Take the limit away.
    #[arg(long, conflicts_with = "seconds")]
    none: bool,
    #[command(flatten)]
    reason: Reason,
}

/// What proxies say of their person.
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyIdentity {
    Show(ShowIdentity),
    Set(SetIdentity),
}

/// Shows what the proxies of a virtual organisation say of their person.
///
/// Examples:
///   countersign vo proxy-identity show imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ShowIdentity {
    /// Name of the virtual organisation.
    vo: String,
}

/// Chooses what the proxies of a virtual organisation say of their person, to whoever reads them.
///
/// Nothing unless it is chosen: then only a trace leads from a proxy to its person. A proxy that is in use is replaced with the next
/// request; what was handed out before keeps what it says, and so does every log that a resource writes of it.
///
/// Examples:
///   countersign vo proxy-identity set imaging username --reason 'the site keeps quotas by name'
///   countersign vo proxy-identity set imaging opaque --reason 'the site does not need it any more'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct SetIdentity {
    /// Name of the virtual organisation.
    vo: String,
    /// What they say.
    #[arg(value_enum)]
    tells: Telling,
    #[command(flatten)]
    reason: Reason,
}

/// What proxies say of their person.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Telling {
    /// Nothing.
    Opaque,
    /// Her id.
    Id,
    /// Her id and her user name.
    Username,
}

/// What was changed in the database past the gateway.
#[derive(Debug, Subcommand)]
pub(crate) enum State {
    /// Shows what was changed in the database past the gateway. For system administrators.
    ///
    /// The database is held against the audit log: for each virtual organisation (and the gateway's own level) that does not
    /// fit, what differs, and what is in force meanwhile.
    ///
    /// Examples:
    ///   countersign vo state show
    #[command(verbatim_doc_comment)]
    Show,
    Accept(Accept),
}

/// Accepts rows that were changed past the gateway. For system administrators.
///
/// What the database holds is in force from then on; what differs is shown, and exactly that is accepted. Where no system
/// administrator can sign in, `countersign admin accept-state` does the same.
///
/// Examples:
///   countersign vo state accept imaging --reason ticket-4711
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Accept {
    /// Name of the virtual organisation; `gateway` for the gateway's own level.
    level: String,
    /// Why; it stands in the log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// The certificates from which proxies are minted.
#[derive(Debug, Subcommand)]
pub(crate) enum Certificate {
    Import(Import),
    List(ListCertificates),
}

/// Gives a virtual organisation its certificate and key for a use; those before end, while requests go on. The key is sealed before it
/// is stored.
///
/// What people download acts outside the gateway: a certificate for downloads needs a subject that no certificate for tools has.
///
/// Examples:
///   countersign vo certificate import imaging --certificate imaging.pem --key imaging.key
///   countersign vo certificate import imaging imaging.p12
///   countersign vo certificate import imaging imaging.p12 --password-file password
///   countersign vo certificate import imaging --use download --certificate people.pem --key people.key
///   countersign vo certificate import imaging --certificate imaging.pem --pkcs11-uri 'pkcs11:token=imaging;object=vo;type=private'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Import {
    /// Name of the virtual organisation.
    vo: String,
    /// Certificate, key and intermediates in one PKCS#12 file (`.p12`, `.pfx`), which is opened here: its password goes nowhere.
    #[arg(value_name = "FILE", conflicts_with_all = ["certificate", "key", "pkcs11_uri"])]
    file: Option<PathBuf>,
    /// Password of the PKCS#12 file: a file, or - for standard input; asked for without it.
    #[arg(long, value_name = "FILE", requires = "file")]
    password_file: Option<PathBuf>,
    /// The certificate (PEM), then its intermediates.
    #[arg(long, value_name = "FILE", required_unless_present = "file")]
    certificate: Option<PathBuf>,
    /// Its key (PEM, not encrypted).
    #[arg(long, value_name = "FILE", required_unless_present_any = ["pkcs11_uri", "file"])]
    key: Option<PathBuf>,
    /// Its key on a PKCS#11 token that the settings name (`[[delegation.token]]`), where it stays (RFC 7512).
    #[arg(long, value_name = "URI", conflicts_with = "key")]
    pkcs11_uri: Option<String>,
    /// What its proxies are for.
    #[arg(long = "use", value_name = "USE", value_enum, default_value_t)]
    purpose: Purpose,
}

/// What proxies are for.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Purpose {
    /// Given to tools, or used to call them.
    #[default]
    Tools,
    /// Downloaded by people.
    Download,
}

/// Shows the certificates of a virtual organisation.
///
/// Examples:
///   countersign vo certificate list imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ListCertificates {
    /// Name of the virtual organisation.
    vo: String,
}

/// Makes a virtual organisation with the shipped roles and its first administrator. For system administrators.
///
/// Examples:
///   countersign vo create imaging --admin anna
///   countersign vo create imaging --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Create {
    /// Name: a to z, 0 to 9 and hyphens, at most 40.
    name: String,
    /// User name of its first administrator, who has an account; yourself when not given.
    #[arg(long, value_name = "USER")]
    admin: Option<String>,
    #[command(flatten)]
    reason: Reason,
}

/// Lists your virtual organisations; all of them for a system administrator.
///
/// Examples:
///   countersign vo list
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {}

/// Shows one virtual organisation.
///
/// Examples:
///   countersign vo show imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Show {
    /// Name of the virtual organisation.
    vo: String,
}

/// One virtual organisation.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Name of the virtual organisation.
    vo: String,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the command.
pub(crate) async fn run(command: Vo, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Vo::Create(args) => {
            let body = VoCreate {
                name: args.name,
                administrator: args.admin,
            };
            let made: VoView = client.task("vo.create").because(&args.reason).send(&body).await?;
            out.show(&made, |out, made| {
                out.line(format!("made virtual organisation {}", made.name))
            })?;
        }
        Vo::List(List {}) => {
            let vos: Vec<VoView> = client.task("vo.list").list("vos").await?;
            out.list(
                "vos",
                &vos,
                &["NAME", "STATE", "MEMBER", "YOUR ROLES", "ID"],
                |vo| {
                    let member = if vo.member { "yes" } else { "no" };
                    vec![
                        vo.name.clone(),
                        vo.state.clone(),
                        member.into(),
                        words(&vo.roles),
                        vo.id.clone(),
                    ]
                },
            )?;
        }
        Vo::Show(args) => {
            let vo: VoView = client.task("vo.show").at("vo", args.vo).fetch().await?;
            out.show(&vo, show)?;
        }
        Vo::Suspend(Named { vo, reason }) => {
            let vo: VoView = client
                .task("vo.suspend")
                .at("vo", vo)
                .because(&reason)
                .fetch()
                .await?;
            out.show(&vo, |out, vo| out.line(format!("{} is suspended", vo.name)))?;
        }
        Vo::Resume(Named { vo, reason }) => {
            let vo: VoView = client
                .task("vo.resume")
                .at("vo", vo)
                .because(&reason)
                .fetch()
                .await?;
            out.show(&vo, |out, vo| out.line(format!("{} is open again", vo.name)))?;
        }
        Vo::Certificate(Certificate::Import(args)) => import(&client, &args, out).await?,
        Vo::Certificate(Certificate::List(ListCertificates { vo })) => {
            let found: CertificateList = client.task("vo_certificate.list").at("vo", vo).fetch().await?;
            out.list("certificates", &found.certificates, &CERTIFICATE, certificate)?;
        }
        Vo::ProxyLimit(ProxyLimit::List(ListLimits { vo })) => {
            let found: ProxyLimitList = client.task("proxy_limit.list").at("vo", vo).fetch().await?;
            limits(&found, out)?;
        }
        Vo::ProxyLimit(ProxyLimit::Set(args)) => {
            let body = ProxyLimitSet {
                role: args.role,
                lifetime: args.seconds,
            };
            let read = client.task("proxy_limit.list").at("vo", &args.vo);
            let (_, tag) = read.tagged::<ProxyLimitList>().await?;
            let set: ProxyLimitList = client
                .task("proxy_limit.set")
                .at("vo", args.vo)
                .because(&args.reason)
                .matching(tag)
                .send(&body)
                .await?;
            limits(&set, out)?;
        }
        Vo::ProxyIdentity(command) => identity(&client, command, out).await?,
        Vo::Ceiling(command) => ceiling::run(&client, command, out).await?,
        Vo::State(State::Show) => {
            let doubts: Vec<DoubtView> = client.task("state.list").list("doubts").await?;
            if doubts.is_empty() {
                out.note("the database holds what the log says");
            }
            out.list("doubts", &doubts, &["LEVEL", "EFFECT", "DIFFERENCE"], |doubt| {
                let more = doubt.count.saturating_sub(doubt.difference.len() as u64);
                let more = (more > 0).then(|| format!("and {more} more"));
                let words: Vec<String> = doubt.difference.iter().cloned().chain(more).collect();
                vec![doubt.level.clone(), doubt.effect.clone(), words.join("; ")]
            })?;
        }
        Vo::State(State::Accept(args)) => accept(&client, args, out).await?,
    }
    Ok(())
}

fn limits(found: &ProxyLimitList, out: Output) -> Result<(), Failure> {
    out.list("limits", &found.limits, &["ROLE", "SECONDS"], |limit| {
        vec![
            limit.role.clone().unwrap_or_else(|| "(everybody)".into()),
            limit.lifetime.to_string(),
        ]
    })?;
    out.note(format!(
        "by the settings no proxy lives longer than {} s",
        found.most
    ));
    Ok(())
}

async fn identity(client: &Client, command: ProxyIdentity, out: Output) -> Result<(), Failure> {
    let found: ProxyIdentityView = match command {
        ProxyIdentity::Show(ShowIdentity { vo }) => {
            client.task("proxy_identity.show").at("vo", vo).fetch().await?
        }
        ProxyIdentity::Set(args) => {
            let tells = match args.tells {
                Telling::Opaque => Tells::Opaque,
                Telling::Id => Tells::Id,
                Telling::Username => Tells::Username,
            };
            let read = client.task("proxy_identity.show").at("vo", &args.vo);
            let (_, tag) = read.tagged::<ProxyIdentityView>().await?;
            let task = client.task("proxy_identity.set").at("vo", args.vo);
            task.because(&args.reason)
                .matching(tag)
                .send(&ProxyIdentityView { tells })
                .await?
        }
    };
    out.show(&found, |out, found| {
        out.line(match found.tells {
            Tells::Opaque => "proxies say nothing of their person",
            Tells::Id => "proxies tell the id of their person",
            Tells::Username => "proxies tell the id and the user name of their person",
        })
    })?;
    Ok(())
}

async fn accept(client: &Client, args: Accept, out: Output) -> Result<(), Failure> {
    let doubts: Vec<DoubtView> = client.task("state.list").list("doubts").await?;
    let doubt = doubts
        .into_iter()
        .find(|doubt| doubt.level == args.level || doubt.id == args.level)
        .ok_or_else(|| {
            Failure::not_found(format!("`{}` is not in doubt", args.level))
                .hint("`countersign vo state show` says what is")
        })?;
    let body = StateAccept {
        found: doubt.found.clone(),
        reason: args.reason,
    };
    let task = client.task("state.accept").at("level", &doubt.level);
    let accepted: DoubtView = task.send(&body).await?;
    out.show(&accepted, |out, accepted| {
        for line in &accepted.difference {
            out.line(line)?;
        }
        out.line(format!("{}: this is in force now", accepted.level))
    })?;
    Ok(())
}

async fn import(client: &Client, args: &Import, out: Output) -> Result<(), Failure> {
    let body = brought(args)?;
    let imported: CertificateImported = client
        .task("vo_certificate.import")
        .at("vo", &args.vo)
        .send(&body)
        .await?;
    out.show(&imported, |out, imported| {
        out.table(&CERTIFICATE, &[certificate(&imported.certificate)])
    })?;
    for warning in &imported.warnings {
        out.note(format!("warning: {warning}"));
    }
    Ok(())
}

/// What the files of the command hold.
fn brought(args: &Import) -> Result<CertificateImport, Failure> {
    let purpose = match args.purpose {
        Purpose::Tools => CertificateUse::Tools,
        Purpose::Download => CertificateUse::Download,
    };
    let shown = |path: Option<&Path>| path.map_or_else(String::new, |path| path.display().to_string());
    if let Some(file) = &args.file {
        let name = file.display().to_string();
        let bytes = Secret::new(bytes(file)?);
        let password = password(
            args.password_file.as_deref(),
            &format!("Password of {name}: "),
            "--password-file",
        )?;
        let held = pkcs12::read(&name, bytes.expose(), &password)
            .map_err(|error| Failure::usage(error.to_string()))?;
        return Ok(CertificateImport {
            certificate: held.certificate,
            key: Some(held.key),
            pkcs11_uri: None,
            purpose,
            certificate_name: name.clone(),
            key_name: name,
        });
    }
    let certificate = args.certificate.as_deref();
    let nothing = || Failure::usage("there is no certificate to import");
    Ok(CertificateImport {
        certificate: text_file(certificate.ok_or_else(nothing)?)?,
        key: args.key.as_deref().map(secret_file).transpose()?,
        pkcs11_uri: args.pkcs11_uri.clone(),
        purpose,
        certificate_name: shown(certificate),
        key_name: shown(args.key.as_deref()),
    })
}

const CERTIFICATE: [&str; 5] = ["USE", "SUBJECT", "VALID FROM", "UNTIL", "SHA-256"];

fn certificate(view: &CertificateView) -> Vec<String> {
    let purpose = match view.purpose {
        CertificateUse::Tools => "tools",
        CertificateUse::Download => "download",
    };
    vec![
        purpose.to_owned(),
        view.subject.clone(),
        view.not_before.clone(),
        view.not_after.clone(),
        view.sha256.clone(),
    ]
}

fn show(out: Output, vo: &VoView) -> std::io::Result<()> {
    out.pairs(&[
        ("Name", vo.name.clone()),
        ("Id", vo.id.clone()),
        ("State", vo.state.clone()),
        ("Version", vo.version.to_string()),
        ("Member", if vo.member { "yes" } else { "no" }.into()),
        ("Your roles", words(&vo.roles)),
    ])
}
