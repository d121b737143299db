//! `countersign audit search`: records by who, what and when, over the API.

use std::collections::BTreeMap;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::api::audit::{AuditPage, NamedPerson};
use crate::audit::render;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::input::moment;
use crate::cli::output::Output;
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId};
use crate::record::{Event, Record, TraceId};

/// Most records that one page of the API holds.
const PAGE: u64 = 200;

/// Searches the records of a virtual organisation, newest first; without --vo those of the gateway's own level, for system
/// administrators.
///
/// Examples:
///   countersign audit search --vo imaging
///   countersign audit search --vo imaging --person john --decision denial
///   countersign audit search --vo imaging --tool segmentation --task 'submit job' --since 2030-01-31T00:00:00Z --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Search {
    /// Name of the virtual organisation.
    #[arg(long)]
    vo: Option<String>,
    /// By this person: user name (of a member) or id.
    #[arg(long, value_name = "USER|ID")]
    person: Option<String>,
    /// On this tool.
    #[arg(long)]
    tool: Option<String>,
    /// For this task.
    #[arg(long)]
    task: Option<String>,
    /// On this resource.
    #[arg(long, value_name = "TYPE/ID")]
    resource: Option<String>,
    /// Of this request.
    #[arg(long, value_name = "ID")]
    request: Option<RequestId>,
    /// With this decision.
    #[arg(long)]
    decision: Option<Decision>,
    /// Of this kind.
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(Event::NAMES))]
    event: Option<String>,
    /// Of the proxy with this serial.
    #[arg(long)]
    serial: Option<String>,
    /// Of this trace (W3C Trace Context), as the tools and the collector of traces know it.
    #[arg(long, value_name = "ID")]
    trace: Option<TraceId>,
    /// From this moment on (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before this moment (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// At most so many records.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Decision {
    Permit,
    Denial,
}

/// Records and the people they speak of.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Value>,
    pub(super) people: BTreeMap<String, NamedPerson>,
}

/// Runs the command.
pub(super) async fn run(args: Search, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    let found = search(&client, &args).await?;
    if out.is_json() {
        return Ok(out.json(&json!({ "records": found.records, "people": found.people }))?);
    }
    if found.records.is_empty() {
        out.note("no records");
    }
    found
        .records
        .iter()
        .try_for_each(|record| Ok(out.line(line(record, &found.people))?))
}

/// The newest records of a VO or of the gateway's own level, newest first.
pub(super) async fn newest(client: &Client, vo: Option<String>, limit: u64) -> Result<Found, Failure> {
    let args = Search {
        vo,
        person: None,
        tool: None,
        task: None,
        resource: None,
        request: None,
        decision: None,
        event: None,
        serial: None,
        trace: None,
        since: None,
        until: None,
        limit,
    };
    search(client, &args).await
}

async fn search(client: &Client, args: &Search) -> Result<Found, Failure> {
    let person = person(client, args).await?;
    let mut found = Found::default();
    let mut before: Option<String> = None;
    loop {
        let wanted = args.limit.saturating_sub(found.records.len() as u64);
        if wanted == 0 {
            return Ok(found);
        }
        let call = match &args.vo {
            Some(vo) => client.task("audit.search").at("vo", vo),
            None => client.task("audit.search_gateway"),
        };
        let page: AuditPage = call
            .maybe("person", person.as_ref())
            .maybe("tool", args.tool.as_ref())
            .maybe("task", args.task.as_ref())
            .maybe("resource", args.resource.as_ref())
            .maybe("request", args.request.map(|request| request.to_string()))
            .maybe(
                "permit",
                args.decision
                    .map(|decision| matches!(decision, Decision::Permit).to_string()),
            )
            .maybe("event", args.event.as_ref())
            .maybe("serial", args.serial.as_ref())
            .maybe("trace", args.trace.map(|trace| trace.to_string()))
            .maybe("from", args.since.map(|since| since.to_string()))
            .maybe("to", args.until.map(|until| until.to_string()))
            .maybe("before", before.as_ref())
            .query("limit", wanted.min(PAGE).to_string())
            .fetch()
            .await?;
        found.records.extend(page.records);
        found.people.extend(page.people);
        before = page.next;
        if before.is_none() {
            return Ok(found);
        }
    }
}

/// Records name people by their ids only.
async fn person(client: &Client, args: &Search) -> Result<Option<String>, Failure> {
    let Some(person) = &args.person else {
        return Ok(None);
    };
    if person.parse::<PersonId>().is_ok() {
        return Ok(Some(person.clone()));
    }
    match &args.vo {
        Some(vo) => client.person(vo, person).await.map(Some),
        None => Err(Failure::usage(format!("`{person}` is not an id"))
            .hint("a user name can be looked up in a virtual organisation: give --vo VO as well")),
    }
}

/// A record as one line, with user names where their cards are known.
pub(in crate::cli) fn line(record: &Value, people: &BTreeMap<String, NamedPerson>) -> String {
    let Ok(read) = serde_json::from_value::<Record>(record.clone()) else {
        // Of a gateway that is newer than this program.
        return record.to_string();
    };
    people.values().fold(render::line(&read), |line, person| {
        line.replace(
            &format!("person/{}", person.id),
            &format!("user/{}", person.username),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_with_the_user_name_where_the_card_is_known() {
        let id = "00000000-0000-7000-8000-000000000001";
        let event = json!({ "stop": { "reason": format!("because of person/{id}") } });
        let record = json!({ "v": 1, "seq": 7, "time": 0, "mono": 0, "salt": "", "event": event });
        let person = NamedPerson {
            id: id.into(),
            username: "john".into(),
            name: "John Smith".into(),
        };
        let people = BTreeMap::from([("card".to_owned(), person)]);
        let shown = line(&record, &people);
        assert!(shown.ends_with("7 stop because of user/john"), "{shown}");
    }

    #[test]
    fn a_record_of_a_newer_gateway_is_shown_as_it_stands() {
        let record = json!({ "v": 9, "event": { "dreamt": {} } });
        assert_eq!(line(&record, &BTreeMap::new()), record.to_string());
    }
}
