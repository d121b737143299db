//! Who was refused what, and when: a picture, and the same as a table.

use std::collections::BTreeMap;

use askama::Template;
use http::{Response, StatusCode};
use serde_json::Value;

use super::ask::{Ask, Refusal, Visit};
use super::frame::{Page, address};
use super::pages::text;
use super::{Console, answer, shown_moment};
use crate::api::audit::AuditPage;
use crate::body::Body;
use crate::clock::Timestamp;

/// Most denials that are looked at, newest first.
const MOST: &str = "1000";
/// Most rows of the picture.
const ROWS: usize = 15;
/// Sizes of the picture, in its own units.
const LABELS: usize = 250;
const WIDE: usize = 880;
const ROW: usize = 34;
const HEAD: usize = 30;
const HOUR: i64 = 3_600_000_000;

/// A span of time that the picture can show.
struct Span {
    name: &'static str,
    label: &'static str,
    /// Length of a column, in hours.
    step: i64,
    columns: i64,
}

const SPANS: [Span; 3] = [
    Span {
        name: "day",
        label: "24 hours",
        step: 1,
        columns: 24,
    },
    Span {
        name: "week",
        label: "7 days",
        step: 6,
        columns: 28,
    },
    Span {
        name: "month",
        label: "30 days",
        step: 24,
        columns: 30,
    },
];

/// All denials of one person at one task.
struct Row {
    person: String,
    id: String,
    task: String,
    count: usize,
    last: String,
    request: String,
    reasons: Vec<String>,
    /// How many fell into each column that has some.
    columns: BTreeMap<i64, usize>,
}

/// A circle of the picture.
struct Dot {
    x: i64,
    y: usize,
    r: f64,
    count: usize,
    words: String,
}

#[derive(Template)]
#[template(path = "denials.html")]
struct DenialsBody<'a> {
    vo: &'a str,
    span: &'static Span,
    spans: &'static [Span],
    person: &'a str,
    rows: Vec<Row>,
    dots: Vec<Dot>,
    marks: Vec<(i64, String)>,
    total: usize,
    people: usize,
    /// Whether there were more than were looked at.
    more: bool,
    width: usize,
    height: usize,
}

impl DenialsBody<'_> {
    /// The row's label, short enough for the picture.
    fn label(row: &Row) -> String {
        let whole = format!("{}, {}", row.person, row.task);
        match whole.char_indices().nth(36) {
            Some((at, _)) => format!("{}…", whole.get(..at).unwrap_or_default()),
            None => whole,
        }
    }

    fn middle(index: &usize) -> usize {
        HEAD + index * ROW + ROW / 2
    }
}

impl Console {
    pub(super) async fn denials(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let (vo, person) = (request.parameter("vo"), request.parameter("person"));
        let wanted = request.parameter("span");
        let [day, week, month] = &SPANS;
        let span = match wanted {
            "day" => day,
            "month" => month,
            _ => week,
        };
        let now = self.0.ids.clock().now();
        let step = span.step * HOUR;
        // Columns begin at full hours of UTC, so that the picture does not shift while one looks.
        let end = (now.0 / step + 1) * step;
        let begin = Timestamp(end - span.columns * step);
        let from = begin.to_string();
        let query = [
            ("event", "refused"),
            ("permit", "false"),
            ("fresh", "true"),
            ("person", person),
            ("from", from.as_str()),
            ("limit", MOST),
        ];
        let found: AuditPage = Ask::of(request)?
            .read("audit.search", &[("vo", vo)], &query)
            .await?;
        let more = found.next.is_some();
        let rows = rows(&found, begin, step);
        let drawn = rows.len().min(ROWS);
        let body = text(&DenialsBody {
            vo,
            span,
            spans: &SPANS,
            person,
            dots: dots(rows.get(..drawn).unwrap_or_default(), span, begin),
            marks: marks(span, begin),
            total: rows.iter().map(|row| row.count).sum(),
            people: rows
                .iter()
                .map(|row| &row.id)
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            rows,
            more,
            width: WIDE,
            height: HEAD + drawn * ROW + 8,
        });
        let shell = self.shell_in(request, vo).at(&address(vo, "denials"));
        let page = Page {
            shell: Some(&shell),
            ..Page::new("Denials", "", &body)
        };
        Ok(answer::page(StatusCode::OK, page.show()))
    }
}

/// The denials by person and task; whoever was refused most comes first.
fn rows(found: &AuditPage, begin: Timestamp, step: i64) -> Vec<Row> {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for record in &found.records {
        let refused = record.pointer("/event/refused").unwrap_or(&Value::Null);
        // Only decisions: a wrong password or a failure is none.
        if refused["status"] != 403 {
            continue;
        }
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |path: &str| word(refused.pointer(path).unwrap_or(&Value::Null));
        let (id, card) = (of("/subject/person"), of("/subject/card"));
        let known = found.people.get(&card);
        let person = known.map_or_else(|| "somebody".to_owned(), |person| person.username.clone());
        let place = &refused["place"];
        let tool = word(&place["tool"]);
        let task = match place["task"].as_str() {
            Some(task) => format!("{task} ({tool})"),
            None => format!("no task ({tool})"),
        };
        let at = Timestamp(record["time"].as_i64().unwrap_or_default());
        let column = (at.0 - begin.0).div_euclid(step);
        let row = rows.entry((id.clone(), task.clone())).or_insert_with(|| Row {
            person,
            id,
            task,
            count: 0,
            last: shown_moment(&at.to_string()),
            request: word(&refused["request"]),
            reasons: Vec::new(),
            columns: BTreeMap::new(),
        });
        row.count += 1;
        *row.columns.entry(column).or_default() += 1;
        let reason = word(&refused["problem"]);
        if !row.reasons.contains(&reason) {
            row.reasons.push(reason);
        }
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    rows.sort_by(|a, b| (b.count, &a.person, &a.task).cmp(&(a.count, &b.person, &b.task)));
    rows
}

/// Where a column begins in the picture.
fn left(span: &Span, column: i64) -> i64 {
    let room = i64::try_from(WIDE - LABELS - 20).unwrap_or(600);
    i64::try_from(LABELS).unwrap_or(250) + column * room / span.columns
}

fn dots(rows: &[Row], span: &Span, begin: Timestamp) -> Vec<Dot> {
    let mut dots = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, count) in &row.columns {
            let at = Timestamp(begin.0 + column * span.step * HOUR);
            let area = f64::from(u16::try_from(*count).unwrap_or(u16::MAX));
            dots.push(Dot {
                x: (left(span, *column) + left(span, column + 1)) / 2,
                y: DenialsBody::middle(&index),
                r: (4.0 + 2.4 * area.sqrt()).min(15.0),
                count: *count,
                words: format!(
                    "{}, {}: {count} from {} UTC",
                    row.person,
                    row.task,
                    shown_moment(&at.to_string())
                ),
            });
        }
    }
    dots
}

/// The days and hours under which the columns stand.
fn marks(span: &Span, begin: Timestamp) -> Vec<(i64, String)> {
    let every = match span.name {
        "day" | "week" => 4,
        _ => 5,
    };
    let label = |column: i64| {
        let at = Timestamp(begin.0 + column * span.step * HOUR).to_string();
        let part = if span.name == "day" { 11..16 } else { 5..10 };
        (left(span, column), at.get(part).unwrap_or_default().to_owned())
    };
    (0..span.columns)
        .filter(|column| column % every == 0)
        .map(label)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::audit::NamedPerson;
    use serde_json::json;

    fn refused(time: &str, task: Option<&str>, status: u16) -> Value {
        let time = Timestamp::parse(time).unwrap().0;
        json!({ "time": time, "event": { "refused": {
            "request": "r", "status": status, "problem": "no_grant",
            "subject": { "person": "p1", "card": "c1" },
            "place": { "tool": "seg", "task": task },
        }}})
    }

    #[test]
    fn denials_are_counted_by_person_task_and_time_and_nothing_else_is() {
        let page = AuditPage {
            records: vec![
                refused("2026-11-22T10:30:00.000000Z", Some("submit job"), 403),
                refused("2026-11-22T10:10:00.000000Z", Some("submit job"), 403),
                refused("2026-11-22T08:10:00.000000Z", None, 403),
                refused("2026-11-22T08:10:00.000000Z", Some("submit job"), 401),
            ],
            people: [(
                "c1".to_owned(),
                NamedPerson {
                    username: "john".into(),
                    ..NamedPerson::default()
                },
            )]
            .into(),
            next: None,
            head: String::new(),
            lag: 0,
            dropped: None,
        };
        let begin = Timestamp::parse("2026-11-22T08:00:00Z").unwrap();
        let rows = rows(&page, begin, HOUR);
        let seen: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.person.as_str(),
                    row.task.as_str(),
                    row.count,
                    row.columns.clone(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("john", "submit job (seg)", 2, [(2, 2)].into()),
                ("john", "no task (seg)", 1, [(0, 1)].into()),
            ]
        );
    }

    #[test]
    fn every_dot_lies_within_the_picture() {
        for span in &SPANS {
            let last = span.columns - 1;
            let edge = i64::try_from(WIDE).unwrap();
            assert!(left(span, 0) >= 250 && left(span, last + 1) <= edge);
            assert!(left(span, last) < left(span, last + 1));
            assert!(marks(span, Timestamp(0)).len() <= 7);
        }
    }
}
