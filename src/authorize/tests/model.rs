//! The reference model: what `decide` must say, written down once more in the plainest words, and compared on
//! generated cases (2,000 decisions; 100,000 with `COUNTERSIGN_LONG=1`).
//!
//! The rules, in their order:
//! 1. A stranger may do what is for everyone; anything else is `no_credential`.
//! 2. A suspended person may do nothing (`suspended`).
//! 3. With a one-time password only what is for everyone or for any session (`password_change_required`).
//! 4. A VO that is not there, and a wrapped tool of a VO she is not a member of: `not_a_member`.
//! 5. In a suspended VO nothing is allowed (`suspended`), except tasks that are the gateway's alone.
//! 6. What no task names is `no_task`.
//! 7. A role is held by assignment while it lasts, a VO's roles by members only. A task is allowed by a role that it is
//!    shipped to, or that has a grant for it: always, on her own resource, or under the condition.
//! 8. A list is allowed to whoever holds it under any condition; an item under the condition itself.
//!    Where a second factor, shown in the session, would make the condition hold: `step_up_required`.
//! 9. An account is reset only at its home, by its home's administrators.
//! 10. A ceiling closes what is granted of a wrapped tool beyond it (`outside_ceiling`).

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::world::{
    AHE, IMENSE, JANE, JOHN, NOWHERE, START, World, jobs, now, own, place, signed_in, stranger,
};
use crate::problem::Kind;
use crate::vo::{
    CeilingScope, CeilingTask, OWN_TOOL, PersonState, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR, VoState,
};

const ROLES: [&str; 3] = ["scientist", "curator", VO_ADMINISTRATOR];
/// `always`, `own`, and two expressions.
const WHEN: [&str; 4] = [
    "always",
    "own",
    "context.mfa",
    "resource has hospital && resource.hospital == \"st-marys\"",
];
const WRAPPED: [&str; 5] = [
    "submit job",
    "list jobs",
    "monitor job",
    "terminate job",
    "forged",
];
const OWN: [&str; 7] = [
    "session.create",
    "user.change_own_password",
    "session.list",
    "role.create",
    "user.list",
    "upstream.allow",
    "user.reset_password",
];

/// One generated world: what Jane is and holds, and what is granted.
#[derive(Clone, Debug)]
struct Setting {
    suspended: bool,
    vo_suspended: bool,
    member: bool,
    /// For each of [`ROLES`]: not held, ended, held.
    held: [u8; 3],
    system_administrator: bool,
    /// (role, wrapped or own, task, condition).
    grants: Vec<(usize, bool, usize, usize)>,
    /// John's home is the VO, and he administers something elsewhere.
    john_at_home: bool,
    john_elsewhere: bool,
    /// None, only what reads, only `submit job` by name, nothing.
    ceiling: u8,
}

/// One generated request.
#[derive(Clone, Debug)]
struct Ask {
    signed_in: bool,
    must_change: bool,
    mfa: bool,
    wrapped: bool,
    task: Option<usize>,
    /// The VO, another one, one that is not there, the gateway's level.
    vo: u8,
    /// Owner of the job: Jane, John, unknown.
    owner: u8,
    st_marys: bool,
}

impl Ask {
    fn task(&self) -> Option<&'static str> {
        let names: &[&str] = if self.wrapped { &WRAPPED } else { &OWN };
        self.task.map(|index| names[index % names.len()])
    }

    fn vo(&self) -> Option<u128> {
        // A wrapped tool is always asked for in some VO.
        match self.vo {
            0 => Some(IMENSE),
            1 => Some(AHE),
            2 => Some(NOWHERE),
            _ if self.wrapped => Some(IMENSE),
            _ => None,
        }
    }

    fn job(&self) -> String {
        format!("{}{}", self.owner, u8::from(self.st_marys))
    }
}

/// What is expected: allowed, or the problem.
fn expected(setting: &Setting, ask: &Ask) -> Result<(), Kind> {
    let task = ask.task();
    let is = |names: &[&str]| !ask.wrapped && task.is_some_and(|task| names.contains(&task));
    if !ask.signed_in {
        if !is(&["session.create"]) {
            return Err(Kind::NoCredential);
        }
    } else {
        if setting.suspended {
            return Err(Kind::Suspended);
        }
        if ask.must_change && !is(&["session.create", "user.change_own_password"]) {
            return Err(Kind::PasswordChangeRequired);
        }
    }
    if ask.vo() == Some(NOWHERE) || (ask.wrapped && ask.signed_in && !is_member(setting, ask)) {
        return Err(Kind::NotAMember);
    }
    if setting.vo_suspended && ask.vo() == Some(IMENSE) && !is(&["upstream.allow"]) {
        let stranger_here = ask.signed_in && !is_member(setting, ask) && !setting.system_administrator;
        return Err(if stranger_here {
            Kind::NotAMember
        } else {
            Kind::Suspended
        });
    }
    let Some(task) = task else {
        return Err(Kind::NoTask);
    };
    if is(&["session.create", "user.change_own_password", "session.list"]) {
        return Ok(());
    }
    let conditions = held_conditions(setting, ask, task);
    if conditions.is_empty() {
        let stranger_here = !ask.wrapped && ask.vo().is_some() && !is_member(setting, ask);
        return Err(if stranger_here {
            Kind::NotAMember
        } else {
            Kind::NoGrant
        });
    }
    let within = match setting.ceiling {
        0 => true,
        1 => !["submit job", "terminate job"].contains(&task),
        2 => task == "submit job",
        _ => false,
    };
    if ask.wrapped && !within {
        return Err(Kind::OutsideCeiling);
    }
    if is(&["user.reset_password"]) {
        let at_home = ask.vo() == Some(IMENSE) && setting.john_at_home && !setting.john_elsewhere;
        if !at_home {
            return Err(Kind::ConditionNotMet);
        }
    }
    if task == "list jobs" || conditions.iter().any(|when| holds(ask, task, when)) {
        return Ok(());
    }
    Err(
        if ask.signed_in && !ask.mfa && conditions.contains(&"context.mfa") {
            Kind::StepUpRequired
        } else if conditions.contains(&"own") {
            Kind::NotOwner
        } else {
            Kind::ConditionNotMet
        },
    )
}

fn is_member(setting: &Setting, ask: &Ask) -> bool {
    ask.vo() == Some(IMENSE) && setting.member
}

/// Under which conditions Jane holds the task.
fn held_conditions(setting: &Setting, ask: &Ask, task: &str) -> Vec<&'static str> {
    let mut conditions = Vec::new();
    if !ask.wrapped && setting.system_administrator {
        let at_gateway = ask.vo().is_none();
        if task == "user.list" || task == "upstream.allow" || (task == "user.reset_password" && at_gateway) {
            conditions.push("always");
        }
    }
    if !is_member(setting, ask) || task == "upstream.allow" {
        return conditions;
    }
    let shipped = ["role.create", "user.list", "user.reset_password"];
    if !ask.wrapped && setting.held[2] == 2 && shipped.contains(&task) {
        conditions.push("always");
    }
    for (role, wrapped, granted, when) in &setting.grants {
        let names: &[&str] = if *wrapped { &WRAPPED } else { &OWN };
        if *wrapped == ask.wrapped && names[granted % names.len()] == task && setting.held[*role] == 2 {
            conditions.push(WHEN[*when]);
        }
    }
    conditions
}

fn holds(ask: &Ask, task: &str, when: &str) -> bool {
    let on_a_job = task == "monitor job" || task == "terminate job";
    match when {
        "always" => true,
        // John's account is John's.
        "own" => on_a_job && ask.owner == 0,
        "context.mfa" => ask.mfa,
        _ => on_a_job && ask.st_marys,
    }
}

fn build(setting: &Setting) -> World {
    let mut world = World::new();
    if setting.member {
        world.join(IMENSE, JANE);
    }
    for (role, state) in ROLES.iter().zip(setting.held) {
        world.role(IMENSE, role);
        if state > 0 {
            let before = world.rows.memberships.clone();
            world.hold(IMENSE, JANE, role, (state == 1).then_some(START));
            world.rows.memberships = before;
        }
    }
    if setting.system_administrator {
        world.hold(0, JANE, SYSTEM_ADMINISTRATOR, None);
    }
    for (role, wrapped, task, when) in &setting.grants {
        let (tool, names): (_, &[&str]) = if *wrapped {
            ("jobs", &WRAPPED)
        } else {
            (OWN_TOOL, &OWN)
        };
        world.grant(IMENSE, ROLES[*role], tool, names[task % names.len()], WHEN[*when]);
    }
    if setting.suspended {
        world.rows.people[0].state = PersonState::Suspended;
    }
    if setting.vo_suspended {
        world.rows.vos[1].state = VoState::Suspended;
    }
    if !setting.john_at_home {
        world.rows.people[1].home = super::id(AHE);
    }
    if setting.john_elsewhere {
        world.hold(0, JOHN, SYSTEM_ADMINISTRATOR, None);
    }
    let scope = || CeilingScope::Upstream("ce".into());
    let jobs = jobs();
    match setting.ceiling {
        0 => {}
        1 => world.ceiling(scope(), vec!["read".into()], Vec::new()),
        2 => {
            let task = jobs.task("submit job").expect("a task");
            let named = CeilingTask {
                tool: "jobs".into(),
                task: task.name.clone(),
                pin: crate::authorize::pin(&jobs, task),
            };
            world.ceiling(scope(), Vec::new(), vec![named]);
        }
        _ => world.ceiling(CeilingScope::Tool("jobs".into()), Vec::new(), Vec::new()),
    }
    for owner in 0..3_u8 {
        for st_marys in [false, true] {
            let number = format!("{owner}{}", u8::from(st_marys));
            let person = [Some(JANE), Some(JOHN), None][usize::from(owner)];
            world.job(&number, person, Some(if st_marys { "st-marys" } else { "guys" }));
        }
    }
    world
}

fn settings() -> impl Strategy<Value = Setting> {
    let grants = prop::collection::vec((0..3_usize, any::<bool>(), 0..7_usize, 0..4_usize), 0..12);
    (
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.9),
        [0..3_u8, 0..3_u8, 0..3_u8],
        prop::bool::weighted(0.2),
        grants,
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.2),
        prop_oneof![12 => Just(0_u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)],
    )
        .prop_map(
            |(
                suspended,
                vo_suspended,
                member,
                held,
                system_administrator,
                grants,
                at_home,
                elsewhere,
                ceiling,
            )| {
                Setting {
                    suspended,
                    vo_suspended,
                    member,
                    held,
                    system_administrator,
                    grants,
                    john_at_home: at_home,
                    john_elsewhere: elsewhere,
                    ceiling,
                }
            },
        )
}

fn asks() -> impl Strategy<Value = Ask> {
    (
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
        any::<bool>(),
        prop::bool::weighted(0.6),
        prop::option::weighted(0.95, 0..7_usize),
        prop_oneof![7 => Just(0_u8), 1 => Just(1), 1 => Just(2), 2 => Just(3)],
        0..3_u8,
        any::<bool>(),
    )
        .prop_map(
            |(signed_in, must_change, mfa, wrapped, task, vo, owner, st_marys)| Ask {
                signed_in,
                must_change,
                mfa,
                wrapped,
                task,
                vo,
                owner,
                st_marys,
            },
        )
}

const ASKS: u32 = 5;

fn cases() -> u32 {
    // The environment chooses how long the tests run, never what the program does.
    let decisions = if std::env::var_os("COUNTERSIGN_LONG").is_some() {
        100_000
    } else {
        2_000
    };
    decisions / ASKS
}

fn run(check: impl Fn(&Setting, &Ask, &super::Authorize) -> Result<(), TestCaseError>) {
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    };
    let (wrapped, at_once) = (settings(), prop::collection::vec(asks(), ASKS as usize));
    TestRunner::new(config)
        .run(&(wrapped, at_once), |(setting, asks)| {
            let authorize = build(&setting).authorize();
            asks.iter().try_for_each(|ask| check(&setting, ask, &authorize))
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

fn decided(ask: &Ask, authorize: &super::Authorize) -> Result<super::Permit, Box<super::Denial>> {
    let methods: &[&str] = if ask.mfa { &["pwd", "otp"] } else { &["pwd"] };
    let subject = if ask.signed_in {
        signed_in(JANE, ask.must_change, methods)
    } else {
        stranger()
    };
    let tool = if ask.wrapped { jobs() } else { own() };
    let on = if ask.wrapped { ask.job() } else { "john".into() };
    super::decide(authorize, subject, place(ask.vo(), &tool, ask.task(), Some(&on)))
}

#[test]
fn decide_equals_the_reference_model() {
    let counts = std::cell::RefCell::new(std::collections::BTreeMap::<&str, u32>::new());
    run(|setting, ask, authorize| {
        let got = decided(ask, authorize);
        let kind = got.as_ref().map(|_| ()).map_err(|denial| denial.problem.kind);
        prop_assert_eq!(kind, expected(setting, ask));
        // Property 6: no policy raises an error on a slice that matches the schema.
        let entry = got
            .as_ref()
            .map_or_else(|denial| &denial.decision, |permit| permit.decision());
        prop_assert!(entry.errors.is_empty(), "{:?}", entry.errors);
        prop_assert_eq!(entry.permit, kind.is_ok());
        if let (Ok(permit), true) = (&got, ask.signed_in) {
            prop_assert!(!permit.decision().policies.is_empty());
            prop_assert!(permit.decision().path[0].starts_with("person/"));
        }
        *counts
            .borrow_mut()
            .entry(kind.map_or_else(|kind| kind.name(), |()| "granted"))
            .or_default() += 1;
        Ok(())
    });
    // The cases reach every answer, or the comparison would prove little.
    let counts = counts.borrow();
    for answer in [
        "granted",
        "no_grant",
        "not_owner",
        "condition_not_met",
        "not_a_member",
        "suspended",
        "no_task",
        "outside_ceiling",
    ] {
        assert!(counts.contains_key(answer), "{answer}: {counts:?}");
    }
}

#[test]
fn whoever_handles_a_job_submitted_it_or_holds_more_than_own() {
    // Property 1, on what was decided and not on the model.
    run(|setting, ask, authorize| {
        let handles = ask.wrapped && matches!(ask.task(), Some("monitor job" | "terminate job"));
        if !handles || decided(ask, authorize).is_err() || ask.owner == 0 {
            return Ok(());
        }
        let beyond_own = setting.grants.iter().any(|(role, wrapped, task, when)| {
            *wrapped
                && Some(WRAPPED[task % WRAPPED.len()]) == ask.task()
                && setting.held[*role] == 2
                && WHEN[*when] != "own"
        });
        prop_assert!(beyond_own, "{setting:?} {ask:?}");
        Ok(())
    });
}

#[test]
fn a_suspended_person_or_vo_is_never_allowed_anything() {
    // Property 2: the same requests, with the person or the VO suspended.
    run(|setting, ask, _| {
        for person in [true, false] {
            let suspended = Setting {
                suspended: person,
                vo_suspended: !person,
                ..setting.clone()
            };
            let refused = decided(ask, &build(&suspended).authorize()).is_err();
            // Strangers are nobody's account, and the gateway's own level goes on without the VO.
            let concerned = if person {
                ask.signed_in
            } else {
                ask.vo() == Some(IMENSE) && ask.task() != Some("upstream.allow")
            };
            prop_assert!(refused || !concerned);
        }
        Ok(())
    });
}

#[test]
fn an_item_is_shown_exactly_when_a_held_condition_allows_it() {
    run(|setting, ask, authorize| {
        let ask = Ask {
            wrapped: true,
            task: Some(1),
            vo: 0,
            ..ask.clone()
        };
        let Ok(permit) = decided(&ask, authorize) else {
            return Ok(());
        };
        let ids: Vec<String> = (0..3)
            .flat_map(|owner| [format!("{owner}0"), format!("{owner}1")])
            .collect();
        let shown = now(authorize.visible(&permit, "job", &ids)).expect("owners");
        let conditions = held_conditions(setting, &ask, "list jobs");
        for (id, shown) in ids.iter().zip(shown) {
            let item = Ask {
                owner: id.as_bytes()[0] - b'0',
                st_marys: id.ends_with('1'),
                ..ask.clone()
            };
            let allowed = conditions.iter().any(|when| holds(&item, "monitor job", when));
            prop_assert_eq!(shown, allowed, "{} {:?}", id, conditions);
        }
        Ok(())
    });
}
