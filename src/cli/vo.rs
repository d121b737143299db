//! `countersign vo`: virtual organisations and their certificates.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::{Reason, secret_file, text_file};
use super::output::{Output, words};
use crate::api::certificate::import::{CertificateImport, CertificateImported};
use crate::api::certificate::list::{CertificateList, CertificateView};
use crate::api::vo::VoView;
use crate::api::vo::create::VoCreate;

/// Virtual organisations.
#[derive(Debug, Subcommand)]
pub(crate) enum Vo {
    Create(Create),
    List(List),
    Show(Show),
    /// Stops everything in a virtual organisation until it is resumed: its tools, its administration, its roles. Its
    /// people stay signed in and keep their other virtual organisations. Proxies that tools have already are good until
    /// they end. For system administrators.
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
    /// The certificate from which proxies are minted.
    #[command(subcommand)]
    Certificate(Certificate),
}

/// The certificate from which proxies are minted.
#[derive(Debug, Subcommand)]
pub(crate) enum Certificate {
    Import(Import),
    List(ListCertificates),
}

/// Gives a virtual organisation its certificate and key; those before end. The key is sealed before it is stored.
///
/// Examples:
///   countersign vo certificate import imaging --certificate imaging.pem --key imaging.key
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Import {
    /// Name of the virtual organisation.
    vo: String,
    /// The certificate (PEM), then its intermediates.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Its key (PEM, not encrypted).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Shows the certificate of a virtual organisation.
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
    }
    Ok(())
}

async fn import(client: &Client, args: &Import, out: Output) -> Result<(), Failure> {
    let body = CertificateImport {
        certificate: text_file(&args.certificate)?,
        key: secret_file(&args.key)?,
        certificate_name: args.certificate.display().to_string(),
        key_name: args.key.display().to_string(),
    };
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

const CERTIFICATE: [&str; 4] = ["SUBJECT", "VALID FROM", "UNTIL", "SHA-256"];

fn certificate(view: &CertificateView) -> Vec<String> {
    vec![
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
