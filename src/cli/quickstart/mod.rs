//! `countersign quickstart`: the main job on a throw-away gateway, as it truly happens.
//!
//! Everything is real: the same binary is run for every command that is printed, a separate program plays the tool, and
//! each step is checked. `--check` ends after the story and fails if any step was not as told.

mod say;
mod stage;
mod story;

use clap::Args;

use self::say::Say;
use self::stage::Stage;
use super::failure::Failure;

/// Shows the main job on a throw-away gateway: a tool without users is wrapped, John Smith uses it, every request is
/// recorded, a refusal is explained, the third one sends a mail, and a proxy is traced to him.
///
/// Examples:
///   countersign quickstart            tell the story, then leave the gateway up until Ctrl-C
///   countersign quickstart --check    tell the story and end; exit code 1 if a step was not as told
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Quickstart {
    /// End after the story; fail if any step was not as told.
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub(crate) async fn run(args: Quickstart) -> Result<(), Failure> {
    let say = Say::new();
    let mut stage = Stage::build()?;
    let told = story::tell(&mut stage, say).await;
    if let Err(failure) = told {
        return Err(Failure {
            message: format!("{}\n{}", failure.message, stage.gateway_log()),
            ..failure
        });
    }
    if args.check {
        return Ok(());
    }
    story::next(&stage, say)?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = stage.ended() => return Err(Failure::failed(format!("the gateway ended\n{}", stage.gateway_log()))),
    }
    say.line("\nStopped; the folder is removed.")?;
    Ok(())
}
