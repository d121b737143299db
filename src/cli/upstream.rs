//! `countersign upstream`: the addresses that a virtual organisation's tools may have.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::{Reason, text_file};
use super::output::{Output, or_dash};
use crate::api::upstream::allow::UpstreamAllow;
use crate::api::upstream::list::UpstreamView;

/// Addresses that a virtual organisation's tools may have.
#[derive(Debug, Subcommand)]
pub(crate) enum Upstream {
    Allow(Allow),
    List(List),
    Remove(Remove),
}

/// Gives an address to a virtual organisation, so that its administrators can wrap a tool there. For system
/// administrators.
///
/// Examples:
///   countersign upstream allow imaging segmentation unix:/run/segmentation.sock
///   countersign upstream allow imaging orthanc http://127.0.0.1:8042
///   countersign upstream allow imaging pacs https://pacs.example.org --ca hospital-ca.pem
///   countersign upstream allow imaging models http://127.0.0.1:50051 --http2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Allow {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the upstream, which manifests use.
    name: String,
    /// http://HOST[:PORT], https://HOST[:PORT] or unix:/PATH.
    url: String,
    /// Authorities (PEM) that may sign its certificate, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Name expected in its certificate, when it is not the host.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Speak HTTP/2 to it, as gRPC needs: over TLS it must choose that, else it is told so at once.
    #[arg(long)]
    http2: bool,
    #[command(flatten)]
    reason: Reason,
}

/// Lists the addresses of a virtual organisation.
///
/// Examples:
///   countersign upstream list imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// Name of the virtual organisation.
    vo: String,
}

/// Takes an address away from a virtual organisation; the next request to it fails. For system administrators.
///
/// Examples:
///   countersign upstream remove imaging orthanc
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Remove {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the upstream.
    name: String,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the command.
pub(crate) async fn run(command: Upstream, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Upstream::Allow(Allow {
            vo,
            name,
            url,
            ca,
            server_name,
            http2,
            reason,
        }) => {
            let ca = ca.map(|file| text_file(&file)).transpose()?;
            let body = UpstreamAllow {
                name,
                url,
                ca,
                expected_name: server_name,
                http2,
            };
            let made: UpstreamView = client
                .task("upstream.allow")
                .at("vo", &vo)
                .because(&reason)
                .send(&body)
                .await?;
            out.show(&made, |out, made| {
                let local = if made.local {
                    " (this machine or a local network)"
                } else {
                    ""
                };
                out.line(format!("upstream {} of {vo} is {}{local}", made.name, made.url))
            })?;
        }
        Upstream::List(List { vo }) => {
            let upstreams: Vec<UpstreamView> = client
                .task("upstream.list")
                .at("vo", vo)
                .list("upstreams")
                .await?;
            out.list(
                "upstreams",
                &upstreams,
                &["NAME", "URL", "OWN CA", "SERVER NAME", "LOCAL", "HTTP/2"],
                |upstream| {
                    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
                    vec![
                        upstream.name.clone(),
                        upstream.url.clone(),
                        yes(upstream.own_ca),
                        or_dash(upstream.expected_name.as_deref()),
                        yes(upstream.local),
                        yes(upstream.http2),
                    ]
                },
            )?;
        }
        Upstream::Remove(Remove { vo, name, reason }) => {
            client
                .task("upstream.end")
                .because(&reason)
                .at("vo", &vo)
                .at("upstream", &name)
                .act()
                .await?;
            out.done("upstream.end", format!("took upstream {name} away from {vo}"))?;
        }
    }
    Ok(())
}
