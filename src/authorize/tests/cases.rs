//! Runs the cases that stand beside the shipped policies.

use super::world::{AHE, IMENSE, JANE, JOHN, World, id, jane, jobs, own, place, service, stranger};
use crate::settings::{Document, Table};
use crate::vo::{CeilingScope, PersonState, SYSTEM_ADMINISTRATOR, VoState};

const FILES: [(&str, &str, &str); 3] = [
    (
        "core",
        include_str!("../../../policies/core.cedar"),
        include_str!("../../../policies/core.case.toml"),
    ),
    (
        "grants",
        include_str!("../../../policies/grants.cedar"),
        include_str!("../../../policies/grants.case.toml"),
    ),
    (
        "home",
        include_str!("../../../policies/home.cedar"),
        include_str!("../../../policies/home.case.toml"),
    ),
];

#[test]
fn every_case_beside_the_policies_holds() {
    let mut run = 0;
    for (name, _, text) in FILES {
        let document = Document::parse(&format!("{name}.case.toml"), text).unwrap();
        let mut root = document.root();
        for case in root.tables("case") {
            check(case);
            run += 1;
        }
        root.end();
        assert!(document.problems().is_empty(), "{:?}", document.problems());
    }
    assert!(run >= 20, "only {run} cases were found");
}

#[test]
fn every_shipped_rule_has_a_case() {
    // A forbid is named by a case that it refuses, a shape by one that it allows.
    for (name, policies, cases) in FILES {
        let cases_of_all: String = FILES.iter().map(|(_, _, text)| *text).collect();
        for line in policies.lines().filter(|line| line.starts_with("@id(")) {
            let rule = line.trim_start_matches("@id(\"").trim_end_matches("\")");
            let named = match rule.strip_prefix("core/suspended-") {
                Some("person") => cases.contains("person = \"suspended\""),
                Some(_) => cases.contains("vo     = \"suspended\""),
                None => cases_of_all.contains(&format!("{rule}\"]")),
            };
            assert!(named, "{name}.cedar: no case for {rule}");
        }
    }
}

fn check(mut case: Table<'_>) {
    let name = case.required_text("name");
    let mut world = World::new();
    world.join(IMENSE, JANE);
    for role in case.texts("roles") {
        world.hold(IMENSE, JANE, &role, None);
    }
    let tool = if case.text("tool").as_deref() == Some(crate::vo::OWN_TOOL) {
        own()
    } else {
        jobs()
    };
    for mut grant in case.tables("grants") {
        let (role, task) = (grant.required_text("role"), grant.required_text("task"));
        let when = grant.text("when").unwrap_or_default();
        world.grant(IMENSE, &role, &tool.name, &task, &when);
        grant.end();
    }
    if case.text("person").as_deref() == Some("suspended") {
        world.rows.people[0].state = PersonState::Suspended;
    }
    if case.text("vo").as_deref() == Some("suspended") {
        world.rows.vos[1].state = VoState::Suspended;
    }
    let kinds = case.texts("ceiling");
    if !kinds.is_empty() {
        world.ceiling(CeilingScope::All, kinds, Vec::new());
    }
    let owner = match case.text("owner").as_deref() {
        Some("subject") => Some(JANE),
        Some("other") => Some(JOHN),
        _ => None,
    };
    world.job("7", owner, case.text("hospital").as_deref());
    match case.text("account").as_deref() {
        Some("ahe") => world.rows.people[1].home = id(AHE),
        Some("countersign") => world.rows.people[1].home = id(0),
        _ => {}
    }
    if case.boolean("elsewhere", false) {
        world.hold(0, JOHN, SYSTEM_ADMINISTRATOR, None);
    }
    let stranger_asks = case.boolean("stranger", false);
    let subject = match case.text("service").as_deref() {
        Some("resolver") => service("resolver"),
        Some(_) => service("other"),
        None if stranger_asks => stranger(),
        None => jane(),
    };
    let task = case.required_text("task");
    let on = if tool.name == "jobs" { "7" } else { "john" };
    let place = place(Some(IMENSE), &tool, Some(&task), Some(on));
    let decided = super::decide(&world.authorize(), subject, place);
    let (got, policies) = match &decided {
        Ok(permit) => ("granted", &permit.decision().policies),
        Err(denial) => (denial.problem.kind.name(), &denial.decision.policies),
    };
    assert_eq!(got, case.required_text("expect"), "{name}");
    let expected = case.texts("policies");
    assert!(
        expected.is_empty() || *policies == expected,
        "{name}: {policies:?}"
    );
    case.end();
}
