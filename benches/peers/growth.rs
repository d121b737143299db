//! Growth: the same read at an empty gateway and at one with many members, tasks, grants and records.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::audit::{Audit, LogKey};
use countersign::clock::Clock;
use countersign::config::{Config, log_origin};
use countersign::id::{Ids, PersonId, SystemSource, VoId};
use countersign::record::{DecisionEntry, Ending, Entry, Outcome, PlaceEntry, SubjectEntry};
use countersign::vo::{CardFields, Condition, DirectoryHandle, Vos};
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use tokio::runtime::Runtime;

use super::Scale;
use super::report::{GROWN, Report};
use crate::path::load::{Ask, Protocol};
use crate::path::process::Peer;
use crate::path::round::{Connections, Figures, Round, median};
use crate::path::world::{Site, Tool};

const ROLES: usize = 10;
const TOOLS: usize = 20;
/// Members that are made in one transaction.
const AT_ONCE: usize = 500;
/// Requests that are recorded at a time.
const WRITERS: usize = 128;

/// Measures it. The gateways take turns.
pub(crate) fn run(runtime: &Runtime, scale: &Scale, report: &mut Report, clock: &Arc<dyn Clock>) {
    let upstream = Peer::of_self(&["upstream", "0"]);
    let empty = Site::start(&[Tool::bench(upstream.port)], None, |_| {});
    let mut tools = vec![Tool::bench(upstream.port)];
    tools.extend((0..TOOLS).map(|tool| team_tool(tool, scale, upstream.port)));
    eprintln!("growth: {} members, {} records", scale.members, scale.records);
    let begun = clock.monotonic();
    let grown = Site::start(&tools, Some("team-0"), |data| {
        runtime.block_on(fill(data, scale, clock));
    });
    eprintln!(
        "growth: made in {:.0} s",
        (clock.monotonic() - begun).as_secs_f64()
    );
    let ask = |site: &Site, paths: Vec<String>| {
        let bearer = vec![(AUTHORIZATION, format!("Bearer {}", site.token))];
        let mut ask = Ask::new(Method::GET, "/", bearer, StatusCode::OK);
        ask.paths = paths;
        Arc::new(ask)
    };
    let page = || vec!["/lab/bench/page".to_owned()];
    let all = (0..TOOLS).flat_map(|tool| {
        let path = move |task| format!("/lab/team-{tool}/page-{task}");
        (0..scale.tasks()).map(path)
    });
    let cases = [
        ("empty gateway", &empty, ask(&empty, page())),
        ("grown gateway", &grown, ask(&grown, page())),
        (
            "grown gateway, all tasks in turns",
            &grown,
            ask(&grown, all.collect()),
        ),
    ];
    let mut rounds: [Vec<Figures>; 3] = Default::default();
    for round in 0..=scale.rounds {
        eprintln!("round {round} of {}: growth", scale.rounds);
        for ((_, site, ask), figures) in cases.iter().zip(&mut rounds) {
            let asked = Round {
                pid: site.gateway.pid,
                client: &site.client(site.gateway.port),
                protocol: Protocol::Http1,
                clients: 32.min(scale.requests),
                connections: Connections::Kept,
                ask,
            };
            let measured = runtime.block_on(asked.run(scale.requests, clock));
            if round > 0 {
                figures.push(measured);
            }
        }
    }
    let medians = rounds.map(|rounds| median(&rounds));
    for ((who, ..), figures) in cases.iter().zip(medians) {
        report.row("h1 32 growth", who, figures);
    }
    report.fact(GROWN, "Countersign", medians[1].cpu_us / medians[0].cpu_us, "x");
    report.fact("members", "grown gateway", scale.members as f64, "");
    report.fact("tasks", "grown gateway", (TOOLS * scale.tasks()) as f64, "");
    report.fact(
        "grants",
        "grown gateway",
        (ROLES * TOOLS * scale.tasks()) as f64,
        "",
    );
    report.fact("records", "grown gateway", scale.records as f64, "");
}

fn task(number: usize) -> String {
    format!("view page {number}")
}

fn team_tool(number: usize, scale: &Scale, upstream: u16) -> Tool {
    let name = format!("team-{number}");
    let mut manifest = format!("[tool]\nname = \"{name}\"\nupstream = \"{name}\"\ndelegation = \"none\"\n");
    for number in 0..scale.tasks() {
        let name = task(number);
        let _ = write!(
            manifest,
            "\n[[task]]\nname = \"{name}\"\nmatch = [\"GET /page-{number}\"]\nkind = \"read\"\n"
        );
    }
    Tool {
        name,
        upstream,
        manifest,
        tasks: Vec::new(),
    }
}

/// Fills store and log of a data folder whose gateway is not up, by the code that the gateway itself uses.
async fn fill(data: &Path, scale: &Scale, clock: &Arc<dyn Clock>) {
    let config = Config::load(data).expect("settings");
    let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
    let db = config.store.open(data).await.expect("the store");
    let vos = Vos::new(db.clone(), DirectoryHandle::default(), ids.clone());
    vos.load().await.expect("the directory");
    let vo = vos.handle().load().vo_named("lab").expect("the VO").id;

    let mut tx = db.begin_write().await.expect("a transaction");
    let tasks: Vec<String> = (0..scale.tasks()).map(task).collect();
    for role in 0..ROLES {
        let role = format!("team-{role}");
        vos.create_role(&mut tx, vo, &role).await.expect("a role");
        for tool in 0..TOOLS {
            let tool = format!("team-{tool}");
            vos.add_grants(&mut tx, vo, &role, (&tool, &tasks), &Condition::Always)
                .await
                .expect("grants");
        }
    }
    tx.commit().await.expect("a store");
    let mut people = Vec::new();
    for first in (0..scale.members).step_by(AT_ONCE) {
        let mut tx = db.begin_write().await.expect("a transaction");
        for number in first..scale.members.min(first + AT_ONCE) {
            let name = format!("member-{number}");
            let card = CardFields {
                name: format!("Member {number}"),
                mail: Some(format!("{name}@example.org")),
                organisation: None,
            };
            let (person, _) = vos
                .add_person(&mut tx, vo, &name, &card)
                .await
                .expect("an account");
            vos.join(&mut tx, vo, person).await.expect("a member");
            let role = format!("team-{}", number % ROLES);
            vos.assign(&mut tx, vo, &role, person, None)
                .await
                .expect("a role");
            people.push(person);
        }
        tx.commit().await.expect("a store");
    }
    db.close().await;
    write_records(config, ids, vo, people.into(), scale.records).await;
}

/// So many records: intents and outcomes of these people's reads, through the log's own writer and index.
async fn write_records(config: Config, ids: Ids, vo: VoId, people: Arc<[PersonId]>, records: usize) {
    let key = LogKey::load(&config.data.join("keys/log.key")).expect("the log's key");
    let origin = log_origin(&config.gateway.name);
    let audit = Audit::open(config.audit, key, &origin, ids.clone())
        .expect("the log")
        .audit;
    let begun = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (audit, ids, people, begun) = (audit.clone(), ids.clone(), people.clone(), begun.clone());
            tokio::spawn(async move {
                loop {
                    let number = begun.fetch_add(1, Ordering::Relaxed);
                    if number >= records / 2 {
                        return;
                    }
                    let person = people[number % people.len()];
                    let entry = entry(&ids, vo, person, number);
                    let request = entry.request;
                    let receipt = audit.intent(entry, Vec::new()).await.expect("a record");
                    receipt.outcome_soon(Outcome {
                        status: Some(200),
                        tool_status: Some(200),
                        bytes_out: 1024,
                        duration_us: 250,
                        ..Outcome::ended(request, Ending::Answered)
                    });
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    while audit.search().catch_up().await.is_err() {}
    audit.close("filled").await;
}

fn entry(ids: &Ids, vo: VoId, person: PersonId, number: usize) -> Entry {
    Entry {
        request: ids.next().expect("an id"),
        trace: None,
        subject: SubjectEntry {
            kind: "person".into(),
            person: Some(person),
            session: Some(ids.next().expect("an id")),
            result: "ok".into(),
            methods: vec!["pwd".into()],
            ..SubjectEntry::default()
        },
        place: PlaceEntry {
            via: "path".into(),
            vo_id: Some(vo),
            vo: Some("lab".into()),
            tool: Some(format!("team-{}", number % TOOLS)),
            task: Some(task(number / TOOLS % 50)),
            kind: Some("read".into()),
            method: "GET".into(),
            path: Some("/page".into()),
        },
        parameters: std::collections::BTreeMap::new(),
        resource: None,
        decision: Some(Arc::new(DecisionEntry {
            permit: true,
            reason: "granted".into(),
            policies: vec!["grant-0190".into()],
            path: vec!["role/team".into(), "grant/view page".into()],
            ..DecisionEntry::default()
        })),
        delegation: None,
        source: "192.0.2.0/24".into(),
        no_outcome: false,
    }
}
