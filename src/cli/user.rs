//! `countersign user`: the members of a virtual organisation.

use clap::{Args, Subcommand};

use super::account;
use super::certificate::{self, Certificate};
use super::client::Client;
use super::failure::Failure;
use super::input::Reason;
use super::output::{Output, or_dash};
use crate::api::person::erase::PersonErased;
use crate::api::person::export::PersonExport;
use crate::api::user::add::{UserAdd, UserAdded};
use crate::api::user::expire::UserExpire;
use crate::api::user::find::{UserFind, UserFound};
use crate::api::user::reset_password::PasswordReset;
use crate::api::user::show::{SignIns, UserShown};
use crate::api::user::{CardInput, UserView};
use crate::clock::Timestamp;
use crate::id::PersonId;

/// Members of a virtual organisation.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    Add(Add),
    List(List),
    /// Shows a member with her roles.
    ///
    /// Examples:
    ///   countersign user show imaging john
    #[command(verbatim_doc_comment)]
    Show(Member),
    Edit(Edit),
    /// Ends a membership with its roles and revokes its proxies; the account stays.
    ///
    /// Examples:
    ///   countersign user remove imaging john --reason 'left the team'
    #[command(verbatim_doc_comment)]
    Remove(Edited),
    /// Suspends an account everywhere and ends its sessions. For administrators of the account's home.
    ///
    /// Examples:
    ///   countersign user suspend imaging john --reason 'lost her laptop'
    #[command(verbatim_doc_comment)]
    Suspend(Edited),
    /// Lets a suspended person in again.
    ///
    /// Examples:
    ///   countersign user resume imaging john
    #[command(verbatim_doc_comment)]
    Resume(Edited),
    Expire(Expire),
    /// Ends an account for good, in every virtual organisation, with its roles, sessions and proxies. For administrators of the
    /// account's home. What was done with it stays on record; `user erase` destroys what names the person.
    ///
    /// Examples:
    ///   countersign user delete imaging john --reason 'left the institute'
    #[command(verbatim_doc_comment)]
    Delete(Edited),
    /// Makes an account choose another password at its next sign-in, because others may know the present one. Its sessions end
    /// and its proxies are revoked. For administrators of the account's home.
    ///
    /// Where somebody else may be faster to sign in, give a one-time password instead: `user reset-password`.
    ///
    /// Examples:
    ///   countersign user flag-compromised imaging john --reason 'the password was in a published list'
    #[command(verbatim_doc_comment)]
    FlagCompromised(Edited),
    /// Takes all second factors and recovery codes of an account away and ends its sessions: its password alone opens it
    /// then. For administrators of the account's home.
    ///
    /// Examples:
    ///   countersign user reset-factors imaging john --reason 'lost his phone; known by sight'
    #[command(verbatim_doc_comment)]
    ResetFactors(Edited),
    /// Gives an account a one-time password, ends all its sessions and revokes its proxies. For administrators of the
    /// account's home.
    ///
    /// Examples:
    ///   countersign user reset-password imaging john
    ///   countersign user reset-password imaging john --show-password
    #[command(verbatim_doc_comment)]
    ResetPassword(Reset),
    /// Grid certificates by which a member signs in.
    #[command(subcommand)]
    Certificate(Certificate),
    Invite(account::Invite),
    Invitations(account::Invitations),
    Uninvite(account::Uninvite),
    Export(Export),
    Erase(Erase),
}

/// Makes somebody a member. She gets a new account with a one-time password, which is good for choosing her own;
/// with --existing, the account that she has already joins.
///
/// Examples:
///   countersign user add imaging john --name 'John Smith' --mail john@example.org
///   countersign user add imaging jane --role clinician --role scientist --json
///   countersign user add imaging mary --existing --role scientist --until 2030-01-31T12:00:00Z
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    /// Name of the virtual organisation.
    vo: String,
    /// User name: a to z, 0 to 9, `.`, `-` and `_`, 2 to 40, beginning with a letter.
    user: String,
    /// Full name, for the card; the user name when not given.
    #[arg(long, value_name = "TEXT", conflicts_with = "existing")]
    name: Option<String>,
    /// Mail address, for the card.
    #[arg(long, value_name = "MAIL", conflicts_with = "existing")]
    mail: Option<String>,
    /// Home organisation, for the card.
    #[arg(long, value_name = "TEXT", conflicts_with = "existing")]
    organisation: Option<String>,
    /// A role to hold; may be given several times. `scientist` when not given.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Holds no role at first: for an account that is given one by something else, such as `countersign provider add`.
    #[arg(long, conflicts_with = "roles")]
    no_role: bool,
    /// When the roles end by themselves (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = super::input::moment)]
    until: Option<Timestamp>,
    /// The person has an account already; one of another home joins only when a system administrator asks.
    #[arg(long)]
    existing: bool,
    /// Show the one-time password also where the gateway can send it by mail.
    #[arg(long, conflicts_with = "existing")]
    show_password: bool,
    #[command(flatten)]
    reason: Reason,
}

/// Lists the members of a virtual organisation, all of them or those that are looked for.
///
/// Examples:
///   countersign user list imaging
///   countersign user list imaging --text smith
///   countersign user list imaging --role scientist --state suspended --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// Name of the virtual organisation.
    vo: String,
    /// Only those whose user name, name, mail address or organisation has this text, in capital or small letters.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only those who hold this role.
    #[arg(long)]
    role: Option<String>,
    /// Only those whose account is in this state.
    #[arg(long, value_parser = ["active", "suspended", "pending", "rejected", "expired", "deleted"])]
    state: Option<String>,
}

/// Changes the card of a person: what is not given stays as it is, an empty value takes it away. For administrators of
/// the account's home.
///
/// Examples:
///   countersign user edit imaging john --mail john.smith@example.org
///   countersign user edit imaging john --name 'John A. Smith' --organisation ''
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Edit {
    /// Name of the virtual organisation.
    vo: String,
    /// User name of the member.
    user: String,
    /// Full name.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Mail address.
    #[arg(long, value_name = "MAIL")]
    mail: Option<String>,
    /// Home organisation.
    #[arg(long, value_name = "TEXT")]
    organisation: Option<String>,
}

/// A member.
#[derive(Debug, Args)]
pub(crate) struct Member {
    /// Name of the virtual organisation.
    vo: String,
    /// User name of the member.
    user: String,
}

/// A member, of whom is changed what she may do.
#[derive(Debug, Args)]
pub(crate) struct Edited {
    #[command(flatten)]
    member: Member,
    #[command(flatten)]
    reason: Reason,
}

/// Says when an account expires: at that second it lets nobody in any more, its sessions end and its proxies are revoked.
/// For administrators of the account's home.
///
/// Examples:
///   countersign user expire imaging john --at 2030-01-31T12:00:00Z --reason 'guest until then'
///   countersign user expire imaging john --reason 'the project is over'
///   countersign user expire imaging john --never --reason 'permanent position'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Expire {
    #[command(flatten)]
    member: Member,
    /// When (RFC 3339); at once when not given.
    #[arg(long, value_name = "TIME", value_parser = super::input::moment)]
    at: Option<Timestamp>,
    /// It expires no more, and is open again where it had expired.
    #[arg(long, conflicts_with = "at")]
    never: bool,
    #[command(flatten)]
    reason: Reason,
}

/// A member who gets a one-time password.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    member: Member,
    /// Show the one-time password also where the gateway can send it by mail.
    #[arg(long)]
    show_password: bool,
}

/// Writes all that is held on one person as one JSON document: account, cards, memberships, roles, sessions, proxies and
/// every record of hers. The export is on record, as a download.
///
/// With --vo, administrators of the account's home get the account and what of it belongs to their virtual organisation;
/// without, system administrators get all of it.
///
/// Examples:
///   countersign user export john --vo imaging > john.json
///   countersign user export john > john.json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Export {
    /// User name; for system administrators, the opaque id of an account is as good.
    user: String,
    /// Name of the virtual organisation.
    #[arg(long)]
    vo: Option<String>,
}

/// Ends an account for good and destroys what names the person: cards, user name, password, mails. Her records stay, under an
/// id that leads to nobody, and the log still verifies. For system administrators; there is no way back.
///
/// She must have left every virtual organisation, and the trace period (`delegation.trace_period`) must have passed since
/// her last session and proxy. Backups from before still name her.
///
/// Examples:
///   countersign user erase john
///   countersign user erase john --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Erase {
    /// User name, or the opaque id of the account.
    user: String,
}

/// Runs the command.
pub(crate) async fn run(command: User, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        User::Add(args) => add(&client, args, out).await?,
        User::List(List {
            vo,
            text,
            role,
            state,
        }) => {
            let asked = client
                .task("user.list")
                .at("vo", vo)
                .maybe("text", text)
                .maybe("role", role)
                .maybe("state", state);
            let users: Vec<UserView> = asked.list("users").await?;
            out.list(
                "users",
                &users,
                &["USER", "NAME", "STATE", "ROLES", "HOME"],
                |user| {
                    vec![
                        user.username.clone(),
                        user.name.clone(),
                        user.state.clone(),
                        roles(user),
                        user.home.clone(),
                    ]
                },
            )?;
        }
        User::Show(member) => {
            let person = client.person(&member.vo, &member.user).await?;
            let shown: UserShown = client
                .task("user.show")
                .at("vo", member.vo)
                .at("person", person)
                .fetch()
                .await?;
            out.show(&shown, |out, shown| {
                let mut pairs = pairs(&shown.user);
                pairs.extend(shown.sign_ins.iter().flat_map(sign_ins));
                out.pairs(&pairs)
            })?;
        }
        User::Edit(args) => edit(&client, args, out).await?,
        User::Remove(Edited { member, reason }) => {
            let person = client.person(&member.vo, &member.user).await?;
            client
                .task("user.remove")
                .because(&reason)
                .at("vo", &member.vo)
                .at("person", person)
                .act()
                .await?;
            out.done(
                "user.remove",
                format!("{} is no longer a member of {}", member.user, member.vo),
            )?;
        }
        User::Suspend(Edited { member, reason }) => {
            let person = client.person(&member.vo, &member.user).await?;
            let user: UserView = client
                .task("user.suspend")
                .because(&reason)
                .at("vo", member.vo)
                .at("person", person)
                .fetch()
                .await?;
            out.show(&user, |out, user| {
                out.line(format!("{} is suspended", user.username))
            })?;
        }
        User::Resume(Edited { member, reason }) => {
            let person = client.person(&member.vo, &member.user).await?;
            let user: UserView = client
                .task("user.resume")
                .because(&reason)
                .at("vo", member.vo)
                .at("person", person)
                .fetch()
                .await?;
            out.show(&user, |out, user| {
                out.line(format!("{} may sign in again", user.username))
            })?;
        }
        User::Expire(args) => expire(&client, args, out).await?,
        User::Delete(Edited { member, reason }) => {
            let person = client.person(&member.vo, &member.user).await?;
            let task = client
                .task("user.delete")
                .at("vo", &member.vo)
                .at("person", person);
            task.because(&reason).act().await?;
            out.done("user.delete", format!("the account {} is deleted", member.user))?;
        }
        User::FlagCompromised(Edited { member, reason }) => {
            let person = client.person(&member.vo, &member.user).await?;
            let task = client
                .task("user.flag_compromised")
                .at("vo", &member.vo)
                .at("person", person);
            task.because(&reason).act().await?;
            let done = format!("{} chooses another password at the next sign-in", member.user);
            out.done("user.flag_compromised", done)?;
        }
        User::ResetFactors(Edited { member, reason }) => {
            let person = client.person(&member.vo, &member.user).await?;
            client
                .task("person.factor.reset")
                .because(&reason)
                .at("vo", member.vo)
                .at("person", person)
                .act()
                .await?;
            let done = format!("{} has no second factor any more", member.user);
            out.done("person.factor.reset", done)?;
        }
        User::ResetPassword(Reset {
            member,
            show_password,
        }) => {
            let person = client.person(&member.vo, &member.user).await?;
            let task = client
                .task("user.reset_password")
                .at("vo", member.vo)
                .at("person", person)
                .maybe("show_password", show_password.then_some("true"));
            let reset: PasswordReset = task.fetch().await?;
            out.show(&reset, |out, reset| match &reset.one_time_password {
                Some(password) => out.line(format!(
                    "One-time password of {}: {}",
                    member.user,
                    password.expose()
                )),
                None => out.line(format!("{} gets a one-time password by mail", member.user)),
            })?;
            out.note("It is good for choosing a new one. All sessions of the account have ended.");
        }
        User::Certificate(command) => certificate::run(&client, command, out).await?,
        User::Invite(args) => account::invite(&client, args, out).await?,
        User::Invitations(args) => account::invitations(&client, args, out).await?,
        User::Uninvite(args) => account::uninvite(&client, args, out).await?,
        User::Export(args) => export(&client, args, out).await?,
        User::Erase(Erase { user }) => {
            let person = account(&client, &user).await?;
            let task = client.task("person.erase").at("person", person);
            let erased: PersonErased = task.fetch().await?;
            out.show(&erased, |out, erased| {
                out.line(format!(
                    "{user} is erased: {} cards, {} mails; what is left is the id {}",
                    erased.cards, erased.mails, erased.id
                ))
            })?;
            if !erased.scrubbed {
                out.note(format!(
                    "Traces of it may lie in the files of store and outbox; again: countersign user erase {}",
                    erased.id
                ));
            }
        }
    }
    Ok(())
}

async fn add(client: &Client, args: Add, out: Output) -> Result<(), Failure> {
    let name = match (args.name, args.existing) {
        (_, true) => None,
        (name, false) => Some(name.unwrap_or_else(|| args.user.clone())),
    };
    let body = UserAdd {
        username: args.user,
        name,
        mail: args.mail,
        organisation: args.organisation,
        roles: (args.no_role || !args.roles.is_empty()).then_some(args.roles),
        until: args.until.map(|until| until.to_string()),
        show_password: args.show_password,
    };
    let task = client.task("user.add").at("vo", &args.vo).because(&args.reason);
    let added: Result<UserAdded, Failure> = task.send(&body).await;
    let added = added.map_err(|failure| match failure.is_problem("conflict") && !args.existing {
        true => failure.hint(
            "if this is the same person's account, a system administrator lets it join with --existing",
        ),
        false => failure,
    })?;
    out.show(&added, |out, added| {
        out.line(format!(
            "{} is a member of {} as {}",
            added.user.username,
            args.vo,
            roles(&added.user)
        ))?;
        match &added.one_time_password {
            Some(password) => out.line(format!("One-time password: {}", password.expose())),
            None => Ok(()),
        }
    })?;
    if added.one_time_password.is_some() {
        out.note("It is good for choosing an own password, at the first sign-in.");
    }
    Ok(())
}

async fn expire(client: &Client, args: Expire, out: Output) -> Result<(), Failure> {
    let person = client.person(&args.member.vo, &args.member.user).await?;
    let until = match (args.at, args.never) {
        (Some(at), _) => Some(at.to_string()),
        (None, true) => None,
        // The gateway takes what has passed by its own clock for at once.
        (None, false) => Some(Timestamp::from_secs(0).to_string()),
    };
    let task = client
        .task("user.expire")
        .at("vo", &args.member.vo)
        .at("person", person);
    let user: UserView = task.because(&args.reason).send(&UserExpire { until }).await?;
    out.show(&user, |out, user| {
        out.line(match (user.state.as_str(), &user.until) {
            ("expired", _) => format!("{} has expired", user.username),
            (_, Some(until)) => format!("{} expires at {until}", user.username),
            (_, None) => format!("{} does not expire", user.username),
        })
    })?;
    Ok(())
}

async fn export(client: &Client, args: Export, out: Output) -> Result<(), Failure> {
    let person = match &args.vo {
        Some(vo) => client.person(vo, &args.user).await?,
        None => account(client, &args.user).await?,
    };
    let mut whole = PersonExport::default();
    let mut before = None;
    loop {
        let task = match &args.vo {
            Some(vo) => client.task("user.export").at("vo", vo).at("person", &person),
            None => client.task("person.export").at("person", &person),
        };
        let task = task.query("limit", "1000");
        let page: PersonExport = task.maybe("before", before.take()).fetch().await?;
        whole.id = page.id;
        whole.held = whole.held.or(page.held);
        whole.records.extend(page.records);
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    out.json(&whole)?;
    Ok(())
}

/// The id of an account, by user name or as it is.
async fn account(client: &Client, user: &str) -> Result<String, Failure> {
    if user.parse::<PersonId>().is_ok() {
        return Ok(user.to_owned());
    }
    let body = UserFind {
        username: user.to_owned(),
    };
    let found: UserFound = client.task("person.find").send(&body).await?;
    Ok(found.id)
}

async fn edit(client: &Client, args: Edit, out: Output) -> Result<(), Failure> {
    if args.name.is_none() && args.mail.is_none() && args.organisation.is_none() {
        return Err(Failure::usage("nothing to change").hint("give --name, --mail or --organisation"));
    }
    let person = client.person(&args.vo, &args.user).await?;
    let read = client.task("user.show").at("vo", &args.vo).at("person", &person);
    let (UserShown { user: present, .. }, tag) = read.tagged().await?;
    let or_none = |text: Option<String>| text.filter(|text| !text.is_empty());
    let body = CardInput {
        name: args.name.unwrap_or(present.name),
        mail: or_none(args.mail.or(present.mail)),
        organisation: or_none(args.organisation.or(present.organisation)),
    };
    let task = client
        .task("user.edit")
        .at("vo", args.vo)
        .at("person", person)
        // What somebody else changed between the two is not overwritten.
        .matching(tag);
    let user: UserView = task.send(&body).await?;
    out.show(&user, show)?;
    Ok(())
}

fn roles(user: &UserView) -> String {
    let held = user.roles.iter().map(|held| match &held.until {
        Some(until) => format!("{} until {until}", held.role),
        None => held.role.clone(),
    });
    or_dash(Some(&held.collect::<Vec<_>>().join(", ")))
}

fn show(out: Output, user: &UserView) -> std::io::Result<()> {
    out.pairs(&pairs(user))
}

fn pairs(user: &UserView) -> Vec<(&'static str, String)> {
    vec![
        ("User", user.username.clone()),
        ("Name", user.name.clone()),
        ("Mail", or_dash(user.mail.as_deref())),
        ("Organisation", or_dash(user.organisation.as_deref())),
        ("State", state(user)),
        ("Roles", roles(user)),
        ("Home", user.home.clone()),
        ("Id", user.id.clone()),
    ]
}

fn state(user: &UserView) -> String {
    match (&user.until, user.state.as_str()) {
        (Some(until), "active" | "suspended") => format!("{}, until {until}", user.state),
        _ => user.state.clone(),
    }
}

fn sign_ins(counted: &SignIns) -> [(&'static str, String); 2] {
    let times = |count: i64, last: Option<&str>| {
        last.map_or_else(|| count.to_string(), |last| format!("{count}, last {last}"))
    };
    [
        ("Signed in", times(counted.count, counted.last.as_deref())),
        ("In vain", times(counted.failed, counted.last_failed.as_deref())),
    ]
}
