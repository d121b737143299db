//! Why somebody edits by hand who may do what: asked for before the intent, so that nothing is done without it.

use crate::audit::Reasons;
use crate::authorize::Permit;
use crate::problem::{Kind, Problem};
use crate::tool::{REASON, unfit_reason};

/// What is wrong with the reason of a permitted request: that it has none where one is asked for, or that it is no reason.
pub(super) fn flaw(permit: &Permit, asked: Reasons) -> Option<Problem> {
    let found = permit.found();
    if !found.task.reasoned {
        return None;
    }
    let detail = match found.parameters.get(REASON) {
        None if asked == Reasons::Optional => return None,
        None => format!("`{}` takes a reason, and none was given", found.task.name),
        Some(text) => unfit_reason(text)?,
    };
    Some(Problem::new(Kind::ReasonRequired, detail))
}
