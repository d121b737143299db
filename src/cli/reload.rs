//! `countersign reload`: the running gateway reads its settings anew.

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::output::Output;
use crate::api::gateway::reload::GatewayReloaded;

/// Makes the running gateway read settings, certificates, people, roles and tools anew.
///
/// All of it is checked first: with a flaw nothing changes, and every flaw is named. Requests under way end as they
/// began. The same as SIGHUP, with an answer. For system administrators.
///
/// Examples:
///   countersign reload
///   countersign reload --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Reload {}

/// Runs the command.
pub(crate) async fn run(_: Reload, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    let told: GatewayReloaded = client.task("gateway.reload").fetch().await?;
    out.show(&told, |out, told| {
        out.pairs(&[
            ("Settings", told.after.clone()),
            ("  before", told.before.clone()),
            ("Certificate", told.certificate.clone()),
        ])?;
        for key in &told.restart {
            out.line(format!("`{key}` has changed and takes effect at the next start"))?;
        }
        for tool in &told.broken {
            out.line(format!(
                "the tool `{tool}` is out of service: its manifest is not accepted"
            ))?;
        }
        Ok(())
    })?;
    Ok(())
}
