//! `countersign account` and the invitations of `countersign user`: accounts on their way.

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::Reason;
use super::output::{Output, or_dash};
use crate::api::account::AccountRequest;
use crate::api::account::approve::AccountApprove;
use crate::api::account::reject::AccountReject;
use crate::api::account::take::TakesRequests;
use crate::api::invitation::InvitationView;
use crate::api::invitation::create::{InvitationCreate, InvitationCreated};
use crate::clock::Timestamp;
use crate::id::EnrolmentId;

/// Accounts that people ask for.
#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Lets people ask for accounts of a virtual organisation, on a page that everybody can open. Nobody can unless this was said.
    ///
    /// Examples:
    ///   countersign account open imaging --reason 'summer school'
    #[command(verbatim_doc_comment)]
    Open(Whether),
    /// Lets nobody ask any more. Requests that were confirmed wait on.
    ///
    /// Examples:
    ///   countersign account close imaging --reason 'the course has begun'
    #[command(verbatim_doc_comment)]
    Close(Whether),
    List(List),
    Approve(Approve),
    Reject(Reject),
}

/// Of which virtual organisation.
#[derive(Debug, Args)]
pub(crate) struct Whether {
    /// Name of the virtual organisation.
    vo: String,
    #[command(flatten)]
    reason: Reason,
}

/// Lists the requests for accounts that wait for a decision, or were decided. Only those whose mail address was confirmed.
///
/// Examples:
///   countersign account list imaging
///   countersign account list imaging --state rejected --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// Name of the virtual organisation.
    vo: String,
    /// Those that were decided so.
    #[arg(long, value_parser = ["pending", "approved", "rejected"], default_value = "pending")]
    state: String,
}

/// Approves a request: its account opens, as a member with roles, and its owner is told by mail.
///
/// Examples:
///   countersign account approve imaging jane --reason 'known from the kick-off'
///   countersign account approve imaging jane --role student --until 2030-01-31T12:00:00Z --reason course
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Approve {
    /// Name of the virtual organisation.
    vo: String,
    /// User name, or the id of the request.
    account: String,
    /// A role to hold; may be given several times. `scientist` when not given.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// When the roles end by themselves (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = super::input::moment)]
    until: Option<Timestamp>,
    #[command(flatten)]
    reason: Reason,
}

/// Refuses a request. The applicant is told by mail, with the message; the request can still be approved.
///
/// Examples:
///   countersign account reject imaging jane --message 'Ask your group leader to name you first.' --reason 'nobody knows her'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Reject {
    /// Name of the virtual organisation.
    vo: String,
    /// User name, or the id of the request.
    account: String,
    /// What the applicant is told, up to 1000 characters.
    #[arg(long, value_name = "TEXT")]
    message: String,
    #[command(flatten)]
    reason: Reason,
}

/// Invites somebody: by mail where the gateway can send some and an address is given, else with a link that is shown this once.
/// She chooses user name and password herself.
///
/// Examples:
///   countersign user invite imaging --mail jane@example.org --name 'Jane Doe' --reason 'new in the group'
///   countersign user invite imaging --role clinician --days 2 --reason 'guest of this week'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Invite {
    /// Name of the virtual organisation.
    vo: String,
    /// Mail address.
    #[arg(long, value_name = "MAIL")]
    mail: Option<String>,
    /// Full name; she can correct it.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Home organisation.
    #[arg(long, value_name = "TEXT")]
    organisation: Option<String>,
    /// A role to hold; may be given several times. `scientist` when not given.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// When the roles end by themselves (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = super::input::moment)]
    until: Option<Timestamp>,
    /// For how many days the link is good, 1 to 30.
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Show the link also where it could go by mail; then it is not mailed.
    #[arg(long)]
    show_link: bool,
    #[command(flatten)]
    reason: Reason,
}

/// Lists the invitations that nobody has taken yet.
///
/// Examples:
///   countersign user invitations imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Invitations {
    /// Name of the virtual organisation.
    vo: String,
}

/// Takes an invitation back that nobody has taken yet.
///
/// Examples:
///   countersign user uninvite imaging 0199a1b2-0000-7000-8000-000000000001 --reason 'wrong address'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Uninvite {
    /// Name of the virtual organisation.
    vo: String,
    /// Id of the invitation (`user invitations` shows it).
    invitation: String,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the command.
pub(crate) async fn run(command: Account, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Account::Open(args) => take(&client, args, true, out).await,
        Account::Close(args) => take(&client, args, false, out).await,
        Account::List(args) => {
            let asked = client
                .task("account.list")
                .at("vo", args.vo)
                .query("state", args.state);
            let found: Vec<AccountRequest> = asked.list("accounts").await?;
            let head = ["USER", "NAME", "MAIL", "ORGANISATION", "ASKED", "ALSO", "WHY"];
            out.list("accounts", &found, &head, |one| {
                vec![
                    one.username.clone(),
                    one.name.clone(),
                    or_dash(one.mail.as_deref()),
                    or_dash(one.organisation.as_deref()),
                    one.asked.clone(),
                    or_dash(Some(&one.same_mail.join(", "))),
                    one.reason.replace('\n', " "),
                ]
            })?;
            Ok(())
        }
        Account::Approve(args) => {
            let id = request(&client, &args.vo, &args.account).await?;
            let body = AccountApprove {
                roles: (!args.roles.is_empty()).then_some(args.roles),
                until: args.until.map(|until| until.to_string()),
            };
            let task = client.task("account.approve").at("vo", args.vo).at("account", id);
            let done: AccountRequest = task.because(&args.reason).send(&body).await?;
            out.show(&done, |out, done| {
                out.line(format!("{} is approved, and told so by mail", done.username))
            })?;
            Ok(())
        }
        Account::Reject(args) => {
            let id = request(&client, &args.vo, &args.account).await?;
            let body = AccountReject {
                message: args.message,
            };
            let task = client.task("account.reject").at("vo", args.vo).at("account", id);
            let done: AccountRequest = task.because(&args.reason).send(&body).await?;
            out.show(&done, |out, done| {
                out.line(format!("{} is refused, and told so by mail", done.username))
            })?;
            Ok(())
        }
    }
}

async fn take(client: &Client, args: Whether, open: bool, out: Output) -> Result<(), Failure> {
    let task = client.task("account.take_requests").at("vo", &args.vo);
    let body = TakesRequests { open, page: None };
    let now: TakesRequests = task.because(&args.reason).send(&body).await?;
    out.show(&now, |out, now| {
        out.line(match (&now.page, now.open) {
            (Some(page), true) => format!("Accounts of {} are asked for at {page}", args.vo),
            _ => format!("Nobody can ask for an account of {} any more", args.vo),
        })
    })?;
    Ok(())
}

/// The id of a request, by user name or as it is.
async fn request(client: &Client, vo: &str, account: &str) -> Result<String, Failure> {
    if account.parse::<EnrolmentId>().is_ok() {
        return Ok(account.to_owned());
    }
    for state in ["pending", "rejected"] {
        let asked = client.task("account.list").at("vo", vo).query("state", state);
        let found: Vec<AccountRequest> = asked.list("accounts").await?;
        if let Some(one) = found.into_iter().find(|one| one.username == account) {
            return Ok(one.id);
        }
    }
    Err(
        Failure::not_found(format!("no account `{account}` waits for a decision in {vo}"))
            .hint(format!("countersign account list {vo}")),
    )
}

/// Runs `user invite`.
pub(super) async fn invite(client: &Client, args: Invite, out: Output) -> Result<(), Failure> {
    let body = InvitationCreate {
        mail: args.mail,
        name: args.name,
        organisation: args.organisation,
        roles: (!args.roles.is_empty()).then_some(args.roles),
        until: args.until.map(|until| until.to_string()),
        days: args.days,
        show_link: args.show_link,
    };
    let task = client.task("invitation.create").at("vo", args.vo);
    let made: InvitationCreated = task.because(&args.reason).send(&body).await?;
    out.show(&made, |out, made| match &made.link {
        Some(link) => out.line(link.expose()),
        None => out.line(format!(
            "The invitation is on its way to {}",
            made.invitation.mail.as_deref().unwrap_or_default()
        )),
    })?;
    out.note(format!("It is good once, until {}.", made.invitation.expires));
    Ok(())
}

/// Runs `user invitations`.
pub(super) async fn invitations(client: &Client, args: Invitations, out: Output) -> Result<(), Failure> {
    let asked = client.task("invitation.list").at("vo", args.vo);
    let found: Vec<InvitationView> = asked.list("invitations").await?;
    let head = ["ID", "MAIL", "NAME", "ROLES", "BY", "EXPIRES"];
    out.list("invitations", &found, &head, |one| {
        vec![
            one.id.clone(),
            or_dash(one.mail.as_deref()),
            or_dash(one.name.as_deref()),
            one.roles.join(", "),
            or_dash(one.by.as_deref()),
            one.expires.clone(),
        ]
    })?;
    Ok(())
}

/// Runs `user uninvite`.
pub(super) async fn uninvite(client: &Client, args: Uninvite, out: Output) -> Result<(), Failure> {
    let task = client
        .task("invitation.revoke")
        .at("vo", args.vo)
        .at("invitation", args.invitation);
    task.because(&args.reason).act().await?;
    out.done("invitation.revoke", "The invitation is taken back")?;
    Ok(())
}
