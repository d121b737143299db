//! `countersign idp`: identity providers that people sign in with, and who came from them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::{Reason, secret_file, text_file};
use super::output::{Output, or_dash};
use crate::api::idp::add::IdpAdd;
use crate::api::idp::edit::IdpEdit;
use crate::api::idp::identities::IdentityView;
use crate::api::idp::link::OwnIdentities;
use crate::api::idp::{IdpMapping, IdpSaid, IdpView};
use crate::tool::Assurance;

/// Identity providers that people sign in with: for system administrators, but for `mine` and `unlink`.
#[derive(Debug, Subcommand)]
pub(crate) enum Idp {
    Add(Box<Add>),
    List(List),
    /// Shows an identity provider, and what to register there.
    ///
    /// Examples:
    ///   countersign idp show uni-a
    #[command(verbatim_doc_comment)]
    Show(Named),
    Edit(Box<Edit>),
    /// Lets nobody sign in with an identity provider until it is resumed. Sessions that have begun go on.
    ///
    /// Examples:
    ///   countersign idp suspend uni-a --reason 'incident 4711'
    #[command(verbatim_doc_comment)]
    Suspend(Changed),
    /// Lets people sign in with an identity provider again.
    ///
    /// Examples:
    ///   countersign idp resume uni-a --reason 'incident 4711 is over'
    #[command(verbatim_doc_comment)]
    Resume(Changed),
    /// Removes an identity provider. Its identities end, and the sessions that began by them; accounts stay.
    ///
    /// Examples:
    ///   countersign idp remove uni-a --reason 'left the federation'
    #[command(verbatim_doc_comment)]
    Remove(Changed),
    /// Lists who came from an identity provider, those who wait for an administrator among them.
    ///
    /// Examples:
    ///   countersign idp identities uni-a
    ///   countersign idp identities uni-a --json
    #[command(verbatim_doc_comment)]
    Identities(Named),
    /// Gives somebody who came from an identity provider an account, or renews its approval.
    ///
    /// Examples:
    ///   countersign idp approve uni-a 0199a1b2-0000-7000-8000-000000000001 --reason 'known to the group'
    #[command(verbatim_doc_comment)]
    Approve(Judged),
    /// Says no to somebody who waits for an account.
    ///
    /// Examples:
    ///   countersign idp reject uni-a 0199a1b2-0000-7000-8000-000000000001 --reason 'left the project'
    #[command(verbatim_doc_comment)]
    Reject(Judged),
    Mine(Mine),
    Unlink(Unlink),
}

/// Registers an identity provider (OpenID Connect). It says what to register there: the redirect address and, where it has
/// back-channel logout, the address for that.
///
/// People are known by the provider's subject alone; whoever comes for the first time gets a new account, at once with
/// `--approval automatic`, else when an administrator approves (`idp identities`, `idp approve`).
///
/// Examples:
///   countersign idp add uni-a --issuer https://idp.uni-a.example --client-id gateway --client-secret-file secret --display-name 'University A' --vo imaging
///   countersign idp add uni-b --issuer https://idp.uni-b.example --client-id gw --client-secret-file secret --display-name B --approval automatic
///   countersign idp add lab --issuer https://idp.lab.example --client-id gw --client-secret-file secret --display-name Lab --acr https://refeds.org/profile/mfa=aal2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    /// Name, as addresses and commands have it.
    name: String,
    /// Issuer identifier: an https address.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// File with the client's secret there (- for standard input).
    #[arg(long, value_name = "FILE")]
    client_secret_file: PathBuf,
    /// Virtual organisation to which its people belong, with the role scientist; the gateway itself when not given.
    #[arg(long, value_name = "VO")]
    vo: Option<String>,
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    reason: Reason,
}

/// Changes what is said of an identity provider; what is not given is as it was.
///
/// Examples:
///   countersign idp edit uni-a --acr https://refeds.org/profile/mfa=aal2
///   countersign idp edit uni-a --claim mail=mail --client-secret-file new-secret
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Edit {
    /// Name of the provider.
    name: String,
    /// File with another client secret (- for standard input).
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// Accept every sign-in again, for one factor.
    #[arg(long, conflicts_with = "acr")]
    any_acr: bool,
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    reason: Reason,
}

/// What may be said of a provider.
#[derive(Debug, Args)]
pub(crate) struct Said {
    /// What people know it by.
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// Who this gateway is there.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// A scope to ask for, beside openid; may be given several times (profile and email by default).
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// An accepted acr value and what it is worth here (aal1 by default); may be given several times. Without any, every
    /// sign-in will do, for one factor.
    #[arg(long, value_name = "VALUE[=LEVEL]", value_parser = level)]
    acr: Vec<(String, String)>,
    /// The claim that a field (username, name, mail, affiliation, groups) is taken from; may be given several times.
    #[arg(long, value_name = "FIELD=CLAIM", value_parser = claim)]
    claim: Vec<(String, String)>,
    /// Who decides on a first sign-in: manual (an administrator) or automatic.
    #[arg(long, value_name = "WHO")]
    approval: Option<String>,
    /// Who decides when an approval is over: manual or automatic.
    #[arg(long, value_name = "WHO")]
    renewal: Option<String>,
    /// For how many days an approval is good.
    #[arg(long, value_name = "DAYS")]
    valid_days: Option<u32>,
    /// Authorities (PEM) that may sign for its addresses, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Lists the identity providers.
///
/// Examples:
///   countersign idp list
///   countersign idp list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {}

/// A provider.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Name of the provider.
    name: String,
}

/// A provider of which something is changed.
#[derive(Debug, Args)]
pub(crate) struct Changed {
    /// Name of the provider.
    name: String,
    #[command(flatten)]
    reason: Reason,
}

/// Somebody of whom is decided.
#[derive(Debug, Args)]
pub(crate) struct Judged {
    /// Name of the provider.
    name: String,
    /// Id of the identity (`idp identities` shows it).
    identity: String,
    #[command(flatten)]
    reason: Reason,
}

/// Lists who you are at identity providers. Another identity is linked in the browser: /identities at the gateway.
///
/// Examples:
///   countersign idp mine
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Mine {}

/// Takes one of your identities away, within ten minutes after you have signed in. The sessions that began by it end; the only
/// way in stays.
///
/// Examples:
///   countersign idp unlink 0199a1b2-0000-7000-8000-000000000001
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Unlink {
    /// Id of the identity (`idp mine` shows it).
    identity: String,
}

fn level(text: &str) -> Result<(String, String), String> {
    // An acr may be an address with `=` in its query.
    match text.rsplit_once('=') {
        Some((acr, level)) if Assurance::parse(level).is_some() && !acr.is_empty() => {
            Ok((acr.to_owned(), level.to_owned()))
        }
        _ if text.is_empty() => Err("give a value of acr".to_owned()),
        _ => Ok((text.to_owned(), Assurance::Aal1.as_str().to_owned())),
    }
}

fn claim(text: &str) -> Result<(String, String), String> {
    let fields = ["username", "name", "mail", "affiliation", "groups"];
    match text.split_once('=') {
        Some((field, claim)) if fields.contains(&field) => Ok((field.to_owned(), claim.to_owned())),
        _ => Err(format!(
            "give FIELD=CLAIM, where the field is one of {}",
            fields.join(", ")
        )),
    }
}

impl Said {
    fn into_body(self) -> Result<IdpSaid, Failure> {
        let mut mapping = IdpMapping::default();
        let is_mapped = !self.claim.is_empty();
        for (field, claim) in self.claim {
            let place = match field.as_str() {
                "username" => &mut mapping.username,
                "name" => &mut mapping.name,
                "mail" => &mut mapping.mail,
                "affiliation" => &mut mapping.affiliation,
                _ => &mut mapping.groups,
            };
            *place = Some(claim);
        }
        let acr: BTreeMap<String, String> = self.acr.into_iter().collect();
        Ok(IdpSaid {
            display_name: self.display_name,
            client_id: self.client_id,
            scopes: (!self.scope.is_empty()).then_some(self.scope),
            acr: (!acr.is_empty()).then_some(acr),
            mapping: is_mapped.then_some(mapping),
            approval: self.approval,
            renewal: self.renewal,
            valid_days: self.valid_days,
            ca: self.ca.map(|file| text_file(&file)).transpose()?,
        })
    }
}

/// Runs the command.
pub(crate) async fn run(command: Idp, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Idp::Add(args) => add(&client, *args, out).await,
        Idp::Edit(args) => edit(&client, *args, out).await,
        Idp::List(List {}) => {
            let all: Vec<IdpView> = client.task("idp.list").list("idps").await?;
            let headings = ["NAME", "KNOWN AS", "STATE", "PEOPLE IN", "APPROVAL", "ISSUER"];
            Ok(out.list("idps", &all, &headings, |idp| {
                vec![
                    idp.name.clone(),
                    idp.display_name.clone(),
                    idp.state.clone(),
                    idp.home.clone(),
                    idp.approval.clone(),
                    idp.issuer.clone(),
                ]
            })?)
        }
        Idp::Show(Named { name }) => {
            let idp: IdpView = client.task("idp.show").at("idp", name).fetch().await?;
            Ok(out.show(&idp, show)?)
        }
        Idp::Suspend(Changed { name, reason }) => {
            let task = client.task("idp.suspend").at("idp", name);
            let idp: IdpView = task.because(&reason).fetch().await?;
            Ok(out.show(&idp, |out, idp| {
                out.line(format!("nobody signs in with {} until it is resumed", idp.name))
            })?)
        }
        Idp::Resume(Changed { name, reason }) => {
            let task = client.task("idp.resume").at("idp", name);
            let idp: IdpView = task.because(&reason).fetch().await?;
            Ok(out.show(&idp, |out, idp| {
                out.line(format!("people sign in with {} again", idp.name))
            })?)
        }
        Idp::Remove(Changed { name, reason }) => {
            let task = client.task("idp.remove").at("idp", &name);
            task.because(&reason).act().await?;
            let said = format!("removed {name}; sessions that began there have ended, accounts stay");
            Ok(out.done("idp.remove", said)?)
        }
        Idp::Identities(Named { name }) => {
            let task = client.task("idp.identities").at("idp", name);
            let all: Vec<IdentityView> = task.list("identities").await?;
            let headings = ["ID", "STATE", "USER", "NAME", "MAIL", "SUBJECT", "LAST SEEN"];
            Ok(out.list("identities", &all, &headings, |one| {
                vec![
                    one.id.clone(),
                    one.state.clone(),
                    or_dash(one.username.as_deref()),
                    or_dash(one.name.as_deref()),
                    or_dash(one.mail.as_deref()),
                    one.subject.clone(),
                    one.seen.clone(),
                ]
            })?)
        }
        Idp::Mine(Mine {}) => {
            let mine: OwnIdentities = client.task("identity.list").fetch().await?;
            let headings = ["ID", "STATE", "ISSUER", "SUBJECT", "UNTIL"];
            Ok(out.list("identities", &mine.identities, &headings, |one| {
                vec![
                    one.id.clone(),
                    one.state.clone(),
                    one.issuer.clone(),
                    one.subject.clone(),
                    or_dash(one.valid_until.as_deref()),
                ]
            })?)
        }
        Idp::Unlink(Unlink { identity }) => {
            let task = client.task("identity.unlink").at("identity", &identity);
            task.act().await?;
            let said = format!("took {identity} away; sessions that began by it have ended");
            Ok(out.done("identity.unlink", said)?)
        }
        Idp::Approve(args) => judge(&client, "idp.approve", args, out).await,
        Idp::Reject(args) => judge(&client, "idp.reject", args, out).await,
    }
}

async fn add(client: &Client, args: Add, out: Output) -> Result<(), Failure> {
    let body = IdpAdd {
        name: args.name,
        issuer: args.issuer,
        client_secret: secret_file(&args.client_secret_file)?,
        vo: args.vo,
        settings: args.said.into_body()?,
    };
    let task = client.task("idp.add").because(&args.reason);
    let idp: IdpView = task.send(&body).await?;
    Ok(out.show(&idp, show)?)
}

async fn edit(client: &Client, args: Edit, out: Output) -> Result<(), Failure> {
    let mut settings = args.said.into_body()?;
    if args.any_acr {
        settings.acr = Some(BTreeMap::new());
    }
    let secret = args.client_secret_file;
    let body = IdpEdit {
        client_secret: secret.map(|file| secret_file(&file)).transpose()?,
        settings,
    };
    let task = client.task("idp.edit").at("idp", args.name);
    let idp: IdpView = task.because(&args.reason).send(&body).await?;
    Ok(out.show(&idp, show)?)
}

async fn judge(client: &Client, task: &'static str, args: Judged, out: Output) -> Result<(), Failure> {
    let task = client
        .task(task)
        .at("idp", args.name)
        .at("identity", args.identity);
    let one: IdentityView = task.because(&args.reason).fetch().await?;
    Ok(out.show(&one, |out, one| {
        let user = or_dash(one.username.as_deref());
        let until = one.valid_until.as_ref().map(|until| format!(" until {until}"));
        out.line(format!(
            "{} is {} as {user}{}",
            one.id,
            one.state,
            until.unwrap_or_default()
        ))
    })?)
}

fn show(out: Output, idp: &IdpView) -> std::io::Result<()> {
    let acr: Vec<String> = idp
        .acr
        .iter()
        .map(|(acr, level)| format!("{acr}={level}"))
        .collect();
    let mapping = &idp.mapping;
    let claims: Vec<String> = [
        ("username", &mapping.username),
        ("name", &mapping.name),
        ("mail", &mapping.mail),
        ("affiliation", &mapping.affiliation),
        ("groups", &mapping.groups),
    ]
    .into_iter()
    .filter_map(|(field, claim)| claim.as_ref().map(|claim| format!("{field}={claim}")))
    .collect();
    out.pairs(&[
        ("Name", idp.name.clone()),
        ("Known as", idp.display_name.clone()),
        ("State", idp.state.clone()),
        ("Issuer", idp.issuer.clone()),
        ("Client", idp.client_id.clone()),
        ("Redirect address", idp.redirect_uri.clone()),
        ("Logout address", idp.backchannel_logout_uri.clone()),
        ("Scopes", idp.scopes.join(" ")),
        (
            "Accepted acr",
            or_dash((!acr.is_empty()).then(|| acr.join(" ")).as_deref()),
        ),
        ("Claims", claims.join(" ")),
        ("People in", idp.home.clone()),
        ("Approval", idp.approval.clone()),
        (
            "Renewal",
            format!("{} after {} days", idp.renewal, idp.valid_days),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acr_may_have_an_equals_sign_of_its_own() {
        let pair = |acr: &str, level: &str| Ok((acr.to_owned(), level.to_owned()));
        assert_eq!(
            level("https://x.example/?a=b"),
            pair("https://x.example/?a=b", "aal1")
        );
        assert_eq!(
            level("https://x.example/?a=b=aal2"),
            pair("https://x.example/?a=b", "aal2")
        );
        assert!(level("").is_err());
        assert!(claim("nickname=x").is_err());
        assert_eq!(claim("mail="), pair("mail", ""));
    }
}
