//! `countersign status`: how the running gateway is.

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::output::Output;
use crate::api::gateway::show::GatewayView;

/// Shows how the running gateway is: whether its log takes records, its newest checkpoint, whether it is sealed, and when
/// the certificates of its virtual organisations end. For system administrators.
///
/// Examples:
///   countersign status
///   countersign status --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Status {}

/// Runs the command.
pub(crate) async fn run(_: Status, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    let view: GatewayView = client.task("gateway.show").fetch().await?;
    let word = |holds: bool, yes: &str, no: &str| if holds { yes } else { no }.to_owned();
    out.show(&view, |out, view| {
        out.pairs(&[
            ("Version", view.version.clone()),
            (
                "Log",
                word(
                    view.accepting,
                    "takes records",
                    "takes no records: nothing is permitted",
                ),
            ),
            ("  room", view.space.clone()),
            ("  records", view.records.to_string()),
            ("  without checkpoint", view.unsigned.to_string()),
            ("  not searched yet", view.index_lag.to_string()),
            ("Checkpoint", format!("signed {} s ago", view.checkpoint_age)),
            ("Under way", view.open_requests.to_string()),
            ("Sealing key", word(view.sealed, "missing", "there")),
        ])?;
        for certificate in &view.certificates {
            let (vo, end, state) = (&certificate.vo, &certificate.not_after, &certificate.state);
            out.line(format!("the certificate of {vo} ends {end} ({state})"))?;
        }
        Ok(())
    })?;
    Ok(())
}
