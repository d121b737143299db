//! `countersign tool`: wrapped tools.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::client::Client;
use super::failure::Failure;
use super::input::secret_file;
use super::output::Output;
use crate::api::tool::set_credential::{CredentialScheme, CredentialSet};

/// Wrapped tools.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    Credential(Credential),
}

/// Sets the static credential that a tool gets (delegation `static`). It is sealed before it is stored, and never shown.
///
/// Examples:
///   countersign tool credential imaging orthanc --value-file password --user countersign
///   countersign tool credential imaging viewer --value-file token --scheme bearer
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Credential {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the tool.
    tool: String,
    /// File with the password, token or key (- for standard input).
    #[arg(long, value_name = "FILE")]
    value_file: PathBuf,
    /// How the tool takes it: as HTTP Basic password, as bearer token, or as the header's whole value. Basic when --user
    /// is given, else bearer.
    #[arg(long)]
    scheme: Option<Scheme>,
    /// User name, for HTTP Basic.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scheme {
    Basic,
    Bearer,
    Key,
}

/// Runs the command.
pub(crate) async fn run(command: Tool, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Tool::Credential(args) => credential(&client, args, out).await,
    }
}

async fn credential(client: &Client, args: Credential, out: Output) -> Result<(), Failure> {
    let scheme = match (args.scheme, &args.user) {
        (Some(Scheme::Basic), None) => {
            return Err(Failure::usage("HTTP Basic needs a user name").hint("--user NAME"));
        }
        (Some(Scheme::Bearer | Scheme::Key), Some(_)) => {
            return Err(Failure::usage("--user belongs to --scheme basic"));
        }
        (Some(Scheme::Basic) | None, Some(_)) => CredentialScheme::Basic,
        (Some(Scheme::Bearer) | None, None) => CredentialScheme::Bearer,
        (Some(Scheme::Key), None) => CredentialScheme::Key,
    };
    let body = CredentialSet {
        scheme,
        user: args.user,
        secret: secret_file(&args.value_file)?,
    };
    let task = client
        .task("tool.set_credential")
        .at("vo", &args.vo)
        .at("tool", &args.tool);
    task.send::<_, serde_json::Value>(&body).await?;
    out.done(
        "tool.set_credential",
        format!("{} of {} gets its new credential from now on", args.tool, args.vo),
    )?;
    Ok(())
}
