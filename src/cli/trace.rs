//! `countersign trace`: from a proxy to the person behind it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::BASE64;

use super::client::Client;
use super::failure::Failure;
use super::input::bytes;
use super::output::{Output, or_dash};
use crate::api::proxy::trace::{TraceInput, TraceResult, TracedPerson, TracedProxy};
use crate::api::proxy::trace_many::{self, TraceManyInput, TraceManyResult, TracedQuery};
use crate::audit::Checkpoint;
use crate::delegate::TraceQuery;

/// Finds the person that a proxy was minted for, and what it was used for. The trace itself is recorded.
///
/// With --proof, the record that ties the proxy to the person comes with the proof that it is in the audit log: `countersign
/// audit check-proof` or the Python program of the guide checks it, without the gateway.
///
/// Examples:
///   countersign trace proxy.pem --vo imaging
///   countersign trace proxy.pem --vo imaging --proof case-7.tlog-proof
///   countersign trace 4711081500000000001 --vo imaging --checkpoint case-7.txt
///   countersign trace '/C=UK/O=eScience/CN=imaging/CN=4711081500000000001' --vo imaging --json
///   countersign trace --bulk incident-12.txt --vo imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Trace {
    /// A file with a certificate or chain (PEM or DER; - for standard input) or a public key (PEM), a serial, a SHA-256 of
    /// certificate or public key, or a distinguished name.
    #[arg(
        value_name = "FILE|SERIAL|FINGERPRINT|NAME",
        required_unless_present = "bulk",
        conflicts_with = "bulk"
    )]
    query: Option<String>,
    /// Name of the virtual organisation whose certificate issued it.
    #[arg(long)]
    vo: String,
    /// Many at once: a file (- for standard input) with a serial, fingerprint or name on each line, and certificates in PEM
    /// between them.
    #[arg(long, value_name = "FILE")]
    bulk: Option<PathBuf>,
    /// Where to write the record of the proxy's mint with its proof. Where several proxies fit, each has a file of its own,
    /// with the serial after this name.
    #[arg(long, value_name = "FILE", conflicts_with = "bulk")]
    proof: Option<PathBuf>,
    /// Where to write the audit log's newest checkpoint: kept with the case, it pins these records (--json has it as well).
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(args: Trace, out: Output) -> Result<(), Failure> {
    match (&args.query, &args.bulk) {
        (Some(query), _) => one(&args, query, out).await,
        (None, Some(file)) => many(&args, file, out).await,
        (None, None) => Err(Failure::usage("give what is to be traced, or --bulk FILE")),
    }
}

async fn one(args: &Trace, query: &str, out: Output) -> Result<(), Failure> {
    let body = TraceInput {
        query: read(query)?,
        proof: args.proof.is_some(),
    };
    let client = Client::saved()?;
    let found: TraceResult = client.task("proxy.trace").at("vo", &args.vo).send(&body).await?;
    if found.proxies.is_empty() {
        return Err(none(&args.vo, found.more));
    }
    let written = match &args.proof {
        Some(file) => proofs(file, &found.proxies)?,
        None => Vec::new(),
    };
    keep(args, found.checkpoint.as_deref())?;
    out.show(&found, |out, found| {
        for (at, proxy) in found.proxies.iter().enumerate() {
            if at > 0 {
                out.line("")?;
            }
            show(out, proxy)?;
        }
        if found.more {
            out.line(MORE)?;
        }
        for said in &written {
            out.line(said)?;
        }
        kept(args, found.checkpoint.as_deref(), out)
    })?;
    Ok(())
}

/// No proxy `of` this VO or tool was found.
pub(super) fn none(of: &str, more: bool) -> Failure {
    let looked = if more {
        " among what was looked at, which is not all"
    } else {
        ""
    };
    Failure::not_found(format!("no proxy of {of} fits{looked}; the attempt is on record"))
}

async fn many(args: &Trace, file: &Path, out: Output) -> Result<(), Failure> {
    let queries = match String::from_utf8(bytes(file)?) {
        Ok(text) => TraceQuery::split(&text),
        Err(der) => vec![pem(der.as_bytes())],
    };
    if queries.is_empty() {
        return Err(Failure::usage(format!(
            "`{}` names nothing to trace",
            file.display()
        )));
    }
    let client = Client::saved()?;
    let mut all = TraceManyResult::default();
    // No more at once than the gateway takes, and no body that is too long for it.
    for part in parts(&queries) {
        let body = TraceManyInput {
            queries: part.to_vec(),
        };
        let task = client.task("proxy.trace_many").at("vo", &args.vo);
        let found: TraceManyResult = task.send(&body).await?;
        all.traces.extend(found.traces);
        all.checkpoint = found.checkpoint;
    }
    keep(args, all.checkpoint.as_deref())?;
    out.show(&all, |out, all| {
        let rows: Vec<Vec<String>> = all.traces.iter().zip(&queries).flat_map(rows).collect();
        let headings = ["QUERY", "PERSON", "PROVED", "SERIAL", "TOOL", "VALID", "REQUESTS"];
        out.table(&headings, &rows)?;
        kept(args, all.checkpoint.as_deref(), out)
    })?;
    let without = all.traces.iter().filter(|trace| trace.proxies.is_empty()).count();
    if without == all.traces.len() {
        return Err(Failure::not_found(format!(
            "no proxy of {} fits any of them; the attempts are on record",
            args.vo
        )));
    }
    Ok(())
}

/// What is said where not everything was looked at.
pub(super) const MORE: &str = "There may be more: it leads to more proxies or numbers than one answer holds";

/// Bytes of queries that go in one body.
const BODY: usize = 2 * 1024 * 1024;

fn parts(queries: &[String]) -> Vec<&[String]> {
    let (mut parts, mut rest) = (Vec::new(), queries);
    while !rest.is_empty() {
        let (mut count, mut size) = (0, 0);
        for query in rest.iter().take(trace_many::MOST) {
            size += query.len() + 64;
            if count > 0 && size > BODY {
                break;
            }
            count += 1;
        }
        let (part, others) = rest.split_at(count.max(1));
        parts.push(part);
        rest = others;
    }
    parts
}

/// The lines of one query: one for each proxy, or one that says why there is none.
fn rows((trace, query): (&TracedQuery, &String)) -> Vec<Vec<String>> {
    let shown = trace
        .query
        .clone()
        .unwrap_or_else(|| query.chars().take(64).collect());
    if trace.proxies.is_empty() {
        let why = match trace.error {
            Some(_) => "cannot be read",
            None if trace.more => "not all was looked at",
            None => "none fits",
        };
        let dash = || "-".to_owned();
        return vec![vec![
            shown,
            why.to_owned(),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
        ]];
    }
    let row = |proxy: &TracedProxy| {
        let more = if proxy.more_requests { "+" } else { "" };
        vec![
            if trace.more {
                format!("{shown} (there may be more)")
            } else {
                shown.clone()
            },
            person(&proxy.person),
            if proxy.proved { "yes" } else { "no" }.to_owned(),
            proxy.serial.clone(),
            proxy.tool.clone(),
            format!("{} to {}", proxy.not_before, proxy.not_after),
            format!("{}{more}", proxy.requests.len()),
        ]
    };
    trace.proxies.iter().map(row).collect()
}

/// Writes each proof into a file; says what became of each.
fn proofs(file: &Path, proxies: &[TracedProxy]) -> Result<Vec<String>, Failure> {
    let mut said = Vec::new();
    for proxy in proxies {
        let mut name = file.as_os_str().to_owned();
        if proxies.len() > 1 {
            name.push(format!(".{}", proxy.serial));
        }
        let name = PathBuf::from(name);
        match &proxy.proof {
            Some(proof) => {
                write(&name, &proof.proof)?;
                said.push(format!(
                    "Proof of record {} ({}) in `{}`",
                    proof.record,
                    proof.event,
                    name.display()
                ));
            }
            None => said.push(format!(
                "No proof of {}: the log has its record no more, a backup may",
                proxy.serial
            )),
        }
    }
    Ok(said)
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text)
        .map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", file.display())))
}

fn keep(args: &Trace, checkpoint: Option<&str>) -> Result<(), Failure> {
    match (checkpoint, &args.checkpoint) {
        (Some(checkpoint), Some(file)) => write(file, checkpoint),
        _ => Ok(()),
    }
}

fn kept(args: &Trace, checkpoint: Option<&str>, out: Output) -> std::io::Result<()> {
    let (Some(checkpoint), Some(file)) = (checkpoint, &args.checkpoint) else {
        return Ok(());
    };
    out.line(format!(
        "Log checkpoint of {} records in `{}`: keep it with the case",
        size(checkpoint),
        file.display()
    ))
}

/// How many records a checkpoint pins.
fn size(checkpoint: &str) -> String {
    Checkpoint::parse(checkpoint).map_or_else(|_| "unknown".to_owned(), |read| read.size.to_string())
}

/// What is asked for: a file's certificates in PEM, or the words themselves.
pub(super) fn read(query: &str) -> Result<String, Failure> {
    if query != "-" && !Path::new(query).is_file() {
        // No serial, fingerprint or distinguished name looks like this.
        if query.contains(['.', '/']) && !query.contains('=') {
            return Err(Failure::not_found(format!("there is no file `{query}`")).hint(
                "give a file with the certificate, its serial, a SHA-256 of it or of its public key, or a distinguished name",
            ));
        }
        return Ok(query.to_owned());
    }
    let bytes = bytes(Path::new(query))?;
    match String::from_utf8(bytes) {
        // A file may hold the key as well, which nobody needs to see.
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Ok(certificates(&text)),
        Ok(text) => Ok(text),
        Err(der) => Ok(pem(der.as_bytes())),
    }
}

fn certificates(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = text.split(BEGIN).skip(1).filter_map(|rest| rest.split_once(END));
    blocks
        .map(|(block, _)| format!("{BEGIN}{block}{END}\n"))
        .collect()
}

fn pem(der: &[u8]) -> String {
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        BASE64.encode(der)
    )
}

pub(super) fn show(out: Output, proxy: &TracedProxy) -> std::io::Result<()> {
    out.pairs(&[
        ("Person", person(&proxy.person)),
        ("Mail", or_dash(proxy.person.mail.as_deref())),
        ("Organisation", or_dash(proxy.person.organisation.as_deref())),
        ("Virtual organisation", proxy.vo.clone()),
        ("Proxy", or_dash(proxy.subject.as_deref())),
        ("Serial", proxy.serial.clone()),
        ("Found by", proxy.by.clone()),
        ("What that proves", proxy.says.clone()),
        ("Given to tool", format!("{} ({})", proxy.tool, proxy.way)),
        ("Session", proxy.session.clone()),
        ("Valid", format!("{} to {}", proxy.not_before, proxy.not_after)),
        ("Revoked", or_dash(proxy.revoked.as_deref())),
        ("Certificate SHA-256", or_dash(proxy.certificate.as_deref())),
        ("Issuer SHA-256", proxy.issuer.clone()),
    ])?;
    out.line(match proxy.more_requests {
        true => format!(
            "Used for more than {} requests, the newest of them:",
            proxy.requests.len()
        ),
        false => format!("Used for {} requests:", proxy.requests.len()),
    })?;
    let rows: Vec<Vec<String>> = proxy
        .requests
        .iter()
        .map(|request| {
            let (task, resource) = (
                or_dash(request.task.as_deref()),
                or_dash(request.resource.as_deref()),
            );
            vec![request.time.clone(), request.request.clone(), task, resource]
        })
        .collect();
    if rows.is_empty() {
        Ok(())
    } else {
        out.table(&["TIME", "REQUEST", "TASK", "RESOURCE"], &rows)
    }
}

fn person(person: &TracedPerson) -> String {
    match (&person.name, &person.username) {
        (Some(name), Some(username)) if person.present => format!(
            "{name} (user {username}, id {}; her present card, the one of then was destroyed)",
            person.id
        ),
        (Some(name), Some(username)) => format!("{name} (user {username}, id {})", person.id),
        _ => format!("id {} (the card was destroyed)", person.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_beside_the_certificate_is_not_sent() {
        let key = include_str!("../../certs/proxy.key");
        let certificate = include_str!("../../certs/proxy.pem");
        let sent = certificates(&format!("{certificate}{key}{certificate}"));
        assert!(!sent.contains("KEY"));
        assert_eq!(
            sent.matches("BEGIN CERTIFICATE").count(),
            2 * certificate.matches("BEGIN CERTIFICATE").count()
        );
    }

    #[test]
    fn what_is_sent_at_once_is_neither_too_many_nor_too_long() {
        let short = vec!["4711".to_owned(); 1_201];
        let sizes: Vec<usize> = parts(&short).iter().map(|part| part.len()).collect();
        assert_eq!(sizes, [500, 500, 201]);
        let long = vec![
            "x".repeat(BODY - 100),
            "y".repeat(200),
            "z".repeat(2 * BODY),
            "4711".into(),
        ];
        let sizes: Vec<usize> = parts(&long).iter().map(|part| part.len()).collect();
        assert_eq!(sizes, [1, 1, 1, 1]);
    }

    #[test]
    fn a_serial_is_sent_as_it_is() {
        assert_eq!(read("4711").unwrap(), "4711");
    }
}
