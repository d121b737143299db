//! The command line: one file a family of commands, all of them over the API except the few that work on a folder.
//!
//! What every command promises: data on standard output and everything else on standard error; `--json` prints the data
//! as one JSON document, and failures as one on standard error; nothing asks for confirmation; passwords never stand
//! among the arguments; nothing turns verification off. Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 not found,
//! 5 unreachable.

mod account;
mod admin;
mod alert;
mod audit;
mod backup;
mod ceiling;
mod certificate;
mod client;
mod completions;
mod doctor;
mod download;
mod factor;
mod failure;
mod grant;
mod idp;
mod init;
mod input;
mod operation;
mod output;
mod profile;
mod proxy;
mod provider;
mod quickstart;
mod reload;
mod request;
mod resource;
mod role;
pub mod sample;
mod seal;
mod serve;
mod session;
mod status;
mod terms;
mod token;
mod tool;
mod trace;
mod upstream;
mod user;
mod vo;
mod witness;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::failure::Failure;
use self::output::Output;

/// An audited delegation gateway: every request is authenticated, authorised and recorded before the tool sees it.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 not found, 5 the gateway cannot be reached.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    verbatim_doc_comment,
    subcommand_required = true,
    max_term_width = 120
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print data as JSON, and failures as JSON on standard error.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(quickstart::Quickstart),
    Init(init::Init),
    Serve(serve::Serve),
    Reload(reload::Reload),
    Status(status::Status),
    Doctor(doctor::Doctor),
    Login(session::Login),
    Logout(session::Logout),
    Whoami(session::Whoami),
    #[command(subcommand)]
    Password(session::Password),
    #[command(subcommand)]
    Session(session::Session),
    #[command(subcommand)]
    Factor(factor::Factor),
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    Admin(admin::Admin),
    #[command(subcommand)]
    Idp(idp::Idp),
    #[command(subcommand)]
    Vo(vo::Vo),
    #[command(subcommand)]
    User(user::User),
    #[command(subcommand)]
    Account(account::Account),
    #[command(subcommand)]
    Terms(terms::Terms),
    #[command(subcommand)]
    Role(role::Role),
    #[command(subcommand)]
    Grant(grant::Grant),
    #[command(subcommand)]
    Upstream(upstream::Upstream),
    #[command(subcommand)]
    Tool(tool::Tool),
    #[command(subcommand)]
    Resource(resource::Resource),
    Explain(request::Explain),
    #[command(subcommand)]
    Request(request::Request),
    #[command(subcommand)]
    Audit(audit::Audit),
    #[command(subcommand)]
    Witness(witness::Witness),
    Trace(trace::Trace),
    #[command(subcommand)]
    Proxy(proxy::Proxy),
    Crl(proxy::Crl),
    #[command(subcommand)]
    Provider(provider::Provider),
    #[command(subcommand)]
    Case(provider::Case),
    #[command(subcommand)]
    Alert(alert::Alert),
    Backup(backup::Backup),
    Restore(backup::Restore),
    #[command(subcommand)]
    Seal(seal::Seal),
    Completions(completions::Completions),
    Openapi(completions::Openapi),
    #[command(hide = true)]
    SampleTool(sample::SampleTool),
}

/// Runs the program on its own arguments.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches))
    {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let json = cli.json;
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_closed() {
                tell(&failure, json);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// The command line. The sources' paragraphs come as wide as the terminal takes them, and a list of commands shows the
/// first sentence of each.
fn command() -> clap::Command {
    tidy(Cli::command())
}

fn tidy(command: clap::Command) -> clap::Command {
    let long = command
        .get_long_about()
        .or_else(|| command.get_about())
        .map(|text| reflow(&text.to_string()));
    let command = match long {
        None => command,
        Some(long) => {
            let short = long
                .split(['\n', ':', ';'])
                .next()
                .unwrap_or_default()
                .split(". ")
                .next()
                .unwrap_or_default();
            command
                .about(short.trim_end_matches('.').to_owned())
                .long_about(long)
        }
    };
    command.mut_subcommands(tidy)
}

/// Joins the lines of each paragraph; examples stay as they are.
fn reflow(text: &str) -> String {
    let paragraphs = text
        .split("\n\n")
        .map(|paragraph| match paragraph.starts_with("Examples:") {
            true => paragraph.to_owned(),
            false => paragraph.replace('\n', " "),
        });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Help and version are answers; everything else that clap does not understand is exit code 2.
fn misused(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && wants_json {
        let text = error.render().to_string();
        let text = text.split("\n\nUsage:").next().unwrap_or_default();
        let text = text.trim().trim_start_matches("error: ");
        tell(&Failure::usage(text).hint("countersign COMMAND --help"), true);
    } else {
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn tell(failure: &Failure, json: bool) {
    use std::io::Write;
    let text = if json {
        failure.document().to_string()
    } else {
        failure.to_string()
    };
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn start(cli: Cli) -> Result<(), Failure> {
    // SECURITY: whatever this program writes is for the account that runs it, stores and sockets included.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| Failure::failed("another TLS provider is in use"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(dispatch(cli.command, Output::new(cli.json)));
    // A command that ended does not wait for work that nobody waits for.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command, out: Output) -> Result<(), Failure> {
    match command {
        Command::Quickstart(args) => quickstart::run(args).await,
        Command::Init(args) => init::run(args, out).await,
        Command::Serve(args) => serve::run(args, out).await,
        Command::Reload(args) => reload::run(args, out).await,
        Command::Status(args) => status::run(args, out).await,
        Command::Doctor(args) => doctor::run(args, out).await,
        Command::Login(args) => session::login(args, out).await,
        Command::Logout(session::Logout {}) => session::logout(out).await,
        Command::Whoami(session::Whoami {}) => session::whoami(out).await,
        Command::Password(command) => session::own_password(command, out).await,
        Command::Session(command) => session::sessions(command, out).await,
        Command::Factor(command) => factor::run(command, out).await,
        Command::Idp(command) => idp::run(command, out).await,
        Command::Token(command) => token::run(command, out).await,
        Command::Admin(command) => admin::run(command, out).await,
        Command::Vo(command) => vo::run(command, out).await,
        Command::User(command) => user::run(command, out).await,
        Command::Account(command) => account::run(command, out).await,
        Command::Terms(command) => terms::run(command, out).await,
        Command::Role(command) => role::run(command, out).await,
        Command::Grant(command) => grant::run(command, out).await,
        Command::Upstream(command) => upstream::run(command, out).await,
        Command::Tool(command) => tool::run(command, out).await,
        Command::Resource(command) => resource::run(command, out).await,
        Command::Explain(args) => request::explain(args, out).await,
        Command::Request(command) => request::run(command, out).await,
        Command::Audit(command) => audit::run(command, out).await,
        Command::Witness(command) => witness::run(command, out).await,
        Command::Alert(command) => alert::run(command, out).await,
        Command::Trace(args) => trace::run(args, out).await,
        Command::Proxy(command) => proxy::run(command, out).await,
        Command::Crl(args) => proxy::crl(args, out).await,
        Command::Provider(command) => provider::run(command, out).await,
        Command::Case(command) => provider::case(command, out).await,
        Command::Backup(args) => backup::backup(args, out).await,
        Command::Restore(args) => backup::restore(args, out).await,
        Command::Seal(command) => seal::run(command, out).await,
        Command::Completions(args) => completions::run(&args, out),
        Command::Openapi(completions::Openapi {}) => completions::openapi(out),
        Command::SampleTool(args) => Ok(sample::run(args).await?),
    }
}
