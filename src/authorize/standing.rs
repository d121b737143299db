//! What is decided before any policy: who the subject is here, and whether a task was named at all.

use std::sync::Arc;

use super::slice::is_active;
use crate::authenticate::{Subject, Who};
use crate::clock::Timestamp;
use crate::problem::Kind;
use crate::tool::{Audience, Found, Place, Tool};
use crate::vo::{Directory, OWN_TOOL, PersonState, SYSTEM_ADMINISTRATOR, Vo, VoState};

/// A request that may go on to the policies: the level it is judged at, its tool and its task.
#[derive(Clone, Debug)]
pub(super) struct Standing<'a> {
    pub(super) level: Arc<Vo>,
    pub(super) tool: &'a Arc<Tool>,
    pub(super) found: &'a Found,
}

/// The gateway's level, also where the directory does not hold it yet.
pub(super) fn gateway_level(directory: &Directory) -> Arc<Vo> {
    directory.vo(Directory::gateway()).cloned().unwrap_or_else(|| {
        Arc::new(Vo {
            id: Directory::gateway(),
            name: crate::vo::GATEWAY.into(),
            state: VoState::Active,
            version: 0,
        })
    })
}

/// The level that a request is judged at: the VO of the place, or the gateway.
///
/// SECURITY: a task that is shipped to system administrators alone is judged at the gateway's level even when it names
/// a VO, so that no grant inside a VO can give it to anyone.
pub(super) fn level(directory: &Directory, place: &Place) -> Option<Arc<Vo>> {
    let for_the_gateway = place.found.as_ref().is_some_and(|found| {
        is_own(place)
            && matches!(found.task.audience, Audience::Granted([only]) if *only == SYSTEM_ADMINISTRATOR)
    });
    match &place.vo {
        Some(vo) if !for_the_gateway => directory.vo(vo.id).cloned(),
        _ => Some(gateway_level(directory)),
    }
}

/// Whether the tool of the place is the gateway's own.
pub(super) fn is_own(place: &Place) -> bool {
    place.tool.as_ref().is_some_and(|tool| tool.name == OWN_TOOL)
}

/// Whether everyone may do the task of the place, signed in or not.
///
/// SECURITY: only tasks of the gateway itself have an audience; a manifest cannot make one.
fn is_public(place: &Place) -> bool {
    audience(place) == Some(Audience::Everyone)
}

fn audience(place: &Place) -> Option<Audience> {
    let found = place.found.as_ref().filter(|_| is_own(place))?;
    Some(found.task.audience)
}

/// SECURITY: that a VO is there and closed is for its members, and for who holds a role at the gateway's level.
fn closed(directory: &Directory, subject: &Subject, level: &Vo) -> Kind {
    let why = match level.state {
        VoState::InDoubt => Kind::StateInDoubt,
        VoState::Active | VoState::Suspended => Kind::Suspended,
    };
    let Who::Person(person) = subject.who() else {
        return why;
    };
    let mut above = directory.assignments_of_vo(Directory::gateway());
    if directory.is_member(level.id, person.id) || above.any(|held| held.person == person.id) {
        why
    } else {
        Kind::NotAMember
    }
}

/// Judges everything that needs no policy.
///
/// # Errors
/// The problem that refuses the request. The order matters: what a subject may not know is refused before what would
/// tell it.
pub(super) fn standing<'a>(
    directory: &Directory,
    subject: &Subject,
    place: &'a Place,
    now: Timestamp,
) -> Result<Standing<'a>, Kind> {
    // SECURITY: strangers learn nothing: the same answer on anything private, existing or not.
    if subject.is_anonymous() && !is_public(place) {
        return Err(Kind::NoCredential);
    }
    if let Who::Person(person) = subject.who() {
        // SECURITY: an account expires at its second, whether that was written down yet or not.
        let state = directory.person(person.id).map(|person| person.standing(now));
        if let Some(why) = state.unwrap_or(PersonState::Ended).refusal() {
            return Err(why);
        }
        let must_change = subject.session().is_some_and(|session| session.must_change);
        let open = matches!(audience(place), Some(Audience::Everyone | Audience::AnySession));
        if must_change && !open {
            return Err(Kind::PasswordChangeRequired);
        }
        // SECURITY: a VO that is not there and one that she does not belong to look alike.
        let stranger_here = place
            .vo
            .as_ref()
            .is_some_and(|vo| !is_own(place) && !directory.is_member(vo.id, person.id));
        if place.unknown_vo.is_some() || stranger_here {
            return Err(Kind::NotAMember);
        }
    }
    let Some(level) = level(directory, place).filter(|_| place.unknown_vo.is_none()) else {
        return Err(Kind::NotAMember);
    };
    if !is_active(directory, &level) {
        return Err(closed(directory, subject, &level));
    }
    // SECURITY: the gateway's own roles are in doubt, so nobody holds one.
    let needs_role = !matches!(
        audience(place),
        Some(Audience::Everyone | Audience::AnySession | Audience::AnyPerson)
    );
    if level.state == VoState::InDoubt && needs_role {
        return Err(Kind::StateInDoubt);
    }
    match (&place.tool, &place.found) {
        (Some(tool), Some(found)) => Ok(Standing { level, tool, found }),
        _ => Err(Kind::NoTask),
    }
}
