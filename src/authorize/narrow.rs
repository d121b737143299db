//! What a personal access token takes away: it never allows anything that its person may not do, and less where its scope,
//! its assurance or the task itself says so.

use super::ruling::Ruling;
use super::standing::{Standing, is_own};
use crate::authenticate::{Personal, Subject};
use crate::problem::Kind;
use crate::tool::{Audience, Found, Place, TokenRule};

/// Finer words for [`Kind::OutOfScope`]: the task is not in the token's scope; it is for people who have signed in; it asks
/// for a second factor, which no token has.
pub(super) const SCOPE: &str = "out_of_scope";
pub(super) const PEOPLE: &str = "not_by_token";
pub(super) const ASSURANCE: &str = "token_assurance";
/// The service whose pages are for browsers.
const PAGES: &str = "console";

/// The ruling on a request that came with a personal access token; that on any other as it is.
pub(super) fn narrowed(ruling: Ruling, subject: &Subject, standing: &Standing<'_>, place: &Place) -> Ruling {
    let Some(personal) = personal(subject) else {
        return ruling;
    };
    let why = match &ruling.refused {
        // A token cannot show a second factor, so that it is not asked to.
        Some((Kind::StepUpRequired, _)) => Some(ASSURANCE),
        Some(_) => None,
        None => outside(personal, subject, standing, place),
    };
    match why {
        Some(reason) => ruling.refused_for((Kind::OutOfScope, reason)),
        None => ruling,
    }
}

/// Whether what the subject's roles allow may be done by what it shows.
pub(super) fn is_within(subject: &Subject, standing: &Standing<'_>, place: &Place) -> bool {
    personal(subject).is_none_or(|personal| outside(personal, subject, standing, place).is_none())
}

fn personal(subject: &Subject) -> Option<&Personal> {
    let session = subject.session()?;
    session.kind.personal().map(|personal| &**personal)
}

/// Why a task is not for a token; nothing where it is.
fn outside(
    personal: &Personal,
    subject: &Subject,
    standing: &Standing<'_>,
    place: &Place,
) -> Option<&'static str> {
    let task = &standing.found.task;
    if is_own(place) {
        // What strangers may do, whoever shows a token may do too.
        if task.audience == Audience::Everyone {
            return None;
        }
        match task.tokens {
            TokenRule::Never => return Some(PEOPLE),
            // SECURITY: no token ends another one, or a session of its person.
            TokenRule::Itself(parameter) => {
                let itself = is_itself(subject, standing.found, parameter);
                return (!itself).then_some(PEOPLE);
            }
            TokenRule::May if task.local == Some(PAGES) => return Some(PEOPLE),
            TokenRule::May => {}
        }
    }
    let covered = personal
        .scope
        .covers(&standing.level.name, &standing.tool.name, task);
    (!covered).then_some(SCOPE)
}

fn is_itself(subject: &Subject, found: &Found, parameter: &str) -> bool {
    let named = found.parameters.get(parameter).and_then(|id| id.parse().ok());
    let own = subject.session().map(|session| session.id);
    named.is_some() && named == own
}
