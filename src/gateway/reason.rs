//! Why somebody edits by hand who may do what: asked for before the intent, so that nothing is done without it.

use crate::audit::Reasons;
use crate::authorize::Permit;
use crate::problem::{Kind, Problem};
use crate::tool::REASON;

/// Longest reason, in characters.
const LONGEST: usize = 500;

/// What is wrong with the reason of a permitted request: that it has none where one is asked for, or that it is no reason.
pub(super) fn flaw(permit: &Permit, asked: Reasons) -> Option<Problem> {
    let found = permit.found();
    if !found.task.reasoned {
        return None;
    }
    let detail = match found.parameters.get(REASON) {
        None if asked == Reasons::Optional => return None,
        None => format!("`{}` takes a reason, and none was given", found.task.name),
        Some(text) => unfit(text)?,
    };
    Some(Problem::new(Kind::ReasonRequired, detail))
}

fn unfit(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some("the reason is empty".into());
    }
    if text.chars().any(char::is_control) {
        return Some("the reason may have no control characters, line ends included".into());
    }
    let long = text.chars().count();
    (long > LONGEST).then(|| format!("the reason has {long} characters, and may have {LONGEST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_some_text_of_one_line_and_bounded_length() {
        for text in [
            "x",
            "ticket 4711",
            "weil sie am Projekt „Herz“ mitarbeitet",
            &"ü".repeat(500),
        ] {
            assert_eq!(unfit(text), None, "{text}");
        }
        for text in ["", "   ", "two\nlines", "\u{1b}[2J", "\u{85}", &"x".repeat(501)] {
            assert!(unfit(text).is_some(), "{text:?}");
        }
    }
}
