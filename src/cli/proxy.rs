//! `countersign proxy` and `countersign crl`: what was minted for a person, and what of it is not to be trusted any more.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::{Request, header};

use super::client::Client;
use super::download::Get;
use super::failure::Failure;
use super::input::Reason;
use super::output::{Output, or_dash};
use crate::api::proxy::list::ProxyView;
use crate::api::proxy::revoke::{ProxiesRevoked, ProxyRevoke};
use crate::api::user::certificate::mark::Compromised;

/// Proxies that were minted for you, or for a member.
#[derive(Debug, Subcommand)]
pub(crate) enum Proxy {
    Get(Get),
    List(List),
    Revoke(Revoke),
}

/// Whose.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// Those of this member, which act for --vo; for its administrators. Your own when not given.
    #[arg(long, requires = "vo")]
    user: Option<String>,
    /// Name of the virtual organisation.
    #[arg(long, requires = "user")]
    vo: Option<String>,
}

/// Lists proxies that have not ended.
///
/// Examples:
///   countersign proxy list
///   countersign proxy list --user john --vo imaging --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    #[command(flatten)]
    whose: Whose,
}

/// Revokes proxies: the gateway uses them for nothing more, and they stand on the virtual organisation's revocation list.
///
/// Examples:
///   countersign proxy revoke 4711081500000000001
///   countersign proxy revoke --all --user john --vo imaging --reason 'incident 12'
///   countersign proxy revoke 4711081500000000001 --user john --vo imaging --compromised 'found in a log' --reason 'incident 12'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Revoke {
    /// Serials in decimal.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    serials: Vec<String>,
    /// All that have not ended.
    #[arg(long)]
    all: bool,
    /// Say that they are in the wrong hands, and what is known of it.
    #[arg(long, value_name = "NOTE")]
    compromised: Option<String>,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    reason: Reason,
}

/// Fetches the revocation list of a virtual organisation's proxies (PEM). It is public; how to check with it:
/// docs/guides/revoke-a-proxy.md.
///
/// Examples:
///   countersign crl imaging > imaging.crl
///   countersign crl imaging --out imaging.crl
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Crl {
    /// Name of the virtual organisation.
    vo: String,
    /// Where to write it; standard output when not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(command: Proxy, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Proxy::Get(args) => super::download::run(&client, args, out).await?,
        Proxy::List(List { whose }) => {
            let found: Vec<ProxyView> = match whose.member(&client).await? {
                None => client.task("proxy.list").list("proxies").await?,
                Some((vo, person)) => {
                    client
                        .task("user.list_proxies")
                        .at("vo", vo)
                        .at("person", person)
                        .list("proxies")
                        .await?
                }
            };
            let columns = ["SERIAL", "VO", "TOOL", "UNTIL", "STATE", "NOTE"];
            out.list("proxies", &found, &columns, |proxy| {
                vec![
                    proxy.serial.clone(),
                    proxy.vo.clone(),
                    proxy.tool.clone(),
                    proxy.not_after.clone(),
                    proxy.state.clone(),
                    or_dash(proxy.note.as_deref()),
                ]
            })?;
        }
        Proxy::Revoke(args) => {
            let body = ProxyRevoke {
                serials: (!args.all).then_some(args.serials),
                compromised: args.compromised.map(|note| Compromised { note }),
            };
            let revoked: ProxiesRevoked = match args.whose.member(&client).await? {
                None => client.task("proxy.revoke").send(&body).await?,
                Some((vo, person)) => {
                    client
                        .task("user.revoke_proxies")
                        .because(&args.reason)
                        .at("vo", vo)
                        .at("person", person)
                        .send(&body)
                        .await?
                }
            };
            out.show(&revoked, |out, revoked| match revoked.serials.len() {
                0 => out.line("nothing was left to revoke"),
                1 => out.line("1 proxy is revoked"),
                count => out.line(format!("{count} proxies are revoked")),
            })?;
        }
    }
    Ok(())
}

impl Whose {
    /// VO and id of the member, where one is named.
    async fn member(&self, client: &Client) -> Result<Option<(String, String)>, Failure> {
        match (&self.user, &self.vo) {
            (Some(user), Some(vo)) => Ok(Some((vo.clone(), client.person(vo, user).await?))),
            _ => Ok(None),
        }
    }
}

/// A revocation list, as `--json` prints it.
#[derive(serde::Serialize)]
struct Fetched {
    crl: String,
}

/// Fetches a revocation list.
pub(crate) async fn crl(args: Crl, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    let url = format!(
        "{}/.countersign/crl/{}",
        client.base(),
        crate::api::encoded(&args.vo)
    );
    let request = Request::builder()
        .uri(url)
        .header(header::ACCEPT, "application/json");
    let answer = client.send(request, Bytes::new()).await?;
    if !answer.status.is_success() {
        return answer.read();
    }
    let crl = String::from_utf8_lossy(&answer.body).into_owned();
    match &args.out {
        None => out.show(&Fetched { crl }, |out, fetched| out.lines(&fetched.crl))?,
        Some(file) => fs::write(file, &crl)
            .map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", file.display())))?,
    }
    Ok(())
}
