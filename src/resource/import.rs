//! Owners and parents of what a tool had before it was wrapped, from a CSV file (RFC 4180).

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::{Resources, store};
use crate::id::{PersonId, RequestId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, CreatedEntry, Hash};
use crate::store::{StoreError, Tx};
use crate::tool::{Tool, is_id};

const COLUMNS: [&str; 5] = ["type", "id", "owner", "parent_type", "parent_id"];
/// Most rows of one file.
const MAX_ROWS: usize = 200_000;
/// Most errors that are reported; more say the same.
const MAX_ERRORS: usize = 100;

/// One row that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct RowError {
    /// Line of the file, from 1.
    pub line: u64,
    /// Why, and what is accepted.
    pub message: String,
}

/// Why a file was not imported. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Rows that cannot be taken.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Rows(Vec<RowError>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AsProblem for ImportError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Rows(_) => Problem::new(Kind::Invalid, self.to_string()),
            Self::Store(error) => error.as_problem(),
        }
    }
}

/// A file that was read and checked against the tool; not yet in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    tool: String,
    file: Hash,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    line: u64,
    kind: String,
    id: String,
    owner: Option<PersonId>,
    parent: Option<(String, String)>,
}

impl Import {
    /// Reads a file with the columns `type,id,owner,parent_type,parent_id` (the last three may be left out or empty).
    /// `person` knows the members of the VO, by user name or person id.
    ///
    /// # Errors
    /// Every row that cannot be taken, with its line.
    pub fn parse(
        csv: &str,
        tool: &Tool,
        person: impl Fn(&str) -> Option<PersonId>,
    ) -> Result<Self, ImportError> {
        let mut reader = csv::ReaderBuilder::new().from_reader(csv.as_bytes());
        let columns = columns(&mut reader)?;
        let kinds = tool.kinds();
        let mut rows: Vec<Row> = Vec::new();
        let mut seen: HashMap<(String, String), u64> = HashMap::new();
        let mut errors = Vec::new();
        for record in reader.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    errors.push(row_error(line, unread(&error)));
                    continue;
                }
            };
            let line = record.position().map_or(0, csv::Position::line);
            let field = |name: &str| {
                let column = columns.get(name).and_then(|column| record.get(*column));
                column.filter(|text| !text.is_empty())
            };
            let fields = COLUMNS.map(field);
            let mut wrong = |message: String| errors.push(row_error(line, message));
            let Some(mut row) = row(line, fields, &kinds, &person, &mut wrong) else {
                continue;
            };
            row.id = tool.id_of(&row.id);
            row.parent = row.parent.map(|(kind, id)| (kind, tool.id_of(&id)));
            if let Some(first) = seen.insert((row.kind.clone(), row.id.clone()), line) {
                wrong(format!(
                    "the {} `{}` stands in line {first} already",
                    row.kind, row.id
                ));
            }
            rows.push(row);
            if rows.len() > MAX_ROWS {
                errors.push(row_error(
                    line,
                    format!("the file has more than {MAX_ROWS} rows; import it in parts"),
                ));
                break;
            }
        }
        errors_or((), errors)?;
        Ok(Self {
            tool: tool.name.clone(),
            file: Hash::of(csv.as_bytes()),
            rows,
        })
    }

    /// How many rows it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Resources {
    /// Writes down all rows of `import`, or none. A row that says what is known already changes nothing.
    ///
    /// # Errors
    /// [`ImportError::Rows`] with every row whose live id belongs to another; the caller drops the transaction then.
    pub async fn import(
        &self,
        tx: &mut Tx,
        request: RequestId,
        vo: VoId,
        import: &Import,
    ) -> Result<Change, ImportError> {
        let mut errors = Vec::new();
        for row in &import.rows {
            let entry = CreatedEntry {
                vo,
                tool: import.tool.clone(),
                kind: row.kind.clone(),
                id: row.id.clone(),
                owner: row.owner,
                parent: row.parent.clone(),
                attributes: BTreeMap::new(),
            };
            if let store::Claim::Conflict(owner) = store::claim(tx, request, &entry, self.clock.now()).await?
            {
                let whose = if owner.is_some() {
                    "another person's"
                } else {
                    "nobody's"
                };
                errors.push(row_error(
                    row.line,
                    format!(
                        "the {} `{}` is known already, and {whose}; the first owner stays",
                        row.kind, row.id
                    ),
                ));
            }
        }
        errors_or((), errors)?;
        Ok(Change {
            action: "resource.import".into(),
            kind: "tool".into(),
            target: import.tool.clone(),
            vo,
            person: None,
            before: None,
            after: Some(json!({ "rows": import.rows.len(), "file": import.file.to_string() })),
        })
    }
}

fn row_error(line: u64, message: impl Into<String>) -> RowError {
    RowError {
        line,
        message: message.into(),
    }
}

fn errors_or<T>(value: T, mut errors: Vec<RowError>) -> Result<T, ImportError> {
    if errors.is_empty() {
        return Ok(value);
    }
    let more = errors.len().saturating_sub(MAX_ERRORS);
    errors.truncate(MAX_ERRORS);
    if let (1.., Some(last)) = (more, errors.last_mut()) {
        last.message.push_str(&format!(" (and {more} more rows)"));
    }
    Err(ImportError::Rows(errors))
}

fn unread(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("the row has {len} fields, the first line {expected_len}")
        }
        _ => "the row cannot be read; accepted: comma-separated UTF-8 text as in RFC 4180".to_owned(),
    }
}

fn columns(reader: &mut csv::Reader<&[u8]>) -> Result<HashMap<String, usize>, ImportError> {
    let accepted = COLUMNS.join(",");
    let headers = reader
        .headers()
        .map_err(|error| ImportError::Rows(vec![row_error(1, unread(&error))]))?;
    let mut columns = HashMap::new();
    let mut errors = Vec::new();
    for (index, name) in headers.iter().enumerate() {
        if !COLUMNS.contains(&name) {
            errors.push(row_error(
                1,
                format!("unknown column `{name}`; accepted: {accepted}"),
            ));
        } else if columns.insert(name.to_owned(), index).is_some() {
            errors.push(row_error(1, format!("the column `{name}` stands there twice")));
        }
    }
    for name in ["type", "id"] {
        if !columns.contains_key(name) {
            errors.push(row_error(
                1,
                format!("the column `{name}` is missing; accepted: {accepted}"),
            ));
        }
    }
    errors_or(columns, errors)
}

fn row(
    line: u64,
    [kind, id, owner, parent_kind, parent_id]: [Option<&str>; 5],
    kinds: &std::collections::BTreeSet<&str>,
    person: &impl Fn(&str) -> Option<PersonId>,
    wrong: &mut impl FnMut(String),
) -> Option<Row> {
    let mut good = true;
    let mut flaw = |message: String| {
        good = false;
        wrong(message);
    };
    let accepted = || kinds.iter().copied().collect::<Vec<_>>().join(", ");
    for kind in [kind, parent_kind].into_iter().flatten() {
        if !kinds.contains(kind) {
            flaw(format!(
                "`{kind}` is not a type of this tool; accepted: {}",
                accepted()
            ));
        }
    }
    for id in [id, parent_id].into_iter().flatten() {
        if !is_id(id) {
            flaw("an id must have 1 to 512 bytes without control characters".to_owned());
        }
    }
    if kind.is_none() || id.is_none() {
        flaw("type and id must be there".to_owned());
    }
    if parent_kind.is_some() != parent_id.is_some() {
        flaw("parent_type and parent_id go together".to_owned());
    }
    let known = owner.and_then(person);
    if let (Some(owner), None) = (owner, known) {
        flaw(format!(
            "`{owner}` is not a member; accepted: a user name or a person id of this virtual organisation"
        ));
    }
    if parent_kind.is_some() && (kind, id) == (parent_kind, parent_id) {
        flaw("a thing cannot be its own parent".to_owned());
    }
    good.then(|| Row {
        line,
        kind: kind.unwrap_or_default().to_owned(),
        id: id.unwrap_or_default().to_owned(),
        owner: known,
        parent: parent_kind
            .zip(parent_id)
            .map(|(kind, id)| (kind.to_owned(), id.to_owned())),
    })
}
