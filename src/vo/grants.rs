//! Grants: which tasks a role may do, and under which condition.

use serde_json::json;

use super::{Condition, Grant, VoError, Vos, store};
use crate::id::{GrantId, VoId};
use crate::record::Change;
use crate::store::Tx;

/// Most tasks in one grant.
const MOST_TASKS: usize = 200;

impl Vos {
    /// Grants tasks of a tool to a role. Whether tool and tasks exist, whether the tasks may be granted at all and
    /// whether the condition is a valid expression is for the caller to have checked.
    ///
    /// # Errors
    /// [`VoError::Task`], [`VoError::Taken`] when the role has the same grant already, [`VoError::Unknown`] for the role.
    pub async fn add_grants(
        &self,
        tx: &mut Tx,
        vo: VoId,
        role: &str,
        (tool, tasks): (&str, &[String]),
        condition: &Condition,
    ) -> Result<(Vec<GrantId>, Change), VoError> {
        if tasks.is_empty() || tasks.len() > MOST_TASKS {
            return Err(VoError::Task(format!("{} tasks", tasks.len())));
        }
        if let Some(bad) = tasks.iter().find(|task| !is_task(task)) {
            return Err(VoError::Task(bad.clone()));
        }
        self.touch(tx, vo).await?;
        let id = self.role(tx, vo, role).await?;
        let mut grants = Vec::with_capacity(tasks.len());
        for task in tasks {
            let grant = Grant {
                id: self.ids.next()?,
                vo,
                role: id,
                tool: tool.to_owned(),
                task: task.clone(),
                condition: condition.clone(),
            };
            store::insert_grant(tx, &grant, self.now())
                .await
                .map_err(VoError::taken("grant of", task))?;
            grants.push(grant.id);
        }
        let change = Change {
            action: "grant.add".into(),
            kind: "role".into(),
            target: id.to_string(),
            vo,
            person: None,
            before: None,
            after: Some(json!({
                "role": role, "tool": tool, "tasks": tasks, "condition": condition.as_str(), "grants": grants,
            })),
        };
        Ok((grants, change))
    }

    /// Ends a grant.
    ///
    /// # Errors
    /// [`VoError::Unknown`] when the VO has no such grant.
    pub async fn end_grant(&self, tx: &mut Tx, vo: VoId, grant: GrantId) -> Result<Change, VoError> {
        self.touch(tx, vo).await?;
        let (role, tool, task, condition) = store::grant(tx, vo, grant.uuid())
            .await?
            .ok_or_else(|| VoError::unknown("grant", grant))?;
        store::end_grant(tx, grant.uuid(), self.now()).await?;
        Ok(Change {
            action: "grant.remove".into(),
            kind: "grant".into(),
            target: grant.to_string(),
            vo,
            person: None,
            before: Some(json!({ "role": role, "tool": tool, "task": task, "condition": condition })),
            after: None,
        })
    }
}

fn is_task(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| (b' '..=b'~').contains(&b))
}
