//! `countersign tool`: wrapped tools.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::client::Client;
use super::failure::Failure;
use super::input::{Reason, secret_file, text_file};
use super::output::{Output, or_dash, plain, words};
use crate::api::tool::add::{ToolAdd, ToolAdded};
use crate::api::tool::set_credential::{CredentialScheme, CredentialSet};
use crate::api::tool::show::ToolShown;
use crate::api::tool::try_request::{ToolTried, ToolTry, TriedGrant};
use crate::api::tool::{TaskView, ToolView};
use crate::vo::is_name;

/// Wrapped tools.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    Add(Add),
    Try(Try),
    List(List),
    Show(Show),
    Remove(Remove),
    Credential(Credential),
}

/// Wraps a tool by a manifest, which names its upstream and its tasks. Nobody may do any of them until they are granted.
///
/// Examples:
///   countersign tool add imaging segmentation.toml
///   countersign tool add imaging segmentation.toml --replace --reason 'results may be downloaded'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    /// Name of the virtual organisation.
    vo: String,
    /// The manifest (TOML; - for standard input).
    file: PathBuf,
    /// The tool is there already: replace its manifest.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    reason: Reason,
}

/// Says which task a request would be and who may make it; nothing is sent to the tool. Without a request it only checks
/// the manifest.
///
/// Examples:
///   countersign tool try imaging segmentation.toml
///   countersign tool try imaging segmentation.toml --request 'GET /jobs/7'
///   countersign tool try imaging segmentation --request 'DELETE /jobs/7' --as john
///   countersign tool try imaging grid.toml --request 'POST /ws' --header 'Content-Type: text/xml' --body submit.xml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Try {
    /// Name of the virtual organisation.
    vo: String,
    /// A manifest, or the name of a tool that is wrapped already.
    #[arg(value_name = "FILE|NAME")]
    tool: String,
    /// The request: method and path, with its query.
    #[arg(long, value_name = "REQUEST")]
    request: Option<String>,
    /// A header of the request; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", requires = "request")]
    headers: Vec<String>,
    /// File with its body (- for standard input), for tasks that are told by their body.
    #[arg(long, value_name = "FILE", requires = "request")]
    body: Option<PathBuf>,
    /// User name of a member who would make it.
    #[arg(long = "as", value_name = "USER", requires = "request")]
    person: Option<String>,
}

/// Lists the tools of a virtual organisation.
///
/// Examples:
///   countersign tool list imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// Name of the virtual organisation.
    vo: String,
}

/// Shows one tool with its tasks; with --manifest, its manifest as it was registered.
///
/// Examples:
///   countersign tool show imaging segmentation
///   countersign tool show imaging segmentation --manifest > segmentation.toml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Show {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the tool.
    tool: String,
    /// Print its manifest.
    #[arg(long)]
    manifest: bool,
}

/// Takes a tool out of service.
///
/// Examples:
///   countersign tool remove imaging segmentation
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Remove {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the tool.
    tool: String,
    #[command(flatten)]
    reason: Reason,
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
        Tool::Add(args) => add(&client, args, out).await,
        Tool::Try(args) => try_request(&client, args, out).await,
        Tool::List(List { vo }) => {
            let tools: Vec<ToolView> = client.task("tool.list").at("vo", vo).list("tools").await?;
            out.list(
                "tools",
                &tools,
                &["NAME", "UPSTREAM", "HOSTS", "DELEGATION", "TASKS", "VERSION"],
                |tool| {
                    vec![
                        tool.name.clone(),
                        tool.upstream.clone(),
                        words(&tool.hosts),
                        tool.delegation.clone(),
                        tool.tasks.len().to_string(),
                        tool.version.to_string(),
                    ]
                },
            )?;
            Ok(())
        }
        Tool::Show(args) => {
            let shown: ToolShown = client
                .task("tool.show")
                .at("vo", args.vo)
                .at("tool", args.tool)
                .fetch()
                .await?;
            Ok(out.show(&shown, |out, shown| match args.manifest {
                true => shown.manifest.lines().try_for_each(|line| out.line(line)),
                false => show(out, &shown.tool),
            })?)
        }
        Tool::Remove(Remove { vo, tool, reason }) => {
            let read = client.task("tool.show").at("vo", &vo).at("tool", &tool);
            let (_, tag) = read.tagged::<ToolShown>().await?;
            client
                .task("tool.remove")
                .because(&reason)
                .at("vo", &vo)
                .at("tool", &tool)
                .matching(tag)
                .act()
                .await?;
            Ok(out.done("tool.remove", format!("{tool} of {vo} is out of service"))?)
        }
        Tool::Credential(args) => credential(&client, args, out).await,
    }
}

async fn add(client: &Client, args: Add, out: Output) -> Result<(), Failure> {
    let manifest = text_file(&args.file)?;
    let version = match args.replace {
        true => present_version(client, &args.vo, &manifest).await?,
        false => 0,
    };
    let body = ToolAdd {
        manifest,
        file: Some(args.file.display().to_string()),
        version,
    };
    let task = client.task("tool.add").at("vo", &args.vo).because(&args.reason);
    let added: Result<ToolAdded, Failure> = task.send(&body).await;
    let added = added.map_err(|failure| match failure.is_problem("conflict") && !args.replace {
        true => failure.hint("if the tool is to have a new manifest, add --replace"),
        false => failure,
    })?;
    out.show(&added, |out, added| {
        let tool = &added.tool;
        out.line(format!(
            "wrapped {} of {} with {} tasks (version {})",
            tool.name,
            args.vo,
            tool.tasks.len(),
            tool.version
        ))
    })?;
    warn(out, &added.warnings);
    Ok(())
}

/// The version that is replaced: what somebody else changed meanwhile is not overwritten unseen.
async fn present_version(client: &Client, vo: &str, manifest: &str) -> Result<i64, Failure> {
    let table: Result<toml::Table, _> = manifest.parse();
    let name = table
        .ok()
        .and_then(|table| table.get("tool")?.get("name")?.as_str().map(str::to_owned));
    let Some(name) = name else {
        // The gateway says what is wrong with it.
        return Ok(0);
    };
    let shown: ToolShown = client
        .task("tool.show")
        .at("vo", vo)
        .at("tool", name)
        .fetch()
        .await?;
    Ok(shown.tool.version)
}

async fn try_request(client: &Client, args: Try, out: Output) -> Result<(), Failure> {
    let path = Path::new(&args.tool);
    let mut body = ToolTry {
        request: args.request,
        headers: args.headers,
        content: args.body.as_deref().map(text_file).transpose()?,
        person: args.person,
        ..ToolTry::default()
    };
    if args.tool == "-" || path.is_file() {
        body.manifest = Some(text_file(path)?);
        body.file = Some(args.tool.clone());
    } else if is_name(&args.tool) {
        body.tool = Some(args.tool.clone());
    } else {
        return Err(Failure::not_found(format!(
            "there is no file `{}`, and a tool cannot have that name",
            args.tool
        )));
    }
    let asked = body.request.clone();
    let tried: ToolTried = client.task("tool.try").at("vo", args.vo).send(&body).await?;
    out.show(&tried, |out, tried| match &asked {
        Some(asked) => show_tried(out, asked, tried),
        None => out.line(format!("the manifest of {} is in order", tried.tool)),
    })?;
    warn(out, &tried.warnings);
    Ok(())
}

fn warn(out: Output, warnings: &[String]) {
    for warning in warnings {
        out.note(format!("warning: {}", plain(warning)));
    }
}

fn show(out: Output, tool: &ToolView) -> io::Result<()> {
    out.pairs(&[
        ("Name", tool.name.clone()),
        ("Id", tool.id.clone()),
        ("Version", tool.version.to_string()),
        ("Upstream", tool.upstream.clone()),
        ("Hosts", words(&tool.hosts)),
        ("Delegation", tool.delegation.clone()),
    ])?;
    out.line("")?;
    let row = |task: &TaskView| {
        let resource = or_dash(task.resource.as_deref());
        vec![
            task.name.clone(),
            task.kind.clone(),
            resource,
            words(&task.matches),
            words(&task.demands),
        ]
    };
    out.table(
        &["TASK", "KIND", "ON", "REQUESTS", "WITH"],
        &tool.tasks.iter().map(row).collect::<Vec<_>>(),
    )
}

fn show_tried(out: Output, asked: &str, tried: &ToolTried) -> io::Result<()> {
    let Some(task) = &tried.task else {
        return out.line(format!(
            "{asked}: no task of {} names it, so it is refused for everyone",
            tried.tool
        ));
    };
    let parameters: Vec<String> = tried
        .parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut pairs = vec![
        ("Request", asked.to_owned()),
        ("Task", task.clone()),
        ("Within", or_dash(tried.within.as_deref())),
        ("Parameters", words(&parameters)),
        ("Resource", or_dash(tried.resource.as_deref())),
        ("Owner", or_dash(tried.owner.as_deref())),
    ];
    if let Some(decision) = &tried.decision {
        pairs.push(("Decision", decision.clone()));
    }
    out.pairs(&pairs)?;
    if tried.allowed.is_empty() {
        return out.line("No role of the virtual organisation is granted this task.");
    }
    out.line("")?;
    let row = |grant: &TriedGrant| {
        let held = if grant.held { "yes" } else { "no" };
        vec![grant.role.clone(), grant.condition.clone(), held.to_owned()]
    };
    out.table(
        &["ROLE", "WHEN", "HELD"],
        &tried.allowed.iter().map(row).collect::<Vec<_>>(),
    )
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
