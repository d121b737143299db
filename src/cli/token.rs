//! One's own personal access tokens.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, or_dash};
use crate::api::token::create::{TokenCreate, TokenCreated};
use crate::api::token::list::TokenView;
use crate::clock::{SystemClock, Timestamp};
use crate::settings::duration_of;

/// Your own personal access tokens, for scripts.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Makes a token for a script and prints it, this once. It does what you may do, narrowed to its scopes, and never what asks
/// for a second factor. You must have signed in, or stepped up, in the last quarter of an hour.
///
/// A script sends it as `Authorization: Bearer TOKEN`, or with your user name in the place of the password (`curl --netrc`).
///
/// Examples:
///   countersign token create nightly --scope imaging/jobs --expires 30d
///   countersign token create watcher --scope imaging --read-only --expires 2030-01-31T12:00:00Z
///   countersign token create 'fetch one result' --scope 'imaging/jobs/download result' --expires 1d
///   countersign token create logon --myproxy --expires 90d
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Create {
    /// What you call it.
    name: String,
    /// What it is for: VO, VO/TOOL or VO/TOOL/TASK; `gateway` in the place of the VO for what belongs to none, `countersign` in
    /// that of the tool for the gateway's own tasks. May stand several times.
    #[arg(long = "scope", value_name = "SCOPE", required_unless_present = "myproxy")]
    scopes: Vec<String>,
    /// Only for what changes nothing.
    #[arg(long)]
    read_only: bool,
    /// Also for your proxies: as password at the MyProxy port, and for `proxy get`.
    #[arg(long)]
    myproxy: bool,
    /// When it ends: a time from now, e.g. 12h or 30d, or a moment (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = end)]
    expires: End,
}

/// Lists your tokens, with what each is for and when it was last used.
///
/// Examples:
///   countersign token list
///   countersign token list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {}

/// Revokes one of your tokens; what it is used for at that moment is broken off.
///
/// Examples:
///   countersign token revoke 0199a1b2-0000-7000-8000-000000000001
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Revoke {
    /// Id of the token (`token list` shows it).
    id: String,
}

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    In(Duration),
    At(Timestamp),
}

fn end(text: &str) -> Result<End, String> {
    let lasts = duration_of(text).filter(|lasts| lasts.as_secs() >= 60);
    let at = || Timestamp::parse(text).ok().map(End::At);
    lasts.map(End::In).or_else(at).ok_or_else(|| {
        "give a time from now such as 12h or 30d, or a moment such as 2030-01-31T12:00:00Z".to_owned()
    })
}

impl End {
    fn moment(self) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::In(lasts) => SystemClock::shared().now().plus(lasts),
        }
    }
}

/// Runs `token ...`.
pub(crate) async fn run(command: Token, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Token::Create(args) => create(&client, args, out).await,
        Token::List(List {}) => {
            let tokens: Vec<TokenView> = client.task("token.list").list("tokens").await?;
            let headings = ["ID", "NAME", "FOR", "MADE", "LAST USED", "ENDS"];
            out.list("tokens", &tokens, &headings, |token| {
                vec![
                    token.id.clone(),
                    token.name.clone(),
                    purpose(token),
                    token.created.clone(),
                    or_dash(token.used.as_deref()),
                    token.expires.clone(),
                ]
            })?;
            Ok(())
        }
        Token::Revoke(Revoke { id }) => {
            client.task("token.revoke").at("token", &id).act().await?;
            out.done("token.revoke", format!("revoked the token {id}"))?;
            Ok(())
        }
    }
}

async fn create(client: &Client, args: Create, out: Output) -> Result<(), Failure> {
    let body = TokenCreate {
        name: args.name,
        scopes: args.scopes,
        read_only: args.read_only,
        myproxy: args.myproxy,
        expires: args.expires.moment().to_string(),
    };
    let made: TokenCreated = client.task("token.create").send(&body).await?;
    let shown = json!({ "id": made.id, "token": made.token.expose(), "expires": made.expires });
    out.show(&shown, |out, _| {
        out.note(format!(
            "Made the token {}, good until {}. It is shown this once:",
            made.id, made.expires
        ));
        out.line(made.token.expose())
    })?;
    Ok(())
}

fn purpose(token: &TokenView) -> String {
    let mut words = token.scopes.clone();
    words.extend(token.read_only.then(|| "read only".to_owned()));
    words.extend(token.myproxy.then(|| "own proxies".to_owned()));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_from_now_or_a_moment() {
        assert_eq!(end("30d"), Ok(End::In(Duration::from_secs(30 * 86_400))));
        let at = "2030-01-31T12:00:00Z";
        assert_eq!(end(at), Ok(End::At(Timestamp::parse(at).unwrap())));
        for bad in ["", "0", "30", "never", "-1d", "2030-01-31"] {
            assert!(end(bad).unwrap_err().contains("30d"), "{bad}");
        }
    }
}
