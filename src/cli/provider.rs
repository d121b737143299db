//! `countersign provider`: accounts of resource providers, and what they ask; `countersign case`: what a VO answers.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::client::Client;
use super::failure::Failure;
use super::input::Reason;
use super::output::{Output, or_dash, words};
use super::trace::read;
use crate::api::case::answer::CaseAnswered;
use crate::api::case::list::CaseView;
use crate::api::case::show::CaseShown;
use crate::api::provider::add::ProviderAdd;
use crate::api::provider::cases::{ProviderCase, ProviderCases};
use crate::api::provider::list::ProviderView;
use crate::api::provider::trace::{ProviderQuery, ProviderTrace, ProviderTraced};
use crate::api::provider::{ProviderChoice, ShownPerson};
use crate::clock::Timestamp;
use crate::id::CaseId;

/// Resource providers: who may trace the proxies of a tool, and what they find.
#[derive(Debug, Subcommand)]
pub(crate) enum Provider {
    Add(Add),
    List(List),
    Choose(Choose),
    Remove(Remove),
    Trace(Trace),
    Cases(Cases),
}

/// How a provider is answered.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum How {
    /// An administrator of the virtual organisation answers.
    Case,
    /// The gateway answers.
    AtOnce,
}

impl How {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Case => "case",
            Self::AtOnce => "at-once",
        }
    }
}

/// A field of a person's card.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Field {
    /// User name.
    Username,
    /// Name.
    Name,
    /// E-mail address.
    Mail,
    /// Home organisation.
    Organisation,
}

impl Field {
    fn names(fields: &[Self]) -> Vec<String> {
        let name = |field: &Self| match field {
            Self::Username => "username",
            Self::Name => "name",
            Self::Mail => "mail",
            Self::Organisation => "organisation",
        };
        fields.iter().map(|field| name(field).to_owned()).collect()
    }
}

/// Lets a member trace the proxies that were minted for one tool, and no others. The account holds the role
/// `provider-TOOL`, which is made when the first one comes.
///
/// What all providers of the tool see is chosen with --answer: a case (unless told otherwise), which an administrator
/// answers, or the fields in --show at once. An account for a provider is made with `countersign user add --no-role`.
///
/// Examples:
///   countersign provider add imaging arc ce-ops --reason 'contract of May'
///   countersign provider add imaging arc ce-ops --answer at-once --show name --show mail
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the tool.
    tool: String,
    /// User name of a member.
    user: String,
    /// When it ends by itself (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = super::input::moment)]
    until: Option<Timestamp>,
    /// How all providers of the tool are answered from now on.
    #[arg(long, value_enum)]
    answer: Option<How>,
    /// A field of the person's card that they see at once; may be given several times.
    #[arg(long = "show", value_enum, value_name = "FIELD", requires = "answer")]
    shows: Vec<Field>,
    #[command(flatten)]
    reason: Reason,
}

/// Lists who may trace the proxies of which tool, and what they see.
///
/// Examples:
///   countersign provider list imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// Name of the virtual organisation.
    vo: String,
}

/// Chooses what all providers of a tool see of a trace.
///
/// Examples:
///   countersign provider choose imaging arc at-once --show name --show organisation
///   countersign provider choose imaging arc case --reason 'we answer ourselves'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Choose {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the tool.
    tool: String,
    /// How they are answered.
    #[arg(value_enum)]
    answer: How,
    /// A field of the person's card that they see at once; may be given several times.
    #[arg(long = "show", value_enum, value_name = "FIELD")]
    shows: Vec<Field>,
    #[command(flatten)]
    reason: Reason,
}

/// Takes the right to trace the proxies of a tool away. The account stays a member.
///
/// Examples:
///   countersign provider remove imaging arc ce-ops --reason 'left'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Remove {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the tool.
    tool: String,
    /// User name of the member.
    user: String,
    #[command(flatten)]
    reason: Reason,
}

/// For resource providers: traces a proxy of the own tool. The answer is what the virtual organisation chose: fields of the
/// person's card, or a case that it answers. The trace is recorded, and its administrators are told.
///
/// Examples:
///   countersign provider trace imaging arc proxy.pem --note 'filled the disk of node 7'
///   countersign provider trace imaging arc proxy.pem --proof case-7.tlog-proof
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Trace {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the own tool.
    tool: String,
    /// A file with the certificate or chain (PEM or DER; - for standard input) or its public key (PEM), or the SHA-256 of one
    /// of them. A serial or a name alone is not enough.
    #[arg(value_name = "FILE|FINGERPRINT")]
    query: String,
    /// What happened, for whoever answers a case.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Where to write the record of the proxy's mint with the proof that it is in the audit log. A case that is open has none.
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
}

/// For resource providers: what became of the cases about proxies of the own tool, newest first.
///
/// Examples:
///   countersign provider cases imaging arc
///   countersign provider cases imaging arc --case 0199a1b2-0000-7000-8000-000000000001 --proof case-7.tlog-proof
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Cases {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the own tool.
    tool: String,
    /// The one with this id.
    #[arg(long, value_name = "ID")]
    case: Option<CaseId>,
    /// Where to write the record of the proxy's mint with the proof that it is in the audit log.
    #[arg(long, value_name = "FILE", requires = "case")]
    proof: Option<PathBuf>,
}

/// Cases: what resource providers ask about proxies, and the virtual organisation answers.
#[derive(Debug, Subcommand)]
pub(crate) enum Case {
    List(CaseList),
    Show(CaseShow),
    Answer(CaseAnswer),
}

/// Lists the cases of a virtual organisation, newest first.
///
/// Examples:
///   countersign case list imaging --open
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CaseList {
    /// Name of the virtual organisation.
    vo: String,
    /// Only those that nobody has answered.
    #[arg(long)]
    open: bool,
}

/// Shows a case, with the person and what the proxy was used for.
///
/// Examples:
///   countersign case show imaging 0199a1b2-0000-7000-8000-000000000001
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CaseShow {
    /// Name of the virtual organisation.
    vo: String,
    /// Id of the case.
    case: CaseId,
}

/// Answers a case: the provider sees the fields in --show and the words in --text, and the person's opaque id; or, with
/// --decline, the words alone.
///
/// Examples:
///   countersign case answer imaging 0199a1b2-0000-7000-8000-000000000001 --show name --show mail
///   countersign case answer imaging 0199a1b2-0000-7000-8000-000000000001 --text 'she is told, and her jobs are stopped'
///   countersign case answer imaging 0199a1b2-0000-7000-8000-000000000001 --decline --text 'ask our security officer'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CaseAnswer {
    /// Name of the virtual organisation.
    vo: String,
    /// Id of the case.
    case: CaseId,
    /// A field of the person's card that the provider sees; may be given several times.
    #[arg(long = "show", value_enum, value_name = "FIELD", conflicts_with = "decline")]
    shows: Vec<Field>,
    /// What else the provider is told.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Closes the case without saying who it was.
    #[arg(long)]
    decline: bool,
}

/// Runs a command of providers.
pub(crate) async fn run(command: Provider, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Provider::Add(args) => add(&client, args, out).await,
        Provider::List(List { vo }) => {
            let found: Vec<ProviderView> = client
                .task("provider.list")
                .at("vo", vo)
                .list("providers")
                .await?;
            Ok(show_providers(out, &found)?)
        }
        Provider::Choose(args) => {
            let body = ProviderChoice {
                answer: Some(args.answer.as_str().to_owned()),
                shows: Field::names(&args.shows),
            };
            let task = client
                .task("provider.choose")
                .at("vo", &args.vo)
                .at("tool", &args.tool);
            let _: serde_json::Value = task.because(&args.reason).send(&body).await?;
            let said = format!(
                "providers of {} are answered: {}",
                args.tool,
                args.answer.as_str()
            );
            Ok(out.done("provider.choose", said)?)
        }
        Provider::Remove(args) => {
            let person = client.person(&args.vo, &args.user).await?;
            client
                .task("provider.remove")
                .at("vo", &args.vo)
                .at("tool", &args.tool)
                .at("person", person)
                .because(&args.reason)
                .act()
                .await?;
            let said = format!("{} traces the proxies of {} no more", args.user, args.tool);
            Ok(out.done("provider.remove", said)?)
        }
        Provider::Trace(args) => trace(&client, args, out).await,
        Provider::Cases(args) => cases(&client, args, out).await,
    }
}

async fn add(client: &Client, args: Add, out: Output) -> Result<(), Failure> {
    let body = ProviderAdd {
        tool: args.tool,
        username: args.user,
        until: args.until.map(|until| until.to_string()),
        choice: args.answer.map(|answer| ProviderChoice {
            answer: Some(answer.as_str().to_owned()),
            shows: Field::names(&args.shows),
        }),
    };
    let task = client.task("provider.add").at("vo", &args.vo);
    let made: ProviderView = task.because(&args.reason).send(&body).await?;
    out.show(&made, |out, made| {
        let shows = match made.answer.as_str() {
            "case" => "a case that an administrator answers".to_owned(),
            _ => format!("at once the id and {}", words(&made.shows)),
        };
        out.line(format!(
            "{} traces the proxies of {} and sees: {shows}",
            made.username, made.tool
        ))
    })?;
    Ok(())
}

fn show_providers(out: Output, found: &[ProviderView]) -> std::io::Result<()> {
    let headings = ["TOOL", "USER", "ANSWER", "SHOWS", "UNTIL"];
    out.list("providers", found, &headings, |one| {
        vec![
            one.tool.clone(),
            one.username.clone(),
            one.answer.clone(),
            words(&one.shows),
            or_dash(one.until.as_deref()),
        ]
    })
}

async fn trace(client: &Client, args: Trace, out: Output) -> Result<(), Failure> {
    let body = ProviderQuery {
        query: read(&args.query)?,
        note: args.note,
        proof: args.proof.is_some(),
    };
    let task = client
        .task("provider.trace")
        .at("vo", &args.vo)
        .at("tool", &args.tool);
    let found: ProviderTrace = task.send(&body).await?;
    let Some(first) = found.proxies.first() else {
        let of = format!("{} at {}", args.tool, args.vo);
        return Err(super::trace::none(&of, found.more));
    };
    let proof = first.proof.as_ref().map(|proof| proof.proof.as_str());
    let written = keep(args.proof.as_ref(), proof)?;
    out.show(&found, |out, found| {
        for proxy in &found.proxies {
            show_traced(out, proxy)?;
        }
        if found.more {
            out.line(super::trace::MORE)?;
        }
        written.map_or(Ok(()), |said| out.line(said))
    })?;
    Ok(())
}

/// Writes a proof where it is wanted; says what became of it.
fn keep(file: Option<&PathBuf>, proof: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(file) = file else {
        return Ok(None);
    };
    let Some(proof) = proof else {
        return Ok(Some("There is no proof (yet)".to_owned()));
    };
    fs::write(file, proof)
        .map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", file.display())))?;
    Ok(Some(format!("Proof in `{}`", file.display())))
}

fn show_traced(out: Output, proxy: &ProviderTraced) -> std::io::Result<()> {
    let mut pairs = match (&proxy.person, &proxy.case) {
        (Some(person), _) => of(person),
        (None, Some(case)) => vec![("Case", format!("{case} (the virtual organisation answers)"))],
        (None, None) => Vec::new(),
    };
    pairs.extend([
        ("Virtual organisation", proxy.vo.clone()),
        ("Proxy", or_dash(proxy.subject.as_deref())),
        ("Serial", proxy.serial.clone()),
        ("Found by", proxy.by.clone()),
        ("What that proves", proxy.says.clone()),
        ("Valid", format!("{} to {}", proxy.not_before, proxy.not_after)),
        ("Revoked", or_dash(proxy.revoked.as_deref())),
    ]);
    out.pairs(&pairs)?;
    let more = if proxy.more_requests { "more than " } else { "" };
    out.line(format!(
        "Used for {more}{} requests to {}:",
        proxy.requests.len(),
        proxy.tool
    ))?;
    let row = |request: &crate::api::provider::trace::ProviderRequest| {
        vec![request.time.clone(), or_dash(request.task.as_deref())]
    };
    let rows: Vec<Vec<String>> = proxy.requests.iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    out.table(&["TIME", "TASK"], &rows)
}

/// The person, as far as she is shown.
fn of(person: &ShownPerson) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("Person", person.id.clone())];
    let fields = [
        ("Name", &person.name),
        ("User name", &person.username),
        ("Mail", &person.mail),
        ("Organisation", &person.organisation),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            pairs.push((name, value.clone()));
        }
    }
    pairs
}

async fn cases(client: &Client, args: Cases, out: Output) -> Result<(), Failure> {
    let task = client
        .task("provider.cases")
        .at("vo", args.vo)
        .at("tool", args.tool);
    let Some(id) = args.case else {
        let found: Vec<ProviderCase> = task.list("cases").await?;
        return Ok(show_cases(out, &found)?);
    };
    let found: ProviderCases = task.query("case", id.to_string()).fetch().await?;
    let Some(case) = found.cases.first() else {
        return Err(Failure::not_found(format!("there is no case {id} here")));
    };
    let proof = case.proof.as_ref().map(|proof| proof.proof.as_str());
    let written = keep(args.proof.as_ref(), proof)?;
    out.show(&found, |out, _| {
        out.pairs(&case_pairs(case))?;
        written.map_or(Ok(()), |said| out.line(said))
    })?;
    Ok(())
}

fn show_cases(out: Output, found: &[ProviderCase]) -> std::io::Result<()> {
    let headings = ["OPENED", "STATE", "PERSON", "SERIAL", "CASE"];
    out.list("cases", found, &headings, |case| {
        let person = case.person.as_ref();
        let name = person.map(|person| person.name.clone().unwrap_or_else(|| person.id.clone()));
        vec![
            case.opened.clone(),
            case.state.clone(),
            or_dash(name.as_deref()),
            case.serial.clone(),
            case.id.clone(),
        ]
    })?;
    Ok(())
}

fn case_pairs(case: &ProviderCase) -> Vec<(&'static str, String)> {
    let mut pairs = vec![
        ("Case", case.id.clone()),
        ("State", case.state.clone()),
        ("Opened", case.opened.clone()),
        ("Serial", case.serial.clone()),
        ("Answered", or_dash(case.answered.as_deref())),
    ];
    pairs.extend(case.person.as_ref().map(of).unwrap_or_default());
    pairs.push(("Said", or_dash(case.text.as_deref())));
    pairs
}

/// Runs a command of cases.
pub(crate) async fn case(command: Case, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Case::List(CaseList { vo, open }) => {
            let task = client.task("case.list").at("vo", vo);
            let task = task.maybe("state", open.then_some("open"));
            let found: Vec<CaseView> = task.list("cases").await?;
            let headings = ["OPENED", "STATE", "TOOL", "PROVIDER", "PERSON", "CASE"];
            out.list("cases", &found, &headings, |case| {
                vec![
                    case.opened.clone(),
                    case.state.clone(),
                    case.tool.clone(),
                    case.provider.clone(),
                    case.person.clone(),
                    case.id.clone(),
                ]
            })?;
        }
        Case::Show(CaseShow { vo, case }) => {
            let task = client.task("case.show").at("vo", vo).at("case", case.to_string());
            let found: CaseShown = task.fetch().await?;
            out.show(&found, |out, found| {
                out.pairs(&view_pairs(&found.case))?;
                match &found.proxy {
                    Some(proxy) => {
                        out.line("")?;
                        super::trace::show(out, proxy)
                    }
                    None => Ok(()),
                }
            })?;
        }
        Case::Answer(args) => {
            let body = CaseAnswered {
                shows: Field::names(&args.shows),
                text: args.text,
                decline: args.decline,
            };
            let task = client
                .task("case.answer")
                .at("vo", args.vo)
                .at("case", args.case.to_string());
            let case: CaseView = task.send(&body).await?;
            out.show(&case, |out, case| {
                out.line(format!(
                    "case {} is {}: {} is told",
                    case.id, case.state, case.provider
                ))
            })?;
        }
    }
    Ok(())
}

fn view_pairs(case: &CaseView) -> Vec<(&'static str, String)> {
    vec![
        ("Case", case.id.clone()),
        ("State", case.state.clone()),
        ("Provider", format!("{} (of {})", case.provider, case.tool)),
        ("Opened", case.opened.clone()),
        ("It says", or_dash(case.note.as_deref())),
        ("Request", case.request.clone()),
        ("Answered", or_dash(case.answered.as_deref())),
        ("By", or_dash(case.answered_by.as_deref())),
        ("Shows", words(&case.shows)),
        ("Said", or_dash(case.text.as_deref())),
    ]
}
