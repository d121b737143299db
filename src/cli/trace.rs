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
use crate::audit::Checkpoint;

/// Finds the person that a proxy was minted for, and what it was used for. The trace itself is recorded.
///
/// Examples:
///   countersign trace proxy.pem --vo imaging
///   countersign trace 4711081500000000001 --vo imaging --checkpoint case-7.txt
///   countersign trace '/C=UK/O=eScience/CN=imaging/CN=4711081500000000001' --vo imaging --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Trace {
    /// A file with a certificate or chain (PEM or DER; - for standard input), a serial, a SHA-256 of certificate or
    /// public key, or a distinguished name.
    #[arg(value_name = "FILE|SERIAL|FINGERPRINT|NAME")]
    query: String,
    /// Name of the virtual organisation whose certificate issued it.
    #[arg(long)]
    vo: String,
    /// Where to write the audit log's newest checkpoint: kept with the case, it pins these records (--json has it as well).
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(args: Trace, out: Output) -> Result<(), Failure> {
    let query = read(&args.query)?;
    let client = Client::saved()?;
    let found: TraceResult = client
        .task("proxy.trace")
        .at("vo", &args.vo)
        .send(&TraceInput { query })
        .await?;
    if found.proxies.is_empty() {
        return Err(Failure::not_found(format!(
            "no proxy of {} fits; the attempt is on record",
            args.vo
        )));
    }
    if let (Some(checkpoint), Some(file)) = (&found.checkpoint, &args.checkpoint) {
        fs::write(file, checkpoint)
            .map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", file.display())))?;
    }
    out.show(&found, |out, found| {
        for (at, proxy) in found.proxies.iter().enumerate() {
            if at > 0 {
                out.line("")?;
            }
            show(out, proxy)?;
        }
        if let (Some(checkpoint), Some(file)) = (&found.checkpoint, &args.checkpoint) {
            out.line(format!(
                "Log checkpoint of {} records in `{}`: keep it with the case",
                size(checkpoint),
                file.display()
            ))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// How many records a checkpoint pins.
fn size(checkpoint: &str) -> String {
    Checkpoint::parse(checkpoint).map_or_else(|_| "unknown".to_owned(), |read| read.size.to_string())
}

/// What is asked for: a file's certificates in PEM, or the words themselves.
fn read(query: &str) -> Result<String, Failure> {
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

fn show(out: Output, proxy: &TracedProxy) -> std::io::Result<()> {
    let proof = match proxy.proved {
        true => "proved: only this proxy fits",
        false => "not proved: a serial or a name is somebody's word",
    };
    out.pairs(&[
        ("Person", person(&proxy.person)),
        ("Mail", or_dash(proxy.person.mail.as_deref())),
        ("Organisation", or_dash(proxy.person.organisation.as_deref())),
        ("Virtual organisation", proxy.vo.clone()),
        ("Proxy", or_dash(proxy.subject.as_deref())),
        ("Serial", proxy.serial.clone()),
        ("Found by", format!("{} ({proof})", proxy.by)),
        ("Given to tool", format!("{} ({})", proxy.tool, proxy.way)),
        ("Session", proxy.session.clone()),
        ("Valid", format!("{} to {}", proxy.not_before, proxy.not_after)),
        ("Revoked", or_dash(proxy.revoked.as_deref())),
        ("Certificate SHA-256", or_dash(proxy.certificate.as_deref())),
        ("Issuer SHA-256", proxy.issuer.clone()),
    ])?;
    out.line(format!("Used for {} requests:", proxy.requests.len()))?;
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
    fn a_serial_is_sent_as_it_is() {
        assert_eq!(read("4711").unwrap(), "4711");
    }
}
