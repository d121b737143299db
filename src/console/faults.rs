//! What is wrong with a form: said at the field that it is about, else above the form.

use super::login::words;
use super::pages::Said;
use crate::problem::{Kind, Problem};

/// What is wrong, and with which field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults(Option<(&'static str, String)>);

impl Faults {
    /// Nothing.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// What is wrong with the field of this name.
    pub(super) fn of(&self, name: &str) -> Option<&str> {
        let (field, words) = self.0.as_ref()?;
        (*field == name).then_some(words)
    }

    /// The problem as the fault of one of `fields`, if it names one (its member `field`, or its detail in backticks, or a
    /// value that was given there), else as what is said above the form.
    pub(super) fn from(problem: &Problem, fields: &[(&'static str, &str)]) -> (Said, Self) {
        let named = problem.members.get("field").and_then(|field| field.as_str());
        let quoted = |text: &str| !text.is_empty() && problem.detail.contains(&format!("`{text}`"));
        let named = match problem.kind {
            Kind::ReasonRequired => Some("reason"),
            _ => named,
        };
        let field = fields
            .iter()
            .find(|(field, _)| named == Some(*field) || quoted(field))
            .or_else(|| fields.iter().find(|(_, value)| quoted(value)));
        match field {
            Some((field, _)) => (Said::Nothing, Self(Some((field, words(problem))))),
            None => (Said::Bad(words(problem)), Self::none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_said_at_the_field_that_it_is_about() {
        let fields = [("username", "Bad Name"), ("mail", "x")];
        let at = |detail: &str| Faults::from(&Problem::new(Kind::Invalid, detail), &fields);
        let (said, faults) = at("`Bad Name` cannot be a name");
        assert_eq!(said, Said::Nothing);
        assert!(faults.of("username").is_some() && faults.of("mail").is_none());
        let (_, faults) = at("`mail` must be an address");
        assert!(faults.of("mail").is_some());
        let (_, faults) = Faults::from(
            &Problem::new(Kind::ReasonRequired, "`user.add` takes a reason"),
            &[("username", "anna"), ("reason", "")],
        );
        assert!(faults.of("reason").is_some());
        let (said, faults) = at("the log is full");
        assert!(said.words().is_some() && faults.of("username").is_none());
    }
}
