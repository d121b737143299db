//! `countersign terms`: terms of use, those that one accepts and those that one puts in force.

use std::io::{BufRead as _, Read as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::{Reason, asks, text_file};
use super::output::Output;
use crate::api::terms::TermsView;
use crate::api::terms::accept::{TermsAccept, TermsRead};
use crate::api::terms::owed::TermsOwed;
use crate::api::terms::set::TermsSet;

/// Terms of use, which people accept before anything else is open to them.
#[derive(Debug, Subcommand)]
pub(crate) enum Terms {
    Owed(Owed),
    Accept(Accept),
    Show(Show),
    Set(Set),
}

/// Shows the terms of use that you have yet to accept.
///
/// Examples:
///   countersign terms owed
///   countersign terms owed --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Owed {}

/// Accepts the terms of use that you have yet to accept: shows them, and asks on a terminal.
///
/// Examples:
///   countersign terms accept
///   countersign terms accept --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Accept {
    /// You have read them and accept them; nothing is asked.
    #[arg(long)]
    yes: bool,
}

/// Whose terms of use.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Whose {
    /// Name of the virtual organisation.
    vo: Option<String>,
    /// Those of the gateway itself; for system administrators.
    #[arg(long)]
    gateway: bool,
}

/// Shows the terms of use that are in force.
///
/// Examples:
///   countersign terms show imaging
///   countersign terms show --gateway
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Show {
    #[command(flatten)]
    whose: Whose,
}

/// Puts terms of use in force, in the place of those before. Those of a virtual organisation shut its tools and its
/// administration to each member until she accepts them, those of the gateway shut everything to everybody.
///
/// Examples:
///   countersign terms set imaging --file terms.txt --reason 'agreed on 3 May'
///   countersign terms set --gateway --file terms.txt --reason 'new rules of the site'
///   countersign terms set imaging --none --reason 'those of the gateway say all'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Set {
    #[command(flatten)]
    whose: Whose,
    /// File with the text (- for standard input), plain text in UTF-8.
    #[arg(long, value_name = "FILE", required_unless_present = "none")]
    file: Option<PathBuf>,
    /// Take the terms away.
    #[arg(long, conflicts_with = "file")]
    none: bool,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the command.
pub(crate) async fn run(command: Terms, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Terms::Owed(Owed {}) => {
            let owed: TermsOwed = client.task("terms.owed").fetch().await?;
            out.show(&owed, |out, owed| match owed.owed.as_slice() {
                [] => out.line("There are no terms of use for you to accept"),
                owed => show(out, owed),
            })?;
        }
        Terms::Accept(Accept { yes }) => {
            let owed: TermsOwed = client.task("terms.owed").fetch().await?;
            if owed.owed.is_empty() {
                out.done("terms.accept", "There are no terms of use for you to accept")?;
            } else {
                accept(&client, &owed, yes, out).await?;
                out.done("terms.accept", "The terms of use are accepted")?;
            }
        }
        Terms::Show(Show { whose }) => {
            let task = match whose.vo {
                Some(vo) => client.task("terms.show").at("vo", vo),
                None => client.task("terms.show_gateway"),
            };
            let terms: TermsView = task.fetch().await?;
            out.show(&terms, |out, terms| show(out, std::slice::from_ref(terms)))?;
        }
        Terms::Set(args) => {
            let text = args.file.as_deref().map(text_file).transpose()?;
            let text = text.filter(|_| !args.none);
            let (task, name) = match &args.whose.vo {
                Some(vo) => (client.task("terms.set").at("vo", vo), vo.clone()),
                None => (client.task("terms.set_gateway"), "the gateway".to_owned()),
            };
            let done = match &text {
                Some(_) => format!("The terms of use of {name} are in force"),
                None => format!("There are no terms of use of {name} any more"),
            };
            let _: serde_json::Value = task.because(&args.reason).send(&TermsSet { text }).await?;
            out.done("terms.set", done)?;
        }
    }
    Ok(())
}

fn show(out: Output, terms: &[TermsView]) -> std::io::Result<()> {
    for terms in terms {
        out.line(format!(
            "Terms of use of {}, version {} of {}, SHA-256 {}\n",
            terms.vo, terms.version, terms.since, terms.digest
        ))?;
        out.line(&terms.text)?;
    }
    Ok(())
}

/// Shows what is to be accepted and, where somebody can be asked, asks; then accepts just that.
pub(super) async fn accept(client: &Client, owed: &TermsOwed, yes: bool, out: Output) -> Result<(), Failure> {
    for terms in &owed.owed {
        let head = format!("Terms of use of {}, version {}:\n", terms.vo, terms.version);
        out.note(head + "\n" + &terms.text);
    }
    if !yes && !agrees(out)? {
        let refused = "the terms of use are not accepted, so nothing else is open to you";
        return Err(Failure::failed(refused).hint("read them again: countersign terms accept"));
    }
    let read = |terms: &TermsView| TermsRead {
        vo: terms.vo.clone(),
        version: terms.version,
        digest: terms.digest.clone(),
    };
    let body = TermsAccept {
        accept: owed.owed.iter().map(read).collect(),
    };
    let _: TermsOwed = client.task("terms.accept").send(&body).await?;
    Ok(())
}

fn agrees(out: Output) -> Result<bool, Failure> {
    if !asks() {
        let no_terminal = "whether you accept them cannot be asked: there is no terminal";
        return Err(Failure::usage(no_terminal).hint("countersign terms accept --yes"));
    }
    out.note("Do you accept? Type yes:");
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .take(16)
        .read_line(&mut line)
        .map_err(|error| Failure::failed(format!("the terminal cannot be asked: {error}")))?;
    Ok(line.trim().eq_ignore_ascii_case("yes"))
}
