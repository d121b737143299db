//! Which attributes a condition may name: those that the manifest declares, and those that the gateway itself gives.
//!
//! Cedar takes `resource has ward` for any name and finds it false where nothing declares it. Whoever wrote that meant
//! something, and her condition would never hold: so it is refused, with what there is.

use cedar_policy::pst::{Expr, Var};

use super::condition::ConditionError;
use super::schema::{RESERVED, declared};
use crate::tool::{Task, Tool};

const PRINCIPAL: &[&str] = &["active", "home"];
const CONTEXT: &[&str] = &["breakGlass", "mfa", "now", "session", "source", "vo_active"];
/// Of the VO, which is the resource of a task that acts on nothing or lists.
const VO: &[&str] = &["active", "name"];
const BREAK_GLASS: &[&str] = &["reason", "until"];
const SESSION: &[&str] = &["acr", "amr"];

/// Refuses the first attribute that nothing declares for `task`.
///
/// # Errors
/// [`ConditionError::Undeclared`].
pub(super) fn check(tool: &Tool, task: &Task, expression: &Expr) -> Result<(), ConditionError> {
    let names = Names { tool, task };
    let mut open = vec![expression];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::GetAttr { expr, attr } => {
                names.check(expr, attr)?;
                open.push(expr);
            }
            Expr::HasAttr { expr, attrs } => {
                names.check(expr, attrs.first())?;
                open.push(expr);
            }
            Expr::UnaryOp { expr, .. } | Expr::Like { expr, .. } => open.push(expr),
            Expr::BinaryOp { left, right, .. } => open.extend([&**left, &**right]),
            Expr::Is { expr, in_expr, .. } => {
                open.push(expr);
                open.extend(in_expr.as_deref());
            }
            Expr::IfThenElse {
                cond,
                then_expr,
                else_expr,
            } => open.extend([&**cond, &**then_expr, &**else_expr]),
            Expr::Set(items) => open.extend(items.iter().map(|item| &**item)),
            Expr::Record(items) => open.extend(items.values().map(|item| &**item)),
            _ => {}
        }
    }
    Ok(())
}

struct Names<'a> {
    tool: &'a Tool,
    task: &'a Task,
}

impl<'a> Names<'a> {
    fn check(&self, base: &Expr, attribute: &str) -> Result<(), ConditionError> {
        let (word, mut there) = match base {
            Expr::Var(Var::Principal) => ("principal.", PRINCIPAL.to_vec()),
            Expr::Var(Var::Context) => ("context.", CONTEXT.to_vec()),
            Expr::Var(Var::Resource) => ("resource.", self.of_resource()),
            Expr::GetAttr { .. } => ("", self.anywhere()),
            // An entity or a record that the condition itself writes down: Cedar knows what it has.
            _ => return Ok(()),
        };
        if there.contains(&attribute) {
            return Ok(());
        }
        there.sort_unstable();
        there.dedup();
        Err(ConditionError::Undeclared {
            attribute: format!("{word}{attribute}"),
            declared: there.join(", "),
        })
    }

    fn of_resource(&self) -> Vec<&'a str> {
        let acts = self.task.resource.is_some() || self.task.filter.is_some();
        let lists_or_makes = self.task.resource.is_none() || self.task.filter.is_some();
        let mut names = Vec::new();
        if acts {
            names.extend_from_slice(RESERVED);
            names.extend(declared(self.tool));
        }
        if lists_or_makes {
            names.extend_from_slice(VO);
        }
        names
    }

    fn anywhere(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = declared(self.tool).into_iter().collect();
        for more in [RESERVED, PRINCIPAL, VO, BREAK_GLASS, SESSION] {
            names.extend_from_slice(more);
        }
        names
    }
}
