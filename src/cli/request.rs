//! `countersign explain` and `countersign request`: requests, long after they were made.

use clap::{Args, Subcommand};

use super::audit::search::line;
use super::client::Client;
use super::failure::Failure;
use super::input::Reason;
use super::output::{Output, or_dash, words};
use crate::api::audit::NamedPerson;
use crate::api::person::me::MeView;
use crate::api::request::explain::Explanation;
use crate::api::request::list_own::RequestList;
use crate::api::request::settle::RequestSettle;
use crate::id::RequestId;
use crate::vo::VO_ADMINISTRATOR;

/// Why a request was permitted or refused: one of your own, or as an administrator any one of your virtual
/// organisation, with the policies and the path that led to the decision, and every record of it.
///
/// Examples:
///   countersign explain 0199a1b2-0000-7000-8000-000000000001
///   countersign explain 0199a1b2-0000-7000-8000-000000000001 --vo imaging --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Explain {
    /// Id of the request: every answer and every refusal names it.
    id: RequestId,
    /// The virtual organisation it was made in; those that you administer are looked through when not given.
    #[arg(long)]
    vo: Option<String>,
}

/// Requests, long after they were made.
#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// Why a request was permitted or refused; the same as `countersign explain`.
    ///
    /// Examples:
    ///   countersign request explain 0199a1b2-0000-7000-8000-000000000001
    #[command(verbatim_doc_comment)]
    Explain(Explain),
    List(List),
    Settle(Settle),
}

/// Lists your own requests, newest first: to tools, changes, and refusals with their reasons. What you only looked at in
/// the gateway itself is left out.
///
/// Examples:
///   countersign request list
///   countersign request list --refused --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// Those alone that were refused.
    #[arg(long)]
    refused: bool,
    /// How many, at most; the newest.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

/// Gives what a request made to whoever asked for it, when its outcome is unknown (a crash in mid-answer).
///
/// Examples:
///   countersign request settle imaging 0199a1b2-0000-7000-8000-000000000001 --made job/42
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Settle {
    /// Name of the virtual organisation.
    vo: String,
    /// Id of the request.
    id: RequestId,
    /// What it made, as the manifest names the type and the tool the id.
    #[arg(long, value_name = "TYPE/ID")]
    made: String,
    #[command(flatten)]
    reason: Reason,
}

/// Runs `request ...`.
pub(crate) async fn run(command: Request, out: Output) -> Result<(), Failure> {
    match command {
        Request::Explain(args) => explain(args, out).await,
        Request::List(args) => list(args, out).await,
        Request::Settle(args) => settle(args, out).await,
    }
}

async fn list(args: List, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    let task = client
        .task("request.list_own")
        .query("limit", args.limit.to_string());
    let task = match args.refused {
        true => task.query("permit", "false"),
        false => task,
    };
    let found: RequestList = task.fetch().await?;
    let headings = ["TIME", "VO", "TOOL", "TASK", "ANSWER", "REQUEST"];
    out.list("requests", &found.requests, &headings, |request| {
        vec![
            request.time.clone(),
            or_dash(request.vo.as_deref()),
            or_dash(request.tool.as_deref()),
            or_dash(request.task.as_deref()),
            match request.permit {
                true => "permitted".to_owned(),
                false => request.reason.clone(),
            },
            request.request.clone(),
        ]
    })?;
    Ok(())
}

async fn settle(args: Settle, out: Output) -> Result<(), Failure> {
    let wrong = || Failure::usage(format!("`{}` is not TYPE/ID", args.made)).hint("e.g. --made job/42");
    let (kind, id) = args.made.split_once('/').ok_or_else(wrong)?;
    let body = RequestSettle {
        kind: kind.to_owned(),
        id: id.to_owned(),
    };
    let client = Client::saved()?;
    let task = client
        .task("request.settle")
        .because(&args.reason)
        .at("vo", &args.vo)
        .at("request", args.id.to_string());
    task.send::<_, serde_json::Value>(&body).await?;
    out.done(
        "request.settle",
        format!("{} belongs to whoever made request {}", args.made, args.id),
    )?;
    Ok(())
}

/// Runs `explain`.
pub(crate) async fn explain(args: Explain, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    let found = match &args.vo {
        Some(vo) => in_vo(&client, vo, args.id).await?,
        None => anywhere(&client, args.id).await?,
    };
    out.show(&found, show)?;
    Ok(())
}

async fn in_vo(client: &Client, vo: &str, id: RequestId) -> Result<Explanation, Failure> {
    client
        .task("request.explain")
        .at("vo", vo)
        .at("request", id.to_string())
        .fetch()
        .await
}

/// Looks where the answer says most: the VOs that the person administers, then her own requests. A VO that she does not
/// administer is not asked, since each refusal counts as one.
async fn anywhere(client: &Client, id: RequestId) -> Result<Explanation, Failure> {
    let me: MeView = client.task("person.me").fetch().await?;
    let administers =
        |vo: &&crate::api::person::me::MyVo| vo.roles.iter().any(|role| role == VO_ADMINISTRATOR);
    for vo in me.vos.iter().filter(administers) {
        match in_vo(client, &vo.vo, id).await {
            Err(failure) if failure.is_problem("not_found") => {}
            found => return found,
        }
    }
    client
        .task("request.explain_own")
        .at("request", id.to_string())
        .fetch()
        .await
}

/// How sure it was who asked.
fn shown(found: &Explanation) -> String {
    match found.acr.as_str() {
        "" => or_dash(None),
        acr => format!("{acr} ({})", found.amr.join(", ")),
    }
}

fn show(out: Output, found: &Explanation) -> std::io::Result<()> {
    let named = |person: &NamedPerson| format!("{} (user {})", person.name, person.username);
    let person = found.person.as_ref().map(named);
    let owner = match (&found.owner, &found.owner_name) {
        (Some(id), Some(person)) => Some(format!("{}, {id}", named(person))),
        (id, _) => id.clone(),
    };
    out.line(super::output::plain(&found.summary))?;
    if let Some(next) = &found.next {
        out.line(format!("next: {next}"))?;
    }
    out.line("")?;
    let mut pairs = vec![
        ("Request", found.request.clone()),
        ("Time", found.time.clone()),
        ("Person", or_dash(person.as_deref())),
        ("Assurance", shown(found)),
        ("Virtual organisation", or_dash(found.vo.as_deref())),
        ("Tool", or_dash(found.tool.as_deref())),
        ("Task", or_dash(found.task.as_deref())),
        ("Asked", found.asked.clone()),
        ("Resource", or_dash(found.resource.as_deref())),
        ("Owner", or_dash(owner.as_deref())),
        (
            "Decision",
            format!(
                "{} ({})",
                if found.permit { "permit" } else { "denial" },
                found.reason
            ),
        ),
        (
            "Answered",
            found
                .status
                .map_or_else(|| "-".to_owned(), |status| status.to_string()),
        ),
        ("Ended", or_dash(found.ending.as_deref())),
    ];
    if let Some(because) = &found.because {
        pairs.push(("Because", super::output::plain(because)));
    }
    for (name, list) in [
        ("Would allow", &found.would_allow),
        ("Path", &found.path),
        ("Policies", &found.policies),
        ("Considered", &found.considered),
        ("Errors", &found.errors),
    ] {
        if !list.is_empty() {
            pairs.push((name, words(list)));
        }
    }
    out.pairs(&pairs)?;
    if found.records.is_empty() {
        return Ok(());
    }
    out.line("\nIts records")?;
    let known = [&found.person, &found.owner_name];
    let people = known.into_iter().flatten();
    let people = people.map(|person| (person.id.clone(), person.clone())).collect();
    found
        .records
        .iter()
        .try_for_each(|record| out.line(line(record, &people)))
}
