//! The words of a refusal: which task it was, why not, and what would allow it.

use super::narrow;
use crate::authenticate::Subject;
use crate::problem::{Kind, Problem};
use crate::resource::Resource;
use crate::tool::{Address, Assurance, Place};
use crate::vo::SYSTEM_ADMINISTRATOR;

/// Finer word for [`Kind::Suspended`]: the VO is, not the person.
pub(super) const SUSPENDED_VO: &str = "suspended_vo";
/// The other way round.
pub(super) const SUSPENDED_PERSON: &str = "suspended_person";

/// What a refusal is made of.
pub(super) struct Refusal<'a> {
    pub(super) kind: Kind,
    /// The reason in the record: the problem's name, or a finer word.
    pub(super) reason: &'static str,
    /// Roles that would have allowed it.
    pub(super) would_allow: &'a [String],
}

/// The problem that answers a refusal. A stranger, or who is not a member, is told nothing about what there is.
pub(super) fn problem(
    refusal: &Refusal<'_>,
    subject: &Subject,
    place: &Place,
    chain: &[Resource],
) -> Problem {
    let kind = match refusal.kind {
        Kind::NoTask if looks_by_itself(place) => Kind::NotFound,
        kind => kind,
    };
    let problem = Problem::new(kind, detail(refusal, place, chain));
    if subject.is_anonymous() {
        return problem;
    }
    let vo = place
        .vo
        .as_ref()
        .map(|vo| vo.name.as_str())
        .or(place.unknown_vo.as_deref());
    let problem = match refusal.would_allow {
        // SECURITY: of the gateway's own tasks alone; a VO has no role of this name.
        [only] if only == SYSTEM_ADMINISTRATOR => problem.instead(
            "This is for system administrators of the gateway; no administrator of a virtual organisation can allow it. Ask one of \
             them, and name the request id.",
        ),
        _ => problem,
    };
    let problem = match vo {
        Some(vo) => problem.with("vo", vo),
        None => problem,
    };
    if matches!(
        refusal.kind,
        Kind::NotAMember
            | Kind::PasswordChangeRequired
            | Kind::Suspended
            | Kind::AccountPending
            | Kind::AccountRejected
            | Kind::AccountExpired
            | Kind::AccountDeleted
            | Kind::StateInDoubt
    ) {
        return problem;
    }
    let problem = match &place.tool {
        Some(tool) => problem.with("tool", tool.name.as_str()),
        None => problem,
    };
    let problem = match &place.found {
        Some(found) => problem.with("task", found.task.name.as_str()),
        None => problem,
    };
    if matches!(refusal.kind, Kind::NoTask) {
        return problem;
    }
    if refusal.kind == Kind::StepUpRequired {
        return problem.with("acr_values", Assurance::Aal2.as_str());
    }
    if refusal.kind == Kind::OutOfScope {
        let personal = subject.session().and_then(|session| session.kind.personal());
        let words = personal
            .map(|personal| personal.scope.words())
            .unwrap_or_default();
        return problem.with("reason", refusal.reason).with("scope", words);
    }
    problem.with("would_allow", refusal.would_allow.to_vec())
}

/// Whether a browser asks for this by itself, beside the page that somebody opened: then it is on record as `no_task` like
/// anything else, and answered with 404, which is what a site without an icon answers, and which counts for no alert.
fn looks_by_itself(place: &Place) -> bool {
    const ICONS: [&str; 3] = [
        "/favicon.ico",
        "/apple-touch-icon.png",
        "/apple-touch-icon-precomposed.png",
    ];
    place.address == Address::ToolHost
        && matches!(place.method, http::Method::GET | http::Method::HEAD)
        && place.target.query().is_empty()
        && ICONS.contains(&place.target.path())
}

fn detail(refusal: &Refusal<'_>, place: &Place, chain: &[Resource]) -> String {
    let vo = place
        .vo
        .as_ref()
        .map(|vo| vo.name.as_str())
        .or(place.unknown_vo.as_deref());
    let tool = place.tool.as_ref().map_or("this tool", |tool| tool.name.as_str());
    let task = place
        .found
        .as_ref()
        .map_or("this", |found| found.task.name.as_str());
    match refusal.kind {
        Kind::NoCredential => "this address is private, so sign in first".into(),
        Kind::Suspended => match vo {
            Some(vo) if refusal.reason == SUSPENDED_VO => {
                format!(
                    "the virtual organisation `{vo}` is suspended, nothing is allowed in it until it is resumed"
                )
            }
            _ if refusal.reason == SUSPENDED_PERSON => "your account is suspended".into(),
            Some(vo) => format!("your account, or the virtual organisation `{vo}`, is suspended"),
            None => "your account, or the gateway, is suspended".into(),
        },
        Kind::AccountPending => "your account is not approved yet".into(),
        Kind::AccountRejected => "the request for your account was refused".into(),
        Kind::AccountExpired => "your account has expired".into(),
        Kind::AccountDeleted => "your account was deleted".into(),
        Kind::StateInDoubt => match vo {
            Some(vo) => format!("the state of the virtual organisation `{vo}` was changed past the gateway"),
            None => "the state of the gateway's own level was changed past the gateway".into(),
        },
        Kind::PasswordChangeRequired => {
            "choose your own password first; until then nothing else is open".into()
        }
        Kind::NotAMember => match vo {
            Some(vo) => format!("you are not a member of a virtual organisation `{vo}`"),
            None => "you are not a member of that virtual organisation".into(),
        },
        Kind::NoTask => no_task(place),
        Kind::NotOwner => not_owner(task, chain),
        Kind::StepUpRequired => {
            format!("`{task}` on `{tool}` asks for a second factor, which was not shown in this session")
        }
        Kind::OutsideCeiling => format!(
            "whoever gave `{tool}` to the virtual organisation does not let it grant `{task}`, so the grant that your role has does not hold"
        ),
        Kind::OutOfScope => match refusal.reason {
            narrow::PEOPLE => format!("`{task}` is for people who have signed in, and for no access token"),
            narrow::ASSURANCE => {
                format!("`{task}` on `{tool}` asks for a second factor, which no access token shows")
            }
            _ => format!("the access token was not made for `{task}` on `{tool}`"),
        },
        Kind::ConditionNotMet => match refusal.reason {
            "not_home" => format!(
                "`{task}` is for the administrators of the account's home alone, and never for an account that administers something elsewhere"
            ),
            "policy_error" => {
                format!("a rule for `{task}` on `{tool}` could not be evaluated, so nothing was allowed")
            }
            _ => format!("your role allows `{task}` on `{tool}` under a condition that does not hold here"),
        },
        _ => no_grant(task, tool, refusal.would_allow),
    }
}

fn no_task(place: &Place) -> String {
    let request: String = format!("{} {}", place.method, place.target.path())
        .chars()
        .take(200)
        .collect();
    match (&place.tool, &place.vo) {
        (Some(tool), _) => format!("no task of `{}` names `{request}`", tool.name),
        (None, Some(vo)) => format!("there is no such tool in `{}`", vo.name),
        (None, None) => format!("no task names `{request}`"),
    }
}

fn not_owner(task: &str, chain: &[Resource]) -> String {
    let Some(resource) = chain.first() else {
        return format!("your role allows `{task}` on your own things only");
    };
    let id: String = resource.id.chars().take(100).collect();
    // SECURITY: the same words for somebody else's and for what is not there, so that ids cannot be tried out.
    format!(
        "your role allows `{task}` on your own things only, and {} `{id}` is not known to be yours",
        resource.kind
    )
}

fn no_grant(task: &str, tool: &str, would_allow: &[String]) -> String {
    let roles: Vec<String> = would_allow.iter().map(|role| format!("`{role}`")).collect();
    match roles.as_slice() {
        [] => format!("none of your roles may do `{task}` on `{tool}`, and no other role may yet"),
        [one] => format!("none of your roles may do `{task}` on `{tool}`; the role {one} may"),
        many => format!(
            "none of your roles may do `{task}` on `{tool}`; these roles may: {}",
            many.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PersonId, VoId};

    #[test]
    fn somebody_elses_and_what_is_not_there_are_refused_in_the_same_words() {
        let vo = VoId::from(uuid::Uuid::nil());
        let unknown = Resource::unknown(vo, "jobs", "job", "7");
        let mut owned = unknown.clone();
        owned.owner = Some(PersonId::from(uuid::Uuid::nil()));
        assert_eq!(
            not_owner("monitor job", &[unknown]),
            not_owner("monitor job", &[owned])
        );
    }
}
