//! `countersign admin`: system administrators, and the way back in when none can sign in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::Reason;
use super::output::{Output, or_dash};
use super::serve::become_owner;
use crate::api::administrator::add::AdministratorAdd;
use crate::api::administrator::list::AdministratorView;
use crate::clock::{SystemClock, Timestamp};
use crate::id::{Ids, SystemSource};
use crate::server::{AcceptState as Accepted, Recover as Asked, accept_state, recover};

/// System administrators of the gateway.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    Add(Add),
    /// Lists the system administrators.
    ///
    /// Examples:
    ///   countersign admin list
    #[command(verbatim_doc_comment)]
    List,
    Remove(Remove),
    Recover(Recover),
    AcceptState(AcceptState),
}

/// Makes somebody a system administrator, who has an account already. For system administrators.
///
/// Nobody resets the password of a system administrator whose home is a virtual organisation but she herself and
/// `countersign admin recover`: with two of them, one can still act while the other is locked out.
///
/// Examples:
///   countersign admin add ben --reason 'second administrator'
///   countersign admin add ben --until 2030-01-31T12:00:00Z
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    /// User name.
    user: String,
    /// When it ends by itself (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = super::input::moment)]
    until: Option<Timestamp>,
    #[command(flatten)]
    reason: Reason,
}

/// Takes the role of system administrator away. One who holds it for good always remains.
///
/// Examples:
///   countersign admin remove ben
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Remove {
    /// User name.
    user: String,
    #[command(flatten)]
    reason: Reason,
}

/// Gives a system administrator who cannot sign in a one-time password. For whoever operates the machine: the account
/// that owns the data folder, or root.
///
/// It works while the gateway runs (through admin.sock in the data folder) and while it does not. All sessions of the
/// account end, a suspended account is let in again, and the audit log says so before it takes effect.
///
/// Examples:
///   countersign admin recover --data /srv/countersign
///   countersign admin recover --data /srv/countersign --user anna
///   countersign admin recover --data /srv/countersign --user ben --promote
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Recover {
    /// The data folder.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// User name; may be left out where there is one system administrator.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Make the account a system administrator if it is none: where nobody else is left.
    #[arg(long, requires = "user")]
    promote: bool,
}

/// Accepts rows that were changed past the gateway, where no system administrator can. For whoever operates the machine:
/// the account that owns the data folder, or root.
///
/// What the database holds of the virtual organisation, or of the gateway's own level, is in force from then on, as with
/// `countersign vo state accept`. It works while the gateway runs and while it does not; the audit log says so before it takes effect.
///
/// Examples:
///   countersign admin accept-state gateway --data /srv/countersign --reason ticket-4711
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AcceptState {
    /// Name of the virtual organisation; `gateway` for the gateway's own level.
    level: String,
    /// The data folder.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Why; it stands in the log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Runs the command.
pub(crate) async fn run(command: Admin, out: Output) -> Result<(), Failure> {
    match command {
        Admin::Recover(args) => recovered(args, out).await,
        Admin::AcceptState(args) => accepted(args, out).await,
        Admin::Add(Add { user, until, reason }) => {
            let body = AdministratorAdd {
                username: user,
                until: until.map(|until| until.to_string()),
            };
            let client = Client::saved()?;
            let task = client.task("administrator.add").because(&reason);
            let added: AdministratorView = task.send(&body).await?;
            Ok(out.show(&added, |out, added| {
                out.line(format!(
                    "{} is a system administrator{}",
                    added.username,
                    end(added)
                ))
            })?)
        }
        Admin::List => {
            let all = all(&Client::saved()?).await?;
            let headings = ["USER", "STATE", "HOME", "UNTIL"];
            Ok(out.list("administrators", &all, &headings, |one| {
                vec![
                    one.username.clone(),
                    one.state.clone(),
                    one.home.clone(),
                    or_dash(one.until.as_deref()),
                ]
            })?)
        }
        Admin::Remove(Remove { user, reason }) => {
            let client = Client::saved()?;
            let all = all(&client).await?;
            let found = all.iter().find(|one| one.username == user);
            let found = found.ok_or_else(|| {
                Failure::not_found(format!("`{user}` is no system administrator"))
                    .hint("`countersign admin list` shows who is")
            })?;
            let task = client.task("administrator.remove").at("person", &found.id);
            task.because(&reason).act().await?;
            Ok(out.done(
                "administrator.remove",
                format!("{user} is no longer a system administrator"),
            )?)
        }
    }
}

async fn all(client: &Client) -> Result<Vec<AdministratorView>, Failure> {
    client.task("administrator.list").list("administrators").await
}

fn end(added: &AdministratorView) -> String {
    added
        .until
        .as_ref()
        .map(|until| format!(" until {until}"))
        .unwrap_or_default()
}

/// The data folder, as the account that owns it.
fn folder(data: &Path) -> Result<PathBuf, Failure> {
    let data = std::path::absolute(data)?;
    if !data.join(crate::config::FILE).is_file() {
        return Err(
            Failure::not_found(format!("`{}` is no data folder", data.display()))
                .hint("give the folder that `countersign init` made, with --data DIR"),
        );
    }
    become_owner(&data)?;
    Ok(data)
}

fn ids() -> Ids {
    Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()))
}

async fn accepted(args: AcceptState, out: Output) -> Result<(), Failure> {
    let data = folder(&args.data)?;
    let asked = Accepted {
        accept: args.level,
        reason: args.reason,
    };
    let request = accept_state(&data, &asked, ids()).await?;
    Ok(out.done(
        "state.accept",
        format!(
            "{}: what the database holds is in force (request {request})",
            asked.accept
        ),
    )?)
}

async fn recovered(args: Recover, out: Output) -> Result<(), Failure> {
    let data = folder(&args.data)?;
    let asked = Asked {
        user: args.user,
        promote: args.promote,
    };
    let done = recover(&data, &asked, ids()).await?;
    out.show(&done, |out, done| {
        if done.promoted {
            out.line(format!("{} is a system administrator", done.user))?;
        }
        if done.resumed {
            out.line(format!("{} is no longer suspended", done.user))?;
        }
        out.line(format!(
            "One-time password of {}: {}",
            done.user,
            done.one_time_password.expose()
        ))
    })?;
    out.note("It is good for choosing a new one. All sessions of the account have ended.");
    Ok(())
}
