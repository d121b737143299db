//! One's own second factors.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Client;
use super::failure::Failure;
use super::input::{asks, code, password, secret_file};
use super::output::{Output, or_dash};
use crate::api::factor::add::{FactorAdd, FactorAdded};
use crate::api::factor::list::FactorList;
use crate::api::factor::offer::{FactorAsk, FactorOffer};
use crate::api::factor::{FactorCode, RecoveryCodes};
use crate::secret::Secret;

/// Your own second factors: one-time passwords of an authenticator, and recovery codes.
#[derive(Debug, Subcommand)]
pub(crate) enum Factor {
    Add(Add),
    Confirm(Confirm),
    List(List),
    Remove(Remove),
    RecoveryCodes(Renew),
}

/// Adds an authenticator. Your other sessions end, and signing in asks for a code from then on. On a terminal the first code
/// is asked for at once; else the offer is printed, and `factor confirm` takes it up within ten minutes.
///
/// Examples:
///   countersign factor add --name phone
///   countersign factor add --password-file password --json > offer
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    /// What you call it.
    #[arg(long, value_name = "NAME", default_value = "authenticator")]
    name: String,
    /// File with your password (- for standard input); asked for on a terminal when not given.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Takes up what `factor add` offered, with the first code of the authenticator.
///
/// Examples:
///   countersign factor confirm --binding-file binding --code-file code --name phone
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Confirm {
    /// File with the offer's `binding`.
    #[arg(long, value_name = "FILE")]
    binding_file: PathBuf,
    /// File with the code (- for standard input); asked for on a terminal when not given.
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
    /// What you call it.
    #[arg(long, value_name = "NAME", default_value = "authenticator")]
    name: String,
}

/// Lists your second factors, and how many recovery codes are left.
///
/// Examples:
///   countersign factor list
///   countersign factor list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {}

/// Removes one of your second factors, against a code of it, or a recovery code. Your other sessions end; with the last factor
/// this one ends as well.
///
/// Examples:
///   countersign factor remove 0199a1b2-0000-7000-8000-000000000001
///   countersign factor remove 0199a1b2-0000-7000-8000-000000000001 --code-file code
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Remove {
    /// Id of the factor (`factor list` shows it).
    id: String,
    /// File with the code (- for standard input); asked for on a terminal when not given.
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
}

/// Makes new recovery codes, against a code; the old ones end.
///
/// Examples:
///   countersign factor recovery-codes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Renew {
    /// File with the code (- for standard input); asked for on a terminal when not given.
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
}

/// Runs `factor ...`.
pub(crate) async fn run(command: Factor, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Factor::Add(args) => add(&client, args, out).await,
        Factor::Confirm(args) => {
            let binding = secret_file(&args.binding_file)?;
            let code = code(args.code_file.as_deref())?;
            bind(&client, (binding, code, args.name), out).await
        }
        Factor::List(List {}) => {
            let list: FactorList = client.task("factor.list").fetch().await?;
            out.show(&list, show)?;
            Ok(())
        }
        Factor::Remove(Remove { id, code_file }) => {
            let body = FactorCode {
                code: code(code_file.as_deref())?,
            };
            let operation = client.task("factor.remove").at("factor", &id);
            operation.send::<_, serde_json::Value>(&body).await?;
            out.done(
                "factor.remove",
                format!("removed the factor {id}; your other sessions have ended, with the last factor this one as well"),
            )?;
            Ok(())
        }
        Factor::RecoveryCodes(Renew { code_file }) => {
            let body = FactorCode {
                code: code(code_file.as_deref())?,
            };
            let renewed: RecoveryCodes = client.task("factor.renew_recovery_codes").send(&body).await?;
            out.show(&renewed, |out, renewed| codes(out, &renewed.recovery_codes))?;
            Ok(())
        }
    }
}

async fn add(client: &Client, args: Add, out: Output) -> Result<(), Failure> {
    let password = password(
        args.password_file.as_deref(),
        "Your password, once more: ",
        "--password-file",
    )?;
    let offer: FactorOffer = client.task("factor.offer").send(&FactorAsk { password }).await?;
    if !asks() {
        let hint = "countersign factor confirm --binding-file FILE --code-file FILE";
        out.show(&offer, |out, offer| {
            out.pairs(&[
                ("Secret", offer.secret.expose().clone()),
                ("Address", offer.uri.expose().clone()),
                ("Binding", offer.binding.expose().clone()),
                ("Until", offer.until.clone()),
                ("Then", hint.to_owned()),
            ])
        })?;
        return Ok(());
    }
    out.note(format!(
        "Give this secret to your authenticator; it is shown this once.\n  {}\n  {}",
        offer.secret.expose(),
        offer.uri.expose()
    ));
    bind(client, (offer.binding, code(None)?, args.name), out).await
}

async fn bind(
    client: &Client,
    (binding, code, name): (Secret<String>, Secret<String>, String),
    out: Output,
) -> Result<(), Failure> {
    let body = FactorAdd { binding, code, name };
    let added: FactorAdded = client.task("factor.add").send(&body).await?;
    let shown = json!({
        "id": added.id,
        "recovery_codes": added.recovery_codes.iter().map(|code| code.expose().as_str()).collect::<Vec<_>>(),
    });
    out.show(&shown, |out, _| {
        out.line(format!(
            "Added the factor {}; your other sessions have ended.",
            added.id
        ))?;
        match added.recovery_codes.is_empty() {
            true => Ok(()),
            false => codes(out, &added.recovery_codes),
        }
    })?;
    Ok(())
}

fn codes(out: Output, codes: &[Secret<String>]) -> std::io::Result<()> {
    out.line("Recovery codes, shown this once. Each is good once, in the place of a code; keep them where your password is not:")?;
    for code in codes {
        out.line(format!("  {}", code.expose()))?;
    }
    Ok(())
}

fn show(out: Output, list: &FactorList) -> std::io::Result<()> {
    let rows: Vec<Vec<String>> = list
        .factors
        .iter()
        .map(|factor| {
            vec![
                factor.id.clone(),
                factor.kind.clone(),
                factor.name.clone(),
                factor.created.clone(),
                or_dash(factor.used.as_deref()),
            ]
        })
        .collect();
    if rows.is_empty() {
        return out.line(
            "No second factor: your password alone opens your account. Add one: countersign factor add",
        );
    }
    out.table(&["ID", "KIND", "NAME", "ADDED", "LAST USED"], &rows)?;
    out.line(format!("Recovery codes left: {}", list.recovery_codes_left))
}
