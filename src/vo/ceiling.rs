//! Ceilings: what a VO may grant at all, by the word of whoever gave it the resource.
//!
//! A ceiling does not end a grant: a grant outside it does not hold for as long as the ceiling stands. A task has to be
//! within every ceiling that applies to it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Directory, GATEWAY, VoError, Vos};
use crate::id::{CeilingId, VoId};
use crate::record::{Change, Hash};
use crate::store::{StoreError, Tx, run, tx_rows};

/// What a ceiling is over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CeilingScope {
    /// Every wrapped tool of the VO.
    All,
    /// Every tool on one of its upstreams.
    Upstream(String),
    /// One tool, wherever it is.
    Tool(String),
}

impl CeilingScope {
    /// Scope and name, as they are stored.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::All => ("all", ""),
            Self::Upstream(name) => ("upstream", name),
            Self::Tool(name) => ("tool", name),
        }
    }

    fn of(scope: &str, name: String) -> Option<Self> {
        match scope {
            "all" => Some(Self::All),
            "upstream" => Some(Self::Upstream(name)),
            "tool" => Some(Self::Tool(name)),
            _ => None,
        }
    }
}

impl fmt::Display for CeilingScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all tools"),
            Self::Upstream(name) => write!(f, "the upstream `{name}`"),
            Self::Tool(name) => write!(f, "the tool `{name}`"),
        }
    }
}

/// A task that may be granted, as it was when the ceiling was set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CeilingTask {
    /// Tool.
    pub tool: String,
    /// Task.
    pub task: String,
    /// What the manifest said of it: what a VO names so later is another task.
    pub pin: Hash,
}

/// What a VO may grant of some of its tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Id.
    pub id: CeilingId,
    /// VO.
    pub vo: VoId,
    /// What it is over.
    pub scope: CeilingScope,
    /// Kinds of task that may be granted.
    pub kinds: Vec<String>,
    /// Tasks that may be granted whatever their kind.
    pub tasks: Vec<CeilingTask>,
}

impl Ceiling {
    /// Whether it is over this tool of its VO.
    #[must_use]
    pub fn is_over(&self, tool: &str, upstream: Option<&str>) -> bool {
        match &self.scope {
            CeilingScope::All => true,
            CeilingScope::Upstream(name) => upstream == Some(name),
            CeilingScope::Tool(name) => name == tool,
        }
    }

    /// What may be granted, in words.
    #[must_use]
    pub fn allows(&self) -> String {
        let ticked = |words: Vec<String>| {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        };
        let kinds = (!self.kinds.is_empty()).then(|| format!("the kinds {}", ticked(self.kinds.clone())));
        let names: Vec<String> = self
            .tasks
            .iter()
            .map(|task| format!("{}/{}", task.tool, task.task))
            .collect();
        let tasks = (!names.is_empty()).then(|| format!("the tasks {}", ticked(names)));
        let both: Vec<String> = kinds.into_iter().chain(tasks).collect();
        match both.as_slice() {
            [] => "nothing".into(),
            both => both.join(" and "),
        }
    }
}

/// What a ceiling lets through: kinds, and tasks.
pub type Allowance = (Vec<String>, Vec<CeilingTask>);

impl Vos {
    /// Sets a ceiling in the place of the one that is there; without an allowance, takes it away. Whether kinds, tools and tasks
    /// are there is for the caller to have checked.
    ///
    /// # Errors
    /// [`VoError::Unknown`] for the VO, or when there is no ceiling to take away.
    pub async fn set_ceiling(
        &self,
        tx: &mut Tx,
        vo: VoId,
        scope: &CeilingScope,
        allowance: Option<Allowance>,
    ) -> Result<Change, VoError> {
        if vo == Directory::gateway() {
            return Err(VoError::unknown("virtual organisation", GATEWAY));
        }
        self.touch(tx, vo).await?;
        let before = read(tx)
            .await?
            .into_iter()
            .find(|known| known.vo == vo && known.scope == *scope);
        if before.is_none() && allowance.is_none() {
            return Err(VoError::unknown("ceiling", scope.to_string().replace('`', "")));
        }
        let (word, name) = scope.parts();
        run!(
            tx,
            "UPDATE ceiling SET ended_at = $4, version = version + 1
             WHERE vo_id = $1 AND scope = $2 AND name = $3 AND ended_at IS NULL",
            vo.uuid(),
            word,
            name,
            self.now().micros()
        )?;
        let after = match allowance {
            None => None,
            Some((mut kinds, mut tasks)) => {
                kinds.sort_unstable();
                kinds.dedup();
                tasks.sort_unstable();
                tasks.dedup();
                let ceiling = Ceiling {
                    id: self.ids.next()?,
                    vo,
                    scope: scope.clone(),
                    kinds,
                    tasks,
                };
                self.insert_ceiling(tx, &ceiling).await?;
                Some(ceiling)
            }
        };
        Ok(Change {
            action: "ceiling.set".into(),
            kind: "ceiling".into(),
            target: format!("{word}/{name}").trim_end_matches('/').to_owned(),
            vo,
            person: None,
            before: Some(shown(before.as_ref())),
            after: Some(shown(after.as_ref())),
        })
    }

    async fn insert_ceiling(&self, tx: &mut Tx, ceiling: &Ceiling) -> Result<(), StoreError> {
        let (scope, name) = ceiling.scope.parts();
        // Lists of texts always serialise.
        let kinds = serde_json::to_string(&ceiling.kinds).unwrap_or_default();
        let tasks = serde_json::to_string(&ceiling.tasks).unwrap_or_default();
        run!(
            tx,
            "INSERT INTO ceiling (id, vo_id, scope, name, kinds, tasks, version, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, 1, $7)",
            ceiling.id.uuid(),
            ceiling.vo.uuid(),
            scope,
            name,
            kinds.as_str(),
            tasks.as_str(),
            self.now().micros()
        )
        .map(|_| ())
    }
}

fn shown(ceiling: Option<&Ceiling>) -> Value {
    match ceiling {
        None => json!({ "ceiling": "none" }),
        Some(ceiling) => json!({ "kinds": ceiling.kinds, "tasks": ceiling.tasks }),
    }
}

pub(super) async fn read(tx: &mut Tx) -> Result<Vec<Ceiling>, StoreError> {
    tx_rows!(
        tx,
        (Uuid, Uuid, String, String, String, String),
        "SELECT id, vo_id, scope, name, kinds, tasks FROM ceiling WHERE ended_at IS NULL ORDER BY id"
    )?
    .into_iter()
    .map(|(id, vo, scope, name, kinds, tasks)| {
        let wrong = || StoreError::Inconsistent(format!("the ceiling {id}"));
        Ok(Ceiling {
            id: id.into(),
            vo: vo.into(),
            scope: CeilingScope::of(&scope, name).ok_or_else(wrong)?,
            kinds: serde_json::from_str(&kinds).map_err(|_| wrong())?,
            tasks: serde_json::from_str(&tasks).map_err(|_| wrong())?,
        })
    })
    .collect()
}
