//! `countersign user certificate`: grid certificates by which a member signs in.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use data_encoding::BASE64;

use super::client::Client;
use super::failure::Failure;
use super::input::{Reason, bytes};
use super::output::Output;
use crate::api::user::certificate::UserCertificate;
use crate::api::user::certificate::add::UserCertificateAdd;
use crate::api::user::certificate::mark::Compromised;
use crate::trust::pem;

/// Grid certificates by which a member signs in.
#[derive(Debug, Subcommand)]
pub(crate) enum Certificate {
    Add(Add),
    /// Lists the certificates by which a member signs in.
    ///
    /// Examples:
    ///   countersign user certificate list imaging john
    #[command(verbatim_doc_comment)]
    List(Of),
    /// Ends a member's sign-in with a certificate; what it opened ends at once.
    ///
    /// Examples:
    ///   countersign user certificate remove imaging john 0190c1d2-0000-7000-8000-000000000001 --reason 'renewed by another CA'
    #[command(verbatim_doc_comment)]
    Remove(Remove),
    Mark(Mark),
    Clear(Clear),
}

/// Lets a member sign in with a grid certificate, or a proxy of it, at the listener for certificates. For administrators of
/// the account's home: whoever holds the key of the certificate is this person. The certificate must be one that the gateway
/// would let in now: valid, and of a CA that it trusts. And its person must want it: without `--proof` the refusal says what she runs.
///
/// Examples:
///   countersign user certificate add imaging john usercert.pem --proof proof --reason 'shown in person'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    #[command(flatten)]
    of: Of,
    /// PEM file with the certificate (or a proxy with it; a private key in it stays here), and those between it and its CA.
    file: PathBuf,
    /// File with the signature that the person made with the certificate's key, by the command that the refusal without it shows.
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    #[command(flatten)]
    reason: Reason,
}

/// A member.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// Name of the virtual organisation.
    vo: String,
    /// User name of the member.
    user: String,
}

/// One certificate of a member.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    of: Of,
    /// Id of the certificate, from the list.
    id: String,
    #[command(flatten)]
    reason: Reason,
}

/// Marks a certificate as compromised: it stays on the account with the note, and lets nobody in. Its names and its key can be
/// linked to nobody, also when it is removed, until a system administrator clears them.
///
/// Examples:
///   countersign user certificate mark imaging john 0190c1d2-0000-7000-8000-000000000001 --note 'key on a stolen laptop' --reason 'her call'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Mark {
    #[command(flatten)]
    of: Of,
    /// Id of the certificate, from the list.
    id: String,
    /// What happened.
    #[arg(long, value_name = "TEXT")]
    note: String,
    #[command(flatten)]
    reason: Reason,
}

/// Lets a certificate that was marked as compromised be linked again. For system administrators. A link that still has the mark
/// is to be removed and added anew.
///
/// Examples:
///   countersign user certificate clear 0190c1d2-0000-7000-8000-000000000001 --reason 'the CA has revoked the old key'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Clear {
    /// Id of the certificate when it was marked; the refusal to add it names it.
    id: String,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the command.
pub(crate) async fn run(client: &Client, command: Certificate, out: Output) -> Result<(), Failure> {
    match command {
        Certificate::Add(args) => add(client, args, out).await,
        Certificate::List(of) => {
            let person = client.person(&of.vo, &of.user).await?;
            let found: Vec<UserCertificate> = client
                .task("user.list_certificates")
                .at("vo", of.vo)
                .at("person", person)
                .list("certificates")
                .await?;
            let columns = ["ID", "SUBJECT", "ISSUER", "STATE", "NOTE"];
            out.list("certificates", &found, &columns, |certificate| {
                vec![
                    certificate.id.clone(),
                    certificate.subject.clone(),
                    certificate.issuer.clone(),
                    certificate.state.clone(),
                    super::output::or_dash(certificate.note.as_deref()),
                ]
            })?;
            Ok(())
        }
        Certificate::Remove(args) => {
            let person = client.person(&args.of.vo, &args.of.user).await?;
            client
                .task("user.remove_certificate")
                .because(&args.reason)
                .at("vo", args.of.vo)
                .at("person", person)
                .at("certificate", args.id)
                .act()
                .await?;
            let told = format!("this certificate lets {} in no more", args.of.user);
            out.done("user.remove_certificate", told)?;
            Ok(())
        }
        Certificate::Mark(args) => {
            let person = client.person(&args.of.vo, &args.of.user).await?;
            let _: serde_json::Value = client
                .task("user.mark_certificate")
                .because(&args.reason)
                .at("vo", args.of.vo)
                .at("person", person)
                .at("certificate", args.id)
                .send(&Compromised { note: args.note })
                .await?;
            let told = format!("a certificate of {} is marked as compromised", args.of.user);
            out.done("user.mark_certificate", told)?;
            Ok(())
        }
        Certificate::Clear(args) => {
            client
                .task("user.clear_certificate")
                .because(&args.reason)
                .at("certificate", args.id)
                .act()
                .await?;
            out.done("user.clear_certificate", "the certificate can be linked again")?;
            Ok(())
        }
    }
}

async fn add(client: &Client, args: Add, out: Output) -> Result<(), Failure> {
    let shown = args.file.display().to_string();
    let text = crate::secret::Secret::new(bytes(&args.file)?);
    let text = std::str::from_utf8(text.expose()).map_err(|_| {
        Failure::failed(format!("`{shown}` is not PEM")).hint("openssl x509 -inform DER -in FILE")
    })?;
    // SECURITY: what is sent is written anew from the certificates alone; a proxy file has a private key between them.
    let chain = pem::certificates(&shown, text).map_err(|error| Failure::failed(error.to_string()))?;
    let certificate = pem::write(&chain).map_err(|error| Failure::failed(error.to_string()))?;
    let proof = args.proof.as_deref().map(bytes).transpose()?;
    let proof = proof.map(|signature| BASE64.encode(&signature));
    let person = client.person(&args.of.vo, &args.of.user).await?;
    let linked: UserCertificate = client
        .task("user.add_certificate")
        .because(&args.reason)
        .at("vo", args.of.vo)
        .at("person", person)
        .send(&UserCertificateAdd { certificate, proof })
        .await?;
    out.show(&linked, |out, linked| {
        out.line(format!(
            "{} signs in with {} (id {})",
            args.of.user, linked.subject, linked.id
        ))
    })?;
    Ok(())
}
