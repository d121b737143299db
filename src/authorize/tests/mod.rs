mod cases;
mod model;
mod world;

use std::time::Duration;

use world::{
    AHE, IMENSE, JANE, JOHN, NOWHERE, START, World, by_token, id, jane, jobs, now, own, place, resource,
    signed_in, stranger,
};

use super::bucket::{Bucket, Spot};
use super::{Authorize, ConditionError, Denial, Permit};
use crate::authenticate::Subject;
use crate::clock::Timestamp;
use crate::problem::Kind;
use crate::tool::{Audience, Place};
use crate::vo::{
    Condition, Directory, DirectoryHandle, PersonState, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR, VoState,
};

fn decide(authorize: &Authorize, subject: Subject, place: Place) -> Result<Permit, Box<Denial>> {
    now(authorize.decide(subject, place))
}

fn refused(authorize: &Authorize, subject: Subject, place: Place) -> Kind {
    decide(authorize, subject, place)
        .expect_err("a denial")
        .problem
        .kind
}

/// Jane is a scientist who handles her own jobs: job 7 is hers, 8 is John's, 9 was there before wrapping.
fn story() -> World {
    let mut world = World::new();
    world.hold(IMENSE, JANE, "scientist", None);
    world.hold(IMENSE, JOHN, "scientist", None);
    world.grant(IMENSE, "scientist", "jobs", "submit job", "always");
    for task in ["monitor job", "terminate job", "list jobs"] {
        world.grant(IMENSE, "scientist", "jobs", task, "own");
        world.grant(IMENSE, VO_ADMINISTRATOR, "jobs", task, "always");
    }
    world.job("7", Some(JANE), None);
    world.job("8", Some(JOHN), None);
    world.job("9", None, None);
    world
}

/// Whatever a token is for, it does nothing that its person may not do, and nothing outside its scope.
#[test]
fn a_token_only_takes_away() {
    let mut world = story();
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    let authorize = world.authorize();
    let scopes: [&[&str]; 6] = [
        &["imense"],
        &["ahe"],
        &["imense/jobs"],
        &["imense/jobs/submit job", "gateway"],
        &["imense/countersign/role.create"],
        &["gateway/countersign/session.list"],
    ];
    let (jobs, own) = (jobs(), own());
    let mut permitted = 0;
    for (tool, vos) in [(&jobs, &[Some(IMENSE)][..]), (&own, &[Some(IMENSE), None])] {
        for (task, vo) in tool
            .tasks
            .iter()
            .flat_map(|task| vos.iter().map(move |vo| (task, vo)))
        {
            for id in ["7", "8"] {
                let at = || place(*vo, tool, Some(&task.name), Some(id));
                let person = decide(&authorize, jane(), at());
                for (scope, read_only) in scopes.iter().flat_map(|scope| [(scope, false), (scope, true)]) {
                    let subject = by_token(scope, read_only);
                    let parts = subject
                        .session()
                        .and_then(|session| session.kind.personal().cloned());
                    let level = match vo {
                        Some(_) if task.name != "upstream.allow" => "imense",
                        _ => crate::vo::GATEWAY,
                    };
                    let covered = parts.is_some_and(|token| token.scope.covers(level, &tool.name, task));
                    let public = tool.name == crate::vo::OWN_TOOL && task.audience == Audience::Everyone;
                    let token = decide(&authorize, subject, at());
                    let (may, does) = (person.is_ok(), token.is_ok());
                    assert_eq!(does, may && (covered || public), "{} by {scope:?}", task.name);
                    permitted += usize::from(does);
                    if let (true, Err(denial)) = (may, token) {
                        assert_eq!(denial.problem.kind, Kind::OutOfScope);
                        assert_eq!(
                            (denial.decision.permit, denial.decision.reason.as_str()),
                            (false, "out_of_scope")
                        );
                    }
                }
            }
        }
    }
    assert!(permitted > 20, "{permitted}");
}

#[test]
fn what_a_token_may_do_is_what_is_listed_for_it() {
    let authorize = story().authorize();
    let id = id(IMENSE);
    let listed = |subject: &Subject| {
        let may = authorize.may(subject, Some(id), &[jobs()]);
        may.into_iter().map(|allowed| allowed.task).collect::<Vec<_>>()
    };
    assert!(listed(&jane()).len() > 2);
    assert_eq!(
        listed(&by_token(&["imense/jobs/submit job"], false)),
        ["submit job"]
    );
    assert!(listed(&by_token(&["imense/jobs/submit job"], true)).is_empty());
    assert!(listed(&by_token(&["ahe"], false)).is_empty());
}

#[test]
fn a_scientist_handles_her_own_jobs_and_nobody_elses() {
    let authorize = story().authorize();
    let on = |task, job| place(Some(IMENSE), &jobs(), Some(task), Some(job));
    for task in ["monitor job", "terminate job"] {
        let permit = decide(&authorize, jane(), on(task, "7")).expect("her own");
        assert_eq!(permit.decision().policies, [format!("{task}/own")]);
        assert_eq!(refused(&authorize, jane(), on(task, "8")), Kind::NotOwner);
        assert_eq!(refused(&authorize, jane(), on(task, "9")), Kind::NotOwner);
        assert_eq!(
            refused(&authorize, jane(), on(task, "unheard of")),
            Kind::NotOwner
        );
    }
}

#[test]
fn a_vo_administrator_handles_any_job_and_the_decision_names_the_role() {
    let mut world = story();
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    let authorize = world.authorize();
    for job in ["8", "9"] {
        let permit = decide(
            &authorize,
            jane(),
            place(Some(IMENSE), &jobs(), Some("terminate job"), Some(job)),
        );
        let permit = permit.expect("an administrator");
        let path = &permit.decision().path;
        assert_eq!(path[0], format!("person/{}", id::<crate::id::PersonId>(JANE)));
        assert!(path[1].starts_with("membership/"), "{path:?}");
        assert!(path[2].starts_with("role/vo-administrator ("), "{path:?}");
        assert!(path[3].starts_with("grant/"), "{path:?}");
        assert_eq!(path.len(), 4, "{path:?}");
    }
}

#[test]
fn several_roles_give_the_union() {
    let mut world = story();
    world.grant(IMENSE, "curator", "jobs", "terminate job", "always");
    world.hold(IMENSE, JANE, "curator", None);
    let authorize = world.authorize();
    let on = |task, job| place(Some(IMENSE), &jobs(), Some(task), Some(job));
    let permit = decide(&authorize, jane(), on("terminate job", "8")).expect("as a curator");
    assert!(
        permit
            .decision()
            .path
            .iter()
            .any(|hop| hop.starts_with("role/curator"))
    );
    assert!(
        !permit
            .decision()
            .path
            .iter()
            .any(|hop| hop.starts_with("role/scientist"))
    );
    let both = decide(&authorize, jane(), on("terminate job", "7")).expect("as either");
    assert_eq!(
        both.decision().policies,
        ["terminate job/always", "terminate job/own"]
    );
    assert_eq!(
        refused(&authorize, jane(), on("monitor job", "8")),
        Kind::NotOwner
    );
}

#[test]
fn a_fresh_vo_allows_nothing() {
    let mut world = World::new();
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    let authorize = world.authorize();
    for task in ["submit job", "list jobs", "monitor job", "terminate job"] {
        let denial =
            decide(&authorize, jane(), place(Some(IMENSE), &jobs(), Some(task), None)).expect_err(task);
        assert_eq!(denial.problem.kind, Kind::NoGrant);
        assert!(denial.decision.would_allow.is_empty());
    }
}

#[test]
fn a_request_that_no_task_names_is_denied() {
    let authorize = story().authorize();
    let denial = decide(&authorize, jane(), place(Some(IMENSE), &jobs(), None, None)).expect_err("no task");
    assert_eq!(denial.problem.kind, Kind::NoTask);
    assert_eq!(denial.problem.detail, "no task of `jobs` names `GET /x`");
    assert_eq!(denial.decision.reason, "no_task");
}

#[test]
fn an_icon_that_browsers_ask_for_by_themselves_is_not_there_and_counts_for_no_alert() {
    let authorize = story().authorize();
    let icon = |address, method: http::Method, path: &str| {
        let place = crate::tool::Place {
            address,
            method,
            target: crate::tool::Target::parse(path).unwrap(),
            ..place(Some(IMENSE), &jobs(), None, None)
        };
        let denial = decide(&authorize, jane(), place).expect_err("no task");
        assert_eq!(denial.decision.reason, "no_task", "on record like any other");
        denial.problem.kind
    };
    use crate::tool::Address::{Path, ToolHost};
    for (path, method) in [
        ("/favicon.ico", http::Method::GET),
        ("/apple-touch-icon.png", http::Method::HEAD),
    ] {
        // Denials count for alerts by their status, 403.
        assert_eq!(icon(ToolHost, method, path), Kind::NotFound, "{path}");
    }
    for (address, method, path) in [
        (ToolHost, http::Method::POST, "/favicon.ico"),
        (ToolHost, http::Method::GET, "/favicon.ico?job=7"),
        (ToolHost, http::Method::GET, "/jobs/favicon.ico"),
        (Path, http::Method::GET, "/favicon.ico"),
    ] {
        assert_eq!(icon(address, method, path), Kind::NoTask, "{path}");
    }
}

#[test]
fn a_denial_says_task_tool_vo_and_the_roles_that_may() {
    let mut world = story();
    world.rows.assignments.clear();
    let authorize = world.authorize();
    let denial = decide(
        &authorize,
        jane(),
        place(Some(IMENSE), &jobs(), Some("terminate job"), Some("7")),
    );
    let denial = denial.expect_err("no role");
    assert_eq!(denial.problem.kind, Kind::NoGrant);
    assert_eq!(
        serde_json::Value::Object(denial.problem.members.clone()),
        serde_json::json!({
            "task": "terminate job", "tool": "jobs", "vo": "imense",
            "would_allow": ["scientist", "vo-administrator"],
        })
    );
    assert_eq!(
        denial.problem.detail,
        "none of your roles may do `terminate job` on `jobs`; these roles may: `scientist`, `vo-administrator`"
    );
    assert_eq!(denial.decision.would_allow, ["scientist", "vo-administrator"]);
}

#[test]
fn strangers_get_the_same_answer_whether_it_exists_or_not() {
    let authorize = story().authorize();
    let mut no_tool = place(Some(IMENSE), &jobs(), None, None);
    no_tool.tool = None;
    let answers: Vec<_> = [
        place(Some(IMENSE), &jobs(), Some("monitor job"), Some("7")),
        place(Some(IMENSE), &jobs(), Some("forged"), None),
        place(Some(IMENSE), &jobs(), None, None),
        place(Some(NOWHERE), &jobs(), None, None),
        place(None, &own(), Some("upstream.allow"), None),
        no_tool,
    ]
    .into_iter()
    .map(|place| {
        decide(&authorize, stranger(), place)
            .expect_err("private")
            .problem
    })
    .collect();
    assert_eq!(answers[0].kind, Kind::NoCredential);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[test]
fn a_vo_that_is_not_there_looks_like_one_she_does_not_belong_to() {
    let authorize = story().authorize();
    let other = decide(
        &authorize,
        jane(),
        place(Some(AHE), &jobs(), Some("submit job"), None),
    )
    .expect_err("ahe");
    let nowhere = decide(&authorize, jane(), place(Some(NOWHERE), &jobs(), None, None)).expect_err("nowhere");
    assert_eq!(other.problem.kind, Kind::NotAMember);
    assert_eq!(nowhere.problem.kind, Kind::NotAMember);
    assert_eq!(
        other.problem.detail.replace("ahe", "nowhere"),
        nowhere.problem.detail
    );
    assert_eq!(
        other.problem.members.keys().collect::<Vec<_>>(),
        nowhere.problem.members.keys().collect::<Vec<_>>()
    );
}

#[test]
fn an_ended_membership_takes_the_roles_with_it() {
    let mut world = story();
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    world.rows.memberships.clear();
    let authorize = world.authorize();
    let create = place(Some(IMENSE), &own(), Some("role.create"), None);
    assert_eq!(refused(&authorize, jane(), create), Kind::NotAMember);
}

#[test]
fn a_condition_on_an_attribute_that_nothing_declares_is_refused_with_those_that_are() {
    let world = story();
    let authorize = world.authorize();
    let tool = jobs();
    let check = |text: &str| authorize.check_condition(id(IMENSE), &tool, "monitor job", text);
    for (text, named) in [
        ("resource has ward && resource.ward == \"A3\"", "resource.ward"),
        ("!(resource has hospital) || resource has ward", "resource.ward"),
        (
            "if context has colour then true else context.mfa",
            "context.colour",
        ),
        ("resource has owner && resource.owner has ward", "ward"),
        ("[true, principal has mail].contains(true)", "principal.mail"),
    ] {
        let error = check(text).unwrap_err();
        let ConditionError::Undeclared { attribute, declared } = &error else {
            panic!("{text}: {error:?}");
        };
        assert_eq!(attribute, named, "{text}");
        assert!(error.to_string().contains(declared.as_str()));
        if named == "resource.ward" {
            assert_eq!(declared, "elsewhere, home, hospital, id, kind, owner, vo");
        }
    }
    for text in [
        "resource has hospital && resource.hospital == \"x\"",
        "resource has owner && resource.owner.home == principal.home && principal.active",
        "context has breakGlass && context.breakGlass.reason != \"\"",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
    }
}

#[test]
fn a_suspended_person_or_vo_is_allowed_nothing() {
    let mut world = story();
    world.rows.people[0].state = PersonState::Suspended;
    let authorize = world.authorize();
    for (tool, task) in [
        (jobs(), "submit job"),
        (own(), "session.list"),
        (own(), "session.create"),
    ] {
        assert_eq!(
            refused(&authorize, jane(), place(Some(IMENSE), &tool, Some(task), None)),
            Kind::Suspended
        );
    }
    let mut world = story();
    world.rows.vos[1].state = VoState::Suspended;
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    let authorize = world.authorize();
    for (tool, task) in [
        (jobs(), "submit job"),
        (own(), "session.list"),
        (own(), "role.create"),
    ] {
        assert_eq!(
            refused(&authorize, jane(), place(Some(IMENSE), &tool, Some(task), None)),
            Kind::Suspended
        );
    }
}

#[test]
fn b9_each_state_of_an_account_has_a_refusal_of_its_own_and_its_second_is_its_end() {
    let asks = |state: PersonState, until: Option<Timestamp>| {
        let mut world = story();
        world.rows.people[0].state = state;
        world.rows.people[0].until = until;
        let place = place(Some(IMENSE), &jobs(), Some("submit job"), None);
        decide(&world.authorize(), jane(), place)
    };
    let states = [
        PersonState::Suspended,
        PersonState::Pending,
        PersonState::Rejected,
        PersonState::Expired,
        PersonState::Ended,
    ];
    let mut next = std::collections::HashSet::new();
    for state in states {
        let problem = asks(state, None).unwrap_err().problem;
        assert_eq!(Some(problem.kind), state.refusal());
        assert!(next.insert(problem.kind.next()), "{problem}");
    }
    let at = |until| asks(PersonState::Active, Some(until));
    assert_eq!(at(START).unwrap_err().problem.kind, Kind::AccountExpired);
    assert!(at(START.plus(Duration::from_micros(1))).is_ok());
}

#[test]
fn the_core_rules_forbid_by_themselves() {
    // The same slice, with the checks before Cedar left aside: the policies alone must refuse.
    for (person_state, vo_active) in [(PersonState::Suspended, true), (PersonState::Active, false)] {
        let mut world = story();
        world.rows.people[0].state = person_state;
        let directory = Directory::build(world.rows.clone());
        let place = place(Some(IMENSE), &jobs(), Some("submit job"), None);
        let standing = super::Standing {
            level: directory.vo(id(IMENSE)).unwrap().clone(),
            tool: place.tool.as_ref().unwrap(),
            found: place.found.as_ref().unwrap(),
        };
        let subject = jane();
        let authorize = world.authorize();
        let mut judge = authorize.judge(&directory, &standing, &subject, START).unwrap();
        judge.vo_active = vo_active;
        let ruling = judge.rule(&place, &std::sync::Arc::default());
        assert_eq!(ruling.refused, Some((Kind::Suspended, "suspended")));
        assert!(ruling.entry.policies[0].starts_with("core/suspended-"));
    }
}

#[test]
fn a_one_time_password_opens_nothing_but_its_own_change() {
    let authorize = story().authorize();
    let subject = || signed_in(JANE, true, &["pwd"]);
    let at = |task| place(None, &own(), Some(task), None);
    assert!(decide(&authorize, subject(), at("user.change_own_password")).is_ok());
    assert!(decide(&authorize, subject(), at("session.create")).is_ok());
    for place in [
        at("session.list"),
        place(Some(IMENSE), &jobs(), Some("submit job"), None),
        place(Some(IMENSE), &jobs(), None, None),
        place(Some(NOWHERE), &jobs(), None, None),
    ] {
        assert_eq!(
            refused(&authorize, subject(), place),
            Kind::PasswordChangeRequired
        );
    }
}

#[test]
fn audiences_are_policies_too() {
    let authorize = story().authorize();
    for (task, policy) in [
        ("session.create", "session.create/everyone"),
        ("user.change_own_password", "user.change_own_password/any-session"),
        ("session.list", "session.list/any-person"),
    ] {
        let permit = decide(&authorize, jane(), place(None, &own(), Some(task), None)).expect(task);
        assert_eq!(permit.decision().policies, [policy]);
    }
    assert!(
        decide(
            &authorize,
            stranger(),
            place(None, &own(), Some("session.create"), None)
        )
        .is_ok()
    );
}

#[test]
fn a_wrapped_tool_cannot_make_a_task_public() {
    let authorize = story().authorize();
    let forged = place(Some(IMENSE), &jobs(), Some("forged"), None);
    assert_eq!(refused(&authorize, jane(), forged), Kind::NoGrant);
}

#[test]
fn administrative_tasks_are_for_administrators() {
    let create = || place(Some(IMENSE), &own(), Some("role.create"), None);
    let authorize = story().authorize();
    let denial = decide(&authorize, jane(), create()).expect_err("a scientist");
    assert_eq!(denial.problem.kind, Kind::NoGrant);
    assert_eq!(denial.decision.would_allow, [VO_ADMINISTRATOR]);
    let mut world = story();
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    let permit = decide(&world.authorize(), jane(), create()).expect("an administrator");
    assert_eq!(permit.decision().policies, ["role.create/shipped"]);
    let mut world = story();
    world.grant(IMENSE, "scientist", crate::vo::OWN_TOOL, "role.create", "always");
    assert!(decide(&world.authorize(), jane(), create()).is_ok(), "by a grant");
}

#[test]
fn a_system_administrator_has_no_right_on_a_vos_tools() {
    let mut world = story();
    world.rows.assignments.clear();
    world.rows.memberships.clear();
    world.hold(0, JANE, SYSTEM_ADMINISTRATOR, None);
    world.grant(0, SYSTEM_ADMINISTRATOR, "jobs", "submit job", "always");
    let authorize = world.authorize();
    let submit = || place(Some(IMENSE), &jobs(), Some("submit job"), None);
    assert_eq!(refused(&authorize, jane(), submit()), Kind::NotAMember);
    let upstream = place(Some(IMENSE), &own(), Some("upstream.allow"), None);
    assert!(decide(&authorize, jane(), upstream).is_ok());
}

#[test]
fn no_grant_inside_a_vo_gives_a_task_of_the_gateway() {
    let mut world = story();
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    world.grant(
        IMENSE,
        VO_ADMINISTRATOR,
        crate::vo::OWN_TOOL,
        "upstream.allow",
        "always",
    );
    // Nor does a role of that name inside the VO.
    world.hold(IMENSE, JANE, SYSTEM_ADMINISTRATOR, None);
    let authorize = world.authorize();
    for vo in [Some(IMENSE), None] {
        let denial = decide(
            &authorize,
            jane(),
            place(vo, &own(), Some("upstream.allow"), None),
        )
        .expect_err("{vo:?}");
        assert_eq!(denial.problem.kind, Kind::NoGrant);
    }
    let list = place(None, &own(), Some("user.list"), None);
    assert_eq!(refused(&authorize, jane(), list), Kind::NoGrant);
}

#[test]
fn a_grant_row_that_names_another_vos_role_is_void() {
    let mut world = story();
    world.grant(AHE, "scientist", "jobs", "submit job", "always");
    let last = world.rows.grants.len() - 1;
    world.rows.grants[last].vo = id(IMENSE);
    world
        .rows
        .grants
        .retain(|grant| grant.role == world.rows.roles[4].id);
    world.hold(AHE, JANE, "scientist", None);
    assert_eq!(world.rows.grants.len(), 1, "only the crossed grant is left");
    let submit = place(Some(IMENSE), &jobs(), Some("submit job"), None);
    assert_eq!(refused(&world.authorize(), jane(), submit), Kind::NoGrant);
}

#[test]
fn only_the_home_of_an_account_resets_it() {
    let john = id::<crate::id::PersonId>(JOHN).to_string();
    let reset = |vo, who: &str| place(vo, &own(), Some("user.reset_password"), Some(who));
    let mut world = story();
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    world.hold(AHE, JANE, VO_ADMINISTRATOR, None);
    world.join(AHE, JOHN);
    let authorize = world.authorize();
    assert!(decide(&authorize, jane(), reset(Some(IMENSE), "john")).is_ok());
    assert!(decide(&authorize, jane(), reset(Some(IMENSE), &john)).is_ok());
    for (vo, who) in [(AHE, "john"), (IMENSE, "nobody"), (IMENSE, "jane")] {
        // Jane herself administers `ahe` too, so even her home cannot reset her.
        let denial = decide(&authorize, jane(), reset(Some(vo), who)).expect_err(who);
        assert_eq!(denial.problem.kind, Kind::ConditionNotMet, "{who}");
        assert_eq!(denial.decision.reason, "not_home");
    }
}

#[test]
fn a_system_administrator_resets_accounts_of_the_gateway_only() {
    let reset = |vo, who: &str| place(vo, &own(), Some("user.reset_password"), Some(who));
    let mut world = story();
    world.hold(0, JANE, SYSTEM_ADMINISTRATOR, None);
    world.person(102, "ada", 0);
    let authorize = world.authorize();
    assert!(decide(&authorize, jane(), reset(None, "ada")).is_ok());
    assert_eq!(
        refused(&authorize, jane(), reset(Some(IMENSE), "john")),
        Kind::NoGrant
    );
    assert_eq!(
        refused(&authorize, jane(), reset(None, "john")),
        Kind::ConditionNotMet
    );
}

#[test]
fn an_account_with_an_administrative_role_elsewhere_is_never_reset_at_home() {
    let reset = || place(Some(IMENSE), &own(), Some("user.reset_password"), Some("john"));
    for elsewhere in ["shipped", "granted"] {
        let mut world = story();
        world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
        if elsewhere == "shipped" {
            world.hold(0, JOHN, SYSTEM_ADMINISTRATOR, None);
        } else {
            world.grant(AHE, "secretary", crate::vo::OWN_TOOL, "user.list", "always");
            world.hold(AHE, JOHN, "secretary", None);
        }
        assert_eq!(
            refused(&world.authorize(), jane(), reset()),
            Kind::ConditionNotMet,
            "{elsewhere}"
        );
    }
}

#[test]
fn a_list_is_open_to_whoever_may_see_some_item_and_shows_no_other() {
    let authorize = story().authorize();
    let list = || place(Some(IMENSE), &jobs(), Some("list jobs"), None);
    let permit = decide(&authorize, jane(), list()).expect("a scientist lists her own");
    assert_eq!(permit.decision().policies, ["list jobs/list"]);
    assert!(
        permit
            .decision()
            .path
            .iter()
            .any(|hop| hop.starts_with("role/scientist"))
    );
    let ids = ["7", "8", "9", "new"].map(String::from);
    assert_eq!(
        now(authorize.visible(&permit, "job", &ids)).unwrap(),
        [true, false, false, false]
    );
    let mut world = story();
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    let authorize = world.authorize();
    let permit = decide(&authorize, jane(), list()).unwrap();
    assert_eq!(now(authorize.visible(&permit, "job", &ids)).unwrap(), [true; 4]);
    assert!(now(authorize.visible(&permit, "patient", &ids)).is_err());
}

#[test]
fn who_was_suspended_since_the_permit_sees_no_item() {
    let mut world = story();
    let list = place(Some(IMENSE), &jobs(), Some("list jobs"), None);
    let rows = world.rows.clone();
    world.rows.people[0].state = PersonState::Suspended;
    let suspended = Directory::build(world.rows);
    world.rows = rows;
    let handle = DirectoryHandle::new(Directory::build(world.rows.clone()));
    let authorize = Authorize::new(
        handle.clone(),
        std::sync::Arc::new(world.known),
        world.clock,
        crate::telemetry::Metrics::new(),
    );
    let permit = decide(&authorize, jane(), list).unwrap();
    handle.swap(suspended);
    assert_eq!(
        now(authorize.visible(&permit, "job", &["7".into()])).unwrap(),
        [false]
    );
}

#[test]
fn a_role_ends_at_its_second() {
    let mut world = World::new();
    world.hold(
        IMENSE,
        JANE,
        "scientist",
        Some(START.plus(Duration::from_secs(10))),
    );
    world.grant(IMENSE, "scientist", "jobs", "submit job", "always");
    let clock = world.clock.clone();
    let authorize = world.authorize();
    let submit = || place(Some(IMENSE), &jobs(), Some("submit job"), None);
    assert!(decide(&authorize, jane(), submit()).is_ok());
    clock.advance(Duration::from_micros(9_999_999));
    assert!(decide(&authorize, jane(), submit()).is_ok());
    clock.advance(Duration::from_micros(1));
    assert_eq!(refused(&authorize, jane(), submit()), Kind::NoGrant);
}

#[test]
fn a_new_grant_and_a_lost_one_count_from_the_next_request() {
    let mut world = World::new();
    world.hold(IMENSE, JANE, "scientist", None);
    let before = world.rows.clone();
    let handle = DirectoryHandle::new(Directory::build(before.clone()));
    let authorize = Authorize::new(
        handle.clone(),
        std::sync::Arc::new(world::Known::default()),
        world.clock.clone(),
        crate::telemetry::Metrics::new(),
    );
    let submit = || place(Some(IMENSE), &jobs(), Some("submit job"), None);
    assert_eq!(refused(&authorize, jane(), submit()), Kind::NoGrant);
    world.grant(IMENSE, "scientist", "jobs", "submit job", "always");
    world.rows.vos[1].version = 2;
    handle.swap(Directory::build(world.rows.clone()));
    assert!(decide(&authorize, jane(), submit()).is_ok());
    world.rows.grants.clear();
    world.rows.vos[1].version = 3;
    handle.swap(Directory::build(world.rows));
    assert_eq!(refused(&authorize, jane(), submit()), Kind::NoGrant);
}

#[test]
fn a_store_that_does_not_answer_denies_with_503() {
    let authorize = story().authorize();
    let denial = decide(
        &authorize,
        jane(),
        place(Some(IMENSE), &jobs(), Some("monitor job"), Some("broken")),
    );
    let denial = denial.expect_err("no owners");
    assert_eq!(denial.problem.kind, Kind::StoreUnavailable);
    assert_eq!(denial.decision.reason, "store_unavailable");
}

#[test]
fn an_error_of_evaluation_denies_and_is_an_alarm() {
    // An overflow is the one error that the validator cannot exclude.
    let overflow = "9223372036854775807 + 1 > 0";
    let mut world = story();
    world.grant(IMENSE, "scientist", "jobs", "submit job", overflow);
    let authorize = world.authorize();
    let denial = decide(
        &authorize,
        jane(),
        place(Some(IMENSE), &jobs(), Some("submit job"), None),
    );
    let denial = denial.expect_err("although another grant would allow it");
    assert_eq!(denial.problem.kind, Kind::ConditionNotMet);
    assert_eq!(denial.decision.reason, "policy_error");
    assert_eq!(denial.decision.errors.len(), 1);
    assert!(
        authorize
            .0
            .metrics
            .render()
            .unwrap()
            .contains("countersign_policy_errors_total{tool=\"jobs\"} 1")
    );
}

#[test]
fn a_condition_that_does_not_hold_denies() {
    let mut world = World::new();
    world.hold(IMENSE, JANE, "scientist", None);
    let when = "resource has hospital && resource.hospital == \"st-marys\" && context.mfa";
    world.grant(IMENSE, "scientist", "jobs", "monitor job", when);
    world.job("7", Some(JOHN), Some("st-marys"));
    world.job("8", Some(JOHN), Some("guys"));
    let authorize = world.authorize();
    let on = |job| place(Some(IMENSE), &jobs(), Some("monitor job"), Some(job));
    let strong = || signed_in(JANE, false, &["pwd", "otp"]);
    let permit = decide(&authorize, strong(), on("7")).expect("both hold");
    assert!(
        permit.decision().policies[0].starts_with("monitor job/when "),
        "{:?}",
        permit.decision()
    );
    assert_eq!(refused(&authorize, strong(), on("8")), Kind::ConditionNotMet);
    // Only the session stands in the way: that is what she is told.
    assert_eq!(refused(&authorize, jane(), on("7")), Kind::StepUpRequired);
    assert_eq!(refused(&authorize, jane(), on("8")), Kind::ConditionNotMet);
}

#[test]
fn a_session_with_too_little_assurance_is_told_what_is_asked_for_and_a_role_still_counts() {
    let mut world = World::new();
    world.hold(IMENSE, JANE, "scientist", None);
    let when = "context.session.acr == \"aal2\" && context.session.amr.contains(\"otp\")";
    world.grant(IMENSE, "scientist", "jobs", "monitor job", when);
    world.grant(IMENSE, "scientist", "jobs", "submit job", "always");
    world.job("7", Some(JOHN), None);
    let authorize = world.authorize();
    let strong = || signed_in(JANE, false, &["pwd", "otp"]);
    let on_job = || place(Some(IMENSE), &jobs(), Some("monitor job"), Some("7"));
    assert!(decide(&authorize, strong(), on_job()).is_ok());
    let denial = decide(&authorize, jane(), on_job()).expect_err("one factor");
    assert_eq!(denial.problem.kind, Kind::StepUpRequired);
    assert_eq!(denial.problem.members["acr_values"], "aal2");
    assert_eq!(
        (denial.decision.permit, denial.decision.reason.as_str()),
        (false, "step_up_required")
    );

    let mut tool = crate::tool::Tool::clone(&jobs());
    tool.min_assurance = crate::tool::Assurance::Aal2;
    let tool = std::sync::Arc::new(tool);
    let on = |task| place(Some(IMENSE), &tool, Some(task), None);
    // Twice: a permit that is given again is judged for its session again.
    for _ in 0..2 {
        assert!(decide(&authorize, strong(), on("submit job")).is_ok());
        assert_eq!(
            refused(&authorize, jane(), on("submit job")),
            Kind::StepUpRequired
        );
    }
    // Without a grant no factor helps.
    assert_eq!(refused(&authorize, jane(), on("terminate job")), Kind::NoGrant);
    assert_eq!(refused(&authorize, strong(), on("terminate job")), Kind::NoGrant);
}

#[test]
fn who_shows_nothing_is_below_every_assurance_that_is_asked_for() {
    let authorize = World::new().authorize();
    let on = |tool: &std::sync::Arc<crate::tool::Tool>| place(None, tool, Some("session.create"), None);
    assert!(decide(&authorize, stranger(), on(&own())).is_ok());
    let mut tool = crate::tool::Tool::clone(&own());
    tool.min_assurance = crate::tool::Assurance::Aal2;
    let careful = std::sync::Arc::new(tool);
    let denial = decide(&authorize, stranger(), on(&careful)).expect_err("nobody");
    assert_eq!(denial.problem.kind, Kind::NoCredential);
    assert_eq!(
        (denial.decision.permit, denial.decision.reason.as_str()),
        (false, "no_credential")
    );
}

#[test]
fn administrators_can_be_asked_for_a_second_factor_and_what_is_everybodys_stays_open() {
    let authorize = || {
        let mut world = World::new();
        world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
        world.authorize()
    };
    let strict = authorize().requiring_mfa_for_admin(true);
    let on = |task| place(Some(IMENSE), &own(), Some(task), None);
    assert_eq!(refused(&strict, jane(), on("role.create")), Kind::StepUpRequired);
    assert!(
        decide(
            &strict,
            signed_in(JANE, false, &["pwd", "otp"]),
            on("role.create")
        )
        .is_ok()
    );
    assert!(decide(&strict, jane(), on("session.list")).is_ok());
    assert!(decide(&authorize(), jane(), on("role.create")).is_ok());
}

#[test]
fn an_owners_roles_are_whole_in_the_slice() {
    let mut world = World::new();
    world.hold(IMENSE, JANE, "scientist", None);
    world.hold(IMENSE, JOHN, "excepted", None);
    let when = "resource has owner && resource.owner.active && !(resource.owner in Countersign::Role::\"imense/excepted\")";
    world.grant(IMENSE, "scientist", "jobs", "monitor job", when);
    world.job("7", Some(JANE), None);
    world.job("8", Some(JOHN), None);
    let authorize = world.authorize();
    let on = |job| place(Some(IMENSE), &jobs(), Some("monitor job"), Some(job));
    assert!(decide(&authorize, jane(), on("7")).is_ok());
    let denial = decide(&authorize, jane(), on("8")).expect_err("excepted");
    assert_eq!(denial.decision.reason, "condition_not_met");
}

#[test]
fn parents_count_in_conditions() {
    let mut world = World::new();
    world.hold(IMENSE, JANE, "scientist", None);
    world.grant(
        IMENSE,
        "scientist",
        "jobs",
        "monitor job",
        "resource in Resource::\"study/S7\"",
    );
    let chain = |job: &str, study: &str| {
        vec![
            resource(id(IMENSE), "jobs", "job", job, Some(JOHN)),
            resource(id(IMENSE), "jobs", "series", "1", None),
            resource(id(IMENSE), "jobs", "study", study, None),
            resource(id(IMENSE), "jobs", "series", "1", None),
        ]
    };
    for (job, study) in [("7", "S7"), ("8", "S8")] {
        world
            .known
            .0
            .insert(("job".into(), job.into()), chain(job, study));
    }
    let authorize = world.authorize();
    let on = |job| place(Some(IMENSE), &jobs(), Some("monitor job"), Some(job));
    let permit = decide(&authorize, jane(), on("7")).expect("its study's");
    assert_eq!(permit.chain().len(), 4);
    assert_eq!(refused(&authorize, jane(), on("8")), Kind::ConditionNotMet);
}

#[test]
fn an_attribute_from_a_tool_never_stands_for_the_owner() {
    let mut world = story();
    let job = world
        .known
        .0
        .get_mut(&("job".to_owned(), "8".to_owned()))
        .unwrap();
    let jane_id = id::<crate::id::PersonId>(JANE).to_string();
    job[0].attributes.insert("owner".into(), jane_id);
    let authorize = world.authorize();
    let monitor = place(Some(IMENSE), &jobs(), Some("monitor job"), Some("8"));
    assert_eq!(refused(&authorize, jane(), monitor), Kind::NotOwner);
}

#[test]
fn what_may_i_do_lists_tasks_with_conditions_and_roles() {
    let authorize = story().authorize();
    let shown: Vec<_> = authorize
        .may(&jane(), Some(id(IMENSE)), &[jobs(), own()])
        .into_iter()
        .map(|allowed| (allowed.task, allowed.conditions, allowed.roles.join("+")))
        .collect();
    let own_jobs = |task: &str| (task.to_owned(), vec![Condition::Own], "scientist".to_owned());
    let open = |task: &str| (task.to_owned(), vec![Condition::Always], String::new());
    assert_eq!(
        shown,
        [
            (
                "submit job".to_owned(),
                vec![Condition::Always],
                "scientist".to_owned()
            ),
            own_jobs("list jobs"),
            own_jobs("monitor job"),
            own_jobs("terminate job"),
            open("session.create"),
            open("user.change_own_password"),
            open("session.list"),
        ]
    );
    assert!(authorize.may(&jane(), Some(id(AHE)), &[jobs()]).is_empty());
    assert!(authorize.may(&stranger(), Some(id(IMENSE)), &[jobs()]).is_empty());
}

#[test]
fn a_condition_is_checked_before_it_is_stored() {
    let authorize = story().authorize();
    let tool = jobs();
    let check = |task: &str, text: &str| authorize.check_condition(id(IMENSE), &tool, task, text);
    assert_eq!(check("monitor job", "own"), Ok(()));
    assert_eq!(check("list jobs", "own"), Ok(()));
    assert_eq!(check("submit job", "context.mfa"), Ok(()));
    assert_eq!(
        check(
            "monitor job",
            "resource has hospital && resource.hospital == \"x\""
        ),
        Ok(())
    );
    assert_eq!(
        check("submit job", "own"),
        Err(ConditionError::NothingToOwn("submit job".into()))
    );
    let Err(ConditionError::NoTask { .. }) = check("fly", "own") else {
        panic!("no such task")
    };
    let Err(ConditionError::Syntax { at, .. }) = check("monitor job", "context.mfa &&\n  && true") else {
        panic!("not an expression")
    };
    assert_eq!(at.to_string(), "line 2, column 3");
    for wrong in [
        "resource.hospital == \"x\"",
        "principal.hospital == \"x\"",
        "context.mfa + 1 == 2",
        "resource",
        "?principal == principal",
    ] {
        assert!(check("monitor job", wrong).is_err(), "{wrong}");
    }
    assert_eq!(
        check("monitor job", &"(".repeat(1_001)),
        Err(ConditionError::TooLong)
    );
}

#[test]
fn no_condition_overflows_the_stack() {
    let tool = jobs();
    let authorize = story().authorize();
    let check = |text: &str| authorize.check_condition(id(IMENSE), &tool, "monitor job", text);
    for (count, too_complex) in [(400, true), (150, true), (90, false)] {
        for (part, end) in [
            ("true && ", "true"),
            ("true||", "true"),
            ("1+", "1 == 1"),
            ("1*", "1 == 1"),
            ("context.", "a"),
            ("if true then true else ", "true"),
            ("!", "true"),
            ("-", "1 == 1"),
            ("A::", "B::\"x\" == principal"),
        ] {
            let text = format!("{}{end}", part.repeat(count.min(960 / part.len())));
            if count.min(960 / part.len()) > 110 || !too_complex {
                let checked = check(&text);
                assert_eq!(
                    checked == Err(ConditionError::TooComplex),
                    too_complex,
                    "{text}: {checked:?}"
                );
            }
        }
        let chain = format!("context{}", ".a".repeat(count));
        assert_eq!(check(&chain) == Err(ConditionError::TooComplex), too_complex);
    }
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{a: ", "}"),
        ("ip(", ")"),
        ("[\"\\\"\", ", "]"),
    ] {
        let nested = |count: usize| check(&format!("{}1{}", open.repeat(count), close.repeat(count)));
        assert_eq!(nested(100), Err(ConditionError::TooComplex), "{open}");
        let hidden = format!("// \"\n{}1{}", open.repeat(100), close.repeat(100));
        assert_eq!(check(&hidden), Err(ConditionError::TooComplex), "{open}");
        assert_ne!(nested(20), Err(ConditionError::TooComplex), "{open}");
    }
    let list = (0..60)
        .map(|n| format!("\"(((...{n}\""))
        .collect::<Vec<_>>()
        .join(", ");
    assert_eq!(check(&format!("[{list}].contains(resource.id)")), Ok(()));
}

#[test]
fn a_condition_cannot_close_its_clause() {
    let authorize = story().authorize();
    for text in [
        "true }; permit(principal, action, resource) when { true",
        "true } unless { false",
        "true // }",
        "",
        "true; true",
    ] {
        let checked = authorize.check_condition(id(IMENSE), &jobs(), "monitor job", text);
        let harmless = text.is_empty() || text.starts_with("true //");
        assert_eq!(checked.is_ok(), harmless, "{text}");
    }
}

#[test]
fn a_policy_that_does_not_fit_never_replaces_a_good_set() {
    let mut world = story();
    let handle = DirectoryHandle::new(Directory::build(world.rows.clone()));
    let authorize = Authorize::new(
        handle.clone(),
        std::sync::Arc::new(world::Known::default()),
        world.clock.clone(),
        crate::telemetry::Metrics::new(),
    );
    let submit = || place(Some(IMENSE), &jobs(), Some("submit job"), None);
    assert!(decide(&authorize, jane(), submit()).is_ok());
    world.grant(
        IMENSE,
        "scientist",
        "jobs",
        "submit job",
        "resource.shoe_size == 42",
    );
    world.rows.vos[1].version = 2;
    handle.swap(Directory::build(world.rows.clone()));
    let permit = decide(&authorize, jane(), submit()).expect("the good set goes on");
    assert!(
        !permit
            .decision()
            .considered
            .iter()
            .any(|policy| policy.contains("when"))
    );
    assert_eq!(authorize.flaws(id(IMENSE), &jobs()).len(), 1);
    assert!(
        authorize
            .0
            .metrics
            .render()
            .unwrap()
            .contains("countersign_policy_errors_total{tool=\"jobs\"} 1")
    );
    // Who holds what is today's, whichever policies are in force.
    world.rows.assignments.clear();
    world.rows.vos[1].version = 3;
    handle.swap(Directory::build(world.rows));
    assert_eq!(refused(&authorize, jane(), submit()), Kind::NoGrant);
}

#[test]
fn every_shipped_bucket_fits_its_schema_and_so_does_every_slice() {
    let mut world = story();
    world.hold(IMENSE, JANE, VO_ADMINISTRATOR, None);
    world.hold(0, JANE, SYSTEM_ADMINISTRATOR, None);
    let directory = Directory::build(world.rows.clone());
    let authorize = world.authorize();
    for tool in [jobs(), own()] {
        for task in &tool.tasks {
            let place = place(Some(IMENSE), &tool, Some(&task.name), Some("john"));
            let level = super::level(&directory, &place).unwrap();
            let spot = Spot {
                directory: &directory,
                level: &level,
                tool: &tool,
                task,
            };
            let bucket = Bucket::build(spot).unwrap();
            assert_eq!(bucket.flaws, []);
            let schema = super::schema::schema(&tool, task).unwrap();
            for subject in [jane(), stranger()] {
                let standing = super::Standing {
                    level: level.clone(),
                    tool: &tool,
                    found: place.found.as_ref().unwrap(),
                };
                let chain = now(authorize.chain(&directory, &standing, START)).unwrap();
                let judge = authorize.judge(&directory, &standing, &subject, START).unwrap();
                let (_, entities) = judge.slice(&chain).unwrap();
                let checked = cedar_policy::Entities::from_entities(entities, Some(&schema));
                checked.unwrap_or_else(|error| panic!("{}: {error:?}", task.name));
                let action = bucket.action.clone();
                let context = super::slice::context(
                    &subject,
                    super::slice::Stands {
                        vo_active: judge.vo_active,
                        within_ceiling: true,
                    },
                    START,
                    false,
                )
                .unwrap();
                context.validate(&schema, &action).unwrap();
            }
        }
    }
}
