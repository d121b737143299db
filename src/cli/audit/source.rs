//! Where the records come from that are searched, exported and counted: the API, page by page, or the files of a log.

use std::collections::BTreeMap;
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::log_folder;
use crate::api::audit::{AuditPage, NamedPerson};
use crate::audit::export::Files;
use crate::audit::index::{Matching, Query};
use crate::audit::read::ReadError;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::input::moment;
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId};
use crate::record::{Event, Record, TraceId};

/// Most records that are asked for at once.
const PAGE: u64 = 1_000;

/// Which records.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Filter {
    /// Name of the virtual organisation.
    #[arg(long)]
    pub(super) vo: Option<String>,
    /// By this person: user name (of a member) or id.
    #[arg(long, value_name = "USER|ID")]
    pub(super) person: Option<String>,
    /// On this tool.
    #[arg(long)]
    pub(super) tool: Option<String>,
    /// For this task.
    #[arg(long)]
    pub(super) task: Option<String>,
    /// On this resource.
    #[arg(long, value_name = "TYPE/ID")]
    pub(super) resource: Option<String>,
    /// Of this request.
    #[arg(long, value_name = "ID")]
    pub(super) request: Option<RequestId>,
    /// With this decision.
    #[arg(long)]
    pub(super) decision: Option<Decision>,
    /// Of this kind.
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(Event::NAMES))]
    pub(super) event: Option<String>,
    /// Of the proxy with this serial.
    #[arg(long, visible_alias = "proxy")]
    pub(super) serial: Option<String>,
    /// Of this trace (W3C Trace Context), as the tools and the collector of traces know it.
    #[arg(long, value_name = "ID")]
    pub(super) trace: Option<TraceId>,
    /// From this moment on (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) since: Option<Timestamp>,
    /// Before this moment (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) until: Option<Timestamp>,
    /// With this text in one of its values, capital letters or not: paths, parameters, ids, reasons, errors, names of VO,
    /// tool and task. Not in names of people: records have none (see --person). No index helps here: the records that the
    /// other filters leave are read, so give some of those when the log is long.
    #[arg(long)]
    pub(super) text: Option<String>,
}

/// A decision, as it is searched for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Decision {
    /// Permitted.
    Permit,
    /// Refused.
    Denial,
}

impl Filter {
    /// The same for the files of a log.
    fn query(&self) -> Result<Query, Failure> {
        let person = self.person.as_ref().map(|person| {
            person.parse::<PersonId>().map_err(|_| {
                Failure::usage(format!("`{person}` is not an id")).hint(
                    "user names are looked up by the gateway, not in files: without --data, or `user show`",
                )
            })
        });
        Ok(Query {
            person: person.transpose()?,
            vo: self.vo.clone(),
            tool: self.tool.clone(),
            task: self.task.clone(),
            resource: self.resource.clone(),
            permit: self.decision.map(|decision| matches!(decision, Decision::Permit)),
            event: self.event.clone(),
            request: self.request,
            serial: self.serial.clone(),
            trace: self.trace,
            from: self.since,
            to: self.until,
            text: self.text.clone(),
            ..Query::default()
        })
    }
}

/// A record as it came; `None` in `read` when a newer gateway wrote it.
pub(super) struct Item {
    pub(super) read: Option<Record>,
    /// As the API gave it.
    pub(super) raw: Option<Value>,
    /// User name of who did it.
    pub(super) user: Option<String>,
}

impl Item {
    /// As one line of JSON.
    pub(super) fn json(&self) -> Result<String, Failure> {
        match (&self.raw, &self.read) {
            (Some(raw), _) => Ok(raw.to_string()),
            (None, read) => Ok(serde_json::to_string(read)?),
        }
    }
}

/// Pages of the API.
pub(super) struct Pages {
    client: Client,
    filter: Filter,
    person: Option<String>,
    /// Oldest first, from this position on.
    pub(super) onward: Option<String>,
    before: Option<String>,
    fresh: bool,
    /// Ends where the log ended at the first page: one that grows as fast as it is read would have no end.
    bounded: bool,
    /// Ids of the requests that were made.
    pub(super) asked: Vec<String>,
    /// Before when records are no longer there.
    dropped: Option<String>,
    done: bool,
}

impl Pages {
    /// Newest first, or from `onward` on oldest first.
    pub(super) async fn of(filter: &Filter, onward: Option<&str>, fresh: bool) -> Result<Self, Failure> {
        let client = Client::saved()?;
        let person = person(&client, filter).await?;
        Ok(Self {
            client,
            filter: filter.clone(),
            person,
            onward: onward.map(str::to_owned),
            before: None,
            fresh,
            bounded: false,
            asked: Vec::new(),
            dropped: None,
            done: false,
        })
    }

    /// The next page, of at most so many records; `None` behind the last one.
    pub(super) async fn next(&mut self, most: u64) -> Result<Option<AuditPage>, Failure> {
        if self.done {
            return Ok(None);
        }
        let filter = &self.filter;
        let call = match &filter.vo {
            Some(vo) => self.client.task("audit.search").at("vo", vo),
            None => self.client.task("audit.search_gateway"),
        };
        let permit = filter
            .decision
            .map(|decision| matches!(decision, Decision::Permit));
        let (page, id): (AuditPage, String) = call
            .maybe("person", self.person.as_ref())
            .maybe("tool", filter.tool.as_ref())
            .maybe("task", filter.task.as_ref())
            .maybe("resource", filter.resource.as_ref())
            .maybe("request", filter.request.map(|request| request.to_string()))
            .maybe("permit", permit.map(|permit| permit.to_string()))
            .maybe("event", filter.event.as_ref())
            .maybe("serial", filter.serial.as_ref())
            .maybe("trace", filter.trace.map(|trace| trace.to_string()))
            .maybe("from", filter.since.map(|since| since.to_string()))
            .maybe("to", filter.until.map(|until| until.to_string()))
            .maybe("text", filter.text.as_ref())
            .maybe("before", self.before.as_ref())
            .maybe("onward", self.onward.as_ref())
            .maybe("fresh", self.fresh.then_some("true"))
            .query("limit", most.clamp(1, PAGE).to_string())
            .look()
            .await?;
        self.asked.push(id);
        self.dropped = page.dropped.clone().or(self.dropped.take());
        if self.bounded && self.before.is_none() {
            self.before = Some(page.head.clone());
        }
        match (&page.next, &mut self.onward) {
            (Some(next), Some(onward)) => onward.clone_from(next),
            (Some(next), None) => self.before = Some(next.clone()),
            (None, _) => self.done = true,
        }
        Ok(Some(page))
    }

    /// Goes on later, with what has come behind `head` meanwhile.
    pub(super) fn go_on(&mut self, head: &str) {
        self.onward = Some(head.to_owned());
        self.before = None;
        self.done = false;
    }
}

/// Records name people by their ids only.
async fn person(client: &Client, filter: &Filter) -> Result<Option<String>, Failure> {
    let Some(person) = &filter.person else {
        return Ok(None);
    };
    if person.parse::<PersonId>().is_ok() {
        return Ok(Some(person.clone()));
    }
    match &filter.vo {
        Some(vo) => client.person(vo, person).await.map(Some),
        None => Err(Failure::usage(format!("`{person}` is not an id"))
            .hint("a user name can be looked up in a virtual organisation: give --vo VO as well")),
    }
}

/// Records, oldest first.
pub(super) enum Source {
    /// Of the files of a log.
    Files(Box<(Files, Matching)>),
    /// Of the API.
    Api(Box<Pages>),
}

impl Source {
    /// The files in `data`, or else the API.
    pub(super) async fn of(filter: &Filter, data: Option<&Path>) -> Result<Self, Failure> {
        let Some(data) = data else {
            let mut pages = Pages::of(filter, Some("0.0"), true).await?;
            pages.bounded = true;
            return Ok(Self::Api(Box::new(pages)));
        };
        let files = Files::open(&log_folder(data)).map_err(failure)?;
        Ok(Self::Files(Box::new((files, Matching::new(filter.query()?)))))
    }

    /// Before when records are no longer there, as far as the gateway says so.
    pub(super) fn dropped(&self) -> Option<&str> {
        match self {
            Self::Files(_) => None,
            Self::Api(pages) => pages.dropped.as_deref(),
        }
    }

    /// The files, where it is files.
    pub(super) fn files(&self) -> Option<&Files> {
        match self {
            Self::Files(files) => Some(&files.0),
            Self::Api(_) => None,
        }
    }

    /// How many records there may be; 0 when nobody knows.
    pub(super) fn total(&self) -> u64 {
        match self {
            Self::Files(files) => files.0.total(),
            Self::Api(_) => 0,
        }
    }

    /// Some further records, and how many were looked at for them; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<Item>, u64)>, Failure> {
        match self {
            Self::Files(files) => {
                let (files, matching) = &mut **files;
                let (mut items, mut looked) = (Vec::new(), 0);
                while looked < PAGE {
                    let Some(record) = files.read().map_err(failure)? else {
                        break;
                    };
                    looked += 1;
                    if matching.takes(&record) {
                        items.push(Item {
                            read: Some(record),
                            raw: None,
                            user: None,
                        });
                    }
                }
                Ok((looked > 0).then_some((items, looked)))
            }
            Self::Api(pages) => {
                let Some(page) = pages.next(PAGE).await? else {
                    return Ok(None);
                };
                let looked = page.records.len() as u64;
                let item = |raw: Value| Item {
                    read: serde_json::from_value(raw.clone()).ok(),
                    user: user_of(&raw, &page.people),
                    raw: Some(raw),
                };
                Ok(Some((page.records.into_iter().map(item).collect(), looked)))
            }
        }
    }
}

/// The user name of who did what a record says, where her card is known.
pub(super) fn user_of(record: &Value, people: &BTreeMap<String, NamedPerson>) -> Option<String> {
    let event = record.get("event")?.as_object()?.values().next()?;
    let card = event.get("card").or_else(|| event.get("subject")?.get("card"))?;
    people.get(card.as_str()?).map(|person| person.username.clone())
}

pub(super) fn failure(error: ReadError) -> Failure {
    match error {
        ReadError::NoLog(_) => Failure::not_found(error.to_string()),
        ReadError::Damaged { .. } => {
            Failure::failed(error.to_string()).hint("countersign audit verify says what is wrong")
        }
        ReadError::File { .. } => Failure::failed(error.to_string()),
    }
}
