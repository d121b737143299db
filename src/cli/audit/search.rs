//! `countersign audit search`: records by who, what and when, over the API.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::source::{Filter, Pages, user_of};
use crate::api::audit::{AuditPage, NamedPerson};
use crate::audit::export::Export;
use crate::audit::render;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::record::Record;

/// How often a search that is followed is made again.
const LOOK: Duration = Duration::from_secs(2);
/// Ids of own requests that are kept while a search is followed.
const OWN: usize = 100;

/// Searches the records of a virtual organisation, newest first; without --vo those of the gateway's own level, for system
/// administrators. Every search is itself on record.
///
/// An answer may lack the newest records, which the index has not reached yet, and says how many; --fresh waits for them.
///
/// Examples:
///   countersign audit search --vo imaging
///   countersign audit search --vo imaging --person john --decision denial
///   countersign audit search --vo imaging --tool segmentation --task 'submit job' --since 2030-01-31T00:00:00Z --json
///   countersign audit search --vo imaging --text /jobs/42 --all --csv
///   countersign audit search --vo imaging --event refused --follow
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Search {
    #[command(flatten)]
    filter: Filter,
    /// At most so many records; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u64,
    /// All records, however many; with --json one a line.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Waits until the index has reached every record that is durable now, and fails if it does not within seconds.
    #[arg(long)]
    fresh: bool,
    /// As a table for spreadsheets.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Shows these oldest first and goes on with new ones, until Ctrl-C; with --json one a line. Every look, each two
    /// seconds, is on record; what this command itself asks is not shown.
    #[arg(long, short, conflicts_with = "all")]
    follow: bool,
}

/// Records and the people they speak of.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Value>,
    pub(super) people: BTreeMap<String, NamedPerson>,
}

/// Runs the command.
pub(super) async fn run(args: Search, out: Output) -> Result<(), Failure> {
    let mut pages = Pages::of(&args.filter, None, args.fresh).await?;
    let mut shown = Shown::new(out, &args)?;
    if args.all || (args.limit == 0 && !args.follow) {
        return all(&mut pages, &mut shown).await;
    }
    let (mut found, mut head, mut lag, mut dropped) = (Found::default(), None, 0, None);
    while (found.records.len() as u64) < args.limit {
        let wanted = args.limit - found.records.len() as u64;
        let Some(page) = pages.next(wanted).await? else {
            break;
        };
        head.get_or_insert(page.head);
        lag = page.lag;
        dropped = page.dropped;
        found.records.extend(page.records);
        found.people.extend(page.people);
    }
    found
        .records
        .truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
    if args.follow {
        shown.newest_first = false;
        found.records.reverse();
        shown.records(&found.records, &found.people)?;
        return follow(&mut pages, head.unwrap_or_else(|| "0.0".into()), &mut shown).await;
    }
    if out.is_json() {
        let document = json!({
            "records": found.records, "people": found.people, "lag": lag, "dropped": dropped,
        });
        return Ok(out.json(&document)?);
    }
    behind(out, lag);
    gone(out, dropped.as_deref());
    if found.records.is_empty() {
        out.note("no records");
    }
    shown.records(&found.records, &found.people)
}

/// The newest records of a VO or of the gateway's own level, newest first.
pub(super) async fn newest(vo: Option<String>, limit: u64) -> Result<Found, Failure> {
    let filter = Filter {
        vo,
        ..Filter::default()
    };
    let mut pages = Pages::of(&filter, None, true).await?;
    let mut found = Found::default();
    while (found.records.len() as u64) < limit {
        let Some(page) = pages.next(limit - found.records.len() as u64).await? else {
            break;
        };
        found.records.extend(page.records);
        found.people.extend(page.people);
    }
    found
        .records
        .truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

async fn all(pages: &mut Pages, shown: &mut Shown) -> Result<(), Failure> {
    let (mut count, mut lag, mut dropped) = (0, None, None);
    while let Some(page) = pages.next(u64::MAX).await? {
        lag.get_or_insert(page.lag);
        dropped = page.dropped.or(dropped);
        count += page.records.len();
        shown.records(&page.records, &page.people)?;
    }
    behind(shown.out, lag.unwrap_or_default());
    gone(shown.out, dropped.as_deref());
    if count == 0 {
        shown.out.note("no records");
    }
    Ok(())
}

/// Goes on behind `head` with what comes.
async fn follow(pages: &mut Pages, mut head: String, shown: &mut Shown) -> Result<(), Failure> {
    shown.newest_first = false;
    let mut own: VecDeque<String> = VecDeque::new();
    loop {
        tokio::time::sleep(LOOK).await;
        pages.go_on(&head);
        while let Some(page) = pages.next(u64::MAX).await? {
            own.extend(pages.asked.drain(..));
            // The records of a look come with the next one or two.
            while own.len() > OWN {
                own.pop_front();
            }
            let AuditPage {
                records,
                people,
                next,
                head: reached,
                ..
            } = page;
            let is_own = |request: &str| own.iter().any(|own| own == request);
            let foreign = |record: &Value| !request_of(record).is_some_and(is_own);
            let records: Vec<Value> = records.into_iter().filter(foreign).collect();
            shown.records(&records, &people)?;
            if next.is_none() {
                head = reached;
            }
        }
    }
}

fn request_of(record: &Value) -> Option<&str> {
    let event = record.get("event")?.as_object()?.values().next()?;
    event.get("request")?.as_str()
}

fn behind(out: Output, lag: u64) {
    if lag > 0 {
        out.note(format!(
            "the index is {lag} records behind: the newest may be missing (--fresh waits for them)"
        ));
    }
}

/// Says what a search cannot find any more.
pub(super) fn gone(out: Output, dropped: Option<&str>) {
    if let Some(before) = dropped {
        out.note(format!(
            "records older than {before} were dropped (`[audit] keep`): a backup from before has them"
        ));
    }
}

/// Prints records, in one of the forms that are read line by line.
struct Shown {
    out: Output,
    table: Option<Export>,
    newest_first: bool,
}

impl Shown {
    fn new(out: Output, args: &Search) -> Result<Self, Failure> {
        if args.csv {
            out.line(Export::head())?;
        }
        Ok(Self {
            out,
            table: args.csv.then(Export::default),
            newest_first: true,
        })
    }

    fn records(&mut self, records: &[Value], people: &BTreeMap<String, NamedPerson>) -> Result<(), Failure> {
        if let Some(table) = &mut self.table {
            let rows = rows(table, records, people, self.newest_first)?;
            return rows.iter().try_for_each(|row| Ok(self.out.line(row)?));
        }
        for record in records {
            self.out.line(if self.out.is_json() {
                record.to_string()
            } else {
                line(record, people)
            })?;
        }
        Ok(())
    }
}

/// Rows in the order of the records. An outcome finds its intent when it is in the same page.
fn rows(
    table: &mut Export,
    records: &[Value],
    people: &BTreeMap<String, NamedPerson>,
    newest_first: bool,
) -> Result<Vec<String>, Failure> {
    let mut row = |record: &Value| match serde_json::from_value::<Record>(record.clone()) {
        Ok(read) => Ok(table.row(&read, user_of(record, people).as_deref())),
        Err(_) => {
            Err(Failure::failed("a newer gateway wrote one of these records").hint("--json shows them"))
        }
    };
    if !newest_first {
        return records.iter().map(row).collect();
    }
    let mut rows = records
        .iter()
        .rev()
        .map(&mut row)
        .collect::<Result<Vec<_>, _>>()?;
    rows.reverse();
    Ok(rows)
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
