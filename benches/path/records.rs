//! A log that is long before the gateway starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::audit::{Audit, LogKey};
use countersign::config::{Config, log_origin};
use countersign::id::{Ids, PersonId, VoId};
use countersign::record::{DecisionEntry, Ending, Entry, Outcome, PlaceEntry, SubjectEntry};

/// Tools that the records are about.
const TOOLS: usize = 20;
/// Requests that are recorded at a time.
const WRITERS: usize = 128;

/// So many records: intents and outcomes of these people's reads, through the log's own writer and index.
pub(crate) async fn write(config: Config, ids: Ids, (vo, people): (VoId, Arc<[PersonId]>), records: usize) {
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
            task: Some(format!("view page {}", number / TOOLS % 50)),
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
